//! The kernel path: the protocol over an ordinary UDP socket bound to the interface, as nanoprobe has it.
//!
//! The kernel builds the frames, finds the way and fragments what is larger than the MTU. Its stamps, and through it the
//! card's, come with `SO_TIMESTAMPING`: of what is received beside the datagram, of what is sent from the error queue.
#![forbid(unsafe_code)]

use super::control;
use super::ptp::{Nic, PtpPort};
use super::socket::{self, Arrival, CROWD_QUEUE, Inbox, PEER_QUEUE, RECEIVE_QUEUE, is_empty, is_passing, with_attempt};
use super::stamper::TxStamper;
use super::{
    BATCH, Batch, Counters, Description, InterfaceGone, Path, Received, RxStamps, SendError, Sent, StampWishes, Token,
    TxStamp,
};
use crate::clock::{Monotonic, Realtime, Time, monotonic_now, realtime_now};
use crate::net::{self, NetError, local_address, reserve_port};
use crate::session::{Body, MAX_BODY, Outgoing};
use crate::wire::frame::{Envelope, Flow, LinkHeader, MAX_FRAME_LEN, Template};
use crate::wire::in_band::{self, InBand};
use crate::wire::ptp::{self, HEAD_LEN, Shape, Transport};
use crate::wire::{
    DUMMY_SEQUENCE, Extension, HEADER_LEN, Kind, MAX_PADDING, Message, Parsed, Said, ServePath, UDP_IP_HEADERS,
};
use nix::errno::Errno;
use nix::poll::{PollFd, PollFlags, ppoll};
use nix::sys::time::TimeSpec;
use socket2::SockRef;
use std::io;
use std::net::{SocketAddrV4, UdpSocket};
use std::os::fd::{AsFd, BorrowedFd};
use std::time::Duration;

/// The largest payload that is ever sent, in bytes.
const MAX_PAYLOAD: usize = HEADER_LEN + MAX_PADDING as usize;
/// How long the kernel may go on saying that it has no room before sending fails.
const SEND_PATIENCE: Duration = Duration::from_secs(1);
/// How many errors about earlier datagrams one attempt to send may meet.
const PASSING: u32 = 8;
/// How long to wait before the kernel is asked again: of the queue that is full it may be that no event tells.
const SEND_PAUSE: Duration = Duration::from_micros(50);
/// How long the kernel may take to resolve a peer on the same link. A server's client was heard of a moment ago, and
/// whoever else asks must not keep the server from others for long.
const NEIGHBOUR_PATIENCE: Duration = Duration::from_secs(2);

/// What the kernel path is opened with.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct KernelConfig {
    /// The interface that the sockets are bound to.
    pub interface: String,
    /// The interface's address; the server's port, or 0 for a client: then the kernel chooses one.
    pub bind: SocketAddrV4,
    /// Microseconds for `SO_BUSY_POLL`; older kernels want `CAP_NET_ADMIN` for more than `net.core.busy_read`.
    pub busypoll_us: Option<u32>,
    /// Which stamps are wanted beside the process's own.
    pub stamps: StampWishes,
}

/// A UDP socket for the session and a second one for the dummies.
#[derive(Debug)]
pub struct KernelPath {
    socket: UdpSocket,
    dummies: UdpSocket,
    local: SocketAddrV4,
    /// What pings and pongs are sent from: only the header is written to, and a pong's stamps, which are taken out again; the
    /// rest stays zero.
    transmit: Box<[u8; MAX_PAYLOAD]>,
    inbox: Inbox,
    /// How many datagrams are taken out of the socket at once. One after nothing was there, as to look for another before
    /// this one is answered would be part of its round trip; twice as many after each look that brought as many as it could.
    appetite: usize,
    /// Where stamps are wanted.
    stamper: Option<TxStamper>,
    /// Also of what is sent.
    stamps_sent: bool,
    /// Where the socket stood when the path was made.
    dropped_before: u64,
    wishes: StampWishes,
    interface: String,
    /// `SO_BUSY_POLL` is set.
    polls_driver: bool,
    /// Where the session's pings and pongs travel behind PTP headers.
    ptp: Option<PtpWay>,
    /// How long it is waited where the kernel has no room to send.
    patience: Duration,
    counters: Counters,
}

/// The way of pings and pongs behind PTP headers.
#[derive(Debug)]
struct PtpWay {
    port: PtpPort,
    /// The Ethernet header of frames to the peer; `None` over UDP, where the kernel builds it.
    link: Option<LinkHeader>,
    /// What is sent: a frame, or behind the Sync header a pong's stamps, which are taken out again, and zeros.
    data: Box<[u8; MAX_FRAME_LEN]>,
}

impl KernelPath {
    /// Opens the sockets. Needs no privilege except for a port below 1024 and for busy polling.
    ///
    /// # Errors
    /// What [`reserve_port`] says, or [`NetError::Socket`].
    pub fn open(config: KernelConfig) -> Result<Self, NetError> {
        let KernelConfig { interface, bind, busypoll_us, stamps } = config;
        let socket = reserve_port(&interface, *bind.ip(), bind.port())?;
        let dummies = reserve_port(&interface, *bind.ip(), 0)?;
        let mut path = Self::over(socket, dummies, Wiring { interface, busypoll_us, stamps, stamps_sent: true })?;
        let stamper = stamps.any().then(|| TxStamper::new(path.socket.as_fd(), stamps, true));
        path.stamper = stamper.transpose()?;
        Ok(path)
    }

    /// The path over sockets that are open and bound already, the session's and that of the dummies. Nothing is stamped until it
    /// is given a stamper.
    ///
    /// # Errors
    /// [`NetError::Socket`].
    pub(super) fn over(socket: UdpSocket, dummies: UdpSocket, wiring: Wiring) -> Result<Self, NetError> {
        let Wiring { interface, busypoll_us, stamps, stamps_sent } = wiring;
        let failed = |attempt: String| move |answer| NetError::Socket { attempt, answer };
        socket::hold(socket.as_fd(), RECEIVE_QUEUE)
            .map_err(failed("enlarge the receive queue of the UDP socket".to_owned()))?;
        if let Some(micros) = busypoll_us {
            SockRef::from(&socket).set_busy_poll(micros).map_err(failed(format!(
                "set SO_BUSY_POLL to {micros} µs (on older kernels this needs CAP_NET_ADMIN: run as root, or \
                 leave --busypoll out)"
            )))?;
        }
        let local = local_address(&socket)?;
        for socket in [&socket, &dummies] {
            socket::let_wait(socket.as_fd(), PEER_QUEUE);
            // Without it the kernel says of a datagram that the interface's queue dropped that it was sent (ip(7);
            // udp_send_skb, net/ipv4/udp.c): a ping would count as sent, and as lost on the way. With it ICMP errors of
            // earlier datagrams are told, too; see `is_passing`.
            socket::set_option(socket.as_fd(), libc::IPPROTO_IP, libc::IP_RECVERR, 1)
                .map_err(failed("be told of datagrams that the interface's queue drops (IP_RECVERR)".to_owned()))?;
        }
        Ok(Self {
            stamps_sent,
            dropped_before: socket::dropped(socket.as_fd()),
            socket,
            dummies,
            local,
            transmit: Box::new([0; MAX_PAYLOAD]),
            polls_driver: busypoll_us.is_some(),
            inbox: Inbox::new(),
            appetite: 1,
            stamper: None,
            wishes: stamps,
            interface,
            ptp: None,
            patience: SEND_PATIENCE,
            counters: Counters::default(),
        })
    }

    /// Is for many peers from now on, of which none is to wait for another: what the kernel has no room for is dropped at once, and
    /// counted, and there is room for what waits for many that have vanished.
    pub fn share(&mut self) {
        self.patience = Duration::ZERO;
        for socket in [&self.socket, &self.dummies] {
            socket::let_wait(socket.as_fd(), CROWD_QUEUE);
        }
    }

    /// The address and port of this side: with the port that the kernel chose, where it was to choose.
    pub fn local_addr(&self) -> SocketAddrV4 {
        self.local
    }

    /// What [`Path::wait`] waits for: the session's socket, and that of PTP messages.
    pub(super) fn descriptors(&self) -> impl Iterator<Item = BorrowedFd<'_>> {
        [self.socket.as_fd()].into_iter().chain(self.ptp.as_ref().map(|way| way.port.as_fd()))
    }

    /// Adds what has come in to `batch`: as many datagrams as it has an appetite for, which begins with one.
    ///
    /// # Errors
    /// As [`Path::receive`].
    pub(super) fn receive_some(&mut self, batch: &mut Batch) -> io::Result<()> {
        let from = batch.len();
        let most = match &self.ptp {
            None => batch.room(),
            Some(_) => PtpPort::PLAIN.saturating_sub(from),
        };
        self.receive_plain(batch, most)?;
        match &mut self.ptp {
            Some(way) => way.port.receive(batch, from, &mut self.counters.not_protocol),
            None => Ok(()),
        }
    }

    /// Adds up to `room` of what has come into the session's own socket.
    fn receive_plain(&mut self, batch: &mut Batch, room: usize) -> io::Result<()> {
        // Reads are counted, so that a flood of foreign datagrams cannot keep the caller here.
        for _ in 0..BATCH {
            let most = self.appetite.min(room);
            if most == 0 {
                return Ok(());
            }
            let count = match self.inbox.receive(self.socket.as_fd(), most) {
                Ok(count) => count,
                Err(error) if is_empty(&error) => {
                    self.appetite = 1;
                    return Ok(());
                }
                Err(error) if is_passing(&error) => {
                    self.forget_errors();
                    batch.pass_over();
                    continue;
                }
                Err(error) => return Err(with_attempt(error, format_args!("receive on {}", self.local))),
            };
            if count == most {
                self.appetite = (2 * most).min(BATCH);
            }
            let application = realtime_now();
            let before = batch.len();
            for (arrival, data, control) in self.inbox.arrivals() {
                match read(arrival, data, control, application) {
                    Some((received, said)) => batch.push(received, said),
                    None => {
                        self.counters.not_protocol += 1;
                        batch.pass_over();
                    }
                }
            }
            if batch.len() != before {
                return Ok(());
            }
        }
        Ok(())
    }

    /// Whether something can be received at once.
    pub(super) fn has_leftover(&self) -> bool {
        self.ptp.as_ref().is_some_and(|way| way.port.has_leftover())
    }

    /// What stamps for it: that of its socket.
    pub(super) fn set_stamper(&mut self, stamper: Option<TxStamper>) {
        self.stamper = stamper;
    }

    /// The stamper again, to outlive the path. What it has counted is the path's.
    pub(super) fn take_stamper(&mut self) -> Option<TxStamper> {
        let mut stamper = self.stamper.take()?;
        self.counters.strange_stamps += stamper.take_strange();
        Some(stamper)
    }

    /// Datagrams that the session's own socket had no room for.
    pub(super) fn dropped(&self) -> u64 {
        // The kernel counts in 32 bits.
        let dropped = socket::dropped(self.socket.as_fd()) as u32;
        dropped.wrapping_sub(self.dropped_before as u32).into()
    }

    /// The session's pings and pongs travel behind PTP headers no more.
    fn close_ptp(&mut self) {
        if let Some(way) = self.ptp.take() {
            way.port.add_to(&mut self.counters);
        }
    }

    /// Takes what the kernel says of datagrams sent, such as that nobody listens there, out of the error queue, which is
    /// readable as long as it holds any. Where transmit stamps come from there, whoever collects these passes over it.
    #[cold]
    pub(super) fn forget_errors(&mut self) {
        forget_errors(&self.dummies);
        if self.stamper.is_none() || !self.stamps_sent {
            forget_errors(&self.socket);
        }
    }

    /// Adds the transmit stamps that have come to `stamps`.
    ///
    /// # Errors
    /// As [`Path::collect`].
    pub(super) fn add_stamps(&mut self, stamps: &mut Vec<TxStamp>) -> io::Result<()> {
        match &mut self.stamper {
            Some(stamper) => stamper.collect(self.socket.as_fd(), stamps)?,
            None => return Ok(()),
        }
        match &mut self.ptp {
            Some(way) => way.port.collect(stamps),
            None => Ok(()),
        }
    }
}

/// How a path over sockets of others is to be.
#[derive(Debug)]
pub(super) struct Wiring {
    /// The interface that they are bound to.
    pub(super) interface: String,
    /// As [`KernelConfig::busypoll_us`].
    pub(super) busypoll_us: Option<u32>,
    /// As [`KernelConfig::stamps`].
    pub(super) stamps: StampWishes,
    /// They are wanted of what is sent, too.
    pub(super) stamps_sent: bool,
}

/// Sends a ping or pong behind a PTP header.
fn send_ptp(way: &mut PtpWay, local: SocketAddrV4, outgoing: &Outgoing, counters: &mut Counters) -> io::Result<Sent> {
    let PtpWay { port, link, data } = way;
    let &Outgoing { to, message, shape, .. } = outgoing;
    let stamped = shape == Shape::Stamped;
    let len = match link {
        None => {
            data[..HEAD_LEN].copy_from_slice(&ptp::head(local, stamped, message));
            let payload = &mut data[..usize::from(outgoing.payload_len())];
            let send = |payload: &[u8]| port.send(payload, *to.ip(), stamped);
            return send_payload(payload, HEAD_LEN, &outgoing.body, to, (counters, SEND_PATIENCE), send);
        }
        Some(link) => {
            let flow = Flow { link: *link, source: local, destination: to };
            let envelope = Envelope::new(shape, Transport::L2);
            let padding = outgoing.payload_len() - HEADER_LEN as u16;
            let template = Template::in_envelope(&flow, message.kind, envelope);
            let len = template.write(&mut data[..], message.sequence, padding);
            if let Body::InBand { told, .. } = &outgoing.body {
                template.put_in_band(&mut data[..], message.sequence, padding, told);
                return insist(to, Over::Packet, (counters, SEND_PATIENCE), |application| {
                    template.put_t2(&mut data[..len], application.as_nanos());
                    port.send(&data[..len], *to.ip(), stamped)
                });
            }
            len
        }
    };
    insist(to, Over::Packet, (counters, SEND_PATIENCE), |_| port.send(&data[..len], *to.ip(), stamped))
}

impl Path for KernelPath {
    fn prepare(&mut self, peer: SocketAddrV4, wanted: Extension) -> Result<Extension, NetError> {
        if wanted.serve_on == Some(ServePath::Xdp) {
            return Err(NetError::NoXdpPath);
        }
        let granted = Extension { ptp: wanted.ptp, serve_on: wanted.serve_on, ..Extension::default() };
        if self.ptp.as_ref().is_some_and(|way| Some(way.port.transport()) != wanted.ptp) {
            self.close_ptp();
        }
        let Some(transport) = wanted.ptp else { return Ok(granted) };
        let nic = net::interface(&self.interface)?;
        let link = match transport {
            Transport::Udp => None,
            Transport::L2 => {
                let route = net::route(&nic, *peer.ip())?;
                if route.next_hop != *peer.ip() {
                    return Err(NetError::OtherLink { peer: *peer.ip(), next_hop: route.next_hop });
                }
                let mac = net::resolve_neighbour(&nic, route.next_hop, NEIGHBOUR_PATIENCE)?;
                Some(LinkHeader::new(mac, nic.mac))
            }
        };
        let nic = Nic { interface: &nic.name, if_index: nic.index, mac: nic.mac, address: *self.local.ip() };
        let port = PtpPort::keep_or_open(self.ptp.take().map(|way| way.port), transport, &nic, self.wishes)?;
        self.ptp = Some(PtpWay { port, link, data: Box::new([0; MAX_FRAME_LEN]) });
        Ok(granted)
    }

    fn release(&mut self) {
        self.close_ptp();
    }

    fn send(&mut self, outgoing: &Outgoing) -> io::Result<Sent> {
        if outgoing.shape != Shape::Plain
            && let Some(way) = &mut self.ptp
        {
            return send_ptp(way, self.local, outgoing, &mut self.counters);
        }
        let payload_len = usize::from(outgoing.payload_len());
        let header = outgoing.message.to_bytes();
        if let Some(said) = outgoing.body.write(&mut [0; MAX_BODY]) {
            let mut control = [0; HEADER_LEN + MAX_BODY];
            control[..HEADER_LEN].copy_from_slice(&header);
            control[HEADER_LEN..payload_len].copy_from_slice(said);
            let payload = &control[..payload_len];
            return insist(outgoing.to, Over::Udp, (&mut self.counters, self.patience), |_| {
                send_once(&self.socket, payload, outgoing.to, None)
            });
        }
        self.transmit[..HEADER_LEN].copy_from_slice(&header);
        let Some(payload) = self.transmit.get_mut(..payload_len) else {
            return Err(protocol_ends(payload_len, outgoing.to));
        };
        // Control messages make no row: the stamp registers of a card are few, and theirs would be taken from pings.
        let mut stamper = self.stamper.as_mut().filter(|_| self.stamps_sent && outgoing.point.is_some());
        let Self { socket, counters, patience, .. } = self;
        let send = |payload: &[u8]| send_once(socket, payload, outgoing.to, stamper.as_deref_mut());
        send_payload(payload, HEADER_LEN, &outgoing.body, outgoing.to, (counters, *patience), send)
    }

    fn send_dummy(&mut self, to: SocketAddrV4) -> io::Result<()> {
        let dummy = Message { kind: Kind::Dummy, sequence: DUMMY_SEQUENCE }.to_bytes();
        let counters = (&mut self.counters, self.patience);
        insist(to, Over::Udp, counters, |_| send_once(&self.dummies, &dummy, to, None)).map(drop)
    }

    fn send_load(&mut self, to: SocketAddrV4, count: u32, ip_len: u16) -> io::Result<u32> {
        let header = Message { kind: Kind::Dummy, sequence: DUMMY_SEQUENCE }.to_bytes();
        self.transmit[..HEADER_LEN].copy_from_slice(&header);
        let len = usize::from(ip_len.saturating_sub(UDP_IP_HEADERS));
        let Some(payload) = self.transmit.get(..len.max(HEADER_LEN)) else {
            return Err(protocol_ends(len, to));
        };
        let (mut sent, mut passed) = (0, 0);
        while sent < count {
            match socket::send(self.dummies.as_fd(), payload, Some(to), &[]) {
                Ok(()) => sent += 1,
                Err(error) if is_busy(&error) => {
                    self.counters.tx_ring_full += 1;
                    break;
                }
                // An ICMP error of an earlier one: whether the server is there is seen by its silence.
                Err(error) if is_passing(&error) && passed < PASSING => {
                    passed += 1;
                    forget_errors(&self.dummies);
                }
                // What has left counts as sent: it is met again at the next call.
                Err(_) if sent > 0 => break,
                Err(error) => return Err(cannot_send(error, to)),
            }
        }
        Ok(sent)
    }

    fn flush(&mut self) -> io::Result<bool> {
        Ok(false)
    }

    fn receive(&mut self, batch: &mut Batch) -> io::Result<()> {
        batch.clear();
        self.receive_some(batch)
    }

    fn collect(&mut self, stamps: &mut Vec<TxStamp>) -> io::Result<()> {
        stamps.clear();
        self.add_stamps(stamps)
    }

    fn polls_driver(&self) -> bool {
        self.polls_driver
    }

    fn late_stamps(&self) -> StampWishes {
        self.wishes
    }

    fn wait(&mut self, deadline: Option<Time<Monotonic>>, interrupt: BorrowedFd<'_>) -> io::Result<()> {
        if self.has_leftover() {
            return Ok(());
        }
        let pollfd = |fd| PollFd::new(fd, PollFlags::POLLIN);
        let ptp = self.ptp.as_ref().map(|way| way.port.as_fd());
        let mut ready = [self.socket.as_fd(), interrupt, ptp.unwrap_or(interrupt)].map(pollfd);
        let limit = deadline.map(|deadline| TimeSpec::from_duration(deadline.duration_since(monotonic_now())));
        match ppoll(&mut ready, limit, None) {
            Ok(_) => {
                // What a send has met is still in the queue, and would wake every wait from now on.
                if ready[0].revents().is_some_and(|events| events.contains(PollFlags::POLLERR)) {
                    self.forget_errors();
                }
                Ok(())
            }
            Err(Errno::EINTR) => Ok(()),
            Err(errno) => Err(with_attempt(errno.into(), format_args!("wait for datagrams on {}", self.local))),
        }
    }

    fn check_interface(&self) -> Result<(), InterfaceGone> {
        match socket::has_interface(self.socket.as_fd()) {
            true => Ok(()),
            false => Err(InterfaceGone { interface: self.interface.clone() }),
        }
    }

    fn description(&self) -> Description {
        Description {
            path: "kernel",
            xdp_mode: None,
            zero_copy: None,
            queues: Vec::new(),
            local: self.local,
            hook_stamps_one_in: None,
        }
    }

    fn counters(&self) -> Counters {
        let mut counters = self.counters;
        counters.strange_stamps += self.stamper.as_ref().map_or(0, TxStamper::strange);
        counters.socket_dropped += self.dropped();
        if let Some(way) = &self.ptp {
            way.port.add_to(&mut counters);
        }
        counters
    }
}

#[cold]
fn protocol_ends(payload_len: usize, to: SocketAddrV4) -> io::Error {
    let message = format!("cannot send {payload_len} bytes to {to}: the protocol ends at {MAX_PAYLOAD}");
    io::Error::new(io::ErrorKind::InvalidInput, message)
}

/// Sends one datagram, where there is a stamper with a stamp to come.
#[inline]
fn send_once(
    socket: &UdpSocket,
    payload: &[u8],
    to: SocketAddrV4,
    stamper: Option<&mut TxStamper>,
) -> io::Result<Option<Token>> {
    match stamper {
        Some(stamper) => stamper.send(socket.as_fd(), payload, Some(to)).map(Some),
        None => socket::send(socket.as_fd(), payload, Some(to), &[]).map(|()| None),
    }
}

/// Sends a ping or pong, in `payload` with zeros from `at` on. A pong's stamps take the place of the first of them, t2 with each
/// attempt; afterwards the zeros are there again.
#[inline]
fn send_payload(
    payload: &mut [u8],
    at: usize,
    body: &Body,
    to: SocketAddrV4,
    (counters, patience): (&mut Counters, Duration),
    mut send: impl FnMut(&[u8]) -> io::Result<Option<Token>>,
) -> io::Result<Sent> {
    let Body::InBand { told, .. } = body else {
        return insist(to, Over::Udp, (counters, patience), |_| send(payload));
    };
    let Some(stamps) = payload[at..].first_chunk_mut() else { return Err(no_room(told, to)) };
    *stamps = told.to_bytes();
    let sent = insist(to, Over::Udp, (counters, patience), |application| {
        if let Some(stamps) = payload[at..].first_chunk_mut() {
            in_band::put_t2(stamps, application.as_nanos());
        }
        send(payload)
    });
    payload[at..at + in_band::LEN].fill(0);
    sent
}

/// What a datagram is sent through.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Over {
    /// ENOBUFS: the datagram was built, and a queue or a filter of the interface dropped it.
    Udp,
    /// ENOBUFS: the card's ring has no room at present.
    Packet,
}

/// Settings do not allow it.
#[cold]
fn no_room(told: &InBand, to: SocketAddrV4) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidInput, format!("cannot send {told:?} to {to}: the pong is too small"))
}

/// Makes a call that sends until it gets through, with so much patience. It is given the time just before it, which is
/// that of what was sent once it succeeds. What the interface's queue drops counts as sent, and as dropped, as on the xdp path; so does
/// what there is no room for where there is no patience at all.
#[inline]
fn insist(
    to: SocketAddrV4,
    over: Over,
    (counters, patience): (&mut Counters, Duration),
    mut send: impl FnMut(Time<Realtime>) -> io::Result<Option<Token>>,
) -> io::Result<Sent> {
    let mut since: Option<Time<Monotonic>> = None;
    let mut passed = 0;
    loop {
        let application = realtime_now();
        let error = match send(application) {
            Ok(token) => return Ok(Sent { application, queue: None, token }),
            Err(error) => error,
        };
        let hopeless = patience.is_zero() && is_busy(&error);
        if over == Over::Udp && (error.raw_os_error() == Some(libc::ENOBUFS) || hopeless) {
            counters.tx_dropped += 1;
            return Ok(Sent { application, queue: None, token: None });
        }
        // An earlier datagram's fate, which may have been another peer's, or a signal: this one has not been tried. What comes again
        // and again is its own.
        if is_passing(&error) && passed < PASSING {
            passed += 1;
            continue;
        }
        let now = monotonic_now();
        let waited = now.duration_since(*since.get_or_insert(now));
        if !is_busy(&error) || waited >= patience {
            return Err(cannot_send(error, to));
        }
        counters.tx_retries += 1;
        std::thread::sleep(SEND_PAUSE);
    }
}

/// A datagram out of the socket, where it is of the protocol.
#[inline]
fn read(
    arrival: &Arrival,
    data: &[u8],
    control: &[u8],
    application: Time<Realtime>,
) -> Option<(Received, Option<Said>)> {
    // Nobody can be answered at port 0 (RFC 768: it wants no reply).
    let from = arrival.from.filter(|from| from.port() != 0)?;
    let Parsed { message, said } = Message::parse(data).ok()?;
    let ip_len = u16::try_from(arrival.len).unwrap_or(u16::MAX).saturating_add(UDP_IP_HEADERS);
    let control::Stamps { software, hardware } = control::stamps(control);
    let stamps = RxStamps { application, hook: None, software, hardware };
    Some((Received { from, message, shape: Shape::Plain, ip_len, queue: None, way: None, stamps }, said))
}

/// Reads the error queue of a socket until it is empty.
#[cold]
fn forget_errors(socket: &UdpSocket) {
    // Bounded, as more may come meanwhile: those are told of once more.
    for _ in 0..1024 {
        // Neither data nor address nor control messages are wanted.
        if socket::receive(socket.as_fd(), &mut [], &mut [], libc::MSG_ERRQUEUE).is_err_and(|error| is_empty(&error)) {
            break;
        }
    }
}

/// There is no room at present.
fn is_busy(error: &io::Error) -> bool {
    error.kind() == io::ErrorKind::WouldBlock || matches!(error.raw_os_error(), Some(libc::ENOBUFS | libc::EBUSY))
}

#[cold]
fn cannot_send(error: io::Error, to: SocketAddrV4) -> io::Error {
    let advice = match error.raw_os_error() {
        Some(libc::ENETUNREACH | libc::EHOSTUNREACH | libc::ENETDOWN | libc::ENODEV) => {
            ": check that the interface is up and has a route to it (ip route get shows the kernel's choice)"
        }
        Some(libc::EPERM | libc::EACCES) => ": a firewall rule or a broadcast address forbids it",
        Some(libc::EINVAL) => ": check that the address is one that the interface can reach",
        Some(libc::EAGAIN | libc::ENOBUFS | libc::EBUSY) => ": the kernel has had no room to send for a second",
        _ => "",
    };
    let answer = error.raw_os_error();
    io::Error::new(error.kind(), SendError { answer, text: format!("cannot send to {to}: {error}{advice}") })
}
