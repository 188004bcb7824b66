"""What more than one bench puts on the servers, and the sizes that all use.

A message has the same bytes on every way: PAYLOAD_BYTES of body, and the properties and headers that outbox-relay gives a row of `fill`
(sample.h says which). What is left of a difference is that some keys are shorter than four bytes."""

import re
import subprocess

from harness.sandbox import BUILD

PAYLOAD_BYTES = 500
WINDOW = 2000
KEYS = 1000
FOLDER = BUILD / "tests" / "bench"

# As services write them: many transactions, many keys. {"n": 17, "padding": "xx..."}
ROWS = """
insert into {table} (type, key, payload)
select %s, 'k' || n %% {keys}, ('{{"n": ' || n || ', "padding": "' || repeat('x', {padding} - length(n::text)) || '"}}')::json
  from generate_series(%s, %s) n
"""


def program(place, name, *arguments, limit_s=300):
    """Runs a C program of this folder to its end; its line."""
    done = subprocess.run(
        [FOLDER / name, *map(str, arguments)],
        env=place.environment(), stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, text=True, timeout=limit_s, check=True,
    )
    return done.stdout.strip()


def number_in(line, pattern):
    return float(re.search(pattern, line).group(1))


def publisher(place, messages, queue, queue_type, how):
    """(messages/s, CPU microseconds per message) of bench_publish; how: library (amqp_basic_publish) or frames (outbox/amqp)."""
    line = program(place, "bench_publish", f"--{how}", "--window", WINDOW, "--messages", messages, "--bytes", PAYLOAD_BYTES, "--queue", queue,
                   "--type", queue_type)
    return number_in(line, r"([\d.]+) messages/s"), number_in(line, r"([\d.]+) us of CPU")


def fill(place, messages, type_name, table="outbox.message", rows_per_transaction=1000):
    rows = ROWS.format(table=table, keys=KEYS, padding=PAYLOAD_BYTES - len('{"n": , "padding": ""}'))
    with place.connect().cursor() as cursor:  # psycopg2's `with connection` would make one transaction of all
        for start in range(0, messages, rows_per_transaction):
            cursor.execute(rows, (type_name, start + 1, min(start + rows_per_transaction, messages)))


def declare(place, queue, queue_type, **arguments):
    """A fresh queue; the channel that made it."""
    channel = place.channel()
    channel.queue_delete(queue)
    channel.queue_declare(queue, durable=True, arguments={"x-queue-type": queue_type, **arguments})
    return channel


def waiting(channel, queue):
    """Messages in a queue."""
    return channel.queue_declare(queue, passive=True).method.message_count
