"""A relay is killed, and another takes over."""

import statistics
import subprocess
import threading
import time

from harness.daemon import Daemon
from harness.sandbox import Place
from harness.wait import wait_until

from load import FOLDER, declare, number_in, waiting

QUEUE = "bench.takeover"
RATE = 1000
SECONDS = 6


def is_owner(relay):
    return relay.metric("sagapost_outbox_role", role="owner") == 1


class Pair:
    """A relay that owns the share and one that stands by."""

    def __init__(self, place):
        self.place = place
        self.owner = self.start()
        wait_until(lambda: is_owner(self.owner), 30, "the first relay owns the share")
        self.standby = self.start()

    def start(self):
        relay = Daemon(self.place, "outbox-relay", "--default-exchange", "")
        relay.wait_ready()
        return relay

    def kill_owner(self):
        self.owner.process.kill()

    def replace_owner(self):
        wait_until(lambda: is_owner(self.standby), 60, "the standby owns the share")
        self.owner.process.wait(30)
        self.owner, self.standby = self.standby, self.start()

    def stop(self):
        for relay in (self.standby, self.owner):
            relay.terminate()


def idle(place, pair):
    """Seconds from kill -9 until a message committed right after it is in its queue."""
    channel = declare(place, QUEUE, "quorum")
    pair.kill_owner()
    begun = time.monotonic()
    place.sql("select outbox.publish(%s, '{}')", (QUEUE,))
    wait_until(lambda: waiting(channel, QUEUE) > 0, 60, "the message arrives", every_s=0.005)
    seconds = time.monotonic() - begun
    channel.queue_delete(QUEUE)
    pair.replace_owner()
    return seconds


def under_load(place, pair):
    """Seconds for which nothing arrives, at a steady rate, when the owner is killed in the middle."""
    load = subprocess.Popen(
        [FOLDER / "bench_latency", "--queue", QUEUE, "--rate", str(RATE), "--seconds", str(SECONDS)],
        env=place.environment(), stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, text=True,
    )
    killer = threading.Timer(SECONDS / 2, pair.kill_owner)
    killer.start()
    line = load.communicate(timeout=120)[0]
    killer.join()
    pair.replace_owner()
    return number_in(line, r"silence ([\d.]+)") / 1000


def bench_takeover(sandbox, report, options):
    place = Place(sandbox)
    pair = Pair(place)
    quiet = [idle(place, pair) for _ in range(options.rounds)]
    loaded = [under_load(place, pair) for _ in range(options.rounds)]
    pair.stop()
    report.goal("takeover after kill -9, idle", "<= 1 s", quiet, statistics.median(quiet) <= 1, " s", 3)
    report.goal(f"takeover after kill -9, at {RATE} messages/s", "<= 3 s", loaded, statistics.median(loaded) <= 3, " s", 3)
    place.close()
