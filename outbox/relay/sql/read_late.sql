-- Rows of the transactions $1, which were in progress at t1 and had ended by t2: ids above $2 (the last id read). At most $3 rows, and of
-- them those before which there are less than $4 bytes. t2 sees every committed row of theirs.
-- Plan: for each transaction the leaves' indexes on (xid, id), which alone give the order asked for there (with xid = late.xid the planner
-- may walk the index on (id) instead, past everybody's rows); a sort of at most $3 ids for each; the rows by their ids, each in its leaf alone.
-- Without OFFSET the planner would have each row's bytes, and so its payload, read twice.
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
                                              where (by_xid.xid, by_xid.id) > (late.xid, $2::bigint) and by_xid.xid <= late.xid
                                              order by by_xid.xid, by_xid.id
                                              limit $3::integer) as found
                         order by found.id
                         limit $3::integer) as first_ids
                 cross join lateral (select * from outbox.message as by_id
                                      where by_id.slot = first_ids.slot and by_id.xid = first_ids.xid and by_id.id = first_ids.id) as row_of_log
                offset 0) as first_rows) as summed
 where coalesce(bytes_before, 0) < $4::bigint
 order by id;
