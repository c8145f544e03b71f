//! Where pings and pongs behind a PTP header pass through the kernel: a UDP socket on port 319, or a packet socket for
//! EtherType 0x88F7.
//!
//! A card that stamps nothing but PTP on receipt keeps the stamp in a register until its driver builds an skb from that
//! frame: so the frame must come this way, on both paths.
#![forbid(unsafe_code)]

use super::control::{self, ROOM};
use super::socket::{self, RECEIVE_QUEUE, is_empty, is_passing, with_attempt};
use super::stamper::{Aligned, TxStamper};
use super::{BATCH, Batch, Counters, Received, RxStamps, StampWishes, Token, TxStamp};
use crate::clock::{Monotonic, Time, monotonic_now, realtime_now};
use crate::net::{NetError, reserve_port};
use crate::wire::frame::{MacAddr, parse_ptp};
use crate::wire::ptp::{ETHERTYPE, Probe, Transport, UDP_PORT, parse};
use crate::wire::{Kind, Said, UDP_IP_HEADERS};
use std::io;
use std::net::{Ipv4Addr, SocketAddrV4};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::time::Duration;

/// The largest that is looked at, in bytes: more than a ping or pong can have.
const RECEIVE_BYTES: usize = 4096;
/// Tokens of this socket begin here, so that they are never those of the path's other one.
const FIRST_TOKEN: u64 = 1 << 62;
/// A message that ends the session waits for so long, and until nothing is left here: the ring that it came through may show it
/// before the kernel has brought what came before it into this socket.
const END_WAITS: Duration = Duration::from_millis(1);
/// And for so long at most, if more and more comes: long enough to read all that the socket can have held.
const END_WAITS_AT_MOST: Duration = Duration::from_secs(1);
/// How many such messages wait.
const ENDS: usize = 8;

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
    /// What ends the session, and waits until what was sent before it behind PTP headers is handed over.
    ends: Vec<(Received, Option<Said>)>,
    /// When the first of them came, and the last.
    ends_since: (Time<Monotonic>, Time<Monotonic>),
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
        socket::hold(socket.as_fd(), RECEIVE_QUEUE).map_err(|answer| NetError::Socket {
            attempt: "enlarge the receive queue of the socket for PTP messages".into(),
            answer,
        })?;
        let stamper = TxStamper::from_token(FIRST_TOKEN, socket.as_fd(), wishes, true)?;
        Ok(Self {
            transport,
            mac,
            socket,
            stamper,
            data: Box::new([0; RECEIVE_BYTES]),
            control: Box::new(Aligned([0; ROOM])),
            ends: Vec::with_capacity(ENDS),
            ends_since: (monotonic_now(), monotonic_now()),
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

    /// What it carries.
    pub(super) const fn transport(&self) -> Transport {
        self.transport
    }

    /// How many of a look's datagrams may be plain ones: the others are read here.
    pub(super) const PLAIN: usize = BATCH / 2;

    /// Whether a message waits here: then nobody sleeps.
    pub(super) fn has_leftover(&self) -> bool {
        !self.ends.is_empty()
    }

    /// Adds what has come behind PTP headers to `batch`. What came plain in this look stands there from the place `from` on.
    ///
    /// FIN and FIN-ACK are plain, and come another way than the pings and pongs before them. Handed over first, they would end the
    /// session, and what has come would be lost. So they wait until nothing is left here. Else one datagram is taken: to look for
    /// another before this one is answered would be part of its round trip.
    ///
    /// What is not ours is passed over, and counted in `foreign`.
    ///
    /// # Errors
    /// What the kernel answered.
    pub(super) fn receive(&mut self, batch: &mut Batch, from: usize, foreign: &mut u64) -> io::Result<()> {
        if batch.len() > from {
            self.keep_ends(batch, from);
        }
        let ends = self.has_leftover();
        let mut emptied = false;
        // Reads are counted, so that a flood of foreign messages cannot keep the caller here.
        for _ in 0..BATCH {
            // There is always room for what is to be handed over.
            if batch.room() <= self.ends.len() {
                break;
            }
            match self.receive_one() {
                Ok(Some((received, said))) => {
                    batch.push(received, said);
                    if !ends {
                        return Ok(());
                    }
                }
                Ok(None) => {
                    *foreign += 1;
                    batch.pass_over();
                }
                Err(error) if is_empty(&error) => {
                    emptied = true;
                    break;
                }
                // A packet socket is told once that its link went down, and is there when that is up again (packet_notifier,
                // net/packet/af_packet.c).
                Err(error) if is_passing(&error) || error.raw_os_error() == Some(libc::ENETDOWN) => batch.pass_over(),
                Err(error) => return Err(with_attempt(error, format_args!("receive PTP messages"))),
            }
        }
        if ends {
            self.hand_over_ends(batch, emptied);
        }
        Ok(())
    }

    /// Takes out what ends the session.
    fn keep_ends(&mut self, batch: &mut Batch, from: usize) {
        let before = self.ends.len();
        let Self { ends, .. } = self;
        batch.retain_from(from, |received, said| {
            let ends_it = matches!(received.message.kind, Kind::Fin | Kind::FinAck);
            // Where so many wait they are strangers' or repetitions, and will be sent again.
            if ends_it && ends.len() < ENDS {
                ends.push((*received, said.copied()));
            }
            !ends_it
        });
        if self.ends.len() > before {
            let now = monotonic_now();
            self.ends_since = (if before == 0 { now } else { self.ends_since.0 }, now);
        }
    }

    /// Puts it back, where it has waited enough.
    fn hand_over_ends(&mut self, batch: &mut Batch, emptied: bool) {
        let now = monotonic_now();
        let (first, last) = self.ends_since;
        let due = (emptied && now.duration_since(last) >= END_WAITS) || now.duration_since(first) >= END_WAITS_AT_MOST;
        if due && batch.room() >= self.ends.len() {
            for (received, said) in self.ends.drain(..) {
                batch.push(received, said);
            }
        }
    }

    /// A datagram, if one has come: a ping or pong, or `None` where it is not ours.
    fn receive_one(&mut self) -> io::Result<Option<(Received, Option<Said>)>> {
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
        let Some((Probe { sender, shape, message, in_band }, ip_len)) = read else { return Ok(None) };
        let control::Stamps { software, hardware } = control::stamps(&self.control.0[..arrival.control_len]);
        let stamps = RxStamps { application, hook: None, software, hardware };
        let received = Received { from: sender, message, shape, ip_len, queue: None, way: None, stamps };
        Ok(Some((received, in_band.map(Said::InBand))))
    }

    /// Adds the transmit stamps that have come to `stamps`.
    ///
    /// # Errors
    /// As [`TxStamper::collect`].
    pub(super) fn collect(&mut self, stamps: &mut Vec<TxStamp>) -> io::Result<()> {
        self.stamper.collect(self.socket.as_fd(), stamps)
    }

    /// Adds what it has counted since it was opened to `counters`. What comes in and is not ours has been told where it was received.
    pub(super) fn add_to(&self, counters: &mut Counters) {
        counters.socket_dropped += socket::dropped(self.socket.as_fd());
        counters.strange_stamps += self.stamper.strange();
    }
}

impl AsFd for PtpPort {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.socket.as_fd()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::path::control::Request;

    /// To nobody, of PTP's EtherType.
    const FRAME: [u8; 60] = {
        let mut frame = [0; 60];
        (frame[12], frame[13]) = (0x88, 0xf7);
        frame
    };

    #[test]
    fn what_a_port_counts_is_added_and_a_stamp_that_nobody_asked_for_is_strange() {
        let if_index = nix::net::if_::if_nametoindex("lo").unwrap();
        let nic = Nic { interface: "lo", if_index, mac: MacAddr([0; 6]), address: Ipv4Addr::LOCALHOST };
        let wishes = StampWishes { software: true, hardware: false };
        let mut port = PtpPort::keep_or_open(None, Transport::L2, &nic, wishes).unwrap();
        // Past its stamper: of a key that it has not given out.
        let mut request = Request::new(libc::SOF_TIMESTAMPING_TX_SOFTWARE);
        socket::send(port.as_fd(), &FRAME, None, request.with_key(1000)).unwrap();
        let limit = monotonic_now().plus(Duration::from_secs(10));
        let before = Counters { strange_stamps: 3, socket_dropped: 4, tx_retries: 5, ..Counters::default() };
        let mut stamps = Vec::new();
        loop {
            port.collect(&mut stamps).unwrap();
            let mut counters = before;
            port.add_to(&mut counters);
            if counters != before {
                assert_eq!(counters, Counters { strange_stamps: 4, ..before });
                break;
            }
            assert!(monotonic_now() < limit, "loopback stamps");
        }
        assert_eq!(stamps, []);
    }
}
