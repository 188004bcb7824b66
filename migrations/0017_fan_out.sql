-- part: saga
-- Fan-outs: a step that is done for each element of a list (for_each => '$.input.lines'). Each element is a command of its own, with rounds,
-- attempts, timers and an undo of its own (saga/machine/elements.c); the step has succeeded when all have, and its output is the array of
-- theirs, in the order of the list. The list is read when the step's turn comes, and again for each command, from the saga's data, which does
-- not change any more.

-- The most elements that the fan-outs of a saga may have together (SAGA_ELEMENTS_MAX): the state of each is in the saga's row, which is
-- written with every answer.
create function saga.elements_max() returns integer language sql immutable as $$ select 512 $$;

-- What makes a step of a definition a fan-out, checked; {} of one that is none.
create function saga.fan_out(s saga.draft_step, kind text) returns jsonb
language plpgsql stable set search_path = pg_catalog, pg_temp
as $$
declare
    what text := format('step "%s"', s.name);
    list jsonb;
    most integer := coalesce(s.for_each_max, 100);
begin
    if s.for_each is null and num_nonnulls(s.for_each_max, s.for_each_at_once) > 0 then
        perform saga.refuse('SG312', format('%s has no for_each, and says how long its list may be', what), 'Name the list: for_each => ''$.input.lines''.');
    elsif s.for_each is null then
        return '{}';
    elsif kind = 'pivot' then
        perform saga.refuse('SG305', format('%s is a pivot and has for_each (rule 5)', what),
                            'Of a list a part may be done and a part not: fan out before the pivot, where it can be undone, or behind it, retriable.');
    elsif most not between 1 and saga.elements_max() then
        perform saga.refuse('SG312', format('%s: for_each_max is %s', what, most), format('It is a number from 1 to %s.', saga.elements_max()));
    elsif coalesce(s.for_each_at_once, 1) not between 1 and most then
        perform saga.refuse('SG312', format('%s: for_each_at_once is %s', what, s.for_each_at_once), format('It is a number from 1 to for_each_max, %s.', most));
    end if;
    begin
        list := case when s.for_each ~ E'^\\s*\\{' then s.for_each::jsonb else to_jsonb(s.for_each) end;
    exception when invalid_text_representation then
        perform saga.refuse('SG314', format('%s, for_each: %s is no JSON', what, left(s.for_each, 100)), 'Write a path, or {"$path": "...", "default": [...]}.');
    end;
    if not (case jsonb_typeof(list) when 'object' then list ? '$path' else saga.is_path(list) end) then
        perform saga.refuse('SG314', format('%s, for_each: %s is no path', what, left(s.for_each, 100)),
                            'Write where the list is: for_each => ''$.input.lines''.');
    elsif jsonb_typeof(list) = 'object' and list ? 'default' and jsonb_typeof(list -> 'default') <> 'array' then
        perform saga.refuse('SG314', format('%s, for_each: its default is no array', what), 'Write {"$path": "...", "default": []}.');
    end if;
    return jsonb_build_object('for_each', list, 'for_each_max', most, 'for_each_at_once', coalesce(s.for_each_at_once, most));
end
$$;

create function saga.check_fan_outs(steps jsonb) returns void
language plpgsql immutable set search_path = pg_catalog, pg_temp
as $$
declare
    together bigint := (select sum((s ->> 'for_each_max')::integer) from jsonb_array_elements(steps) s);
begin
    if together > saga.elements_max() then
        perform saga.refuse('SG312', format('the lists of its steps may have %s elements together, allowed are %s', together, saga.elements_max()),
                            'Say how long each may be with for_each_max (100 without it), or make a list of lists, a child saga for each.');
    end if;
end
$$;

-- The list of a fan-out: how many elements it has, or, as text, why it is none. A function, so that sending other commands pays nothing for it.
create function saga.read_list(for_each jsonb, most integer, input jsonb, outputs jsonb) returns jsonb
language plpgsql immutable set search_path = pg_catalog, pg_temp
as $$
declare
    list jsonb := saga.find_value(for_each -> 'holes' -> 0, input, outputs);
    path text := for_each #>> '{holes,0,path}';
begin
    return case
        when list is null then to_jsonb(format('the path %s finds nothing', path))
        when jsonb_typeof(list) <> 'array' then to_jsonb(format('the path %s finds no array but %s', path,
            case jsonb_typeof(list) when 'object' then 'an object' when 'null' then 'null' else 'a ' || jsonb_typeof(list) end))
        when jsonb_array_length(list) > most then to_jsonb(format('the list has %s elements, allowed are %s', jsonb_array_length(list), most))
        else to_jsonb(jsonb_array_length(list)) end;
end
$$;

-- The outputs that an element's commands read: those of the saga, with $.item and $.index, and as the step's own output its own.
create function saga.element_outputs(for_each jsonb, step text, element integer, input jsonb, outputs jsonb) returns jsonb
language sql immutable
as $$
    select outputs || jsonb_build_object('$item', saga.find_value(for_each -> 'holes' -> 0, input, outputs) -> element,
                                         '$index', element, step, outputs -> step -> element)
$$;

-- Puts the outputs of elements, [[step, element, output], ...], into their steps' arrays. Those have been made when the list was read.
create function saga.merge_elements(outputs jsonb, elements jsonb) returns jsonb
language plpgsql immutable set search_path = pg_catalog, pg_temp
as $$
declare
    merged jsonb := outputs;
    e      jsonb;
begin
    for e in select v from jsonb_array_elements(elements) v loop
        merged := jsonb_set(merged, array[e ->> 0, e ->> 1], e -> 2);
    end loop;
    return merged;
end
$$;

-- For people: every element of every fan-out, and how it stands in one word. stuck: only a person or a late answer moves it.
create view saga.elements as
select i.id as saga_id, s.name as step, (u.place - 1)::integer as element, u.status ->> 's' as state, (u.status ->> 'r')::integer as round,
       (u.status ->> 'u')::integer as undo_round, (u.status ->> 'a')::integer as attempt,
       nullif(i.outputs -> s.name -> (u.place - 1)::integer, 'null') as output, saga.timestamp_of((u.status ->> 'd')::bigint) as due_at,
       case when u.status ->> 's' in ('SUCCEEDED', 'SKIPPED') then 'done'
            when u.status ->> 's' in ('UNKNOWN', 'UNDO_STUCK') or u.status ->> 's' = 'FAILED' and s.kind = 'retriable' then 'stuck'
            when u.status ->> 's' in ('UNDONE', 'UNDO_EMPTY') then 'undone'
            when u.status ->> 's' in ('FAILED', 'CANCELLED', 'WAITING') then lower(u.status ->> 's')
            else 'in_flight' end as stands,
       s.step as place
from saga.instances i
cross join lateral jsonb_array_elements(i.steps) with ordinality e (status, place)
join saga.definition_step s on s.definition_id = i.definition_id and s.step = e.place - 1
cross join lateral jsonb_array_elements(e.status -> 'e') with ordinality u (status, place);
comment on view saga.elements is 'The elements of every step that is fanned out over a list.';

create view saga.fan_outs as
select e.saga_id, e.step, count(*) as elements, count(*) filter (where e.stands = 'done') as done, count(*) filter (where e.stands = 'in_flight') as in_flight,
       count(*) filter (where e.stands = 'waiting') as waiting, count(*) filter (where e.stands = 'failed') as failed,
       count(*) filter (where e.stands = 'stuck') as stuck, count(*) filter (where e.stands = 'undone') as undone,
       count(*) filter (where e.stands = 'cancelled') as cancelled, e.place
from saga.elements e group by e.saga_id, e.step, e.place;
comment on view saga.fan_outs is 'Every step that is fanned out over a list: how many of its elements stand how.';

revoke all on function
    saga.elements_max(), saga.fan_out(saga.draft_step, text), saga.check_fan_outs(jsonb), saga.read_list(jsonb, integer, jsonb, jsonb),
    saga.element_outputs(jsonb, text, integer, jsonb, jsonb), saga.merge_elements(jsonb, jsonb)
    from public;
grant execute on function
    saga.read_list(jsonb, integer, jsonb, jsonb), saga.element_outputs(jsonb, text, integer, jsonb, jsonb), saga.merge_elements(jsonb, jsonb)
    to sagapost_worker;
grant select on saga.elements, saga.fan_outs to sagapost_operator, sagapost_reader;
