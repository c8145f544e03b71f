//! Where the sessions of a log stand, and what kind of log it is: header lines divide a log that was appended to.

use super::error::ReportError;
use super::progress::Progress;
use super::rows::{Line, Lines};
use crate::record::{HEADER, STAGES_HEADER};
use crate::wire::Point;
use std::fs::File;
use std::io::{self, Read, Seek, SeekFrom};
use std::path::{Path, PathBuf};

/// Bytes searched at once.
const BLOCK: usize = 1 << 20;

/// Where a session stands in its log.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Place {
    /// From 1.
    pub(super) session: u64,
    /// Where its header line begins, in bytes; 0 where the log begins with rows.
    pub(super) start: u64,
    /// Where its rows begin.
    pub(super) rows: u64,
    /// Where the next session, or the file, ends it.
    pub(super) end: u64,
    /// The line that `rows` is the beginning of, from 1.
    pub(super) line: u64,
}

/// One log, and the session of it that is reported.
#[derive(Debug)]
pub(super) struct Log {
    pub(super) path: PathBuf,
    pub(super) place: Place,
    /// How many sessions it holds.
    pub(super) sessions: u64,
    /// The last session has no rows, so that this one was taken.
    pub(super) is_before_empty: bool,
    pub(super) kind: Kind,
}

/// Whose points the rows of a log are.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    /// t0 and t3.
    Pinging,
    /// t1 and t2.
    Echoing,
    /// t0 to t3: both sides wrote into one file.
    BothSides,
    /// t0cs and t1sc.
    DuplexClient,
    /// t0sc and t1cs.
    DuplexServer,
    /// All four of them.
    DuplexBoth,
    /// There are no rows.
    Empty,
}

impl Kind {
    /// Of a log that has rows of these points.
    const fn of(points: u8) -> Self {
        const PINGING: u8 = bit(Point::T0) | bit(Point::T3);
        const ECHOING: u8 = bit(Point::T1) | bit(Point::T2);
        const CLIENT: u8 = bit(Point::T0cs) | bit(Point::T1sc);
        const SERVER: u8 = bit(Point::T0sc) | bit(Point::T1cs);
        match (points & PINGING != 0, points & ECHOING != 0, points & CLIENT != 0, points & SERVER != 0) {
            (true, false, ..) => Self::Pinging,
            (false, true, ..) => Self::Echoing,
            (true, true, ..) => Self::BothSides,
            (.., true, false) => Self::DuplexClient,
            (.., false, true) => Self::DuplexServer,
            (.., true, true) => Self::DuplexBoth,
            _ => Self::Empty,
        }
    }

    /// The points that its rows can have, a bit each.
    pub(super) const fn points(self) -> u8 {
        match self {
            Self::Pinging => bit(Point::T0) | bit(Point::T3),
            Self::Echoing => bit(Point::T1) | bit(Point::T2),
            Self::BothSides => Self::Pinging.points() | Self::Echoing.points(),
            Self::DuplexClient => bit(Point::T0cs) | bit(Point::T1sc),
            Self::DuplexServer => bit(Point::T0sc) | bit(Point::T1cs),
            Self::DuplexBoth => Self::DuplexClient.points() | Self::DuplexServer.points(),
            Self::Empty => 0,
        }
    }
}

/// A bit of its own for each point.
pub(super) const fn bit(point: Point) -> u8 {
    1 << point as u8
}

/// Finds session `wanted` of a log, or, where that is `None`, the last that has rows.
pub(super) fn survey(path: &Path, wanted: Option<u64>, progress: &Progress) -> Result<Log, ReportError> {
    let failed = |answer| ReportError::Read { path: path.into(), answer };
    let mut file = File::open(path).map_err(failed)?;
    let status = file.metadata().map_err(failed)?;
    if !status.is_file() {
        return Err(ReportError::NotAFile { path: path.into(), is_folder: status.is_dir() });
    }
    let (sessions, chosen, is_before_empty) = places(&mut file, wanted, progress).map_err(failed)?;
    if sessions == 0 {
        return Err(ReportError::NoLog { path: path.into(), what: what_it_is(&mut file).map_err(failed)? });
    }
    let Some(place) = chosen else {
        return Err(ReportError::NoSession { path: path.into(), wanted: wanted.unwrap_or(sessions), sessions });
    };
    let mut log = Log { path: path.into(), place, sessions, is_before_empty, kind: Kind::Empty };
    log.kind = kind(&log).map_err(failed)?;
    Ok(log)
}

/// How many sessions there are; the wanted one; and whether that is not the last because that one is empty.
fn places(file: &mut File, wanted: Option<u64>, progress: &Progress) -> io::Result<(u64, Option<Place>, bool)> {
    let length = file.metadata()?.len();
    let mut found = Found { wanted, ..Found::default() };
    let first_row = has_row_before_header(file)?;
    if first_row {
        found.open(Place { session: 0, start: 0, rows: 0, end: length, line: 1 });
    }
    let header = HEADER.trim_end().as_bytes();
    let finder = memchr::memmem::Finder::new(header);
    let mut block = vec![0; BLOCK];
    // What a block keeps of the one before, so that no header is cut in two: all of one, and what may stand behind it.
    let overlap = header.len() + 1;
    let (mut filled, mut offset, mut line) = (0_usize, 0_u64, 1_u64);
    file.seek(SeekFrom::Start(0))?;
    loop {
        let read = read_some(file, &mut block[filled..])?;
        let is_end = read == 0;
        filled += read;
        progress.advance(read as u64);
        // Only what begins before this can be a header that is seen whole.
        let safe = if is_end { filled } else { filled.saturating_sub(overlap) };
        let mut counted = 0;
        let mut from = 0;
        while let Some(at) = finder.find(&block[from..filled]).map(|at| at + from).filter(|at| *at < safe) {
            let after = at + header.len();
            from = after;
            let ending = match block[after..filled] {
                [b'\n', ..] => 1,
                [b'\r', b'\n', ..] => 2,
                [] => 0,
                _ => continue,
            };
            line += line_feeds(&block[counted..after + ending]);
            counted = after + ending;
            let start = offset + at as u64;
            found.open(Place { session: 0, start, rows: offset + counted as u64, end: length, line });
        }
        let keep_from = safe.max(counted);
        line += line_feeds(&block[counted..keep_from]);
        block.copy_within(keep_from..filled, 0);
        offset += keep_from as u64;
        filled -= keep_from;
        if is_end {
            return Ok(found.finish(length));
        }
    }
}

/// The sessions found so far: two of them are kept.
#[derive(Debug, Default)]
struct Found {
    wanted: Option<u64>,
    count: u64,
    /// The newest.
    last: Option<Place>,
    /// The one that is asked for, or the newest with something in it.
    chosen: Option<Place>,
}

impl Found {
    fn open(&mut self, place: Place) {
        self.close(place.start);
        self.count += 1;
        self.last = Some(Place { session: self.count, ..place });
    }

    /// The newest session ends at `end`.
    fn close(&mut self, end: u64) {
        let Some(mut last) = self.last.take() else { return };
        last.end = end;
        let is_wanted = match self.wanted {
            Some(wanted) => wanted == last.session,
            None => last.end > last.rows,
        };
        if is_wanted {
            self.chosen = Some(last);
        }
    }

    fn finish(mut self, length: u64) -> (u64, Option<Place>, bool) {
        let last = self.last.map(|last| Place { end: length, ..last });
        self.close(length);
        if self.wanted.is_some() {
            return (self.count, self.chosen, false);
        }
        // Where no session has a row, the last of them is as good as any.
        let chosen = self.chosen.or(last);
        let is_before_empty = chosen.zip(last).is_some_and(|(chosen, last)| chosen.session != last.session);
        (self.count, chosen, is_before_empty)
    }
}

/// Whether the log begins with a session without a header line: a row stands before the first one.
fn has_row_before_header(file: &mut File) -> io::Result<bool> {
    let mut start = [0; HEADER.len()];
    file.seek(SeekFrom::Start(0))?;
    let read = read_some(file, &mut start)?;
    let header = HEADER.as_bytes();
    if read > 0 && start[..read] == header[..read] {
        // Cut off inside its header line, it is a log nevertheless, without rows.
        return Ok(read < header.len() - 1);
    }
    let length = file.metadata()?.len();
    let mut lines = Lines::new(file.try_clone()?, 0, length.min(BLOCK as u64), 1)?;
    let mut is_row = false;
    while let Some(line) = lines.next()? {
        if matches!(line, Line::Row(_)) {
            is_row = true;
            break;
        }
    }
    Ok(is_row)
}

/// Reads until the room is full or the file ends.
fn read_some(file: &mut File, room: &mut [u8]) -> io::Result<usize> {
    let mut filled = 0;
    while filled < room.len() {
        match file.read(&mut room[filled..]) {
            Ok(0) => break,
            Ok(read) => filled += read,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
    Ok(filled)
}

fn line_feeds(bytes: &[u8]) -> u64 {
    memchr::memchr_iter(b'\n', bytes).count() as u64
}

/// Which side wrote the session: by the points of its first rows, of which damaged ones must not be the judge.
fn kind(log: &Log) -> io::Result<Kind> {
    /// Rows looked at.
    const ROWS: u64 = 20_000;
    let file = File::open(&log.path)?;
    let mut lines = Lines::new(file, log.place.rows, log.place.end, 1)?;
    let mut counts = [0_u64; 8];
    let mut rows = 0;
    while rows < ROWS
        && let Some(line) = lines.next()?
    {
        if let Line::Row(row) = line {
            counts[row.point as usize] += 1;
            rows += 1;
        }
    }
    // A point that hardly one row has is damage: an eighth of the most frequent one's is the least that counts, of either
    // side or direction.
    let most = counts.iter().max().copied().unwrap_or_default();
    let of = |kind: Kind| -> u64 {
        let own = (0..8).filter(|point| kind.points() & (1 << point) != 0);
        own.map(|point| counts[point]).sum()
    };
    let kinds = [Kind::Pinging, Kind::Echoing, Kind::DuplexClient, Kind::DuplexServer];
    let duplex = of(Kind::DuplexBoth) > of(Kind::BothSides);
    let points = kinds
        .into_iter()
        .filter(|kind| (kind.points() & Kind::DuplexBoth.points() != 0) == duplex)
        .filter(|kind| of(*kind) * 8 >= most)
        .filter(|kind| of(*kind) > 0)
        .fold(0, |points, kind| points | kind.points());
    Ok(Kind::of(points))
}

/// What a file without a log in it may be.
fn what_it_is(file: &mut File) -> io::Result<String> {
    let mut start = [0; 512];
    file.seek(SeekFrom::Start(0))?;
    let read = read_some(file, &mut start)?;
    let start = &start[..read];
    Ok(match start {
        [] => "it is empty".to_owned(),
        [0x1f, 0x8b, ..] => "it is compressed (gzip): unpack it first".to_owned(),
        [0x28, 0xb5, 0x2f, 0xfd, ..] => "it is compressed (zstd): unpack it first".to_owned(),
        [0xfd, b'7', b'z', b'X', b'Z', ..] => "it is compressed (xz): unpack it first".to_owned(),
        [0xd4, 0xc3, 0xb2, 0xa1, ..] | [0xa1, 0xb2, 0xc3, 0xd4, ..] | [0x0a, 0x0d, 0x0d, 0x0a, ..] => {
            "it is a capture (pcap), and logs are what --log writes".to_owned()
        }
        _ if start.starts_with(STAGES_HEADER.trim_end().as_bytes()) => {
            "it is a log of stages: give it with --stages, and the log of --log here".to_owned()
        }
        [b'{', ..] => "it is JSON, perhaps the meta file of a log: name the log itself".to_owned(),
        _ => {
            let line = start.split(|byte| *byte == b'\n').next().unwrap_or_default();
            let shown: String = String::from_utf8_lossy(line).chars().take(60).collect();
            format!("it begins with {shown:?}, and a log with {:?}", HEADER.trim_end())
        }
    })
}
