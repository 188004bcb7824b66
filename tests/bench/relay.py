"""The relay against a bare publisher."""

import statistics
import time

from harness.daemon import Daemon
from harness.sandbox import Place
from harness.wait import wait_until

from figures import figures
from load import WINDOW, bare_publisher, declare, fill_backlog
from process import anonymous_bytes, cpu_seconds


def drain(place, messages, queue_type):
    """(messages/s, CPU microseconds per message, anonymous bytes) of the relay over a backlog."""
    queue = f"drain-{queue_type}"
    declare(place, queue, queue_type)
    fill_backlog(place, messages, queue)
    with Daemon(place, "outbox-relay", "--window", WINDOW, "--default-exchange", "") as relay:
        confirmed = lambda: relay.metric("sagapost_outbox_confirmed_total") or 0  # noqa: E731
        # From the first tenth on, so that neither side's connecting counts.
        wait_until(lambda: confirmed() >= messages / 10, 120, "the relay publishes", every_s=0.005)
        first, begun, cpu = confirmed(), time.monotonic(), cpu_seconds(relay.process.pid)
        wait_until(lambda: confirmed() >= messages, 300, "the backlog is published", every_s=0.01)
        seconds = time.monotonic() - begun
        used = cpu_seconds(relay.process.pid) - cpu
        memory = anonymous_bytes(relay.process.pid)
        relay.terminate()
    return (messages - first) / seconds, used * 1e6 / (messages - first), memory


def bench_relay(sandbox, report, options):
    place = Place(sandbox)
    for queue_type, goal in (("quorum", 1.0), ("classic", 0.95)):
        ratios, bare_rates, drain_rates, cpu, memory = [], [], [], [], []
        for _ in range(options.rounds):
            bare_rates.append(bare_publisher(place, options.messages, queue_type))
            rate, cpu_us, anonymous = drain(place, options.messages, queue_type)
            drain_rates.append(rate)
            cpu.append(cpu_us)
            memory.append(anonymous / (1 << 20))
            ratios.append(rate / bare_rates[-1])
        print(f"  {queue_type}: bare publisher {figures(bare_rates, 0)} messages/s, relay {figures(drain_rates, 0)} messages/s")
        report.goal(f"drain into a {queue_type} queue / bare publisher", f">= {goal}", ratios, statistics.median(ratios) >= goal, " x")
        if queue_type == "quorum":
            report.goal("CPU of the relay per message", "<= 3 us", cpu, statistics.median(cpu) <= 3, " us")
            report.goal("anonymous memory of the relay while draining", "<= 64 MiB", memory, max(memory) <= 64, " MiB")
    place.close()
