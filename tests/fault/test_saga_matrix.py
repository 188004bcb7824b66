"""kill -9 of the worker at each of its named points, at each step of a saga, on the way forward and on the way back. One saga, one worker, one
thing after the other: so each cell of the matrix is one moment, and what must be in the database then is known."""

import random

import pytest

from harness.daemon import Daemon
from harness.sandbox import Place
from harness.told import Told
from harness.wait import wait_until

POINTS = (
    "execute-between-write-and-commit",
    "execute-before-commit",
    "execute-after-commit",
    "execute-before-ack",
    "orchestrate-between-write-and-commit",
    "orchestrate-before-commit",
    "orchestrate-after-commit",
    "orchestrate-before-ack",
)
# What each definition sends, in its order, and what has taken effect at the end.
COURSES = {
    "back": (("a", "b", "c", "no", "-c", "-b", "-a"), ["a", "b", "c", "-c", "-b", "-a"], "COMPENSATED"),
    "forth": (("a", "b", "p", "t", "u"), ["a", "b", "p", "t", "u"], "SUCCEEDED"),
}
CELLS = [(point, course, nth) for point in POINTS for course, (sent, _, _) in COURSES.items() for nth in range(1, len(sent) + 1)]
# Looks at the database that have nothing to do with the saga would pass a point too.
QUIET = ("--intent-poll-interval", "10min", "--stall-check-interval", "1h", "--backoff-base", "20ms")


@pytest.fixture(scope="module")
def told(sandbox):
    place = Place(sandbox)
    here = Told(place)
    here.define("back", [("a", "compensable", ""), ("b", "compensable", "a"), ("c", "compensable", "b"), ("no", "pivot", "c")])
    here.define("forth", [("a", "compensable", ""), ("b", "compensable", "a"), ("p", "pivot", "b"), ("t", "retriable", "p"), ("u", "retriable", "t")])
    here.behave("no", "action", "SG001")
    with Daemon(place, "outbox-relay") as relay:
        relay.wait_ready()
        yield here
    place.close()


def worker(told, failpoint=None):
    return Daemon(told.place, "saga-worker", *QUIET, environment={"SAGAPOST_FAILPOINT": failpoint} if failpoint else None)


def end(told, saga, course):
    _, effects, state = COURSES[course]
    ended = ("SUCCEEDED", "COMPENSATED", "CLOSED", "STUCK")
    wait_until(lambda: told.state(saga) in ended, 60, lambda: told.show(saga))
    assert told.state(saga) == state and told.effects(saga) == effects, told.show(saga)
    told_all = told.place.sql("select event, step, count(*) from saga.history where saga_id = %s and step is not null group by 1, 2 having count(*) > 1", (saga,))
    assert told_all == [], "each step moved once"


def finish(told, saga, course):
    """By a worker that nobody kills. It leaves nothing behind, which would be at one of its points when the next victim begins."""
    with worker(told) as driver:
        end(told, saga, course)
        channel = told.place.channel()
        queues = [f"saga.replies.{told.place.value('select orchestrator from saga.setting')}", "saga.commands.told"]
        left = lambda: [channel.queue_declare(queue, passive=True).method.message_count for queue in queues]  # noqa: E731
        wait_until(lambda: told.place.value("select sum(rows) from outbox.backlog") == 0 and left() == [0, 0], 30, lambda: str(left()))
        channel.connection.close()
        driver.terminate()  # acknowledges what it holds


def check_moment(told, saga, point, nth, course):
    """The cell was the one that was meant."""
    sent, done = told.place.sql(
        "select (select count(*) from outbox.message where type = 'saga.command' and correlation_id = %s),"
        " (select count(*) from saga.outcome where saga_id = %s and outcome is not null)",
        (saga, saga),
    )[0]
    executes, committed = point.startswith("execute"), "after" in point or "ack" in point
    wanted_done = nth if committed or not executes else nth - 1
    wanted_sent = min(nth + (not executes and committed), len(COURSES[course][0]))
    if executes and committed:  # its answer is on its way to the same worker
        wanted_sent = sent
    assert (sent, done) == (wanted_sent, wanted_done), f"{point}:{nth} of {course}: {sent} commands, {done} outcomes\n{told.show(saga)}"


def kill_in(told, cell):
    point, course, nth = cell
    passage = nth + (point == "orchestrate-after-commit")  # a worker that has just started looks for intents, and commits that
    with worker(told, f"{point}:{passage}") as victim:
        victim.wait_ready()
        saga = told.start(course)
        assert victim.wait_exit(60) == -9, f"{cell}\n{victim.log()}\n{told.show(saga)}"
    check_moment(told, saga, point, nth, course)
    finish(told, saga, course)


def test_sample_of_the_matrix(told, seed):
    for cell in random.Random(seed).sample(CELLS, 5):
        print(cell)
        kill_in(told, cell)


@pytest.mark.long
@pytest.mark.parametrize("point", POINTS)
def test_the_matrix(told, point):
    for cell in CELLS:
        if cell[0] == point:
            kill_in(told, cell)


# What was not acknowledged comes again, and passes the point first; a worker that has just started looks for intents, and commits that.
EACH = {"orchestrate-after-commit": 3, "orchestrate-before-ack": 2, "execute-after-commit": 2, "execute-before-ack": 2}


@pytest.mark.parametrize("point", [point if point == "orchestrate-after-commit" else pytest.param(point, marks=pytest.mark.long) for point in EACH])
def test_each_worker_gets_one_step_further_and_dies(told, point):
    """A saga that is interrupted at each of its points, forward and back, and goes on."""
    saga = told.start("back")
    deaths = 0
    while told.state(saga) not in ("COMPENSATED", "STUCK"):
        with worker(told, f"{point}:{EACH[point]}") as victim:
            wait_until(lambda: not victim.alive() or told.state(saga) == "COMPENSATED", 60, lambda: told.show(saga))  # noqa: B023
        deaths += 1
    assert deaths >= 4, "seven commands, one or two of them each"
    finish(told, saga, "back")
