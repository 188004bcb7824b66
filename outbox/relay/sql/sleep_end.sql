-- The relay of share $1 is awake. Plan: one function call.
select pg_catalog.pg_advisory_unlock(1397161985, $1::integer) as unlocked;
