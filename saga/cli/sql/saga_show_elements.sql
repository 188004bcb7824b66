-- The first elements of each of a saga's fan-outs that are stuck, failed or in flight, in this order. $1 id, $2 how many of each. Plan: primary key.
select e.step || '[' || e.element || ']' as element, e.state, e.round, e.undo_round as undo, e.attempt, e.due_at
  from (select u.*, array_position(array['stuck', 'failed', 'in_flight'], u.stands) as urgency,
               row_number() over (partition by u.step order by array_position(array['stuck', 'failed', 'in_flight'], u.stands), u.element) as turn
          from saga.elements u where u.saga_id = $1 and u.stands in ('stuck', 'failed', 'in_flight')) e
 where e.turn <= $2
 order by e.place, e.turn
