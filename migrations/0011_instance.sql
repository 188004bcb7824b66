-- part: saga
-- Instances: saga.start makes one, saga.send_commands queues the commands that the worker decided on.

-- Queues commands: their bodies are made from the instance's row as it is now, so call it after the row was written, in the same
-- transaction. Returned are those that were not queued: whose input cannot be made, with the reason, or that name nothing.
-- One INSERT for all of them; the plan's steps are read from saga.definition_step, where they lie unpacked.
create function saga.send_commands(saga_ids uuid[], steps integer[], operations text[], rounds integer[], attempts integer[])
returns table (ordinal integer, error text)
language sql volatile
as $$
    with command as materialized (
        select c.ordinal::integer as ordinal, c.saga_id, c.operation, c.round, c.attempt, s.name as step, s.undo_on_fail,
               d.name as definition, d.version,
               case c.operation when 'undo' then s.undo else s.action end as action,
               c.operation = 'undo' and s.undo_input is not null as is_mapped,
               f.missing, o.orchestrator,
               case when c.operation = 'undo' and s.undo_input is null then saga.undo_input(f.mapped, i.outputs -> s.name)
                    else f.mapped end as input
        from unnest(saga_ids, steps, operations, rounds, attempts) with ordinality
                 c (saga_id, step, operation, round, attempt, ordinal)
        cross join saga.setting o
        left join saga.instance i on i.id = c.saga_id
        left join saga.definition d on d.id = i.definition_id
        left join saga.definition_step s on s.definition_id = i.definition_id and s.step = c.step
        cross join lateral saga.fill_template(case when c.operation = 'undo' and s.undo_input is not null then s.undo_input else s.input end,
                                              i.input, i.outputs) f
    ), sent as (
        insert into outbox.message (type, exchange, routing_key, headers, payload, correlation_id, reply_to)
        select 'saga.command', 'saga.commands', c.action,
               jsonb_build_object('saga-id', c.saga_id, 'saga-step', c.step, 'saga-operation', c.operation),
               json_build_object('saga', jsonb_build_object(
                       'id', c.saga_id, 'definition', c.definition, 'version', c.version, 'step', c.step, 'element', 0,
                       'operation', c.operation, 'round', c.round, 'attempt', c.attempt, 'reply_to', c.orchestrator, 'action', c.action)
                       || case when c.operation = 'undo' and c.undo_on_fail then '{"undo_on_fail": true}' else '{}' end::jsonb
                       || case when c.is_mapped then '{"mapped": true}' else '{}' end::jsonb,
                   'input', c.input),
               c.saga_id::text, c.orchestrator
        from command c
        where c.missing is null and c.action is not null
        order by c.ordinal
    )
    select c.ordinal,
           case when c.step is null then 'there is no such step of such a saga'
                when c.action is null then format('step "%s" has no %s', c.step, c.operation)
                else format('%s of step "%s": the path %s finds nothing',
                            case c.operation when 'undo' then 'undo_input' else 'input' end, c.step, c.missing) end
    from command c
    where c.missing is not null or c.action is null
    order by c.ordinal
$$;
comment on function saga.send_commands is 'Queues commands of running sagas and returns those that could not be made, with the reason; for saga-worker.';

-- Starts a saga of the definition's current version, in the caller's transaction. With a key, the saga that this key started before is
-- returned if its input is the same, whatever became of it.
create function saga.start(definition text, input jsonb, key text default null) returns uuid
language plpgsql security definer set search_path = pg_catalog, pg_temp
as $$
#variable_conflict use_column
declare
    new_id   uuid := outbox.uuid_v7();
    now_us   bigint := (extract(epoch from clock_timestamp()) * 1000000)::bigint;
    plan     record;
    steps    jsonb;
    wake_us  bigint;
    problem  text;
begin
    if jsonb_typeof(start.input) is distinct from 'object' then
        raise exception 'saga.start: the input of "%" is no JSON object', start.definition using errcode = 'SG323';
    end if;
    select d.id, d.version, d.start_steps, d.timeout_us, d.root_steps, d.root_sent, d.root_timeout_us into plan
    from saga.definition d where d.name = start.definition and d.current;
    if not found then
        raise exception 'saga.start: there is no published definition "%"', start.definition using errcode = 'SG320',
            hint = 'Publish it with saga.publish.';
    end if;
    if start.key is not null and not saga.claim_key(start.definition, start.key, start.input, new_id) then
        return saga.started_before(start.definition, start.key, start.input);
    end if;

    steps := plan.start_steps;
    wake_us := now_us + plan.timeout_us;
    for i in 1 .. cardinality(plan.root_steps) loop
        if plan.root_timeout_us[i] is not null then
            steps := jsonb_set(steps, array[plan.root_steps[i]::text, 'd'], to_jsonb(now_us + plan.root_timeout_us[i]));
            wake_us := least(wake_us, now_us + plan.root_timeout_us[i]);
        end if;
    end loop;
    insert into saga.instance (id, definition_id, key, state, steps, input, started_at, deadline_at, wake_at)
    values (new_id, plan.id, start.key, 'RUNNING', steps, start.input, saga.timestamp_of(now_us),
            saga.timestamp_of(now_us + plan.timeout_us), saga.timestamp_of(wake_us));
    insert into saga.history (saga_id, event, detail)
    values (new_id, 'started', jsonb_build_object('definition', start.definition, 'version', plan.version));

    select s.error into problem
    from (select array_agg(r.step) as steps, array_agg(new_id) as ids, array_agg('action'::text) as operations, array_agg(1) as ones
          from unnest(plan.root_steps, plan.root_sent) r (step, is_sent) where r.is_sent) c
    cross join lateral saga.send_commands(c.ids, c.steps, c.operations, c.ones, c.ones) s;
    if found then
        raise exception 'saga.start: %', problem using errcode = 'SG322',
            hint = 'Put it into the input, or give the path a default in the definition: {"$path": "...", "default": ...}.';
    end if;
    return new_id;
end
$$;
comment on function saga.start is 'Starts a saga in the caller''s transaction and returns its id; the same key and input again: the saga that there is.';

create function saga.timestamp_of(microseconds bigint) returns timestamptz
language sql immutable
as $$ select timestamptz 'epoch' + microseconds * interval '1 microsecond' $$;

-- False: the key was used before (it waits for a transaction that is using it now).
create function saga.claim_key(of_definition text, of_key text, of_input jsonb, new_id uuid) returns boolean
language plpgsql volatile
as $$
begin
    if octet_length(of_key) not between 1 and 1024 then
        raise exception 'saga.start: the key has % bytes, allowed is 1 to 1024', octet_length(of_key) using errcode = 'SG323';
    end if;
    insert into saga.key (definition, key, saga_id, input) values (of_definition, of_key, new_id, of_input) on conflict do nothing;
    return found;
end
$$;

create function saga.started_before(of_definition text, of_key text, of_input jsonb) returns uuid
language plpgsql volatile
as $$
declare
    before saga.key;
begin
    select k.* into before from saga.key k where k.definition = of_definition and k.key = of_key;
    if not found then
        raise exception 'saga.start: the key "%" was being removed', of_key using errcode = '40001';
    elsif before.input <> of_input then
        raise exception 'saga.start: the key "%" of "%" started saga % with another input', of_key, of_definition, before.saga_id
            using errcode = 'SG321', hint = 'A key stands for one order, whatever became of it: use a new key for another.';
    end if;
    return before.saga_id;
end
$$;
