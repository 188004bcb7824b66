-- Who may what in saga: the whole matrix of roles, relations and functions, and then by trying.
\ir lib/participant.sql
select no_plan();

create temporary table role as
select 'sagapost_' || name as name from unnest('{writer, relay, worker, definer, participant, operator, reader}'::text[]) as name;
create temporary table relation as
select oid, relname::text as name from pg_class
where relnamespace = 'saga'::regnamespace and relkind in ('r', 'p', 'v', 'S') and not relispartition;

create temporary table allowed as
select r.name as role, t.name as relation, string_agg(privilege, ' ' order by privilege) as privileges
from role as r, relation as t, unnest('{SELECT, INSERT, UPDATE, DELETE, TRUNCATE, REFERENCES, TRIGGER}'::text[]) as privilege
where case when (select relkind from pg_class where oid = t.oid) = 'S' then privilege in ('SELECT', 'UPDATE') and has_sequence_privilege(r.name, t.oid, privilege)
           when privilege in ('DELETE', 'TRUNCATE', 'TRIGGER') then has_table_privilege(r.name, t.oid, privilege)
           else has_any_column_privilege(r.name, t.oid, privilege) end
group by r.name, t.name;
create temporary table wanted (role text, relations text[], privileges text);
insert into wanted values
    ('sagapost_worker', '{definition, definition_step, setting, handler, outcome_horizon, lock_queue}', 'SELECT'),
    ('sagapost_worker', '{instance, ended}', 'DELETE INSERT SELECT UPDATE'),
    ('sagapost_worker', '{history}', 'INSERT SELECT'),
    ('sagapost_worker', '{intent}', 'SELECT UPDATE'),
    ('sagapost_worker', '{outcome}', 'INSERT SELECT UPDATE'),
    ('sagapost_definer', '{draft, draft_step, definition, definition_step, definitions, reservation}', 'SELECT'),
    ('sagapost_definer', '{handler}', 'DELETE INSERT SELECT UPDATE'),
    ('sagapost_operator', '{instances, children, locks, steps, elements, fan_outs, timeline, definitions, setting, intent, definition, definition_step, instance, ended, history, period, key, handler, outcome,
                            outcome_horizon, reservation}', 'SELECT'),
    ('sagapost_reader', '{instances, children, locks, steps, elements, fan_outs, timeline, definitions, setting, intent, definition, definition_step, instance, ended, history, period, key, handler, reservation}', 'SELECT');
select set_eq('select * from allowed where role = ''' || name || '''', 'select role, unnest(relations), privileges from wanted where role = ''' || name || '''', name || ': relations')
from role;
select is((select string_agg(attname, ' ' order by attname) from pg_attribute where attrelid = 'saga.intent'::regclass and attnum > 0
           and has_column_privilege('sagapost_worker', attrelid, attnum, 'UPDATE')), 'answer applied_at detail kept_at', 'the worker answers intents, it does not rewrite them');

-- Functions: what each role is there for. The worker has the insides of execute_batch and send_commands too, for they run with its rights.
create temporary table callable as
select r.name as role, p.proname::text as function from role as r, pg_proc as p where p.pronamespace = 'saga'::regnamespace and has_function_privilege(r.name, p.oid, 'execute');
create temporary table wanted_function (role text, functions text[]);
insert into wanted_function values
    ('sagapost_writer', '{start, signal}'),
    ('sagapost_definer', '{define, step, publish, retry_policy, complete_policy, milliseconds, refuse, handle, fail, parse_path, path_of, read_json, lock, escrow, escrow_target, make_escrow,
                           escrow_amount, escrow_refuse, open_reservation, close_reservation, end_reservation}'),
    ('sagapost_participant', '{receive, reply, fail}'),
    ('sagapost_operator', '{intend, intend_many, cancel, pause, resume, retry, skip, mark_undone, abandon, signal, require_step, timestamp_of, migrate, migration_obstacles}'),
    ('sagapost_reader', '{timestamp_of, migration_obstacles}');
select set_eq('select function from callable where role = ''' || name || '''', 'select unnest(functions) from wanted_function where role = ''' || name || '''', name || ': functions')
from role where name not in ('sagapost_worker', 'sagapost_relay');
select is_empty($$ select * from callable where role = 'sagapost_relay' $$, 'sagapost_relay: functions');
select is_empty($$ select function from callable where role = 'sagapost_worker' and function in ('start', 'signal', 'define', 'step', 'publish', 'handle', 'intend', 'intend_many', 'cancel', 'pause',
                    'resume', 'retry', 'skip', 'mark_undone', 'abandon', 'migrate', 'claim_key', 'conclude', 'settle', 'settle_started', 'take_lock', 'hand_over') $$, 'the worker neither starts nor defines nor wishes');

-- By trying -----------------------------------------------------------------------------------------------------------------------------
grant select on saga_of_test to public;
create schema shop;
grant usage, create on schema shop to public;
set role sagapost_definer;
select lives_ok($$ select saga.define('order'), saga.step('order', 'a', action => 'p.a', undo => 'p.u', input => '{"x": "$.input.x", "y": ["$.input.x"]}',
                                                          retry => saga.retry_policy(max => 3)), saga.publish('order') $$, 'a definer defines');
create function shop.act(input jsonb) returns jsonb language plpgsql security definer set search_path = pg_catalog, pg_temp as $$
begin
    if input ? 'no' then
        perform saga.fail('no', 'no');
    end if;
    return to_jsonb(current_user);
end
$$;
create function shop.invoker(input jsonb) returns jsonb language sql as $$ select to_jsonb(current_user) $$;
select lives_ok($$ select saga.handle('p.a', 'shop.act', lock => '$.x'), saga.handle('p.u', 'shop.invoker') $$, 'and registers functions of its own');
select throws_ok($$ insert into saga.definition_step select * from saga.definition_step $$, '42501', null, 'but writes no definition by hand');
reset role;
create function shop.strange(input jsonb) returns jsonb language sql as $$ select input $$;
set role sagapost_definer;
select throws_ok($$ select saga.handle('p.x', 'shop.strange') $$, 'SG211', 'only the owner of shop.strange(jsonb) may register, replace or remove it as the handler of p.x',
                 'nobody''s function but its own');
select throws_ok($$ insert into saga.handler (action, function, search_path) values ('p.x', 'shop.strange(jsonb)', '') $$, 'SG211', null, 'whichever way');
reset role;
select saga.handle('p.z', 'shop.strange');
set role sagapost_definer;
select throws_ok($$ select saga.handle('p.z', 'shop.act') $$, 'SG211', null, 'nor does it replace one');
select throws_ok($$ select saga.handle('p.z', null) $$, 'SG211', null, 'or remove one');
reset role;

set role sagapost_writer;
select isnt(saga.start('order', '{"x": 1}', 'K'), null, 'a writer starts');
select is(saga.start('order', '{"x": 1}', 'K'), saga.start('order', '{"x": 1}', 'K'), 'with keys');
select throws_ok(statement, '42501', null, 'a writer: ' || statement)
from unnest(array['select * from saga.instances', 'select * from saga.key', 'select saga.cancel(gen_random_uuid())', 'select saga.define(''x'')', 'select saga.receive(''{}'')',
                  'select saga.execute_batch(''{}'')', 'delete from saga.history']) as statement;
reset role;

set role sagapost_participant;
select is((saga.receive(cmd('gone', 'undo'))).verdict, 'fenced', 'a participant receives');
select is(saga.reply(cmd('r'), 'failed', '{"code": "x"}'), 'recorded', 'and replies');
select throws_ok($$ select saga.fail('x', 'y') $$, 'SG001', 'y', 'and fails');
select throws_ok(statement, '42501', null, 'a participant: ' || statement)
from unnest(array['select * from saga.outcome', 'insert into saga.outcome (saga_id, step, operation, round, outcome) values (gen_random_uuid(), ''a'', ''action'', 1, ''ok'')',
                  'select saga.start(''order'', ''{}'')', 'select saga.execute_batch(''{}'')', 'select saga.queue_replies(''{}'')', 'select saga.maintain_outcomes()']) as statement;
reset role;

set role sagapost_worker;
select results_eq($$ select ordinal, verdict, outcome from saga.execute_batch(array[cmd('a'), cmd('b', more => '{"action": "p.u"}'), cmd('a', 'undo', more => '{"action": "p.u"}'),
                             cmd('c', 'probe', more => '{"action": "p.a"}'), cmd('d', more => '{"action": "p.a"}', input => '{"no": 1}'), '{}', cmd('e', more => '{"action": "p.none"}')]) order by 1 $$,
    $$ values (1, 'execute', 'ok'), (2, 'execute', 'ok'), (3, 'execute', 'ok'), (4, 'fenced', 'not_executed'), (5, 'execute', 'failed'), (6, 'unreadable', null), (7, 'execute', 'transient') $$,
    'a worker executes');
select results_eq($$ select output from saga.outcome where step in ('a', 'b') and operation = 'action' order by step $$, $$ values ('"sagapost_definer"'::jsonb), ('"sagapost_worker"') $$,
                  'SECURITY DEFINER handlers with their owner''s rights, others with the worker''s');
select is_empty($$ select saga.send_commands((select array_agg(id) from saga.instance), '{0}', '{undo}', '{1}', '{1}') $$, 'sends');
select lives_ok($$ update saga.instance set revision = revision + 1; insert into saga.history (saga_id, event) select id, 'x' from saga.instance;
                   insert into saga.ended select * from saga.instance; select saga.maintain_outcomes(), saga.maintain();
                   select id from saga.intent for update skip locked $$, 'moves instances, writes history, takes intents, keeps the partitions');
select lives_ok(format('select saga.reply(%L, %L)', cmd('never'), 'transient'), 'gives up');
select throws_ok(statement, '42501', null, 'a worker: ' || statement)
from unnest(array['update saga.definition set current = false', 'insert into saga.handler (action, function, search_path) values (''a.b'', ''shop.act(jsonb)'', '''')', 'delete from saga.outcome',
                  'delete from saga.history', 'delete from saga.key', 'delete from saga.intent', 'delete from saga.period', 'select saga.start(''order'', ''{}'')']) as statement;
reset role;

set role sagapost_operator;
select is((select saga.pause(id) from saga.instances limit 1), 'recorded', 'an operator looks and wishes');
select throws_ok(statement, '42501', null, 'an operator: ' || statement)
from unnest(array['update saga.instance set state = ''CLOSED''', 'insert into saga.intent (saga_id, verb) values (gen_random_uuid(), ''cancel'')', 'delete from saga.outcome']) as statement;
reset role;
set role sagapost_reader;
select lives_ok('select * from saga.instances, saga.steps, saga.timeline, saga.definitions', 'a reader looks');
select throws_ok($$ select saga.pause(id) from saga.instances $$, '42501', null, 'and wishes nothing');
reset role;

select * from finish();
