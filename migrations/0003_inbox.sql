-- part: inbox
-- The inbox: a consumer accepts each message once, in its own transaction.
--
-- What was accepted is remembered by the time inside the message's id, a UUID of version 7, which is the same in every copy of the message;
-- by the clock, two consumers on both sides of an edge would both accept it. inbox.seen is partitioned by ranges of the id itself. When a partition's
-- messages are older than the retention it is dropped, and in the same transaction the trigger on the DEFAULT partition, where
-- a late copy would then arrive, is moved up to refuse it: a message is refused (SG111) from exactly then on, never accepted twice.
-- The DEFAULT partition takes ids of times no partition exists for yet: of a sender whose clock is ahead, or when nobody called
-- inbox.maintain for days. A new partition takes its rows over from there.

create table inbox.setting (
    only_row  boolean primary key default true check (only_row),
    retention interval not null default '14 days' check (retention >= '1 hour'),
    period    interval not null default '1 day' check (period >= '1 minute')
);
insert into inbox.setting default values;

create table inbox.seen (
    message_id uuid not null,
    consumer   text not null,
    primary key (message_id, consumer),
    constraint consumer_1_to_255_bytes check (octet_length(consumer) between 1 and 255)
) partition by range (message_id);
create table inbox.seen_default partition of inbox.seen default;

-- The partitions by time; what lies before the first one is refused.
create table inbox.period (
    starts_at timestamptz primary key,
    ends_at   timestamptz not null unique,
    relation  name not null,
    check (starts_at < ends_at)
);

-- Ids that are not of version 7 tell no time, so that these are remembered from their arrival on, for the retention, and forgotten.
create table inbox.seen_untimed (
    message_id uuid not null,
    consumer   text not null,
    seen_at    timestamptz not null default clock_timestamp(),
    primary key (message_id, consumer),
    constraint consumer_1_to_255_bytes check (octet_length(consumer) between 1 and 255)
);
create index seen_untimed_seen_at on inbox.seen_untimed (seen_at);

-- True once for a consumer and a message, false for every repeat. Waits for another transaction that is accepting the same message.
create function inbox.accept(consumer text, message_id uuid) returns boolean
    language plpgsql volatile
as $$
begin
    if consumer is null or message_id is null then
        raise exception using
            errcode = 'SG112',
            message = format('inbox.accept: %s is null', case when consumer is null then 'consumer' else 'message_id' end);
    end if;
    -- After COMMIT the message is acknowledged, and is nowhere else any more: a crash of PostgreSQL must not take it back.
    if current_setting('synchronous_commit') = 'off' then
        perform set_config('synchronous_commit', 'on', true);
    end if;
    if inbox.is_uuid_v7(message_id) then
        insert into inbox.seen (message_id, consumer) values (message_id, consumer) on conflict do nothing;
    else
        insert into inbox.seen_untimed (message_id, consumer) values (message_id, consumer) on conflict do nothing;
    end if;
    return found;
end
$$;

create function inbox.is_uuid_v7(id uuid) returns boolean
    language sql immutable strict parallel safe
    return get_byte(uuid_send(id), 6) >> 4 = 7 and get_byte(uuid_send(id), 8) >> 6 = 2;

create function inbox.refuse_expired() returns trigger
    language plpgsql
as $$
begin
    raise exception using
        errcode = 'SG111',
        message = format('message %s is older than the inbox remembers', new.message_id),
        detail = 'Whether it was accepted before is no longer known, so it is refused.';
end
$$;
-- Messages older than this are refused. Replaced whenever a partition is dropped, and in the same transaction.
create function inbox.refuse_before(at timestamptz) returns void
    language plpgsql volatile set search_path = pg_catalog, pg_temp
as $$
begin
    execute format('create or replace trigger refuse_expired before insert on inbox.seen_default
                    for each row when (new.message_id < %L::uuid) execute function inbox.refuse_expired()', outbox.uuid_floor(at));
end
$$;

-- Makes the partition [starts_at, ends_at) and moves into it what the DEFAULT partition holds of that time. The lock keeps out whoever accepts
-- meanwhile: an INSERT that had chosen the DEFAULT partition would fail when the id turns out to belong to the new one.
create function inbox.create_period(starts_at timestamptz, ends_at timestamptz) returns void
    language plpgsql volatile set search_path = pg_catalog, pg_temp set timezone = 'UTC'
as $$
declare
    relation name := format('seen_%s', to_char(starts_at, 'YYYYMMDD"_"HH24MISS'));
    low      uuid := outbox.uuid_floor(starts_at);
    high     uuid := outbox.uuid_floor(ends_at);
begin
    lock table inbox.seen in share row exclusive mode;
    execute format('create table inbox.%I (like inbox.seen including defaults including constraints)', relation);
    execute format('with moved as (delete from inbox.seen_default where message_id >= %L and message_id < %L returning message_id, consumer)
                    insert into inbox.%I (message_id, consumer) select message_id, consumer from moved', low, high, relation);
    execute format('alter table inbox.seen attach partition inbox.%I for values from (%L) to (%L)', relation, low, high);
    insert into inbox.period (starts_at, ends_at, relation) values (starts_at, ends_at, relation);
end
$$;

-- Keeps partitions ready for two periods to come, drops one that is older than the retention, forgets old ids of other versions.
-- Workers call it every minute or so; whoever comes second does nothing. Making and dropping wait for consumers in flight, and others wait
-- behind: for 200 ms, and what does not succeed is tried at the next call; when it is late by a period, for 5 s.
-- Returns what it did, for a log.
create function inbox.maintain() returns text
    language plpgsql volatile security definer set search_path = pg_catalog, pg_temp set lock_timeout = '200ms'
as $$
declare
    setting inbox.setting;
    now_at  timestamptz := clock_timestamp();
    newest  timestamptz; -- the end of the last partition
    old     inbox.period;
    created integer := 0;
    dropped integer := 0;
    forgot  bigint;
begin
    if not pg_try_advisory_xact_lock(1397161990, 0) then
        return 'busy';
    end if;
    select * into strict setting from inbox.setting;
    select max(ends_at) into strict newest from inbox.period;
    select * into old from inbox.period where ends_at <= now_at - setting.retention order by ends_at limit 1;
    if newest < now_at + setting.period or old.ends_at < now_at - setting.retention - setting.period then
        perform set_config('lock_timeout', '5s', true);
    end if;
    begin
        while newest <= now_at + 2 * setting.period loop
            -- After a long pause one partition spans the gap.
            perform inbox.create_period(newest, greatest(newest, date_trunc('day', now_at, 'UTC')) + setting.period);
            select max(ends_at) into strict newest from inbox.period;
            created := created + 1;
        end loop;
    exception
        when lock_not_available then created := 0;
    end;
    begin
        if old.ends_at is not null then
            lock table inbox.seen in access exclusive mode;
            execute format('drop table inbox.%I', old.relation);
            perform inbox.refuse_before(old.ends_at);
            delete from inbox.period where ends_at = old.ends_at;
            dropped := 1;
        end if;
    exception
        when lock_not_available then dropped := 0;
    end;
    delete from inbox.seen_untimed as u
     using (select message_id, consumer from inbox.seen_untimed where seen_at < now_at - setting.retention order by seen_at limit 10000) as old_ids
     where u.message_id = old_ids.message_id and u.consumer = old_ids.consumer;
    get diagnostics forgot = row_count;
    return format('created %s, dropped %s, forgot %s', created, dropped, forgot);
end
$$;

-- Begins with one partition for what is under way already, as old as the retention.
select inbox.refuse_before(starts_at), inbox.create_period(starts_at, ends_at)
  from (select date_trunc('day', now(), 'UTC') - retention as starts_at, date_trunc('day', now(), 'UTC') as ends_at from inbox.setting) as past;
select inbox.maintain();

revoke all on all functions in schema inbox from public;
grant insert on inbox.seen, inbox.seen_untimed to sagapost_participant, sagapost_worker;
grant execute on function inbox.accept(text, uuid), inbox.is_uuid_v7(uuid), inbox.maintain() to sagapost_participant, sagapost_worker;
grant select on inbox.setting, inbox.period to sagapost_participant, sagapost_worker, sagapost_operator, sagapost_reader;
