"""What a person on call does: look at a saga, and change one or many of them."""

import json
import os
import shlex

import pytest

from harness.terminal import Terminal
from harness.wait import wait_until

ONCE = "saga.retry_policy(max => 1)"
NOBODY = "01890a5d-ac96-774b-bcce-b302099a8057"


@pytest.fixture
def programs(told, daemons):
    daemons("outbox-relay").wait_ready()
    return daemons("saga-worker", "--gauges-interval", "1s").wait_ready()


def stuck_forward(told, name="forward", count=1):
    """Sagas past their pivot whose last step is out of attempts."""
    told.define(name, [("p", "pivot", ""), ("last", "retriable", "p", {"retry": ONCE})])
    told.behave("last", "action", "XX000")
    sagas = [told.start(name, key=f"{name}-{n}") for n in range(count)]
    for saga in sagas:
        told.wait_state(saga, "STUCK")
    return sagas


def waiting(told, name="waiting", more="{}"):
    """A saga whose first step waits for a signal."""
    told.define(name, [("approval", "read_only", "", {"via": "'signal'", "action": "null", "timeout": "null", "retry": "null"}), ("p", "pivot", "approval")])
    return told.start(name, more)


def asked(told, saga):
    return told.place.sql("select verb, step, actor = session_user, reason, answer from saga.intent where saga_id = %s order by id", (saga,))


# One saga ---------------------------------------------------------------------------------------------------------------------------


def test_retry_and_skip_what_is_stuck_forward(told, programs):
    sagas = stuck_forward(told, count=2)
    run = told.place.sagapost
    run("saga", "skip", sagas[0], "last", "--reason", "shipped by hand")
    told.wait_state(sagas[0], "SUCCEEDED")
    assert told.steps(sagas[0])["last"] == "SKIPPED"
    assert asked(told, sagas[0]) == [("skip", "last", True, "shipped by hand", "applied")]
    detail = told.place.value("select detail from saga.timeline where saga_id = %s and event = 'skipped'", (sagas[0],))
    assert detail["actor"] == "postgres" and detail["reason"] == "shipped by hand"
    told.behave("last", "action", "XX000", times=0)
    assert "applied" in run("saga", "retry", "forward-1", "last")
    told.wait_state(sagas[1], "SUCCEEDED")


def test_mark_undone_what_is_stuck_backward(told, programs):
    told.define("backward", [("a", "compensable", "", {"undo_retry": ONCE}), ("p", "pivot", "a")])
    told.behave("p", "action", "SG001")
    told.behave("a", "undo", "XX000")
    saga = told.start("backward")
    told.wait_state(saga, "STUCK")
    told.place.sagapost("saga", "mark-undone", saga, "a", "--reason", "paid back by hand")
    told.wait_state(saga, "COMPENSATED")
    assert told.steps(saga) == {"a": "UNDONE", "p": "FAILED"}
    assert told.effects(saga) == ["a"], "its undo is not sent"
    assert asked(told, saga) == [("mark_undone", "a", True, "paid back by hand", "applied")]


def test_abandon(told, programs):
    (saga,) = stuck_forward(told)
    assert "fenced" in told.place.sagapost("saga", "abandon", saga)
    told.wait_state(saga, "CLOSED")
    assert "has ended" in told.place.sagapost("saga", "abandon", saga, expect=4)


def test_signal(told, programs):
    saga = waiting(told)
    wait_until(lambda: told.steps(saga)["approval"] == "PARKED", 30, lambda: told.show(saga))
    run = told.place.sagapost
    assert "applied" in run("saga", "signal", saga, "approval", "--payload", '{"by": "ann", "sum": 19.90}', "--signal-id", 's"1')
    told.wait_state(saga, "SUCCEEDED")
    assert told.column(saga, "outputs::text").count("19.90") == 1
    other = waiting(told, "other")
    run("saga", "pause", other)
    run("saga", "signal", other, "approval", "--signal-id", "once")
    assert "given before" in run("saga", "signal", other, "approval", "--signal-id", "once")
    assert "json" in run("saga", "signal", other, "approval", "--payload", "{", expect=1)


def test_what_a_rule_forbids(told, programs):
    """Exit status 4, the reason, and nothing changes; --dry-run says the same before."""
    (stuck,) = stuck_forward(told)
    parked = waiting(told)
    run = told.place.sagapost
    for words, why in (
        (("cancel", stuck), "pivot"),
        (("skip", stuck, "p"), "nothing to skip"),
        (("mark-undone", stuck, "last"), "not to be undone"),
        (("retry", parked), "no step is stuck"),
        (("skip", parked, "p"), "its turn has not come"),
        (("retry", parked, "approval"), "not stuck"),
        (("skip", parked, "nobody"), "no step"),
        (("signal", parked, "p"), "signal"),
    ):
        revisions = [told.column(saga, "revision") for saga in (stuck, parked)]
        assert why in run("saga", *words, "--dry-run", expect=4)
        assert why in run("saga", *words, expect=4)
        assert [told.column(saga, "revision") for saga in (stuck, parked)] == revisions
    assert told.place.value("select count(*) from saga.intent where answer = 'applied'") == 0
    assert "would be applied" in run("saga", "retry", stuck, "--dry-run")
    assert told.place.value("select count(*) from saga.intent where answer = 'applied'") == 0
    seen = told.column(stuck, "revision")
    run("saga", "pause", stuck, "--revision", seen)
    assert "has changed since" in run("saga", "resume", stuck, "--revision", seen, expect=4)
    assert "already" in run("saga", "pause", stuck), "what is so already is no conflict"
    assert NOBODY in run("saga", "abandon", NOBODY, expect=3)


@pytest.mark.parametrize(
    "words",
    [
        ["skip"],
        ["skip", "X"],
        ["abandon", "--step", "a", "--all"],
        ["retry"],
        ["cancel", "--limit", "3"],
        ["skip", "--all"],
        ["mark-undone", "--definition", "d"],
        ["pause", "--all", "--revision", "3"],
    ],
)
def test_usage(place, words):
    assert "saga" in place.sagapost("saga", *words, expect=2)


def test_nobody_answers(told):
    saga = waiting(told)
    assert "no worker has answered" in told.place.sagapost("saga", "cancel", saga, "--wait", "100ms", expect=1)
    assert "for 1 sagas" in told.place.sagapost("saga", "pause", "--all", "--wait", "100ms", expect=1)


# Many -------------------------------------------------------------------------------------------------------------------------------


def test_many_at_once(told, programs):
    sagas = stuck_forward(told, count=5)
    told.place.sagapost("saga", "pause", sagas[4])
    parked = [waiting(told, "w")] + [told.start("w") for _ in range(2)]
    wait_until(lambda: all(told.steps(saga)["approval"] == "PARKED" for saga in parked), 30, lambda: told.show(parked[0]))

    def run(*words, expect=0):
        return json.loads(told.place.sagapost("saga", *words, "--json")) if expect == 0 else told.place.sagapost("saga", *words, expect=expect)

    before = told.place.value("select count(*) from saga.intent")
    said = run("retry", "--definition", "forward", "--state", "stuck,running", "--dry-run")
    assert (said["dry_run"], said["applied"], said["refused"], said["left"]) == (True, 5, 0, 0)
    assert sorted(row["saga"] for row in said["sagas"]) == sorted(sagas)
    assert told.place.value("select count(*) from saga.intent") == before, "only said"
    assert "3 sagas" in run("retry", "--all", "--dry-run", expect=4), "of those that wait, none is stuck"

    told.behave("last", "action", "XX000", times=0)
    said = run("retry", "--definition", "forward", "--limit", 2, "--reason", "mended")
    assert said["applied"] == 2 and len(said["sagas"]) == 2
    for row in said["sagas"]:
        told.wait_state(row["saga"], "SUCCEEDED")
        assert asked(told, row["saga"])[-1] == ("retry", None, True, "mended", "applied")
    said = run("retry", "--definition", "forward", "--rate", 2)
    assert said["applied"] == 3
    said = run("resume", "--all")
    assert (said["applied"], said["left"]) == (1, 3), "what is not paused is left as it is"
    for saga in sagas:
        told.wait_state(saga, "SUCCEEDED")
    said = run("signal", "--definition", "w", "--step", "approval", "--payload", '{"by": "ann"}', "--signal-id", "all")
    assert said["applied"] == 3
    for saga in parked:
        told.wait_state(saga, "SUCCEEDED")
    assert run("abandon", "--all") == {"dry_run": False, "applied": 0, "refused": 0, "left": 0, "unanswered": 0, "sagas": []}


def test_more_than_a_page(told, programs):
    told.define("page", [("approval", "read_only", "", {"via": "'signal'", "action": "null", "timeout": "null", "retry": "null"}), ("p", "pivot", "approval")])
    told.place.sql("select saga.start('page', '{}') from generate_series(1, 1003)")
    said = json.loads(told.place.sagapost("saga", "abandon", "--definition", "page", "--json", "--wait", "3min"))
    assert said["applied"] == 1003 and len({row["saga"] for row in said["sagas"]}) == 1003
    assert told.place.sql("select state, count(*) from saga.instances group by 1") == [("CLOSED", 1003)]


# A look at one ----------------------------------------------------------------------------------------------------------------------


def test_show_a_stuck_saga(told, programs):
    """State, why, since when; and each command that it names can be typed as it stands."""
    (saga,) = stuck_forward(told)
    run = told.place.sagapost
    text = run("saga", "show", "forward-0")
    for part in (saga, "forward version 1", "STUCK (forward) for ", "why      stuck: last: ", "started  ", "out of attempts", "nothing by itself", "XX000: as told",
                 f"sagapost saga retry {saga}", f"sagapost saga skip {saga} last --revision "):
        assert part in text, f"{part!r} in\n{text}"
    shown = json.loads(run("saga", "show", saga, "--json"))
    assert shown["saga"]["state"] == "STUCK" and shown["next"] == [] and shown["since"]["at"] is not None
    assert [step["state"] for step in shown["steps"]] == ["SUCCEEDED", shown["steps"][1]["state"]]
    commands = {row["command"].split()[2]: row["command"] for row in shown["can"]}
    assert set(commands) == {"retry", "skip", "pause", "abandon"}, "no cancel past the pivot"
    told.behave("last", "action", "XX000", times=0)
    assert "applied" in run(*shlex.split(commands["retry"])[1:])
    told.wait_state(saga, "SUCCEEDED")
    text = run("saga", "show", saga)
    assert "SUCCEEDED" in text and "ended  " in text and "what can be done" not in text and "retry" in text


def test_show_is_not_driven_by_what_others_wrote(told):
    key = "a\nwhy      all is well\x1b[2J"
    told.define("odd", [("a", "read_only", "")])
    told.start("odd", key=key)
    text = told.place.sagapost("saga", "show", key)
    assert r"key      a\nwhy      all is well\u001b[2J" in text and "\x1b" not in text


def test_show_what_moves(told, programs):
    """What is in flight, what happens next and when."""
    policy = "saga.retry_policy(max => 7, base => '1 hour', cap => '1 hour', jitter => false)"
    told.define("moves", [("a", "compensable", "", {"retry": policy}), ("p", "pivot", "a")], timeout="'1 day'")
    told.behave("a", "action", "40001")
    saga = told.start("moves")
    wait_until(lambda: told.steps(saga)["a"] == "RETRY_WAIT", 30, lambda: told.show(saga))
    shown = json.loads(told.place.sagapost("saga", "show", saga, "--json"))
    assert [(row["step"], row["what"], row["attempt"], row["of"]) for row in shown["in_flight"]] == [("a", "action, waits to be sent again", 1, 7)]
    assert [(row["step"], row["what"]) for row in shown["next"]] == [
        ("a", "its pause is over"),
        (None, "its timeout has passed: what was done is undone"),
    ]
    assert {row["command"].split()[2] for row in shown["can"]} == {"retry", "skip", "cancel", "pause", "abandon"}
    told.behave("a", "action", "40001", times=0)
    assert "before its time" in told.place.sagapost("saga", "retry", saga, "a")
    told.wait_state(saga, "SUCCEEDED")


def test_show_says_when_nobody_works(told):
    """Without a worker the command's answer is overdue."""
    told.define("alone", [("a", "read_only", "", {"timeout": "'10ms'"})])
    saga = told.start("alone")
    wait_until(lambda: "overdue: is a worker running?" in told.place.sagapost("saga", "show", saga), 30, "it is overdue", every_s=0.5)


def test_show_says_what_the_broker_does_not_take(told, daemons):
    """Nobody has declared the participant's queue: its command waits in outbox.parked, and `show` says so."""
    daemons("outbox-relay").wait_ready()
    told.define("nowhere", [("a", "read_only", "")])
    saga = told.start("nowhere")
    parked = wait_until(lambda: json.loads(told.place.sagapost("saga", "show", saga, "--json"))["parked"], 30, lambda: told.show(saga), every_s=0.3)
    assert len(parked) == 1 and parked[0]["reason"] in ("no_exchange", "returned") and parked[0]["routing_key"] == "told.act", parked
    assert "what RabbitMQ does not take: sagapost doctor says why" in told.place.sagapost("saga", "show", saga)


# A look at all ----------------------------------------------------------------------------------------------------------------------


def test_top(told, programs):
    """On a terminal a live screen, elsewhere a table; by definition, with what is stuck and why."""
    (stuck,) = stuck_forward(told)
    told.define("quick", [("p", "pivot", "")])
    for saga in [told.start("quick") for _ in range(3)]:
        told.wait_state(saga, "SUCCEEDED")
    said = json.loads(told.place.sagapost("saga", "top", "--json"))
    rows = {row["definition"]: row for row in said["definitions"]}
    assert (rows["forward"]["running"], rows["forward"]["stuck"], rows["quick"]["running"]) == (1, 1, 0)
    assert rows["quick"]["ended_per_s"] == 0.1 and rows["quick"]["p50_ms"] <= rows["quick"]["p99_ms"]
    assert [row["id"] for row in said["stuck"]] == [stuck]
    assert "stuck: last: XX000" in told.place.sagapost("saga", "top", "--definition", "forward")
    screen = Terminal(told.place, "saga", "top")
    try:
        screen.wait_for(r"^forward +1 +1 +0 ")
        screen.wait_for(rf"^{stuck} +forward +forward-0 ")
        told.place.sagapost("saga", "skip", stuck, "last")
        screen.wait_for(r"^forward +0 +0 +0 ")
        screen.wait_for("nothing is stuck")
        os.write(screen.master, b"q")
        assert screen.ended() == 0
    finally:
        screen.close()


# A saga that gets stuck is heard of --------------------------------------------------------------------------------------------------


def test_a_stuck_saga_raises_an_event_and_a_metric(told, daemons):
    worker = daemons("saga-worker", "--gauges-interval", "1s").wait_ready()
    channel = told.place.channel()
    queue = channel.queue_declare("", exclusive=True).method.queue
    channel.queue_bind(queue, "saga.events", "*.stuck")
    daemons("outbox-relay").wait_ready()
    told.define("loud", [("p", "pivot", ""), ("last", "retriable", "p", {"retry": ONCE})], events="true")
    told.behave("last", "action", "XX000")
    saga = told.start("loud")
    heard = []

    def hear():
        method, _, body = channel.basic_get(queue, auto_ack=True)
        if method:
            heard.append((method.routing_key, json.loads(body)))
        return heard

    wait_until(hear, 30, lambda: told.show(saga))
    key, body = heard[0]
    assert key == "loud.stuck" and body["saga"]["id"] == saga and body["event"] == "stuck" and "last" in body["reason"]
    wait_until(lambda: worker.metric("sagapost_saga_stuck") == 1, 30, "the gauge counts it")
    assert worker.metric("sagapost_saga_sagas", definition="loud", state="STUCK") == 1
    told.place.sagapost("saga", "retry", "--all")
    wait_until(lambda: len(hear()) == 2, 30, "stuck again, heard again")
