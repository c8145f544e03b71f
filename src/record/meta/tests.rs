//! FILE.meta.json of runs of one session and of several, also where there was a file before.

use super::super::ClockSample;
use super::*;
use crate::session::TimerKind;
use crate::wire::ptp::Transport;
use std::net::Ipv4Addr;
use tempfile::TempDir;

const PEER: SocketAddrV4 = SocketAddrV4::new(Ipv4Addr::new(10, 66, 0, 1), 7);

fn at(nanos: u64) -> Time<Realtime> {
    Time::from_nanos(nanos)
}

fn facts() -> Facts {
    Facts {
        interface: "ga".into(),
        driver: None,
        description: Description {
            path: "kernel",
            xdp_mode: None,
            zero_copy: None,
            queues: vec![],
            local: SocketAddrV4::new(Ipv4Addr::LOCALHOST, 10666),
            hook_stamps_one_in: None,
        },
        sent: StampSource::application(),
        received: StampSource::application(),
        schedule: None,
        dummies: 3,
        tuning: TuningFacts::default(),
        stamp_every: Some(10),
        command_line: vec!["xdprobe".into()],
    }
}

/// A log with this content; the folder goes when the first value does.
fn log(content: &str) -> (TempDir, PathBuf) {
    let folder = tempfile::tempdir().unwrap();
    let log = folder.path().join("client.csv");
    fs::write(&log, content).unwrap();
    (folder, log)
}

/// What a process does with the meta file before it is killed in its session: the log grows by a header and a row.
fn killed_session(log: &Path) -> Option<String> {
    let (meta, remark) = MetaFile::open(log, None, Role::Client);
    let mut meta = meta.unwrap();
    meta.describe(facts());
    let start = fs::metadata(log).unwrap().len();
    fs::write(log, fs::read_to_string(log).unwrap() + HEADER + "1,t0,0.000000001,44\n").unwrap();
    meta.begin(PEER, Settings::default(), at(1_750_785_880_008_711_082), start).unwrap();
    remark
}

fn read(log: &Path) -> Value {
    serde_json::from_slice(&fs::read(meta_path(log)).unwrap()).unwrap()
}

fn indices(meta: &Value) -> Vec<u64> {
    let earlier = meta["earlier_sessions"].as_array().unwrap().iter();
    earlier.chain([meta]).map(|session| session["session"].as_u64().unwrap()).collect()
}

#[test]
fn a_session_that_was_killed_has_a_start_and_no_end() {
    let (_folder, log) = log("");
    assert_eq!(killed_session(&log), None);
    let meta = read(&log);
    assert_eq!(meta["started"], "2025-06-24T17:24:40.008711082Z");
    assert_eq!(meta["started_unix_ns"], 1_750_785_880_008_711_082_u64);
    assert!(["ended", "log_end", "summary"].iter().all(|name| meta[name].is_null()));
    assert_eq!((&meta["xdp_mode"], &meta["zero_copy"]), (&Value::Null, &Value::Null));
    assert_eq!(meta["timestamps"].as_object().unwrap().keys().collect::<Vec<_>>(), ["t0", "t3"]);
    assert_eq!(meta["settings"]["timer"], TimerKind::Busy.as_str());
}

/// One second after the other; the card's clock is 37 s ahead and gains 2 ns a second.
fn samples(count: u64) -> Vec<ClockSample> {
    (0..count)
        .map(|second| ClockSample {
            system: at(second * 1_000_000_000),
            phc: Time::from_nanos((second + 37) * 1_000_000_000 + 2 * second),
            uncertainty_nanos: 40 + second,
            method: "PTP_SYS_OFFSET_EXTENDED",
        })
        .collect()
}

fn nothing() -> Summary {
    use super::super::{Finished, Sources, StampCounts, SummaryInput};
    Summary::new(SummaryInput {
        role: Role::Client,
        peer: None,
        settings: None,
        totals: &crate::session::Totals::default(),
        end: crate::session::End::Complete,
        round_trips: None,
        punctuality: None,
        stamps: StampCounts::default(),
        sources: Sources::application(),
        stamp_timeout: None,
        description: &facts().description,
        counters: crate::path::Counters::default(),
        recorded: &Finished::default(),
    })
}

#[test]
fn sources_say_where_the_packet_was_and_which_clock_was_read() {
    let (_folder, log) = log("");
    let stages = log.with_file_name("stages.csv");
    let (meta, _) = MetaFile::open(&log, Some(&stages), Role::Client);
    let mut meta = meta.unwrap();
    meta.describe(Facts { sent: StampSource::hand_over(), received: StampSource::card("ptp3".into()), ..facts() });
    meta.begin(PEER, Settings::default(), at(1), 0).unwrap();
    let written = read(&log);
    let boot = boot_id().unwrap();
    let source = |source: &str, place: &str, clock: &str, device: Value| {
        let id = format!("{}@{boot}", device.as_str().unwrap_or(clock));
        serde_json::json!({"source": source, "where": place, "clock": clock, "device": device, "clock_id": id})
    };
    let null = Value::Null;
    assert_eq!(written["timestamps"]["t0"], source("application", "hand-over", "CLOCK_REALTIME", null.clone()));
    assert_eq!(written["timestamps"]["t3"], source("hardware", "network card", "PHC", "ptp3".into()));
    assert_eq!(written["stages_log"], "stages.csv");
    assert!(written["tai_offset_ns"].is_null() && written["clock_offsets"] == serde_json::json!([]));
    for (source, place) in
        [(StampSource::hook(), "XDP hook"), (StampSource::kernel(), "kernel"), (StampSource::driver(), "driver")]
    {
        let fields = (source.source, source.place, source.clock, source.device);
        assert_eq!(fields, ("software", place, "CLOCK_REALTIME", None));
    }
}

#[test]
fn which_pings_are_stamped_is_said_where_not_all_are() {
    let (_folder, log) = log("");
    let (meta, _) = MetaFile::open(&log, None, Role::Client);
    let mut meta = meta.unwrap();
    meta.describe(facts());
    meta.begin(PEER, Settings::default(), at(1), 0).unwrap();
    assert_eq!(read(&log)["stamp_every"], Value::Null, "without PTP headers all are");
    meta.begin(PEER, Settings { ptp: Some(Transport::Udp), ..Settings::default() }, at(2), 0).unwrap();
    assert_eq!(read(&log)["stamp_every"], 10);
}

#[test]
fn two_hosts_clocks_of_one_name_are_two_clocks() {
    let id = |source, boot| PointRecord::new(source, Some(boot)).clock_id.unwrap();
    let ptp0 = || StampSource::card("ptp0".into());
    assert_ne!(id(ptp0(), "one"), id(ptp0(), "other"));
    assert_ne!(id(StampSource::kernel(), "one"), id(StampSource::kernel(), "other"));
    // On one machine two ports of a card may have one clock, and everything that reads the system's has that.
    assert_eq!(id(ptp0(), "one"), id(ptp0(), "one"));
    assert_ne!(id(ptp0(), "one"), id(StampSource::card("ptp1".into()), "one"));
    assert_ne!(id(ptp0(), "one"), id(StampSource::application(), "one"));
    assert_eq!(id(StampSource::hook(), "one"), id(StampSource::driver(), "one"));
    assert_eq!(PointRecord::new(ptp0(), None).clock_id, None);
}

#[test]
fn clock_offsets_are_kept_over_the_whole_session() {
    let (_folder, log) = log("");
    let (meta, _) = MetaFile::open(&log, Some(Path::new("/elsewhere/stages.csv")), Role::Client);
    let mut meta = meta.unwrap();
    meta.describe(facts());
    for count in [3, 10_000] {
        meta.begin(PEER, Settings::default(), at(1), 0).unwrap();
        let record = ClockRecord { samples: samples(count), tai_offsets: vec![(Time::from_nanos(5), 37_000_000_000)] };
        meta.end(&nothing(), &record, at(2), 0).unwrap();
    }
    let written = read(&log);
    assert_eq!((&written["clock_samples"], &written["tai_offset_ns"]), (&10_000.into(), &37_000_000_000_u64.into()));
    assert_eq!(written["stages_log"], "/elsewhere/stages.csv");
    let offsets = written["clock_offsets"].as_array().unwrap();
    assert_eq!(offsets.len(), clocks::SAMPLES);
    let last = serde_json::json!({
        "system_ns": 9_999_000_000_000_u64, "phc_ns": 10_036_000_019_998_u64, "offset_ns": 37_000_019_998_i64,
        "uncertainty_ns": 10_039, "method": "PTP_SYS_OFFSET_EXTENDED",
    });
    assert_eq!((&offsets[0]["offset_ns"], &offsets[clocks::SAMPLES - 1]), (&37_000_000_000_i64.into(), &last));
    let first = &written["earlier_sessions"][0];
    let uncertainties: Vec<u64> = first["clock_offsets"]
        .as_array()
        .unwrap()
        .iter()
        .map(|sample| sample["uncertainty_ns"].as_u64().unwrap())
        .collect();
    assert_eq!(uncertainties, [40, 41, 42]);
}

#[test]
fn sessions_without_a_meta_file_are_counted_from_the_log() {
    let row = "1,t0,0.000000001,44\n";
    let (_folder, log) = log(&format!("{HEADER}{row}{HEADER}"));
    killed_session(&log);
    assert_eq!(indices(&read(&log)), [3]);
    // The original appends one, without a word in the meta file.
    fs::write(&log, fs::read_to_string(&log).unwrap() + HEADER + row).unwrap();
    assert_eq!(killed_session(&log), None);
    assert_eq!(indices(&read(&log)), [3, 5]);
}

#[test]
fn a_damaged_or_foreign_file_is_replaced_and_said() {
    let empty_of_ours = r#"{"format":1,"program":"xdprobe","session":"one","earlier_sessions":[]}"#;
    for content in ["", "{", "[]", r#"{"format":2,"program":"xdprobe"}"#, empty_of_ours, "\u{0}\u{ff}"] {
        let (_folder, log) = log("");
        fs::write(meta_path(&log), content).unwrap();
        let remark = killed_session(&log).unwrap();
        assert!(remark.contains("client.csv.meta.json is damaged or not xdprobe's"), "{remark}");
        assert_eq!(indices(&read(&log)), [1]);
        assert_eq!(killed_session(&log), None);
    }
}

#[test]
fn a_file_that_belongs_to_a_log_that_is_gone_is_replaced() {
    let (_folder, log) = log("other\n");
    killed_session(&log);
    fs::write(&log, "").unwrap();
    assert!(killed_session(&log).unwrap().contains("belongs to another log"));
    assert_eq!(indices(&read(&log)), [1]);
}

#[test]
fn a_folder_that_cannot_be_written_to_is_named() {
    let (folder, log) = log("");
    let (meta, _) = MetaFile::open(&log, None, Role::Client);
    let mut meta = meta.unwrap();
    meta.describe(facts());
    drop(folder);
    let problem = meta.begin(PEER, Settings::default(), at(1), 0).unwrap_err();
    assert!(problem.contains("client.csv.meta.json") && problem.contains("No such file"), "{problem}");
}

#[test]
fn only_a_regular_file_that_has_a_name_of_its_own_gets_one() {
    for log in ["/dev/null", "/dev/stdout", "/dev/fd/1", "/proc/self/fd/1", "/"] {
        assert!(!wants_meta(Path::new(log)), "{log}");
    }
    for log in ["not-yet-there.csv", "./not-yet-there.csv", "/dev/shm/not-yet-there.csv", "Cargo.toml"] {
        assert!(wants_meta(Path::new(log)), "{log}");
    }
}

#[test]
fn header_lines_are_counted_whatever_stands_between_them() {
    let cases = [
        (String::new(), 0),
        (HEADER.to_string(), 1),
        (HEADER.trim_end().to_string(), 0),
        (format!("{HEADER}{HEADER}\n\n{HEADER}"), 3),
        (format!("1,t0,17{HEADER}{HEADER}"), 1),
        (format!("seq,seq\n{HEADER}"), 1),
        (format!("{}\n{HEADER}", "x".repeat(5000)), 1),
    ];
    for (text, headers) in cases {
        for capacity in [1, 7, 4096] {
            let reader = BufReader::with_capacity(capacity, text.as_bytes());
            assert_eq!(count_headers(reader).unwrap(), headers, "{text:?} by {capacity}");
        }
    }
}

#[test]
fn times_are_rfc_3339() {
    for (nanos, text) in [
        (0, "1970-01-01T00:00:00.000000000Z"),
        (951_782_400_000_000_001, "2000-02-29T00:00:00.000000001Z"),
        (4_107_542_399_999_999_999, "2100-02-28T23:59:59.999999999Z"),
        (4_107_542_400_000_000_000, "2100-03-01T00:00:00.000000000Z"),
        (1_735_689_599_000_000_000, "2024-12-31T23:59:59.000000000Z"),
    ] {
        assert_eq!(rfc3339(at(nanos)), text);
    }
}
