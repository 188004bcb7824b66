#!/bin/sh
# run.sh: the figures, measured against bare loops in the same run on the same private servers.
#
#   sh tests/bench/run.sh [relay] [writers] [saga] [--rounds N] [--messages N] [--backlog N] [--seconds N] [--held N] [--sagas N] [--live N] [--ended N]
#
# Parts can be named alone too: README.md has the list. Nothing else should run on the machine; what did is printed.
# Prints the machine, the versions and the sizes, then one line per goal: goal, measured (median, least, most), met or not.
set -eu
cd "$(dirname "$0")/../.."
sh docker/packages.sh install build servers test
build=$(pwd)/build/bench
mkdir -p "$build"
if [ ! -f "$build/build.ninja" ]; then
    meson setup "$build" -Dbuildtype=release >"$build/setup.log" 2>&1 || {
        cat "$build/setup.log"
        exit 1
    }
fi
ninja -C "$build" >"$build/ninja.log" 2>&1 || {
    tail -n 40 "$build/ninja.log"
    exit 1
}
SAGAPOST_BUILD=$build exec /usr/bin/python3 tests/bench/bench.py "$@"
