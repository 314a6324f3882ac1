#!/bin/sh
# SPDX-License-Identifier: MIT
# Every test: under gcc release, again under ASan and UBSan, those of suite `threads` again under TSan; clang must compile
# everything without a warning; and each fuzz target runs for PFEED_FUZZ_SECONDS (default 20), two at a time.
#   sh deploy/test.sh              or only some of the runs: sh deploy/test.sh release asan tsan clang fuzz
# The last line is "N passed, N failed, N skipped", over all runs; a run that does not build, or in which no test ran, counts as
# one failed. Exit code 0 only where tests passed and none failed.
set -u
# shellcheck source-path=SCRIPTDIR source=common.sh
. "$(dirname "$0")/common.sh"

passed=0 failed=0 skipped=0

finish() {
    echo "$passed passed, $failed failed, $skipped skipped"
    [ "$failed" -eq 0 ] && [ "$passed" -gt 0 ]
    exit
}

problem() {
    echo "test.sh: $*" >&2
    failed=$((failed + 1))
}

trap 'problem interrupted; finish' INT TERM HUP

# build NAME OPTIONS...: sets $folder; 1, counted, where it does not build. Of a build named fuzz only the targets.
build() {
    name=$1
    shift
    folder=$(build_folder "$name")
    printf '\n== %s: building in %s\n' "$name" "$folder"
    mkdir -p "$folder"
    # shellcheck disable=SC2046 # words
    configure "$folder" -Dtests=true "$@" >"$folder.log" 2>&1 &&
        meson compile -C "$folder" $([ "$name" != fuzz ] || fuzz_targets | cut -d ' ' -f 1) >>"$folder.log" 2>&1 && return 0
    tail -n 60 "$folder.log" >&2
    problem "$name does not build; all of the output is in $folder.log"
    return 1
}

# Adds meson's results for the tests of a suite ('' for all) to the totals. A test without a result, since meson itself ended
# early, has failed.
count() {
    totals=$(meson introspect --tests "$folder" | python3 -c '
import json, sys
log, suite = sys.argv[1:]
tests = [test for test in json.load(sys.stdin) if not suite or suite in [name.split(":")[-1] for name in test["suite"]]]
results = [json.loads(line)["result"] for line in open(log)]
passed = sum(result in ("OK", "EXPECTEDFAIL") for result in results)
skipped = sum(result in ("SKIP", "IGNORED") for result in results)
failed = len(results) - passed - skipped + max(0, len(tests) - len(results))
if not results:
    sys.exit("no results")
print(passed, failed, skipped)' "$folder/meson-logs/testlog.json" "$1") || {
        problem "$name: no test ran"
        return
    }
    echo "$name: $totals (passed, failed, skipped)"
    # shellcheck disable=SC2086 # three numbers
    set -- $totals
    passed=$((passed + $1)) failed=$((failed + $2)) skipped=$((skipped + $3))
}

# run SUITE COMMAND...: the tests of a suite ('' for all), by a command that begins with "meson test" or ends in it.
run() {
    suite=$1
    shift
    rm -f "$folder/meson-logs/testlog.json"
    "$@" -C "$folder" --no-rebuild --print-errorlogs --num-processes 2 ${suite:+--suite "$suite"}
    count "$suite"
}

# The table of suite parity: meson shows what a test that passes has printed only with -v, and then of all tests.
parity_table() {
    python3 -c '
import json, sys
for line in open(sys.argv[1]):
    test = json.loads(line)
    if ":parity / " in test["name"]:
        print(test.get("stdout", ""))' "$folder/meson-logs/testlog.json"
}

# The address-space layout of some kernels is more random than TSan bears; prints the command that makes it bear it, or fails.
tsan_prefix() {
    probe=$root/build/tsan-probe.$$
    echo 'int main(void) { return 0; }' | gcc -x c -fsanitize=thread -o "$probe" - || return 1
    for prefix in "env" "setarch $(uname -m) -R"; do
        $prefix "$probe" >/dev/null 2>&1 && echo "$prefix" && rm -f "$probe" && return 0
    done
    rm -f "$probe"
    return 1
}

# The tests of suite fuzz, a line each: name, program, corpora.
fuzz_targets() {
    meson introspect --tests "$folder" | python3 -c '
import json, sys
for test in json.load(sys.stdin):
    if "fuzz" in [name.split(":")[-1] for name in test["suite"]]:
        print(test["name"], *[word for word in test["cmd"] if not word.startswith("-")])'
}

# fuzz_one NAME PROGRAM CORPORA...: for a while; new inputs go into a folder of their own, what fails is kept and named.
fuzz_one() {
    target=$1 program=$2
    shift 2
    mkdir -p "$folder/found/$target"
    UBSAN_OPTIONS=halt_on_error=1:print_stacktrace=1 "$program" -max_total_time="${PFEED_FUZZ_SECONDS:-20}" -timeout=25 -print_final_stats=1 -artifact_prefix="$folder/found/$target-" \
        "$folder/found/$target" "$@" >"$folder/found/$target.log" 2>&1 || {
        grep -v '^#' "$folder/found/$target.log" | tail -n 40 >&2
        echo "$target has found something: $folder/found/$target.log" >&2
        return 1
    }
    echo "$target: $(sed -n 's/^stat::number_of_executed_units: *//p' "$folder/found/$target.log") runs, $(
        sed -n 's/.*\(cov: [0-9]*\).*/\1/p' "$folder/found/$target.log" | tail -n 1)"
}

# All of them, two at a time.
fuzz() {
    fuzz_targets >"$folder/fuzz-targets"
    while read -r first && { read -r second || second=; }; do
        # shellcheck disable=SC2086 # words
        fuzz_one $first &
        other=$!
        # shellcheck disable=SC2086
        if [ -n "$second" ]; then fuzz_one $second && passed=$((passed + 1)) || failed=$((failed + 1)); fi
        wait "$other" && passed=$((passed + 1)) || failed=$((failed + 1))
    done <"$folder/fuzz-targets"
    [ -s "$folder/fuzz-targets" ] || problem "there are no fuzz targets"
}

[ $# -gt 0 ] || set -- release asan tsan clang fuzz
for name in "$@"; do
    case $name in
    release | asan | tsan | clang | fuzz) ;;
    *)
        echo "usage: sh deploy/test.sh [release] [asan] [tsan] [clang] [fuzz]" >&2
        exit 2
        ;;
    esac
done

# shellcheck disable=SC2086 # a list of words
need_packages $build_packages $test_packages || {
    problem "could not install what the tests need"
    finish
}
mkdir -p "$root/build" 2>/dev/null
for name in "$@"; do
    case $name in
    release)
        CC=gcc CXX=g++ build release --buildtype=release --werror || continue
        run '' meson test
        parity_table
        ;;
    asan)
        CC=gcc CXX=g++ build asan --buildtype=debugoptimized -Db_sanitize=address,undefined -Db_lundef=false || continue
        run '' env ASAN_OPTIONS=abort_on_error=1:detect_stack_use_after_return=1 \
            UBSAN_OPTIONS=halt_on_error=1:abort_on_error=1:print_stacktrace=1 meson test --timeout-multiplier 3
        ;;
    tsan)
        CC=gcc CXX=g++ build tsan --buildtype=debugoptimized -Db_sanitize=thread -Db_lundef=false || continue
        prefix=$(tsan_prefix) || {
            problem "ThreadSanitizer does not run on this kernel"
            continue
        }
        # shellcheck disable=SC2086 # a command and its words
        run threads $prefix env TSAN_OPTIONS=halt_on_error=1:second_deadlock_stack=1 meson test --timeout-multiplier 5
        ;;
    clang)
        CC=clang CXX=clang++ build clang --buildtype=debugoptimized --werror
        ;;
    fuzz)
        CC=clang CXX=clang++ build fuzz --buildtype=debugoptimized -Dfuzz=true -Db_sanitize=address,undefined -Db_lundef=false || continue
        fuzz
        ;;
    esac
done
echo
finish
