//! A ping or pong at one point, with every stamp that it got there: what the hot loop hands to the log.

use crate::clock::{Phc, Realtime, Source, Stamp, Time};
use crate::wire::Point;

/// All that is known of one ping or pong at one point. A stamp that is not there is `None`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Sighting {
    /// The sequence of the ping or pong.
    pub sequence: u64,
    /// Where it was seen.
    pub point: Point,
    /// Bytes of the IP packet (of PTP over Ethernet: of the Ethernet payload).
    pub size: u16,
    /// The receive or transmit queue of the AF_XDP socket; `None` where it went through a kernel socket.
    pub queue: Option<u32>,
    /// This process: just before the hand-over, or just after it was read.
    pub application: Time<Realtime>,
    /// The kernel: at the driver or, on the xdp path, at the hook.
    pub software: Option<Time<Realtime>>,
    /// The network card.
    pub hardware: Option<Time<Phc>>,
}

impl Sighting {
    /// The stamp of one source, if it is there.
    pub const fn stamp(&self, source: Source) -> Option<Stamp> {
        match source {
            Source::Application => Some(Stamp::System(self.application)),
            Source::Software => match self.software {
                Some(time) => Some(Stamp::System(time)),
                None => None,
            },
            Source::Hardware => match self.hardware {
                Some(time) => Some(Stamp::Card(time)),
                None => None,
            },
        }
    }
}
