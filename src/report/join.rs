//! What both logs say of one sequence, put together in a window of sequences that moves along.
//!
//! Rows come in the order of the logs, which is nearly that of the sequences; a record goes out once its sequence leaves the
//! window. What comes later still is counted. Duplex sessions have two lanes, each with a window: what the client pings,
//! and what the server pings.

use super::error::ReportError;
use super::progress::Progress;
use super::source::{Fix, Seen, Source, lane};
use crate::wire::Point;
use std::collections::VecDeque;

/// Sequences that are remembered: 0.26 s of a million a second, 12 MiB a lane.
pub const WINDOW: usize = 1 << 18;

/// Everything that the logs say of one sequence.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Record {
    /// t0 to t3 in ns, of what has a stamp; in duplex lanes t0 and t1.
    stamps: [i64; 4],
    /// Bytes with the IP header: the ping's, the pong's.
    sizes: [u16; 2],
    /// Rows of t1 to t3 behind the first, up to 65535.
    repeats: [u16; 3],
    /// `STAMPED` and `ROW` of each point, and the others.
    flags: u16,
}

/// The point has a stamp; shifted by its number.
const STAMPED: u16 = 1;
/// There is a row of the point; shifted by its number.
const ROW: u16 = 1 << 4;
/// The ping arrived behind one with a higher sequence.
const PING_OVERTAKEN: u16 = 1 << 8;
/// The pong arrived behind one with a higher sequence.
const PONG_OVERTAKEN: u16 = 1 << 9;
/// Its arrival was handed on; of the ping, and shifted by 1 of the pong.
const ARRIVED: u16 = 1 << 10;

impl Record {
    /// Stamp `point`, 0 to 3.
    #[inline]
    pub(super) fn stamp(&self, point: usize) -> Option<i64> {
        (self.flags & STAMPED << point != 0).then_some(self.stamps[point])
    }

    /// Whether a log has a row of `point`, 0 to 3, with or without a stamp that is to be believed.
    #[inline]
    pub(super) const fn has(&self, point: usize) -> bool {
        self.flags & ROW << point != 0
    }

    /// `late − early`, where both have a stamp.
    #[inline]
    pub(super) fn between(&self, early: usize, late: usize) -> Option<i64> {
        Some(self.stamp(late)? - self.stamp(early)?)
    }

    /// Rows of `point`, 1 to 3.
    pub(super) fn rows(&self, point: usize) -> u64 {
        if self.has(point) { 1 + u64::from(self.repeats[point - 1]) } else { 0 }
    }

    /// Of the ping and of the pong; 0 where there is no row.
    pub(super) const fn sizes(&self) -> [u16; 2] {
        self.sizes
    }

    pub(super) const fn ping_overtaken(&self) -> bool {
        self.flags & PING_OVERTAKEN != 0
    }

    pub(super) const fn pong_overtaken(&self) -> bool {
        self.flags & PONG_OVERTAKEN != 0
    }
}

/// Who takes what is put together.
pub(super) trait Consumer {
    /// Whether it wants to be told of arrivals in their order.
    const WANTS_ARRIVALS: bool;

    /// Everything of one sequence; in a lane they ascend. `ends` says where the logs end.
    fn record(&mut self, lane: usize, sequence: u64, record: &Record, ends: &Ends) -> Result<(), ReportError>;

    /// A packet arrived for the first time: `point` is 1 or 3. In order of arrival, before its record.
    fn arrival(&mut self, lane: usize, point: usize, record: &Record);
}

/// The highest sequence of each lane in the log that has a point, and whether that log was cut off; of a log that has more
/// rows neither is known, and it ends before no sequence.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Ends {
    /// By lane; first of the side that sends its pings, then of the other.
    high: [[u64; 2]; 2],
    cut: [[bool; 2]; 2],
}

impl Ends {
    /// Whether the log of the side that pings (0) or of the other one (1) ends before this sequence.
    pub(super) const fn is_before(&self, lane: usize, side: usize, sequence: u64) -> bool {
        sequence > self.high[lane][side]
    }

    /// The same of a log that ends in the middle of a row: what it would have had behind it is not known.
    pub(super) const fn is_cut_before(&self, lane: usize, side: usize, sequence: u64) -> bool {
        self.cut[lane][side] && self.is_before(lane, side, sequence)
    }
}

/// What became of the rows of a lane.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct LaneCounts {
    /// Rows that came after their sequence had left the window.
    pub(super) late: u64,
    /// Sequences without any row, below the highest, and not below all of a log that was cut out of another.
    pub(super) gaps: u64,
    /// Rows of t0 behind the first of their sequence.
    pub(super) repeated: u64,
}

#[derive(Debug)]
struct Lane {
    slots: Vec<Record>,
    /// The lowest sequence of the window.
    base: u64,
    /// One more than the highest with a row.
    top: u64,
    /// Sequences without a row are gaps: from 1 on, or from the first row of a log that was cut out of another.
    counts_gaps: bool,
    /// The highest that arrived so far as a ping, and as a pong.
    arrived: [u64; 2],
    /// Sequences in order of their first arrival, as pings and as pongs.
    order: [VecDeque<u64>; 2],
    counts: LaneCounts,
}

/// The window.
#[derive(Debug)]
pub(super) struct Join {
    window: usize,
    lanes: [Lane; 2],
    /// Of duplex sessions: the server's clock less the client's, roughly.
    apart: Option<i64>,
    firsts: [Option<i64>; 2],
}

impl Join {
    /// One of `window` sequences, a power of two.
    pub(super) fn new(window: usize) -> Self {
        assert!(window.is_power_of_two(), "the remainder of a sequence is a mask");
        let lane = || Lane {
            slots: Vec::new(),
            base: 0,
            top: 0,
            counts_gaps: false,
            arrived: [0; 2],
            order: Default::default(),
            counts: LaneCounts::default(),
        };
        Self { window, lanes: [lane(), lane()], apart: None, firsts: [None; 2] }
    }

    /// How far a sequence may be ahead of those before it without being doubted.
    pub(super) const fn jump(window: usize) -> u64 {
        window as u64 / 4
    }

    /// Reads all of the logs, one or two, and hands on what they say.
    pub(super) fn run(
        mut self,
        sources: &mut [Source],
        progress: &Progress,
        consumer: &mut impl Consumer,
    ) -> Result<[LaneCounts; 2], ReportError> {
        let mut rows = 0_u64;
        while let Some(index) = self.choose(sources) {
            let source = &mut sources[index];
            if let Some(row) = source.take()? {
                self.push(&row, sources, consumer)?;
            }
            let source = &mut sources[index];
            if !source.fixes.is_empty() {
                source.fixes.drain(..).for_each(|fix| self.fix(fix));
            }
            rows += 1;
            if rows.is_multiple_of(1 << 18) {
                sources.iter_mut().for_each(|source| source.tell(progress));
            }
        }
        sources.iter_mut().for_each(|source| source.tell(progress));
        let ends = ends(sources);
        for lane in 0..2 {
            self.retire(lane, self.lanes[lane].top, &ends, consumer)?;
        }
        Ok(self.lanes.map(|lane| lane.counts))
    }

    /// Which log to read on: the one that is behind.
    #[inline]
    fn choose(&mut self, sources: &[Source]) -> Option<usize> {
        let [first, second] = sources else {
            return sources.first().and_then(Source::peek).map(|_| 0);
        };
        let (one, other) = match (first.peek(), second.peek()) {
            (Some(one), Some(other)) => (one, other),
            (Some(_), None) => return Some(0),
            (None, Some(_)) => return Some(1),
            (None, None) => return None,
        };
        if lane(one.point) == lane(other.point) {
            return Some(usize::from(other.sequence < one.sequence));
        }
        // Sequences of two lanes tell nothing of each other, but the times of the two logs do, once a packet was in both.
        let since = |first: &mut Option<i64>, nanos: i64| nanos - *first.get_or_insert(nanos);
        let elapsed = [since(&mut self.firsts[0], one.nanos), since(&mut self.firsts[1], other.nanos)];
        Some(match self.apart {
            Some(apart) if first.has(Point::T0cs) => usize::from(other.nanos - apart < one.nanos),
            Some(apart) => usize::from(other.nanos < one.nanos - apart),
            None => usize::from(elapsed[1] < elapsed[0]),
        })
    }

    #[inline]
    fn push<C: Consumer>(&mut self, row: &Seen, sources: &[Source], consumer: &mut C) -> Result<(), ReportError> {
        let (number, point) = (lane(row.point), place(row.point));
        let window = self.window as u64;
        let lane = &mut self.lanes[number];
        if lane.slots.is_empty() {
            lane.slots.resize(self.window, Record::default());
            // A log that was cut out of another may begin anywhere.
            lane.base = if row.sequence <= window / 2 { 1 } else { row.sequence - window / 4 };
            lane.top = lane.base;
            lane.counts_gaps = lane.base == 1;
        }
        if row.sequence < lane.base {
            lane.counts.late += 1;
            return Ok(());
        }
        if row.sequence - lane.base >= window {
            // Some at a time.
            self.retire(number, row.sequence - window + 1 + window / 8, &ends(sources), consumer)?;
        }
        let mask = self.window - 1;
        let lane = &mut self.lanes[number];
        lane.top = lane.top.max(row.sequence + 1);
        let slot = &mut lane.slots[row.sequence as usize & mask];
        if slot.has(point) {
            match point {
                0 => lane.counts.repeated += 1,
                _ => slot.repeats[point - 1] = slot.repeats[point - 1].saturating_add(1),
            }
            return Ok(());
        }
        slot.flags |= ROW << point;
        slot.sizes[point / 2] = row.size;
        if let Some(nanos) = row.nanos {
            slot.flags |= STAMPED << point;
            slot.stamps[point] = nanos;
        }
        if C::WANTS_ARRIVALS && point % 2 == 1 {
            let way = point / 2;
            lane.order[way].push_back(row.sequence);
            if row.sequence < lane.arrived[way] {
                slot.flags |= PING_OVERTAKEN << way;
            }
            lane.arrived[way] = lane.arrived[way].max(row.sequence);
        }
        if matches!(row.point, Point::T1cs | Point::T0cs | Point::T0sc | Point::T1sc)
            && let Some(difference) = slot.between(0, 1)
        {
            self.apart = Some(if number == 0 { difference } else { -difference });
        }
        Ok(())
    }

    #[cold]
    fn fix(&mut self, fix: Fix) {
        let (number, point) = (lane(fix.point), place(fix.point));
        let lane = &mut self.lanes[number];
        if fix.sequence < lane.base || fix.sequence >= lane.top {
            return;
        }
        let slot = &mut lane.slots[fix.sequence as usize & (self.window - 1)];
        if fix.nanos.is_some() && slot.stamp(point).is_some() {
            // The row was not the first of its packet.
            return;
        }
        slot.flags &= !(STAMPED << point);
        if let Some(nanos) = fix.nanos {
            slot.flags |= STAMPED << point;
            slot.stamps[point] = nanos;
        }
    }

    /// Hands on what is below `base`.
    fn retire<C: Consumer>(
        &mut self,
        number: usize,
        base: u64,
        ends: &Ends,
        consumer: &mut C,
    ) -> Result<(), ReportError> {
        let mask = self.window - 1;
        let lane = &mut self.lanes[number];
        // Sequences that the window never saw have no slot. They are behind its first row.
        let until = base.min(lane.top);
        lane.counts.gaps += base - until;
        for sequence in lane.base..until {
            let slot = sequence as usize & mask;
            if lane.slots[slot].flags == 0 {
                lane.counts.gaps += u64::from(lane.counts_gaps);
                continue;
            }
            lane.counts_gaps = true;
            for (way, point) in [(0, 1), (1, 3)].into_iter().filter(|_| C::WANTS_ARRIVALS) {
                while lane.slots[slot].has(point) && lane.slots[slot].flags & ARRIVED << way == 0 {
                    let next = lane.order[way].pop_front().expect("each arrival was noted");
                    let arrived = &mut lane.slots[next as usize & mask];
                    arrived.flags |= ARRIVED << way;
                    consumer.arrival(number, point, arrived);
                }
            }
            consumer.record(number, sequence, &lane.slots[slot], ends)?;
            lane.slots[slot] = Record::default();
        }
        lane.base = base;
        lane.top = lane.top.max(base);
        Ok(())
    }
}

/// 0 to 3, whatever the lane.
const fn place(point: Point) -> usize {
    match point {
        Point::T0 | Point::T0cs | Point::T0sc => 0,
        Point::T1 | Point::T1cs | Point::T1sc => 1,
        Point::T2 => 2,
        Point::T3 => 3,
    }
}

fn ends(sources: &[Source]) -> Ends {
    let mut ends = Ends::default();
    for source in sources {
        for (lane, [pings, other]) in
            [(0, [Point::T0, Point::T1]), (0, [Point::T0cs, Point::T1cs]), (1, [Point::T0sc, Point::T1sc])]
        {
            for (side, point) in [(0, pings), (1, other)] {
                if source.has(point) {
                    // Behind a hole that is longer than the window a log goes on: how far it was read is not where it ends.
                    let is_over = source.peek().is_none();
                    ends.high[lane][side] = if is_over { source.high(lane) } else { u64::MAX };
                    ends.cut[lane][side] = is_over && source.is_cut;
                }
            }
        }
    }
    ends
}
