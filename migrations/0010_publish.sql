-- part: saga
-- saga.publish: checks a draft by the rules of a saga that can always end, and freezes it.
--
-- A(s) and D(s) are all the ancestors and descendants of step s by `after`. The rules and their SQLSTATEs:
--   SG301  `after` names steps that exist; no cycle; a compensable step has an undo
--   SG302  at most one pivot p; with a pivot every other step is in A(p) or in D(p)
--   SG303  A(p) holds compensable, read_only, timer, signal and lock steps; D(p) retriable and timer steps, and signal steps that
--          go on without their signal or have no timeout
--   SG304  without a pivot, no retriable step
--   SG305  a pivot is no fan-out (saga.fan_out, 0017_fan_out.sql)
--   SG306  a child saga is published; compensable only if it has neither pivot nor retriable steps
--   SG307  an input reads $.input, or a step in A(s); one that can be skipped only with a default. A condition reads the same
-- and SG300 names, SG312 values, SG313 what this version cannot do, SG314 templates, SG316 conditions.

-- Of every step of a draft, its ancestors, as bits by place in `steps` (bit 0: the first). Raises SG301.
create function saga.ancestors(steps jsonb) returns bigint[]
language plpgsql immutable set search_path = pg_catalog, pg_temp
as $$
declare
    count  integer := jsonb_array_length(steps);
    direct bigint[];
    closed bigint[];
    place  jsonb := (select jsonb_object_agg(s.step ->> 'name', s.ordinal - 1) from jsonb_array_elements(steps) with ordinality s (step, ordinal));
    bits   bigint;
    before jsonb;
begin
    for i in 1 .. count loop
        bits := 0;
        for before in select b.name from jsonb_array_elements(steps -> (i - 1) -> 'after') b (name) loop
            if not place ? (before #>> '{}') then
                perform saga.refuse('SG301', format('step "%s": its `after` names "%s", which is no step (rule 1)',
                                                    steps -> (i - 1) ->> 'name', before #>> '{}'),
                                    'Add that step, or take the name out of `after`.');
            end if;
            bits := bits | (1::bigint << (place -> (before #>> '{}'))::integer);
        end loop;
        direct[i] := bits;
    end loop;
    closed := direct;
    for via in 1 .. count loop -- Warshall: whatever comes after `via` comes after what is before it
        for i in 1 .. count loop
            if closed[i] & (1::bigint << (via - 1)) <> 0 then
                closed[i] := closed[i] | closed[via];
            end if;
        end loop;
    end loop;
    for i in 1 .. count loop
        if closed[i] & (1::bigint << (i - 1)) <> 0 then
            perform saga.refuse('SG301', format('step "%s" comes after itself (rule 1)', steps -> (i - 1) ->> 'name'),
                                'Take one `after` out of the circle: ' || saga.circle(steps, closed, i) || '.');
        end if;
    end loop;
    return closed;
end
$$;

-- The steps of the circle that step i is in.
create function saga.circle(steps jsonb, closed bigint[], i integer) returns text
language sql immutable
as $$
    select string_agg(steps -> (j - 1) ->> 'name', ', ' order by j)
    from generate_series(1, cardinality(closed)) j
    where closed[i] & (1::bigint << (j - 1)) <> 0 and closed[j] & (1::bigint << (i - 1)) <> 0
$$;

-- The rules about the shape: 1 to 4. steps: [{"name", "kind", "via", "after", "undo", "timeout_ms"}, ...]; raises, or returns the
-- ancestors.
create function saga.check_shape(steps jsonb) returns bigint[]
language plpgsql immutable set search_path = pg_catalog, pg_temp
as $$
declare
    closed    bigint[] := saga.ancestors(steps);
    pivot     integer;
    name      text;
    kind      text;
    via       text;
    is_before boolean;
    is_behind boolean;
begin
    for i in 1 .. cardinality(closed) loop
        name := steps -> (i - 1) ->> 'name';
        kind := steps -> (i - 1) ->> 'kind';
        if kind = 'compensable' and steps -> (i - 1) ->> 'undo' is null and steps -> (i - 1) ->> 'via' <> 'saga' then
            perform saga.refuse('SG301', format('step "%s" is compensable and has no undo (rule 1)', name),
                                'Give it an undo, or a kind that needs none: read_only, pivot, retriable.');
        elsif kind = 'pivot' and pivot is not null then
            perform saga.refuse('SG302', format('step "%s" is a second pivot, after "%s" (rule 2)', name, steps -> (pivot - 1) ->> 'name'),
                                'A saga has one point of no return: make one of the two compensable, or retriable behind the other.');
        elsif kind = 'pivot' then
            pivot := i;
        end if;
    end loop;
    for i in 1 .. cardinality(closed) loop
        name := steps -> (i - 1) ->> 'name';
        kind := steps -> (i - 1) ->> 'kind';
        via := steps -> (i - 1) ->> 'via';
        if pivot is null then
            if kind = 'retriable' and via in ('command', 'saga') then
                perform saga.refuse('SG304', format('step "%s" is retriable, and there is no pivot (rule 4)', name),
                                    'A retriable step stands behind the pivot: name a pivot before it, or make it compensable.');
            end if;
            continue;
        elsif i = pivot then
            continue;
        end if;
        is_before := closed[pivot] & (1::bigint << (i - 1)) <> 0;
        is_behind := closed[i] & (1::bigint << (pivot - 1)) <> 0;
        if not is_before and not is_behind then
            perform saga.refuse('SG302', format('step "%s" is neither before nor after the pivot "%s" (rule 2)', name,
                                                steps -> (pivot - 1) ->> 'name'),
                case when kind = 'retriable' then format('Add "%s" to the `after` of "%s".', steps -> (pivot - 1) ->> 'name', name)
                     else format('Add "%s" to the `after` of "%s".', name, steps -> (pivot - 1) ->> 'name') end);
        elsif is_before and via in ('command', 'saga') and kind not in ('compensable', 'read_only') then
            perform saga.refuse('SG303', format('step "%s" is %s and stands before the pivot "%s" (rule 3)', name, kind,
                                                steps -> (pivot - 1) ->> 'name'),
                                'Before the pivot everything can still be undone: make it compensable or read_only, or put it behind.');
        elsif is_behind and via in ('command', 'saga') and kind <> 'retriable' then
            perform saga.refuse('SG303', format('step "%s" is %s and stands behind the pivot "%s" (rule 3)', name, kind,
                                                steps -> (pivot - 1) ->> 'name'),
                                'Behind the pivot nothing may fail for good: make it retriable, or put it before.');
        elsif is_behind and via = 'lock' then
            perform saga.refuse('SG303', format('step "%s" is a lock and stands behind the pivot "%s" (rule 3)', name, steps -> (pivot - 1) ->> 'name'),
                                'A lock may be denied, and behind the pivot nothing may fail: take it before, it is held to the end of the saga.');
        elsif is_behind and via = 'signal' and steps -> (i - 1) ->> 'timeout_ms' is not null
              and steps -> (i - 1) ->> 'on_timeout' is distinct from 'skip' then
            perform saga.refuse('SG303', format('step "%s" waits behind the pivot "%s" for a signal that may time out (rule 3)', name,
                                                steps -> (pivot - 1) ->> 'name'),
                                'Take its timeout away: it waits for as long as it takes. Or say on_timeout => ''skip'': it goes on without.');
        end if;
    end loop;
    return closed;
end
$$;

-- What a draft says, with the defaults filled in and every value checked; one object per step, in the order of their definition.
-- Raises SG300, SG312, SG313, SG316.
create function saga.draft_steps(of_definition text) returns jsonb
language plpgsql stable set search_path = pg_catalog, pg_temp
as $$
declare
    steps jsonb := '[]';
    s     saga.draft_step;
begin
    for s in select d.* from saga.draft_step d where d.definition = of_definition order by d.ordinal loop
        if s.via <> 'command' and num_nonnulls(s.for_each, s.for_each_max, s.for_each_at_once) > 0 then
            perform saga.refuse('SG313', format('step "%s" is done via %s and has for_each', s.name, s.via),
                                'Only commands are fanned out over a list.');
        elsif s.via in ('timer', 'signal') then
            steps := steps || saga.wait_step(s);
        elsif s.via = 'command' then
            steps := steps || saga.command_step(s);
        elsif s.via = 'saga' then
            steps := steps || saga.child_step(s);
        elsif s.via = 'lock' then
            steps := steps || saga.plan_lock(s);
        elsif s.via = 'escrow' then
            steps := steps || saga.plan_escrow(s);
        else
            perform saga.refuse('SG313', format('step "%s": there is no via "%s"', s.name, s.via),
                                'A step is done via command, timer, signal, lock, escrow or saga.');
        end if;
        perform saga.check_condition(format('step "%s": run_if', s.name), s.run_if);
        perform saga.check_condition(format('step "%s": skip_if', s.name), s.skip_if);
    end loop;
    if steps = '[]' then
        perform saga.refuse('SG310', format('the draft of "%s" has no step', of_definition), 'Add one with saga.step.');
    end if;
    perform saga.check_fan_outs(steps);
    return steps || saga.settlements(steps);
end
$$;

create function saga.command_step(s saga.draft_step) returns jsonb
language plpgsql stable set search_path = pg_catalog, pg_temp
as $$
declare
    what text := format('step "%s"', s.name);
    kind text := coalesce(s.kind, 'compensable');
begin
    if s.child is not null then
        perform saga.refuse('SG312', format('%s is a command and names a child saga', what), 'Say via => ''saga'', without an action.');
    elsif s.on_timeout is not null then
        perform saga.refuse('SG312', format('%s is a command and has on_timeout', what),
                            'Only a signal or a lock says what follows its timeout: of a command the participant is asked.');
    elsif kind not in ('compensable', 'read_only', 'pivot', 'retriable') then
        perform saga.refuse('SG312', format('%s: there is no kind "%s"', what, kind),
                            'A step is compensable, read_only, pivot or retriable.');
    end if;
    perform saga.check_action(what, 'action', s.action);
    if s.undo is not null then
        perform saga.check_action(what, 'undo', s.undo);
        if kind <> 'compensable' then
            perform saga.refuse('SG312', format('%s is %s and has an undo', what, kind),
                                'Only a compensable step is ever undone: take the undo away, or make it compensable.');
        elsif saga.participant_of(s.undo) <> saga.participant_of(s.action) then
            perform saga.refuse('SG312', format('%s: its action is %s''s and its undo is %s''s', what, saga.participant_of(s.action),
                                                saga.participant_of(s.undo)),
                                'Action and undo belong to one participant: it alone knows whether there is something to undo.');
        end if;
    elsif s.undo_input is not null or s.undo_retry is not null or s.undo_on_fail then
        -- A pivot is probed with the policy of undos.
        if not (kind = 'pivot' and s.undo_input is null and not s.undo_on_fail) and kind <> 'compensable' then
            perform saga.refuse('SG312', format('%s has no undo, and says how to undo it', what),
                                'Take undo_input, undo_retry and undo_on_fail away.');
        end if;
    end if;
    return jsonb_build_array(jsonb_build_object(
        'name', s.name, 'action', s.action, 'undo', s.undo, 'participant', saga.participant_of(s.action), 'kind', kind,
        'via', 'command', 'after', to_jsonb(array(select distinct a from unnest(s.after) a order by a)),
        'timeout_ms', coalesce(saga.milliseconds(what || ': timeout', s.timeout, '10 ms', '366 days'), 30000),
        'retry', saga.complete_policy(s.retry, saga.default_policy(case kind when 'retriable' then 'retriable' else 'action' end), what || ', retry'),
        'undo_retry', saga.complete_policy(s.undo_retry, saga.default_policy('undo'), what || ', undo_retry'),
        'undo_on_fail', s.undo_on_fail, 'input', s.input, 'undo_input', s.undo_input, 'run_if', s.run_if, 'skip_if', s.skip_if)
        || saga.fan_out(s, kind));
end
$$;

-- A timer's timeout is its length; a signal without one waits for as long as it takes. What follows when it does not come: the step fails, and
-- the saga is undone; or it is skipped, and the saga goes on without.
create function saga.wait_step(s saga.draft_step) returns jsonb
language plpgsql stable set search_path = pg_catalog, pg_temp
as $$
declare
    what text := format('step "%s"', s.name);
begin
    if num_nonnulls(s.action, s.undo, s.input, s.undo_input, s.retry, s.undo_retry, s.child) > 0 or s.undo_on_fail
       or coalesce(s.kind, 'read_only') <> 'read_only' then
        perform saga.refuse('SG312', format('%s waits for a %s, and has what only a command has', what, s.via),
                            'A wait step has a name, via, after, timeout and conditions.');
    elsif s.on_timeout is not null and (s.via <> 'signal' or s.timeout is null) then
        perform saga.refuse('SG312', format('%s says what follows a timeout, and is no signal that has one', what),
                            'on_timeout is for via => ''signal'' with a timeout.');
    elsif s.on_timeout not in ('fail', 'skip') then
        perform saga.refuse('SG312', format('%s: there is no on_timeout "%s"', what, s.on_timeout),
                            'It is fail, which undoes the saga, or skip, which goes on without the signal.');
    elsif s.via = 'timer' and s.timeout is null then
        perform saga.refuse('SG312', format('%s is a timer without a length', what), 'Say it with timeout => ''10 min''.');
    end if;
    return jsonb_build_array(jsonb_build_object(
        'name', s.name, 'action', null, 'undo', null, 'participant', null, 'kind', 'read_only', 'via', s.via,
        'after', to_jsonb(array(select distinct a from unnest(s.after) a order by a)),
        'timeout_ms', saga.milliseconds(what || ': timeout', s.timeout, '10 ms', '366 days'),
        'retry', saga.default_policy('action'), 'undo_retry', saga.default_policy('undo'), 'undo_on_fail', false,
        'input', null, 'undo_input', null, 'run_if', s.run_if, 'skip_if', s.skip_if,
        'on_timeout', case when s.via = 'signal' and s.timeout is not null then coalesce(s.on_timeout, 'fail') end));
end
$$;

-- A step that is a saga: the version of `child` that is the current one now. Its timeout is its own (saga.define); that of the step says how
-- often it is reminded of its answer, which matters only when a message was lost.
create function saga.child_step(s saga.draft_step) returns jsonb
language plpgsql stable set search_path = pg_catalog, pg_temp
as $$
declare
    what   text := format('step "%s"', s.name);
    kind   text := coalesce(s.kind, 'compensable');
    child  saga.definition;
    steady text;
begin
    if s.child is null then
        perform saga.refuse('SG312', format('%s is a child saga and does not say which', what), 'Name its definition: child => ''payment''.');
    elsif num_nonnulls(s.action, s.undo, s.undo_input, s.timeout, s.undo_retry, s.on_timeout) > 0 or s.undo_on_fail
          or s.retry is not null and kind <> 'retriable' then
        perform saga.refuse('SG312', format('%s is a child saga, and has what only a command has', what),
                            'It has a name, via, child, kind, after, input and conditions; if it is retriable, retry. Its timeout is its own definition''s.');
    elsif kind not in ('compensable', 'pivot', 'retriable') then
        perform saga.refuse('SG312', format('%s: a child saga is not %s', what, kind), 'It is compensable, pivot or retriable.');
    end if;
    select d.* into child from saga.definition d where d.name = s.child and d.current;
    if not found then
        perform saga.refuse('SG306', format('%s: there is no published definition "%s" (rule 6)', what, s.child), 'Publish the child first.');
    end if;
    select p.step ->> 'name' into steady from jsonb_array_elements(child.plan -> 'steps') p (step)
    where p.step ->> 'kind' in ('pivot', 'retriable') limit 1;
    if kind = 'compensable' and steady is not null then
        perform saga.refuse('SG306', format('%s is compensable, and its child saga "%s" has a step that cannot be undone, "%s" (rule 6)', what, s.child, steady),
                            'Make the step the pivot, or retriable behind it; or make a child of compensable and read_only steps.');
    end if;
    return jsonb_build_array(jsonb_build_object(
        'name', s.name, 'action', null, 'undo', null, 'participant', null, 'kind', kind, 'via', 'saga', 'child', s.child,
        'child_version', child.version, 'after', to_jsonb(array(select distinct a from unnest(s.after) a order by a)), 'timeout_ms', 300000,
        'retry', saga.complete_policy(s.retry, saga.default_policy(case kind when 'retriable' then 'retriable' else 'action' end), what || ', retry'),
        'undo_retry', saga.default_policy('undo'), 'undo_on_fail', false, 'input', s.input, 'undo_input', null, 'run_if', s.run_if,
        'skip_if', s.skip_if));
end
$$;

-- A condition is a pattern: {"input": ..., "steps": {name: ...}}, either or both. Which steps it may read: check_condition_steps.
create function saga.check_condition(what text, pattern jsonb) returns void
language plpgsql immutable set search_path = pg_catalog, pg_temp
as $$
declare
    member text;
begin
    if pattern is null then
        return;
    elsif jsonb_typeof(pattern) <> 'object' or pattern = '{}' then
        perform saga.refuse('SG316', format('%s is %s, no pattern', what, left(pattern::text, 100)),
                            'A pattern has the shape of the data: {"input": {"express": true}}, {"steps": {"check": {"risk": "high"}}}, or both.');
    elsif octet_length(pattern::text) > 65536 then
        perform saga.refuse('SG316', format('%s has %s bytes, allowed are 65536', what, octet_length(pattern::text)), 'Make it smaller.');
    end if;
    for member in select m from jsonb_object_keys(pattern) m order by m loop
        if member not in ('input', 'steps') then
            perform saga.refuse('SG316', format('%s has the member "%s"', what, member),
                                'A pattern has the shape of the data, not of paths: {"input": {"express": true}}, {"steps": {"check": {"risk": "high"}}}.');
        end if;
    end loop;
    if pattern -> 'steps' is not null and (jsonb_typeof(pattern -> 'steps') <> 'object' or pattern -> 'steps' = '{}') then
        perform saga.refuse('SG316', format('%s: its "steps" names no step', what), 'Write {"steps": {name: pattern of its output}}.');
    end if;
end
$$;

-- Conditions read what has ended before. Raises SG307.
create function saga.check_condition_steps(step jsonb, readable text[]) returns void
language plpgsql immutable set search_path = pg_catalog, pg_temp
as $$
declare
    named record;
begin
    for named in select c.member, n.name
                 from unnest('{run_if,skip_if}'::text[]) c (member), jsonb_object_keys(step -> c.member -> 'steps') n (name)
                 order by c.member, n.name loop
        if named.name <> all (readable) then
            perform saga.refuse('SG307', format('step "%s", %s: it reads step "%s", which need not have ended before (rule 7)', step ->> 'name',
                                                named.member, named.name),
                                format('Name "%s" in `after`, there or in a step between.', named.name));
        end if;
    end loop;
end
$$;

create function saga.participant_of(action text) returns text
language sql immutable
as $$ select pg_catalog.regexp_replace(action, E'\\.[^.]*$', '') $$;

create function saga.check_action(what text, which text, action text) returns void
language plpgsql immutable set search_path = pg_catalog, pg_temp
as $$
begin
    if action is null or action !~ E'^[a-z][a-z0-9_]*\\.[a-z][a-z0-9_]*$' or octet_length(action) > 127 then
        perform saga.refuse('SG300', format('%s: its %s %s is no action', what, which, coalesce('"' || action || '"', 'null')),
                            'An action is <participant>.<verb>, each of small letters, digits and _, at most 127 bytes.');
    end if;
end
$$;

-- The steps in an order in which every step comes after those in its `after`, else as they were defined; `after` as indexes, templates
-- compiled. Raises SG307, SG314.
create function saga.plan_steps(steps jsonb, closed bigint[]) returns jsonb
language plpgsql stable set search_path = pg_catalog, pg_temp
as $$
declare
    count   integer := cardinality(closed);
    sorted  integer[] := array(select i from generate_series(1, count) i order by saga.depth(closed, i), i);
    index   jsonb := (select jsonb_object_agg(steps -> (i - 1) ->> 'name', place - 1) from unnest(sorted) with ordinality u (i, place));
    planned jsonb := '[]';
    skippable text[] := array(select s ->> 'name' from jsonb_array_elements(steps) s where saga.is_conditional(s) or s ->> 'on_timeout' = 'skip');
    step    jsonb;
    before  text[];
    i       integer;
begin
    foreach i in array sorted loop
        step := steps -> (i - 1);
        before := array(select steps -> (j - 1) ->> 'name' from generate_series(1, count) j
                        where closed[i] & (1::bigint << (j - 1)) <> 0);
        perform saga.check_condition_steps(step, before);
        planned := planned || jsonb_build_array(step || jsonb_build_object(
            'after', (select coalesce(jsonb_agg(index -> a.name order by index -> a.name), '[]')
                      from jsonb_array_elements_text(step -> 'after') a (name)),
            'input', saga.compile_input(step, 'input', before, skippable),
            -- what was skipped is not undone: its undo finds its own output
            'undo_input', saga.compile_input(step, 'undo_input', before || (step ->> 'name'), array_remove(skippable, step ->> 'name')))
            || case when step ? 'for_each' then jsonb_build_object('for_each', saga.compile_input(step, 'for_each', before, skippable)) else '{}' end);
    end loop;
    return planned;
end
$$;

-- How many steps come before one: less for every step that comes before it.
create function saga.depth(closed bigint[], i integer) returns bigint
language sql immutable
as $$
    select count(*) from generate_series(1, cardinality(closed)) j where closed[i] & (1::bigint << (j - 1)) <> 0
$$;

create function saga.is_conditional(step jsonb) returns boolean
language sql immutable
as $$ select step ->> 'run_if' is not null or step ->> 'skip_if' is not null $$;

create function saga.compile_input(step jsonb, member text, readable text[], skippable text[]) returns jsonb
language plpgsql stable set search_path = pg_catalog, pg_temp
as $$
declare
    why  text;
    hint text;
    code text;
begin
    return saga.compile_template(nullif(step -> member, 'null'), readable, skippable, step ? 'for_each' and member <> 'for_each');
exception when sqlstate 'SG307' or sqlstate 'SG314' then
    get stacked diagnostics why = message_text, hint = pg_exception_hint, code = returned_sqlstate;
    perform saga.refuse(code, format('step "%s", %s: %s%s', step ->> 'name', member, why, case code when 'SG307' then ' (rule 7)' else '' end),
                        hint);
end
$$;

-- JSON inside a quoted label, of a length that a picture bears.
create function saga.mermaid_text(given text) returns text
language sql immutable
as $$
    select replace(replace(replace(case when length(given) > 60 then left(given, 57) || '...' else given end, '"', '#quot;'), '<', '#lt;'),
                   '>', '#gt;')
$$;

-- For people: the steps, what comes after what, on which condition, and how each is undone.
create function saga.mermaid(definition text, planned jsonb) returns text
language sql immutable
as $$
    select 'flowchart TD' || chr(10) || string_agg(line, chr(10) order by part, ordinal, line)
    from (
        select 1 as part, s.ordinal, '    ' || (s.step ->> 'name') || case
                   when s.step ->> 'via' = 'saga' then format('[["%s<br/>saga %s, version %s%s"]]', s.step ->> 'name', s.step ->> 'child',
                        s.step ->> 'child_version', c.condition)
                   when s.step ->> 'via' <> 'command' then format('(["%s<br/>%s%s%s"])', s.step ->> 'name', s.step ->> 'via',
                        coalesce(' ' || (s.step ->> 'timeout_ms') || ' ms', ''), c.condition)
                   when s.step ->> 'kind' = 'pivot' then format('{{"%s<br/>%s%s"}}', s.step ->> 'name', s.step ->> 'action', c.condition)
                   else format('["%s<br/>%s%s"]', s.step ->> 'name', s.step ->> 'action', c.fan_out || c.condition) end
               || ':::' || (s.step ->> 'kind') as line
        from jsonb_array_elements(planned) with ordinality s (step, ordinal)
        cross join lateral (select concat('<br/>if ' || saga.mermaid_text(s.step ->> 'run_if'),
                                          '<br/>unless ' || saga.mermaid_text(s.step ->> 'skip_if')) as condition,
                                   case when s.step ? 'for_each' then '<br/>for each of ' || saga.mermaid_text(s.step #>> '{for_each,holes,0,path}')
                                        else '' end as fan_out) c
        union all
        select 2, s.ordinal, format('    %s --> %s', planned -> (b.index)::integer ->> 'name', s.step ->> 'name')
        from jsonb_array_elements(planned) with ordinality s (step, ordinal), jsonb_array_elements(s.step -> 'after') b (index)
        union all
        select 3, s.ordinal, format('    %s -. undo .-> %s_undo("%s")', s.step ->> 'name', s.step ->> 'name', s.step ->> 'undo')
        from jsonb_array_elements(planned) with ordinality s (step, ordinal)
        where s.step ->> 'undo' is not null
        union all
        select 4, 0, '    classDef pivot stroke-width:3px' where planned @> '[{"kind": "pivot"}]'
    ) lines
$$;

create function saga.publish(definition text, out version integer, out graph text)
language plpgsql security definer set search_path = pg_catalog, pg_temp
as $$
#variable_conflict use_column
declare
    draft   saga.draft;
    latest  saga.definition;
    content jsonb;
    planned jsonb;
    frozen  integer;
begin
    select d.* into draft from saga.draft d where d.definition = publish.definition for update;
    if not found then
        perform saga.refuse('SG310', format('there is no draft of "%s"', publish.definition),
                            format('Begin with saga.define(%L).', publish.definition));
    end if;
    content := jsonb_build_object('timeout_ms', (extract(epoch from draft.timeout) * 1000)::bigint, 'events', draft.events,
                                  'steps', saga.draft_steps(publish.definition));
    select d.* into latest from saga.definition d where d.name = publish.definition and d.current;
    if latest.content = content then
        version := latest.version;
        graph := latest.graph;
    else
        planned := saga.plan_steps(content -> 'steps', saga.check_shape(content -> 'steps'));
        if octet_length(planned::text) > 1000000 then
            perform saga.refuse('SG312', format('the plan of "%s" has %s bytes, allowed are 1000000', publish.definition,
                                                octet_length(planned::text)), 'Make its inputs smaller.');
        end if;
        version := coalesce((select max(d.version) from saga.definition d where d.name = publish.definition), 0) + 1;
        graph := saga.mermaid(publish.definition, planned);
        update saga.definition d set current = false where d.id = latest.id;
        insert into saga.definition (name, version, content, plan, start_steps, graph, timeout_us, root_steps, root_timeout_us,
                                     root_conditions, current)
        select publish.definition, publish.version, content,
               jsonb_build_object('definition', publish.definition, 'version', publish.version, 'timeout_ms', content -> 'timeout_ms',
                                  'events', draft.events, 'steps', planned),
               jsonb_agg(case when not s.is_root or s.is_child then '{"s": "WAITING", "r": 0, "u": 0, "a": 0}'
                              when s.is_sent then '{"s": "SENT", "r": 1, "u": 0, "a": 1}'
                              else '{"s": "PARKED", "r": 0, "u": 0, "a": 0}' end::jsonb order by s.index),
               publish.graph, (content ->> 'timeout_ms')::bigint * 1000,
               array_agg(s.index order by s.index) filter (where s.is_root),
               array_agg(case when not s.is_child then s.timeout_us end order by s.index) filter (where s.is_root),
               bool_or(s.is_root and (s.is_conditional or s.is_child)), true
        from (select (p.ordinal - 1)::integer as index, p.step -> 'after' = '[]' as is_root, p.step ->> 'via' = 'command' as is_sent,
                     (p.step ->> 'timeout_ms')::bigint * 1000 as timeout_us, saga.is_conditional(p.step) as is_conditional,
                     p.step ->> 'via' in ('saga', 'lock') or p.step ? 'for_each' as is_child -- a worker begins with it
              from jsonb_array_elements(planned) with ordinality p (step, ordinal)) s
        returning id into frozen;
        insert into saga.definition_step (definition_id, step, name, kind, via, action, undo, undo_on_fail, input, undo_input, run_if,
                                          skip_if, for_each, for_each_max, child_id)
        select frozen, s.ordinal - 1, s.step ->> 'name', s.step ->> 'kind', s.step ->> 'via', s.step ->> 'action', s.step ->> 'undo',
               (s.step -> 'undo_on_fail')::boolean, nullif(s.step -> 'input', 'null'), nullif(s.step -> 'undo_input', 'null'),
               nullif(s.step -> 'run_if', 'null'), nullif(s.step -> 'skip_if', 'null'), s.step -> 'for_each', (s.step ->> 'for_each_max')::integer,
               (select c.id from saga.definition c where c.name = s.step ->> 'child' and c.version = (s.step ->> 'child_version')::integer)
        from jsonb_array_elements(planned) with ordinality s (step, ordinal);
    end if;
    update saga.draft d set published = publish.version where d.definition = publish.definition;
end
$$;
comment on function saga.publish is 'Checks a draft and freezes it as the definition''s next version, unless it is what the current version says.';

-- Running sagas rest on what was published.
create function saga.keep_definition() returns trigger
language plpgsql set search_path = pg_catalog, pg_temp
as $$
begin
    if tg_op = 'UPDATE' and to_jsonb(new) - 'current' = to_jsonb(old) - 'current' then
        return new; -- another version became the current one
    end if;
    raise exception 'version % of "%" is published and does not change', old.version, old.name using errcode = 'SG315',
        hint = 'Define it anew and publish that as the next version.';
end
$$;
create trigger definition_is_immutable before update or delete on saga.definition
    for each row execute function saga.keep_definition();
create function saga.keep_definition_step() returns trigger
language plpgsql set search_path = pg_catalog, pg_temp
as $$
begin
    raise exception 'the steps of a published version do not change' using errcode = 'SG315';
end
$$;
create trigger definition_step_is_immutable before update or delete on saga.definition_step
    for each row execute function saga.keep_definition_step();
