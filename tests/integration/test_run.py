"""tests/run.sh itself: what it says last of a suite that has failed, and that it does not take the end of pytest for a success."""

import os
import shutil
import subprocess

import pytest

from harness.sandbox import ROOT
from harness.wait import patient

CAUSE_AND_CASCADE = """
import pytest

@pytest.fixture
def server(): raise RuntimeError("the server is away")

@pytest.mark.parametrize("n", range(60))
def test_after(server, n): pass

def test_cause():
    print("the cause, as it was said")
    assert 1 == 2, "the cause"

@pytest.fixture
def log():
    yield
    print("what a daemon has logged")

def test_other(log): raise ValueError("first line\\nsecond line")

def test_good(): pass
"""


@pytest.fixture
def run(tmp_path):
    """run(text, ...) -> (exit status, lines): run.sh in a tree where `integration` is this file, and nothing is to be built."""
    for folder in ("tests/integration", "docker", "build"):
        (tmp_path / folder).mkdir(parents=True)
    for name in ("run.sh", "conftest.py", "pytest.ini"):
        shutil.copy(ROOT / "tests" / name, tmp_path / "tests")
    (tmp_path / "tests" / "harness").symlink_to(ROOT / "tests" / "harness")
    (tmp_path / "docker" / "packages.sh").write_text("")
    (tmp_path / "build" / "build.ninja").write_text("build all: phony\n")

    def start(text, *arguments):
        (tmp_path / "tests" / "integration" / "test_it.py").write_text(text)
        done = subprocess.run(
            ["sh", "tests/run.sh", *arguments, "integration"], cwd=tmp_path, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
            env={**{k: v for k, v in os.environ.items() if not k.startswith("PYTEST_")}, "SAGAPOST_BUILD": str(tmp_path / "build")},
            text=True, timeout=patient(60), check=False,
        )
        return done.returncode, done.stdout.splitlines()

    return start


def test_causes_come_before_what_follows_from_them(run, tmp_path):
    status, lines = run(CAUSE_AND_CASCADE)
    assert (status, lines[-1]) == (1, "1 passed, 62 failed"), lines
    assert lines[-2] == f"and 22 more: {tmp_path}/build/failed"
    names = lines[-42:-2]
    assert sorted(names[:2]) == [  # two tests run side by side: either may be the first to end
        "integration: FAILED integration/test_it.py::test_cause - AssertionError: the cause",
        "integration: FAILED integration/test_it.py::test_other - ValueError: first line",
    ]
    assert "integration: ERROR integration/test_it.py::test_after[0] (at setup) - RuntimeError: the server is away" in names[2:], names
    assert all("(at setup)" in line for line in names[2:])
    shown = "\n".join(lines[:-42])
    assert "the cause, as it was said" in shown and "what a daemon has logged" in shown
    assert [line for line in lines if line.startswith("==== ")][0].startswith("==== FAILED")
    assert shown.count("\n==== ") + shown.startswith("==== ") == 5
    assert f"integration: all of it is in {tmp_path}/build/integration.log" in lines


def test_a_run_that_ends_before_its_end(run):
    status, lines = run("import os, pytest\n\ndef test_it(): os._exit(3)\n")
    assert status == 1 and lines[-1] == "0 passed, 1 failed" and "crashed" in lines[-2], lines
    status, lines = run("this is no Python")
    assert status == 1 and lines[-1].endswith(" failed") and not lines[-1].endswith(" 0 failed"), lines
    assert any("SyntaxError" in line for line in lines[-4:]), lines
    status, lines = run("")
    assert status == 1 and lines[-1] == "0 passed, 1 failed" and "pytest ended with 5" in lines[-2], lines
    status, lines = run("def test_it(): pass\n")
    assert status == 0 and lines == ["integration: 1 passed, 0 failed", "1 passed, 0 failed"], lines
