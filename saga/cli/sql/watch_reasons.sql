-- What is set aside, by state and reason, the most first. $1: how many rows at most. Plan: a scan of outbox.parked.
select state, reason, sum(rows)::bigint, extract(epoch from clock_timestamp() - min(oldest_parked_at))::double precision,
       extract(epoch from min(next_attempt_at) - clock_timestamp())::double precision
  from outbox.parked_summary
 group by state, reason
 order by 3 desc, 1, 2
 limit $1
