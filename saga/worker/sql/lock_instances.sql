-- Locks the sagas of a batch and reads them, with the database's time. A saga that another worker has locked is passed over.
--
-- $1 uuid[]  the sagas, each once
--
-- Plan: index scan of instance_pkey for the ids, which comes in their order, and LockRows. Locks are taken in the order of the ids, and
-- nobody waits for one.
-- `failures`: {"step", or "step[element]": "code: message"} of what steps have met so far, null of nearly all; why a step was not done is told by it.
select id, definition_id, state, phase, reason, paused, cancel_requested, revision, steps, deadline_at, wake_at, clock_timestamp() as now,
       case when errors <> '{}' then
           (select jsonb_object_agg(e.key || coalesce('[' || (e.value ->> 'element') || ']', ''),
                                    left(concat_ws(': ', e.value ->> 'code', nullif(e.value ->> 'message', '')), 400))
              from jsonb_each(errors) e)
       end as failures
from saga.instance
where id = any ($1)
order by id
for update skip locked;
