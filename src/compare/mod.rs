//! `xdprobe compare`: AF_XDP beside the kernel's UDP, in alternating rounds against one server, and what the difference is.
//!
//! [`bench`] opens both paths and plays rounds, each a session with an ordinary `--server --keep` that serves on the path
//! that it is asked for. `outcome` makes numbers of them, `bootstrap` says how far the differences can be trusted;
//! `text` and `page` put them into words and pictures.
#![forbid(unsafe_code)]

mod bench;
pub mod bootstrap;
mod outcome;
mod page;
mod text;

use crate::cli::{ComparePlan, MIN_ROUNDS};
use crate::page::Reserved;
use crate::probe::say;
use crate::wire::ServePath;
use anyhow::{Context, Result, anyhow};
use bench::{Bench, Played};
use outcome::{Outcome, Setting};

/// A path of this side with one of the server's.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Combination {
    client: ServePath,
    server: ServePath,
}

impl Combination {
    const fn same(path: ServePath) -> Self {
        Self { client: path, server: path }
    }

    /// What it is called where one path is meant on both sides, and else.
    fn name(self) -> String {
        match self.client == self.server {
            true => self.client.as_str().to_owned(),
            false => format!("{} → {}", self.client.as_str(), self.server.as_str()),
        }
    }
}

/// The two that are always compared come first.
const COMBINATIONS: [Combination; 4] = [
    Combination::same(ServePath::Xdp),
    Combination::same(ServePath::Kernel),
    Combination { client: ServePath::Xdp, server: ServePath::Kernel },
    Combination { client: ServePath::Kernel, server: ServePath::Xdp },
];

/// Measures and prints; whether it was all had.
///
/// # Errors
/// What could not be had or done, in a sentence that says what to do. The machine is as it was.
pub fn run(plan: &ComparePlan) -> Result<bool> {
    // Before anything is measured.
    let html = plan.html.as_deref().map(Reserved::new).transpose()?;
    let combinations = &COMBINATIONS[..if plan.matrix { 4 } else { 2 }];
    let mut bench = Bench::open(plan, combinations).map_err(without_other_path)?;
    let mut ended = Ended::Whole;
    'rounds: for cycle in 0..plan.rounds as usize {
        let mut played = Vec::with_capacity(combinations.len());
        for at in order(cycle, combinations.len()) {
            match bench.play(at, cycle)? {
                Played::Round(round) => played.push((at, round)),
                Played::Stopped => {
                    ended = Ended::Stopped;
                    break 'rounds;
                }
                Played::Failed(why) => {
                    ended = Ended::Failed(why);
                    break 'rounds;
                }
            }
        }
        // Rounds count as a pair or not at all, and the first not.
        if cycle > 0 {
            bench.keep(played);
        }
    }
    let setting = Setting::new(plan, &bench);
    let rounds = bench.close()?;
    let kept = rounds.iter().map(|rounds| rounds.rounds.len()).min().unwrap_or(0);
    let success = !matches!(ended, Ended::Failed(_));
    if let Ended::Failed(why) = &ended {
        eprintln!("xdprobe: {why}");
    }
    if kept + 1 < MIN_ROUNDS as usize {
        if matches!(ended, Ended::Stopped) {
            eprintln!(
                "xdprobe: stopped after {kept} rounds of each path that count: fewer than {} say nothing of how they differ",
                MIN_ROUNDS - 1
            );
        }
        return Ok(false);
    }
    let stopped = !matches!(ended, Ended::Whole);
    let outcome = Outcome::new(setting, rounds, stopped);
    let said = match plan.client.json {
        true => say(&format!("{}\n", outcome.to_json())),
        false => say(&text::text(&outcome)),
    };
    said.context("cannot write the result to stdout")?;
    if let Some(html) = html {
        html.fill(&page::page(&outcome).html())?;
    }
    Ok(success)
}

/// An error that advises a session through the kernel, which is half of a comparison and no flag of this command, says so.
fn without_other_path(error: anyhow::Error) -> anyhow::Error {
    match format!("{error:#}") {
        advice if advice.contains("--path kernel") => {
            anyhow!("{advice} (of xdprobe --client: a comparison needs AF_XDP too)")
        }
        _ => error,
    }
}

/// How the rounds ended.
enum Ended {
    Whole,
    Stopped,
    Failed(String),
}

/// The combinations in the order of this cycle: who was first is last the next time, and with more than two each has
/// each place.
fn order(cycle: usize, count: usize) -> impl Iterator<Item = usize> {
    (0..count).map(move |at| (at + cycle) % count)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_flag_that_there_is_not_here_is_not_advised() {
        let told = |words: &'static str| format!("{:#}", without_other_path(anyhow!(words).context("eth0")));
        assert_eq!(
            told("no AF_XDP: use --path kernel"),
            "eth0: no AF_XDP: use --path kernel (of xdprobe --client: a comparison needs AF_XDP too)"
        );
        assert_eq!(told("no stamps: use --emulation"), "eth0: no stamps: use --emulation");
    }

    #[test]
    fn the_order_alternates_and_each_has_its_turn() {
        let orders = |count| (0..4).map(|cycle| order(cycle, count).collect::<Vec<_>>()).collect::<Vec<_>>();
        assert_eq!(orders(2), [[0, 1], [1, 0], [0, 1], [1, 0]]);
        assert_eq!(orders(4), [[0, 1, 2, 3], [1, 2, 3, 0], [2, 3, 0, 1], [3, 0, 1, 2]]);
    }
}
