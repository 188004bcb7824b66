-- How many sagas there are by definition and state, for the gauges; and, in every row, how many wait for a lock, and for how long.
--
-- Plan: sequential scan of the live sagas, hash join with definition, aggregate; scan of the locks; only when somebody listens.
select d.name, i.state, count(*) as sagas, l.waits, l.oldest_us
from saga.instance i
join saga.definition d on d.id = i.definition_id
cross join (select count(*) as waits, coalesce((extract(epoch from clock_timestamp() - min(asked_at)) * 1000000)::bigint, 0) as oldest_us
            from saga.lock_queue where held_at is null) l
group by d.name, i.state, l.waits, l.oldest_us;
