-- Whether this connection holds the lock of share $1. Plan: the locks in memory.
select exists (select from pg_catalog.pg_locks as l
                where l.locktype = 'advisory' and l.classid = 1397161986 and l.objid::bigint = $1::integer and l.objsubid = 2 and l.granted
                  and l.pid = pg_catalog.pg_backend_pid()) as held;
