//! Whether the running kernel is new enough.
#![forbid(unsafe_code)]

use super::NetError;
use std::fmt;

/// A kernel's version, without what distributions add to it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct KernelVersion {
    /// The first number.
    pub major: u32,
    /// The second number.
    pub minor: u32,
}

/// The first kernel whose XDP programs may call `bpf_ktime_get_tai_ns()`.
pub const XDP_NEEDS: KernelVersion = KernelVersion { major: 6, minor: 1 };

impl fmt::Display for KernelVersion {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{}", self.major, self.minor)
    }
}

impl KernelVersion {
    /// Reads the release that uname(2) gives, such as `5.10.0-28-amd64`.
    pub fn parse(release: &str) -> Option<Self> {
        let mut numbers = release.split(|c: char| !c.is_ascii_digit());
        let major = numbers.next()?.parse().ok()?;
        let minor = numbers.next()?.parse().ok()?;
        Some(Self { major, minor })
    }

    /// The running kernel's; `None` where its release does not begin with two numbers.
    pub fn running() -> Option<Self> {
        Self::parse(nix::sys::utsname::uname().ok()?.release().to_str()?)
    }
}

/// Fails where the running kernel is too old for the xdp path.
///
/// A release that cannot be read passes: then the kernel's own refusal is the better answer.
///
/// # Errors
/// [`NetError::OldKernel`].
pub fn require_xdp() -> Result<(), NetError> {
    KernelVersion::running().map_or(Ok(()), check_xdp)
}

fn check_xdp(found: KernelVersion) -> Result<(), NetError> {
    if found < XDP_NEEDS { Err(NetError::OldKernel { found }) } else { Ok(()) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn releases_of_distributions_are_read() {
        let read = |release| KernelVersion::parse(release).map(|version| (version.major, version.minor));
        assert_eq!(read("5.10.0-28-amd64"), Some((5, 10)));
        assert_eq!(read("6.1.0-rc3+"), Some((6, 1)));
        assert_eq!(read("6.18.44"), Some((6, 18)));
        assert_eq!(read("7.0-custom"), Some((7, 0)));
        assert_eq!(read("6"), None);
        assert_eq!(read(""), None);
        assert_eq!(read("next-20260101"), None);
        assert_eq!(read("99999999999999.1"), None);
    }

    #[test]
    fn a_kernel_before_6_1_is_too_old_for_xdp() {
        let message = |release| check_xdp(KernelVersion::parse(release).unwrap()).map_err(|error| error.to_string());
        assert_eq!(
            message("5.10.0-28-amd64"),
            Err("Linux 5.10 is too old for --path xdp, which needs 6.1 or later (bpf_ktime_get_tai_ns in XDP \
                 programs): use --path kernel"
                .to_owned())
        );
        assert!(message("6.0.19").is_err());
        assert_eq!(message("6.1.0"), Ok(()));
        assert_eq!(message("10.0.0"), Ok(()));
    }
}
