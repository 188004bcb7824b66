-- Keeps the inbox's partitions ready for the time to come, and drops one that is older than the retention. Does nothing when another worker
-- is at it.
--
-- Plan: function call.
select inbox.maintain();
