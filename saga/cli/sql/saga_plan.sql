-- The plan of a definition. $1 its id. Plan: primary key.
select plan from saga.definition where id = $1
