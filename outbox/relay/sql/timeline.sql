-- The timeline that this server writes: it changes when a standby is promoted. Plan: one function call.
select ('x' || substr(pg_catalog.pg_walfile_name(pg_catalog.pg_current_wal_insert_lsn()), 1, 8))::bit(32)::integer as timeline;
