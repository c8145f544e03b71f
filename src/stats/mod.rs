//! Many durations as few numbers: count, extremes, mean, percentiles, and bins for pictures.
//!
//! A [`Distribution`] takes samples one by one in bounded memory. Up to [`EXACT`] of them it keeps all, so its percentiles
//! are samples; beyond that the percentiles of the new ones have [`DIGITS`] digits. Count, extremes and mean stay exact.
//! Samples keep their sign.
#![forbid(unsafe_code)]

mod distribution;

pub use distribution::{Batch, Bin, DIGITS, Distribution, EXACT, PREALLOCATED_DIGITS};

use serde::Serialize;

/// What is said of a distribution. In the unit of its samples, mostly ns.
///
/// Percentiles are by nearest rank: the smallest sample that at least so many percent of all are not above.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub struct Summary {
    /// Number of samples.
    pub count: u64,
    /// The smallest.
    pub min: i64,
    /// The arithmetic mean.
    pub mean: f64,
    /// The standard deviation of the population; 0 of a single sample.
    pub stddev: f64,
    /// The median.
    pub p50: i64,
    /// The 90th percentile.
    pub p90: i64,
    /// The 99th percentile.
    pub p99: i64,
    /// The 99.9th percentile.
    pub p999: i64,
    /// The 99.99th percentile.
    pub p9999: i64,
    /// The largest.
    pub max: i64,
}
