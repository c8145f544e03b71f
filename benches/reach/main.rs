//! How far xdprobe is from what AF_XDP itself takes, from an original nanoprobe, and from others: `make bench`, as root.
//!
//! All contestants run on one veth pair in one run, in alternating rounds: what counts are the ratios, which are taken within
//! a round. Many short rounds rather than few long ones: what takes the CPU away for milliseconds now and then (another machine
//! on the same host, a kernel thread) then spoils some rounds of everybody's, and the median is of those that it left alone.
//!
//! `NANOPROBE=` names an original's binary; `sockperf` and `irtt` take part where they are installed. `ROUNDS` (default 7, at
//! least 5 for figures that are to be told), `SECONDS_A_ROUND` (1), `RATE_SECONDS` (2), `CPUS=a,b` (the first two that there
//! are), `BENCH_JSON` (bench.json).

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
mod targets;
mod writer;

use anyhow::{Context, Result};
use contestant::Contestant;
use figures::Figures;
use lan::Lan;
use serde_json::json;
use std::os::unix::fs::MetadataExt;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use targets::targets;

fn main() -> Result<()> {
    let number = |name, default| match std::env::var(name) {
        Ok(value) => value.parse().with_context(|| format!("{name}={value} is not a number")),
        Err(_) => Ok(default),
    };
    let (rounds, seconds) = (number("ROUNDS", 7)?, number("SECONDS_A_ROUND", 1)?);
    let rate_seconds = number("RATE_SECONDS", 2)?;
    let interrupted = Arc::new(AtomicBool::new(false));
    for signal in [signal_hook::consts::SIGINT, signal_hook::consts::SIGTERM] {
        signal_hook::flag::register(signal, Arc::clone(&interrupted))?;
    }
    let lan = Lan::new(1, &interrupted)?;
    let contestants = Contestant::all();
    let names: Vec<&str> = contestants.iter().map(|contestant| contestant.who.name()).collect();
    let machine = machine();
    let [client, server] = lan.cpus;
    println!("{machine}\nclient on CPU {client}, server on CPU {server}: {}", names.join(", "));
    println!("{rounds} alternating rounds of {seconds} s, 44-byte pings, veth\n");

    let mut figures = Figures::default();
    for round in 1..=rounds {
        eprintln!("round {round} of {rounds}");
        measures::round(&lan, &contestants, seconds, &mut figures)?;
    }
    eprintln!("rates without loss, and memory");
    measures::lossless(&lan, &contestants, rate_seconds, &mut figures)?;
    measures::memory(&Lan::new(16, &interrupted)?, &contestants, &mut figures)?;

    let targets = targets();
    print!("{}", figures.to_text(&targets));
    let [figures, targets] = figures.to_json(&targets);
    let file = std::env::var("BENCH_JSON").unwrap_or_else(|_| "bench.json".to_owned());
    let whole = json!({
        "format": 1,
        "version": env!("CARGO_PKG_VERSION"),
        "machine": machine,
        "cpus": { "client": client, "server": server },
        "rounds": rounds,
        "seconds_a_round": seconds,
        "contestants": names,
        "figures": figures,
        "targets": targets,
    });
    write(Path::new(&file), &format!("{whole:#}\n")).with_context(|| format!("cannot write {file}"))?;
    println!("\n{file} has every round.");
    Ok(())
}

/// Writes a file that belongs to whom its folder belongs to: no file of root's is left among the sources.
fn write(file: &Path, text: &str) -> Result<()> {
    std::fs::write(file, text)?;
    let folder = file.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."));
    let owner = std::fs::metadata(folder)?;
    std::os::unix::fs::chown(file, Some(owner.uid()), Some(owner.gid()))?;
    Ok(())
}

/// The machine by type: processor, number of CPUs, kernel.
fn machine() -> String {
    let read = |path| std::fs::read_to_string(path).unwrap_or_default();
    let info = read("/proc/cpuinfo");
    let model = info.lines().find_map(|line| line.strip_prefix("model name")).unwrap_or("unknown");
    let model = model.trim_start_matches(['\t', ' ', ':']);
    let cpus = info.lines().filter(|line| line.starts_with("processor")).count();
    format!("{model}, {cpus} CPUs, kernel {}", read("/proc/sys/kernel/osrelease").trim())
}
