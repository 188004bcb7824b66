-- A row per share: who relays it, what waits, and, while their number changes, what it waits for. $1: how many rows of the backlog are counted at most.
-- Plan: ranges of the log's index (xid, id) past each position.
select p.share, case when s.owned then p.relay end as owner, p.epoch, b.rows as backlog_rows,
       round(extract(epoch from b.oldest_age)::numeric, 3)::text as backlog_oldest_seconds,
       case when c.wanted is null and s.owned then 'runs'
            when c.wanted is not null and p.at_rest and (c.barrier is null or p.t2 is null and p.t1::text = c.barrier::text) then 'at rest'
            when not s.owned then 'no relay runs: start outbox-relay --share ' || p.share
            when c.barrier is null then 'its relay brings what is in flight to its end'
            else 'its relay publishes what was there when all were at rest' end as state
  from outbox.position as p
  join outbox.status as s on s.share = p.share
  join outbox.backlog_at_most($1) as b on b.share = p.share
 cross join outbox.share_change as c
 order by p.share
