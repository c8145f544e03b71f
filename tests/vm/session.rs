//! What the scenarios of both kinds of NIC have in common: the program's flags and the names in its output, and what must
//! hold of every session whose stamps are the hardware's.

use crate::outcome::{Log, Outcome, SIDES, Side, Stage};
use serde_json::Value;
use std::collections::{BTreeMap, BTreeSet};

/// Who pings whom.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Mode {
    Forward,
    Reverse,
    Duplex,
}

pub const MODES: [Mode; 3] = [Mode::Forward, Mode::Reverse, Mode::Duplex];
pub const PATHS: [&str; 2] = ["xdp", "kernel"];

/// One message on its way: the point at which it is sent and by whom, and the point at which the other side receives it.
pub struct Way {
    pub sent: &'static str,
    pub received: &'static str,
    pub sender: Side,
}

impl Way {
    const fn new(sent: &'static str, received: &'static str, sender: Side) -> Self {
        Self { sent, received, sender }
    }

    pub fn receiver(&self) -> Side {
        self.sender.other()
    }
}

impl Mode {
    pub fn name(self) -> &'static str {
        match self {
            Self::Forward => "forward",
            Self::Reverse => "reverse",
            Self::Duplex => "duplex",
        }
    }

    /// The client's flag.
    pub fn flag(self) -> &'static str {
        match self {
            Self::Forward => "",
            Self::Reverse => "--reverse",
            Self::Duplex => "--duplex",
        }
    }

    /// The messages of one sequence.
    pub fn ways(self) -> [Way; 2] {
        match self {
            Self::Forward => [Way::new("t0", "t1", Side::Client), Way::new("t2", "t3", Side::Server)],
            Self::Reverse => [Way::new("t0", "t1", Side::Server), Way::new("t2", "t3", Side::Client)],
            Self::Duplex => [Way::new("t0cs", "t1cs", Side::Client), Way::new("t0sc", "t1sc", Side::Server)],
        }
    }
}

/// The command lines of a session. `$out` is the guest's folder for this scenario.
#[derive(Debug, Clone)]
pub struct Session {
    pub server: String,
    pub client: String,
}

/// A guest that shares its CPUs with others may stand still for longer than the program's default.
pub const PATIENCE: &str = "--stamp-timeout 1000000";

/// How long a session lasts, and how far apart its pings are: about 200 of them.
const LASTS: &str = "--count 1 --delay 5000";

impl Session {
    /// Both sides with these flags.
    pub fn new(mode: Mode, both: &str) -> Self {
        Self::of_two(mode, both, both)
    }

    /// The server with one set of flags, the client with another.
    pub fn of_two(mode: Mode, server: &str, client: &str) -> Self {
        Self {
            server: format!("--json --log-stages $out/server.stages {server}"),
            client: format!("--json --log-stages $out/client.stages {LASTS} {} {client}", mode.flag()),
        }
    }

    /// Hardware stamps on this path, with more flags for both sides.
    pub fn hardware(mode: Mode, path: &str, more: &str) -> Self {
        Self::new(mode, &format!("--timestamps hardware --path {path} {PATIENCE} {more}"))
    }

    /// Behind PTP headers, which is the client's to say.
    pub fn ptp(mode: Mode, path: &str, more: &str) -> Self {
        let mut session = Self::hardware(mode, path, "");
        session.client += &format!(" {more}");
        session
    }

    /// The line of the guest's script.
    pub fn line(&self) -> String {
        format!("session {} -- {}\n", self.server, self.client)
    }
}

/// How many stamps a side asked for, had, and missed: what its JSON says.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Stamps {
    pub tx_requested: u64,
    pub tx: u64,
    pub tx_missed: u64,
    pub tx_late: u64,
    pub tx_duplicates: u64,
    pub rx_requested: u64,
    pub rx: u64,
    pub rx_missed: u64,
}

impl Stamps {
    pub fn of(json: &Value) -> Self {
        Self {
            tx_requested: number(json, "tx_stamps_requested"),
            tx: number(json, "tx_stamps"),
            tx_missed: number(json, "tx_stamps_missed"),
            tx_late: number(json, "tx_stamps_late"),
            tx_duplicates: number(json, "tx_stamps_duplicates"),
            rx_requested: number(json, "rx_stamps_requested"),
            rx: number(json, "rx_stamps"),
            rx_missed: number(json, "rx_stamps_missed"),
        }
    }

    /// Nothing was missed, and what was asked for is what came.
    pub fn assert_complete(&self) {
        assert_eq!(
            (self.tx_missed, self.tx_late, self.tx_duplicates, self.rx_missed),
            (0, 0, 0, 0),
            "missing: {self:?}"
        );
        assert_eq!(self.tx, self.tx_requested, "every transmit stamp that was asked for came: {self:?}");
        assert_eq!(self.rx, self.rx_requested, "and every receive stamp: {self:?}");
    }

    /// Whatever was asked for came or is counted as missed.
    pub fn assert_accounted(&self) {
        assert_eq!(self.tx + self.tx_missed, self.tx_requested, "every request has an end: {self:?}");
        assert_eq!(self.rx + self.rx_missed, self.rx_requested, "and so has every arrival: {self:?}");
    }
}

pub fn number(json: &Value, name: &str) -> u64 {
    json[name].as_u64().unwrap_or_else(|| panic!("the JSON has no number {name}: {json}"))
}

/// A wire whose truth is known: the delay, and how far the clocks are from the system's.
#[derive(Debug, Clone, Copy)]
pub struct Wire {
    pub delay_ns: i64,
    /// The clock of the client's NIC and of the server's, less `CLOCK_REALTIME`.
    pub offset_ns: [i64; 2],
}

impl Wire {
    /// The parameters of the module.
    pub fn parameters(&self) -> String {
        let [client, server] = self.offset_ns;
        format!("wire_delay_ns={} offset_ns={client},{server}", self.delay_ns)
    }

    pub fn offset(&self, side: Side) -> i64 {
        self.offset_ns[side as usize]
    }

    /// How far the receiver's clock is ahead of the sender's.
    fn ahead(&self, way: &Way) -> i64 {
        self.offset(way.receiver()) - self.offset(way.sender)
    }
}

/// Both sides' logs of one session.
pub struct Logs {
    client: Log,
    server: Log,
}

impl Logs {
    pub fn of(outcome: &Outcome) -> Self {
        Self { client: outcome.log(Side::Client), server: outcome.log(Side::Server) }
    }

    /// Of other files: the client's log and the server's.
    pub fn of_files(outcome: &Outcome, [client, server]: [&str; 2]) -> Self {
        Self { client: outcome.log_of(client), server: outcome.log_of(server) }
    }

    fn of_side(&self, side: Side) -> &Log {
        match side {
            Side::Client => &self.client,
            Side::Server => &self.server,
        }
    }

    pub fn sent(&self, way: &Way) -> BTreeMap<u64, i64> {
        self.of_side(way.sender).point(way.sent)
    }

    pub fn received(&self, way: &Way) -> BTreeMap<u64, i64> {
        self.of_side(way.receiver()).point(way.received)
    }

    /// Each message took exactly the wire's delay from the transmit stamp to the receive stamp, the difference of the two
    /// clocks aside; so no stamp stands at another's sequence. Returns how many messages have both.
    pub fn assert_exact(&self, mode: Mode, wire: &Wire) -> [usize; 2] {
        let counts = mode.ways().map(|way| {
            let (sent, received) = (self.sent(&way), self.received(&way));
            let both = sent.iter().filter_map(|(sequence, sent)| Some((sequence, sent, received.get(sequence)?)));
            let expected = wire.delay_ns + wire.ahead(&way);
            both.inspect(|(sequence, sent, received)| {
                let took = *received - *sent;
                assert_eq!(took, expected, "{} - {} of {sequence}", way.received, way.sent);
            })
            .count()
        });
        if mode != Mode::Duplex {
            self.assert_round_trips(mode, 2 * wire.delay_ns);
        }
        counts
    }

    /// (t3 − t0) − (t2 − t1) of every sequence that has all four, which do without the difference of the clocks.
    fn assert_round_trips(&self, mode: Mode, expected: i64) {
        let [ping, pong] = mode.ways();
        let (t0, t1, t2, t3) = (self.sent(&ping), self.received(&ping), self.sent(&pong), self.received(&pong));
        for (sequence, t0) in &t0 {
            if let (Some(t1), Some(t2), Some(t3)) = (t1.get(sequence), t2.get(sequence), t3.get(sequence)) {
                assert_eq!((t3 - t0) - (t2 - t1), expected, "round trip of {sequence}");
            }
        }
    }

    /// Every ping and pong of the session has a row at both of its points: sequences from 1 without a gap.
    pub fn assert_complete(&self, mode: Mode) {
        for way in mode.ways() {
            let (sent, received) = (self.sent(&way), self.received(&way));
            // Two hundred, unless the host is busy: then a guest has come to fifteen.
            assert!(sent.len() > 5, "a session of a second has more than {} {}", sent.len(), way.sent);
            let all: BTreeSet<u64> = (1..=sent.len() as u64).collect();
            assert_eq!(sent.keys().copied().collect::<BTreeSet<_>>(), all, "sequences of {}", way.sent);
            assert_eq!(received.keys().copied().collect::<BTreeSet<_>>(), all, "sequences of {}", way.received);
        }
    }
}

/// In the log of stages each packet's stamps are in the order in which it passed them, once the card's are brought to the
/// system's clock by the offset that is known; and the card's are those of the log.
pub fn assert_stages(outcome: &Outcome, mode: Mode, wire: &Wire) {
    for side in SIDES {
        let (stages, log) = (outcome.stages(side), outcome.log(side));
        let mut with_hardware = 0;
        for stage in &stages {
            let hardware = stage.hardware.map(|nanos| nanos - wire.offset(side));
            let Stage { app, software, .. } = *stage;
            let sent = mode.ways().iter().any(|way| way.sent == stage.point);
            let order = if sent { [app, software, hardware] } else { [hardware, software, app] };
            let there: Vec<i64> = order.into_iter().flatten().collect();
            assert!(there.is_sorted(), "{stage:?} of the {}: in the order of its way, {order:?}", side.name());
            assert!(app.is_some(), "the program saw whatever it logs: {stage:?}");
            if let Some(nanos) = stage.hardware {
                with_hardware += 1;
                assert!(!stage.hardware_clock.is_empty(), "a card's stamp names its clock: {stage:?}");
                assert_eq!(log.point(&stage.point).get(&stage.sequence), Some(&nanos), "the log's stamp: {stage:?}");
            }
        }
        let rows: usize = log.points().into_iter().map(|point| log.point(point).len()).sum();
        assert_eq!(with_hardware, rows, "the {}'s log has a row for each hardware stamp", side.name());
    }
}

/// Each side's stamps are of its own card's clock, which nobody takes for the other's.
pub fn assert_two_clocks(outcome: &Outcome, mode: Mode) {
    for way in mode.ways() {
        let [sent, received] = [(way.sender, way.sent), (way.receiver(), way.received)]
            .map(|(side, point)| outcome.meta(side)["timestamps"][point]["clock_id"].as_str().map(str::to_owned));
        assert!(sent.is_some() && received.is_some() && sent != received, "{sent:?} {received:?}");
    }
}

/// One comparison of a card's clock with the system's, from the meta file; nanoseconds.
#[derive(Debug, Clone)]
pub struct ClockSample {
    pub system: i64,
    /// The card's less the system's.
    pub offset: i64,
    pub uncertainty: i64,
    pub method: String,
}

/// What `FILE.meta.json` says of the clocks over time.
pub fn clock_samples(meta: &Value) -> Vec<ClockSample> {
    let samples = meta["clock_offsets"].as_array().unwrap_or_else(|| panic!("no clock samples in {meta}"));
    let field = |sample: &Value, name: &str| {
        sample[name].as_i64().unwrap_or_else(|| panic!("a clock sample has a number {name}: {sample}"))
    };
    let read = |sample: &Value| ClockSample {
        system: field(sample, "system_ns"),
        offset: field(sample, "offset_ns"),
        uncertainty: field(sample, "uncertainty_ns"),
        method: sample["method"].as_str().unwrap_or_default().to_owned(),
    };
    samples.iter().map(read).collect()
}
