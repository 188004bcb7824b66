-- Steps that are fanned out over a list: what publish asks of them, how their commands are made, how their outputs are collected.
\ir lib/session.sql
select no_plan();
\set VERBOSITY terse

update saga.setting set orchestrator = 'shop';

-- Definition --------------------------------------------------------------------------------------------------------------------------
create function pg_temp.refused(step text) returns text language plpgsql as $$
declare
    why text; hint text; code text;
begin
    perform saga.define('x');
    execute format('select saga.step(%L, %L, action => %L, undo => %L)', 'x', 'a', 'p.a', 'p.u');
    execute 'select ' || step;
    perform saga.publish('x');
    return 'published';
exception when others then
    get stacked diagnostics why = message_text, hint = pg_exception_hint, code = returned_sqlstate;
    return code || ' ' || why || case when hint = '' then ' (no hint)' else '' end;
end
$$;
select is(pg_temp.refused(step), answer, step)
from (values
    ($$ saga.step('x', 'b', action => 'p.b', undo => 'p.u', for_each => '$.input.lines') $$, 'published'),
    ($$ saga.step('x', 'b', action => 'p.b', kind => 'read_only', for_each => '$.input.lines', for_each_max => 512, for_each_at_once => 4) $$, 'published'),
    ($$ saga.step('x', 'b', action => 'p.b', kind => 'pivot', after => '{a}', for_each => '$.input.lines') $$, 'SG305 step "b" is a pivot and has for_each (rule 5)'),
    ($$ saga.step('x', 'b', via => 'timer', timeout => '1 s', for_each => '$.input.lines') $$, 'SG313 step "b" is done via timer and has for_each'),
    ($$ saga.step('x', 'b', via => 'saga', child => 'y', for_each => '$.input.lines') $$, 'SG313 step "b" is done via saga and has for_each'),
    ($$ saga.step('x', 'b', action => 'p.b', undo => 'p.u', for_each_max => 3) $$, 'SG312 step "b" has no for_each, and says how long its list may be'),
    ($$ saga.step('x', 'b', action => 'p.b', undo => 'p.u', for_each => '$.input.lines', for_each_max => 513) $$, 'SG312 step "b": for_each_max is 513'),
    ($$ saga.step('x', 'b', action => 'p.b', undo => 'p.u', for_each => '$.input.lines', for_each_max => 0) $$, 'SG312 step "b": for_each_max is 0'),
    ($$ saga.step('x', 'b', action => 'p.b', undo => 'p.u', for_each => '$.input.lines', for_each_at_once => 101) $$, 'SG312 step "b": for_each_at_once is 101'),
    ($$ saga.step('x', 'b', action => 'p.b', undo => 'p.u', for_each => 'lines') $$, 'SG314 step "b", for_each: lines is no path'),
    ($$ saga.step('x', 'b', action => 'p.b', undo => 'p.u', for_each => '{"lines": "$.input.lines"}') $$, 'SG314 step "b", for_each: {"lines": "$.input.lines"} is no path'),
    ($$ saga.step('x', 'b', action => 'p.b', undo => 'p.u', for_each => '{"$path": ') $$, 'SG314 step "b", for_each: {"$path":  is no JSON'),
    ($$ saga.step('x', 'b', action => 'p.b', undo => 'p.u', for_each => '{"$path": "$.input.lines", "default": 1}') $$, 'SG314 step "b", for_each: its default is no array'),
    ($$ saga.step('x', 'b', action => 'p.b', undo => 'p.u', for_each => '$.steps.a.lines') $$,
     'SG307 step "b", for_each: the path $.steps.a.lines reads step "a", which need not have ended before (rule 7)'),
    ($$ saga.step('x', 'b', action => 'p.b', undo => 'p.u', for_each => '$.item.lines') $$, 'SG307 step "b", for_each: the path $.item.lines is for steps with for_each (rule 7)'),
    ($$ saga.step('x', 'b', action => 'p.b', undo => 'p.u', input => '{"n": "$.item.n"}') $$, 'SG307 step "b", input: the path $.item.n is for steps with for_each (rule 7)'),
    ($$ saga.step('x', 'b', action => 'p.b', undo => 'p.u', run_if => '{"input": {"x": 1}}'), saga.step('x', 'c', action => 'p.b', undo => 'p.u', after => '{b}', for_each => '$.steps.b.l') $$,
     'SG307 step "c", for_each: the path $.steps.b.l reads step "b", which may be skipped, and has no default (rule 7)'),
    ($$ saga.step('x', 'b', action => 'p.b', undo => 'p.u', run_if => '{"input": {"x": 1}}'),
        saga.step('x', 'c', action => 'p.b', undo => 'p.u', after => '{b}', for_each => '{"$path": "$.steps.b.l", "default": []}', input => '{"n": "$.item.n", "i": "$.index", "x": "$.input.x"}') $$, 'published')
) t (step, answer);
select is(pg_temp.refused($$ saga.step('x', 'b', action => 'p.b', undo => 'p.u', for_each => '$.input.l', for_each_max => 300), saga.step('x', 'c', action => 'p.b', undo => 'p.u', for_each => '$.input.m', for_each_max => 213) $$),
          'SG312 the lists of its steps may have 513 elements together, allowed are 512', 'the elements of a saga have a limit');

-- Publish -----------------------------------------------------------------------------------------------------------------------------
select saga.define('order');
select saga.step('order', 'a', action => 'p.a', undo => 'p.u');
select saga.step('order', 'pick', action => 'stock.pick', undo => 'stock.unpick', after => '{a}', for_each => '$.input.lines', for_each_max => 3,
                 input => '{"sku": "$.item.sku", "n": "$.item.n", "i": "$.index", "from": "$.steps.a.at"}');
select saga.step('order', 'root', action => 'p.r', undo => 'p.u', for_each => '$.input.lines', run_if => '{"input": {"run": true}}',
                 undo_input => '{"mine": "$.steps.root.id", "item": "$.item"}');
select saga.step('order', 'next', action => 'p.n', kind => 'read_only', after => '{pick}', input => '{"all": "$.steps.pick", "second": "$.steps.pick[1].id"}');
select graph from saga.publish('order') \gset
select alike(:'graph'::text, '%pick["pick<br/>stock.pick<br/>for each of $.input.lines"]%', 'the graph says so');
select results_eq($$ select s ->> 'name', s -> 'for_each_max', s -> 'for_each_at_once' from saga.definition d, jsonb_array_elements(d.plan -> 'steps') s where d.name = 'order' and s ? 'for_each' $$,
                  $$ values ('root', '100'::jsonb, '100'::jsonb), ('pick', '3', '3') $$, 'limits');
select is((saga.publish('order')).version, 1, 'the same content is the same version') from (select saga.define('order'),
    saga.step('order', 'a', action => 'p.a', undo => 'p.u'),
    saga.step('order', 'pick', action => 'stock.pick', undo => 'stock.unpick', after => '{a}', for_each => '$.input.lines', for_each_max => 3,
              input => '{"sku": "$.item.sku", "n": "$.item.n", "i": "$.index", "from": "$.steps.a.at"}'),
    saga.step('order', 'root', action => 'p.r', undo => 'p.u', for_each => '$.input.lines', run_if => '{"input": {"run": true}}', undo_input => '{"mine": "$.steps.root.id", "item": "$.item"}'),
    saga.step('order', 'next', action => 'p.n', kind => 'read_only', after => '{pick}', input => '{"all": "$.steps.pick", "second": "$.steps.pick[1].id"}') offset 0) again;

-- Start -------------------------------------------------------------------------------------------------------------------------------
select saga.start('order', '{"run": true, "lines": [{"sku": "A", "n": 1.50}, {"sku": "B", "n": 2}]}') as id \gset
select is(array(select step || ' ' || state from saga.steps where saga_id = :'id' order by place), '{a SENT,root WAITING,pick WAITING,next WAITING}', 'a root that is fanned out waits for a worker');
select ok(wake_at = started_at, 'which is to look at once') from saga.instance where id = :'id';
select is(count(*)::integer, 1, 'and nothing is sent for it') from outbox.message where correlation_id = :'id';

-- Commands ----------------------------------------------------------------------------------------------------------------------------
create function pg_temp.send(saga uuid, step text, element integer, operation text default 'action', round integer default 1) returns text language sql as $$
    select string_agg(concat_ws(' ', s.event, s.reason, s.elements_found), '; ')
    from saga.definition d join saga.definition_step t on t.definition_id = d.id and t.name = send.step,
         lateral saga.send_commands(array[saga], array[t.step], array[operation], array[round], '{1}', array[element]) s
    where d.name = 'order'
$$;
create function pg_temp.sent() returns table (what text, input jsonb) language sql as $$
    with gone as (delete from outbox.message returning id, routing_key, payload::jsonb as p)
    select concat_ws(' ', routing_key, p #>> '{saga,step}', p #>> '{saga,element}', p #>> '{saga,operation}'), p -> 'input' from gone order by id
$$;
delete from outbox.message;
update saga.instance set outputs = '{"a": {"at": "$X"}}' where id = :'id';
select is(pg_temp.send(:'id', 'pick', -1, round => 0), 'spread its list is known 2', 'the list is read');
select is(pg_temp.send(:'id', 'pick', 0), null, 'an element is sent');
select is(pg_temp.send(:'id', 'pick', 1), null, 'and another');
select results_eq('select * from pg_temp.sent()', $$ values ('stock.pick pick 0 action', '{"sku": "A", "n": 1.50, "i": 0, "from": "$X"}'::jsonb),
                                                            ('stock.pick pick 1 action', '{"sku": "B", "n": 2, "i": 1, "from": "$X"}') $$, 'each with its own item');
select matches(pg_temp.send(:'id', 'pick', 2), '^unmappable input of step "pick", element 2: the path \$.item', 'one beyond the list');
select is(pg_temp.send(:'id', 'root', -1, round => 0), 'spread its list is known 2', 'a condition is asked for with the list');
update saga.instance set input = input || '{"run": false}' where id = :'id';
select is(pg_temp.send(:'id', 'root', -1, round => 0), 'condition_false its condition does not hold', 'and may not hold');
select is(pg_temp.send(:'id', 'root', 0), null, 'no element asks for it');
delete from outbox.message;

create function pg_temp.with_lines(saga uuid, lines text) returns text language plpgsql as $$
begin
    update saga.instance set input = case when lines is null then input - 'lines' else jsonb_set(input, '{lines}', lines::jsonb) end where id = saga;
    return pg_temp.send(saga, 'pick', -1, round => 0);
end
$$;
select is(pg_temp.with_lines(:'id', lines), answer, coalesce(lines, 'nothing'))
from (values (null, 'unmappable for_each of step "pick": the path $.input.lines finds nothing'),
             ('{"a": 1}', 'unmappable for_each of step "pick": the path $.input.lines finds no array but an object'),
             ('"x"', 'unmappable for_each of step "pick": the path $.input.lines finds no array but a string'),
             ('null', 'unmappable for_each of step "pick": the path $.input.lines finds no array but null'),
             ('[1,2,3,4]', 'unmappable for_each of step "pick": the list has 4 elements, allowed are 3'),
             ('[]', 'spread its list is known 0'), ('[{"sku": "A", "n": 1.50}, {"sku": "B", "n": 2}]', 'spread its list is known 2')) t (lines, answer);

-- Outputs and undos -------------------------------------------------------------------------------------------------------------------
select is(saga.merge_elements('{"a": 1, "pick": [null, null]}', '[["pick", 1, {"id": 7.10}], ["pick", 0, null], ["pick", 0, "x"]]'), '{"a": 1, "pick": ["x", {"id": 7.10}]}', 'outputs of elements');
update saga.instance set outputs = outputs || '{"pick": [{"id": 5}, {"id": 6}], "root": [{"id": 8}, {"id": 9}]}' where id = :'id';
select is(pg_temp.send(:'id', 'pick', 1, 'undo'), null, 'an undo');
select is(pg_temp.send(:'id', 'root', 1, 'undo'), null, 'an undo with an input of its own');
select is(pg_temp.send(:'id', 'pick', 0, 'probe'), null, 'a probe');
select is(pg_temp.send(:'id', 'next', 0), null, 'what comes behind');
select results_eq('select * from pg_temp.sent()', $$ values ('stock.unpick pick 1 undo', '{"sku": "B", "n": 2, "i": 1, "from": "$X", "output": {"id": 6}}'::jsonb),
                                                            ('p.u root 1 undo', '{"mine": 9, "item": {"sku": "B", "n": 2}}'),
                                                            ('stock.pick pick 0 probe', '{"sku": "A", "n": 1.50, "i": 0, "from": "$X"}'),
                                                            ('p.n next 0 action', '{"all": [{"id": 5}, {"id": 6}], "second": 6}') $$, 'an element has its own output, the others the array');

-- Views and operators -----------------------------------------------------------------------------------------------------------------
update saga.instance set steps = jsonb_set(steps, '{2}', '{"s": "SENT", "r": 0, "u": 0, "a": 0, "e": [{"s": "SUCCEEDED", "r": 1, "u": 0, "a": 1}, {"s": "SENT", "r": 2, "u": 0, "a": 3, "d": 60000000}]}')
where id = :'id';
select results_eq(format('select state, elements, elements_done, elements_undone, due_at from saga.steps where saga_id = %L and step in (%L, %L) order by place', :'id', 'a', 'pick'),
                  format($$ select state, null::integer, null::integer, null::integer, due_at from saga.steps where saga_id = %L and step = 'a'
                            union all select 'SENT', 2, 1, 0, '1970-01-01 00:01:00+00' $$, :'id'), 'how many are done');
select results_eq(format('select step, element, state, round, attempt, output from saga.elements where saga_id = %L', :'id'),
                  $$ values ('pick', 0, 'SUCCEEDED', 1, 1, '{"id": 5}'::jsonb), ('pick', 1, 'SENT', 2, 3, '{"id": 6}') $$, 'each element');
select is(saga.retry(:'id', 'pick[1]'), 'recorded', 'an operator names one');
select is(saga.retry(:'id', 'pick'), 'recorded', 'or all');
select throws_ok(format('select saga.retry(%L, %L)', :'id', step), 'SG403', format('saga %s has no step "%s"', :'id', step), step)
from unnest('{a[0],pick[01],pick[],pick[1],"pick[1] ",nope[0]}'::text[]) step where step <> 'pick[1]';


-- The worker's rights.
set role sagapost_worker;
select results_eq(format($$ select event, elements_found from saga.send_commands(array_fill(%L::uuid, array[3]), '{2,2,2}', '{action,action,undo}', '{0,1,1}', '{0,1,1}', '{-1,0,1}') $$, :'id'),
                  $$ values ('spread', 2) $$, 'a worker reads lists and sends elements');
select lives_ok($$ select saga.merge_elements('{"a": [null]}', '[["a", 0, 1]]') $$, 'and collects outputs');
reset role;

select * from finish();
