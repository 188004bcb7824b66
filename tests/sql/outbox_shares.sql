-- Shares: which messages are whose, and how their number changes.
\ir lib/session.sql
select plan(79);

create function turn(share integer, at_rest boolean, more bigint default 0) returns text language sql as $$
    select verdict || coalesce(' of ' || shares, '') || case when barrier is null then '' else ' up to the barrier' end
      from outbox.share_turn(share, (select p.epoch + more from outbox.position as p where p.share = turn.share), at_rest)
$$;
create function at_barrier(which integer) returns void language sql as $$ -- as a relay that has settled all that it sees
    update outbox.position set t1 = c.barrier, t2 = null, last_id = 0 from outbox.share_change as c where share = which
$$;
create function park(id bigint, key text) returns void language sql as $$
    insert into outbox.parked (id, message_id, share, key_hash, holds, created_at, type, key, exchange, routing_key, headers, payload, mandatory,
                               state, reason, next_attempt_at)
    select park.id, gen_random_uuid(), outbox.share_of(park.key, park.id, (select max(shares) from outbox.position)), hashtext(park.key),
           park.key is not null, now(), 't', park.key, '', 't', '{}', '{}', true, 'parked', 'returned', null
$$;
create view misplaced as
select 1 from outbox.parked where share <> outbox.share_of(key, id, (select max(shares) from outbox.position));

-- The hash is our own: these values hold on every version of PostgreSQL and every platform.
select results_eq($$ select outbox.share_of(key, 4017, 1000) from unnest(array['a', 'order-4711', 'Ünïcode', null]) as k (key) $$, $$ values (610), (211), (840), (17) $$,
                  'by the first four bytes of the key''s SHA-256; without a key by the id');
select is(count(*)::integer, 0, 'a share that is split goes to whole shares') from generate_series(1, 1000) as n
 where outbox.share_of('k' || n, n, 6) % 2 <> outbox.share_of('k' || n, n, 2);
select ok(min(rows) > 200 and max(rows) < 300, 'evenly') from (select count(*) as rows from generate_series(1, 1000) as n group by outbox.share_of('k' || n, n, 4)) as s;
select results_eq('select shares, at_rest from outbox.position', 'values (1, false)', 'one share from the beginning');
select is(turn(0, false), 'run of 1', 'which reads all');
select is(turn(0, true), 'run of 1', 'and has no reason to rest');
select is(turn(0, false, -1), 'lost', 'under another epoch it is another''s');
select is(turn(7, false), 'lost', 'and a share that is not there is nobody''s');

-- What may be asked.
select throws_ok('select outbox.change_shares(0)', 'SG104', 'the number of shares is 0, allowed is 1 to 64');
select throws_ok('select outbox.change_shares(65)', 'SG104', 'the number of shares is 65, allowed is 1 to 64');
select throws_ok('select outbox.change_shares(null)', 'SG104', 'the number of shares is null, allowed is 1 to 64');
select is(outbox.change_shares(1), 'nothing', 'as many as there are');
update outbox.position set database_oid = 1;
select throws_ok('select outbox.change_shares(2)', 'SG131', 'the position is of another server or database');
update outbox.position set database_oid = (select oid from pg_database where datname = current_database());
begin isolation level repeatable read;
select throws_ok('select outbox.change_shares(2)', 'SG102', 'the number of shares changes at READ COMMITTED only, and this transaction is REPEATABLE READ');
rollback;

-- A split: in the midst of a window.
do $$ begin
    perform park(n, case when n % 5 > 0 then 'k' || n end) from generate_series(1, 100) as n;
    update outbox.position set t2 = pg_current_snapshot(), last_id = 17, last_id_ever = 30, bound = 5, epoch = 8;
end $$;
call session_open('listener');
call session_do('listener', 'listen sagapost_outbox_0');
select is(outbox.change_shares(2), 'asked', 'another number is wanted');
select ok(wait_until($$ session_get('listener', 'select 1') = '1' and exists (select from dblink_get_notify('listener') where extra = 'shares') $$), 'its relay is told');
select is(turn(0, false), 'stop of 1', 'and asks: it is to come to rest');
select results_eq('select shares, at_rest from outbox.position', 'values (1, false)', 'nothing has changed yet');
select is(turn(0, true), 'rest of 1', 'it has');
select results_eq($$ select share, shares, at_rest, epoch, last_id, last_id_ever, bound, t2 is not null from outbox.position order by share $$,
                  $$ values (0, 2, false, 9::bigint, 17::bigint, 30::bigint, 5::bigint, true), (1, 2, false, 9, 17, 30, 5, true) $$,
                  'both begin where the one was, under a new epoch');
select is((select count(distinct (t1::text, t2::text))::integer from outbox.position), 1, 'in the same window');
select is(count(*)::integer, 0, 'what is parked went with its keys') from misplaced;
select is((select count(distinct share)::integer from outbox.parked), 2, 'to both');
select results_eq('select wanted, barrier is null from outbox.share_change', 'values (null::integer, true)', 'the change is over');
select is(turn(0, false, -1), 'lost', 'who owned it before may write nothing more');
select is(turn(1, false), 'run of 2', 'the new share is there');

-- Another number, that splits none: all come to one snapshot.
select is(outbox.change_shares(3), 'asked', 'three are wanted');
select is(turn(0, true), 'rest of 2', 'one is at rest');
select ok(barrier is null, 'as long as another reads there is no barrier') from outbox.share_change;
select is(turn(1, true), 'rest of 2', 'and the other');
select ok(barrier is not null, 'all at rest: the barrier') from outbox.share_change;
select is(turn(0, false), 'run of 2 up to the barrier', 'they go on, so far');
select is(turn(1, true), 'run of 2 up to the barrier', 'also one that rests too early');
do $$ begin perform at_barrier(0); end $$;
select is(turn(0, false), 'stop of 2', 'there it stops');
select is(turn(0, true), 'rest of 2', 'and waits for the other');
-- Taken back, and asked for again: that barrier is no more.
select is(outbox.change_shares(2), 'taken_back', 'taken back');
select is(turn(0, true), 'run of 2', 'who was at rest goes on');
select is(outbox.change_shares(3), 'asked', 'asked again');
select is(turn(0, true) || turn(1, true) || turn(0, false) || turn(1, false),
          'rest of 2rest of 2run of 2 up to the barrierrun of 2 up to the barrier', 'to another barrier');
do $$ begin perform at_barrier(n) from generate_series(0, 1) as n; end $$;
select is(turn(0, true) || turn(1, true), 'rest of 2rest of 2', 'both are there');
select results_eq($$ select share, shares, t2 is null, bound, last_id_ever from outbox.position order by share $$,
                  $$ values (0, 3, true, 5::bigint, 30::bigint), (1, 3, true, 5, 30), (2, 3, true, 5, 30) $$, 'three shares');
select is(count(*)::integer, 0, 'what is parked went with its keys again') from misplaced;

-- Many parked messages move in several steps, all of them at rest meanwhile; nothing is taken back, and a takeover finds no head of a key missing.
do $$ begin
    perform park(n, 'k' || n % 7) from generate_series(1001, 13000) as n;
    update outbox.parked set state = 'behind' where id >= 1008; -- each key has its head before
    perform outbox.change_shares(6);
    perform turn(n, true) from generate_series(0, 1) as n;
end $$;
select is(turn(2, true), 'rest of 3', 'all three are');
select is((select count(*)::integer from outbox.position), 6, 'there are six shares');
select ok(wanted = 6 and moved_id between 5000 and 6000, 'and the first of the messages are theirs') from outbox.share_change;
select ok(count(*) > 1000, 'not yet the others') from misplaced;
select results_eq('select distinct shares, at_rest from outbox.position', 'values (6, true)', 'so all stay at rest');
select is(turn(5, false), 'rest of 6', 'whoever asks');
select ok(moved_id between 10000 and 11500, 'and with each question some go on') from outbox.share_change;
select throws_ok('select outbox.change_shares(3)', 'SG132', 'the change to 6 shares is being completed');
set role sagapost_relay;
\set recover `sed '/^--/d' outbox/relay/sql/parked_recover.sql`
prepare recover(integer) as :recover
execute recover(0);
execute recover(3);
reset role;
select is(count(*)::integer, 0, 'a takeover tries no message before its turn') from outbox.parked where state = 'waiting';
select is(outbox.change_shares(6), 'changed', 'the command does it, too, without a relay');
select results_eq('select distinct shares, at_rest from outbox.position', 'values (6, false)', 'the shares go on');
select ok(wanted is null and moved_id is null and barrier is null, 'the change is over') from outbox.share_change;
select is(count(*)::integer, 0, 'all is where it belongs') from misplaced;
select is(turn(5, false), 'run of 6', 'and is relayed');
do $$ begin
    perform outbox.change_shares(3);
    perform turn(n, true) from generate_series(0, 5) as n;
    perform at_barrier(n) from generate_series(0, 5) as n;
    perform turn(n, true) from generate_series(0, 5) as n;
    while (select wanted is not null from outbox.share_change) loop
        perform outbox.change_shares(3);
    end loop;
end $$;
select is(count(*)::integer, 0, 'and back again') from misplaced;
delete from outbox.parked where id > 1000;

-- A relay that left in good order is at rest; so a split waits for nobody. Writers try the locks of all.
do $$ begin perform outbox.share_leave(n, (select epoch from outbox.position where share = n)) from generate_series(0, 2) as n; end $$;
select is(outbox.change_shares(6), 'changed', 'at once');
select ok(pg_get_triggerdef(oid) like '%LEAST(pg_try_advisory_xact_lock_shared(1397161985, 0), %, pg_try_advisory_xact_lock_shared(1397161985, 5)%', 'six locks')
  from pg_trigger where tgname = 'wake_relays';
select outbox.change_shares(1) \g /dev/null
do $$ begin perform turn(n, true) from generate_series(0, 5) as n; end $$;
do $$ begin perform at_barrier(n) from generate_series(0, 5) as n; perform turn(n, true) from generate_series(0, 5) as n; end $$;
select outbox.trim_wake_up() \g /dev/null
select ok(pg_get_triggerdef(oid) like '%(NOT pg_try_advisory_xact_lock_shared(1397161985, 0))%', 'one share, one lock') from pg_trigger where tgname = 'wake_relays';

-- What looks at the log goes by each row's own share: the backlog, and a rebase after dump and restore.
do $$ begin perform turn(0, false), outbox.change_shares(2); perform turn(0, true); end $$;
insert into outbox.message (type, key, payload) select 't', 'k' || n, '{}' from generate_series(1, 100) as n;
update outbox.position set t1 = pg_current_snapshot(), last_id_ever = (select max(id) from outbox.message), updated_at = clock_timestamp() where share = 0;
select count(*) as behind from outbox.message where outbox.share_of(key, id, 2) = 1 \gset
select results_eq('select share, rows, oldest_age > interval ''0'' from outbox.backlog order by share', format('values (0, 0::bigint, false), (1, %s::bigint, true)', :behind),
                  'the backlog of each is its own');
select is(outbox.change_shares(1), 'asked', 'a change is under way');
update outbox.position set system_identifier = system_identifier + 1;
select results_eq('select outcome, settled_rows, unsettled_rows from outbox.rebase()', format('values (''rebased''::text, %s::bigint, %s::bigint)', 100 - :behind, :behind),
                  'published is what the position of its share is past');
select ok(wanted is null, 'and the change is taken back') from outbox.share_change;
-- Restored from a dump in the midst of moving what is parked: the rebase brings that to its end.
do $$ begin
    perform park(n, 'k' || n % 7) from generate_series(1001, 7000) as n;
    perform outbox.change_shares(4), turn(0, true);
    perform turn(1, true);
end $$;
select ok(moved_id is not null, 'a change is being completed') from outbox.share_change;
update outbox.position set system_identifier = system_identifier + 1;
select is((select outcome from outbox.rebase()), 'rebased', 'a rebase waits for nobody');
select ok(wanted is null and moved_id is null, 'the change is over') from outbox.share_change;
select results_eq('select distinct shares, at_rest from outbox.position', 'values (4, false)', 'there are four shares');
select is(count(*)::integer, 0, 'and what is parked is theirs') from misplaced;
-- Restored while relays are on their way to the barrier, with messages set aside in each state.
do $$ begin
    update outbox.parked set state = case id % 3 when 0 then 'waiting' when 1 then 'behind' else 'parked' end, next_attempt_at = clock_timestamp();
    perform outbox.change_shares(3), turn(share, false) from generate_series(0, 3) as share;
    perform turn(share, true) from generate_series(0, 3) as share;
    perform at_barrier(1), turn(1, true);
    update outbox.position set t2 = pg_current_snapshot(), last_id = 40 where share = 2;
end $$;
create temporary table parked_before as select * from outbox.parked;
select ok(barrier is not null, 'some are at the barrier') from outbox.share_change;
update outbox.position set system_identifier = system_identifier + 1;
select is((select outcome from outbox.rebase()), 'rebased', 'a rebase does not wait for the others');
select ok(wanted is null and barrier is null, 'the barrier is gone, and the change with it') from outbox.share_change;
select results_eq('select count(*), count(distinct t1::text), count(t2), max(last_id) from outbox.position', 'values (4::bigint, 1::bigint, 0::bigint, 0::bigint)',
                  'all four shares begin at one snapshot');
select is(turn(1, false), 'run of 4', 'one that was at rest reads again');
select set_eq('select p::text from outbox.parked as p', 'select p::text from parked_before as p', 'what was set aside is as it was');
select is((select outcome from outbox.rebase()), 'nothing', 'a second rebase does nothing');
-- With an empty log, and a sequence that has given out nothing.
truncate outbox.message;
do $$ begin perform setval('outbox.message_id_seq', 1, false); end $$;
update outbox.position set system_identifier = system_identifier + 1, last_id_ever = 0, bound = 5;
select results_eq('select outcome, settled_rows, unsettled_rows from outbox.rebase()', 'values (''rebased''::text, 0::bigint, 0::bigint)', 'of an empty log');
select results_eq('select distinct bound from outbox.position', 'values (0::bigint)', 'the first id is not behind the bound');
do $$ begin perform outbox.publish('t', '{}'); end $$;
select is((select sum(rows)::integer from outbox.backlog), 1, 'and waits');
select * from finish();
