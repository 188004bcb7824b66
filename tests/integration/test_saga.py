"""Sagas through the real relay, RabbitMQ and workers: forward, backward, stuck, and what must change nothing."""

import json

import psycopg2
import pytest

from harness.wait import wait_until

# Forward and backward ----------------------------------------------------------------------------------------------------------------


def test_success_with_exact_numbers(told, programs):
    """Numbers stay what they were, through mappings, messages, handlers and back: no float is anywhere."""
    told.define(
        "exact",
        [
            ("first", "compensable", "", {"input": """'{"price": "$.input.price", "huge": "$.input.huge"}'"""}),
            ("second", "pivot", "first", {"input": """'{"price": "$.steps.first.input.price", "huge": "$.steps.first.input.huge"}'"""}),
            ("third", "retriable", "second"),
        ],
    )
    saga = told.start("exact", '{"price": 19.90, "huge": 123456789012345678901234567890, "small": 1e-20}')
    assert told.end(saga) == "SUCCEEDED"
    assert told.effects(saga) == ["first", "second", "third"]
    texts = dict(told.place.sql("select step, input::text from told.effect where saga = %s", (saga,)))
    assert texts["second"] == '{"huge": 123456789012345678901234567890, "price": 19.90}'
    assert '"price": 19.90' in texts["third"] and "0.00000000000000000001" in texts["third"]
    assert '"price": 19.90' in told.column(saga, "outputs::text")
    assert told.column(saga, "ended_at") is not None


def test_failure_is_compensated_in_reverse(told, programs):
    told.define("reverse", [("a", "compensable", ""), ("b", "compensable", "a"), ("c", "compensable", "b"), ("d", "pivot", "c")])
    told.behave("d", "action", "SG001")
    saga = told.start("reverse")
    assert told.end(saga) == "COMPENSATED"
    assert told.effects(saga) == ["a", "b", "c", "-c", "-b", "-a"]
    assert told.calls("d", "action") == 1, "a business no is not tried again"
    assert told.steps(saga) == {"a": "UNDONE", "b": "UNDONE", "c": "UNDONE", "d": "FAILED"}
    assert told.column(saga, "errors") == {"d": {"code": "told", "message": "to fail", "details": {"told": True}}}
    assert "told: to fail" in told.column(saga, "reason")


def test_undo_gets_input_and_output(told, programs):
    told.define("outputs", [("a", "compensable", "", {"input": """'{"n": "$.input.n"}'"""}), ("b", "pivot", "a")])
    told.behave("b", "action", "SG001")
    saga = told.start("outputs", '{"n": 7.50}')
    assert told.end(saga) == "COMPENSATED"
    text = told.place.value("select input::text from told.effect where saga = %s and operation = 'undo'", (saga,))
    assert text == '{"n": 7.50, "output": {"did": "a", "input": {"n": 7.50}}}'


def test_parallel_branches(told, programs):
    """Two branches and a read-only step, a join that fails: each branch is undone behind its own dependants."""
    told.define(
        "parallel",
        [
            ("left1", "compensable", ""),
            ("left2", "compensable", "left1"),
            ("right1", "compensable", ""),
            ("right2", "compensable", "right1"),
            ("look", "read_only", ""),
            ("join", "pivot", "left2,right2,look"),
        ],
    )
    told.behave("join", "action", "SG001")
    saga = told.start("parallel")
    assert told.end(saga) == "COMPENSATED"
    effects = told.effects(saga)
    assert sorted(effects) == ["-left1", "-left2", "-right1", "-right2", "left1", "left2", "look", "right1", "right2"]
    for side in ("left", "right"):
        order = [effects.index(f"{side}1"), effects.index(f"{side}2"), effects.index(f"-{side}2"), effects.index(f"-{side}1")]
        assert order == sorted(order)


def test_failure_while_a_branch_is_in_flight(told, programs):
    """One branch fails while the other waits for its retry: what is not known is settled first, and nothing stays done."""
    told.define("flight", [("slow", "compensable", "", {"retry": "saga.retry_policy(max => 5, base => '2s')"}), ("bad", "compensable", ""), ("p", "pivot", "slow,bad")])
    told.behave("slow", "action", "40001")
    told.behave("bad", "action", "SG001")
    saga = told.start("flight")
    assert told.end(saga) == "COMPENSATED"
    assert told.effects(saga) == []


# Retries -----------------------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("state", ["40001", "55P03", "53200", "XX000", "22012"])
def test_action_is_retried_with_backoff(told, programs, state):
    told.define("retry", [("a", "compensable", ""), ("p", "pivot", "a")])
    told.behave("a", "action", state, times=2)
    saga = told.start("retry")
    assert told.end(saga) == "SUCCEEDED"
    assert told.calls("a", "action") == 3
    attempts = dict(told.place.sql("select step, attempt from told.effect where saga = %s", (saga,)))
    assert attempts == {"a": 3, "p": 1}
    began, done = told.place.sql(
        "select min(at) filter (where event = 'started'), min(at) filter (where event = 'succeeded' and step = 'a') from saga.timeline where saga_id = %s",
        (saga,),
    )[0]
    assert (done - began).total_seconds() >= 0.15, "pauses of 50 and 100 ms"
    assert programs.metric("sagapost_saga_retries_total") == 2


def test_undo_is_retried(told, programs):
    told.define("undo", [("a", "compensable", ""), ("p", "pivot", "a")])
    told.behave("p", "action", "SG001")
    told.behave("a", "undo", "XX000", times=3)
    saga = told.start("undo")
    assert told.end(saga) == "COMPENSATED"
    assert told.effects(saga) == ["a", "-a"]
    assert told.calls("a", "undo") == 4


def test_out_of_attempts_is_probed_and_compensated(told, programs):
    told.define("probe", [("a", "compensable", ""), ("b", "compensable", "a"), ("p", "pivot", "b")])
    told.behave("b", "action", "XX000")
    saga = told.start("probe")
    assert told.end(saga) == "COMPENSATED"
    assert told.effects(saga) == ["a", "-a"]
    assert told.calls("b", "action") == 4
    assert told.steps(saga)["b"] == "UNDO_EMPTY", "the probe fenced it: not done, and never will be"
    reason = told.place.sql("select reason from saga.instances where id = %s", (saga,))[0][0]
    assert reason.startswith("b: not done: XX000: "), "what it was tried with says why"
    programs.wait_log("outcome=error code=XX000")
    assert programs.metric("sagapost_saga_commands_sent_total", operation="probe") == 1


def test_retriable_step_gets_stuck_and_is_retried_by_an_operator(told, programs):
    told.define("forward", [("p", "pivot", ""), ("last", "retriable", "p")])
    told.behave("last", "action", "XX000")
    saga = told.start("forward")
    told.wait_state(saga, "STUCK")
    assert told.column(saga, "phase") == "forward"
    assert told.column(saga, "errors")["last"]["code"] == "XX000"
    programs.wait_log("a saga is stuck")
    told.behave("last", "action", "XX000", times=0)
    told.place.sql("select saga.retry(%s, reason => 'mended')", (saga,))
    assert told.end(saga) == "SUCCEEDED"
    assert told.effects(saga) == ["p", "last"]
    assert intents(told, saga) == [("retry", "applied")]


def test_undo_that_keeps_failing_gets_the_saga_stuck(told, programs):
    told.define("backward", [("a", "compensable", ""), ("b", "compensable", ""), ("p", "pivot", "a,b")])
    told.behave("p", "action", "SG001")
    told.behave("a", "undo", "XX000")
    saga = told.start("backward")
    told.wait_state(saga, "STUCK")
    assert told.column(saga, "phase") == "backward"
    assert told.steps(saga) == {"a": "UNDO_STUCK", "b": "UNDONE", "p": "FAILED"}, "the other branch has gone on"
    told.behave("a", "undo", "XX000", times=0)
    told.place.sql("select saga.retry(%s)", (saga,))
    assert told.end(saga) == "COMPENSATED"
    assert told.effects(saga)[-1] == "-a"


# Intents -----------------------------------------------------------------------------------------------------------------------------


def intents(told, saga):
    def answered():
        rows = told.place.sql("select verb, answer from saga.intent where saga_id = %s order by id", (saga,))
        return all(answer for _, answer in rows) and rows

    return wait_until(answered, 30, lambda: told.place.sql("select * from saga.intent where saga_id = %s", (saga,)))


def test_cancel(told, programs):
    told.define("cancel", [("a", "compensable", ""), ("b", "compensable", "a", {"retry": "saga.retry_policy(max => 100, base => '1 hour', cap => '1 hour')"}), ("p", "pivot", "b")])
    told.behave("b", "action", "40001")
    saga = told.start("cancel")
    wait_until(lambda: told.steps(saga)["b"] == "RETRY_WAIT", 30, lambda: told.show(saga))
    told.place.sql("select saga.cancel(%s, 'customer changed their mind')", (saga,))
    assert told.end(saga) == "COMPENSATED"
    assert told.effects(saga) == ["a", "-a"]
    assert "customer changed their mind" in told.column(saga, "reason")
    assert intents(told, saga) == [("cancel", "applied")]
    assert told.place.value("select count(*) from saga.timeline where saga_id = %s and detail ->> 'actor' = session_user", (saga,)) > 0


def test_cancel_past_the_pivot_is_refused(told, programs):
    told.define("late", [("p", "pivot", ""), ("last", "retriable", "p", {"retry": "saga.retry_policy(max => 100, base => '1 hour', cap => '1 hour')"})])
    told.behave("last", "action", "40001")
    saga = told.start("late")
    told.wait_state(saga, "COMPLETING")
    told.place.sql("select saga.cancel(%s)", (saga,))
    assert intents(told, saga) == [("cancel", "refused")]
    assert "pivot" in told.place.value("select detail from saga.intent where saga_id = %s", (saga,))
    assert told.state(saga) == "COMPLETING"
    assert "pivot" in told.place.sagapost("saga", "cancel", saga, expect=4)


def test_pause_resume_and_a_revision_that_is_old(told, programs):
    told.define("pause", [("a", "compensable", "", {"retry": "saga.retry_policy(max => 1000, base => '200ms', cap => '200ms')"}), ("b", "compensable", "a"), ("p", "pivot", "b")])
    told.behave("a", "action", "40001")
    saga = told.start("pause")
    told.place.sql("select saga.pause(%s)", (saga,))
    assert intents(told, saga) == [("pause", "applied")]
    assert told.column(saga, "paused")
    told.place.sql("select saga.resume(%s, expected_revision => -1)", (saga,))
    assert intents(told, saga)[1] == ("resume", "refused")
    wait_until(lambda: told.steps(saga)["a"] == "READY", 30, lambda: told.show(saga))
    told.behave("a", "action", "40001", times=0)
    told.place.sql("select saga.resume(%s, expected_revision => revision) from saga.instances where id = %s", (saga, saga))
    assert intents(told, saga)[2] == ("resume", "applied")
    assert told.end(saga) == "SUCCEEDED"


def test_many_intents_at_once(told, programs):
    told.define("many", [("a", "compensable", "", {"retry": "saga.retry_policy(max => 100, base => '1 hour', cap => '1 hour')"}), ("p", "pivot", "a")])
    told.behave("a", "action", "40001")
    sagas = [told.start("many") for _ in range(150)]
    told.place.sql("select saga.cancel(id) from saga.instances where state = 'RUNNING'")
    wait_until(lambda: told.place.value("select count(*) from saga.ended where state = 'COMPENSATED'") == len(sagas), 30, "all cancelled")
    assert told.place.value("select count(*) from saga.intent where answer = 'applied'") == len(sagas)


# Start -------------------------------------------------------------------------------------------------------------------------------


def test_a_key_runs_once(told, programs):
    told.define("keyed", [("p", "pivot", "")])
    saga = told.start("keyed", '{"n": 1.0}', "K-1")
    assert told.end(saga) == "SUCCEEDED"
    assert told.start("keyed", '{"n": 1.0}', "K-1") == saga, "also after it has ended"
    with pytest.raises(psycopg2.Error) as refused:
        told.start("keyed", '{"n": 2}', "K-1")
    assert refused.value.pgcode.startswith("SG")
    assert told.effects(saga) == ["p"]


def test_rolled_back_start_sends_nothing(told, programs):
    told.define("ghost", [("p", "pivot", "")])
    connection = told.place.connect(autocommit=False)
    connection.cursor().execute("select saga.start('ghost', '{}')")
    connection.rollback()
    saga = told.start("ghost")
    assert told.end(saga) == "SUCCEEDED"
    assert told.place.value("select count(*) from told.effect") == 1


def test_input_that_cannot_be_built(told, programs):
    """A path finds nothing at run time: the command is not sent, the saga says which path, and is undone."""
    told.define("paths", [("a", "compensable", ""), ("b", "pivot", "a", {"input": """'{"x": "$.steps.a.nowhere.x"}'"""})])
    saga = told.start("paths")
    assert told.end(saga) == "COMPENSATED"
    assert told.effects(saga) == ["a", "-a"]
    assert "nowhere" in told.column(saga, "reason")
    assert programs.metric("sagapost_saga_unmappable_total") == 1


def test_retriable_input_that_cannot_be_built_gets_it_stuck(told, programs):
    told.define("paths", [("p", "pivot", ""), ("b", "retriable", "p", {"input": """'{"x": "$.steps.p.nowhere"}'"""})])
    saga = told.start("paths")
    told.wait_state(saga, "STUCK")
    assert "nowhere" in told.column(saga, "reason")


def test_saga_timeout_undoes(told, programs):
    told.behave("b", "action", "40001")
    for seconds in (2, 8, 32, 128):  # until the machine has carried out the first step in time
        name = f"timeout_{seconds}"
        told.define(name, [("a", "compensable", ""), ("b", "compensable", "a", {"retry": "saga.retry_policy(max => 100, base => '1 hour', cap => '1 hour')"}), ("p", "pivot", "b")],
                    timeout=f"'{seconds} s'")
        saga = told.start(name)
        assert told.end(saga) == "COMPENSATED"
        if told.effects(saga):
            break
    assert told.effects(saga) == ["a", "-a"]


def test_events_are_published_where_asked_for(told, daemons):
    told.define("loud", [("a", "compensable", ""), ("p", "pivot", "a")], events="true")
    told.define("quiet", [("p", "pivot", "")])
    told.behave("p", "action", "SG001", times=1)
    daemons("saga-worker").wait_ready()
    channel = told.place.channel()
    queue = channel.queue_declare("", exclusive=True).method.queue
    channel.queue_bind(queue, "saga.events", "#")
    daemons("outbox-relay").wait_ready()
    saga = told.start("loud")
    assert told.end(saga) == "COMPENSATED"
    assert told.end(told.start("quiet")) == "SUCCEEDED"
    heard = []

    def compensated():
        method, _, body = channel.basic_get(queue, auto_ack=True)
        if method:
            heard.append((method.routing_key, json.loads(body)))
        return heard and heard[-1][0] == "loud.compensated"

    wait_until(compensated, 30, lambda: heard)
    assert all(key.startswith("loud.") for key, _ in heard)
    assert heard[-1][1]["saga"]["id"] == saga and heard[-1][1]["event"] == "compensated"
