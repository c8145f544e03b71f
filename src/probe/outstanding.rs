//! What was sent and waits for its transmit stamps: joined by token, given up after a while.
//!
//! No socket and no clock: stamps and the time come in, whole sightings come out. Nothing is allocated after the start.

use crate::clock::{Monotonic, Stamp, Time};
use crate::path::{StampWishes, Token, TxStamp};
use crate::record::Sighting;
use std::time::Duration;

/// How many may wait at once: 300,000 a second for 200 ms. A power of two.
const ROOM: usize = 1 << 16;

/// What waits: a sighting whose late stamps are to come, and what else its sender wants to know of it by then.
pub trait Awaiting: Copy {
    /// Where the stamps go.
    fn sighting(&mut self) -> &mut Sighting;
}

impl Awaiting for Sighting {
    fn sighting(&mut self) -> &mut Sighting {
        self
    }
}

/// One that waits.
#[derive(Debug, Clone, Copy)]
struct Waiting<S> {
    token: Token,
    sighting: S,
    /// Since when.
    since: Time<Monotonic>,
}

/// The newest datagram of a place.
#[derive(Debug, Clone, Copy)]
enum Slot<S> {
    Vacant,
    Waiting(Waiting<S>),
    /// It has all stamps that it waited for.
    Whole(Token),
}

/// What came of a stamp.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Joined<S = Sighting> {
    /// It was the last one that its datagram waited for.
    Whole(S),
    /// The datagram waits for another.
    Part,
    /// The datagram has this stamp already: the first one counts.
    Duplicate,
    /// Nobody waits for it: it came too late.
    Late,
}

/// The datagrams that wait, in the order in which they were sent.
#[derive(Debug)]
pub struct Outstanding<S = Sighting> {
    /// By token modulo [`ROOM`].
    slots: Box<[Slot<S>]>,
    /// Nobody waits with a token before this one.
    oldest: u64,
    /// The token after the newest one.
    next: u64,
    /// How many wait.
    count: usize,
    wanted: StampWishes,
    patience: Duration,
}

impl<S: Awaiting> Outstanding<S> {
    /// `wanted` are the stamps that each datagram waits for, for at most `patience`.
    pub fn new(wanted: StampWishes, patience: Duration) -> Self {
        Self::with_room(ROOM, wanted, patience)
    }

    fn with_room(room: usize, wanted: StampWishes, patience: Duration) -> Self {
        let room = if wanted.any() { room } else { 0 };
        Self { slots: vec![Slot::Vacant; room].into_boxed_slice(), oldest: 0, next: 0, count: 0, wanted, patience }
    }

    /// Whether nobody waits.
    pub const fn is_empty(&self) -> bool {
        self.oldest == self.next
    }

    /// How many wait.
    pub const fn len(&self) -> usize {
        self.count
    }

    /// Gives up the oldest where there is no room for `token`; to be called until it is `None`, before
    /// [`Outstanding::sent`]. So do all, where tokens do not ascend: they are another socket's.
    pub fn make_room(&mut self, token: Token) -> Option<S> {
        while !self.is_empty() && (token.0 < self.next || token.0 - self.oldest >= self.slots.len() as u64) {
            let slot = self.slot(Token(self.oldest));
            let gone = self.waiting(Token(self.oldest)).map(|waiting| waiting.sighting);
            self.oldest += 1;
            if gone.is_some() {
                self.count -= 1;
                self.slots[slot] = Slot::Vacant;
                self.advance();
                return gone;
            }
        }
        None
    }

    /// A datagram was sent at `now`, its sighting without the late stamps. There is room for it
    /// ([`Outstanding::make_room`]).
    pub fn sent(&mut self, now: Time<Monotonic>, token: Token, sighting: S) {
        if self.is_empty() {
            self.oldest = token.0;
        }
        // Tokens that were used up by sends that failed may stand between them: nobody waits under those.
        self.next = token.0 + 1;
        self.count += 1;
        let slot = self.slot(token);
        self.slots[slot] = Slot::Waiting(Waiting { token, sighting, since: now });
    }

    /// A stamp came.
    pub fn join(&mut self, late: TxStamp) -> Joined<S> {
        if self.slots.is_empty() {
            return Joined::Late;
        }
        let slot = self.slot(late.token);
        let waiting = match &mut self.slots[slot] {
            Slot::Waiting(waiting) if waiting.token == late.token => waiting,
            Slot::Whole(token) if *token == late.token => return Joined::Duplicate,
            _ => return Joined::Late,
        };
        let sighting = waiting.sighting.sighting();
        let is_first = match late.stamp {
            Stamp::System(time) => fill(&mut sighting.software, time),
            Stamp::Card(time) => fill(&mut sighting.hardware, time),
        };
        if !is_first {
            return Joined::Duplicate;
        }
        let whole = (sighting.software.is_some() || !self.wanted.software)
            && (sighting.hardware.is_some() || !self.wanted.hardware);
        if !whole {
            return Joined::Part;
        }
        let sighting = waiting.sighting;
        self.count -= 1;
        self.slots[slot] = Slot::Whole(late.token);
        self.advance();
        Joined::Whole(sighting)
    }

    /// One that has waited too long, as it is; to be called until it is `None`.
    pub fn give_up(&mut self, now: Time<Monotonic>) -> Option<S> {
        self.advance();
        let oldest = Token(self.oldest);
        let waiting = self.waiting(oldest)?;
        if now.duration_since(waiting.since) < self.patience {
            return None;
        }
        let sighting = waiting.sighting;
        let slot = self.slot(oldest);
        self.count -= 1;
        self.slots[slot] = Slot::Vacant;
        self.advance();
        Some(sighting)
    }

    /// When the oldest will have waited too long.
    pub fn deadline(&self) -> Option<Time<Monotonic>> {
        self.waiting(Token(self.oldest)).map(|waiting| waiting.since.plus(self.patience))
    }

    /// Moves on to the oldest one that still waits.
    fn advance(&mut self) {
        while !self.is_empty() && self.waiting(Token(self.oldest)).is_none() {
            self.oldest += 1;
        }
    }

    fn waiting(&self, token: Token) -> Option<&Waiting<S>> {
        if self.is_empty() {
            return None;
        }
        match &self.slots[self.slot(token)] {
            Slot::Waiting(waiting) if waiting.token == token => Some(waiting),
            _ => None,
        }
    }

    fn slot(&self, token: Token) -> usize {
        (token.0 % self.slots.len() as u64) as usize
    }
}

/// Puts a value where there is none; whether there was none.
fn fill<T>(place: &mut Option<T>, value: T) -> bool {
    let vacant = place.is_none();
    place.get_or_insert(value);
    vacant
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::wire::Point;
    use proptest::prelude::*;
    use std::collections::BTreeMap;

    const BOTH: StampWishes = StampWishes { software: true, hardware: true };
    const PATIENCE: Duration = Duration::from_millis(100);

    fn sighting(sequence: u64) -> Sighting {
        Sighting::of_test(sequence, Point::T0, 1)
    }

    fn at(millis: u64) -> Time<Monotonic> {
        Time::from_nanos(1_000_000 * millis)
    }

    fn software(token: u64, nanos: u64) -> TxStamp {
        TxStamp { token: Token(token), stamp: Stamp::System(Time::from_nanos(nanos)) }
    }

    fn hardware(token: u64, nanos: u64) -> TxStamp {
        TxStamp { token: Token(token), stamp: Stamp::Card(Time::from_nanos(nanos)) }
    }

    #[test]
    fn stamps_find_their_datagram_in_any_order() {
        let mut outstanding = Outstanding::new(BOTH, PATIENCE);
        (0..3).for_each(|token| outstanding.sent(at(0), Token(token), sighting(10 + token)));
        assert_eq!(outstanding.join(hardware(2, 7)), Joined::Part);
        assert_eq!(outstanding.join(software(0, 3)), Joined::Part);
        assert_eq!(outstanding.join(software(0, 4)), Joined::Duplicate);
        let expected =
            Sighting { software: Some(Time::from_nanos(5)), hardware: Some(Time::from_nanos(7)), ..sighting(12) };
        assert_eq!(outstanding.join(software(2, 5)), Joined::Whole(expected));
        assert_eq!(outstanding.join(software(2, 5)), Joined::Duplicate);
        let Joined::Whole(first) = outstanding.join(hardware(0, 9)) else { panic!() };
        assert_eq!((first.sequence, first.software.map(Time::as_nanos)), (10, Some(3)));
        assert_eq!(outstanding.join(hardware(5, 9)), Joined::Late, "of a datagram that is not sent yet");
        assert_eq!(outstanding.deadline(), Some(at(100)));
        assert_eq!(outstanding.give_up(at(99)), None);
        assert_eq!(outstanding.give_up(at(100)), Some(sighting(11)));
        assert!(outstanding.is_empty());
        assert_eq!((outstanding.give_up(at(1000)), outstanding.deadline()), (None, None));
        assert_eq!(outstanding.join(hardware(1, 9)), Joined::Late);
    }

    /// What is given up to make room, and then the datagram is sent.
    fn sent(outstanding: &mut Outstanding, millis: u64, token: u64) -> Vec<u64> {
        let gone = std::iter::from_fn(|| outstanding.make_room(Token(token))).map(|gone| gone.sequence).collect();
        outstanding.sent(at(millis), Token(token), sighting(token));
        gone
    }

    #[test]
    fn where_there_is_no_room_the_oldest_are_given_up() {
        let mut outstanding = Outstanding::with_room(8, BOTH, PATIENCE);
        (0..8).for_each(|token| assert_eq!(sent(&mut outstanding, 0, token), [0_u64; 0]));
        assert_eq!(sent(&mut outstanding, 0, 8), [0]);
        assert_eq!(outstanding.join(hardware(0, 1)), Joined::Late);
        assert_eq!(outstanding.join(hardware(8, 1)), Joined::Part);
        // Sends that failed have used up two tokens.
        assert_eq!(sent(&mut outstanding, 0, 11), [1, 2, 3]);
        let given_up: Vec<_> = std::iter::from_fn(|| outstanding.give_up(at(100))).map(|gone| gone.sequence).collect();
        assert_eq!(given_up, [4, 5, 6, 7, 8, 11]);
        assert!(outstanding.is_empty());
    }

    #[test]
    fn tokens_of_another_socket_end_the_wait_for_those_before() {
        let mut outstanding = Outstanding::with_room(8, BOTH, PATIENCE);
        assert_eq!(sent(&mut outstanding, 0, 1 << 62), [0_u64; 0]);
        assert_eq!(sent(&mut outstanding, 0, 3), [1 << 62]);
        assert_eq!(sent(&mut outstanding, 0, 1 << 62), [3]);
        assert_eq!(outstanding.give_up(at(100)).map(|gone| gone.sequence), Some(1 << 62));
        assert!(outstanding.is_empty());
    }

    #[derive(Debug, Clone)]
    enum Step {
        Sent(u64),
        Came(u64, bool),
        Waited(u64),
    }

    fn steps() -> impl Strategy<Value = Vec<Step>> {
        let step = prop_oneof![
            3 => (1_u64..4).prop_map(Step::Sent),
            6 => (0_u64..12, any::<bool>()).prop_map(|(behind, card)| Step::Came(behind, card)),
            1 => (0_u64..150).prop_map(Step::Waited),
        ];
        proptest::collection::vec(step, 0..200)
    }

    proptest! {
        /// Every datagram comes out once: whole, or given up.
        #[test]
        fn it_does_what_a_map_would(steps in steps()) {
            let mut outstanding = Outstanding::with_room(8, BOTH, PATIENCE);
            let mut model: BTreeMap<u64, (u64, bool, bool)> = BTreeMap::new();
            let (mut now, mut next) = (0, 0);
            for step in steps {
                match step {
                    Step::Sent(skip) => {
                        next += skip;
                        for gone in sent(&mut outstanding, now, next) {
                            prop_assert_eq!(model.pop_first().map(|(token, _)| token), Some(gone));
                            prop_assert!(gone + 8 <= next);
                        }
                        model.insert(next, (now, false, false));
                        prop_assert!(model.first_key_value().is_some_and(|(token, _)| token + 8 > next));
                    }
                    Step::Came(behind, card) => {
                        let token = next.saturating_sub(behind);
                        let late = if card { hardware(token, 5) } else { software(token, 5) };
                        let joined = outstanding.join(late);
                        let Some((_, has_software, has_card)) = model.get_mut(&token) else {
                            prop_assert!(matches!(joined, Joined::Late | Joined::Duplicate));
                            continue;
                        };
                        let had = std::mem::replace(if card { &mut *has_card } else { &mut *has_software }, true);
                        if had {
                            prop_assert_eq!(joined, Joined::Duplicate);
                        } else if *has_software && *has_card {
                            prop_assert!(matches!(joined, Joined::Whole(whole) if whole.sequence == token));
                            model.remove(&token);
                        } else {
                            prop_assert_eq!(joined, Joined::Part);
                        }
                    }
                    Step::Waited(millis) => {
                        now += millis;
                        while let Some(gone) = outstanding.give_up(at(now)) {
                            let (token, (since, ..)) = model.pop_first().unwrap();
                            prop_assert_eq!(gone.sequence, token);
                            prop_assert!(now - since >= 100);
                        }
                        prop_assert!(model.first_key_value().is_none_or(|(_, (since, ..))| now - since < 100));
                    }
                }
                prop_assert_eq!((outstanding.is_empty(), outstanding.len()), (model.is_empty(), model.len()));
            }
        }
    }
}
