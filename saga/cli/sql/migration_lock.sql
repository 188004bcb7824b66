-- Lets one migration run at a time in this database. No parameters. The key is arbitrary and never changes. Plan: none.
select pg_advisory_lock(7363017, 1)
