//! What came of one round: a session of [`super::rounds`], with every sample kept.

use crate::path::Counters;
use crate::record::{PunctualityTotals, Stages, StampCounts};
use crate::session::{End, Settings, Totals};
use crate::wire::Account;

/// What came of a round.
#[derive(Debug, Clone)]
pub struct Outcome {
    /// How it ended.
    pub end: End,
    /// What it did, as the server agreed to it; `None` where no session came to be.
    pub agreed: Option<Settings>,
    /// What the session counted, the server's account among it.
    pub totals: Totals,
    /// Every t3 − t0 in ns, ascending; negative where a clock was stepped.
    pub t3_t0: Vec<i64>,
    /// Every round trip without the time that the server took, (t3 − t0) − (t2 − t1), in ns, ascending, where the pongs bring both.
    pub rtt: Vec<i64>,
    /// Samples beyond those kept: too many in one round.
    pub left_out: u64,
    /// Pings that were answered.
    pub answered: u64,
    /// Pongs that came more than once: the network repeats packets, or a ping of them had come twice.
    pub duplicates: u64,
    /// Pings answered of which t0 or t3 is missing, or whose two are of different clocks.
    pub unmeasured: u64,
    /// How late its pings left, and how often the core was away.
    pub punctuality: PunctualityTotals,
    /// Stamps taken.
    pub stamps: StampCounts,
    /// What lay between the stamps of this side's packets, since the round that began them; `None` where that is not known.
    pub stages: Option<Stages>,
    /// What the path counted meanwhile.
    pub counters: Counters,
    /// CPU time of this process in the session, all threads but the one that shows how it goes, in ns; `None` where the kernel does
    /// not tell.
    pub cpu_ns: Option<u64>,
}

impl Outcome {
    /// Pings that asked for a pong and got none.
    pub const fn lost(&self) -> u64 {
        self.totals.pongs_expected.saturating_sub(self.answered)
    }

    /// What the server counted, where it was asked for and the FIN was answered.
    pub const fn account(&self) -> Option<Account> {
        self.totals.account
    }

    /// Whether the server's account holds packets that were repeated on the way: it counts them as often as they came.
    pub fn is_blurred(&self) -> bool {
        let beyond = self.account().is_some_and(|account| {
            account.pings_received > self.totals.pings_sent || account.pongs_sent < self.answered
        });
        self.duplicates > 0 || beyond
    }

    /// Pings that the server did not receive, and pongs that did not come; `None` where the server has not said what it counted, or
    /// has counted what was repeated.
    pub fn lost_by_way(&self) -> Option<[u64; 2]> {
        let account = self.account().filter(|_| !self.is_blurred())?;
        Some([
            self.totals.pings_sent.checked_sub(account.pings_received)?,
            account.pongs_sent.checked_sub(self.answered)?,
        ])
    }

    /// Of a round in which nothing was.
    #[cfg(test)]
    pub(crate) fn nothing(end: End) -> Self {
        Self {
            end,
            agreed: None,
            totals: Totals::default(),
            t3_t0: Vec::new(),
            rtt: Vec::new(),
            left_out: 0,
            answered: 0,
            duplicates: 0,
            unmeasured: 0,
            punctuality: PunctualityTotals::default(),
            stamps: StampCounts::default(),
            stages: None,
            counters: Counters::default(),
            cpu_ns: None,
        }
    }
}
