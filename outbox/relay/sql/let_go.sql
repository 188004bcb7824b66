-- Gives the share $1 back, for a standby to take. Plan: one function call.
select pg_catalog.pg_advisory_unlock(1397161986, $1::integer) as unlocked;
