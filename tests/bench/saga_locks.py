"""What the order of locks costs: sagas that each take a lock of their own, by two workers, and the same sagas without it.

All lock traffic of a database takes its turn at one advisory lock, from the asking, leaving or releasing to the COMMIT of the worker's batch. So
there is a ceiling; how near it is shows in how often a worker waits for its turn."""

import statistics
import threading
import time

from harness.sandbox import Place

from saga_load import THREE_STEPS, all_succeeded, daemons, wait_ended

LOCKED = """
select saga.define('locked', timeout => '15 min');
select saga.step('locked', 'hold', via => 'lock', input => '"$.input.r"');
select saga.step('locked', 'capture', action => 'bench.capture', kind => 'pivot', after => '{hold}', input => '{"n": "$.input.n"}');
select saga.publish('locked');
select saga.define('free', timeout => '15 min');
select saga.step('free', 'capture', action => 'bench.capture', kind => 'pivot', input => '{"n": "$.input.n"}');
select saga.publish('free');
"""

START = """
do $$ begin
    for n in 1 .. {count} loop
        perform saga.start('{definition}', jsonb_build_object('n', n, 'r', 'account-' || n));
        commit;
    end loop;
end $$
"""

TURNS = """
select count(*) filter (where l.granted), count(*) filter (where not l.granted) from pg_locks l
 where l.locktype = 'advisory' and l.classid = 1397161993 and l.database = (select oid from pg_database where datname = current_database())
"""


class Turns:
    """Looks again and again: how much of the time the turn was somebody's, and was waited for."""

    def __init__(self, place):
        self.looks = self.held = self.waited = 0
        self.over = threading.Event()
        self.thread = threading.Thread(target=self.look, args=(place,))
        self.thread.start()

    def look(self, place):
        with place.connect() as connection, connection.cursor() as cursor:
            while not self.over.wait(0.003):
                cursor.execute(TURNS)
                held, waiting = cursor.fetchone()
                connection.commit()
                self.looks += 1
                self.held += held > 0
                self.waited += waiting > 0

    def end(self):
        self.over.set()
        self.thread.join()
        return self.held / self.looks, self.waited / self.looks


def run(place, definition, count):
    """(sagas/s, share of the time in which the turn was held, and in which somebody waited for it)"""
    with daemons(place, 2), place.connect().cursor() as cursor:
        cursor.execute(START.format(definition=definition, count=50))
        wait_ended(cursor)
        turns = Turns(place)
        begun = time.monotonic()
        cursor.execute(START.format(definition=definition, count=count))
        wait_ended(cursor)
        rate = count / (time.monotonic() - begun)
        return rate, *turns.end()


def bench_locks(sandbox, report, options):
    place = Place(sandbox)
    place.sql(THREE_STEPS)
    place.sql(LOCKED)
    locked, free = [], []
    for _ in range(options.rounds):
        free.append(run(place, "free", options.sagas)[0])
        locked.append(run(place, "locked", options.sagas))
    for definition in ("free", "locked"):
        all_succeeded(place, definition)
    report.figure("locks/s taken and released, two workers", [rate for rate, *_ in locked], "/s", 0)
    report.figure("sagas/s with a lock / without", [rate / of for (rate, *_), of in zip(locked, free)])
    report.figure("share of the time in which the order of locks was somebody's", [held for _, held, _ in locked])
    report.figure("share of the time in which a worker waited for it", [waited for *_, waited in locked])
    ceiling = statistics.median(rate / max(held, 0.001) for rate, held, _ in locked)
    report.figure("locks/s if it were somebody's all the time", [ceiling], "/s", 0)
    place.close()
