-- Of the messages of share $1 that were confirmed, ids $2 with message ids $3, those that the log does not have though no leaf with them can have
-- been emptied: the log still has an older row, or no position has settled the id. Records them, and gives the new ones.
-- Plan: for each the leaves' indexes on (id).
insert into outbox.ghost (message_id, id, share)
select c.message_id, c.id, $1::integer
  from unnest($2::bigint[], $3::uuid[]) as c (id, message_id)
 where not exists (select from outbox.message as m where m.id = c.id and m.message_id = c.message_id)
   and (c.id > (select id from outbox.message order by id limit 1) or c.id > (select max(last_id_ever) from outbox.position))
    on conflict do nothing
returning message_id;
