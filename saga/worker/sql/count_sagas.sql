-- How many sagas there are by definition and state, for the gauges.
--
-- Plan: sequential scan of the live sagas, hash join with definition, aggregate; only when somebody listens.
select d.name, i.state, count(*) as sagas
from saga.instance i
join saga.definition d on d.id = i.definition_id
group by d.name, i.state;
