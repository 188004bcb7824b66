-- Rows of share $1 whose turn has come, and behind each that holds its key the rows that wait for it: at most $2 rows that are due, at
-- most $3 in all, and of them those before which there are less than $4 bytes; keys in one piece, each in order.
-- Plan: parked_next_attempt_at, then parked_key_hash for each; a sort of at most $2 x $3 ids.
select id, message_id, created_at, type, key, exchange, routing_key, nullif(headers, '{}'::jsonb) as headers, payload, payload_bytes,
       content_type, correlation_id, reply_to, mandatory, bytes, attempts,
       (extract(epoch from pg_catalog.clock_timestamp() - parked_at) * 1000000)::bigint as failing_us, holds, key_hash
  from (select *, sum(bytes) over (order by due_at, head, id rows between unbounded preceding and 1 preceding) as bytes_before
          from (select due.next_attempt_at as due_at, due.id as head, row_of_key.*,
                       coalesce(octet_length(row_of_key.payload::text), octet_length(row_of_key.payload_bytes))
                       + pg_catalog.pg_column_size(row_of_key.headers) as bytes
                  from (select id, key_hash, holds, next_attempt_at
                          from outbox.parked
                         where share = $1::integer and state = 'waiting' and next_attempt_at <= pg_catalog.clock_timestamp()
                         order by next_attempt_at
                         limit $2::integer) as due
                 cross join lateral (select * from outbox.parked where id = due.id
                                     union all
                                     (select * from outbox.parked
                                       where due.holds and share = $1::integer and holds and state = 'behind'
                                         and (key_hash, id) > (due.key_hash, 0) and key_hash <= due.key_hash
                                       order by key_hash, id
                                       limit $3::integer)) as row_of_key
                 order by due_at, head, row_of_key.id
                 limit $3::integer) as first_rows) as summed
 where coalesce(bytes_before, 0) < $4::bigint
 order by due_at, head, id;
