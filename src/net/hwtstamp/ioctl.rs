//! The two ioctls.
#![allow(unsafe_code, reason = "the ioctls take a pointer to a structure, and no crate at hand wraps them")]

use super::{Config, RxFilter, TxType};
use nix::errno::Errno;
use nix::sys::socket::{AddressFamily, SockFlag, SockType, socket};
use std::os::fd::{AsRawFd, OwnedFd};

const _: () = assert!(size_of::<libc::hwtstamp_config>() == 12 && align_of::<libc::hwtstamp_config>() == 4);

/// An interface, in the network namespace that the thread was in when this was opened.
pub(super) struct Device {
    socket: OwnedFd,
    name: [libc::c_char; libc::IFNAMSIZ],
}

impl Device {
    pub(super) fn open(interface: &str) -> Result<Self, Errno> {
        let mut name = [0; libc::IFNAMSIZ];
        if interface.len() >= name.len() {
            return Err(Errno::ENODEV);
        }
        for (to, from) in name.iter_mut().zip(interface.bytes()) {
            *to = from as libc::c_char;
        }
        Ok(Self { socket: socket(AddressFamily::Inet, SockType::Datagram, SockFlag::SOCK_CLOEXEC, None)?, name })
    }

    /// What is set now.
    pub(super) fn get(&self) -> Result<Config, Errno> {
        self.call(libc::SIOCGHWTSTAMP, Config { flags: 0, tx: TxType::Off, rx: RxFilter::None })
    }

    /// Sets `config`; returns what the driver says that it set.
    pub(super) fn set(&self, config: Config) -> Result<Config, Errno> {
        self.call(libc::SIOCSHWTSTAMP, config)
    }

    fn call(&self, request: libc::c_ulong, config: Config) -> Result<Config, Errno> {
        let mut raw =
            libc::hwtstamp_config { flags: config.flags, tx_type: config.tx.as_raw(), rx_filter: config.rx.as_raw() };
        let ifru_data = std::ptr::from_mut(&mut raw).cast();
        let mut argument = libc::ifreq { ifr_name: self.name, ifr_ifru: libc::__c_anonymous_ifr_ifru { ifru_data } };
        // SAFETY: the descriptor is open; `argument` and `raw`, of the size that the kernel has for it, live and are
        // borrowed exclusively until the call returns.
        let result = unsafe { libc::ioctl(self.socket.as_raw_fd(), request, &raw mut argument) };
        Errno::result(result)?;
        Ok(Config { flags: raw.flags, tx: TxType::from_raw(raw.tx_type), rx: RxFilter::from_raw(raw.rx_filter) })
    }
}
