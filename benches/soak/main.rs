//! A long session in which nothing may be lost but packets: `make soak`, as root.
//!
//! A session without an end (`--count 0`) with the kernel's stamps in the logs of both sides, stopped as a user stops it (see
//! `run.rs`). Fails where memory grows, a frame is nowhere, a sequence is wrong, or a row or a stamp is missing. Lost packets are
//! told, and are no failure: on a shared machine a busy thread may be off its CPU for longer than the rings last.
//!
//! `SECONDS` (default 600) is how long, `RATE` (default 50000) the pings a second. Ctrl-C ends it sooner.

#[path = "../../tests/support/hot.rs"]
mod hot;
mod run;

use anyhow::{Context, Result, ensure};
use run::{Memory, Side, Soak};
use std::time::Duration;
use xdprobe::path::XdpCounters;
use xdprobe::session::Totals;

fn main() -> Result<()> {
    let number = |name, default| match std::env::var(name) {
        Ok(value) => value.parse().with_context(|| format!("{name}={value} is not a number")),
        Err(_) => Ok(default),
    };
    let (seconds, rate) = (number("SECONDS", 600)?, number("RATE", 50_000)?);
    ensure!((1..=1_000_000).contains(&rate) && seconds > 0, "SECONDS and RATE (to 1000000) are not 0");
    println!("{seconds} s at {rate} pings/s over AF_XDP on veth, the kernel's stamps, logs on both sides");
    let soak = run::run(Duration::from_secs(seconds.into()), rate)?;
    tell(&soak, u64::from(seconds) * u64::from(rate));
    soak.check()?;
    println!("nothing was lost that must not be");
    Ok(())
}

fn tell(Soak { client, server, memory: Memory { early, most } }: &Soak, due: u64) {
    let Totals { pings_sent, pongs_received, skipped_slots, late_sends, worst_lateness_nanos, .. } = client.totals;
    let reached = server.totals.pings_received;
    let (there, back) = (pings_sent.saturating_sub(reached), reached.saturating_sub(pongs_received));
    println!("{pings_sent} of {due} pings sent, {there} lost on their way, {back} pongs lost");
    println!("{skipped_slots} slots skipped, {late_sends} pings late, the worst by {worst_lateness_nanos} ns");
    for (name, side) in [("client", client), ("server", server)] {
        let Side { end, stamps, counters, written, rows, frames, .. } = side;
        println!(
            "{name}: {end:?}, {} of {} transmit stamps, {} receive stamps",
            stamps.tx, stamps.tx_requested, stamps.rx
        );
        println!("  {rows:?}, {} of them written, {} sends tried again", written.rows_written, counters.tx_retries);
        if let Some(xdp) = counters.xdp {
            let XdpCounters { rx_dropped, rx_ring_full, rx_fill_ring_empty, .. } = xdp;
            println!("  rx_dropped {rx_dropped}, rx_ring_full {rx_ring_full}, rx_fill_ring_empty {rx_fill_ring_empty}");
        }
        println!("  {frames:?}");
    }
    println!("memory: {early} KiB after a tenth of the time, {most} KiB at most after that");
}
