//! When a loop that sleeps wakes up: a little before what it waits for is due.
//!
//! A thread that a timer wakes runs some tens of µs after it, on a virtual machine and on a CPU in a deep state a hundred: a
//! ping of `--timer sleep` would be late by that. So the loop is woken earlier by a small part of what it would sleep, and stays
//! awake for what is left of it.
#![forbid(unsafe_code)]

use crate::clock::{Monotonic, Time};

/// The part of a wait that it may be awake: less than 1 % of a CPU.
const PART: u64 = 128;
/// At most: what a wake-up takes, and not the hundredth part of a time-out.
const MOST_NANOS: u64 = 100_000;

/// The sleep before one deadline.
#[derive(Debug, Default)]
pub(super) struct Nap {
    /// The deadline, and when to wake up for it.
    of: Option<(Time<Monotonic>, Time<Monotonic>)>,
}

impl Nap {
    /// When to wake up for `deadline`: reckoned when it is first asked for, so that what wakes the loop meanwhile does not move it.
    /// Not after `now`: it is so near that there is no sleep before it.
    pub(super) fn end(&mut self, deadline: Time<Monotonic>, now: Time<Monotonic>) -> Time<Monotonic> {
        match self.of {
            Some((known, end)) if known == deadline => end,
            _ => {
                let wait = deadline.as_nanos().saturating_sub(now.as_nanos());
                let end = Time::from_nanos(deadline.as_nanos() - (wait / PART).min(MOST_NANOS));
                self.of = Some((deadline, end));
                end
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_ends_a_part_of_the_wait_before_the_deadline_and_stays() {
        let at = Time::from_nanos;
        let mut nap = Nap::default();
        assert_eq!(nap.end(at(11_280_000), at(10_000_000)), at(11_270_000));
        // Woken by something else: the end stays, also when it is over.
        assert_eq!(nap.end(at(11_280_000), at(11_000_000)), at(11_270_000));
        assert_eq!(nap.end(at(11_280_000), at(11_275_000)), at(11_270_000));
        // Another deadline, far away.
        assert_eq!(nap.end(at(5_000_000_000), at(11_280_000)), at(4_999_900_000));
        // One that is due.
        assert_eq!(nap.end(at(7), at(9)), at(7));
    }
}
