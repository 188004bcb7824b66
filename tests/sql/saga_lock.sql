-- Locks of sagas: saga.take_locks, leave_locks, release_locks, saga.lock; what publish says about lock steps.
\ir lib/session.sql
select no_plan();
\set VERBOSITY terse

-- Definitions -------------------------------------------------------------------------------------------------------------------------
create function pg_temp.refused(arguments text, kind text default '') returns text language plpgsql as $$
declare
    why text;
begin
    perform saga.define('x');
    execute format('select saga.step(%L, %L, %s)', 'x', 'l', arguments);
    perform saga.publish('x');
    return 'published';
exception when others then
    get stacked diagnostics why = message_text;
    return sqlstate || ' ' || why;
end
$$;
select is(pg_temp.refused($$ via => 'lock' $$), 'SG312 step "l" is a lock and does not say on what', 'a lock names its resource');
select is(pg_temp.refused($$ via => 'lock', input => '"r"', action => 'p.a' $$), 'SG312 step "l" is a lock, and has what only a command has', 'is no command');
select is(pg_temp.refused($$ via => 'lock', input => '"r"', kind => 'pivot' $$), 'SG312 step "l" is a lock, and has what only a command has', 'no pivot');
select is(pg_temp.refused($$ via => 'lock', input => '"r"', on_timeout => 'skip' $$), 'SG312 step "l" says what follows a timeout, and has none', 'has a timeout');
select is(pg_temp.refused($$ via => 'lock', input => '"r"', timeout => '1 s', on_timeout => 'wait' $$), 'SG312 step "l": there is no on_timeout "wait"', 'that has an end');
select is(pg_temp.refused($$ via => 'lock', input => '"$.steps.y.z"' $$), 'SG307 step "l", input: the path $.steps.y.z reads step "y", which need not have ended before (rule 7)',
          'and is named by what is there');
select lives_ok($$ select saga.define('behind'), saga.step('behind', 'p', action => 'p.p', kind => 'pivot'),
                   saga.step('behind', 'l', via => 'lock', input => '"r"', after => '{p}') $$);
select throws_ok($$ select saga.publish('behind') $$, 'SG303', 'step "l" is a lock and stands behind the pivot "p" (rule 3)', 'a lock stands before the pivot');

select version from (select saga.define('s'), saga.step('s', 'a', via => 'lock', input => '"$.input.a"', run_if => '{"input": {"run": true}}'),
                            saga.step('s', 'b', via => 'lock', input => '{"b": "$.input.b"}', timeout => '1 min', on_timeout => 'skip', after => '{a}'),
                            saga.step('s', 'c', via => 'lock', input => '{"$path": "$.input.c", "default": null}', after => '{b}'),
                            (saga.publish('s')).version) p;
select results_eq($$ select s ->> 'via', s ->> 'kind', s ->> 'timeout_ms', s ->> 'on_timeout' from saga.definition d, jsonb_array_elements(d.plan -> 'steps') s where d.name = 's' and d.current $$,
                  $$ values ('lock', 'read_only', null, null), ('lock', 'read_only', '60000', 'skip'), ('lock', 'read_only', null, null) $$, 'what is frozen');

-- Take, wait, leave, release ----------------------------------------------------------------------------------------------------------
create function pg_temp.start(a text, b text default 'B', c text default null) returns uuid language sql as $$
    select saga.start('s', jsonb_build_object('a', a, 'b', b, 'c', c, 'run', true))
$$;
create function pg_temp.take(saga uuid, step text) returns text language sql as $$
    select coalesce(string_agg(concat_ws(' ', l.ordinal, l.event, l.reason, l.brought ->> 'code', l.brought ->> 'resource'), '; '), 'waits')
    from saga.definition d join saga.definition_step t on t.definition_id = d.id and t.name = take.step,
         lateral saga.take_locks('{7}', array[saga], array[t.step]) l
    where d.name = 's' and d.current
$$;
create function pg_temp.finish(saga uuid, as_state text default 'SUCCEEDED') returns void language plpgsql as $$
begin
    insert into saga.ended select i.*, clock_timestamp() from saga.instance i where id = saga;
    update saga.ended set state = as_state where id = saga;
    delete from saga.instance where id = saga;
    perform saga.release_locks(array[saga]);
end
$$;
create function pg_temp.queue(of_resource text) returns uuid[] language sql as $$ select array_agg(saga_id order by place) from saga.locks where resource = of_resource $$;
create function pg_temp.granted() returns table (saga uuid, step text) language sql as $$
    with gone as (delete from saga.intent where verb = 'grant' returning id, saga_id, intent.step) select saga_id, step from gone order by id
$$;

select pg_temp.start('A', 'X') as one \gset
select pg_temp.start('A', 'Y') as two \gset
select pg_temp.start('A', 'Z') as three \gset
select is(steps #>> '{0,s}', 'WAITING', 'a lock that is a root waits for a worker') from saga.instance where id = :'one';
select ok(wake_at = started_at, 'which is to look at once') from saga.instance where id = :'one';
select is(pg_temp.take(:'one', 'a'), '7 grant A', 'free: it is had at once');
select is(pg_temp.take(:'one', 'a'), '7 grant A', 'again: it is had');
select is(pg_temp.take(:'two', 'a'), 'waits', 'held: it waits');
select is(pg_temp.take(:'three', 'a'), 'waits', 'and so does the next');
select is(pg_temp.take(:'one', 'b'), '7 grant {"b": "X"}', 'a resource may be an object');
select is(pg_temp.take(:'one', 'c'), '7 unmappable input of step "c": the name of a lock has 1 to 1024 bytes, this one has 0', 'but not nothing');
select is(pg_temp.queue('A'), array[:'one', :'two', :'three']::uuid[], 'who holds it and who waits, in their order');
select results_eq($$ select state, place, steps, held_by from saga.locks where resource = 'A' order by place $$,
                  format($$ values ('held', 0::bigint, '{a}'::text[], %1$L::uuid), ('waiting', 1, '{a}', %1$L), ('waiting', 2, '{a}', %1$L) $$, :'one'), 'for people');
update saga.instance set input = input - 'run' where id = :'three';
select is(pg_temp.take(:'three', 'a'), '7 condition_false its condition does not hold', 'a condition is asked first');

select saga.leave_locks(array[:'two', :'three']::uuid[], '{b,none}');
select is(pg_temp.queue('A'), array[:'one', :'two', :'three']::uuid[], 'who waits stays, whatever other step leaves');
select saga.leave_locks(array[:'two']::uuid[], '{a}');
select is(pg_temp.queue('A'), array[:'one', :'three']::uuid[], 'who does not any more leaves');
select is_empty('select * from pg_temp.granted()', 'nobody was granted anything');
select pg_temp.finish(:'one');
select results_eq('select * from pg_temp.granted()', format($$ values (%L::uuid, 'a') $$, :'three'), 'its end gives it to the next, who is woken');
select is(pg_temp.queue('A'), array[:'three']::uuid[], 'and holds it');
select is(pg_temp.queue('{"b": "X"}'), null, 'all that it had is free');
select saga.leave_locks(array[:'three']::uuid[], '{a}');
select is(pg_temp.queue('A'), null, 'granted too late: it is given up');

-- Deadlocks ---------------------------------------------------------------------------------------------------------------------------
select pg_temp.start('1', '2') as p \gset
select pg_temp.start('{"b": "2"}', '3') as q \gset
select pg_temp.start('{"b": "3"}', 'none', '1') as r \gset
select pg_temp.take(:'p', 'a'), pg_temp.take(:'q', 'a'), pg_temp.take(:'r', 'a');
select is(pg_temp.take(:'p', 'b'), 'waits', 'p waits for q');
select is(pg_temp.take(:'q', 'b'), 'waits', 'q waits for r');
select is(pg_temp.take(:'r', 'c'), format('7 denied deadlock: saga %s is before it at "1" and waits for it deadlock', :'p'), 'r would wait for p: denied');
select is(pg_temp.queue('1'), array[:'p']::uuid[], 'and is not in the queue');
select pg_temp.start('other') as s \gset
update saga.instance set input = input || '{"c": "1"}' where id = :'s';
select is(pg_temp.take(:'s', 'c'), 'waits', 'who holds nothing may wait');
select pg_temp.finish(:'r', 'COMPENSATED');
select results_eq('select * from pg_temp.granted()', format($$ values (%L::uuid, 'b') $$, :'q'), 'the others go on');
-- Over the queue: who waits before it counts as one that it waits for.
select pg_temp.start('K') as k \gset
select pg_temp.start('K', 'M') as l \gset
select pg_temp.start('{"b": "M"}', 'none', 'K') as m \gset
select pg_temp.take(:'k', 'a'), pg_temp.take(:'m', 'a');
select is(pg_temp.take(:'l', 'a'), 'waits', 'l waits for k');
select is(pg_temp.take(:'l', 'b'), 'waits', 'and, in another branch, for m');
select is(pg_temp.take(:'m', 'c'), format('7 denied deadlock: saga %s is before it at "K" and waits for it deadlock', :'l'), 'm would come after l');

-- Families ----------------------------------------------------------------------------------------------------------------------------
select pg_temp.start('F') as parent \gset
select pg_temp.start('F', 'G') as child \gset
update saga.instance set parent_id = :'parent', parent_step = 'x', parent_round = 1 where id = :'child';
select is(pg_temp.take(:'parent', 'a'), '7 grant F', 'a parent');
select is(pg_temp.take(:'child', 'a'), '7 grant F', 'and its child do not wait for each other');
select is(pg_temp.take(:'child', 'b'), '7 grant {"b": "G"}', 'what the child takes');
select pg_temp.finish(:'child');
select is(pg_temp.queue('{"b": "G"}'), array[:'parent']::uuid[], 'is held beyond its end, for it may be taken back');
select pg_temp.finish(:'parent');
select is(pg_temp.queue('{"b": "G"}'), null, 'until its parent''s');
select pg_temp.start('F') as parent \gset
select pg_temp.start('F', 'G') as child \gset
update saga.instance set parent_id = :'parent', parent_step = 'x', parent_round = 1 where id = :'child';
select pg_temp.take(:'parent', 'a'), pg_temp.take(:'child', 'a'), pg_temp.take(:'child', 'b');
select pg_temp.finish(:'parent', 'CLOSED');
select is(pg_temp.queue('F'), array[:'child']::uuid[], 'a child that outlives its parent keeps what it uses');
select pg_temp.finish(:'child', 'COMPENSATED');
select is((select count(*)::integer from saga.locks where resource in ('F', '{"b": "G"}')), 0, 'to its own end');

select pg_temp.start('F') as holder \gset
select pg_temp.start('none') as parent \gset
select pg_temp.start('F') as child \gset
update saga.instance set parent_id = :'parent', parent_step = 'x', parent_round = 1 where id = :'child';
select pg_temp.take(:'holder', 'a'), pg_temp.take(:'child', 'a');
select pg_temp.finish(:'holder');
select is(pg_temp.queue('F'), array[:'parent']::uuid[], 'granted to a child');
select saga.leave_locks(array[:'child']::uuid[], '{a}');
select pg_temp.finish(:'child');
select is(pg_temp.queue('F'), null, 'that goes on without it, and so ends in the same transaction: its parent does not keep it');
delete from saga.intent where verb = 'grant';

-- Another version of the definition -----------------------------------------------------------------------------------------------------
select pg_temp.start('V', 'W') as old \gset
select pg_temp.start('V') as next \gset
select pg_temp.take(:'old', 'a'), pg_temp.take(:'old', 'b'), pg_temp.take(:'next', 'a');
select set_config('saga.id', :'old', false), set_config('saga.step', 'c', false), saga.lock('by a handler'), saga.lock('{"b": "W"}');
select version from (select saga.define('s'), saga.step('s', 'c', action => 'p.c', kind => 'pivot'), (saga.publish('s')).version) p;
update saga.instance set definition_id = (select id from saga.definition where name = 's' and current) where id = :'old';
select saga.leave_locks(array[:'old', :'old']::uuid[], '{a,b}');
select is(pg_temp.queue('V'), array[:'next']::uuid[], 'steps that the version of today does not know leave');
select results_eq('select * from pg_temp.granted()', format($$ values (%L::uuid, 'a') $$, :'next'), 'and the next is woken');
select is(array(select resource || steps::text from saga.locks where saga_id = :'old' order by 1), '{"by a handler{c}","{\"b\": \"W\"}{c}"}', 'what its handlers took stays');
select pg_temp.finish(:'old');
select is(pg_temp.queue('by a handler'), null, 'to its end');
update saga.definition set current = false where name = 's' and version = 2;
update saga.definition set current = true where name = 's' and version = 1;
select set_config('saga.id', '', false), set_config('saga.step', '', false);

-- In handlers -------------------------------------------------------------------------------------------------------------------------
select pg_temp.start('none') as h \gset
select pg_temp.start('none') as i \gset
select throws_ok($$ select saga.lock('H') $$, 'SG410', 'saga.lock: this is no handler of a saga', 'only in handlers');
select set_config('saga.step', 'x', false), set_config('saga.id', gen_random_uuid()::text, false);
select throws_ok($$ select saga.lock('H') $$, 'SG401', null, 'of a saga that runs here');
select set_config('saga.id', :'h', false);
select throws_ok($$ select saga.lock('') $$, 'SG410', 'saga.lock: the name of a lock has 1 to 1024 bytes', 'with a name');
select lives_ok($$ select saga.lock('H'), saga.lock('H') $$, 'taken, and again');
select set_config('saga.id', :'i', false);
select throws_ok($$ select saga.lock('H') $$, '55P03', format('the lock "H" is held by saga %s', :'h'), 'busy: the command will be tried again');
update saga.instance set input = input || '{"a": "H"}' where id = :'i';
select is(pg_temp.take(:'i', 'a'), 'waits', 'a step waits for a handler''s lock');
select throws_ok($$ select saga.lock('H') $$, '55P03', null, 'and its handlers do not overtake it');
delete from saga.instance where id = :'h';
select is(saga.sweep_locks(), 1, 'of a saga that is gone');
select is(pg_temp.queue('H'), array[:'i']::uuid[], 'the lock goes to the next');
select is(saga.sweep_locks(), 0, 'once');
select throws_ok(format('select saga.intend(%L, %L, %L)', :'i', 'grant', 'a'), 'SG403', null, 'nobody grants by hand');
select throws_ok(format('select * from saga.intend_many(array[%L]::uuid[], %L, %L, %L)', :'i', '{1}', 'grant', 'a'), 'SG403', null, 'nor in bulk');

select * from finish();
