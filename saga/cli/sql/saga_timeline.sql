-- What happened to a saga. $1 id. Plan: the history's index.
select at, event, step, detail from saga.timeline where saga_id = $1 order by at, id
