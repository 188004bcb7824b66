-- How far the log is flushed to disk. Plan: one function call.
select (pg_catalog.pg_current_wal_flush_lsn() - '0/0'::pg_lsn)::bigint as flush_lsn;
