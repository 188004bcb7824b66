"""What becomes of a message that the broker does not just confirm: each row of the table of outcomes, with a real broker."""

import json
import pathlib
import re
import time

import pytest

from harness.closer import Closer
from harness.queue import PATIENT, Queue, parked, publish, wait_parked, wait_settled
from harness.sandbox import PROGRAMS
from harness.wait import patient, wait_until

# AddressSanitizer keeps what was freed, up to 256 MB: it says nothing about how much memory is needed.
SANITIZED = b"__asan_init" in PROGRAMS["outbox-relay"].read_bytes()
MANY = 2000  # as many as the window


def fill(place, type_name, count, first=1, keys=None, padding=0, exchange=None, routing_key=None):
    """`count` messages in one transaction, n from `first` on; keys: spread over that many."""
    place.sql(
        "insert into outbox.message (type, key, exchange, routing_key, payload)"
        " select %s, case when %s is not null then 'k' || n %% %s end, %s, %s, json_build_object('n', n, 'x', repeat('x', %s))"
        " from generate_series(%s, %s) n",
        (type_name, keys, keys, exchange, routing_key, padding, first, first + count - 1),
    )


def fill_around(place, type_name, count, *between):
    """The same in one transaction, with a message in the middle that `between` (SQL, parameters) writes."""
    connection = place.connect(autocommit=False)
    cursor = connection.cursor()
    insert = "insert into outbox.message (type, payload) select %s, json_build_object('n', n) from generate_series(%s, %s) n"
    cursor.execute(insert, (type_name, 1, count // 2))
    cursor.execute(*between)
    cursor.execute(insert, (type_name, count // 2 + 1, count))
    connection.commit()


def arrived(queue, count):
    """The numbers of all messages in it, once `count` different ones have come; repeats left out."""
    seen, end = {}, time.monotonic() + patient(60)
    queue.channel.basic_qos(prefetch_count=1000)
    for method, _, body in queue.channel.consume(queue.name, inactivity_timeout=0.2):
        if method is not None:
            queue.channel.basic_ack(method.delivery_tag)
            seen.setdefault(json.loads(body)["n"])
        elif len(seen) >= count:
            break
        assert time.monotonic() < end, f"{count} messages in {queue.name}, {len(seen)} so far"
    queue.channel.cancel()
    return list(seen)


def vhost(place):
    return place.amqp_uri.rsplit("/", 1)[1]


def evaluate(place, expression):
    return place.sandbox.rabbitmqctl("eval", expression)


def permit(place, write):
    """What the relay's user may write to: a regular expression."""
    place.sandbox.rabbitmqctl("set_permissions", "-p", vhost(place), "guest", ".*", write, ".*")


def permit_topics(place, exchange, write):
    place.sandbox.rabbitmqctl("set_topic_permissions", "-p", vhost(place), "guest", exchange, write, ".*")


class Suspended:
    """A queue whose process does nothing until the end of the block: it confirms nothing, as one without a majority."""

    def __init__(self, place, name):
        self.place, self.name = place, name

    def _do(self, what):
        evaluate(
            self.place,
            f'{{ok, Q}} = rabbit_amqqueue:lookup(rabbit_misc:r(<<"{vhost(self.place)}">>, queue, <<"{self.name}">>)), sys:{what}(amqqueue:get_pid(Q)).',
        )

    def __enter__(self):
        self._do("suspend")
        return self

    def __exit__(self, *_):
        self._do("resume")


class Slow:
    """A classic queue whose process takes its time for everything that it is told, until the end of the block: it confirms, but slowly."""

    def __init__(self, place, name, milliseconds):
        self.place, self.name, self.milliseconds = place, name, milliseconds

    def _do(self, what):
        evaluate(
            self.place,
            f'{{ok, Q}} = rabbit_amqqueue:lookup(rabbit_misc:r(<<"{vhost(self.place)}">>, queue, <<"{self.name}">>)), Pid = amqqueue:get_pid(Q), {what}.',
        )

    def __enter__(self):
        self._do(f"sys:install(Pid, {{slow, fun(S, {{in, _}}, _) -> timer:sleep({self.milliseconds}), S; (S, _, _) -> S end, nothing}})")
        return self

    def __exit__(self, *_):
        self._do("sys:remove(Pid, slow)")


class LeaderUnknown:
    """A quorum queue whose record names, until the end of the block, a leader on a node that is not there: as the record does for a while
    after that node has died. RabbitMQ 3.10 refuses whatever comes on a channel that first publishes to the queue meanwhile, for as long as
    the channel lives. (The queue's leader repairs the record with every tick: its next one is far away.)"""

    def __init__(self, place, name):
        self.place, self.name = place, name
        evaluate(place, "application:set_env(rabbit, quorum_tick_interval, 3600000).")
        self.queue = Queue(place, name, arguments={"x-queue-type": "quorum"})
        evaluate(place, "application:unset_env(rabbit, quorum_tick_interval).")

    def _set(self, node):
        evaluate(
            self.place,
            f'Name = rabbit_misc:r(<<"{vhost(self.place)}">>, queue, <<"{self.name}">>),'
            f" Led = fun(Q) -> {{Server, _}} = amqqueue:get_pid(Q), amqqueue:set_pid(Q, {{Server, {node}}}) end,"
            " case code:ensure_loaded(rabbit_db_queue) of {module, Newer} -> Newer:update(Name, Led);"
            " _ -> rabbit_misc:execute_mnesia_transaction(fun() -> rabbit_amqqueue:update(Name, Led) end) end.",
        )

    def __enter__(self):
        self._set("'nobody@localhost'")
        return self

    def __exit__(self, *_):
        self._set("node()")


def losses(daemon):
    return daemon.metric("sagapost_outbox_connection_losses_total", server="rabbitmq")


def anonymous_bytes(daemon):
    status = pathlib.Path(f"/proc/{daemon.process.pid}/status").read_text()
    return int(re.search(r"RssAnon:\s+(\d+) kB", status)[1]) * 1024


# The channel is closed ---------------------------------------------------------------------------------------------------------


def limit_bodies(place, size):
    """The second is where RabbitMQ 4 looks."""
    evaluate(place, f"application:set_env(rabbit, max_message_size, {size}), persistent_term:put(max_message_size, {size}).")


@pytest.fixture
def small_bodies(place):
    """A broker that takes bodies up to 1,000 bytes, on channels that are opened now."""
    limit_bodies(place, 1000)
    yield
    limit_bodies(place, 134217728)


def test_a_body_above_the_brokers_limit(place, daemons, small_bodies):
    queue = Queue(place, "order")
    fill(place, "order", 500)
    fill(place, "order", 3, first=9001, padding=2000)
    fill(place, "order", 500, first=501)
    daemon = daemons("outbox-relay", *PATIENT).wait_ready()
    assert sorted(arrived(queue, 1000)) == list(range(1, 1001))
    wait_parked(place, {n: ("parked", "too_large") for n in (9001, 9002, 9003)})
    details = [row[0] for row in place.sql("select distinct detail from outbox.parked")]
    assert len(details) == 1 and re.search(r"the body has 20\d\d bytes, RabbitMQ takes at most 1000", details[0]), details
    # It is known by now: the next does not cost a channel.
    lost = losses(daemon)
    fill(place, "order", 1, first=9004, padding=2000)
    fill(place, "order", 1, first=1001)
    assert arrived(queue, 1) == [1001]
    wait_until(lambda: parked(place).get(9004) == ("parked", "too_large"), 30, lambda: f"{parked(place)}")
    assert losses(daemon) == lost == 1


def test_a_limit_on_bodies_that_was_raised(place, daemons, small_bodies):
    queue = Queue(place, "order")
    fill(place, "order", 2, first=9001, padding=2000)
    daemon = daemons("outbox-relay", *PATIENT).wait_ready()
    wait_parked(place, {n: ("parked", "too_large") for n in (9001, 9002)})
    limit_bodies(place, 134217728)
    place.sql("select outbox.requeue(message_id) from outbox.parked")
    assert sorted(arrived(queue, 2)) == [9001, 9002]
    wait_parked(place, {})
    assert daemon.alive()


def test_no_right_to_write(place, daemons):
    queue = Queue(place, "order")
    Queue(place, "secrets", exchange="locked")
    permit(place, "^(amq\\.default)$")
    fill_around(place, "order", MANY, "select outbox.publish('order', '{\"n\": 9001}', key => 'a', exchange => 'locked')")
    daemon = daemons("outbox-relay", *PATIENT).wait_ready()
    assert sorted(arrived(queue, MANY)) == list(range(1, MANY + 1))
    wait_parked(place, {9001: ("waiting", "refused")})
    assert "access to exchange 'locked'" in place.value("select detail from outbox.parked")
    assert daemon.log().count("takes no messages") == 1
    permit(place, ".*")
    assert arrived(Queue(place, "secrets"), 1) == [9001]
    wait_parked(place, {})
    daemon.wait_log("the exchange takes messages again")


def test_no_right_to_a_topic(place, daemons):
    queue = Queue(place, "events", exchange="events")
    permit_topics(place, "events", "^good$")
    daemons("outbox-relay", *PATIENT, "--unroutable-grace", "300ms").wait_ready()
    publish(place, "bad", 1, 2, exchange="events")
    publish(place, "good", 3, 4, exchange="events")
    assert sorted(arrived(queue, 2)) == [3, 4]
    wait_parked(place, {1: ("parked", "refused"), 2: ("parked", "refused")})


def test_a_missing_exchange_among_many(place, daemons):
    queue = Queue(place, "order")
    fill_around(place, "order", MANY, "select outbox.publish('order', '{\"n\": 9001}', exchange => 'nowhere')")
    daemon = daemons("outbox-relay", *PATIENT, "--unroutable-grace", "500ms").wait_ready()
    assert sorted(arrived(queue, MANY)) == list(range(1, MANY + 1))
    wait_parked(place, {9001: ("parked", "no_exchange")})
    assert "one at a time" not in daemon.log()


def test_attempts_at_a_missing_exchange_repeat_nobody_elses(place, daemons):
    """What is tried again with a message that closes the channel is not sent with it."""
    full = Queue(place, "full", arguments={"x-queue-type": "quorum", "x-max-length": 1, "x-overflow": "reject-publish"})
    daemon = daemons("outbox-relay", *PATIENT, "--unroutable-grace", "1min").wait_ready()
    publish(place, "full", *range(1, 41))
    publish(place, "order", *range(9001, 9011), exchange="nowhere")
    wait_until(lambda: (losses(daemon) or 0) >= 4, 30, lambda: f"attempts are made\n{daemon.log()}")
    seen = full.numbers(40)
    wait_until(lambda: {n for n in parked(place)} == set(range(9001, 9011)), 30, lambda: f"{parked(place)}")
    assert sorted(seen) == list(range(1, 41)) and full.is_empty()


@pytest.mark.parametrize("keys", [None, 200])
def test_a_message_that_closes_the_channel_among_many(place, daemons, keys):
    """Which one it was the broker does not say: it is found by sending them one at a time."""
    queue = Queue(place, "order")
    fill(place, "order", MANY // 2, keys=keys)
    # What no INSERT lets in: a header that RabbitMQ refuses without naming the message.
    place.sql(
        "set session_replication_role = replica; insert into outbox.message (type, key, headers, payload)"
        " values ('order', 'k7', '{\"CC\": \"text\"}', '{\"n\": 9001}')"
    )
    fill(place, "order", MANY // 2, first=MANY // 2 + 1, keys=keys)
    daemon = daemons("outbox-relay", *PATIENT).wait_ready()
    behind = {n for n in range(MANY // 2 + 1, MANY + 1) if keys and n % keys == 7}
    numbers = arrived(queue, MANY - len(behind))
    assert sorted(numbers) == [n for n in range(1, MANY + 1) if n not in behind]
    wait_parked(place, {9001: ("parked", "uncarriable"), **{n: ("behind", "behind") for n in behind}})
    assert "unacceptable_type_in_header" in place.value("select detail from outbox.parked where state = 'parked'")
    daemon.wait_log("one at a time")
    assert losses(daemon) == 2  # the discovery, and the culprit alone


def test_a_message_that_closes_the_connection_among_many(place, sandbox, daemons):
    queue = Queue(place, "order")
    with Closer(sandbox.amqp_port, b"poison") as closer:
        place.amqp_uri = place.amqp_uri.replace(f":{sandbox.amqp_port}/", f":{closer.port}/")
        fill_around(place, "order", 300, "select outbox.publish('order', '{\"n\": 9001, \"what\": \"poison\"}')")
        daemon = daemons("outbox-relay", *PATIENT, "--backoff-base", "20ms", "--backoff-cap", "100ms").wait_ready()
        assert sorted(arrived(queue, 300)) == list(range(1, 301))
        wait_parked(place, {9001: ("parked", "uncarriable")})
        assert "541 INTERNAL_ERROR" in place.value("select detail from outbox.parked")
        assert 2 <= closer.closed <= 10
        publish(place, "order", 301)
        assert arrived(queue, 1) == [301]
        assert daemon.alive()


# A channel refuses for ever ----------------------------------------------------------------------------------------------------


def test_a_channel_that_knows_no_leader_is_replaced(place, daemons):
    """Both lanes have it: what is refused is tried again on a connection of its own, which first publishes to the queue meanwhile, too."""
    if not place.sandbox.rabbitmqctl("version").startswith("3."):
        pytest.skip("RabbitMQ 4 asks the queue's members for the leader: it does not refuse")
    stale = LeaderUnknown(place, "stale")
    other = Queue(place, "other")
    daemon = daemons("outbox-relay", *PATIENT).wait_ready()
    publish(place, "other", 0)
    assert other.numbers(1) == [0]
    with stale:
        fill(place, "stale", 200, keys=5)
        wait_until(lambda: daemon.metric("sagapost_outbox_nacked_total") >= 20, 30, lambda: f"it refuses\n{daemon.log()}")
        assert place.value("select count(*) from outbox.parked") == 200
    fill(place, "other", 100)
    assert arrived(other, 100) == list(range(1, 101))
    numbers = arrived(stale.queue, 200)
    for key in range(5):
        assert [n for n in numbers if n % 5 == key] == [n for n in range(1, 201) if n % 5 == key], key
    wait_parked(place, {})
    publish(place, "stale", 201)
    assert stale.queue.numbers(1) == [201]
    assert daemon.metric("sagapost_outbox_unknown_total") == 0 and losses(daemon) == 0
    assert daemon.metric("sagapost_outbox_channels_replaced_total") >= 2
    assert daemon.metric("sagapost_outbox_confirmed_total") == 302


# Nothing is confirmed ----------------------------------------------------------------------------------------------------------


def test_a_silent_queue_stops_nobody_else(place, daemons):
    alive = Queue(place, "alive", arguments={"x-queue-type": "quorum"})
    dead = Queue(place, "dead", arguments={"x-queue-type": "quorum"})
    daemon = daemons("outbox-relay", *PATIENT, "--silent-after", "1s", "--window", 400).wait_ready()
    publish(place, "alive", 1)
    publish(place, "dead", 0)
    assert arrived(alive, 1) == [1]
    wait_settled(place, 2)
    with Suspended(place, "dead"):
        fill(place, "dead", 1000, first=1, keys=10)
        fill(place, "alive", 1000, first=2)
        fill(place, "dead", 1000, first=1001, keys=10)
        fill(place, "alive", 1000, first=1002)
        assert sorted(arrived(alive, 2000)) == list(range(2, 2002))
        daemon.wait_log("nothing is confirmed that goes there")
        # One of each key waits to be tried again, what follows of the key is behind it, and the log has gone on.
        wait_settled(place, place.value("select max(id) from outbox.message"))
        states = place.sql("select state, reason, count(*) from outbox.parked group by 1, 2 order by 1")
        assert sum(count for _, _, count in states) == 2000, states
        assert all(state in ("waiting", "behind") for state, _, _ in states), states
        assert all(reason == "unconfirmed" for state, reason, _ in states if state == "waiting"), states
        # New messages are not sent there at all.
        lost = losses(daemon)
        fill(place, "dead", 100, first=2001, keys=10)
        fill(place, "alive", 100, first=2002)
        assert sorted(arrived(alive, 100)) == list(range(2002, 2102))
        assert lost >= 1 and daemon.log().count("a destination confirms nothing\"") >= 1
        assert sum("lane=log" in line and "confirms nothing" in line for line in daemon.log().splitlines()) == 1
    numbers = arrived(dead, 2101)
    for key in range(10):
        assert [n for n in numbers if n and n % 10 == key] == [n for n in range(1, 2101) if n % 10 == key], key
    wait_parked(place, {})
    daemon.wait_log("messages are confirmed there again")


def test_a_slow_queue_gets_a_quarter_of_the_window(place, daemons):
    """With a quarter of the window waiting for their confirms, what follows is set aside without being sent."""
    alive = Queue(place, "alive")
    slow = Queue(place, "slow")
    daemon = daemons("outbox-relay", *PATIENT, "--silent-after", "8s", "--window", 400).wait_ready()
    publish(place, "slow", 0)
    assert arrived(slow, 1) == [0]
    with Suspended(place, "slow"):
        fill(place, "slow", 100, first=1)
        wait_until(lambda: daemon.metric("sagapost_outbox_in_flight") == 100, 30, "a quarter is in flight")
        sent = []

        def some_is_set_aside():
            sent.append(len(sent) + 101)
            publish(place, "slow", sent[-1])
            publish(place, "alive", sent[-1])
            alive.numbers(1)
            return "it was not sent" in daemon.log()

        wait_until(some_is_set_aside, 30, daemon.log)
        assert "is confirmed that goes there" not in daemon.log() and losses(daemon) == 0
        wait_until(lambda: daemon.metric("sagapost_outbox_in_flight") == 99 + len(sent), 30, "the last was not sent")
    assert sorted(arrived(slow, 100 + len(sent))) == [*range(1, 101), *sent]
    wait_parked(place, {})


def test_a_slow_queue_that_confirms_holds_up_nobody_for_long(place, daemons):
    """Every tenth message goes there, and the position cannot pass it: soon few of them are sent at a time, and the others are set aside."""
    alive = Queue(place, "alive")
    slow = Queue(place, "slow")
    daemon = daemons("outbox-relay", *PATIENT, "--silent-after", "1s", "--window", 400).wait_ready()
    publish(place, "slow", 0)
    publish(place, "alive", 0)
    assert slow.numbers(1) == [0] and alive.numbers(1) == [0]
    with Slow(place, "slow", 100):
        place.sql(
            "insert into outbox.message (type, key, payload)"
            " select case when n % 10 = 0 then 'slow' else 'alive' end, case when n % 20 = 0 then 'k' || n % 70 end, json_build_object('n', n)"
            " from generate_series(1, 6000) n"
        )
        assert len(arrived(alive, 5400)) == 5400
        done = daemon.metric("sagapost_outbox_confirmed_total") - 5402
        print(f"{done} of 600 went to the slow one meanwhile")
        assert done < 300, f"the others waited for {done} of 600"
        daemon.wait_log("less is sent there at a time")
    numbers = arrived(slow, 600)
    assert sorted(numbers) == list(range(10, 6001, 10))
    for key in range(0, 70, 10):
        assert [n for n in numbers if n % 20 == 0 and n % 70 == key] == [n for n in range(20, 6001, 20) if n % 70 == key], key
    wait_parked(place, {})
    assert losses(daemon) == 0 and daemon.metric("sagapost_outbox_unknown_total") == 0


def test_two_silent_queues_that_fill_the_window(place, daemons):
    """None of those in flight is confirmed, so none is known to be worse than another: after a second connection all are given up."""
    alive = Queue(place, "alive", arguments={"x-queue-type": "quorum"})
    dead = [Queue(place, name, arguments={"x-queue-type": "quorum"}) for name in ("dead1", "dead2")]
    daemon = daemons("outbox-relay", *PATIENT, "--silent-after", "300ms", "--confirm-timeout", "1s", "--window", 20).wait_ready()
    publish(place, "alive", 0)
    assert arrived(alive, 1) == [0]
    wait_settled(place, 1)
    with Suspended(place, "dead1"), Suspended(place, "dead2"):
        place.sql(
            "insert into outbox.message (type, payload) select case when n > 60 then 'alive' else 'dead' || n % 2 + 1 end, json_build_object('n', n)"
            " from generate_series(1, 100) n"
        )
        assert arrived(alive, 40) == list(range(61, 101))
        assert "no confirm within confirm-timeout" in daemon.log()
    assert sorted(arrived(dead[0], 30) + arrived(dead[1], 30)) == list(range(1, 61))
    wait_parked(place, {})


def test_a_silent_queue_with_nobody_else_is_waited_for(place, daemons):
    """Where nothing else has to go on, a broker that takes its time sets nothing aside."""
    queue = Queue(place, "order", arguments={"x-queue-type": "quorum"})
    daemon = daemons("outbox-relay", *PATIENT, "--silent-after", "100ms", "--confirm-timeout", "2s").wait_ready()
    publish(place, "order", 0)
    assert arrived(queue, 1) == [0]
    wait_settled(place, 1)
    with Suspended(place, "order"):
        fill(place, "order", 200, keys=10)
        daemon.wait_log("no confirm within confirm-timeout")
        assert parked(place) == {}
    numbers = arrived(queue, 200)
    for key in range(10):
        assert [n for n in numbers if n % 10 == key] == [n for n in range(1, 201) if n % 10 == key], key


def test_blocked_is_a_state(place, daemons):
    queue = Queue(place, "order")
    daemon = daemons("outbox-relay", *PATIENT, "--confirm-timeout", "500ms", "--silent-after", "100ms").wait_ready()
    publish(place, "order", 0)
    assert arrived(queue, 1) == [0]
    evaluate(place, "vm_memory_monitor:set_vm_memory_high_watermark(0.00001).")
    try:
        fill(place, "order", 500, keys=10)
        daemon.wait_log("RabbitMQ blocks publishers")
        wait_until(lambda: daemon.metric("sagapost_outbox_blocked") == 1, 30, "the metric says so")
        wait_until(lambda: daemon.metric("sagapost_outbox_blocked_seconds_total") > 2, 30, "time passes")
        assert daemon.http("/readyz")[0] != 200 and "blocks publishers" in daemon.http("/readyz")[1]
        published = daemon.metric("sagapost_outbox_published_total")
        fill(place, "order", 500, first=501, keys=10)
        wait_until(lambda: daemon.metric("sagapost_outbox_blocked_seconds_total") > 4, 30, "time passes")
        assert daemon.metric("sagapost_outbox_published_total") == published
        assert losses(daemon) == 0 and parked(place) == {}
        assert daemon.log().count("RabbitMQ blocks publishers") == 1
    finally:
        evaluate(place, "vm_memory_monitor:set_vm_memory_high_watermark(0.4).")
    numbers = arrived(queue, 1000)
    assert len(numbers) == 1000
    for key in range(10):
        assert [n for n in numbers if n % 10 == key] == [n for n in range(1, 1001) if n % 10 == key], key
    daemon.wait_ready()
    assert daemon.metric("sagapost_outbox_blocked") == 0 and losses(daemon) == 0
    assert daemon.log().count("RabbitMQ takes messages again") == 1


# Refused, tried again, held ----------------------------------------------------------------------------------------------------


def test_pauses_grow(place, daemons):
    place.sql(
        "create table noted (attempts integer, pause_ms float8);"
        " create function note() returns trigger language plpgsql as $$ begin"
        " insert into public.noted values (new.attempts, extract(epoch from new.next_attempt_at - clock_timestamp()) * 1000); return null; end $$;"
        " create trigger note after insert or update on outbox.parked for each row execute function note()"
    )
    daemons("outbox-relay", "--retry-base", "100ms", "--retry-cap", "10min", "--unroutable-grace", "10min").wait_ready()
    publish(place, "nobody", 1)
    wait_until(lambda: place.value("select coalesce(max(attempts), 0) from noted") >= 6, 30, lambda: f"{place.sql('select * from noted')}")
    pauses = dict(place.sql("select attempts, pause_ms from noted"))
    # From half of the step to all of it, and the step doubles: 3,200 ms at the sixth. Between the relay's word and the note some time may pass.
    assert pauses[6] > 1000 and all(pause <= 100 * 2 ** (attempts - 1) + 1 for attempts, pause in pauses.items()), pauses


def half_refused(place, daemons, count, *settings):
    """A queue of five messages that refuses the others, while it is emptied. Returns it, the numbers in their order, and the relay."""
    queue = Queue(place, "order", arguments={"x-max-length": 5, "x-overflow": "reject-publish"})
    fill(place, "order", count, keys=5)
    daemon = daemons("outbox-relay", *PATIENT, *settings)
    wait_until(lambda: (daemon.metric("sagapost_outbox_nacked_total") or 0) > 0, 30, daemon.log)
    return queue, arrived(queue, count), daemon


def late_ones(numbers, keys=5):
    """How many come after a later one of their key."""
    last, late = {}, 0
    for n in numbers:
        late += n < last.get(n % keys, 0)
        last[n % keys] = max(n, last.get(n % keys, 0))
    return late


def test_strict_order_on_a_queue_that_refuses(place, daemons):
    _, numbers, daemon = half_refused(place, daemons, 3000)
    assert sorted(numbers) == list(range(1, 3001))
    assert late_ones(numbers) == 0
    assert daemon.metric("sagapost_outbox_overtaken_total") == 0
    wait_parked(place, {})


def test_pipelined_says_what_it_lets_overtake(place, daemons):
    # Those in flight when the first is refused can overtake it: many, so that some are when the queue begins to be emptied. Where all were
    # refused by then, none did, and more follow. Nothing is given up as unconfirmed and sent again: it would count, and have arrived before.
    queue, numbers, daemon = half_refused(place, daemons, 8000, "--order", "pipelined", "--window", 8000, "--silent-after", "1min")
    late, first = late_ones(numbers), 1
    while late == 0 and first < 80000:
        first += 8000
        fill(place, "order", 8000, first=first, keys=5)
        numbers = arrived(queue, 8000)
        late = late_ones(numbers)
    assert sorted(numbers) == list(range(first, first + 8000))
    assert late > 0
    assert daemon.metric("sagapost_outbox_overtaken_total") == late
    wait_parked(place, {})


def test_a_held_key_with_many_later_messages(place, daemons):
    other = Queue(place, "other")
    daemon = daemons("outbox-relay", *PATIENT, "--unroutable-grace", "200ms", "--parked-rows", 50000).wait_ready()
    publish(place, "order", 0, key="k0")
    wait_parked(place, {0: ("parked", "returned")})
    queue = Queue(place, "order", arguments={"x-queue-type": "quorum"})
    before = anonymous_bytes(daemon)
    fill(place, "order", 20000, keys=1, padding=1000)
    fill(place, "other", 1000)
    assert len(arrived(other, 1000)) == 1000  # others go on
    behind = "select count(*) from outbox.parked where state = 'behind'"
    wait_until(lambda: place.value(behind) == 20000, 60, lambda: f"{place.value(behind)} behind")
    place.sql("select outbox.requeue(message_id) from outbox.parked where state = 'parked'")
    assert queue.numbers(300) == list(range(300))
    if not SANITIZED:
        assert anonymous_bytes(daemon) < before + (32 << 20)


def test_later_messages_of_a_held_key_follow_in_order(place, daemons):
    queue = Queue(place, "order", arguments={"x-queue-type": "quorum"})
    daemons("outbox-relay", *PATIENT, "--unroutable-grace", "200ms", "--window", 40).wait_ready()
    publish(place, "nobody", 0, key="k0")
    wait_parked(place, {0: ("parked", "returned")})
    fill(place, "order", 100, keys=1)
    wait_until(lambda: len(parked(place)) == 101, 30, lambda: f"{len(parked(place))} parked")
    place.sql("select outbox.discard(message_id) from outbox.parked where state = 'parked'")
    for n in range(101, 151):  # while the key is worked off
        publish(place, "order", n, key="k0")
    assert arrived(queue, 150) == list(range(1, 151))
    wait_parked(place, {})


def test_other_keys_go_on_while_some_are_bad(place, daemons):
    """One message in a hundred is bad, each in its own way; nothing else is lost, late or parked."""
    queue = Queue(place, "order", arguments={"x-queue-type": "quorum"})
    place.sql("insert into outbox.route (type, on_failure) values ('skipped', 'skip')")
    place.sql(
        "insert into outbox.message (type, key, exchange, payload)"
        " select case when n %% 300 = 0 then 'nobody' when n %% 300 = 100 then 'skipped' else 'order' end,"
        " case when n %% 100 = 0 then 'bad' || n else 'k' || n %% 37 end, case when n %% 300 = 200 then 'nowhere' end, json_build_object('n', n)"
        " from generate_series(1, 6000) n",
        (),
    )
    daemon = daemons("outbox-relay", *PATIENT, "--unroutable-grace", "500ms").wait_ready()
    good = [n for n in range(1, 6001) if n % 100]
    numbers = arrived(queue, len(good))
    assert sorted(numbers) == good and late_ones(numbers, 37) == 0
    wait_until(lambda: len(parked(place)) == 60 and all(state == "parked" for state, _ in parked(place).values()), 30, lambda: f"{parked(place)}")
    assert {reason for _, reason in parked(place).values()} == {"returned", "no_exchange"}
    wait_until(lambda: daemon.metric("sagapost_outbox_parked", state="parked") == 60, 30, "the metric says so")
