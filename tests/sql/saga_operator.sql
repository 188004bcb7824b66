-- Intents and views.
\ir lib/session.sql
select no_plan();
\set VERBOSITY terse

select saga.define('order', timeout => '15 min');
select saga.step('order', 'reserve', action => 'p.reserve', undo => 'p.release');
select saga.step('order', 'approval', via => 'signal', after => '{reserve}', timeout => '1 day');
select saga.step('order', 'pay', action => 'p.pay', kind => 'pivot', after => '{approval}');
select version from saga.publish('order');
select saga.start('order', key => 'K', input => '{"n": 1.50}') as id \gset
select saga.start('order', input => '{}') as gone \gset
insert into saga.ended select i.* from saga.instance i where id = :'gone';
delete from saga.instance where id = :'gone';

-- Views -------------------------------------------------------------------------------------------------------------------------------
select results_eq('select id, definition, version, key, state, phase, reason, input, ended_at is null from saga.instances order by ended_at nulls first',
    format($$ values (%L::uuid, 'order', 1, 'K', 'RUNNING', null::text, null::text, '{"n": 1.50}'::jsonb, true), (%L, 'order', 1, null, 'RUNNING', null, null, '{}', false) $$, :'id', :'gone'),
    'saga.instances: running and ended');
update saga.instance set outputs = '{"reserve": {"id": 7}}', errors = '{"pay": {"code": "x"}}' where id = :'id';
select results_eq(format('select step, kind, state, round, undo_round, attempt, output, error, due_at is not null, via, action, undo from saga.steps where saga_id = %L order by place', :'id'),
    $$ values ('reserve', 'compensable', 'SENT', 1, 0, 1, '{"id": 7}'::jsonb, null::jsonb, true, 'command', 'p.reserve', 'p.release'),
              ('approval', 'read_only', 'WAITING', 0, 0, 0, null, null, false, 'signal', null, null), ('pay', 'pivot', 'WAITING', 0, 0, 0, null, '{"code": "x"}', false, 'command', 'p.pay', null) $$,
    'saga.steps');
select is(due_at, started_at + interval '30 s', 'due in 30 s') from saga.steps s join saga.instances i on i.id = s.saga_id where i.id = :'id' and step = 'reserve';
select results_eq(format('select event, step, detail from saga.timeline where saga_id = %L', :'gone'), $$ values ('started', null::text, '{"definition": "order", "version": 1}'::jsonb) $$, 'saga.timeline');
select results_eq('select name, version, current, graph like ''flowchart TD%'' from saga.definitions', $$ values ('order', 1, true, true) $$, 'saga.definitions');

-- Intents -------------------------------------------------------------------------------------------------------------------------------
select is(saga.cancel(:'id', 'customer called'), 'recorded', 'cancel');
select is(saga.pause(:'id'), 'recorded', 'pause');
select is(saga.resume(:'id', reason => 'again', expected_revision => 3), 'recorded', 'resume');
select is(saga.retry(:'id'), 'recorded', 'retry all');
select is(saga.retry(:'id', 'pay', 'provider is back'), 'recorded', 'retry one');
select is(saga.skip(:'id', 'approval'), 'recorded', 'skip');
select is(saga.mark_undone(:'id', 'reserve', 'by hand'), 'recorded', 'mark undone');
select is(saga.abandon(:'id'), 'recorded', 'abandon');
select is(saga.signal(:'id', 'approval', '{"by": "ann"}', 'sig-1'), 'recorded', 'signal');
select is(saga.signal(:'id', 'approval', '{"by": "bob"}', 'sig-1'), 'repeated', 'the same signal again');
select throws_ok(format('select saga.signal(%L, %L, to_jsonb(repeat(%L, 262144)))', :'id', 'approval', 'x'), 'SG403', null, 'a payload has a size');
select throws_ok(format('select saga.signal(%L, %L, %L)', :'id', 'approval', repeat('[', 51) || repeat(']', 51)), 'SG403', 'the signal''s payload has more than 50 levels', 'and a depth');
select is(saga.signal(:'id', 'approval'), 'recorded', 'without an id');
select is(saga.signal(:'id', 'approval'), 'recorded', 'each is one');
select results_eq('select verb, step, argument, reason, expected_revision, actor = session_user, applied_at is null and answer is null from saga.intent order by id',
    $$ values ('cancel', null::text, '{}'::jsonb, 'customer called', null::bigint, true, true), ('pause', null, '{}', null, null, true, true), ('resume', null, '{}', 'again', 3, true, true),
              ('retry', null, '{}', null, null, true, true), ('retry', 'pay', '{}', 'provider is back', null, true, true), ('skip', 'approval', '{}', null, null, true, true),
              ('mark_undone', 'reserve', '{}', 'by hand', null, true, true), ('abandon', null, '{}', null, null, true, true),
              ('signal', 'approval', '{"payload": {"by": "ann"}, "signal_id": "sig-1"}', null, null, true, true),
              ('signal', 'approval', '{"payload": {}, "signal_id": null}', null, null, true, true), ('signal', 'approval', '{"payload": {}, "signal_id": null}', null, null, true, true) $$,
    'are rows that wait for an answer');
select saga.intend(:'id', 'cancel') as intent \gset
select is(:intent::bigint, max(id), 'intend returns the row''s id') from saga.intent;
select throws_ok(format('select saga.%s(%L%s)', verb, gen_random_uuid(), more), 'SG401', null, verb || ': no such saga')
from (values ('cancel', ''), ('pause', ''), ('resume', ''), ('retry', ''), ('skip', ', ''pay'''), ('mark_undone', ', ''pay'''), ('abandon', ''), ('signal', ', ''approval''')) v (verb, more);
select throws_ok(format('select saga.cancel(%L)', :'gone'), 'SG402', format('saga %s has ended', :'gone'), 'an ended saga');
select throws_ok('select saga.cancel(null)', 'SG401', 'there is no saga null', 'no saga');
select throws_ok(format('select saga.retry(%L, %L)', :'id', 'nobody'), 'SG403', null, 'no such step');
select throws_ok(format('select saga.signal(%L, %L)', :'id', 'pay'), 'SG403', null, 'a step that waits for no signal');
select throws_ok(format('select saga.skip(%L, null)', :'id'), 'SG403', 'no step is named', 'a step must be named');
select throws_ok(format('select saga.cancel(%L, %L)', :'id', repeat('x', 401)), 'SG403', 'the reason has 401 bytes, allowed are 400', 'a reason has a size');
select throws_ok(format('select saga.intend(%L, %L)', :'id', 'explode'), '23514', null, 'an unknown verb');

insert into saga.intent (saga_id, verb, step, argument) values (:'gone', 'signal', 'approval', '{"signal_id": "s"}');
select is(saga.signal(:'gone', 'approval', '{}', 's'), 'repeated', 'a signal given before, also when the saga has ended');
select throws_ok(format('select saga.signal(%L, %L, %L, %L)', :'gone', 'approval', '{}', 't'), 'SG402', null, 'but no new one');

-- Many at once.
select saga.start('order', input => '{}') as other \gset
select saga.define('plain'), saga.step('plain', 'a', action => 'p.a', kind => 'read_only'), saga.publish('plain');
select saga.start('plain', input => '{}') as plain \gset
truncate saga.intent;
select results_eq(format('select saga from saga.intend_many(array[%L, %L, %L, %L]::uuid[], %L, %L, reason => %L)', :'other', :'id', :'gone', gen_random_uuid(), '{4, 5, 6, 7}', 'cancel', 'recall'),
    format('values (%L::uuid), (%L)', :'id', :'other'), 'of many, those that run are recorded');
select results_eq('select saga_id, verb, reason, expected_revision, actor = session_user from saga.intent order by id',
    format($$ values (%L::uuid, 'cancel', 'recall', 5::bigint, true), (%L, 'cancel', 'recall', 4, true) $$, :'id', :'other'), 'each at the revision it was seen at');
select results_eq(format('select saga from saga.intend_many(array[%L, %L]::uuid[], %L, %L, %L)', :'id', :'plain', '{0, 0}', 'skip', 'approval'), format('values (%L::uuid)', :'id'), 'and has the step');
select results_eq(format('select saga from saga.intend_many(array[%L, %L]::uuid[], %L, %L, %L, %L)', :'id', :'id', '{0, 0}', 'signal', 'approval', '{"signal_id": "one"}'), format('values (%L::uuid)', :'id'),
    'a signal that was given before is not recorded again');
select is_empty(format('select saga from saga.intend_many(array[%L]::uuid[], %L, %L, %L)', :'id', '{0}', 'signal', 'pay'), 'nor for a step that waits for none');
select throws_ok(format('select saga.intend_many(array[%L]::uuid[], %L, %L, reason => %L)', :'id', '{0}', 'cancel', repeat('x', 401)), 'SG403', null, 'a reason has a size');

-- To another version: what in a saga's data forbids it.
truncate saga.intent;
select saga.define('order'), saga.step('order', 'reserve', action => 'p.reserve', undo => 'p.release'), saga.step('order', 'approval', via => 'signal', after => '{reserve}', timeout => '1 day'),
       saga.step('order', 'pay', action => 'p.pay', kind => 'pivot', after => '{approval}', input => '{"n": "$.steps.reserve.id", "m": {"$path": "$.input.m", "default": 1}}'), saga.publish('order');
select id as version2 from saga.definition where name = 'order' and version = 2 \gset
select is(saga.migrate(:'id', 2, 'mended', 7), 'recorded', 'migrate');
select results_eq('select verb, argument, reason, expected_revision from saga.intent', $$ values ('migrate', '{"version": 2}'::jsonb, 'mended', 7::bigint) $$, 'is an intent');
select throws_ok(format('select saga.migrate(%L, 3)', :'id'), 'SG404', 'there is no version 3 of "order"', 'no such version');
select throws_ok(format('select saga.migrate(%L, null)', :'id'), 'SG404', 'there is no version null of "order"', 'no version');
select throws_ok(format('select saga.migrate(%L, 1)', gen_random_uuid()), 'SG401', null, 'migrate: no such saga');
update saga.instance set outputs = '{}', steps = jsonb_set(steps, '{0}', '{"s": "SUCCEEDED", "r": 1, "u": 0, "a": 1}') where id = :'id';
select results_eq(format('select * from saga.migration_obstacles(array[%L, %L]::uuid[], array[%s, %s])', :'other', :'id', :version2, :version2),
    $$ values (2, 'step "pay" would not find $.steps.reserve.id, and has no default for it') $$, 'what an ended step has not brought; one that is still to end is not looked at');
update saga.instance set steps = jsonb_set(steps, '{2}', '{"s": "SENT", "r": 1, "u": 0, "a": 1}') where id = :'id';
select is_empty(format('select * from saga.migration_obstacles(array[%L]::uuid[], array[%s])', :'id', :version2), 'a step that has begun has its input');
update saga.instance set steps = jsonb_set(steps, '{2}', '{"s": "READY", "r": 0, "u": 0, "a": 0}') where id = :'id';
select isnt_empty(format('select * from saga.migration_obstacles(array[%L]::uuid[], array[%s])', :'id', :version2), 'one that was held back before anything was sent has not begun');
update saga.instance set outputs = '{"reserve": {"id": null}}' where id = :'id';
select is_empty(format('select * from saga.migration_obstacles(array[%L]::uuid[], array[%s])', :'id', :version2), 'null is a value');
-- An undo that is still to be built is looked at like an input; when the saga is undone, what has not begun is not.
select saga.define('order'), saga.step('order', 'reserve', action => 'p.reserve', undo => 'p.release', undo_input => '{"of": "$.steps.reserve.of"}'),
       saga.step('order', 'late', action => 'p.late', kind => 'read_only', after => '{reserve}', input => '{"x": "$.input.none"}'), saga.publish('order');
prepare obstacle(uuid) as select obstacle from saga.migration_obstacles(array[$1], array[(select id from saga.definition where name = 'order' and version = 3)]);
update saga.instance set steps = jsonb_set(steps, '{0}', '{"s": "UNDO_STUCK", "r": 1, "u": 2, "a": 0}'), state = 'STUCK', phase = 'backward' where id = :'id';
select results_eq(format('execute obstacle(%L)', :'id'), $$ values ('step "reserve" would not find $.steps.reserve.of, and has no default for it') $$, 'an undo that was refused is built anew');
update saga.instance set steps = jsonb_set(steps, '{0}', '{"s": "UNDO_STUCK", "r": 1, "u": 1, "a": 4}') where id = :'id';
select is_empty(format('execute obstacle(%L)', :'id'), 'one that is out is not: that it differs is for the machine to say');
update saga.instance set outputs = '{"reserve": {"of": 1}}', steps = jsonb_set(steps, '{0}', '{"s": "UNDO_STUCK", "r": 1, "u": 0, "a": 0}') where id = :'id';
select is_empty(format('execute obstacle(%L)', :'id'), 'its own output is there');
update saga.instance set state = 'RUNNING', phase = null, steps = jsonb_set(steps, '{0}', '{"s": "SUCCEEDED", "r": 1, "u": 0, "a": 1}') where id = :'id';
select results_eq(format('execute obstacle(%L)', :'id'), $$ values ('step "late" would not find $.input.none, and has no default for it') $$, 'forward, the steps to come are looked at');
update saga.instance set outputs = '{"reserve": {"id": null}}' where id = :'id';
select saga.define('parent'), saga.step('parent', 'c', via => 'saga', child => 'plain'), saga.publish('parent');
select saga.start('parent', input => '{}') as parent \gset
update saga.instance set parent_id = :'parent', parent_step = 'c', parent_round = 1 where id = :'id';
select results_eq(format('select obstacle from saga.migration_obstacles(array[%L]::uuid[], array[%s])', :'id', :version2),
    format($$ values ('step "pay" cannot be undone, and the saga is the compensable step "c" of saga %s') $$, :'parent'), 'a child that may be taken back stays one that can be undone');

-- An intent waits for nobody, and wakes whoever listens.
call session_open('one');
call session_do('one', 'listen saga_intent');
call session_open('two');
call session_do('two', 'begin');
call session_do('two', format('select 1 from saga.instance where id = %L for update', :'id'));
select is(saga.cancel(:'id'), 'recorded', 'no lock on the instance is waited for');
call session_do('two', 'rollback');
select ok(wait_until($$ exists (select from dblink_get_notify('one') where notify_name = 'saga_intent') $$), 'a NOTIFY');

select * from finish();
