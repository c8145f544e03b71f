//! The logs and statistics of many sessions at once: one ring from the hot loop, one thread behind it, one file a session.
//!
//! Handing over never blocks, allocates, formats or enters the kernel, unless thousands of sessions begin and end while the
//! thread cannot write. What the ring has no room for is counted as lost with the session that it is of. The recorder of one
//! session is [`super::Recorder`].

use super::clocks::ClockRecord;
use super::crowd::{self, Crowd};
use super::file::{FileCounts, LogFile, LogKind, open};
use super::log::{Finished, Written};
use super::meta::{Facts, MetaFile};
use super::pause::Pause;
use super::row::{MAX_ROW_LEN, Row, RowText};
use super::shelf::{self, Shelf, Shelved, reserve};
use super::sighting::{Sighting, Sources};
use super::stages::Stages;
use super::stamps::StampCounts;
use super::summary::{Summary, SummaryInput};
use super::text::{self, Stream, Voice, is_strangers};
use super::writer::Speaker;
use super::{RecordError, Role};
use crate::clock::{Monotonic, Realtime, Time, monotonic_now, realtime_now};
use crate::path::Counters;
use crate::session::{End, Event, Settings, Totals};
use crate::wire::Point;
use rtrb::{Consumer, Producer, RingBuffer};
use std::collections::VecDeque;
use std::io::{self, Write};
use std::net::SocketAddrV4;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, OnceLock, PoisonError};
use std::thread::{self, JoinHandle};
use std::time::Duration;

/// Entries between hot loop and writer: 262 ms of them at a million a second, 6 MiB.
const ENTRIES: usize = 1 << 18;
/// Entries taken from the ring at once.
const CHUNK: usize = 2048;
/// How long a row may stay out of its file where there are few logs; where there are many, as long as it takes to write one of them
/// every so often, but not longer. What a write takes hardly depends on how much is written, and comes out of the hot loop's
/// time where there are no more CPUs than busy loops: every 50 ms was 5000 writes a second with 256 logs.
const HOLD: Duration = Duration::from_millis(50);
const EVERY: Duration = Duration::from_millis(2);
const LONGEST_HOLD: Duration = Duration::from_secs(5);
/// Bytes that all logs together may hold; beyond them that is written which waits the longest.
const HELD_BYTES: usize = 16 << 20;
/// Bytes of rows of one session that stand together with those of all others, before they go where they wait ([`Shorts`]).
const SHORT: usize = 256;
const _: () = assert!(SHORT >= 2 * MAX_ROW_LEN);
/// How many logs are written in one look at the ring, as others wait for the CPU meanwhile, and the time until the next look where
/// more are due. All at once took 15 ms for a thousand logs: longer than a socket's ring lasts at full rate.
const LOGS_A_LOOK: usize = 4;
const NEXT_LOOK: Duration = Duration::from_micros(500);
/// Bytes of one session that are written at once.
const WORTH_WRITING: usize = 64 * 1024;
/// How long a thread that takes nothing is waited for.
const PATIENCE: Duration = Duration::from_secs(5);
/// How often it is looked whether it is done.
const LOOK: Duration = Duration::from_micros(200);

/// What a [`Ledger`] is to write.
#[derive(Debug, Clone)]
pub struct LedgerConfig {
    /// Whose stamps the logs' rows have, and the statistics are of.
    pub sources: Sources,
    /// How long a transmit stamp is waited for; `None` where none comes later.
    pub stamp_timeout: Option<Duration>,
    /// Where the logs go; `None` for none.
    pub folder: Option<PathBuf>,
    /// Statistics as JSON.
    pub json: bool,
    /// How many places sessions can have.
    pub places: usize,
}

/// Knows what was seen of the clocks. Asked in the thread that writes, never in the hot loop.
pub trait ClockWitness: std::fmt::Debug + Send + Sync {
    /// Since `began`, with the last comparison before.
    fn since(&self, began: Time<Monotonic>) -> ClockRecord;
}

/// What became of everything that was handed over.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct LedgerEnd {
    /// Sessions that are over and whose statistics were written.
    pub sessions: u64,
    /// Rows that reached no log.
    pub rows_lost: u64,
    /// Statistics could not be written, or the thread hung.
    pub failed: bool,
}

/// What stands in the ring.
#[derive(Debug, Clone, Copy)]
enum Entry {
    /// A row of the session at this place.
    Seen { place: u32, size: u16, point: Point, sequence: u64, stamp_nanos: u64 },
    /// The next of the words.
    Word,
}

// The hot loop writes one for each row.
const _: () = assert!(size_of::<Entry>() == 24);

/// What is too large to stand among the rows.
#[derive(Debug, Clone, Copy)]
enum Word {
    Begun { place: u32, peer: SocketAddrV4, settings: Settings, at: Time<Realtime>, began: Time<Monotonic> },
    Over { place: u32, end: End, totals: Totals, stamps: StampCounts, excess: u64, rows_lost: u64 },
    Said { place: Option<u32>, event: Event },
    CannotSend { place: u32, errno: Option<i32>, kind: io::ErrorKind },
    SoFar { crowd: Crowd, totals: Totals },
}

#[derive(Debug, Default)]
struct Shared {
    stop: AtomicBool,
    /// Entries taken from the ring.
    taken: AtomicU64,
    sessions: AtomicU64,
    rows_lost: AtomicU64,
    failed: AtomicBool,
    missed: AtomicU64,
    /// What is the same of all sessions, and who knows the clocks where stamps are of more than the process's.
    facts: OnceLock<(Facts, Option<Arc<dyn ClockWitness>>)>,
}

/// The hot side.
#[derive(Debug)]
pub struct Ledger {
    entries: Producer<Entry>,
    words: Producer<Word>,
    /// Words that the rings had no room for.
    late: VecDeque<Word>,
    /// Rows of the session at each place that the ring had no room for; empty without logs.
    rows_lost: Vec<u64>,
    sources: Sources,
    shared: Arc<Shared>,
    writer: Option<JoinHandle<()>>,
}

impl Ledger {
    /// Starts the thread that writes. It inherits this thread's CPU affinity: start it before the hot loop is pinned.
    ///
    /// # Errors
    /// [`RecordError::Thread`] where there is none to be had.
    pub fn start(config: LedgerConfig) -> Result<Self, RecordError> {
        let voice = Voice { role: Role::Server, json: config.json };
        let open = shelf::may_be_open(config.folder.as_ref().map_or(0, |_| config.places));
        Self::with(config, Speaker::standard(voice, None), open)
    }

    /// `open`: how many logs may be open at once.
    fn with(config: LedgerConfig, speaker: Speaker, open: usize) -> Result<Self, RecordError> {
        let (mut entries, mut source) = RingBuffer::new(ENTRIES);
        // Touches every page of the ring, so that the hot loop meets no page fault.
        while entries.push(Entry::Word).is_ok() {}
        while source.pop().is_ok() {}
        let (words, word_source) = RingBuffer::new(2 * config.places + 64);
        let shared = Arc::new(Shared::default());
        let rows_lost = vec![0; if config.folder.is_some() { config.places } else { 0 }];
        let late = VecDeque::with_capacity(2 * config.places);
        let sources = config.sources;
        let writer = Writer {
            entries: source,
            words: word_source,
            shared: Arc::clone(&shared),
            speaker,
            sessions: (0..config.places).map(|_| None).collect(),
            held: Held::new(config.places),
            // Without logs there are no rows.
            shorts: Shorts::new(rows_lost.len()),
            shelf: Arc::new(Mutex::new(Shelf::new(open))),
            held_bytes: 0,
            opened: 0,
            config,
        };
        let writer =
            thread::Builder::new().name("record".into()).spawn(|| writer.run()).map_err(RecordError::Thread)?;
        Ok(Self { entries, words, late, rows_lost, sources, shared, writer: Some(writer) })
    }

    /// Says what does not change from session to session. Once, before the first of them. `clocks`: who knows them, where stamps are
    /// of more than the process's.
    pub fn describe(&mut self, facts: Facts, clocks: Option<Arc<dyn ClockWitness>>) {
        let _ = self.shared.facts.set((facts, clocks));
    }

    /// Hands over a row of the session at this place; one without its stamp is none.
    #[inline]
    pub fn seen(&mut self, place: usize, sighting: &Sighting) {
        let Some(lost) = self.rows_lost.get_mut(place) else { return };
        let &Sighting { sequence, point, size, .. } = sighting;
        let Some(stamp) = sighting.stamp(self.sources.of(point)) else { return };
        let entry = Entry::Seen { place: place as u32, size, point, sequence, stamp_nanos: stamp.as_nanos() };
        // A row must not stand before the beginning of its session.
        if !self.late.is_empty() || self.entries.push(entry).is_err() {
            *lost += 1;
        }
    }

    /// Where what was handed over and not yet taken fills half the ring: a number that changes whenever the writer gets on. For the
    /// hot loop.
    #[inline]
    pub fn crowded(&self) -> Option<u64> {
        (self.entries.slots() < self.entries.buffer().capacity() / 2).then(|| self.shared.taken.load(Ordering::Relaxed))
    }

    /// A session stands at this place.
    pub fn begin(&mut self, place: usize, peer: SocketAddrV4, settings: Settings) {
        let (at, began) = (realtime_now(), monotonic_now());
        self.say(Word::Begun { place: place as u32, peer, settings, at, began });
    }

    /// The session at this place is over.
    pub fn end(&mut self, place: usize, end: End, totals: &Totals, stamps: StampCounts, excess: u64) {
        let rows_lost = self.rows_lost.get_mut(place).map_or(0, std::mem::take);
        self.say(Word::Over { place: place as u32, end, totals: *totals, stamps, excess, rows_lost });
    }

    /// Something to be said to the user, of the session at this place or of none.
    pub fn notice(&mut self, place: Option<usize>, event: Event) {
        // What strangers can cause without end leaves room for what sessions have to say.
        if is_strangers(&event) && (!self.late.is_empty() || self.words.slots() < self.words.buffer().capacity() / 2) {
            self.shared.missed.fetch_add(1, Ordering::Relaxed);
            return;
        }
        self.say(Word::Said { place: place.map(|place| place as u32), event });
    }

    /// What is sent to the session at this place does not leave: what the kernel answered, where it was asked.
    pub fn cannot_send(&mut self, place: usize, errno: Option<i32>, kind: io::ErrorKind) {
        self.say(Word::CannotSend { place: place as u32, errno, kind });
    }

    /// The user wants to know how things stand: what all sessions have come to together.
    pub fn so_far(&mut self, crowd: Crowd, totals: Totals) {
        self.say(Word::SoFar { crowd, totals });
    }

    fn say(&mut self, word: Word) {
        self.late.push_back(word);
        self.catch_up();
    }

    /// Hands over what there was no room for. To be called now and then.
    pub fn catch_up(&mut self) {
        while let Some(word) = self.late.front() {
            if self.entries.slots() == 0 || self.words.push(*word).is_err() {
                return;
            }
            let _ = self.entries.push(Entry::Word);
            self.late.pop_front();
        }
    }

    /// Writes everything that is left, ends the thread, and says what became of it all.
    pub fn finish(mut self) -> LedgerEnd {
        self.stop();
        LedgerEnd {
            sessions: self.shared.sessions.load(Ordering::Acquire),
            rows_lost: self.shared.rows_lost.load(Ordering::Acquire) + self.rows_lost.iter().sum::<u64>(),
            failed: self.shared.failed.load(Ordering::Acquire) || !self.late.is_empty(),
        }
    }

    fn stop(&mut self) {
        let Some(writer) = self.writer.take() else { return };
        let mut taken = u64::MAX;
        let mut since = monotonic_now();
        while !writer.is_finished() {
            self.catch_up();
            self.shared.stop.store(self.late.is_empty(), Ordering::Release);
            writer.thread().unpark();
            thread::sleep(LOOK);
            let now = monotonic_now();
            let progress = self.shared.taken.load(Ordering::Relaxed) + self.shared.sessions.load(Ordering::Relaxed);
            if std::mem::replace(&mut taken, progress) != progress {
                since = now;
            } else if now.duration_since(since) >= PATIENCE {
                // It hangs in the kernel, and is left behind.
                self.shared.failed.store(true, Ordering::Release);
                return;
            }
        }
        if writer.join().is_err() {
            self.shared.failed.store(true, Ordering::Release);
        }
    }
}

impl Drop for Ledger {
    fn drop(&mut self) {
        self.stop();
    }
}

/// A session as the writer has it.
struct Session {
    peer: SocketAddrV4,
    settings: Settings,
    began: Time<Monotonic>,
    log: Log,
}

enum Log {
    None,
    File(Box<LogFile>, Arc<FileCounts>, Option<Box<MetaFile>>),
    /// It could not be made: so many rows are lost.
    Refused(u64, String),
}

/// The places whose logs may hold rows, each once, whoever has it: since when, oldest first.
struct Held {
    order: VecDeque<(Time<Monotonic>, u32)>,
    /// By place: whether it is among them.
    has: Vec<bool>,
}

impl Held {
    fn new(places: usize) -> Self {
        Self { order: VecDeque::with_capacity(places), has: vec![false; places] }
    }

    fn has(&self, place: u32) -> bool {
        self.has[place as usize]
    }

    /// One that is not among them gets its first row.
    fn push(&mut self, place: u32, now: Time<Monotonic>) {
        self.has[place as usize] = true;
        self.order.push_back((now, place));
    }

    fn pop(&mut self) -> Option<u32> {
        let (_, place) = self.order.pop_front()?;
        self.has[place as usize] = false;
        Some(place)
    }

    /// The next one whose rows may not stay out of their file for longer.
    fn pop_due(&mut self, now: Time<Monotonic>) -> Option<u32> {
        let hold = (EVERY * self.order.len() as u32).clamp(HOLD, LONGEST_HOLD);
        let (since, _) = self.order.front()?;
        (now.duration_since(*since) >= hold).then(|| self.pop()).flatten()
    }
}

/// The last few rows of the session at each place, as they will stand in its file.
///
/// A row at the end of what waits of one session in a thousand is written to a page and a line that were in use a thousand rows
/// ago: that took three times as long as putting it into words. These here are close together, and go there a handful at a time.
struct Shorts {
    /// By place: how many bytes there are, and how many rows.
    filled: Vec<(u16, u16)>,
    text: Vec<[u8; SHORT]>,
    words: RowText,
}

impl Shorts {
    fn new(places: usize) -> Self {
        Self { filled: vec![(0, 0); places], text: vec![[0; SHORT]; places], words: RowText::new() }
    }

    /// Adds a row, for which there is room; its bytes, and whether there is none for another.
    #[inline]
    fn push(&mut self, place: u32, row: &Row) -> (usize, bool) {
        let (len, rows) = &mut self.filled[place as usize];
        let room = &mut self.text[place as usize][usize::from(*len)..];
        let text = self.words.of(row);
        room[..text.len()].copy_from_slice(text);
        (*len, *rows) = (*len + text.len() as u16, *rows + 1);
        (text.len(), usize::from(*len) + MAX_ROW_LEN > SHORT)
    }

    /// Takes all of a place: the text, and how many rows.
    fn take(&mut self, place: u32) -> (&[u8], u64) {
        let (len, rows) = std::mem::take(&mut self.filled[place as usize]);
        (&self.text[place as usize][..usize::from(len)], rows.into())
    }
}

struct Writer {
    entries: Consumer<Entry>,
    words: Consumer<Word>,
    shared: Arc<Shared>,
    speaker: Speaker,
    config: LedgerConfig,
    sessions: Vec<Option<Session>>,
    held: Held,
    shorts: Shorts,
    /// In all logs together, and in front of them.
    held_bytes: usize,
    shelf: Arc<Mutex<Shelf>>,
    /// Logs made so far.
    opened: u64,
}

impl Writer {
    fn run(mut self) {
        let mut pause = Pause::new();
        let mut is_early = false;
        loop {
            // Read before the ring: what was handed over before is seen after it.
            let stop = self.shared.stop.load(Ordering::Acquire);
            let taken = self.drain();
            if stop {
                while let Some(place) = self.held.pop() {
                    self.write(place);
                }
                return self.tell_unsaid();
            }
            let next = if is_early { pause.after_early(taken) } else { pause.after(taken) };
            is_early = self.write_due() && next > NEXT_LOOK;
            thread::park_timeout(if is_early { NEXT_LOOK } else { next });
        }
    }

    fn facts(&self) -> &Facts {
        &self.shared.facts.get().expect("the run is described before its first session").0
    }

    /// What was seen of the clocks since then.
    fn clocks(&self, began: Time<Monotonic>) -> ClockRecord {
        let known = self.shared.facts.get().and_then(|(_, clocks)| clocks.as_ref());
        known.map(|clocks| clocks.since(began)).unwrap_or_default()
    }

    fn drain(&mut self) -> usize {
        let mut taken = 0;
        for _ in 0..ENTRIES {
            let Ok(entry) = self.entries.pop() else { break };
            taken += 1;
            if taken % CHUNK == 0 {
                self.shared.taken.fetch_add(CHUNK as u64, Ordering::Relaxed);
            }
            match entry {
                Entry::Seen { place, size, point, sequence, stamp_nanos } => {
                    self.row(place, &Row { sequence, point, stamp_nanos, size });
                }
                Entry::Word => {
                    if let Ok(word) = self.words.pop() {
                        self.take(word);
                    }
                }
            }
        }
        self.shared.taken.fetch_add((taken % CHUNK) as u64, Ordering::Relaxed);
        taken
    }

    fn row(&mut self, place: u32, row: &Row) {
        if !self.held.has(place) {
            self.held.push(place, monotonic_now());
        }
        let (added, is_full) = self.shorts.push(place, row);
        self.held_bytes += added;
        if is_full {
            self.settle(place);
            if self.held_bytes_of(place) >= WORTH_WRITING {
                self.write(place);
            }
            while self.held_bytes > HELD_BYTES
                && let Some(place) = self.held.pop()
            {
                self.write(place);
            }
        }
    }

    /// Has the last rows of a session wait with its others.
    fn settle(&mut self, place: u32) {
        let Some((text, rows)) = (!self.shorts.filled.is_empty()).then(|| self.shorts.take(place)) else { return };
        match self.sessions[place as usize].as_mut().map(|session| &mut session.log) {
            Some(Log::File(file, ..)) => return file.push_rows(text, rows),
            Some(Log::Refused(lost, _)) => *lost += rows,
            Some(Log::None) | None => {}
        }
        self.held_bytes -= text.len();
    }

    fn held_bytes_of(&self, place: u32) -> usize {
        match &self.sessions[place as usize] {
            Some(Session { log: Log::File(file, ..), .. }) => file.held_bytes(),
            _ => 0,
        }
    }

    /// Writes logs that have held rows for long enough, as many as one look is for; whether there were as many.
    fn write_due(&mut self) -> bool {
        let now = monotonic_now();
        for _ in 0..LOGS_A_LOOK {
            let Some(place) = self.held.pop_due(now) else { return false };
            self.write(place);
        }
        true
    }

    fn write(&mut self, place: u32) {
        self.settle(place);
        let Some(Session { peer, log: Log::File(file, ..), .. }) = &mut self.sessions[place as usize] else { return };
        self.held_bytes -= file.held_bytes();
        if let Some(problem) = file.write() {
            let problem = format!("{peer}: {problem}");
            self.speaker.warn(&problem);
        }
    }

    fn take(&mut self, word: Word) {
        match word {
            Word::Begun { place, peer, settings, at, began } => {
                // Rows of nobody's, if there were any, are not to be the new session's.
                self.settle(place);
                self.begin(place, peer, settings, at, began);
            }
            Word::Over { place, end, totals, stamps, excess, rows_lost } => {
                self.settle(place);
                if let Some(session) = self.sessions[place as usize].take() {
                    self.end(session, end, totals, stamps, excess, rows_lost);
                }
            }
            Word::Said { place, event } => {
                let peer = place.and_then(|place| self.sessions[place as usize].as_ref()).map(|session| session.peer);
                self.tell(peer, &event);
            }
            Word::CannotSend { place, errno, kind } => {
                if let Some(Session { peer, .. }) = &self.sessions[place as usize] {
                    let answer = match (errno, kind) {
                        (Some(errno), _) => io::Error::from_raw_os_error(errno).to_string(),
                        (None, io::ErrorKind::HostUnreachable) => "its way is not known".into(),
                        (None, kind) => kind.to_string(),
                    };
                    let text = format!("{peer}: cannot send to it: {answer}: its session is broken off.");
                    self.speaker.warn(&text);
                }
            }
            Word::SoFar { crowd, totals } => {
                let (stream, text) = crowd::words(&crowd, &totals, self.config.json);
                self.speaker.say(stream, &text);
            }
        }
    }

    fn begin(
        &mut self,
        place: u32,
        peer: SocketAddrV4,
        settings: Settings,
        at: Time<Realtime>,
        began: Time<Monotonic>,
    ) {
        let stream = if self.config.json { Stream::Err } else { Stream::Out };
        self.speaker.say(stream, &format!("{}\n{}", text::connected(peer), text::settings(&settings)));
        let log = match self.config.folder.clone() {
            None => Log::None,
            Some(folder) => self.make_log(&folder, peer, settings, at).unwrap_or_else(|error| {
                self.speaker.warn(&format!("{peer}: {error}"));
                Log::Refused(0, error.to_string())
            }),
        };
        self.sessions[place as usize] = Some(Session { peer, settings, began, log });
    }

    fn make_log(
        &mut self,
        folder: &Path,
        peer: SocketAddrV4,
        settings: Settings,
        at: Time<Realtime>,
    ) -> Result<Log, RecordError> {
        let path = reserve(folder, peer, at)?;
        let (meta, _) = MetaFile::open(&path, None, Role::Server);
        let (file, end) = open(LogKind::Main, &path, &|| false).map_err(|error| {
            // Of nobody's use: made a moment ago, and empty.
            let _ = std::fs::remove_file(&path);
            error.in_folder(folder)
        })?;
        let id = self.opened;
        self.opened += 1;
        self.shelf.lock().unwrap_or_else(PoisonError::into_inner).put(id, file);
        let sink = Shelved { id, path, shelf: Arc::clone(&self.shelf) };
        let file = LogFile::growing(LogKind::Main, Box::new(sink), end);
        let meta = meta.map(|mut meta| {
            meta.describe(self.facts().clone());
            if let Err(problem) = meta.begin(peer, settings, at, file.session_start()) {
                self.speaker.warn(&problem);
            }
            Box::new(meta)
        });
        let counts = file.counts();
        Ok(Log::File(Box::new(file), counts, meta))
    }

    /// Writes what a log still holds. What it got of its session, of which the ring had no room for `lost` rows, and what is
    /// still to be written beside it.
    fn close(&mut self, peer: SocketAddrV4, log: Log, lost: u64) -> (Option<Written>, Option<(Box<MetaFile>, u64)>) {
        match log {
            Log::None => (None, None),
            Log::Refused(rows, error) => {
                (Some(Written { rows_written: 0, rows_lost: rows + lost, error: Some(error) }), None)
            }
            Log::File(mut file, counts, meta) => {
                self.held_bytes -= file.held_bytes();
                if let Some(problem) = file.write() {
                    self.speaker.warn(&format!("{peer}: {problem}"));
                }
                let written = Written {
                    rows_written: counts.rows_written.load(Ordering::Acquire),
                    rows_lost: counts.rows_lost.load(Ordering::Acquire) + lost,
                    error: counts.error.lock().unwrap_or_else(PoisonError::into_inner).clone(),
                };
                let end = counts.end.load(Ordering::Acquire);
                (Some(written), meta.map(|meta| (meta, end)))
            }
        }
    }

    fn end(&mut self, session: Session, end: End, mut totals: Totals, stamps: StampCounts, excess: u64, lost: u64) {
        let Session { peer, settings, began, log } = session;
        if end == End::Broken {
            // The machine does not know that it is over.
            totals.ended.get_or_insert_with(monotonic_now);
        }
        let (written, file) = self.close(peer, log, lost);
        let lost = written.as_ref().map_or(0, |written| written.rows_lost);
        self.shared.rows_lost.fetch_add(lost, Ordering::Relaxed);
        let recorded = Finished { log: written, stage_log: None, stages: Some(Stages::default()), stages_left_out: 0 };
        let mut summary = Summary::new(SummaryInput {
            role: Role::Server,
            peer: Some(peer),
            settings: Some(&settings),
            totals: &totals,
            end,
            round_trips: None,
            punctuality: None,
            stamps,
            sources: self.config.sources,
            stamp_timeout: self.config.stamp_timeout,
            description: &self.facts().description,
            counters: Counters::default(),
            recorded: &recorded,
        });
        // What the path counts is of all sessions together.
        summary.counters = None;
        summary.excess = Some(excess);
        if let Some((mut meta, log_end)) = file
            && let Err(problem) = meta.end(&summary, &self.clocks(began), realtime_now(), log_end)
        {
            self.speaker.warn(&problem);
        }
        self.tell(Some(peer), &Event::Finished(end));
        let said = match self.config.json {
            true => format!("{}\n", summary.to_json()),
            false => format!("--- client {peer} ---\n{}", summary.to_text()),
        };
        // One write a session keeps it in one piece. A reader that went away has what it wanted.
        let written = self.speaker.out.write_all(said.as_bytes()).and_then(|()| self.speaker.out.flush());
        if let Err(error) = written
            && error.kind() != io::ErrorKind::BrokenPipe
        {
            self.shared.failed.store(true, Ordering::Release);
            self.speaker.warn(&format!("cannot write the statistics to stdout: {error}"));
        }
        self.shared.sessions.fetch_add(1, Ordering::Release);
    }

    /// Says what happened, and in whose session.
    fn tell(&mut self, peer: Option<SocketAddrV4>, event: &Event) {
        let said = match (peer, event) {
            (Some(peer), Event::Disconnected) => {
                let stream = if self.config.json { Stream::Err } else { Stream::Out };
                Some((stream, format!("Client {peer} disconnected.")))
            }
            (Some(peer), Event::Finished(end)) => text::end(*end).map(|text| (Stream::Err, format!("{peer}: {text}"))),
            (peer, event) => self.speaker.narrator.tell(event, monotonic_now().as_nanos()).map(|(stream, text)| {
                let whose = peer.map(|peer| format!("{peer}: ")).unwrap_or_default();
                (stream, format!("{whose}{text}"))
            }),
        };
        if let Some((stream, text)) = said {
            self.speaker.say(stream, &text);
        }
    }

    fn tell_unsaid(&mut self) {
        let missed = self.shared.missed.swap(0, Ordering::Relaxed);
        if let Some(text) = self.speaker.narrator.tell_unsaid(missed) {
            self.speaker.warn(&text);
        }
    }
}

#[cfg(test)]
mod tests;
