-- Of sagas that are to move to another version: what in their data forbids it.
--
-- $1 uuid[]  saga    $2 integer[]  id of the definition
--
-- Plan: function scan.
select ordinal, obstacle from saga.migration_obstacles($1, $2);
