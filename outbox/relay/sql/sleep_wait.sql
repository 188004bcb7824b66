-- The same, waiting in the lock's queue: while it waits, every new writer notifies. Plan: one function call.
select pg_catalog.pg_advisory_lock(1397161985, $1::integer);
