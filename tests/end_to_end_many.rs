//! The built program as a server of many clients at once: a session, statistics and a log for each, on both paths.
//!
//! Needs root and iproute2. Nothing here asserts a time; every wait has a bound that only a hang reaches.

#[path = "support/programs.rs"]
mod programs;

use nix::sys::signal::Signal;
use programs::{CLIENT_ADDRESS, CLIENT_LINK, Lan, Program, SERVER_ADDRESS, SERVER_LINK, Side};
use serde_json::Value;
use std::collections::BTreeMap;
use std::io::{Read, Write};
use std::net::TcpStream;
use std::path::Path;

const PATHS: [&str; 2] = ["xdp", "kernel"];
const METRICS: &str = "127.0.0.1:9465";

fn start_server(lan: &Lan, path: &str, flags: &[&str]) -> Program {
    let fixed = ["--server", "--keep", "--interface", SERVER_LINK, "--emulation", "--path", path];
    let mut server = lan.start(Side::Server, &[&fixed, flags].concat());
    server.wait_for_line("nanoprobe server started");
    server
}

/// Many at once from one interface: only a kernel path can be had more than once.
fn start_client(lan: &Lan, flags: &[&str]) -> Program {
    let fixed =
        ["--client", "--interface", CLIENT_LINK, "--emulation", "--path", "kernel", "--json", "--timer", "sleep"];
    lan.start(Side::Client, &[&fixed, flags, &[SERVER_ADDRESS]].concat())
}

fn objects(program: &Program) -> Vec<Value> {
    program.stdout().lines().map(|line| serde_json::from_str(line).expect("a JSON object a line")).collect()
}

/// The rows of a log by point: sequences in the order of the file.
fn rows(log: &Path) -> BTreeMap<String, Vec<u64>> {
    let mut rows: BTreeMap<String, Vec<u64>> = BTreeMap::new();
    let text = std::fs::read_to_string(log).expect("a log");
    let mut lines = text.lines();
    assert_eq!(lines.next(), Some("seq,timestamp-idx,timestamp,size"));
    for line in lines {
        let mut fields = line.split(',');
        let (sequence, point) = (fields.next().expect("a sequence"), fields.next().expect("a point"));
        rows.entry(point.to_owned()).or_default().push(sequence.parse().expect("a number"));
    }
    rows
}

#[test]
fn eight_clients_at_once_have_statistics_and_a_log_each_on_both_paths() {
    let lan = Lan::new(1);
    for path in PATHS {
        let folder = lan.file(path);
        std::fs::create_dir(&folder).unwrap();
        let mut server = start_server(&lan, path, &["--clients", "64", "--json", "--log-dir", &folder]);
        let mut clients: Vec<Program> = (0..8)
            .map(|n| {
                let delay = (2000 + 500 * n).to_string();
                let duplex: &[&str] = if n == 7 { &["--duplex"] } else { &[] };
                start_client(&lan, &[&["--count", "1", "--delay", &delay], duplex].concat())
            })
            .collect();
        clients.iter_mut().for_each(Program::finish);
        server.wait_until("eight objects", |server| server.stdout().lines().count() == 8);
        server.signal(Signal::SIGTERM);
        server.finish();
        assert_eq!(server.code(), Some(0), "{}", server.all_output());

        let sessions = objects(&server);
        let mut sent = Vec::new();
        for client in &clients {
            assert_eq!(client.code(), Some(0), "{}", client.all_output());
            let ours = objects(client).pop().expect("statistics");
            if ours["direction"] == "forward" {
                assert_eq!(ours["lost"], 0, "{ours}");
            }
            sent.push(ours["pings_sent"].as_u64().unwrap());
        }
        let mut received = Vec::new();
        for session in &sessions {
            assert_eq!((&session["end"], &session["excess"]), (&Value::from("complete"), &Value::from(0)), "{session}");
            assert_eq!(session["rows_lost"], 0);
            received.push(session["pings_received"].as_u64().unwrap());
            let peer = session["peer"].as_str().unwrap();
            let (host, port) = peer.split_once(':').unwrap();
            assert_eq!(host, CLIENT_ADDRESS);
            let ending = format!("Z-{host}-{port}.csv");
            let log = std::fs::read_dir(&folder).unwrap().map(|entry| entry.unwrap().path());
            let logs: Vec<_> = log.filter(|log| log.to_str().unwrap().ends_with(&ending)).collect();
            let [log] = &logs[..] else { panic!("one log for {peer}: {logs:?}") };
            let rows = rows(log);
            let pings = received.last().unwrap();
            let [first, second] = if session["direction"] == "duplex" { ["t1cs", "t0sc"] } else { ["t1", "t2"] };
            assert_eq!(rows[first], (1..=*pings).collect::<Vec<_>>(), "{peer}");
            let own = session["pongs_sent"].as_u64().unwrap() + session["pings_sent"].as_u64().unwrap();
            assert_eq!(rows[second], (1..=own).collect::<Vec<_>>(), "{peer}");
            assert_eq!(session["rows_written"].as_u64().unwrap(), pings + own);
            let meta: Value =
                serde_json::from_slice(&std::fs::read(format!("{}.meta.json", log.display())).unwrap()).unwrap();
            assert_eq!(
                (&meta["peer"], &meta["summary"]["pings_received"]),
                (&session["peer"], &session["pings_received"])
            );
        }
        sent.sort_unstable();
        received.sort_unstable();
        assert_eq!(received, sent, "every ping came to its own session");
    }
    lan.assert_unchanged();
}

#[test]
fn what_a_flood_has_no_room_for_is_dropped_and_counted_and_nothing_of_anybody_else() {
    let lan = Lan::new(1);
    for path in PATHS {
        // So many dummies behind each pong that no client is too slow to flood.
        let mut server = start_server(&lan, path, &["--clients", "2", "--json", "--dummy-pkt", "200"]);
        let mut polite = start_client(&lan, &["--count", "3", "--delay", "20000"]);
        server.wait_for_line("Connected to client");
        let mut flood = start_client(&lan, &["--count", "1", "--delay", "0"]);
        flood.finish();
        polite.finish();
        server.wait_until("two objects", |server| server.stdout().lines().count() == 2);
        server.signal(Signal::SIGTERM);
        server.finish();
        assert_eq!(server.code(), Some(0), "{}", server.all_output());

        let count = |object: &Value, name: &str| object[name].as_u64().unwrap_or_else(|| panic!("{name} in {object}"));
        // Whose session is over first is not known; who sent more is.
        let mut sessions = objects(&server);
        sessions.sort_by_key(|session| count(session, "pings_received") + count(session, "excess"));
        let [theirs, floods] = &sessions[..] else { panic!("two sessions: {sessions:?}") };
        assert_eq!((&theirs["end"], count(theirs, "excess")), (&Value::from("complete"), 0), "{path}: {theirs}");
        assert!(count(floods, "excess") > 0, "{path}: {floods}");
        let sent = objects(&flood).pop().expect("statistics");
        let handled = count(floods, "pings_received") + count(floods, "excess");
        // A FIN, or its repetition, may have had no room either.
        assert!(handled <= count(&sent, "pings_sent") + 8, "{path}: {handled} of {sent}");
        assert_eq!(count(floods, "pongs_sent"), count(floods, "pings_received"), "{path}: {floods}");
    }
    lan.assert_unchanged();
}

#[test]
fn a_server_without_a_place_refuses_and_one_that_is_stopped_ends_all_sessions() {
    let lan = Lan::new(1);
    for path in PATHS {
        let mut server = start_server(&lan, path, &["--clients", "2"]);
        let mut clients = [0, 1].map(|_| start_client(&lan, &["--delay", "5000"]));
        server.wait_until("two sessions", |server| server.stdout().matches("Connected to client").count() == 2);
        let mut third = start_client(&lan, &["--count", "1"]);
        third.finish();
        assert_eq!(third.code(), Some(1));
        assert_eq!(objects(&third)[0]["end"], "rejected");
        server.wait_for_line("all 2 places are taken");
        server.signal(Signal::SIGUSR1);
        server.wait_for_line("2 sessions stand, 0 are over.");
        server.wait_for_line("1 clients were refused");
        server.signal(Signal::SIGTERM);
        server.finish();
        assert_eq!(server.code(), Some(0), "{}", server.all_output());
        for client in &mut clients {
            client.finish();
            assert_eq!(objects(client)[0]["end"], "peer_stopped", "{}", client.all_output());
        }
        let said = server.stdout();
        assert_eq!(said.matches("--- nanoprobe statistics ---").count(), 2, "{said}");
        assert_eq!(said.matches(&format!("--- client {CLIENT_ADDRESS}:")).count(), 2, "{said}");
    }
    lan.assert_unchanged();
}

#[test]
fn a_client_that_wants_to_be_pinged_is_refused_and_told_of() {
    let lan = Lan::new(1);
    for path in PATHS {
        let mut server = start_server(&lan, path, &["--clients", "2"]);
        let mut client = start_client(&lan, &["--count", "1", "--reverse"]);
        client.finish();
        assert_eq!(client.code(), Some(1), "{}", client.all_output());
        assert_eq!(objects(&client)[0]["end"], "rejected");
        server.wait_for_line("it asks to be pinged (--reverse), which a server with --clients does not do");
        // It took nobody's place.
        let mut others = [0, 1].map(|_| start_client(&lan, &["--count", "1", "--delay", "5000"]));
        for other in &mut others {
            other.finish();
            assert_eq!(other.code(), Some(0), "{}", other.all_output());
        }
        server.signal(Signal::SIGUSR1);
        server.wait_for_line("1 clients were refused");
        server.signal(Signal::SIGTERM);
        server.finish();
        assert_eq!(server.code(), Some(0), "{}", server.all_output());
    }
    lan.assert_unchanged();
}

#[test]
fn a_folder_that_is_not_there_is_an_error_before_anything_is_touched() {
    let lan = Lan::new(1);
    let flags = ["--server", "--keep", "-i", SERVER_LINK, "-e", "--clients", "2", "--log-dir", "/nonexistent/folder"];
    let server = lan.run(Side::Server, &flags);
    assert_eq!(server.code(), Some(1));
    let said = server.stderr();
    assert!(said.contains("cannot make a log in /nonexistent/folder (--log-dir): "), "{said}");
}

/// What a server's metrics say, by name with labels.
fn scrape(lan: &Lan) -> BTreeMap<String, f64> {
    let text = lan.namespace(Side::Server).run(|| {
        let mut stream = TcpStream::connect(METRICS).expect("it listens");
        stream.write_all(b"GET /metrics HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n").expect("it reads");
        let mut text = String::new();
        stream.read_to_string(&mut text).expect("it answers");
        text
    });
    assert!(text.starts_with("HTTP/1.1 200 "), "{text}");
    let (_, body) = text.split_once("\r\n\r\n").expect("a body");
    let lines = body.lines().filter_map(|line| line.rsplit_once(' '));
    lines.filter_map(|(name, value)| Some((name.to_owned(), value.parse().ok()?))).collect()
}

/// Metrics, intervals and SIGUSR1 are of all sessions together, with whatever timer the loop waits.
#[test]
fn all_sessions_together_are_shown_while_they_stand_and_add_up_to_their_statistics() {
    let lan = Lan::new(1);
    for (path, timer) in [("xdp", "busy"), ("xdp", "sleep"), ("kernel", "sleep")] {
        let flags = ["--clients", "2", "--json", "--timer", timer, "--interval", "0.1", "--metrics", METRICS];
        let mut server = start_server(&lan, path, &flags);
        let before = scrape(&lan);
        assert_eq!(before["xdprobe_sessions_active"], 0.0);
        let mut clients = [&["--delay", "5000"][..], &["--delay", "3000", "--count", "3600", "--duplex"]]
            .map(|f| start_client(&lan, f));
        server.wait_until("two sessions", |server| server.stderr().matches("Connected to client").count() == 2);
        let mut third = start_client(&lan, &["--count", "1"]);
        third.finish();
        server.wait_for_line("all 2 places are taken");
        // Until both were heard in one interval.
        server.wait_until("an interval of both", |server| {
            objects(server).iter().any(|line| {
                line["sessions"] == 2 && line["pongs_sent"].as_u64() > Some(0) && line["pings_sent"].as_u64() > Some(0)
            })
        });
        let during = scrape(&lan);
        for (name, value) in [
            ("sessions_active", 2.0),
            ("session_active", 1.0),
            ("sessions_begun_total", 2.0),
            ("clients_refused_total", 1.0),
        ] {
            assert_eq!(during[&format!("xdprobe_{name}")], value, "{name}: {}", server.all_output());
        }
        assert!(during["xdprobe_pings_received_total"] > 0.0 && during["xdprobe_pongs_sent_total"] > 0.0);
        server.signal(Signal::SIGUSR1);
        server.wait_for_line("so_far");
        for client in &mut clients {
            client.signal(Signal::SIGTERM);
            client.finish();
        }
        let ended = |server: &Program| objects(server).iter().filter(|line| line["type"].is_null()).count();
        server.wait_until("two statistics", |server| ended(server) == 2);
        let after = scrape(&lan);
        server.signal(Signal::SIGTERM);
        server.finish();
        assert_eq!(server.code(), Some(0), "{}", server.all_output());

        let (sessions, shown): (Vec<Value>, Vec<Value>) =
            objects(&server).into_iter().partition(|line| line["type"].is_null());
        let (intervals, so_far): (Vec<Value>, Vec<Value>) =
            shown.into_iter().partition(|line| line["type"] == "interval");
        let sum = |of: &[Value], name: &str| of.iter().map(|line| line[name].as_u64().expect(name)).sum::<u64>();
        let names = ["transmitted", "received", "pings_received", "pongs_sent", "pings_sent", "late_sends"];
        for name in names {
            assert_eq!(sum(&intervals, name), sum(&sessions, name), "{name}: {}", server.all_output());
        }
        // "packets_" stands before the first two.
        for (name, metric) in
            names.iter().zip(["packets_transmitted", "packets_received", names[2], names[3], names[4]])
        {
            let counted = after[&format!("xdprobe_{metric}_total")];
            assert_eq!(counted, sum(&sessions, name) as f64, "{name}: {}", server.all_output());
        }
        let ends: f64 = after
            .iter()
            .filter_map(|(name, value)| name.starts_with("xdprobe_sessions_ended_total{").then_some(value))
            .sum();
        assert_eq!((after["xdprobe_sessions_active"], ends), (0.0, 2.0));
        for line in &intervals {
            assert!(line["session"].is_null() && line["t3_t0_ns"].is_null() && line["excess"] == 0, "{line}");
        }
        let [so_far] = &so_far[..] else { panic!("one answer: {}", server.all_output()) };
        assert_eq!((&so_far["sessions"], &so_far["sessions_over"]), (&2.into(), &0.into()));
        let pings = so_far["pings_received"].as_u64().expect("a number");
        assert!(0 < pings && pings <= sum(&sessions, "pings_received"));
    }
    lan.assert_unchanged();
}

/// Stamps of a log by sequence and point, in ns.
fn stamps(log: &str) -> BTreeMap<(u64, String), u64> {
    let text = std::fs::read_to_string(log).expect("a log");
    let row = |line: &str| {
        let fields: Vec<&str> = line.split(',').collect();
        let (seconds, nanos) = fields[2].split_once('.').expect("seconds and nanoseconds");
        let nanos = seconds.parse::<u64>().expect("s") * 1_000_000_000 + nanos.parse::<u64>().expect("ns");
        ((fields[0].parse().expect("a sequence"), fields[1].to_owned()), nanos)
    };
    text.lines().skip(1).map(row).collect()
}

/// The kernel's stamps, which come later than their datagrams, are those of the right client's pongs: each lies between the ping's
/// arrival and the pong's on this one machine's clock.
#[test]
fn stamps_of_the_kernel_are_told_apart_for_clients_with_the_same_sequences() {
    let lan = Lan::new(1);
    let patience = "5000000";
    for path in PATHS {
        let folder = lan.file(&format!("software-{path}"));
        std::fs::create_dir(&folder).unwrap();
        let mut server = lan.start(
            Side::Server,
            &[
                "--server",
                "--keep",
                "--interface",
                SERVER_LINK,
                "--timestamps",
                "software",
                "--stamp-timeout",
                patience,
                "--path",
                path,
                "--clients",
                "8",
                "--json",
                "--log-dir",
                &folder,
            ],
        );
        server.wait_for_line("nanoprobe server started");
        let sizes = [100, 200, 300, 400];
        let logs = sizes.map(|size| lan.file(&format!("{path}-{size}.csv")));
        let mut clients: Vec<Program> = (0..4)
            .map(|n| {
                let (size, log) = (sizes[n].to_string(), &logs[n]);
                // Several of them ping at the same moments.
                let flags =
                    ["--timestamps", "software", "--count", "1", "--delay", "2000", "--ping-size", &size, "--log", log];
                let fixed = ["--client", "--interface", CLIENT_LINK, "--path", "kernel", "--json", "--timer", "sleep"];
                lan.start(Side::Client, &[&fixed[..], &flags, &["--stamp-timeout", patience, SERVER_ADDRESS]].concat())
            })
            .collect();
        for client in &mut clients {
            client.finish();
            assert_eq!(client.code(), Some(0), "{}", client.all_output());
        }
        server.wait_until("four statistics", |server| server.stdout().lines().count() == 4);
        server.signal(Signal::SIGTERM);
        server.finish();
        assert_eq!(server.code(), Some(0), "{}", server.all_output());
        assert!(!server.stderr().contains("nobody's"), "{}", server.stderr());

        for session in objects(&server) {
            let pongs = &session["pongs_sent"];
            assert_eq!((&session["tx_source"], &session["rx_source"]), (&"software".into(), &"software".into()));
            let counts = ["tx_stamps_requested", "tx_stamps", "rx_stamps"].map(|name| &session[name]);
            assert_eq!(counts, [pongs, pongs, &session["pings_received"]], "{session}");
        }
        let mut joined = 0;
        for entry in std::fs::read_dir(&folder).unwrap() {
            let log = entry.unwrap().path().to_str().unwrap().to_owned();
            if !log.ends_with(".csv") {
                continue;
            }
            let size =
                std::fs::read_to_string(&log).unwrap().lines().nth(1).unwrap().rsplit_once(',').unwrap().1.to_owned();
            let ours = &logs[sizes.iter().position(|known| known.to_string() == size).expect("a client's size")];
            let (client, server) = (stamps(ours), stamps(&log));
            let pings: Vec<u64> =
                client.keys().filter(|(_, point)| point == "t0").map(|(sequence, _)| *sequence).collect();
            assert!(pings.len() > 100, "{} pings of {size} bytes", pings.len());
            for sequence in pings {
                let at = |of: &BTreeMap<(u64, String), u64>, point: &str| of[&(sequence, point.to_owned())];
                let way = [at(&client, "t0"), at(&server, "t1"), at(&server, "t2"), at(&client, "t3")];
                assert!(way.is_sorted(), "ping {sequence} of {size} bytes: {way:?}");
            }
            let meta: Value = serde_json::from_slice(&std::fs::read(format!("{log}.meta.json")).unwrap()).unwrap();
            assert_eq!(meta["summary"]["tx_stamps_missed"], 0, "{meta}");
            joined += 1;
        }
        assert_eq!(joined, 4);
    }
    lan.assert_unchanged();
}
