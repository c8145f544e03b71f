//! What the logs of a session say, read in the same way for every program that writes them.

use anyhow::{Context, Result, bail};
use std::path::Path;

/// The rows of one side's log.
#[derive(Debug, Default)]
pub struct Log {
    /// When each ping left, in the order of the sequences, in ns.
    pub left: Vec<i64>,
    /// Sequences up to the last one that left which have no row of their departure.
    pub missing: u64,
    /// t3 − t0 of each ping that has both, sorted, in ns.
    pub round_trips: Vec<i64>,
    /// Pings that came in (t1), repeated ones too.
    pub arrived: u64,
    /// From the first departure or arrival to the last.
    pub seconds: f64,
}

/// Reads a log of a forward session.
pub fn read(path: &Path) -> Result<Log> {
    let (mut sent, mut received): (Vec<Option<i64>>, Vec<Option<i64>>) = (Vec::new(), Vec::new());
    let put = |places: &mut Vec<Option<i64>>, at: usize, stamp| {
        if places.len() <= at {
            places.resize(at + 1, None);
        }
        places[at] = Some(stamp);
    };
    let (mut first, mut last, mut arrived) = (i64::MAX, i64::MIN, 0);
    let mut reader = csv::Reader::from_path(path).with_context(|| format!("cannot read {}", path.display()))?;
    let mut row = csv::StringRecord::new();
    while reader.read_record(&mut row)? {
        let (seconds, nanos) = row[2].split_once('.').context("a stamp has a dot")?;
        let stamp = seconds.parse::<i64>()? * 1_000_000_000 + nanos.parse::<i64>()?;
        let sequence = row[0].parse()?;
        match &row[1] {
            "t0" => put(&mut sent, sequence, stamp),
            "t3" => put(&mut received, sequence, stamp),
            "t1" => arrived += 1,
            "t2" => {}
            other => bail!("a forward session does not log {other}"),
        }
        if matches!(&row[1], "t0" | "t1") {
            (first, last) = (first.min(stamp), last.max(stamp));
        }
    }
    let both = sent.iter().zip(&received).filter_map(|(t0, t3)| Some((*t3)? - (*t0)?));
    let mut round_trips: Vec<i64> = both.collect();
    round_trips.sort_unstable();
    let seconds = last.saturating_sub(first).max(1) as f64 / 1e9;
    // Sequences begin at 1.
    let missing = sent.iter().skip(1).filter(|t0| t0.is_none()).count() as u64;
    Ok(Log { left: sent.into_iter().flatten().collect(), missing, round_trips, arrived, seconds })
}

/// How far from its slot each ping left, in ns, sorted: of the grid of `delay` ns on which they are sent.
///
/// A log does not say where the grid lies. It is taken to begin with the thousandth of a slot in which most pings left, or with
/// the first ping where that left somewhat earlier in its slot, as one that nobody had to be woken for. A lateness that all pings
/// share is not seen. Slots may be skipped: what is later than most of a slot counts as early in the next one. The clocks of
/// the plan and of the stamps keep the same pace, as the kernel slews CLOCK_MONOTONIC and CLOCK_REALTIME alike.
pub fn lateness(left: &[i64], delay: i64) -> Vec<i64> {
    let Some(&first) = left.first() else { return Vec::new() };
    let mut phases: Vec<i64> = left.iter().map(|t0| (t0 - first).rem_euclid(delay)).collect();
    phases.sort_unstable();
    let within = |at: usize| phases[at..].partition_point(|phase| *phase < phases[at] + delay / 1000);
    let most = (0..phases.len()).max_by_key(|&at| (within(at), std::cmp::Reverse(at))).map_or(0, |at| phases[at]);
    // The first ping has the phase 0.
    let begin = if most < delay / 10 { 0 } else { most };
    let early = delay / 10;
    let mut late: Vec<i64> =
        phases.iter().map(|phase| ((phase - begin + early).rem_euclid(delay) - early).abs()).collect();
    late.sort_unstable();
    late
}

/// Nearest-rank percentile of sorted values; NaN where there are none.
pub fn percentile(sorted: &[i64], share: f64) -> f64 {
    let rank = (share * sorted.len() as f64).ceil() as usize;
    sorted.get(rank.clamp(1, sorted.len().max(1)) - 1).map_or(f64::NAN, |nanos| *nanos as f64)
}
