//! How many rows of logs a second `xdprobe report` takes on one core. Prints a table, and whether what is to be reached is; asserts
//! nothing.
//!
//! The rate is per second of CPU time, user and system together, which is what a core of its own would take; beside it stands the
//! time that passed, which on a machine with other work to do is longer.
//!
//! `PINGS` (default 2000000) is the length of the session. Its logs, some 260 MB, are written to the temporary folder first
//! and read once beforehand, so that they are in the page cache where there is room for them.

use nix::sys::resource::{UsageWho, getrusage};
use nix::sys::time::TimeValLike;
use std::fs::{self, File};
use std::io::{BufWriter, Write};
use std::path::PathBuf;
use std::time::Instant;
use xdprobe::clock::{Realtime, Time};
use xdprobe::record::{HEADER, Row};
use xdprobe::report::{Clocks, Input, Options, report};
use xdprobe::wire::Point;

/// Rows a second of CPU time that are to be reached with each of these, in millions.
const TARGET: f64 = 3.0;

fn write(folder: &std::path::Path, pings: u64) -> [PathBuf; 2] {
    let paths = ["client.csv", "server.csv"].map(|name| folder.join(name));
    let mut logs = paths.each_ref().map(|path| BufWriter::new(File::create(path).expect("a temporary file")));
    let mut line = Vec::new();
    for log in &mut logs {
        log.write_all(HEADER.as_bytes()).expect("room for the log");
    }
    for sequence in 1..=pings {
        for (point, side, after) in
            [(Point::T0, 0, 0), (Point::T1, 1, 20_000), (Point::T2, 1, 22_000), (Point::T3, 0, 45_000)]
        {
            // Delays that are spread, and no chance.
            let spread = sequence.wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 52;
            let stamp = Time::<Realtime>::from_nanos(
                1_795_310_352_000_000_000 + sequence * 100_000 + after + after / 20_000 * spread,
            );
            line.clear();
            Row::new(sequence, point, stamp, 44).append_to(&mut line);
            logs[side].write_all(&line).expect("room for the log");
        }
    }
    logs.iter_mut().for_each(|log| log.flush().expect("room for the log"));
    paths
}

/// User and system time of this process so far.
fn cpu_seconds() -> f64 {
    let usage = getrusage(UsageWho::RUSAGE_SELF).expect("a process may ask for its own usage");
    [usage.user_time(), usage.system_time()].map(|time| time.num_microseconds() as f64 / 1e6).iter().sum()
}

fn main() {
    let pings = std::env::var("PINGS").ok().and_then(|pings| pings.parse().ok()).unwrap_or(2_000_000);
    let folder = tempfile::tempdir().expect("a temporary folder");
    let [client, server] = write(folder.path(), pings);
    for path in [&client, &server] {
        fs::read(path).expect("the log");
    }
    println!("| logs | rows | s | CPU s | million rows/CPU s |\n|---|---|---|---|---|");
    let both = Input { client: client.clone(), server: Some(server), ..Input::default() };
    let alone = Input { client, ..Input::default() };
    let csv = folder.path().join("joined.csv");
    let mut slowest = f64::INFINITY;
    for (name, input, clocks, csv) in [
        ("one side", &alone, Clocks::Estimate, None),
        ("both, clocks synchronised", &both, Clocks::Synchronised, None),
        ("both, clocks estimated", &both, Clocks::Estimate, None),
        ("both, clocks estimated, --csv", &both, Clocks::Estimate, Some(csv)),
    ] {
        let csv_is_written = csv.is_some();
        let (began, used) = (Instant::now(), cpu_seconds());
        let found = report(input, &Options { clocks, csv, ..Options::default() }).expect("the logs are whole");
        let (seconds, used) = (began.elapsed().as_secs_f64(), cpu_seconds() - used);
        let rows: u64 = found.logs.iter().map(|log| log.rows).sum();
        let rate = rows as f64 / used / 1e6;
        println!("| {name} | {rows} | {seconds:.2} | {used:.2} | {rate:.2} |");
        if csv_is_written {
            continue;
        }
        slowest = slowest.min(rate);
    }
    println!("\n| target | reached | |\n|---|---|---|");
    let verdict = if slowest >= TARGET { "yes" } else { "NO" };
    println!("| at least {TARGET} million rows/CPU s, without --csv | {slowest:.2} | {verdict} |");
}
