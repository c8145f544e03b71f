#!/bin/bash
# Makes ready what the bench boots: QEMU with its emulated 82576, a kernel with its modules and headers, tools for the
# guest (busybox, ethtool, linuxptp), and the kernel module testnic, built from the folder beside this script. As root, on
# Debian 12 or later, amd64.
#
# Debian 12 has only QEMU 7 and Linux 6.1, so the release's backports are asked, too. They are named in an apt
# configuration of the bench's own: the machine's sources stay as they are, and nothing else ever comes from there. Only
# QEMU is installed. All else is unpacked into tests/vm/cache, which git ignores; where that is filled this takes a second
# and no network.
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

# What was unpacked and is complete: the kernel's release, such as 6.12.95+deb12-amd64.
release() {
    cat "$cache/release" 2>/dev/null
}

# An apt of our own beside the machine's: this release and its backports from the mirror that the machine already uses.
apt_files=$cache/apt
own_apt() {
    local command=$1
    shift
    "$command" -o "Dir::Etc::SourceList=$apt_files/sources.list" -o Dir::Etc::SourceParts=/dev/null \
        -o Dir::Etc::Preferences=/dev/null -o Dir::Etc::PreferencesParts=/dev/null \
        -o "Dir::State::Lists=$apt_files/lists" -o "Dir::Cache=$apt_files/cache" -o APT::Sandbox::User=root \
        -o Acquire::Languages=none "$@"
}

make_own_apt() {
    local mirror key
    command -v apt-get >/dev/null || fail "this needs Debian 12 or later (apt-get is not here)"
    [[ $(dpkg --print-architecture) == amd64 ]] || fail "this needs an amd64 machine"
    # shellcheck source=/dev/null
    . /etc/os-release
    [[ ${ID-} == debian && -n ${VERSION_CODENAME-} ]] || fail "this needs Debian 12 or later; here is ${PRETTY_NAME-?}"
    # shellcheck disable=SC2016 # apt-get fills these in
    mirror=$(apt-get indextargets --format '$(REPO_URI) $(RELEASE) $(COMPONENT)' 'Created-By: Packages' |
        awk -v release="$VERSION_CODENAME" '$2 == release && $3 == "main" { print $1; exit }')
    [[ -n $mirror ]] || fail "apt has no source for $VERSION_CODENAME main: is it in /etc/apt?"
    key=/usr/share/keyrings/debian-archive-keyring.gpg
    [[ -e $key ]] || fail "no $key: apt-get install debian-archive-keyring"
    mkdir -p "$apt_files/lists/partial" "$apt_files/cache/archives/partial"
    printf "deb [signed-by=$key] $mirror %s main\n" "$VERSION_CODENAME" "$VERSION_CODENAME-backports" \
        >"$apt_files/sources.list"
    backports=$VERSION_CODENAME-backports
    own_apt apt-get update -qq
}

install() {
    [[ $(id -u) == 0 ]] || fail "missing here: $*: run this as root"
    echo "installing $*"
    DEBIAN_FRONTEND=noninteractive own_apt apt-get -t "$backports" install -y -qq --no-install-recommends "$@" \
        </dev/null >"$cache/install.txt" 2>&1 || { cat "$cache/install.txt" >&2; fail "cannot install $*"; }
}

# The package that a package without content of its own stands for.
stands_for() {
    own_apt apt-cache -t "$backports" depends --important "$1" | sed -n "s/^ *Depends: \($2.*\)/\1/p" | head -n 1
}

unpack_kernel() {
    local image headers common kbuild package
    image=$(stands_for linux-image-amd64 linux-image-)
    headers=$(stands_for linux-headers-amd64 linux-headers-)
    [[ -n $image && -n $headers ]] || fail "$backports has no linux-image-amd64 and linux-headers-amd64"
    common=$(stands_for "$headers" 'linux-headers-.*-common')
    kbuild=$(stands_for "$headers" linux-kbuild-)
    echo "unpacking $image"
    rm -rf "$root" "$cache/debs"
    mkdir -p "$root" "$cache/debs"
    (cd "$cache/debs" && own_apt apt-get -t "$backports" download -qq \
        "$image" "$headers" "$common" "$kbuild" busybox-static ethtool linuxptp)
    for package in "$cache/debs"/*.deb; do
        dpkg-deb -x "$package" "$root"
    done
    rm -rf "$cache/debs"
    # It includes the other headers by the path that they have when installed.
    sed -i "s|/usr/src/|$root/usr/src/|" "$root/usr/src/$headers/Makefile"
    echo "${headers#linux-headers-}" >"$cache/release"
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
if [[ -n $(release) ]] && ! grep -qF "$root/" "$root/usr/src/linux-headers-$(release)/Makefile"; then
    rm -f "$cache/release"
fi
if ! has_qemu || [[ -z $(release) ]]; then
    make_own_apt
    has_qemu || install qemu-system-x86
    has_qemu || fail "the installed QEMU does not emulate an igb"
    [[ -n $(release) ]] || unpack_kernel
fi
build_testnic "$(release)"
cc -O -Wall -o "$cache/set_tai" "$here/guest/set_tai.c"
