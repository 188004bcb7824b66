-- Before the relay of share $1 sleeps: granted, every later writer will notify; refused, a writer is in flight.
-- Plan: one function call.
select pg_catalog.pg_try_advisory_lock(1397161985, $1::integer) as granted;
