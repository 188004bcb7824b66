-- saga.send_children and the answers of child sagas.
\ir lib/session.sql
select no_plan();
\set VERBOSITY terse

update saga.setting set orchestrator = 'shop';
select version from (select saga.define('child'), saga.step('child', 'x', action => 'p.x', undo => 'p.undo', input => '{"n": "$.input.n"}'), (saga.publish('child')).version) p;
select version from (select saga.define('parent'), saga.step('parent', 'a', action => 'p.a', undo => 'p.u'),
                            saga.step('parent', 'c', via => 'saga', child => 'child', after => '{a}', input => '{"n": "$.steps.a.n"}', run_if => '{"input": {"run": true}}'),
                            saga.step('parent', 'root', via => 'saga', child => 'child'), (saga.publish('parent')).version) p;
select saga.start('parent', '{"run": true, "n": 1}') as id \gset
select is(array(select state from saga.steps where saga_id = :'id' order by place), '{SENT,WAITING,WAITING}', 'a child that is a root waits for a worker');
select ok(wake_at = started_at, 'which is to look at once') from saga.instance where id = :'id';

create function pg_temp.send(saga uuid, operation text, round integer default 1, attempt integer default 1, step text default 'c') returns text language sql as $$
    select string_agg(concat_ws(' ', s.ordinal, s.event, s.reason), '; ')
    from saga.definition d join saga.definition_step t on t.definition_id = d.id and t.name = send.step,
         lateral saga.send_children('{7}', array[saga], array[t.step], array[operation], array[round], array[attempt]) s
    where d.name = 'parent'
$$;
create function pg_temp.answers() returns table (round integer, answer text) language sql as $$
    with gone as (delete from outbox.message where type = 'saga.reply' returning id, payload::jsonb as p)
    select (p #>> '{saga,round}')::integer, concat_ws(' ', p #>> '{saga,operation}', p ->> 'outcome', p #> '{output,steps}', p #>> '{error,code}') from gone order by id
$$;
create function pg_temp.finish(saga uuid, as_state text) returns void language plpgsql as $$
begin
    insert into saga.ended select i.*, clock_timestamp() from saga.instance i where id = saga;
    update saga.ended set state = as_state, reason = 'why', outputs = '{"x": {"y": 1.50}}' where id = saga;
    delete from saga.instance where id = saga;
end
$$;

-- Start -------------------------------------------------------------------------------------------------------------------------------
select is(pg_temp.send(:'id', 'action'), '7 unmappable input of step "c": the path $.steps.a.n finds nothing', 'an input that cannot be built');
update saga.instance set outputs = '{"a": {"n": "$5"}}' where id = :'id';
select is(pg_temp.send(:'id', 'action'), null, 'a child starts');
select child from saga.children where saga_id = :'id' \gset
select results_eq(format('select definition, version, state, input, parent_id, parent_step from saga.instances where id = %L', :'child'),
                  format($$ values ('child', 1, 'RUNNING', '{"n": "$5"}'::jsonb, %L::uuid, 'c') $$, :'id'), 'with its input');
select is(count(*)::integer, 1, 'and sends its roots') from outbox.message where correlation_id = :'child';
select is(detail - 'parent', '{"definition": "child", "version": 1, "step": "c"}', 'its history says whose it is') from saga.timeline where saga_id = :'child';
select is(pg_temp.send(:'id', 'action', 1, 2), null, 'a reminder');
select is(count(*)::integer, 1, 'starts no second one') from saga.children where saga_id = :'id';
select is_empty('select * from pg_temp.answers()', 'and is not answered while it runs');
update saga.instance set input = '{"run": false}' where id = :'id';
select is(pg_temp.send(:'id', 'action', 2), null, 'another round asks for no condition');
select is(count(*)::integer, 2, 'and is another child') from saga.children where saga_id = :'id';
select saga.start('parent', '{"n": 1}') as other \gset
update saga.instance set outputs = '{"a": {"n": 2}}' where id = :'other';
select is(pg_temp.send(:'other', 'action'), '7 condition_false its condition does not hold', 'a condition that does not hold');
update saga.instance set input = '[5]' where id = :'other';
select matches(pg_temp.send(:'other', 'action', 1, 1, 'root'), '^7 unmappable input of step "root": a child saga''s input is a JSON object', 'an input is an object');
update saga.instance set input = '{}' where id = :'other';
select is(pg_temp.send(:'other', 'action', 1, 1, 'root'), '7 unmappable step "root": saga.start: input of step "x": the path $.input.n finds nothing', 'a child whose root cannot be sent');
select is_empty(format('select from saga.children where saga_id = %L', :'other'), 'is not there');

-- Cancelled ---------------------------------------------------------------------------------------------------------------------------
select is(pg_temp.send(:'id', 'probe'), null, 'a probe');
select is(pg_temp.send(:'id', 'probe', 1, 2), null, 'again');
select results_eq('select saga_id, verb from saga.intent', format($$ values (%L::uuid, 'cancel') $$, :'child'), 'cancels it, once');
select is(pg_temp.send(:'other', 'probe'), null, 'one that never started');
select results_eq('select * from pg_temp.answers()', $$ values (1, 'probe not_executed no_child') $$, 'was not done');

-- Ended -------------------------------------------------------------------------------------------------------------------------------
select pg_temp.finish(:'child', 'COMPENSATED');
select is(pg_temp.send(:'id', 'probe'), null, 'a probe of one that has ended');
select results_eq('select * from pg_temp.answers()', $$ values (1, 'action failed child_compensated') $$, 'repeats its answer');
update saga.ended set state = 'CLOSED' where id = :'child';
select is(pg_temp.send(:'id', 'action', 1, 2), null, 'a reminder of one that was closed');
select results_eq('select * from pg_temp.answers()', $$ values (1, 'action expired child_closed') $$, 'which nobody can know of');
update saga.ended set state = 'SUCCEEDED' where id = :'child';
select is(pg_temp.send(:'id', 'action', 1, 2), null, 'a reminder of one that succeeded');
select results_eq('select * from pg_temp.answers()', $$ values (1, 'action ok {"x": {"y": 1.50}}') $$, 'which brings its output again');

-- Taken back --------------------------------------------------------------------------------------------------------------------------
delete from saga.instance where parent_id = :'id' and parent_round = 2;
truncate saga.intent;
select is(pg_temp.send(:'id', 'undo', 1), null, 'an undo');
select results_eq(format('select state, parent_undo_round, outputs from saga.instance where id = %L', :'child'), $$ values ('SUCCEEDED', 1, '{"x": {"y": 1.50}}'::jsonb) $$, 'brings it back');
select is_empty(format('select from saga.ended where id = %L', :'child'), 'it is one row still');
select is(pg_temp.send(:'id', 'undo', 1, 2), null, 'again');
select results_eq('select saga_id, verb from saga.intent', format($$ values (%L::uuid, 'take_back') $$, :'child'), 'it is asked to undo itself, once');
select is_empty('select * from pg_temp.answers()', 'and answers when it has');
select pg_temp.finish(:'child', 'COMPENSATED');
select is(pg_temp.send(:'id', 'undo', 1, 3), null, 'a reminder of one that is undone');
select results_eq('select * from pg_temp.answers()', $$ values (1, 'undo ok') $$, 'which it says');
delete from saga.ended where id = :'child';
select is(pg_temp.send(:'id', 'undo', 1, 4), null, 'one that nobody remembers');
select results_eq('select * from pg_temp.answers()', $$ values (1, 'undo expired no_child') $$, 'is for a person to look at');

select * from finish();
