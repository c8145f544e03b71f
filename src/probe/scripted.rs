//! A path that brings what a test has laid out, and stamps when the test says so.
#![forbid(unsafe_code)]

use crate::clock::{Monotonic, Time, realtime_now};
use crate::net::NetError;
use crate::path::{Batch, Counters, Description, Path, Received, RxStamps, Sent, StampWishes, Token, TxStamp};
use crate::session::{Outgoing, ServerConfig, Settings};
use crate::wire::ptp::Shape;
use crate::wire::{Extension, Kind, MIN_IP_LEN, Message, Said};
use std::collections::VecDeque;
use std::io;
use std::net::{Ipv4Addr, SocketAddrV4};
use std::os::fd::BorrowedFd;

/// Who sends everything.
pub(super) const PEER: SocketAddrV4 = SocketAddrV4::new(Ipv4Addr::new(192, 0, 2, 1), 4711);

/// A server that serves one session after the other, and waits for ever.
pub(super) fn any_server() -> ServerConfig {
    ServerConfig { keep: true, ..ServerConfig::plain(None) }
}

/// Brings one datagram at each look.
#[derive(Debug, Default)]
pub(super) struct Scripted {
    pub(super) to_come: VecDeque<(Message, Option<Said>)>,
    /// Stamps that have come.
    pub(super) stamps: Vec<TxStamp>,
    /// What is sent waits in a ring for the next flush; no stamps come of it.
    pub(super) has_ring: bool,
    /// So many datagrams leave, and no further one does; `None` is without limit.
    pub(super) leave: Option<u64>,
    /// What waits in the ring and does not count as sent, as it was told when sending had failed.
    pub(super) uncounted: Option<u64>,
    /// How many stamps are to come, or came.
    pub(super) sent: u64,
}

impl Scripted {
    /// A SYN with the defaults, and a ping.
    pub(super) fn session_with_a_ping() -> Self {
        let settings = Said::Settings(Settings::default().to_raw(), None);
        let syn = (Message { kind: Kind::Syn, sequence: 0 }, Some(settings));
        let ping = (Message { kind: Kind::Ping, sequence: 1 }, None);
        Self { to_come: [syn, ping].into(), ..Self::default() }
    }

    fn let_leave(&mut self) -> io::Result<()> {
        match &mut self.leave {
            None => {}
            Some(0) => return Err(io::ErrorKind::NetworkDown.into()),
            Some(left) => *left -= 1,
        }
        Ok(())
    }
}

impl Path for Scripted {
    fn prepare(&mut self, _: SocketAddrV4, _: Extension) -> Result<Extension, NetError> {
        Ok(Extension::default())
    }

    fn release(&mut self) {}

    fn send(&mut self, outgoing: &Outgoing) -> io::Result<Sent> {
        let application = realtime_now();
        if self.has_ring {
            return Ok(Sent { application, queue: Some(0), token: None });
        }
        self.let_leave()?;
        let token = outgoing.point.map(|_| {
            self.sent += 1;
            Token(self.sent - 1)
        });
        Ok(Sent { application, queue: None, token })
    }

    fn send_dummy(&mut self, _: SocketAddrV4) -> io::Result<()> {
        self.let_leave()
    }

    fn send_load(&mut self, _: SocketAddrV4, count: u32, _: u16) -> io::Result<u32> {
        Ok(count)
    }

    fn flush(&mut self) -> io::Result<bool> {
        if self.has_ring {
            self.let_leave()?;
        }
        Ok(false)
    }

    fn receive(&mut self, batch: &mut Batch) -> io::Result<()> {
        batch.clear();
        let stamps = RxStamps { application: realtime_now(), hook: None, software: None, hardware: None };
        if let Some((message, said)) = self.to_come.pop_front() {
            let (from, shape, ip_len) = (PEER, Shape::Plain, MIN_IP_LEN);
            batch.push(Received { from, message, shape, ip_len, queue: None, way: None, stamps }, said);
        }
        Ok(())
    }

    fn count_unsent(&mut self, uncounted: u64) {
        self.uncounted = Some(uncounted);
    }

    fn collect(&mut self, stamps: &mut Vec<TxStamp>) -> io::Result<()> {
        stamps.clear();
        stamps.append(&mut self.stamps);
        Ok(())
    }

    fn late_stamps(&self) -> StampWishes {
        StampWishes { software: true, hardware: false }
    }

    fn wait(&mut self, _: Option<Time<Monotonic>>, _: BorrowedFd<'_>) -> io::Result<()> {
        Ok(())
    }

    fn description(&self) -> Description {
        let local = SocketAddrV4::new(Ipv4Addr::new(192, 0, 2, 2), 10666);
        let queues = Vec::new();
        Description { path: "kernel", xdp_mode: None, zero_copy: None, queues, local, hook_stamps_one_in: None }
    }

    fn counters(&self) -> Counters {
        Counters::default()
    }
}
