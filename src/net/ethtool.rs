//! What only the ethtool ioctl tells of an interface: its driver and how many queues it uses.
//!
//! Nothing is changed. `/sys/class/net` is not read for it: a mount of `/sys` shows the interfaces of the network
//! namespace that it was made in, which need not be ours.
#![allow(unsafe_code, reason = "SIOCETHTOOL takes a pointer to a structure, and no crate at hand wraps it")]

use nix::sys::socket::{AddressFamily, SockFlag, SockType, socket};
use std::io;
use std::os::fd::AsRawFd;

/// `ETHTOOL_GDRVINFO` of `linux/ethtool.h`.
const GET_DRIVER: u32 = 0x03;
/// `ETHTOOL_GCHANNELS` of `linux/ethtool.h`.
const GET_CHANNELS: u32 = 0x3c;

/// `struct ethtool_drvinfo` of `linux/ethtool.h`.
#[repr(C)]
struct DriverInfo {
    cmd: u32,
    driver: [u8; 32],
    version: [u8; 32],
    fw_version: [u8; 32],
    bus_info: [u8; 32],
    erom_version: [u8; 32],
    reserved2: [u8; 12],
    n_priv_flags: u32,
    n_stats: u32,
    testinfo_len: u32,
    eedump_len: u32,
    regdump_len: u32,
}

/// `struct ethtool_channels` of `linux/ethtool.h`.
#[repr(C)]
#[derive(Default)]
struct Channels {
    cmd: u32,
    max_rx: u32,
    max_tx: u32,
    max_other: u32,
    max_combined: u32,
    rx_count: u32,
    tx_count: u32,
    other_count: u32,
    combined_count: u32,
}

const _: () = assert!(size_of::<DriverInfo>() == 196 && align_of::<DriverInfo>() == 4);
const _: () = assert!(size_of::<Channels>() == 36 && align_of::<Channels>() == 4);

/// A structure that the ethtool ioctl reads a command from and writes its answer to.
///
/// # Safety
/// `Self` is `repr(C)`, the structure of `linux/ethtool.h` that belongs to the command in its first field, and valid
/// whatever bytes the kernel writes.
unsafe trait Request {}

// SAFETY: as asserted above; integers and bytes take any value. `driver` sets `GET_DRIVER`.
unsafe impl Request for DriverInfo {}
// SAFETY: as asserted above; integers take any value. `receive_queues` sets `GET_CHANNELS`.
unsafe impl Request for Channels {}

/// What a driver says of itself; what it does not say is empty.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DriverFacts {
    /// Its name.
    pub name: String,
    /// Its version: for a driver of the kernel's own tree usually the kernel's.
    pub version: String,
    /// The version of the card's firmware.
    pub firmware: String,
    /// Where the card is: a PCI address, for example.
    pub bus: String,
}

/// The driver's name; `None` where it has none to tell.
pub(super) fn driver(interface: &str) -> Option<String> {
    driver_facts(interface).map(|facts| facts.name)
}

/// What the driver of an interface says of itself; `None` where it has no name to tell.
pub fn driver_facts(interface: &str) -> Option<DriverFacts> {
    let mut info = DriverInfo {
        cmd: GET_DRIVER,
        driver: [0; 32],
        version: [0; 32],
        fw_version: [0; 32],
        bus_info: [0; 32],
        erom_version: [0; 32],
        reserved2: [0; 12],
        n_priv_flags: 0,
        n_stats: 0,
        testinfo_len: 0,
        eedump_len: 0,
        regdump_len: 0,
    };
    ask(interface, &mut info).ok()?;
    let text = |bytes: [u8; 32]| {
        let text = bytes.split(|byte| *byte == 0).next().unwrap_or_default();
        String::from_utf8_lossy(text).trim().to_owned()
    };
    let facts = DriverFacts {
        name: text(info.driver),
        version: text(info.version),
        firmware: text(info.fw_version),
        bus: text(info.bus_info),
    };
    (!facts.name.is_empty()).then_some(facts)
}

/// How many receive queues are in use: those for receiving alone and those combined with sending. `None` where the
/// driver does not tell.
pub(super) fn receive_queues(interface: &str) -> Option<u32> {
    let mut channels = Channels { cmd: GET_CHANNELS, ..Channels::default() };
    ask(interface, &mut channels).ok()?;
    let queues = channels.rx_count.saturating_add(channels.combined_count);
    (queues > 0).then_some(queues)
}

fn ask<R: Request>(interface: &str, request: &mut R) -> io::Result<()> {
    let mut name = [0; libc::IFNAMSIZ];
    if interface.len() >= name.len() {
        return Err(io::ErrorKind::InvalidInput.into());
    }
    for (to, from) in name.iter_mut().zip(interface.bytes()) {
        *to = from as libc::c_char;
    }
    let socket = socket(AddressFamily::Inet, SockType::Datagram, SockFlag::SOCK_CLOEXEC, None)?;
    let ifru_data = std::ptr::from_mut(request).cast();
    let mut argument = libc::ifreq { ifr_name: name, ifr_ifru: libc::__c_anonymous_ifr_ifru { ifru_data } };
    // SAFETY: the descriptor is open; `argument` and what `ifru_data` points to live and are borrowed exclusively until
    // the call returns, and by the promise of `Request` the kernel writes no more than the latter has room for.
    let result = unsafe { libc::ioctl(socket.as_raw_fd(), libc::SIOCETHTOOL, &raw mut argument) };
    nix::errno::Errno::result(result)?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_interface_without_driver_or_of_an_impossible_name_has_no_answer() {
        assert_eq!(receive_queues("lo"), None);
        assert_eq!(driver("a-name-of-24-bytes-length"), None);
        assert_eq!(receive_queues("a-name-of-24-bytes-length"), None);
    }
}
