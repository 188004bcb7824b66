"""`sagapost outbox status --watch`: on a terminal, in a pipe, while servers go and come."""

import json
import os
import select
import signal
import socket
import subprocess
import threading
import time

import pytest

from harness.sandbox import PROGRAMS
from harness.terminal import Terminal
from harness.wait import patient, wait_until

@pytest.fixture
def watch(place):
    started = []

    def start(*arguments, **keywords):
        started.append(Terminal(place, "outbox", "status", "--watch", *arguments, **keywords))
        return started[-1]

    yield start
    for one in started:
        one.close()


def publish(place, number, type_name="order"):
    place.sql("select outbox.publish(%s, '{}') from generate_series(1, %s) n", (type_name, number))


def test_screen_with_a_relay(place, daemons, watch):
    place.channel().queue_declare("order")
    relay = daemons("outbox-relay", "--window", 77, "--unroutable-grace", "100ms", "--retry-base", "50ms").wait_ready()
    publish(place, 300)
    publish(place, 1, "nowhere")
    seen = watch("--relay", f":{relay.port}")
    seen.wait_for(r"^ +0 +yes +1 ")
    seen.wait_for(r"of 77, 0 in flight$")
    seen.wait_for(r"^confirmed .* 300$")
    seen.wait_for(r"^parked +returned +1 ")
    # A load: the rates of its time are on the screen.
    before = len(seen.frames())
    publish(place, 20000)
    assert float(seen.wait_for(r"^confirmed +([1-9][0-9.]*) ", before)[1]) > 0
    seen.wait_for(r"^confirmed .* 20300$")
    os.write(seen.master, b"xq")
    assert seen.ended() == 0


def test_backlog_without_a_relay_ends_by_ctrl_c(place, watch):
    publish(place, 12)
    seen = watch("--relay", "127.0.0.1:1")
    seen.wait_for(r"^ +0 +NO +0 +\S+ +\S+ +12 ")
    seen.wait_for("relay 127.0.0.1:1: connecting: Connection refused")
    seen.wait_for("nothing is parked")
    os.write(seen.master, b"\x03")
    assert seen.ended() == 0


def test_terminated(place, watch):
    seen = watch()
    seen.wait_for("nothing is parked")
    seen.process.terminate()
    assert seen.ended() == -signal.SIGTERM


def test_a_small_terminal_and_one_that_changes(place, watch):
    seen = watch(columns=30, rows=3)
    wait_until(seen.frames, 30, "a screen")
    assert all(len(frame) <= 3 and all(len(line) <= 30 for line in frame) for frame in seen.frames())
    seen.resize(100, 20)
    seen.wait_for("nothing is parked")


def test_postgres_goes_and_comes(place, watch):
    place.sql(f"create role watcher_{place.name} login in role sagapost_reader")
    place.conninfo, owner = place.sandbox.conninfo(place.name, f"watcher_{place.name}"), place.conninfo
    seen = watch()
    seen.wait_for("nothing is parked")  # a reader may look at all of it
    place.conninfo = owner
    place.sql(f"alter role watcher_{place.name} nologin")
    place.sql("select pg_terminate_backend(pid) from pg_stat_activity where usename = %s", (f"watcher_{place.name}",))
    seen.wait_for("^PostgreSQL: .*not permitted to log in")
    place.sql(f"alter role watcher_{place.name} login")
    seen.wait_for("nothing is parked")
    os.write(seen.master, b"q")
    assert seen.ended() == 0


def lines(place, *arguments, wanted, environment=None):
    """Runs in a pipe until a line satisfies `wanted`; gives that line."""
    process = subprocess.Popen(
        [PROGRAMS["sagapost"], "outbox", "status", "--watch", "--interval", "100ms", *map(str, arguments)],
        env={**place.environment(), **(environment or {})}, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
    )
    try:
        end = time.monotonic() + patient(30)
        seen = []
        while time.monotonic() < end:
            if not select.select([process.stdout], [], [], 1)[0]:
                continue
            line = process.stdout.readline()
            assert line, f"it ended with {process.wait(patient(30))}: {process.stderr.read()}"
            assert "\x1b" not in line
            seen.append(line)
            if wanted(line):
                return line
        raise AssertionError(f"not seen: {seen[-5:]}")
    finally:
        process.stdout.close()  # and now it writes to nobody
        process.wait(patient(30))
        process.stderr.close()


def test_lines_and_json_in_a_pipe(place, daemons):
    relay = daemons("outbox-relay", "--unroutable-grace", "100ms").wait_ready()
    place.channel().queue_declare("order")
    publish(place, 10)
    publish(place, 2, "nowhere")
    wait_until(lambda: place.value("select count(*) from outbox.parked where state = 'parked'") == 2, 30, "parked")
    assert lines(place, wanted=lambda line: " share=0 owned=true " in line and " ids_per_second=" in line and " parked=2 " in line)
    assert lines(place, wanted=lambda line: " state=parked reason=returned rows=2\n" in line)
    assert lines(place, "--relay", f"localhost:{relay.port}", wanted=lambda line: f" relay=localhost:{relay.port} " in line and " window_limit=2000" in line)
    seen = json.loads(lines(place, "--json", "--relay", f":{relay.port}", wanted=lambda line: '"published_per_second": 0' in line))
    assert seen["shares"][0]["owned"] is True and seen["relay"]["in_flight"] == 0
    assert [(row["state"], row["reason"], row["rows"]) for row in seen["parked"]] == [("parked", "returned", 2)]


@pytest.mark.parametrize("answer", [b"", b"nonsense\r\n\r\n", b"HTTP/1.0 500 No\r\n\r\n", b"HTTP/1.0 200 OK\r\n\r\nsagapost_outbox_in_flight x\n"])
def test_a_relay_that_answers_nonsense(place, answer):
    listener = socket.create_server(("127.0.0.1", 0))
    port, served = listener.getsockname()[1], []

    def serve():
        while True:
            try:
                connection, _ = listener.accept()
            except OSError:
                return
            try:
                connection.recv(1000)
                connection.sendall(answer)
            except OSError:
                pass  # it did not wait so long: it asks again
            connection.close()
            served.append(connection)

    def wanted(line):
        return served and '"relay": {' in line and (b"200 OK" not in answer or '"answered": true' in line)

    thread = threading.Thread(target=serve, daemon=True)
    thread.start()
    seen = json.loads(lines(place, "--json", "--relay", f":{port}", wanted=wanted))
    listener.close()
    assert seen["relay"]["answered"] == (b"200 OK" in answer) and seen["relay"]["in_flight"] is None


def test_refused_at_once(place):
    assert "interval" in place.sagapost("outbox", "status", "--watch", "--interval", "1ms", expect=2)
    assert "relay" in place.sagapost("outbox", "status", "--watch", "--relay", "here", expect=2)
    place.conninfo = place.conninfo.replace(f"port={place.sandbox.pg_port}", "port=1")
    assert "port" in place.sagapost("outbox", "status", "--watch", expect=1)
