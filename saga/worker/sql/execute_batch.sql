-- Runs commands by their SQL handlers, each in a savepoint, and queues the replies.
--
-- $1 jsonb[]  bodies of commands    $2 text[]  their actions, as they were routed
--
-- Plan: function scan.
select ordinal, verdict, outcome, error, code from saga.execute_batch($1, $2);
