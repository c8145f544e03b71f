//! Where a packet to the peer goes next, and the link-layer address it must carry.
//!
//! Both are the kernel's to say. This module sends no ARP: it makes the kernel do so.
#![forbid(unsafe_code)]

use super::netlink::{Attributes, Events, Netlink};
use super::{Interface, NetError};
use crate::clock::monotonic_now;
use crate::wire::frame::MacAddr;
use netlink_packet_core::{Emitable, NLM_F_CREATE, NLM_F_REPLACE};
use netlink_packet_route::neighbour::{
    NeighbourAddress, NeighbourAttribute, NeighbourFlags, NeighbourHeader, NeighbourMessage, NeighbourState,
};
use netlink_packet_route::route::{RouteAddress, RouteAttribute, RouteFlags, RouteHeader, RouteMessage, RouteType};
use netlink_packet_route::{AddressFamily, RouteNetlinkMessage};
use std::io;
use std::net::Ipv4Addr;
use std::time::Duration;

/// How long a change can go unnoticed at most, should its event be lost.
const LOOK_AGAIN: Duration = Duration::from_millis(250);

/// The way to a peer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Route {
    /// The address that packets to the peer come from.
    pub source: Ipv4Addr,
    /// Whose link-layer address they are sent to: the gateway, or the peer where it is in the same network.
    pub next_hop: Ipv4Addr,
}

/// Asks the kernel how packets to `to` leave through `interface`.
///
/// # Errors
/// Where there is no such way, or it is not one of Ethernet frames to one host: [`NetError::NotOneHost`],
/// [`NetError::OwnAddress`], [`NetError::NoRoute`], [`NetError::OtherInterface`], [`NetError::Ipv6Gateway`],
/// [`NetError::NoAddress`]; [`NetError::Netlink`] where the kernel refuses to answer.
pub fn route(interface: &Interface, to: Ipv4Addr) -> Result<Route, NetError> {
    let not_one_host = |what| Err(NetError::NotOneHost { to, what });
    if to.is_unspecified() {
        return not_one_host("no host's address");
    }
    if to.is_multicast() {
        return not_one_host("a multicast address");
    }
    let failed = |answer| NetError::Netlink { attempt: format!("ask for the route to {to}"), answer };
    let no_route = |answer| NetError::NoRoute { to, interface: interface.name.clone(), answer };
    let mut netlink = Netlink::open().map_err(failed)?;

    // Without the interface first: with it, an address of another interface of this machine looks like any other.
    if let Ok(Found { kind: RouteType::Local, .. }) = read_route(&mut netlink, None, to, RouteFlags::empty()) {
        return Err(NetError::OwnAddress { to, interface: interface.name.clone() });
    }
    let found = read_route(&mut netlink, Some(interface.index), to, RouteFlags::empty()).map_err(no_route)?;
    match found.kind {
        RouteType::Local => return Err(NetError::OwnAddress { to, interface: interface.name.clone() }),
        RouteType::Broadcast => return not_one_host("a broadcast address"),
        RouteType::Multicast => return not_one_host("a multicast address"),
        _ => {}
    }
    // With an interface given, the kernel takes what no route matches for a neighbour. Only the table itself tells.
    read_route(&mut netlink, Some(interface.index), to, RouteFlags::FibMatch).map_err(no_route)?;
    found.through(interface, to)
}

/// What is taken from an `RTM_NEWROUTE` message.
struct Found {
    kind: RouteType,
    index: Option<u32>,
    gateway: Option<Ipv4Addr>,
    source: Option<Ipv4Addr>,
    has_ipv6_gateway: bool,
}

impl Found {
    fn read(body: &[u8]) -> Option<Self> {
        let header = RouteHeader::parse(body).ok()?;
        let attributes = Attributes::after(header.buffer_len(), body);
        Some(Self {
            kind: header.kind,
            index: attributes.u32(libc::RTA_OIF),
            gateway: attributes.ipv4(libc::RTA_GATEWAY),
            source: attributes.ipv4(libc::RTA_PREFSRC),
            has_ipv6_gateway: attributes.get(libc::RTA_VIA).is_some(),
        })
    }

    fn through(&self, interface: &Interface, to: Ipv4Addr) -> Result<Route, NetError> {
        let name = || interface.name.clone();
        match self.index {
            Some(index) if index != interface.index => {
                return Err(NetError::OtherInterface { to, interface: name(), index });
            }
            _ => {}
        }
        if self.has_ipv6_gateway {
            return Err(NetError::Ipv6Gateway { to, interface: name() });
        }
        // The kernel says 0.0.0.0 where it found no address to send from.
        let source = self.source.filter(|source| !source.is_unspecified()).or(interface.address);
        let source = source.ok_or_else(|| NetError::NoAddress { interface: name() })?;
        Ok(Route { source, next_hop: self.gateway.unwrap_or(to) })
    }
}

fn read_route(netlink: &mut Netlink, through: Option<u32>, to: Ipv4Addr, flags: RouteFlags) -> io::Result<Found> {
    let mut message = RouteMessage::default();
    message.header.address_family = AddressFamily::Inet;
    message.header.destination_prefix_length = 32;
    message.header.flags = flags;
    message.attributes = vec![RouteAttribute::Destination(RouteAddress::Inet(to))];
    message.attributes.extend(through.map(RouteAttribute::Oif));
    let answers = netlink.ask(RouteNetlinkMessage::GetRoute(message), 0)?;
    let found = answers.iter().find_map(|body| Found::read(body));
    found.ok_or_else(|| io::Error::new(io::ErrorKind::InvalidData, "an answer without a route"))
}

/// The link-layer address of `next_hop`, which the kernel is made to resolve where it does not know it, and to verify
/// where it is no longer sure of it, within `patience`. Needs `CAP_NET_ADMIN` where either is to be done.
///
/// # Errors
/// [`NetError::Unresolved`] where nobody answers, [`NetError::NotEthernet`], or [`NetError::Netlink`] where the kernel
/// refuses.
pub fn resolve_neighbour(interface: &Interface, next_hop: Ipv4Addr, patience: Duration) -> Result<MacAddr, NetError> {
    if interface.is_loopback {
        // Every neighbour there is the interface itself, and has no entry of its own.
        return Ok(interface.mac);
    }
    let name = || interface.name.clone();
    let attempt = || format!("ask for the link-layer address of {next_hop} on {}", interface.name);
    let failed = |answer| NetError::Netlink { attempt: attempt(), answer };
    // Before the first look, so that no change can fall between look and wait.
    let events = Events::of(libc::RTNLGRP_NEIGH).map_err(failed)?;
    let mut netlink = Netlink::open().map_err(failed)?;
    let start = monotonic_now();
    let (mut asked, mut verified) = (false, false);
    loop {
        let neighbour = read_neighbour(&mut netlink, interface.index, next_hop).map_err(failed)?;
        let resolve = |answer| NetError::Netlink {
            attempt: format!("make the kernel resolve {next_hop} on {}", interface.name),
            answer,
        };
        match neighbour.as_ref().map(Neighbour::knowledge) {
            Some(Knowledge::Sure(address)) => {
                return match <[u8; 6]>::try_from(address) {
                    Ok(mac) => Ok(MacAddr(mac)),
                    Err(_) => Err(NetError::NotEthernet { next_hop, interface: name(), len: address.len() }),
                };
            }
            // The kernel would send there and find out on the way. Frames of our own tell it nothing: it is asked to find
            // out now, or a machine that was replaced would be sent to for ever.
            Some(Knowledge::Doubtful(address)) if !verified => {
                verified = true;
                verify_neighbour(&mut netlink, interface.index, next_hop, address).map_err(resolve)?;
                continue;
            }
            Some(Knowledge::Doubtful(_)) => {}
            // Only now: an entry that is in use already would lose its permanence by it.
            Some(Knowledge::None) | None if !asked => {
                asked = true;
                use_neighbour(&mut netlink, interface.index, next_hop).map_err(resolve)?;
                continue;
            }
            Some(Knowledge::None) | None => {}
        }
        let waited = monotonic_now().duration_since(start);
        let has_failed = neighbour.is_some_and(|neighbour| neighbour.state == NeighbourState::Failed);
        let left = patience.saturating_sub(waited);
        if has_failed || left.is_zero() {
            let outcome = if has_failed { "the kernel gave up" } else { "still unresolved" };
            let what = format!("{outcome} after {:.1} s", waited.as_secs_f64());
            return Err(NetError::Unresolved { next_hop, interface: name(), what });
        }
        events.wait(left.min(LOOK_AGAIN)).map_err(failed)?;
    }
}

/// What is taken from an `RTM_NEWNEIGH` message.
struct Neighbour {
    state: NeighbourState,
    address: Option<Vec<u8>>,
}

impl Neighbour {
    fn read(body: &[u8]) -> Option<Self> {
        let header = NeighbourHeader::parse(body).ok()?;
        let attributes = Attributes::after(header.buffer_len(), body);
        Some(Self { state: header.state, address: attributes.get(libc::NDA_LLADDR).map(<[u8]>::to_vec) })
    }

    fn knowledge(&self) -> Knowledge<'_> {
        match (self.state, &self.address) {
            (NeighbourState::Reachable | NeighbourState::Permanent | NeighbourState::Noarp, Some(address)) => {
                Knowledge::Sure(address)
            }
            (NeighbourState::Stale | NeighbourState::Delay | NeighbourState::Probe, Some(address)) => {
                Knowledge::Doubtful(address)
            }
            _ => Knowledge::None,
        }
    }
}

/// What the kernel knows of a neighbour's address (`NUD_*`, `linux/neighbour.h`).
#[derive(Debug, PartialEq, Eq)]
enum Knowledge<'a> {
    None,
    /// It was so once.
    Doubtful(&'a [u8]),
    Sure(&'a [u8]),
}

fn neighbour_message(index: u32, next_hop: Ipv4Addr) -> NeighbourMessage {
    let mut message = NeighbourMessage::default();
    message.header.family = AddressFamily::Inet;
    message.header.ifindex = index;
    message.attributes = vec![NeighbourAttribute::Destination(NeighbourAddress::Inet(next_hop))];
    message
}

fn read_neighbour(netlink: &mut Netlink, index: u32, next_hop: Ipv4Addr) -> io::Result<Option<Neighbour>> {
    match netlink.ask(RouteNetlinkMessage::GetNeighbour(neighbour_message(index, next_hop)), 0) {
        Ok(answers) => Ok(answers.iter().find_map(|body| Neighbour::read(body))),
        Err(error) if error.raw_os_error() == Some(libc::ENOENT) => Ok(None),
        Err(error) => Err(error),
    }
}

/// Tells the kernel that the neighbour is in use, whereupon it resolves it: `ip neigh replace ... use`.
fn use_neighbour(netlink: &mut Netlink, index: u32, next_hop: Ipv4Addr) -> io::Result<()> {
    let mut message = neighbour_message(index, next_hop);
    message.header.flags = NeighbourFlags::Use;
    netlink.ask(RouteNetlinkMessage::NewNeighbour(message), NLM_F_CREATE | NLM_F_REPLACE).map(drop)
}

/// Tells the kernel to ask the neighbour at once whether it still has this address: `ip neigh change ... nud probe`.
fn verify_neighbour(netlink: &mut Netlink, index: u32, next_hop: Ipv4Addr, address: &[u8]) -> io::Result<()> {
    let mut message = neighbour_message(index, next_hop);
    message.header.state = NeighbourState::Probe;
    message.attributes.push(NeighbourAttribute::LinkLayerAddress(address.to_vec()));
    netlink.ask(RouteNetlinkMessage::NewNeighbour(message), NLM_F_REPLACE).map(drop)
}

#[cfg(test)]
mod tests {
    use super::*;
    use netlink_packet_route::route::RouteVia;

    const PEER: Ipv4Addr = Ipv4Addr::new(10, 9, 0, 7);

    fn eth0() -> Interface {
        Interface {
            name: "eth0".into(),
            index: 3,
            mac: MacAddr([2, 0, 0, 0, 0, 1]),
            mtu: 1500,
            is_ethernet: true,
            is_loopback: false,
            is_up: true,
            address: Some(Ipv4Addr::new(10, 0, 0, 1)),
            driver: None,
            rx_queues: 1,
        }
    }

    fn route_body(attributes: Vec<RouteAttribute>) -> Vec<u8> {
        let mut message = RouteMessage::default();
        message.header.address_family = AddressFamily::Inet;
        message.header.kind = RouteType::Unicast;
        message.attributes = attributes;
        let mut bytes = vec![0; message.buffer_len()];
        message.emit(&mut bytes);
        bytes
    }

    fn inet(last: u8) -> RouteAddress {
        RouteAddress::Inet(Ipv4Addr::new(10, 0, 0, last))
    }

    #[test]
    fn the_next_hop_is_the_gateway_where_there_is_one() {
        let gateway = [RouteAttribute::Oif(3), RouteAttribute::Gateway(inet(254)), RouteAttribute::PrefSource(inet(2))];
        let found = Found::read(&route_body(gateway.to_vec())).unwrap();
        let expected = Route { source: Ipv4Addr::new(10, 0, 0, 2), next_hop: Ipv4Addr::new(10, 0, 0, 254) };
        assert_eq!(found.through(&eth0(), PEER).unwrap(), expected);
    }

    #[test]
    fn without_gateway_and_source_it_is_the_peer_and_the_interfaces_address() {
        let found = Found::read(&route_body(vec![RouteAttribute::Oif(3)])).unwrap();
        let expected = Route { source: Ipv4Addr::new(10, 0, 0, 1), next_hop: PEER };
        assert_eq!(found.through(&eth0(), PEER).unwrap(), expected);
    }

    #[test]
    fn a_route_through_another_interface_is_refused() {
        let found = Found::read(&route_body(vec![RouteAttribute::Oif(4)])).unwrap();
        assert!(matches!(found.through(&eth0(), PEER), Err(NetError::OtherInterface { index: 4, .. })));
    }

    #[test]
    fn an_ipv6_gateway_is_refused() {
        let via = RouteAttribute::Via(RouteVia::Inet6("fe80::1".parse().unwrap()));
        let found = Found::read(&route_body(vec![RouteAttribute::Oif(3), via])).unwrap();
        assert!(matches!(found.through(&eth0(), PEER), Err(NetError::Ipv6Gateway { .. })));
    }

    #[test]
    fn the_kernel_is_sure_of_a_neighbour_that_it_just_heard_and_doubts_an_older_one() {
        use NeighbourState::{Delay, Failed, Incomplete, Noarp, Permanent, Probe, Reachable, Stale};
        let neighbour = |state| Neighbour { state, address: Some(vec![2, 0, 0, 0, 0, 9]) };
        for state in [Reachable, Permanent, Noarp] {
            assert_eq!(neighbour(state).knowledge(), Knowledge::Sure(&[2, 0, 0, 0, 0, 9]), "{state:?}");
        }
        for state in [Stale, Delay, Probe] {
            assert_eq!(neighbour(state).knowledge(), Knowledge::Doubtful(&[2, 0, 0, 0, 0, 9]), "{state:?}");
        }
        for state in [Incomplete, Failed, NeighbourState::None] {
            assert_eq!(neighbour(state).knowledge(), Knowledge::None, "{state:?}");
        }
        assert_eq!(Neighbour { state: Reachable, address: None }.knowledge(), Knowledge::None);
    }

    #[test]
    fn messages_that_are_cut_off_read_as_nothing() {
        let body = route_body(vec![RouteAttribute::Oif(3)]);
        for cut in 0..12 {
            assert!(Found::read(&body[..cut]).is_none());
            assert!(Neighbour::read(&body[..cut]).is_none());
        }
        assert_eq!(Found::read(&body[..14]).unwrap().index, None);
    }
}
