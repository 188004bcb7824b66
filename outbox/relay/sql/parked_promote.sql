-- Of the keys $2 of share $1, where every row waits behind another that is gone: the first may be tried now.
-- Plan: parked_key_hash, for each.
update outbox.parked as p
   set state = 'waiting', reason = 'behind', next_attempt_at = pg_catalog.clock_timestamp()
  from (select distinct key_hash from unnest($2::bigint[]) as touched (key_hash)) as key
 cross join lateral (select first.id
                       from outbox.parked as first
                      where first.share = $1::integer and first.holds
                        and (first.key_hash, first.id) > (key.key_hash, 0) and first.key_hash <= key.key_hash
                      order by first.key_hash, first.id
                      limit 1) as head
 where p.id = head.id and p.state = 'behind'
   and not exists (select from outbox.parked as other
                    where other.share = $1::integer and other.holds and other.key_hash = key.key_hash and other.state <> 'behind');
