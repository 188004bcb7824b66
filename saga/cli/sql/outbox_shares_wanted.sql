-- How many shares there are, how many are wanted (NULL: no change is under way), who asked when, and whether it can no longer be taken back.
-- Plan: a row per share.
select (select count(*) from outbox.position) as shares, c.wanted, c.asked_by, to_char(c.asked_at at time zone 'UTC', 'YYYY-MM-DD"T"HH24:MI:SS"Z"') as asked_at,
       c.moved_id is not null as moving
  from outbox.share_change as c
