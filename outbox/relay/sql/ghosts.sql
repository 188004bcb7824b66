-- Of the messages of share $1 that were confirmed, ids $2 with message ids $3, those that the log does not have though no leaf with them can have
-- been emptied: one leaf still has both an older and a newer row, or no position has settled the id. (An older row alone says nothing: leaves are
-- not emptied in their order where an old transaction is in the way of one.) Records them, and gives the new ones.
-- Plan: the first and the last row of each leaf by its index on (id); for each message the leaves' indexes on (id).
with leaf as materialized (
    select (select id from outbox.message where slot = l.slot order by id limit 1) as first_id,
           (select id from outbox.message where slot = l.slot order by id desc limit 1) as last_id
      from outbox.leaf as l
)
insert into outbox.ghost (message_id, id, share)
select c.message_id, c.id, $1::integer
  from unnest($2::bigint[], $3::uuid[]) as c (id, message_id)
 where not exists (select from outbox.message as m where m.id = c.id and m.message_id = c.message_id)
   and (exists (select from leaf where c.id > leaf.first_id and c.id < leaf.last_id) or c.id > (select max(last_id_ever) from outbox.position))
    on conflict do nothing
returning message_id;
