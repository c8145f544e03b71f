//! What `xdprobe compare` and `xdprobe sweep` show while they run: a line on a terminal, and what SIGUSR1 asks for; and how far
//! `xdprobe report` has read.
//!
//! Needs root and iproute2. Nothing here asserts a time.

#[path = "support/programs.rs"]
mod programs;

use nix::sys::signal::Signal;
use programs::{CLIENT_LINK, Lan, Program, SERVER_ADDRESS, SERVER_LINK, Side};
use serde_json::Value;

const COMPARE: [&str; 9] =
    ["compare", "--timer", "sleep", "--rounds", "3", "--delay", "2000", "--json", "--connect-timeout=60000000"];
const SWEEP: [&str; 8] = ["sweep", "--rates", "500,800pps", "--step-time", "1", "--delay", "2000", "--json"];

fn start_server(lan: &Lan) -> Program {
    let flags = ["--server", "--keep", "--interface", SERVER_LINK, "--emulation", "--path", "xdp"];
    let mut server = lan.start(Side::Server, &flags);
    server.wait_for_line("nanoprobe server started");
    server
}

fn arguments<'a>(command: &[&'a str], flags: &[&'a str]) -> Vec<&'a str> {
    [command, &["--interface", CLIENT_LINK, "--emulation"], flags, &[SERVER_ADDRESS]].concat()
}

/// Sends SIGUSR1 once the server has so many sessions behind it or before it; what the answer says.
fn ask(client: &mut Program, server: &mut Program, sessions: usize) -> String {
    server.wait_until("that session", |server| server.stdout().matches("Connected to client").count() >= sessions);
    let answers = |client: &Program| client.stderr().matches("--- so far ---").count();
    let before = answers(client);
    client.signal(Signal::SIGUSR1);
    client.wait_until("an answer", |client| answers(client) > before && client.stderr().ends_with('\n'));
    let stderr = client.stderr();
    stderr.rsplit_once("--- so far ---\n").expect("an answer").1.to_owned()
}

/// The number in front of this word, in what the answer says of the session that stands.
fn number(line: &str, word: &str) -> u64 {
    let (before, _) = line.split_once(word).unwrap_or_else(|| panic!("{word:?} is in {line:?}"));
    before.trim_end().rsplit(' ').next().and_then(|number| number.parse().ok()).unwrap_or_else(|| panic!("{line:?}"))
}

fn object(text: &str) -> Value {
    assert_eq!(text.lines().count(), 1, "one object and nothing else: {text}");
    serde_json::from_str(text).expect("an object")
}

#[test]
fn a_terminal_is_shown_which_round_it_is_and_how_it_stands() {
    let lan = Lan::new(1);
    let server = start_server(&lan);
    let (shown, stdout) = lan.run_on_terminal(Side::Client, &arguments(&COMPARE, &[]));
    for part in [
        "round 1 of 3, path xdp: sent ",
        "round 1 of 3, path kernel: sent ",
        "round 3 of 3, path kernel: sent ",
        "round 3 of 3, path xdp: sent ",
        " lost 0  RTT p50 ",
    ] {
        assert!(shown.contains(part), "{part:?} in {shown:?}");
    }
    assert!(!shown.contains("dummies"), "{shown:?}");
    let (_, rest) = shown.rsplit_once(" us").expect("a line");
    assert!(rest.contains("\u{1b}[2K"), "the line is cleared: {shown:?}");
    assert_eq!(object(&stdout)["paths"]["xdp"]["rounds"], 2);

    let (shown, stdout) = lan.run_on_terminal(Side::Client, &arguments(&SWEEP, &[]));
    for part in ["step 1 of 3, no load: sent ", "step 2 of 3, 500 pps: sent ", " dummies ", "  t3-t0 p50 "] {
        assert!(shown.contains(part), "{part:?} in {shown:?}");
    }
    let (_, rest) = shown.rsplit_once(" us").expect("a line");
    assert!(rest.contains("\u{1b}[2K"), "the line is cleared: {shown:?}");
    assert_eq!(object(&stdout)["steps_planned"], 3);
    drop(server);
    lan.assert_unchanged();
}

/// A session's logs of so many pings, whose paths these are.
fn logs(lan: &Lan, pings: u64) -> [String; 2] {
    let mut logs = ["seq,timestamp-idx,timestamp,size\n"; 2].map(str::to_owned);
    for sequence in 1..=pings {
        let at = sequence * 10_000;
        for (point, side) in [(0, 0), (1, 1), (2, 1), (3, 0)] {
            logs[side] += &format!("{sequence},t{point},1750785880.{:09},44\n", at + point * 1000);
        }
    }
    let paths = ["client.csv", "server.csv"].map(|name| lan.file(name));
    paths.iter().zip(logs).for_each(|(path, log)| std::fs::write(path, log).expect("room for a log"));
    paths
}

#[test]
fn a_report_shows_on_a_terminal_how_far_it_has_read_and_nowhere_else() {
    let lan = Lan::new(1);
    let [client, server] = logs(&lan, 50_000);
    let flags = ["report", &client, &server, "--json"];
    let (shown, stdout) = lan.run_on_terminal(Side::Client, &flags);
    // Each log is read three times.
    let bytes: u64 = [&client, &server].map(|log| std::fs::metadata(log).expect("it is there").len()).iter().sum();
    let of = format!("/{:.2} MiB ", 3.0 * bytes as f64 / (1 << 20) as f64);
    assert!(shown.contains("reading ") && shown.contains(&of) && shown.contains(" left"), "{of}: {shown:?}");
    let (_, rest) = shown.rsplit_once(" left").expect("a bar");
    assert!(rest.contains("\u{1b}[2K"), "the line is cleared: {shown:?}");
    assert_eq!(object(&stdout)["sent"], 50_000);

    let piped = lan.run(Side::Client, &flags);
    assert_eq!((piped.code(), piped.stderr()), (Some(0), String::new()));
    assert_eq!(piped.stdout(), stdout, "the same of the same logs");
}

#[test]
fn with_quiet_and_on_a_pipe_there_is_no_such_line() {
    let lan = Lan::new(1);
    let server = start_server(&lan);
    for command in [&COMPARE[..], &SWEEP[..]] {
        let (shown, stdout) = lan.run_on_terminal(Side::Client, &arguments(command, &["--quiet"]));
        object(&stdout);
        let client = lan.run(Side::Client, &arguments(command, &[]));
        assert_eq!(client.code(), Some(0), "{}", client.all_output());
        object(&client.stdout());
        for stderr in [shown, client.stderr()] {
            assert!(!stderr.contains('\u{1b}') && !stderr.contains("sent "), "{stderr:?}");
        }
    }
    drop(server);
    lan.assert_unchanged();
}

#[test]
fn sigusr1_tells_what_a_comparison_has_measured_so_far_and_it_goes_on() {
    let lan = Lan::new(1);
    let mut server = start_server(&lan);
    let mut client = lan.start(Side::Client, &arguments(&COMPARE, &[]));
    let first = ask(&mut client, &mut server, 1);
    assert!(first.starts_with("xdp: 0 rounds that count, 0 pings sent, 0 lost\nkernel: 0 rounds"), "{first}");
    let line = first.lines().last().expect("of the round");
    assert!(line.starts_with("round 1 of 3, path "), "{line}");
    assert!(number(line, "answered") <= number(line, "pings sent") && number(line, "lost") == 0, "{line}");
    // Of the last pair but one the second; the signal may be answered in the one behind it.
    let later = ask(&mut client, &mut server, 5);
    let lines: Vec<_> = later.lines().collect();
    let [xdp, kernel, round] = lines[..] else { panic!("three lines: {later}") };
    for (line, path) in [(xdp, "xdp"), (kernel, "kernel")] {
        assert!(line.starts_with(&format!("{path}: 1 rounds that count, ")), "{line}");
        assert!(number(line, "pings sent") > 0 && number(line, "lost") == 0, "{line}");
        assert!(line.contains(", t3-t0 p50 ") && line.contains(", RTT p50 "), "{line}");
    }
    assert!(round.starts_with("round 3 of 3, path "), "{round}");
    client.finish();
    assert_eq!(client.code(), Some(0), "{}", client.all_output());
    let result = object(&client.stdout());
    assert_eq!(result["paths"]["xdp"]["rounds"], 2);
    server.signal(Signal::SIGTERM);
    server.finish();
    lan.assert_unchanged();
}

#[test]
fn sigusr1_tells_what_a_sweep_has_measured_so_far_and_it_goes_on() {
    let lan = Lan::new(1);
    let mut server = start_server(&lan);
    let mut client = lan.start(Side::Client, &arguments(&SWEEP, &["--in-band"]));
    let so_far = ask(&mut client, &mut server, 2);
    let lines: Vec<_> = so_far.lines().collect();
    assert!(lines[0].starts_with("target ") && lines[0].contains("RTT p50"), "{so_far}");
    assert!(lines[1].starts_with("none "), "{so_far}");
    let step = lines.last().expect("of the step");
    assert!(step.starts_with("step 2 of 3, 500 pps: ") || step.starts_with("step 3 of 3, 800 pps: "), "{so_far}");
    assert!(number(step, "answered") <= number(step, "pings sent") && step.contains(" dummies sent"), "{step}");
    client.finish();
    assert_eq!(client.code(), Some(0), "{}", client.all_output());
    assert_eq!(object(&client.stdout())["steps"].as_array().map(Vec::len), Some(3));
    server.signal(Signal::SIGTERM);
    server.finish();
    lan.assert_unchanged();
}

#[test]
fn sigusr1_is_answered_while_a_server_is_waited_for() {
    let lan = Lan::new(1);
    for command in [&COMPARE[..], &SWEEP[..]] {
        let mut client = lan.start(Side::Client, &arguments(command, &["--connect-timeout", "0"]));
        // Whoever catches SIGUSR1 has attached its program.
        let namespace = lan.namespace(Side::Client);
        client.wait_until("XDP", |_| namespace.ip(&["-d", "link", "show", CLIENT_LINK]).contains("prog/xdp"));
        client.signal(Signal::SIGUSR1);
        client.wait_for_line(": no session stands yet");
        assert!(client.stderr().contains(" 1 of 3, "), "{}", client.stderr());
        client.signal(Signal::SIGINT);
        client.finish();
        assert_eq!(client.stdout(), "");
    }
    lan.assert_unchanged();
}
