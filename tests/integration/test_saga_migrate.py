"""Running sagas go on by a newer version of their definition: one or many, said before and done, refused with the reason, and with workers
that die in the middle."""

import json

from harness.wait import wait_until

SIGNAL = {"via": "'signal'", "action": "null", "timeout": "null", "retry": "null"}
FIRST = ("a", "compensable", "")
WAIT = ("approval", "read_only", "a", SIGNAL)
PIVOT = ("p", "pivot", "approval")
LAST = ("last", "retriable", "p")


def end(told, saga, wanted="SUCCEEDED"):
    assert told.end(saga) == wanted, told.show(saga)


def parked(told, count=1, name="order", steps=(FIRST, WAIT, PIVOT), given="{}"):
    """Sagas that wait for their approval."""
    told.define(name, steps)
    sagas = [told.start(name, given, key=f"{name}-{n}") for n in range(count)]
    for saga in sagas:
        wait_until(lambda saga=saga: told.steps(saga)["approval"] == "PARKED", 60, lambda saga=saga: told.show(saga))
    return sagas


def versions(told, sagas):
    return [told.column(saga, "version") for saga in sagas]


def approve(told, sagas):
    for saga in sagas:
        told.place.sql("select saga.signal(%s, 'approval', '{}')", (saga,))


def migrated(told, saga):
    return [row[0] for row in told.place.sql("select detail from saga.timeline where saga_id = %s and event = 'migrated'", (saga,))]


def test_many_that_wait_end_by_the_new_version(shared):
    sagas = parked(shared, 20, name="many")
    shared.define("many", [FIRST, WAIT, PIVOT, LAST])
    run = shared.place.sagapost
    many = ("saga", "migrate", "--definition", "many", "--to", "2", "--json")
    before = [shared.column(saga, "revision") for saga in sagas]
    said = json.loads(run(*many, "--dry-run"))
    assert (said["dry_run"], said["applied"], said["refused"]) == (True, 20, 0)
    assert "would be applied: what it has done is the same" in run("saga", "migrate", sagas[0], "--to", 2, "--dry-run")
    assert versions(shared, sagas) == [1] * 20 and [shared.column(saga, "revision") for saga in sagas] == before, "only said"
    said = json.loads(run(*many, "--reason", "one step more", "--rate", 200))
    assert (said["applied"], said["refused"], said["left"], said["unanswered"]) == (20, 0, 0, 0)
    assert versions(shared, sagas) == [2] * 20
    assert shared.steps(sagas[0]) == {"a": "SUCCEEDED", "approval": "PARKED", "p": "WAITING", "last": "WAITING"}
    (detail,) = migrated(shared, sagas[0])
    assert (detail["actor"], detail["reason"]) == ("postgres", "one step more") and detail["because"].startswith("version 1 to 2: ")
    assert json.loads(run(*many, "--dry-run", "--state", "SUCCEEDED"))["applied"] == 0
    assert "for 20 sagas" in run(*many, expect=4), "it is there already"
    approve(shared, sagas)
    for saga in sagas:
        end(shared, saga)
        assert shared.effects(saga) == ["a", "p", "last"] and shared.column(saga, "version") == 2


def test_workers_die_in_the_middle(told, daemons):
    """Before the COMMIT nothing has happened, after it everything; asked once, each is migrated once."""
    daemons("outbox-relay").wait_ready()
    first = daemons("saga-worker").wait_ready()
    sagas = parked(told, 20)
    first.kill()
    told.define("order", [FIRST, WAIT, PIVOT, LAST])
    told.place.sagapost("saga", "migrate", "--definition", "order", "--to", 2, "--wait", "0", expect=1)
    victim = daemons("saga-worker", environment={"SAGAPOST_FAILPOINT": "orchestrate-between-write-and-commit"})
    assert victim.wait_exit(60) == -9, victim.log()
    assert versions(told, sagas) == [1] * 20
    victim = daemons("saga-worker", environment={"SAGAPOST_FAILPOINT": "orchestrate-after-commit"})
    assert victim.wait_exit(60) == -9, victim.log()
    daemons("saga-worker").wait_ready()
    wait_until(lambda: versions(told, sagas) == [2] * 20, 60, lambda: str(versions(told, sagas)))
    approve(told, sagas)
    for saga in sagas:
        end(told, saga)
        assert told.effects(saga) == ["a", "p", "last"] and len(migrated(told, saga)) == 1


def test_what_was_done_must_be_the_same(shared):
    """Exit status 4, the step and the difference, before and when it is asked; nothing has changed."""
    (saga,) = parked(shared, name="altered")
    given = "'{\"n\": 1}'"
    for version, (steps, why) in enumerate(
        (
            ([("a", "compensable", "", {"input": given}), WAIT, PIVOT], 'step "a" has begun, and its input is another in version 2'),
            ([("a", "compensable", "", {"run_if": "'{\"input\": {}}'"}), WAIT, PIVOT], 'step "a" has begun, and its run_if is another in version 3'),
            ([FIRST, ("x", "read_only", ""), ("approval", "read_only", "a,x", SIGNAL), PIVOT], 'step "approval" has begun, and version 4 has it come after "x"'),
            ([FIRST, ("p", "pivot", "a")], 'step "approval" has begun, and version 5 has no such step'),
            ([FIRST, WAIT, ("p", "pivot", "approval", {"input": "'{\"n\": \"$.steps.a.none\"}'"})], 'step "p" would not find $.steps.a.none, and has no default for it'),
            ([FIRST, WAIT, ("p", "pivot", "approval", {"input": "'{\"n\": \"$.input.none\"}'"})], 'step "p" would not find $.input.none, and has no default for it'),
        ),
        2,
    ):
        shared.define("altered", steps)
        revision = shared.column(saga, "revision")
        assert why in shared.place.sagapost("saga", "migrate", saga, "--to", version, "--dry-run", expect=4)
        assert why in shared.place.sagapost("saga", "migrate", saga, "--to", version, expect=4)
        assert shared.place.sql("select answer, detail from saga.intent order by id desc limit 1") == [("refused", why)]
        assert shared.column(saga, "version") == 1 and shared.column(saga, "revision") == revision
    shared.define("altered", [FIRST, WAIT, ("p", "pivot", "approval", {"input": '\'{"n": {"$path": "$.input.none", "default": 7}}\''})])
    shared.place.sagapost("saga", "migrate", saga, "--to", 8)
    approve(shared, [saga])
    end(shared, saga)
    assert shared.place.value("select input from told.effect where saga = %s and step = 'p'", (saga,)) == {"n": 7}


def test_it_is_undone_by_the_new_version(shared):
    (saga,) = parked(shared, name="undone")
    shared.define("undone", [("c", "compensable", "approval"), FIRST, WAIT, ("q", "pivot", "c")])  # other places, other names before the pivot
    shared.place.sagapost("saga", "migrate", saga, "--to", 2)
    shared.behave("q", "action", "SG001")
    approve(shared, [saga])
    end(shared, saga, "COMPENSATED")
    assert shared.effects(saga) == ["a", "c", "-c", "-a"]


def test_held_back_by_a_pause_it_takes_another_input(shared):
    """For the step that would fail next: pause, publish a better version, migrate, resume."""
    (saga,) = parked(shared, name="held")
    run = shared.place.sagapost
    run("saga", "pause", saga)
    approve(shared, [saga])
    wait_until(lambda: shared.steps(saga)["p"] == "READY", 30, lambda: shared.show(saga))
    shared.define("held", [FIRST, WAIT, ("p", "pivot", "approval", {"input": "'{\"n\": 2}'"}), LAST])
    revision = shared.column(saga, "revision")
    assert "has changed since" in run("saga", "migrate", saga, "--to", 2, "--revision", revision - 1, expect=4)
    run("saga", "migrate", saga, "--to", 2, "--revision", revision)
    assert shared.steps(saga)["p"] == "READY"
    run("saga", "resume", saga)
    end(shared, saga)
    assert shared.place.value("select input from told.effect where saga = %s and step = 'p'", (saga,)) == {"n": 2}


def test_a_child_saga_keeps_its_version(shared):
    shared.define("small", [FIRST, WAIT])
    shared.define("large", [("child", "compensable", "", {"via": "'saga'", "child": "'small'", "action": "null", "undo": "null", "timeout": "null", "retry": "null", "undo_retry": "null"})])
    saga = shared.start("large")
    child = wait_until(lambda: shared.place.sql("select child from saga.children where saga_id = %s", (saga,)), 30, lambda: shared.show(saga))[0][0]
    wait_until(lambda: shared.steps(child)["approval"] == "PARKED", 30, lambda: shared.show(child))
    shared.define("small", [FIRST, WAIT, ("more", "read_only", "approval")])
    shared.define(
        "large",
        [
            ("child", "compensable", "", {"via": "'saga'", "child": "'small'", "action": "null", "undo": "null", "timeout": "null", "retry": "null", "undo_retry": "null"}),
            ("then", "read_only", "child"),
        ],
    )
    shared.place.sagapost("saga", "migrate", saga, "--to", 2)
    approve(shared, [child])
    end(shared, saga)
    assert (shared.column(saga, "version"), shared.column(child, "version")) == (2, 1)
    assert shared.effects(saga) == ["then"] and shared.effects(child) == ["a"]


def stuck(told, saga):
    wait_until(lambda: told.state(saga) == "STUCK", 60, lambda: told.show(saga))


def mend(told, saga, version):
    """It stays stuck, with nothing sent, until it is retried."""
    run = told.place.sagapost
    assert f"sagapost saga migrate {saga} --to {version}  " in run("saga", "show", saga)
    assert "would be applied" in run("saga", "migrate", saga, "--to", version, "--dry-run")
    effects = told.effects(saga)
    newest = json.loads(run("saga", "show", saga, "--json"))["newest"]
    assert newest["takes_it"] == (newest["version"] == version)
    assert "what is stuck waits for a retry" in run("saga", "migrate", saga, "--to", version)
    assert (told.state(saga), told.column(saga, "version"), told.effects(saga)) == ("STUCK", version, effects)
    run("saga", "retry", saga)


def test_stuck_over_an_input_that_finds_nothing(shared):
    def steps(path):
        return [FIRST, ("p", "pivot", "a"), ("last", "retriable", "p", {"input": f"'{{\"did\": \"$.steps.p.{path}\"}}'"})]

    shared.define("lost", steps("none"))
    saga = shared.start("lost")
    stuck(shared, saga)
    shared.define("lost", steps("nothing"))
    assert 'step "last" would not find $.steps.p.nothing' in shared.place.sagapost("saga", "migrate", saga, "--to", 2, expect=4)
    shared.define("lost", steps("did"))
    mend(shared, saga, 3)
    end(shared, saga)
    assert shared.effects(saga) == ["a", "p", "last"]
    assert shared.place.value("select input from told.effect where saga = %s and step = 'last'", (saga,)) == {"did": "p"}


def test_stuck_over_what_its_participant_refuses(shared):
    """Refused for good, another action may do it; what met silence may have been done, and stays what it is."""
    shared.define("refused", [("p", "pivot", ""), ("no", "retriable", "p")])
    shared.behave("no", "action", "SG001", times=4)
    saga = shared.start("refused")
    stuck(shared, saga)
    shared.place.sql("select saga.handle('told.another', 'told.run')")
    shared.define("refused", [("p", "pivot", ""), ("no", "retriable", "p", {"action": "'told.another'"}), ("more", "retriable", "no")])
    mend(shared, saga, 2)
    end(shared, saga)
    assert shared.effects(saga) == ["p", "no", "more"]

    shared.define("silent", [("p", "pivot", ""), ("bug", "retriable", "p")])
    shared.behave("bug", "action", "XX000", times=4)
    saga = shared.start("silent")
    stuck(shared, saga)
    shared.define("silent", [("p", "pivot", ""), ("bug", "retriable", "p", {"action": "'told.another'"})])
    assert 'step "bug" has begun, and its action is another' in shared.place.sagapost("saga", "migrate", saga, "--to", 2, expect=4)
    patient = "saga.retry_policy(max => 40, base => '50ms', factor => 2, cap => '200ms')"
    shared.define("silent", [("p", "pivot", ""), ("bug", "retriable", "p", {"retry": patient})])
    mend(shared, saga, 3)
    end(shared, saga)


def test_stuck_over_an_undo(shared):
    """Its input could not be built, or its participant refuses it: the next version's undo is sent. Dead workers change nothing of it."""

    def steps(undo_input):
        return [("a", "compensable", "", {"undo_input": undo_input}), ("no", "pivot", "a")]

    shared.behave("no", "action", "SG001")
    shared.define("unbuilt", steps("""'{"n": "$.steps.a.none"}'"""))
    saga = shared.start("unbuilt")
    stuck(shared, saga)
    shared.define("unbuilt", steps("""'{"n": "$.steps.a.nothing"}'"""))
    for words in ((), ("--dry-run",)):
        assert 'step "a" would not find $.steps.a.nothing' in shared.place.sagapost("saga", "migrate", saga, "--to", 2, *words, expect=4)
    run = shared.place.sagapost
    why = "step \"a\" would not find $.steps.a.nothing, and has no default for it"
    assert f"version 2 is the newest, and cannot take it: {why}" in run("saga", "show", saga)
    assert "saga migrate" not in run("saga", "show", saga)
    assert json.loads(run("saga", "show", saga, "--json"))["newest"] == {"version": 2, "takes_it": False, "because": why}
    shared.define("unbuilt", steps("""'{"n": "$.steps.a.did"}'"""))
    shared.define("unbuilt", [("a", "read_only", ""), ("no", "pivot", "a")])
    text = run("saga", "show", saga)
    assert f"saga migrate {saga} --to 3 " in text and 'version 4 is the newest, and cannot take it: step "a" has begun, and is read_only in version 4' in text
    mend(shared, saga, 3)
    end(shared, saga, "COMPENSATED")
    assert shared.effects(saga) == ["a", "-a"]
    assert shared.place.value("select input ->> 'n' from told.effect where saga = %s and operation = 'undo'", (saga,)) == "a"

    shared.behave("a", "undo", "SG001", times=4)
    shared.define("unwanted", steps("null"))
    saga = shared.start("unwanted")
    stuck(shared, saga)
    shared.define("unwanted", steps("""'{"n": 7}'"""))
    mend(shared, saga, 2)
    end(shared, saga, "COMPENSATED")
    assert shared.effects(saga) == ["a", "-a"]
    assert shared.place.value("select input -> 'n' from told.effect where saga = %s and operation = 'undo'", (saga,)) == 7


def test_back_on_its_way_and_to_a_newer_one(shared):
    steps = [("b", "compensable", ""), ("approval", "read_only", "b", SIGNAL), PIVOT]
    (saga,) = parked(shared, name="backward", steps=steps)
    shared.define("backward", [*steps, LAST])
    run = shared.place.sagapost
    assert "there is no version 9" in run("saga", "migrate", saga, "--to", 9, "--dry-run", expect=3)
    assert "there is no version 9" in run("saga", "migrate", saga, "--to", 9, expect=3)
    assert shared.place.value("select saga.migrate(%s, 2, 'in SQL')", (saga,)) == "recorded"
    wait_until(lambda: shared.column(saga, "version") == 2, 30, lambda: shared.show(saga))
    assert "version 1 is not newer" in run("saga", "migrate", saga, "--to", 1, expect=4)
    shared.define("backward", [("b", "compensable", "", {"undo_input": "'{}'"}), *steps[1:]])
    shared.behave("b", "undo", "XX000")
    run("saga", "cancel", saga)
    stuck(shared, saga)
    for words in ((), ("--dry-run",)):  # it may have been undone by the version it has
        assert 'step "b" has begun, and its undo_input is another in version 3' in run("saga", "migrate", saga, "--to", 3, *words, expect=4)
    shared.define("backward", steps[:2])  # what was cancelled before it began may be gone
    shared.behave("b", "undo", "XX000", times=0)
    mend(shared, saga, 4)
    end(shared, saga, "COMPENSATED")
    assert shared.effects(saga) == ["b", "-b"] and len(migrated(shared, saga)) == 2


def test_usage(place):
    for words in (["X"], ["--definition", "order"], ["X", "--to", "new"], ["X", "--to", "0"], ["--all", "--to", "2"]):
        text = place.sagapost("saga", "migrate", *words, expect=2)
        assert "--to" in text or "--definition" in text
