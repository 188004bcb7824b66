"""Sagas through real messages: how many, and how fast one alone."""

import statistics
import time

from harness.daemon import Daemon
from harness.sandbox import Place
from harness.shop import Shop
from harness.wait import wait_until

from load import publisher


def bench_saga(sandbox, report, options):
    rates, singles = [], []
    for _ in range(options.rounds):
        place = Place(sandbox)
        shop = Shop(place)
        place.sql("update shop.stock set on_hand = 1000000; update shop.customer set balance = 1000000, flagged = false")
        bare = publisher(place, options.messages, "bench.quorum", "quorum", "library")[0]
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
