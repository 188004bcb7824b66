-- The ring: outbox.configure, when a leaf may be truncated, and the backlog behind a position.
\ir lib/session.sql
select plan(71);
\set VERBOSITY terse

-- outbox.configure -------------------------------------------------------------------------------------------------------------

select is(outbox.configure(), row(true, 8, 600, 1048576, 0)::outbox.setting, 'nothing asked for, nothing changed');
select throws_ok($$ select outbox.configure(ring_slots => 2) $$, 'SG104', 'ring_slots is 2, allowed is 3 to 1000');
select throws_ok($$ select outbox.configure(ring_slots => 1001) $$, 'SG104', 'ring_slots is 1001, allowed is 3 to 1000');
select throws_ok($$ select outbox.configure(ring_period => '1.5 s') $$, 'SG104', 'ring_period is 00:00:01.5, allowed is 1 second to 7 days, in whole seconds');
select throws_ok($$ select outbox.configure(ring_period => '0') $$, 'SG104', 'ring_period is 00:00:00, allowed is 1 second to 7 days, in whole seconds');
select throws_ok($$ select outbox.configure(ring_period => '-1 hour') $$, 'SG104', 'ring_period is -01:00:00, allowed is 1 second to 7 days, in whole seconds');
select throws_ok($$ select outbox.configure(payload_bytes_max => 1023) $$, 'SG104', 'payload_bytes_max is 1023, allowed is 1024 to 134217728');
select throws_ok($$ select outbox.configure(payload_bytes_max => 134217729) $$, 'SG104', 'payload_bytes_max is 134217729, allowed is 1024 to 134217728');
select results_eq('select * from outbox.setting', $$ values (true, 8, 600, 1048576, 0) $$, 'what is refused changes nothing');

insert into outbox.message (type, payload) values ('large', to_json(repeat('x', 5000)));
select is(outbox.configure(payload_bytes_max => 2000), row(true, 8, 600, 2000, 0)::outbox.setting, 'a lower maximum');
select throws_ok($$ insert into outbox.message (type, payload) values ('t', to_json(repeat('x', 1999))) $$, '23514',
                 'outbox.message.payload has 2001 bytes, at most 2000 are allowed (outbox.configure)', 'holds for new rows');
select lives_ok($$ insert into outbox.message (type, payload) values ('t', to_json(repeat('x', 1998))) $$, 'up to the byte');
select is(count(*)::integer, 1, 'and leaves the old ones') from outbox.message where type = 'large';
select is((outbox.configure(payload_bytes_max => 4000000)).payload_bytes_max, 4000000, 'a higher maximum');
select lives_ok($$ insert into outbox.message (type, payload) values ('t', to_json(repeat('x', 3000000))) $$, 'holds too');
select is((outbox.configure(payload_bytes_max => 1048576)).payload_bytes_max, 1048576, 'and back');
truncate outbox.message;

select is((outbox.configure(ring_slots => 10)).ring_slots, 10, 'a longer ring');
select is(count(*)::integer, 10, 'has its leaves') from outbox.leaf;
select ok(has_table_privilege('sagapost_relay', 'outbox.message_9', 'select'), 'the relay reads a new leaf');
insert into outbox.message (slot, type, payload) values (9, 'in the last leaf', '{}');
select is((outbox.configure(ring_slots => 4, ring_period => '1 hour')).ring_slots, 4, 'a shorter ring');
select results_eq('select slot from outbox.leaf order by slot', $$ values (0), (1), (2), (3), (9) $$, 'keeps the leaf that is not empty, and drops those that are');
insert into outbox.message (type, payload) values ('now', '{}');
select is(slot::bigint, extract(epoch from created_at)::bigint / 3600 % 4, 'rows go where the new ring says') from outbox.message where type = 'now';
select is(current, slot = outbox.current_slot(), format('leaf %s knows whether it is current', slot)) from outbox.leaf where slot = outbox.current_slot();
truncate outbox.message;
select is((outbox.configure(ring_slots => 8, ring_period => '10 min')).ring_slots, 8, 'the ring of the start again');
select results_eq('select slot from outbox.leaf order by slot', 'select generate_series(0, 7)', 'the leaf that was kept is gone now that it is empty');

-- It does not make writers wait behind a long transaction.
call session_open('other');
call session_do('other', 'begin');
call session_do('other', $$ select outbox.publish('t', '{}') $$);
select throws_ok($$ select outbox.configure(ring_slots => 9) $$, '55P03', null, 'gives up while somebody writes');
call session_do('other', 'rollback');

-- outbox.truncate_leaf -----------------------------------------------------------------------------------------------------------

-- A leaf that is not current, and stays so while this test runs.
select (outbox.current_slot() + 4) % 8 as slot \gset
create function put(slot integer, name text) returns void language sql as $$
    insert into outbox.message (slot, type, payload) values (slot, name, '{}');
$$;
create function position_is_now() returns void language sql as $$
    update outbox.position set t1 = pg_current_snapshot(), t2 = null, last_id = 0;
$$;
create function left_in(slot integer) returns bigint language plpgsql as $$
declare
    found bigint;
begin
    execute format('select count(*) from outbox.message_%s', slot) into found;
    return found;
end
$$;

select is(outbox.truncate_leaf(:slot), 'empty', 'an empty leaf');
select is(outbox.truncate_leaf(outbox.current_slot()), 'current', 'the current leaf');
select throws_ok($$ select outbox.truncate_leaf(8) $$, 'SG101', 'outbox.truncate_leaf: there is no slot 8');
select throws_ok($$ select outbox.truncate_leaf(null) $$, 'SG101', 'outbox.truncate_leaf: there is no slot null');

do $$ begin perform put(slot, 'a') from (select slot from outbox.leaf where slot = (outbox.current_slot() + 4) % 8) as leaf; end $$;
select is(outbox.truncate_leaf(:slot), 'unsettled', 'a row that the position has not passed');
select is(left_in(:slot), 1::bigint, 'stays');
do $$ begin perform position_is_now(); end $$;
set role sagapost_relay;
select is(outbox.truncate_leaf(:slot), 'truncated', 'passed, the relay''s role truncates it');
reset role;
select is(left_in(:slot), 0::bigint, 'and the row is gone');
select is(outbox.truncate_leaf(:slot), 'empty', 'once');

begin transaction isolation level repeatable read;
select throws_ok(format('select outbox.truncate_leaf(%s)', :slot), 'SG102',
                 'outbox.truncate_leaf works at READ COMMITTED only, and this transaction is REPEATABLE READ');
commit;
begin transaction isolation level serializable;
select throws_ok(format('select outbox.truncate_leaf(%s)', :slot), 'SG102',
                 'outbox.truncate_leaf works at READ COMMITTED only, and this transaction is SERIALIZABLE');
commit;

-- A transaction that was open at t1 and committed after it: its xid is below xmax(t1), and still its row is unsettled.
call session_do('other', 'begin');
call session_do('other', format('select put(%s, ''late'')', :slot));
do $$ begin perform put(0, 'keeps xids going'); end $$;
do $$ begin perform position_is_now(); end $$;
select is(outbox.truncate_leaf(:slot), 'busy', 'a writer in the leaf');
call session_do('other', 'commit');
select is(outbox.truncate_leaf(:slot), 'unsettled', 'a row that was uncommitted at t1');
do $$ begin perform position_is_now(); end $$;
select is(outbox.truncate_leaf(:slot), 'truncated', 'until t1 has seen it');

-- What is published is kept as long as set.
select throws_ok($$ select outbox.configure(keep => '61 min') $$, 'SG104', 'keep is 01:01:00, a ring of 8 x 00:10:00 keeps at most 01:00:00');
select throws_ok($$ select outbox.configure(ring_slots => 7, keep => '1 hour') $$, 'SG104', 'keep is 01:00:00, a ring of 7 x 00:10:00 keeps at most 00:50:00');
select throws_ok($$ select outbox.configure(keep => '-1 s') $$, 'SG104', 'keep is -00:00:01, allowed is 0 or more, in whole seconds');
select is((outbox.configure(keep => '30 min')).keep_seconds, 1800, 'half an hour');
select results_eq('select (slot - outbox.current_slot() + 8) % 8 from outbox.leaf where kept and not current order by 1', $$ values (5), (6), (7) $$,
                  'keeps the leaves of the last three periods');
select put((:slot + 2) % 8, 'kept') \g /dev/null
do $$ begin perform position_is_now(); end $$;
select is(outbox.truncate_leaf((:slot + 2) % 8), 'kept', 'a leaf of two periods ago');
select is((outbox.configure(keep => '0')).keep_seconds, 0, 'kept no longer');
select is(outbox.truncate_leaf((:slot + 2) % 8), 'truncated', 'it goes');

-- Inside a window (t1, t2]: settled is what has an id up to last_id.
do $$ begin perform position_is_now(); end $$;
select put(:slot, 'one') \g /dev/null
select put(:slot, 'two') \g /dev/null
update outbox.position set t2 = pg_current_snapshot(), last_id = (select min(id) from outbox.message where type = 'one');
select is(outbox.truncate_leaf(:slot), 'unsettled', 'a window that is settled up to the first of two rows');
update outbox.position set last_id = (select id from outbox.message where type = 'two');
select put(:slot, 'three') \g /dev/null
select is(outbox.truncate_leaf(:slot), 'unsettled', 'a row after the window''s end');
delete from outbox.message where type = 'three';
select is(outbox.truncate_leaf(:slot), 'truncated', 'a window that is settled');
-- The id alone does not say it: a row with a low id that the window does not see.
do $$ begin perform position_is_now(); end $$;
call session_do('other', 'begin');
call session_do('other', format('select put(%s, ''low id, late'')', :slot));
select put(:slot, 'high id') \g /dev/null
update outbox.position set t2 = pg_current_snapshot(), last_id = (select id from outbox.message where type = 'high id');
call session_do('other', 'commit');
select is(outbox.truncate_leaf(:slot), 'unsettled', 'a low id that was uncommitted at t2');
do $$ begin perform position_is_now(); end $$;
select is(outbox.truncate_leaf(:slot), 'truncated', 'passed');

-- A reader in the leaf; two positions; none; one of another server.
select put(:slot, 'b') \g /dev/null
do $$ begin perform position_is_now(); end $$;
call session_do('other', 'begin');
call session_do('other', format('select count(*) from outbox.message_%s', :slot));
select is(outbox.truncate_leaf(:slot), 'busy', 'a reader in the leaf');
call session_do('other', 'commit');
insert into outbox.position (share, system_identifier, database_oid, t1) select 1, system_identifier, database_oid, '1:1:' from outbox.position;
select is(outbox.truncate_leaf(:slot), 'unsettled', 'one share is behind');
update outbox.position set t1 = pg_current_snapshot() where share = 1;
update outbox.position set system_identifier = system_identifier + 1 where share = 1;
select is(outbox.truncate_leaf(:slot), 'position_of_another_server', 'a position of another server says nothing');
update outbox.position set system_identifier = system_identifier - 1, database_oid = 1 where share = 1;
select is(outbox.truncate_leaf(:slot), 'position_of_another_server', 'nor one of another database');
create temporary table kept as select * from outbox.position where share = 0;
delete from outbox.position;
select is(outbox.truncate_leaf(:slot), 'no_position', 'without a position nothing is known to be published');
insert into outbox.position select * from kept;
select is(left_in(:slot), 1::bigint, 'the row has stayed through all this');

-- The four questions are ranges of the index, also in a leaf the planner has never seen.
insert into outbox.message (slot, type, payload) select :slot, 'many', '{}' from generate_series(1, 20000);
do $$ begin perform position_is_now(); end $$;
create function blocks_to_refuse(leaf regclass, out refusal text, out blocks bigint) language plpgsql as $$
begin
    blocks := -pg_stat_get_xact_blocks_fetched(leaf);
    refusal := outbox.leaf_refusal(leaf);
    blocks := blocks + pg_stat_get_xact_blocks_fetched(leaf);
end
$$;
select format('outbox.message_%s', :slot) as leaf \gset
select results_eq(format('select refusal, blocks < 10 from blocks_to_refuse(%L)', :'leaf'), $$ values (null::text, true) $$, 'a large leaf that is settled');
update outbox.position set t2 = pg_current_snapshot(), last_id = 0;
select results_eq(format('select refusal, blocks < 10 from blocks_to_refuse(%L)', :'leaf'), $$ values (null::text, true) $$, 'the same while a window is open');
select is(outbox.truncate_leaf(:slot), 'truncated', 'and truncated');

-- outbox.backlog ------------------------------------------------------------------------------------------------------------------

truncate outbox.message;
do $$ begin perform position_is_now(); end $$;
select results_eq('select share, rows, oldest_age from outbox.backlog', $$ values (0, 0::bigint, interval '0') $$, 'nothing waits');
call session_do('other', 'begin');
call session_do('other', $$ select outbox.publish('late', '{}') $$);
insert into outbox.message (type, payload, created_at) select 't', '{}', now() - interval '1 hour' from generate_series(1, 5);
select is((select rows from outbox.backlog), 5::bigint, 'committed rows wait, others not yet');
select ok((select oldest_age between interval '59 min' and interval '61 min' from outbox.backlog), 'the oldest is an hour old');
update outbox.position set t2 = pg_current_snapshot(), last_id = (select max(id) - 2 from outbox.message);
select is((select rows from outbox.backlog), 2::bigint, 'in a window, those above last_id wait');
call session_do('other', 'commit');
select is((select rows from outbox.backlog), 3::bigint, 'a late row waits, whatever its id');
select is((select rows from outbox.backlog_at_most(2)), 2::bigint, 'counted only as far as asked');
update outbox.position set t1 = t2, t2 = null;
select ok((select rows = 1 and oldest_age < interval '10 min' from outbox.backlog), 'after the window, the late row');
do $$ begin perform position_is_now(); end $$;
select results_eq('select share, rows, oldest_age from outbox.backlog', $$ values (0, 0::bigint, interval '0') $$, 'nothing waits again');
-- One that began before t2 and is not in it: the xmax of a snapshot is behind the last that had ended.
call session_open('early');
call session_do('early', 'begin');
call session_do('early', 'select pg_current_xact_id()');
call session_do('other', 'begin');
call session_do('other', $$ select outbox.publish('t', '{}') $$);
call session_do('early', $$ select outbox.publish('t', '{}') $$);
call session_do('early', 'commit');
update outbox.position set t2 = pg_current_snapshot(), last_id = (select max(id) from outbox.message);
call session_do('other', 'commit');
select ok((select rows = 1 and oldest_age > interval '0' from outbox.backlog), 'a row below what is settled, of a transaction from the xmax of t2 on, has its age');

select * from finish();
