-- Messages set aside. $1 states separated by commas or null, $2 type or null, $3 key or null, $4 how many at most. Plan: a scan of outbox.parked,
-- which is small.
select message_id, state, reason, attempts, type, key, exchange, routing_key, parked_at, next_attempt_at, detail
  from outbox.parked
 where ($1::text is null or state = any (string_to_array(lower($1), ','))) and ($2::text is null or type = $2) and ($3::text is null or key = $3)
 order by id
 limit $4
