-- The log: its shape, its defaults, and what is refused at the INSERT, with which words.
select plan(69);

-- Shape.
select is(relkind::text, 'p', 'the log is partitioned') from pg_class where oid = 'outbox.message'::regclass;
select is(count(*)::integer, 8, 'into eight leaves') from pg_inherits where inhparent = 'outbox.message'::regclass;
select ok(bool_and('autovacuum_enabled=off' = any (c.reloptions) and 'autovacuum_enabled=off' = any (t.reloptions)),
          'autovacuum is off on the leaves and on what they store out of line')
  from pg_inherits join pg_class as c on c.oid = inhrelid join pg_class as t on t.oid = c.reltoastrelid
 where inhparent = 'outbox.message'::regclass;
select is(seqcache, 1::bigint, 'ids come one by one') from pg_sequence where seqrelid = 'outbox.message_id_seq'::regclass;
select set_eq($$ select pg_get_indexdef(indexrelid, 1, true) || coalesce(' ' || nullif(pg_get_indexdef(indexrelid, 2, true), ''), '')
                   from pg_index where indrelid = 'outbox.message_0'::regclass $$,
              array['id', 'xid id'], 'indexes on (id) and (xid, id) on each leaf');

-- Defaults.
begin;
insert into outbox.message (type, payload) values ('order.placed', '{"total": 19.90}');
select is(xid, pg_current_xact_id(), 'xid is the transaction') from outbox.message;
select is(slot, outbox.current_slot(), 'slot is the ring''s place now') from outbox.message;
select is(tableoid::regclass::text, format('outbox.message_%s', slot), 'and the row is in that leaf') from outbox.message;
select ok(substr(message_id::text, 15, 1) = '7' and substr(message_id::text, 20, 1) in ('8', '9', 'a', 'b'), 'message_id is a UUIDv7') from outbox.message;
select ok(created_at between now() and clock_timestamp(), 'created_at is now') from outbox.message;
select is(payload::text, '{"total": 19.90}', 'payload is kept as written') from outbox.message;
select ok(headers = '{}' and mandatory, 'no headers, mandatory') from outbox.message;
select results_eq('select id from outbox.message', $$ select last_value from outbox.message_id_seq $$, 'id is from the sequence');
commit;
truncate outbox.message;

-- The id's default takes the transaction id first: a transaction that has not got one yet gets it before the id.
select alike(pg_get_expr(adbin, adrelid), '%pg_current_xact_id() IS NOT NULL%nextval%', 'the id is taken after the transaction id')
  from pg_attrdef where adrelid = 'outbox.message'::regclass and adnum = 1;

-- Text columns: what is one byte too long is refused with column, bytes and limit; what just fits is not. Bytes, not characters.
create function refused(columns text, value text) returns text language plpgsql as $$
declare
    state text;
    message text;
    refused_column text;
begin
    execute format('insert into outbox.message (%s) values (%s)', columns, value);
    return 'accepted';
exception
    when others then
        get stacked diagnostics state = returned_sqlstate, message = message_text, refused_column = column_name;
        return format('%s %s: %s', state, refused_column, message);
end
$$;
select is(refused(format('type, payload, %s', name), format('''t'', ''{}'', repeat(''x'', %s)', bytes + 1)),
          format('23514 %1$s: outbox.message.%1$s has %2$s bytes, at most %3$s are allowed', name, bytes + 1, bytes), format('%s of %s bytes', name, bytes + 1))
  from (values ('key', 1024), ('exchange', 255), ('routing_key', 255), ('content_type', 255), ('correlation_id', 255), ('reply_to', 255)) as t (name, bytes);
select is(refused(format('type, payload, %s', name), format('''t'', ''{}'', repeat(''x'', %s)', bytes)), 'accepted', format('%s of %s bytes', name, bytes))
  from (values ('key', 1024), ('exchange', 255), ('routing_key', 255), ('content_type', 255), ('correlation_id', 255), ('reply_to', 255)) as t (name, bytes);
select is(refused('type, payload', $$ repeat('x', 256), '{}' $$), '23514 type: outbox.message.type has 256 bytes, at most 255 are allowed', 'type of 256 bytes');
select is(refused('type, payload', $$ repeat('x', 255), '{}' $$), 'accepted', 'type of 255 bytes');
select is(refused('type, payload, routing_key', $$ 't', '{}', repeat('é', 128) $$),
          '23514 routing_key: outbox.message.routing_key has 256 bytes, at most 255 are allowed', '128 characters of two bytes');
select is(refused('type, payload', $$ '', '{}' $$), '23514 type: outbox.message.type is empty', 'an empty type');
select is(refused('type, payload, key', $$ 't', '{}', '' $$), '23514 key: outbox.message.key is empty', 'an empty key');
select is(refused('type, payload, exchange, routing_key', $$ 't', '{}', '', '' $$), 'accepted', 'the default exchange and an empty routing key are fine');
select is(refused('type, payload, reply_to', $$ 't', '{}', 'amq.rabbitmq.reply-to' $$),
          '23514 reply_to: outbox.message.reply_to is amq.rabbitmq.reply-to, which only works on the channel that waits for the reply', 'direct reply-to');
select matches(refused('type, payload', $$ null, '{}' $$), '^23502 type: ', 'type null');
select matches(refused('type, payload, headers', $$ 't', '{}', null $$), '^23502 headers: ', 'headers null');

-- Payload.
select is(refused('type', $$ 't' $$), '23514 payload: outbox.message.payload or payload_bytes must be given, and not both', 'no payload');
select is(refused('type, payload, payload_bytes', $$ 't', '{}', 'x' $$), '23514 payload: outbox.message.payload or payload_bytes must be given, and not both',
          'two payloads');
select is(refused('type, payload', $$ 't', 'null' $$), 'accepted', 'JSON null is a payload');
select is(refused('type, payload_bytes', $$ 't', '' $$), 'accepted', 'so are no bytes');
select matches(refused('type, payload', $$ 't', '{' $$), '^22P02 ', 'what is no JSON is not');
select is(refused('type, payload', $$ 't', to_json(repeat('x', 1048576 - 1)) $$),
          '23514 payload: outbox.message.payload has 1048577 bytes, at most 1048576 are allowed (outbox.configure)', 'payload too large');
select is(refused('type, payload', $$ 't', to_json(repeat('x', 1048576 - 2)) $$), 'accepted', 'payload as large as may be');
select is(refused('type, payload_bytes', $$ 't', repeat('x', 1048577)::bytea $$),
          '23514 payload_bytes: outbox.message.payload_bytes has 1048577 bytes, at most 1048576 are allowed (outbox.configure)', 'payload_bytes too large');
select is(refused('type, payload_bytes', $$ 't', repeat('x', 1048576)::bytea $$), 'accepted', 'payload_bytes as large as may be');

-- Long texts are looked at closely: each may be as long as it may be alone, and what else the row has is looked at as ever.
select is(refused('type, payload, exchange, routing_key, content_type, correlation_id, reply_to, key, headers',
                  format('repeat(''t'', 255), %1$s, %2$s, %2$s, %2$s, %2$s, %2$s, repeat(''k'', 1024), %3$s', payload, 'repeat(''x'', 255)', headers)), expected, name)
  from (values ('all texts as long as may be', $$ '{}' $$, $$ '{}' $$, 'accepted'),
               ('and a payload too large', $$ to_json(repeat('x', 1048576)) $$, $$ '{}' $$,
                '23514 payload: outbox.message.payload has 1048578 bytes, at most 1048576 are allowed (outbox.configure)'),
               ('and headers that are not flat', $$ '{}' $$, $$ '{"a": {}}' $$, '23514 headers: outbox.message.headers is not flat: "a" holds an object or a list'),
               ('and no payload', 'null', $$ '{}' $$, '23514 payload: outbox.message.payload or payload_bytes must be given, and not both')) as t (name, payload, headers, expected);
select is(refused('type, payload, payload_bytes, headers', $$ 't', null, repeat('x', 1048577)::bytea, '{"a": {}}' $$),
          '23514 payload_bytes: outbox.message.payload_bytes has 1048577 bytes, at most 1048576 are allowed (outbox.configure)', 'two faults: the first is told');

-- Headers. The limits are looked at again where the common case has a short cut: below and above 255 bytes, all text and not.
select is(refused('type, payload, headers', format('''t'', ''{}'', %s', value)), expected, name)
  from (values ('headers of all kinds', $$ '{"a": "x", "b": 1, "c": -1.5, "d": true, "e": null, "f": ""}' $$, 'accepted'),
               ('headers that are a list', $$ '[]' $$, '23514 headers: outbox.message.headers is of type array, it must be an object'),
               ('headers that are text', $$ '"x"' $$, '23514 headers: outbox.message.headers is of type string, it must be an object'),
               ('a header with an object', $$ '{"a": {}}' $$, '23514 headers: outbox.message.headers is not flat: "a" holds an object or a list'),
               ('a header with a list', $$ '{"a": "x", "b": ["y"]}' $$, '23514 headers: outbox.message.headers is not flat: "b" holds an object or a list'),
               ('a header with a list among long ones', $$ jsonb_build_object('a', repeat('x', 300), 'b', '[]'::jsonb) $$,
                '23514 headers: outbox.message.headers is not flat: "b" holds an object or a list'),
               ('the greatest whole numbers', $$ '{"a": 9223372036854775807, "b": -9223372036854775808}' $$, 'accepted'),
               ('a number above', $$ '{"a": 9223372036854775808}' $$,
                '23514 headers: outbox.message.headers has a number in "a" that neither a 64-bit integer nor a double holds'),
               ('a number below', $$ '{"a": -9223372036854775809}' $$,
                '23514 headers: outbox.message.headers has a number in "a" that neither a 64-bit integer nor a double holds'),
               ('a number too small', $$ '{"a": 1e-400}' $$,
                '23514 headers: outbox.message.headers has a number in "a" that neither a 64-bit integer nor a double holds'),
               ('zeros', $$ '{"a": 0, "b": -0.00}' $$, 'accepted'),
               ('a name of 255 bytes', $$ jsonb_build_object(repeat('n', 255), 'x') $$, 'accepted'),
               ('a name of 256 bytes', $$ jsonb_build_object(repeat('n', 256), 'x') $$,
                format('23514 headers: outbox.message.headers has a name of more than 255 bytes, "%s..."', repeat('n', 30))),
               ('16384 bytes', $$ jsonb_build_object('a', repeat('x', 16384 - 9)) $$, 'accepted'),
               ('16385 bytes', $$ jsonb_build_object('a', repeat('x', 16384 - 8)) $$,
                '23514 headers: outbox.message.headers has 16385 bytes, at most 16384 are allowed'),
               ('CC', $$ '{"CC": "x"}' $$, '23514 headers: outbox.message.headers has a header CC or BCC, which RabbitMQ would refuse'),
               ('BCC among long ones', $$ jsonb_build_object('BCC', repeat('x', 300)) $$,
                '23514 headers: outbox.message.headers has a header CC or BCC, which RabbitMQ would refuse'),
               ('a name that only looks like it', $$ '{"cc": "x", "CCC": "y"}' $$, 'accepted')) as t (name, value, expected);

-- One bad row refuses its statement; the leaves refuse as the log does.
select throws_ok($$ insert into outbox.message (type, payload) select case when n = 7 then '' else 't' end, '{}' from generate_series(1, 10) as n $$,
                 '23514', 'outbox.message.type is empty', 'one bad row among many');
select throws_ok($$ insert into outbox.message_1 (id, xid, slot, message_id, type, payload) values (1, pg_current_xact_id(), 1, outbox.uuid_v7(), '', '{}') $$,
                 '23514', 'outbox.message.type is empty', 'a row straight into a leaf');

select * from finish();
