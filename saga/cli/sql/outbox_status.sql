-- A row per share: who relays it, how far, and what waits. $1: how many rows of the backlog are counted at most.
-- Plan: ranges of the log's index (xid, id) past the position.
select p.share, p.relay, p.epoch, p.updated_at, b.rows as backlog_rows,
       round(extract(epoch from b.oldest_age)::numeric, 3)::text as backlog_oldest_seconds,
       (select count(*) from outbox.parked k where k.share = p.share and k.state = 'waiting') as waiting,
       (select count(*) from outbox.parked k where k.share = p.share and k.state = 'parked') as parked,
       (select count(*) from outbox.parked k where k.share = p.share and k.state = 'behind') as behind
  from outbox.position p
  join outbox.backlog_at_most($1) b on b.share = p.share
 order by p.share
