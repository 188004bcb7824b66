-- Templates: paths, escapes, defaults, and that what they map stays exactly itself.
begin;
select no_plan();

create function pg_temp.fill(template jsonb, input jsonb, outputs jsonb default '{}') returns jsonb language sql as $$
    select saga.map_input(saga.compile_template(template, '{one,two}'), input, outputs)
$$;
\set data '\'{"sku": "A1", "n": 2, "list": [{"x": 1}, [2, 3]], "null": null, "any name": {"q\\"x": 1, "0": "zero"}, "0": "member"}\'::jsonb'

-- Paths ------------------------------------------------------------------------------------------------------------------------
select is(saga.parse_path('$'), '[]', '$');
select is(saga.parse_path('$.a.b_1["any name"][0][12]._x'), '["a", "b_1", "any name", 0, 12, "_x"]', 'members and places');
select is(saga.parse_path('$["q\"x"]["]"]["\u00e9"]'), '["q\"x", "]", "é"]', 'quoted names');
select throws_ok(format('select saga.parse_path(%L)', bad), 'SG314', null, 'no path: ' || bad)
from unnest(array['', 'a', '.a', '$a', '$.', '$..a', '$.1', '$.a-b', '$[', '$[-1]', '$[1', '$["a]', '$["a"', '$.a ', '$ .a', '$[*]', '$.a.*', '$["\x"]', '$[1234567890]',
                  '$.' || repeat('a', 1000)]) bad;
select throws_ok('select saga.parse_path(null)', 'SG314', null, 'null is no path');

-- Filling ----------------------------------------------------------------------------------------------------------------------
select is(saga.map_input(null, :data, '{}'), :data, 'no template: the saga''s input');
select is(pg_temp.fill('"$.input"', :data), :data, 'the whole input');
select is(pg_temp.fill('"$.input.n"', :data), '2', 'a value alone');
select is(pg_temp.fill('{"s": "$.input.sku", "c": 5, "t": "text", "nothing": null, "flag": true}', :data),
          '{"s": "A1", "c": 5, "t": "text", "nothing": null, "flag": true}', 'members, and what is no path');
select is(pg_temp.fill('{}', :data), '{}', 'an empty template');
select is(pg_temp.fill('7', :data), '7', 'a constant');
select is(pg_temp.fill('{"a": {"b": ["$.input.sku", ["$.input.n"], {"c": "$.input.list[1][0]"}]}, "d": "$.input.list[0].x"}', :data),
          '{"a": {"b": ["A1", [2], {"c": 2}]}, "d": 1}', 'at any depth');
select is(pg_temp.fill('{"a": "$.input[\"any name\"][\"q\\\"x\"]", "b": "$.input[\"any name\"][\"0\"]"}', :data), '{"a": 1, "b": "zero"}', 'any name');
select is(pg_temp.fill('{"a": "$$5", "b": "$$", "c": "$$$.x", "$$d": "a$b"}', :data), '{"a": "$5", "b": "$", "c": "$$.x", "$d": "a$b"}', 'escapes');
select is(pg_temp.fill('{"": "$.input.n"}', :data), '{"": 2}', 'a member without a name');
select is(pg_temp.fill('{"a": "$.steps.one.id", "b": "$.steps.two", "c": "$.steps[\"one\"].id"}', '{}', '{"one": {"id": 5}, "two": [1]}'), '{"a": 5, "b": [1], "c": 5}',
          'outputs of steps');
select is(pg_temp.fill('{"a": "$.input.null"}', :data), '{"a": null}', 'null is something that was found');

-- Nothing found ------------------------------------------------------------------------------------------------------------------
select throws_ok(format('select pg_temp.fill(%L, %L)', template, :data), 'SG322', 'the path ' || missing || ' finds nothing', missing)
from (values ('{"a": "$.input.nobody"}', '$.input.nobody'), ('["$.input.n.x"]', '$.input.n.x'), ('"$.input.list[2]"', '$.input.list[2]'),
             ('"$.input.sku[0]"', '$.input.sku[0]'), ('"$.input[0]"', '$.input[0]'), ('"$.input.list[\"0\"]"', '$.input.list["0"]'),
             ('"$.steps.one"', '$.steps.one'), ('"$.steps.one.id"', '$.steps.one.id'), ('{"a": "$.input.x", "b": "$.input.y"}', '$.input.x, $.input.y')) t (template, missing);
select is(pg_temp.fill('{"a": {"$path": "$.input.nobody", "default": {"$x": [1]}}, "b": {"$path": "$.input.n", "default": 9}, "c": {"$path": "$.input.no", "default": null},
                         "d": [{"$path": "$.steps.one.id", "default": "none"}]}', :data), '{"a": {"$x": [1]}, "b": 2, "c": null, "d": ["none"]}', 'defaults, taken as they are');
select is(pg_temp.fill('{"$path": "$.input.nobody", "default": 3}', :data), '3', 'a default alone');
select throws_ok(format('select saga.compile_template(%L, %L)', bad, '{}'), 'SG314', null, 'no template: ' || bad)
from unnest(array['{"$path": 5}', '{"$path": "$.input", "fallback": 1}', '{"$x": 1}', '{"a": {"$path": "input"}}', '["$x"]', '"$input"']) bad;
select throws_ok($$ select saga.compile_template(to_jsonb(repeat('x', 65600)), '{}') $$, 'SG314', 'it is larger than 65536 bytes', 'a template has a size');
select throws_ok($$ select saga.compile_template((repeat('[', 34) || '"$.input"' || repeat(']', 34))::jsonb, '{}') $$, 'SG314', 'it is nested deeper than 32 levels', 'and a depth');

-- Exact ------------------------------------------------------------------------------------------------------------------------
select is(pg_temp.fill('{"a": "$.input.a", "b": ["$.input.b"], "c": "$.input.c", "d": "$.input.d"}',
                       '{"a": 19.90, "b": 123456789012345678901234567890, "c": 0.1000000000000000000000000000001, "d": -0.0}')::text,
          '{"a": 19.90, "b": [123456789012345678901234567890], "c": 0.1000000000000000000000000000001, "d": 0.0}', 'numbers stay what they are, digit by digit');
select is(pg_temp.fill('{"a": "$.input.a"}', '{"a": "\u00e9\"\\\u2028 $.input.a"}'), '{"a": "\u00e9\"\\\u2028 $.input.a"}', 'so do texts: what is found is not read as a path');

select * from finish();
rollback;
