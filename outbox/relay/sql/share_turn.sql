-- What the owner of share $1, of epoch $2, is to do; $3: nothing of it is in flight. Writes, but when there is nothing new: not for every look.
-- Plan: one function call.
select verdict, barrier::text as barrier, shares from outbox.share_turn($1::integer, $2::bigint, $3::boolean);
