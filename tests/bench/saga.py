"""Sagas through real messages: how many a second, and how fast one is alone."""

import statistics
import time

from harness.sandbox import Place
from harness.shop import Shop
from harness.wait import wait_until

from load import publisher
from saga_load import CLIENTS, STEPS, THREE_STEPS, all_succeeded, by_clients, daemons, p99, start_by_clients, wait_ended

ALONE = 50


def three_steps(sandbox, options):
    """(sagas/s, messages/s of the bare publisher in the same round, milliseconds of sagas that ran alone)."""
    place = Place(sandbox)
    place.sql(THREE_STEPS)
    bare = publisher(place, options.messages, "bench.quorum", "quorum", "library")[0]
    with daemons(place), place.connect().cursor() as cursor:
        clients = [place.connect() for _ in range(CLIENTS)]
        start_by_clients(clients, 100)  # plans are made, partitions are there
        wait_ended(cursor)
        for _ in range(ALONE):
            cursor.execute("select saga.start('three', '{\"n\": 0}', 'alone-' || gen_random_uuid())")
            wait_ended(cursor, every_s=0.005)
        cursor.execute("select extract(epoch from ended_at - started_at)::float8 * 1000 from saga.instances where key like 'alone-%'")
        alone = [row[0] for row in cursor]
        begun = time.monotonic()
        started = start_by_clients(clients, options.sagas)
        wait_ended(cursor)
        rate = started / (time.monotonic() - begun)
    all_succeeded(place)
    place.close()
    return rate, bare, alone


def place_orders(place, client, count):
    place.sql(
        "do $$ begin for n in 1 .. %s loop perform shop.place_order('B-%s-' || n, n %% 100 + 1, 'A' || n %% 20 + 1, 1); commit; end loop; end $$",
        (count, client),
    )


def orders(sandbox, options):
    """Order sagas/s of the example shop, whose handlers write business rows; four steps, two of them at the same time."""
    place = Place(sandbox)
    shop = Shop(place)
    place.sql("update shop.stock set on_hand = 1000000; update shop.customer set balance = 1000000, flagged = false")
    with daemons(place):
        shop.place_orders(10)
        shop.wait_ended()
        begun = time.monotonic()
        by_clients(lambda client: place_orders(place, client, options.sagas // CLIENTS))
        wait_until(lambda: shop.open() == 0, 300, "every saga ended", every_s=0.05)
        rate = options.sagas // CLIENTS * CLIENTS / (time.monotonic() - begun)
    place.close()
    return rate


def bench_steps(sandbox, report, options):
    rounds = [three_steps(sandbox, options) for _ in range(options.rounds)]
    rates, bares, alone = [r[0] for r in rounds], [r[1] for r in rounds], [ms for r in rounds for ms in r[2]]
    goal = statistics.median(bares) / 20
    met = statistics.median(rate * 20 / bare for rate, bare, _ in rounds) >= 1
    report.goal("3-step sagas/s, one worker; R = bare publisher", f">= R/20 {goal:.0f}", rates, met, "/s", 0)
    report.figure("steps/s", [rate * STEPS for rate in rates], "/s", 0)
    report.goal("a 3-step saga on an idle system, p50", "<= 15 ms", [statistics.median(alone)], statistics.median(alone) <= 15, " ms")
    report.figure("a 3-step saga on an idle system, p99", [p99(alone)], " ms")
    report.figure("order sagas/s (4 steps and their business rows)", [orders(sandbox, options) for _ in range(options.rounds)], "/s", 0)
