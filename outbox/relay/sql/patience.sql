-- How long this connection waits for locks ($1) and for statements ($2), in milliseconds; 0: for ever. Plan: constants.
select pg_catalog.set_config('lock_timeout', $1::bigint::text, false), pg_catalog.set_config('statement_timeout', $2::bigint::text, false);
