"""The relay and the workers behind a network that misbehaves, towards either server. The ledger, or the shop's books, say what came of it."""

import os
import random
import signal

import pytest

from harness import ledger
from harness.proxy import COMMITTED, CONFIRMED, TO_CLIENT, TO_SERVER, Network, random_cut
from harness.shop import Shop
from harness.wait import wait_until

WINDOW = 50
SERVERS = ("postgres", "rabbitmq")
CUTS = [12, pytest.param(300, marks=pytest.mark.long)]
# About what a second of these tests' load sends to each server and gets from it.
RELAY_BYTES = {"postgres": {TO_SERVER: 1 << 14, TO_CLIENT: 1 << 16}, "rabbitmq": {TO_SERVER: 1 << 16, TO_CLIENT: 1 << 11}}
SHOP_BYTES = {"postgres": {TO_SERVER: 1 << 16, TO_CLIENT: 1 << 15}, "rabbitmq": {TO_SERVER: 1 << 10, TO_CLIENT: 1 << 15}}
# Servers that are back are found soon.
PATIENCE = ("--backoff-base", "20ms", "--backoff-cap", "300ms", "--connect-timeout", "2s")


@pytest.fixture
def network(place):
    here = Network(place)
    yield here
    here.close()


# The relay and the ledger ---------------------------------------------------------------------------------------------------------------


@pytest.fixture
def load(writers):
    return writers(count=8, limit=60000)


@pytest.fixture
def relay(daemons, network, load):
    """relay(...) starts one behind the proxies, with writers at work."""

    def start(*arguments):
        return daemons(
            "outbox-relay", "--window", WINDOW, "--default-exchange", "", *PATIENCE, *arguments, environment=network.environment()
        ).wait_ready(60)

    return start


def wait_more(consumer, count):
    wanted = len(consumer.seen) + count
    wait_until(lambda: len(consumer.seen) >= wanted, 60, lambda: f"{wanted} messages, {len(consumer.seen)} so far")


def settle(place, network, consumer, load, faults):
    """The network is whole again: what was written arrives, and a fault has repeated no more than a window."""
    network.heal()
    load.stop()
    # What was set aside meanwhile, as not confirmed, is tried again by itself.
    wait_until(lambda: place.value("select count(*) from outbox.parked") == 0, 60, lambda: place.sql("select * from outbox.parked"))
    assert ledger.check(place, consumer, repeated_most=faults * WINDOW, limit_s=120)["arrived"] > 0


def test_relay_stopped_under_load_repeats_nothing(place, network, relay, consumer, load):
    """Confirms that take their time leave rows waiting for their key, and rows confirmed beyond them, whenever it is stopped."""
    network.rabbitmq.slow(delay_s=0.02)
    for _ in range(6):
        daemon = relay()
        wait_more(consumer, 60)
        assert daemon.terminate() == 0 and "drained" in daemon.log(), daemon.log()
    relay()
    settle(place, network, consumer, load, 0)


def test_a_second_term_stops_at_once(network, relay, consumer, load):
    daemon = relay("--drain-timeout", "10min", "--confirm-timeout", "10min", "--lease-term", "10min")
    wait_more(consumer, 60)
    network.rabbitmq.hole = True
    daemon.wait_metric("sagapost_outbox_in_flight", lambda messages: messages > 0)
    daemon.signal(signal.SIGTERM)
    daemon.wait_log("draining")
    assert daemon.alive()
    assert daemon.terminate(20) == 1
    assert "stopping at once" in daemon.log()
    load.stop()


@pytest.mark.parametrize("cuts", CUTS)
@pytest.mark.parametrize("server", SERVERS)
def test_relay_cut_at_random_bytes(place, network, relay, consumer, load, seed, server, cuts):
    chance, proxy = random.Random(seed), network[server]
    daemon = relay()
    for _ in range(cuts):
        before = proxy.ended
        proxy.cut_after(*random_cut(chance, RELAY_BYTES[server]))
        wait_until(lambda: proxy.ended > before, 60, "a connection is cut")  # noqa: B023
        if chance.random() < 0.5:
            wait_more(consumer, chance.randint(1, 100))
    settle(place, network, consumer, load, proxy.ended)
    assert daemon.alive()


def test_relay_position_written_and_not_told(place, network, relay, consumer, load, seed):
    """PostgreSQL commits the position, and its answer is lost: the relay must go by what the row says."""
    chance, proxy = random.Random(seed), network.postgres
    daemon = relay()
    for number in range(8):
        proxy.cut_answer(b"relay_position_write\0", passing=chance.randint(0, 5))
        wait_until(lambda: proxy.ended > number, 60, "the answer is lost")  # noqa: B023
    settle(place, network, consumer, load, proxy.ended)
    assert daemon.alive() and "took it over" not in daemon.log()


def test_relay_confirms_lost(place, network, relay, consumer, load, seed):
    """RabbitMQ has taken messages, and its confirm is lost: they are sent again, and nothing overtakes them."""
    chance, proxy = random.Random(seed), network.rabbitmq
    daemon = relay()
    for number in range(8):
        proxy.cut_before(TO_CLIENT, CONFIRMED, passing=chance.randint(0, 20))
        wait_until(lambda: proxy.ended > number, 60, "a confirm is lost")  # noqa: B023
    settle(place, network, consumer, load, proxy.ended)
    assert daemon.metric("sagapost_outbox_unknown_total") > 0


@pytest.mark.parametrize(
    "server, settings, noticed",
    [
        ("postgres", ("--lease-term", "2s"), "did not answer within lease-term"),
        ("rabbitmq", ("--amqp-heartbeat", "1s"), "connection to RabbitMQ lost"),
        ("rabbitmq", ("--confirm-timeout", "1s"), "no confirm within confirm-timeout"),
    ],
)
def test_relay_notices_silence(place, network, relay, consumer, load, server, settings, noticed):
    """No FIN, no RST, nothing: found out by its own clocks. Connections that are tried meanwhile meet the same silence."""
    daemon = relay(*settings)
    proxy = network[server]
    for number in range(2):
        wait_more(consumer, 100)
        proxy.hole = True
        wait_until(lambda: daemon.log().count(noticed) > number, 60, daemon.log)  # noqa: B023
        wait_until(lambda: daemon.http("/readyz")[0] == 503, 60, daemon.log)
        proxy.hole = False
        daemon.wait_ready(60)
    # Both connections to RabbitMQ may have gone, each time.
    settle(place, network, consumer, load, 2)
    assert daemon.alive()


@pytest.mark.parametrize("direction", [TO_CLIENT, TO_SERVER])
@pytest.mark.parametrize("server", SERVERS)
def test_relay_and_noise(place, network, relay, consumer, load, seed, server, direction):
    """What no server says and no server understands: the connection is given up, by one end or the other."""
    chance, proxy = random.Random(seed), network[server]
    daemon = relay("--lease-term", "2s", "--amqp-heartbeat", "1s")
    for number in range(4):
        wait_more(consumer, chance.randint(1, 100))
        proxy.garble(direction, chance)
        wait_until(lambda: proxy.ended > number, 60, "something is garbled")  # noqa: B023
    wait_more(consumer, 50)
    settle(place, network, consumer, load, proxy.ended)
    assert daemon.alive()


@pytest.mark.parametrize("server", SERVERS)
def test_relay_over_a_slow_link(place, network, relay, consumer, load, server):
    """Late, in pieces of seven bytes, and at a rate below what is written: it falls behind and loses nothing."""
    daemon = relay()
    network[server].slow(delay_s=0.02, bytes_per_s=100000, piece=7)
    wait_more(consumer, 150)
    settle(place, network, consumer, load, 0)
    assert daemon.metric("sagapost_outbox_connection_losses_total", server="postgres") == 0
    assert daemon.metric("sagapost_outbox_connection_losses_total", server="rabbitmq") == 0


# The workers and the books --------------------------------------------------------------------------------------------------------------


@pytest.fixture
def shop(place):
    return Shop(place)


@pytest.fixture
def programs(daemons, network):
    """programs(...) starts a relay on the straight way, and two workers behind the proxies, which it returns."""

    def start(*arguments):
        daemons("outbox-relay", *PATIENCE).wait_ready()
        return [daemons("saga-worker", *PATIENCE, *arguments, environment=network.environment()).wait_ready(60) for _ in range(2)]

    return start


def balance(shop, network, workers):
    network.heal()
    shop.place_orders(20)
    shop.wait_ended(120)
    shop.check()
    assert set(shop.states()) <= {"SUCCEEDED", "COMPENSATED"}
    assert all(worker.alive() for worker in workers)


@pytest.mark.parametrize("cuts", CUTS)
@pytest.mark.parametrize("server", SERVERS)
def test_worker_cut_at_random_bytes(shop, network, programs, seed, server, cuts):
    chance, proxy = random.Random(seed), network[server]
    workers = programs()
    for _ in range(cuts):
        before = proxy.ended
        proxy.cut_after(*random_cut(chance, SHOP_BYTES[server]))
        while proxy.ended == before:
            shop.place_orders(10)
    balance(shop, network, workers)


def test_worker_committed_and_not_told(shop, network, programs, seed):
    """The outcome or the state is committed, and nobody says so: the message comes again, and finds it there."""
    chance, proxy = random.Random(seed), network.postgres
    workers = programs()
    for number in range(12):
        proxy.cut_before(TO_CLIENT, COMMITTED, passing=chance.randint(0, 10))
        while proxy.ended == number:
            shop.place_orders(10)
    balance(shop, network, workers)


def test_worker_acknowledgements_lost(shop, network, programs, seed):
    """What is done is not acknowledged: the broker gives it out again, to either worker."""
    chance, proxy = random.Random(seed), network.rabbitmq
    workers = programs()
    for number in range(8):
        proxy.cut_before(TO_SERVER, CONFIRMED, passing=chance.randint(0, 10))  # the same method, the other way
        while proxy.ended == number:
            shop.place_orders(10)
    balance(shop, network, workers)


def test_worker_notices_a_silent_broker(shop, network, programs):
    workers = programs("--amqp-heartbeat", "1s")
    shop.place_orders(100)
    network.rabbitmq.hole = True
    shop.place_orders(50)
    for worker in workers:
        worker.wait_log("heartbeat intervals", 60)
        wait_until(lambda: worker.http("/readyz")[0] == 503, 60, worker.log)  # noqa: B023
    network.rabbitmq.hole = False
    balance(shop, network, workers)


def test_worker_before_a_silent_database(shop, network, programs):
    """While PostgreSQL says nothing nothing is acknowledged; and when it is found again, none of it is done twice."""
    workers = programs()
    shop.place_orders(100)
    network.postgres.hole = True
    shop.place_orders(50)
    network.postgres.cut_all()
    for worker in workers:
        wait_until(lambda: worker.http("/readyz")[0] == 503, 60, worker.log)  # noqa: B023
    network.postgres.hole = False
    balance(shop, network, workers)


def silent(workers, number):
    """All connections of the workers to PostgreSQL were given up for their silence, so often."""

    def count(worker):
        return worker.metric("sagapost_saga_silences_total", server="postgres")

    wait_until(lambda: all(count(worker) >= number for worker in workers), 60, lambda: [worker.log() for worker in workers])


def test_worker_notices_a_silent_database(shop, network, programs):
    """No FIN, no RST, nothing: the worker's own clock finds it out. Connections that are tried meanwhile meet the same silence."""
    workers = programs("--statement-timeout", "1s", "--silence-limit", "500ms")
    for number in (2, 4):  # each has two
        shop.place_orders(50)
        network.postgres.hole = True
        silent(workers, number)
        for worker in workers:
            worker.wait_log("PostgreSQL has said nothing for")
            wait_until(lambda: worker.http("/readyz")[0] == 503, 60, worker.log)  # noqa: B023
        network.postgres.hole = False
        for worker in workers:
            worker.wait_ready(60)
    balance(shop, network, workers)


def test_worker_and_a_backend_that_stands_still(shop, place, daemons):
    """The process that serves a worker is stopped (SIGSTOP), its kernel answers: another one serves it, and what the first one still does
    when it goes on is done once."""
    daemons("outbox-relay").wait_ready()
    worker = daemons("saga-worker", *PATIENCE, "--statement-timeout", "1s", "--silence-limit", "500ms").wait_ready()
    shop.place_orders(50)
    shop.wait_ended()
    # Between two looks it holds no lock that all of PostgreSQL would wait for.
    served = "select pid from pg_stat_activity where application_name = 'saga-worker orchestrate' and state = 'idle' and datname = current_database()"
    (backend,) = wait_until(lambda: place.sql(served), 30, "an idle backend")[0]
    os.kill(backend, signal.SIGSTOP)
    try:
        shop.place_orders(50)
        worker.wait_log("PostgreSQL has said nothing for", 60)
        shop.wait_ended()
        assert worker.metric("sagapost_saga_silences_total", server="postgres", role="orchestrate") == 1
    finally:
        os.kill(backend, signal.SIGCONT)
    wait_until(lambda: not place.sql("select 1 from pg_stat_activity where pid = %s", (backend,)), 30, "it sees that nobody is there")
    shop.check()


@pytest.mark.parametrize("server", SERVERS)
def test_worker_over_a_slow_link(shop, network, programs, server):
    workers = programs()
    network[server].slow(delay_s=0.02, bytes_per_s=50000, piece=7)
    shop.place_orders(30)
    wait_until(lambda: shop.open() < 20, 120, "some sagas end")
    balance(shop, network, workers)
