//! When a loop with a real-time priority leaves its CPU to everybody else: before the kernel takes it away.
//!
//! The kernel stops a real-time thread that never sleeps for what is left of each period, 50 ms of a second in one piece where
//! nobody has set anything else, and 5 % of the pings wait for as long as that. A loop that sleeps as much of its own accord is not
//! stopped, and can choose the moment: right after it has answered something, while nothing of its own is due. It makes no
//! system call here; it is only told when to.
#![forbid(unsafe_code)]

use crate::clock::{Monotonic, Time};
use crate::tune::realtime::Budget;
use std::time::Duration;

/// As long as a sleep is worth its system call, and as short as it may be late for.
const REST_NANOS: u64 = 50_000;
/// A sleep wakes up that much later than it was asked to.
const LATE_NANOS: u64 = 20_000;
/// A rest is longer than the kernel demands by this share of it.
const MARGIN_PERCENT: u64 = 10;

/// How long the loop leaves its CPU to the thread that writes, where that has fallen behind.
const CATCH_UP: Duration = Duration::from_micros(200);
/// How long one that gets nowhere is waited for like that: a disk that is full or a pipe that nobody reads does not get better by it,
/// and each turn of the loop would be late for as long as that lasts.
const PATIENCE: Duration = Duration::from_millis(250);

/// When the loop rests, for the kernel's sake and for the thread that writes.
#[derive(Debug, Clone, Copy)]
pub(super) struct Rests {
    /// `None` where the kernel sets no limit: then nobody is stopped.
    limit: Option<Limit>,
    writer: Writer,
}

impl Rests {
    /// Under the kernel's limit, if there is one.
    pub(super) fn within(budget: &Budget, now: Time<Monotonic>) -> Self {
        Self { limit: Limit::of(budget, now), writer: Writer::default() }
    }

    /// How long to rest now, if at all. `answered`: this turn took something in, and nothing more is expected at once; `next`:
    /// when something of the loop's own is due; `crowded`: where what the thread that writes has not taken yet fills half of its
    /// ring, how far it is, as a number that changes whenever it gets on.
    #[inline]
    pub(super) fn due(
        &mut self,
        now: Time<Monotonic>,
        answered: bool,
        next: Option<Time<Monotonic>>,
        crowded: Option<u64>,
    ) -> Option<Duration> {
        let behind = match crowded {
            Some(progress) => self.writer.due(now, progress),
            None => {
                self.writer.behind = None;
                None
            }
        };
        behind.or_else(|| self.limit.as_ref()?.due(now, answered, next))
    }

    /// The loop has slept until `now`, for whatever reason.
    #[inline]
    pub(super) fn rested(&mut self, now: Time<Monotonic>) {
        if let Some(limit) = &mut self.limit {
            limit.since = now;
        }
    }

    /// What the user should know once the loop is over; `None` where there is nothing.
    pub(super) fn remark(&self) -> Option<String> {
        let times = self.writer.given_up;
        (times > 0).then(|| {
            format!(
                "--realtime: the thread that writes fell behind and got nowhere for {} ms (a full disk, a pipe that nobody reads, a \
                 stopped terminal): {times} times the loop no longer waited for it, and what the ring had no room for is lost",
                PATIENCE.as_millis()
            )
        })
    }
}

/// The thread that writes, as seen from the loop.
#[derive(Debug, Clone, Copy, Default)]
struct Writer {
    /// While it is behind: how far it was when it last got on, since when it is there, and whether it is still waited for.
    behind: Option<(u64, Time<Monotonic>, bool)>,
    /// How often it was waited for no longer.
    given_up: u64,
}

impl Writer {
    #[cold]
    fn due(&mut self, now: Time<Monotonic>, progress: u64) -> Option<Duration> {
        let (at, since, waited_for) = self.behind.get_or_insert((progress, now, true));
        // Until it has caught up: one that gets on in spurts would have the loop late half of the time.
        if !*waited_for {
            return None;
        }
        if *at != progress {
            (*at, *since) = (progress, now);
        } else if now.duration_since(*since) >= PATIENCE {
            *waited_for = false;
            self.given_up += 1;
            return None;
        }
        Some(CATCH_UP)
    }
}

/// What the kernel leaves to a real-time thread, and how long the loop ran without a rest.
#[derive(Debug, Clone, Copy)]
struct Limit {
    /// What the kernel leaves to others of a period, and to real-time threads, in ns.
    left_nanos: u64,
    runtime_nanos: u64,
    /// From then on a good moment is taken, and at twice that any moment.
    want_nanos: u64,
    /// Since when it has run.
    since: Time<Monotonic>,
}

impl Limit {
    /// `None` where there is none.
    fn of(budget: &Budget, now: Time<Monotonic>) -> Option<Self> {
        let runtime_us = budget.runtime_us.filter(|runtime| (1..budget.period_us).contains(runtime))?;
        let (runtime_nanos, left_nanos) = (runtime_us * 1000, (budget.period_us - runtime_us) * 1000);
        let want_nanos = (u128::from(REST_NANOS) * u128::from(runtime_nanos) * 100
            / (u128::from(left_nanos) * u128::from(100 + MARGIN_PERCENT))) as u64;
        Some(Self { left_nanos, runtime_nanos, want_nanos, since: now })
    }

    #[inline]
    fn due(&self, now: Time<Monotonic>, answered: bool, next: Option<Time<Monotonic>>) -> Option<Duration> {
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
}

#[cfg(test)]
mod tests {
    use super::*;

    const LINUX: Budget = Budget { runtime_us: Some(950_000), period_us: 1_000_000 };

    fn at(micros: u64) -> Time<Monotonic> {
        Time::from_nanos(1_000_000_000 + micros * 1000)
    }

    #[test]
    fn a_good_moment_is_taken_once_there_is_something_to_rest_from() {
        let mut rests = Rests::within(&LINUX, at(0));
        assert_eq!(rests.due(at(800), true, None, None), None);
        let rest = rests.due(at(900), true, Some(at(2000)), None).unwrap();
        assert!((50..60).contains(&rest.as_micros()), "{rest:?}");
        // Nothing was answered, or a ping is due too soon.
        assert_eq!(rests.due(at(900), false, None, None), None);
        assert_eq!(rests.due(at(900), true, Some(at(960)), None), None);
        // Then any moment is as good.
        let rest = rests.due(at(1800), false, Some(at(1801)), None).unwrap();
        assert!((100..120).contains(&rest.as_micros()), "{rest:?}");
        rests.rested(at(1900));
        assert_eq!(rests.due(at(2700), true, None, None), None);
    }

    #[test]
    fn what_is_rested_is_more_than_the_kernel_demands() {
        for (runtime, period) in [(950_000, 1_000_000), (500_000, 1_000_000), (99_000, 100_000), (1, 1_000_000)] {
            let budget = Budget { runtime_us: Some(runtime), period_us: period };
            let mut rests = Rests::within(&budget, at(0));
            let (mut now, mut rested) = (at(0), 0);
            while now < at(1_000_000) {
                now = now.plus_nanos(1_000);
                if let Some(rest) = rests.due(now, false, None, None) {
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
            let mut rests = Rests::within(&Budget { runtime_us, ..LINUX }, at(0));
            assert_eq!(rests.due(at(60_000_000), true, None, None), None, "{runtime_us:?}");
        }
    }

    #[test]
    fn a_loop_that_was_away_for_long_does_not_sleep_for_long() {
        let mut rests = Rests::within(&LINUX, at(0));
        assert_eq!(rests.due(at(60_000_000), true, None, None), Some(Duration::from_micros(200)));
    }

    /// Rests of a loop that turns each 10 µs for `millis`, beginning at `from_ms`, with a writer that is so far at each moment.
    fn rests_for_writer(
        rests: &mut Rests,
        from_ms: u64,
        millis: u64,
        progress: impl Fn(u64) -> Option<u64>,
    ) -> Duration {
        let (mut now, mut rested) = (at(from_ms * 1000), Duration::ZERO);
        while now < at((from_ms + millis) * 1000) {
            now = now.plus_nanos(10_000);
            let elapsed_ms = now.duration_since(at(from_ms * 1000)).as_millis() as u64;
            if let Some(rest) = rests.due(now, false, None, progress(elapsed_ms)) {
                rested += rest;
                now = now.plus(rest);
            }
        }
        rested
    }

    #[test]
    fn a_writer_that_gets_on_is_waited_for_and_one_that_hangs_only_for_a_while() {
        let unlimited = Budget { runtime_us: None, ..LINUX };
        let mut rests = Rests::within(&unlimited, at(0));
        assert_eq!(rests_for_writer(&mut rests, 0, 1000, |_| None), Duration::ZERO);
        // It gets on each 100 ms: pings are late rather than rows lost.
        let rested = rests_for_writer(&mut rests, 1000, 5000, |ms| Some(ms / 100));
        assert!(rested > Duration::from_secs(4), "{rested:?}");
        assert_eq!((rests.writer.given_up, rests.remark()), (0, None));
        // It hangs, comes to life for a moment and hangs again: of ten seconds the loop rests a quarter of one.
        rests_for_writer(&mut rests, 6000, 1, |_| None);
        let rested = rests_for_writer(&mut rests, 6001, 10_000, |ms| Some(1000 + u64::from(ms > 3000)));
        assert!(rested <= PATIENCE + CATCH_UP && rested > PATIENCE / 2, "{rested:?}");
        // It has caught up, and is waited for again where it falls behind.
        rests_for_writer(&mut rests, 17_000, 1, |_| None);
        let rested = rests_for_writer(&mut rests, 17_001, 1000, |_| Some(2000));
        assert!(rested <= PATIENCE + CATCH_UP && rested > PATIENCE / 2, "{rested:?}");
        assert_eq!(rests.writer.given_up, 2);
        let remark = rests.remark().unwrap();
        assert!(
            remark.starts_with("--realtime: ") && remark.contains("250 ms") && remark.contains("2 times"),
            "{remark}"
        );
    }
}
