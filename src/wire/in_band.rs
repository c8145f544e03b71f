//! What a pong tells of the side that sends it, where the SYN asked for it: the body behind its header, in place of zeros.
//!
//! ```text
//!  0        1       2        3           8    16   24          32       40         48
//!  +--------+-------+--------+-----------+----+----+-----------+--------+----------+----------+
//!  | layout | flags | source | reserved  | t1 | t2 | sequence  | pong   | its t1   | its t2   |
//!  +--------+-------+--------+-----------+----+----+-----------+--------+----------+----------+
//!                                                  |<--- of an earlier ping and its pong ---->|
//! ```
//!
//! t1 and t2 are this process's of this ping and this pong. What the kernel or the card says of them comes when the pong is
//! gone already, so a further pong takes it along: which ping, which pong to it (by this process's t2, as a ping that comes
//! twice has two pongs), and both stamps of `source`. What the flags do not name is not there, and zero then: no value could
//! say it, as 0 is a time. Times are ns since the epoch of their clocks; all integers are little endian. `source` is the same
//! in all pongs of a session.

/// Bytes of the body.
pub const LEN: usize = 56;
/// The same as so much padding: a pong with stamps is at least so much larger than one without.
pub const MIN_PADDING: u16 = LEN as u16;

/// The number of this layout, which the extension names too. A pong of nanoprobe has a zero there.
const LAYOUT: u8 = 1;
const FLAGS_AT: usize = 1;
const SOURCE_AT: usize = 2;
const T1_AT: usize = 8;
const T2_AT: usize = 16;
const SEQUENCE_AT: usize = 24;
const PONG_AT: usize = 32;
const ITS_T1_AT: usize = 40;
const ITS_T2_AT: usize = 48;

const HAS_T1: u8 = 1;
const HAS_T2: u8 = 2;
const HAS_EARLIER: u8 = 4;

const APPLICATION: u8 = 0;
const SOFTWARE: u8 = 1;
const HARDWARE: u8 = 2;

/// What the side that pongs tells in a pong. Its clocks are not ours, so that its times are bare numbers: only the difference
/// of two of one source means something here.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct InBand {
    /// Whose stamps that side's turnaround is to be reckoned with: those of this very pong, or those of
    /// [`earlier`](Self::earlier) ones.
    pub source: FarSource,
    /// When its process had read the ping, in ns.
    pub t1: Option<u64>,
    /// When its process handed over this pong, in ns.
    pub t2: Option<u64>,
    /// An earlier pong, of which both stamps of [`source`](Self::source) are known meanwhile.
    pub earlier: Option<Earlier>,
}

/// Both stamps that the side that pongs has of an earlier ping and its pong: of one source and one clock.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Earlier {
    /// Which ping.
    pub sequence: u64,
    /// Which pong to it: the one whose [`InBand::t2`] this was, in ns.
    pub pong: u64,
    /// When the ping arrived, in ns.
    pub t1: u64,
    /// When the pong left, in ns.
    pub t2: u64,
}

/// Whose stamps the side that pongs has chosen.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub enum FarSource {
    /// Its process's.
    #[default]
    Application,
    /// Its kernel's, at both points.
    Software,
    /// Its card's, at both points.
    Hardware,
}

impl FarSource {
    /// The name on the command line.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Application => "application",
            Self::Software => "software",
            Self::Hardware => "hardware",
        }
    }
}

impl InBand {
    /// Reads what follows the header of a pong. `None` where it is something else, a layout or source that is not known, or too
    /// short.
    #[inline]
    pub fn parse(bytes: &[u8]) -> Option<Self> {
        // Of most pongs, which have zeros, no more is looked at.
        if *bytes.first()? != LAYOUT {
            return None;
        }
        let bytes: &[u8; LEN] = bytes.first_chunk()?;
        let source = match bytes[SOURCE_AT] {
            APPLICATION => FarSource::Application,
            SOFTWARE => FarSource::Software,
            HARDWARE => FarSource::Hardware,
            _ => return None,
        };
        let number =
            |at: usize| u64::from_le_bytes(*bytes[at..].first_chunk().expect("the fields lie within the body"));
        let has = |flag| bytes[FLAGS_AT] & flag != 0;
        Some(Self {
            source,
            t1: has(HAS_T1).then(|| number(T1_AT)),
            t2: has(HAS_T2).then(|| number(T2_AT)),
            earlier: has(HAS_EARLIER).then(|| Earlier {
                sequence: number(SEQUENCE_AT),
                pong: number(PONG_AT),
                t1: number(ITS_T1_AT),
                t2: number(ITS_T2_AT),
            }),
        })
    }

    /// The bytes behind the header of the pong.
    #[inline]
    pub fn to_bytes(&self) -> [u8; LEN] {
        let Self { source, t1, t2, earlier } = *self;
        let mut bytes = [0; LEN];
        let mut put = |at: usize, value: u64| bytes[at..at + 8].copy_from_slice(&value.to_le_bytes());
        let mut flags = 0;
        for (flag, at, time) in [(HAS_T1, T1_AT, t1), (HAS_T2, T2_AT, t2)] {
            if let Some(time) = time {
                put(at, time);
                flags |= flag;
            }
        }
        if let Some(Earlier { sequence, pong, t1, t2 }) = earlier {
            let fields = [(SEQUENCE_AT, sequence), (PONG_AT, pong), (ITS_T1_AT, t1), (ITS_T2_AT, t2)];
            fields.into_iter().for_each(|(at, value)| put(at, value));
            flags |= HAS_EARLIER;
        }
        bytes[0] = LAYOUT;
        bytes[FLAGS_AT] = flags;
        bytes[SOURCE_AT] = match source {
            FarSource::Application => APPLICATION,
            FarSource::Software => SOFTWARE,
            FarSource::Hardware => HARDWARE,
        };
        bytes
    }

    /// t2 − t1 of this very pong in ns; `None` where one is missing, or they are further apart than 292 years.
    pub const fn turnaround_ns(&self) -> Option<i64> {
        match (self.t1, self.t2) {
            (Some(t1), Some(t2)) => difference(t2, t1),
            _ => None,
        }
    }
}

impl Earlier {
    /// Its t2 − t1 in ns; `None` where they are further apart than 292 years.
    pub const fn turnaround_ns(&self) -> Option<i64> {
        difference(self.t2, self.t1)
    }
}

const fn difference(late: u64, early: u64) -> Option<i64> {
    let nanos = late.wrapping_sub(early) as i64;
    // The sign is that of the comparison, or it has wrapped around.
    if (nanos < 0) == (late < early) { Some(nanos) } else { None }
}

/// Writes t2 into a body that [`InBand::to_bytes`] gave, at the last moment; whatever stood there before.
#[inline]
pub fn put_t2(body: &mut [u8; LEN], t2: u64) {
    body[FLAGS_AT] |= HAS_T2;
    body[T2_AT..T2_AT + 8].copy_from_slice(&t2.to_le_bytes());
}

/// The parts of a body that [`put_t2`] changes: even offsets and lengths, as a checksum counts words.
pub(super) const T2_PARTS: [std::ops::Range<usize>; 2] = [0..2, T2_AT..T2_AT + 8];

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const WHOLE: InBand = InBand {
        source: FarSource::Hardware,
        t1: Some(0x0102),
        t2: Some(0),
        earlier: Some(Earlier { sequence: 7, pong: 8, t1: 0, t2: 0x0a00_0000_0000_0000 }),
    };

    #[test]
    fn the_bytes_are_these() {
        let bytes = WHOLE.to_bytes();
        assert_eq!(bytes[..16], [1, 7, 2, 0, 0, 0, 0, 0, 2, 1, 0, 0, 0, 0, 0, 0]);
        assert_eq!(bytes[16..25], [0, 0, 0, 0, 0, 0, 0, 0, 7]);
        assert_eq!((bytes[32], bytes[40], bytes[55]), (8, 0, 10));
        assert_eq!(InBand::default().to_bytes(), {
            let mut empty = [0; LEN];
            empty[0] = 1;
            empty
        });
        assert_eq!(bytes.iter().filter(|byte| **byte != 0).count(), 8, "and nothing else");
    }

    #[test]
    fn what_is_absent_is_not_zero() {
        let zero = InBand { t1: Some(0), t2: Some(0), ..InBand::default() };
        assert_eq!(InBand::parse(&zero.to_bytes()), Some(zero));
        assert_eq!(zero.turnaround_ns(), Some(0));
        let none = InBand::default();
        assert_eq!(InBand::parse(&none.to_bytes()), Some(none));
        assert_eq!(none.turnaround_ns(), None);
        assert_eq!(InBand { t1: Some(3), ..none }.turnaround_ns(), None);
    }

    #[test]
    fn what_is_no_such_body_is_none() {
        let bytes = WHOLE.to_bytes();
        for cut in 0..LEN {
            assert_eq!(InBand::parse(&bytes[..cut]), None, "{cut} bytes");
        }
        assert_eq!(InBand::parse(&[&bytes[..], &[0xff; 9]].concat()), Some(WHOLE), "what follows is not its own");
        assert_eq!(InBand::parse(&[0; 100]), None, "nanoprobe's padding");
        for (at, value) in [(0, 2), (0, 0), (2, 3), (2, 255)] {
            let mut other = bytes;
            other[at] = value;
            assert_eq!(InBand::parse(&other), None, "byte {at} is {value}");
        }
    }

    #[test]
    fn a_difference_keeps_its_sign_and_never_wraps() {
        let pong = |t1, t2| InBand { t1: Some(t1), t2: Some(t2), ..InBand::default() }.turnaround_ns();
        assert_eq!((pong(5, 7), pong(7, 5), pong(u64::MAX, u64::MAX)), (Some(2), Some(-2), Some(0)));
        assert_eq!((pong(0, u64::MAX), pong(u64::MAX, 0)), (None, None));
        assert_eq!((pong(0, i64::MAX as u64), pong(1 << 63, 0)), (Some(i64::MAX), Some(i64::MIN)));
        assert_eq!(pong(0, 1 << 63), None);
    }

    proptest! {
        #[test]
        fn whatever_is_written_is_read(
            source in 0..3_usize,
            (t1, t2) in any::<(Option<u64>, Option<u64>)>(),
            earlier in any::<Option<(u64, u64, u64, u64)>>(),
            late in any::<u64>(),
        ) {
            let source = [FarSource::Application, FarSource::Software, FarSource::Hardware][source];
            let earlier = earlier.map(|(sequence, pong, t1, t2)| Earlier { sequence, pong, t1, t2 });
            let told = InBand { source, t1, t2, earlier };
            let mut bytes = told.to_bytes();
            prop_assert_eq!(InBand::parse(&bytes), Some(told));
            let before = bytes;
            put_t2(&mut bytes, late);
            let told = InBand { t2: Some(late), ..told };
            prop_assert_eq!(bytes, told.to_bytes());
            let changed = |at: usize| T2_PARTS.iter().any(|part| part.contains(&at));
            prop_assert!((0..LEN).all(|at| changed(at) || bytes[at] == before[at]));
        }

        #[test]
        fn any_bytes_are_read_or_refused(bytes in prop::collection::vec(any::<u8>(), 0..80)) {
            if let Some(told) = InBand::parse(&bytes) {
                prop_assert_eq!(InBand::parse(&told.to_bytes()), Some(told));
            }
        }
    }
}
