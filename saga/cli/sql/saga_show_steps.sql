-- A saga's steps for people, in the plan's order. $1 id. Plan: primary key.
select step, kind, state, round, undo_round as undo, attempt, action, coalesce(error ->> 'code', '') || coalesce(': ' || (error ->> 'message'), '') as error
  from saga.steps where saga_id = $1 order by place
