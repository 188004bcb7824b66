-- Locks the sagas of a batch and reads them, with the database's time. A saga that another worker has locked is passed over.
--
-- $1 uuid[]  the sagas, each once
--
-- Plan: index scan of instance_pkey for the ids, which comes in their order, and LockRows. Locks are taken in the order of the ids, and
-- nobody waits for one.
select id, definition_id, state, phase, reason, paused, cancel_requested, revision, steps, deadline_at, wake_at, clock_timestamp() as now
from saga.instance
where id = any ($1)
order by id
for update skip locked;
