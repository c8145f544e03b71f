//! What all sessions of a server of many clients have counted together, for those who want to know.
//!
//! Each session counts for itself. What it has counted since it was last looked at is added to the sum when somebody asks, of those
//! sessions alone that something happened in, a few at each turn of the loop: nobody's ping waits for a look at thousands of them,
//! and where nobody asks a ping costs one mark. A session that ends is added at once. Nothing is allocated after the start.
#![forbid(unsafe_code)]

use crate::live::{Begun, Counts, Feed};
use crate::path::Counters;
use crate::record::{Crowd, StampCounts};
use crate::session::{End, Hall, Totals};
use std::collections::VecDeque;

/// How many sessions are looked at in one turn of the loop.
const PIECE: usize = 32;

/// One session, as far as it is in the sum.
#[derive(Debug, Clone, Copy, Default)]
struct Added {
    totals: Totals,
    stamps: StampCounts,
    /// It stands: what is counted of a place otherwise is nobody's.
    stands: bool,
}

/// The sum over all sessions, and who is told of it.
#[derive(Debug)]
pub(super) struct Tally {
    /// By place.
    added: Vec<Added>,
    /// By place: whether it is among those to be looked at. All that a ping touches, and so apart from what is in the sum.
    waits: Vec<bool>,
    /// Places in which something happened since they were last looked at, each once.
    waiting: VecDeque<u32>,
    totals: Totals,
    stamps: StampCounts,
    crowd: Crowd,
    /// Somebody asked: so many places are to be looked at before there is an answer.
    asked: Option<usize>,
    feed: Option<Feed>,
}

impl Tally {
    /// Nothing is counted yet; `places` as of [`Hall::room`]. `feed` where somebody watches.
    pub(super) fn new(places: usize, feed: Option<Feed>) -> Self {
        Self {
            added: vec![Added::default(); places],
            waits: vec![false; places],
            waiting: VecDeque::with_capacity(places),
            totals: Totals::default(),
            stamps: StampCounts::default(),
            crowd: Crowd::default(),
            asked: None,
            feed,
        }
    }

    /// The server is there, and no session yet. Before the loop.
    pub(super) fn start(&mut self) {
        let counts = self.counts();
        if let Some(feed) = &mut self.feed {
            feed.begin(Begun::CROWD, &counts);
        }
    }

    /// Something happened at a place.
    #[inline]
    pub(super) fn touch(&mut self, place: usize) {
        if !std::mem::replace(&mut self.waits[place], true) {
            self.waiting.push_back(place as u32);
        }
    }

    /// A session stands at a place.
    pub(super) fn begin(&mut self, place: usize) {
        self.added[place] = Added { stands: true, ..Added::default() };
        self.crowd.begun += 1;
        self.touch(place);
    }

    /// It is over, and this is all that it counted.
    pub(super) fn end(&mut self, place: usize, end: End, totals: &Totals, stamps: &StampCounts) {
        if self.added[place].stands {
            self.add(place, totals, stamps);
            self.added[place].stands = false;
            self.crowd.ends(end);
        }
    }

    /// The last stamps of a session that is over have come, or never will.
    pub(super) fn stamped(&mut self, place: usize, stamps: &StampCounts) {
        let added = &mut self.added[place];
        self.stamps.add_since(&added.stamps, stamps);
        added.stamps = *stamps;
    }

    /// A client was refused.
    pub(super) fn refuse(&mut self) {
        self.crowd.refused += 1;
    }

    /// Has the sum brought up to date by the next looks, as the user asks for it.
    pub(super) fn ask(&mut self) {
        self.asked.get_or_insert(self.waiting.len());
    }

    /// Looks at a few sessions where somebody wants to know; whether the sum is of this moment now.
    #[inline]
    pub(super) fn look(&mut self, hall: &Hall, stamps: &[StampCounts]) -> bool {
        if self.asked.is_none() && self.feed.as_ref().is_some_and(Feed::is_asked) {
            self.ask();
        }
        match self.asked {
            None => false,
            Some(left) => self.look_on(left, hall, stamps),
        }
    }

    #[cold]
    fn look_on(&mut self, left: usize, hall: &Hall, stamps: &[StampCounts]) -> bool {
        let now = left.min(PIECE);
        self.take(now, hall, stamps);
        self.asked = (left > now).then_some(left - now);
        if self.asked.is_none() {
            self.publish(hall);
        }
        self.asked.is_none()
    }

    /// Looks at all that wait and tells whoever watches: the loop is about to sleep, and nobody wakes it to ask. What waits then is
    /// no more than what the last turns have brought.
    pub(super) fn before_sleep(&mut self, hall: &Hall, stamps: &[StampCounts]) {
        if self.feed.is_some() {
            self.take(self.waiting.len(), hall, stamps);
            self.asked = None;
            self.publish(hall);
        }
    }

    /// All sessions are over.
    pub(super) fn finish(&mut self, hall: &Hall, stamps: &[StampCounts]) {
        self.take(self.waiting.len(), hall, stamps);
        self.crowd_now(hall);
        let counts = self.counts();
        if let Some(feed) = &mut self.feed {
            feed.end(&counts, End::Stopped, Counters::default());
        }
    }

    /// What all sessions have come to, as of the last look.
    pub(super) fn so_far(&self) -> (Crowd, Totals) {
        (self.crowd, self.totals)
    }

    fn take(&mut self, places: usize, hall: &Hall, stamps: &[StampCounts]) {
        for _ in 0..places {
            let Some(place) = self.waiting.pop_front() else { return };
            let place = place as usize;
            self.waits[place] = false;
            if let (true, Some(totals)) = (self.added[place].stands, hall.totals_at(place)) {
                self.add(place, totals, &stamps[place]);
            }
        }
    }

    fn add(&mut self, place: usize, totals: &Totals, stamps: &StampCounts) {
        let added = &mut self.added[place];
        self.totals.add_since(&added.totals, totals);
        self.stamps.add_since(&added.stamps, stamps);
        (added.totals, added.stamps) = (*totals, *stamps);
    }

    fn crowd_now(&mut self, hall: &Hall) {
        self.crowd.standing = self.crowd.begun - self.crowd.over();
        self.crowd.excess = hall.all_excess();
    }

    fn publish(&mut self, hall: &Hall) {
        self.crowd_now(hall);
        let counts = self.counts();
        if let Some(feed) = &mut self.feed {
            feed.publish(&counts);
        }
    }

    fn counts(&self) -> Counts {
        let Self { totals, stamps, crowd, .. } = *self;
        Counts { totals, stamps, crowd: Some(crowd), ..Counts::default() }
    }
}
