//! Which datagram a transmit stamp belongs to: the kernel's 32-bit keys and our tokens.
//!
//! The kernel counts the datagrams of a socket that ask for a stamp, from 0, or takes a key of ours: both are the low 32
//! bits of the token. A stamp whose key no datagram of the last 2³² can have is nobody's.
#![forbid(unsafe_code)]

use super::Token;
use super::control::Report;
use crate::clock::Stamp;

/// Gives out tokens and finds them again.
#[derive(Debug, Default)]
pub struct Keys {
    /// The token of the key 0.
    base: u64,
    /// The key that is given out next, with the bits that the kernel has no room for.
    next: u64,
    /// The first report of each kind (of the kernel's clock, of the card's), until the second shows that keys count.
    first: [Option<Report>; 2],
    proven: [bool; 2],
    /// Behind the newest datagram that each kind was reported of.
    told: [u64; 2],
    /// A report came before that of an earlier datagram.
    gap: bool,
}

/// The kernel gives every stamp the same key.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error(
    "the kernel gives two transmit stamps the same key ({key}), so that nobody knows whose they are: this kernel has no \
     SOF_TIMESTAMPING_OPT_ID for such sockets (packet sockets have it since Linux 5.0): use a newer one, or --timestamps \
     application"
)]
pub struct KeysStandStill {
    /// The key.
    pub key: u32,
}

impl Keys {
    /// Tokens from `base` up.
    pub fn from(base: u64) -> Self {
        Self { base, ..Self::default() }
    }

    /// The key of the next datagram.
    pub const fn key(&self) -> u32 {
        self.next as u32
    }

    /// The token of the next datagram. It counts only once [`Keys::used`] is called: a send that the kernel refused
    /// before it counted takes none.
    pub const fn next(&self) -> Token {
        Token(self.base + self.next)
    }

    /// The datagram with the token [`Keys::next`] was counted by the kernel.
    pub const fn used(&mut self) {
        self.next += 1;
    }

    /// The kernel begins to count anew: the next datagram has the key 0 and a token like any other. Reports of those before
    /// are nobody's from now on, as far as their keys are not given out again.
    pub fn restart(&mut self) {
        self.base += self.next;
        self.next = 0;
        self.first = [None; 2];
        self.told = [0; 2];
        self.gap = false;
    }

    /// Whether the newest datagram was reported in each of these kinds: of the kernel's clock, of the card's. With no gap
    /// ([`Keys::take_gap`]) so was each one before.
    pub fn is_told(&self, kinds: [bool; 2]) -> bool {
        kinds.into_iter().zip(self.told).all(|(awaited, told)| !awaited || told == self.next)
    }

    /// Whether a report has overtaken another one, or one is missing, since this was last asked.
    pub fn take_gap(&mut self) -> bool {
        std::mem::take(&mut self.gap)
    }

    /// Whose report this is; `None` where no datagram has that key.
    ///
    /// # Errors
    /// [`KeysStandStill`] where the first two reports of a kind bear the same key and different stamps.
    pub fn token(&mut self, report: &Report) -> Result<Option<Token>, KeysStandStill> {
        let Some(newest) = self.next.checked_sub(1) else { return Ok(None) };
        let distance = (newest as u32).wrapping_sub(report.key);
        let Some(at) = newest.checked_sub(u64::from(distance)) else { return Ok(None) };
        let kind = usize::from(matches!(report.stamp, Stamp::Card(_)));
        // A report that is nobody's, as of an earlier user of the socket, proves nothing of how keys are given to ours.
        if !self.proven[kind] {
            match self.first[kind] {
                None => self.first[kind] = Some(*report),
                // The same report twice proves nothing.
                Some(first) if first == *report => {}
                Some(first) if first.key == report.key => return Err(KeysStandStill { key: report.key }),
                Some(_) => self.proven[kind] = true,
            }
        }
        let told = &mut self.told[kind];
        if at >= *told {
            self.gap |= at > *told;
            *told = at + 1;
        }
        Ok(Some(Token(self.base + at)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::clock::Time;
    use proptest::prelude::*;

    fn report(key: u32, nanos: u64) -> Report {
        Report { key, stamp: Stamp::Card(Time::from_nanos(nanos)) }
    }

    #[test]
    fn a_key_that_nobody_has_is_nobodys() {
        let mut keys = Keys::default();
        assert_eq!(keys.token(&report(0, 1)), Ok(None), "nothing was sent");
        keys.used();
        keys.used();
        assert_eq!(keys.token(&report(2, 1)), Ok(None), "beyond what was sent");
        // Neither makes a key of ours look as if it were given a second time.
        assert_eq!(keys.token(&report(0, 2)), Ok(Some(Token(0))));
        assert_eq!(keys.token(&report(0, 3)), Err(KeysStandStill { key: 0 }), "another stamp with the same key");
        assert_eq!(keys.token(&report(1, 3)), Ok(Some(Token(1))));
        assert_eq!(keys.token(&report(2, 4)), Ok(None));
        assert_eq!(keys.token(&report(u32::MAX, 4)), Ok(None));
    }

    #[test]
    fn a_report_that_comes_twice_is_not_taken_for_standing_keys() {
        let mut keys = Keys::default();
        (0..3).for_each(|_| keys.used());
        for _ in 0..2 {
            assert_eq!(keys.token(&report(0, 5)), Ok(Some(Token(0))));
        }
        // The kernel's own stamp of the same datagram bears the same key.
        let software = Report { key: 0, stamp: Stamp::System(Time::from_nanos(4)) };
        assert_eq!(keys.token(&software), Ok(Some(Token(0))));
        assert_eq!(keys.token(&report(2, 6)), Ok(Some(Token(2))));
        assert_eq!(
            keys.token(&report(2, 7)),
            Ok(Some(Token(2))),
            "once keys were seen to count, a repetition is another's affair"
        );
    }

    #[test]
    fn after_a_restart_tokens_go_on_and_keys_begin_anew() {
        let mut keys = Keys::from(100);
        (0..5).for_each(|_| keys.used());
        keys.restart();
        assert_eq!((keys.key(), keys.next()), (0, Token(105)));
        keys.used();
        assert_eq!(keys.token(&report(0, 1)), Ok(Some(Token(105))));
        assert_eq!(keys.token(&report(4, 2)), Ok(None), "of a datagram before");
    }

    #[test]
    fn what_is_still_to_come_is_known() {
        let (mut keys, card) = (Keys::default(), [false, true]);
        assert!(keys.is_told(card), "nothing was sent");
        (0..3).for_each(|_| keys.used());
        assert!(!keys.is_told(card) && keys.is_told([false; 2]));
        for key in 0..3 {
            keys.token(&report(key, u64::from(key) + 1)).unwrap();
        }
        assert!(keys.is_told(card) && !keys.take_gap());
        assert!(!keys.is_told([true, true]), "the kernel's own are of another kind");
        (0..2).for_each(|_| keys.used());
        keys.token(&report(4, 9)).unwrap();
        assert!(keys.is_told(card) && keys.take_gap() && !keys.take_gap(), "that of 3 may still come");
        keys.token(&report(3, 8)).unwrap();
        assert!(keys.is_told(card) && !keys.take_gap());
        keys.restart();
        assert!(keys.is_told([true, true]));
    }

    proptest! {
        #[test]
        fn keys_wrap_around(newest in 0_u64..1 << 40, behind in 0_u64..1 << 31) {
            let mut keys = Keys { next: newest + 1, proven: [true; 2], ..Keys::default() };
            let token = newest.checked_sub(behind);
            let key = newest.wrapping_sub(behind) as u32;
            prop_assert_eq!(keys.token(&report(key, 1)), Ok(token.map(Token)));
        }
    }
}
