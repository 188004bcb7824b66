"""Fixtures of the tests with sagas: `told` (sagas whose steps do as they are told), `programs` (a relay and a worker)."""

import pytest

from harness.daemon import Daemon
from harness.sandbox import Place
from harness.told import Told


@pytest.fixture
def told(place):
    return Told(place)


@pytest.fixture
def programs(told, daemons):
    """A relay and a worker; returns the worker."""
    daemons("outbox-relay").wait_ready()
    return daemons("saga-worker").wait_ready()


def start_missing(told):
    for name in ("outbox-relay", "saga-worker"):
        if name not in told.programs or not told.programs[name].alive():
            told.programs[name] = Daemon(told.place, name).wait_ready()
    told.worker = told.programs["saga-worker"]


@pytest.fixture(scope="module")
def shared(sandbox):
    """`told` with both programs for all tests of a file, which name their definitions and steps apart. `shared.worker` is the worker."""
    place = Place(sandbox)
    told = Told(place)
    told.programs = {}
    start_missing(told)
    yield told
    for daemon in told.programs.values():
        with daemon:
            pass
    place.close()


@pytest.fixture(autouse=True)
def shared_log(request):
    """A failing test shows the end of the log of the worker that it shares. A program that has ended fails one test, and not all after it."""
    yield
    if "shared" in request.fixturenames:
        told = request.getfixturevalue("shared")
        print(told.worker.log()[-3000:])
        ended = [f"{daemon.program} ended with {daemon.process.returncode}:\n{daemon.log()[-3000:]}" for daemon in told.programs.values() if not daemon.alive()]
        start_missing(told)
        told.forget()
        assert not ended, "\n".join(ended)
