"""A saga of three steps whose handlers do nothing, so that what is measured is the engine; and the daemons that run it."""

import concurrent.futures
import contextlib
import statistics

from harness.daemon import Daemon
from harness.wait import wait_until

STEPS = 3

# One after the other; the last reads what the first returned.
THREE_STEPS = """
create schema bench;
create function bench.work(input jsonb) returns jsonb language sql as $$ select jsonb_build_object('id', input -> 'n') $$;
create function bench.undo(input jsonb) returns jsonb language sql as $$ select '{}'::jsonb $$;
select saga.handle('bench.reserve', 'bench.work'), saga.handle('bench.release', 'bench.undo'), saga.handle('bench.capture', 'bench.work'),
       saga.handle('bench.ship', 'bench.work');
select saga.define('three', timeout => '15 min');
select saga.step('three', 'reserve', action => 'bench.reserve', undo => 'bench.release', input => '{"n": "$.input.n"}');
select saga.step('three', 'capture', action => 'bench.capture', kind => 'pivot', after => '{reserve}', input => '{"n": "$.input.n"}');
select saga.step('three', 'ship', action => 'bench.ship', kind => 'retriable', after => '{capture}', input => '{"n": "$.steps.reserve.id"}');
select * from saga.publish('three');
"""

# Who start sagas, each on a connection of its own: one alone waits for its own commits, and is measured instead of the sagas.
CLIENTS = 8

# Each in a transaction of its own, as services start them.
START = """
do $$ begin
    for n in 1 .. {count} loop
        perform saga.start('three', jsonb_build_object('n', n % {accounts}));
        commit;
    end loop;
end $$
"""


@contextlib.contextmanager
def daemons(place, workers=1):
    """A relay and workers, ready; stopped in good order, so that what they counted is written."""
    with contextlib.ExitStack() as stack:
        started = [stack.enter_context(Daemon(place, name)) for name in ("outbox-relay", *["saga-worker"] * workers)]
        for daemon in started:
            daemon.wait_ready()
        yield started
        for daemon in reversed(started):
            daemon.terminate()


def wait_ended(cursor, limit_s=300, every_s=0.05):
    """Until no saga is live; how often it looked."""
    looks = [0]

    def ended():
        looks[0] += 1
        cursor.execute("select not exists (select from saga.instance)")
        return cursor.fetchone()[0]

    wait_until(ended, limit_s, "every saga ended", every_s)
    return looks[0]


def run_three(cursor, count, accounts=1000000000):
    """Starts so many, about so many accounts, and waits for all; how often it looked."""
    cursor.execute(START.format(count=count, accounts=accounts))
    return wait_ended(cursor)


def by_clients(work):
    """Runs work(client) for each of the clients, all at the same time."""
    with concurrent.futures.ThreadPoolExecutor(CLIENTS) as pool:
        list(pool.map(work, range(CLIENTS)))


def start_by_clients(connections, count):
    """Starts sagas, the same number on each of the connections; how many those are together."""
    each = START.format(count=count // CLIENTS, accounts=1000000000)
    by_clients(lambda client: connections[client].cursor().execute(each))
    return count // CLIENTS * CLIENTS


def all_succeeded(place, definition="three"):
    states = dict(place.sql("select state, count(*) from saga.instances where definition = %s group by state", (definition,)))
    assert set(states) == {"SUCCEEDED"}, f"what was measured is not what was meant: {states}"


def p99(values):
    return statistics.quantiles(values, n=100)[98] if len(values) > 1 else values[0]
