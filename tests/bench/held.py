"""A steady load while one transaction stays open with its snapshot: what the others lose by it, and what the log grows to.

It has written no message: one that has keeps the leaf that it wrote to, and what is added there at each turn of the ring."""

import statistics
import threading
import time

from harness.daemon import Daemon
from harness.sandbox import Place

from load import number_in, program

RATE = 2000
QUEUE = "bench.held"
SLOTS, PERIOD_S = 4, 2
SAMPLE_S = 0.5
FREE_MOST_S = 60  # enough to know the rate without the transaction, and half an hour held costs half an hour, not an hour


class Sizes:
    """The log's size, looked at all the time."""

    def __init__(self, place):
        self.place, self.seen, self.over = place, [], threading.Event()
        self.thread = threading.Thread(target=self._look)

    def _look(self):
        while not self.over.wait(SAMPLE_S):
            self.seen.append(int(self.place.value("select sum(bytes) from outbox.leaf")))

    def __enter__(self):
        self.thread.start()
        return self

    def __exit__(self, *_):
        self.over.set()
        self.thread.join()


def hold(place):
    """An open transaction with an id, and a snapshot that is kept."""
    connection = place.connect(autocommit=False)
    connection.set_session(isolation_level="REPEATABLE READ")
    connection.cursor().execute("select pg_current_xact_id(), count(*) from outbox.position")
    return connection


def steady(place, seconds):
    """(messages/s from the first to the last, p99 in ms)"""
    begun = time.monotonic()
    line = program(place, "bench_latency", "--queue", QUEUE, "--rate", RATE, "--seconds", seconds, limit_s=seconds + 300)
    return RATE * seconds / (time.monotonic() - begun), number_in(line, r"p99 ([\d.-]+)")


def bench_held(sandbox, report, options):
    place = Place(sandbox)
    place.sql(f"select outbox.configure(ring_slots => {SLOTS}, ring_period => '{PERIOD_S} seconds')")
    ratios, slow, growth, most = [], [], [], []
    with Daemon(place, "outbox-relay", "--default-exchange", "", "--truncate-interval", "200ms") as relay:
        relay.wait_ready()
        for _ in range(options.rounds):
            free, _ = steady(place, min(options.held, FREE_MOST_S))
            holder = hold(place)
            with Sizes(place) as sizes:
                held, p99 = steady(place, options.held)
            holder.rollback()
            half = len(sizes.seen) // 2
            ratios.append(held / free)
            slow.append(p99)
            growth.append(max(sizes.seen[half:]) / max(sizes.seen[:half]))
            most.append(max(sizes.seen) / (1 << 20))
        relay.terminate()
    name = f"{RATE}/s with a transaction open for {options.held} s"
    report.goal(f"{name}: rate / that without", ">= 0.95", ratios, statistics.median(ratios) >= 0.95, " x")
    report.goal(f"{name}: the log, most in the second half / first half", "<= 1.1", growth, statistics.median(growth) <= 1.1, " x")
    report.figure(f"{name}: the log, most", most, " MiB")
    report.figure(f"{name}: commit to consumer, p99", slow, " ms")
    place.close()
