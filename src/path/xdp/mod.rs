//! AF_XDP: Ethernet frames of our own, through sockets behind a steering XDP program.
//!
//! What the kernel would do for a UDP socket is done here with frames: headers, checksums, the way back to a peer. What
//! only the kernel knows (route, neighbour, carrier) is brought by the caller. Fragments are not sent, and not received:
//! the program leaves them to the kernel. A session whose client asks for it is served by the kernel's UDP all the same
//! (`aside`).
#![allow(unsafe_code, reason = "rings shared with the kernel, its system calls, and libbpf's C interface")]

mod ahead;
mod aside;
mod bind;
mod layout;
mod peers;
mod program;
mod queue;
mod trial;

pub use program::{AttachedMode, AttachedProgram, DryRun, Link, Program, attached_program};
pub use queue::{Frames, locked_memory};
pub use trial::{Reason, Refusal, trial_load};

use super::companion::Companion;
use super::kernel::KernelPath;
use super::ptp::{Nic, PtpPort};
use super::{
    BATCH, Batch, Counters, Description, InterfaceGone, Path, Received, RxStamps, Sent, StampWishes, TxStamp,
    XdpCounters,
};
use crate::clock::{Monotonic, Realtime, Time, monotonic_now, realtime_now};
use crate::net::NetError;
use crate::session::{Body, MAX_BODY, Outgoing};
use crate::wire::frame::{LinkHeader, MAX_FRAME_LEN, MacAddr, PtpFrame, parse, parse_ptp, write_control};
use crate::wire::ptp::{self, Probe, Shape};
use crate::wire::{DUMMY_SEQUENCE, Extension, Kind, MIN_IP_LEN, Message, Parsed, Said, ServePath};
use anyhow::{Context, bail};
use aside::{Needs, Reserved};
use layout::Meta;
use nix::errno::Errno;
use nix::net::if_::if_indextoname;
use peers::{Content, Peers};
use queue::{PATIENCE, Queue};
use std::io;
use std::net::{Ipv4Addr, SocketAddrV4, UdpSocket};
use std::os::fd::{AsFd, AsRawFd, BorrowedFd};
use std::time::Duration;

/// How long frames may be on their way when a session is over before they are missing.
const AUDIT_PATIENCE: Duration = Duration::from_millis(20);
/// Between two looks for them.
const AUDIT_PAUSE: Duration = Duration::from_micros(50);

/// Where the XDP program is to run.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum XdpMode {
    /// In the driver where it can, else in the kernel.
    #[default]
    Auto,
    /// In the driver.
    Native,
    /// In the kernel.
    Generic,
}

/// Whether the driver is to move frames without copying.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum ZeroCopy {
    /// Where it can.
    #[default]
    Auto,
    /// It must.
    On,
    /// It must not.
    Off,
}

/// Of which frames the XDP program notes the time.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum HookStamps {
    /// Of each: rows, or the log of stages, are made of them.
    Each,
    /// Of one in [`HookStamps::SAMPLED`]: they are for statistics of a stage only. What it takes, some 0.1 µs on the test
    /// machine, is in the round trip of the ping.
    Sampled,
}

impl HookStamps {
    /// How many frames a sample is of, on average: which they are is chance, as a schedule's sizes, or a ping and its dummies, come in turn.
    pub const SAMPLED: u32 = 17;

    const fn one_in(self) -> u32 {
        match self {
            Self::Each => 1,
            Self::Sampled => Self::SAMPLED,
        }
    }
}

/// What an [`XdpPath`] is opened with.
#[derive(Debug, Clone)]
pub struct XdpConfig {
    /// The interface's name.
    pub interface: String,
    /// Its index.
    pub if_index: u32,
    /// Its MTU in bytes: the largest IP packet that is sent.
    pub mtu: u32,
    /// Its Ethernet address: frames to any other, broadcast and multicast included, are left to the kernel.
    pub mac: MacAddr,
    /// The address and port of this side.
    pub local: SocketAddrV4,
    /// The port that dummies are sent from.
    pub dummy_port: u16,
    /// Where the program is to run.
    pub mode: XdpMode,
    /// Whether the driver is to move frames without copying.
    pub zero_copy: ZeroCopy,
    /// The receive queues that get a socket, each once. To a peer that nothing came from yet, the first one sends.
    pub queues: Vec<u32>,
    /// Microseconds for `SO_BUSY_POLL`; `None` leaves busy polling off.
    pub busypoll_us: Option<u32>,
    /// A peer that is known before anything came from it, with the Ethernet header of frames to it: a client's server.
    pub peer: Option<(SocketAddrV4, LinkHeader)>,
    /// Addresses that no packet may come from, beside those that are no host's anywhere ([`crate::net::martian_sources`]): what comes from
    /// there is dropped, as the kernel drops it.
    pub martians: Vec<Ipv4Addr>,
    /// Which stamps are wanted beside the process's own and that of the XDP hook.
    pub stamps: StampWishes,
    /// What makes a row of the log leaves through a packet socket, which brings transmit stamps back; else through AF_XDP,
    /// which brings none.
    pub companion: bool,
    /// The driver is asked for the card's receive stamp of every frame: native mode only. Each frame has the hook's then.
    pub card_stamps: bool,
    /// Of which frames the hook's stamp is wanted.
    pub hook_stamps: HookStamps,
}

/// The AF_XDP path: opened, it receives; dropped, it leaves the machine as it was.
#[derive(Debug)]
pub struct XdpPath {
    peers: Peers,
    mtu: u32,
    /// The place of the queue that brought something last: it is looked at first.
    last: usize,
    not_protocol: u64,
    tx_ring_full: u64,
    tx_retries: u64,
    /// Frames that stayed in TX rings as sending failed, and what sockets that were closed have counted as dropped.
    tx_dropped: u64,
    /// What the kernel had counted of sockets that were closed.
    closed: XdpCounters,
    /// Frames that were nowhere when it was last looked.
    frames_missing: u64,
    poll: Vec<libc::pollfd>,
    description: Description,
    companion: Option<Outlet>,
    wishes: StampWishes,
    card_stamps: bool,
    /// Where what the program leaves to the kernel, for it to be stamped, comes in behind PTP headers.
    ptp: Option<PtpPort>,
    /// What such ports have counted, those that are closed.
    ptp_counted: Counters,
    place: Place,
    busypoll_us: Option<u32>,
    // In this order they are dropped: the sockets are closed, the program is detached, the port is free again.
    queues: Vec<Queue>,
    link: Link,
    program: Program,
    reserved: Reserved,
}

/// The interface.
#[derive(Debug)]
struct Place {
    interface: String,
    if_index: u32,
    mac: MacAddr,
}

/// The companion with the frame that it sends next.
#[derive(Debug)]
struct Outlet {
    companion: Companion,
    frame: Box<[u8; MAX_FRAME_LEN]>,
    content: Content,
}

impl XdpPath {
    /// Loads and attaches the program, opens the sockets and lets packets in.
    ///
    /// `reserved` is an ordinary socket that is bound to the local port: it keeps the port from others, and gets the
    /// datagrams that the program leaves to the kernel.
    ///
    /// # Errors
    /// What was attempted, what the kernel answered, and what can be done. Nothing is left behind.
    pub fn open(config: XdpConfig, reserved: UdpSocket) -> anyhow::Result<Self> {
        let XdpConfig {
            interface,
            if_index,
            mtu,
            mac,
            local,
            dummy_port,
            mode,
            zero_copy,
            queues,
            busypoll_us,
            peer,
            martians,
            ..
        } = config;
        let Some(highest) = queues.iter().max() else {
            bail!("cannot open AF_XDP sockets on {interface}: no receive queue is chosen");
        };
        let reserved = Reserved::new(reserved).context("cannot set up the socket that holds the local port")?;

        // Only a program that is bound to the device can ask its driver for the card's stamps.
        let device = config.card_stamps.then_some(if_index);
        let program = Program::load(local, mac, highest.saturating_add(1), device, config.hook_stamps)?;
        let mode = match (config.card_stamps, mode) {
            (true, XdpMode::Generic) => bail!(
                "cannot ask the driver of {interface} for hardware receive stamps in generic mode: leave --xdp-mode generic \
                 out, or use --timestamps software"
            ),
            (true, _) => XdpMode::Native,
            (false, mode) => mode,
        };
        let link = program.attach(&interface, if_index, mode)?;
        // Behind a program in generic mode there is nothing but copying.
        let zero_copy = match (link.mode(), zero_copy) {
            (AttachedMode::Generic, ZeroCopy::On) => {
                bail!(
                    "cannot have zero-copy on {interface}: the XDP program runs in generic mode there: use --zero-copy off"
                )
            }
            (AttachedMode::Generic, _) => ZeroCopy::Off,
            (AttachedMode::Native, wish) => wish,
        };
        let sockets = queue::open_all(&interface, &queues, mtu, zero_copy, busypoll_us)?;
        for socket in &sockets {
            program.connect(socket.id(), socket.fd())?;
        }
        // After the sockets, as some drivers reset the card when one is bound.
        let companion = match config.companion {
            true => Some(Companion::open(&interface, if_index, config.stamps)?),
            false => None,
        };
        let description = Description {
            path: "xdp",
            xdp_mode: Some(link.mode().as_str()),
            zero_copy: Some(sockets.iter().all(Queue::is_zero_copy)),
            queues,
            local,
            hook_stamps_one_in: (config.hook_stamps != HookStamps::Each).then(|| config.hook_stamps.one_in()),
        };
        Ok(Self {
            peers: Peers::new(local, dummy_port, peer).without(martians),
            mtu,
            last: 0,
            not_protocol: 0,
            tx_ring_full: 0,
            tx_retries: 0,
            tx_dropped: 0,
            closed: XdpCounters::default(),
            frames_missing: 0,
            // The signals, the companion, a PTP port, and the two sockets of a session that the kernel serves.
            poll: Vec::with_capacity(sockets.len() + 5),
            description,
            companion: companion.map(|companion| Outlet {
                companion,
                frame: Box::new([0; MAX_FRAME_LEN]),
                content: Content::NONE,
            }),
            wishes: config.stamps,
            card_stamps: config.card_stamps,
            ptp: None,
            ptp_counted: Counters::default(),
            place: Place { interface, if_index, mac },
            busypoll_us,
            queues: sockets,
            link,
            program,
            reserved,
        })
    }

    /// The program, with this path's sockets in its map.
    pub const fn program(&self) -> &Program {
        &self.program
    }

    /// The mode that the program is attached in.
    pub const fn mode(&self) -> AttachedMode {
        self.link.mode()
    }

    /// Where the frames of each queue are, in the order of the queues.
    pub fn frames(&mut self) -> Vec<Frames> {
        self.queues.iter_mut().map(Queue::frames).collect()
    }

    #[cold]
    fn unknown_way(to: SocketAddrV4) -> io::Error {
        io::Error::new(io::ErrorKind::HostUnreachable, format!("cannot send to {to}: nothing ever came from it"))
    }

    #[cold]
    fn too_large(&self, outgoing: &Outgoing) -> io::Error {
        let message = format!(
            "cannot send a packet of {} bytes: the MTU is {} bytes, and the xdp path does not fragment: use --path kernel",
            outgoing.ip_len(),
            self.mtu
        );
        io::Error::new(io::ErrorKind::InvalidInput, message)
    }

    /// Has so many clients with a session at once remembered, with the way to each. Not for the hot loop.
    pub fn make_room(&mut self, clients: usize) {
        self.peers.make_room(clients);
    }

    /// A message that says something behind its header: there is no template for it.
    #[cold]
    fn send_control(&mut self, outgoing: &Outgoing) -> io::Result<Sent> {
        let mut body = [0; MAX_BODY];
        let said = outgoing.body.write(&mut body).unwrap_or_default();
        let (at, flow) =
            self.peers.way(outgoing.to, outgoing.message.kind).ok_or_else(|| Self::unknown_way(outgoing.to))?;
        let queue = &mut self.queues[at];
        let blank = blank(queue, &mut self.tx_ring_full, &mut self.tx_retries)?;
        let (frame, content) = queue.contents(&blank);
        *content = Content::NONE;
        let len = write_control(&flow, outgoing.message, said, frame);
        let application = realtime_now();
        self.tx_ring_full += u64::from(queue.submit(blank, len)?);
        Ok(Sent { application, queue: Some(queue.id()), token: None })
    }

    /// Adds what the kernel has counted of the sockets.
    fn add_statistics(&self, xdp: &mut XdpCounters) {
        for statistics in self.queues.iter().filter_map(|queue| queue.statistics().ok()) {
            xdp.rx_dropped += statistics.rx_dropped();
            xdp.rx_ring_full += statistics.rx_ring_full();
            xdp.rx_fill_ring_empty += statistics.rx_fill_ring_empty_descs();
            xdp.rx_invalid += statistics.rx_invalid_descs();
            xdp.tx_invalid += statistics.tx_invalid_descs();
        }
    }

    /// The session's pings and pongs travel behind PTP headers no more.
    fn close_ptp(&mut self) {
        if let Some(port) = self.ptp.take() {
            port.add_to(&mut self.ptp_counted);
        }
    }

    /// The session that the reserved socket carries, if any, is over.
    fn end_aside(&mut self) {
        self.reserved.end(&self.program);
        let Self { reserved, peers, .. } = self;
        reserved.keep_leftover(|from| peers.knows(from));
    }

    /// Adds what lies in the rings to `batch`, until there are `most` in it.
    #[inline]
    fn receive_rings(&mut self, batch: &mut Batch, most: usize) -> io::Result<()> {
        let Self { peers, not_protocol, queues, last, .. } = self;
        let first = *last;
        for turn in 0..queues.len() {
            let at = (first + turn) % queues.len();
            let queue = &mut queues[at];
            queue.recycle()?;
            let id = queue.id();
            let room = most.saturating_sub(batch.len());
            let each = |application: &Time<Realtime>, frame: &[u8], meta: Option<Meta>| {
                match read(frame, id, *application, meta.as_ref()) {
                    Some((mut datagram, said, link)) => {
                        // Dummies come from a port that nobody answers to.
                        if datagram.message.kind != Kind::Dummy {
                            datagram.way = peers.learn(datagram.from, &link, at);
                        }
                        // Of those without a number: who has one was looked at when it was given.
                        if datagram.way.is_none() && peers.is_nobody(*datagram.from.ip()) {
                            *not_protocol += 1;
                            return batch.pass_over();
                        }
                        batch.push(datagram, said);
                    }
                    None => {
                        *not_protocol += 1;
                        batch.pass_over();
                    }
                }
            };
            if queue.receive(room, realtime_now, each)? != 0 {
                *last = at;
                if batch.len() >= most {
                    // A flood on one queue must not keep the others waiting.
                    *last = (at + 1) % queues.len();
                    break;
                }
            }
        }
        Ok(())
    }
}

impl Path for XdpPath {
    fn prepare(&mut self, peer: SocketAddrV4, wanted: Extension) -> Result<Extension, NetError> {
        if wanted.serve_on == Some(ServePath::Kernel) {
            self.close_ptp();
            self.peers.keep(peer);
            let needs = Needs {
                interface: &self.place.interface,
                busypoll_us: self.busypoll_us,
                stamps: self.wishes,
                stamps_sent: self.companion.is_some(),
            };
            return self.reserved.serve(&self.program, peer, wanted, needs);
        }
        self.end_aside();
        let granted = Extension { ptp: wanted.ptp, serve_on: wanted.serve_on, ..Extension::default() };
        if self.ptp.as_ref().is_some_and(|port| Some(port.transport()) != wanted.ptp) {
            self.close_ptp();
        }
        let Some(transport) = wanted.ptp else { return Ok(granted) };
        self.peers.carry_ptp_over(transport);
        // Where the driver can be asked for the card's stamps, the program takes all frames.
        if self.card_stamps {
            return Ok(granted);
        }
        let Place { interface, if_index, mac } = &self.place;
        let nic = Nic { interface, if_index: *if_index, mac: *mac, address: *self.description.local.ip() };
        self.ptp = Some(PtpPort::keep_or_open(self.ptp.take(), transport, &nic, self.wishes)?);
        Ok(granted)
    }

    fn release(&mut self) {
        self.close_ptp();
        self.end_aside();
    }

    #[inline]
    fn send(&mut self, outgoing: &Outgoing) -> io::Result<Sent> {
        if let Some(kernel) = self.reserved.carries(outgoing.to) {
            return kernel.send(outgoing);
        }
        if u32::from(outgoing.ip_len()) > self.mtu {
            return Err(self.too_large(outgoing));
        }
        let Message { kind, sequence } = outgoing.message;
        let (padding, told) = match &outgoing.body {
            Body::Padding(padding) => (*padding, None),
            Body::InBand { padding, told } => (*padding, Some(told)),
            Body::Empty => (0, None),
            Body::Settings(..) | Body::Extension(_) | Body::Account(_) => return self.send_control(outgoing),
        };
        let way = self.peers.route(outgoing.to, kind, outgoing.shape);
        let (at, template) = way.ok_or_else(|| Self::unknown_way(outgoing.to))?;
        let stamped = outgoing.point.is_some() && outgoing.shape != Shape::Unstamped;
        if let (Some(Outlet { companion, frame, content }), true) = (&mut self.companion, stamped) {
            let len;
            (*content, len) = template.put(&mut frame[..], *content, sequence, padding, told);
            let (application, token) = companion.send(&mut frame[..len], |frame, application| {
                if told.is_some() {
                    template.put_t2(frame, application);
                }
            })?;
            return Ok(Sent { application, queue: None, token: Some(token) });
        }
        let queue = &mut self.queues[at];
        let blank = blank(queue, &mut self.tx_ring_full, &mut self.tx_retries)?;
        let (frame, content) = queue.contents(&blank);
        let len;
        (*content, len) = template.put(frame, *content, sequence, padding, told);
        let application = realtime_now();
        if told.is_some() {
            template.put_t2(&mut frame[..len], application);
        }
        self.tx_ring_full += u64::from(queue.submit(blank, len)?);
        Ok(Sent { application, queue: Some(queue.id()), token: None })
    }

    fn send_dummy(&mut self, to: SocketAddrV4) -> io::Result<()> {
        if let Some(kernel) = self.reserved.carries(to) {
            return kernel.send_dummy(to);
        }
        let message = Message { kind: Kind::Dummy, sequence: DUMMY_SEQUENCE };
        self.send(&Outgoing { to, message, body: Body::Empty, shape: Shape::Plain, point: None }).map(drop)
    }

    fn send_load(&mut self, to: SocketAddrV4, count: u32, ip_len: u16) -> io::Result<u32> {
        if let Some(kernel) = self.reserved.carries(to) {
            return kernel.send_load(to, count, ip_len);
        }
        let message = Message { kind: Kind::Dummy, sequence: DUMMY_SEQUENCE };
        let padding = ip_len.saturating_sub(MIN_IP_LEN);
        if u32::from(ip_len) > self.mtu {
            let body = Body::Padding(padding);
            return Err(self.too_large(&Outgoing { to, message, body, shape: Shape::Plain, point: None }));
        }
        let way = self.peers.route(to, Kind::Dummy, Shape::Plain);
        let (at, template) = way.ok_or_else(|| Self::unknown_way(to))?;
        let queue = &mut self.queues[at];
        for sent in 0..count {
            let Some(blank) = queue.take() else {
                self.tx_ring_full += 1;
                return Ok(sent);
            };
            let (frame, content) = queue.contents(&blank);
            let len;
            (*content, len) = template.put(frame, *content, DUMMY_SEQUENCE, padding, None);
            match queue.submit(blank, len) {
                Ok(waited) => self.tx_ring_full += u64::from(waited),
                // Those in the ring count as sent: it is met again at the next call.
                Err(_) if sent > 0 => return Ok(sent),
                Err(error) => return Err(error),
            }
        }
        Ok(count)
    }

    #[inline]
    fn flush(&mut self) -> io::Result<bool> {
        let mut left = false;
        for queue in &mut self.queues {
            if queue.has_unsent() {
                self.tx_retries += queue.push()?;
            }
            queue.reap();
            queue.recycle()?;
            left |= queue.has_unsent();
        }
        Ok(left)
    }

    #[inline]
    fn receive(&mut self, batch: &mut Batch) -> io::Result<()> {
        batch.clear();
        if self.reserved.is_active() {
            // Others' SYNs come through the rings, and a flood of them must not keep this session waiting.
            self.reserved.receive(batch)?;
        }
        let from = batch.len();
        let most = if self.ptp.is_some() { PtpPort::PLAIN } else { BATCH };
        if most > from {
            self.receive_rings(batch, most)?;
        }
        match &mut self.ptp {
            Some(port) => port.receive(batch, from, &mut self.not_protocol),
            None => Ok(()),
        }
    }

    fn collect(&mut self, stamps: &mut Vec<TxStamp>) -> io::Result<()> {
        stamps.clear();
        if let Some(outlet) = &mut self.companion {
            outlet.companion.collect(stamps)?;
        }
        if let Some(port) = &mut self.ptp {
            // Nothing is sent from it, but what is said of this side's port would keep it readable for ever.
            port.collect(stamps)?;
        }
        match self.reserved.path() {
            Some(kernel) => kernel.add_stamps(stamps),
            None => Ok(()),
        }
    }

    fn polls_driver(&self) -> bool {
        self.busypoll_us.is_some()
    }

    fn late_stamps(&self) -> StampWishes {
        if self.companion.is_some() { self.wishes } else { StampWishes::default() }
    }

    fn wait(&mut self, deadline: Option<Time<Monotonic>>, interrupt: BorrowedFd<'_>) -> io::Result<()> {
        self.flush()?;
        let leftover = self.reserved.has_leftover() || self.ptp.as_ref().is_some_and(PtpPort::has_leftover);
        if leftover || self.queues.iter_mut().any(Queue::has_received) {
            return Ok(());
        }
        let timeout = deadline.map(|deadline| deadline.duration_since(monotonic_now()));
        let timeout = timeout.map(|left| libc::timespec {
            tv_sec: libc::time_t::try_from(left.as_secs()).unwrap_or(libc::time_t::MAX),
            tv_nsec: left.subsec_nanos().into(),
        });
        let pollfd = |fd| libc::pollfd { fd, events: libc::POLLIN, revents: 0 };
        self.poll.clear();
        self.poll.push(pollfd(interrupt.as_raw_fd()));
        self.poll.extend(self.queues.iter().map(|queue| pollfd(queue.fd().as_raw_fd())));
        // Its error queue makes it readable as POLLERR, which is always asked for.
        let companion = self.companion.as_ref().map(|outlet| outlet.companion.as_fd().as_raw_fd());
        self.poll.extend(companion.map(|fd| libc::pollfd { fd, events: 0, revents: 0 }));
        self.poll.extend(self.ptp.as_ref().map(|port| pollfd(port.as_fd().as_raw_fd())));
        let kernel = self.reserved.serving().into_iter().flat_map(KernelPath::descriptors);
        self.poll.extend(kernel.map(|fd| pollfd(fd.as_raw_fd())));
        // In zero-copy mode this wakes the driver too, if it wants to be (xsk_poll, net/xdp/xsk.c).
        // SAFETY: the descriptors are in a vector of this length; the time-out lives until the call returns, and a null
        // pointer is none.
        let answer = unsafe {
            libc::ppoll(
                self.poll.as_mut_ptr(),
                self.poll.len() as libc::nfds_t,
                timeout.as_ref().map_or(std::ptr::null(), std::ptr::from_ref),
                std::ptr::null(),
            )
        };
        match Errno::result(answer) {
            Ok(_) | Err(Errno::EINTR) => {}
            Err(errno) => return Err(io::Error::other(format!("cannot wait for packets: {}", errno.desc()))),
        }
        let (_, others) = self.poll.split_at(1 + self.queues.len());
        if others.iter().any(|poll| poll.revents & libc::POLLERR != 0)
            && let Some(kernel) = self.reserved.path()
        {
            // As on the kernel path: it would wake every wait from now on.
            kernel.forget_errors();
        }
        let broken = self.poll[1..=self.queues.len()].iter().position(|poll| poll.revents & !libc::POLLIN != 0);
        match broken {
            Some(at) => Err(io::Error::new(
                io::ErrorKind::NetworkDown,
                format!("cannot wait for packets: the AF_XDP socket of queue {} is broken", self.queues[at].id()),
            )),
            None => Ok(()),
        }
    }

    fn check_interface(&self) -> Result<(), InterfaceGone> {
        // An AF_XDP socket does not say: the one that holds the port is bound to the same interface.
        match self.reserved.has_interface() {
            true => Ok(()),
            false => Err(InterfaceGone { interface: self.place.interface.clone() }),
        }
    }

    fn count_unsent(&mut self, uncounted: u64) {
        let left: u64 = self.queues.iter_mut().map(|queue| u64::from(queue.in_tx_ring())).sum();
        self.tx_dropped += left.saturating_sub(uncounted);
    }

    fn forget_unsent(&mut self) -> anyhow::Result<()> {
        // Nobody but the kernel takes a frame out of a TX ring: it goes with its socket.
        if !self.queues.iter().any(Queue::has_unsent) {
            return Ok(());
        }
        let zero_copy = if self.description.zero_copy == Some(true) { ZeroCopy::On } else { ZeroCopy::Off };
        self.tx_dropped += self.queues.iter().map(Queue::dropped).sum::<u64>();
        let mut closed = self.closed;
        self.add_statistics(&mut closed);
        self.closed = closed;
        // A queue has one socket at a time.
        self.queues.clear();
        // Where it was down it may have got another name.
        let Place { interface, if_index, .. } = &mut self.place;
        let name =
            if_indextoname(*if_index).with_context(|| format!("cannot open AF_XDP sockets on {interface} anew"))?;
        *interface = name.to_string_lossy().into_owned();
        self.queues = queue::open_all(interface, &self.description.queues, self.mtu, zero_copy, self.busypoll_us)?;
        self.queues.iter().try_for_each(|socket| self.program.connect(socket.id(), socket.fd()))
    }

    fn missing_frames(&mut self) -> u64 {
        let began = monotonic_now();
        loop {
            // What cannot be flushed is in flight.
            let _ = self.flush();
            self.frames_missing = self.queues.iter_mut().map(Queue::missing).sum();
            if self.frames_missing == 0 || monotonic_now().duration_since(began) >= AUDIT_PATIENCE {
                return self.frames_missing;
            }
            std::thread::sleep(AUDIT_PAUSE);
        }
    }

    fn description(&self) -> Description {
        self.reserved.serving().map_or_else(|| self.description.clone(), Path::description)
    }

    fn counters(&self) -> Counters {
        // What cannot be read counts 0: the measurement is not lost for it.
        let XdpCounters { seen, redirected, passed, malformed, unstamped, stamp_error, .. } =
            self.program.counters().unwrap_or_default();
        let mut xdp = XdpCounters { seen, redirected, passed, malformed, unstamped, stamp_error, ..self.closed };
        self.add_statistics(&mut xdp);
        let aside = self.reserved.counters();
        let mut ptp = self.ptp_counted;
        if let Some(port) = &self.ptp {
            port.add_to(&mut ptp);
        }
        let (retries, strange) =
            self.companion.as_ref().map_or((0, 0), |outlet| (outlet.companion.retries(), outlet.companion.strange()));
        Counters {
            not_protocol: self.not_protocol + aside.not_protocol,
            tx_ring_full: self.tx_ring_full,
            tx_retries: self.tx_retries + retries + aside.tx_retries,
            strange_stamps: strange + aside.strange_stamps + ptp.strange_stamps,
            tx_dropped: self.tx_dropped + self.queues.iter().map(Queue::dropped).sum::<u64>() + aside.tx_dropped,
            reached_kernel: aside.reached_kernel,
            socket_dropped: aside.socket_dropped + ptp.socket_dropped,
            frames_missing: self.frames_missing,
            xdp: Some(xdp),
        }
    }
}

impl Drop for XdpPath {
    fn drop(&mut self) {
        // From here on packets pass to the kernel; the sockets and the program follow.
        for queue in &self.queues {
            self.program.disconnect(queue.id());
        }
    }
}

/// A frame to write, waited for if need be.
#[inline]
fn blank(queue: &mut Queue, ring_full: &mut u64, retries: &mut u64) -> io::Result<queue::Blank> {
    match queue.take() {
        Some(blank) => Ok(blank),
        None => wait_for_blank(queue, ring_full, retries),
    }
}

#[cold]
fn wait_for_blank(queue: &mut Queue, ring_full: &mut u64, retries: &mut u64) -> io::Result<queue::Blank> {
    *ring_full += 1;
    let began = monotonic_now();
    loop {
        *retries += queue.press()?;
        if let Some(blank) = queue.take() {
            return Ok(blank);
        }
        if monotonic_now().duration_since(began) > PATIENCE {
            return Err(io::Error::new(
                io::ErrorKind::TimedOut,
                format!("no frame of queue {} came back from the kernel within 1 s", queue.id()),
            ));
        }
    }
}

/// A frame's datagram, if it is of the protocol.
#[inline]
fn read(
    frame: &[u8],
    queue: u32,
    application: Time<Realtime>,
    meta: Option<&Meta>,
) -> Option<(Received, Option<Said>, LinkHeader)> {
    let stamps =
        RxStamps { application, hook: meta.map(Meta::hook), software: None, hardware: meta.and_then(Meta::hardware) };
    let frame = match parse(frame) {
        Ok(frame) if frame.destination.port() != ptp::UDP_PORT => frame,
        _ => return read_ptp(frame, queue, stamps),
    };
    let Parsed { message, said } = Message::parse(frame.payload).ok()?;
    // Nobody can be answered there (RFC 768: a source port of 0 wants no reply).
    if frame.source.port() == 0 {
        return None;
    }
    let (from, ip_len, shape, queue) = (frame.source, frame.ip_len, Shape::Plain, Some(queue));
    Some((Received { from, message, shape, ip_len, queue, way: None, stamps }, said, frame.link))
}

/// A ping or pong behind a PTP header.
fn read_ptp(frame: &[u8], queue: u32, stamps: RxStamps) -> Option<(Received, Option<Said>, LinkHeader)> {
    let PtpFrame { link, ip_len, probe, .. } = parse_ptp(frame).ok()?;
    let Probe { sender: from, shape, message, in_band } = probe;
    let received = Received { from, message, shape, ip_len, queue: Some(queue), way: None, stamps };
    Some((received, in_band.map(Said::InBand), link))
}
