#!/bin/sh
# demo.sh: a shop takes 1,000 orders through Sagapost, from nothing: installs packages, builds, starts a private PostgreSQL and a
# private RabbitMQ, one relay and two workers, places the orders, waits until each has succeeded or was compensated, and checks
# that no piece of stock and no cent is missing. Exit status 0 only if everything balances.
#
#   sh docker/demo.sh [--keep] [--orders N] [--databases 1|3]
#
# --databases 3 gives orders, stock and payments a database each, with a relay and a worker of its own.
# --keep leaves all running and says how to look around. Nothing is written outside build/ and a temporary folder, but for the packages.
set -eu
cd "$(dirname "$0")/.."
root=$(pwd)

keep='' orders=1000 databases=1
while [ $# -gt 0 ]; do
    case $1 in
    --keep) keep=yes ;;
    --orders)
        orders=${2:?--orders wants a number}
        shift
        ;;
    --databases)
        databases=${2:?--databases wants 1 or 3}
        shift
        ;;
    *)
        sed -n '2,/^set -eu/{/^set -eu/d;s/^# \{0,1\}//;p}' "$0" >&2
        exit 2
        ;;
    esac
    shift
done
case $orders in
'' | *[!0-9]* | 0)
    echo "demo.sh: --orders: \"$orders\" is not a number of orders, 1 or more" >&2
    exit 2
    ;;
esac
case $databases in
1) homes=shop first=shop ;; # the first has the sagas
3) homes='orders stock payments' first=orders ;;
*)
    echo "demo.sh: --databases: \"$databases\" is neither 1 nor 3" >&2
    exit 2
    ;;
esac

say() {
    printf '\n\033[1m%s\033[0m\n' "$*"
}

place='' processes=''

stop_all() {
    for process in $processes; do
        kill "$process" 2>/dev/null || true
    done
    for process in $processes; do
        wait "$process" 2>/dev/null || true
    done
    [ -z "$place" ] || sh docker/sandbox.sh stop "$place" || true
    [ -z "$place" ] || rm -rf "$place"
}
trap stop_all EXIT
trap 'exit 130' INT TERM

show_logs() {
    for log in "$place"/relay-*.log "$place"/worker-*.log; do
        [ ! -f "$log" ] || { echo "--- $log" && tail -n 15 "$log"; } >&2
    done
}

say "1. Packages and build"
sh docker/packages.sh install run build servers
build=$root/build/demo
mkdir -p "$root/build"
[ -f "$build/build.ninja" ] || meson setup "$build" -Dbuildtype=release >"$root/build/demo.log" 2>&1 || {
    cat "$root/build/demo.log"
    exit 1
}
ninja -C "$build" outbox/relay/outbox-relay saga/worker/saga-worker saga/cli/sagapost | tail -n 1

say "2. A private PostgreSQL and a private RabbitMQ"
place=$(mktemp -d)
sh docker/sandbox.sh start "$place"
# shellcheck source=/dev/null
. "$place/env"
PGOPTIONS='-c client_min_messages=warning'
export PGOPTIONS
PATH=$build/outbox/relay:$build/saga/worker:$build/saga/cli:$PATH
echo "PostgreSQL on 127.0.0.1:$PGPORT, RabbitMQ on 127.0.0.1:$AMQP_PORT, all in $place"

query() {
    psql -X -q -v ON_ERROR_STOP=1 "$@"
}

# What a database has: parts of Sagapost's schema (and what these stand on), files of docker/shop, and what its workers do.
about() {
    case $1 in
    shop) parts=outbox,inbox,participant,saga files='orders stock payments order-saga roles' workers='execute,orchestrate execute,orchestrate' ;;
    orders) parts=saga files='orders order-saga roles' workers=orchestrate ;;
    stock) parts=inbox,participant files='stock roles' workers=execute ;;
    payments) parts=inbox,participant files='payments roles' workers=execute ;;
    esac
}

as() { # user, database
    echo "host=127.0.0.1 port=$PGPORT user=$1 dbname=$2"
}

say "3. The shop: schema, handlers and the order saga"
for home in $homes; do
    about "$home"
    [ "$databases" = 1 ] || echo "$home:"
    query -d postgres -c "create database $home"
    sagapost migrate --parts "$parts" --postgres "$(as postgres "$home")"
    for file in $files; do
        query -d "$home" -o /dev/null -f "docker/shop/$file.sql"
    done
done
PGDATABASE=$first
SAGAPOST_POSTGRES=$(as postgres "$first")
export PGDATABASE SAGAPOST_POSTGRES
query -At -c "select graph from saga.definitions where name = 'order'"

if [ "$databases" = 1 ]; then
    say "4. One relay and two workers"
else
    say "4. A relay and a worker for each database"
fi
for home in $homes; do
    about "$home"
    outbox-relay --postgres "$(as shop_relay "$home")" >"$place/relay-$home.log" 2>&1 &
    processes="$processes $!"
    number=0
    for roles in $workers; do
        number=$((number + 1))
        saga-worker --roles "$roles" --postgres "$(as shop_worker "$home")" >"$place/worker-$home$number.log" 2>&1 &
        processes="$processes $!"
    done
done

say "5. $orders orders"
# Each order is a transaction of its own, as a web shop would do it; four clients at once.
place_orders() {
    awk -v n="$orders" -v part="$1" 'BEGIN {
        for (i = 1; i <= n; i++)
            if (i % 4 == part)
                printf "select shop.place_order(%cORD-%d%c, %d, %cA%d%c, %d);\n", 39, i, 39, i * 7 % 100 + 1, 39, i * 13 % 20 + 1, 39, i % 3 + 1
    }' | PGUSER=shop_web query -o /dev/null -f -
}
clients=''
for part in 0 1 2 3; do
    place_orders $part &
    clients="$clients $!"
done
started=$(date +%s)
open=1
while [ "$open" != 0 ] || [ -n "$clients" ]; do
    still=''
    for client in $clients; do
        if kill -0 "$client" 2>/dev/null; then
            still="$still $client"
        else
            wait "$client" || { show_logs && exit 1; }
        fi
    done
    clients=$still
    line=$(query -At -F ' ' -c "select count(*), count(*) filter (where ended_at is null), count(*) filter (where state = 'SUCCEEDED'),
                                       count(*) filter (where state = 'COMPENSATED'), count(*) filter (where state = 'STUCK')
                                  from saga.instances")
    # shellcheck disable=SC2086  # five numbers
    set -- $line
    open=$2
    printf '   placed %5d   running %5d   succeeded %5d   compensated %5d   stuck %d\n' "$1" "$2" "$3" "$4" "$5"
    for process in $processes; do
        kill -0 "$process" 2>/dev/null || { echo "a daemon has ended" >&2 && show_logs && exit 1; }
    done
    if [ $(($(date +%s) - started)) -gt 90 ]; then
        echo "not done after 90 s; what runs still:" >&2
        sagapost saga list >&2 || true
        sagapost doctor >&2 || true
        show_logs
        exit 1
    fi
    if [ "$open" != 0 ] || [ -n "$clients" ]; then sleep 0.5; fi
done

say "6. What became of them"
query <<'SQL'
select i.state, coalesce(f.error ->> 'code', '') as "because", count(*) as orders
  from saga.instances i
  left join lateral (select s.error from saga.steps s where s.saga_id = i.id and s.error is not null limit 1) f on true
 group by 1, 2 order by 3 desc;
select count(*) as sagas, round(extract(epoch from max(ended_at) - min(started_at)), 2) as seconds,
       round(count(*) / extract(epoch from max(ended_at) - min(started_at))) as "sagas per second",
       round(1000 * percentile_cont(0.5) within group (order by extract(epoch from ended_at - started_at))) as "median ms"
  from saga.instances;
SQL

succeeded=$(query -At -c "select id from saga.instances where state = 'SUCCEEDED' order by started_at limit 1")
compensated=$(query -At -c "select id from saga.instances i where state = 'COMPENSATED'
                               and exists (select from saga.steps s where s.saga_id = i.id and s.state = 'UNDONE')
                             order by started_at limit 1")
if [ -n "$succeeded" ]; then
    say "7. One that succeeded"
    sagapost saga timeline "$succeeded"
fi
if [ -n "$compensated" ]; then
    say "8. One that was compensated"
    sagapost saga timeline "$compensated"
fi

say "9. The books"
# shellcheck disable=SC2086  # names of databases
if sh docker/shop/books.sh $homes; then balanced=yes; else balanced=''; fi

if [ -n "$keep" ]; then
    say "Everything is left running. To look around:"
    cat <<EOF
    . $place/env; export PGDATABASE=$first
    export SAGAPOST_POSTGRES='$SAGAPOST_POSTGRES' PATH=$build/saga/cli:\$PATH
    psql                                   # select * from saga.instances limit 5;
    sagapost status
    sagapost saga list --state COMPENSATED
    sagapost saga show $succeeded
    sagapost doctor
  and to stop it:
    kill $processes; sh docker/sandbox.sh stop $place; rm -rf $place
EOF
    trap - EXIT
else
    say "10. Stopping"
fi
[ -n "$balanced" ] || {
    echo "the books do not balance" >&2
    exit 1
}
echo "Every piece and every cent is accounted for."
