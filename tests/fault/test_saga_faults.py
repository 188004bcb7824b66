"""Sagas under faults. The ledger is the shop's books: every saga ended, stock and money conserved, each effect once, undone at most once."""

import random

import pytest

from harness.shop import Shop
from harness.wait import wait_until

ORDERS = 300


@pytest.fixture
def shop(place):
    return Shop(place)


def relay(daemons, **keywords):
    return daemons("outbox-relay", **keywords)


def worker(daemons, **keywords):
    return daemons("saga-worker", **keywords)


def test_all_orders_end_and_the_books_balance(shop, daemons):
    relay(daemons).wait_ready()
    for _ in range(2):
        worker(daemons).wait_ready()
    shop.place_orders(ORDERS)
    shop.wait_ended()
    shop.check()
    assert set(shop.states()) == {"SUCCEEDED", "COMPENSATED"}


@pytest.mark.parametrize("sagas, kills", [(5000, 20), pytest.param(100000, 200, marks=pytest.mark.long)])
def test_the_ledger_under_kills(shop, place, sandbox, daemons, seed, sagas, kills):
    """Either program killed, connections ended in the middle of what they do; in the long run the servers crash too."""
    chance = random.Random(seed)
    running = {"relay": relay(daemons), "one": worker(daemons), "other": worker(daemons)}
    for program in running.values():
        program.wait_ready()

    def kill():
        whom = chance.choice(["relay", "one", "other", "one", "other", "connections"] + (["postgres", "rabbitmq"] if kills > 20 else []))
        if whom == "connections":
            place.sql("select pg_terminate_backend(pid) from pg_stat_activity where application_name ~ '^(saga-worker|outbox-relay)' and datname = current_database()")
        elif whom == "postgres":
            sandbox.postgres("kill")
            sandbox.postgres("start")
        elif whom == "rabbitmq":
            sandbox.crash_rabbitmq()
            sandbox.rabbitmq("start")
        else:
            running[whom].kill()
            running[whom] = relay(daemons) if whom == "relay" else worker(daemons)

    for _ in range(kills):
        shop.place_many(sagas // kills)
        # Somewhere in the middle of it, and behind by no more than a machine can make good.
        wanted = chance.randint(0, 3 * sagas // kills)
        wait_until(lambda: shop.open() <= wanted, 120, lambda: f"{shop.open()} open")  # noqa: B023
        kill()
    shop.wait_ended(300)
    shop.check()


@pytest.mark.parametrize(
    "point",
    [
        "orchestrate-before-commit",
        "orchestrate-after-commit",
        "orchestrate-before-ack",
        "orchestrate-between-write-and-commit",
        "execute-before-commit",
        "execute-after-commit",
        "execute-before-ack",
    ],
)
def test_worker_killed_at(shop, daemons, point):
    relay(daemons).wait_ready()
    victim = worker(daemons, environment={"SAGAPOST_FAILPOINT": f"{point}:3"})
    shop.place_orders(100)
    assert victim.wait_exit(60) == -9, victim.log()
    worker(daemons).wait_ready()
    shop.wait_ended()
    shop.check()


def test_relay_killed(shop, daemons):
    victim = relay(daemons).wait_ready()
    worker(daemons).wait_ready()
    for _ in range(5):
        shop.place_orders(60)
        victim.kill()
        victim = relay(daemons)
    shop.wait_ended()
    shop.check()


def test_rabbitmq_killed_and_back(shop, sandbox, daemons):
    relay(daemons).wait_ready()
    drivers = [worker(daemons).wait_ready() for _ in range(2)]
    shop.place_orders(ORDERS)
    sandbox.crash_rabbitmq()
    shop.place_orders(20)
    sandbox.rabbitmq("start")
    shop.place_orders(20)
    shop.wait_ended(120)
    shop.check()
    assert all(driver.alive() for driver in drivers)


def test_postgres_crashed_and_back(shop, sandbox, daemons):
    relay(daemons).wait_ready()
    drivers = [worker(daemons).wait_ready() for _ in range(2)]
    for _ in range(3):
        shop.place_orders(100)
        sandbox.postgres("kill")
        sandbox.postgres("start")
    shop.place_orders(20)
    shop.wait_ended(120)
    shop.check()
    assert all(driver.alive() for driver in drivers)


def test_commit_answers_lost(shop, place, daemons):
    """The workers' backends are terminated while they work: whether a COMMIT took place is then unknown to them."""
    relay(daemons).wait_ready()
    worker(daemons).wait_ready()
    for _ in range(10):
        shop.place_orders(30)
        place.value(
            "select count(pg_terminate_backend(pid)) from pg_stat_activity where application_name like 'saga-worker%%' and datname = current_database()"
        )
    shop.wait_ended(120)
    shop.check()
