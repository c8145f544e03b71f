//! The client: asks for a session, repeats its SYN until it is answered, then pings or echoes.

use super::conversation::{Conversation, Outbox, Retry, Side, Terms};
use super::{
    Action, Body, CONNECTING_REPORT, Direction, End, Event, GOODBYE, Incoming, Machine, Pattern, Probe, Sampling,
    Settings, TimerKind, Totals,
};
use crate::clock::{Monotonic, Time};
use crate::wire::ptp::Shape;
use crate::wire::{Extension, Kind, Point};
use std::net::SocketAddrV4;
use std::sync::Arc;
use std::time::Duration;

/// What a client is to do.
#[derive(Debug, Clone)]
pub struct ClientConfig {
    /// Where the server listens.
    pub server: SocketAddrV4,
    /// What the session does. The SYN carries these; a schedule does not change them. Whatever they need an extension for
    /// the server must agree to, or there is no session.
    pub settings: Settings,
    /// The pings of this side, in place of delay, ping size and count. No padding is less than the settings'
    /// [`Settings::min_padding`].
    pub schedule: Option<Arc<[Probe]>>,
    /// Dummies behind each ping and pong of this side.
    pub dummies: u32,
    /// How long nothing may be received in a session; `None` is for ever.
    pub timeout: Option<Duration>,
    /// How long the SYN may stay unanswered; `None` is for ever, as in nanoprobe.
    pub connect_timeout: Option<Duration>,
    /// Which pings of this side are to be stamped, where pings travel behind PTP headers.
    pub sampling: Sampling,
    /// How the dummies of a flood are spaced, where the settings have one.
    pub pattern: Pattern,
}

/// The client side of a session.
#[derive(Debug)]
pub struct Client {
    config: ClientConfig,
    /// The sequence of its SYN.
    number: u64,
    state: State,
    outbox: Outbox,
}

#[derive(Debug)]
#[expect(clippy::large_enum_variant, reason = "there is one of it, and the session's is the one that matters")]
enum State {
    Connecting {
        retry: Retry,
        report: Time<Monotonic>,
    },
    Talking(Conversation),
    /// Accepted, but not as agreed, or no longer wanted: a FIN ends the session that the server believes in.
    Declining {
        retry: Retry,
    },
    Over,
}

/// The sequence of the FIN of a client that never pinged.
const FIRST_SEQUENCE: u64 = 1;

impl Client {
    /// A client whose first SYN is due at `now`: it is the first action.
    ///
    /// # Panics
    /// If a ping or pong of this side would not hold the PTP header that it is to travel behind, or the stamps that it is to carry.
    pub fn new(now: Time<Monotonic>, config: ClientConfig) -> Self {
        Self::numbered(now, config, 0)
    }

    /// The same for one of several sessions that leave from one port: `number`, the sequence of its SYN, is higher than
    /// that of the one before. A server that is told so can tell the SYN from a late copy of the last one's, which it
    /// leaves unanswered for [`super::REMEMBER`].
    ///
    /// # Panics
    /// As [`Client::new`].
    pub fn numbered(now: Time<Monotonic>, config: ClientConfig, number: u64) -> Self {
        let settings = &config.settings;
        let least = match settings.direction {
            Direction::Reverse => settings.min_pong_padding(),
            Direction::Forward | Direction::Duplex => settings.min_padding(),
        };
        assert!(sent_padding(&config) >= least, "a ping or pong does not hold what it is to carry: {config:?}");
        let state = State::Connecting { retry: Retry::first(now), report: now.plus(CONNECTING_REPORT) };
        let mut client = Self { config, number, state, outbox: Outbox::new() };
        client.send_syn();
        client
    }

    fn send_syn(&mut self) {
        let settings = &self.config.settings;
        let body = Body::Settings(settings.to_raw(), settings.extension());
        self.outbox.say(self.config.server, Kind::Syn, self.number, body);
    }

    fn connected(&mut self, now: Time<Monotonic>, settings: Settings) {
        let config = &self.config;
        let terms = Terms {
            side: Side::Client,
            peer: config.server,
            settings,
            schedule: config.schedule.clone(),
            dummies: config.dummies,
            timeout: config.timeout,
            granted: None,
            sampling: config.sampling,
            pattern: config.pattern,
        };
        self.outbox.tell(Event::Connected { peer: config.server, settings });
        self.state = State::Talking(Conversation::begin(now, terms, &mut self.outbox));
    }

    fn give_up(&mut self, end: End) {
        self.outbox.tell(Event::Finished(end));
        self.state = State::Over;
    }

    /// The server accepted. Whether it is the session that was asked for is its SYN-ACK's word.
    fn handle_syn_ack(&mut self, now: Time<Monotonic>, granted: Option<Extension>) {
        match self.config.settings.granted(granted) {
            Some(settings) => self.connected(now, settings),
            None => self.decline(now, granted),
        }
    }

    fn decline(&mut self, now: Time<Monotonic>, granted: Option<Extension>) {
        let missing = self.config.settings.missing(granted);
        self.outbox.control(self.config.server, Kind::Fin, FIRST_SEQUENCE);
        self.outbox.tell(Event::Finished(End::NotAgreed { server: self.config.server, missing }));
        self.state = State::Declining { retry: Retry::first(now) };
    }

    /// In reverse every SYN-ACK may have been lost, and then what follows it says that the server has accepted. Of what was asked
    /// for it says no more than whether there are PTP headers: for the rest the answer to the next SYN is waited for.
    fn handle_without_syn_ack(&mut self, now: Time<Monotonic>, incoming: &Incoming) -> Option<Point> {
        let asked = self.config.settings.ptp.is_some();
        let rest = Extension { ptp: None, ..self.config.settings.extension().unwrap_or_default() };
        let is_agreed = rest == Extension::default();
        match (incoming.message.kind, asked, incoming.shape) {
            // A server that pings, or is even done with it.
            (Kind::Ping | Kind::Fin, false, Shape::Plain) | (Kind::Ping, true, Shape::Stamped | Shape::Unstamped)
                if is_agreed =>
            {
                self.connected(now, self.config.settings);
                if let State::Talking(conversation) = &mut self.state {
                    return conversation.handle(now, incoming, &mut self.outbox);
                }
            }
            // Who agreed would have pinged behind a PTP header.
            (Kind::Ping, true, Shape::Plain) => {
                self.outbox.totals.unexpected += 1;
                self.decline(now, None);
            }
            // A FIN does not say what was agreed: the answer to the next SYN does.
            _ => self.outbox.totals.unexpected += 1,
        }
        None
    }

    fn handle_declined(&mut self, incoming: &Incoming) {
        match incoming.message.kind {
            Kind::FinAck => self.state = State::Over,
            Kind::Fin => {
                self.outbox.control(self.config.server, Kind::FinAck, incoming.message.sequence);
                self.state = State::Over;
            }
            // It has not had the FIN yet.
            _ => {}
        }
    }
}

/// The least padding of what a client sends; the most there is where it sends nothing of the kind.
fn sent_padding(config: &ClientConfig) -> u16 {
    let settings = &config.settings;
    match (settings.direction, &config.schedule) {
        (Direction::Reverse, _) => settings.pong_padding,
        (_, Some(probes)) => probes.iter().map(|probe| probe.padding).min().unwrap_or(u16::MAX),
        (_, None) => settings.ping_padding,
    }
}

impl Machine for Client {
    fn handle_datagram(&mut self, now: Time<Monotonic>, incoming: &Incoming) -> Option<Point> {
        let &Incoming { from, message, .. } = incoming;
        self.outbox.totals.received += 1;
        if from != self.config.server {
            // Dummies leave from another port of the server's.
            let dummy = message.kind == Kind::Dummy && from.ip() == self.config.server.ip();
            match &mut self.state {
                State::Talking(conversation) if dummy => conversation.handle_dummy(now, &mut self.outbox),
                _ => self.outbox.totals.foreign += 1,
            }
            return None;
        }
        match (&mut self.state, message.kind) {
            // The answer to a SYN of the session before.
            (State::Connecting { .. }, Kind::SynAck | Kind::SynRst) if message.sequence < self.number => {
                self.outbox.totals.unexpected += 1;
            }
            (State::Connecting { .. }, Kind::SynAck) => self.handle_syn_ack(now, incoming.extension),
            (State::Connecting { .. }, Kind::SynRst) => self.give_up(End::Rejected),
            (State::Connecting { .. }, _) if self.config.settings.direction == Direction::Reverse => {
                return self.handle_without_syn_ack(now, incoming);
            }
            (State::Talking(conversation), _) => return conversation.handle(now, incoming, &mut self.outbox),
            (State::Declining { .. }, _) => self.handle_declined(incoming),
            _ => self.outbox.totals.unexpected += 1,
        }
        None
    }

    fn wants(&self, _: Time<Monotonic>, _: &Incoming) -> Option<Extension> {
        // What a client asks for it has ready.
        None
    }

    fn handle_transmit_stamp(&mut self, sequence: u64) {
        if let State::Talking(conversation) = &mut self.state {
            conversation.handle_transmit_stamp(sequence);
        }
    }

    fn handle_repeated_pong(&mut self) {
        if let State::Talking(conversation) = &mut self.state {
            conversation.handle_repeated_pong(&self.outbox);
        }
    }

    fn handle_refused_load(&mut self, count: u32) {
        self.outbox.load_refused(count);
    }

    fn handle_unsent(&mut self, unsent: &Action) {
        match &self.state {
            State::Talking(conversation) => conversation.not_sent(unsent, &mut self.outbox),
            _ => self.outbox.not_sent(unsent),
        }
    }

    fn handle_stall(&mut self, from: Time<Monotonic>, now: Time<Monotonic>) {
        if let State::Talking(conversation) = &mut self.state {
            conversation.heard_late(from, now);
        }
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
            State::Declining { retry } => {
                if now >= retry.since.plus(GOODBYE) {
                    self.state = State::Over;
                } else if retry.is_due(now) {
                    self.outbox.control(self.config.server, Kind::Fin, FIRST_SEQUENCE);
                }
            }
            State::Over => {}
        }
    }

    fn handle_stop(&mut self, now: Time<Monotonic>) {
        match &mut self.state {
            // The server may have accepted already. Of one of several sessions it is told so that the next client, which may be
            // the same user's, need not wait for its time-out; nanoprobe's client says nothing.
            State::Connecting { .. } if self.number > 0 => {
                self.outbox.control(self.config.server, Kind::Fin, FIRST_SEQUENCE);
                self.outbox.tell(Event::Finished(End::StoppedConnecting));
                self.state = State::Declining { retry: Retry::first(now) };
            }
            State::Connecting { .. } => self.give_up(End::StoppedConnecting),
            State::Talking(conversation) => conversation.handle_stop(now, &mut self.outbox),
            State::Declining { .. } => self.state = State::Over,
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
            State::Declining { retry } => Some(retry.next.min(retry.since.plus(GOODBYE))),
            State::Over => None,
        }
    }

    fn timer(&self) -> TimerKind {
        match &self.state {
            State::Talking(conversation) => conversation.timer(),
            _ => TimerKind::Sleep,
        }
    }

    fn session_timer(&self) -> TimerKind {
        match &self.state {
            State::Talking(conversation) => conversation.terms.settings.timer,
            _ => TimerKind::Sleep,
        }
    }

    fn peer(&self) -> Option<SocketAddrV4> {
        Some(self.config.server)
    }

    fn is_over(&self) -> bool {
        match &self.state {
            State::Talking(conversation) => conversation.is_over(),
            State::Connecting { .. } | State::Declining { .. } => false,
            State::Over => true,
        }
    }

    fn totals(&self) -> &Totals {
        &self.outbox.totals
    }
}
