//! Distributions beside the samples that they are of.

use super::*;
use proptest::prelude::*;

fn of(samples: &[i64]) -> Distribution {
    let mut distribution = Distribution::new();
    samples.iter().for_each(|sample| distribution.record(*sample));
    distribution
}

/// By the definition, of samples in ascending order.
fn nearest_rank(sorted: &[i64], per_10_000: usize) -> i64 {
    sorted[(sorted.len() * per_10_000).div_ceil(10_000).max(1) - 1]
}

#[test]
fn nothing_has_no_numbers() {
    let mut empty = Distribution::new();
    assert_eq!((empty.count(), empty.summary(), empty.quantile(0.5), empty.mean()), (0, None, None, None));
    assert_eq!(empty.bins(), []);
}

#[test]
fn ranks_are_not_rounded_away() {
    let mut thousand = of(&(1..=1000).collect::<Vec<_>>());
    let summary = thousand.summary().unwrap();
    assert_eq!((summary.p50, summary.p90, summary.p99, summary.p999, summary.p9999), (500, 900, 990, 999, 1000));
    assert_eq!((summary.min, summary.max, summary.mean), (1, 1000, 500.5));
    assert!((summary.stddev - 288.674_990_257).abs() < 1e-6, "{}", summary.stddev);
    assert_eq!((thousand.quantile(0.0), thousand.quantile(1.0)), (Some(1), Some(1000)));
}

#[test]
fn the_spread_of_large_numbers_is_not_lost() {
    let hour = 3_600_000_000_000;
    let summary = of(&[hour + 1, hour + 3]).summary().unwrap();
    assert_eq!((summary.stddev, summary.mean), (1.0, (hour + 2) as f64));
}

#[test]
fn beyond_the_bound_percentiles_have_their_digits_and_the_rest_is_exact() {
    let many: Vec<i64> = (0..EXACT as i64 + 100_000).map(|n| (n * 7919) % 1_000_003 - 400_000).collect();
    let mut distribution = of(&many);
    let mut sorted = many.clone();
    sorted.sort_unstable();
    assert!(!distribution.is_exact());
    let summary = distribution.summary().unwrap();
    assert_eq!((summary.count, summary.min, summary.max), (many.len() as u64, sorted[0], sorted[many.len() - 1]));
    let mean = many.iter().sum::<i64>() as f64 / many.len() as f64;
    assert!((summary.mean - mean).abs() < 1e-6, "{} {mean}", summary.mean);
    for per_10_000 in [1, 100, 1000, 3999, 4000, 5000, 9000, 9900, 9990, 9999, 10_000] {
        let exact = nearest_rank(&sorted, per_10_000);
        let found = distribution.quantile(per_10_000 as f64 / 10_000.0).unwrap();
        assert!((found - exact).abs() as f64 <= 1.0 + exact.abs() as f64 * 1e-4, "{per_10_000}: {found} {exact}");
    }
    let bins = distribution.bins();
    assert_eq!(bins.iter().map(|bin| bin.count).sum::<u64>(), summary.count);
    assert!(bins.windows(2).all(|pair| pair[0].high < pair[1].low), "ascending and apart");
    assert_eq!((bins[0].low, bins[bins.len() - 1].high), (summary.min, summary.max));
}

#[test]
fn one_that_allocates_nothing_later_takes_any_samples_and_is_merged_into_others() {
    let mut samples: Vec<i64> = (0..10_000).map(|n| n * 997 % 40_009 - 2_000).collect();
    samples.extend([i64::MIN, i64::MAX, -86_400_000_000_000]);
    let mut fixed = Distribution::preallocated();
    assert_eq!(fixed.summary_of_sorted(), None);
    for round in 0..2 {
        samples.iter().for_each(|sample| fixed.record(*sample));
        let mut sorted = samples.clone();
        sorted.sort_unstable();
        let summary = fixed.summary_of_sorted().unwrap();
        assert_eq!(Some(summary), fixed.summary());
        assert_eq!((summary.count, summary.min, summary.max), (10_003, i64::MIN, i64::MAX));
        let near = |found: i64, per_10_000| {
            let exact = nearest_rank(&sorted, per_10_000);
            assert!((found - exact).abs() as f64 <= 1.0 + exact.abs() as f64 * 1e-3, "{round}: {found} {exact}");
        };
        near(summary.p50, 5000);
        near(summary.p99, 9900);
        let mut others = of(&[1, 2]);
        others.merge(&fixed);
        assert_eq!(others.count(), 10_005);
        let mut none = Distribution::new();
        none.merge(&fixed);
        none.merge(&of(&[i64::MAX; 3]));
        assert_eq!(none.count(), 10_006);
        fixed.clear();
        assert_eq!((fixed.count(), fixed.summary(), fixed.bins()), (0, None, vec![]));
    }
    fixed.record(-5);
    assert_eq!(
        fixed.summary().map(|summary| (summary.count, summary.min, summary.p50, summary.max)),
        Some((1, -5, -5, -5))
    );
}

#[test]
fn batches_that_are_further_apart_than_half_the_range_have_the_mean_of_all() {
    let mut batched = of(&[i64::MAX]);
    batched.record_all(&Batch::of(&[i64::MIN, 0, 1]).unwrap());
    assert_eq!(batched.mean(), Some(0.0));
    let mut merged = of(&[i64::MIN]);
    merged.merge(&of(&[i64::MAX]));
    assert_eq!(merged.mean(), Some(0.0));
}

proptest! {
    /// In batches of any size, also beyond what is kept as it is.
    #[test]
    fn all_at_once_is_as_one_by_one(
        samples in prop::collection::vec(-1_000_000_000i64..1_000_000_000_000, 1..9000),
        size in 1usize..3000,
        extremes: bool,
    ) {
        let mut samples = samples;
        if extremes {
            samples.extend([i64::MIN, i64::MAX, 0]);
        }
        let (mut single, mut batched) = (Distribution::small(), Distribution::small());
        samples.iter().for_each(|sample| single.record(*sample));
        samples.chunks(size).for_each(|chunk| batched.record_all(&Batch::of(chunk).unwrap()));
        prop_assert!(Batch::of(&[]).is_none());
        prop_assert_eq!(single.bins(), batched.bins());
        prop_assert_eq!(single.is_exact(), batched.is_exact());
        let [single, batched] = [single, batched].map(|mut distribution| distribution.summary().unwrap());
        let (near, wide) = (single.stddev * 1e-6 + 1e-3, single.max as f64 - single.min as f64);
        prop_assert!(extremes || (single.stddev - batched.stddev).abs() <= near, "{:?} {:?}", single, batched);
        prop_assert!((single.mean - batched.mean).abs() <= 1e-9 * wide + 1e-3, "{:?} {:?}", single, batched);
        let rest = |summary: Summary| (summary.count, summary.min, summary.p50, summary.p9999, summary.max);
        prop_assert_eq!(rest(single), rest(batched));
    }

    #[test]
    fn percentiles_are_samples_by_the_definition(samples in prop::collection::vec(-1_000_000i64..1_000_000, 1..3000)) {
        let mut distribution = of(&samples);
        let mut sorted = samples.clone();
        sorted.sort_unstable();
        for per_10_000 in [1, 5000, 9000, 9900, 9990, 9999, 10_000] {
            prop_assert_eq!(distribution.quantile(per_10_000 as f64 / 10_000.0), Some(nearest_rank(&sorted, per_10_000)));
        }
    }

    #[test]
    fn merged_is_as_if_recorded_in_one(
        left in prop::collection::vec(any::<i32>(), 0..200),
        right in prop::collection::vec(any::<i32>(), 0..200),
    ) {
        let (left, right): (Vec<i64>, Vec<i64>) =
            (left.into_iter().map(i64::from).collect(), right.into_iter().map(i64::from).collect());
        let mut merged = of(&left);
        merged.merge(&of(&right));
        let mut whole = of(&[left, right].concat());
        prop_assert_eq!(merged.bins(), whole.bins());
        match (merged.summary(), whole.summary()) {
            (Some(merged), Some(whole)) => {
                prop_assert!((merged.mean - whole.mean).abs() < 1e-3 && (merged.stddev - whole.stddev).abs() < 1.0);
                let rest = |summary: Summary| (summary.count, summary.min, summary.p50, summary.p999, summary.max);
                prop_assert_eq!(rest(merged), rest(whole));
            }
            (merged, whole) => prop_assert_eq!(merged, whole),
        }
    }
}
