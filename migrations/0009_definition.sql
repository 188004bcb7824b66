-- part: saga
-- Drafts: saga.define opens one, saga.step fills it. 0010_publish.sql checks and freezes it.

-- A refusal: which step, which rule, what to change.
create function saga.refuse(code text, what text, hint text) returns void
language plpgsql
as $$
begin
    raise exception using errcode = code, message = what, hint = coalesce(hint, '');
end
$$;

-- Milliseconds of an interval that someone gave for `what`, checked against the range; null stays null.
create function saga.milliseconds(what text, given interval, low interval, high interval) returns bigint
language plpgsql immutable set search_path = pg_catalog, pg_temp
as $$
begin
    if given < low or given > high then
        raise exception '%: % is not between % and %', what, given, low, high using errcode = 'SG312';
    end if;
    return (extract(epoch from given) * 1000)::bigint;
end
$$;

create function saga.check_name(what text, name text) returns void
language plpgsql immutable set search_path = pg_catalog, pg_temp
as $$
begin
    if name is null or name !~ '^[a-z][a-z0-9_]{0,62}$' then
        raise exception '"%" is no name for a %', coalesce(name, 'null'), what using errcode = 'SG300',
            hint = 'A name is a small letter followed by up to 62 small letters, digits and _.';
    end if;
end
$$;

-- How often and how soon something is tried again: attempts in all, the first pause, its growth, its limit, and whether pauses vary.
create function saga.retry_policy(max integer default 5, base interval default '200 ms', factor numeric default 2,
                                  cap interval default '30 s', jitter boolean default true) returns jsonb
language plpgsql immutable set search_path = pg_catalog, pg_temp
as $$
begin
    return saga.complete_policy(jsonb_build_object(
        'max', max, 'base_ms', saga.milliseconds('saga.retry_policy: base', base, '1 ms', '1 hour'), 'factor', factor,
        'cap_ms', saga.milliseconds('saga.retry_policy: cap', cap, '1 ms', '1 day'), 'jitter', jitter), null, 'saga.retry_policy');
end
$$;
comment on function saga.retry_policy is 'A retry policy for saga.step: attempts in all, first pause, growth, longest pause, jitter.';

-- Checks a policy and fills in what it leaves out; null: the default itself.
create function saga.complete_policy(policy jsonb, default_policy jsonb, what text) returns jsonb
language plpgsql immutable set search_path = pg_catalog, pg_temp
as $$
declare
    full_policy jsonb;
    member      record;
    low         numeric;
    high        numeric;
begin
    if policy is not null and jsonb_typeof(policy) <> 'object' then
        perform saga.refuse('SG312', format('%s: the retry policy is no object', what), 'Make it with saga.retry_policy(...).');
    end if;
    full_policy := coalesce(default_policy, '{}') || coalesce(policy, '{}');
    for member in select e.key, e.value from jsonb_each(full_policy) e loop
        if member.key = 'jitter' then
            if jsonb_typeof(member.value) <> 'boolean' then
                perform saga.refuse('SG312', format('%s: jitter is %s, not true or false', what, member.value), null);
            end if;
            continue;
        end if;
        select r.low, r.high into low, high
        from (values ('max', 1, 1000), ('base_ms', 1, 3600000), ('factor', 1, 100), ('cap_ms', 1, 86400000)) r (name, low, high)
        where r.name = member.key;
        if not found then
            perform saga.refuse('SG312', format('%s: a retry policy has no "%s"', what, member.key),
                                'It has max, base_ms, factor, cap_ms and jitter; make it with saga.retry_policy(...).');
        elsif jsonb_typeof(member.value) <> 'number' or member.value::numeric not between low and high
              or member.key <> 'factor' and member.value::numeric <> trunc(member.value::numeric) then
            perform saga.refuse('SG312', format('%s: %s is %s', what, member.key, member.value),
                                format('It is a number from %s to %s.', low, high));
        end if;
    end loop;
    if (full_policy -> 'cap_ms')::numeric < (full_policy -> 'base_ms')::numeric then
        perform saga.refuse('SG312', format('%s: the cap of the pauses, %s ms, is below the first pause, %s ms', what,
                                            full_policy -> 'cap_ms', full_policy -> 'base_ms'), 'Raise cap or lower base.');
    end if;
    return full_policy;
end
$$;

create function saga.default_policy(of_what text) returns jsonb
language sql immutable
as $$
    select (case of_what
        when 'action' then '{"max": 5, "base_ms": 200, "factor": 2, "cap_ms": 30000, "jitter": true}'
        when 'retriable' then '{"max": 20, "base_ms": 200, "factor": 2, "cap_ms": 60000, "jitter": true}'
        when 'undo' then '{"max": 20, "base_ms": 500, "factor": 2, "cap_ms": 300000, "jitter": true}' end)::jsonb
$$;

-- Opens an empty draft, or empties the one there is. timeout: of the whole saga; null: none.
create function saga.define(name text, timeout interval default null, events boolean default false) returns void
language plpgsql security definer set search_path = pg_catalog, pg_temp
as $$
#variable_conflict use_column
begin
    perform saga.check_name('definition', define.name);
    perform saga.milliseconds(format('saga "%s": timeout', define.name), define.timeout, '100 ms', '3660 days');
    insert into saga.draft (definition, timeout, events) values (define.name, define.timeout, coalesce(define.events, false))
    on conflict (definition) do update
        set timeout = excluded.timeout, events = excluded.events, published = null,
            defined_by = excluded.defined_by, defined_at = excluded.defined_at;
    delete from saga.draft_step s where s.definition = define.name;
end
$$;
comment on function saga.define is 'Opens an empty draft of a saga''s definition.';

create function saga.step(definition text, name text, action text default null, undo text default null, kind text default null,
                          after text[] default '{}', input jsonb default null, undo_input jsonb default null,
                          via text default 'command', timeout interval default null, retry jsonb default null,
                          undo_retry jsonb default null, run_if jsonb default null, skip_if jsonb default null,
                          undo_on_fail boolean default false, on_timeout text default null,
                          child text default null, for_each text default null, for_each_max integer default null,
                          for_each_at_once integer default null) returns void
language plpgsql security definer set search_path = pg_catalog, pg_temp
as $$
#variable_conflict use_column
declare
    draft saga.draft;
    steps integer;
begin
    perform saga.check_name('step', step.name);
    select d.* into draft from saga.draft d where d.definition = step.definition for update;
    if not found then
        perform saga.refuse('SG310', format('there is no draft of "%s"', step.definition),
                            format('Begin with saga.define(%L).', step.definition));
    elsif draft.published is not null then
        perform saga.refuse('SG310', format('the draft of "%s" was published as version %s', step.definition, draft.published),
                            format('Begin the next version with saga.define(%L).', step.definition));
    end if;
    select count(*) into steps from saga.draft_step s where s.definition = step.definition;
    if steps >= 64 then
        perform saga.refuse('SG311', format('step "%s" would be the 65th of "%s"', step.name, step.definition),
                            'A saga has at most 64 steps: make two of it.');
    end if;
    insert into saga.draft_step (definition, ordinal, name, action, undo, kind, after, input, undo_input, via, timeout, retry,
                                 undo_retry, run_if, skip_if, undo_on_fail, on_timeout, child, for_each, for_each_max, for_each_at_once)
    values (step.definition, steps + 1, step.name, step.action, step.undo, step.kind, coalesce(step.after, '{}'), step.input,
            step.undo_input, coalesce(step.via, 'command'), step.timeout, step.retry, step.undo_retry, step.run_if, step.skip_if,
            coalesce(step.undo_on_fail, false), step.on_timeout, step.child, step.for_each, step.for_each_max, step.for_each_at_once)
    on conflict do nothing;
    if not found then
        perform saga.refuse('SG311', format('step "%s" is in the draft of "%s" already', step.name, step.definition),
                            'Give one of them another name, or begin anew with saga.define.');
    end if;
end
$$;
comment on function saga.step is 'Adds a step to the draft of a definition; name the arguments.';
