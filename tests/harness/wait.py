"""Waiting for a condition, with a limit. No test sleeps for a fixed time."""

import time


def wait_until(condition, limit_s=30.0, what="condition", every_s=0.02):
    """Calls `condition` until it gives something true, and returns that; fails with `what` when the limit is over."""
    end = time.monotonic() + limit_s
    while True:
        found = condition()
        if found:
            return found
        if time.monotonic() >= end:
            raise AssertionError(f"not within {limit_s} s: {what() if callable(what) else what}")
        time.sleep(every_s)
