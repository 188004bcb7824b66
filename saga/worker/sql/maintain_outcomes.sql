-- Makes the partitions of outcomes for the days to come and drops those that were kept long enough.
--
-- $1 bigint  how long to keep, microseconds
--
-- Plan: function call.
select created, dropped from saga.maintain_outcomes($1 * interval '1 microsecond');
