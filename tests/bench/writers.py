"""What an outbox row costs the services that write it: transactions/s with the row against the same transactions without it."""

import pathlib
import re
import statistics
import subprocess

from harness.daemon import Daemon
from harness.sandbox import Place

from load import declare

GOAL = 0.85
SECONDS = 5
CLIENTS = 32

SCHEMA = """
create table business (id bigint generated always as identity primary key, account int, amount numeric, note text);
create table account (id int primary key, balance numeric not null) with (fillfactor = 50);
insert into account select n, 0 from generate_series(1, 100000) n;
create table plain (id bigint generated always as identity primary key, message_id uuid default gen_random_uuid(),
                    created_at timestamptz default clock_timestamp(), type text, key text, headers jsonb default '{}', payload json);
create index on plain (created_at);
"""
ACCOUNT = "\\set k random(1, 100000)\n\\set other random(1, 100000)\n\\set first least(:k, :other)\n\\set second greatest(:k, :other)\n"
BUSINESS = "insert into business (account, amount, note) values (:k, 10.00, repeat('x', 100));\n"
FULLER = (  # what a payment does: two balances, one look, one entry
    "update account set balance = balance - 10.00 where id = :first;\n"
    "update account set balance = balance + 10.00 where id = :second;\n"
    "select balance from account where id = :k;\n" + BUSINESS
)
ROW = "(type, key, payload) values ('bench.writers', 'k' || :k, '{\"amount\": 10.00}');\n"
OUTBOX = "insert into outbox.message " + ROW
ONE_STATEMENT = (
    "with entry as (insert into business (account, amount, note) values (:k, 10.00, repeat('x', 100)) returning account)\n"
    "insert into outbox.message (type, key, payload) select 'bench.writers', 'k' || account, '{\"amount\": 10.00}' from entry;\n"
)


def transaction(*statements):
    return ACCOUNT + "begin;\n" + "".join(statements) + "commit;\n"


BARE = transaction(BUSINESS)
BARE_FULLER = transaction(FULLER)
INSERT = transaction(BUSINESS, OUTBOX)
PUBLISH = transaction(BUSINESS, "select outbox.publish('bench.writers', '{\"amount\": 10.00}', key => 'k' || :k);\n")
TOGETHER = transaction(ONE_STATEMENT)
INSERT_FULLER = transaction(FULLER, OUTBOX)
PLAIN = transaction(BUSINESS, "insert into plain " + ROW)
SCRIPTS = (BARE, PLAIN, INSERT, PUBLISH, TOGETHER, BARE_FULLER, INSERT_FULLER)  # in turn, each once a round
COMPARED = [  # name, what, against what, has a goal
    ("writers: outbox insert", INSERT, BARE, True),
    ("writers: outbox.publish", PUBLISH, BARE, True),
    ("writers: both inserts in one statement", TOGETHER, BARE, True),
    ("writers: outbox insert, a payment of four statements", INSERT_FULLER, BARE_FULLER, True),
    ("writers: an insert into a plain table instead", PLAIN, BARE, False),
    # What a second statement costs at all is no outbox's: the rest is.
    ("writers: outbox insert / plain insert", INSERT, PLAIN, False),
    ("writers: outbox.publish / plain insert", PUBLISH, PLAIN, False),
]


def pgbench(place, script):
    """transactions/s"""
    path = place.sandbox.folder / "bench.sql"
    path.write_text(script)
    binary = sorted(pathlib.Path("/usr/lib/postgresql").glob("*/bin/pgbench"))[-1]
    done = subprocess.run(
        [binary, "-n", "-M", "prepared", "-c", str(CLIENTS), "-j", "2", "-T", str(SECONDS), "-f", path, place.conninfo],
        stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, timeout=SECONDS + 60, check=True,
    )
    return float(re.search(r"tps = ([\d.]+)", done.stdout).group(1))


def compare(place, rounds):
    """{name: ratios}. All rates are measured anew in each round."""
    ratios = {name: [] for name, *_ in COMPARED}
    for _ in range(rounds):
        rates = {script: pgbench(place, script) for script in SCRIPTS}
        print(f"  {CLIENTS} clients, transactions/s: one insert {rates[BARE]:.0f}, with a plain one {rates[PLAIN]:.0f}, with an outbox insert {rates[INSERT]:.0f}; "
              f"a payment {rates[BARE_FULLER]:.0f}", flush=True)
        for name, script, against, _ in COMPARED:
            ratios[name].append(rates[script] / rates[against])
    return ratios


def tell(report, ratios, where):
    for name, _, _, has_goal in COMPARED:
        met = statistics.median(ratios[name]) >= GOAL
        report.goal(f"{name}, {where}", f">= {GOAL}" if has_goal else None, ratios[name], met, " x")


def bench_writers(sandbox, report, options):
    place = Place(sandbox)
    place.sql(SCHEMA)
    declare(place, "bench.writers", "quorum")
    tell(report, compare(place, options.rounds), "no relay")
    with Daemon(place, "outbox-relay", "--default-exchange", "") as relay:
        relay.wait_ready()
        tell(report, compare(place, options.rounds), "relay on")
    place.close()
