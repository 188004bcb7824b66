"""Which lines of the outbox and of saga-worker the tests run: `/usr/bin/python3 tests/coverage.py [--no-run] [--missing] [SUITE...]`, suites as in run.sh.

Builds in build/coverage with gcc, runs the suites (unit, server, integration and fault without a name; some ten minutes), and prints for each
folder and file how many of the lines with code were run. --missing adds the lines that were not, by function, the longest first;
--no-run only prints what the last run left. A program that is killed tells nothing, so the daemons of the Python tests are stopped by
SIGTERM at the end of each test where SAGAPOST_COVERAGE is set."""

import argparse
import collections
import json
import os
import pathlib
import subprocess
import sys

ROOT = pathlib.Path(__file__).resolve().parents[1]
BUILD = ROOT / "build" / "coverage"
FOLDERS = ("outbox/pg", "outbox/amqp", "outbox/relay", "outbox/inbox", "saga/worker")


def folder_of(path):
    """The one of FOLDERS that a source is in or below, or None."""
    return next((folder for folder in FOLDERS if path.startswith(folder + "/")), None)


def run_suites(suites):
    for old in BUILD.rglob("*.gcda"):
        old.unlink()
    subprocess.run(
        ["sh", ROOT / "tests" / "run.sh", *suites],
        env={**os.environ, "SAGAPOST_BUILD": str(BUILD), "SAGAPOST_MESON": "-Db_coverage=true -Doptimization=0", "SAGAPOST_COVERAGE": "1"},
        check=False,  # what failed was said; what was run counts all the same
    )


def counts():
    """{source: {line: (times, function)}}; a source that is built several times is added up."""
    lines = collections.defaultdict(dict)
    for note in BUILD.rglob("*.gcno"):
        said = subprocess.run(
            ["gcov", "--json-format", "--stdout", "--object-directory", note.parent, note], capture_output=True, text=True, cwd=BUILD, check=True
        ).stdout
        for text in said.splitlines():
            for file in json.loads(text)["files"]:
                path = os.path.relpath(os.path.normpath(BUILD / file["file"]), ROOT)
                if not folder_of(path) or not path.endswith(".c"):
                    continue
                for line in file["lines"]:
                    times, _ = lines[path].get(line["line_number"], (0, None))
                    lines[path][line["line_number"]] = (times + line["count"], line.get("function_name", ""))
    return lines


def share(lines):
    run = sum(times > 0 for times, _ in lines)
    return run, len(lines), 100 * run / len(lines)


def print_figures(lines):
    for folder in FOLDERS:
        files = {path: list(of.values()) for path, of in sorted(lines.items()) if folder_of(path) == folder}
        print("%-34s %5d of %5d lines  %5.1f%%" % (folder, *share([line for of in files.values() for line in of])))
        for path, of in files.items():
            print("  %-32s %5d of %5d        %5.1f%%" % (path[len(folder) + 1 :], *share(of)))


def print_missing(lines):
    missing = collections.defaultdict(list)
    for path, of in lines.items():
        for number, (times, function) in of.items():
            if times == 0:
                missing[path, function].append(number)
    for (path, function), numbers in sorted(missing.items(), key=lambda item: -len(item[1])):
        print(f"{len(numbers):4} {path} {function}: {', '.join(map(str, sorted(numbers)))}")


def main():
    arguments = argparse.ArgumentParser(description=__doc__.split("\n", maxsplit=1)[0])
    arguments.add_argument("--no-run", action="store_true")
    arguments.add_argument("--missing", action="store_true")
    arguments.add_argument("suites", nargs="*", default=["unit", "server", "integration", "fault"])
    given = arguments.parse_args()
    if not given.no_run:
        run_suites(given.suites)
    lines = counts()
    if not lines:
        sys.exit(f"nothing in {BUILD}: run it without --no-run")
    print_figures(lines)
    if given.missing:
        print_missing(lines)


if __name__ == "__main__":
    main()
