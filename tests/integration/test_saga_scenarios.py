"""Courses of events that have broken other engines of sagas, each from outside: what the customer, the operator or the network does, and
what must be true at the end. Others of that kind stand where their subject is: test_saga.py, test_saga_messages.py, test_saga_waits.py, test_participant_races.py."""

import json
import threading
import uuid

import psycopg2

from harness.participant import Participant
from harness.wait import patient, wait_until

LATER = "saga.retry_policy(max => 100, base => '1 hour', cap => '1 hour')"


def wait_steps(told, saga, **wanted):
    wait_until(lambda: wanted.items() <= told.steps(saga).items(), 60, lambda: f"{wanted}:\n{told.show(saga)}")


def answers(told, saga):
    """(verb, answer, detail) of what was asked, when all of it is answered."""

    def answered():
        rows = told.place.sql("select verb, answer, detail from saga.intent where saga_id = %s order by id", (saga,))
        return all(answer for _, answer, _ in rows) and [rows]

    return wait_until(answered, 30, lambda: told.show(saga))[0]


class Late:
    """A participant that takes its commands only when it is told to, and notes what it did."""

    def __init__(self, told, name):
        self.did = []
        self.participant = Participant(told.place, name, self.work)
        self.step = {"action": f"'{name}.act'", "undo": f"'{name}.undo'"}

    def work(self, _, saga, __):
        self.did.append((saga["id"], saga["operation"]))
        return "ok", "{}"

    def of(self, saga):
        return [operation for id_, operation in self.did if id_ == saga]

    def __enter__(self):
        self.participant.start()
        return self

    def __exit__(self, *_):
        self.participant.over = True
        self.participant.join(patient(30))


def test_what_never_started_is_neither_done_nor_undone(shared):
    """Two branches: one fails before its dependant began, while the other is through with both of its steps."""
    shared.define("branches", [("l1", "compensable", ""), ("l2", "compensable", "l1"), ("r1", "compensable", "l2"), ("r2", "compensable", "r1"), ("join", "pivot", "l2,r2")])
    shared.behave("r1", "action", "SG001")
    saga = shared.start("branches")
    assert shared.end(saga) == "COMPENSATED"
    assert shared.effects(saga) == ["l1", "l2", "-l2", "-l1"], "in the reverse order, and only what was done"
    assert shared.steps(saga) == {"l1": "UNDONE", "l2": "UNDONE", "r1": "FAILED", "r2": "CANCELLED", "join": "CANCELLED"}
    sent = shared.place.sql("select distinct payload -> 'saga' ->> 'step' from outbox.message where type = 'saga.command' and correlation_id = %s", (saga,))
    assert ("r2",) not in sent and ("join",) not in sent
    assert "r1: told: to fail" in shared.column(saga, "reason"), "the reason is the first failure's, to the end"


def test_a_timeout_undoes_a_step_that_was_still_in_progress(shared):
    """The participant begins with it after the saga has given up: it is done, found out, and undone."""
    late = Late(shared, "slow")
    shared.define("overdue", [("t1", "compensable", ""), ("t2", "compensable", "t1", late.step), ("t3", "pivot", "t2")], timeout="'1 hour'")
    saga = shared.start("overdue")
    wait_steps(shared, saga, t1="SUCCEEDED", t2="SENT")
    shared.place.sql("update saga.instance set deadline_at = clock_timestamp(), wake_at = clock_timestamp() where id = %s", (saga,))  # an hour later
    wait_until(lambda: shared.state(saga) == "ABORTING", 60, lambda: shared.show(saga))
    assert shared.steps(saga)["t1"] == "SUCCEEDED", "nothing is undone while something may still be done"
    with late:
        assert shared.end(saga) == "COMPENSATED"
    assert late.of(saga) in (["action", "undo"], []), "done and undone, or fenced"
    assert shared.effects(saga) == ["t1", "-t1"]
    assert "timeout" in shared.column(saga, "reason")


def test_two_cancels_at_once_and_a_late_action(shared):
    late = Late(shared, "tardy")
    shared.define("twice", [("c1", "compensable", ""), ("c2", "compensable", "c1", late.step), ("c3", "pivot", "c2")])
    saga = shared.start("twice")
    wait_steps(shared, saga, c2="SENT")
    threads = [threading.Thread(target=shared.place.sql, args=("select saga.cancel(%s, %s)", (saga, f"caller {n}"))) for n in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(patient(30))
    assert sorted(detail for _, answer, detail in answers(shared, saga) if answer == "applied") == ["cancelled: what was done is undone", "it is being undone already"]
    with late:
        assert shared.end(saga) == "COMPENSATED"
    assert late.of(saga) == ["action", "undo"], "its action came before anything that fences it"
    assert shared.effects(saga) == ["c1", "-c1"]
    assert shared.place.value("select count(*) from saga.timeline where saga_id = %s and event = 'cancel_requested'", (saga,)) == 1


def test_a_reply_that_is_faster_than_the_commit(shared):
    """Somebody answers for a saga whose transaction is still open: nobody knows it, nothing is remembered, and it runs as it should."""
    shared.define("early", [("e1", "compensable", ""), ("e2", "pivot", "e1")])
    connection = shared.place.connect(autocommit=False)
    cursor = connection.cursor()
    cursor.execute("select saga.start('early', '{}')")
    saga = cursor.fetchone()[0]
    before = shared.worker.metric("sagapost_saga_replies_unknown_saga_total")
    reply = {"saga": {"id": saga, "definition": "early", "version": 1, "step": "e1", "element": 0, "operation": "action", "round": 1, "attempt": 1}, "outcome": "failed", "error": {"code": "x", "message": "x"}}
    shared.place.channel().basic_publish("saga.replies", shared.place.value("select orchestrator from saga.setting"), json.dumps(reply).encode())
    shared.worker.wait_metric("sagapost_saga_replies_unknown_saga_total", lambda value: value >= before + 1)
    connection.commit()
    assert shared.end(saga) == "SUCCEEDED"
    assert shared.effects(saga) == ["e1", "e2"]


def test_what_completes_after_it_was_skipped(shared):
    """An operator goes on without a step that is done all the same: when the saga fails later, it is undone like the others."""
    late = Late(shared, "lame")
    shared.define("skipped", [("s1", "compensable", "", late.step), ("s2", "compensable", "s1"), ("s3", "pivot", "s2", {"retry": LATER})])
    shared.behave("s3", "action", "40001", times=1)
    saga = shared.start("skipped")
    wait_steps(shared, saga, s1="SENT")
    shared.place.sagapost("saga", "skip", saga, "s1", "--reason", "nobody answers")
    wait_steps(shared, saga, s1="SKIPPED", s2="SUCCEEDED", s3="RETRY_WAIT")
    with late:
        wait_steps(shared, saga, s1="SUCCEEDED")
        shared.place.sagapost("saga", "cancel", saga)
        assert shared.end(saga) == "COMPENSATED"
    assert late.of(saga) == ["action", "undo"]
    assert shared.effects(saga) == ["s2", "-s2"]


def test_a_cancel_and_the_pivot_at_the_same_moment(shared):
    """Whichever comes first: what the customer was told is what happened, all of it or nothing."""
    shared.define("moment", [("m1", "compensable", ""), ("m2", "pivot", "m1"), ("m3", "retriable", "m2")])
    sagas = []

    def cancel(mine):
        for saga in mine:
            try:
                canceller.cursor().execute("select saga.cancel(%s)", (saga,))
            except psycopg2.Error as ended:
                assert ended.pgcode == "SG402"

    canceller, starter = shared.place.connect(), shared.place.connect(autocommit=False)
    for together in (False, True, False, True):  # by somebody else, who may be late by any time; and with the start, which comes first
        with starter, starter.cursor() as cursor:
            cursor.execute("select saga.start('moment', '{}') from generate_series(1, 15)")
            batch = [row[0] for row in cursor]
            if together:
                cursor.execute("select saga.cancel(saga) from unnest(%s::uuid[]) as saga", (batch,))
        sagas += batch
        if not together:
            cancel(batch)
    refused = cancelled = 0
    for saga in sagas:
        state = shared.end(saga)
        told = [answer for _, answer, _ in answers(shared, saga)]
        assert shared.effects(saga) in ((["m1", "m2", "m3"],) if state == "SUCCEEDED" else (["m1", "-m1"], [])), shared.show(saga)
        assert state == "SUCCEEDED" or told == ["applied"], "who was refused gets the whole of it"
        refused += state == "SUCCEEDED"
        cancelled += state == "COMPENSATED"
    print(f"{refused} went through, {cancelled} were undone")
    assert cancelled > 0


def test_an_answer_to_a_saga_that_never_was(shared):
    before = shared.worker.metric("sagapost_saga_replies_unknown_saga_total")
    reply = {"saga": {"id": str(uuid.uuid4()), "definition": "x", "version": 1, "step": "a", "element": 0, "operation": "undo", "round": 1, "attempt": 1}, "outcome": "ok", "output": {}}
    shared.place.channel().basic_publish("saga.replies", shared.place.value("select orchestrator from saga.setting"), json.dumps(reply).encode())
    shared.worker.wait_metric("sagapost_saga_replies_unknown_saga_total", before + 1)
    assert shared.worker.metric("sagapost_saga_dead_lettered_total") == 0
