//! The log and the statistics against recordings of nanoprobe: the same bytes, the same lines.

use std::collections::BTreeMap;
use std::fs;
use std::net::{Ipv4Addr, SocketAddrV4};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use xdprobe::clock::{Monotonic, Phc, Realtime, Source, Stamp, Time};
use xdprobe::path::{Counters, Description};
use xdprobe::record::{
    CardClock, ClockRecord, ClockSample, Facts, Finished, HEADER, Recorder, RecorderConfig, Role, RoundTrips,
    STAGES_HEADER, Sighting, Sources, StampCounts, StampSource, Summary, SummaryInput, TuningFacts, Voice, Written,
};
use xdprobe::session::{Direction, End, Event, Settings, Totals};
use xdprobe::wire::Point;

const PEER: SocketAddrV4 = SocketAddrV4::new(Ipv4Addr::new(10, 66, 0, 1), 55411);
/// What is in tests/golden, counted with grep: logs, whole rows in them, blocks of statistics.
const GOLDEN_LOGS: usize = 47;
const GOLDEN_ROWS: u64 = 9277;
const GOLDEN_STATISTICS: usize = 43;
const CLIENT: Voice = Voice { role: Role::Client, json: false };

fn golden(extension: &str) -> Vec<PathBuf> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden");
    let folders = fs::read_dir(root).unwrap().map(|entry| entry.unwrap().path()).filter(|path| path.is_dir());
    let files = folders.flat_map(|folder| fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path()));
    files.filter(|path| path.extension().is_some_and(|found| found == extension)).collect()
}

fn point(name: &str) -> Point {
    use Point::{T0, T0cs, T0sc, T1, T1cs, T1sc, T2, T3};
    [T0, T1, T2, T3, T0cs, T1cs, T0sc, T1sc].into_iter().find(|point| point.as_str() == name).unwrap()
}

/// Seen at this application stamp, and by nobody else.
fn seen(sequence: u64, point: Point, nanos: u64, size: u16) -> Sighting {
    let application = Time::from_nanos(nanos);
    Sighting { sequence, point, size, queue: None, application, software: None, hardware: None }
}

fn sighting(line: &str) -> Sighting {
    let fields: Vec<&str> = line.split(',').collect();
    let (seconds, nanos) = fields[2].split_once('.').unwrap();
    let stamp = seconds.parse::<u64>().unwrap() * 1_000_000_000 + nanos.parse::<u64>().unwrap();
    seen(fields[0].parse().unwrap(), point(fields[1]), stamp, fields[3].parse().unwrap())
}

fn start(log: Option<&Path>) -> Recorder {
    Recorder::start(RecorderConfig::application(log, CLIENT)).unwrap()
}

fn written(rows_written: u64) -> Option<Written> {
    Some(Written { rows_written, rows_lost: 0, error: None })
}

fn xdp() -> Description {
    Description {
        path: "xdp",
        xdp_mode: Some("native"),
        zero_copy: Some(false),
        queues: vec![0],
        local: SocketAddrV4::new(Ipv4Addr::new(10, 66, 0, 2), 10666),
        hook_stamps_one_in: None,
    }
}

#[test]
fn every_golden_log_is_written_again_byte_for_byte() {
    let folder = tempfile::tempdir().unwrap();
    let (mut logs, mut rows) = (0, 0);
    for path in golden("csv") {
        let text = fs::read_to_string(&path).unwrap();
        // Not a log: a schedule, or the log of a client that was killed before its buffer was written.
        if !text.starts_with(HEADER) {
            continue;
        }
        // Killed in the middle of a row.
        let whole = &text[..text.rfind('\n').unwrap() + 1];
        let log = folder.path().join(format!("{logs}.csv"));
        let mut recorder = start(Some(&log));
        let mut expected = 0;
        for line in whole.lines() {
            if line == HEADER.trim_end() {
                recorder.begin_session();
            } else {
                recorder.seen(&sighting(line));
                expected += 1;
            }
        }
        let finished = recorder.finish();
        assert_eq!(finished.log, written(expected), "{}", path.display());
        assert!(fs::read_to_string(&log).unwrap() == whole, "{} differs", path.display());
        logs += 1;
        rows += expected;
    }
    assert_eq!((logs, rows), (GOLDEN_LOGS, GOLDEN_ROWS));
}

/// The words of a line that are numbers, in order.
fn numbers(line: &str) -> Vec<&str> {
    line.split([' ', '(', ')', '%', ',']).filter(|word| word.starts_with(|c: char| c.is_ascii_digit())).collect()
}

/// Builds the summary that nanoprobe's four lines describe.
fn summary_of(lines: &[&str], loss: bool) -> Summary {
    let [size, time] = numbers(lines[1])[..] else { panic!("{}", lines[1]) };
    let [sent, _, received, ..] = numbers(lines[2])[..] else { panic!("{}", lines[2]) };
    let [tx, _, rx, _] = numbers(lines[3])[..] else { panic!("{}", lines[3]) };
    let (seconds, nanos) = time.split_once('.').unwrap();
    let start = Time::<Monotonic>::from_nanos(7);
    let duration = seconds.parse::<u64>().unwrap() * 1_000_000_000 + nanos.parse::<u64>().unwrap();
    let totals = Totals {
        transmitted: sent.parse().unwrap(),
        received: received.parse().unwrap(),
        first_ip_len: Some(size.parse().unwrap()),
        started: Some(start),
        ended: Some(start.plus_nanos(duration)),
        pongs_expected: 1,
        measures_loss: loss,
        ..Totals::default()
    };
    let mut trips = RoundTrips::new();
    trips.sent(1);
    trips.left(1, Stamp::System(Time::from_nanos(1)));
    trips.answered(1, Some(Stamp::System(Time::from_nanos(2))));
    let tx = tx.parse().unwrap();
    Summary::new(SummaryInput {
        role: Role::Client,
        peer: Some(PEER),
        settings: Some(&Settings::default()),
        totals: &totals,
        end: End::Complete,
        round_trips: Some(trips.totals()),
        stamps: StampCounts { tx_requested: tx, tx, rx: rx.parse().unwrap(), ..StampCounts::default() },
        sources: Sources::application(),
        stamp_timeout: None,
        description: &xdp(),
        counters: Counters::default(),
        recorded: &Finished::default(),
    })
}

#[test]
fn every_golden_statistics_is_printed_again_line_for_line() {
    let mut blocks = 0;
    for path in golden("out") {
        let text = fs::read_to_string(&path).unwrap();
        let lines: Vec<&str> = text.lines().collect();
        for start in (0..lines.len()).filter(|at| lines[*at] == "--- nanoprobe statistics ---") {
            let golden = &lines[start..start + 4];
            let (before, loss) = match golden[2].split_once(" pps), ").map(|_| golden[2].rsplit_once(", ")) {
                Some(Some((before, loss))) if loss.ends_with("% packet loss") => (before, Some(loss)),
                _ => (golden[2], None),
            };
            let ours = summary_of(golden, loss.is_some()).to_text();
            let ours: Vec<&str> = ours.lines().take(4).collect();
            assert_eq!((ours[0], ours[1], ours[3]), (golden[0], golden[1], golden[3]), "{}", path.display());
            // The original counts control messages and pongs not asked for as loss; where it counts none, we agree.
            match loss {
                Some("0.000000% packet loss") | None => assert_eq!(ours[2], golden[2], "{}", path.display()),
                Some(_) => assert_eq!(ours[2], format!("{before}, 0.000000% packet loss"), "{}", path.display()),
            }
            blocks += 1;
        }
    }
    assert_eq!(blocks, GOLDEN_STATISTICS);
}

#[test]
fn a_log_is_appended_to_and_its_meta_file_knows_every_session() {
    let folder = tempfile::tempdir().unwrap();
    let log = folder.path().join("server.csv");
    let facts = Facts {
        interface: "gb".into(),
        driver: Some("veth".into()),
        description: xdp(),
        sent: StampSource::application(),
        received: StampSource::application(),
        schedule: None,
        dummies: 0,
        tuning: TuningFacts::default(),
        stamp_every: None,
        command_line: ["xdprobe", "--server"].map(String::from).into(),
    };
    let settings = Settings { count_s: 3, ping_padding: 156, direction: Direction::Reverse, ..Settings::default() };
    let run = |sessions: u64| {
        let voice = Voice { role: Role::Server, json: true };
        let mut recorder = Recorder::start(RecorderConfig::application(Some(&log), voice)).unwrap();
        recorder.describe(facts.clone());
        for session in 1..=sessions {
            recorder.begin_session();
            recorder.notice(Event::Connected { peer: PEER, settings });
            recorder.seen(&seen(session, Point::T0, 1, 200));
            assert_eq!(recorder.sync().log, written(session));
            let lines = ["", "packet size 200 bytes, time 1.5 s", "1 sent (1 pps), 0 received", "1 (1%), 0 (1%)"];
            let mut summary = summary_of(&lines, false);
            summary.rows_written = Some(session);
            recorder.end_session(&summary, &ClockRecord::default()).unwrap();
        }
        assert!(recorder.finish().is_whole());
    };
    run(1);
    run(2);
    let text = fs::read_to_string(&log).unwrap();
    let one = format!("{HEADER}1,t0,0.000000001,200\n");
    assert_eq!(text, format!("{one}{one}{HEADER}2,t0,0.000000001,200\n"));

    let meta = fs::read(folder.path().join("server.csv.meta.json")).unwrap();
    let meta: serde_json::Value = serde_json::from_slice(&meta).unwrap();
    let earlier = meta["earlier_sessions"].as_array().unwrap();
    let places: Vec<(u64, u64, u64)> = earlier
        .iter()
        .chain([&meta])
        .map(|s| ["session", "log_start", "log_end"].map(|name| s[name].as_u64().unwrap()).into())
        .collect();
    let length = one.len() as u64;
    assert_eq!(places, [(1, 0, length), (2, length, 2 * length), (3, 2 * length, 3 * length)]);
    assert_eq!(meta["timestamps"]["t0"]["source"], "application");
    assert_eq!(meta["timestamps"]["t3"]["clock"], "CLOCK_REALTIME");
    assert_eq!(meta["timestamps"].as_object().unwrap().len(), 2);
    assert_eq!((&meta["settings"]["ping_size"], &meta["direction"]), (&200.into(), &"reverse".into()));
    assert_eq!((&meta["path"], &meta["zero_copy"], &meta["role"]), (&"xdp".into(), &false.into(), &"server".into()));
    assert_eq!(meta["summary"]["transmitted"], 1);
    assert_eq!(meta["summary"]["rows_written"], 2);
    assert_eq!((&meta["format"], &meta["program"], &meta["log"]), (&1.into(), &"xdprobe".into(), &"server.csv".into()));
    let names: Vec<_> = fs::read_dir(folder.path()).unwrap().map(|entry| entry.unwrap().file_name()).collect();
    assert_eq!(names.len(), 2, "nothing but the log and its meta file is left: {names:?}");
}

#[test]
fn the_json_object_has_the_promised_names_and_types() {
    let lines =
        ["", "packet size 44 bytes, time 1.010113123 s", "103 sent (1 pps), 102 received", "103 (1%), 102 (1%)"];
    let json: serde_json::Value = serde_json::from_str(&summary_of(&lines, true).to_json()).unwrap();
    let types: BTreeMap<&str, &str> = json
        .as_object()
        .unwrap()
        .iter()
        .map(|(name, value)| {
            let kind = match value {
                serde_json::Value::Null => "null",
                serde_json::Value::Bool(_) => "bool",
                serde_json::Value::Number(number) if number.is_u64() => "integer",
                serde_json::Value::Number(_) => "number",
                serde_json::Value::String(_) => "string",
                serde_json::Value::Array(_) => "array",
                serde_json::Value::Object(_) => "object",
            };
            (name.as_str(), kind)
        })
        .collect();
    for (name, kind) in [
        ("transmitted", "integer"),
        ("received", "integer"),
        ("lost", "integer"),
        ("loss_percent", "number"),
        ("tx_stamps", "integer"),
        ("rx_stamps", "integer"),
        ("late_sends", "integer"),
        ("worst_lateness_ns", "integer"),
        ("duration_ns", "integer"),
        ("t3_t0_ns", "object"),
        ("path", "string"),
        ("xdp_mode", "string"),
        ("zero_copy", "bool"),
        ("queues", "array"),
        ("tx_ring_full", "integer"),
        ("xdp", "null"),
        ("end", "string"),
        ("rows_lost", "null"),
        ("stage_rows_lost", "null"),
        ("stages", "null"),
        ("tx_stamps_requested", "integer"),
        ("tx_stamps_missed", "integer"),
        ("rx_stamps_missed", "integer"),
        ("rx_stamps_requested", "integer"),
        ("tx_source", "string"),
        ("rx_source", "string"),
        ("peer", "string"),
    ] {
        assert_eq!(types.get(name), Some(&kind), "{name}");
    }
    for name in types.keys() {
        assert!(name.chars().all(|c| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '_'), "{name}");
    }
    let rtt = json["t3_t0_ns"].as_object().unwrap();
    assert_eq!(rtt.len(), 8);
    for name in ["count", "min", "mean", "p50", "p90", "p99", "p999", "max"] {
        assert_eq!(rtt[name].as_u64(), Some(1), "{name}");
    }
    assert_eq!(json["duration_ns"], 1_010_113_123);
}

#[test]
fn an_unwritable_log_is_refused_with_its_name_and_what_to_do() {
    let folder = tempfile::tempdir().unwrap();
    let refused = |log: &Path| Recorder::start(RecorderConfig::application(Some(log), CLIENT)).unwrap_err();
    let missing = folder.path().join("no/such/folder.csv");
    let error = refused(&missing).to_string();
    assert!(error.contains("no/such/folder.csv") && error.contains("create its folder"), "{error}");
    let error = refused(folder.path()).to_string();
    assert!(error.contains("it is a folder"), "{error}");
    let error = refused(Path::new("/dev/full")).to_string();
    assert!(error.contains("cannot write to the log /dev/full") && error.contains("No space left"), "{error}");
}

#[test]
fn a_device_has_no_meta_file() {
    let mut recorder = start(Some(Path::new("/dev/null")));
    recorder.seen(&seen(1, Point::T0, 1, 44));
    assert_eq!(recorder.finish().log, written(1));
    assert!(!Path::new("/dev/null.meta.json").exists());
}

#[test]
fn a_log_that_ends_within_a_row_gets_its_header_on_a_line_of_its_own() {
    let folder = tempfile::tempdir().unwrap();
    let log = folder.path().join("torn.csv");
    fs::write(&log, format!("{HEADER}1,t0,17953")).unwrap();
    assert_eq!(start(Some(&log)).finish().log, written(0));
    assert_eq!(fs::read_to_string(&log).unwrap(), format!("{HEADER}1,t0,17953\n{HEADER}"));
}

#[test]
fn without_a_log_rows_are_neither_written_nor_lost() {
    let mut recorder = start(None);
    recorder.seen(&seen(1, Point::T0, 1, 44));
    assert_eq!(recorder.lost_rows(), 0);
    let finished = recorder.finish();
    assert_eq!((finished.log, finished.stage_log), (None, None));
}

/// A card's clock 37 s ahead of the system's, known to 50 ns.
struct Ptp3;

impl CardClock for Ptp3 {
    fn to_system(&self, stamp: Time<Phc>) -> Option<(Time<Realtime>, u64)> {
        Some((Time::from_nanos(stamp.as_nanos() - 37_000_000_000), 50))
    }

    fn name(&self) -> String {
        "ptp3".into()
    }
}

/// A client of the xdp path in hardware mode: two pings, each with its pong, of which the second has no hardware stamp.
fn a_hardware_session(recorder: &mut Recorder) {
    let card = |system_nanos: u64| Some(Time::<Phc>::from_nanos(system_nanos + 37_000_000_000));
    recorder.begin_session();
    for (sequence, at) in [(1, 1_000_000_000_000), (2, 1_000_001_000_000)] {
        let (sent, received) = (seen(sequence, Point::T0, at, 44), seen(sequence, Point::T3, at + 9000, 44));
        recorder.seen(&Sighting { software: Some(Time::from_nanos(at + 2000)), hardware: card(at + 1500), ..sent });
        recorder.seen(&Sighting {
            queue: Some(1),
            software: Some(Time::from_nanos(at + 7000)),
            hardware: card(at + 6900).filter(|_| sequence == 1),
            ..received
        });
    }
}

#[test]
fn one_packet_shows_all_its_stamps_and_the_log_only_the_chosen_one() {
    let folder = tempfile::tempdir().unwrap();
    let (log, stages) = (folder.path().join("log.csv"), folder.path().join("stages.csv"));
    fs::write(&stages, "torn").unwrap();
    let config = RecorderConfig {
        log_stages: Some(&stages),
        sources: Sources { sent: Source::Hardware, received: Source::Hardware },
        card: Some(Arc::new(Ptp3)),
        ..RecorderConfig::application(Some(&log), CLIENT)
    };
    let mut recorder = Recorder::start(config).unwrap();
    recorder.describe(Facts {
        interface: "eth1".into(),
        driver: None,
        description: xdp(),
        sent: StampSource::card("ptp3".into()),
        received: StampSource::card("ptp3".into()),
        schedule: None,
        dummies: 0,
        tuning: TuningFacts::default(),
        stamp_every: None,
        command_line: vec![],
    });
    for _ in 0..2 {
        a_hardware_session(&mut recorder);
        recorder.notice(Event::Connected { peer: PEER, settings: Settings::default() });
        let finished = recorder.sync();
        let sample = ClockSample {
            system: Time::from_nanos(1_000_000_000_000),
            phc: Time::from_nanos(1_037_000_000_000),
            uncertainty_nanos: 50,
            method: "PTP_SYS_OFFSET_PRECISE",
        };
        let clocks = ClockRecord { samples: vec![sample], tai_offsets: vec![(Time::from_nanos(7), 37_000_000_000)] };
        let lines = ["", "packet size 44 bytes, time 1.5 s", "2 sent (1 pps), 2 received", "2 (1%), 2 (1%)"];
        let mut summary = summary_of(&lines, false);
        summary.stages = finished.stages;
        recorder.end_session(&summary, &clocks).unwrap();
    }
    let finished = recorder.finish();
    assert_eq!((finished.log, finished.stage_log), (written(6), written(8)));
    let session = "1,t0,1037.000001500,44\n1,t3,1037.000006900,44\n2,t0,1037.001001500,44\n";
    assert_eq!(fs::read_to_string(&log).unwrap(), format!("{HEADER}{session}{HEADER}{session}"));
    let session = "1,t0,44,,1000000000000,1000000002000,1037000001500,ptp3\n\
                   1,t3,44,1,1000000009000,1000000007000,1037000006900,ptp3\n\
                   2,t0,44,,1000001000000,1000001002000,1037001001500,ptp3\n\
                   2,t3,44,1,1000001009000,1000001007000,,\n";
    let expected = format!("torn\n{STAGES_HEADER}{session}{STAGES_HEADER}{session}");
    assert_eq!(fs::read_to_string(&stages).unwrap(), expected);

    let meta = fs::read(folder.path().join("log.csv.meta.json")).unwrap();
    let meta: serde_json::Value = serde_json::from_slice(&meta).unwrap();
    assert_eq!((&meta["session"], &meta["stages_log"]), (&2.into(), &"stages.csv".into()));
    assert_eq!((&meta["timestamps"]["t0"]["device"], &meta["clock_samples"]), (&"ptp3".into(), &1.into()));
    assert_eq!(meta["clock_offsets"][0]["offset_ns"], 37_000_000_000_u64);
    assert_eq!(meta["tai_offset_ns"], 37_000_000_000_u64);
    let stage =
        |name: &str| ["count", "min", "max", "uncertainty_ns"].map(|key| meta["summary"]["stages"][name][key].as_i64());
    assert_eq!(stage("hw_to_hook_ns"), [Some(1), Some(100), Some(100), Some(50)]);
    assert_eq!(stage("hook_to_app_ns"), [Some(2), Some(2000), Some(2000), None]);
    assert_eq!(stage("hw_to_app_ns"), [Some(1), Some(2100), Some(2100), Some(50)]);
    assert_eq!(stage("app_to_sw_ns"), [Some(2), Some(2000), Some(2000), None]);
    assert_eq!(stage("sw_to_hw_ns"), [Some(2), Some(-500), Some(-500), Some(50)]);
    assert_eq!(stage("app_to_hw_ns"), [Some(2), Some(1500), Some(1500), Some(50)]);
    let text = summary_of(&["", "44 bytes, 1.5 s", "2 sent (1 pps), 2 received", "2 (1%), 2 (1%)"], false).to_text();
    assert!(!text.contains("->"), "no stage is invented: {text}");
}

#[test]
fn a_log_of_stages_needs_no_log() {
    let folder = tempfile::tempdir().unwrap();
    let stages = folder.path().join("stages.csv");
    let config = RecorderConfig { log_stages: Some(&stages), ..RecorderConfig::application(None, CLIENT) };
    let mut recorder = Recorder::start(config).unwrap();
    recorder.begin_session();
    recorder.seen(&seen(1, Point::T0cs, 7, 44));
    // Nobody said which card it is.
    recorder.seen(&Sighting { hardware: Some(Time::from_nanos(0)), ..seen(1, Point::T1sc, 8, 60) });
    let finished = recorder.finish();
    assert_eq!((&finished.log, &finished.stage_log), (&None, &written(2)));
    assert_eq!(finished.stages.unwrap().unconverted, 1);
    assert_eq!(fs::read_to_string(&stages).unwrap(), format!("{STAGES_HEADER}1,t0cs,44,,7,,,\n1,t1sc,60,,8,,0,PHC\n"));
    assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 1, "a meta file is the log's");
}

#[test]
fn an_unwritable_log_of_stages_is_refused_with_its_flag() {
    let config =
        RecorderConfig { log_stages: Some(Path::new("/dev/full")), ..RecorderConfig::application(None, CLIENT) };
    let error = Recorder::start(config).unwrap_err().to_string();
    assert!(error.contains("cannot write to the log of stages /dev/full"), "{error}");
    assert!(error.ends_with("with --log-stages"), "{error}");
}
