//! One row of the log: when a ping or pong was seen, byte for byte as nanoprobe writes it.

use crate::clock::{Domain, Time};
use crate::wire::Point;

/// The line at the top of a log, and before every later session in it.
pub const HEADER: &str = "seq,timestamp-idx,timestamp,size\n";

/// Room for the longest row: 20 digits, 4 letters, 20 digits of seconds, 9 of nanoseconds, 5 of size, 5 separators.
const MAX_ROW_LEN: usize = 64;

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

    /// Appends `sequence,point,seconds.nanoseconds,size` and a line feed, nine digits of nanoseconds.
    pub fn append_to(&self, out: &mut Vec<u8>) {
        // Written from the back, so that no number's length has to be known beforehand.
        let mut text = Backwards { bytes: [0; MAX_ROW_LEN], start: MAX_ROW_LEN };
        text.put(b"\n");
        text.put_number(self.size.into());
        text.put(b",");
        text.put_nine_digits((self.stamp_nanos % 1_000_000_000) as u32);
        text.put(b".");
        text.put_number(self.stamp_nanos / 1_000_000_000);
        text.put(b",");
        text.put(self.point.as_str().as_bytes());
        text.put(b",");
        text.put_number(self.sequence);
        out.extend_from_slice(&text.bytes[text.start..]);
    }
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
struct Backwards {
    bytes: [u8; MAX_ROW_LEN],
    start: usize,
}

impl Backwards {
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

    fn put_nine_digits(&mut self, mut value: u32) {
        for _ in 0..4 {
            self.put_pair((value % 100) as usize);
            value /= 100;
        }
        self.put(&[b'0' + value as u8]);
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

    proptest! {
        #[test]
        fn a_row_is_what_the_standard_formatter_makes(sequence: u64, stamp_nanos: u64, size: u16) {
            let stamp = Time::<Realtime>::from_nanos(stamp_nanos);
            let row = Row::new(sequence, Point::T2, stamp, size);
            prop_assert_eq!(text(row), format!("{sequence},t2,{stamp},{size}\n"));
        }
    }
}
