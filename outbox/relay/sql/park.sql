-- Copies rows of the log into outbox.parked, in the transaction that moves the position over them: share $1, and by row the id $2, the
-- key's hash $3, holds $4, exchange $5, routing key $6, state $7, reason $8, detail $9, attempts $10, pause in microseconds $11.
-- Plan: the leaves' indexes on (id), for each; asked for by an order that only they give, since a plan made for an empty leaf may
-- otherwise walk all of (xid, id).
insert into outbox.parked (id, message_id, share, key_hash, holds, created_at, type, key, exchange, routing_key, headers, payload, payload_bytes,
                           content_type, correlation_id, reply_to, mandatory, state, reason, detail, attempts, next_attempt_at)
select m.id, m.message_id, $1::integer, aside.key_hash, aside.holds, m.created_at, m.type, m.key, aside.exchange, aside.routing_key, m.headers,
       m.payload, m.payload_bytes, m.content_type, m.correlation_id, m.reply_to, m.mandatory, aside.state, aside.reason, aside.detail,
       aside.attempts,
       case when aside.state = 'waiting' then pg_catalog.clock_timestamp() + make_interval(secs => aside.pause_us / 1000000.0) end
  from unnest($2::bigint[], $3::bigint[], $4::boolean[], $5::text[], $6::text[], $7::text[], $8::text[], $9::text[], $10::integer[],
              $11::bigint[]) as aside (id, key_hash, holds, exchange, routing_key, state, reason, detail, attempts, pause_us)
 cross join lateral (select * from outbox.message as by_id where by_id.id >= aside.id and by_id.id <= aside.id order by by_id.id limit 1) as m;
