//! How far xdprobe is from what AF_XDP itself takes, from an original nanoprobe, and from others: `make bench`, as root.
//!
//! All contestants run on one veth pair in one run, in alternating rounds: what counts are the ratios, which are taken within
//! a round. Many short rounds rather than few long ones: what takes the CPU away for milliseconds now and then (another machine
//! on the same host, a kernel thread) then spoils some rounds of everybody's, and the median is of those that it left alone.
//!
//! `NANOPROBE=` names an original's binary; `sockperf` and `irtt` take part where they are installed. `ROUNDS` (default 7, at
//! least 5 for figures that are to be told), `CALM_ROUNDS` (0; else no further round once so many were calm: in which the floor's own
//! p99.9 stayed within 100 µs), `SECONDS_A_ROUND` (1), `RATE_SECONDS` (1), `CPUS=a,b` (the first two that there are), `BENCH_JSON`
//! (bench.json). `PARTS=` (trips,options,one-way,rates,sleep,start,writer; with all of them also
//! the memory on 16 queues) measures some of them only; `REST=0` is `PARTS=trips`.

mod contestant;
mod figures;
#[path = "../floor/mod.rs"]
mod floor;
mod lan;
mod log;
mod measures;
#[path = "../../tests/support/namespace.rs"]
mod namespace;
mod others;
mod output;
mod targets;
mod writer;

use anyhow::Result;
use contestant::Contestant;
use figures::Figures;
use lan::Lan;
use measures::Part;
use output::number;
use serde_json::json;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use targets::{CALM, is_next, targets};

fn main() -> Result<()> {
    let (most_rounds, seconds) = (number("ROUNDS", 7)?, number("SECONDS_A_ROUND", 1)?);
    let calm_wanted = number("CALM_ROUNDS", 0)?;
    let rate_seconds = number("RATE_SECONDS", 1)?;
    let parts = parts()?;
    let interrupted = Arc::new(AtomicBool::new(false));
    for signal in [signal_hook::consts::SIGINT, signal_hook::consts::SIGTERM] {
        signal_hook::flag::register(signal, Arc::clone(&interrupted))?;
    }
    let lan = Lan::new(1, &interrupted)?;
    let contestants = Contestant::all();
    let names: Vec<&str> = contestants.iter().map(|contestant| contestant.who.name()).collect();
    let machine = output::machine();
    let [client, server] = lan.cpus;
    println!("{machine}\nclient on CPU {client}, server on CPU {server}: {}", names.join(", "));
    let until = if calm_wanted > 0 { format!(", or until {calm_wanted} were calm") } else { String::new() };
    println!("{most_rounds} alternating rounds of {seconds} s{until}, 44-byte pings, veth\n");

    let mut figures = Figures::default();
    let mut rounds = 0;
    let mut measure = || {
        while is_next(rounds, most_rounds, figures.calm_rounds(&CALM), calm_wanted) {
            rounds += 1;
            eprintln!("round {rounds} of {most_rounds}");
            measures::round(&lan, &contestants, [seconds, rate_seconds], &parts, &mut figures)?;
        }
        if Part::ALL.iter().all(|part| parts.contains(part)) {
            eprintln!("memory on 16 queues");
            measures::memory(&Lan::new(16, &interrupted)?, &contestants, &mut figures)?;
        }
        Ok(())
    };
    let measured: Result<()> = measure();

    let targets = targets();
    print!("{}", figures.to_text(&targets));
    // What was measured before somebody had enough of it is shown, and not taken for a whole run.
    measured?;
    let calm_rounds = figures.calm_rounds(&CALM);
    let [figures, targets] = figures.to_json(&targets);
    let bench = json!({
        "machine": machine,
        "cpus": { "client": client, "server": server },
        "rounds": rounds,
        "calm_rounds": calm_rounds,
        "seconds_a_round": seconds,
        "contestants": names,
        "figures": figures,
        "targets": targets,
    });
    output::write_json("BENCH_JSON", "bench.json", bench)
}

/// The parts that `PARTS=a,b,...` names, or all.
fn parts() -> Result<Vec<Part>> {
    match std::env::var("PARTS") {
        Ok(named) => Part::named(&named),
        Err(_) if number("REST", 1)? == 0 => Ok(vec![Part::RoundTrips]),
        Err(_) => Ok(Part::ALL.to_vec()),
    }
}
