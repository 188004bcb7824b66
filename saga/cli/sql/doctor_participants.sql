-- What the current definitions call: a row per participant with its actions and those without a SQL handler here. No parameters. Plan: small tables.
with called as (
    select distinct s ->> 'participant' as participant, a.action
      from saga.definition d, jsonb_array_elements(d.plan -> 'steps') s,
           lateral (values (s ->> 'action'), (s ->> 'undo')) a (action)
     where d.current and a.action is not null
)
select participant, string_agg(action, ', ' order by action),
       string_agg(action, ', ' order by action) filter (where not exists (select from saga.handler h where h.action = called.action)),
       (select orchestrator from saga.setting)
  from called
 where participant is not null
 group by participant
 order by participant
