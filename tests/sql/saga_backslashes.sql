-- A session in which a backslash in a plain literal is an escape, as old drivers set it: our functions' literals are read with the session's setting, and must
-- mean the same.
set standard_conforming_strings = off;
set escape_string_warning = off;
begin;
select plan(12);

select is(saga.parse_path('$.a["any name"][0]'), '["a", "any name", 0]', 'a path');
select throws_ok($$ select saga.parse_path('$xa') $$, 'SG314', null, 'a dot is a dot in a path');
select is(saga.parse_path($$$["q\"x"]$$), $$["q\"x"]$$, 'a quoted name');

create table account (id text primary key, balance integer not null);
create function reserve(input jsonb) returns jsonb language sql as 'select input';
select lives_ok($$ select saga.handle('inventory.reserve', 'reserve') $$, 'an action is registered');
select throws_ok($$ select saga.handle('inventoryXreserve', 'reserve') $$, 'SG212', null, 'one without a dot is not');
select lives_ok($$ select saga.escrow('shop.credit', 'account', 'balance') $$, 'an escrow account is registered');
select throws_ok($$ select saga.escrow('shopXcredit', 'account', 'balance') $$, 'SG214', null, 'one without a dot is not');

select saga.define('order');
select saga.step('order', 'reserve', action => 'inventoryXreserve', kind => 'read_only');
select throws_ok($$ select saga.publish('order') $$, 'SG300', null, 'an action without a dot is refused');
select saga.define('order');
select lives_ok($$ select saga.step('order', 'reserve', action => 'inventory.reserve', kind => 'read_only', for_each => '{"$path": "$.input.lines", "default": []}') $$,
                'a list with a default is a template');
select is((select version from saga.publish('order')), 1, 'it is published');
select is(saga.participant_of('inventory.reserve'), 'inventory', 'an action''s participant');
select lives_ok($$ select outbox.wake_shares(1) $$, 'the trigger''s argument is found');

select * from finish();
rollback;
