-- Whether another relay waits for share $1. Plan: the locks in memory.
select exists (select from pg_catalog.pg_locks as l
                where l.locktype = 'advisory' and l.classid = 1397161986 and l.objid::bigint = $1::integer and l.objsubid = 2 and not l.granted
                  and l.database = (select oid from pg_catalog.pg_database where datname = pg_catalog.current_database())) as waits;
