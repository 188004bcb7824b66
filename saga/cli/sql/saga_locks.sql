-- Locks, who holds them first.
--
-- $1 text  a resource, or a saga's id or key; null: all    $2 bigint  at most so many
--
-- Plan: scan of the queue, joins by primary keys.
select resource, state, place, saga_id, definition, key, saga_state, since, array_to_string(steps, ', ') as steps
  from saga.locks
 where $1::text is null or resource = $1 or saga_id::text = $1 or key = $1 or $1 = any (members::text[])
 order by resource, place limit $2
