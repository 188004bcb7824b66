-- part: saga
-- Sagas: definitions as verified data, the running instances, and what operators want of them. Only saga-worker decides
-- (saga/machine); SQL starts instances and records intents. This file: the tables. 0008_template.sql: inputs; 0009_definition.sql and 0010_publish.sql:
-- define to publish; 0011_instance.sql: start and send; 0012_operator.sql: intents and views; 0013_saga_rights.sql: who may do what; 0014_retention.sql: how long
-- what is over is kept.

create table saga.setting (
    only_row     boolean primary key default true check (only_row),
    -- the routing key of this database's replies, and the end of its queue's name
    orchestrator text not null check (orchestrator ~ '^[A-Za-z0-9_.-]{1,200}$'),
    -- How long what is over is kept (0014_retention.sql): sagas and their history from the saga's end on, keys from its start on, answered
    -- intents from the answer on. period: the range of ids that one partition holds.
    saga_retention   interval not null default '30 days' check (saga_retention >= '1 hour'),
    key_retention    interval not null default '90 days' check (key_retention >= '1 hour'),
    intent_retention interval not null default '90 days' check (intent_retention >= '1 hour'),
    period           interval not null default '1 day' check (period >= '1 minute')
);
-- The database's name, as far as a routing key can carry it.
insert into saga.setting (orchestrator) values (left(regexp_replace(current_database(), '[^A-Za-z0-9_.-]', '_', 'g'), 200));

-- The draft of a definition, open until saga.publish.
create table saga.draft (
    definition text primary key,
    timeout    interval,
    events     boolean not null default false,
    published  integer, -- the version it was published as; it takes no further steps
    defined_by name not null default session_user,
    defined_at timestamptz not null default clock_timestamp()
);
create table saga.draft_step (
    definition   text not null references saga.draft on delete cascade,
    ordinal      integer not null,
    name         text not null,
    action       text,
    undo         text,
    kind         text, -- null: compensable, or what suits the place of a wait step
    after        text[] not null default '{}',
    input        jsonb,
    undo_input   jsonb,
    via          text not null default 'command',
    timeout      interval,
    retry        jsonb,
    undo_retry   jsonb,
    run_if       jsonb,
    skip_if      jsonb,
    undo_on_fail boolean not null default false,
    on_timeout   text, -- of a signal or a lock: fail | skip
    child        text, -- of a child saga: its definition
    for_each     text, -- of a fan-out: the path of its list, or {"$path", "default"}
    for_each_max integer,
    for_each_at_once integer,
    primary key (definition, name)
);

-- Published versions: immutable (a trigger in 0010_publish.sql).
--
-- plan: {"definition", "version", "timeout_ms" | null, "events", "steps": [
--          {"name", "action", "undo" | null, "participant", "kind", "via", "after": [index, ...], "timeout_ms" | null,
--           "retry": {"max", "base_ms", "factor", "cap_ms", "jitter"}, "undo_retry": {...}, "undo_on_fail",
--           "input": template | null, "undo_input": template | null, "run_if": pattern | null, "skip_if": pattern | null,
--           of a signal or a lock "on_timeout": "fail" | "skip" | null, of a child saga "child", "child_version",
--           of a fan-out "for_each": template, "for_each_max", "for_each_at_once"}, ...]}
--       Steps are in an order in which every step comes after those in its `after`; everywhere else a step is its index here.
-- start_steps: the `steps` that a new instance has: roots SENT (or PARKED), all others WAITING.
create table saga.definition (
    id           integer generated always as identity primary key,
    name         text not null,
    version      integer not null,
    content      jsonb not null, -- what was defined, defaults filled in: for "the same content" and for people
    plan         jsonb not null,
    start_steps  jsonb not null,
    graph        text not null,  -- mermaid
    timeout_us   bigint,         -- of the whole saga; null: none
    -- What saga.start needs of the plan, beside it: the roots, and the timeout of each (null: none).
    root_steps   integer[] not null,
    root_timeout_us bigint[] not null,
    root_conditions boolean not null, -- a root has a condition, is a child saga or a fan-out: a worker may have to go on at once
    published_at timestamptz not null default clock_timestamp(),
    published_by name not null default session_user,
    current      boolean not null,
    unique (name, version)
);
create unique index definition_current on saga.definition (name) where current;

-- The plan's steps again, a row each, with what sending a command needs: a plan is too large to be unpacked for every command.
create table saga.definition_step (
    definition_id integer not null references saga.definition,
    step          integer not null, -- index in the plan
    name          text not null,
    kind          text not null,
    via           text not null,
    action        text,
    undo          text,
    undo_on_fail  boolean not null,
    input         jsonb,   -- compiled templates (0008_template.sql)
    undo_input    jsonb,
    run_if        jsonb,   -- patterns (0010_publish.sql)
    skip_if       jsonb,
    child_id      integer references saga.definition, -- of a child saga: the version that it runs
    for_each      jsonb,   -- of a fan-out (0017_fan_out.sql): where its list is, and how long that may be
    for_each_max  integer,
    primary key (definition_id, step)
);

-- A key never runs twice: it is remembered for key_retention after its saga's start, and as long as that runs or is kept.
create table saga.key (
    definition text not null,
    key        text not null,
    saga_id    uuid not null,
    input      jsonb not null,
    created_at timestamptz not null default clock_timestamp(),
    primary key (key, definition) -- in this order, so that people find a saga by its key alone
);
create index key_saga on saga.key (saga_id); -- ids begin with the time: the oldest first

-- Running sagas. Only what an index needs is indexed, so that a step's update is HOT; wake_at only moves earlier, and waking too early re-arms it.
--
-- steps: one object per step of the plan, by index:
--   {"s": state, "r": round of the action, "u": round of the undo, "a": attempts of what is in flight, "d": due, microseconds since 1970, or absent,
--    "e": of a fan-out whose list is known, such an object for each element}
create table saga.instance (
    id               uuid primary key,
    definition_id    integer not null, -- no foreign key: every start would lock the definition's row
    key              text,
    state            text not null check (state in ('RUNNING', 'COMPLETING', 'ABORTING', 'COMPENSATING', 'STUCK', 'SUCCEEDED', 'COMPENSATED', 'CLOSED')),
    phase            text check (phase in ('forward', 'backward', 'in_doubt', 'protocol')), -- of STUCK
    reason           text,                                                                  -- why it aborts or is stuck
    paused           boolean not null default false,
    cancel_requested boolean not null default false,
    revision         bigint not null default 0, -- rises with every write
    steps            jsonb not null,
    input            jsonb not null,
    outputs          jsonb not null default '{}', -- by step name
    errors           jsonb not null default '{}', -- by step name: {"code", "message", "details"}
    started_at       timestamptz not null default clock_timestamp(),
    deadline_at      timestamptz,
    wake_at          timestamptz,
    -- Of a child saga: the step that it is, in which round; and once that is being undone, the round of the undo.
    parent_id         uuid,
    parent_step       text,
    parent_round      integer,
    parent_undo_round integer
) with (fillfactor = 50);
create index instance_wake_at on saga.instance (wake_at) where wake_at is not null;
create unique index instance_parent on saga.instance (parent_id, parent_step, parent_round) where parent_id is not null;

-- Sagas that ended. This table and the history are partitioned by the time inside the saga's id, in the same ranges, so that what is over is
-- dropped and not deleted, and costs those that run nothing (0014_retention.sql). The DEFAULT partitions have what no range takes: sagas
-- that outlived theirs, and those of a time when nobody made partitions.
create table saga.ended (
    like saga.instance,
    ended_at timestamptz not null default clock_timestamp(),
    primary key (id)
) partition by range (id);
create index ended_at on saga.ended (ended_at);
create index ended_parent on saga.ended (parent_id, parent_step) where parent_id is not null;
create table saga.ended_default partition of saga.ended default;

-- What happened, a row per event, for people. event: started, sent, succeeded, failed, ...
create sequence saga.history_id;
create table saga.history (
    saga_id uuid not null,
    id      bigint not null default nextval('saga.history_id'),
    at      timestamptz not null default clock_timestamp(),
    event   text not null,
    step    text,
    detail  jsonb not null default '{}',
    primary key (saga_id, id)
) partition by range (saga_id);
alter sequence saga.history_id owned by saga.history.id;
create table saga.history_default partition of saga.history default;

-- The partitions by time.
create table saga.period (
    starts_at timestamptz primary key,
    ends_at   timestamptz not null unique,
    ended     name not null,
    history   name not null,
    check (starts_at < ends_at)
);

-- What operators and services want of a saga; the worker decides and answers.
create table saga.intent (
    id                bigint generated always as identity primary key,
    saga_id           uuid not null,
    verb              text not null check (verb in ('cancel', 'pause', 'resume', 'retry', 'skip', 'mark_undone', 'abandon', 'signal', 'grant', 'take_back', 'migrate')),
    step              text,
    argument          jsonb not null default '{}',
    actor             text not null default session_user,
    reason            text,
    expected_revision bigint,
    created_at        timestamptz not null default clock_timestamp(),
    applied_at        timestamptz,
    kept_at           timestamptz, -- a signal that came before its step waits for it: looked at again when it does, or when the saga ends
    answer            text, -- applied | refused
    detail            text
);
create index intent_open on saga.intent (id) where applied_at is null and kept_at is null;
create index intent_kept on saga.intent (saga_id) where applied_at is null and kept_at is not null;
create index intent_answered on saga.intent (applied_at) where applied_at is not null;
create index intent_saga on saga.intent (saga_id, id);
-- A signal sent twice with the same id is one signal.
create unique index intent_signal on saga.intent (saga_id, (argument ->> 'signal_id')) where verb = 'signal';
