-- At takeover: of every key of share $1 whose rows all wait behind another that is gone, the first may be tried now.
-- Plan: outbox.parked once; it has a limit.
update outbox.parked as p
   set state = 'waiting', reason = 'behind', next_attempt_at = pg_catalog.clock_timestamp()
  from (select min(id) as id
          from outbox.parked
         where share = $1::integer and holds
         group by key_hash
        having bool_and(state = 'behind')) as head
 where p.id = head.id;
