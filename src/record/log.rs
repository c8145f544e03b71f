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
}

impl Handed {
    fn new(counts: Arc<FileCounts>) -> Self {
        Self { counts, pushed: 0, lost: 0 }
    }

    fn lost(&self) -> u64 {
        self.lost + self.counts.rows_lost.load(Ordering::Relaxed)
    }

    /// `stalled`: how long it was waited for a writer that is waited for no longer.
    fn written(&self, stalled: Option<Duration>) -> Written {
        let rows_written = self.counts.rows_written.load(Ordering::Acquire);
        let refused = self.counts.rows_lost.load(Ordering::Acquire);
        // Rows that a writer still has when it is waited for no longer will not be read by anybody.
        let pending = self.pushed.saturating_sub(rows_written + refused);
        let mut error = lock(&self.counts.error).clone();
        if let Some(patience) = stalled
            && pending > 0
            && error.is_none()
        {
            error = Some(format!("the log took nothing for {} s", patience.as_secs_f32()));
        }
        Written { rows_written, rows_lost: self.lost + refused + pending, error }
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
        if self.reports.push(Report { so_far, pushed, lost, left_out: self.stages_left_out }).is_ok() {
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

    fn counts(&self) -> Finished {
        let stalled = self.stalled.then_some(self.patience);
        let written = |file: &Option<Handed>| file.as_ref().map(|file| file.written(stalled));
        let current = !self.stalled && !self.session_due;
        Finished {
            log: written(&self.log),
            stage_log: written(&self.stage_log),
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
mod tests {
    use super::super::Role;
    use super::super::row::{HEADER, STAGES_HEADER};
    use super::super::text::Narrator;
    use super::super::{SessionSoFar, StampCounts, TripCounts, TripTotals};
    use super::*;
    use crate::clock::{Phc, Realtime, Source, Time};
    use crate::session::{End, Settings};
    use crate::wire::Point;
    use std::fs::File;
    use std::io::{self, Write};
    use std::net::{Ipv4Addr, SocketAddrV4};
    use std::sync::Condvar;

    const VOICE: Voice = Voice { role: Role::Server, json: false };
    const PEER: SocketAddrV4 = SocketAddrV4::new(Ipv4Addr::new(10, 66, 0, 1), 7);

    /// A file in memory that can be blocked and can be full.
    #[derive(Clone, Default)]
    struct Disk(Arc<(Mutex<DiskState>, Condvar)>);

    #[derive(Default)]
    struct DiskState {
        content: Vec<u8>,
        blocked: bool,
        /// Somebody waits for it to be free.
        awaited: bool,
        /// The most bytes that it holds.
        room: Option<usize>,
    }

    impl Disk {
        fn change(&self, change: impl FnOnce(&mut DiskState)) {
            change(&mut lock(&self.0.0));
            self.0.1.notify_all();
        }

        fn content(&self) -> String {
            String::from_utf8(lock(&self.0.0).content.clone()).unwrap()
        }
    }

    impl Write for Disk {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            self.change(|state| state.awaited = true);
            let mut state = self.0.1.wait_while(lock(&self.0.0), |state| state.blocked).unwrap();
            let room = state.room.map_or(bytes.len(), |room| room - state.content.len()).min(bytes.len());
            if room == 0 {
                return Err(io::Error::from_raw_os_error(libc::ENOSPC));
            }
            state.content.extend_from_slice(&bytes[..room]);
            Ok(room)
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    impl Sink for Disk {
        fn cut(&mut self, whole: u64, length: u64) -> bool {
            let mut state = lock(&self.0.0);
            assert_eq!(state.content.len() as u64, length);
            state.content.truncate(whole as usize);
            true
        }
    }

    fn start(disk: &Disk, rows: usize, patience: Duration) -> (Recorder, Disk) {
        let said = Disk::default();
        let (out, err) = (Box::new(said.clone()), Box::new(said.clone()));
        let speaker = Speaker { narrator: Narrator::new(VOICE), out, err };
        let products = Products {
            log: Some(main(disk)),
            stage_log: None,
            sources: Sources::application(),
            card: None,
            stage_sink: None,
        };
        (Recorder::with(products, None, Tuning { sightings: rows, patience, speaker }).unwrap(), said)
    }

    fn main(disk: &Disk) -> LogFile {
        LogFile::new(LogKind::Main, Box::new(disk.clone()), 0)
    }

    /// A recorder that writes both files, the rows of `log` from `sources`.
    fn start_both(log: &Disk, stages: &Disk, sources: Sources) -> (Recorder, Disk) {
        let said = Disk::default();
        let (out, err) = (Box::new(said.clone()), Box::new(said.clone()));
        let speaker = Speaker { narrator: Narrator::new(VOICE), out, err };
        let stage_log = Some(LogFile::new(LogKind::Stages, Box::new(stages.clone()), 0));
        let card = Some(Arc::new(Card) as Arc<dyn CardClock>);
        let products = Products { log: Some(main(log)), stage_log, sources, card, stage_sink: None };
        (Recorder::with(products, None, Tuning { sightings: 64, patience: PATIENCE, speaker }).unwrap(), said)
    }

    /// A card's clock 1000 ns ahead of the system's.
    struct Card;

    impl CardClock for Card {
        fn to_system(&self, stamp: Time<Phc>) -> Option<(Time<Realtime>, u64)> {
            Some((Time::from_nanos(stamp.as_nanos().checked_sub(1000)?), 8))
        }

        fn name(&self) -> String {
            "ptp0".into()
        }
    }

    fn row(sequence: u64) -> Sighting {
        Sighting::of_test(sequence, Point::T0, 5)
    }

    fn counts(rows_written: u64, rows_lost: u64) -> Option<Written> {
        Some(Written { rows_written, rows_lost, error: None })
    }

    fn sequences(log: &str) -> Vec<u64> {
        log.lines().map(|line| line.split_once(',').unwrap().0.parse().unwrap()).collect()
    }

    #[test]
    fn a_ring_entry_is_five_words() {
        assert_eq!(size_of::<Entry>(), 40);
    }

    #[test]
    fn rows_that_a_blocked_disk_leaves_no_room_for_are_counted_and_the_others_stay_in_order() {
        let disk = Disk::default();
        disk.change(|disk| disk.blocked = true);
        let (mut recorder, _) = start(&disk, 8, PATIENCE);
        let mut sent = 0;
        while recorder.lost_rows() < 100 {
            sent += 1;
            recorder.seen(&row(sent));
        }
        disk.change(|disk| disk.blocked = false);
        let finished = recorder.finish().log.unwrap();
        let written = sequences(&disk.content());
        assert_eq!((finished.rows_written, finished.error), (written.len() as u64, None));
        assert_eq!(finished.rows_written + finished.rows_lost, sent);
        assert!(written.is_sorted() && written[..8] == [1, 2, 3, 4, 5, 6, 7, 8], "{written:?}");
    }

    #[test]
    fn a_full_disk_keeps_whole_rows_only_and_loses_all_that_follow() {
        let disk = Disk::default();
        let line = "1,t0,0.000000005,44\n".len();
        disk.change(|disk| disk.room = Some(3 * line + 7));
        let (mut recorder, said) = start(&disk, 64, PATIENCE);
        (1..=9).for_each(|sequence| recorder.seen(&row(sequence)));
        let first = recorder.sync().log.unwrap();
        assert_eq!((first.rows_written, first.rows_lost), (3, 6));
        // Room again: still nothing, for a gap in the middle of a log could not be seen.
        disk.change(|disk| disk.room = None);
        recorder.seen(&row(10));
        assert_eq!(sequences(&disk.content()), [1, 2, 3]);
        let finished = recorder.finish().log.unwrap();
        assert_eq!((finished.rows_written, finished.rows_lost), (3, 7));
        assert!(finished.error.as_ref().unwrap().contains("No space left on device"), "{finished:?}");
        assert_eq!(finished.since(&first), Written { rows_written: 0, rows_lost: 1, ..finished.clone() });
        assert_eq!(said.content().matches("Cannot write to the log").count(), 1);
    }

    #[test]
    fn a_disk_that_takes_nothing_is_not_waited_for_without_end() {
        let disk = Disk::default();
        disk.change(|disk| disk.blocked = true);
        let (mut recorder, _) = start(&disk, 64, Duration::from_millis(50));
        (1..=5).for_each(|sequence| recorder.seen(&row(sequence)));
        let finished = recorder.finish().log.unwrap();
        assert_eq!((finished.rows_written, finished.rows_lost), (0, 5));
        assert!(finished.error.unwrap().contains("took nothing"));
        disk.change(|disk| disk.blocked = false);
    }

    #[test]
    fn the_header_of_a_later_session_stands_before_its_rows_even_where_the_ring_was_full() {
        let disk = Disk::default();
        disk.change(|disk| disk.blocked = true);
        let (mut recorder, _) = start(&disk, 2, PATIENCE);
        recorder.begin_session();
        recorder.seen(&row(1));
        while !lock(&disk.0.0).awaited {
            thread::sleep(LOOK);
        }
        // The writer hangs in its first write: two more rows fill the ring.
        recorder.seen(&row(2));
        recorder.seen(&row(3));
        recorder.begin_session();
        recorder.seen(&row(1_000_000));
        assert_eq!(recorder.lost_rows(), 1);
        disk.change(|disk| disk.blocked = false);
        recorder.sync();
        recorder.seen(&row(1_000_001));
        let finished = recorder.finish().log.unwrap();
        assert_eq!((finished.rows_written, finished.rows_lost), (4, 1));
        let content = disk.content();
        let (first, second) = content.split_once(HEADER).unwrap();
        assert_eq!(sequences(first), [1, 2, 3]);
        assert_eq!(sequences(second), [1_000_001]);
    }

    #[test]
    fn a_row_reaches_the_file_without_being_asked_for() {
        let disk = Disk::default();
        let (mut recorder, _) = start(&disk, 64, PATIENCE);
        recorder.seen(&row(1));
        let begun = monotonic_now();
        while disk.content().is_empty() {
            assert!(monotonic_now().duration_since(begun) < Duration::from_secs(20), "it stays in memory");
            thread::sleep(LOOK);
        }
        assert_eq!(disk.content(), "1,t0,0.000000005,44\n");
    }

    #[test]
    fn a_dropped_recorder_writes_what_it_has() {
        let disk = Disk::default();
        let (mut recorder, _) = start(&disk, 64, PATIENCE);
        recorder.seen(&row(1));
        drop(recorder);
        assert_eq!(sequences(&disk.content()), [1]);
    }

    #[test]
    fn every_sighting_makes_a_row_of_stages_and_one_with_the_chosen_stamp_a_row_of_the_log() {
        let (log, stages) = (Disk::default(), Disk::default());
        let sources = Sources { sent: Source::Hardware, received: Source::Software };
        let (mut recorder, _) = start_both(&log, &stages, sources);
        recorder.begin_session();
        let hardware = Some(Time::from_nanos(2_000_000_000));
        recorder.seen(&row(1));
        recorder.seen(&Sighting { hardware, ..row(2) });
        let received = Sighting { point: Point::T3, queue: Some(4), ..row(2) };
        recorder.seen(&Sighting { hardware, ..received });
        recorder.seen(&Sighting { software: Some(Time::from_nanos(0)), ..received });
        let finished = recorder.finish();
        assert_eq!(log.content(), "2,t0,2.000000000,44\n2,t3,0.000000000,44\n");
        let rows = "1,t0,44,,5,,,\n2,t0,44,,5,,2000000000,ptp0\n2,t3,44,4,5,,2000000000,ptp0\n2,t3,44,4,5,0,,\n";
        assert_eq!(stages.content(), rows);
        assert_eq!((finished.log, finished.stage_log), (counts(2, 0), counts(4, 0)));
    }

    #[test]
    fn the_two_files_fail_apart() {
        for broken in [LogKind::Main, LogKind::Stages] {
            let (log, stages) = (Disk::default(), Disk::default());
            let full = if broken == LogKind::Main { &log } else { &stages };
            full.change(|disk| disk.room = Some(50));
            let (mut recorder, said) = start_both(&log, &stages, Sources::application());
            (1..=9).for_each(|sequence| recorder.seen(&row(sequence)));
            let finished = recorder.sync();
            assert_eq!(recorder.lost_rows(), if broken == LogKind::Main { 7 } else { 6 });
            let (whole, torn) = match broken {
                LogKind::Main => (finished.stage_log.clone(), finished.log.clone()),
                LogKind::Stages => (finished.log.clone(), finished.stage_log.clone()),
            };
            assert_eq!(whole, counts(9, 0));
            let torn = torn.unwrap();
            assert_eq!(torn.rows_written + torn.rows_lost, 9);
            assert!(torn.error.unwrap().contains("No space left") && !finished.is_whole());
            assert!(full.content().ends_with('\n'), "a torn row is cut back");
            assert_eq!(sequences(&full.content()).len() as u64, torn.rows_written);
            assert_eq!(said.content().matches("Cannot write to the log").count(), 1);
            assert_eq!(said.content().contains("Cannot write to the log of stages"), broken == LogKind::Stages);
        }
    }

    #[test]
    fn each_session_has_its_own_stages_complete_at_its_sync() {
        let (log, stages) = (Disk::default(), Disk::default());
        let (mut recorder, _) = start_both(&log, &stages, Sources::application());
        let seen = |sequence, software, hardware: Option<u64>| Sighting {
            software: Some(Time::from_nanos(software)),
            hardware: hardware.map(Time::from_nanos),
            ..row(sequence)
        };
        recorder.begin_session();
        (1..=20).for_each(|sequence| recorder.seen(&seen(sequence, 9, Some(1008))));
        let first = recorder.sync();
        let found = |finished: &Finished| -> Vec<_> {
            let stages = finished.stages.clone().unwrap();
            stages.times.iter().map(|(stage, t)| (stage.as_str(), t.count, t.p50, t.uncertainty_ns)).collect()
        };
        assert_eq!(found(&first), [("app->sw", 20, 4, None), ("sw->hw", 20, -1, Some(8)), ("app->hw", 20, 3, Some(8))]);
        // What comes behind the end of a session is not the next one's.
        recorder.seen(&seen(21, 100, None));
        recorder.begin_session();
        recorder.seen(&seen(1, 3, None));
        let second = recorder.sync();
        assert_eq!(found(&second), [("app->sw", 1, -2, None)]);
        assert_eq!(second.since(&first).stage_log, counts(2, 0));
        recorder.begin_session();
        assert_eq!(found(&recorder.sync()), []);
        let content = stages.content();
        assert_eq!(content.matches(STAGES_HEADER).count(), 2);
        assert_eq!(log.content().matches(HEADER).count(), 2);
        assert!(content.ends_with(&format!("{STAGES_HEADER}1,t0,44,,5,3,,\n{STAGES_HEADER}")), "{content}");
    }

    #[test]
    fn a_session_whose_beginning_found_no_room_does_not_get_the_stages_of_the_one_before() {
        let disk = Disk::default();
        let (mut recorder, _) = start(&disk, 2, PATIENCE);
        let staged = |sequence| Sighting { software: Some(Time::from_nanos(7)), ..row(sequence) };
        recorder.begin_session();
        recorder.seen(&staged(1));
        assert_eq!(recorder.sync().stages.unwrap().times[0].1.count, 1);
        disk.change(|disk| (disk.blocked, disk.awaited) = (true, false));
        recorder.seen(&staged(2));
        while !lock(&disk.0.0).awaited {
            thread::sleep(LOOK);
        }
        recorder.seen(&staged(3));
        recorder.seen(&staged(4));
        recorder.begin_session();
        recorder.seen(&staged(1_000_000));
        disk.change(|disk| disk.blocked = false);
        let finished = recorder.sync();
        assert_eq!(finished.stages, Some(Stages::default()));
        assert_eq!((finished.stages_left_out, finished.log), (1, counts(4, 1)));
        assert!(disk.content().ends_with(HEADER));
    }

    #[test]
    fn without_a_log_there_are_stages_all_the_same() {
        let voice = Voice { role: Role::Client, json: false };
        let config = RecorderConfig { card: Some(Arc::new(Card)), ..RecorderConfig::application(None, voice) };
        let mut recorder = Recorder::start(config).unwrap();
        recorder.begin_session();
        recorder.seen(&row(1));
        recorder.seen(&Sighting { hardware: Some(Time::from_nanos(1055)), ..row(2) });
        let finished = recorder.sync();
        assert_eq!((&finished.log, &finished.stage_log, finished.is_whole()), (&None, &None, true));
        let stages = finished.stages.unwrap();
        assert_eq!(
            stages.times.iter().map(|(stage, t)| (stage.as_str(), t.max)).collect::<Vec<_>>(),
            [("app->hw", 50)]
        );
    }

    #[test]
    fn statistics_so_far_are_of_what_was_handed_over_before_them() {
        use crate::path::Description;
        use crate::session::Totals;

        let (log, stages) = (Disk::default(), Disk::default());
        let (mut recorder, said) = start_both(&log, &stages, Sources::application());
        let description = Description {
            path: "kernel",
            xdp_mode: None,
            zero_copy: None,
            queues: Vec::new(),
            local: SocketAddrV4::new(Ipv4Addr::LOCALHOST, 1),
            hook_stamps_one_in: None,
        };
        *lock(&recorder.shared.description) = Some(description);
        let staged = |sequence| Sighting { software: Some(Time::from_nanos(7)), ..row(sequence) };
        recorder.begin_session();
        (1..=3).for_each(|sequence| recorder.seen(&staged(sequence)));
        assert!(recorder.can_report());
        recorder.report(Some(SessionSoFar {
            peer: PEER,
            settings: Settings::default(),
            totals: Totals { pings_sent: 9, pongs_expected: 9, measures_loss: true, ..Totals::default() },
            trips: TripTotals {
                counts: TripCounts { unique: 5, newest_answered: 7, ..TripCounts::default() },
                latency: None,
                in_band: None,
            },
            punctuality: None,
            stamps: StampCounts::default(),
            stamp_timeout: None,
            rows_before: [(1, 0), (0, 0)],
            left_out_before: 0,
        }));
        // What comes later is not in it, although the writer has it by then.
        (4..=9).for_each(|sequence| recorder.seen(&staged(sequence)));
        recorder.sync();
        let text = said.content();
        for line in [
            "--- so far ---",
            "app->sw      p50 0.002  p99 0.002  max 0.002 us, 3 samples",
            "lost         2 of 9 pings that asked for a pong got none",
            "outstanding  2 pings have no answer yet",
        ] {
            assert!(text.lines().any(|said| said == line), "{line}: {text}");
        }
        recorder.report(None);
        recorder.sync();
        assert!(said.content().ends_with("No session stands: there are no statistics yet.\n"));
    }

    #[test]
    fn what_is_said_keeps_its_order_and_a_flood_is_counted() {
        let (mut recorder, said) = start(&Disk::default(), 64, PATIENCE);
        recorder.notice(Event::Connected { peer: PEER, settings: Settings::default() });
        recorder.sync();
        for _ in 0..1000 {
            recorder.notice(Event::Refused { from: PEER });
        }
        recorder.sync();
        recorder.notice(Event::Disconnected);
        recorder.notice(Event::Finished(End::PeerStopped));
        recorder.finish();
        let text = said.content();
        let lines: Vec<&str> = text.lines().collect();
        assert_eq!(lines[0], "Connected to client 10.66.0.1:7");
        let refused = lines.iter().filter(|line| line.contains("drop new connection request")).count();
        let unsaid: usize = lines[lines.len() - 3].split_once(' ').unwrap().0.parse().unwrap();
        assert_eq!(refused + unsaid, 1000);
        assert_eq!(lines[lines.len() - 2], "Client disconnected.");
        assert!(lines[lines.len() - 1].contains("stopped by its user"));
    }

    #[test]
    fn a_flood_from_strangers_leaves_room_for_the_session() {
        let (mut recorder, said) = start(&Disk::default(), 64, PATIENCE);
        for _ in 0..10 * NOTICES {
            recorder.notice(Event::Ignored { from: PEER, kind: crate::wire::Kind::Ping });
        }
        recorder.notice(Event::Disconnected);
        recorder.finish();
        assert!(said.content().contains("Client disconnected.\n"));
    }

    #[test]
    fn a_pipe_gets_every_row_and_no_meta_file() {
        let folder = tempfile::tempdir().unwrap();
        let pipe = folder.path().join("pipe");
        nix::unistd::mkfifo(&pipe, nix::sys::stat::Mode::S_IRWXU).unwrap();
        let reader = thread::spawn({
            let pipe = pipe.clone();
            move || std::fs::read_to_string(pipe).unwrap()
        });
        let mut recorder = Recorder::start(RecorderConfig::application(Some(&pipe), VOICE)).unwrap();
        (1..=100_000).for_each(|sequence| recorder.seen(&row(sequence)));
        let finished = recorder.finish().log.unwrap();
        let text = reader.join().unwrap();
        assert_eq!(finished.rows_written + finished.rows_lost, 100_000);
        assert_eq!(sequences(text.strip_prefix(HEADER).unwrap()).len() as u64, finished.rows_written);
        assert!(!folder.path().join("pipe.meta.json").exists());
    }

    #[test]
    fn a_pipe_whose_reader_went_away_loses_rows_and_says_so() {
        let folder = tempfile::tempdir().unwrap();
        let pipe = folder.path().join("pipe");
        nix::unistd::mkfifo(&pipe, nix::sys::stat::Mode::S_IRWXU).unwrap();
        let reader = thread::spawn({
            let pipe = pipe.clone();
            move || File::open(pipe).map(drop).unwrap()
        });
        let opened = Recorder::start(RecorderConfig::application(Some(&pipe), VOICE));
        reader.join().unwrap();
        // The reader may be gone before the header is written or after it.
        let error = match opened {
            Err(error) => error.to_string(),
            Ok(mut recorder) => {
                recorder.seen(&row(1));
                let finished = recorder.finish().log.unwrap();
                assert_eq!((finished.rows_written, finished.rows_lost), (0, 1));
                finished.error.unwrap()
            }
        };
        assert!(error.contains("Broken pipe"), "{error}");
    }
}
