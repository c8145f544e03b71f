//! How fast a link is: ethtool's netlink (`ETHTOOL_MSG_LINKMODES_GET`, Documentation/networking/ethtool-netlink.rst).
#![forbid(unsafe_code)]

use super::NetError;
use super::genl::attributes_of;
use super::netlink::Attributes;
use super::tsinfo::ask;

/// `ETHTOOL_MSG_LINKMODES_GET` of `linux/ethtool_netlink.h`.
const LINKMODES_GET: u8 = 4;
/// `ETHTOOL_A_LINKMODES_SPEED` of `linux/ethtool_netlink.h`: Mb/s.
const LINKMODES_SPEED: u16 = 5;
/// `SPEED_UNKNOWN` of `linux/ethtool.h`.
const SPEED_UNKNOWN: u32 = u32::MAX;

/// The speed that an interface's link has at the moment, in bits a second; `None` where its driver does not tell, as it may
/// without carrier.
///
/// # Errors
/// [`NetError::Netlink`] where the kernel refuses to answer.
pub fn link_speed(if_index: u32) -> Result<Option<u64>, NetError> {
    let failed = |answer| NetError::Netlink {
        attempt: format!("ask for the link speed of the interface with index {if_index}"),
        answer,
    };
    let answer = ask(LINKMODES_GET, if_index, 0).map_err(failed)?;
    Ok(answer.and_then(|body| read(attributes_of(&body))))
}

fn read(attributes: Attributes<'_>) -> Option<u64> {
    let megabits = attributes.u32(LINKMODES_SPEED)?;
    (megabits != SPEED_UNKNOWN && megabits != 0).then(|| u64::from(megabits) * 1_000_000)
}

#[cfg(test)]
mod tests {
    use super::super::genl::Builder;
    use super::*;

    #[test]
    fn a_speed_is_in_megabits_and_may_be_unknown() {
        for (told, expected) in [(10_000, Some(10_000_000_000)), (0, None), (SPEED_UNKNOWN, None)] {
            let mut answer = Builder::default();
            answer.u32(LINKMODES_SPEED, told);
            assert_eq!(read(Attributes::after(0, answer.as_bytes())), expected);
        }
        assert_eq!(read(Attributes::after(0, &[])), None);
    }
}
