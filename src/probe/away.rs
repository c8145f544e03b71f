//! Whether the core was taken away from a busy loop: its looks at the clock tell.
//!
//! A loop that finds nothing to do looks at the clock again within a fraction of a microsecond. Where much more lies between two
//! such looks, something else had the core: an interrupt, another thread, the host of a virtual machine. The kernel's osnoise
//! tracer finds what disturbs it in the same way (Documentation/trace/osnoise-tracer.rst). What lies behind a look at which the
//! loop did something is not judged: its work and the machine's doing cannot be told apart there.
#![forbid(unsafe_code)]

use crate::clock::{Monotonic, Time};
use crate::path::Batch;
use crate::record::AWAY_NANOS;

/// No look counts: the loop has done something since.
const NONE: u64 = u64::MAX;

/// The last look at the clock behind which nothing was done.
#[derive(Debug)]
pub(super) struct Away {
    since: u64,
}

impl Away {
    /// Before the first look.
    pub(super) const fn new() -> Self {
        Self { since: NONE }
    }

    /// The loop has looked at the clock, once a turn. For how long the core was away before it, in ns: more than [`AWAY_NANOS`], or
    /// 0 where it was not, or where nobody knows.
    #[inline]
    pub(super) fn look(&mut self, now: Time<Monotonic>) -> u64 {
        let gap = now.as_nanos().saturating_sub(self.since);
        self.since = now.as_nanos();
        if gap > AWAY_NANOS { gap } else { 0 }
    }

    /// The loop has looked for packets, which is something where it has read any, be it for nothing.
    #[inline]
    pub(super) fn received(&mut self, batch: &Batch) {
        if batch.has_read() {
            self.occupied();
        }
    }

    /// The loop does something, or sleeps: it says nothing of the core when it looks at the clock next.
    #[inline]
    pub(super) fn occupied(&mut self) {
        self.since = NONE;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn looks(away: &mut Away, at: impl IntoIterator<Item = u64>) -> Vec<u64> {
        at.into_iter().map(|nanos| away.look(Time::from_nanos(nanos))).collect()
    }

    #[test]
    fn between_two_looks_with_nothing_to_do_only_the_machine_takes_time() {
        let mut away = Away::new();
        // The first look has none before it. Quiet turns of 100 ns; 5 µs are not more than 5 µs.
        assert_eq!(looks(&mut away, [1_000_000, 1_000_100, 1_005_100, 1_010_101]), [0, 0, 0, 5_001]);
        // A gap is told once.
        assert_eq!(looks(&mut away, [1_010_201, 4_010_201, 4_010_301]), [0, 3_000_000, 0]);
    }

    #[test]
    fn what_was_read_for_nothing_took_the_loops_time() {
        let (mut away, mut batch) = (Away::new(), Batch::new());
        let mut turn = |batch: &Batch, nanos| {
            away.received(batch);
            away.look(Time::from_nanos(nanos))
        };
        assert_eq!([turn(&batch, 1_000), turn(&batch, 1_100)], [0, 0]);
        // Foreign datagrams, 40 µs of them.
        batch.pass_over();
        assert_eq!(turn(&batch, 41_100), 0);
        batch.clear();
        assert_eq!([turn(&batch, 41_200), turn(&batch, 81_200)], [0, 40_000], "where nothing was read it was not ours");
    }

    #[test]
    fn what_the_loop_did_or_slept_is_its_own() {
        let mut away = Away::new();
        assert_eq!(looks(&mut away, [1_000]), [0]);
        away.occupied();
        assert_eq!(looks(&mut away, [51_000, 51_100]), [0, 0]);
        away.occupied();
        away.occupied();
        assert_eq!(
            looks(&mut away, [900_000_000, 900_080_000]),
            [0, 80_000],
            "behind the look that ended it, it is idle again"
        );
    }
}
