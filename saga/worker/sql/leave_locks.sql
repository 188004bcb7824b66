-- Takes steps that no longer wait for their lock out of the queue.
--
-- $1 uuid[]  saga    $2 text[]  name of its step
--
-- Plan: function call.
select saga.leave_locks($1, $2);
