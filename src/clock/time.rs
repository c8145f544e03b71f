//! The type of a point in time, generic over its clock.
#![forbid(unsafe_code)]

use std::cmp::Ordering;
use std::fmt;
use std::hash::{Hash, Hasher};
use std::marker::PhantomData;
use std::time::Duration;

/// Nanoseconds in a second.
const NANOS_PER_SECOND: u64 = 1_000_000_000;

/// A clock that a [`Time`] can come from.
pub trait Domain {
    /// The name written into logs and reports.
    const NAME: &'static str;
}

/// `CLOCK_MONOTONIC`: what pacing and time-outs are reckoned in.
#[derive(Debug, Clone, Copy)]
pub struct Monotonic;

/// `CLOCK_REALTIME`: what the process's own stamps in the log are, as nanoprobe's.
#[derive(Debug, Clone, Copy)]
pub struct Realtime;

/// `CLOCK_TAI`: what `bpf_ktime_get_tai_ns()` gives at the XDP hook.
#[derive(Debug, Clone, Copy)]
pub struct Tai;

/// A network card's own clock (PTP hardware clock), whatever its epoch.
#[derive(Debug, Clone, Copy)]
pub struct Phc;

impl Domain for Monotonic {
    const NAME: &'static str = "CLOCK_MONOTONIC";
}
impl Domain for Realtime {
    const NAME: &'static str = "CLOCK_REALTIME";
}
impl Domain for Tai {
    const NAME: &'static str = "CLOCK_TAI";
}
impl Domain for Phc {
    const NAME: &'static str = "PHC";
}

/// Nanoseconds since the epoch of the clock `C`.
///
/// An absent stamp is `Option::None`; the value 0 is the epoch itself and never means "no stamp".
pub struct Time<C> {
    nanos: u64,
    clock: PhantomData<fn() -> C>,
}

impl<C: Domain> Time<C> {
    /// The point `nanos` nanoseconds after the clock's epoch.
    pub const fn from_nanos(nanos: u64) -> Self {
        Self { nanos, clock: PhantomData }
    }

    /// Nanoseconds since the clock's epoch.
    pub const fn as_nanos(self) -> u64 {
        self.nanos
    }

    /// Whole seconds since the clock's epoch.
    pub const fn seconds(self) -> u64 {
        self.nanos / NANOS_PER_SECOND
    }

    /// Nanoseconds within the second, 0 to 999,999,999.
    pub const fn subsec_nanos(self) -> u32 {
        (self.nanos % NANOS_PER_SECOND) as u32
    }

    /// `self − earlier` in nanoseconds, negative where `earlier` is the later one.
    ///
    /// Saturates at the ends of `i64`, 292 years away.
    pub const fn nanos_since(self, earlier: Self) -> i64 {
        let difference = self.nanos as i128 - earlier.nanos as i128;
        if difference > i64::MAX as i128 {
            i64::MAX
        } else if difference < i64::MIN as i128 {
            i64::MIN
        } else {
            difference as i64
        }
    }

    /// The time from `earlier` to `self`, zero where `earlier` is the later one. For time-outs, not for results.
    pub const fn duration_since(self, earlier: Self) -> Duration {
        Duration::from_nanos(self.nanos.saturating_sub(earlier.nanos))
    }

    /// The point `nanos` nanoseconds later (saturating).
    #[must_use]
    pub const fn plus_nanos(self, nanos: u64) -> Self {
        Self::from_nanos(self.nanos.saturating_add(nanos))
    }

    /// The point `duration` later (saturating at 584 years).
    #[must_use]
    pub const fn plus(self, duration: Duration) -> Self {
        let nanos = duration.as_nanos();
        self.plus_nanos(if nanos > u64::MAX as u128 { u64::MAX } else { nanos as u64 })
    }
}

// Written out rather than derived: a derive would ask for `C: Clone` and so on, and a clock is only a name.
impl<C> Clone for Time<C> {
    fn clone(&self) -> Self {
        *self
    }
}
impl<C> Copy for Time<C> {}
impl<C> PartialEq for Time<C> {
    fn eq(&self, other: &Self) -> bool {
        self.nanos == other.nanos
    }
}
impl<C> Eq for Time<C> {}
impl<C> PartialOrd for Time<C> {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}
impl<C> Ord for Time<C> {
    fn cmp(&self, other: &Self) -> Ordering {
        self.nanos.cmp(&other.nanos)
    }
}
impl<C> Hash for Time<C> {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.nanos.hash(state);
    }
}

impl<C: Domain> fmt::Debug for Time<C> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {self}", C::NAME)
    }
}

/// Seconds, a dot and nine digits of nanoseconds, as in nanoprobe's log.
impl<C: Domain> fmt::Display for Time<C> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{:09}", self.seconds(), self.subsec_nanos())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_time_prints_nine_digits_of_nanoseconds() {
        assert_eq!(Time::<Realtime>::from_nanos(1_750_785_880_008_711_082).to_string(), "1750785880.008711082");
        assert_eq!(Time::<Realtime>::from_nanos(5).to_string(), "0.000000005");
    }

    #[test]
    fn differences_keep_their_sign_and_saturate() {
        let early = Time::<Monotonic>::from_nanos(10);
        let late = Time::<Monotonic>::from_nanos(25);
        assert_eq!(late.nanos_since(early), 15);
        assert_eq!(early.nanos_since(late), -15);
        assert_eq!(Time::<Monotonic>::from_nanos(u64::MAX).nanos_since(early), i64::MAX);
        assert_eq!(early.duration_since(late), Duration::ZERO);
    }

    #[test]
    fn adding_saturates() {
        let end = Time::<Monotonic>::from_nanos(u64::MAX - 1);
        assert_eq!(end.plus_nanos(5).as_nanos(), u64::MAX);
        assert_eq!(end.plus(Duration::MAX).as_nanos(), u64::MAX);
    }
}
