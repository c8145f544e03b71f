//! The lines of one session of a log, in big blocks: what each says, or why it says nothing.
//!
//! Memory is one block, whatever the length of the log or of a line. Whether rows follow each other sensibly is not looked
//! at here: `source` does.

use crate::record::HEADER;
use crate::wire::Point;
use std::fs::File;
use std::io::{self, Read, Seek, SeekFrom};

/// Bytes read at once.
const BLOCK: usize = 1 << 20;
/// nanoprobe writes nine digits of nanoseconds.
const FRACTION_DIGITS: usize = 9;

/// One row of a log.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Row {
    pub(super) sequence: u64,
    /// ns since the epoch of the stamp's own clock.
    pub(super) nanos: i64,
    /// From 1, of the whole file.
    pub(super) line: u64,
    pub(super) point: Point,
    /// Bytes of the IP packet.
    pub(super) size: u16,
}

/// What is wrong with a row.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Fault {
    /// The log, or this session of it, ends in the middle of a row.
    CutOff,
    /// Not `sequence,point,seconds.nanoseconds,size`, or a number that cannot be.
    Malformed,
    /// No point of nanoprobe's log.
    UnknownPoint,
    /// A point that the log of this side has not in this direction.
    ForeignPoint,
    /// A stamp of 0: no clock showed that.
    NoTime,
    /// At this point an earlier packet has a later stamp.
    Backwards,
    /// The packets behind it have earlier stamps, or there are none that confirm a stamp so much later than all before.
    Ahead,
    /// The first stamp, and all behind it are later than any delay makes them.
    Behind,
    /// A sequence far from those around it.
    StraySequence,
}

impl Fault {
    /// For a list of damaged rows.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::CutOff => "cut off",
            Self::Malformed => "not a row",
            Self::UnknownPoint => "unknown point",
            Self::ForeignPoint => "a point of another side or direction",
            Self::NoTime => "a stamp of 0",
            Self::Backwards => "time runs backwards",
            Self::Ahead => "ahead of those that follow",
            Self::Behind => "far behind those that follow",
            Self::StraySequence => "a sequence far from its neighbours",
        }
    }
}

/// What a line is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Line {
    Row(Row),
    Damaged { line: u64, fault: Fault },
}

/// The lines of a part of a file.
#[derive(Debug)]
pub(super) struct Lines {
    file: File,
    block: Vec<u8>,
    /// What of `block` was read and not yet returned.
    at: usize,
    filled: usize,
    /// Where in `block` the last whole line ends.
    whole: usize,
    /// Bytes of the part that were not yet read.
    left: u64,
    /// The next line, from 1.
    line: u64,
}

impl Lines {
    /// Of `file` from byte `start` to `end`; the first of these lines is number `line` of the file.
    pub(super) fn new(mut file: File, start: u64, end: u64, line: u64) -> io::Result<Self> {
        file.seek(SeekFrom::Start(start))?;
        let left = end.saturating_sub(start);
        let block = vec![0; BLOCK.min(left as usize + 1)];
        Ok(Self { file, block, at: 0, filled: 0, whole: 0, left, line })
    }

    /// Bytes that are still to come.
    pub(super) fn left(&self) -> u64 {
        self.left + (self.filled - self.at) as u64
    }

    /// The next line; `None` at the end. Empty lines and header lines are none.
    #[inline]
    pub(super) fn next(&mut self) -> io::Result<Option<Line>> {
        loop {
            if self.at == self.whole && !self.refill()? {
                return Ok(None);
            }
            if self.at == self.whole {
                // What is left has no line feed: a row that was cut off, or a line longer than any row.
                let line = self.line;
                let blank = self.skip_line()?;
                if !blank {
                    return Ok(Some(Line::Damaged { line, fault: Fault::CutOff }));
                }
                continue;
            }
            let line = self.line;
            self.line += 1;
            match parse(&self.block[self.at..self.whole]) {
                Some((mut row, length)) => {
                    self.at += length;
                    row.line = line;
                    return Ok(Some(Line::Row(row)));
                }
                None => {
                    if let Some(found) = self.other(line) {
                        return Ok(Some(found));
                    }
                }
            }
        }
    }

    /// A line that is not as nanoprobe writes a row; `None` where it is none that counts.
    #[cold]
    fn other(&mut self, line: u64) -> Option<Line> {
        let rest = &self.block[self.at..self.whole];
        let length = memchr::memchr(b'\n', rest).unwrap_or(rest.len());
        let text = &rest[..length];
        let text = text.strip_suffix(b"\r").unwrap_or(text);
        self.at += (length + 1).min(rest.len());
        if text.is_empty() || text == HEADER.trim_end().as_bytes() {
            return None;
        }
        // With the carriage return of another system's editor.
        let mut plain = text.to_vec();
        plain.push(b'\n');
        Some(match parse(&plain) {
            Some((row, _)) => Line::Row(Row { line, ..row }),
            None => Line::Damaged { line, fault: fault(text) },
        })
    }

    /// Reads on. Returns whether there is anything.
    fn refill(&mut self) -> io::Result<bool> {
        self.block.copy_within(self.at..self.filled, 0);
        (self.filled, self.at) = (self.filled - self.at, 0);
        while self.filled < self.block.len() && self.left > 0 {
            let room = (self.block.len() - self.filled).min(usize::try_from(self.left).unwrap_or(usize::MAX));
            let read = match self.file.read(&mut self.block[self.filled..self.filled + room]) {
                Ok(read) => read,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
                Err(error) => return Err(error),
            };
            if read == 0 {
                // It became shorter meanwhile.
                self.left = 0;
            }
            self.filled += read;
            self.left -= read as u64;
        }
        self.whole = memchr::memrchr(b'\n', &self.block[..self.filled]).map_or(0, |end| end + 1);
        Ok(self.filled > 0)
    }

    /// Goes behind the next line feed, or to the end. Returns whether all of it was blank.
    #[cold]
    fn skip_line(&mut self) -> io::Result<bool> {
        self.line += 1;
        let mut blank = true;
        loop {
            let rest = &self.block[self.at..self.filled];
            let end = memchr::memchr(b'\n', rest);
            let skipped = &rest[..end.unwrap_or(rest.len())];
            blank &= skipped.iter().all(u8::is_ascii_whitespace);
            self.at += end.map_or(rest.len(), |end| end + 1);
            if end.is_some() || !self.refill()? {
                return Ok(blank);
            }
        }
    }
}

/// The row at the beginning of `bytes`, and its length with the line feed; `None` where it is not as nanoprobe writes it.
#[inline]
fn parse(bytes: &[u8]) -> Option<(Row, usize)> {
    let (sequence, at) = number(bytes, 0)?;
    let rest = bytes.get(at..)?;
    let (point, length) = match *rest {
        [b',', b't', b'0', b',', ..] => (Point::T0, 4),
        [b',', b't', b'1', b',', ..] => (Point::T1, 4),
        [b',', b't', b'2', b',', ..] => (Point::T2, 4),
        [b',', b't', b'3', b',', ..] => (Point::T3, 4),
        [b',', b't', b'0', b'c', b's', b',', ..] => (Point::T0cs, 6),
        [b',', b't', b'1', b'c', b's', b',', ..] => (Point::T1cs, 6),
        [b',', b't', b'0', b's', b'c', b',', ..] => (Point::T0sc, 6),
        [b',', b't', b'1', b's', b'c', b',', ..] => (Point::T1sc, 6),
        _ => return None,
    };
    let (seconds, dot) = number(bytes, at + length)?;
    let (fraction, comma) = number(bytes, dot + 1)?;
    let (size, end) = number(bytes, comma + 1)?;
    let is_whole = bytes.get(dot) == Some(&b'.')
        && comma == dot + 1 + FRACTION_DIGITS
        && bytes.get(comma) == Some(&b',')
        && bytes.get(end) == Some(&b'\n');
    // Control messages, which bear 0, are not logged; and nobody sends 2^63 pings.
    if !is_whole || sequence == 0 || sequence > i64::MAX as u64 {
        return None;
    }
    let nanos = i64::try_from(seconds).ok()?.checked_mul(1_000_000_000)?.checked_add(fraction as i64)?;
    Some((Row { sequence, nanos, line: 0, point, size: u16::try_from(size).ok()? }, end + 1))
}

/// The decimal number at `at`, and where it ends. At most 19 digits: those that 64 bits have room for.
#[inline]
fn number(bytes: &[u8], at: usize) -> Option<(u64, usize)> {
    let mut value = 0_u64;
    let mut end = at;
    while let Some(digit) = bytes.get(end).map(|byte| byte.wrapping_sub(b'0')).filter(|digit| *digit < 10) {
        value = value.wrapping_mul(10).wrapping_add(digit.into());
        end += 1;
    }
    (1..=19).contains(&(end - at)).then_some((value, end))
}

/// What is wrong with a line that is no row.
fn fault(text: &[u8]) -> Fault {
    let mut columns = text.split(|byte| *byte == b',');
    let sequence = columns.next().unwrap_or_default();
    let is_point = |point: &[u8]| POINTS.iter().any(|known| known.as_str().as_bytes() == point);
    match columns.next() {
        Some(point) if number(sequence, 0).is_some_and(|(_, end)| end == sequence.len()) && columns.count() == 2 => {
            if is_point(point) {
                Fault::Malformed
            } else {
                Fault::UnknownPoint
            }
        }
        _ => Fault::Malformed,
    }
}

/// All points, in the order of their discriminants.
pub(super) const POINTS: [Point; 8] =
    [Point::T0, Point::T1, Point::T2, Point::T3, Point::T0cs, Point::T1cs, Point::T0sc, Point::T1sc];

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Write;

    fn lines(text: &[u8]) -> Vec<Line> {
        let mut file = tempfile::tempfile().unwrap();
        file.write_all(text).unwrap();
        let mut lines = Lines::new(file, 0, text.len() as u64, 1).unwrap();
        std::iter::from_fn(|| lines.next().unwrap()).collect()
    }

    fn row(sequence: u64, point: Point, nanos: i64, size: u16, line: u64) -> Line {
        Line::Row(Row { sequence, nanos, line, point, size })
    }

    #[test]
    fn rows_are_what_the_log_writes() {
        let text = b"seq,timestamp-idx,timestamp,size\n1,t0,1795310380.363468815,44\n\n2,t1sc,0.000000001,2092\r\n";
        assert_eq!(lines(text), [row(1, Point::T0, 1_795_310_380_363_468_815, 44, 2), row(2, Point::T1sc, 1, 2092, 4)]);
    }

    #[test]
    fn what_is_no_row_is_counted_with_its_line() {
        for (text, fault) in [
            ("1,t0,1.00000000,44\n", Fault::Malformed),
            ("1,t0,1.0000000000,44\n", Fault::Malformed),
            ("0,t0,1.000000000,44\n", Fault::Malformed),
            ("x,t0,1.000000000,44\n", Fault::Malformed),
            ("1,t0,1.000000000,70000\n", Fault::Malformed),
            ("1,t0,1.000000000,44,\n", Fault::Malformed),
            ("1,t0,-1.000000000,44\n", Fault::Malformed),
            ("1,t0,99999999999.000000000,44\n", Fault::Malformed),
            ("1,t4,1.000000000,44\n", Fault::UnknownPoint),
            ("1,,1.000000000,44\n", Fault::UnknownPoint),
            ("1,t0\n", Fault::Malformed),
            ("\0\0\0\n", Fault::Malformed),
            ("1,t0,1.000000000,44", Fault::CutOff),
        ] {
            assert_eq!(lines(text.as_bytes()), [Line::Damaged { line: 1, fault }], "{text:?}");
        }
    }

    #[test]
    fn a_line_longer_than_a_block_is_one_damaged_row() {
        let mut text = vec![b'7'; 3 * BLOCK];
        text.extend_from_slice(b"\n5,t3,2.000000000,60\n");
        assert_eq!(
            lines(&text),
            [Line::Damaged { line: 1, fault: Fault::CutOff }, row(5, Point::T3, 2_000_000_000, 60, 2)]
        );
    }

    #[test]
    fn rows_across_blocks_are_whole() {
        let text: String = (1..=100_000).map(|n| format!("{n},t0,{n}.000000000,44\n")).collect();
        assert!(text.len() > 2 * BLOCK);
        let rows = lines(text.as_bytes());
        assert_eq!(rows.len(), 100_000);
        for (index, line) in rows.into_iter().enumerate() {
            let n = index as u64 + 1;
            assert_eq!(line, row(n, Point::T0, n as i64 * 1_000_000_000, 44, n));
        }
    }
}
