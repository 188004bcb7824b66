-- part: saga
-- What operators and services want of a running saga, and the views through which people look at sagas.

-- Intents -----------------------------------------------------------------------------------------------------------------------

-- Records what is wanted and wakes a worker; it takes no lock on the instance. The worker applies it and writes `answer` (applied or
-- refused) and `detail`. expected_revision: of saga.instances, as it was seen; another one by then: refused. Returns the intent's id;
-- null for a signal that was given before.
create function saga.intend(saga uuid, verb text, step text default null, argument jsonb default '{}', reason text default null,
                            expected_revision bigint default null) returns bigint
language plpgsql security definer set search_path = pg_catalog, pg_temp
as $$
#variable_conflict use_column
declare
    running   integer;
    intent_id bigint;
begin
    select i.definition_id into running from saga.instance i where i.id = intend.saga;
    if not found and exists (select from saga.ended e where e.id = intend.saga) then
        raise exception 'saga % has ended', intend.saga using errcode = 'SG402';
    elsif running is null then
        raise exception 'there is no saga %', coalesce(intend.saga::text, 'null') using errcode = 'SG401';
    elsif octet_length(intend.reason) > 400 then
        raise exception 'the reason has % bytes, allowed are 400', octet_length(intend.reason) using errcode = 'SG403';
    elsif intend.step is not null and not exists (select from saga.definition_step s where s.definition_id = running
                                                  and saga.is_step(s, intend.step) and (intend.verb <> 'signal' or s.via = 'signal')) then
        raise exception 'saga % has no step "%"%', intend.saga, intend.step,
            case intend.verb when 'signal' then ' that waits for a signal' else '' end using errcode = 'SG403';
    elsif intend.verb = 'grant' then
        raise exception 'a lock is granted to whom it falls: skip the step instead' using errcode = 'SG403';
    elsif intend.verb = 'migrate' then
        perform saga.check_version(running, intend.argument);
    end if;
    insert into saga.intent (saga_id, verb, step, argument, reason, expected_revision)
    values (intend.saga, intend.verb, intend.step, coalesce(intend.argument, '{}'), intend.reason, intend.expected_revision)
    on conflict do nothing
    returning id into intent_id;
    perform pg_notify('saga_intent', '');
    return intent_id;
end
$$;
comment on function saga.intend is 'Records what is wanted of a running saga for saga-worker to apply; returns the id of its row in saga.intent.';

-- The same of many at once, each at the revision at which it was seen: a row for each that was recorded; not for those that have ended
-- meanwhile or have no such step.
create function saga.intend_many(sagas uuid[], revisions bigint[], verb text, step text default null, argument jsonb default '{}',
                                 reason text default null) returns table (saga uuid, intent bigint)
language plpgsql security definer set search_path = pg_catalog, pg_temp
as $$
#variable_conflict use_column
begin
    if intend_many.verb = 'grant' then
        raise exception 'a lock is granted to whom it falls: skip the step instead' using errcode = 'SG403';
    elsif octet_length(intend_many.reason) > 400 then
        raise exception 'the reason has % bytes, allowed are 400', octet_length(intend_many.reason) using errcode = 'SG403';
    end if;
    return query
        insert into saga.intent (saga_id, verb, step, argument, reason, expected_revision)
        select i.id, intend_many.verb, intend_many.step, coalesce(intend_many.argument, '{}'), intend_many.reason, w.revision
          from unnest(sagas, revisions) as w (saga, revision)
          join saga.instance i on i.id = w.saga
         where intend_many.step is null
            or exists (select from saga.definition_step s where s.definition_id = i.definition_id and saga.is_step(s, intend_many.step)
                       and (intend_many.verb <> 'signal' or s.via = 'signal'))
         order by i.id
        on conflict do nothing
        returning saga_id, id;
    perform pg_notify('saga_intent', '');
end
$$;
comment on function saga.intend_many is 'Records what is wanted of many running sagas for saga-worker to apply; a row for each that was recorded.';

-- The same by name. Each returns `recorded`: whether it was applied, and why not, stands in saga.intent.
create function saga.cancel(saga uuid, reason text default null, expected_revision bigint default null) returns text
language plpgsql set search_path = pg_catalog, pg_temp
as $$
begin
    perform saga.intend(saga, 'cancel', null, '{}', reason, expected_revision);
    return 'recorded';
end
$$;

create function saga.pause(saga uuid, reason text default null, expected_revision bigint default null) returns text
language plpgsql set search_path = pg_catalog, pg_temp
as $$
begin
    perform saga.intend(saga, 'pause', null, '{}', reason, expected_revision);
    return 'recorded';
end
$$;

create function saga.resume(saga uuid, reason text default null, expected_revision bigint default null) returns text
language plpgsql set search_path = pg_catalog, pg_temp
as $$
begin
    perform saga.intend(saga, 'resume', null, '{}', reason, expected_revision);
    return 'recorded';
end
$$;

-- step null: every stuck one.
create function saga.retry(saga uuid, step text default null, reason text default null, expected_revision bigint default null) returns text
language plpgsql set search_path = pg_catalog, pg_temp
as $$
begin
    perform saga.intend(saga, 'retry', step, '{}', reason, expected_revision);
    return 'recorded';
end
$$;

create function saga.skip(saga uuid, step text, reason text default null, expected_revision bigint default null) returns text
language plpgsql set search_path = pg_catalog, pg_temp
as $$
begin
    perform saga.require_step(step);
    perform saga.intend(saga, 'skip', step, '{}', reason, expected_revision);
    return 'recorded';
end
$$;

create function saga.mark_undone(saga uuid, step text, reason text default null, expected_revision bigint default null) returns text
language plpgsql set search_path = pg_catalog, pg_temp
as $$
begin
    perform saga.require_step(step);
    perform saga.intend(saga, 'mark_undone', step, '{}', reason, expected_revision);
    return 'recorded';
end
$$;

create function saga.abandon(saga uuid, reason text default null, expected_revision bigint default null) returns text
language plpgsql set search_path = pg_catalog, pg_temp
as $$
begin
    perform saga.intend(saga, 'abandon', null, '{}', reason, expected_revision);
    return 'recorded';
end
$$;

-- name: of the step that waits. signal_id: the same id again changes nothing, also when the saga has ended. A signal may come before its
-- step waits for it: it is kept.
create function saga.signal(saga uuid, name text, payload jsonb default '{}', signal_id text default null) returns text
language plpgsql security definer set search_path = pg_catalog, pg_temp
as $$
begin
    perform saga.require_step(name);
    if octet_length(signal_id) > 255 then
        raise exception 'the signal''s id has % bytes, allowed are 255', octet_length(signal_id) using errcode = 'SG403';
    elsif saga.data_problem(payload) is not null then
        raise exception 'the signal''s payload %', saga.data_problem(payload) using errcode = 'SG403';
    elsif exists (select from saga.intent i where i.saga_id = signal.saga and i.verb = 'signal' and i.argument ->> 'signal_id' = signal.signal_id) then
        return 'repeated';
    end if;
    return case when saga.intend(saga, 'signal', name, jsonb_build_object('payload', coalesce(payload, '{}'), 'signal_id', signal_id)) is null
                then 'repeated' else 'recorded' end;
end
$$;
comment on function saga.signal is 'Gives a waiting step its signal: recorded, or repeated when this signal_id was given before.';

create function saga.require_step(step text) returns void
language plpgsql immutable set search_path = pg_catalog, pg_temp
as $$
begin
    if step is null then
        raise exception 'no step is named' using errcode = 'SG403';
    end if;
end
$$;

-- To a newer version of its definition, if what it has done so far is the same there (saga/machine/migrate.h). What is stuck stays so until it
-- is retried.
create function saga.migrate(saga uuid, version integer, reason text default null, expected_revision bigint default null) returns text
language plpgsql set search_path = pg_catalog, pg_temp
as $$
begin
    perform saga.intend(saga, 'migrate', null, jsonb_build_object('version', version), reason, expected_revision);
    return 'recorded';
end
$$;
comment on function saga.migrate is 'Moves a running saga to a newer version of its definition, if what it has done so far is the same there; returns recorded.';

-- What saga.intend asks of such an intent.
create function saga.check_version(definition_id integer, argument jsonb) returns void
language plpgsql stable set search_path = pg_catalog, pg_temp
as $$
begin
    if not exists (select from saga.definition o join saga.definition n on n.name = o.name and n.version::text = argument ->> 'version'
                   where o.id = check_version.definition_id) then
        raise exception 'there is no version % of "%"', coalesce(argument ->> 'version', 'null'),
            (select o.name from saga.definition o where o.id = check_version.definition_id) using errcode = 'SG404';
    end if;
end
$$;

-- migrate_has_begun of saga/machine/migrate.c, of a step in saga.instance.steps: it has the list of a fan-out, or something happened to it.
create function saga.has_begun(status jsonb) returns boolean
language sql immutable
as $$
    select status ? 'e' or status ->> 's' <> 'WAITING' and not (status ->> 's' in ('READY', 'CANCELLED') and status ->> 'r' = '0')
$$;

-- Its undo may have to be built by another version: none is out. Not of a fan-out, whose elements read themselves.
create function saga.undo_is_to_come(status jsonb) returns boolean
language sql immutable
as $$
    select not status ? 'e' and status ->> 's' not in ('SKIPPED', 'CANCELLED', 'FAILED', 'UNDONE', 'UNDO_EMPTY')
           and (status ->> 'u' = '0' or status ->> 's' = 'UNDO_STUCK' and status ->> 'a' = '0')
$$;

-- Sagas that are to move to versions (by the definition's id): of each, the first thing in its data that forbids it. An input that is still to
-- be built would read what is not there, neither in the saga's input nor in what ended steps have brought, and has no default (what is still to
-- end is not looked at); or the saga is a child that its parent may take back, and could not be undone any more.
create function saga.migration_obstacles(sagas uuid[], definitions integer[]) returns table (ordinal integer, obstacle text)
language sql stable security definer set search_path = pg_catalog, pg_temp
as $$
    select w.ordinal::integer, o.obstacle
    from unnest(sagas, definitions) with ordinality w (saga, definition, ordinal)
    join saga.instance i on i.id = w.saga
    cross join lateral (
        select coalesce(jsonb_object_agg(s.name, i.steps -> s.step) filter (where saga.has_begun(i.steps -> s.step)), '{}') as steps,
               i.state in ('ABORTING', 'COMPENSATING') or i.phase is not distinct from 'backward' as backward
        from saga.definition_step s
        where s.definition_id = i.definition_id) begun
    cross join lateral (
        (select format('step "%s" would not find %s, and has no default for it', n.name, h.hole ->> 'path') as obstacle
         from saga.definition_step n
         cross join lateral (select begun.steps -> n.name as status) was
         cross join lateral (values ('for_each', n.for_each), ('input', n.input), ('undo', n.undo_input)) t (of, template)
         cross join lateral jsonb_array_elements(t.template -> 'holes') h (hole)
         where n.definition_id = w.definition
               and case when was.status is null then not begun.backward
                        when n.kind = 'retriable' and was.status ->> 's' = 'FAILED' then t.of <> 'undo' -- a retry builds it anew
                        else t.of = 'undo' and saga.undo_is_to_come(was.status) end
               and (h.hole ->> 'step' is null or begun.steps -> (h.hole ->> 'step') ->> 's' in ('SUCCEEDED', 'SKIPPED')
                    or t.of = 'undo' and begun.steps -> (h.hole ->> 'step') ->> 's' like 'UNDO%')
               and saga.find_value(h.hole, i.input, i.outputs) is null
         order by n.step, h.hole ->> 'path' limit 1)
        union all
        (select format('step "%s" cannot be undone, and the saga is the compensable step "%s" of saga %s', n.name, p.name, i.parent_id)
         from saga.instance r
         join saga.definition_step p on p.definition_id = r.definition_id and p.name = i.parent_step and p.kind = 'compensable'
         join saga.definition_step n on n.definition_id = w.definition and n.kind in ('pivot', 'retriable')
         where r.id = i.parent_id
         order by n.step limit 1)
        limit 1) o
    order by w.ordinal
$$;

-- Is this the step that is named? One element of a fan-out is named as pick[2].
create function saga.is_step(step saga.definition_step, name text) returns boolean
language sql immutable
as $$
    select step.name = name or step.for_each is not null and step.name = regexp_replace(name, E'\\[(0|[1-9][0-9]{0,8})\\]$', '')
$$;

-- Views -------------------------------------------------------------------------------------------------------------------------

create view saga.instances as
select i.id, d.name as definition, d.version, i.key, i.state, i.phase, i.reason, i.paused, i.cancel_requested, i.input, i.outputs, i.errors,
       i.started_at, i.ended_at, i.deadline_at, i.wake_at, i.revision, i.definition_id, i.steps, i.parent_id, i.parent_step
from (select r.id, r.definition_id, r.key, r.state, r.phase, r.reason, r.paused, r.cancel_requested, r.revision, r.steps, r.input,
             r.outputs, r.errors, r.started_at, r.deadline_at, r.wake_at, null::timestamptz as ended_at, r.parent_id, r.parent_step
      from saga.instance r
      union all
      select e.id, e.definition_id, e.key, e.state, e.phase, e.reason, e.paused, e.cancel_requested, e.revision, e.steps, e.input,
             e.outputs, e.errors, e.started_at, e.deadline_at, e.wake_at, e.ended_at, e.parent_id, e.parent_step
      from saga.ended e) i
join saga.definition d on d.id = i.definition_id;
comment on view saga.instances is 'Every saga, running and ended.';

create view saga.steps as
select i.id as saga_id, s.name as step, s.kind, e.status ->> 's' as state, (e.status ->> 'r')::integer as round,
       (e.status ->> 'u')::integer as undo_round, (e.status ->> 'a')::integer as attempt, i.outputs -> s.name as output,
       i.errors -> s.name as error, saga.timestamp_of(coalesce((e.status ->> 'd')::bigint, f.due_us)) as due_at, s.via, s.action, s.undo, s.step as place,
       f.elements, f.done as elements_done, f.undone as elements_undone -- of a fan-out: how many, and how many succeeded (or are skipped), were undone
from saga.instances i
cross join lateral jsonb_array_elements(i.steps) with ordinality e (status, place)
join saga.definition_step s on s.definition_id = i.definition_id and s.step = e.place - 1
left join lateral (select count(*)::integer as elements, count(*) filter (where u.status ->> 's' in ('SUCCEEDED', 'SKIPPED'))::integer as done,
                          count(*) filter (where u.status ->> 's' = 'UNDONE')::integer as undone, min((u.status ->> 'd')::bigint) as due_us
                   from jsonb_array_elements(e.status -> 'e') u (status)) f on e.status ? 'e';
comment on view saga.steps is 'Every step of every saga.';

create view saga.timeline as
select h.saga_id, h.at, h.event, h.step, h.detail, h.id from saga.history h;
comment on view saga.timeline is 'What happened to each saga, a row per event; read it in the order of at, id.';

create view saga.definitions as
select d.name, d.version, d.published_at, d.graph, d.current, d.published_by, d.content, d.id from saga.definition d;
comment on view saga.definitions is 'The published versions of every definition.';
