-- At takeover: of every key of share $1 whose rows all wait behind another that is gone, the first may be tried now. Not while parked messages
-- move to other shares: the other may be at another share until then (migrations/0018_shares.sql); who owns the share then takes it over anew.
-- Plan: outbox.parked once; it has a limit.
update outbox.parked as p
   set state = 'waiting', reason = 'behind', next_attempt_at = pg_catalog.clock_timestamp()
  from (select min(id) as id
          from outbox.parked
         where share = $1::integer and holds and (select moved_id is null from outbox.share_change)
         group by key_hash
        having bool_and(state = 'behind')) as head
 where p.id = head.id;
