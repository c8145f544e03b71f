//! Which stamps a network card and its driver can take, and by which clock: ethtool's netlink (`ETHTOOL_MSG_TSINFO_GET`,
//! Documentation/networking/ethtool-netlink.rst), as `ethtool -T` shows it.
//!
//! It says what can be asked for, not what is on: that is `hwtstamp`'s.
#![forbid(unsafe_code)]

use super::NetError;
use super::genl::{Builder, Family, attributes_of};
use super::hwtstamp::{RxFilter, TxType};
use super::netlink::Attributes;
use std::io;

/// `ETHTOOL_GENL_NAME` of `linux/ethtool_netlink.h`.
const FAMILY: &str = "ethtool";
/// `ETHTOOL_MSG_TSINFO_GET` of `linux/ethtool_netlink.h`.
const TSINFO_GET: u8 = 25;
/// `ETHTOOL_A_HEADER_DEV_INDEX` of `linux/ethtool_netlink.h`.
const HEADER_DEV_INDEX: u16 = 1;
/// `ETHTOOL_A_HEADER_FLAGS` of `linux/ethtool_netlink.h`.
const HEADER_FLAGS: u16 = 3;
/// `ETHTOOL_FLAG_COMPACT_BITSETS` of `linux/ethtool_netlink.h`.
const COMPACT_BITSETS: u32 = 1;
/// `ETHTOOL_A_..._HEADER` of `linux/ethtool_netlink.h`: the first attribute of every request.
const HEADER: u16 = 1;
/// `ETHTOOL_A_TSINFO_TIMESTAMPING` of `linux/ethtool_netlink.h`.
const TIMESTAMPING: u16 = 2;
/// `ETHTOOL_A_TSINFO_TX_TYPES` of `linux/ethtool_netlink.h`.
const TX_TYPES: u16 = 3;
/// `ETHTOOL_A_TSINFO_RX_FILTERS` of `linux/ethtool_netlink.h`.
const RX_FILTERS: u16 = 4;
/// `ETHTOOL_A_TSINFO_PHC_INDEX` of `linux/ethtool_netlink.h`.
const PHC_INDEX: u16 = 5;
/// `ETHTOOL_A_BITSET_VALUE` of `linux/ethtool_netlink.h`.
const BITSET_VALUE: u16 = 4;

/// What a driver says that it can stamp.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct TsInfo {
    /// `SOF_TIMESTAMPING_...` bits of `linux/net_tstamp.h`.
    pub timestamping: u32,
    /// What its hardware can do with what it sends; empty where it cannot stamp.
    pub tx_types: Vec<TxType>,
    /// What its hardware can stamp of what it receives; empty where it cannot stamp.
    pub rx_filters: Vec<RxFilter>,
    /// The number of its PTP hardware clock: 0 is `/dev/ptp0`.
    pub phc: Option<u32>,
}

impl TsInfo {
    /// The hardware stamps what is sent, and its raw stamps can be had.
    pub const fn hardware_tx(&self) -> bool {
        self.has(libc::SOF_TIMESTAMPING_TX_HARDWARE | libc::SOF_TIMESTAMPING_RAW_HARDWARE)
    }

    /// The hardware stamps what is received, and its raw stamps can be had.
    pub const fn hardware_rx(&self) -> bool {
        self.has(libc::SOF_TIMESTAMPING_RX_HARDWARE | libc::SOF_TIMESTAMPING_RAW_HARDWARE)
    }

    /// The driver lets the kernel stamp what is sent.
    pub const fn software_tx(&self) -> bool {
        self.has(libc::SOF_TIMESTAMPING_TX_SOFTWARE | libc::SOF_TIMESTAMPING_SOFTWARE)
    }

    /// The kernel stamps what is received.
    pub const fn software_rx(&self) -> bool {
        self.has(libc::SOF_TIMESTAMPING_RX_SOFTWARE | libc::SOF_TIMESTAMPING_SOFTWARE)
    }

    const fn has(&self, bits: u32) -> bool {
        self.timestamping & bits == bits
    }
}

/// Asks what the driver of an interface can stamp; `None` where the kernel is too old to be asked this way (before 5.9)
/// or the interface has no answer.
///
/// # Errors
/// [`NetError::Netlink`] where the kernel refuses to answer, as when there is no such interface.
pub fn tsinfo(if_index: u32) -> Result<Option<TsInfo>, NetError> {
    let failed = |answer| NetError::Netlink {
        attempt: format!("ask which stamps the interface with index {if_index} can take"),
        answer,
    };
    let answer = ask(TSINFO_GET, if_index, COMPACT_BITSETS).map_err(failed)?;
    Ok(answer.map(|body| read(attributes_of(&body))))
}

/// Asks ethtool's family about one interface; `None` where there is no such family, command or answer.
pub(super) fn ask(command: u8, if_index: u32, flags: u32) -> io::Result<Option<Vec<u8>>> {
    let Some(mut family) = Family::open(FAMILY)? else { return Ok(None) };
    let mut header = Builder::default();
    header.u32(HEADER_DEV_INDEX, if_index);
    header.u32(HEADER_FLAGS, flags);
    let mut attributes = Builder::default();
    attributes.nest(HEADER, &header);
    match family.ask(command, attributes, 0) {
        Ok(answers) => Ok(answers.into_iter().next()),
        Err(answer) if answer.raw_os_error() == Some(libc::EOPNOTSUPP) => Ok(None),
        Err(answer) => Err(answer),
    }
}

fn read(attributes: Attributes<'_>) -> TsInfo {
    let bits = |kind| attributes.nested(kind).map(set_bits).unwrap_or_default();
    TsInfo {
        timestamping: bits(TIMESTAMPING).into_iter().filter(|bit| *bit < 32).fold(0, |all, bit| all | 1 << bit),
        tx_types: bits(TX_TYPES).into_iter().map(TxType::from_raw).collect(),
        rx_filters: bits(RX_FILTERS).into_iter().map(RxFilter::from_raw).collect(),
        phc: attributes.u32(PHC_INDEX),
    }
}

/// The numbers of the bits that are set in a compact bitset: words of 32 bits in the host's byte order.
fn set_bits(bitset: Attributes<'_>) -> Vec<i32> {
    let value = bitset.get(BITSET_VALUE).unwrap_or_default();
    let words = value.as_chunks::<4>().0.iter().map(|word| u32::from_ne_bytes(*word));
    let bits = words
        .zip((0..).step_by(32))
        .flat_map(|(word, first)| (0..32).filter(move |bit| word & (1 << bit) != 0).map(move |bit| first + bit));
    bits.collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A compact bitset without mask, as the kernel writes it.
    fn bitset(value: &[u32]) -> Builder {
        let mut set = Builder::default();
        set.u32(2, 32 * value.len() as u32);
        let bytes: Vec<u8> = value.iter().flat_map(|word| word.to_ne_bytes()).collect();
        set.bytes(BITSET_VALUE, &bytes);
        set
    }

    #[test]
    fn the_answer_of_an_82576_is_read() {
        let mut answer = Builder::default();
        answer.nest(TIMESTAMPING, &bitset(&[0x5f]));
        answer.nest(TX_TYPES, &bitset(&[0b11]));
        answer.nest(RX_FILTERS, &bitset(&[1 << 12 | 1 << 5 | 1 << 4 | 1, 1]));
        answer.u32(PHC_INDEX, 3);
        let info = read(Attributes::after(0, answer.as_bytes()));
        assert_eq!(info.tx_types, [TxType::Off, TxType::On]);
        assert_eq!(
            info.rx_filters,
            [
                RxFilter::None,
                RxFilter::PtpV1L4Sync,
                RxFilter::PtpV1L4DelayReq,
                RxFilter::PtpV2Event,
                RxFilter::Other(32)
            ]
        );
        assert_eq!((info.timestamping, info.phc), (0x5f, Some(3)));
        assert!(info.hardware_tx() && info.hardware_rx() && info.software_tx() && info.software_rx());
    }

    #[test]
    fn what_is_absent_is_empty_and_odd_answers_do_not_panic() {
        assert_eq!(read(Attributes::after(0, &[])), TsInfo::default());
        let mut answer = Builder::default();
        answer.nest(TX_TYPES, &bitset(&[0b11]));
        for cut in 0..answer.as_bytes().len() {
            assert_eq!(read(Attributes::after(0, &answer.as_bytes()[..cut])), TsInfo::default(), "cut at {cut}");
        }
    }

    #[test]
    fn an_interface_that_does_not_exist_is_an_error_with_the_kernels_answer() {
        let error = tsinfo(i32::MAX as u32).unwrap_err().to_string();
        assert!(error.contains("the interface with index 2147483647") && error.contains("No such device"), "{error}");
    }
}
