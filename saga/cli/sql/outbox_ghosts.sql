-- Messages that were sent and whose transactions a promoted server does not have; at most $1, the newest first. Plan: outbox.ghost once.
select message_id, id, share, found_at from outbox.ghost order by found_at desc, id desc limit $1::bigint;
