#!/bin/sh
# run.sh: the SQL tests, on the server that the PG* variables name, as a superuser.
#
#   sh tests/sql/run.sh [FILE...]
#
# Each file gets a database of its own, with pgTAP, dblink and all migrations (applied there: a position names its database). Prints one TAP
# stream per file, the file's name before it as a comment, and at the end what failed. A file that stops early, or whose plan is not kept,
# is a failed test.
set -eu
cd "$(dirname "$0")/../.."
export PGOPTIONS="-c client_min_messages=warning ${PGOPTIONS:-}"
export PSQLRC=/dev/null PGDATABASE="${PGDATABASE:-postgres}"

[ $# -gt 0 ] || set -- tests/sql/*.sql
prefix=sagapost_sql_$$
template=${prefix}_template
copy=${prefix}_test
output=$(mktemp)

run_psql() { # DATABASE ARGUMENTS...
    database=$1
    shift
    psql -X -q -v ON_ERROR_STOP=1 -d "$database" "$@"
}

finish() {
    rm -f "$output"
    dropdb --if-exists --force "$copy"
    dropdb --if-exists --force "$template"
}
trap finish EXIT
trap 'exit 130' INT TERM

createdb --encoding UTF8 --template template0 "$template"
run_psql "$template" -c 'create extension pgtap' -c 'create extension dblink'
# 0 when the stream is whole and nothing failed: a plan, as many results as it says, in order, all of them ok.
judge() { # FILE
    awk '
        /^1\.\.[0-9]+$/ { planned = substr($0, 4) + 0; plans++ }
        /^(not )?ok / { number = ($1 == "not") ? $3 : $2; if (number != ++seen) disorder = 1 }
        /^not ok / { if ($0 !~ /# *(TODO|todo)/) failed++ }
        END { exit !(plans == 1 && planned == seen && !disorder && !failed) }' "$1"
}

migrations=''
for migration in migrations/[0-9]*.sql; do
    migrations="$migrations -f $migration"
done

failures=''
for file; do
    createdb --template "$template" "$copy"
    echo "# $file"
    status=0
    # shellcheck disable=SC2086  # options, one a word
    { run_psql "$copy" -1 -o /dev/null $migrations && run_psql "$copy" -A -t -f "$file"; } >"$output" 2>&1 || status=$?
    cat "$output"
    if [ "$status" != 0 ] || ! judge "$output"; then
        grep -q '^not ok ' "$output" || echo "not ok - $file stopped early or did not keep its plan"
        failures="$failures $file"
    fi
    dropdb --force "$copy"
done

[ -z "$failures" ] || {
    echo "# failed:$failures"
    exit 1
}
