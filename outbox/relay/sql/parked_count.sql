-- The parked rows of share $1 by state. Plan: outbox.parked once; it has a limit.
select count(*) filter (where state = 'waiting') as waiting,
       count(*) filter (where state = 'parked') as parked,
       count(*) filter (where state = 'behind') as behind
  from outbox.parked
 where share = $1::integer;
