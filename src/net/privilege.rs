//! Which capabilities the process has (capabilities(7)).
//!
//! This module does not try things out: it reads what the kernel says of the process, so that a lack is told before
//! anything was changed.
#![forbid(unsafe_code)]

use super::NetError;

/// A capability that probing can need. The values are those of `linux/capability.h`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[repr(u8)]
pub enum Capability {
    /// Attach XDP programs, change interfaces, resolve neighbours, raise busy polling.
    NetAdmin = 12,
    /// Open AF_XDP and packet sockets.
    NetRaw = 13,
    /// Lock memory beyond the limit.
    IpcLock = 14,
    /// Everything of old: stands for [`Capability::Bpf`] and [`Capability::Perfmon`], which were once a part of it.
    SysAdmin = 21,
    /// Raise the scheduling priority.
    SysNice = 23,
    /// Read kernel memory from BPF programs.
    Perfmon = 38,
    /// Load BPF programs and make maps.
    Bpf = 39,
}

/// What the xdp path cannot do without. Its program finds the UDP header behind IPv4 options: the verifier lets a packet
/// pointer move by an amount that it does not know only with `CAP_PERFMON`.
pub const XDP_PATH: [Capability; 4] = [Capability::NetAdmin, Capability::NetRaw, Capability::Bpf, Capability::Perfmon];

impl Capability {
    /// The name in capabilities(7).
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::NetAdmin => "CAP_NET_ADMIN",
            Self::NetRaw => "CAP_NET_RAW",
            Self::IpcLock => "CAP_IPC_LOCK",
            Self::SysAdmin => "CAP_SYS_ADMIN",
            Self::SysNice => "CAP_SYS_NICE",
            Self::Perfmon => "CAP_PERFMON",
            Self::Bpf => "CAP_BPF",
        }
    }

    const fn bit(self) -> u64 {
        1 << self as u8
    }

    /// Whether a process with these effective capabilities may do what this one allows.
    const fn is_in(self, effective: u64) -> bool {
        let stands_for_it = match self {
            Self::Bpf | Self::Perfmon => Self::SysAdmin.bit(),
            _ => 0,
        };
        effective & (self.bit() | stands_for_it) != 0
    }
}

/// Those of `needed` that the calling thread does not have, in that order.
///
/// Where `/proc` does not tell, none: then the kernel's own refusal is the better answer.
pub fn missing(needed: &[Capability]) -> Vec<Capability> {
    let status = std::fs::read_to_string("/proc/thread-self/status").unwrap_or_default();
    match effective(&status) {
        Some(effective) => needed.iter().copied().filter(|capability| !capability.is_in(effective)).collect(),
        None => Vec::new(),
    }
}

/// Fails where one of `needed` is missing.
///
/// # Errors
/// [`NetError::Privilege`] with those that are missing.
pub fn require(needed: &[Capability]) -> Result<(), NetError> {
    let missing = missing(needed);
    if missing.is_empty() { Ok(()) } else { Err(NetError::Privilege(missing)) }
}

/// The names of `capabilities` as a phrase: `A, B and C`.
pub(super) fn names(capabilities: &[Capability]) -> String {
    let names: Vec<&str> = capabilities.iter().map(|capability| capability.as_str()).collect();
    match names.split_last() {
        Some((last, [])) => (*last).to_owned(),
        Some((last, rest)) => format!("{} and {last}", rest.join(", ")),
        None => String::new(),
    }
}

/// The effective capabilities in the text of `/proc/PID/status` (proc_pid_status(5)): 64 bits as hexadecimal digits.
fn effective(status: &str) -> Option<u64> {
    let digits = status.lines().find_map(|line| line.strip_prefix("CapEff:"))?;
    u64::from_str_radix(digits.trim(), 16).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn missing_with(cap_eff: &str) -> Vec<Capability> {
        let bits = effective(&format!("Name:\tcat\nCapPrm:\t0\nCapEff:\t{cap_eff}\nCapBnd:\tffff\n")).unwrap();
        XDP_PATH.into_iter().filter(|capability| !capability.is_in(bits)).collect()
    }

    #[test]
    fn root_lacks_nothing_and_nobody_lacks_everything() {
        assert_eq!(missing_with("000001ffffffffff"), []);
        assert_eq!(missing_with("0000000000000000"), XDP_PATH);
    }

    #[test]
    fn sys_admin_stands_for_bpf_but_not_for_the_network() {
        assert_eq!(missing_with("0000000000200000"), [Capability::NetAdmin, Capability::NetRaw]);
        assert_eq!(missing_with("0000000000203000"), []);
    }

    #[test]
    fn a_set_of_exactly_the_needed_ones_is_enough() {
        assert_eq!(missing_with("000000c000003000"), []);
        assert_eq!(missing_with("0000000000003000"), [Capability::Bpf, Capability::Perfmon]);
    }

    #[test]
    fn a_status_without_the_line_or_with_nonsense_is_no_answer() {
        assert_eq!(effective("Name:\tcat\n"), None);
        assert_eq!(effective("CapEff:\tmany\n"), None);
        assert_eq!(effective("CapEff:\n"), None);
    }

    #[test]
    fn names_read_as_a_phrase() {
        assert_eq!(names(&[Capability::Bpf]), "CAP_BPF");
        assert_eq!(names(&XDP_PATH), "CAP_NET_ADMIN, CAP_NET_RAW, CAP_BPF and CAP_PERFMON");
    }
}
