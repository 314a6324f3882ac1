#!/bin/sh
# SPDX-License-Identifier: MIT
# Makes libpfeed.a of the shared library's objects: one object, in which all that is hidden there is local, so that the inner
# names (sentence_set, wait_take) meet nothing in the program that it is linked into. Called by meson.
# usage: static.sh OUTPUT OBJCOPY AR COMPILER OBJECT...
set -e
output=$1 objcopy=$2 ar=$3
shift 3
merged=${output%.a}.merged.o
"$@" -r -nostdlib -o "$merged"
"$objcopy" --localize-hidden "$merged"
rm -f "$output"
"$ar" rcs "$output" "$merged"
