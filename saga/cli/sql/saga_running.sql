-- Running sagas as the machine sees them, by id. $1 those after this one, $2 definition or null, $3 states separated by commas or null,
-- $4 key or null, $5 how many at most. Plan: primary key of instance from $1 on, definition_pkey.
select i.id, d.name as definition, i.key, i.state, i.phase, i.reason, i.paused, i.cancel_requested, i.revision, i.steps, i.deadline_at,
       i.definition_id, clock_timestamp() as now
  from saga.instance i
  join saga.definition d on d.id = i.definition_id
 where i.id > $1
   and ($2::text is null or d.name = $2)
   and ($3::text is null or i.state = any (string_to_array(upper($3), ',')))
   and ($4::text is null or i.key = $4)
 order by i.id
 limit $5
