#!/bin/bash
# Gets the programs that tests use to check what this one writes and that this machine lacks: promtool, which reads
# Prometheus metrics as Prometheus does, on Debian and Ubuntu, and DuckDB, an engine that reads Parquet files. promtool is
# unpacked, not installed: its package would start a server. DuckDB is a module for Python, put beside it and not into this
# machine's Python. What is on PATH, or in that Python, counts, wherever it came from.
set -euo pipefail
cd "$(dirname "$0")/.."

cache=tests/cache
scratch=
trap 'rm -rf "$scratch"' EXIT

get_promtool() {
    if ! command -v apt-get >/dev/null || ! command -v dpkg-deb >/dev/null; then
        echo "missing here: promtool, of the Debian package prometheus: put it on PATH" >&2
        return 1
    fi
    echo "unpacking promtool into $cache"
    scratch=$(mktemp -d)
    # Where apt-get runs as root, its downloads do not. Nobody else is to put a package of theirs there.
    if [[ $(id -u) == 0 ]] && id _apt >/dev/null 2>&1; then
        chown _apt "$scratch"
    fi
    apt-get update -qq || echo "apt-get update failed; trying with the package lists that are here" >&2
    (cd "$scratch" && apt-get download -qq prometheus) || {
        echo "promtool, of the Debian package prometheus, cannot be had here: put it on PATH, or get this machine the network" >&2
        return 1
    }
    dpkg-deb --fsys-tarfile "$scratch"/prometheus_*.deb | tar -x -C "$scratch" ./usr/bin/promtool
    mkdir -p "$cache"
    mv "$scratch/usr/bin/promtool" "$cache/promtool"
}

has_duckdb() {
    PYTHONPATH=$cache/duckdb "$1" -c 'import duckdb' 2>/dev/null
}

get_duckdb() {
    if ! python3 -m pip --version >/dev/null 2>&1; then
        echo "missing here: Python's pip (Debian's python3-pip), to get DuckDB with, or the module duckdb in python3" >&2
        return 1
    fi
    echo "putting DuckDB into $cache/duckdb"
    rm -rf "$cache/duckdb"
    python3 -m pip install -q --disable-pip-version-check --no-cache-dir --root-user-action=ignore --only-binary :all: \
        --no-deps --target "$cache/duckdb" duckdb || {
        echo "DuckDB, Python's package duckdb, cannot be had here: get it into python3, or get this machine the network" >&2
        return 1
    }
    # The tests may run with another PATH: a module is for the Python that it was made for.
    ln -s "$(python3 -c 'import sys; print(sys.executable)')" "$cache/duckdb/python3"
    has_duckdb "$cache/duckdb/python3"
}

if ! command -v promtool >/dev/null && [[ ! -x $cache/promtool ]]; then
    get_promtool
fi
if ! has_duckdb "$cache/duckdb/python3" && ! has_duckdb python3; then
    get_duckdb
fi
if [[ -d $cache && $(id -u) == 0 && -n ${SUDO_USER-} ]]; then
    chown -R "$SUDO_USER:" "$cache"
fi
