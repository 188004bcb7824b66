-- saga.handle and saga.execute_batch: SQL handlers, each in a savepoint, their outcomes written once, their replies queued.
\ir lib/session.sql
\ir lib/participant.sql
select no_plan();
\set VERBOSITY terse

create schema shop;
create table shop.done (n integer generated always as identity, saga uuid, step text, operation text, attempt text, input jsonb);
create function shop.work(input jsonb) returns jsonb language plpgsql as $$
begin
    insert into shop.done (saga, step, operation, attempt, input)
    values (current_setting('saga.id')::uuid, current_setting('saga.step'), current_setting('saga.operation'), current_setting('saga.attempt'), work.input);
    if input ? 'raise' then
        execute format('do $d$ begin raise exception using errcode = %L, message = %L; end $d$', input ->> 'raise', coalesce(input ->> 'message', 'raised'));
    elsif input ? 'fail' then
        perform saga.fail(input ->> 'fail', 'a no', '{"left": 0}');
    elsif input ? 'cancel' then
        perform pg_sleep(5);
    end if;
    return input -> 'return';
end
$$;
create function shop.undo(input jsonb) returns jsonb language sql as $$ select shop.work(input) $$;

-- Registration ----------------------------------------------------------------------------------------------------------------------
select throws_ok(format('select saga.handle(%L, %L)', bad, 'shop.work'), 'SG212', format('saga.handle: "%s" is no action', coalesce(bad, '<NULL>')), 'no action: ' || coalesce(bad, 'null'))
from unnest(array['work', 'p.', 'P.a', 'p.a.b', '', null]) bad;
select throws_ok($$ select saga.handle('p.a', 'shop.nothing') $$, 'SG212', 'saga.handle: there is no function shop.nothing(jsonb)', 'no function');
create function shop.bad(input jsonb) returns text language sql as $$ select 'x' $$;
create function shop.set(input jsonb) returns setof jsonb language sql as $$ select input $$;
select throws_ok(format('select saga.handle(%L, %L)', 'p.a', bad), 'SG212', null, 'no handler: ' || bad) from unnest(array['shop.bad', 'shop.set', 'work', 'pg_catalog.jsonb_agg', 'a b']) bad;
select throws_ok($$ select saga.handle('p.a', 'shop.work', lock => 'sku') $$, 'SG314', null, 'no path');
select saga.handle('p.a', 'shop.work', lock => '$.sku');
set search_path = shop, public;
select saga.handle('p.b', 'work');
reset search_path;
select results_eq('select action, function::text, lock::text, search_path from saga.handler order by 1',
                  $$ values ('p.a', 'shop.work(jsonb)', 'strict $."sku"', '"$user", public'), ('p.b', 'shop.work(jsonb)', null, 'shop, public') $$, 'registered');
select saga.handle('p.b', null);
select is(count(*)::integer, 1, 'and removed') from saga.handler;
select saga.handle('p.' || step, 'shop.work') from unnest('{b,c,d,e,f,g,h,x}'::text[]) step;

-- Verdicts and outcomes ---------------------------------------------------------------------------------------------------------------
create function batch(variadic commands jsonb[]) returns setof text language sql as $$
    select concat_ws(' ', b.ordinal, b.verdict, coalesce(b.outcome, '-'), b.error) from saga.execute_batch(commands) b order by b.ordinal
$$;
select results_eq($$ select batch(cmd('a', input => '{"return": {"id": 1}}'), cmd('b', input => '{"fail": "no_stock"}'), cmd('c', input => '{"raise": "22012"}'),
                                  cmd('d', input => '{"raise": "55P03"}'), '{"no": "command"}', cmd('nobody'), cmd('e'), cmd('f', input => '{"return": [1]}')) $$,
    $$ values ('1 execute ok'), ('2 execute failed a no'), ('3 execute error raised'), ('4 execute transient raised'), ('5 unreadable - no object "saga"'),
              ('6 execute transient no handler is registered for it'), ('7 execute ok'), ('8 execute ok') $$, 'a batch of everything');
select results_eq($$ select payload -> 'saga' ->> 'step' || ' ' || (payload ->> 'outcome'), coalesce(payload::jsonb -> 'output', (payload::jsonb -> 'error') #- '{details,context}') from outbox.message order by 1 $$,
    $$ values ('a ok', '{"id": 1}'::jsonb), ('b failed', '{"code": "no_stock", "message": "a no", "details": {"left": 0}}'), ('c error', '{"code": "22012", "message": "raised", "details": {}}'),
              ('d transient', '{"code": "55P03", "message": "raised", "details": {}}'), ('e ok', '{}'), ('f ok', '[1]'),
              ('nobody transient', '{"code": "unknown_action", "message": "no handler is registered for it", "details": {}}') $$, 'each is answered: null is {}, any jsonb is an output');
select results_eq('select step, operation, attempt, saga = (select id from saga_of_test) from shop.done order by n',
    $$ values ('a', 'action', '1', true), ('e', 'action', '1', true), ('f', 'action', '1', true) $$,
    'only what ended ok is left; a handler knows where it is');
select results_eq('select step, operation, outcome, round from saga.outcome order by 1',
    $$ values ('a', 'action', 'ok', 1), ('b', 'action', 'failed', 1), ('e', 'action', 'ok', 1), ('f', 'action', 'ok', 1) $$, 'outcomes: ok and failed, nothing of the others');
truncate outbox.message;
select results_eq($$ select batch(cmd('a', attempt => 2), cmd('b', attempt => 2), cmd('b', round => 2, input => '{"return": 5}'), cmd('c', attempt => 2)) $$,
    $$ values ('1 repeated ok'), ('2 repeated failed'), ('3 execute ok'), ('4 execute ok') $$, 'again: what stands is repeated, the rest is executed');
select is(replies(), 'ok r1 a2 {"id": 1}, failed r1 a2 no_stock, ok r1 a2 {}, ok r2 a1 5', 'as answered');
select results_eq('select payload from outbox.message', $$ select null::json where false $$, 'nothing else');

-- All SQLSTATEs -----------------------------------------------------------------------------------------------------------------------
select is(string_agg(state || ' ' || saga.classify(state), ', ' order by place),
          'SG001 failed, 40001 transient, 40P01 transient, 55P03 transient, 57014 transient, 53100 transient, 53200 transient, 08006 transient, 57P01 transient, 57P03 transient, '
          || '57000 error, 22012 error, 23505 error, 42501 error, P0001 error, P0004 error, XX000 error, SG002 error', 'outcome by SQLSTATE')
from unnest('{SG001,40001,40P01,55P03,57014,53100,53200,08006,57P01,57P03,57000,22012,23505,42501,P0001,P0004,XX000,SG002}'::text[]) with ordinality s (state, place);
select results_eq($$ select batch(cmd('g', input => '{"raise": "P0004", "message": "assert"}')) $$, $$ values ('1 execute error assert') $$, 'a failed ASSERT is caught');
select results_eq($$ select batch(cmd('g', input => '{"raise": "SG001", "message": "by hand"}')) $$, $$ values ('1 execute failed by hand') $$, 'SG001 by hand is a no');
select is((select error from saga.outcome where step = 'g'), '{"code": "failed", "message": "by hand", "details": {}}', 'with a code of its own');
create function raised(statement text) returns text language plpgsql as $$
begin
    execute statement;
    return null;
exception when query_canceled or others then
    return sqlstate || ' ' || sqlerrm;
end
$$;
select is(raised(format('select batch(cmd(%L, input => %L), cmd(%L))', 'h', format('{"raise": "%s"}', state), 'x')), state || ' raised', state || ' in a batch of several is raised, for the batch to be cut')
from unnest('{40001,40P01,57014}'::text[]) state;
select is(outcome_of('x'), null, 'and nothing of the batch is left');
select results_eq(format('select batch(cmd(%L, input => %L))', 'h', format('{"raise": "%s"}', state)), $$ values ('1 execute transient raised') $$, state || ' alone is transient')
from unnest('{40001,40P01,57014}'::text[]) state;
set statement_timeout = '300 ms';
select results_eq($$ select batch(cmd('h', input => '{"cancel": true}')) $$, $$ values ('1 execute transient canceling statement due to statement timeout') $$, 'a handler that takes too long, alone');
reset statement_timeout;
select results_eq($$ select batch(cmd('h', input => jsonb_build_object('return', (select string_agg(md5(g::text), '') from generate_series(1, 9000) g)))) $$,
                  $$ values ('1 execute error the output has 288012 bytes, allowed are 262144') $$, 'an output has a size');
select results_eq(format('select batch(cmd(%L, input => jsonb_build_object(''return'', %L::jsonb)))', 'h', output), format('values (%L)', '1 execute error the output ' || problem), 'also as text, and a depth: ' || problem)
from (values ((select jsonb_agg(1e99999::numeric) from generate_series(1, 4)), 'has 400008 bytes, allowed are 262144'),
             ((repeat('[', 51) || repeat(']', 51))::jsonb, 'has more than 50 levels')) bad (output, problem);
select results_eq($$ select batch(cmd('deep', more => '{"action": "p.h"}', input => jsonb_build_object('return', (repeat('[', 50) || repeat(']', 50))::jsonb))) $$, $$ values ('1 execute ok') $$, 'so deep');
create function shop.verbose(input jsonb) returns jsonb language plpgsql as $$
begin
    if input ? 'fail' then
        perform saga.fail('no', 'a no', jsonb_build_object('all', repeat('x', 300000)));
    end if;
    raise exception using message = repeat('x', 300000), detail = repeat('y', 300000), hint = repeat('z', 300000);
end
$$;
select saga.handle('p.verbose', 'shop.verbose');
select count(batch) from batch(cmd('v1', more => '{"action": "p.verbose"}'), cmd('v2', more => '{"action": "p.verbose"}', input => '{"fail": true}'));
select is(max(octet_length(payload::text)) < 20000, true, 'who says much is cut short, so that the reply arrives') from outbox.message where payload -> 'saga' ->> 'step' in ('v1', 'v2');
select is(error, '{"code": "no", "message": "a no", "details": {"omitted": "has 300071 bytes, allowed are 262144"}}', 'a business no keeps its code and message') from saga.outcome where step = 'v2';
truncate outbox.message;

-- Undo, probe, repetition within one batch ----------------------------------------------------------------------------------------------
select saga.handle('p.' || step, 'shop.work') from unnest('{ua,ub,uc,ud,ue,uf}'::text[]) step;
select batch(cmd('ua', input => '{"return": {"id": 7}}'), cmd('uc', input => '{"fail": "no"}'), cmd('ud', input => '{"fail": "half"}'));
truncate outbox.message, shop.done;
select results_eq($$ select batch(cmd('ua', 'undo', input => '{"a": 1, "output": 5}'), cmd('ub', 'undo'), cmd('uc', 'undo'), cmd('ud', 'undo', more => '{"undo_on_fail": true}'),
                                  cmd('ua', 'probe'), cmd('ue', 'probe'), cmd('uc', 'probe')) $$,
    $$ values ('1 execute ok'), ('2 fenced ok'), ('3 fenced ok'), ('4 execute ok'), ('5 repeated executed'), ('6 fenced not_executed'), ('7 repeated failed') $$, 'undos and probes');
select results_eq('select step, operation, input from shop.done order by step', $$ values ('ua', 'undo', '{"a": 1, "output": {"id": 7}}'::jsonb), ('ud', 'undo', '{"a": 1, "output": null}') $$,
                  'only what took effect is undone, with its output');
select results_eq($$ select batch(cmd('ua', 'undo', attempt => 2), cmd('ub'), cmd('uc', round => 2), cmd('ue'), cmd('ua')) $$,
    $$ values ('1 repeated ok'), ('2 fenced not_executed'), ('3 fenced failed'), ('4 fenced not_executed'), ('5 repeated ok') $$, 'after which no action comes again');
truncate outbox.message, shop.done;
select results_eq($$ select batch(cmd('t1', more => '{"action": "p.a"}'), cmd('t1', attempt => 2, more => '{"action": "p.a"}'), cmd('t1', 'undo', more => '{"action": "p.a"}'), cmd('t1', 'undo', attempt => 2, more => '{"action": "p.a"}'),
                                  cmd('t2', 'undo', more => '{"action": "p.a"}'), cmd('t2', more => '{"action": "p.a"}'),
                                  cmd('t3', 'probe', more => '{"action": "p.a"}'), cmd('t3', more => '{"action": "p.a"}'),
                                  cmd('t4', more => '{"action": "p.a"}', input => '{"raise": "22012"}'), cmd('t4', attempt => 2, more => '{"action": "p.a"}')) $$,
    $$ values ('1 execute ok'), ('2 repeated ok'), ('3 execute ok'), ('4 repeated ok'), ('5 execute ok'), ('6 execute ok'), ('7 repeated executed'), ('8 execute ok'), ('9 execute error raised'), ('10 execute ok') $$,
    'commands to one step take turns: its action first, then what asks about it');
select is(string_agg(step || ' ' || operation, ', ' order by step, n), 't1 action, t1 undo, t2 action, t2 undo, t3 action, t4 action', 'each executed once') from shop.done;
truncate outbox.message, shop.done;

-- The routing key names the action when the body does not.
select results_eq($$ select ordinal, verdict, outcome from saga.execute_batch(array[cmd('rk') #- '{saga,action}', cmd('rk2')], array['p.a', 'p.b']) $$,
                  $$ values (1, 'execute', 'ok'), (2, 'execute', 'ok') $$, 'actions beside the bodies') ;
select results_eq($$ select * from saga.execute_batch('{}') $$, $$ select 1, ''::text, ''::text, ''::text, ''::text where false $$, 'an empty batch');
select results_eq($$ select verdict from saga.execute_batch(array[null::jsonb]) $$, $$ values ('unreadable') $$, 'null is unreadable');

-- Order by lock ---------------------------------------------------------------------------------------------------------------------------
select saga.handle('p.locked', 'shop.work', lock => '$.sku');
truncate shop.done;
select count(*) as ran from batch(cmd('l1', more => '{"action": "p.locked"}', input => '{"sku": "C"}'), cmd('l2', more => '{"action": "p.locked"}', input => '{"sku": "A"}'),
             cmd('l3', more => '{"action": "p.locked"}', input => '{"sku": "B"}'), cmd('l4', more => '{"action": "p.b"}', input => '{"sku": "0"}'),
             cmd('l5', more => '{"action": "p.locked"}', input => '{"no": "B"}')) \gset
select is(string_agg(step, ',' order by n), 'l4,l5,l2,l3,l1', 'a batch runs in the order of its locks, without one first') from shop.done;

-- What commands of a batch must not leave each other --------------------------------------------------------------------------------------
create function shop.temporary(input jsonb) returns jsonb language plpgsql as $$
declare
    open_one cursor for select * from work;
begin
    create temporary table if not exists work (n integer) on commit drop;
    insert into work values ((input ->> 'n')::integer);
    if input ? 'open' then
        open open_one;
        fetch open_one into input;
    end if;
    return (select jsonb_agg(n) from work);
end
$$;
create function shop.cursor(input jsonb) returns jsonb language plpgsql as $$
declare
    open_one refcursor := 'open_one';
begin
    open open_one for select 1;
    return '{}';
end
$$;
select saga.handle('p.temporary', 'shop.temporary');
select saga.handle('p.cursor', 'shop.cursor');
truncate outbox.message;
call session_open('temp');
call session_do('temp', 'create temporary table other as select 1 as n');
call session_do('temp', $$ select count(batch) from batch(cmd('x0'), cmd('x9')) $$);
select is(session_get('temp', 'select n::text from other'), '1', 'what nobody''s command made stays');
select is(session_get('temp', $$ select string_agg(batch, ', ') from batch(cmd('x1', more => '{"action": "p.temporary"}', input => '{"n": 1}'), cmd('x2', more => '{"action": "p.temporary"}', input => '{"n": 2}'),
                                                                           cmd('x3', more => '{"action": "p.temporary"}', input => '{"n": 3}')) $$),
          '1 execute ok, 2 execute ok, 3 execute ok', 'a temporary table in a handler');
select is(string_agg(output::text, ', ' order by step), '[1], [2], [3]', 'is its own') from saga.outcome where step in ('x1', 'x2', 'x3');
select throws_ok($$ call session_do('temp', $s$ select count(batch) from batch(cmd('x6', more => '{"action": "p.temporary"}', input => '{"n": 6, "open": true}'), cmd('x7')) $s$) $$, '55006', null,
                 'an open cursor on it has the batch cut');
select is(session_get('temp', $$ select batch from batch(cmd('x6', more => '{"action": "p.temporary"}', input => '{"n": 6, "open": true}')) $$), '1 execute ok', 'alone it is in nobody''s way');
select is(raised($$ select batch(cmd('x4', more => '{"action": "p.cursor"}'), cmd('x5', more => '{"action": "p.cursor"}')) $$), '42P03 cursor "open_one" already in use',
          'a cursor that is left open has the batch cut');
select results_eq($$ select batch(cmd('x4', more => '{"action": "p.cursor"}')) $$, $$ values ('1 execute ok') $$, 'nor that one');
truncate outbox.message;

create function shop.changes(input jsonb) returns jsonb language plpgsql as $$
begin
    if input ? 'set' then
        set timezone = 'Asia/Tokyo';
        set local datestyle = 'German';
        set client_encoding = 'LATIN1';
        set default_transaction_isolation = 'serializable';
        set default_transaction_read_only = on;
        set session_replication_role = 'replica';
        set local statement_timeout = '7 s';
        set role sagapost_reader;
    end if;
    return array_to_json(array[current_setting('timezone'), current_setting('datestyle'), current_setting('statement_timeout'), current_setting('role')])::jsonb;
end
$$;
select saga.handle('p.changes', 'shop.changes');
call session_do('temp', $$ select count(batch) from batch(cmd('y1', more => '{"action": "p.changes"}'), cmd('y2', more => '{"action": "p.changes"}', input => '{"set": true}')) $$);
call session_do('temp', $$ select batch from batch(cmd('y3', more => '{"action": "p.changes"}')) $$);
select is(session_get('temp', $$ select concat_ws(' ', current_setting('default_transaction_isolation'), current_setting('default_transaction_read_only'),
                                                  current_setting('session_replication_role'), current_setting('client_encoding')) $$),
          'read committed off origin UTF8', 'what a handler sets is put back');
select is(count(distinct output), 1::bigint, 'and no other command sees it') from saga.outcome where step in ('y1', 'y3');
select isnt(output, (select output from saga.outcome where step = 'y1'), 'though it held for itself') from saga.outcome where step = 'y2';
truncate outbox.message;

-- Constraints that are deferred -----------------------------------------------------------------------------------------------------------
create table shop.parent (id integer primary key);
create table shop.child (id integer references shop.parent deferrable initially deferred);
create table shop.pair (id integer unique deferrable initially immediate);
create function shop.defer(input jsonb) returns jsonb language plpgsql as $$
begin
    insert into shop.child values ((input ->> 'id')::integer);
    if input ? 'late' then
        insert into shop.parent values ((input ->> 'id')::integer);
    end if;
    return '{}';
end
$$;
create function shop.immediately(input jsonb) returns jsonb language plpgsql as $$
begin
    insert into shop.pair values (1), (1);
    return '{}';
exception when unique_violation then
    return '"caught"';
end
$$;
select saga.handle('p.defer', 'shop.defer'), saga.handle('p.now', 'shop.immediately');
select results_eq($$ select batch(cmd('d1', more => '{"action": "p.defer"}', input => '{"id": 1}'), cmd('d2', more => '{"action": "p.defer"}', input => '{"id": 2, "late": true}'),
                                  cmd('d3', more => '{"action": "p.now"}'), cmd('d4', more => '{"action": "p.defer"}', input => '{"id": 4, "late": true}')) $$,
    $$ values ('1 execute error insert or update on table "child" violates foreign key constraint "child_id_fkey"'), ('2 execute ok'), ('3 execute ok'), ('4 execute ok') $$,
    'a deferred constraint is checked at the end of each command, and deferred again for the next');
select is((select output from saga.outcome where step = 'd3'), '"caught"', 'one that is immediate stays immediate');

-- search_path, settings, rights ---------------------------------------------------------------------------------------------------------------
create schema other;
create table other.place (name text);
insert into other.place values ('other');
create table shop.place (name text);
insert into shop.place values ('shop');
set search_path = other, public;
create function other.where_am_i(input jsonb) returns jsonb language plpgsql as $$ begin return to_jsonb((select name from place)) || to_jsonb(current_setting('search_path')); end $$;
select saga.handle('p.where', 'where_am_i');
create function shop.set_path(input jsonb) returns jsonb language plpgsql as $$ begin perform set_config('search_path', 'shop', true); return to_jsonb((select name from place)); end $$;
select saga.handle('p.set', 'shop.set_path');
create function shop.own(input jsonb) returns jsonb language plpgsql set search_path = shop, pg_temp as $$ begin return to_jsonb((select name from place)); end $$;
select saga.handle('p.own', 'shop.own');
set search_path = public;
select batch(cmd('w1', more => '{"action": "p.where"}'), cmd('w2', more => '{"action": "p.set"}'), cmd('w3', more => '{"action": "p.own"}'), cmd('w4', more => '{"action": "p.where"}'));
select results_eq($$ select step, output from saga.outcome where step like 'w_' order by 1 $$,
    $$ values ('w1', '["other", "other, public"]'::jsonb), ('w2', '"shop"'), ('w3', '"shop"'), ('w4', '["other", "other, public"]') $$, 'each runs with the search_path it was registered with, or its own');
select is(current_setting('search_path'), 'public', 'and the session has its own back');
select is(current_setting('saga.id', true), '', 'what handlers were told is gone with the transaction');
drop function shop.undo(jsonb);
create function shop.undo(input jsonb) returns jsonb language sql as $$ select '"anew"'::jsonb $$;
select saga.handle('p.anew', 'shop.undo');
drop function shop.undo(jsonb);
create function shop.undo(input jsonb) returns jsonb language sql as $$ select '"once more"'::jsonb $$;
select batch(cmd('anew', more => '{"action": "p.anew"}'));
select is(output, '"once more"', 'a handler that was dropped and made anew is the handler') from saga.outcome where step = 'anew';
drop function shop.own(jsonb);
select results_eq($$ select batch(cmd('w5', more => '{"action": "p.own"}')) $$, $$ values ('1 execute transient no handler is registered for it') $$, 'a handler that was dropped');

create function shop.planner(input jsonb) returns jsonb language sql as $$
    select jsonb_agg(current_setting(s)) from unnest('{enable_seqscan,jit,plan_cache_mode,statement_timeout,lock_timeout}'::text[]) s $$;
select saga.handle('p.planner', 'shop.planner');
select batch(cmd('pl', more => '{"action": "p.planner"}'));
select is(output, (select jsonb_agg(current_setting(s)) from unnest('{enable_seqscan,jit,plan_cache_mode,statement_timeout,lock_timeout}'::text[]) s), 'a handler has the settings of its session')
from saga.outcome where step = 'pl';

-- Isolation
call session_open('one');
call session_open('two');
call session_do('one', 'begin isolation level serializable');
select throws_ok($$ select session_get('one', 'select batch(cmd(''x''))') $$, 'SG201', null, 'READ COMMITTED only');
call session_do('one', 'rollback');

-- Sessions: one identity in two batches ------------------------------------------------------------------------------------------------------
truncate shop.done, outbox.message;
call session_do('one', 'begin');
call session_do('one', $$ select batch(cmd('s1', more => '{"action": "p.a"}', input => '{"return": "one"}')) $$);
call session_send('two', $$ select string_agg(b, ', ') from batch(cmd('s1', attempt => 2, more => '{"action": "p.a"}', input => '{"return": "two"}'), cmd('s2', more => '{"action": "p.a"}')) b $$);
select ok(wait_until($$ session_is_waiting('two') $$), 'a second batch with the same command waits to write its outcome');
call session_do('one', 'commit');
select is(session_wait('two'), '1 repeated ok, 2 execute ok', 'its work is undone and it is repeated; the rest of the batch is executed');
select is(string_agg(step || ' ' || attempt, ', ' order by step), 's1 1, s2 1', 'each effect once') from shop.done;
select is(replies(), 'ok r1 a1 "one", ok r1 a2 "one", ok r1 a1 {}', 'one answer for both');
create table shop.stock (sku text primary key, n integer);
insert into shop.stock values ('A', 1);
create function shop.reserve(input jsonb) returns jsonb language plpgsql as $$
begin
    update shop.stock set n = n - 1 where sku = 'A' and n > 0;
    if not found then
        perform saga.fail('none', 'none left');
    end if;
    return '{}';
end
$$;
select saga.handle('p.reserve', 'shop.reserve');
call session_do('one', 'begin');
call session_do('one', $$ select batch(cmd('s3', more => '{"action": "p.reserve"}')) $$);
call session_send('two', $$ select batch(cmd('s3', attempt => 2, more => '{"action": "p.reserve"}')) $$);
select ok(wait_until($$ session_is_waiting('two') $$), 'it waits for the row of the first');
call session_do('one', 'commit');
select is(session_wait('two'), '1 repeated ok', 'and its no, which came of the first''s yes, is forgotten');
create table shop.payment (saga uuid, step text, primary key (saga, step));
create function shop.pay(input jsonb) returns jsonb language plpgsql as $$
begin
    insert into shop.payment values (current_setting('saga.id')::uuid, current_setting('saga.step'));
    return '"paid"';
end
$$;
select saga.handle('p.pay', 'shop.pay');
call session_do('one', 'begin');
call session_do('one', $$ select batch(cmd('s4', more => '{"action": "p.pay"}')) $$);
call session_send('two', $$ select batch(cmd('s4', attempt => 2, more => '{"action": "p.pay"}')) $$);
select ok(wait_until($$ session_is_waiting('two') $$), 'it waits');
call session_do('one', 'commit');
select is(session_wait('two'), '1 repeated ok', 'nor is its unique violation an error');
call session_do('one', 'begin');
call session_do('one', $$ select saga.receive(cmd('s5', 'undo')) $$);
call session_send('two', $$ select string_agg(b, ', ') from batch(cmd('s5', more => '{"action": "p.pay"}')) b $$);
select ok(wait_until($$ session_is_waiting('two') $$), 'an action in a batch waits for its undo elsewhere');
call session_do('one', 'commit');
select is(session_wait('two'), '1 fenced not_executed', 'and is not executed');
select is_empty($$ select from shop.payment where step = 's5' $$, 'its work undone');
call session_do('one', 'listen saga_handler');
select saga.handle('p.new', 'shop.pay');
select ok(wait_until($$ exists (select from dblink_get_notify('one') where notify_name = 'saga_handler') $$), 'workers hear of a new handler');

-- What is odd in a command disturbs only itself
select results_eq($$ select batch(cmd('o1', more => '{"action": "p.a", "element": "0", "round": "2"}'), cmd('o2', 'undo', more => '{"action": "p.a", "undo_on_fail": 5, "mapped": "yes"}'),
                                  cmd('o3', more => jsonb_build_object('action', 'p.a', 'x', repeat('x', 9000))), cmd('o4', more => '{"action": 5}'), cmd('o5', more => '{"action": "p.a", "attempt": {"a": 1}}')) $$,
    $$ values ('1 execute ok'), ('2 fenced ok'), ('3 unreadable - "saga" is larger than 8192 bytes'), ('4 execute transient no handler is registered for it'), ('5 execute ok') $$, 'odd members');

select is((select count(*) from saga.outcome where outcome = 'running'), 0::bigint, 'no claim is ever left');
select * from finish();
