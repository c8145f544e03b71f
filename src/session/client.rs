//! The client: asks for a session, repeats its SYN until it is answered, then pings or echoes.

use super::conversation::{Conversation, Outbox, Retry, Side, Terms};
use super::{Action, Body, CONNECTING_REPORT, Direction, End, Event, Machine, Probe, Settings, TimerKind, Totals};
use crate::clock::{Monotonic, Time};
use crate::wire::{Kind, Message, Point, RawSettings};
use std::net::SocketAddrV4;
use std::sync::Arc;
use std::time::Duration;

/// What a client is to do.
#[derive(Debug, Clone)]
pub struct ClientConfig {
    /// Where the server listens.
    pub server: SocketAddrV4,
    /// What the session does. The SYN carries these; a schedule does not change them.
    pub settings: Settings,
    /// The pings of this side, in place of delay, ping size and count.
    pub schedule: Option<Arc<[Probe]>>,
    /// Dummies behind each ping and pong of this side.
    pub dummies: u32,
    /// How long nothing may be received in a session; `None` is for ever.
    pub timeout: Option<Duration>,
    /// How long the SYN may stay unanswered; `None` is for ever, as in nanoprobe.
    pub connect_timeout: Option<Duration>,
}

/// The client side of a session.
#[derive(Debug)]
pub struct Client {
    config: ClientConfig,
    state: State,
    outbox: Outbox,
}

#[derive(Debug)]
enum State {
    Connecting { retry: Retry, report: Time<Monotonic> },
    Talking(Conversation),
    Over,
}

impl Client {
    /// A client whose first SYN is due at `now`: it is the first action.
    pub fn new(now: Time<Monotonic>, config: ClientConfig) -> Self {
        let state = State::Connecting { retry: Retry::first(now), report: now.plus(CONNECTING_REPORT) };
        let mut client = Self { config, state, outbox: Outbox::new() };
        client.send_syn();
        client
    }

    fn send_syn(&mut self) {
        let body = Body::Settings(self.config.settings.to_raw());
        self.outbox.send(self.config.server, Kind::Syn, 0, body, None);
    }

    fn connected(&mut self, now: Time<Monotonic>) {
        let config = &self.config;
        let terms = Terms {
            side: Side::Client,
            peer: config.server,
            settings: config.settings,
            schedule: config.schedule.clone(),
            dummies: config.dummies,
            timeout: config.timeout,
        };
        self.outbox.tell(Event::Connected { peer: config.server, settings: config.settings });
        self.state = State::Talking(Conversation::begin(now, terms, &mut self.outbox));
    }

    fn give_up(&mut self, end: End) {
        self.outbox.tell(Event::Finished(end));
        self.state = State::Over;
    }
}

impl Machine for Client {
    fn handle_datagram(
        &mut self,
        now: Time<Monotonic>,
        from: SocketAddrV4,
        message: Message,
        _settings: Option<RawSettings>,
    ) -> Option<Point> {
        self.outbox.totals.received += 1;
        if from != self.config.server {
            // Dummies leave from another port of the server's.
            let dummy = message.kind == Kind::Dummy && from.ip() == self.config.server.ip();
            match &mut self.state {
                State::Talking(conversation) if dummy => conversation.heard(now),
                _ => self.outbox.totals.foreign += 1,
            }
            return None;
        }
        match (&mut self.state, message.kind) {
            (State::Connecting { .. }, Kind::SynAck) => self.connected(now),
            (State::Connecting { .. }, Kind::SynRst) => self.give_up(End::Rejected),
            // A server that pings, or is even done with it, has accepted: every SYN-ACK may have been lost.
            (State::Connecting { .. }, Kind::Ping | Kind::Fin)
                if self.config.settings.direction == Direction::Reverse =>
            {
                self.connected(now);
                if let State::Talking(conversation) = &mut self.state {
                    return conversation.handle(now, message, &mut self.outbox);
                }
            }
            (State::Talking(conversation), _) => return conversation.handle(now, message, &mut self.outbox),
            _ => self.outbox.totals.unexpected += 1,
        }
        None
    }

    fn handle_deadline(&mut self, now: Time<Monotonic>) {
        match &mut self.state {
            State::Connecting { retry, report } => {
                let waited = now.duration_since(retry.since);
                if self.config.connect_timeout.is_some_and(|limit| waited >= limit) {
                    return self.give_up(End::NoAnswer { waited });
                }
                if now >= *report {
                    *report = now.plus(CONNECTING_REPORT);
                    self.outbox.tell(Event::StillConnecting { waited });
                }
                if retry.is_due(now) {
                    self.send_syn();
                }
            }
            State::Talking(conversation) => conversation.handle_deadline(now, &mut self.outbox),
            State::Over => {}
        }
    }

    fn handle_stop(&mut self, now: Time<Monotonic>) {
        match &mut self.state {
            State::Connecting { .. } => self.give_up(End::StoppedConnecting),
            State::Talking(conversation) => conversation.handle_stop(now, &mut self.outbox),
            State::Over => {}
        }
    }

    fn poll_action(&mut self) -> Option<Action> {
        self.outbox.pop()
    }

    fn deadline(&self) -> Option<Time<Monotonic>> {
        match &self.state {
            State::Connecting { retry, report } => {
                let next = retry.next.min(*report);
                Some(match self.config.connect_timeout {
                    Some(limit) => next.min(retry.since.plus(limit)),
                    None => next,
                })
            }
            State::Talking(conversation) => conversation.deadline(),
            State::Over => None,
        }
    }

    fn timer(&self) -> TimerKind {
        match &self.state {
            State::Talking(conversation) => conversation.timer(),
            _ => TimerKind::Sleep,
        }
    }

    fn peer(&self) -> Option<SocketAddrV4> {
        Some(self.config.server)
    }

    fn is_over(&self) -> bool {
        match &self.state {
            State::Talking(conversation) => conversation.is_over(),
            State::Connecting { .. } => false,
            State::Over => true,
        }
    }

    fn totals(&self) -> &Totals {
        &self.outbox.totals
    }
}
