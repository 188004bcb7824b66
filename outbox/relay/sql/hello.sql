-- Which server and database this is, whether it takes writes, and how far its schema goes.
-- Fails with 42P01 or 3F000 when there is no schema. Plan: four constants.
select control.system_identifier,
       (select oid::bigint from pg_catalog.pg_database where datname = pg_catalog.current_database()) as database_oid,
       pg_catalog.pg_is_in_recovery() as in_recovery,
       (select coalesce(max(number), 0) from outbox.migration where part = 'outbox') as newest_migration
  from pg_catalog.pg_control_system() as control;
