-- Writes what the machine decided, one row per saga, all of them locked by this transaction.
--
-- $1 uuid[]  id            $2 text[]  state          $3 text[]  phase         $4 text[]  reason
-- $5 bool[]  paused        $6 bool[]  cancel asked   $7 jsonb[] steps
-- $8 jsonb[] outputs to add, by step's name          $9 jsonb[] errors to add
-- $10 timestamptz[] deadline                         $11 timestamptz[] wake_at
-- $12 jsonb[] outputs of elements: [[step, element, output], ...]
--
-- Plan: nested loop of unnest with index scan of instance_pkey. HOT: wake_at, the only indexed column, gets another value only when
-- it has to come earlier or was due.
update saga.instance i
set state = n.state,
    phase = n.phase,
    reason = n.reason,
    paused = n.paused,
    cancel_requested = n.cancel_requested,
    revision = i.revision + 1,
    steps = n.steps,
    outputs = case when n.elements is not null then saga.merge_elements(i.outputs || coalesce(n.outputs, '{}'), n.elements)
                   when n.outputs is null then i.outputs else i.outputs || n.outputs end,
    errors = case when n.errors is null then i.errors else i.errors || n.errors end,
    deadline_at = n.deadline_at,
    wake_at = n.wake_at
from unnest($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12)
     n (id, state, phase, reason, paused, cancel_requested, steps, outputs, errors, deadline_at, wake_at, elements)
where i.id = n.id;
