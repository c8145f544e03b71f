//! What goes wrong when the kernel is asked about the machine, with what the user can do about it.
#![forbid(unsafe_code)]

use super::kernel_version::{KernelVersion, XDP_NEEDS};
use super::privilege::{Capability, names, setcap};
use std::io;
use std::net::Ipv4Addr;
use std::time::Duration;

/// What the xdp path needs at most: locked memory beside [`super::privilege::XDP_PATH`].
const FOR_XDP: [Capability; 5] =
    [Capability::NetAdmin, Capability::NetRaw, Capability::Bpf, Capability::Perfmon, Capability::IpcLock];

/// Why something about the machine could not be learnt, or is not fit for probing.
#[derive(Debug, thiserror::Error)]
pub enum NetError {
    /// The name cannot be an interface's: Linux allows 15 bytes (`IFNAMSIZ` less the terminating zero).
    #[error("the interface name \"{name}\" has {} bytes, and Linux allows 1 to 15: {}", name.len(), known(existing))]
    NotAName {
        /// What was given.
        name: String,
        /// The interfaces that exist.
        existing: Vec<String>,
    },
    /// No interface has this name.
    #[error("there is no interface \"{name}\": {}", known(existing))]
    UnknownInterface {
        /// What was given.
        name: String,
        /// The interfaces that exist.
        existing: Vec<String>,
    },
    /// A netlink request failed in a way that has no message of its own.
    #[error("cannot {attempt}: {answer}")]
    Netlink {
        /// What was attempted, on what.
        attempt: String,
        /// What the kernel answered.
        answer: io::Error,
    },
    /// The interface is administratively down.
    #[error("the interface {interface} is down: bring it up (ip link set dev {interface} up)")]
    Down {
        /// The interface.
        interface: String,
    },
    /// The interface has no IPv4 address.
    #[error(
        "the interface {interface} has no IPv4 address: give it one (ip addr add 192.0.2.1/24 dev {interface}, with an \
         address of your network)"
    )]
    NoAddress {
        /// The interface.
        interface: String,
    },
    /// The interface has no link.
    #[error(
        "the interface {interface} has no carrier after {:.1} s: check the cable and the other end (ip link show dev \
         {interface})", waited.as_secs_f64()
    )]
    NoCarrier {
        /// The interface.
        interface: String,
        /// How long it was waited for.
        waited: Duration,
    },
    /// The user wanted an end before the interface had a link.
    #[error("stopped while the carrier of {interface} was waited for ({:.1} s)", waited.as_secs_f64())]
    Stopped {
        /// The interface.
        interface: String,
        /// How long it was waited for.
        waited: Duration,
    },
    /// No route leads to the peer through the interface.
    #[error(
        "there is no route to {to} through {interface} ({answer}): choose another interface (ip route get {to} shows the \
         kernel's choice) or add a route (ip route add {to} via GATEWAY dev {interface})"
    )]
    NoRoute {
        /// The peer.
        to: Ipv4Addr,
        /// The interface.
        interface: String,
        /// What the kernel answered.
        answer: io::Error,
    },
    /// The kernel's route leaves through another interface.
    #[error(
        "the route to {to} does not leave through {interface} but through the interface with index {index}: name that \
         one (ip route get {to} shows it), or use --path kernel"
    )]
    OtherInterface {
        /// The peer.
        to: Ipv4Addr,
        /// The interface that was asked for.
        interface: String,
        /// The index of the one that the kernel would take.
        index: u32,
    },
    /// The peer is this machine.
    #[error(
        "{to} is an address of this machine, whose packets never reach {interface}: give the address of another machine \
         or network namespace, or use --path kernel"
    )]
    OwnAddress {
        /// The peer.
        to: Ipv4Addr,
        /// The interface.
        interface: String,
    },
    /// The peer is not one host.
    #[error("{to} is {what}, and a probe needs the address of one host")]
    NotOneHost {
        /// The peer.
        to: Ipv4Addr,
        /// What it is, with its article.
        what: &'static str,
    },
    /// The route's gateway has an IPv6 address only (RFC 5549), whose neighbour ARP cannot find.
    #[error(
        "the route to {to} through {interface} has an IPv6 gateway, which --path xdp does not do: use --path kernel"
    )]
    Ipv6Gateway {
        /// The peer.
        to: Ipv4Addr,
        /// The interface.
        interface: String,
    },
    /// The next hop answers no ARP.
    #[error(
        "no answer to ARP for {next_hop} on {interface}: {what}; check that the host is up and in the same network (ip \
         neigh show dev {interface})"
    )]
    Unresolved {
        /// The peer, or the gateway on the way to it.
        next_hop: Ipv4Addr,
        /// The interface.
        interface: String,
        /// What the kernel says of the neighbour.
        what: String,
    },
    /// The neighbour's link-layer address is not one of Ethernet.
    #[error(
        "{next_hop} has a link-layer address of {len} bytes on {interface}, and Ethernet's have 6: use --path kernel"
    )]
    NotEthernet {
        /// The neighbour.
        next_hop: Ipv4Addr,
        /// The interface.
        interface: String,
        /// How many bytes the address has.
        len: usize,
    },
    /// PTP over Ethernet does not pass a gateway.
    #[error(
        "{peer} is not on this link (its packets go by way of {next_hop}), and PTP over Ethernet does not pass a gateway: use \
         --ptp udp"
    )]
    OtherLink {
        /// The peer.
        peer: Ipv4Addr,
        /// The gateway.
        next_hop: Ipv4Addr,
    },
    /// The sockets' memory is more than the process may lock.
    #[error(
        "AF_XDP on {queues} queue{} takes {} KiB of locked memory, more than this process may lock ({} KiB, RLIMIT_MEMLOCK) \
         without CAP_IPC_LOCK: run it as root, give the program the capability (setcap {} $(command -v xdprobe)), raise the \
         limit (ulimit -l), serve fewer queues (--queue), or use --path kernel",
        if *queues == 1 { "" } else { "s" }, needed.div_ceil(1024), limit / 1024, setcap(&FOR_XDP)
    )]
    LockedMemory {
        /// How many sockets there are to be.
        queues: usize,
        /// Bytes that they take.
        needed: u64,
        /// Bytes that the process may lock.
        limit: u64,
    },
    /// The process lacks capabilities.
    #[error(
        "the process lacks {}: run it as root, or give the program the capabilities (setcap {} $(command -v xdprobe)), or do \
         without them with --path kernel and --timestamps software or application",
        names(.0), setcap(&FOR_XDP)
    )]
    Privilege(Vec<Capability>),
    /// The kernel is too old for the xdp path.
    #[error(
        "Linux {found} is too old for --path xdp, which needs {XDP_NEEDS} or later (bpf_ktime_get_tai_ns in XDP \
         programs): use --path kernel"
    )]
    OldKernel {
        /// The running kernel.
        found: KernelVersion,
    },
    /// The host has no address.
    #[error("cannot find the address of \"{host}\": {answer}: check the spelling, or give the IPv4 address itself")]
    UnknownHost {
        /// What was given.
        host: String,
        /// What the resolver answered.
        answer: io::Error,
    },
    /// The host has IPv6 addresses only.
    #[error("\"{host}\" has only IPv6 addresses ({address}), and the protocol runs over IPv4: give an IPv4 address")]
    Ipv6Only {
        /// What was given.
        host: String,
        /// One of its addresses.
        address: std::net::Ipv6Addr,
    },
    /// Somebody has the UDP port.
    #[error(
        "UDP port {port} on {address} is taken by another process (ss -ulnp 'sport = :{port}' shows which): end that one, \
         or choose another port (--port)"
    )]
    PortTaken {
        /// The address.
        address: Ipv4Addr,
        /// The port.
        port: u16,
    },
    /// The UDP port is a privileged one.
    #[error(
        "UDP port {port} needs CAP_NET_BIND_SERVICE here: run as root, choose a port from {first_free} up (--port), give the \
         program the capability (setcap), or let everybody bind it (sysctl -w net.ipv4.ip_unprivileged_port_start={port})"
    )]
    PortDenied {
        /// The port.
        port: u16,
        /// The first one that needs no privilege.
        first_free: u16,
    },
    /// Port 319 is a privileged one.
    #[error(
        "UDP port 319, where --ptp udp (which --ptp auto chooses) receives what is to be stamped, needs CAP_NET_BIND_SERVICE: run \
         as root, give the program the capability beside those that it has (setcap {} $(command -v xdprobe)), or let everybody \
         bind the port (sysctl -w net.ipv4.ip_unprivileged_port_start=319); or use --ptp l2, which takes CAP_NET_RAW, where both \
         sides are on one link",
        setcap(&[&FOR_XDP[..], &[Capability::NetBindService]].concat())
    )]
    PtpPortDenied,
    /// A client asks to be served over AF_XDP by a server that has none.
    #[error(
        "this server runs with --path kernel and has no AF_XDP: start it with --path xdp, which serves clients on either \
         path"
    )]
    NoXdpPath,
    /// Port 319 cannot be had.
    #[error(
        "UDP port 319 of {address}, where PTP messages are received, cannot be had: {answer}: end what runs PTP there (ptp4l; \
         ss -ulnp 'sport = :319' shows it), or use --ptp l2 where both sides are on one link"
    )]
    PtpPort {
        /// The address.
        address: Ipv4Addr,
        /// What the kernel answered.
        answer: String,
    },
    /// A socket call failed in a way that has no message of its own.
    #[error("cannot {attempt}: {answer}")]
    Socket {
        /// What was attempted, on what.
        attempt: String,
        /// What the kernel answered.
        answer: io::Error,
    },
}

/// The part of a message that lists the interfaces.
fn known(existing: &[String]) -> String {
    if existing.is_empty() {
        "this machine has none that can be seen".to_owned()
    } else {
        format!("choose one of {}", existing.join(", "))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_unknown_interface_is_answered_with_those_that_exist() {
        let error = NetError::UnknownInterface { name: "eth9".into(), existing: vec!["lo".into(), "eth0".into()] };
        assert_eq!(error.to_string(), "there is no interface \"eth9\": choose one of lo, eth0");
    }

    #[test]
    fn a_missing_carrier_names_the_time_that_was_waited() {
        let error = NetError::NoCarrier { interface: "eth0".into(), waited: Duration::from_millis(10_020) };
        assert!(error.to_string().starts_with("the interface eth0 has no carrier after 10.0 s: "), "{error}");
    }

    #[test]
    fn missing_capabilities_are_named_with_the_ways_out() {
        let error = NetError::Privilege(vec![Capability::NetRaw, Capability::Bpf]).to_string();
        assert!(error.starts_with("the process lacks CAP_NET_RAW and CAP_BPF: run it as root"), "{error}");
        assert!(error.contains("setcap cap_net_admin,cap_net_raw,cap_bpf,cap_perfmon,cap_ipc_lock+ep"), "{error}");
        assert!(error.contains("--path kernel and --timestamps software"), "{error}");
    }

    #[test]
    fn a_privileged_port_is_answered_with_every_way_out() {
        let error = NetError::PtpPortDenied.to_string();
        for way in [
            "CAP_NET_BIND_SERVICE",
            "cap_net_bind_service+ep",
            "ip_unprivileged_port_start=319",
            "--ptp l2",
            "CAP_NET_RAW",
        ] {
            assert!(error.contains(way), "{way}: {error}");
        }
        let error = NetError::PortDenied { port: 500, first_free: 1024 }.to_string();
        assert!(error.contains("from 1024 up") && error.contains("ip_unprivileged_port_start=500"), "{error}");
    }

    #[test]
    fn memory_beyond_the_limit_is_said_in_numbers() {
        let error = NetError::LockedMemory { queues: 2, needed: 25_165_824, limit: 8 << 20 }.to_string();
        assert!(error.starts_with("AF_XDP on 2 queues takes 24576 KiB of locked memory"), "{error}");
        assert!(
            error.contains("(8192 KiB, RLIMIT_MEMLOCK) without CAP_IPC_LOCK") && error.contains("--queue"),
            "{error}"
        );
    }
}
