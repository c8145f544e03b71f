//! How late the pings of a session left, and how often the core was away from the loop that sends them.
//!
//! Nothing is allocated after the start, and no clock is read.

use super::times::{Latency, Times};
use crate::session::LATE_NANOS;
use serde::Serialize;

/// A busy loop with nothing to do that looks at the clock no sooner than so many ns after it did so last was not running meanwhile.
/// A turn with nothing to do takes 0.1 µs, on the kernel path a system call's time; an interrupt, and what a host takes, mostly more than
/// this.
pub const AWAY_NANOS: u64 = 5_000;

/// How late pings left. From the planned moment to the look at the clock that had the ping sent; its t0 is taken behind that, within
/// some 0.1 µs.
#[derive(Debug)]
pub struct Punctuality {
    /// Of all pings that had a planned moment.
    all: Times,
    /// Of those that were not due while the core was seen to be away.
    undisturbed: Times,
    /// For how long it was away each time.
    away: Times,
    pings_due: u64,
    late_sends: u64,
    skipped_slots: u64,
    /// Whether anybody can see that the core is away.
    is_watched: bool,
}

/// The same at one moment.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct PunctualityTotals {
    /// Of all pings that had a planned moment; `None` where there was none.
    pub lateness: Option<Latency>,
    /// Of those that were not due while the core was seen to be away. Only of a loop that never sleeps.
    pub undisturbed: Option<Latency>,
    /// How often it was away. Only of a loop that never sleeps.
    pub away: CoreAway,
    /// Whether anybody could see that it was: not where the loop sleeps, nor where a look for packets takes as long as it takes the
    /// kernel to poll a driver.
    pub is_watched: bool,
}

/// How often the core was seen to be away from a busy loop: at least so often, as only turns of the loop with nothing to do can tell.
/// In ns.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize)]
pub struct CoreAway {
    /// How often.
    pub count: u64,
    /// For how long in all.
    pub total_ns: u64,
    /// Half of the times for no longer; `None` where it never was.
    pub p50_ns: Option<u64>,
    /// 99 % of the times for no longer; `None` where it never was.
    pub p99_ns: Option<u64>,
    /// The longest; 0 where it never was.
    pub longest_ns: u64,
    /// What is longer counts ([`AWAY_NANOS`]).
    pub threshold_ns: u64,
    /// Pings that were sent after it because they had been due meanwhile.
    pub pings_due: u64,
    /// Of those, the ones that left more than `late_threshold_ns` after their planned moment.
    pub late_sends: u64,
    /// Planned moments that passed meanwhile without a ping.
    pub skipped_slots: u64,
}

impl Default for Punctuality {
    fn default() -> Self {
        Self::new()
    }
}

impl Punctuality {
    /// Allocates 0.6 MiB, and touches them so that the hot loop meets no page fault.
    pub fn new() -> Self {
        Self {
            all: Times::new(),
            undisturbed: Times::new(),
            away: Times::new(),
            pings_due: 0,
            late_sends: 0,
            skipped_slots: 0,
            is_watched: true,
        }
    }

    /// Forgets everything, for the next session: whether it can be seen there that the core is away. Allocates nothing.
    pub fn begin(&mut self, is_watched: bool) {
        self.is_watched = is_watched;
        self.all.clear();
        self.undisturbed.clear();
        self.away.clear();
        (self.pings_due, self.late_sends, self.skipped_slots) = (0, 0, 0);
    }

    /// The core was away for so many ns.
    #[cold]
    pub fn was_away(&mut self, nanos: u64) {
        self.away.record(nanos);
    }

    /// A planned moment was met: a ping has left so many ns after it, unless `lateness` is `None`, and so many moments had passed
    /// before. The core had been away for `away` ns until then; 0 where it had not.
    #[inline]
    pub fn met(&mut self, lateness: Option<u64>, skipped: u64, away: u64) {
        if away > 0 {
            // There was nothing due when it went.
            self.skipped_slots += skipped;
        }
        let Some(lateness) = lateness else { return };
        self.all.record(lateness);
        // It was due after the core went and before it was back.
        if lateness > 0 && lateness < away {
            self.pings_due += 1;
            self.late_sends += u64::from(lateness > LATE_NANOS);
        } else {
            self.undisturbed.record(lateness);
        }
    }

    /// All of it.
    pub fn totals(&self) -> PunctualityTotals {
        let away = self.away.latency();
        PunctualityTotals {
            lateness: self.all.latency(),
            undisturbed: self.undisturbed.latency(),
            away: CoreAway {
                count: away.map_or(0, |away| away.count),
                total_ns: self.away.sum(),
                p50_ns: away.map(|away| away.p50),
                p99_ns: away.map(|away| away.p99),
                longest_ns: away.map_or(0, |away| away.max),
                threshold_ns: AWAY_NANOS,
                pings_due: self.pings_due,
                late_sends: self.late_sends,
                skipped_slots: self.skipped_slots,
            },
            is_watched: self.is_watched,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_ping_that_was_due_while_the_core_was_away_is_counted_apart_and_in_all() {
        let mut punctuality = Punctuality::new();
        assert_eq!(punctuality.totals().lateness, None);
        // On time; late by our own doing; on time again.
        [40, 700, 60].into_iter().for_each(|lateness| punctuality.met(Some(lateness), 0, 0));
        // Away for 80 µs: due 30 µs before it was back, and 3 µs before.
        for lateness in [30_000, 3_000] {
            punctuality.was_away(80_000);
            punctuality.met(Some(lateness), 0, 80_000);
        }
        // Away with nothing due.
        punctuality.was_away(6_000);
        let totals = punctuality.totals();
        let count = |latency: Option<Latency>| latency.map(|latency| (latency.count, latency.min, latency.max));
        assert_eq!(count(totals.lateness), Some((5, 40, 30_000)));
        assert_eq!(count(totals.undisturbed), Some((3, 40, 700)));
        let expected = CoreAway {
            count: 3,
            total_ns: 166_000,
            p50_ns: totals.away.p50_ns,
            p99_ns: Some(80_000),
            longest_ns: 80_000,
            threshold_ns: 5_000,
            pings_due: 2,
            late_sends: 1,
            skipped_slots: 0,
        };
        assert_eq!(totals.away, expected);
        // Good to 3 digits.
        assert!(totals.away.p50_ns.unwrap().abs_diff(80_000) <= 80, "{:?}", totals.away.p50_ns);
        punctuality.begin(true);
        assert_eq!(punctuality.totals(), Punctuality::new().totals());
    }

    #[test]
    fn a_ping_is_due_meanwhile_only_between_the_two_looks() {
        let mut punctuality = Punctuality::new();
        // Due at the very look that ended it: nothing was late for it. And due no later than the look before, which had met it.
        [0, 80_000, 90_000].into_iter().for_each(|lateness| punctuality.met(Some(lateness), 0, 80_000));
        let totals = punctuality.totals();
        assert_eq!((totals.away.pings_due, totals.undisturbed.unwrap().count), (0, 3));
        punctuality.met(Some(79_999), 0, 80_000);
        assert_eq!(punctuality.totals().away.pings_due, 1);
    }

    #[test]
    fn moments_that_passed_meanwhile_are_counted_apart_from_our_own_doing() {
        let mut punctuality = Punctuality::new();
        punctuality.met(Some(350_000), 3, 0);
        punctuality.met(Some(250_000), 2, 260_000);
        // The last moments of a session passed with it: no ping is sent any more.
        punctuality.met(None, 8, 900_000);
        punctuality.met(None, 0, 0);
        let totals = punctuality.totals();
        assert_eq!((totals.away.skipped_slots, totals.away.pings_due, totals.away.late_sends), (10, 1, 1));
        assert_eq!((totals.lateness.unwrap().count, totals.undisturbed.unwrap().count), (2, 1));
    }
}
