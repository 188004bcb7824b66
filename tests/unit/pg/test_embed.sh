#!/bin/sh
# test_embed.sh EMBED.PY: files that must stop the build, each with its reason.
set -eu
embed=$1
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT

refused() { # name, reason, text
    printf '%b' "$3" >"$folder/$1.sql"
    if /usr/bin/python3 "$embed" test "$folder/out.h" "$folder/$1.sql" 2>"$folder/err"; then
        echo "$1 was accepted" && exit 1
    fi
    grep -q -- "$1.sql: .*$2" "$folder/err" || { echo "$1 says: $(cat "$folder/err")" && exit 1; }
    [ ! -e "$folder/out.h" ] || { echo "$1 left a header" && exit 1; }
}
refused no_head 'begin with a comment' 'select 1;\n'
refused two 'more than one statement' '-- two\nselect 1; select 2'
refused none 'no statement' '-- only a comment\n;\n'
refused empty 'begin with a comment' ''
refused open_quote 'quote is not closed' "-- q\nselect 'x;\n"
refused open_name 'quote is not closed' '-- q\nselect "x;\n'
# shellcheck disable=SC2016  # the dollars are SQL's
refused open_dollar 'quote is not closed' '-- q\nselect $a$ x $b$;\n'
refused open_comment 'comment is not closed' '-- q\nselect 1 /* /* */ ;\n'
refused Upper 'must match' '-- q\nselect 1'
refused all 'is taken' '-- q\nselect 1'
refused "$(printf 'x%.0s' $(seq 60))" 'longer than 63' '-- q\nselect 1'
refused latin 'utf-8' "-- q\nselect '\\0344'"
