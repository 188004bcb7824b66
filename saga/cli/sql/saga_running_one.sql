-- The same of one; no row when it has ended. $1 id. Plan: primary keys.
select i.id, d.name as definition, i.key, i.state, i.phase, i.reason, i.paused, i.cancel_requested, i.revision, i.steps, i.deadline_at,
       i.definition_id, clock_timestamp() as now
  from saga.instance i
  join saga.definition d on d.id = i.definition_id
 where i.id = $1
