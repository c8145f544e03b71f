#!/bin/bash
# Makes ready what the bench boots: QEMU with its emulated 82576, two kernels with their modules, tools for the guests
# (busybox, ethtool, linuxptp), and the kernel module testnic, built from the folder beside this script. As root, on
# Debian 12 or 13, amd64.
#
# Debian 12 itself has only QEMU 7 and Linux 6.1, so backports are asked, too. They are named in an apt configuration of
# the bench's own: the machine's sources stay as they are, and nothing else ever comes from there. Only QEMU is installed.
# All else is unpacked into tests/vm/cache, which git ignores; where that is filled this takes a second and no network.
set -euo pipefail

here=$(cd "$(dirname "$0")" && pwd)
cache=${VM_CACHE:-$here/cache}
root=$cache/root
PATH=$PATH:/usr/sbin:/sbin

fail() {
    echo "tests/vm/setup.sh: $*" >&2
    exit 1
}

has_qemu() {
    command -v qemu-system-x86_64 >/dev/null && qemu-system-x86_64 -device help 2>/dev/null | grep -q '^name "igb"'
}

# Whether a kernel is unpacked, complete: `release` of this one is its name, such as 6.12.95+deb12-amd64.
has_kernel() {
    [[ -s $cache/release.$1 ]]
}

# An apt of our own beside the machine's, with the mirror that the machine already uses.
apt_files=$cache/apt
own_apt() {
    local command=$1
    shift
    "$command" -o "Dir::Etc::SourceList=$apt_files/sources.list" -o Dir::Etc::SourceParts=/dev/null \
        -o Dir::Etc::Preferences=/dev/null -o Dir::Etc::PreferencesParts=/dev/null \
        -o "Dir::State::Lists=$apt_files/lists" -o "Dir::Cache=$apt_files/cache" -o APT::Sandbox::User=root \
        -o Acquire::Languages=none "$@"
}

# What has the newest kernel: zero-copy AF_XDP came to igb with 6.14, transmit stamps with a key of one's own with 6.13.
newest=trixie-backports

make_own_apt() {
    local mirror key name
    command -v apt-get >/dev/null || fail "this needs Debian 12 or 13 (apt-get is not here)"
    [[ $(dpkg --print-architecture) == amd64 ]] || fail "this needs an amd64 machine"
    # shellcheck source=/dev/null
    . /etc/os-release
    case ${ID-}/${VERSION_CODENAME-} in
    # Where QEMU 10 and Linux 6.12, which the module is written for, come from.
    debian/bookworm) suite=bookworm-backports ;;
    debian/trixie) suite=trixie ;;
    *) fail "this needs Debian 12 or 13; here is ${PRETTY_NAME-another system}" ;;
    esac
    # shellcheck disable=SC2016 # apt-get fills these in
    mirror=$(apt-get indextargets --format '$(REPO_URI) $(RELEASE) $(COMPONENT)' 'Created-By: Packages' |
        awk -v release="$VERSION_CODENAME" '$2 == release && $3 == "main" { print $1; exit }')
    [[ -n $mirror ]] || fail "apt has no source for $VERSION_CODENAME main: is it in /etc/apt?"
    key=/usr/share/keyrings/debian-archive-keyring.gpg
    [[ -e $key ]] || fail "no $key: apt-get install debian-archive-keyring"
    mkdir -p "$apt_files/lists/partial" "$apt_files/cache/archives/partial"
    for name in "$VERSION_CODENAME" "$suite" "$newest"; do
        echo "deb [signed-by=$key] $mirror $name main"
    done | sort -u >"$apt_files/sources.list"
    own_apt apt-get update -qq
}

install() {
    [[ $(id -u) == 0 ]] || fail "missing here: $*: run this as root"
    echo "installing $*"
    DEBIAN_FRONTEND=noninteractive own_apt apt-get -t "$suite" install -y -qq --no-install-recommends "$@" \
        </dev/null >"$cache/install.txt" 2>&1 || { cat "$cache/install.txt" >&2; fail "cannot install $*"; }
}

# stands_for SUITE PACKAGE PATTERN: the package that a package without content of its own stands for.
stands_for() {
    own_apt apt-cache -t "$1" depends --important "$2" | sed -n "s/^ *Depends: \($3.*\)/\1/p" | head -n 1
}

# unpack SUITE PACKAGE...: into the cache, beside what is there.
unpack() {
    local suite=$1 package
    shift
    echo "unpacking $*"
    rm -rf "$cache/debs"
    mkdir -p "$root" "$cache/debs"
    (cd "$cache/debs" && own_apt apt-get -t "$suite" download -qq "$@")
    for package in "$cache/debs"/*.deb; do
        dpkg-deb -x "$package" "$root"
    done
    rm -rf "$cache/debs"
}

# The kernel that testnic is built for, and the tools.
unpack_testnic() {
    local image headers common kbuild
    image=$(stands_for "$suite" linux-image-amd64 linux-image-)
    headers=$(stands_for "$suite" linux-headers-amd64 linux-headers-)
    [[ -n $image && -n $headers ]] || fail "$suite has no linux-image-amd64 and linux-headers-amd64"
    common=$(stands_for "$suite" "$headers" 'linux-headers-.*-common')
    kbuild=$(stands_for "$suite" "$headers" linux-kbuild-)
    unpack "$suite" "$image" "$headers" "$common" "$kbuild" busybox-static ethtool linuxptp
    # It includes the other headers by the path that they have when installed.
    sed -i "s|/usr/src/|$root/usr/src/|" "$root/usr/src/$headers/Makefile"
    echo "${headers#linux-headers-}" >"$cache/release.testnic"
}

# The kernel of which only the driver igb is used.
unpack_igb() {
    local modules
    modules=$(stands_for "$newest" linux-modules-amd64 linux-modules-)
    [[ -n $modules ]] || fail "$newest has no linux-modules-amd64"
    unpack "$newest" "$modules" "${modules/modules/binary}"
    echo "${modules#linux-modules-}" >"$cache/release.igb"
}

# Kbuild writes beside the sources, so it gets a copy of them.
build_testnic() {
    local headers=$root/usr/src/linux-headers-$1 compiler
    compiler=$(grep -o 'gcc-[0-9]*$' "$headers/.kernelvariables")
    command -v "$compiler" >/dev/null || {
        make_own_apt
        install "$compiler"
    }
    mkdir -p "$cache/testnic"
    cp -u "$here"/testnic/* "$cache/testnic/"
    # Type information would take pahole, and nothing asks for it.
    make -s -C "$headers" M="$cache/testnic" CONFIG_DEBUG_INFO_BTF_MODULES= modules >"$cache/testnic.txt" 2>&1 ||
        { cat "$cache/testnic.txt" >&2; fail "cannot build the module testnic"; }
    ! grep warning: "$cache/testnic.txt" >&2 || fail "building the module testnic gives warnings"
}

mkdir -p "$cache"
# A tree that was moved has the old path in its headers.
if has_kernel testnic && ! grep -qF "$root/" "$root/usr/src/linux-headers-$(<"$cache/release.testnic")/Makefile"; then
    rm -rf "$root" "$cache"/release.*
fi
if ! has_qemu || ! has_kernel testnic || ! has_kernel igb; then
    make_own_apt
    has_qemu || install qemu-system-x86
    has_qemu || fail "the installed QEMU does not emulate an igb"
    has_kernel testnic || unpack_testnic
    has_kernel igb || unpack_igb
fi
build_testnic "$(<"$cache/release.testnic")"
cc -O -Wall -o "$cache/set_tai" "$here/guest/set_tai.c"
