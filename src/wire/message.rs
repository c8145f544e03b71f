//! nanoprobe's datagram: a 16-byte header, in a SYN 24 bytes of settings, in a ping or pong zeros as padding.
//!
//! Ours alone is what may follow the settings, the header of a SYN-ACK ([`super::extension`]), that of a FIN-ACK
//! ([`super::account`]) and that of a pong ([`super::in_band`]).
//!
//! ```text
//!  0       8      9              16                                        40
//!  +-------+------+--------------+------------------------------------------+
//!  |  seq  | type |  reserved 0  |  settings (SYN) or padding (PING, PONG)   |
//!  +-------+------+--------------+------------------------------------------+
//! ```
//!
//! All integers are little endian: nanoprobe writes the host's byte order, and it is x86-64 that it is used on.

use super::account::Account;
use super::extension::Extension;
use super::in_band::InBand;

/// Bytes of the header at the start of every datagram.
pub const HEADER_LEN: usize = 16;
/// Bytes of the settings that follow the header of a SYN.
pub const SETTINGS_LEN: usize = 24;
/// Bytes of the IPv4 header without options and the UDP header: a size in the log is the datagram's plus this.
pub const UDP_IP_HEADERS: u16 = 28;
/// The smallest ping or pong, in bytes with the IP header.
pub const MIN_IP_LEN: u16 = UDP_IP_HEADERS + HEADER_LEN as u16;
/// The most bytes of padding in a ping or pong.
pub const MAX_PADDING: u16 = 2048;
/// The largest ping or pong, in bytes with the IP header.
pub const MAX_IP_LEN: u16 = MIN_IP_LEN + MAX_PADDING;
/// The sequence that every dummy carries.
pub const DUMMY_SEQUENCE: u64 = u64::MAX;

/// What a datagram says. The values are those on the wire; 0 and 4 are never sent.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[repr(u8)]
pub enum Kind {
    /// A client asks for a session.
    Syn = 1,
    /// The server accepts.
    SynAck = 2,
    /// The server is busy with another client.
    SynRst = 3,
    /// A probe.
    Ping = 5,
    /// The answer to a ping, with the ping's sequence.
    Pong = 6,
    /// The pinging side is done.
    Fin = 7,
    /// The answer to a FIN.
    FinAck = 8,
    /// Load without meaning; never answered, never logged.
    Dummy = 9,
}

impl Kind {
    /// The kind with this number on the wire.
    pub const fn from_wire(value: u8) -> Option<Self> {
        Some(match value {
            1 => Self::Syn,
            2 => Self::SynAck,
            3 => Self::SynRst,
            5 => Self::Ping,
            6 => Self::Pong,
            7 => Self::Fin,
            8 => Self::FinAck,
            9 => Self::Dummy,
            _ => return None,
        })
    }
}

/// The header of a datagram.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Message {
    /// What the datagram says.
    pub kind: Kind,
    /// Sequence number: 1, 2, 3 … for pings; copied by every answer; [`DUMMY_SEQUENCE`] in a dummy.
    pub sequence: u64,
}

/// What a client asks for in its SYN, as the bytes say it: no value is checked yet.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct RawSettings {
    /// Seconds to ping for; 0 is without end, or not given.
    pub count_s: u32,
    /// Microseconds between two pings.
    pub delay_us: u32,
    /// Bytes of padding in a ping: its IP length less [`MIN_IP_LEN`].
    pub ping_padding: u16,
    /// Bytes of padding in a pong: its IP length less [`MIN_IP_LEN`].
    pub pong_padding: u16,
    /// Every n-th ping is to be answered; 0 is none.
    pub pong_every: u32,
    /// How the pinging side waits: 0 sleep, 1 busy.
    pub timer: u32,
    /// 0 forward, 1 reverse, 2 duplex.
    pub direction: u32,
}

/// A datagram that was read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Parsed {
    /// The header.
    pub message: Message,
    /// What follows the header and is no padding; `None` for most datagrams.
    pub said: Option<Said>,
}

/// What a datagram says behind its header: of one kind only, as one datagram never says two of these.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Said {
    /// The settings of a SYN that carries all 24 bytes, and its extension, where it has one.
    Settings(RawSettings, Option<Extension>),
    /// The extension of a SYN-ACK.
    Extension(Extension),
    /// What the sender of a FIN-ACK counted.
    Account(Account),
    /// What the sender of a pong tells of its stamps.
    InBand(InBand),
}

impl Said {
    /// The settings, where it is a SYN's.
    pub const fn settings(&self) -> Option<RawSettings> {
        if let Self::Settings(settings, _) = self { Some(*settings) } else { None }
    }

    /// The extension, where it is a SYN's or a SYN-ACK's that has one.
    pub const fn extension(&self) -> Option<Extension> {
        match self {
            Self::Settings(_, extension) => *extension,
            Self::Extension(extension) => Some(*extension),
            Self::Account(_) | Self::InBand(_) => None,
        }
    }

    /// The account, where it is a FIN-ACK's.
    pub const fn account(&self) -> Option<Account> {
        if let Self::Account(account) = self { Some(*account) } else { None }
    }

    /// The stamps, where it is a pong's.
    pub const fn in_band(&self) -> Option<InBand> {
        if let Self::InBand(told) = self { Some(*told) } else { None }
    }
}

/// Why bytes are not a datagram of this protocol.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum ParseError {
    /// Fewer than [`HEADER_LEN`] bytes.
    #[error("{0} bytes are too few for the 16-byte header")]
    Short(usize),
    /// A type that is never on the wire.
    #[error("unknown message type {0}")]
    UnknownKind(u8),
}

impl Message {
    /// Reads the header of a datagram (UDP payload), and what a SYN, a SYN-ACK, a FIN-ACK or a pong carries behind it.
    ///
    /// The reserved bytes are ignored, and so is whatever follows the settings and is no extension.
    ///
    /// # Errors
    /// [`ParseError`] where the bytes are too few or the type is none of [`Kind`].
    pub fn parse(datagram: &[u8]) -> Result<Parsed, ParseError> {
        let Some((header, rest)) = datagram.split_first_chunk::<HEADER_LEN>() else {
            return Err(ParseError::Short(datagram.len()));
        };
        let kind = Kind::from_wire(header[8]).ok_or(ParseError::UnknownKind(header[8]))?;
        let sequence = u64::from_le_bytes(*header.first_chunk().expect("8 of 16 bytes"));
        let message = Self { kind, sequence };
        let said = match kind {
            Kind::Syn => rest
                .split_first_chunk::<SETTINGS_LEN>()
                .map(|(settings, rest)| Said::Settings(RawSettings::from_bytes(settings), Extension::parse(rest))),
            Kind::SynAck => Extension::parse(rest).map(Said::Extension),
            Kind::FinAck => Account::parse(rest).map(Said::Account),
            Kind::Pong => InBand::parse(rest).map(Said::InBand),
            Kind::SynRst | Kind::Ping | Kind::Fin | Kind::Dummy => None,
        };
        Ok(Parsed { message, said })
    }

    /// The 16 bytes of the header.
    pub fn to_bytes(self) -> [u8; HEADER_LEN] {
        let mut bytes = [0; HEADER_LEN];
        bytes[..8].copy_from_slice(&self.sequence.to_le_bytes());
        bytes[8] = self.kind as u8;
        bytes
    }
}

impl RawSettings {
    /// Reads the 24 bytes behind a SYN's header.
    pub fn from_bytes(bytes: &[u8; SETTINGS_LEN]) -> Self {
        let u32_at = |at: usize| u32::from_le_bytes([bytes[at], bytes[at + 1], bytes[at + 2], bytes[at + 3]]);
        let u16_at = |at: usize| u16::from_le_bytes([bytes[at], bytes[at + 1]]);
        Self {
            count_s: u32_at(0),
            delay_us: u32_at(4),
            ping_padding: u16_at(8),
            pong_padding: u16_at(10),
            pong_every: u32_at(12),
            timer: u32_at(16),
            direction: u32_at(20),
        }
    }

    /// The 24 bytes behind a SYN's header.
    pub fn to_bytes(self) -> [u8; SETTINGS_LEN] {
        let mut bytes = [0; SETTINGS_LEN];
        bytes[0..4].copy_from_slice(&self.count_s.to_le_bytes());
        bytes[4..8].copy_from_slice(&self.delay_us.to_le_bytes());
        bytes[8..10].copy_from_slice(&self.ping_padding.to_le_bytes());
        bytes[10..12].copy_from_slice(&self.pong_padding.to_le_bytes());
        bytes[12..16].copy_from_slice(&self.pong_every.to_le_bytes());
        bytes[16..20].copy_from_slice(&self.timer.to_le_bytes());
        bytes[20..24].copy_from_slice(&self.direction.to_le_bytes());
        bytes
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::wire::extension::MAX_LEN;
    use crate::wire::ptp::Transport;

    /// The SYN of the golden session `forward-sizes`.
    const SYN: [u8; 40] = [
        0, 0, 0, 0, 0, 0, 0, 0, 1, 0, 0, 0, 0, 0, 0, 0, // header
        1, 0, 0, 0, 0x10, 0x27, 0, 0, 0xb0, 5, 0x9c, 0, 1, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0,
    ];

    #[test]
    fn a_syn_reads_as_nanoprobe_wrote_it_and_writes_back() {
        let Parsed { message, said } = Message::parse(&SYN).unwrap();
        let Some(Said::Settings(settings, None)) = said else { panic!("{said:?}") };
        assert_eq!(message, Message { kind: Kind::Syn, sequence: 0 });
        assert_eq!(
            settings,
            RawSettings {
                count_s: 1,
                delay_us: 10_000,
                ping_padding: 1456,
                pong_padding: 156,
                pong_every: 1,
                timer: 0,
                direction: 0
            }
        );
        assert_eq!([&message.to_bytes()[..], &settings.to_bytes()[..]].concat(), SYN);
    }

    #[test]
    fn short_and_unknown_datagrams_are_told_apart() {
        assert_eq!(Message::parse(&SYN[..15]), Err(ParseError::Short(15)));
        for unknown in [0, 4, 10, 255] {
            let mut bytes = SYN;
            bytes[8] = unknown;
            assert_eq!(Message::parse(&bytes), Err(ParseError::UnknownKind(unknown)));
        }
    }

    #[test]
    fn a_syn_cut_short_has_no_settings_and_a_longer_one_has() {
        assert_eq!(Message::parse(&SYN[..39]).unwrap().said, None);
        let longer = Message::parse(&[&SYN[..], &[7; 9]].concat()).unwrap();
        assert!(matches!(longer.said, Some(Said::Settings(_, None))), "{longer:?}");
    }

    #[test]
    fn an_extension_is_read_behind_a_syn_and_in_a_syn_ack_and_nowhere_else() {
        let extension = Extension { ptp: Some(Transport::Udp), ..Extension::default() };
        let mut bytes = [0; MAX_LEN];
        extension.write(&mut bytes);
        for kind in (0..=9).filter_map(Kind::from_wire) {
            let header = Message { kind, sequence: 0 }.to_bytes();
            let short = Message::parse(&[&header[..], &bytes].concat()).unwrap();
            let read = short.said.and_then(|said| said.extension());
            assert_eq!(read, (kind == Kind::SynAck).then_some(extension), "{kind:?}");
            let long = Message::parse(&[&header[..], &SYN[HEADER_LEN..], &bytes].concat()).unwrap();
            let both =
                Said::Settings(RawSettings::from_bytes(SYN[HEADER_LEN..].first_chunk().unwrap()), Some(extension));
            assert_eq!(long.said, (kind == Kind::Syn).then_some(both), "{kind:?}");
        }
    }

    #[test]
    fn stamps_are_read_behind_a_pong_and_nowhere_else() {
        let told = InBand { t1: Some(1), t2: Some(2), ..InBand::default() };
        for kind in (0..=9).filter_map(Kind::from_wire) {
            let header = Message { kind, sequence: 3 }.to_bytes();
            let read = Message::parse(&[&header[..], &told.to_bytes(), &[0; 3]].concat()).unwrap();
            let read = read.said.and_then(|said| said.in_band());
            assert_eq!(read, (kind == Kind::Pong).then_some(told), "{kind:?}");
        }
    }

    #[test]
    fn reserved_bytes_are_ignored() {
        let mut bytes = SYN;
        bytes[9..16].fill(0xff);
        assert_eq!(Message::parse(&bytes).unwrap().message, Message { kind: Kind::Syn, sequence: 0 });
    }
}
