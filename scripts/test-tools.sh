#!/bin/bash
# Gets the programs that tests use to check what this one writes and that this machine lacks, on Debian and Ubuntu:
# promtool, which reads Prometheus metrics as Prometheus does. It is unpacked, not installed: its package would start a
# server. A promtool on PATH counts, wherever it came from.
set -euo pipefail
cd "$(dirname "$0")/.."

cache=tests/cache
if command -v promtool >/dev/null || [[ -x $cache/promtool ]]; then
    exit 0
fi
if ! command -v apt-get >/dev/null || ! command -v dpkg-deb >/dev/null; then
    echo "missing here: promtool, of the Debian package prometheus: put it on PATH" >&2
    exit 1
fi

echo "unpacking promtool into $cache"
scratch=$(mktemp -d)
trap 'rm -rf "$scratch"' EXIT
# Where apt-get runs as root, its downloads do not. Nobody else is to put a package of theirs there.
if [[ $(id -u) == 0 ]] && id _apt >/dev/null 2>&1; then
    chown _apt "$scratch"
fi
apt-get update -qq || echo "apt-get update failed; trying with the package lists that are here" >&2
(cd "$scratch" && apt-get download -qq prometheus) || {
    echo "promtool, of the Debian package prometheus, cannot be had here: put it on PATH, or get this machine the network" >&2
    exit 1
}
dpkg-deb --fsys-tarfile "$scratch"/prometheus_*.deb | tar -x -C "$scratch" ./usr/bin/promtool
mkdir -p "$cache"
mv "$scratch/usr/bin/promtool" "$cache/promtool"
if [[ $(id -u) == 0 && -n ${SUDO_USER-} ]]; then
    chown -R "$SUDO_USER:" "$cache"
fi
