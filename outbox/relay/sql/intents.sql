-- Does what operators want with parked rows of share $1, or with what is in no share any more, at most one intent for a message at a time, and answers. Gives a row
-- for each row taken away that held its key (parked_promote.sql is to follow), and one more without a key; each says how many were answered. No row that it touches may be in the relay's hands.
-- Plan: intent_open, then parked_message_id for each.
with chosen as (
    select distinct on (i.message_id) i.id as intent, i.verb, i.message_id
      from outbox.intent as i
     where i.applied_at is null
       and (exists (select from outbox.parked as p where p.message_id = i.message_id and p.share = $1::integer)
            or not exists (select from outbox.parked as p where p.message_id = i.message_id))
     order by i.message_id, i.id
     limit 100
), requeued as (
    update outbox.parked as p
       set state = 'waiting', attempts = 0, parked_at = pg_catalog.clock_timestamp(), next_attempt_at = pg_catalog.clock_timestamp()
      from chosen as c
     where c.verb = 'requeue' and p.message_id = c.message_id and p.share = $1::integer and p.state <> 'behind'
    returning p.message_id
), discarded as (
    delete from outbox.parked as p
     using chosen as c
     where c.verb = 'discard' and p.message_id = c.message_id and p.share = $1::integer
    returning p.message_id, p.key_hash, p.holds
), answered as (
    update outbox.intent as i
       set applied_at = pg_catalog.clock_timestamp(),
           answer = case when exists (select from requeued as r where r.message_id = c.message_id) then 'requeued'
                         when exists (select from discarded as d where d.message_id = c.message_id) then 'discarded'
                         when exists (select from outbox.parked as p where p.message_id = c.message_id)
                             then 'refused: it waits behind an earlier message of its key'
                         else 'refused: it is not parked any more' end
      from chosen as c
     where i.id = c.intent and i.applied_at is null
    returning i.id
)
select taken.key_hash, (select count(*) from answered) as answered, (select count(*) from requeued) as requeued,
       (select count(*) from discarded) as discarded
  from (select null::bigint as key_hash union all select d.key_hash from discarded as d where d.holds) as taken;
