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
        match self.next_plain() {
            Some(row) => Ok(Some(Line::Row(row))),
            None => self.next_of_any(),
        }
    }

    /// The next line where it is a plain row; else `None`, and [`Lines::next`] says what it is. Apart from that, as a row
    /// that is handed on through memory costs as much as reading it.
    #[inline(always)]
    pub(super) fn next_plain(&mut self) -> Option<Row> {
        let (row, length) = parse_plain(&self.block[self.at..self.whole])?;
        let line = self.line;
        self.line += 1;
        self.at += length;
        Some(Row { line, ..row })
    }

    /// The next line where it is none of the plain ones, or near the end of the block.
    #[inline(never)]
    fn next_of_any(&mut self) -> io::Result<Option<Line>> {
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

/// Bytes that [`parse_plain`] looks at: the longest row that it takes has 15 digits of sequence, 6 bytes of the
/// point, and 27 behind.
const PLAIN: usize = 64;

/// What [`parse`] says of a row as nearly all are: seconds of ten digits (the years 2001 to 2255), at most 15 digits of
/// sequence, and enough bytes behind it. `None` of any other one. Eight digits are read at a time.
#[inline(always)]
fn parse_plain(bytes: &[u8]) -> Option<(Row, usize)> {
    let text: &[u8; PLAIN] = bytes.first_chunk()?;
    let (sequence, at) = match digits(text, 0)? {
        (high, 8) => {
            let (low, more) = digits(text, 8)?;
            (high * *POWERS.get(more)? + low, 8 + more)
        }
        short => short,
    };
    let (point, seconds_at) = match *text.get(at..at + 6)? {
        [b',', b't', b'0', b',', ..] => (Point::T0, at + 4),
        [b',', b't', b'1', b',', ..] => (Point::T1, at + 4),
        [b',', b't', b'2', b',', ..] => (Point::T2, at + 4),
        [b',', b't', b'3', b',', ..] => (Point::T3, at + 4),
        [b',', b't', b'0', b'c', b's', b','] => (Point::T0cs, at + 6),
        [b',', b't', b'1', b'c', b's', b','] => (Point::T1cs, at + 6),
        [b',', b't', b'0', b's', b'c', b','] => (Point::T0sc, at + 6),
        [b',', b't', b'1', b's', b'c', b','] => (Point::T1sc, at + 6),
        _ => return None,
    };
    let stamp: &[u8; 21] = text.get(seconds_at..)?.first_chunk()?;
    let ((high, high_digits), (fraction, fraction_digits)) = (digits(stamp, 0)?, digits(stamp, 11)?);
    let [tens, ones, last] = [stamp[8], stamp[9], stamp[19]].map(|byte| u64::from(byte.wrapping_sub(b'0')));
    let seconds = high * 100 + tens * 10 + ones;
    let is_stamp = high_digits == 8 && fraction_digits == 8 && tens < 10 && ones < 10 && last < 10;
    if !is_stamp || stamp[10] != b'.' || stamp[20] != b',' || seconds >= 9_000_000_000 || sequence == 0 {
        return None;
    }
    let (size, size_digits) = digits(text, seconds_at + 21)?;
    let end = seconds_at + 21 + size_digits;
    let size = u16::try_from(size).ok().filter(|_| size_digits > 0 && text.get(end) == Some(&b'\n'))?;
    let nanos = (seconds * 1_000_000_000 + fraction * 10 + last) as i64;
    Some((Row { sequence, nanos, line: 0, point, size }, end + 1))
}

/// Of the digits of a number that are its second eight bytes, what its first eight digits are to be multiplied by.
const POWERS: [u64; 8] = [1, 10, 100, 1_000, 10_000, 100_000, 1_000_000, 10_000_000];

/// The digits among the eight bytes at `at` up to the first that is none: their value, and how many there are.
#[inline(always)]
fn digits(text: &[u8], at: usize) -> Option<(u64, usize)> {
    let bytes = u64::from_le_bytes(*text.get(at..)?.first_chunk()?);
    let values = bytes ^ 0x3030_3030_3030_3030;
    // The top bit of each byte that is no digit. One may spoil the bytes behind it, which do not count then.
    let others = (values.wrapping_add(0x7676_7676_7676_7676) | values) & 0x8080_8080_8080_8080;
    let count = others.trailing_zeros() / 8;
    // As the last of eight digits, with zeros before them.
    let padded = values.checked_shl(64 - 8 * count).unwrap_or(0);
    // Neighbours are put together: eight digits, four pairs, two numbers of four digits, one of eight.
    let pairs = padded.wrapping_mul(10).wrapping_add(padded >> 8);
    let even = (pairs & 0x0000_00ff_0000_00ff).wrapping_mul(100 + (1_000_000 << 32));
    let odd = (pairs >> 16 & 0x0000_00ff_0000_00ff).wrapping_mul(1 + (10_000 << 32));
    Some((even.wrapping_add(odd) >> 32, count as usize))
}

/// The row at the beginning of `bytes`, and its length with the line feed; `None` where it is not as nanoprobe writes it.
#[inline(never)]
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
    use proptest::prelude::*;
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

    #[test]
    fn eight_bytes_are_digits_up_to_the_first_that_is_none() {
        for (text, value, count) in [
            ("12345678", 12_345_678, 8),
            ("00000009", 9, 8),
            ("99999999", 99_999_999, 8),
            ("7,t0,123", 7, 1),
            ("1234567,", 1_234_567, 7),
            (",1234567", 0, 0),
            ("/2345678", 0, 0),
            ("12:45678", 12, 2),
        ] {
            assert_eq!(digits(text.as_bytes(), 0), Some((value, count)), "{text}");
        }
        assert_eq!(digits(&[0xff; 8], 0), Some((0, 0)));
        assert_eq!(digits(b"1\x8a345678", 0), Some((1, 1)));
        assert_eq!(digits(b"1234567", 0), None);
    }

    #[test]
    fn a_plain_row_is_read_eight_digits_at_a_time() {
        let rest = "0".repeat(PLAIN);
        for row in ["1,t0,1795310380.363468815,44\n", "123456789012345,t1sc,8999999999.999999999,65535\n"] {
            let text = format!("{row}{rest}");
            let found = parse_plain(text.as_bytes());
            assert!(found.is_some() && found == parse(text.as_bytes()), "{row} {found:?}");
            assert_eq!(found.unwrap().1, row.len());
        }
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(4000))]

        /// Whatever is taken for a plain row is the row that it is.
        #[test]
        fn plain_rows_are_rows(
            sequence in prop_oneof![0..u64::MAX, 0..1_000_000_000_u64],
            point in 0..8_usize,
            seconds in prop_oneof![0..20_000_000_000_u64, 1_000_000_000..2_000_000_000_u64],
            fraction in 0..1_000_000_000_u32,
            size in 0..100_000_u32,
            changes in prop::collection::vec((0..60_usize, any::<u8>()), 0..2),
        ) {
            let point = POINTS[point].as_str();
            let mut text = format!("{sequence},{point},{seconds}.{fraction:09},{size}\n").into_bytes();
            let length = text.len();
            changes.into_iter().filter(|(at, _)| *at < length).for_each(|(at, byte)| text[at] = byte);
            text.resize(length + PLAIN, b'7');
            let (plain, whole) = (parse_plain(&text), parse(&text));
            prop_assert!(plain.is_none() || plain == whole, "{plain:?} {whole:?}");
        }
    }
}
