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
# DIR/ports, where present before the first start, names the ports: lines PGPORT=N, AMQP_PORT=N, DIST_PORT=N, EPMD_PORT=N.
# SAGAPOST_SANDBOX_POSTGRES names the folder with PostgreSQL's programs (.../bin), where it is not to be the newest that Debian's packages installed.
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

# $1 free ports of the loopback: outside of the range from which connections get theirs where there is room, and held by nobody now. RabbitMQ
# and Erlang want theirs known beforehand.
free_ports() {
    /usr/bin/python3 - "$1" <<'EOF'
import random, socket, sys

wanted = int(sys.argv[1])
try:
    with open("/proc/sys/net/ipv4/ip_local_port_range") as file:
        low, high = map(int, file.read().split())
except OSError:
    low, high = 32768, 60999
ports = [port for port in range(10000, 65536) if not low <= port <= high]
if len(ports) < 1000:
    ports = range(10000, 65536)
held = []
for port in random.sample(ports, len(ports)):
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

# When the process $1 began: with that its number is its own, also after it has ended and the number was given to another. Nothing of one that has
# ended, whether its parent has asked for its status or not.
began() {
    sed -n 's/.*) //; /^[ZX]/!p' "/proc/$1/stat" 2>/dev/null | cut -d ' ' -f 20
}

# Notes in the file $2 that the process $1 runs.
note() {
    printf '%s\n%s\n' "$1" "$(began "$1")" >"$2"
}

# Whether the process runs that note() has put into the file.
alive() {
    [ -s "$1" ] || return 1
    { read -r noted && read -r noted_began; } <"$1" || return 1
    [ -n "$noted_began" ] && [ "$(began "$noted")" = "$noted_began" ]
}

# A PostgreSQL stands in its data. (Where root may not do all, as in a container, it may not see where; PostgreSQL's user may.)
postgres_alive() {
    [ -s "$dir/postgres/data/postmaster.pid" ] || return 1
    stands=$(as_user postgres readlink "/proc/$(head -n 1 "$dir/postgres/data/postmaster.pid")/cwd") || return 1
    [ "$stands" = "$(realpath "$dir/postgres/data")" ]
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
    if [ -n "${SAGAPOST_SANDBOX_POSTGRES:-}" ]; then
        echo "$SAGAPOST_SANDBOX_POSTGRES"
        return
    fi
    # shellcheck disable=SC2012  # version folders: plain names
    newest=$(ls -d /usr/lib/postgresql/*/bin 2>/dev/null | sort -V | tail -n 1)
    [ -n "$newest" ] || newest=$(dirname "$(command -v initdb || echo /usr/bin/initdb)")
    echo "$newest"
}

postgres_start() {
    bin=$(newest_postgres)
    [ -x "$bin/initdb" ] || fail "no PostgreSQL server found in $bin: apt-get install postgresql"
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
            echo "include_if_exists = 'starting.conf'"
            [ ! -f "$dir/postgresql.conf.extra" ] || cat "$dir/postgresql.conf.extra"
        } >"$dir/postgresql.conf.added"
        as_user postgres tee -a "$dir/postgres/data/postgresql.conf" <"$dir/postgresql.conf.added" >/dev/null
    fi
    # After a crash of its own PostgreSQL would sync each file of each database before it goes on, for the case that the machine has crashed, too.
    # With the databases of a hundred tests that is a minute or more.
    starting=$dir/postgres/data/starting.conf
    echo 'fsync = off' | as_user postgres tee "$starting" >/dev/null
    as_user postgres "$bin/pg_ctl" -D "$dir/postgres/data" -l "$dir/postgres/log" -w -t 600 start \
        </dev/null >"$dir/pg_ctl.log" 2>&1 || fail "PostgreSQL did not start: see $dir/postgres/log"
    as_user postgres tee "$starting" </dev/null >/dev/null
    as_user postgres "$bin/pg_ctl" -D "$dir/postgres/data" reload >/dev/null
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
    postgres_alive || return 0
    as_user postgres "$(newest_postgres)/pg_ctl" -D "$dir/postgres/data" -m "$1" -w -t 600 stop \
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
        note $! "$dir/epmd.pid"
    fi
    cd "$home"
    rm -f "$home/console.log" # else what the former process said may be read before the new one writes
    if [ "$(id -u)" = 0 ]; then
        setsid setpriv --reuid rabbitmq --regid rabbitmq --init-groups "$bin/rabbitmq-server" \
            </dev/null >"$home/console.log" 2>&1 &
    else
        setsid "$bin/rabbitmq-server" </dev/null >"$home/console.log" 2>&1 &
    fi
    note $! "$dir/rabbitmq.pid"
    wait_for 600 rabbitmq_started || fail "RabbitMQ did not start in 600 s: see $home/console.log"
    alive "$dir/rabbitmq.pid" || fail "RabbitMQ ended while it started: see $home/console.log"
}

rabbitmq_stop() { # $1: TERM (good order) or KILL
    alive "$dir/rabbitmq.pid" || return 0
    pid=$(head -n 1 "$dir/rabbitmq.pid")
    kill "-$1" "$pid" 2>/dev/null || true
    # In good order it takes a second for each virtual host, and there may be many; killed, it may forget a queue it has just declared.
    if ! wait_for 600 gone "$dir/rabbitmq.pid"; then
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
    chosen=yes
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

# The servers that the verb $1 starts; of the others of its arguments, $2 and $3, what it wants to know.
start_servers() {
    case $1 in
    start)
        # RabbitMQ takes seconds to start, so PostgreSQL starts beside it.
        (rabbitmq_start) &
        rabbitmq_job=$!
        (postgres_start) &
        postgres_job=$! failed=''
        wait $rabbitmq_job || failed=yes
        wait $postgres_job || failed=yes
        [ -z "$failed" ] || exit 1
        ;;
    start-postgres) postgres_start ;;
    start-standby)
        postgres_copy "$2" "$3"
        postgres_start
        ;;
    start-node) rabbitmq_start "$2" ;;
    esac
}

stop_servers() {
    rabbitmq_stop "$1"
    postgres_stop "$2"
    if alive "$dir/epmd.pid"; then
        kill "$(head -n 1 "$dir/epmd.pid")" 2>/dev/null || true
    fi
    rm -f "$dir/epmd.pid"
}

# Whether a server found that its port was another's.
port_was_taken() {
    [ -f "$dir/epmd.pid" ] && gone "$dir/epmd.pid" || # it says nothing
        grep -qs 'Address already in use' "$dir/postgres/log" ||
        grep -qsi 'eaddrinuse\|address in use\|port .* in use' "$dir/rabbitmq/console.log"
}

# A port that was free when it was chosen may be taken by the time its server comes to it: then all is done again with others.
start_anew() {
    tries=5
    while :; do
        chosen=
        choose_ports
        [ "$1" != start-node ] || [ -z "$2" ] || join_ports "$2"
        read_ports
        write_env
        (start_servers "$@") & # and not as a condition: there -e would not hold
        if wait $!; then return; fi
        tries=$((tries - 1))
        [ "$chosen" = yes ] && [ "$tries" -gt 0 ] && port_was_taken || exit 1
        echo "$program: once more, on other ports" >&2
        stop_servers KILL immediate
        rm -rf "$dir/postgres" "$dir/rabbitmq" "$dir/ports" "$dir/env"
    done
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
    start_anew "$verb"
    ;;
start-standby)
    [ $# = 4 ] || usage
    use_folder "$2"
    start_anew "$verb" "$3" "$4"
    ;;
start-node)
    use_folder "${2:-}"
    start_anew "$verb" "${3:-}"
    ;;
stop)
    use_folder "${2:-}"
    read_ports
    stop_servers TERM fast
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
