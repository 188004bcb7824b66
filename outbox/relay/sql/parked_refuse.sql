-- Parked rows of share $1 that were refused again: by row the id $2, holds $3, state $4, reason $5, detail $6, attempts $7, pause in
-- microseconds $8. Plan: the key of outbox.parked, for each.
update outbox.parked as p
   set holds = refused.holds, state = refused.state, reason = refused.reason, detail = refused.detail, attempts = refused.attempts,
       parked_at = case when p.attempts = 0 then pg_catalog.clock_timestamp() else p.parked_at end, -- it was not its fault before
       next_attempt_at = case when refused.state = 'waiting'
                              then pg_catalog.clock_timestamp() + make_interval(secs => refused.pause_us / 1000000.0) end
  from unnest($2::bigint[], $3::boolean[], $4::text[], $5::text[], $6::text[], $7::integer[], $8::bigint[])
       as refused (id, holds, state, reason, detail, attempts, pause_us)
 where p.share = $1::integer and p.id = refused.id;
