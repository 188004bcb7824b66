-- In how many microseconds the first waiting row of share $1 is due; no row when none waits. Plan: the first of parked_next_attempt_at.
select (extract(epoch from next_attempt_at - pg_catalog.clock_timestamp()) * 1000000)::bigint as due_us
  from outbox.parked
 where share = $1::integer and state = 'waiting'
 order by next_attempt_at
 limit 1;
