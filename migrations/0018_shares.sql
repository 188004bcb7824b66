-- part: outbox
-- Shares: slices of the keys, a relay for each, and how their number changes under load.
--
-- A share is a row of outbox.position; its rows of the log are those whose outbox.share_of is its number. The number of shares changes in steps that any
-- relay, or the command, takes as soon as it can be taken: whoever dies in between, another goes on.
--
-- 1. outbox.change_shares writes down how many are wanted. Each relay brings what it has in flight to its end, persists its position, and is at rest:
--    outbox.share_turn marks it.
-- 2. All at rest: nobody reads. When each old share is split into whole new ones (1 to 2, 2 to 6), every new one begins where its old one stands, in
--    the midst of a window and of a backlog: go to 4.
-- 3. Otherwise keys of shares that stand at different places would come together. A snapshot is taken, the barrier: a real one, taken while
--    nobody reads, so that no position is past it. Each relay settles what the barrier sees, and is at rest again.
-- 4. All at rest, and where they must be: in one transaction the positions are those of the new shares, and every epoch rises, so that a relay that
--    knows nothing of it can persist nothing. From here on there are so many, and the change can no longer be taken back.
-- 5. Parked messages become those of the new shares: some thousands in the same transaction, and with it the change is over. Where there are more, the
--    others follow, so many at a time, and until all have all stay at rest: a statement that is longer than lease-term would cost its relay the
--    share, a standby would end it, and the next one would begin anew.
--
-- What makes it right: only the owner of a share marks it at rest, under its epoch and after RabbitMQ has let nobody else publish for it (outbox/relay/ownership/fence.h); and it
-- sends nothing more before it has asked again. Every question and every step holds the row of outbox.share_change, so that a relay cannot begin to
-- read beside a step that was taken because it did not.

-- Takes what steps can be taken now. The caller holds the row of outbox.share_change.
create function outbox.share_step() returns void
    language plpgsql volatile set search_path = pg_catalog, pg_temp
as $$
declare
    change     outbox.share_change;
    before     integer;
    resting    boolean;
    arrived    boolean;
    next_epoch bigint;
begin
    select * into change from outbox.share_change;
    perform from outbox.position order by share for update;
    select max(p.shares), bool_and(p.at_rest), bool_and(p.t2 is null and p.t1::text = change.barrier::text), max(p.epoch) + 1
      into before, resting, arrived, next_epoch
      from outbox.position as p;
    if change.moved_id is not null then
        perform outbox.move_parked();
        return;
    elsif change.wanted is null or not resting then
        return;
    end if;
    if change.wanted % before <> 0 then
        if change.barrier is null then
            update outbox.share_change set barrier = pg_current_snapshot();
            perform outbox.tell_relays(before);
            return;
        elsif not arrived then
            return;
        end if;
        update outbox.position -- all are at one snapshot: what is known of one holds for all
           set last_id = 0, bound = (select max(bound) from outbox.position), last_id_ever = (select max(last_id_ever) from outbox.position);
        delete from outbox.position where share >= change.wanted;
    end if;
    insert into outbox.position (share, system_identifier, database_oid, t1, t2, last_id, last_id_ever, bound)
    select added, p.system_identifier, p.database_oid, p.t1, p.t2, p.last_id, p.last_id_ever, p.bound
      from generate_series(before, change.wanted - 1) as added
      join outbox.position as p on p.share = added % before;
    update outbox.position
       set epoch = next_epoch, shares = change.wanted, at_rest = true, updated_at = clock_timestamp();
    update outbox.share_change set barrier = null, moved_id = 0;
    perform outbox.move_parked();
    perform outbox.tell_relays(greatest(before, change.wanted));
end
$$;

-- The next parked messages go to their shares; after the last ones the shares go on. Nobody else writes to outbox.parked meanwhile, and no relay
-- looks there for messages whose turn it is (the head of a key may be at its new share and what waits behind it not yet). The caller holds the row
-- of outbox.share_change.
create function outbox.move_parked() returns void
    language plpgsql volatile set search_path = pg_catalog, pg_temp
as $$
declare
    messages_most constant integer := 5000; -- a tenth of a second, or a second on a busy server
    change  outbox.share_change;
    looked  integer;
    last    bigint;
begin
    select * into change from outbox.share_change;
    select count(*), max(id) into looked, last
      from (select p.id from outbox.parked as p where p.id > change.moved_id order by p.id limit messages_most) as piece;
    update outbox.parked as p
       set share = outbox.share_of(p.key, p.id, change.wanted)
     where p.id > change.moved_id and p.id <= last and p.share <> outbox.share_of(p.key, p.id, change.wanted);
    if looked = messages_most then
        update outbox.share_change set moved_id = last;
        perform pg_notify('sagapost_outbox_0', 'shares'); -- for the next ones; the other relays ask now and then
        return;
    end if;
    update outbox.position set at_rest = false;
    update outbox.share_change set wanted = null, barrier = null, moved_id = null;
    perform outbox.tell_relays(change.wanted);
end
$$;

-- Every relay of so many shares is to ask for its turn.
create function outbox.tell_relays(shares integer) returns void
    language sql volatile set search_path = pg_catalog, pg_temp
    return (select count(pg_notify('sagapost_outbox_' || share, 'shares')::text) from generate_series(0, shares - 1) as share);

-- For the relay that owns a share, under its epoch: what it is to do.
--   run   read and publish: with a barrier, what that sees and nothing else; its rows are those of this share of so many
--   stop  bring what is in flight to its end, persist the position, and ask again with at_rest
--   rest  send nothing; ask again when told, or now and then
--   lost  the share is another's by now, or there is none of this number: begin again
-- at_rest: nothing of it is in flight, its position is persisted, and RabbitMQ lets nobody else publish for the share.
create function outbox.share_turn(share integer, epoch bigint, at_rest boolean, out verdict text, out barrier pg_snapshot, out shares integer)
    language plpgsql volatile security definer set search_path = pg_catalog, pg_temp
as $$
declare
    change outbox.share_change;
    pos    outbox.position;
    rests  boolean;
begin
    perform outbox.share_lock();
    select * into change from outbox.share_change;
    select p.* into pos from outbox.position as p where p.share = share_turn.share and p.epoch = share_turn.epoch;
    if not found then
        verdict := 'lost';
        return;
    end if;
    shares := pos.shares;
    if change.wanted is null or change.barrier is not null and not (pos.t2 is null and pos.t1::text = change.barrier::text) then
        verdict := 'run';
        barrier := change.barrier;
    else
        verdict := case when share_turn.at_rest or pos.at_rest then 'rest' else 'stop' end;
    end if;
    rests := verdict = 'rest';
    if rests <> pos.at_rest then
        update outbox.position as p set at_rest = rests where p.share = share_turn.share;
    end if;
    if rests then
        perform outbox.share_step();
    end if;
end
$$;

-- For the relay that gives a share back in good order: what at_rest says above is so, also when no change is under way; one that is asked for while
-- nobody owns the share need not wait for that.
create function outbox.share_leave(share integer, epoch bigint) returns void
    language plpgsql volatile security definer set search_path = pg_catalog, pg_temp
as $$
begin
    perform outbox.share_lock();
    update outbox.position as p set at_rest = true where p.share = share_leave.share and p.epoch = share_leave.epoch;
    perform outbox.share_step();
end
$$;

-- Whoever holds it sees what the one before has done, and keeps the next one waiting.
create function outbox.share_lock() returns void
    language plpgsql volatile set search_path = pg_catalog, pg_temp
as $$
begin
    if current_setting('transaction_isolation') <> 'read committed' then
        raise exception using errcode = 'SG102',
                              message = format('the number of shares changes at READ COMMITTED only, and this transaction is %s',
                                               upper(current_setting('transaction_isolation')));
    end if;
    perform from outbox.share_change for update;
end
$$;

-- Writers try the wake-up lock of so many shares. Takes the log's lock against writers for a moment, and gives up (55P03) rather than make them wait for a long
-- transaction.
create function outbox.wake_shares(shares integer) returns void
    language plpgsql volatile set search_path = pg_catalog, pg_temp set lock_timeout = '1s'
as $$
declare
    tries text;
begin
    if (select tgargs = convert_to(shares::text, 'UTF8') || E'\\x00' from pg_trigger
         where tgrelid = 'outbox.message'::regclass and tgname = 'wake_relays') then
        return;
    end if;
    select string_agg(format('pg_try_advisory_xact_lock_shared(1397161985, %s)', share), ', ' order by share) into tries
      from generate_series(0, shares - 1) as share;
    execute format('create or replace trigger wake_relays after insert on outbox.message for each statement
                    when (not %s(%s)) execute function outbox.wake_relays(%L)', case when shares > 1 then 'least' else '' end, tries, shares);
end
$$;

-- Asks for so many shares; the relays do it (see above), and `sagapost outbox shares N` shows how far they are. With as many as there are, it takes back a
-- change that is under way; from step 4 on it helps to bring it to its end, and no other number can be asked for. For the owner of the schema.
-- Gives asked | taken_back | nothing (there are so many, and no other number is wanted) | changed (at once: all relays were at rest already).
-- Writers try the lock of a share before it can have a sleeping relay; one of a share that is gone does no harm, and outbox.trim_wake_up ends it.
create function outbox.change_shares(wanted integer) returns text
    language plpgsql volatile set search_path = pg_catalog, pg_temp
as $$
declare
    change outbox.share_change;
    before integer;
begin
    if wanted is null or wanted not between 1 and 64 then
        raise exception using errcode = 'SG104', message = format('the number of shares is %s, allowed is 1 to 64', coalesce(wanted::text, 'null'));
    end if;
    perform outbox.share_lock();
    select * into change from outbox.share_change;
    select max(p.shares) into before from outbox.position as p;
    if before is null then
        raise exception using errcode = 'SG131', message = 'there is no share in outbox.position';
    end if;
    if exists (select from outbox.position
                where (system_identifier, database_oid)
                      is distinct from ((select c.system_identifier from pg_control_system() as c), (select oid from pg_database where datname = current_database()))) then
        raise exception using errcode = 'SG131', message = 'the position is of another server or database',
                              hint = 'After dump and restore run sagapost outbox rebase first, after pg_upgrade sagapost outbox rebase --same-xids.';
    end if;
    if change.moved_id is not null then
        if wanted <> before then
            raise exception using errcode = 'SG132', message = format('the change to %s shares is being completed', before),
                                  detail = 'Parked messages are still being moved to their new shares.',
                                  hint = format('sagapost outbox shares %s waits for it; then ask again.', before);
        end if;
        perform outbox.share_step();
        return case when (select c.wanted is null from outbox.share_change as c) then 'changed' else 'asked' end;
    end if;
    perform outbox.wake_shares(greatest(before, wanted));
    if wanted = before then
        update outbox.share_change as c set wanted = null, barrier = null;
    elsif change.wanted is distinct from wanted then
        update outbox.share_change as c
           set wanted = change_shares.wanted, barrier = null, asked_by = session_user, asked_at = clock_timestamp();
    end if;
    if wanted <> before then
        perform outbox.share_step();
    elsif change.wanted is null then
        return 'nothing';
    end if;
    perform outbox.tell_relays(before);
    return case when wanted = before then 'taken_back'
                when (select c.wanted is null from outbox.share_change as c) then 'changed'
                else 'asked' end;
end
$$;

-- After a change: writers try the locks of the shares that there are, and no others. For the owner of the schema.
create function outbox.trim_wake_up() returns void
    language plpgsql volatile set search_path = pg_catalog, pg_temp
as $$
begin
    perform outbox.share_lock();
    if (select wanted is null from outbox.share_change) then
        perform outbox.wake_shares((select max(shares) from outbox.position));
    end if;
end
$$;

revoke all on function outbox.share_step(), outbox.move_parked(), outbox.tell_relays(integer), outbox.share_turn(integer, bigint, boolean),
                       outbox.share_leave(integer, bigint), outbox.share_lock(), outbox.wake_shares(integer), outbox.change_shares(integer), outbox.trim_wake_up() from public;
grant execute on function outbox.share_turn(integer, bigint, boolean), outbox.share_leave(integer, bigint) to sagapost_relay;
