-- Escrow: saga.escrow, the handlers that it makes, and steps via => 'escrow'.
\ir lib/participant.sql
select no_plan();
\set VERBOSITY terse

create schema shop;
grant select on saga_of_test to public;
grant usage on schema shop to sagapost_worker;
create table shop.account (id text primary key, "Balance" numeric(12, 2) not null check ("Balance" >= -100), other integer not null default 10, real real, twice integer);
insert into shop.account (id, "Balance") values ('a', 100), ('b', 10.50);

-- Registration ------------------------------------------------------------------------------------------------------------------------
select throws_ok(format('select saga.escrow(%s)', arguments), 'SG214', message, message)
from (values ($$ 'Credit', 'shop.account', 'Balance' $$, 'saga.escrow: "Credit" is no kind of account'),
             ($$ 'shop.credit', 'shop.account', 'balance' $$, 'saga.escrow: shop.account has no column "balance"'),
             ($$ 'shop.credit', 'shop.account', 'Balance', 'no' $$, 'saga.escrow: shop.account has no column "no"'),
             ($$ 'shop.credit', 'shop.account', 'real' $$, 'saga.escrow: column "real" of shop.account is real'),
             ($$ 'shop.credit', 'shop.account', 'Balance', 'twice' $$, 'saga.escrow: column "twice" of shop.account is not unique'),
             ($$ 'shop.credit', 'shop.account', 'Balance', floor => 'NaN' $$, 'saga.escrow: the floor NaN is no limit'),
             ($$ 'shop.credit', 'saga.instances', 'key' $$, 'saga.escrow: saga.instances is no table')) as v (arguments, message);
grant usage, create on schema shop to sagapost_definer;
set role sagapost_definer;
select throws_ok($$ select saga.escrow('shop.credit', 'shop.account', 'Balance') $$, 'SG211', 'only the owner of shop.account may make it an escrow account', 'nobody else''s table');
create table shop."My Stock" (sku integer primary key, "In Stock" integer not null);
select lives_ok($$ select saga.escrow('shop.stock', 'shop."My Stock"', 'In Stock', key_column => 'sku') $$, 'a definer''s own table');
reset role;
select lives_ok($$ select saga.escrow('shop.credit', 'shop.account', 'Balance', floor => -100) $$, 'the owner''s');
select lives_ok($$ select saga.escrow('shop.credit', 'shop.account', 'Balance', floor => -50) $$, 'again, with another floor');
select set_eq($$ select action, lock::text from saga.handler $$, $$ values ('shop.credit_reserve', 'strict $."key"'), ('shop.credit_release', 'strict $."key"'), ('shop.credit_settle', null), ('shop.credit_reopen', null),
              ('shop.stock_reserve', 'strict $."key"'), ('shop.stock_release', 'strict $."key"'), ('shop.stock_settle', null), ('shop.stock_reopen', null) $$, 'its handlers');
select is_empty($$ select p.proname from pg_proc p, aclexplode(p.proacl) a where p.pronamespace = 'shop'::regnamespace and a.grantee = 0 $$, 'PUBLIC may call none of them');
select is((select count(*)::integer from pg_proc p where p.pronamespace = 'shop'::regnamespace and p.prosecdef and p.proconfig = '{"search_path=pg_catalog, pg_temp"}'), 8, 'they pin their search_path');

-- Reserve, release, settle, reopen ----------------------------------------------------------------------------------------------------
create function pg_temp.run(step text, verb text, input jsonb, operation text default 'action', id uuid default null) returns text language sql as $$
    select string_agg(concat_ws(' ', verdict, outcome, error), '; ')
    from saga.execute_batch(array[cmd(step, operation, more => jsonb_build_object('action', verb), input => input)])
$$;
create function pg_temp.books(out a numeric, out b numeric, out open numeric) language sql as $$
    select (select "Balance" from shop.account where id = 'a'), (select "Balance" from shop.account where id = 'b'), (select coalesce(sum(amount), 0) from saga.reservation)
$$;
set role sagapost_worker;
select is(pg_temp.run('x', 'shop.credit_reserve', '{"key": "a", "amount": 30.10}'), 'execute ok', 'reserved');
reset role;
select results_eq('select * from pg_temp.books()', $$ values (69.90, 10.50, 30.10) $$, 'and taken from the column at once');
select is(output, '{"key": "a", "amount": 30.10, "left": 69.90}', 'what it brings') from saga.outcome where step = 'x';
select is(pg_temp.run('x', 'shop.credit_reserve', '{"key": "a", "amount": 30.10}'), 'repeated ok', 'the same again');
select is(pg_temp.run('y', 'shop.credit_reserve', '{"key": "a", "amount": 119.91}'), 'execute failed shop.credit of account a: 119.91 asked for, 69.90 there, and -50 must stay', 'not below the floor');
select is(error -> 'code', '"insufficient"', 'with a code') from saga.outcome where step = 'y';
select is(pg_temp.run('z', 'shop.credit_reserve', '{"key": "a", "amount": 119.90}'), 'execute ok', 'down to the floor');
select is(pg_temp.run('none', 'shop.credit_reserve', '{"key": "none", "amount": 1}'), 'execute failed shop.credit has no account none', 'no such account');
select matches(pg_temp.run('amount ' || amount, 'shop.credit_reserve', format('{"key": "a", "amount": %s}', amount)::jsonb), '^execute failed the (amount .* is not above 0|input has no "amount")', 'an amount of ' || amount)
from (values ('0'), ('-1'), ('0.001'), ('"1"'), ('null')) v (amount);
select is(pg_temp.run('nokey', 'shop.credit_reserve', '{"amount": 1}'), 'execute failed the input has no "key", a text or a number', 'no key');
select results_eq('select * from pg_temp.books()', $$ values (-50.00, 10.50, 150.00) $$, 'a refusal leaves nothing');
select is(pg_temp.run('z', 'shop.credit_release', '{"key": "a", "amount": 119.90}', 'undo'), 'execute ok', 'released');
select is(pg_temp.run('z', 'shop.credit_release', '{"key": "a", "amount": 119.90}', 'undo'), 'repeated ok', 'once');
select is(pg_temp.run('late', 'shop.credit_release', '{"key": "a", "amount": 5}', 'undo'), 'fenced ok', 'an undo before its action');
select is(pg_temp.run('late', 'shop.credit_reserve', '{"key": "a", "amount": 5}'), 'fenced not_executed', 'fences it');
select results_eq('select * from pg_temp.books()', $$ values (69.90, 10.50, 30.10) $$, 'what was released is back');
select throws_ok($$ select saga.escrow('shop.credit', null) $$, 'SG214', 'saga.escrow: shop.credit has open reservations', 'what is open may have to be given back');
select throws_ok($$ select saga.escrow('shop.credit', 'shop.account', 'other') $$, 'SG214', 'saga.escrow: shop.credit has open reservations of shop.account."Balance" by id', 'to where it came from');
select is(pg_temp.run('x_settle', 'shop.credit_settle', '{"step": "x"}'), 'execute ok', 'settled');
select results_eq('select * from pg_temp.books()', $$ values (69.90, 10.50, 0.00) $$, 'it is gone for good');
select matches(pg_temp.run('x', 'shop.credit_release', '{"key": "a", "amount": 30.10}', 'undo'), 'has no open reservation of shop.credit', 'and cannot be given back');
select is(pg_temp.run('x_settle', 'shop.credit_reopen', '{"step": "x"}', 'undo'), 'execute ok', 'unless it is reopened');
select is(pg_temp.run('x', 'shop.credit_release', '{"key": "a", "amount": 30.10}', 'undo'), 'execute ok', 'then it can');
select results_eq('select * from pg_temp.books()', $$ values (100.00, 10.50, 0.00) $$, 'to the last cent');
insert into shop."My Stock" values (7, 3);
select is(pg_temp.run('s1', 'shop.stock_reserve', '{"key": 7, "amount": 2.5}'), 'execute failed the amount 2.5 is not above 0, or has more than 0 decimals', 'whole numbers stay whole');
select is(pg_temp.run('s1b', 'shop.stock_reserve', '{"key": 7, "amount": 2}'), 'execute ok', 'any number, any name');
select is(pg_temp.run('s2', 'shop.stock_reserve', '{"key": 7, "amount": 2}'), 'execute failed shop.stock of account 7: 2 asked for, 1 there, and 0 must stay', 'to its floor');
select is(pg_temp.run('s3', 'shop.stock_reserve', '{"key": 7, "amount": 1}'), 'execute ok', 'of a saga that is then closed');
set role sagapost_definer;
select lives_ok(format('select saga.end_reservation(%L, %L, true)', (select id from saga_of_test), 's3'), 'by hand');
select is("In Stock", 1, 'it is given back') from shop."My Stock";
select throws_ok(format('select saga.end_reservation(%L, %L, true)', (select id from saga_of_test), 's3'), 'SG215', null, 'once');
reset role;
select is(pg_temp.run('s4', 'shop.stock_reserve', '{"key": 7, "amount": 1}'), 'execute ok', 'or');
select lives_ok(format('select saga.end_reservation(%L, %L, false)', (select id from saga_of_test), 's4'), 'it is settled by hand');
select is_empty($$ select from saga.reservation where step in ('s3', 's4') $$, 'and open no more');
delete from shop."My Stock";
select is(pg_temp.run('s1b', 'shop.stock_release', '{"key": 7, "amount": 2}', 'undo'), 'execute failed account 7 is gone: 2 cannot be given back', 'an account that is gone is told');
select lives_ok($$ select saga.escrow('shop.credit', null) $$, 'registered no more');
select is((select count(*)::integer from saga.handler where action like 'shop.credit%') + (select count(*)::integer from pg_proc where proname like 'escrow_shop_credit%'), 0, 'nothing of it is left');

-- Steps -------------------------------------------------------------------------------------------------------------------------------
create function pg_temp.refused(arguments text) returns text language plpgsql as $$
declare
    why text;
begin
    perform saga.define('x');
    execute format('select saga.step(%L, %L, via => %L, %s)', 'x', 'e', 'escrow', arguments);
    perform saga.publish('x');
    return 'published';
exception when others then
    get stacked diagnostics why = message_text;
    return sqlstate || ' ' || why;
end
$$;
select is(pg_temp.refused($$ action => 'shop.credit' $$), 'SG312 step "e" is an escrow and does not say how much of which account', 'an input is needed');
select is(pg_temp.refused($$ action => 'shop.credit', input => '{"key": 1}' $$), 'SG312 step "e" is an escrow and does not say how much of which account', 'with an amount');
select is(pg_temp.refused($$ action => 'shop.credit', undo => 'shop.x', input => '{"key": 1, "amount": 2}' $$), 'SG312 step "e" is an escrow, and has what it does not need', 'its undo is its own');
select is(pg_temp.refused($$ input => '{"key": 1, "amount": 2}' $$), 'SG300 step "e": its action null is no action', 'a kind of account is needed');
select lives_ok($$ select saga.define('y'), saga.step('y', 'e', via => 'escrow', action => 'shop.credit', input => '{"key": 1, "amount": 2}'),
                   saga.step('y', 'e_settle', action => 'p.p', kind => 'read_only') $$);
select throws_ok($$ select saga.publish('y') $$, 'SG312', 'step "e" is settled by a step "e_settle", and there is one of this name, or it is too long', 'its name is taken');
create function pg_temp.plan(of_name text) returns table (name text, kind text, action text, undo text, after jsonb, run_if jsonb) language sql as $$
    select s ->> 'name', s ->> 'kind', s ->> 'action', s ->> 'undo', s -> 'after', nullif(s -> 'run_if', 'null')
    from saga.definition d, jsonb_array_elements(d.plan -> 'steps') with ordinality e (s, ordinal) where d.name = of_name and d.current order by ordinal
$$;
select version from (select saga.define('pivoted'), saga.step('pivoted', 'e', via => 'escrow', action => 'shop.credit', input => '{"key": "$.input.k", "amount": "$.input.n"}'),
       saga.step('pivoted', 'p', action => 'p.p', kind => 'pivot', after => '{e}'), (saga.publish('pivoted')).version) p;
select results_eq($$ select * from pg_temp.plan('pivoted') $$, $$ values ('e', 'compensable', 'shop.credit_reserve', 'shop.credit_release', '[]'::jsonb, null::jsonb),
       ('p', 'pivot', 'p.p', null, '[0]', null), ('e_settle', 'retriable', 'shop.credit_settle', null, '[1]', null) $$, 'settled behind the pivot');
select version from (select saga.define('plain'), saga.step('plain', 'e', via => 'escrow', action => 'shop.credit', input => '{"key": "$.input.k", "amount": "$.input.n"}', run_if => '{"input": {"buy": true}}'),
       saga.step('plain', 'a', action => 'p.a', undo => 'p.u', after => '{e}'), saga.step('plain', 'b', action => 'p.b', kind => 'read_only'), (saga.publish('plain')).version) p;
select results_eq($$ select * from pg_temp.plan('plain') $$, $$ values ('e', 'compensable', 'shop.credit_reserve', 'shop.credit_release', '[]'::jsonb, '{"input": {"buy": true}}'::jsonb),
       ('b', 'read_only', 'p.b', null, '[]', null), ('a', 'compensable', 'p.a', 'p.u', '[0]', null),
       ('e_settle', 'compensable', 'shop.credit_settle', 'shop.credit_reopen', '[1, 2]', '{"steps": {"e": {}}}') $$, 'or last, if there is none, and if it was reserved');

select * from finish();
