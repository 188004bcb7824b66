"""How long from COMMIT to the consumer, under a steady load and on an idle system."""

import statistics

from harness.daemon import Daemon
from harness.sandbox import Place

from load import number_in, program

RATE = 1000
IDLE_MESSAGES = 50
QUEUE = "bench.latency"

PLAIN = """
create schema plain;
create table plain.message (
    id      bigint generated always as identity primary key,
    type    text not null,
    key     text,
    payload json not null
)
"""


def bench_latency(sandbox, report, options):
    place = Place(sandbox)
    place.sql(PLAIN)
    p50, p99, late, alone, alone_p99, bare_p50, bare_p99 = [], [], [], [], [], [], []
    with Daemon(place, "outbox-relay", "--default-exchange", "") as relay:
        relay.wait_ready()
        for _ in range(options.rounds):
            line = program(place, "bench_latency", "--queue", QUEUE, "--rate", RATE, "--seconds", options.seconds, "--bare")
            bare_p50.append(number_in(line, r"p50 ([\d.-]+)"))
            bare_p99.append(number_in(line, r"p99 ([\d.-]+)"))
            line = program(place, "bench_latency", "--queue", QUEUE, "--rate", RATE, "--seconds", options.seconds)
            p50.append(number_in(line, r"p50 ([\d.-]+)"))
            p99.append(number_in(line, r"p99 ([\d.-]+)"))
            late.append(number_in(line, r"writers late ([\d.-]+)"))
        line = program(place, "bench_latency", "--queue", QUEUE, "--idle", IDLE_MESSAGES)
        alone.append(number_in(line, r"p50 ([\d.-]+)"))
        alone_p99.append(number_in(line, r"most ([\d.-]+)"))
        relay.terminate()
    report.goal(f"commit to consumer at {RATE}/s, p50", "<= 2.5 ms", p50, statistics.median(p50) <= 2.5, " ms")
    report.goal(f"commit to consumer at {RATE}/s, p99", "<= 10 ms", p99, statistics.median(p99) <= 10, " ms")
    report.figure("the same, published by the writers themselves after COMMIT, p50", bare_p50, " ms")
    report.figure("the same, published by the writers themselves after COMMIT, p99", bare_p99, " ms")
    report.note(f"writers were behind their rate by at most {max(late):.0f} ms")
    report.goal(f"one message on an idle system, p50 of {IDLE_MESSAGES}", "<= 5 ms", alone, statistics.median(alone) <= 5, " ms")
    report.figure(f"one message on an idle system, slowest of {IDLE_MESSAGES}", alone_p99, " ms")
    place.close()
