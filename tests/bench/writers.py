"""What an outbox row costs the services that write it."""

import pathlib
import re
import statistics
import subprocess

from harness.daemon import Daemon
from harness.sandbox import Place

from load import declare

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
