"""Steps that wait, for time or for a signal, end to end: early, late and repeated signals, timeouts and what follows, workers that die."""

import json
import threading

import psycopg2
import pytest

from harness.wait import patient, wait_until


def define(told, name, wait, first="", also=""):
    """A saga: a (compensable), the wait, p (pivot)."""
    told.place.sql(
        f"""
        select saga.define('{name}');
        select saga.step('{name}', 'a', action => 'told.act', undo => 'told.undo', undo_retry => saga.retry_policy(base => '50ms'),
                         retry => saga.retry_policy(max => 100, base => '50ms', cap => '100ms') {first});
        select saga.step('{name}', 'w', after => '{{a}}', {wait});
        select saga.step('{name}', 'p', action => 'told.act', kind => 'pivot', after => '{{w}}', input => '{{"w": {{"$path": "$.steps.w", "default": "nothing"}}}}');
        {also}
        select saga.publish('{name}');
        """
    )


def wait_step(told, saga, step, state):
    wait_until(lambda: told.steps(saga)[step] == state, 60, lambda: f"{step} {state}:\n{told.show(saga)}")


def signal(told, saga, payload="{}", signal_id=None, step="w"):
    return told.place.value("select saga.signal(%s, %s, %s, %s)", (saga, step, payload, signal_id))


def answers(told, saga, verb="signal"):
    return [row[0] for row in told.place.sql("select answer from saga.intent where saga_id = %s and verb = %s order by id", (saga, verb))]


def seen_by_pivot(told, saga):
    return told.place.value("select input -> 'w' from told.effect where saga = %s and step = 'p'", (saga,))


# Timers --------------------------------------------------------------------------------------------------------------------------------


def test_a_timer(told, programs):
    define(told, "nap", "via => 'timer', timeout => '300ms'")
    saga = told.start("nap")
    assert told.end(saga) == "SUCCEEDED"
    assert told.effects(saga) == ["a", "p"]
    done = told.place.value("select at from saga.timeline where saga_id = %s and step = 'w' and event = 'succeeded'", (saga,))
    assert (done - told.column(saga, "started_at")).total_seconds() >= 0.3, "never sooner"


def test_a_root_timer_is_fired_though_nobody_armed_it(told, daemons):
    """Shorter than the pause between two looks of the worker, which is woken."""
    told.place.sql("select saga.define('root'); select saga.step('root', 'w', via => 'timer', timeout => '50ms'); select saga.publish('root')")
    daemons("outbox-relay").wait_ready()
    daemons("saga-worker", "--sweep-interval", "1min").wait_ready()
    assert told.end(told.start("root")) == "SUCCEEDED"


def test_a_timer_outlives_its_worker(told, daemons):
    """The worker that armed it is killed; another finds it in the database."""
    define(told, "nap", "via => 'timer', timeout => '2s'")
    daemons("outbox-relay").wait_ready()
    dies = daemons("saga-worker").wait_ready()
    sagas = [told.start("nap") for _ in range(20)]
    parked = "select count(*) from saga.steps where step = 'w' and state = 'PARKED'"
    wait_until(lambda: told.place.value(parked) > 0, 60, "no timer runs")  # not all of them: on a slow machine the first have ended by then
    dies.kill()
    daemons("saga-worker").wait_ready()
    for saga in sagas:
        assert told.end(saga) == "SUCCEEDED"
        assert told.effects(saga) == ["a", "p"]


def test_a_cancel_ends_a_wait(told, programs):
    for name, wait in (("nap", "via => 'timer', timeout => '1 day'"), ("call", "via => 'signal'")):
        define(told, name, wait)
        saga = told.start(name)
        wait_step(told, saga, "w", "PARKED")
        told.place.sagapost("saga", "cancel", saga)
        assert told.end(saga) == "COMPENSATED"
        assert told.steps(saga)["w"] == "CANCELLED"
        assert told.effects(saga) == ["a", "-a"]


# Signals -------------------------------------------------------------------------------------------------------------------------------


def test_a_signal_brings_its_payload(told, programs):
    define(told, "call", "via => 'signal'")
    saga = told.start("call")
    wait_step(told, saga, "w", "PARKED")
    assert signal(told, saga, '{"by": "ann", "limit": 19.90}', "s-1") == "recorded"
    assert told.end(saga) == "SUCCEEDED"
    assert told.place.value("select (input -> 'w')::text from told.effect where saga = %s and step = 'p'", (saga,)) == '{"by": "ann", "limit": 19.90}'
    assert answers(told, saga) == ["applied"]
    assert signal(told, saga, "{}", "s-1") == "repeated", "also when the saga has ended"
    with pytest.raises(psycopg2.Error) as refused:
        signal(told, saga, "{}", "s-2")
    assert refused.value.pgcode == "SG402"


def test_an_early_signal_is_kept(told, programs):
    """Given while the step before is still being tried, and looked at by nobody until its step waits."""
    define(told, "call", "via => 'signal'")
    told.behave("a", "action", "40001")
    saga = told.start("call")
    assert signal(told, saga, '{"n": 1}', "s-1") == "recorded"
    assert signal(told, saga, '{"n": 2}', "s-1") == "repeated"
    assert signal(told, saga, '{"n": 3}', "s-2") == "recorded"
    wait_until(lambda: told.place.value("select count(*) from saga.intent where kept_at is not null") == 2, 60, "both are kept")
    assert answers(told, saga) == [None, None]
    told.behave("a", "action", "40001", times=0)
    assert told.end(saga) == "SUCCEEDED"
    assert seen_by_pivot(told, saga) == {"n": 1}, "the first is the one"
    wait_until(lambda: None not in answers(told, saga), 60, "both are answered")


def test_early_signals_keep_nobody_waiting(told, programs):
    """More of them than a worker looks at at a time: an operator's cancel behind them is heard."""
    define(told, "call", "via => 'signal'")
    told.behave("a", "action", "40001")
    sagas = [told.start("call") for _ in range(40)]
    told.place.sql("select saga.signal(id, 'w') from saga.instance, generate_series(1, 20)")
    told.place.sagapost("saga", "cancel", sagas[0])
    assert told.end(sagas[0]) == "COMPENSATED"
    wait_until(lambda: answers(told, sagas[0]) == ["refused"] * 20, 60, "what was kept for an ended saga is answered")
    told.behave("a", "action", "40001", times=0)
    for saga in sagas[1:]:
        assert told.end(saga) == "SUCCEEDED"
    wait_until(lambda: told.place.value("select count(*) from saga.intent where applied_at is null") == 0, 60, "all are answered")


def test_a_signal_that_does_not_come(told, programs):
    define(told, "call", "via => 'signal', timeout => '200ms'")
    saga = told.start("call")
    assert told.end(saga) == "COMPENSATED"
    assert told.effects(saga) == ["a", "-a"]
    assert "did not come in time" in told.column(saga, "reason")


def test_what_follows_when_a_signal_does_not_come(told, programs):
    """It goes on without, and a step that runs only then says so to somebody."""
    also = """select saga.step('{0}', 'escalate', action => 'told.act', kind => 'retriable', after => '{{p}}', skip_if => '{{"steps": {{"w": {{}}}}}}');
              select saga.step('{0}', 'last', via => 'signal', timeout => '200ms', on_timeout => 'skip', after => '{{escalate}}');"""
    define(told, "call", "via => 'signal', timeout => '200ms', on_timeout => 'skip'", also=also.format("call"))
    define(told, "long", "via => 'signal', timeout => '1 day', on_timeout => 'skip'", also=also.format("long"))
    without, answered = told.start("call"), told.start("long")
    signal(told, answered, '{"by": "ann"}')
    assert told.end(without) == "SUCCEEDED" and told.end(answered) == "SUCCEEDED"
    assert told.effects(without) == ["a", "p", "escalate"] and told.effects(answered) == ["a", "p"]
    assert told.steps(without) == {"a": "SUCCEEDED", "w": "SKIPPED", "p": "SUCCEEDED", "escalate": "SUCCEEDED", "last": "SKIPPED"}
    assert seen_by_pivot(told, without) == "nothing" and seen_by_pivot(told, answered) == {"by": "ann"}


def test_a_signal_that_comes_too_late_is_refused(told, programs):
    define(told, "call", "via => 'signal', timeout => '100ms', on_timeout => 'skip'")
    told.behave("p", "action", "40001", times=3)
    saga = told.start("call")
    wait_step(told, saga, "w", "SKIPPED")
    try:
        signal(told, saga)
    except psycopg2.Error as ended:
        assert ended.pgcode == "SG402"
    assert told.end(saga) == "SUCCEEDED"
    wait_until(lambda: answers(told, saga) in ([], ["refused"]), 60, lambda: answers(told, saga))


def test_a_paused_saga_takes_its_signal_and_sends_nothing(told, programs):
    define(told, "call", "via => 'signal'")
    saga = told.start("call")
    wait_step(told, saga, "w", "PARKED")
    told.place.sagapost("saga", "pause", saga)
    signal(told, saga)
    wait_step(told, saga, "p", "READY")
    told.place.sagapost("saga", "resume", saga)
    assert told.end(saga) == "SUCCEEDED"


def test_signals_and_cancels_at_the_same_moment(told, programs):
    """Whichever comes first: each saga ends one way or the other, whole."""
    define(told, "call", "via => 'signal'")
    sagas = [told.start("call") for _ in range(30)]
    for saga in sagas:
        wait_step(told, saga, "w", "PARKED")

    def each(statement):
        for saga in sagas:
            try:
                told.place.sql(statement, (saga,))
            except psycopg2.Error as ended:
                assert ended.pgcode == "SG402"

    threads = [threading.Thread(target=each, args=(statement,)) for statement in ("select saga.signal(%s, 'w', '{}', 'once')", "select saga.cancel(%s)", "select saga.signal(%s, 'w', '{}', 'once')")]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(patient(60))
    for saga in sagas:
        state = told.end(saga)
        assert told.effects(saga) == (["a", "p"] if state == "SUCCEEDED" else ["a", "-a"]), told.show(saga)


@pytest.mark.parametrize("where", ["orchestrate-between-write-and-commit", "orchestrate-before-commit", "orchestrate-after-commit"])
def test_a_worker_killed_while_it_keeps_and_takes_signals(told, daemons, where):
    define(told, "call", "via => 'signal'")
    told.behave("a", "action", "40001", times=30)
    sagas = [told.start("call") for _ in range(20)]
    for saga in sagas:
        assert signal(told, saga, json.dumps({"for": saga}), "once") == "recorded"
    daemons("outbox-relay").wait_ready()
    for nth in (1, 4):
        dies = daemons("saga-worker", environment={"SAGAPOST_FAILPOINT": f"{where}:{nth}"})
        assert dies.wait_exit(60) == -9, dies.log()
    daemons("saga-worker").wait_ready()
    for saga in sagas:
        assert told.end(saga) == "SUCCEEDED"
        assert told.effects(saga) == ["a", "p"] and seen_by_pivot(told, saga) == {"for": saga}
    wait_until(lambda: told.place.value("select count(*) from saga.intent where applied_at is null") == 0, 60, "all are answered")
