"""Sagas through the real relay, RabbitMQ and workers: forward, backward, stuck, and what must change nothing."""

import json

import uuid

import psycopg2
import psycopg2.errors
import pytest

from harness.participant import Participant
from harness.told import QUICK
from harness.wait import wait_until

ENDED = ("SUCCEEDED", "COMPENSATED", "CLOSED")


def wait_state(told, saga, *states, limit_s=30):
    return wait_until(lambda: told.state(saga) in states and told.state(saga), limit_s, lambda: f"{states}:\n{told.show(saga)}")


def end(told, saga, limit_s=30):
    return wait_state(told, saga, *ENDED, limit_s=limit_s)


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
    assert end(told, saga) == "SUCCEEDED"
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
    assert end(told, saga) == "COMPENSATED"
    assert told.effects(saga) == ["a", "b", "c", "-c", "-b", "-a"]
    assert told.calls("d", "action") == 1, "a business no is not tried again"
    assert told.steps(saga) == {"a": "UNDONE", "b": "UNDONE", "c": "UNDONE", "d": "FAILED"}
    assert told.column(saga, "errors") == {"d": {"code": "told", "message": "to fail", "details": {"told": True}}}
    assert "told: to fail" in told.column(saga, "reason")


def test_undo_gets_input_and_output(told, programs):
    told.define("outputs", [("a", "compensable", "", {"input": """'{"n": "$.input.n"}'"""}), ("b", "pivot", "a")])
    told.behave("b", "action", "SG001")
    saga = told.start("outputs", '{"n": 7.50}')
    assert end(told, saga) == "COMPENSATED"
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
    assert end(told, saga) == "COMPENSATED"
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
    assert end(told, saga) == "COMPENSATED"
    assert told.effects(saga) == []


# Retries -----------------------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("state", ["40001", "55P03", "53200", "XX000", "22012"])
def test_action_is_retried_with_backoff(told, programs, state):
    told.define("retry", [("a", "compensable", ""), ("p", "pivot", "a")])
    told.behave("a", "action", state, times=2)
    saga = told.start("retry")
    assert end(told, saga) == "SUCCEEDED"
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
    assert end(told, saga) == "COMPENSATED"
    assert told.effects(saga) == ["a", "-a"]
    assert told.calls("a", "undo") == 4


def test_out_of_attempts_is_probed_and_compensated(told, programs):
    told.define("probe", [("a", "compensable", ""), ("b", "compensable", "a"), ("p", "pivot", "b")])
    told.behave("b", "action", "XX000")
    saga = told.start("probe")
    assert end(told, saga) == "COMPENSATED"
    assert told.effects(saga) == ["a", "-a"]
    assert told.calls("b", "action") == 4
    assert told.steps(saga)["b"] == "UNDO_EMPTY", "the probe fenced it: not done, and never will be"
    assert programs.metric("sagapost_saga_commands_sent_total", operation="probe") == 1


def test_retriable_step_gets_stuck_and_is_retried_by_an_operator(told, programs):
    told.define("forward", [("p", "pivot", ""), ("last", "retriable", "p")])
    told.behave("last", "action", "XX000")
    saga = told.start("forward")
    wait_state(told, saga, "STUCK")
    assert told.column(saga, "phase") == "forward"
    assert told.column(saga, "errors")["last"]["code"] == "XX000"
    programs.wait_log("a saga is stuck")
    told.behave("last", "action", "XX000", times=0)
    told.place.sql("select saga.retry(%s, reason => 'mended')", (saga,))
    assert end(told, saga) == "SUCCEEDED"
    assert told.effects(saga) == ["p", "last"]
    assert intents(told, saga) == [("retry", "applied")]


def test_undo_that_keeps_failing_gets_the_saga_stuck(told, programs):
    told.define("backward", [("a", "compensable", ""), ("b", "compensable", ""), ("p", "pivot", "a,b")])
    told.behave("p", "action", "SG001")
    told.behave("a", "undo", "XX000")
    saga = told.start("backward")
    wait_state(told, saga, "STUCK")
    assert told.column(saga, "phase") == "backward"
    assert told.steps(saga) == {"a": "UNDO_STUCK", "b": "UNDONE", "p": "FAILED"}, "the other branch has gone on"
    told.behave("a", "undo", "XX000", times=0)
    told.place.sql("select saga.retry(%s)", (saga,))
    assert end(told, saga) == "COMPENSATED"
    assert told.effects(saga)[-1] == "-a"


# Intents -----------------------------------------------------------------------------------------------------------------------------


def intents(told, saga):
    def answered():
        rows = told.place.sql("select verb, answer from saga.intent where saga_id = %s order by id", (saga,))
        return all(answer for _, answer in rows) and rows

    return wait_until(answered, 30, lambda: told.place.sql("select * from saga.intent where saga_id = %s", (saga,)))


def test_cancel(told, programs):
    told.define("cancel", [("a", "compensable", ""), ("b", "compensable", "a", {"retry": "saga.retry_policy(max => 100, base => '30s', cap => '60s')"}), ("p", "pivot", "b")])
    told.behave("b", "action", "40001")
    saga = told.start("cancel")
    wait_until(lambda: told.steps(saga)["b"] == "RETRY_WAIT", 30, lambda: told.show(saga))
    told.place.sql("select saga.cancel(%s, 'customer changed their mind')", (saga,))
    assert end(told, saga) == "COMPENSATED"
    assert told.effects(saga) == ["a", "-a"]
    assert "customer changed their mind" in told.column(saga, "reason")
    assert intents(told, saga) == [("cancel", "applied")]
    assert told.place.value("select count(*) from saga.timeline where saga_id = %s and detail ->> 'actor' = session_user", (saga,)) > 0


def test_cancel_past_the_pivot_is_refused(told, programs):
    told.define("late", [("p", "pivot", ""), ("last", "retriable", "p", {"retry": "saga.retry_policy(max => 100, base => '30s', cap => '60s')"})])
    told.behave("last", "action", "40001")
    saga = told.start("late")
    wait_state(told, saga, "COMPLETING")
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
    assert end(told, saga) == "SUCCEEDED"


def test_many_intents_at_once(told, programs):
    told.define("many", [("a", "compensable", "", {"retry": "saga.retry_policy(max => 100, base => '60s', cap => '60s')"}), ("p", "pivot", "a")])
    told.behave("a", "action", "40001")
    sagas = [told.start("many") for _ in range(150)]
    told.place.sql("select saga.cancel(id) from saga.instances where state = 'RUNNING'")
    wait_until(lambda: told.place.value("select count(*) from saga.ended where state = 'COMPENSATED'") == len(sagas), 30, "all cancelled")
    assert told.place.value("select count(*) from saga.intent where answer = 'applied'") == len(sagas)


# Start -------------------------------------------------------------------------------------------------------------------------------


def test_a_key_runs_once(told, programs):
    told.define("keyed", [("p", "pivot", "")])
    saga = told.start("keyed", '{"n": 1.0}', "K-1")
    assert end(told, saga) == "SUCCEEDED"
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
    assert end(told, saga) == "SUCCEEDED"
    assert told.place.value("select count(*) from told.effect") == 1


def test_input_that_cannot_be_built(told, programs):
    """A path finds nothing at run time: the command is not sent, the saga says which path, and is undone."""
    told.define("paths", [("a", "compensable", ""), ("b", "pivot", "a", {"input": """'{"x": "$.steps.a.nowhere.x"}'"""})])
    saga = told.start("paths")
    assert end(told, saga) == "COMPENSATED"
    assert told.effects(saga) == ["a", "-a"]
    assert "nowhere" in told.column(saga, "reason")
    assert programs.metric("sagapost_saga_unmappable_total") == 1


def test_retriable_input_that_cannot_be_built_gets_it_stuck(told, programs):
    told.define("paths", [("p", "pivot", ""), ("b", "retriable", "p", {"input": """'{"x": "$.steps.p.nowhere"}'"""})])
    saga = told.start("paths")
    wait_state(told, saga, "STUCK")
    assert "nowhere" in told.column(saga, "reason")


def test_saga_timeout_undoes(told, programs):
    told.define("timeout", [("a", "compensable", ""), ("b", "compensable", "a", {"retry": "saga.retry_policy(max => 100, base => '60s', cap => '60s')"}), ("p", "pivot", "b")], timeout="'4s'")
    told.behave("b", "action", "40001")
    saga = told.start("timeout")
    assert end(told, saga) == "COMPENSATED"
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
    assert end(told, saga) == "COMPENSATED"
    assert end(told, told.start("quiet")) == "SUCCEEDED"
    heard = []

    def compensated():
        method, _, body = channel.basic_get(queue, auto_ack=True)
        if method:
            heard.append((method.routing_key, json.loads(body)))
        return heard and heard[-1][0] == "loud.compensated"

    wait_until(compensated, 30, lambda: heard)
    assert all(key.startswith("loud.") for key, _ in heard)
    assert heard[-1][1]["saga"]["id"] == saga and heard[-1][1]["event"] == "compensated"


# Messages that come again, late, or are none ------------------------------------------------------------------------------------------


def published(told, kind):
    return told.place.sql("select exchange, coalesce(routing_key, type), payload::text from outbox.message where type = %s order by id", (f"saga.{kind}",))


def test_repeated_messages_change_nothing(told, programs):
    told.define("again", [("a", "compensable", ""), ("b", "compensable", "a"), ("p", "pivot", "b")])
    told.behave("p", "action", "SG001")
    saga = told.start("again")
    assert end(told, saga) == "COMPENSATED"
    history = told.show(saga)
    channel = told.place.channel()
    sent = 0
    for _ in range(3):
        for exchange, key, body in published(told, "command") + published(told, "reply"):
            channel.basic_publish(exchange, key, body.encode())
            sent += 1
    other = told.start("again")
    assert end(told, other) == "COMPENSATED"
    wait_until(lambda: drained(told), 30, "all of them are taken")
    assert told.show(saga) == history
    assert told.effects(saga) == ["a", "b", "-b", "-a"]
    assert programs.metric("sagapost_saga_dead_lettered_total") == 0


def drained(told):
    """Nothing waits in any queue of commands and replies, and none of it is without an acknowledgement."""
    said = told.place.sandbox.rabbitmqctl("-q", "list_queues", "-p", told.place.amqp_uri.rsplit("/", 1)[1], "name", "messages", "--formatter", "json")
    return all(queue["messages"] == 0 for queue in json.loads(said[said.index("[") :]) if queue["name"] != "saga.dead")


def test_repeated_messages_of_a_live_saga_are_ignored(told, programs):
    told.define("live", [("a", "compensable", ""), ("b", "compensable", "a"), ("p", "pivot", "b", {"retry": "saga.retry_policy(max => 100, base => '1s', factor => 1, cap => '1s')"})])
    told.behave("p", "action", "40001")
    saga = told.start("live")
    wait_until(lambda: told.steps(saga)["p"] == "RETRY_WAIT", 30, lambda: told.show(saga))
    channel = told.place.channel()
    for exchange, key, body in published(told, "reply"):
        if json.loads(body)["saga"]["step"] in ("a", "b"):
            channel.basic_publish(exchange, key, body.encode())
    programs.wait_metric("sagapost_saga_replies_ignored_total", lambda ignored: ignored >= 2)
    told.behave("p", "action", "40001", times=0)
    assert end(told, saga) == "SUCCEEDED"
    assert told.effects(saga) == ["a", "b", "p"]


BODIES = [
    b"",
    b"{",
    b"\xff\xfe",
    b"[]",
    b"{}",
    b'{"saga": {}}',
    b'{"saga": {"id": "x", "step": "a", "operation": "action", "round": 1}, "outcome": "ok"}',
    b'{"saga": {"id": "01890a5d-ac96-774b-bcce-b302099a8057", "step": "a", "operation": "action", "round": 1}, "outcome": "ok", "output": "\\u0000", "input": "\\u0000"}',
    b'{"saga": {"id": "01890a5d-ac96-774b-bcce-b302099a8057", "step": "a", "operation": "action", "round": 1e9}, "outcome": "ok"}',
    b'{"saga": {"id": "01890a5d-ac96-774b-bcce-b302099a8057", "step": "a", "operation": "action", "round": 1}, "input": "' + b"x" * 1_100_000 + b'"}',
    b"[" * 100_000,
]


def test_unreadable_messages_are_dead_lettered(told, programs):
    told.define("fine", [("a", "compensable", ""), ("p", "pivot", "a")])
    channel = told.place.channel()
    channel.confirm_delivery()
    orchestrator = told.place.value("select orchestrator from saga.setting")
    sagas = []
    for body in BODIES:
        channel.basic_publish("saga.replies", orchestrator, body, mandatory=True)
        channel.basic_publish("saga.commands", "told.act", body, mandatory=True)
        sagas.append(told.start("fine"))
    for saga in sagas:
        assert end(told, saga) == "SUCCEEDED"
    wait_until(lambda: programs.metric("sagapost_saga_dead_lettered_total") == 2 * len(BODIES), 30, programs.log)
    found = []

    def all_dead():
        method, _, body = channel.basic_get("saga.dead", auto_ack=True)
        if method:
            found.append(body)
        return len(found) == 2 * len(BODIES)

    wait_until(all_dead, 30, lambda: len(found))
    assert sorted(found) == sorted(BODIES * 2)
    assert "xxxx" not in programs.log(), "ids always, payloads never"


def test_reply_that_names_no_step(told, programs):
    told.define("stranger", [("a", "compensable", "", {"retry": "saga.retry_policy(max => 100, base => '1s', factor => 1, cap => '1s')"}), ("p", "pivot", "a")])
    told.behave("a", "action", "40001")
    saga = told.start("stranger")
    body = {"saga": {"id": saga, "step": "nobody", "operation": "action", "round": 1}, "outcome": "ok"}
    unknown = {"saga": {"id": str(uuid.uuid4()), "step": "a", "operation": "action", "round": 1}, "outcome": "ok"}
    channel = told.place.channel()
    orchestrator = told.place.value("select orchestrator from saga.setting")
    channel.basic_publish("saga.replies", orchestrator, json.dumps(body).encode())
    channel.basic_publish("saga.replies", orchestrator, json.dumps(unknown).encode())
    wait_until(lambda: programs.metric("sagapost_saga_dead_lettered_total", role="orchestrate") == 1, 30, programs.log)
    programs.wait_metric("sagapost_saga_replies_unknown_saga_total", 1)  # it is counted and dropped
    told.behave("a", "action", "40001", times=0)
    assert end(told, saga) == "SUCCEEDED"


def test_reply_that_claims_the_impossible(told, programs):
    """A step that was never sent is said to be done: stuck until a person has looked, not believed."""
    told.define("liar", [("a", "compensable", "", {"retry": "saga.retry_policy(max => 100, base => '60s', cap => '60s')"}), ("p", "pivot", "a")])
    told.behave("a", "action", "40001")
    saga = told.start("liar")
    lie = {"saga": {"id": saga, "step": "p", "operation": "action", "round": 1}, "outcome": "ok", "output": {}}
    told.place.channel().basic_publish("saga.replies", told.place.value("select orchestrator from saga.setting"), json.dumps(lie).encode())
    wait_state(told, saga, "STUCK")
    assert told.column(saga, "phase") == "protocol"


def test_action_without_a_handler(told, programs):
    told.define(
        "early", [("a", "compensable", "", {"action": "'told.later'", "retry": "saga.retry_policy(max => 1000, base => '100ms', factor => 1, cap => '100ms')"}), ("p", "pivot", "a")]
    )
    saga = told.start("early")
    wait_until(lambda: (told.column(saga, "errors") or {}).get("a", {}).get("code") == "unknown_action", 30, lambda: told.show(saga))
    told.place.sql("select saga.handle('told.later', 'told.run')")
    assert end(told, saga) == "SUCCEEDED"


def test_participant_that_appears_later(told, daemons):
    """A new participant's queue is declared and consumed while the worker runs."""
    daemons("outbox-relay").wait_ready()
    worker = daemons("saga-worker", "--handler-poll-interval", "10min").wait_ready()
    told.define("newcomer", [("a", "compensable", ""), ("p", "pivot", "a", {"action": "'newcomer.act'"})])
    told.place.sql("select saga.handle('newcomer.act', 'told.run')")
    worker.wait_log("participant=newcomer")
    assert end(told, told.start("newcomer")) == "SUCCEEDED"


def test_only_the_actions_asked_for(told, daemons):
    daemons("outbox-relay").wait_ready()
    told.place.sql("select saga.handle('other.act', 'told.run')")
    worker = daemons("saga-worker", "--actions", "told.*").wait_ready()
    told.define("partial", [("a", "compensable", ""), ("p", "pivot", "a", {"action": "'other.act'", "timeout": "'60s'"})])
    saga = told.start("partial")
    wait_until(lambda: told.effects(saga) == ["a"], 30, lambda: told.show(saga))
    assert "participant=other" not in worker.log()
    daemons("saga-worker", "--roles", "execute", "--actions", "oth*.*").wait_ready()
    assert end(told, saga) == "SUCCEEDED"


# A participant in another language ----------------------------------------------------------------------------------------------------


def test_participant_in_python(told, programs):
    told.place.sql("create table told.pyth (saga uuid, operation text, given text)")

    def work(cursor, saga, given):
        cursor.execute("insert into told.pyth values (%s, %s, %s)", (saga["id"], saga["operation"], given))
        if saga["step"] == "no":
            return "failed", '{"code": "no", "message": "python says no"}'
        return "ok", '{"exact": 0.10}'

    participant = Participant(told.place, "pyth", work)
    participant.start()
    pyth = {"action": "'pyth.act'", "undo": "'pyth.undo'"}
    told.define("mixed", [("a", "compensable", "", pyth), ("p", "pivot", "a", {"input": """'{"n": "$.steps.a.exact"}'"""})])
    told.define("refused", [("a", "compensable", "", pyth), ("no", "compensable", "a", pyth), ("p", "pivot", "no")])
    saga = told.start("mixed", '{"n": 3.140}')
    assert end(told, saga) == "SUCCEEDED"
    assert told.place.sql("select given from told.pyth where saga = %s", (saga,)) == [('{"n": 3.140}',)]
    assert told.place.value("select input::text from told.effect where saga = %s", (saga,)) == '{"n": 0.10}'
    refused = told.start("refused")
    assert end(told, refused) == "COMPENSATED"
    rows = told.place.sql("select operation from told.pyth where saga = %s", (refused,))
    assert sorted(rows) == [("action",), ("undo",)], "what the refusal did was rolled back"
    assert "python says no" in told.column(refused, "reason")
    # All commands once more: each gets its outcome repeated, and does nothing.
    channel = told.place.channel()
    before, seen = told.place.value("select count(*) from told.pyth"), len(participant.verdicts)
    commands = [message for message in published(told, "command") if message[1].startswith("pyth.")]
    for exchange, key, body in commands:
        channel.basic_publish(exchange, key, body.encode())
    wait_until(lambda: len(participant.verdicts) == seen + len(commands), 30, lambda: participant.verdicts)
    participant.over = True
    assert "execute" not in participant.verdicts[seen:]
    assert told.place.value("select count(*) from told.pyth") == before


def test_silent_participant_leaves_the_saga_in_doubt_until_it_answers(told, programs):
    """Nobody consumes: attempts run out, the probe is not answered: stuck, never guessed. A late answer resolves it."""
    quick = {"action": "'mute.act'", "undo": "'mute.undo'", "timeout": "'200ms'",
             "retry": "saga.retry_policy(max => 2, base => '50ms')", "undo_retry": "saga.retry_policy(max => 2, base => '50ms')"}
    participant = Participant(told.place, "mute", lambda cursor, saga, given: ("ok", "{}"))
    told.define("silent", [("a", "compensable", "", quick), ("p", "pivot", "a")])
    saga = told.start("silent")
    wait_state(told, saga, "STUCK")
    assert told.column(saga, "phase") == "in_doubt"
    participant.start()
    assert end(told, saga) in ("SUCCEEDED", "COMPENSATED")
    participant.over = True
    assert participant.verdicts.count("execute") >= 1


# Workers -----------------------------------------------------------------------------------------------------------------------------


def test_two_workers_share_the_work_and_stop_in_good_order(told, daemons):
    """Stopped by SIGTERM under load: each finishes its batch and exits 0; what it had not taken is the other's."""
    daemons("outbox-relay").wait_ready()
    told.define("load", [("a", "compensable", ""), ("b", "compensable", ""), ("p", "pivot", "a,b")])
    workers = [daemons("saga-worker").wait_ready() for _ in range(3)]
    for worker in workers[:2]:
        told.place.sql("select saga.start('load', '{}') from generate_series(1, 200)")
        assert worker.terminate() == 0, worker.log()
    wait_until(lambda: told.place.value("select count(*) from saga.ended where state = 'SUCCEEDED'") == 400, 60, "all succeeded")
    assert told.place.value("select count(*) from told.effect") == 1200


def test_deadlocks_do_not_stop_it(told, daemons):
    """Handlers without a lock that update two rows in either order, run by two workers: money is conserved, and all of them end."""
    told.place.sql("create table told.account (id integer primary key, balance numeric not null)")
    told.place.sql("insert into told.account select n, 1000 from generate_series(1, 6) n")
    told.place.sql(
        """create function told.move(input jsonb) returns jsonb language plpgsql security definer set search_path = '' as $$
        begin
            update told.account set balance = balance - 1 where id = (input ->> 'from')::integer;
            update told.account set balance = balance + 1 where id = (input ->> 'to')::integer;
            return '{}';
        end $$"""
    )
    told.place.sql("select saga.handle('bank.move', 'told.move')")
    bank = {"action": "'bank.move'", "undo": "'bank.move'", "retry": "saga.retry_policy(max => 50, base => '10ms', cap => '200ms')"}
    told.define("bank", [("m", "compensable", "", bank), ("p", "pivot", "m")])
    daemons("outbox-relay").wait_ready()
    drivers = [daemons("saga-worker").wait_ready() for _ in range(2)]
    told.place.sql(
        "select saga.start('bank', jsonb_build_object('from', n % 6 + 1, 'to', n * 7 % 5 % 6 + 1)) from generate_series(1, 400) n"
    )
    wait_until(lambda: told.place.value("select count(*) from saga.ended where state = 'SUCCEEDED'") == 400, 90, lambda: told.place.sql("select state, count(*) from saga.instances group by 1"))
    assert told.place.value("select sum(balance) from told.account") == 6000
    assert all(driver.metric("sagapost_saga_dead_lettered_total") == 0 for driver in drivers)


def test_a_batch_with_a_culprit(told, daemons):
    """One command's handler runs into the statement's time limit: the others of its batch go through."""
    daemons("outbox-relay").wait_ready()
    told.place.sql(
        """create function told.stall(input jsonb) returns jsonb language plpgsql security definer set search_path = '' as $$
        begin
            if (input ->> 'n')::integer = 17 then
                perform pg_catalog.pg_sleep(30);
            end if;
            return '{}';
        end $$"""
    )
    told.place.sql("select saga.handle('stall.act', 'told.stall')")
    told.define("culprit", [("a", "compensable", "", {"action": "'stall.act'", "undo": "'stall.act'", "retry": "saga.retry_policy(max => 1)"}), ("p", "pivot", "a")])
    worker = daemons("saga-worker", "--statement-timeout", "2s").wait_ready()
    worker.wait_log("participant=stall")
    told.place.sql("select saga.start('culprit', jsonb_build_object('n', n)) from generate_series(1, 32) n")
    all_ended(told, 32)
    assert told.place.sql("select input ->> 'n' from saga.instances where state <> 'SUCCEEDED'") == [("17",)]
    assert worker.metric("sagapost_saga_batch_failures_total", role="execute") >= 1
    assert worker.metric("sagapost_saga_dead_lettered_total") == 0


def test_an_output_that_is_too_large(told, programs):
    told.place.sql(
        """create function told.large(input jsonb) returns jsonb language sql security definer set search_path = '' as $$
            select pg_catalog.jsonb_build_object('x', pg_catalog.repeat('x', case when (input ->> 'n')::integer = 17 then 3000000 else 1 end)) $$"""
    )
    told.place.sql("select saga.handle('large.act', 'told.large')")
    large = {"action": "'large.act'", "undo": "'large.act'", "timeout": "'1min'", "retry": "saga.retry_policy(max => 2, base => '50ms')"}
    told.define("large", [("a", "compensable", "", large), ("p", "pivot", "a")])
    told.place.sql("select saga.start('large', jsonb_build_object('n', n)) from generate_series(1, 20) n")
    all_ended(told, 20)
    odd = told.place.sql("select input ->> 'n', state, errors -> 'a' ->> 'message' like '%bytes%' from saga.instances where state <> 'SUCCEEDED'")
    assert odd == [("17", "COMPENSATED", True)]


def all_ended(told, count, limit_s=60):
    wait_until(
        lambda: told.place.value("select count(*) from saga.ended") == count, limit_s,
        lambda: told.place.sql("select state, phase, reason, count(*) from saga.instances group by 1, 2, 3"),
    )


def test_a_handler_that_ends_its_connection(told, programs):
    """As often as it is run: found, run alone, and answered for in the end. The others of its batches go through, once each."""
    told.place.sql(
        """create function told.die(input jsonb) returns jsonb language plpgsql security definer set search_path = '' as $$
        begin
            if (input ->> 'n')::integer = 17 then
                perform pg_catalog.pg_terminate_backend(pg_catalog.pg_backend_pid());
            end if;
            return told.run(input);
        end $$"""
    )
    told.place.sql("select saga.handle('die.act', 'told.die')")
    die = {"action": "'die.act'", "undo": "'die.act'", "timeout": "'1min'", "retry": "saga.retry_policy(max => 1)"}
    told.define("die", [("a", "compensable", "", die), ("p", "pivot", "a")])
    told.place.sql("select saga.start('die', jsonb_build_object('n', n)) from generate_series(1, 40) n")
    all_ended(told, 40)
    assert told.place.sql("select input ->> 'n', state from saga.instances where state <> 'SUCCEEDED'") == [("17", "COMPENSATED")]
    assert told.place.value("select count(*) from told.effect") == 39 * 2
    assert programs.metric("sagapost_saga_dead_lettered_total") == 0


TRIP = """
create function told.trip() returns trigger language plpgsql as $$
begin
    if new.input ->> 'n' = '17' and new.state <> 'CLOSED' and exists (select from told.tripwire) then
        raise exception using errcode = (select state from told.tripwire), message = 'tripped';
    end if;
    return new;
end $$;
create table told.tripwire (state text);
create trigger trip before update on saga.instance for each row execute function told.trip();
"""


@pytest.mark.parametrize("state", ["40001", "55P03", "P0001"])
def test_a_saga_that_cannot_be_written_for_a_while(told, daemons, state):
    """The row of one saga refuses every update: the others of its batches go on, and when it is over so does this one."""
    told.place.sql(TRIP)
    told.place.sql("insert into told.tripwire values (%s)", (state,))
    told.define("tripped", [("a", "compensable", ""), ("b", "compensable", ""), ("p", "pivot", "a,b")])
    told.place.sql("select saga.start('tripped', jsonb_build_object('n', n)) from generate_series(1, 40) n")
    daemons("outbox-relay").wait_ready()
    worker = daemons("saga-worker").wait_ready()
    wait_until(lambda: told.place.value("select count(*) from saga.ended") == 39, 60, lambda: told.place.sql("select state, count(*) from saga.instances group by 1"))
    wait_until(lambda: worker.metric("sagapost_saga_batch_failures_total", role="orchestrate") >= 2, 30, "its batches were halved")
    told.place.sql("delete from told.tripwire")
    wait_until(lambda: told.place.value("select count(*) from saga.ended where state = 'SUCCEEDED'") == 40, 60, lambda: told.place.sql("select * from saga.instances"))
    assert worker.metric("sagapost_saga_dead_lettered_total") == 0
    assert told.place.value("select count(*) from told.effect") == 120


def test_a_saga_whose_row_was_damaged(told, programs):
    """Its replies are set apart with the reason, it is named in the log, and nothing else is disturbed."""
    told.define("damaged", [("a", "compensable", "", {"retry": "saga.retry_policy(max => 100, base => '3s', factor => 1, cap => '3s')"}), ("p", "pivot", "a")])
    told.behave("a", "action", "55P03", times=1)
    saga = told.start("damaged")
    wait_until(lambda: told.steps(saga)["a"] == "RETRY_WAIT", 30, lambda: told.show(saga))
    told.place.sql("update saga.instance set steps = '[{\"s\": \"DANCING\"}]'")
    programs.wait_log("a saga cannot be driven")
    programs.wait_log(saga)
    assert end(told, told.start("damaged")) == "SUCCEEDED"


def test_worker_with_no_more_rights_than_its_role(told, daemons):
    told.place.sql("do $$ begin create role told_worker login; exception when duplicate_object then null; end $$")
    told.place.sql("grant sagapost_worker to told_worker")
    told.place.sql("grant usage on schema told to sagapost_worker")
    told.place.sql("revoke all on all functions in schema told from public")
    told.place.sql("grant execute on function told.run to sagapost_worker")
    told.define("rights", [("a", "compensable", ""), ("p", "pivot", "a"), ("r", "retriable", "p")], events="true")
    told.behave("p", "action", "SG001", times=1)
    daemons("outbox-relay").wait_ready()
    limited = told.place.conninfo.replace("user=postgres", "user=told_worker")
    worker = daemons("saga-worker", environment={"SAGAPOST_POSTGRES": limited}).wait_ready()
    assert end(told, told.start("rights")) == "COMPENSATED", worker.log()
    assert end(told, told.start("rights")) == "SUCCEEDED", worker.log()
    saga = told.start("rights")
    assert end(told, saga) == "SUCCEEDED"
    assert "permission denied" not in worker.log()


def test_a_saga_that_lost_its_timer_is_woken(told, daemons):
    """What no crash of ours leaves behind, but a hand may: a saga without a timer is found and goes on."""
    daemons("outbox-relay").wait_ready()
    told.define("lost", [("a", "compensable", "", {"retry": "saga.retry_policy(max => 10, base => '4s', factor => 1, cap => '4s')"}), ("p", "pivot", "a")])
    told.behave("a", "action", "40001", times=1)
    worker = daemons("saga-worker").wait_ready()
    saga = told.start("lost")
    wait_until(lambda: told.steps(saga)["a"] == "RETRY_WAIT", 30, lambda: told.show(saga))
    worker.kill()
    told.place.sql("update saga.instance set wake_at = null")
    worker = daemons("saga-worker", "--stall-check-interval", "1s").wait_ready()
    assert end(told, saga) == "SUCCEEDED"
    assert worker.metric("sagapost_saga_stalled_total") == 1


def test_timers_fire_in_time(told, programs):
    # The first hundred calls fail, whichever sagas they are of: on a slow machine one saga may be hit several times.
    told.define("timed", [("a", "compensable", "", {"retry": "saga.retry_policy(max => 110, base => '700ms', factor => 1, cap => '700ms', jitter => false)"}), ("p", "pivot", "a")])
    told.behave("a", "action", "55P03", times=100)
    told.place.sql("select saga.start('timed', '{}') from generate_series(1, 100)")
    wait_until(lambda: told.place.value("select count(*) from saga.ended where state = 'SUCCEEDED'") == 100, 60, "all succeeded")
    assert programs.metric("sagapost_saga_timers_total") >= 100


def test_state_gauges(told, daemons):
    daemons("outbox-relay").wait_ready()
    worker = daemons("saga-worker", "--gauges-interval", "1s").wait_ready()
    told.define("gauge", [("p", "pivot", ""), ("last", "retriable", "p", {"retry": "saga.retry_policy(max => 1)"})])
    told.behave("last", "action", "XX000")
    saga = told.start("gauge")
    wait_state(told, saga, "STUCK")
    worker.wait_metric("sagapost_saga_stuck", 1)
    worker.wait_metric("sagapost_saga_sagas", 1, definition="gauge", state="STUCK")
    told.behave("last", "action", "XX000", times=0)
    told.place.sql("select saga.retry(%s)", (saga,))
    end(told, saga)
    worker.wait_metric("sagapost_saga_stuck", 0)
    worker.wait_metric("sagapost_saga_ended_total", 1, definition="gauge", state="SUCCEEDED")
    assert worker.metric("sagapost_saga_step_latency_seconds_count", definition="gauge") >= 2
