"""The inbox's client (include/sagapost/inbox.h) as a service uses it: the example of outbox/inbox, linked with the shared and with the static
library. Whatever is killed, cut or repeated, each message is taken once."""

import json
import os
import random
import signal
import subprocess
import uuid

import pika
import pytest

from harness.proxy import COMMITTED, CONFIRMED, TO_CLIENT, TO_SERVER, Network
from harness.sandbox import BUILD
from harness.wait import patient, wait_until


class Sales:
    """The queue `sales` with its dead-letter queue, the table, and the program that consumes."""

    def __init__(self, place):
        self.place = place
        self.channel = place.channel()
        self.channel.confirm_delivery()
        self.channel.exchange_declare("dead", "fanout")
        self.channel.queue_declare("dead")
        self.channel.queue_bind("dead", "dead")
        self.channel.queue_declare(
            "sales", durable=True,
            arguments={"x-queue-type": "quorum", "x-delivery-limit": 1_000_000, "x-dead-letter-exchange": "dead"})
        place.sql("create table sale (number bigint, body text)")
        place.sandbox.counter += 1
        self.log_path = place.sandbox.folder / f"sales-{place.name}.log"
        self.process = None

    def start(self, program="sales", network=None):
        pg_port, uri = self.place.sandbox.pg_port, self.place.amqp_uri
        if network:
            pg_port, uri = network.postgres.port, network.environment()["SAGAPOST_AMQP"]
        with open(self.log_path, "ab") as log:
            self.process = subprocess.Popen(
                [BUILD / "tests" / program],
                env={**os.environ, "PGHOST": "127.0.0.1", "PGPORT": str(pg_port), "PGUSER": "postgres", "PGDATABASE": self.place.name,
                     "AMQP_URI": uri},
                stdin=subprocess.DEVNULL, stdout=log, stderr=log)

    def log(self):
        return self.log_path.read_text(errors="replace")

    def kill(self):
        if self.process:
            self.process.kill()
            self.process.wait(patient(30))

    def publish(self, body, message_id):
        self.channel.basic_publish("", "sales", body, pika.BasicProperties(message_id=message_id, delivery_mode=2))

    def sell(self, first, count):
        """One message for each number; their ids."""
        ids = [row[0] for row in self.place.sql("select outbox.uuid_v7()::text from generate_series(1, %s)", (count,))]
        for number, message_id in enumerate(ids, first):
            self.publish(json.dumps({"n": number}), message_id)
        return ids

    def numbers(self):
        return [row[0] for row in self.place.sql("select number from sale order by number")]

    def wait_sold(self, count):
        wait_until(lambda: len(self.numbers()) >= count, 60, lambda: f"{count} sales, {len(self.numbers())} so far\n{self.log()[-3000:]}")
        assert self.numbers() == list(range(1, count + 1))

    def dead(self):
        found = []
        while (message := self.channel.basic_get("dead", auto_ack=True))[0]:
            found.append(message[2])
        return found

    def stop(self):
        """In good order; what it printed last."""
        self.process.send_signal(signal.SIGTERM)
        assert self.process.wait(patient(30)) == 0, self.log()[-3000:]
        assert "PRECONDITION_FAILED" not in self.log(), "a tag was acknowledged twice"
        wait_until(lambda: self.channel.queue_declare("sales", passive=True).method.message_count == 0, 30, "all acknowledged")
        return self.log().splitlines()[-1]


@pytest.fixture
def sales(place):
    here = Sales(place)
    yield here
    here.kill()
    print(f"--- {here.log_path.name}\n{here.log()[-3000:] if here.log_path.exists() else ''}")


@pytest.mark.parametrize("program", ["sales", "sales-static"])
def test_each_once(sales, program):
    ids = sales.sell(1, 150)
    sales.start(program)
    ids += sales.sell(151, 50)
    sales.wait_sold(200)
    for number, message_id in enumerate(ids, 1):  # all of them once more, and some new ones between
        sales.publish(json.dumps({"n": number}), message_id)
    sales.sell(201, 20)
    sales.wait_sold(220)
    assert sales.stop() == "220 sales"


@pytest.mark.parametrize("library", ["libsagapost-inbox.so", "libsagapost-inbox.a"])
def test_names(library):
    """A program that links it gets no other names into its own."""
    path = BUILD / "outbox" / "inbox" / library
    symbols = subprocess.run(
        ["nm", "-g", "-D", "--defined-only", path] if library.endswith(".so") else ["nm", "-g", "--defined-only", path],
        stdout=subprocess.PIPE, text=True, check=True,
    ).stdout
    names = {line.split()[2] for line in symbols.splitlines() if " T " in line}
    assert names == {f"sagapost_inbox_{verb}" for verb in ("create", "run", "turn", "stop", "count", "destroy")}


@pytest.mark.parametrize("server, word", [("rabbitmq", CONFIRMED), ("postgres", COMMITTED)])
def test_killed(sales, server, word):
    """Between COMMIT and acknowledgement, and before COMMIT arrives."""
    network = Network(sales.place)
    try:
        sales.sell(1, 100)
        network[server].hole_before(TO_SERVER, word)
        sales.start(network=network)
        wait_until(lambda: network[server].hole, 30, "it is on its way")
        assert bool(sales.numbers()) == (server == "rabbitmq")
        sales.kill()
        taken = len(sales.numbers())
    finally:
        network.close()
    sales.sell(101, 1)  # behind the others: once it is taken they are acknowledged
    sales.start()
    sales.wait_sold(101)
    assert sales.stop() == f"{101 - taken} sales"


def test_through_lost_connections(sales, seed):
    """Both connections are cut while messages flow, COMMITs, their answers and acknowledgements are lost, PostgreSQL is started again."""
    chance = random.Random(seed)
    network = Network(sales.place)
    try:
        sales.start(network=network)
        sold = 0
        for fault in ("commit", "no commit", "ack", "postgres", "rabbitmq", "restart"):
            count = chance.randrange(50, 150)
            if fault == "commit":
                network.postgres.cut_before(TO_CLIENT, COMMITTED)
            elif fault == "no commit":  # what was acknowledged already would be lost with it
                network.postgres.cut_before(TO_SERVER, COMMITTED)
            elif fault == "ack":
                network.rabbitmq.cut_before(TO_SERVER, CONFIRMED)
            sales.sell(sold + 1, count)
            sold += count
            if fault in ("postgres", "rabbitmq"):
                network[fault].cut_all()
            elif fault == "restart":
                sales.place.sandbox.postgres("kill")
                sales.place.sandbox.postgres("start")
            sales.wait_sold(sold)
            network.heal()
        assert "PostgreSQL: connected again" in sales.log() and "RabbitMQ: connected again" in sales.log()
        sales.stop()
    finally:
        network.close()


def test_what_cannot_be_taken(sales):
    """Found among the others, told, and rejected to the dead-letter exchange; the others are taken."""
    sales.sell(1, 10)
    sales.publish("no JSON", str(uuid.uuid4()))
    sales.publish('{"n": "eleven"}', str(uuid.uuid4()))
    sales.publish('{"n": 0, "no": "id"}', None)
    sales.publish('{"n": 0, "bad": "id"}', "17")
    old = "01700000-0000-7000-8000-000000000000"
    sales.publish('{"n": 0, "too": "old"}', old)
    sales.sell(11, 10)
    sales.start()
    sales.wait_sold(20)
    dead = []
    wait_until(lambda: dead.extend(sales.dead()) or len(dead) == 5, 30, lambda: f"{dead}\n{sales.log()}")
    assert sorted(dead) == sorted([b"no JSON", b'{"n": "eleven"}', b'{"n": 0, "no": "id"}', b'{"n": 0, "bad": "id"}', b'{"n": 0, "too": "old"}'])
    log = sales.log()
    assert "it has no message-id" in log and "refused: message 17: its message-id is no UUID" in log
    assert f"refused: message {old}: message {old} is older than the inbox remembers" in log
    assert sales.stop() == "20 sales"


def test_a_queue_that_comes_later(sales):
    sales.channel.queue_delete("sales")
    sales.start()
    wait_until(lambda: "RabbitMQ: " in sales.log() and "sales" in sales.log(), 30, sales.log)
    sales.channel.queue_declare("sales", durable=True)
    sales.sell(1, 5)
    sales.wait_sold(5)
    sales.stop()
