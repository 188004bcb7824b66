-- Which parts of the schema are there, and how new they are.
--
-- Plan: sequential scan of a dozen rows, aggregate.
select part, max(number) as number from outbox.migration group by part;
