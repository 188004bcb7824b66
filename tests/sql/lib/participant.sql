-- For tests of a participant: commands to the steps of one saga, and what became of them.
-- A command to step `step` of the test's saga.
create table saga_of_test as select outbox.uuid_v7() as id;
create function cmd(step text, operation text default 'action', round integer default 1, attempt integer default 1, more jsonb default '{}', input jsonb default '{"a": 1}') returns jsonb
language sql as $$
    select jsonb_build_object('saga', jsonb_build_object('id', (select id from public.saga_of_test), 'definition', 'order', 'version', 1, 'step', step, 'element', 0,
        'operation', operation, 'round', round, 'attempt', attempt, 'reply_to', 'shop', 'action', 'p.' || step) || more, 'input', input)
$$;
-- What was queued since the last look: outcome, then output, error's code, or empty.
create function replies() returns text language plpgsql as $$
declare
    seen text;
begin
    select string_agg(concat_ws(' ', payload ->> 'outcome', 'r' || (payload -> 'saga' ->> 'round'), 'a' || (payload -> 'saga' ->> 'attempt'), payload -> 'output', payload -> 'error' ->> 'code',
                                case when (payload ->> 'empty')::boolean then 'empty' end), ', ' order by id) into seen
    from outbox.message;
    truncate outbox.message;
    return seen;
end
$$;
-- Receives and, when it is to be executed, replies with the outcome given.
create function take(command jsonb, outcome text default 'ok', output jsonb default '{}') returns text language plpgsql as $$
declare
    r record;
begin
    select * into r from saga.receive(command);
    return r.verdict || case when r.verdict = 'execute' then ' ' || saga.reply(command, outcome, output) else '' end;
end
$$;
create function outcome_of(step text, operation text default 'action') returns text language sql as $$
    select concat_ws(' ', o.outcome, 'r' || o.round, o.output, o.error ->> 'code') from saga.outcome o
    where o.saga_id = (select id from saga_of_test) and o.step = outcome_of.step and o.operation = outcome_of.operation
$$;
