-- A new owner of share $1, named $2: whoever still writes with the old epoch is refused from here on. Plan: one row by its key.
update outbox.position
   set epoch = epoch + 1, relay = $2::text, updated_at = pg_catalog.clock_timestamp()
 where share = $1::integer
returning ctid::text as place, epoch;
