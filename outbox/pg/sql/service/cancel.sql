-- Records that a saga is to be cancelled.
--   $1 saga, $2 reason
-- Plan: a function, which inserts one row.
select saga.cancel($1::uuid, $2::text);
