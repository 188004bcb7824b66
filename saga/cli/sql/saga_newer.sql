-- Versions of a definition that are newer than one, the newest first. $1 name, $2 version, $3 how many. Plan: definition's index by name and version.
select version from saga.definition where name = $1 and version > $2 order by version desc limit $3
