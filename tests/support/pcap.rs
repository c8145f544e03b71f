//! Reads the golden captures: classic pcap files, and the UDP datagrams in them.
//!
//! Only what `tests/golden` has is read: little endian, microseconds, Ethernet without tags. Anything else panics, as
//! a test on other data would prove nothing. Headers are taken apart with `pnet_packet` and not with the crate's own
//! parser, so that the two check each other.
#![allow(dead_code, reason = "each test binary uses its part")]

use pnet_packet::Packet as _;
use pnet_packet::ethernet::{EtherTypes, EthernetPacket};
use pnet_packet::ip::IpNextHeaderProtocols;
use pnet_packet::ipv4::{Ipv4Flags, Ipv4Packet};
use pnet_packet::udp::UdpPacket;
use std::net::SocketAddrV4;
use std::path::Path;

/// A captured frame.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Packet {
    /// When it was captured: microseconds since 1970, UTC.
    pub micros: u64,
    /// The frame from its Ethernet header, without frame check sequence.
    pub bytes: Vec<u8>,
}

/// A whole UDP datagram, from one packet or several.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Datagram {
    /// When it was whole: the time of its (last) packet, in microseconds since 1970, UTC.
    pub micros: u64,
    /// The sender.
    pub source: SocketAddrV4,
    /// The receiver.
    pub destination: SocketAddrV4,
    /// What is behind the UDP header.
    pub payload: Vec<u8>,
    /// Whether it came in more than one packet.
    pub fragmented: bool,
}

/// The packets of a capture, in its order. The format is that of draft-ietf-opsawg-pcap, section 4 and 5.
///
/// # Panics
/// If the file cannot be read, is of another variant of the format, or ends within a packet.
pub fn read(path: &Path) -> Vec<Packet> {
    const FILE_HEADER: usize = 24;
    const PACKET_HEADER: usize = 16;
    const MICROSECONDS: u32 = 0xa1b2_c3d4;
    const ETHERNET: u32 = 1;

    let bytes = std::fs::read(path).unwrap_or_else(|error| panic!("cannot read {}: {error}", path.display()));
    let u32_at = |at: usize| u32::from_le_bytes(bytes[at..at + 4].try_into().unwrap());
    assert_eq!(u32_at(0), MICROSECONDS, "{}: not a little endian pcap in microseconds", path.display());
    assert_eq!(u32_at(20), ETHERNET, "{}: not a capture of Ethernet", path.display());
    let mut packets = Vec::new();
    let mut at = FILE_HEADER;
    while at < bytes.len() {
        let (captured, original) = (u32_at(at + 8), u32_at(at + 12));
        assert_eq!(captured, original, "{}: the packet at {at} is cut", path.display());
        let end = at + PACKET_HEADER + captured as usize;
        packets.push(Packet {
            micros: u64::from(u32_at(at)) * 1_000_000 + u64::from(u32_at(at + 4)),
            bytes: bytes[at + PACKET_HEADER..end].to_vec(),
        });
        at = end;
    }
    packets
}

/// The UDP datagrams in these packets, fragments put together. Fragments must follow each other in order.
///
/// # Panics
/// If a packet is not IPv4 with UDP, fragments are out of order, or a datagram is left incomplete.
pub fn datagrams(packets: &[Packet]) -> Vec<Datagram> {
    let mut datagrams = Vec::new();
    // Identification and bytes so far of the datagram that fragments are still missing of.
    let mut pending: Option<(u16, Vec<u8>)> = None;
    for packet in packets {
        let ethernet = EthernetPacket::new(&packet.bytes).unwrap();
        assert_eq!(ethernet.get_ethertype(), EtherTypes::Ipv4);
        let ip = Ipv4Packet::new(ethernet.payload()).unwrap();
        assert_eq!(ip.get_next_level_protocol(), IpNextHeaderProtocols::Udp);
        let id = ip.get_identification();
        let fragmented = pending.is_some() || ip.get_flags() & Ipv4Flags::MoreFragments != 0;
        let mut bytes = match pending.take() {
            None => Vec::new(),
            Some((first_id, bytes)) => {
                assert_eq!(id, first_id, "a fragment of another datagram came between");
                bytes
            }
        };
        assert_eq!(usize::from(ip.get_fragment_offset()) * 8, bytes.len(), "a fragment is missing or out of order");
        bytes.extend_from_slice(ip.payload());
        if ip.get_flags() & Ipv4Flags::MoreFragments != 0 {
            pending = Some((id, bytes));
            continue;
        }
        let udp = UdpPacket::new(&bytes).unwrap();
        assert_eq!(usize::from(udp.get_length()), bytes.len());
        datagrams.push(Datagram {
            micros: packet.micros,
            source: SocketAddrV4::new(ip.get_source(), udp.get_source()),
            destination: SocketAddrV4::new(ip.get_destination(), udp.get_destination()),
            payload: udp.payload().to_vec(),
            fragmented,
        });
    }
    assert_eq!(pending, None, "the last datagram is incomplete");
    datagrams
}
