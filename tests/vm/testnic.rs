//! Scenarios on testnic: the delay of the wire and the clocks are known, so what the program logs is compared with them.
//! One table from beginning to end, which is why it is long.

use crate::Scenario;
use crate::guest::original;
use crate::outcome::{Outcome, SIDES, Side, Stage};
use crate::session::{
    ClockSample, Logs, MODES, Mode, PATHS, PATIENCE, Session, Stamps, Wire, assert_stages, assert_two_clocks,
    clock_samples, number,
};
use serde_json::{Value, json};
use std::collections::BTreeMap;

/// Clocks that nobody mistakes for each other or for the system's.
const WIRE: Wire = Wire { delay_ns: 10_000, offset_ns: [1_000_000_000, -7_777_000_000_123] };
/// Stamping off, and all of it on: `HWTSTAMP_TX_*` and `HWTSTAMP_FILTER_*` of `linux/net_tstamp.h`.
const OFF: (u32, u32) = (0, 0);
const ON: (u32, u32) = (1, 1);

pub fn scenarios() -> Vec<Scenario> {
    let mut all = Vec::new();
    all.extend(the_bench_itself());
    all.extend(other_sources());
    all.extend(hardware());
    all.extend(many_clients());
    all.extend(transmit_stamps_in_trouble());
    all.extend(receive_stamps_in_trouble());
    all.extend(stamping_switch());
    all.extend(clocks());
    all.extend(ptp_only());
    all.extend(in_band());
    all.extend(comparison());
    all.extend(capabilities());
    all.extend(privileges());
    if original().is_some() {
        all.extend(with_the_original());
    }
    all
}

/// linuxptp, which knows nothing of us, finds the wire's delay and the difference of the clocks on NICs of both kinds.
fn the_bench_itself() -> Vec<Scenario> {
    let kinds = [("all", "-4"), ("ptp-only", "-2")];
    let scenario = |(filters, transport)| {
        let ptp4l = format!(
            "ptp4l {transport} -m --free_running 1 --logAnnounceInterval -2 --logSyncInterval -3 --logMinDelayReqInterval -3 \
             --summary_interval -3 --tx_timestamp_timeout 1000"
        );
        let script = format!(
            "testnic {} filters={filters}\nbegin server server {ptp4l} -i tn1 --priority1 1\nbegin client client {ptp4l} -i tn0 -s\n\
             wait_for_line client.out 'path delay' 5\nsend_signal TERM client\nsend_signal TERM server\nfinish client server\n",
            WIRE.parameters()
        );
        Scenario::new(format!("linuxptp-{filters}{transport}"), script, |outcome| {
            let said = outcome.file("client.out");
            let mut found = 0;
            for line in said.lines().filter(|line| line.contains("path delay")) {
                let words: Vec<&str> = line.split_whitespace().collect();
                let value = |name: &str| words[words.iter().position(|word| *word == name).expect("it has one") + 1];
                assert_eq!(
                    value("offset").parse(),
                    Ok(WIRE.offset(Side::Client) - WIRE.offset(Side::Server)),
                    "{line}"
                );
                assert_eq!(value("delay").parse(), Ok(WIRE.delay_ns), "{line}");
                found += 1;
            }
            assert!(found >= 5, "{said}");
        })
    };
    kinds.map(scenario).into()
}

/// A session over two new NICs, and a check of what it left.
fn scenario(
    name: impl Into<String>,
    parameters: &str,
    session: &Session,
    check: impl Fn(&Outcome) + Send + 'static,
) -> Scenario {
    Scenario::new(name, format!("testnic {} {parameters}\n{}", WIRE.parameters(), session.line()), check)
}

/// What both sides' JSON says of stamps.
fn stamps(outcome: &Outcome) -> [Stamps; 2] {
    SIDES.map(|side| Stamps::of(&outcome.json(side)))
}

/// A session in which no stamp is missing, to the nanosecond.
fn assert_perfect(outcome: &Outcome, mode: Mode, wire: &Wire) {
    outcome.assert_success();
    let logs = Logs::of(outcome);
    logs.assert_complete(mode);
    logs.assert_exact(mode, wire);
    for (side, stamps) in SIDES.into_iter().zip(stamps(outcome)) {
        stamps.assert_complete();
        assert_eq!(
            stamps.tx_requested,
            outcome.counter(side, "tx_hwtstamp_requested"),
            "asked of the {}'s NIC",
            side.name()
        );
    }
    outcome.assert_unchanged();
}

/// The other two sources never touch the NIC's stamping.
fn other_sources() -> Vec<Scenario> {
    let mut all = Vec::new();
    for path in PATHS {
        for mode in MODES {
            for source in ["software", "application"] {
                let session = Session::new(mode, &format!("--timestamps {source} --path {path}"));
                // A wire this long shows in the stamps of the one clock that both sides have.
                let wire = Wire { delay_ns: 2_000_000, ..WIRE };
                let script = format!("testnic {} queues=3\n{}", wire.parameters(), session.line());
                all.push(Scenario::new(format!("{source}-{path}-{}", mode.name()), script, move |outcome| {
                    outcome.assert_success();
                    outcome.assert_unchanged();
                    let logs = Logs::of(outcome);
                    logs.assert_complete(mode);
                    for way in mode.ways() {
                        let (sent, received) = (logs.sent(&way), logs.received(&way));
                        for (sequence, sent) in sent {
                            let took = received[&sequence] - sent;
                            assert!(
                                took >= wire.delay_ns,
                                "{} - {} of {sequence} took {took} ns",
                                way.received,
                                way.sent
                            );
                        }
                    }
                    for side in SIDES {
                        assert_eq!(outcome.hwtstamp(side, "after"), OFF);
                        assert_eq!(outcome.counter(side, "tx_hwtstamp_requested"), 0);
                    }
                }));
            }
        }
    }
    all
}

/// Clients at once, with the same sequences: each has the card's stamps of its own packets, to the nanosecond.
fn many_clients() -> Vec<Scenario> {
    let names = [("one", 100, Mode::Forward), ("two", 200, Mode::Duplex), ("three", 300, Mode::Forward)];
    let all = PATHS.into_iter().map(move |path| {
        let flags = format!("--timestamps hardware --json {PATIENCE}");
        let clients: String = names
            .iter()
            .map(|(name, size, mode)| {
                format!(
                    "begin {name} client xdprobe --client --interface tn0 --connect-timeout 20000000 --path kernel {flags} --count 1 \
                     --delay 5000 --ping-size {size} {} --log $out/{name}.csv 10.0.0.2\n",
                    mode.flag()
                )
            })
            .collect();
        // Of the clients' card nobody is the first to give back what the others still need.
        let script = format!(
            "testnic {} queues=2\nset_hwtstamp client 1 1\nhwtstamp before\n\
             begin server server xdprobe --server --keep --clients 4 --interface tn1 --path {path} {flags} --log-dir $out\n\
             wait_for_server\n{clients}finish one two three\nwait_for_line server.out pings_received 3\n\
             send_signal TERM server\nfinish server\nobserve\n\
             for log in \"$out\"/*Z-*.csv; do size=$(sed -n 2p \"$log\"); cat \"$log\" >\"$out/served-${{size##*,}}.csv\"; done\n",
            WIRE.parameters()
        );
        Scenario::new(format!("hardware-many-{path}"), script, move |outcome| {
            for name in ["one", "two", "three", "server"] {
                assert_eq!(outcome.code(name), 0, "{name}");
            }
            for (name, size, mode) in names {
                let logs = Logs::of_files(outcome, [&format!("{name}.csv"), &format!("served-{size}.csv")]);
                logs.assert_complete(mode);
                logs.assert_exact(mode, &WIRE);
            }
            let mut requested = 0;
            for line in outcome.file("server.out").lines() {
                let session: Value = serde_json::from_str(line).expect("an object a session");
                let stamps = Stamps::of(&session);
                stamps.assert_complete();
                assert_eq!([&session["tx_source"], &session["rx_source"]], ["hardware"; 2], "{session}");
                requested += stamps.tx_requested;
            }
            assert_eq!(requested, outcome.counter(Side::Server, "tx_hwtstamp_requested"));
            outcome.assert_unchanged();
        })
    });
    // A card that stamps only PTP messages has nothing for clients without their headers, and none with them are served.
    let script = format!(
        "testnic {} filters=ptp-only\nhwtstamp before\n\
         begin server server xdprobe --server --keep --clients 2 --interface tn1 --timestamps hardware\nfinish server\nobserve\n",
        WIRE.parameters()
    );
    let refused = Scenario::new("hardware-many-ptp-only", script, |outcome| {
        assert_eq!(outcome.code("server"), 1);
        let said = outcome.file("server.err");
        for part in ["--clients 2 serves nobody behind PTP headers", "tn1", "use --timestamps software"] {
            assert!(said.contains(part), "{part}: {said}");
        }
        outcome.assert_unchanged();
    });
    all.chain([refused]).collect()
}

/// Hardware stamps where nothing is in their way.
fn hardware() -> Vec<Scenario> {
    let mut all = Vec::new();
    for path in PATHS {
        for mode in MODES {
            let session = Session::hardware(mode, path, "");
            all.push(scenario(format!("hardware-{path}-{}", mode.name()), "", &session, move |outcome| {
                assert_perfect(outcome, mode, &WIRE);
                assert_stages(outcome, mode, &WIRE);
                assert_two_clocks(outcome, mode);
            }));
        }
        let session = Session::hardware(Mode::Forward, path, "--dummy-pkt 3 --ping-size 700 --pong-size 1400");
        all.push(scenario(format!("hardware-{path}-sizes-and-dummies"), "queues=4", &session, |outcome| {
            outcome.assert_success();
            let logs = Logs::of(outcome);
            logs.assert_complete(Mode::Forward);
            logs.assert_exact(Mode::Forward, &WIRE);
        }));
    }
    for (server, client) in [("xdp", "kernel"), ("kernel", "xdp")] {
        let flags = |path| format!("--timestamps hardware --path {path} {PATIENCE}");
        let session = Session::of_two(Mode::Forward, &flags(server), &flags(client));
        all.push(scenario(format!("hardware-{client}-to-{server}"), "", &session, |outcome| {
            assert_perfect(outcome, Mode::Forward, &WIRE);
        }));
    }
    for delay_ns in [0, 1, 3_000_000] {
        let wire = Wire { delay_ns, ..WIRE };
        let script = format!("testnic {}\n{}", wire.parameters(), Session::hardware(Mode::Forward, "xdp", "").line());
        all.push(Scenario::new(format!("hardware-delay-{delay_ns}"), script, move |outcome| {
            assert_perfect(outcome, Mode::Forward, &wire);
        }));
    }
    let busy = Session::hardware(Mode::Forward, "xdp", "--timer busy --delay 500 --busypoll 50");
    all.push(scenario("hardware-busy", "queues=2", &busy, |outcome| assert_perfect(outcome, Mode::Forward, &WIRE)));
    let handed_over = Session::hardware(Mode::Forward, "xdp", "--tx xsk");
    all.push(scenario("hardware-handed-over", "", &handed_over, |outcome| {
        outcome.assert_success();
        for side in SIDES {
            assert_eq!(outcome.counter(side, "tx_hwtstamp_requested"), 0, "AF_XDP frames ask for no stamp");
            assert!(outcome.counter(side, "rx_hwtstamp_read_by_xdp") > 20);
        }
        outcome.assert_unchanged();
    }));
    // On a machine that knows of leap seconds the hook's clock is not CLOCK_REALTIME.
    let session = Session::hardware(Mode::Forward, "xdp", "");
    let script = format!("testnic {}\nset_tai 37\n{}set_tai 0\n", WIRE.parameters(), session.line());
    all.push(Scenario::new("hardware-tai-37", script, |outcome| {
        assert_perfect(outcome, Mode::Forward, &WIRE);
        assert_stages(outcome, Mode::Forward, &WIRE);
    }));
    all
}

/// Transmit stamps that are lost, late, swapped, doubled or nonsense: what is logged is right, what is missing is counted.
fn transmit_stamps_in_trouble() -> Vec<Scenario> {
    let mut all = Vec::new();
    for path in PATHS {
        for mode in MODES {
            let session = Session::hardware(mode, path, "");
            let name = |what| format!("tx-{what}-{path}-{}", mode.name());
            all.push(scenario(name("lost"), "tx_lost=100", &session, move |outcome| {
                outcome.assert_success();
                Logs::of(outcome).assert_exact(mode, &WIRE);
                for (side, stamps) in SIDES.into_iter().zip(stamps(outcome)) {
                    stamps.assert_accounted();
                    assert_eq!(
                        stamps.tx_missed,
                        outcome.counter(side, "tx_hwtstamp_lost"),
                        "missed by the {}",
                        side.name()
                    );
                    assert!(stamps.tx_missed > 0, "one in ten is lost");
                }
                outcome.assert_unchanged();
            }));
        }
        let session = Session::hardware(Mode::Forward, path, "");
        let name = |what| format!("tx-{what}-{path}");
        all.push(scenario(name("late"), "tx_late_ns=30000000", &session, |outcome| {
            assert_perfect(outcome, Mode::Forward, &WIRE);
        }));
        all.push(scenario(name("swapped"), "tx_reorder=1", &session, |outcome| {
            assert_perfect(outcome, Mode::Forward, &WIRE);
        }));
        all.push(scenario(name("doubled"), "tx_duplicate=1", &session, |outcome| {
            outcome.assert_success();
            let logs = Logs::of(outcome);
            logs.assert_complete(Mode::Forward);
            logs.assert_exact(Mode::Forward, &WIRE);
            for stamps in stamps(outcome) {
                assert_eq!(stamps.tx, stamps.tx_requested, "the second of each pair counts for nothing: {stamps:?}");
                // One that comes when the datagram has all its stamps is late as well as double.
                assert!(stamps.tx_duplicates + stamps.tx_late > 20, "and is counted: {stamps:?}");
            }
        }));
        all.push(scenario(name("refused"), "tx_refused=300", &session, move |outcome| {
            assert_perfect(outcome, Mode::Forward, &WIRE);
            for side in SIDES {
                assert_retries(outcome, side, path);
            }
        }));
        // While stamps are under way, and the kernel of this guest counts the keys, some are given up, and none is mistaken.
        let name_late = name("refused-late");
        all.push(scenario(name_late, "tx_refused=20 tx_late_ns=30000000", &session, move |outcome| {
            outcome.assert_success();
            let logs = Logs::of(outcome);
            let counts = logs.assert_exact(Mode::Forward, &WIRE);
            assert!(counts.iter().all(|count| *count > 20), "packets with both stamps: {counts:?}");
            let [client, server] = SIDES.map(|side| outcome.json(side));
            let pings = [(&client, "pings_sent"), (&server, "pings_received"), (&client, "pongs_received")];
            assert_eq!(
                pings.map(|(json, name)| number(json, name)),
                [number(&server, "pongs_sent"); 3],
                "none is lost"
            );
            for side in SIDES {
                let json = outcome.json(side);
                Stamps::of(&json).assert_accounted();
                assert_retries(outcome, side, path);
            }
            outcome.assert_unchanged();
        }));
        let hasty = Session::hardware(Mode::Forward, path, "--stamp-timeout 50000");
        all.push(scenario(name("too-late"), "tx_late_ns=300000000", &hasty, |outcome| {
            outcome.assert_success();
            let logs = Logs::of(outcome);
            for way in Mode::Forward.ways() {
                assert_eq!(logs.sent(&way), BTreeMap::new(), "no stamp comes in time");
                assert!(logs.received(&way).len() > 20, "receiving is not touched");
            }
            for stamps in stamps(outcome) {
                stamps.assert_accounted();
                assert_eq!(stamps.tx, 0, "{stamps:?}");
                assert!(stamps.tx_late > 20, "most come before the end: {stamps:?}");
            }
        }));
        all.push(scenario(name("wild"), "tx_wild=100", &session, |outcome| {
            outcome.assert_success();
            let logs = Logs::of(outcome);
            let counts = logs.assert_exact(Mode::Forward, &WIRE);
            assert!(counts.iter().all(|count| *count > 20), "what is not two hours off is used: {counts:?}");
            for stamps in stamps(outcome) {
                stamps.assert_accounted();
                assert!(stamps.tx_missed > 0, "one in ten is two hours off, and no stamp: {stamps:?}");
            }
        }));
    }
    all
}

/// Each refusal that the program was told of is counted; of those on the kernel path the queueing discipline keeps the frame.
fn assert_retries(outcome: &Outcome, side: Side, path: &str) {
    let (refused, retries) = (outcome.counter(side, "tx_refused"), number(&outcome.json(side), "tx_retries"));
    assert!(refused > 0, "the driver refused some at the {}", side.name());
    match path {
        // The kernel's own frames (ARP) are refused too, and asked for again by itself.
        "xdp" => assert!(retries > 0 && retries <= refused && refused <= retries + 3, "{retries} of {refused}"),
        _ => assert_eq!(retries, 0, "{refused} were refused"),
    }
}

/// Receive stamps that are lost or nonsense, and drivers that do not give them to an XDP program.
fn receive_stamps_in_trouble() -> Vec<Scenario> {
    let mut all = Vec::new();
    for path in PATHS {
        let session = Session::hardware(Mode::Forward, path, "");
        for what in ["lost", "wild"] {
            all.push(scenario(format!("rx-{what}-{path}"), &format!("rx_{what}=100"), &session, move |outcome| {
                outcome.assert_success();
                let counts = Logs::of(outcome).assert_exact(Mode::Forward, &WIRE);
                assert!(counts.iter().all(|count| *count > 20), "nine in ten have their stamp: {counts:?}");
                for stamps in stamps(outcome) {
                    assert!(stamps.rx_missed > 0, "one in ten has none: {stamps:?}");
                }
            }));
        }
    }
    for (kfunc, why) in [("enodata", "no frame has a stamp"), ("zero", "zero is no stamp")] {
        let session = Session::hardware(Mode::Forward, "xdp", "");
        all.push(scenario(format!("kfunc-{kfunc}"), &format!("kfunc={kfunc}"), &session, move |outcome| {
            let logs = Logs::of(outcome);
            for way in Mode::Forward.ways() {
                assert_eq!(logs.received(&way), BTreeMap::new(), "{why}");
            }
            for stamps in stamps(outcome) {
                assert_eq!(stamps.rx, 0, "{why}: {stamps:?}");
                assert!(stamps.rx_missed > 20, "{why}, and all are counted: {stamps:?}");
            }
            outcome.assert_unchanged();
        }));
    }
    // Without the kfunc there is no hardware receive stamp on the xdp path: said before the first packet.
    let script = format!(
        "testnic {} kfunc=absent\nhwtstamp before\nclient --timestamps hardware --path xdp --count 1\nfinish client\nobserve\n",
        WIRE.parameters()
    );
    all.push(Scenario::new("kfunc-absent", script, |outcome| {
        assert_eq!(outcome.code("client"), 1);
        let said = outcome.stderr(Side::Client);
        for word in ["tn0", "--path kernel"] {
            assert!(said.contains(word), "the error names {word}: {said}");
        }
        assert_eq!(outcome.counter(Side::Client, "tx_frames"), 0, "nothing was sent");
        outcome.assert_unchanged();
    }));
    let kernel = Session::hardware(Mode::Forward, "kernel", "");
    all.push(scenario("kfunc-absent-kernel", "kfunc=absent", &kernel, |outcome| {
        assert_perfect(outcome, Mode::Forward, &WIRE);
    }));
    all
}

/// Stamping is switched on when it can be, survives what drivers do to it, and is given back as it was.
fn stamping_switch() -> Vec<Scenario> {
    let mut all = Vec::new();
    for (name, parameters) in [("reset-on-xdp", "reset_on_xdp=1"), ("carrier-down", "carrier_down_ms=3000")] {
        let session = Session::hardware(Mode::Forward, "xdp", "");
        all.push(scenario(name, parameters, &session, move |outcome| {
            assert_perfect(outcome, Mode::Forward, &WIRE);
            for side in SIDES.into_iter().filter(|_| name == "carrier-down") {
                let said = outcome.stderr(side);
                assert!(
                    said.contains("waiting for the carrier of tn"),
                    "the {} says what it waits for: {said}",
                    side.name()
                );
            }
        }));
    }
    // What was on before such a driver forgot it, over the attaching and over the detaching, is on again.
    let session = Session::hardware(Mode::Forward, "xdp", "").line();
    let script = format!(
        "testnic {} reset_on_xdp=1\nset_hwtstamp client 1 1\nset_hwtstamp server 0 1\n{session}",
        WIRE.parameters()
    );
    all.push(Scenario::new("reset-on-xdp-found-switched-on", script, |outcome| {
        assert_eq!(outcome.hwtstamp(Side::Client, "before"), ON);
        assert_eq!(outcome.hwtstamp(Side::Server, "before"), (0, 1));
        assert_perfect(outcome, Mode::Forward, &WIRE);
    }));
    // Also where the user has enough while the carrier is waited for.
    let script = format!(
        "testnic {} reset_on_xdp=1 carrier_down_ms=8000\nset_hwtstamp client 1 1\nhwtstamp before\n\
         client --timestamps hardware --path xdp --count 1\nwait_for_line client.err 'waiting for the carrier' 1\n\
         send_signal INT client\nfinish client\nobserve\n",
        WIRE.parameters()
    );
    all.push(Scenario::new("reset-on-xdp-stopped-early", script, |outcome| {
        assert_eq!(outcome.code("client"), 1);
        assert!(outcome.stderr(Side::Client).contains("stopped while the carrier of tn0 was waited for"));
        assert_eq!(outcome.hwtstamp(Side::Client, "before"), ON);
        outcome.assert_unchanged();
    }));
    // And where it is killed then: the next one restores what was there before it.
    let session = Session::hardware(Mode::Forward, "xdp", "").line();
    let script = format!(
        "testnic {} reset_on_xdp=1 carrier_down_ms=6000\nset_hwtstamp client 1 1\nhwtstamp first\n\
         client --timestamps hardware --path xdp --count 1\nwait_for_line client.err 'waiting for the carrier' 1\n\
         send_signal KILL client\nfinish client\nhwtstamp killed\nrm -f $out/*.code $out/*.pid\n{session}",
        WIRE.parameters()
    );
    all.push(Scenario::new("reset-on-xdp-killed-early", script, |outcome| {
        let client = |when| outcome.hwtstamp(Side::Client, when);
        assert_eq!([client("first"), client("killed"), client("after")], [ON, OFF, ON]);
        let said = outcome.stderr(Side::Client);
        assert!(said.contains("was killed and left the hardware stamps of tn0 at TX off, RX none"), "{said}");
        outcome.assert_success();
        assert_eq!(outcome.hwtstamp(Side::Server, "after"), OFF);
    }));
    // And while a log that is a FIFO waits for its reader.
    for flag in ["--log", "--log-stages"] {
        let script = format!(
            "testnic {} reset_on_xdp=1\nset_hwtstamp client 1 1\nhwtstamp before\nmkfifo $out/fifo\n\
             begin client client xdprobe --client -i tn0 --timestamps hardware {flag} $out/fifo $server_address\n\
             while ! ip -n client -d link show dev tn0 | grep -q prog/xdp; do sleep 0.05; done\nhwtstamp during\n\
             send_signal INT client\nfinish client\nrm $out/fifo\nobserve\n",
            WIRE.parameters()
        );
        all.push(Scenario::new(format!("reset-on-xdp-fifo{}", &flag[1..]), script, |outcome| {
            assert_eq!(outcome.hwtstamp(Side::Client, "before"), ON);
            assert_eq!(outcome.hwtstamp(Side::Client, "during"), OFF, "the driver has forgotten it");
            assert_eq!(outcome.code("client"), 1);
            let said = outcome.stderr(Side::Client);
            assert!(said.contains("fifo waited for its reader"), "{said}");
            outcome.assert_unchanged();
        }));
    }
    for path in PATHS {
        let session = Session::hardware(Mode::Forward, path, "").line();
        let script =
            format!("testnic {}\nset_hwtstamp client 1 1\nset_hwtstamp server 0 1\n{session}", WIRE.parameters());
        all.push(Scenario::new(format!("found-switched-on-{path}"), script, |outcome| {
            assert_eq!(outcome.hwtstamp(Side::Client, "before"), ON);
            assert_eq!(outcome.hwtstamp(Side::Server, "before"), (0, 1));
            assert_perfect(outcome, Mode::Forward, &WIRE);
        }));
        for signal in ["INT", "TERM"] {
            all.push(Scenario::new(format!("signal-{signal}-{path}"), interrupted(path, signal), |outcome| {
                assert_eq!(outcome.hwtstamp(Side::Client, "during"), ON, "stamping is on while it measures");
                outcome.assert_unchanged();
                let logs = Logs::of(outcome);
                let counts = logs.assert_exact(Mode::Forward, &WIRE);
                assert!(counts.iter().all(|count| *count > 20), "what was measured is logged: {counts:?}");
            }));
        }
    }
    let again = Session::hardware(Mode::Forward, "xdp", "");
    let script = format!(
        "{}rm -f $out/*.csv $out/*.stages $out/*.code $out/*.pid\nhwtstamp killed\n{}",
        interrupted("xdp", "KILL"),
        again.line()
    );
    all.push(Scenario::new("signal-KILL", script, |outcome| {
        assert_eq!(outcome.hwtstamp(Side::Client, "killed"), ON, "nobody was left to switch it off");
        let said = outcome.stderr(Side::Client);
        assert!(said.contains("tn0") && said.contains("killed"), "the next start says what it found: {said}");
        outcome.assert_success();
        let logs = Logs::of(outcome);
        logs.assert_complete(Mode::Forward);
        logs.assert_exact(Mode::Forward, &WIRE);
        for side in SIDES {
            assert_eq!(outcome.hwtstamp(side, "after"), OFF, "as it was before the killed one");
        }
    }));
    all
}

/// A session that both sides are stopped in by a signal.
fn interrupted(path: &str, signal: &str) -> String {
    let mut session = Session::hardware(Mode::Forward, path, "");
    session.client += " --count 0";
    format!(
        "testnic {}\nhwtstamp before\nserver {}\nclient {}\nwait_for_rows client 60\nhwtstamp during\n\
         send_signal {signal} client\nsend_signal {signal} server\nfinish client server\nobserve\n",
        WIRE.parameters(),
        session.server,
        session.client
    )
}

/// What is known of the clocks is found in the meta file: each sample is true within the uncertainty that it states.
fn clocks() -> Vec<Scenario> {
    let mut all = Vec::new();
    let drift_ppb = [50_000, -33_333];
    let ways =
        [("cross", "PTP_SYS_OFFSET_PRECISE"), ("extended", "PTP_SYS_OFFSET_EXTENDED"), ("basic", "PTP_SYS_OFFSET")];
    for (read, method) in ways {
        let mut session = Session::hardware(Mode::Forward, "xdp", "");
        session.client += " --count 4";
        let parameters = format!("phc_read={read} drift_ppb={},{}", drift_ppb[0], drift_ppb[1]);
        all.push(scenario(format!("clocks-{read}"), &parameters, &session, move |outcome| {
            outcome.assert_success();
            for (side, drift_ppb) in SIDES.into_iter().zip(drift_ppb) {
                let samples = clock_samples(&outcome.meta(side));
                assert!(samples.len() >= 4, "one a second: {samples:?}");
                let epoch = outcome.counter(side, "phc_epoch_ns") as i64;
                for sample in &samples {
                    let elapsed = i128::from(sample.system - epoch);
                    let truth = WIRE.offset(side) + (elapsed * i128::from(drift_ppb) / 1_000_000_000) as i64;
                    let ClockSample { offset, uncertainty, .. } = sample;
                    // A nanosecond for the rounding of each of the two clocks.
                    let off = (offset - truth).abs();
                    assert!(off <= uncertainty + 2, "the {}'s is off by {off}: {sample:?}", side.name());
                }
                assert!(samples.iter().all(|sample| sample.method == method), "{samples:?}");
            }
        }));
    }
    all
}

/// NICs that stamp of what they receive only PTP events, one at a time.
fn ptp_only() -> Vec<Scenario> {
    let mut all = Vec::new();
    for path in PATHS {
        for mode in MODES {
            let session = Session::hardware(mode, path, "");
            let name = format!("ptp-auto-{path}-{}", mode.name());
            all.push(scenario(name, "filters=ptp-only kfunc=absent", &session, move |outcome| {
                assert_ptp(outcome, mode);
                let said = outcome.stderr(Side::Client);
                assert!(said.to_lowercase().contains("ptp"), "the choice is told: {said}");
            }));
        }
        for how in ["udp", "l2"] {
            let session = Session::ptp(Mode::Forward, path, &format!("--ptp {how}"));
            all.push(scenario(format!("ptp-{how}-{path}"), "filters=ptp-only kfunc=absent", &session, |outcome| {
                assert_ptp(outcome, Mode::Forward);
            }));
        }
        let session = Session::ptp(Mode::Forward, path, "--stamp-every 10");
        all.push(scenario(
            format!("ptp-stamp-every-{path}"),
            "filters=ptp-only kfunc=absent",
            &session,
            move |outcome| {
                assert_ptp(outcome, Mode::Forward);
                let logs = Logs::of(outcome);
                let pings = outcome.json(Side::Client)["pings_sent"].as_u64().expect("pings are counted");
                let stamped = logs.sent(&Mode::Forward.ways()[0]).len() as u64;
                assert!(stamped.abs_diff(pings / 10) <= 1, "{stamped} of {pings} pings are a tenth");
                // The others carry what the bypass saw, and no row of the log takes that for the card's.
                for side in SIDES.into_iter().filter(|_| path == "xdp") {
                    let unstamped: Vec<_> = outcome
                        .stages(side)
                        .into_iter()
                        .filter(|stage| ["t1", "t3"].contains(&stage.point.as_str()) && stage.hardware.is_none())
                        .collect();
                    assert!(unstamped.len() > 20, "{} at the {}", unstamped.len(), side.name());
                    assert!(
                        unstamped.iter().all(|stage| stage.software.is_some()),
                        "the hook stamps them: {unstamped:?}"
                    );
                    let log = outcome.log(side);
                    let logged = |stage: &Stage| log.point(&stage.point).contains_key(&stage.sequence);
                    assert!(!unstamped.iter().any(logged), "{unstamped:?}");
                }
            },
        ));
    }
    // Such NICs have one place for a transmit stamp, too: who sends the next one before the driver has read it gets none.
    for path in PATHS {
        let session = Session::ptp(Mode::Forward, path, "--stamp-every 1");
        let parameters = "filters=ptp-only kfunc=absent tx_one_slot=1 tx_late_ns=8000000";
        all.push(scenario(format!("ptp-one-slot-{path}"), parameters, &session, |outcome| {
            assert_ptp(outcome, Mode::Forward);
            for (side, stamps) in SIDES.into_iter().zip(stamps(outcome)) {
                let skipped = outcome.counter(side, "tx_hwtstamp_skipped");
                assert_eq!(stamps.tx_missed, skipped, "missed and skipped at the {}", side.name());
            }
            assert_eq!(outcome.counter(Side::Client, "tx_hwtstamp_skipped"), 0, "who pings waits for its own stamp");
        }));
    }
    // A driver may list what it refuses: then, too, PTP is chosen.
    for path in PATHS {
        let session = Session::hardware(Mode::Forward, path, "");
        let parameters = "filters=ptp-only lists_all=1 kfunc=absent";
        let parameters = if path == "xdp" { "filters=ptp-only lists_all=1" } else { parameters };
        all.push(scenario(format!("ptp-all-listed-and-refused-{path}"), parameters, &session, |outcome| {
            assert_ptp_exact(outcome, Mode::Forward);
            let said = outcome.stderr(Side::Client);
            assert!(said.contains("does not stamp all packets") && said.contains("--ptp udp"), "{said}");
        }));
    }
    // A driver with the kfunc may redirect PTP frames: the stamp is read in the hook.
    let session = Session::hardware(Mode::Forward, "xdp", "");
    all.push(scenario("ptp-with-kfunc", "filters=ptp-only", &session, |outcome| {
        assert_ptp_exact(outcome, Mode::Forward);
    }));
    // And a NIC that stamps everything stamps PTP, too.
    let session = Session::ptp(Mode::Forward, "xdp", "--ptp udp");
    all.push(scenario("ptp-where-all-is-stamped", "", &session, |outcome| {
        assert_ptp_exact(outcome, Mode::Forward);
    }));
    all
}

/// What `caps` says of NICs of each kind, and that it changes nothing.
fn capabilities() -> Vec<Scenario> {
    let kinds = [
        ("all", "queues=2", json!({"timestamps": "hardware", "path": "xdp"})),
        ("kfunc-absent", "kfunc=absent", json!({"timestamps": "hardware", "path": "kernel"})),
        ("ptp-only", "filters=ptp-only kfunc=absent", json!({"timestamps": "hardware"})),
    ];
    let scenario = |(name, parameters, best): (&str, &str, Value)| {
        let script = format!(
            "testnic {} {parameters}\nhwtstamp before\nbegin caps client xdprobe caps --interface tn0 --json\n\
             begin text client xdprobe caps --interface tn0\nfinish caps text\nobserve\n",
            WIRE.parameters()
        );
        Scenario::new(format!("caps-{name}"), script, move |outcome| {
            assert_eq!((outcome.code("caps"), outcome.code("text")), (0, 0));
            let caps: Value = serde_json::from_str(&outcome.file("caps.out")).expect("one JSON object");
            assert_eq!(caps["driver"]["value"]["name"], "testnic");
            for (field, value) in best.as_object().expect("it is one") {
                assert_eq!(&caps["best_stamps"][field], value, "{}", caps["best_stamps"]);
            }
            assert!(outcome.file("text.out").contains("testnic"));
            outcome.assert_unchanged();
        })
    };
    kinds.map(scenario).into()
}

/// What a process may do without privileges that some options need.
fn privileges() -> Vec<Scenario> {
    // The kernel counts the bytes of AF_XDP's memory against the limit, to the last one; that may be raised only here.
    let begin = |name: &str, kibibytes: u32| {
        format!(
            "begin {name} server dash -c 'ulimit -l {kibibytes}; exec setpriv --bounding-set=-ipc_lock xdprobe --server -e -i tn1'\n"
        )
    };
    let locked = format!(
        "testnic {}\n{}finish tight\n{}wait_for_line roomy.out started 1\nsend_signal INT roomy\nfinish roomy\n",
        WIRE.parameters(),
        begin("tight", 12_287),
        begin("roomy", 12_288)
    );
    let locked = Scenario::new("privileges-locked-memory", locked, |outcome| {
        assert_eq!((outcome.code("tight"), outcome.code("roomy")), (1, 0));
        let said = outcome.file("tight.err");
        for part in ["12288 KiB", "12287 KiB", "CAP_IPC_LOCK"] {
            assert!(said.contains(part), "{part}: {said}");
        }
    });
    let denied = "setpriv --bounding-set=-net_bind_service xdprobe --timestamps hardware --path kernel --json";
    let mut ports = format!("testnic {} filters=ptp-only kfunc=absent\nhwtstamp before\n", WIRE.parameters());
    ports += &format!("begin denied client {denied} --client -i tn0 $server_address\nfinish denied\n");
    ports += &format!("begin deaf server {denied} --server -i tn1\nwait_for_line deaf.err started 1\n");
    ports += "send_signal INT deaf\nfinish deaf\nrm $out/denied.code $out/deaf.code\nfor side in client server; do\n\
              on $side dash -c 'echo 319 >/proc/sys/net/ipv4/ip_unprivileged_port_start'\ndone\n";
    ports += &format!("begin server server {denied} --server -i tn1 --log $out/server.csv\nwait_for_server\n");
    ports += &format!(
        "begin client client {denied} --client -i tn0 -n 1 -d 5000 {PATIENCE} --log $out/client.csv $server_address\n"
    );
    ports += "finish client server\nobserve\nfor side in client server; do\n\
              on $side dash -c 'echo 1024 >/proc/sys/net/ipv4/ip_unprivileged_port_start'\ndone\n";
    let ports = Scenario::new("privileges-ptp-port", ports, |outcome| {
        let said = outcome.file("denied.err");
        for part in ["CAP_NET_BIND_SERVICE", "net.ipv4.ip_unprivileged_port_start=319", "--ptp l2"] {
            assert!(said.contains(part), "{part}: {said}");
        }
        // A server may still serve clients over Ethernet.
        let said = outcome.file("deaf.err");
        assert!(said.contains("clients with --ptp udp cannot be served: UDP port 319"), "{said}");
        assert_ptp(outcome, Mode::Forward);
    });
    vec![locked, ports]
}

/// No PTP frame went where its stamp would stay in the register, and so none blocked it.
fn assert_ptp(outcome: &Outcome, mode: Mode) {
    for side in SIDES {
        assert_eq!(outcome.counter(side, "rx_ptp_events_redirected"), 0, "at the {}", side.name());
        assert_eq!(outcome.counter(side, "rx_hwtstamp_cleared"), 0, "at the {}", side.name());
    }
    assert_ptp_exact(outcome, mode);
}

fn assert_ptp_exact(outcome: &Outcome, mode: Mode) {
    outcome.assert_success();
    let logs = Logs::of(outcome);
    let counts = logs.assert_exact(mode, &WIRE);
    assert!(counts.iter().all(|count| *count > 3), "packets with both stamps: {counts:?}");
    for stamps in stamps(outcome) {
        stamps.assert_accounted();
    }
    outcome.assert_unchanged();
}

/// Stamps inside the pongs: the side that pings knows the wire's delay, twice, from its own statistics alone.
fn in_band() -> Vec<Scenario> {
    let mut all = Vec::new();
    for path in PATHS {
        for mode in [Mode::Forward, Mode::Reverse] {
            let mut session = Session::hardware(mode, path, "");
            session.client += " --in-band";
            all.push(scenario(format!("in-band-{path}-{}", mode.name()), "", &session, move |outcome| {
                assert_perfect(outcome, mode, &WIRE);
                let (count, missing) = assert_rtt(outcome, mode);
                // The last pong's stamps come with no other; a slow guest is told of a few later.
                assert!(count > 5 && (1..=10).contains(&missing), "{count} and {missing} missing");
            }));
        }
        let mut session = Session::hardware(Mode::Forward, path, "");
        session.client += " --in-band --ptp auto";
        all.push(scenario(format!("in-band-ptp-{path}"), "filters=ptp-only kfunc=absent", &session, |outcome| {
            assert_ptp(outcome, Mode::Forward);
            let (count, _) = assert_rtt(outcome, Mode::Forward);
            assert!(count > 3, "{count}");
            let log = outcome.file("client.csv");
            assert!(log.lines().any(|line| line.contains(",t3,") && line.ends_with(",144")), "{log}");
        }));
        // Stamps that never come, come when some further pongs are gone, or in another order: what is told is right, and what
        // is missing is counted.
        for (what, parameters) in
            [("lost", "tx_lost=100"), ("late", "tx_late_ns=30000000"), ("swapped", "tx_reorder=1")]
        {
            let mut session = Session::hardware(Mode::Forward, path, "");
            session.client += " --in-band";
            all.push(scenario(format!("in-band-tx-{what}-{path}"), parameters, &session, |outcome| {
                outcome.assert_success();
                let (count, missing) = assert_rtt(outcome, Mode::Forward);
                assert!(count > 5 && missing > 0, "{count} and {missing} missing");
            }));
        }
    }
    all
}

/// The RTTs of the side that pings are all twice the wire's delay: how many there are, and how many are missing.
fn assert_rtt(outcome: &Outcome, mode: Mode) -> (u64, u64) {
    let (pings, pongs) = match mode {
        Mode::Reverse => (Side::Server, Side::Client),
        Mode::Forward | Mode::Duplex => (Side::Client, Side::Server),
    };
    let json = outcome.json(pings);
    let expected = json!(2 * WIRE.delay_ns);
    for name in ["min", "p50", "p99", "p999", "max"] {
        assert_eq!(json["rtt_ns"][name], expected, "{name}: {json}");
    }
    assert_eq!((&json["t2_t1_source"], &json["rtt_negative"]), (&json!("hardware"), &json!(0)), "{json}");
    let count = number(&json["rtt_ns"], "count");
    assert!(number(&outcome.json(pongs), "stamps_told") >= count, "each was told once");
    (count, number(&json, "rtt_missing"))
}

/// Both paths of a comparison have round trips of twice the wire's delay and no difference, whatever card it is; and the card is
/// given back.
fn comparison() -> Vec<Scenario> {
    let kinds = [("all", "", 100), ("ptp-only", "filters=ptp-only kfunc=absent", 144)];
    let scenario = |(name, parameters, pong_size): (&str, &str, u64)| {
        let flags = format!("--timestamps hardware {PATIENCE}");
        let script = format!(
            "testnic {} {parameters}\nhwtstamp before\n\
             begin server server xdprobe --server --keep --json --interface $server_nic {flags}\nwait_for_server\n\
             begin compare client xdprobe compare --interface $client_nic --json --rounds 3 --delay 5000 --timer sleep \
             --connect-timeout 20000000 {flags} $server_address\n\
             finish compare\nsend_signal TERM server\nfinish server\nobserve\n",
            WIRE.parameters()
        );
        Scenario::new(format!("compare-{name}"), script, move |outcome| {
            assert_eq!((outcome.code("compare"), outcome.code("server")), (0, 0));
            let json: Value = serde_json::from_str(&outcome.file("compare.out")).expect("one JSON object");
            let expected = json!(2 * WIRE.delay_ns);
            assert_eq!(number(&json, "pong_size"), pong_size);
            for path in PATHS {
                let of = &json["paths"][path];
                for name in ["min", "p50", "p99", "p999", "max"] {
                    assert_eq!(of["rtt_ns"][name], expected, "{path}, {name}: {of}");
                }
                assert_eq!((&of["client_path"], &of["server_path"]), (&json!(path), &json!(path)));
                assert_eq!((&of["tx_source"], &of["rx_source"]), (&json!("hardware"), &json!("hardware")), "{of}");
                let (count, pings) = (number(&of["rtt_ns"], "count"), number(of, "pings_sent"));
                assert!((6..pings).contains(&count), "{count} of {pings}: the last pong's stamps are never told: {of}");
                assert!(of["t3_t0_ns"]["min"].as_i64() > expected.as_i64(), "the server took its time: {of}");
                assert_eq!(number(of, "lost"), 0, "{of}");
            }
            for name in ["mean", "p50", "p90", "p99", "p999"] {
                let difference = &json["difference_ns"][name];
                assert_eq!(
                    difference,
                    &json!({"estimate": 0, "low": 0, "high": 0, "within_noise": true}),
                    "{name}: {json}"
                );
            }
            let sessions = outcome.file("server.out");
            let paths = sessions.lines().filter_map(|line| serde_json::from_str::<Value>(line).ok());
            let paths: Vec<_> = paths.filter_map(|session| Some(session["path"].as_str()?.to_owned())).collect();
            assert_eq!(paths, ["xdp", "kernel", "kernel", "xdp", "xdp", "kernel"], "{sessions}");
            assert_eq!(outcome.hwtstamp(Side::Client, "before"), OFF);
            outcome.assert_unchanged();
        })
    };
    kinds.map(scenario).into()
}

/// The original program at one end or both, where the environment names it.
fn with_the_original() -> Vec<Scenario> {
    let mut all = Vec::new();
    for mode in MODES {
        let flags = format!("--count 1 --delay 5000 {}", mode.flag());
        let [our_server, our_client] = [
            // The original client gives up 5 s after its start, and a slow guest may take that long to start a server.
            "server --json --timestamps hardware --path xdp\nwait_for_server\n".to_owned(),
            format!("client --json --timestamps hardware --path xdp {flags}\n"),
        ];
        let [its_server, its_client] = [
            "begin server server original --server --interface $server_nic --log $out/server.csv\n".to_owned(),
            format!(
                "begin client client original --client --interface $client_nic {flags} --log $out/client.csv $server_address\n"
            ),
        ];
        if mode == Mode::Forward {
            let ptp = "client --json --timestamps hardware --ptp udp --count 1\n";
            let script = format!(
                "testnic {}\nhwtstamp before\n{its_server}{ptp}while ! [ -e $out/client.code ]; do sleep 0.1; done\nkill -9 $(cat $out/server.pid) || true\n",
                WIRE.parameters()
            );
            all.push(Scenario::new("original-server-has-no-ptp", script, |outcome| {
                assert_eq!(outcome.code("client"), 1);
                let said = outcome.stderr(Side::Client);
                assert!(said.contains("does not answer the extension that --ptp needs"), "{said}");
            }));
        }
        let pairs = [
            ("original-alone", &its_server, &its_client),
            ("original-client", &our_server, &its_client),
            ("original-server", &its_server, &our_client),
        ];
        for (name, server, client) in pairs {
            let script = format!(
                "testnic {}\nhwtstamp before\n{server}{client}finish client server\nobserve\n",
                WIRE.parameters()
            );
            all.push(Scenario::new(format!("{name}-{}", mode.name()), script, move |outcome| {
                outcome.assert_success();
                let counts = Logs::of(outcome).assert_exact(mode, &WIRE);
                // Of 200, on a machine that may be busy with other guests.
                assert!(counts.iter().all(|count| *count > 5), "packets with both stamps: {counts:?}");
            }));
        }
    }
    all
}
