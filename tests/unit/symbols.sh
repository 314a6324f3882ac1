#!/bin/sh
# SPDX-License-Identifier: MIT
# Both libraries show the names of libpfeed.map and no other.
# usage: symbols.sh NM MAP SHARED STATIC
nm=$1 map=$2
want=$(sed -n '/global:/,/local:/s/^ *\([a-z_]*\);$/\1/p' "$map" | sort)
[ -n "$want" ] || { echo "no names in $map"; exit 1; }
shared=$("$nm" -D --defined-only "$3" | sed -n 's/.* [^A] \([^@]*\).*/\1/p' | sort)
static=$("$nm" -g --defined-only "$4" | sed -n 's/^[0-9a-f]* [A-Za-z] //p' | sort)
rc=0
for kind in shared static; do
    eval "have=\$$kind"
    if [ "$have" != "$want" ]; then
        echo "the $kind library shows"; echo "$have"; echo "and $map names"; echo "$want"
        rc=1
    fi
done
exit $rc
