-- What was applied, by number. No parameters. Plan: a scan of a table with a row per migration.
select number, name, checksum, part, applied_at from outbox.migration order by number
