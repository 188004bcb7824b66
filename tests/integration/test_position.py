"""What SQL makes of the persisted positions, against a plain account of it: histories of chance of writers and of relays that settle in steps, of several
shares, and of the log on another server. Of each row it is known whether it was settled; the backlog, the ring, a replay, and a rebase have to say the same."""

import pathlib
import random
import threading

import psycopg2
import pytest

from harness.sandbox import Place
from harness.wait import wait_until

SQL = pathlib.Path(__file__).resolve().parents[2]
REPLAY_ROWS = (SQL / "saga" / "cli" / "sql" / "replay_rows.sql").read_text()
GHOSTS = (SQL / "outbox" / "relay" / "sql" / "ghosts.sql").read_text()
WRITERS, KEYS, LEAVES = 5, 4, 8
FOREIGN = 1_000_000  # by so much the transaction ids of the server before were higher


class Writer:
    """A connection of a service: transactions that stay open for a while, savepoints, prepared ones."""

    def __init__(self, place, chance, name):
        self.connection = place.connect(autocommit=False)
        self.chance, self.name = chance, name
        self.prepared = None
        self.cursor = self.connection.cursor()
        self.cursor.execute("set synchronous_commit = off")
        self.connection.commit()

    def step(self):
        what = self.chance.randrange(100)
        if self.prepared is not None:
            if what < 30:
                self.finish()
        elif what < 50:
            self.cursor.execute("set local sagapost.wakeup = 'off'")
            key = self.chance.choice([None, *(f"k{n}" for n in range(KEYS))])
            self.cursor.execute(
                "insert into outbox.message (slot, type, key, payload) select %s, 't', %s, '{}' from generate_series(1, %s)",
                (self.chance.randrange(LEAVES), key, self.chance.randrange(1, 4)),
            )
        elif what < 60:
            self.cursor.execute("select pg_current_xact_id()")  # it has its id long before a row
        elif what < 65:
            self.cursor.execute("savepoint a; insert into outbox.message (type, payload) values ('t', '{}'); rollback to a")
        elif what < 85:
            self.connection.commit()
        elif what < 92:
            self.connection.rollback()
        elif self.connection.info.transaction_status == 2:  # in one
            self.prepared = f"{self.connection.info.dbname}-{self.name}"
            self.cursor.execute(f"prepare transaction '{self.prepared}'")
            self.connection.rollback()

    def finish(self):
        if self.prepared is None:
            self.connection.commit()
            return
        self.connection.rollback()
        self.connection.autocommit = True
        self.cursor.execute(f"{self.chance.choice(['commit', 'rollback'])} prepared '{self.prepared}'")
        self.connection.autocommit = False
        self.prepared = None


class Relay:
    """A share's position, moved as a relay does: window by window, some rows at a time."""

    def __init__(self, world, share):
        self.world, self.share = world, share
        self.own = (0, 0)  # the sequence before a transaction of its own, and that

    def rows(self):
        """Of the open window, in order."""
        return self.world.sql(
            "select m.id from outbox.message as m, outbox.position as p where p.share = %s and pg_visible_in_snapshot(m.xid, p.t2)"
            " and not pg_visible_in_snapshot(m.xid, p.t1) and m.id > p.last_id and outbox.share_of(m.key, m.id, p.shares) = p.share order by m.id",
            (self.share,),
        )

    def step(self):
        world = self.world
        [(is_open, bound)] = world.sql("select t2 is not null, bound from outbox.position where share = %s", (self.share,))
        [(sequence,)] = world.sql("select case when is_called then last_value else last_value - 1 end from outbox.message_id_seq")
        if not is_open:
            [(t2,)] = world.sql("select pg_current_snapshot()::text")
            world.sql("update outbox.position set t2 = %s, updated_at = clock_timestamp() where share = %s", (t2, self.share))
            return
        rows = [row[0] for row in self.rows()]
        if len(rows) > 0 and world.chance.randrange(3) > 0:
            rows = rows[: world.chance.randrange(1, len(rows) + 1)]
            ended = "last_id = %(last)s"
        else:
            before, xact = self.own
            [(xmax,)] = world.sql("select pg_snapshot_xmax(t2)::text::bigint from outbox.position where share = %s", (self.share,))
            bound = max(bound, before) if 0 < xact < xmax else bound
            ended = "t1 = t2, t2 = null, last_id = 0, bound = %(bound)s"
        [(xact,)] = world.sql(
            f"update outbox.position set {ended}, last_id_ever = greatest(last_id_ever, %(highest)s), updated_at = clock_timestamp()"
            " where share = %(share)s returning pg_current_xact_id()::text::bigint",
            {"last": rows[-1] if rows else 0, "highest": max(rows, default=0), "share": self.share, "bound": bound},
        )
        self.own = (sequence, xact)
        world.settled.update(rows)


class World:
    def __init__(self, place, chance):
        self.place, self.chance = place, chance
        self.connection = place.connect()
        self.cursor = self.connection.cursor()
        self.cursor.execute("set synchronous_commit = off")
        self.settled = set()  # ids
        self.writers = [Writer(place, chance, f"w{n}") for n in range(WRITERS)]
        self.relays = [Relay(self, 0)]

    def sql(self, text, parameters=None):
        self.cursor.execute(text, parameters)
        return self.cursor.fetchall() if self.cursor.description else []

    def split(self, shares):
        """Each share into whole ones, in the midst of their windows."""
        for writer in self.writers:  # a new trigger waits for them
            writer.finish()
        self.sql("select outbox.change_shares(%s)", (shares,))
        for relay in self.relays:
            self.sql("select outbox.share_turn(share, epoch, true) from outbox.position where share = %s", (relay.share,))
        self.relays = [Relay(self, share) for (share,) in self.sql("select share from outbox.position order by share")]
        assert len(self.relays) == shares

    def check(self):
        log = self.sql(
            "select m.id, m.slot, outbox.share_of(m.key, m.id, p.shares) from outbox.message as m cross join (select max(shares) from outbox.position) as p (shares)"
        )
        unsettled = [row for row in log if row[0] not in self.settled]
        for share, rows, age in self.sql("select share, rows, extract(epoch from oldest_age) from outbox.backlog"):
            assert rows == sum(row[2] == share for row in unsettled)
            assert (age > 0) == (rows > 0)
        for slot, refusal in self.sql("select slot, outbox.leaf_refusal(relation) from outbox.leaf"):
            has = any(row[1] == slot for row in unsettled)
            assert refusal == "unsettled" if has else refusal is None or len(self.relays) > 1  # each has to be behind all rows of a leaf
        self.sql(f"prepare replay as {REPLAY_ROWS}")
        replayed = self.sql("execute replay (0, 9223372036854775807, '-infinity', 'infinity', null, null, 1000000, 1000000000)")
        self.sql("deallocate replay")
        assert {row[0] for row in replayed} == {row[0] for row in log} & self.settled

    def live(self, steps):
        for _ in range(steps):
            self.chance.choice(self.writers).step()
            if self.chance.randrange(3) == 0:
                self.chance.choice(self.relays).step()
            if self.chance.randrange(40) == 0:
                self.check()

    def move(self, sequence_late):
        """As dump and restore: what had not committed is gone, the rest has the transaction ids of a server that was further."""
        for writer in self.writers:
            writer.finish()
        self.sql(f"update outbox.message set xid = (xid::text::bigint + {FOREIGN})::text::xid8")
        shifted = (
            "(select min(n) || ':' || max(n) || ':' || coalesce((select string_agg((x::text::bigint + {0})::text, ',' order by x) from pg_snapshot_xip({1}) as x), '')"
            " from (values (pg_snapshot_xmin({1})::text::bigint + {0}), (pg_snapshot_xmax({1})::text::bigint + {0})) as v (n))::pg_snapshot"
        )
        self.sql(
            f"update outbox.position set system_identifier = 1, t1 = {shifted.format(FOREIGN, 't1')},"
            f" t2 = case when t2 is not null then {shifted.format(FOREIGN, 't2')} end"
        )
        [(sequence,)] = self.sql("select last_value from outbox.message_id_seq")
        if sequence_late:
            self.sql("select setval('outbox.message_id_seq', 1, false)")
        for _ in range(30):
            self.chance.choice(self.writers).step()
        for writer in self.writers:
            writer.finish()
        if sequence_late:
            here = self.sql("select message_id from outbox.message where xid < %s::text::xid8 order by created_at", (FOREIGN,))
            self.sql("select setval('outbox.message_id_seq', greatest(%s, (select max(id) from outbox.message)))", (sequence,))
        settled_rows = {row[0] for row in self.sql("select id from outbox.message where xid >= %s::text::xid8", (FOREIGN,))} & self.settled
        [(outcome, settled, unsettled)] = self.sql("select * from outbox.rebase()")
        assert outcome == "rebased"
        assert {row[0] for row in self.sql("select id from outbox.message where xid = '3'")} == settled_rows
        assert (settled, unsettled) == self.sql("select count(*) filter (where xid = '3'), count(*) filter (where xid <> '3') from outbox.message")[0]
        if sequence_late:  # in the order in which they were written, behind all that came with the dump
            moved = self.sql("select message_id from outbox.message where message_id = any (%s::uuid[]) order by id", ([row[0] for row in here],))
            assert moved == here
            assert self.sql("select id from outbox.message group by id having count(*) > 1") == []
        for relay in self.relays:
            relay.own = (0, 0)
        assert self.sql("select outcome from outbox.rebase()") == [("nothing",)]

    def end(self):
        """All that committed is settled in the end."""
        for writer in self.writers:
            writer.finish()
        for relay in self.relays:
            wait_until(lambda share=relay: share.step() or self.sql("select rows from outbox.backlog where share = %s", (share.share,)) == [(0,)], 30)
        self.check()
        assert {row[0] for row in self.sql("select id from outbox.message")} <= self.settled


def run(place, seed, lives):
    world = World(place, random.Random(seed))
    for number in range(lives):
        world.live(world.chance.randrange(40, 120))
        if number % 3 == 1:
            world.move(sequence_late=number % 2 == 1)
            world.check()
        elif number % 3 == 2 and len(world.relays) < 4:
            world.split(len(world.relays) * 2)
    world.end()


def test_histories(place, seed):
    run(place, seed, 4)


@pytest.mark.long
def test_many_histories(sandbox, seed):
    for more in range(30):
        place = Place(sandbox)
        run(place, seed + 1 + more, 12)
        place.close()


def test_a_rebase_that_is_killed_has_done_nothing(place):
    connection = place.connect(autocommit=False)
    cursor = connection.cursor()
    place.sql("select outbox.publish('order', '{}') from generate_series(1, 100)")
    place.sql("update outbox.position set system_identifier = 1")
    before = place.sql("select xid::text, id from outbox.message order by id"), place.sql("select * from outbox.position")
    cursor.execute("select from outbox.position for update")  # the last that it changes: the log is rewritten by then
    rebasing = place.connect()
    pid = rebasing.info.backend_pid
    failed = []

    def rebase():
        try:
            rebasing.cursor().execute("select outbox.rebase()")
        except psycopg2.Error as error:
            failed.append(error)

    thread = threading.Thread(target=rebase)
    thread.start()
    wait_until(lambda: place.value("select wait_event_type = 'Lock' from pg_stat_activity where pid = %s", (pid,)), 10)
    place.sql("select pg_terminate_backend(%s)", (pid,))
    thread.join(10)
    assert failed
    connection.rollback()
    assert (place.sql("select xid::text, id from outbox.message order by id"), place.sql("select * from outbox.position")) == before
    assert place.sql("select outcome, settled_rows, unsettled_rows from outbox.rebase()") == [("rebased", 0, 100)]


def test_a_leaf_that_was_emptied_before_an_older_one_makes_no_ghosts(place):
    """An open transaction keeps a leaf, and the next one goes: what was in that is no ghost."""
    place.sql("insert into outbox.message (slot, type, payload) select slot, 't', '{}' from unnest(array[1, 1, 2, 2, 3, 3, 3]) as slot")
    confirmed = place.sql("select id, message_id from outbox.message order by id")
    place.sql("update outbox.position set last_id_ever = 7")
    place.sql("truncate only outbox.message_2")
    place.sql("delete from outbox.message where id = 6")  # as if its transaction had never come here
    confirmed.append((9, "00000000-0000-7000-8000-000000000009"))
    cursor = place.connect().cursor()
    cursor.execute(f"prepare ghosts as {GHOSTS}")
    cursor.execute("execute ghosts (0, %s::bigint[], %s::uuid[])", tuple(map(list, zip(*confirmed))))
    assert sorted(row[0] for row in cursor) == sorted(message_id for id, message_id in confirmed if id in (6, 9))
