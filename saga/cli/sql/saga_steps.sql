-- A saga's steps, in the plan's order; of a step that is a saga, which one, and how it stands. $1 id. Plan: primary key, index of parents.
select s.step, s.kind, s.via, s.state, s.round, s.undo_round, s.attempt, s.due_at, s.action, s.undo, c.child, s.elements, s.elements_done,
       s.elements_undone, s.output, s.error
  from saga.steps s
  left join lateral (select concat_ws(' ', c.child, c.state, c.phase, c.reason) as child from saga.children c
                      where s.via = 'saga' and c.saga_id = s.saga_id and c.step = s.step order by c.started_at desc limit 1) c on true
 where s.saga_id = $1 order by s.place
