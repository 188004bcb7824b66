#!/bin/sh
# archive.sh: makes the static libsagapost-inbox of the house's parts: one object in which only the names of the public header are left, so that
# a program that links it gets no others into its own.
#
#   archive.sh OUTPUT CC OBJCOPY AR ARCHIVE...     the first archive whole, of the others what it needs
set -eu
output=$1 cc=$2 objcopy=$3 ar=$4 whole=$5
shift 5
$cc -r -nostdlib -o "$output.o" -Wl,--whole-archive "$whole" -Wl,--no-whole-archive -Wl,--start-group "$@" -Wl,--end-group
"$objcopy" --wildcard --keep-global-symbol='sagapost_inbox_*' "$output.o"
rm -f "$output"
"$ar" rcs "$output" "$output.o"
