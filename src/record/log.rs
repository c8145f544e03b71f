//! The hot side of the log: rows and events go into rings, and a thread of its own does the rest.
//!
//! Handing over a row or an event never blocks, allocates, formats or enters the kernel. What the ring has no room for
//! is counted as lost. Everything else here is for the times between sessions.

use super::meta::{Facts, MetaFile};
use super::row::{HEADER, Row};
use super::sighting::Sighting;
use super::summary::Summary;
use super::text::{Voice, is_strangers};
use super::writer::{Entry, Notice, Shared, Sink, Speaker, Writer};
use crate::clock::{monotonic_now, realtime_now};
use crate::session::Event;
use rtrb::{Producer, RingBuffer};
use std::fs::{File, OpenOptions};
use std::io::{self, Read, Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};
use std::sync::atomic::Ordering;
use std::sync::{Arc, Mutex};
use std::thread::{self, JoinHandle};
use std::time::Duration;

/// Rows between hot loop and writer: 131 ms of them at a million a second, 3 MiB.
const ROWS: usize = 1 << 17;
/// Events between hot loop and writer.
const NOTICES: usize = 256;
/// How long a log that takes nothing is waited for.
const PATIENCE: Duration = Duration::from_secs(5);
/// How often it is looked whether the writer is done.
const LOOK: Duration = Duration::from_micros(200);

/// Why there is no log.
#[derive(Debug, thiserror::Error)]
pub enum RecordError {
    /// The file cannot be opened.
    #[error("cannot open the log {} for appending: {answer}: {}", path.display(), advice(answer))]
    Open {
        /// The log.
        path: PathBuf,
        /// What the kernel answered.
        answer: io::Error,
    },
    /// The file was opened, but its first line cannot be written.
    #[error("cannot write to the log {}: {answer}: {}", path.display(), advice(answer))]
    Header {
        /// The log.
        path: PathBuf,
        /// What the kernel answered.
        answer: io::Error,
    },
    /// No thread for the log.
    #[error("cannot start the thread that writes the log: {0}: raise the limit on processes (ulimit -u)")]
    Thread(io::Error),
}

fn advice(error: &io::Error) -> &'static str {
    match error.kind() {
        io::ErrorKind::NotFound => "create its folder, or name another file with --log",
        io::ErrorKind::PermissionDenied => "allow this user to write to it, or name another file with --log",
        io::ErrorKind::IsADirectory => "it is a folder: name a file with --log",
        io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded => "make room, or name a file elsewhere with --log",
        io::ErrorKind::ReadOnlyFilesystem => "name a file elsewhere with --log",
        _ => "name another file with --log",
    }
}

/// What the log got so far.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Finished {
    /// Rows that the file took.
    pub rows_written: u64,
    /// Rows that it did not get: the ring was full, or the disk refused them.
    pub rows_lost: u64,
    /// The first thing that went wrong with the file.
    pub error: Option<String>,
}

impl Finished {
    /// What came since `earlier`, for the statistics of one of several sessions. An error stays.
    pub fn since(&self, earlier: &Self) -> Self {
        Self {
            rows_written: self.rows_written.saturating_sub(earlier.rows_written),
            rows_lost: self.rows_lost.saturating_sub(earlier.rows_lost),
            error: self.error.clone(),
        }
    }
}

/// Takes rows and events from the hot loop and sees to it that they are written.
///
/// The thread that writes also speaks: a terminal that was stopped (Ctrl-S) holds it up once there is something to say,
/// and what the ring cannot hold meanwhile is counted as lost.
///
/// The order per session: [`Recorder::begin_session`]; rows and [`Recorder::notice`] as they come; [`Recorder::sync`], the
/// statistics, [`Recorder::end_session`]. At the very end [`Recorder::finish`]; one that is dropped writes what it has too.
#[derive(Debug)]
pub struct Recorder {
    /// `None` without a log.
    rows: Option<Producer<Entry>>,
    notices: Producer<Notice>,
    shared: Arc<Shared>,
    meta: Option<Arc<Mutex<MetaFile>>>,
    writer: Option<JoinHandle<()>>,
    pushed: u64,
    lost: u64,
    sessions: u64,
    header_due: bool,
    patience: Duration,
    /// The last reading of [`Recorder::counts`] could not wait for the file.
    stalled: bool,
}

/// What differs in tests.
pub(super) struct Tuning {
    pub(super) rows: usize,
    pub(super) patience: Duration,
    pub(super) speaker: Speaker,
}

impl Recorder {
    /// Opens `log` for appending, writes the header line as every start of nanoprobe does, and starts the thread that
    /// writes. Without a log the thread is there for what is said.
    ///
    /// A FIFO waits for its reader here. The thread inherits this thread's CPU affinity and scheduling: start it before
    /// the hot loop is pinned or given a real-time priority.
    ///
    /// # Errors
    /// [`RecordError`] where the log cannot be opened or written to, or the thread cannot be had.
    pub fn start(log: Option<&Path>, voice: Voice) -> Result<Self, RecordError> {
        let mut speaker = Speaker::standard(voice);
        let (sink, meta, end) = match log {
            None => (None, None, 0),
            Some(path) => {
                // Before the header is written: it counts the sessions that are there.
                let (meta, remark) = MetaFile::open(path, voice.role);
                if let Some(remark) = remark {
                    speaker.warn(&remark);
                }
                let (file, end) = open(path)?;
                (Some(Box::new(file) as Box<dyn Sink>), meta, end)
            }
        };
        Self::with(sink, end, meta, Tuning { rows: ROWS, patience: PATIENCE, speaker })
    }

    /// `end` is the length of the log with its new header, in bytes.
    pub(super) fn with(
        sink: Option<Box<dyn Sink>>,
        end: u64,
        meta: Option<MetaFile>,
        tuning: Tuning,
    ) -> Result<Self, RecordError> {
        let (mut rows, mut row_source) = RingBuffer::new(tuning.rows);
        // Touches every page of the ring, so that the hot loop meets no page fault.
        while rows.push(Entry::Header).is_ok() {}
        while row_source.pop().is_ok() {}
        let (notices, notice_source) = RingBuffer::new(NOTICES);
        let shared = Arc::new(Shared::new(end));
        let meta = meta.map(|meta| Arc::new(Mutex::new(meta)));
        let logging = sink.is_some();
        let start = end.saturating_sub(HEADER.len() as u64);
        let source = (row_source, notice_source);
        let writer = Writer::new(source, sink, (start, end), Arc::clone(&shared), meta.clone(), tuning.speaker);
        let writer =
            thread::Builder::new().name("record".into()).spawn(|| writer.run()).map_err(RecordError::Thread)?;
        Ok(Self {
            rows: logging.then_some(rows),
            notices,
            shared,
            meta,
            writer: Some(writer),
            pushed: 0,
            lost: 0,
            sessions: 0,
            header_due: false,
            patience: tuning.patience,
            stalled: false,
        })
    }

    /// Hands a row over, or counts it as lost where the ring is full. Does nothing without a log.
    #[inline]
    pub fn row(&mut self, row: Row) {
        let Some(rows) = &mut self.rows else { return };
        if self.header_due {
            self.header_due = rows.push(Entry::Header).is_err();
        }
        // A row must not stand before the header of its session.
        if self.header_due || rows.push(Entry::Row(row)).is_err() {
            self.lost += 1;
        } else {
            self.pushed += 1;
        }
    }

    /// Hands over what was seen of a ping or pong at one point.
    #[inline]
    pub fn seen(&mut self, sighting: &Sighting) {
        let Sighting { sequence, point, size, application, .. } = *sighting;
        self.row(Row::new(sequence, point, application, size));
    }

    /// A session begins: writes the header line before the second and each later one. Before its [`Event::Connected`].
    pub fn begin_session(&mut self) {
        self.sessions += 1;
        if self.sessions > 1
            && let Some(rows) = &mut self.rows
        {
            self.header_due = rows.push(Entry::Header).is_err();
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

    /// Says for the meta file what does not change from session to session. Not for the hot loop.
    pub fn describe(&mut self, facts: Facts) {
        if let Some(meta) = &self.meta {
            lock(meta).describe(facts);
        }
    }

    /// Rows lost so far: the ring was full, or the disk refused them.
    pub fn lost_rows(&self) -> u64 {
        self.lost + self.shared.rows_lost.load(Ordering::Relaxed)
    }

    /// Waits until everything handed over is in the file, and says what that came to since the start.
    ///
    /// Takes some milliseconds; where the file takes nothing for 5 s, what it did not take counts as lost.
    pub fn sync(&mut self) -> Finished {
        let ticket = self.shared.sync_asked.fetch_add(1, Ordering::AcqRel) + 1;
        self.wait(|shared, _| shared.sync_done.load(Ordering::Acquire) >= ticket);
        self.counts()
    }

    /// The session's statistics are out: the meta file gets them. After [`Recorder::sync`].
    ///
    /// # Errors
    /// A sentence on the meta file that could not be written, and why. The log itself is not touched by that.
    pub fn end_session(&mut self, summary: &Summary) -> Result<(), String> {
        let Some(meta) = &self.meta else { return Ok(()) };
        // The writer may hold it in a write that does not come back.
        if self.stalled {
            return Ok(());
        }
        lock(meta).end(summary, realtime_now(), self.shared.log_end.load(Ordering::Acquire))
    }

    /// Writes everything that is left, ends the thread, and says what the log got.
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
        let mut progress = self.shared.progress();
        let mut since = monotonic_now();
        self.stalled = false;
        while !done(&self.shared, writer) && !writer.is_finished() {
            thread::sleep(LOOK);
            let now = monotonic_now();
            if std::mem::replace(&mut progress, self.shared.progress()) != progress {
                since = now;
            } else if now.duration_since(since) >= self.patience {
                self.stalled = true;
                return;
            }
        }
    }

    fn counts(&self) -> Finished {
        let rows_written = self.shared.rows_written.load(Ordering::Acquire);
        let refused = self.shared.rows_lost.load(Ordering::Acquire);
        let pending = self.pushed.saturating_sub(rows_written + refused);
        let mut error = lock(&self.shared.error).clone();
        if self.stalled && pending > 0 && error.is_none() {
            error = Some(format!("the log took nothing for {} s", self.patience.as_secs_f32()));
        }
        // Rows that a writer still has when it is waited for no longer will not be read by anybody.
        Finished { rows_written, rows_lost: self.lost + refused + pending, error }
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

/// Finds out whether the log can be written to, before anything else is touched; leaves everything as it was.
///
/// # Errors
/// [`RecordError::Open`] where it cannot be opened.
pub fn check_log(path: &Path) -> Result<(), RecordError> {
    let failed = |answer| RecordError::Open { path: path.into(), answer };
    match path.metadata() {
        // A FIFO would wait for its reader, and opening it twice would look to that one like two writers.
        Ok(status) if !status.is_file() && !status.is_dir() => Ok(()),
        Ok(_) => OpenOptions::new().append(true).open(path).map(drop).map_err(failed),
        Err(_) => {
            OpenOptions::new().append(true).create_new(true).open(path).map_err(failed)?;
            std::fs::remove_file(path).map_err(failed)
        }
    }
}

/// Opens the log and writes its header; returns it with its length.
fn open(path: &Path) -> Result<(File, u64), RecordError> {
    let failed = |answer| RecordError::Open { path: path.into(), answer };
    let mut file = OpenOptions::new().append(true).create(true).open(path).map_err(failed)?;
    let status = file.metadata().map_err(failed)?;
    let mut length = if status.is_file() { status.len() } else { 0 };
    let mut first = String::new();
    if length > 0 && !ends_with_line(path) {
        // Somebody was killed in the middle of a row: the header must not become a part of it.
        first.push('\n');
    }
    first.push_str(HEADER);
    file.write_all(first.as_bytes()).map_err(|answer| RecordError::Header { path: path.into(), answer })?;
    length += first.len() as u64;
    Ok((file, length))
}

/// Whether the file ends with a line feed, as far as it may be read.
fn ends_with_line(path: &Path) -> bool {
    let last_byte = || -> io::Result<u8> {
        let mut file = File::open(path)?;
        file.seek(SeekFrom::End(-1))?;
        let mut last = [0];
        file.read_exact(&mut last)?;
        Ok(last[0])
    };
    last_byte().map_or(true, |byte| byte == b'\n')
}

#[cfg(test)]
mod tests {
    use super::super::Role;
    use super::super::text::Narrator;
    use super::*;
    use crate::clock::{Realtime, Time};
    use crate::session::{End, Settings};
    use crate::wire::Point;
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
        let tuning = Tuning { rows, patience, speaker };
        (Recorder::with(Some(Box::new(disk.clone())), 0, None, tuning).unwrap(), said)
    }

    fn row(sequence: u64) -> Row {
        Row::new(sequence, Point::T0, Time::<Realtime>::from_nanos(5), 44)
    }

    fn sequences(log: &str) -> Vec<u64> {
        log.lines().map(|line| line.split_once(',').unwrap().0.parse().unwrap()).collect()
    }

    #[test]
    fn a_ring_entry_is_three_words() {
        assert_eq!(size_of::<Entry>(), 24);
    }

    #[test]
    fn rows_that_a_blocked_disk_leaves_no_room_for_are_counted_and_the_others_stay_in_order() {
        let disk = Disk::default();
        disk.change(|disk| disk.blocked = true);
        let (mut recorder, _) = start(&disk, 8, PATIENCE);
        let mut sent = 0;
        while recorder.lost_rows() < 100 {
            sent += 1;
            recorder.row(row(sent));
        }
        disk.change(|disk| disk.blocked = false);
        let finished = recorder.finish();
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
        (1..=9).for_each(|sequence| recorder.row(row(sequence)));
        let first = recorder.sync();
        assert_eq!((first.rows_written, first.rows_lost), (3, 6));
        // Room again: still nothing, for a gap in the middle of a log could not be seen.
        disk.change(|disk| disk.room = None);
        recorder.row(row(10));
        assert_eq!(sequences(&disk.content()), [1, 2, 3]);
        let finished = recorder.finish();
        assert_eq!((finished.rows_written, finished.rows_lost), (3, 7));
        assert!(finished.error.as_ref().unwrap().contains("No space left on device"), "{finished:?}");
        assert_eq!(finished.since(&first), Finished { rows_written: 0, rows_lost: 1, ..finished.clone() });
        assert_eq!(said.content().matches("Cannot write to the log").count(), 1);
    }

    #[test]
    fn a_disk_that_takes_nothing_is_not_waited_for_without_end() {
        let disk = Disk::default();
        disk.change(|disk| disk.blocked = true);
        let (mut recorder, _) = start(&disk, 64, Duration::from_millis(50));
        (1..=5).for_each(|sequence| recorder.row(row(sequence)));
        let finished = recorder.finish();
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
        recorder.row(row(1));
        while !lock(&disk.0.0).awaited {
            thread::sleep(LOOK);
        }
        // The writer hangs in its first write: two more rows fill the ring.
        recorder.row(row(2));
        recorder.row(row(3));
        recorder.begin_session();
        recorder.row(row(1_000_000));
        assert_eq!(recorder.lost_rows(), 1);
        disk.change(|disk| disk.blocked = false);
        recorder.sync();
        recorder.row(row(1_000_001));
        let finished = recorder.finish();
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
        recorder.row(row(1));
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
        recorder.row(row(1));
        drop(recorder);
        assert_eq!(sequences(&disk.content()), [1]);
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
        let mut recorder = Recorder::start(Some(&pipe), VOICE).unwrap();
        (1..=100_000).for_each(|sequence| recorder.row(row(sequence)));
        let finished = recorder.finish();
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
        let opened = Recorder::start(Some(&pipe), VOICE);
        reader.join().unwrap();
        // The reader may be gone before the header is written or after it.
        let error = match opened {
            Err(error) => error.to_string(),
            Ok(mut recorder) => {
                recorder.row(row(1));
                let finished = recorder.finish();
                assert_eq!((finished.rows_written, finished.rows_lost), (0, 1));
                finished.error.unwrap()
            }
        };
        assert!(error.contains("Broken pipe"), "{error}");
    }
}
