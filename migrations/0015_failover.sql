-- part: outbox
-- The log on another server.
--
-- Its identity. A position names transaction ids, and those of one server mean nothing on another: after dump and restore the relay
-- refuses to start until outbox.rebase has said what of the log is published.

-- Makes the log and the positions this server's. For the owner of the schema. Gives what it did: rebased | renamed (same_xids) | nothing (they are
-- this server's already); and after rebased how many rows of the log are settled and how many are still to be published.
--
-- same_xids false: after dump and restore. A row is published if its old transaction id is settled by the old positions *and* its id is at
-- most the highest one ever settled: rows that were written here before the rebase have this server's small transaction ids, which the old
-- snapshots would take for long settled ones, but ids from a sequence that has passed all of the dump's. The old transaction ids must not stay in
-- the log: once this server's own counter comes by, they would be published anew. So published rows get the one that every snapshot sees
-- (3, what frozen rows had once), all others that of this transaction, and the position begins at a snapshot from before it: they are one
-- window of the relay, in the order of their ids. Rows of outbox.parked are whole copies and hold no transaction ids: they stay as they are.
-- With several shares a row is judged by the position of its own. A change of their number that is under way is taken back: the snapshot that all are
-- to come to is of the old server.
-- Rows that were written here before the sequence was restored have ids of the dump's: such a one is younger than the last write of a position, and its
-- id was settled by then or is an older row's. With them all younger rows, which were written here too, get new ids, in the order of their creation.
--
-- same_xids true: after pg_upgrade, or in a copy of the database on the same server; the rows and snapshots stay, the name changes.
create function outbox.rebase(same_xids boolean default false, out outcome text, out settled_rows bigint, out unsettled_rows bigint)
    language plpgsql volatile set search_path = pg_catalog, pg_temp set lock_timeout = '10s' set jit = off
as $$
declare
    server      bigint := (select system_identifier from pg_control_system());
    database    oid := (select oid from pg_database where datname = current_database());
    pos         outbox.position;
    here        pg_snapshot;
    sequence_at bigint;
    settled_to  bigint;
    last_row    bigint;
    first_row   bigint;
    cache       bigint;
    here_since  timestamptz;
    renumbered  record;
begin
    if current_setting('transaction_isolation') <> 'read committed' or pg_current_xact_id_if_assigned() is not null then
        raise exception using
            errcode = 'SG102',
            message = 'outbox.rebase works at READ COMMITTED only, and as the first statement of its transaction',
            hint = 'Call it as sagapost outbox rebase does: alone.';
    end if;
    if not exists (select from outbox.position where (system_identifier, database_oid) is distinct from (server, database)) then
        outcome := 'nothing';
        return;
    end if;
    for pos in select * from outbox.position order by share loop
        if not pg_try_advisory_xact_lock(1397161986, pos.share) then
            raise exception using errcode = 'SG121', message = format('a relay holds share %s: stop it first', pos.share);
        end if;
    end loop;
    -- Waits for every transaction that has written to the log here. Those that write later are in progress in the snapshot, or begin after it.
    begin
        lock table outbox.message in share row exclusive mode;
    exception
        when lock_not_available then
            raise exception using
                errcode = 'lock_not_available',
                message = 'lock timeout: a transaction that has written to the log is open'
                          || coalesce((select format('; prepared here: %s', string_agg(quote_literal(x.gid), ', ' order by x.prepared))
                                         from pg_prepared_xacts as x where x.database = current_database() having count(*) > 0), ''),
                hint = 'pg_locks shows who holds a lock on outbox.message; pid is null for a prepared transaction.';
    end;
    here := pg_current_snapshot();
    if pg_current_xact_id_if_assigned() is not null then
        raise exception 'outbox.rebase: its transaction has an id before its snapshot';
    end if;

    while (select moved_id is not null from outbox.share_change) loop -- what has begun is brought to its end
        perform outbox.move_parked();
    end loop;
    update outbox.share_change set wanted = null, barrier = null;
    if same_xids then
        for pos in select * from outbox.position loop
            if pg_snapshot_xmax(coalesce(pos.t2, pos.t1)) > pg_snapshot_xmax(here) then
                raise exception using
                    errcode = 'SG122',
                    message = format('the position of share %s is at transaction id %s, and this server is only at %s: its transaction ids are not the same',
                                     pos.share, pg_snapshot_xmax(coalesce(pos.t2, pos.t1)), pg_snapshot_xmax(here)),
                    hint = 'After dump and restore: sagapost outbox rebase, without --same-xids.';
            end if;
        end loop;
        update outbox.position
           set system_identifier = server, database_oid = database, epoch = epoch + 1, relay = null, updated_at = clock_timestamp();
        outcome := 'renamed';
        return;
    end if;

    cache := (select seqcache from pg_sequence where seqrelid = 'outbox.message_id_seq'::regclass);
    if cache <> 1 then
        raise exception using
            errcode = 'SG122',
            message = format('the sequence outbox.message_id_seq has CACHE %s: ids that sessions took ahead do not rise', cache),
            hint = 'alter sequence outbox.message_id_seq cache 1, and let the services connect anew.';
    end if;
    sequence_at := (select case when is_called then last_value else last_value - 1 end from outbox.message_id_seq);
    settled_to := (select max(last_id_ever) from outbox.position);
    last_row := coalesce((select id from outbox.message order by id desc limit 1), 0);
    if sequence_at < greatest(settled_to, last_row) then
        raise exception using
            errcode = 'SG122',
            message = format('the sequence outbox.message_id_seq is at %s, behind id %s in the log or the position: it was not restored with them',
                             sequence_at, greatest(settled_to, last_row)),
            hint = format('Run select setval(''outbox.message_id_seq'', %s) and try again: rows that were written here with ids of the dump get new ones.',
                          greatest(settled_to, last_row));
    end if;

    here_since := (select min(created_at)
                     from (select m.created_at, m.id, lag(m.id) over (order by m.id, m.created_at) as id_before from outbox.message as m) as row_of_log
                    where created_at > (select max(updated_at) from outbox.position) and (id = id_before or id <= settled_to));
    if here_since is not null then
        for renumbered in
            select tableoid, ctid from outbox.message where created_at >= here_since order by created_at, id
        loop
            update outbox.message set id = nextval('outbox.message_id_seq') where tableoid = renumbered.tableoid and ctid = renumbered.ctid;
        end loop;
    end if;

    update outbox.message as m
       set xid = case when m.id <= settled_to
                      and (select bool_and(pg_visible_in_snapshot(m.xid, p.t1)
                                           or p.t2 is not null and m.id <= p.last_id and pg_visible_in_snapshot(m.xid, p.t2))
                             from outbox.position as p
                            where p.shares = 1 or p.share = outbox.share_of(m.key, m.id, p.shares))
                      then '3'::xid8 else pg_current_xact_id() end;
    select count(*) filter (where xid = '3'), count(*) filter (where xid <> '3'), min(id) filter (where xid <> '3')
      into settled_rows, unsettled_rows, first_row
      from outbox.message;
    -- The lock on the log keeps the sequence where it is: no row to come has an id up to the bound.
    update outbox.position
       set system_identifier = server, database_oid = database, epoch = epoch + 1, relay = null, t1 = here, t2 = null, last_id = 0,
           bound = coalesce(first_row - 1, sequence_at), updated_at = clock_timestamp();
    outcome := 'rebased';
end
$$;

revoke all on function outbox.rebase(boolean) from public;

-- How far the log is flushed here and on each of these standbys, as bytes from its beginning, and which of them are not connected. A name that
-- is this server's cluster_name is this server.
-- For a relay with publish-after = replicated(...). What pg_stat_replication shows of a standby takes pg_read_all_stats, with which one would also
-- read everybody's queries: so the relay asks this function, and the schema's owner has to have that right (or pg_monitor, or be a superuser).
-- Without it every standby counts as not connected.
create function outbox.flushed_by(names text[], out flush_lsn bigint, out missing text)
    language sql volatile security definer set search_path = pg_catalog, pg_temp
begin atomic
    select least((pg_current_wal_flush_lsn() - '0/0'::pg_lsn)::bigint, min(coalesce(standby.flush_lsn, 0))),
           string_agg(name, ', ') filter (where standby.flush_lsn is null)
      from unnest(names) as name
     cross join lateral (select case when name = current_setting('cluster_name') then (pg_current_wal_flush_lsn() - '0/0'::pg_lsn)::bigint
                                     else max((r.flush_lsn - '0/0'::pg_lsn)::bigint) end as flush_lsn
                           from pg_stat_replication as r
                          where r.application_name = name) as standby;
end;

revoke all on function outbox.flushed_by(text[]) from public;
grant execute on function outbox.flushed_by(text[]) to sagapost_relay;

-- What a relay with publish-after = flushed had sent and a promoted server never got (outbox/relay/ownership/ghosts.h). Nobody but a person takes rows away.
create table outbox.ghost (
    message_id uuid not null,
    id         bigint not null, -- it had in the log
    share      integer not null,
    found_at   timestamptz not null default clock_timestamp(),
    primary key (message_id, id)
);
grant insert (message_id, id, share), select on outbox.ghost to sagapost_relay;
grant select on outbox.ghost to sagapost_operator, sagapost_reader;
