-- Of the sagas that were not locked: those that are there, so another worker has them in hand. The others have ended, or never were.
--
-- $1 uuid[]  the sagas
--
-- Plan: index only scan of instance_pkey.
select id from saga.instance where id = any ($1);
