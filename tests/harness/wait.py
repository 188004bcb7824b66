"""Waiting for a condition, with a limit. No test sleeps for a fixed time."""

import time

# The limits are for what hangs, not for machines that are slow: those that tests name are about right for a machine that does nothing else.
PATIENCE = 4


def patient(limit_s):
    return limit_s * PATIENCE


def wait_until(condition, limit_s=30.0, what="condition", every_s=0.02):
    """Calls `condition` until it gives something true, and returns that; fails with `what` when `limit_s`, made patient, is over."""
    began = time.monotonic()
    while True:
        found = condition()
        if found:
            return found
        if time.monotonic() - began >= patient(limit_s):
            raise AssertionError(f"not within {patient(limit_s)} s: {what() if callable(what) else what}")
        time.sleep(every_s)
