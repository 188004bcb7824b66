-- The keys of share $1 that are held, with their parked rows. Plan: the index parked_key_hash, once at takeover.
select key_hash, count(*) as rows
  from outbox.parked
 where share = $1::integer and holds
 group by key_hash;
