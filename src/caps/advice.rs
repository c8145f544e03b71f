//! Which stamps are the best that can be had here, and the command lines for them.
#![forbid(unsafe_code)]

use super::Findings;
use super::collect::PRIVILEGES;
use crate::net::hwtstamp::{RxFilter, StampingError, TxType};
use crate::net::kernel_version::KernelVersion;
use crate::net::netdev::XDP_ACT_BASIC;
use crate::net::privilege::{Capability, XDP_PATH};
use crate::net::tsinfo::TsInfo;
use crate::path::xdp;
use crate::wire::ptp::UDP_PORT;

/// What to type.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Advice {
    /// The value of `--timestamps`.
    pub(super) timestamps: &'static str,
    /// The value of `--path`.
    pub(super) path: &'static str,
    pub(super) server: String,
    pub(super) client: String,
    pub(super) reason: String,
}

/// What the card can do for the stamps of what it receives.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Hardware {
    /// Stamp every packet.
    All,
    /// Stamp PTP packets.
    Ptp,
    /// Nothing, for this reason.
    None(&'static str),
}

/// What the card's hardware can stamp, of both directions.
pub(super) fn hardware(found: &Findings) -> Hardware {
    let Ok(Some(info)) = &found.stamps else {
        return Hardware::None("the kernel does not say what the card can stamp");
    };
    if info.phc.is_none() {
        return Hardware::None("there is no clock for them (PHC)");
    }
    if !info.hardware_tx() || !info.tx_types.contains(&TxType::On) {
        return Hardware::None("the card does not stamp what it sends");
    }
    if matches!(found.stamping, Err(StampingError::NoHardware { .. })) {
        return Hardware::None("its driver does not say how stamping is set, so that it could not be restored");
    }
    let can_receive = |filter| info.hardware_rx() && info.rx_filters.contains(&filter);
    if can_receive(RxFilter::All) {
        Hardware::All
    } else if can_receive(RxFilter::PtpV2Event) {
        Hardware::Ptp
    } else {
        Hardware::None("the card stamps neither every packet that it receives nor PTP version 2 events")
    }
}

/// The driver runs XDP programs; `None` where the kernel does not say.
pub(super) fn native_xdp(found: &Findings) -> Option<bool> {
    found.xdp.as_ref().ok()?.xdp.map(|bits| bits & XDP_ACT_BASIC != 0)
}

/// The driver has the kfunc for receive stamps; `None` where nobody can tell.
pub(super) fn receive_stamp_kfunc(found: &Findings) -> Option<bool> {
    let driver = found.driver.as_ref().map(|driver| driver.name.as_str());
    found.xdp.as_ref().ok()?.gives_receive_stamps(driver, KernelVersion::parse(&found.kernel))
}

/// Why the xdp path cannot be had on this interface, where that is so for another reason than a lack of privilege.
pub(super) fn xdp_obstacle(found: &Findings) -> Option<String> {
    if found.interface.is_loopback {
        return Some("the xdp path does not run over loopback".to_owned());
    }
    if !found.interface.is_ethernet {
        return Some("the xdp path takes an Ethernet interface".to_owned());
    }
    match &found.attached {
        Ok(Some(program)) => Some(format!("XDP program {} is attached already", program.id)),
        _ if found.trial_load.is_err() && lacking(found, &XDP_PATH).is_empty() => {
            Some("the XDP program does not load".to_owned())
        }
        _ => None,
    }
}

/// Those of `wanted` that the process lacks.
pub(super) fn lacking(found: &Findings, wanted: &[Capability]) -> Vec<Capability> {
    let lacks = |capability: &Capability| found.privileges.contains(&(*capability, false));
    wanted.iter().copied().filter(lacks).collect()
}

/// Bytes that AF_XDP sockets on all queues lock.
pub(super) fn locked_memory(found: &Findings) -> u64 {
    xdp::locked_memory(found.interface.mtu, usize::from(u16::try_from(found.interface.rx_queues).unwrap_or(u16::MAX)))
}

/// Locking that much takes a capability.
pub(super) fn exceeds_locked_memory(found: &Findings) -> bool {
    found.locked_memory_limit.is_some_and(|limit| locked_memory(found) > limit)
}

/// What this card, machine and network namespace ask a process for that sends and receives in one way.
pub(super) fn needed(found: &Findings, path: &str, timestamps: &str) -> Vec<Capability> {
    let (is_xdp, is_hardware) = (path == "xdp", timestamps == "hardware");
    let is_needed = |capability: &Capability| match capability {
        Capability::NetAdmin => is_xdp || is_hardware,
        Capability::IpcLock => is_xdp && exceeds_locked_memory(found),
        Capability::NetBindService => {
            // The driver's stamps reach AF_XDP: nothing has to pass through the kernel's socket on that port.
            let to_kernel = !(is_xdp && has_kfunc(found));
            is_hardware && hardware(found) == Hardware::Ptp && to_kernel && found.first_unprivileged_port > UDP_PORT
        }
        _ => is_xdp,
    };
    PRIVILEGES.into_iter().filter(is_needed).collect()
}

/// XDP programs get the card's receive stamps from the driver.
fn has_kfunc(found: &Findings) -> bool {
    native_xdp(found) == Some(true) && receive_stamp_kfunc(found) == Some(true)
}

/// The command lines that give the best stamps here.
pub(super) fn best(found: &Findings) -> Advice {
    let name = &found.interface.name;
    let obstacle = xdp_obstacle(found);
    let has_kfunc = has_kfunc(found);
    let hardware = hardware(found);
    let mut reason = match hardware {
        Hardware::All if has_kfunc && obstacle.is_none() => {
            format!("{name} stamps every packet in hardware, and AF_XDP gets the receive stamps from the driver.")
        }
        Hardware::All if obstacle.is_none() => format!(
            "{name} stamps every packet in hardware, but its driver hands no receive stamps to XDP programs: only the kernel \
             path has the stamps of both directions. For AF_XDP's latency take --path xdp --timestamps software."
        ),
        Hardware::All => format!("{name} stamps every packet in hardware."),
        Hardware::Ptp => format!(
            "{name} stamps what it is asked to when sending, but of what it receives only PTP packets: a sample of the probes \
             travels as such, below 1000 a second (--ptp auto, the default)."
        ),
        Hardware::None(why) => format!("There are no hardware stamps on {name}: {why}."),
    };
    let timestamps = match hardware {
        Hardware::All | Hardware::Ptp => "hardware",
        Hardware::None(_) if has_software_stamps(found) => "software",
        Hardware::None(_) => "application",
    };
    reason += match (timestamps, &obstacle) {
        ("software", None) => " The kernel's are the next best: at the XDP hook, and at the driver when sending.",
        ("software", Some(_)) => " The kernel's are the next best.",
        ("application", _) => " Nor does the kernel stamp what is sent: this program's own stamps are left.",
        _ => "",
    };
    if let Some(obstacle) = &obstacle {
        reason += &format!(" It has to be the kernel path, as {obstacle}.");
    }
    if !found.interface.is_up || found.interface.address.is_none() {
        reason += " The interface must be up and have an IPv4 address first.";
    }
    let needs_kernel_path = obstacle.is_some() || (hardware == Hardware::All && !has_kfunc);
    let path = if needs_kernel_path { "kernel" } else { "xdp" };
    let needs_root = !lacking(found, &needed(found, path, timestamps)).is_empty();
    let line = |role: &str, host: &str| {
        let sudo = if needs_root { "sudo " } else { "" };
        let path = if needs_kernel_path { " --path kernel" } else { "" };
        format!("{sudo}xdprobe --{role} --interface {name} --timestamps {timestamps}{path}{host}")
    };
    Advice { timestamps, path, server: line("server", ""), client: line("client", " HOST"), reason }
}

/// The kernel stamps what is sent. What is received it always does.
fn has_software_stamps(found: &Findings) -> bool {
    // A kernel too old to say so stamps all the same, with nearly every driver.
    found.stamps.as_ref().ok().and_then(Option::as_ref).is_none_or(TsInfo::software_tx)
}
