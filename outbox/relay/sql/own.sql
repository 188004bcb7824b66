-- Waits for the share $1 to be free and owns it until the connection ends. Under lock_timeout, so that a standby's snapshot does not
-- hold back vacuum: 55P03 means wait again. Plan: one function call.
select pg_catalog.pg_advisory_lock(1397161986, $1::integer);
