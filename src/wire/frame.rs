//! The Ethernet, IPv4 and UDP headers around a datagram: read from a received frame, written for one that is sent. The
//! same for a ping or pong behind a PTP header ([`super::ptp`]), over UDP or straight over Ethernet.
//!
//! No fragments, no reassembly, no IPv6, no neighbour lookup: who a frame goes to is known before it is built. Headers
//! are in network byte order, the message within is little endian (see [`super::message`]).

use super::in_band::{self, InBand};
use super::message::{HEADER_LEN, Kind, MAX_IP_LEN, MAX_PADDING, MIN_IP_LEN, Message};
use super::ptp::{self, Shape, Transport};
use pnet_packet::ethernet::{EtherType, EtherTypes, MutableEthernetPacket};
use pnet_packet::ip::IpNextHeaderProtocols;
use pnet_packet::ipv4::{Ipv4Flags, MutableIpv4Packet};
use pnet_packet::udp::MutableUdpPacket;
use std::fmt;
use std::net::{Ipv4Addr, SocketAddrV4};

const MAC_LEN: usize = 6;
const ETHERNET_LEN: usize = 14;
const TAG_LEN: usize = 4;
const MAX_LINK_LEN: usize = ETHERNET_LEN + 2 * TAG_LEN;
const IPV4_LEN: usize = 20;
const UDP_LEN: usize = 8;
/// TTL of what the kernel sends on a UDP socket (`ip_default_ttl`), hence nanoprobe's.
const TTL: u8 = 64;
/// Where the type is in a datagram; the sequence is before it.
const KIND_AT: usize = 8;
/// Where the receiver's address and port are, from the beginning of the IPv4 header.
const DESTINATION_AT: usize = 16;
const DESTINATION_PORT_AT: usize = IPV4_LEN + 2;
/// From the sequenceId of a Sync message to nanoprobe's header behind it.
const SEQUENCE_ID_BEFORE: usize = ptp::SYNC_LEN - ptp::SEQUENCE_ID_AT;
/// The most bytes between the Ethernet header and the padding.
const MAX_HEAD_LEN: usize = IPV4_LEN + UDP_LEN + ptp::HEAD_LEN;

/// The longest frame that is built: two VLAN tags and a ping of [`MAX_IP_LEN`]. In bytes, without the frame check
/// sequence.
pub const MAX_FRAME_LEN: usize = MAX_LINK_LEN + MAX_IP_LEN as usize;

/// An Ethernet address, in the order of transmission.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct MacAddr(pub [u8; MAC_LEN]);

impl fmt::Display for MacAddr {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let [a, b, c, d, e, g] = self.0;
        write!(f, "{a:02x}:{b:02x}:{c:02x}:{d:02x}:{e:02x}:{g:02x}")
    }
}

/// The Ethernet header of an IPv4 frame with up to two VLAN tags (802.1Q or 802.1ad), as on the wire.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct LinkHeader {
    /// Zero behind `len`, so that equal headers are equal bytes.
    bytes: [u8; MAX_LINK_LEN],
    len: u8,
}

#[expect(clippy::len_without_is_empty, reason = "a header is never empty")]
impl LinkHeader {
    /// A header without VLAN tag.
    pub fn new(destination: MacAddr, source: MacAddr) -> Self {
        let mut bytes = [0; MAX_LINK_LEN];
        let mut ethernet = MutableEthernetPacket::new(&mut bytes).expect("22 bytes hold an Ethernet header");
        ethernet.set_destination(destination.0.into());
        ethernet.set_source(source.0.into());
        ethernet.set_ethertype(EtherTypes::Ipv4);
        Self { bytes, len: ETHERNET_LEN as u8 }
    }

    /// Reads the header at the start of a frame; the second value is what follows it.
    ///
    /// # Errors
    /// [`FrameError`] where the frame is too short, has more than two tags, or carries something other than IPv4.
    #[inline]
    pub fn parse(frame: &[u8]) -> Result<(Self, &[u8]), FrameError> {
        match Self::parse_any(frame)? {
            (link, EtherTypes::Ipv4, rest) => Ok((link, rest)),
            (_, other, _) => Err(FrameError::NotIpv4(other.0)),
        }
    }

    /// The header, what its EtherType was, and what follows it. The header itself is that of an IPv4 frame then, so that
    /// the way to a peer is one, whatever goes it.
    #[inline]
    fn parse_any(frame: &[u8]) -> Result<(Self, EtherType, &[u8]), FrameError> {
        let mut len = ETHERNET_LEN;
        loop {
            let (header, rest) = frame.split_at_checked(len).ok_or(FrameError::Short(frame.len()))?;
            match EtherType(u16_at(header, len - 2)) {
                EtherTypes::Vlan | EtherTypes::PBridge if len < MAX_LINK_LEN => len += TAG_LEN,
                found => {
                    let mut bytes = [0; MAX_LINK_LEN];
                    bytes[..len - 2].copy_from_slice(&header[..len - 2]);
                    bytes[len - 2..len].copy_from_slice(&EtherTypes::Ipv4.0.to_be_bytes());
                    return Ok((Self { bytes, len: len as u8 }, found, rest));
                }
            }
        }
    }

    /// The header of an answer: the addresses change places, the tags stay.
    pub fn reply(&self) -> Self {
        let mut reply = *self;
        reply.bytes[..MAC_LEN].copy_from_slice(&self.source().0);
        reply.bytes[MAC_LEN..2 * MAC_LEN].copy_from_slice(&self.destination().0);
        reply
    }

    /// Whom the frame is for.
    pub fn destination(&self) -> MacAddr {
        MacAddr(*self.bytes.first_chunk().expect("6 of 22 bytes"))
    }

    /// Whom the frame is from.
    pub fn source(&self) -> MacAddr {
        MacAddr(*self.bytes[MAC_LEN..].first_chunk().expect("6 of 16 bytes"))
    }

    /// The header as on the wire.
    pub fn as_bytes(&self) -> &[u8] {
        &self.bytes[..self.len()]
    }

    /// Bytes of the header: 14, 18 or 22.
    pub const fn len(&self) -> usize {
        self.len as usize
    }
}

/// Between whom frames go: all that does not change from one datagram to the next.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Flow {
    /// The Ethernet header, from the sender's side.
    pub link: LinkHeader,
    /// The sender.
    pub source: SocketAddrV4,
    /// The receiver.
    pub destination: SocketAddrV4,
}

impl Flow {
    /// The way back: all addresses change places, VLAN tags stay.
    pub fn reply(&self) -> Self {
        Self { link: self.link.reply(), source: self.destination, destination: self.source }
    }
}

/// A received frame that carries a whole UDP datagram.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ParsedFrame<'a> {
    /// The Ethernet header.
    pub link: LinkHeader,
    /// The sender.
    pub source: SocketAddrV4,
    /// The receiver.
    pub destination: SocketAddrV4,
    /// The size as the log counts it: the payload and 28 bytes of headers. IPv4 options and what an IPv4 packet has
    /// behind its UDP datagram do not count, as a socket would not see them either.
    pub ip_len: u16,
    /// The datagram.
    pub payload: &'a [u8],
}

impl ParsedFrame<'_> {
    /// The way the frame came.
    pub fn flow(&self) -> Flow {
        Flow { link: self.link, source: self.source, destination: self.destination }
    }
}

/// Why a frame carries no datagram for us.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum FrameError {
    /// The frame ends within its Ethernet header.
    #[error("a frame of {0} bytes ends within its Ethernet header")]
    Short(usize),
    /// The EtherType behind at most two VLAN tags.
    #[error("EtherType {0:#06x} is not IPv4")]
    NotIpv4(u16),
    /// The IPv4 header is cut, too short, or of another version.
    #[error("the IPv4 header is malformed")]
    BadIpHeader,
    /// The sum over the IPv4 header is wrong; RFC 1122, section 3.2.1.2 has such a packet discarded.
    #[error("the IPv4 header checksum is wrong")]
    BadIpChecksum,
    /// The total length is less than the header or more than the frame has.
    #[error("the IPv4 total length {0} does not fit the frame")]
    BadIpLength(u16),
    /// The packet is a fragment of a larger one.
    #[error("the IPv4 packet is a fragment")]
    Fragment,
    /// The protocol is not UDP.
    #[error("IP protocol {0} is not UDP")]
    NotUdp(u8),
    /// The UDP header is cut, or its length is less than 8 or more than the packet has.
    #[error("the UDP length does not fit the packet")]
    BadUdpLength,
    /// The UDP checksum is not that of the datagram.
    #[error("the UDP checksum is wrong")]
    BadUdpChecksum,
    /// The frame carries no ping or pong of ours behind a PTP header.
    #[error("the frame carries no ping or pong behind a PTP header")]
    NotOurPtp,
}

/// Reads an Ethernet frame with at most two VLAN tags, IPv4 with or without options, not fragmented, and UDP.
///
/// Bytes behind the IPv4 packet (Ethernet's padding to 60) are ignored. Both checksums are verified. A UDP checksum is
/// right if it is that of the datagram, if it is 0 (none: RFC 768), or if it is the sum of the pseudo-header only: so
/// arrives what a kernel socket sends over veth, which leaves the rest to a card that there is not (`CHECKSUM_PARTIAL`
/// in `include/linux/skbuff.h`). Lengths are in bytes.
///
/// # Errors
/// [`FrameError`] says what the frame is instead. Never panics.
pub fn parse(frame: &[u8]) -> Result<ParsedFrame<'_>, FrameError> {
    let (link, packet) = LinkHeader::parse(frame)?;
    parse_packet(link, packet)
}

/// A received ping or pong behind a PTP header.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct PtpFrame {
    /// The Ethernet header, as that of an IPv4 frame: the way to the peer is the same for all that goes it.
    pub link: LinkHeader,
    /// What carried it.
    pub transport: Transport,
    /// To which address it was sent; `None` of PTP over Ethernet, which has none.
    pub destination: Option<Ipv4Addr>,
    /// The size as the log counts it: of the payload and 28 bytes of headers, of PTP over Ethernet the Ethernet payload.
    pub ip_len: u16,
    /// What it says.
    pub probe: ptp::Probe,
}

/// Reads a ping or pong of ours behind a PTP header: UDP to port 319 in what [`parse`] takes, or Ethernet of type 0x88F7
/// with at most two VLAN tags.
///
/// # Errors
/// What [`parse`] says, or [`FrameError::NotOurPtp`], which the messages of real PTP clocks are. Never panics.
pub fn parse_ptp(frame: &[u8]) -> Result<PtpFrame, FrameError> {
    let (link, ethertype, rest) = LinkHeader::parse_any(frame)?;
    let (transport, destination, ip_len, payload) = match ethertype {
        EtherTypes::Ipv4 => {
            let datagram = parse_packet(link, rest)?;
            if datagram.destination.port() != ptp::UDP_PORT {
                return Err(FrameError::NotOurPtp);
            }
            (Transport::Udp, Some(*datagram.destination.ip()), datagram.ip_len, datagram.payload)
        }
        EtherType(ptp::ETHERTYPE) => {
            (Transport::L2, None, u16::try_from(rest.len()).map_err(|_| FrameError::NotOurPtp)?, rest)
        }
        other => return Err(FrameError::NotIpv4(other.0)),
    };
    let probe = ptp::parse(payload).ok_or(FrameError::NotOurPtp)?;
    Ok(PtpFrame { link, transport, destination, ip_len, probe })
}

/// Reads the IPv4 packet behind an Ethernet header.
#[inline]
fn parse_packet(link: LinkHeader, packet: &[u8]) -> Result<ParsedFrame<'_>, FrameError> {
    let fixed: &[u8; IPV4_LEN] = packet.first_chunk().ok_or(FrameError::BadIpHeader)?;
    let header_len = usize::from(fixed[0] & 0x0f) * 4;
    if fixed[0] >> 4 != 4 || header_len < IPV4_LEN {
        return Err(FrameError::BadIpHeader);
    }
    let header = packet.get(..header_len).ok_or(FrameError::BadIpHeader)?;
    if fold(sum(header)) != 0xffff {
        return Err(FrameError::BadIpChecksum);
    }
    let total_len = u16_at(fixed, 2);
    let datagram = packet.get(header_len..usize::from(total_len)).ok_or(FrameError::BadIpLength(total_len))?;
    // More fragments, or an offset; RFC 791, section 3.1. The reserved bit and DF say nothing here.
    if u16_at(fixed, 6) & 0x3fff != 0 {
        return Err(FrameError::Fragment);
    }
    if fixed[9] != IpNextHeaderProtocols::Udp.0 {
        return Err(FrameError::NotUdp(fixed[9]));
    }
    let udp: &[u8; UDP_LEN] = datagram.first_chunk().ok_or(FrameError::BadUdpLength)?;
    let udp_len = u16_at(udp, 4);
    let payload = datagram.get(UDP_LEN..usize::from(udp_len)).ok_or(FrameError::BadUdpLength)?;
    if !udp_checksum_is_right(fixed, udp, payload) {
        return Err(FrameError::BadUdpChecksum);
    }
    Ok(ParsedFrame {
        link,
        source: SocketAddrV4::new(address_at(fixed, 12), u16_at(udp, 0)),
        destination: SocketAddrV4::new(address_at(fixed, 16), u16_at(udp, 2)),
        // No overflow: a header of 20 bytes and this length are within the total length, which is a u16.
        ip_len: udp_len + IPV4_LEN as u16,
        payload,
    })
}

/// What lies between the Ethernet header and the message.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Envelope {
    /// IPv4 and UDP, on the session's ports: nanoprobe's.
    Plain,
    /// A PTP header; over UDP behind those of IPv4 and UDP on port 319.
    Ptp {
        /// What carries it.
        transport: Transport,
        /// Whether a card that knows PTP is to stamp it.
        stamped: bool,
    },
}

impl Envelope {
    /// The envelope of a ping or pong of this shape, in a session whose PTP messages go this way.
    pub const fn new(shape: Shape, transport: Transport) -> Self {
        match shape {
            Shape::Plain => Self::Plain,
            Shape::Stamped => Self::Ptp { transport, stamped: true },
            Shape::Unstamped => Self::Ptp { transport, stamped: false },
        }
    }

    /// Where the message begins: bytes behind the Ethernet header.
    const fn message_at(self) -> usize {
        match self {
            Self::Plain => IPV4_LEN + UDP_LEN,
            Self::Ptp { transport: Transport::Udp, .. } => IPV4_LEN + UDP_LEN + ptp::SYNC_LEN,
            Self::Ptp { transport: Transport::L2, .. } => ptp::SYNC_LEN,
        }
    }

    /// The least padding that leaves room for the PTP header, in bytes.
    const fn min_padding(self) -> u16 {
        match self {
            Self::Plain => 0,
            Self::Ptp { transport, .. } => transport.min_padding(),
        }
    }

    const fn has_ip(self) -> bool {
        !matches!(self, Self::Ptp { transport: Transport::L2, .. })
    }
}

/// The headers of one flow, one kind of message and one envelope, ready but for sequence, lengths and checksums.
///
/// What it writes is what nanoprobe's kernel sends: DF set, TTL 64, TOS 0, and a complete UDP checksum, as nothing
/// behind an AF_XDP socket would add one; only the IPv4 identification is 0, which RFC 6864, section 4.1 allows for a
/// packet that is never fragmented. Frames shorter than Ethernet's 60 bytes are left to the driver to pad.
///
/// A padding is the same size on the wire in any envelope: a PTP header takes the place of zeros.
///
/// [`write`](Self::write) and [`patch`](Self::patch) are for the hot path: no allocation, and the checksum costs the
/// same for any padding, because zeros add nothing to it.
#[derive(Debug, Clone, Copy)]
pub struct Template {
    flow: Flow,
    kind: Kind,
    envelope: Envelope,
    /// All headers and the message's; only the first `head_len` bytes count.
    head: [u8; MAX_LINK_LEN + MAX_HEAD_LEN],
    /// Sum of the IPv4 header, without total length and checksum.
    ip_sum: u32,
    /// Sum of pseudo-header, ports, PTP header and message, without lengths, checksum, sequence and sequenceId.
    udp_sum: u32,
}

impl Template {
    /// Builds the headers of nanoprobe's datagram. What a control message says besides: see [`write_control`].
    pub fn new(flow: &Flow, kind: Kind) -> Self {
        Self::in_envelope(flow, kind, Envelope::Plain)
    }

    /// Builds the headers of a datagram in this envelope. The flow has the session's ports, whichever the envelope's are.
    pub fn in_envelope(flow: &Flow, kind: Kind, envelope: Envelope) -> Self {
        let mut head = [0; MAX_LINK_LEN + MAX_HEAD_LEN];
        let (link, packet) = head.split_at_mut(flow.link.len());
        link.copy_from_slice(flow.link.as_bytes());
        let message = Message { kind, sequence: 0 };
        let (mut ip_sum, mut udp_sum) = (0, 0);
        if envelope.has_ip() {
            let (ip, udp) = packet.split_at_mut(IPV4_LEN);
            let (source, destination) = match envelope {
                Envelope::Plain => {
                    udp[UDP_LEN..UDP_LEN + HEADER_LEN].copy_from_slice(&message.to_bytes());
                    (flow.source.port(), flow.destination.port())
                }
                Envelope::Ptp { stamped, .. } => {
                    udp[UDP_LEN..UDP_LEN + ptp::HEAD_LEN].copy_from_slice(&ptp::head(flow.source, stamped, message));
                    (ptp::UDP_PORT, ptp::UDP_PORT)
                }
            };
            put_ip_and_ports(flow, ip, udp, source, destination);
            let pseudo_header = sum(&flow.source.ip().octets())
                + sum(&flow.destination.ip().octets())
                + u32::from(IpNextHeaderProtocols::Udp.0);
            (ip_sum, udp_sum) = (sum(ip), pseudo_header + sum(udp));
        } else if let Envelope::Ptp { stamped, .. } = envelope {
            packet[..ptp::HEAD_LEN].copy_from_slice(&ptp::head(flow.source, stamped, message));
            link[flow.link.len() - 2..].copy_from_slice(&ptp::ETHERTYPE.to_be_bytes());
        }
        Self { flow: *flow, kind, envelope, head, ip_sum, udp_sum }
    }

    /// Has it lead somewhere else, as one that is built for that flow does. Takes a part of the time where the Ethernet header is as
    /// long as before and only the receiver is another.
    #[inline]
    pub fn turn_to(&mut self, flow: &Flow) {
        let len = self.flow.link.len();
        if self.envelope != Envelope::Plain || flow.link.len() != len || flow.source != self.flow.source {
            *self = Self::in_envelope(flow, self.kind, self.envelope);
            return;
        }
        let words = |to: &SocketAddrV4| (sum(&to.ip().octets()), u32::from(to.port()));
        let ((old_ip, old_port), (ip, port)) = (words(&self.flow.destination), words(&flow.destination));
        self.ip_sum = self.ip_sum - old_ip + ip;
        // The address is in the pseudo-header.
        self.udp_sum = self.udp_sum - (old_ip + old_port) + (ip + port);
        self.head[..len].copy_from_slice(flow.link.as_bytes());
        let packet = &mut self.head[len..];
        packet[DESTINATION_AT..DESTINATION_AT + 4].copy_from_slice(&flow.destination.ip().octets());
        packet[DESTINATION_PORT_AT..DESTINATION_PORT_AT + 2].copy_from_slice(&flow.destination.port().to_be_bytes());
        self.flow = *flow;
    }

    /// The flow it was built for.
    pub fn flow(&self) -> &Flow {
        &self.flow
    }

    /// The kind of message it writes.
    pub fn kind(&self) -> Kind {
        self.kind
    }

    /// What it puts the message into.
    pub fn envelope(&self) -> Envelope {
        self.envelope
    }

    /// Bytes of a frame with so many bytes of padding, without the frame check sequence.
    pub fn frame_len(&self, padding: u16) -> usize {
        self.flow.link.len() + usize::from(MIN_IP_LEN) + usize::from(padding)
    }

    /// Writes a whole frame to the start of `buf`: headers, message, and zeros as padding. Returns its length.
    ///
    /// # Panics
    /// If `buf` is shorter than [`frame_len`](Self::frame_len), or `padding` more than [`MAX_PADDING`] or less than
    /// [`Transport::min_padding`]; never with a `buf` of [`MAX_FRAME_LEN`] and a padding from checked settings.
    #[inline]
    pub fn write(&self, buf: &mut [u8], sequence: u64, padding: u16) -> usize {
        assert!(padding <= MAX_PADDING, "{padding} bytes of padding are more than the protocol has");
        assert!(padding >= self.envelope.min_padding(), "{padding} bytes of padding do not hold a PTP header");
        let len = self.frame_len(padding);
        let (head, zeros) = buf[..len].split_at_mut(self.head_len());
        head.copy_from_slice(&self.head[..self.head_len()]);
        zeros.fill(0);

        let packet = &mut head[self.flow.link.len()..];
        if self.envelope.has_ip() {
            let (ip, udp) = packet.split_at_mut(IPV4_LEN);
            let ip_len = MIN_IP_LEN + padding;
            ip[2..4].copy_from_slice(&ip_len.to_be_bytes());
            ip[10..12].copy_from_slice(&(!fold(self.ip_sum + u32::from(ip_len))).to_be_bytes());
            udp[4..6].copy_from_slice(&udp_len(padding).to_be_bytes());
        }
        self.put_sequence(packet, sequence, padding, 0);
        len
    }

    /// Changes the sequence of a frame, in a PTP header the sequenceId, and with them the UDP checksum.
    ///
    /// `buf` begins with what [`write`](Self::write) of this template wrote with the same padding; anything else gives
    /// a frame with a wrong checksum.
    ///
    /// # Panics
    /// If `buf` is shorter than [`frame_len`](Self::frame_len).
    #[inline]
    pub fn patch(&self, buf: &mut [u8], sequence: u64, padding: u16) {
        let frame = &mut buf[..self.frame_len(padding)];
        self.put_sequence(&mut frame[self.flow.link.len()..], sequence, padding, 0);
    }

    /// Writes what a pong tells of stamps ([`super::in_band`]) in place of its first zeros, and the sequence again: the sum
    /// is that of all. t2 follows with [`put_t2`](Self::put_t2), as it is not known before the very end.
    ///
    /// `buf` begins with what [`write`](Self::write) of this template wrote with the same padding; such stamps may stand there
    /// already.
    ///
    /// # Panics
    /// If `buf` is shorter than [`frame_len`](Self::frame_len), or the padding less than that of the envelope and
    /// [`in_band::MIN_PADDING`] together.
    #[inline]
    pub fn put_in_band(&self, buf: &mut [u8], sequence: u64, padding: u16, told: &InBand) {
        let body = told.to_bytes();
        let frame = &mut buf[..self.frame_len(padding)];
        self.body(frame).copy_from_slice(&body);
        self.put_sequence(&mut frame[self.flow.link.len()..], sequence, padding, sum(&body));
    }

    /// Writes t2 into a frame with stamps, in ns, whatever stood there before, and corrects the UDP checksum by the difference
    /// (RFC 1624, section 3): for the moment between the look at the clock and the hand-over.
    ///
    /// # Panics
    /// As [`put_in_band`](Self::put_in_band), which has been called for this frame.
    #[inline]
    pub fn put_t2(&self, frame: &mut [u8], t2: u64) {
        let body = self.body(frame);
        let parts = |body: &[u8; in_band::LEN]| in_band::T2_PARTS.map(|part| sum(&body[part])).iter().sum::<u32>();
        let before = parts(body);
        in_band::put_t2(body, t2);
        let after = parts(body);
        if self.envelope.has_ip() {
            let at = self.flow.link.len() + IPV4_LEN + 6;
            let checksum = u16_at(frame, at);
            // HC' = ~(~HC + ~m + m').
            let corrected = !fold(u32::from(!checksum) + u32::from(!fold(before)) + u32::from(fold(after)));
            // As in put_sequence.
            let corrected = if corrected == 0 { 0xffff } else { corrected };
            frame[at..at + 2].copy_from_slice(&corrected.to_be_bytes());
        }
    }

    /// Where a frame's stamps are: behind the message's header.
    fn body<'a>(&self, frame: &'a mut [u8]) -> &'a mut [u8; in_band::LEN] {
        frame[self.head_len()..].first_chunk_mut().expect("a pong with stamps has room for them")
    }

    /// `packet` begins behind the Ethernet header; `rest` is the sum of what follows the message's header.
    #[inline]
    fn put_sequence(&self, packet: &mut [u8], sequence: u64, padding: u16, rest: u32) {
        let at = self.envelope.message_at();
        let bytes = sequence.to_le_bytes();
        packet[at..at + KIND_AT].copy_from_slice(&bytes);
        let mut sequences = sum(&bytes);
        if self.envelope != Envelope::Plain {
            let id = ptp::sequence_id(sequence);
            packet[at - SEQUENCE_ID_BEFORE..][..2].copy_from_slice(&id.to_be_bytes());
            sequences += u32::from(id);
        }
        if !self.envelope.has_ip() {
            return;
        }
        // The length stands in the pseudo-header and in the header (RFC 768). At most 10 + 76 bytes of words and these
        // few: far from a carry out of 32 bits.
        let sum = self.udp_sum + 2 * u32::from(udp_len(padding)) + sequences + rest;
        // RFC 768: a sum that comes out as zero is sent as all ones, as zero means that there is none.
        let checksum = match !fold(sum) {
            0 => 0xffff,
            checksum => checksum,
        };
        packet[IPV4_LEN + 6..IPV4_LEN + UDP_LEN].copy_from_slice(&checksum.to_be_bytes());
    }

    fn head_len(&self) -> usize {
        self.flow.link.len() + self.envelope.message_at() + HEADER_LEN
    }
}

/// Writes the IPv4 header but for its length and checksum, and the ports of the UDP header.
fn put_ip_and_ports(flow: &Flow, ip: &mut [u8], udp: &mut [u8], source: u16, destination: u16) {
    let mut ip = MutableIpv4Packet::new(ip).expect("20 bytes hold an IPv4 header");
    ip.set_version(4);
    ip.set_header_length((IPV4_LEN / 4) as u8);
    ip.set_flags(Ipv4Flags::DontFragment);
    ip.set_ttl(TTL);
    ip.set_next_level_protocol(IpNextHeaderProtocols::Udp);
    ip.set_source(*flow.source.ip());
    ip.set_destination(*flow.destination.ip());
    let mut udp = MutableUdpPacket::new(udp).expect("24 bytes and more hold a UDP header");
    udp.set_source(source);
    udp.set_destination(destination);
}

/// Writes a control message to the start of `buf`, with what it says behind its header: the settings of a SYN, an
/// extension. Returns the frame's length in bytes.
///
/// # Panics
/// If `buf` is shorter than the frame, or `body` longer than [`MAX_PADDING`].
pub fn write_control(flow: &Flow, message: Message, body: &[u8], buf: &mut [u8]) -> usize {
    let template = Template::new(flow, message.kind);
    let body_len = u16::try_from(body.len()).unwrap_or(u16::MAX);
    let len = template.write(buf, message.sequence, body_len);
    let packet = &mut buf[flow.link.len()..len];
    template.put_sequence(packet, message.sequence, body_len, long_sum(body).into());
    packet[IPV4_LEN + UDP_LEN + HEADER_LEN..].copy_from_slice(body);
    len
}

/// The UDP length of a message with so much padding.
fn udp_len(padding: u16) -> u16 {
    (UDP_LEN + HEADER_LEN) as u16 + padding
}

fn u16_at(bytes: &[u8], at: usize) -> u16 {
    u16::from_be_bytes([bytes[at], bytes[at + 1]])
}

fn address_at(header: &[u8; IPV4_LEN], at: usize) -> Ipv4Addr {
    Ipv4Addr::new(header[at], header[at + 1], header[at + 2], header[at + 3])
}

/// Whether the UDP checksum is one of those that [`parse`] accepts.
#[inline]
fn udp_checksum_is_right(ip: &[u8; IPV4_LEN], udp: &[u8; UDP_LEN], payload: &[u8]) -> bool {
    let checksum = u16_at(udp, 6);
    let pseudo_header = sum(&ip[12..]) + u32::from(IpNextHeaderProtocols::Udp.0) + u32::from(u16_at(udp, 4));
    checksum == 0
        || checksum == fold(pseudo_header)
        || fold(pseudo_header + sum(udp) + u32::from(long_sum(payload))) == 0xffff
}

/// The words of `bytes` added up (RFC 1071) and folded: for any length up to that of an IPv4 packet. An odd byte at the
/// end is the upper half of a word.
#[inline]
fn long_sum(bytes: &[u8]) -> u16 {
    // In the machine's byte order and 32 bits at a time, which gives the same sum (RFC 1071, section 2). 16 Ki values of
    // 32 bits are far from a carry out of 64.
    let (chunks, rest) = bytes.as_chunks::<4>();
    let mut last = [0; 4];
    last[..rest.len()].copy_from_slice(rest);
    let sum: u64 = chunks.iter().chain([&last]).map(|chunk| u64::from(u32::from_ne_bytes(*chunk))).sum();
    let once = (sum & 0xffff_ffff) + (sum >> 32);
    let twice = (once & 0xffff) + (once >> 16 & 0xffff) + (once >> 32);
    u16::from_be(fold(twice as u32))
}

/// The words of `bytes` added up (RFC 1071), not folded: for headers, whose length is even and at most 76 bytes.
#[inline]
fn sum(bytes: &[u8]) -> u32 {
    bytes.chunks_exact(2).map(|word| u32::from(u16::from_be_bytes([word[0], word[1]]))).sum()
}

/// The one's complement sum of 16 bits: carries are added back (RFC 1071, section 1).
#[inline]
const fn fold(sum: u32) -> u16 {
    let once = (sum & 0xffff) + (sum >> 16);
    ((once & 0xffff) + (once >> 16)) as u16
}

#[cfg(test)]
mod tests;
