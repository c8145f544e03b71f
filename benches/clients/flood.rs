//! What one client that floods does to the others.

use crate::bench::{Bench, CLIENTS, SERVER};
use crate::figures::{Bound, Figures, Target};
use crate::generator::{Generator, Outcome, Traffic};
use crate::measures::percentile;
use crate::namespace::{End, Namespace};
use crate::output::number;
use crate::server::{Server, count};
use anyhow::{Context, Result, ensure};
use serde_json::Value;

/// How many there are beside the one that floods, and what they ping at together, in pings a second.
const OTHERS: u16 = 16;
const RATE: u32 = 8_000;
/// A server alone on its CPU answers as fast as the generator, alone on its own, can flood. With so many dummies behind each pong
/// (`DUMMIES=`) an answer takes a multiple of it, but reading takes what it always does.
const DUMMIES: u32 = 3;
/// Frames of the ring that the server receives into.
const RING: f64 = 4096.0;

const ALONE: &str = "16 clients";
const BESIDE: &str = "16 beside a flood";
const FLOODER: &str = "the flood";

const P50: &str = "t3-t0 of 16 at 8 k/s in all, p50";
const P99: &str = "t3-t0 of 16 at 8 k/s in all, p99";
const LOST: &str = "pings of the 16 lost, of a million";
const RISE: &str = "rise of the p99, of what a share of the ring takes";
const SENT: &str = "pings sent";
const ANSWERED: &str = "pings answered";
const EXCESS: &str = "pings beyond the share, dropped and counted";
const UNREAD: &str = "pings dropped by the kernel, before they were read";

/// What is to be reached.
pub fn targets() -> [Target; 2] {
    [(LOST, BESIDE, 0.0), (RISE, BESIDE, 1.0)].map(|(measure, contestant, bound)| Target {
        measure,
        contestant,
        against: None,
        bound: Bound::AtMost(bound),
        calm: None,
    })
}

/// One round: the others by themselves and beside a flood of so many pings a second; `flood_first`: in this order.
pub fn round(
    bench: &Bench,
    generator: &mut Generator,
    rate: u32,
    flood_first: bool,
    figures: &mut Figures,
) -> Result<()> {
    let dummies = number("DUMMIES", DUMMIES)?.to_string();
    let server = Server::start(&bench.server, SERVER, bench.cpus[1], OTHERS + 1, false, &["--dummy-pkt", &dummies])?;
    let dropped_before = dropped(bench)?;
    let mut crowd = generator.connect(OTHERS + 1)?;
    let traffic = |flood| Traffic { rate: RATE, flood: Some(flood), time: bench.time };
    let [first, second] = if flood_first { [rate, 0] } else { [0, rate] };
    let [first, second] = [crowd.run(traffic(first))?, crowd.run(traffic(second))?];
    let again = crowd.finish()?;
    let (alone, beside) = if flood_first { (second, first) } else { (first, second) };
    bench.check()?;
    let sessions = server.finish()?;
    let dropped = dropped(bench)? - dropped_before;

    let seconds = bench.time.as_secs_f64();
    for (name, outcome) in [(ALONE, &alone), (BESIDE, &beside)] {
        figures.add(P50, "us", name, percentile(&outcome.round_trips, 0.5) / 1e3);
        figures.add(P99, "us", name, percentile(&outcome.round_trips, 0.99) / 1e3);
        figures.add(LOST, "", name, outcome.lost() as f64 * 1e6 / outcome.pings as f64);
    }
    let [answered, excess] = check([&alone, &beside], &sessions, dropped, again)?;
    for (measure, value) in [(SENT, beside.flood), (ANSWERED, answered), (EXCESS, excess), (UNREAD, dropped)] {
        figures.add(measure, "/s", FLOODER, value as f64 / seconds);
    }
    // A share of the ring, at the pace at which the server reads.
    let read = (beside.round_trips.len() as u64 + answered + excess) as f64 / seconds;
    let share_ns = RING / f64::from(OTHERS + 1) / read * 1e9;
    let [before, after] = [&alone, &beside].map(|outcome| percentile(&outcome.round_trips, 0.99));
    figures.add(RISE, "", BESIDE, (after - before) / share_ns);
    Ok(())
}

/// Whether every ping that was sent is in exactly one count, but for FINs that were dropped too and sent `again`; what of the flood was answered, and what dropped as excess.
///
/// # Errors
/// A ping is in none, or in two.
fn check(runs: [&Outcome; 2], sessions: &[(u16, Value)], dropped: u64, again: u64) -> Result<[u64; 2]> {
    ensure!(sessions.len() == usize::from(OTHERS) + 1, "{} sessions have statistics", sessions.len());
    let mut sum = [0; 3];
    let mut of_flood = [0; 2];
    let flooder = sessions.iter().map(|(port, _)| *port).max().context("there are sessions")?;
    for (port, session) in sessions {
        let received = count(session, "pings_received")?;
        let (answered, excess) = (count(session, "pongs_sent")?, count(session, "excess")?);
        ensure!(answered == received, "{received} pings of port {port} were received, and {answered} answered");
        if *port == flooder {
            of_flood = [answered, excess];
        }
        sum = [sum[0] + received, sum[1] + excess, sum[2] + answered];
    }
    let pings: u64 = runs.iter().map(|run| run.pings + run.flood).sum();
    let pongs: u64 = runs.iter().map(|run| run.round_trips.len() as u64 + run.flood_pongs).sum();
    let [received, excess, answered] = sum;
    ensure!(
        (pings..=pings + again).contains(&(received + excess + dropped)) && pongs <= answered,
        "{pings} pings and {again} FINs more than once were sent, and {received} received, {excess} beyond a share, {dropped} dropped before they were read; \
         {answered} pongs were sent, and {pongs} received"
    );
    Ok(of_flood)
}

/// Frames to the server that the kernel has dropped: none of its queues had room for them.
fn dropped(bench: &Bench) -> Result<u64> {
    let count = |namespace: &Namespace, end: End, way: &str| -> Result<u64> {
        let said: Value = serde_json::from_str(&namespace.ip(&["-j", "-s", "link", "show", "dev", end.interface]))?;
        said[0]["stats64"][way]["dropped"].as_u64().with_context(|| format!("no {way} dropped in {said}"))
    };
    // A socket's full ring is counted where it receives, a full queue between the two where it sends.
    Ok(count(&bench.server, SERVER, "rx")? + count(&bench.clients, CLIENTS, "tx")?)
}
