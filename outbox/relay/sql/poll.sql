-- The end of the next window: a snapshot, then (after it, as every row of this statement is made after its snapshot) where the log is
-- written and flushed to, and the last id given out. Plan: one row.
select pg_catalog.pg_current_snapshot()::text as snapshot,
       (pg_catalog.pg_current_wal_insert_lsn() - '0/0'::pg_lsn)::bigint as insert_lsn,
       (pg_catalog.pg_current_wal_flush_lsn() - '0/0'::pg_lsn)::bigint as flush_lsn,
       (select case when is_called then last_value else last_value - 1 end from outbox.message_id_seq) as last_id;
