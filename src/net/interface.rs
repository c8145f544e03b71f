//! Which interface this is, and whether it is fit for probing.
#![forbid(unsafe_code)]

use super::netlink::{Attributes, Events, Netlink};
use super::{NetError, ethtool};
use crate::clock::monotonic_now;
use crate::wire::frame::MacAddr;
use netlink_packet_core::{Emitable, NLM_F_DUMP};
use netlink_packet_route::address::{AddressHeader, AddressHeaderFlags, AddressMessage};
use netlink_packet_route::link::{LinkAttribute, LinkExtentMask, LinkFlags, LinkHeader, LinkLayerType, LinkMessage};
use netlink_packet_route::{AddressFamily, RouteNetlinkMessage};
use std::io;
use std::net::Ipv4Addr;
use std::time::Duration;

/// From when on a wait for the carrier is worth a word.
const WORTH_TELLING: Duration = Duration::from_millis(500);
/// How long a change can go unnoticed at most, should its event be lost.
const LOOK_AGAIN: Duration = Duration::from_millis(250);

/// What the kernel knows about an interface, at the moment of asking.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Interface {
    /// Its name: the kernel's, where an alternative name was asked for.
    pub name: String,
    /// Its index (`ifindex`).
    pub index: u32,
    /// Its link-layer address; all zero on loopback and where it has none of 6 bytes.
    pub mac: MacAddr,
    /// The largest IP packet in bytes.
    pub mtu: u32,
    /// Its frames are Ethernet's (`ARPHRD_ETHER`, or loopback).
    pub is_ethernet: bool,
    /// It is the loopback interface.
    pub is_loopback: bool,
    /// It is administratively up (`IFF_UP`), with or without carrier.
    pub is_up: bool,
    /// Its first IPv4 address that is not a secondary one.
    pub address: Option<Ipv4Addr>,
    /// The name of its driver; `None` where it does not tell.
    pub driver: Option<String>,
    /// How many receive queues it uses, at least 1.
    pub rx_queues: u32,
}

/// Asks the kernel about the interface `name`.
///
/// # Errors
/// [`NetError::NotAName`], [`NetError::UnknownInterface`], or [`NetError::Netlink`] where the kernel refuses to answer.
pub fn interface(name: &str) -> Result<Interface, NetError> {
    let failed = |answer| NetError::Netlink { attempt: format!("ask about the interface {name}"), answer };
    let mut netlink = Netlink::open().map_err(failed)?;
    if name.is_empty() || name.len() >= libc::IFNAMSIZ || name.contains('\0') {
        return Err(NetError::NotAName { name: name.to_owned(), existing: names(&mut netlink).map_err(failed)? });
    }
    let link = match netlink.ask(link_request(LinkAttribute::IfName(name.to_owned())), 0) {
        Ok(answers) => answers.iter().find_map(|body| Link::read(body)),
        Err(answer) if answer.raw_os_error() == Some(libc::ENODEV) => None,
        Err(answer) => return Err(failed(answer)),
    };
    let Some(link) = link else {
        return Err(NetError::UnknownInterface {
            name: name.to_owned(),
            existing: names(&mut netlink).map_err(failed)?,
        });
    };
    let address = primary_address(&mut netlink, link.index).map_err(failed)?;
    Ok(Interface {
        driver: ethtool::driver(&link.name),
        rx_queues: ethtool::receive_queues(&link.name).or(link.rx_queues).unwrap_or(1).max(1),
        is_ethernet: matches!(link.layer, LinkLayerType::Ether | LinkLayerType::Loopback),
        is_loopback: link.layer == LinkLayerType::Loopback,
        is_up: link.flags.contains(LinkFlags::Up),
        name: link.name,
        index: link.index,
        mac: link.mac,
        mtu: link.mtu,
        address,
    })
}

impl Interface {
    /// Fails where the interface is administratively down.
    ///
    /// # Errors
    /// [`NetError::Down`].
    pub fn require_up(&self) -> Result<(), NetError> {
        if self.is_up { Ok(()) } else { Err(NetError::Down { interface: self.name.clone() }) }
    }

    /// The interface's IPv4 address.
    ///
    /// # Errors
    /// [`NetError::NoAddress`] where it has none.
    pub fn require_address(&self) -> Result<Ipv4Addr, NetError> {
        self.address.ok_or_else(|| NetError::NoAddress { interface: self.name.clone() })
    }
}

/// Waits until the interface has a carrier and may send, for at most `patience`.
///
/// Some drivers take the carrier down for seconds when an XDP program is attached. `tell` is called once, with the time
/// waited so far, when that is half a second. Once `stop` says so there is no more waiting.
///
/// # Errors
/// [`NetError::Stopped`] where `stop` says so before there is a carrier;
/// [`NetError::NoCarrier`] when the patience is over; [`NetError::Down`] where somebody took the interface down;
/// [`NetError::Netlink`] where the kernel refuses to answer, as when the interface is gone.
pub fn wait_for_carrier(
    interface: &Interface,
    patience: Duration,
    mut tell: impl FnMut(Duration),
    stop: impl Fn() -> bool,
) -> Result<(), NetError> {
    let failed = |answer| NetError::Netlink { attempt: format!("wait for the carrier of {}", interface.name), answer };
    // Before the first look, so that no change can fall between look and wait.
    let events = Events::of(libc::RTNLGRP_LINK).map_err(failed)?;
    let mut netlink = Netlink::open().map_err(failed)?;
    let start = monotonic_now();
    let mut told = false;
    loop {
        let flags = flags(&mut netlink, interface.index).map_err(failed)?;
        // LOWER_UP follows the carrier at once, RUNNING when the kernel has let the device send again.
        if flags.contains(LinkFlags::LowerUp | LinkFlags::Running) {
            return Ok(());
        }
        if !flags.contains(LinkFlags::Up) {
            return Err(NetError::Down { interface: interface.name.clone() });
        }
        let waited = monotonic_now().duration_since(start);
        if stop() {
            return Err(NetError::Stopped { interface: interface.name.clone(), waited });
        }
        if !told && waited >= WORTH_TELLING {
            told = true;
            tell(waited);
        }
        let Some(left) = patience.checked_sub(waited).filter(|left| !left.is_zero()) else {
            return Err(NetError::NoCarrier { interface: interface.name.clone(), waited });
        };
        let until_telling = if told { LOOK_AGAIN } else { WORTH_TELLING - waited };
        events.wait(left.min(LOOK_AGAIN).min(until_telling)).map_err(failed)?;
    }
}

/// The addresses that no packet may come from to `interface`, beside those that are no host's anywhere: this machine's own, on whatever
/// interface, unless this one was told to take such packets (`accept_local`, `Documentation/networking/ip-sysctl.rst`), and the broadcast
/// addresses of its networks. In any order; one may be there twice.
///
/// # Errors
/// [`NetError::Netlink`] where the kernel refuses to answer.
pub fn martian_sources(interface: &Interface) -> Result<Vec<Ipv4Addr>, NetError> {
    let failed = |answer| NetError::Netlink { attempt: "ask for this machine's addresses".to_owned(), answer };
    let messages = Netlink::open().and_then(|mut netlink| addresses(&mut netlink)).map_err(failed)?;
    let accepts_local = ["all", &interface.name].iter().any(|which| {
        let setting = std::fs::read_to_string(format!("/proc/sys/net/ipv4/conf/{which}/accept_local"));
        setting.is_ok_and(|setting| setting.trim() != "0")
    });
    let own = messages.iter().filter(|_| !accepts_local).filter_map(|body| local_of(body));
    Ok(own.chain(messages.iter().flat_map(|body| broadcasts_of(body))).collect())
}

/// What is taken from an `RTM_NEWLINK` message.
struct Link {
    name: String,
    index: u32,
    layer: LinkLayerType,
    flags: LinkFlags,
    mac: MacAddr,
    mtu: u32,
    rx_queues: Option<u32>,
}

impl Link {
    fn read(body: &[u8]) -> Option<Self> {
        let header = LinkHeader::parse(body).ok()?;
        let attributes = Attributes::after(header.buffer_len(), body);
        Some(Self {
            name: attributes.string(libc::IFLA_IFNAME)?,
            index: header.index,
            layer: header.link_layer_type,
            flags: header.flags,
            mac: MacAddr(attributes.get(libc::IFLA_ADDRESS).and_then(|mac| mac.try_into().ok()).unwrap_or_default()),
            mtu: attributes.u32(libc::IFLA_MTU)?,
            rx_queues: attributes.u32(libc::IFLA_NUM_RX_QUEUES),
        })
    }
}

fn link_request(which: LinkAttribute) -> RouteNetlinkMessage {
    let mut message = LinkMessage::default();
    message.attributes = vec![which, LinkAttribute::ExtMask(vec![LinkExtentMask::SkipStats])];
    RouteNetlinkMessage::GetLink(message)
}

/// The names of all interfaces, in the order of their index.
fn names(netlink: &mut Netlink) -> io::Result<Vec<String>> {
    let request = RouteNetlinkMessage::GetLink(LinkMessage::default());
    let links = netlink.ask(request, NLM_F_DUMP)?;
    Ok(links.iter().filter_map(|body| Link::read(body)).map(|link| link.name).collect())
}

fn flags(netlink: &mut Netlink, index: u32) -> io::Result<LinkFlags> {
    let mut message = LinkMessage::default();
    message.header.index = index;
    let answers = netlink.ask(RouteNetlinkMessage::GetLink(message), 0)?;
    let link = answers.iter().find_map(|body| LinkHeader::parse(body).ok());
    link.map(|header| header.flags).ok_or_else(|| io::Error::from_raw_os_error(libc::ENODEV))
}

fn primary_address(netlink: &mut Netlink, index: u32) -> io::Result<Option<Ipv4Addr>> {
    Ok(addresses(netlink)?.iter().find_map(|body| address_of(body, index)))
}

/// An `RTM_NEWADDR` message for each IPv4 address of this machine.
fn addresses(netlink: &mut Netlink) -> io::Result<Vec<Vec<u8>>> {
    let mut message = AddressMessage::default();
    message.header.family = AddressFamily::Inet;
    netlink.ask(RouteNetlinkMessage::GetAddress(message), NLM_F_DUMP)
}

/// The IPv4 address in an `RTM_NEWADDR` message, where it is a primary one of the interface `index`.
fn address_of(body: &[u8], index: u32) -> Option<Ipv4Addr> {
    let header = AddressHeader::parse(body).ok()?;
    if header.family != AddressFamily::Inet
        || header.index != index
        || header.flags.contains(AddressHeaderFlags::Secondary)
    {
        return None;
    }
    local_of(body)
}

/// The address in an `RTM_NEWADDR` message.
fn local_of(body: &[u8]) -> Option<Ipv4Addr> {
    let attributes = Attributes::after(AddressHeader::parse(body).ok()?.buffer_len(), body);
    // On a point-to-point interface IFA_ADDRESS is the other end's.
    attributes.ipv4(libc::IFA_LOCAL).or_else(|| attributes.ipv4(libc::IFA_ADDRESS))
}

/// The broadcast addresses that come with the address in an `RTM_NEWADDR` message: the one that it was given, and the last one of its
/// network (`fib_add_ifaddr`, net/ipv4/fib_frontend.c, which waits until the interface is up).
fn broadcasts_of(body: &[u8]) -> impl Iterator<Item = Ipv4Addr> {
    let header = AddressHeader::parse(body).ok();
    let found = header.map(|header| {
        let attributes = Attributes::after(header.buffer_len(), body);
        let hosts = Some(header.prefix_len).filter(|len| *len < 31).map(|len| u32::MAX >> len);
        let last = attributes.ipv4(libc::IFA_ADDRESS).zip(hosts);
        [attributes.ipv4(libc::IFA_BROADCAST), last.map(|(one, hosts)| Ipv4Addr::from_bits(one.to_bits() | hosts))]
    });
    found.into_iter().flatten().flatten()
}

#[cfg(test)]
mod tests {
    use super::*;
    use netlink_packet_route::address::AddressAttribute;
    use std::net::IpAddr;

    fn emitted(message: &impl Emitable) -> Vec<u8> {
        let mut bytes = vec![0; message.buffer_len()];
        message.emit(&mut bytes);
        bytes
    }

    fn address_message(flags: AddressHeaderFlags) -> Vec<u8> {
        let mut message = AddressMessage::default();
        message.header.family = AddressFamily::Inet;
        message.header.index = 3;
        message.header.flags = flags;
        message.attributes = vec![
            AddressAttribute::Address(IpAddr::from([10, 0, 0, 2])),
            AddressAttribute::Local(IpAddr::from([10, 0, 0, 1])),
        ];
        emitted(&message)
    }

    #[test]
    fn the_address_of_a_point_to_point_interface_is_its_own_end() {
        let body = address_message(AddressHeaderFlags::empty());
        assert_eq!(address_of(&body, 3), Some(Ipv4Addr::new(10, 0, 0, 1)));
        assert_eq!(address_of(&body, 4), None);
    }

    #[test]
    fn a_secondary_address_is_passed_over() {
        assert_eq!(address_of(&address_message(AddressHeaderFlags::Secondary), 3), None);
    }

    #[test]
    fn a_network_has_a_last_address_unless_it_is_of_two_hosts_and_may_have_another_for_broadcasts() {
        for (len, last) in [(8, Some([10, 255, 255, 255])), (30, Some([10, 0, 0, 3])), (31, None), (32, None)] {
            let mut message = AddressMessage::default();
            (message.header.family, message.header.prefix_len) = (AddressFamily::Inet, len);
            // Of the other end's network, where there is one.
            message.attributes = vec![
                AddressAttribute::Address(IpAddr::from([10, 0, 0, 2])),
                AddressAttribute::Local(IpAddr::from([192, 0, 2, 1])),
            ];
            let found = |message: &AddressMessage| broadcasts_of(&emitted(message)).collect::<Vec<_>>();
            let last: Vec<_> = last.map(Ipv4Addr::from).into_iter().collect();
            assert_eq!(found(&message), last, "/{len}");
            message.attributes.push(AddressAttribute::Broadcast(Ipv4Addr::new(10, 9, 9, 9)));
            assert_eq!(found(&message), [&[Ipv4Addr::new(10, 9, 9, 9)], &last[..]].concat(), "/{len}");
            assert_eq!(local_of(&emitted(&message)), Some(Ipv4Addr::new(192, 0, 2, 1)));
        }
    }

    #[test]
    fn a_link_without_link_layer_address_reads_as_zero_and_one_without_mtu_does_not_read() {
        let mut message = LinkMessage::default();
        message.header.index = 2;
        message.attributes = vec![LinkAttribute::IfName("tun0".into())];
        assert!(Link::read(&emitted(&message)).is_none());
        message.attributes.push(LinkAttribute::Mtu(1400));
        let link = Link::read(&emitted(&message)).unwrap();
        assert_eq!((link.name.as_str(), link.index, link.mtu, link.mac), ("tun0", 2, 1400, MacAddr([0; 6])));
        assert_eq!(link.rx_queues, None);
    }

    #[test]
    fn messages_that_are_cut_off_read_as_nothing() {
        let body = address_message(AddressHeaderFlags::empty());
        for cut in 0..16 {
            assert_eq!(address_of(&body[..cut], 3), None);
            assert_eq!((local_of(&body[..cut]), broadcasts_of(&body[..cut]).next()), (None, None));
            assert!(Link::read(&body[..cut]).is_none());
        }
    }
}
