//! A session that the kernel's UDP serves while the XDP program stays: its peer's packets are left to the kernel, and the
//! socket that holds the local port anyway carries them.
//!
//! One session at a time, as the program knows one such peer. Dummies of that peer come from another port than its session's,
//! so they go on coming through the rings.

use super::program::Program;
use crate::net::{NetError, local_address, reserve_port};
use crate::path::kernel::{KernelPath, Wiring};
use crate::path::stamper::TxStamper;
use crate::path::{BATCH, Batch, Counters, Path, Received, StampWishes, socket};
use crate::wire::{Extension, Kind, Said};
use socket2::SockRef;
use std::cell::Cell;
use std::io;
use std::net::{SocketAddrV4, UdpSocket};
use std::os::fd::AsFd;

/// Bytes that datagrams may take in the reserved socket: they are only counted, and what does not fit is counted too.
const RESERVED_BUFFER: usize = 4096;
/// Messages of a peer whose session is over that are handed on: a FIN again, a SYN with its repetitions.
const LEFTOVER: usize = 16;
/// Tokens of such sessions begin here: never those of the companion, nor of a PTP port.
const FIRST_TOKEN: u64 = 1 << 61;

/// The socket that holds the local port, and what it is used for.
#[derive(Debug)]
pub(super) struct Reserved {
    socket: UdpSocket,
    /// Datagrams read from it that should have come through a ring.
    strayed: Cell<u64>,
    /// Of those that it had no room for, the ones that belonged to a session of its own.
    dropped_aside: u64,
    /// What sessions of its own had counted before the one that stands.
    counted: Counters,
    session: Option<Box<Session>>,
    /// The socket's, while no session has it. Keys and tokens go on from one session to the next: a stamp that comes after its
    /// session is nobody's in that which stands then.
    stamper: Option<TxStamper>,
    /// What the peer of the last session said when that was over: it may ask for its next one.
    leftover: Vec<(Received, Option<Said>)>,
}

#[derive(Debug)]
struct Session {
    peer: SocketAddrV4,
    path: KernelPath,
    /// Of the datagrams that had not reached a ring before it began, those that the socket had no room for.
    dropped_before: u64,
}

/// What such a session is opened with.
#[derive(Debug, Clone, Copy)]
pub(super) struct Needs<'a> {
    pub(super) interface: &'a str,
    pub(super) busypoll_us: Option<u32>,
    pub(super) stamps: StampWishes,
    /// Transmit stamps are to be had, too: on the rings they need the companion.
    pub(super) stamps_sent: bool,
}

impl Reserved {
    /// Nothing is expected to come.
    ///
    /// # Errors
    /// What the kernel answered.
    pub(super) fn new(socket: UdpSocket) -> io::Result<Self> {
        socket.set_nonblocking(true)?;
        SockRef::from(&socket).set_recv_buffer_size(RESERVED_BUFFER)?;
        Ok(Self {
            socket,
            strayed: Cell::new(0),
            dropped_aside: 0,
            counted: Counters::default(),
            session: None,
            stamper: None,
            leftover: Vec::with_capacity(LEFTOVER),
        })
    }

    /// Whether the interface that the socket is bound to is still there.
    pub(super) fn has_interface(&self) -> bool {
        socket::has_interface(self.socket.as_fd())
    }

    /// Whether [`Reserved::receive`] has anything to look for.
    #[inline]
    pub(super) fn is_active(&self) -> bool {
        self.session.is_some() || self.has_leftover()
    }

    /// Whether something can be received at once.
    pub(super) fn has_leftover(&self) -> bool {
        !self.leftover.is_empty() || self.serving().is_some_and(KernelPath::has_leftover)
    }

    /// The path of the session that stands here; `None` where none does.
    #[inline]
    pub(super) fn path(&mut self) -> Option<&mut KernelPath> {
        self.session.as_mut().map(|session| &mut session.path)
    }

    /// The same, to be looked at.
    pub(super) fn serving(&self) -> Option<&KernelPath> {
        self.session.as_ref().map(|session| &session.path)
    }

    /// The path on which this is to be sent, where it is the kernel's.
    #[inline]
    pub(super) fn carries(&mut self, to: SocketAddrV4) -> Option<&mut KernelPath> {
        self.session.as_mut().filter(|session| session.peer == to).map(|session| &mut session.path)
    }

    /// Serves a session with `peer` here, and has the program leave its packets to the kernel.
    ///
    /// # Errors
    /// Why it cannot be had; then everything is as before.
    pub(super) fn serve(
        &mut self,
        program: &Program,
        peer: SocketAddrV4,
        wanted: Extension,
        needs: Needs<'_>,
    ) -> Result<Extension, NetError> {
        self.end(program);
        let opened = self.open(program, peer, wanted, needs);
        if opened.is_err() {
            self.calm();
        }
        opened
    }

    fn open(
        &mut self,
        program: &Program,
        peer: SocketAddrV4,
        wanted: Extension,
        needs: Needs<'_>,
    ) -> Result<Extension, NetError> {
        let failed = |attempt: &str| {
            let attempt = attempt.to_owned();
            move |answer| NetError::Socket { attempt, answer }
        };
        let dropped_before = self.reached_kernel() - self.strayed.get();
        let socket = self.socket.try_clone().map_err(failed("use the socket that holds the local port"))?;
        let dummies = reserve_port(needs.interface, *local_address(&socket)?.ip(), 0)?;
        let wiring = Wiring {
            interface: needs.interface.to_owned(),
            busypoll_us: needs.busypoll_us,
            stamps: needs.stamps,
            stamps_sent: needs.stamps_sent,
        };
        let mut path = KernelPath::over(socket, dummies, wiring)?;
        let granted = path.prepare(peer, wanted)?;
        self.wake_stamper(needs.stamps)?;
        program
            .leave_to_kernel(Some(peer))
            .map_err(failed("have the XDP program leave the client's packets to the kernel"))?;
        path.set_stamper(self.stamper.take());
        self.session = Some(Box::new(Session { peer, path, dropped_before }));
        Ok(granted)
    }

    /// Switches stamping on, where stamps are wanted.
    fn wake_stamper(&mut self, wishes: StampWishes) -> Result<(), NetError> {
        let socket = self.socket.as_fd();
        match &self.stamper {
            Some(stamper) => stamper.resume(socket)?,
            None if wishes.any() => self.stamper = Some(TxStamper::from_token(FIRST_TOKEN, socket, wishes, true)?),
            None => {}
        }
        Ok(())
    }

    /// The session that stands here, if any, is over: from now on everybody's packets go to the rings.
    pub(super) fn end(&mut self, program: &Program) {
        let Some(mut session) = self.session.take() else { return };
        // Writing to an array that is there does not fail; if it did, the peer's next session would say so.
        let _ = program.leave_to_kernel(None);
        // Nothing is to come behind PTP headers any more: a FIN that waited for that would look as if nothing were there.
        session.path.release();
        self.stamper = session.path.take_stamper();
        let counters = session.path.counters();
        self.counted = sum(&self.counted, &counters);
        self.dropped_aside += session.path.dropped();
        let peer = session.peer;
        let mut batch = Batch::new();
        // Bounded, as it may go on sending: then what is left does not matter.
        for _ in 0..BATCH {
            batch.clear();
            // What cannot be received it will send again.
            let _ = session.path.receive_some(&mut batch);
            if batch.is_empty() {
                break;
            }
            for (datagram, said) in batch.iter() {
                let speaks = datagram.from == peer && matches!(datagram.message.kind, Kind::Syn | Kind::Fin);
                if speaks && self.leftover.len() < LEFTOVER {
                    self.leftover.push((*datagram, said.copied()));
                }
            }
        }
        drop(session);
        self.calm();
        self.drain(Some(peer));
    }

    /// Forgets what was left over of those to whom this says no: whoever cannot be answered asks again.
    pub(super) fn keep_leftover(&mut self, mut of: impl FnMut(SocketAddrV4) -> bool) {
        self.leftover.retain(|(datagram, _)| of(datagram.from));
    }

    /// As the socket was before a session, but for the stamps that are still to come of it.
    fn calm(&self) {
        let socket = self.socket.as_fd();
        // None of these can be refused; and what is left on would only cost time.
        if let Some(stamper) = &self.stamper {
            stamper.rest(socket);
        }
        // Empties the error queue, too. What comes later the next session reads, as one that nobody waits for.
        let _ = socket::set_option(socket, libc::IPPROTO_IP, libc::IP_RECVERR, 0);
        let _ = SockRef::from(&self.socket).set_busy_poll(0);
        let _ = SockRef::from(&self.socket).set_recv_buffer_size(RESERVED_BUFFER);
    }

    /// Adds what has come for the session that stands here to `batch`, and what the last one's peer still had to say.
    ///
    /// # Errors
    /// As [`Path::receive`].
    pub(super) fn receive(&mut self, batch: &mut Batch) -> io::Result<()> {
        for (datagram, said) in self.leftover.drain(..) {
            batch.push(datagram, said);
        }
        let Some(session) = &mut self.session else { return Ok(()) };
        let before = batch.len();
        session.path.receive_some(batch)?;
        let came = batch.len();
        if came == before {
            return Ok(());
        }
        let peer = session.peer;
        let is_its = |from: SocketAddrV4, kind| from == peer || (kind == Kind::Dummy && from.ip() == peer.ip());
        batch.retain_from(before, |datagram, _| is_its(datagram.from, datagram.message.kind));
        self.strayed.set(self.strayed.get() + (came - batch.len()) as u64);
        Ok(())
    }

    /// What sessions on this socket have counted, and what came here although it should have come through a ring.
    pub(super) fn counters(&self) -> Counters {
        let standing = self.serving().map(Path::counters).unwrap_or_default();
        Counters { reached_kernel: self.reached_kernel(), ..sum(&self.counted, &standing) }
    }

    /// Datagrams that no session here asked for: those read, and those that there was no room for.
    fn reached_kernel(&self) -> u64 {
        if let Some(session) = &self.session {
            // Whatever lies in the socket is the session's to read.
            return self.strayed.get() + session.dropped_before;
        }
        self.drain(None);
        self.strayed.get() + socket::dropped(self.socket.as_fd()).saturating_sub(self.dropped_aside)
    }

    /// Reads what is there, and counts it unless it is `peer`'s.
    fn drain(&self, peer: Option<SocketAddrV4>) {
        let mut byte = [0];
        // Bounded, as others may be sending: what is left is counted next time.
        for _ in 0..4096 {
            match self.socket.recv_from(&mut byte) {
                Ok((_, from)) if peer.is_some_and(|peer| from == peer.into()) => {}
                Ok(_) => self.strayed.set(self.strayed.get() + 1),
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => break,
                // An ICMP error of a datagram that was sent from here; the next call has none.
                Err(_) => {}
            }
        }
    }
}

/// The counters of kernel paths, added up.
fn sum(one: &Counters, other: &Counters) -> Counters {
    Counters {
        not_protocol: one.not_protocol + other.not_protocol,
        tx_ring_full: one.tx_ring_full + other.tx_ring_full,
        tx_retries: one.tx_retries + other.tx_retries,
        tx_dropped: one.tx_dropped + other.tx_dropped,
        reached_kernel: one.reached_kernel + other.reached_kernel,
        socket_dropped: one.socket_dropped + other.socket_dropped,
        strange_stamps: one.strange_stamps + other.strange_stamps,
        frames_missing: 0,
        xdp: None,
    }
}
