"""What one saga costs, counted by PostgreSQL itself: messages, statements, commits, WAL, rows written."""

import collections
import pathlib
import re
import subprocess

from harness.sandbox import Place
from harness.wait import wait_until

from saga_load import STEPS, THREE_STEPS, all_succeeded, daemons, run_three

# The bench works as a role of its own, so that its statements are told from those of the daemons.
SET_UP = """
create extension pg_stat_statements;
do $$ begin
    if not exists (select from pg_roles where rolname = 'bench') then
        create role bench superuser login;
    end if;
end $$;
do $$ begin execute format('alter database %I set pg_stat_statements.track = top', current_database()); end $$;
"""

STATEMENTS = """
select coalesce(sum(calls), 0) from pg_stat_statements s join pg_database d on d.oid = s.dbid
 where d.datname = current_database() and s.userid <> 'bench'::regrole and query !~* '^(begin|commit|savepoint|release|set)'
"""

WRITES = """
select coalesce(p.inhparent::regclass::text, t.relid::regclass::text), sum(n_tup_ins), sum(n_tup_upd), sum(n_tup_del), sum(n_tup_hot_upd)
  from pg_stat_user_tables t left join pg_inherits p on p.inhrelid = t.relid
 group by 1
"""


def commits_written(place, since, until):
    """Transactions that wrote something, by their records in the log: pg_stat_database counts those that only read too."""
    binary = sorted(pathlib.Path("/usr/lib/postgresql").glob("*/bin/pg_waldump"))[-1]
    told = subprocess.run(
        [binary, "--stats=record", "-p", place.sandbox.folder / "postgres" / "data" / "pg_wal", "-s", since, "-e", until],
        stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, text=True, check=True,
    ).stdout
    return int(re.search(r"Transaction/COMMIT +(\d+)", told).group(1))


class Counters:
    """All of them at one moment; the difference of two is what was done in between."""

    def __init__(self, place):
        self.transactions = place.value("select xact_commit from pg_stat_database where datname = current_database()")
        self.statements = int(place.value(STATEMENTS))
        self.messages = place.value("select last_value from outbox.message_id_seq")
        self.lsn = place.value("select pg_current_wal_flush_lsn()")
        self.wal = int(place.value("select pg_wal_lsn_diff(%s, '0/0')", (self.lsn,)))
        self.writes = collections.Counter()
        for table, *counts in place.sql(WRITES):
            for what, count in zip(("insert", "update", "delete", "hot"), counts):
                self.writes[table, what] = int(count)

    def rows(self, *tables):
        return sum(n for (table, what), n in self.writes.items() if table in tables and what != "hot")


def wait_gone(place):
    """Until all other connections have ended: a backend adds to the counters when it does."""
    wait_until(
        lambda: place.value("select count(*) = 0 from pg_stat_activity where datname = current_database() and pid <> pg_backend_pid()"),
        30, "the daemons' connections end",
    )


def run(place, count):
    """So many sagas from start to end, until all is counted; how often the bench looked."""
    connection = place.connect(user="bench")
    with connection.cursor() as cursor, daemons(place):
        looks = run_three(cursor, count)
    connection.close()
    wait_gone(place)
    return looks


def measure(place, count):
    run(place, 100)  # so that nothing is counted that is done once
    place.sql("checkpoint")
    before = Counters(place)
    looks = run(place, count)
    after = Counters(place)
    after.commits = commits_written(place, before.lsn, after.lsn) - count  # those that started sagas are not ours
    after.transactions -= before.transactions + count + looks
    after.statements -= before.statements
    after.messages -= before.messages
    after.wal -= before.wal
    after.writes.subtract(before.writes)
    return after


def bench_costs(sandbox, report, options):
    place = Place(sandbox)
    place.sql(SET_UP)
    place.sql(THREE_STEPS)
    done = measure(place, options.sagas)
    all_succeeded(place)
    count, steps = options.sagas, options.sagas * STEPS
    per_step = done.commits / steps
    report.goal("commits per step under load that write, relay and worker", "<= 0.2", [per_step], per_step <= 0.2, "", 3)
    replies = steps  # one reply for each step; all other messages are commands
    handler = (done.rows("saga.outcome") + replies) / steps
    # What saga.start writes is in the service's transaction: an instance, its first line of history, the command of its one root.
    started = 3 * count
    engine = (done.rows("saga.instance", "saga.ended", "saga.history") + done.messages - replies - started) / steps
    report.goal("rows written per step: orchestrator, after saga.start", "<= 4", [engine], engine <= 4)
    report.goal("rows written per step: SQL handler, reply included", "<= 2", [handler], handler <= 2)
    report.figure("per saga of 3 steps: messages", [done.messages / count])
    report.figure("per saga of 3 steps: statements from relay and worker", [done.statements / count])
    report.figure("per saga of 3 steps: transactions of relay and worker, reading ones included", [done.transactions / count])
    report.figure("per saga of 3 steps: WAL, saga.start included", [done.wal / count], " bytes", 0)
    for table in sorted({table for table, _ in done.writes}):
        told = {what: done.writes[table, what] / count for what in ("insert", "update", "hot", "delete")}
        if any(told.values()):
            report.note(f"rows per saga, {table}: " + ", ".join(f"{what} {n:.2f}" for what, n in told.items() if n))
    place.close()
