-- The participants that have SQL handlers in this database. No parameters. Plan: a scan of a table with a row per handler.
select distinct split_part(action, '.', 1) from saga.handler order by 1
