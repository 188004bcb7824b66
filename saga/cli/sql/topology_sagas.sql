-- The orchestrator, and in a row each the participants that sagas call: by the current definitions, and by older ones that still have sagas
-- running. No parameters. Plan: small tables, and a scan of the running sagas.
select orchestrator, participant
  from saga.setting
  left join (select distinct s ->> 'participant' as participant
               from saga.definition d, jsonb_array_elements(d.plan -> 'steps') s
              where (d.current or d.id in (select definition_id from saga.instance)) and s ->> 'participant' is not null) called on true
 order by participant
