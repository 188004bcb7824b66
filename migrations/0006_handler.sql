-- part: participant
-- Handlers in SQL: saga.handle registers one, saga.fail is its business no, saga.execute_batch runs a batch of commands.

create function saga.fail(code text, message text, details jsonb default '{}') returns void
language plpgsql
as $$
begin
    raise exception using errcode = 'SG001', message = coalesce(message, code, ''),
        detail = pg_catalog.jsonb_build_object('code', coalesce(code, 'failed'), 'message', coalesce(message, ''),
                                               'details', coalesce(details, '{}'));
end
$$;
comment on function saga.fail is 'Ends a handler with a business no: its work is rolled back and the step fails with this code, message and details.';

-- Paths -------------------------------------------------------------------------------------------------------------------------

-- A text as jsonb; null when it is none.
create function saga.read_json(json text) returns jsonb
language plpgsql immutable
as $$
begin
    return json::jsonb;
exception when data_exception then
    return null;
end
$$;

-- Cuts a path into its segments, members as strings and places as numbers: $ .name ["any name"] [n]
create function saga.parse_path(path text) returns jsonb
language plpgsql immutable set search_path = pg_catalog, pg_temp
as $body$
declare
    rest     text := substr(path, 2);
    segments jsonb := '[]';
    found    text[];
begin
    if path is null or left(path, 1) <> '$' or octet_length(path) > 1000 then
        raise exception 'the path % does not begin with $, or is longer than 1000 bytes', left(path, 60) using errcode = 'SG314';
    end if;
    while rest <> '' loop
        found := regexp_match(rest, '^\.([A-Za-z_][A-Za-z0-9_]*)');
        if found is not null then
            segments := segments || to_jsonb(found[1]);
            rest := substr(rest, length(found[1]) + 2);
            continue;
        end if;
        found := regexp_match(rest, '^\[([0-9]{1,9})\]');
        if found is not null then
            segments := segments || to_jsonb(found[1]::integer);
            rest := substr(rest, length(found[1]) + 3);
            continue;
        end if;
        found := regexp_match(rest, '^\[("(?:[^"\\]|\\.)*")\]');
        if saga.read_json(found[1]) is not null then
            segments := segments || saga.read_json(found[1]);
            rest := substr(rest, length(found[1]) + 3);
            continue;
        end if;
        raise exception 'the path % cannot be read at "%"', path, left(rest, 40) using errcode = 'SG314',
            hint = 'A path is $ followed by .name, ["any name"] or [n]; a text that begins with $ and is no path is written with $$.';
    end loop;
    return segments;
end
$body$;

-- The same as jsonpath. Strict: a member is looked for in an object only, a place in an array only.
create function saga.path_of(segments jsonb) returns jsonpath
language sql immutable
as $$
    select ('strict $' || coalesce(pg_catalog.string_agg(
        case pg_catalog.jsonb_typeof(s.segment) when 'number' then '[' || s.segment::text || ']' else '.' || s.segment::text end,
        '' order by s.ordinal), ''))::jsonpath
    from pg_catalog.jsonb_array_elements(segments) with ordinality s (segment, ordinal)
$$;

-- Registration ------------------------------------------------------------------------------------------------------------------

-- A handler runs with the rights of saga-worker (or, SECURITY DEFINER, with its owner's): so only its owner may register it, and only
-- the owner of the one that is registered may replace or remove it. A trigger, so that it holds for every way into the table.
create function saga.check_handler_owner() returns trigger
language plpgsql set search_path = pg_catalog, pg_temp
as $$
declare
    touched oid[] := array[case when tg_op <> 'INSERT' then old.function end, case when tg_op <> 'DELETE' then new.function end];
    foreign_function regprocedure;
begin
    select p.oid into foreign_function from pg_proc p
    where p.oid = any (touched) and not pg_has_role(current_user, p.proowner, 'USAGE');
    if found then
        raise exception 'only the owner of % may register, replace or remove it as the handler of %', foreign_function,
            coalesce(new.action, old.action) using errcode = 'SG211';
    end if;
    return coalesce(new, old);
end
$$;
create trigger handler_owner before insert or update or delete on saga.handler
    for each row execute function saga.check_handler_owner();

-- handler: the name of a function f(jsonb) returns jsonb, found by the session's search_path, which is remembered; null: none any more.
-- lock: a path into the input; commands of a batch run in its order, so that two workers never lock the same rows the other way round.
create function saga.handle(action text, handler text, lock text default null) returns void
language plpgsql -- the caller's search_path is what finds the handler: every name below is qualified
as $$
#variable_conflict use_column
declare
    target regprocedure := pg_catalog.to_regprocedure(handler operator(pg_catalog.||) '(jsonb)');
    path   pg_catalog.jsonpath;
begin
    if action is null or action operator(pg_catalog.!~) '^[a-z][a-z0-9_]*\.[a-z][a-z0-9_]*$'
       or pg_catalog.octet_length(action) operator(pg_catalog.>) 127 then
        raise exception 'saga.handle: "%" is no action', action using errcode = 'SG212',
            hint = 'An action is <participant>.<verb>, in small letters, digits and _.';
    end if;
    if handler is null then
        delete from saga.handler h where h.action operator(pg_catalog.=) handle.action;
        return;
    end if;
    if target is null then
        raise exception 'saga.handle: there is no function %(jsonb)', handler using errcode = 'SG212',
            hint = 'A handler is f(input jsonb) returns jsonb.';
    end if;
    if exists (select from pg_catalog.pg_proc p where p.oid operator(pg_catalog.=) target::pg_catalog.oid
               and (p.prorettype operator(pg_catalog.<>) 'pg_catalog.jsonb'::pg_catalog.regtype::pg_catalog.oid
                    or p.proretset or p.prokind operator(pg_catalog.<>) 'f')) then
        raise exception 'saga.handle: % does not return one jsonb', target using errcode = 'SG212',
            hint = 'A handler is f(input jsonb) returns jsonb.';
    end if;
    if lock is not null then
        path := saga.path_of(saga.parse_path(lock));
    end if;
    insert into saga.handler as h (action, function, lock, search_path)
    values (handle.action, target, path, pg_catalog.current_setting('search_path'))
    on conflict (action) do update
        set function = excluded.function, lock = excluded.lock, search_path = excluded.search_path,
            registered_by = excluded.registered_by, registered_at = excluded.registered_at;
end
$$;
comment on function saga.handle is 'Registers f(input jsonb) returns jsonb as the handler of an action.';

-- Batches -----------------------------------------------------------------------------------------------------------------------

-- What becomes of a command whose handler raised this SQLSTATE.
create function saga.classify(state text) returns text
language sql immutable
as $$
    select case when state = 'SG001' then 'failed'
                when left(state, 2) in ('40', '53', '08') or state in ('55P03', '57014') or state like '57P0_' then 'transient'
                else 'error' end
$$;

-- The statement that puts initially deferred constraints back to deferred after SET CONSTRAINTS ALL IMMEDIATE; null: there are none.
-- Our own do not matter in a batch.
create function saga.deferring_statement() returns text
language sql stable
as $$
    select 'set constraints ' || string_agg(distinct format('%I.%I', n.nspname, c.conname), ', ') || ' deferred'
    from pg_constraint c join pg_namespace n on n.oid = c.connamespace
    where c.condeferred and n.nspname <> 'saga'
      -- SET CONSTRAINTS by name means all of that name, and fails when one of them cannot be deferred.
      and not exists (select from pg_constraint o where o.connamespace = c.connamespace and o.conname = c.conname and not o.condeferrable)
$$;

-- Runs one command of a batch in a savepoint. Everything it changes is undone when the handler raises; what is written after that (a
-- failure's outcome) is not.
create function saga.execute_one(command jsonb, who saga.identity, call text, handler_path text, alone boolean,
                                 out verdict text, out reply jsonb, out error text)
language plpgsql volatile
as $$
declare
    input   jsonb := command -> 'input';
    output  jsonb;
    ignored text;
    state   text;
    detail  text;
    hint    text;
    context text;
    why     jsonb;
begin
    -- An action is tried at once: that its outcome stands already is rare, and writing the outcome finds it.
    verdict := 'execute';
    if who.operation <> 'action' then
        select m.verdict, m.input, m.reply into verdict, input, reply from saga.meet(command, who, null) m;
    end if;
    if verdict = 'execute' and call is null then
        error := 'no handler is registered for it';
        reply := saga.reply_body(command, 'transient', null,
                                 jsonb_build_object('code', 'unknown_action', 'message', error, 'details', '{}'::jsonb));
    elsif verdict = 'execute' then
        begin
            ignored := set_config('saga.id', who.saga_id::text, true) || set_config('saga.step', who.step, true)
                || set_config('saga.operation', who.operation, true)
                || set_config('saga.attempt', coalesce(command -> 'saga' ->> 'attempt', '1'), true)
                || set_config('search_path', handler_path, true);
            execute call into output using input;
            ignored := set_config('search_path', 'pg_catalog, pg_temp', true);
            set constraints all immediate;
            output := coalesce(output, '{}');
            if not saga.record(who, 'ok', output, null) then
                raise exception using errcode = 'SG299';
            end if;
            reply := saga.reply_body(command, 'ok', output, null);
            return;
        exception when query_canceled or assert_failure or others then
            get stacked diagnostics state = returned_sqlstate, error = message_text, detail = pg_exception_detail,
                hint = pg_exception_hint, context = pg_exception_context;
        end;
        if not alone and state in ('57014', '40001', '40P01') then -- the batch is cut in two: these may go away
            raise exception using errcode = state, message = error, detail = detail, hint = hint;
        end if;
        why := saga.handler_failure(state, error, detail, hint, context);
        if state = 'SG001' and saga.record(who, 'failed', null, why) then
            reply := saga.reply_body(command, 'failed', null, why);
            return;
        end if;
        -- It may have failed because it was done before.
        select m.verdict, m.reply into verdict, reply from saga.meet(command, who, null) m;
        if verdict = 'execute' then
            reply := saga.reply_body(command, saga.classify(state), null, why);
            return;
        end if;
        error := null;
    end if;
    if reply is null then -- resume, in_doubt: begun by a program that is not here
        error := 'it was begun outside the database, and only what began it can say more';
        reply := saga.reply_body(command, case verdict when 'in_doubt' then 'in_doubt' else 'transient' end, null,
                                 jsonb_build_object('code', verdict, 'message', error, 'details', '{}'::jsonb));
    end if;
end
$$;

-- {"code", "message", "details"} of what a handler raised.
create function saga.handler_failure(state text, message text, detail text, hint text, context text) returns jsonb
language plpgsql immutable
as $$
begin
    if state = 'SG001' and jsonb_typeof(saga.read_json(detail)) = 'object' then
        return saga.failure(saga.read_json(detail), 'failed');
    elsif state = 'SG001' then
        return jsonb_build_object('code', 'failed', 'message', message, 'details', '{}'::jsonb);
    end if;
    return jsonb_build_object('code', state, 'message', message, 'details', jsonb_strip_nulls(jsonb_build_object(
        'detail', nullif(detail, ''), 'hint', nullif(hint, ''), 'context', nullif(left(context, 1000), ''))));
end
$$;

-- Runs a batch of commands, each in a savepoint of its own, and queues their replies. For saga-worker, in one transaction.
--   actions   the routing keys, where they are not in the commands ("saga"."action")
--   ordinal   of the command, from 1
--   verdict   execute, repeated, fenced, expired, resume, in_doubt (saga.meet), or unreadable
--   outcome   of the reply that was queued; null: none was (unreadable)
--   error     what went wrong
-- What a batch of several cannot answer is raised: 57014, 40001, 40P01. The worker cuts it in two; alone, it is answered transient.
-- SECURITY INVOKER: handlers run with the rights of who calls this.
create function saga.execute_batch(commands jsonb[], actions text[] default null)
returns table (ordinal integer, verdict text, outcome text, error text)
language plpgsql volatile set search_path = pg_catalog, pg_temp
as $$
#variable_conflict use_variable
declare
    horizon  uuid := saga.lock_outcomes();
    alone    boolean := cardinality(commands) = 1;
    deferring text;
    replies  jsonb[] := '{}';
    reply    jsonb;
    who      saga.identity;
    c        record;
begin
    perform saga.require_read_committed();
    if not alone then
        deferring := saga.deferring_statement();
    end if;
    for c in
        select u.place::integer as place, u.command, saga.command_problem(u.command) as problem, h.search_path,
               'select ' || nullif(h.function::oid::regproc::text, h.function::oid::text) || '($1)' as call
        from unnest(commands, actions) with ordinality u (command, action, place)
        left join saga.handler h on h.action = coalesce(u.action, u.command -> 'saga' ->> 'action')
        order by jsonb_path_query_first(u.command -> 'input', h.lock, '{}', true)::text collate "C" nulls first,
                 u.command -> 'saga' ->> 'id' collate "C", u.command -> 'saga' ->> 'step' collate "C"
    loop
        ordinal := c.place;
        error := null;
        outcome := null;
        if c.problem is not null or c.command is null then
            verdict := 'unreadable';
            error := coalesce(c.problem, 'it is null');
            return next;
            continue;
        end if;
        who := saga.identify(c.command);
        if who.saga_id < horizon then
            verdict := 'expired';
            reply := saga.expired_reply(c.command);
        else
            select e.verdict, e.reply, e.error into verdict, reply, error
            from saga.execute_one(c.command, who, c.call, c.search_path, alone) e;
            if deferring is not null then
                execute deferring;
            end if;
        end if;
        outcome := reply ->> 'outcome';
        replies := replies || reply;
        return next;
    end loop;
    perform saga.queue_replies(replies);
end
$$;
comment on function saga.execute_batch is 'Runs a batch of commands by their SQL handlers and queues the replies; for saga-worker.';

-- Rights ------------------------------------------------------------------------------------------------------------------------

revoke all on all functions in schema saga from public;

-- Programs of any language: their two functions do the rest with the owner's rights.
grant execute on function saga.receive(jsonb, boolean), saga.reply(jsonb, text, jsonb), saga.fail(text, text, jsonb)
    to sagapost_participant, sagapost_worker;

-- Who registers handlers: a handler that is not SECURITY DEFINER runs with the rights of saga-worker, so this role is one to trust.
grant execute on function saga.handle(text, text, text), saga.parse_path(text), saga.read_json(text), saga.path_of(jsonb),
                          saga.fail(text, text, jsonb) to sagapost_definer;
grant select, insert, update, delete on saga.handler to sagapost_definer;

-- saga-worker, executing. Handlers run with its rights, so the functions under execute_batch do too, and it needs the tables itself.
grant execute on function
    saga.execute_batch(jsonb[], text[]), saga.execute_one(jsonb, saga.identity, text, text, boolean), saga.deferring_statement(),
    saga.command_problem(jsonb), saga.identify(jsonb), saga.require_read_committed(), saga.queue_replies(jsonb[]),
    saga.reply_body(jsonb, text, jsonb, jsonb), saga.expired_reply(jsonb), saga.standing_reply(jsonb, saga.outcome),
    saga.record(saga.identity, text, jsonb, jsonb), saga.find_outcome(saga.identity, text), saga.meet(jsonb, saga.identity, text),
    saga.undo_input(jsonb, jsonb), saga.lock_outcomes(), saga.maintain_outcomes(interval, integer), saga.classify(text),
    saga.handler_failure(text, text, text, text, text), saga.failure(jsonb, text), saga.read_json(text)
    to sagapost_worker;
grant select, insert, update on saga.outcome to sagapost_worker;
grant select on saga.outcome_horizon, saga.handler to sagapost_worker;

grant select on saga.handler, saga.outcome, saga.outcome_horizon to sagapost_operator;
grant select on saga.handler to sagapost_reader;
