-- Sagas that move to another version of their definition; update_instances.sql writes their steps by it. All are locked by this transaction.
--
-- $1 uuid[]  id    $2 integer[]  id of the definition
--
-- Plan: nested loop of unnest with index scan of instance_pkey. HOT.
update saga.instance i
set definition_id = n.definition_id
from unnest($1, $2) n (id, definition_id)
where i.id = n.id;
