#!/bin/sh
# contract.sh: searches every state of contract.pml, and then, of each rule that the model can leave out (BUG_...), that the search
# finds what follows. Needs spin and a C compiler.
set -eu
model=$(cd "$(dirname "$0")" && pwd)/contract.pml
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
cp "$model" "$folder"
cd "$folder"

search() { # $1: NONE, or what is left out
    spin -a -DBUG_"$1" contract.pml >spin.log 2>&1 || {
        cat spin.log
        exit 1
    }
    cc -w -DSAFETY -o pan pan.c
    ./pan -m100000 >"$1.log" 2>&1 || true
}

search NONE
# A search that was cut short proves nothing.
if ! grep -q 'errors: 0$' NONE.log || grep -qi 'search not completed\|search depth too small\|out of memory' NONE.log; then
    cat NONE.log
    spin -t -p -DBUG_NONE contract.pml | tail -n 60
    exit 1
fi
echo "contract.pml: $(sed -n 's/^ *\([0-9]*\) states, stored.*/\1/p' NONE.log) states, errors: 0"

alive=0
bugs=$(sed -n 's/^#ifdef BUG_\([A-Z_]*\).*/\1/p' contract.pml | sort -u)
for bug in $bugs; do
    search "$bug"
    if grep -q 'assertion violated' "$bug.log"; then
        echo "  without it: $bug is found"
    else
        echo "  $bug is NOT FOUND"
        alive=$((alive + 1))
    fi
done
[ "$alive" = 0 ]
