//! A path that brings what a test has laid out, and stamps when the test says so.
#![forbid(unsafe_code)]

use crate::clock::{Monotonic, Time, realtime_now};
use crate::net::NetError;
use crate::path::{
    Batch, Counters, Description, InterfaceGone, Path, Received, RxStamps, Sent, StampWishes, Token, TxStamp,
};
use crate::session::{Outgoing, ServerConfig, Settings};
use crate::wire::ptp::Shape;
use crate::wire::{Extension, Kind, MIN_IP_LEN, Message, Said};
use std::collections::VecDeque;
use std::io;
use std::net::{Ipv4Addr, SocketAddrV4};
use std::os::fd::BorrowedFd;

/// Who has the session.
pub(super) const PEER: SocketAddrV4 = SocketAddrV4::new(Ipv4Addr::new(192, 0, 2, 1), 4711);
/// Who has none.
pub(super) const STRANGER: SocketAddrV4 = SocketAddrV4::new(Ipv4Addr::new(192, 0, 2, 3), 4712);

/// A server that serves one session after the other, and waits for ever; what it sends is not to be larger than Ethernet carries.
pub(super) fn any_server() -> ServerConfig {
    ServerConfig { keep: true, max_ip_len: Some(1500), ..ServerConfig::plain(None) }
}

/// A datagram as it is to come.
pub(super) type ToCome = (SocketAddrV4, Message, Option<Said>);

/// A SYN that asks for this.
pub(super) fn syn(from: SocketAddrV4, settings: Settings) -> ToCome {
    let said = Said::Settings(settings.to_raw(), settings.extension());
    (from, Message { kind: Kind::Syn, sequence: 0 }, Some(said))
}

/// A ping of the peer's.
pub(super) fn ping(sequence: u64) -> ToCome {
    (PEER, Message { kind: Kind::Ping, sequence }, None)
}

/// Brings one datagram at each look.
#[derive(Debug, Default)]
pub(super) struct Scripted {
    pub(super) to_come: VecDeque<ToCome>,
    /// Stamps that have come.
    pub(super) stamps: Vec<TxStamp>,
    /// What is sent waits in a ring for the next flush; no stamps come of it.
    pub(super) has_ring: bool,
    /// So many datagrams leave, and no further one does; `None` is without limit.
    pub(super) leave: Option<u64>,
    /// What waits in the ring and does not count as sent, as it was told when sending had failed.
    pub(super) uncounted: Option<u64>,
    /// The way to this one is not known.
    pub(super) unknown: Option<SocketAddrV4>,
    /// The interface is not there any more.
    pub(super) is_gone: bool,
    /// How many stamps are to come, or came.
    pub(super) sent: u64,
}

impl Scripted {
    /// A SYN with the defaults, and a ping.
    pub(super) fn session_with_a_ping() -> Self {
        Self { to_come: [syn(PEER, Settings::default()), ping(1)].into(), ..Self::default() }
    }

    fn find(&self, to: SocketAddrV4) -> io::Result<()> {
        if self.unknown == Some(to) { Err(io::ErrorKind::HostUnreachable.into()) } else { Ok(()) }
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
        self.find(outgoing.to)?;
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
        for sent in 0..count {
            match self.let_leave() {
                Err(error) if sent == 0 => return Err(error),
                Err(_) => return Ok(sent),
                Ok(()) => {}
            }
        }
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
        if let Some((from, message, said)) = self.to_come.pop_front() {
            let (shape, ip_len) = (Shape::Plain, MIN_IP_LEN);
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

    fn check_interface(&self) -> Result<(), InterfaceGone> {
        if self.is_gone { Err(InterfaceGone { interface: "eth7".to_owned() }) } else { Ok(()) }
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
