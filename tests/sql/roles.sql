-- Who may what in outbox and inbox: the whole matrix of roles, relations, columns and functions, and then by trying.
select plan(52);

create temporary table role as
select 'sagapost_' || name as name from unnest('{writer, relay, worker, definer, participant, operator, reader}'::text[]) as name;
create temporary table relation as
select oid, relname::text as name, relnamespace::regnamespace || '.' || relname as full_name, relkind from pg_class
 where relnamespace in ('outbox'::regnamespace, 'inbox'::regnamespace) and relkind in ('r', 'p', 'v', 'S');

-- Everything that a role may do with a relation or a part of its columns: nothing else.
create temporary table allowed as
select r.name as role, t.full_name as relation, string_agg(privilege, ' ' order by privilege) as privileges
  from role as r, relation as t, unnest('{SELECT, INSERT, UPDATE, DELETE, TRUNCATE, REFERENCES, TRIGGER, USAGE}'::text[]) as privilege
 where case
           when t.relkind = 'S' then privilege in ('SELECT', 'UPDATE', 'USAGE') and has_sequence_privilege(r.name, t.oid, privilege)
           when privilege in ('DELETE', 'TRUNCATE', 'TRIGGER') then has_table_privilege(r.name, t.oid, privilege)
           when privilege <> 'USAGE' then has_any_column_privilege(r.name, t.oid, privilege)
       end
 group by r.name, t.full_name;
create temporary table wanted (role text, relations text[], privileges text);
insert into wanted values
    ('sagapost_writer', '{outbox.migration}', 'SELECT'),
    ('sagapost_writer', '{outbox.message}', 'INSERT SELECT'),
    ('sagapost_writer', '{outbox.message_id_seq}', 'USAGE'),
    ('sagapost_writer', '{outbox.debezium}', 'DELETE INSERT SELECT'),
    ('sagapost_worker', '{outbox.migration, inbox.setting, inbox.period}', 'SELECT'),
    ('sagapost_worker', '{outbox.message}', 'INSERT SELECT'),
    ('sagapost_worker', '{inbox.seen, inbox.seen_untimed}', 'INSERT'),
    ('sagapost_worker', '{outbox.message_id_seq}', 'USAGE'),
    ('sagapost_participant', '{outbox.migration, inbox.setting, inbox.period}', 'SELECT'),
    ('sagapost_participant', '{inbox.seen, inbox.seen_untimed}', 'INSERT'),
    ('sagapost_definer', '{outbox.migration}', 'SELECT'),
    ('sagapost_definer', '{outbox.route}', 'DELETE INSERT SELECT UPDATE'),
    ('sagapost_relay', '{outbox.migration, outbox.share_change, outbox.message, outbox.message_id_seq, outbox.route, outbox.setting, outbox.leaf, outbox.backlog,
                         outbox.parked_summary, outbox.status}', 'SELECT'),
    ('sagapost_relay', '{outbox.message_0, outbox.message_1, outbox.message_2, outbox.message_3, outbox.message_4, outbox.message_5, outbox.message_6,
                         outbox.message_7}', 'SELECT'),
    ('sagapost_relay', '{outbox.position, outbox.intent}', 'SELECT UPDATE'),
    ('sagapost_relay', '{outbox.ghost}', 'INSERT SELECT'),
    ('sagapost_relay', '{outbox.parked}', 'DELETE INSERT SELECT UPDATE'),
    ('sagapost_operator', '{outbox.ghost, outbox.message, outbox.migration, outbox.route, outbox.setting, outbox.position, outbox.share_change, outbox.parked, outbox.intent, outbox.leaf, outbox.backlog,
                            outbox.parked_summary, outbox.status, inbox.setting, inbox.period}', 'SELECT'),
    ('sagapost_reader', '{outbox.ghost, outbox.migration, outbox.route, outbox.setting, outbox.position, outbox.share_change, outbox.parked, outbox.intent, outbox.leaf, outbox.backlog,
                          outbox.parked_summary, outbox.status, inbox.setting, inbox.period}', 'SELECT');
select set_eq('select * from allowed where role = ''' || name || '''',
              'select role, unnest(relations), privileges from wanted where role = ''' || name || '''', name || ': relations')
  from role;

-- Where a privilege is on columns, which.
create function columns(role text, relation regclass, privilege text) returns text language sql as $$
    select coalesce(string_agg(attname, ' ' order by attname), '') from pg_attribute
     where attrelid = relation and attnum > 0 and not attisdropped and has_column_privilege(role, attrelid, attnum, privilege);
$$;
select is(columns(role, 'outbox.message', 'INSERT'), 'content_type correlation_id created_at exchange headers key mandatory message_id payload payload_bytes reply_to routing_key type',
          role || ' writes all of a message but its place in the log')
  from unnest('{sagapost_writer, sagapost_worker}'::text[]) as role;
select is(columns(role, 'outbox.message', 'SELECT'), 'id message_id', role || ' reads what INSERT ... RETURNING is for')
  from unnest('{sagapost_writer, sagapost_worker}'::text[]) as role;
select is(columns('sagapost_relay', 'outbox.intent', 'UPDATE'), 'answer applied_at', 'the relay answers intents, it does not rewrite them');
select ok(not columns('sagapost_reader', 'outbox.parked', 'SELECT') ~ 'payload|headers|key_hash', 'a reader sees no payload and no header');

-- Functions.
create temporary table callable as
select r.name as role, p.pronamespace::regnamespace || '.' || p.proname as function from role as r, pg_proc as p
 where p.pronamespace in ('outbox'::regnamespace, 'inbox'::regnamespace) and has_function_privilege(r.name, p.oid, 'execute');
create temporary table wanted_function (role text, functions text[]);
insert into wanted_function values
    ('sagapost_writer', '{outbox.uuid_v7, outbox.publish, outbox.publish_bytes, outbox.headers_problem}'),
    ('sagapost_worker', '{outbox.uuid_v7, outbox.publish, outbox.publish_bytes, outbox.headers_problem, inbox.accept, inbox.is_uuid_v7, inbox.maintain}'),
    ('sagapost_participant', '{outbox.uuid_v7, inbox.accept, inbox.is_uuid_v7, inbox.maintain}'),
    ('sagapost_relay', '{outbox.share_of, outbox.share_turn, outbox.share_leave, outbox.truncate_leaf, outbox.flushed_by, outbox.backlog_at_most, outbox.current_slot, outbox.slot_expression}'),
    ('sagapost_operator', '{outbox.share_of, outbox.intend, outbox.requeue, outbox.discard, outbox.backlog_at_most, outbox.current_slot, outbox.slot_expression}'),
    ('sagapost_reader', '{outbox.backlog_at_most, outbox.current_slot, outbox.slot_expression}');
select set_eq('select function from callable where role = ''' || name || '''',
              'select unnest(functions) from wanted_function where role = ''' || name || '''', name || ': functions')
  from role where name <> 'sagapost_definer';
select is_empty($$ select * from callable where role = 'sagapost_definer' $$, 'sagapost_definer: functions');

-- By trying.
set role sagapost_writer;
select lives_ok($$ insert into outbox.message (type, payload) values ('t', '{}') $$, 'a writer inserts by hand');
select isnt_empty($$ insert into outbox.message (type, payload) values ('t', '{}') returning id, message_id $$, 'and learns its id');
select lives_ok($$ insert into outbox.message (type, payload, headers) values ('t', '{}', jsonb_build_object('n', 1, 'long', repeat('x', 300))) $$, 'with headers of all kinds');
select lives_ok($$ select outbox.publish('t', '{}', 'K', serialize => true), outbox.publish_bytes('t', '') $$, 'and publishes');
select throws_ok(format('insert into outbox.message (type, payload, %s) values (''t'', ''{}'', %s)', name, value), '42501', null, 'but gives no ' || name)
  from (values ('id', '1'), ('xid', '''7'''), ('slot', '0')) as t (name, value);
select throws_ok($$ insert into outbox.message_0 (id, xid, slot, message_id, type, payload) values (1, '7', 0, gen_random_uuid(), 't', '{}') $$, '42501', null, 'nor goes round the log');
select throws_ok(statement, '42501', null, 'a writer: ' || statement)
  from unnest(array['select * from outbox.message', 'update outbox.message set type = ''x''', 'delete from outbox.message', 'truncate outbox.message',
                    'select setval(''outbox.message_id_seq'', 1)', 'select outbox.truncate_leaf(1)', 'select outbox.configure()',
                    'select * from outbox.parked', 'select inbox.accept(''c'', gen_random_uuid())']) as statement;
select throws_ok(format('insert into outbox.message (type, exchange, routing_key, payload) values (%L, %L, %L, ''{}'')', type, exchange, routing_key), '42501',
                 'commands and replies of sagas are written by saga.start, saga.reply and saga-worker alone', format('a writer forges nothing: %s %s %s', type, exchange, routing_key))
  from (values ('t', 'saga.commands', 'payment.capture'), ('t', 'saga.replies', 'shop'), ('t', '', 'saga.replies.shop'), ('t', null, 'saga.commands.payment'),
               ('saga.commands.payment', null, null)) as t (type, exchange, routing_key);
select lives_ok($$ insert into outbox.message (type, exchange, payload) values ('saga.commands.done', 'mine', '{}'), ('t', 'saga.events', '{}') $$, 'and writes to all others');
reset role;
set role sagapost_worker;
select lives_ok($$ insert into outbox.message (type, exchange, routing_key, payload) values ('t', 'saga.replies', 'shop', '{}') $$, 'a worker may');
reset role;
set role sagapost_relay;
select lives_ok('select * from outbox.message', 'the relay reads the log');
select lives_ok($$ update outbox.position set last_id = last_id $$, 'writes its position');
select throws_ok(statement, '42501', null, 'the relay: ' || statement)
  from unnest(array['truncate outbox.message_1', 'delete from outbox.message', 'insert into outbox.message (type, payload) values (''t'', ''{}'')',
                    'delete from outbox.position', 'delete from outbox.intent']) as statement;
reset role;
select 'sagapost_sql_test_' || pg_backend_pid() as nobody \gset
create role :nobody nologin;
set role :nobody;
select throws_ok($$ select outbox.publish('t', '{}') $$, '42501', null, 'who has no role of ours has nothing');
reset role;
drop role :nobody;

select * from finish();
