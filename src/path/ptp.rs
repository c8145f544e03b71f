//! Where pings and pongs behind a PTP header pass through the kernel: a UDP socket on port 319, or a packet socket for
//! EtherType 0x88F7.
//!
//! A card that stamps nothing but PTP on receipt keeps the stamp in a register until its driver builds an skb from that
//! frame: so the frame must come this way, on both paths.
#![forbid(unsafe_code)]

use super::control::{self, ROOM};
use super::socket;
use super::stamper::{Aligned, TxStamper};
use super::{Received, RxStamps, StampWishes, Token, TxStamp};
use crate::clock::realtime_now;
use crate::net::{NetError, reserve_port};
use crate::wire::frame::{MacAddr, parse_ptp};
use crate::wire::ptp::{ETHERTYPE, Probe, Transport, UDP_PORT, parse};
use crate::wire::{Said, UDP_IP_HEADERS};
use std::io;
use std::net::{Ipv4Addr, SocketAddrV4};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

/// The largest that is looked at, in bytes: more than a ping or pong can have.
const RECEIVE_BYTES: usize = 4096;
/// Tokens of this socket begin here, so that they are never those of the path's other one.
const FIRST_TOKEN: u64 = 1 << 62;

/// The interface that it is opened on.
#[derive(Debug, Clone, Copy)]
pub(super) struct Nic<'a> {
    pub(super) interface: &'a str,
    pub(super) if_index: u32,
    pub(super) mac: MacAddr,
    pub(super) address: Ipv4Addr,
}

/// An open port for PTP.
#[derive(Debug)]
pub(super) struct PtpPort {
    transport: Transport,
    /// The interface's Ethernet address: a packet socket sees others' frames too.
    mac: MacAddr,
    socket: OwnedFd,
    stamper: TxStamper,
    data: Box<[u8; RECEIVE_BYTES]>,
    control: Box<Aligned>,
}

impl PtpPort {
    /// Opens it on the interface's address. Port 319 takes CAP_NET_BIND_SERVICE, Ethernet CAP_NET_RAW.
    ///
    /// # Errors
    /// Why it cannot be had: somebody who runs PTP has the port, most likely.
    fn open(transport: Transport, nic: &Nic<'_>, wishes: StampWishes) -> Result<Self, NetError> {
        let &Nic { interface, if_index, mac, address } = nic;
        let socket = match transport {
            Transport::Udp => reserve_port(interface, address, UDP_PORT)
                .map_err(|error| {
                    let answer = match error {
                        NetError::PortTaken { .. } => "somebody has it".to_owned(),
                        NetError::PortDenied { .. } => return NetError::PtpPortDenied,
                        other => return other,
                    };
                    NetError::PtpPort { address, answer }
                })?
                .into(),
            Transport::L2 => socket::packet_socket(if_index, ETHERTYPE).map_err(|answer| NetError::Socket {
                attempt: format!("open a packet socket for EtherType 0x88f7 on {interface}"),
                answer,
            })?,
        };
        if transport == Transport::Udp {
            // As of the kernel path's socket: else what the interface's queue drops counts as sent.
            socket::set_option(socket.as_fd(), libc::IPPROTO_IP, libc::IP_RECVERR, 1).map_err(|answer| {
                NetError::Socket {
                    attempt: "be told of PTP messages that the interface's queue drops (IP_RECVERR)".into(),
                    answer,
                }
            })?;
        }
        let stamper = TxStamper::from_token(FIRST_TOKEN, socket.as_fd(), wishes, true)?;
        Ok(Self {
            transport,
            mac,
            socket,
            stamper,
            data: Box::new([0; RECEIVE_BYTES]),
            control: Box::new(Aligned([0; ROOM])),
        })
    }

    /// The port that is open already, where it is of this kind: it cannot be had twice. Else another.
    ///
    /// # Errors
    /// As [`PtpPort::open`].
    pub(super) fn keep_or_open(
        open: Option<Self>,
        transport: Transport,
        nic: &Nic<'_>,
        wishes: StampWishes,
    ) -> Result<Self, NetError> {
        match open.filter(|port| port.transport == transport) {
            Some(port) => Ok(port),
            None => Self::open(transport, nic, wishes),
        }
    }

    /// Sends once: a UDP payload to port 319 of `to`, or a whole frame. Asks for a stamp where `stamped`.
    ///
    /// # Errors
    /// What the kernel answered.
    pub(super) fn send(&mut self, data: &[u8], to: Ipv4Addr, stamped: bool) -> io::Result<Option<Token>> {
        let to = match self.transport {
            Transport::Udp => Some(SocketAddrV4::new(to, UDP_PORT)),
            Transport::L2 => None,
        };
        match stamped {
            true => self.stamper.send(self.socket.as_fd(), data, to).map(Some),
            false => socket::send(self.socket.as_fd(), data, to, &[]).map(|()| None),
        }
    }

    /// One ping or pong, if one has come. What is not ours is passed over, and counted in `foreign`.
    ///
    /// # Errors
    /// What the kernel answered; [`io::ErrorKind::WouldBlock`] where there is nothing.
    pub(super) fn receive(&mut self, foreign: &mut u64) -> io::Result<(Received, Option<Said>)> {
        loop {
            let arrival = socket::receive(self.socket.as_fd(), &mut self.data[..], &mut self.control.0, 0)?;
            let application = realtime_now();
            let data = &self.data[..arrival.len];
            let read = match self.transport {
                Transport::Udp => parse(data).map(|probe| (probe, (arrival.len as u16).saturating_add(UDP_IP_HEADERS))),
                Transport::L2 => parse_ptp(data)
                    .ok()
                    .filter(|frame| frame.link.destination() == self.mac)
                    .map(|frame| (frame.probe, frame.ip_len)),
            };
            let Some((Probe { sender, shape, message, in_band }, ip_len)) = read else {
                *foreign += 1;
                continue;
            };
            let control::Stamps { software, hardware } = control::stamps(&self.control.0[..arrival.control_len]);
            let stamps = RxStamps { application, hook: None, software, hardware };
            let received = Received { from: sender, message, shape, ip_len, queue: None, stamps };
            return Ok((received, in_band.map(Said::InBand)));
        }
    }

    /// Adds the transmit stamps that have come to `stamps`.
    ///
    /// # Errors
    /// As [`TxStamper::collect`].
    pub(super) fn collect(&mut self, stamps: &mut Vec<TxStamp>) -> io::Result<()> {
        self.stamper.collect(self.socket.as_fd(), stamps)
    }

    /// Reports that belong to nothing that was sent.
    pub(super) const fn strange(&self) -> u64 {
        self.stamper.strange()
    }
}

impl AsFd for PtpPort {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.socket.as_fd()
    }
}
