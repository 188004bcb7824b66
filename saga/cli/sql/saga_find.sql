-- The saga with this id, or those started with this key. $1 the word as it was typed; $2 definition or null. Plan: primary keys.
select id from saga.instances where id::text = lower($1)
union
select saga_id from saga.key where key = $1 and ($2::text is null or definition = $2)
limit 10
