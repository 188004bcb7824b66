-- Locks the sagas of a batch and reads them, with the database's time. A saga that another worker has locked is passed over
-- (is_busy); one that is not there at all has ended, or never was.
--
-- $1 uuid[]  the sagas, each once
--
-- Plan: index scan of instance_pkey for the ids, sorted, LockRows; hash join with the ids; for those that were not locked a probe of
-- instance_pkey. Locks are taken in the order of the ids, and nobody waits for one.
with locked as materialized (
    select id, definition_id, state, phase, reason, paused, cancel_requested, revision, steps, deadline_at, wake_at
    from saga.instance
    where id = any ($1)
    order by id
    for update skip locked
)
select w.id,
       l.id is not null as is_locked,
       case when l.id is null then exists (select from saga.instance p where p.id = w.id) else false end as is_busy,
       l.definition_id, l.state, l.phase, l.reason, l.paused, l.cancel_requested, l.revision, l.steps, l.deadline_at, l.wake_at,
       clock_timestamp() as now
from unnest($1) w (id)
left join locked l on l.id = w.id;
