//! What is measured, and what a quantity comes to: numbers, bins, and the same over time.

use crate::stats::{Batch, Bin, Distribution, Summary};

/// What a sample is of. All are in ns, and may be negative.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Quantity {
    /// Round-trip time without the time that the other side took: (t3 − t0) − (t2 − t1).
    Rtt,
    /// From sending a ping to receiving its pong: t3 − t0.
    T3T0,
    /// From receiving a ping to sending its pong: t2 − t1.
    Turnaround,
    /// One-way delay of pings (in duplex sessions of what the client sends).
    OwdForward,
    /// One-way delay of pongs (in duplex sessions of what the server sends).
    OwdBackward,
    /// One-way delay of a ping less that of the ping sent before it (RFC 3393).
    IpdvForward,
    /// The same of pongs.
    IpdvBackward,
    /// The same of t3 − t0.
    IpdvRoundTrip,
    /// Interarrival jitter of pings (RFC 3550, section 6.4.1), as it stood after each.
    JitterForward,
    /// The same of pongs.
    JitterBackward,
    /// The same with t3 − t0 for the transit time.
    JitterRoundTrip,
    /// The time from the ping before less the planned time.
    DepartureForward,
    /// The same of the pings of a duplex session's server.
    DepartureBackward,
}

impl Quantity {
    /// All of them, in the order in which they are shown.
    pub const ALL: [Self; 13] = [
        Self::Rtt,
        Self::T3T0,
        Self::Turnaround,
        Self::OwdForward,
        Self::OwdBackward,
        Self::IpdvForward,
        Self::IpdvBackward,
        Self::IpdvRoundTrip,
        Self::JitterForward,
        Self::JitterBackward,
        Self::JitterRoundTrip,
        Self::DepartureForward,
        Self::DepartureBackward,
    ];

    /// The name in JSON.
    pub const fn key(self) -> &'static str {
        match self {
            Self::Rtt => "rtt_ns",
            Self::T3T0 => "t3_t0_ns",
            Self::Turnaround => "turnaround_ns",
            Self::OwdForward => "owd_forward_ns",
            Self::OwdBackward => "owd_backward_ns",
            Self::IpdvForward => "ipdv_forward_ns",
            Self::IpdvBackward => "ipdv_backward_ns",
            Self::IpdvRoundTrip => "ipdv_t3_t0_ns",
            Self::JitterForward => "jitter_forward_ns",
            Self::JitterBackward => "jitter_backward_ns",
            Self::JitterRoundTrip => "jitter_t3_t0_ns",
            Self::DepartureForward => "inter_departure_error_ns",
            Self::DepartureBackward => "inter_departure_error_backward_ns",
        }
    }

    /// The name in text.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Rtt => "RTT",
            Self::T3T0 => "t3-t0",
            Self::Turnaround => "turnaround t2-t1",
            Self::OwdForward => "one-way forward",
            Self::OwdBackward => "one-way backward",
            Self::IpdvForward => "IPDV forward",
            Self::IpdvBackward => "IPDV backward",
            Self::IpdvRoundTrip => "IPDV of t3-t0",
            Self::JitterForward => "jitter forward",
            Self::JitterBackward => "jitter backward",
            Self::JitterRoundTrip => "jitter of t3-t0",
            Self::DepartureForward => "departure error",
            Self::DepartureBackward => "departure error back",
        }
    }
}

/// A part of the session's time, and the samples of pings that were sent in it.
#[derive(Debug, Clone, PartialEq)]
pub struct TimeBin {
    /// Its beginning, in ns since the first ping.
    pub start_ns: u64,
    /// Its length in ns.
    pub width_ns: u64,
    /// What was sent in it and lost: of round trips either way, of one direction's quantities in that direction; `None`
    /// where the logs do not tell.
    pub lost: Option<u64>,
    /// The samples. Percentiles of more than 4096 have two digits.
    pub summary: Option<Summary>,
}

/// What a quantity comes to.
#[derive(Debug, Clone, PartialEq)]
pub struct Measured {
    /// The numbers.
    pub summary: Summary,
    /// Whether percentiles are samples; else they have [`crate::stats::DIGITS`] digits.
    pub is_exact: bool,
    /// Ranges in ascending order that together hold every sample.
    pub bins: Vec<Bin>,
    /// The same over time: without gaps, all of one width.
    pub over_time: Vec<TimeBin>,
    /// The sample that came last.
    pub last: i64,
}

/// How many parts the time is divided into at most.
pub const TIME_BINS: usize = 128;
/// How long a part is at first, in ns.
const FIRST_WIDTH: u64 = 1_000_000;
/// From here on samples are taken less the first one: an hour more or less must not cost the percentiles their digits.
const LARGE: u64 = 1_000_000_000;

/// Where in time a sample belongs: since the first ping of its lane, as the two lanes' pings have clocks of their own.
#[derive(Debug)]
pub(super) struct TimeAxis {
    origins: [Option<i64>; 2],
    width: u64,
    /// Of each lane the piece that its last packet was in.
    pieces: [usize; 2],
    lane: usize,
}

impl TimeAxis {
    pub(super) const fn new() -> Self {
        Self { origins: [None; 2], width: FIRST_WIDTH, pieces: [0; 2], lane: 0 }
    }

    /// Goes to a time of a lane, in ns; `None` stays where the lane is. Returns how often the width was doubled for it.
    #[inline]
    pub(super) fn go(&mut self, lane: usize, at: Option<i64>) -> u32 {
        self.lane = lane;
        let Some(at) = at else { return 0 };
        let since = at.saturating_sub(*self.origins[lane].get_or_insert(at)).max(0) as u64;
        let mut doubled = 0;
        while since / self.width >= TIME_BINS as u64 {
            self.width *= 2;
            doubled += 1;
        }
        self.pieces = self.pieces.map(|piece| piece >> doubled);
        self.pieces[lane] = (since / self.width) as usize;
        doubled
    }

    pub(super) const fn now(&self) -> usize {
        self.pieces[self.lane]
    }

    pub(super) const fn width(&self) -> u64 {
        self.width
    }
}

/// The samples of one quantity, as a whole and over time.
#[derive(Debug, Default)]
pub(super) struct Series {
    whole: Distribution,
    /// What samples are recorded less: 0, but of large numbers the first.
    reference: i64,
    cells: Vec<Cell>,
    last: i64,
    /// Samples less the reference that are in no distribution yet, up to [`PENDING`], all of one part of the time.
    pending: Vec<i64>,
    pending_cell: usize,
}

/// So many samples are put into their distributions at once, which costs less than one by one.
const PENDING: usize = 1 << 9;

#[derive(Debug)]
struct Cell {
    samples: Distribution,
    lost: u64,
}

impl Default for Cell {
    fn default() -> Self {
        Self { samples: Distribution::small(), lost: 0 }
    }
}

impl Series {
    #[inline]
    pub(super) fn record(&mut self, sample: i64, cell: usize) {
        if cell != self.pending_cell || self.pending.len() == PENDING {
            self.settle();
            self.pending_cell = cell;
        }
        if self.whole.count() == 0 && self.pending.is_empty() && sample.unsigned_abs() >= LARGE {
            self.reference = sample;
        }
        self.last = sample;
        self.pending.push(sample.saturating_sub(self.reference));
    }

    /// Puts what is pending into the distributions.
    #[inline(never)]
    fn settle(&mut self) {
        let Some(batch) = Batch::of(&self.pending) else { return };
        self.whole.record_all(&batch);
        if self.pending_cell >= self.cells.len() {
            self.cells.resize_with(self.pending_cell + 1, Cell::default);
        }
        self.cells[self.pending_cell].samples.record_all(&batch);
        self.pending.clear();
    }

    #[inline]
    pub(super) fn lose(&mut self, cell: usize) {
        self.cell(cell).lost += 1;
    }

    #[inline]
    fn cell(&mut self, cell: usize) -> &mut Cell {
        if cell >= self.cells.len() {
            self.cells.resize_with(cell + 1, Cell::default);
        }
        &mut self.cells[cell]
    }

    /// The width was doubled: two parts become one.
    #[cold]
    pub(super) fn fold(&mut self) {
        self.settle();
        let mut folded = Vec::with_capacity(self.cells.len().div_ceil(2));
        let mut cells = std::mem::take(&mut self.cells).into_iter();
        while let Some(mut cell) = cells.next() {
            if let Some(other) = cells.next() {
                cell.samples.merge(&other.samples);
                cell.lost += other.lost;
            }
            folded.push(cell);
        }
        self.cells = folded;
    }

    /// `None` of nothing.
    pub(super) fn measured(&mut self, width: u64, losses_known: bool) -> Option<Measured> {
        self.settle();
        let reference = self.reference;
        let shifted = |summary: Summary| shift(summary, reference);
        let summary = shifted(self.whole.summary()?);
        let bins = self.whole.bins().into_iter();
        let bins = bins.map(|bin| Bin { low: bin.low + reference, high: bin.high + reference, count: bin.count });
        let over_time = self.cells.iter_mut().enumerate().map(|(index, cell)| TimeBin {
            start_ns: index as u64 * width,
            width_ns: width,
            lost: losses_known.then_some(cell.lost),
            summary: cell.samples.summary().map(shifted),
        });
        Some(Measured {
            summary,
            is_exact: self.whole.is_exact(),
            bins: bins.collect(),
            over_time: over_time.collect(),
            last: self.last,
        })
    }
}

fn shift(summary: Summary, by: i64) -> Summary {
    Summary {
        min: summary.min + by,
        mean: summary.mean + by as f64,
        p50: summary.p50 + by,
        p90: summary.p90 + by,
        p99: summary.p99 + by,
        p999: summary.p999 + by,
        p9999: summary.p9999 + by,
        max: summary.max + by,
        ..summary
    }
}
