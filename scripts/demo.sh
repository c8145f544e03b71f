#!/bin/bash
# Runs xdprobe's server and client in two network namespaces joined by a veth pair: over AF_XDP, then over the kernel's
# UDP. Prints both sides' statistics and the first rows of their logs, and removes whatever it made, also on Ctrl-C.
#
# usage: scripts/demo.sh [binary]; SECONDS_EACH (3) and DELAY_US (1000) change how long and how often it pings.
set -euo pipefail

binary=$(realpath "${1:-target/release/xdprobe}")
seconds=${SECONDS_EACH:-3}
delay=${DELAY_US:-1000}

# Unique, so that two demos do not meet, and short enough for the names of interfaces.
server_ns=xdprobe-demo-$$-s client_ns=xdprobe-demo-$$-c
server_if=xd$$s client_if=xd$$c
server_ip=198.51.100.1 client_ip=198.51.100.2

fail() {
    echo "demo: $*" >&2
    exit 1
}

# Ends a child of ours: in order, then by force.
end() {
    local pid=$1
    kill -TERM "$pid" 2>/dev/null || return 0
    for _ in {1..30}; do
        kill -0 "$pid" 2>/dev/null || return 0
        sleep 0.1
    done
    kill -KILL "$pid" 2>/dev/null || true
}

server= client= files=
clean_up() {
    trap '' INT TERM HUP
    [[ -z $client ]] || end "$client"
    [[ -z $server ]] || end "$server"
    # The veth pair goes with the namespaces it is in.
    ip netns del "$client_ns" 2>/dev/null || true
    ip netns del "$server_ns" 2>/dev/null || true
    [[ -z $files ]] || rm -rf "$files"
}
trap clean_up EXIT
trap 'exit 130' INT
trap 'exit 143' TERM
trap 'exit 129' HUP

[[ $(id -u) == 0 ]] || fail "needs root, for network namespaces and XDP: sudo make demo"
[[ -x $binary ]] || fail "$binary is not built: make"
PATH=$PATH:/usr/sbin:/sbin
# The logs get short names, so that the commands fit on a line.
files=$(mktemp -d)
cd "$files"

make_link() {
    ip netns add "$server_ns" && ip netns add "$client_ns" ||
        fail "cannot make a network namespace: in a container this needs --privileged"
    ip link add "$server_if" netns "$server_ns" type veth peer name "$client_if" netns "$client_ns" ||
        fail "cannot make a veth pair: the kernel may lack the module veth"
    ip -n "$server_ns" address add "$server_ip/30" dev "$server_if"
    ip -n "$client_ns" address add "$client_ip/30" dev "$client_if"
    ip -n "$server_ns" link set "$server_if" up
    ip -n "$client_ns" link set "$client_if" up
}

# Prints a command as one would type it, then runs it in a namespace, in the background.
start() {
    local namespace=$1 output=$2
    shift 2
    echo "\$ ip netns exec $namespace xdprobe $*"
    ip netns exec "$namespace" "$binary" "$@" >"$output" 2>&1 &
}

show() {
    local title=$1 output=$2 log=$3
    echo
    echo "== $title"
    cat "$output"
    echo "-- the first rows of its log"
    head -n 7 "$log"
}

# One session over this path. The client repeats its SYN, so it need not wait for the server.
session() {
    local path=$1 status=0 ended
    echo
    echo "=== --path $path: $seconds s, a ping every $delay µs"
    start "$server_ns" "$path-server.out" --server --interface "$server_if" --emulation --path "$path" \
        --log "$path-server.csv"
    server=$!
    start "$client_ns" "$path-client.out" --client --interface "$client_if" --emulation --path "$path" \
        --delay "$delay" --count "$seconds" --connect-timeout 15000000 --log "$path-client.csv" "$server_ip"
    client=$!
    # Whichever ends first: a server that cannot start is told at once.
    while [[ -n $server$client ]]; do
        # shellcheck disable=SC2086 # no word where there is no process
        wait -n -p ended $server $client || status=$?
        [[ $ended != "$server" ]] || server=
        [[ $ended != "$client" ]] || client=
        if [[ $status != 0 ]]; then
            tail -n 20 "$path-server.out" "$path-client.out" >&2
            fail "one side ended with exit code $status"
        fi
    done
    show client "$path-client.out" "$path-client.csv"
    show server "$path-server.out" "$path-server.csv"
}

make_link
session xdp
session kernel
echo
echo "Done; the namespaces, the interfaces and the logs are removed."
