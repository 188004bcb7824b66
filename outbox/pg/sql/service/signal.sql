-- Records a signal for a saga's step.
--   $1 saga, $2 name of the step, $3 payload, $4 signal id
-- Plan: a function, which inserts one row.
select saga.signal($1::uuid, $2::text, coalesce($3::jsonb, '{}'), $4::text);
