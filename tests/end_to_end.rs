//! The built program as its user runs it: two network namespaces, every mode on every pair of paths, signals, wrong ground.
//!
//! Needs root and iproute2. Nothing here asserts a time; every wait has a bound that only a hang reaches.

#[path = "support/programs.rs"]
mod programs;

use nix::sys::signal::Signal;
use programs::{CLIENT_LINK, Lan, Program, SERVER_ADDRESS, SERVER_LINK, Side};
use std::collections::BTreeMap;
use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream, UdpSocket};
use std::process::Command;

const PATHS: [&str; 2] = ["xdp", "kernel"];

/// One row of a log.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Row {
    sequence: u64,
    nanos: i64,
    size: u16,
}

/// The rows of a log by point, in the order of the file.
#[derive(Debug, Default)]
struct Log {
    rows: BTreeMap<String, Vec<Row>>,
    headers: usize,
}

impl Log {
    fn read(path: &str) -> Self {
        let text = std::fs::read_to_string(path).unwrap_or_else(|err| panic!("cannot read {path}: {err}"));
        let mut log = Self::default();
        for line in text.lines() {
            if line == "seq,timestamp-idx,timestamp,size" {
                log.headers += 1;
                continue;
            }
            let fields: Vec<&str> = line.split(',').collect();
            let [sequence, point, stamp, size] = fields[..] else { panic!("a row has four fields: {line:?}") };
            let (seconds, nanos) = stamp.split_once('.').expect("a stamp has a dot");
            assert_eq!(nanos.len(), 9, "nine digits of nanoseconds: {line:?}");
            let nanos = seconds.parse::<i64>().unwrap() * 1_000_000_000 + nanos.parse::<i64>().unwrap();
            let row = Row { sequence: sequence.parse().unwrap(), nanos, size: size.parse().unwrap() };
            log.rows.entry(point.to_owned()).or_default().push(row);
        }
        log
    }

    fn point(&self, point: &str) -> &[Row] {
        self.rows.get(point).map_or(&[], Vec::as_slice)
    }

    fn points(&self) -> Vec<&str> {
        self.rows.keys().map(String::as_str).collect()
    }

    /// The sequences of a point are `step`, 2 × `step` … in the order of time, every size as given.
    fn assert_complete(&self, point: &str, step: usize, size: u16) {
        let rows = self.point(point);
        assert!(!rows.is_empty(), "there are {point} rows");
        for (row, expected) in rows.iter().zip((step as u64..).step_by(step)) {
            assert_eq!((row.sequence, row.size), (expected, size), "{point} rows are complete and in order");
        }
        assert!(rows.windows(2).all(|pair| pair[0].nanos <= pair[1].nanos), "{point} stamps run forwards");
    }
}

/// Every row of `later` is a row of `earlier` with a stamp that is not before it: both ends read one clock.
fn assert_not_before(later: &[Row], earlier: &[Row]) {
    let earlier: BTreeMap<u64, i64> = earlier.iter().map(|row| (row.sequence, row.nanos)).collect();
    for row in later {
        let before = earlier.get(&row.sequence).expect("what was received was sent");
        assert!(row.nanos >= *before, "sequence {} was received before it was sent", row.sequence);
    }
}

/// What both sides of a session printed and logged.
struct Outcome {
    client: Program,
    server: Program,
    client_log: Log,
    server_log: Log,
}

impl Outcome {
    fn assert_success(&self) {
        assert_eq!(self.client.code(), Some(0), "client: {}", self.client.all_output());
        assert_eq!(self.server.code(), Some(0), "server: {}", self.server.all_output());
        for output in [self.client.stdout(), self.server.stdout()] {
            assert!(output.contains("--- nanoprobe statistics ---"), "{output}");
        }
    }

    fn counts(&self, log: impl Fn(&Self) -> &Log, points: [&str; 2]) -> [usize; 2] {
        points.map(|point| log(self).point(point).len())
    }
}

fn start_server(lan: &Lan, path: &str, log: &str, flags: &[&str]) -> Program {
    let fixed = ["--server", "--interface", SERVER_LINK, "--emulation", "--path", path, "--log", log];
    let mut server = lan.start(Side::Server, &[&fixed, flags].concat());
    server.wait_for_line("nanoprobe server started");
    server
}

fn start_client(lan: &Lan, path: &str, log: &str, flags: &[&str]) -> Program {
    let fixed = ["--client", "--interface", CLIENT_LINK, "--emulation", "--path", path, "--log", log];
    lan.start(Side::Client, &[&fixed, flags, &[SERVER_ADDRESS]].concat())
}

/// Runs one session to its end. `flags` go to the client, `server_flags` to the server.
fn session(lan: &Lan, (client_path, server_path): (&str, &str), flags: &[&str], server_flags: &[&str]) -> Outcome {
    let logs = [lan.file("client.csv"), lan.file("server.csv")];
    for log in &logs {
        let _ = std::fs::remove_file(log);
    }
    let mut server = start_server(lan, server_path, &logs[1], server_flags);
    let mut client = start_client(lan, client_path, &logs[0], flags);
    client.finish();
    server.finish();
    let [client_log, server_log] = logs.map(|log| Log::read(&log));
    Outcome { client, server, client_log, server_log }
}

fn each_pair_of_paths(mut run: impl FnMut((&str, &str))) {
    for client in PATHS {
        for server in PATHS {
            run((client, server));
        }
    }
}

#[test]
fn forward_is_complete_on_every_pair_of_paths_and_in_every_size() {
    let lan = Lan::new(1);
    each_pair_of_paths(|paths| {
        for size in [44_u16, 45, 1500] {
            let text = size.to_string();
            let flags = ["--count", "1", "--delay", "5000", "--ping-size", &text, "--pong-size", &text];
            let outcome = session(&lan, paths, &flags, &[]);
            outcome.assert_success();
            let (client, server) = (&outcome.client_log, &outcome.server_log);
            assert_eq!((client.points(), server.points()), (vec!["t0", "t3"], vec!["t1", "t2"]));
            for (log, point) in [(client, "t0"), (server, "t1"), (server, "t2"), (client, "t3")] {
                log.assert_complete(point, 1, size);
                assert_eq!(log.point(point).len(), client.point("t0").len(), "{point} on {paths:?}");
            }
            // Fewer only where the machine took the CPU away and slots were skipped.
            assert!((1..=200).contains(&client.point("t0").len()));
            assert_not_before(server.point("t1"), client.point("t0"));
            assert_not_before(server.point("t2"), server.point("t1"));
            assert_not_before(client.point("t3"), server.point("t2"));
            assert!(outcome.client.stdout().contains(", 0.000000% packet loss"), "{}", outcome.client.all_output());
        }
    });
    lan.assert_unchanged();
}

#[test]
fn reverse_is_complete_on_every_pair_of_paths() {
    let lan = Lan::new(1);
    each_pair_of_paths(|paths| {
        let outcome = session(&lan, paths, &["--count", "1", "--delay", "2000", "--reverse"], &[]);
        outcome.assert_success();
        let (client, server) = (&outcome.client_log, &outcome.server_log);
        assert_eq!((client.points(), server.points()), (vec!["t1", "t2"], vec!["t0", "t3"]));
        for (log, point) in [(server, "t0"), (client, "t1"), (client, "t2"), (server, "t3")] {
            log.assert_complete(point, 1, 44);
            assert_eq!(log.point(point).len(), server.point("t0").len(), "{point} on {paths:?}");
        }
        assert!(outcome.server.stdout().contains(", 0.000000% packet loss"), "{}", outcome.server.all_output());
        assert!(outcome.client.stdout().contains("Client disconnected."), "{}", outcome.client.all_output());
    });
    lan.assert_unchanged();
}

#[test]
fn duplex_is_complete_on_every_pair_of_paths() {
    let lan = Lan::new(1);
    each_pair_of_paths(|paths| {
        let outcome = session(&lan, paths, &["--count", "1", "--delay", "2000", "--duplex"], &[]);
        outcome.assert_success();
        let (client, server) = (&outcome.client_log, &outcome.server_log);
        assert_eq!((client.points(), server.points()), (vec!["t0cs", "t1sc"], vec!["t0sc", "t1cs"]));
        for (sender, sent, receiver, received) in [(client, "t0cs", server, "t1cs"), (server, "t0sc", client, "t1sc")] {
            sender.assert_complete(sent, 1, 44);
            receiver.assert_complete(received, 1, 44);
            assert_eq!(sender.point(sent).len(), receiver.point(received).len(), "{received} on {paths:?}");
            assert_not_before(receiver.point(received), sender.point(sent));
        }
    });
    lan.assert_unchanged();
}

#[test]
fn pong_every_dummies_and_schedules_work_on_every_pair_of_paths() {
    let lan = Lan::new(1);
    let schedule = lan.file("schedule.csv");
    std::fs::write(&schedule, "1000,44\n\n2000,300\n0,1500\n500,45\n").unwrap();
    each_pair_of_paths(|paths| {
        let flags = ["--count", "1", "--delay", "5000", "--pong-every", "3", "--dummy-pkt", "2", "--pong-size", "60"];
        let outcome = session(&lan, paths, &flags, &["-x", "1"]);
        outcome.assert_success();
        let (client, server) = (&outcome.client_log, &outcome.server_log);
        client.assert_complete("t0", 1, 44);
        client.assert_complete("t3", 3, 60);
        let [pings, pongs] = outcome.counts(|outcome| &outcome.client_log, ["t0", "t3"]);
        assert_eq!(pongs, pings / 3);
        assert_eq!([server.point("t1").len(), server.point("t2").len()], [pings, pongs]);
        let transmitted = pings * 3 + 2;
        let received = pongs * 2 + 2;
        let line = outcome.client.stdout();
        assert!(line.contains(&format!("{transmitted} packets transmitted (")), "{line}");
        assert!(line.contains(&format!(", {received} received (")), "dummies count as received: {line}");

        let outcome = session(&lan, paths, &["--probe-schedule", &schedule], &[]);
        outcome.assert_success();
        let sizes = |rows: &[Row]| rows.iter().map(|row| row.size).collect::<Vec<_>>();
        assert_eq!(sizes(outcome.server_log.point("t1")), [44, 300, 1500, 45]);

        let outcome = session(&lan, paths, &["--reverse", "--count", "1"], &["--probe-schedule", &schedule]);
        outcome.assert_success();
        assert_eq!(sizes(outcome.client_log.point("t1")), [44, 300, 1500, 45]);
    });
    lan.assert_unchanged();
}

#[test]
fn the_kernel_path_fragments_and_the_xdp_path_refuses_before_it_sends() {
    let lan = Lan::new(1);
    let flags = ["--count", "1", "--delay", "10000", "--ping-size", "2000", "--pong-size", "1800"];
    let outcome = session(&lan, ("kernel", "kernel"), &flags, &[]);
    outcome.assert_success();
    outcome.server_log.assert_complete("t1", 1, 2000);
    outcome.client_log.assert_complete("t3", 1, 1800);

    let log = lan.file("refused.csv");
    for flag in ["--ping-size", "--pong-size"] {
        let mut client = start_client(&lan, "xdp", &log, &[flag, "1501"]);
        client.finish();
        assert_eq!(client.code(), Some(1));
        for part in [flag, "1501", "1500", "--path kernel"] {
            assert!(client.stderr().contains(part), "{part} is named: {}", client.stderr());
        }
    }
    // A server on the xdp path refuses what it could not receive or send, and goes on listening.
    let mut server = start_server(&lan, "xdp", &lan.file("server.csv"), &[]);
    let mut client = start_client(&lan, "kernel", &log, &flags);
    client.finish();
    assert_eq!(client.code(), Some(1));
    assert!(client.stderr().contains("rejected"), "{}", client.stderr());
    server.wait_for_line("--path kernel");
    server.signal(Signal::SIGINT);
    server.finish();
    lan.assert_unchanged();
}

#[test]
fn all_of_four_queues_are_served() {
    let lan = Lan::new(4);
    for paths in [("xdp", "xdp"), ("kernel", "xdp"), ("xdp", "kernel")] {
        let outcome = session(&lan, paths, &["--count", "1", "--delay", "2000"], &["--json"]);
        assert_eq!(outcome.client.code(), Some(0), "{}", outcome.client.all_output());
        outcome.client_log.assert_complete("t3", 1, 44);
        let [pings, pongs] = outcome.counts(|outcome| &outcome.client_log, ["t0", "t3"]);
        assert_eq!(pings, pongs, "{paths:?}: {}", outcome.server.all_output());
    }
    // Pings that come in on a queue without a socket go to the kernel: here queue 0 has none.
    let outcome = session(&lan, ("xdp", "xdp"), &["--count", "1", "--queue", "2"], &["--queue", "1-3"]);
    outcome.assert_success();
    let mut wrong = start_client(&lan, "xdp", &lan.file("wrong.csv"), &["--queue", "4"]);
    wrong.finish();
    assert_eq!(wrong.code(), Some(1));
    assert!(wrong.stderr().contains("queues 0 to 3"), "{}", wrong.stderr());
    lan.assert_unchanged();
}

#[test]
fn other_traffic_beside_the_probes_loses_nothing() {
    let lan = Lan::new(1);
    let mut server = start_server(&lan, "xdp", &lan.file("server.csv"), &[]);
    let mut client = start_client(&lan, "xdp", &lan.file("client.csv"), &["--count", "3", "--delay", "100"]);
    client.wait_until("the session", |_| server.stdout().contains("Connected"));
    // A stream of 32 MiB through the same links, checked byte for byte; its port is that of SSH.
    let block: Vec<u8> = (0..1 << 20).map(|at: u32| (at.wrapping_mul(2_654_435_761) >> 13) as u8).collect();
    let listener =
        lan.namespace(Side::Server).run(|| TcpListener::bind((SERVER_ADDRESS, 22)).expect("nobody has this port"));
    let mut sender =
        lan.namespace(Side::Client).run(|| TcpStream::connect((SERVER_ADDRESS, 22)).expect("the link is up"));
    let (mut receiver, _) = listener.accept().expect("the client has connected");
    std::thread::scope(|scope| {
        scope.spawn(|| {
            for _ in 0..32 {
                sender.write_all(&block).expect("the stream takes everything");
            }
            sender.shutdown(std::net::Shutdown::Write).expect("the stream is open");
        });
        let mut received = vec![0; block.len()];
        for _ in 0..32 {
            receiver.read_exact(&mut received).expect("nothing is lost");
            assert!(received == block, "every byte arrives");
        }
        assert_eq!(receiver.read(&mut received).expect("the stream ends in order"), 0);
    });
    client.finish();
    server.finish();
    assert_eq!((client.code(), server.code()), (Some(0), Some(0)), "{}", client.all_output());
    lan.assert_unchanged();
}

#[test]
fn signals_end_either_side_in_order() {
    let lan = Lan::new(1);
    for path in PATHS {
        for signal in [Signal::SIGINT, Signal::SIGTERM, Signal::SIGQUIT] {
            for (reverse, stopped) in
                [(false, Side::Client), (false, Side::Server), (true, Side::Client), (true, Side::Server)]
            {
                let case = format!("{signal} to the {stopped:?} on {path}, reverse: {reverse}");
                let mut server = start_server(&lan, path, &lan.file("server.csv"), &[]);
                let direction: &[&str] = if reverse { &["--reverse"] } else { &[] };
                let flags = [&["--count", "60", "--delay", "1000"], direction].concat();
                let mut client = start_client(&lan, path, &lan.file("client.csv"), &flags);
                server.wait_for_line("Connected to client");
                match stopped {
                    Side::Client => client.signal(signal),
                    Side::Server => server.signal(signal),
                }
                client.finish();
                server.finish();
                for program in [&client, &server] {
                    assert!(program.stdout().contains("nanoprobe statistics"), "{case}: {}", program.all_output());
                }
                let was_client = stopped == Side::Client;
                let (stopped, other) = match stopped {
                    Side::Client => (&client, &server),
                    Side::Server => (&server, &client),
                };
                assert_eq!(stopped.code(), Some(0), "{case}: {}", stopped.all_output());
                // Where the echoing side is stopped, the pinging side's measurement is cut short, and it says so.
                let pinging_stopped = was_client != reverse;
                assert_eq!(other.code(), Some(if pinging_stopped { 0 } else { 1 }), "{case}: {}", other.all_output());
                lan.assert_unchanged();
            }
        }
    }
}

#[test]
fn sigkill_of_either_side_leaves_no_xdp_program() {
    let lan = Lan::new(1);
    for killed in [Side::Client, Side::Server] {
        let timeout = ["--timeout", "500000"];
        let mut server = start_server(&lan, "xdp", &lan.file("server.csv"), &timeout);
        let flags = [&["--count", "60", "--delay", "1000"][..], &timeout].concat();
        let mut client = start_client(&lan, "xdp", &lan.file("client.csv"), &flags);
        server.wait_for_line("Connected to client");
        let (victim, other) = match killed {
            Side::Client => (&mut client, &mut server),
            Side::Server => (&mut server, &mut client),
        };
        victim.signal(Signal::SIGKILL);
        victim.finish();
        other.finish();
        assert_eq!(other.code(), Some(1), "the other side times out: {}", other.all_output());
        assert!(other.stderr().contains("--timeout"), "{}", other.all_output());
        lan.assert_unchanged();
    }
}

#[test]
fn a_client_without_a_server_says_so_and_gives_up_when_told_to() {
    let lan = Lan::new(1);
    for path in PATHS {
        let mut client = start_client(&lan, path, &lan.file("client.csv"), &["--connect-timeout", "300000"]);
        client.finish();
        assert_eq!(client.code(), Some(1));
        assert!(client.stderr().contains("--connect-timeout"), "{}", client.stderr());
        let mut client = start_client(&lan, path, &lan.file("client.csv"), &[]);
        client.wait_for_line(&format!("nanoprobe {SERVER_ADDRESS}:10666..."));
        client.signal(Signal::SIGINT);
        client.finish();
        assert_eq!(client.code(), Some(1), "as the original: {}", client.all_output());
    }
    lan.assert_unchanged();
}

#[test]
fn a_second_client_is_refused_and_the_first_one_does_not_notice() {
    let lan = Lan::new(1);
    for server_path in PATHS {
        let mut server = start_server(&lan, server_path, &lan.file("server.csv"), &[]);
        let log = lan.file("first.csv");
        let _ = std::fs::remove_file(&log);
        let mut first = start_client(&lan, "xdp", &log, &["--count", "2", "--delay", "1000"]);
        server.wait_for_line("Connected to client");
        let mut second = start_client(&lan, "kernel", &lan.file("second.csv"), &["--count", "1"]);
        second.finish();
        assert_eq!(second.code(), Some(1));
        assert!(second.stderr().contains("Remote node rejected connection"), "{}", second.all_output());
        server.wait_for_line("Connection already established, drop new connection request from 10.66.0.1:");
        first.finish();
        server.finish();
        assert_eq!((first.code(), server.code()), (Some(0), Some(0)), "{}", first.all_output());
        let log = Log::read(&log);
        log.assert_complete("t3", 1, 44);
        assert_eq!(log.point("t0").len(), log.point("t3").len());
    }
    lan.assert_unchanged();
}

#[test]
fn a_keep_server_serves_one_client_after_the_other_until_it_is_stopped() {
    let lan = Lan::new(1);
    for path in PATHS {
        let log = lan.file(&format!("keep-{path}.csv"));
        let mut server = start_server(&lan, path, &log, &["--keep"]);
        for _ in 0..3 {
            let mut client = start_client(&lan, path, "/dev/null", &["--count", "1", "--delay", "10000"]);
            client.finish();
            assert_eq!(client.code(), Some(0), "{}", client.all_output());
        }
        server
            .wait_until("the third statistics", |server| server.stdout().matches("nanoprobe statistics").count() == 3);
        server.signal(Signal::SIGTERM);
        server.finish();
        assert_eq!(server.code(), Some(0), "{}", server.all_output());
        let log = Log::read(&log);
        assert_eq!(log.headers, 3, "header lines divide the sessions");
    }
    lan.assert_unchanged();
}

#[test]
fn json_is_one_object_and_agrees_with_the_log_and_its_meta_file() {
    let lan = Lan::new(1);
    for path in PATHS {
        let outcome = session(&lan, (path, path), &["--count", "1", "--delay", "1000", "--json"], &["--json"]);
        let json: serde_json::Value =
            serde_json::from_str(&outcome.client.stdout()).expect("stdout is one JSON object");
        assert_eq!(
            (outcome.client.code(), outcome.server.code()),
            (Some(0), Some(0)),
            "{}",
            outcome.client.all_output()
        );
        let [pings, pongs] = outcome.counts(|outcome| &outcome.client_log, ["t0", "t3"]);
        assert_eq!(json["pings_sent"], pings);
        // A SYN and a FIN besides, and each once more for every answer that a busy machine was late with.
        let count = |key: &str| json[key].as_u64().unwrap_or_else(|| panic!("{key} is a number: {json}")) as usize;
        assert!(count("transmitted") >= pings + 2, "{json}");
        assert!((pongs + 2..=count("transmitted")).contains(&count("received")), "{json}");
        assert_eq!(json["lost"], 0);
        assert_eq!((&json["tx_stamps"], &json["rx_stamps"]), (&json["transmitted"], &json["received"]));
        assert_eq!(json["t3_t0_ns"]["count"], pongs);
        assert_eq!(json["path"], path);
        if path == "xdp" {
            assert_eq!((&json["xdp_mode"], &json["zero_copy"]), (&"native".into(), &false.into()));
        } else {
            assert!(json["xdp_mode"].is_null() && json["zero_copy"].is_null());
        }
        let t0: BTreeMap<u64, i64> =
            outcome.client_log.point("t0").iter().map(|row| (row.sequence, row.nanos)).collect();
        let least = outcome.client_log.point("t3").iter().map(|row| row.nanos - t0[&row.sequence]).min().unwrap();
        assert_eq!(json["t3_t0_ns"]["min"], least, "the statistics are of the stamps in the log");

        let meta = std::fs::read_to_string(lan.file("client.csv.meta.json")).expect("the log has a meta file");
        let meta: serde_json::Value = serde_json::from_str(&meta).unwrap();
        assert_eq!(meta["role"], "client");
        assert_eq!(meta["interface"], CLIENT_LINK);
        assert_eq!(meta["path"], path);
        assert_eq!(meta["driver"], "veth");
    }
    lan.assert_unchanged();
}

#[test]
fn wrong_ground_is_named_and_leaves_the_machine_as_it_was() {
    let lan = Lan::new(1);
    lan.namespace(Side::Client).ip(&["link", "add", "down0", "type", "veth", "peer", "name", "bare0"]);
    lan.namespace(Side::Client).ip(&["link", "set", "bare0", "up"]);
    let missing = lan.file("missing/x.csv");
    let schedule = lan.file("bad.csv");
    std::fs::write(&schedule, "100,44\n\n100,43\n").unwrap();
    let cases: [(&[&str], &[&str]); 9] = [
        (&["-i", "nosuch0", SERVER_ADDRESS], &["nosuch0", CLIENT_LINK]),
        (&["-i", "down0", SERVER_ADDRESS], &["down0", "ip link set"]),
        (&["-i", "bare0", SERVER_ADDRESS], &["bare0", "IPv4 address", "ip addr add"]),
        (&["-i", CLIENT_LINK, "192.0.2.1"], &["192.0.2.1", "route"]),
        (&["-i", CLIENT_LINK, "10.66.0.99"], &["10.66.0.99", "ARP"]),
        (&["-i", CLIENT_LINK, "no-such-host.invalid"], &["no-such-host.invalid"]),
        (&["-i", CLIENT_LINK, "--log", &missing, SERVER_ADDRESS], &[&missing, "No such file or directory"]),
        (&["-i", CLIENT_LINK, "--probe-schedule", &schedule, SERVER_ADDRESS], &[&schedule, "line 3", "43"]),
        (&["-i", CLIENT_LINK, "--cpu", "1023", SERVER_ADDRESS], &["--cpu 1023", "online"]),
    ];
    for (flags, parts) in cases {
        let program = lan.run(Side::Client, &[&["--client", "--emulation"], flags].concat());
        assert_eq!(program.code(), Some(1), "{flags:?}: {}", program.all_output());
        for part in parts {
            assert!(program.stderr().contains(part), "{flags:?} names {part:?}: {}", program.stderr());
        }
        lan.assert_unchanged();
    }
    let program = lan.run(Side::Client, &["--client", "-i", CLIENT_LINK, SERVER_ADDRESS]);
    assert_eq!(program.code(), Some(1), "{}", program.all_output());
    assert!(program.stderr().contains("--emulation"), "{}", program.stderr());
}

#[test]
fn a_port_a_queue_or_an_interface_that_is_taken_is_named() {
    let lan = Lan::new(1);
    let log = lan.file("server.csv");
    let mut server = start_server(&lan, "xdp", &log, &[]);
    let flags = ["--server", "--interface", SERVER_LINK, "--emulation"];
    let second = lan.run(Side::Server, &flags);
    assert_eq!(second.code(), Some(1));
    assert!(second.stderr().contains("10666"), "the port is taken: {}", second.stderr());
    let third = lan.run(Side::Server, &[&flags[..], &["--port", "10667"]].concat());
    assert_eq!(third.code(), Some(1));
    for part in ["already has", "xdprobe", "--path kernel"] {
        assert!(third.stderr().contains(part), "{part}: {}", third.stderr());
    }
    server.signal(Signal::SIGINT);
    server.finish();
    assert_eq!(server.code(), Some(0), "{}", server.all_output());
    lan.assert_unchanged();
}

/// The program in a namespace, with the capabilities that `setpriv --bounding-set` leaves.
fn with_capabilities(lan: &Lan, side: Side, capabilities: &str, arguments: &[&str]) -> Program {
    let bounding_set = format!("--bounding-set={capabilities}");
    lan.start_other(side, "setpriv", &[&[&bounding_set, env!("CARGO_BIN_EXE_xdprobe")], arguments].concat())
}

#[test]
fn without_privilege_the_missing_capability_is_named() {
    let lan = Lan::new(1);
    let arguments = ["--client", "--emulation", "-i", CLIENT_LINK, SERVER_ADDRESS];
    let mut program = with_capabilities(&lan, Side::Client, "-net_admin", &arguments);
    program.finish();
    assert_eq!(program.code(), Some(1), "{}", program.all_output());
    assert!(program.stderr().contains("CAP_NET_ADMIN"), "{}", program.stderr());
}

#[test]
fn memory_that_may_not_be_locked_is_named_before_anything_is_touched() {
    let lan = Lan::new(1);
    let program = env!("CARGO_BIN_EXE_xdprobe");
    let line =
        format!("ulimit -l 4096; exec setpriv --bounding-set=-ipc_lock {program} --server -e -i {SERVER_LINK} \"$@\"");
    let run = |more: &[&str]| lan.start_other(Side::Server, "bash", &[&["-c", &line, "bash"], more].concat());
    let mut refused = run(&[]);
    refused.finish();
    assert_eq!(refused.code(), Some(1), "{}", refused.all_output());
    for part in ["12288 KiB", "4096 KiB", "CAP_IPC_LOCK", "ulimit -l", "--queue", "--path kernel"] {
        assert!(refused.stderr().contains(part), "{part}: {}", refused.stderr());
    }
    lan.assert_unchanged();
    let mut kernel = run(&["--path", "kernel"]);
    kernel.wait_for_line("nanoprobe server started");
}

#[test]
fn a_privileged_port_is_named_with_the_ways_out() {
    let lan = Lan::new(1);
    let arguments = ["--server", "-e", "--path", "kernel", "--port", "319", "-i", SERVER_LINK];
    let mut denied = with_capabilities(&lan, Side::Server, "-net_bind_service", &arguments);
    denied.finish();
    assert_eq!(denied.code(), Some(1), "{}", denied.all_output());
    for part in ["port 319", "CAP_NET_BIND_SERVICE", "from 1024 up", "net.ipv4.ip_unprivileged_port_start=319"] {
        assert!(denied.stderr().contains(part), "{part}: {}", denied.stderr());
    }
    let start = "/proc/sys/net/ipv4/ip_unprivileged_port_start";
    lan.namespace(Side::Server).run(|| std::fs::write(start, "319").expect("it is the namespace's own"));
    let mut granted = with_capabilities(&lan, Side::Server, "-net_bind_service", &arguments);
    granted.wait_for_line("nanoprobe server started on port 319");
}

#[test]
fn the_capabilities_that_the_program_names_are_enough() {
    let lan = Lan::new(1);
    let advised = "-all,+net_admin,+net_raw,+bpf,+perfmon,+ipc_lock";
    let arguments = ["--server", "--emulation", "-i", SERVER_LINK];
    let mut server = with_capabilities(&lan, Side::Server, advised, &arguments);
    server.wait_for_line("nanoprobe server started");
    let arguments = ["--client", "--emulation", "-i", CLIENT_LINK, "-n", "1", "-d", "10000", SERVER_ADDRESS];
    let mut client = with_capabilities(&lan, Side::Client, advised, &arguments);
    client.finish();
    server.finish();
    assert_eq!((client.code(), server.code()), (Some(0), Some(0)), "{}{}", client.all_output(), server.all_output());
}

#[test]
fn a_log_that_nobody_reads_waits_until_it_is_read_or_the_user_wants_an_end() {
    let lan = Lan::new(1);
    let fifo = lan.file("fifo");
    nix::unistd::mkfifo(fifo.as_str(), nix::sys::stat::Mode::S_IRWXU).expect("the folder can be written to");
    for path in PATHS {
        for flag in ["--log", "--log-stages"] {
            for signal in [Signal::SIGINT, Signal::SIGTERM] {
                let flags = ["--server", "-e", "-i", SERVER_LINK, "--path", path, flag, &fifo];
                let stopped = || {
                    let mut server = lan.start(Side::Server, &flags);
                    // It holds its port while it waits.
                    server.wait_until("the port", |_| {
                        lan.namespace(Side::Server).run(|| UdpSocket::bind((SERVER_ADDRESS, 10666)).is_err())
                    });
                    server.signal(signal);
                    server.finish();
                    server
                };
                // It has its port before all else is open, and until then a signal just ends it: on a busy machine it is met there.
                let server = (0..50).map(|_| stopped()).find(|server| server.code().is_some());
                let server = server.expect("one of 50 got as far as to its log");
                assert_eq!(server.code(), Some(1), "{}", server.all_output());
                assert!(server.stderr().contains("fifo waited for its reader"), "{}", server.stderr());
                lan.assert_unchanged();
            }
        }
    }
    let mut server = lan.start(Side::Server, &["--server", "-e", "-i", SERVER_LINK, "--log", &fifo]);
    let read = std::thread::spawn(move || std::fs::read_to_string(fifo).expect("a log is text"));
    server.wait_for_line("nanoprobe server started");
    let flags = ["--client", "-e", "-i", CLIENT_LINK, "-n", "1", "-d", "10000", SERVER_ADDRESS];
    let client = lan.run(Side::Client, &flags);
    server.finish();
    assert_eq!((client.code(), server.code()), (Some(0), Some(0)), "{}", server.all_output());
    let log = read.join().expect("the reader does not panic");
    assert!(log.starts_with("seq,timestamp-idx,timestamp,size\n1,t1,") && log.lines().count() > 100, "{log}");
}

#[test]
fn a_closed_stdout_does_not_end_a_session() {
    let lan = Lan::new(1);
    let log = lan.file("client.csv");
    let mut server = start_server(&lan, "xdp", "/dev/null", &[]);
    let program = env!("CARGO_BIN_EXE_xdprobe");
    let line = format!(
        "{program} --client -i {CLIENT_LINK} -e -n 1 -d 10000 --log {log} {SERVER_ADDRESS} | true; echo ${{PIPESTATUS[0]}}"
    );
    let mut client = lan.start_other(Side::Client, "bash", &["-c", &line]);
    client.finish();
    server.finish();
    assert_eq!(client.stdout().trim(), "0", "{}", client.all_output());
    Log::read(&log).assert_complete("t3", 1, 44);
}

#[test]
fn datagrams_of_strangers_end_nothing() {
    let lan = Lan::new(1);
    for path in PATHS {
        let mut server = start_server(&lan, path, &lan.file("server.csv"), &["--keep"]);
        // Seventy ports: more than the xdp path remembers. Short ones, unknown types, a ping and a SYN without settings.
        let strangers = lan
            .namespace(Side::Client)
            .run(|| (0..70).map(|_| UdpSocket::bind("10.66.0.1:0").expect("a port is free")).collect::<Vec<_>>());
        let flags = ["--count", "2", "--delay", "100000", "--reverse"];
        let mut client = start_client(&lan, "kernel", "/dev/null", &flags);
        server.wait_for_line("Connected to client");
        for stranger in &strangers {
            for datagram in [&[7][..], &[0; 16], &[1, 0, 0, 0, 0, 0, 0, 0, 5, 0, 0, 0, 0, 0, 0, 0], &[9; 60]] {
                stranger.send_to(datagram, (SERVER_ADDRESS, 10666)).expect("the link is up");
            }
        }
        client.finish();
        assert_eq!(client.code(), Some(0), "{path}: {}{}", client.all_output(), server.all_output());
        server.signal(Signal::SIGINT);
        server.finish();
        assert_eq!(server.code(), Some(0), "{path}: {}", server.all_output());
    }
}

#[test]
fn a_path_that_breaks_is_no_success() {
    let lan = Lan::new(1);
    for path in PATHS {
        let mut server = start_server(&lan, path, "/dev/null", &["--timeout", "500000"]);
        let mut client = start_client(&lan, path, &lan.file("client.csv"), &["--delay", "1000", "--json"]);
        server.wait_for_line("Connected to client");
        lan.namespace(Side::Client).ip(&["link", "set", CLIENT_LINK, "down"]);
        client.finish();
        server.finish();
        let json: serde_json::Value = serde_json::from_str(&client.stdout()).expect("stdout is one JSON object");
        assert_eq!(client.code(), Some(1), "{}", client.all_output());
        assert_eq!((&json["end"], &json["success"]), (&"broken".into(), &false.into()), "{}", client.all_output());
        assert!(json["duration_ns"].as_u64().is_some_and(|nanos| nanos > 0));
        lan.namespace(Side::Client).ip(&["link", "set", CLIENT_LINK, "up"]);
    }
}

#[test]
fn nothing_is_left_behind() {
    let lan = Lan::new(1);
    let names = [Side::Client, Side::Server].map(|side| lan.namespace(side).name().to_owned());
    drop(lan);
    let output = Command::new("ip").args(["netns", "list"]).output().unwrap();
    let left = String::from_utf8_lossy(&output.stdout);
    assert!(names.iter().all(|name| !left.contains(name.as_str())), "{left}");
}

#[test]
fn a_flood_of_pings_on_the_kernel_path_takes_in_its_pongs() {
    let lan = Lan::new(1);
    let object = |program: &mut Program| -> serde_json::Value {
        program.finish();
        assert_eq!(program.code(), Some(0), "{}", program.all_output());
        serde_json::from_str(&program.stdout()).expect("one object")
    };
    let fixed = ["--emulation", "--json", "--path", "kernel", "--interface"];
    let mut server = lan.start(Side::Server, &[&fixed[..], &[SERVER_LINK, "--server"]].concat());
    server.wait_for_line("nanoprobe server started");
    let client = [CLIENT_LINK, "--client", "-n", "1", "-d", "0", SERVER_ADDRESS];
    let mut client = lan.start(Side::Client, &[&fixed[..], &client].concat());
    let [client, server] = [object(&mut client), object(&mut server)];
    let number =
        |object: &serde_json::Value, name: &str| object[name].as_u64().unwrap_or_else(|| panic!("{name} of {object}"));
    // SYN-ACK and FIN-ACK are no pongs.
    let (sent, received) = (number(&server, "transmitted") - 2, number(&client, "received") - 2);
    assert!(sent > 1000, "{server}");
    // When one was taken at a look, 29 of 32 were lost. What the client's socket drops while the process has no CPU is little.
    assert!(received * 10 >= sent * 9, "{received} of {sent} pongs were taken in: {client}");
}

/// What a running program has in memory in KiB: all at its peak so far, and now without the code, which is a file's
/// (proc_pid_status(5)).
fn memory(program: &Program) -> [u64; 2] {
    let status = std::fs::read_to_string(format!("/proc/{}/status", program.pid())).expect("it runs");
    assert!(status.starts_with("Name:\txdprobe\n"), "{status}");
    let kib = |name: &str| -> u64 {
        let line = status.lines().find_map(|line| line.strip_prefix(name)).expect("the kernel says it");
        line.trim().trim_end_matches(" kB").parse().expect("a number of KiB")
    };
    [kib("VmHWM:"), kib("RssAnon:") + kib("RssShmem:")]
}

#[test]
fn the_process_stays_under_64_mib_with_16_queues_and_loses_no_frame() {
    let lan = Lan::new(16);
    // What takes most: the UMEMs, what waits for stamps, and the round trips of both kinds.
    let fixed = ["--timestamps", "software", "--json", "--path", "xdp", "--interface"];
    let mut server = lan.start(Side::Server, &[&fixed[..], &[SERVER_LINK, "--server", "--keep"]].concat());
    server.wait_for_line("nanoprobe server started");
    let client = [CLIENT_LINK, "--client", "-n", "0", "-d", "20", "--in-band", "--log"];
    let log = lan.file("client.csv");
    let mut client = lan.start(Side::Client, &[&fixed[..], &client, &[&log, SERVER_ADDRESS]].concat());
    // Once it has pinged for a while, whatever is used in a session has been used.
    client.wait_until("2 MiB of rows", |_| std::fs::metadata(&log).map_or(0, |log| log.len()) > 2 << 20);
    let memory = [memory(&client), memory(&server)];
    client.signal(Signal::SIGINT);
    client.finish();
    server.wait_until("the statistics", |server| server.stdout().lines().count() == 1);
    server.signal(Signal::SIGINT);
    server.finish();
    for (program, [peak, without_code]) in [&client, &server].into_iter().zip(memory) {
        let json: serde_json::Value = serde_json::from_str(program.stdout().trim()).expect("one object");
        let queues = json["queues"].as_array().unwrap_or_else(|| panic!("{json}"));
        assert_eq!((queues.len(), json["frames_missing"].as_u64()), (16, Some(0)), "{json}");
        // An optimised build has 7 MiB of code and libraries in memory, another one twice as much.
        assert!(without_code <= 56 << 10, "{without_code} KiB");
        assert!(peak <= 64 << 10 || cfg!(debug_assertions), "{peak} KiB");
    }
}
