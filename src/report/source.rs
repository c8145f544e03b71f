//! The rows of one session of a log as far as they make sense together; what does not is counted as damaged.
//!
//! A row whose time runs backwards still says that its packet was there: it comes out without its stamp. Of two rows that
//! contradict each other the one that the next row contradicts too is the damaged one, so a verdict may come a row later,
//! as a [`Fix`]. A stamp far beyond all before is believed once a second row says so too.

use super::error::ReportError;
use super::progress::Progress;
use super::rows::{Fault, Line, Lines, Row};
use super::survey::{Log, bit};
use crate::wire::Point;
use std::fs::File;
use std::io;
use std::path::PathBuf;

/// How many damaged rows are named.
pub(super) const NAMED: usize = 10;

/// A stamp that is later than all before by more than this is doubted, in ns.
const LEAP: i64 = 10_000_000_000;

/// What is known of the stamps of a log before its rows are.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Timing {
    /// By [`Point`]: points with one number have one clock.
    pub(super) clocks: [u8; 8],
    /// The planned time from ping to ping, in ns, where it is one and known.
    pub(super) delay: Option<i64>,
    /// The pings followed a schedule: pauses are no news.
    pub(super) is_scheduled: bool,
}

impl Timing {
    /// The longest that can have been planned from ping to ping, in ns: in a schedule 2^32 − 1 µs.
    fn longest(&self) -> i64 {
        self.delay.unwrap_or(u32::MAX as i64 * 1000)
    }
}

/// How far the stamps of one clock have come.
#[derive(Debug, Default)]
struct Reach {
    newest: Option<Row>,
    /// Rows that were believed.
    rows: u64,
    /// A row that is far ahead of `newest`, until another one says which of them is right.
    held: Option<Row>,
}

/// The damaged rows of one log.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Damage {
    /// How many there are.
    pub count: u64,
    /// Line number, from 1, and what is wrong, of the first ones, in order of the lines.
    pub first: Vec<(u64, Fault)>,
}

impl Damage {
    pub(super) fn add(&mut self, line: u64, fault: Fault) {
        self.count += 1;
        let at = self.first.partition_point(|(known, _)| *known < line);
        if at < NAMED {
            self.first.insert(at, (line, fault));
            self.first.truncate(NAMED);
        }
    }

    /// Not this line, but that one.
    fn correct(&mut self, not: u64, line: u64, fault: Fault) {
        self.first.retain(|(known, _)| *known != not);
        self.count -= 1;
        self.add(line, fault);
    }
}

/// A row with its stamp, or without it where the stamp is not to be believed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Seen {
    pub(super) sequence: u64,
    pub(super) point: Point,
    pub(super) nanos: Option<i64>,
    pub(super) size: u16,
}

/// What is known better now of a row that came out before.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Fix {
    pub(super) sequence: u64,
    pub(super) point: Point,
    /// The stamp that it really has.
    pub(super) nanos: Option<i64>,
}

/// The rows of one point with ascending sequences.
#[derive(Debug, Default)]
struct Track {
    /// The first one; behind a step of the clock, the first behind that.
    first: Option<Row>,
    /// The one before `last`.
    before: Option<Row>,
    /// The one with the highest sequence.
    last: Option<Row>,
    /// A later one with an earlier stamp.
    doubted: Option<Row>,
}

/// The rows of one log.
#[derive(Debug)]
pub(super) struct Source {
    path: PathBuf,
    lines: Lines,
    points: u8,
    /// How far a sequence may be ahead of all before it without another row that says so too.
    jump: u64,
    /// The highest sequence of each lane.
    high: [u64; 2],
    tracks: [Track; 8],
    timing: Timing,
    /// By the numbers of `timing.clocks`.
    reaches: [Reach; 8],
    /// A row that is far ahead, until the next one is known.
    far: Option<Row>,
    /// The next row, looked at but not taken.
    next: Option<Row>,
    behind_next: Option<Row>,
    pub(super) damage: Damage,
    /// How often the clock of a point was set back, or a clock ahead.
    pub(super) steps: u64,
    /// The last line so far is none: at the end of the session, that it was cut off there.
    pub(super) is_cut: bool,
    /// Rows that came out.
    pub(super) rows: u64,
    pub(super) fixes: Vec<Fix>,
    told: u64,
}

impl Source {
    pub(super) fn open(log: &Log, jump: u64, timing: Timing) -> Result<Self, ReportError> {
        let failed = |answer: io::Error| ReportError::Read { path: log.path.clone(), answer };
        let file = File::open(&log.path).map_err(failed)?;
        let lines = Lines::new(file, log.place.rows, log.place.end, log.place.line).map_err(failed)?;
        let mut source = Self {
            path: log.path.clone(),
            told: lines.left(),
            lines,
            points: log.kind.points(),
            jump,
            high: [0; 2],
            tracks: Default::default(),
            timing,
            reaches: Default::default(),
            far: None,
            next: None,
            behind_next: None,
            damage: Damage::default(),
            steps: 0,
            is_cut: false,
            rows: 0,
            fixes: Vec::new(),
        };
        source.read_ahead()?;
        Ok(source)
    }

    /// The next row; its stamp is not judged yet.
    pub(super) fn peek(&self) -> Option<&Row> {
        self.next.as_ref()
    }

    /// The highest sequence so far in a lane: 1 is what a duplex server pings, 0 all else.
    pub(super) const fn high(&self, lane: usize) -> u64 {
        self.high[lane]
    }

    /// Whether rows of a point can be in this log.
    pub(super) const fn has(&self, point: Point) -> bool {
        self.points & bit(point) != 0
    }

    /// The row that was peeked at.
    #[inline(always)]
    pub(super) fn take(&mut self) -> Result<Option<Seen>, ReportError> {
        let Some(row) = self.next.take() else { return Ok(None) };
        let high = &mut self.high[lane(row.point)];
        *high = (*high).max(row.sequence);
        self.rows += 1;
        let nanos = self.judge(&row);
        self.read_ahead()?;
        if self.next.is_none() {
            // Nothing follows that would confirm them.
            for held in self.reaches.iter_mut().filter_map(|reach| reach.held.take()) {
                self.damage.add(held.line, Fault::Ahead);
            }
        }
        Ok(Some(Seen { sequence: row.sequence, point: row.point, nanos, size: row.size }))
    }

    /// How far the reading has come.
    pub(super) fn tell(&mut self, progress: &Progress) {
        let left = self.lines.left();
        progress.advance(self.told - left);
        self.told = left;
    }

    #[inline]
    fn read_ahead(&mut self) -> Result<(), ReportError> {
        if let Some(row) = self.behind_next.take() {
            self.next = Some(row);
            return Ok(());
        }
        loop {
            let row = match self.lines.next_plain() {
                Some(row) => {
                    self.is_cut = false;
                    row
                }
                None => match self.next_of_any()? {
                    Some(row) => row,
                    None => return Ok(()),
                },
            };
            if self.points & bit(row.point) == 0 {
                self.damage.add(row.line, Fault::ForeignPoint);
                continue;
            }
            let is_far = row.sequence > self.high[lane(row.point)].saturating_add(self.jump);
            if self.far.is_none() && !is_far {
                self.next = Some(row);
                return Ok(());
            }
            if self.confirm(row, is_far) {
                return Ok(());
            }
        }
    }

    /// The next row; `None` at the end.
    #[inline(never)]
    fn next_of_any(&mut self) -> Result<Option<Row>, ReportError> {
        loop {
            match self.lines.next() {
                Ok(Some(Line::Row(row))) => {
                    self.is_cut = false;
                    return Ok(Some(row));
                }
                Ok(Some(Line::Damaged { line, fault })) => {
                    self.is_cut = true;
                    self.damage.add(line, fault);
                }
                Ok(None) => {
                    // Nothing follows that would confirm it.
                    if let Some(far) = self.far.take() {
                        self.damage.add(far.line, Fault::StraySequence);
                    }
                    return Ok(None);
                }
                Err(answer) => return Err(ReportError::Read { path: self.path.clone(), answer }),
            }
        }
    }

    /// A row far ahead of all before it is believed once a second one is near it. Returns whether there is a next row.
    #[cold]
    fn confirm(&mut self, row: Row, is_far: bool) -> bool {
        match self.far.take() {
            Some(far) if lane(far.point) == lane(row.point) && far.sequence.abs_diff(row.sequence) <= self.jump => {
                self.next = Some(far);
                self.behind_next = Some(row);
                return true;
            }
            // The other direction of a duplex session says nothing on it.
            Some(far) if lane(far.point) != lane(row.point) && !is_far => {
                self.far = Some(far);
                self.next = Some(row);
                return true;
            }
            Some(far) => self.damage.add(far.line, Fault::StraySequence),
            None => {}
        }
        if is_far {
            self.far = Some(row);
            return false;
        }
        self.next = Some(row);
        true
    }

    /// The row's stamp, unless it is not to be believed.
    #[inline]
    fn judge(&mut self, row: &Row) -> Option<i64> {
        if row.nanos == 0 {
            self.damage.add(row.line, Fault::NoTime);
            return None;
        }
        let reach = &mut self.reaches[self.timing.clocks[row.point as usize] as usize];
        if let Some(newest) = &reach.newest {
            if reach.held.is_some() || row.nanos > newest.nanos.saturating_add(LEAP) {
                return self.judge_leap(row);
            }
            if row.nanos <= newest.nanos {
                let is_first = self.tracks[row.point as usize].last.is_none();
                if is_first && row.nanos < newest.nanos.saturating_sub(LEAP) {
                    // No earlier one of its point tells, but those of the other points do.
                    self.damage.add(row.line, Fault::Behind);
                    return None;
                }
                reach.rows += 1;
                return self.in_order(row);
            }
        }
        reach.newest = Some(*row);
        reach.rows += 1;
        self.in_order(row)
    }

    /// A row far ahead of all before of its clock, or one behind such a row.
    #[cold]
    fn judge_leap(&mut self, row: &Row) -> Option<i64> {
        let clock = self.timing.clocks[row.point as usize] as usize;
        let newest = self.reaches[clock].newest.expect("the row is ahead of one");
        let Some(held) = self.reaches[clock].held else {
            if self.is_expected(row, &newest) {
                self.believe(clock, row);
                return self.in_order(row);
            }
            self.reaches[clock].held = Some(*row);
            return None;
        };
        // One that is late says nothing.
        if row.nanos <= newest.nanos {
            self.reaches[clock].rows += 1;
            return self.in_order(row);
        }
        self.reaches[clock].held = None;
        if row.nanos - newest.nanos > held.nanos.saturating_sub(newest.nanos) / 2 {
            self.leap(clock, &held, &newest);
        } else {
            self.damage.add(held.line, Fault::Ahead);
        }
        self.judge(row)
    }

    /// Whether pings are so far apart that the row may be that much later.
    fn is_expected(&self, row: &Row, newest: &Row) -> bool {
        let track = &self.tracks[row.point as usize];
        let mean = match (&track.first, &track.last) {
            (Some(first), Some(last)) if last.sequence > first.sequence => {
                i128::from(last.nanos - first.nanos) / i128::from(last.sequence - first.sequence)
            }
            _ => 0,
        };
        let pause = mean.max(self.timing.delay.unwrap_or_default().into());
        let before = track.last.as_ref().unwrap_or(newest);
        let pings = i128::from(row.sequence.saturating_sub(before.sequence));
        i128::from(row.nanos) - i128::from(before.nanos) <= i128::from(LEAP) + 2 * pause * pings
    }

    /// What is behind `held` agrees with it: either all before is wrong, or nothing is.
    fn leap(&mut self, clock: usize, held: &Row, newest: &Row) {
        let is_one_ping = lane(held.point) == lane(newest.point) && held.sequence == newest.sequence;
        let pings = held.sequence.saturating_sub(newest.sequence).max(1);
        let longest = i128::from(LEAP) + 2 * i128::from(self.timing.longest()) * i128::from(pings);
        let is_impossible = is_one_ping || i128::from(held.nanos) - i128::from(newest.nanos) > longest;
        let track = &self.tracks[held.point as usize];
        let is_new = match (&track.first, &track.last) {
            (Some(first), Some(last)) => last.sequence > first.sequence && !self.timing.is_scheduled,
            _ => false,
        };
        if is_impossible && self.reaches[clock].rows == 1 {
            self.damage.add(newest.line, Fault::Behind);
            self.fixes.push(Fix { sequence: newest.sequence, point: newest.point, nanos: None });
            self.tracks[newest.point as usize] = Track::default();
        } else if is_impossible || is_new {
            self.steps += 1;
            for (track, _) in self.tracks.iter_mut().zip(self.timing.clocks).filter(|(_, of)| *of as usize == clock) {
                track.first = None;
            }
        }
        self.believe(clock, held);
        if let Some(nanos) = self.in_order(held) {
            self.fixes.push(Fix { sequence: held.sequence, point: held.point, nanos: Some(nanos) });
        }
    }

    fn believe(&mut self, clock: usize, row: &Row) {
        self.reaches[clock].newest = Some(*row);
        self.reaches[clock].rows += 1;
    }

    /// The stamp, unless it contradicts the order of the sequences of its point.
    #[inline]
    fn in_order(&mut self, row: &Row) -> Option<i64> {
        let track = &mut self.tracks[row.point as usize];
        track.first.get_or_insert(*row);
        let Some(last) = &track.last else {
            track.last = Some(*row);
            return Some(row.nanos);
        };
        // A packet that was overtaken, or a second one with its sequence: its place in time is not told by its sequence.
        if row.sequence <= last.sequence {
            return Some(row.nanos);
        }
        if row.nanos >= last.nanos && track.doubted.is_none() {
            track.before = track.last.replace(*row);
            return Some(row.nanos);
        }
        self.doubt(row)
    }

    #[cold]
    fn doubt(&mut self, row: &Row) -> Option<i64> {
        let track = &mut self.tracks[row.point as usize];
        let last = track.last.expect("there is one that the row contradicts");
        if row.nanos >= last.nanos {
            // The doubted row was wrong.
            track.doubted = None;
            track.before = track.last.replace(*row);
            return Some(row.nanos);
        }
        match track.doubted {
            Some(doubted) if row.sequence > doubted.sequence && row.nanos >= doubted.nanos => {
                // Two agree against one.
                if track.before.is_none_or(|before| before.nanos <= doubted.nanos) {
                    self.damage.correct(doubted.line, last.line, Fault::Ahead);
                    let fix = |row: Row, nanos| Fix { sequence: row.sequence, point: row.point, nanos };
                    self.fixes.extend([fix(last, None), fix(doubted, Some(doubted.nanos))]);
                } else {
                    // Or all that follow against all before: the clock was set back.
                    self.steps += 1;
                }
                self.reaches[self.timing.clocks[row.point as usize] as usize].newest = Some(*row);
                track.first = Some(doubted);
                track.before = Some(doubted);
                track.last = Some(*row);
                track.doubted = None;
                Some(row.nanos)
            }
            _ => {
                self.damage.add(row.line, Fault::Backwards);
                track.doubted = Some(*row);
                None
            }
        }
    }
}

/// Sequences are counted apart in what a duplex server pings.
pub(super) const fn lane(point: Point) -> usize {
    matches!(point, Point::T0sc | Point::T1sc) as usize
}
