-- A saga's steps for people, in the plan's order; of a step that is a saga, which one, and how it stands. $1 id. Plan: primary key, index of
-- parents.
select s.step, s.kind,
       s.state || case when s.elements_undone > 0 then format(', %s of %s undone', s.elements_undone, s.elements)
                       when s.elements > 0 then format(', %s of %s done', s.elements_done, s.elements) else '' end as state, s.round, s.undo_round as undo, s.attempt, s.action,
       concat_ws('; ', nullif(coalesce('element ' || (s.error ->> 'element') || ': ', '') || coalesce(s.error ->> 'code', '') || coalesce(': ' || (s.error ->> 'message'), ''), ''), 'saga ' || c.child) as error
  from saga.steps s
  left join lateral (select concat_ws(' ', c.child, c.state, c.phase, c.reason) as child from saga.children c
                      where s.via = 'saga' and c.saga_id = s.saga_id and c.step = s.step order by c.started_at desc limit 1) c on true
 where s.saga_id = $1 order by s.place
