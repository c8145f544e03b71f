//! Durations that the hot loop measures, as a histogram: in bounded memory, and nothing is allocated after the start.

use hdrhistogram::Histogram;

/// What the histogram tells apart: 1 ns to 60 s. Longer is recorded as 60 s; minimum, mean and maximum stay exact.
const HIGHEST_NANOS: u64 = 60_000_000_000;
/// Significant decimal digits of a quantile.
const DIGITS: u8 = 3;

/// Durations in ns. Takes 0.2 MiB.
#[derive(Debug)]
pub(super) struct Times {
    histogram: Histogram<u64>,
    count: u64,
    sum: u128,
    min: u64,
    max: u64,
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
        Self { histogram, count: 0, sum: 0, min: u64::MAX, max: 0 }
    }

    /// Forgets everything. Allocates nothing.
    pub(super) fn clear(&mut self) {
        self.histogram.reset();
        (self.count, self.sum, self.min, self.max) = (0, 0, u64::MAX, 0);
    }

    #[inline]
    pub(super) fn record(&mut self, nanos: u64) {
        self.histogram.saturating_record(nanos);
        self.count += 1;
        self.sum += u128::from(nanos);
        self.min = self.min.min(nanos);
        self.max = self.max.max(nanos);
    }

    pub(super) fn count(&self) -> u64 {
        self.count
    }

    /// All of them together; what 64 bits have no room for, 584 years, is left out.
    pub(super) fn sum(&self) -> u64 {
        u64::try_from(self.sum).unwrap_or(u64::MAX)
    }

    /// `None` where there are none.
    pub(super) fn latency(&self) -> Option<Latency> {
        let count = self.count;
        if count == 0 {
            return None;
        }
        // A quantile is the upper end of a bucket, which may lie beyond the largest value in it.
        let quantile = |q| self.histogram.value_at_quantile(q).clamp(self.min, self.max);
        let mean = (self.sum + u128::from(count / 2)) / u128::from(count);
        Some(Latency {
            count,
            min: self.min,
            mean: mean as u64,
            p50: quantile(0.5),
            p90: quantile(0.9),
            p99: quantile(0.99),
            p999: quantile(0.999),
            max: self.max,
        })
    }

    /// Bytes that it has allocated.
    #[cfg(test)]
    pub(super) fn allocated(&self) -> usize {
        self.histogram.distinct_values() * size_of::<u64>()
    }
}
