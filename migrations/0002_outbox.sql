-- part: outbox
-- The outbox: an append-only log as a ring of partitions, the relays' positions, what had to be set aside, and the functions that
-- services publish with.

-- What outbox.configure last set. The log itself carries these values as constants, in a default and a trigger: a writer reads no table.
create table outbox.setting (
    only_row            boolean primary key default true check (only_row),
    ring_slots          integer not null,
    ring_period_seconds integer not null,
    payload_bytes_max   integer not null,
    keep_seconds        integer not null default 0 -- how long what is published stays, to be replayed
);

-- The log ----------------------------------------------------------------------------------------------------------------------

-- CACHE 1: ids must rise in the order in which INSERTs of different sessions ran (README.md, order per key).
create sequence outbox.message_id_seq as bigint cache 1;

-- The id's default takes the transaction id first: the bound with which the relay starts its index scans rests on it.
create table outbox.message (
    id             bigint not null default case when pg_current_xact_id() is not null then nextval('outbox.message_id_seq') end,
    xid            xid8 not null default pg_current_xact_id(),
    slot           smallint not null, -- the ring's place by the clock; outbox.configure sets the default
    message_id     uuid not null,     -- its default: the body of outbox.uuid_v7(), below
    created_at     timestamptz not null default clock_timestamp(),
    type           text not null,
    key            text,        -- order is kept among messages with the same key; null: none
    exchange       text,        -- null: by type (outbox.route), else the relay's default
    routing_key    text,        -- null: by type, else the type
    headers        jsonb not null default '{}',
    payload        json,        -- kept as written; exactly one of payload and payload_bytes
    payload_bytes  bytea,
    content_type   text,        -- null: application/json for payload, application/octet-stream for bytes
    correlation_id text,
    reply_to       text,
    mandatory      boolean not null default true
) partition by list (slot);

create index message_id on outbox.message (id);
create index message_xid_id on outbox.message (xid, id);

-- As an expression in place: called as a function it costs every INSERT that is not a prepared statement 15 us more.
do $$
begin
    execute 'alter table outbox.message alter column message_id set default '
            || regexp_replace(pg_get_function_sqlbody('outbox.uuid_v7()'::regprocedure), '^RETURN ', '');
end
$$;

-- Refuses at the INSERT, as a check violation that names the column and the limit, what AMQP 0-9-1 could not carry or what would make RabbitMQ close
-- the channel on everybody:
-- - short strings (exchange, routing key and the properties) hold 255 bytes;
-- - headers are an object of text, numbers, booleans and nulls; whole numbers travel as int64 and others as double, and one that neither
--   can hold is refused rather than bent; a header CC or BCC has to be a list for RabbitMQ (406), which no flat header is;
-- - reply_to amq.rabbitmq.reply-to works only on the channel that consumes the replies (406).
-- The one argument is payload_bytes_max.
-- One trigger and not a CHECK per rule: the executor reads each CHECK anew for each statement, 20 of them took 90 us of a prepared INSERT of one row.
-- PL/pgSQL in its turn makes an expression ready once per transaction, with each function in it, called or not. So what every row has to pass is asked
-- in few functions, and what only some rows need is in an expression of its own.
create function outbox.check_message() returns trigger
    language plpgsql
as $$
declare
    bytes   integer := coalesce(octet_length(new.payload::text), octet_length(new.payload_bytes));
    refused text; -- the column
    problem text;
begin
    if octet_length(concat(new.type, new.key, new.exchange, new.routing_key, new.content_type, new.correlation_id, new.reply_to)) > 255
        or new.type = '' or new.key = '' or new.reply_to = 'amq.rabbitmq.reply-to' or (new.payload is null) = (new.payload_bytes is null) then
        if greatest(octet_length(new.type), octet_length(new.exchange), octet_length(new.routing_key), octet_length(new.content_type),
                    octet_length(new.correlation_id), octet_length(new.reply_to)) > 255
            or octet_length(new.key) > 1024 or new.type = '' or new.key = '' then
            select name, case when length = 0 then 'is empty' else format('has %s bytes, at most %s are allowed', length, most) end
              into refused, problem
              from (values ('type', octet_length(new.type), 1, 255), ('key', octet_length(new.key), 1, 1024),
                           ('exchange', octet_length(new.exchange), 0, 255), ('routing_key', octet_length(new.routing_key), 0, 255),
                           ('content_type', octet_length(new.content_type), 0, 255),
                           ('correlation_id', octet_length(new.correlation_id), 0, 255), ('reply_to', octet_length(new.reply_to), 0, 255)
                   ) as text_column (name, length, least, most)
             where length not between least and most
             limit 1;
        elsif new.reply_to = 'amq.rabbitmq.reply-to' then
            refused := 'reply_to';
            problem := 'is amq.rabbitmq.reply-to, which only works on the channel that waits for the reply';
        elsif num_nonnulls(new.payload, new.payload_bytes) <> 1 then
            refused := 'payload';
            problem := 'or payload_bytes must be given, and not both';
        end if;
    elsif bytes <= 1024 and new.headers = '{}' then -- the common row; 1024 is the least that may be configured
        return new;
    end if;
    if bytes > 1024 and refused is null then
        if bytes > tg_argv[0]::integer then
            refused := case when new.payload is null then 'payload_bytes' else 'payload' end;
            problem := format('has %s bytes, at most %s are allowed (outbox.configure)', bytes, tg_argv[0]);
        end if;
    end if;
    if new.headers <> '{}' and refused is null then
        if not (jsonb_typeof(new.headers) = 'object' and octet_length(new.headers::text) <= 255 and not new.headers ?| '{CC,BCC}'
                and not jsonb_path_exists(new.headers, 'strict $.* ? (@.type() != "string")')) then
            problem := outbox.headers_problem(new.headers);
            refused := case when problem is not null then 'headers' end;
        end if;
    end if;
    if refused is not null then
        raise exception using errcode = 'check_violation', schema = 'outbox', table = 'message', column = refused,
                              message = format('outbox.message.%s %s', refused, problem);
    end if;
    return new;
end
$$;

-- What is wrong with headers, or null. The trigger asks only about headers that are long or not all text (in a strict path: a lax one looks
-- into lists, and would take ["x"] for text).
create function outbox.headers_problem(headers jsonb) returns text
    language plpgsql immutable strict parallel safe
as $$
declare
    problem text;
begin
    if jsonb_typeof(headers) <> 'object' then
        return format('is of type %s, it must be an object', jsonb_typeof(headers));
    end if;
    if octet_length(headers::text) > 16384 then
        return format('has %s bytes, at most 16384 are allowed', octet_length(headers::text));
    end if;
    if headers ? 'CC' or headers ? 'BCC' then
        return 'has a header CC or BCC, which RabbitMQ would refuse';
    end if;
    select case when octet_length(key) > 255 then format('has a name of more than 255 bytes, "%s..."', left(key, 30))
                when jsonb_typeof(value) = 'number' then format('has a number in "%s" that neither a 64-bit integer nor a double holds', key)
                else format('is not flat: "%s" holds an object or a list', key) end
      into problem
      from jsonb_each(headers)
     where octet_length(key) > 255 or jsonb_typeof(value) in ('object', 'array')
        or case when jsonb_typeof(value) = 'number' then not (value::numeric between -9223372036854775808 and 9223372036854775807
                                                              and (abs(value::numeric) >= 1e-300 or value::numeric = 0)) end
     limit 1;
    return problem;
end
$$;

-- The place of this moment in the ring, as an expression of constants.
create function outbox.slot_expression(slots integer, period_seconds integer) returns text
    language sql immutable strict
    return format('(date_part(''epoch'', clock_timestamp())::bigint / %s %% %s)::smallint', period_seconds, slots);

create function outbox.current_slot() returns smallint
    language plpgsql volatile set search_path = pg_catalog, pg_temp
as $$
declare
    slot smallint;
begin
    execute 'select ' || (select outbox.slot_expression(ring_slots, ring_period_seconds) from outbox.setting) into slot;
    return slot;
end
$$;

-- The ring's leaves: where the log's rows are, and which leaf takes the new ones. bytes: the rows; 0 in a truncated leaf. kept: its last rows are
-- younger than they have to be to go, by the times at which the ring as it is now comes by; a leaf outside of it is not kept.
create view outbox.leaf as
select l.slot,
       l.relation,
       l.slot = (select outbox.current_slot()) as current,
       (select l.slot < s.ring_slots
               and extract(epoch from clock_timestamp()) - (now_at.period - (now_at.period - l.slot) % s.ring_slots + 1) * s.ring_period_seconds
                   < s.keep_seconds
          from outbox.setting as s
         cross join lateral (select extract(epoch from clock_timestamp())::bigint / s.ring_period_seconds as period) as now_at) as kept,
       pg_catalog.pg_relation_size(l.relation) as bytes,
       pg_catalog.pg_total_relation_size(l.relation) as total_bytes
  from (select substring(c.relname from '^message_([0-9]+)$')::integer as slot, c.oid::regclass as relation
          from pg_catalog.pg_inherits as i
          join pg_catalog.pg_class as c on c.oid = i.inhrelid
         where i.inhparent = 'outbox.message'::regclass) as l;

-- Sets how long the ring is and how large a payload may be; null leaves a value as it is. For the owner of the schema.
-- - A published message stays for `keep` at least, then it goes with its leaf: the ring must be two periods longer. 0: as soon as the ring is past its
--   leaf. The disk needs room for ring_slots x ring_period, and for the backlog.
-- - A leaf that a shorter ring no longer uses stays until the relay has truncated it; the next call then drops it.
-- - A lower payload_bytes_max holds for new rows only.
-- Takes the log's strongest lock for a moment; gives up (55P03) rather than make writers wait for a long transaction.
create function outbox.configure(ring_slots integer default null, ring_period interval default null, payload_bytes_max integer default null,
                                 keep interval default null)
    returns outbox.setting
    language plpgsql volatile set search_path = pg_catalog, pg_temp set lock_timeout = '5s'
as $$
declare
    setting   outbox.setting;
    leaf      record;
    leaf_used boolean;
begin
    if ring_slots not between 3 and 1000 then
        raise exception using errcode = 'SG104', message = format('ring_slots is %s, allowed is 3 to 1000', ring_slots);
    end if;
    if extract(epoch from ring_period) not between 1 and 604800 or extract(epoch from ring_period) % 1 <> 0 then
        raise exception using errcode = 'SG104', message = format('ring_period is %s, allowed is 1 second to 7 days, in whole seconds', ring_period);
    end if;
    if payload_bytes_max not between 1024 and 134217728 then
        raise exception using errcode = 'SG104', message = format('payload_bytes_max is %s, allowed is 1024 to 134217728', payload_bytes_max);
    end if;
    if extract(epoch from keep) < 0 or extract(epoch from keep) % 1 <> 0 then
        raise exception using errcode = 'SG104', message = format('keep is %s, allowed is 0 or more, in whole seconds', keep);
    end if;

    lock table outbox.message in access exclusive mode;
    update outbox.setting as s
       set ring_slots = coalesce(configure.ring_slots, s.ring_slots),
           ring_period_seconds = coalesce(extract(epoch from ring_period)::integer, s.ring_period_seconds),
           payload_bytes_max = coalesce(configure.payload_bytes_max, s.payload_bytes_max),
           keep_seconds = coalesce(extract(epoch from keep)::integer, s.keep_seconds)
    returning s.* into strict setting;
    -- Its leaf is kept for so long after its own period, and must be empty before the next of its periods begins.
    if setting.keep_seconds > (setting.ring_slots - 2)::bigint * setting.ring_period_seconds then
        raise exception using
            errcode = 'SG104',
            message = format('keep is %s, a ring of %s x %s keeps at most %s', make_interval(secs => setting.keep_seconds), setting.ring_slots,
                             make_interval(secs => setting.ring_period_seconds),
                             make_interval(secs => (setting.ring_slots - 2)::double precision * setting.ring_period_seconds)),
            hint = 'Give more ring_slots or a longer ring_period in the same call.';
    end if;

    -- Without autovacuum: rows are never updated or deleted, and a leaf ends by being truncated.
    for slot in 0 .. setting.ring_slots - 1 loop
        continue when to_regclass(format('outbox.message_%s', slot)) is not null;
        execute format('create table outbox.message_%s partition of outbox.message for values in (%s)
                        with (autovacuum_enabled = off, toast.autovacuum_enabled = off)', slot, slot);
        execute format('grant select on outbox.message_%s to sagapost_relay', slot);
    end loop;
    for leaf in select slot, relation from outbox.leaf where slot >= setting.ring_slots loop
        execute format('select exists (select from %s)', leaf.relation) into leaf_used;
        if not leaf_used then
            execute format('drop table %s', leaf.relation);
        end if;
    end loop;
    execute format('alter table outbox.message alter column slot set default %s',
                   outbox.slot_expression(setting.ring_slots, setting.ring_period_seconds));
    execute format('create or replace trigger check_message before insert on outbox.message
                    for each row execute function outbox.check_message(%L)', setting.payload_bytes_max);
    return setting;
end
$$;

insert into outbox.setting (ring_slots, ring_period_seconds, payload_bytes_max) values (8, 600, 1048576);
select outbox.configure();

-- The relay ---------------------------------------------------------------------------------------------------------------------

-- How a type is routed and what happens when the broker does not take a message of it.
create table outbox.route (
    type        text primary key check (octet_length(type) between 1 and 255),
    exchange    text check (octet_length(exchange) <= 255),
    routing_key text check (octet_length(routing_key) <= 255),
    order_mode  text not null default 'strict' check (order_mode in ('strict', 'pipelined')),
    on_failure  text not null default 'hold' check (on_failure in ('hold', 'skip'))
);

-- How far a share of the log is published and settled: everything visible in t1, and, while a window is open (t2 is not null), what of
-- (t1, t2] has an id up to last_id.
create table outbox.position (
    share             integer primary key check (share >= 0),
    epoch             bigint not null default 0, -- rises when a relay takes over; every write of the position names it
    system_identifier bigint not null,           -- of the server whose xids t1 and t2 are
    database_oid      oid not null,
    t1                pg_snapshot not null,
    t2                pg_snapshot,
    last_id           bigint not null default 0,
    last_id_ever      bigint not null default 0, -- the highest id ever settled (a rebase after dump and restore needs it)
    bound             bigint not null default 0, -- no row that t1 does not see and that began after t1 has an id up to this one
    shares            integer not null default 1,     -- of so many shares this is one: which rows of the log are its own (outbox.share_of)
    at_rest           boolean not null default false, -- nothing is in flight, and its relay sends nothing before it says otherwise (0018)
    relay             text,                      -- who holds the share: host, pid, started
    updated_at        timestamptz not null default clock_timestamp()
) with (fillfactor = 10);

-- A change of the number of shares that is under way (0018): wanted is null when none is.
create table outbox.share_change (
    only_row boolean primary key default true check (only_row),
    wanted   integer,     -- so many there shall be
    barrier  pg_snapshot, -- every relay is to settle all that this sees, and nothing else
    moved_id bigint,      -- there are so many, and parked messages up to this id are where they belong; null: not so far
    asked_by text,
    asked_at timestamptz
);
insert into outbox.share_change default values;

-- The share of a message, of so many: by its key, or by its id when it has none. It must never change, on no version and no platform: a key that moved
-- to another share would be lost or repeated, by where the two positions are. So it is no hash of PostgreSQL's own; and SHA-256 is there under FIPS
-- too, where MD5 is not. 1.0 us, and only where there is more than one share. Shares multiplied are shares split: (h mod kN) mod N = h mod N.
-- Not IMMUTABLE, though it is, since convert_to() is not: it would not be inlined.
create function outbox.share_of(key text, id bigint, shares integer) returns integer
    language sql stable parallel safe
    return ((case when key is null then id
                  else ('x' || left(encode(sha256(convert_to(key, 'UTF8')), 'hex'), 8))::bit(32)::bigint end) % shares)::integer;

-- The first share begins here: what commits from now on is published.
insert into outbox.position (share, system_identifier, database_oid, t1)
select 0, control.system_identifier, (select oid from pg_database where datname = current_database()), pg_current_snapshot()
  from pg_control_system() as control;

-- Messages set aside so that the log can go on: a full copy, since the log's own row is truncated with its leaf.
-- Keyed by the log's id: nothing stops two rows of the log from having one message id, and both must be kept.
create table outbox.parked (
    id              bigint primary key,
    message_id      uuid not null,
    share           integer not null,
    key_hash        bigint,           -- the relay's hash of the key; null: no key
    holds           boolean not null, -- later messages of the key wait behind this one (outbox.route.on_failure when it was set aside)
    created_at      timestamptz not null,
    type            text not null,
    key             text,
    exchange        text not null,
    routing_key     text not null,
    headers         jsonb not null,
    payload         json,
    payload_bytes   bytea,
    content_type    text,
    correlation_id  text,
    reply_to        text,
    mandatory       boolean not null,
    state           text not null check (state in ('waiting', 'parked', 'behind')),
    -- waiting: tried again at next_attempt_at. parked: a person must decide. behind: waits for an earlier message of its key.
    reason          text not null, -- nacked | returned | no_exchange | unconfirmed | refused | too_large | uncarriable | behind
    detail          text,
    attempts        integer not null default 0,
    parked_at       timestamptz not null default clock_timestamp(),
    next_attempt_at timestamptz,
    check (state <> 'waiting' or next_attempt_at is not null),
    check (not holds or key_hash is not null)
);
create index parked_message_id on outbox.parked (message_id);
create index parked_next_attempt_at on outbox.parked (share, next_attempt_at) where state = 'waiting';
create index parked_key_hash on outbox.parked (share, key_hash, id) where holds;

-- What operators want done with parked messages; the relay does it and answers.
create table outbox.intent (
    id         bigint generated always as identity primary key,
    verb       text not null check (verb in ('requeue', 'discard')),
    message_id uuid not null,
    actor      text not null default session_user,
    reason     text,
    created_at timestamptz not null default clock_timestamp(),
    applied_at timestamptz,
    answer     text
);
create index intent_open on outbox.intent (id) where applied_at is null;
create index intent_discarded on outbox.intent (message_id) where answer = 'discarded'; -- a replay leaves these out

-- Wake-up -----------------------------------------------------------------------------------------------------------------------

-- NOTIFY takes a lock of the whole server at commit, so a writer sends it only to a relay that sleeps. A sleeping relay holds the advisory
-- lock (1397161985, share); a writer tries to share it. Granted: the relay is awake, and cannot go to sleep before this transaction has
-- ended without looking once more. Refused: the relay sleeps, and gets the notification when this transaction commits.
-- The lock is tried in the trigger's WHEN, so that the common case calls no function in PL/pgSQL: 5 us of an INSERT.
-- With several shares a writer does not know whose its rows are without hashing them: it tries the lock of each, which is 1 us for each more, and least()
-- does that without stopping at the first. Those that refused are notified.
-- `set local sagapost.wakeup = 'off'` keeps back the notification: a transaction that has notified cannot be prepared for a two-phase commit. A
-- relay that sleeps then finds the message at its next poll.
create function outbox.wake_relays() returns trigger
    language plpgsql set search_path = pg_catalog, pg_temp
as $$
begin
    if current_setting('sagapost.wakeup', true) is distinct from 'off' then
        for share in 0 .. tg_argv[0]::integer - 1 loop
            if tg_argv[0] = '1' or not pg_try_advisory_xact_lock_shared(1397161985, share) then
                perform pg_notify('sagapost_outbox_' || share, '');
            end if;
        end loop;
    end if;
    return null;
end
$$;

create trigger wake_relays
    after insert on outbox.message
    for each statement
    when (not pg_try_advisory_xact_lock_shared(1397161985, 0))
    execute function outbox.wake_relays('1');

-- Truncation --------------------------------------------------------------------------------------------------------------------

-- Why a leaf must not be truncated now, or null: every row of it has to be settled by every persisted position.
-- Unsettled is what the end of the window, t2, does not see, and what the window's start, t1, does not see with an id above last_id. No row
-- below a snapshot's xmax is unseen but those of its xip, so that all four questions are short ranges of the index (xid, id), however
-- long ago the oldest running transaction began. Bitmap and sequential scans are off, and the last question asks for that index's order:
-- without statistics the planner would read the leaf, or all of its index on (id).
create function outbox.leaf_refusal(leaf regclass) returns text
    language plpgsql volatile set search_path = pg_catalog, pg_temp set enable_seqscan = off set enable_bitmapscan = off set jit = off
as $$
declare
    pos       outbox.position;
    unsettled boolean;
begin
    if not exists (select from outbox.position) then
        return 'no_position';
    end if;
    for pos in select * from outbox.position loop
        -- After dump and restore the snapshots are of another server and say nothing about these rows.
        if pos.system_identifier <> (select system_identifier from pg_control_system())
            or pos.database_oid <> (select oid from pg_database where datname = current_database()) then
            return 'position_of_another_server';
        end if;
        execute format('select exists (select from only %1$s where xid = any ($1))
                            or exists (select from only %1$s where xid >= $2)
                            or exists (select from only %1$s where xid = any ($3) and id > $5)
                            or (select id from only %1$s where xid >= $4 and id > $5 order by xid, id limit 1) is not null', leaf)
           into unsettled
          using array(select pg_snapshot_xip(coalesce(pos.t2, pos.t1))),
                pg_snapshot_xmax(coalesce(pos.t2, pos.t1)),
                array(select pg_snapshot_xip(pos.t1)),
                pg_snapshot_xmax(pos.t1),
                case when pos.t2 is null then 9223372036854775807 else pos.last_id end;
        if unsettled then
            return 'unsettled';
        end if;
    end loop;
    return null;
end
$$;

-- Empties a leaf of the ring. For the relay, in a transaction of its own that it commits at once, one leaf per transaction; READ COMMITTED, since
-- with an older snapshot the check after the lock would be blind to what committed before the lock.
-- Returns truncated | empty | current (it takes new rows) | kept (outbox.configure) | unsettled | busy (somebody uses it) | no_position | position_of_another_server.
-- Only truncated changed anything; after all others it is tried again later, and being late breaks nothing.
create function outbox.truncate_leaf(slot integer) returns text
    language plpgsql volatile security definer set search_path = pg_catalog, pg_temp
as $$
declare
    leaf    regclass := (select l.relation from outbox.leaf as l where l.slot = truncate_leaf.slot);
    refusal text;
begin
    if current_setting('transaction_isolation') <> 'read committed' then
        raise exception using
            errcode = 'SG102',
            message = format('outbox.truncate_leaf works at READ COMMITTED only, and this transaction is %s', upper(current_setting('transaction_isolation')));
    end if;
    if leaf is null then
        raise exception using errcode = 'SG101', message = format('outbox.truncate_leaf: there is no slot %s', coalesce(slot::text, 'null'));
    end if;
    if slot = outbox.current_slot() then
        return 'current';
    end if;
    if pg_relation_size(leaf) = 0 then
        return 'empty';
    end if;
    if (select l.kept from outbox.leaf as l where l.slot = truncate_leaf.slot) then
        return 'kept';
    end if;
    refusal := outbox.leaf_refusal(leaf); -- before the lock, so that a leaf that has to stay is not locked at every try
    if refusal is not null then
        return refusal;
    end if;
    begin
        execute format('lock table only %s in access exclusive mode nowait', leaf);
    exception
        when lock_not_available then return 'busy';
    end;
    refusal := outbox.leaf_refusal(leaf); -- what committed before the lock is seen now, and nothing more can come
    if refusal is not null then
        return refusal;
    end if;
    execute format('truncate table only %s', leaf);
    return 'truncated';
end
$$;

-- Publishing ----------------------------------------------------------------------------------------------------------------------

-- Publishes a message when the caller's transaction commits; returns its message id.
-- exchange null: the configured default; routing_key null: the type; message_id null: a new UUIDv7. The log does not look for a message id used
-- twice: whoever gives one answers for its being new.
-- serialize: order by key is kept among transactions that publish with it, also without a row lock of their own (README.md).
create function outbox.publish(
    type text, payload jsonb, key text default null, exchange text default null, routing_key text default null,
    headers jsonb default '{}', message_id uuid default null, mandatory boolean default true, serialize boolean default false,
    correlation_id text default null, reply_to text default null) returns uuid
    language plpgsql volatile
as $$
declare
    new_message_id uuid := coalesce(message_id, outbox.uuid_v7());
begin
    if type is null or payload is null or (serialize and key is null) then
        raise exception using
            errcode = 'SG101',
            message = format('outbox.publish: %s', case when type is null then 'type is null' when payload is null then 'payload is null'
                                                     else 'serialize needs a key' end);
    end if;
    if serialize then
        perform pg_advisory_xact_lock(1397161988, hashtext(key)); -- a statement of its own, before the INSERT takes its id
    end if;
    insert into outbox.message (message_id, type, key, exchange, routing_key, headers, payload, correlation_id, reply_to, mandatory)
    values (new_message_id, type, key, exchange, routing_key, coalesce(headers, '{}'), payload::json, correlation_id, reply_to,
            coalesce(mandatory, true));
    return new_message_id;
end
$$;

-- The same with bytes that are not JSON. content_type null: application/octet-stream.
create function outbox.publish_bytes(
    type text, payload bytea, content_type text default null, key text default null, exchange text default null, routing_key text default null,
    headers jsonb default '{}', message_id uuid default null, mandatory boolean default true, serialize boolean default false,
    correlation_id text default null, reply_to text default null) returns uuid
    language plpgsql volatile
as $$
declare
    new_message_id uuid := coalesce(message_id, outbox.uuid_v7());
begin
    if type is null or payload is null or (serialize and key is null) then
        raise exception using
            errcode = 'SG101',
            message = format('outbox.publish_bytes: %s', case when type is null then 'type is null' when payload is null then 'payload is null'
                                                     else 'serialize needs a key' end);
    end if;
    if serialize then
        perform pg_advisory_xact_lock(1397161988, hashtext(key)); -- a statement of its own, before the INSERT takes its id
    end if;
    insert into outbox.message (message_id, type, key, exchange, routing_key, headers, payload_bytes, content_type, correlation_id, reply_to,
                                mandatory)
    values (new_message_id, type, key, exchange, routing_key, coalesce(headers, '{}'), payload, content_type, correlation_id, reply_to,
            coalesce(mandatory, true));
    return new_message_id;
end
$$;

-- Operators -------------------------------------------------------------------------------------------------------------------------

-- Records what an operator wants of a parked message and wakes the relay of its share; returns the intent, whose answer the relay writes.
create function outbox.intend(verb text, message_id uuid, reason text) returns bigint
    language plpgsql volatile security definer set search_path = pg_catalog, pg_temp
as $$
declare
    parked    record;
    intent_id bigint;
begin
    select p.share, p.state into parked from outbox.parked as p where p.message_id = intend.message_id
     order by p.state = 'behind', p.id limit 1;
    if not found then
        raise exception using errcode = 'SG105', message = format('no message %s is parked', coalesce(message_id::text, 'null'));
    end if;
    if verb = 'requeue' and parked.state = 'behind' then
        raise exception using
            errcode = 'SG106',
            message = format('message %s waits behind an earlier message of its key', message_id),
            hint = 'Requeue or discard the message of this key that is parked; those behind it follow in order.';
    end if;
    insert into outbox.intent (verb, message_id, reason) values (verb, message_id, reason) returning id into intent_id;
    perform pg_notify('sagapost_outbox_' || parked.share, '');
    return intent_id;
end
$$;

create function outbox.requeue(message_id uuid, reason text default null) returns bigint
    language sql volatile return outbox.intend('requeue', message_id, reason);
create function outbox.discard(message_id uuid, reason text default null) returns bigint
    language sql volatile return outbox.intend('discard', message_id, reason);

-- What one sees ---------------------------------------------------------------------------------------------------------------------

-- Rows that committed and are not settled, by share, counted up to rows_max, and the age of the one with the lowest id.
-- By the persisted position, which trails the relay by what is in flight. Of several shares each counts its own rows, and reads the others' for it.
create function outbox.backlog_at_most(rows_max bigint default null) returns table (share integer, rows bigint, oldest_age interval)
    language plpgsql volatile security definer set search_path = pg_catalog, pg_temp set enable_seqscan = off set enable_bitmapscan = off set jit = off
as $$
declare
    pos     outbox.position;
    seen    pg_snapshot; -- the end of the window: what it does not see is unsettled
    settled bigint;      -- what it sees is settled up to this id
begin
    for pos in select p.* from outbox.position as p order by p.share loop
        seen := coalesce(pos.t2, pos.t1);
        settled := case when pos.t2 is null then 9223372036854775807 else pos.last_id end;
        share := pos.share;
        execute 'select count(*)
                   from (select from (select key, id from outbox.message where xid = any ($1)
                                      union all
                                      select key, id from outbox.message where xid >= $2
                                      union all
                                      select key, id from outbox.message where xid = any ($3) and id > $5 and pg_visible_in_snapshot(xid, $6)
                                      union all
                                      select key, id from outbox.message
                                       where xid >= $4 and id > greatest($5, $8) and pg_visible_in_snapshot(xid, $6)) as unsettled
                          where $9 = 1 or outbox.share_of(key, id, $9) = $10
                          limit $7) as counted'
           into rows
          using array(select pg_snapshot_xip(seen)), pg_snapshot_xmax(seen),
                array(select pg_snapshot_xip(pos.t1)), pg_snapshot_xmax(pos.t1), settled, seen, rows_max, pos.bound,
                pos.shares, pos.share;
        -- Of transactions that began after t1, the first id above what is settled; of each older one that was open, its first. A transaction with an
        -- xid from the xmax of t2 on may have begun before t2 (xmax is behind the last that had ended), and have ids below what is settled: the first one.
        execute 'select clock_timestamp() - min(created_at)
                   from ((select created_at from outbox.message
                           where id > $1 and xid >= $2 and ($6 = 1 or outbox.share_of(key, id, $6) = $7) order by id limit 1)
                         union all
                         (select created_at from outbox.message
                           where xid >= $8 and ($6 = 1 or outbox.share_of(key, id, $6) = $7) order by xid, id limit 1)
                         union all
                         select first.created_at
                           from unnest($3) as late (xid)
                          cross join lateral (select created_at from outbox.message as m
                                               where m.xid = late.xid and m.id > case when pg_visible_in_snapshot(late.xid, $4) then $5 else 0 end
                                                 and ($6 = 1 or outbox.share_of(m.key, m.id, $6) = $7)
                                               order by m.xid, m.id limit 1) as first) as oldest'
           into oldest_age
          using greatest(pos.bound, pos.last_id), pg_snapshot_xmax(pos.t1),
                array(select pg_snapshot_xip(pos.t1) union select pg_snapshot_xip(seen)), seen, settled, pos.shares, pos.share, pg_snapshot_xmax(seen);
        oldest_age := coalesce(oldest_age, interval '0');
        return next;
    end loop;
end
$$;

create view outbox.backlog as select share, rows, oldest_age from outbox.backlog_at_most();

-- Set aside, by share, state and reason.
create view outbox.parked_summary as
select share, state, reason, count(*) as rows, min(parked_at) as oldest_parked_at, min(next_attempt_at) as next_attempt_at
  from outbox.parked
 group by share, state, reason;

-- The relays: owned is whether a living connection holds the share's lock, (1397161986, share), whoever the position names.
create view outbox.status as
select p.share, p.relay, p.epoch, p.updated_at, p.t2 is not null as window_open, p.last_id, p.last_id_ever,
       exists (select from pg_catalog.pg_locks as l
                where l.locktype = 'advisory' and l.classid = 1397161986 and l.objid::bigint = p.share and l.objsubid = 2 and l.granted
                  and l.database = (select oid from pg_catalog.pg_database where datname = pg_catalog.current_database())) as owned
  from outbox.position as p;

-- Coming over from Debezium -----------------------------------------------------------------------------------------------------------

-- The outbox table of Debezium's event router, for services that write one: INSERT publishes, the DELETE that such services send after it, in the
-- same transaction, finds its row and does nothing. What an earlier transaction published is not seen here any more.
-- The order by key is per aggregate, as there: an order's messages do not wait for those of a customer of the same number.
create view outbox.debezium as
select m.message_id as id, m.headers ->> 'aggregatetype' as aggregatetype, m.headers ->> 'aggregateid' as aggregateid, m.type, m.payload
  from outbox.message as m
 where m.xid = pg_catalog.pg_current_xact_id_if_assigned() and m.headers ? 'aggregatetype';

create function outbox.debezium_insert() returns trigger
    language plpgsql
as $$
begin
    if new.aggregatetype is null or new.aggregateid is null then
        raise exception using errcode = 'not_null_violation', schema = 'outbox', table = 'debezium',
                              column = case when new.aggregatetype is null then 'aggregatetype' else 'aggregateid' end,
                              message = 'outbox.debezium: aggregatetype and aggregateid must not be null';
    end if;
    new.id := coalesce(new.id, outbox.uuid_v7());
    insert into outbox.message (message_id, type, key, headers, payload)
    values (new.id, new.type, new.aggregatetype || '/' || new.aggregateid,
            pg_catalog.jsonb_build_object('aggregatetype', new.aggregatetype, 'aggregateid', new.aggregateid), new.payload);
    return new;
end
$$;

create function outbox.debezium_change() returns trigger
    language plpgsql
as $$
begin
    if tg_op = 'UPDATE' then -- without this the view would write through
        raise exception using errcode = 'object_not_in_prerequisite_state', message = 'outbox.debezium: a message is not changed once it is written';
    end if;
    return old; -- counted as deleted; the log keeps it
end
$$;

create trigger debezium_insert instead of insert on outbox.debezium for each row execute function outbox.debezium_insert();
create trigger debezium_change instead of update or delete on outbox.debezium for each row execute function outbox.debezium_change();

-- Who may what ----------------------------------------------------------------------------------------------------------------------

revoke all on all functions in schema outbox from public;

-- Writers: everything of a message but its place in the log, and what INSERT ... RETURNING wants to read. saga-worker writes commands and replies.
grant insert (message_id, created_at, type, key, exchange, routing_key, headers, payload, payload_bytes, content_type, correlation_id,
              reply_to, mandatory)
   on outbox.message to sagapost_writer, sagapost_worker;
grant select (id, message_id) on outbox.message to sagapost_writer, sagapost_worker;
grant usage on sequence outbox.message_id_seq to sagapost_writer, sagapost_worker;
grant execute on function
    outbox.publish(text, jsonb, text, text, text, jsonb, uuid, boolean, boolean, text, text),
    outbox.publish_bytes(text, bytea, text, text, text, text, jsonb, uuid, boolean, boolean, text, text),
    outbox.headers_problem(jsonb)
   to sagapost_writer, sagapost_worker;

grant select, insert, delete on outbox.debezium to sagapost_writer;

-- The relay. It ends a silent predecessor's connection too, for which all relays of a database log in as one role.
grant select on outbox.message, outbox.message_id_seq to sagapost_relay;
grant select, update on outbox.position to sagapost_relay;
grant select, insert, update, delete on outbox.parked to sagapost_relay;
grant select, update (applied_at, answer) on outbox.intent to sagapost_relay;
grant execute on function outbox.truncate_leaf(integer), outbox.share_of(text, bigint, integer) to sagapost_relay;
grant execute on function outbox.share_of(text, bigint, integer) to sagapost_operator; -- a replay asks whose position is past a message

grant execute on function outbox.intend(text, uuid, text), outbox.requeue(uuid, text), outbox.discard(uuid, text) to sagapost_operator;
grant select on outbox.parked, outbox.intent to sagapost_operator;
grant select on outbox.message to sagapost_operator; -- a replay sends published messages again

-- Those who look on see no payload and no header: they may hold personal data.
grant select (id, message_id, share, holds, created_at, type, key, exchange, routing_key, content_type, correlation_id, reply_to, mandatory, state,
              reason, detail, attempts, parked_at, next_attempt_at)
   on outbox.parked to sagapost_reader;
grant select on outbox.intent to sagapost_reader;
-- How a type is routed is part of what a developer defines.
grant select, insert, update, delete on outbox.route to sagapost_definer;
grant select on outbox.setting, outbox.route, outbox.position, outbox.share_change, outbox.leaf, outbox.backlog, outbox.parked_summary, outbox.status
   to sagapost_relay, sagapost_operator, sagapost_reader;
grant execute on function outbox.current_slot(), outbox.slot_expression(integer, integer), outbox.backlog_at_most(bigint)
   to sagapost_relay, sagapost_operator, sagapost_reader;
