"""A steady load while one message in a hundred is bad, each with a key of its own: how long the others take from COMMIT to the consumer, against
the same when those are good, too.

Bad are, in turn: what no queue takes, what goes to an exchange that is not there, and what a full queue refuses (`reject-publish`)."""

import statistics
import threading

from harness.daemon import Daemon
from harness.sandbox import Place

from load import declare, number_in, program

RATE = 1000
SIDE_PER_S = RATE // 100
QUEUE, SIDE, FULL = "bench.bad", "bench.bad.side", "bench.bad.full"
INSERT = "insert into outbox.message (type, key, exchange, payload) values (%s, %s, %s, '{}')"
BAD = (("bench.bad.nobody", None), (SIDE, "bench.bad.nowhere"), (FULL, None))
GOOD = ((SIDE, None),)


class Aside:
    """The hundredth part of the load, written beside it."""

    def __init__(self, place, kinds):
        self.place, self.kinds, self.written, self.over = place, kinds, 0, threading.Event()
        self.thread = threading.Thread(target=self._write)

    def _write(self):
        cursor = self.place.connect().cursor()
        while not self.over.wait(1 / SIDE_PER_S):
            type_name, exchange = self.kinds[self.written % len(self.kinds)]
            self.written += 1
            cursor.execute(INSERT, (type_name, f"side{self.written}", exchange))

    def __enter__(self):
        self.thread.start()
        return self

    def __exit__(self, *_):
        self.over.set()
        self.thread.join()


def measure(place, kinds, seconds):
    """(p50, p99 in ms of the others, how many were set aside)"""
    place.sql("delete from outbox.parked")  # no relay runs
    with Daemon(place, "outbox-relay", "--default-exchange", "") as relay:
        relay.wait_ready()
        with Aside(place, kinds) as aside:
            line = program(place, "bench_latency", "--queue", QUEUE, "--rate", RATE, "--seconds", seconds)
        set_aside = relay.metric("sagapost_outbox_set_aside_total")
        relay.terminate()
    if kinds is BAD and set_aside < 0.9 * aside.written or kinds is GOOD and set_aside > 0:
        raise RuntimeError(f"{aside.written} were written beside the load, and {set_aside:.0f} set aside")
    return number_in(line, r"p50 ([\d.-]+)"), number_in(line, r"p99 ([\d.-]+)"), set_aside


def bench_bad(sandbox, report, options):
    place = Place(sandbox)
    declare(place, SIDE, "classic")
    full = declare(place, FULL, "classic", **{"x-max-length": 1, "x-overflow": "reject-publish"})
    full.basic_publish("", FULL, b"it is full")
    halves, ratios, good, bad, set_aside = [], [], [], [], []
    for _ in range(options.rounds):
        before = measure(place, GOOD, options.seconds)
        beside = measure(place, BAD, options.seconds)
        halves.append(beside[0] / before[0])
        ratios.append(beside[1] / before[1])
        good.append(before[1])
        bad.append(beside[1])
        set_aside.append(beside[2])
    name = f"{RATE}/s, one in a hundred bad: the others from commit to consumer"
    report.goal(f"{name}, p99 / that without bad ones", "<= 2", ratios, statistics.median(ratios) <= 2, " x")
    report.figure(f"{name}, p50 / that without bad ones", halves, " x")
    report.figure(f"{name}, p99", bad, " ms")
    report.figure(f"{name}, p99 without bad ones", good, " ms")
    report.note(f"set aside were at least {min(set_aside):.0f} in each round")
    place.close()
