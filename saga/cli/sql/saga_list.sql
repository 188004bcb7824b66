-- Sagas, the newest first. $1 states separated by commas or null, $2 definition or null, $3 key or null, $4 how many at most.
-- Plan: a scan of the running ones, and of the ended ones where they are asked for.
select id, definition, version, key, state, phase, reason, started_at, ended_at
  from saga.instances
 where ($1::text is null or state = any (string_to_array(upper($1), ',')))
   and ($2::text is null or definition = $2)
   and ($3::text is null or key = $3)
 order by started_at desc
 limit $4
