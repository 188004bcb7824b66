"""What a relay costs that has nothing to do."""

import statistics
import time

from harness.daemon import Daemon
from harness.sandbox import Place
from harness.wait import wait_until

from load import declare, fill, waiting
from process import anonymous_bytes, cpu_seconds

SECONDS = 10
ASLEEP = "select exists (select from pg_locks where locktype = 'advisory' and classid = 1397161985 and mode = 'ExclusiveLock' and granted)"
QUEUE = "bench.idle"


def autovacuum(place, value):
    place.sql(f"alter system set autovacuum = {value}")
    place.sql("select pg_reload_conf()")


def wait_still(place, seconds):
    """Until the log did not grow for that long: PostgreSQL itself writes for a while after work (its snapshot of what runs, each 15 s)."""
    seen = [None, time.monotonic()]

    def still():
        at = place.value("select pg_current_wal_insert_lsn()")
        if at != seen[0]:
            seen[:] = [at, time.monotonic()]
        return time.monotonic() - seen[1] >= seconds

    wait_until(still, 300, "the write-ahead log rests", every_s=1)


def bench_idle(sandbox, report, options):
    """The windows are watched from outside; nothing asks PostgreSQL or the relay anything in between.

    Without autovacuum, which would write about other benches' tables just then."""
    place = Place(sandbox)
    autovacuum(place, "off")
    channel = declare(place, QUEUE, "quorum")
    wal, cpu, memory = [], [], []
    with Daemon(place, "outbox-relay", "--default-exchange", "") as relay:
        relay.wait_ready()
        fill(place, 100, QUEUE)
        wait_until(lambda: waiting(channel, QUEUE) == 100, 30, "the messages arrive")
        wait_until(lambda: place.value(ASLEEP), 60, "the relay sleeps")
        wait_still(place, 16)
        for _ in range(options.rounds):
            at, used = place.value("select pg_current_wal_insert_lsn()"), cpu_seconds(relay.process.pid)
            time.sleep(SECONDS)  # what is measured is this time
            cpu.append((cpu_seconds(relay.process.pid) - used) / SECONDS * 100)
            memory.append(anonymous_bytes(relay.process.pid) / (1 << 20))
            wal.append(float(place.value("select pg_wal_lsn_diff(pg_current_wal_insert_lsn(), %s)", (at,))))
        relay.terminate()
    autovacuum(place, "on")
    report.goal(f"WAL written in {SECONDS} s of an idle relay", "0", wal, statistics.median(wal) == 0, " bytes", 0)
    report.goal("CPU of an idle relay, of one core", "< 0.5 %", cpu, max(cpu) < 0.5, " %", 3)
    report.goal("anonymous memory of an idle relay", "<= 8 MiB", memory, max(memory) <= 8, " MiB")
    place.close()
