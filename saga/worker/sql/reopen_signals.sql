-- Of sagas in which a step has begun to wait for a signal, or which have ended: the signals that were kept are to be looked at again. The
-- sagas are locked by this transaction, so that none can be kept at this moment.
--
-- $1 uuid[]  the sagas
--
-- Plan: index scan of intent_kept.
update saga.intent
set kept_at = null, detail = null
where saga_id = any ($1) and applied_at is null and kept_at is not null
returning id;
