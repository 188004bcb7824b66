-- The actions that this database has handlers for, and whether their batches are sorted by a lock.
--
-- Plan: sequential scan of saga.handler, sort.
select action, lock is not null as has_lock from saga.handler order by action collate "C";
