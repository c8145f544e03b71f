//! What a scenario left behind, as values.

use serde_json::Value;
use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;

/// One of the two programs of a session.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Side {
    Client,
    Server,
}

pub const SIDES: [Side; 2] = [Side::Client, Side::Server];

impl Side {
    pub fn other(self) -> Self {
        match self {
            Self::Client => Self::Server,
            Self::Server => Self::Client,
        }
    }

    pub fn name(self) -> &'static str {
        match self {
            Self::Client => "client",
            Self::Server => "server",
        }
    }
}

/// The files of one scenario.
pub struct Outcome {
    folder: PathBuf,
}

impl Outcome {
    /// Panics with all that was printed where the scenario's script did not come to its end.
    pub fn new(folder: PathBuf) -> Self {
        let outcome = Self::of_logs(folder);
        let code = outcome.file("code");
        assert_eq!(code.trim(), "0", "the scenario's script failed (124: it hung)");
        outcome
    }

    /// Only logs, whoever wrote them.
    pub fn of_logs(folder: PathBuf) -> Self {
        Self { folder }
    }

    /// Everything that was printed, for whoever looks into a failure.
    pub fn printed(folder: &std::path::Path) -> String {
        let mut text = String::new();
        let mut names: Vec<_> = std::fs::read_dir(folder)
            .map(|entries| entries.flatten().map(|entry| entry.file_name().to_string_lossy().into_owned()).collect())
            .unwrap_or_default();
        names.sort();
        for name in names.iter().filter(|name| !name.ends_with(".csv") && !name.ends_with(".pid")) {
            let content = std::fs::read(folder.join(name)).unwrap_or_default();
            let content = String::from_utf8_lossy(&content);
            if !content.trim().is_empty() {
                text += &format!("--- {name}\n{}\n", content.trim_end());
            }
        }
        text + &format!("--- the files are in {}\n", folder.display())
    }

    /// A file's text; panics where it is not there.
    pub fn file(&self, name: &str) -> String {
        self.try_file(name).unwrap_or_else(|| panic!("the scenario left no file {name}"))
    }

    pub fn try_file(&self, name: &str) -> Option<String> {
        std::fs::read(self.folder.join(name)).ok().map(|bytes| String::from_utf8_lossy(&bytes).into_owned())
    }

    /// The exit code of a side or of another program that the script began.
    pub fn code(&self, name: &str) -> i32 {
        self.file(&format!("{name}.code")).trim().parse().expect("an exit code")
    }

    /// What a side wrote to stderr.
    pub fn stderr(&self, side: Side) -> String {
        self.file(&format!("{}.err", side.name()))
    }

    /// Both sides ended with exit code 0.
    pub fn assert_success(&self) {
        for side in SIDES {
            assert_eq!(self.code(side.name()), 0, "exit code of the {}", side.name());
        }
    }

    /// The rows of a side's log.
    pub fn log(&self, side: Side) -> Log {
        self.log_of(&format!("{}.csv", side.name()))
    }

    /// The rows of another log.
    pub fn log_of(&self, name: &str) -> Log {
        Log::parse(&self.file(name))
    }

    /// The rows of a side's log of stages.
    pub fn stages(&self, side: Side) -> Vec<Stage> {
        Stage::parse(&self.file(&format!("{}.stages", side.name())))
    }

    /// The one JSON object on a side's stdout.
    pub fn json(&self, side: Side) -> Value {
        let text = self.file(&format!("{}.out", side.name()));
        serde_json::from_str(&text).unwrap_or_else(|err| panic!("stdout of the {}: {err}: {text}", side.name()))
    }

    /// What stands beside a side's log.
    pub fn meta(&self, side: Side) -> Value {
        let text = self.file(&format!("{}.csv.meta.json", side.name()));
        serde_json::from_str(&text).unwrap_or_else(|err| panic!("meta file of the {}: {err}: {text}", side.name()))
    }

    /// The counters of a side's NIC, as `ethtool -S` shows them.
    pub fn counters(&self, side: Side) -> BTreeMap<String, u64> {
        let text = self.file(&format!("{}.stats", side.name()));
        let pairs = text.lines().filter_map(|line| line.trim().split_once(": "));
        pairs.filter_map(|(name, value)| Some((name.to_owned(), value.parse().ok()?))).collect()
    }

    /// A counter of a side's NIC.
    pub fn counter(&self, side: Side, name: &str) -> u64 {
        *self.counters(side).get(name).unwrap_or_else(|| panic!("the {}'s NIC has no counter {name}", side.name()))
    }

    /// The stamping of a side's NIC: `tx_type` and `rx_filter` of `linux/net_tstamp.h`.
    pub fn hwtstamp(&self, side: Side, when: &str) -> (u32, u32) {
        let text = self.file(&format!("{}.hwtstamp.{when}", side.name()));
        let field = |name: &str| {
            let line = text.lines().find_map(|line| line.trim().strip_prefix(name)).map(str::trim);
            line.and_then(|value| value.parse().ok()).unwrap_or_else(|| panic!("no {name} in {text:?}"))
        };
        (field("tx_type"), field("rx_filter"))
    }

    /// Whether a side's NIC had a carrier, and how often that had changed.
    pub fn carrier(&self, side: Side, when: &str) -> (bool, u64) {
        let text = self.file(&format!("{}.carrier.{when}", side.name()));
        let numbers: Vec<u64> = text.lines().map(|line| line.parse().expect("a number")).collect();
        let [carrier, changes] = numbers[..] else { panic!("two lines: {text:?}") };
        (carrier == 1, changes)
    }

    /// No XDP program hangs on either NIC, and their stamping is as it was.
    pub fn assert_unchanged(&self) {
        for side in SIDES {
            let link = self.file(&format!("{}.link", side.name()));
            assert!(!link.contains("prog/xdp"), "an XDP program is left at the {}: {link}", side.name());
            let (before, after) = (self.hwtstamp(side, "before"), self.hwtstamp(side, "after"));
            assert_eq!(after, before, "(tx_type, rx_filter) of the {} after and before", side.name());
        }
    }

    /// The kernel had nothing to complain about.
    pub fn assert_quiet_kernel(&self) {
        let text = self.file("dmesg");
        for word in ["WARNING:", "BUG:", "Call Trace", "RCU Stall", "NETDEV WATCHDOG"] {
            assert!(!text.contains(word), "the kernel says {word}: {text}");
        }
    }
}

/// The stamps of a log, in ns of the clock that they are of.
#[derive(Debug, Default)]
pub struct Log {
    rows: BTreeMap<String, BTreeMap<u64, i64>>,
}

impl Log {
    fn parse(text: &str) -> Self {
        let mut log = Self::default();
        for line in text.lines().filter(|line| *line != "seq,timestamp-idx,timestamp,size") {
            let fields: Vec<&str> = line.split(',').collect();
            let [sequence, point, stamp, _size] = fields[..] else { panic!("a row has four fields: {line:?}") };
            let (seconds, nanos) = stamp.split_once('.').expect("a stamp has a dot");
            assert_eq!(nanos.len(), 9, "nine digits of nanoseconds: {line:?}");
            let nanos = seconds.parse::<i64>().unwrap() * 1_000_000_000 + nanos.parse::<i64>().unwrap();
            assert!(nanos > 0, "no stamp is a zero: {line:?}");
            let of_point = log.rows.entry(point.to_owned()).or_default();
            let sequence = sequence.parse().expect("a sequence is a number");
            assert_eq!(of_point.insert(sequence, nanos), None, "sequence {sequence} has one {point}");
        }
        log
    }

    /// The stamps of a point by sequence; empty where it has none.
    pub fn point(&self, point: &str) -> BTreeMap<u64, i64> {
        self.rows.get(point).cloned().unwrap_or_default()
    }

    /// The names of all points that have a stamp.
    pub fn points(&self) -> BTreeSet<&str> {
        self.rows.keys().map(String::as_str).collect()
    }
}

/// A row of the log of stages; a stamp that is not there is `None`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Stage {
    pub sequence: u64,
    pub point: String,
    pub app: Option<i64>,
    pub software: Option<i64>,
    pub hardware: Option<i64>,
    pub hardware_clock: String,
}

impl Stage {
    fn parse(text: &str) -> Vec<Self> {
        let mut lines = text.lines();
        assert_eq!(lines.next(), Some("seq,point,size,queue,t_app,t_sw,t_hw,hw_clock"), "the header of the stages");
        lines.map(Self::parse_row).collect()
    }

    fn parse_row(line: &str) -> Self {
        let fields: Vec<&str> = line.split(',').collect();
        let [sequence, point, _size, _queue, app, software, hardware, clock] = fields[..] else {
            panic!("a stage has eight fields: {line:?}");
        };
        let stamp = |text: &str| {
            let nanos: Option<i64> = (!text.is_empty()).then(|| text.parse().expect("nanoseconds"));
            assert_ne!(nanos, Some(0), "no stamp is a zero: {line:?}");
            nanos
        };
        Self {
            sequence: sequence.parse().expect("a sequence is a number"),
            point: point.to_owned(),
            app: stamp(app),
            software: stamp(software),
            hardware: stamp(hardware),
            hardware_clock: clock.to_owned(),
        }
    }
}
