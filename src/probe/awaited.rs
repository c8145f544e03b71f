//! Transmit stamps of many sessions at once: whose each is, and which sessions wait for some though they are over.
//!
//! A stamp belongs to a datagram by its token, which no two datagrams of a path have, whoever they are for; what waits knows its session
//! by place and number, as a place may be another session's by the time that a stamp comes. Nothing is allocated after the start.
#![forbid(unsafe_code)]

use super::outstanding::{Awaiting, Joined, Outstanding};
use crate::clock::{Monotonic, Time};
use crate::path::{StampWishes, Token, TxStamp};
use crate::record::Sighting;
use crate::session::{End, Totals};
use std::time::Duration;

/// A datagram that was sent in one of many sessions.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Owned {
    place: u32,
    /// Which session at that place.
    number: u32,
    pub(super) sighting: Sighting,
}

impl Awaiting for Owned {
    fn sighting(&mut self) -> &mut Sighting {
        &mut self.sighting
    }
}

/// A session that is over, as it was at its end.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) struct Leaving {
    pub(super) end: End,
    pub(super) totals: Totals,
    pub(super) excess: u64,
}

/// The session at one place.
#[derive(Debug, Clone, Copy, Default)]
struct Of {
    number: u32,
    /// How many of its datagrams wait.
    waiting: u32,
    leaving: Option<Leaving>,
}

/// The datagrams that wait, and the sessions.
#[derive(Debug)]
pub(super) struct Awaited {
    outstanding: Outstanding<Owned>,
    /// By place; none where no stamps come later.
    sessions: Vec<Of>,
    patience: Duration,
}

impl Awaited {
    /// `places` as of [`crate::session::Hall::room`]; the rest as of [`Outstanding::new`].
    pub(super) fn new(places: usize, wanted: StampWishes, patience: Duration) -> Self {
        let sessions = vec![Of::default(); if wanted.any() { places } else { 0 }];
        Self { outstanding: Outstanding::new(wanted, patience), sessions, patience }
    }

    /// Whether nothing waits.
    pub(super) const fn is_empty(&self) -> bool {
        self.outstanding.is_empty()
    }

    /// How many datagrams wait.
    pub(super) const fn len(&self) -> usize {
        self.outstanding.len()
    }

    /// When the oldest will have waited too long.
    pub(super) fn deadline(&self) -> Option<Time<Monotonic>> {
        self.outstanding.deadline()
    }

    /// As [`Outstanding::make_room`].
    pub(super) fn make_room(&mut self, token: Token) -> Option<Owned> {
        self.outstanding.make_room(token)
    }

    /// A datagram of the session at this place was sent. There is room ([`Awaited::make_room`]).
    pub(super) fn sent(&mut self, now: Time<Monotonic>, place: usize, token: Token, sighting: Sighting) {
        let of = &mut self.sessions[place];
        of.waiting += 1;
        self.outstanding.sent(now, token, Owned { place: place as u32, number: of.number, sighting });
    }

    /// A stamp came.
    pub(super) fn join(&mut self, late: TxStamp) -> Joined<Owned> {
        self.outstanding.join(late)
    }

    /// One that has waited too long; to be called until it is `None`.
    pub(super) fn give_up(&mut self, now: Time<Monotonic>) -> Option<Owned> {
        self.outstanding.give_up(now)
    }

    /// One that waits, whether it has waited long or not; to be called until it is `None`: nobody will bring stamps any more.
    pub(super) fn give_up_any(&mut self, now: Time<Monotonic>) -> Option<Owned> {
        self.outstanding.give_up(now.plus(self.patience))
    }

    /// A datagram waits no longer: the place of its session; `None` where its session was closed without it.
    pub(super) fn settled(&mut self, owned: &Owned) -> Option<usize> {
        let of = &mut self.sessions[owned.place as usize];
        (of.number == owned.number).then(|| {
            of.waiting -= 1;
            owned.place as usize
        })
    }

    /// The session at this place is over; whether it is to be closed at once, as nothing of it waits.
    pub(super) fn leave(&mut self, place: usize, leaving: Leaving) -> bool {
        let Some(of) = self.sessions.get_mut(place).filter(|of| of.waiting > 0) else { return true };
        of.leaving = Some(leaving);
        false
    }

    /// The session at this place, where it is over and nothing of it waits any more: once.
    pub(super) fn left(&mut self, place: usize) -> Option<Leaving> {
        let of = self.sessions.get_mut(place)?;
        if of.waiting == 0 { of.leaving.take() } else { None }
    }

    /// Whoever was at this place is to be closed: how many of their datagrams still waited and will be nobody's, and the session if
    /// it is over.
    pub(super) fn close(&mut self, place: usize) -> (u32, Option<Leaving>) {
        let Some(of) = self.sessions.get_mut(place) else { return (0, None) };
        of.number = of.number.wrapping_add(1);
        (std::mem::take(&mut of.waiting), of.leaving.take())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::clock::Stamp;
    use crate::wire::Point;

    const SOFTWARE: StampWishes = StampWishes { software: true, hardware: false };
    fn leaving() -> Leaving {
        Leaving { end: End::Complete, totals: Totals { pongs_sent: 9, ..Totals::default() }, excess: 3 }
    }

    fn at(millis: u64) -> Time<Monotonic> {
        Time::from_nanos(millis * 1_000_000)
    }

    fn pong(sequence: u64) -> Sighting {
        Sighting::of_test(sequence, Point::T2, sequence)
    }

    fn stamp(token: u64) -> TxStamp {
        TxStamp { token: Token(token), stamp: Stamp::System(Time::from_nanos(1000 + token)) }
    }

    fn awaited() -> Awaited {
        Awaited::new(3, SOFTWARE, Duration::from_millis(100))
    }

    #[test]
    fn a_stamp_is_its_own_clients_whatever_the_order_and_though_sequences_are_the_same() {
        let mut awaited = awaited();
        // Three clients at the same sequences.
        for token in 0..30_u64 {
            awaited.sent(at(0), token as usize % 3, Token(token), pong(token / 3));
        }
        for token in (0..30).rev() {
            let Joined::Whole(owned) = awaited.join(stamp(token)) else { panic!("it waits") };
            let Sighting { sequence, software, .. } = owned.sighting;
            assert_eq!((sequence, software), (token / 3, Some(Time::from_nanos(1000 + token))));
            assert_eq!(awaited.settled(&owned), Some(token as usize % 3));
        }
        assert!(awaited.is_empty());
        assert_eq!(awaited.join(stamp(5)), Joined::Duplicate);
    }

    #[test]
    fn a_session_that_is_over_stays_until_its_last_stamp() {
        let mut awaited = awaited();
        assert!(awaited.leave(0, leaving()), "nothing of it waits");
        awaited.sent(at(0), 1, Token(0), pong(1));
        awaited.sent(at(0), 2, Token(1), pong(1));
        assert!(!awaited.leave(1, leaving()));
        assert_eq!(awaited.left(1), None);
        let Joined::Whole(other) = awaited.join(stamp(1)) else { panic!("it waits") };
        assert_eq!((awaited.settled(&other), awaited.left(2), awaited.left(1)), (Some(2), None, None));
        assert_eq!(awaited.give_up(at(99)), None);
        let owned = awaited.give_up(at(100)).unwrap();
        assert_eq!((owned.sighting, awaited.settled(&owned)), (pong(1), Some(1)));
        assert_eq!((awaited.left(1), awaited.left(1)), (Some(leaving()), None));
    }

    #[test]
    fn what_comes_for_a_closed_session_is_not_the_next_ones() {
        let mut awaited = awaited();
        awaited.sent(at(0), 1, Token(0), pong(7));
        assert!(!awaited.leave(1, leaving()));
        assert_eq!(awaited.close(1), (1, Some(leaving())));
        // Another session at the same place, with the same sequence.
        awaited.sent(at(1), 1, Token(1), pong(7));
        let Joined::Whole(owned) = awaited.join(stamp(0)) else { panic!("it waits") };
        assert_eq!(awaited.settled(&owned), None);
        let Joined::Whole(owned) = awaited.join(stamp(1)) else { panic!("it waits") };
        assert_eq!((awaited.settled(&owned), owned.sighting.software), (Some(1), Some(Time::from_nanos(1001))));
        assert_eq!((awaited.left(1), awaited.close(1)), (None, (0, None)));
    }

    #[test]
    fn without_late_stamps_there_is_nothing() {
        let mut awaited = Awaited::new(3, StampWishes::default(), Duration::from_millis(100));
        assert!(awaited.is_empty() && awaited.leave(2, leaving()));
        assert_eq!((awaited.left(2), awaited.close(2), awaited.deadline()), (None, (0, None), None));
    }
}
