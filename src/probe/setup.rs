//! From a checked command line to an open path: what the machine must have, checked before anything is changed.

use super::interrupt::Interrupt;
use super::stamping::StampPlan;
use crate::cli::{PathKind, Plan, Role, XdpMode, ZeroCopy};
use crate::clock::Source;
use crate::net::{self, Interface, napi, privilege};
use crate::path::kernel::{KernelConfig, KernelPath};
use crate::path::xdp::{self, HookStamps, XdpConfig, XdpPath};
use crate::path::{Description, Path};
use crate::session::{Direction, Probe, Settings, TimerKind, ip_len};
use crate::tune::memory::LockedMemory;
use crate::tune::realtime::{Guard, Realtime};
use crate::wire::frame::LinkHeader;
use crate::wire::ptp::Transport;
use anyhow::{Result, ensure};
use std::net::{Ipv4Addr, SocketAddrV4, UdpSocket};
use std::time::Duration;

/// How long the kernel may take to find out that what it knew of the peer is no longer so (3 s), and to resolve it anew.
const NEIGHBOUR_PATIENCE: Duration = Duration::from_secs(7);
/// How long a driver may be without carrier after it got the XDP program.
const CARRIER_PATIENCE: Duration = Duration::from_secs(10);

/// An open path of either kind.
pub enum OpenPath {
    /// AF_XDP, and the socket that holds the port that dummies leave from.
    Xdp(Box<XdpPath>, UdpSocket),
    /// The kernel's UDP.
    Kernel(Box<KernelPath>),
}

impl OpenPath {
    /// What it is.
    pub fn description(&self) -> Description {
        match self {
            Self::Xdp(path, _) => path.description(),
            Self::Kernel(path) => path.description(),
        }
    }

    /// Has the XDP program of this path, if any, leave to the kernel what comes from `peer`, or nobody's.
    ///
    /// # Errors
    /// What the kernel answered.
    pub fn leave_to_kernel(&self, peer: Option<SocketAddrV4>) -> Result<()> {
        match self {
            Self::Xdp(path, _) => Ok(path.program().leave_to_kernel(peer)?),
            Self::Kernel(_) => Ok(()),
        }
    }
}

/// What a client asks for, with its pings and pongs large enough for what they travel in; `None` of a server.
///
/// # Errors
/// Where a size that the user chose is too small for a PTP header, or for that and a pong's stamps.
pub fn settings(plan: &Plan, stamps: &StampPlan, schedule: &[Probe]) -> Result<Option<Settings>> {
    let Role::Client { settings, sizes_typed, .. } = &plan.role else { return Ok(None) };
    let mut settings = Settings { ptp: stamps.ptp, ..*settings };
    let (least, least_pong) = (settings.min_padding(), settings.min_pong_padding());
    let stamps = if settings.in_band { " and for the stamps of --in-band" } else { "" };
    let fit = |flag: &str, padding: &mut u16, typed: bool, least: u16| {
        let stamps = if flag == "--pong-size" { stamps } else { "" };
        ensure!(
            *padding >= least || !typed,
            "{flag}: {} bytes have no room for the PTP header that the packet is to be stamped behind{stamps}: at least {} are \
             needed",
            ip_len(*padding),
            ip_len(least)
        );
        *padding = least.max(*padding);
        Ok(())
    };
    fit("--ping-size", &mut settings.ping_padding, sizes_typed[0], least)?;
    fit("--pong-size", &mut settings.pong_padding, sizes_typed[1], least_pong)?;
    if settings.direction != Direction::Reverse {
        for probe in schedule {
            fit("--probe-schedule", &mut { probe.padding }, true, least)?;
        }
    }
    Ok(Some(settings))
}

/// Finds the interface and checks what the chosen path needs of it, of the kernel and of the user.
///
/// # Errors
/// What is missing and how to get it.
pub fn interface(plan: &Plan) -> Result<(Interface, Ipv4Addr)> {
    let interface = net::interface(&plan.interface)?;
    interface.require_up()?;
    let address = interface.require_address()?;
    if plan.path == PathKind::Xdp {
        net::kernel_version::require_xdp()?;
        privilege::require(&privilege::XDP_PATH)?;
        ensure!(
            !interface.is_loopback,
            "{} is the loopback interface: the kernel's own addresses answer there, and the xdp path would not reach them; \
             use --path kernel",
            interface.name
        );
        ensure!(
            interface.is_ethernet,
            "{} is not an Ethernet interface: the xdp path builds Ethernet frames; use --path kernel",
            interface.name
        );
    }
    Ok((interface, address))
}

/// The client's server, by name or address.
///
/// # Errors
/// Where the name has no IPv4 address.
pub fn server(host: &str, port: u16) -> Result<SocketAddrV4> {
    Ok(SocketAddrV4::new(net::resolve_host(host)?, port))
}

/// Refuses pings and pongs that the xdp path could not carry in one frame, before anything is sent.
///
/// # Errors
/// Where one does not fit, naming the flag, its size and the MTU.
pub fn check_sizes(plan: &Plan, interface: &Interface, settings: Option<&Settings>, schedule: &[Probe]) -> Result<()> {
    let over_ethernet = settings.is_some_and(|settings| settings.ptp == Some(Transport::L2));
    if plan.path == PathKind::Kernel && !over_ethernet {
        return Ok(());
    }
    let (who, advice) = match plan.path {
        PathKind::Kernel => ("PTP over Ethernet", "use --ptp udp, or a smaller size"),
        PathKind::Xdp => ("the xdp path", "use --path kernel on both sides, or a smaller size"),
    };
    let check = |flag: &str, padding: u16| {
        let size = ip_len(padding);
        ensure!(
            u32::from(size) <= interface.mtu,
            "{flag}: {size} bytes with the IP header do not fit the MTU of {} ({}), and {who} does not fragment: {advice}",
            interface.name,
            interface.mtu
        );
        Ok(())
    };
    if let Some(largest) = schedule.iter().map(|probe| probe.padding).max() {
        check("--probe-schedule", largest)?;
    }
    if let Some(settings) = settings {
        check("--ping-size", settings.ping_padding)?;
        if settings.direction != Direction::Duplex {
            check("--pong-size", settings.pong_padding)?;
        }
    }
    Ok(())
}

/// Whether the machine bears, and allows, what the plan sets up for the lowest latency; what the user should know of it: one line
/// each, for stderr. To be asked before the thread is pinned.
///
/// # Errors
/// What is lacking, and what can be done.
pub fn check_tuning(plan: &Plan, interface: &Interface) -> Result<Vec<String>> {
    // Whatever this run is to do: another one was killed before it could.
    let mut remarks: Vec<String> = napi::tidy_up(interface).into_iter().collect();
    if plan.tuning.napi && plan.path == PathKind::Xdp {
        napi::require_polling(interface, plan.queues.as_deref())?;
    }
    if plan.tuning.lock_memory {
        LockedMemory::check()?;
    }
    if let Some(priority) = plan.tuning.realtime {
        let is_busy = match &plan.role {
            Role::Client { settings, .. } => settings.timer == TimerKind::Busy,
            // Without --timer it is what the client wants.
            Role::Server { .. } => plan.timer != Some(TimerKind::Sleep),
        };
        remarks.extend(Guard::before_pinning().check(priority, is_busy)?);
        Realtime::check(priority)?;
    }
    Ok(remarks)
}

/// Keeps the interface's interrupts off where the plan wants that: see [`napi::Deferral`]. Where a signal no longer ends the process.
///
/// # Errors
/// As [`napi::Deferral::widen`].
pub fn defer_interrupts(plan: &Plan, interface: &Interface) -> Result<Option<napi::Deferral>> {
    let deferral = plan.tuning.napi.then(|| napi::Deferral::widen(interface)).transpose()?;
    super::warn(deferral.as_ref().map_or(&[], napi::Deferral::remarks));
    Ok(deferral)
}

/// Gives the interface back as it was, and says where somebody else has set it meanwhile.
///
/// # Errors
/// As [`napi::Deferral::restore`].
pub fn restore_interrupts(deferral: Option<napi::Deferral>) -> Result<()> {
    if let Some(remark) = deferral.map(napi::Deferral::restore).transpose()?.flatten() {
        eprintln!("xdprobe: {remark}");
    }
    Ok(())
}

/// Opens the path that the plan names.
///
/// # Errors
/// What was attempted, what the kernel answered and what can be done.
pub fn open(
    plan: &Plan,
    interface: &Interface,
    address: Ipv4Addr,
    server: Option<SocketAddrV4>,
    stamps: &StampPlan,
    interrupt: &Interrupt,
) -> Result<OpenPath> {
    let port = if server.is_some() { 0 } else { plan.port };
    match plan.path {
        PathKind::Kernel => {
            let bind = SocketAddrV4::new(address, port);
            let config = KernelConfig {
                interface: interface.name.clone(),
                bind,
                busypoll_us: plan.busypoll_us,
                stamps: stamps.wishes,
            };
            Ok(OpenPath::Kernel(Box::new(KernelPath::open(config)?)))
        }
        PathKind::Xdp => {
            let (path, dummies) = open_xdp(plan, interface, address, port, server, stamps, interrupt)?;
            Ok(OpenPath::Xdp(Box::new(path), dummies))
        }
    }
}

fn open_xdp(
    plan: &Plan,
    interface: &Interface,
    address: Ipv4Addr,
    port: u16,
    server: Option<SocketAddrV4>,
    stamps: &StampPlan,
    interrupt: &Interrupt,
) -> Result<(XdpPath, UdpSocket)> {
    let queues = queues(plan, interface)?;
    privilege::require_locked_memory(xdp::locked_memory(interface.mtu, queues.len()), queues.len())?;
    let mut source = address;
    let mut peer = None;
    if let Some(server) = server {
        let route = net::route(interface, *server.ip())?;
        source = route.source;
        if stamps.ptp == Some(Transport::L2) && route.next_hop != *server.ip() {
            return Err(net::NetError::OtherLink { peer: *server.ip(), next_hop: route.next_hop }.into());
        }
        let mac = net::resolve_neighbour(interface, route.next_hop, NEIGHBOUR_PATIENCE)?;
        peer = Some((server, LinkHeader::new(mac, interface.mac)));
    }
    // Both sockets only hold their ports: no other program gets them, and the kernel answers no probe with an ICMP error.
    let reserved = net::reserve_port(&interface.name, source, port)?;
    let dummies = net::reserve_port(&interface.name, source, 0)?;
    let local = net::local_address(&reserved)?;
    let config = XdpConfig {
        interface: interface.name.clone(),
        if_index: interface.index,
        mtu: interface.mtu,
        mac: interface.mac,
        local,
        dummy_port: net::local_address(&dummies)?.port(),
        mode: match plan.xdp_mode {
            XdpMode::Auto => xdp::XdpMode::Auto,
            XdpMode::Native => xdp::XdpMode::Native,
            XdpMode::Generic => xdp::XdpMode::Generic,
        },
        zero_copy: match plan.zero_copy {
            ZeroCopy::Auto => xdp::ZeroCopy::Auto,
            ZeroCopy::On => xdp::ZeroCopy::On,
            ZeroCopy::Off => xdp::ZeroCopy::Off,
        },
        queues,
        busypoll_us: plan.busypoll_us,
        peer,
        martians: net::martian_sources(interface)?,
        stamps: stamps.wishes,
        companion: stamps.companion,
        card_stamps: stamps.card_stamps,
        hook_stamps: match stamps.sources.received {
            Source::Application if plan.log_stages.is_none() => HookStamps::Sampled,
            _ => HookStamps::Each,
        },
    };
    // What a driver forgets over XDP the kernel would not give back.
    interrupt.set_deadly(false);
    let path = XdpPath::open(config, reserved)?;
    let tell = |waited: Duration| {
        eprintln!("xdprobe: waiting for the carrier of {} ({:.1} s so far)", interface.name, waited.as_secs_f64());
    };
    net::wait_for_carrier(interface, CARRIER_PATIENCE, tell, || interrupt.is_pending())?;
    Ok((path, dummies))
}

/// The receive queues that get a socket: all, or those that the user names.
fn queues(plan: &Plan, interface: &Interface) -> Result<Vec<u32>> {
    let Some(queues) = &plan.queues else {
        return Ok((0..interface.rx_queues).collect());
    };
    for queue in queues {
        ensure!(
            *queue < interface.rx_queues,
            "--queue {queue}: {} has receive queues 0 to {}",
            interface.name,
            interface.rx_queues - 1
        );
    }
    Ok(queues.clone())
}
