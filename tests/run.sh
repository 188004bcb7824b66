#!/bin/sh
# run.sh: installs what is missing, builds, and runs the tests. The last line reads "N passed, N failed".
#
#   sh tests/run.sh [--long] [--seed N] [SUITE...]
#
# Suites: unit (C, no server), server (C, against the private servers), sql (pgTAP), integration, fault; without a name all of them.
# --long adds the long runs, the machine's walk through all sagas of up to four steps among them. The build folder is build/test, or SAGAPOST_BUILD; SAGAPOST_MESON adds options to its set-up.
# A failing test shows what it printed; the logs stay in the build folder.
set -eu
cd "$(dirname "$0")/.."
root=$(pwd)

long='' seed='' suites=''
while [ $# -gt 0 ]; do
    case $1 in
    --long) long=--long ;;
    --seed)
        seed=${2:?--seed wants a number}
        shift
        ;;
    unit | server | sql | integration | fault) suites="$suites $1" ;;
    *)
        sed -n '2,/^set -eu/{/^set -eu/d;s/^# \{0,1\}//;p}' "$0" >&2
        exit 2
        ;;
    esac
    shift
done
[ -n "$suites" ] || suites='unit server sql integration fault'

sh docker/packages.sh install build servers test

build=${SAGAPOST_BUILD:-$root/build/test}
export SAGAPOST_BUILD="$build"
mkdir -p "$build"
if [ ! -f "$build/build.ninja" ]; then
    # shellcheck disable=SC2086  # options, one a word
    meson setup "$build" -Dfailpoints=true ${SAGAPOST_MESON:-} >"$build/setup.log" 2>&1 || {
        cat "$build/setup.log"
        exit 1
    }
fi
ninja -C "$build" >"$build/ninja.log" 2>&1 || {
    grep -A20 -E 'FAILED|error' "$build/ninja.log" | head -n 80
    echo "the build failed; all of it: $build/ninja.log"
    exit 1
}

passed=0 failed=0 sandbox=''

finish() {
    [ -z "$sandbox" ] || sh docker/sandbox.sh stop "$sandbox" || true
    [ -z "$sandbox" ] || rm -rf "$sandbox"
}
trap finish EXIT
trap 'exit 130' INT TERM

# The private servers of the suites `server` and `sql`; the Python suites start their own.
servers() {
    if [ -z "$sandbox" ]; then
        sandbox=$(mktemp -d)
        sh docker/sandbox.sh start "$sandbox"
        # shellcheck source=/dev/null
        . "$sandbox/env"
        export SAGAPOST_TEST_POSTGRES="$SAGAPOST_POSTGRES" SAGAPOST_TEST_AMQP="$SAGAPOST_AMQP" SAGAPOST_TEST_SANDBOX="$sandbox"
    fi
}

count() { # adds passed and failed, prints a line
    passed=$((passed + $2))
    failed=$((failed + $3))
    echo "$1: $2 passed, $3 failed"
}

# The exhaustive walk of the saga machine, every mix of kinds to four steps.
long_walk() {
    if "$build/tests/machine/machine-walk" --long --jobs "$(nproc)" >"$build/walk.log" 2>&1; then
        count 'machine-walk --long' 1 0
    else
        cat "$build/walk.log"
        count 'machine-walk --long' 0 1
    fi
}

meson_suite() {
    log=$build/$1.log
    # The limits are for tests that hang, not for machines that are slow.
    meson test -C "$build" --suite "$1" --num-processes 2 --timeout-multiplier 5 --print-errorlogs >"$log" 2>&1 || true
    good=$(sed -n 's/^Ok: *\([0-9]*\).*/\1/p' "$log" | tail -n 1)
    # Everything that is not Ok or expected counts: failed, unexpectedly passed, timed out. A skipped test of this suite has failed: it had all it needs.
    bad=$(sed -n 's/^\(Fail\|Unexpected Pass\|Timeout\|Skipped\): *\([0-9]*\).*/\2/p' "$log" | awk '{s += $1} END {print s + 0}')
    if [ -z "$good" ]; then
        good=0 bad=1
    fi
    [ "$bad" = 0 ] || cat "$log"
    count "$1" "$good" "$bad"
}

sql_suite() {
    log=$build/sql.log
    sh tests/sql/run.sh >"$log" 2>&1 || echo 'not ok - tests/sql/run.sh ended with an error' >>"$log"
    good=$(grep -c '^ *ok ' "$log" || true)
    bad=$(grep -c '^ *not ok' "$log" || true)
    [ "$bad" = 0 ] || grep -B2 -A12 '^ *not ok' "$log"
    [ "$((good + bad))" -gt 0 ] || bad=1
    count sql "$good" "$bad"
}

# Two at a time, each with servers of its own: these tests wait most of the time.
pytest_suite() {
    log=$build/$1.log
    # shellcheck disable=SC2086  # both may be empty
    (cd tests && /usr/bin/python3 -m pytest -q -n 2 $long ${seed:+--seed $seed} "$1") >"$log" 2>&1 || true
    last=$(grep -E '(passed|failed|error)' "$log" | tail -n 1)
    good=$(echo "$last" | sed -n 's/.*[^0-9]*\b\([0-9][0-9]*\) passed.*/\1/p')
    bad=$(echo "$last" | grep -oE '[0-9]+ (failed|error)' | awk '{s += $1} END {print s + 0}')
    [ -n "$good" ] || good=0
    [ "$((good + bad))" -gt 0 ] || bad=1
    [ "$bad" = 0 ] || cat "$log"
    count "$1" "$good" "$bad"
}

for suite in $suites; do
    case $suite in
    unit)
        meson_suite unit
        [ -z "$long" ] || long_walk
        ;;
    server)
        servers
        meson_suite server
        ;;
    sql)
        servers
        sql_suite
        ;;
    integration | fault) pytest_suite "$suite" ;;
    esac
done

echo "$passed passed, $failed failed"
[ "$failed" = 0 ]
