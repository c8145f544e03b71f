//! The writing thread: drains the rings, formats, writes whole rows, speaks to the user.
//!
//! It looks at the rings every few milliseconds rather than being woken: waking costs the hot loop a system call.

use super::meta::MetaFile;
use super::row::{HEADER, Row};
use super::text::{Narrator, Stream, Voice};
use crate::clock::{Monotonic, Realtime, Time, monotonic_now};
use crate::session::Event;
use rtrb::Consumer;
use std::fs::File;
use std::io::{self, Write};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread;
use std::time::Duration;

/// The longest time between two looks at the rings: what 3 million rows a second fill three quarters of the ring in.
///
/// Each look takes the CPU from somebody, on a machine with few of them from the hot loop: hence few looks.
const LONGEST_PAUSE: Duration = Duration::from_millis(32);
/// The shortest, for the fastest senders.
const SHORTEST_PAUSE: Duration = Duration::from_millis(1);
/// As many rows as a look should find: an eighth of what the ring holds.
const ROWS_A_LOOK: usize = 1 << 14;
/// How long a row may stay out of the file: what a SIGKILL costs at most.
const HOLD: Duration = Duration::from_millis(50);
/// Bytes written at once.
const BLOCK: usize = 256 * 1024;
/// Rows taken from the ring at once.
const CHUNK: usize = 2048;

/// What stands in the ring of rows.
#[derive(Debug, Clone, Copy)]
pub(super) enum Entry {
    Row(Row),
    Header,
}

/// What stands in the ring of events.
#[derive(Debug, Clone, Copy)]
pub(super) struct Notice {
    pub(super) event: Event,
    pub(super) at: Time<Realtime>,
}

/// What hot side and writer both see. The hot loop itself reads and writes none of it.
#[derive(Debug)]
pub(super) struct Shared {
    pub(super) stop: AtomicBool,
    pub(super) sync_asked: AtomicU64,
    pub(super) sync_done: AtomicU64,
    pub(super) rows_written: AtomicU64,
    pub(super) rows_lost: AtomicU64,
    /// Length of the log in bytes, as far as it was written by this process.
    pub(super) log_end: AtomicU64,
    pub(super) notices_missed: AtomicU64,
    pub(super) error: Mutex<Option<String>>,
}

impl Shared {
    pub(super) fn new(log_end: u64) -> Self {
        Self {
            stop: AtomicBool::new(false),
            sync_asked: AtomicU64::new(0),
            sync_done: AtomicU64::new(0),
            rows_written: AtomicU64::new(0),
            rows_lost: AtomicU64::new(0),
            log_end: AtomicU64::new(log_end),
            notices_missed: AtomicU64::new(0),
            error: Mutex::new(None),
        }
    }

    /// A number that changes whenever rows leave the writer.
    pub(super) fn progress(&self) -> u64 {
        self.rows_written.load(Ordering::Relaxed) + self.rows_lost.load(Ordering::Relaxed)
    }
}

/// Where rows go.
pub(super) trait Sink: Write + Send {
    /// Takes back what was written of a row that did not fit, where that can be done: the file has `length` bytes, of
    /// which `whole` end with a whole row. Returns whether it was.
    fn cut(&mut self, whole: u64, length: u64) -> bool;
}

impl Sink for File {
    fn cut(&mut self, whole: u64, length: u64) -> bool {
        // Not where somebody else has appended to it meanwhile.
        let ours = self.metadata().is_ok_and(|status| status.is_file() && status.len() == length);
        ours && self.set_len(whole).is_ok()
    }
}

/// Speaks to the user, who may have closed either stream.
pub(super) struct Speaker {
    pub(super) narrator: Narrator,
    pub(super) out: Box<dyn Write + Send>,
    pub(super) err: Box<dyn Write + Send>,
}

impl Speaker {
    pub(super) fn standard(voice: Voice) -> Self {
        Self { narrator: Narrator::new(voice), out: Box::new(io::stdout()), err: Box::new(io::stderr()) }
    }

    pub(super) fn warn(&mut self, text: &str) {
        self.say(Stream::Err, text);
    }

    fn say(&mut self, stream: Stream, text: &str) {
        let to = match stream {
            Stream::Out => &mut self.out,
            Stream::Err => &mut self.err,
        };
        // One write a message keeps it in one piece. A reader that went away is no reason to stop measuring.
        let _ = to.write_all(format!("{text}\n").as_bytes()).and_then(|()| to.flush());
    }
}

/// Owns the file and the ends of the rings.
pub(super) struct Writer {
    rows: Consumer<Entry>,
    notices: Consumer<Notice>,
    sink: Option<Box<dyn Sink>>,
    shared: Arc<Shared>,
    meta: Option<Arc<Mutex<MetaFile>>>,
    speaker: Speaker,
    /// Whole rows, not yet written.
    block: Vec<u8>,
    /// Rows in `block`.
    held: u64,
    /// When the oldest of them was put there.
    held_since: Option<Time<Monotonic>>,
    /// Length of the log in bytes.
    end: u64,
    /// Where the header of the newest session begins.
    session_start: u64,
    /// The disk has refused something: every further row is lost.
    broken: bool,
    /// Notices read from their ring and not yet told.
    untold: Vec<Notice>,
}

impl Writer {
    /// `(start, end)`: where the newest header begins in the log and where the log ends, in bytes.
    pub(super) fn new(
        (rows, notices): (Consumer<Entry>, Consumer<Notice>),
        sink: Option<Box<dyn Sink>>,
        (start, end): (u64, u64),
        shared: Arc<Shared>,
        meta: Option<Arc<Mutex<MetaFile>>>,
        speaker: Speaker,
    ) -> Self {
        Self {
            rows,
            notices,
            sink,
            shared,
            meta,
            speaker,
            block: Vec::with_capacity(BLOCK + CHUNK * 64),
            held: 0,
            held_since: None,
            end,
            session_start: start,
            broken: false,
            untold: Vec::with_capacity(16),
        }
    }

    pub(super) fn run(mut self) {
        let mut pause = SHORTEST_PAUSE;
        loop {
            // Read before the rings: what was handed over before the question is seen after it.
            let stop = self.shared.stop.load(Ordering::Acquire);
            let asked = self.shared.sync_asked.load(Ordering::Acquire);
            let synced = asked == self.shared.sync_done.load(Ordering::Relaxed);
            // Read before the rows: the header of a session that stands is in the ring of rows by then.
            while let Ok(notice) = self.notices.pop() {
                self.untold.push(notice);
            }
            let taken = self.drain();
            let now = monotonic_now();
            let due = self.held_since.is_some_and(|since| now.duration_since(since) >= HOLD);
            if stop || !synced || due {
                self.write_block();
            }
            self.tell(now);
            if stop || !synced {
                self.tell_unsaid();
                self.shared.sync_done.store(asked, Ordering::Release);
            }
            if stop {
                return;
            }
            pause = if taken > ROWS_A_LOOK { pause / 2 } else { pause * 2 };
            pause = pause.clamp(SHORTEST_PAUSE, LONGEST_PAUSE);
            thread::park_timeout(pause);
        }
    }

    /// Formats everything that is in the ring of rows, writing whenever a block is full. How many entries there were.
    fn drain(&mut self) -> usize {
        let mut taken = 0;
        loop {
            let available = self.rows.slots().min(CHUNK);
            let Ok(chunk) = self.rows.read_chunk(available) else { return taken };
            if chunk.is_empty() {
                return taken;
            }
            taken += chunk.len();
            let (head, tail) = chunk.as_slices();
            for entry in head.iter().chain(tail) {
                match entry {
                    Entry::Row(row) => {
                        row.append_to(&mut self.block);
                        self.held += 1;
                    }
                    Entry::Header => {
                        self.session_start = self.end + self.block.len() as u64;
                        self.block.extend_from_slice(HEADER.as_bytes());
                    }
                }
            }
            // The hot loop gets the room back before the disk is waited for.
            chunk.commit_all();
            if self.held_since.is_none() {
                self.held_since = Some(monotonic_now());
            }
            if self.block.len() >= BLOCK {
                self.write_block();
            }
        }
    }

    fn write_block(&mut self) {
        self.held_since = None;
        if self.block.is_empty() {
            return;
        }
        let Some(sink) = self.sink.as_mut().filter(|_| !self.broken) else {
            return self.give_up_block(0);
        };
        let mut written = 0;
        let failure = loop {
            match sink.write(&self.block[written..]) {
                Ok(0) => break Some(io::Error::from(io::ErrorKind::WriteZero)),
                Ok(count) => written += count,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => break Some(error),
            }
            if written == self.block.len() {
                break None;
            }
        };
        let Some(failure) = failure else {
            self.end += written as u64;
            self.shared.log_end.store(self.end, Ordering::Release);
            self.shared.rows_written.fetch_add(self.held, Ordering::Release);
            self.held = 0;
            self.block.clear();
            return;
        };
        self.broken = true;
        let whole = self.block[..written].iter().rposition(|byte| *byte == b'\n').map_or(0, |last| last + 1);
        let torn = whole < written;
        let cut = torn && sink.cut(self.end + whole as u64, self.end + written as u64);
        self.end += if cut || !torn { whole } else { written } as u64;
        self.shared.log_end.store(self.end, Ordering::Release);
        *self.shared.error.lock().unwrap_or_else(PoisonError::into_inner) = Some(failure.to_string());
        self.speaker.warn(&format!("Cannot write to the log: {failure}: no further row is written; they are counted."));
        self.give_up_block(whole);
    }

    /// Counts the rows of the block: those within its first `whole` bytes are in the file, the others are lost.
    fn give_up_block(&mut self, whole: usize) {
        let lines = self.block[..whole].split_inclusive(|byte| *byte == b'\n');
        let written = lines.filter(|line| *line != HEADER.as_bytes()).count() as u64;
        self.shared.rows_written.fetch_add(written, Ordering::Release);
        self.shared.rows_lost.fetch_add(self.held - written, Ordering::Release);
        self.held = 0;
        self.block.clear();
    }

    fn tell(&mut self, now: Time<Monotonic>) {
        for index in 0..self.untold.len() {
            let Notice { event, at } = self.untold[index];
            if let (Event::Connected { peer, settings }, Some(meta)) = (&event, &self.meta) {
                let mut meta = meta.lock().unwrap_or_else(PoisonError::into_inner);
                if let Err(problem) = meta.begin(*peer, *settings, at, self.session_start) {
                    self.speaker.warn(&problem);
                }
            }
            if let Some((stream, text)) = self.speaker.narrator.tell(&event, now.as_nanos()) {
                self.speaker.say(stream, &text);
            }
        }
        self.untold.clear();
    }

    fn tell_unsaid(&mut self) {
        let missed = self.shared.notices_missed.swap(0, Ordering::Relaxed);
        if let Some(text) = self.speaker.narrator.tell_unsaid(missed) {
            self.speaker.say(Stream::Err, &text);
        }
    }
}
