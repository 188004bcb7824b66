-- A record in the log whose commit flushes all that is before it: the insert position can rest a few bytes ahead of a flushed log.
-- Plan: one function call.
select (pg_catalog.pg_logical_emit_message(true, 'sagapost', '') - '0/0'::pg_lsn)::bigint as lsn;
