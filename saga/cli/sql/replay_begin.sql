-- The times $1 and $2 (NULL: now) as the server reads them, and the last id of the log: what is written from now on is not sent again. And whether a
-- position is of another server or database: its transaction ids say nothing here about what is published.
-- Sorts are off for this connection: rows come in the order of the ids from the leaves' indexes, whatever the statistics say.
-- Plan: the last row of each leaf by its index on (id).
select ($1::text)::timestamptz::text as from_time, coalesce(($2::text)::timestamptz, pg_catalog.clock_timestamp())::text as to_time,
       coalesce((select id from outbox.message order by id desc limit 1), 0) as last_id,
       exists (select from outbox.position as p
                where (p.system_identifier, p.database_oid)
                      is distinct from ((select c.system_identifier from pg_catalog.pg_control_system() as c),
                                        (select d.oid from pg_catalog.pg_database as d where d.datname = pg_catalog.current_database()))) as is_foreign
  from (select pg_catalog.set_config('enable_sort', 'off', false), pg_catalog.set_config('enable_seqscan', 'off', false),
               pg_catalog.set_config('enable_bitmapscan', 'off', false), pg_catalog.set_config('enable_hashjoin', 'off', false),
               pg_catalog.set_config('enable_mergejoin', 'off', false), pg_catalog.set_config('jit', 'off', false) offset 0) as settings;
