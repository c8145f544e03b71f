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
    /// Whose FIN was answered, and until when it is answered again.
    finished: Vec<(SocketAddrV4, Time<Monotonic>)>,
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
        Self { config, state: State::Listening, outbox: Outbox::new(), finished: Vec::with_capacity(REMEMBERED) }
    }

    /// The peer of the session that stands.
    pub fn peer(&self) -> Option<SocketAddrV4> {
        match &self.state {
            State::Talking(conversation) => Some(conversation.terms.peer),
            _ => None,
        }
    }

    fn handle_unconnected(
        &mut self,
        now: Time<Monotonic>,
        from: SocketAddrV4,
        message: Message,
        settings: Option<RawSettings>,
    ) {
        match (message.kind, settings) {
            (Kind::Syn, Some(raw)) => self.accept(now, from, message, raw),
            (Kind::Fin, _) if self.remembers(now, from) => {
                self.outbox.control(from, Kind::FinAck, message.sequence);
            }
            // Late datagrams of a session that is over need no word.
            (Kind::Ping | Kind::Dummy, _) if self.finished.iter().any(|(peer, _)| peer.ip() == from.ip()) => {}
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
        self.outbox.control(from, Kind::SynAck, message.sequence);
        self.outbox.tell(Event::Connected { peer: from, settings });
        Settings::from_client(raw, has_schedule, |correction| self.outbox.tell(Event::Corrected(correction)));
        self.finished.retain(|(peer, _)| *peer != from);
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
        // A client with a schedule does not send it: its pings may be larger than the SYN says.
        let own_schedule = settings.direction != Direction::Forward && self.config.schedule.is_some();
        let ping = if own_schedule { 0 } else { settings.ping_padding };
        let pong = if settings.direction == Direction::Duplex { 0 } else { settings.pong_padding };
        let largest = ip_len(ping.max(pong));
        (largest > limit).then_some((largest, limit))
    }

    fn remembers(&mut self, now: Time<Monotonic>, peer: SocketAddrV4) -> bool {
        self.finished.retain(|(_, until)| now < *until);
        self.finished.iter().any(|(finished, _)| *finished == peer)
    }

    fn handle_foreign(&mut self, from: SocketAddrV4, message: Message) {
        self.outbox.totals.foreign += 1;
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
        if self.config.keep && conversation.is_lingering() {
            if self.finished.len() == REMEMBERED {
                self.finished.remove(0);
            }
            self.finished.push((conversation.terms.peer, now.plus(REMEMBER)));
            self.state = State::Listening;
        } else if conversation.is_over() {
            self.state = if self.config.keep { State::Listening } else { State::Over };
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
        let Terms { peer, .. } = conversation.terms;
        let lingers = conversation.is_lingering();
        self.outbox.totals.received += 1;
        let mut point = None;
        if from == peer {
            match message.kind {
                // The SYN-ACK was lost.
                Kind::Syn if !lingers => {
                    conversation.heard(now);
                    self.outbox.control(from, Kind::SynAck, message.sequence);
                }
                _ => point = conversation.handle(now, message, &mut self.outbox),
            }
        } else if message.kind == Kind::Dummy && from.ip() == peer.ip() {
            conversation.heard(now);
        } else if message.kind == Kind::Fin && self.remembers(now, from) {
            self.outbox.control(from, Kind::FinAck, message.sequence);
        } else if !lingers {
            // A server that is about to leave neither accepts nor refuses: the next one may.
            self.handle_foreign(from, message);
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

    fn is_over(&self) -> bool {
        matches!(self.state, State::Over)
    }

    fn totals(&self) -> &Totals {
        &self.outbox.totals
    }
}
