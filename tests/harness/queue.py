"""A queue that a test reads, what it publishes, and what the relay has set aside."""

import json

from .wait import patient, wait_until

PATIENT = ("--retry-base", "50ms", "--retry-cap", "200ms")


class Queue:
    """A queue of the test's virtual host, read on a connection of its own."""

    def __init__(self, place, name, arguments=None, exchange=None, binding="#"):
        self.channel = place.channel()
        self.name = name
        self.channel.queue_declare(name, durable=True, arguments=arguments or {})
        if exchange:
            self.channel.exchange_declare(exchange, "topic", durable=True)
            self.channel.queue_bind(name, exchange, binding)

    def take(self, count, limit_s=30):
        """The next `count` messages, acknowledged, as (properties, body)."""
        taken = []

        def more():
            while len(taken) < count:
                method, properties, body = self.channel.basic_get(self.name)
                if method is None:
                    return False
                self.channel.basic_ack(method.delivery_tag)
                taken.append((method, properties, body))
            return True

        wait_until(more, limit_s, lambda: f"{count} messages in {self.name}, {len(taken)} so far")
        return [(properties, body) for _, properties, body in taken]

    def count(self):
        return self.channel.queue_declare(self.name, passive=True).method.message_count

    def take_all(self):
        """The bodies of what is in it now: quicker than one by one."""
        wanted, bodies = self.count(), []
        self.channel.basic_qos(prefetch_count=1000)
        for method, _, body in self.channel.consume(self.name, inactivity_timeout=patient(30)):
            assert method is not None, f"{len(bodies)} of {wanted}"
            bodies.append(body)
            if len(bodies) % 200 == 0 or len(bodies) == wanted:
                self.channel.basic_ack(method.delivery_tag, multiple=True)
            if len(bodies) == wanted:
                break
        self.channel.cancel()
        return bodies

    def numbers(self, count):
        return [json.loads(body)["n"] for _, body in self.take(count)]

    def is_empty(self):
        return self.count() == 0


def publish(place, type_name, *numbers, key=None, **more):
    """One transaction for each number. Returns the message ids."""
    arguments = {"type": type_name, "key": key, **more}
    named = ", ".join(f"{name} => %({name})s" for name in arguments if name != "type")
    return [
        place.value(
            f"select outbox.publish(%(type)s, jsonb_build_object('n', %(n)s::int), {named})::text", {**arguments, "n": number}
        )
        for number in numbers
    ]


def parked(place):
    """{n: (state, reason)} of what is set aside."""
    return {n: (state, reason) for n, state, reason in place.sql("select (payload->>'n')::int, state, reason from outbox.parked")}


def wait_parked(place, expected):
    wait_until(lambda: parked(place) == expected, 30, lambda: f"parked is {parked(place)}, wanted {expected}")


def wait_settled(place, last_id):
    """Until the position says that all up to this id arrived. A relay that goes away before may rightly have it sent once more."""
    wait_until(lambda: place.value("select last_id_ever from outbox.position") >= last_id, 60, f"the position gets to {last_id}")
