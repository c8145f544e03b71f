//! The hot side: samples and counts are handed over, and nothing is ever waited for while a session lasts.

use super::thread::{Control, Ended};
use super::{Begun, SAMPLES};
use crate::path::Counters;
use crate::record::{Crowd, StampCounts, TripCounts};
use crate::session::{End, Totals};
use rtrb::{Consumer, Producer, RingBuffer};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc::{Sender, SyncSender, sync_channel};
use std::time::Duration;

/// How long the end of a session waits for a thread that may hang in a write to a terminal or a pipe.
const PATIENCE: Duration = Duration::from_secs(5);

/// What a pong says of its ping, in ns. What is not known is `None`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Sample {
    /// From its leaving until the pong's arrival, t3 − t0; negative where the clock was stepped back in between.
    pub t3_t0_ns: Option<i64>,
    /// The same without the time that the other side took, (t3 − t0) − (t2 − t1), where the pong brings both.
    pub rtt_ns: Option<i64>,
}

/// All that a session has counted up to a moment; of a server of many clients all sessions together, as if they were one.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Snapshot {
    /// Which session, from 1.
    pub session: u64,
    /// What it counted.
    pub totals: Totals,
    /// Its stamps.
    pub stamps: StampCounts,
    /// Its pings and pongs.
    pub trips: TripCounts,
    /// Of many sessions as one: what they have come to.
    pub crowd: Option<Crowd>,
    /// Samples handed over since the start, over all sessions.
    pub samples: u64,
    /// Samples that there was no room for, over all sessions.
    pub left_out: u64,
    /// The last question that was heard.
    pub answers: u64,
}

/// What a snapshot is taken of.
#[derive(Debug, Clone, Copy, Default)]
pub struct Counts {
    /// What the session counted.
    pub totals: Totals,
    /// Its stamps.
    pub stamps: StampCounts,
    /// Its pings and pongs.
    pub trips: TripCounts,
    /// Of many sessions as one: what they have come to.
    pub crowd: Option<Crowd>,
}

/// The hot loop's end of the display.
///
/// [`Feed::sample`] and [`Feed::publish`] do not block, allocate or enter the kernel. [`Feed::begin`] and [`Feed::end`]
/// do: they are for the times between sessions.
#[derive(Debug)]
pub struct Feed {
    samples: Producer<Sample>,
    snapshots: triple_buffer::Input<Snapshot>,
    asked: Arc<AtomicU64>,
    spent: Arc<AtomicU64>,
    answered: u64,
    control: Sender<Control>,
    session: u64,
    pushed: u64,
    left_out: u64,
}

/// The other ends.
pub(super) struct Ends {
    pub(super) samples: Consumer<Sample>,
    pub(super) snapshots: triple_buffer::Output<Snapshot>,
    pub(super) asked: Arc<AtomicU64>,
    /// CPU time of the thread that shows, in ns.
    pub(super) spent: Arc<AtomicU64>,
}

impl Feed {
    pub(super) fn new(control: Sender<Control>) -> (Self, Ends) {
        Self::with_room(control, SAMPLES)
    }

    pub(super) fn with_room(control: Sender<Control>, room: usize) -> (Self, Ends) {
        let (mut samples, mut source) = RingBuffer::new(room);
        // Touches every page of the ring, so that the hot loop meets no page fault.
        while samples.push(Sample::default()).is_ok() {}
        while source.pop().is_ok() {}
        let (snapshots, output) = triple_buffer::triple_buffer(&Snapshot::default());
        let [asked, spent] = [(); 2].map(|()| Arc::new(AtomicU64::new(0)));
        let ends = Ends { samples: source, snapshots: output, asked: Arc::clone(&asked), spent: Arc::clone(&spent) };
        (Self { samples, snapshots, asked, spent, answered: 0, control, session: 0, pushed: 0, left_out: 0 }, ends)
    }

    /// A pong came, or its ping's t0 after it. What the ring has no room for is counted.
    #[inline]
    pub fn sample(&mut self, sample: Sample) {
        match self.samples.push(sample) {
            Ok(()) => self.pushed += 1,
            Err(_) => self.left_out += 1,
        }
    }

    /// Whether somebody wants to know how things stand.
    #[inline]
    pub fn is_asked(&self) -> bool {
        self.asked.load(Ordering::Relaxed) != self.answered
    }

    /// Whether a loop is to say how things stand; `sleeps`: it is about to. Nobody wakes one that sleeps: it says so before.
    #[inline]
    pub fn wants_counts(&self, sleeps: bool) -> bool {
        sleeps || self.is_asked()
    }

    /// How things stand, with all samples handed over before. Whoever sleeps next publishes first: nobody wakes it to ask.
    #[inline]
    pub fn publish(&mut self, counts: &Counts) {
        // Read before anything is copied: what is asked later gets another answer.
        self.answered = self.asked.load(Ordering::Acquire);
        let snapshot = self.snapshot(counts);
        self.snapshots.write(snapshot);
    }

    fn snapshot(&self, counts: &Counts) -> Snapshot {
        let Counts { totals, stamps, trips, crowd } = *counts;
        let Self { session, pushed, left_out, answered, .. } = *self;
        Snapshot { session, totals, stamps, trips, crowd, samples: pushed, left_out, answers: answered }
    }

    /// A round comes next that is called this; `None`: no other does, and nothing of the last one is to be seen any more.
    pub fn round(&self, name: Option<&str>) {
        // A display that is gone is nobody's loss.
        let _ = self.control.send(Control::Round(name.map(str::to_owned)));
    }

    /// CPU time that the thread that shows has taken since it was started, in ns, as of some moments ago. It is the process's too,
    /// and no part of what is measured.
    pub fn spent_ns(&self) -> u64 {
        self.spent.load(Ordering::Relaxed)
    }

    /// A session stands.
    pub fn begin(&mut self, begun: Begun, counts: &Counts) {
        self.session += 1;
        self.publish(counts);
        // A display that is gone is nobody's loss.
        let _ = self.control.send(Control::Begin(self.session, begun));
    }

    /// A session is over: waits until its last interval is out, so that the statistics come after it. `counters` are what
    /// the path counted during this session.
    pub fn end(&mut self, counts: &Counts, end: End, counters: Counters) {
        self.publish(counts);
        let (done, is_done): (SyncSender<()>, _) = sync_channel(1);
        let ended = Ended { snapshot: self.snapshot(counts), end, counters, done };
        if self.control.send(Control::End(Box::new(ended))).is_ok() {
            let _ = is_done.recv_timeout(PATIENCE);
        }
    }
}
