-- part: participant
-- The contract of a participant in any language: saga.receive and saga.reply, inside its own transaction at READ COMMITTED.
-- saga/README.md describes commands and replies member by member.
--
-- Small functions in SQL are inlined only when they are no less volatile than what they call: jsonb_build_object and pg_column_size are
-- stable. Called instead, each costs half a millisecond in a statement that is run once.

create type saga.identity as (saga_id uuid, step text, element integer, operation text, round integer);

-- By hand: a regular expression for it takes 8 us, and this is asked for every command.
create function saga.is_uuid(id text) returns boolean
language sql immutable
as $$
    select length(id) = 36 and translate(id, '0123456789abcdefABCDEF', '') = '----'
           and substr(id, 9, 1) = '-' and substr(id, 14, 1) = '-' and substr(id, 19, 1) = '-' and substr(id, 24, 1) = '-'
$$;

-- Why a command cannot be read; null when it can.
create function saga.command_problem(command jsonb) returns text
language sql stable
as $$
    select case
        when jsonb_typeof(command -> 'saga') is distinct from 'object' then 'no object "saga"'
        when not coalesce(saga.is_uuid(command -> 'saga' ->> 'id'), false) then '"saga"."id" is no UUID'
        when not coalesce(octet_length(command -> 'saga' ->> 'step') between 1 and 63, false) then '"saga"."step" is no name'
        when not coalesce(command -> 'saga' ->> 'operation' in ('action', 'undo', 'probe'), false)
            then '"saga"."operation" is none of action, undo, probe'
        when not coalesce(command -> 'saga' ->> 'round' ~ '^[0-9]{1,9}$', false) then '"saga"."round" is no count'
        when not coalesce(command -> 'saga' ->> 'element', '0') ~ '^[0-9]{1,9}$' then '"saga"."element" is no count'
        when not coalesce(octet_length(command -> 'saga' ->> 'reply_to') between 1 and 255, false)
            then '"saga"."reply_to" is no routing key'
        when not command ? 'input' then 'no "input"'
        when pg_column_size(command -> 'saga') > 8192 then '"saga" is larger than 8192 bytes' -- every reply repeats it
    end
$$;

create function saga.identify(command jsonb) returns saga.identity
language plpgsql immutable
as $$
declare
    problem text := saga.command_problem(command);
begin
    if problem is not null or command is null then
        raise exception 'the command cannot be read: %', coalesce(problem, 'it is null')
            using errcode = 'SG200', hint = 'Pass the body of the message, as jsonb, unchanged.';
    end if;
    return ((command -> 'saga' ->> 'id')::uuid, command -> 'saga' ->> 'step', coalesce((command -> 'saga' ->> 'element')::integer, 0),
            command -> 'saga' ->> 'operation', (command -> 'saga' ->> 'round')::integer);
end
$$;

-- Every statement below must see what the one before it waited for.
create function saga.require_read_committed() returns void
language plpgsql stable
as $$
begin
    if current_setting('transaction_isolation') not in ('read committed', 'read uncommitted') then
        raise exception 'a participant works at READ COMMITTED, this transaction is %', upper(current_setting('transaction_isolation'))
            using errcode = 'SG201', hint = 'BEGIN ISOLATION LEVEL READ COMMITTED.';
    end if;
end
$$;

-- Who may publish (sagapost_writer) could write to every exchange that the relay may: a command, and a handler would run with any input, or a reply, and a step
-- would count as done. So these exchanges, and their queues by the default exchange, are for saga-worker and for the functions of this schema, which run
-- as their owner. The trigger's WHEN is read anew for each statement of every service, so it only asks what is quickly asked (the whole question there took
-- 7 us of a prepared INSERT of one row, this 2). Every name is qualified rather than pinned: it is in the workers' way.
create function saga.guard_exchanges() returns trigger
language plpgsql
as $$
declare
    queue text := case when coalesce(new.exchange, '') operator(pg_catalog.=) '' then coalesce(new.routing_key, new.type) end;
begin
    if (new.exchange operator(pg_catalog.=) any (array['saga.commands', 'saga.replies'])
        or queue operator(pg_catalog.^@) 'saga.commands.' or queue operator(pg_catalog.^@) 'saga.replies.')
       and not pg_catalog.pg_has_role(current_user, 'sagapost_worker', 'USAGE')
       and not pg_catalog.pg_has_role(current_user, (select c.relowner from pg_catalog.pg_class c where c.oid operator(pg_catalog.=) tg_relid), 'USAGE') then
        raise exception using errcode = 'insufficient_privilege', message = 'commands and replies of sagas are written by saga.start, saga.reply and saga-worker alone';
    end if;
    return new;
end
$$;
create trigger guard_exchanges before insert on outbox.message for each row
    when (new.exchange ^@ 'saga.' or new.routing_key ^@ 'saga.' or new.type ^@ 'saga.')
    execute function saga.guard_exchanges();

-- Why data must not go into a saga, or null. As text it may be much longer than jsonb holds it: 1e130000 is 130,001 digits. Deeper data would go to the
-- dead-letter queue at a worker (body-depth-max), and its step would be in doubt for ever; templates and child sagas add levels of their own.
create function saga.data_problem(data jsonb) returns text
language plpgsql immutable strict
as $$
declare
    bytes integer := greatest(pg_catalog.pg_column_size(data), pg_catalog.octet_length(data::text));
begin
    return case when bytes > 262144 then pg_catalog.format('has %s bytes, allowed are 262144', bytes)
                when pg_catalog.jsonb_path_exists(data, 'strict $.**{50}') then 'has more than 50 levels' end;
end
$$;

-- Queues replies for the relay. Each is a reply's body; what the message's properties repeat is taken from it.
create function saga.queue_replies(replies jsonb[]) returns integer
language plpgsql volatile set plan_cache_mode = force_generic_plan
as $$
declare
    queued integer;
begin
    insert into outbox.message (type, exchange, routing_key, headers, payload, correlation_id)
    select 'saga.reply', 'saga.replies', r.reply -> 'saga' ->> 'reply_to',
           jsonb_build_object('saga-id', r.reply -> 'saga' -> 'id', 'saga-step', r.reply -> 'saga' -> 'step',
                              'saga-operation', r.reply -> 'saga' -> 'operation'),
           r.reply::json, r.reply -> 'saga' ->> 'id'
    from unnest(replies) r (reply);
    get diagnostics queued = row_count;
    return queued;
end
$$;

-- The body of a reply.
create function saga.reply_body(command jsonb, outcome text, output jsonb, error jsonb) returns jsonb
language sql stable
as $$
    select jsonb_build_object('saga', command -> 'saga', 'outcome', outcome)
           || case when error is not null then jsonb_build_object('error', error)
                   when output is not null then jsonb_build_object('output', output)
                   else '{}' end
$$;

create function saga.expired_reply(command jsonb) returns jsonb
language sql stable
as $$
    select saga.reply_body(command, 'expired', null, jsonb_build_object('code', 'expired',
        'message', 'the outcomes of sagas this old were dropped', 'details', '{}'::jsonb))
$$;

-- The reply to an action or undo for which an outcome stands.
create function saga.standing_reply(command jsonb, standing saga.outcome) returns jsonb
language sql stable
as $$
    select case standing.outcome
        when 'ok' then saga.reply_body(command, 'ok', standing.output, null)
        when 'failed' then saga.reply_body(command, 'failed', null, standing.error)
        else case when standing.error is null then saga.reply_body(command, 'not_executed', null, null)
                  else saga.reply_body(command, 'failed', null, standing.error) end
    end
$$;

-- An outcome to be written.
create type saga.verdict as (who saga.identity, outcome text, output jsonb, error jsonb);

-- Writes outcomes where none stand (a failure of a lower round is replaced) and returns how many. Waits for transactions that are about to
-- decide one of them.
create function saga.write_outcomes(verdicts saga.verdict[]) returns integer
language plpgsql volatile set plan_cache_mode = force_generic_plan
as $$
declare
    written integer;
begin
    insert into saga.outcome as o (saga_id, step, element, operation, round, outcome, output, error)
    select (v.who).saga_id, (v.who).step, (v.who).element, (v.who).operation, (v.who).round, v.outcome, v.output, v.error
    from unnest(verdicts) v
    order by v.who
    on conflict (saga_id, step, element, operation) do update
        -- A claim keeps the error of the round before, for the case that it is given up again.
        set round = excluded.round, outcome = excluded.outcome, output = excluded.output,
            error = case when excluded.outcome in ('running', 'started') then o.error else excluded.error end,
            decided_at = excluded.decided_at
        where o.outcome = 'failed' and o.round < excluded.round;
    get diagnostics written = row_count;
    return written;
end
$$;

-- The same for one. False: another one stands.
create function saga.record(who saga.identity, outcome text, output jsonb, error jsonb) returns boolean
language sql volatile
as $$
    select saga.write_outcomes(array[(who, outcome, output, error)::saga.verdict]) = 1
$$;

-- What stands for an identity, locked until the end of the transaction; all null when nothing does. One plan for every day's partition,
-- by the index: a plan of its own for each call takes longer than the call.
create function saga.find_outcome(who saga.identity, of_operation text) returns saga.outcome
language plpgsql volatile set plan_cache_mode = force_generic_plan set enable_seqscan = off set jit = off
as $$
declare
    standing saga.outcome;
begin
    select o.* into standing from saga.outcome o
    where o.saga_id = who.saga_id and o.step = who.step and o.element = who.element and o.operation = of_operation
    for update;
    return standing;
end
$$;

-- Nothing that comes in this round changes it.
create function saga.is_final(standing saga.outcome, of_round integer) returns boolean
language sql immutable
as $$
    select coalesce(standing.outcome in ('ok', 'fenced') or standing.outcome = 'failed' and standing.round >= of_round, false)
$$;

-- The first thing an undo or a probe does: it waits for an action that is still running, and without one leaves what a late action will
-- find. Returns the action's row, locked.
create function saga.fence_action(who saga.identity) returns saga.outcome
language plpgsql volatile
as $$
declare
    action saga.outcome;
begin
    insert into saga.outcome (saga_id, step, element, operation, round, outcome)
    values (who.saga_id, who.step, who.element, 'action', case who.operation when 'probe' then who.round else 0 end, 'fenced')
    on conflict do nothing;
    action := saga.find_outcome(who, 'action');
    if action.outcome = 'running' then
        raise exception 'this transaction has received the action itself and not replied to it' using errcode = 'SG204';
    end if;
    return action;
end
$$;

create function saga.meet_probe(command jsonb, who saga.identity, action saga.outcome, out verdict text, out reply jsonb)
language plpgsql volatile
as $$
begin
    if action.outcome = 'started' then
        verdict := 'in_doubt';
    elsif action.outcome = 'ok' then
        verdict := 'repeated';
        reply := saga.reply_body(command, 'executed', action.output, null);
    elsif action.outcome = 'failed' and action.round >= who.round or action.outcome = 'fenced' and action.error is not null then
        verdict := 'repeated';
        reply := saga.reply_body(command, 'failed', null, action.error);
    else
        if action.outcome = 'failed' then -- of an earlier round: the round that is asked about must not come after this answer
            update saga.outcome o set outcome = 'fenced', round = who.round, error = null, decided_at = clock_timestamp()
            where o.saga_id = who.saga_id and o.step = who.step and o.element = who.element and o.operation = 'action';
        end if;
        verdict := 'fenced';
        reply := saga.reply_body(command, 'not_executed', null, null);
    end if;
end
$$;

-- Verdict null: there is something to undo.
create function saga.meet_undo(command jsonb, who saga.identity, action saga.outcome, out verdict text, out reply jsonb)
language plpgsql volatile
as $$
declare
    standing saga.outcome := saga.find_outcome(who, 'undo');
begin
    if saga.is_final(standing, who.round) then -- first: the action's row need not show any more that there was something to undo
        verdict := 'repeated';
        reply := saga.standing_reply(command, standing);
        return;
    elsif action.outcome = 'started' then
        verdict := 'in_doubt';
        return;
    elsif action.outcome = 'failed' then -- no later round of the action may follow its undo
        update saga.outcome o set outcome = 'fenced', decided_at = clock_timestamp()
        where o.saga_id = who.saga_id and o.step = who.step and o.element = who.element and o.operation = 'action';
    end if;
    if action.outcome <> 'ok' and not (action.error is not null and command -> 'saga' -> 'undo_on_fail' is not distinct from 'true') then
        verdict := 'fenced';
        reply := saga.reply_body(command, 'ok', null, null) || '{"empty": true}';
    end if;
end
$$;

-- Meets a command with what is known here. claim_as: running or started to claim what is to be executed, null to leave that to the
-- caller, who writes the outcome last.
--   execute              to be done
--   repeated, fenced     answered: `reply` (which is not queued yet)
--   resume               an effect outside was begun: find out, then reply
--   in_doubt             undo or probe of an action that was begun outside: find out, then reply
create function saga.meet(command jsonb, who saga.identity, claim_as text, out verdict text, out input jsonb, out reply jsonb)
language plpgsql volatile
as $$
declare
    action   saga.outcome;
    standing saga.outcome;
begin
    input := command -> 'input';
    if who.operation <> 'action' then
        action := saga.fence_action(who);
        if who.operation = 'probe' then
            select m.verdict, m.reply into verdict, reply from saga.meet_probe(command, who, action) m;
            return;
        end if;
        select m.verdict, m.reply into verdict, reply from saga.meet_undo(command, who, action) m;
        if verdict is not null then
            return;
        elsif command -> 'saga' -> 'mapped' is distinct from 'true' then
            input := saga.undo_input(input, action.output);
        end if;
    end if;

    if claim_as is not null and saga.record(who, claim_as, null, null) then
        verdict := 'execute';
        return;
    end if;
    standing := saga.find_outcome(who, who.operation);
    if saga.is_final(standing, who.round) then
        verdict := case standing.outcome when 'fenced' then 'fenced' else 'repeated' end;
        reply := saga.standing_reply(command, standing);
    elsif standing.outcome = 'started' then
        verdict := 'resume';
    elsif standing.outcome = 'running' then
        raise exception 'this transaction has received the command already' using errcode = 'SG204',
            hint = 'Reply to it, or roll back to before it was received.';
    elsif claim_as is not null then
        raise exception 'the outcome of saga % was removed while it was read', who.saga_id using errcode = '40001';
    else
        verdict := 'execute';
    end if;
end
$$;

-- What an undo receives when its definition does not map it: the action's input with the action's output under `output`.
create function saga.undo_input(input jsonb, output jsonb) returns jsonb
language sql stable
as $$
    select case when jsonb_typeof(input) = 'object' then input else jsonb_build_object('input', input) end
           || jsonb_build_object('output', output)
$$;

create function saga.receive(command jsonb, external boolean default false, out verdict text, out input jsonb, out reply jsonb)
language plpgsql security definer set search_path = pg_catalog, pg_temp set plan_cache_mode = force_generic_plan
    set enable_seqscan = off set jit = off
as $$
declare
    who saga.identity := saga.identify(command);
begin
    perform saga.require_read_committed();
    -- Once it is stored that a call outside has started, the call is made: were that taken back by a crash of PostgreSQL, a probe would fence the action and
    -- say that it was never done. All else here is answered by a message, which goes out when its transaction is on disk.
    if external and current_setting('synchronous_commit') = 'off' then
        perform set_config('synchronous_commit', 'on', true);
    end if;
    if who.saga_id < saga.lock_outcomes() then
        verdict := 'expired';
        reply := saga.expired_reply(command);
    else
        select m.verdict, m.input, m.reply into verdict, input, reply
        from saga.meet(command, who, case when external then 'started' else 'running' end) m;
    end if;
    if reply is not null then
        perform saga.queue_replies(array[reply]);
    end if;
end
$$;
comment on function saga.receive is
    'Receives a command in the participant''s transaction. Verdict execute: do it and reply; resume, in_doubt: find out and reply; any other: it is answered.';

-- reply -------------------------------------------------------------------------------------------------------------------------

-- {"code", "message", "details"} of what a program says about its failure.
create function saga.failure(output jsonb, code text) returns jsonb
language sql stable
as $$
    select case when jsonb_typeof(output) = 'object'
                then jsonb_build_object('code', coalesce(output ->> 'code', code), 'message', coalesce(output ->> 'message', ''),
                                        'details', coalesce(output -> 'details', output - 'code' - 'message'))
                else jsonb_build_object('code', code, 'message', '', 'details', coalesce(output, '{}')) end
$$;

-- The answer to a probe, or to an undo, of an action that was begun outside: what the program found out. Null: this is none.
create function saga.settle_started(command jsonb, who saga.identity, outcome text, output jsonb, why jsonb) returns jsonb
language plpgsql volatile
as $$
declare
    action  saga.outcome := saga.find_outcome(who, 'action');
    settled text := outcome; -- of the action
begin
    if action.outcome is distinct from 'started'
       or who.operation = 'undo' and saga.is_final(saga.find_outcome(who, 'undo'), who.round) then
        return null;
    elsif outcome = 'transient' then
        return saga.reply_body(command, 'in_doubt', null, why);
    elsif who.operation = 'undo' then
        perform saga.record(who, outcome, case outcome when 'ok' then output end, why);
        if outcome = 'failed' then
            return saga.reply_body(command, 'failed', null, why); -- and the action stays as it is
        end if;
        settled := 'fenced'; -- it can never come again
    elsif outcome = 'not_executed' then
        settled := 'fenced';
        why := null;
    end if;
    update saga.outcome o
    set outcome = settled, output = case settled when 'ok' then settle_started.output end, error = why, decided_at = clock_timestamp()
    where o.saga_id = who.saga_id and o.step = who.step and o.element = who.element and o.operation = 'action';
    return saga.reply_body(command, case when who.operation = 'probe' and outcome = 'ok' then 'executed' else outcome end,
                           case outcome when 'ok' then output end, why);
end
$$;

create function saga.reply(command jsonb, outcome text, output jsonb default '{}') returns text
language plpgsql security definer set search_path = pg_catalog, pg_temp set plan_cache_mode = force_generic_plan
    set enable_seqscan = off set jit = off
as $$
declare
    who     saga.identity := saga.identify(command);
    settled record;
begin
    perform saga.require_read_committed();
    if outcome is null or outcome not in ('ok', 'failed', 'transient')
       and not (outcome = 'not_executed' and who.operation = 'probe') then
        raise exception 'saga.reply: outcome "%" is none of ok, failed, transient (or, to a probe, not_executed)', outcome
            using errcode = 'SG205';
    elsif saga.data_problem(output) is not null then
        raise exception 'saga.reply: the output %', saga.data_problem(output) using errcode = 'SG207';
    end if;
    settled := saga.settle(command, who, outcome, coalesce(output, '{}'), case when outcome <> 'ok' then saga.failure(output, outcome) end,
                           saga.lock_outcomes());
    perform saga.queue_replies(array[settled.answer]);
    return settled.result;
end
$$;
comment on function saga.reply is
    'Turns this transaction''s claim into its outcome and queues the reply: recorded. Another outcome stands: that is replied, repeated.';

create function saga.settle(command jsonb, who saga.identity, outcome text, output jsonb, why jsonb, horizon uuid,
                            out result text, out answer jsonb)
language plpgsql volatile
as $$
declare
    standing   saga.outcome := saga.find_outcome(who, who.operation);
    of_started jsonb;
begin
    result := 'recorded';
    answer := saga.reply_body(command, outcome, case outcome when 'ok' then output end, why);
    if standing.outcome in ('running', 'started') and standing.round = who.round then -- what was claimed before it expired is concluded
        perform saga.conclude(who, standing, outcome, output, why);
        return;
    elsif who.saga_id < horizon then
        result := 'repeated';
        answer := saga.expired_reply(command);
        return;
    elsif who.operation <> 'action' then
        of_started := saga.settle_started(command, who, outcome, output, why);
        if of_started is not null then
            answer := of_started;
            return;
        end if;
    end if;

    if who.operation = 'probe' and outcome = 'transient' then
        answer := saga.reply_body(command, 'in_doubt', null, why);
        return;
    elsif who.operation = 'probe' then
        raise exception 'saga.reply: nothing was begun that this probe asks about' using errcode = 'SG202',
            hint = 'Reply to a probe only after the verdict in_doubt.';
    elsif outcome = 'ok' then
        raise exception 'saga.reply: the % of step "%" of saga % was not received in this transaction', who.operation, who.step,
            who.saga_id using errcode = 'SG202', hint = 'Call saga.receive first; reply ok only after its verdict execute or resume.';
    elsif outcome = 'failed' and saga.record(who, 'failed', null, why) then
        return;
    end if;
    standing := saga.find_outcome(who, who.operation);
    if saga.is_final(standing, who.round) then
        result := 'repeated';
        answer := saga.standing_reply(command, standing);
    elsif standing.outcome in ('running', 'started') then
        raise exception 'saga.reply: round % of this command was begun, this is a reply to round %', standing.round, who.round
            using errcode = 'SG202';
    end if;
end
$$;

-- A claim becomes its outcome. Given up, it is as if it had never been made; but what was begun outside stays begun.
create function saga.conclude(who saga.identity, standing saga.outcome, decided text, output jsonb, why jsonb) returns void
language plpgsql volatile
as $$
begin
    if decided = 'transient' and standing.outcome = 'running' and standing.error is null then
        delete from saga.outcome o
        where o.saga_id = who.saga_id and o.step = who.step and o.element = who.element and o.operation = who.operation;
    elsif decided <> 'transient' or standing.outcome = 'running' then
        update saga.outcome o
        set outcome = case decided when 'transient' then 'failed' else decided end,
            round = case decided when 'transient' then standing.round - 1 else standing.round end,
            output = case decided when 'ok' then conclude.output end,
            error = case decided when 'ok' then null when 'failed' then why else standing.error end,
            decided_at = clock_timestamp()
        where o.saga_id = who.saga_id and o.step = who.step and o.element = who.element and o.operation = who.operation;
    end if;
end
$$;
