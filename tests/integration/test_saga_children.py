"""Steps that are sagas of their own: done, failed, cancelled, taken back, stuck and closed; and workers that die meanwhile."""

import pytest

from harness.told import QUICK
from harness.wait import wait_until

SLOW = "saga.retry_policy(max => 1000, base => '50ms', factor => 1, cap => '50ms')"


def define(told, parent, child, kind="compensable", more="", behind=""):
    """A parent: a (compensable), c (the child), p (pivot, unless c is it)."""
    last = f"select saga.step('{parent}', 'p', action => 'told.act', kind => 'pivot', retry => {QUICK}, after => '{{c}}')" if kind == "compensable" else "select 1"
    told.place.sql(
        f"""
        select saga.define('{parent}');
        select saga.step('{parent}', 'a', action => 'told.act', undo => 'told.undo', retry => {QUICK}, undo_retry => {QUICK});
        select saga.step('{parent}', 'c', via => 'saga', child => '{child}', kind => '{kind}', after => '{{a}}' {more});
        {last}; {behind}
        select saga.publish('{parent}');
        """
    )


def soft(told, name="soft"):
    """A child that can be undone: x, then y."""
    told.define(name, [("x", "compensable", "", {"retry": SLOW, "undo_retry": SLOW}), ("y", "compensable", "x", {"retry": SLOW, "undo_retry": SLOW})])


def child_of(told, saga, step="c"):
    return wait_until(
        lambda: told.place.value("select (select child::text from saga.children where saga_id = %s and step = %s order by started_at desc limit 1)", (saga, step)), 60, lambda: told.show(saga)
    )


def wait_step(told, saga, step, state):
    wait_until(lambda: told.steps(saga)[step] == state, 60, lambda: f"{step} {state}:\n{told.show(saga)}")


def test_a_child_is_a_step(told, programs):
    """Its input is mapped, what its steps put out is its output, and the parent goes on behind it."""
    soft(told)
    define(told, "parent", "soft", more=", input => '{\"n\": \"$.input.n\", \"from\": \"$.steps.a.did\"}'")
    saga = told.start("parent", '{"n": 19.90}')
    assert told.end(saga) == "SUCCEEDED"
    child = child_of(told, saga)
    assert told.state(child) == "SUCCEEDED"
    assert told.place.value("select input::text from saga.instances where id = %s", (child,)) == '{"n": 19.90, "from": "a"}'
    output = told.column(saga, "outputs")["c"]
    assert output["saga"] == child and output["steps"]["y"]["did"] == "y"
    assert told.effects(saga) == ["a", "p"] and told.effects(child) == ["x", "y"]


def test_a_child_that_fails_aborts_its_parent(told, programs):
    soft(told)
    define(told, "parent", "soft")
    told.behave("y", "action", "SG001")
    saga = told.start("parent")
    assert told.end(saga) == "COMPENSATED"
    child = child_of(told, saga)
    assert told.state(child) == "COMPENSATED" and told.effects(child) == ["x", "-x"]
    assert told.effects(saga) == ["a", "-a"]
    assert told.column(saga, "errors")["c"]["code"] == "child_compensated" and "told: to fail" in told.column(saga, "reason")


def test_a_child_that_succeeded_is_taken_back(told, programs):
    """As one step, in its turn: the child undoes itself, then what came before it is undone."""
    soft(told)
    define(told, "parent", "soft")
    told.behave("p", "action", "SG001")
    saga = told.start("parent")
    assert told.end(saga) == "COMPENSATED"
    child = child_of(told, saga)
    assert told.state(child) == "COMPENSATED" and told.effects(child) == ["x", "y", "-y", "-x"]
    order = [f"{step} {operation}" for step, operation in told.place.sql("select step, operation from told.effect order by id")]
    assert order == ["a action", "x action", "y action", "y undo", "x undo", "a undo"]
    assert told.steps(saga) == {"a": "UNDONE", "c": "UNDONE", "p": "FAILED"}
    assert "its parent saga" in told.column(child, "reason")


def test_a_cancel_goes_down_to_a_running_child(told, programs):
    soft(told)
    define(told, "inner", "soft")
    told.place.sql(f"select saga.define('outer'), saga.step('outer', 'c', via => 'saga', child => 'inner', kind => 'pivot'), saga.publish('outer')")
    told.behave("y", "action", "40001")
    saga = told.start("outer")
    inner = child_of(told, saga)
    child = child_of(told, inner)
    wait_until(lambda: told.effects(child) == ["x"], 60, lambda: told.show(child))
    told.place.sagapost("saga", "cancel", saga)
    assert told.end(saga) == "COMPENSATED"
    assert told.state(inner) == "COMPENSATED" and told.state(child) == "COMPENSATED"
    assert told.effects(child) == ["x", "-x"] and told.effects(inner) == ["a", "-a"]


def test_a_child_past_its_pivot_is_no_longer_cancelled(told, programs):
    """The parent's pivot is a child that has passed its own: the cancel is refused, and both are completed."""
    told.define("hard", [("x", "compensable", ""), ("go", "pivot", "x"), ("last", "retriable", "go", {"retry": SLOW})])
    define(told, "parent", "hard", kind="pivot")
    told.behave("last", "action", "40001")
    saga = told.start("parent")
    child = child_of(told, saga)
    told.wait_state(child, "COMPLETING")
    told.place.sql("select saga.cancel(%s)", (saga,))
    wait_until(lambda: ("refused",) in told.place.sql("select answer from saga.intent where saga_id = %s and verb = 'cancel'", (child,)), 60, lambda: told.show(saga))
    told.behave("last", "action", "40001", times=0)
    assert told.end(saga) == "SUCCEEDED" and told.state(child) == "SUCCEEDED"


def test_a_retriable_child_is_started_anew(told, programs):
    """Compensated, it is tried again as another saga, until it succeeds."""
    soft(told)
    told.place.sql(
        f"""
        select saga.define('parent');
        select saga.step('parent', 'p', action => 'told.act', kind => 'pivot');
        select saga.step('parent', 'c', via => 'saga', child => 'soft', kind => 'retriable', after => '{{p}}', retry => {QUICK});
        select saga.publish('parent');
        """
    )
    told.behave("y", "action", "SG001", times=2)
    saga = told.start("parent")
    assert told.end(saga) == "SUCCEEDED"
    states = told.place.sql("select state from saga.children where saga_id = %s order by started_at", (saga,))
    assert [state for (state,) in states] == ["COMPENSATED", "COMPENSATED", "SUCCEEDED"]


def test_a_parent_waits_for_a_child_that_is_stuck(told, programs):
    """And says for which; an operator mends the child, not the parent."""
    soft(told)
    define(told, "parent", "soft")
    told.place.sql(f"select saga.define('tight'), saga.step('tight', 'x', action => 'told.act', undo => 'told.undo', undo_retry => {QUICK}), saga.step('tight', 'y', action => 'told.act', kind => 'read_only', after => '{{x}}'), saga.publish('tight')")
    define(told, "waits", "tight")
    told.behave("p", "action", "SG001")
    told.behave("x", "undo", "XX000")
    saga = told.start("waits")
    child = child_of(told, saga)
    told.wait_state(child, "STUCK")
    assert told.state(saga) == "COMPENSATING" and told.steps(saga)["c"] == "UNDO_SENT"
    waits_for = told.place.sql("select child::text, state, phase from saga.children where saga_id = %s", (saga,))
    assert waits_for == [(child, "STUCK", "backward")]
    assert f"{child} STUCK backward" in told.place.sagapost("saga", "show", saga)
    told.behave("x", "undo", "XX000", times=0)
    told.place.sagapost("saga", "retry", child)
    assert told.end(saga) == "COMPENSATED"


def test_a_child_that_was_closed_leaves_a_doubt(told, programs):
    soft(told)
    define(told, "parent", "soft")
    told.behave("y", "action", "40001")
    saga = told.start("parent")
    child = child_of(told, saga)
    told.place.sql("select saga.abandon(%s, 'by phone')", (child,))
    told.wait_state(child, "CLOSED")
    told.wait_state(saga, "STUCK")
    assert told.column(saga, "phase") == "in_doubt"
    told.place.sql("select saga.skip(%s, 'c', 'it was put right by hand')", (saga,))
    assert told.end(saga) in ("SUCCEEDED", "COMPENSATED")


def test_a_child_that_is_a_root_and_has_a_condition(told, programs):
    soft(told)
    told.place.sql(
        """
        select saga.define('roots');
        select saga.step('roots', 'c', via => 'saga', child => 'soft', run_if => '{"input": {"with": true}}');
        select saga.step('roots', 'd', via => 'saga', child => 'soft', input => '{"x": "$.input.nowhere"}', skip_if => '{"input": {"fine": true}}');
        select saga.publish('roots');
        """
    )
    without, with_child, unbuilt = told.start("roots", '{"fine": true}'), told.start("roots", '{"fine": true, "with": true}'), told.start("roots", '{"with": true}')
    assert told.end(without) == "SUCCEEDED" and told.end(with_child) == "SUCCEEDED" and told.end(unbuilt) == "COMPENSATED"
    assert told.place.value("select count(*) from saga.children where saga_id = %s", (without,)) == 0
    assert told.effects(child_of(told, with_child)) == ["x", "y"]
    assert "nowhere" in told.column(unbuilt, "reason")


def test_repeated_answers_of_a_child_change_nothing(told, programs):
    soft(told)
    define(told, "parent", "soft")
    told.behave("p", "action", "SG001")
    saga = told.start("parent")
    assert told.end(saga) == "COMPENSATED"
    other = told.start("parent")
    channel = told.place.channel()
    for _ in range(3):
        for exchange, key, body in told.place.sql("select exchange, routing_key, payload::text from outbox.message where type = 'saga.reply' order by id"):
            channel.basic_publish(exchange, key, body.encode())
    assert told.end(other) == "COMPENSATED"
    assert told.place.value("select count(*) from told.effect") == 12, "each effect once (a constraint says so too), each undone once"


@pytest.mark.parametrize("where", ["orchestrate-between-write-and-commit", "orchestrate-before-commit", "orchestrate-after-commit", "orchestrate-before-ack"])
def test_workers_killed_between_parent_and_child(told, daemons, where):
    soft(told)
    define(told, "parent", "soft")
    told.behave("p", "action", "SG001", times=10)
    daemons("outbox-relay").wait_ready()
    sagas = [told.start("parent") for _ in range(20)]
    for nth in (2, 6):
        dies = daemons("saga-worker", environment={"SAGAPOST_FAILPOINT": f"{where}:{nth}"})
        assert dies.wait_exit(60) == -9, dies.log()
    daemons("saga-worker").wait_ready()
    for saga in sagas:
        state = told.end(saga)
        children = told.place.sql("select child::text, state from saga.children where saga_id = %s", (saga,))
        assert len(children) == 1 and children[0][1] == state, told.show(saga)
        wanted = (["a", "p"], ["x", "y"]) if state == "SUCCEEDED" else (["a", "-a"], ["x", "y", "-y", "-x"])
        assert (told.effects(saga), told.effects(children[0][0])) == wanted
