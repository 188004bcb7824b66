-- part: outbox
-- The outbox: an append-only log as a ring of partitions, the relays' positions, what had to be set aside, and the functions that
-- services publish with.

-- The log ----------------------------------------------------------------------------------------------------------------------

-- CACHE 1: ids must rise in the order in which INSERTs of different sessions ran (README.md, order per key).
create sequence outbox.message_id_seq as bigint cache 1;

-- The id's default takes the transaction id first: the bound with which the relay starts its index scans rests on it.
create table outbox.message (
    id             bigint not null default case when pg_current_xact_id() is not null then nextval('outbox.message_id_seq') end,
    xid            xid8 not null default pg_current_xact_id(),
    slot           smallint not null default 0, -- the ring's place by the clock: outbox.configure sets the expression
    message_id     uuid not null,
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

-- The relay ---------------------------------------------------------------------------------------------------------------------

-- How a type is routed and what happens when the broker does not take a message of it.
create table outbox.route (
    type        text primary key,
    exchange    text,
    routing_key text,
    order_mode  text not null default 'strict' check (order_mode in ('strict', 'pipelined')),
    on_failure  text not null default 'hold' check (on_failure in ('hold', 'skip'))
);

-- How far a share of the log is published and settled: everything visible in t1, and, while a window is open (t2 is not null), what of
-- (t1, t2] has an id up to last_id.
create table outbox.position (
    share             integer primary key,
    epoch             bigint not null default 0, -- rises when a relay takes over; every write of the position names it
    system_identifier bigint not null,           -- of the server whose xids t1 and t2 are
    database_oid      oid not null,
    t1                pg_snapshot not null,
    t2                pg_snapshot,
    last_id           bigint not null default 0,
    last_id_ever      bigint not null default 0, -- the highest id ever settled (a rebase after dump and restore needs it)
    bound             bigint not null default 0, -- no row that t1 does not see and that began after t1 has an id up to this one
    relay             text,                      -- who holds the share: host, pid, started
    updated_at        timestamptz not null default clock_timestamp()
) with (fillfactor = 10);

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
    reason          text not null, -- nacked | returned | no_exchange | refused | too_large | uncarriable | behind
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
