-- What became of intents that were answered. $1 their ids. Plan: primary key.
select id, answer, detail from saga.intent where id = any ($1) and applied_at is not null
