-- What became of an intent on a parked message: applied or refused, and why. $1 its id. The relay answers requeued, discarded, or refused: why.
-- Plan: primary key.
select case when answer like 'refused: %' then 'refused' else 'applied' end, substr(answer, length('refused: ') + 1)
  from outbox.intent where id = $1 and applied_at is not null
