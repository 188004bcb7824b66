"""Fixtures of the fault tests: who writes, and who notes what arrives. Both are stopped when the test ends."""

import pytest

from harness import ledger


@pytest.fixture
def consumer(place):
    here = ledger.Consumer(place).start()
    yield here
    here.stop()


@pytest.fixture
def writers(place, seed):
    """writers(count=8) starts some. `at`: another place than the test's own."""
    started = []

    def start(at=place, **keywords):
        started.append(ledger.Writers(at, seed, **keywords).start())
        return started[-1]

    yield start
    for each in started:
        each.stop()
