-- What became of an intent on a saga. $1 its id. Plan: primary key.
select answer, detail from saga.intent where id = $1 and applied_at is not null
