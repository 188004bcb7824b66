-- part: saga
-- Who may do what. Nothing is granted to PUBLIC; what is not named here is called by our own functions only.
revoke all on all functions in schema saga from public;
revoke all on all tables in schema saga from public;

-- Services: start and signal.
grant execute on function saga.start(text, jsonb, text), saga.signal(uuid, text, jsonb, text) to sagapost_writer;

-- Who defines sagas.
grant execute on function
    saga.define(text, interval, boolean),
    saga.step(text, text, text, text, text, text[], jsonb, jsonb, text, interval, jsonb, jsonb, jsonb, jsonb, boolean, text, text,
              text, integer, integer),
    saga.retry_policy(integer, interval, numeric, interval, boolean),
    saga.complete_policy(jsonb, jsonb, text), saga.milliseconds(text, interval, interval, interval), saga.refuse(text, text, text),
    saga.publish(text)
    to sagapost_definer;
grant select on saga.draft, saga.draft_step, saga.definition, saga.definition_step, saga.definitions to sagapost_definer;

-- saga-worker, orchestrating: it alone moves instances.
grant select, insert, update, delete on saga.instance, saga.ended to sagapost_worker;
grant select, insert on saga.history to sagapost_worker;
grant usage on sequence saga.history_id to sagapost_worker;
grant select, update (applied_at, kept_at, answer, detail) on saga.intent to sagapost_worker;
grant select on saga.definition, saga.definition_step, saga.setting to sagapost_worker;
grant execute on function
    saga.send_commands(uuid[], integer[], text[], integer[], integer[], integer[]), saga.fill_template(jsonb, jsonb, jsonb),
    saga.runs(jsonb, jsonb, jsonb, jsonb), saga.migration_obstacles(uuid[], integer[]),
    saga.fill_deep(jsonb, jsonb, jsonb), saga.find_value(jsonb, jsonb, jsonb), saga.undo_input(jsonb, jsonb),
    saga.map_input(jsonb, jsonb, jsonb), saga.timestamp_of(bigint), saga.command_headers(uuid, text, text),
    saga.command_body(uuid, text, integer, text, text, integer, integer, text, text, boolean, boolean, jsonb, integer)
    to sagapost_worker;

-- Operators look at everything and say what they want.
grant execute on function
    saga.intend(uuid, text, text, jsonb, text, bigint), saga.intend_many(uuid[], bigint[], text, text, jsonb, text),
    saga.cancel(uuid, text, bigint), saga.pause(uuid, text, bigint), saga.resume(uuid, text, bigint), saga.retry(uuid, text, text, bigint), saga.skip(uuid, text, text, bigint),
    saga.mark_undone(uuid, text, text, bigint), saga.abandon(uuid, text, bigint), saga.signal(uuid, text, jsonb, text),
    saga.require_step(text), saga.timestamp_of(bigint), saga.migrate(uuid, integer, text, bigint), saga.migration_obstacles(uuid[], integer[])
    to sagapost_operator;
grant execute on function saga.timestamp_of(bigint), saga.migration_obstacles(uuid[], integer[]) to sagapost_reader;
grant select on saga.instances, saga.steps, saga.timeline, saga.definitions, saga.setting, saga.intent, saga.definition, saga.definition_step,
                saga.instance, saga.ended, saga.history, saga.key, saga.period
    to sagapost_operator, sagapost_reader;
