//! What `--metrics` serves: counters over all sessions, histograms of round trips and stages, in seconds.
//!
//! Every histogram has classic buckets and, for whoever asks for protobuf, native ones. Nothing is ever set back: what a
//! session counts anew is added to what the sessions before it counted.

use super::feed::{Sample, Snapshot};
use crate::path::{Counters, XdpCounters};
use crate::record::{Crowd, ENDS, Role, Stage, StageSink, end_name};
use crate::session::End;
use prometheus_client::encoding::{EncodeLabelSet, LabelSetEncoder, prometheus_protobuf};
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::{Family, MetricConstructor};
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::metrics::histogram::{Histogram, NativeHistogramConfig};
use prometheus_client::metrics::info::Info;
use prometheus_client::registry::{Metric, Registry};
use prost::Message;
use std::sync::OnceLock;
use std::sync::atomic::AtomicU64;

pub use prometheus_protobuf::prometheus_data_model as model;

/// Upper ends of the classic buckets, in s: three a decade from 1 µs to 10 s.
const BUCKETS: [f64; 22] = [
    1e-6, 2e-6, 5e-6, 1e-5, 2e-5, 5e-5, 1e-4, 2e-4, 5e-4, 1e-3, 2e-3, 5e-3, 1e-2, 2e-2, 5e-2, 0.1, 0.2, 0.5, 1.0, 2.0,
    5.0, 10.0,
];
/// From one native bucket to the next at most: 10 %, as the documentation of native histograms has it.
const NATIVE_FACTOR: f64 = 1.1;
/// How many native buckets there may be before neighbours are joined: what client_golang advises.
const MAX_NATIVE_BUCKETS: usize = 160;

/// What the program is, for `xdprobe_build_info`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct BuildInfo {
    /// Which side this is.
    pub role: Role,
    /// `xdp` or `kernel`.
    pub path: &'static str,
    /// Whose stamps those of datagrams sent and received are.
    pub sources: [&'static str; 2],
}

type Get<T> = fn(&T) -> u64;

/// What a session counts while it lasts: name without `_total`, help, value.
const COUNTERS: [(&str, &str, Get<Snapshot>); 30] = [
    ("packets_transmitted", "Datagrams sent, control messages and dummies too", |s| s.totals.transmitted),
    ("packets_received", "Datagrams received, foreign ones and dummies too", |s| s.totals.received),
    ("pings_sent", "Pings sent", |s| s.totals.pings_sent),
    ("pongs_expected", "Pings sent that ask for a pong", |s| s.totals.pongs_expected),
    ("pings_answered", "Pings sent that were answered, each counted once", |s| s.trips.unique),
    ("pongs_received", "Pongs received, repeated ones too", |s| s.totals.pongs_received),
    ("pings_received", "Pings received, repeated ones too", |s| s.totals.pings_received),
    ("pongs_sent", "Pongs sent", |s| s.totals.pongs_sent),
    ("dummies_sent", "Dummies sent", |s| s.totals.dummies_sent),
    ("pongs_duplicate", "Pongs to pings that were answered already", |s| s.trips.duplicates),
    ("pongs_too_late", "Pongs to pings that were no longer remembered", |s| s.trips.unknown),
    ("packets_foreign", "Datagrams from somebody else than the session's peer", |s| s.totals.foreign),
    ("packets_unexpected", "Datagrams from the peer that made no sense where they came", |s| s.totals.unexpected),
    ("late_sends", "Pings that left more than 10 µs after their planned moment", |s| s.totals.late_sends),
    ("skipped_slots", "Planned moments without a ping because an earlier one was that late", |s| {
        s.totals.skipped_slots
    }),
    ("tx_stamps_requested", "Datagrams sent of which a stamp was asked for", |s| s.stamps.tx_requested),
    ("tx_stamps", "Datagrams sent whose stamp came in time", |s| s.stamps.tx),
    ("tx_stamps_missed", "Datagrams sent whose stamp was waited for in vain", |s| s.stamps.tx_missed),
    ("tx_stamps_late", "Transmit stamps that came after they were given up", |s| s.stamps.tx_late),
    ("tx_stamps_duplicate", "Transmit stamps of datagrams that had theirs already", |s| s.stamps.tx_duplicates),
    ("rx_stamps", "Datagrams received that had a stamp", |s| s.stamps.rx),
    ("rx_stamps_missed", "Datagrams received that should have had a stamp and had none", |s| s.stamps.rx_missed),
    ("stamps_implausible", "Stamps of the card that were none", |s| s.stamps.implausible),
    ("stamps_withheld", "Pings and pongs that were not stamped for another one under way", |s| {
        s.totals.stamps_withheld
    }),
    ("stamps_told", "Pairs of stamps of a ping and its pong that went out with a later pong", |s| s.stamps.told),
    ("stamps_untold", "Pairs of stamps that there was no room to keep until a later pong", |s| s.stamps.untold),
    ("t3_t0_negative", "Round trips that are in no histogram because the clock was stepped back", |s| s.trips.negative),
    ("rtt_negative", "RTTs that are in no histogram because they are below 0: a clock was stepped", |s| {
        s.trips.rtt_negative
    }),
    ("t3_t0_incomparable", "Round trips that are in no histogram because t0 and t3 are of different clocks", |s| {
        s.trips.incomparable
    }),
    ("samples_left_out", "Round trips that are in no histogram because they came too fast", |s| s.left_out),
];

/// What the path counts, known when a session ends.
const PATH_COUNTERS: [(&str, &str, Get<Counters>); 8] = [
    ("path_not_protocol", "Datagrams to the port that are not of the protocol", |c| c.not_protocol),
    ("path_tx_ring_full", "Times that sending had to wait for a free frame or ring slot", |c| c.tx_ring_full),
    ("path_tx_retries", "Times that the kernel was busy and was asked again", |c| c.tx_retries),
    ("path_tx_dropped", "Frames that this machine's kernel dropped before they left", |c| c.tx_dropped),
    ("path_reached_kernel", "Datagrams that went to the kernel and not to a ring", |c| c.reached_kernel),
    ("path_socket_dropped", "Datagrams that this machine's kernel dropped before they were read", |c| c.socket_dropped),
    ("path_frames_missing", "Frames of the memory shared with the kernel that were lost", |c| c.frames_missing),
    ("path_strange_stamps", "Transmit stamps that belong to no datagram", |c| c.strange_stamps),
];

/// What became of frames on the xdp path, known when a session ends.
const XDP_FRAMES: [(&str, Get<XdpCounters>); 8] = [
    ("seen", |c| c.seen),
    ("redirected", |c| c.redirected),
    ("passed", |c| c.passed),
    ("malformed", |c| c.malformed),
    ("rx_dropped", |c| c.rx_dropped),
    ("rx_ring_full", |c| c.rx_ring_full),
    ("rx_fill_ring_empty", |c| c.rx_fill_ring_empty),
    ("invalid_descriptor", |c| c.rx_invalid + c.tx_invalid),
];

/// What a server of many clients counts beside that; without a metric elsewhere.
const CROWD_COUNTERS: [(&str, &str, Get<Crowd>); 2] = [
    ("clients_refused", "SYNs that a server of many clients refused", |crowd| crowd.refused),
    (
        "packets_excess",
        "Datagrams that a server of many clients dropped unanswered, as they were beyond their sender's share",
        |crowd| crowd.excess,
    ),
];

/// One label.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
struct Label(&'static str, &'static str);

impl EncodeLabelSet for Label {
    fn encode(&self, encoder: &mut LabelSetEncoder<'_>) -> std::fmt::Result {
        [(self.0, self.1)].encode(encoder)
    }
}

/// Without a label.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
struct Bare;

impl EncodeLabelSet for Bare {
    fn encode(&self, _: &mut LabelSetEncoder<'_>) -> std::fmt::Result {
        Ok(())
    }
}

#[derive(Debug, Clone, Copy)]
struct Buckets;

impl MetricConstructor<Histogram> for Buckets {
    fn new_metric(&self) -> Histogram {
        let native = NativeHistogramConfig::new(NATIVE_FACTOR).max_buckets(MAX_NATIVE_BUCKETS);
        Histogram::new_classic_and_native(BUCKETS, native)
    }
}

/// Histograms with a label, each there once it has a sample.
type Histograms<L> = Family<L, Histogram, Buckets>;

/// What is known only when a session ends says so.
const UP_TO_THE_END: &str = "up to the end of the last session";

/// Registers metrics and keeps a handle to each.
struct Registrar<'a>(&'a mut Registry);

impl Registrar<'_> {
    fn metric<M: Metric + Clone>(&mut self, name: &str, help: &str, metric: M) -> M {
        self.0.register(name, help, metric.clone());
        metric
    }
}

/// A stage's histogram and how far off its samples may be.
#[derive(Debug)]
struct OfStage {
    took: Histogram,
    uncertainty: Gauge<f64, AtomicU64>,
}

/// All metrics of this process.
#[derive(Debug)]
pub struct Metrics {
    registry: Registry,
    counters: [Counter; COUNTERS.len()],
    /// Without a metric until a session has ended: what is not known is not 0.
    path: [Family<Bare, Counter>; PATH_COUNTERS.len()],
    frames: Family<Label, Counter>,
    lost: Counter,
    unanswered: Gauge,
    active: Gauge,
    standing: Gauge,
    begun: Counter,
    crowd: [Family<Bare, Counter>; CROWD_COUNTERS.len()],
    ended: Family<Label, Counter>,
    t3_t0: Histograms<Bare>,
    rtt: Histograms<Bare>,
    stage_times: Histograms<Label>,
    stage_uncertainty: Family<Label, Gauge<f64, AtomicU64>>,
    stages: [OnceLock<OfStage>; Stage::ALL.len()],
}

impl Metrics {
    /// Metrics before the first session.
    pub fn new(build: BuildInfo) -> Self {
        let mut registry = Registry::with_prefix("xdprobe");
        let BuildInfo { role, path, sources: [sent, received] } = build;
        let role = match role {
            Role::Client => "client",
            Role::Server => "server",
        };
        let labels = vec![
            ("version", env!("CARGO_PKG_VERSION")),
            ("role", role),
            ("path", path),
            ("tx_source", sent),
            ("rx_source", received),
        ];
        registry.register("build", "What serves these metrics", Info::new(labels));
        let mut add = Registrar(&mut registry);
        Self {
            counters: COUNTERS.map(|(name, help, _)| add.metric(name, help, Counter::default())),
            path: PATH_COUNTERS
                .map(|(name, help, _)| add.metric(name, &format!("{help}, {UP_TO_THE_END}"), Family::default())),
            frames: add.metric(
                "xdp_frames",
                &format!("What became of frames on the xdp path, {UP_TO_THE_END}"),
                Family::default(),
            ),
            lost: add.metric("pings_lost", "Pings without an answer in sessions that are over", Counter::default()),
            unanswered: add.metric(
                "pings_unanswered",
                "Pings of the session that stands without an answer, though a later one has its, or 1 s old",
                Gauge::default(),
            ),
            active: add.metric("session_active", "Whether a session stands", Gauge::default()),
            standing: add.metric("sessions_active", "How many sessions stand", Gauge::default()),
            begun: add.metric("sessions_begun", "Sessions begun", Counter::default()),
            crowd: CROWD_COUNTERS.map(|(name, help, _)| add.metric(name, help, Family::default())),
            ended: add.metric("sessions_ended", "Sessions that are over, by how they ended", Family::default()),
            t3_t0: add.metric(
                "t3_t0_seconds",
                "From a ping's leaving until its pong's arrival",
                Family::new_with_constructor(Buckets),
            ),
            rtt: add.metric(
                "rtt_seconds",
                "From a ping's leaving until its pong's arrival, without the time that the other side took",
                Family::new_with_constructor(Buckets),
            ),
            stage_times: add.metric(
                "stage_seconds",
                "From stamp to stamp of one packet on this machine; negative where clocks or stamps are that far off. With stamps of \
                 the application hook_to_app is of a sample of the frames, unless each is logged with its stages",
                Family::new_with_constructor(Buckets),
            ),
            stage_uncertainty: add.metric(
                "stage_uncertainty_seconds",
                "How far off the stages may be, for the card's clock was brought to the system's",
                Family::default(),
            ),
            stages: std::array::from_fn(|_| OnceLock::new()),
            registry,
        }
    }

    /// The metrics as messages of Prometheus's protocol.
    ///
    /// # Errors
    /// None that is known of: the crate's encoders have errors for what is not used here.
    pub fn families(&self) -> Result<Vec<model::MetricFamily>, std::fmt::Error> {
        prometheus_protobuf::encode(&self.registry)
    }

    /// A sample has come. A negative one is counted, and in no histogram.
    pub fn observe(&self, sample: Sample) {
        for (histograms, nanos) in [(&self.t3_t0, sample.t3_t0_ns), (&self.rtt, sample.rtt_ns)] {
            if let Some(nanos) = nanos.filter(|nanos| *nanos >= 0) {
                histograms.get_or_create(&Bare).observe(seconds(nanos));
            }
        }
    }

    /// Adds what a session counted between two moments.
    pub fn count(&self, earlier: &Snapshot, later: &Snapshot) {
        for (counter, (_, _, get)) in self.counters.iter().zip(COUNTERS) {
            counter.inc_by(get(later).saturating_sub(get(earlier)));
        }
        if let Some(crowd) = &later.crowd {
            self.count_crowd(&earlier.crowd.unwrap_or_default(), crowd);
        }
    }

    /// The same of what many sessions have come to.
    fn count_crowd(&self, earlier: &Crowd, later: &Crowd) {
        self.begun.inc_by(later.begun.saturating_sub(earlier.begun));
        self.active.set(i64::from(later.standing > 0));
        self.standing.set(i64::try_from(later.standing).unwrap_or(i64::MAX));
        for ((name, before), after) in ENDS.iter().copied().zip(earlier.ended).zip(later.ended) {
            if after > before {
                self.ended.get_or_create(&Label("end", name)).inc_by(after - before);
            }
        }
        for (family, (_, _, get)) in self.crowd.iter().zip(CROWD_COUNTERS) {
            family.get_or_create(&Bare).inc_by(get(later).saturating_sub(get(earlier)));
        }
    }

    /// A session stands.
    pub fn session_begins(&self) {
        self.begun.inc();
        self.active.set(1);
        self.standing.set(1);
        self.unanswered.set(0);
    }

    /// How many pings of the session that stands seem to be lost.
    pub fn set_unanswered(&self, pings: u64) {
        self.unanswered.set(i64::try_from(pings).unwrap_or(i64::MAX));
    }

    /// A session is over, of which all is counted; `counters` are what the path counted during it.
    pub fn session_ends(&self, last: &Snapshot, lost: u64, end: End, counters: &Counters) {
        if last.totals.measures_loss {
            self.lost.inc_by(lost);
        }
        self.active.set(0);
        self.standing.set(0);
        self.unanswered.set(0);
        self.ended.get_or_create(&Label("end", end_name(end))).inc();
        for (family, (_, _, get)) in self.path.iter().zip(PATH_COUNTERS) {
            family.get_or_create(&Bare).inc_by(get(counters));
        }
        if let Some(xdp) = &counters.xdp {
            for (what, get) in XDP_FRAMES {
                self.frames.get_or_create(&Label("outcome", what)).inc_by(get(xdp));
            }
        }
    }
}

impl StageSink for Metrics {
    fn took(&self, stage: Stage, nanos: i64, uncertainty_ns: Option<u64>) {
        let of_stage = self.stages[stage as usize].get_or_init(|| {
            let label = Label("stage", stage.key().trim_end_matches("_ns"));
            OfStage {
                took: self.stage_times.get_or_create_owned(&label),
                uncertainty: match uncertainty_ns {
                    Some(_) => self.stage_uncertainty.get_or_create_owned(&label),
                    None => Gauge::default(),
                },
            }
        });
        of_stage.took.observe(seconds(nanos));
        if let Some(uncertainty) = uncertainty_ns.map(|nanos| nanos as f64 / 1e9)
            && uncertainty > of_stage.uncertainty.get()
        {
            of_stage.uncertainty.set(uncertainty);
        }
    }
}

/// The messages, each behind its length.
pub(super) fn to_protobuf(families: &[model::MetricFamily]) -> Vec<u8> {
    families.iter().flat_map(Message::encode_length_delimited_to_vec).collect()
}

fn seconds(nanos: i64) -> f64 {
    nanos as f64 / 1e9
}

#[cfg(test)]
mod tests {
    use super::*;

    fn metrics() -> Metrics {
        Metrics::new(BuildInfo { role: Role::Server, path: "xdp", sources: ["hardware", "software"] })
    }

    fn histogram(metrics: &Metrics, name: &str) -> Option<model::Histogram> {
        let families = metrics.families().unwrap();
        families.into_iter().find(|family| family.name == name)?.metric[0].histogram.clone()
    }

    #[test]
    fn a_round_trip_is_in_seconds_in_both_kinds_of_buckets() {
        let metrics = metrics();
        assert!(histogram(&metrics, "xdprobe_t3_t0_seconds").is_none(), "what is not known is not 0");
        for nanos in [1000, 1001, 2_500_000, 60_000_000_000, -5] {
            metrics.observe(Sample { t3_t0_ns: Some(nanos), rtt_ns: None });
        }
        let found = histogram(&metrics, "xdprobe_t3_t0_seconds").unwrap();
        assert_eq!(found.sample_count, 4);
        assert!((found.sample_sum - 60.002_502_001).abs() < 1e-9, "{}", found.sample_sum);
        let below =
            |bound: f64| found.bucket.iter().find(|bucket| bucket.upper_bound == bound).unwrap().cumulative_count;
        assert_eq!([1e-6, 2e-6, 2e-3, 5e-3, 10.0, f64::INFINITY].map(below), [1, 2, 2, 3, 3, 4]);
        assert!(found.schema >= 3 && !found.positive_delta.is_empty());
        assert!(histogram(&metrics, "xdprobe_rtt_seconds").is_none());
    }

    #[test]
    fn a_stage_keeps_its_sign_and_the_largest_uncertainty() {
        let metrics = metrics();
        metrics.took(Stage::SwToHw, -2000, Some(300));
        metrics.took(Stage::SwToHw, 1000, Some(500));
        metrics.took(Stage::SwToHw, 1000, Some(400));
        metrics.took(Stage::HookToApp, 900, None);
        let families = metrics.families().unwrap();
        let family = |name: &str| families.iter().find(|family| family.name == name).unwrap().metric.clone();
        let stages = family("xdprobe_stage_seconds");
        let stage =
            |name: &str| stages.iter().find(|metric| metric.label[0].value == name).unwrap().histogram.clone().unwrap();
        let found = stage("sw_to_hw");
        assert_eq!((found.sample_count, found.bucket[0].cumulative_count), (3, 3));
        assert_eq!((&found.negative_delta[..], &found.positive_delta[..]), (&[1][..], &[2][..]));
        assert_eq!((stages.len(), stage("hook_to_app").sample_count), (2, 1));
        let uncertainty = family("xdprobe_stage_uncertainty_seconds");
        assert_eq!((uncertainty.len(), uncertainty[0].gauge.unwrap().value), (1, 500e-9));
    }

    #[test]
    fn stamps_for_the_other_side_and_what_the_socket_dropped_are_counted() {
        let metrics = metrics();
        let mut last = Snapshot::default();
        (last.stamps.told, last.stamps.untold) = (5, 2);
        metrics.count(&Snapshot::default(), &last);
        let dropped = Counters { socket_dropped: 3, ..Counters::default() };
        metrics.session_ends(&last, 0, End::Complete, &dropped);
        let families = metrics.families().unwrap();
        let found = ["stamps_told", "stamps_untold", "path_socket_dropped", "path_strange_stamps"].map(|name| {
            let name = format!("xdprobe_{name}_total");
            let family = families.iter().find(|family| family.name == name).unwrap_or_else(|| panic!("{name}"));
            family.metric[0].counter.as_ref().map(|counter| counter.value)
        });
        assert_eq!(found, [Some(5.0), Some(2.0), Some(3.0), Some(0.0)]);
    }

    #[test]
    fn names_are_as_prometheus_wants_them() {
        let metrics = metrics();
        metrics.session_ends(&Snapshot::default(), 0, End::Complete, &Counters::default());
        for family in metrics.families().unwrap() {
            let model::MetricFamily { name, help, .. } = &family;
            assert!(name.starts_with("xdprobe_") && !help.is_empty(), "{name}");
            let is_counter = family.r#type() == model::MetricType::Counter;
            assert_eq!(name.ends_with("_total"), is_counter, "{name}");
            assert!(
                name.bytes().all(|byte| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'_'),
                "{name}"
            );
        }
    }
}
