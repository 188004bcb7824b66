-- saga.start and saga.send_commands: what they write, keys, and that starts do not wait for each other.
\ir lib/session.sql
select no_plan();
\set VERBOSITY terse

update saga.setting set orchestrator = 'shop';
select saga.define('order', timeout => '15 min');
select saga.step('order', 'reserve', action => 'inventory.reserve', undo => 'inventory.release', undo_on_fail => true, input => '{"sku": "$.input.sku"}');
select saga.step('order', 'fraud', action => 'fraud.check', kind => 'read_only', timeout => '5 s');
select saga.step('order', 'book', action => 'hotel.book', undo => 'hotel.cancel', undo_input => '{"booking": "$.steps.book.id"}', after => '{fraud}',
                 input => '["$.input.sku"]');
select saga.step('order', 'capture', action => 'payment.capture', kind => 'pivot', after => '{reserve,book}', input => '{"amount": "$.input.total", "id": "$.steps.reserve.id"}');
select saga.step('order', 'wait', via => 'timer', timeout => '1 s', after => '{capture}');
select version from saga.publish('order');

-- A saga in the tables ------------------------------------------------------------------------------------------------------------
select saga.start('order', key => 'ORD-1', input => '{"sku": "A1", "total": 19.90}') as id \gset
select results_eq(format('select state, phase, reason, paused, cancel_requested, revision, input, outputs, errors, key from saga.instance where id = %L', :'id'),
    $$ values ('RUNNING', null::text, null::text, false, false, 0::bigint, '{"sku": "A1", "total": 19.90}'::jsonb, '{}'::jsonb, '{}'::jsonb, 'ORD-1') $$, 'the instance');
select is((select jsonb_agg(s - 'd') from saga.instance, jsonb_array_elements(steps) s where id = :'id'),
    '[{"s": "SENT", "r": 1, "u": 0, "a": 1}, {"s": "SENT", "r": 1, "u": 0, "a": 1}, {"s": "WAITING", "r": 0, "u": 0, "a": 0}, {"s": "WAITING", "r": 0, "u": 0, "a": 0},
      {"s": "WAITING", "r": 0, "u": 0, "a": 0}]', 'its steps');
select is((select jsonb_agg(s.value ? 'd') from saga.instance, jsonb_array_elements(steps) s where id = :'id'), '[true, true, false, false, false]', 'roots have a timer');
select ok((steps #>> '{0,d}')::bigint = round(extract(epoch from started_at) * 1000000) + 30000000 and (steps #>> '{1,d}')::bigint = round(extract(epoch from started_at) * 1000000) + 5000000
          and wake_at = started_at + interval '5 s' and deadline_at = started_at + interval '15 min' and started_at > clock_timestamp() - interval '1 min', 'due by the start')
from saga.instance where id = :'id';
select results_eq(format('select event, step, detail from saga.timeline where saga_id = %L', :'id'), $$ values ('started', null::text, '{"definition": "order", "version": 1}'::jsonb) $$, 'the history');
select is(substr(:'id', 15, 1), '7', 'the id is a UUIDv7');
select is(count(*)::integer, 2, 'a command for each root') from outbox.message;
select results_eq($$ select type, exchange, routing_key, key, correlation_id, reply_to, headers, payload::jsonb, mandatory from outbox.message where routing_key = 'inventory.reserve' $$,
    format($$ values ('saga.command', 'saga.commands', 'inventory.reserve', null::text, %1$L, 'shop', '{"saga-id": "%1$s", "saga-step": "reserve", "saga-operation": "action"}'::jsonb,
              '{"saga": {"id": "%1$s", "definition": "order", "version": 1, "step": "reserve", "element": 0, "operation": "action", "round": 1, "attempt": 1,
                         "reply_to": "shop", "action": "inventory.reserve"}, "input": {"sku": "A1"}}'::jsonb, true) $$, :'id'), 'a command, whole');
select is(payload -> 'input' ->> 'total', '19.90', 'without a template the saga''s input, exact') from outbox.message where routing_key = 'fraud.check';

-- Keys ------------------------------------------------------------------------------------------------------------------------------
select is(saga.start('order', key => 'ORD-1', input => '{"total": 19.90, "sku": "A1"}'), :'id', 'the same key and input: the same saga');
select is(saga.start('order', key => 'ORD-1', input => '{"total": 19.9, "sku": "A1"}'), :'id', 'as jsonb');
select is(count(*)::integer, 2, 'which sends nothing again') from outbox.message;
select throws_ok($$ select saga.start('order', key => 'ORD-1', input => '{"sku": "A2", "total": 19.90}') $$, 'SG321',
                 format('saga.start: the key "ORD-1" of "order" started saga %s with another input', :'id'), 'another input is refused');
insert into saga.ended select i.* from saga.instance i;
delete from saga.instance;
select is(saga.start('order', key => 'ORD-1', input => '{"sku": "A1", "total": 19.90}'), :'id', 'also when the saga has ended');
select isnt(saga.start('order', input => '{"sku": "A1", "total": 19.90}'), :'id', 'without a key it is another');
select throws_ok(format('select saga.start(%L, %L, %L)', 'order', '{"sku": "A1"}', bad), 'SG323', null, 'a key of a bad length')
from unnest(array['', repeat('k', 1025)]) bad;

-- Refused ---------------------------------------------------------------------------------------------------------------------------
select throws_ok($$ select saga.start('nobody', '{}') $$, 'SG320', 'saga.start: there is no published definition "nobody"', 'no definition');
select throws_ok(format('select saga.start(%L, %L)', 'order', bad), 'SG323', 'saga.start: the input of "order" is no JSON object', 'an input is an object: ' || coalesce(bad, 'null'))
from unnest(array['5', '[]', 'null', '"x"', null]) bad;
select throws_ok($$ select saga.start('order', jsonb_build_object('sku', (select string_agg(md5(g::text), '') from generate_series(1, 9000) g))) $$, 'SG323', null, 'an input has a size');
select throws_ok(format('select saga.start(%L, %L)', 'order', input), 'SG323', null, 'as text too, and a depth')
from unnest(array['{"sku": [1e99999, 1e99999, 1e99999]}', '{"sku": ' || repeat('[', 50) || repeat(']', 50) || '}']) input;
select throws_ok($$ select saga.start('order', '{"total": 1}', 'ORD-2') $$, 'SG322', 'saga.start: input of step "reserve": the path $.input.sku finds nothing', 'a path that finds nothing');
select is_empty($$ select from saga.key where key = 'ORD-2' $$, 'leaves nothing');

-- Sessions --------------------------------------------------------------------------------------------------------------------------
call session_open('one');
call session_open('two');
call session_do('one', 'begin');
call session_do('two', 'begin');
select session_get('one', $$ select saga.start('order', key => 'A', input => '{"sku": "A1", "total": 1}') $$) as one_a \gset
select isnt(session_get('two', $$ select saga.start('order', key => 'B', input => '{"sku": "A1", "total": 1}') $$), null, 'two starts at once do not wait for each other');
call session_send('two', $$ select saga.start('order', key => 'A', input => '{"sku": "A1", "total": 1}') $$);
select ok(wait_until($$ session_is_waiting('two') $$), 'but with one key the second waits');
call session_do('one', 'commit');
select is(session_wait('two'), :'one_a', 'and gets the saga of the first');
call session_do('two', 'rollback');
select is_empty($$ select from saga.key where key = 'B' $$, 'a start that is rolled back never was');
select is_empty($$ select from outbox.message m where not exists (select from saga.instances i where i.id::text = m.correlation_id) $$, 'nor are its commands');
call session_do('one', 'begin');
call session_do('one', $$ select saga.start('order', key => 'C', input => '{"sku": "A1", "total": 1}') $$);
call session_send('two', $$ select saga.start('order', key => 'C', input => '{"sku": "OTHER", "total": 1}') $$);
select ok(wait_until($$ session_is_waiting('two') $$), 'a second waits');
call session_do('one', 'rollback');
select isnt(session_wait('two'), null, 'and starts its own when the first rolls back');

-- send_commands ---------------------------------------------------------------------------------------------------------------------
select saga.start('order', '{"sku": "B", "total": 100000000000000000000.10}') as id \gset
truncate outbox.message;
update saga.instance set outputs = '{"reserve": {"id": 7}, "book": {"id": "H"}}' where id = :'id';
select is_empty(format('select * from saga.send_commands(array_fill(%L::uuid, array[6]), %L, %L, %L, %L)', :'id', '{1,0,2,0,3,3}',
                       '{action,undo,undo,probe,action,probe}', '{1,2,1,1,1,1}', '{2,1,1,3,1,4}'), 'six commands are sent');
select results_eq($$ select routing_key, payload -> 'saga' ->> 'operation', (payload -> 'saga' ->> 'round')::integer, (payload -> 'saga' ->> 'attempt')::integer,
                            (payload::jsonb -> 'saga') - '{id,definition,version,step,element,operation,round,attempt,reply_to,action}'::text[], payload::jsonb -> 'input'
                     from outbox.message order by id $$,
    $$ values ('fraud.check', 'action', 1, 2, '{}'::jsonb, '{"sku": "B", "total": 100000000000000000000.10}'::jsonb),
              ('inventory.release', 'undo', 2, 1, '{"undo_on_fail": true}', '{"sku": "B", "output": {"id": 7}}'),
              ('hotel.cancel', 'undo', 1, 1, '{"mapped": true}', '{"booking": "H"}'),
              ('inventory.reserve', 'probe', 1, 3, '{}', '{"sku": "B"}'),
              ('payment.capture', 'action', 1, 1, '{}', '{"id": 7, "amount": 100000000000000000000.10}'),
              ('payment.capture', 'probe', 1, 4, '{}', '{"id": 7, "amount": 100000000000000000000.10}') $$,
    'in the order given: an undo goes to the undo''s action with the output added or mapped, a probe to the action with its input');
select is(payload -> 'input' ->> 'amount', '100000000000000000000.10', 'exact') from outbox.message where routing_key = 'payment.capture' limit 1;

truncate outbox.message;
update saga.instance set outputs = '{}' where id = :'id';
select results_eq(format('select ordinal, reason from saga.send_commands(array_fill(%L::uuid, array[6]), %L, %L, %L, %L)', :'id', '{3,0,2,9,4,1}',
                         '{action,undo,undo,action,action,undo}', '{1,1,1,1,1,1}', '{1,1,1,1,1,1}'),
    $$ values (1, 'input of step "capture": the path $.steps.reserve.id finds nothing'), (3, 'undo_input of step "book": the path $.steps.book.id finds nothing'),
              (4, 'there is no such step of such a saga'), (6, 'step "fraud" has no undo') $$, 'what cannot be sent comes back with the reason');
select results_eq($$ select payload::jsonb -> 'input' from outbox.message $$, $$ values ('{"sku": "B", "output": null}'::jsonb) $$, 'and the others are sent');
select results_eq($$ select ordinal, event, reason from saga.send_commands('{00000000-0000-0000-0000-000000000000}', '{0}', '{action}', '{1}', '{1}') $$,
                  $$ values (1, 'unmappable', 'there is no such step of such a saga') $$, 'an unknown saga');
select is_empty($$ select * from saga.send_commands('{}', '{}', '{}', '{}', '{}') $$, 'no commands, nothing');
update saga.instance set outputs = jsonb_build_object('fraud', (select string_agg(md5(g::text), '') from generate_series(1, 20000) g)), input = '{"sku": 1}' where id = :'id';
select saga.define('large');
select saga.step('large', 'a', action => 'p.a', kind => 'read_only');
select saga.step('large', 'b', action => 'p.a', kind => 'read_only', after => '{a}', input => '"$.steps.a"');
select version from saga.publish('large');
select saga.start('large', '{}') as id \gset
update saga.instance set outputs = jsonb_build_object('a', (select string_agg(md5(g::text), '') from generate_series(1, 20000) g)) where id = :'id';
select matches((select reason from saga.send_commands(array[:'id']::uuid[], '{1}', '{action}', '{1}', '{1}')), '^input of step "b": it has 64....? bytes, allowed are 524288$',
               'an input that grew too large');

-- Roots that wait, and no timeout of the saga.
select saga.define('waits');
select saga.step('waits', 'pause', via => 'timer', timeout => '1 min');
select saga.step('waits', 'approval', via => 'signal');
select saga.step('waits', 'go', action => 'p.a', kind => 'read_only', after => '{pause,approval}');
select version from saga.publish('waits');
truncate outbox.message;
select saga.start('waits', '{}') as id \gset
select is((select jsonb_agg(s - 'd') from saga.instance, jsonb_array_elements(steps) s where id = :'id'),
    '[{"s": "PARKED", "r": 0, "u": 0, "a": 0}, {"s": "PARKED", "r": 0, "u": 0, "a": 0}, {"s": "WAITING", "r": 0, "u": 0, "a": 0}]', 'wait steps are parked');
select ok(steps -> 0 ? 'd' and not steps -> 1 ? 'd' and wake_at = started_at + interval '1 min' and deadline_at is null, 'the timer runs, the signal has none')
from saga.instance where id = :'id';
select is_empty('select from outbox.message', 'nothing is sent');

-- Conditions: a root that is not to run is left for a worker to skip; the others start as ever.
select saga.define('choice');
select saga.step('choice', 'fast', action => 'p.fast', kind => 'read_only', run_if => '{"input": {"express": true}}', input => '{"to": "$.input.to"}');
select saga.step('choice', 'slow', action => 'p.slow', kind => 'read_only', skip_if => '{"input": {"express": true}}');
select saga.step('choice', 'approval', via => 'signal', run_if => '{"input": {"total": 1000}}');
select saga.step('choice', 'nap', via => 'timer', timeout => '1 min', run_if => '{"input": {"tired": true}}');
select saga.step('choice', 'then', action => 'p.then', undo => 'p.undo', after => '{fast,slow,approval,nap}', run_if => '{"steps": {"fast": {"ok": true}}}',
                 input => '{"to": {"$path": "$.steps.fast.to", "default": "nobody"}}', undo_input => '{"to": "$.steps.then.to"}');
select saga.step('choice', 'hold', via => 'signal', after => '{then}', skip_if => '{"steps": {"then": {}}}');
select version from saga.publish('choice');
call session_do('one', 'listen saga_wake');
truncate outbox.message;
select saga.start('choice', '{"express": true, "total": 1000, "tired": true, "to": "x"}') as id \gset
select is(array(select state from saga.steps where saga_id = :'id' order by place), '{SENT,WAITING,PARKED,PARKED,WAITING,WAITING}', 'what is to run starts');
select ok(wake_at = started_at, 'a worker is to look at the rest at once') from saga.instance where id = :'id';
select ok(wait_until($$ exists (select from dblink_get_notify('one') where notify_name = 'saga_wake') $$), 'and is told so');
select is((select array_agg(routing_key) from outbox.message), '{p.fast}', 'what is not to run is not sent');
select saga.start('choice', '{"express": false, "total": 1000.0, "tired": true}') as id \gset
select is(array(select state from saga.steps where saga_id = :'id' order by place), '{WAITING,SENT,PARKED,PARKED,WAITING,WAITING}', 'its input is not even built');
select saga.start('choice', '{}') as id \gset
select is(array(select state from saga.steps where saga_id = :'id' order by place), '{WAITING,SENT,WAITING,WAITING,WAITING,WAITING}', 'waits too');

truncate outbox.message;
create function pg_temp.asked(saga uuid, given jsonb, asked integer[], round integer default 1, attempt integer default 1) returns text language plpgsql as $$
begin
    update saga.instance set outputs = given where id = saga;
    return (select string_agg(concat_ws(' ', c.ordinal, c.event, c.reason), '; ' order by c.ordinal)
            from saga.send_commands(array_fill(saga, array[cardinality(asked)]), asked, array_fill('action'::text, array[cardinality(asked)]),
                                    array_fill(round, array[cardinality(asked)]), array_fill(attempt, array[cardinality(asked)])) c);
end
$$;
select is(pg_temp.asked(:'id', '{}', '{4,5}'), '1 condition_false its condition does not hold', 'a step that was skipped matches nothing; a wait that is to be asks and sends nothing');
select is_empty('select from outbox.message', 'nothing is sent');
select is(pg_temp.asked(:'id', '{"then": {}}', '{5}', 0, 0), '1 condition_false its condition does not hold', 'an empty output is an output');
select is(pg_temp.asked(:'id', '{"fast": {"ok": true, "more": 1}}', '{4}'), null, 'what it reads is there');
select is(pg_temp.asked(:'id', '{"fast": {"ok": true, "to": "x"}}', '{4}'), null, 'with what it maps');
select is((select array_agg(payload #>> '{input,to}' order by id) from outbox.message), '{nobody,x}', 'a skipped step''s output is the default');
select is(pg_temp.asked(:'id', '{}', '{4}', 1, 2), null, 'a further attempt asks no more');
select is(pg_temp.asked(:'id', '{}', '{4}', 2, 1), null, 'nor does another round');
select is(count(*)::integer, 4, 'all of these are sent') from outbox.message;
select is(string_agg(concat_ws(' ', c.ordinal, c.event), '; '), '2 condition_false; 3 unmappable', 'of several each for itself')
from saga.send_commands(array_fill(:'id'::uuid, array[4]), '{1,4,4,7}', '{action,action,undo,probe}', '{1,1,1,1}', '{1,1,1,1}') c where c.ordinal < 4; -- the fourth names no step

select * from finish();
