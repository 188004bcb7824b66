-- part: participant
-- A saga's participant: the outcome of a command is written once and repeated for ever after. This file: the tables, and how their
-- partitions come and go. 0005_contract.sql: what a program calls. 0006_handler.sql: handlers in SQL, run in batches.

-- One row per identity (saga, step, element, operation) and what became of it.
--   running   claimed by a transaction that is still open: never seen by another one (outcome_decided refuses such a COMMIT)
--   started   an effect outside the database was begun; only the program that began it can say what became of it
--   ok        final
--   failed    final for its round; a command of a higher round replaces it
--   fenced    final: it never took effect and never will. With an error: it failed, and was fenced after that
-- Partitioned by the day inside the saga's id (a UUIDv7): the same in every copy of a command, whenever it comes.
create table saga.outcome (
    saga_id    uuid not null,
    step       text not null,
    element    integer not null default 0,
    operation  text not null check (operation in ('action', 'undo')),
    round      integer not null,
    outcome    text not null check (outcome in ('running', 'started', 'ok', 'failed', 'fenced')),
    output     jsonb,
    error      jsonb,
    decided_at timestamptz not null default clock_timestamp(),
    primary key (saga_id, step, element, operation)
) partition by range (saga_id);
comment on table saga.outcome is 'What became of each command that this participant was sent: written once, then repeated.';

-- Ids that no day's partition takes: of a clock far ahead, or of a day whose partition nobody made in time.
create table saga.outcome_default partition of saga.outcome default;

-- Outcomes of sagas below this id were dropped: what is asked about them is answered `expired`, never "not done".
create table saga.outcome_horizon (
    only_row boolean primary key default true check (only_row),
    saga_id  uuid not null
);
insert into saga.outcome_horizon (saga_id) values ('00000000-0000-0000-0000-000000000000');

-- Which SQL function runs an action.
create table saga.handler (
    action        text primary key,
    function      text not null,     -- schema.name(jsonb): a name, since a function is dropped and made anew by deployments, and pg_upgrade takes
                                     -- no column of type regprocedure
    lock          jsonpath,          -- of the input: what a batch is sorted by; null: unsorted
    search_path   text not null,     -- of the session that registered it
    registered_by name not null default current_user,
    registered_at timestamptz not null default clock_timestamp()
);
comment on table saga.handler is 'The SQL function that runs an action, registered with saga.handle.';

-- Partitions --------------------------------------------------------------------------------------------------------------------

-- Makes the partitions of the days to come and drops those of days past `keep`. Call it twice a day; saga-worker does.
--
-- The horizon is moved and must be committed before what it covers is dropped: so a call drops what an earlier call announced.
-- Whoever is about to write an outcome locks the table first and reads the horizon after that (saga.lock_outcomes), and a drop waits
-- for that lock: nobody writes below the horizon once a partition is gone.
create function saga.maintain_outcomes(keep interval default '30 days', days_ahead integer default 7,
                                       out created integer, out dropped integer)
language plpgsql security definer set search_path = pg_catalog, pg_temp set lock_timeout = '2s'
as $$
declare
    utc_day   timestamp := date_trunc('day', clock_timestamp() at time zone 'utc');
    horizon   uuid;
    partition record;
    low       uuid;
    high      uuid;
begin
    if keep < interval '1 day' or days_ahead not between 1 and 366 then
        raise exception 'saga.maintain_outcomes: keep must be a day or more, days_ahead 1 to 366'
            using errcode = 'SG206';
    end if;
    perform pg_advisory_xact_lock(1397161991, 0);
    created := 0;
    dropped := 0;
    for day in 0 .. days_ahead loop
        low := outbox.uuid_floor((utc_day + day * interval '1 day') at time zone 'utc');
        high := outbox.uuid_floor((utc_day + (day + 1) * interval '1 day') at time zone 'utc');
        -- A day some of whose outcomes already lie in the default partition stays there: they cannot be in two places.
        if to_regclass(format('saga.outcome_%s', to_char(utc_day + day * interval '1 day', 'YYYYMMDD'))) is null
           and not exists (select from saga.outcome_default d where d.saga_id >= low and d.saga_id < high) then
            execute format('create table saga.%I partition of saga.outcome for values from (%L) to (%L)',
                           'outcome_' || to_char(utc_day + day * interval '1 day', 'YYYYMMDD'), low, high);
            created := created + 1;
        end if;
    end loop;
    select h.saga_id into horizon from saga.outcome_horizon h for update;
    for partition in
        select c.relname
        from pg_inherits i join pg_class c on c.oid = i.inhrelid
        where i.inhparent = 'saga.outcome'::regclass and c.relname ~ '^outcome_[0-9]{8}$'
          and outbox.uuid_floor((to_date(right(c.relname, 8), 'YYYYMMDD') + 1)::timestamp at time zone 'utc') <= horizon
    loop
        execute format('drop table saga.%I', partition.relname);
        dropped := dropped + 1;
    end loop;
    delete from saga.outcome_default d where d.saga_id < horizon;
    update saga.outcome_horizon h
    set saga_id = outbox.uuid_floor(date_trunc('day', (clock_timestamp() - keep) at time zone 'utc') at time zone 'utc')
    where h.saga_id < outbox.uuid_floor(date_trunc('day', (clock_timestamp() - keep) at time zone 'utc') at time zone 'utc');
end
$$;
comment on function saga.maintain_outcomes is 'Makes the partitions of saga.outcome for the days to come, drops those past `keep`.';

do $$ begin perform saga.maintain_outcomes(); end $$;

-- Locks saga.outcome against a drop of its partitions and returns the horizon: sagas below it have expired.
create function saga.lock_outcomes() returns uuid
language plpgsql volatile
as $$
declare
    horizon uuid;
begin
    lock table only saga.outcome in row exclusive mode;
    select h.saga_id into horizon from saga.outcome_horizon h;
    return horizon;
end
$$;

-- No undecided outcome is committed -----------------------------------------------------------------------------------------------

create function saga.refuse_undecided() returns trigger
language plpgsql security definer set search_path = pg_catalog, pg_temp
as $$
begin
    if exists (select from saga.outcome o
               where o.saga_id = new.saga_id and o.step = new.step and o.element = new.element and o.operation = new.operation
                 and o.outcome = 'running') then
        raise exception 'the % of step "%" of saga % was received and not replied to', new.operation, new.step, new.saga_id
            using errcode = 'SG203', hint = 'Call saga.reply(command, outcome, output) before COMMIT, or ROLLBACK.';
    end if;
    return null;
end
$$;
create constraint trigger outcome_decided after insert or update on saga.outcome
    deferrable initially deferred for each row when (new.outcome = 'running') execute function saga.refuse_undecided();
