"""Published messages sent again: which ones, how they look, where they go, what happens when it is interrupted; how long they stay."""

import json
import signal
import subprocess

from harness.sandbox import PROGRAMS
from harness.wait import patient, wait_until
from test_relay import Queue, publish, wait_parked, wait_settled


def replay(place, *arguments, expect=0):
    said = place.sagapost("outbox", "replay", "--from=-infinity", "--json", *arguments, expect=expect)
    return json.loads(said)[0] if expect == 0 else said


def settle(place):
    """Until the position is past all that is there."""
    wait_until(lambda: place.value("select rows from outbox.backlog") == 0, 30, lambda: place.sql("select * from outbox.status"))


def test_a_replay_says_what_it_is_and_keeps_what_it_was(place, daemons):
    queue = Queue(place, "order")
    daemons("outbox-relay", "--app-id", "shop").wait_ready()
    place.sql("select outbox.publish('order', '{\"n\": 1.50}', key => 'K', headers => '{\"a\": 1}', correlation_id => 'C')")
    [(first, body)] = queue.take(1)
    settle(place)
    assert replay(place, "--app-id", "shop") == {"messages": 1, "rows": 1, "last_id": 1, "complete": True, "dry_run": False}
    [(again, body_again)] = queue.take(1)
    assert body_again == body
    assert again.headers.pop("sagapost-replayed") is True
    assert again.headers.pop("sagapost-replayed-at") > again.headers["cloudEvents_time"]
    assert vars(again) == vars(first)


def test_what_is_chosen(place, daemons):
    order, note = Queue(place, "order"), Queue(place, "note")
    elsewhere = Queue(place, "elsewhere", exchange="audit")
    daemons("outbox-relay").wait_ready()
    publish(place, "order", 1, 2, key="a")
    publish(place, "order", 3, key="b")
    middle = place.value("select clock_timestamp()::text")
    publish(place, "note", 4, key="a")
    assert sorted(order.numbers(3)) == [1, 2, 3] and note.numbers(1) == [4]
    settle(place)
    assert replay(place, "--dry-run")["messages"] == 4
    assert order.is_empty() and note.is_empty()
    assert replay(place, "--type", "order", "--key", "a")["messages"] == 2
    assert order.numbers(2) == [1, 2]
    assert replay(place, "--key", "a", "--from", middle, "--rate", 0)["messages"] == 1
    assert note.numbers(1) == [4]
    assert replay(place, "--to", middle, "--to-exchange", "audit")["messages"] == 3
    assert elsewhere.numbers(3) == [1, 2, 3]
    assert replay(place, "--after", 2, "--dry-run")["messages"] == 2
    assert order.is_empty() and note.is_empty() and elsewhere.is_empty()


def test_only_what_was_published(place, daemons):
    queue = Queue(place, "order")
    daemon = daemons("outbox-relay", "--unroutable-grace", "0ms").wait_ready()
    publish(place, "order", 1)
    parked_id, discarded_id = publish(place, "nobody", 2, 3)
    wait_parked(place, {2: ("parked", "returned"), 3: ("parked", "returned")})
    place.sql("select outbox.discard(%s)", (discarded_id,))
    wait_parked(place, {2: ("parked", "returned")})
    open_transaction = place.connect(autocommit=False)
    open_transaction.cursor().execute("select outbox.publish('order', '{\"n\": 4}')")
    wait_settled(place, 3)
    assert daemon.terminate() == 0
    open_transaction.commit()
    publish(place, "order", 5)
    assert queue.numbers(1) == [1]
    assert replay(place)["messages"] == 1
    assert queue.numbers(1) == [1]
    assert parked_id and queue.is_empty()


def test_several_batches_and_strides(place, daemons):
    queue = Queue(place, "order", arguments={"x-queue-type": "quorum"})
    daemons("outbox-relay").wait_ready()
    place.sql("insert into outbox.message (type, mandatory, payload) select 'nobody', false, 'null' from generate_series(1, 21000)")
    place.sql("insert into outbox.message (type, payload) select 'order', json_build_object('n', n) from generate_series(1, 2100) n")
    assert sorted(queue.numbers(2100)) == list(range(1, 2101))
    settle(place)
    assert replay(place, "--dry-run")["messages"] == 23100
    said = replay(place, "--rate", 0, "--type", "order")
    assert said["messages"] == 2100 and said["rows"] == 23100
    assert queue.numbers(2100) == list(range(1, 2101))


def test_no_queue_ends_it_and_says_where(place, daemons):
    queue = Queue(place, "order")
    Queue(place, "some", exchange="some", binding="order")
    daemons("outbox-relay").wait_ready()
    publish(place, "order", 1, 2)
    place.sql("insert into outbox.route (type, routing_key) values ('note', 'order')")
    settle(place)
    said = place.sagapost("outbox", "replay", "--from=-infinity", "--to-exchange", "nowhere", expect=1)
    assert "nowhere" in said
    assert queue.numbers(2) == [1, 2] and queue.is_empty()


def test_an_interrupted_one_is_continued(place, daemons):
    queue = Queue(place, "order")
    daemons("outbox-relay").wait_ready()
    publish(place, "order", *range(200))
    assert sorted(queue.numbers(200)) == list(range(200))
    settle(place)
    with subprocess.Popen(
        [PROGRAMS["sagapost"], "outbox", "replay", "--from=-infinity", "--rate", "20", "--json"],
        env=place.environment(), stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
    ) as process:
        queue.numbers(5)
        process.send_signal(signal.SIGINT)
        out, err = process.communicate(timeout=patient(30))
    assert process.returncode == 1 and "interrupted" in err
    [said] = json.loads(out)
    assert not said["complete"] and 5 <= said["messages"] < 200
    rest = replay(place, "--after", said["last_id"], "--rate", 0)
    assert rest["complete"] and said["messages"] + rest["messages"] == 200


def test_bad_usage(place):
    assert "--from" in place.sagapost("outbox", "replay", expect=2)
    assert "yesterdai" in place.sagapost("outbox", "replay", "--from", "yesterdai", expect=2)


def test_the_ring_keeps_as_long_as_set_and_an_idle_relay_writes_nothing_for_it(place, daemons):
    place.sql("select outbox.configure(ring_slots => 60, ring_period => '1 second', keep => '50 seconds')")
    queue = Queue(place, "order")
    daemons("outbox-relay", "--truncate-interval", "100ms").wait_ready()
    publish(place, "order", 1)
    assert queue.numbers(1) == [1]
    settle(place)
    wait_until(lambda: place.value("select count(*) from outbox.leaf where bytes > 0 and kept and not current") == 1, 30, "its leaf is not current")
    written = place.value("select updated_at from outbox.position")
    wait_until(lambda: place.value("select count(*) from outbox.leaf where bytes > 0 and not current and clock_timestamp() >"
                                   " (select created_at + interval '5 s' from outbox.message)"), 30, "five seconds old")
    assert replay(place)["messages"] == 1
    assert place.value("select count(*) from outbox.leaf where bytes > 0") == 1
    assert place.value("select updated_at from outbox.position") == written
    place.sql("select outbox.configure(keep => '0')")
    wait_until(lambda: place.value("select sum(bytes) from outbox.leaf") == 0, 30, lambda: f"{place.sql('select * from outbox.leaf')}")
