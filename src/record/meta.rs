//! `FILE.meta.json`: what a reader of the log cannot see in its rows.
//!
//! Nothing in it is needed to read the log; a log without one is nanoprobe's. Written when a session starts and again
//! when it ends, each time as a new file that takes the old one's place, so that no reader sees half of one.

use super::Role;
use super::clocks::{self, ClockRecord, OffsetRecord, TaiRecord};
use super::row::HEADER;
use super::summary::Summary;
use crate::clock::{Domain, Phc, Realtime, Time, boot_id};
use crate::path::Description;
use crate::session::{Direction, Settings, ip_len};
use crate::wire::Point;
use nix::sys::utsname::uname;
use serde::Serialize;
use serde_json::Value;
use std::collections::BTreeMap;
use std::ffi::OsString;
use std::fs::{self, File};
use std::io::{self, BufRead, BufReader, Read, Seek, SeekFrom};
use std::net::SocketAddrV4;
use std::path::{Path, PathBuf};

/// The number of this form of the file. A reader that knows another one should not guess.
const FORMAT: u64 = 1;
const PROGRAM: &str = "xdprobe";
/// How many earlier sessions are kept: the file is written anew for each one.
const KEPT: usize = 1000;

/// What stamps are taken by, where, and the clock that they are read from.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct StampSource {
    /// `application`, `software` or `hardware`.
    pub source: &'static str,
    /// Where the packet was then: `process`, `hand-over`, `kernel`, `driver`, `XDP hook` or `network card`.
    #[serde(rename = "where")]
    pub place: &'static str,
    /// [`Domain::NAME`] of the clock.
    pub clock: &'static str,
    /// Which of several such clocks: the PHC's name, such as `ptp0`.
    pub device: Option<String>,
}

impl StampSource {
    /// The process's own reading of the system clock: just before it hands over, just after it has read.
    pub fn application() -> Self {
        Self { source: "application", place: "process", clock: Realtime::NAME, device: None }
    }

    /// The same on sending, where it stands in for a stamp that AF_XDP does not bring back: just before the hand-over.
    pub fn hand_over() -> Self {
        Self { place: "hand-over", ..Self::application() }
    }

    /// The kernel's receive stamp: when its stack got the packet from the driver.
    pub fn kernel() -> Self {
        Self { source: "software", place: "kernel", clock: Realtime::NAME, device: None }
    }

    /// The kernel's transmit stamp: when the driver had taken the packet, or was about to.
    pub fn driver() -> Self {
        Self { place: "driver", ..Self::kernel() }
    }

    /// The XDP program's `CLOCK_TAI`, brought to the system clock with the measured offset.
    pub fn hook() -> Self {
        Self { place: "XDP hook", ..Self::kernel() }
    }

    /// The network card's, read from its PHC `device` (`ptp0`).
    pub fn card(device: String) -> Self {
        Self { source: "hardware", place: "network card", clock: Phc::NAME, device: Some(device) }
    }
}

/// A probe schedule.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct ScheduleFacts {
    /// The file as the user named it.
    pub file: String,
    /// How many pings are in it.
    pub pings: usize,
}

/// What the run has set up for itself for the lowest latency; a flag that was not given is `None`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize)]
pub struct TuningFacts {
    /// Where the hot loop's thread is pinned.
    pub cpu: Option<usize>,
    /// Microseconds for which the kernel polls the driver.
    pub busypoll_us: Option<u32>,
    /// The hot loop's thread's priority of `SCHED_FIFO`.
    pub realtime: Option<u8>,
    /// All memory is locked while the hot loop runs.
    pub lock_memory: bool,
    /// How many µs idle CPUs may take to wake up.
    pub cpu_latency_us: Option<u32>,
    /// What the interface's interrupts are deferred by; `None` where it is left as it was found.
    pub napi: Option<crate::net::napi::Config>,
}

/// What does not change from session to session, but for description and stamps: [`super::Recorder::describe_path`].
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Facts {
    /// The network interface.
    pub interface: String,
    /// Its driver, where the kernel names one.
    pub driver: Option<String>,
    /// What the path is.
    pub description: Description,
    /// What takes the stamps of datagrams sent.
    pub sent: StampSource,
    /// What takes the stamps of datagrams received.
    pub received: StampSource,
    /// This side's schedule.
    pub schedule: Option<ScheduleFacts>,
    /// Dummies behind each ping and pong of this side.
    pub dummies: u32,
    /// What was set up for the lowest latency.
    pub tuning: TuningFacts,
    /// Of its own pings this side stamps the first and each so-manieth after it, where they travel behind PTP headers; `None`: as
    /// many as the card has room for.
    pub stamp_every: Option<u32>,
    /// The command line, program name first.
    pub command_line: Vec<String>,
}

/// One session, as the file has it.
#[derive(Debug, Clone, Serialize)]
struct Session {
    format: u64,
    program: &'static str,
    version: &'static str,
    log: String,
    /// The log of stages: its name beside this log, else as the user named it.
    stages_log: Option<String>,
    /// The how-manieth header line of the log this session's is, from 1.
    session: u64,
    /// Where that header line begins in the log, in bytes.
    log_start: u64,
    /// Where the log ended after the session, in bytes; `None` while it lasts.
    log_end: Option<u64>,
    started: String,
    started_unix_ns: u64,
    ended: Option<String>,
    ended_unix_ns: Option<u64>,
    role: Role,
    interface: String,
    driver: Option<String>,
    #[serde(flatten)]
    description: Description,
    peer: SocketAddrV4,
    direction: &'static str,
    /// Source and clock of every point that this log's rows can have in this session.
    timestamps: BTreeMap<&'static str, PointRecord>,
    /// `CLOCK_TAI` − `CLOCK_REALTIME`; `None` where it was not measured, or while the session lasts.
    tai_offset_ns: Option<i64>,
    /// Since when it is which, in ns: the first one, and each that was another one.
    tai_offsets: Vec<TaiRecord>,
    /// How often the card's clock was read beside the system's. As many as `clock_offsets`, or more.
    clock_samples: usize,
    /// Some of these readings over the session, oldest first, the first and the last among them.
    clock_offsets: Vec<OffsetRecord>,
    settings: SettingsRecord,
    schedule: Option<ScheduleFacts>,
    dummies: u32,
    tuning: TuningFacts,
    /// Only the first and every n-th of this side's pings after it are stamped and have rows. `None` where the pings travel
    /// without PTP headers and all have, or as many as the card has room for.
    stamp_every: Option<u32>,
    command_line: Vec<String>,
    hostname: Option<String>,
    kernel: Option<String>,
    summary: Option<Summary>,
}

/// A [`StampSource`] as the file has it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
struct PointRecord {
    #[serde(flatten)]
    source: StampSource,
    /// The one clock in the world that the stamps are of, such as `ptp0@` and the id of this machine's boot: stamps from two
    /// hosts subtract where this is the same, and nowhere else. `None` where the machine does not tell who it is.
    clock_id: Option<String>,
}

impl PointRecord {
    fn new(source: StampSource, boot: Option<&str>) -> Self {
        let clock = source.device.as_deref().unwrap_or(source.clock);
        let clock_id = boot.map(|boot| format!("{clock}@{boot}"));
        Self { source, clock_id }
    }
}

/// [`Settings`] in nanoprobe's units; sizes in bytes with the IP header.
#[derive(Debug, Clone, Serialize)]
struct SettingsRecord {
    count_s: u32,
    delay_us: u32,
    ping_size: u16,
    pong_size: u16,
    pong_every: u32,
    timer: &'static str,
    in_band: bool,
}

/// The meta file of one log.
#[derive(Debug)]
pub(super) struct MetaFile {
    path: PathBuf,
    log: PathBuf,
    stages_log: Option<String>,
    role: Role,
    facts: Option<Facts>,
    /// Header lines in the log before the newest session's.
    sessions: u64,
    current: Option<Session>,
    earlier: Vec<Value>,
}

impl MetaFile {
    /// Looks at what is there, before this process writes its first header. `None` for a log that is no regular file.
    /// The text is a remark for the user. `stages` is the log of stages that is written beside `log`.
    pub(super) fn open(log: &Path, stages: Option<&Path>, role: Role) -> (Option<Self>, Option<String>) {
        if !wants_meta(log) {
            return (None, None);
        }
        let path = meta_path(log);
        let (found, remark) = read_earlier(&path, log);
        let sessions = count_sessions(log, found.last().and_then(place));
        let stages_log = stages.map(|stages| {
            let name = stages.file_name().filter(|_| stages.parent() == log.parent());
            name.unwrap_or(stages.as_os_str()).to_string_lossy().into_owned()
        });
        let log = log.into();
        let file = Self { path, log, stages_log, role, facts: None, sessions, current: None, earlier: found };
        (Some(file), remark)
    }

    pub(super) fn describe(&mut self, facts: Facts) {
        self.facts = Some(facts);
    }

    pub(super) fn describe_path(&mut self, description: &Description, sent: &StampSource, received: &StampSource) {
        if let Some(facts) = &mut self.facts {
            facts.description.clone_from(description);
            facts.sent.clone_from(sent);
            facts.received.clone_from(received);
        }
    }

    /// A session stands, whose header line begins at `log_start`.
    pub(super) fn begin(
        &mut self,
        peer: SocketAddrV4,
        settings: Settings,
        now: Time<Realtime>,
        log_start: u64,
    ) -> Result<(), String> {
        let Some(facts) = self.facts.clone() else { return Ok(()) };
        if let Some(last) = self.current.take() {
            self.earlier.extend(serde_json::to_value(last).ok());
        }
        self.earlier.drain(..self.earlier.len().saturating_sub(KEPT));
        clocks::thin_out(&mut self.earlier);
        self.sessions += 1;
        let host = uname().ok();
        let text = |part: &std::ffi::OsStr| part.to_string_lossy().into_owned();
        self.current = Some(Session {
            format: FORMAT,
            program: PROGRAM,
            version: env!("CARGO_PKG_VERSION"),
            log: self.log.file_name().unwrap_or_default().to_string_lossy().into_owned(),
            stages_log: self.stages_log.clone(),
            session: self.sessions,
            log_start,
            log_end: None,
            started: rfc3339(now),
            started_unix_ns: now.as_nanos(),
            ended: None,
            ended_unix_ns: None,
            role: self.role,
            interface: facts.interface,
            driver: facts.driver,
            description: facts.description,
            peer,
            direction: settings.direction.as_str(),
            timestamps: points(self.role, settings.direction, facts.sent, facts.received),
            tai_offset_ns: None,
            tai_offsets: Vec::new(),
            clock_samples: 0,
            clock_offsets: Vec::new(),
            settings: SettingsRecord {
                count_s: settings.count_s,
                delay_us: settings.delay_us,
                ping_size: ip_len(settings.ping_padding),
                pong_size: ip_len(settings.pong_padding),
                pong_every: settings.pong_every,
                timer: settings.timer.as_str(),
                in_band: settings.in_band,
            },
            schedule: facts.schedule,
            dummies: facts.dummies,
            tuning: facts.tuning,
            stamp_every: facts.stamp_every.filter(|_| settings.ptp.is_some()),
            command_line: facts.command_line,
            hostname: host.as_ref().map(|host| text(host.nodename())),
            kernel: host.as_ref().map(|host| text(host.release())),
            summary: None,
        });
        self.write()
    }

    /// The session that stands is over; the log has `log_end` bytes.
    pub(super) fn end(
        &mut self,
        summary: &Summary,
        clocks: &ClockRecord,
        now: Time<Realtime>,
        log_end: u64,
    ) -> Result<(), String> {
        let Some(session) = &mut self.current else { return Ok(()) };
        session.tai_offset_ns = clocks.tai_offsets.last().map(|(_, offset)| *offset);
        let since =
            |&(system, offset_ns): &(Time<Realtime>, i64)| TaiRecord { system_ns: system.as_nanos(), offset_ns };
        session.tai_offsets = clocks.tai_offsets.iter().map(since).collect();
        session.clock_samples = clocks.samples.len();
        session.clock_offsets = clocks.offsets();
        session.log_end = Some(log_end);
        session.ended = Some(rfc3339(now));
        session.ended_unix_ns = Some(now.as_nanos());
        session.summary = Some(summary.clone());
        self.write()
    }

    fn write(&self) -> Result<(), String> {
        #[derive(Serialize)]
        struct Whole<'a> {
            #[serde(flatten)]
            newest: &'a Session,
            earlier_sessions: &'a [Value],
        }
        let Some(newest) = &self.current else { return Ok(()) };
        let whole = Whole { newest, earlier_sessions: &self.earlier };
        let mut text = serde_json::to_vec_pretty(&whole).expect("numbers, strings and fixed names always become JSON");
        text.push(b'\n');
        replace(&self.path, &text).map_err(|error| {
            format!("Cannot write {}: {error}: the log can do without it, but says less.", self.path.display())
        })
    }
}

/// Whether there is to be a meta file beside this log: not beside a pipe or a device, and not where /dev/stdout and its
/// like lead to regular files.
fn wants_meta(log: &Path) -> bool {
    let regular = fs::metadata(log).map_or_else(|error| error.kind() == io::ErrorKind::NotFound, |log| log.is_file());
    let folder = log.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."));
    let name_of_stream = fs::canonicalize(folder).is_ok_and(|at| at == Path::new("/dev") || at.starts_with("/proc"));
    regular && !name_of_stream
}

pub(crate) fn meta_path(log: &Path) -> PathBuf {
    let mut path = OsString::from(log);
    path.push(".meta.json");
    path.into()
}

/// Writes a file beside `path` and moves it there.
fn replace(path: &Path, text: &[u8]) -> io::Result<()> {
    let mut temporary = OsString::from(path);
    temporary.push(format!(".{}.tmp", std::process::id()));
    let written = fs::write(&temporary, text).and_then(|()| fs::rename(&temporary, path));
    if written.is_err() {
        let _ = fs::remove_file(&temporary);
    }
    written
}

/// The sessions that the file knows of, oldest first, and a remark where it is to be replaced.
fn read_earlier(path: &Path, log: &Path) -> (Vec<Value>, Option<String>) {
    let bytes = match fs::read(path) {
        Ok(bytes) => bytes,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return (Vec::new(), None),
        Err(error) => {
            let remark = format!("Cannot read {}: {error}: it will be replaced.", path.display());
            return (Vec::new(), Some(remark));
        }
    };
    match sessions_in(&bytes) {
        None => {
            let remark = format!("{} is damaged or not xdprobe's: it will be replaced.", path.display());
            (Vec::new(), Some(remark))
        }
        Some(sessions) if sessions.last().is_some_and(|newest| header_stands(log, newest)) => (sessions, None),
        Some(_) => {
            let remark = format!("{} belongs to another log: it will be replaced.", path.display());
            (Vec::new(), Some(remark))
        }
    }
}

/// The sessions in a meta file, oldest first; `None` where it is none that this version writes.
fn sessions_in(bytes: &[u8]) -> Option<Vec<Value>> {
    let mut newest: Value = serde_json::from_slice(bytes).ok()?;
    let earlier = newest.as_object_mut()?.remove("earlier_sessions")?;
    let Value::Array(mut sessions) = earlier else { return None };
    sessions.push(newest);
    let ours = |session: &Value| {
        session.get("format").and_then(Value::as_u64) == Some(FORMAT)
            && session.get("program").and_then(Value::as_str) == Some(PROGRAM)
            && place(session).is_some()
    };
    sessions.iter().all(ours).then_some(sessions)
}

/// Where a session stands in its log.
#[derive(Debug, Clone, Copy)]
struct Place {
    session: u64,
    log_start: u64,
    log_end: Option<u64>,
}

fn place(session: &Value) -> Option<Place> {
    let number = |name| session.get(name).and_then(Value::as_u64);
    Some(Place { session: number("session")?, log_start: number("log_start")?, log_end: number("log_end") })
}

/// Whether the log has a header line where the session says so.
fn header_stands(log: &Path, session: &Value) -> bool {
    let read = |start| -> io::Result<bool> {
        let mut file = File::open(log)?;
        file.seek(SeekFrom::Start(start))?;
        let mut header = [0; HEADER.len()];
        file.read_exact(&mut header)?;
        Ok(header == *HEADER.as_bytes())
    };
    place(session).is_some_and(|place| read(place.log_start).unwrap_or(false))
}

/// How many header lines the log has. `newest` is a session whose header is known to stand where it says: what lies
/// before its end need not be read again.
fn count_sessions(log: &Path, newest: Option<Place>) -> u64 {
    let count = || -> io::Result<u64> {
        let mut file = File::open(log)?;
        let length = file.metadata()?.len();
        let (known, from) = match newest {
            Some(Place { session, log_end: Some(end), .. }) if end <= length => (session, end),
            Some(Place { session, log_start, .. }) => (session, log_start + HEADER.len() as u64),
            None => (0, 0),
        };
        file.seek(SeekFrom::Start(from))?;
        Ok(known + count_headers(BufReader::with_capacity(1 << 20, file))?)
    };
    // A log that may be written but not read: its sessions before this one are not known.
    count().unwrap_or(0)
}

/// How many of the lines are header lines. Holds no line in memory, whatever its length.
fn count_headers(mut lines: impl BufRead) -> io::Result<u64> {
    let header = HEADER.as_bytes();
    let mut headers = 0;
    // How much of the header the line is so far; `None` where it is something else.
    let mut matched = Some(0);
    loop {
        let chunk = lines.fill_buf()?;
        if chunk.is_empty() {
            return Ok(headers);
        }
        let mut rest = chunk;
        while let Some(&byte) = rest.first() {
            matched = match matched {
                Some(length) if byte == header[length] => {
                    rest = &rest[1..];
                    let whole = length + 1 == header.len();
                    headers += u64::from(whole);
                    Some(if whole { 0 } else { length + 1 })
                }
                Some(_) => None,
                None => match rest.iter().position(|byte| *byte == b'\n') {
                    Some(end) => {
                        rest = &rest[end + 1..];
                        Some(0)
                    }
                    None => {
                        rest = &[];
                        None
                    }
                },
            };
        }
        let read = chunk.len();
        lines.consume(read);
    }
}

/// The points that this side's rows can have.
fn points(
    role: Role,
    direction: Direction,
    sent: StampSource,
    received: StampSource,
) -> BTreeMap<&'static str, PointRecord> {
    let boot = boot_id();
    let [sent, received] = [sent, received].map(|source| PointRecord::new(source, boot.as_deref()));
    let (out, back) = match (direction, role) {
        (Direction::Forward, Role::Client) | (Direction::Reverse, Role::Server) => (Point::T0, Point::T3),
        (Direction::Forward, Role::Server) | (Direction::Reverse, Role::Client) => (Point::T2, Point::T1),
        (Direction::Duplex, Role::Client) => (Point::T0cs, Point::T1sc),
        (Direction::Duplex, Role::Server) => (Point::T0sc, Point::T1cs),
    };
    BTreeMap::from([(out.as_str(), sent), (back.as_str(), received)])
}

/// A time as RFC 3339 has it, without what is awkward in the name of a file.
pub(super) fn file_stamp(time: Time<Realtime>) -> String {
    rfc3339(time).replace(':', "")
}

/// RFC 3339 in UTC with nine digits of nanoseconds.
fn rfc3339(time: Time<Realtime>) -> String {
    let (days, second) = (time.seconds() / 86_400, time.seconds() % 86_400);
    let (year, month, day) = civil(days);
    let (hour, minute, second) = (second / 3600, second / 60 % 60, second % 60);
    format!("{year:04}-{month:02}-{day:02}T{hour:02}:{minute:02}:{second:02}.{:09}Z", time.subsec_nanos())
}

/// Year, month and day of the Gregorian calendar, `days` after 1970-01-01.
fn civil(days: u64) -> (u64, u64, u64) {
    // Reckoned in years that begin in March, so that the leap day is a year's last; 719,468 days before 1970 began a
    // cycle of 400 such years, 146,097 days long.
    let days = days + 719_468;
    let (cycle, day_of_cycle) = (days / 146_097, days % 146_097);
    let year_of_cycle = (day_of_cycle - day_of_cycle / 1460 + day_of_cycle / 36_524 - day_of_cycle / 146_096) / 365;
    let day_of_year = day_of_cycle - (365 * year_of_cycle + year_of_cycle / 4 - year_of_cycle / 100);
    let march_month = (5 * day_of_year + 2) / 153;
    let day = day_of_year - (153 * march_month + 2) / 5 + 1;
    let month = if march_month < 10 { march_month + 3 } else { march_month - 9 };
    (cycle * 400 + year_of_cycle + u64::from(month <= 2), month, day)
}

#[cfg(test)]
mod tests;
