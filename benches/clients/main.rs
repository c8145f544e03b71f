//! What a ping costs a server of many clients, and what one client can do to the others: `make bench`, as root.
//!
//! One generator on AF_XDP plays all clients, so that what it costs itself does not depend on how many there are. They ping one
//! after the other at one rate in all, against `xdprobe --server --keep --clients N`, with a log for each session and without.
//! The numbers of clients take turns in every round, and so do the others' pings with and without one that floods.
//!
//! `ROUNDS` (default 7, at least 5 for figures that are to be told), `SECONDS_A_ROUND` (1), `TRY_MS` (300), which is how long a
//! rate is tried, `CLIENTS=a,b,...` (1,16,256,1024), `FLOOD` (600000 pings/s), `DUMMIES` behind each answer while one floods (3),
//! `CPUS=a,b` (the first two that there are), `BENCH_CLIENTS_JSON` (bench-clients.json). With `REST=0` only round trips are
//! measured. Ends with an error where the server's counts and the generator's do not add up.
#![allow(unsafe_code, reason = "the rings and the XDP program of the floor")]

mod bench;
#[path = "../reach/figures.rs"]
mod figures;
mod flood;
mod generator;
mod measures;
#[path = "../../tests/support/namespace.rs"]
mod namespace;
#[path = "../reach/output.rs"]
mod output;
#[path = "../floor/redirect.rs"]
mod redirect;
#[path = "../floor/rings.rs"]
#[allow(dead_code, reason = "each user takes its part")]
mod rings;
mod server;

use anyhow::{Context, Result, ensure};
use bench::Bench;
use figures::{Bound, Figures, Target};
use output::number;
use serde_json::json;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::time::Duration;

fn main() -> Result<()> {
    let (rounds, seconds) = (number("ROUNDS", 7)?, number("SECONDS_A_ROUND", 1)?);
    let (try_ms, flood_rate) = (number("TRY_MS", 300)?, number("FLOOD", 600_000)?);
    let has_rest = number("REST", 1)? != 0;
    let named = std::env::var("CLIENTS").unwrap_or_else(|_| "1,16,256,1024".to_owned());
    let crowds: Vec<u16> = named.split(',').map(str::parse).collect::<Result<_, _>>().context("CLIENTS=a,b,...")?;
    ensure!(crowds.iter().all(|crowd| (1..=4096).contains(crowd)), "CLIENTS={named}: 1 to 4096 each");
    ensure!(seconds > 0 && try_ms > 0, "SECONDS_A_ROUND and TRY_MS are not 0");
    let interrupted = Arc::new(AtomicBool::new(false));
    for signal in [signal_hook::consts::SIGINT, signal_hook::consts::SIGTERM] {
        signal_hook::flag::register(signal, Arc::clone(&interrupted))?;
    }
    let bench = Bench::new(
        output::cpus()?,
        Duration::from_secs(seconds.into()),
        Duration::from_millis(try_ms.into()),
        interrupted,
    );
    let contestants: Vec<(u16, &'static str)> = crowds.iter().map(|&crowd| (crowd, name(crowd))).collect();
    let machine = output::machine();
    let [generator_cpu, server_cpu] = bench.cpus;
    println!("{machine}\ngenerator on CPU {generator_cpu}, server on CPU {server_cpu}: {named} clients");
    println!("{rounds} alternating rounds of {seconds} s, 44-byte pings, veth\n");

    let mut figures = Figures::default();
    let mut generator = bench.generator()?;
    for round in 1..=rounds {
        eprintln!("round {round} of {rounds}");
        for logs in [false, true] {
            for &(clients, name) in &contestants {
                measures::crowd(&bench, &mut generator, (clients, name), [logs, has_rest], &mut figures)?;
            }
        }
        if has_rest {
            flood::round(&bench, &mut generator, flood_rate, round % 2 == 0, &mut figures)?;
        }
    }

    let targets = targets(&contestants);
    print!("{}", figures.to_text(&targets));
    let [figures, targets] = figures.to_json(&targets);
    let names: Vec<&str> = contestants.iter().map(|(_, name)| *name).collect();
    let bench = json!({
        "machine": machine,
        "cpus": { "client": generator_cpu, "server": server_cpu },
        "rounds": rounds,
        "seconds_a_round": seconds,
        "contestants": names,
        "figures": figures,
        "targets": targets,
    });
    output::write_json("BENCH_CLIENTS_JSON", "bench-clients.json", bench)
}

/// As tables and JSON name so many clients.
fn name(clients: u16) -> &'static str {
    // A handful, as long as the program runs.
    if clients == 1 { "1 client" } else { format!("{clients} clients").leak() }
}

/// What is to be reached, in the order of the table: each number of clients beside the first.
fn targets(contestants: &[(u16, &'static str)]) -> Vec<Target> {
    let mut targets = Vec::new();
    let Some(&(_, first)) = contestants.first() else { return targets };
    for logs in [false, true] {
        let [p50, _, _, rate] = measures::NAMES[usize::from(logs)];
        for (measure, bound) in [(p50, Bound::AtMost(1.2)), (rate, Bound::AtLeast(0.8))] {
            let others = contestants[1..].iter();
            targets.extend(others.map(|&(_, contestant)| Target {
                measure,
                contestant,
                against: Some((measure, first)),
                bound,
                calm: None,
            }));
        }
    }
    targets.extend(contestants.iter().map(|&(_, contestant)| Target {
        measure: measures::ROWS_LOST,
        contestant,
        against: None,
        bound: Bound::AtMost(0.0),
        calm: None,
    }));
    targets.extend(flood::targets());
    targets
}
