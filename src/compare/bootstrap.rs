//! How far a difference of percentiles can be trusted: a bootstrap over rounds.
//!
//! Samples of one round are not independent (what disturbs one ping disturbs its neighbours), rounds are more nearly so.
//! So rounds are drawn with replacement, in pairs, as the two of a pair ran one behind the other; of what is drawn the
//! percentiles of all samples together are reckoned, and their difference. The middle 95 % of such differences are Efron's
//! percentile interval.
//!
//! Of few pairs that is too narrow: a drawing of n spreads as if the deviation were divided by n and not by n − 1, and by the
//! normal distribution where it is Student's t. Of 9 pairs without any difference it would claim one in 10 % of all cases and
//! not in 5 %. So each end is moved away from the estimate by t(0.975, n − 1) / 1.96 · √(n / (n − 1)); below [`MIN_PAIRS`]
//! nothing is claimed at all. That is right for mean and median. Percentiles of the tail that are those of one or two rounds
//! are claimed too often (some 15 % of 6 pairs), as a bootstrap does not know how far a maximum may go. It knows nothing of what would differ on another day or another machine.

use serde::Serialize;

/// How often rounds are drawn.
pub const RESAMPLES: usize = 2000;
/// The share of them that the interval holds.
pub const LEVEL: f64 = 0.95;
/// Of fewer pairs of rounds no difference is claimed, whatever the interval.
pub const MIN_PAIRS: usize = 6;
/// How the interval was reckoned.
pub const METHOD: &str =
    "bootstrap over pairs of rounds, percentile interval, widened by t(0.975, n-1)/1.96*sqrt(n/(n-1))";
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

/// What of a drawing is looked at: the mean and the percentiles, in thousandths.
const PERMILLES: [u64; 4] = [500, 900, 990, 999];

/// The differences between pairs of rounds, the second's less the first's. Each round's samples are in ascending order.
/// `None` where one side has no sample at all.
pub fn differences(pairs: &[(&[i64], &[i64])]) -> Option<Differences> {
    differences_of(pairs, RESAMPLES)
}

fn differences_of(pairs: &[(&[i64], &[i64])], resamples: usize) -> Option<Differences> {
    let round = |samples| Round { samples, sum: samples_sum(samples) };
    let [firsts, seconds]: [Vec<_>; 2] = [
        pairs.iter().map(|(first, _)| round(first)).collect(),
        pairs.iter().map(|(_, second)| round(second)).collect(),
    ];
    let once = vec![1; pairs.len()];
    let difference = |weights: &[u64]| -> Option<[i64; 5]> {
        let (first, second) = (numbers(&firsts, weights)?, numbers(&seconds, weights)?);
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
    let mut intervals = estimates.into_iter().zip(drawn).map(|(estimate, drawn)| {
        let interval = interval(estimate, drawn, widening(whole));
        Interval { within_noise: interval.within_noise || too_few_rounds, ..interval }
    });
    let mut next = || intervals.next().expect("five of each");
    Some(Differences { too_few_rounds, mean: next(), p50: next(), p90: next(), p99: next(), p999: next() })
}

fn samples_sum(samples: &[i64]) -> i128 {
    samples.iter().map(|sample| i128::from(*sample)).sum()
}

/// How much wider than the percentile interval of so many pairs one is that holds the truth as often as it says. There is
/// no interval of one pair: it has that of two.
fn widening(pairs: usize) -> f64 {
    let pairs = pairs.max(2);
    let n = pairs as f64;
    student(pairs - 1) / Z * (n / (n - 1.0)).sqrt()
}

/// The 97.5 % quantile of Student's t: a table, and beyond it Abramowitz and Stegun's 26.7.5, which is good to 4 digits there.
fn student(freedom: usize) -> f64 {
    const TABLE: [f64; 10] = [12.706, 4.303, 3.182, 2.776, 2.571, 2.447, 2.365, 2.306, 2.262, 2.228];
    if let Some(value) = freedom.checked_sub(1).and_then(|at| TABLE.get(at)) {
        return *value;
    }
    let v = freedom as f64;
    let first = (Z.powi(3) + Z) / (4.0 * v);
    let second = (5.0 * Z.powi(5) + 16.0 * Z.powi(3) + 3.0 * Z) / (96.0 * v.powi(2));
    let third = (3.0 * Z.powi(7) + 19.0 * Z.powi(5) + 17.0 * Z.powi(3) - 15.0 * Z) / (384.0 * v.powi(3));
    Z + first + second + third
}

fn interval(estimate: i64, mut drawn: Vec<i64>, widening: f64) -> Interval {
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
    Interval { estimate, low, high, within_noise: low <= 0 && 0 <= high }
}

/// Mean and percentiles of the rounds, each taken so many times.
fn numbers(rounds: &[Round<'_>], weights: &[u64]) -> Option<[i64; 5]> {
    let taken: Vec<_> = rounds
        .iter()
        .zip(weights)
        .filter(|(round, weight)| **weight > 0 && !round.samples.is_empty())
        .map(|(round, weight)| (round, *weight))
        .collect();
    let count: u64 = taken.iter().map(|(round, weight)| round.samples.len() as u64 * weight).sum();
    if count == 0 {
        return None;
    }
    let sum: i128 = taken.iter().map(|(round, weight)| round.sum * i128::from(*weight)).sum();
    let percentiles = PERMILLES.map(|permille| at_rank(&taken, (count * permille).div_ceil(1000)));
    let [p50, p90, p99, p999] = percentiles;
    Some([(sum as f64 / count as f64).round() as i64, p50, p90, p99, p999])
}

/// The smallest value that so many samples are not above; ranks count from 1.
fn at_rank(taken: &[(&Round<'_>, u64)], rank: u64) -> i64 {
    let not_above = |value: i64| -> u64 {
        taken
            .iter()
            .map(|(round, weight)| weight * round.samples.partition_point(|sample| *sample <= value) as u64)
            .sum()
    };
    let mut low = taken.iter().map(|(round, _)| round.samples[0]).min().unwrap_or(0);
    let mut high = taken.iter().map(|(round, _)| round.samples[round.samples.len() - 1]).max().unwrap_or(0);
    while low < high {
        let middle = low + (high - low) / 2;
        if not_above(middle) >= rank { high = middle } else { low = middle + 1 }
    }
    low
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
        assert!((student(1_000_000) - Z).abs() < 1e-5);
        assert!((widening(6) - 2.571 / 1.96 * 1.2_f64.sqrt()).abs() < 0.001);
        assert_eq!((widening(0), widening(1)), (widening(2), widening(2)));
    }

    /// Normal enough: the sum of 12 even ones.
    fn normal(random: &mut fastrand::Rng, deviation: f64) -> i64 {
        ((0..12).map(|_| random.f64()).sum::<f64>().mul_add(deviation, -6.0 * deviation)).round() as i64
    }

    /// Of comparisons without any effect about 5 % claim one, and of too few rounds none does.
    #[test]
    fn where_there_is_no_difference_one_is_hardly_ever_claimed() {
        const TRIALS: usize = 500;
        let mut random = fastrand::Rng::with_seed(10);
        for pairs_of_rounds in [2, 5, 6, 9, 19] {
            let mut claims = [0; 5];
            for _ in 0..TRIALS {
                let [first, second]: [Vec<Vec<i64>>; 2] = std::array::from_fn(|_| {
                    let round = |_| {
                        let offset = normal(&mut random, 20_000.0);
                        let mut samples: Vec<i64> =
                            (0..9).map(|_| 100_000 + offset + normal(&mut random, 1000.0)).collect();
                        samples.sort_unstable();
                        samples
                    };
                    (0..pairs_of_rounds).map(round).collect()
                });
                let found = differences_of(&pairs(&first, &second), 200).unwrap();
                assert_eq!(found.too_few_rounds, pairs_of_rounds < MIN_PAIRS);
                for (claims, (_, interval)) in claims.iter_mut().zip(found.named()) {
                    *claims += usize::from(!interval.within_noise);
                }
            }
            let most = if pairs_of_rounds < MIN_PAIRS { 0 } else { TRIALS * 7 / 100 };
            // Mean and median. Percentiles of the tail are those of one or two rounds where rounds differ this much.
            assert!(
                claims[..2].iter().all(|claims| *claims <= most),
                "{claims:?} of {TRIALS} with {pairs_of_rounds} pairs"
            );
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
