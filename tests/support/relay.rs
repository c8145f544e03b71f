//! A wire with a known delay, a known loss and, where wanted, a known rate: a program between two interfaces that hands
//! every frame from the one to the other, and counts.
//!
//! It is no host: no address, no ARP of its own; the namespaces on its two sides are in one network. Frames of kernel
//! sockets cross a veth pair with a UDP checksum that is not finished: the relay finishes it, as a card would.
//!
//! The module that includes this one has [`Namespace`] in scope.

#![allow(dead_code, reason = "each user takes its part")]

use super::Namespace;
use nix::poll::{PollFd, PollFlags, ppoll};
use nix::sys::time::TimeSpec;
use socket2::{Domain, Protocol, SockAddr, SockAddrStorage, Socket, Type};
use std::collections::VecDeque;
use std::io::{ErrorKind, Read, Write};
use std::os::fd::{AsFd, AsRawFd};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};
use xdprobe::wire::{Kind, Message};

const ETHERNET: usize = 14;
const UDP: usize = 8;
/// Frames that wait for their turn where there is a rate and nothing else is said: what comes beyond is lost.
const QUEUE: usize = 1000;
/// How long a thread may not see that it is to end.
const LOOK: Duration = Duration::from_millis(50);

/// What happens to the frames of one direction.
#[derive(Debug, Clone, Copy, Default)]
pub struct Way {
    /// Every frame leaves this long after it came, or a little later; never earlier.
    pub delay: Duration,
    /// Of pings and pongs each n-th is lost: the n-th, the 2n-th … Other frames never are.
    pub lose_every: Option<u64>,
    /// Bits of Ethernet frames a second (without preamble, checksum and gap) that pass at most; what the queue does not hold is
    /// lost.
    pub bits_per_second: Option<u64>,
    /// Frames that wait for their turn at most where there is a rate; `None`: [`QUEUE`].
    pub queue: Option<usize>,
}

impl Way {
    /// A delay and nothing else.
    pub fn delayed(delay: Duration) -> Self {
        Self { delay, ..Self::default() }
    }
}

/// What one direction counted.
#[derive(Debug, Default)]
struct Counts {
    probes: AtomicU64,
    lost_probes: AtomicU64,
    overflowed: AtomicU64,
    forwarded: AtomicU64,
}

/// What the relay has counted in one direction.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Counted {
    /// Pings and pongs that came.
    pub probes: u64,
    /// Of those, the ones lost by [`Way::lose_every`].
    pub lost_probes: u64,
    /// Frames lost as the queue was full.
    pub overflowed: u64,
    /// Frames handed on.
    pub forwarded: u64,
}

/// A running relay. Ends with the value.
pub struct Relay {
    stop: Arc<AtomicBool>,
    counts: [Arc<Counts>; 2],
    threads: Vec<JoinHandle<()>>,
}

impl Relay {
    /// Joins two interfaces of a namespace, which are up. `there` is from the left to the right one, `back` the other way.
    pub fn start(namespace: &Namespace, [left, right]: [&str; 2], there: Way, back: Way) -> Self {
        let stop = Arc::new(AtomicBool::new(false));
        let counts: [Arc<Counts>; 2] = Default::default();
        let sockets = namespace.run(|| [left, right].map(packet_socket));
        let [left, right] = sockets;
        let [left_too, right_too] = [&left, &right].map(|socket| socket.try_clone().expect("a descriptor"));
        let ends = [(left, right_too, there), (right, left_too, back)];
        let threads = ends.into_iter().zip(&counts).map(|((from, to, way), counts)| {
            let (stop, counts) = (Arc::clone(&stop), Arc::clone(counts));
            std::thread::spawn(move || Direction { from, to, way, counts, line_free: None }.run(&stop))
        });
        let threads = threads.collect();
        Self { stop, counts, threads }
    }

    /// From the left to the right, and back.
    pub fn counted(&self) -> [Counted; 2] {
        [0, 1].map(|at| {
            let Counts { probes, lost_probes, overflowed, forwarded } = &*self.counts[at];
            let [probes, lost_probes, overflowed, forwarded] =
                [probes, lost_probes, overflowed, forwarded].map(|count| count.load(Ordering::Relaxed));
            Counted { probes, lost_probes, overflowed, forwarded }
        })
    }
}

impl Drop for Relay {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        for thread in self.threads.drain(..) {
            // A failing test must not be hidden by a second panic.
            let _ = thread.join();
        }
    }
}

/// A packet socket (`packet(7)`) on one interface of the calling thread's namespace.
fn packet_socket(interface: &str) -> Socket {
    let every = (libc::ETH_P_ALL as u16).to_be();
    let index = nix::net::if_::if_nametoindex(interface).expect("the interface exists");
    // Protocol 0 first, so that nothing comes from other interfaces.
    let socket = Socket::new(Domain::PACKET, Type::RAW, Some(Protocol::from(0))).expect("takes root");
    let mut storage = SockAddrStorage::zeroed();
    // SAFETY: `sockaddr_ll` fits into the storage, and zeros are valid in all of its fields.
    let link: &mut libc::sockaddr_ll = unsafe { storage.view_as() };
    link.sll_family = libc::AF_PACKET as u16;
    link.sll_protocol = every;
    link.sll_ifindex = index as i32;
    // SAFETY: the storage holds an address of this family and length.
    let address = unsafe { SockAddr::new(storage, size_of::<libc::sockaddr_ll>() as libc::socklen_t) };
    // What the other direction sends must not come back.
    let one: libc::c_int = 1;
    let len = size_of::<libc::c_int>() as libc::socklen_t;
    let (fd, value) = (socket.as_raw_fd(), std::ptr::from_ref(&one).cast());
    // SAFETY: the value is an int that lives until the call returns, and its length is given.
    let answer = unsafe { libc::setsockopt(fd, libc::SOL_PACKET, PACKET_IGNORE_OUTGOING, value, len) };
    assert_eq!(answer, 0, "it takes Linux 4.20");
    socket.bind(&address).expect("the interface is there");
    socket.set_nonblocking(true).expect("a socket");
    // What comes while the thread does not run must not be lost: nobody would know.
    socket.set_recv_buffer_size(8 << 20).expect("a socket");
    socket
}

/// `include/uapi/linux/if_packet.h`
const PACKET_IGNORE_OUTGOING: libc::c_int = 23;

/// One direction.
struct Direction {
    from: Socket,
    to: Socket,
    way: Way,
    counts: Arc<Counts>,
    /// When the last frame has left a line with a rate.
    line_free: Option<Instant>,
}

impl Direction {
    fn run(mut self, stop: &AtomicBool) {
        let mut waiting: VecDeque<(Instant, Vec<u8>)> = VecDeque::new();
        let mut buffer = vec![0; 65_536];
        while !stop.load(Ordering::Relaxed) {
            let now = Instant::now();
            let wait = waiting.front().map_or(LOOK, |(due, _)| due.saturating_duration_since(now).min(LOOK));
            if !wait.is_zero() {
                let mut fds = [PollFd::new(self.from.as_fd(), PollFlags::POLLIN)];
                let _ = ppoll(&mut fds, Some(TimeSpec::from_duration(wait)), None);
            }
            self.take(&mut waiting, &mut buffer);
            while waiting.front().is_some_and(|(due, _)| *due <= Instant::now()) {
                let (_, frame) = waiting.pop_front().expect("there is a front");
                self.send(&frame);
            }
        }
    }

    /// Reads what has come.
    fn take(&mut self, waiting: &mut VecDeque<(Instant, Vec<u8>)>, buffer: &mut [u8]) {
        // Bounded, as others wait to leave.
        for _ in 0..64 {
            let len = match (&self.from).read(buffer) {
                Ok(len) => len,
                // The interface goes down with the test.
                Err(_) => return,
            };
            let mut frame = buffer[..len].to_vec();
            if is_probe(&frame) {
                let nth = self.counts.probes.fetch_add(1, Ordering::Relaxed) + 1;
                if self.way.lose_every.is_some_and(|every| nth.is_multiple_of(every)) {
                    self.counts.lost_probes.fetch_add(1, Ordering::Relaxed);
                    continue;
                }
            }
            let now = Instant::now();
            let mut leaves = now;
            if let Some(rate) = self.way.bits_per_second {
                if waiting.len() >= self.way.queue.unwrap_or(QUEUE) {
                    self.counts.overflowed.fetch_add(1, Ordering::Relaxed);
                    continue;
                }
                let takes = Duration::from_nanos(len as u64 * 8 * 1_000_000_000 / rate.max(1));
                leaves = self.line_free.map_or(now, |free| free.max(now)) + takes;
                self.line_free = Some(leaves);
            }
            finish_checksum(&mut frame);
            waiting.push_back((leaves + self.way.delay, frame));
        }
    }

    fn send(&mut self, frame: &[u8]) {
        loop {
            match (&self.to).write(frame) {
                Err(error) if error.kind() == ErrorKind::WouldBlock => std::thread::yield_now(),
                Err(error) if error.raw_os_error() == Some(libc::ENOBUFS) => std::thread::yield_now(),
                Ok(_) => {
                    self.counts.forwarded.fetch_add(1, Ordering::Relaxed);
                    break;
                }
                Err(_) => break,
            }
        }
    }
}

/// Where the UDP header of an unfragmented IPv4 packet begins.
fn udp_at(frame: &[u8]) -> Option<usize> {
    let ip = frame.get(ETHERNET..)?;
    let is_ipv4 = frame[12..ETHERNET] == [8, 0] && ip.len() >= 20 && ip[0] >> 4 == 4;
    if !is_ipv4 || ip[9] != libc::IPPROTO_UDP as u8 || u16::from_be_bytes([ip[6], ip[7]]) & 0x3fff != 0 {
        return None;
    }
    let at = ETHERNET + usize::from(ip[0] & 0xf) * 4;
    (frame.len() >= at + UDP).then_some(at)
}

/// A ping or pong, on whatever port.
fn is_probe(frame: &[u8]) -> bool {
    let message = udp_at(frame).and_then(|at| Message::parse(&frame[at + UDP..]).ok());
    message.is_some_and(|parsed| matches!(parsed.message.kind, Kind::Ping | Kind::Pong))
}

/// The Internet checksum (RFC 1071), not complemented.
fn sum(bytes: &[u8], start: u32) -> u16 {
    let words = bytes.chunks(2).map(|pair| u32::from(u16::from_be_bytes([pair[0], *pair.get(1).unwrap_or(&0)])));
    let mut sum = start + words.sum::<u32>();
    while sum > 0xffff {
        sum = (sum & 0xffff) + (sum >> 16);
    }
    sum as u16
}

/// Puts the whole checksum where only that of the pseudo-header is.
fn finish_checksum(frame: &mut [u8]) {
    let Some(at) = udp_at(frame) else { return };
    let len = usize::from(u16::from_be_bytes([frame[at + 4], frame[at + 5]]));
    let Some(datagram) = frame.get(at..at + len) else { return };
    let addresses = sum(&frame[ETHERNET + 12..ETHERNET + 20], 0);
    let pseudo = sum(&[0, libc::IPPROTO_UDP as u8, datagram[4], datagram[5]], addresses.into());
    if datagram[6..8] != pseudo.to_be_bytes() {
        return;
    }
    let whole = !sum(&[&datagram[..6], &[0, 0], &datagram[8..]].concat(), pseudo.into());
    // RFC 768: 0 would mean that there is none.
    let whole = if whole == 0 { 0xffff } else { whole };
    frame[at + 6..at + 8].copy_from_slice(&whole.to_be_bytes());
}
