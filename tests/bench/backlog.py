"""A large backlog against a small one."""

import time

from harness.daemon import Daemon
from harness.sandbox import Place
from harness.wait import wait_until

from load import WINDOW, declare, fill, waiting
from process import anonymous_bytes

QUEUE = "bench.backlog"
KEPT = 20000  # what the queue keeps, so that both backlogs drop most: ten million messages would need more memory than the relay is being asked about


def drain_all(place, messages):
    """messages/s, most anonymous bytes, seconds from the relay's start to the first message."""
    declare(place, QUEUE, "quorum", **{"x-max-length": KEPT, "x-overflow": "drop-head"})
    fill(place, messages, QUEUE, rows_per_transaction=10000)
    place.sql("checkpoint")
    channel = place.channel()  # of its own: nobody serves the heartbeats of a connection while minutes go by
    most = [0]
    begun = time.monotonic()
    with Daemon(place, "outbox-relay", "--window", WINDOW, "--default-exchange", "") as relay:
        wait_until(lambda: waiting(channel, QUEUE) > 0, 120, "the first message", every_s=0.005)
        first = time.monotonic() - begun
        begun = time.monotonic()

        def confirmed():
            most[0] = max(most[0], anonymous_bytes(relay.process.pid))
            return relay.metric("sagapost_outbox_confirmed_total") or 0

        wait_until(lambda: confirmed() >= messages, 300 + messages / 2000, lambda: f"{confirmed():.0f} of {messages} published", every_s=0.2)
        seconds = time.monotonic() - begun
        relay.terminate()
    place.channel().queue_delete(QUEUE)
    return messages / seconds, most[0], first


def bench_backlog(sandbox, report, options):
    place = Place(sandbox)
    small, _, _ = drain_all(place, options.messages)
    large, memory, first = drain_all(place, options.backlog)
    name = f"a backlog of {options.backlog} messages"
    report.goal(f"{name}: rate / that of {options.messages}", ">= 0.9", [large / small], large / small >= 0.9, " x")
    report.goal(f"{name}: anonymous memory", "<= 64 MiB", [memory / (1 << 20)], memory <= 64 << 20, " MiB")
    report.goal(f"{name}: start of the relay to the first message", "<= 2 s", [first], first <= 2, " s")
    report.note(f"messages/s: small {small:.0f}, large {large:.0f}; the queue keeps the last {KEPT}")
    place.close()
