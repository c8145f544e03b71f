#!/bin/bash
# Installs what building and testing need and this machine lacks: with apt-get, on Debian and Ubuntu. Elsewhere, and
# without root, it says what is missing. A tool that is there counts, wherever it came from. With --test, what the tests
# need besides.
set -euo pipefail

for_tests=
if [[ ${1-} == --test ]]; then
    for_tests=1
fi

# Who needs what: clang compiles the XDP program (and libclang reads headers for bindgen in libxdp-sys); libxdp-sys and
# libbpf-sys build their C libraries with m4, make, gcc, binutils and pkg-config against libelf and zlib; demo and tests
# make network namespaces with iproute2.
tools=(clang:clang m4:m4 make:make cc:gcc ld:binutils objcopy:binutils ar:binutils pkg-config:pkg-config ip:iproute2)
# The tests open HTML pages in a browser without a window; with a font, as text without one has no size.
browsers=(chromium chromium-browser google-chrome)
headers=(stdlib.h:libc6-dev linux/if_xdp.h:linux-libc-dev gelf.h:libelf-dev zlib.h:zlib1g-dev)

# Prints the packages of what is missing, one a line.
missing() {
    local need
    PATH=$PATH:/usr/sbin:/sbin
    for need in "${tools[@]}"; do
        command -v "${need%%:*}" >/dev/null || echo "${need#*:}"
    done
    for need in "${headers[@]}"; do
        # Without a compiler nothing can be said, and dpkg is asked.
        if command -v cc >/dev/null; then
            echo "#include <${need%%:*}>" | cc -E -x c - >/dev/null 2>&1 || echo "${need#*:}"
        else
            dpkg-query -W -f '${Status}' "${need#*:}" 2>/dev/null | grep -q '^install ok installed' || echo "${need#*:}"
        fi
    done
    if [[ $for_tests ]]; then
        command -v "${browsers[@]}" >/dev/null || echo chromium
        # scripts/test-tools.sh gets DuckDB with it.
        python3 -c 'import duckdb' 2>/dev/null || python3 -m pip --version >/dev/null 2>&1 || echo python3-pip
        compgen -G '/usr/share/fonts/*/*/*.ttf' >/dev/null || echo fonts-dejavu-core
    fi
    # Comes with clang on Debian and Ubuntu; bindgen loads whichever version there is.
    compgen -G '/usr/lib/llvm*/lib/libclang*.so*' >/dev/null || compgen -G '/usr/lib*/*/libclang[.-]*so*' >/dev/null ||
        compgen -G '/usr/lib*/libclang[.-]*so*' >/dev/null || [[ -n ${LIBCLANG_PATH-} ]] || echo libclang-dev
}

packages=$(missing | sort -u)
if [[ -z $packages ]]; then
    exit 0
fi
list=${packages//$'\n'/ }
if ! command -v apt-get >/dev/null; then
    echo "missing here: $list (Debian's names): install them, with this machine's package manager" >&2
    exit 1
fi
if [[ $(id -u) != 0 ]]; then
    echo "missing here: $list: install them with sudo make ${for_tests:+test-}deps" >&2
    exit 1
fi

echo "installing $list"
export DEBIAN_FRONTEND=noninteractive
# A stale list of packages is a common reason for a failed install; without the network, an old one may do.
apt-get update -qq || echo "apt-get update failed; trying with the package lists that are here" >&2
# shellcheck disable=SC2086 # one word a package
apt-get install -y -qq --no-install-recommends $packages </dev/null || echo "apt-get install failed" >&2

packages=$(missing | sort -u)
if [[ $packages == chromium ]]; then
    echo "Where there is no package chromium (Ubuntu has it as a snap only), google-chrome on PATH does as well." >&2
fi
if [[ -n $packages ]]; then
    echo "still missing after the installation: ${packages//$'\n'/ }" >&2
    exit 1
fi
