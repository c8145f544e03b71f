//! The hot side of the log: sightings and events go into rings, and a thread of its own does the rest.
//!
//! Handing over a sighting or an event never blocks, allocates, formats or enters the kernel. What the ring has no room
//! for is counted as lost. Everything else here is for the times between sessions.

use super::clocks::ClockRecord;
use super::file::{FileCounts, LogFile, LogKind, RecordError, Sink, open};
use super::meta::{Facts, MetaFile, StampSource};
use super::sighting::{Packed, Sighting, Sources};
use super::so_far::{Report, RoundNote, SoFar};
use super::stages::{CardClock, StageSink, Stages};
use super::summary::Summary;
use super::text::{Screen, Voice, is_strangers};
use super::writer::{Entry, Notice, Products, Rings, Shared, Speaker, Writer};
use crate::clock::{monotonic_now, realtime_now};
use crate::path::Description;
use crate::session::Event;
use rtrb::{Producer, RingBuffer};
use std::path::Path;
use std::sync::atomic::Ordering;
use std::sync::{Arc, Mutex};
use std::thread::{self, JoinHandle};
use std::time::Duration;

/// Sightings between hot loop and writer: 131 ms of them at a million a second, 5 MiB.
const SIGHTINGS: usize = 1 << 17;
/// Events between hot loop and writer.
const NOTICES: usize = 256;
/// Statistics so far between hot loop and writer, who looks some dozen times a second.
const REPORTS: usize = 4;
/// How long a log that takes nothing is waited for.
const PATIENCE: Duration = Duration::from_secs(5);
/// How often it is looked whether the writer is done.
const LOOK: Duration = Duration::from_micros(200);

/// What one file got.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Written {
    /// Rows that the file took.
    pub rows_written: u64,
    /// Rows that it did not get: the ring was full, or the disk refused them.
    pub rows_lost: u64,
    /// The first thing that went wrong with the file.
    pub error: Option<String>,
}

impl Written {
    /// Whether every row is in the file.
    pub fn is_whole(&self) -> bool {
        self.rows_lost == 0 && self.error.is_none()
    }

    fn since(&self, earlier: &Self) -> Self {
        Self {
            rows_written: self.rows_written.saturating_sub(earlier.rows_written),
            rows_lost: self.rows_lost.saturating_sub(earlier.rows_lost),
            error: self.error.clone(),
        }
    }
}

/// What became of everything that was handed over.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Finished {
    /// What the log got; `None` without one.
    pub log: Option<Written>,
    /// What the log of stages got; `None` without one.
    pub stage_log: Option<Written>,
    /// What the stages of the newest session took; `None` where the writer could not be waited for.
    pub stages: Option<Stages>,
    /// Sightings with more than one stamp that the ring had no room for: they are not in `stages`.
    pub stages_left_out: u64,
}

impl Finished {
    /// What came since `earlier`, for the statistics of one of several sessions. An error stays.
    #[must_use]
    pub fn since(&self, earlier: &Self) -> Self {
        let since = |later: &Option<Written>, earlier: &Option<Written>| {
            Some(later.as_ref()?.since(earlier.as_ref().unwrap_or(&Written::default())))
        };
        Self {
            log: since(&self.log, &earlier.log),
            stage_log: since(&self.stage_log, &earlier.stage_log),
            stages: self.stages.clone(),
            stages_left_out: self.stages_left_out.saturating_sub(earlier.stages_left_out),
        }
    }

    /// Whether every row of every file is there.
    pub fn is_whole(&self) -> bool {
        [&self.log, &self.stage_log].into_iter().flatten().all(Written::is_whole)
    }
}

/// What a [`Recorder`] is to write, and what it must know for it.
#[derive(Clone)]
pub struct RecorderConfig<'a> {
    /// The log of `--log`.
    pub log: Option<&'a Path>,
    /// The log of `--log-stages`. Another file than `log` ([`super::check_logs`]).
    pub log_stages: Option<&'a Path>,
    /// Who speaks.
    pub voice: Voice,
    /// Whose stamps the rows of `log` have.
    pub sources: Sources,
    /// The card's clock; `None` where no stamp is the card's.
    pub card: Option<Arc<dyn CardClock>>,
    /// Asked while a FIFO waits for its reader: whether the user wants an end.
    pub is_stopped: &'a dyn Fn() -> bool,
    /// Who watches.
    pub watchers: Watchers,
}

/// Who watches what is recorded, while it is.
#[derive(Clone, Default)]
pub struct Watchers {
    /// Is told of each stage of each packet.
    pub stages: Option<Arc<dyn StageSink>>,
    /// Makes room for what is said.
    pub screen: Option<Arc<dyn Screen>>,
}

impl<'a> RecorderConfig<'a> {
    /// Only the process's stamps, and no log of stages.
    pub const fn application(log: Option<&'a Path>, voice: Voice) -> Self {
        let watchers = Watchers { stages: None, screen: None };
        let is_stopped = &|| false;
        Self { log, log_stages: None, voice, sources: Sources::application(), card: None, is_stopped, watchers }
    }
}

/// One file as the hot side sees it.
#[derive(Debug)]
struct Handed {
    counts: Arc<FileCounts>,
    pushed: u64,
    lost: u64,
    /// Rows that counted as lost when the writer was waited for no longer.
    given_up: GivenUp,
}

/// Rows that were told of as lost while the writer still had them. They stay lost, though it may write them yet: else those that the next
/// session loses would be made up for by them.
#[derive(Debug, Clone, Copy, Default)]
struct GivenUp {
    /// How many rows the writer was done with then, and how many of them were in the file.
    done: u64,
    written: u64,
    /// How many it had been handed.
    pushed: u64,
    /// How many of those given up before are in the file all the same.
    before: u64,
}

impl GivenUp {
    /// How many of them, and of those before, are in the file, where the writer is done with so many rows and has written so many. It takes
    /// rows in their order, and after one that is refused none is written.
    fn late(&self, done: u64, written: u64) -> u64 {
        self.before + done.min(self.pushed).saturating_sub(self.done).min(written - self.written)
    }
}

impl Handed {
    fn new(counts: Arc<FileCounts>) -> Self {
        Self { counts, pushed: 0, lost: 0, given_up: GivenUp::default() }
    }

    /// Of the rows that were given up, how many are in the file all the same, and how many count as lost with that.
    fn given_up(&self) -> [u64; 2] {
        let rows_written = self.counts.rows_written.load(Ordering::Acquire);
        let done = rows_written + self.counts.rows_lost.load(Ordering::Acquire);
        let late = self.given_up.late(done, rows_written);
        [late, late + self.given_up.pushed.saturating_sub(done.max(self.given_up.done))]
    }

    fn lost(&self) -> u64 {
        self.lost + self.counts.rows_lost.load(Ordering::Relaxed)
    }

    /// `stalled`: how long it was waited for a writer that is waited for no longer. What it still has is given up.
    fn written(&mut self, stalled: Option<Duration>) -> Written {
        let rows_written = self.counts.rows_written.load(Ordering::Acquire);
        let refused = self.counts.rows_lost.load(Ordering::Acquire);
        let done = rows_written + refused;
        let pending = self.pushed.saturating_sub(done);
        if pending > 0 && done < self.given_up.pushed {
            self.given_up.pushed = self.pushed;
        } else if pending > 0 {
            let before = self.given_up.late(done, rows_written);
            self.given_up = GivenUp { done, written: rows_written, pushed: self.pushed, before };
        }
        let late = self.given_up.late(done, rows_written);
        let mut error = lock(&self.counts.error).clone();
        if let Some(patience) = stalled
            && pending > 0
            && error.is_none()
        {
            error = Some(format!("the log took nothing for {} s", patience.as_secs_f32()));
        }
        Written { rows_written: rows_written - late, rows_lost: self.lost + refused + pending + late, error }
    }
}

/// Takes sightings and events from the hot loop and sees to it that they are written.
///
/// The thread that writes also speaks: a terminal that was stopped (Ctrl-S) holds it up once there is something to say,
/// and what the ring cannot hold meanwhile is counted as lost.
///
/// The order per session: [`Recorder::begin_session`]; sightings and [`Recorder::notice`] as they come;
/// [`Recorder::sync`], the statistics, [`Recorder::end_session`]. At the very end [`Recorder::finish`]; one that is
/// dropped writes what it has too.
#[derive(Debug)]
pub struct Recorder {
    sightings: Producer<Entry>,
    notices: Producer<Notice>,
    reports: Producer<Report>,
    shared: Arc<Shared>,
    meta: Option<Arc<Mutex<MetaFile>>>,
    writer: Option<JoinHandle<()>>,
    sources: Sources,
    /// `None` without such a file.
    log: Option<Handed>,
    stage_log: Option<Handed>,
    stages_left_out: u64,
    sessions: u64,
    /// The ring had no room for the beginning of the session.
    session_due: bool,
    patience: Duration,
    /// The last wait was given up.
    stalled: bool,
}

/// What differs in tests.
pub(super) struct Tuning {
    pub(super) sightings: usize,
    pub(super) patience: Duration,
    pub(super) speaker: Speaker,
}

impl Recorder {
    /// Opens the logs for appending, writes the header lines as every start of nanoprobe does, and starts the thread that
    /// writes. Without a log the thread is there for what is said and for the statistics of stages.
    ///
    /// A FIFO waits for its reader here, until `is_stopped`. The thread inherits this thread's CPU affinity and scheduling: start it before
    /// the hot loop is pinned or given a real-time priority.
    ///
    /// # Errors
    /// [`RecordError`] where a log cannot be opened or written to, or the thread cannot be had.
    pub fn start(config: RecorderConfig<'_>) -> Result<Self, RecordError> {
        let RecorderConfig { log, log_stages, voice, sources, card, is_stopped, watchers } = config;
        let mut speaker = Speaker::standard(voice, watchers.screen.as_ref());
        let mut meta = None;
        if let Some(path) = log {
            // Before the header is written: it counts the sessions that are there.
            let (file, remark) = MetaFile::open(path, log_stages, voice.role);
            meta = file;
            if let Some(remark) = remark {
                speaker.warn(&remark);
            }
        }
        let open = |kind, path: Option<&Path>| -> Result<Option<LogFile>, RecordError> {
            let Some(path) = path else { return Ok(None) };
            let (file, end) = open(kind, path, is_stopped)?;
            Ok(Some(LogFile::new(kind, Box::new(file) as Box<dyn Sink>, end)))
        };
        let log = open(LogKind::Main, log)?;
        let stage_log = open(LogKind::Stages, log_stages)?;
        let tuning = Tuning { sightings: SIGHTINGS, patience: PATIENCE, speaker };
        Self::with(Products { log, stage_log, sources, card, stage_sink: watchers.stages }, meta, tuning)
    }

    pub(super) fn with(products: Products, meta: Option<MetaFile>, tuning: Tuning) -> Result<Self, RecordError> {
        let (mut sightings, mut source) = RingBuffer::new(tuning.sightings);
        // Touches every page of the ring, so that the hot loop meets no page fault.
        while sightings.push(Entry::Session).is_ok() {}
        while source.pop().is_ok() {}
        let (notices, notice_source) = RingBuffer::new(NOTICES);
        let (reports, report_source) = RingBuffer::new(REPORTS);
        let shared = Arc::new(Shared::default());
        let meta = meta.map(|meta| Arc::new(Mutex::new(meta)));
        let [log, stage_log] = products.counts().map(|counts| counts.map(Handed::new));
        let sources = products.sources;
        let rings = Rings { entries: source, notices: notice_source, reports: report_source };
        let writer = Writer::new(rings, products, Arc::clone(&shared), meta.clone(), tuning.speaker);
        let writer =
            thread::Builder::new().name("record".into()).spawn(|| writer.run()).map_err(RecordError::Thread)?;
        Ok(Self {
            sightings,
            notices,
            reports,
            shared,
            meta,
            writer: Some(writer),
            sources,
            log,
            stage_log,
            stages_left_out: 0,
            sessions: 0,
            session_due: false,
            patience: tuning.patience,
            stalled: false,
        })
    }

    /// Whose stamps the rows of the log have.
    pub const fn sources(&self) -> Sources {
        self.sources
    }

    /// Hands over what was seen of a ping or pong at one point, with all its stamps. Where the ring is full, the rows that
    /// it would have made count as lost; a row of the log without its stamp is none.
    #[inline]
    pub fn seen(&mut self, sighting: &Sighting) {
        let log = self.log.as_mut().filter(|_| sighting.stamp(self.sources.of(sighting.point)).is_some());
        let stage_log = self.stage_log.as_mut();
        let stages = sighting.has_stages();
        if log.is_none() && stage_log.is_none() && !stages {
            return;
        }
        if self.session_due {
            self.session_due = self.sightings.push(Entry::Session).is_err();
        }
        // A row must not stand before the header of its session.
        if self.session_due || self.sightings.push(Entry::Seen(Packed::new(sighting))).is_err() {
            log.into_iter().chain(stage_log).for_each(|file| file.lost += 1);
            self.stages_left_out += u64::from(stages);
        } else {
            log.into_iter().chain(stage_log).for_each(|file| file.pushed += 1);
        }
    }

    /// Where what was handed over and not yet taken fills half the ring: a number that changes whenever the writer gets on. For the
    /// hot loop.
    #[inline]
    pub fn crowded(&self) -> Option<u64> {
        (self.sightings.slots() < self.sightings.buffer().capacity() / 2).then(|| self.progress())
    }

    /// A session begins: writes the header line before the second and each later one, and begins its statistics. Before
    /// its [`Event::Connected`].
    pub fn begin_session(&mut self) {
        self.sessions += 1;
        if self.sessions > 1 {
            self.session_due = self.sightings.push(Entry::Session).is_err();
        }
    }

    /// Something to be said to the user; the writer puts it into words. [`Event::Connected`] begins a session in the
    /// meta file too, where [`Recorder::describe`] came before.
    pub fn notice(&mut self, event: Event) {
        // What strangers can cause without end leaves room for what the session itself has to say.
        let room = !is_strangers(&event) || self.notices.slots() > NOTICES / 4;
        if !room || self.notices.push(Notice { event, at: realtime_now() }).is_err() {
            self.shared.notices_missed.fetch_add(1, Ordering::Relaxed);
        }
    }

    /// Whether [`Recorder::report`] has room. The writer makes some.
    pub fn can_report(&mut self) -> bool {
        if self.session_due {
            self.session_due = self.sightings.push(Entry::Session).is_err();
        }
        !self.session_due && self.sightings.slots() > 0 && self.reports.slots() > 0
    }

    /// Statistics so far, to be said by the writer with the stages and rows of everything handed over before. Only where
    /// [`Recorder::can_report`].
    pub fn report(&mut self, so_far: SoFar) {
        let of_files =
            |count: fn(&Handed) -> u64| [&self.log, &self.stage_log].map(|file| file.as_ref().map_or(0, count));
        let (pushed, lost) = (of_files(|file| file.pushed), of_files(|file| file.lost));
        let given_up = [&self.log, &self.stage_log].map(|file| file.as_ref().map_or([0; 2], Handed::given_up));
        if self.reports.push(Report { so_far, pushed, lost, given_up, left_out: self.stages_left_out }).is_ok() {
            let _ = self.sightings.push(Entry::Report);
        }
    }

    /// Says for the meta file and for statistics so far what does not change from session to session. Not for the hot loop.
    pub fn describe(&mut self, facts: Facts) {
        *lock(&self.shared.description) = Some(facts.description.clone());
        if let Some(meta) = &self.meta {
            lock(meta).describe(facts);
        }
    }

    /// Says the same of the session that begins next, where what serves it or what takes its stamps is another than the
    /// facts had it. Not for the hot loop.
    pub fn describe_path(&mut self, description: &Description, [sent, received]: &[StampSource; 2]) {
        if let Some(meta) = &self.meta {
            lock(meta).describe_path(description, sent, received);
        }
    }

    /// Says for statistics so far that the session that begins next is one of several, and how the others went. Not for the hot
    /// loop.
    pub fn describe_round(&mut self, note: RoundNote) {
        *lock(&self.shared.round) = Some(note);
    }

    /// Rows of all files lost so far: the ring was full, or the disk refused them.
    pub fn lost_rows(&self) -> u64 {
        [&self.log, &self.stage_log].into_iter().flatten().map(Handed::lost).sum()
    }

    /// Waits until everything handed over is in its file and in the statistics, and says what that came to since the
    /// start.
    ///
    /// Takes some milliseconds; where a file takes nothing for 5 s, what it did not take counts as lost.
    pub fn sync(&mut self) -> Finished {
        if self.session_due {
            // A session whose beginning the ring had no room for is not to get the statistics of the one before it.
            self.await_writer();
            self.session_due = self.sightings.push(Entry::Session).is_err();
        }
        self.await_writer();
        self.counts()
    }

    fn await_writer(&mut self) {
        *lock(&self.shared.stages) = None;
        let ticket = self.shared.sync_asked.fetch_add(1, Ordering::AcqRel) + 1;
        self.wait(|shared, _| shared.sync_done.load(Ordering::Acquire) >= ticket);
    }

    /// The session's statistics are out: the meta file gets them, and what is known of the clocks. After
    /// [`Recorder::sync`].
    ///
    /// # Errors
    /// A sentence on the meta file that could not be written, and why. The log itself is not touched by that.
    pub fn end_session(&mut self, summary: &Summary, clocks: &ClockRecord) -> Result<(), String> {
        let (Some(meta), Some(log)) = (&self.meta, &self.log) else { return Ok(()) };
        // The writer may hold it in a write that does not come back.
        if self.stalled {
            return Ok(());
        }
        lock(meta).end(summary, clocks, realtime_now(), log.counts.end.load(Ordering::Acquire))
    }

    /// Writes everything that is left, ends the thread, and says what the logs got.
    pub fn finish(mut self) -> Finished {
        self.stop();
        self.counts()
    }

    fn stop(&mut self) {
        if self.writer.is_none() {
            return;
        }
        self.shared.stop.store(true, Ordering::Release);
        self.wait(|_, writer| writer.is_finished());
        if let Some(writer) = self.writer.take_if(|writer| writer.is_finished()) {
            // What a panicking writer left is in the counts; its message went to stderr.
            let _ = writer.join();
        }
        // A writer that hangs in the kernel is left behind.
        self.writer = None;
    }

    /// Waits until `done`, as long as the writer makes progress.
    fn wait(&mut self, done: impl Fn(&Shared, &JoinHandle<()>) -> bool) {
        let Some(writer) = &self.writer else { return };
        writer.thread().unpark();
        let mut progress = self.progress();
        let mut since = monotonic_now();
        self.stalled = false;
        while !done(&self.shared, writer) && !writer.is_finished() {
            thread::sleep(LOOK);
            let now = monotonic_now();
            if std::mem::replace(&mut progress, self.progress()) != progress {
                since = now;
            } else if now.duration_since(since) >= self.patience {
                self.stalled = true;
                return;
            }
        }
    }

    /// A number that changes whenever the writer gets on.
    fn progress(&self) -> u64 {
        let files = [&self.log, &self.stage_log].into_iter().flatten();
        self.shared.taken.load(Ordering::Relaxed) + files.map(|file| file.counts.progress()).sum::<u64>()
    }

    fn counts(&mut self) -> Finished {
        let stalled = self.stalled.then_some(self.patience);
        let written = |file: &mut Option<Handed>| file.as_mut().map(|file| file.written(stalled));
        let current = !self.stalled && !self.session_due;
        Finished {
            log: written(&mut self.log),
            stage_log: written(&mut self.stage_log),
            stages: lock(&self.shared.stages).clone().filter(|_| current),
            stages_left_out: self.stages_left_out,
        }
    }
}

impl Drop for Recorder {
    fn drop(&mut self) {
        self.stop();
    }
}

/// A poisoned lock only means that the writer panicked, which it does between whole values.
fn lock<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(std::sync::PoisonError::into_inner)
}

#[cfg(test)]
mod tests;
