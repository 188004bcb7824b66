-- read_late.sql for one of several shares: ids up to $5, and of $6 shares only the rows of share $7.
-- Plan: as there; each row between $2 and $5 is hashed.
select id, message_id, created_at, type, key, exchange, routing_key, nullif(headers, '{}'::jsonb) as headers, payload,
       payload_bytes, content_type, correlation_id, reply_to, mandatory, bytes
  from (select *, sum(bytes) over (order by id rows between unbounded preceding and 1 preceding) as bytes_before
          from (select row_of_log.*,
                       coalesce(octet_length(row_of_log.payload::text), octet_length(row_of_log.payload_bytes))
                       + pg_catalog.pg_column_size(row_of_log.headers) as bytes
                  from (select found.slot, late.xid, found.id
                          from unnest($1::xid8[]) as late (xid)
                         cross join lateral (select by_xid.slot, by_xid.id
                                               from outbox.message as by_xid
                                              where (by_xid.xid, by_xid.id) > (late.xid, $2::bigint)
                                                and (by_xid.xid, by_xid.id) <= (late.xid, $5::bigint)
                                                and outbox.share_of(by_xid.key, by_xid.id, $6::integer) = $7::integer
                                              order by by_xid.xid, by_xid.id
                                              limit $3::integer) as found
                         order by found.id
                         limit $3::integer) as first_ids
                 cross join lateral (select * from outbox.message as by_id
                                      where by_id.slot = first_ids.slot and by_id.xid = first_ids.xid and by_id.id = first_ids.id) as row_of_log
                offset 0) as first_rows) as summed
 where coalesce(bytes_before, 0) < $4::bigint
 order by id;
