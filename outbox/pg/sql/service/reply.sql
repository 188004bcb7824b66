-- Writes the outcome of a command and queues the reply.
--   $1 the message's body, $2 outcome, $3 output
-- Plan: a function, which updates one row of saga.outcome by its key and inserts the reply.
select saga.reply($1::jsonb, $2::text, coalesce($3::jsonb, '{}'));
