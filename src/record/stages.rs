//! How long a packet took from stamp to stamp on one machine: from the card to the hook, from the hook to the process …
//!
//! Reckoned in the thread that writes, of every sighting with more than one stamp, whether or not there is a log. A
//! difference may be negative: a card's clock is known to the system only within an uncertainty, and a kernel's transmit
//! stamp may be taken after the card's. Negative ones are samples like the others.

use super::sighting::Sighting;
use super::summary::{micros, signed_micros};
use crate::clock::{Phc, Realtime, Time};
use hdrhistogram::Histogram;
use serde::Serialize;
use std::sync::Arc;

/// Significant decimal digits of a quantile.
const DIGITS: u8 = 3;

/// Brings the stamps of a card's clock to the system's. Asked in the thread that writes, never in the hot loop.
pub trait CardClock: Send + Sync {
    /// The time of `CLOCK_REALTIME` at which the card's clock showed `stamp`, and how far off that may be, in ns; `None`
    /// where the relation of the two clocks at that time is not known.
    fn to_system(&self, stamp: Time<Phc>) -> Option<(Time<Realtime>, u64)>;

    /// The clock's name, such as `ptp0`. Without commas or line feeds: it stands in a CSV file.
    fn name(&self) -> String;
}

/// Whoever wants to know of each stage of each packet. Told in the thread that writes, never in the hot loop.
pub trait StageSink: Send + Sync {
    /// A stage took so many ns; `uncertainty_ns` is how far off that may be, `None` where both stamps are of one clock.
    fn took(&self, stage: Stage, nanos: i64, uncertainty_ns: Option<u64>);
}

/// The way from one stamp to the next.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Stage {
    /// Receiving on AF_XDP: from the network card to the XDP hook.
    HwToHook,
    /// Receiving on AF_XDP: from the XDP hook to this process.
    HookToApp,
    /// Receiving through a kernel socket: from the network card to the kernel's stack.
    HwToKernel,
    /// Receiving through a kernel socket: from the kernel's stack to this process.
    KernelToApp,
    /// Receiving: from the network card to this process.
    HwToApp,
    /// Sending: from this process to the kernel's driver.
    AppToSw,
    /// Sending: from the kernel's driver to the network card.
    SwToHw,
    /// Sending: from this process to the network card.
    AppToHw,
}

impl Stage {
    /// All of them, in the order in which they are listed.
    pub const ALL: [Self; 8] = [
        Self::HwToHook,
        Self::HookToApp,
        Self::HwToKernel,
        Self::KernelToApp,
        Self::HwToApp,
        Self::AppToSw,
        Self::SwToHw,
        Self::AppToHw,
    ];

    /// The name in text: `hw->hook`.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::HwToHook => "hw->hook",
            Self::HookToApp => "hook->app",
            Self::HwToKernel => "hw->kernel",
            Self::KernelToApp => "kernel->app",
            Self::HwToApp => "hw->app",
            Self::AppToSw => "app->sw",
            Self::SwToHw => "sw->hw",
            Self::AppToHw => "app->hw",
        }
    }

    /// The name in JSON: `hw_to_hook_ns`.
    pub const fn key(self) -> &'static str {
        match self {
            Self::HwToHook => "hw_to_hook_ns",
            Self::HookToApp => "hook_to_app_ns",
            Self::HwToKernel => "hw_to_kernel_ns",
            Self::KernelToApp => "kernel_to_app_ns",
            Self::HwToApp => "hw_to_app_ns",
            Self::AppToSw => "app_to_sw_ns",
            Self::SwToHw => "sw_to_hw_ns",
            Self::AppToHw => "app_to_hw_ns",
        }
    }
}

/// What a stage took, in ns. Minimum and maximum are exact, quantiles good to 3 digits. All of them may be negative.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
pub struct StageTimes {
    /// How many packets had both stamps.
    pub count: u64,
    /// The shortest.
    pub min: i64,
    /// Half of them took no longer.
    pub p50: i64,
    /// 99 % of them took no longer.
    pub p99: i64,
    /// The longest.
    pub max: i64,
    /// How far off any of them may be, in ns, for the card's clock had to be brought to the system's; `None` where both
    /// stamps are of the system's clock.
    pub uncertainty_ns: Option<u64>,
    /// Only one frame in so many had both stamps, on average, drawn by chance; `None`, and not in JSON, where each was to have
    /// them.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub one_in: Option<u32>,
}

/// What the stages of one session took.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Stages {
    /// The stages of which there are samples, in the order of [`Stage`].
    pub times: Vec<(Stage, StageTimes)>,
    /// Card stamps that could not be brought to the system's clock: they are in no stage.
    pub unconverted: u64,
}

impl Stages {
    /// Has the stages that begin or end at the XDP hook say that it stamped one frame in so many; `None`: it stamped each.
    pub fn sampled_at_the_hook(mut self, one_in: Option<u32>) -> Self {
        for (stage, times) in &mut self.times {
            if matches!(stage, Stage::HwToHook | Stage::HookToApp) {
                times.one_in = one_in;
            }
        }
        self
    }

    /// Names and values of the lines of the statistics.
    pub(super) fn lines(&self) -> impl Iterator<Item = (&'static str, String)> {
        let unconverted = (self.unconverted > 0).then(|| {
            let words = format!("{} card stamps left out: the card's clock was not known then", self.unconverted);
            ("stages", words)
        });
        self.times.iter().map(|(stage, times)| (stage.as_str(), words(times))).chain(unconverted)
    }
}

/// An object with a key for each stage.
impl Serialize for Stages {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_map(self.times.iter().map(|(stage, times)| (stage.key(), times)))
    }
}

fn words(times: &StageTimes) -> String {
    let [min, p50, p99, max] = [times.min, times.p50, times.p99, times.max].map(signed_micros);
    // Worth a look: the clocks, or the order of the stamps, are not what they seem.
    let min = if times.min < 0 { format!("min {min}  ") } else { String::new() };
    let doubt = times.uncertainty_ns.map(|nanos| format!(" (± {} us)", micros(nanos))).unwrap_or_default();
    let sample = times.one_in.map(|one_in| format!(", of one frame in {one_in}")).unwrap_or_default();
    format!("{min}p50 {p50}  p99 {p99}  max {max} us, {} samples{sample}{doubt}", times.count)
}

/// Differences of either sign.
///
/// A histogram takes no negative values, and an offset would cost the small values their digits. So there are two: one of
/// the values from 0 on, one of the magnitudes of those below 0. The smallest value is the largest magnitude: a rank
/// within the negative ones is counted from that histogram's far end.
#[derive(Debug)]
struct Spread {
    below: Histogram<u64>,
    from_zero: Histogram<u64>,
    min: i64,
    max: i64,
    uncertainty: Option<u64>,
}

impl Spread {
    fn new() -> Self {
        // They grow with their values, as nobody waits for this thread: 200 KiB for values up to a minute.
        let histogram = || Histogram::new(DIGITS).expect("the number of digits is a constant in hdrhistogram's range");
        Self { below: histogram(), from_zero: histogram(), min: i64::MAX, max: i64::MIN, uncertainty: None }
    }

    fn clear(&mut self) {
        self.below.reset();
        self.from_zero.reset();
        (self.min, self.max, self.uncertainty) = (i64::MAX, i64::MIN, None);
    }

    fn add(&mut self, nanos: i64, uncertainty: Option<u64>) {
        let histogram = if nanos < 0 { &mut self.below } else { &mut self.from_zero };
        histogram.record(nanos.unsigned_abs()).expect("a histogram that grows takes every magnitude of an i64");
        self.min = self.min.min(nanos);
        self.max = self.max.max(nanos);
        self.uncertainty = self.uncertainty.max(uncertainty);
    }

    fn times(&self) -> Option<StageTimes> {
        let count = self.below.len() + self.from_zero.len();
        let percentile = |percent: u64| self.at_rank((count * percent).div_ceil(100).max(1));
        (count > 0).then(|| StageTimes {
            count,
            min: self.min,
            p50: percentile(50),
            p99: percentile(99),
            max: self.max,
            uncertainty_ns: self.uncertainty,
            one_in: None,
        })
    }

    /// The upper end of the bucket that the value of this rank is in; rank 1 is the smallest.
    fn at_rank(&self, rank: u64) -> i64 {
        let negative = self.below.len();
        let value = if rank <= negative {
            // The magnitude nearest to 0 is the upper end of a negative bucket.
            let magnitude = magnitude_at(&self.below, negative - rank + 1);
            0_i64.saturating_sub_unsigned(self.below.lowest_equivalent(magnitude))
        } else {
            let magnitude = magnitude_at(&self.from_zero, rank - negative);
            i64::try_from(self.from_zero.highest_equivalent(magnitude)).unwrap_or(i64::MAX)
        };
        // The end of a bucket may lie beyond what is in it.
        value.clamp(self.min, self.max)
    }
}

/// A value of the bucket of the value of this rank; rank 1 is the smallest.
fn magnitude_at(histogram: &Histogram<u64>, rank: u64) -> u64 {
    let mut below = 0;
    for bucket in histogram.iter_recorded() {
        below += bucket.count_at_value();
        if below >= rank {
            return bucket.value_iterated_to();
        }
    }
    histogram.max()
}

/// The stages of the session that stands.
pub(super) struct StageStatistics {
    spreads: [Spread; Stage::ALL.len()],
    unconverted: u64,
    card: Option<Arc<dyn CardClock>>,
    sink: Option<Arc<dyn StageSink>>,
}

impl StageStatistics {
    pub(super) fn new(card: Option<Arc<dyn CardClock>>, sink: Option<Arc<dyn StageSink>>) -> Self {
        Self { spreads: std::array::from_fn(|_| Spread::new()), unconverted: 0, card, sink }
    }

    pub(super) fn clear(&mut self) {
        self.spreads.iter_mut().for_each(Spread::clear);
        self.unconverted = 0;
    }

    pub(super) fn add(&mut self, sighting: &Sighting) {
        if !sighting.has_stages() {
            return;
        }
        let Sighting { application, software, hardware, .. } = *sighting;
        let card = hardware.and_then(|stamp| self.card.as_ref()?.to_system(stamp));
        self.unconverted += u64::from(hardware.is_some() && card.is_none());
        if sighting.point.is_sending() {
            if let Some(software) = software {
                self.took(Stage::AppToSw, software.nanos_since(application), None);
            }
            if let Some((hardware, uncertainty)) = card {
                self.took(Stage::AppToHw, hardware.nanos_since(application), Some(uncertainty));
                if let Some(software) = software {
                    self.took(Stage::SwToHw, hardware.nanos_since(software), Some(uncertainty));
                }
            }
            return;
        }
        // Told packet by packet: beside an AF_XDP socket some may come through the kernel's.
        let (to_software, from_software) = match sighting.queue {
            Some(_) => (Stage::HwToHook, Stage::HookToApp),
            None => (Stage::HwToKernel, Stage::KernelToApp),
        };
        if let Some(software) = software {
            self.took(from_software, application.nanos_since(software), None);
        }
        if let Some((hardware, uncertainty)) = card {
            self.took(Stage::HwToApp, application.nanos_since(hardware), Some(uncertainty));
            if let Some(software) = software {
                self.took(to_software, software.nanos_since(hardware), Some(uncertainty));
            }
        }
    }

    fn took(&mut self, stage: Stage, nanos: i64, uncertainty: Option<u64>) {
        self.spreads[stage as usize].add(nanos, uncertainty);
        if let Some(sink) = &self.sink {
            sink.took(stage, nanos, uncertainty);
        }
    }

    pub(super) fn stages(&self) -> Stages {
        let times = Stage::ALL.iter().filter_map(|stage| Some((*stage, self.spreads[*stage as usize].times()?)));
        Stages { times: times.collect(), unconverted: self.unconverted }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::wire::Point;
    use proptest::prelude::*;

    /// A card's clock that is this much ahead of the system's, and knows nothing before 1000.
    struct Ahead(u64);

    impl CardClock for Ahead {
        fn to_system(&self, stamp: Time<Phc>) -> Option<(Time<Realtime>, u64)> {
            let nanos = stamp.as_nanos().checked_sub(self.0)?;
            // The further away, the less is known.
            (nanos >= 1000).then(|| (Time::from_nanos(nanos), nanos / 1000))
        }

        fn name(&self) -> String {
            "ptp9".into()
        }
    }

    fn seen(point: Point, queue: Option<u32>, app: u64, sw: Option<u64>, hw: Option<u64>) -> Sighting {
        Sighting {
            sequence: 1,
            point,
            size: 44,
            queue,
            application: Time::from_nanos(app),
            software: sw.map(Time::from_nanos),
            hardware: hw.map(Time::from_nanos),
        }
    }

    fn one(value: i64, uncertainty_ns: Option<u64>) -> StageTimes {
        StageTimes { count: 1, min: value, p50: value, p99: value, max: value, uncertainty_ns, one_in: None }
    }

    fn stages_of(card: Option<u64>, sightings: &[Sighting]) -> Stages {
        let clock = card.map(|ahead| Arc::new(Ahead(ahead)) as Arc<dyn CardClock>);
        let mut statistics = StageStatistics::new(clock, None);
        sightings.iter().for_each(|sighting| statistics.add(sighting));
        statistics.stages()
    }

    #[test]
    fn every_list_of_stages_is_in_one_order() {
        for (index, stage) in Stage::ALL.into_iter().enumerate() {
            assert_eq!(stage as usize, index);
            assert_eq!(format!("{}_ns", stage.as_str().replace("->", "_to_")), stage.key());
        }
    }

    #[test]
    fn a_packet_that_arrives_is_split_at_the_hook_or_at_the_kernel() {
        let hook = seen(Point::T1, Some(0), 9000, Some(7000), Some(5_006_500));
        let expected = vec![
            (Stage::HwToHook, one(500, Some(6))),
            (Stage::HookToApp, one(2000, None)),
            (Stage::HwToApp, one(2500, Some(6))),
        ];
        assert_eq!(stages_of(Some(5_000_000), &[hook]), Stages { times: expected, unconverted: 0 });
        let kernel = Sighting { queue: None, ..hook };
        let names: Vec<_> = stages_of(Some(5_000_000), &[kernel]).times.iter().map(|(stage, _)| *stage).collect();
        assert_eq!(names, [Stage::HwToKernel, Stage::KernelToApp, Stage::HwToApp]);
    }

    #[test]
    fn a_packet_that_leaves_may_have_its_card_stamp_before_the_kernels() {
        let sent = seen(Point::T0, None, 5000, Some(9000), Some(8000));
        let expected = vec![
            (Stage::AppToSw, one(4000, None)),
            (Stage::SwToHw, one(-1000, Some(8))),
            (Stage::AppToHw, one(3000, Some(8))),
        ];
        assert_eq!(stages_of(Some(0), &[sent]).times, expected);
    }

    #[test]
    fn only_stamps_that_are_there_make_a_stage() {
        let bare = [seen(Point::T0, Some(1), 1, None, None), seen(Point::T3, Some(1), 1, None, None)];
        assert_eq!(stages_of(Some(0), &bare), Stages::default());
        let software = stages_of(Some(0), &[seen(Point::T3, Some(1), 5, Some(3), None)]);
        assert_eq!(software.times, [(Stage::HookToApp, one(2, None))]);
        // Before the clock's relation is known, and without a clock at all.
        let early = seen(Point::T3, None, 5000, Some(3000), Some(999));
        for card in [Some(0), None] {
            let stages = stages_of(card, &[early]);
            assert_eq!((&stages.times[..], stages.unconverted), (&[(Stage::KernelToApp, one(2000, None))][..], 1));
        }
    }

    #[test]
    fn the_largest_uncertainty_stands_beside_a_stage() {
        let at = |nanos| seen(Point::T3, None, nanos, None, Some(nanos));
        let stages = stages_of(Some(0), &[at(5000), at(90_000), at(7000)]);
        assert_eq!(stages.times[0].1.uncertainty_ns, Some(90));
    }

    #[test]
    fn a_cleared_statistic_knows_nothing() {
        let mut statistics = StageStatistics::new(None, None);
        statistics.add(&seen(Point::T3, None, 1, Some(5), Some(1)));
        assert_eq!(statistics.stages().times, [(Stage::KernelToApp, one(-4, None))]);
        statistics.clear();
        assert_eq!(statistics.stages(), Stages::default());
        statistics.add(&seen(Point::T3, None, 9, Some(2), None));
        assert_eq!(statistics.stages().times, [(Stage::KernelToApp, one(7, None))]);
    }

    #[test]
    fn the_ends_of_the_range_are_exact() {
        let mut spread = Spread::new();
        [i64::MIN, i64::MAX].into_iter().for_each(|nanos| spread.add(nanos, None));
        let times = spread.times().unwrap();
        assert_eq!((times.min, times.max), (i64::MIN, i64::MAX));
        assert!(times.p50 < i64::MIN / 1000 * 999, "{times:?}");
    }

    #[test]
    fn a_stage_is_one_line() {
        let (uncertainty_ns, one_in) = (None, None);
        let times = StageTimes { count: 1000, min: 900, p50: 1234, p99: 3210, max: 80_100, uncertainty_ns, one_in };
        assert_eq!(words(&times), "p50 1.234  p99 3.210  max 80.100 us, 1000 samples");
        let times = StageTimes { min: -1005, p50: -4, uncertainty_ns: Some(50), ..times };
        let expected = "min -1.005  p50 -0.004  p99 3.210  max 80.100 us, 1000 samples (± 0.050 us)";
        assert_eq!(words(&times), expected);
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(128))]
        #[test]
        fn ranks_are_those_of_the_sorted_values(
            mut values in prop::collection::vec(prop_oneof![-50..50_i64, -3_000_000..3_000_000_i64, any::<i64>()], 1..300),
        ) {
            let mut spread = Spread::new();
            values.iter().for_each(|nanos| spread.add(*nanos, None));
            values.sort_unstable();
            let times = spread.times().unwrap();
            let at = |percent: usize| values[(values.len() * percent).div_ceil(100).max(1) - 1];
            prop_assert_eq!(times.count, values.len() as u64);
            prop_assert_eq!((times.min, times.max), (values[0], values[values.len() - 1]));
            for (got, exact) in [(times.p50, at(50)), (times.p99, at(99))] {
                let off = got.abs_diff(exact);
                prop_assert!(off <= exact.unsigned_abs() / 1000, "{got} for {exact}");
            }
        }
    }
}
