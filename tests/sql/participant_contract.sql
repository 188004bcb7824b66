-- saga.receive and saga.reply: an outcome is written once and repeated for ever after, whatever comes in whatever order.
\ir lib/session.sql
\ir lib/participant.sql
select no_plan();
\set VERBOSITY terse

-- An action once ------------------------------------------------------------------------------------------------------------------
select is(take(cmd('a'), 'ok', '{"id": 7}'), 'execute recorded', 'an action is executed');
select is(replies(), 'ok r1 a1 {"id": 7}', 'and answered');
select is(take(cmd('a', attempt => 2)), 'repeated', 'again, it is repeated');
select is(replies(), 'ok r1 a2 {"id": 7}', 'with the stored answer, to the attempt that asks');
select is(take(cmd('a', round => 2)), 'repeated', 'also to a higher round: ok is final');
select is(replies(), 'ok r2 a1 {"id": 7}', 'answered as that round');

begin;
select ((r).verdict || (r).input || coalesce((r).reply::text, ' null'))::text as seen_1 from (select saga.receive(cmd('row')) as r) x \gset
rollback;
select is(:'seen_1'::text, 'execute{"a": 1} null', 'what receive returns');
select is((saga.receive(cmd('a'))).reply, '{"outcome": "ok", "output": {"id": 7}}'::jsonb || jsonb_build_object('saga', cmd('a') -> 'saga'), 'a repeated one returns the reply');
select results_eq($$ select type, exchange, routing_key, correlation_id, headers, key from outbox.message $$,
                  format($$ values ('saga.reply', 'saga.replies', 'shop', %1$L, '{"saga-id": "%1$s", "saga-step": "a", "saga-operation": "action"}'::jsonb, null::text) $$, id),
                  'the reply''s message') from saga_of_test;
truncate outbox.message;

-- Failures and rounds ---------------------------------------------------------------------------------------------------------------
select is(take(cmd('f'), 'failed', '{"code": "no_stock", "message": "none left", "details": {"left": 0}}'), 'execute recorded', 'a business no');
select is((select payload::jsonb -> 'error' from outbox.message), '{"code": "no_stock", "message": "none left", "details": {"left": 0}}', 'has code, message, details');
select is(replies(), 'failed r1 a1 no_stock', 'is answered');
select is(take(cmd('f', attempt => 2)), 'repeated', 'it is final for its round');
select is(replies(), 'failed r1 a2 no_stock', 'with the stored answer');
select is(take(cmd('f', round => 2), 'ok', '{"n": 2}'), 'execute recorded', 'a higher round is executed');
select is(take(cmd('f', round => 1)), 'repeated', 'the lower one, late, is not');
select is(replies(), 'ok r2 a1 {"n": 2}, ok r1 a1 {"n": 2}', 'it gets what stands');
select is(saga.reply(cmd('f2'), 'failed', '{"message": "odd"}'), 'recorded', 'failed without a claim: the work was rolled back');
select is(outcome_of('f2'), 'failed r1 failed', 'claims and is written, with a code of its own');
select is(saga.reply(cmd('f2'), 'failed', '{"code": "other"}'), 'repeated', 'a second one is a repeat');
select is(replies(), 'failed r1 a1 failed, failed r1 a1 failed', 'of the first');
select is(saga.reply(cmd('f2', round => 3), 'failed', '"text"'), 'recorded', 'of a higher round it is new');
select is(saga.reply(cmd('a'), 'failed', '{"code": "late"}'), 'repeated', 'failed, but an ok stands');
select is(replies(), 'failed r3 a1 failed, ok r1 a1 {"id": 7}', 'the ok is repeated');

-- Transient ---------------------------------------------------------------------------------------------------------------------------
select is(take(cmd('t'), 'transient', '{"code": "busy"}'), 'execute recorded', 'transient');
select is(outcome_of('t'), null, 'leaves nothing');
select is(take(cmd('t', attempt => 2)), 'execute recorded', 'so that it is executed the next time');
select is(replies(), 'transient r1 a1 busy, ok r1 a2 {}', 'answered both times');
select is(saga.reply(cmd('t2'), 'transient'), 'recorded', 'transient without a claim');
select is(replies(), 'transient r1 a1 transient', 'is answered');
select is(saga.reply(cmd('a'), 'transient'), 'repeated', 'but not when an outcome stands');
truncate outbox.message;
select take(cmd('t3'), 'failed', '{"code": "first"}');
select is(take(cmd('t3', round => 2), 'transient'), 'execute recorded', 'a second round given up');
select is(outcome_of('t3'), 'failed r1 first', 'leaves the failure of the first');
select is(take(cmd('t3', round => 1)), 'repeated', 'so that a late first round is not executed');
select is(take(cmd('t3', round => 2)), 'execute recorded', 'and the second is');
truncate outbox.message;

-- Savepoints --------------------------------------------------------------------------------------------------------------------------
create table work (n integer);
begin;
select is((saga.receive(cmd('s'))).verdict, 'execute', 'the loop of a program');
savepoint work;
insert into work values (1);
rollback to work;
select is(saga.reply(cmd('s'), 'failed', '{"code": "no"}'), 'recorded', 'ROLLBACK TO keeps the claim, the failure takes it');
commit;
select is(outcome_of('s'), 'failed r1 no', 'and is committed');
begin;
savepoint work;
select is((saga.receive(cmd('s2'))).verdict, 'execute', 'received inside the savepoint');
rollback to work;
select is(saga.reply(cmd('s2'), 'failed', '{"code": "no"}'), 'recorded', 'the claim is gone with it, the failure claims');
commit;
truncate outbox.message;

-- Refused -----------------------------------------------------------------------------------------------------------------------------
select throws_ok($$ select saga.reply(cmd('x'), 'ok') $$, 'SG202', null, 'ok without a claim is an error');
select throws_ok(format('select saga.reply(cmd(%L), %L)', 'x', bad), 'SG205', null, 'an unknown outcome: ' || coalesce(bad, 'null')) from unnest(array['done', 'OK', '', 'not_executed', null]) bad;
select throws_ok(format('select saga.receive(%L)', bad), 'SG200', null, 'not a command: ' || coalesce(left(bad, 80), 'null'))
from unnest(array['5', '[]', '{}', '{"saga": 5, "input": {}}', null,
    (cmd('x') - 'input')::text, (cmd('x') #- '{saga,id}')::text, jsonb_set(cmd('x'), '{saga,id}', '"0190abcd-0000-7000-8000-00000000000"')::text,
    jsonb_set(cmd('x'), '{saga,id}', '"0190abcd-00007000--8000-000000000000"')::text, jsonb_set(cmd('x'), '{saga,id}', '5')::text,
    (cmd('x') #- '{saga,step}')::text, cmd(repeat('x', 64))::text, cmd('x', 'redo')::text, (cmd('x') #- '{saga,round}')::text, jsonb_set(cmd('x'), '{saga,round}', '-1')::text,
    jsonb_set(cmd('x'), '{saga,round}', '1.5')::text, jsonb_set(cmd('x'), '{saga,round}', '9999999999')::text, jsonb_set(cmd('x'), '{saga,element}', '"a"')::text,
    (cmd('x') #- '{saga,reply_to}')::text, jsonb_set(cmd('x'), '{saga,reply_to}', to_jsonb(repeat('x', 256)))::text]) bad;
call session_open('one');
call session_open('two');
call session_do('one', 'begin isolation level repeatable read');
select throws_ok($$ select session_get('one', 'select saga.receive(cmd(''x''))') $$, 'SG201', null, 'REPEATABLE READ is refused');
call session_do('one', 'rollback');
call session_do('one', 'begin');
select is(session_get('one', $$ select verdict from saga.receive(cmd('twice')) $$), 'execute', 'received');
select throws_ok($$ select session_get('one', 'select saga.receive(cmd(''twice''))') $$, 'SG204', null, 'not twice in one transaction');
call session_do('one', 'rollback');
call session_do('one', 'begin');
call session_do('one', $$ select verdict from saga.receive(cmd('twice')) $$);
select throws_ok($$ select session_get('one', 'select saga.receive(cmd(''twice'', ''undo''))') $$, 'SG204', null, 'nor its undo');
call session_do('one', 'rollback');
call session_do('one', 'begin');
select is(session_get('one', $$ select verdict from saga.receive(cmd('forgotten')) $$), 'execute', 'received and not answered');
select throws_ok($$ select session_get('one', 'commit') $$, 'SG203', null, 'is not committed');
call session_do('one', 'rollback');
select is(outcome_of('forgotten'), null, 'and leaves nothing');
select throws_ok($$ select take(cmd('x'), 'ok', to_jsonb((select string_agg(md5(g::text), '') from generate_series(1, 9000) g))) $$, 'SG207', null, 'an output has a size');
select throws_ok($$ select take(cmd('x'), 'ok', (repeat('[', 51) || repeat(']', 51))::jsonb) $$, 'SG207', 'saga.reply: the output has more than 50 levels', 'and a depth');

-- Undo --------------------------------------------------------------------------------------------------------------------------------
begin;
select (r).input::text as seen from (select saga.receive(cmd('a', 'undo', input => '{"a": 1, "output": "other"}')) as r) x \gset
rollback;
select is(:'seen'::text, '{"a": 1, "output": {"id": 7}}', 'an undo gets the action''s output from here');
begin;
select ((r).input)::text as seen_3 from (select saga.receive(cmd('a', 'undo', more => '{"mapped": true}', input => '{"b": 2}')) as r) x \gset
rollback;
select is(:'seen_3'::text, '{"b": 2}', 'unless the definition maps it');
begin;
select ((r).input)::text as seen_4 from (select saga.receive(cmd('a', 'undo', input => '[1]')) as r) x \gset
rollback;
select is(:'seen_4'::text, '{"input": [1], "output": {"id": 7}}', 'an input that is no object stands beside it');
select is(take(cmd('a', 'undo'), 'failed', '{"code": "later"}'), 'execute recorded', 'an undo that fails');
select is(take(cmd('a', 'undo', round => 2)), 'execute recorded', 'succeeds in its second round');
select is(take(cmd('a', 'undo', round => 2, attempt => 2)), 'repeated', 'and is repeated');
select is(take(cmd('a', attempt => 9)), 'repeated', 'its action too, without effect');
select is(replies(), 'failed r1 a1 later, ok r2 a1 {}, ok r2 a2 {}, ok r1 a9 {"id": 7}', 'all answered');
select is(take(cmd('u', 'undo')), 'fenced', 'the undo of what never came');
select is(replies(), 'ok r1 a1 empty', 'had nothing to undo');
select is(take(cmd('u')), 'fenced', 'the action, overtaken by its undo, is never executed');
select is(take(cmd('u', round => 5)), 'fenced', 'in no round');
select is(replies(), 'not_executed r1 a1, not_executed r5 a1', 'and the saga is told so');
select is(take(cmd('u', 'undo', attempt => 2)), 'fenced', 'the undo again');
select is(replies(), 'ok r1 a2 empty', 'is as empty');
select take(cmd('uf'), 'failed', '{"code": "no"}');
select is(take(cmd('uf', 'undo')), 'fenced', 'the undo of what failed');
select is(take(cmd('uf', round => 2)), 'fenced', 'fences every later round');
select is(replies(), 'failed r1 a1 no, ok r1 a1 empty, failed r2 a1 no', 'which is answered with the failure');
select take(cmd('of'), 'failed', '{"code": "half"}');
begin;
select is((r).verdict || (r).input, 'execute{"a": 1, "output": null}', 'undo_on_fail: the undo of what failed is executed') from (select saga.receive(cmd('of', 'undo', more => '{"undo_on_fail": true}')) as r) x;
select is(saga.reply(cmd('of', 'undo', more => '{"undo_on_fail": true}'), 'failed', '{"code": "x"}'), 'recorded', 'fails');
commit;
select is(take(cmd('of', 'undo', round => 2, more => '{"undo_on_fail": true}')), 'execute recorded', 'and is executed in its second round');
select is(take(cmd('of', 'undo', round => 2, more => '{"undo_on_fail": true}')), 'repeated', 'once');
select is(take(cmd('of2', 'undo', more => '{"undo_on_fail": true}')), 'fenced', 'but not when the action never came');
truncate outbox.message;

-- Probe -------------------------------------------------------------------------------------------------------------------------------
select is(take(cmd('a', 'probe')), 'repeated', 'a probe of what took effect');
select is(replies(), 'executed r1 a1 {"id": 7}', 'says executed');
select take(cmd('pf', round => 2), 'failed', '{"code": "no"}');
truncate outbox.message;
select is(take(cmd('pf', 'probe', round => 2)), 'repeated', 'of what failed');
select is(replies(), 'failed r2 a1 no', 'failed');
select is(take(cmd('pf', round => 3)), 'execute recorded', 'which forbids no later round');
truncate outbox.message;
select is(take(cmd('p', 'probe')), 'fenced', 'of what never came');
select is(replies(), 'not_executed r1 a1', 'not executed');
select is(take(cmd('p')), 'fenced', 'and it never will be');
select is(take(cmd('p', 'probe')), 'fenced', 'asked again');
select is(replies(), 'not_executed r1 a1, not_executed r1 a1', 'the same answer');
select take(cmd('p2'), 'failed', '{"code": "no"}');
select is(take(cmd('p2', 'probe', round => 2)), 'fenced', 'of a round that never came, after one that failed');
select is(replies(), 'failed r1 a1 no, not_executed r2 a1', 'not executed');
select is(take(cmd('p2', round => 2)), 'fenced', 'and that round never will be');
truncate outbox.message;
select is(saga.reply(cmd('p', 'probe'), 'transient'), 'recorded', 'a program that cannot look now says so');
select is(replies(), 'in_doubt r1 a1 transient', 'and is asked again');
select throws_ok($$ select saga.reply(cmd('p', 'probe'), 'ok') $$, 'SG202', null, 'but answers no probe by itself');

-- Sessions: whoever comes second waits for the first, and sees what it did ----------------------------------------------------------------
call session_do('one', 'begin');
select is(session_get('one', $$ select verdict from saga.receive(cmd('r1')) $$), 'execute', 'an action runs');
call session_send('two', $$ select verdict from saga.receive(cmd('r1', attempt => 2)) $$);
select ok(wait_until($$ session_is_waiting('two') $$), 'its repetition waits');
call session_do('one', $$ select saga.reply(cmd('r1'), 'ok', '{"by": "one"}') $$);
call session_do('one', 'commit');
select is(session_wait('two'), 'repeated', 'and is repeated');
select is(replies(), 'ok r1 a1 {"by": "one"}, ok r1 a2 {"by": "one"}', 'with the same answer');
call session_do('one', 'begin');
call session_do('one', $$ select verdict from saga.receive(cmd('r2')) $$);
call session_do('two', 'begin');
call session_send('two', $$ select verdict from saga.receive(cmd('r2', attempt => 2)) $$);
select ok(wait_until($$ session_is_waiting('two') $$), 'it waits');
call session_do('one', 'rollback');
select is(session_wait('two'), 'execute', 'and is executed when the first rolls back');
call session_do('two', $$ select saga.reply(cmd('r2', attempt => 2), 'ok') $$);
call session_do('two', 'commit');
call session_do('one', 'begin');
call session_do('one', $$ select verdict from saga.receive(cmd('r3')) $$);
call session_send('two', $$ select verdict from saga.receive(cmd('r3', 'undo')) $$);
select ok(wait_until($$ session_is_waiting('two') $$), 'an undo waits for its running action');
call session_do('one', $$ select saga.reply(cmd('r3'), 'failed', '{"code": "no"}') $$);
call session_do('one', 'commit');
select is(session_wait('two'), 'fenced', 'and has nothing to undo when it failed');
call session_do('one', 'begin');
call session_do('one', $$ select verdict from saga.receive(cmd('r4')) $$);
call session_do('two', 'begin');
call session_send('two', $$ select verdict from saga.receive(cmd('r4', 'undo')) $$);
select ok(wait_until($$ session_is_waiting('two') $$), 'an undo waits');
call session_do('one', $$ select saga.reply(cmd('r4'), 'ok') $$);
call session_do('one', 'commit');
select is(session_wait('two'), 'execute', 'and is executed when its action took effect');
call session_do('two', 'rollback');
call session_do('one', 'begin');
select is(session_get('one', $$ select verdict from saga.receive(cmd('r5', 'probe')) $$), 'fenced', 'a probe fences');
call session_send('two', $$ select verdict from saga.receive(cmd('r5')) $$);
select ok(wait_until($$ session_is_waiting('two') $$), 'the action waits for it');
call session_do('one', 'commit');
select is(session_wait('two'), 'fenced', 'and is never executed');
call session_do('one', 'begin');
call session_do('one', $$ select saga.reply(cmd('r6'), 'failed', '{"code": "one"}') $$);
call session_send('two', $$ select saga.reply(cmd('r6'), 'failed', '{"code": "two"}') $$);
select ok(wait_until($$ session_is_waiting('two') $$), 'two failures without a claim');
call session_do('one', 'commit');
select is(session_wait('two'), 'repeated', 'are one');
select is(outcome_of('r6'), 'failed r1 one', 'the first');
select take(cmd('r7'), 'failed', '{"code": "first"}');
call session_do('one', 'begin');
select is(session_get('one', $$ select verdict from saga.receive(cmd('r7', round => 2)) $$), 'execute', 'a second round takes the failure over');
call session_send('two', $$ select verdict from saga.receive(cmd('r7', round => 2, attempt => 2)) $$);
select ok(wait_until($$ session_is_waiting('two') $$), 'its repetition waits');
call session_do('one', $$ select saga.reply(cmd('r7', round => 2), 'ok') $$);
call session_do('one', 'commit');
select is(session_wait('two'), 'repeated', 'and is repeated');

select * from finish();
