-- part: saga
-- How long what is over is kept. saga.setting says it; saga-worker calls saga.maintain() every minute.
--
--   saga_retention    an ended saga and its history, from its end on. Both lie in partitions by the time inside the saga's id, and go with
--                     them: nothing is deleted row by row, but for the few sagas that outlived their partition. A child saga is kept as
--                     long as its parent is there: the parent may ask for its answer again, or undo it
--   key_retention     the key of saga.start, from the start on, and in any case as long as its saga runs or is kept. After that the same
--                     key starts another saga
--   intent_retention  an answered intent, from the answer on
--
-- What a participant remembers of commands is saga.outcome, with a retention of its own (0004_participant.sql).
--
-- A running saga loses nothing, however old it is. Of a saga that is gone nothing is left that a message could change: a reply finds no
-- instance and is counted, an intent is refused (SG401), a command is refused by its participant (`expired`) or finds its outcome.

-- Makes both partitions of [starts_at, ends_at) and moves into them what the DEFAULT ones hold of that time. Sagas of a time to come cannot
-- be on their way; for others the lock keeps out whoever writes meanwhile: an INSERT that had chosen the DEFAULT partition would fail when the
-- id turns out to belong to the new one. The history comes first here and wherever both are locked, as in a worker's transactions.
create function saga.create_period(starts_at timestamptz, ends_at timestamptz) returns void
    language plpgsql volatile set search_path = pg_catalog, pg_temp set timezone = 'UTC'
as $$
declare
    suffix text := to_char(starts_at, 'YYYYMMDD"_"HH24MISS');
    low    uuid := outbox.uuid_floor(starts_at);
    high   uuid := outbox.uuid_floor(ends_at);
    part   record;
begin
    if starts_at <= clock_timestamp() then
        lock table saga.history in share row exclusive mode;
        lock table saga.ended in share row exclusive mode;
    end if;
    for part in select * from (values ('history', 'saga_id'), ('ended', 'id')) as p (parent, id) loop
        execute format('create table saga.%I (like saga.%I including defaults including constraints)', part.parent || '_' || suffix, part.parent);
        execute format('with moved as (delete from saga.%I where %I >= %L and %I < %L returning *) insert into saga.%I select * from moved',
                       part.parent || '_default', part.id, low, part.id, high, part.parent || '_' || suffix);
        execute format('alter table saga.%I attach partition saga.%I for values from (%L) to (%L)', part.parent, part.parent || '_' || suffix,
                       low, high);
    end loop;
    insert into saga.period (starts_at, ends_at, ended, history) values (starts_at, ends_at, 'ended_' || suffix, 'history_' || suffix);
end
$$;

-- How many sagas of a period must be kept beyond it: they run, or have ended after `ended_after`, or are children of such a saga. Counted up
-- to `at_most`.
create function saga.kept_of_period(old saga.period, ended_after timestamptz, at_most integer) returns integer
    language plpgsql stable set search_path = pg_catalog, pg_temp
as $$
declare
    kept integer;
begin
    execute format('select count(*) from (select from saga.instance where id >= $1 and id < $2 union all
                                          select from saga.%I e
                                           where e.ended_at > $3
                                              or e.parent_id is not null
                                             and (exists (select from saga.instance p where p.id = e.parent_id)
                                                  or exists (select from saga.ended p where p.id = e.parent_id and p.ended_at > $3))
                                           limit $4) as kept', old.ended)
       into strict kept using outbox.uuid_floor(old.starts_at), outbox.uuid_floor(old.ends_at), ended_after, at_most;
    return kept;
end
$$;

-- Drops a period. What must be kept of it moves to the DEFAULT partitions.
create function saga.drop_period(old saga.period, ended_after timestamptz) returns void
    language plpgsql volatile set search_path = pg_catalog, pg_temp
as $$
declare
    low      uuid := outbox.uuid_floor(old.starts_at);
    high     uuid := outbox.uuid_floor(old.ends_at);
    children integer;
begin
    lock table saga.history in access exclusive mode;
    lock table saga.ended in access exclusive mode;
    execute format('alter table saga.history detach partition saga.%I', old.history);
    execute format('alter table saga.ended detach partition saga.%I', old.ended);
    execute format('insert into saga.ended select * from saga.%I where ended_at > $1', old.ended) using ended_after;
    loop -- the children of what is kept, and theirs
        execute format('insert into saga.ended
                        select e.* from saga.%I e
                         where e.parent_id is not null and not exists (select from saga.ended_default k where k.id = e.id)
                           and (exists (select from saga.instance p where p.id = e.parent_id)
                                or exists (select from saga.ended p where p.id = e.parent_id))', old.ended);
        get diagnostics children = row_count;
        exit when children = 0;
    end loop;
    execute format('insert into saga.history
                    select h.* from (select id from saga.instance where id >= $1 and id < $2 union all
                                     select id from saga.ended_default where id >= $1 and id < $2) as kept
                    join saga.%I h on h.saga_id = kept.id', old.history)
      using low, high;
    execute format('drop table saga.%I, saga.%I', old.history, old.ended);
    delete from saga.period p where p.starts_at = old.starts_at;
end
$$;

-- Forgets, at most `at_most` of each: sagas in the DEFAULT partition that ended before `ended_before` with their history, keys, and intents.
-- Returns how many of the kind of which there were most.
create function saga.forget_rows(setting saga.setting, now_at timestamptz, at_most integer) returns integer
    language plpgsql volatile set search_path = pg_catalog, pg_temp
as $$
declare
    gone      uuid[];
    forgotten integer;
    most      integer;
begin
    select array_agg(id) into gone
      from (select e.id from saga.ended_default e
             where e.ended_at <= now_at - setting.saga_retention
               and (e.parent_id is null or not exists (select from saga.instance p where p.id = e.parent_id)
                                           and not exists (select from saga.ended p where p.id = e.parent_id))
             order by e.ended_at limit at_most) as old;
    delete from saga.history_default h where h.saga_id = any (gone);
    delete from saga.ended_default e where e.id = any (gone);
    most := coalesce(cardinality(gone), 0);
    delete from saga.key k
     using (select o.key, o.definition from saga.key o
             where o.saga_id < outbox.uuid_floor(now_at - setting.key_retention)
               and not exists (select from saga.instance i where i.id = o.saga_id)
               and not exists (select from saga.ended e where e.id = o.saga_id)
             order by o.saga_id limit at_most) as old
     where k.key = old.key and k.definition = old.definition;
    get diagnostics forgotten = row_count;
    most := greatest(most, forgotten);
    delete from saga.intent i
     using (select o.id from saga.intent o where o.applied_at < now_at - setting.intent_retention order by o.applied_at limit at_most) as old
     where i.id = old.id;
    get diagnostics forgotten = row_count;
    return greatest(most, forgotten);
end
$$;

-- Keeps partitions ready for two periods to come, drops one that is older than the retention, forgets old keys and intents. Whoever comes
-- second does nothing. Making and dropping wait for transactions in flight, and others wait behind: for 200 ms, and what does not succeed is
-- tried at the next call; when it is late by a period, for 5 s.
--
-- A period of which more than 10,000 sagas must be kept stays: they would have to be copied while everybody waits. It is looked at again.
--
-- did: for a log; null: nothing. is_more: there is more to do, call again soon.
create function saga.maintain(out did text, out is_more boolean)
    language plpgsql volatile security definer set search_path = pg_catalog, pg_temp set lock_timeout = '200ms'
as $$
declare
    setting   saga.setting;
    now_at    timestamptz := clock_timestamp();
    newest    timestamptz; -- the end of the last period
    old       saga.period;
    created   integer := 0;
    dropped   integer := 0;
    forgotten integer;
begin
    is_more := false;
    if not pg_try_advisory_xact_lock(1397161992, 0) then
        return;
    end if;
    select * into strict setting from saga.setting;
    select coalesce(max(p.ends_at), date_trunc('day', now_at, 'UTC')) into strict newest from saga.period p;
    select p.* into old from saga.period p
     where p.ends_at <= now_at - setting.saga_retention and saga.kept_of_period(p, now_at - setting.saga_retention, 10001) <= 10000
     order by p.ends_at limit 1;
    if newest < now_at + setting.period or old.ends_at < now_at - setting.saga_retention - setting.period then
        perform set_config('lock_timeout', '5s', true);
    end if;
    begin
        while newest <= now_at + 2 * setting.period loop
            -- After a long pause one period spans the gap.
            perform saga.create_period(newest, greatest(newest, date_trunc('day', now_at, 'UTC')) + setting.period);
            select max(p.ends_at) into strict newest from saga.period p;
            created := created + 1;
        end loop;
    exception
        when lock_not_available then created := 0;
    end;
    begin
        if old.ends_at is not null then
            perform saga.drop_period(old, now_at - setting.saga_retention);
            dropped := 1;
        end if;
    exception
        when lock_not_available then dropped := 0;
    end;
    forgotten := saga.forget_rows(setting, now_at, 10000);
    is_more := dropped = 1 or forgotten = 10000;
    if created + dropped > 0 then
        did := format('created %s, dropped %s', created, dropped);
    end if;
end
$$;
comment on function saga.maintain is 'Keeps the partitions of ended sagas and their history, and forgets what is older than saga.setting says; for saga-worker.';

-- From the start of today on: before that there is none.
do $$ begin perform saga.maintain(); end $$;

revoke all on all functions in schema saga from public;
grant execute on function saga.maintain() to sagapost_worker;
