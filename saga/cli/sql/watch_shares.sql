-- A row per share for the live screen: who relays it, how far, and what waits. $1: how many rows of the backlog are counted at most.
-- Plan: ranges of the log's index (xid, id) past the position; a scan of outbox.parked.
select s.share, s.relay, s.epoch, s.owned, s.last_id_ever, b.rows, extract(epoch from b.oldest_age)::double precision,
       coalesce(p.waiting, 0)::bigint, coalesce(p.parked, 0)::bigint, coalesce(p.behind, 0)::bigint
  from outbox.status as s
  join outbox.backlog_at_most($1) as b on b.share = s.share
  left join (select share, sum(rows) filter (where state = 'waiting') as waiting, sum(rows) filter (where state = 'parked') as parked,
                    sum(rows) filter (where state = 'behind') as behind
               from outbox.parked_summary
              group by share) as p on p.share = s.share
 order by s.share
