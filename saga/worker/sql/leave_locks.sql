-- Takes steps that no longer wait for their lock out of the queue.
--
-- $1 uuid[]  sagas with such steps
--
-- Plan: function call.
select saga.leave_locks($1);
