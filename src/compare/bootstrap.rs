//! How far a difference of percentiles can be trusted: a bootstrap over rounds, and what the pairs of rounds say themselves.
//!
//! Samples of one round are not independent (what disturbs one ping disturbs its neighbours), rounds are more nearly so.
//! So rounds are drawn with replacement, in pairs, as the two of a pair ran one behind the other; of what is drawn the
//! percentiles of all samples together are reckoned, and their difference. The middle 95 % of such differences are Efron's
//! percentile interval.
//!
//! Of few pairs that is too narrow: a drawing of n spreads as if the deviation were divided by n and not by n − 1, and by the
//! normal distribution where it is Student's t. So each end is moved away from the estimate by
//! t(0.975, n − 1) / 1.96 · √(n / (n − 1)). That is right for mean and median.
//!
//! It is not for the tail: where one or two rounds have all of it, a bootstrap does not know how far a maximum may go, and would
//! claim a difference in some 15 % of the comparisons that have none. The pairs' own differences (the second's percentile less the
//! first's, of each pair) know: without a difference they are as often below 0 as above it, whatever the rounds are like, and of such
//! samples Student's interval of the mean claims in 5 % at most, in fewer where some are far out. What is reported holds both
//! intervals, so that a difference is claimed where both say so. Below [`MIN_PAIRS`] nothing is claimed at all. It knows nothing of
//! what would differ on another day or another machine.

use serde::Serialize;
use statrs::distribution::{ContinuousCDF, StudentsT};

/// How often rounds are drawn.
pub const RESAMPLES: usize = 2000;
/// The share of them that the interval holds.
pub const LEVEL: f64 = 0.95;
/// Of fewer pairs of rounds no difference is claimed, whatever the interval.
pub const MIN_PAIRS: usize = 6;
/// How the interval was reckoned.
pub const METHOD: &str = "from the lower low to the higher high of two intervals: bootstrap over pairs of rounds, percentile interval, \
                          widened by t(0.975, n-1)/1.96*sqrt(n/(n-1)); and Student's t of the pairs' own differences";
/// 97.5 % of normal samples are below it.
const Z: f64 = 1.959_964;
/// The generator begins with this: the same samples have the same interval.
const SEED: u64 = 0x7864_7072_6f62_6500;

/// A difference, in ns.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
pub struct Interval {
    /// Of all rounds.
    pub estimate: i64,
    /// The lower end of the interval.
    pub low: i64,
    /// Its upper end.
    pub high: i64,
    /// The interval holds 0, or the rounds are too few to say: what there is of a difference may be chance.
    pub within_noise: bool,
}

/// The second less the first, in each percentile.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
pub struct Differences {
    /// There are fewer than [`MIN_PAIRS`] pairs of which both rounds have samples.
    pub too_few_rounds: bool,
    /// Of the means.
    pub mean: Interval,
    /// Of the medians.
    pub p50: Interval,
    /// Of the 90th percentiles.
    pub p90: Interval,
    /// Of the 99th percentiles.
    pub p99: Interval,
    /// Of the 99.9th percentiles.
    pub p999: Interval,
}

impl Differences {
    /// Each with its name.
    pub fn named(&self) -> [(&'static str, Interval); 5] {
        let Self { mean, p50, p90, p99, p999, .. } = *self;
        [("mean", mean), ("p50", p50), ("p90", p90), ("p99", p99), ("p99.9", p999)]
    }
}

/// A round's samples in ascending order, with their sum.
struct Round<'a> {
    samples: &'a [i64],
    sum: i128,
}

impl Round<'_> {
    /// Mean and percentiles of this round alone; `None` where it has no sample.
    fn own(&self) -> Option<[f64; 5]> {
        let count = std::num::NonZeroU64::new(self.samples.len() as u64)?.get();
        let at = |permille: u64| self.samples[((count * permille).div_ceil(1000) - 1) as usize] as f64;
        let [p50, p90, p99, p999] = PERMILLES.map(at);
        Some([self.sum as f64 / count as f64, p50, p90, p99, p999])
    }
}

/// What of a drawing is looked at: the mean and the percentiles, in thousandths.
const PERMILLES: [u64; 4] = [500, 900, 990, 999];

/// The rounds of one side.
struct Side<'a> {
    rounds: Vec<Round<'a>>,
    /// The samples of all of them, in ascending order.
    all: Vec<i64>,
}

impl<'a> Side<'a> {
    fn new(rounds: impl Iterator<Item = &'a [i64]>) -> Self {
        let sum = |samples: &[i64]| samples.iter().map(|sample| i128::from(*sample)).sum();
        let rounds: Vec<_> = rounds.map(|samples| Round { samples, sum: sum(samples) }).collect();
        let mut all: Vec<i64> = rounds.iter().flat_map(|round| round.samples).copied().collect();
        all.sort_unstable();
        Self { rounds, all }
    }

    /// Mean and percentiles of the rounds, each taken so many times; `None` where they have no sample.
    fn numbers(&self, weights: &[u64]) -> Option<[i64; 5]> {
        let taken: Vec<_> = self.rounds.iter().zip(weights.iter().copied()).filter(|(_, weight)| *weight > 0).collect();
        let count: u64 = taken.iter().map(|(round, weight)| round.samples.len() as u64 * weight).sum();
        if count == 0 {
            return None;
        }
        let sum: i128 = taken.iter().map(|(round, weight)| round.sum * i128::from(*weight)).sum();
        let not_above = |value: i64| -> u64 {
            let of = |round: &Round<'_>| round.samples.partition_point(|sample| *sample <= value) as u64;
            taken.iter().map(|(round, weight)| weight * of(round)).sum()
        };
        let [p50, p90, p99, p999] = PERMILLES.map(|permille| {
            let rank = (count * permille).div_ceil(1000);
            self.all[self.all.partition_point(|value| not_above(*value) < rank)]
        });
        Some([(sum as f64 / count as f64).round() as i64, p50, p90, p99, p999])
    }
}

/// The differences between pairs of rounds, the second's less the first's. Each round's samples are in ascending order.
/// `None` where one side has no sample at all.
pub fn differences(pairs: &[(&[i64], &[i64])]) -> Option<Differences> {
    differences_of(pairs, RESAMPLES)
}

fn differences_of(pairs: &[(&[i64], &[i64])], resamples: usize) -> Option<Differences> {
    let first = Side::new(pairs.iter().map(|(first, _)| *first));
    let second = Side::new(pairs.iter().map(|(_, second)| *second));
    let once = vec![1; pairs.len()];
    let difference = |weights: &[u64]| -> Option<[i64; 5]> {
        let (first, second) = (first.numbers(weights)?, second.numbers(weights)?);
        Some(std::array::from_fn(|at| second[at] - first[at]))
    };
    let estimates = difference(&once)?;
    let mut random = fastrand::Rng::with_seed(SEED);
    let mut drawn: [Vec<i64>; 5] = std::array::from_fn(|_| Vec::with_capacity(resamples));
    let mut weights = once;
    for _ in 0..resamples {
        weights.fill(0);
        (0..pairs.len()).for_each(|_| weights[random.usize(..pairs.len())] += 1);
        // A drawing of rounds that lost every ping says nothing.
        let Some(differences) = difference(&weights) else { continue };
        drawn.iter_mut().zip(differences).for_each(|(all, difference)| all.push(difference));
    }
    let whole = pairs.iter().filter(|(first, second)| !first.is_empty() && !second.is_empty()).count();
    let too_few_rounds = whole < MIN_PAIRS;
    let own = first.rounds.iter().zip(&second.rounds).filter_map(|(first, second)| {
        let (first, second) = (first.own()?, second.own()?);
        Some(std::array::from_fn::<f64, 5, _>(|at| second[at] - first[at]))
    });
    let own: Vec<_> = own.collect();
    let mut intervals = estimates.into_iter().zip(drawn).enumerate().map(|(at, (estimate, drawn))| {
        let of_drawings = interval(estimate, drawn, widening(whole));
        let of_pairs = of_pairs(&own.iter().map(|differences| differences[at]).collect::<Vec<_>>());
        let [low, high] = hull(of_drawings, of_pairs);
        Interval { estimate, low, high, within_noise: too_few_rounds || low <= 0 && 0 <= high }
    });
    let mut next = || intervals.next().expect("five of each");
    Some(Differences { too_few_rounds, mean: next(), p50: next(), p90: next(), p99: next(), p999: next() })
}

/// How much wider than the percentile interval of so many pairs one is that holds the truth as often as it says. There is
/// no interval of one pair: it has that of two.
fn widening(pairs: usize) -> f64 {
    let pairs = pairs.max(2);
    let n = pairs as f64;
    student(pairs - 1) / Z * (n / (n - 1.0)).sqrt()
}

/// The quantile of Student's t that (1 + [`LEVEL`]) / 2 of it are below.
fn student(freedom: usize) -> f64 {
    let distribution = StudentsT::new(0.0, 1.0, freedom as f64).expect("there is more than one pair");
    distribution.inverse_cdf((1.0 + LEVEL) / 2.0)
}

/// Student's interval of the mean of these; `None` of fewer than two.
fn of_pairs(differences: &[f64]) -> Option<[f64; 2]> {
    let n = differences.len() as f64;
    let freedom = differences.len().checked_sub(1).filter(|freedom| *freedom > 0)?;
    let mean = differences.iter().sum::<f64>() / n;
    let variance = differences.iter().map(|difference| (difference - mean).powi(2)).sum::<f64>() / freedom as f64;
    let reach = student(freedom) * (variance / n).sqrt();
    Some([mean - reach, mean + reach])
}

/// From the lower low to the higher high.
fn hull([low, high]: [i64; 2], other: Option<[f64; 2]>) -> [i64; 2] {
    let Some(other) = other else { return [low, high] };
    [low.min(other[0].floor() as i64), high.max(other[1].ceil() as i64)]
}

/// The middle of what was drawn, its ends moved away from the estimate.
fn interval(estimate: i64, mut drawn: Vec<i64>, widening: f64) -> [i64; 2] {
    drawn.sort_unstable();
    let outside = (1.0 - LEVEL) / 2.0;
    let at = |share: f64| {
        let rank = (share * drawn.len() as f64).ceil() as usize;
        drawn.get(rank.clamp(1, drawn.len().max(1)) - 1).copied().unwrap_or(estimate)
    };
    // Percentiles leap: the estimate may lie outside of what was drawn.
    let widened = |end: i64| ((end - estimate) as f64 * widening) as i64;
    let low = estimate.saturating_add(widened(at(outside)).min(0));
    let high = estimate.saturating_add(widened(at(1.0 - outside)).max(0));
    [low, high]
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::stats::Distribution;
    use proptest::prelude::*;

    fn pairs<'a>(first: &'a [Vec<i64>], second: &'a [Vec<i64>]) -> Vec<(&'a [i64], &'a [i64])> {
        first.iter().zip(second).map(|(first, second)| (&first[..], &second[..])).collect()
    }

    /// Rounds of samples around `base`, each round with an offset of its own: what differs from round to round.
    fn rounds(random: &mut fastrand::Rng, count: usize, base: i64, spread: i64) -> Vec<Vec<i64>> {
        let round = |_| {
            let offset = random.i64(-spread..=spread);
            let mut samples: Vec<i64> = (0..100).map(|_| base + offset + random.i64(0..1000)).collect();
            samples.sort_unstable();
            samples
        };
        (0..count).map(round).collect()
    }

    #[test]
    fn the_estimate_is_the_difference_of_nearest_ranks() {
        let mut random = fastrand::Rng::with_seed(7);
        let (first, second) = (rounds(&mut random, 9, 5000, 50), rounds(&mut random, 9, 9000, 50));
        let found = differences(&pairs(&first, &second)).unwrap();
        let summary = |rounds: &[Vec<i64>]| {
            let mut all = Distribution::new();
            rounds.iter().flatten().for_each(|sample| all.record(*sample));
            all.summary().unwrap()
        };
        let (a, b) = (summary(&first), summary(&second));
        let expected = [b.p50 - a.p50, b.p90 - a.p90, b.p99 - a.p99, b.p999 - a.p999];
        assert_eq!([found.p50, found.p90, found.p99, found.p999].map(|interval| interval.estimate), expected);
        assert!((found.mean.estimate as f64 - (b.mean - a.mean)).abs() <= 1.0);
        for (name, Interval { estimate, low, high, within_noise }) in found.named() {
            assert!(low <= estimate && estimate <= high && !within_noise, "{name}");
        }
        // The same samples, the same interval.
        assert_eq!(differences(&pairs(&first, &second)), Some(found));
    }

    #[test]
    fn equal_sides_are_within_the_noise_and_empty_ones_say_nothing() {
        let mut random = fastrand::Rng::with_seed(8);
        let one = rounds(&mut random, 5, 5000, 50);
        let same = differences(&pairs(&one, &one)).unwrap();
        assert!(same.named().iter().all(|(_, interval)| interval.within_noise && interval.estimate == 0));
        let none = vec![Vec::new(); 5];
        assert_eq!(differences(&pairs(&one, &none)), None);
        assert_eq!(differences(&[]), None);
        // A round without samples is no round of zeros.
        let mut holes = one.clone();
        holes[2].clear();
        assert!(differences(&pairs(&one, &holes)).unwrap().p50.estimate.abs() < 500);
    }

    #[test]
    fn negative_samples_keep_their_sign() {
        let first = vec![vec![-50, -40, -30]; 4];
        let second = vec![vec![-5, 0, 5]; 4];
        let found = differences(&pairs(&first, &second)).unwrap();
        assert_eq!((found.p50.estimate, found.p50.low, found.p50.high, found.mean.estimate), (40, 40, 40, 40));
    }

    #[test]
    fn students_t_is_that_of_the_tables() {
        for (freedom, expected) in
            [(1, 12.706), (5, 2.571), (10, 2.228), (11, 2.201), (18, 2.101), (30, 2.042), (120, 1.980)]
        {
            assert!((student(freedom) - expected).abs() < 0.001, "{freedom}: {}", student(freedom));
        }
        assert!((student(9998) - 1.960_201).abs() < 1e-5, "of as many rounds as there may be");
        assert!((widening(6) - 2.571 / 1.96 * 1.2_f64.sqrt()).abs() < 0.001);
        assert_eq!((widening(0), widening(1)), (widening(2), widening(2)));
    }

    /// Normal enough: the sum of 12 even ones.
    fn normal(random: &mut fastrand::Rng, deviation: f64) -> i64 {
        ((0..12).map(|_| random.f64()).sum::<f64>().mul_add(deviation, -6.0 * deviation)).round() as i64
    }

    /// How rounds differ from each other.
    #[derive(Debug, Clone, Copy)]
    struct World {
        /// Deviation of the logarithm of what both rounds of a pair have in common.
        pair: f64,
        /// The same of what each round has of its own.
        round: f64,
        /// Of a hundred rounds so many have a tenth of their samples twenty times as long.
        stalled: u32,
    }

    /// Pairs of rounds of log-normal samples; the second's are `factor` times as long.
    fn simulated(random: &mut fastrand::Rng, world: World, pairs: usize, factor: f64) -> [Vec<Vec<i64>>; 2] {
        let log_normal =
            |random: &mut fastrand::Rng, deviation: f64| (normal(random, 1e6) as f64 / 1e6 * deviation).exp();
        let common: Vec<f64> = (0..pairs).map(|_| log_normal(random, world.pair)).collect();
        [1.0, factor].map(|factor| {
            let round = |common: &f64| {
                let typical = 20_000.0 * common * factor * log_normal(random, world.round);
                let stalls = random.u32(0..100) < world.stalled;
                let sample = |at| {
                    let stall = if stalls && at % 10 == 0 { 20.0 } else { 1.0 };
                    (typical * stall * log_normal(random, 0.3)) as i64
                };
                let mut samples: Vec<i64> = (0..10).map(sample).collect();
                samples.sort_unstable();
                samples
            };
            common.iter().map(round).collect()
        })
    }

    /// Each comparison draws this often, not [`RESAMPLES`] times, for time. With as many the same simulations claim no more: 87 of 2000
    /// at most, of the mean of pairs that are alike, where these claim 90.
    const FEW_DRAWINGS: usize = 40;

    /// How many of so many comparisons claim a difference: of mean, p50, p90, p99 and p99.9.
    fn claims(world: World, pairs_of_rounds: usize, factor: f64, trials: usize) -> [usize; 5] {
        let mut random = fastrand::Rng::with_seed(10);
        let mut claims = [0; 5];
        for _ in 0..trials {
            let [first, second] = simulated(&mut random, world, pairs_of_rounds, factor);
            let found = differences_of(&pairs(&first, &second), FEW_DRAWINGS).unwrap();
            assert_eq!(found.too_few_rounds, pairs_of_rounds < MIN_PAIRS);
            for (claims, (_, interval)) in claims.iter_mut().zip(found.named()) {
                *claims += usize::from(!interval.within_noise);
            }
        }
        claims
    }

    const ALIKE: World = World { pair: 0.3, round: 0.05, stalled: 0 };
    const UNLIKE: World = World { pair: 0.7, round: 0.7, stalled: 0 };
    const STALLING: World = World { pair: 0.5, round: 0.2, stalled: 25 };

    #[test]
    fn where_there_is_no_difference_one_is_claimed_of_twenty_times_at_most_also_in_the_tail() {
        for (world, pairs_of_rounds) in [(ALIKE, 6), (UNLIKE, 6), (UNLIKE, 9), (STALLING, 6)] {
            let claims = claims(world, pairs_of_rounds, 1.0, 2000);
            assert!(claims.iter().all(|claims| *claims <= 2000 * 6 / 100), "{world:?}, {pairs_of_rounds}: {claims:?}");
        }
        for pairs_of_rounds in [2, 5] {
            assert_eq!(claims(UNLIKE, pairs_of_rounds, 1.0, 200), [0; 5], "too few rounds");
        }
    }

    #[test]
    fn where_there_is_a_difference_it_is_found_most_times() {
        // Of a tail that is that of a stall or two nobody can say.
        for (world, factor, percentiles) in [(ALIKE, 1.5, 3), (UNLIKE, 10.0, 3), (STALLING, 2.0, 1)] {
            let claims = claims(world, 9, factor, 200);
            assert!(claims[1..=percentiles].iter().all(|claims| *claims >= 120), "{world:?}: {claims:?} of 200");
        }
    }

    #[test]
    fn a_pair_of_which_one_round_has_no_sample_is_none() {
        let mut random = fastrand::Rng::with_seed(11);
        let (first, mut second) = (rounds(&mut random, 6, 5000, 50), rounds(&mut random, 6, 9000, 50));
        let found = differences(&pairs(&first, &second)).unwrap();
        assert!(!found.too_few_rounds && !found.p50.within_noise);
        second[3].clear();
        let found = differences(&pairs(&first, &second)).unwrap();
        assert!(found.too_few_rounds && found.named().iter().all(|(_, interval)| interval.within_noise));
    }

    /// Of 100 comparisons whose truth is known, the interval of the median holds it about as often as it says.
    #[test]
    fn the_interval_holds_the_truth_about_as_often_as_it_says() {
        let mut random = fastrand::Rng::with_seed(9);
        let truth = 300;
        let trials = 100;
        let held = (0..trials)
            .filter(|_| {
                let (first, second) = (rounds(&mut random, 10, 5000, 200), rounds(&mut random, 10, 5000 + truth, 200));
                let found = differences_of(&pairs(&first, &second), 300).unwrap().p50;
                found.low <= truth && truth <= found.high
            })
            .count();
        assert!((trials * 88 / 100..=trials).contains(&held), "{held} of {trials}");
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(16))]
        /// What all samples of one side have more than the other's is found exactly, whatever they are.
        #[test]
        fn a_shift_is_found(
            rounds in proptest::collection::vec(proptest::collection::vec(-1_000_000_i64..1_000_000_000, 1..30), 1..8),
            shift in -1_000_000_i64..1_000_000,
        ) {
            let first: Vec<Vec<i64>> = rounds.into_iter().map(|mut round| { round.sort_unstable(); round }).collect();
            let second: Vec<Vec<i64>> =
                first.iter().map(|round| round.iter().map(|sample| sample + shift).collect()).collect();
            let found = differences(&pairs(&first, &second)).unwrap();
            for (name, Interval { estimate, low, high, within_noise }) in found.named() {
                let slack = i64::from(name == "mean");
                prop_assert!((estimate - shift).abs() <= slack && (low - shift).abs() <= slack && (high - shift).abs() <= slack);
                prop_assert!(within_noise == (found.too_few_rounds || low <= 0 && high >= 0));
            }
        }
    }
}
