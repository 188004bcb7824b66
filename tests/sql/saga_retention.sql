-- saga.maintain: ended sagas and their history go with their partition, keys and intents row by row; what runs or is kept loses nothing.
\ir lib/session.sql
select no_plan();
\set VERBOSITY terse
set timezone = 'UTC';

select saga.define('order');
select saga.step('order', 'a', action => 'p.a', kind => 'read_only');
select version from saga.publish('order');

-- A saga as it was started then, with a key and two rows of history; it ended at `ended`, or runs.
create function saga_of(started timestamptz, ended timestamptz default null) returns uuid language plpgsql as $$
declare
    new_id uuid := overlay(outbox.uuid_v7()::text placing left(outbox.uuid_floor(started)::text, 13) from 1 for 13)::uuid;
begin
    insert into saga.instance (id, definition_id, key, state, steps, input)
    select new_id, d.id, new_id::text, 'RUNNING', d.start_steps, '{}' from saga.definition d;
    insert into saga.key (definition, key, saga_id, input) values ('order', new_id::text, new_id, '{}');
    insert into saga.history (saga_id, event) values (new_id, 'started'), (new_id, 'other');
    if ended is not null then
        insert into saga.ended select i.*, saga_of.ended from saga.instance i where i.id = new_id;
        delete from saga.instance where id = new_id;
    end if;
    return new_id;
end
$$;
create function leaf_of(saga uuid) returns text language sql as $$ select string_agg(distinct tableoid::regclass::text, ' ') from saga.history where saga_id = saga $$;
create function ended_leaf_of(saga uuid) returns text language sql as $$ select tableoid::regclass::text from saga.ended where id = saga $$;
create function rows_of(saga uuid) returns text language sql as $$
    select format('%s ended, %s events, %s keys', (select count(*) from saga.ended where id = saga), (select count(*) from saga.history where saga_id = saga),
                  (select count(*) from saga.key where saga_id = saga))
$$;
-- The period of that day, as it would have been made then.
create function make_day(at timestamptz) returns text language sql as $$
    select saga.create_period(date_trunc('day', at), date_trunc('day', at) + interval '1 day');
    select to_char(at, 'YYYYMMDD') || '_000000'
$$;
create function maintained() returns text language sql as $$ select concat_ws(' ', coalesce(m.did, 'nothing'), case when m.is_more then 'more' end) from saga.maintain() m $$;

-- Partitions to come --------------------------------------------------------------------------------------------------------------------
select results_eq('select starts_at, ends_at from saga.period order by 1', $$ select d, d + interval '1 day' from generate_series(date_trunc('day', now()), now() + interval '2 days', '1 day') d $$,
                  'today and two days to come');
select is(maintained(), 'nothing', 'nothing is to do twice');
select is(leaf_of(saga_of(now())), 'saga.history_' || to_char(now(), 'YYYYMMDD') || '_000000', 'today');
select is(leaf_of(saga.start('order', '{}')), 'saga.history_' || to_char(now(), 'YYYYMMDD') || '_000000', 'as saga.start does it');
select is(ended_leaf_of(saga_of(now() + interval '1 day', now())), 'saga.ended_' || to_char(now() + interval '1 day', 'YYYYMMDD') || '_000000', 'both tables are cut alike');
select saga_of(now() + interval '10 days', now()) as ahead \gset
select is(leaf_of(:'ahead'), 'saga.history_default', 'a time nobody made a partition for');
update saga.setting set period = '11 days';
select is(maintained(), 'created 2, dropped 0', 'longer periods');
select is(leaf_of(:'ahead') || ' ' || ended_leaf_of(:'ahead'), format('saga.history_%1$s saga.ended_%1$s', to_char(now() + interval '3 days', 'YYYYMMDD') || '_000000'),
          'a new partition takes over what the DEFAULT one has of its time');
select is((select count(*) from saga.ended_default) + (select count(*) from saga.history_default), 0::bigint, 'so that nothing is left there');
update saga.setting set period = '1 day';

-- What is older than the retention --------------------------------------------------------------------------------------------------------
select make_day(now() - interval '31 days') as d31, make_day(now() - interval '32 days') as d32, make_day(now() - interval '5 days') as d5 \gset
select saga_of(now() - interval '31 days', now() - interval '31 days') as gone,
       saga_of(now() - interval '31 days', now() - interval '3 days') as outlived,
       saga_of(now() - interval '31 days') as runs,
       saga_of(now() - interval '32 days', now() - interval '32 days') as older,
       saga_of(now() - interval '5 days', now() - interval '5 days') as young \gset
select is(leaf_of(:'gone'), 'saga.history_' || :'d31', 'an old saga');
select is(maintained(), 'created 0, dropped 1 more', 'one period is dropped at a time, the oldest first');
select is(rows_of(:'older') || ', ' || rows_of(:'gone'), '0 ended, 0 events, 1 keys, 1 ended, 2 events, 1 keys', 'which is the older');
select is(maintained(), 'created 0, dropped 1 more', 'then the next');
select is(maintained(), 'nothing', 'and no more');
select is(rows_of(:'gone'), '0 ended, 0 events, 1 keys', 'of an old saga its key is left');
select is(rows_of(:'outlived') || ' ' || leaf_of(:'outlived'), '1 ended, 2 events, 1 keys saga.history_default', 'one that ended lately keeps all');
select is(rows_of(:'runs') || ' ' || leaf_of(:'runs'), '0 ended, 2 events, 1 keys saga.history_default', 'so does one that runs');
select is(rows_of(:'young'), '1 ended, 2 events, 1 keys', 'and a young one');
select is(to_regclass('saga.history_' || :'d31'), null, 'the partitions are gone');
select is(to_regclass('saga.ended_' || :'d31'), null, 'of both tables');
select lives_ok(format($$ insert into saga.history (saga_id, event) values (%L, 'late'); insert into saga.ended select i.* from saga.instance i where id = %L; delete from saga.instance where id = %L $$,
                       :'runs', :'runs', :'runs'), 'what outlived its period goes on, and ends');
select is(rows_of(:'runs'), '1 ended, 3 events, 1 keys', 'with all its history');
select throws_ok(format('select saga.cancel(%L)', :'gone'), 'SG401', null, 'nothing is wanted of a saga that is gone');
select is(saga.start('order', '{}', :'gone'), :'gone', 'its key still stands for it');
update saga.ended set ended_at = now() - interval '31 days' where id in (:'outlived', :'young');
select is(maintained(), 'nothing', 'later');
select is(rows_of(:'outlived'), '0 ended, 0 events, 1 keys', 'what outlived its period goes when its own time is over');
select is(rows_of(:'young') || ', ' || rows_of(:'runs'), '1 ended, 2 events, 1 keys, 1 ended, 3 events, 1 keys', 'what lies in a period goes with that');

-- Children of what is there: their answer may be asked for again, or they may have to be undone -----------------------------------------
create function child_of(parent uuid, child uuid) returns uuid language sql as $$ update saga.ended set parent_id = parent, parent_step = 'a', parent_round = 1 where id = child returning id $$;
select make_day(now() - interval '34 days') as d34 \gset
select saga_of(now() - interval '34 days') as parent, saga_of(now() - interval '34 days', now() - interval '33 days') as child,
       saga_of(now() - interval '34 days', now() - interval '34 days') as grandchild, saga_of(now() - interval '34 days', now() - interval '34 days') as orphan \gset
select child_of(:'parent', :'child'), child_of(:'child', :'grandchild'), child_of(gen_random_uuid(), :'orphan');
select is(maintained(), 'created 0, dropped 1 more', 'the period of a parent that runs, and of its children');
select is(rows_of(:'child') || ', ' || rows_of(:'grandchild'), '1 ended, 2 events, 1 keys, 1 ended, 2 events, 1 keys', 'children stay while their parent runs, and so do theirs');
select is(rows_of(:'orphan'), '0 ended, 0 events, 1 keys', 'a child whose parent is gone goes');
select is(maintained(), 'nothing', 'later');
select is(rows_of(:'child') || ', ' || rows_of(:'grandchild'), '1 ended, 2 events, 1 keys, 1 ended, 2 events, 1 keys', 'they are not forgotten one by one either');
with over as (delete from saga.instance where id = :'parent' returning *) insert into saga.ended select o.*, now() - interval '31 days' from over o;
select is(concat_ws(' ', maintained(), maintained(), maintained()), 'nothing nothing nothing', 'once the parent is over');
select is(rows_of(:'parent') || ', ' || rows_of(:'child') || ', ' || rows_of(:'grandchild'), '0 ended, 0 events, 1 keys, 0 ended, 0 events, 1 keys, 0 ended, 0 events, 1 keys', 'it goes, then its child, then its child''s child');

-- Keys -----------------------------------------------------------------------------------------------------------------------------------
select saga_of(now() - interval '91 days', now()) as kept, saga_of(now() - interval '91 days') as long_lived, saga_of(now() - interval '89 days', now() - interval '31 days') as remembered \gset
select saga_of(now() - interval '91 days', now() - interval '91 days') as forgotten \gset
select is(maintained(), 'nothing', 'ninety days later');
select is(rows_of(:'forgotten'), '0 ended, 0 events, 0 keys', 'a key is forgotten');
select is(rows_of(:'remembered'), '0 ended, 0 events, 1 keys', 'not before its time');
select is(rows_of(:'kept') || ', ' || rows_of(:'long_lived'), '1 ended, 2 events, 1 keys, 0 ended, 2 events, 1 keys', 'nor while its saga runs or is kept');
select isnt(saga.start('order', '{}', :'forgotten'), :'forgotten', 'a forgotten key starts another saga');
select is(saga.start('order', '{}', :'long_lived'), :'long_lived', 'one that is remembered does not');
select throws_ok(format('select saga.start(%L, %L, %L)', 'order', '{"n": 2}', :'remembered'), 'SG321', null, 'and stands for its input');

-- Intents --------------------------------------------------------------------------------------------------------------------------------
select saga.start('order', '{}') as id \gset
select saga.cancel(:'id', 'old, answered'), saga.cancel(:'id', 'old, open'), saga.cancel(:'id', 'young');
update saga.intent set created_at = now() - interval '91 days', applied_at = case reason when 'old, answered' then now() - interval '91 days' end, answer = 'applied' where reason like 'old%';
update saga.intent set applied_at = now() - interval '89 days', answer = 'refused' where reason = 'young';
select is(maintained(), 'nothing', 'ninety days after their answer');
select results_eq('select reason from saga.intent order by id', $$ values ('old, open'), ('young') $$, 'answered intents are forgotten, open ones never');

-- In portions ----------------------------------------------------------------------------------------------------------------------------
insert into saga.intent (saga_id, verb, applied_at) select :'id', 'retry', now() - interval '91 days' from generate_series(1, 10001);
select is(maintained(), 'nothing more', 'ten thousand at a time');
select is(count(*), 3::bigint, 'and the rest') from saga.intent;
select is(maintained(), 'nothing', 'at the next call');

-- Settings -------------------------------------------------------------------------------------------------------------------------------
select throws_ok(format('update saga.setting set %I = %L', name, value), '23514', null, name || ' has a least')
  from (values ('saga_retention', '59 min'), ('key_retention', '59 min'), ('intent_retention', '59 min'), ('period', '59 s')) as t (name, value);
update saga.setting set saga_retention = '400 days';
select make_day(now() - interval '50 days') as d50 \gset
select is(maintained(), 'nothing', 'to keep more from now on');
update saga.setting set saga_retention = '30 days';
select is(maintained(), 'created 0, dropped 1 more', 'or less');

-- Too many to copy: the period stays until fewer must be kept; a later one does not wait for it.
select make_day(now() - interval '41 days') as d41, make_day(now() - interval '40 days') as d40 \gset
insert into saga.instance (id, definition_id, state, steps, input)
select overlay(gen_random_uuid()::text placing left(outbox.uuid_floor(date_trunc('day', now() - interval '41 days'))::text, 13) from 1 for 13)::uuid, d.id, 'RUNNING', d.start_steps, '{}'
  from saga.definition d, generate_series(1, 10001);
select is(maintained(), 'created 0, dropped 1 more', 'a period of which 10,001 sagas run is passed over');
select is(to_regclass('saga.ended_' || :'d41') is not null and to_regclass('saga.ended_' || :'d40') is null, true, 'for the next');
select is(maintained(), 'nothing', 'it stays');
delete from saga.instance where id in (select id from saga.instance where state = 'RUNNING' and id < outbox.uuid_floor(now() - interval '40 days') order by id desc limit 1);
select is(maintained(), 'created 0, dropped 1 more', 'until they are few');

-- Others ---------------------------------------------------------------------------------------------------------------------------------
call session_open('one');
call session_open('two');
select make_day(now() - interval '41 days') as d41 \gset
call session_do('one', 'begin');
select is(session_get('one', $$ select saga.start('order', '{}') $$) is null, false, 'a transaction that has started a saga');
select is(maintained(), 'nothing', 'is not waited for longer than a moment');
select is(to_regclass('saga.ended_' || :'d41') is not null, true, 'the period is dropped another time');
call session_do('two', 'begin');
call session_do('two', 'select pg_advisory_xact_lock(1397161992, 0)');
call session_do('one', 'commit');
select is(maintained(), 'nothing', 'who comes second does nothing');
call session_do('two', 'commit');
select is(maintained(), 'created 0, dropped 1 more', 'after it, it is');
-- What is made ahead waits for nobody who writes.
update saga.setting set period = '30 days';
call session_do('one', 'begin');
select is(session_get('one', $$ select saga.start('order', '{}') $$) is null, false, 'a transaction that has started a saga');
select matches(maintained(), '^created [12], dropped 0$', 'hinders no period to come');
call session_do('one', 'rollback');

-- Nobody made partitions for a while: what came meanwhile is taken over.
delete from saga.period;
do $$
declare
    leaf text;
begin
    for leaf in select format('%I.%I', 'saga', c.relname) from pg_inherits i join pg_class c on c.oid = i.inhrelid
                 where i.inhparent in ('saga.ended'::regclass, 'saga.history'::regclass) and c.relname !~ 'default' loop
        execute 'drop table ' || leaf;
    end loop;
end
$$;
select saga.start('order', '{}') as id \gset
select is(leaf_of(:'id'), 'saga.history_default', 'without partitions the DEFAULT one takes it');
select matches(maintained(), '^created [1-9]', 'until they are made');
select is(leaf_of(:'id'), 'saga.history_' || to_char(now(), 'YYYYMMDD') || '_000000', 'then it moves');

select * from finish();
