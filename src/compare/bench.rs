//! Both paths, open at once and to the end, and rounds on them: each a session of its own with the server.

use super::Combination;
use crate::cli::{ComparePlan, PathKind, Plan};
use crate::clock::Source;
use crate::path::Description;
use crate::probe::{Outcome, Round, Rounds};
use crate::record::Stages;
use crate::session::{End, Pattern, Settings};
use crate::wire::ServePath;
use anyhow::Result;
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
        Ok(Self { kept: kept.collect(), rounds })
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
        let outcome = self.rounds.run(&Round {
            row: at,
            settings: Settings { serve_on: Some(combination.server), account: true, ..*self.settings() },
            pattern: Pattern::default(),
            // The first one that counts begins the statistics of stages anew; the later ones add to them.
            begins: cycle <= 1,
            most_samples: MOST_SAMPLES,
        })?;
        Ok(match outcome.end {
            End::Complete => Played::Round(Box::new(outcome)),
            End::Stopped | End::StoppedConnecting => Played::Stopped,
            end => Played::Failed(failure(end, combination, cycle, self.server())),
        })
    }

    /// These rounds, one of each combination, count.
    pub(super) fn keep(&mut self, played: Vec<(usize, Box<Outcome>)>) {
        for (at, mut round) in played {
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
