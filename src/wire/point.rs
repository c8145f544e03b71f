//! The names of the moments at which a ping or a pong is seen: nanoprobe's `timestamp-idx`.

use std::fmt;

/// A moment in the life of one ping or pong.
///
/// In forward and reverse sessions t0 to t3 follow the ping, whichever side sends it. In duplex sessions both sides
/// ping and nobody pongs, so that a suffix tells the direction: `cs` client to server, `sc` server to client.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Point {
    /// A ping is sent.
    T0,
    /// A ping is received.
    T1,
    /// A pong is sent.
    T2,
    /// A pong is received.
    T3,
    /// Duplex: the client sends a ping.
    T0cs,
    /// Duplex: the server receives the client's ping.
    T1cs,
    /// Duplex: the server sends a ping.
    T0sc,
    /// Duplex: the client receives the server's ping.
    T1sc,
}

impl Point {
    /// The name in the log.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::T0 => "t0",
            Self::T1 => "t1",
            Self::T2 => "t2",
            Self::T3 => "t3",
            Self::T0cs => "t0cs",
            Self::T1cs => "t1cs",
            Self::T0sc => "t0sc",
            Self::T1sc => "t1sc",
        }
    }

    /// Whether a packet leaves here; else it arrives.
    pub const fn is_sending(self) -> bool {
        matches!(self, Self::T0 | Self::T2 | Self::T0cs | Self::T0sc)
    }

    /// Whether it is a ping that is sent or received there, and no pong.
    pub const fn is_ping(self) -> bool {
        !matches!(self, Self::T2 | Self::T3)
    }
}

impl fmt::Display for Point {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}
