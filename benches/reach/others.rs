//! Round trips as `sockperf` and `irtt` measure them, where they are installed.

use crate::contestant::Contestant;
use crate::lan::{Lan, SERVER};
use crate::log::percentile;
use anyhow::{Context, Result, ensure};

/// Bytes of UDP payload in a ping of 44 bytes.
const PAYLOAD: &str = "16";

/// Median and 99.9th percentile of `sockperf ping-pong`, in µs, both sides polling without sleeping.
pub fn sockperf(lan: &Lan, contestant: &Contestant, rate: u32, seconds: u32) -> Result<[f64; 2]> {
    let address = SERVER.address.to_string();
    let mut server = lan.server.command(&contestant.program);
    server.args(["server", "-i", &address, "--nonblocked"]);
    let mut client = lan.client.command(&contestant.program);
    client.args(["ping-pong", "-i", &address, "--full-rtt", "-m", PAYLOAD, "--nonblocked"]);
    client.args(["--mps", &rate.to_string(), "-t", &seconds.to_string()]);
    let said = lan.talk(&mut server, &mut client)?;
    // sockperf: ---> percentile 99.900 =   43.197
    let of = |share: &str| -> Result<f64> {
        let line = said.lines().find(|line| line.contains(&format!("percentile {share} ")));
        let (_, value) = line.and_then(|line| line.split_once('=')).with_context(|| format!("no {share} in {said}"))?;
        Ok(value.trim().parse()?)
    };
    ensure!(said.contains("Round trip is"), "sockperf does not say that these are round trips: {said}");
    Ok([of("50.000")?, of("99.900")?])
}

/// Median and 99.9th percentile of `irtt client`, in µs, waiting busily for the next moment to send.
pub fn irtt(lan: &Lan, contestant: &Contestant, rate: u32, seconds: u32) -> Result<[f64; 2]> {
    let mut server = lan.server.command(&contestant.program);
    server.args(["server", "-i", "0", "-b", &SERVER.address.to_string()]);
    let mut client = lan.client.command(&contestant.program);
    let interval = format!("{}us", 1_000_000 / rate);
    client.args(["client", "-i", &interval, "-d", &format!("{seconds}s"), "-l", PAYLOAD]);
    client.args(["--tstamp=none", "--stats=none", "--timer=busy", "--wait=100ms", "-Q", "-o", "-"]);
    let said = lan.talk(&mut server, client.arg(SERVER.address.to_string()))?;
    let said: serde_json::Value = serde_json::from_str(&said).context("irtt prints JSON")?;
    let trips = said["round_trips"].as_array().context("irtt tells of each round trip")?;
    let mut round_trips: Vec<i64> = trips.iter().filter_map(|trip| trip["delay"]["rtt"].as_i64()).collect();
    ensure!(!round_trips.is_empty(), "irtt had no answer");
    round_trips.sort_unstable();
    Ok([0.5, 0.999].map(|share| percentile(&round_trips, share) / 1e3))
}
