"""A daemon under test: started, watched through its log and its HTTP window, stopped or killed."""

import math
import os
import signal
import subprocess
import urllib.error
import urllib.request

from .ports import hold_port, number
from .sandbox import PROGRAMS
from .wait import patient, wait_until


class Daemon:
    """One process. Use it as a context manager, or through the fixture `daemons`, so that it ends when the test does."""

    def __init__(self, place, program, *arguments, environment=None, wrapper=()):
        self.program = program
        self.held = hold_port()
        self.port = number(self.held)
        place.sandbox.counter += 1
        self.log_path = place.sandbox.folder / f"{program}-{place.name}-{place.sandbox.counter}.log"
        with open(self.log_path, "ab") as log:
            self.process = subprocess.Popen(
                [*wrapper, PROGRAMS[program], "--listen", f"127.0.0.1:{self.port}", *map(str, arguments)],
                env={**place.environment(), **(environment or {})},
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
            )

    def log(self):
        return self.log_path.read_text(errors="replace")

    def http(self, path):
        """(status, text), or (0, reason) when nobody answers."""
        try:
            with urllib.request.urlopen(f"http://127.0.0.1:{self.port}{path}", timeout=5) as answer:
                return answer.status, answer.read().decode()
        except urllib.error.HTTPError as error:
            return error.code, error.read().decode()
        except OSError as error:
            return 0, str(error)

    def metric(self, name, **labels):
        """The sum over all series of `name` that have these labels; when there are none, a number that is neither less nor more than any.

        What a program counts after a COMMIT is seen in the database a moment before it is seen here: wait_metric() for it."""
        found = []
        for line in self.metrics().splitlines():
            if line.startswith("#") or not line.startswith(name):
                continue
            series, _, value = line.rpartition(" ")
            if series.split("{")[0] == name and all(f'{k}="{v}"' in series for k, v in labels.items()):
                found.append(float(value))
        return sum(found) if found else math.nan

    def metrics(self):
        """The text of /metrics. A program that is busy may be slow to answer; one that has ended fails the test."""

        def answered():
            assert self.alive(), f"{self.program} ended with {self.process.returncode}:\n{self.log()[-4000:]}"
            status, text = self.http("/metrics")
            return status == 200 and [text]

        return wait_until(answered, 60, lambda: f"/metrics: {self.http('/metrics')}")[0]

    def wait_metric(self, name, wanted, limit_s=30, **labels):
        """Until wanted(value) is true, or the value is `wanted`."""
        holds = wanted if callable(wanted) else lambda value: value == wanted
        wait_until(lambda: holds(self.metric(name, **labels)), limit_s, lambda: f"{name} {labels}: {self.metric(name, **labels)}\n{self.log()[-4000:]}")

    def alive(self):
        return self.process.poll() is None

    def wait_ready(self, limit_s=30):
        def ready():
            assert self.alive(), f"{self.program} ended with {self.process.returncode}:\n{self.log()[-4000:]}"
            return self.http("/readyz")[0] == 200

        wait_until(ready, limit_s, lambda: f"{self.program} ready: {self.http('/readyz')}\n{self.log()[-4000:]}")
        return self

    def wait_log(self, text, limit_s=30):
        wait_until(lambda: text in self.log(), limit_s, lambda: f"{text!r} in the log:\n{self.log()[-4000:]}")

    def kill(self):
        """kill -9"""
        self.process.kill()
        self.process.wait(patient(30))

    def signal(self, number):
        os.kill(self.process.pid, number)

    def terminate(self, limit_s=60):
        """SIGTERM; returns the exit status."""
        if self.alive():
            self.signal(signal.SIGTERM)
        try:
            return self.process.wait(patient(limit_s))
        except subprocess.TimeoutExpired:
            self.kill()
            raise AssertionError(f"{self.program} did not stop within {limit_s} s:\n{self.log()[-4000:]}") from None

    def wait_exit(self, limit_s=30):
        return self.process.wait(patient(limit_s))

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.held.close()
        if self.alive():
            self.signal(signal.SIGCONT)
            if "SAGAPOST_COVERAGE" in os.environ:  # the lines that it ran are written at its end (tests/coverage.py)
                self.signal(signal.SIGTERM)
                try:
                    self.wait_exit()
                    return
                except subprocess.TimeoutExpired:
                    pass
            self.kill()
