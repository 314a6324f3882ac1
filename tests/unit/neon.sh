#!/bin/sh
# SPDX-License-Identifier: MIT
# The kernel's variant for AArch64, against the one in C: test_variants.c and the kernel are compiled for that machine and run by
# an emulator. Skipped where there is no cross compiler or no emulator.
#   neon.sh SOURCE_ROOT WORK_FOLDER [SECONDS [SEED]]
set -eu
root=$1 work=$2
shift 2
for tool in aarch64-linux-gnu-gcc qemu-aarch64; do
    command -v $tool >/dev/null || {
        echo "skipped: no $tool (Debian: gcc-aarch64-linux-gnu libc6-dev-arm64-cross qemu-user)"
        exit 77
    }
done
mkdir -p "$work"
cd "$root"
[ $# -gt 0 ] || set -- 2
set -- "$work/test_variants" "$@"
aarch64-linux-gnu-gcc -std=gnu17 -O2 -Wall -Wextra -Werror -Wno-unused-parameter -Wno-missing-field-initializers -D_GNU_SOURCE \
    -ffp-contract=off -Iproto -Idaemon -static -o "$1" tests/unit/test_variants.c daemon/transform/kernel_axis.c \
    daemon/transform/kernel_cpu.c daemon/transform/kernel_neon.c daemon/transform/kernel_scalar.c daemon/transform/kernel_turned.c \
    daemon/transform/kernel.c daemon/dtype.c daemon/log.c -lm
exec qemu-aarch64 "$@"
