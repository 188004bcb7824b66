-- part: saga
-- Isolation: locks that sagas hold over their steps. A step `via => 'lock'` waits until its saga holds a resource, a name that the definition's author
-- chooses; a handler takes one with saga.lock(resource). A lock is released in the transaction that ends its saga, however it ends, and in
-- that transaction the next in the queue gets it.
--
--   whose     A lock is its family's: the saga's, its parent's and all their children's, up to the topmost that runs. They do not wait for each
--             other, and what a child has done stays locked until it can no longer be undone, at the end of the topmost. A child that was
--             compensated gives up what it took; one that outlives its parent keeps it
--   queue     First come, first served, per resource. Whoever stops waiting (timeout, skip, cancel) leaves the queue at once
--   deadlock  Who would wait for somebody who waits for him, over however many, is denied at once
--   handlers  saga.lock does not wait: it raises 55P03, which saga-worker answers with `transient`
--
-- One advisory lock, held to the end of the transaction, orders whoever asks, leaves and releases: so the search for a deadlock sees every
-- wait. A saga that uses no lock does not meet it.

create table saga.lock_queue (
    resource text not null check (octet_length(resource) between 1 and 1024),
    owner_id uuid not null, -- the topmost saga of the family
    ticket   bigint generated always as identity,
    asked_at timestamptz not null default clock_timestamp(),
    held_at  timestamptz, -- null: it waits
    primary key (resource, owner_id)
);
create unique index lock_queue_held on saga.lock_queue (resource) where held_at is not null; -- one holder
create index lock_queue_owner on saga.lock_queue (owner_id);

-- The steps for which a family holds or awaits a lock; with the last of them it is given up.
create table saga.lock_step (
    saga_id  uuid not null,
    step     text not null,
    resource text not null,
    owner_id uuid not null,
    primary key (saga_id, step, resource),
    foreign key (resource, owner_id) references saga.lock_queue on update cascade on delete cascade
);
create index lock_step_queue on saga.lock_step (resource, owner_id);

-- The topmost saga above this one that runs, or itself; null: it does not run here.
create function saga.lock_owner(saga uuid) returns uuid
language sql stable
as $$
    with recursive up (id, parent_id, depth) as (
        select i.id, i.parent_id, 1 from saga.instance i where i.id = saga
        union all
        select p.id, p.parent_id, u.depth + 1 from up u join saga.instance p on p.id = u.parent_id
    )
    select id from up order by depth desc limit 1
$$;

create function saga.order_locks() returns void
language plpgsql volatile
as $$
begin
    perform pg_advisory_xact_lock(1397161993, 0);
end
$$;

-- Would `owner`, last in the queue of this resource, wait for itself? Null, or who of this queue waits for it.
create function saga.find_deadlock(of_resource text, owner uuid) returns uuid
language sql stable
as $$
    with recursive awaited (first, owner_id) as (
        select q.owner_id, q.owner_id from saga.lock_queue q where q.resource = of_resource
        union
        select a.first, b.owner_id
        from awaited a
        join saga.lock_queue w on w.owner_id = a.owner_id and w.held_at is null
        join saga.lock_queue b on b.resource = w.resource and b.owner_id <> w.owner_id and (b.held_at is not null or b.ticket < w.ticket)
    )
    select a.first from awaited a
    join saga.lock_queue q on q.resource = of_resource and q.owner_id = a.first
    where a.owner_id = owner
    order by q.held_at is null, q.ticket limit 1
$$;

-- For one step; order_locks comes before. held: it has the lock; rival: it must not wait, see find_deadlock; neither: it is in the queue.
create function saga.take_lock(of_saga uuid, of_step text, of_resource text, out held boolean, out rival uuid)
language plpgsql volatile
as $$
declare
    owner uuid := saga.lock_owner(of_saga);
begin
    select q.held_at is not null into held from saga.lock_queue q where q.resource = of_resource and q.owner_id = owner;
    if not found then
        -- Waits for a handler that is just taking it.
        insert into saga.lock_queue (resource, owner_id, held_at) values (of_resource, owner, clock_timestamp()) on conflict do nothing;
        held := found;
        if not held then
            rival := saga.find_deadlock(of_resource, owner);
            if rival is not null then
                return;
            end if;
            -- Or one of the same family has it now.
            insert into saga.lock_queue (resource, owner_id) values (of_resource, owner) on conflict do nothing;
            select q.held_at is not null into strict held from saga.lock_queue q where q.resource = of_resource and q.owner_id = owner;
        end if;
    end if;
    insert into saga.lock_step (saga_id, step, resource, owner_id) values (of_saga, of_step, of_resource, owner) on conflict do nothing;
end
$$;

-- Asks for the locks of steps that the machine has just parked. Returned are those that need not wait, as the machine's events: `grant` and `denied` (a
-- deadlock), with what the step brought; `condition_false`; `unmappable`. The others wait in the queue; ordinal is the caller's.
create function saga.take_locks(ordinals integer[], saga_ids uuid[], steps integer[])
returns table (ordinal integer, event text, reason text, brought jsonb)
language plpgsql volatile security definer set search_path = pg_catalog, pg_temp
as $$
#variable_conflict use_column
declare
    c      record;
    filled record;
    taken  record;
    name   text; -- of the resource
begin
    perform saga.order_locks();
    for c in
        select u.ordinal, u.saga_id, i.input, i.outputs, s.name as step, s.input as template, s.run_if, s.skip_if
        from unnest(ordinals, saga_ids, steps) u (ordinal, saga_id, step)
        join saga.instance i on i.id = u.saga_id
        join saga.definition_step s on s.definition_id = i.definition_id and s.step = u.step
        order by u.ordinal
    loop
        if not saga.runs(c.run_if, c.skip_if, c.input, c.outputs) then
            return query select c.ordinal, 'condition_false', 'its condition does not hold', null::jsonb;
            continue;
        end if;
        select f.mapped, f.missing into filled from saga.fill_template(c.template, c.input, c.outputs) f;
        name := filled.mapped #>> '{}';
        if filled.missing is not null then
            return query select c.ordinal, 'unmappable', format('input of step "%s": the path %s finds nothing', c.step, filled.missing), null::jsonb;
        elsif name is null or octet_length(name) not between 1 and 1024 then
            return query select c.ordinal, 'unmappable',
                format('input of step "%s": the name of a lock has 1 to 1024 bytes, this one has %s', c.step, coalesce(octet_length(name), 0)), null::jsonb;
        else
            taken := saga.take_lock(c.saga_id, c.step, name);
            if taken.held then
                return query select c.ordinal, 'grant', null, jsonb_build_object('resource', name);
            elsif taken.rival is not null then
                return query select c.ordinal, 'denied', format('deadlock: saga %s is before it at "%s" and waits for it', taken.rival, left(name, 100)),
                    jsonb_build_object('code', 'deadlock', 'message', format('"%s" is held or awaited by saga %s, which waits for this one', name, taken.rival),
                                       'details', jsonb_build_object('resource', name, 'saga', taken.rival));
            end if;
        end if;
    end loop;
end
$$;
comment on function saga.take_locks is 'Asks for the locks of running sagas and returns what need not wait; for saga-worker.';

-- Gives resources that nobody holds any more to the next in the queue, and wakes their steps.
create function saga.hand_over(resources text[]) returns void
language plpgsql volatile
as $$
begin
    with next as (
        update saga.lock_queue q set held_at = clock_timestamp()
        from (select distinct on (w.resource) w.resource, w.owner_id from saga.lock_queue w
              where w.resource = any (resources) and not exists (select from saga.lock_queue h where h.resource = w.resource and h.held_at is not null)
              order by w.resource, w.ticket) n
        where q.resource = n.resource and q.owner_id = n.owner_id
        returning q.resource, q.owner_id
    )
    insert into saga.intent (saga_id, verb, step, argument, reason)
    select s.saga_id, 'grant', s.step, jsonb_build_object('payload', jsonb_build_object('resource', s.resource)),
           format('its turn at "%s" has come', left(s.resource, 100))
    from next n join saga.lock_step s on s.resource = n.resource and s.owner_id = n.owner_id
    order by s.saga_id, s.step;
    if found then
        perform pg_notify('saga_intent', '');
    end if;
end
$$;

-- Takes these steps away, and out of the queue what no step wants any more.
create function saga.drop_steps(steps saga.lock_step[]) returns void
language plpgsql volatile
as $$
declare
    free text[];
begin
    delete from saga.lock_step w using unnest(steps) u where w.saga_id = u.saga_id and w.step = u.step and w.resource = u.resource;
    with gone as (
        delete from saga.lock_queue q using (select distinct u.resource, u.owner_id from unnest(steps) u) u
        where q.resource = u.resource and q.owner_id = u.owner_id
              and not exists (select from saga.lock_step s where s.resource = q.resource and s.owner_id = q.owner_id)
        returning q.resource
    )
    select array_agg(g.resource) into free from gone g;
    if free is not null then
        perform saga.hand_over(free);
    end if;
end
$$;

-- Lock steps, each of the saga beside it, that no longer wait and did not get their lock leave the queue, and give it up if it was theirs just now.
-- They come by name: the saga may have moved to a version that has no such step, or have ended. What its handlers took is under the names of
-- their own steps, and stays.
create function saga.leave_locks(saga_ids uuid[], steps text[]) returns void
language plpgsql volatile security definer set search_path = pg_catalog, pg_temp
as $$
begin
    perform saga.order_locks();
    perform saga.drop_steps(array(
        select w from saga.lock_step w where (w.saga_id, w.step) in (select u.saga_id, u.step from unnest(saga_ids, steps) u (saga_id, step))));
end
$$;
comment on function saga.leave_locks is 'Takes steps that no longer wait for their lock out of the queue; for saga-worker.';

-- Sagas that have ended: what was theirs goes to the next.
create function saga.release_locks(saga_ids uuid[]) returns void
language plpgsql volatile security definer set search_path = pg_catalog, pg_temp
as $$
declare
    free text[];
begin
    if not exists (select from saga.lock_queue q where q.owner_id = any (saga_ids))
       and not exists (select from saga.lock_step s where s.saga_id = any (saga_ids)) then
        return;
    end if;
    perform saga.order_locks();
    -- A child that runs on keeps what it has, or waits for.
    update saga.lock_queue q set owner_id = k.saga_id
    from (select distinct on (s.resource, s.owner_id) s.resource, s.owner_id, s.saga_id
          from saga.lock_step s join saga.instance i on i.id = s.saga_id
          where s.owner_id = any (saga_ids) and s.saga_id <> all (saga_ids)
          order by s.resource, s.owner_id, s.saga_id) k
    where q.resource = k.resource and q.owner_id = k.owner_id;
    -- A child that has succeeded may still be undone, with its parent; of one that was closed nobody knows what it left.
    perform saga.drop_steps(array(
        select w from saga.lock_step w
        join saga.ended e on e.id = w.saga_id
        join saga.lock_queue q on q.resource = w.resource and q.owner_id = w.owner_id
        where w.saga_id = any (saga_ids) and (e.parent_id is null or e.state = 'COMPENSATED' or q.held_at is null)));
    with gone as (
        delete from saga.lock_queue q where q.owner_id = any (saga_ids) returning q.resource
    )
    select array_agg(g.resource) into free from gone g;
    if free is not null then
        perform saga.hand_over(free);
    end if;
end
$$;
comment on function saga.release_locks is 'Releases the locks of sagas that have ended; for saga-worker, in the transaction that ends them.';

-- Locks whose saga is gone: of a handler that took one while its saga was closed. Returns how many sagas.
create function saga.sweep_locks() returns integer
language plpgsql volatile security definer set search_path = pg_catalog, pg_temp
as $$
declare
    gone uuid[] := array(select distinct q.owner_id from saga.lock_queue q where not exists (select from saga.instance i where i.id = q.owner_id));
begin
    if gone <> '{}' then
        perform saga.release_locks(gone);
    end if;
    return cardinality(gone);
end
$$;
comment on function saga.sweep_locks is 'Releases locks whose saga is no longer there; for saga-worker.';

-- For handlers, in the database that runs the saga: takes the lock for the saga of the command that is being executed, until that saga ends. It does not wait
-- in the queue: if another saga holds it, the command is answered `transient` and tried again as its retry policy says.
create function saga.lock(resource text) returns void
language plpgsql volatile security definer set search_path = pg_catalog, pg_temp
as $$
declare
    me    uuid := nullif(current_setting('saga.id', true), '')::uuid;
    owner uuid := saga.lock_owner(me);
    held  boolean;
begin
    if octet_length(lock.resource) between 1 and 1024 is not true then
        raise exception 'saga.lock: the name of a lock has 1 to 1024 bytes' using errcode = 'SG410';
    elsif me is null then
        raise exception 'saga.lock: this is no handler of a saga' using errcode = 'SG410',
            hint = 'Call it in a function that saga-worker runs (saga.handle); elsewhere use a step via => ''lock''.';
    elsif owner is null then
        raise exception 'saga.lock: saga % does not run in this database', me using errcode = 'SG401';
    end if;
    for again in 1 .. 2 loop
        select q.held_at is not null into held from saga.lock_queue q where q.resource = lock.resource and q.owner_id = owner;
        exit when found;
        insert into saga.lock_queue (resource, owner_id, held_at) values (lock.resource, owner, clock_timestamp()) on conflict do nothing;
        held := found;
        exit when held;
    end loop;
    if held is not true then
        raise exception 'the lock "%" is held by saga %', left(lock.resource, 100),
            (select q.owner_id from saga.lock_queue q where q.resource = lock.resource and q.held_at is not null)
            using errcode = 'lock_not_available';
    end if;
    insert into saga.lock_step (saga_id, step, resource, owner_id) values (me, current_setting('saga.step'), lock.resource, owner) on conflict do nothing;
end
$$;
comment on function saga.lock is 'In a handler: takes a lock for its saga until that ends, or raises 55P03 (the command is tried again).';

-- For publish -------------------------------------------------------------------------------------------------------------------

-- A lock is named by its input; without a timeout it is waited for as long as it takes. What follows when it cannot be had: as of a signal.
create function saga.plan_lock(s saga.draft_step) returns jsonb
language plpgsql stable set search_path = pg_catalog, pg_temp
as $$
declare
    what text := format('step "%s"', s.name);
begin
    if num_nonnulls(s.action, s.undo, s.undo_input, s.retry, s.undo_retry, s.child) > 0 or s.undo_on_fail or coalesce(s.kind, 'read_only') <> 'read_only' then
        perform saga.refuse('SG312', format('%s is a lock, and has what only a command has', what),
                            'It has a name, via, input, after, timeout, on_timeout and conditions. It needs no undo: the end of the saga releases it.');
    elsif s.input is null or jsonb_typeof(s.input) = 'null' then
        perform saga.refuse('SG312', format('%s is a lock and does not say on what', what),
                            'Name the resource: input => ''{"account": "$.input.account"}'', or one path: input => ''"$.input.account"''.');
    elsif s.on_timeout is not null and s.timeout is null then
        perform saga.refuse('SG312', format('%s says what follows a timeout, and has none', what), 'Give it a timeout.');
    elsif s.on_timeout not in ('fail', 'skip') then
        perform saga.refuse('SG312', format('%s: there is no on_timeout "%s"', what, s.on_timeout),
                            'It is fail, which undoes the saga, or skip, which goes on without the lock.');
    end if;
    return jsonb_build_array(jsonb_build_object(
        'name', s.name, 'action', null, 'undo', null, 'participant', null, 'kind', 'read_only', 'via', 'lock',
        'after', to_jsonb(array(select distinct a from unnest(s.after) a order by a)),
        'timeout_ms', saga.milliseconds(what || ': timeout', s.timeout, '10 ms', '366 days'),
        'retry', saga.default_policy('action'), 'undo_retry', saga.default_policy('undo'), 'undo_on_fail', false,
        'input', s.input, 'undo_input', null, 'run_if', s.run_if, 'skip_if', s.skip_if,
        'on_timeout', case when s.timeout is not null then coalesce(s.on_timeout, 'fail') end));
end
$$;

-- An escrow step is a command, of an account kind's handlers (saga.escrow): it reserves an amount, and its undo releases it.
create function saga.plan_escrow(s saga.draft_step) returns jsonb
language plpgsql stable set search_path = pg_catalog, pg_temp
as $$
declare
    what    text := format('step "%s"', s.name);
    account text := s.action;
begin
    if num_nonnulls(s.undo, s.undo_input, s.on_timeout, s.child) > 0 or s.undo_on_fail or coalesce(s.kind, 'compensable') <> 'compensable' then
        perform saga.refuse('SG312', format('%s is an escrow, and has what it does not need', what),
                            'It has a name, via, action, input, after, timeout, retry, undo_retry and conditions. Its undo and its settlement are the engine''s.');
    end if;
    perform saga.check_action(what, 'action', account || '_release');
    if s.input is null or jsonb_typeof(s.input) <> 'string' and (jsonb_typeof(s.input) <> 'object' or not s.input ?& '{key,amount}') then
        perform saga.refuse('SG312', format('%s is an escrow and does not say how much of which account', what),
                            'Say input => ''{"key": "$.input.account", "amount": "$.input.total"}''.');
    end if;
    s.action := account || '_reserve';
    s.undo := account || '_release';
    s.via := 'command';
    return jsonb_build_array((saga.command_step(s) -> 0) || jsonb_build_object('escrow', account));
end
$$;

-- What settles the escrows of these steps: right behind the pivot; in a saga without one, as its last steps, which can be undone, since the saga may be a child that is taken back.
create function saga.settlements(steps jsonb) returns jsonb
language plpgsql stable set search_path = pg_catalog, pg_temp
as $$
declare
    pivot   text := (select s ->> 'name' from jsonb_array_elements(steps) s where s ->> 'kind' = 'pivot' limit 1);
    leaves  text[] := array(select s ->> 'name' from jsonb_array_elements(steps) s
                            where not exists (select from jsonb_array_elements(steps) o where o -> 'after' ? (s ->> 'name')));
    settled jsonb := '[]';
    step    jsonb;
    draft   saga.draft_step;
begin
    for step in select s from jsonb_array_elements(steps) with ordinality e (s, ordinal) where s ? 'escrow' order by ordinal loop
        draft := null;
        draft.name := (step ->> 'name') || '_settle';
        draft.action := (step ->> 'escrow') || '_settle';
        draft.via := 'command';
        draft.undo_on_fail := false;
        draft.input := jsonb_build_object('step', step -> 'name');
        draft.kind := case when pivot is null then 'compensable' else 'retriable' end;
        draft.undo := case when pivot is null then (step ->> 'escrow') || '_reopen' end;
        draft.after := case when pivot is null then leaves else array[pivot] end;
        if saga.is_conditional(step) then
            draft.run_if := jsonb_build_object('steps', jsonb_build_object(step ->> 'name', '{}'::jsonb));
        end if;
        if octet_length(draft.name) > 63 or steps @> jsonb_build_array(jsonb_build_object('name', draft.name)) then
            perform saga.refuse('SG312', format('step "%s" is settled by a step "%s", and there is one of this name, or it is too long', step ->> 'name', draft.name),
                                'Give it another name.');
        end if;
        settled := settled || saga.command_step(draft);
    end loop;
    if jsonb_array_length(steps || settled) > 64 then
        perform saga.refuse('SG311', format('with those that settle its escrows it has %s steps', jsonb_array_length(steps || settled)),
                            'A saga has at most 64 steps: make two of it.');
    end if;
    return settled;
end
$$;

-- For people --------------------------------------------------------------------------------------------------------------------

create view saga.locks as
select q.resource, case when q.held_at is null then 'waiting' else 'held' end as state,
       row_number() over (partition by q.resource order by q.held_at is null, q.ticket) - 1 as place, -- 0 holds it, 1 is the next
       q.owner_id as saga_id, d.name as definition, i.key, i.state as saga_state, coalesce(q.held_at, q.asked_at) as since,
       array(select s.step || case when s.saga_id <> q.owner_id then format(' of saga %s', s.saga_id) else '' end
             from saga.lock_step s where s.resource = q.resource and s.owner_id = q.owner_id order by s.saga_id, s.step) as steps,
       array(select distinct s.saga_id from saga.lock_step s where s.resource = q.resource and s.owner_id = q.owner_id) as members,
       h.owner_id as held_by, h.held_at as held_since
from saga.lock_queue q
left join saga.instance i on i.id = q.owner_id
left join saga.definition d on d.id = i.definition_id
left join saga.lock_queue h on h.resource = q.resource and h.held_at is not null;
comment on view saga.locks is 'Every lock: which saga holds it, who waits for it in which order, since when.';

revoke all on function
    saga.lock_owner(uuid), saga.order_locks(), saga.find_deadlock(text, uuid), saga.take_lock(uuid, text, text), saga.hand_over(text[]),
    saga.take_locks(integer[], uuid[], integer[]), saga.drop_steps(saga.lock_step[]), saga.leave_locks(uuid[], text[]), saga.release_locks(uuid[]),
    saga.sweep_locks(), saga.lock(text), saga.plan_lock(saga.draft_step), saga.plan_escrow(saga.draft_step), saga.settlements(jsonb)
    from public;
grant execute on function saga.take_locks(integer[], uuid[], integer[]), saga.leave_locks(uuid[], text[]), saga.release_locks(uuid[]), saga.sweep_locks()
    to sagapost_worker;
-- Handlers run with the worker's rights, or with those of who registered them.
grant execute on function saga.lock(text) to sagapost_worker, sagapost_definer;
grant select on saga.lock_queue to sagapost_worker; -- to count
grant select on saga.locks to sagapost_operator, sagapost_reader;
