-- The definition of a version. $1 name, $2 version. Plan: definition's index by name and version.
select id from saga.definition where name = $1 and version = $2
