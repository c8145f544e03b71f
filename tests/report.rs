//! `xdprobe report` on synthetic logs with known truth, and on logs that are damaged in every way.

#[path = "support/logs.rs"]
mod logs;

use logs::{Logs, World, nearest_rank};
use proptest::prelude::*;
use serde_json::json;
use std::fs;
use std::path::PathBuf;
use tempfile::TempDir;
use xdprobe::report::{
    Clocks, Damage, Direction, Fault, Input, Options, PlanSource, PongEverySource, Quantity, Report, ReportError,
    StageReport, report,
};
use xdprobe::stats::Summary;

/// A folder with logs in it.
struct Folder(TempDir);

impl Folder {
    fn new() -> Self {
        Self(TempDir::new().unwrap())
    }

    fn file(&self, name: &str, text: &str) -> PathBuf {
        let path = self.0.path().join(name);
        fs::write(&path, text).unwrap();
        path
    }

    fn both(&self, logs: &Logs) -> Input {
        let client = self.file("client.csv", &logs.pinging);
        Input { client, server: Some(self.file("server.csv", &logs.echoing)), ..Input::default() }
    }

    /// The report of one log whose rows these are.
    fn report_of(&self, rows: &str) -> Report {
        let client = self.file("client.csv", &format!("{HEADER}{rows}"));
        report(&Input { client, ..Input::default() }, &options()).unwrap()
    }
}

const HEADER: &str = "seq,timestamp-idx,timestamp,size\n";
const STAGES_HEADER: &str = "seq,point,size,queue,t_app,t_sw,t_hw,hw_clock\n";

fn options() -> Options {
    Options { window: 1 << 10, ..Options::default() }
}

fn summary(report: &Report, quantity: Quantity) -> Summary {
    report.get(quantity).unwrap_or_else(|| panic!("{quantity:?}")).summary
}

/// A session of 1500 pings without trouble.
fn calm() -> World {
    World {
        seed: 1,
        pings: 1500,
        interval: 1_000_000,
        skew_ppm: 0.0,
        offset: 0,
        delay: 50_000,
        jitter: 20_000.0,
        loss: [0.0; 2],
        duplicates: [0.0; 2],
        overtaken: [0.0; 2],
    }
}

fn worlds() -> impl Strategy<Value = World> {
    let hours = 4 * 3_600_000_000_000_i64;
    let shares = |most: f64| [0.0..most, 0.0..most];
    (
        any::<u64>(),
        1_000_000..20_000_000_i64,
        -100.0..100.0_f64,
        -hours..hours,
        10_000..5_000_000_i64,
        1_000.0..50_000.0_f64,
        (shares(0.2), shares(0.1), shares(0.1)),
    )
        .prop_map(|(seed, interval, skew_ppm, offset, delay, jitter, (loss, duplicates, overtaken))| World {
            seed,
            interval,
            skew_ppm,
            offset,
            delay,
            jitter,
            loss,
            duplicates,
            overtaken,
            ..calm()
        })
}

/// How far the clocks may be off: a sixteenth of the session has some 60 packets each way, of which the fastest is a few
/// times a 60th of the mean jitter above the least delay.
fn doubt(world: &World) -> f64 {
    world.jitter * 0.15 + 10.0
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(32))]

    #[test]
    fn the_truth_is_recovered(world in worlds()) {
        let folder = Folder::new();
        let logs = world.run();
        let truth = &logs.truth;
        let found = report(&folder.both(&logs), &options()).unwrap();
        prop_assert_eq!(found.direction, Some(Direction::Forward));
        prop_assert_eq!((found.sent, found.received), (Some(truth.sent), Some(truth.received)));
        prop_assert_eq!([found.forward.lost, found.backward.lost], truth.lost.map(Some));
        prop_assert_eq!(found.lost, Some(truth.lost[0] + truth.lost[1]));
        prop_assert_eq!(found.duplicated, Some(truth.duplicated));
        prop_assert_eq!([found.forward.reordered, found.backward.reordered], truth.reordered.map(Some));
        prop_assert_eq!((found.damaged_rows(), found.late_rows, found.unanswered), (0, 0, 0));

        // What needs no clock of the other side is exact.
        let rtt = summary(&found, Quantity::Rtt);
        prop_assert_eq!((rtt.count, rtt.min, rtt.max), (truth.received, truth.rtt[0], truth.rtt[truth.rtt.len() - 1]));
        let percentiles = [rtt.p50, rtt.p90, rtt.p99, rtt.p999, rtt.p9999];
        prop_assert_eq!(percentiles, [5000, 9000, 9900, 9990, 9999].map(|rank| nearest_rank(&truth.rtt, rank)));

        // The clocks within what the jitter leaves in doubt.
        let doubt = doubt(&world);
        let seconds = (world.pings as i64 * world.interval) as f64 / 1e9;
        let (skew, offset) = (found.clock.skew_ppm.unwrap(), found.clock.offset_ns.unwrap());
        prop_assert!((skew - world.skew_ppm).abs() <= 8.0 * doubt / 1e3 / seconds + 1e-3, "{skew} ppm, {world:?}");
        prop_assert!((offset - world.offset).abs() as f64 <= 5.0 * doubt, "{offset} ns, {world:?}");
        prop_assert!(found.clock.bound_ns.unwrap() >= world.delay as f64 * 0.99, "{:?}", found.clock);
        for (way, quantity) in [Quantity::OwdForward, Quantity::OwdBackward].into_iter().enumerate() {
            let (owd, truth) = (summary(&found, quantity), &truth.one_way[way]);
            prop_assert!((owd.min - truth[0]).abs() as f64 <= 5.0 * doubt, "{owd:?} {}", truth[0]);
            let p50 = nearest_rank(truth, 5000);
            prop_assert!((owd.p50 - p50).abs() as f64 <= 5.0 * doubt, "{owd:?} {p50}");
        }
    }

    #[test]
    fn garbage_is_never_fatal(
        world in worlds(),
        places in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 1..20),
    ) {
        let folder = Folder::new();
        let logs = World { pings: 100, ..world }.run();
        let mut client = logs.pinging.into_bytes();
        for (place, byte) in places {
            let at = place.index(client.len());
            client[at] = byte;
        }
        let path = folder.0.path().join("client.csv");
        fs::write(&path, client).unwrap();
        let server = folder.file("server.csv", &logs.echoing);
        match report(&Input { client: path, server: Some(server), ..Input::default() }, &options()) {
            Ok(found) => prop_assert!(found.received <= found.sent, "{:?} of {:?}", found.received, found.sent),
            // A header line in the middle, or points that became the other side's.
            Err(ReportError::NoPair { .. }) => {}
            Err(error) => prop_assert!(false, "{}", error),
        }
    }
}

#[test]
fn a_still_world_is_known_to_the_nanosecond() {
    let folder = Folder::new();
    let world = World { jitter: 0.0, skew_ppm: 100.0, offset: -7_200_000_000_000, ..calm() };
    let found = report(&folder.both(&world.run()), &options()).unwrap();
    assert!((found.clock.skew_ppm.unwrap() - 100.0).abs() < 1e-3, "{:?}", found.clock);
    assert!((found.clock.offset_ns.unwrap() + 7_200_000_000_000).abs() <= 5, "{:?}", found.clock);
    assert!(found.clock.residual_ns.unwrap() < 5.0, "{:?}", found.clock);
    for quantity in [Quantity::OwdForward, Quantity::OwdBackward] {
        let owd = summary(&found, quantity);
        assert!((owd.min - 50_000).abs() <= 5 && (owd.max - 50_000).abs() <= 5, "{owd:?}");
    }
    // RTT, IPDV and jitter of packets that all take the same time.
    let ipdv = summary(&found, Quantity::IpdvForward);
    assert_eq!(ipdv.count, 1499);
    assert!(ipdv.max <= 2 && ipdv.min >= -2, "{ipdv:?}");
    assert!(summary(&found, Quantity::JitterForward).max <= 2);
}

#[test]
fn one_direction_alone_has_a_skew_and_no_offset() {
    let folder = Folder::new();
    let world = World { loss: [0.0, 1.0], skew_ppm: 40.0, offset: 5_000_000_000, ..calm() };
    let found = report(&folder.both(&world.run()), &options()).unwrap();
    assert!((found.clock.skew_ppm.unwrap() - 40.0).abs() < 5.0, "{:?}", found.clock);
    assert_eq!((found.clock.offset_ns, found.get(Quantity::OwdForward)), (None, None));
    assert_eq!(summary(&found, Quantity::IpdvForward).count, 1499);
    assert_eq!((found.lost, found.backward.lost), (Some(1500), Some(1500)));
}

#[test]
fn percentiles_and_counts_are_the_same_with_a_smaller_window() {
    let folder = Folder::new();
    let world = World { loss: [0.1; 2], duplicates: [0.05; 2], overtaken: [0.05; 2], ..calm() };
    let logs = folder.both(&world.run());
    let of = |window| report(&logs, &Options { window, ..Options::default() }).unwrap();
    assert_eq!(of(64), of(1 << 16));
    // A window that is too small for what was overtaken says so.
    let tiny = of(2);
    assert!(tiny.late_rows > 0 && tiny.remarks.iter().any(|remark| remark.contains("too late to be joined")));
}

#[test]
fn jitter_is_that_of_rfc_3550() {
    let folder = Folder::new();
    // Transit times of 100, 116, 100 µs: J is 1, then 1 + (16 - 1) / 16.
    let rows = "1,t0,10.000000000,44\n1,t3,10.000100000,44\n2,t0,11.000000000,44\n2,t3,11.000116000,44\n\
                3,t0,12.000000000,44\n3,t3,12.000100000,44\n";
    let found = folder.report_of(rows);
    let jitter = summary(&found, Quantity::JitterRoundTrip);
    assert_eq!((jitter.count, jitter.min, jitter.max), (2, 1000, 1938));
    let ipdv = summary(&found, Quantity::IpdvRoundTrip);
    assert_eq!((ipdv.count, ipdv.min, ipdv.max), (2, -16_000, 16_000));
    assert_eq!((found.jitter(), found.ipdv()), (Some(Quantity::JitterRoundTrip), Some(Quantity::IpdvRoundTrip)));
}

#[test]
fn the_plan_is_the_median_where_nobody_says() {
    let folder = Folder::new();
    let rows = "1,t0,10.000000000,44\n2,t0,10.001000000,44\n3,t0,10.002000500,44\n4,t0,10.003000500,44\n";
    let found = folder.report_of(rows);
    let plan = found.plan.unwrap();
    assert_eq!((plan.delay_ns, plan.source), (1_000_000, PlanSource::Median));
    let error = summary(&found, Quantity::DepartureForward);
    assert_eq!((error.count, error.min, error.p50, error.max), (3, 0, 0, 500));
}

/// Pings every second, answered after 1 ms, as rows; `change` may spoil one.
fn rows(pings: u64, change: impl Fn(u64, &str) -> Option<String>) -> String {
    let mut text = String::new();
    for sequence in 1..=pings {
        for (point, nanos) in [("t0", 0), ("t3", 1_000_000)] {
            let plain = format!("{sequence},{point},{}.{nanos:09},44\n", 100 + sequence);
            text += &change(sequence, point).unwrap_or(plain);
        }
    }
    text
}

/// The lines of a log whose sequence and point are to stay.
fn keep(text: &str, is_kept: fn(u64, &str) -> bool) -> String {
    let kept = text.lines().filter(|line| {
        let mut fields = line.split(',');
        let sequence = fields.next().unwrap().parse().unwrap_or_default();
        is_kept(sequence, fields.next().unwrap())
    });
    kept.map(|line| format!("{line}\n")).collect()
}

fn damage(rows: &str) -> (Damage, Report) {
    let found = Folder::new().report_of(rows);
    (found.logs[0].damage.clone(), found)
}

#[test]
fn damaged_rows_are_counted_with_their_lines() {
    // Line 1 is the header, ping n has lines 2n and 2n + 1.
    for (spoilt, fault) in [
        ("20,t3,1x0.001000000,44\n", Fault::Malformed),
        ("20,t9,120.001000000,44\n", Fault::UnknownPoint),
        ("20,t1,120.001000000,44\n", Fault::ForeignPoint),
        ("20,t3cs,120.001000000,44\n", Fault::UnknownPoint),
        ("20,t3,120.0010\n", Fault::Malformed),
        ("20,t3,\n", Fault::Malformed),
        ("99999999,t3,120.001000000,44\n", Fault::StraySequence),
    ] {
        let (damage, found) = damage(&rows(40, |n, point| (n == 20 && point == "t3").then(|| spoilt.to_owned())));
        assert_eq!((damage.count, &damage.first[..]), (1, &[(41, fault)][..]), "{spoilt:?}");
        assert_eq!((found.sent, found.received, found.lost), (Some(40), Some(39), Some(1)), "{spoilt:?}");
        assert_eq!(summary(&found, Quantity::T3T0).max, 1_000_000, "{spoilt:?}");
    }
}

#[test]
fn a_stamp_that_cannot_be_is_none_and_its_packet_was_there() {
    for (spoilt, fault) in [
        // Earlier than the one before, later than those behind, and none at all.
        ("20,t3,3.000000000,44\n", Fault::Backwards),
        ("20,t3,119.000999999,44\n", Fault::Backwards),
        ("20,t3,9000.000000000,44\n", Fault::Ahead),
        ("20,t3,0.000000000,44\n", Fault::NoTime),
    ] {
        let (damage, found) = damage(&rows(40, |n, point| (n == 20 && point == "t3").then(|| spoilt.to_owned())));
        assert_eq!((damage.count, &damage.first[..]), (1, &[(41, fault)][..]), "{spoilt:?}");
        assert_eq!((found.sent, found.received, found.lost), (Some(40), Some(40), Some(0)), "{spoilt:?}");
        let t3_t0 = summary(&found, Quantity::T3T0);
        assert_eq!((t3_t0.count, t3_t0.min, t3_t0.max), (39, 1_000_000, 1_000_000), "{spoilt:?}");
    }
}

#[test]
fn a_clock_that_was_set_back_costs_a_row_of_each_point_and_is_said() {
    let stepped = rows(40, |n, point| {
        let nanos = if point == "t0" { 0 } else { 1_000_000 };
        (n >= 20).then(|| format!("{n},{point},{}.{nanos:09},44\n", 50 + n))
    });
    let (damage, found) = damage(&stepped);
    assert_eq!(damage.first, [(40, Fault::Backwards), (41, Fault::Backwards)]);
    assert_eq!((found.sent, found.received, found.logs[0].clock_steps), (Some(40), Some(40), 2));
    assert_eq!(summary(&found, Quantity::T3T0).count, 39);
    assert!(found.remarks.iter().any(|remark| remark.contains("was set back")), "{:?}", found.remarks);
}

#[test]
fn an_outage_longer_than_the_window_is_no_damage() {
    // Of 20000 pings the middle 10000 had no answer; the window has room for 1024.
    let folder = Folder::new();
    let mut logs = World { pings: 20_000, ..calm() }.run();
    let is_out = |line: &&str| {
        let sequence: u64 = line.split(',').next().unwrap().parse().unwrap_or_default();
        !(5_000..15_000).contains(&sequence) || line.contains(",t0,")
    };
    let keep = |text: &str| text.lines().filter(is_out).map(|line| format!("{line}\n")).collect::<String>();
    logs = Logs { pinging: keep(&logs.pinging), echoing: keep(&logs.echoing), ..logs };
    let found = report(&folder.both(&logs), &options()).unwrap();
    assert_eq!((found.damaged_rows(), found.late_rows), (0, 0));
    assert_eq!([found.sent, found.received, found.forward.lost], [20_000, 10_000, 10_000].map(Some));
    assert_eq!(summary(&found, Quantity::Rtt).count, 10_000);
}

#[test]
fn a_header_behind_half_a_row_begins_a_session() {
    let folder = Folder::new();
    let text = format!("{HEADER}1,t0,10.000000000,44\n2,t0,11.00{HEADER}1,t0,20.000000000,44\n1,t3,20.000007000,44\n");
    let client = folder.file("client.csv", &text);
    let of = |session| report(&Input { client: client.clone(), session, ..Input::default() }, &options()).unwrap();
    let (first, last) = (of(Some(1)), of(None));
    assert_eq!((first.logs[0].sessions, first.sent, first.damaged_rows()), (2, Some(1), 1));
    assert_eq!(first.logs[0].damage.first, [(3, Fault::CutOff)]);
    assert_eq!((last.logs[0].session, last.sent, last.damaged_rows()), (2, Some(1), 0));
    assert_eq!(summary(&last, Quantity::T3T0).p50, 7000);
}

#[test]
fn a_session_without_rows_is_passed_over_unless_it_is_asked_for() {
    let folder = Folder::new();
    let client = folder.file("client.csv", &format!("{HEADER}1,t0,10.000000000,44\n{HEADER}"));
    let of = |session| report(&Input { client: client.clone(), session, ..Input::default() }, &options()).unwrap();
    assert_eq!((of(None).sent, of(None).logs[0].session), (Some(1), 1));
    assert!(of(None).remarks[0].contains("session 1 is the last that has"), "{:?}", of(None).remarks);
    assert_eq!((of(Some(2)).sent, of(Some(2)).logs[0].rows), (None, 0));
}

#[test]
fn a_log_without_its_header_is_read() {
    let folder = Folder::new();
    let tail: String = (500_000..500_100).map(|n| format!("{n},t0,{n}.000000000,44\n")).collect();
    let client = folder.file("client.csv", &tail);
    let found = report(&Input { client, ..Input::default() }, &options()).unwrap();
    assert_eq!((found.sent, found.without_rows, found.damaged_rows()), (Some(100), 0, 0));
}

#[test]
fn of_a_log_that_was_cut_out_of_another_gaps_count_from_its_first_row_on() {
    let folder = Folder::new();
    let of = |name, numbers: &[u64]| {
        let rows: String = numbers.iter().map(|n| format!("{n},t0,{n}.000000000,44\n")).collect();
        folder.file(name, &format!("{HEADER}{rows}"))
    };
    // The window has room for 1024; the second row is below the first, and later ones have the window move on.
    for (name, numbers, gaps) in [
        ("all", (500_000..500_100).collect::<Vec<u64>>(), 0),
        ("mixed", vec![500_100, 500_098, 500_101, 500_104], 3),
        ("long", (500_000..510_000).filter(|n| n % 1000 != 500).collect(), 10),
        // One that begins near 1 lacks what was before.
        ("early", (101..200).collect(), 100),
    ] {
        let client = of(name, &numbers);
        let found = report(&Input { client, ..Input::default() }, &options()).unwrap();
        let counts = (found.sent, found.without_rows, found.late_rows, found.damaged_rows());
        assert_eq!(counts, (Some(numbers.len() as u64), gaps, 0, 0), "{name}");
    }
}

/// A meta file of the log's only session.
fn meta(more: serde_json::Value) -> String {
    let mut meta = json!({
        "format": 1, "program": "xdprobe", "session": 1, "log_start": 0, "role": "client",
        "settings": { "delay_us": 1000, "pong_every": 1 }, "schedule": null, "earlier_sessions": [],
    });
    meta.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
    meta.to_string()
}

fn clock(source: &str, clock: &str, device: Option<&str>) -> serde_json::Value {
    json!({ "source": source, "where": "somewhere", "clock": clock, "device": device })
}

#[test]
fn stamps_of_different_clocks_are_not_subtracted() {
    let folder = Folder::new();
    let logs = folder.both(&calm().run());
    let card = clock("hardware", "PHC", Some("ptp0"));
    let other = clock("hardware", "PHC", Some("ptp1"));
    folder.file("client.csv.meta.json", &meta(json!({ "timestamps": { "t0": card, "t3": other } })));
    let found = report(&logs, &options()).unwrap();
    for quantity in [Quantity::T3T0, Quantity::Rtt, Quantity::OwdForward, Quantity::OwdBackward] {
        assert_eq!(found.get(quantity), None, "{quantity:?}");
    }
    assert!(found.get(Quantity::IpdvForward).is_some() && found.get(Quantity::Turnaround).is_some());
    let text = found.to_text();
    assert!(text.contains("PHC ptp0") && text.contains("PHC ptp1"), "{text}");
    assert!(found.clock.assumed.contains("different clocks"), "{:?}", found.clock);
    assert_eq!((found.sent, found.received), (Some(1500), Some(1500)));
}

#[test]
fn the_meta_file_says_who_pinged_and_how_often() {
    let folder = Folder::new();
    let logs = folder.both(&calm().run());
    folder.file("client.csv.meta.json", &meta(json!({ "role": "server", "settings": { "delay_us": 999 } })));
    let found = report(&logs, &options()).unwrap();
    assert_eq!((found.direction, found.direction_from), (Some(Direction::Reverse), "the meta file"));
    let plan = found.plan.unwrap();
    assert_eq!((plan.delay_ns, plan.source), (999_000, PlanSource::Meta));
    assert!((summary(&found, Quantity::DepartureForward).mean - 1000.0).abs() < 10.0);
    // The client's log comes first.
    assert!(found.logs[0].side.starts_with("client, which answers"), "{:?}", found.logs[0]);
    // A schedule is no plan that is known here; a damaged file is a remark.
    folder.file("client.csv.meta.json", &meta(json!({ "schedule": { "file": "x", "pings": 3 } })));
    assert_eq!(report(&logs, &options()).unwrap().plan, None);
    folder.file("client.csv.meta.json", "{");
    let found = report(&logs, &options()).unwrap();
    assert!(found.remarks.iter().any(|remark| remark.contains("is damaged")), "{:?}", found.remarks);
    assert_eq!(found.plan.unwrap().source, PlanSource::Median);
}

#[test]
fn one_log_alone_does_not_tell_who_is_the_client() {
    let folder = Folder::new();
    let logs = calm().run();
    for (rows, side, json_side) in [
        (&logs.pinging, "pings (t0, t3)", "client or server, which pings (t0, t3)"),
        (&logs.echoing, "answers (t1, t2)", "client or server, which answers (t1, t2)"),
    ] {
        let log = folder.file("log.csv", rows);
        let of = || report(&Input { client: log.clone(), ..Input::default() }, &options()).unwrap();
        let found = of();
        assert_eq!((found.direction, found.logs[0].side), (None, json_side));
        let printed = found.to_json();
        assert_eq!((&printed["direction"], &printed["logs"][0]["side"]), (&json!(null), &json!(json_side)));
        let text = found.to_text();
        assert!(
            text.contains("direction       unknown: the rows of one log tell who pings, not who is the client"),
            "{text}"
        );
        assert!(text.contains(&format!("client or server, which {side}")), "{text}");
        let page = xdprobe::report::page(&[found]).html();
        assert!(page.contains("unknown: the rows of one log tell who pings"), "{page}");
        // Where the meta file says it, by name or by the role, it is known.
        let pings = side.starts_with("pings");
        for (more, is_client) in [
            (json!({ "role": "client" }), true),
            (json!({ "role": "server" }), false),
            (json!({ "role": null, "direction": if pings { "forward" } else { "reverse" } }), true),
            (json!({ "role": "server", "direction": if pings { "reverse" } else { "forward" } }), false),
        ] {
            folder.file("log.csv.meta.json", &meta(more));
            let found = of();
            let direction = if is_client == pings { Direction::Forward } else { Direction::Reverse };
            assert_eq!((found.direction, found.direction_from), (Some(direction), "the meta file"));
            let whose = if is_client { "client" } else { "server" };
            assert_eq!(found.logs[0].side, format!("{whose}, which {side}"));
        }
        fs::remove_file(folder.0.path().join("log.csv.meta.json")).unwrap();
    }
    // Both sides in one file: nor does that.
    let rows = logs.echoing.lines().skip(1).map(|line| format!("{line}\n")).collect::<String>();
    let both = folder.file("both.csv", &(logs.pinging.clone() + &rows));
    let found = report(&Input { client: both, ..Input::default() }, &Options { window: 1 << 12, ..options() }).unwrap();
    assert_eq!((found.direction, found.sent, found.received), (None, Some(1500), Some(1500)));
    // Of two logs the one that is named first is taken for the client's.
    let pair = folder.both(&logs);
    let swapped = Input { client: pair.server.clone().unwrap(), server: Some(pair.client.clone()), ..Input::default() };
    let directions = [pair, swapped].map(|input| report(&input, &options()).unwrap());
    assert_eq!(
        directions.each_ref().map(|found| found.direction),
        [Some(Direction::Forward), Some(Direction::Reverse)]
    );
    assert!(directions[0].direction_from.contains("named first is taken for the client's"));
}

/// Logs of 1000 pings, 10 ms apart, each way 50 µs, answered after 1 ms, where the other side's clock is faster by `ppm`.
fn drifting(folder: &Folder, ppm: f64) -> Input {
    let [mut client, mut server] = [HEADER.to_owned(), HEADER.to_owned()];
    let stamp = |nanos: i64| format!("{}.{:09}", nanos / 1_000_000_000, nanos % 1_000_000_000);
    let start = 1_795_310_352_000_000_000;
    let other = |at: i64| at + 7_000_000_000 + ((at - start) as f64 * ppm * 1e-6).round() as i64;
    for n in 1..=1000_i64 {
        let t0 = start + n * 10_000_000;
        let [t1, t2, t3] = [50_000, 1_050_000, 1_100_000].map(|after| t0 + after);
        client += &format!("{n},t0,{},44\n{n},t3,{},44\n", stamp(t0), stamp(t3));
        server += &format!("{n},t1,{},44\n{n},t2,{},44\n", stamp(other(t1)), stamp(other(t2)));
    }
    Input { client: folder.file("c.csv", &client), server: Some(folder.file("s.csv", &server)), ..Input::default() }
}

#[test]
fn the_time_that_the_other_side_took_is_brought_to_the_clock_of_the_side_that_pings() {
    let folder = Folder::new();
    for ppm in [100.0, -60.0] {
        let found = report(&drifting(&folder, ppm), &options()).unwrap();
        let [rtt, turnaround] = [Quantity::Rtt, Quantity::Turnaround].map(|quantity| summary(&found, quantity));
        // Of its own clock the turnaround is 1 ms and 100 ns.
        assert!((turnaround.mean - 1_000_000.0 - ppm).abs() < 1.0, "{turnaround:?}");
        assert!((rtt.mean - 100_000.0).abs() < 1.0 && rtt.min >= 99_999 && rtt.max <= 100_001, "{ppm}: {rtt:?}");
        assert_eq!(summary(&found, Quantity::T3T0).p50, 1_100_000);
        // Both ways together take 100 µs, so that skews within 10 ppm of the true one leave no delay negative in 10 s.
        let error = found.clock.rtt_error_ns.unwrap();
        assert!(found.clock.rtt_corrected && (9.0..11.5).contains(&error), "{:?}", found.clock);
        let clock = &found.to_json()["clock"];
        assert_eq!((&clock["rtt_corrected"], &clock["rtt_error_ns"]), (&json!(true), &json!(error)));
        let text = found.to_text();
        assert!(text.contains("us at most, though t2 - t1 is of the server's clock: it is corrected"), "{text}");
        // What goes into the RTT is what goes into the one-way delays.
        let ways = [Quantity::OwdForward, Quantity::OwdBackward].map(|quantity| summary(&found, quantity).mean);
        assert!((ways[0] + ways[1] - rtt.mean).abs() < 1.0, "{ways:?}");
    }
    // 5 ppm might be none: the RTT is that of the stamps, and the error covers what it lacks.
    let found = report(&drifting(&folder, 5.0), &options()).unwrap();
    let rtt = summary(&found, Quantity::Rtt);
    assert!((rtt.mean - 99_995.0).abs() < 1.0, "{rtt:?}");
    let error = found.clock.rtt_error_ns.unwrap();
    assert!(!found.clock.rtt_corrected && (14.0..16.5).contains(&error), "{:?}", found.clock);
    assert!(found.to_text().contains("too little is known of the skew to correct it"));
    // Who takes the clocks for the same wants no skew.
    let same = Options { clocks: Clocks::Synchronised, ..options() };
    let found = report(&drifting(&folder, 100.0), &same).unwrap();
    assert!((summary(&found, Quantity::Rtt).mean - 99_900.0).abs() < 1.0);
    assert_eq!((found.clock.rtt_corrected, found.clock.rtt_error_ns), (false, None));
}

#[test]
fn where_one_ping_in_n_has_rows_they_are_judged_from_one_to_the_next() {
    let folder = Folder::new();
    // Every 10th ping of a session with 1 ms from ping to ping; the 51st was withheld, and each is 3 µs later than due.
    let stamp = |nanos: u64| format!("{}.{:09}", nanos / 1_000_000_000, nanos % 1_000_000_000);
    let of = |count: u64, meta_file: Option<serde_json::Value>| {
        let numbers = (0..count).map(|n| 1 + 10 * n).filter(|n| *n != 51);
        let rows = numbers.map(|n| {
            let t0 = 5_000_000_000 + n * 1_000_000 + n / 10 * 3_000;
            format!("{n},t0,{},44\n{n},t3,{},44\n", stamp(t0), stamp(t0 + 80_000 + n))
        });
        let client = folder.file("client.csv", &(HEADER.to_owned() + &rows.collect::<String>()));
        let beside = folder.0.path().join("client.csv.meta.json");
        match meta_file {
            Some(more) => fs::write(beside, meta(more)).unwrap(),
            None => _ = fs::remove_file(beside),
        }
        report(&Input { client, ..Input::default() }, &options()).unwrap()
    };
    // Five rows are too few to tell by themselves.
    for (count, pairs) in [(5, 4), (20, 17)] {
        let found = of(count, Some(json!({ "stamp_every": 10 })));
        let error = summary(&found, Quantity::DepartureForward);
        assert_eq!((error.count, error.min, error.max), (pairs, 3_000, 3_000));
        let ipdv = summary(&found, Quantity::IpdvRoundTrip);
        assert_eq!((ipdv.count, ipdv.min, ipdv.max), (pairs, 10, 10));
        let plan = found.plan.unwrap();
        assert_eq!((plan.delay_ns, plan.stamp_every, plan.step_ns), (1_000_000, 10, 10_000_000));
        assert_eq!(found.to_json()["plan"], json!({ "delay_ns": 1_000_000, "stamp_every": 10, "source": "meta file" }));
        assert!(
            found.to_text().contains("one ping in 10 has rows, 10.000 ms from one to the next"),
            "{}",
            found.to_text()
        );
    }
    // Without a meta file the rows tell, where they are enough.
    let found = of(20, None);
    let plan = found.plan.unwrap();
    assert_eq!((plan.delay_ns, plan.stamp_every, plan.source), (1_000_300, 10, PlanSource::Median));
    assert_eq!(summary(&found, Quantity::DepartureForward).max, 0);
    // A file of an older version says only the delay.
    let found = of(20, Some(json!({})));
    assert_eq!(summary(&found, Quantity::DepartureForward).p50, 3_000);
}

#[test]
fn over_time_every_sample_is_in_its_bin() {
    let folder = Folder::new();
    let world = World { loss: [0.1, 0.05], ..calm() };
    let found = report(&folder.both(&world.run()), &options()).unwrap();
    for (quantity, measured) in &found.measured {
        let bins = &measured.over_time;
        assert!(bins.len() <= xdprobe::report::TIME_BINS, "{quantity:?}");
        let counted: u64 = bins.iter().filter_map(|bin| bin.summary).map(|summary| summary.count).sum();
        assert_eq!(counted, measured.summary.count, "{quantity:?}");
        let least = bins.iter().filter_map(|bin| bin.summary).map(|summary| summary.min).min();
        assert_eq!(least, Some(measured.summary.min), "{quantity:?}");
        assert!(bins.windows(2).all(|pair| pair[0].start_ns + pair[0].width_ns == pair[1].start_ns), "{quantity:?}");
    }
    let lost = |quantity| found.get(quantity).unwrap().over_time.iter().map(|bin| bin.lost.unwrap()).sum::<u64>();
    assert_eq!(Some(lost(Quantity::Rtt)), found.lost);
    assert_eq!(Some(lost(Quantity::OwdForward)), found.forward.lost);
    assert_eq!(Some(lost(Quantity::OwdBackward)), found.backward.lost);
}

#[test]
fn the_two_directions_of_a_duplex_session_have_a_time_axis() {
    // The server's clock is an hour ahead; each side pings every 10 ms, and the way there takes 20 µs more than back.
    let folder = Folder::new();
    let [mut client, mut server] = [HEADER.to_owned(), HEADER.to_owned()];
    let stamp = |nanos: i64| format!("{}.{:09}", nanos / 1_000_000_000, nanos % 1_000_000_000);
    let hour = 3_600_000_000_000;
    for n in 1..=1000_i64 {
        let at = 1_000_000_000_000 + n * 10_000_000;
        client += &format!("{n},t0cs,{},44\n", stamp(at));
        server += &format!("{n},t1cs,{},44\n", stamp(at + hour + 50_000));
        server += &format!("{n},t0sc,{},44\n", stamp(at + hour + 1_000_000));
        if n % 10 != 0 {
            client += &format!("{n},t1sc,{},44\n", stamp(at + 1_030_000));
        }
    }
    let logs = Input {
        client: folder.file("c.csv", &client),
        server: Some(folder.file("s.csv", &server)),
        ..Input::default()
    };
    let found = report(&logs, &options()).unwrap();
    assert_eq!(found.direction, Some(Direction::Duplex));
    assert_eq!([found.sent, found.received, found.forward.lost, found.backward.lost], [2000, 1900, 0, 100].map(Some));
    // Half of the asymmetry goes into the offset.
    assert_eq!(found.clock.offset_ns, Some(hour + 10_000));
    for quantity in [Quantity::OwdForward, Quantity::OwdBackward] {
        let owd = summary(&found, quantity);
        assert_eq!((owd.min, owd.max), (40_000, 40_000), "{quantity:?}");
        let bins = &found.get(quantity).unwrap().over_time;
        assert!(bins.len() > 60, "{quantity:?}");
        assert!(bins.iter().all(|bin| bin.summary.is_some() || bin.lost > Some(0)), "{quantity:?}");
        assert!(bins[0].width_ns < 200_000_000);
    }
}

#[test]
fn a_session_without_pongs_lost_none_where_the_meta_file_says_so() {
    let folder = Folder::new();
    let client = folder.file("client.csv", &format!("{HEADER}1,t0,1.000000000,44\n2,t0,2.000000000,44\n"));
    let of = || report(&Input { client: client.clone(), ..Input::default() }, &options()).unwrap();
    assert_eq!((of().lost, of().unanswered), (Some(2), 0));
    folder.file("client.csv.meta.json", &meta(json!({ "settings": { "delay_us": 1000, "pong_every": 0 } })));
    assert_eq!((of().lost, of().unanswered), (Some(0), 2));
}

#[test]
fn synchronised_clocks_show_negative_delays_as_they_are() {
    let folder = Folder::new();
    let world = World { offset: -60_000, jitter: 0.0, ..calm() };
    let options = Options { clocks: Clocks::Synchronised, ..options() };
    let found = report(&folder.both(&world.run()), &options).unwrap();
    assert_eq!(summary(&found, Quantity::OwdForward).p50, -10_000);
    assert_eq!(summary(&found, Quantity::OwdBackward).p50, 110_000);
    assert_eq!(summary(&found, Quantity::Rtt).p50, 100_000);
}

#[test]
fn every_second_pong_that_is_missing_is_lost_unless_the_other_side_says_that_it_was_not_to_be() {
    let folder = Folder::new();
    let logs = World { pings: 200, ..calm() }.run();
    let client = folder.file("client.csv", &keep(&logs.pinging, |n, point| n % 2 == 0 || point != "t3"));
    let of =
        |server: Option<PathBuf>| report(&Input { client: client.clone(), server, ..Input::default() }, &options());
    let found = of(None).unwrap();
    assert_eq!([found.sent, found.received, found.lost], [200, 100, 100].map(Some));
    assert_eq!((found.unanswered, found.pong_every_from), (0, Some(PongEverySource::Default)));
    assert_eq!((&found.to_json()["pong_every_from"], &found.to_json()["pong_every"]), (&json!("default"), &json!(1)));
    // The other side answered all, got half of them only, or answered half of those that it got.
    for (is_kept, lost, unanswered, source) in [
        ((|_, _| true) as fn(u64, &str) -> bool, [0, 100], 0, PongEverySource::Default),
        (|n, _| n % 2 == 0, [100, 0], 0, PongEverySource::Default),
        (|n, point| n % 2 == 0 || point != "t2", [0, 0], 100, PongEverySource::Guess),
    ] {
        let found = of(Some(folder.file("server.csv", &keep(&logs.echoing, is_kept)))).unwrap();
        assert_eq!([found.forward.lost, found.backward.lost], lost.map(Some));
        assert_eq!((found.unanswered, found.pong_every_from), (unanswered, Some(source)));
        let is_guessed = found.remarks.iter().any(|remark| remark.contains("these 100 unanswered ones are lost"));
        assert_eq!(is_guessed, source == PongEverySource::Guess, "{:?}", found.remarks);
    }
    folder.file("client.csv.meta.json", &meta(json!({ "settings": { "delay_us": 1000, "pong_every": 2 } })));
    let found = of(None).unwrap();
    assert_eq!((found.lost, found.unanswered, found.pong_every_from), (Some(0), 100, Some(PongEverySource::Meta)));
}

#[test]
fn one_stamp_that_is_far_off_at_either_end_costs_its_row_alone() {
    let folder = Folder::new();
    let logs = World { pings: 200, offset: 5_000_000_000, jitter: 0.0, ..calm() }.run();
    let calm = report(&folder.both(&logs), &options()).unwrap();
    let spoil = |text: &str, sequence: u64, point: &str, how: fn(&str) -> String| -> (u64, String) {
        let start = format!("{sequence},{point},");
        let line = text.lines().position(|line| line.starts_with(&start)).unwrap();
        let spoilt = text.lines().enumerate().map(|(number, row)| {
            let mut fields: Vec<String> = row.split(',').map(str::to_owned).collect();
            if number == line {
                let (seconds, nanos) = fields[2].split_once('.').unwrap();
                fields[2] = format!("{}.{nanos}", how(seconds));
            }
            format!("{}\n", fields.join(","))
        });
        (line as u64 + 1, spoilt.collect())
    };
    let later = |seconds: &str| (seconds.parse::<u64>().unwrap() + 4000).to_string();
    let shorter = |seconds: &str| seconds[..seconds.len() - 1].to_owned();
    type Change = fn(&str) -> String;
    for (sequence, how, fault) in [(200, later as Change, Fault::Ahead), (1, shorter as Change, Fault::Behind)] {
        for point in ["t0", "t1", "t2", "t3"] {
            let mut spoilt = World { pings: 200, offset: 5_000_000_000, jitter: 0.0, ..self::calm() }.run();
            let is_pinging = matches!(point, "t0" | "t3");
            let text = if is_pinging { &mut spoilt.pinging } else { &mut spoilt.echoing };
            let (line, changed) = spoil(text, sequence, point, how);
            *text = changed;
            let found = report(&folder.both(&spoilt), &options()).unwrap();
            let log = &found.logs[usize::from(!is_pinging)];
            assert_eq!((log.damage.count, &log.damage.first[..]), (1, &[(line, fault)][..]), "{sequence} {point}");
            let [offset, expected] = [&found, &calm].map(|of| of.clock.offset_ns.unwrap());
            assert!((offset - expected).abs() < 10, "{sequence} {point}: {offset} {expected}");
            assert_eq!((found.sent, found.received, found.logs[0].clock_steps), (Some(200), Some(200), 0));
            for quantity in [Quantity::OwdForward, Quantity::OwdBackward] {
                let owd = summary(&found, quantity);
                assert!((owd.min - 50_000).abs() < 10 && (owd.max - 50_000).abs() < 10, "{sequence} {point}: {owd:?}");
            }
        }
    }
}

#[test]
fn pauses_are_no_damage_and_a_clock_that_was_set_ahead_is_said() {
    // A schedule with pauses of 100 s, without and with lost pongs; --delay 100 s; a clock that was set.
    let pair = |n: u64, at: u64| format!("{n},t0,{at}.000000000,44\n{n},t3,{at}.001000000,44\n");
    let bursts: String = (0..30).map(|n| pair(n + 1, 1000 + n + n / 10 * 100)).collect();
    let slow: String = (0..30).map(|n| pair(n + 1, 1000 + n * 100)).collect();
    let lonely: String = (0..30).map(|n| format!("{},t0,{}.000000000,44\n", n + 1, 1000 + n * 100)).collect();
    for rows in [bursts, slow, lonely] {
        let (damage, found) = damage(&rows);
        assert_eq!((damage.count, found.sent), (0, Some(30)), "{damage:?}");
        let stamped = found.get(Quantity::T3T0).map(|measured| measured.summary);
        assert!(stamped.is_none_or(|summary| (summary.count, summary.max) == (30, 1_000_000)), "{stamped:?}");
    }
    let set: String = (0..40).map(|n| pair(n + 1, 1000 + n + n / 20 * 5000)).collect();
    let (damage, found) = damage(&set);
    assert_eq!((damage.count, found.logs[0].clock_steps), (0, 1));
    assert_eq!(summary(&found, Quantity::T3T0).max, 1_000_000);
    assert!(found.remarks.iter().any(|remark| remark.contains("or ahead by more than 10 s")), "{:?}", found.remarks);
}

#[test]
fn delays_that_no_offset_explains_are_left_out() {
    let folder = Folder::new();
    let logs = World { jitter: 0.0, ..calm() }.run();
    // The other side's clock is set ahead by 4 s between t1 and t2 of all: pongs leave after they arrived.
    let change = |line: &str| {
        let fields: Vec<&str> = line.split(',').collect();
        let (seconds, nanos) = fields[2].split_once('.').unwrap_or_default();
        match (fields[1], seconds.parse::<u64>()) {
            ("t2", Ok(seconds)) => format!("{},t2,{}.{nanos},{}\n", fields[0], seconds + 4, fields[3]),
            _ => format!("{line}\n"),
        }
    };
    let echoing = logs.echoing.lines().map(change).collect();
    let found = report(&folder.both(&Logs { echoing, ..logs }), &options()).unwrap();
    assert_eq!((found.clock.offset_ns, found.clock.skew_ppm), (None, None));
    assert!(found.clock.bound_ns.unwrap() < -1e9, "{:?}", found.clock);
    assert!(found.clock.assumed.contains("no offset"), "{:?}", found.clock);
    assert!(found.get(Quantity::OwdForward).is_none() && found.get(Quantity::OwdBackward).is_none());
}

#[test]
fn clocks_of_two_cards_are_not_subtracted_without_a_word() {
    let folder = Folder::new();
    let logs = folder.both(&calm().run());
    let of = |id: &str, points: [&str; 2]| {
        let mut card = clock("hardware", "PHC", Some("ptp0"));
        card["clock_id"] = json!(id);
        meta(json!({ "timestamps": { points[0]: card, points[1]: card } }))
    };
    let [one, other] = ["ptp0@11111111", "ptp0@22222222"];
    folder.file("client.csv.meta.json", &of(one, ["t0", "t3"]));
    for (server, is_different) in [(one, false), (other, true)] {
        folder.file("server.csv.meta.json", &of(server, ["t1", "t2"]));
        for clocks in [Clocks::Estimate, Clocks::Synchronised] {
            let found = report(&logs, &Options { clocks, ..options() }).unwrap();
            let expected = is_different.then(|| [one.to_owned(), other.to_owned()]);
            assert_eq!(found.clock.different, expected, "{clocks:?}");
            assert_eq!(found.to_json()["clock"]["different"], json!(expected), "{clocks:?}");
            assert_eq!(found.to_json()["logs"][0]["timestamps"]["t0"]["clock_id"], one);
            let text = found.to_text();
            assert_eq!(text.contains("of different clocks") && text.contains(other), is_different, "{text}");
        }
    }
}

#[test]
fn the_variation_of_delays_is_that_of_neighbours() {
    // Sequences 3 and 4 have no row at all.
    let pings = |sequences: &[u64]| -> String {
        let row = |n: &u64| format!("{n},t0,{}.000000000,44\n{n},t3,{}.{:09},44\n", 100 + n, 100 + n, n * n * 1000);
        sequences.iter().map(row).collect()
    };
    let folder = Folder::new();
    let found = folder.report_of(&pings(&[1, 2, 5, 6]));
    let ipdv = summary(&found, Quantity::IpdvRoundTrip);
    assert_eq!((ipdv.count, ipdv.min, ipdv.max), (2, 3000, 11_000));
    // Of each second ping with --pong-every 2 the neighbours are two apart.
    folder.file("client.csv.meta.json", &meta(json!({ "settings": { "delay_us": 1_000_000, "pong_every": 2 } })));
    let found = folder.report_of(&pings(&[2, 4, 8, 10]));
    let ipdv = summary(&found, Quantity::IpdvRoundTrip);
    assert_eq!((ipdv.count, ipdv.min, ipdv.max), (2, 12_000, 36_000));
    // Of pings of which only each third has rows they are three apart.
    let folder = Folder::new();
    let found = folder.report_of(&pings(&[1, 4, 7, 10, 13, 19, 22, 25, 28]));
    let ipdv = summary(&found, Quantity::IpdvRoundTrip);
    assert_eq!((ipdv.count, ipdv.min, ipdv.max), (7, 15_000, 159_000));
}

/// The remarks that say what has no row.
fn missing(found: &Report) -> Vec<&str> {
    let wanted = |remark: &&str| remark.contains("has no row");
    found.remarks.iter().map(String::as_str).filter(wanted).collect()
}

#[test]
fn packets_without_a_stamp_have_no_row_and_the_meta_file_says_how_many() {
    let folder = Folder::new();
    // Of 1000 pongs each tenth has no row.
    let spoilt = rows(1000, |n, point| (n % 10 == 0 && point == "t3").then(String::new));
    let client = folder.file("client.csv", &format!("{HEADER}{spoilt}"));
    let name = client.display();
    let of = |counts: serde_json::Value| {
        folder.file("client.csv.meta.json", &meta(json!({ "summary": counts })));
        let found = report(&Input { client: client.clone(), ..Input::default() }, &options()).unwrap();
        // The counts stay those of the rows.
        assert_eq!([found.sent, found.received, found.lost], [1000, 900, 100].map(Some));
        found
    };
    let own = "The program itself counted 0 ping(s) without a pong, of all that it sent, with a row or without.";
    let unsent = "A ping that no log has a row of does not count as sent.";
    for (counts, wanted) in [
        (
            json!({ "lost": 0, "rx_stamps_missed": 100, "tx_stamps_missed": 0, "stamps_withheld": 0, "rows_lost": 0 }),
            format!(
                "{name} has no rows of 100 pongs that came without a stamp, as its meta file says. Of the 100 that count as \
                 lost up to 100 may have arrived. {own}"
            ),
        ),
        (
            json!({ "lost": 0, "rx_stamps_missed": 40, "tx_stamps_missed": 3, "stamps_withheld": 2, "rows_lost": 60 }),
            format!(
                "{name} has no rows of 40 pongs that came without a stamp, 3 pings that were sent and whose stamp did not come, \
                 2 pings that were sent without one, as another's was under way, 60 more, whose rows did not get into it, as its \
                 meta file says. Of the 100 that count as lost up to 100 may have arrived. {unsent} {own}"
            ),
        ),
        // A ping without a row is none of those lost.
        (
            json!({ "lost": 0, "tx_stamps_missed": 3, "rows_lost": null }),
            format!(
                "{name} has no rows of 3 pings that were sent and whose stamp did not come, as its meta file says. {unsent} {own}"
            ),
        ),
        // The other side sent pongs without a stamp.
        (
            json!({ "lost": 0, "rx_stamps_missed": 0 }),
            format!(
                "100 packet(s) count as lost, as {name} has no row of their pong. {own} The others' may have come without a stamp."
            ),
        ),
    ] {
        assert_eq!(missing(&of(counts.clone())), [wanted], "{counts}");
    }
    // Nothing is missing, of older versions nothing is known, and a session that was killed has no statistics.
    for counts in [json!({ "lost": 100, "rx_stamps_missed": 0 }), json!({}), json!(null)] {
        assert_eq!(missing(&of(counts.clone())), [""; 0], "{counts}");
    }
}

#[test]
fn both_sides_say_what_has_no_row() {
    let folder = Folder::new();
    let logs = World { pings: 200, ..calm() }.run();
    // Each fourth pong was sent not to be stamped; of the first ping, which was lost, the server knows nothing.
    let client = folder.file("client.csv", &keep(&logs.pinging, |n, point| point != "t3" || n > 1 && n % 4 != 0));
    let server = folder.file("server.csv", &keep(&logs.echoing, |n, point| n > 1 && (point != "t2" || n % 4 != 0)));
    folder.file("client.csv.meta.json", &meta(json!({ "summary": { "lost": 1, "rows_lost": 0 } })));
    let more = json!({ "role": "server", "summary": { "lost": null, "stamps_withheld": 50, "rx_stamps_missed": 3 } });
    folder.file("server.csv.meta.json", &meta(more));
    let both = Input { client, server: Some(server.clone()), ..Input::default() };
    let found = report(&both, &options()).unwrap();
    assert_eq!([found.lost, found.forward.lost, found.backward.lost], [51, 1, 50].map(Some));
    let facts = format!(
        "{} has no rows of 3 pings that came without a stamp, 50 pongs that were sent without one, as another's was under way, \
         as its meta file says.",
        server.display()
    );
    assert_eq!(missing(&found), [format!("{facts} Of the 51 that count as lost up to 51 may have arrived.")]);
    // Alone it does not know what was lost.
    let found = report(&Input { client: server, ..Input::default() }, &options()).unwrap();
    assert_eq!((found.lost, found.unanswered), (None, 50));
    assert_eq!(
        missing(&found),
        [format!("{facts} Of the 50 that count as unanswered up to 50 may have been answered.")]
    );
}

#[test]
fn a_hole_in_the_log_of_the_side_that_pings_is_not_its_end() {
    // Of 20000 pings it lacks the middle 10000, and the last 1000; the window has room for 1024.
    let folder = Folder::new();
    let logs = World { pings: 20_000, ..calm() }.run();
    let server = Some(folder.file("server.csv", &logs.echoing));
    let of = |is_kept: fn(u64, &str) -> bool| {
        let client = folder.file("client.csv", &keep(&logs.pinging, is_kept));
        report(&Input { client, server: server.clone(), ..Input::default() }, &options()).unwrap()
    };
    let found = of(|n, _| !(5_000..15_000).contains(&n) && n <= 19_000);
    assert_eq!([found.sent, found.received, found.lost], [19_000, 9_000, 10_000].map(Some));
    assert_eq!((found.behind_the_end, found.without_t0, found.late_rows), (1000, 10_000, 0));
    // Cut off in the hole it says nothing of what is in it.
    let found = of(|n, _| n < 5_000);
    assert_eq!([found.sent, found.received, found.lost], [4_999, 4_999, 0].map(Some));
    assert_eq!((found.behind_the_end, found.without_t0), (15_001, 0));
}

/// The two sides' folders, with logs, logs of stages and meta files of the same names in both, and cards' clocks that are 250 µs apart.
/// On each side a packet took 8 µs from card to process.
fn two_hosts(folder: &Folder) -> [PathBuf; 2] {
    let logs = calm().run();
    let start = 1_700_000_000_000_000_000_u64;
    [("client", &logs.pinging, "t3", 37_000_000_000), ("server", &logs.echoing, "t1", 37_000_250_000)].map(
        |(side, log, point, ahead)| {
            fs::create_dir(folder.0.path().join(side)).unwrap();
            let path = folder.file(&format!("{side}/log.csv"), log);
            let row = |n: u64| {
                let card = start + n * 1_000_000;
                format!("{n},{point},44,,{},,{},ptp0\n", card + 8_000, card + ahead)
            };
            let rows: String = (1..1000).map(row).collect();
            folder.file(&format!("{side}/stages.csv"), &format!("{STAGES_HEADER}{rows}"));
            let sample = |second: u64| {
                let system = start + second * 1_000_000_000;
                json!({ "system_ns": system, "phc_ns": system + ahead, "offset_ns": ahead, "uncertainty_ns": 50 })
            };
            let facts = json!({
                "timestamps": { point: clock("hardware", "PHC", Some("ptp0")) },
                "stages_log": "stages.csv",
                "clock_offsets": (0..3).map(sample).collect::<Vec<_>>(),
            });
            folder.file(&format!("{side}/log.csv.meta.json"), &meta(facts));
            path
        },
    )
}

#[test]
fn a_log_of_stages_has_the_clock_of_the_log_that_it_lies_beside() {
    let folder = Folder::new();
    let [client, server] = two_hosts(&folder);
    let place = |name: &str| folder.0.path().join(name);
    // What the median is, how many card stamps are in no stage, and whether the report says why.
    let of = |stages: &[&str]| {
        let stages = stages.iter().map(|name| place(name)).collect();
        let input = Input { client: client.clone(), server: Some(server.clone()), stages, ..Input::default() };
        let found = report(&input, &options()).unwrap();
        let is_unclear = found.remarks.iter().any(|remark| remark.starts_with("Whose log of stages "));
        let median = |stages: &StageReport| {
            (stages.stages.first().map(|(_, measured)| measured.summary.p50), stages.unconverted)
        };
        (found.stages.iter().map(median).collect::<Vec<_>>(), is_unclear)
    };
    let right = (Some(8_000), 0);
    assert_eq!(of(&["client/stages.csv", "server/stages.csv"]), (vec![right; 2], false));
    assert_eq!(of(&["server/../server/stages.csv"]), (vec![right], false));
    // One that was moved is its side's, as the other side has its own.
    fs::create_dir(place("moved")).unwrap();
    fs::rename(place("server/stages.csv"), place("moved/stages.csv")).unwrap();
    assert_eq!(of(&["moved/stages.csv", "client/stages.csv"]), (vec![right; 2], false));
    // Where both may have been moved nobody knows.
    fs::rename(place("client/stages.csv"), place("stages.csv")).unwrap();
    assert_eq!(of(&["moved/stages.csv"]), (vec![(None, 999)], true));
    // With one log alone there is no doubt, unless it has its own.
    let alone = |stages: &str| {
        let input = Input { client: client.clone(), stages: vec![place(stages)], ..Input::default() };
        report(&input, &options()).unwrap().stages[0].unconverted
    };
    assert_eq!(alone("stages.csv"), 0);
    fs::rename(place("stages.csv"), place("client/stages.csv")).unwrap();
    assert_eq!(alone("moved/stages.csv"), 999);
}

#[test]
fn of_a_log_of_stages_it_is_the_session_of_the_same_time() {
    let folder = Folder::new();
    let second = |second: u64| second * 1_000_000_000;
    // Three runs, the first of them without a log of stages; each packet took 5 µs in the second, 900 in the third.
    let (mut log, mut stages, mut runs) = (String::new(), String::new(), Vec::new());
    for (run, took) in [(1, 0), (2, 5_000), (3, 900_000)] {
        let start = 1_700_000_000 + run * 100;
        runs.push(json!({
            "format": 1, "log_start": log.len(), "stages_log": (run > 1).then_some("stages.csv"),
            "started_unix_ns": second(start), "ended_unix_ns": if run == 2 { json!(null) } else { json!(second(start + 21)) },
        }));
        log += HEADER;
        stages += if run > 1 { STAGES_HEADER } else { "" };
        for n in 1..20 {
            let app = second(start + n);
            log += &format!("{n},t1,{}.000000000,44\n", start + n);
            stages += &if run > 1 { format!("{n},t1,44,,{app},{},,\n", app - took) } else { String::new() };
        }
    }
    let mut newest = runs.pop().unwrap();
    newest["earlier_sessions"] = json!(runs);
    folder.file("log.csv.meta.json", &newest.to_string());
    let client = folder.file("log.csv", &log);
    let of = |session, stages: &PathBuf| {
        let input = Input { client: client.clone(), session, stages: vec![stages.clone()], ..Input::default() };
        report(&input, &options())
    };
    let path = folder.file("stages.csv", &stages);
    for (session, wanted, took) in [(Some(2), 1, 5_000), (Some(3), 2, 900_000), (None, 2, 900_000)] {
        let found = of(session, &path).unwrap();
        let stages = &found.stages[0];
        assert_eq!((stages.session, stages.sessions, stages.stages[0].1.summary.max), (wanted, 2, took));
        assert!(found.remarks.is_empty(), "{:?}", found.remarks);
    }
    // The first had none.
    let error = of(Some(1), &path).unwrap_err();
    assert!(matches!(&error, ReportError::NoStagesThen { sessions: 2, session: 1, .. }), "{error}");
    // A clock that was set back in the third one.
    newest["ended_unix_ns"] = json!(second(1_699_990_000));
    folder.file("log.csv.meta.json", &newest.to_string());
    assert_eq!(of(Some(3), &path).unwrap().stages[0].session, 2);
    // Where none is of that time it is an error, unless there are as many sessions, and then it is said.
    let last = stages.rfind(STAGES_HEADER).unwrap();
    let path = folder.file("stages.csv", &stages[..last]);
    let error = of(Some(3), &path).unwrap_err();
    assert!(matches!(&error, ReportError::NoStagesThen { sessions: 1, session: 3, .. }), "{error}");
    let path = folder.file("stages.csv", &format!("{0}{0}{0}", &stages[..last]));
    let found = of(Some(3), &path).unwrap();
    assert_eq!((found.stages[0].session, found.remarks.len()), (3, 1));
    assert!(found.remarks[0].contains("is not of the time"), "{:?}", found.remarks);
}
