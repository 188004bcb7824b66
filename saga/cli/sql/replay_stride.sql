-- The next $3 rows of the log after id $1 and up to id $2: the last of them (NULL: there is none), and how many they are.
-- Plan: Merge Append of the leaves' indexes on (id), Limit.
select max(id) as last_id, count(*) as rows
  from (select id from outbox.message where id > $1::bigint and id <= $2::bigint order by id limit $3::integer) as stride;
