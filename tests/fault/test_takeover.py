"""A share changes hands: killed, stopped, frozen and woken, cut off from one server or the other. Each relay signs what it sends (app-id),
so that the queue tells who was heard after whom: of a former owner nothing comes after the first message of the next one."""

import signal
import time

import pika
import psycopg2
import pytest

from harness import ledger
from harness.proxy import Network
from harness.sandbox import Place
from harness.wait import wait_until

WINDOW = 200
TERM = "3s"  # for those who fall silent
LONG = "30s"  # for those who do not, on a machine that is slow


class Listener(ledger.Consumer):
    """The ledger's consumer, which also notes who sent each message."""

    def __init__(self, place):
        super().__init__(place)
        self.senders = []  # in the order of the queue, without what the broker gave us again
        self.heard_at = {}  # sender: when its first message came

    def _note(self, method, properties, body):
        if not method.redelivered:
            self.senders.append(properties.app_id)
            self.heard_at.setdefault(properties.app_id, time.monotonic())
        super()._note(method, properties, body)

    def wait_heard(self, sender, more=0, limit_s=60):
        wanted = self.senders.count(sender) + more if more else 1
        wait_until(lambda: self.senders.count(sender) >= wanted, limit_s, lambda: f"{wanted} from {sender}, heard {set(self.senders)}")

    def check_turns(self, *order):
        """Each had one turn, in this order."""
        turns = [sender for n, sender in enumerate(self.senders) if n == 0 or self.senders[n - 1] != sender]
        assert turns == list(order), f"turns: {turns[:20]}"


@pytest.fixture
def consumer(place):
    here = Listener(place).start()
    yield here
    here.stop()


@pytest.fixture
def network(place):
    here = Network(place)
    yield here
    here.close()


def relay(daemons, name, *arguments, term=TERM, **keywords):
    return daemons(
        "outbox-relay", "--window", WINDOW, "--default-exchange", "", "--lease-term", term, "--app-id", name, *arguments, **keywords
    )


def wait_owner(daemon, limit_s=60):
    wait_until(lambda: daemon.metric("sagapost_outbox_fenced") == 1, limit_s, lambda: f"it owns the share:\n{daemon.log()[-3000:]}")
    return daemon


def wait_standby(daemon, limit_s=60):
    """It waits in the lock's queue, not only for its first look."""
    daemon.wait_log("standing by", limit_s)
    return daemon.wait_ready(limit_s)


def pair(daemons, term=TERM, **keywords):
    return wait_owner(relay(daemons, "first", term=term, **keywords)), wait_standby(relay(daemons, "second", term=term))


def fence_name(place, share=0, more=""):
    system, database = place.sql("select system_identifier, database_oid::bigint from outbox.position where share = %s", (share,))[0]
    return f"outbox.relay.{system}.{database}.{share}{more}"


# The owner ends ----------------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("how", ["kill", "terminate"])
def test_an_owner_that_ends_under_load(place, daemons, consumer, writers, how):
    first, second = pair(daemons, LONG)
    load = writers()
    consumer.wait_heard("first", more=300)
    began = time.monotonic()
    getattr(first, how)()
    consumer.wait_heard("second")
    print(f"takeover under load, {how}: {consumer.heard_at['second'] - began:.3f} s")
    consumer.wait_heard("second", more=300)
    load.stop()
    ledger.check(place, consumer, repeated_most=WINDOW)
    consumer.check_turns("first", "second")
    assert second.metric("sagapost_outbox_silent_owners_ended_total") == 0


@pytest.mark.parametrize("how", ["kill", "terminate"])
def test_an_idle_owner_that_ends(place, daemons, consumer, writers, how):
    first, second = pair(daemons, LONG)
    load = writers(limit=200)
    load.wait_written(200)
    load.stop()
    wait_until(lambda: ledger.settled(place, consumer), 60, "all has arrived")
    began = time.monotonic()
    getattr(first, how)()
    wait_owner(second)
    print(f"takeover idle, {how}: {time.monotonic() - began:.3f} s")
    ledger.check(place, consumer, repeated_most=WINDOW)


@pytest.mark.parametrize("point", ["fence-held", "fence-proven"])
def test_a_successor_killed_at(place, daemons, consumer, writers, point):
    first = wait_owner(relay(daemons, "first", term=LONG))
    second = wait_standby(relay(daemons, "second", term=LONG, environment={"SAGAPOST_FAILPOINT": point}))
    load = writers(count=8)
    consumer.wait_heard("first", more=100)
    first.kill()
    assert second.wait_exit(60) == -9, second.log()
    wait_owner(relay(daemons, "third", term=LONG))
    consumer.wait_heard("third", more=100)
    load.stop()
    ledger.check(place, consumer, repeated_most=WINDOW)
    consumer.check_turns("first", "third")


# The owner stands still --------------------------------------------------------------------------------------------------------------


def wake(first, consumer):
    """It says what it found, and goes back to waiting."""
    first.signal(signal.SIGCONT)
    first.wait_log("publishing nothing more")
    first.wait_log("standing by")
    consumer.wait_heard("second", more=200)


def test_a_frozen_owner_is_replaced_and_publishes_nothing_more(place, daemons, consumer, writers):
    first, second = pair(daemons)
    load = writers()
    consumer.wait_heard("first", more=300)
    first.signal(signal.SIGSTOP)
    consumer.wait_heard("second")
    wake(first, consumer)
    load.stop()
    ledger.check(place, consumer, repeated_most=WINDOW)
    consumer.check_turns("first", "second")
    second.wait_metric("sagapost_outbox_silent_owners_ended_total", 1)


def test_frozen_with_messages_in_its_buffer(place, daemons, consumer, writers):
    """It stops in the middle of a batch: what it has encoded would be sent the moment it goes on."""
    first, second = pair(daemons, environment={"SAGAPOST_FAILPOINT": "after-publish:300:stop"})
    load = writers()
    consumer.wait_heard("second")
    assert "publishing nothing more" not in first.log()
    wake(first, consumer)
    load.stop()
    ledger.check(place, consumer, repeated_most=WINDOW)
    consumer.check_turns("first", "second")
    second.wait_metric("sagapost_outbox_silent_owners_ended_total", 1)


def test_frozen_between_the_fence_and_its_proof(place, daemons, consumer, writers):
    """It has the queue of RabbitMQ, not for long, and does not know that it has not the lock any more."""
    first = relay(daemons, "first", environment={"SAGAPOST_FAILPOINT": "fence-held:1:stop"})
    load = writers(count=8)
    second = relay(daemons, "second")
    wait_owner(second)
    first.signal(signal.SIGCONT)
    first.wait_log("standing by")
    consumer.wait_heard("second", more=200)
    load.stop()
    ledger.check(place, consumer, repeated_most=0)
    consumer.check_turns("second")


def test_a_standby_killed_after_it_ended_a_silent_owner(place, daemons, consumer, writers):
    first = wait_owner(relay(daemons, "first"))
    second = relay(daemons, "second", environment={"SAGAPOST_FAILPOINT": "owner-ended"})
    wait_standby(second)
    load = writers(count=8)
    consumer.wait_heard("first", more=100)
    first.signal(signal.SIGSTOP)
    assert second.wait_exit(60) == -9, second.log()
    wait_owner(relay(daemons, "third"))
    first.signal(signal.SIGCONT)
    first.wait_log("standing by")
    consumer.wait_heard("third", more=100)
    load.stop()
    ledger.check(place, consumer, repeated_most=WINDOW)
    consumer.check_turns("first", "third")


def test_a_silent_owner_of_another_role_is_left_alone(place, daemons):
    """pg_stat_activity shows nothing of it, and to end it would be refused: the standby says so."""
    place.sql(
        "do $$ begin create role fence_one login in role sagapost_relay; create role fence_two login in role sagapost_relay;"
        " exception when duplicate_object then null; end $$"
    )
    as_role = place.conninfo.replace("user=postgres", "user={}")
    wait_owner(relay(daemons, "first", environment={"SAGAPOST_POSTGRES": as_role.format("fence_one")}))
    second = relay(daemons, "second", environment={"SAGAPOST_POSTGRES": as_role.format("fence_two")})
    second.wait_log("must log in as one role")
    # The same role, with no more rights than that, is enough.
    third = relay(daemons, "third", environment={"SAGAPOST_POSTGRES": as_role.format("fence_one")})
    wait_standby(third)
    assert "must log in as one role" not in third.log()


def test_a_relay_that_is_no_superuser_ends_a_silent_owner(place, daemons):
    place.sql("do $$ begin create role fence_relay login in role sagapost_relay; exception when duplicate_object then null; end $$")
    environment = {"SAGAPOST_POSTGRES": place.conninfo.replace("user=postgres", "user=fence_relay")}
    first = wait_owner(relay(daemons, "first", environment=environment))
    second = wait_standby(relay(daemons, "second", environment=environment))
    first.signal(signal.SIGSTOP)
    wait_owner(second)
    second.wait_metric("sagapost_outbox_silent_owners_ended_total", 1)


# One server is lost and the other kept -----------------------------------------------------------------------------------------------


def test_cut_off_from_postgres_alone(place, daemons, consumer, writers, network):
    first, second = pair(daemons, environment=network.environment())
    load = writers()
    consumer.wait_heard("first", more=300)
    network.postgres.hole = True
    first.wait_log("publishing nothing more")
    consumer.wait_heard("second", more=300)
    network.heal()
    wait_standby(first)
    load.stop()
    ledger.check(place, consumer, repeated_most=WINDOW)
    consumer.check_turns("first", "second")
    assert second.alive() and first.alive()


def test_cut_off_from_rabbitmq_alone(place, daemons, consumer, writers, network):
    first, second = pair(daemons, environment=network.environment())
    load = writers()
    consumer.wait_heard("first", more=300)
    network.rabbitmq.hole = True
    first.wait_log("resigning")
    consumer.wait_heard("second", more=300)
    network.heal()
    wait_standby(first)
    load.stop()
    ledger.check(place, consumer, repeated_most=WINDOW)
    consumer.check_turns("first", "second")
    assert first.metric("sagapost_outbox_resignations_total") == 1


def test_nobody_resigns_to_one_that_cannot_publish_either(place, daemons, consumer, writers, network):
    first, second = pair(daemons, environment=network.environment())
    load = writers(count=8)
    consumer.wait_heard("first", more=100)
    second.kill()
    network.rabbitmq.hole = True
    second = relay(daemons, "second", environment=network.environment())
    second.wait_log("standing by")
    began = time.monotonic()
    wait_until(lambda: time.monotonic() > began + 5, 60, "the term is over, with a second to spare")
    assert first.metric("sagapost_outbox_role", role="owner") == 1
    assert first.metric("sagapost_outbox_resignations_total") == 0
    network.heal()  # whoever is there first may have it now
    load.stop()
    ledger.check(place, consumer, repeated_most=2 * WINDOW)


def test_killed_while_it_resigns(place, daemons, consumer, writers, network):
    first, _ = pair(daemons, environment={**network.environment(), "SAGAPOST_FAILPOINT": "resigning"})
    load = writers(count=8)
    consumer.wait_heard("first", more=100)
    network.rabbitmq.hole = True
    assert first.wait_exit(60) == -9, first.log()
    consumer.wait_heard("second", more=100)
    load.stop()
    ledger.check(place, consumer, repeated_most=WINDOW)
    consumer.check_turns("first", "second")


# The queue in RabbitMQ ---------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("more", ["", ".parked"])
def test_nothing_is_published_before_the_former_owner_is_gone(place, daemons, consumer, more):
    """Neither while its lane of the log has a connection, nor while that of outbox.parked has one."""
    connection = pika.BlockingConnection(pika.URLParameters(place.amqp_uri))
    connection.channel().queue_declare(fence_name(place, more=more), exclusive=True)
    daemon = relay(daemons, "first", term=LONG)
    daemon.wait_log("waiting until the former owner's connection to RabbitMQ has ended")
    assert daemon.http("/readyz")[0] != 200
    place.sql(ledger.TABLES)
    place.sql("select outbox.publish('ledger', '{\"key\": \"k\", \"number\": 1}', key => 'k')")
    assert daemon.metric("sagapost_outbox_published_total") == 0
    connection.close()
    wait_owner(daemon)
    consumer.wait_heard("first")


def test_a_queue_that_is_deleted_ends_the_turn(place, sandbox, daemons, consumer, writers):
    first, _ = pair(daemons, LONG)
    load = writers(count=8)
    consumer.wait_heard("first", more=100)
    vhost = place.amqp_uri.rsplit("/", 1)[1]
    sandbox.rabbitmqctl(
        "eval",
        f'{{ok, Q}} = rabbit_amqqueue:lookup(rabbit_misc:r(<<"{vhost}">>, queue, <<"{fence_name(place)}">>)),'
        ' rabbit_amqqueue:delete(Q, false, false, <<"test">>).',
    )
    first.wait_log("cancelled the fence")
    load.wait_written(load.written + 200)
    load.stop()
    ledger.check(place, consumer, repeated_most=WINDOW)


def test_a_user_without_the_permissions_is_told_which(place, sandbox, daemons, consumer):
    vhost = place.amqp_uri.rsplit("/", 1)[1]

    def permit(configure, read):
        sandbox.rabbitmqctl(
            "eval", f'rabbit_auth_backend_internal:set_permissions(<<"fence">>, <<"{vhost}">>, <<"{configure}">>, <<".*">>, <<"{read}">>, <<"t">>).'
        )

    sandbox.rabbitmqctl(
        "eval", 'catch rabbit_auth_backend_internal:add_user(<<"fence">>, <<"fence">>, <<"test">>).'
    )
    permit("^$", "^$")
    daemon = relay(daemons, "first", environment={"SAGAPOST_AMQP": place.amqp_uri.replace("guest:guest", "fence:fence")})
    daemon.wait_log("configure and read on outbox")
    place.sql("select outbox.publish('ledger', '{\"key\": \"k\", \"number\": 1}', key => 'k')")
    assert daemon.http("/readyz")[0] != 200
    permit(r"^outbox\\.relay\\..*", r"^outbox\\.relay\\..*")
    wait_owner(daemon)
    consumer.wait_heard("first")


def test_two_databases_in_one_virtual_host(place, sandbox, daemons, consumer, writers):
    """Neither waits for the other, takes over from it, or ends it."""
    other = Place(sandbox)
    try:
        other.amqp_uri = place.amqp_uri
        first = wait_owner(relay(daemons, "first", term=LONG))
        theirs = wait_owner(relay(daemons, "theirs", environment=other.environment()))
        assert fence_name(place) != fence_name(other)
        load = writers(count=8)
        consumer.wait_heard("first", more=100)
        theirs.signal(signal.SIGSTOP)
        second = wait_standby(relay(daemons, "second", term=LONG))
        first.kill()
        consumer.wait_heard("second", more=100)
        load.stop()
        ledger.check(place, consumer, repeated_most=WINDOW)
        consumer.check_turns("first", "second")
        theirs.signal(signal.SIGCONT)
        assert second.metric("sagapost_outbox_silent_owners_ended_total") == 0
        wait_owner(theirs)  # it lost nothing to them
    finally:
        other.close()


def test_what_is_set_aside_goes_on_with_the_next_owner(place, daemons, consumer, writers):
    """The lane of outbox.parked has its own connection, and its own fence behind the log's."""
    patient = ("--retry-base", "20ms", "--retry-cap", "50ms", "--unroutable-grace", "10min")
    first = wait_owner(relay(daemons, "first", *patient))
    second = wait_standby(relay(daemons, "second", *patient))
    load = writers(count=8)
    connection = psycopg2.connect(place.conninfo)
    connection.autocommit = True
    cursor = connection.cursor()
    for number in range(1, 21):
        cursor.execute("select outbox.publish('nowhere', jsonb_build_object('key', 'aside', 'number', %s::int), key => 'aside')", (number,))
    connection.close()
    wait_until(lambda: (first.metric("sagapost_outbox_returned_total") or 0) > 5, 60, "it is tried again and again")
    first.signal(signal.SIGSTOP)
    wait_owner(second)
    wait_until(lambda: (second.metric("sagapost_outbox_returned_total") or 0) > 5, 60, "the next owner tries it")
    aside = Listener(place)
    aside.queue = "nowhere"
    aside.start()
    first.signal(signal.SIGCONT)
    first.wait_log("standing by")
    wait_until(lambda: place.value("select count(*) from outbox.parked") == 0, 60, "nothing is set aside any more")
    load.stop()
    aside.stop()
    ledger.check(place, consumer, repeated_most=WINDOW)
    consumer.check_turns("first", "second")
    aside.check_turns("second")
    assert len(aside.seen) == 20 and not aside.repeated
