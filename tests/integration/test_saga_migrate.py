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
    ended = ("SUCCEEDED", "COMPENSATED", "CLOSED")
    wait_until(lambda: told.state(saga) in ended, 60, lambda: told.show(saga))
    assert told.state(saga) == wanted, told.show(saga)


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


def test_many_that_wait_end_by_the_new_version(told, programs):
    sagas = parked(told, 20)
    told.define("order", [FIRST, WAIT, PIVOT, LAST])
    run = told.place.sagapost
    many = ("saga", "migrate", "--definition", "order", "--to", "2", "--json")
    before = [told.column(saga, "revision") for saga in sagas]
    said = json.loads(run(*many, "--dry-run"))
    assert (said["dry_run"], said["applied"], said["refused"]) == (True, 20, 0)
    assert "would be applied: what it has done is the same" in run("saga", "migrate", sagas[0], "--to", 2, "--dry-run")
    assert versions(told, sagas) == [1] * 20 and [told.column(saga, "revision") for saga in sagas] == before, "only said"
    said = json.loads(run(*many, "--reason", "one step more", "--rate", 200))
    assert (said["applied"], said["refused"], said["left"], said["unanswered"]) == (20, 0, 0, 0)
    assert versions(told, sagas) == [2] * 20
    assert told.steps(sagas[0]) == {"a": "SUCCEEDED", "approval": "PARKED", "p": "WAITING", "last": "WAITING"}
    (detail,) = migrated(told, sagas[0])
    assert (detail["actor"], detail["reason"]) == ("postgres", "one step more") and detail["because"].startswith("version 1 to 2: ")
    assert json.loads(run(*many, "--dry-run", "--state", "SUCCEEDED"))["applied"] == 0
    assert "for 20 sagas" in run(*many, expect=4), "it is there already"
    approve(told, sagas)
    for saga in sagas:
        end(told, saga)
        assert told.effects(saga) == ["a", "p", "last"] and told.column(saga, "version") == 2


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


def test_what_was_done_must_be_the_same(told, programs):
    """Exit status 4, the step and the difference, before and when it is asked; nothing has changed."""
    (saga,) = parked(told)
    given = "'{\"n\": 1}'"
    for version, (steps, why) in enumerate(
        (
            ([("a", "compensable", "", {"input": given}), WAIT, PIVOT], 'step "a" has begun, and its input is another in version 2'),
            ([("a", "compensable", "", {"undo_input": given}), WAIT, PIVOT], 'step "a" has begun, and its undo_input is another in version 3'),
            ([FIRST, ("x", "read_only", ""), ("approval", "read_only", "a,x", SIGNAL), PIVOT], 'step "approval" has begun, and version 4 has it come after "x"'),
            ([FIRST, ("p", "pivot", "a")], 'step "approval" has begun, and version 5 has no such step'),
            ([FIRST, WAIT, ("p", "pivot", "approval", {"input": "'{\"n\": \"$.steps.a.none\"}'"})], 'step "p" would not find $.steps.a.none, and has no default for it'),
            ([FIRST, WAIT, ("p", "pivot", "approval", {"input": "'{\"n\": \"$.input.none\"}'"})], 'step "p" would not find $.input.none, and has no default for it'),
        ),
        2,
    ):
        told.define("order", steps)
        revision = told.column(saga, "revision")
        assert why in told.place.sagapost("saga", "migrate", saga, "--to", version, "--dry-run", expect=4)
        assert why in told.place.sagapost("saga", "migrate", saga, "--to", version, expect=4)
        assert told.place.sql("select answer, detail from saga.intent order by id desc limit 1") == [("refused", why)]
        assert told.column(saga, "version") == 1 and told.column(saga, "revision") == revision
    told.define("order", [FIRST, WAIT, ("p", "pivot", "approval", {"input": '\'{"n": {"$path": "$.input.none", "default": 7}}\''})])
    told.place.sagapost("saga", "migrate", saga, "--to", 8)
    approve(told, [saga])
    end(told, saga)
    assert told.place.value("select input from told.effect where saga = %s and step = 'p'", (saga,)) == {"n": 7}


def test_it_is_undone_by_the_new_version(told, programs):
    (saga,) = parked(told)
    told.define("order", [("c", "compensable", "approval"), FIRST, WAIT, ("p", "pivot", "c")])  # other places, other names before the pivot
    told.place.sagapost("saga", "migrate", saga, "--to", 2)
    told.behave("p", "action", "SG001")
    approve(told, [saga])
    end(told, saga, "COMPENSATED")
    assert told.effects(saga) == ["a", "c", "-c", "-a"]


def test_held_back_by_a_pause_it_takes_another_input(told, programs):
    """For the step that would fail next: pause, publish a better version, migrate, resume."""
    (saga,) = parked(told)
    run = told.place.sagapost
    run("saga", "pause", saga)
    approve(told, [saga])
    wait_until(lambda: told.steps(saga)["p"] == "READY", 30, lambda: told.show(saga))
    told.define("order", [FIRST, WAIT, ("p", "pivot", "approval", {"input": "'{\"n\": 2}'"}), LAST])
    revision = told.column(saga, "revision")
    assert "has changed since" in run("saga", "migrate", saga, "--to", 2, "--revision", revision - 1, expect=4)
    run("saga", "migrate", saga, "--to", 2, "--revision", revision)
    assert told.steps(saga)["p"] == "READY"
    run("saga", "resume", saga)
    end(told, saga)
    assert told.place.value("select input from told.effect where saga = %s and step = 'p'", (saga,)) == {"n": 2}


def test_a_child_saga_keeps_its_version(told, programs):
    told.define("small", [FIRST, WAIT])
    told.define("large", [("child", "compensable", "", {"via": "'saga'", "child": "'small'", "action": "null", "undo": "null", "timeout": "null", "retry": "null", "undo_retry": "null"})])
    saga = told.start("large")
    child = wait_until(lambda: told.place.sql("select child from saga.children where saga_id = %s", (saga,)), 30, lambda: told.show(saga))[0][0]
    wait_until(lambda: told.steps(child)["approval"] == "PARKED", 30, lambda: told.show(child))
    told.define("small", [FIRST, WAIT, ("more", "read_only", "approval")])
    told.define(
        "large",
        [
            ("child", "compensable", "", {"via": "'saga'", "child": "'small'", "action": "null", "undo": "null", "timeout": "null", "retry": "null", "undo_retry": "null"}),
            ("then", "read_only", "child"),
        ],
    )
    told.place.sagapost("saga", "migrate", saga, "--to", 2)
    approve(told, [child])
    end(told, saga)
    assert (told.column(saga, "version"), told.column(child, "version")) == (2, 1)
    assert told.effects(saga) == ["then"] and told.effects(child) == ["a"]


def test_only_forward_and_to_a_newer_one(told, programs):
    (saga,) = parked(told)
    told.define("order", [FIRST, WAIT, PIVOT, LAST])
    run = told.place.sagapost
    assert "there is no version 9" in run("saga", "migrate", saga, "--to", 9, "--dry-run", expect=3)
    assert "there is no version 9" in run("saga", "migrate", saga, "--to", 9, expect=3)
    assert told.place.value("select saga.migrate(%s, 2, 'in SQL')", (saga,)) == "recorded"
    wait_until(lambda: told.column(saga, "version") == 2, 30, lambda: told.show(saga))
    assert "version 1 is not newer" in run("saga", "migrate", saga, "--to", 1, expect=4)
    told.define("order", [FIRST, WAIT, PIVOT])
    told.behave("a", "undo", "XX000")
    run("saga", "cancel", saga)
    wait_until(lambda: told.state(saga) == "STUCK", 30, lambda: told.show(saga))
    for words in ((), ("--dry-run",)):
        assert "ends by the version that it has" in run("saga", "migrate", saga, "--to", 3, *words, expect=4)


def test_usage(place):
    for words in (["X"], ["--definition", "order"], ["X", "--to", "new"], ["X", "--to", "0"], ["--all", "--to", "2"]):
        text = place.sagapost("saga", "migrate", *words, expect=2)
        assert "--to" in text or "--definition" in text
