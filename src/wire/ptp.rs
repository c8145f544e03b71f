//! The PTPv2 Sync header in front of a ping or pong: for network cards that stamp nothing else that they receive.
//!
//! Such a card looks at the UDP port or the EtherType, at the message type and at the version, so the header is a real
//! one (IEEE 1588-2008, 13.3 and 13.6), in a domain of our own and from a clock that is none. It says who sent it, as the
//! addresses in front of it do not: over UDP both ports are 319, over Ethernet there is no address of IPv4 at all.
//!
//! ```text
//!  0      1         2        4        5   6      8            16    20               28     30
//!  +------+---------+--------+--------+---+------+------------+-----+----------------+------+-----
//!  | type | version | length | domain | 0 | flag | correction |  0  | clock identity | port | ...
//!  +------+---------+--------+--------+---+------+------------+-----+----------------+------+-----
//!     30            32        33             34                44           60
//!     -+------------+---------+--------------+------------------+------------+----------
//!  ... | sequenceId | control | log interval | origin timestamp | nanoprobe  | zeros ...
//!     -+------------+---------+--------------+------------------+------------+----------
//! ```
//!
//! PTP's integers are big endian, nanoprobe's header behind it is little endian (see [`super::message`]). No clock is
//! synchronised and no other PTP message is known here.

use super::in_band::InBand;
use super::message::{self, Kind, MIN_IP_LEN, Message, Parsed, UDP_IP_HEADERS};
use std::net::{Ipv4Addr, SocketAddrV4};

/// The UDP port of PTP's event messages, source and destination alike (IEEE 1588-2008, annex D.2).
pub const UDP_PORT: u16 = 319;
/// The EtherType of PTP over Ethernet (IEEE 1588-2008, annex F.3).
pub const ETHERTYPE: u16 = 0x88f7;
/// The domain of our messages: one of those left to users (4 to 127; IEEE 1588-2008, table 2), and far from the first.
pub const DOMAIN: u8 = 120;
/// The first half of our clock identity; the sender's IPv4 address is the other. As an Ethernet address it would be a
/// locally administered one, so that no maker's clock begins with it.
pub const MAGIC: [u8; 4] = *b"nxdp";
/// Bytes of the Sync message: 34 of the common header and 10 of the origin timestamp. The length that it says.
pub const SYNC_LEN: usize = 44;
/// Bytes in front of the zeros: the Sync message and nanoprobe's header.
pub const HEAD_LEN: usize = SYNC_LEN + message::HEADER_LEN;

/// Where the sequenceId is in the Sync message.
pub(super) const SEQUENCE_ID_AT: usize = 30;
/// Where the version is; the upper half of the byte is reserved.
const VERSION_AT: usize = 1;
/// The version that such cards look for.
const VERSION_2: u8 = 2;
/// A version that there is not: the card leaves the message alone.
const NO_VERSION: u8 = 0xff;
/// `unicastFlag` in the first byte of the flags (IEEE 1588-2008, table 20).
const UNICAST: u8 = 1 << 2;
/// `logMessageInterval` of a message to one receiver only (IEEE 1588-2008, table 24).
const NO_INTERVAL: u8 = 0x7f;
/// The smallest Ethernet payload: a card may take less for a message cut short. In bytes.
const MIN_L2_LEN: u16 = 84;

/// What carries a PTP message.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Transport {
    /// UDP over IPv4, from port 319 to port 319.
    Udp,
    /// Ethernet, within one link.
    L2,
}

impl Transport {
    /// The name on the command line.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Udp => "udp",
            Self::L2 => "l2",
        }
    }

    /// The smallest ping or pong behind a Sync header: bytes of the IP packet, of PTP over Ethernet those of the
    /// Ethernet payload.
    pub const fn min_ip_len(self) -> u16 {
        match self {
            Self::Udp => UDP_IP_HEADERS + HEAD_LEN as u16,
            Self::L2 => MIN_L2_LEN,
        }
    }

    /// The same as the padding that settings count: the Sync header is made room for by leaving out zeros, so that a
    /// size means the same with and without it.
    pub const fn min_padding(self) -> u16 {
        self.min_ip_len() - MIN_IP_LEN
    }
}

/// What a ping or pong looks like on the wire.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub enum Shape {
    /// nanoprobe's datagram on the session's ports.
    #[default]
    Plain,
    /// Behind a Sync header of version 2: a card that knows PTP stamps it.
    Stamped,
    /// Behind the same header with a version that there is not, so that the card leaves it alone.
    Unstamped,
}

/// A ping or pong that was read from behind its Sync header.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Probe {
    /// The session's address and port of who sent it, as the header says.
    pub sender: SocketAddrV4,
    /// [`Shape::Stamped`] or [`Shape::Unstamped`].
    pub shape: Shape,
    /// The ping or pong.
    pub message: Message,
    /// What a pong tells of its sender's stamps.
    pub in_band: Option<InBand>,
}

/// The bytes in front of the zeros; `sender` is the session's address and port of this side.
pub fn head(sender: SocketAddrV4, stamped: bool, message: Message) -> [u8; HEAD_LEN] {
    let mut bytes = [0; HEAD_LEN];
    bytes[VERSION_AT] = if stamped { VERSION_2 } else { NO_VERSION };
    bytes[2..4].copy_from_slice(&(SYNC_LEN as u16).to_be_bytes());
    bytes[4] = DOMAIN;
    bytes[6] = UNICAST;
    bytes[20..24].copy_from_slice(&MAGIC);
    bytes[24..28].copy_from_slice(&sender.ip().octets());
    bytes[28..30].copy_from_slice(&sender.port().to_be_bytes());
    bytes[SEQUENCE_ID_AT..SEQUENCE_ID_AT + 2].copy_from_slice(&sequence_id(message.sequence).to_be_bytes());
    bytes[33] = NO_INTERVAL;
    bytes[SYNC_LEN..].copy_from_slice(&message.to_bytes());
    bytes
}

/// Reads a ping or pong of ours from a UDP payload that came to port 319, or from the payload of an Ethernet frame of
/// type 0x88F7. `None` for everything else, above all for the messages of real PTP clocks.
///
/// Not looked at are the fields that are not ours on the way (a transparent clock adds to the correction) and those that
/// say nothing here (reserved ones, origin timestamp, control, interval). Never panics.
pub fn parse(payload: &[u8]) -> Option<Probe> {
    let bytes: &[u8; HEAD_LEN] = payload.first_chunk()?;
    // Type and, in the upper half, transportSpecific: both 0.
    let sync = bytes[0] == 0 && bytes[2..4] == (SYNC_LEN as u16).to_be_bytes();
    let ours = bytes[4] == DOMAIN && bytes[6] & UNICAST != 0 && bytes[20..24] == MAGIC;
    if !(sync && ours) {
        return None;
    }
    let shape = match bytes[VERSION_AT] {
        VERSION_2 => Shape::Stamped,
        NO_VERSION => Shape::Unstamped,
        _ => return None,
    };
    let address = Ipv4Addr::new(bytes[24], bytes[25], bytes[26], bytes[27]);
    let sender = SocketAddrV4::new(address, u16::from_be_bytes([bytes[28], bytes[29]]));
    let Parsed { message, said } = Message::parse(&payload[SYNC_LEN..]).ok()?;
    let is_probe = matches!(message.kind, Kind::Ping | Kind::Pong);
    let told = u16::from_be_bytes([bytes[SEQUENCE_ID_AT], bytes[SEQUENCE_ID_AT + 1]]);
    // Nobody can be answered at port 0 (RFC 768), so nobody sends from there.
    let holds_together = is_probe && told == sequence_id(message.sequence) && sender.port() != 0;
    holds_together.then_some(Probe { sender, shape, message, in_band: said.and_then(|said| said.in_band()) })
}

/// The low 16 bits.
pub(super) const fn sequence_id(sequence: u64) -> u16 {
    sequence as u16
}

#[cfg(test)]
mod tests {
    use super::*;

    const SENDER: SocketAddrV4 = SocketAddrV4::new(Ipv4Addr::new(10, 66, 0, 1), 40_000);
    const PING: Message = Message { kind: Kind::Ping, sequence: 0x0001_0203_0405_0607 };

    #[test]
    fn the_header_is_that_of_a_sync_message() {
        let head = head(SENDER, true, PING);
        // messageType 0 and version 2, 44 bytes, domain 120, unicast; correction and reserved 0.
        assert_eq!(head[..8], [0, 2, 0, 44, 120, 0, 4, 0]);
        assert_eq!(head[8..20], [0; 12]);
        // Clock identity: magic and 10.66.0.1; port 40000.
        assert_eq!(head[20..30], [b'n', b'x', b'd', b'p', 10, 66, 0, 1, 0x9c, 0x40]);
        // sequenceId big endian, control 0 (Sync), no interval; no origin timestamp.
        assert_eq!(head[30..34], [0x06, 0x07, 0, 0x7f]);
        assert_eq!(head[34..44], [0; 10]);
        assert_eq!(head[44..], [7, 6, 5, 4, 3, 2, 1, 0, 5, 0, 0, 0, 0, 0, 0, 0]);
        let unstamped = super::head(SENDER, false, PING);
        assert_eq!(unstamped[1], 0xff);
        assert_eq!((unstamped[0], &unstamped[2..]), (head[0], &head[2..]));
    }

    #[test]
    fn the_clock_identity_is_no_makers() {
        // Locally administered, not a group: IEEE 802, clause 8.
        assert_eq!(MAGIC[0] & 0b11, 0b10);
    }

    #[test]
    fn the_smallest_sizes_hold_header_and_message() {
        assert_eq!((Transport::Udp.min_ip_len(), Transport::Udp.min_padding()), (88, 44));
        assert_eq!((Transport::L2.min_ip_len(), Transport::L2.min_padding()), (84, 40));
    }

    #[test]
    fn what_differs_in_any_field_of_ours_is_foreign() {
        let own = head(SENDER, true, PING);
        assert_eq!(parse(&own), Some(Probe { sender: SENDER, shape: Shape::Stamped, message: PING, in_band: None }));
        // Field by field: type, transportSpecific, versions, length, domain, flags, magic, sequenceId, nanoprobe's type.
        let changes: [(usize, u8); 14] = [
            (0, 1),
            (0, 0x10),
            (1, 1),
            (1, 0x12),
            (1, 0),
            (3, 45),
            (2, 1),
            (4, 0),
            (6, 0),
            (20, b'N'),
            (23, 0),
            (30, 7),
            (31, 6),
            (52, 1),
        ];
        for (at, value) in changes {
            let mut foreign = own;
            foreign[at] = value;
            assert_eq!(parse(&foreign), None, "byte {at} is {value}");
        }
        assert_eq!(parse(&own[..HEAD_LEN - 1]), None);
        let from_nowhere = head(SocketAddrV4::new(*SENDER.ip(), 0), true, PING);
        assert_eq!(parse(&from_nowhere), None);
    }

    #[test]
    fn what_changes_on_the_way_or_says_nothing_is_not_looked_at() {
        let mut bytes = head(SENDER, false, PING);
        for at in [5, 7, 8, 15, 16, 19, 32, 33, 34, 43] {
            bytes[at] = 0xa5;
        }
        assert_eq!(
            parse(&bytes),
            Some(Probe { sender: SENDER, shape: Shape::Unstamped, message: PING, in_band: None })
        );
    }

    #[test]
    fn a_sync_message_of_a_real_clock_is_foreign() {
        // As ptp4l sends it over UDP: domain 0, two-step, a clock identity made of a MAC address.
        let mut sync = vec![0x00, 0x02, 0, 44, 0, 0, 0x02, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0];
        sync.extend([0x00, 0x1b, 0x21, 0xff, 0xfe, 0x12, 0x34, 0x56, 0, 1, 0, 42, 0, 0]);
        sync.extend([0; 10]);
        assert_eq!(sync.len(), SYNC_LEN);
        assert_eq!(parse(&sync), None);
        sync.extend([0; 40]);
        assert_eq!(parse(&sync), None);
    }

    #[test]
    fn only_pings_and_pongs_travel_so() {
        for kind in (0..=9).filter_map(Kind::from_wire) {
            let read = parse(&head(SENDER, true, Message { kind, sequence: 3 }));
            assert_eq!(read.is_some(), matches!(kind, Kind::Ping | Kind::Pong), "{kind:?}");
        }
    }
}
