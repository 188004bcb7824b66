"""What the tests stand on: one that goes wrong, or is unlucky, must not make others fail."""

import os
import signal
import socket
import subprocess

import pytest

from harness.ports import hold_port, hold_ports, number
from harness.sandbox import SCRIPT, listens
from harness.wait import wait_until


def test_a_port_that_is_held_is_nobody_elses_and_its_servers():
    held = hold_port()
    address = ("127.0.0.1", number(held))
    assert not listens(number(held))
    with socket.socket() as stranger, pytest.raises(OSError):
        stranger.bind(address)
    for _ in range(2):  # also when the server starts anew
        with socket.create_server(address):
            assert listens(number(held))
    held.close()


def test_servers_that_a_test_has_left_stopped_are_started_again(sandbox, place):
    sandbox.postgres("kill")
    sandbox.bring_back()
    assert place.value("select 1") == 1


def test_a_server_that_ended_by_itself_fails_one_test(sandbox, place):
    postmaster = int((sandbox.folder / "postgres" / "data" / "postmaster.pid").read_text().split()[0])
    os.kill(postmaster, signal.SIGQUIT)
    wait_until(lambda: not listens(sandbox.pg_port), 30, "it has ended")
    with pytest.raises(AssertionError, match="postgres has ended by itself(.|\n)*immediate shutdown"):
        sandbox.bring_back()
    assert place.value("select 1") == 1
    sandbox.bring_back()


def test_a_process_id_that_was_given_to_another_is_left_alone(tmp_path):
    held = hold_ports(tmp_path)
    with subprocess.Popen(["sleep", "600"]) as stranger:
        try:
            (tmp_path / "postgres" / "data").mkdir(parents=True)
            (tmp_path / "postgres" / "data" / "postmaster.pid").write_text(f"{stranger.pid}\n")
            for name in ("rabbitmq", "epmd"):
                (tmp_path / f"{name}.pid").write_text(f"{stranger.pid}\n1\n")
            for verb in (("rabbitmq", "kill"), ("postgres", "kill"), ("stop",)):
                subprocess.run(["sh", SCRIPT, *verb, tmp_path], stdin=subprocess.DEVNULL, check=True)
            assert stranger.poll() is None
        finally:
            stranger.kill()
    for port in held:
        port.close()
