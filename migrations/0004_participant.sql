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

-- Ids ---------------------------------------------------------------------------------------------------------------------------

-- The lowest UUID of a millisecond.
create function saga.lowest_id(at timestamptz) returns uuid
language sql immutable
as $$
    select pg_catalog.rpad(pg_catalog.lpad(pg_catalog.to_hex(pg_catalog.floor(extract(epoch from at) * 1000)::bigint), 12, '0'), 32, '0')::uuid
$$;

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
        low := saga.lowest_id((utc_day + day * interval '1 day') at time zone 'utc');
        high := saga.lowest_id((utc_day + (day + 1) * interval '1 day') at time zone 'utc');
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
          and saga.lowest_id((to_date(right(c.relname, 8), 'YYYYMMDD') + 1)::timestamp at time zone 'utc') <= horizon
    loop
        execute format('drop table saga.%I', partition.relname);
        dropped := dropped + 1;
    end loop;
    delete from saga.outcome_default d where d.saga_id < horizon;
    update saga.outcome_horizon h
    set saga_id = saga.lowest_id(date_trunc('day', (clock_timestamp() - keep) at time zone 'utc') at time zone 'utc')
    where h.saga_id < saga.lowest_id(date_trunc('day', (clock_timestamp() - keep) at time zone 'utc') at time zone 'utc');
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

-- Escrow ------------------------------------------------------------------------------------------------------------------------
-- Amounts that sagas reserve of a column (a balance, a stock): taken from the column at once, so that nobody, saga or not, can spend them twice, and given
-- back by the undo. Never below the floor, however many reserve at the same moment: it is one UPDATE. What is open, that is, may still be given back, stands in saga.reservation:
-- the column and the open reservations of an account add up to what they were. Settled, an amount is gone for good.
--
-- saga.escrow makes four handlers, functions of the table's owner beside the table: of `<kind>_reserve` and its undo `<kind>_release`, of `<kind>_settle` and its undo
-- `<kind>_reopen`. So each takes effect once and is undone once by the contract that all commands are under.

create table saga.reservation (
    saga_id     uuid not null,
    step        text not null,
    kind        text not null,
    key         text not null,
    amount      numeric not null check (amount > 0),
    reserved_at timestamptz not null default clock_timestamp(),
    primary key (saga_id, step)
);
comment on table saga.reservation is 'Amounts that sagas have reserved with escrow steps, and may still give back.';
create index reservation_account on saga.reservation (kind, key);

-- The amount that a command asks for, exactly. decimals: that the column has; null: any.
create function saga.escrow_amount(input jsonb, decimals integer) returns numeric
language plpgsql immutable set search_path = pg_catalog, pg_temp
as $$
declare
    amount numeric;
begin
    if coalesce(jsonb_typeof(input -> 'key') not in ('string', 'number'), true) then
        perform saga.fail('bad_key', 'the input has no "key", a text or a number', input);
    elsif jsonb_typeof(input -> 'amount') is distinct from 'number' then
        perform saga.fail('bad_amount', 'the input has no "amount", a number', input);
    end if;
    amount := (input ->> 'amount')::numeric;
    if amount <= 0 or round(amount, decimals) <> amount then
        perform saga.fail('bad_amount', format('the amount %s is not above 0, or has more than %s decimals', amount, decimals), input);
    end if;
    return amount;
end
$$;

create function saga.escrow_refuse(kind text, input jsonb, remains numeric, low numeric) returns void
language plpgsql immutable set search_path = pg_catalog, pg_temp
as $$
begin
    if remains is null then
        perform saga.fail('no_account', format('%s has no account %s', kind, input ->> 'key'), input);
    end if;
    perform saga.fail('insufficient', format('%s of account %s: %s asked for, %s there, and %s must stay', kind, input ->> 'key', input ->> 'amount', remains, low),
                      jsonb_build_object('key', input -> 'key', 'amount', input -> 'amount', 'left', remains, 'floor', low));
end
$$;

-- Of the saga whose handler this is.
create function saga.open_reservation(kind text, step text, key text, amount numeric) returns void
language sql volatile security definer set search_path = pg_catalog, pg_temp
as $$
    insert into saga.reservation (saga_id, step, kind, key, amount) values (current_setting('saga.id')::uuid, step, kind, key, amount)
$$;

create function saga.close_reservation(kind text, step text, out key text, out amount numeric)
language plpgsql volatile security definer set search_path = pg_catalog, pg_temp
as $$
#variable_conflict use_column
begin
    delete from saga.reservation r
    where r.saga_id = current_setting('saga.id')::uuid and r.step = close_reservation.step and r.kind = close_reservation.kind
    returning r.key, r.amount into key, amount;
    if not found then
        raise exception 'step "%" of saga % has no open reservation of %', step, current_setting('saga.id'), kind using errcode = 'SG215';
    end if;
end
$$;

-- Registers an account kind, <participant>.<name>: amounts of `column_name`, a number, of the row of `relation` whose `key_column` is the key. relation null: it is
-- registered no more. Only the table's owner may, who needs sagapost_definer too.
create function saga.escrow(kind text, relation regclass, column_name name default null, key_column name default 'id', floor numeric default 0) returns void
language plpgsql set search_path = pg_catalog, pg_temp
as $$
declare
    target  record;
    account text;
    verb    text;
    made    text;
begin
    if kind is null or kind !~ '^[a-z][a-z0-9_]*\.[a-z][a-z0-9_]*$' or octet_length(kind) > 48 then
        raise exception 'saga.escrow: "%" is no kind of account', kind using errcode = 'SG214',
            hint = 'It is <participant>.<name>, in small letters, digits and _, of at most 48 bytes.';
    elsif relation is null and exists (select from saga.reservation r where r.kind = escrow.kind) then
        raise exception 'saga.escrow: % has open reservations', kind using errcode = 'SG214',
            hint = 'They stand in saga.reservation. Wait for their sagas to end.';
    end if;
    if relation is null then
        foreach verb in array '{reserve,release,settle,reopen}'::text[] loop
            select h.function into made from saga.handler h where h.action = kind || '_' || verb;
            if found then
                perform saga.handle(kind || '_' || verb, null);
                execute format('drop function %s', made);
            end if;
        end loop;
        return;
    end if;
    target := saga.escrow_target(relation, column_name, key_column);
    if not pg_has_role(current_user, target.owner, 'USAGE') then
        raise exception 'only the owner of % may make it an escrow account', relation using errcode = 'SG211';
    elsif target.problem is not null then
        raise exception 'saga.escrow: %', target.problem using errcode = 'SG214', hint = coalesce(target.hint, '');
    elsif floor is null or floor in ('NaN', 'Infinity', '-Infinity') then
        raise exception 'saga.escrow: the floor % is no limit', floor using errcode = 'SG214';
    end if;
    account := format('%s.%I by %I', target.full_name, column_name, key_column);
    select h.function into made from saga.handler h where h.action = kind || '_reserve';
    if obj_description(to_regprocedure(made), 'pg_proc') <> account and exists (select from saga.reservation r where r.kind = escrow.kind) then
        raise exception 'saga.escrow: % has open reservations of %', kind, obj_description(to_regprocedure(made), 'pg_proc') using errcode = 'SG214',
            hint = 'They are given back to where they came from. Wait for their sagas to end, or take another name.';
    end if;
    perform saga.make_escrow(kind, 'reserve', target.schema, '$.key', format($body$
declare
    asked   numeric := saga.escrow_amount(input, %1$s);
    remains numeric;
begin
    update %2$s t set %3$I = t.%3$I - asked where t.%4$I = (input ->> 'key')::%5$s and t.%3$I - asked >= %6$s returning t.%3$I into remains;
    if not found then
        select t.%3$I into remains from %2$s t where t.%4$I = (input ->> 'key')::%5$s;
        perform saga.escrow_refuse(%7$L, input, remains, %6$s);
    end if;
    perform saga.open_reservation(%7$L, current_setting('saga.step'), input ->> 'key', asked);
    return jsonb_build_object('key', input -> 'key', 'amount', asked, 'left', remains);
end$body$, coalesce(target.decimals::text, 'null'), target.full_name, column_name, key_column, target.key_type, quote_literal(floor) || '::numeric', kind));
    select h.function into made from saga.handler h where h.action = kind || '_reserve';
    execute format('comment on function %s is %L', made, account);
    perform saga.make_escrow(kind, 'release', target.schema, '$.key', format($body$
declare
    back record := saga.close_reservation(%1$L, current_setting('saga.step'));
begin
    update %2$s t set %3$I = t.%3$I + back.amount where t.%4$I = back.key::%5$s;
    if not found then
        perform saga.fail('no_account', format('account %%s is gone: %%s cannot be given back', back.key, back.amount));
    end if;
    return jsonb_build_object('key', back.key, 'amount', back.amount);
end$body$, kind, target.full_name, column_name, key_column, target.key_type));
    perform saga.make_escrow(kind, 'settle', target.schema, null, format($body$
declare
    gone record := saga.close_reservation(%1$L, input ->> 'step');
begin
    return jsonb_build_object('key', gone.key, 'amount', gone.amount);
end$body$, kind));
    perform saga.make_escrow(kind, 'reopen', target.schema, null, format($body$
begin
    perform saga.open_reservation(%1$L, input ->> 'step', input #>> '{output,key}', (input #>> '{output,amount}')::numeric);
    return '{}';
end$body$, kind));
end
$$;
comment on function saga.escrow is 'Makes a numeric column an account kind of which steps via => ''escrow'' reserve amounts; null as the table: no more.';

-- By hand, of a saga that was closed or whose step was marked as undone: gives a reservation back, or lets it be gone. For the table's owner.
create function saga.end_reservation(saga uuid, step text, give_back boolean) returns void
language plpgsql volatile set search_path = pg_catalog, pg_temp
as $$
declare
    made    text := (select h.function from saga.reservation r
                     join saga.handler h on h.action = r.kind || case when give_back then '_release' else '_settle' end
                     where r.saga_id = end_reservation.saga and r.step = end_reservation.step);
    ignored text;
begin
    if made is null then
        raise exception 'step "%" of saga % has no open reservation', step, saga using errcode = 'SG215';
    end if;
    ignored := set_config('saga.id', saga::text, true) || set_config('saga.step', step, true);
    execute format('select %s', regexp_replace(made, '\(jsonb\)$', '($1)')) using jsonb_build_object('step', step);
end
$$;
comment on function saga.end_reservation is 'Gives an open reservation back, or settles it, by hand: of a saga that was closed.';

-- What saga.escrow has to know of a table; problem: why it cannot be one.
create function saga.escrow_target(relation regclass, column_name name, key_column name, out owner oid, out schema name, out full_name text, out decimals integer,
                                   out key_type text, out problem text, out hint text)
language plpgsql stable set search_path = pg_catalog, pg_temp
as $$
declare
    amount pg_attribute;
    key    pg_attribute;
    kind   "char";
begin
    select c.relowner, c.relkind, n.nspname, format('%I.%I', n.nspname, c.relname) into owner, kind, schema, full_name
    from pg_class c join pg_namespace n on n.oid = c.relnamespace where c.oid = relation;
    select a.* into amount from pg_attribute a where a.attrelid = relation and a.attname = column_name and a.attnum > 0 and not a.attisdropped;
    select a.* into key from pg_attribute a where a.attrelid = relation and a.attname = key_column and a.attnum > 0 and not a.attisdropped;
    key_type := format_type(key.atttypid, key.atttypmod);
    if kind not in ('r', 'p') then
        problem := format('%s is no table', full_name);
    elsif amount.attname is null or key.attname is null then
        problem := format('%s has no column "%s"', full_name, case when amount.attname is null then column_name else key_column end);
    elsif amount.atttypid <> all ('{numeric,smallint,integer,bigint}'::regtype[]) or amount.attgenerated <> '' then
        problem := format('column "%s" of %s is %s', column_name, full_name, format_type(amount.atttypid, amount.atttypmod));
        hint := 'Amounts are exact: the column is numeric, smallint, integer or bigint, and not generated.';
    elsif not exists (select from pg_index i where i.indrelid = relation and i.indisunique and i.indisvalid and i.indimmediate and i.indpred is null and i.indnkeyatts = 1
                      and i.indkey[0] = key.attnum) then
        problem := format('column "%s" of %s is not unique', key_column, full_name);
        hint := 'A key names one account: give the column a primary key or a unique index.';
    end if;
    decimals := case when amount.atttypid <> 'numeric'::regtype then 0
                     when amount.atttypmod >= 0 then (((amount.atttypmod - 4) & 2047) # 1024) - 1024 end;
end
$$;

-- One function of an account kind, with its owner's rights, and its handler.
create function saga.make_escrow(kind text, verb text, schema name, lock text, body text) returns void
language plpgsql set search_path = pg_catalog, pg_temp
as $$
declare
    name text := format('%I.%I', schema, 'escrow_' || replace(kind, '.', '_') || '_' || verb);
begin
    execute format('create or replace function %s(input jsonb) returns jsonb language plpgsql security definer set search_path = pg_catalog, pg_temp as %L', name, body);
    execute format('revoke all on function %s(jsonb) from public', name);
    execute format('grant execute on function %s(jsonb) to sagapost_worker', name);
    perform saga.handle(kind || '_' || verb, name, lock);
end
$$;

-- Who registers account kinds: the functions made run with the rights of the table's owner, who is one of these.
revoke all on function saga.escrow(text, regclass, name, name, numeric), saga.escrow_target(regclass, name, name), saga.make_escrow(text, text, name, text, text),
                       saga.escrow_amount(jsonb, integer), saga.escrow_refuse(text, jsonb, numeric, numeric),
                       saga.open_reservation(text, text, text, numeric), saga.close_reservation(text, text), saga.end_reservation(uuid, text, boolean) from public;
grant execute on function saga.escrow(text, regclass, name, name, numeric), saga.escrow_target(regclass, name, name), saga.make_escrow(text, text, name, text, text),
                          saga.escrow_amount(jsonb, integer), saga.escrow_refuse(text, jsonb, numeric, numeric),
                          saga.open_reservation(text, text, text, numeric), saga.close_reservation(text, text), saga.end_reservation(uuid, text, boolean) to sagapost_definer;
grant select on saga.reservation to sagapost_definer, sagapost_operator, sagapost_reader;
