-- What a saga holds and waits for, and who has that. $1 id. Plan: scan of the queue, joins by primary keys.
select resource, state, since, place, array_to_string(steps, ', ') as steps, case state when 'waiting' then held_by end as held_by, case state when 'waiting' then held_since end as held_since
  from saga.locks where saga_id = $1 or $1 = any (members)
 order by state desc, resource
