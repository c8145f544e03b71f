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
mod tests {
    use super::*;
    use crate::wire::in_band::Earlier;
    use proptest::prelude::*;
    use std::collections::HashMap;

    const fn at(nanos: u64) -> Stamp {
        Stamp::System(Time::from_nanos(nanos))
    }

    const fn card(nanos: u64) -> Stamp {
        Stamp::Card(Time::from_nanos(nanos))
    }

    impl RoundTrips {
        /// A ping whose t0 is known at once.
        fn sent_at(&mut self, sequence: u64, t0: u64) {
            self.sent(sequence);
            self.left(sequence, at(t0));
        }

        /// A pong that has a t3 of the system's clock.
        fn answered_at(&mut self, sequence: u64, t3: u64) -> Answer {
            self.answered(sequence, Some(at(t3)))
        }
    }

    #[test]
    fn the_first_pong_counts_and_the_second_is_a_duplicate() {
        let mut trips = RoundTrips::new();
        trips.sent_at(1, 1000);
        assert_eq!(trips.answered_at(1, 6000), Answer::First(Some(5000)));
        assert_eq!(trips.answered_at(1, 7000), Answer::Duplicate);
        assert_eq!(trips.answered_at(2, 7000), Answer::Unknown);
        assert_eq!((trips.unique(), trips.duplicates(), trips.unknown()), (1, 1, 1));
        assert_eq!(trips.latency().map(|l| (l.count, l.min, l.p50, l.max)), Some((1, 5000, 5000, 5000)));
    }

    #[test]
    fn nothing_is_answered_before_anything_was_sent() {
        let mut trips = RoundTrips::new();
        for sequence in [0, 1, WINDOW as u64, u64::MAX] {
            assert_eq!(trips.answered_at(sequence, 1), Answer::Unknown);
        }
        trips.sent_at(u64::MAX, 1);
        assert_eq!(trips.answered_at(u64::MAX, 2), Answer::Unknown);
        assert_eq!((trips.unique(), trips.latency()), (0, None));
    }

    #[test]
    fn a_stepped_clock_gives_a_negative_difference_and_no_sample() {
        let mut trips = RoundTrips::new();
        trips.sent_at(1, 1000);
        assert_eq!(trips.answered_at(1, 400), Answer::First(Some(-600)));
        assert_eq!((trips.unique(), trips.negative(), trips.latency()), (1, 1, None));
    }

    #[test]
    fn a_pong_older_than_the_window_is_unknown() {
        let mut trips = RoundTrips::new();
        for sequence in 1..=WINDOW as u64 + 1 {
            trips.sent_at(sequence, sequence);
        }
        assert_eq!(trips.answered_at(1, 1_000_000), Answer::Unknown);
        assert_eq!(trips.answered_at(2, 1_000_002), Answer::First(Some(1_000_000)));
        assert_eq!(trips.answered_at(WINDOW as u64 + 1, 1_000_000), Answer::First(Some(1_000_000 - WINDOW as i64 - 1)));
    }

    #[test]
    fn more_than_a_minute_saturates_the_quantiles_and_keeps_the_rest_exact() {
        let mut trips = RoundTrips::new();
        trips.sent_at(1, 0);
        trips.answered_at(1, 90_000_000_000);
        trips.sent_at(2, 0);
        trips.answered_at(2, 0);
        let latency = trips.latency().unwrap();
        assert_eq!((latency.count, latency.min, latency.mean, latency.max), (2, 0, 45_000_000_000, 90_000_000_000));
        assert!((60_000_000_000..=60_100_000_000).contains(&latency.p999), "{latency:?}");
    }

    #[test]
    fn quantiles_are_good_to_three_digits() {
        let mut trips = RoundTrips::new();
        for sequence in 1..=100_000 {
            trips.sent_at(sequence, 0);
            trips.answered_at(sequence, sequence * 100);
        }
        let latency = trips.latency().unwrap();
        assert_eq!((latency.count, latency.min, latency.mean, latency.max), (100_000, 100, 5_000_050, 10_000_000));
        for (got, exact) in [
            (latency.p50, 5_000_000),
            (latency.p90, 9_000_000),
            (latency.p99, 9_900_000),
            (latency.p999, 9_990_000_u64),
        ] {
            assert!(got.abs_diff(exact) * 1000 <= exact, "{got} for {exact}");
        }
    }

    #[test]
    fn clearing_forgets_everything() {
        let mut trips = RoundTrips::new();
        trips.sent_at(1, 5);
        trips.sent_at(2, 5);
        trips.answered_at(1, 6);
        trips.answered_at(1, 7);
        trips.clear();
        assert_eq!(trips.answered_at(2, 8), Answer::Unknown);
        assert_eq!((trips.unique(), trips.duplicates(), trips.unknown(), trips.latency()), (0, 0, 1, None));
    }

    #[test]
    fn a_transmit_stamp_may_come_after_the_pong() {
        let mut trips = RoundTrips::new();
        (1..=3).for_each(|sequence| trips.sent(sequence));
        assert_eq!(trips.answered(1, Some(card(7000))), Answer::First(None));
        assert_eq!((trips.unique(), trips.unstamped(), trips.latency()), (1, 1, None));
        trips.left(1, card(2000));
        // A stamp that is told twice changes nothing, nor does a second pong.
        trips.left(1, card(1));
        assert_eq!(trips.answered(1, Some(card(9000))), Answer::Duplicate);
        trips.left(1, card(1));
        // The other way round, also with a second stamp.
        trips.left(2, card(1000));
        trips.left(2, card(1));
        assert_eq!(trips.answered(2, Some(card(4000))), Answer::First(Some(3000)));
        // A t0 that is later than t3 is counted, late or not.
        assert_eq!(trips.answered(3, Some(card(10))), Answer::First(None));
        trips.left(3, card(15));
        let latency = trips.latency().unwrap();
        assert_eq!((latency.count, latency.min, latency.max), (2, 3000, 5000));
        assert_eq!((trips.unique(), trips.negative(), trips.unstamped(), trips.duplicates()), (3, 1, 0, 1));
    }

    #[test]
    fn stamps_of_two_clocks_make_no_round_trip() {
        let mut trips = RoundTrips::new();
        trips.sent_at(1, 10);
        assert_eq!(trips.answered(1, Some(card(20))), Answer::First(None));
        trips.sent(2);
        assert_eq!(trips.answered(2, Some(card(20))), Answer::First(None));
        trips.left(2, at(10));
        assert_eq!((trips.unique(), trips.incomparable(), trips.unstamped(), trips.latency()), (2, 2, 0, None));
    }

    #[test]
    fn a_pong_without_a_stamp_answers_and_measures_nothing() {
        let mut trips = RoundTrips::new();
        trips.sent_at(1, 10);
        trips.sent(2);
        assert_eq!([1, 2].map(|sequence| trips.answered(sequence, None)), [Answer::First(None); 2]);
        trips.left(2, at(10));
        assert_eq!(trips.answered_at(1, 20), Answer::Duplicate);
        assert_eq!((trips.unique(), trips.unstamped(), trips.latency()), (2, 2, None));
    }

    const fn far(t1: u64, t2: u64) -> InBand {
        InBand { source: FarSource::Application, t1: Some(t1), t2: Some(t2), earlier: None }
    }

    /// A pong that its sender handed over at `t2`, with what it tells of another.
    const fn card_far(t2: u64, earlier: Option<Earlier>) -> InBand {
        InBand { source: FarSource::Hardware, t1: Some(1), t2: Some(t2), earlier }
    }

    impl RoundTrips {
        fn in_band() -> Self {
            let mut trips = Self::new();
            trips.expect_in_band(true);
            trips
        }

        fn told_at(&mut self, sequence: u64, t3: u64, told: InBand) -> Option<i64> {
            let answer = self.answered_at(sequence, t3);
            self.told(sequence, answer, &told);
            self.take_rtt()
        }
    }

    #[test]
    fn what_only_stamps_inside_pongs_need_is_there_for_such_sessions_only() {
        let mut trips = RoundTrips::new();
        trips.expect_in_band(false);
        assert_eq!(trips.far.capacity(), 0);
        trips.reserve_in_band();
        let memory = (trips.far.as_ptr(), trips.far.len());
        assert_eq!(memory.1, WINDOW);
        // The next session, and the one after that, take what is there.
        for _ in 0..2 {
            trips.expect_in_band(true);
            trips.clear();
            assert_eq!((trips.far.as_ptr(), trips.far.len()), memory);
        }
    }

    #[test]
    fn the_other_sides_time_is_taken_off() {
        let mut trips = RoundTrips::in_band();
        trips.sent_at(1, 1000);
        // Its clock is another: only the difference of its two times counts.
        assert_eq!(trips.told_at(1, 9000, far(7_000_000, 7_003_000)), Some(5000));
        assert_eq!(trips.take_rtt(), None);
        // The same pong once more, and one of another turnaround.
        assert_eq!(trips.told_at(1, 9999, far(7_000_000, 7_003_000)), None);
        assert_eq!(trips.told_at(1, 9999, far(7_000_000, 7_000_001)), None);
        // t0 comes last.
        trips.sent(2);
        assert_eq!(trips.told_at(2, 9000, far(5, 6)), None);
        trips.left(2, at(1000));
        assert_eq!(trips.take_rtt(), Some(7999));
        // A clock that was stepped: here, and there.
        trips.sent_at(3, 9000);
        assert_eq!(trips.told_at(3, 2000, far(5, 6)), Some(-7001));
        trips.sent_at(4, 1000);
        assert_eq!(trips.told_at(4, 2000, far(500, 0)), Some(1500));
        // What is missing or cannot be.
        trips.sent_at(5, 1000);
        assert_eq!(trips.told_at(5, 2000, InBand { t1: None, ..far(0, 1) }), None);
        trips.sent_at(6, 1000);
        assert_eq!(trips.told_at(6, 2000, far(u64::MAX, 0)), None);
        trips.sent_at(7, 1000);
        assert_eq!(trips.answered(7, Some(card(2000))), Answer::First(None));
        trips.told(7, Answer::First(None), &far(1, 2));
        assert_eq!(trips.take_rtt(), None);
        let rtt = trips.rtt().summary_of_sorted().unwrap();
        assert_eq!((rtt.count, rtt.min, rtt.max), (4, -7001, 7999));
        assert_eq!(rtt.mean, (5000 + 7999 - 7001 + 1500) as f64 / 4.0);
        assert_eq!((trips.rtt_negative(), trips.rtt_missing(), trips.strange_turnarounds()), (1, 3, 0));
        assert_eq!(trips.far_source(), Some(FarSource::Application));
        trips.clear();
        assert_eq!((trips.rtt().count(), trips.far_source(), trips.is_in_band()), (0, None, false));
        trips.sent_at(1, 1000);
        assert_eq!(trips.told_at(1, 9000, far(0, 1)), None, "nobody expects it");
    }

    #[test]
    fn what_a_later_pong_tells_is_of_the_pong_that_was_taken() {
        let earlier = |sequence, pong, t1, t2| Some(Earlier { sequence, pong, t1, t2 });
        let mut trips = RoundTrips::in_band();
        (1..=6).for_each(|sequence| trips.sent_at(sequence, 1000 * sequence));
        assert_eq!(trips.told_at(1, 11_000, card_far(71, None)), None);
        // Its ping arrived twice: the other pong to it left at another time.
        assert_eq!(trips.told_at(2, 12_000, card_far(72, earlier(1, 70, 0, 9))), None);
        assert_eq!(trips.strange_turnarounds(), 1);
        assert_eq!(trips.told_at(3, 13_000, card_far(73, earlier(1, 71, 100, 400))), Some(10_000 - 300));
        // Told twice, also by a pong that is a duplicate.
        assert_eq!(trips.told_at(3, 13_000, card_far(73, earlier(1, 71, 100, 400))), None);
        // A pong that is a duplicate tells all the same.
        assert_eq!(trips.told_at(3, 13_000, card_far(74, earlier(2, 72, 100, 101))), Some(10_000 - 1));
        // Before t0, and of a ping that nobody sent.
        trips.sent(7);
        assert_eq!(trips.told_at(7, 20_000, card_far(77, earlier(9, 79, 1, 2))), None);
        assert_eq!(trips.told_at(4, 14_000, card_far(74, earlier(7, 77, 5, 10))), None);
        trips.left(7, at(8000));
        assert_eq!(trips.take_rtt(), Some(12_000 - 5));
        // A pong of another source than the first one's is not of this session's kind.
        assert_eq!(trips.told_at(5, 15_000, far(1, 2)), None);
        // The window has gone on.
        trips.sent_at(4 + WINDOW as u64, 1);
        assert_eq!(trips.told_at(6, 16_000, card_far(76, earlier(4, 74, 1, 2))), None);
        assert_eq!(trips.told_at(6, 16_000, card_far(76, earlier(u64::MAX, u64::MAX, 1, 2))), None);
        assert_eq!((trips.rtt().count(), trips.strange_turnarounds()), (3, 6));
    }

    #[test]
    fn a_stamp_of_no_ping_is_nothing() {
        let mut trips = RoundTrips::new();
        [1, 1 + WINDOW as u64, u64::MAX].into_iter().for_each(|sequence| assert_eq!(trips.left(sequence, at(1)), None));
        trips.sent(1);
        trips.left(1 + WINDOW as u64, at(1));
        assert_eq!(trips.answered_at(1, 5), Answer::First(None));
        assert_eq!(trips.unstamped(), 1);
    }

    #[test]
    fn it_stays_small() {
        let trips = RoundTrips::new();
        let bytes = size_of_val(&trips.pings[..]) + size_of_val(&trips.states[..]) + trips.times.allocated();
        let bytes = bytes + size_of_val(&trips.far[..]);
        assert!(bytes <= 4 << 20, "{bytes}");
    }

    /// What happens to a window: a ping is sent, its t0 is told, or a pong comes.
    #[derive(Debug, Clone)]
    enum Step {
        Sent(u64),
        Left(u64, Stamp),
        Answered(u64, Option<Stamp>),
    }

    fn steps() -> impl Strategy<Value = Vec<Step>> {
        // Few slots, several laps: sequences collide, repeat and come back.
        let sequence = (0..8_u64, 0..3_u64).prop_map(|(slot, lap)| slot + lap * WINDOW as u64);
        let stamp = (0..2_000_000_u64, prop::bool::weighted(0.2))
            .prop_map(|(nanos, of_card)| if of_card { card(nanos) } else { at(nanos) });
        let stamp = prop::option::weighted(0.9, stamp);
        prop::collection::vec(
            (0..3, sequence, stamp).prop_map(|(kind, sequence, stamp)| match (kind, stamp) {
                (0, _) | (1, None) => Step::Sent(sequence),
                (1, Some(stamp)) => Step::Left(sequence, stamp),
                (_, stamp) => Step::Answered(sequence, stamp),
            }),
            0..300,
        )
    }

    /// The newest ping of a slot, as a model keeps it.
    #[derive(Debug, Default)]
    struct Ping {
        sequence: u64,
        t0: Option<Stamp>,
        /// Of its first pong, which may have none.
        t3: Option<Option<Stamp>>,
    }

    #[derive(Debug, Default)]
    struct Model {
        slots: HashMap<u64, Ping>,
        pongs: u64,
        /// t3 and t0 of every ping that got both.
        both: Vec<(Stamp, Stamp)>,
    }

    impl Model {
        fn ping(&mut self, sequence: u64) -> Option<&mut Ping> {
            self.slots.get_mut(&(sequence % WINDOW as u64)).filter(|ping| ping.sequence == sequence)
        }

        fn left(&mut self, sequence: u64, stamp: Stamp) {
            let Some(ping) = self.ping(sequence) else { return };
            if ping.t0.is_none() {
                ping.t0 = Some(stamp);
                if let Some(Some(t3)) = ping.t3 {
                    self.both.push((t3, stamp));
                }
            }
        }

        fn answered(&mut self, sequence: u64, stamp: Option<Stamp>) -> Answer {
            let Some(ping) = self.ping(sequence) else { return Answer::Unknown };
            if ping.t3.is_some() {
                return Answer::Duplicate;
            }
            ping.t3 = Some(stamp);
            let both = stamp.zip(ping.t0);
            self.pongs += 1;
            self.both.extend(both);
            Answer::First(both.and_then(|(t3, t0)| t3.nanos_since(t0)))
        }
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(64))]
        #[test]
        fn the_window_does_what_a_map_would(steps in steps()) {
            let mut trips = RoundTrips::new();
            let mut model = Model::default();
            for step in steps {
                match step {
                    Step::Sent(sequence) => {
                        trips.sent(sequence);
                        model.slots.insert(sequence % WINDOW as u64, Ping { sequence, ..Ping::default() });
                    }
                    Step::Left(sequence, stamp) => {
                        trips.left(sequence, stamp);
                        model.left(sequence, stamp);
                    }
                    Step::Answered(sequence, stamp) => {
                        prop_assert_eq!(trips.answered(sequence, stamp), model.answered(sequence, stamp));
                    }
                }
            }
            let comparable: Vec<i64> = model.both.iter().filter_map(|(t3, t0)| t3.nanos_since(*t0)).collect();
            let mut samples: Vec<u64> = comparable.iter().filter_map(|nanos| u64::try_from(*nanos).ok()).collect();
            prop_assert_eq!(trips.unique(), model.pongs);
            prop_assert_eq!(trips.incomparable(), (model.both.len() - comparable.len()) as u64);
            prop_assert_eq!(trips.negative(), (comparable.len() - samples.len()) as u64);
            prop_assert_eq!(trips.unstamped(), model.pongs - model.both.len() as u64);
            samples.sort_unstable();
            match trips.latency() {
                None => prop_assert!(samples.is_empty()),
                Some(latency) => {
                    prop_assert_eq!(latency.count, samples.len() as u64);
                    prop_assert_eq!((latency.min, latency.max), (samples[0], samples[samples.len() - 1]));
                    let middle = samples[(samples.len() - 1) / 2];
                    prop_assert!(latency.p50.abs_diff(middle) <= middle / 1000 + 1, "{latency:?} {middle}");
                }
            }
        }
    }
}
