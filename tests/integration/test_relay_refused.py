"""The relay while PostgreSQL refuses one of its statements: for a while, or until a person has mended it. Nothing is lost, nothing is sent
again and again, and the log says what is wrong."""

import pytest

from harness.queue import PATIENT, Queue, parked, publish, wait_parked, wait_settled
from harness.wait import wait_until

REFUSE = """
create schema test;
create table test.refusal (state text not null);
create sequence test.refused; -- no rollback takes back what it has counted
create function test.refuse() returns trigger language plpgsql security definer as $$
begin
    if exists (select from test.refusal) then
        perform nextval('test.refused');
        raise exception using errcode = (select state from test.refusal), message = 'as the test wants it';
    end if;
    return null;
end $$;
"""


def refuse(place, state, events, table):
    """Every statement of these events on the table fails with SQLSTATE `state`, until allow()."""
    place.sql(REFUSE + f"create trigger refuse before {events} on {table} for each statement execute function test.refuse()")
    place.sql("insert into test.refusal values (%s)", (state,))


def wait_refused(place, times):
    wait_until(lambda: place.value("select last_value from test.refused") >= times, 60, f"{times} attempts")


def allow(place):
    place.sql("delete from test.refusal")


@pytest.mark.parametrize("state", ["40001", "53100", "23514"])
def test_a_position_that_cannot_be_written_for_a_while(place, daemons, state):
    """Also where no retry would mend it (23514): the relay stays where it is, instead of sending its window again and again."""
    queue = Queue(place, "order")
    daemon = daemons("outbox-relay").wait_ready()
    publish(place, "order", 0)
    assert queue.numbers(1) == [0]
    wait_settled(place, 1)
    refuse(place, state, "update", "outbox.position")
    publish(place, "order", *range(1, 20))
    assert queue.numbers(19) == list(range(1, 20))
    daemon.wait_log("the position cannot be written; trying on")
    allow(place)
    wait_settled(place, 20)
    assert queue.is_empty() and daemon.log().count("the position cannot be written") == 1


@pytest.mark.parametrize("state", ["40P01", "23514"])
def test_nothing_can_be_set_aside_for_a_while(place, daemons, state):
    queue = Queue(place, "order")
    daemon = daemons("outbox-relay", *PATIENT).wait_ready()
    refuse(place, state, "insert", "outbox.parked")
    publish(place, "order", 1, key="a")
    publish(place, "nobody", 2, 3, key="b")
    publish(place, "order", 4, key="a")
    assert queue.numbers(2) == [1, 4]
    daemon.wait_log("the position cannot be written; trying on")
    wait_refused(place, 4)  # attempts that fail do not move the row of the position
    assert parked(place) == {}
    allow(place)
    wait_parked(place, {2: ("waiting", "returned"), 3: ("behind", "behind")})
    assert queue.is_empty() and "beginning again" not in daemon.log()


@pytest.mark.parametrize("state", ["40001", "23514"])
def test_what_was_set_aside_arrives_once_although_that_cannot_be_written(place, daemons, state):
    daemon = daemons("outbox-relay", *PATIENT).wait_ready()
    publish(place, "order", 1, 2, key="a")
    wait_parked(place, {1: ("waiting", "returned"), 2: ("behind", "behind")})
    refuse(place, state, "update or delete", "outbox.parked")
    queue = Queue(place, "order")
    # Returned once more or confirmed, as the queue came: neither can be written.
    daemon.wait_log("outbox.parked cannot be written; trying on")
    allow(place)
    assert queue.numbers(2) == [1, 2]
    wait_parked(place, {})
    assert queue.is_empty()


def test_a_leaf_that_somebody_reads_is_emptied_later(place, daemons):
    place.sql("select outbox.configure(ring_slots => 4, ring_period => '1 second')")
    queue = Queue(place, "order")
    daemon = daemons("outbox-relay", "--truncate-interval", "200ms", "--lease-term", "2s").wait_ready()
    reader = place.connect(autocommit=False)
    publish(place, "order", 1)
    reader.cursor().execute("select count(*) from outbox.message")
    assert queue.numbers(1) == [1]
    publish(place, "order", 2)
    assert queue.numbers(1) == [2]
    wait_settled(place, 2)
    assert place.value("select sum(bytes) from outbox.leaf") > 0
    reader.rollback()
    wait_until(lambda: place.value("select sum(bytes) from outbox.leaf") == 0, 30, lambda: f"{place.sql('select * from outbox.leaf')}")
    assert daemon.alive() and "beginning again" not in daemon.log()


def test_without_its_share(place, daemons):
    place.sql("delete from outbox.position")
    daemon = daemons("outbox-relay")
    assert daemon.wait_exit() == 2
    assert "there is no share 0" in daemon.log()


def test_a_position_that_is_gone(place, daemons):
    """The row is not where it was left and not under its key: another has taken over, or worse. Nothing more is published."""
    queue = Queue(place, "order")
    daemon = daemons("outbox-relay").wait_ready()
    publish(place, "order", 1)
    assert queue.numbers(1) == [1]
    wait_settled(place, 1)
    place.sql("delete from outbox.position")
    publish(place, "order", 2)
    assert daemon.wait_exit(60) == 2
    assert "there is no share 0" in daemon.log()


def test_rows_to_be_set_aside_that_somebody_deleted(place, daemons):
    """Said aloud, since somebody has taken a message away that was not settled; and the log goes on."""
    queue = Queue(place, "order")
    daemon = daemons("outbox-relay", *PATIENT).wait_ready()
    refuse(place, "40001", "insert", "outbox.parked")
    publish(place, "nobody", 1)
    daemon.wait_log("the position cannot be written; trying on")
    place.sql("delete from outbox.message")
    allow(place)
    daemon.wait_log("somebody deleted them")
    publish(place, "order", 2)
    assert queue.numbers(1) == [2]


def test_routes_that_cannot_be_read_for_a_while(place, daemons):
    """The routes of before stay in force."""
    place.sql("insert into outbox.route (type, exchange, routing_key) values ('order', '', 'elsewhere')")
    queue = Queue(place, "elsewhere")
    daemon = daemons("outbox-relay", "--fallback-interval", "100ms", "--lease-term", "2s").wait_ready()
    publish(place, "order", 1)
    assert queue.numbers(1) == [1]
    holder = place.connect(autocommit=False)
    holder.cursor().execute("lock table outbox.route in access exclusive mode")
    publish(place, "order", 2)
    daemon.wait_log("the routes of before stay")
    publish(place, "order", 3)
    assert queue.numbers(2) == [2, 3]
    holder.rollback()
    assert "beginning again" not in daemon.log() and queue.is_empty()
