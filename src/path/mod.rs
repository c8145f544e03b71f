//! How a datagram gets out and in, with the stamps of its passage.
//!
//! Two ways: [`kernel`], an ordinary UDP socket as nanoprobe has it, and [`xdp`], AF_XDP sockets behind a steering
//! program. Both are a [`Path`]; the hot loop is generic over it. Nothing here knows who says what when.

mod companion;
mod control;
pub mod kernel;
mod keys;
mod ptp;
mod socket;
mod stamper;
pub mod xdp;

use crate::clock::{Monotonic, Phc, Realtime, Stamp, Tai, Time};
use crate::net::NetError;
use crate::session::{Incoming, Outgoing};
use crate::wire::ptp::Shape;
use crate::wire::{Extension, Message, Said};
use std::io;
use std::net::SocketAddrV4;
use std::os::fd::BorrowedFd;

/// Which stamps a path is to bring beside the process's own.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct StampWishes {
    /// The kernel's.
    pub software: bool,
    /// The network card's. Whoever opens the path sees to it that the card takes them.
    pub hardware: bool,
}

impl StampWishes {
    /// Whether there are any.
    pub const fn any(self) -> bool {
        self.software || self.hardware
    }
}

/// How many datagrams one [`Path::receive`] brings at most.
pub const BATCH: usize = 64;

/// A datagram of the protocol that came in. What it says behind its header, which most do not, is in the [`Batch`]: a ping or
/// pong is written by the path and read by the session millions of times a second.
#[derive(Debug, Clone, Copy)]
pub struct Received {
    /// Who sent it.
    pub from: SocketAddrV4,
    /// Its header.
    pub message: Message,
    /// What it looked like.
    pub shape: Shape,
    /// Bytes of the IP packet; of PTP over Ethernet those of the Ethernet payload.
    pub ip_len: u16,
    /// The receive queue of the AF_XDP socket that it came through; `None` where a kernel socket received it.
    pub queue: Option<u32>,
    /// As of [`Incoming::way`].
    pub way: Option<u32>,
    /// When it was seen.
    pub stamps: RxStamps,
}

// Two cache lines.
const _: () = assert!(size_of::<(Received, SaidAt)>() <= 128);

/// Where a datagram's [`Said`] is among those of its batch.
type SaidAt = Option<u8>;
const _: () = assert!(2 * BATCH <= u8::MAX as usize);

/// When a datagram was seen on its way in. A source that gave no stamp is `None`.
#[derive(Debug, Clone, Copy)]
pub struct RxStamps {
    /// The process read it from the ring or socket.
    pub application: Time<Realtime>,
    /// The XDP program saw it.
    pub hook: Option<Time<Tai>>,
    /// The kernel's stack saw it.
    pub software: Option<Time<Realtime>>,
    /// The network card saw it.
    pub hardware: Option<Time<Phc>>,
}

/// By what a stamp that comes later is known to belong to a datagram: counts up from 0 on each path, never used twice.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Token(pub u64);

/// A datagram that was handed over.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Sent {
    /// The process's time just before.
    pub application: Time<Realtime>,
    /// The transmit queue of the AF_XDP socket; `None` where a kernel socket sends.
    pub queue: Option<u32>,
    /// What stamps that are still to come will bear; `None` where none will come.
    pub token: Option<Token>,
}

/// A transmit stamp that came after its datagram was handed over.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct TxStamp {
    /// Whose it is.
    pub token: Token,
    /// The clock tells the source: the kernel's are of the system's, the card's of its own.
    pub stamp: Stamp,
}

/// What one [`Path::receive`] brought. Allocated once.
#[derive(Debug, Default)]
pub struct Batch {
    datagrams: Vec<(Received, SaidAt)>,
    /// Of those few that say something behind their header.
    said: Vec<Said>,
    /// Something was read that is not here.
    passed_over: bool,
}

impl Batch {
    /// An empty batch with room for [`BATCH`] datagrams.
    pub fn new() -> Self {
        // Of what is taken out again what it said stays here until the batch is cleared.
        Self { datagrams: Vec::with_capacity(BATCH), said: Vec::with_capacity(2 * BATCH), passed_over: false }
    }

    /// How many datagrams there are: never more than [`BATCH`].
    #[inline]
    pub const fn len(&self) -> usize {
        self.datagrams.len()
    }

    /// Whether there is none.
    #[inline]
    pub const fn is_empty(&self) -> bool {
        self.datagrams.is_empty()
    }

    /// Whether anything was read at all, be it not of the protocol, or nobody's any more.
    #[inline]
    pub const fn has_read(&self) -> bool {
        self.passed_over || !self.is_empty()
    }

    /// How many more fit.
    #[inline]
    pub const fn room(&self) -> usize {
        BATCH.saturating_sub(self.len())
    }

    /// The datagrams, in the same order.
    pub fn datagrams(&self) -> impl Iterator<Item = &Received> {
        self.datagrams.iter().map(|(received, _)| received)
    }

    /// The datagrams with what they say behind their headers, in the order of their arrival at each queue.
    #[inline]
    pub fn iter(&self) -> impl Iterator<Item = (&Received, Option<&Said>)> {
        self.datagrams.iter().map(|(received, at)| (received, at.and_then(|at| self.said.get(usize::from(at)))))
    }

    /// Takes all of it out, so that a loop that owns it can be changed while it reads it; none of the datagrams is copied, and what
    /// stands in its place allocates nothing. To be given back ([`Batch::give_back`]): that is where the room is.
    #[inline]
    pub(crate) fn lend(&mut self) -> Self {
        std::mem::take(self)
    }

    /// Puts back what was lent.
    #[inline]
    pub(crate) fn give_back(&mut self, lent: Self) {
        *self = lent;
    }

    /// Forgets all of them.
    #[inline]
    pub fn clear(&mut self) {
        self.datagrams.clear();
        self.said.clear();
        self.passed_over = false;
    }

    /// Something was read that is not for whoever has the batch.
    #[inline]
    pub(crate) fn pass_over(&mut self) {
        self.passed_over = true;
    }

    /// Adds a datagram; the caller has seen that there is [`Batch::room`].
    #[inline]
    pub(crate) fn push(&mut self, received: Received, said: Option<Said>) {
        let at = said.map(|said| {
            self.said.push(said);
            (self.said.len() - 1) as u8
        });
        self.datagrams.push((received, at));
    }

    /// Keeps of the datagrams from the place `from` on those of which this says so.
    fn retain_from(&mut self, from: usize, mut keep: impl FnMut(&Received, Option<&Said>) -> bool) {
        let said = &self.said;
        let (mut place, before) = (0, self.datagrams.len());
        self.datagrams.retain(|(received, at)| {
            place += 1;
            place <= from || keep(received, at.and_then(|at| said.get(usize::from(at))))
        });
        self.passed_over |= self.datagrams.len() < before;
    }
}

/// What a session has to know of a datagram that came in.
#[inline]
pub(crate) fn incoming(received: &Received, said: Option<&Said>) -> Incoming {
    let &Received { from, message, shape, way, .. } = received;
    let plain = Incoming { shape, way, ..Incoming::plain(from, message) };
    match said {
        None => plain,
        Some(said) => {
            let (settings, extension, account) = (said.settings(), said.extension(), said.account());
            Incoming { settings, extension, account, ..plain }
        }
    }
}

/// Why a datagram was not sent, with what the kernel answered.
#[derive(Debug, thiserror::Error)]
#[error("{text}")]
struct SendError {
    answer: Option<i32>,
    text: String,
}

/// What the kernel answered to a datagram that it did not send ([`Path::send`]); `None` where it was not asked.
pub(crate) fn send_errno(error: &io::Error) -> Option<i32> {
    let wrapped = || error.get_ref()?.downcast_ref::<SendError>()?.answer;
    error.raw_os_error().or_else(wrapped)
}

/// Whether a datagram was not sent as its receiver cannot be reached, or nobody at present: the interface is down, there is no way there,
/// or it is forbidden. A path that says so is whole.
pub(crate) fn is_unreachable(error: &io::Error) -> bool {
    let answers = [libc::ENETDOWN, libc::ENETUNREACH, libc::EHOSTUNREACH, libc::EACCES, libc::EPERM];
    send_errno(error).is_some_and(|answer| answers.contains(&answer))
}

/// The interface that a path is on is not there any more: it was deleted, or is another network namespace's.
#[derive(Debug, Clone, thiserror::Error)]
#[error(
    "the interface {interface} (--interface) is gone: it was deleted, or moved into another network namespace: start xdprobe again \
     once there is one of that name (ip link show {interface})"
)]
pub struct InterfaceGone {
    /// Its name when the path was opened.
    pub interface: String,
}

/// A way out and in.
pub trait Path {
    /// Gets ready what a session with `peer` needs beyond nanoprobe's datagrams, and says what of it there is. Not for the hot
    /// loop.
    ///
    /// # Errors
    /// Why it cannot be had. Sessions that do not need it are as possible as before.
    fn prepare(&mut self, peer: SocketAddrV4, wanted: Extension) -> Result<Extension, NetError>;

    /// Gives back what [`Path::prepare`] got ready, as the session is over: others may want port 319, and a server's XDP path
    /// takes back the peer that it had left to the kernel. Not for the hot loop.
    fn release(&mut self);

    /// Sends one datagram; where it makes a row of the log and the path was opened for it, with transmit stamps to come. Into
    /// a pong that carries stamps ([`crate::session::Body::InBand`]) it writes, as t2, what [`Sent::application`] says.
    ///
    /// On the xdp path the frame may wait in the ring until [`Path::flush`]. A full ring is waited for and counted.
    ///
    /// # Errors
    /// What the kernel answered, with what was attempted, where sending again would not help.
    fn send(&mut self, outgoing: &Outgoing) -> io::Result<Sent>;

    /// Sends a dummy to `to` from a port other than the session's.
    ///
    /// # Errors
    /// As [`Path::send`].
    fn send_dummy(&mut self, to: SocketAddrV4) -> io::Result<()>;

    /// Sends dummies of `ip_len` bytes with the IP header to `to`, from a port other than the session's, as far as there is
    /// room at once; returns how many. Never waits: a full ring is counted, and what is left is the caller's.
    ///
    /// # Errors
    /// What the kernel answered, where it is not merely that there is no room, and none has left: what stops it part-way is met again
    /// at the next call.
    fn send_load(&mut self, to: SocketAddrV4, count: u32, ip_len: u16) -> io::Result<u32>;

    /// Makes the kernel see what [`Path::send`] put into the rings; reaps what it is done with. Whether something is left
    /// that the driver has not taken yet: then it is to be called again soon.
    ///
    /// # Errors
    /// What the kernel answered, where it is not merely busy.
    fn flush(&mut self) -> io::Result<bool>;

    /// Fills `batch` with what has come in; never waits. What is not of the protocol is dropped and counted.
    ///
    /// # Errors
    /// What the kernel answered.
    fn receive(&mut self, batch: &mut Batch) -> io::Result<()>;

    /// Fills `stamps` with the transmit stamps that have come, in any order; never waits. Not more than
    /// [`BATCH`] at once.
    ///
    /// # Errors
    /// What the kernel answered.
    fn collect(&mut self, stamps: &mut Vec<TxStamp>) -> io::Result<()>;

    /// Whether a look for packets has the kernel poll the driver (`SO_BUSY_POLL`): how long it takes then says nothing of who has
    /// the core.
    fn polls_driver(&self) -> bool {
        false
    }

    /// The transmit stamps that come of a datagram with a token.
    fn late_stamps(&self) -> StampWishes;

    /// Sleeps until something has come in, a stamp too, `interrupt` is readable, or `deadline` (`None`: without limit).
    ///
    /// # Errors
    /// What the kernel answered, except EINTR.
    fn wait(&mut self, deadline: Option<Time<Monotonic>>, interrupt: BorrowedFd<'_>) -> io::Result<()>;

    /// Whether the interface is still there; one that is down is. One system call, which allocates nothing: for a loop in which nothing
    /// happens.
    ///
    /// # Errors
    /// It is gone. What cannot be found out is none.
    fn check_interface(&self) -> Result<(), InterfaceGone> {
        Ok(())
    }

    /// Sending has failed: what waits in rings does not leave any more. It was handed over and counts as sent, but for `uncounted` of it,
    /// so that it counts as dropped from now on ([`Counters::tx_dropped`]). Not for the hot loop.
    fn count_unsent(&mut self, _uncounted: u64) {}

    /// Forgets what was handed over and has not left, as the interface is down: it is not to leave once that is up again, when its session
    /// is over. What has come in and was not read may be lost with it. Not for the hot loop.
    ///
    /// # Errors
    /// What the kernel answered: the path is of no use any more.
    fn forget_unsent(&mut self) -> anyhow::Result<()> {
        Ok(())
    }

    /// Frames of the path's memory that are nowhere: neither free nor on their way nor in a ring. Counted from then on in
    /// [`Counters::frames_missing`]. Where some are missing it waits a moment for what the kernel may be at. Not for the hot
    /// loop: a session is over.
    fn missing_frames(&mut self) -> u64 {
        0
    }

    /// What the path is, for the log's meta file and the statistics: between [`Path::prepare`] and [`Path::release`] that
    /// which serves the session.
    fn description(&self) -> Description;

    /// What was counted so far. Makes system calls: not for the hot loop.
    fn counters(&self) -> Counters;
}

/// What a path is.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize)]
pub struct Description {
    /// `xdp` or `kernel`.
    pub path: &'static str,
    /// `native` or `generic`; `None` on the kernel path.
    pub xdp_mode: Option<&'static str>,
    /// Whether the driver moves frames without copying; `None` on the kernel path.
    pub zero_copy: Option<bool>,
    /// The receive queues that have a socket; empty on the kernel path.
    pub queues: Vec<u32>,
    /// The address and port of this side.
    pub local: SocketAddrV4,
    /// The XDP hook stamps one frame in so many, on average, by chance; `None` where it stamps each, and on the kernel path. The
    /// statistics have it with the stages that it concerns.
    #[serde(skip)]
    pub hook_stamps_one_in: Option<u32>,
}

/// What a path counts.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, serde::Serialize)]
pub struct Counters {
    /// Datagrams that reached the port and are not of the protocol: too short, of an unknown type, or, on the xdp path,
    /// with a wrong checksum, or from an address that is no other host's. On the kernel path the kernel has dropped these already.
    pub not_protocol: u64,
    /// Times that sending had to wait for a free frame or ring slot.
    pub tx_ring_full: u64,
    /// Times that the kernel said EAGAIN, EBUSY or ENOBUFS, took nothing, and was asked again.
    pub tx_retries: u64,
    /// Frames or datagrams that this machine's kernel took and dropped before they left: no carrier, or a full queue; on the
    /// kernel path what a queue or a filter of the interface drops at once; on the xdp path what it did not take any more as sending
    /// failed. The peer never had a chance to see them.
    pub tx_dropped: u64,
    /// Datagrams that reached the reserved kernel socket instead of a ring: fragments, a queue without a socket, or an
    /// Ethernet frame that was not to the interface's own address.
    pub reached_kernel: u64,
    /// Datagrams of sessions on a kernel socket that the socket had no room for.
    pub socket_dropped: u64,
    /// Transmit stamps that bear the name of no datagram.
    pub strange_stamps: u64,
    /// Frames of the UMEMs that were nowhere when a session ended: lost for good. Always 0 on the kernel path.
    pub frames_missing: u64,
    /// What the XDP program and the AF_XDP sockets counted; `None` on the kernel path.
    pub xdp: Option<XdpCounters>,
}

/// What the XDP program counted, over all CPUs, and the kernel's AF_XDP statistics, over all sockets.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, serde::Serialize)]
pub struct XdpCounters {
    /// Frames that came to the program.
    pub seen: u64,
    /// Frames redirected into an AF_XDP socket.
    pub redirected: u64,
    /// Frames left to the kernel.
    pub passed: u64,
    /// Of those, frames whose headers do not hold together.
    pub malformed: u64,
    /// Frames redirected of which the driver was asked for the card's receive stamp and gave none.
    pub unstamped: u64,
    /// The errno that the driver gave instead, the largest; 0 where it said yes and gave the stamp 0.
    pub stamp_error: u64,
    /// `rx_dropped` of `struct xdp_statistics`.
    pub rx_dropped: u64,
    /// `rx_ring_full`: the receive ring had no room.
    pub rx_ring_full: u64,
    /// `rx_fill_ring_empty_descs`: the kernel had no frame to receive into.
    pub rx_fill_ring_empty: u64,
    /// `rx_invalid_descs`.
    pub rx_invalid: u64,
    /// `tx_invalid_descs`.
    pub tx_invalid: u64,
}
