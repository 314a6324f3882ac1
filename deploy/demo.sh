#!/bin/sh
# SPDX-License-Identifier: MIT
# One daemon, three trainers: builds pfeed, makes 2,000 JPEGs, decodes each once an epoch and feeds them to two ranks of job A
# and to job B at once; kills the daemon under two more jobs, and resumes one of them at another world; then checks what it claims.
# Leaves nothing behind but the build folder.
#   sh deploy/demo.sh              DATA=folder sh deploy/demo.sh (your own images, one folder per class)
# Exit code 0 only where every claim held.
set -u
# shellcheck source-path=SCRIPTDIR source=common.sh
. "$(dirname "$0")/common.sh"

epochs=3 batch=100
daemon='' trainers='' tmp='' failures=0

say() { printf '\n== %s\n' "$*"; }

die() {
    printf 'demo: %s\n' "$*" >&2
    exit 1
}

# claim TEXT COMMAND...: the command's success is the claim's truth.
claim() {
    text=$1
    shift
    if "$@"; then
        echo "  holds:          $text"
    else
        echo "  DOES NOT HOLD:  $text"
        failures=$((failures + 1))
    fi
}

cleanup() {
    trap '' INT TERM HUP
    # shellcheck disable=SC2086 # lists of process ids
    [ -z "$trainers$daemon" ] || kill $trainers $daemon 2>/dev/null
    wait
    [ -z "$tmp" ] || rm -rf "$tmp"
}
trap cleanup EXIT
trap 'exit 130' INT
trap 'exit 143' TERM HUP

ctl() { "$pfeedctl" "$@" --socket "$tmp/pfeedd.sock"; }

alive() {
    for pid in "$@"; do
        kill -0 "$pid" 2>/dev/null || return 1
    done
}

# counter FEED NAME: a feed's counter, from pfeedctl's JSON.
counter() {
    ctl feeds --json | python3 -c '
import json, sys
def feeds(node):
    if isinstance(node, dict):
        if node.get("name") == sys.argv[1]:
            yield node
        node = list(node.values())
    for child in node if isinstance(node, list) else []:
        yield from feeds(child)
def values(node):
    if isinstance(node, dict):
        if sys.argv[2] in node:
            yield node[sys.argv[2]]
        for child in node.values():
            yield from values(child)
print([value for feed in feeds(json.load(sys.stdin)) for value in values(feed)][0])' "$1" "$2"
}

# value TRAINER KEY: from the trainer's last line.
value() { sed -n "s/^train .* $2=\\([^ ]*\\).*/\\1/p" "$tmp/$1.log"; }

calculate() { python3 -c "print($1)"; }
is_true() { [ "$(calculate "$1")" = True ]; }

# start_trainer NAME ARGUMENTS...: in the background, into NAME.log.
start_trainer() {
    name=$1
    shift
    timeout 150 "$train" --socket "$tmp/pfeedd.sock" "$@" >"$tmp/$name.log" 2>&1 &
    trainers="$trainers $!"
}

# finish_trainers: waits for all of them; fails where one failed.
finish_trainers() {
    ended=0
    for pid in $trainers; do
        wait "$pid" || ended=1
    done
    trainers=
    return "$ended"
}

show_logs() {
    for name in "$@"; do
        sed "s/^/  [$name] /" "$tmp/$name.log"
    done
}

# await_epoch NAME EPOCH: until that trainer is past it, while all of them run.
await_epoch() {
    tries=0
    until grep -q "epoch $2:" "$tmp/$1.log"; do
        # shellcheck disable=SC2086
        alive $trainers || { show_logs "$1"; die "a trainer ended before $1 was past epoch $2"; }
        tries=$((tries + 1))
        [ "$tries" -lt 1200 ] || { show_logs "$1"; die "$1 did not get past epoch $2 within two minutes"; }
        sleep 0.1
    done
}

# Shows the slots once trainer A0 is past its epoch $1, while all three run.
show_slots() {
    await_epoch A0 "$1"
    say "pfeedctl slots, after epoch $1"
    ctl slots || die "pfeedctl slots failed"
    # shellcheck disable=SC2086
    alive $trainers || die "a trainer ended before the slots were shown: give the steps more time (--step-ms)"
}

shm_names() { find /dev/shm -mindepth 1 -maxdepth 1 -name '*pfeed*' 2>/dev/null | sort; }

# Processes whose command line names our temporary folder.
processes() {
    for entry in /proc/[0-9]*/cmdline; do
        case $(tr '\0' ' ' 2>/dev/null <"$entry") in
        *"$tmp"*) echo "${entry%/cmdline}" ;;
        esac
    done 2>/dev/null
}

yaml_quote() { printf "'%s'" "$(printf '%s' "$1" | sed "s/'/''/g")"; }

say "building"
# shellcheck disable=SC2086 # a list of words
need_packages $build_packages || die "could not install what the build needs"
build=$(build_folder demo)
mkdir -p "$build"
if ! { configure "$build" --buildtype=release -Dtests=true && meson compile -C "$build" pfeedd pfeedctl train mkimages; } \
    >"$build.log" 2>&1; then
    tail -n 40 "$build.log" >&2
    die "the build failed; all of its output is in $build.log"
fi
find_program() { find "$build" -type f -name "$1" -perm -u+x | head -n 1; }
pfeedd=$(find_program pfeedd) pfeedctl=$(find_program pfeedctl) train=$(find_program train) mkimages=$(find_program mkimages)
echo "$("$pfeedd" --version) in $build"

tmp=$(mktemp -d "${TMPDIR:-/tmp}/pfeed-demo.XXXXXX") || die "no temporary folder"
[ "${#tmp}" -lt 80 ] || { rmdir "$tmp"; tmp=$(mktemp -d /tmp/pfeed-demo.XXXXXX) || die "no temporary folder"; } # a socket's path is short
mkdir -m 700 "$tmp/run" "$tmp/state"
XDG_RUNTIME_DIR=$tmp/run XDG_STATE_HOME=$tmp/state
export XDG_RUNTIME_DIR XDG_STATE_HOME
shm_before=$(shm_names)

if [ -n "${DATA:-}" ]; then
    images=$(cd "$DATA" && pwd) || die "DATA=$DATA is not a folder that can be entered"
    count=$(find -L "$images" -mindepth 2 -type f \( -iname '*.jpg' -o -iname '*.jpeg' \) | wc -l)
    [ "$count" -ge 2 ] || die "DATA=$DATA has no JPEGs in folders of classes (DATA/class/picture.jpg)"
    [ "$count" -ge "$batch" ] || batch=$((count / 2 * 2)) # the two ranks of job A share each batch
    say "your images: $(find -L "$images" -type f | wc -l) files in $images"
else
    images=$tmp/images
    say "making 2,000 JPEGs in 8 classes"
    "$mkimages" --out "$images" --count 2000 --classes 8 || die "could not make the images"
fi
# A text for the second feed: this checkout's own sources, a byte a token.
find "$root/proto" "$root/client" "$root/daemon" "$root/tests" "$root/deploy" -type f \
    \( -name '*.[ch]' -o -name '*.sh' -o -name '*.md' \) -exec cat {} + >"$tmp/text.bin"

cat >"$tmp/pfeed.yaml" <<END
version: 1
daemon: { memory: 512MiB }
feeds:
  images:
    source:  { type: directory, path: $(yaml_quote "$images") }
    shuffle: { mode: global, seed: 42 }
    batch:   $batch
    tail:    drop
    gang:    3              # the first step waits for three ranks: A's two and B's
    fields:
      image:
        decode: image
        transforms:
          - random_resized_crop: { size: 64 }
          - horizontal_flip: { p: 0.5 }
          - normalize: { mean: [0.485, 0.456, 0.406], std: [0.229, 0.224, 0.225] }
        dtype:  float16
        layout: chw
      label: { dtype: int64 }
  again:                    # the same, without the gang
    source:  { type: directory, path: $(yaml_quote "$images") }
    shuffle: { mode: global, seed: 42 }
    batch:   $batch
    fields:
      image: { decode: image, transforms: [ { random_resized_crop: { size: 64 } } ], dtype: float16 }
      label: { dtype: int64 }
  text:
    source: { type: tokens, path: $(yaml_quote "$tmp/text.bin"), dtype: uint8 }
    batch:  16
    fields: { tokens: { length: 129, stride: 128, dtype: int32 } }
END

start_daemon() {
    "$pfeedd" --user --config "$tmp/pfeed.yaml" --socket "$tmp/pfeedd.sock" >>"$tmp/pfeedd.log" 2>&1 &
    daemon=$!
    tries=0
    until ctl status >"$tmp/status" 2>/dev/null; do
        alive "$daemon" || { cat "$tmp/pfeedd.log" >&2; die "pfeedd ended"; }
        tries=$((tries + 1))
        [ "$tries" -lt 300 ] || { cat "$tmp/pfeedd.log" >&2; die "pfeedd did not answer within 30 s"; }
        sleep 0.1
    done
    cat "$tmp/status"
}

say "pfeedd, with three feeds"
start_daemon

say "three trainers at once: ranks 0 and 1 of job A, rank 0 of job B; $epochs epochs"
start_trainer A0 --feed images --job A --rank 0 --world 2 --epochs $epochs --step-ms 30
start_trainer A1 --feed images --job A --rank 1 --world 2 --epochs $epochs --step-ms 30
start_trainer B0 --feed images --job B --epochs $epochs --step-ms 30
show_slots 0
show_slots 1
finish_trainers || { show_logs A0 A1 B0; tail -n 20 "$tmp/pfeedd.log"; die "a trainer failed"; }
say "what the trainers saw"
show_logs A0 A1 B0

say "and one on the text"
start_trainer T0 --feed text --epochs 1
finish_trainers || { show_logs T0; die "the trainer on the text failed"; }
show_logs T0

decoded=$(counter images rows_filled) delivered=$(counter images rows_delivered)
say "pfeedctl feeds"
ctl feeds

say "two ranks of job C and job D; after an epoch, pfeedd is killed by kill -9 and started again"
start_trainer C0 --feed again --job C --rank 0 --world 2 --epochs $epochs --step-ms 20
start_trainer C1 --feed again --job C --rank 1 --world 2 --epochs $epochs --step-ms 20
start_trainer D --feed again --job D --epochs $epochs --step-ms 20 --checkpoint "$tmp/D.token"
single=${trainers##* }
await_epoch C0 0
kill -9 "$daemon"
wait "$daemon" 2>/dev/null
start_daemon
tries=0
until [ "$(ctl jobs | grep -c running)" = 2 ]; do
    # shellcheck disable=SC2086
    alive $trainers || { show_logs C0 C1 D; die "a trainer did not outlive the daemon"; }
    tries=$((tries + 1))
    [ "$tries" -lt 600 ] || { ctl jobs; die "the jobs are not back within a minute"; }
    sleep 0.1
done
say "pfeedctl jobs: each rank has gone on at its own next step"
ctl jobs
await_epoch D 1
say "job D is ended in the middle of an epoch, and resumed by two ranks; its token:"
kill -TERM "$single"
wait "$single"
interrupted=$?
trainers=${trainers% *}
cat "$tmp/D.token"
cp "$tmp/D.token" "$tmp/D1.token"
start_trainer D0 --feed again --job D --rank 0 --world 2 --epochs $epochs --checkpoint "$tmp/D.token"
start_trainer D1 --feed again --job D --rank 1 --world 2 --epochs $epochs --checkpoint "$tmp/D1.token"
finish_trainers || { show_logs C0 C1 D D0 D1; tail -n 20 "$tmp/pfeedd.log"; die "a trainer did not outlive the daemon"; }
show_logs C0 C1 D D0 D1

say "stopping"
ctl stop || echo "pfeedctl stop failed"
tries=0
while alive "$daemon" && [ "$tries" -lt 50 ]; do
    tries=$((tries + 1))
    sleep 0.1
done
if alive "$daemon"; then
    stopped=timeout
    kill -9 "$daemon"
else
    wait "$daemon"
    stopped=$?
fi
daemon=

a0=$(value A0 rows) a1=$(value A1 rows) b0=$(value B0 rows)
say "result"
printf '  %-8s %10s %10s %10s %12s %12s\n' trainer images images/s waited 'loss, first' last
for name in A0 A1 B0; do
    printf '  %-8s %10s %10s %9s%% %12s %12s\n' "$name" "$(value $name rows)" "$(value $name rows_s)" \
        "$(calculate "round(100 * $(value $name wait_share), 1)")" "$(value $name loss_first)" "$(value $name loss_last)"
done
echo "  decoded once: $decoded images; delivered: $delivered"
echo

[ -n "${DATA:-}" ] || claim "each trainer saw its share of $epochs epochs: $a0 + $a1 and $b0 of $((epochs * 2000))" \
    is_true "$a0 == $a1 == $((epochs * 1000)) and $b0 == $((epochs * 2000))"
claim "delivered = 2 x decoded: $delivered = 2 x $decoded" is_true "$delivered == 2 * $decoded > 0"
claim "the trainers count the same: $a0 + $a1 + $b0" is_true "$a0 + $a1 + $b0 == $delivered"
claim "job B had the samples of job A, step by step" \
    is_true "(0x$(value A0 ids_hash) + 0x$(value A1 ids_hash)) % 2**64 == 0x$(value B0 ids_hash)"
claim "over the daemon's death, job C had the same again" \
    is_true "(0x$(value C0 ids_hash) + 0x$(value C1 ids_hash)) % 2**64 == 0x$(value B0 ids_hash)"
claim "job D, ended with exit code $interrupted and resumed by two ranks, had the same: $(value D rows) + $(value D0 rows) + $(value D1 rows) images" \
    is_true "(0x$(value D ids_hash) + 0x$(value D0 ids_hash) + 0x$(value D1 ids_hash)) % 2**64 == 0x$(value B0 ids_hash) and $interrupted == 130"
for name in A0 A1 B0; do # of your own images nobody knows whether so small a model can learn them
    [ -n "${DATA:-}" ] || claim "$name's loss falls: $(value $name loss_first) -> $(value $name loss_last)" \
        is_true "$(value $name loss_last) < $(value $name loss_first)"
done
claim "the text trains: $(value T0 loss_last) nats a token, below the $(calculate 'round(__import__("math").log(256), 2)') of a guess" \
    is_true "$(value T0 loss_last) < 5.5"
claim "pfeedd stopped when told, with exit code 0" [ "$stopped" = 0 ]
claim "no process is left" [ -z "$(processes)" ]
claim "no name is left in /dev/shm" [ "$(shm_names)" = "$shm_before" ]
claim "no socket is left" [ ! -e "$tmp/pfeedd.sock" ]
rm -rf "$tmp"
claim "no file is left" [ ! -e "$tmp" ]

[ "$failures" -eq 0 ] || die "$failures of the claims above did not hold"
say "all of it holds"
