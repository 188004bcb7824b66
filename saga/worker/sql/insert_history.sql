-- What happened, a row per event, for people.
--
-- $1 uuid[] saga    $2 text[] event    $3 text[] step    $4 text[] because (the rule)    $5 jsonb[] error of the participant
-- $6 text[] actor   $7 text[] reason of an intent   $8 integer[] element
--
-- Plan: function scan of unnest, insert.
insert into saga.history (saga_id, event, step, detail)
select n.saga_id, n.event, n.step,
       jsonb_strip_nulls(jsonb_build_object('because', n.because, 'actor', n.actor, 'reason', n.reason, 'element', n.element))
       || case when n.error is null then '{}' else jsonb_build_object('error', n.error) end
from unnest($1, $2, $3, $4, $5, $6, $7, $8) n (saga_id, event, step, because, error, actor, reason, element);
