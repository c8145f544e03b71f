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
    let mut message = AddressMessage::default();
    message.header.family = AddressFamily::Inet;
    let answers = netlink.ask(RouteNetlinkMessage::GetAddress(message), NLM_F_DUMP)?;
    Ok(answers.iter().find_map(|body| address_of(body, index)))
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
    let attributes = Attributes::after(header.buffer_len(), body);
    // On a point-to-point interface IFA_ADDRESS is the other end's.
    attributes.ipv4(libc::IFA_LOCAL).or_else(|| attributes.ipv4(libc::IFA_ADDRESS))
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
            assert!(Link::read(&body[..cut]).is_none());
        }
    }
}
