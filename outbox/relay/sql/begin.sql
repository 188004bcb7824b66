-- Where a relay begins: the last id given out; the highest one that the log has, which is higher when the sequence was set back or restored without
-- the log; and how many ids a session takes ahead. Plan: the last row of each leaf's index on (id), and the sequence's row of the catalogue.
select (select case when is_called then last_value else last_value - 1 end from outbox.message_id_seq) as last_id,
       coalesce((select id from outbox.message order by id desc limit 1), 0) as highest_id,
       (select seqcache from pg_catalog.pg_sequence where seqrelid = 'outbox.message_id_seq'::regclass) as cache;
