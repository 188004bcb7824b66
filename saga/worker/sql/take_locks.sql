-- Asks for the locks of steps that were just parked. Rows come back as from send_commands.sql; and what a step brought, of those that have their lock or
-- must not wait for it.
--
-- $1 integer[] ordinal among the commands of the pass   $2 uuid[] saga   $3 integer[] index of the step
--
-- Plan: function scan.
select ordinal, event, reason, brought from saga.take_locks($1, $2, $3);
