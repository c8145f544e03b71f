//! What a ping costs among so many clients.

use crate::bench::{Bench, SERVER};
use crate::figures::Figures;
use crate::generator::{Crowd, Generator, Outcome, Traffic};
use crate::server::{Server, count};
use anyhow::{Result, ensure};

/// Pings a second of all clients together at which round trips are measured.
const RTT_RATE: u32 = 10_000;
/// The rates that are tried for the highest one without loss: from this, each a tenth above the one before.
const LOWEST: f64 = 50_000.0;
const STEPS: u32 = 30;

/// p50, p99, lost pings and the highest rate without loss, without logs and with them.
pub const NAMES: [[&str; 4]; 2] = [
    [
        "t3-t0 at 10 k/s in all, p50",
        "t3-t0 at 10 k/s in all, p99",
        "pings lost at 10 k/s in all, of a million",
        "highest ping/pong rate without loss, in all",
    ],
    [
        "t3-t0 at 10 k/s in all, p50, with logs",
        "t3-t0 at 10 k/s in all, p99, with logs",
        "pings lost at 10 k/s in all, of a million, with logs",
        "highest ping/pong rate without loss, in all, with logs",
    ],
];
pub const ROWS_LOST: &str = "rows that logs lost";

/// One round of so many clients; without `has_rest` only the round trips.
pub fn crowd(
    bench: &Bench,
    generator: &mut Generator,
    (clients, name): (u16, &'static str),
    [logs, has_rest]: [bool; 2],
    figures: &mut Figures,
) -> Result<()> {
    let [p50, p99, lost, highest] = NAMES[usize::from(logs)];
    let mut server = Server::start(&bench.server, SERVER, bench.cpus[1], clients, logs, &[])?;
    let mut crowd = generator.connect(clients)?;
    server.wait_for_sessions()?;
    let outcome = crowd.run(Traffic { rate: RTT_RATE, flood: None, time: bench.time })?;
    for (measure, share) in [(p50, 0.5), (p99, 0.99)] {
        figures.add(measure, "us", name, percentile(&outcome.round_trips, share) / 1e3);
    }
    figures.add(lost, "", name, outcome.lost() as f64 * 1e6 / outcome.pings as f64);
    let mut told = [outcome.pings, outcome.round_trips.len() as u64];
    if has_rest {
        figures.add(highest, "pings/s", name, highest_rate(bench, &mut crowd, &mut told)?);
    }
    crowd.finish()?;

    let sessions = server.finish()?;
    let [mut received, mut answered, mut excess, mut rows_lost] = [0; 4];
    for (_, session) in &sessions {
        received += count(session, "pings_received")?;
        answered += count(session, "pongs_sent")?;
        excess += count(session, "excess")?;
        rows_lost += if logs { count(session, "rows_lost")? } else { 0 };
    }
    let [pings, pongs] = told;
    ensure!(sessions.len() == usize::from(clients), "{} of {clients} sessions have statistics", sessions.len());
    ensure!(
        answered == received && pongs <= answered && received + excess <= pings,
        "the counts of {name} contradict each other: {pings} pings, {received} received, {excess} beyond a share, {answered} \
         answered, {pongs} pongs"
    );
    if logs {
        figures.add(ROWS_LOST, "", name, rows_lost as f64);
    }
    Ok(())
}

/// The highest rate that gets through without loss in two of four tries, as in `reach`, found by halving: what is sent is 95 %
/// of what should be at least. 0 where there is none.
fn highest_rate(bench: &Bench, crowd: &mut Crowd, told: &mut [u64; 2]) -> Result<f64> {
    let rate = |step: u32| LOWEST * 1.1f64.powi(step as i32);
    // All below `from` go through, none from `to` on does.
    let (mut from, mut to) = (0, STEPS);
    while from < to {
        let step = u32::midpoint(from, to);
        let rate = rate(step) as u32;
        let (mut lossless, mut tries) = (0, 0);
        while lossless < 2 && tries - lossless < 3 {
            bench.check()?;
            let outcome = crowd.run(Traffic { rate, flood: None, time: bench.a_try })?;
            let Outcome { pings, skipped, .. } = outcome;
            lossless += u32::from(outcome.lost() == 0 && pings as f64 >= 0.95 * (pings + skipped) as f64);
            tries += 1;
            told[0] += pings;
            told[1] += outcome.round_trips.len() as u64;
        }
        (from, to) = if lossless == 2 { (step + 1, to) } else { (from, step) };
    }
    Ok(if from == 0 { 0.0 } else { rate(from - 1).floor() })
}

/// Nearest-rank percentile of sorted values; NaN where there are none.
pub fn percentile(sorted: &[i64], share: f64) -> f64 {
    let rank = (share * sorted.len() as f64).ceil() as usize;
    sorted.get(rank.clamp(1, sorted.len().max(1)) - 1).map_or(f64::NAN, |nanos| *nanos as f64)
}
