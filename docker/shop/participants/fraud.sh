#!/bin/sh
# fraud.sh: checks customers for the order saga: the action fraud.check, with psql and the amqp-consume of amqp-tools.
#
# PGHOST, PGDATABASE, PGUSER ... say where the database is, AMQP_URI where RabbitMQ is. amqp-consume runs this file once more for each
# command and acknowledges it when that run ends well. It ends when its connection is lost: whoever keeps it running starts it again.
set -eu
[ "${1:-}" = take ] || exec amqp-consume -u "$AMQP_URI" -q saga.commands.fraud -p 10 sh "$0" take

COMMAND=$(mktemp) # and no variable: a command can be larger than one may be
export COMMAND
trap 'rm -f "$COMMAND"' EXIT
cat >"$COMMAND"

run() {
    psql -X -q -o /dev/null -v ON_ERROR_STOP=1 -f "$1"
}

for pause in 0.1 0.2 0.4 0.8; do
    if run "${0%.sh}.sql"; then exit 0; fi # acknowledged only now
    sleep "$pause"
done
# Giving up: the saga goes on by the step's own policy.
if run - <<'SQL'; then
\set command `cat "$COMMAND"`
select saga.reply(:'command', 'transient', '{"code": "given_up", "message": "psql failed, see the log"}');
SQL
    exit 0
elif [ $? = 3 ]; then
    # Nobody can read it. amqp-consume cannot reject, so it is put where rejected ones go.
    amqp-publish -u "$AMQP_URI" -e saga.dead -r fraud.check -p <"$COMMAND"
else
    # The database is away: amqp-consume ends, and what it holds is delivered again. Where it has ended before us its number may be another's.
    if grep -q "^PPid:[[:space:]]*$PPID\$" "/proc/$$/status"; then kill "$PPID"; fi
    exit 1
fi
