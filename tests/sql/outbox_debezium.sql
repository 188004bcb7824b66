-- outbox.debezium: what a service that wrote Debezium's outbox table sends goes on working, and becomes a message.
select plan(26);

-- As a service, with the rights of one.
set role sagapost_writer;
create temporary table given as select '01900000-0000-7000-8000-00000000000a'::uuid as id;
select lives_ok($$ insert into outbox.debezium (id, aggregatetype, aggregateid, type, payload)
                   values ('01900000-0000-7000-8000-00000000000a', 'order', '17', 'OrderPlaced', '{"total": 19.90}') $$, 'a service inserts');
select lives_ok($$ insert into outbox.debezium (id, aggregatetype, aggregateid, type, payload)
                   values (gen_random_uuid(), 'order', '18', 'OrderPlaced', '{"as": "jsonb"}'::jsonb) $$, 'with a payload that is jsonb');
select isnt_empty($$ insert into outbox.debezium (aggregatetype, aggregateid, type, payload) values ('customer', '17', 'CustomerMoved', '[]') returning id $$,
                  'an id that is not given is made, and returned');
reset role;

select results_eq($$ select type, key, exchange, routing_key, headers, payload::text from outbox.message where message_id = '01900000-0000-7000-8000-00000000000a' $$,
                  $$ values ('OrderPlaced', 'order/17', null::text, null::text, '{"aggregatetype": "order", "aggregateid": "17"}'::jsonb, '{"total": 19.90}') $$,
                  'the message: its id, its type, a key of its aggregate, both names as headers, the payload as it was written');
select is(count(*)::integer, 3, 'each INSERT is one message') from outbox.message;
select is(count(distinct key)::integer, 3, 'aggregates of different types with the same number have keys of their own') from outbox.message;
select is(count(*) filter (where substr(message_id::text, 15, 1) = '7')::integer, 2, 'the id that was made is a UUIDv7') from outbox.message;

-- Insert, then delete, in one transaction: their habit.
set role sagapost_writer;
create function pg_temp.rows_of(statement text) returns bigint language plpgsql as $$
declare
    rows bigint;
begin
    execute statement;
    get diagnostics rows = row_count;
    return rows;
end
$$;
begin;
insert into outbox.debezium (id, aggregatetype, aggregateid, type, payload)
values ('01900000-0000-7000-8000-00000000000b', 'order', '17', 'OrderPaid', '{}'), ('01900000-0000-7000-8000-00000000000c', 'order', '19', 'OrderPaid', '{}');
select results_eq($$ select id, aggregatetype, aggregateid, type, payload::text from outbox.debezium order by id $$,
                  $$ values ('01900000-0000-7000-8000-00000000000b'::uuid, 'order', '17', 'OrderPaid', '{}'),
                            ('01900000-0000-7000-8000-00000000000c', 'order', '19', 'OrderPaid', '{}') $$, 'a transaction sees its own rows');
select is(pg_temp.rows_of($$ delete from outbox.debezium where id = '01900000-0000-7000-8000-00000000000b' $$), 1::bigint, 'DELETE reports one row');
savepoint business;
insert into outbox.debezium (aggregatetype, aggregateid, type, payload) values ('order', '20', 'OrderPaid', '{}');
select is(pg_temp.rows_of($$ delete from outbox.debezium where aggregateid = '20' $$), 1::bigint, 'in a savepoint too');
rollback to business;
commit;
reset role;
select is(count(*)::integer, 2, 'what was deleted is published all the same; what was rolled back is not') from outbox.message where type = 'OrderPaid';
set role sagapost_writer;
select is_empty($$ select * from outbox.debezium $$, 'what earlier transactions published is not seen');
select is(pg_temp.rows_of($$ delete from outbox.debezium $$), 0::bigint, 'and a clean-up job finds nothing to do');
begin;
insert into outbox.message (type, payload) values ('by.hand', '{}');
select is_empty($$ select * from outbox.debezium $$, 'messages of other makers are not in it');
rollback;

-- What is refused.
select throws_ok($$ update outbox.debezium set type = 'x' $$, '42501', null, 'a service rewrites nothing');
select throws_ok(format('insert into outbox.debezium (aggregatetype, aggregateid, type, payload) values (%s)', row), state, message, message)
  from (values ($$ null, '1', 'T', '{}' $$, '23502', 'outbox.debezium: aggregatetype and aggregateid must not be null'),
               ($$ 'order', null, 'T', '{}' $$, '23502', 'outbox.debezium: aggregatetype and aggregateid must not be null'),
               ($$ 'order', '1', 'T', null $$, '23514', 'outbox.message.payload or payload_bytes must be given, and not both'),
               ($$ 'order', '1', '', '{}' $$, '23514', 'outbox.message.type is empty'),
               ($$ 'order', repeat('x', 2000), 'T', '{}' $$, '23514', 'outbox.message.key has 2006 bytes, at most 1024 are allowed')
       ) as refused (row, state, message);
reset role;
begin;
insert into outbox.debezium (aggregatetype, aggregateid, type, payload) values ('order', '1', 'T', '{}');
select throws_ok($$ update outbox.debezium set type = 'x' $$, '55000', 'outbox.debezium: a message is not changed once it is written', 'nor does the owner');
rollback;
set role sagapost_reader;
select throws_ok($$ select * from outbox.debezium $$, '42501', null, 'who looks on sees no payload here either');
reset role;

-- Under the name that the service has always used.
create schema shop;
grant usage on schema shop to sagapost_writer;
create view shop.outboxevent as select * from outbox.debezium;
grant select, insert, delete on shop.outboxevent to sagapost_writer;
set role sagapost_writer;
begin;
select lives_ok($$ insert into shop.outboxevent (id, aggregatetype, aggregateid, type, payload) values (gen_random_uuid(), 'order', '21', 'Renamed', '{}') $$,
                'a view of its own over it takes the INSERT');
select is(pg_temp.rows_of($$ delete from shop.outboxevent where aggregateid = '21' $$), 1::bigint, 'and the DELETE');
commit;
reset role;
select is(count(*)::integer, 1, 'which is published') from outbox.message where type = 'Renamed';

-- However long the log is, it is looked through by the transaction's own id.
insert into outbox.message (type, payload) select 'old', '{}' from generate_series(1, 20000);
begin;
insert into outbox.debezium (id, aggregatetype, aggregateid, type, payload) values (gen_random_uuid(), 'order', '22', 'Planned', '{}');
create function pg_temp.plan_of(statement text) returns text language plpgsql as $$
declare
    line text;
    plan text := '';
begin
    for line in execute 'explain (costs off) ' || statement loop
        plan := plan || line || E'\n';
    end loop;
    return plan;
end
$$;
select unalike(pg_temp.plan_of($$ delete from outbox.debezium where id = '01900000-0000-7000-8000-00000000000b' $$), '%Seq Scan on message_' || outbox.current_slot() || ' %',
              'a DELETE does not read the log');
commit;

select * from finish();
