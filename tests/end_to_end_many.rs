//! The built program as a server of many clients at once: a session, statistics and a log for each, on both paths.
//!
//! Needs root and iproute2. Nothing here asserts a time; every wait has a bound that only a hang reaches.

#[path = "support/programs.rs"]
mod programs;

use nix::sys::signal::Signal;
use programs::{CLIENT_ADDRESS, CLIENT_LINK, Lan, Program, SERVER_ADDRESS, SERVER_LINK, Side};
use serde_json::Value;
use std::collections::BTreeMap;
use std::path::Path;

const PATHS: [&str; 2] = ["xdp", "kernel"];

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
fn a_folder_that_is_not_there_is_an_error_before_anything_is_touched() {
    let lan = Lan::new(1);
    let flags = ["--server", "--keep", "-i", SERVER_LINK, "-e", "--clients", "2", "--log-dir", "/nonexistent/folder"];
    let server = lan.run(Side::Server, &flags);
    assert_eq!(server.code(), Some(1));
    let said = server.stderr();
    assert!(said.contains("cannot make a log in /nonexistent/folder (--log-dir): "), "{said}");
}
