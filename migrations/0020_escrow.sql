-- part: participant
-- Escrow: amounts that sagas reserve of a column (a balance, a stock): taken from the column at once, so that nobody, saga or not, can spend them twice, and given
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
    if kind is null or kind !~ E'^[a-z][a-z0-9_]*\\.[a-z][a-z0-9_]*$' or octet_length(kind) > 48 then
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
    execute format('select %s', regexp_replace(made, E'\\(jsonb\\)$', '($1)')) using jsonb_build_object('step', step);
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
