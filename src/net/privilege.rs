//! Which capabilities the process has (capabilities(7)).
//!
//! This module does not try things out: it reads what the kernel says of the process, so that a lack is told before
//! anything was changed.
#![forbid(unsafe_code)]

use super::NetError;
use nix::sys::resource::{RLIM_INFINITY, Resource, getrlimit};

/// A capability that probing can need. The values are those of `linux/capability.h`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[repr(u8)]
pub enum Capability {
    /// Bind ports below `net.ipv4.ip_unprivileged_port_start`.
    NetBindService = 10,
    /// Attach XDP programs, change interfaces, resolve neighbours, raise busy polling.
    NetAdmin = 12,
    /// Open AF_XDP and packet sockets.
    NetRaw = 13,
    /// Lock memory beyond `RLIMIT_MEMLOCK`.
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
            Self::NetBindService => "CAP_NET_BIND_SERVICE",
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

/// `capabilities` as setcap(8) takes them: `cap_a,cap_b+ep`.
pub fn setcap(capabilities: &[Capability]) -> String {
    let names: Vec<String> = capabilities.iter().map(|capability| capability.as_str().to_lowercase()).collect();
    format!("{}+ep", names.join(","))
}

/// How many bytes a user's processes without `CAP_IPC_LOCK` may lock together (`RLIMIT_MEMLOCK`); `None` for any number.
pub fn locked_memory_limit() -> Option<u64> {
    getrlimit(Resource::RLIMIT_MEMLOCK).ok().map(|(soft, _)| soft).filter(|soft| *soft != RLIM_INFINITY)
}

/// Fails where `needed` bytes are more than this process may lock. What else the user's processes have locked counts too,
/// which only the kernel knows.
///
/// # Errors
/// [`NetError::LockedMemory`].
pub fn require_locked_memory(needed: u64, queues: usize) -> Result<(), NetError> {
    match locked_memory_limit() {
        Some(limit) if needed > limit && !missing(&[Capability::IpcLock]).is_empty() => {
            Err(NetError::LockedMemory { queues, needed, limit })
        }
        _ => Ok(()),
    }
}

/// The first port that takes no privilege, `net.ipv4.ip_unprivileged_port_start` of this network namespace.
pub fn first_unprivileged_port() -> u16 {
    let text = std::fs::read_to_string("/proc/sys/net/ipv4/ip_unprivileged_port_start").unwrap_or_default();
    // PROT_SOCK of net/ip.h, which it is where nobody sets it.
    text.trim().parse().unwrap_or(1024)
}

/// Whether this process may bind `port`, as far as that is a matter of privilege.
pub fn may_bind(port: u16) -> bool {
    port >= first_unprivileged_port() || missing(&[Capability::NetBindService]).is_empty()
}

/// The names of `capabilities` as a phrase: `A, B and C`.
pub fn names(capabilities: &[Capability]) -> String {
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
    fn setcap_takes_names_in_lower_case() {
        assert_eq!(setcap(&[Capability::NetRaw, Capability::IpcLock]), "cap_net_raw,cap_ipc_lock+ep");
    }

    #[test]
    fn names_read_as_a_phrase() {
        assert_eq!(names(&[Capability::Bpf]), "CAP_BPF");
        assert_eq!(names(&XDP_PATH), "CAP_NET_ADMIN, CAP_NET_RAW, CAP_BPF and CAP_PERFMON");
    }
}
