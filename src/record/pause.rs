//! How long a writing thread waits from one look at its ring to the next.

use std::ops::RangeInclusive;
use std::time::Duration;

/// The longest time between two looks: what 3 million rows a second fill three quarters of a ring in.
const LONGEST: Duration = Duration::from_millis(32);
/// The shortest, for the fastest senders.
const SHORTEST: Duration = Duration::from_micros(500);
/// As many entries as a look should find, at least and at most, for the next one to come after the same time.
///
/// A look takes the CPU from somebody, on a machine with few of them from the hot loop, and the ping under way then is late by
/// as long as it takes. What all looks take together is given with the rows, so many short ones are better than few long
/// ones: of 10,000 pings a second as many are hit, and by 10 µs rather than by 150. But a sleeping loop's few rows are not
/// worth a wake-up each.
const ENTRIES_A_LOOK: RangeInclusive<usize> = 16..=64;
/// The same where a look comes while the hot loop has nothing to do, and hits no ping.
const ENTRIES_IN_A_LULL: RangeInclusive<usize> = 48..=192;

/// Shorter the more there is to take.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Pause(Duration);

impl Pause {
    pub(super) const fn new() -> Self {
        Self(SHORTEST)
    }

    /// The time until the next look, after one that found so many entries.
    pub(super) fn after(&mut self, found: usize) -> Duration {
        self.adapt(found, &ENTRIES_A_LOOK)
    }

    /// The same of looks that come while the hot loop has nothing to do.
    pub(super) fn after_lull(&mut self, found: usize) -> Duration {
        self.adapt(found, &ENTRIES_IN_A_LULL)
    }

    fn adapt(&mut self, found: usize, wanted: &RangeInclusive<usize>) -> Duration {
        if found > *wanted.end() {
            self.0 /= 2;
        } else if found < *wanted.start() {
            self.0 *= 2;
        }
        self.0 = self.0.clamp(SHORTEST, LONGEST);
        self.0
    }
}

impl Pause {
    /// The same after a look that came sooner than the pause said: few entries then do not mean that it is too short.
    pub(super) fn after_early(&mut self, taken: usize) -> Duration {
        self.after(taken.max(*ENTRIES_A_LOOK.start()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The pause that a rate, in entries a millisecond, comes to.
    fn at_rate(per_millisecond: u32) -> Duration {
        let mut pause = Pause::new();
        let mut last = SHORTEST;
        for _ in 0..20 {
            last = pause.after((f64::from(per_millisecond) * last.as_secs_f64() * 1e3) as usize);
        }
        last
    }

    #[test]
    fn a_look_finds_a_few_rows_at_any_rate() {
        // 10,000 pings a second make 20 rows a millisecond.
        assert_eq!(at_rate(20), Duration::from_millis(1));
        assert_eq!(at_rate(2), Duration::from_millis(8));
        assert_eq!(at_rate(0), LONGEST);
        assert_eq!(at_rate(2000), SHORTEST);
    }

    #[test]
    fn looks_that_hit_no_ping_are_fewer_and_longer() {
        let mut pause = Pause::new();
        let mut last = SHORTEST;
        for _ in 0..20 {
            last = pause.after_lull((20.0 * last.as_secs_f64() * 1e3) as usize);
        }
        assert_eq!(last, Duration::from_millis(4));
    }

    #[test]
    fn an_early_look_makes_no_pause_longer() {
        let mut pause = Pause::new();
        assert_eq!((pause.after_early(0), pause.after(0)), (SHORTEST, 2 * SHORTEST));
        assert_eq!((pause.after_early(1), pause.after_early(65)), (2 * SHORTEST, SHORTEST));
    }
}
