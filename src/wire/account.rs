//! What the side that answers a FIN has counted: the body of its FIN-ACK, where the SYN asked for it.
//!
//! ```text
//!  0       4         5        7                  15
//!  +-------+---------+--------+------------------+-----
//!  | magic | version | length | pings_received   | ... the other fields of [`Account`] in their order
//!  +-------+---------+--------+------------------+-----
//! ```
//!
//! The length is that of the whole account; every field is 8 bytes, all little endian. What cannot be known is all ones. A
//! reader takes the fields that it knows and skips what follows them.

/// How an account begins.
pub const MAGIC: [u8; 4] = *b"xdpa";
/// The version that is written.
pub const VERSION: u8 = 1;
/// Bytes of an account as it is written.
pub const LEN: usize = HEADER_LEN + FIELDS * FIELD_LEN;

/// Magic, version and length.
const HEADER_LEN: usize = 7;
const FIELD_LEN: usize = 8;
const FIELDS: usize = 7;
/// What stands for a value that is not known.
const UNKNOWN: u64 = u64::MAX;

/// What the echoing side counted in a session until it answered the FIN.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Account {
    /// Pings received, repeated ones too.
    pub pings_received: u64,
    /// Pongs sent.
    pub pongs_sent: u64,
    /// Dummies received.
    pub dummies_received: u64,
    /// Datagrams that reached the machine and were dropped there before the process could read them; `None` where nobody
    /// counts them.
    pub dropped: Option<u64>,
    /// Nanoseconds from the first to the last dummy received; `None` where there were fewer than two.
    pub dummies_span_ns: Option<u64>,
    /// Nanoseconds of CPU time that the process took since the session began (`getrusage`), all threads; `None` where it
    /// could not be had.
    pub cpu_ns: Option<u64>,
    /// Nanoseconds since the session began.
    pub wall_ns: u64,
}

impl Account {
    /// Reads an account at the start of `bytes`, which follow the header of a FIN-ACK. `None` where there is none, or it is
    /// cut short.
    pub fn parse(bytes: &[u8]) -> Option<Self> {
        let (header, _) = bytes.split_first_chunk::<HEADER_LEN>()?;
        if header[..4] != MAGIC {
            return None;
        }
        let len = usize::from(u16::from_le_bytes([header[5], header[6]]));
        let fields = bytes.get(HEADER_LEN..len)?;
        let (fields, _) = fields.as_chunks::<FIELD_LEN>();
        let field = |n: usize| fields.get(n).map(|bytes| u64::from_le_bytes(*bytes));
        let known = |n: usize| Some(field(n)?).map(|value| (value != UNKNOWN).then_some(value));
        Some(Self {
            pings_received: field(0)?,
            pongs_sent: field(1)?,
            dummies_received: field(2)?,
            dropped: known(3)?,
            dummies_span_ns: known(4)?,
            cpu_ns: known(5)?,
            wall_ns: field(6)?,
        })
    }

    /// The bytes that follow the header of the FIN-ACK.
    pub fn to_bytes(&self) -> [u8; LEN] {
        let known = |value: Option<u64>| value.unwrap_or(UNKNOWN);
        let fields: [u64; FIELDS] = [
            self.pings_received,
            self.pongs_sent,
            self.dummies_received,
            known(self.dropped),
            known(self.dummies_span_ns),
            known(self.cpu_ns),
            self.wall_ns,
        ];
        let mut bytes = [0; LEN];
        bytes[..4].copy_from_slice(&MAGIC);
        bytes[4] = VERSION;
        bytes[5..HEADER_LEN].copy_from_slice(&(LEN as u16).to_le_bytes());
        for (place, field) in bytes[HEADER_LEN..].chunks_exact_mut(FIELD_LEN).zip(fields) {
            place.copy_from_slice(&field.to_le_bytes());
        }
        bytes
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const ACCOUNT: Account = Account {
        pings_received: 1,
        pongs_sent: 2,
        dummies_received: 3,
        dropped: None,
        dummies_span_ns: Some(5),
        cpu_ns: Some(0),
        wall_ns: 0x0706,
    };

    #[test]
    fn the_bytes_are_these() {
        let bytes = ACCOUNT.to_bytes();
        assert_eq!(bytes[..15], [b'x', b'd', b'p', b'a', 1, 63, 0, 1, 0, 0, 0, 0, 0, 0, 0]);
        assert_eq!(bytes[31..39], [0xff; 8]);
        assert_eq!(bytes[55..], [6, 7, 0, 0, 0, 0, 0, 0]);
        assert_eq!(Account::parse(&bytes), Some(ACCOUNT));
    }

    #[test]
    fn a_longer_one_is_read_and_a_shorter_one_is_none() {
        let bytes = ACCOUNT.to_bytes();
        let mut longer = [&bytes[..], &[9; 8], b"behind"].concat();
        longer[5] += 8;
        assert_eq!(Account::parse(&longer), Some(ACCOUNT));
        for cut in 0..LEN {
            assert_eq!(Account::parse(&bytes[..cut]), None, "{cut} bytes");
        }
        let mut shorter = bytes;
        shorter[5] -= 8;
        assert_eq!(Account::parse(&shorter), None);
        assert_eq!(Account::parse(&[0; 80]), None);
    }
}
