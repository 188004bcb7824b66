"""The number of shares changes while writers write: nothing is lost, and no key loses its order; also when a relay, the command or PostgreSQL
is killed in the middle. The relays run from the beginning: those whose share is not there yet stand by."""

import json
import random
import subprocess

import psycopg2
import pytest

from harness import ledger
from harness.ledger import WINDOW
from harness.sandbox import PROGRAMS, Place
from harness.wait import patient, wait_until

LONG = "30s"  # nobody here falls silent, on a machine that is slow


def relay(daemons, share, *arguments, **keywords):
    return ledger.relay(daemons, "--share", share, "--lease-term", LONG, *arguments, **keywords)


def at(failpoint):
    return {"SAGAPOST_FAILPOINT": failpoint} if failpoint else {}


def relays(daemons, *shares):
    return {share: relay(daemons, share) for share in shares}


def shares(place):
    return json.loads(place.sagapost("outbox", "shares", "--json"))


def change(place, number, wait="3min"):
    place.sagapost("outbox", "shares", number, "--wait", wait)
    assert [row["share"] for row in shares(place)] == list(range(number))


def wait_publishing(daemons, more=20):
    """Each has published so many since."""
    before = {daemon: daemon.metric("sagapost_outbox_confirmed_total") for daemon in daemons}
    for daemon in daemons:
        daemon.wait_metric("sagapost_outbox_confirmed_total", lambda value, least=before[daemon] + more: value >= least, 60)


class Command:
    """`sagapost outbox shares N` beside the test."""

    def __init__(self, place, number, failpoint=None):
        self.process = subprocess.Popen(
            [PROGRAMS["sagapost"], "outbox", "shares", str(number)], env={**place.environment(), **at(failpoint)}, stdout=subprocess.PIPE,
            stderr=subprocess.PIPE, text=True,
        )

    def wait_says(self, text):
        said = []
        for line in self.process.stderr:
            said.append(line)
            if text in line:
                return
        raise AssertionError(f"{text!r} is not in {said}")

    def kill(self):
        self.process.kill()
        self.process.communicate(timeout=patient(30))

    def wait_done(self):
        out, error = self.process.communicate(timeout=patient(60))
        assert self.process.returncode == 0, error
        return out


def wait_shares(place, number):
    wait_until(
        lambda: place.value("select wanted is null and (select count(*) from outbox.position) = %s from outbox.share_change", (number,)),
        60,
        lambda: f"{number} shares: {shares(place)}",
    )


def test_two_then_four_then_three_then_one(place, daemons, consumer, writers):
    running = relays(daemons, 0, 1, 2, 3)
    running[3].wait_log("the log has no such share")
    assert running[3].wait_ready().metric("sagapost_outbox_role", role="standby") == 1
    load = writers(count=12)
    wait_publishing([running[0]])
    change(place, 2)
    wait_publishing([running[0], running[1]])
    change(place, 4)
    wait_publishing(running.values())
    change(place, 3)
    wait_publishing([running[0], running[1], running[2]])
    change(place, 1)
    wait_publishing([running[0]])
    running[1].wait_log("the log has no such share")
    load.stop()
    ledger.check(place, consumer, repeated_most=0)
    assert all(daemon.alive() for daemon in running.values())
    assert "WHEN ((NOT pg_try_advisory_xact_lock_shared(1397161985, 0)))" in place.value(
        "select pg_get_triggerdef(oid) from pg_trigger where tgname = 'wake_relays'"
    )


def test_killed_in_the_middle(place, daemons, consumer, writers):
    """A share without a relay stops the change, in the sight of all, and neither the command nor a relay is needed for it to go on."""
    running = relays(daemons, 0, 1, 2, 3)
    load = writers(count=12)
    change(place, 4)
    wait_publishing(running.values())
    running[3].kill()
    command = Command(place, 2)
    command.wait_says("share 3: no relay runs: start outbox-relay --share 3")
    command.kill()
    wait_until(lambda: [row["state"] for row in shares(place)[:3]] == ["at rest"] * 3, 60, lambda: f"{shares(place)}")
    running[1].kill()  # at rest: its share stays so, and so does the next owner
    running[1] = relay(daemons, 1)
    running[1].wait_log("at rest")
    running[3] = relay(daemons, 3)
    wait_shares(place, 2)
    wait_publishing([running[0], running[1]])
    load.stop()
    ledger.check(place, consumer, repeated_most=2 * WINDOW)


def publishing_at(daemons, running, share, failpoint):
    """The relay of a share is replaced by one that dies at a place."""
    running[share].terminate()
    running[share] = relay(daemons, share, environment=at(failpoint))
    running[share].wait_metric("sagapost_outbox_shares", lambda value: value > 0, 60)


def test_relays_killed_at_steps_of_one_change(place, daemons, consumer, writers):
    """Three shares become two, by way of a barrier; each of their relays dies once."""
    running = relays(daemons, 0, 1, 2)
    load = writers(count=8)
    change(place, 3)
    deaths = {0: "share-paused:1", 1: "share-asked:1", 2: "share-answered:4"}
    for share, failpoint in deaths.items():
        publishing_at(daemons, running, share, failpoint)
    place.sql("select outbox.change_shares(2)")
    for share in deaths:
        assert running[share].wait_exit(60) == -9, running[share].log()
        running[share] = relay(daemons, share)
    wait_shares(place, 2)
    wait_publishing([running[0], running[1]])
    load.stop()
    ledger.check(place, consumer, repeated_most=3 * WINDOW)


# Where a relay passes in the course of a change, and how often (at its first question it only begins).
POINTS = ["share-pauses:1", "share-paused:1", "share-asked:1", "share-pauses:2", "share-paused:2", "share-asked:2"] + [
    f"share-answered:{nth}" for nth in range(2, 9)
]


@pytest.mark.long
def test_relays_killed_at_each_step(place, daemons, consumer, writers, seed):
    chance = random.Random(seed)
    running = relays(daemons, 0, 1, 2, 3)
    load = writers(count=8, limit=10**6)
    change(place, 2)
    now, deaths = 2, 0
    for point in POINTS * 2:
        number = chance.choice([n for n in (1, 2, 3, 4) if n != now])
        share = chance.randrange(now)
        publishing_at(daemons, running, share, point)
        place.sql("select outbox.change_shares(%s)", (number,))
        wait_until(
            lambda: not running[share].alive() or place.value("select wanted is null from outbox.share_change"),  # noqa: B023
            60,
            lambda: f"{now} to {number}, share {share} at {point}: {shares(place)}",  # noqa: B023
        )
        # Without the place in its way this time it may still come there: it is another relay's turn in any case.
        deaths += not running[share].alive()
        running[share].kill()
        running[share] = relay(daemons, share)
        wait_shares(place, number)
        now = number
        wait_publishing([running[n] for n in range(now)], more=1)
    load.stop()
    print(f"{deaths} of {2 * len(POINTS)} came to their place")
    assert deaths > len(POINTS) // 2
    ledger.check(place, consumer, repeated_most=2 * len(POINTS) * WINDOW)


def test_the_command_killed_at_each_step(place, daemons, consumer, writers):
    """It only asks, and tidies up: whoever runs it again ends what it began."""
    running = relays(daemons, 0, 1)
    load = writers(count=8)

    def killed(number, failpoint):
        process = Command(place, number, failpoint).process
        process.communicate(timeout=patient(60))
        assert process.returncode == -9
        wait_shares(place, number)

    killed(2, "shares-wanted")
    wait_publishing(running.values())
    killed(1, "shares-changed")
    trigger = "select pg_get_triggerdef(oid) from pg_trigger where tgname = 'wake_relays'"
    assert "LEAST(" in place.value(trigger)
    wait_publishing([running[0]])
    change(place, 1)
    assert "LEAST(" not in place.value(trigger)
    killed(2, "shares-trimmed")
    wait_publishing(running.values())
    load.stop()
    ledger.check(place, consumer, repeated_most=0)


MISPLACED = """
select count(*) from outbox.parked where share <> outbox.share_of(key, id, (select max(shares) from outbox.position))
"""
GRACE = ("--unroutable-grace", "100ms")


class Stuck:
    """A parked message that another session holds: what is to move it waits."""

    def __init__(self, place, which):
        self.connection = place.connect(autocommit=False)
        self.cursor = self.connection.cursor()
        self.cursor.execute(f"select from outbox.parked where id = ({which}) for update")
        assert self.cursor.rowcount == 1
        self.place = place

    def wait(self):
        """The process id of the backend that is in the midst of a step."""
        waits = "select pid from pg_stat_activity where wait_event_type = 'Lock' and wait_event = 'transactionid' and query like '%outbox.share_%'"
        return wait_until(lambda: self.place.sql(waits + " and datname = current_database()"), 60, lambda: f"a step waits: {shares(self.place)}")[0][0]

    def free(self):
        try:
            self.connection.rollback()
        except psycopg2.Error:
            pass  # PostgreSQL was crashed


def cut(how, place, sandbox, daemons, running, stuck):
    """What is in the midst of a step, at its own backend or in all of PostgreSQL, ends there."""
    backend = stuck.wait()
    if how == "relays":
        for share in running:
            running[share].kill()
    elif how == "backend":
        place.sql("select pg_terminate_backend(%s)", (backend,))
    else:
        sandbox.postgres("kill")
        sandbox.postgres("start")
    stuck.free()
    if how == "relays":
        for share in running:
            running[share] = relay(daemons, share, *GRACE)


CUTS = ["relays", pytest.param("backend", marks=pytest.mark.long), pytest.param("postgres", marks=pytest.mark.long)]


@pytest.mark.parametrize("how", CUTS)
def test_cut_between_the_positions_and_the_parked_messages(place, sandbox, daemons, consumer, writers, how):
    """In one transaction: the new shares are there with what is parked, or not at all."""
    running = {share: relay(daemons, share, *GRACE) for share in range(2)}
    load = writers(count=8)
    place.sql("select outbox.publish('nowhere', '{}', key => 'k' || n) from generate_series(1, 20) as n")
    wait_until(lambda: place.value("select count(*) from outbox.parked where state = 'parked'") == 20, 30, "all are parked")
    stuck = Stuck(place, "select max(id) from outbox.parked where outbox.share_of(key, id, 2) = 1")
    place.sql("select outbox.change_shares(2)")
    stuck.wait()
    assert len(shares(place)) == 1
    cut(how, place, sandbox, daemons, running, stuck)
    wait_shares(place, 2)
    assert place.value(MISPLACED) == 0
    wait_publishing(running.values())
    load.stop()
    ledger.check(place, consumer, repeated_most=2 * WINDOW)


def park_many(place, count):
    place.sql(
        "insert into outbox.parked (id, message_id, share, holds, created_at, type, key, exchange, routing_key, headers, payload, mandatory, state, reason)"
        " select 1000000000000 + n, gen_random_uuid(), 0, false, now(), 'nowhere', 'k' || n, '', 'nowhere', '{}', '{}', true, 'parked', 'returned'"
        " from generate_series(1, %s) as n",
        (count,),
    )


@pytest.mark.long
@pytest.mark.parametrize("how", ["relays", "backend", "postgres"])
def test_cut_between_many_parked_messages(place, sandbox, daemons, consumer, writers, how):
    """They move in several transactions; the new shares are there, and at rest."""
    running = {share: relay(daemons, share, *GRACE) for share in range(3)}
    park_many(place, 20000)
    load = writers(count=8)
    change(place, 2)
    stuck = Stuck(place, "select max(id) from outbox.parked where outbox.share_of(key, id, 2) <> outbox.share_of(key, id, 3)")
    command = Command(place, 3, "shares-helped:2")
    command.wait_says("moving parked messages")
    stuck.wait()
    command.kill()
    assert [row["state"] for row in shares(place)] == ["at rest"] * 3
    cut(how, place, sandbox, daemons, running, stuck)
    wait_shares(place, 3)
    assert place.value(MISPLACED) == 0
    wait_publishing(running.values())
    load.stop()
    ledger.check(place, consumer, repeated_most=5 * WINDOW)


@pytest.mark.long
@pytest.mark.parametrize("with_relays", [True, False])
def test_many_parked_messages_move_in_short_statements(place, daemons, consumer, writers, with_relays):
    """All at once took 4 s for 150,000 on an idle machine: nearly lease-term, and with it the share."""
    park_many(place, 200000)
    running = {share: relay(daemons, share, "--parked-rows", 1000000) for share in range(2)}
    load = writers(count=8)
    load.wait_written(200)
    if not with_relays:
        load.stop()
        for daemon in running.values():
            daemon.terminate()
    seen = set()
    command = Command(place, 2)
    wait_until(
        lambda: seen.add(place.value("select moved_id from outbox.share_change")) or command.process.poll() is not None, 300, "the change is over"
    )
    assert command.process.returncode == 0
    assert len(seen - {None}) > 3, "it moved them in several transactions"
    assert place.value(MISPLACED) == 0
    if not with_relays:
        for share in running:
            relay(daemons, share, "--parked-rows", 1000000)
    else:
        wait_publishing(running.values())
        load.stop()
    ledger.check(place, consumer, repeated_most=0)


def test_taken_back(place, daemons, consumer, writers):
    running = relays(daemons, 0, 1)
    load = writers(count=8)
    change(place, 2)
    wait_publishing(running.values())
    running[1].kill()
    command = Command(place, 1)
    command.wait_says("share 1: no relay runs")
    wait_until(lambda: shares(place)[0]["state"] == "at rest", 60, "the other one is at rest")
    place.sagapost("outbox", "shares", 2)
    out, error = command.process.communicate(timeout=patient(60))
    assert command.process.returncode == 4 and "taken the change back" in error, (out, error)
    wait_publishing([running[0]])
    running[1] = relay(daemons, 1)
    wait_publishing(running.values())
    load.stop()
    ledger.check(place, consumer, repeated_most=WINDOW)


@pytest.mark.parametrize("numbers", [(2,), pytest.param((2, 3), marks=pytest.mark.long)])
def test_a_backlog_is_shared(place, daemons, consumer, writers, numbers):
    """Written while no relay ran, and changed while none runs, as far as that goes."""
    first = relay(daemons, 0)
    load = writers(count=8, limit=400)
    load.wait_written(100)
    first.terminate()
    load.wait_written(400)
    load.stop()
    change(place, 2)  # it had left in good order
    assert sum(row["backlog_rows"] for row in shares(place)) == place.value("select count(*) from ledger.sent") - len(consumer.seen)
    running = relays(daemons, 0, 1)
    for number in numbers[1:]:
        running[number - 1] = relay(daemons, number - 1)
        change(place, number)
    ledger.check(place, consumer, repeated_most=0)
    assert all(daemon.metric("sagapost_outbox_confirmed_total") > 0 for daemon in (running[0], running[1]))
    wait_until(lambda: sum(row["backlog_rows"] for row in shares(place)) == 0, 60, lambda: f"{shares(place)}")


@pytest.mark.long
@pytest.mark.parametrize("shares_after", [4, 3])
def test_held_keys_go_with_their_share(place, daemons, shares_after):
    """Messages that no queue takes, and those behind them, are another relay's after the change; it has them before what is written later."""
    place.sql(ledger.TABLES)
    running = {share: relay(daemons, share, environment={"SAGAPOST_RETRY_BASE": "50ms", "SAGAPOST_RETRY_CAP": "200ms"}) for share in range(4)}
    change(place, 2)
    numbers = {f"k{n}": 0 for n in range(20)}

    def publish(times):
        for key in list(numbers) * times:
            numbers[key] += 1
            place.sql(
                "with published as (select outbox.publish('ledger', jsonb_build_object('key', %s::text, 'number', %s::int), key => %s) as id)"
                " insert into ledger.sent (message_id, key, number) select id, %s, %s from published",
                (key, numbers[key], key, key, numbers[key]),
            )

    publish(3)
    wait_until(lambda: place.value("select count(*) from outbox.parked") == 60, 30, lambda: f"{place.sql('select * from outbox.parked_summary')}")
    assert place.value("select count(distinct share) from outbox.parked") == 2
    change(place, shares_after)
    assert place.value("select count(distinct share) from outbox.parked") == shares_after
    publish(1)
    consumer = ledger.Consumer(place).start()
    # Not before: what is neither parked any more nor arrived yet is on its way.
    wait_until(lambda: place.value("select count(*) from outbox.parked") == 0, 30, lambda: f"{place.sql('select * from outbox.parked_summary')}")
    ledger.check(place, consumer)
    consumer.stop()
    assert all(running[share].metric("sagapost_outbox_parked_confirmed_total") > 0 for share in range(shares_after))


def test_an_operator_is_answered_by_the_share_of_the_message(place, daemons):
    running = [relay(daemons, share) for share in range(2)]
    change(place, 2)
    place.sql("select outbox.publish('nowhere', '{}', key => 'k' || n) from generate_series(1, 20) as n")
    wait_until(lambda: place.value("select count(*) from outbox.parked") == 20, 30, "all are parked")
    place.sagapost("outbox", "parked", "discard", *(row[0] for row in place.sql("select message_id::text from outbox.parked")))
    assert place.sql("select answer, count(*) from outbox.intent group by 1") == [("discarded", 20)]
    assert all(daemon.alive() for daemon in running)


@pytest.mark.long
@pytest.mark.parametrize("verb", ["kill", "stop"])
def test_postgres_goes_away_in_the_middle(place, sandbox, daemons, consumer, writers, verb):
    running = relays(daemons, 0, 1, 2)
    load = writers(count=8)
    change(place, 3)
    wait_publishing(running.values())
    running[2].kill()
    command = Command(place, 2)
    command.wait_says("share 2: no relay runs")
    sandbox.postgres(verb)
    sandbox.postgres("start")
    command.process.communicate(timeout=patient(60))
    running[2] = relay(daemons, 2)
    wait_shares(place, 2)
    wait_publishing([running[0], running[1]])
    load.stop()
    ledger.check(place, consumer, repeated_most=4 * WINDOW)


@pytest.mark.long
def test_two_databases_in_one_virtual_host(place, sandbox, daemons, consumer, writers):
    """Each has a share 1 with a relay, and neither's change touches the other."""
    other = Place(sandbox)
    other.amqp_uri = place.amqp_uri
    try:
        here = relays(daemons, 0, 1)
        there = [relay(daemons, share, at=other) for share in range(2)]
        load = writers(count=8)
        change(other, 2)
        assert len(shares(place)) == 1
        change(place, 2)
        wait_publishing(here.values())
        epochs = [row["epoch"] for row in shares(place)]
        change(other, 1)
        wait_publishing(here.values())
        assert [row["epoch"] for row in shares(place)] == epochs
        assert all(daemon.alive() for daemon in there)
        load.stop()
        ledger.check(place, consumer, repeated_most=0)
    finally:
        other.close()
