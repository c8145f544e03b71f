//! The packet socket beside the AF_XDP sockets: what is to have a transmit stamp leaves through it, as AF_XDP brings none
//! back.
//!
//! It sends whole Ethernet frames past the queueing discipline and receives nothing.
#![forbid(unsafe_code)]

use super::socket;
use super::stamper::TxStamper;
use super::{SendError, StampWishes, Token, TxStamp};
use crate::clock::{Realtime, Time, monotonic_now, realtime_now};
use crate::net::NetError;
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::time::Duration;

/// `PACKET_QDISC_BYPASS`, `include/uapi/linux/if_packet.h`.
const PACKET_QDISC_BYPASS: i32 = 20;
/// Between two attempts.
const PAUSE: Duration = Duration::from_micros(20);
/// How long the kernel may have no room before sending fails.
const PATIENCE: Duration = Duration::from_secs(1);

/// An open companion.
#[derive(Debug)]
pub(super) struct Companion {
    socket: OwnedFd,
    stamper: TxStamper,
    retries: u64,
}

impl Companion {
    /// Opens it on an interface. Needs CAP_NET_RAW.
    ///
    /// # Errors
    /// [`NetError::Socket`].
    pub(super) fn open(interface: &str, if_index: u32, wishes: StampWishes) -> Result<Self, NetError> {
        let failed = |answer| NetError::Socket {
            attempt: format!(
                "open a packet socket on {interface} for frames with a transmit stamp (--tx xsk does without, and has the \
                 time of the hand-over instead)"
            ),
            answer,
        };
        let socket = socket::packet_socket(if_index, 0).map_err(failed)?;
        socket::set_option(socket.as_fd(), libc::SOL_PACKET, PACKET_QDISC_BYPASS, 1).map_err(failed)?;
        let stamper = TxStamper::new(socket.as_fd(), wishes, false)?;
        Ok(Self { socket, stamper, retries: 0 })
    }

    /// Sends a frame; where the kernel has no room it is asked again for up to a second. The time is that just before the
    /// call that succeeded; `finish` is told it before each call, and may write it into the frame.
    ///
    /// # Errors
    /// What the kernel answered.
    #[inline]
    pub(super) fn send(
        &mut self,
        frame: &mut [u8],
        finish: impl Fn(&mut [u8], Time<Realtime>),
    ) -> io::Result<(Time<Realtime>, Token)> {
        let application = realtime_now();
        finish(frame, application);
        match self.stamper.send(self.socket.as_fd(), frame, None) {
            Ok(token) => Ok((application, token)),
            Err(error) => self.insist(error, frame, finish),
        }
    }

    #[cold]
    fn insist(
        &mut self,
        error: io::Error,
        frame: &mut [u8],
        finish: impl Fn(&mut [u8], Time<Realtime>),
    ) -> io::Result<(Time<Realtime>, Token)> {
        let began = monotonic_now();
        let mut error = error;
        loop {
            let busy = matches!(error.raw_os_error(), Some(libc::EAGAIN | libc::ENOBUFS | libc::EBUSY | libc::EINTR));
            if !busy || monotonic_now().duration_since(began) >= PATIENCE {
                let text = format!("cannot send a frame through the packet socket beside AF_XDP: {error}");
                return Err(io::Error::new(error.kind(), SendError { answer: error.raw_os_error(), text }));
            }
            self.retries += 1;
            std::thread::sleep(PAUSE);
            let application = realtime_now();
            finish(frame, application);
            match self.stamper.send(self.socket.as_fd(), frame, None) {
                Ok(token) => return Ok((application, token)),
                Err(again) => error = again,
            }
        }
    }

    /// Adds the stamps that have come to `stamps`.
    ///
    /// # Errors
    /// As [`TxStamper::collect`].
    #[inline]
    pub(super) fn collect(&mut self, stamps: &mut Vec<TxStamp>) -> io::Result<()> {
        self.stamper.collect(self.socket.as_fd(), stamps)
    }

    /// Times that the kernel had no room.
    pub(super) const fn retries(&self) -> u64 {
        self.retries
    }

    /// Reports that belong to no frame.
    pub(super) const fn strange(&self) -> u64 {
        self.stamper.strange()
    }
}

impl AsFd for Companion {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.socket.as_fd()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::clock::Stamp;

    const SOFTWARE: StampWishes = StampWishes { software: true, hardware: false };
    /// To nobody, of an EtherType for local experiments (IEEE 802).
    const FRAME: [u8; 60] = {
        let mut frame = [0; 60];
        (frame[12], frame[13]) = (0x88, 0xb5);
        frame
    };

    fn on_loopback() -> Companion {
        let index = nix::net::if_::if_nametoindex("lo").unwrap();
        Companion::open("lo", index, SOFTWARE).unwrap()
    }

    fn send(companion: &mut Companion) -> io::Result<(Time<Realtime>, Token)> {
        companion.send(&mut FRAME.clone(), |_, _| ())
    }

    fn collected(companion: &mut Companion, count: usize) -> Vec<TxStamp> {
        let limit = monotonic_now().plus(Duration::from_secs(10));
        let mut all = Vec::new();
        while all.len() < count && monotonic_now() < limit {
            let mut stamps = Vec::new();
            companion.collect(&mut stamps).unwrap();
            all.append(&mut stamps);
        }
        all
    }

    fn all_that_is_there(companion: &mut Companion) -> Vec<TxStamp> {
        let mut all = Vec::new();
        loop {
            let mut stamps = Vec::new();
            companion.collect(&mut stamps).unwrap();
            if stamps.is_empty() {
                return all;
            }
            all.append(&mut stamps);
        }
    }

    #[test]
    fn every_frame_gets_its_own_stamp_whoever_counts() {
        for own_keys in [true, false] {
            let mut companion = on_loopback();
            if !own_keys {
                companion.stamper.refuse_own_keys();
            }
            let sent: Vec<_> = (0..100).map(|_| send(&mut companion).unwrap()).collect();
            let after = realtime_now();
            let stamps = collected(&mut companion, 100);
            assert_eq!(stamps.len(), 100, "own keys: {own_keys}");
            for (at, (application, token)) in sent.iter().enumerate() {
                assert_eq!(*token, Token(at as u64));
                let of_it: Vec<_> = stamps.iter().filter(|stamp| stamp.token == *token).collect();
                let [TxStamp { stamp: Stamp::System(time), .. }] = of_it[..] else { panic!("{of_it:?}") };
                assert!(application <= time && *time <= after, "{application} {time} {after}");
            }
            assert_eq!(companion.strange(), 0);
        }
    }

    #[test]
    fn a_frame_that_is_refused_shifts_no_stamp() {
        for own_keys in [true, false] {
            let mut companion = on_loopback();
            if !own_keys {
                companion.stamper.refuse_own_keys();
            }
            for count in [1, 2, 3] {
                let sent: Vec<_> = (0..count).map(|_| send(&mut companion).unwrap()).collect();
                let stamps = collected(&mut companion, count);
                for (application, token) in sent {
                    let of_it: Vec<_> = stamps.iter().filter(|stamp| stamp.token == token).collect();
                    let [TxStamp { stamp: Stamp::System(time), .. }] = of_it[..] else { panic!("{of_it:?}") };
                    assert!(application <= *time, "own keys: {own_keys}");
                }
                // Longer than any packet: EMSGSIZE.
                companion.send(&mut [0; 1 << 17], |_, _| ()).unwrap_err();
            }
            assert_eq!(companion.strange(), 0);
        }
    }

    #[test]
    fn where_the_kernel_counts_a_refusal_costs_the_stamps_that_are_under_way_and_no_others() {
        let mut companion = on_loopback();
        companion.stamper.refuse_own_keys();
        // Loopback stamps at once: nothing is under way, and what was not collected yet is kept.
        let tokens: Vec<Token> = (0..100)
            .map(|_| {
                let (_, token) = send(&mut companion).unwrap();
                companion.send(&mut [0; 1 << 17], |_, _| ()).unwrap_err();
                token
            })
            .collect();
        let stamps: Vec<Token> = collected(&mut companion, 100).iter().map(|stamp| stamp.token).collect();
        assert_eq!(stamps, tokens);
        // As if there had been another datagram, whose stamp is under way.
        companion.stamper.pretend_one_is_under_way();
        companion.send(&mut [0; 1 << 17], |_, _| ()).unwrap_err();
        // Nobody can tell yet whose stamps come: they are let go.
        send(&mut companion).unwrap();
        assert_eq!(all_that_is_there(&mut companion), []);
        std::thread::sleep(Duration::from_millis(101));
        // The first that comes behind those tells that some are missing: for a moment a refusal is as costly.
        send(&mut companion).unwrap();
        assert_eq!(collected(&mut companion, 1).len(), 1);
        companion.send(&mut [0; 1 << 17], |_, _| ()).unwrap_err();
        send(&mut companion).unwrap();
        assert_eq!(all_that_is_there(&mut companion), []);
        std::thread::sleep(Duration::from_millis(101));
        send(&mut companion).unwrap();
        assert_eq!(collected(&mut companion, 1).len(), 1);
        std::thread::sleep(Duration::from_millis(101));
        // Then all is as before.
        companion.send(&mut [0; 1 << 17], |_, _| ()).unwrap_err();
        let (_, token) = send(&mut companion).unwrap();
        assert_eq!(collected(&mut companion, 1)[0].token, token);
    }

    #[test]
    fn keys_go_on_over_a_rest_whoever_counts() {
        for own_keys in [true, false] {
            let mut companion = on_loopback();
            if !own_keys {
                companion.stamper.refuse_own_keys();
            }
            let mut sent: Vec<_> = (0..5).map(|_| send(&mut companion).unwrap().1).collect();
            // None is read before, so that some are of before the rest and some of behind it.
            companion.stamper.rest(companion.socket.as_fd());
            sent.push(send(&mut companion).unwrap().1);
            companion.stamper.resume(companion.socket.as_fd()).unwrap();
            sent.push(send(&mut companion).unwrap().1);
            let stamps: Vec<Token> = collected(&mut companion, 7).iter().map(|stamp| stamp.token).collect();
            assert_eq!((stamps, companion.strange()), (sent, 0), "own keys: {own_keys}");
        }
    }

    #[test]
    fn a_kernel_that_takes_no_keys_counts_also_where_something_else_was_refused_first() {
        let down_first = |down: bool| {
            // A namespace of this thread's own, whose loopback is down.
            nix::sched::unshare(nix::sched::CloneFlags::CLONE_NEWNET).unwrap();
            let mut companion = on_loopback();
            companion.stamper.make_keys_unknown();
            if down {
                let error = send(&mut companion).unwrap_err();
                let refused = error.get_ref().and_then(|error| error.downcast_ref::<SendError>()).unwrap();
                assert_eq!(refused.answer, Some(libc::ENETDOWN));
            }
            let up = std::process::Command::new("ip").args(["link", "set", "lo", "up"]).status().unwrap();
            assert!(up.success());
            if down {
                // Of what was refused a stamp may have been under way, as far as anybody could tell.
                send(&mut companion).unwrap();
                assert_eq!(all_that_is_there(&mut companion), []);
                std::thread::sleep(Duration::from_millis(101));
            }
            let sent: Vec<_> = (0..3).map(|_| send(&mut companion).unwrap().1).collect();
            let stamps: Vec<Token> = collected(&mut companion, 3).iter().map(|stamp| stamp.token).collect();
            assert_eq!((stamps, companion.strange()), (sent, 0));
        };
        for down in [false, true] {
            std::thread::spawn(move || down_first(down)).join().unwrap();
        }
    }

    #[test]
    fn an_error_queue_that_overflows_loses_stamps_and_nothing_else() {
        let mut companion = on_loopback();
        // The least that the kernel allows.
        socket::set_option(companion.as_fd(), libc::SOL_SOCKET, libc::SO_RCVBUF, 1).unwrap();
        for _ in 0..1000 {
            send(&mut companion).unwrap();
        }
        let first = all_that_is_there(&mut companion);
        assert!(!first.is_empty() && first.len() < 1000, "{} of 1000", first.len());
        // There is room again, and whose a stamp is can still be told.
        let (_, token) = send(&mut companion).unwrap();
        assert_eq!(collected(&mut companion, 1)[0].token, token);
    }

    #[test]
    fn nothing_is_received() {
        let mut companion = on_loopback();
        send(&mut companion).unwrap();
        collected(&mut companion, 1);
        let nothing = socket::receive(companion.as_fd(), &mut [0; 64], &mut [0; 64], 0);
        assert_eq!(nothing.unwrap_err().kind(), io::ErrorKind::WouldBlock);
    }
}
