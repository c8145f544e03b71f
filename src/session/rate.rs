//! How much load: packets a second, or bits a second on the wire.

use std::fmt;

/// Bytes of an Ethernet header without VLAN tag.
const ETHERNET_HEADER: u64 = 14;
/// The fewest bytes that an Ethernet frame carries: shorter ones are filled up (IEEE 802.3, 3.2.8).
const MIN_ETHERNET_PAYLOAD: u64 = 46;
/// What a frame takes of the wire beside its bytes: preamble and start delimiter 8, checksum 4, gap between frames 12 (IEEE
/// 802.3, 3.1.1 and 4.4.2). A link's speed counts them.
const ETHERNET_OVERHEAD: u64 = 24;

/// Bits that an IP packet of so many bytes takes of an Ethernet link: as a frame without VLAN tag, with preamble, checksum
/// and the gap behind it.
pub const fn wire_bits(ip_len: u16) -> u64 {
    let payload = ip_len as u64;
    let payload = if payload < MIN_ETHERNET_PAYLOAD { MIN_ETHERNET_PAYLOAD } else { payload };
    (ETHERNET_HEADER + payload + ETHERNET_OVERHEAD) * 8
}

/// A rate of load, in the unit that the user thinks in.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Rate {
    /// Bits a second on the wire, as [`wire_bits`] counts them.
    Bits(u64),
    /// Packets a second.
    Packets(u64),
}

impl Rate {
    /// Packets of `ip_len` bytes a second that this allows: rounded down, so that it is never exceeded.
    pub const fn packets_per_second(self, ip_len: u16) -> u64 {
        match self {
            Self::Bits(bits) => bits / wire_bits(ip_len),
            Self::Packets(packets) => packets,
        }
    }
}

impl fmt::Display for Rate {
    /// As it is typed: the largest unit that needs no decimals.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (number, unit) = match *self {
            Self::Bits(number) => (number, "bit/s"),
            Self::Packets(number) => (number, "pps"),
        };
        let scales = [(1_000_000_000, "G"), (1_000_000, "M"), (1000, "k"), (1, "")];
        let (scale, prefix) =
            scales.into_iter().find(|(scale, _)| number % scale == 0 && number != 0).unwrap_or((1, ""));
        write!(f, "{} {prefix}{unit}", number / scale)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_gigabit_link_is_full_at_its_well_known_packet_rates() {
        // 1,488,095 frames of 64 bytes, 81,274 of 1518 bytes: RFC 2544 knows them too.
        let gigabit = Rate::Bits(1_000_000_000);
        assert_eq!((gigabit.packets_per_second(46), gigabit.packets_per_second(1500)), (1_488_095, 81_274));
        // What is shorter is filled up.
        assert_eq!(wire_bits(44), 84 * 8);
        assert_eq!(Rate::Bits(1).packets_per_second(1500), 0);
        assert_eq!(Rate::Packets(7).packets_per_second(1500), 7);
    }

    #[test]
    fn a_rate_is_said_in_its_largest_whole_unit() {
        let said = [
            (Rate::Bits(1_000_000_000), "1 Gbit/s"),
            (Rate::Bits(1_500_000_000), "1500 Mbit/s"),
            (Rate::Packets(10_000), "10 kpps"),
            (Rate::Packets(1), "1 pps"),
            (Rate::Bits(0), "0 bit/s"),
        ];
        for (rate, expected) in said {
            assert_eq!(rate.to_string(), expected);
        }
    }
}
