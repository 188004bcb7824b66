-- saga.maintain_outcomes: a partition a day, by the time inside the saga's id; what was dropped answers `expired`.
\ir lib/session.sql
\ir lib/participant.sql
select no_plan();
\set VERBOSITY terse

create function leaf_of(id uuid) returns text language sql as $$ select tableoid::regclass::text from saga.outcome where saga_id = id limit 1 $$;
create function day_of(at timestamptz) returns text language sql as $$ select 'saga.outcome_' || to_char(at at time zone 'utc', 'YYYYMMDD') $$;
-- A saga of that time, with an action done.
create function saga_at(at timestamptz) returns uuid language plpgsql as $$
begin
    update saga_of_test set id = overlay(gen_random_uuid()::text placing left(outbox.uuid_floor(at)::text, 13) from 1 for 13)::uuid;
    perform take(cmd('a'));
    return (select id from saga_of_test);
end
$$;

select is(count(*)::integer, 9, 'a day for today and each of the next seven, and one for all others')
from pg_inherits where inhparent = 'saga.outcome'::regclass;
select results_eq('select * from saga.maintain_outcomes()', 'select 0, 0', 'nothing is to do twice');
select is(leaf_of(saga_at(now())), day_of(now()), 'today');
select is(leaf_of(saga_at(now() + interval '3 days')), day_of(now() + interval '3 days'), 'a day to come');
select is(leaf_of(saga_at(now() + interval '30 days')), 'saga.outcome_default', 'a clock far ahead');
select is(leaf_of(saga_at(now() - interval '3 days')), 'saga.outcome_default', 'before there was a partition');
select is(outbox.uuid_floor('2026-01-02 00:00:00+00'), '019b7c01-0400-0000-0000-000000000000'::uuid, 'the lowest id of a time');
select throws_ok($$ select saga.maintain_outcomes(keep => '1 hour') $$, 'SG206', null, 'a day is kept at least');
select throws_ok($$ select saga.maintain_outcomes(days_ahead => 0) $$, 'SG206', null, 'and one made ahead');

-- A batch opens the partitions of its sagas' days and no others, however many days are kept: an index that is open is locked. Planning opens them all,
-- the first time and when statistics have changed; so the least of three tries counts.
create table opened (indexes bigint);
create procedure look(commands jsonb[]) language plpgsql as $$
begin
    truncate opened;
    for n in 1 .. 3 loop
        perform saga.read_batch(commands, null);
        insert into opened
        select count(*) from pg_locks l join pg_index i on i.indexrelid = l.relation join pg_inherits h on h.inhrelid = i.indrelid
        where l.pid = pg_backend_pid() and h.inhparent = 'saga.outcome'::regclass;
        commit;
    end loop;
end
$$;
update saga_of_test set id = overlay(id::text placing left(outbox.uuid_floor(now())::text, 13) from 1 for 13)::uuid;
select cmd('a') as today \gset
update saga_of_test set id = overlay(id::text placing left(outbox.uuid_floor(now() + interval '2 days')::text, 13) from 1 for 13)::uuid;
call look(array[:'today', cmd('b')]::jsonb[]);
select is(min(indexes)::integer, 3, 'a batch opens the outcomes of three days for sagas of today and in two days') from opened;
call look(array[:'today', jsonb_set(:'today', '{saga,step}', '"b"')]::jsonb[]);
select is(min(indexes)::integer, 1, 'of one day for sagas of today') from opened;
call look(array[:'today', '{}', '{"saga": {"id": "x"}}']::jsonb[]);
select is(min(indexes)::integer, 1, 'also among some that cannot be read') from opened;

-- More days: where outcomes lie in the default partition already, they stay there.
select saga_at(now() + interval '10 days') as ahead \gset
select results_eq('select * from saga.maintain_outcomes(days_ahead => 12)', 'select 4, 0', 'of five days more, four are made');
select is(to_regclass(day_of(now() + interval '10 days')), null, 'all but the one that has outcomes already');
select is(leaf_of(:'ahead'), 'saga.outcome_default', 'which stay where they are');

-- Old days. One is made by hand, as it would have been then.
do $$
begin
    execute format('create table %s partition of saga.outcome for values from (%L) to (%L)', day_of(now() - interval '20 days'),
                   outbox.uuid_floor(date_trunc('day', now() at time zone 'utc') at time zone 'utc' - interval '20 days'),
                   outbox.uuid_floor(date_trunc('day', now() at time zone 'utc') at time zone 'utc' - interval '19 days'));
end
$$;
select saga_at(now() - interval '20 days') as old \gset
select saga_at(now() - interval '25 days') as older \gset
select saga_at(now() - interval '9 days') as young \gset
truncate outbox.message;
select is(leaf_of(:'old'), day_of(now() - interval '20 days'), 'an old saga');
select results_eq($$ select * from saga.maintain_outcomes(keep => '10 days') $$, 'select 0, 0', 'the first call announces');
update saga_of_test set id = :'old';
select is(take(cmd('a')), 'expired', 'from then on it is expired');
select is(replies(), 'expired r1 a1 expired', 'and so it is answered');
select is(take(cmd('new')), 'expired', 'also to what never came');
select is(take(cmd('a', 'undo')) || take(cmd('a', 'probe')), 'expiredexpired', 'never "nothing to undo"');
select is(saga.reply(cmd('a'), 'failed', '{"code": "x"}'), 'repeated', 'a reply is too late');
select results_eq($$ select ordinal, verdict, outcome from saga.execute_batch(array[cmd('a'), cmd('a', 'undo')]) $$, $$ values (1, 'expired', 'expired'), (2, 'expired', 'expired') $$, 'in a batch too');
select is_empty($$ select from saga.outcome where step = 'new' $$, 'and nothing is written');
select results_eq($$ select * from saga.maintain_outcomes(keep => '10 days') $$, 'select 0, 1', 'the second drops');
select is(to_regclass(day_of(now() - interval '20 days')), null, 'the partition is gone');
select is_empty(format('select from saga.outcome where saga_id = %L', :'older'), 'so is what lay in the default partition');
select isnt_empty(format('select from saga.outcome where saga_id = %L', :'young'), 'but nothing younger');
update saga_of_test set id = :'old';
select is(take(cmd('a')), 'expired', 'dropped, it is still expired');
update saga_of_test set id = :'young';
select is(take(cmd('a')), 'repeated', 'a young one is not');
select results_eq($$ select * from saga.maintain_outcomes(keep => '60 days') $$, 'select 0, 0', 'to keep more from now on');
update saga_of_test set id = :'old';
select is(take(cmd('a')), 'expired', 'brings nothing back');

-- A drop waits for whoever read the horizon before it.
do $$
begin
    execute format('create table %s partition of saga.outcome for values from (%L) to (%L)', day_of(now() - interval '8 days'),
                   outbox.uuid_floor(date_trunc('day', now() at time zone 'utc') at time zone 'utc' - interval '8 days'),
                   outbox.uuid_floor(date_trunc('day', now() at time zone 'utc') at time zone 'utc' - interval '7 days'));
end
$$;
select saga_at(now() - interval '8 days') as racing \gset
call session_open('one');
call session_do('one', 'begin');
select is(session_get('one', $$ select verdict from saga.receive(cmd('race')) $$), 'execute', 'a command is being executed');
select results_eq($$ select * from saga.maintain_outcomes(keep => '5 days') $$, 'select 0, 0', 'its day is announced');
select throws_ok($$ select * from saga.maintain_outcomes(keep => '5 days') $$, '55P03', null, 'and cannot be dropped under it');
call session_do('one', $$ select saga.reply(cmd('race'), 'ok') $$);
call session_do('one', 'commit');
select results_eq($$ select * from saga.maintain_outcomes(keep => '5 days') $$, 'select 0, 1', 'after it, it is');

select * from finish();
