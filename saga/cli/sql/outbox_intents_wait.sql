-- What became of intents on parked messages: done, refused and why one of them was, not answered. $1 their ids. Plan: primary key.
select count(*) filter (where applied_at is not null and answer not like 'refused: %') as done,
       count(*) filter (where answer like 'refused: %') as refused,
       count(*) filter (where applied_at is null) as unanswered,
       min(substr(answer, length('refused: ') + 1)) filter (where answer like 'refused: %') as why
  from outbox.intent where id = any ($1)
