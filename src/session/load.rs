//! When the dummies of a flood are due.
//!
//! The plan is absolute: what is sent late makes nothing later. Of what could not be sent in time only so much is made up
//! for that no burst comes of it; the rest is left out and counted. A step hands out one batch at most, so that whoever
//! obeys can ping and receive in between.

use super::Totals;
use crate::clock::{Monotonic, Time};
use crate::wire::Load;

/// The most dummies of one step: as many as one wake-up of a copying driver sends.
pub const LOAD_BATCH: u32 = 32;
/// For so long a dummy may be late before it is left out; at low rates for as long as a batch takes to become due.
pub const CATCH_UP_NANOS: u64 = 1_000_000;
/// The most dummies that one step leaves out: after a long stall the rest is the next step's.
const LEFT_OUT_AT_ONCE: u32 = 4096;
const SECOND: u64 = 1_000_000_000;

/// How the dummies of a flood are spaced.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Pattern {
    /// Equally: constant bit rate.
    #[default]
    Cbr,
    /// As in a Poisson process: the gaps are independent and exponentially distributed. The same seed gives the same gaps.
    Poisson {
        /// Where the random numbers begin.
        seed: u64,
    },
}

/// Where a flood stands.
#[derive(Debug)]
pub(super) struct Flood {
    start: Time<Monotonic>,
    packets_per_second: u64,
    gaps: Gaps,
    /// When the next dummy is due.
    due: Time<Monotonic>,
    /// What was due longer ago is left out.
    catch_up_nanos: u64,
}

#[derive(Debug)]
enum Gaps {
    /// The number of the next dummy, from 0.
    Cbr { next: u64 },
    /// When the next dummy is due, in ns since the start: whole ones are exact for 104 days.
    Poisson { random: fastrand::Rng, next_nanos: f64 },
}

impl Flood {
    /// A flood that begins at `start`: its first dummy is due then, or the first random gap later. `None` where the rate
    /// is 0.
    pub(super) fn new(start: Time<Monotonic>, load: Load, pattern: Pattern) -> Option<Self> {
        let packets_per_second = load.packets_per_second;
        if packets_per_second == 0 {
            return None;
        }
        let gaps = match pattern {
            Pattern::Cbr => Gaps::Cbr { next: 0 },
            Pattern::Poisson { seed } => Gaps::Poisson { random: fastrand::Rng::with_seed(seed), next_nanos: 0.0 },
        };
        let batch_nanos = (u64::from(LOAD_BATCH) * SECOND).div_ceil(packets_per_second);
        let catch_up_nanos = CATCH_UP_NANOS.max(batch_nanos);
        let mut flood = Self { start, packets_per_second, gaps, due: start, catch_up_nanos };
        if matches!(pattern, Pattern::Poisson { .. }) {
            flood.advance();
        }
        Some(flood)
    }

    /// When [`Flood::step`] has something to do.
    pub(super) fn due(&self) -> Time<Monotonic> {
        self.due
    }

    /// How many dummies are to be sent at `now`; counts those that were due, and those left out.
    pub(super) fn step(&mut self, now: Time<Monotonic>, totals: &mut Totals) -> u32 {
        for _ in 0..LEFT_OUT_AT_ONCE {
            if self.due.plus_nanos(self.catch_up_nanos) >= now {
                let count = self.take_due(now, LOAD_BATCH.into()) as u32;
                totals.load_due += u64::from(count);
                return count;
            }
            self.advance();
            totals.load_due += 1;
            totals.load_late += 1;
        }
        0
    }

    /// The flood ends at `now`: what was due before and was not sent is left out.
    pub(super) fn finish(&mut self, now: Time<Monotonic>, totals: &mut Totals) {
        let late = match &mut self.gaps {
            // There may have been a long stall.
            Gaps::Cbr { next } if self.due < now => {
                let nanos = now.duration_since(self.start).as_nanos();
                let until = (nanos * u128::from(self.packets_per_second)).div_ceil(u128::from(SECOND)) as u64;
                until.saturating_sub(std::mem::replace(next, until))
            }
            Gaps::Cbr { .. } => 0,
            Gaps::Poisson { .. } => self.take_due(Time::from_nanos(now.as_nanos() - 1), u64::MAX),
        };
        totals.load_due += late;
        totals.load_late += late;
    }

    /// Passes by what is due, up to `most`; returns how many that were.
    fn take_due(&mut self, now: Time<Monotonic>, most: u64) -> u64 {
        let mut count = 0;
        while count < most && self.due <= now {
            self.advance();
            count += 1;
        }
        count
    }

    fn advance(&mut self) {
        let rate = self.packets_per_second;
        let nanos = match &mut self.gaps {
            Gaps::Cbr { next } => {
                *next += 1;
                (u128::from(*next) * u128::from(SECOND) / u128::from(rate)) as u64
            }
            Gaps::Poisson { random, next_nanos } => {
                // By inversion; the number is in [0, 1), and 0 has no logarithm.
                *next_nanos -= (1.0 - random.f64()).ln() * SECOND as f64 / rate as f64;
                *next_nanos as u64
            }
        };
        self.due = self.start.plus_nanos(nanos);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const BEGIN: Time<Monotonic> = Time::from_nanos(5_000_000_000);

    fn flood(packets_per_second: u64, pattern: Pattern) -> Flood {
        Flood::new(BEGIN, Load { packets_per_second, ip_len: 1400 }, pattern).unwrap()
    }

    /// Sends each dummy when it is due, until `seconds` are over; the moments in ns since the start.
    fn played(mut flood: Flood, seconds: u64) -> (Vec<u64>, Totals) {
        let (mut totals, mut moments) = (Totals::default(), Vec::new());
        let end = BEGIN.plus_nanos(seconds * SECOND);
        while flood.due() < end {
            let now = flood.due();
            let nanos = now.duration_since(BEGIN).as_nanos() as u64;
            let count = flood.step(now, &mut totals) as usize;
            moments.extend(std::iter::repeat_n(nanos, count));
        }
        (moments, totals)
    }

    #[test]
    fn a_constant_rate_is_exact_over_any_time() {
        // Rates whose gaps are no whole number of ns among them.
        for rate in [1, 3, 7_777, 81_274, 1_488_095] {
            let (moments, totals) = played(flood(rate, Pattern::Cbr), 3);
            assert_eq!(moments.len() as u64, 3 * rate, "{rate}");
            assert_eq!((totals.load_due, totals.load_late), (3 * rate, 0));
            for (number, nanos) in (0_u64..).zip(moments) {
                assert_eq!(nanos, number * SECOND / rate);
            }
        }
        // An hour's last dummy is not a nanosecond off.
        let mut flood = flood(1_488_095, Pattern::Cbr);
        flood.gaps = Gaps::Cbr { next: 3600 * 1_488_095 - 1 };
        flood.advance();
        assert_eq!(flood.due(), BEGIN.plus_nanos(3600 * SECOND));
    }

    #[test]
    fn poisson_gaps_have_the_mean_and_the_variance_and_come_again_with_their_seed() {
        let rate = 100_000;
        let (moments, totals) = played(flood(rate, Pattern::Poisson { seed: 7 }), 10);
        assert_eq!(totals.load_late, 0);
        let gaps: Vec<f64> = std::iter::once(moments[0])
            .chain(moments.windows(2).map(|pair| pair[1] - pair[0]))
            .map(|gap| gap as f64)
            .collect();
        let count = gaps.len() as f64;
        // A million samples: the mean within 5 of its standard errors, 0.1 %; the standard deviation likewise, 0.14 %.
        let mean = gaps.iter().sum::<f64>() / count;
        let deviation = (gaps.iter().map(|gap| (gap - mean).powi(2)).sum::<f64>() / count).sqrt();
        assert!((mean - 10_000.0).abs() < 50.0, "{mean}");
        assert!((deviation - 10_000.0).abs() < 75.0, "{deviation}");
        // Exponential: e^-1 of the gaps are longer than the mean, e^-3 than three of them.
        for (times, expected) in [(1.0, 0.367_879), (3.0, 0.049_787)] {
            let longer = gaps.iter().filter(|gap| **gap > times * 10_000.0).count() as f64 / count;
            assert!((longer - expected).abs() < 0.003, "{times}: {longer}");
        }
        assert_eq!(played(flood(rate, Pattern::Poisson { seed: 7 }), 1).0, moments[..played_in(&moments, 1)]);
        assert_ne!(played(flood(rate, Pattern::Poisson { seed: 8 }), 1).0[0], moments[0]);
    }

    fn played_in(moments: &[u64], seconds: u64) -> usize {
        moments.iter().take_while(|nanos| **nanos < seconds * SECOND).count()
    }

    #[test]
    fn a_stall_is_made_up_for_within_a_bound_and_the_rest_is_counted() {
        for pattern in [Pattern::Cbr, Pattern::Poisson { seed: 3 }] {
            let mut flood = flood(1_000_000, pattern);
            let mut totals = Totals::default();
            // Nothing was done for 100 ms: a millisecond's worth is sent, in batches.
            let now = BEGIN.plus_nanos(100_000_000);
            let (mut sent, mut steps) = (0, 0);
            while flood.due() <= now {
                let count = flood.step(now, &mut totals);
                assert!(count <= LOAD_BATCH);
                sent += u64::from(count);
                steps += 1;
            }
            assert_eq!(sent + totals.load_late, totals.load_due, "{pattern:?}");
            assert!(sent.abs_diff(1000) < 200, "{pattern:?}: {sent}");
            assert!(totals.load_due.abs_diff(100_000) < 2000, "{pattern:?}: {}", totals.load_due);
            assert!(steps < 100, "{steps}");
            // From then on it goes as planned.
            let after = played_from(&mut flood, now, &mut totals);
            assert!(after.abs_diff(1000) < 200, "{pattern:?}: {after}");
        }
    }

    /// How many come in the next millisecond, where each is sent when it is due.
    fn played_from(flood: &mut Flood, now: Time<Monotonic>, totals: &mut Totals) -> u64 {
        let mut sent = 0;
        while flood.due() < now.plus_nanos(1_000_000) {
            sent += u64::from(flood.step(flood.due(), totals));
        }
        sent
    }

    #[test]
    fn at_a_low_rate_a_late_dummy_is_still_sent() {
        let mut flood = flood(10, Pattern::Cbr);
        let mut totals = Totals::default();
        assert_eq!(flood.step(BEGIN.plus_nanos(99_000_000), &mut totals), 1);
        assert_eq!(flood.step(BEGIN.plus_nanos(350_000_000), &mut totals), 3);
        assert_eq!((totals.load_due, totals.load_late), (4, 0));
        assert_eq!(flood.due(), BEGIN.plus_nanos(400_000_000));
    }

    #[test]
    fn what_was_due_until_the_end_is_accounted_for() {
        for pattern in [Pattern::Cbr, Pattern::Poisson { seed: 1 }] {
            let mut flood = flood(1000, pattern);
            let mut totals = Totals::default();
            assert!(flood.step(flood.due(), &mut totals) >= 1);
            let sent = totals.load_due;
            flood.finish(BEGIN.plus_nanos(10 * SECOND), &mut totals);
            assert_eq!(totals.load_late, totals.load_due - sent);
            assert!(totals.load_due.abs_diff(10_000) < 500, "{pattern:?}: {}", totals.load_due);
            if pattern == Pattern::Cbr {
                assert_eq!(totals.load_due, 10_000);
            }
        }
    }

    #[test]
    fn a_rate_of_nothing_is_no_flood() {
        assert!(Flood::new(BEGIN, Load { packets_per_second: 0, ip_len: 44 }, Pattern::Cbr).is_none());
    }
}
