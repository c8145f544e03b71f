//! How many stamps were asked for, came, and did not.

use std::time::Duration;

/// The stamps of a session's datagrams, as the hot loop counts them. Of the source that was chosen for the direction.
///
/// In this order: what is counted of each ping and pong stands in front, together.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
#[repr(C)]
pub struct StampCounts {
    /// Datagrams sent of which a stamp was asked for. Where the process stamps: all but the dummies.
    pub tx_requested: u64,
    /// Of those, the ones whose stamp came in time.
    pub tx: u64,
    /// Datagrams received that were to have a stamp and had one. Where the process stamps these are all, else pings and pongs,
    /// without those that the card was to leave alone.
    pub rx: u64,
    /// Of the datagrams sent, those whose stamp was waited for in vain.
    pub tx_missed: u64,
    /// Transmit stamps that came after they had been given up; they are in no row.
    pub tx_late: u64,
    /// Transmit stamps of datagrams that had theirs already: the first one counts.
    pub tx_duplicates: u64,
    /// Datagrams received that were to have a stamp and had none.
    pub rx_missed: u64,
    /// Stamps of the card, of either direction, that were none: 0, or more than an hour from the card's own time.
    pub implausible: u64,
    /// Pairs of stamps of a ping and its pong that went out with a later pong, as the client asked for (`--in-band`).
    pub told: u64,
    /// Such pairs that there was no room to keep until then, or that were left out for newer ones: behind a stall all others would
    /// come late for the rest of the session.
    pub untold: u64,
}

impl StampCounts {
    /// Adds what one of many sessions counted between two moments.
    pub fn add_since(&mut self, earlier: &Self, later: &Self) {
        let (sum, a, b) = (self, earlier, later);
        for (sum, before, after) in [
            (&mut sum.tx_requested, a.tx_requested, b.tx_requested),
            (&mut sum.tx, a.tx, b.tx),
            (&mut sum.tx_missed, a.tx_missed, b.tx_missed),
            (&mut sum.tx_late, a.tx_late, b.tx_late),
            (&mut sum.tx_duplicates, a.tx_duplicates, b.tx_duplicates),
            (&mut sum.rx, a.rx, b.rx),
            (&mut sum.rx_missed, a.rx_missed, b.rx_missed),
            (&mut sum.implausible, a.implausible, b.implausible),
            (&mut sum.told, a.told, b.told),
            (&mut sum.untold, a.untold, b.untold),
        ] {
            *sum += after.saturating_sub(before);
        }
    }

    /// What is missing, in a line; `None` where nothing is. `waited` is how long a transmit stamp is waited for.
    pub(super) fn words(&self, waited: Option<Duration>) -> Option<String> {
        let Self { tx_requested, tx_missed, tx_late, tx_duplicates, rx_missed, implausible, .. } = *self;
        let each = waited.map(|waited| format!(" (waited {} ms each)", waited.as_millis())).unwrap_or_default();
        let how = if tx_late > 0 { "did not come in time" } else { "never came" };
        let parts = [
            (tx_missed, format!("{tx_missed} of {tx_requested} transmit stamps {how}{each}")),
            (tx_late, format!("{tx_late} came too late")),
            (tx_duplicates, format!("{tx_duplicates} transmit stamps came more than once")),
            (rx_missed, format!("{rx_missed} datagrams came without a receive stamp")),
            (implausible, format!("{implausible} of the card's stamps were none: more than an hour from its own time")),
        ];
        let words: Vec<String> = parts.into_iter().filter(|(count, _)| *count > 0).map(|(_, words)| words).collect();
        (!words.is_empty()).then(|| words.join(", "))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_missing_is_said_and_nothing_else() {
        let counts = StampCounts { tx_requested: 101, tx: 101, rx: 99, ..StampCounts::default() };
        assert_eq!(counts.words(Some(Duration::from_millis(100))), None);
        let counts = StampCounts { tx: 98, tx_missed: 3, rx_missed: 2, ..counts };
        let expected =
            "3 of 101 transmit stamps never came (waited 100 ms each), 2 datagrams came without a receive stamp";
        assert_eq!(counts.words(Some(Duration::from_millis(100))).as_deref(), Some(expected));
        let counts =
            StampCounts { tx_requested: 5, tx_missed: 1, tx_late: 1, tx_duplicates: 4, ..StampCounts::default() };
        let expected = "1 of 5 transmit stamps did not come in time, 1 came too late, \
                        4 transmit stamps came more than once";
        assert_eq!(counts.words(None).as_deref(), Some(expected));
    }
}
