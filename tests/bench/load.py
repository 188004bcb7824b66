"""What more than one bench puts on the servers, and the sizes that all use."""

import re
import subprocess

from harness.sandbox import BUILD

PAYLOAD_BYTES = 500
WINDOW = 2000
KEYS = 1000
PUBLISHER = BUILD / "tests" / "bench" / "bench_publish"


def bare_publisher(place, messages, queue_type):
    """messages/s of tests/bench/bench_publish, which uses the library's own amqp_basic_publish."""
    done = subprocess.run(
        [PUBLISHER, "--library", "--window", str(WINDOW), "--messages", str(messages), "--bytes", str(PAYLOAD_BYTES), "--queue", f"bare-{queue_type}",
         "--type", queue_type],
        env=place.environment(), stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, text=True, timeout=300, check=True,
    )
    return float(re.search(r"([\d.]+) messages/s", done.stdout).group(1))


def fill_backlog(place, messages, type_name):
    """Rows as services write them: many transactions, many keys."""
    with place.connect() as connection, connection.cursor() as cursor:
        for start in range(0, messages, 1000):
            cursor.execute(
                "insert into outbox.message (type, key, payload) select %s, 'k' || n %% %s, json_build_object('n', n, 'padding', repeat('x', %s))"
                " from generate_series(%s, %s) n",
                (type_name, KEYS, PAYLOAD_BYTES - 30, start + 1, min(start + 1000, messages)),
            )


def declare(place, queue, queue_type):
    channel = place.channel()
    channel.queue_delete(queue)
    channel.queue_declare(queue, durable=True, arguments={"x-queue-type": queue_type})
