-- Sagas that are stuck, the newest first. $1 definition or null, $2 how many at most. Plan: a scan of the running sagas.
select i.id, d.name as definition, i.key, i.phase, i.reason, i.started_at
  from saga.instance i
  join saga.definition d on d.id = i.definition_id
 where i.state = 'STUCK' and ($1::text is null or d.name = $1)
 order by i.id desc
 limit $2
