//! Both paths, open at once and to the end, and rounds on them: each a session of its own with the server.

use super::Combination;
use crate::cli::{ComparePlan, PathKind, Plan};
use crate::clock::Source;
use crate::path::Description;
use crate::probe::{Outcome, Round, Rounds};
use crate::record::{RoundNote, Stages, signed_micros};
use crate::session::{End, Pattern, Settings};
use crate::stats::Distribution;
use crate::wire::ServePath;
use anyhow::Result;
use std::fmt::Write as _;
use std::net::SocketAddrV4;

/// The most samples of a round that are kept: 16 MiB. More are counted as left out.
const MOST_SAMPLES: usize = 1 << 21;

/// All rounds of a combination that count.
#[derive(Debug)]
pub(super) struct Kept {
    pub(super) combination: Combination,
    pub(super) rounds: Vec<Outcome>,
    /// What lay between the stamps of this side's packets in them.
    pub(super) stages: Option<Stages>,
    /// This side's path.
    pub(super) description: Description,
    /// Whose stamps t0 and t3 are.
    pub(super) sources: [Source; 2],
}

/// How a round ended.
pub(super) enum Played {
    Round(Box<Outcome>),
    /// The user wants an end.
    Stopped,
    /// Why there is no such round, and what to do.
    Failed(String),
}

/// Both paths of this side, and what was measured on them.
pub(super) struct Bench {
    rounds: Rounds,
    kept: Vec<Kept>,
    /// What of each combination is told before the end.
    tallies: Vec<Tally>,
    /// How many cycles there are to be.
    cycles: u32,
}

/// All rounds of a combination that count so far, as one.
#[derive(Debug, Default)]
struct Tally {
    rounds: u64,
    sent: u64,
    lost: u64,
    t3_t0: Distribution,
    rtt: Distribution,
}

impl Tally {
    fn add(&mut self, round: &Outcome) {
        self.rounds += 1;
        self.sent += round.totals.pings_sent;
        self.lost += round.lost();
        for (all, samples) in [(&mut self.t3_t0, &round.t3_t0), (&mut self.rtt, &round.rtt)] {
            samples.iter().for_each(|sample| all.record(*sample));
        }
    }

    /// A line with its line feed.
    fn line(&mut self, name: &str) -> String {
        let Self { rounds, sent, lost, t3_t0, rtt } = self;
        let mut line = format!("{name}: {rounds} rounds that count, {sent} pings sent, {lost} lost");
        for (name, summary) in [("t3-t0", t3_t0.summary()), ("RTT", rtt.summary())] {
            if let Some(summary) = summary {
                let [p50, p99, max] = [summary.p50, summary.p99, summary.max].map(signed_micros);
                // Writing to a String cannot fail.
                let _ = write!(line, ", {name} p50 {p50}  p99 {p99}  max {max} us");
            }
        }
        line + "\n"
    }
}

const fn place(path: ServePath) -> usize {
    match path {
        ServePath::Xdp => 0,
        ServePath::Kernel => 1,
    }
}

impl Bench {
    /// Opens both paths and all that they need.
    ///
    /// # Errors
    /// What cannot be had and what can be done. Nothing is left behind.
    pub(super) fn open(compare: &ComparePlan, combinations: &[Combination]) -> Result<Self> {
        let plans = [PathKind::Xdp, PathKind::Kernel].map(|path| Plan { path, ..compare.client.clone() });
        let rows: Vec<_> = combinations.iter().map(|combination| place(combination.client)).collect();
        let rounds = Rounds::open(plans.into(), &rows)?;
        let kept = combinations.iter().enumerate().map(|(row, &combination)| {
            let (description, sources) = (rounds.description(row), rounds.sources(row));
            Kept { combination, rounds: Vec::new(), stages: None, description, sources }
        });
        let tallies = combinations.iter().map(|_| Tally::default()).collect();
        Ok(Self { kept: kept.collect(), rounds, tallies, cycles: compare.rounds })
    }

    /// The server, as it was found.
    pub(super) const fn server(&self) -> SocketAddrV4 {
        self.rounds.server()
    }

    /// What each round asks for, but for the server's path.
    pub(super) const fn settings(&self) -> &Settings {
        self.rounds.settings()
    }

    /// Plays one round of a combination. `cycle` is how many rounds it has had.
    ///
    /// # Errors
    /// What broke on this side.
    pub(super) fn play(&mut self, at: usize, cycle: usize) -> Result<Played> {
        if self.rounds.is_stopped() {
            return Ok(Played::Stopped);
        }
        let combination = self.kept[at].combination;
        let round = Round {
            row: at,
            settings: Settings { serve_on: Some(combination.server), account: true, ..*self.settings() },
            pattern: Pattern::default(),
            // The first one that counts begins the statistics of stages anew; the later ones add to them.
            begins: cycle <= 1,
            most_samples: MOST_SAMPLES,
        };
        let note = self.note(combination, cycle);
        let outcome = self.rounds.run(&round, note)?;
        Ok(match outcome.end {
            End::Complete => Played::Round(Box::new(outcome)),
            End::Stopped | End::StoppedConnecting => Played::Stopped,
            end => Played::Failed(failure(end, combination, cycle, self.server())),
        })
    }

    /// What is told of a round while it runs, with what those before it came to.
    fn note(&mut self, combination: Combination, cycle: usize) -> RoundNote {
        let name = format!("round {} of {}, path {}", cycle + 1, self.cycles, combination.name());
        let lines = self.kept.iter().zip(&mut self.tallies);
        RoundNote { name, before: lines.map(|(kept, tally)| tally.line(&kept.combination.name())).collect() }
    }

    /// These rounds, one of each combination, count.
    pub(super) fn keep(&mut self, played: Vec<(usize, Box<Outcome>)>) {
        for (at, mut round) in played {
            self.tallies[at].add(&round);
            self.kept[at].stages = round.stages.take();
            self.kept[at].rounds.push(*round);
        }
    }

    /// Gives everything back; all that counts.
    ///
    /// # Errors
    /// What of the card could not be given back.
    pub(super) fn close(self) -> Result<Vec<Kept>> {
        self.rounds.close()?;
        Ok(self.kept)
    }
}

/// Why a round failed, and what to do.
fn failure(end: End, combination: Combination, cycle: usize, server: SocketAddrV4) -> String {
    let path = combination.server.as_str();
    let which = format!("round {} on the {} path", cycle + 1, combination.name());
    match end {
        End::Rejected => format!(
            "{which}: the server at {server} refused it: it has another client, or cannot serve on the {path} path (its stderr \
             says which): start it with --server --keep, and without --path kernel"
        ),
        End::NotAgreed { .. } => format!(
            "{which}: the server at {server} does not know what a comparison asks for (the path that it is to serve on, an account of \
             what it did): it is a nanoprobe, or an xdprobe that is too old: run this xdprobe there, with --server --keep"
        ),
        End::NoAnswer { .. } if cycle > 0 => format!(
            "{which}: the server at {server} answered earlier rounds and no longer does: start it with --keep, so that it serves more \
             than one session"
        ),
        End::NoAnswer { .. } => format!(
            "{which}: the server at {server} did not answer: check that it runs with --server --keep, that address and port are its \
             own, and that no firewall drops its UDP port; a server without --keep leaves after one round; or raise \
             --connect-timeout"
        ),
        End::TimedOut { .. } => {
            format!("{which}: nothing was received any more: the server at {server} or the way to it is gone")
        }
        End::FinUnanswered { .. } => {
            format!("{which}: the server at {server} did not confirm the end: it, or the way to it, is gone")
        }
        End::PeerStopped => format!("{which}: the server at {server} was stopped by its user"),
        End::FloodUnanswered { .. } | End::Complete | End::Stopped | End::StoppedConnecting | End::Broken => {
            format!("{which}: it ended before its time")
        }
    }
}
