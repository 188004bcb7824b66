"""Measures the goals. Both sides of a ratio run in turn, several times, on the same servers with fsync on; medians with least and most."""

import argparse
import os
import pathlib
import platform
import signal
import sys

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[1]))

from harness.sandbox import Place, Sandbox  # noqa: E402

from backlog import bench_backlog  # noqa: E402
from bad import bench_bad  # noqa: E402
from drain import bench_drain  # noqa: E402
from figures import Report  # noqa: E402
from held import bench_held  # noqa: E402
from idle import bench_idle  # noqa: E402
from latency import bench_latency  # noqa: E402
from load import KEYS, PAYLOAD_BYTES, WINDOW  # noqa: E402
from saga import bench_steps  # noqa: E402
from saga_costs import bench_costs  # noqa: E402
from saga_locks import bench_locks  # noqa: E402
from saga_scale import bench_history, bench_workers  # noqa: E402
from saga_timers import bench_timers  # noqa: E402
from takeover import bench_takeover  # noqa: E402
from writers import bench_writers  # noqa: E402

PARTS = {
    "drain": bench_drain,
    "latency": bench_latency,
    "idle": bench_idle,
    "takeover": bench_takeover,
    "backlog": bench_backlog,
    "held": bench_held,
    "bad": bench_bad,
    "writers": bench_writers,
    "steps": bench_steps,
    "costs": bench_costs,
    "timers": bench_timers,
    "history": bench_history,
    "workers": bench_workers,
    "locks": bench_locks,
}
GROUPS = {"relay": ("drain", "latency", "idle", "takeover", "backlog", "held", "bad"), "saga": ("steps", "costs", "timers", "history", "workers", "locks")}

# Loaded, and idle until a database of the bench turns it on.
POSTGRESQL_CONF = """
shared_preload_libraries = 'pg_stat_statements'
pg_stat_statements.track = none
"""


def parse():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("what", nargs="*", choices=[*GROUPS, *PARTS, []], default=[], help="all when none is named; relay and saga stand for their parts")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--messages", type=int, default=200000, help="of a small backlog")
    parser.add_argument("--backlog", type=int, default=1000000, help="messages of a large one; the goal is about 10000000, which takes half an hour and 15 GB")
    parser.add_argument("--seconds", type=int, default=10, help="of steady load")
    parser.add_argument("--held", type=int, default=20, help="seconds for which a transaction stays open; at least 16, 120 and more tell of growth")
    parser.add_argument("--sagas", type=int, default=5000)
    parser.add_argument("--live", type=int, default=20000, help="sagas that wait while timers are measured; the goal is about 100000")
    parser.add_argument("--ended", type=int, default=200000, help="sagas that have ended, for the part history; the goal is about 1000000")
    options = parser.parse_args()
    wanted = {part for name in options.what or PARTS for part in GROUPS.get(name, (name,))}
    options.parts = [part for part in PARTS if part in wanted]
    return options


def main():
    options = parse()
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(1))  # in good order, so that the servers are stopped
    sandbox = Sandbox(POSTGRESQL_CONF)
    place = Place(sandbox, migrate=False)
    print(f"machine: {os.cpu_count()} cores, {platform.machine()}, Linux {platform.release()}, all servers and clients on it")
    print(f"load of the machine before: {os.getloadavg()[0]:.1f}")
    print(f"versions: PostgreSQL {place.value('show server_version')}, RabbitMQ {sandbox.rabbitmqctl('version').strip()}")
    print(f"sizes: {options.messages} messages of {PAYLOAD_BYTES} bytes, {KEYS} keys, window {WINDOW}, {options.sagas} sagas, {options.rounds} rounds, fsync on")
    place.close()
    report = Report()
    for part in options.parts:
        PARTS[part](sandbox, report, options)
    sandbox.stop()
    report.summary()


if __name__ == "__main__":
    main()
