//! What a session says of the core that was taken away from it: a program that is stopped knows so afterwards.
//!
//! Needs root and iproute2. Of times only that a stop is no shorter than it was made.

#[path = "support/programs.rs"]
mod programs;

use nix::sys::signal::Signal;
use programs::{CLIENT_LINK, Lan, Program, SERVER_ADDRESS, SERVER_LINK, Side};
use serde_json::Value;
use std::net::UdpSocket;
use std::thread::sleep;
use std::time::Duration;
use xdprobe::wire::{Kind, Message};

const PATHS: [&str; 2] = ["xdp", "kernel"];
const STOPS: u64 = 4;
const STOPPED: Duration = Duration::from_millis(40);
const DELAY_US: u64 = 2000;

/// The statistics of a client that is stopped now and then, and of its server, which is not.
fn session(lan: &Lan, path: &str, timer: &str) -> [Value; 2] {
    let fixed = ["--emulation", "--json", "--path", path];
    let mut server = lan.start(Side::Server, &[&["--server", "--interface", SERVER_LINK], &fixed[..]].concat());
    server.wait_until("it listens", |server| server.all_output().contains("nanoprobe server started"));
    let delay = DELAY_US.to_string();
    // A pong that waits behind a stop would make it a turn in which something was done; on a machine that is busy there mostly is one.
    let flags = ["--client", "--interface", CLIENT_LINK, "--count", "2", "--delay", &delay, "--pong-every", "0"];
    let flags = [&flags[..], &["--timer", timer]].concat();
    let client = lan.start(Side::Client, &[&flags, &fixed[..], &[SERVER_ADDRESS]].concat());
    server.wait_until("a session", |server| server.all_output().contains("Connected to client"));
    for _ in 0..STOPS {
        // Time in which pings leave as planned.
        sleep(STOPPED);
        client.signal(Signal::SIGSTOP);
        sleep(STOPPED);
        client.signal(Signal::SIGCONT);
    }
    [client, server].map(|mut program| {
        program.finish();
        statistics(&program)
    })
}

fn statistics(program: &Program) -> Value {
    assert_eq!(program.code(), Some(0), "{}", program.all_output());
    serde_json::from_str(&program.stdout()).expect("stdout is one JSON object")
}

fn number(object: &Value, name: &str) -> u64 {
    object[name].as_u64().unwrap_or_else(|| panic!("{name} is a number: {object}"))
}

#[test]
fn a_server_that_was_stopped_for_longer_than_its_time_out_misses_nobody_whose_pings_wait() {
    let lan = Lan::new(1);
    for own in [&[][..], &["--keep", "--clients", "2"]] {
        let fixed = ["--server", "--interface", SERVER_LINK, "--emulation", "--json", "--timer", "busy"];
        let mut server = lan.start(Side::Server, &[&fixed[..], &["--timeout", "1000000"], own].concat());
        server.wait_until("it listens", |server| server.all_output().contains("nanoprobe server started"));
        let flags =
            ["--client", "--interface", CLIENT_LINK, "--emulation", "--json", "--count", "3", "--delay", "5000"];
        let mut client = lan.start(Side::Client, &[&flags[..], &[SERVER_ADDRESS]].concat());
        server.wait_until("a session", |server| server.all_output().contains("Connected to client"));
        server.signal(Signal::SIGSTOP);
        sleep(Duration::from_millis(1500));
        server.signal(Signal::SIGCONT);
        client.finish();
        if !own.is_empty() {
            server.signal(Signal::SIGINT);
        }
        server.finish();
        let [ours, theirs] = [&server, &client].map(statistics);
        assert_eq!((&ours["end"], &theirs["end"]), (&"complete".into(), &"complete".into()), "{ours} {theirs}");
        assert_eq!(number(&ours, "pings_received"), number(&theirs, "pings_sent"), "{ours} {theirs}");
    }
}

#[test]
fn a_busy_client_that_was_stopped_tells_its_late_pings_from_the_others() {
    let lan = Lan::new(1);
    for path in PATHS {
        let [client, server] = session(&lan, path, "busy");
        let (all, undisturbed, away) =
            (&client["lateness_ns"], &client["lateness_undisturbed_ns"], &client["core_away"]);
        let pings = number(&client, "pings_sent");
        assert!(pings > 0, "{client}");
        assert_eq!(number(all, "count"), pings, "{client}");
        assert_eq!(number(undisturbed, "count") + number(away, "pings_due"), pings, "nothing is dropped: {client}");
        assert_eq!(number(all, "max"), number(&client, "worst_lateness_ns"), "{client}");
        assert!(number(undisturbed, "max") <= number(all, "max"), "{client}");
        // It has nothing to do nearly all the time; one stop at least came then, and pings were due in it.
        let stopped = STOPPED.as_nanos() as u64;
        assert!(number(away, "longest_ns") >= stopped && number(away, "total_ns") >= stopped, "{client}");
        assert!(number(away, "count") >= 1 && number(away, "pings_due") >= 1, "{client}");
        assert!(number(away, "late_sends") <= number(&client, "late_sends"), "{client}");
        let slots = stopped / (DELAY_US * 1000) - 1;
        let skipped = number(away, "skipped_slots");
        assert!(skipped >= slots && skipped <= number(&client, "skipped_slots"), "{client}");
        assert!(
            (number(away, "threshold_ns")..=number(away, "longest_ns")).contains(&number(away, "p50_ns")),
            "{client}"
        );
        // Who only answers has no plan to be late for, but a core.
        assert!(server["lateness_ns"].is_null() && server["lateness_undisturbed_ns"].is_null(), "{server}");
        assert!(number(&server["core_away"], "total_ns") >= number(&server["core_away"], "longest_ns"), "{server}");
        assert_eq!(number(&server["core_away"], "pings_due"), 0, "{server}");
    }
}

#[test]
fn a_ping_that_leaves_as_its_session_times_out_is_among_those_whose_lateness_is_told() {
    let lan = Lan::new(1);
    let server = lan.namespace(Side::Server).run(|| UdpSocket::bind((SERVER_ADDRESS, 10666)).unwrap());
    server.set_read_timeout(Some(Duration::from_secs(20))).unwrap();
    // The time-out falls on the moment of a ping.
    let flags = ["--client", "--interface", CLIENT_LINK, "--emulation", "--json", "--path", "kernel"];
    let often = ["--delay", "100000", "--timeout", "100000", SERVER_ADDRESS];
    let mut client = lan.start(Side::Client, &[&flags[..], &often].concat());
    let mut bytes = [0; 1000];
    let (len, from) = server.recv_from(&mut bytes).expect("a SYN");
    let Message { kind, sequence } = Message::parse(&bytes[..len]).unwrap().message;
    assert_eq!(kind, Kind::Syn);
    server.send_to(&Message { kind: Kind::SynAck, sequence }.to_bytes(), from).unwrap();
    client.finish();
    assert_eq!(client.code(), Some(1), "{}", client.all_output());
    let told: Value = serde_json::from_str(&client.stdout()).expect("stdout is one JSON object");
    assert!(number(&told, "pings_sent") >= 1, "{told}");
    assert_eq!(number(&told["lateness_ns"], "count"), number(&told, "pings_sent"), "{told}");
}

#[test]
fn a_client_that_sleeps_is_away_by_its_own_choice() {
    let lan = Lan::new(1);
    for path in PATHS {
        let [client, server] = session(&lan, path, "sleep");
        assert_eq!(number(&client["lateness_ns"], "count"), number(&client, "pings_sent"), "{client}");
        for side in [&client, &server] {
            assert!(side["core_away"].is_null() && side["lateness_undisturbed_ns"].is_null(), "{side}");
        }
    }
}
