-- The rules of publish about a definition's shape, against a predicate that knows no rule: all 16,384 sagas of four steps.
--
-- A saga is safe when, wherever it stands, it can still end: everything done can be taken back, or nothing can fail any more. Where it can
-- stand is a set of done steps that holds, with every step, those before it. The predicate looks at all of these sets:
--   - something that cannot be taken back (a pivot, a retriable step) is done, and a step that may still fail is not;
--   - the saga may still be cancelled (its pivot is not done), and a retriable step is done or in flight: it has no undo.
begin;
select plan(7);

create function pg_temp.has(bits integer, i integer) returns boolean language sql immutable as $$ select (bits & (1 << i)) <> 0 $$;
create temporary table graph as -- the six `after` that four steps in a row can have
select g as id, array[0, g & 1, ((g >> 1) & 1) | (((g >> 3) & 1) << 1), ((g >> 2) & 1) | (((g >> 4) & 1) << 1) | (((g >> 5) & 1) << 2)] as before
from generate_series(0, 63) g;

create temporary table stand as -- where each can stand: what is done, what can be in flight
select g.id as graph, m as done,
       (select coalesce(bit_or(1 << i), 0) from generate_series(0, 3) i where not pg_temp.has(m, i) and (g.before[i + 1] & ~m) = 0) as in_flight
from graph g, generate_series(0, 15) m
where not exists (select from generate_series(0, 3) i where pg_temp.has(m, i) and (g.before[i + 1] & ~m) <> 0);

create temporary table kinds as -- two bits a step
select k as id, array(select (array['compensable', 'read_only', 'pivot', 'retriable'])[((k >> (2 * i)) & 3) + 1] from generate_series(0, 3) i) as kind,
       (select coalesce(bit_or(1 << i), 0) from generate_series(0, 3) i where ((k >> (2 * i)) & 3) = 2) as pivots,
       (select coalesce(bit_or(1 << i), 0) from generate_series(0, 3) i where ((k >> (2 * i)) & 3) = 3) as retriables
from generate_series(0, 255) k;

create temporary table judged as
select g.id as graph, k.id as kinds,
       not exists (select from stand s
                   where s.graph = g.id
                     and ((s.done & (k.pivots | k.retriables)) <> 0 and (15 & ~s.done & ~k.retriables) <> 0
                          or (s.done & k.pivots) = 0 and ((s.done | s.in_flight) & k.retriables) <> 0)) as is_safe
from graph g, kinds k;

create function pg_temp.steps_of(graph integer, kinds integer) returns jsonb language sql as $$
    select jsonb_agg(jsonb_build_object(
               'name', chr(97 + i), 'kind', k.kind[i + 1], 'via', 'command', 'undo', case k.kind[i + 1] when 'compensable' then 'p.undo' end,
               'after', (select coalesce(jsonb_agg(chr(97 + j)), '[]') from generate_series(0, 3) j where pg_temp.has(g.before[i + 1], j)),
               'timeout_ms', 1000) order by i)
    from graph g, kinds k, generate_series(0, 3) i
    where g.id = steps_of.graph and k.id = steps_of.kinds
$$;
create function pg_temp.refusal(steps jsonb) returns text language plpgsql as $$
begin
    perform saga.check_shape(steps);
    return null;
exception when others then
    return sqlstate;
end
$$;
create temporary table answered as
select j.*, pg_temp.refusal(pg_temp.steps_of(j.graph, j.kinds)) as refusal from judged j;

select is(count(*)::integer, 16384, 'all sagas of four steps were asked about') from answered;
select cmp_ok(count(*) filter (where is_safe)::integer, '>', 500, 'many of them are safe') from answered;
select is_empty($$ select graph, kinds, refusal, pg_temp.steps_of(graph, kinds) from answered where is_safe and refusal is not null limit 5 $$,
                'nothing safe is refused');
select is_empty($$ select graph, kinds, pg_temp.steps_of(graph, kinds) from answered where not is_safe and refusal is null limit 5 $$,
                'nothing unsafe is accepted');
select bag_has($$ select distinct refusal from answered where refusal is not null $$, $$ values ('SG302'), ('SG303'), ('SG304') $$,
               'each rule about the shape refuses some');

-- The predicate can fail: without a pivot's being irrevocable it would take other sagas for safe.
select isnt_empty($$ select from answered a, kinds k where k.id = a.kinds and a.refusal is not null
                       and not exists (select from stand s where s.graph = a.graph and (s.done & k.retriables) <> 0 and (15 & ~s.done & ~k.retriables) <> 0) $$,
                  'a weaker predicate disagrees');

-- The same through the front door, for a part of them: define, step, publish, in another order than that of `after`.
create function pg_temp.publishes(graph integer, kinds integer) returns boolean language plpgsql as $$
declare
    s jsonb;
begin
    perform saga.define('shape');
    for s in select e.step from jsonb_array_elements(pg_temp.steps_of(graph, kinds)) with ordinality e (step, place) order by place desc loop
        perform saga.step('shape', s ->> 'name', action => 'p.do', undo => s ->> 'undo', kind => s ->> 'kind',
                          after => array(select jsonb_array_elements_text(s -> 'after')));
    end loop;
    perform saga.publish('shape');
    return true;
exception when sqlstate 'SG302' or sqlstate 'SG303' or sqlstate 'SG304' then
    return false;
end
$$;
select is_empty($$ select graph, kinds from judged where (graph * 256 + kinds) % 83 = 0 and pg_temp.publishes(graph, kinds) <> is_safe $$,
                'saga.publish answers the same');

select * from finish();
rollback;
