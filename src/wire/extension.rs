//! What xdprobe says besides nanoprobe's words: behind the settings of a SYN, and as the body of the SYN-ACK.
//!
//! A client asks with it, a server answers with what it grants. nanoprobe's server reads the 24 bytes of settings and
//! nothing behind them, so it does not answer; a client that needs none of this sends no extension, and its SYN is
//! nanoprobe's byte for byte.
//!
//! ```text
//!  0       4         5        7      8        9
//!  +-------+---------+--------+------+--------+-------+------+--------+-------+-----
//!  | magic | version | length | type | length | value | type | length | value | ...
//!  +-------+---------+--------+------+--------+-------+------+--------+-------+-----
//! ```
//!
//! The first length is that of the whole extension, little endian; what lies behind it is not ours. A field's length is
//! that of its value. A reader skips fields of types or with values that it does not know, and the end of a value that is
//! longer than it knows, so that later versions can add both. The version says what the writer knew; whatever could not
//! be read so would have another magic.

use super::ptp::Transport;

/// How an extension begins.
pub const MAGIC: [u8; 4] = *b"xdpx";
/// The version that is written.
pub const VERSION: u8 = 1;
/// Bytes of the longest extension that is written.
pub const MAX_LEN: usize =
    HEADER_LEN + PTP_FIELD_LEN + IN_BAND_FIELD_LEN + SERVE_ON_FIELD_LEN + ACCOUNT_FIELD_LEN + LOAD_FIELD_LEN;

/// Magic, version and length.
const HEADER_LEN: usize = 7;
/// Type and length of a field.
const FIELD_HEADER_LEN: usize = 2;
/// The type of the field that asks for, or grants, pings and pongs behind a Sync header. Its value is one byte.
const PTP: u8 = 1;
const PTP_FIELD_LEN: usize = FIELD_HEADER_LEN + 1;
const PTP_UDP: u8 = 1;
const PTP_L2: u8 = 2;
/// The type of the field that asks for, or grants, stamps inside the pongs. Its value is one byte, the layout.
const IN_BAND: u8 = 2;
const IN_BAND_FIELD_LEN: usize = FIELD_HEADER_LEN + 1;
const IN_BAND_LAYOUT: u8 = 1;
/// The type of the field that names the path on which the server is to serve, or serves. Its value is one byte.
const SERVE_ON: u8 = 3;
const SERVE_ON_FIELD_LEN: usize = FIELD_HEADER_LEN + 1;
const SERVE_ON_XDP: u8 = 1;
const SERVE_ON_KERNEL: u8 = 2;
/// The type of the field that asks for, or promises, an account in the FIN-ACK. Its value is one byte, the layout.
const ACCOUNT: u8 = 4;
const ACCOUNT_FIELD_LEN: usize = FIELD_HEADER_LEN + 1;
const ACCOUNT_LAYOUT: u8 = 1;
/// The type of the field that announces, or allows, a flood of dummies: 8 bytes of dummies a second and 2 bytes of their IP
/// length, little endian.
const LOAD: u8 = 5;
const LOAD_VALUE_LEN: usize = 10;
const LOAD_FIELD_LEN: usize = FIELD_HEADER_LEN + LOAD_VALUE_LEN;

/// What a client asks for or a server grants. A field that is not there is neither.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Extension {
    /// Pings and pongs travel behind a PTPv2 Sync header (see [`super::ptp`]).
    pub ptp: Option<Transport>,
    /// Pongs carry the stamps of the side that sends them.
    pub in_band: bool,
    /// The path on which the server serves this client.
    pub serve_on: Option<ServePath>,
    /// The FIN-ACK carries what the side that sends it has counted (see [`super::account`]).
    pub account: bool,
    /// The client floods the server with dummies.
    pub load: Option<Load>,
}

/// A server's way out and in.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum ServePath {
    /// AF_XDP.
    Xdp,
    /// The kernel's UDP.
    Kernel,
}

impl ServePath {
    /// The name that `--path` has for it.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Xdp => "xdp",
            Self::Kernel => "kernel",
        }
    }
}

/// A flood of dummies.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Load {
    /// Dummies a second: asked for, or the most that are allowed.
    pub packets_per_second: u64,
    /// Bytes of each with the IP header.
    pub ip_len: u16,
}

impl Extension {
    /// Reads an extension at the start of `bytes`: what follows the settings of a SYN, or the header of a SYN-ACK.
    /// `None` where there is none, or where its lengths do not hold together.
    pub fn parse(bytes: &[u8]) -> Option<Self> {
        let (header, _) = bytes.split_first_chunk::<HEADER_LEN>()?;
        if header[..4] != MAGIC {
            return None;
        }
        let len = usize::from(u16::from_le_bytes([header[5], header[6]]));
        let mut fields = bytes.get(HEADER_LEN..len)?;
        let mut extension = Self::default();
        while !fields.is_empty() {
            let ([kind, len], rest) = fields.split_first_chunk::<FIELD_HEADER_LEN>()?;
            let (value, rest) = rest.split_at_checked(usize::from(*len))?;
            extension.read_field(*kind, value);
            fields = rest;
        }
        Some(extension)
    }

    fn read_field(&mut self, kind: u8, value: &[u8]) {
        match (kind, value.first()) {
            (PTP, Some(&PTP_UDP)) => self.ptp = Some(Transport::Udp),
            (PTP, Some(&PTP_L2)) => self.ptp = Some(Transport::L2),
            (IN_BAND, Some(&IN_BAND_LAYOUT)) => self.in_band = true,
            (SERVE_ON, Some(&SERVE_ON_XDP)) => self.serve_on = Some(ServePath::Xdp),
            (SERVE_ON, Some(&SERVE_ON_KERNEL)) => self.serve_on = Some(ServePath::Kernel),
            (ACCOUNT, Some(&ACCOUNT_LAYOUT)) => self.account = true,
            (LOAD, _) => {
                if let Some(value) = value.first_chunk::<LOAD_VALUE_LEN>() {
                    self.load = Some(Load::from_bytes(value));
                }
            }
            _ => {}
        }
    }

    /// Writes the extension to the start of `buf`; returns its length in bytes.
    ///
    /// # Panics
    /// If `buf` is shorter than [`len`](Self::len); never with [`MAX_LEN`].
    pub fn write(&self, buf: &mut [u8]) -> usize {
        let len = self.len();
        let (header, fields) = buf[..len].split_at_mut(HEADER_LEN);
        header[..4].copy_from_slice(&MAGIC);
        header[4] = VERSION;
        header[5..].copy_from_slice(&(len as u16).to_le_bytes());
        let mut left = fields;
        if let Some(transport) = self.ptp {
            let value = match transport {
                Transport::Udp => PTP_UDP,
                Transport::L2 => PTP_L2,
            };
            put_field(&mut left, PTP, &[value]);
        }
        if self.in_band {
            put_field(&mut left, IN_BAND, &[IN_BAND_LAYOUT]);
        }
        if let Some(path) = self.serve_on {
            let value = match path {
                ServePath::Xdp => SERVE_ON_XDP,
                ServePath::Kernel => SERVE_ON_KERNEL,
            };
            put_field(&mut left, SERVE_ON, &[value]);
        }
        if self.account {
            put_field(&mut left, ACCOUNT, &[ACCOUNT_LAYOUT]);
        }
        if let Some(load) = self.load {
            put_field(&mut left, LOAD, &load.to_bytes());
        }
        debug_assert!(left.is_empty(), "len() counts every field that is written");
        len
    }

    /// Bytes of the extension as it is written.
    #[expect(clippy::len_without_is_empty, reason = "an extension is never empty")]
    pub const fn len(&self) -> usize {
        const fn one(there: bool, len: usize) -> usize {
            if there { len } else { 0 }
        }
        HEADER_LEN
            + one(self.ptp.is_some(), PTP_FIELD_LEN)
            + one(self.in_band, IN_BAND_FIELD_LEN)
            + one(self.serve_on.is_some(), SERVE_ON_FIELD_LEN)
            + one(self.account, ACCOUNT_FIELD_LEN)
            + one(self.load.is_some(), LOAD_FIELD_LEN)
    }
}

impl Load {
    fn from_bytes(value: &[u8; LOAD_VALUE_LEN]) -> Self {
        let (rate, ip_len) = value.split_at(8);
        Self {
            packets_per_second: u64::from_le_bytes(rate.try_into().expect("8 of 10 bytes")),
            ip_len: u16::from_le_bytes([ip_len[0], ip_len[1]]),
        }
    }

    fn to_bytes(self) -> [u8; LOAD_VALUE_LEN] {
        let mut value = [0; LOAD_VALUE_LEN];
        value[..8].copy_from_slice(&self.packets_per_second.to_le_bytes());
        value[8..].copy_from_slice(&self.ip_len.to_le_bytes());
        value
    }
}

/// Writes a field to the start of `left`, which begins behind it then.
fn put_field(left: &mut &mut [u8], kind: u8, value: &[u8]) {
    let field = left.split_off_mut(..FIELD_HEADER_LEN + value.len()).expect("len() counts every field");
    field[0] = kind;
    field[1] = value.len() as u8;
    field[FIELD_HEADER_LEN..].copy_from_slice(value);
}

#[cfg(test)]
mod tests {
    use super::*;

    /// An extension of these fields, with a length that is right.
    fn of(version: u8, fields: &[u8]) -> Vec<u8> {
        let len = (HEADER_LEN + fields.len()) as u16;
        [&MAGIC[..], &[version], &len.to_le_bytes(), fields].concat()
    }

    fn written(extension: Extension) -> Vec<u8> {
        let mut buf = [0xa5; MAX_LEN];
        let len = extension.write(&mut buf);
        assert_eq!(len, extension.len());
        buf[..len].to_vec()
    }

    #[test]
    fn the_bytes_are_these() {
        let udp = Extension { ptp: Some(Transport::Udp), ..Extension::default() };
        assert_eq!(written(udp), [b'x', b'd', b'p', b'x', 1, 10, 0, 1, 1, 1]);
        let l2 = Extension { ptp: Some(Transport::L2), ..Extension::default() };
        assert_eq!(written(l2), [b'x', b'd', b'p', b'x', 1, 10, 0, 1, 1, 2]);
        assert_eq!(written(Extension::default()), [b'x', b'd', b'p', b'x', 1, 7, 0]);
        let all = Extension {
            ptp: Some(Transport::Udp),
            in_band: true,
            serve_on: Some(ServePath::Kernel),
            account: true,
            load: Some(Load { packets_per_second: 0x0102_0304, ip_len: 1500 }),
        };
        let fields = [1, 1, 1, 2, 1, 1, 3, 1, 2, 4, 1, 1, 5, 10, 4, 3, 2, 1, 0, 0, 0, 0, 0xdc, 5];
        assert_eq!(written(all), [&[b'x', b'd', b'p', b'x', 1, 31, 0][..], &fields].concat());
        assert_eq!(all.len(), MAX_LEN);
        for extension in [udp, l2, all, Extension::default()] {
            assert_eq!(Extension::parse(&written(extension)), Some(extension));
        }
    }

    #[test]
    fn a_newer_and_longer_one_is_read_as_far_as_it_is_known() {
        let l2 = Some(Extension { ptp: Some(Transport::L2), ..Extension::default() });
        // A field of another type before and behind, a longer value of ours, another version, bytes that are not its own.
        let bytes = of(9, &[200, 3, 1, 2, 3, PTP, 4, PTP_L2, 7, 7, 7, 201, 0]);
        assert_eq!(Extension::parse(&bytes), l2);
        assert_eq!(Extension::parse(&[&bytes[..], &[1, 1, 1, 0xff]].concat()), l2);
        // A transport that is not known, and none at all.
        assert_eq!(Extension::parse(&of(1, &[PTP, 1, 77])), Some(Extension::default()));
        assert_eq!(Extension::parse(&of(1, &[PTP, 0])), Some(Extension::default()));
        // Layouts and paths that are not known, a load that is cut short.
        for field in [&[IN_BAND, 1, 9][..], &[ACCOUNT, 1, 9], &[SERVE_ON, 1, 9], &[LOAD, 9, 1, 0, 0, 0, 0, 0, 0, 0, 0]]
        {
            assert_eq!(Extension::parse(&of(1, field)), Some(Extension::default()));
        }
    }

    #[test]
    fn what_does_not_hold_together_is_none() {
        let whole = written(Extension { ptp: Some(Transport::Udp), ..Extension::default() });
        for cut in 0..whole.len() {
            assert_eq!(Extension::parse(&whole[..cut]), None, "{cut} bytes");
        }
        // A length shorter than the header, fields that end in their own header or in their value, another magic.
        for len in [0, 6, 8, 9] {
            let mut bytes = whole.clone();
            bytes[5] = len;
            assert_eq!(Extension::parse(&bytes), None, "length {len}");
        }
        assert_eq!(Extension::parse(&of(1, &[PTP, 2, PTP_UDP])), None);
        assert_eq!(Extension::parse(&[&b"xdpy"[..], &whole[4..]].concat()), None);
        assert_eq!(Extension::parse(&[0; 40]), None);
    }
}
