-- Keeps the partitions of ended sagas and their history, and forgets what saga.setting no longer wants kept. Does nothing when another
-- worker is at it. And releases locks whose saga is gone.
--
-- Plan: function call.
select did, is_more, saga.sweep_locks() as swept from saga.maintain();
