-- read_fresh.sql for one of several shares: of $7 shares only the rows of share $8. A statement of its own, since the condition costs 7 us to set up
-- on eight leaves, which the default shall not pay at each look.
-- Plan: as there; each row between $1 and $2 is hashed.
select id, message_id, created_at, type, key, exchange, routing_key, nullif(headers, '{}'::jsonb) as headers, payload, payload_bytes,
       content_type, correlation_id, reply_to, mandatory, bytes
  from (select *, sum(bytes) over (order by id rows between unbounded preceding and 1 preceding) as bytes_before
          from (select *,
                       coalesce(octet_length(payload::text), octet_length(payload_bytes)) + pg_catalog.pg_column_size(headers) as bytes
                  from outbox.message
                 where id > $1::bigint and id <= $2::bigint
                   and xid >= $3::xid8 and pg_catalog.pg_visible_in_snapshot(xid, $4::pg_snapshot)
                   and outbox.share_of(key, id, $7::integer) = $8::integer
                 order by id
                 limit $5::integer) as first_rows) as summed
 where coalesce(bytes_before, 0) < $6::bigint
 order by id;
