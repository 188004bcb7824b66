"""Messages of sagas that come again, late, not at all, or are none, and participants that are away, silent or in another language."""

import json
import uuid

from harness.participant import Participant
from harness.wait import wait_until


def published(told, kind):
    return told.place.sql("select exchange, coalesce(routing_key, type), payload::text from outbox.message where type = %s order by id", (f"saga.{kind}",))


def test_repeated_messages_change_nothing(told, programs):
    told.define("again", [("a", "compensable", ""), ("b", "compensable", "a"), ("p", "pivot", "b")])
    told.behave("p", "action", "SG001")
    saga = told.start("again")
    assert told.end(saga) == "COMPENSATED"
    history = told.show(saga)
    channel = told.place.channel()
    sent = 0
    for _ in range(3):
        for exchange, key, body in published(told, "command") + published(told, "reply"):
            channel.basic_publish(exchange, key, body.encode())
            sent += 1
    other = told.start("again")
    assert told.end(other) == "COMPENSATED"
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
    assert told.end(saga) == "SUCCEEDED"
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
        assert told.end(saga) == "SUCCEEDED"
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
    assert told.end(saga) == "SUCCEEDED"


def test_reply_that_claims_the_impossible(told, programs):
    """A step that was never sent is said to be done: stuck until a person has looked, not believed."""
    told.define("liar", [("a", "compensable", "", {"retry": "saga.retry_policy(max => 100, base => '1 hour', cap => '1 hour')"}), ("p", "pivot", "a")])
    told.behave("a", "action", "40001")
    saga = told.start("liar")
    lie = {"saga": {"id": saga, "step": "p", "operation": "action", "round": 1}, "outcome": "ok", "output": {}}
    told.place.channel().basic_publish("saga.replies", told.place.value("select orchestrator from saga.setting"), json.dumps(lie).encode())
    told.wait_state(saga, "STUCK")
    assert told.column(saga, "phase") == "protocol"


def test_action_without_a_handler(told, programs):
    told.define(
        "early", [("a", "compensable", "", {"action": "'told.later'", "retry": "saga.retry_policy(max => 1000, base => '100ms', factor => 1, cap => '100ms')"}), ("p", "pivot", "a")]
    )
    saga = told.start("early")
    wait_until(lambda: (told.column(saga, "errors") or {}).get("a", {}).get("code") == "unknown_action", 30, lambda: told.show(saga))
    told.place.sql("select saga.handle('told.later', 'told.run')")
    assert told.end(saga) == "SUCCEEDED"


def test_participant_that_appears_later(told, daemons):
    """A new participant's queue is declared and consumed while the worker runs."""
    daemons("outbox-relay").wait_ready()
    worker = daemons("saga-worker", "--handler-poll-interval", "10min").wait_ready()
    told.define("newcomer", [("a", "compensable", ""), ("p", "pivot", "a", {"action": "'newcomer.act'"})])
    told.place.sql("select saga.handle('newcomer.act', 'told.run')")
    worker.wait_log("participant=newcomer")
    assert told.end(told.start("newcomer")) == "SUCCEEDED"


def test_only_the_actions_asked_for(told, daemons):
    daemons("outbox-relay").wait_ready()
    told.place.sql("select saga.handle('other.act', 'told.run')")
    worker = daemons("saga-worker", "--actions", "told.*").wait_ready()
    told.define("partial", [("a", "compensable", ""), ("p", "pivot", "a", {"action": "'other.act'", "timeout": "'60s'"})])
    saga = told.start("partial")
    wait_until(lambda: told.effects(saga) == ["a"], 30, lambda: told.show(saga))
    assert "participant=other" not in worker.log()
    daemons("saga-worker", "--roles", "execute", "--actions", "oth*.*").wait_ready()
    assert told.end(saga) == "SUCCEEDED"


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
    assert told.end(saga) == "SUCCEEDED"
    assert told.place.sql("select given from told.pyth where saga = %s", (saga,)) == [('{"n": 3.140}',)]
    assert told.place.value("select input::text from told.effect where saga = %s", (saga,)) == '{"n": 0.10}'
    refused = told.start("refused")
    assert told.end(refused) == "COMPENSATED"
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
    told.wait_state(saga, "STUCK")
    assert told.column(saga, "phase") == "in_doubt"
    participant.start()
    assert told.end(saga) in ("SUCCEEDED", "COMPENSATED")
    participant.over = True
    assert participant.verdicts.count("execute") >= 1
