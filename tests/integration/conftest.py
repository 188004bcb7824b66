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


@pytest.fixture(scope="module")
def shared(sandbox):
    """`told` with both programs for all tests of a file, which name their definitions and steps apart. `shared.worker` is the worker."""
    place = Place(sandbox)
    told = Told(place)
    with Daemon(place, "outbox-relay") as relay, Daemon(place, "saga-worker") as worker:
        relay.wait_ready()
        told.worker = worker.wait_ready()
        yield told
    place.close()


@pytest.fixture(autouse=True)
def shared_log(request):
    """A failing test shows the end of the log of the worker that it shares."""
    yield
    if "shared" in request.fixturenames:
        print(request.getfixturevalue("shared").worker.log()[-3000:])
