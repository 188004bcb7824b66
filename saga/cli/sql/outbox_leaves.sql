-- The ring's leaves and their sizes. No parameters. Plan: the catalogue.
select slot, current, kept, bytes, total_bytes from outbox.leaf order by slot
