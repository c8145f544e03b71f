//! The thread that shows: takes samples from their ring, asks the hot loop how things stand, prints.

use super::Begun;
use super::feed::{Ends, Sample, Snapshot};
use super::interval::{Cutter, Interval, Losses};
use super::metrics::Metrics;
use super::metrics::model::MetricFamily;
use crate::clock::{Monotonic, Time, monotonic_now, thread_cpu_now};
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
/// How long an answer of the hot loop is waited for that seems to sleep: it has published before.
const ANSWER: Duration = Duration::from_millis(10);
/// How long of one that does not, but was kept from running.
const PATIENCE: Duration = Duration::from_millis(300);
/// Between two looks for it.
const LOOK: Duration = Duration::from_micros(100);

/// What the thread is told.
#[derive(Debug)]
pub(super) enum Control {
    /// A session stands: its number, and what it does.
    Begin(u64, Begun),
    /// It is over.
    End(Box<Ended>),
    /// The session that comes next is a round that is called this; `None`: none comes.
    Round(Option<String>),
    /// Somebody wants metrics that are of this moment, all of one.
    Scrape(tokio::sync::oneshot::Sender<Families>),
    /// The end.
    Stop,
}

/// The metrics, or that they cannot be encoded.
pub(super) type Families = Result<Vec<MetricFamily>, std::fmt::Error>;

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
    /// The same of one session of several, from its beginning.
    Round(ProgressBar),
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
    /// What the session is called, where it is a round.
    round: String,
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
        Self { role, ends, inbox, printer, metrics, session: None, round: String::new(), taken: 0, left_out: 0 }
    }

    pub(super) fn run(mut self) {
        loop {
            match self.inbox.recv_timeout(self.pause()) {
                Ok(Control::Begin(number, begun)) => self.begin(number, begun),
                Ok(Control::End(ended)) => self.end(&ended),
                Ok(Control::Round(name)) => self.next_round(name),
                Ok(Control::Scrape(reply)) => {
                    self.refresh();
                    if let Some(metrics) = &self.metrics {
                        // Whoever asked may have gone.
                        let _ = reply.send(metrics.families());
                    }
                }
                Err(RecvTimeoutError::Timeout) => {}
                Ok(Control::Stop) | Err(RecvTimeoutError::Disconnected) => return,
            }
            self.take_until(u64::MAX);
            if self.session.as_ref().is_some_and(|session| session.tick.is_some_and(|tick| tick <= monotonic_now())) {
                self.tick();
            }
            self.ends.spent.store(thread_cpu_now(), Ordering::Relaxed);
        }
    }

    fn next_round(&mut self, name: Option<String>) {
        let Some((_, Printer::Round(bar))) = &self.printer else { return };
        match name {
            Some(name) => {
                bar.set_message(name.clone());
                // It was taken away at the end of the last one.
                bar.reset();
                bar.tick();
                self.round = name;
            }
            None => bar.finish_and_clear(),
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
        if let Some((_, Printer::Round(bar))) = &self.printer {
            // Also of a round that never was a session.
            bar.finish_and_clear();
        }
        if let Some(mut session) = self.session.take() {
            let lost = Losses::in_the_end(&ended.snapshot);
            if let Some(metrics) = &self.metrics {
                metrics.session_ends(&ended.snapshot, lost, ended.end, &ended.counters);
            }
            let interval = session.cutter.cut(monotonic_now(), &ended.snapshot, lost);
            match &self.printer {
                // What is left behind the last whole one may be nothing.
                Some((_, Printer::Lines { json }))
                    if interval.interval > 1 && if *json { interval.is_empty() } else { interval.is_idle() } => {}
                Some((_, Printer::Lines { .. })) => self.print(&interval, session.cutter.begun()),
                Some((_, Printer::Bar(bar))) => bar.finish_and_clear(),
                Some((_, Printer::Round(_))) | None => {}
            }
        }
        self.ends.spent.store(thread_cpu_now(), Ordering::Relaxed);
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
        if let Some((_, Printer::Round(bar))) = &self.printer {
            bar.set_message(format!("{}: {}", self.round, session.cutter.round(&snapshot, lost)));
            bar.tick();
            return;
        }
        let interval = session.cutter.cut(now, &snapshot, lost);
        self.print(&interval, &begun);
    }

    /// How things stand in a session; `None` where it is not the hot loop's any more, and its end is on its way here.
    ///
    /// A hot loop that gives no answer sleeps, and what it published before is how things stand: there is no sample that is
    /// newer. Or it was kept from running, and then this is what is known.
    fn ask(&mut self, session: u64) -> Option<Snapshot> {
        let question = self.ends.asked.fetch_add(1, Ordering::Release) + 1;
        let began = monotonic_now();
        loop {
            let snapshot = *self.ends.snapshots.read();
            let waited = monotonic_now().duration_since(began);
            let sleeps = || self.taken + self.ends.samples.slots() as u64 == snapshot.samples;
            if snapshot.answers >= question || waited >= ANSWER && sleeps() || waited >= PATIENCE {
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
                bar.set_message(interval.to_short_text(begun.direction));
                bar.tick();
            }
            // It has no intervals.
            Some((_, Printer::Round(_))) | None => {}
        }
    }
}

/// One write a line keeps it in one piece. A reader that went away is no reason to stop measuring; a disk that is full is
/// told of when the statistics cannot be written either.
fn say(line: &str) {
    let mut stdout = io::stdout().lock();
    let _ = stdout.write_all(format!("{line}\n").as_bytes()).and_then(|()| stdout.flush());
}

#[cfg(test)]
mod tests {
    use super::super::feed::{Counts, Feed};
    use super::super::metrics::BuildInfo;
    use super::*;
    use crate::record::TripCounts;
    use crate::session::{Direction, Totals};
    use std::sync::mpsc::{Sender, channel};

    const BEGUN: Begun = Begun { direction: Direction::Forward, pong_every: 1 };

    /// A thread that serves metrics, with this much room for samples.
    fn start(room: usize) -> (Feed, Sender<Control>, Arc<Metrics>, thread::JoinHandle<()>) {
        let (control, inbox) = channel();
        let (feed, ends) = Feed::with_room(control.clone(), room);
        let build = BuildInfo { role: Role::Client, path: "kernel", sources: ["software", "software"] };
        let metrics = Arc::new(Metrics::new(build));
        let live = Live::new(Role::Client, ends, inbox, None, Some(Arc::clone(&metrics)));
        (feed, control, metrics, thread::spawn(|| live.run()))
    }

    fn counts(pings: u64) -> Counts {
        let totals = Totals { pings_sent: pings, pongs_expected: pings, measures_loss: true, ..Totals::default() };
        let trips = TripCounts { unique: pings, newest_answered: pings, ..TripCounts::default() };
        Counts { totals, trips, ..Counts::default() }
    }

    fn of(families: &Families, name: &str) -> f64 {
        let families = families.as_ref().expect("they can be encoded");
        let Some(family) = families.iter().find(|family| family.name == name) else { return 0.0 };
        let metric = &family.metric[0];
        let count = metric.histogram.as_ref().map(|histogram| histogram.sample_count as f64);
        count.or(metric.counter.as_ref().map(|counter| counter.value)).expect("a counter or a histogram")
    }

    fn scrape(control: &Sender<Control>) -> Families {
        let (asked, answered) = tokio::sync::oneshot::channel();
        control.send(Control::Scrape(asked)).expect("the thread runs");
        answered.blocking_recv().expect("the thread answers")
    }

    #[test]
    fn samples_without_room_are_counted_and_the_rest_is_whole() {
        // The thread is told of the session only after its samples.
        let (control, inbox) = channel();
        let (mut feed, ends) = Feed::with_room(control.clone(), 4);
        (0..10).for_each(|nanos| feed.sample(Sample { t3_t0_ns: Some(nanos), rtt_ns: None }));
        let build = BuildInfo { role: Role::Client, path: "kernel", sources: ["software", "software"] };
        let metrics = Arc::new(Metrics::new(build));
        let live = Live::new(Role::Client, ends, inbox, None, Some(Arc::clone(&metrics)));
        feed.begin(BEGUN, &Counts::default());
        let thread = thread::spawn(|| live.run());
        feed.end(&counts(10), End::Complete, Counters::default());
        let families = metrics.families();
        assert_eq!(of(&families, "xdprobe_samples_left_out_total"), 6.0);
        assert_eq!(of(&families, "xdprobe_t3_t0_seconds"), 4.0);
        assert_eq!(of(&families, "xdprobe_pings_sent_total"), 10.0);
        control.send(Control::Stop).expect("the thread runs");
        thread.join().expect("it does not panic");
    }

    #[test]
    fn a_loop_that_sleeps_has_said_before_how_things_stand() {
        let (mut feed, control, _, thread) = start(64);
        feed.begin(BEGUN, &Counts::default());
        (0..5).for_each(|nanos| feed.sample(Sample { t3_t0_ns: Some(nanos), rtt_ns: None }));
        feed.publish(&counts(5));
        let families = scrape(&control);
        assert_eq!(["xdprobe_pings_sent_total", "xdprobe_t3_t0_seconds"].map(|name| of(&families, name)), [5.0, 5.0]);
        assert!(feed.is_asked(), "it was asked in its sleep");
        feed.publish(&counts(5));
        assert!(!feed.is_asked());
        control.send(Control::Stop).expect("the thread runs");
        thread.join().expect("it does not panic");
    }

    #[test]
    fn what_showing_takes_of_the_cpu_is_told_at_the_end_of_a_session() {
        let (mut feed, control, _, thread) = start(64);
        feed.begin(BEGUN, &Counts::default());
        feed.end(&counts(1), End::Complete, Counters::default());
        let first = feed.spent_ns();
        feed.begin(BEGUN, &Counts::default());
        scrape(&control).expect("they can be encoded");
        feed.end(&counts(1), End::Complete, Counters::default());
        assert!(first > 0 && feed.spent_ns() > first, "{first} {}", feed.spent_ns());
        control.send(Control::Stop).expect("the thread runs");
        thread.join().expect("it does not panic");
    }

    #[test]
    fn counters_go_on_over_sessions_that_begin_at_zero() {
        let (mut feed, control, metrics, thread) = start(64);
        for pings in [3, 2] {
            feed.begin(BEGUN, &Counts::default());
            feed.end(&counts(pings), End::Complete, Counters { tx_retries: 7, ..Counters::default() });
        }
        let families = metrics.families();
        assert_eq!(of(&families, "xdprobe_pings_sent_total"), 5.0);
        assert_eq!(of(&families, "xdprobe_sessions_begun_total"), 2.0);
        assert_eq!(of(&families, "xdprobe_path_tx_retries_total"), 14.0);
        control.send(Control::Stop).expect("the thread runs");
        thread.join().expect("it does not panic");
    }
}
