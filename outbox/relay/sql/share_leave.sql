-- The owner of share $1, of epoch $2, leaves with nothing in flight. Plan: one function call.
select outbox.share_leave($1::integer, $2::bigint);
