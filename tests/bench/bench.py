"""Measures the goals. Both sides of a ratio run in turn, several times, on the same servers with fsync on; medians with least and most."""

import argparse
import os
import pathlib
import platform
import re
import statistics
import subprocess
import sys
import time

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[1]))

from harness.daemon import Daemon  # noqa: E402
from harness.sandbox import BUILD, Place, Sandbox  # noqa: E402
from harness.shop import Shop  # noqa: E402
from harness.wait import wait_until  # noqa: E402

PAYLOAD_BYTES = 500
WINDOW = 2000
KEYS = 1000
PUBLISHER = BUILD / "tests" / "bench" / "bench_publish"


def figures(values, digits=2):
    return f"{statistics.median(values):.{digits}f} ({min(values):.{digits}f} to {max(values):.{digits}f})"


class Report:
    def __init__(self):
        self.lines = []

    def goal(self, name, goal, values, met, unit=""):
        line = f"{name:58} goal {goal:>10}  measured {figures(values)}{unit}  {'met' if met else 'NOT MET'}"
        print(line, flush=True)
        self.lines.append(line)


def cpu_seconds(pid):
    fields = pathlib.Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def anonymous_bytes(pid):
    return int(re.search(r"RssAnon:\s+(\d+)", pathlib.Path(f"/proc/{pid}/status").read_text()).group(1)) * 1024


def bare_publisher(place, messages, queue_type):
    """messages/s of tests/bench/bench_publish, which uses the library's own amqp_basic_publish."""
    done = subprocess.run(
        [PUBLISHER, "--library", "--window", str(WINDOW), "--messages", str(messages), "--bytes", str(PAYLOAD_BYTES), "--queue", f"bare-{queue_type}",
         "--type", queue_type],
        env=place.environment(), stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, text=True, timeout=300, check=True,
    )
    return float(re.search(r"([\d.]+) messages/s", done.stdout).group(1))


def fill_backlog(place, messages, type_name):
    """Rows as services write them: many transactions, many keys."""
    with place.connect() as connection, connection.cursor() as cursor:
        for start in range(0, messages, 1000):
            cursor.execute(
                "insert into outbox.message (type, key, payload) select %s, 'k' || n %% %s, json_build_object('n', n, 'padding', repeat('x', %s))"
                " from generate_series(%s, %s) n",
                (type_name, KEYS, PAYLOAD_BYTES - 30, start + 1, min(start + 1000, messages)),
            )


def declare(place, queue, queue_type):
    channel = place.channel()
    channel.queue_delete(queue)
    channel.queue_declare(queue, durable=True, arguments={"x-queue-type": queue_type})


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


BUSINESS = "\\set k random(1, 100000)\ninsert into business (account, amount, note) values (:k, 10.00, repeat('x', 100));\n"


def pgbench(place, script, seconds=8, clients=32):
    path = place.sandbox.folder / "bench.sql"
    path.write_text(script)
    binary = sorted(pathlib.Path("/usr/lib/postgresql").glob("*/bin/pgbench"))[-1]
    done = subprocess.run(
        [binary, "-n", "-M", "prepared", "-c", str(clients), "-j", "2", "-T", str(seconds), "-f", path, place.conninfo],
        stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, timeout=seconds + 60, check=True,
    )
    return float(re.search(r"tps = ([\d.]+)", done.stdout).group(1))


def bench_writers(sandbox, report, options):
    place = Place(sandbox)
    place.sql("create table business (id bigint generated always as identity primary key, account int, amount numeric, note text)")
    declare(place, "bench.writers", "quorum")
    by_insert = "begin;\n" + BUSINESS + "insert into outbox.message (type, key, payload) values ('bench.writers', 'k' || :k, '{\"amount\": 10.00}');\ncommit;\n"
    by_function = "begin;\n" + BUSINESS + "select outbox.publish('bench.writers', '{\"amount\": 10.00}', key => 'k' || :k);\ncommit;\n"
    bare = "begin;\n" + BUSINESS + "commit;\n"
    inserts, functions = [], []
    with Daemon(place, "outbox-relay", "--default-exchange", "") as relay:
        relay.wait_ready()
        for _ in range(options.rounds):
            rate = pgbench(place, bare)
            inserts.append(pgbench(place, by_insert) / rate)
            functions.append(pgbench(place, by_function) / rate)
            print(f"  business insert alone {rate:.0f} transactions/s, 32 clients")
    report.goal("writers with an outbox insert / without, 32 clients, relay on", ">= 0.85", inserts, statistics.median(inserts) >= 0.85, " x")
    report.goal("writers with outbox.publish / without, 32 clients, relay on", ">= 0.85", functions, statistics.median(functions) >= 0.85, " x")
    place.close()


def bench_saga(sandbox, report, options):
    rates, singles = [], []
    for _ in range(options.rounds):
        place = Place(sandbox)
        shop = Shop(place)
        place.sql("update shop.stock set on_hand = 1000000; update shop.customer set balance = 1000000, flagged = false")
        bare = bare_publisher(place, options.messages, "quorum")
        with Daemon(place, "outbox-relay") as relay, Daemon(place, "saga-worker") as worker:
            relay.wait_ready()
            worker.wait_ready()
            shop.place_orders(10)
            shop.wait_ended()
            singles += [float(row[0]) for row in one_by_one(place, shop, 20)]
            begun = time.monotonic()
            place.sql(
                "do $$ begin for n in 1 .. %s loop perform shop.place_order('B-' || n, n %% 100 + 1, 'A' || n %% 20 + 1, 1); commit; end loop; end $$",
                (options.sagas,),
            )
            wait_until(lambda: shop.open() == 0, 300, "every saga ended", every_s=0.05)
            rates.append(options.sagas / (time.monotonic() - begun))
        print(f"  {rates[-1]:.0f} order sagas (4 steps)/s, bare publisher {bare:.0f} messages/s, ratio {rates[-1] / bare:.4f}")
        report.lines.append(f"sagas/s {rates[-1]:.0f}, R {bare:.0f}")
        place.close()
        report.ratios = getattr(report, "ratios", []) + [rates[-1] * 20 / bare]
    report.goal("order sagas (4 steps)/s, one worker process", "R / 20", rates, statistics.median(report.ratios) >= 1, "/s")
    report.goal("an order saga on an idle system, start to end", "<= 15 ms", singles, statistics.median(singles) <= 15, " ms")


def one_by_one(place, shop, count):
    """Milliseconds from start to end of sagas that run alone."""
    for number in range(count):
        place.sql("select shop.place_order(%s, 1, 'A1', 1)", (f"S-{number}",))
        wait_until(lambda: shop.open() == 0, 30, "the saga ended", every_s=0.005)
    return place.sql("select extract(epoch from ended_at - started_at) * 1000 from saga.instances where key like 'S-%%'")


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
