"""A service that wrote Debezium's outbox table comes over: its statements stay, the relay publishes."""

import json
import uuid

from harness.wait import wait_until

INSERT = "insert into outboxevent (aggregateid, aggregatetype, payload, type, id) values (%s, %s, %s, %s, %s)"


def test_a_service_comes_over_without_a_change(place, daemons):
    """As its object-relational mapper does it: INSERT, then DELETE in the same transaction, which must say that one row went."""
    role = f"shop_{place.name}"
    place.sql(
        f"create role {role} login in role sagapost_writer; create view outboxevent as select * from outbox.debezium;"
        f"grant select, insert, delete on outboxevent to {role};"
        "insert into outbox.route (type, exchange, routing_key) values ('OrderPaid', 'events', 'order.paid')"
    )
    channel = place.channel()
    channel.exchange_declare("events", "topic")
    channel.queue_declare("paid")
    channel.queue_bind("paid", "events", "order.#")
    channel.queue_declare("OrderPlaced")
    daemons("outbox-relay").wait_ready()

    connection = place.connect(autocommit=False, user=role)
    cursor = connection.cursor()
    ids = {name: str(uuid.uuid4()) for name in ("OrderPlaced", "OrderPaid", "rolled back")}
    for name in ("OrderPlaced", "OrderPaid"):
        cursor.execute(INSERT, ("17", "order", json.dumps({"name": name}), name, ids[name]))
        cursor.execute("delete from outboxevent where id = %s", (ids[name],))
        assert cursor.rowcount == 1
        connection.commit()
    cursor.execute(INSERT, ("17", "order", "{}", "OrderPlaced", ids["rolled back"]))
    connection.rollback()

    for queue, name in (("OrderPlaced", "OrderPlaced"), ("paid", "OrderPaid")):
        _, properties, body = wait_until(lambda: (got := channel.basic_get(queue, auto_ack=True))[0] and got, 30, queue)  # noqa: B023
        assert json.loads(body) == {"name": name} and properties.message_id == ids[name] and properties.type == name
        assert properties.headers["aggregatetype"] == "order" and properties.headers["aggregateid"] == "17"
        assert properties.headers["cloudEvents_subject"] == "order/17"
    assert channel.basic_get("OrderPlaced") == (None, None, None)
