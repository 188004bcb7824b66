-- Sagas that wait for nothing: no timer although they are live, not paused, not stuck and not parked. There should be none.
--
-- $1 bigint  at most
--
-- Plan: sequential scan of the live sagas, once a minute.
select id
from saga.instance
where wake_at is null
  and not paused
  and state in ('RUNNING', 'COMPLETING', 'ABORTING', 'COMPENSATING')
  and not steps @> '[{"s": "PARKED"}]'
limit $1;
