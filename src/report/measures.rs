//! From records to counts and samples.

use super::clock::{ClockLine, Envelope, rounded};
use super::error::ReportError;
use super::export::{Exports, Joined, State};
use super::join::{Consumer, Ends, Record};
use super::quantity::{Quantity, Series, TimeAxis};

/// What is known before the records are gone through.
#[derive(Debug, Clone)]
pub(super) struct Known {
    /// Each side pings, nobody answers.
    pub(super) is_duplex: bool,
    /// There is a log of the side that pings; in duplex sessions of the client.
    pub(super) pinging: bool,
    /// There is a log of the side that answers; in duplex sessions of the server.
    pub(super) echoing: bool,
    /// t0 and t3 are of one clock.
    pub(super) is_round_trip: bool,
    /// t1 and t2 are of one clock.
    pub(super) is_turnaround: bool,
    /// Only pings whose sequence is a multiple are answered; `None` where that is not known, or none is.
    pub(super) pong_every: Option<u64>,
    /// How far the sequences of neighbouring pings of each lane are apart, more than 1 where only some have rows
    /// (`--stamp-every`).
    pub(super) steps: [u64; 2],
    /// How the clocks go; `None` where only one of them is there.
    pub(super) line: Option<ClockLine>,
    /// How much faster the clock runs that t2 − t1 is of, as far as the RTT is corrected for that.
    pub(super) turnaround_skew: f64,
    /// The line's offset is one; else only differences of one-way delays are known.
    pub(super) has_offset: bool,
    /// The planned time from one ping with a row to the next, of both lanes, in ns.
    pub(super) plan: [Option<i64>; 2],
}

/// Counts of one direction.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct WayCounts {
    pub(super) sent: u64,
    pub(super) received: u64,
    pub(super) lost: u64,
    pub(super) duplicated: u64,
    pub(super) reordered: u64,
}

/// What the records come to.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct Tally {
    /// Pings (in duplex sessions the client's), then pongs (the server's).
    pub(super) ways: [WayCounts; 2],
    /// Pings with any row.
    pub(super) sent: u64,
    /// Pings whose pong was received.
    pub(super) received: u64,
    /// Pings without a pong that should have had one.
    pub(super) lost: u64,
    /// Those of them of which the logs do not tell in which direction.
    pub(super) lost_somewhere: u64,
    /// Pings that nobody was to answer, or, received, nobody answered.
    pub(super) unanswered: u64,
    /// Pings that are only in the other log, behind the end of the pinging side's.
    pub(super) behind_the_end: u64,
    /// Pings without a stamp of their sending, though they were seen.
    pub(super) without_t0: u64,
    /// Sequences that are in both logs.
    pub(super) common: u64,
    /// The bytes of all pings and pongs that were the first of their sequence: smallest and largest, or 0.
    pub(super) sizes: [[u16; 2]; 2],
}

/// RFC 3550's estimate.
#[derive(Debug, Default)]
struct Jitter {
    transit: Option<i64>,
    estimate: f64,
}

impl Jitter {
    #[inline]
    fn step(&mut self, transit: i64) -> Option<i64> {
        let before = self.transit.replace(transit)?;
        let difference = transit.saturating_sub(before).unsigned_abs() as f64;
        self.estimate += (difference - self.estimate) / 16.0;
        Some(rounded(self.estimate))
    }
}

/// The least one; `one` where there is none that a sequence can have.
fn common_multiple(one: u64, other: u64) -> u64 {
    let (mut a, mut b) = (one, other);
    while b != 0 {
        (a, b) = (b, a % b);
    }
    (one / a.max(1)).checked_mul(other).unwrap_or(one)
}

/// Takes the records and keeps what the report says.
#[derive(Debug)]
pub(super) struct Measures<'a> {
    known: Known,
    pub(super) tally: Tally,
    pub(super) series: [Series; Quantity::ALL.len()],
    pub(super) axis: TimeAxis,
    jitter: [Jitter; 3],
    /// Sequence and delay of the packet before, by [`Quantity`] of the delay.
    before: [Option<(u64, i64)>; 3],
    /// The ping before of each lane: its sequence and t0.
    departed: [Option<(u64, i64)>; 2],
    exports: &'a mut Exports,
}

/// Positions in `jitter` and `before`.
const FORTH: usize = 0;
const BACK: usize = 1;
const ROUND: usize = 2;

impl<'a> Measures<'a> {
    pub(super) fn new(known: Known, exports: &'a mut Exports) -> Self {
        Self {
            known,
            tally: Tally::default(),
            series: Default::default(),
            axis: TimeAxis::new(),
            jitter: Default::default(),
            before: [None; 3],
            departed: [None; 2],
            exports,
        }
    }

    /// Goes to the time of a record.
    #[inline]
    fn go(&mut self, lane: usize, record: &Record) {
        let other = || if self.known.pinging { None } else { record.stamp(1) };
        let doubled = self.axis.go(lane, record.stamp(0).or_else(other));
        for _ in 0..doubled {
            self.series.iter_mut().for_each(Series::fold);
        }
    }

    #[inline]
    fn record_sample(&mut self, quantity: Quantity, sample: i64) {
        self.series[quantity as usize].record(sample, self.axis.now());
    }

    fn lose(&mut self, quantities: &[Quantity]) {
        for quantity in quantities {
            self.series[*quantity as usize].lose(self.axis.now());
        }
    }

    /// The delay of a packet in a direction: raw, less what the clocks are apart.
    #[inline]
    fn one_way(&self, lane: usize, record: &Record, way: usize) -> Option<i64> {
        let line = self.known.line.as_ref()?;
        match (self.known.is_duplex, lane, way) {
            (_, 0, FORTH) => Some(line.forward(record.between(0, 1)?, record.stamp(0)?)),
            (false, 0, BACK) => Some(line.backward(record.between(2, 3)?, record.stamp(3)?)),
            (true, 1, BACK) => Some(line.backward(record.between(0, 1)?, record.stamp(1)?)),
            _ => None,
        }
    }

    /// The difference to the delay of the packet that was sent `step` sequences before, RFC 3393's selection function.
    fn variation(&mut self, way: usize, quantity: Quantity, sequence: u64, step: u64, delay: Option<i64>) {
        // Where either of two packets was lost there is none (RFC 3393, section 2.5), nor where no log has a row of it.
        if let (Some(delay), Some((before, earlier))) = (delay, self.before[way])
            && before + step == sequence
        {
            self.record_sample(quantity, delay.saturating_sub(earlier));
        }
        self.before[way] = delay.map(|delay| (sequence, delay));
    }

    /// The time since the ping before, where that is the one before it that has a row.
    fn departure(&mut self, lane: usize, sequence: u64, t0: Option<i64>) {
        let Some(t0) = t0 else { return };
        let before = self.departed[lane].replace((sequence, t0));
        let (Some(plan), Some((number, earlier))) = (self.known.plan[lane], before) else { return };
        if number + self.known.steps[lane] == sequence {
            let quantity = if lane == 0 { Quantity::DepartureForward } else { Quantity::DepartureBackward };
            self.record_sample(quantity, t0.saturating_sub(earlier).saturating_sub(plan));
        }
    }

    fn note_size(&mut self, way: usize, size: u16) {
        let [least, most] = &mut self.tally.sizes[way];
        if size > 0 {
            *least = if *least == 0 { size } else { size.min(*least) };
            *most = size.max(*most);
        }
    }

    /// A sequence of a forward or reverse session.
    fn echoed(&mut self, sequence: u64, record: &Record, ends: &Ends) -> State {
        let Known { pinging, echoing, pong_every, .. } = self.known;
        let [t0, t1, t2, t3] = [0, 1, 2, 3].map(|point| record.has(point));
        if pinging && !t0 && !t3 && ends.is_before(0, 0, sequence) {
            self.tally.behind_the_end += 1;
            return State::Unlogged;
        }
        self.tally.common += u64::from((t0 || t3) && (t1 || t2));
        let is_expected = pong_every.is_none_or(|every| sequence.is_multiple_of(every));
        self.tally.sent += 1;
        self.tally.without_t0 += u64::from(pinging && !t0);
        let [forth, back] = &mut self.tally.ways;
        forth.sent += 1;
        forth.received += u64::from(t1 || t2 || t3);
        forth.duplicated += record.rows(1).saturating_sub(1);
        back.sent += u64::from(t2 || t3);
        back.received += u64::from(t3);
        // The second pong to a second ping is none.
        back.duplicated += record.rows(3).saturating_sub(record.rows(2).max(1));
        forth.reordered += u64::from(record.ping_overtaken());
        // A pong is behind where its ping was already.
        back.reordered += u64::from(record.pong_overtaken() && !record.ping_overtaken());
        let state = match (t3, pinging, echoing) {
            (true, ..) => State::Received,
            (false, true, false) if is_expected => State::Lost,
            (false, true, false) => State::Unanswered,
            (false, false, _) if t2 => State::Answered,
            (false, false, _) => State::Unanswered,
            (false, true, true) if t2 => State::LostBackward,
            (false, true, true) if t1 && pong_every.is_some() && is_expected => State::LostBackward,
            (false, true, true) if t1 => State::Unanswered,
            (false, true, true) if ends.is_cut_before(0, 1, sequence) => State::Lost,
            (false, true, true) => State::LostForward,
        };
        match state {
            State::Received => self.tally.received += 1,
            State::LostForward => self.tally.ways[FORTH].lost += 1,
            State::LostBackward => self.tally.ways[BACK].lost += 1,
            State::Lost => self.tally.lost_somewhere += 1,
            State::Unanswered => self.tally.unanswered += 1,
            State::Answered | State::Unlogged => {}
        }
        if matches!(state, State::Lost | State::LostForward | State::LostBackward) {
            self.tally.lost += 1;
            self.lose(&[Quantity::Rtt, Quantity::T3T0, Quantity::IpdvRoundTrip, Quantity::JitterRoundTrip]);
        }
        state
    }

    /// A sequence of one of a duplex session's two directions.
    fn one_sided(&mut self, lane: usize, sequence: u64, record: &Record, ends: &Ends) -> State {
        let (sender, receiver) = match lane {
            0 => (self.known.pinging, self.known.echoing),
            _ => (self.known.echoing, self.known.pinging),
        };
        let [left, arrived] = [0, 1].map(|point| record.has(point));
        self.tally.sent += 1;
        self.tally.common += u64::from(left && arrived);
        self.tally.without_t0 += u64::from(sender && !left);
        let way = &mut self.tally.ways[lane];
        way.sent += 1;
        way.received += u64::from(arrived);
        way.duplicated += record.rows(1).saturating_sub(1);
        way.reordered += u64::from(record.ping_overtaken());
        match (arrived, receiver) {
            (true, _) => {
                self.tally.received += 1;
                State::Received
            }
            (false, true) if ends.is_cut_before(lane, 1, sequence) => {
                self.tally.lost += 1;
                self.tally.lost_somewhere += 1;
                State::Lost
            }
            (false, true) => {
                way.lost += 1;
                self.tally.lost += 1;
                if lane == 0 { State::LostForward } else { State::LostBackward }
            }
            (false, false) => State::Unanswered,
        }
    }

    fn lose_one_way(&mut self, state: State) {
        match state {
            State::LostForward => {
                self.lose(&[Quantity::OwdForward, Quantity::IpdvForward, Quantity::JitterForward]);
            }
            State::LostBackward => {
                self.lose(&[Quantity::OwdBackward, Quantity::IpdvBackward, Quantity::JitterBackward]);
            }
            _ => {}
        }
    }

    /// The samples of a record, and what a row of the exports says of it.
    fn samples(&mut self, lane: usize, sequence: u64, record: &Record, state: State) -> Joined {
        let forward = self.one_way(lane, record, FORTH);
        let backward = self.one_way(lane, record, BACK);
        let round = |known: bool, from, to| if known { record.between(from, to) } else { None };
        let t3_t0 = round(self.known.is_round_trip, 0, 3);
        let turnaround = round(self.known.is_turnaround, 1, 2);
        let rtt = t3_t0.zip(turnaround).map(|(whole, part)| {
            // In time of the clock that t3 - t0 is of.
            let skew = self.known.turnaround_skew;
            let longer = rounded(part as f64 * (skew / (1.0 + skew)));
            whole.saturating_sub(part).saturating_add(longer)
        });
        for (quantity, sample) in [
            (Quantity::Rtt, rtt),
            (Quantity::T3T0, t3_t0),
            (Quantity::Turnaround, turnaround),
            (Quantity::OwdForward, forward.filter(|_| self.known.has_offset)),
            (Quantity::OwdBackward, backward.filter(|_| self.known.has_offset)),
        ] {
            if let Some(sample) = sample {
                self.record_sample(quantity, sample);
            }
        }
        // Pongs are sent for each `pong_every`-th ping.
        let step = self.known.steps[lane];
        let pong_step = common_multiple(step, self.known.pong_every.unwrap_or(1).max(1));
        if lane == 0 {
            self.variation(FORTH, Quantity::IpdvForward, sequence, step, forward);
        }
        // The pongs that were never sent are not between those that were.
        if !self.known.is_duplex && !matches!(state, State::Unanswered | State::LostForward) {
            self.variation(BACK, Quantity::IpdvBackward, sequence, pong_step, backward);
            self.variation(ROUND, Quantity::IpdvRoundTrip, sequence, pong_step, t3_t0);
        } else if lane == 1 {
            self.variation(BACK, Quantity::IpdvBackward, sequence, step, backward);
        } else if state == State::LostForward {
            self.before[ROUND] = None;
        }
        let stamps = [0, 1, 2, 3].map(|point| record.stamp(point));
        let [forward, backward] = [forward, backward].map(|delay| delay.filter(|_| self.known.has_offset));
        Joined { sequence, lane, sizes: record.sizes(), stamps, rtt, t3_t0, forward, backward, state }
    }
}

impl Consumer for Measures<'_> {
    const WANTS_ARRIVALS: bool = true;

    fn record(&mut self, lane: usize, sequence: u64, record: &Record, ends: &Ends) -> Result<(), ReportError> {
        self.go(lane, record);
        let state = match self.known.is_duplex {
            true => self.one_sided(lane, sequence, record, ends),
            false => self.echoed(sequence, record, ends),
        };
        self.lose_one_way(state);
        let [ping, pong] = record.sizes();
        self.note_size(lane, ping);
        if !self.known.is_duplex {
            self.note_size(1, pong);
        }
        self.departure(lane, sequence, record.stamp(0));
        let joined = self.samples(lane, sequence, record, state);
        self.exports.write(&joined)
    }

    fn arrival(&mut self, lane: usize, point: usize, record: &Record) {
        self.go(lane, record);
        let way = if self.known.is_duplex { lane } else { point / 2 };
        let quantity = if way == FORTH { Quantity::JitterForward } else { Quantity::JitterBackward };
        if let Some(transit) = self.one_way(lane, record, way)
            && let Some(jitter) = self.jitter[way].step(transit)
        {
            self.record_sample(quantity, jitter);
        }
        if point == 3
            && self.known.is_round_trip
            && let Some(transit) = record.between(0, 3)
            && let Some(jitter) = self.jitter[ROUND].step(transit)
        {
            self.record_sample(Quantity::JitterRoundTrip, jitter);
        }
    }
}

/// Takes the records for the clocks alone.
#[derive(Debug, Default)]
pub(super) struct ClockPass {
    pub(super) is_duplex: bool,
    pub(super) forward: Envelope,
    pub(super) backward: Envelope,
    /// The first t0 of the pinging side (in duplex sessions the client's first stamp).
    pub(super) origin: Option<i64>,
}

impl Consumer for ClockPass {
    const WANTS_ARRIVALS: bool = false;

    #[inline]
    fn record(&mut self, lane: usize, _: u64, record: &Record, _: &Ends) -> Result<(), ReportError> {
        if lane == 0
            && let Some(t0) = record.stamp(0)
        {
            self.origin.get_or_insert(t0);
            if let Some(difference) = record.between(0, 1) {
                self.forward.add(t0, difference);
            }
        }
        let (from, to) = if self.is_duplex { (0, 1) } else { (2, 3) };
        if (lane == 1) == self.is_duplex
            && let (Some(at), Some(difference)) = (record.stamp(to), record.between(from, to))
        {
            self.backward.add(at, difference);
        }
        Ok(())
    }

    fn arrival(&mut self, _: usize, _: usize, _: &Record) {}
}
