# What the scenarios' scripts are written in. Run by dash -eu with the script as its argument; `out` is where results go.
# Everything that a function prints ends in the scenario's `output`.

client_address=10.0.0.1
server_address=10.0.0.2

# testnic PARAMETER=VALUE...: two new testnics, tn0 for the client, tn1 for the server.
testnic() {
    rmmod testnic 2>/dev/null || true
    insmod /modules/testnic.ko "$@"
    nics tn0 tn1
}

# nics CLIENT SERVER: these two interfaces belong to the sides.
nics() {
    client_nic=$1
    server_nic=$2
    place client "$client_nic" "$client_address"
    place server "$server_nic" "$server_address"
    wait_for_carrier client
    wait_for_carrier server
}

place() {
    if [ -e "/sys/class/net/$2" ]; then
        ip link set "$2" netns "$1"
    fi
    ip -n "$1" address replace "$3/24" dev "$2"
    ip -n "$1" link set "$2" up
}

nic_of() {
    eval "echo \"\$${1}_nic\""
}

wait_for_carrier() {
    local tries=0
    while ! ip -n "$1" -o link show dev "$(nic_of "$1")" | grep -q LOWER_UP; do
        tries=$((tries + 1))
        if [ "$tries" -gt 200 ]; then
            echo "no carrier at the $1" >&2
            return 1
        fi
        sleep 0.1
    done
}

# on SIDE COMMAND...: runs a command where a side is.
on() {
    local side=$1
    shift
    ip netns exec "$side" "$@"
}

# begin NAME SIDE COMMAND...: starts a command in the background; NAME.out, NAME.err, NAME.code and NAME.pid tell of it.
begin() {
    local name=$1 side=$2
    shift 2
    (
        code=0
        ip netns exec "$side" dash -c 'echo $$ >"$0"; exec "$@"' "$out/$name.pid" "$@" \
            >"$out/$name.out" 2>"$out/$name.err" || code=$?
        echo "$code" >"$out/$name.code"
    ) &
    while ! [ -s "$out/$name.pid" ]; do
        sleep 0.02
    done
}

# server ARGUMENTS... and client ARGUMENTS...: a side of the program, with all the files that it can write.
server() {
    begin server server xdprobe --server --interface "$server_nic" --log "$out/server.csv" "$@"
}

client() {
    begin client client xdprobe --client --interface "$client_nic" --connect-timeout 20000000 \
        --log "$out/client.csv" "$@" "$server_address"
}

# wait_for_server: until the server says that it is there, so that no client asks in vain; or until it has ended.
wait_for_server() {
    while ! grep -qs started "$out/server.out" "$out/server.err" && ! [ -e "$out/server.code" ]; do
        sleep 0.05
    done
}

# finish NAME...: waits until these have ended. Where one has failed, the others are given some seconds, and are stopped.
finish() {
    local name code tries=0
    for name in "$@"; do
        while ! [ -e "$out/$name.code" ]; do
            sleep 0.05
            code=$(cat "$out"/*.code 2>/dev/null | grep -v '^0$' || true)
            [ -z "$code" ] || tries=$((tries + 1))
            if [ "$tries" -gt 80 ]; then
                echo "$name was stopped, as another program has failed"
                kill -9 "$(cat "$out/$name.pid")" || true
                tries=0
            fi
        done
    done
}

# send_signal SIGNAL NAME: to a program that was begun.
send_signal() {
    kill "-$1" "$(cat "$out/$2.pid")"
}

# wait_for_rows NAME N: until a side's log has more than N lines.
wait_for_rows() {
    while [ "$(cat "$out/$1.csv" 2>/dev/null | wc -l)" -le "$2" ] && ! [ -e "$out/$1.code" ]; do
        sleep 0.05
    done
}

# wait_for_line FILE TEXT N: until a file of the results has N lines with this text.
wait_for_line() {
    while [ "$(grep -c "$2" "$out/$1")" -lt "$3" ]; do
        sleep 0.05
    done
}

# cable NIC on|off: plugs in the cable of an emulated NIC, or pulls it.
cable() {
    echo "set_link port${1#eth} $2" >/dev/vport0p2
}

# carrier WHEN: writes to SIDE.carrier.WHEN whether each side has a carrier, and how often that has changed.
carrier() {
    local side
    for side in client server; do
        # shellcheck disable=SC2016 # filled in where it runs
        on "$side" dash -c 'cd "/sys/class/net/$0" && cat carrier carrier_changes' "$(nic_of "$side")" \
            >"$out/$side.carrier.$1"
    done
}

# hwtstamp WHEN: writes each side's stamping configuration to SIDE.hwtstamp.WHEN: "tx_type 0", "rx_filter 0".
hwtstamp() {
    local side
    for side in client server; do
        on "$side" hwstamp_ctl -i "$(nic_of "$side")" >"$out/$side.hwtstamp.$1" 2>&1 || true
    done
}

# set_hwtstamp SIDE TX RX: sets it, as another program would.
set_hwtstamp() {
    on "$1" hwstamp_ctl -i "$(nic_of "$1")" -t "$2" -r "$3" >/dev/null
}

# The counters of both NICs, what hangs on them, and their stamping, as they are now.
observe() {
    local side
    for side in client server; do
        on "$side" ethtool -S "$(nic_of "$side")" >"$out/$side.stats" || true
        on "$side" ethtool -T "$(nic_of "$side")" >"$out/$side.tsinfo" || true
        ip -n "$side" -d link show dev "$(nic_of "$side")" >"$out/$side.link"
    done
    hwtstamp after
}

# session SERVER-ARGUMENTS -- CLIENT-ARGUMENTS: one session from beginning to end, with the stamping before and after.
session() {
    local of_server=
    hwtstamp before
    while [ "$1" != -- ]; do
        of_server="$of_server $1"
        shift
    done
    shift
    # shellcheck disable=SC2086 # arguments without blanks
    server $of_server
    wait_for_server
    client "$@"
    finish client server
    observe
}

. "$1"
