"""Measures the goals. Both sides of a ratio run in turn, several times, on the same servers with fsync on; medians with least and most."""

import argparse
import os
import pathlib
import platform
import sys

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[1]))

from harness.sandbox import Place, Sandbox  # noqa: E402

from figures import Report  # noqa: E402
from load import KEYS, PAYLOAD_BYTES, WINDOW  # noqa: E402
from relay import bench_relay  # noqa: E402
from saga import bench_saga  # noqa: E402
from writers import bench_writers  # noqa: E402


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("what", nargs="*", choices=["relay", "writers", "saga", []], default=[])
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--messages", type=int, default=200000)
    parser.add_argument("--sagas", type=int, default=5000)
    options = parser.parse_args()
    what = options.what or ["relay", "writers", "saga"]
    sandbox = Sandbox()
    place = Place(sandbox, migrate=False)
    print(f"machine: {os.cpu_count()} cores, {platform.machine()}, Linux {platform.release()}, all servers and clients on it")
    print(f"versions: PostgreSQL {place.value('show server_version')}, RabbitMQ {sandbox.rabbitmqctl('version').strip()}")
    print(f"sizes: {options.messages} messages of {PAYLOAD_BYTES} bytes, {KEYS} keys, window {WINDOW}, {options.sagas} sagas, {options.rounds} rounds, fsync on")
    place.close()
    report = Report()
    for name, bench in (("relay", bench_relay), ("writers", bench_writers), ("saga", bench_saga)):
        if name in what:
            bench(sandbox, report, options)
    sandbox.stop()


if __name__ == "__main__":
    main()
