"""The relay and a RabbitMQ cluster of three nodes that lose each other. The queue `ledger` is a quorum queue with a member on each and
its leader on the first. Each test ends with the ledger."""

import json

import pytest

from harness import ledger
from harness.cluster import Cluster
from harness.ledger import WINDOW, relay
from harness.queue import PATIENT, Queue, publish
from harness.wait import wait_until

pytestmark = pytest.mark.long  # three nodes take a quarter of a minute to start, and each that comes back some seconds


@pytest.fixture(scope="module", name="cluster")
def fixture_cluster(sandbox):
    servers = Cluster(sandbox)
    yield servers
    servers.stop()


@pytest.fixture(autouse=True, name="vhost")
def fixture_vhost(cluster, place, request):
    """The test's virtual host is one of the cluster's. Parameter: the order in which the test itself, its consumer above all, tries the nodes."""
    cluster.whole()
    name = cluster.vhost()
    place.amqp_uri = cluster.uris(name, 0)
    place.channel().queue_declare("ledger", durable=True, arguments={"x-queue-type": "quorum", "x-delivery-limit": 1000000})
    place.amqp_uri = cluster.uris(name, *getattr(request, "param", (0, 1, 2)))
    yield name
    for closer in place.closers:  # before a node of theirs is killed by the next test
        try:
            closer.close()
        except Exception:  # pylint: disable=broad-except  # that node is gone
            pass


def relay_at(daemons, cluster, vhost, *order):
    """A relay that tries the nodes in this order, and soon again what was refused."""
    return relay(daemons, *PATIENT, environment={"SAGAPOST_AMQP": cluster.uris(vhost, *order)})


@pytest.fixture(name="wait_arrived")
def fixture_wait_arrived(cluster, vhost, consumer):
    def wait_arrived(more, limit_s=90):
        wanted = len(consumer.seen) + more
        wait_until(lambda: len(consumer.seen) >= wanted, limit_s, lambda: f"{wanted} arrived, {len(consumer.seen)} so far\n{cluster.queues(vhost)}")

    return wait_arrived


# The consumer is elsewhere: what a consumer had not acknowledged when its node died may come after what another got meanwhile.
@pytest.mark.parametrize("vhost", [(2, 1, 0)], ids=["consumer-on-a-follower"], indirect=True)
@pytest.mark.parametrize("order", [(0, 1, 2), (1, 2, 0)], ids=["relay-on-the-leader", "relay-on-a-follower"])
def test_the_leader_is_killed(cluster, vhost, daemons, place, consumer, writers, wait_arrived, order):
    daemon = relay_at(daemons, cluster, vhost, *order).wait_ready()
    load = writers(count=8, limit=10**6)
    load.wait_written(500)
    assert cluster.leader(vhost, "ledger") == 0
    cluster.kill(0)
    daemon.wait_ready(60)
    load.wait_written(load.written + 500)
    # A relay that was on that node is at another before a new leader is chosen. What RabbitMQ 3.10 then refuses on a channel that came too
    # early waits in outbox.parked, until the relay replaces the channel (outbox/relay/publishing/stale.h): not until that node is back.
    wait_arrived(500)
    wait_until(lambda: cluster.leader(vhost, "ledger", at=1) in (1, 2), 60, "another node leads", every_s=0.5)
    cluster.whole()
    wait_arrived(200)
    load.stop()
    wait_until(lambda: place.value("select count(*) from outbox.parked") == 0, 120, "what was refused has gone, too", every_s=0.5)
    # On the leader's node the relay lost its connection with what was in flight; on another it is RabbitMQ that sends it on once more.
    ledger.check(place, consumer, repeated_most=WINDOW, limit_s=120)
    assert daemon.alive()


def test_a_follower_is_stopped_and_comes_back(cluster, vhost, daemons, place, consumer, writers, wait_arrived):
    relay_at(daemons, cluster, vhost, 0, 1, 2).wait_ready()
    load = writers(count=8, limit=10**6)
    load.wait_written(500)
    cluster.stop_node(2)
    wait_arrived(500)
    cluster.whole()
    wait_arrived(200)
    load.stop()
    ledger.check(place, consumer, repeated_most=0)


def test_two_of_three_are_down(cluster, vhost, daemons, place, consumer, writers, wait_arrived):
    """Without a majority nothing is confirmed for a quorum queue; what goes elsewhere goes on."""
    side = Queue(place, "side")
    daemon = relay_at(daemons, cluster, vhost, 0, 1, 2).wait_ready()
    load = writers(count=8, limit=10**6)
    load.wait_written(500)
    cluster.go_on_without_majority(0)
    cluster.kill(1, 2)
    load.wait_written(load.written + 300)
    arrived = len(consumer.seen)
    publish(place, "side", *range(20))
    assert [json.loads(body)["n"] for _, body in side.take(20, limit_s=90)] == list(range(20))
    assert len(consumer.seen) < load.written
    assert len(consumer.seen) - arrived <= WINDOW
    cluster.whole()
    wait_arrived(300)
    load.stop()
    losses = daemon.metric("sagapost_outbox_connection_losses_total", server="rabbitmq")
    ledger.check(place, consumer, repeated_most=(losses + 1) * WINDOW, limit_s=120)


@pytest.mark.parametrize("how", ["kill", "cut_off"])
def test_the_relays_node_is_gone_and_it_goes_to_another(cluster, vhost, daemons, place, consumer, writers, wait_arrived, how):
    """Its fence, an exclusive queue, was on that node, too."""
    daemon = relay_at(daemons, cluster, vhost, 2, 1, 0).wait_ready()
    load = writers(count=8, limit=10**6)
    load.wait_written(500)
    getattr(cluster, how)(2)
    wait_arrived(500)
    daemon.wait_ready(60)
    cluster.whole()
    wait_arrived(200)
    load.stop()
    ledger.check(place, consumer, repeated_most=WINDOW)
    assert daemon.alive()


@pytest.mark.parametrize("how", ["kill", "cut_off"])
def test_another_relay_takes_over_from_one_that_knows_only_the_node_that_is_gone(
    cluster, vhost, daemons, place, consumer, writers, wait_arrived, how
):
    first = relay_at(daemons, cluster, vhost, 2).wait_ready()
    first.wait_metric("sagapost_outbox_role", 1, role="owner")
    second = relay_at(daemons, cluster, vhost, 0, 1).wait_ready()
    load = writers(count=8, limit=10**6)
    load.wait_written(500)
    getattr(cluster, how)(2)
    wait_arrived(500)
    second.wait_metric("sagapost_outbox_role", 1, role="owner")
    cluster.whole()
    first.wait_ready(60)
    wait_arrived(200)
    load.stop()
    ledger.check(place, consumer, repeated_most=WINDOW)
    assert second.metric("sagapost_outbox_published_total") > 0
