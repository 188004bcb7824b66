-- A saga's steps, in the plan's order. $1 id. Plan: primary key.
select * from saga.steps where saga_id = $1
