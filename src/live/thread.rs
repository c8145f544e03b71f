//! The thread that shows: takes samples from their ring, asks the hot loop how things stand, prints.

use super::Begun;
use super::feed::{Ends, Sample, Snapshot};
use super::interval::{Cutter, Interval, Losses};
use super::metrics::Metrics;
use crate::clock::{Monotonic, Time, monotonic_now};
use crate::path::Counters;
use crate::record::Role;
use crate::session::End;
use indicatif::ProgressBar;
use std::io::{self, Write};
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::sync::mpsc::{Receiver, RecvTimeoutError, SyncSender};
use std::thread;
use std::time::Duration;

/// The longest time between two looks at the ring of samples: 3 million a second fill three quarters of it.
const PAUSE: Duration = Duration::from_millis(32);
/// How long an answer of the hot loop is waited for. One that sleeps has published before.
const ANSWER: Duration = Duration::from_millis(20);
/// Between two looks for it.
const LOOK: Duration = Duration::from_micros(100);

/// What the thread is told.
#[derive(Debug)]
pub(super) enum Control {
    /// A session stands: its number, and what it does.
    Begin(u64, Begun),
    /// It is over.
    End(Box<Ended>),
    /// Somebody wants metrics that are of this moment.
    Refresh(tokio::sync::oneshot::Sender<()>),
    /// The end.
    Stop,
}

/// What is known at the end of a session.
#[derive(Debug)]
pub(super) struct Ended {
    pub(super) snapshot: Snapshot,
    pub(super) end: End,
    pub(super) counters: Counters,
    /// Told once everything is out.
    pub(super) done: SyncSender<()>,
}

/// Where intervals go.
#[derive(Debug)]
pub(super) enum Printer {
    /// Lines on stdout.
    Lines {
        /// JSON, not text.
        json: bool,
    },
    /// The line on a terminal.
    Bar(ProgressBar),
}

/// A session that stands.
#[derive(Debug)]
struct Session {
    number: u64,
    cutter: Cutter,
    losses: Losses,
    /// What the metrics have of it.
    counted: Snapshot,
    /// The next end of an interval.
    tick: Option<Time<Monotonic>>,
}

/// The thread.
pub(super) struct Live {
    role: Role,
    ends: Ends,
    inbox: Receiver<Control>,
    /// How often, and where to.
    printer: Option<(Duration, Printer)>,
    metrics: Option<Arc<Metrics>>,
    session: Option<Session>,
    /// Samples taken from the ring, over all sessions.
    taken: u64,
    left_out: u64,
}

impl Live {
    pub(super) fn new(
        role: Role,
        ends: Ends,
        inbox: Receiver<Control>,
        printer: Option<(Duration, Printer)>,
        metrics: Option<Arc<Metrics>>,
    ) -> Self {
        Self { role, ends, inbox, printer, metrics, session: None, taken: 0, left_out: 0 }
    }

    pub(super) fn run(mut self) {
        loop {
            match self.inbox.recv_timeout(self.pause()) {
                Ok(Control::Begin(number, begun)) => self.begin(number, begun),
                Ok(Control::End(ended)) => self.end(&ended),
                Ok(Control::Refresh(reply)) => {
                    self.refresh();
                    // Whoever asked may have gone.
                    let _ = reply.send(());
                }
                Err(RecvTimeoutError::Timeout) => {}
                Ok(Control::Stop) | Err(RecvTimeoutError::Disconnected) => return,
            }
            self.take_until(u64::MAX);
            if self.session.as_ref().is_some_and(|session| session.tick.is_some_and(|tick| tick <= monotonic_now())) {
                self.tick();
            }
        }
    }

    /// Until the ring or the interval wants to be looked after; for ever where no session stands.
    fn pause(&self) -> Duration {
        match &self.session {
            None => Duration::from_secs(3600),
            Some(Session { tick, .. }) => tick.map_or(PAUSE, |tick| PAUSE.min(tick.duration_since(monotonic_now()))),
        }
    }

    fn begin(&mut self, number: u64, begun: Begun) {
        let now = monotonic_now();
        let counted = Snapshot { left_out: self.left_out, ..Snapshot::default() };
        self.session = Some(Session {
            number,
            cutter: Cutter::new(self.role, number, begun, now, self.left_out),
            losses: Losses::default(),
            counted,
            tick: self.printer.as_ref().map(|(every, _)| now.plus(*every)),
        });
        if let Some(metrics) = &self.metrics {
            metrics.session_begins();
        }
    }

    fn end(&mut self, ended: &Ended) {
        self.take_until(ended.snapshot.samples);
        self.count(&ended.snapshot);
        self.left_out = ended.snapshot.left_out;
        if let Some(mut session) = self.session.take() {
            let lost = Losses::in_the_end(&ended.snapshot);
            if let Some(metrics) = &self.metrics {
                metrics.session_ends(&ended.snapshot, lost, ended.end, &ended.counters);
            }
            let interval = session.cutter.cut(monotonic_now(), &ended.snapshot, lost);
            match &self.printer {
                Some((_, Printer::Lines { .. })) => self.print(&interval, session.cutter.begun()),
                Some((_, Printer::Bar(bar))) => bar.finish_and_clear(),
                None => {}
            }
        }
        let _ = ended.done.send(());
    }

    /// Brings the metrics up to this moment.
    fn refresh(&mut self) {
        let Some(number) = self.session.as_ref().map(|session| session.number) else { return };
        if let Some(snapshot) = self.ask(number) {
            self.take_until(snapshot.samples);
            self.count(&snapshot);
            let now = monotonic_now();
            if let (Some(session), Some(metrics)) = (&mut self.session, &self.metrics) {
                let pong_every = session.cutter.begun().pong_every;
                metrics.set_unanswered(session.losses.at(now, &snapshot, pong_every));
            }
        }
    }

    /// The end of an interval.
    fn tick(&mut self) {
        let Some(number) = self.session.as_ref().map(|session| session.number) else { return };
        let snapshot = self.ask(number);
        let Some((every, _)) = self.printer else { return };
        if let Some(snapshot) = &snapshot {
            self.take_until(snapshot.samples);
            self.count(snapshot);
        }
        let Some(session) = &mut self.session else { return };
        let now = monotonic_now();
        // A thread that was held up leaves out the ends that it missed.
        while let Some(tick) = session.tick.filter(|tick| *tick <= now) {
            session.tick = Some(tick.plus(every));
        }
        let Some(snapshot) = snapshot else { return };
        let begun = *session.cutter.begun();
        let lost = session.losses.at(now, &snapshot, begun.pong_every);
        let interval = session.cutter.cut(now, &snapshot, lost);
        self.print(&interval, &begun);
    }

    /// How things stand in a session; `None` where it is not the hot loop's any more, and its end is on its way here.
    ///
    /// A hot loop that gives no answer sleeps, and what it published before is how things stand; or it was kept from
    /// running, and then this is what is known.
    fn ask(&mut self, session: u64) -> Option<Snapshot> {
        let question = self.ends.asked.fetch_add(1, Ordering::Release) + 1;
        let began = monotonic_now();
        loop {
            let snapshot = *self.ends.snapshots.read();
            let answered = snapshot.answers >= question;
            if answered || monotonic_now().duration_since(began) >= ANSWER {
                return (snapshot.session == session).then_some(snapshot);
            }
            thread::sleep(LOOK);
        }
    }

    /// Takes samples until so many were taken since the start, or there are no more.
    fn take_until(&mut self, limit: u64) {
        while self.taken < limit {
            let Ok(sample) = self.ends.samples.pop() else { return };
            self.taken += 1;
            self.take(sample);
        }
    }

    fn take(&mut self, sample: Sample) {
        if let (Some(session), true) = (&mut self.session, self.printer.is_some()) {
            session.cutter.add(sample);
        }
        if let Some(metrics) = &self.metrics {
            metrics.observe(sample);
        }
    }

    fn count(&mut self, snapshot: &Snapshot) {
        if let (Some(session), Some(metrics)) = (&mut self.session, &self.metrics) {
            metrics.count(&session.counted, snapshot);
            session.counted = *snapshot;
        }
    }

    fn print(&self, interval: &Interval, begun: &Begun) {
        match &self.printer {
            Some((_, Printer::Lines { json: true })) => say(&interval.to_json()),
            Some((_, Printer::Lines { json: false })) => say(&interval.to_text(begun.direction)),
            Some((_, Printer::Bar(bar))) => {
                bar.set_message(interval.to_text(begun.direction));
                bar.tick();
            }
            None => {}
        }
    }
}

/// One write a line keeps it in one piece. A reader that went away is no reason to stop measuring; a disk that is full is
/// told of when the statistics cannot be written either.
fn say(line: &str) {
    let mut stdout = io::stdout().lock();
    let _ = stdout.write_all(format!("{line}\n").as_bytes()).and_then(|()| stdout.flush());
}
