"""Fixtures of the Python tests: `sandbox` (servers of the run), `place` (a database and a virtual host of the test), `daemons`."""

import os
import pathlib
import random
import signal
import sys

import pytest

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parent))

from harness import digest  # noqa: E402
from harness.daemon import Daemon  # noqa: E402
from harness.sandbox import Place, Sandbox  # noqa: E402


def pytest_addoption(parser):
    parser.addoption("--long", action="store_true", help="also the long runs")
    parser.addoption("--digest", metavar="PREFIX", help="write what tests/run.sh shows of failures (harness/digest.py)")
    parser.addoption("--seed", type=int, default=None, help="repeat a run: the seed that it printed")


def pytest_configure(config):
    signal.signal(signal.SIGTERM, signal.default_int_handler)  # as Ctrl-C: what was started is stopped
    config.addinivalue_line("markers", "long: takes minutes; only with --long")


def pytest_collection_modifyitems(config, items):
    if not config.getoption("--long"):
        for item in items:
            if "long" in item.keywords:
                item.add_marker(pytest.mark.skip(reason="a long run: --long"))


def pytest_terminal_summary(terminalreporter, config):
    if config.getoption("--digest"):
        digest.write(config.getoption("--digest"), terminalreporter.stats)


@pytest.fixture(scope="session")
def sandbox():
    servers = Sandbox()
    yield servers
    servers.stop()


@pytest.fixture(autouse=True)
def servers_up(request):
    """After each test, and after all else of its own."""
    yield
    if "sandbox" in request.fixturenames:
        request.getfixturevalue("sandbox").bring_back()


@pytest.fixture
def place(sandbox):
    here = Place(sandbox)
    yield here
    here.close()


@pytest.fixture
def daemons(place):
    """daemons("outbox-relay", "--window", 100) starts one; all are killed when the test ends. `at`: another place than the
    test's own. A failing test shows the logs' ends."""
    started = []

    def start(program, *arguments, at=place, **keywords):
        daemon = Daemon(at, program, *arguments, **keywords)
        started.append(daemon)
        return daemon

    yield start
    for daemon in started:
        with daemon:
            pass
        print(f"--- {daemon.log_path.name}\n{daemon.log()[-3000:]}")


@pytest.fixture
def seed(request):
    number = request.config.getoption("--seed")
    if number is None:
        number = int(os.environ.get("SAGAPOST_SEED", random.SystemRandom().randrange(1 << 32)))
    print(f"seed {number}")
    return number
