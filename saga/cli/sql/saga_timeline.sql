-- What happened to a saga; of an element of a fan-out, pick[2]. $1 id. Plan: the history's index.
select at, event, step || coalesce('[' || (detail ->> 'element') || ']', '') as step, detail from saga.timeline where saga_id = $1 order by at, id
