#!/bin/sh
# books.sh: checks the shop's books (check.sql) and prints them. Exit status 1 when a rule is broken.
#
#   books.sh DATABASE [DATABASE...]
#
# PGHOST, PGPORT, PGUSER ... say where the server is. The first database has the sagas. Where the services have databases of their own,
# their tables are copied into the database shop_books, made anew, since no query reads three databases. After the last saga has ended.
set -eu
cd "$(dirname "$0")"
[ $# -gt 0 ] || {
    sed -n '2,/^set -eu/{/^set -eu/d;s/^# \{0,1\}//;p}' "$0" >&2
    exit 2
}

query() {
    psql -X -q -v ON_ERROR_STOP=1 "$@"
}

books=$1
if [ $# -gt 1 ]; then
    books=shop_books
    query -d postgres -c "set client_min_messages = warning" -c "drop database if exists $books" -c "create database $books"
    query -d $books -c "create schema shop" -c "create schema saga" -c "create table saga.instances (id uuid primary key, state text)"
    query -d "$1" -c "copy (select id, state from saga.instances) to stdout" | query -d $books -c "copy saga.instances from stdin"
    for database; do
        pg_dump -d "$database" -t 'shop.*' --no-owner --no-acl | query -d $books -o /dev/null -f -
    done
fi
query -d "$books" -f check.sql
[ "$(query -d "$books" -At -f check.sql | grep -c '|f$')" = 0 ]
