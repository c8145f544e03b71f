//! What one session counts.

use crate::clock::{Monotonic, Time};
use crate::wire::Account;

/// A ping that leaves more than this many nanoseconds after its planned moment is late.
pub const LATE_NANOS: u64 = 10_000;

/// What one session counts. Numbers of datagrams unless said otherwise.
///
/// In this order: what a server counts for each ping stands in front, together.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
#[repr(C)]
pub struct Totals {
    /// Everything sent: pings, pongs, control messages with their repetitions, dummies.
    pub transmitted: u64,
    /// Everything received, foreign datagrams and dummies too.
    pub received: u64,
    /// Pings received, repeated ones too.
    pub pings_received: u64,
    /// Pongs sent.
    pub pongs_sent: u64,
    /// Pinging: before the first ping. Echoing: when the first ping came. `None` where there was none.
    pub started: Option<Time<Monotonic>>,
    /// IP length of the first ping sent, on the echoing side of the first pong.
    pub first_ip_len: Option<u16>,
    /// Pings sent.
    pub pings_sent: u64,
    /// Pings sent that ask for a pong.
    pub pongs_expected: u64,
    /// Pongs received to pings that ask for one, repeated ones too.
    pub pongs_received: u64,
    /// Of the pings sent behind PTP headers, those that a card is to stamp. 0 where there are no such headers: then every
    /// ping is to be stamped.
    pub stamped_pings_sent: u64,
    /// Of the pongs sent behind PTP headers, those that a card is to stamp.
    pub stamped_pongs_sent: u64,
    /// Pings and pongs that were to be stamped and were not, as the stamp of an earlier one might still have lain in a card.
    pub stamps_withheld: u64,
    /// Dummies sent.
    pub dummies_sent: u64,
    /// Dummies of a flood that were due: those sent, and those that could not be.
    pub load_due: u64,
    /// Of those, dummies left out as their moment had passed: whoever was to send them had no time.
    pub load_late: u64,
    /// Of those, dummies for which the path had no room.
    pub load_refused: u64,
    /// Dummies received from the session's peer.
    pub dummies_received: u64,
    /// When the first of them came.
    pub first_dummy: Option<Time<Monotonic>>,
    /// When the last of them came.
    pub last_dummy: Option<Time<Monotonic>>,
    /// What the other side has counted, where it was asked for and the session is over.
    pub account: Option<Account>,
    /// Datagrams from somebody else than the session's peer.
    pub foreign: u64,
    /// Datagrams from the peer that make no sense where the session stands, such as a pong to a ping never sent.
    pub unexpected: u64,
    /// Pings that had a planned moment: all, but those of a session that sends as fast as it can.
    pub planned_pings: u64,
    /// How long after its planned moment the last of them left, in ns.
    pub last_lateness_nanos: u64,
    /// Pings that left more than [`LATE_NANOS`] after their planned moment.
    pub late_sends: u64,
    /// The worst delay between planned moment and sending, in ns.
    pub worst_lateness_nanos: u64,
    /// Moments of the sending grid at which no ping was sent because an earlier one was that late.
    pub skipped_slots: u64,
    /// Pinging: the end of the last wait. Echoing: when the FIN was answered. Either: when it was given up.
    pub ended: Option<Time<Monotonic>>,
    /// Whether this side pings and is ponged: the side that can tell loss.
    pub measures_loss: bool,
}

impl Totals {
    /// Adds what one of many sessions counted between two moments. What is no number of datagrams is that session's alone, and left
    /// out.
    pub fn add_since(&mut self, earlier: &Self, later: &Self) {
        let (sum, a, b) = (self, earlier, later);
        for (sum, before, after) in [
            (&mut sum.transmitted, a.transmitted, b.transmitted),
            (&mut sum.received, a.received, b.received),
            (&mut sum.pings_sent, a.pings_sent, b.pings_sent),
            (&mut sum.pongs_expected, a.pongs_expected, b.pongs_expected),
            (&mut sum.pings_received, a.pings_received, b.pings_received),
            (&mut sum.pongs_sent, a.pongs_sent, b.pongs_sent),
            (&mut sum.pongs_received, a.pongs_received, b.pongs_received),
            (&mut sum.stamped_pings_sent, a.stamped_pings_sent, b.stamped_pings_sent),
            (&mut sum.stamped_pongs_sent, a.stamped_pongs_sent, b.stamped_pongs_sent),
            (&mut sum.stamps_withheld, a.stamps_withheld, b.stamps_withheld),
            (&mut sum.dummies_sent, a.dummies_sent, b.dummies_sent),
            (&mut sum.load_due, a.load_due, b.load_due),
            (&mut sum.load_late, a.load_late, b.load_late),
            (&mut sum.load_refused, a.load_refused, b.load_refused),
            (&mut sum.dummies_received, a.dummies_received, b.dummies_received),
            (&mut sum.foreign, a.foreign, b.foreign),
            (&mut sum.unexpected, a.unexpected, b.unexpected),
            (&mut sum.planned_pings, a.planned_pings, b.planned_pings),
            (&mut sum.late_sends, a.late_sends, b.late_sends),
            (&mut sum.skipped_slots, a.skipped_slots, b.skipped_slots),
        ] {
            *sum += after.saturating_sub(before);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sums_of_many_sessions_have_each_of_their_datagrams_once() {
        let at = |n: u64| Totals {
            transmitted: n,
            pings_received: 2 * n,
            pongs_sent: 3 * n,
            unexpected: 4 * n,
            skipped_slots: 5 * n,
            planned_pings: 6 * n,
            last_lateness_nanos: 98,
            worst_lateness_nanos: 99,
            measures_loss: true,
            ..Totals::default()
        };
        let mut sum = Totals::default();
        for (earlier, later) in
            [(Totals::default(), at(1)), (Totals::default(), at(10)), (at(1), at(4)), (at(4), at(4))]
        {
            sum.add_since(&earlier, &later);
        }
        assert_eq!(sum, Totals { last_lateness_nanos: 0, worst_lateness_nanos: 0, measures_loss: false, ..at(14) });
    }
}
