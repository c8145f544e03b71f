//! The writing thread: drains the rings, formats, writes whole rows, speaks to the user.
//!
//! It looks at the rings every few milliseconds rather than being woken: waking costs the hot loop a system call. Where the rows
//! tell of a steady rate it looks in the part of a slot in which nothing happens: on a machine whose CPUs all spin it must take one
//! from somebody, and takes it when nobody needs it.

use super::file::{BLOCK, FileCounts, LogFile};
use super::lull::{Lull, Rhythm};
use super::meta::MetaFile;
use super::pause::Pause;
use super::row::{Row, RowText, append_stages};
use super::sighting::{Packed, Sources};
use super::so_far::{self, Known, Report, RoundNote};
use super::stages::{CardClock, StageSink, StageStatistics, Stages};
use super::text::{Narrator, Screen, Stream, Voice};
use crate::clock::{Domain, Monotonic, Phc, Realtime, Time, monotonic_now, realtime_now};
use crate::path::Description;
use crate::session::Event;
use rtrb::Consumer;
use std::io::{self, Write};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread;
use std::time::Duration;

/// What is written at the end of a look, in bytes, without being due: a page. A larger write takes longer.
const WORTH_WRITING: usize = 4096;
/// Rows that have waited for so long are written with the next look, which may be as far away as the pause and some slots are: what
/// a SIGKILL costs.
const HOLD: Duration = Duration::from_millis(50);
/// Entries taken from the ring at once.
const CHUNK: usize = 2048;
/// The same where a look is to end in time: what takes some 5 µs.
const SMALL_CHUNK: usize = 16;
/// A look that has less time than this waits for the next lull.
const WORTH_LOOKING: Duration = Duration::from_micros(20);
/// So many lulls a late thread lets pass one after the other; the rows are not to stay out of the file for it.
const LULLS_MISSED: u32 = 3;
/// A lull that was found is good for so many looks: to find it takes as long as ten rows do.
const LOOKS_A_LULL: u32 = 4;

/// What stands in the ring of sightings.
#[derive(Debug, Clone, Copy)]
pub(super) enum Entry {
    Seen(Packed),
    /// A session begins: what follows is its own.
    Session,
    /// How things stand here is to be said; the numbers are in the ring of reports.
    Report,
}

/// What stands in the ring of events.
#[derive(Debug, Clone, Copy)]
pub(super) struct Notice {
    pub(super) event: Event,
    pub(super) at: Time<Realtime>,
}

/// What hot side and writer both see. The hot loop itself reads and writes none of it.
#[derive(Debug, Default)]
pub(super) struct Shared {
    pub(super) stop: AtomicBool,
    pub(super) sync_asked: AtomicU64,
    pub(super) sync_done: AtomicU64,
    /// Entries taken from the ring.
    pub(super) taken: AtomicU64,
    pub(super) notices_missed: AtomicU64,
    /// Of the session that stands, up to the newest sync; `None` while one is asked for.
    pub(super) stages: Mutex<Option<Stages>>,
    /// What the path is, once somebody has described it.
    pub(super) description: Mutex<Option<Description>>,
    /// Which of several rounds the session is, once somebody has said so.
    pub(super) round: Mutex<Option<RoundNote>>,
}

/// What the writer makes of sightings.
pub(super) struct Products {
    pub(super) log: Option<LogFile>,
    pub(super) stage_log: Option<LogFile>,
    /// Whose stamps the rows of `log` have.
    pub(super) sources: Sources,
    pub(super) card: Option<Arc<dyn CardClock>>,
    pub(super) stage_sink: Option<Arc<dyn StageSink>>,
}

impl Products {
    pub(super) fn counts(&self) -> [Option<Arc<FileCounts>>; 2] {
        [&self.log, &self.stage_log].map(|file| file.as_ref().map(LogFile::counts))
    }
}

/// Speaks to the user, who may have closed either stream.
pub(super) struct Speaker {
    pub(super) narrator: Narrator,
    pub(super) out: Box<dyn Write + Send>,
    pub(super) err: Box<dyn Write + Send>,
}

impl Speaker {
    pub(super) fn standard(voice: Voice, screen: Option<&Arc<dyn Screen>>) -> Self {
        let on = |stream: Box<dyn Write + Send>| match screen {
            Some(screen) => Box::new(Aside { screen: Arc::clone(screen), stream }),
            None => stream,
        };
        Self { narrator: Narrator::new(voice), out: on(Box::new(io::stdout())), err: on(Box::new(io::stderr())) }
    }

    pub(super) fn warn(&mut self, text: &str) {
        self.say(Stream::Err, text);
    }

    pub(super) fn say(&mut self, stream: Stream, text: &str) {
        let to = match stream {
            Stream::Out => &mut self.out,
            Stream::Err => &mut self.err,
        };
        // One write a message keeps it in one piece. A reader that went away is no reason to stop measuring.
        let _ = to.write_all(format!("{text}\n").as_bytes()).and_then(|()| to.flush());
    }
}

/// A stream to a terminal that shows something else too.
struct Aside {
    screen: Arc<dyn Screen>,
    stream: Box<dyn Write + Send>,
}

impl Write for Aside {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let mut written = Ok(());
        let Self { screen, stream } = self;
        screen.aside(&mut || written = stream.write_all(bytes));
        written.map(|()| bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        self.stream.flush()
    }
}

/// The ends of the rings.
pub(super) struct Rings {
    pub(super) entries: Consumer<Entry>,
    pub(super) notices: Consumer<Notice>,
    pub(super) reports: Consumer<Report>,
}

/// How long it is to the next lull that is not sooner than after `pause`.
fn until(lull: Option<Lull>, pause: Duration) -> Option<Duration> {
    let now = realtime_now();
    lull.map(|lull| lull.after(now.plus(pause)).duration_since(now))
}

/// When a look is to end: a hot loop that has no other CPU waits for that.
#[derive(Debug, Clone, Copy)]
enum End {
    /// When nothing is left.
    Open,
    /// With the lull, so long as the ring has room.
    At(Time<Realtime>),
}

impl End {
    /// Of a look that begins now.
    fn of_look(lull: Option<Lull>) -> Self {
        let now = realtime_now();
        lull.map_or(Self::Open, |lull| Self::At(now.plus(lull.left(now))))
    }

    /// Whether there is more time than that.
    fn leaves(self, duration: Duration) -> bool {
        match self {
            Self::Open => true,
            Self::At(end) => end > realtime_now().plus(duration),
        }
    }
}

/// Owns the files and the ends of the rings.
pub(super) struct Writer {
    entries: Consumer<Entry>,
    notices: Consumer<Notice>,
    reports: Consumer<Report>,
    log: Option<LogFile>,
    stage_log: Option<LogFile>,
    sources: Sources,
    words: RowText,
    statistics: StageStatistics,
    rhythm: Rhythm,
    /// What `hw_clock` is in the log of stages.
    card_name: String,
    shared: Arc<Shared>,
    meta: Option<Arc<Mutex<MetaFile>>>,
    speaker: Speaker,
    /// When the oldest of the rows that are not yet written was made.
    held_since: Option<Time<Monotonic>>,
    /// Notices read from their ring and not yet told.
    untold: Vec<Notice>,
}

impl Writer {
    pub(super) fn new(
        rings: Rings,
        products: Products,
        shared: Arc<Shared>,
        meta: Option<Arc<Mutex<MetaFile>>>,
        speaker: Speaker,
    ) -> Self {
        let Products { log, stage_log, sources, card, stage_sink } = products;
        let Rings { entries, notices, reports } = rings;
        Self {
            entries,
            notices,
            reports,
            log,
            stage_log,
            sources,
            words: RowText::new(),
            // A card stamp has a clock, if one without a name.
            card_name: card.as_ref().map_or_else(|| Phc::NAME.into(), |card| card.name()),
            statistics: StageStatistics::new(card, stage_sink),
            rhythm: Rhythm::new(),
            shared,
            meta,
            speaker,
            held_since: None,
            untold: Vec::with_capacity(16),
        }
    }

    pub(super) fn run(mut self) {
        // A look that waits for a lull is to begin with it, not 50 µs later. What it cannot have it does without.
        let _ = nix::sys::prctl::set_timerslack(1);
        let mut pause = Pause::new();
        let mut lull = None;
        let (mut looks, mut missed) = (0_u32, 0);
        loop {
            // Read before the rings: what was handed over before the question is seen after it.
            let stop = self.shared.stop.load(Ordering::Acquire);
            let asked = self.shared.sync_asked.load(Ordering::Acquire);
            let hurry = stop || asked != self.shared.sync_done.load(Ordering::Relaxed);
            let end = End::of_look(if hurry { None } else { lull });
            let comes_late = !end.leaves(WORTH_LOOKING) && self.has_room();
            if comes_late && missed < LULLS_MISSED {
                missed += 1;
                thread::park_timeout(until(lull, Duration::ZERO).unwrap_or_default());
                continue;
            }
            missed = 0;
            let taken = self.look(hurry, if comes_late { End::Open } else { end });
            if hurry {
                self.tell_unsaid();
                let stages = self.statistics.stages();
                *self.shared.stages.lock().unwrap_or_else(PoisonError::into_inner) = Some(stages);
                self.shared.sync_done.store(asked, Ordering::Release);
            }
            if stop {
                return;
            }
            if looks.is_multiple_of(LOOKS_A_LULL) {
                lull = self.rhythm.lull();
            }
            looks = looks.wrapping_add(1);
            let pause = match lull {
                Some(_) => pause.after_lull(taken + self.entries.slots()),
                None => pause.after(taken),
            };
            thread::park_timeout(until(lull, pause).unwrap_or(pause));
        }
    }

    /// Takes from the rings, writes what is due (with `all` everything), and says what is to be said. How many entries it took.
    fn look(&mut self, all: bool, end: End) -> usize {
        // Read before the rows: the header of a session that stands is in their ring by then.
        while let Ok(notice) = self.notices.pop() {
            self.untold.push(notice);
        }
        // The header of a session that is told of must have been read: where it begins in the log is told with it.
        let end = if self.untold.is_empty() { end } else { End::Open };
        let now = monotonic_now();
        // Nobody knows how long a write takes: in a lull it comes first, and has the whole of it.
        let mut taken = 0;
        if matches!(end, End::Open) {
            taken = self.drain(end);
        }
        if all || self.held_since.is_some_and(|since| now.duration_since(since) >= HOLD) {
            self.held_since = None;
            self.write(|_| true);
        } else {
            self.write(|file| file.held_bytes() >= WORTH_WRITING);
        }
        if matches!(end, End::At(_)) {
            taken = self.drain(end);
        }
        self.tell(now);
        taken
    }

    /// Whether the hot loop can go on for long before the ring is full.
    fn has_room(&self) -> bool {
        self.entries.slots() < self.entries.buffer().capacity() / 4
    }

    /// Takes what is in the ring of sightings, writing whenever a block is full. How many entries there were.
    fn drain(&mut self, end: End) -> usize {
        let mut taken = 0;
        loop {
            let chunk = match end {
                End::At(_) if self.has_room() && !end.leaves(Duration::ZERO) => return taken,
                End::At(_) if self.has_room() => SMALL_CHUNK,
                _ => CHUNK,
            };
            let Ok(chunk) = self.entries.read_chunk(self.entries.slots().min(chunk)) else { return taken };
            if chunk.is_empty() {
                return taken;
            }
            taken += chunk.len();
            self.shared.taken.fetch_add(chunk.len() as u64, Ordering::Relaxed);
            let mut reports = Vec::new();
            let (head, tail) = chunk.as_slices();
            for entry in head.iter().chain(tail) {
                match entry {
                    Entry::Seen(packed) => {
                        let sighting = packed.unpack();
                        self.rhythm.note(&sighting);
                        self.statistics.add(&sighting);
                        let stamp = sighting.stamp(self.sources.of(sighting.point));
                        if let (Some(log), Some(stamp)) = (&mut self.log, stamp) {
                            log.push_row(|out| out.extend_from_slice(self.words.of(&Row::of(&sighting, stamp))));
                        }
                        if let Some(stage_log) = &mut self.stage_log {
                            stage_log.push_row(|out| append_stages(&sighting, &self.card_name, out));
                        }
                    }
                    Entry::Report => {
                        reports.extend(self.reports.pop().map(|report| (report, self.statistics.stages())))
                    }
                    Entry::Session => {
                        self.rhythm.clear();
                        self.statistics.clear();
                        [&mut self.log, &mut self.stage_log].into_iter().flatten().for_each(LogFile::push_header);
                    }
                }
            }
            // The hot loop gets the room back before the disk is waited for.
            chunk.commit_all();
            if self.held_since.is_none() {
                self.held_since = Some(monotonic_now());
            }
            self.write(|file| file.held_bytes() >= BLOCK || !reports.is_empty());
            for (report, stages) in reports {
                self.report(&report, stages);
            }
        }
    }

    /// Writes what the chosen files hold. What one of them refuses is no reason to keep anything from the other.
    fn write(&mut self, chosen: impl Fn(&LogFile) -> bool) {
        for file in [&mut self.log, &mut self.stage_log].into_iter().flatten() {
            if chosen(file)
                && let Some(problem) = file.write()
            {
                self.speaker.warn(&problem);
            }
        }
    }

    fn tell(&mut self, now: Time<Monotonic>) {
        for index in 0..self.untold.len() {
            let Notice { event, at } = self.untold[index];
            if let (Event::Connected { peer, settings }, Some(meta)) = (&event, &self.meta) {
                let log_start = self.log.as_ref().map_or(0, LogFile::session_start);
                let mut meta = meta.lock().unwrap_or_else(PoisonError::into_inner);
                if let Err(problem) = meta.begin(*peer, *settings, at, log_start) {
                    self.speaker.warn(&problem);
                }
            }
            if let Some((stream, text)) = self.speaker.narrator.tell(&event, now.as_nanos()) {
                self.speaker.say(stream, &text);
            }
        }
        self.untold.clear();
    }

    /// Everything that was handed over before the report is in the stages and in the files.
    fn report(&mut self, report: &Report, stages: Stages) {
        let description = self.shared.description.lock().unwrap_or_else(PoisonError::into_inner).clone();
        let round = self.shared.round.lock().unwrap_or_else(PoisonError::into_inner).clone();
        let known = Known {
            round: round.as_ref(),
            voice: self.speaker.narrator.voice(),
            sources: self.sources,
            description: description.as_ref(),
            stages,
            files: [&self.log, &self.stage_log].map(|file| file.as_ref().map(LogFile::counts)),
        };
        let (stream, text) = so_far::words(report, known);
        self.speaker.say(stream, &text);
    }

    fn tell_unsaid(&mut self) {
        let missed = self.shared.notices_missed.swap(0, Ordering::Relaxed);
        if let Some(text) = self.speaker.narrator.tell_unsaid(missed) {
            self.speaker.say(Stream::Err, &text);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::{Role, Sighting};
    use super::*;
    use crate::wire::Point;
    use rtrb::{Producer, RingBuffer};
    use std::net::{Ipv4Addr, SocketAddrV4};

    /// Room of the ring of sightings.
    const ROOM: usize = 256;

    fn writer() -> (Writer, Producer<Entry>, Producer<Notice>) {
        let (sightings, entries) = RingBuffer::new(ROOM);
        let (told, notices) = RingBuffer::new(4);
        let (_, reports) = RingBuffer::new(1);
        let products =
            Products { log: None, stage_log: None, sources: Sources::application(), card: None, stage_sink: None };
        let narrator = Narrator::new(Voice { role: Role::Server, json: true });
        let speaker = Speaker { narrator, out: Box::new(io::sink()), err: Box::new(io::sink()) };
        let rings = Rings { entries, notices, reports };
        (Writer::new(rings, products, Arc::default(), None, speaker), sightings, told)
    }

    fn seen(sequence: u64) -> Entry {
        Entry::Seen(Packed::new(&Sighting::of_test(sequence, Point::T1, sequence)))
    }

    #[test]
    fn a_look_whose_lull_is_over_leaves_rows_for_the_next_but_none_behind_a_session_that_is_told_of() {
        let (mut writer, mut sightings, mut told) = writer();
        let over = End::At(Time::from_nanos(0));
        sightings.push(seen(1)).unwrap();
        assert_eq!((writer.look(false, over), writer.entries.slots()), (0, 1));
        sightings.push(Entry::Session).unwrap();
        let from = SocketAddrV4::new(Ipv4Addr::LOCALHOST, 7);
        told.push(Notice { event: Event::Refused { from }, at: Time::from_nanos(0) }).unwrap();
        assert_eq!((writer.look(false, over), writer.entries.slots()), (2, 0));
        assert!(writer.untold.is_empty());
    }

    #[test]
    fn a_ring_that_fills_is_emptied_whatever_the_hour() {
        let (mut writer, mut sightings, _told) = writer();
        let over = End::At(Time::from_nanos(0));
        (1..=ROOM as u64 / 4).for_each(|sequence| sightings.push(seen(sequence)).unwrap());
        assert!(!writer.has_room());
        assert_eq!(writer.look(false, over), ROOM / 4);
        // With time left it takes all in small pieces.
        (1..=40).for_each(|sequence| sightings.push(seen(sequence)).unwrap());
        assert_eq!(writer.look(false, End::At(realtime_now().plus(Duration::from_secs(600)))), 40);
    }
}
