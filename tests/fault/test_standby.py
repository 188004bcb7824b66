"""A standby is promoted, or goes away, while writers run. Each test ends with the ledger."""

import contextlib
import os
import signal

import pytest

from harness import ledger
from harness.ledger import relay
from harness.sandbox import Place, Postgres
from harness.wait import wait_until


class Pair:
    """A primary and its standby `second`; a place in both, reached at whichever takes writes."""

    def __init__(self, sandbox, amqp_uri):
        self.first = Postgres(sandbox, "first")
        try:
            self.second = Postgres(sandbox, "second", standby_of=self.first)
        except BaseException:
            self.first.stop()
            raise
        self.place = Place(sandbox, server=self.first)
        self.place.amqp_uri = amqp_uri
        self.place.conninfo = (
            f"host=127.0.0.1,127.0.0.1 port={self.first.pg_port},{self.second.pg_port} user=postgres dbname={self.place.name}"
            " target_session_attrs=read-write"
        )
        wait_until(lambda: self.streaming() == 1, 30, "the standby streams")

    def streaming(self):
        return self.place.value("select count(*) from pg_stat_replication where application_name = 'second' and state = 'streaming'")

    @contextlib.contextmanager
    def receiver_frozen(self):
        """The standby gets nothing more, and its connection stays."""
        pid = self.second.value("select pid from pg_stat_wal_receiver")
        os.kill(pid, signal.SIGSTOP)
        try:
            yield
        finally:
            os.kill(pid, signal.SIGCONT)

    def promote(self):
        """The primary is gone for good; writers find the standby by themselves."""
        self.first.postgres("kill")
        self.second.value("select pg_promote(true, 60)")

    def stop(self):
        for server in (self.second, self.first):
            server.stop()


@pytest.fixture
def pair(sandbox, place):
    here = Pair(sandbox, place.amqp_uri)
    yield here
    here.stop()


def test_a_standby_is_promoted_and_nothing_was_sent_that_it_has_not(place, daemons, consumer, writers, pair):
    daemon = relay(daemons, "--publish-after", "replicated(second)", at=pair.place).wait_ready()
    load = writers(at=pair.place)
    load.wait_written(500)
    wait_until(lambda: len(consumer.seen) > 100, 30, "the relay publishes")
    with pair.receiver_frozen():
        load.wait_written(load.written + 300)
        wait_until(lambda: daemon.metric("sagapost_outbox_waiting_for_standbys") == 1, 30, daemon.log)
        pair.first.postgres("kill")
    pair.promote()
    load.wait_written(load.written + 300)
    load.stop()
    # It is the standby's log now: what it never got is lost with the primary, and must not have been sent.
    ledger.check(pair.place, consumer, repeated_most=ledger.WINDOW)
    assert daemon.alive()


def test_a_standby_that_is_away_is_waited_for_visibly(daemons, consumer, writers, pair):
    daemon = relay(daemons, "--publish-after", "replicated(second)", at=pair.place).wait_ready()
    load = writers(at=pair.place, count=4)
    load.wait_written(100)
    pair.second.postgres("stop")
    load.wait_written(load.written + 100)
    daemon.wait_log('rows wait for the standbys of publish-after" not_connected=second')
    assert daemon.metric("sagapost_outbox_waiting_for_standbys") == 1
    assert daemon.http("/readyz")[0] == 200
    load.stop()
    assert len(consumer.seen) < pair.place.value("select count(*) from ledger.sent")
    pair.second.postgres("start")
    daemon.wait_log("the wait for the standbys is over", 60)
    ledger.check(pair.place, consumer, repeated_most=0)
    assert daemon.metric("sagapost_outbox_waiting_for_standbys") == 0


def test_without_it_the_ghosts_are_listed(daemons, consumer, writers, pair):
    daemon = relay(daemons, at=pair.place).wait_ready()
    load = writers(at=pair.place)
    load.wait_written(300)
    pair.second.postgres("stop")  # what is written now it never gets
    arrived = len(consumer.seen)
    wait_until(lambda: len(consumer.seen) > arrived + 300, 60, "the relay publishes what the standby has not got")
    pair.first.postgres("kill")
    pair.second.postgres("start")
    pair.promote()
    load.wait_written(load.written + 300)
    load.stop()
    daemon.wait_log("the server's timeline has changed")
    sent = {row[0] for row in pair.place.sql("select message_id::text from ledger.sent")}
    wait_until(lambda: sent <= consumer.seen, 60, "all that is there has arrived")
    ghosts = consumer.seen - sent
    assert ghosts
    wait_until(lambda: daemon.metric("sagapost_outbox_ghosts_total") > 0, 30, daemon.log)
    listed = {row[0] for row in pair.place.sql("select message_id::text from outbox.ghost")}
    # What was in flight when the primary died may have been sent: it is listed too.
    assert ghosts <= listed and len(listed) <= len(ghosts) + ledger.WINDOW
    assert daemon.metric("sagapost_outbox_ghosts_total") == len(listed)
    assert sorted(ghosts)[0] in pair.place.sagapost("outbox", "ghosts", "--limit", 100000)
