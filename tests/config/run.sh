#!/bin/sh
# SPDX-License-Identifier: MIT
# Configurations as data: gives every case of a folder to `pfeedd --check` and compares all that it prints, byte by byte.
#   run.sh PFEEDD bad|good
# A case is NAME.yaml, or a folder NAME with pfeed.yaml, or NAME.sh, which makes pfeed.yaml in an empty folder; NAME.expect has
# the output, DIR being the folder that the case is in. Bad: exit status 78 and every error on stderr. Good: exit status 0, first
# stderr (warnings), then stdout; and what --dump-config prints loads again, dumps to the same, and says of every value where it
# comes from. PFEED_UPDATE=1 writes NAME.expect instead; read what git says has changed.
set -u
unset JOURNAL_STREAM # it would change what warnings look like
LC_ALL=C
export LC_ALL
pfeedd=$(realpath "$1") kind=$2
here=$(cd "$(dirname "$0")" && pwd -P)
least=60 # bad cases
n=0 failed=0
tmp=$(cd "$(mktemp -d)" && pwd -P) || exit 1
trap 'chmod -R u+rwx "$tmp"; rm -rf "$tmp"' EXIT
cp -R "$here/data" "$tmp/data" || exit 1

fail() {
    echo "$kind/$name: $*" >&2
    failed=$((failed + 1))
}

# Bounded, whatever the case is: 256 MiB (sanitizers reserve more than they use), and a time that only a hang takes.
run() (
    [ "${PFEED_TEST_SANITIZE:-none}" = none ] && ulimit -v 262144
    exec timeout 60 "$pfeedd" "$@" </dev/null
)

# Makes the case in $folder; $main is its first file.
prepare() {
    folder=$tmp/$name main=pfeed.yaml
    mkdir "$folder" || exit 1
    if [ -d "$1" ]; then
        cp -R "$1/." "$folder"
    elif [ "$1" = "$here/$kind/$name.sh" ]; then
        (cd "$folder" && sh -eu "$1") || fail "cannot be made"
    else
        main=$name.yaml
        cp "$1" "$folder"
    fi
}

check_dump() {
    run --dump-config --config "$main" >../dump.1 2>/dev/null || fail "--dump-config ended with $?"
    grep -vE ' # (default|[^ ].*:[0-9]+)(; auto: .*)?$|^(daemon|feeds):( \{\})?$|^    # access: ' ../dump.1 >../dump.without &&
        fail "--dump-config does not say where this comes from: $(head -n 1 ../dump.without)"
    mkdir ../again
    cp ../dump.1 ../again/pfeed.yaml
    run --dump-config --config ../again/pfeed.yaml >../dump.2 2>../dump.errors || fail "its dump does not load: $(cat ../dump.errors)"
    for i in 1 2; do
        sed -E 's/ # (default|[^"]*:[0-9]+)(; auto: .*)?$//' ../dump.$i >../dump.$i.values
    done
    diff -u ../dump.1.values ../dump.2.values >&2 || fail "the dump of its dump is another"
    rm -r ../again
}

check() {
    name=$(basename "$1") name=${name%.*}
    n=$((n + 1))
    prepare "$1"
    cd "$folder" || exit 1
    run --check "$main" >../out 2>../err
    status=$?
    [ "$kind" = good ] && cat ../out >>../err
    [ "$kind" = bad ] && [ -s ../out ] && fail "it prints on stdout: $(cat ../out)"
    sed "s|$folder|DIR|g" ../err >../got
    if [ "${PFEED_UPDATE:-}" ]; then
        cp ../got "$here/$kind/$name.expect"
    elif ! diff -u "$here/$kind/$name.expect" ../got >&2; then
        fail "what pfeedd prints is not what is expected (see above: - expected, + printed)"
    fi
    [ "$kind" = good ] && wanted=0 || wanted=78
    [ "$status" = "$wanted" ] || fail "exit status $status, not $wanted"
    [ "$kind" = good ] && check_dump
    cd "$tmp" || exit 1
}

for case in "$here/$kind"/*; do
    case $case in
    *.expect) [ -e "${case%.expect}.yaml" ] || [ -e "${case%.expect}.sh" ] || [ -d "${case%.expect}" ] || {
        name=$(basename "$case")
        fail "no case belongs to it"
    } ;;
    *) check "$case" ;;
    esac
done
echo "$n cases, $failed complaints"
[ "$kind" = good ] && least=10
if [ "$n" -lt "$least" ]; then
    echo "there must be at least $least cases" >&2
    exit 1
fi
[ "$failed" -eq 0 ]
