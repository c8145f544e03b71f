//! Durations that the hot loop measures, as a histogram: in bounded memory, and nothing is allocated after the start.

use hdrhistogram::Histogram;
use std::cell::RefCell;

/// What the histogram tells apart: 1 ns to 60 s. Longer is recorded as 60 s; minimum, mean and maximum stay exact.
const HIGHEST_NANOS: u64 = 60_000_000_000;
/// Significant decimal digits of a quantile.
const DIGITS: u8 = 3;

/// So many are noted before they are sorted into the histogram: it has left the cache each time that the kernel has sent something,
/// and then takes some 50 ns for one and hardly more for many.
const PENDING: usize = 32;

/// Durations in ns. Takes 0.2 MiB.
#[derive(Debug)]
pub(super) struct Times {
    count: u64,
    /// In a cell, as also who only reads wants all of them sorted in.
    inner: RefCell<Inner>,
}

#[derive(Debug)]
struct Inner {
    waiting: usize,
    /// Of which the first ones are not in what follows.
    pending: [u64; PENDING],
    histogram: Histogram<u64>,
    sum: u128,
    min: u64,
    max: u64,
}

impl Inner {
    fn sort_in(&mut self) {
        for &nanos in &self.pending[..self.waiting] {
            self.histogram.saturating_record(nanos);
            self.sum += u128::from(nanos);
            self.min = self.min.min(nanos);
            self.max = self.max.max(nanos);
        }
        self.waiting = 0;
    }
}

/// What is told of them: round-trip times, or how late pings left, in ns. Minimum, mean and maximum are exact, quantiles good to 3
/// digits.
#[derive(Debug, Clone, Copy, PartialEq, Eq, serde::Serialize)]
pub struct Latency {
    /// How many there are: of round trips the pings that were answered and have both stamps, without those whose difference is
    /// negative.
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

impl Times {
    /// Allocates, and touches what it has allocated so that the hot loop meets no page fault.
    pub(super) fn new() -> Self {
        let mut histogram = Histogram::new_with_bounds(1, HIGHEST_NANOS, DIGITS)
            .expect("the bounds are constants in hdrhistogram's range");
        histogram.reset();
        let inner = Inner { waiting: 0, pending: [0; PENDING], histogram, sum: 0, min: u64::MAX, max: 0 };
        Self { count: 0, inner: RefCell::new(inner) }
    }

    /// Forgets everything. Allocates nothing.
    pub(super) fn clear(&mut self) {
        self.count = 0;
        let inner = self.inner.get_mut();
        inner.histogram.reset();
        (inner.waiting, inner.sum, inner.min, inner.max) = (0, 0, u64::MAX, 0);
    }

    #[inline]
    pub(super) fn record(&mut self, nanos: u64) {
        self.count += 1;
        let inner = self.inner.get_mut();
        inner.pending[inner.waiting] = nanos;
        inner.waiting += 1;
        if inner.waiting == PENDING {
            inner.sort_in();
        }
    }

    pub(super) fn count(&self) -> u64 {
        self.count
    }

    /// All of them together; what 64 bits have no room for, 584 years, is left out.
    pub(super) fn sum(&self) -> u64 {
        let mut inner = self.inner.borrow_mut();
        inner.sort_in();
        u64::try_from(inner.sum).unwrap_or(u64::MAX)
    }

    /// `None` where there are none.
    pub(super) fn latency(&self) -> Option<Latency> {
        let count = self.count;
        if count == 0 {
            return None;
        }
        let mut inner = self.inner.borrow_mut();
        inner.sort_in();
        let Inner { histogram, sum, min, max, .. } = &*inner;
        // A quantile is the upper end of a bucket, which may lie beyond the largest value in it.
        let quantile = |q| histogram.value_at_quantile(q).clamp(*min, *max);
        let mean = (sum + u128::from(count / 2)) / u128::from(count);
        Some(Latency {
            count,
            min: *min,
            mean: mean as u64,
            p50: quantile(0.5),
            p90: quantile(0.9),
            p99: quantile(0.99),
            p999: quantile(0.999),
            max: *max,
        })
    }

    /// Bytes that it has allocated.
    #[cfg(test)]
    pub(super) fn allocated(&self) -> usize {
        self.inner.borrow().histogram.distinct_values() * size_of::<u64>()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_told_has_all_that_was_recorded_at_any_moment() {
        let mut times = Times::new();
        for nanos in 1..=100 {
            times.record(nanos * 10);
            let latency = times.latency().unwrap();
            assert_eq!((latency.count, latency.min, latency.max), (nanos, 10, nanos * 10));
            assert_eq!((latency.mean, times.sum()), (5 * (nanos + 1), 5 * nanos * (nanos + 1)));
            assert_eq!(latency.p50, nanos.div_ceil(2) * 10);
        }
        times.record(7);
        times.clear();
        assert_eq!((times.count(), times.sum(), times.latency()), (0, 0, None));
        (0..70).for_each(|_| times.record(3));
        assert_eq!(times.latency().map(|latency| (latency.count, latency.min, latency.max)), Some((70, 3, 3)));
    }
}
