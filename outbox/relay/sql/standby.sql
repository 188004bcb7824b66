-- The connection that holds the lock of share $1, for how long it has been silent, and, after more than $2 milliseconds, its end. Another
-- role's connection shows neither (silent_ms is NULL), nor does any with track_activities off. 42501: ending it is not allowed.
-- Plan: the locks and the connections in memory, both read in this statement.
select s.pid, s.backend_start::text as since, pg_catalog.date_part('epoch', pg_catalog.clock_timestamp() - greatest(s.query_start, s.state_change))::bigint as silent_s,
       coalesce(case when pg_catalog.clock_timestamp() - greatest(s.query_start, s.state_change) > $2::bigint * interval '1 ms'
                     then pg_catalog.pg_terminate_backend(s.pid) end, false) as ended
  from pg_catalog.pg_locks as l
  join pg_catalog.pg_stat_activity as s on s.pid = l.pid
 where l.locktype = 'advisory' and l.classid = 1397161986 and l.objid::bigint = $1::integer and l.objsubid = 2 and l.granted
   and l.database = (select oid from pg_catalog.pg_database where datname = pg_catalog.current_database());
