-- Open intents but for kept signals, locked; those that another worker has in hand are passed over. ended_state: the saga has ended so.
-- target: the definition that a saga is to move to; null: there is none of that version.
--
-- $1 bigint    at most
-- $2 bigint[]  intents to leave for later: their saga was busy, or they failed
--
-- Plan: index scan of intent_open, LockRows, limit; nested loop with ended_pkey.
with taken as materialized (
    select id, saga_id, verb, step, argument, actor, reason, expected_revision
    from saga.intent
    where applied_at is null and kept_at is null and id <> all ($2)
    order by id
    limit $1
    for update skip locked
)
select t.id, t.saga_id, t.verb, t.step, t.argument, t.actor, t.reason, t.expected_revision, e.state as ended_state,
       case when t.verb = 'migrate' then
           (select n.id from saga.instance i
            join saga.definition o on o.id = i.definition_id
            join saga.definition n on n.name = o.name and n.version::text = t.argument ->> 'version'
            where i.id = t.saga_id) end as target
from taken t
left join saga.ended e on e.id = t.saga_id
order by t.id;
