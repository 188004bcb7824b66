-- Published rows with ids above $1 up to $2, created from $3 up to before $4, of type $5 and key $6 (NULL: any). At most $7 rows, and of them those
-- before which there are less than $8 bytes. Columns as in outbox/relay/rows/row.h.
-- Published is what the position of its share is past, and what is neither set aside now nor was given up by an operator.
-- Plan: Merge Append of the leaves' indexes on (id); for each row outbox.position (one row a share), the key of outbox.parked, intent_discarded.
select id, message_id, created_at, type, key, exchange, routing_key, nullif(headers, '{}'::jsonb) as headers, payload, payload_bytes,
       content_type, correlation_id, reply_to, mandatory, bytes
  from (select *, sum(bytes) over (order by id rows between unbounded preceding and 1 preceding) as bytes_before
          from (select m.*,
                       coalesce(octet_length(m.payload::text), octet_length(m.payload_bytes)) + pg_catalog.pg_column_size(m.headers) as bytes
                  from outbox.message as m
                 where m.id > $1::bigint and m.id <= $2::bigint
                   and m.created_at >= ($3::text)::timestamptz and m.created_at < ($4::text)::timestamptz
                   and ($5::text is null or m.type = $5::text) and ($6::text is null or m.key = $6::text)
                   and (select bool_and(pg_catalog.pg_visible_in_snapshot(m.xid, p.t1)
                                        or p.t2 is not null and m.id <= p.last_id and pg_catalog.pg_visible_in_snapshot(m.xid, p.t2))
                          from outbox.position as p
                         where p.shares = 1 or p.share = outbox.share_of(m.key, m.id, p.shares))
                   and not exists (select from outbox.parked as p where p.id = m.id)
                   and not exists (select from outbox.intent as i where i.message_id = m.message_id and i.answer = 'discarded')
                 order by m.id
                 limit $7::integer) as first_rows) as summed
 where coalesce(bytes_before, 0) < $8::bigint
 order by id;
