"""The relay under faults, with 24 writers whose transactions overlap. Each test ends with the ledger."""

import collections
import copy
import random

import pytest

from harness import ledger
from harness.ledger import WINDOW, relay
from harness.wait import wait_until


def test_nothing_is_lost_and_no_key_out_of_order(place, daemons, consumer, writers):
    relay(daemons).wait_ready()
    load = writers()
    load.wait_written(4000)
    load.stop()
    figures = ledger.check(place, consumer, repeated_most=0)
    assert figures["parked"] == 0


# Every place under load where a relay can be told to die, and how often it may pass there before it does.
POINTS = {
    "fence-held": 1,
    "fence-proven": 1,
    "after-read": 10,
    "after-publish": 40,
    "after-confirm": 40,
    "position-transaction": 10,
    "truncation": 2,
}
TRUNCATE_SOON = ("--truncate-interval", "100ms")


def kill_one_relay(daemons, consumer, chance):
    """Half of them at a moment that the seed chooses, half of them at a place. Returns which."""
    if chance.random() < 0.5:
        daemon = relay(daemons, *TRUNCATE_SOON)
        wanted = len(consumer.seen) + chance.randint(0, 200)
        wait_until(lambda: len(consumer.seen) >= wanted, 60, lambda: f"the relay publishes\n{daemon.log()[-4000:]}")
        daemon.kill()
        return "any moment"
    point = chance.choice(sorted(POINTS))
    daemon = relay(daemons, *TRUNCATE_SOON, environment={"SAGAPOST_FAILPOINT": f"{point}:{chance.randint(1, POINTS[point])}"})
    assert daemon.wait_exit(60) == -9, daemon.log()
    return point


@pytest.mark.parametrize("kills", [30, pytest.param(1000, marks=pytest.mark.long)])
def test_relay_killed_again_and_again(place, daemons, consumer, writers, seed, kills):
    chance = random.Random(seed)
    # A ring that turns every few seconds, so that relays die while they truncate, too.
    place.sql("select outbox.configure(ring_slots => 4, ring_period => '1 second')")
    load = writers(count=8, limit=10**7)
    died = collections.Counter(kill_one_relay(daemons, consumer, chance) for _ in range(kills))
    print(f"{kills} kills: {dict(died)}")
    relay(daemons).wait_ready()
    load.stop()
    ledger.check(place, consumer, repeated_most=kills * WINDOW, limit_s=120)


@pytest.mark.parametrize("point", ["after-read", "after-publish", "after-confirm", "position-transaction"])
def test_relay_killed_at(place, daemons, consumer, writers, point):
    daemon = relay(daemons, environment={"SAGAPOST_FAILPOINT": f"{point}:20"})
    load = writers(count=8)
    assert daemon.wait_exit(60) == -9, daemon.log()
    relay(daemons).wait_ready()
    load.wait_written(500)
    load.stop()
    ledger.check(place, consumer, repeated_most=WINDOW)


def test_rabbitmq_killed_and_back(place, sandbox, daemons, consumer, writers):
    daemon = relay(daemons).wait_ready()
    load = writers()
    load.wait_written(500)
    sandbox.crash_rabbitmq()
    load.wait_written(load.written + 200)
    sandbox.rabbitmq("start")
    daemon.wait_ready(60)
    load.wait_written(load.written + 500)
    load.stop()
    # What was in flight when the broker died is sent again: whether it had arrived is not known.
    ledger.check(place, consumer, repeated_most=WINDOW)
    assert daemon.alive()


def test_rabbitmq_stopped_in_good_order_and_back(place, sandbox, daemons, consumer, writers):
    daemon = relay(daemons).wait_ready()
    load = writers()
    load.wait_written(500)
    sandbox.rabbitmq("stop")
    sandbox.rabbitmq("start")
    daemon.wait_ready(60)
    load.wait_written(load.written + 500)
    load.stop()
    ledger.check(place, consumer, repeated_most=WINDOW)


@pytest.mark.parametrize("times", [1, 3])
def test_postgres_crashed_and_back(place, sandbox, daemons, consumer, writers, times):
    daemon = relay(daemons).wait_ready()
    load = writers()
    for _ in range(times):
        load.wait_written(load.written + 400)
        sandbox.postgres("kill")
        sandbox.postgres("start")
    daemon.wait_ready(60)
    load.wait_written(load.written + 500)
    load.stop()
    ledger.check(place, consumer, repeated_most=times * WINDOW)
    assert daemon.alive()


def test_postgres_crashed_under_writers_that_do_not_wait_for_the_disk(place, sandbox, daemons, consumer, writers):
    """What the crash takes back must not have been sent: its ids and transaction ids are given out again."""
    daemon = relay(daemons).wait_ready()
    hasty = copy.copy(place)
    hasty.conninfo += " options='-c synchronous_commit=off'"
    load = writers(at=hasty)
    for _ in range(2):
        load.wait_written(load.written + 400)
        sandbox.postgres("kill")
        sandbox.postgres("start")
    daemon.wait_ready(60)
    load.wait_written(load.written + 500)
    load.stop()
    ledger.check(place, consumer, repeated_most=2 * WINDOW)


def test_backend_of_the_relay_terminated(place, daemons, consumer, writers):
    daemon = relay(daemons).wait_ready()
    load = writers()
    for _ in range(5):
        load.wait_written(load.written + 200)
        terminate = (
            "select count(pg_terminate_backend(pid)) from pg_stat_activity where application_name like 'outbox-relay%%' and datname = current_database()"
        )
        wait_until(lambda: place.value(terminate) > 0, 30, "the relay has a connection")  # noqa: B023
        daemon.wait_ready(60)
    load.stop()
    ledger.check(place, consumer, repeated_most=5 * WINDOW)


def test_standby_takes_over(place, daemons, consumer, writers):
    first = relay(daemons).wait_ready()
    second = relay(daemons)
    second.wait_ready()
    load = writers()
    load.wait_written(500)
    first.kill()
    load.wait_written(load.written + 500)
    load.stop()
    ledger.check(place, consumer, repeated_most=WINDOW)
    assert second.metric("sagapost_outbox_published_total") > 0


@pytest.mark.parametrize("seconds", [0, pytest.param(60, marks=pytest.mark.long)])
def test_long_and_prepared_transactions_hold_up_only_themselves(place, daemons, consumer, writers, seconds):
    relay(daemons).wait_ready()
    load = writers(count=8, limit=10**6)
    long = place.connect(autocommit=False)
    prepared = place.connect(autocommit=False)
    for connection, key in ((long, "long"), (prepared, "prepared")):
        cursor = connection.cursor()
        cursor.execute("set local sagapost.wakeup = 'off'")
        cursor.execute(
            "with p as (select outbox.publish('ledger', jsonb_build_object('key', %s::text, 'number', 1), key => %s) as id)"
            " insert into ledger.sent (message_id, key, number) select id, %s, 1 from p returning message_id::text",
            (key, key, key),
        )
    gid = f"waits in {place.name}"
    cursor.execute("prepare transaction %s", (gid,))
    try:
        load.wait_written(500)
        arrived = len(consumer.seen)
        wait_until(lambda: len(consumer.seen) > arrived + 100, 60, "the others go on")
        age = f"select min(xact_start) < clock_timestamp() - interval '{seconds} seconds' from pg_stat_activity where pid = {long.get_backend_pid()}"
        wait_until(lambda: place.value(age), seconds + 30, "the transaction is so old", every_s=0.2)
        assert not any(b'"long"' in body or b'"prepared"' in body for _, body in list(consumer.arrived))
        long.commit()
        prepared.commit()
    finally:
        place.sql("commit prepared %s", (gid,))  # else all tests after it would have it in their snapshots
    load.stop()
    figures = ledger.check(place, consumer, repeated_most=0)
    assert figures["lost"] == 0


@pytest.mark.long
def test_a_held_snapshot_costs_no_room(place, daemons, consumer, writers):
    """The log is truncated leaf by leaf, whoever holds a snapshot: no row waits for a vacuum."""
    place.sql("select outbox.configure(ring_slots => 4, ring_period => '1 second')")
    daemon = relay(daemons, *TRUNCATE_SOON).wait_ready()
    load = writers(count=8, limit=10**6)
    holder = place.connect(autocommit=False)
    holder.set_session(isolation_level="REPEATABLE READ")
    with holder.cursor() as cursor:
        cursor.execute("select count(*) from ledger.account")
        cursor.execute("select pg_current_xact_id()")  # and a transaction that PostgreSQL counts as running
    truncated = daemon.metric("sagapost_outbox_leaves_truncated_total")
    daemon.wait_metric("sagapost_outbox_leaves_truncated_total", lambda leaves: leaves >= truncated + 4, 60)
    first = len(consumer.seen)
    size = "select sum(bytes) from outbox.leaf"
    one_turn = place.value(size)
    daemon.wait_metric("sagapost_outbox_leaves_truncated_total", lambda leaves: leaves >= truncated + 24, 120)
    assert place.value(size) <= 3 * one_turn
    assert len(consumer.seen) > 3 * first or first == 0
    holder.rollback()
    load.stop()
    ledger.check(place, consumer, repeated_most=0)
