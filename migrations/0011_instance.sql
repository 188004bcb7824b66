-- part: saga
-- Instances: saga.start makes one, saga.send_commands queues the commands that the worker decided on.

-- The body of a command. One expression, inlined where it is used.
create function saga.command_body(id uuid, definition text, version integer, step text, operation text, round integer, attempt integer,
                                  reply_to text, action text, undo_on_fail boolean, is_mapped boolean, input jsonb,
                                  element integer default 0) returns json
language sql stable
as $$
    select json_build_object(
        'saga', jsonb_build_object('id', id, 'definition', definition, 'version', version, 'step', step, 'element', element,
                                   'operation', operation, 'round', round, 'attempt', attempt, 'reply_to', reply_to, 'action', action)
                || case when undo_on_fail then '{"undo_on_fail": true}' else '{}' end::jsonb
                || case when is_mapped then '{"mapped": true}' else '{}' end::jsonb,
        'input', input)
$$;

create function saga.command_headers(id uuid, step text, operation text) returns jsonb
language sql stable
as $$
    select jsonb_build_object('saga-id', id, 'saga-step', step, 'saga-operation', operation)
$$;

-- Queues commands: their bodies are made from the instance's row as it is now, so call it after the row was written, in the same
-- transaction (a saga that ends keeps its row until its last fences are queued). Returned are those that were not queued, as the machine's
-- events: `unmappable`, whose input cannot be made, with the reason, or that name nothing; `condition_false`, of a step that is to be
-- skipped. The first command of a step asks for its condition; that of a step that waits does nothing else; those of child sagas are for saga.send_children (0016_child.sql), those of locks for saga.take_locks.
-- Element -1 of a fan-out asks for its list, and is never queued: `spread`, with how many elements it has.
-- One INSERT for all of them; the plan's steps are read from saga.definition_step, where they lie unpacked.
create function saga.send_commands(saga_ids uuid[], steps integer[], operations text[], rounds integer[], attempts integer[],
                                   elements integer[] default null)
returns table (ordinal integer, event text, reason text, elements_found integer)
language plpgsql volatile set search_path = pg_catalog, pg_temp set plan_cache_mode = force_generic_plan
    set enable_seqscan = off set jit = off
as $$
#variable_conflict use_column
begin
    return query
    with command as materialized (
        select c.ordinal::integer as ordinal, c.saga_id, c.operation, c.round, c.attempt, s.name as step, s.undo_on_fail,
               coalesce(c.element, 0) as element, s.for_each is not null as is_element,
               case when coalesce(c.element, 0) < 0 then saga.read_list(s.for_each, s.for_each_max, i.input, i.outputs) end as list,
               d.name as definition, d.version,
               case c.operation when 'undo' then s.undo else s.action end as action,
               c.operation <> 'action' or c.round > 1 or c.attempt > 1 or s.via in ('saga', 'lock') or s.for_each is not null and coalesce(c.element, 0) >= 0 or saga.runs(s.run_if, s.skip_if, i.input, i.outputs) as holds,
               c.operation = 'action' and s.via in ('timer', 'signal') or s.via in ('saga', 'lock') or coalesce(c.element, 0) < 0 as only_asks,
               c.operation = 'undo' and s.undo_input is not null as is_mapped,
               f.missing, o.orchestrator,
               case when c.operation = 'undo' and s.undo_input is null then saga.undo_input(f.mapped, e.outputs -> s.name)
                    else f.mapped end as input
        from unnest(saga_ids, steps, operations, rounds, attempts, elements) with ordinality
                 c (saga_id, step, operation, round, attempt, element, ordinal)
        cross join saga.setting o
        -- LIMIT 1 leaves the planner no other way than a look into the index for each command. It plans once, perhaps when the tables are
        -- still empty, and would rather read them whole.
        left join lateral (select r.definition_id, r.input, r.outputs from saga.instance r where r.id = c.saga_id limit 1) i on true
        left join lateral (select r.name, r.version from saga.definition r where r.id = i.definition_id limit 1) d on true
        left join lateral (select r.* from saga.definition_step r where r.definition_id = i.definition_id and r.step = c.step limit 1) s
            on true
        cross join lateral (select case when s.for_each is null then i.outputs
                                        else saga.element_outputs(s.for_each, s.name, coalesce(c.element, 0), i.input, i.outputs) end as outputs
                            offset 0) e -- OFFSET: found once
        cross join lateral saga.fill_template(case when c.operation = 'undo' and s.undo_input is not null then s.undo_input else s.input end,
                                              i.input, e.outputs) f
    ), sent as (
        insert into outbox.message (type, exchange, routing_key, headers, payload, correlation_id, reply_to)
        select 'saga.command', 'saga.commands', c.action,
               saga.command_headers(c.saga_id, c.step, c.operation),
               saga.command_body(c.saga_id, c.definition, c.version, c.step, c.operation, c.round, c.attempt, c.orchestrator, c.action,
                                 c.operation = 'undo' and c.undo_on_fail, c.is_mapped, c.input, c.element),
               c.saga_id::text, c.orchestrator
        from command c
        where c.holds and not c.only_asks and c.missing is null and c.action is not null and pg_column_size(c.input) <= 524288
        order by c.ordinal
    )
    select c.ordinal,
           case when not c.holds then 'condition_false' when jsonb_typeof(c.list) = 'number' then 'spread' else 'unmappable' end,
           case when c.step is null then 'there is no such step of such a saga'
                when not c.holds then 'its condition does not hold'
                when jsonb_typeof(c.list) = 'string' then format('for_each of step "%s": %s', c.step, c.list #>> '{}')
                when c.list is not null then 'its list is known'
                when c.action is null then format('step "%s" has no %s', c.step, c.operation)
                else format('%s of step "%s"%s: %s', case when c.is_mapped then 'undo_input' else 'input' end, c.step,
                            case when c.is_element then format(', element %s', c.element) end,
                            case when c.missing is not null then format('the path %s finds nothing', c.missing)
                                 else format('it has %s bytes, allowed are 524288', pg_column_size(c.input)) end) end,
           case when c.holds and jsonb_typeof(c.list) = 'number' then c.list::integer end
    from command c
    where not c.holds or c.list is not null
          or c.only_asks is not true and (c.missing is not null or c.action is null or pg_column_size(c.input) > 524288)
    order by c.ordinal;
end
$$;
comment on function saga.send_commands is 'Queues commands of running sagas and returns those that could not be made, with the reason; for saga-worker.';

-- Starts a saga of the definition's current version, in the caller's transaction. With a key, the saga that this key started before is
-- returned if its input is the same, whatever became of it.
create function saga.start(definition text, input jsonb, key text default null) returns uuid
language plpgsql security definer set search_path = pg_catalog, pg_temp set plan_cache_mode = force_generic_plan
    set enable_seqscan = off set jit = off
as $$
#variable_conflict use_column
declare
    new_id   uuid := outbox.uuid_v7();
    plan_id  integer;
begin
    if jsonb_typeof(start.input) is distinct from 'object' then
        raise exception 'saga.start: the input of "%" is no JSON object', start.definition using errcode = 'SG323';
    end if;
    if saga.data_problem(start.input) is not null then
        raise exception 'saga.start: the input of "%" %', start.definition, saga.data_problem(start.input)
            using errcode = 'SG323', hint = 'Keep what is large in a table and put its key into the input.';
    end if;
    select d.id into plan_id from saga.definition d where d.name = start.definition and d.current;
    if not found then
        raise exception 'saga.start: there is no published definition "%"', start.definition using errcode = 'SG320',
            hint = 'Publish it with saga.publish.';
    end if;
    if start.key is not null and not saga.claim_key(start.definition, start.key, start.input, new_id) then
        return saga.started_before(start.definition, start.key, start.input);
    end if;
    perform saga.begin_instance(new_id, plan_id, start.key, start.input);
    return new_id;
end
$$;
comment on function saga.start is 'Starts a saga in the caller''s transaction and returns its id; the same key and input again: the saga that there is.';

-- Makes the instance and queues the commands of its roots. parent_*: of a child saga.
create function saga.begin_instance(new_id uuid, plan_id integer, key text, input jsonb, parent_id uuid default null,
                                    parent_step text default null, parent_round integer default null) returns void
language plpgsql volatile set search_path = pg_catalog, pg_temp set plan_cache_mode = force_generic_plan
    set enable_seqscan = off set jit = off
as $$
#variable_conflict use_column
declare
    now_us   bigint := (extract(epoch from clock_timestamp()) * 1000000)::bigint;
    plan     record;
    steps    jsonb;
    wake_us  bigint;
    waiting  integer[] := '{}'; -- roots for a worker: those whose condition does not hold, to skip, child sagas, to start, locks, to take, and fan-outs
    hurry    boolean := false;  -- a worker has something to do before it would look by itself
begin
    select d.name, d.version, d.start_steps, d.timeout_us, d.root_steps, d.root_timeout_us, d.root_conditions into strict plan
    from saga.definition d where d.id = plan_id;
    steps := plan.start_steps;
    wake_us := now_us + plan.timeout_us;
    if plan.root_conditions then
        waiting := array(select s.step from saga.definition_step s where s.definition_id = plan_id and s.step = any (plan.root_steps)
                              and (s.via in ('saga', 'lock') or s.for_each is not null or not saga.runs(s.run_if, s.skip_if, begin_instance.input, '{}')));
        hurry := waiting <> '{}';
    end if;
    for i in 1 .. cardinality(plan.root_steps) loop
        if plan.root_steps[i] = any (waiting) then
            steps := jsonb_set(steps, array[plan.root_steps[i]::text], '{"s": "WAITING", "r": 0, "u": 0, "a": 0}');
            wake_us := now_us;
        elsif plan.root_timeout_us[i] is not null then
            steps := jsonb_set(steps, array[plan.root_steps[i]::text, 'd'], to_jsonb(now_us + plan.root_timeout_us[i]));
            wake_us := least(wake_us, now_us + plan.root_timeout_us[i]);
            hurry := hurry or plan.root_timeout_us[i] < 2000000 and steps #>> array[plan.root_steps[i]::text, 's'] = 'PARKED';
        end if;
    end loop;
    with instance as (
        insert into saga.instance (id, definition_id, key, state, steps, input, started_at, deadline_at, wake_at, parent_id, parent_step,
                                   parent_round)
        values (new_id, plan_id, begin_instance.key, 'RUNNING', steps, begin_instance.input, saga.timestamp_of(now_us),
                saga.timestamp_of(now_us + plan.timeout_us), saga.timestamp_of(wake_us), begin_instance.parent_id,
                begin_instance.parent_step, begin_instance.parent_round)
    )
    insert into saga.history (saga_id, event, detail)
    values (new_id, 'started', jsonb_build_object('definition', plan.name, 'version', plan.version)
                               || case when begin_instance.parent_id is null then '{}' else
                                  jsonb_build_object('parent', begin_instance.parent_id, 'step', begin_instance.parent_step) end);
    -- What saga.send_commands would send, without looking up what is known here.
    insert into outbox.message (type, exchange, routing_key, headers, payload, correlation_id, reply_to)
    select 'saga.command', 'saga.commands', s.action, saga.command_headers(new_id, s.name, 'action'),
           saga.command_body(new_id, plan.name, plan.version, s.name, 'action', 1, 1, o.orchestrator, s.action, false, false,
                             case when f.missing is null then f.mapped else saga.refuse_input(s.name, f.missing) end),
           new_id::text, o.orchestrator
    from saga.definition_step s
    cross join saga.setting o
    cross join lateral saga.fill_template(s.input, begin_instance.input, '{}') f
    where s.definition_id = plan_id and s.step = any (plan.root_steps) and s.via = 'command' and s.step <> all (waiting)
    order by s.step;
    if hurry then
        perform pg_notify('saga_wake', '');
    end if;
end
$$;

create function saga.refuse_input(step text, missing text) returns jsonb
language plpgsql stable
as $$
begin
    raise exception 'saga.start: input of step "%": the path % finds nothing', step, missing using errcode = 'SG322',
        hint = 'Put it into the input, or give the path a default in the definition: {"$path": "...", "default": ...}.';
end
$$;

create function saga.timestamp_of(microseconds bigint) returns timestamptz
language sql stable
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
