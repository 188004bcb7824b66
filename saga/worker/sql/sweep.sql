-- Sagas that want to be woken now or soon, the earliest first, and the database's time. One row without id when there are none.
--
-- $1 bigint       how far ahead to look, microseconds
-- $2 timestamptz  nothing is looked for that was due before: the index may begin with many dead entries of sagas that have ended
-- $3 bigint       at most
--
-- Plan: nested loop left join, index scan of instance_wake_at from $2 on, limit.
select c.now, i.id, i.wake_at
from (select clock_timestamp() as now) c
left join lateral (
    select id, wake_at
    from saga.instance
    where wake_at <= c.now + $1 * interval '1 microsecond' and wake_at >= $2
    order by wake_at
    limit $3
) i on true;
