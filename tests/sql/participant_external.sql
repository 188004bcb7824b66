-- Effects outside the database: what was begun is stored and committed before the call, and only who began it can say what became of it.
\ir lib/session.sql
\ir lib/participant.sql
select no_plan();
\set VERBOSITY terse

create function begin_outside(command jsonb) returns text language sql as $$ select verdict from saga.receive(command, external => true) $$;

-- A crash of PostgreSQL must not take it back.
set synchronous_commit = off;
begin;
select begin_outside(cmd('disk1')) \gset durable_
select is(current_setting('synchronous_commit'), 'on', 'COMMIT of what was begun waits for the disk');
commit;
select is(current_setting('synchronous_commit'), 'off', 'nothing changes for other transactions');
set synchronous_commit = local;
begin;
select begin_outside(cmd('disk2')) \gset durable_
select is(current_setting('synchronous_commit'), 'local', 'who asks for more than off knows why');
commit;
reset synchronous_commit;

-- An action ---------------------------------------------------------------------------------------------------------------------
select is(begin_outside(cmd('a')), 'execute', 'begun, and committed');
select is(outcome_of('a'), 'started r1', 'as started');
select is(begin_outside(cmd('a', attempt => 2)), 'resume', 'met again: find out');
select is((saga.receive(cmd('a'))).verdict, 'resume', 'however it is received');
select is(begin_outside(cmd('a', round => 2)), 'resume', 'in whatever round');
select is(begin_outside(cmd('a', 'undo')), 'in_doubt', 'its undo: in doubt');
select is(begin_outside(cmd('a', 'probe')), 'in_doubt', 'its probe: in doubt');
select is(outcome_of('a'), 'started r1', 'nothing fences over it');
select is(outcome_of('a', 'undo'), null, 'nor is an undo recorded');
select is(replies(), null, 'and nothing is answered');
select is(saga.reply(cmd('a'), 'transient', '{"code": "away"}'), 'recorded', 'transient');
select is(outcome_of('a'), 'started r1', 'does not take back what was begun');
select throws_ok($$ select saga.reply(cmd('a', round => 2), 'ok') $$, 'SG202', null, 'a reply to another round');
select throws_ok($$ select saga.reply(cmd('a', round => 2), 'failed') $$, 'SG202', null, 'whatever it says');
select is(saga.reply(cmd('a'), 'ok', '{"charge": "ch_1"}'), 'recorded', 'ok, in a second transaction');
select is(saga.reply(cmd('a'), 'failed', '{"code": "x"}'), 'repeated', 'is final');
select is(begin_outside(cmd('a')), 'repeated', 'and repeated');
select is(replies(), 'transient r1 a1 away, ok r1 a1 {"charge": "ch_1"}, ok r1 a1 {"charge": "ch_1"}, ok r1 a1 {"charge": "ch_1"}', 'as answered');
select begin_outside(cmd('f'));
select is(saga.reply(cmd('f'), 'failed', '{"code": "declined"}'), 'recorded', 'declined');
select is(begin_outside(cmd('f', round => 2)), 'execute', 'a second round takes over');
select is(saga.reply(cmd('f', round => 2), 'ok'), 'recorded', 'and is done');
truncate outbox.message;

-- In doubt: the program asks the provider, then replies -------------------------------------------------------------------------------
select begin_outside(cmd(s)) from unnest('{p1,p2,p3,p4,u1,u2,u3}'::text[]) s;
select is(saga.reply(cmd('p1', 'probe'), 'ok', '{"charge": "ch_2"}'), 'recorded', 'a probe: it was done');
select is(outcome_of('p1'), 'ok r1 {"charge": "ch_2"}', 'the action is ok');
select is(saga.reply(cmd('p2', 'probe'), 'failed', '{"code": "declined"}'), 'recorded', 'it was declined');
select is(outcome_of('p2'), 'failed r1 declined', 'the action failed');
select is(saga.reply(cmd('p3', 'probe'), 'not_executed'), 'recorded', 'it never arrived');
select is(outcome_of('p3'), 'fenced r1', 'the action is fenced');
select is(saga.reply(cmd('p4', 'probe'), 'transient', '{"code": "away"}'), 'recorded', 'the provider does not answer');
select is(outcome_of('p4'), 'started r1', 'it stays in doubt');
select is(replies(), 'executed r1 a1 {"charge": "ch_2"}, failed r1 a1 declined, not_executed r1 a1, in_doubt r1 a1 away', 'and so the saga is told');
select is(begin_outside(cmd('p3')), 'fenced', 'a late action is not begun again');
truncate outbox.message;
select is(saga.reply(cmd('u1', 'undo'), 'ok', '{"refund": "re_1"}'), 'recorded', 'an undo in doubt: done, whatever it found');
select is(outcome_of('u1') || ' / ' || outcome_of('u1', 'undo'), 'fenced r1 / ok r1 {"refund": "re_1"}', 'the action can never come again');
select is(begin_outside(cmd('u1')), 'fenced', 'nor is it resumed');
select is(begin_outside(cmd('u1', 'undo', attempt => 2)), 'repeated', 'and its undo is repeated');
select is(replies(), 'ok r1 a1 {"refund": "re_1"}, not_executed r1 a1, ok r1 a2 {"refund": "re_1"}', 'as answered');
select is(saga.reply(cmd('u2', 'undo'), 'failed', '{"code": "no"}'), 'recorded', 'an undo in doubt that fails');
select is(outcome_of('u2'), 'started r1', 'leaves the action in doubt');
select is(begin_outside(cmd('u2', 'undo')), 'repeated', 'that round is over');
select throws_ok($$ select saga.reply(cmd('u2', 'undo'), 'ok') $$, 'SG202', null, 'whatever is found now');
select is(begin_outside(cmd('u2', 'undo', round => 2)), 'in_doubt', 'the next round is in doubt again');
select is(saga.reply(cmd('u2', 'undo', round => 2), 'ok'), 'recorded', 'which settles it');
select is(saga.reply(cmd('u3', 'undo'), 'transient'), 'recorded', 'an undo in doubt that must wait');
select is(replies(), 'failed r1 a1 no, failed r1 a1 no, ok r2 a1 {}, in_doubt r1 a1 transient', 'tells that it is in doubt');

-- An undo outside ---------------------------------------------------------------------------------------------------------------------
select is(begin_outside(cmd('a', 'undo')), 'execute', 'the undo of what is ok is begun');
select is(begin_outside(cmd('a', 'undo', attempt => 2)), 'resume', 'met again: find out');
select is(saga.reply(cmd('a', 'undo'), 'ok'), 'recorded', 'done');
select is(begin_outside(cmd('a', 'undo')), 'repeated', 'repeated');

-- Two deliveries at once: the second waits for the first to have begun, and resumes
call session_open('one');
call session_do('one', 'begin');
call session_do('one', $$ select begin_outside(cmd('two')) $$);
call session_open('two');
call session_send('two', $$ select begin_outside(cmd('two', attempt => 2)) $$);
select ok(wait_until($$ session_is_waiting('two') $$), 'it waits');
call session_do('one', 'commit');
select is(session_wait('two'), 'resume', 'and resumes');

select * from finish();
