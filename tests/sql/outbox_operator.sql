-- What was set aside, what operators want done with it, and what those who look on see.
\ir lib/session.sql
select plan(27);

create function park(message_id uuid, state text, id bigint, key text default null) returns void language sql as $$
    insert into outbox.parked (id, message_id, share, key_hash, holds, created_at, type, key, exchange, routing_key, headers, payload, mandatory,
                               state, reason, next_attempt_at)
    values (id, message_id, 0, hashtext(key), key is not null, now() - interval '1 hour', 't', key, '', 't', '{}', '{"secret": 1}', true,
            state, 'returned', case when state = 'waiting' then now() + interval '1 min' end);
$$;
do $$ begin
    perform park('01900000-0000-7000-8000-000000000001', 'parked', 1, 'K');
    perform park('01900000-0000-7000-8000-000000000002', 'behind', 2, 'K');
    perform park('01900000-0000-7000-8000-000000000003', 'waiting', 3);
    perform park('01900000-0000-7000-8000-000000000004', 'behind', 4, 'L'); -- one message id, two rows of the log
    perform park('01900000-0000-7000-8000-000000000004', 'parked', 5);
end $$;

-- Intents.
call session_open('listener');
call session_do('listener', 'listen sagapost_outbox_0');
set role sagapost_operator;
select outbox.requeue('01900000-0000-7000-8000-000000000001', 'the queue is bound now') as id \gset
select outbox.discard('01900000-0000-7000-8000-000000000003', 'a test') as id2 \gset
reset role;
select results_eq('select id, verb, message_id, reason, applied_at is null, answer is null from outbox.intent order by id',
                  format($$ values (%s::bigint, 'requeue'::text, '01900000-0000-7000-8000-000000000001'::uuid, 'the queue is bound now'::text, true, true),
                                   (%s::bigint, 'discard', '01900000-0000-7000-8000-000000000003'::uuid, 'a test', true, true) $$, :id, :id2),
                  'what an operator wants is written down');
select is((select string_agg(distinct actor, ',') from outbox.intent), session_user::text, 'with who asked, not the function''s owner');
select ok(created_at between now() - interval '1 min' and clock_timestamp(), 'and when') from outbox.intent where id = :id;
select ok(wait_until($$ session_get('listener', 'select 1') = '1' and exists (select from dblink_get_notify('listener')) $$), 'the relay is woken');
select lives_ok($$ select outbox.discard('01900000-0000-7000-8000-000000000002') $$, 'one that waits behind may be discarded, a reason may be left out');
select throws_ok($$ select outbox.requeue('01900000-0000-7000-8000-000000000002', 'x') $$, 'SG106',
                 'message 01900000-0000-7000-8000-000000000002 waits behind an earlier message of its key');
select lives_ok($$ select outbox.requeue('01900000-0000-7000-8000-000000000004') $$, 'of two rows with one message id, one is parked');
select throws_ok($$ select outbox.requeue('01900000-0000-7000-8000-0000000000ff', 'x') $$, 'SG105', 'no message 01900000-0000-7000-8000-0000000000ff is parked');
select throws_ok($$ select outbox.discard('01900000-0000-7000-8000-0000000000ff', 'x') $$, 'SG105', 'no message 01900000-0000-7000-8000-0000000000ff is parked');
select throws_ok($$ select outbox.requeue(null, 'x') $$, 'SG105', 'no message null is parked');
select is(count(*)::integer, 4, 'nothing of what was refused is written down') from outbox.intent;
select throws_ok($$ select outbox.intend('mend', '01900000-0000-7000-8000-000000000001', 'x') $$, '23514', null, 'only known verbs');

-- What holds for parked rows.
select throws_ok($$ select park('01900000-0000-7000-8000-000000000009', 'lost', 9) $$, '23514', null, 'a state that does not exist');
select throws_ok($$ update outbox.parked set next_attempt_at = null where state = 'waiting' $$, '23514', null, 'waiting for what?');
select throws_ok($$ select park('01900000-0000-7000-8000-000000000009', 'parked', 1) $$, '23505', null, 'a row of the log is parked once');

-- Summaries.
select results_eq($$ select share, state, reason, rows, next_attempt_at is not null from outbox.parked_summary order by state $$,
                  $$ values (0, 'behind', 'returned', 2::bigint, false), (0, 'parked', 'returned', 2, false), (0, 'waiting', 'returned', 1, true) $$,
                  'counts by state and reason');
set role sagapost_reader;
select lives_ok('select message_id, key, type, state, reason, attempts from outbox.parked', 'a reader sees what is parked');
select throws_ok('select payload from outbox.parked', '42501', null, 'but no payload');
select throws_ok('select headers from outbox.parked', '42501', null, 'and no headers');
select lives_ok('select * from outbox.parked_summary', 'the counts');
select lives_ok('select * from outbox.status', 'the relays');
select lives_ok('select * from outbox.backlog', 'the backlog');
select lives_ok('select * from outbox.leaf', 'the ring');
reset role;

-- Who relays.
select results_eq('select share, epoch, window_open, owned from outbox.status', $$ values (0, 0::bigint, false, false) $$, 'nobody relays');
call session_open('relay');
call session_do('relay', 'select pg_advisory_lock(1397161986, 0)');
select is((select owned from outbox.status), true, 'somebody does');
call session_do('relay', 'select pg_advisory_unlock(1397161986, 0)');
call session_do('relay', 'select pg_advisory_lock(1397161985, 0)');
call session_do('relay', 'select pg_advisory_lock(1397161986, 1)');
select is((select owned from outbox.status), false, 'another lock, or another share''s, is none');
select results_eq($$ select count(*) from pg_locks where locktype = 'advisory' and classid in (1397161985, 1397161986) $$, $$ values (2::bigint) $$, 'that was asked with both held');

select * from finish();
