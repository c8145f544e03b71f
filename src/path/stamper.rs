//! Transmit stamps of a kernel socket: asked for with a datagram, collected from the error queue
//! (`Documentation/networking/timestamping.rst`).
//!
//! The error queue brings control messages only (`OPT_TSONLY`), each with the key of its datagram (`OPT_ID`). Where the
//! kernel takes a key with the datagram (`SCM_TS_OPT_ID`, Linux 6.13) it is ours; before, it counts the datagrams that ask.
#![forbid(unsafe_code)]

use super::control::{self, ROOM, Request};
use super::keys::Keys;
use super::socket;
use super::{BATCH, StampWishes, Token, TxStamp};
use crate::clock::{Monotonic, Time, monotonic_now};
use crate::net::NetError;
use std::io;
use std::net::SocketAddrV4;
use std::os::fd::BorrowedFd;
use std::time::Duration;

/// What the error queue may hold, in bytes: some thousand stamps that nobody has looked at yet.
const ERROR_QUEUE: i32 = 4 << 20;

/// The kernel begins to stamp what it receives a moment after the first socket asks for it: a worker does the switching
/// (`net_enable_timestamp`, `net/core/dev.c`). Without a pause the first pongs would have no stamp.
const SETTLING: Duration = Duration::from_millis(10);

/// How long stamps of before may come after the kernel has begun to count anew: ten times what ptp4l waits for one.
const MUTE: Duration = Duration::from_millis(100);

/// The options that have the kernel stamp what comes in.
const RECEIVED: u32 = libc::SOF_TIMESTAMPING_RX_SOFTWARE | libc::SOF_TIMESTAMPING_RX_HARDWARE;

/// How many stamps are taken in at a refused send: more than that wait in the error queue, and count as under way.
const STASH: usize = 1024;

/// Asks for stamps with datagrams and collects them. A socket has one for as long as it is open, so that no key is given out a
/// second time while a report of it may be under way.
#[derive(Debug)]
pub(super) struct TxStamper {
    /// `SOF_TIMESTAMPING_…` of the socket.
    options: u32,
    request: Request,
    keys: Keys,
    /// The kernel takes our keys; it is taken to until it says no.
    own_keys: bool,
    /// It has taken one: from then on EINVAL is of something else.
    took_one: bool,
    /// The reports that each datagram has: of the kernel's clock, of the card's.
    kinds: [bool; 2],
    /// The kernel has begun to count anew: until then reports may be of datagrams before, with keys that are given out again.
    muted: Option<Time<Monotonic>>,
    /// Where the kernel counts: until then a report may come that others have overtaken.
    gap_until: Option<Time<Monotonic>>,
    /// What came before a refused send was made up for, not yet collected.
    stash: Vec<TxStamp>,
    control: Box<Aligned>,
    /// Reports of datagrams that nobody sent, or without a stamp.
    strange: u64,
}

/// Room for control messages, aligned as they are.
#[derive(Debug)]
#[repr(align(8))]
pub(super) struct Aligned(pub(super) [u8; ROOM]);

impl TxStamper {
    /// Switches stamping on for a socket that is to ask for some; `receives`: for datagrams that come in, too.
    ///
    /// # Errors
    /// [`NetError::Socket`] where the kernel has no such stamping.
    pub(super) fn new(socket: BorrowedFd<'_>, wishes: StampWishes, receives: bool) -> Result<Self, NetError> {
        Self::from_token(0, socket, wishes, receives)
    }

    /// The same, with tokens from `first` up: for a path with more than one such socket.
    ///
    /// # Errors
    /// As [`TxStamper::new`].
    pub(super) fn from_token(
        first: u64,
        socket: BorrowedFd<'_>,
        wishes: StampWishes,
        receives: bool,
    ) -> Result<Self, NetError> {
        let mut report =
            libc::SOF_TIMESTAMPING_SOFTWARE | libc::SOF_TIMESTAMPING_OPT_ID | libc::SOF_TIMESTAMPING_OPT_TSONLY;
        let mut ask = libc::SOF_TIMESTAMPING_TX_SOFTWARE;
        if receives {
            report |= libc::SOF_TIMESTAMPING_RX_SOFTWARE;
        }
        if wishes.hardware {
            report |= libc::SOF_TIMESTAMPING_RAW_HARDWARE | libc::SOF_TIMESTAMPING_OPT_TX_SWHW;
            ask |= libc::SOF_TIMESTAMPING_TX_HARDWARE;
            if receives {
                report |= libc::SOF_TIMESTAMPING_RX_HARDWARE;
            }
        }
        let stamper = Self {
            options: report,
            request: Request::new(ask),
            keys: Keys::from(first),
            own_keys: true,
            took_one: false,
            kinds: [wishes.software, wishes.hardware],
            muted: None,
            gap_until: None,
            stash: Vec::with_capacity(STASH),
            control: Box::new(Aligned([0; ROOM])),
            strange: 0,
        };
        stamper.resume(socket)?;
        Ok(stamper)
    }

    /// Switches on what [`TxStamper::rest`] has switched off.
    ///
    /// # Errors
    /// As [`TxStamper::new`].
    pub(super) fn resume(&self, socket: BorrowedFd<'_>) -> Result<(), NetError> {
        self.set(socket, self.options).map_err(|answer| {
            let attempt =
                "switch time stamps on for a socket (SO_TIMESTAMPING); --timestamps application needs none".to_owned();
            NetError::Socket { attempt, answer }
        })?;
        if self.options & RECEIVED != 0 {
            std::thread::sleep(SETTLING);
        }
        // As much as may be had; what does not fit is counted as missed, like any other stamp that does not come.
        if socket::set_option(socket, libc::SOL_SOCKET, libc::SO_RCVBUFFORCE, ERROR_QUEUE).is_err() {
            let _ = socket::set_option(socket, libc::SOL_SOCKET, libc::SO_RCVBUF, ERROR_QUEUE);
        }
        Ok(())
    }

    /// What is received is stamped no more, as that costs time with each datagram. Reports go on: with `OPT_ID` off, those that
    /// are under way would come all the same, each with the key 0 (`__skb_complete_tx_timestamp`, net/core/skbuff.c), and
    /// the kernel would count anew behind it.
    pub(super) fn rest(&self, socket: BorrowedFd<'_>) {
        // Less than what was granted is not refused.
        let _ = self.set(socket, self.options & !RECEIVED);
    }

    fn set(&self, socket: BorrowedFd<'_>, options: u32) -> io::Result<()> {
        socket::set_option(socket, libc::SOL_SOCKET, libc::SO_TIMESTAMPING, options as i32)
    }

    /// From now on the kernel counts, as those before 6.13 do.
    #[cfg(test)]
    pub(super) fn refuse_own_keys(&mut self) {
        self.own_keys = false;
    }

    /// As on a kernel before 6.13: our keys are of a kind that it does not know.
    #[cfg(test)]
    pub(super) fn make_keys_unknown(&mut self) {
        self.request.make_key_unknown();
    }

    /// As after a datagram whose stamp does not come.
    #[cfg(test)]
    pub(super) fn pretend_one_is_under_way(&mut self) {
        self.keys.used();
    }

    /// Sends once, and asks for stamps.
    ///
    /// # Errors
    /// What the kernel answered.
    #[inline]
    pub(super) fn send(&mut self, socket: BorrowedFd<'_>, data: &[u8], to: Option<SocketAddrV4>) -> io::Result<Token> {
        let token = self.keys.next();
        let control = match self.own_keys {
            true => self.request.with_key(self.keys.key()),
            false => self.request.without_key(),
        };
        match socket::send(socket, data, to, control) {
            Ok(()) => {
                self.keys.used();
                self.took_one = true;
                Ok(token)
            }
            Err(error) => self.refused(error, socket, data, to),
        }
    }

    #[cold]
    fn refused(
        &mut self,
        error: io::Error,
        socket: BorrowedFd<'_>,
        data: &[u8],
        to: Option<SocketAddrV4>,
    ) -> io::Result<Token> {
        match error.raw_os_error() {
            // An unknown control message. With keys of the kernel's it starts counting with this datagram, as we do: keys may be
            // used up by then, as a link that is down is told before control messages are read (packet_snd,
            // net/packet/af_packet.c).
            Some(libc::EINVAL) if self.own_keys && !self.took_one => {
                self.own_keys = false;
                self.count_anew(socket)?;
                self.send(socket, data, to)
            }
            // Whether the kernel has counted it depends on the kernel and on where it was refused (__ip_append_data,
            // net/ipv4/ip_output.c; packet_snd, net/packet/af_packet.c): it is made to begin anew.
            _ if !self.own_keys => {
                // What has come already is no longer under way.
                let mut stash = std::mem::take(&mut self.stash);
                let read = self.read(socket, &mut stash, STASH);
                self.stash = stash;
                read?;
                self.count_anew(socket)?;
                Err(error)
            }
            // A frame that a queue dropped may have been stamped: no other bears its key.
            _ => {
                self.keys.used();
                Err(error)
            }
        }
    }

    /// Switches counting off and on, which sets it to 0 (`sock_set_timestamping`, `net/core/sock.c`). Where stamps are under
    /// way, they and those of the next moment are missed: nobody could tell whose they are.
    #[cold]
    fn count_anew(&mut self, socket: BorrowedFd<'_>) -> io::Result<()> {
        for options in [self.options & !libc::SOF_TIMESTAMPING_OPT_ID, self.options] {
            self.set(socket, options)?;
        }
        let now = monotonic_now();
        if !self.keys.is_told(self.kinds) || self.gap_until.is_some_and(|until| now < until) {
            self.muted = Some(now.plus(MUTE));
        }
        self.keys.restart();
        Ok(())
    }

    /// Adds the stamps that have come to `stamps`, up to [`BATCH`].
    ///
    /// # Errors
    /// What the kernel answered, or that its keys stand still.
    #[inline]
    pub(super) fn collect(&mut self, socket: BorrowedFd<'_>, stamps: &mut Vec<TxStamp>) -> io::Result<()> {
        if !self.stash.is_empty() {
            let room = BATCH.saturating_sub(stamps.len()).min(self.stash.len());
            stamps.extend(self.stash.drain(..room));
        }
        self.read(socket, stamps, BATCH)
    }

    /// Reads the error queue until there are `limit` stamps, or it is empty.
    #[inline]
    fn read(&mut self, socket: BorrowedFd<'_>, stamps: &mut Vec<TxStamp>, limit: usize) -> io::Result<()> {
        while stamps.len() < limit {
            let arrival = match socket::receive(socket, &mut [], &mut self.control.0, libc::MSG_ERRQUEUE) {
                Ok(arrival) => arrival,
                Err(error) => return passing(error),
            };
            if self.muted.is_some() && self.is_muted() {
                continue;
            }
            match control::report(&self.control.0[..arrival.control_len]) {
                Some(report) => match self.keys.token(&report).map_err(io::Error::other)? {
                    Some(token) => stamps.push(TxStamp { token, stamp: report.stamp }),
                    None => self.strange += 1,
                },
                // An ICMP error of an earlier datagram is no report.
                None if control::is_icmp(&self.control.0[..arrival.control_len]) => {}
                None => self.strange += 1,
            }
            if !self.own_keys && self.keys.take_gap() {
                self.gap_until = Some(monotonic_now().plus(MUTE));
            }
        }
        Ok(())
    }

    #[cold]
    fn is_muted(&mut self) -> bool {
        self.muted.take_if(|until| monotonic_now() >= *until);
        self.muted.is_some()
    }

    /// Reports that belong to no datagram, or bear no stamp.
    pub(super) const fn strange(&self) -> u64 {
        self.strange
    }

    /// The same since this was last asked.
    pub(super) const fn take_strange(&mut self) -> u64 {
        std::mem::replace(&mut self.strange, 0)
    }
}

/// Nothing is there. Where the queue was too full for a stamp the kernel has dropped it, which is missed where it is waited
/// for; ENOBUFS would say no more.
#[cold]
fn passing(error: io::Error) -> io::Result<()> {
    match error.raw_os_error() {
        Some(libc::EAGAIN | libc::EINTR | libc::ENOBUFS) => Ok(()),
        // An error of the interface or of an earlier datagram, which has no other way to be told.
        Some(libc::ENETDOWN | libc::ECONNREFUSED | libc::EHOSTUNREACH) => Ok(()),
        _ => Err(io::Error::new(error.kind(), format!("cannot read transmit stamps from the error queue: {error}"))),
    }
}
