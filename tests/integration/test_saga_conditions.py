"""run_if and skip_if, end to end: what is skipped, what its dependants see, that nothing of it is undone, and that it happens once."""

import pytest

from harness.wait import wait_until

EXPRESS = """'{"input": {"express": true}}'"""


def wait_step(told, saga, step, state):
    wait_until(lambda: told.steps(saga)[step] == state, 60, lambda: f"{step} {state}:\n{told.show(saga)}")


def history(told, saga, step):
    return [row[0] for row in told.place.sql("select event from saga.timeline where saga_id = %s and step = %s order by id", (saga, step))]


def test_what_dependants_of_a_skipped_step_see(told, programs):
    """The default where nothing was put out, the output where it ran; what follows starts all the same."""
    told.define(
        "choice",
        [
            ("first", "compensable", ""),
            ("extra", "compensable", "first", {"run_if": EXPRESS, "input": """'{"n": "$.input.n"}'"""}),
            ("pay", "pivot", "extra", {"input": """'{"extra": {"$path": "$.steps.extra.did", "default": "none"}, "first": "$.steps.first.did"}'"""}),
            ("either", "retriable", "pay", {"run_if": """'{"steps": {"extra": {}}}'"""}),
            ("or", "retriable", "pay", {"skip_if": """'{"steps": {"extra": {}}}'"""}),
        ],
    )
    without, express = told.start("choice", '{"express": false}'), told.start("choice", '{"express": true, "n": 1.50}')
    assert told.end(without) == "SUCCEEDED"
    assert told.end(express) == "SUCCEEDED"
    assert told.effects(without) == ["first", "pay", "or"]
    assert told.effects(express) == ["first", "extra", "pay", "either"]
    assert told.steps(without)["extra"] == "SKIPPED"
    assert "extra" not in told.column(without, "outputs"), "its input could not even be built, and nobody minded"
    inputs = dict(told.place.sql("select saga::text, input from told.effect where step = 'pay'"))
    assert inputs == {without: {"extra": "none", "first": "first"}, express: {"extra": "extra", "first": "first"}}
    assert history(told, without, "extra") == ["skipped"]
    assert programs.metric("sagapost_saga_unmappable_total") == 0
    assert programs.metric("sagapost_saga_commands_sent_total", operation="action") == 2 + 3, "of those that are no roots, only what was sent"


def test_a_skipped_step_is_not_undone(told, programs):
    told.define("undo", [("a", "compensable", ""), ("b", "compensable", "a", {"run_if": EXPRESS}), ("p", "pivot", "b")])
    told.behave("p", "action", "SG001")
    saga = told.start("undo")
    assert told.end(saga) == "COMPENSATED"
    assert told.effects(saga) == ["a", "-a"]
    assert told.steps(saga) == {"a": "UNDONE", "b": "SKIPPED", "p": "FAILED"}


def test_a_skipped_pivot_has_passed(told, programs):
    """From there on it can only be completed."""
    told.define("pivot", [("a", "compensable", ""), ("p", "pivot", "a", {"skip_if": EXPRESS}), ("last", "retriable", "p", {"retry": "saga.retry_policy(max => 100, base => '1 hour', cap => '1 hour')"})])
    told.behave("last", "action", "40001", times=1)
    saga = told.start("pivot", '{"express": true}')
    wait_step(told, saga, "last", "RETRY_WAIT")
    assert told.state(saga) == "COMPLETING"
    assert "pivot" in told.place.sagapost("saga", "cancel", saga, expect=4)
    told.place.sql("select saga.retry(%s, 'last')", (saga,))
    assert told.end(saga) == "SUCCEEDED"
    assert told.effects(saga) == ["a", "last"]


def test_a_saga_in_which_nothing_is_to_run(told, programs):
    """Roots, waits and all: it succeeds by itself, a command never being sent."""
    skipped = {"run_if": EXPRESS}
    told.define(
        "nothing",
        [("root", "read_only", "", skipped), ("other", "compensable", "", skipped), ("p", "pivot", "root,other", skipped), ("last", "retriable", "p", skipped)],
    )
    saga = told.start("nothing")
    assert told.end(saga) == "SUCCEEDED"
    assert set(told.steps(saga).values()) == {"SKIPPED"}
    assert told.place.value("select count(*) from outbox.message where type = 'saga.command'") == 0
    assert told.effects(saga) == []


def test_waits_with_conditions(told, programs):
    """An approval only for what is dear; a pause only for who is tired."""
    told.place.sql(
        """
        select saga.define('approve');
        select saga.step('approve', 'quote', action => 'told.act', undo => 'told.undo');
        select saga.step('approve', 'approval', via => 'signal', after => '{quote}', run_if => '{"steps": {"quote": {"input": {"dear": true}}}}');
        select saga.step('approve', 'nap', via => 'timer', timeout => '1 day', after => '{quote}', run_if => '{"input": {"tired": true}}');
        select saga.step('approve', 'buy', action => 'told.act', kind => 'pivot', after => '{approval,nap}',
                         input => '{"by": {"$path": "$.steps.approval.by", "default": null}}');
        select saga.publish('approve');
        """
    )
    cheap, dear = told.start("approve", '{"dear": false}'), told.start("approve", '{"dear": true}')
    assert told.end(cheap) == "SUCCEEDED"
    assert told.steps(cheap) == {"quote": "SUCCEEDED", "approval": "SKIPPED", "nap": "SKIPPED", "buy": "SUCCEEDED"}
    wait_step(told, dear, "approval", "PARKED")
    told.place.sql("select saga.signal(%s, 'approval', '{\"by\": \"ann\"}')", (dear,))
    assert told.end(dear) == "SUCCEEDED"
    assert dict(told.place.sql("select saga::text, input -> 'by' from told.effect where step = 'buy'")) == {cheap: None, dear: "ann"}


def test_repeated_and_late_messages_about_a_skipped_step(told, programs):
    """An answer to what was never sent is a lie, and is not believed; a command sent twice changes nothing."""
    told.define("lies", [("a", "compensable", "", {"run_if": EXPRESS}), ("p", "pivot", "a", {"retry": "saga.retry_policy(max => 100, base => '1 hour', cap => '1 hour')"})])
    told.behave("p", "action", "40001")
    saga = told.start("lies")
    wait_step(told, saga, "p", "RETRY_WAIT")
    reply = """{"saga": {"id": "%s", "step": "a", "operation": "action", "round": 1}, "outcome": "%s", "output": {}}"""
    channel = told.place.channel()
    name = told.place.value("select orchestrator from saga.setting")
    channel.basic_publish("saga.replies", name, (reply % (saga, "transient")).encode())
    wait_until(lambda: programs.metric("sagapost_saga_replies_ignored_total") == 1, 30, "it is ignored")
    assert told.steps(saga)["a"] == "SKIPPED"
    channel.basic_publish("saga.replies", name, (reply % (saga, "ok")).encode())
    wait_until(lambda: told.state(saga) == "STUCK", 30, lambda: told.show(saga))
    assert told.column(saga, "phase") == "protocol"


def test_held_sagas_ask_when_they_go_on(told, programs):
    told.define("held", [("a", "compensable", "", {"retry": "saga.retry_policy(max => 1000, base => '200ms', cap => '200ms')"}), ("b", "compensable", "a", {"run_if": EXPRESS}), ("p", "pivot", "b")])
    told.behave("a", "action", "40001")  # for as long as it takes to pause it
    saga = told.start("held")
    told.place.sagapost("saga", "pause", saga)
    wait_until(lambda: told.steps(saga)["a"] == "READY", 60, lambda: told.show(saga))
    told.behave("a", "action", "40001", times=0)
    told.place.sagapost("saga", "resume", saga)
    assert told.end(saga) == "SUCCEEDED"
    assert told.effects(saga) == ["a", "p"] and told.steps(saga)["b"] == "SKIPPED"


def test_many_at_once(told, daemons):
    """Batches in which several answers are about one saga: while a condition is asked for, the others wait for their turn."""
    told.define(
        "crowd",
        [
            ("a", "compensable", ""),
            ("b", "compensable", ""),
            ("c", "compensable", "a", {"run_if": EXPRESS}),
            ("d", "compensable", "b", {"run_if": EXPRESS}),
            ("e", "compensable", "c,d", {"skip_if": EXPRESS}),
            ("p", "pivot", "e"),
        ],
    )
    daemons("outbox-relay").wait_ready()
    for _ in range(2):
        daemons("saga-worker").wait_ready()
    told.place.sql("select saga.start('crowd', jsonb_build_object('express', n % 2 = 0)) from generate_series(1, 200) n")
    wait_until(lambda: told.place.value("select count(*) from saga.ended where state = 'SUCCEEDED'") == 200, 90, lambda: told.place.sql("select state, count(*) from saga.instances group by 1"))
    wanted = {"true": "a b c d p", "false": "a b e p"}
    for express, did in told.place.sql("select i.input ->> 'express', string_agg(e.step, ' ' order by e.step) from saga.ended i join told.effect e on e.saga = i.id group by i.id, 1"):
        assert did == wanted[express]


@pytest.mark.parametrize("where", ["orchestrate-between-write-and-commit", "orchestrate-before-commit", "orchestrate-after-commit"])
def test_a_worker_killed_while_it_skips(told, daemons, where):
    """What it had decided is decided again, and the same."""
    told.define("killed", [("root", "read_only", "", {"run_if": EXPRESS}), ("a", "compensable", "root"), ("b", "compensable", "a", {"run_if": EXPRESS}), ("p", "pivot", "b")])
    daemons("outbox-relay").wait_ready()
    dies = daemons("saga-worker", environment={"SAGAPOST_FAILPOINT": f"{where}:3"})
    sagas = [told.start("killed") for _ in range(20)]
    assert dies.wait_exit() == -9
    daemons("saga-worker").wait_ready()
    for saga in sagas:
        assert told.end(saga) == "SUCCEEDED"
        assert told.effects(saga) == ["a", "p"]
        assert history(told, saga, "root") == ["skipped"] and history(told, saga, "b") == ["skipped"]
