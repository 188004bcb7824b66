-- The name under which this database's sagas get their replies.
--
-- Plan: one row.
select orchestrator from saga.setting;
