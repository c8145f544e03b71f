//! Samples in bounded memory.

use super::Summary;
use hdrhistogram::Histogram;

/// Up to so many samples are kept as they are: 2 MiB of them.
pub const EXACT: usize = 1 << 18;
/// Significant decimal digits of a percentile where there are more.
pub const DIGITS: u8 = 4;
/// The same where nothing may be allocated later ([`Distribution::preallocated`]).
pub const PREALLOCATED_DIGITS: u8 = 3;
/// The largest magnitude that further samples are told apart in: 2^62 ns is 146 years.
const HIGHEST: u64 = 1 << 62;

/// What one of many is given: samples that are kept as they are, 32 KiB of them.
const SMALL: usize = 1 << 12;
/// What one of many is given: significant decimal digits where there are more.
const SMALL_DIGITS: u8 = 2;

/// A distribution of samples, in any unit, mostly ns.
#[derive(Debug, Clone)]
pub struct Distribution {
    /// How many samples are kept as they are, and the digits of the others.
    bounds: (usize, u8),
    /// All samples, until they become too many.
    exact: Vec<i64>,
    /// `exact` is in ascending order.
    sorted: bool,
    /// Where there are too many: of each sign a histogram of magnitudes. They grow with what they are given.
    coarse: Option<Box<Coarse>>,
    count: u64,
    /// Of the samples less the first one: their squares do not lose what distinguishes large numbers of nearly one size.
    sum: i128,
    squares: f64,
    mean_so_far: f64,
    first: i64,
    min: i64,
    max: i64,
}

#[derive(Debug, Clone)]
struct Coarse {
    /// −1 − x of the samples below 0.
    negative: Histogram<u64>,
    /// The others.
    positive: Histogram<u64>,
}

/// A range of values, and how many samples lie in it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Bin {
    /// The smallest value of the range.
    pub low: i64,
    /// The largest.
    pub high: i64,
    /// Samples in it.
    pub count: u64,
}

/// Some samples, with what a distribution needs of them: for several distributions that is reckoned once.
#[derive(Debug, Clone, Copy)]
pub struct Batch<'a> {
    samples: &'a [i64],
    moments: Moments,
}

/// What is known of samples as a whole, apart from their order.
#[derive(Debug, Clone, Copy)]
struct Moments {
    count: u64,
    first: i64,
    min: i64,
    max: i64,
    /// Of the samples less the first one: sum, mean, and the sum of the squares of their deviations.
    sum: i128,
    mean: f64,
    squares: f64,
}

impl<'a> Batch<'a> {
    /// `None` of nothing.
    pub fn of(samples: &'a [i64]) -> Option<Self> {
        let first = *samples.first()?;
        let (mut min, mut max, mut sum) = (first, first, 0_i128);
        for sample in samples {
            min = min.min(*sample);
            max = max.max(*sample);
            sum += i128::from(*sample) - i128::from(first);
        }
        let mean = sum as f64 / samples.len() as f64;
        let deviation = |sample: &i64| sample.wrapping_sub(first) as f64 - mean;
        let squares = samples.iter().map(|sample| deviation(sample) * deviation(sample)).sum();
        Some(Self { samples, moments: Moments { count: samples.len() as u64, first, min, max, sum, mean, squares } })
    }
}

impl Default for Distribution {
    fn default() -> Self {
        Self::bounded(EXACT, DIGITS)
    }
}

impl Distribution {
    /// An empty one. Allocates with its first samples.
    pub fn new() -> Self {
        Self::default()
    }

    /// One that allocates nothing later, and meets no page fault: it keeps no samples, so that all percentiles have
    /// [`PREALLOCATED_DIGITS`] digits. Takes 0.9 MiB.
    pub fn preallocated() -> Self {
        let fixed = || {
            let histogram = Histogram::new_with_bounds(1, HIGHEST, PREALLOCATED_DIGITS);
            histogram.expect("the bounds are constants in hdrhistogram's range")
        };
        let coarse = Some(Box::new(Coarse { negative: fixed(), positive: fixed() }));
        let mut distribution = Self { coarse, ..Self::default() };
        // Zeroed memory is only mapped when it is written to.
        distribution.clear();
        distribution
    }

    /// Forgets all samples. What is allocated stays so.
    pub fn clear(&mut self) {
        let (mut exact, mut coarse) = (std::mem::take(&mut self.exact), self.coarse.take());
        exact.clear();
        if let Some(coarse) = &mut coarse {
            coarse.negative.reset();
            coarse.positive.reset();
        }
        *self = Self { exact, coarse, ..Self::bounded(self.bounds.0, self.bounds.1) };
    }

    /// One of many, such as those of moments in time: it keeps 4096 samples as they are, and 2 digits of percentiles where
    /// there are more. Stays under 100 KiB where the samples are under 100 s.
    pub fn small() -> Self {
        Self::bounded(SMALL, SMALL_DIGITS)
    }

    const fn bounded(exact: usize, digits: u8) -> Self {
        Self {
            bounds: (exact, digits),
            exact: Vec::new(),
            sorted: false,
            coarse: None,
            count: 0,
            sum: 0,
            squares: 0.0,
            mean_so_far: 0.0,
            first: 0,
            min: 0,
            max: 0,
        }
    }

    /// Takes one sample.
    #[inline]
    pub fn record(&mut self, sample: i64) {
        if self.count == 0 {
            (self.first, self.min, self.max) = (sample, sample, sample);
        }
        self.count += 1;
        self.min = self.min.min(sample);
        self.max = self.max.max(sample);
        self.sum += i128::from(sample) - i128::from(self.first);
        // Welford: no difference of large sums of squares.
        let shifted = sample.wrapping_sub(self.first) as f64;
        let before = shifted - self.mean_so_far;
        self.mean_so_far += before / self.count as f64;
        self.squares += before * (shifted - self.mean_so_far);
        match &mut self.coarse {
            Some(coarse) => coarse.record(sample, 1),
            None if self.exact.len() < self.bounds.0 => {
                self.exact.push(sample);
                self.sorted = false;
            }
            None => self.coarsen().record(sample, 1),
        }
    }

    /// Takes all of these samples: the same as [`Distribution::record`] of each, but for the last digits of mean and standard
    /// deviation.
    pub fn record_all(&mut self, batch: &Batch<'_>) {
        self.absorb(&batch.moments);
        let mut samples = batch.samples;
        if self.coarse.is_none() {
            let (kept, rest) = samples.split_at(samples.len().min(self.bounds.0 - self.exact.len()));
            self.exact.extend_from_slice(kept);
            self.sorted = false;
            samples = rest;
        }
        if samples.is_empty() {
            return;
        }
        let coarse = match &mut self.coarse {
            Some(coarse) => coarse,
            None => self.coarsen(),
        };
        samples.iter().for_each(|sample| coarse.record(*sample, 1));
    }

    /// Count, extremes and moments with those of other samples.
    fn absorb(&mut self, other: &Moments) {
        if self.count == 0 {
            (self.first, self.min, self.max) = (other.first, other.min, other.max);
        }
        let (own, others) = (self.count as f64, other.count as f64);
        // The two may be further apart than an i64 reaches.
        let shift = i128::from(other.first) - i128::from(self.first);
        let apart = other.mean + shift as f64 - self.mean_so_far;
        self.squares += other.squares + apart * apart * own * others / (own + others);
        self.mean_so_far += apart * others / (own + others);
        self.sum += other.sum + shift * i128::from(other.count);
        self.count += other.count;
        self.min = self.min.min(other.min);
        self.max = self.max.max(other.max);
    }

    /// Takes the samples of another.
    pub fn merge(&mut self, other: &Self) {
        if other.count == 0 {
            return;
        }
        if self.count == 0 && self.coarse.is_none() && self.bounds == other.bounds {
            *self = other.clone();
            return;
        }
        let Self { count, first, min, max, sum, mean_so_far: mean, squares, .. } = *other;
        self.absorb(&Moments { count, first, min, max, sum, mean, squares });
        match (&mut self.coarse, &other.coarse) {
            (None, None) if self.exact.len() + other.exact.len() <= self.bounds.0 => {
                self.exact.extend_from_slice(&other.exact);
                self.sorted = false;
            }
            (_, theirs) => {
                let coarse = match &mut self.coarse {
                    Some(coarse) => coarse,
                    None => self.coarsen(),
                };
                match theirs {
                    Some(theirs) => {
                        coarse.negative.add(&theirs.negative).expect("it grows with what is added");
                        coarse.positive.add(&theirs.positive).expect("it grows with what is added");
                    }
                    None => other.exact.iter().for_each(|sample| coarse.record(*sample, 1)),
                }
            }
        }
    }

    /// From now on in histograms.
    #[cold]
    fn coarsen(&mut self) -> &mut Coarse {
        let mut coarse = Box::new(Coarse { negative: growing(self.bounds.1), positive: growing(self.bounds.1) });
        for sample in std::mem::take(&mut self.exact) {
            coarse.record(sample, 1);
        }
        self.coarse.insert(coarse)
    }

    /// Number of samples.
    pub const fn count(&self) -> u64 {
        self.count
    }

    /// Whether percentiles are samples, not ends of ranges that samples lie in.
    pub const fn is_exact(&self) -> bool {
        self.coarse.is_none()
    }

    /// The arithmetic mean; `None` of nothing.
    pub fn mean(&self) -> Option<f64> {
        (self.count > 0).then(|| self.first as f64 + self.sum as f64 / self.count as f64)
    }

    /// What there is to say; `None` of nothing.
    pub fn summary(&mut self) -> Option<Summary> {
        self.sort();
        self.summary_of_sorted()
    }

    /// The same of one that has nothing to sort, such as [`Distribution::preallocated`]; `None` also where it has.
    pub fn summary_of_sorted(&self) -> Option<Summary> {
        if !self.sorted && !self.exact.is_empty() {
            return None;
        }
        let mean = self.mean()?;
        Some(Summary {
            count: self.count,
            min: self.min,
            mean,
            stddev: (self.squares / self.count as f64).max(0.0).sqrt(),
            p50: self.quantile_of_sorted(0.5)?,
            p90: self.quantile_of_sorted(0.9)?,
            p99: self.quantile_of_sorted(0.99)?,
            p999: self.quantile_of_sorted(0.999)?,
            p9999: self.quantile_of_sorted(0.9999)?,
            max: self.max,
        })
    }

    /// The sample of nearest rank: the smallest one that at least the share `q` of all are not above. `q` from 0 to 1;
    /// `None` of nothing.
    pub fn quantile(&mut self, q: f64) -> Option<i64> {
        self.sort();
        self.quantile_of_sorted(q)
    }

    fn quantile_of_sorted(&self, q: f64) -> Option<i64> {
        if self.count == 0 {
            return None;
        }
        let rank = rank(q, self.count);
        let Some(coarse) = &self.coarse else {
            return Some(self.exact[rank as usize - 1]);
        };
        let below = coarse.negative.len();
        let value = match rank <= below {
            // The largest magnitude is the smallest sample.
            true => -1 - value_at_rank(&coarse.negative, below - rank + 1),
            false => value_at_rank(&coarse.positive, rank - below),
        };
        Some(value.clamp(self.min, self.max))
    }

    /// Ranges in ascending order that together hold every sample: a sample each, or as wide as they are told apart.
    pub fn bins(&mut self) -> Vec<Bin> {
        let Some(coarse) = &self.coarse else {
            self.sort();
            let runs = self.exact.chunk_by(|a, b| a == b);
            return runs.map(|run| Bin { low: run[0], high: run[0], count: run.len() as u64 }).collect();
        };
        let ranges = |histogram: &Histogram<u64>| -> Vec<(i64, i64, u64)> {
            let recorded = histogram.iter_recorded();
            let ends = recorded.map(|step| (step.value_iterated_to(), step.count_at_value()));
            ends.map(|(value, count)| {
                (histogram.lowest_equivalent(value) as i64, histogram.highest_equivalent(value) as i64, count)
            })
            .collect()
        };
        let negative = ranges(&coarse.negative).into_iter().rev();
        let negative = negative.map(|(low, high, count)| Bin { low: -1 - high, high: -1 - low, count });
        let positive = ranges(&coarse.positive).into_iter().map(|(low, high, count)| Bin { low, high, count });
        negative
            .chain(positive)
            .map(|bin| Bin { low: bin.low.max(self.min), high: bin.high.min(self.max), ..bin })
            .collect()
    }

    fn sort(&mut self) {
        if !self.sorted {
            self.exact.sort_unstable();
            self.sorted = true;
        }
    }
}

impl Coarse {
    #[inline]
    fn record(&mut self, sample: i64, count: u64) {
        let (histogram, magnitude) = match u64::try_from(sample) {
            Ok(magnitude) => (&mut self.positive, magnitude),
            Err(_) => (&mut self.negative, !sample as u64),
        };
        histogram.record_n(magnitude.min(HIGHEST), count).expect("it grows with what it is given");
    }
}

/// From 1, as ranks are counted.
fn rank(q: f64, count: u64) -> u64 {
    // 0.999 × 1000 is 999.0000000000001 or 998.9999999999999 as the case may be: neither is another rank.
    let exact = q * count as f64;
    let nearest = exact.round();
    let rank = if (exact - nearest).abs() < 1e-9 * count as f64 { nearest } else { exact.ceil() };
    (rank as u64).clamp(1, count)
}

fn growing(digits: u8) -> Histogram<u64> {
    let mut histogram = Histogram::new(digits).expect("the digits are a constant in hdrhistogram's range");
    histogram.auto(true);
    histogram
}

/// The upper end of the range that the sample with this rank, from 1, lies in.
fn value_at_rank(histogram: &Histogram<u64>, rank: u64) -> i64 {
    // value_at_quantile rounds up to the next rank: from half a rank below it finds this one.
    histogram.value_at_quantile((rank as f64 - 0.5) / histogram.len() as f64) as i64
}

#[cfg(test)]
mod tests;
