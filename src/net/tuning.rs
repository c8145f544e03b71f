//! How a driver is set up where that costs latency: interrupt coalescing and offloads, by ethtool's netlink
//! (Documentation/networking/ethtool-netlink.rst).
//!
//! It is only looked at. Changing it is the user's.
#![forbid(unsafe_code)]

use super::NetError;
use super::genl::attributes_of;
use super::netlink::Attributes;
use super::tsinfo::ask;

/// `ETHTOOL_MSG_FEATURES_GET` of `linux/ethtool_netlink.h`.
const FEATURES_GET: u8 = 11;
/// `ETHTOOL_MSG_COALESCE_GET` of `linux/ethtool_netlink.h`.
const COALESCE_GET: u8 = 19;
/// `ETHTOOL_A_FEATURES_ACTIVE` of `linux/ethtool_netlink.h`.
const FEATURES_ACTIVE: u16 = 4;
/// `ETHTOOL_A_BITSET_BITS` of `linux/ethtool_netlink.h`.
const BITSET_BITS: u16 = 3;
/// `ETHTOOL_A_BITSET_BITS_BIT` of `linux/ethtool_netlink.h`.
const BITSET_BITS_BIT: u16 = 1;
/// `ETHTOOL_A_BITSET_BIT_NAME` of `linux/ethtool_netlink.h`.
const BITSET_BIT_NAME: u16 = 2;
/// `ETHTOOL_A_COALESCE_RX_USECS` of `linux/ethtool_netlink.h`.
const COALESCE_RX_USECS: u16 = 2;
/// `ETHTOOL_A_COALESCE_RX_MAX_FRAMES` of `linux/ethtool_netlink.h`.
const COALESCE_RX_MAX_FRAMES: u16 = 3;
/// `ETHTOOL_A_COALESCE_TX_USECS` of `linux/ethtool_netlink.h`.
const COALESCE_TX_USECS: u16 = 6;
/// `ETHTOOL_A_COALESCE_TX_MAX_FRAMES` of `linux/ethtool_netlink.h`.
const COALESCE_TX_MAX_FRAMES: u16 = 7;
/// `ETHTOOL_A_COALESCE_USE_ADAPTIVE_RX` of `linux/ethtool_netlink.h`.
const COALESCE_USE_ADAPTIVE_RX: u16 = 11;
/// `ETHTOOL_A_COALESCE_USE_ADAPTIVE_TX` of `linux/ethtool_netlink.h`.
const COALESCE_USE_ADAPTIVE_TX: u16 = 12;

/// How long and for how many packets the card holds an interrupt back; each `None` where the driver does not have it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Coalescing {
    /// Microseconds after a packet was received.
    pub rx_usecs: Option<u32>,
    /// Packets received.
    pub rx_max_frames: Option<u32>,
    /// Microseconds after a packet was sent.
    pub tx_usecs: Option<u32>,
    /// Packets sent.
    pub tx_max_frames: Option<u32>,
    /// The driver changes the receiving ones as it sees fit.
    pub adaptive_rx: Option<bool>,
    /// The driver changes the sending ones as it sees fit.
    pub adaptive_tx: Option<bool>,
}

/// Asks for the interrupt coalescing of an interface; `None` where its driver has none to tell.
///
/// # Errors
/// [`NetError::Netlink`] where the kernel refuses to answer.
pub fn coalescing(if_index: u32) -> Result<Option<Coalescing>, NetError> {
    let failed = |answer| NetError::Netlink {
        attempt: format!("ask for the interrupt coalescing of the interface with index {if_index}"),
        answer,
    };
    let answer = ask(COALESCE_GET, if_index, 0).map_err(failed)?;
    Ok(answer.map(|body| read_coalescing(attributes_of(&body))))
}

fn read_coalescing(attributes: Attributes<'_>) -> Coalescing {
    Coalescing {
        rx_usecs: attributes.u32(COALESCE_RX_USECS),
        rx_max_frames: attributes.u32(COALESCE_RX_MAX_FRAMES),
        tx_usecs: attributes.u32(COALESCE_TX_USECS),
        tx_max_frames: attributes.u32(COALESCE_TX_MAX_FRAMES),
        adaptive_rx: attributes.u8(COALESCE_USE_ADAPTIVE_RX).map(|on| on != 0),
        adaptive_tx: attributes.u8(COALESCE_USE_ADAPTIVE_TX).map(|on| on != 0),
    }
}

/// The names of the features that are active on an interface, as `ethtool -k` of the kernel knows them (`rx-gro`, say);
/// `None` where the kernel is too old to be asked this way (before 5.9).
///
/// # Errors
/// [`NetError::Netlink`] where the kernel refuses to answer.
pub fn active_features(if_index: u32) -> Result<Option<Vec<String>>, NetError> {
    let failed = |answer| NetError::Netlink {
        attempt: format!("ask for the offloads of the interface with index {if_index}"),
        answer,
    };
    let answer = ask(FEATURES_GET, if_index, 0).map_err(failed)?;
    Ok(answer.map(|body| read_active(attributes_of(&body))))
}

fn read_active(attributes: Attributes<'_>) -> Vec<String> {
    let bits = attributes.nested(FEATURES_ACTIVE).and_then(|bitset| bitset.nested(BITSET_BITS));
    let bits = bits.into_iter().flat_map(|bits| bits.all_nested(BITSET_BITS_BIT));
    bits.filter_map(|bit| bit.string(BITSET_BIT_NAME)).collect()
}

#[cfg(test)]
mod tests {
    use super::super::genl::Builder;
    use super::*;

    #[test]
    fn coalescing_is_read_and_what_a_driver_lacks_is_absent() {
        let mut answer = Builder::default();
        answer.u32(COALESCE_RX_USECS, 3);
        answer.u32(COALESCE_TX_USECS, 50);
        answer.bytes(COALESCE_USE_ADAPTIVE_RX, &[1]);
        let found = read_coalescing(Attributes::after(0, answer.as_bytes()));
        let expected =
            Coalescing { rx_usecs: Some(3), tx_usecs: Some(50), adaptive_rx: Some(true), ..Coalescing::default() };
        assert_eq!(found, expected);
    }

    #[test]
    fn active_features_are_named() {
        let mut bits = Builder::default();
        for (index, name) in [(14, "rx-gro"), (8, "rx-vlan-hw-parse")] {
            let mut bit = Builder::default();
            bit.u32(1, index);
            bit.string(BITSET_BIT_NAME, name);
            bits.nest(BITSET_BITS_BIT, &bit);
        }
        let mut set = Builder::default();
        set.u32(2, 64);
        set.nest(BITSET_BITS, &bits);
        let mut answer = Builder::default();
        answer.nest(FEATURES_ACTIVE, &set);
        assert_eq!(read_active(Attributes::after(0, answer.as_bytes())), ["rx-gro", "rx-vlan-hw-parse"]);
        assert_eq!(read_active(Attributes::after(0, &[])), [""; 0]);
    }
}
