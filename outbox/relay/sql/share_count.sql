-- How many shares there are. Plan: outbox.position, a row per share.
select count(*) as shares from outbox.position;
