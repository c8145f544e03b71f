//! Which pong answers which ping, and how long it took: t3 − t0 of every first answer, and where the pongs carry the other
//! side's stamps, RTT = (t3 − t0) − (t2 − t1).
//!
//! Nothing is allocated after the start, and no clock is read: both stamps come from the caller, t0 perhaps after t3, as
//! a card may tell of it after the pong has come; t1 and t2 perhaps with a later pong. Stamps of two clocks are not subtracted,
//! nor those of two pongs to one ping.

use super::times::{Latency, Times};
use crate::clock::{Stamp, Time};
use crate::stats::{self, Distribution};
use crate::wire::InBand;
use crate::wire::in_band::FarSource;

/// How many pings are remembered: 131 ms of them at a million a second. A power of two.
const WINDOW: usize = 1 << 17;
/// Marks an entry without a ping. It is the sequence of a dummy, which no ping has.
const VACANT: u64 = u64::MAX;

/// What a pong is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Answer {
    /// The first one to its ping: t3 − t0 in ns, negative where the clock was stepped back in between. `None` where one of
    /// the two is not known, or not yet, or they are of different clocks.
    First(Option<i64>),
    /// A further one to a ping that is answered already.
    Duplicate,
    /// To no ping that was sent, or to one so long ago that 131,072 others followed it.
    Unknown,
}

/// The ping has a pong.
const ANSWERED: u8 = 1;
/// A stamp is kept that waits for its counterpart: t0, or, of an answered ping, t3.
const HELD: u8 = 2;
/// That stamp is of the card's clock.
const CARD: u8 = 4;
/// t3 − t0 is kept, and waits for t2 − t1.
const T3_T0: u8 = 8;
/// t2 − t1 is kept, and waits for t3 − t0.
const T2_T1: u8 = 16;
/// The other side's t2 of the first pong is kept: a later one tells of that one's t2 − t1.
const AWAITS_T2_T1: u8 = 32;

/// The pings under way, and the round-trip times of those answered.
#[derive(Debug)]
pub struct RoundTrips {
    /// Of the newest ping with each `sequence mod WINDOW`: its sequence, and ns of the stamp that is kept. One is enough:
    /// whichever of t0 and t3 comes second is subtracted at once. The difference then takes its place where it waits for
    /// another.
    pings: Vec<(u64, u64)>,
    /// Of the same pings what is kept of the other side's stamps; empty until a session needs it.
    far: Vec<u64>,
    /// What is known of each entry of `pings`.
    states: Vec<u8>,
    times: Times,
    unique: u64,
    negative: u64,
    incomparable: u64,
    duplicates: u64,
    unknown: u64,
    newest_answered: u64,
    /// Pongs carry the other side's stamps.
    in_band: bool,
    /// Whose stamps the first of them named.
    far_source: Option<FarSource>,
    /// Empty and without memory until then.
    rtt: Distribution,
    rtt_negative: u64,
    /// Stamps of the other side that belong to nothing that waits for them.
    strange: u64,
    /// What the last call made whole.
    newest_rtt: Option<i64>,
}

/// What became of pings and pongs, without times. Numbers of pings unless said otherwise.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct TripCounts {
    /// Those that were answered, each counted once.
    pub unique: u64,
    /// Of those, the ones answered before they were sent as the clock has it: it was stepped back.
    pub negative: u64,
    /// Of those, the ones whose t0 and t3 are of different clocks.
    pub incomparable: u64,
    /// Of those, the ones of which t0 or t3 is not known, or not yet.
    pub unstamped: u64,
    /// RTTs, of pongs that bring t1 and t2, that are below 0: a clock was stepped.
    pub rtt_negative: u64,
    /// Pongs to pings that were answered already.
    pub duplicates: u64,
    /// Pongs to no ping of the window.
    pub unknown: u64,
    /// The largest sequence that was answered; 0 where none was.
    pub newest_answered: u64,
}

impl TripCounts {
    /// Pings without an answer of which a later one has its answer: lost, unless pongs overtake each other. Every
    /// `pong_every`-th ping asks for a pong.
    pub fn overtaken(&self, pong_every: u32) -> u64 {
        let asked = self.newest_answered.checked_div(u64::from(pong_every)).unwrap_or(0);
        asked.saturating_sub(self.unique)
    }
}

/// All that is known of a session's pings and pongs at one moment.
#[derive(Debug, Clone, Copy, PartialEq, Default)]
pub struct TripTotals {
    /// What became of them.
    pub counts: TripCounts,
    /// Their times; `None` where there are none.
    pub latency: Option<Latency>,
    /// What the stamps inside the pongs told; `None` where pongs carry none.
    pub in_band: Option<InBandTotals>,
}

/// The round trips without the other side's time.
#[derive(Debug, Clone, Copy, PartialEq, Default)]
pub struct InBandTotals {
    /// (t3 − t0) − (t2 − t1) in ns; `None` where there is none.
    pub rtt: Option<stats::Summary>,
    /// Whose stamps t2 − t1 is of; `None` where no pong has said so.
    pub far_source: Option<FarSource>,
    /// Of the round trips those below 0.
    pub negative: u64,
    /// Pings that were answered and have none.
    pub missing: u64,
    /// What was told that belongs to no ping that waits for it.
    pub strange: u64,
}

impl Default for RoundTrips {
    fn default() -> Self {
        Self::new()
    }
}

impl RoundTrips {
    /// Allocates the window (2.1 MiB) and the histogram (0.2 MiB), and touches both so that the hot loop meets no page fault.
    pub fn new() -> Self {
        let mut trips = Self {
            pings: vec![(VACANT, 0); WINDOW],
            far: Vec::new(),
            states: vec![0; WINDOW],
            times: Times::new(),
            unique: 0,
            negative: 0,
            incomparable: 0,
            duplicates: 0,
            unknown: 0,
            newest_answered: 0,
            in_band: false,
            far_source: None,
            rtt: Distribution::new(),
            rtt_negative: 0,
            strange: 0,
            newest_rtt: None,
        };
        // Zeroed memory is only mapped when it is written to.
        trips.states.fill(ANSWERED);
        trips.clear();
        trips
    }

    /// Allocates what sessions need whose pongs carry stamps (1.9 MiB), once, and touches it. To be called before such a session
    /// begins: the SYN of one is sent or taken in.
    #[cold]
    pub fn reserve_in_band(&mut self) {
        if self.far.is_empty() {
            // Not zeros, which would only be mapped when they are written to.
            self.far = vec![u64::MAX; WINDOW];
            self.rtt = Distribution::preallocated();
        }
    }

    /// Forgets everything, for the next session. Allocates nothing.
    pub fn clear(&mut self) {
        self.pings.fill((VACANT, 0));
        self.states.fill(0);
        self.times.clear();
        (self.unique, self.negative, self.incomparable) = (0, 0, 0);
        (self.duplicates, self.unknown, self.newest_answered) = (0, 0, 0);
        self.rtt.clear();
        (self.in_band, self.far_source, self.newest_rtt) = (false, None, None);
        (self.rtt_negative, self.strange) = (0, 0);
    }

    /// Whether in the session that begins pongs come that carry the stamps of the side that sends them. Then it allocates what
    /// [`RoundTrips::reserve_in_band`] has not.
    pub fn expect_in_band(&mut self, in_band: bool) {
        if in_band {
            self.reserve_in_band();
        }
        self.in_band = in_band;
    }

    /// A ping was handed over. Its t0 comes with [`RoundTrips::left`].
    #[inline]
    pub fn sent(&mut self, sequence: u64) {
        let slot = slot(sequence);
        self.pings[slot] = (sequence, 0);
        self.states[slot] = 0;
    }

    /// A ping's t0 is known: it left then. Before its pong or after it; only the first of several counts. Does nothing for
    /// a ping that is not remembered. t3 − t0 in ns where the pong came before, as [`Answer::First`] has it.
    #[inline]
    pub fn left(&mut self, sequence: u64, t0: Stamp) -> Option<i64> {
        let slot = slot(sequence);
        if self.pings[slot].0 != sequence || sequence == VACANT {
            return None;
        }
        match self.states[slot] & (ANSWERED | HELD) {
            0 => {
                self.hold(slot, t0);
                None
            }
            both if both == ANSWERED | HELD => {
                let t3 = self.take(slot);
                self.record(slot, t0, t3)
            }
            // It had its t0 before, or has a pong without t3.
            _ => None,
        }
    }

    /// A pong was received at t3, where it has such a stamp.
    #[inline]
    pub fn answered(&mut self, sequence: u64, t3: Option<Stamp>) -> Answer {
        let slot = slot(sequence);
        if self.pings[slot].0 != sequence || sequence == VACANT {
            self.unknown += 1;
            return Answer::Unknown;
        }
        let state = self.states[slot];
        if state & ANSWERED != 0 {
            self.duplicates += 1;
            return Answer::Duplicate;
        }
        self.states[slot] |= ANSWERED;
        self.unique += 1;
        self.newest_answered = self.newest_answered.max(sequence);
        let t0 = (state & HELD != 0).then(|| self.take(slot));
        match (t0, t3) {
            (Some(t0), Some(t3)) => Answer::First(self.record(slot, t0, t3)),
            (None, Some(t3)) => {
                self.hold(slot, t3);
                Answer::First(None)
            }
            (_, None) => Answer::First(None),
        }
    }

    /// What a received pong tells of the other side's stamps, behind [`RoundTrips::answered`], which said what it is. Does
    /// nothing without [`RoundTrips::expect_in_band`].
    ///
    /// An earlier pong's stamps are taken only for the pong that they are of: of a ping that arrived twice there are two, and
    /// t3 is of one of them.
    #[inline]
    pub fn told(&mut self, sequence: u64, answer: Answer, told: &InBand) {
        if !self.in_band {
            return;
        }
        if *self.far_source.get_or_insert(told.source) != told.source {
            self.strange += 1;
            return;
        }
        if matches!(answer, Answer::First(_)) {
            let slot = slot(sequence);
            match (told.source, told.t2) {
                (FarSource::Application, _) => self.turned(slot, told.turnaround_ns()),
                (FarSource::Software | FarSource::Hardware, Some(t2)) => {
                    self.far[slot] = t2;
                    self.states[slot] |= AWAITS_T2_T1;
                }
                (FarSource::Software | FarSource::Hardware, None) => {}
            }
        }
        let Some(earlier) = told.earlier else { return };
        let slot = slot(earlier.sequence);
        let known = self.pings[slot].0 == earlier.sequence && earlier.sequence != VACANT;
        if known && self.states[slot] & AWAITS_T2_T1 != 0 && self.far[slot] == earlier.pong {
            self.states[slot] &= !AWAITS_T2_T1;
            self.turned(slot, earlier.turnaround_ns());
        } else {
            self.strange += 1;
        }
    }

    /// t2 − t1 is known.
    fn turned(&mut self, slot: usize, turnaround: Option<i64>) {
        if let Some(nanos) = turnaround {
            self.far[slot] = nanos as u64;
            self.states[slot] |= T2_T1;
            self.subtract(slot);
        }
    }

    /// Makes a round trip of the two differences, once both are there.
    fn subtract(&mut self, slot: usize) {
        if self.states[slot] & (T3_T0 | T2_T1) != T3_T0 | T2_T1 {
            return;
        }
        self.states[slot] &= !(T3_T0 | T2_T1);
        // What does not fit into 292 years is no measurement, whatever it is.
        if let Some(nanos) = (self.pings[slot].1 as i64).checked_sub(self.far[slot] as i64) {
            self.rtt.record(nanos);
            self.rtt_negative += u64::from(nanos < 0);
            self.newest_rtt = Some(nanos);
        }
    }

    /// The round trip, (t3 − t0) − (t2 − t1) in ns, that the last call of [`RoundTrips::left`], [`RoundTrips::answered`] or
    /// [`RoundTrips::told`] made whole, which at most one is; for who looks on. Once.
    #[inline]
    pub fn take_rtt(&mut self) -> Option<i64> {
        self.newest_rtt.take()
    }

    fn hold(&mut self, slot: usize, stamp: Stamp) {
        self.pings[slot].1 = stamp.as_nanos();
        self.states[slot] |= match stamp {
            Stamp::System(_) => HELD,
            Stamp::Card(_) => HELD | CARD,
        };
    }

    fn take(&mut self, slot: usize) -> Stamp {
        let nanos = self.pings[slot].1;
        let card = self.states[slot] & CARD != 0;
        self.states[slot] &= !(HELD | CARD);
        if card { Stamp::Card(Time::from_nanos(nanos)) } else { Stamp::System(Time::from_nanos(nanos)) }
    }

    fn record(&mut self, slot: usize, t0: Stamp, t3: Stamp) -> Option<i64> {
        let Some(difference) = t3.nanos_since(t0) else {
            self.incomparable += 1;
            return None;
        };
        match u64::try_from(difference) {
            Ok(nanos) => {
                self.times.record(nanos);
            }
            Err(_) => self.negative += 1,
        }
        if self.in_band {
            self.pings[slot].1 = difference as u64;
            self.states[slot] |= T3_T0;
            self.subtract(slot);
        }
        Some(difference)
    }

    /// Pings that were answered, each counted once.
    pub fn unique(&self) -> u64 {
        self.unique
    }

    /// Of those, the ones answered before they were sent as the clock has it: it was stepped back.
    pub fn negative(&self) -> u64 {
        self.negative
    }

    /// Of those, the ones whose t0 and t3 are of different clocks.
    pub fn incomparable(&self) -> u64 {
        self.incomparable
    }

    /// Of those, the ones of which t0 or t3 is not known, or not yet.
    pub fn unstamped(&self) -> u64 {
        self.unique - self.times.count() - self.negative - self.incomparable
    }

    /// Pongs to pings that were answered already.
    pub fn duplicates(&self) -> u64 {
        self.duplicates
    }

    /// Pongs to no ping of the window.
    pub fn unknown(&self) -> u64 {
        self.unknown
    }

    /// What became of the pings so far.
    #[inline]
    pub fn counts(&self) -> TripCounts {
        let Self { unique, negative, incomparable, rtt_negative, duplicates, unknown, newest_answered, .. } = *self;
        let unstamped = self.unstamped();
        TripCounts { unique, negative, incomparable, unstamped, rtt_negative, duplicates, unknown, newest_answered }
    }

    /// All that is known so far. Goes through the histogram: some µs.
    pub fn totals(&self) -> TripTotals {
        let in_band = self.in_band.then(|| InBandTotals {
            rtt: self.rtt.summary_of_sorted(),
            far_source: self.far_source,
            negative: self.rtt_negative,
            missing: self.rtt_missing(),
            strange: self.strange,
        });
        TripTotals { counts: self.counts(), latency: self.latency(), in_band }
    }

    /// (t3 − t0) − (t2 − t1) in ns of every ping that has all four, negative ones too; empty where pongs carry no stamps.
    pub fn rtt(&self) -> &Distribution {
        &self.rtt
    }

    /// Whose stamps t2 − t1 in [`RoundTrips::rtt`] is reckoned with; `None` where no pong has said so.
    pub fn far_source(&self) -> Option<FarSource> {
        self.far_source
    }

    /// Whether pongs are expected to carry stamps.
    pub fn is_in_band(&self) -> bool {
        self.in_band
    }

    /// Of [`RoundTrips::rtt`] those below 0: a clock was stepped in between.
    pub fn rtt_negative(&self) -> u64 {
        self.rtt_negative
    }

    /// Pings that were answered and are not in [`RoundTrips::rtt`]: one of the four stamps is missing, is of another clock, or did
    /// not come, as stamps of the other side's kernel or card come with a later pong, which may be lost, or be none, or overtake
    /// the pong that it tells of.
    pub fn rtt_missing(&self) -> u64 {
        self.unique.saturating_sub(self.rtt.count())
    }

    /// What the other side told of that belongs to no ping that waits for it: its ping arrived twice, or is no longer
    /// remembered, or the pong that told it came twice.
    pub fn strange_turnarounds(&self) -> u64 {
        self.strange
    }

    /// The round-trip times so far; `None` where there are none.
    pub fn latency(&self) -> Option<Latency> {
        self.times.latency()
    }
}

const fn slot(sequence: u64) -> usize {
    (sequence % WINDOW as u64) as usize
}

#[cfg(test)]
mod tests;
