-- Owns the share $1 until the connection ends, if it is free. Plan: one function call.
select pg_catalog.pg_try_advisory_lock(1397161986, $1::integer) as owned;
