//! `xdprobe report` on the logs of the original program, whole and cut off at every byte, the first among them: of a log without any
//! it is said that it is empty.

use std::fs;
use std::path::{Path, PathBuf};
use xdprobe::report::{Direction, Fault, Input, Measured, Options, PongEverySource, Quantity, Report, report};

const GOLDEN: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/golden");

fn golden(folder: &str, file: &str) -> PathBuf {
    Path::new(GOLDEN).join(folder).join(file)
}

fn input(client: PathBuf, server: Option<PathBuf>) -> Input {
    Input { client, server, ..Input::default() }
}

/// A window that is quick to set up.
fn options() -> Options {
    Options { window: 1 << 10, ..Options::default() }
}

fn both(folder: &str) -> Report {
    report(&input(golden(folder, "client.csv"), Some(golden(folder, "server.csv"))), &options()).unwrap()
}

/// `[transmitted, received]` as the original counted them for a session, from 0.
fn statistics(folder: &str, file: &str, session: usize) -> [u64; 2] {
    let text = fs::read_to_string(golden(folder, file)).unwrap();
    let line = text.lines().filter(|line| line.contains("packets transmitted")).nth(session).expect("statistics");
    let number = |before: &str| line.split(before).next()?.split_whitespace().next_back()?.parse().ok();
    let received = line.split(", ").nth(1).and_then(|part| part.split(' ').next()?.parse().ok());
    [number(" packets transmitted").expect(line), received.expect(line)]
}

/// Sent, received, lost forward, lost backward, not answered.
fn counts(report: &Report) -> [Option<u64>; 5] {
    [report.sent, report.received, report.forward.lost, report.backward.lost, Some(report.unanswered)]
}

#[test]
fn every_session_has_the_originals_numbers() {
    // Of the pinging side in the original's own statistics: control messages (and dummies) sent and received beside the pings
    // and pongs. From the table in the recordings' README.
    for (folder, direction, expected, control) in [
        ("forward-default", Direction::Forward, [101, 101, 0, 0, 0], Some(([2, 2], "client.out"))),
        ("forward-sizes", Direction::Forward, [100, 100, 0, 0, 0], Some(([2, 2], "client.out"))),
        ("forward-pong-every-3", Direction::Forward, [100, 33, 0, 0, 67], Some(([2, 2], "client.out"))),
        ("reverse", Direction::Reverse, [200, 200, 0, 0, 0], Some(([2, 2], "server.out"))),
        ("schedule", Direction::Forward, [20, 20, 0, 0, 0], Some(([2, 2], "client.out"))),
        ("reverse-server-schedule", Direction::Reverse, [20, 20, 0, 0, 0], Some(([2, 2], "server.out"))),
        ("dummy", Direction::Forward, [100, 100, 0, 0, 0], Some(([302, 302], "client.out"))),
        ("second-client", Direction::Forward, [200, 200, 0, 0, 0], Some(([2, 2], "client.out"))),
        ("port", Direction::Forward, [101, 101, 0, 0, 0], Some(([2, 2], "client.out"))),
        ("jumbo-ish", Direction::Forward, [101, 101, 0, 0, 0], Some(([2, 2], "client.out"))),
        ("syn-retry", Direction::Forward, [101, 101, 0, 0, 0], Some(([6, 2], "client.out"))),
        ("timeout-pong-every-0", Direction::Forward, [27, 0, 0, 0, 27], None),
        ("sigint", Direction::Forward, [95, 95, 0, 0, 0], Some(([2, 2], "client.out"))),
        ("loss", Direction::Forward, [101, 88, 7, 6, 0], Some(([2, 2], "client.out"))),
        ("syn-ack-lost", Direction::Forward, [100, 100, 0, 0, 0], Some(([4, 2], "client.out"))),
        ("fin-retry", Direction::Forward, [101, 101, 0, 0, 0], Some(([6, 2], "client.out"))),
        ("fin-ack-lost", Direction::Forward, [100, 100, 0, 0, 0], None),
        ("duplex", Direction::Duplex, [401, 401, 0, 0, 0], None),
        ("hardware-forward", Direction::Forward, [101, 101, 0, 0, 0], Some(([2, 2], "client.out"))),
        ("hardware-reverse", Direction::Reverse, [101, 101, 0, 0, 0], Some(([2, 2], "server.out"))),
    ] {
        let found = both(folder);
        assert_eq!(found.direction, Some(direction), "{folder}");
        assert_eq!(counts(&found), expected.map(Some), "{folder}");
        let [sent, received, forth, back, _] = expected;
        assert_eq!(found.lost, Some(forth + back), "{folder}");
        assert_eq!((found.damaged_rows(), found.duplicated, found.late_rows), (0, Some(0), 0), "{folder}");
        if let Some(([beside_sent, beside_received], file)) = control {
            assert_eq!(statistics(folder, file, 0), [sent + beside_sent, received + beside_received], "{folder}");
        }
    }
}

#[test]
fn the_text_calls_packets_and_sides_by_what_they_are_in_this_direction() {
    for (folder, sizes, clock) in [
        (
            "hardware-forward",
            ["  ping size       44 bytes with the IP header\n", "  pong size       44 bytes with the IP header\n"],
            "(+: the server's clock is faster than that of the client)",
        ),
        (
            "hardware-reverse",
            ["  ping size       44 bytes with the IP header\n", "  pong size       44 bytes with the IP header\n"],
            "(+: the client's clock is faster than that of the server)",
        ),
        (
            "hardware-duplex",
            [
                "  forward size    44 bytes with the IP header, of the client's pings\n",
                "  backward size   44 bytes with the IP header, of the server's pings\n",
            ],
            "(+: the server's clock is faster than that of the client)",
        ),
    ] {
        let found = both(folder);
        let text = found.to_text();
        for part in sizes.iter().chain([&clock]) {
            assert!(text.contains(part), "{folder}: {part:?} in {text}");
        }
        let is_duplex = found.direction == Some(Direction::Duplex);
        assert_eq!(text.contains("pong"), !is_duplex, "{folder}: nobody pongs in duplex sessions: {text}");
        let when = if is_duplex { " at the client's first ping (+: " } else { " at the first ping (+: " };
        assert!(text.contains(when), "{folder}: {text}");
        // Which clock is ahead, the page says without a sign; the clocks are 6777 s apart.
        let [other, reference] = if folder == "hardware-reverse" { ["client", "server"] } else { ["server", "client"] };
        let ahead = if folder == "hardware-reverse" { "behind" } else { "ahead of" };
        let page = xdprobe::report::page(&[found]).html();
        let note = format!("{ahead} that of the {reference} at {}", &when[4..when.len() - 5]);
        assert!(page.contains(&format!("The clock of the {other} was ")) && page.contains(&note), "{folder}: {note}");
    }
    // One log alone of which nobody says whose it is.
    let text = report(&input(golden("loss", "client.csv"), None), &options()).unwrap().to_text();
    assert!(text.contains("ping size") && text.contains("pong size") && !text.contains("'s clock"), "{text}");
}

#[test]
fn pongs_without_a_log_of_the_other_side_are_lost_somewhere() {
    let found = report(&input(golden("loss", "client.csv"), None), &options()).unwrap();
    assert_eq!(counts(&found), [Some(101), Some(88), None, None, Some(0)]);
    assert_eq!((found.lost, found.lost_somewhere), (Some(13), Some(13)));
    assert!(found.get(Quantity::Rtt).is_none() && found.get(Quantity::OwdForward).is_none());
    assert_eq!(found.get(Quantity::T3T0).unwrap().summary.count, 88);
    // That only each third was to be answered the client's log alone does not tell.
    let found = report(&input(golden("forward-pong-every-3", "client.csv"), None), &options()).unwrap();
    assert_eq!((found.pong_every, found.pong_every_from), (Some(1), Some(PongEverySource::Default)));
    assert_eq!((found.lost, found.unanswered), (Some(67), 0));
    assert!(found.remarks.iter().any(|remark| remark.contains("--pong-every 3")), "{:?}", found.remarks);
    let found = both("forward-pong-every-3");
    assert_eq!((found.pong_every, found.pong_every_from), (Some(3), Some(PongEverySource::Guess)));
    assert_eq!((found.lost, found.unanswered), (Some(0), 67));
    assert!(found.remarks.iter().any(|remark| remark.contains("taken for --pong-every 3")), "{:?}", found.remarks);
    // The echoing side alone.
    let found = report(&input(golden("loss", "server.csv"), None), &options()).unwrap();
    assert_eq!((found.sent, found.received, found.lost, found.without_rows), (None, None, None, 6));
    assert_eq!((found.forward.received, found.backward.sent), (Some(94), Some(94)));
}

#[test]
fn the_order_of_the_two_logs_is_of_no_matter_to_the_numbers() {
    for folder in ["loss", "duplex", "hardware-reverse"] {
        let swapped =
            report(&input(golden(folder, "server.csv"), Some(golden(folder, "client.csv"))), &options()).unwrap();
        let found = both(folder);
        assert_eq!((counts(&swapped), &swapped.measured), (counts(&found), &found.measured), "{folder}");
        assert_eq!(swapped.clock, found.clock, "{folder}");
    }
}

#[test]
fn hardware_stamps_are_found_to_the_nanosecond() {
    for folder in ["hardware-forward", "hardware-reverse", "hardware-duplex"] {
        let found = both(folder);
        let range = |quantity| found.get(quantity).map(|Measured { summary, .. }| (summary.min, summary.max));
        if folder == "hardware-duplex" {
            assert_eq!(found.sent, found.received);
        } else {
            assert_eq!(range(Quantity::Rtt), Some((20_000, 20_000)), "{folder}");
        }
        // Both ways take 10 µs, and the clocks are 6777 s apart.
        assert_eq!(range(Quantity::OwdForward), Some((10_000, 10_000)), "{folder}");
        assert_eq!(range(Quantity::OwdBackward), Some((10_000, 10_000)), "{folder}");
        let apart = if folder == "hardware-reverse" { -6_777_000_000_000 } else { 6_777_000_000_000 };
        assert_eq!(found.clock.offset_ns, Some(apart), "{folder}");
        assert!(found.clock.skew_ppm.unwrap().abs() < 1e-6, "{folder}: {:?}", found.clock);
        assert_eq!(found.clock.residual_ns, Some(0.0), "{folder}");
    }
}

#[test]
fn clocks_can_be_taken_as_they_are() {
    let logs = input(golden("hardware-forward", "client.csv"), Some(golden("hardware-forward", "server.csv")));
    let options = Options { clocks: xdprobe::report::Clocks::Synchronised, ..options() };
    let found = report(&logs, &options).unwrap();
    let range = |quantity| found.get(quantity).map(|Measured { summary, .. }| (summary.min, summary.max));
    assert_eq!(range(Quantity::OwdForward), Some((6_777_000_010_000, 6_777_000_010_000)));
    assert_eq!(range(Quantity::OwdBackward), Some((-6_776_999_990_000, -6_776_999_990_000)));
    assert_eq!((found.clock.skew_ppm, found.clock.offset_ns), (None, None));
}

#[test]
fn sessions_are_told_apart() {
    let logs = |session| Input {
        session,
        server_session: session,
        ..input(golden("log-append", "client.csv"), Some(golden("log-append", "server.csv")))
    };
    let sessions: Vec<Report> =
        [Some(1), Some(2), None].map(|session| report(&logs(session), &options()).unwrap()).into();
    for (index, found) in sessions[..2].iter().enumerate() {
        assert_eq!((found.logs[0].session, found.logs[0].sessions), (index as u64 + 1, 2));
        assert_eq!(counts(found), [101, 10, 0, 0, 91].map(Some));
        assert_eq!(statistics("log-append", "client.out", index), [103, 12]);
    }
    assert_ne!(sessions[0].measured, sessions[1].measured);
    assert_eq!(sessions[1], sessions[2]);
    let error = report(&logs(Some(3)), &options()).unwrap_err().to_string();
    assert!(error.starts_with("--session 3: ") && error.contains("has 2 sessions"), "{error}");
}

#[test]
fn a_killed_client_leaves_half_a_row() {
    let found = both("timeout");
    assert_eq!(counts(&found), [68, 68, 0, 0, 0].map(Some));
    assert_eq!(found.behind_the_end, 47);
    assert_eq!(found.logs[0].damage.first, [(138, Fault::CutOff)]);
    assert!(found.remarks.iter().any(|remark| remark.contains("ends in the middle of a row")), "{:?}", found.remarks);
}

#[test]
fn what_is_no_log_is_an_error_that_says_what_it_is() {
    let error = |path: PathBuf| report(&input(path, None), &options()).unwrap_err().to_string();
    assert!(error(golden("server-down", "client.csv")).ends_with("client.csv is no log: it is empty"));
    assert!(error(golden("loss", "capture.pcap")).contains("is a capture (pcap)"));
    assert!(error(golden("schedule", "schedule.csv")).contains("it begins with"));
    assert!(error(golden("loss", "")).contains("is a folder"));
    assert!(error(golden("loss", "none.csv")).contains("cannot read"));
    let empty = report(&input(golden("second-client", "client2.csv"), None), &options()).unwrap();
    assert_eq!((empty.direction, empty.logs[0].rows, empty.sent), (None, 0, None));
    let pair = input(golden("loss", "client.csv"), Some(golden("port", "client.csv")));
    assert!(report(&pair, &options()).unwrap_err().to_string().contains("both have t0 and t3"));
    let pair = input(golden("loss", "client.csv"), Some(golden("loss", "client.csv")));
    assert!(report(&pair, &options()).unwrap_err().to_string().contains("that is one file"));
}

/// Of a log that ends before its first byte it is said what it is, whatever is beside it.
fn assert_empty_is_named(file: &Path, other: Option<PathBuf>) {
    fs::write(file, b"").unwrap();
    let error = report(&input(file.into(), other), &options()).unwrap_err().to_string();
    assert!(error.ends_with("is no log: it is empty"), "{error}");
}

/// Reports a log that ends before its first byte and after each of its bytes, beside the whole log of the other side.
fn cut_at_every_byte(folder: &str, cut: &str, other: &str) {
    let whole = fs::read(golden(folder, cut)).unwrap();
    let header_len = whole.iter().position(|byte| *byte == b'\n').unwrap() + 1;
    let last_header = whole.windows(header_len).rposition(|window| *window == whole[..header_len]).unwrap();
    let truth = both(folder);
    let file = tempfile::NamedTempFile::new().unwrap();
    assert_empty_is_named(file.path(), Some(golden(folder, other)));
    for length in 1..whole.len() {
        fs::write(file.path(), &whole[..length]).unwrap();
        let found = report(&input(file.path().into(), Some(golden(folder, other))), &options())
            .unwrap_or_else(|error| panic!("{length} bytes: {error}"));
        let is_whole_row = whole[length - 1] == b'\n';
        // Cut off before its line feed, a header line begins a session all the same.
        let is_header = length == header_len - 1 || length == last_header + header_len - 1;
        assert_eq!(found.damaged_rows(), u64::from(!is_whole_row && !is_header), "{length} bytes");
        for (part, all) in counts(&found).into_iter().take(2).zip(counts(&truth)) {
            assert!(part <= all, "{length} bytes: {part:?} of {all:?}");
        }
        assert!(found.get(Quantity::Rtt).is_none_or(|rtt| Some(rtt.summary.count) <= truth.received));
        assert_eq!(found.late_rows, 0);
    }
}

#[test]
fn logs_that_are_cut_off_anywhere_are_read() {
    cut_at_every_byte("schedule", "client.csv", "server.csv");
    cut_at_every_byte("schedule", "server.csv", "client.csv");
    cut_at_every_byte("reverse-server-schedule", "client.csv", "server.csv");
}

#[test]
fn appended_and_duplex_logs_that_are_cut_off_anywhere_are_read() {
    let read = |folder: &str, file: &str| {
        // The first pings of each session: every byte of them.
        let early = |line: &&str| {
            line.split(',').next().unwrap().parse().is_ok_and(|n: u64| n <= 15) || line.starts_with("seq")
        };
        let whole = fs::read_to_string(golden(folder, file)).unwrap();
        let whole: String = whole.lines().filter(early).map(|line| format!("{line}\n")).collect();
        let whole = whole.into_bytes();
        let cut = tempfile::NamedTempFile::new().unwrap();
        assert_empty_is_named(cut.path(), None);
        for length in 1..whole.len() {
            fs::write(cut.path(), &whole[..length]).unwrap();
            let found = report(&input(cut.path().into(), None), &options());
            let found = found.unwrap_or_else(|error| panic!("{folder}, {length} bytes: {error}"));
            assert!(found.damaged_rows() <= 1, "{folder}, {length} bytes: {}", found.damaged_rows());
        }
    };
    read("log-append", "client.csv");
    read("duplex", "server.csv");
}
