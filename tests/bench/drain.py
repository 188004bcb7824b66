"""A backlog drained by the relay, against a bare publisher and against a relay that polls, in the same run."""

import statistics
import time

from harness.daemon import Daemon
from harness.sandbox import Place
from figures import figures
from load import WINDOW, declare, fill, number_in, program, publisher, waiting
from process import anonymous_bytes, cpu_seconds

PLAIN = """
create schema plain;
create table plain.outbox (
    id         bigint generated always as identity primary key,
    message_id uuid not null default gen_random_uuid(),
    created_at timestamptz not null default clock_timestamp(),
    type       text not null,
    key        text,
    payload    json not null
)
"""
POLLING_PART = 10  # the polling relay gets a part of the messages: it takes its time
LOOK_LEAST_S, LOOK_MOST_S = 0.005, 0.25  # between looks at a queue


def wal_bytes(place, since="0/0"):
    return int(place.value("select pg_wal_lsn_diff(pg_current_wal_insert_lsn(), %s)", (since,)))


def wait_waiting(channel, queue, messages, limit_s):
    """Watches the queue and not the relay, whose time is being measured. Seldom, since a look costs the machine CPU that a bare publisher's
    run has for itself, and closely at the end: after half of what is left at the rate so far."""
    begun, first = time.monotonic(), waiting(channel, queue)
    count = first
    while count < messages:
        seconds = time.monotonic() - begun
        if seconds > limit_s:
            raise AssertionError(f"{count} of {messages} in the queue after {limit_s} s")
        left_s = seconds * (messages - count) / (count - first) if count > first else 0
        time.sleep(min(max(left_s / 2, LOOK_LEAST_S), LOOK_MOST_S))
        count = waiting(channel, queue)


def drain(place, messages, queue, queue_type):
    """messages/s, CPU microseconds per message, anonymous bytes, WAL bytes per message: of the relay over a backlog."""
    channel = declare(place, queue, queue_type)
    fill(place, messages, queue)
    with Daemon(place, "outbox-relay", "--window", WINDOW, "--default-exchange", "") as relay:
        # From the first tenth on, so that neither side's connecting counts.
        wait_waiting(channel, queue, messages / 10, 120)
        first, begun, cpu, wal = waiting(channel, queue), time.monotonic(), cpu_seconds(relay.process.pid), wal_bytes(place)
        wait_waiting(channel, queue, messages, 300)
        seconds, done = time.monotonic() - begun, messages - first
        used, written = cpu_seconds(relay.process.pid) - cpu, wal_bytes(place) - wal
        memory = anonymous_bytes(relay.process.pid)
        relay.terminate()
    channel.queue_delete(queue)
    return done / seconds, used * 1e6 / done, memory, written / done


def polling(place, messages, queue, queue_type):
    """messages/s of bench_polling over a table with the same rows, WAL bytes per message."""
    channel = declare(place, queue, queue_type)
    fill(place, messages, queue, table="plain.outbox")
    wal = wal_bytes(place)
    rate = number_in(program(place, "bench_polling", queue, messages), r"([\d.]+) messages/s")
    written = wal_bytes(place) - wal
    channel.queue_delete(queue)
    return rate, written / messages


def bench_type(place, report, options, queue_type, goal):
    queue = f"bench.{queue_type}"
    runs = []
    for _ in range(options.rounds):
        bare, bare_cpu = publisher(place, options.messages, queue, queue_type, "library")
        frames, _ = publisher(place, options.messages, queue, queue_type, "frames")
        relay = drain(place, options.messages, queue, queue_type)
        runs.append((bare, bare_cpu, frames, *relay, *polling(place, options.messages // POLLING_PART, queue, queue_type)))
    bare, bare_cpu, frames, rate, cpu, memory, wal, polled, polled_wal = map(list, zip(*runs))
    report.note(
        f"{queue_type}, messages/s: bare publisher {figures(bare, 0)}, the same through our frames {figures(frames, 0)},"
        f" outbox-relay {figures(rate, 0)}, polling relay {figures(polled, 0)}"
    )
    ratios = [r / b for r, b in zip(rate, bare)]
    report.goal(f"drain into a {queue_type} queue / bare publisher", f">= {goal}", ratios, statistics.median(ratios) >= goal, " x")
    report.figure(f"drain into a {queue_type} queue / polling relay", [r / p for r, p in zip(rate, polled)], " x")
    if queue_type != "quorum":
        return
    report.goal("CPU of the relay per message", "<= 3 us", cpu, statistics.median(cpu) <= 3, " us")
    report.figure("CPU of the bare publisher per message", bare_cpu, " us")
    mib = [bytes / (1 << 20) for bytes in memory]
    report.goal("anonymous memory of the relay while draining", "<= 64 MiB", mib, max(mib) <= 64, " MiB")
    report.figure("WAL written per message while draining, outbox-relay", wal, " bytes")
    report.figure("WAL written per message while draining, polling relay", polled_wal, " bytes")


def bench_drain(sandbox, report, options):
    place = Place(sandbox)
    place.sql(PLAIN)
    for queue_type, goal in (("quorum", 1.0), ("classic", 0.95)):
        bench_type(place, report, options, queue_type, goal)
    report.figure("table and indexes of the polling relay when empty, before VACUUM", [place.value("select pg_total_relation_size('plain.outbox')") / 1e6], " MB")
    place.close()
