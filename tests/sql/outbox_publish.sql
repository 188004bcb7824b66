-- outbox.publish and publish_bytes, the order that serialize keeps, and who is woken when.
\ir lib/session.sql
select plan(43);

-- What is written.
create temporary table sent as
select outbox.publish('order.placed', '{"total": 19.90, "big": 123456789012345678901234567890}') as plain,
       outbox.publish(type => 'order.paid', payload => '[]', key => 'ORD-1', exchange => 'shop', routing_key => 'eu.paid', headers => '{"tenant": "a"}',
                      message_id => '01900000-0000-7000-8000-000000000001', mandatory => false, serialize => true,
                      correlation_id => 'c-1', reply_to => 'answers') as full,
       outbox.publish_bytes('order.scan', '\xff00fe', 'image/png', key => 'ORD-1') as bytes,
       outbox.publish_bytes('order.raw', '\x00') as bytes_only;
select ok(m.payload::jsonb = '{"total": 19.90, "big": 123456789012345678901234567890}' and m.payload::text like '%19.90%', 'numbers stay exact')
  from outbox.message as m, sent where m.message_id = sent.plain;
select ok((m.key, m.exchange, m.routing_key, m.payload_bytes, m.content_type, m.correlation_id, m.reply_to) is not distinct from
          (null::text, null::text, null::text, null::bytea, null::text, null::text, null::text) and m.headers = '{}' and m.mandatory, 'what is not given has its default')
  from outbox.message as m, sent where m.message_id = sent.plain;
select ok(substr(plain::text, 15, 1) = '7', 'the message id is a UUIDv7') from sent;
select is("full", '01900000-0000-7000-8000-000000000001', 'a message id that is given is kept') from sent;
select results_eq($$ select type, key, exchange, routing_key, headers, payload::text, mandatory, correlation_id, reply_to
                       from outbox.message where message_id = '01900000-0000-7000-8000-000000000001' $$,
                  $$ values ('order.paid', 'ORD-1', 'shop', 'eu.paid', '{"tenant": "a"}'::jsonb, '[]', false, 'c-1', 'answers') $$, 'every argument arrives');
select results_eq($$ select type, key, content_type, payload_bytes, payload is null from outbox.message join sent on message_id = bytes $$,
                  $$ values ('order.scan', 'ORD-1', 'image/png', '\xff00fe'::bytea, true) $$, 'bytes arrive as they are');
select is(content_type, null, 'content_type may be left out') from outbox.message join sent on message_id = bytes_only;
select is(count(*)::integer, 4, 'one row for each') from outbox.message;
select lives_ok($$ select outbox.publish('t', 'null') $$, 'JSON null is a payload');
select lives_ok($$ select outbox.publish('t', '{}', headers => null, mandatory => null, serialize => null) $$, 'null for an option is its default');

-- What is refused.
select throws_ok($$ select outbox.publish(null, '{}') $$, 'SG101', 'outbox.publish: type is null');
select throws_ok($$ select outbox.publish('t', null) $$, 'SG101', 'outbox.publish: payload is null');
select throws_ok($$ select outbox.publish('t', '{}', serialize => true) $$, 'SG101', 'outbox.publish: serialize needs a key');
select throws_ok($$ select outbox.publish_bytes(null, '') $$, 'SG101', 'outbox.publish_bytes: type is null');
select throws_ok($$ select outbox.publish_bytes('t', null) $$, 'SG101', 'outbox.publish_bytes: payload is null');
select throws_ok($$ select outbox.publish_bytes('t', '', serialize => true) $$, 'SG101', 'outbox.publish_bytes: serialize needs a key');
select throws_ok($$ select outbox.publish('t', '{}', routing_key => repeat('x', 256)) $$, '23514',
                 'outbox.message.routing_key has 256 bytes, at most 255 are allowed', 'the log''s own rules hold');
select is(count(*)::integer, 6, 'nothing of what was refused is there') from outbox.message;
begin;
savepoint business;
do $$ begin perform outbox.publish('rolled.back', '{}'); end $$;
rollback to business;
commit;
select is(count(*)::integer, 0, 'a message is undone with its transaction') from outbox.message where type = 'rolled.back';

-- serialize: transactions with one key follow each other; others do not wait.
call session_open('first');
call session_open('second');
truncate outbox.message;
call session_do('first', 'begin');
call session_do('second', 'begin');
call session_do('first', $$ select outbox.publish('t', '{"n": 1}', 'K', serialize => true) $$);
call session_send('second', $$ select outbox.publish('t', '{"n": 3}', 'K', serialize => true)::text $$);
select ok(wait_until($$ session_is_waiting('second') $$), 'the second transaction of a key waits for the first');
call session_do('first', $$ select outbox.publish('t', '{"n": 2}', 'K', serialize => true) $$);
select lives_ok($$ set local lock_timeout = '1s'; select outbox.publish('t', '{"n": 0}', 'other key', serialize => true) $$, 'another key does not wait');
select lives_ok($$ set local lock_timeout = '1s'; select outbox.publish('t', '{"n": 0}', 'K') $$, 'nor does who does not ask for it');
call session_do('first', 'commit');
select isnt(session_wait('second'), null, 'it goes on when the first has ended');
call session_do('second', 'commit');
select results_eq($$ select payload ->> 'n' from outbox.message where key = 'K' and payload ->> 'n' <> '0' order by id $$, $$ values ('1'), ('2'), ('3') $$,
                  'ids follow the order of the lock');
select is(count(*)::integer, 0, 'no lock is left') from pg_locks where locktype = 'advisory' and classid = 1397161988;

-- Wake-up. K = (1397161985, share). A sleeping relay holds it.
call session_open('relay');
call session_open('listener');
call session_do('listener', 'listen sagapost_outbox_0');
call session_do('listener', 'listen mark');

-- How many notifications came before a mark that is sent now: notifications keep the order of commits. -1: no mark came.
create function notified() returns integer language plpgsql as $$
declare
    found_mark boolean := false;
    notes integer := 0;
    note record;
    give_up_at timestamptz := clock_timestamp() + interval '20 s';
begin
    call session_do('second', 'notify mark');
    while not found_mark and clock_timestamp() < give_up_at loop
        perform session_get('listener', 'select 1');
        for note in select * from dblink_get_notify('listener') loop
            if note.notify_name = 'mark' then
                found_mark := true;
            else
                notes := notes + 1;
            end if;
        end loop;
    end loop;
    if not found_mark then
        return -1;
    end if;
    return notes;
end
$$;

do $$ begin perform outbox.publish('t', '{}'); end $$;
select is(notified(), 0, 'a relay that is awake is not notified');
select is(session_get('relay', 'select pg_try_advisory_lock(1397161985, 0)'), 't', 'with no writer in flight the relay may sleep');
do $$ begin perform outbox.publish('t', '{}'); end $$;
select is(notified(), 1, 'publish wakes it');
insert into outbox.message (type, payload) values ('t', '{}');
select is(notified(), 1, 'so does an insert by hand');
insert into outbox.message (type, payload) select 't', '{}' from generate_series(1, 100);
select is(notified(), 1, 'many rows, one notification');
begin;
do $$ begin perform outbox.publish('t', '{}') from generate_series(1, 3); end $$;
insert into outbox.message (type, payload) values ('t', '{}');
commit;
select is(notified(), 1, 'one transaction, one notification');
begin;
do $$ begin perform outbox.publish('t', '{}'); end $$;
rollback;
select is(notified(), 0, 'a transaction that rolled back wakes nobody');
begin;
set local sagapost.wakeup = 'off';
do $$ begin perform outbox.publish('t', '{}'); end $$;
commit;
select is(notified(), 0, 'sagapost.wakeup = off keeps still');
do $$ begin perform outbox.publish('t', '{}'); end $$;
select is(notified(), 1, 'and only for its transaction');
select is(session_get('relay', 'select pg_advisory_unlock(1397161985, 0)'), 't', 'the relay wakes');

-- A transaction in flight keeps the relay from sleeping, until it ends.
call session_do('first', 'begin');
call session_do('first', $$ select outbox.publish('t', '{}') $$);
select is(session_get('relay', 'select pg_try_advisory_lock(1397161985, 0)'), 'f', 'a writer in flight: the relay must look again');
call session_do('second', 'begin');
call session_do('second', $$ select outbox.publish('t', '{}') $$);
call session_do('second', 'commit');
select is(notified(), 0, 'other writers do not notify while nobody waits');

-- A relay that queues for the lock: from then on new writers notify, though the old one stays.
call session_send('relay', 'select pg_advisory_lock(1397161985, 0)::text');
select ok(wait_until($$ session_is_waiting('relay') $$), 'the relay waits for a writer that stays');
insert into outbox.message (type, payload) values ('t', '{}');
select is(notified(), 1, 'new writers notify a relay that waits');
call session_do('first', 'commit');
select isnt(session_wait('relay'), null, 'the old writer ends, the relay has the lock');
call session_do('relay', 'select pg_advisory_unlock(1397161985, 0)');

-- A transaction that published can be prepared.
select case when current_setting('max_prepared_transactions') = '0' then 'off' else 'on' end = 'on' as can_prepare \gset
call session_do('relay', 'select pg_try_advisory_lock(1397161985, 0)');
\if :can_prepare
begin;
set local sagapost.wakeup = 'off';
do $$ begin perform outbox.publish('prepared', '{}'); end $$;
prepare transaction 'sagapost_sql_test';
select is(count(*)::integer, 0, 'a prepared message is not there yet') from outbox.message where type = 'prepared';
commit prepared 'sagapost_sql_test';
select is(count(*)::integer, 1, 'committed, it is') from outbox.message where type = 'prepared';
\else
select skip('max_prepared_transactions is 0', 2);
\endif

-- One trigger; with one share it names the lock of that alone.
select results_eq($$ select tgname::text collate "C", pg_get_triggerdef(oid) like '%pg_try_advisory_xact_lock_shared(1397161985, 0)%' from pg_trigger
                      where tgrelid = 'outbox.message'::regclass and tgname like 'wake%' $$, $$ values ('wake_relays' collate "C", true) $$, 'one share, one wake-up');

select * from finish();
