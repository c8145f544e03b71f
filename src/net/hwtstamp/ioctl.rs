//! The two ioctls, and the one that finds the interface's name.
#![allow(unsafe_code, reason = "the ioctls take a pointer to a structure, and no crate at hand wraps them")]

use super::{Config, RxFilter, TxType};
use nix::errno::Errno;
use nix::sys::socket::{AddressFamily, SockFlag, SockType, socket};
use std::ffi::{CStr, CString};
use std::os::fd::{AsRawFd, OwnedFd};

const _: () = assert!(size_of::<libc::hwtstamp_config>() == 12 && align_of::<libc::hwtstamp_config>() == 4);

/// An interface, in the network namespace that the thread was in when this was opened: whatever its name is by then, as the
/// ioctls go by the name, and its old one may be another's.
pub(super) struct Device {
    socket: OwnedFd,
    if_index: u32,
}

impl Device {
    pub(super) fn open(if_index: u32) -> Result<Self, Errno> {
        Ok(Self { socket: socket(AddressFamily::Inet, SockType::Datagram, SockFlag::SOCK_CLOEXEC, None)?, if_index })
    }

    /// Its name now; ENODEV where it is gone.
    pub(super) fn name(&self) -> Result<CString, Errno> {
        let ifru_ifindex = self.if_index.try_into().map_err(|_| Errno::ENODEV)?;
        let mut argument =
            libc::ifreq { ifr_name: [0; libc::IFNAMSIZ], ifr_ifru: libc::__c_anonymous_ifr_ifru { ifru_ifindex } };
        // Asked of the socket, as the thread may be in another namespace by now.
        self.call(libc::SIOCGIFNAME, &mut argument)?;
        let name = argument.ifr_name.map(|byte| byte as u8);
        CStr::from_bytes_until_nul(&name).map(CStr::to_owned).map_err(|_| Errno::EINVAL)
    }

    /// What the interface with this name has set now.
    pub(super) fn get(&self, name: &CStr) -> Result<Config, Errno> {
        self.configuration(libc::SIOCGHWTSTAMP, name, Config { flags: 0, tx: TxType::Off, rx: RxFilter::None })
    }

    /// Sets `config` on the interface with this name; returns what the driver says that it set.
    pub(super) fn set(&self, name: &CStr, config: Config) -> Result<Config, Errno> {
        self.configuration(libc::SIOCSHWTSTAMP, name, config)
    }

    fn configuration(&self, request: libc::c_ulong, name: &CStr, config: Config) -> Result<Config, Errno> {
        let mut ifr_name = [0; libc::IFNAMSIZ];
        if name.count_bytes() >= ifr_name.len() {
            return Err(Errno::ENODEV);
        }
        for (to, from) in ifr_name.iter_mut().zip(name.to_bytes()) {
            *to = *from as libc::c_char;
        }
        let mut raw =
            libc::hwtstamp_config { flags: config.flags, tx_type: config.tx.as_raw(), rx_filter: config.rx.as_raw() };
        let ifru_data = std::ptr::from_mut(&mut raw).cast();
        let mut argument = libc::ifreq { ifr_name, ifr_ifru: libc::__c_anonymous_ifr_ifru { ifru_data } };
        self.call(request, &mut argument)?;
        Ok(Config { flags: raw.flags, tx: TxType::from_raw(raw.tx_type), rx: RxFilter::from_raw(raw.rx_filter) })
    }

    /// `argument` is what `request` takes; where that is a pointer, it is to what the kernel may write.
    fn call(&self, request: libc::c_ulong, argument: &mut libc::ifreq) -> Result<(), Errno> {
        // SAFETY: the descriptor is open; `argument`, and the `raw` of `configuration` that it may point to, of the size that
        // the kernel has for it, live and are borrowed exclusively until the call returns.
        let result = unsafe { libc::ioctl(self.socket.as_raw_fd(), request, std::ptr::from_mut(argument)) };
        Errno::result(result).map(drop)
    }
}
