-- part: participant
-- A saga's participant: an outcome is written once and repeated for ever after; SQL handlers run in batches.

-- One row per identity (saga, step, element, operation) and what became of it.
create table saga.outcome (
    saga_id    uuid not null,
    step       text not null,
    element    integer not null default 0,
    operation  text not null check (operation in ('action', 'undo')),
    round      integer not null,
    outcome    text not null check (outcome in ('running', 'started', 'ok', 'failed', 'fenced')),
    output     jsonb,
    error      jsonb,
    xid        xid8 not null default pg_current_xact_id(),
    decided_at timestamptz not null default clock_timestamp(),
    primary key (saga_id, step, element, operation)
);

-- Which SQL function runs an action.
create table saga.handler (
    action        text primary key,
    function      regprocedure not null,
    lock          jsonb, -- compiled path of what to sort a batch by; null: unsorted
    search_path   text not null,
    registered_by name not null default session_user,
    registered_at timestamptz not null default clock_timestamp()
);
