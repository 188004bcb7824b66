-- Which parts are here and how far. No parameters. Plan: a scan of a table with a row per migration.
select part, max(number) as migration from outbox.migration group by part order by max(number)
