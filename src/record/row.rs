//! One row of the log, when a ping or pong was seen, byte for byte as nanoprobe writes it; and one of the log of stages.

use super::sighting::Sighting;
use crate::clock::{Domain, Stamp, Time};
use crate::wire::Point;

/// The line at the top of a log, and before every later session in it.
pub const HEADER: &str = "seq,timestamp-idx,timestamp,size\n";

/// Room for the longest row: 20 digits, 4 letters, 20 digits of seconds, 9 of nanoseconds, 5 of size, 5 separators.
pub(super) const MAX_ROW_LEN: usize = 64;

/// The line at the top of a log of stages, and before every later session in it.
pub const STAGES_HEADER: &str = "seq,point,size,queue,t_app,t_sw,t_hw,hw_clock\n";

/// Room for the longest row of stages without the name of its clock: 20 digits, 4 letters, 5 digits of size, 10 of the
/// queue, three times 20 of nanoseconds, 7 separators.
const MAX_STAGES_LEN: usize = 112;

/// A ping or pong seen at one point.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Row {
    /// The sequence of the ping or pong.
    pub sequence: u64,
    /// Where it was seen.
    pub point: Point,
    /// When, in ns since the epoch of the stamp's own clock; which clock that is stands in the meta file.
    pub stamp_nanos: u64,
    /// Bytes of the IP packet.
    pub size: u16,
}

impl Row {
    /// The row of a stamp of any clock. `size` is in bytes with the IP header.
    pub const fn new<C: Domain>(sequence: u64, point: Point, stamp: Time<C>, size: u16) -> Self {
        Self { sequence, point, stamp_nanos: stamp.as_nanos(), size }
    }

    /// The row of one of a sighting's stamps.
    pub(super) const fn of(sighting: &Sighting, stamp: Stamp) -> Self {
        let Sighting { sequence, point, size, .. } = *sighting;
        Self { sequence, point, stamp_nanos: stamp.as_nanos(), size }
    }

    /// Appends `sequence,point,seconds.nanoseconds,size` and a line feed, nine digits of nanoseconds.
    pub fn append_to(&self, out: &mut Vec<u8>) {
        out.extend_from_slice(RowText::new().of(self));
    }
}

/// Where a row's sequence ends, right before its point, and room for all of a row with what is written behind its end.
const SEQUENCE_END: usize = 24;
const ROOM: usize = 96;

/// Puts rows into words. One row has the second and the size of the one before, mostly: those are kept as text, and everything is
/// written in pieces of fixed lengths, of which what is too much is overwritten by the next.
#[derive(Debug)]
pub(super) struct RowText {
    bytes: [u8; ROOM],
    seconds: u64,
    /// The seconds and a point, and how long that is.
    seconds_text: ([u8; 16], usize),
    size: u16,
    /// A comma, the size and a line feed, and how long that is.
    size_text: ([u8; 8], usize),
}

impl RowText {
    pub(super) fn new() -> Self {
        let (seconds_text, size_text) = (text_of(b"", 0, b"."), text_of(b",", 0, b"\n"));
        Self { bytes: [0; ROOM], seconds: 0, seconds_text, size: 0, size_text }
    }

    /// `sequence,point,seconds.nanoseconds,size` and a line feed, nine digits of nanoseconds.
    #[inline]
    pub(super) fn of(&mut self, row: &Row) -> &[u8] {
        let (seconds, nanos) = (row.stamp_nanos / 1_000_000_000, (row.stamp_nanos % 1_000_000_000) as u32);
        if seconds != self.seconds {
            (self.seconds, self.seconds_text) = (seconds, text_of(b"", seconds, b"."));
        }
        if row.size != self.size {
            (self.size, self.size_text) = (row.size, text_of(b",", row.size.into(), b"\n"));
        }
        let bytes = &mut self.bytes;
        let mut start = SEQUENCE_END;
        let mut sequence = row.sequence;
        while sequence >= 100 {
            start -= 2;
            put_pair(bytes, start, (sequence % 100) as u32);
            sequence /= 100;
        }
        start -= 2;
        put_pair(bytes, start, sequence as u32);
        start += usize::from(sequence < 10);
        let (point, len) = point_text(row.point);
        bytes[SEQUENCE_END..SEQUENCE_END + point.len()].copy_from_slice(point);
        let mut at = SEQUENCE_END + len;
        let (text, len) = &self.seconds_text;
        bytes[at..at + text.len()].copy_from_slice(text);
        at += len;
        // Divided as a tree, not one digit after the other: the processor does several at once.
        let (high, low) = (nanos / 10_000, nanos % 10_000);
        bytes[at] = b'0' + (high / 10_000) as u8;
        for (behind, pair) in [(1, high % 10_000 / 100), (3, high % 100), (5, low / 100), (7, low % 100)] {
            put_pair(bytes, at + behind, pair);
        }
        at += 9;
        let (text, len) = &self.size_text;
        bytes[at..at + text.len()].copy_from_slice(text);
        &bytes[start..at + len]
    }
}

/// A number between two texts, and how long it all is.
fn text_of<const N: usize>(before: &[u8], number: u64, behind: &[u8]) -> ([u8; N], usize) {
    let mut text = Backwards::<N>::new();
    text.put(behind);
    text.put_number(number);
    text.put(before);
    let (start, mut bytes) = (text.start, text.bytes);
    bytes.rotate_left(start);
    (bytes, N - start)
}

/// A point between two commas, and how long that is.
#[inline]
const fn point_text(point: Point) -> (&'static [u8; 8], usize) {
    match point {
        Point::T0 => (b",t0,    ", 4),
        Point::T1 => (b",t1,    ", 4),
        Point::T2 => (b",t2,    ", 4),
        Point::T3 => (b",t3,    ", 4),
        Point::T0cs => (b",t0cs,  ", 6),
        Point::T1cs => (b",t1cs,  ", 6),
        Point::T0sc => (b",t0sc,  ", 6),
        Point::T1sc => (b",t1sc,  ", 6),
    }
}

/// Two digits at this place.
#[inline]
fn put_pair(bytes: &mut [u8; ROOM], at: usize, value: u32) {
    let pair = 2 * value as usize;
    bytes[at..at + 2].copy_from_slice(&PAIRS[pair..pair + 2]);
}

/// Appends a row of the log of stages: times as whole nanoseconds since the epoch of their clock, nothing where there is
/// no stamp or, for `queue`, no AF_XDP socket. `hw_clock` names the card's clock.
pub(super) fn append_stages(sighting: &Sighting, hw_clock: &str, out: &mut Vec<u8>) {
    let mut text = Backwards::<MAX_STAGES_LEN>::new();
    text.put(b",");
    text.put_optional(sighting.hardware.map(Time::as_nanos));
    text.put(b",");
    text.put_optional(sighting.software.map(Time::as_nanos));
    text.put(b",");
    text.put_number(sighting.application.as_nanos());
    text.put(b",");
    text.put_optional(sighting.queue.map(u64::from));
    text.put(b",");
    text.put_number(sighting.size.into());
    text.put(b",");
    text.put(sighting.point.as_str().as_bytes());
    text.put(b",");
    text.put_number(sighting.sequence);
    out.extend_from_slice(&text.bytes[text.start..]);
    if sighting.hardware.is_some() {
        out.extend_from_slice(hw_clock.as_bytes());
    }
    out.push(b'\n');
}

/// `00` to `99`, one after the other.
const PAIRS: [u8; 200] = {
    let mut pairs = [0; 200];
    let mut value = 0;
    while value < 100 {
        pairs[2 * value] = b'0' + (value / 10) as u8;
        pairs[2 * value + 1] = b'0' + (value % 10) as u8;
        value += 1;
    }
    pairs
};

/// A text that grows towards its front.
struct Backwards<const ROOM: usize> {
    bytes: [u8; ROOM],
    start: usize,
}

impl<const ROOM: usize> Backwards<ROOM> {
    const fn new() -> Self {
        Self { bytes: [0; ROOM], start: ROOM }
    }

    fn put(&mut self, text: &[u8]) {
        let end = self.start;
        self.start -= text.len();
        self.bytes[self.start..end].copy_from_slice(text);
    }

    fn put_pair(&mut self, value: usize) {
        self.put(&PAIRS[2 * value..2 * value + 2]);
    }

    fn put_number(&mut self, mut value: u64) {
        while value >= 100 {
            self.put_pair((value % 100) as usize);
            value /= 100;
        }
        match value {
            0..10 => self.put(&[b'0' + value as u8]),
            _ => self.put_pair(value as usize),
        }
    }

    fn put_optional(&mut self, value: Option<u64>) {
        if let Some(value) = value {
            self.put_number(value);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::clock::{Phc, Realtime};
    use proptest::prelude::*;

    fn text(row: Row) -> String {
        let mut out = Vec::new();
        row.append_to(&mut out);
        String::from_utf8(out).unwrap()
    }

    #[test]
    fn a_row_is_nanoprobes() {
        let stamp = Time::<Realtime>::from_nanos(1_795_310_380_363_468_815);
        assert_eq!(text(Row::new(1, Point::T0cs, stamp, 44)), "1,t0cs,1795310380.363468815,44\n");
        let stamp = Time::<Phc>::from_nanos(5);
        assert_eq!(text(Row::new(100, Point::T3, stamp, 2092)), "100,t3,0.000000005,2092\n");
    }

    #[test]
    fn the_longest_row_fits() {
        let row = Row { sequence: u64::MAX, point: Point::T1sc, stamp_nanos: u64::MAX, size: u16::MAX };
        assert_eq!(text(row), "18446744073709551615,t1sc,18446744073.709551615,65535\n");
    }

    fn stages(sighting: &Sighting) -> String {
        let mut out = Vec::new();
        append_stages(sighting, "ptp0", &mut out);
        String::from_utf8(out).unwrap()
    }

    #[test]
    fn a_row_of_stages_has_nothing_where_there_is_nothing() {
        let seen = Sighting {
            sequence: 7,
            point: Point::T1,
            size: 44,
            queue: Some(3),
            application: Time::from_nanos(1_750_785_880_008_711_082),
            software: Some(Time::from_nanos(1_750_785_880_008_710_000)),
            hardware: Some(Time::from_nanos(0)),
        };
        assert_eq!(stages(&seen), "7,t1,44,3,1750785880008711082,1750785880008710000,0,ptp0\n");
        let bare = Sighting { queue: None, software: None, hardware: None, ..seen };
        assert_eq!(stages(&bare), "7,t1,44,,1750785880008711082,,,\n");
        let columns = |line: &str| line.split(',').count();
        assert_eq!(
            (columns(&stages(&seen)), columns(&stages(&bare))),
            (columns(STAGES_HEADER), columns(STAGES_HEADER))
        );
    }

    #[test]
    fn the_longest_row_of_stages_fits() {
        let most = Some(u64::MAX);
        let seen = Sighting {
            sequence: u64::MAX,
            point: Point::T0cs,
            size: u16::MAX,
            queue: Some(u32::MAX),
            application: Time::from_nanos(u64::MAX),
            software: most.map(Time::from_nanos),
            hardware: most.map(Time::from_nanos),
        };
        let line = stages(&seen);
        assert_eq!(line, format!("{0},t0cs,65535,4294967295,{0},{0},{0},ptp0\n", u64::MAX));
        assert!(line.len() <= MAX_STAGES_LEN);
    }

    proptest! {
        #[test]
        fn a_row_is_what_the_standard_formatter_makes(sequence: u64, stamp_nanos: u64, size: u16) {
            let stamp = Time::<Realtime>::from_nanos(stamp_nanos);
            let row = Row::new(sequence, Point::T2, stamp, size);
            prop_assert_eq!(text(row), format!("{sequence},t2,{stamp},{size}\n"));
        }

        #[test]
        fn a_row_has_nothing_of_the_one_before(
            rows in prop::collection::vec((0..40_u32, any::<u64>(), 0..8_usize, 0..4_u64, 0..1_000_000_000_u32, 0..3_u16), 2..40),
        ) {
            use Point::{T0, T0cs, T0sc, T1, T1cs, T1sc, T2, T3};
            let mut words = RowText::new();
            for (digits, sequence, point, seconds, nanos, size) in rows {
                // Numbers of all lengths, and neighbours that are alike.
                let sequence = sequence >> (digits * 2).min(63);
                let stamp_nanos = [0, 9, 1_795_400_078, 18_446_744_072][seconds as usize] * 1_000_000_000 + u64::from(nanos);
                let point = [T0, T1, T2, T3, T0cs, T1cs, T0sc, T1sc][point];
                let row = Row { sequence, point, stamp_nanos, size: [0, 44, 65535][usize::from(size)] };
                let stamp = Time::<Realtime>::from_nanos(stamp_nanos);
                let expected = format!("{sequence},{},{stamp},{}\n", point.as_str(), row.size);
                prop_assert_eq!(std::str::from_utf8(words.of(&row)).unwrap(), expected);
            }
        }
    }
}
