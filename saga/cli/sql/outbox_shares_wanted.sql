-- How many shares there are, how many are wanted (NULL: no change is under way), and who asked when. Plan: a row per share.
select (select count(*) from outbox.position) as shares, c.wanted, c.asked_by, to_char(c.asked_at at time zone 'UTC', 'YYYY-MM-DD"T"HH24:MI:SS"Z"') as asked_at
  from outbox.share_change as c
