//! Who says what when: nanoprobe's client and server as state machines.
//!
//! Nothing here opens a socket, reads a clock or takes a time stamp. The caller brings the time and what was received,
//! and obeys the actions that come out:
//!
//! * [`Machine::handle_datagram`] with every datagram that reached the port; it says which row of the log it makes.
//! * [`Machine::handle_deadline`] once the time is at or past [`Machine::deadline`].
//! * [`Machine::handle_stop`] when the user wants an end (SIGINT, SIGTERM).
//! * [`Machine::poll_action`] after each of them, until it is `None`.
//!
//! `now` never runs backwards. [`Client`] and [`Server`] differ in how a session begins and in what follows it; what lies
//! between, pinging and echoing in the three directions, is one type for both.
#![forbid(unsafe_code)]

mod client;
mod conversation;
mod hall;
mod load;
mod pinger;
mod rate;
mod sampling;
mod server;
mod settings;
mod totals;
mod turns;

pub use client::{Client, ClientConfig};
pub use hall::{Hall, HallConfig, MAX_CLIENTS};
pub use load::{CATCH_UP_NANOS, LOAD_BATCH, Pattern};
pub use rate::{Rate, wire_bits};
pub use sampling::{DEFAULT_STAMP_TIMEOUT, STAMP_SPACING, Sampling};
pub use server::{Offers, Server, ServerConfig};
pub use settings::{
    Correction, Direction, MAX_COUNT_S, MAX_DELAY_US, MAX_PONG_EVERY, Probe, Settings, TimerKind, default_timer,
};
pub use totals::{LATE_NANOS, Totals};
pub use turns::{LOOKS_AHEAD, SERVED_AT_ONCE, Turns, WAITING_ROOM};

use crate::clock::{Monotonic, Time};
use crate::wire::account::{self, Account};
use crate::wire::extension;
use crate::wire::in_band::InBand;
use crate::wire::ptp::{Shape, Transport};
use crate::wire::{
    Extension, HEADER_LEN, Kind, MIN_IP_LEN, Message, Point, RawSettings, SETTINGS_LEN, ServePath, UDP_IP_HEADERS,
};
use std::net::SocketAddrV4;
use std::time::Duration;

/// From the first SYN or FIN to its repetition.
pub const FIRST_RETRY: Duration = Duration::from_millis(50);
/// Between further repetitions of a SYN or FIN.
pub const NEXT_RETRY: Duration = Duration::from_millis(500);
/// What a reverse server waits before its first ping, and a duplex client: an original peer changes its threads then.
pub const TURNAROUND: Duration = Duration::from_secs(1);
/// How long either side of a duplex session goes on receiving when its own pings are done.
pub const SETTLE: Duration = Duration::from_secs(1);
/// How long a pinging side whose FIN is answered waits for pongs that are missing.
pub const STRAGGLERS: Duration = Duration::from_millis(50);
/// How long the side that answered a FIN stays to answer it again: the FINs at 50, 550 and 1050 ms fall into it.
pub const LINGER: Duration = Duration::from_millis(1200);
/// How long a `--keep` server remembers a client whose session is over: a FIN that it answered is answered again, and
/// a late copy of the SYN opens no session.
pub const REMEMBER: Duration = Duration::from_secs(5);
/// How long a client that floods goes on without hearing from its server. Then the server is not there, or the flood has
/// cut it off: either is a reason to stop.
pub const FLOOD_SILENCE: Duration = Duration::from_secs(1);
/// From the end of a flood to the FIN: what queues on the way still hold of it must be there before the server says what it
/// has counted.
pub const FLOOD_DRAIN: Duration = Duration::from_millis(200);
/// How long an interrupted echoing side, or a client that declines what a server accepted, waits for the answer to its FIN.
pub const GOODBYE: Duration = Duration::from_millis(200);
/// How often a client that gets no answer to its SYN says so.
pub const CONNECTING_REPORT: Duration = Duration::from_secs(5);
/// The receive time-out where none is set or it is switched off: nobody waits longer than this for a FIN-ACK.
pub const DEFAULT_TIMEOUT: Duration = Duration::from_secs(5);
/// The least receive time-out where pings travel behind PTP headers: on each side a FIN and its answer wait until what was sent before
/// them behind such headers is read, for 1 ms, and up to 1 s where more and more of that comes (`path/ptp.rs`).
pub const PTP_TIMEOUT: Duration = Duration::from_millis(10);

/// One side of a session.
pub trait Machine {
    /// Takes a datagram that came to the session's port, or behind a PTP header, and says which row of the log it makes.
    fn handle_datagram(&mut self, now: Time<Monotonic>, incoming: &Incoming) -> Option<Point>;

    /// What the path must get ready before [`Machine::handle_datagram`] is called with this SYN; what it could get ready
    /// goes into [`Incoming::granted`]. `None` for everything else, and for a SYN that will be refused anyway.
    fn wants(&self, now: Time<Monotonic>, incoming: &Incoming) -> Option<Extension>;

    /// All transmit stamps of the ping or pong with this sequence are there, or were given up; to be called where
    /// [`Sampling::awaits_stamp`] says so.
    fn handle_transmit_stamp(&mut self, sequence: u64);

    /// The pong that was handled last had come before: it stands for no other one that is still on its way.
    fn handle_repeated_pong(&mut self);

    /// Of the [`Action::Load`] obeyed last, this many dummies found no room and were not sent.
    fn handle_refused_load(&mut self, count: u32);

    /// This action was not done, or not all of it, and what `unsent` says of it will not be: the path broke down, or could not send to a
    /// stranger. Nothing of it counts as sent.
    fn handle_unsent(&mut self, unsent: &Action);

    /// Whoever hands over was stopped between `from` and `now`: what was handed over with the time `from` had come by `now`, and is no
    /// older than that. Before [`Machine::handle_deadline`], or a peer would be missed that was heard.
    fn handle_stall(&mut self, from: Time<Monotonic>, now: Time<Monotonic>);

    /// Nothing can be sent at present: the session that stands, if any, is over without a word. Whether this goes on without it, and waits
    /// for the next one.
    fn break_session(&mut self, _now: Time<Monotonic>) -> bool {
        false
    }

    /// Does what is due at `now`. Harmless when called early.
    fn handle_deadline(&mut self, now: Time<Monotonic>);

    /// The user wants an end. The first call ends the session in order; a second one at once.
    fn handle_stop(&mut self, now: Time<Monotonic>);

    /// The next thing to do, in the order in which it is to be done.
    fn poll_action(&mut self) -> Option<Action>;

    /// When [`Machine::handle_deadline`] wants to be called; `None` where only a datagram can change anything.
    fn deadline(&self) -> Option<Time<Monotonic>>;

    /// How this side wants to wait at present: busy only while a session asks for it.
    fn timer(&self) -> TimerKind;

    /// How the session that stands waits while pings may come or are due: of a server as its own user wants it, whatever the client's
    /// settings say.
    fn session_timer(&self) -> TimerKind {
        self.timer()
    }

    /// The other side of the session that stands; of a client also while it asks for one.
    fn peer(&self) -> Option<SocketAddrV4>;

    /// Nothing more will ever happen.
    fn is_over(&self) -> bool;

    /// What was counted since the session began.
    fn totals(&self) -> &Totals;
}

/// A datagram that came in.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Incoming {
    /// Who sent it: of one behind a PTP header, who the header says.
    pub from: SocketAddrV4,
    /// Its header.
    pub message: Message,
    /// The settings that a SYN carries; `None` for every other kind, and for a SYN that is too short.
    pub settings: Option<RawSettings>,
    /// The extension of a SYN or a SYN-ACK that has one.
    pub extension: Option<Extension>,
    /// What a FIN-ACK says of what its sender has counted.
    pub account: Option<Account>,
    /// What it looked like on the wire.
    pub shape: Shape,
    /// Of what [`Machine::wants`], all that the path has got ready.
    pub granted: Option<Extension>,
    /// By what number the path remembers the way to the sender, where it does: a small one, the same as long as it does, and somebody
    /// else's afterwards. Says where to look first, and nothing else.
    pub way: Option<u32>,
}

impl Incoming {
    /// nanoprobe's datagram without anything behind its header.
    pub const fn plain(from: SocketAddrV4, message: Message) -> Self {
        let (settings, extension, account, granted, way) = (None, None, None, None, None);
        Self { from, message, settings, extension, account, shape: Shape::Plain, granted, way }
    }
}

/// Something that the caller must do.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Action {
    /// Send this datagram.
    Send(Outgoing),
    /// Send this many dummies to this address, from a port other than the session's.
    Dummies {
        /// Where they go.
        to: SocketAddrV4,
        /// How many.
        count: u32,
    },
    /// Send this many dummies of a flood to this address, from a port other than the session's, as far as there is room at
    /// once: what there is no room for goes to [`Machine::handle_refused_load`]. Something may be due again at once: look at
    /// what came in before the next deadline is met.
    Load {
        /// Where they go.
        to: SocketAddrV4,
        /// How many: at most [`LOAD_BATCH`].
        count: u32,
        /// Bytes of each with the IP header.
        ip_len: u16,
    },
    /// Something happened that the user or the log should know of.
    Tell(Event),
}

// Every ping and pong is one, and is moved into the queue of actions and out of it: two cache lines.
const _: () = assert!(size_of::<Action>() <= 128);

/// A datagram to be sent.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Outgoing {
    /// Where it goes.
    pub to: SocketAddrV4,
    /// Its header.
    pub message: Message,
    /// What follows the header.
    pub body: Body,
    /// What it must look like on the wire; a ping or pong that is [`Shape::Plain`] is always to be stamped.
    pub shape: Shape,
    /// The row of the log that the sending makes.
    pub point: Option<Point>,
}

/// What follows the header of a datagram.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Body {
    /// Nothing.
    Empty,
    /// This many zeros. Behind a PTP header they are fewer by as many bytes as the size on the wire stays the same.
    Padding(u16),
    /// The settings of a SYN, and what it asks for besides.
    Settings(RawSettings, Option<Extension>),
    /// What a SYN-ACK grants.
    Extension(Extension),
    /// Of a pong that carries stamps: so many bytes in all, the stamps first, then zeros. The machine leaves the stamps open, which
    /// it does not know; the path writes t2, which is that of [`crate::path::Sent`].
    InBand {
        /// Bytes behind the header, as with [`Body::Padding`].
        padding: u16,
        /// The stamps.
        told: InBand,
    },
    /// What a FIN-ACK says of its session. The machine leaves open what it cannot know: CPU time, and what was dropped.
    Account(Account),
}

/// Bytes of the longest body that is not zeros.
pub const MAX_BODY: usize = {
    let settings = SETTINGS_LEN + extension::MAX_LEN;
    if settings > account::LEN { settings } else { account::LEN }
};

impl Body {
    /// Bytes that follow the header.
    pub const fn len(&self) -> usize {
        match self {
            Self::Empty => 0,
            Self::Padding(bytes) | Self::InBand { padding: bytes, .. } => *bytes as usize,
            Self::Settings(_, None) => SETTINGS_LEN,
            Self::Settings(_, Some(extension)) => SETTINGS_LEN + extension.len(),
            Self::Extension(extension) => extension.len(),
            Self::Account(_) => account::LEN,
        }
    }

    /// Whether nothing follows the header.
    pub const fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Writes what a SYN, a SYN-ACK or a FIN-ACK says behind its header; returns its bytes. `None` where there is nothing to say:
    /// zeros are the path's, and so is what a pong says in front of them.
    pub fn write<'a>(&self, buf: &'a mut [u8; MAX_BODY]) -> Option<&'a [u8]> {
        match self {
            Self::Empty | Self::Padding(_) | Self::InBand { .. } => return None,
            Self::Settings(settings, extension) => {
                let (front, behind) = buf.split_at_mut(SETTINGS_LEN);
                front.copy_from_slice(&settings.to_bytes());
                if let Some(extension) = extension {
                    extension.write(behind);
                }
            }
            Self::Extension(extension) => {
                extension.write(buf);
            }
            Self::Account(account) => buf[..account::LEN].copy_from_slice(&account.to_bytes()),
        }
        Some(&buf[..self.len()])
    }
}

impl Outgoing {
    /// Bytes of UDP payload.
    pub const fn payload_len(&self) -> u16 {
        (HEADER_LEN + self.body.len()) as u16
    }

    /// Bytes of the IP packet: what the log calls its size. Of PTP over Ethernet the bytes of the Ethernet payload.
    pub const fn ip_len(&self) -> u16 {
        UDP_IP_HEADERS + self.payload_len()
    }
}

/// The IP length of a ping or pong with this much padding, at most 65,535: a SYN may ask for more than there is.
pub const fn ip_len(padding: u16) -> u16 {
    MIN_IP_LEN.saturating_add(padding)
}

/// Something that the user or the log should know of.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Event {
    /// A client has had no answer to its SYNs for this long.
    StillConnecting {
        /// Since the first SYN.
        waited: Duration,
    },
    /// The session stands: a server accepted this client, or a client was accepted by this server.
    Connected {
        /// The other side.
        peer: SocketAddrV4,
        /// What the session does.
        settings: Settings,
    },
    /// A server put a value of the client's right.
    Corrected(Correction),
    /// The other side is done and said so.
    Disconnected,
    /// A server has a session and refused this one.
    Refused {
        /// Who asked.
        from: SocketAddrV4,
    },
    /// A server refused a client because its pings or pongs would not fit into one frame.
    RefusedSize {
        /// Who asked.
        from: SocketAddrV4,
        /// The IP length asked for.
        ip_len: u16,
        /// The largest that fits.
        limit: u16,
    },
    /// A server refused a client that asks for pings and pongs behind PTP headers.
    RefusedPtp {
        /// Who asked.
        from: SocketAddrV4,
        /// What was to carry them.
        transport: Transport,
        /// Why not.
        why: PtpRefusal,
    },
    /// A server whose card stamps nothing but PTP messages on receipt refused a client that did not ask for them.
    RefusedPlain {
        /// Who asked.
        from: SocketAddrV4,
    },
    /// A server cannot serve this client on the path that it asks for; the path has said why.
    RefusedPath {
        /// Who asked.
        from: SocketAddrV4,
        /// What for.
        path: ServePath,
    },
    /// A server of many clients has no place for another one.
    RefusedFull {
        /// Who asked.
        from: SocketAddrV4,
        /// How many it serves at once.
        clients: u16,
    },
    /// A server of many clients does not do what this one asks for.
    RefusedShared {
        /// Who asked.
        from: SocketAddrV4,
        /// What for, as in "it asks …".
        what: &'static str,
    },
    /// A client sent more dummies than it had been granted.
    LoadExceeded {
        /// Who.
        from: SocketAddrV4,
        /// Dummies a second that were granted.
        granted: u64,
        /// Dummies that came.
        received: u64,
        /// From the first to the last of them.
        within: Duration,
    },
    /// A datagram that is no SYN came from somebody who has no session here, or a SYN was too short.
    Ignored {
        /// Who sent it.
        from: SocketAddrV4,
        /// What it says it is.
        kind: Kind,
    },
    /// The session is over and its statistics are due.
    Finished(End),
}

impl Event {
    /// Whether a server has refused a client with it.
    pub const fn is_refusal(&self) -> bool {
        matches!(
            self,
            Self::Refused { .. }
                | Self::RefusedSize { .. }
                | Self::RefusedPtp { .. }
                | Self::RefusedPlain { .. }
                | Self::RefusedPath { .. }
                | Self::RefusedFull { .. }
                | Self::RefusedShared { .. }
        )
    }
}

/// Why a server cannot have its pings and pongs behind PTP headers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum PtpRefusal {
    /// Its path does not offer this transport.
    NotOffered,
    /// Its path offers the transport, but could not get it ready; the path has said why.
    NotReady,
    /// Its own schedule has a ping that does not hold a PTP header.
    Schedule {
        /// The smallest ping of the schedule.
        ip_len: u16,
    },
}

/// How a session ended.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum End {
    /// As planned.
    Complete,
    /// The user ended it.
    Stopped,
    /// The user ended it before there was a session.
    StoppedConnecting,
    /// The server refused: it is busy with another client, or cannot do what was asked for.
    Rejected,
    /// The server accepted, but did not agree to what the session cannot do without: it knows no extension, or not this.
    NotAgreed {
        /// The server.
        server: SocketAddrV4,
        /// What it did not grant of what was asked for.
        missing: Extension,
    },
    /// The server answered no SYN.
    NoAnswer {
        /// Since the first SYN.
        waited: Duration,
    },
    /// Nothing was received for this long.
    TimedOut {
        /// The time-out.
        after: Duration,
    },
    /// The server fell silent while it was flooded, and the flood was stopped.
    FloodUnanswered {
        /// How long nothing was received.
        after: Duration,
    },
    /// The FIN was not answered.
    FinUnanswered {
        /// Since the first FIN.
        waited: Duration,
    },
    /// The other side was stopped by its user.
    PeerStopped,
    /// The path broke down: no machine says this, but whoever runs one.
    Broken,
}

impl End {
    /// Whether the measurement did what was asked for: as planned, or until the user ended it.
    pub const fn is_success(self) -> bool {
        matches!(self, Self::Complete | Self::Stopped)
    }
}
