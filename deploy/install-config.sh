#!/bin/sh
# SPDX-License-Identifier: MIT
# install-config.sh SAMPLE TARGET: run by `meson install`; puts the sample configuration in place unless there is one already.
set -eu
target=${DESTDIR:-}$2
if [ -e "$target" ]; then
    echo "Keeping $target"
    exit 0
fi
echo "Installing $1 to $target"
install -D -m 644 "$1" "$target"
