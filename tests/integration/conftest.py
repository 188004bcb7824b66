"""Fixtures of the tests with sagas: `told` (sagas whose steps do as they are told), `programs` (a relay and a worker)."""

import pytest

from harness.told import Told


@pytest.fixture
def told(place):
    return Told(place)


@pytest.fixture
def programs(told, daemons):
    """A relay and a worker; returns the worker."""
    daemons("outbox-relay").wait_ready()
    return daemons("saga-worker").wait_ready()
