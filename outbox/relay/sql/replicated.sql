-- How far the log is flushed here and on each of the standbys $1, and which of them are not connected (NULL: all are).
-- Plan: one function call.
select flush_lsn, missing from outbox.flushed_by($1::text[]);
