-- The plans of definitions that this worker has not met yet. Published versions never change.
--
-- $1 integer[]  ids of definitions
--
-- Plan: index scan of definition_pkey.
select id, plan from saga.definition where id = any ($1);
