-- Moves sagas that have ended out of the hot table, with their last state: one delete and one insert instead of an update too.
--
-- $1 ... $12 as in update_instances.sql
--
-- A child saga answers its parent.
--
-- Plan: nested loop of unnest with index scan of instance_pkey, delete, insert.
with gone as (
    delete from saga.instance i
    using unnest($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12)
          n (id, state, phase, reason, paused, cancel_requested, steps, outputs, errors, deadline_at, wake_at, elements)
    where i.id = n.id
    returning i.id, i.definition_id, i.key, n.state, n.phase, n.reason, n.paused, n.cancel_requested, i.revision + 1 as revision,
              n.steps, i.input,
              case when n.elements is not null then saga.merge_elements(i.outputs || coalesce(n.outputs, '{}'), n.elements)
                   when n.outputs is null then i.outputs else i.outputs || n.outputs end as outputs,
              case when n.errors is null then i.errors else i.errors || n.errors end as errors,
              i.started_at, n.deadline_at, n.wake_at, i.parent_id, i.parent_step, i.parent_round, i.parent_undo_round
), answered as (
    insert into outbox.message (type, exchange, routing_key, headers, payload, correlation_id)
    select 'saga.reply', 'saga.replies', o.orchestrator,
           saga.command_headers(g.parent_id, g.parent_step, case when g.parent_undo_round is null then 'action' else 'undo' end),
           saga.child_answer(g.id, g.state, g.reason, g.outputs, g.parent_id, g.parent_step, g.parent_round, g.parent_undo_round,
                             o.orchestrator)::json,
           g.parent_id::text
    from gone g cross join saga.setting o
    where g.parent_id is not null
)
insert into saga.ended (id, definition_id, key, state, phase, reason, paused, cancel_requested, revision, steps, input, outputs, errors,
                        started_at, deadline_at, wake_at, parent_id, parent_step, parent_round, parent_undo_round)
select id, definition_id, key, state, phase, reason, paused, cancel_requested, revision, steps, input, outputs, errors, started_at,
       deadline_at, wake_at, parent_id, parent_step, parent_round, parent_undo_round
from gone;
