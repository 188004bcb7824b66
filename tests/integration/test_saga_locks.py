"""Locks that sagas hold: first come, first served; deadlocks; released however a saga ends; workers that die; handlers and child sagas."""

import json

import pytest

from harness.told import ENDED, QUICK
from harness.wait import wait_until


def define(told, name, locks, waits=True):
    """A saga: a (compensable), its locks one after the other, each with a signal behind it (go0, go1 ...), p (pivot)."""
    before, text = "a", ""
    for number, more in enumerate(locks):
        text += (
            f"select saga.step('{name}', 'hold{number}', via => 'lock', input => '{{\"account\": \"$.input.r{number}\"}}', after => '{{{before}}}' {more});"
        )
        before = f"hold{number}"
        if waits:
            text += f"select saga.step('{name}', 'go{number}', via => 'signal', after => '{{{before}}}');"
            before = f"go{number}"
    told.place.sql(
        f"""
        select saga.define('{name}');
        select saga.step('{name}', 'a', action => 'told.act', undo => 'told.undo', undo_retry => {QUICK}, retry => {QUICK});
        {text}
        select saga.step('{name}', 'p', action => 'told.act', kind => 'pivot', after => '{{{before}}}', retry => {QUICK});
        select saga.publish('{name}');
        """
    )


def describe(told, *sagas):
    return lambda: "\n".join(told.show(saga) for saga in sagas) + f"\n{told.place.sql('select * from saga.locks')}"


def start(told, name, *resources):
    return told.start(name, json.dumps({f"r{number}": resource for number, resource in enumerate(resources)}))


def end(told, saga):
    return wait_until(lambda: told.state(saga) in ENDED and told.state(saga), 60, describe(told, saga))


def wait_step(told, saga, step, state):
    wait_until(lambda: told.steps(saga)[step] == state, 60, describe(told, saga))


def go(told, saga, step="go0"):
    told.place.value("select saga.signal(%s, %s)", (saga, step))


def queue(told, resource):
    """The sagas of a lock, who holds it first."""
    return [row[0] for row in told.place.sql("select saga_id::text from saga.locks where resource = %s order by place", (json.dumps({"account": resource}),))]


def holding_and_waiting(told, name="one", count=3, resource=7):
    """Sagas at one lock, in the order in which they came."""
    sagas = []
    for number in range(count):
        sagas.append(start(told, name, resource))
        wait_step(told, sagas[-1], "hold0", "PARKED" if number else "SUCCEEDED")
        wait_until(lambda: queue(told, resource) == sagas, 60, describe(told, *sagas))
    return sagas


def test_first_come_first_served(told, programs):
    define(told, "one", [""])
    sagas = holding_and_waiting(told)
    other = start(told, "one", 8)
    wait_step(told, other, "hold0", "SUCCEEDED")
    assert told.column(other, "outputs")["hold0"] == {"resource": '{"account": 8}'}, "another account is another lock"
    for number, saga in enumerate(sagas):
        wait_step(told, saga, "hold0", "SUCCEEDED")
        assert queue(told, 7) == sagas[number:]
        go(told, saga)
        assert end(told, saga) == "SUCCEEDED"
    granted = told.place.sql("select saga_id::text from saga.timeline where step = 'hold0' and event = 'succeeded' and saga_id = any (%s::uuid[]) order by id", (sagas,))
    assert [row[0] for row in granted] == sagas
    go(told, other)
    end(told, other)
    assert told.place.value("select count(*) from saga.lock_queue") == 0
    assert told.place.value("select count(*) from saga.lock_step") == 0


def test_a_deadlock_of_two_is_one_compensated_and_one_succeeded(told, programs):
    define(told, "two", ["", ""])
    one, other = start(told, "two", 1, 2), start(told, "two", 2, 1)
    for saga in (one, other):
        wait_step(told, saga, "hold0", "SUCCEEDED")
    for saga in (one, other):
        go(told, saga)
    wait_until(lambda: "COMPENSATED" in (told.state(one), told.state(other)), 60, describe(told, one, other))
    loser, winner = (one, other) if told.state(one) == "COMPENSATED" else (other, one)
    wait_step(told, winner, "hold1", "SUCCEEDED")
    go(told, winner, "go1")
    assert end(told, winner) == "SUCCEEDED"
    assert told.column(loser, "reason").startswith("hold1: deadlock: ")
    assert told.column(loser, "errors")["hold1"]["code"] == "deadlock"
    assert told.column(loser, "errors")["hold1"]["details"]["saga"] == winner
    assert told.effects(loser) == [] or set(told.steps(loser).values()) <= {"UNDONE", "SUCCEEDED", "FAILED", "CANCELLED"}
    assert told.steps(loser)["a"] == "UNDONE"


def test_many_sagas_that_lock_crosswise_all_end(told, daemons):
    """Two workers, cycles of every length that close at the same moment: somebody is denied, nobody waits for ever."""
    define(told, "two", ["", ""], waits=False)
    daemons("outbox-relay").wait_ready()
    for _ in range(2):
        daemons("saga-worker").wait_ready()
    sagas = [start(told, "two", number % 5, (number * 2 + 1) % 5) for number in range(60)]
    states = [end(told, saga) for saga in sagas]
    assert set(states) <= {"SUCCEEDED", "COMPENSATED"} and "SUCCEEDED" in states
    assert told.place.value("select count(*) from saga.lock_queue") == 0


@pytest.mark.parametrize("how", ["compensated", "abandoned", "cancelled"])
def test_a_lock_is_released_however_its_saga_ends(told, programs, how):
    define(told, "one", [""])
    first, second, third = holding_and_waiting(told)
    if how == "compensated":
        told.behave("p", "action", "SG001")
        go(told, first)
        assert end(told, first) == "COMPENSATED"
        told.behave("p", "action", "SG001", 0)
    else:
        told.place.value(f"select saga.{'abandon' if how == 'abandoned' else 'cancel'}(%s, 'why')", (first,))
        assert end(told, first) == ("CLOSED" if how == "abandoned" else "COMPENSATED")
    wait_step(told, second, "hold0", "SUCCEEDED")
    assert queue(told, 7) == [second, third]
    told.place.value("select saga.abandon(%s)", (second,))
    wait_step(told, third, "hold0", "SUCCEEDED")


def test_who_stops_waiting_leaves_the_queue(told, programs):
    """By its timeout, by going on without, by a skip and by a cancel; the next one moves up."""
    define(told, "one", [""])
    define(told, "fails", [", timeout => '100ms'"])
    define(told, "goes_on", [", timeout => '100ms', on_timeout => 'skip'"])
    holder, cancelled, skipped, last = holding_and_waiting(told, count=4)
    fails, goes_on = start(told, "fails", 7), start(told, "goes_on", 7)
    assert end(told, fails) == "COMPENSATED"
    assert told.column(fails, "reason") == "hold0: it did not get its lock in time"
    wait_step(told, goes_on, "hold0", "SKIPPED")
    wait_step(told, goes_on, "go0", "PARKED")
    told.place.value("select saga.cancel(%s)", (cancelled,))
    assert end(told, cancelled) == "COMPENSATED"
    told.place.value("select saga.skip(%s, 'hold0')", (skipped,))
    wait_step(told, skipped, "go0", "PARKED")
    assert queue(told, 7) == [holder, last]
    go(told, holder)
    wait_step(told, last, "hold0", "SUCCEEDED")
    for saga in (skipped, goes_on, last):
        go(told, saga)
        assert end(told, saga) == "SUCCEEDED"


def test_workers_die_while_locks_are_held_and_waited_for(told, daemons):
    define(told, "one", [""])
    daemons("outbox-relay").wait_ready()
    worker = daemons("saga-worker").wait_ready()
    sagas = holding_and_waiting(told)
    for saga in sagas:
        worker.kill()
        go(told, saga)
        worker = daemons("saga-worker").wait_ready()
        assert end(told, saga) == "SUCCEEDED"
    assert told.place.value("select count(*) from saga.lock_queue") == 0


@pytest.mark.long
@pytest.mark.parametrize("point", ["orchestrate-before-commit", "orchestrate-after-commit"])
def test_a_worker_dies_in_the_transaction_that_takes_or_hands_over(told, daemons, point):
    """All of it is there or nothing: nobody holds two, nobody is forgotten."""
    define(told, "two", ["", ""], waits=False)
    daemons("outbox-relay").wait_ready()
    sagas = [start(told, "two", 1, 2) for _ in range(4)]
    for _ in range(6):
        dies = daemons("saga-worker", environment={"SAGAPOST_FAILPOINT": point})
        dies.wait_exit()
    daemons("saga-worker").wait_ready()
    assert {end(told, saga) for saga in sagas} == {"SUCCEEDED"}
    assert told.place.value("select count(*) from saga.lock_queue") == 0


def test_a_paused_saga_keeps_its_lock_and_asks_for_none(told, programs):
    define(told, "one", [""])
    holder, waiting = holding_and_waiting(told, count=2)
    for saga in (holder, waiting):
        told.place.value("select saga.pause(%s)", (saga,))
        wait_until(lambda: told.column(saga, "paused"), 60, describe(told, saga))
    go(told, holder)
    told.place.value("select saga.resume(%s)", (holder,))
    assert end(told, holder) == "SUCCEEDED"
    wait_step(told, waiting, "hold0", "SUCCEEDED")
    told.place.value("select saga.resume(%s)", (waiting,))
    go(told, waiting)
    assert end(told, waiting) == "SUCCEEDED"


def test_a_child_shares_its_parents_locks(told, programs):
    """The child asks for what its parent holds, and takes one of its own: that is held until the parent has ended, since it may still undo it."""
    told.place.sql(
        f"""
        select saga.define('child');
        select saga.step('child', 'same', via => 'lock', input => '"$.input.r"');
        select saga.step('child', 'own', via => 'lock', input => '"child"', after => '{{same}}');
        select saga.step('child', 'x', action => 'told.act', undo => 'told.undo', undo_retry => {QUICK}, after => '{{own}}');
        select saga.publish('child');
        select saga.define('parent');
        select saga.step('parent', 'hold', via => 'lock', input => '"$.input.r"');
        select saga.step('parent', 'c', via => 'saga', child => 'child', after => '{{hold}}');
        select saga.step('parent', 'go', via => 'signal', after => '{{c}}');
        select saga.publish('parent');
        """
    )
    parent = told.start("parent", '{"r": "R"}')
    wait_step(told, parent, "go", "PARKED")
    held = "select resource, saga_id::text, state from saga.locks order by resource"
    assert told.place.sql(held) == [("R", parent, "held"), ("child", parent, "held")]
    told.place.value("select saga.cancel(%s)", (parent,))
    assert end(told, parent) == "COMPENSATED"
    assert told.place.sql(held) == []


def test_a_handler_takes_a_lock_for_its_saga(told, programs):
    """It does not wait: who comes too late is tried again."""
    told.place.sql(
        f"""
        create function told.take(input jsonb) returns jsonb language plpgsql as $$ begin perform saga.lock(input ->> 'r'); return '{{}}'; end $$;
        select saga.handle('told.take', 'told.take', lock => '$.r');
        select saga.define('taker');
        select saga.step('taker', 't', action => 'told.take', kind => 'read_only', retry => saga.retry_policy(max => 1000, base => '50ms', cap => '50ms'));
        select saga.step('taker', 'go', via => 'signal', after => '{{t}}');
        select saga.step('taker', 'again', via => 'lock', input => '"$.input.r"', after => '{{go}}');
        select saga.publish('taker');
        """
    )
    first = told.start("taker", '{"r": "R"}')
    wait_step(told, first, "t", "SUCCEEDED")
    second = told.start("taker", '{"r": "R"}')
    wait_until(lambda: (told.column(second, "errors") or {}).get("t", {}).get("code") == "55P03", 60, describe(told, first, second))
    assert first in told.column(second, "errors")["t"]["message"]
    go(told, first, "go")
    assert end(told, first) == "SUCCEEDED"
    wait_step(told, second, "t", "SUCCEEDED")
    go(told, second, "go")
    assert end(told, second) == "SUCCEEDED"
    assert told.place.value("select count(*) from saga.lock_queue") == 0


def test_people_see_who_holds_a_lock_and_who_waits(told, daemons):
    define(told, "one", [""])
    daemons("outbox-relay").wait_ready()
    worker = daemons("saga-worker", "--gauges-interval", "1s").wait_ready()
    holder, waiting = holding_and_waiting(told, count=2)
    worker.wait_metric("sagapost_saga_lock_waits", 1)
    assert worker.metric("sagapost_saga_lock_wait_oldest_seconds") > 0
    run = told.place.sagapost
    shown = run("saga", "show", waiting)
    assert "waits for its lock" in shown and holder in shown
    assert f"sagapost saga skip {waiting} hold0" in shown and f"sagapost saga cancel {waiting}" in shown
    locks = json.loads(run("saga", "locks", "--json"))
    assert [(row["saga_id"], row["state"], row["place"], row["steps"]) for row in locks] == [(holder, "held", 0, "hold0"), (waiting, "waiting", 1, "hold0")]
    shown = json.loads(run("saga", "show", waiting, "--json"))["locks"]
    assert [(row["state"], row["held_by"]) for row in shown] == [("waiting", holder)] and shown[0]["held_since"]
    assert len(json.loads(run("saga", "locks", '{"account": 7}', "--json"))) == 2
    assert len(json.loads(run("saga", "locks", holder, "--json"))) == 1
    assert "no locks" in run("saga", "locks", "another")
    run("saga", "abandon", holder, "--reason", "gone")
    wait_step(told, waiting, "hold0", "SUCCEEDED")
    assert holder not in run("saga", "locks")
    worker.wait_metric("sagapost_saga_lock_waits", 0)


def unlocked(told, name="one"):
    """The next version has no lock; the step that undoes `a` fails, so that whoever goes back stays."""
    told.behave("a", "undo", "XX000")
    told.place.sql(
        f"""
        select saga.define('{name}');
        select saga.step('{name}', 'a', action => 'told.act', undo => 'told.undo', undo_retry => {QUICK}, retry => {QUICK});
        select saga.step('{name}', 'p', action => 'told.act', kind => 'pivot', after => '{{a}}', retry => {QUICK});
        select saga.publish('{name}');
        """
    )


def test_cancelled_and_migrated_at_once_it_leaves_the_queue(told, daemons):
    """To a version that knows nothing of the lock, by workers that die in the middle: nobody waits behind a place that nobody uses."""
    define(told, "one", [""])
    daemons("outbox-relay").wait_ready()
    worker = daemons("saga-worker").wait_ready()
    holder, leaves, last = holding_and_waiting(told)
    worker.kill()
    unlocked(told)
    told.place.sql("select saga.cancel(%s, 'why'), saga.migrate(%s, 2, 'why')", (leaves, leaves))
    for point in ("orchestrate-between-write-and-commit", "orchestrate-after-commit"):
        assert daemons("saga-worker", environment={"SAGAPOST_FAILPOINT": point}).wait_exit(60) == -9
    daemons("saga-worker").wait_ready()
    wait_until(lambda: told.column(leaves, "version") == 2, 60, describe(told, leaves))
    assert queue(told, 7) == [holder, last], describe(told, leaves)()
    assert told.state(leaves) not in ENDED
    go(told, holder)
    wait_step(told, last, "hold0", "SUCCEEDED")
