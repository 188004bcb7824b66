-- A saga's steps, in the plan's order. $1 id. Plan: primary key.
select step, kind, state, round, undo_round, attempt, due_at, action, undo, output, error from saga.steps where saga_id = $1 order by place
