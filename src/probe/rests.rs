//! When a loop with a real-time priority leaves its CPU to everybody else: before the kernel takes it away.
//!
//! The kernel stops a real-time thread that never sleeps for what is left of each period, 50 ms of a second in one piece where
//! nobody has set anything else, and 5 % of the pings wait for as long as that. A loop that sleeps as much of its own accord is not
//! stopped, and can choose the moment: right after it has answered something, while nothing of its own is due. It makes no
//! system call here; it is only told when to.
#![forbid(unsafe_code)]

use crate::clock::{Monotonic, Time};
use crate::tune::realtime::Guard;
use std::time::Duration;

/// As long as a sleep is worth its system call, and as short as it may be late for.
const REST_NANOS: u64 = 50_000;
/// A sleep wakes up that much later than it was asked to.
const LATE_NANOS: u64 = 20_000;
/// A rest is longer than the kernel demands by this share of it.
const MARGIN_PERCENT: u64 = 10;

/// Keeps account of how long the loop ran without a rest.
#[derive(Debug, Clone, Copy)]
pub(super) struct Rests {
    /// What the kernel leaves to others of a period, and to real-time threads, in ns.
    left_nanos: u64,
    runtime_nanos: u64,
    /// From then on a good moment is taken, and at twice that any moment.
    want_nanos: u64,
    /// Since when it has run.
    since: Time<Monotonic>,
}

impl Rests {
    /// `None` where the kernel sets no limit: then nobody is stopped.
    pub(super) fn within(guard: &Guard, now: Time<Monotonic>) -> Option<Self> {
        let runtime_us = guard.runtime_us.filter(|runtime| (1..guard.period_us).contains(runtime))?;
        let (runtime_nanos, left_nanos) = (runtime_us * 1000, (guard.period_us - runtime_us) * 1000);
        let want_nanos = (u128::from(REST_NANOS) * u128::from(runtime_nanos) * 100
            / (u128::from(left_nanos) * u128::from(100 + MARGIN_PERCENT))) as u64;
        Some(Self { left_nanos, runtime_nanos, want_nanos, since: now })
    }

    /// How long to rest now, if at all. `answered`: this turn took something in, and nothing more is expected at once; `next`:
    /// when something of the loop's own is due.
    #[inline]
    pub(super) fn due(&self, now: Time<Monotonic>, answered: bool, next: Option<Time<Monotonic>>) -> Option<Duration> {
        let ran = now.as_nanos().saturating_sub(self.since.as_nanos());
        if ran < self.want_nanos {
            return None;
        }
        let rest = self.owed(ran);
        let is_good = answered && next.is_none_or(|next| next > now.plus_nanos(rest + LATE_NANOS));
        (is_good || ran >= 2 * self.want_nanos).then(|| Duration::from_nanos(rest))
    }

    #[cold]
    fn owed(&self, ran: u64) -> u64 {
        let owed = u128::from(ran) * u128::from(self.left_nanos) * u128::from(100 + MARGIN_PERCENT)
            / (u128::from(self.runtime_nanos) * 100);
        // Where the loop was away in between it owes nothing for that.
        (owed as u64).clamp(REST_NANOS / 2, 4 * REST_NANOS)
    }

    /// The loop has slept until `now`, for whatever reason.
    #[inline]
    pub(super) fn rested(&mut self, now: Time<Monotonic>) {
        self.since = now;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const LINUX: Guard = Guard { cpus: 2, runtime_us: Some(950_000), period_us: 1_000_000 };

    fn at(micros: u64) -> Time<Monotonic> {
        Time::from_nanos(1_000_000_000 + micros * 1000)
    }

    #[test]
    fn a_good_moment_is_taken_once_there_is_something_to_rest_from() {
        let mut rests = Rests::within(&LINUX, at(0)).unwrap();
        assert_eq!(rests.due(at(800), true, None), None);
        let rest = rests.due(at(900), true, Some(at(2000))).unwrap();
        assert!((50..60).contains(&rest.as_micros()), "{rest:?}");
        // Nothing was answered, or a ping is due too soon.
        assert_eq!(rests.due(at(900), false, None), None);
        assert_eq!(rests.due(at(900), true, Some(at(960))), None);
        // Then any moment is as good.
        let rest = rests.due(at(1800), false, Some(at(1801))).unwrap();
        assert!((100..120).contains(&rest.as_micros()), "{rest:?}");
        rests.rested(at(1900));
        assert_eq!(rests.due(at(2700), true, None), None);
    }

    #[test]
    fn what_is_rested_is_more_than_the_kernel_demands() {
        for (runtime, period) in [(950_000, 1_000_000), (500_000, 1_000_000), (99_000, 100_000), (1, 1_000_000)] {
            let guard = Guard { cpus: 1, runtime_us: Some(runtime), period_us: period };
            let mut rests = Rests::within(&guard, at(0)).unwrap();
            let (mut now, mut rested) = (at(0), 0);
            while now < at(1_000_000) {
                now = now.plus_nanos(1_000);
                if let Some(rest) = rests.due(now, false, None) {
                    rested += rest.as_nanos() as u64;
                    now = now.plus_nanos(rest.as_nanos() as u64);
                    rests.rested(now);
                }
            }
            let share = rested as f64 / now.duration_since(at(0)).as_nanos() as f64;
            let demanded = 1.0 - runtime as f64 / period as f64;
            assert!(share > demanded.min(0.95), "{runtime} of {period}: {share}");
        }
    }

    #[test]
    fn without_a_limit_there_are_no_rests() {
        for runtime_us in [None, Some(1_000_000), Some(2_000_000), Some(0)] {
            assert!(Rests::within(&Guard { runtime_us, ..LINUX }, at(0)).is_none(), "{runtime_us:?}");
        }
    }

    #[test]
    fn a_loop_that_was_away_for_long_does_not_sleep_for_long() {
        let rests = Rests::within(&LINUX, at(0)).unwrap();
        assert_eq!(rests.due(at(60_000_000), true, None), Some(Duration::from_micros(200)));
    }
}
