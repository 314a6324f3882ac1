# SPDX-License-Identifier: MIT
# shellcheck shell=sh
# Read by demo.sh and test.sh: where the checkout is, which packages the build needs, how to get them, how to configure.

root=$(cd "$(dirname "$0")/.." && pwd) || exit 1
# Debian's own tools before others (a pyenv, a conda): what is installed below is found there.
PATH=/usr/sbin:/usr/bin:/sbin:/bin:$PATH
export PATH

# shellcheck disable=SC2034 # for those who read this file
build_packages="gcc g++ libc6-dev meson ninja-build pkg-config python3 libyaml-dev libjpeg62-turbo-dev libspng-dev zlib1g-dev librandom123-dev
libsystemd-dev liburing-dev libcmocka-dev libxxhash-dev libyajl-dev"
# shellcheck disable=SC2034
test_packages="clang faketime python3-pil python3-numpy python3-yaml util-linux groff-base man-db systemd
libseccomp2 libarchive-tools libfuse3-dev spin libc6-dbg gcc-aarch64-linux-gnu libc6-dev-arm64-cross qemu-user"

as_root() {
    if [ "$(id -u)" -eq 0 ]; then
        "$@"
    elif command -v sudo >/dev/null; then
        sudo "$@"
    else
        echo "$0: needs root (or sudo) for: $*" >&2
        return 1
    fi
}

# Installs those of the named Debian packages that are missing; touches nothing where none is.
need_packages() {
    command -v dpkg-query >/dev/null || {
        echo "$0: not a Debian system; going on, and the build will say what it lacks" >&2
        return 0
    }
    missing=
    for package in "$@"; do
        [ "$(dpkg-query -W -f='${db:Status-Status}' "$package" 2>/dev/null)" = installed ] || missing="$missing $package"
    done
    [ -n "$missing" ] || return 0
    echo "installing:$missing"
    # shellcheck disable=SC2086 # a list of words
    as_root env DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends $missing ||
        { as_root apt-get update -qq &&
            as_root env DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends $missing; }
}

# Prints the build folder for NAME: build/NAME, or one of this user's own where another user (root, say) made that.
build_folder() {
    folder=$root/build/$1
    mkdir -p "$folder" 2>/dev/null
    if [ -w "$folder" ] && { [ ! -e "$folder/build.ninja" ] || [ -w "$folder/build.ninja" ]; }; then
        echo "$folder"
    else
        echo "$root/build-$(id -u)/$1"
    fi
}

# configure FOLDER OPTIONS...: sets the folder up, again where it was set up before, from nothing where that fails.
configure() {
    folder=$1
    shift
    if [ -e "$folder/build.ninja" ] && meson setup --reconfigure "$folder" "$root" "$@" >/dev/null 2>&1; then
        return 0
    fi
    rm -rf "$folder"
    meson setup "$folder" "$root" "$@"
}
