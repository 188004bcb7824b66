-- Answers intents that this transaction has taken.
--
-- $1 bigint[] id    $2 text[] answer: applied | refused    $3 text[] detail
--
-- Plan: nested loop of unnest with index scan of intent_pkey.
update saga.intent i
set applied_at = clock_timestamp(), answer = n.answer, detail = n.detail
from unnest($1, $2, $3) n (id, answer, detail)
where i.id = n.id;
