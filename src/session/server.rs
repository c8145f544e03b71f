//! The server: waits for a SYN, serves one client, refuses the others; with `keep` one client after the other.

use super::conversation::{Conversation, Outbox, Side, Terms};
use super::{Action, Direction, Event, Machine, Probe, REMEMBER, Settings, TimerKind, Totals, ip_len};
use crate::clock::{Monotonic, Time};
use crate::wire::{Kind, Message, Point, RawSettings};
use std::net::SocketAddrV4;
use std::sync::Arc;
use std::time::Duration;

/// How many finished clients a `--keep` server remembers.
const REMEMBERED: usize = 16;

/// What a server is to do.
#[derive(Debug, Clone)]
pub struct ServerConfig {
    /// The pings of this side in reverse and duplex, in place of what the client asks for.
    pub schedule: Option<Arc<[Probe]>>,
    /// Dummies behind each ping and pong of this side.
    pub dummies: u32,
    /// How long nothing may be received in a session; `None` is for ever.
    pub timeout: Option<Duration>,
    /// Serve one session after the other until stopped.
    pub keep: bool,
    /// The largest IP length that this side's path can send and receive in one frame; `None` where it fragments.
    pub max_ip_len: Option<u16>,
    /// How to wait during a session, in place of what the client's settings say.
    pub timer: Option<TimerKind>,
}

/// The server side of sessions.
#[derive(Debug)]
pub struct Server {
    config: ServerConfig,
    state: State,
    outbox: Outbox,
    former: Vec<Former>,
}

/// A client whose session is over. What still comes from it is late, and no word about a new session.
#[derive(Debug)]
struct Former {
    peer: SocketAddrV4,
    /// It is remembered until then.
    until: Time<Monotonic>,
    /// Its FIN was answered: a repeated one is answered again.
    answered_fin: bool,
}

#[derive(Debug)]
enum State {
    Listening,
    Talking(Conversation),
    Over,
}

impl Server {
    /// A server that waits for its first SYN.
    pub fn new(config: ServerConfig) -> Self {
        Self { config, state: State::Listening, outbox: Outbox::new(), former: Vec::with_capacity(REMEMBERED) }
    }

    fn handle_unconnected(
        &mut self,
        now: Time<Monotonic>,
        from: SocketAddrV4,
        message: Message,
        settings: Option<RawSettings>,
    ) {
        if self.handle_former(now, from, message) {
            return;
        }
        match (message.kind, settings) {
            (Kind::Syn, Some(raw)) => self.accept(now, from, message, raw),
            (kind, _) => self.outbox.tell(Event::Ignored { from, kind }),
        }
    }

    fn accept(&mut self, now: Time<Monotonic>, from: SocketAddrV4, message: Message, raw: RawSettings) {
        let has_schedule = self.config.schedule.is_some();
        let settings = Settings::from_client(raw, has_schedule, |_| ());
        if let Some((ip_len, limit)) = self.too_large(&settings) {
            self.outbox.control(from, Kind::SynRst, message.sequence);
            self.outbox.tell(Event::RefusedSize { from, ip_len, limit });
            return;
        }
        // A new session counts from its SYN.
        self.outbox.totals = Totals { received: 1, ..Totals::default() };
        // Told first: whoever hears it may take the time to look at counters before the client begins.
        self.outbox.tell(Event::Connected { peer: from, settings });
        self.outbox.control(from, Kind::SynAck, message.sequence);
        Settings::from_client(raw, has_schedule, |correction| self.outbox.tell(Event::Corrected(correction)));
        let terms = Terms {
            side: Side::Server,
            peer: from,
            settings: Settings { timer: self.config.timer.unwrap_or(settings.timer), ..settings },
            schedule: self.config.schedule.clone(),
            dummies: self.config.dummies,
            timeout: self.config.timeout,
        };
        self.state = State::Talking(Conversation::begin(now, terms, &mut self.outbox));
    }

    /// The larger of the IP lengths that would not fit into one frame, with the limit.
    fn too_large(&self, settings: &Settings) -> Option<(u16, u16)> {
        let limit = self.config.max_ip_len?;
        // The own schedule was checked when it was read. That of the client is not in its SYN.
        let scheduled = settings.direction == Direction::Reverse && self.config.schedule.is_some();
        let ping = if scheduled { 0 } else { settings.ping_padding };
        let pong = if settings.direction == Direction::Duplex { 0 } else { settings.pong_padding };
        let largest = ip_len(ping.max(pong));
        (largest > limit).then_some((largest, limit))
    }

    /// Whether the datagram comes from a client whose session is over. All that such a one still gets is a FIN-ACK.
    fn handle_former(&mut self, now: Time<Monotonic>, from: SocketAddrV4, message: Message) -> bool {
        self.former.retain(|former| now < former.until);
        if let Some(former) = self.former.iter().find(|former| former.peer == from) {
            if message.kind == Kind::Fin && former.answered_fin {
                self.outbox.control(from, Kind::FinAck, message.sequence);
            }
            return true;
        }
        message.kind == Kind::Dummy && self.former.iter().any(|former| former.peer.ip() == from.ip())
    }

    fn handle_foreign(&mut self, from: SocketAddrV4, message: Message) {
        if message.kind == Kind::Syn {
            self.outbox.control(from, Kind::SynRst, message.sequence);
            self.outbox.tell(Event::Refused { from });
        } else {
            self.outbox.tell(Event::Ignored { from, kind: message.kind });
        }
    }

    /// Goes back to listening where a session is over and more are to come.
    fn turn_over(&mut self, now: Time<Monotonic>) {
        let State::Talking(conversation) = &self.state else { return };
        if self.config.keep && (conversation.is_lingering() || conversation.is_over()) {
            if self.former.len() == REMEMBERED {
                self.former.remove(0);
            }
            let (peer, answered_fin) = (conversation.terms.peer, conversation.has_answered_fin());
            self.former.push(Former { peer, until: now.plus(REMEMBER), answered_fin });
            self.state = State::Listening;
        } else if conversation.is_over() {
            self.state = State::Over;
        }
    }
}

impl Machine for Server {
    fn handle_datagram(
        &mut self,
        now: Time<Monotonic>,
        from: SocketAddrV4,
        message: Message,
        settings: Option<RawSettings>,
    ) -> Option<Point> {
        let State::Talking(conversation) = &mut self.state else {
            if matches!(self.state, State::Listening) {
                self.handle_unconnected(now, from, message, settings);
            }
            return None;
        };
        let peer = conversation.terms.peer;
        self.outbox.totals.received += 1;
        let mut point = None;
        if from == peer && message.kind == Kind::Syn {
            conversation.handle_repeated_syn(now, message.sequence, &mut self.outbox);
        } else if from == peer {
            point = conversation.handle(now, message, &mut self.outbox);
        } else if message.kind == Kind::Dummy && from.ip() == peer.ip() {
            // Dummies leave from another port of the client's.
            conversation.heard(now);
        } else {
            self.outbox.totals.foreign += 1;
            // A server that is about to leave neither accepts nor refuses: the next one may.
            let leaves = conversation.is_lingering();
            if !self.handle_former(now, from, message) && !leaves {
                self.handle_foreign(from, message);
            }
        }
        self.turn_over(now);
        point
    }

    fn handle_deadline(&mut self, now: Time<Monotonic>) {
        if let State::Talking(conversation) = &mut self.state {
            conversation.handle_deadline(now, &mut self.outbox);
            self.turn_over(now);
        }
    }

    fn handle_stop(&mut self, now: Time<Monotonic>) {
        match &mut self.state {
            State::Talking(conversation) => {
                conversation.handle_stop(now, &mut self.outbox);
                // Stopped is stopped: no further session is served.
                self.config.keep = false;
                self.turn_over(now);
            }
            State::Listening => self.state = State::Over,
            State::Over => {}
        }
    }

    fn poll_action(&mut self) -> Option<Action> {
        self.outbox.pop()
    }

    fn deadline(&self) -> Option<Time<Monotonic>> {
        match &self.state {
            State::Talking(conversation) => conversation.deadline(),
            State::Listening | State::Over => None,
        }
    }

    fn timer(&self) -> TimerKind {
        match &self.state {
            State::Talking(conversation) => conversation.timer(),
            _ => TimerKind::Sleep,
        }
    }

    fn peer(&self) -> Option<SocketAddrV4> {
        match &self.state {
            State::Talking(conversation) => Some(conversation.terms.peer),
            State::Listening | State::Over => None,
        }
    }

    fn is_over(&self) -> bool {
        matches!(self.state, State::Over)
    }

    fn totals(&self) -> &Totals {
        &self.outbox.totals
    }
}
