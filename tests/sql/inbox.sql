-- The inbox: once for each consumer and message, by the time in the id, never again for what it has forgotten.
\ir lib/session.sql
select plan(66);

-- An id of version 7 of a given time.
create function id_at(at timestamptz) returns uuid language sql as $$
    select overlay(gen_random_uuid()::text placing lpad(to_hex((extract(epoch from at) * 1000)::bigint), 12, '0') || '7' from 1 for 15)::uuid;
$$;
create function partition_of(id uuid) returns text language sql as $$
    select tableoid::regclass::text from inbox.seen where message_id = id limit 1;
$$;

-- Which ids tell a time.
select is(inbox.is_uuid_v7(id::uuid), expected, name)
  from (values ('01900000-0000-7000-8000-000000000000', true, 'version 7'), ('01900000-0000-7000-bfff-000000000000', true, 'the variant''s last'),
               ('01900000-0000-7000-c000-000000000000', false, 'version 7 of another variant'), ('01900000-0000-7000-7fff-000000000000', false, 'of an older one'),
               ('01900000-0000-4000-8000-000000000000', false, 'version 4'), ('01900000-0000-1000-8000-000000000000', false, 'version 1'),
               ('01900000-0000-8000-8000-000000000000', false, 'version 8'), ('00000000-0000-0000-0000-000000000000', false, 'nil'),
               ('ffffffff-ffff-ffff-ffff-ffffffffffff', false, 'max')) as t (id, expected, name);
select is(outbox.uuid_floor('1970-01-01 00:00:00Z'), '00000000-0000-0000-0000-000000000000', 'the epoch');
select is(outbox.uuid_floor('2022-02-22 19:22:22Z'), '017f22e2-79b0-0000-0000-000000000000', 'the example of RFC 9562');
select ok(outbox.uuid_floor('2022-02-22 19:22:22Z') < '017f22e2-79b0-7cc3-98c4-dc0c0c07398f' and outbox.uuid_floor('2022-02-22 19:22:22.001Z') > '017f22e2-79b0-7cc3-98c4-dc0c0c07398f',
          'its id is between the floors of its millisecond and of the next');
select ok(inbox.is_uuid_v7(outbox.uuid_v7()), 'outbox.uuid_v7 makes version 7');

-- Partitions: without gaps, from the retention on to two periods ahead.
select is(min(starts_at), date_trunc('day', now(), 'UTC') - interval '14 days', 'they begin as long ago as the retention') from inbox.period;
select ok(max(ends_at) > now() + interval '2 days', 'and are there for two periods to come') from inbox.period;
select is(count(*)::integer, 0, 'without gaps') from (select starts_at, lag(ends_at) over (order by starts_at) as before from inbox.period) as p where starts_at <> before;
select results_eq($$ select relation::text collate "C" from inbox.period union all select 'seen_default' order by 1 $$,
                  $$ select relname::text collate "C" from pg_inherits join pg_class on pg_class.oid = inhrelid where inhparent = 'inbox.seen'::regclass order by 1 $$,
                  'they are the partitions of inbox.seen');

-- A crash of PostgreSQL must not take it back.
set synchronous_commit = off;
begin;
select inbox.accept('disk', outbox.uuid_v7()) \gset durable_
select is(current_setting('synchronous_commit'), 'on', 'COMMIT of what was accepted waits for the disk');
commit;
select is(current_setting('synchronous_commit'), 'off', 'nothing changes for other transactions');
set synchronous_commit = local;
begin;
select inbox.accept('disk', outbox.uuid_v7()) \gset durable_
select is(current_setting('synchronous_commit'), 'local', 'who asks for more than off knows why');
commit;
reset synchronous_commit;

-- Once.
set role sagapost_participant;
select is(inbox.accept('shop', '01900000-0000-4000-8000-000000000000'), true, 'an id that tells no time, once');
select is(inbox.accept('shop', '01900000-0000-4000-8000-000000000000'), false, 'not twice');
select is(inbox.accept('bank', '01900000-0000-4000-8000-000000000000'), true, 'for another consumer');
select id_at(now()) as id \gset
select is(inbox.accept('shop', :'id'), true, 'an id of now, once');
select is(inbox.accept('shop', :'id'), false, 'not twice');
select is(inbox.accept('bank', :'id'), true, 'for another consumer');
select is(inbox.accept('bank', id_at(now())), true, 'another of the same millisecond');
select is(inbox.accept('shop', id_at(date_trunc('day', now(), 'UTC') - interval '13 days 23 hours')), true, 'one that was under way for long');
reset role;

-- Refused.
select throws_ok($$ select inbox.accept(null, outbox.uuid_v7()) $$, 'SG112', 'inbox.accept: consumer is null');
select throws_ok($$ select inbox.accept('shop', null) $$, 'SG112', 'inbox.accept: message_id is null');
select throws_ok($$ select inbox.accept('', outbox.uuid_v7()) $$, '23514', null, 'a consumer without a name');
select throws_ok($$ select inbox.accept(repeat('x', 256), outbox.uuid_v7()) $$, '23514', null, 'a name of 256 bytes');
select throws_ok($$ select inbox.accept(repeat('x', 256), gen_random_uuid()) $$, '23514', null, 'also with an id that tells no time');
select throws_ok($$ select inbox.accept('shop', '01800000-0000-7000-8000-000000000000') $$, 'SG111',
                 'message 01800000-0000-7000-8000-000000000000 is older than the inbox remembers');

-- Undone with the consumer's transaction.
select id_at(now()) as id \gset
call session_open('one');
call session_open('two');
call session_do('one', 'begin');
select is(session_get('one', format('select inbox.accept(''shop'', %L)', :'id')), 't', 'accepted in a transaction');
call session_send('two', format('select inbox.accept(''shop'', %L)::text', :'id'));
select ok(wait_until($$ session_is_waiting('two') $$), 'another waits to know how it ends');
call session_do('one', 'rollback');
select is(session_wait('two'), 'true', 'undone, the other has it');
select id_at(now()) as id \gset
call session_do('one', 'begin');
select is(session_get('one', format('select inbox.accept(''shop'', %L)', :'id')), 't', 'once more');
call session_send('two', format('select inbox.accept(''shop'', %L)::text', :'id'));
select ok(wait_until($$ session_is_waiting('two') $$), 'and another waits');
call session_do('one', 'commit');
select is(session_wait('two'), 'false', 'committed, it is a repeat');
-- With a snapshot from before the first commit: an error that is tried again, never a second yes.
select id_at(now()) as id \gset
call session_do('two', 'begin transaction isolation level repeatable read');
call session_do('two', 'select count(*) from inbox.setting');
call session_do('one', format('select inbox.accept(''shop'', %L)', :'id'));
select throws_ok(format($$ call session_do('two', %L) $$, format('select inbox.accept(''shop'', %L)', :'id')), '40001', null, 'an older snapshot');
call session_do('two', 'rollback');

-- Both sides of a partition's edge: the partition is the message's, whoever asks and whenever.
select id_at(ends_at - interval '1 ms') as before, id_at(ends_at) as after from inbox.period order by ends_at limit 1 \gset
select is(inbox.accept('edge', :'before'), true, 'the last millisecond of a partition');
select is(inbox.accept('edge', :'after'), true, 'the first of the next');
select ok(not inbox.accept('edge', :'before') and not inbox.accept('edge', :'after'), 'once');
select isnt(partition_of(:'before'), partition_of(:'after'), 'they lie in two partitions');

-- Ids from the future are kept, and found again when their partition comes.
select id_at(now() + interval '100 days') as id \gset
select is(inbox.accept('shop', :'id'), true, 'a sender whose clock is ahead');
select is(partition_of(:'id'), 'inbox.seen_default', 'has no partition yet');
select is(inbox.accept('shop', :'id'), false, 'not twice');
select lives_ok($$ select inbox.create_period(max(ends_at), max(ends_at) + interval '200 days') from inbox.period $$, 'its partition comes');
select isnt(partition_of(:'id'), 'inbox.seen_default', 'and takes it over');
select is(inbox.accept('shop', :'id'), false, 'not twice still');

-- Nobody called maintain for long: accept goes on, and one partition spans the gap.
update inbox.setting set retention = '100 years';
do $$
declare
    old inbox.period;
begin
    for old in select * from inbox.period loop
        execute format('drop table inbox.%I', old.relation);
    end loop;
    delete from inbox.period;
    perform inbox.refuse_before('2020-01-01Z');
    perform inbox.create_period('2020-01-01Z', '2020-01-02Z');
end
$$;
select id_at(now()) as id \gset
select id_at('2020-01-01 12:00Z') as old_id \gset
select is(inbox.accept('shop', :'id'), true, 'without a partition for today');
select is(inbox.accept('shop', :'old_id'), true, 'and an old one');
select is(inbox.maintain(), 'created 3, dropped 0, forgot 0', 'maintain spans the gap and looks ahead');
select is(inbox.maintain(), 'created 0, dropped 0, forgot 0', 'and then has nothing to do');
select isnt(partition_of(:'id'), 'inbox.seen_default', 'what came meanwhile is in its partition');
select is(inbox.accept('shop', :'id'), false, 'and a repeat');

-- What is older than the retention is dropped, and refused from then on.
update inbox.setting set retention = '1 hour';
call session_do('one', 'begin');
call session_do('one', $$ select inbox.accept('shop', outbox.uuid_v7()) $$);
select is(inbox.maintain(), 'created 0, dropped 0, forgot 0', 'a consumer in flight is not waited for long');
select is(inbox.accept('shop', :'old_id'), false, 'and until then a repeat is a repeat');
call session_do('one', 'commit');
call session_do('two', 'begin');
call session_do('two', 'select pg_advisory_xact_lock(1397161990, 0)');
select is(inbox.maintain(), 'busy', 'two workers do not do it together');
call session_do('two', 'commit');
select is(inbox.maintain(), 'created 0, dropped 1, forgot 0', 'the old partition goes');
select throws_ok(format($$ select inbox.accept('shop', %L) $$, :'old_id'), 'SG111', format('message %s is older than the inbox remembers', :'old_id'), 'never accepted twice');
select throws_ok(format($$ select inbox.accept('another', %L) $$, :'old_id'), 'SG111', null, 'nor once by who comes late');
select is(inbox.accept('shop', id_at('2020-01-02 00:00Z')), true, 'what is a millisecond younger has its partition');

-- Ids that tell no time are forgotten after the retention.
update inbox.seen_untimed set seen_at = now() - interval '2 hours' where consumer = 'bank';
select is(inbox.maintain(), 'created 0, dropped 0, forgot 1', 'forgotten');
select is(inbox.accept('shop', '01900000-0000-4000-8000-000000000000'), false, 'the younger one is a repeat');

select * from finish();
