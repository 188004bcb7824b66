"""The relay by itself: what arrives and how it looks, what is set aside and comes back, how it wakes up, cleans up and stops."""

import json
import uuid

import pika
import pytest

from harness.queue import PATIENT, Queue, parked, publish, wait_parked, wait_settled
from harness.wait import wait_until


# What arrives ------------------------------------------------------------------------------------------------------------------


def test_a_message_arrives_as_it_was_written(place, daemons):
    queue = Queue(place, "order.paid")
    daemons("outbox-relay", "--app-id", "shop", "--cloudevents-source", "/shop").wait_ready()
    message_id = place.value(
        "select outbox.publish('order.paid', '{\"total\": 19.90}', key => 'K1', correlation_id => 'C1', reply_to => 'answers',"
        " headers => '{\"text\": \"gr\\u00fc\\u00df \\\"you\\\"\", \"whole\": -3, \"part\": 1.5, \"yes\": true, \"none\": null, \"traceparent\": \"00-ab\"}')::text"
    )
    [(properties, body)] = queue.take(1)
    assert json.loads(body) == {"total": 19.90} and b"19.90" in body
    assert properties.message_id == message_id
    assert properties.type == "order.paid"
    assert properties.content_type == "application/json"
    assert properties.delivery_mode == 2
    assert properties.app_id == "shop"
    assert properties.correlation_id == "C1"
    assert properties.reply_to == "answers"
    headers = properties.headers
    assert headers["text"] == 'grüß "you"' and headers["whole"] == -3
    assert int(headers["part"]) == 1  # pika makes a whole number of a double
    assert headers["yes"] is True and headers["none"] is None and headers["traceparent"] == "00-ab"
    assert headers["cloudEvents_id"] == message_id and headers["cloudEvents_type"] == "order.paid"
    assert headers["cloudEvents_subject"] == "K1" and headers["cloudEvents_source"] == "/shop"
    created = place.value("select to_char(created_at at time zone 'utc', 'YYYY-MM-DD\"T\"HH24:MI:SS.US\"Z\"') from outbox.message")
    assert headers["cloudEvents_time"] == created


def test_bytes_arrive_as_they_are(place, daemons):
    queue = Queue(place, "picture")
    daemons("outbox-relay", "--cloudevents=off", "--app-id", "").wait_ready()
    payload = bytes(range(256)) * 40
    place.sql("select outbox.publish_bytes('picture', %s, 'image/x-test')", (payload,))
    place.sql("select outbox.publish_bytes('picture', '')")
    (first, body), (second, empty) = queue.take(2)
    assert body == payload and first.content_type == "image/x-test"
    assert empty == b"" and second.content_type == "application/octet-stream"
    assert not first.headers and first.app_id is None


def test_what_rolls_back_never_arrives(place, daemons):
    queue = Queue(place, "order")
    daemons("outbox-relay").wait_ready()
    connection = place.connect(autocommit=False)
    cursor = connection.cursor()
    cursor.execute("select outbox.publish('order', '{\"n\": 1}')")
    connection.rollback()
    cursor.execute("select outbox.publish('order', '{\"n\": 2}')")
    cursor.execute("savepoint s")
    cursor.execute("select outbox.publish('order', '{\"n\": 3}')")
    cursor.execute("rollback to s")
    connection.commit()
    publish(place, "order", 4)
    assert queue.numbers(2) == [2, 4]
    assert queue.is_empty()


def test_routes(place, daemons):
    by_row = Queue(place, "by_row", exchange="rows", binding="row.key")
    by_type = Queue(place, "by_type", exchange="types", binding="type.key")
    by_default = Queue(place, "by_default", exchange="defaults", binding="plain")
    place.sql("insert into outbox.route (type, exchange, routing_key) values ('typed', 'types', 'type.key')")
    daemons("outbox-relay", "--default-exchange", "defaults", "--fallback-interval", "100ms").wait_ready()
    publish(place, "plain", 1)
    publish(place, "typed", 2)
    publish(place, "typed", 3, exchange="rows", routing_key="row.key")
    assert by_default.numbers(1) == [1] and by_type.numbers(1) == [2] and by_row.numbers(1) == [3]
    place.sql("insert into outbox.route (type, exchange, routing_key) values ('later', 'types', 'type.key')")
    # A route that is new is taken up by and by; a message that came before that has no queue.
    wait_until(lambda: publish(place, "later", 4) and not by_type.is_empty(), 30, "the new route is taken")


def test_large_rows_through_a_small_memory(place, daemons):
    queue = Queue(place, "large")
    place.sql("insert into outbox.message (type, key, payload) select 'large', 'k' || n % 3, json_build_object('n', n, 'x', repeat('x', 300000)) from generate_series(1, 20) n")
    daemons("outbox-relay", "--read-ahead-bytes", "64kB", "--read-ahead-rows", 16, "--window", 2).wait_ready()
    assert sorted(queue.numbers(20)) == list(range(1, 21))


def test_large_rows_are_looked_at_a_few_times_each(place, daemons):
    """What a statement leaves for the next one because of its bytes was looked at too, and a large payload comes from its TOAST table each time."""
    queue = Queue(place, "large")
    place.sql(
        "insert into outbox.message (type, key, payload) select 'large', 'k' || n, json_build_object('n', n, 'x', (select string_agg(md5((n * 1000 + i)::text), '')"
        " from generate_series(1, 256) i)) from generate_series(1, 300) n"
    )
    relay = daemons("outbox-relay", "--read-ahead-bytes", "256kB")
    assert sorted(queue.numbers(300)) == list(range(1, 301))
    assert relay.terminate() == 0  # PostgreSQL counts what a connection did when it ends, at the latest
    looks = "select sum(idx_scan) from pg_stat_all_tables where relid in (select reltoastrelid from pg_class join outbox.leaf on relation = pg_class.oid)"
    wait_until(lambda: place.value(looks) >= 300, 30, "the looks are counted")
    assert place.value(looks) <= 300 * 6  # 300 of them the INSERT's


def test_large_rows_set_aside_are_looked_at_a_few_times_each(place, daemons):
    """The same for outbox.parked, where what waits behind what is due was looked at too."""
    queue = Queue(place, "large")
    place.sql("alter table outbox.parked alter column payload set storage external")
    place.sql(
        """insert into outbox.parked (id, message_id, share, key_hash, holds, created_at, type, key, exchange, routing_key, headers, payload, mandatory, state, reason,
                                      next_attempt_at)
           select n, gen_random_uuid(), 0, n % 30 + 1, true, now(), 'large', 'k' || n % 30, '', 'large', '{}', json_build_object('n', n, 'x', repeat('x', 100000)), true,
                  case when n <= 30 then 'waiting' else 'behind' end, 'nacked', case when n <= 30 then now() end
             from generate_series(1, 300) as n"""
    )
    relay = daemons("outbox-relay")
    numbers = queue.numbers(300)
    for key in range(30):
        assert [n for n in numbers if n % 30 == key] == [n for n in range(1, 301) if n % 30 == key], key
    wait_parked(place, {})
    assert relay.terminate() == 0
    looks = "select idx_scan from pg_stat_all_tables where relid = (select reltoastrelid from pg_class where oid = 'outbox.parked'::regclass)"
    wait_until(lambda: place.value(looks) >= 600, 30, "the looks are counted")
    assert place.value(looks) <= 300 * 5  # 600 of them the INSERT's and the DELETEs'


def test_rows_of_transactions_that_overlap(place, daemons):
    """Late rows (of transactions older than the window) and fresh ones, in one window and over several, each in its order."""
    queue = Queue(place, "order")
    connections = [place.connect(autocommit=False) for _ in range(6)]
    daemons("outbox-relay", "--wakeup", "poll", "--poll-interval", "5ms").wait_ready()
    sent = 0
    for turn in range(30):
        for which, connection in enumerate(connections):
            connection.cursor().execute(
                "select outbox.publish('order', jsonb_build_object('n', %s::int), key => %s)", (turn, f"k{which}")
            )
            if turn % (which + 1) == 0:
                connection.commit()
            sent += 1
    for connection in connections:
        connection.commit()
    last = {}
    for properties, body in queue.take(sent):
        key, number = properties.headers["cloudEvents_subject"], json.loads(body)["n"]
        assert number == last.get(key, -1) + 1, (key, number, last)
        last[key] = number
    assert queue.is_empty()


def test_commits_that_do_not_wait_for_the_disk(place, daemons):
    queue = Queue(place, "order")
    daemons("outbox-relay").wait_ready()
    connection = place.connect()
    connection.cursor().execute("set synchronous_commit = off")
    for number in range(20):
        connection.cursor().execute("select outbox.publish('order', jsonb_build_object('n', %s::int))", (number,))
    assert sorted(queue.numbers(20)) == list(range(20))


# What is set aside -----------------------------------------------------------------------------------------------------------


def test_a_queue_that_comes_in_time(place, daemons):
    daemon = daemons("outbox-relay", *PATIENT, "--unroutable-grace", "1min").wait_ready()
    publish(place, "order", 1, 2, key="a")
    wait_until(lambda: parked(place).get(1) == ("waiting", "returned"), 30, lambda: f"{parked(place)}")
    publish(place, "order", 3, key="a")
    publish(place, "order", 4, key="b")
    wait_until(lambda: len(parked(place)) == 4, 30, lambda: f"{parked(place)}")
    queue = Queue(place, "order")
    arrived = queue.numbers(4)
    assert [n for n in arrived if n != 4] == [1, 2, 3]
    wait_parked(place, {})
    # The key is free again: what follows goes straight.
    publish(place, "order", 5, key="a")
    assert queue.numbers(1) == [5]
    assert parked(place) == {} and daemon.metric("sagapost_outbox_returned_total") > 0


def test_a_queue_that_does_not_come_and_requeue(place, daemons):
    other = Queue(place, "other")
    daemon = daemons("outbox-relay", *PATIENT, "--unroutable-grace", "300ms").wait_ready()
    first, second, third = publish(place, "order", 1, 2, 3, key="a")
    wait_parked(place, {1: ("parked", "returned"), 2: ("behind", "behind"), 3: ("behind", "behind")})
    publish(place, "other", 9, key="b")
    assert other.numbers(1) == [9]
    daemon.wait_log("a person must decide")
    with pytest.raises(Exception, match="waits behind"):
        place.sql("select outbox.requeue(%s)", (second,))
    queue = Queue(place, "order")
    place.sql("select outbox.requeue(%s, 'the queue is there now')", (first,))
    assert queue.numbers(3) == [1, 2, 3]
    wait_parked(place, {})
    assert place.sql("select verb, answer from outbox.intent") == [("requeue", "requeued")]
    assert third


def test_discard(place, daemons):
    daemons("outbox-relay", *PATIENT, "--unroutable-grace", "300ms").wait_ready()
    first, *_ = publish(place, "order", 1, 2, 3, key="a")
    wait_parked(place, {1: ("parked", "returned"), 2: ("behind", "behind"), 3: ("behind", "behind")})
    Queue(place, "order")
    queue = Queue(place, "order")
    place.sql("select outbox.discard(%s)", (first,))
    assert queue.numbers(2) == [2, 3]
    wait_parked(place, {})
    assert place.value("select answer from outbox.intent") == "discarded"


def test_skip_lets_later_messages_of_the_key_go(place, daemons):
    place.sql("insert into outbox.route (type, on_failure) values ('note', 'skip')")
    queue = Queue(place, "order")
    daemons("outbox-relay", *PATIENT, "--unroutable-grace", "300ms").wait_ready()
    publish(place, "note", 1, key="a")
    publish(place, "order", 2, key="a")
    assert queue.numbers(1) == [2]
    wait_parked(place, {1: ("parked", "returned")})


def test_not_mandatory_is_not_missed(place, daemons):
    queue = Queue(place, "order")
    daemons("outbox-relay").wait_ready()
    publish(place, "nobody", 1, key="a", mandatory=False)
    publish(place, "order", 2, key="a")
    assert queue.numbers(1) == [2] and parked(place) == {}


def test_a_missing_exchange_stops_nobody_else(place, daemons):
    queue = Queue(place, "order")
    daemon = daemons("outbox-relay", *PATIENT, "--unroutable-grace", "500ms").wait_ready()
    lost_id = publish(place, "order", 1, key="a", exchange="nowhere")[0]
    publish(place, "order", 2, 3, key="b")
    publish(place, "order", 4, key="a")
    assert queue.numbers(2) == [2, 3]
    wait_parked(place, {1: ("parked", "no_exchange"), 4: ("behind", "behind")})
    assert "no exchange 'nowhere'" in place.value("select detail from outbox.parked where state = 'parked'")
    # Once it is known to be missing, nothing is sent there but the attempts: the log's channel stays open.
    assert daemon.metric("sagapost_outbox_connection_losses_total", server="rabbitmq") >= 1
    opened = 'msg="connected to RabbitMQ" lane=log'
    channels = daemon.log().count(opened)
    publish(place, "order", *range(10, 30), exchange="nowhere")
    publish(place, "order", 5, key="b")
    assert queue.numbers(1) == [5]
    assert daemon.log().count(opened) == channels
    other = Queue(place, "elsewhere", exchange="nowhere")
    place.sql("select outbox.requeue(%s)", (lost_id,))
    assert queue.numbers(1) == [4]
    got = other.numbers(1)
    assert got == [1] or set(got) <= set(range(10, 30))
    wait_until(lambda: not any(state == "waiting" for state, _ in parked(place).values()), 30, lambda: f"{parked(place)}")


def test_a_full_queue(place, daemons):
    queue = Queue(place, "order", arguments={"x-queue-type": "quorum", "x-max-length": 5, "x-overflow": "reject-publish"})
    daemon = daemons("outbox-relay", *PATIENT).wait_ready()
    for number in range(1, 31):
        publish(place, "order", number, key=f"k{number % 3}")
    daemon.wait_metric("sagapost_outbox_nacked_total", lambda refused: refused > 0)
    arrived = queue.numbers(30)
    for key in range(3):
        assert [n for n in arrived if n % 3 == key] == [n for n in range(1, 31) if n % 3 == key]
    wait_parked(place, {})


def test_one_message_id_twice(place, daemons):
    daemons("outbox-relay", *PATIENT, "--unroutable-grace", "200ms").wait_ready()
    message_id = str(uuid.uuid4())
    publish(place, "order", 1, 2, message_id=message_id)
    wait_parked(place, {1: ("parked", "returned"), 2: ("parked", "returned")})
    queue = Queue(place, "order")
    place.sql("select outbox.requeue(%s)", (message_id,))
    assert sorted(queue.numbers(2)) == [1, 2]


def test_too_much_set_aside_stops_the_log_visibly(place, daemons):
    queue = Queue(place, "order")
    daemon = daemons("outbox-relay", *PATIENT, "--unroutable-grace", "100ms", "--parked-rows", 5).wait_ready()
    publish(place, "nobody", *range(1, 9))
    wait_until(lambda: daemon.metric("sagapost_outbox_stalled") == 1, 30, daemon.log)
    publish(place, "order", 99)
    daemon.wait_log("the log waits")
    assert queue.is_empty()
    place.sql("select outbox.discard(message_id) from outbox.parked")
    assert queue.numbers(1) == [99]


def test_what_is_set_aside_survives_a_kill(place, daemons):
    daemon = daemons("outbox-relay", *PATIENT, "--unroutable-grace", "1min").wait_ready()
    publish(place, "order", 1, 2, 3, key="a")
    wait_until(lambda: len(parked(place)) == 3, 30, lambda: f"{parked(place)}")
    daemon.kill()
    publish(place, "order", 4, key="a")
    queue = Queue(place, "order")
    daemons("outbox-relay", *PATIENT).wait_ready()
    assert queue.numbers(4) == [1, 2, 3, 4]
    wait_parked(place, {})


def test_a_head_that_a_crash_took_away(place, daemons):
    """Rows behind one that is gone, with nobody to promote them: the relay that takes over does."""
    daemon = daemons("outbox-relay", *PATIENT, "--unroutable-grace", "100ms").wait_ready()
    publish(place, "order", 1, 2, key="a")
    wait_parked(place, {1: ("parked", "returned"), 2: ("behind", "behind")})
    daemon.kill()
    place.sql("delete from outbox.parked where state = 'parked'")
    queue = Queue(place, "order")
    daemons("outbox-relay", *PATIENT).wait_ready()
    assert queue.numbers(1) == [2]


# Waking, cleaning up, stopping -----------------------------------------------------------------------------------------------


def wait_asleep(daemon):
    """Until it has slept at least once since its start."""
    daemon.wait_metric("sagapost_outbox_sleeps_total", lambda sleeps: sleeps >= 1)


def test_a_sleeping_relay_is_woken(place, daemons):
    queue = Queue(place, "order")
    daemon = daemons("outbox-relay", "--fallback-interval", "10min").wait_ready()
    for number in range(10):
        wait_asleep(daemon)
        publish(place, "order", number)
        assert queue.numbers(1) == [number]
    assert daemon.metric("sagapost_outbox_late_wakeups_total") == 0
    assert daemon.metric("sagapost_outbox_notifications_total") > 0


def test_a_writer_that_stays_open_keeps_nobody_from_being_heard(place, daemons):
    queue = Queue(place, "order")
    daemon = daemons("outbox-relay", "--fallback-interval", "10min").wait_ready()
    long = place.connect(autocommit=False)
    publish(place, "order", 0)
    assert queue.numbers(1) == [0]
    wait_asleep(daemon)
    publish(place, "order", 1)  # wakes it
    long.cursor().execute("select outbox.publish('order', '{\"n\": 1000}')")
    for number in range(2, 8):
        publish(place, "order", number)
    assert queue.numbers(7) == list(range(1, 8))
    waits = "select count(*) from pg_locks where locktype = 'advisory' and classid = 1397161985 and not granted and database = (select oid from pg_database where datname = current_database())"
    wait_until(lambda: place.value(waits) == 1 or daemon.metric("sagapost_outbox_sleeps_total") > 1, 30, daemon.log)
    publish(place, "order", 8)
    assert queue.numbers(1) == [8]
    long.commit()
    assert queue.numbers(1) == [1000]
    wait_until(lambda: place.value(waits) == 0, 30, "the lock's queue is empty")
    publish(place, "order", 9)
    assert queue.numbers(1) == [9]


def test_a_writer_that_tells_nobody_is_found_in_the_end(place, daemons):
    queue = Queue(place, "order")
    daemon = daemons("outbox-relay", "--fallback-interval", "300ms").wait_ready()
    wait_asleep(daemon)
    connection = place.connect(autocommit=False)
    connection.cursor().execute("set local sagapost.wakeup = 'off'")
    connection.cursor().execute("select outbox.publish('order', '{\"n\": 1}')")
    connection.commit()
    assert queue.numbers(1) == [1]


def test_polling(place, daemons):
    queue = Queue(place, "order")
    daemon = daemons("outbox-relay", "--wakeup", "poll", "--poll-interval", "20ms").wait_ready()
    publish(place, "order", 1, 2)
    assert queue.numbers(2) == [1, 2]
    assert daemon.metric("sagapost_outbox_sleeps_total") == 0


def test_published_leaves_are_emptied(place, daemons):
    queue = Queue(place, "order")
    place.sql("select outbox.configure(ring_slots => 4, ring_period => '1 second')")
    daemon = daemons("outbox-relay", "--truncate-interval", "200ms").wait_ready()
    publish(place, "order", *range(50))
    assert queue.numbers(50) == list(range(50))
    wait_until(lambda: place.value("select sum(bytes) from outbox.leaf") == 0, 30, lambda: f"{place.sql('select * from outbox.leaf')}")
    daemon.wait_metric("sagapost_outbox_leaves_truncated_total", lambda leaves: leaves > 0)
    publish(place, "order", 50)
    assert queue.numbers(1) == [50]


def test_an_idle_relay_writes_no_log(place, daemons):
    queue = Queue(place, "order")
    daemon = daemons("outbox-relay", "--fallback-interval", "100ms").wait_ready()
    publish(place, "order", 1)
    assert queue.numbers(1) == [1]
    wait_asleep(daemon)
    wait_settled(place, 1)

    def writes_nothing():
        """The write that was seen is counted a moment later; and an empty window may follow it."""
        positions = daemon.metric("sagapost_outbox_positions_total")
        polls = daemon.metric("sagapost_outbox_polls_total")
        daemon.wait_metric("sagapost_outbox_polls_total", lambda now: now > polls + 5)  # it looks now and then
        return daemon.metric("sagapost_outbox_positions_total") == positions

    wait_until(writes_nothing, 60, daemon.log)


def test_term_drains(place, daemons):
    queue = Queue(place, "order")
    place.sql("insert into outbox.message (type, key, payload) select 'order', 'k' || n % 100, json_build_object('n', n) from generate_series(1, 30000) n")
    first = daemons("outbox-relay", "--window", 500, "--drain-timeout", "1min").wait_ready()
    wait_until(lambda: not queue.is_empty(), 30, "it publishes")
    assert first.terminate(90) == 0, first.log()
    assert "drained" in first.log()
    settled = place.value("select last_id_ever from outbox.position")
    assert 0 < settled and queue.count() <= 30000
    daemons("outbox-relay").wait_ready()
    wait_settled(place, 30000)
    numbers = [json.loads(body)["n"] for body in queue.take_all()]
    assert sorted(numbers) == list(range(1, 30001))  # nothing lost, nothing twice


def test_term_again_and_again_repeats_nothing(place, daemons):
    """Every third row is of one key, and goes out one at a time: the others are confirmed far beyond its rows when the relay is stopped."""
    queue = Queue(place, "order")
    written = stopped = 0
    while stopped < 2:  # with rows left: a relay may be too quick for us
        assert written < 100000, "it is always too quick"
        place.sql(
            "insert into outbox.message (type, key, payload) select 'order', case when n %% 3 = 0 then 'hot' else 'k' || n end, json_build_object('n', n)"
            " from generate_series(%s + 1, %s + 9000) n",
            (written, written),
        )
        written += 9000
        daemon = daemons("outbox-relay", "--window", 500).wait_ready()
        count = queue.count()
        wait_until(lambda: queue.count() > count + 100, 30, "it publishes")  # noqa: B023
        assert daemon.terminate() == 0 and "drained" in daemon.log(), daemon.log()
        # What is in the queue is what the position covers.
        left = place.value("select rows from outbox.backlog")
        assert queue.count() == written - left
        stopped += left > 0
    daemons("outbox-relay").wait_ready()
    wait_settled(place, written)
    numbers = [json.loads(body)["n"] for body in queue.take_all()]
    assert sorted(numbers) == list(range(1, written + 1))  # nothing lost, nothing twice
    hot = [n for n in numbers if n % 3 == 0]
    assert hot == sorted(hot)


def test_a_standby_takes_over_at_once(place, daemons):
    queue = Queue(place, "order")
    first = daemons("outbox-relay").wait_ready()
    first.wait_metric("sagapost_outbox_role", 1, role="owner")
    second = daemons("outbox-relay").wait_ready()
    assert second.metric("sagapost_outbox_role", role="standby") == 1
    publish(place, "order", 1)
    assert queue.numbers(1) == [1]
    wait_settled(place, 1)
    epoch = place.value("select epoch from outbox.position")
    first.kill()
    publish(place, "order", 2)
    assert queue.numbers(1) == [2]
    assert place.value("select epoch from outbox.position") == epoch + 1
    second.wait_metric("sagapost_outbox_lease_epoch", epoch + 1)


def test_a_relay_whose_epoch_was_raised_gives_way(place, daemons):
    queue = Queue(place, "order")
    daemon = daemons("outbox-relay").wait_ready()
    publish(place, "order", 1)
    assert queue.numbers(1) == [1]
    wait_settled(place, 1)
    place.sql("update outbox.position set epoch = epoch + 10")
    publish(place, "order", 2)
    daemon.wait_log("another relay took it over")
    daemon.wait_ready()
    assert queue.numbers(1) == [2]
    wait_until(lambda: daemon.metric("sagapost_outbox_lease_epoch") == place.value("select epoch from outbox.position"), 30, daemon.log)


def test_a_position_row_that_moved_is_found_again(place, daemons):
    queue = Queue(place, "order")
    daemon = daemons("outbox-relay").wait_ready()
    publish(place, "order", 1)
    assert queue.numbers(1) == [1]
    wait_asleep(daemon)
    place.sql("update outbox.position set relay = relay")  # the same epoch, another place
    publish(place, "order", 2)
    assert queue.numbers(1) == [2]
    wait_settled(place, 2)
    assert daemon.alive() and "took it over" not in daemon.log()


def test_a_position_of_another_server_is_refused(place, daemons):
    place.sql("update outbox.position set system_identifier = 1")
    daemon = daemons("outbox-relay")
    assert daemon.wait_exit() == 2
    assert "sagapost outbox rebase" in daemon.log()


def test_a_sequence_that_was_set_back(place, daemons):
    queue = Queue(place, "order")
    daemon = daemons("outbox-relay").wait_ready()
    for number in range(10):
        publish(place, "order", number)
    assert queue.numbers(10) == list(range(10))
    wait_settled(place, 10)
    place.sql("select setval('outbox.message_id_seq', 1)")
    publish(place, "order", 10)
    assert queue.numbers(1) == [10]
    daemon.wait_log("without a bound")

    wait_settled(place, 2)
    assert daemon.terminate() == 0
    publish(place, "order", 11)
    publish(place, "order", 12)
    place.sql("select setval('outbox.message_id_seq', 1)")  # rows that are not read yet are above it
    daemons("outbox-relay").wait_ready()
    assert queue.numbers(2) == [11, 12]


@pytest.mark.parametrize(
    "arguments, names",
    [
        (["--publish-after", "replicated(a, )"], ["publish-after", "a name is empty"]),
        (["--window", "1"], ["window", "2"]),
        (["--retry-cap", "1ms", "--retry-base", "1s"], ["retry-cap", "retry-base"]),
        (["--default-exchange", "x" * 256], ["default-exchange", "255"]),
    ],
)
def test_bad_settings(place, daemons, arguments, names):
    daemon = daemons("outbox-relay", *arguments)
    assert daemon.wait_exit() == 2
    for name in names:
        assert name in daemon.log()


def test_pika_is_what_reads(place):
    """A guard for the tests above: their queues refuse what they would not count."""
    queue = Queue(place, "guard")
    queue.channel.basic_publish("", "guard", b"{}", pika.BasicProperties(message_id="x"))
    assert len(queue.take(1)) == 1 and queue.is_empty()
