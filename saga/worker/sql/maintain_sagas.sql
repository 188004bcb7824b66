-- Keeps the partitions of ended sagas and their history, and forgets what saga.setting no longer wants kept. Does nothing when another
-- worker is at it.
--
-- Plan: function call.
select did, is_more from saga.maintain();
