"""The ledger of the outbox: what was written, what arrived, and the checker that decides.

Writers record each message in a table, in the transaction that publishes it; so the table says what committed, whatever answer was
lost on the way. A consumer notes what arrives. `check` then says what was lost, what is a ghost, what came out of order, and what came twice."""

import json
import random
import threading
import time

import pika
import psycopg2

from .sandbox import amqp_parameters, lost
from .wait import patient, wait_until

QUEUE = "ledger"

TABLES = """
create schema ledger;
create table ledger.account (key text primary key, number bigint not null default 0);
create table ledger.noise (n bigint generated always as identity, at timestamptz default clock_timestamp());
create table ledger.sent (message_id uuid primary key, key text, number bigint, xid xid8 not null default pg_current_xact_id());
"""


WINDOW = 200  # of the relays below: what one of them can repeat when it is killed


def relay(daemons, *arguments, **keywords):
    return daemons("outbox-relay", "--window", WINDOW, "--default-exchange", "", *arguments, **keywords)


class Writers:
    """`count` sessions that do: start, write something, wait 0 to 20 ms, lock an account, publish its next number, commit. One in ten rolls back,
    one in ten publishes something else before, behind a savepoint that it rolls back to, one in ten publishes behind one that it releases.

    They go on through lost connections. `limit` bounds what they write in all. Without `begin` they go on with the tables that are there."""

    def __init__(self, place, seed, count=24, keys=50, limit=20000, type_name=QUEUE, payload_bytes=50, begin=True):
        self.place, self.keys, self.limit, self.type_name = place, keys, limit, type_name
        self.padding = "x" * payload_bytes
        self.stopping = threading.Event()
        self.lock = threading.Lock()
        self.written = 0
        self.failure = None
        if begin:
            place.sql(TABLES + f"insert into ledger.account (key) select 'k' || n from generate_series(1, {keys}) n")
        self.threads = [
            threading.Thread(target=self._run, args=(random.Random(f"{seed}/{n}"),), daemon=True) for n in range(count)
        ]

    def start(self):
        for thread in self.threads:
            thread.start()
        return self

    def stop(self):
        self.stopping.set()
        for thread in self.threads:
            thread.join(patient(60))
        assert not any(thread.is_alive() for thread in self.threads), "a writer does not end"
        if self.failure:
            raise self.failure

    def wait_written(self, number, limit_s=60):
        """Until that many transactions have committed, or all that `limit` allows: a slow restart must not make the test wait for more."""
        number = min(number, self.limit)
        wait_until(lambda: self.failure or self.written >= number, limit_s, lambda: f"{number} written, {self.written} so far")
        if self.failure:
            raise self.failure

    def _run(self, chance):
        connection = None
        while not self.stopping.is_set() and self.written < self.limit:
            try:
                if connection is None:
                    connection = psycopg2.connect(self.place.conninfo, connect_timeout=5)
                self._transaction(connection, chance)
            except psycopg2.Error as failure:
                if not lost(connection, failure):
                    self.failure = failure
                    return
                if connection is not None:
                    connection.close()
                connection = None
                self.stopping.wait(0.05)
            except Exception as failure:  # pylint: disable=broad-except  # told to the test by stop()
                self.failure = failure
                return
        if connection is not None:
            connection.close()

    def _transaction(self, connection, chance):
        key = f"k{chance.randint(1, self.keys)}"
        with connection.cursor() as cursor:
            cursor.execute("insert into ledger.noise default values")
            time.sleep(chance.uniform(0, 0.02))  # part of the load: transactions overlap
            cursor.execute("update ledger.account set number = number + 1 where key = %s returning number", (key,))
            number = cursor.fetchone()[0]
            savepoint = chance.random()
            if savepoint < 0.2:
                cursor.execute("savepoint here")
            if savepoint < 0.1:  # a ghost, should it ever arrive: the ledger has no such message
                cursor.execute("select outbox.publish(%s, jsonb_build_object('key', 'taken back', 'number', 1), key => %s)", (self.type_name, key))
                cursor.execute("rollback to savepoint here")
            cursor.execute(
                "with published as (select outbox.publish(%s, jsonb_build_object('key', %s::text, 'number', %s::bigint, 'padding', %s::text), key => %s) as id)"
                " insert into ledger.sent (message_id, key, number) select id, %s, %s from published",
                (self.type_name, key, number, self.padding, key, key, number),
            )
            if savepoint < 0.2:
                cursor.execute("release savepoint here")
        if chance.random() < 0.1:
            connection.rollback()
            return
        connection.commit()
        with self.lock:
            self.written += 1


class Consumer:
    """Notes every delivery from the queue `ledger` of the test's virtual host, across restarts of the broker."""

    def __init__(self, place, queue=QUEUE, arguments=None):
        self.place, self.queue = place, queue
        self.arguments = arguments or {"x-queue-type": "quorum", "x-delivery-limit": 1000000}
        self.arrived = []  # (message id, body), first deliveries only
        self.seen = set()
        self.repeated = []  # message ids: sent twice by the relay; not what the broker gave us again
        self.troubles = []  # what ended its connections
        self.stopping = threading.Event()
        self.ready = threading.Event()
        self.thread = threading.Thread(target=self._run, daemon=True)

    def start(self):
        self.thread.start()
        assert self.ready.wait(patient(30)), "the consumer does not start"
        return self

    def stop(self):
        self.stopping.set()
        self.thread.join(patient(30))

    def _run(self):
        while not self.stopping.is_set():
            try:
                connection = pika.BlockingConnection(amqp_parameters(self.place.amqp_uri))
                channel = connection.channel()
                channel.queue_declare(self.queue, durable=True, arguments=self.arguments)
                channel.basic_qos(prefetch_count=200)
                for method, properties, body in channel.consume(self.queue, inactivity_timeout=0.2):
                    self.ready.set()
                    if method is not None:
                        self._note(method, properties, body)
                        channel.basic_ack(method.delivery_tag)
                    if self.stopping.is_set():
                        break
                connection.close()
            except Exception as failure:  # pylint: disable=broad-except  # pika, where a connection breaks, raises whatever it stumbles over
                self.troubles.append(repr(failure))
                self.stopping.wait(0.1)

    def _note(self, method, properties, body):
        if properties.message_id not in self.seen:
            self.seen.add(properties.message_id)
            self.arrived.append((properties.message_id, body))
        elif not method.redelivered:
            self.repeated.append(properties.message_id)


def _body_key_number(body):
    parsed = json.loads(body)
    return parsed["key"], parsed["number"]


def settled(place, consumer):
    """Whether every committed message has arrived or is parked."""
    unparked = "from ledger.sent s where not exists (select from outbox.parked p where p.message_id = s.message_id)"
    if place.value(f"select count(*) {unparked}") > len(consumer.seen):
        return False
    # Among those that have arrived may be some that are parked all the same, as not confirmed.
    return all(row[0] in consumer.seen for row in place.sql(f"select message_id::text {unparked}"))


def check(place, consumer, repeated_most=None, limit_s=60):
    """Waits until all has arrived, then: lost = 0, ghosts = 0, order per key kept, repeats within the bound. Returns the figures."""
    try:
        wait_until(lambda: settled(place, consumer), limit_s, every_s=0.2)
    except AssertionError:
        pass  # what is missing is said below
    sent = {row[0]: (row[1], row[2]) for row in place.sql("select message_id::text, key, number from ledger.sent")}
    parked = {row[0] for row in place.sql("select message_id::text from outbox.parked")}
    arrived = list(consumer.arrived)
    ids = {message_id for message_id, _ in arrived}
    lost = sorted(set(sent) - ids - parked)
    ghosts = sorted(ids - set(sent))
    last, disorder = {}, []
    for message_id, body in arrived:
        key, number = _body_key_number(body)
        if number <= last.get(key, 0):
            disorder.append((key, last[key], number, message_id))
        last[key] = number
    figures = {
        "sent": len(sent),
        "arrived": len(ids),
        "parked": len(parked),
        "lost": len(lost),
        "ghosts": len(ghosts),
        "disorder": len(disorder),
        "repeated": len(consumer.repeated),
    }
    print(f"ledger: {figures}; the consumer was interrupted {len(consumer.troubles)} times: {consumer.troubles[-3:]}")
    assert not lost, f"lost {len(lost)}: {lost[:5]}; {figures}"
    assert not ghosts, f"ghosts {len(ghosts)}: {ghosts[:5]}; {figures}"
    assert not disorder, f"out of order {len(disorder)}: {disorder[:5]}; {figures}"
    if repeated_most is not None:
        assert len(consumer.repeated) <= repeated_most, (
            f"{len(consumer.repeated)} repeated, at most {repeated_most} allowed; of the log now (id, xid, message id, payload):"
            f" {place.sql('select id, xid::text, message_id::text, payload::text from outbox.message where message_id::text = any (%s)', (consumer.repeated[:5],))};"
            f" positions {place.sql('select * from outbox.position')}"
        )
    return figures
