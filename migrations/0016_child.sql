-- part: saga
-- Child sagas: a step that is a saga of its own (via => 'saga'). Its commands go no further than this database: saga.send_children carries them
-- out in the transaction in which the parent's worker decided on them. The answer is a message like any participant's, sent in the transaction
-- that ends the child (saga.child_answer), so that the parent takes it as it takes all others.
--
--   action  starts the child, once for each round of the step; again: if it has ended, its answer is repeated
--   probe   cancels it (an intent): past its pivot that is refused, and it ends as it must
--   undo    takes a child that has succeeded back: its row returns to saga.instance, and the intent `take_back` has it undo itself

-- The answer of a child that has ended, as the body of a reply; null: it has not.
create function saga.child_answer(child_id uuid, state text, reason text, outputs jsonb, parent_id uuid, parent_step text, parent_round integer,
                                  parent_undo_round integer, reply_to text) returns jsonb
language sql stable
as $$
    select jsonb_build_object(
               'saga', jsonb_build_object('id', parent_id, 'step', parent_step, 'element', 0, 'reply_to', reply_to,
                                          'operation', case when parent_undo_round is null then 'action' else 'undo' end,
                                          'round', coalesce(parent_undo_round, parent_round)))
           || case
                  when state = 'SUCCEEDED' or state = 'COMPENSATED' and parent_undo_round is not null then
                      jsonb_build_object('outcome', 'ok', 'output', jsonb_build_object('saga', child_id)
                          || case when parent_undo_round is null and octet_length(outputs::text) <= 262144
                                  then jsonb_build_object('steps', outputs) else '{}' end)
                  when state = 'COMPENSATED' then
                      jsonb_build_object('outcome', 'failed', 'error', jsonb_build_object(
                          'code', 'child_compensated', 'message', left(format('child saga %s: %s', child_id, reason), 400),
                          'details', jsonb_build_object('saga', child_id)))
                  else jsonb_build_object('outcome', 'expired', 'error', jsonb_build_object(
                          'code', 'child_closed', 'message', format('child saga %s was closed by an operator: nobody knows what it left', child_id),
                          'details', jsonb_build_object('saga', child_id)))
              end
    where state in ('SUCCEEDED', 'COMPENSATED', 'CLOSED')
$$;

-- One reply about a child that is not to be found, or never was.
create function saga.answer_for_child(parent_id uuid, parent_step text, operation text, round integer, outcome text, message text) returns void
language sql volatile
as $$
    select saga.queue_replies(array[jsonb_build_object(
        'saga', jsonb_build_object('id', parent_id, 'step', parent_step, 'element', 0, 'operation', operation, 'round', round,
                                   'reply_to', s.orchestrator),
        'outcome', outcome, 'error', jsonb_build_object('code', 'no_child', 'message', message, 'details', '{}'::jsonb))])
    from saga.setting s
$$;

-- Carries out what the machine decided about child sagas. Returned are those commands that came to nothing, as in saga.send_commands; ordinal
-- is the caller's.
create function saga.send_children(ordinals integer[], saga_ids uuid[], steps integer[], operations text[], rounds integer[], attempts integer[])
returns table (ordinal integer, event text, reason text)
language plpgsql volatile security definer set search_path = pg_catalog, pg_temp
as $$
#variable_conflict use_column
declare
    c     record;
    child record;
begin
    for c in
        select u.ordinal, u.saga_id, u.operation, u.round, u.attempt, i.input, i.outputs, s.name, s.input as template, s.run_if, s.skip_if, s.child_id
        from unnest(ordinals, saga_ids, steps, operations, rounds, attempts) u (ordinal, saga_id, step, operation, round, attempt)
        join saga.instance i on i.id = u.saga_id
        join saga.definition_step s on s.definition_id = i.definition_id and s.step = u.step
        order by u.ordinal
    loop
        select f.* into child
        from (select i.id, null::text as ended, i.cancel_requested, i.parent_round from saga.instance i
              where i.parent_id = c.saga_id and i.parent_step = c.name
              union all
              select e.id, e.state, e.cancel_requested, e.parent_round from saga.ended e where e.parent_id = c.saga_id and e.parent_step = c.name) f
        where c.operation = 'undo' or f.parent_round = c.round
        order by f.parent_round desc limit 1;
        if child.id is null and c.operation = 'action' then
            return query select c.ordinal, n.event, n.reason
                         from saga.start_child(c.saga_id, c.name, c.round, c.child_id, c.input, c.outputs, c.template,
                                               c.round > 1 or c.attempt > 1 or saga.runs(c.run_if, c.skip_if, c.input, c.outputs)) n;
        elsif child.id is null then
            perform saga.answer_for_child(c.saga_id, c.name, c.operation, c.round, case c.operation when 'probe' then 'not_executed' else 'expired' end,
                                          'there is no such child saga, or it is remembered no longer');
        elsif c.operation = 'undo' and child.ended = 'SUCCEEDED' then
            perform saga.bring_back(child.id, c.saga_id, c.round);
        elsif child.ended is not null then
            perform saga.queue_replies(array_agg(saga.child_answer(e.id, e.state, e.reason, e.outputs, e.parent_id, e.parent_step, e.parent_round,
                                                                   case when c.operation = 'undo' then c.round end, o.orchestrator)))
            from saga.ended e cross join saga.setting o where e.id = child.id;
        elsif c.operation = 'probe' and not child.cancel_requested
              and not exists (select from saga.intent n where n.saga_id = child.id and n.verb = 'cancel' and n.argument ? 'parent') then
            insert into saga.intent (saga_id, verb, argument, reason)
            values (child.id, 'cancel', jsonb_build_object('parent', c.saga_id), format('its parent saga %s aborts', c.saga_id));
            perform pg_notify('saga_intent', '');
        end if;
    end loop;
end
$$;

-- Starts a child. A row comes back if it does not start.
create function saga.start_child(parent_id uuid, parent_step text, parent_round integer, plan_id integer, input jsonb, outputs jsonb, template jsonb,
                                 holds boolean) returns table (event text, reason text)
language plpgsql volatile set search_path = pg_catalog, pg_temp
as $$
declare
    filled record;
begin
    if not holds then
        return query select 'condition_false', 'its condition does not hold';
        return;
    end if;
    select f.mapped, f.missing into filled from saga.fill_template(template, input, outputs) f;
    if filled.missing is not null then
        return query select 'unmappable', format('input of step "%s": the path %s finds nothing', parent_step, filled.missing);
    elsif jsonb_typeof(filled.mapped) <> 'object' or pg_column_size(filled.mapped) > 262144 then
        return query select 'unmappable', format('input of step "%s": a child saga''s input is a JSON object of at most 262144 bytes', parent_step);
    else
        perform saga.begin_instance(outbox.uuid_v7(), plan_id, null, filled.mapped, parent_id, parent_step, parent_round);
    end if;
exception when sqlstate 'SG322' then -- a root of the child cannot be sent: nothing of it is there
    return query select 'unmappable', format('step "%s": %s', parent_step, sqlerrm);
end
$$;

-- A child that has succeeded runs again, to undo itself.
create function saga.bring_back(child_id uuid, its_parent uuid, undo_round integer) returns void
language plpgsql volatile set search_path = pg_catalog, pg_temp
as $$
begin
    with back as (delete from saga.ended e where e.id = child_id returning e.*)
    insert into saga.instance (id, definition_id, key, state, phase, reason, paused, cancel_requested, revision, steps, input, outputs, errors,
                               started_at, deadline_at, wake_at, parent_id, parent_step, parent_round, parent_undo_round)
    select b.id, b.definition_id, b.key, b.state, b.phase, b.reason, b.paused, b.cancel_requested, b.revision, b.steps, b.input, b.outputs,
           b.errors, b.started_at, b.deadline_at, b.wake_at, b.parent_id, b.parent_step, b.parent_round, undo_round
    from back b;
    insert into saga.intent (saga_id, verb, argument, reason)
    values (child_id, 'take_back', jsonb_build_object('parent', its_parent), format('its parent saga %s undoes this step', its_parent));
    perform pg_notify('saga_intent', '');
end
$$;

-- For people: which saga a step is, and how it stands.
create view saga.children as
select i.parent_id as saga_id, i.parent_step as step, i.id as child, i.definition, i.version, i.state, i.phase, i.reason, i.started_at, i.ended_at
from saga.instances i
where i.parent_id is not null;
comment on view saga.children is 'The child sagas of every saga: what a step that is a saga waits for.';

revoke all on function
    saga.child_answer(uuid, text, text, jsonb, uuid, text, integer, integer, text), saga.answer_for_child(uuid, text, text, integer, text, text),
    saga.send_children(integer[], uuid[], integer[], text[], integer[], integer[]),
    saga.start_child(uuid, text, integer, integer, jsonb, jsonb, jsonb, boolean), saga.bring_back(uuid, uuid, integer)
    from public;
grant execute on function
    saga.send_children(integer[], uuid[], integer[], text[], integer[], integer[]),
    saga.child_answer(uuid, text, text, jsonb, uuid, text, integer, integer, text)
    to sagapost_worker;
grant select on saga.children to sagapost_operator, sagapost_reader;
