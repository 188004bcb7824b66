-- Rows of share $1 whose turn has come, and behind each that holds its key the rows that wait for it: at most $2 rows that are due, at
-- most $3 in all, and of them those before which there are less than $4 bytes; keys in one piece, each in order.
-- Plan: parked_next_attempt_at, then parked_key_hash for each; a sort of at most $2 x $3 ids; then the rows of the first $3, each by its id:
-- to know a row's bytes is to read its payload. A sort of rows would ask for those of rows that are not to come, and without OFFSET each would
-- be asked for twice.
select id, message_id, created_at, type, key, exchange, routing_key, nullif(headers, '{}'::jsonb) as headers, payload, payload_bytes,
       content_type, correlation_id, reply_to, mandatory, bytes, attempts,
       (extract(epoch from pg_catalog.clock_timestamp() - parked_at) * 1000000)::bigint as failing_us, holds, key_hash
  from (select *, sum(bytes) over (order by due_at, head, id rows between unbounded preceding and 1 preceding) as bytes_before
          from (select first_ids.due_at, first_ids.head, parked.*,
                       coalesce(octet_length(parked.payload::text), octet_length(parked.payload_bytes))
                       + pg_catalog.pg_column_size(parked.headers) as bytes
                  from (select due.next_attempt_at as due_at, due.id as head, of_key.id
                          from (select id, key_hash, holds, next_attempt_at
                                  from outbox.parked
                                 where share = $1::integer and state = 'waiting' and next_attempt_at <= pg_catalog.clock_timestamp()
                                 order by next_attempt_at
                                 limit $2::integer) as due
                         cross join lateral (select due.id
                                             union all
                                             (select behind.id from outbox.parked as behind
                                               where due.holds and behind.share = $1::integer and behind.holds and behind.state = 'behind'
                                                 and (behind.key_hash, behind.id) > (due.key_hash, 0) and behind.key_hash <= due.key_hash
                                               order by behind.key_hash, behind.id
                                               limit $3::integer)) as of_key (id)
                         order by due_at, head, of_key.id
                         limit $3::integer) as first_ids
                  join outbox.parked on parked.id = first_ids.id
                offset 0) as first_rows) as summed
 where coalesce(bytes_before, 0) < $4::bigint
 order by due_at, head, id;
