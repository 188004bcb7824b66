#!/bin/sh
# test_embed.sh EMBED: what embed.py refuses, and that what it takes comes out.
set -eu
embed=$1
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
cd "$folder"

file() { # NAME TEXT
    printf '%b' "$2" >"$1"
}

refused() { # WORDS FILE...
    words=$1
    shift
    if /usr/bin/python3 "$embed" out.h out.c "$@" 2>said; then
        echo "not refused: $*"
        exit 1
    fi
    grep -q "$words" said || {
        echo "expected '$words', got:"
        cat said
        exit 1
    }
}

file 0001_base.sql '-- part: base\nselect "a\\\\b?", $$\tx$$;\n'
file 0002_more.sql '-- part: outbox\nselect 2;\n'
file 0003_more.sql '-- part: outbox\nselect 3;\n'
file 0003_none.sql 'select 3;\n'
file 0003_other.sql '-- part: kitchen\nselect 3;\n'
file 3_short.sql '-- part: outbox\n'

refused 'no migrations' # nothing given
refused 'migration 1 is missing' 0002_more.sql
refused 'migration 2 is missing' 0001_base.sql 0003_more.sql
refused 'there twice' 0001_base.sql 0002_more.sql 0002_more.sql
refused 'first line must be' 0001_base.sql 0002_more.sql 0003_none.sql
refused 'first line must be' 0001_base.sql 0002_more.sql 0003_other.sql
refused 'NNNN_name.sql' 3_short.sql

/usr/bin/python3 "$embed" out.h out.c 0002_more.sql 0001_base.sql 0003_more.sql
grep -q '#define MIGRATION_NEWEST 3' out.h
grep -q "$(sha256sum <0001_base.sql | cut -d' ' -f1)" out.c
