//! When a loop that sleeps wakes up: before what it waits for is due, by what waking up takes.
//!
//! A thread that a timer wakes runs some µs after it, on a virtual machine and on a CPU in a deep state a hundred: a
//! ping of `--timer sleep` would be late by that. So the loop is woken earlier, and stays awake for what is left. By how much is
//! learned from the wake-ups before, as it differs from machine to machine, and what it may cost is bounded.
#![forbid(unsafe_code)]

use crate::clock::{Monotonic, Time};

/// The part of a wait that it may be awake at most: less than 2 % of a CPU.
const PART: u64 = 64;
/// A shorter wait is slept to its end: with a ping a millisecond the lead was a quarter of all CPU time.
const SHORTEST_NANOS: u64 = 2_000_000;
/// The longest lead. It is not the hundredth part of a time-out.
const MOST_NANOS: u64 = 250_000;
/// The lead before anything is known.
const FIRST_NANOS: u64 = 100_000;
/// By how much it becomes longer after a wake-up that took longer,
const LONGER_NANOS: u64 = 19_800;
/// and shorter after any other: 99 of a hundred wake-ups do not take longer than a lead that stays.
const SHORTER_NANOS: u64 = LONGER_NANOS / 99;

/// The sleep before one deadline.
#[derive(Debug)]
pub(super) struct Nap {
    /// The deadline, and when to wake up for it; `None` where it sleeps until something else wakes it.
    of: Option<(Time<Monotonic>, Time<Monotonic>)>,
    /// What all but one wake-up in a hundred take at most.
    lead: u64,
}

impl Nap {
    pub(super) const fn new() -> Self {
        Self { of: None, lead: FIRST_NANOS }
    }

    /// When to wake up for `deadline`: reckoned when it is first asked for, so that what wakes the loop meanwhile does not move it.
    /// Not after `now`: it is so near that there is no sleep before it. Without a deadline never.
    pub(super) fn end(&mut self, deadline: Option<Time<Monotonic>>, now: Time<Monotonic>) -> Option<Time<Monotonic>> {
        self.of = deadline.map(|deadline| match self.of {
            Some(known) if known.0 == deadline => known,
            _ => {
                let wait = deadline.as_nanos().saturating_sub(now.as_nanos());
                let part = wait / PART;
                // Less than half of what it takes helps nobody, and each time it would be paid for.
                let lead = if wait < SHORTEST_NANOS || part < self.lead / 2 { 0 } else { self.lead.min(part) };
                (deadline, Time::from_nanos(deadline.as_nanos() - lead))
            }
        });
        self.of.map(|(_, end)| end)
    }

    /// The loop runs again, whatever woke it: learns from it where it slept until an end.
    pub(super) fn woken(&mut self, now: Time<Monotonic>) {
        // Before its end something else did.
        let Some((_, end)) = self.of.filter(|(_, end)| now >= *end) else { return };
        let took = now.as_nanos() - end.as_nanos();
        self.lead = match took > self.lead {
            true => (self.lead + LONGER_NANOS).min(MOST_NANOS),
            false => self.lead.saturating_sub(SHORTER_NANOS),
        };
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const fn at(nanos: u64) -> Time<Monotonic> {
        Time::from_nanos(nanos)
    }

    #[test]
    fn it_ends_a_part_of_the_wait_before_the_deadline_and_stays() {
        let mut nap = Nap::new();
        assert_eq!(nap.end(Some(at(15_120_000)), at(10_000_000)), Some(at(15_040_000)));
        // Woken by something else: the end stays, also when it is over.
        assert_eq!(nap.end(Some(at(15_120_000)), at(11_000_000)), Some(at(15_040_000)));
        assert_eq!(nap.end(Some(at(15_120_000)), at(15_100_000)), Some(at(15_040_000)));
        // Another deadline, far away.
        assert_eq!(nap.end(Some(at(5_000_000_000)), at(15_120_000)), Some(at(4_999_900_000)));
        // One that is due.
        assert_eq!(nap.end(Some(at(7)), at(9)), Some(at(7)));
    }

    #[test]
    fn a_lead_that_would_not_do_is_not_paid_for() {
        let mut nap = Nap::new();
        // The 64th part is 46.9 µs of the 100 that it takes, and 50 µs.
        assert_eq!(nap.end(Some(at(3_000_000)), at(0)), Some(at(3_000_000)));
        assert_eq!(nap.end(Some(at(3_200_000)), at(0)), Some(at(3_150_000)));
        // It takes next to nothing, and would do: but the wait is short.
        (1..450).for_each(|turn| {
            let end = nap.end(Some(at(turn * 1_000_000_000)), at((turn - 1) * 1_000_000_000)).unwrap();
            nap.woken(end);
        });
        assert_eq!(nap.end(Some(at(2_000_000)), at(0)), Some(at(2_000_000 - 10_200)));
        assert_eq!(nap.end(Some(at(3_999_999)), at(2_000_000)), Some(at(3_999_999)));
    }

    /// The lead that wake-ups come to that take so long.
    fn learned(took: impl Fn(u64) -> u64) -> u64 {
        let mut nap = Nap::new();
        for turn in 1..20_000 {
            let deadline = at(turn * 100_000_000);
            let end = nap.end(Some(deadline), at(deadline.as_nanos() - 100_000_000)).unwrap();
            nap.woken(at(end.as_nanos() + took(turn)));
        }
        let end = nap.end(Some(at(1 << 60)), at(0)).unwrap();
        (1 << 60) - end.as_nanos()
    }

    #[test]
    fn it_learns_what_all_but_the_slowest_wake_ups_take() {
        let steady = learned(|_| 5_000);
        assert!((5_000..5_000 + LONGER_NANOS).contains(&steady), "{steady}");
        let spread = learned(|turn| turn * 7919 % 1000 * 150);
        assert!((110_000..170_000).contains(&spread), "{spread}");
        // One in two hundred is a stall, and no reason to be awake for it.
        let stalls = learned(|turn| if turn % 200 == 0 { 4_000_000 } else { 10_000 });
        assert!((10_000..10_000 + 2 * LONGER_NANOS).contains(&stalls), "{stalls}");
        assert_eq!(learned(|_| 1_000_000), MOST_NANOS);
    }

    #[test]
    fn what_wakes_it_before_the_end_teaches_nothing_and_nor_does_a_sleep_without_one() {
        let mut nap = Nap::new();
        let end = nap.end(Some(at(1_000_000_000)), at(0)).unwrap();
        (0..1000).for_each(|nanos| nap.woken(at(nanos)));
        // Long after that end.
        assert_eq!(nap.end(None, at(1_000_000_000)), None);
        (2_000_000_000..2_000_001_000).for_each(|nanos| nap.woken(at(nanos)));
        let later = nap.end(Some(at(4_000_000_000)), at(3_000_000_000)).unwrap();
        assert_eq!(later.as_nanos(), end.as_nanos() + 3_000_000_000);
    }
}
