#!/bin/sh
# packages.sh: the Debian packages Sagapost needs, in one place.
#
#   packages.sh list GROUP...       prints their names
#   packages.sh install GROUP...    installs what is missing (as root, or through sudo); does nothing when all are there
#
# Groups: run (the programs), build, servers (PostgreSQL and RabbitMQ for demo, tests and benches), test, check (what CI adds).
set -eu

group() {
    case $1 in
    run) echo libpq5 librabbitmq4 libjson-c5 libmicrohttpd12 libsystemd0 libinih1 libssl3 ca-certificates ;;
    build)
        echo gcc libc6-dev meson ninja-build pkg-config python3 libpq-dev librabbitmq-dev libssl-dev libjson-c-dev \
            libmicrohttpd-dev libsystemd-dev libinih-dev
        ;;
    servers) echo postgresql postgresql-client rabbitmq-server erlang-base python3 util-linux ;;
    test)
        echo git libcmocka-dev postgresql-contrib "$(pgtap)" openssl python3-pytest python3-pytest-xdist python3-psycopg2 python3-pika python3-yaml amqp-tools spin
        ;;
    check) echo clang clang-format clang-tidy libclang-rt-dev llvm shellcheck ;;
    *)
        echo "packages.sh: \"$1\" is none of run, build, servers, test, check" >&2
        exit 2
        ;;
    esac
}

# pgTAP is packaged per major version of PostgreSQL; Debian's own is the one that `postgresql` depends on.
pgtap() {
    major=$(apt-cache show postgresql 2>/dev/null | sed -n 's/^Depends:.*postgresql-\([0-9]*\).*/\1/p' | sort -n | tail -n 1)
    echo "postgresql-${major:-15}-pgtap"
}

installed() {
    [ "$(dpkg-query -W -f '${db:Status-Status}' "$1" 2>/dev/null)" = installed ]
}

missing() {
    for name in $1; do
        installed "$name" || printf '%s ' "$name"
    done
}

as_root() {
    if [ "$(id -u)" = 0 ]; then
        "$@"
    elif command -v sudo >/dev/null 2>&1; then
        sudo "$@"
    else
        echo "packages.sh: not root and no sudo; have these installed and try again: $wanted" >&2
        exit 1
    fi
}

verb=${1:-}
[ $# -gt 1 ] || set -- "$verb" build
shift
case $verb in
list)
    for name; do group "$name"; done | tr ' ' '\n' | sort -u
    ;;
install)
    for name; do group "$name" >/dev/null; done
    wanted=$(missing "$(for name; do group "$name"; done | tr '\n' ' ')")
    [ -n "$wanted" ] || exit 0
    echo "installing: $wanted"
    as_root apt-get update -qq
    # The names once more: before the update a bare machine does not know its PostgreSQL's version.
    wanted=$(missing "$(for name; do group "$name"; done | tr '\n' ' ')")
    # shellcheck disable=SC2086  # a list of names
    as_root env DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends $wanted >/dev/null
    ;;
*)
    sed -n '2,/^set -eu/{/^set -eu/d;s/^# \{0,1\}//;p}' "$0" >&2
    exit 2
    ;;
esac
