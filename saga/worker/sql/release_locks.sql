-- Releases the locks of sagas that have ended, after they were moved out.
--
-- $1 uuid[]  the sagas
--
-- Plan: function call; two looks into indexes for sagas that have none.
select saga.release_locks($1);
