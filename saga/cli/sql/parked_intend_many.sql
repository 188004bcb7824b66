-- Asks for many parked messages at once. $1 requeue or discard, $2 states separated by commas or null: those that wait for a person, $3 type or null,
-- $4 key or null, $5 how many at most, $6 reason. Gives the intents' ids. At REPEATABLE READ, so that none goes away while it is asked for.
-- Plan: a scan of outbox.parked, which is small.
select case $1 when 'requeue' then outbox.requeue(p.message_id, $6) else outbox.discard(p.message_id, $6) end as intent
  from (select message_id from outbox.parked
         where state = any (string_to_array(lower(coalesce($2, 'parked')), ',')) and ($3::text is null or type = $3) and ($4::text is null or key = $4)
         order by id limit $5) p
