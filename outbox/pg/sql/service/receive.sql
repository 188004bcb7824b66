-- Receives a command in the participant's transaction.
--   $1 the message's body, $2 external
-- Plan: a function, which writes one row of saga.outcome by its key.
select verdict, input::text, reply::text from saga.receive($1::jsonb, $2::boolean);
