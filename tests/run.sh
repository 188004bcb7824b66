#!/bin/sh
# run.sh: installs what is missing, builds, and runs the tests. The last line reads "N passed, N failed".
#
#   sh tests/run.sh [--long] [--seed N] [SUITE...]
#
# Suites: unit (C, no server), server (C, against the private servers), sql (pgTAP), integration, fault; without a name all of them.
# --long adds the long runs, the machine's walk through all sagas of up to four steps among them. The build folder is build/test, or SAGAPOST_BUILD; SAGAPOST_MESON adds options to its set-up.
# Of the tests that fail it shows the first few in full, and at the end, before the counts, the names of all with a line each of the reason. The whole
# logs stay in the build folder: SUITE.log.
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

names_most=40 # a CI shows the end of a long output only
passed=0 failed=0 sandbox=''
: >"$build/failed" # the names of the failed tests, of all suites

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
        tail -n 100 "$build/walk.log"
        tail -n 1 "$build/walk.log" | name walk
        count 'machine-walk --long' 0 1
    fi
}

# Adds to the names of the failed tests those on standard input, of the suite $1, whose whole log is said, too.
name() {
    sed "s/^/$1: /" >>"$build/failed"
    echo "$1: all of it is in $build/$1.log"
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
    if [ "$bad" != 0 ]; then
        grep -vE '^(▶)? *[0-9]+/[0-9]+ .* (OK|EXPECTEDFAIL) ' "$log" | tail -n 400
        { grep -E '^(▶)? *[0-9]+/[0-9]+ .* (FAIL|UNEXPECTEDPASS|TIMEOUT|SKIP|ERROR|INTERRUPT) ' "$log" || tail -n 1 "$log"; } | sort -u | name "$1"
    fi
    count "$1" "$good" "$bad"
}

sql_suite() {
    log=$build/sql.log
    sh tests/sql/run.sh >"$log" 2>&1 || echo 'not ok - tests/sql/run.sh ended with an error' >>"$log"
    good=$(grep -c '^ *ok ' "$log" || true)
    bad=$(grep -c '^ *not ok' "$log" || true)
    [ "$((good + bad))" -gt 0 ] || bad=1
    if [ "$bad" != 0 ]; then
        grep -B2 -A12 '^ *not ok' "$log" | head -n 200
        { grep '^ *not ok' "$log" || echo 'no test has run'; } | name sql
    fi
    count sql "$good" "$bad"
}

# Two at a time, each with servers of its own: these tests wait most of the time.
pytest_suite() {
    log=$build/$1.log digest=$build/$1
    rm -f "$digest.counts" "$digest.failed" "$digest.failures"
    ended=0
    # shellcheck disable=SC2086  # both may be empty
    (cd tests && /usr/bin/python3 -m pytest -q -n 2 --digest "$digest" $long ${seed:+--seed $seed} "$1") >"$log" 2>&1 || ended=$?
    good=0 bad=0
    [ ! -f "$digest.counts" ] || read -r good bad <"$digest.counts"
    [ "$bad" = 0 ] || cat "$digest.failures"
    [ "$bad" = 0 ] || name "$1" <"$digest.failed"
    if [ "$((good + bad))" = 0 ] || [ "$ended" -gt 1 ]; then # 1: tests have failed; else something worse
        bad=$((bad + 1))
        tail -n 60 "$log"
        echo "pytest ended with $ended: $(tail -n 1 "$log")" | name "$1"
    fi
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

if [ -s "$build/failed" ]; then
    echo
    head -n "$names_most" "$build/failed"
    more=$(($(wc -l <"$build/failed") - names_most))
    [ "$more" -le 0 ] || echo "and $more more: $build/failed"
fi
echo "$passed passed, $failed failed"
[ "$failed" = 0 ]
