-- Rows of transactions that began after t1: ids above $1 (the bound, or the last id read) up to $2 (the last id given out at t2), xids
-- from $3 (xmax of t1), visible in t2 = $4. At most $5 rows, and of them those before which there are less than $6 bytes.
-- Plan: Merge Append of the leaves' indexes on (id), Limit, WindowAgg; nothing is sorted.
select id, message_id, created_at, type, key, exchange, routing_key, nullif(headers, '{}'::jsonb) as headers, payload, payload_bytes,
       content_type, correlation_id, reply_to, mandatory, bytes
  from (select *, sum(bytes) over (order by id rows between unbounded preceding and 1 preceding) as bytes_before
          from (select *,
                       coalesce(octet_length(payload::text), octet_length(payload_bytes)) + pg_catalog.pg_column_size(headers) as bytes
                  from outbox.message
                 where id > $1::bigint and id <= $2::bigint
                   and xid >= $3::xid8 and pg_catalog.pg_visible_in_snapshot(xid, $4::pg_snapshot)
                 order by id
                 limit $5::integer) as first_rows) as summed
 where coalesce(bytes_before, 0) < $6::bigint
 order by id;
