//! Which pong answers which ping, and how long it took: t3 − t0 of every first answer.
//!
//! Nothing is allocated after the start, and no clock is read: both stamps come from the caller.

use crate::clock::{Realtime, Time};
use hdrhistogram::Histogram;

/// How many pings are remembered: 131 ms of them at a million a second. A power of two.
const WINDOW: usize = 1 << 17;
/// Marks an entry without a ping. It is the sequence of a dummy, which no ping has.
const VACANT: u64 = u64::MAX;
/// What the histogram tells apart: 1 ns to 60 s. Longer is recorded as 60 s; minimum, mean and maximum stay exact.
const HIGHEST_NANOS: u64 = 60_000_000_000;
/// Significant decimal digits of a quantile.
const DIGITS: u8 = 3;

/// What a pong is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Answer {
    /// The first one to its ping: t3 − t0 in ns, negative where the clock was stepped back in between.
    First(i64),
    /// A further one to a ping that is answered already.
    Duplicate,
    /// To no ping that was sent, or to one so long ago that 131,072 others followed it.
    Unknown,
}

/// The pings under way, and the round-trip times of those answered.
#[derive(Debug)]
pub struct RoundTrips {
    /// Sequence and t0 in ns of the newest ping with each `sequence mod WINDOW`.
    pings: Vec<(u64, u64)>,
    /// One bit for each entry of `pings`: it is answered.
    answered: Vec<u64>,
    histogram: Histogram<u64>,
    sum: u128,
    min: u64,
    max: u64,
    unique: u64,
    negative: u64,
    duplicates: u64,
    unknown: u64,
}

/// Round-trip times, t3 − t0, in ns. Minimum, mean and maximum are exact, quantiles good to 3 digits.
#[derive(Debug, Clone, Copy, PartialEq, Eq, serde::Serialize)]
pub struct Latency {
    /// How many pings were answered, without those whose difference is negative.
    pub count: u64,
    /// The shortest.
    pub min: u64,
    /// The mean, rounded to the nearest.
    pub mean: u64,
    /// Half of them took no longer.
    pub p50: u64,
    /// 90 % of them took no longer.
    pub p90: u64,
    /// 99 % of them took no longer.
    pub p99: u64,
    /// 99.9 % of them took no longer.
    pub p999: u64,
    /// The longest.
    pub max: u64,
}

impl Default for RoundTrips {
    fn default() -> Self {
        Self::new()
    }
}

impl RoundTrips {
    /// Allocates the window (2 MiB) and the histogram, and touches both so that the hot loop meets no page fault.
    pub fn new() -> Self {
        let mut histogram = Histogram::new_with_bounds(1, HIGHEST_NANOS, DIGITS)
            .expect("the bounds are constants in hdrhistogram's range");
        histogram.reset();
        Self {
            pings: vec![(VACANT, 0); WINDOW],
            answered: vec![0; WINDOW / 64],
            histogram,
            sum: 0,
            min: u64::MAX,
            max: 0,
            unique: 0,
            negative: 0,
            duplicates: 0,
            unknown: 0,
        }
    }

    /// Forgets everything, for the next session. Allocates nothing.
    pub fn clear(&mut self) {
        self.pings.fill((VACANT, 0));
        self.answered.fill(0);
        self.histogram.reset();
        (self.sum, self.min, self.max) = (0, u64::MAX, 0);
        (self.unique, self.negative, self.duplicates, self.unknown) = (0, 0, 0, 0);
    }

    /// A ping was sent at t0.
    pub fn sent(&mut self, sequence: u64, t0: Time<Realtime>) {
        let slot = slot(sequence);
        self.pings[slot] = (sequence, t0.as_nanos());
        self.answered[slot / 64] &= !(1 << (slot % 64));
    }

    /// A pong was received at t3.
    pub fn answered(&mut self, sequence: u64, t3: Time<Realtime>) -> Answer {
        let slot = slot(sequence);
        let (pinged, t0) = self.pings[slot];
        if pinged != sequence || sequence == VACANT {
            self.unknown += 1;
            return Answer::Unknown;
        }
        let (word, bit) = (&mut self.answered[slot / 64], 1 << (slot % 64));
        if *word & bit != 0 {
            self.duplicates += 1;
            return Answer::Duplicate;
        }
        *word |= bit;
        self.unique += 1;
        let difference = t3.nanos_since(Time::from_nanos(t0));
        match u64::try_from(difference) {
            Ok(nanos) => {
                self.histogram.saturating_record(nanos);
                self.sum += u128::from(nanos);
                self.min = self.min.min(nanos);
                self.max = self.max.max(nanos);
            }
            Err(_) => self.negative += 1,
        }
        Answer::First(difference)
    }

    /// Pings that were answered, each counted once.
    pub fn unique(&self) -> u64 {
        self.unique
    }

    /// Of those, the ones answered before they were sent as the clock has it: it was stepped back.
    pub fn negative(&self) -> u64 {
        self.negative
    }

    /// Pongs to pings that were answered already.
    pub fn duplicates(&self) -> u64 {
        self.duplicates
    }

    /// Pongs to no ping of the window.
    pub fn unknown(&self) -> u64 {
        self.unknown
    }

    /// The round-trip times so far; `None` where there are none.
    pub fn latency(&self) -> Option<Latency> {
        let count = self.unique - self.negative;
        if count == 0 {
            return None;
        }
        // A quantile is the upper end of a bucket, which may lie beyond the largest value in it.
        let quantile = |q| self.histogram.value_at_quantile(q).clamp(self.min, self.max);
        let mean = (self.sum + u128::from(count / 2)) / u128::from(count);
        Some(Latency {
            count,
            min: self.min,
            mean: mean as u64,
            p50: quantile(0.5),
            p90: quantile(0.9),
            p99: quantile(0.99),
            p999: quantile(0.999),
            max: self.max,
        })
    }
}

const fn slot(sequence: u64) -> usize {
    (sequence % WINDOW as u64) as usize
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::collections::HashMap;

    fn at(nanos: u64) -> Time<Realtime> {
        Time::from_nanos(nanos)
    }

    #[test]
    fn the_first_pong_counts_and_the_second_is_a_duplicate() {
        let mut trips = RoundTrips::new();
        trips.sent(1, at(1000));
        assert_eq!(trips.answered(1, at(6000)), Answer::First(5000));
        assert_eq!(trips.answered(1, at(7000)), Answer::Duplicate);
        assert_eq!(trips.answered(2, at(7000)), Answer::Unknown);
        assert_eq!((trips.unique(), trips.duplicates(), trips.unknown()), (1, 1, 1));
        assert_eq!(trips.latency().map(|l| (l.count, l.min, l.p50, l.max)), Some((1, 5000, 5000, 5000)));
    }

    #[test]
    fn nothing_is_answered_before_anything_was_sent() {
        let mut trips = RoundTrips::new();
        for sequence in [0, 1, WINDOW as u64, u64::MAX] {
            assert_eq!(trips.answered(sequence, at(1)), Answer::Unknown);
        }
        trips.sent(u64::MAX, at(1));
        assert_eq!(trips.answered(u64::MAX, at(2)), Answer::Unknown);
        assert_eq!((trips.unique(), trips.latency()), (0, None));
    }

    #[test]
    fn a_stepped_clock_gives_a_negative_difference_and_no_sample() {
        let mut trips = RoundTrips::new();
        trips.sent(1, at(1000));
        assert_eq!(trips.answered(1, at(400)), Answer::First(-600));
        assert_eq!((trips.unique(), trips.negative(), trips.latency()), (1, 1, None));
    }

    #[test]
    fn a_pong_older_than_the_window_is_unknown() {
        let mut trips = RoundTrips::new();
        for sequence in 1..=WINDOW as u64 + 1 {
            trips.sent(sequence, at(sequence));
        }
        assert_eq!(trips.answered(1, at(1_000_000)), Answer::Unknown);
        assert_eq!(trips.answered(2, at(1_000_002)), Answer::First(1_000_000));
        assert_eq!(trips.answered(WINDOW as u64 + 1, at(1_000_000)), Answer::First(1_000_000 - WINDOW as i64 - 1));
    }

    #[test]
    fn more_than_a_minute_saturates_the_quantiles_and_keeps_the_rest_exact() {
        let mut trips = RoundTrips::new();
        trips.sent(1, at(0));
        trips.answered(1, at(90_000_000_000));
        trips.sent(2, at(0));
        trips.answered(2, at(0));
        let latency = trips.latency().unwrap();
        assert_eq!((latency.count, latency.min, latency.mean, latency.max), (2, 0, 45_000_000_000, 90_000_000_000));
        assert!((60_000_000_000..=60_100_000_000).contains(&latency.p999), "{latency:?}");
    }

    #[test]
    fn quantiles_are_good_to_three_digits() {
        let mut trips = RoundTrips::new();
        for sequence in 1..=100_000 {
            trips.sent(sequence, at(0));
            trips.answered(sequence, at(sequence * 100));
        }
        let latency = trips.latency().unwrap();
        assert_eq!((latency.count, latency.min, latency.mean, latency.max), (100_000, 100, 5_000_050, 10_000_000));
        for (got, exact) in [
            (latency.p50, 5_000_000),
            (latency.p90, 9_000_000),
            (latency.p99, 9_900_000),
            (latency.p999, 9_990_000_u64),
        ] {
            assert!(got.abs_diff(exact) * 1000 <= exact, "{got} for {exact}");
        }
    }

    #[test]
    fn clearing_forgets_everything() {
        let mut trips = RoundTrips::new();
        trips.sent(1, at(5));
        trips.sent(2, at(5));
        trips.answered(1, at(6));
        trips.answered(1, at(7));
        trips.clear();
        assert_eq!(trips.answered(2, at(8)), Answer::Unknown);
        assert_eq!((trips.unique(), trips.duplicates(), trips.unknown(), trips.latency()), (0, 0, 1, None));
    }

    /// What happens to a window: a ping is sent, or a pong comes.
    #[derive(Debug, Clone)]
    enum Step {
        Sent(u64, u64),
        Answered(u64, u64),
    }

    fn steps() -> impl Strategy<Value = Vec<Step>> {
        // Few slots, several laps: sequences collide, repeat and come back.
        let sequence = (0..8_u64, 0..3_u64).prop_map(|(slot, lap)| slot + lap * WINDOW as u64);
        let nanos = 0..2_000_000_u64;
        prop::collection::vec(
            (any::<bool>(), sequence, nanos).prop_map(|(sent, sequence, nanos)| match sent {
                true => Step::Sent(sequence, nanos),
                false => Step::Answered(sequence, nanos),
            }),
            0..200,
        )
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(64))]
        #[test]
        fn the_window_does_what_a_map_would(steps in steps()) {
            let mut trips = RoundTrips::new();
            // The newest ping of each slot: sequence, t0, whether it is answered.
            let mut model: HashMap<u64, (u64, u64, bool)> = HashMap::new();
            let mut samples = Vec::new();
            let mut unique = 0;
            for step in steps {
                match step {
                    Step::Sent(sequence, t0) => {
                        trips.sent(sequence, at(t0));
                        model.insert(sequence % WINDOW as u64, (sequence, t0, false));
                    }
                    Step::Answered(sequence, t3) => {
                        let expected = match model.get_mut(&(sequence % WINDOW as u64)) {
                            Some((pinged, t0, answered)) if *pinged == sequence => {
                                if *answered {
                                    Answer::Duplicate
                                } else {
                                    *answered = true;
                                    unique += 1;
                                    samples.extend(t3.checked_sub(*t0));
                                    Answer::First(t3 as i64 - *t0 as i64)
                                }
                            }
                            _ => Answer::Unknown,
                        };
                        prop_assert_eq!(trips.answered(sequence, at(t3)), expected);
                    }
                }
            }
            prop_assert_eq!(trips.unique(), unique);
            prop_assert_eq!(trips.negative(), unique - samples.len() as u64);
            samples.sort_unstable();
            match trips.latency() {
                None => prop_assert!(samples.is_empty()),
                Some(latency) => {
                    prop_assert_eq!(latency.count, samples.len() as u64);
                    prop_assert_eq!((latency.min, latency.max), (samples[0], samples[samples.len() - 1]));
                    let middle = samples[(samples.len() - 1) / 2];
                    prop_assert!(latency.p50.abs_diff(middle) <= middle / 1000 + 1, "{latency:?} {middle}");
                }
            }
        }
    }
}
