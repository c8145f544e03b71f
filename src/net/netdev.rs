//! What a driver can do for XDP and AF_XDP: the netdev family of generic netlink (Documentation/netlink/specs/netdev.yaml).
//!
//! The bits say what a driver implements, not that it is switched on, nor that it works for each packet.
#![forbid(unsafe_code)]

use super::NetError;
use super::genl::{Builder, Family, attributes_of};
use super::kernel_version::KernelVersion;
use super::netlink::Attributes;
use netlink_packet_core::NLM_F_DUMP;

/// `NETDEV_FAMILY_NAME` of `linux/netdev.h`.
const FAMILY: &str = "netdev";
/// `NETDEV_CMD_DEV_GET` of `linux/netdev.h`.
const DEV_GET: u8 = 1;
/// `NETDEV_A_DEV_IFINDEX` of `linux/netdev.h`.
const DEV_IFINDEX: u16 = 1;
/// `NETDEV_A_DEV_XDP_FEATURES` of `linux/netdev.h`.
const DEV_XDP_FEATURES: u16 = 3;
/// `NETDEV_A_DEV_XDP_ZC_MAX_SEGS` of `linux/netdev.h`.
const DEV_XDP_ZC_MAX_SEGS: u16 = 4;
/// `NETDEV_A_DEV_XDP_RX_METADATA_FEATURES` of `linux/netdev.h`.
const DEV_XDP_RX_METADATA_FEATURES: u16 = 5;
/// `NETDEV_A_DEV_XSK_FEATURES` of `linux/netdev.h`.
const DEV_XSK_FEATURES: u16 = 6;

/// `NETDEV_CMD_QUEUE_GET` of `linux/netdev.h`.
const QUEUE_GET: u8 = 10;
/// `NETDEV_A_QUEUE_ID` of `linux/netdev.h`.
const QUEUE_ID: u16 = 1;
/// `NETDEV_A_QUEUE_IFINDEX` of `linux/netdev.h`.
const QUEUE_IFINDEX: u16 = 2;
/// `NETDEV_A_QUEUE_TYPE` of `linux/netdev.h`.
const QUEUE_TYPE: u16 = 3;
/// `NETDEV_A_QUEUE_NAPI_ID` of `linux/netdev.h`.
const QUEUE_NAPI_ID: u16 = 4;
/// `NETDEV_QUEUE_TYPE_RX` of `linux/netdev.h`.
const QUEUE_TYPE_RX: u32 = 0;

/// `NETDEV_XDP_ACT_BASIC` of `linux/netdev.h`: native XDP with `XDP_PASS`, `XDP_DROP`, `XDP_TX` and `XDP_ABORTED`.
pub const XDP_ACT_BASIC: u64 = 1;
/// `NETDEV_XDP_ACT_REDIRECT` of `linux/netdev.h`.
pub const XDP_ACT_REDIRECT: u64 = 2;
/// `NETDEV_XDP_ACT_XSK_ZEROCOPY` of `linux/netdev.h`: AF_XDP in zero-copy mode.
pub const XDP_ACT_XSK_ZEROCOPY: u64 = 8;
/// `NETDEV_XDP_RX_METADATA_TIMESTAMP` of `linux/netdev.h`: the kfunc `bpf_xdp_metadata_rx_timestamp`.
pub const RX_METADATA_TIMESTAMP: u64 = 1;
/// `NETDEV_XSK_FLAGS_TX_TIMESTAMP` of `linux/netdev.h`: stamps of what AF_XDP sends, in its completion.
pub const XSK_TX_TIMESTAMP: u64 = 1;

/// `enum netdev_xdp_act` of `linux/netdev.h`, as netdev.yaml names its bits from bit 0 up.
const XDP_ACT_NAMES: [&str; 7] =
    ["basic", "redirect", "ndo-xmit", "xsk-zerocopy", "hw-offload", "rx-sg", "ndo-xmit-sg"];
/// `enum netdev_xdp_rx_metadata` of `linux/netdev.h`, likewise.
const RX_METADATA_NAMES: [&str; 3] = ["timestamp", "hash", "vlan-tag"];
/// `enum netdev_xsk_flags` of `linux/netdev.h`, likewise.
const XSK_NAMES: [&str; 3] = ["tx-timestamp", "tx-checksum", "tx-launch-time-fifo"];

/// What a driver says of itself; each `None` where the kernel is too old to say it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct XdpFeatures {
    /// `NETDEV_XDP_ACT_...` bits (Linux 6.3); 0 where the driver has no XDP of its own.
    pub xdp: Option<u64>,
    /// How many buffers a zero-copy frame may consist of (Linux 6.6); absent where the driver has no zero-copy too.
    pub zero_copy_max_segments: Option<u32>,
    /// `NETDEV_XDP_RX_METADATA_...` bits (Linux 6.7).
    pub rx_metadata: Option<u64>,
    /// `NETDEV_XSK_FLAGS_...` bits (Linux 6.8).
    pub xsk: Option<u64>,
}

impl XdpFeatures {
    /// The names in netdev.yaml of the bits of [`XdpFeatures::xdp`].
    pub fn xdp_names(&self) -> Option<Vec<String>> {
        self.xdp.map(|bits| names(bits, &XDP_ACT_NAMES))
    }

    /// The names in netdev.yaml of the bits of [`XdpFeatures::rx_metadata`].
    pub fn rx_metadata_names(&self) -> Option<Vec<String>> {
        self.rx_metadata.map(|bits| names(bits, &RX_METADATA_NAMES))
    }

    /// Whether the driver gives XDP programs the card's receive stamps. Linux 6.3 to 6.6 have such drivers and do not tell: of
    /// those it is known by the `driver`'s name, and `None` of any other.
    pub fn gives_receive_stamps(&self, driver: Option<&str>, kernel: Option<KernelVersion>) -> Option<bool> {
        let is_early = || {
            let (_, since) = EARLY_RECEIVE_STAMPS.iter().find(|(name, _)| Some(*name) == driver)?;
            (kernel? >= *since).then_some(true)
        };
        self.rx_metadata.map_or_else(is_early, |bits| Some(bits & RX_METADATA_TIMESTAMP != 0))
    }

    /// The names in netdev.yaml of the bits of [`XdpFeatures::xsk`].
    pub fn xsk_names(&self) -> Option<Vec<String>> {
        self.xsk.map(|bits| names(bits, &XSK_NAMES))
    }
}

/// Drivers that give XDP programs receive stamps, with the release that has it in each, for kernels that cannot be asked.
const EARLY_RECEIVE_STAMPS: [(&str, KernelVersion); 5] = [
    ("mlx5_core", KernelVersion { major: 6, minor: 3 }),
    ("mlx4_en", KernelVersion { major: 6, minor: 3 }),
    ("veth", KernelVersion { major: 6, minor: 3 }),
    ("st_gmac", KernelVersion { major: 6, minor: 4 }),
    ("igc", KernelVersion { major: 6, minor: 5 }),
];

/// Asks what the driver of an interface can do for XDP.
///
/// # Errors
/// [`NetError::Netlink`] where the kernel refuses to answer, as when there is no such interface.
pub fn xdp_features(if_index: u32) -> Result<XdpFeatures, NetError> {
    let failed = |answer| NetError::Netlink {
        attempt: format!("ask what the interface with index {if_index} can do for XDP"),
        answer,
    };
    let Some(mut family) = Family::open(FAMILY).map_err(failed)? else { return Ok(XdpFeatures::default()) };
    let mut attributes = Builder::default();
    attributes.u32(DEV_IFINDEX, if_index);
    let answers = family.ask(DEV_GET, attributes, 0).map_err(failed)?;
    Ok(answers.first().map(|body| read(attributes_of(body))).unwrap_or_default())
}

/// A receive queue, and by which NAPI instance it is polled.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct RxQueue {
    /// Its number.
    pub queue: u32,
    /// What `SO_INCOMING_NAPI_ID` of a socket on it would be; `None` where the driver does not link the two, and then
    /// nobody can busy-poll it.
    pub napi_id: Option<u32>,
}

/// Asks for the receive queues of an interface that is up; `None` where the kernel is too old to tell (before 6.7).
///
/// # Errors
/// [`NetError::Netlink`] where the kernel refuses to answer.
pub fn rx_queues(if_index: u32) -> Result<Option<Vec<RxQueue>>, NetError> {
    let failed = |answer| NetError::Netlink {
        attempt: format!("ask for the queues of the interface with index {if_index}"),
        answer,
    };
    let Some(mut family) = Family::open(FAMILY).map_err(failed)? else { return Ok(None) };
    let mut attributes = Builder::default();
    attributes.u32(QUEUE_IFINDEX, if_index);
    match family.ask(QUEUE_GET, attributes, NLM_F_DUMP) {
        Ok(answers) => Ok(Some(answers.iter().filter_map(|body| rx_queue(attributes_of(body))).collect())),
        Err(answer) if answer.raw_os_error() == Some(libc::EOPNOTSUPP) => Ok(None),
        Err(answer) => Err(failed(answer)),
    }
}

fn rx_queue(attributes: Attributes<'_>) -> Option<RxQueue> {
    let is_rx = attributes.u32(QUEUE_TYPE)? == QUEUE_TYPE_RX;
    let queue = attributes.u32(QUEUE_ID)?;
    is_rx.then(|| RxQueue { queue, napi_id: attributes.u32(QUEUE_NAPI_ID).filter(|id| *id != 0) })
}

fn read(attributes: Attributes<'_>) -> XdpFeatures {
    XdpFeatures {
        xdp: attributes.u64(DEV_XDP_FEATURES),
        zero_copy_max_segments: attributes.u32(DEV_XDP_ZC_MAX_SEGS),
        rx_metadata: attributes.u64(DEV_XDP_RX_METADATA_FEATURES),
        xsk: attributes.u64(DEV_XSK_FEATURES),
    }
}

/// The names of the bits that are set; a bit without one is `bit-` and its number.
fn names(bits: u64, known: &[&str]) -> Vec<String> {
    let set = (0..64_usize).filter(|bit| bits & (1 << bit) != 0);
    set.map(|bit| known.get(bit).map_or_else(|| format!("bit-{bit}"), |name| (*name).to_owned())).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_old_kernels_answer_lacks_what_it_does_not_know() {
        let mut answer = Builder::default();
        answer.u32(DEV_IFINDEX, 2);
        answer.bytes(DEV_XDP_FEATURES, &0x17_u64.to_ne_bytes());
        let found = read(Attributes::after(0, answer.as_bytes()));
        assert_eq!(found, XdpFeatures { xdp: Some(0x17), ..XdpFeatures::default() });
        assert_eq!(found.xdp_names().unwrap(), ["basic", "redirect", "ndo-xmit", "hw-offload"]);
        assert_eq!(found.rx_metadata_names(), None);
    }

    #[test]
    fn only_receive_queues_are_taken_and_one_may_have_no_napi() {
        let queue = |kind, id, napi: Option<u32>| {
            let mut answer = Builder::default();
            answer.u32(QUEUE_ID, id);
            answer.u32(QUEUE_TYPE, kind);
            napi.into_iter().for_each(|napi| answer.u32(QUEUE_NAPI_ID, napi));
            rx_queue(Attributes::after(0, answer.as_bytes()))
        };
        assert_eq!(queue(QUEUE_TYPE_RX, 3, Some(8200)), Some(RxQueue { queue: 3, napi_id: Some(8200) }));
        assert_eq!(queue(QUEUE_TYPE_RX, 3, None), Some(RxQueue { queue: 3, napi_id: None }));
        assert_eq!(queue(1, 3, Some(8200)), None);
    }

    #[test]
    fn bits_without_a_name_are_not_lost() {
        assert_eq!(names(0b1001, &RX_METADATA_NAMES), ["timestamp", "bit-3"]);
        assert_eq!(names(0, &XSK_NAMES), [""; 0]);
    }

    #[test]
    fn an_interface_that_does_not_exist_is_an_error_with_the_kernels_answer() {
        let error = xdp_features(i32::MAX as u32).unwrap_err().to_string();
        assert!(error.contains("the interface with index 2147483647"), "{error}");
    }
}
