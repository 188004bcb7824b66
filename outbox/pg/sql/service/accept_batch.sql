-- Accepts a batch of messages in the consumer's transaction: a text of one letter for each, t for the first time, f for a repeat.
--   $1 consumer, $2 message ids; one that is twice among them is a repeat the second time
-- In the order of the ids, whatever order they came in: two consumers with the same messages do not wait for each other in a circle.
-- Plan: a function for each id, which inserts one row.
select string_agg(case when taken.first then 't' else 'f' end, '' order by taken.place)
  from (select sorted.place, inbox.accept($1::text, sorted.id) as first
          from (select m.id, m.place from unnest($2::uuid[]) with ordinality as m (id, place) order by m.id, m.place offset 0) as sorted
        offset 0) as taken;
