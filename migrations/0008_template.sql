-- part: saga
-- Inputs: templates are compiled when a definition is published, and filled from the saga's data when a command is sent.
--
-- A template is JSON in which
--     "$.input.sku", "$.steps.reserve.id"          is replaced by what the path finds
--     {"$path": "$.input.note", "default": "none"}  the same, with what to take when it finds nothing
--     "$$5"                                         is the text "$5" (also in names of members)
-- Compiled: {"shape": "flat" | "whole" | "deep", "base": the template with null where a path stands,
--            "holes": [{"at": [where], "key": the only member of `at`, "step": null (the saga's input) | whose output,
--                       "find": jsonpath, "path": as written, "default"?}, ...]}
--     flat: an object, every hole a member of it. whole: the template is one path. deep: anything else.

-- The paths of a template and where they stand.
create function saga.template_holes(node jsonb, at text[])
returns table (hole_at text[], path text, fallback jsonb)
language plpgsql immutable set search_path = pg_catalog, pg_temp
as $body$
#variable_conflict use_column
declare
    child record;
begin
    if cardinality(at) > 32 then
        raise exception 'it is nested deeper than 32 levels' using errcode = 'SG314';
    end if;
    if jsonb_typeof(node) = 'string' and left(node #>> '{}', 1) = '$' and left(node #>> '{}', 2) <> '$$' then
        return query select at, node #>> '{}', null::jsonb;
    elsif jsonb_typeof(node) = 'object' and node ? '$path' then
        if jsonb_typeof(node -> '$path') <> 'string' or node - '$path' - 'default' <> '{}' then
            raise exception 'an object with "$path" has a text there, perhaps "default", and nothing else' using errcode = 'SG314';
        end if;
        return query select at, node ->> '$path', node -> 'default';
    elsif jsonb_typeof(node) = 'object' then
        for child in select e.key, e.value from jsonb_each(node) e loop
            if left(child.key, 1) = '$' and left(child.key, 2) <> '$$' then
                raise exception 'the member "%" begins with $', child.key using errcode = 'SG314',
                    hint = 'Write $$ for a $ at the beginning of a name.';
            end if;
            return query select * from saga.template_holes(child.value, at || saga.unescape(child.key));
        end loop;
    elsif jsonb_typeof(node) = 'array' then
        for child in select (e.place - 1)::text as key, e.value from jsonb_array_elements(node) with ordinality e (value, place) loop
            return query select * from saga.template_holes(child.value, at || child.key);
        end loop;
    end if;
end
$body$;

create function saga.unescape(text text) returns text
language sql immutable
as $body$ select case when pg_catalog.left(text, 2) = '$$' then pg_catalog.substr(text, 2) else text end $body$;

-- The template without its paths.
create function saga.template_base(node jsonb) returns jsonb
language plpgsql immutable set search_path = pg_catalog, pg_temp
as $body$
begin
    return case jsonb_typeof(node)
        when 'string' then case when saga.is_path(node) then 'null' else to_jsonb(saga.unescape(node #>> '{}')) end
        when 'object' then case when node ? '$path' then 'null' else
            (select coalesce(jsonb_object_agg(saga.unescape(e.key), saga.template_base(e.value)), '{}') from jsonb_each(node) e) end
        when 'array' then
            (select coalesce(jsonb_agg(saga.template_base(e.value) order by e.place), '[]')
             from jsonb_array_elements(node) with ordinality e (value, place))
        else node end;
end
$body$;

create function saga.is_path(node jsonb) returns boolean
language sql immutable
as $body$ select pg_catalog.left(node #>> '{}', 1) = '$' and pg_catalog.left(node #>> '{}', 2) <> '$$' $body$;

-- Compiles a template. readable: the steps that have ended when it is filled; skippable: those of them that may have no output, being
-- skipped, so that what reads them needs a default. in_list: of a fan-out, which reads $.item and $.index too, as outputs of steps "$item" and "$index".
create function saga.compile_template(template jsonb, readable text[], skippable text[] default '{}', in_list boolean default false) returns jsonb
language plpgsql immutable set search_path = pg_catalog, pg_temp
as $body$
declare
    holes    jsonb := '[]';
    flat     boolean := jsonb_typeof(template) = 'object' and not template ? '$path';
    whole    boolean := false;
    h        record;
    segments jsonb;
    from_step text;
begin
    if template is null then
        return null;
    elsif octet_length(template::text) > 65536 then
        raise exception 'it is larger than 65536 bytes' using errcode = 'SG314';
    end if;
    for h in select t.hole_at, t.path, t.fallback from saga.template_holes(template, '{}') t loop
        segments := saga.parse_path(h.path);
        from_step := case when segments ->> 0 = 'steps' then segments ->> 1 end;
        if segments -> 0 = '"input"' then
            segments := segments - 0;
        elsif in_list and segments -> 0 in ('"item"', '"index"') then
            from_step := '$' || (segments ->> 0);
            segments := segments - 0;
        elsif segments -> 0 in ('"item"', '"index"') then
            raise exception 'the path % is for steps with for_each', h.path using errcode = 'SG307',
                hint = 'Only what is sent for each element of a list can read that element.';
        elsif from_step is null or jsonb_typeof(segments -> 1) <> 'string' then
            raise exception 'the path % reads neither $.input nor $.steps.<name>', h.path using errcode = 'SG307',
                hint = 'Begin it with $.input, or with $.steps. and the name of a step that comes before.';
        elsif from_step <> all (readable) then
            raise exception 'the path % reads step "%", which need not have ended before', h.path, from_step using errcode = 'SG307',
                hint = format('Name "%s" in `after`, there or in a step between.', from_step);
        elsif from_step = any (skippable) and h.fallback is null then
            raise exception 'the path % reads step "%", which may be skipped, and has no default', h.path, from_step using errcode = 'SG307',
                hint = format('A skipped step has no output: write {"$path": %s, "default": ...}.', to_jsonb(h.path));
        else
            segments := segments - 0 - 0;
        end if;
        flat := flat and cardinality(h.hole_at) = 1;
        whole := whole or cardinality(h.hole_at) = 0;
        holes := holes || jsonb_build_array(
            jsonb_build_object('at', to_jsonb(h.hole_at), 'key', h.hole_at[1], 'step', from_step,
                               'find', saga.path_of(segments)::text, 'path', h.path)
            || case when h.fallback is null then '{}' else jsonb_build_object('default', h.fallback) end);
    end loop;
    return jsonb_build_object('shape', case when whole then 'whole' when flat then 'flat' else 'deep' end,
                              'base', saga.template_base(template), 'holes', holes);
end
$body$;

-- What one hole is filled with; null: nothing was found and there is no default.
create function saga.find_value(hole jsonb, input jsonb, outputs jsonb) returns jsonb
language sql immutable
as $$
    select coalesce(jsonb_path_query_first(case when hole ->> 'step' is null then input else outputs -> (hole ->> 'step') end,
                                           (hole ->> 'find')::jsonpath, '{}', true), hole -> 'default')
$$;

create function saga.fill_deep(template jsonb, input jsonb, outputs jsonb) returns jsonb
language plpgsql immutable
as $$
declare
    filled jsonb := template -> 'base';
    hole   jsonb;
begin
    for hole in select h.hole from jsonb_array_elements(template -> 'holes') h (hole) loop
        filled := jsonb_set(filled, array(select jsonb_array_elements_text(hole -> 'at')),
                            coalesce(saga.find_value(hole, input, outputs), 'null'));
    end loop;
    return filled;
end
$$;

-- Fills a compiled template; no template: the saga's input. missing: the paths that find nothing. One expression that is inlined into
-- the statement around it: a batch of commands is mapped in one go (5 us for an input of three members).
create function saga.fill_template(template jsonb, input jsonb, outputs jsonb) returns table (mapped jsonb, missing text)
language sql immutable
as $$
    select case
               when template is null then input
               when f.missing is not null then null
               when template ->> 'shape' = 'flat' then (template -> 'base') || coalesce(f.found, '{}')
               when template ->> 'shape' = 'whole' then f.found -> ''
               else saga.fill_deep(template, input, outputs)
           end,
           f.missing
    from (select jsonb_object_agg(coalesce(v.key, ''), v.value) as found,
                 string_agg(v.path, ', ') filter (where v.value is null) as missing
          from (select h.hole ->> 'key' as key, h.hole ->> 'path' as path, saga.find_value(h.hole, input, outputs) as value
                from jsonb_array_elements(template -> 'holes') h (hole)
                offset 0) v) f -- OFFSET: each is looked for once
$$;

-- Does a step run? Its patterns are contained (as by @>) in {"input": the saga's input, "steps": {step: its output}}; a step that was
-- skipped, or has not ended, has no member there. STABLE, as what it calls is: declared otherwise it would not be inlined.
create function saga.runs(run_if jsonb, skip_if jsonb, input jsonb, outputs jsonb) returns boolean
language sql stable
as $$
    select (run_if is null or jsonb_build_object('input', input, 'steps', outputs) @> run_if)
           and (skip_if is null or not jsonb_build_object('input', input, 'steps', outputs) @> skip_if)
$$;

-- The same for one template; a path that finds nothing is an error.
create function saga.map_input(template jsonb, input jsonb, outputs jsonb) returns jsonb
language plpgsql immutable
as $body$
declare
    filled record;
begin
    select f.mapped, f.missing into filled from saga.fill_template(template, input, outputs) f;
    if filled.missing is not null then
        raise exception 'the path % finds nothing', filled.missing using errcode = 'SG322',
            hint = 'Give it a default: {"$path": "...", "default": ...}.';
    end if;
    return filled.mapped;
end
$body$;
