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
create function saga.read_json(given text) returns jsonb
language plpgsql immutable
as $$
begin
    return given::jsonb;
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
        raise exception 'the path % does not begin with $, or is longer than 1000 bytes', left(path, 60) using errcode = 'SG314',
            hint = 'A path is $ followed by .name, ["any name"] or [n]: $.sku.';
    end if;
    while rest <> '' loop
        found := regexp_match(rest, E'^\\.([A-Za-z_][A-Za-z0-9_]*)');
        if found is not null then
            segments := segments || to_jsonb(found[1]);
            rest := substr(rest, length(found[1]) + 2);
            continue;
        end if;
        found := regexp_match(rest, E'^\\[([0-9]{1,9})\\]');
        if found is not null then
            segments := segments || to_jsonb(found[1]::integer);
            rest := substr(rest, length(found[1]) + 3);
            continue;
        end if;
        found := regexp_match(rest, E'^\\[("(?:[^"\\\\]|\\\\.)*")\\]');
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
    touched text[] := array[case when tg_op <> 'INSERT' then old.function end, case when tg_op <> 'DELETE' then new.function end];
    foreign_function regprocedure;
begin
    select p.oid into foreign_function from unnest(touched) t (function) join pg_proc p on p.oid = to_regprocedure(t.function)
    where not pg_has_role(current_user, p.proowner, 'USAGE');
    if found then
        raise exception 'only the owner of % may register, replace or remove it as the handler of %', foreign_function,
            coalesce(new.action, old.action) using errcode = 'SG211';
    end if;
    return coalesce(new, old);
end
$$;
create trigger handler_owner before insert or update or delete on saga.handler
    for each row execute function saga.check_handler_owner();

-- saga-worker listens, and serves a new action at once.
create function saga.tell_handlers() returns trigger
language plpgsql set search_path = pg_catalog, pg_temp
as $$
begin
    perform pg_notify('saga_handler', '');
    return null;
end
$$;
create trigger handler_changed after insert or update or delete on saga.handler
    for each statement execute function saga.tell_handlers();

-- handler: the name of a function f(jsonb) returns jsonb, found by the session's search_path, which is remembered; null: none any more.
-- lock: a path into the input; commands of a batch run in its order, so that two workers never lock the same rows the other way round.
create function saga.handle(action text, handler text, lock text default null) returns void
language plpgsql -- the caller's search_path is what finds the handler: every name below is qualified
as $$
#variable_conflict use_column
declare
    target regprocedure;
    path   pg_catalog.jsonpath;
begin
    if action is null or action operator(pg_catalog.!~) E'^[a-z][a-z0-9_]*\\.[a-z][a-z0-9_]*$'
       or pg_catalog.octet_length(action) operator(pg_catalog.>) 127 then
        raise exception 'saga.handle: "%" is no action', action using errcode = 'SG212',
            hint = 'An action is <participant>.<verb>, in small letters, digits and _.';
    end if;
    if handler is null then
        delete from saga.handler h where h.action operator(pg_catalog.=) handle.action;
        return;
    end if;
    begin
        target := pg_catalog.to_regprocedure(handler operator(pg_catalog.||) '(jsonb)');
    exception when invalid_name or syntax_error then
        target := null;
    end;
    if target is null then
        raise exception 'saga.handle: there is no function %(jsonb)', handler using errcode = 'SG212',
            hint = 'A handler is f(input jsonb) returns jsonb. Give its name alone, with its schema: ''shop.reserve''.';
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
    select handle.action, pg_catalog.format('%I.%I(jsonb)', n.nspname, p.proname), path, pg_catalog.current_setting('search_path')
    from pg_catalog.pg_proc p join pg_catalog.pg_namespace n on n.oid operator(pg_catalog.=) p.pronamespace
    where p.oid operator(pg_catalog.=) target::pg_catalog.oid
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
language plpgsql stable
as $$
begin
    if not exists (select from pg_constraint c where c.condeferred and c.connamespace <> 'saga'::regnamespace) then
        return null;
    end if;
    return (
        select 'set constraints ' || string_agg(distinct format('%I.%I', n.nspname, c.conname), ', ') || ' deferred'
        from pg_constraint c join pg_namespace n on n.oid = c.connamespace
        where c.condeferred and n.nspname <> 'saga'
          -- SET CONSTRAINTS by name means all of that name, and fails when one of them cannot be deferred.
          and not exists (select from pg_constraint o
                          where o.connamespace = c.connamespace and o.conname = c.conname and not o.condeferrable));
end
$$;

-- How many temporary tables and the like this session has.
create function saga.temporary_objects() returns integer
language plpgsql volatile
as $$
begin
    if pg_my_temp_schema() = 0 then
        return 0;
    end if;
    return (select count(*) from pg_depend d where d.refclassid = 'pg_namespace'::regclass and d.refobjid = pg_my_temp_schema());
end
$$;

-- What a handler may leave changed behind it and what would then hold for every command after it: a SET outlasts its function, and a session that is read
-- only, SERIALIZABLE, or in another encoding carries out nothing any more. So it is compared and put back after each command.
create function saga.session_settings() returns text[]
language plpgsql stable
as $$
begin
    return array[current_setting('TimeZone'), current_setting('DateStyle'), current_setting('IntervalStyle'), current_setting('client_encoding'),
                 current_setting('standard_conforming_strings'), current_setting('default_transaction_isolation'),
                 current_setting('default_transaction_read_only'), current_setting('session_replication_role'),
                 current_setting('row_security'), current_setting('synchronous_commit'), current_setting('statement_timeout'),
                 current_setting('lock_timeout'), current_setting('idle_in_transaction_session_timeout')];
end
$$;
create function saga.restore_settings(wanted text[]) returns void
language plpgsql volatile
as $$
declare
    ignored text;
begin
    select string_agg(set_config(s.name, s.wanted, false), '') into ignored
    from unnest('{TimeZone,DateStyle,IntervalStyle,client_encoding,standard_conforming_strings,default_transaction_isolation,
                  default_transaction_read_only,session_replication_role,row_security,synchronous_commit,statement_timeout,lock_timeout,
                  idle_in_transaction_session_timeout}'::text[], wanted) s (name, wanted) -- in the order above
    where current_setting(s.name) <> s.wanted;
end
$$;

-- A command of a batch, read and looked up.
create type saga.batch_command as (
    ordinal integer, command jsonb, problem text, who saga.identity,
    call text,         -- the statement that calls the handler; null: there is none
    search_path text,  -- to call it with; null: it sets its own
    stands boolean,    -- an outcome may stand for it already
    turn integer       -- of several commands to one step, which comes first, second, ...
);

-- Reads a batch and puts it into the order in which it is to run: by the value of the handler's `lock`, so that two workers lock the same
-- rows in the same order. Commands to one step (repeated, or its action and its undo) take turns: the later sees what the earlier wrote.
-- The least and the greatest saga are known before the look into saga.outcome begins, so that it opens the partitions between them and no others:
-- opening all 38 that there are after a month took a tenth of a batch of eight.
create function saga.read_batch(commands jsonb[], actions text[]) returns saga.batch_command[]
language plpgsql volatile set plan_cache_mode = force_generic_plan set enable_seqscan = off set jit = off
as $$
declare
    ids      uuid[] := array(select (u.command -> 'saga' ->> 'id')::uuid from unnest(commands) u (command)
                             where saga.is_uuid(u.command -> 'saga' ->> 'id') order by 1);
    first_id uuid := ids[1];
    last_id  uuid := ids[cardinality(ids)];
begin
    return array(
    with command as materialized (
        select u.ordinal::integer as ordinal, u.command, p.problem, coalesce(u.action, u.command -> 'saga' ->> 'action') as action,
               case when p.problem is null then
                   ((u.command -> 'saga' ->> 'id')::uuid, u.command -> 'saga' ->> 'step',
                    coalesce((u.command -> 'saga' ->> 'element')::integer, 0), u.command -> 'saga' ->> 'operation',
                    (u.command -> 'saga' ->> 'round')::integer)::saga.identity end as who
        from unnest(commands, actions) with ordinality u (command, action, ordinal)
        cross join lateral (select saga.command_problem(u.command) as problem offset 0) p -- computed once
    ), handler as materialized (
        select h.action, h.lock, case when f.id is not null then 'select ' || left(h.function, -length('(jsonb)')) || '($1)' end as call,
               case when not exists (select from pg_proc p, unnest(p.proconfig) c (setting)
                                     where p.oid = f.id and starts_with(c.setting, 'search_path=')) then h.search_path end as search_path
        from saga.handler h
        cross join lateral (select to_regprocedure(h.function)::oid as id offset 0) f -- looked up once
        where h.action = any (array(select c.action from command c))
    )
    select (c.ordinal, c.command, c.problem, c.who, h.call, h.search_path,
            c.turn > 1
            or coalesce((select o.outcome <> 'failed' or o.round >= (c.who).round from saga.outcome o
                         where o.saga_id between first_id and last_id and o.saga_id = (c.who).saga_id and o.step = (c.who).step
                           and o.element = (c.who).element and o.operation = (c.who).operation
                         limit 1), false), -- LIMIT: by the index, also when it was planned for an empty table
            c.turn)::saga.batch_command
    from (select r.*, row_number() over (partition by (r.who).saga_id, (r.who).step, (r.who).element
                                         order by (r.who).operation, (r.who).round, r.ordinal)::integer as turn
          from command r) c
    left join handler h on h.action = c.action
    order by c.turn, jsonb_path_query_first(c.command -> 'input', h.lock, '{}', true)::text collate "C" nulls first, c.who, c.ordinal);
end
$$;

-- Runs a handler in a savepoint. state: the SQLSTATE it raised, in which case nothing of what it did is left; why: the same for the reply.
create function saga.run_handler(c saga.batch_command, input jsonb, out output jsonb, out state text, out error text, out why jsonb)
language plpgsql volatile
as $$
declare
    ignored text;
    detail  text;
    hint    text;
    context text;
    role    text := current_setting('role');
begin
    begin
        ignored := set_config('saga.id', (c.who).saga_id::text, true) || set_config('saga.step', (c.who).step, true)
            || set_config('saga.element', (c.who).element::text, true) || set_config('saga.operation', (c.who).operation, true)
            || set_config('saga.attempt', coalesce(c.command -> 'saga' ->> 'attempt', '1'), true);
        if c.search_path is not null then
            ignored := set_config('search_path', c.search_path, true);
        end if;
        execute c.call into output using input;
        ignored := set_config('search_path', 'pg_catalog, pg_temp', true); -- also when the handler has one of its own: it may have done SET
        if current_setting('role') <> role then
            ignored := set_config('role', role, false);
        end if;
        set constraints all immediate;
        output := coalesce(output, '{}');
        error := saga.data_problem(output);
        if error is not null then
            raise exception 'the output %', error using errcode = 'SG207';
        end if;
    exception when query_canceled or assert_failure or others then
        get stacked diagnostics state = returned_sqlstate, error = message_text, detail = pg_exception_detail, hint = pg_exception_hint,
            context = pg_exception_context;
        output := null;
        why := saga.handler_failure(state, error, detail, hint, context);
    end;
end
$$;

-- {"code", "message", "details"} of what a handler raised.
create function saga.handler_failure(state text, message text, detail text, hint text, context text) returns jsonb
language plpgsql immutable
as $$
declare
    said    jsonb := case when state = 'SG001' then saga.read_json(detail) end;
    problem text := saga.data_problem(said);
begin
    if jsonb_typeof(said) = 'object' and problem is null then
        return saga.failure(said, 'failed');
    elsif state = 'SG001' then -- by hand, or it said too much for a message
        return jsonb_build_object('code', left(coalesce(case when jsonb_typeof(said) = 'object' then said ->> 'code' end, 'failed'), 255),
                                  'message', left(message, 4000), 'details', case when problem is null then '{}' else jsonb_build_object('omitted', problem) end);
    end if;
    return jsonb_build_object('code', state, 'message', left(message, 4000), 'details', jsonb_strip_nulls(jsonb_build_object(
        'detail', nullif(left(detail, 4000), ''), 'hint', nullif(left(hint, 4000), ''), 'context', nullif(left(context, 1000), ''))));
end
$$;

-- What became of a command of a batch.
create type saga.decision as (
    ordinal integer, verdict text, reply jsonb, error text,
    to_write saga.verdict -- null: none
);

-- Executes one command of a batch, all but writing its outcome and queueing its reply.
create function saga.execute_one(c saga.batch_command, alone boolean) returns saga.decision
language plpgsql volatile
as $$
declare
    done  saga.decision;
    input jsonb := c.command -> 'input';
    met   record;
    ran   record;
begin
    done.ordinal := c.ordinal;
    done.verdict := 'execute';
    if c.stands or (c.who).operation <> 'action' then
        met := saga.meet(c.command, c.who, null);
        done.verdict := met.verdict;
        done.reply := met.reply;
        input := met.input;
    end if;
    if done.verdict in ('resume', 'in_doubt') then -- begun by a program that is not here
        done.error := 'it was begun outside the database, and only what began it can say more';
        done.reply := saga.reply_body(c.command, case done.verdict when 'in_doubt' then 'in_doubt' else 'transient' end, null,
                                      jsonb_build_object('code', done.verdict, 'message', done.error, 'details', '{}'::jsonb));
    elsif done.verdict = 'execute' and c.call is null then
        done.error := 'no handler is registered for it';
        done.reply := saga.reply_body(c.command, 'transient', null,
                                      jsonb_build_object('code', 'unknown_action', 'message', done.error, 'details', '{}'::jsonb));
    elsif done.verdict = 'execute' then
        ran := saga.run_handler(c, input);
        done.error := ran.error;
        -- The batch is cut in two: these may go away, and an open cursor or a prepared statement of that name may be an earlier command's.
        if not alone and ran.state in ('57014', '40001', '40P01', '42P03', '42P05') then
            raise exception using errcode = ran.state, message = ran.error;
        end if;
        if ran.state is null or ran.state = 'SG001' then
            done.to_write := (c.who, case when ran.state is null then 'ok' else 'failed' end, ran.output, ran.why);
        end if;
        if ran.state is null then
            done.reply := jsonb_build_object('saga', c.command -> 'saga', 'outcome', 'ok', 'output', ran.output);
        else
            done.reply := saga.reply_body(c.command, saga.classify(ran.state), null, ran.why);
            if ran.state <> 'SG001' then -- perhaps because another worker has just done it
                met := saga.meet(c.command, c.who, null);
                if met.reply is not null then
                    done.verdict := met.verdict;
                    done.reply := met.reply;
                    done.error := null;
                end if;
            end if;
        end if;
    end if;
    return done;
end
$$;

-- Runs a batch of commands, each in a savepoint of its own, and queues their replies. For saga-worker, in one transaction.
--   actions   the routing keys, where they are not in the commands ("saga"."action")
--   ordinal   of the command, from 1
--   verdict   execute, repeated, fenced, expired, resume, in_doubt (saga.meet), or unreadable
--   outcome   of the reply that was queued; null: none was (unreadable)
--   error     what went wrong
--   code      its code: an SQLSTATE, or a word of saga.execute_one; null where error is
-- What a batch of several cannot answer is raised: 57014, 40001, 40P01, 42P03, 42P05, 55006. The worker cuts it in two; alone, it is answered.
-- SECURITY INVOKER: handlers run with the rights of who calls this.
create function saga.execute_batch(commands jsonb[], actions text[] default null)
returns table (ordinal integer, verdict text, outcome text, error text, code text)
language plpgsql volatile set search_path = pg_catalog, pg_temp -- and no other SET: the handlers would have it too
as $$
declare
    tries     integer := 0;
    decisions saga.decision[];
    done      saga.decision;
    replies   jsonb[] := '{}';
    queued    integer;
begin
    perform saga.require_read_committed();
    loop
        begin
            decisions := saga.decide_batch(commands, actions);
            exit;
        exception when sqlstate 'SG299' then
            -- Another worker decided one of them after the batch was read: what it did is seen when the batch is read again.
            tries := tries + 1;
            if tries = 3 then
                raise exception 'the outcomes of this batch are being decided elsewhere' using errcode = '40001';
            end if;
        end;
    end loop;
    foreach done in array decisions loop
        if done.reply is not null then
            replies := replies || done.reply;
        end if;
        ordinal := done.ordinal;
        verdict := done.verdict;
        outcome := done.reply ->> 'outcome';
        error := done.error;
        code := case when done.error is not null then done.reply #>> '{error,code}' end;
        return next;
    end loop;
    queued := saga.queue_replies(replies);
end
$$;
comment on function saga.execute_batch is 'Runs a batch of commands by their SQL handlers and queues the replies; for saga-worker.';

-- The outcomes are written last, all at once: whoever waits for one of them waits for nothing but this transaction's end. One that turns
-- out to stand already undoes the batch (SG299).
create function saga.decide_batch(commands jsonb[], actions text[]) returns saga.decision[]
language plpgsql volatile
as $$
declare
    horizon   uuid := saga.lock_outcomes();
    alone     boolean := cardinality(commands) = 1;
    deferring text := case when cardinality(commands) > 1 then saga.deferring_statement() end;
    temporary integer := case when cardinality(commands) > 1 then saga.temporary_objects() end;
    settings  text[] := saga.session_settings();
    decisions saga.decision[] := '{}';
    to_write  saga.verdict[] := '{}';
    done      saga.decision;
    c         saga.batch_command;
    turn      integer := 1;
    written   integer;
begin
    foreach c in array saga.read_batch(commands, actions) loop
        if c.turn > turn then
            written := saga.write_batch(to_write);
            to_write := '{}';
            turn := c.turn;
        end if;
        if c.problem is not null then
            done := (c.ordinal, 'unreadable', null, c.problem, null);
        elsif (c.who).saga_id < horizon then
            done := (c.ordinal, 'expired', saga.expired_reply(c.command), null, null);
        else
            done := saga.execute_one(c, alone);
            if (done.to_write).outcome is not null then
                to_write := to_write || done.to_write;
            end if;
            if deferring is not null then
                execute deferring;
            end if;
            if saga.session_settings() <> settings then
                perform saga.restore_settings(settings);
            end if;
            -- A batch is one transaction: with ON COMMIT DROP the next command would meet the table that this one made and, with IF NOT EXISTS, its
            -- rows. Where a cursor that was left open is in the way (55006) the batch is cut in two.
            if temporary < saga.temporary_objects() then
                discard temp;
                temporary := 0;
            end if;
        end if;
        decisions := decisions || done;
    end loop;
    written := saga.write_batch(to_write);
    return decisions;
end
$$;

create function saga.write_batch(verdicts saga.verdict[]) returns integer
language plpgsql volatile
as $$
declare
    written integer := saga.write_outcomes(verdicts);
begin
    if written <> cardinality(verdicts) then
        raise exception using errcode = 'SG299', message = 'an outcome stands already';
    end if;
    return written;
end
$$;

-- Rights ------------------------------------------------------------------------------------------------------------------------

revoke all on all functions in schema saga from public;
revoke all on type saga.identity, saga.verdict, saga.batch_command, saga.decision from public;

-- Programs of any language: their two functions do the rest with the owner's rights.
grant execute on function saga.receive(jsonb, boolean), saga.reply(jsonb, text, jsonb), saga.fail(text, text, jsonb)
    to sagapost_participant, sagapost_worker;

-- Who registers handlers: a handler that is not SECURITY DEFINER runs with the rights of saga-worker, so this role is one to trust.
grant execute on function saga.handle(text, text, text), saga.parse_path(text), saga.read_json(text), saga.path_of(jsonb),
                          saga.fail(text, text, jsonb) to sagapost_definer;
grant select, insert, update, delete on saga.handler to sagapost_definer;

-- saga-worker, executing. Handlers run with its rights, so the functions under execute_batch do too, and it needs the tables itself.
grant execute on function
    saga.execute_batch(jsonb[], text[]), saga.decide_batch(jsonb[], text[]), saga.write_batch(saga.verdict[]), saga.write_outcomes(saga.verdict[]), saga.read_batch(jsonb[], text[]),
    saga.execute_one(saga.batch_command, boolean), saga.run_handler(saga.batch_command, jsonb), saga.is_uuid(text), saga.deferring_statement(), saga.temporary_objects(), saga.session_settings(),
    saga.restore_settings(text[]),
    saga.command_problem(jsonb), saga.identify(jsonb), saga.require_read_committed(), saga.queue_replies(jsonb[]),
    saga.reply_body(jsonb, text, jsonb, jsonb), saga.expired_reply(jsonb), saga.standing_reply(jsonb, saga.outcome),
    saga.record(saga.identity, text, jsonb, jsonb), saga.find_outcome(saga.identity, text), saga.meet(jsonb, saga.identity, text), saga.meet_probe(jsonb, saga.identity, saga.outcome),
    saga.meet_undo(jsonb, saga.identity, saga.outcome), saga.fence_action(saga.identity), saga.is_final(saga.outcome, integer),
    saga.undo_input(jsonb, jsonb), saga.lock_outcomes(), saga.maintain_outcomes(interval, integer), saga.classify(text),
    saga.handler_failure(text, text, text, text, text), saga.failure(jsonb, text), saga.read_json(text), saga.data_problem(jsonb)
    to sagapost_worker;
grant select, insert, update on saga.outcome to sagapost_worker;
grant select on saga.outcome_horizon, saga.handler to sagapost_worker;

grant select on saga.handler, saga.outcome, saga.outcome_horizon to sagapost_operator;
grant select on saga.handler to sagapost_reader;
