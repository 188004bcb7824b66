"""The log on another server: dumped and restored, or upgraded. Each test ends with the ledger."""

import os
import pathlib
import shutil
import subprocess

import pytest

from harness import ledger
from harness.ledger import relay
from harness.sandbox import Place, Postgres
from harness.wait import patient, wait_until

BIN = sorted(pathlib.Path("/usr/lib/postgresql").glob("*/bin"), key=lambda path: int(path.parent.name))[-1]
# An account's next message from outside of the writers.
PUBLISH = (
    "with p as (select outbox.publish(%(type)s, jsonb_build_object('key', %(key)s::text, 'number', %(number)s::bigint), key => %(key)s) as id)"
    " insert into ledger.sent (message_id, key, number) select id, %(key)s, %(number)s from p"
)


def publish(connection, key, number=1, type_name=ledger.QUEUE):
    connection.cursor().execute(PUBLISH, {"type": type_name, "key": key, "number": number})


@pytest.fixture
def elsewhere(sandbox):
    """elsewhere("name") starts one more PostgreSQL."""
    servers = []

    def start(name):
        servers.append(Postgres(sandbox, name))
        return servers[-1]

    yield start
    for server in servers:
        server.stop()


def run(command, **keywords):
    done = subprocess.run(command, stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=patient(120), check=False, **keywords)
    assert done.returncode == 0, f"{command}: {done.stdout}{done.stderr}"


def dump_and_restore(place, other, folder):
    dump = folder / "dump"
    roles = folder / "roles.sql"
    run([BIN / "pg_dumpall", "-d", place.conninfo, "--roles-only", "-f", roles])
    run([BIN / "psql", "-q", "-d", other.conninfo, "-f", roles])  # the role that we log in as is there already
    run([BIN / "pg_dump", "-d", place.conninfo, "-Fc", "-f", dump])
    run([BIN / "pg_restore", "--exit-on-error", "-d", other.conninfo, dump])


def burn_xids(place, number):
    """Transaction ids of the dump come round here too: no old row may come alive then."""
    connection = place.connect()
    connection.cursor().execute("set synchronous_commit = off")
    connection.cursor().execute(f"do $$ begin for i in 1..{int(number)} loop perform pg_current_xact_id(); commit; end loop; end $$")


def other_place(sandbox, place, server):
    here = Place(sandbox, migrate=False, server=server)
    here.amqp_uri = place.amqp_uri
    return here


def stop_settled(place, daemon):
    """Stops a relay that has nothing more to do."""
    wait_until(lambda: place.value("select rows from outbox.backlog") == 0, 30, "all is settled")
    assert daemon.terminate() == 0


def check_leaves_can_go(place):
    """Once all is settled, nothing keeps the ring's leaves."""
    wait_until(
        lambda: place.value("select bool_and(outbox.leaf_refusal(relation) is null) from outbox.leaf"),
        30,
        lambda: place.sql("select slot, outbox.leaf_refusal(relation) from outbox.leaf"),
    )


@pytest.mark.parametrize("window_open", [False, True])
def test_dump_and_restore_with_writers_before_the_rebase(sandbox, place, daemons, consumer, writers, elsewhere, tmp_path, window_open):
    daemon = relay(daemons, "--unroutable-grace", "0ms").wait_ready()
    load = writers()
    late = place.connect(autocommit=False)
    publish(late, "late")
    publish(place.connect(), "parked", type_name="nobody")
    load.wait_written(500)
    load.stop()
    stop_settled(place, daemon)
    assert place.value("select count(*) from outbox.parked") == 1
    load = writers(begin=False)
    load.wait_written(200)
    load.stop()
    late.commit()  # a low id that no position has seen
    if window_open:
        # As if the relay had been stopped in the middle of the window it would open next.
        place.sql(
            "update outbox.position set updated_at = clock_timestamp(), t2 = pg_current_snapshot(), last_id = (select percentile_disc(0.5) within group (order by id)"
            " from outbox.message where not pg_visible_in_snapshot(xid, t1))"
        )
        place.sql("update outbox.position set last_id_ever = greatest(last_id_ever, last_id)")
        skipped = place.value(
            "select array_agg(message_id::text) from outbox.message, outbox.position"
            " where not pg_visible_in_snapshot(xid, t1) and pg_visible_in_snapshot(xid, t2) and id <= last_id"
        )
    old_xid = place.value("select max(xid)::text::bigint from outbox.message")

    other = other_place(sandbox, place, elsewhere("restored"))
    dump_and_restore(place, other, tmp_path)
    place.sql("drop schema outbox cascade")  # nobody reads the old one any more
    load = writers(at=other, begin=False)
    load.wait_written(300)
    publish(other.connect(), "late", 2)
    refused = relay(daemons, at=other)
    assert refused.wait_exit() == 2 and "sagapost outbox rebase" in refused.log()
    arrived = len(consumer.seen)
    assert "rebased:" in other.sagapost("outbox", "rebase")
    assert len(consumer.seen) == arrived
    assert "nothing to do" in other.sagapost("outbox", "rebase")

    relay(daemons, at=other).wait_ready()
    burn_xids(other, max(0, old_xid - other.value("select pg_current_xact_id()::text::bigint")) + 1000)
    load.wait_written(load.written + 300)
    load.stop()
    if window_open:  # what that window had settled was never sent in fact: it must not be sent now either
        assert not consumer.seen & set(skipped)
        other.sql("delete from ledger.sent where message_id = any (%s::uuid[])", (skipped,))
    figures = ledger.check(other, consumer, repeated_most=0)
    assert figures["parked"] == 1
    check_leaves_can_go(other)
    other.close()


def test_rebase_is_refused_where_it_would_lose_messages(place, daemons):
    place.sql("select outbox.publish('order', '{}') from generate_series(1, 5)")
    place.sql("update outbox.position set system_identifier = 1, last_id_ever = 5, updated_at = clock_timestamp()")
    owner = place.connect(autocommit=False)
    owner.cursor().execute("select pg_advisory_lock(1397161986, 0)")
    assert "a relay holds share 0" in place.sagapost("outbox", "rebase", expect=4)
    owner.close()
    place.sql("select setval('outbox.message_id_seq', 3)")
    assert "is at 3, behind id 5" in place.sagapost("outbox", "rebase", expect=4)
    place.sql("select setval('outbox.message_id_seq', 5)")
    place.sql("update outbox.position set t1 = '4000000000:4000000000:'")
    assert "its transaction ids are not the same" in place.sagapost("outbox", "rebase", "--same-xids", expect=4)
    assert place.value("select system_identifier from outbox.position") == 1
    writer = place.connect(autocommit=False)
    writer.cursor().execute("set local sagapost.wakeup = 'off'; select outbox.publish('order', '{}'); prepare transaction 'half'")
    writer.close()
    assert "that has written to the log is open; prepared here: 'half'" in place.sagapost("outbox", "rebase", expect=1)
    place.sql("rollback prepared 'half'")
    place.sql("alter sequence outbox.message_id_seq cache 5")
    assert "has CACHE 5" in place.sagapost("outbox", "rebase", expect=4)
    place.sql("alter sequence outbox.message_id_seq cache 1")
    assert "run 'sagapost outbox rebase' first" in place.sagapost("outbox", "replay", "--from=-infinity", "--dry-run", expect=4)
    with pytest.raises(Exception, match="READ COMMITTED"):
        place.sql("begin isolation level repeatable read; select outbox.rebase()")
    with pytest.raises(Exception, match="first statement of its transaction"):
        place.sql("begin; select pg_current_xact_id(); select outbox.rebase()")
    # All old rows were visible in that snapshot, and their ids settled: published, all of them.
    assert "5 rows of the log are published, 0 are still to be" in place.sagapost("outbox", "rebase")


def as_postgres(command, folder):
    user = ["setpriv", "--reuid", "postgres", "--regid", "postgres", "--init-groups"] if os.getuid() == 0 else []
    run([*user, *command], cwd=folder)


def test_upgrade(sandbox, place, daemons, consumer, writers, elsewhere):
    old, new = elsewhere("old"), elsewhere("new")
    before = Place(sandbox, server=old)
    before.amqp_uri = place.amqp_uri
    daemon = relay(daemons, at=before).wait_ready()
    load = writers(at=before)
    load.wait_written(500)
    load.stop()
    stop_settled(before, daemon)
    load = writers(at=before, begin=False)
    load.wait_written(100)
    load.stop()
    before.close()
    old.postgres("stop")
    new.postgres("stop")
    data = [server.folder / "postgres" / "data" for server in (old, new)]
    work = new.folder / "postgres" / "upgrade"
    work.mkdir()
    if os.getuid() == 0:
        shutil.chown(work, "postgres", "postgres")
    as_postgres([BIN / "pg_upgrade", "-b", BIN, "-B", BIN, "-d", data[0], "-D", data[1], "-s", work], work)
    new.postgres("start")

    after = other_place(sandbox, place, new)
    after.conninfo = new.conninfo(before.name)
    load = writers(at=after, begin=False)
    load.wait_written(100)
    assert relay(daemons, at=after).wait_exit() == 2
    assert "may be started" in after.sagapost("outbox", "rebase", "--same-xids")
    relay(daemons, at=after).wait_ready()
    load.wait_written(load.written + 300)
    load.stop()
    ledger.check(after, consumer, repeated_most=0)
    check_leaves_can_go(after)
    after.close()
