"""The shop with a database for each service: orders (which has the sagas), stock and payments, each with a relay
and a worker of its own. One of everything is killed on the way, and the books of all three must balance."""

import os
import re
import subprocess

import pytest

from harness.sandbox import ROOT, Place
from harness.shop import Shop
from harness.wait import patient, wait_until

HOMES = {
    "orders": (("orders", "order-saga", "roles"), "orchestrate"),
    "stock": (("stock", "roles"), "execute"),
    "payments": (("payments", "roles"), "execute"),
}


def check_books(sandbox, *databases):
    environment = {**os.environ, "PGHOST": "127.0.0.1", "PGPORT": str(sandbox.pg_port), "PGUSER": "postgres"}
    return subprocess.run(
        ["sh", ROOT / "docker" / "shop" / "books.sh", *databases],
        env=environment, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, timeout=patient(60), check=False,
    )


def test_three_databases(sandbox, daemons):
    places = {}
    for home, (files, _) in HOMES.items():
        # A copy with all parts is quicker; test_demo makes each from nothing.
        places[home] = Place(sandbox, migrate=home != "stock")
        places[home].amqp_uri = places["orders"].amqp_uri
        if home == "stock":
            places[home].sagapost("migrate", "--parts", "participant")
        for file in files:
            places[home].sql(Shop.text(file))

    def start(home, program):
        user = {"outbox-relay": "shop_relay", "saga-worker": "shop_worker"}[program]
        roles = ("--roles", HOMES[home][1]) if program == "saga-worker" else ()
        return daemons(program, *roles, at=places[home], environment={"SAGAPOST_POSTGRES": sandbox.conninfo(places[home].name, user)})

    running = {(home, program): start(home, program) for home in HOMES for program in ("outbox-relay", "saga-worker")}
    for daemon in running.values():
        daemon.wait_ready()
    orders = places["orders"]
    with orders.connect() as connection, connection.cursor() as cursor:
        for number in range(1, 61):
            cursor.execute("select shop.place_order(%s, %s, %s, %s)",
                           (f"ORD-{number}", number * 7 % 100 + 1, f"A{number * 13 % 20 + 1}", number % 3 + 1))
            if number % 10 == 0:
                victim = list(running)[number // 10 - 1]
                running[victim].kill()
                running[victim] = start(*victim)
    wait_until(lambda: orders.value("select count(*) from saga.instances where ended_at is null") == 0, 60,
               lambda: orders.sql("select * from saga.steps where saga_id in (select id from saga.instances where ended_at is null) limit 20"))
    states = dict(orders.sql("select state, count(*) from saga.instances group by state"))
    assert set(states) == {"SUCCEEDED", "COMPENSATED"} and sum(states.values()) == 60
    assert "inbox" not in running["stock", "saga-worker"].log(), "without the part inbox there is nothing of it to keep, and nothing to warn of"
    names = [place.name for place in places.values()]
    done = check_books(sandbox, *names)
    assert done.returncode == 0, done.stdout
    # And they can fail: a piece that nobody has sold is gone, in the second database.
    places["stock"].sql("update shop.stock set on_hand = on_hand - 1 where sku = 'A1'")
    done = check_books(sandbox, *names)
    assert done.returncode == 1 and re.search(r"pieces: before = in stock \+ sold +\| \d+ +\| \d+ +\| f", done.stdout), done.stdout


@pytest.mark.long
@pytest.mark.parametrize("databases", [1, 3])
def test_demo(databases):
    """As a newcomer runs it: packages, a build of its own, and the books at the end."""
    done = subprocess.run(
        ["sh", ROOT / "docker" / "demo.sh", "--databases", str(databases), "--orders", "200"],
        stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, timeout=patient(600), check=False,
    )
    assert done.returncode == 0, done.stdout[-3000:]
    assert "Every piece and every cent is accounted for." in done.stdout
    assert "nothing paid, shipped or reserved for those compensated" in done.stdout


def test_demo_refuses_what_it_cannot():
    done = subprocess.run(
        ["sh", ROOT / "docker" / "demo.sh", "--databases", "2"],
        stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, timeout=patient(60), check=False,
    )
    assert (done.returncode, done.stderr) == (2, 'demo.sh: --databases: "2" is neither 1 nor 3\n')
