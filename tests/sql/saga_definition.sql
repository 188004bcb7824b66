-- saga.define, step, retry_policy, publish: what is refused with which words, what is frozen, versions.
begin;
select no_plan();

-- A refusal names the step and the rule, and its hint says what to change.
create function pg_temp.hint_of(statement text) returns text language plpgsql as $$
declare
    hint text;
begin
    execute statement;
    return null;
exception when others then
    get stacked diagnostics hint = pg_exception_hint;
    return hint;
end
$$;
-- Publishes a draft made of the statements given, and takes it back.
create function pg_temp.try(steps text) returns text language plpgsql as $$
begin
    perform saga.define('t');
    execute steps;
    perform saga.publish('t');
    raise exception 'published' using errcode = 'P0002';
end
$$;
create function pg_temp.refused(steps text, state text, message text, what text) returns text language sql as $$
    select throws_ok(format('select pg_temp.try(%L)', steps), state, message, what)
$$;
create function pg_temp.accepted(steps text, what text) returns text language sql as $$
    select throws_ok(format('select pg_temp.try(%L)', steps), 'P0002', 'published', what)
$$;

-- Names -----------------------------------------------------------------------------------------------------------------------
select throws_ok(format('select saga.define(%L)', bad), 'SG300', format('"%s" is no name for a definition', coalesce(bad, 'null')), 'a bad name: ' || coalesce(bad, 'null'))
from unnest(array['', 'Order', '1order', 'or-der', 'or der', 'order.x', repeat('a', 64), null]) bad;
select lives_ok(format('select saga.define(%L)', repeat('a', 63)), '63 characters are a name');
select saga.define('t');
select throws_ok(format('select saga.step(%L, %L)', 't', bad), 'SG300', null, 'a bad step name: ' || bad) from unnest(array['', 'A', 'a.b', repeat('a', 64)]) bad;
select throws_ok($$ select saga.step('nowhere', 'a') $$, 'SG310', 'there is no draft of "nowhere"', 'a step needs a draft');
select is(pg_temp.hint_of($$ select saga.step('nowhere', 'a') $$), 'Begin with saga.define(''nowhere'').', 'and is told how to begin');
select throws_ok($$ select saga.publish('nowhere') $$, 'SG310', 'there is no draft of "nowhere"', 'nor is it published');
select saga.step('t', 'a', action => 'p.a', kind => 'read_only');
select throws_ok($$ select saga.step('t', 'a', action => 'p.b', kind => 'read_only') $$, 'SG311', 'step "a" is in the draft of "t" already', 'a step named twice');
select pg_temp.refused(format($$ select saga.step('t', 'a', action => %L, kind => 'read_only') $$, bad), 'SG300',
                       format('step "a": its action %s is no action', coalesce('"' || bad || '"', 'null')), 'a bad action: ' || coalesce(bad, 'null'))
from unnest(array['reserve', 'p.', '.a', 'P.a', 'p.a.b', 'p a', 'p.a ', repeat('p', 127) || '.a', null]) bad;
select pg_temp.refused($$ select saga.step('t', 'a', action => 'p.a', undo => 'x') $$, 'SG300', 'step "a": its undo "x" is no action', 'a bad undo');
select pg_temp.refused($$ select saga.step('t', 'a', action => 'p.a', undo => 'q.b') $$, 'SG312', 'step "a": its action is p''s and its undo is q''s',
                       'action and undo of two participants');
select pg_temp.refused('select 1', 'SG310', 'the draft of "t" has no step', 'an empty draft');
select saga.define('long');
select saga.step('long', 's' || i, action => 'p.a', kind => 'read_only') from generate_series(1, 64) i;
select throws_ok($$ select saga.step('long', 's65', action => 'p.a', kind => 'read_only') $$, 'SG311', 'step "s65" would be the 65th of "long"', 'at most 64 steps');
select lives_ok($$ select saga.publish('long') $$, '64 steps are published');

-- Rules -----------------------------------------------------------------------------------------------------------------------
select pg_temp.refused($$ select saga.step('t', 'a', action => 'p.a', kind => 'read_only', after => '{b}') $$, 'SG301',
                       'step "a": its `after` names "b", which is no step (rule 1)', 'rule 1: `after` names nothing');
select pg_temp.refused($$ select saga.step('t', 'a', action => 'p.a', kind => 'read_only', after => '{a}') $$, 'SG301',
                       'step "a" comes after itself (rule 1)', 'rule 1: after itself');
select pg_temp.refused($$ select saga.step('t', 'a', action => 'p.a', kind => 'read_only', after => '{c}'),
                                 saga.step('t', 'b', action => 'p.a', kind => 'read_only', after => '{a}'),
                                 saga.step('t', 'c', action => 'p.a', kind => 'read_only', after => '{b}'),
                                 saga.step('t', 'd', action => 'p.a', kind => 'read_only', after => '{c}') $$, 'SG301',
                       'step "a" comes after itself (rule 1)', 'rule 1: a circle');
select is(pg_temp.hint_of($$ select pg_temp.try('select saga.step(''t'', ''a'', action => ''p.a'', kind => ''read_only'', after => ''{c}''),
                                 saga.step(''t'', ''b'', action => ''p.a'', kind => ''read_only'', after => ''{a}''),
                                 saga.step(''t'', ''c'', action => ''p.a'', kind => ''read_only'', after => ''{b}''),
                                 saga.step(''t'', ''d'', action => ''p.a'', kind => ''read_only'', after => ''{c}'')') $$),
          'Take one `after` out of the circle: a, b, c.', 'the hint names the circle and nobody else');
select pg_temp.refused($$ select saga.step('t', 'a', action => 'p.a') $$, 'SG301', 'step "a" is compensable and has no undo (rule 1)', 'rule 1: no undo');
select pg_temp.refused($$ select saga.step('t', 'a', action => 'p.a', kind => 'pivot'), saga.step('t', 'b', action => 'p.a', kind => 'pivot', after => '{a}') $$,
                       'SG302', 'step "b" is a second pivot, after "a" (rule 2)', 'rule 2: two pivots');
select pg_temp.refused($$ select saga.step('t', 'a', action => 'p.a', undo => 'p.u'), saga.step('t', 'b', action => 'p.a', kind => 'pivot') $$,
                       'SG302', 'step "a" is neither before nor after the pivot "b" (rule 2)', 'rule 2: beside the pivot');
select is(pg_temp.hint_of($$ select pg_temp.try('select saga.step(''t'', ''a'', action => ''p.a'', undo => ''p.u''), saga.step(''t'', ''b'', action => ''p.a'', kind => ''pivot'')') $$),
          'Add "a" to the `after` of "b".', 'the missing `after` is named');
select is(pg_temp.hint_of($$ select pg_temp.try('select saga.step(''t'', ''a'', action => ''p.a'', kind => ''retriable''), saga.step(''t'', ''b'', action => ''p.a'', kind => ''pivot'')') $$),
          'Add "b" to the `after` of "a".', 'the other way round for a retriable one');
select pg_temp.refused($$ select saga.step('t', 'a', action => 'p.a', kind => 'retriable'), saga.step('t', 'b', action => 'p.a', kind => 'pivot', after => '{a}') $$,
                       'SG303', 'step "a" is retriable and stands before the pivot "b" (rule 3)', 'rule 3: retriable before');
select pg_temp.refused(format($$ select saga.step('t', 'a', action => 'p.a', kind => 'pivot'), saga.step('t', 'b', action => 'p.a', undo => %L, kind => %L, after => '{a}') $$,
                              case kind when 'compensable' then 'p.u' end, kind),
                       'SG303', format('step "b" is %s and stands behind the pivot "a" (rule 3)', kind), 'rule 3: behind the pivot: ' || kind)
from unnest(array['compensable', 'read_only']) kind;
select pg_temp.refused($$ select saga.step('t', 'a', action => 'p.a', kind => 'retriable') $$, 'SG304',
                       'step "a" is retriable, and there is no pivot (rule 4)', 'rule 4: retriable without a pivot');
select pg_temp.accepted($$ select saga.step('t', 'd', action => 'p.a', kind => 'retriable', after => '{c}'),
                                  saga.step('t', 'e', action => 'p.a', kind => 'retriable', after => '{d}'),
                                  saga.step('t', 'c', action => 'p.a', kind => 'pivot', after => '{a,b,a}'),
                                  saga.step('t', 'b', action => 'p.a', kind => 'read_only'),
                                  saga.step('t', 'a', action => 'p.a', undo => 'p.u') $$, 'all kinds in their places, in any order');

-- Wait steps ------------------------------------------------------------------------------------------------------------------
select pg_temp.accepted($$ select saga.step('t', 'w', via => 'timer', timeout => '1 min'), saga.step('t', 's', via => 'signal', after => '{w}', timeout => '1 day'),
                                  saga.step('t', 'a', action => 'p.a', kind => 'pivot', after => '{s}'),
                                  saga.step('t', 'x', via => 'timer', timeout => '1 s', after => '{a}'), saga.step('t', 'y', via => 'signal', after => '{x}') $$,
                        'timers and signals on both sides of the pivot');
select pg_temp.refused($$ select saga.step('t', 'a', action => 'p.a', kind => 'pivot'), saga.step('t', 'y', via => 'signal', after => '{a}', timeout => '1 s') $$,
                       'SG303', 'step "y" waits behind the pivot "a" for a signal that may time out (rule 3)', 'rule 3: a signal that may fail behind the pivot');
select pg_temp.refused($$ select saga.step('t', 'w', via => 'timer') $$, 'SG312', 'step "w" is a timer without a length', 'a timer has a length');
select pg_temp.refused($$ select saga.step('t', 'w', via => 'timer', timeout => '1 s', action => 'p.a') $$, 'SG312',
                       'step "w" waits for a timer, and has what only a command has', 'a timer has no action');
select pg_temp.refused($$ select saga.step('t', 'w', via => 'signal', kind => 'pivot') $$, 'SG312', null, 'nor is a wait a pivot');
select pg_temp.refused($$ select saga.step('t', 'w', via => 'magic') $$, 'SG313', 'step "w": there is no via "magic"', 'an unknown via');

-- Child sagas -----------------------------------------------------------------------------------------------------------------
select saga.define('soft'), saga.step('soft', 'a', action => 'p.a', undo => 'p.u'), saga.step('soft', 'look', action => 'p.a', kind => 'read_only'), saga.publish('soft');
select saga.define('hard'), saga.step('hard', 'a', action => 'p.a', undo => 'p.u'), saga.step('hard', 'go', action => 'p.a', kind => 'pivot', after => '{a}'), saga.publish('hard');
select pg_temp.refused($$ select saga.step('t', 'w', via => 'saga') $$, 'SG312', 'step "w" is a child saga and does not say which', 'a child saga has a name');
select pg_temp.refused($$ select saga.step('t', 'w', via => 'saga', child => 'nobody') $$, 'SG306', 'step "w": there is no published definition "nobody" (rule 6)', 'rule 6: that is published');
select pg_temp.refused($$ select saga.step('t', 'w', via => 'saga', child => 't') $$, 'SG306', null, 'rule 6: not itself');
select pg_temp.refused($$ select saga.step('t', 'w', via => 'saga', child => 'hard') $$, 'SG306',
                       'step "w" is compensable, and its child saga "hard" has a step that cannot be undone, "go" (rule 6)', 'rule 6: with a pivot it cannot be undone');
select pg_temp.refused($$ select saga.step('t', 'w', via => 'saga', child => 'soft', kind => 'read_only') $$, 'SG312', 'step "w": a child saga is not read_only', 'nor is it a read');
select pg_temp.refused(format($$ select saga.step('t', 'w', via => 'saga', child => 'soft', %s) $$, more), 'SG312', 'step "w" is a child saga, and has what only a command has', more)
from unnest(array['action => ''p.a''', 'undo => ''p.u''', 'timeout => ''1 s''', 'undo_on_fail => true', 'on_timeout => ''skip''', 'retry => saga.retry_policy()']) more;
select pg_temp.refused($$ select saga.step('t', 'a', action => 'p.a', kind => 'read_only', child => 'soft') $$, 'SG312', 'step "a" is a command and names a child saga', 'a command has no child');
select pg_temp.refused($$ select saga.step('t', 'a', via => 'saga', child => 'soft', kind => 'retriable') $$, 'SG304', null, 'rule 4: retriable needs a pivot');
select pg_temp.refused($$ select saga.step('t', 'p', action => 'p.a', kind => 'pivot'), saga.step('t', 'w', via => 'saga', child => 'soft', after => '{p}') $$, 'SG303', null,
                       'rule 3: behind the pivot nothing is undone');
select pg_temp.refused($$ select saga.step('t', 'w', via => 'saga', child => 'soft'), saga.step('t', 'b', action => 'p.a', kind => 'read_only', input => '"$.steps.w.saga"') $$, 'SG307', null,
                       'rule 7: its output, too, is read behind it');
select pg_temp.accepted($$ select saga.step('t', 's', via => 'saga', child => 'soft', input => '{"x": "$.input.x"}', run_if => '{"input": {"x": 1}}'),
                                  saga.step('t', 'p', via => 'saga', child => 'hard', kind => 'pivot', after => '{s}'),
                                  saga.step('t', 'r', via => 'saga', child => 'hard', kind => 'retriable', after => '{p}', retry => saga.retry_policy(max => 3)) $$, 'every kind of child');
select pg_temp.refused($$ select saga.step('t', 'p', action => 'p.a', kind => 'pivot'), saga.step('t', 'w', via => 'signal', after => '{p}', timeout => '1 s') $$, 'SG303',
                       'step "w" waits behind the pivot "p" for a signal that may time out (rule 3)', 'rule 3: a signal behind the pivot that may fail');
select pg_temp.accepted($$ select saga.step('t', 'p', action => 'p.a', kind => 'pivot'), saga.step('t', 'w', via => 'signal', after => '{p}', timeout => '1 s', on_timeout => 'skip') $$,
                        'but one that it goes on without');
select pg_temp.accepted($$ select saga.step('t', 'w', via => 'signal', timeout => '1 s', on_timeout => 'fail') $$, 'or that fails before');
select pg_temp.refused($$ select saga.step('t', 'w', via => 'signal', timeout => '1 s', on_timeout => 'explode') $$, 'SG312', 'step "w": there is no on_timeout "explode"', 'there are two');
select pg_temp.refused(steps, 'SG312', null, 'on_timeout is for a signal that has one')
from unnest(array[$$ select saga.step('t', 'w', via => 'signal', on_timeout => 'skip') $$, $$ select saga.step('t', 'w', via => 'timer', timeout => '1 s', on_timeout => 'skip') $$,
                  $$ select saga.step('t', 'a', action => 'p.a', kind => 'read_only', on_timeout => 'skip') $$]) steps;
select pg_temp.refused($$ select saga.step('t', 'w', via => 'signal', timeout => '1 s', on_timeout => 'skip'),
                                 saga.step('t', 'b', action => 'p.a', kind => 'read_only', after => '{w}', input => '"$.steps.w.by"') $$, 'SG307',
                       'step "b", input: the path $.steps.w.by reads step "w", which may be skipped, and has no default (rule 7)', 'rule 7: a signal that may not come');

-- Conditions ------------------------------------------------------------------------------------------------------------------
select pg_temp.refused(format($$ select saga.step('t', 'a', action => 'p.a', kind => 'read_only', run_if => %L) $$, bad), 'SG316', null, 'no pattern: ' || bad)
from unnest(array['{}', '[]', '5', 'null', '"$.input.express"', '{"$.input.express": true}', '{"inputs": {}}', '{"steps": {}}', '{"steps": ["a"]}', '{"input": 1, "x": 2}']) bad;
select pg_temp.refused($$ select saga.step('t', 'a', action => 'p.a', kind => 'read_only', skip_if => '{"$.input.express": true}') $$, 'SG316',
                       'step "a": skip_if has the member "$.input.express"', 'a pattern is no path');
select is(pg_temp.hint_of($$ select pg_temp.try('select saga.step(''t'', ''a'', action => ''p.a'', kind => ''read_only'', run_if => ''{"express": true}'')') $$),
          'A pattern has the shape of the data, not of paths: {"input": {"express": true}}, {"steps": {"check": {"risk": "high"}}}.', 'and is told what it looks like');
select pg_temp.refused(format($$ select saga.step('t', 'a', action => 'p.a', kind => 'read_only', run_if => %L) $$, jsonb_build_object('input', repeat('x', 65536))), 'SG316', null,
                       'a pattern has a size');
select pg_temp.refused($$ select saga.step('t', 'a', action => 'p.a', kind => 'read_only'),
                                 saga.step('t', 'b', action => 'p.a', kind => 'read_only', run_if => '{"steps": {"a": {"risk": "high"}}}') $$, 'SG307',
                       'step "b", run_if: it reads step "a", which need not have ended before (rule 7)', 'rule 7: a condition reads what has ended');
select pg_temp.refused($$ select saga.step('t', 'a', action => 'p.a', kind => 'read_only', skip_if => '{"steps": {"a": {}}}') $$, 'SG307', null, 'rule 7: not itself');
select pg_temp.refused($$ select saga.step('t', 'a', action => 'p.a', kind => 'read_only', run_if => '{"input": {"x": 1}}'),
                                 saga.step('t', 'b', action => 'p.a', kind => 'read_only', after => '{a}'),
                                 saga.step('t', 'c', action => 'p.a', kind => 'read_only', after => '{b}', input => '{"x": "$.steps.a.id"}') $$, 'SG307',
                       'step "c", input: the path $.steps.a.id reads step "a", which may be skipped, and has no default (rule 7)', 'rule 7: what may be skipped needs a default');
select is(pg_temp.hint_of($$ select pg_temp.try('select saga.step(''t'', ''a'', action => ''p.a'', kind => ''read_only'', skip_if => ''{"input": {"x": 1}}''),
                                                        saga.step(''t'', ''c'', action => ''p.a'', kind => ''read_only'', after => ''{a}'', input => ''["$.steps.a.id"]'')') $$),
          'A skipped step has no output: write {"$path": "$.steps.a.id", "default": ...}.', 'and is told how');
select pg_temp.refused($$ select saga.step('t', 'a', action => 'p.a', kind => 'read_only', run_if => '{"input": {"x": 1}}'),
                                 saga.step('t', 'b', action => 'p.a', undo => 'p.u', after => '{a}', undo_input => '["$.steps.a"]') $$, 'SG307', null, 'rule 7: in an undo''s input too');
select pg_temp.accepted($$ select saga.step('t', 'a', action => 'p.a', undo => 'p.u', undo_input => '{"id": "$.steps.a.id"}', run_if => '{"input": {"x": 1}}'),
                                  saga.step('t', 'w', via => 'signal', after => '{a}', skip_if => '{"steps": {"a": {"small": true}}}'),
                                  saga.step('t', 'b', action => 'p.a', kind => 'pivot', after => '{w}', run_if => '{"input": {"x": [1]}, "steps": {"a": {}}}', skip_if => '{"input": {"y": null}}',
                                            input => '{"x": {"$path": "$.steps.a.id", "default": null}}'),
                                  saga.step('t', 'c', via => 'timer', timeout => '1 s', after => '{b}', run_if => '{"steps": {"a": {}}}') $$,
                        'conditions on every kind of step; an undo reads its own output');
select is(array(select saga.runs(run_if::jsonb, skip_if::jsonb, '{"n": 2, "tags": ["a", "b"], "deep": {"x": {"y": 1, "z": 2}}}', '{"ran": {}, "gave": {"risk": "high"}}')
                from (values (1, null, null), (2, '{"input": {"n": 2.0}}', null), (3, '{"input": {"n": "2"}}', null), (4, '{"input": {"tags": ["b"]}}', null),
                             (5, '{"input": {"deep": {"x": {"y": 1}}}, "steps": {"gave": {"risk": "high"}}}', null), (6, '{"steps": {"ran": {}}}', null),
                             (7, '{"steps": {"skipped": {}}}', null), (8, null, '{"steps": {"skipped": {}}}'), (9, null, '{"steps": {"ran": {}}}'),
                             (10, '{"input": {"n": 2}}', '{"input": {"n": 3}}'), (11, '{"input": {"n": 2}}', '{"input": {"n": 2}}'), (12, '{"input": {"absent": null}}', null)
                     ) c (n, run_if, skip_if) order by n),
          '{t,t,f,t,t,t,f,t,f,t,f,f}', 'what patterns say');

-- Values ----------------------------------------------------------------------------------------------------------------------
select pg_temp.refused($$ select saga.step('t', 'a', action => 'p.a', kind => 'repeatable') $$, 'SG312', 'step "a": there is no kind "repeatable"', 'an unknown kind');
select pg_temp.refused($$ select saga.step('t', 'a', action => 'p.a', undo => 'p.u', kind => 'pivot') $$, 'SG312', 'step "a" is pivot and has an undo', 'an undo nobody calls');
select pg_temp.refused($$ select saga.step('t', 'a', action => 'p.a', kind => 'read_only', undo_on_fail => true) $$, 'SG312',
                       'step "a" has no undo, and says how to undo it', 'undo_on_fail without undo');
select pg_temp.accepted($$ select saga.step('t', 'a', action => 'p.a', kind => 'pivot', undo_retry => saga.retry_policy(max => 3)) $$,
                        'the pivot''s probes have a policy');
select pg_temp.refused(format($$ select saga.step('t', 'a', action => 'p.a', kind => 'read_only', timeout => %L) $$, bad), 'SG312', null, 'a bad timeout: ' || bad)
from unnest(array['0', '9 ms', '-1 s', '367 days']) bad;
select throws_ok($$ select saga.define('t', timeout => '50 ms') $$, 'SG312', 'saga "t": timeout: 00:00:00.05 is not between 00:00:00.1 and 3660 days', 'a bad timeout of the saga');
select is(saga.retry_policy(), '{"max": 5, "base_ms": 200, "factor": 2, "cap_ms": 30000, "jitter": true}', 'the policy by default');
select is(saga.retry_policy(max => 7, base => '1 s', factor => 1.5, cap => '1 min', jitter => false),
          '{"max": 7, "base_ms": 1000, "factor": 1.5, "cap_ms": 60000, "jitter": false}', 'a policy');
select throws_ok('select saga.retry_policy(' || bad || ')', 'SG312', null, 'a bad policy: ' || bad)
from unnest(array['max => 0', 'max => 1001', 'max => null', 'base => ''0''', 'base => ''2 hours''', 'factor => 0.5', 'factor => ''NaN''', 'cap => ''2 days''',
                  'base => ''10 s'', cap => ''1 s''', 'jitter => null', 'base => null']) bad;
select pg_temp.refused(format($$ select saga.step('t', 'a', action => 'p.a', kind => 'read_only', retry => %L) $$, bad), 'SG312', null, 'a bad policy by hand: ' || bad)
from unnest(array['5', '{"tries": 5}', '{"max": "5"}', '{"max": 1.5}', '{"jitter": 1}', '{"max": null}', '{"base_ms": 60000}']) bad;

-- Templates are compiled in saga_template.sql; here: what a step may read (rule 7).
select pg_temp.refused($$ select saga.step('t', 'a', action => 'p.a', kind => 'read_only'), saga.step('t', 'b', action => 'p.a', kind => 'read_only', input => '{"x": "$.steps.a.y"}') $$,
                       'SG307', 'step "b", input: the path $.steps.a.y reads step "a", which need not have ended before (rule 7)', 'rule 7: a step beside');
select pg_temp.refused($$ select saga.step('t', 'a', action => 'p.a', kind => 'read_only', input => '["$.steps.b"]'), saga.step('t', 'b', action => 'p.a', kind => 'read_only', after => '{a}') $$,
                       'SG307', null, 'rule 7: a step behind');
select pg_temp.refused($$ select saga.step('t', 'a', action => 'p.a', kind => 'read_only', input => '"$.steps.a"') $$, 'SG307', null, 'rule 7: its own output');
select pg_temp.refused($$ select saga.step('t', 'a', action => 'p.a', kind => 'read_only', input => '"$.steps.nobody"') $$, 'SG307', null, 'rule 7: no step');
select pg_temp.refused(format($$ select saga.step('t', 'a', action => 'p.a', kind => 'read_only', input => %L) $$, to_jsonb(bad)), 'SG307', null, 'rule 7: ' || bad)
from unnest(array['$', '$.saga.id', '$.steps', '$.steps[0]', '$[0]', '$.inputs']) bad;
select pg_temp.refused($$ select saga.step('t', 'a', action => 'p.a', kind => 'read_only', input => '"$.input..x"') $$, 'SG314', null, 'a path that cannot be read');
select pg_temp.accepted($$ select saga.step('t', 'a', action => 'p.a', undo => 'p.u', undo_input => '{"id": "$.steps.a.id", "i": "$.input"}'),
                                  saga.step('t', 'b', action => 'p.a', kind => 'read_only', after => '{a}'),
                                  saga.step('t', 'c', action => 'p.a', kind => 'read_only', after => '{b}', input => '{"x": "$.steps.a.id", "y": "$.steps.b"}') $$,
                        'an undo reads its action''s output, a step all that is before it');

-- Frozen ----------------------------------------------------------------------------------------------------------------------
select saga.define('order', timeout => '15 min');
select saga.step('order', 'ship', action => 'shipping.book', kind => 'retriable', after => '{capture}');
select saga.step('order', 'capture', action => 'payment.capture', kind => 'pivot', after => '{reserve,fraud}', timeout => '5s',
                 input => '{"amount": "$.input.total", "reservation": "$.steps.reserve.id"}');
select saga.step('order', 'fraud', action => 'fraud.check', kind => 'read_only');
select saga.step('order', 'reserve', action => 'inventory.reserve', undo => 'inventory.release', undo_on_fail => true);
select is((select version from saga.publish('order')), 1, 'the first version');
select is((select array_agg(s ->> 'name' order by p) from saga.definition d, jsonb_array_elements(d.plan -> 'steps') with ordinality x (s, p) where d.name = 'order'),
          '{fraud,reserve,capture,ship}', 'steps come after what is before them, else in their order');
select is((select jsonb_agg(s -> 'after' order by p) from saga.definition d, jsonb_array_elements(d.plan -> 'steps') with ordinality x (s, p) where d.name = 'order'),
          '[[], [], [0, 1], [2]]', '`after` as indexes');
select is((select plan - 'steps' from saga.definition where name = 'order'), '{"definition": "order", "version": 1, "timeout_ms": 900000, "events": false}', 'the plan''s head');
select is((select (s - 'input' - 'undo_input') from saga.definition d, jsonb_array_elements(d.plan -> 'steps') s where d.name = 'order' and s ->> 'name' = 'reserve'),
          '{"name": "reserve", "action": "inventory.reserve", "undo": "inventory.release", "participant": "inventory", "kind": "compensable", "via": "command",
            "after": [], "timeout_ms": 30000, "undo_on_fail": true, "run_if": null, "skip_if": null,
            "retry": {"max": 5, "base_ms": 200, "factor": 2, "cap_ms": 30000, "jitter": true},
            "undo_retry": {"max": 20, "base_ms": 500, "factor": 2, "cap_ms": 300000, "jitter": true}}', 'a step of the plan');
select is((select start_steps from saga.definition where name = 'order'),
          '[{"s": "SENT", "r": 1, "u": 0, "a": 1}, {"s": "SENT", "r": 1, "u": 0, "a": 1}, {"s": "WAITING", "r": 0, "u": 0, "a": 0}, {"s": "WAITING", "r": 0, "u": 0, "a": 0}]',
          'how an instance begins');
select matches((select graph from saga.definitions where name = 'order'), '^flowchart TD\n.*reserve --> capture.*reserve -\. undo \.-> reserve_undo', 'a graph');
select is((select version from saga.publish('order')), 1, 'published again, it is the same version');
select throws_ok($$ select saga.step('order', 'more', action => 'p.a', kind => 'read_only') $$, 'SG310', 'the draft of "order" was published as version 1',
                 'a published draft takes no further step');

create function pg_temp.simple(name text, wait interval) returns integer language plpgsql as $$
begin
    perform saga.define(name);
    perform saga.step(name, 'a', action => 'p.a', kind => 'read_only', timeout => wait);
    return (select version from saga.publish(name));
end
$$;
select is(pg_temp.simple('v', '1 s'), 1, 'version 1');
select is(pg_temp.simple('v', '1000 ms'), 1, 'the same content: version 1');
select is(pg_temp.simple('v', '2 s'), 2, 'another: version 2');
select is(pg_temp.simple('v', '1 s'), 3, 'the content of version 1 again is version 3: a way back');
select is((select array_agg(version order by version) from saga.definitions where name = 'v' and current), '{3}', 'one is current');
select is(pg_temp.simple('v', '30 s'), 4, 'what is the default');
select saga.define('v');
select saga.step('v', 'a', action => 'p.a', kind => 'read_only');
select is((select version from saga.publish('v')), 4, 'is the same said or not');
select throws_ok($$ update saga.definition set graph = '' where name = 'v' $$, 'SG315', 'version 1 of "v" is published and does not change', 'a version does not change');
select throws_ok($$ delete from saga.definition where name = 'v' $$, 'SG315', null, 'nor does it go');
select throws_ok($$ update saga.definition_step set action = 'x.y' $$, 'SG315', null, 'nor do its steps');
select saga.define('order');
select is((select count(*)::integer from saga.draft_step where definition = 'order'), 0, 'define empties the draft');
select is((select version from saga.definitions where name = 'order' and current), 1, 'and leaves what is published');

select * from finish();
rollback;
