"""What is over goes after its time, and what comes late for it changes nothing."""

import psycopg2
import pytest

from harness.wait import wait_until


def test_late_messages_of_a_saga_that_is_gone_change_nothing(told, daemons):
    """Its rows dropped, its outcomes past their retention: every command and reply it ever had comes again."""
    daemons("outbox-relay").wait_ready()
    worker = daemons("saga-worker").wait_ready()
    told.define("gone", [("a", "compensable", ""), ("p", "pivot", "a"), ("last", "retriable", "p")])
    saga = told.start("gone", '{"n": 1}', "KEY")
    told.end(saga)
    messages = told.place.sql(
        "select exchange, coalesce(routing_key, type), payload::text, type from outbox.message where type in ('saga.command', 'saga.reply') order by id"
    )
    assert len(messages) == 6
    told.place.sql("select saga.drop_period(p, 'infinity') from saga.period p where starts_at <= now() and ends_at > now()")
    told.place.sql("update saga.outcome_horizon set saga_id = outbox.uuid_floor(now() + interval '1 hour')")
    assert told.state_or_none(saga) is None
    channel = told.place.channel()
    for exchange, key, body, _ in messages:
        channel.basic_publish(exchange, key, body.encode())
    # Three late replies, and one to each of the three commands.
    wait_until(lambda: worker.metric("sagapost_saga_replies_unknown_saga_total") == 6, 30, lambda: worker.http("/metrics")[1])
    replies = told.place.sql("select payload ->> 'outcome' from outbox.message where type = 'saga.reply' order by id desc limit 3")
    assert replies == [("expired",)] * 3, "a command older than the retention is refused, never run again"
    assert told.effects(saga) == ["a", "p", "last"]
    assert told.state_or_none(saga) is None
    assert told.place.value("select count(*) from saga.history where saga_id = %s", (saga,)) == 0
    assert worker.metric("sagapost_saga_dead_lettered_total") == 0
    with pytest.raises(psycopg2.Error) as refused:
        told.place.sql("select saga.cancel(%s)", (saga,))
    assert refused.value.pgcode == "SG401"
    assert told.start("gone", '{"n": 1}', "KEY") == saga, "its key is remembered longer"
    assert "no longer kept" in told.place.sagapost("saga", "show", "KEY", expect=3)


def test_a_worker_keeps_what_is_wanted_and_drops_the_rest(told, daemons):
    """More than one call of saga.maintain can do: the worker calls again until it is done."""
    told.define("old", [("p", "pivot", "")])
    place = told.place
    for days in (31, 32):
        place.sql(f"select saga.create_period(date_trunc('day', now() - interval '{days} days', 'UTC'), date_trunc('day', now() - interval '{days - 1} days', 'UTC'))")
    place.sql("select saga.start('old', '{}') from generate_series(1, 3)")
    place.sql("insert into saga.intent (saga_id, verb, applied_at) select id, 'retry', now() - interval '91 days' from saga.instance")
    daemons("outbox-relay").wait_ready()
    worker = daemons("saga-worker").wait_ready()
    wait_until(lambda: place.value("select count(*) from saga.period where ends_at < now() - interval '29 days'") == 0, 30, "both periods are dropped")
    wait_until(lambda: worker.log().count('msg="partitions of ended sagas"') == 2, 30, worker.log)
    wait_until(lambda: place.value("select count(*) from saga.intent") == 0, 30, "old intents are forgotten")
    wait_until(lambda: place.value("select count(*) from saga.ended where state = 'SUCCEEDED'") == 3, 30, "sagas end as ever")
