#!/bin/sh
# SPDX-License-Identifier: MIT
# The protocol's models, searched to the end by spin: what is right has no error, and each seeded bug is found. lane.pml and
# feed.pml say in their heads what they model, what they leave out, and what the defines mean. Prints a line a search. By hand, the
# steps that lead to an error: run.sh trail MODEL DEFINES...
# Exit codes: 0 all as it should be, 1 not, 77 no spin here.
set -u
LC_ALL=C
export LC_ALL
here=$(cd "$(dirname "$0")" && pwd) || exit 1
failed=0 n=0

command -v spin >/dev/null || {
    echo "skipped: there is no spin here (Debian: apt-get install spin)"
    exit 77
}
tmp=$(mktemp -d) || exit 1
trap 'rm -rf "$tmp"' EXIT
trap 'exit 1' INT TERM HUP
cd "$tmp" || exit 1

# search OPTIMIZE MODEL DEFINES...: what pan prints, in the file out. Bounded in memory and depth: too little is an error below.
search() {
    optimize=$1 model=$2
    shift 2
    rm -f pan*
    spin -a "$@" "$here/$model.pml" >out 2>&1 &&
        ${CC:-cc} -w "$optimize" -DSAFETY -DCOLLAPSE -DMEMLIM=2048 -o pan pan.c >>out 2>&1 &&
        ./pan -m100000 >out 2>&1
}

if [ "${1:-}" = trail ]; then
    shift
    search -O1 "$@"
    cat out
    shift
    spin -t -p -g -k "$model.pml.trail" "$@" "$here/$model.pml"
    exit
fi

# expect WHAT MODEL DEFINES...: nothing is wrong, or the search stops at: assertion (text) | deadlock.
expect() {
    what=$1
    shift
    n=$((n + 1))
    if [ "$what" = nothing ]; then search -O1 "$@"; else search -O0 "$@"; fi # compiling takes longer than finding a bug
    errors=$(sed -n 's/^State-vector.*errors: //p' out)
    states=$(sed -n 's/^ *\([0-9.e+]*\) states, stored$/\1/p' out)
    seconds=$(sed -n 's/^pan: elapsed time \([0-9.]*\) seconds/\1/p' out)
    found=$(sed -n 's/^pan:1: \(.*\) (at depth [0-9]*)$/\1/p' out)
    [ "$found" = "invalid end state" ] && found=deadlock
    case $what in
    nothing) [ "$errors" = 0 ] && ! grep -Eq 'max search depth too small|out of memory|Search not completed' out && ok=1 || ok=0 ;;
    *) case $errors:$found in 1:*"$what"*) ok=1 ;; *) ok=0 ;; esac ;;
    esac
    if [ "$ok" = 1 ]; then
        printf '%9s states %6s s  %-48s %s\n' "$states" "$seconds" "$*" "$([ "$what" = nothing ] || echo "found: $found")"
    else
        echo "FAILED: $*: expected: $what" >&2
        grep -E '^pan:|rror|Search not completed|State-vector' out >&2
        failed=$((failed + 1))
    fi
}

written='reading[' # a slot is written that somebody reads

# The protocol as it is: no error, and nowhere left to look.
expect nothing lane -DREVOKES=0
expect nothing lane -DREVOKES=0 -DHELD=2 -DLAST1=1
expect nothing lane -DREVOKES=0 -DLAST1=1 -DDEATH
expect nothing lane -DREVOKES=2 -DLAST1=0
expect nothing lane -DREVOKES=1 -DLAST0=2 -DLAST1=1
expect nothing feed
expect nothing feed -DKILL
expect nothing feed -DALONE
expect nothing feed -DALONE -DMORTAL
expect nothing feed -DSLOTS=4 -DHELD=2 -DSTEPS=2 -DKILL
expect nothing feed -DSLOTS=5 -DHELD=3 -DKILL

# 1 reuse before return; 2 a missing fence, each of the four; 3 double return; 4 drop treated as death; 5 reconnect that waits for
# all ranks; 6 revoking without compare-and-swap.
expect "$written" lane -DREVOKES=0 -DBUG=1
expect "$written" feed -DBUG=1
for fence in 21 22 23 24; do
    expect deadlock lane -DREVOKES=0 -DBUG=$fence
done
expect "$written" feed -DALONE -DMORTAL -DBUG=3
expect "$written" feed -DALONE -DMORTAL -DBUG=4
expect deadlock feed -DKILL -DBUG=5
expect "assertion violated" lane -DREVOKES=1 -DLAST0=2 -DLAST1=1 -DBUG=6

# Ranks that step together get by with max_held slots, the rule of max_held + 2 is for those that do not; fewer are a deadlock. And
# what mark_wanted is for: slots that are begun before all ranks are back, with rows of those only that are, make one step take a
# slot a rank.
expect deadlock feed -DSLOTS=1 -DHELD=2 -DKILL
expect deadlock feed -DSLOTS=3 -DHELD=2 -DKILL -DFILL_FOR_ALL=false
expect deadlock feed -DSLOTS=5 -DHELD=3 -DKILL -DFILL_FOR_ALL=false

echo "$n searches, $failed not as they should be"
[ "$failed" -eq 0 ]
