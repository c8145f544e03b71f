//! What a running session shows, from outside: intervals, SIGUSR1, the line on a terminal, metrics.
//!
//! Needs root, iproute2 and promtool (`make test-deps`). Nothing here asserts a time; every wait has a bound that only a
//! hang reaches.

#[path = "support/programs.rs"]
mod programs;

use nix::sys::signal::Signal;
use programs::{CLIENT_LINK, Lan, Program, SERVER_ADDRESS, SERVER_LINK, Side};
use prometheus_client::encoding::prometheus_protobuf::prometheus_data_model as model;
use prost::Message;
use serde_json::Value;
use std::collections::BTreeMap;
use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

const PATHS: [&str; 2] = ["xdp", "kernel"];
const METRICS: &str = "127.0.0.1:9464";
/// What an interval counts and the statistics too.
const COUNTED: [&str; 10] = [
    "transmitted",
    "received",
    "pings_sent",
    "pongs_expected",
    "pongs_received",
    "pings_received",
    "pongs_sent",
    "late_sends",
    "lost",
    "duplicates",
];

fn start_server(lan: &Lan, path: &str, flags: &[&str]) -> Program {
    let fixed = ["--server", "--interface", SERVER_LINK, "--emulation", "--path", path];
    let mut server = lan.start(Side::Server, &[&fixed, flags].concat());
    server.wait_for_line("nanoprobe server started");
    server
}

fn client_arguments<'a>(path: &'a str, flags: &[&'a str]) -> Vec<&'a str> {
    let fixed = ["--client", "--interface", CLIENT_LINK, "--emulation", "--path", path];
    [&fixed, flags, &[SERVER_ADDRESS]].concat()
}

fn start_client(lan: &Lan, path: &str, flags: &[&str]) -> Program {
    lan.start(Side::Client, &client_arguments(path, flags))
}

fn json_lines(text: &str) -> Vec<Value> {
    text.lines().map(|line| serde_json::from_str(line).unwrap_or_else(|_| panic!("no JSON: {line}"))).collect()
}

/// The intervals of one session add up to its statistics, which are the last line.
fn assert_adds_up(program: &Program) -> Vec<Value> {
    let mut lines = json_lines(&program.stdout());
    let last = lines.pop().expect("there are statistics");
    assert!(last["type"].is_null() && last["end"].is_string(), "the statistics stand last: {last}");
    assert!(lines.iter().all(|line| line["type"] == "interval"), "{}", program.all_output());
    for name in COUNTED {
        if last[name].is_null() {
            assert!(lines.iter().all(|line| line[name].is_null()), "{name}: {}", program.all_output());
            continue;
        }
        let sum: i64 = lines.iter().map(|line| line[name].as_i64().expect(name)).sum();
        assert_eq!(Some(sum), last[name].as_i64(), "{name}: {}", program.all_output());
    }
    let times = |name: &str| lines.iter().filter_map(|line| line["t3_t0_ns"][name].as_u64()).collect::<Vec<_>>();
    let of_all = &last["t3_t0_ns"];
    let count: u64 = times("count").iter().sum();
    assert_eq!(count, of_all["count"].as_u64().unwrap_or(0), "{}", program.all_output());
    assert_eq!(times("min").into_iter().min(), of_all["min"].as_u64());
    assert_eq!(times("max").into_iter().max(), of_all["max"].as_u64());
    let mut elapsed = 0;
    for (index, line) in lines.iter().enumerate() {
        assert_eq!((&line["interval"], &line["session"]), (&(index + 1).into(), &1.into()));
        assert_eq!(line["samples_left_out"], 0);
        elapsed += line["duration_ns"].as_u64().expect("a duration");
        assert_eq!(line["elapsed_ns"], elapsed, "intervals have no gap between them");
    }
    lines
}

#[test]
fn intervals_add_up_to_the_statistics_on_both_sides_of_every_path_and_timer() {
    let lan = Lan::new(1);
    for path in PATHS {
        for (timer, direction) in
            [("busy", None), ("sleep", None), ("busy", Some("--reverse")), ("sleep", Some("--duplex"))]
        {
            let mut server = start_server(&lan, path, &["--json", "--interval", "0.5"]);
            let flags = ["--json", "--interval", "0.25", "--count", "2", "--delay", "500", "--timer", timer];
            let flags: Vec<&str> = flags.into_iter().chain(direction).collect();
            let mut client = start_client(&lan, path, &flags);
            client.finish();
            server.finish();
            let case = format!("{path}, {timer}, {direction:?}: {}", client.all_output());
            assert_eq!((client.code(), server.code()), (Some(0), Some(0)), "{case}");
            // 2 s of pings; a thread that was held up may leave some out.
            assert!(assert_adds_up(&client).len() >= 3, "{case}");
            assert!(assert_adds_up(&server).len() >= 2, "{case}");
        }
    }
}

/// The numbers of a distribution over all intervals.
fn sum(lines: &[Value], quantity: &str) -> u64 {
    lines.iter().filter_map(|line| line[quantity]["count"].as_u64()).sum()
}

#[test]
fn with_stamps_in_the_pongs_intervals_and_metrics_have_the_round_trip() {
    let lan = Lan::new(1);
    for path in PATHS {
        // A server that pings has its metrics still when the session is over.
        let mut server = start_server(&lan, path, &["--keep", "--json", "--interval", "0.3", "--metrics", METRICS]);
        let mut client = start_client(&lan, path, &["--reverse", "--in-band", "--count", "1", "--delay", "1000"]);
        client.finish();
        assert_eq!(client.code(), Some(0), "{}", client.all_output());
        let is_over = |server: &Program| json_lines(&server.stdout()).iter().any(|line| line["end"].is_string());
        server.wait_until("the statistics", is_over);
        let metrics = text_metrics(&lan, Side::Server);
        let family = &messages(&lan, Side::Server)["xdprobe_rtt_seconds"];
        server.signal(Signal::SIGTERM);
        server.finish();
        let intervals = assert_adds_up(&server);
        let lines = json_lines(&server.stdout());
        let statistics = lines.last().expect("there are statistics");
        let received =
            statistics["pongs_received"].as_u64().expect("a count") - statistics["duplicates"].as_u64().unwrap();
        assert!(received > 0, "{}", server.all_output());
        // The program's own stamps are in the pong itself, so each has its RTT.
        assert_eq!(statistics["rtt_ns"]["count"], received, "{statistics}");
        assert_eq!([sum(&intervals, "rtt_ns"), sum(&intervals, "t3_t0_ns")], [received; 2], "{}", server.all_output());
        let bound =
            |key: &str| intervals.iter().filter_map(move |line| line["rtt_ns"][key].as_i64()).collect::<Vec<_>>();
        assert_eq!(bound("min").iter().min().copied(), statistics["rtt_ns"]["min"].as_i64());
        assert_eq!(bound("max").iter().max().copied(), statistics["rtt_ns"]["max"].as_i64());
        assert_eq!(assert_histogram(family), received);
        for series in ["count", "bucket{le=\"+Inf\"}"] {
            assert_eq!(metrics[&format!("xdprobe_rtt_seconds_{series}")], received as f64);
        }
        // The time that the client took is in the one and not in the other.
        let [rtt, t3_t0] = ["rtt", "t3_t0"].map(|name| metrics[&format!("xdprobe_{name}_seconds_sum")]);
        assert!(0.0 < rtt && rtt < t3_t0, "{rtt} of {t3_t0}");
        let mean = statistics["rtt_ns"]["mean"].as_f64().expect("a mean");
        assert!((rtt * 1e9 / received as f64 - mean).abs() <= 1.0, "{rtt}: {mean}");
    }
}

#[test]
fn an_intervals_line_has_the_round_trip_of_stamps_in_the_pongs_and_the_readme_has_every_key() {
    let lan = Lan::new(1);
    let readme = include_str!("../README.md");
    let (_, readme) = readme.split_once("With `--json` each is an object").expect("what an interval has");
    let (keys, _) = readme.split_once("Over a session").expect("what it adds up to");
    for (flags, has_rtt) in [(&["--in-band"][..], true), (&[][..], false)] {
        let mut server = start_server(&lan, "xdp", &["--keep"]);
        let fixed = ["--interval", "0.3", "--count", "1", "--delay", "1000"];
        let mut client = start_client(&lan, "xdp", &[&fixed, flags].concat());
        client.finish();
        assert_eq!(client.code(), Some(0), "{}", client.all_output());
        assert_eq!(client.stdout().contains(" us, RTT p50 "), has_rtt, "{}", client.all_output());
        let mut client = start_client(&lan, "xdp", &[&fixed, flags, &["--json"]].concat());
        client.finish();
        let intervals = assert_adds_up(&client);
        assert_eq!(sum(&intervals, "rtt_ns"), if has_rtt { sum(&intervals, "t3_t0_ns") } else { 0 });
        for (key, value) in intervals[0].as_object().expect("an object") {
            assert!(keys.contains(&format!("`{key}`")) || keys.contains(&format!("`\"{key}\":")), "{key}: {keys}");
            let of_value = value.as_object().into_iter().flatten();
            of_value.for_each(|(key, _)| assert!(keys.contains(&format!("`{key}`")), "{key}: {keys}"));
        }
        server.signal(Signal::SIGTERM);
        server.finish();
    }
}

#[test]
fn an_outage_is_seen_while_it_lasts() {
    let lan = Lan::new(1);
    let mut server = start_server(&lan, "xdp", &[]);
    let flags = ["--json", "--interval", "0.2", "--delay", "1000", "--timeout", "3000000"];
    let mut client = start_client(&lan, "kernel", &flags);
    client.wait_until("an interval with pongs", |client| {
        json_lines(&client.stdout()).iter().any(|line| line["pongs_received"].as_u64() > Some(0))
    });
    server.signal(Signal::SIGKILL);
    server.finish();
    client.finish();
    assert_eq!(client.code(), Some(1), "{}", client.all_output());
    let intervals = assert_adds_up(&client);
    let (last, before) = intervals.split_last().expect("there are intervals");
    let lost = |lines: &[Value]| lines.iter().filter_map(|line| line["lost"].as_i64()).sum::<i64>();
    assert!(lost(before) > 0, "it is not only told at the end: {}", client.all_output());
    assert!(last["pongs_received"] == 0);
}

#[test]
fn without_json_an_interval_is_a_line_before_the_statistics() {
    let lan = Lan::new(1);
    let mut server = start_server(&lan, "xdp", &["--interval", "0.3"]);
    let mut client = start_client(&lan, "xdp", &["--interval", "0.3", "--count", "1", "--delay", "1000"]);
    client.finish();
    server.finish();
    for (program, has) in [(&client, ", lost 0, RTT t3-t0 p50 "), (&server, ", answered ")] {
        let text = program.stdout();
        let (intervals, statistics) = text.split_once("--- nanoprobe statistics ---").expect("there are statistics");
        let lines: Vec<&str> = intervals.lines().filter(|line| line.starts_with('[')).collect();
        assert!(lines.len() >= 2 && lines.iter().any(|line| line.contains(has)), "{text}");
        let last = lines.last().expect("there are some");
        assert!(!last.contains("sent 0, received 0, lost 0") && !last.contains("received 0, answered 0"), "{text}");
        assert!(!statistics.contains(" s] "), "{text}");
    }
}

#[test]
fn sigusr1_tells_how_a_session_stands_and_the_session_goes_on() {
    let lan = Lan::new(1);
    for (path, timer) in [("xdp", "busy"), ("kernel", "sleep")] {
        let log = lan.file(&format!("{path}.csv"));
        let mut server = start_server(&lan, path, &["--keep"]);
        server.signal(Signal::SIGUSR1);
        server.wait_for_line("No session stands");
        let flags = ["--json", "--delay", "500", "--timer", timer, "--log", &log];
        let mut client = start_client(&lan, path, &flags);
        server.wait_for_line("Connected to client");
        for asked in 1..=2 {
            client.signal(Signal::SIGUSR1);
            client.wait_until("the statistics so far", |client| client.stdout().lines().count() == asked);
        }
        server.signal(Signal::SIGUSR1);
        server.wait_for_line("--- so far ---");
        assert!(server.stderr().contains("packets transmitted ("), "{}", server.all_output());
        assert!(
            !server.stdout().contains("statistics"),
            "stdout has the statistics of sessions: {}",
            server.all_output()
        );
        client.signal(Signal::SIGINT);
        client.finish();
        assert_eq!(client.code(), Some(0), "{}", client.all_output());
        let lines = json_lines(&client.stdout());
        let [first, second, last] = &lines[..] else { panic!("three lines: {}", client.all_output()) };
        for line in [first, second] {
            assert_eq!(
                (&line["type"], &line["end"], &line["role"]),
                (&"so_far".into(), &"running".into(), &"client".into())
            );
            let number = |name: &str| line[name].as_u64().expect(name);
            assert_eq!((number("lost"), &line["loss_percent"]), (0, &0.0.into()), "what is on its way is not lost");
            assert_eq!(number("pongs_outstanding"), number("pongs_expected") - number("pongs_received"));
            assert_eq!(number("rows_written"), number("pings_sent") + number("pongs_received"), "{line}");
            assert!(line["t3_t0_ns"]["count"].as_u64() <= line["pongs_received"].as_u64());
            assert!(line["xdp"].is_null() && line["tx_ring_full"].is_null(), "no system call was made for it: {line}");
        }
        for name in ["pings_sent", "pongs_received", "transmitted", "duration_ns"] {
            let [first, second, last] = [first, second, last].map(|line| line[name].as_u64().expect(name));
            assert!(first <= second && second <= last, "{name}: {}", client.all_output());
        }
        assert_eq!((&last["end"], &last["lost"]), (&"stopped".into(), &0.into()));
        assert!(last["type"].is_null());
        server.signal(Signal::SIGTERM);
        server.finish();
        assert_eq!(server.stdout().matches("--- nanoprobe statistics ---").count(), 1);
    }
}

#[test]
fn sigusr1_without_a_session_is_answered_too() {
    let lan = Lan::new(1);
    let mut server = start_server(&lan, "kernel", &["--json"]);
    server.signal(Signal::SIGUSR1);
    server.wait_until("an answer", |server| !server.stdout().is_empty());
    assert_eq!(server.stdout(), "{\"type\":\"so_far\",\"end\":\"no_session\"}\n");
    server.signal(Signal::SIGTERM);
    server.finish();
    assert_eq!(server.code(), Some(0), "{}", server.all_output());
}

#[test]
fn sigusr1_wakes_a_client_that_sleeps_for_longer_than_anybody_waits() {
    let lan = Lan::new(1);
    let mut server = start_server(&lan, "kernel", &[]);
    let mut client = start_client(&lan, "xdp", &["--delay", "300000000", "--timeout", "0"]);
    server.wait_for_line("Connected to client");
    client.signal(Signal::SIGUSR1);
    client.wait_for_line("--- so far ---");
    client.signal(Signal::SIGINT);
    client.finish();
    server.finish();
    assert_eq!(client.code(), Some(0), "{}", client.all_output());
}

#[test]
fn a_pipe_gets_no_line_that_was_not_asked_for() {
    let lan = Lan::new(1);
    let mut server = start_server(&lan, "xdp", &[]);
    let mut client = start_client(&lan, "xdp", &["--count", "2", "--delay", "1000", "--json"]);
    client.finish();
    server.finish();
    assert_eq!((client.code(), client.stderr().as_str()), (Some(0), "nanoprobe 10.66.0.2:10666...\n"));
    assert_eq!(client.stdout().lines().count(), 1);
}

/// Runs a client whose stderr is a terminal; what it showed there, and stdout.
fn on_terminal(lan: &Lan, flags: &[&str]) -> (String, String) {
    lan.run_on_terminal(Side::Client, &client_arguments("xdp", flags))
}

#[test]
fn a_terminal_gets_a_line_a_second_that_is_gone_in_the_end() {
    let lan = Lan::new(1);
    let run = |flags: &[&str]| {
        let mut server = start_server(&lan, "xdp", &[]);
        let (shown, stdout) = on_terminal(&lan, &[&["--count", "3", "--delay", "1000"], flags].concat());
        server.finish();
        assert_eq!(stdout.matches("--- nanoprobe statistics ---").count(), 1, "{stdout}");
        assert!(!stdout.contains('\u{1b}') && !stdout.contains(" s] "), "{stdout}");
        shown
    };
    let shown = run(&[]);
    for part in [" lost 0  t3-t0 p50 ", " us"] {
        assert!(shown.contains(part), "{part:?} in {shown:?}");
    }
    assert!(shown.matches("sent ").count() >= 2, "{shown:?}");
    let (_, rest) = shown.rsplit_once("us").expect("a line");
    assert!(rest.contains("\u{1b}[2K"), "the line is cleared: {shown:?}");
    assert_eq!(run(&["--quiet"]), "");
}

#[test]
fn an_interval_takes_the_place_of_the_line_on_a_terminal() {
    let lan = Lan::new(1);
    let mut server = start_server(&lan, "xdp", &[]);
    let (shown, stdout) = on_terminal(&lan, &["--count", "1", "--delay", "1000", "--interval", "0.4"]);
    server.finish();
    assert_eq!(shown, "");
    assert!(stdout.lines().filter(|line| line.contains(" s] sent ")).count() >= 2, "{stdout}");
}

/// An answer of the program's own HTTP server.
struct Answer {
    head: String,
    body: Vec<u8>,
}

fn request(lan: &Lan, side: Side, request: &str) -> Answer {
    lan.namespace(side).run(|| {
        let mut stream = TcpStream::connect(METRICS).expect("it listens");
        stream.write_all(request.as_bytes()).expect("it reads");
        let mut bytes = Vec::new();
        stream.read_to_end(&mut bytes).expect("it answers");
        let end = bytes.windows(4).position(|window| window == b"\r\n\r\n").expect("an end of the head");
        let body = bytes.split_off(end + 4);
        Answer { head: String::from_utf8(bytes).expect("text").to_lowercase(), body }
    })
}

fn scrape(lan: &Lan, side: Side, accept: &str) -> Answer {
    let answer = request(lan, side, &format!("GET /metrics HTTP/1.1\r\nHost: x\r\nAccept: {accept}\r\n\r\n"));
    assert!(answer.head.starts_with("http/1.1 200 "), "{}", answer.head);
    answer
}

/// The metrics as text, by name with labels; promtool has nothing to say against it.
fn text_metrics(lan: &Lan, side: Side) -> BTreeMap<String, f64> {
    let answer = scrape(lan, side, "*/*");
    assert!(answer.head.contains("content-type: text/plain; version=0.0.4"), "{}", answer.head);
    let text = String::from_utf8(answer.body).expect("text");
    check(&text);
    let samples = text.lines().filter(|line| !line.starts_with('#'));
    samples
        .map(|line| {
            let (name, value) = line.rsplit_once(' ').expect("a value");
            (name.to_owned(), value.parse().unwrap_or_else(|_| panic!("a number: {line}")))
        })
        .collect()
}

/// Has promtool read it.
fn check(text: &str) {
    let cached = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/cache/promtool");
    let promtool = if cached.exists() { cached } else { PathBuf::from("promtool") };
    let mut command = Command::new(promtool);
    command.args(["check", "metrics"]).stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut child = command.spawn().expect("promtool is there: run make test-deps");
    child.stdin.take().expect("a pipe").write_all(text.as_bytes()).expect("it reads");
    let output = child.wait_with_output().expect("it ends");
    let said = [output.stdout, output.stderr].map(|bytes| String::from_utf8_lossy(&bytes).into_owned()).concat();
    assert!(output.status.success() && said.is_empty(), "{said}\n{text}");
}

/// The same as messages, by name.
fn messages(lan: &Lan, side: Side) -> BTreeMap<String, model::MetricFamily> {
    let accept =
        "application/vnd.google.protobuf;proto=io.prometheus.client.MetricFamily;encoding=delimited,text/plain;q=0.5";
    let answer = scrape(lan, side, accept);
    assert!(
        answer.head.contains("content-type: application/vnd.google.protobuf; proto=io.prometheus.client.metricfamily")
    );
    let mut bytes = &answer.body[..];
    let mut families = BTreeMap::new();
    while !bytes.is_empty() {
        let family = model::MetricFamily::decode_length_delimited(&mut bytes).expect("a message");
        families.insert(family.name.clone(), family);
    }
    families
}

/// The samples in a histogram's native buckets; the counts of neighbours are given by their differences.
fn native_count(histogram: &model::Histogram) -> u64 {
    let side = |deltas: &[i64]| {
        let mut count = 0;
        deltas
            .iter()
            .map(|delta| {
                count += delta;
                u64::try_from(count).expect("a count")
            })
            .sum::<u64>()
    };
    histogram.zero_count + side(&histogram.positive_delta) + side(&histogram.negative_delta)
}

fn assert_histogram(family: &model::MetricFamily) -> u64 {
    let mut samples = 0;
    for metric in &family.metric {
        let histogram = metric.histogram.as_ref().expect("a histogram");
        let last = histogram.bucket.last().expect("classic buckets");
        assert_eq!((last.upper_bound, last.cumulative_count), (f64::INFINITY, histogram.sample_count));
        assert!(histogram.bucket.windows(2).all(|pair| pair[0].cumulative_count <= pair[1].cumulative_count));
        assert_eq!(native_count(histogram), histogram.sample_count, "{}", family.name);
        let spans = histogram.positive_span.iter().map(|span| span.length as usize).sum::<usize>();
        assert_eq!(spans, histogram.positive_delta.len());
        assert!(histogram.schema >= 0, "buckets are no wider than a doubling");
        samples += histogram.sample_count;
    }
    samples
}

#[test]
fn the_metrics_of_a_keep_server_are_the_statistics_of_all_its_sessions() {
    let lan = Lan::new(1);
    for path in PATHS {
        let mut server = start_server(&lan, path, &["--keep", "--json", "--metrics", METRICS]);
        let before = text_metrics(&lan, Side::Server);
        assert_eq!(before["xdprobe_session_active"], 0.0);
        assert!(!before.contains_key("xdprobe_path_tx_ring_full_total"), "what is not known is not 0");
        for (count, direction) in [("1", None), ("2", Some("--reverse"))] {
            let flags: Vec<&str> = ["--count", count, "--delay", "1000"].into_iter().chain(direction).collect();
            let mut client = start_client(&lan, path, &flags);
            client.finish();
            assert_eq!(client.code(), Some(0), "{}", client.all_output());
        }
        server.wait_until("the second statistics", |server| server.stdout().lines().count() == 2);
        let metrics = text_metrics(&lan, Side::Server);
        let sessions = json_lines(&server.stdout());
        let total = |name: &str| sessions.iter().filter_map(|session| session[name].as_f64()).sum::<f64>();
        for (metric, name) in [
            ("packets_transmitted", "transmitted"),
            ("packets_received", "received"),
            ("pings_sent", "pings_sent"),
            ("pings_received", "pings_received"),
            ("pongs_expected", "pongs_expected"),
            ("pongs_received", "pongs_received"),
            ("pongs_sent", "pongs_sent"),
            ("pings_lost", "lost"),
            ("pongs_duplicate", "duplicates"),
            ("late_sends", "late_sends"),
            ("skipped_slots", "skipped_slots"),
            ("tx_stamps", "tx_stamps"),
            ("tx_stamps_requested", "tx_stamps_requested"),
            ("rx_stamps", "rx_stamps"),
            ("packets_foreign", "foreign"),
            ("packets_unexpected", "unexpected"),
            ("stamps_told", "stamps_told"),
            ("stamps_untold", "stamps_untold"),
            ("path_socket_dropped", "socket_dropped"),
            ("path_tx_ring_full", "tx_ring_full"),
            ("path_tx_retries", "tx_retries"),
            ("path_not_protocol", "not_protocol"),
        ] {
            assert_eq!(metrics[&format!("xdprobe_{metric}_total")], total(name), "{metric}: {}", server.all_output());
        }
        assert_eq!(metrics["xdprobe_sessions_begun_total"], 2.0);
        assert_eq!(metrics["xdprobe_sessions_ended_total{end=\"complete\"}"], 2.0);
        assert_eq!((metrics["xdprobe_session_active"], metrics["xdprobe_samples_left_out_total"]), (0.0, 0.0));
        let trips = &sessions[1]["t3_t0_ns"];
        assert_eq!(metrics["xdprobe_t3_t0_seconds_count"], trips["count"].as_f64().expect("a count"));
        assert_eq!(metrics["xdprobe_t3_t0_seconds_bucket{le=\"+Inf\"}"], trips["count"].as_f64().expect("a count"));
        let mean = metrics["xdprobe_t3_t0_seconds_sum"] / metrics["xdprobe_t3_t0_seconds_count"];
        assert!((mean * 1e9 - trips["mean"].as_f64().expect("a mean")).abs() <= 1.0, "{mean}");
        assert!(!metrics.contains_key("xdprobe_rtt_seconds_count"), "no pong brought t1 and t2");
        let info = metrics.keys().find(|name| name.starts_with("xdprobe_build_info{")).expect("what it is");
        assert!(info.contains(&format!("version=\"{}\"", env!("CARGO_PKG_VERSION"))), "{info}");
        assert!(info.contains("role=\"server\"") && info.contains(&format!("path=\"{path}\"")), "{info}");

        let families = messages(&lan, Side::Server);
        assert_eq!(assert_histogram(&families["xdprobe_t3_t0_seconds"]), trips["count"].as_u64().expect("a count"));
        if path == "xdp" {
            let frames = |outcome: &str| metrics[&format!("xdprobe_xdp_frames_total{{outcome=\"{outcome}\"}}")];
            let told =
                |name: &str| sessions.iter().map(|session| session["xdp"][name].as_f64().expect(name)).sum::<f64>();
            assert_eq!((frames("seen"), frames("redirected")), (told("seen"), told("redirected")));
            // Pings of the first session and pongs of the second, at the hook and in the process.
            let staged = assert_histogram(&families["xdprobe_stage_seconds"]);
            let hook: f64 =
                sessions.iter().map(|session| session["stages"]["hook_to_app_ns"]["count"].as_f64().unwrap()).sum();
            assert_eq!(staged as f64, hook);
            assert_eq!(metrics["xdprobe_stage_seconds_count{stage=\"hook_to_app\"}"], hook);
        } else {
            assert!(
                !families.contains_key("xdprobe_stage_seconds") && !families.contains_key("xdprobe_xdp_frames_total")
            );
        }
        server.signal(Signal::SIGTERM);
        server.finish();
        assert_eq!(server.code(), Some(0), "{}", server.all_output());
    }
}

#[test]
fn an_endless_client_serves_metrics_of_the_moment_whether_it_is_busy_or_asleep() {
    let lan = Lan::new(1);
    for (timer, source) in [("busy", "application"), ("sleep", "application"), ("sleep", "software")] {
        let mut server = start_server(&lan, "xdp", &[]);
        let flags =
            ["--client", "-i", CLIENT_LINK, "--timestamps", source, "--delay", "2000", "--timer", timer, "--json"];
        let mut client = lan.start(Side::Client, &[&flags[..], &["--metrics", METRICS, SERVER_ADDRESS]].concat());
        server.wait_for_line("Connected to client");
        let mut last = 0.0;
        for _ in 0..20 {
            let metrics = text_metrics(&lan, Side::Client);
            let [sent, answered, trips] = ["pings_sent_total", "pings_answered_total", "t3_t0_seconds_count"]
                .map(|name| metrics.get(&format!("xdprobe_{name}")).copied().unwrap_or(0.0));
            assert!(last <= sent && answered <= sent, "{sent} {answered}");
            // The kernel's stamp of a ping may come after its pong.
            assert!(trips == answered || source == "software" && trips < answered, "{trips} of {answered}");
            last = sent;
        }
        assert!(last > 0.0);
        client.signal(Signal::SIGINT);
        client.finish();
        server.finish();
        assert_eq!(client.code(), Some(0), "{}", client.all_output());
    }
}

#[test]
fn a_metrics_port_that_cannot_be_had_is_an_error_before_the_first_packet() {
    let lan = Lan::new(1);
    let taken = lan.namespace(Side::Client).run(|| TcpListener::bind(METRICS).expect("nobody has it"));
    for (address, parts) in [
        (METRICS, ["--metrics 127.0.0.1:9464", "Address already in use", "another one"]),
        ("192.0.2.1:9464", ["--metrics 192.0.2.1:9464", "Cannot assign requested address", "127.0.0.1"]),
    ] {
        let client = lan.run(Side::Client, &client_arguments("xdp", &["--metrics", address]));
        assert_eq!((client.code(), client.stdout().as_str()), (Some(1), ""), "{}", client.all_output());
        for part in parts {
            assert!(client.stderr().contains(part), "{part}: {}", client.stderr());
        }
    }
    drop(taken);
    lan.assert_unchanged();
}

#[test]
fn what_is_no_scrape_is_answered_and_a_silent_scraper_holds_up_nobody() {
    let lan = Lan::new(1);
    let mut server = start_server(&lan, "kernel", &["--metrics", METRICS]);
    for (typed, status) in [
        ("GET / HTTP/1.1\r\nHost: x\r\n\r\n", "404"),
        ("POST /metrics HTTP/1.1\r\nHost: x\r\nContent-Length: 0\r\n\r\n", "405"),
        ("nonsense\r\n\r\n", "400"),
    ] {
        let answer = request(&lan, Side::Server, typed);
        assert!(answer.head.starts_with(&format!("http/1.1 {status} ")), "{typed:?}: {}", answer.head);
    }
    let head = request(&lan, Side::Server, "HEAD /metrics HTTP/1.1\r\nHost: x\r\n\r\n");
    assert!(head.head.starts_with("http/1.1 200 ") && head.body.is_empty(), "{}", head.head);
    // More of them than there are places.
    let silent: Vec<TcpStream> = lan
        .namespace(Side::Server)
        .run(|| (0..100).map(|_| TcpStream::connect(METRICS).expect("it listens")).collect());
    let began = Instant::now();
    assert!(text_metrics(&lan, Side::Server).contains_key("xdprobe_session_active"));
    // Each is heard for a second; Prometheus itself gives up after 10 s.
    assert!(began.elapsed() < Duration::from_secs(30), "{:?}", began.elapsed());
    server.signal(Signal::SIGINT);
    server.finish();
    assert_eq!(server.code(), Some(0), "{}", server.all_output());
    drop(silent);
}
