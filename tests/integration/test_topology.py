"""`sagapost topology declare`: everything that sagas travel through, before the first daemon runs."""

import json

import pika
import pytest

from harness.shop import Shop
from harness.wait import wait_until

EXCHANGES = {"saga.commands": "topic", "saga.replies": "topic", "saga.events": "topic", "saga.dead": "fanout"}


def declare(place, *arguments):
    """{name: row}"""
    return {row["kind"] + " " + row["name"]: row for row in json.loads(place.sagapost("topology", "declare", "--json", *arguments))}


def test_declares_what_the_sagas_of_the_database_need(place, daemons):
    Shop(place)
    rows = declare(place)
    queues = {f"saga.replies.{place.name}": place.name, **{f"saga.commands.{p}": f"{p}.#" for p in ("fraud", "inventory", "payment", "shipping")}}
    assert set(rows) == {f"exchange {name}" for name in EXCHANGES} | {f"queue {name}" for name in queues} | {"queue saga.dead"}
    assert {row["result"] for row in rows.values()} == {"declared"}
    channel = place.channel()
    for name, kind in EXCHANGES.items():
        channel.exchange_declare(name, kind, durable=True)  # refused if it were of another form
    for name, binding in queues.items():
        assert rows[f"queue {name}"]["binding"] == binding
        channel.queue_declare(name, passive=True)
    channel.basic_publish("saga.commands", "payment.capture", b"{}", mandatory=True)
    wait_until(lambda: channel.queue_declare("saga.commands.payment", passive=True).method.message_count == 1, 30, "the command is in the queue")
    channel.queue_purge("saga.commands.payment")
    # The daemons find it as they would have made it, and the second time there is nothing to do.
    daemons("saga-worker").wait_ready()
    assert {row["result"] for row in declare(place).values()} == {"unchanged"}
    assert "saga.commands.payment" in place.sagapost("topology", "declare")


def test_names_a_participant_that_only_running_sagas_of_an_older_version_call(place):
    place.sql(
        "select saga.define('trip'); select saga.step('trip', 'hotel', action => 'hotel.book', undo => 'hotel.cancel'); select saga.publish('trip');"
        "select saga.define('tour'); select saga.step('tour', 'bus', action => 'bus.book', undo => 'bus.cancel'); select saga.publish('tour')"
    )
    place.sql("select saga.start('trip', '{}')")
    for name in ("trip", "tour"):
        place.sql(f"select saga.define('{name}'); select saga.step('{name}', 'stay', action => 'camp.book', undo => 'camp.cancel'); select saga.publish('{name}')")
    assert {row for row in declare(place) if "commands." in row} == {"queue saga.commands.camp", "queue saga.commands.hotel"}


def test_a_database_of_participants_alone(sandbox, place):
    place.sql("drop schema saga, inbox, outbox cascade")
    place.sagapost("migrate", "--parts", "participant")
    place.sql(Shop.text("orders"))
    place.sql("create function public.pay(input jsonb) returns jsonb language sql as 'select input'; select saga.handle('payment.capture', 'public.pay')")
    assert {row for row in declare(place) if row.startswith("queue")} == {"queue saga.dead", "queue saga.commands.payment"}


def test_a_database_without_sagas(place):
    place.sql("drop schema saga, inbox, outbox cascade")
    place.sagapost("migrate", "--parts", "outbox")
    assert "sagapost migrate" in place.sagapost("topology", "declare", expect=1)


def test_participants_by_name_need_no_database(place):
    place.conninfo = place.conninfo.replace(f"port={place.sandbox.pg_port}", "port=1")
    rows = declare(place, "hotel", "flight", "hotel")
    assert [row for row in rows if "commands." in row] == ["queue saga.commands.hotel", "queue saga.commands.flight"]
    assert "port" in place.sagapost("topology", "declare", expect=1)


@pytest.mark.parametrize("name", ["Hotel", "hotel.book", "hotel-1", "1hotel", "#", ""])
def test_a_name_that_no_participant_can_have(place, name):
    assert f'"{name}"' in place.sagapost("topology", "declare", "hotel", name, expect=2)
    with pytest.raises(pika.exceptions.ChannelClosedByBroker):
        place.channel().exchange_declare("saga.commands", passive=True)


def test_another_form_of_the_same_name_is_refused_and_named(place):
    place.channel().queue_declare("saga.commands.hotel", durable=False)
    said = place.sagapost("topology", "declare", "flight", "hotel", expect=1)
    assert "saga.commands.hotel" in said and "PRECONDITION_FAILED" in said
    place.channel().queue_declare("saga.commands.flight", passive=True)  # what came before it stays


def test_the_broker_away(place):
    place.amqp_uri = "amqp://guest:guest@127.0.0.1:1/"
    assert "sagapost: " in place.sagapost("topology", "declare", "hotel", expect=1)
