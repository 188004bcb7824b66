-- Accepts a message in the consumer's transaction: true once, false for a repeat.
--   $1 consumer, $2 message id
-- Plan: a function, which inserts one row.
select inbox.accept($1::text, $2::uuid);
