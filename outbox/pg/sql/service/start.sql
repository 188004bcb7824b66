-- Starts a saga in the caller's transaction; returns its id.
--   $1 definition, $2 input, $3 key
-- Plan: a function, which inserts the instance, its first history row and the commands of its roots.
select saga.start($1::text, $2::jsonb, $3::text)::text;
