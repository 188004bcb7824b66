#!/bin/sh
# sandbox.sh: a private PostgreSQL and a private RabbitMQ in one folder, on free loopback ports. Needs no engine of containers and
# touches nothing outside the folder. The demo, the tests and the benches all stand on it.
#
#   sandbox.sh start DIR                       both servers, up and ready; writes DIR/env
#   sandbox.sh start-postgres DIR              PostgreSQL alone
#   sandbox.sh start-standby DIR PRIMARY NAME  a streaming standby of the PostgreSQL in the folder PRIMARY, known to it by NAME
#   sandbox.sh start-node DIR [FIRST]          RabbitMQ alone, or as one more node of the cluster of that in the folder FIRST
#   sandbox.sh stop DIR                        both, in good order; the folder stays
#   sandbox.sh postgres start|stop|kill DIR    one of them; kill is SIGKILL for RabbitMQ and an immediate
#   sandbox.sh rabbitmq start|stop|kill DIR    shutdown (a crash: no checkpoint) for PostgreSQL
#   sandbox.sh ctl DIR ARGUMENTS...            rabbitmqctl of this node
#
# DIR/env holds lines of sh: SAGAPOST_POSTGRES and SAGAPOST_AMQP (what the programs take), PGHOST PGPORT PGUSER PGDATABASE (what
# psql takes), AMQP_PORT. Servers keep their ports over a restart. As root they run as users postgres and rabbitmq.
# SAGAPOST_SANDBOX_PORTS="LOW HIGH" names the ports to choose from, for sandboxes that start at the same time.
# DIR/postgresql.conf.extra and DIR/rabbitmq.conf.extra, where present before the first start, are added to the configuration.
set -eu

program=$(basename "$0")

fail() {
    echo "$program: $*" >&2
    exit 1
}

# Runs the rest as user $1 when we are root, else as we are.
as_user() {
    user=$1
    shift
    if [ "$(id -u)" = 0 ]; then
        setpriv --reuid "$user" --regid "$user" --init-groups "$@"
    else
        "$@"
    fi
}

# $1 free ports of the loopback, below the range from which connections get theirs. RabbitMQ and Erlang want theirs known beforehand.
free_ports() {
    # shellcheck disable=SC2086  # two words
    /usr/bin/python3 - "$1" ${SAGAPOST_SANDBOX_PORTS:-20000 32000} <<'EOF'
import random, socket, sys

wanted, low, high = map(int, sys.argv[1:])
held = []
for port in random.sample(range(low, high), high - low):
    s = socket.socket()
    try:
        s.bind(("127.0.0.1", port))
    except OSError:
        s.close()
        continue
    held.append(s)
    if len(held) == wanted:
        break
print(*(s.getsockname()[1] for s in held))
EOF
}

alive() {
    [ -s "$1" ] && kill -0 "$(head -n 1 "$1")" 2>/dev/null
}

gone() {
    ! alive "$1"
}

# Waits up to $1 seconds for the command in the other arguments to succeed.
wait_for() {
    tries=$(($1 * 20))
    shift
    until "$@"; do
        tries=$((tries - 1))
        [ "$tries" -gt 0 ] || return 1
        sleep 0.05
    done
}

newest_postgres() {
    # shellcheck disable=SC2012  # version folders: plain names
    newest=$(ls -d /usr/lib/postgresql/*/bin 2>/dev/null | sort -V | tail -n 1)
    [ -n "$newest" ] || newest=$(dirname "$(command -v initdb || echo /usr/bin/initdb)")
    echo "$newest"
}

postgres_start() {
    bin=$(newest_postgres)
    [ -x "$bin/initdb" ] || fail "no PostgreSQL server found: apt-get install postgresql"
    if [ ! -d "$dir/postgres/data" ]; then
        mkdir -p "$dir/postgres"
        [ "$(id -u)" != 0 ] || chown postgres:postgres "$dir/postgres"
        as_user postgres "$bin/initdb" -D "$dir/postgres/data" -U postgres -A trust -E UTF8 --locale=C.UTF-8 \
            --no-instructions >"$dir/initdb.log" 2>&1 || fail "initdb failed: see $dir/initdb.log"
        {
            echo "listen_addresses = '127.0.0.1'"
            echo "port = $PGPORT"
            echo "unix_socket_directories = ''"
            echo "max_connections = 120"
            echo "max_prepared_transactions = 10"
            echo "shared_buffers = 256MB"
            echo "max_wal_size = 4GB"
            echo "log_line_prefix = '%m [%p] %a '"
            [ ! -f "$dir/postgresql.conf.extra" ] || cat "$dir/postgresql.conf.extra"
        } >"$dir/postgresql.conf.added"
        as_user postgres tee -a "$dir/postgres/data/postgresql.conf" <"$dir/postgresql.conf.added" >/dev/null
    fi
    as_user postgres "$bin/pg_ctl" -D "$dir/postgres/data" -l "$dir/postgres/log" -w -t 180 start \
        </dev/null >"$dir/pg_ctl.log" 2>&1 || fail "PostgreSQL did not start: see $dir/postgres/log"
}

# A copy of the PostgreSQL in the folder $1, which follows it under the name $2.
postgres_copy() {
    bin=$(newest_postgres)
    [ ! -d "$dir/postgres/data" ] || return 0
    # shellcheck source=/dev/null
    primary=$(. "$1/ports" && echo "host=127.0.0.1 port=$PGPORT user=postgres")
    mkdir -p "$dir/postgres"
    [ "$(id -u)" != 0 ] || chown postgres:postgres "$dir/postgres"
    as_user postgres "$bin/pg_basebackup" -D "$dir/postgres/data" -d "$primary" -R -c fast -X stream \
        </dev/null >"$dir/pg_basebackup.log" 2>&1 || fail "pg_basebackup failed: see $dir/pg_basebackup.log"
    printf 'port = %s\ncluster_name = %s\n' "$PGPORT" "$2" | as_user postgres tee -a "$dir/postgres/data/postgresql.conf" >/dev/null
}

postgres_stop() { # $1: fast, or immediate
    alive "$dir/postgres/data/postmaster.pid" || return 0
    as_user postgres "$(newest_postgres)/pg_ctl" -D "$dir/postgres/data" -m "$1" -w -t 180 stop \
        </dev/null >"$dir/pg_ctl.log" 2>&1 || fail "PostgreSQL did not stop: see $dir/postgres/log"
}

rabbitmq_environment() {
    home=$dir/rabbitmq
    export HOME="$home"
    export RABBITMQ_NODENAME="sagapost$AMQP_PORT@localhost"
    export RABBITMQ_NODE_PORT="$AMQP_PORT" RABBITMQ_DIST_PORT="$DIST_PORT"
    export RABBITMQ_MNESIA_BASE="$home/mnesia" RABBITMQ_LOG_BASE="$home/log"
    export RABBITMQ_CONFIG_FILE="$home/rabbitmq.conf" RABBITMQ_ENABLED_PLUGINS_FILE="$home/enabled_plugins"
    export RABBITMQ_CONF_ENV_FILE=/dev/null
    export RABBITMQ_SERVER_ADDITIONAL_ERL_ARGS="-kernel inet_dist_use_interface {127,0,0,1}"
    export ERL_EPMD_PORT="$EPMD_PORT" ERL_EPMD_ADDRESS=127.0.0.1
    # The start script then becomes the node itself, so that its process id is the node's.
    export RUNNING_UNDER_SYSTEMD=true
}

rabbitmq_started() {
    grep -q 'Server startup complete\|completed with [0-9]* plugins' "$home/console.log" 2>/dev/null ||
        gone "$dir/rabbitmq.pid"
}

rabbitmq_start() { # $1: of a further node of a cluster at its first start, the first one's folder
    bin=/usr/lib/rabbitmq/bin
    [ -x "$bin/rabbitmq-server" ] || fail "no RabbitMQ server found: apt-get install rabbitmq-server"
    gone "$dir/rabbitmq.pid" || return 0
    rabbitmq_environment
    if [ ! -d "$home" ]; then
        mkdir -p "$home/mnesia" "$home/log"
        {
            echo "listeners.tcp.local = 127.0.0.1:$AMQP_PORT"
            echo "disk_free_limit.absolute = 50MB"
            echo "log.console = true"
            echo "log.console.level = info"
            [ ! -f "$dir/rabbitmq.conf.extra" ] || cat "$dir/rabbitmq.conf.extra"
            [ -z "${CLUSTER_NODE:-}" ] || echo "cluster_formation.classic_config.nodes.1 = $CLUSTER_NODE"
        } >"$home/rabbitmq.conf"
        echo '[].' >"$home/enabled_plugins"
        [ -z "${CLUSTER_NODE:-}" ] || install -m 400 "$1/rabbitmq/.erlang.cookie" "$home/.erlang.cookie"
        [ "$(id -u)" != 0 ] || chown -R rabbitmq:rabbitmq "$home"
    fi
    if [ -z "${CLUSTER_NODE:-}" ] && gone "$dir/epmd.pid"; then # nodes of a cluster share the first one's
        setsid epmd -port "$EPMD_PORT" -address 127.0.0.1 </dev/null >/dev/null 2>&1 &
        echo $! >"$dir/epmd.pid"
    fi
    cd "$home"
    rm -f "$home/console.log" # else what the former process said may be read before the new one writes
    if [ "$(id -u)" = 0 ]; then
        setsid setpriv --reuid rabbitmq --regid rabbitmq --init-groups "$bin/rabbitmq-server" \
            </dev/null >"$home/console.log" 2>&1 &
    else
        setsid "$bin/rabbitmq-server" </dev/null >"$home/console.log" 2>&1 &
    fi
    echo $! >"$dir/rabbitmq.pid"
    wait_for 150 rabbitmq_started || fail "RabbitMQ did not start in 150 s: see $home/console.log"
    alive "$dir/rabbitmq.pid" || fail "RabbitMQ ended while it started: see $home/console.log"
}

rabbitmq_stop() { # $1: TERM (good order) or KILL
    alive "$dir/rabbitmq.pid" || return 0
    pid=$(cat "$dir/rabbitmq.pid")
    kill "-$1" "$pid" 2>/dev/null || true
    # In good order it takes a second for each virtual host, and there may be many; killed, it may forget a queue it has just declared.
    if ! wait_for 150 gone "$dir/rabbitmq.pid"; then
        kill -KILL "$pid" 2>/dev/null || true
        wait_for 10 gone "$dir/rabbitmq.pid" || fail "RabbitMQ (process $pid) does not end"
    fi
    rm -f "$dir/rabbitmq.pid"
}

choose_ports() {
    [ ! -f "$dir/ports" ] || return 0
    mkdir -p "$dir"
    # The servers' own users have to pass through to their folders.
    [ "$(id -u)" != 0 ] || chmod 755 "$dir"
    # shellcheck disable=SC2046  # four words on purpose
    set -- $(free_ports 4)
    [ $# = 4 ] || fail "no free ports on the loopback"
    printf 'PGPORT=%s\nAMQP_PORT=%s\nDIST_PORT=%s\nEPMD_PORT=%s\n' "$1" "$2" "$3" "$4" >"$dir/ports"
}

# The node is to find the cluster of the folder $1: by its name, and by the Erlang port mapper that knows it.
join_ports() {
    ! grep -q '^CLUSTER_NODE=' "$dir/ports" || return 0
    (
        # shellcheck source=/dev/null
        . "$1/ports"
        printf 'EPMD_PORT=%s\nCLUSTER_NODE=sagapost%s@localhost\n' "$EPMD_PORT" "$AMQP_PORT"
    ) >>"$dir/ports"
}

read_ports() {
    [ -f "$dir/ports" ] || fail "$dir is no sandbox: start it first"
    # shellcheck source=/dev/null
    . "$dir/ports"
}

write_env() {
    {
        echo "SAGAPOST_POSTGRES='host=127.0.0.1 port=$PGPORT user=postgres dbname=postgres'"
        echo "SAGAPOST_AMQP=amqp://guest:guest@127.0.0.1:$AMQP_PORT/%2f"
        echo "PGHOST=127.0.0.1"
        echo "PGPORT=$PGPORT"
        echo "PGUSER=postgres"
        echo "PGDATABASE=postgres"
        echo "AMQP_PORT=$AMQP_PORT"
        echo "export SAGAPOST_POSTGRES SAGAPOST_AMQP PGHOST PGPORT PGUSER PGDATABASE AMQP_PORT"
    } >"$dir/env"
}

usage() {
    sed -n '2,/^set -eu/{/^set -eu/d;s/^# \{0,1\}//;p}' "$0" >&2
    exit 2
}

# An absolute path: RabbitMQ changes folders.
use_folder() {
    [ -n "${1:-}" ] || usage
    dir=$1
    case $dir in
    /*) ;;
    *) dir=$(pwd)/$dir ;;
    esac
}

verb=${1:-}
case $verb in
start | start-postgres)
    use_folder "${2:-}"
    choose_ports
    read_ports
    write_env
    # RabbitMQ takes seconds to start, so PostgreSQL starts beside it.
    if [ "$verb" = start ]; then
        (rabbitmq_start) &
        rabbitmq_job=$!
        postgres_start
        wait $rabbitmq_job || exit 1
    else
        postgres_start
    fi
    ;;
start-standby)
    [ $# = 4 ] || usage
    use_folder "$2"
    choose_ports
    read_ports
    write_env
    postgres_copy "$3" "$4"
    postgres_start
    ;;
start-node)
    use_folder "${2:-}"
    choose_ports
    [ -z "${3:-}" ] || join_ports "$3"
    read_ports
    write_env
    rabbitmq_start "${3:-}"
    ;;
stop)
    use_folder "${2:-}"
    read_ports
    rabbitmq_stop TERM
    postgres_stop fast
    if alive "$dir/epmd.pid"; then
        kill "$(cat "$dir/epmd.pid")" 2>/dev/null || true
    fi
    rm -f "$dir/epmd.pid"
    ;;
postgres | rabbitmq)
    use_folder "${3:-}"
    read_ports
    case $verb-${2:-} in
    postgres-start) postgres_start ;;
    postgres-stop) postgres_stop fast ;;
    postgres-kill) postgres_stop immediate ;;
    rabbitmq-start) rabbitmq_start ;;
    rabbitmq-stop) rabbitmq_stop TERM ;;
    rabbitmq-kill) rabbitmq_stop KILL ;;
    *) usage ;;
    esac
    ;;
ctl)
    use_folder "${2:-}"
    read_ports
    shift 2
    rabbitmq_environment
    cd "$home"
    as_user rabbitmq /usr/lib/rabbitmq/bin/rabbitmqctl -n "$RABBITMQ_NODENAME" "$@"
    ;;
*) usage ;;
esac
