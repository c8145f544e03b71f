//! What client and server have in common: everything between the handshake and the last datagram.

use super::load::{Flood, Pattern};
use super::pinger::{Pinger, Step};
use super::sampling::{Sampler, Sampling};
use super::{
    Action, Body, DEFAULT_TIMEOUT, Direction, End, Event, FIRST_RETRY, FLOOD_DRAIN, FLOOD_SILENCE, GOODBYE, Incoming,
    LINGER, NEXT_RETRY, Outgoing, PTP_TIMEOUT, Probe, SETTLE, STRAGGLERS, Settings, TURNAROUND, TimerKind, Totals,
};
use crate::clock::{Monotonic, Time};
use crate::wire::ptp::Shape;
use crate::wire::{Account, Extension, InBand, Kind, Message, Point};
use std::collections::VecDeque;
use std::net::SocketAddrV4;
use std::sync::Arc;
use std::time::Duration;

/// Which side of the session this is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Side {
    Client,
    Server,
}

/// What does not change while a session lasts. What a server looks at for each ping stands in front, together.
#[derive(Debug, Clone)]
#[repr(C)]
pub(super) struct Terms {
    /// How long nothing may be received; `None` is for ever. Behind PTP headers no less than [`PTP_TIMEOUT`] counts.
    pub(super) timeout: Option<Duration>,
    /// Dummies behind each ping and pong.
    pub(super) dummies: u32,
    pub(super) side: Side,
    pub(super) peer: SocketAddrV4,
    pub(super) settings: Settings,
    pub(super) schedule: Option<Arc<[Probe]>>,
    /// What the SYN-ACK says behind its header, of a server whose client asked.
    pub(super) granted: Option<Extension>,
    /// Which pings are to be stamped, where pings travel behind PTP headers.
    pub(super) sampling: Sampling,
    /// How the dummies of a client's flood are spaced.
    pub(super) pattern: Pattern,
}

/// Actions on their way to the caller, and what was counted.
#[derive(Debug)]
#[repr(C)]
pub(super) struct Outbox {
    actions: VecDeque<Action>,
    pub(super) totals: Totals,
}

impl Outbox {
    pub(super) fn new() -> Self {
        // A datagram or a deadline brings a handful of actions: no allocation happens later.
        Self { actions: VecDeque::with_capacity(16), totals: Totals::default() }
    }

    /// One whose actions go into a queue that it is lent ([`Outbox::lend`]).
    pub(super) fn without_queue() -> Self {
        Self { actions: VecDeque::new(), totals: Totals::default() }
    }

    /// Lends it a queue, if it has none.
    #[inline]
    pub(super) fn lend(&mut self, queue: &mut VecDeque<Action>) {
        if self.actions.capacity() == 0 {
            std::mem::swap(&mut self.actions, queue);
        }
    }

    /// Takes its queue away, once there is nothing in it and nobody else's is there.
    #[inline]
    pub(super) fn take_back(&mut self, queue: &mut VecDeque<Action>) {
        if self.actions.is_empty() && queue.capacity() == 0 {
            std::mem::swap(&mut self.actions, queue);
        }
    }

    #[inline]
    pub(super) fn pop(&mut self) -> Option<Action> {
        let action = self.actions.pop_front();
        if self.actions.is_empty() {
            // Begins at the front again, where the memory is in a cache.
            self.actions.clear();
        }
        action
    }

    pub(super) fn tell(&mut self, event: Event) {
        self.actions.push_back(Action::Tell(event));
    }

    fn send(&mut self, outgoing: Outgoing) {
        self.totals.transmitted += 1;
        if outgoing.point.is_some() {
            self.totals.first_ip_len.get_or_insert(outgoing.ip_len());
        }
        self.actions.push_back(Action::Send(outgoing));
    }

    /// A control message with something behind its header.
    pub(super) fn say(&mut self, to: SocketAddrV4, kind: Kind, sequence: u64, body: Body) {
        self.send(Outgoing { to, message: Message { kind, sequence }, body, shape: Shape::Plain, point: None });
    }

    pub(super) fn control(&mut self, to: SocketAddrV4, kind: Kind, sequence: u64) {
        self.say(to, kind, sequence, Body::Empty);
    }

    /// The answer to a SYN, with what is granted.
    pub(super) fn syn_ack(&mut self, to: SocketAddrV4, sequence: u64, granted: Option<Extension>) {
        self.say(to, Kind::SynAck, sequence, granted.map_or(Body::Empty, Body::Extension));
    }

    /// The answer to a FIN, with an account where one was asked for.
    pub(super) fn fin_ack(&mut self, to: SocketAddrV4, sequence: u64, account: Option<Account>) {
        self.say(to, Kind::FinAck, sequence, account.map_or(Body::Empty, Body::Account));
    }

    fn dummies(&mut self, to: SocketAddrV4, count: u32) {
        if count > 0 {
            self.totals.transmitted += u64::from(count);
            self.totals.dummies_sent += u64::from(count);
            self.actions.push_back(Action::Dummies { to, count });
        }
    }

    fn load(&mut self, to: SocketAddrV4, count: u32, ip_len: u16) {
        if count > 0 {
            self.totals.transmitted += u64::from(count);
            self.totals.dummies_sent += u64::from(count);
            self.actions.push_back(Action::Load { to, count, ip_len });
        }
    }

    /// This was not done, and is not counted. What only a conversation knows of it is for [`Conversation::not_sent`].
    pub(super) fn not_sent(&mut self, action: &Action) {
        let totals = &mut self.totals;
        match action {
            Action::Send(outgoing) => {
                totals.transmitted -= 1;
                let stamped = u64::from(outgoing.shape == Shape::Stamped);
                match outgoing.message.kind {
                    Kind::Ping => {
                        totals.pings_sent -= 1;
                        totals.stamped_pings_sent -= stamped;
                    }
                    Kind::Pong => {
                        totals.pongs_sent -= 1;
                        totals.stamped_pongs_sent -= stamped;
                    }
                    _ => {}
                }
            }
            Action::Dummies { count, .. } => {
                totals.transmitted -= u64::from(*count);
                totals.dummies_sent -= u64::from(*count);
            }
            Action::Load { count, .. } => self.load_refused(*count),
            Action::Tell(_) => {}
        }
    }

    /// The path had no room for so many dummies of a flood.
    pub(super) fn load_refused(&mut self, count: u32) {
        let count = u64::from(count);
        self.totals.transmitted -= count;
        self.totals.dummies_sent -= count;
        self.totals.load_refused += count;
    }
}

/// A control message that is repeated until it is answered.
#[derive(Debug, Clone, Copy)]
pub(super) struct Retry {
    pub(super) since: Time<Monotonic>,
    pub(super) next: Time<Monotonic>,
}

impl Retry {
    /// The message was sent for the first time at `now`.
    pub(super) fn first(now: Time<Monotonic>) -> Self {
        Self { since: now, next: now.plus(FIRST_RETRY) }
    }

    /// Whether it is to be sent again; if so, when the time after that is.
    pub(super) fn is_due(&mut self, now: Time<Monotonic>) -> bool {
        let due = now >= self.next;
        if due {
            self.next = now.plus(NEXT_RETRY);
        }
        due
    }
}

/// What it is stands in front, beside what else is touched for each ping.
#[derive(Debug)]
#[repr(u8)]
enum Phase {
    /// Before the first ping, while the other side gets ready.
    Turnaround {
        until: Time<Monotonic>,
    },
    /// A duplex server before the client's first ping.
    AwaitPing,
    Pinging,
    Echoing,
    /// The own pings are out, and of a flood something may still be on the way: the FIN must not overtake it.
    Draining {
        until: Time<Monotonic>,
        end: End,
    },
    /// The FIN is out.
    Closing {
        sequence: u64,
        retry: Retry,
        end: End,
    },
    /// The own pings are out; in duplex the other's may still come, else pongs that the FIN-ACK overtook.
    Settle {
        until: Time<Monotonic>,
        /// Since then there has been nothing to wait for, unless the pong that came then had come before.
        settled: Option<Time<Monotonic>>,
        end: End,
    },
    /// Finished by the other's FIN: stays to answer it again.
    Linger {
        until: Time<Monotonic>,
    },
    /// Finished by the user while echoing: a FIN tells the pinging side.
    Goodbye {
        sequence: u64,
        retry: Retry,
    },
    Over,
}

/// A session from the accepted SYN to its end. What a server touches for each ping stands in front, together.
#[derive(Debug)]
#[repr(C)]
pub(super) struct Conversation {
    /// When something was last received from the peer, or will have been expected from.
    last_heard: Time<Monotonic>,
    /// The highest sequence of a ping received.
    last_ping: u64,
    /// A client's, while it pings.
    flood: Option<Box<Flood>>,
    /// `None` where pings are nanoprobe's: then all are to be stamped.
    sampler: Option<Box<Sampler>>,
    phase: Phase,
    /// The handshake was done then.
    begun: Time<Monotonic>,
    pub(super) terms: Terms,
    pinger: Pinger,
    /// Of the pongs received, those that had come before.
    repeated_pongs: u64,
    /// The sequence of the peer's FIN, and the account that it was answered with where the client had asked for one.
    answered_fin: Option<(u64, Option<Account>)>,
}

impl Conversation {
    /// The handshake is done at `now`.
    pub(super) fn begin(now: Time<Monotonic>, mut terms: Terms, outbox: &mut Outbox) -> Self {
        if terms.settings.ptp.is_some() {
            terms.timeout = terms.timeout.map(|timeout| timeout.max(PTP_TIMEOUT));
        }
        let pinger = Pinger::new(now, &terms.settings, terms.schedule.clone());
        let ready = now.plus(TURNAROUND);
        let (phase, last_heard) = match (terms.settings.direction, terms.side) {
            (Direction::Forward, Side::Client) => (Phase::Pinging, now),
            (Direction::Forward, Side::Server) => (Phase::Echoing, now),
            // The peer says nothing before its turnaround is over: the receive time-out starts behind it.
            (Direction::Reverse, Side::Client) => (Phase::Echoing, ready),
            (Direction::Duplex, Side::Server) => (Phase::AwaitPing, ready),
            (Direction::Reverse, Side::Server) | (Direction::Duplex, Side::Client) => {
                (Phase::Turnaround { until: ready }, ready)
            }
        };
        let sampler = terms.settings.ptp.map(|_| Box::new(Sampler::new(terms.sampling)));
        let (last_ping, answered_fin) = (0, None);
        let mut begun = Self {
            terms,
            phase,
            pinger,
            flood: None,
            sampler,
            last_heard,
            last_ping,
            begun: now,
            repeated_pongs: 0,
            answered_fin,
        };
        outbox.totals.measures_loss = begun.pings() && !begun.is_duplex();
        if matches!(begun.phase, Phase::Pinging) {
            outbox.totals.started = Some(now);
            begun.start_flood(now);
        }
        begun
    }

    pub(super) fn is_over(&self) -> bool {
        matches!(self.phase, Phase::Over)
    }

    /// Reads what a ping needs of it, for the sake of the caches; the value means nothing.
    #[inline]
    pub(super) fn touch(&self) -> u64 {
        self.last_ping
            ^ self.begun.as_nanos()
            ^ u64::from(self.terms.peer.port())
            ^ u64::from(self.terms.settings.pong_every)
    }

    /// The sequence of the peer's FIN and what it was answered with: a repeated one deserves the same answer. `None` where there was none.
    pub(super) fn answered_fin(&self) -> Option<(u64, Option<Account>)> {
        self.answered_fin
    }

    /// Whether a FIN with this sequence is none of this session's, where one of its peer's before had the same: whoever sends it has sent a
    /// ping with that sequence, or a later one, in this session.
    pub(super) fn is_past(&self, sequence: u64) -> bool {
        matches!(self.phase, Phase::Echoing) && sequence <= self.last_ping
    }

    /// The statistics are out; only repeated FINs are still answered.
    pub(super) fn is_lingering(&self) -> bool {
        matches!(self.phase, Phase::Linger { .. })
    }

    pub(super) fn timer(&self) -> TimerKind {
        match self.phase {
            // Pongs may still be under way when the FIN is out: their stamps are to be as good as the others'.
            Phase::AwaitPing
            | Phase::Pinging
            | Phase::Echoing
            | Phase::Draining { .. }
            | Phase::Closing { .. }
            | Phase::Settle { .. } => self.terms.settings.timer,
            Phase::Turnaround { .. } | Phase::Linger { .. } | Phase::Goodbye { .. } | Phase::Over => TimerKind::Sleep,
        }
    }

    pub(super) fn deadline(&self) -> Option<Time<Monotonic>> {
        let own = match &self.phase {
            Phase::Turnaround { until } | Phase::Draining { until, .. } | Phase::Linger { until } => {
                return Some(*until);
            }
            Phase::Settle { until, settled, .. } => return Some(settled.unwrap_or(*until)),
            Phase::Goodbye { retry, .. } => return Some(retry.next.min(retry.since.plus(GOODBYE))),
            Phase::Closing { retry, .. } => {
                return Some(retry.next.min(closing_limit(retry, self.last_heard, &self.terms)));
            }
            Phase::Pinging => {
                let ping = self.pinger.due();
                Some(self.flood.as_ref().map_or(ping, |flood| ping.min(flood.due())))
            }
            Phase::AwaitPing | Phase::Echoing => None,
            Phase::Over => return None,
        };
        let silence = self.patience().map(|patience| self.last_heard.plus(patience));
        match (own, silence) {
            (Some(own), Some(silence)) => Some(own.min(silence)),
            (own, silence) => own.or(silence),
        }
    }

    /// A datagram from the peer. SYNs are the server's own affair and do not come here.
    pub(super) fn handle(&mut self, now: Time<Monotonic>, incoming: &Incoming, outbox: &mut Outbox) -> Option<Point> {
        self.heard(now);
        let &Incoming { message: Message { kind, sequence }, shape, .. } = incoming;
        match kind {
            // Not as agreed: of no session that stands here.
            Kind::Ping | Kind::Pong if (shape == Shape::Plain) == self.terms.settings.ptp.is_some() => {
                outbox.totals.unexpected += 1;
                None
            }
            Kind::Ping => self.handle_ping(now, sequence, shape, outbox),
            Kind::Pong => self.handle_pong(now, sequence, outbox),
            Kind::Fin => {
                self.handle_fin(now, sequence, outbox);
                None
            }
            Kind::FinAck => {
                match self.phase {
                    Phase::Closing { sequence: sent, end, .. } if sent == sequence => {
                        outbox.totals.account = incoming.account;
                        self.close(now, end, outbox);
                    }
                    Phase::Goodbye { .. } => self.phase = Phase::Over,
                    // The other side's own FIN came before its answer to ours.
                    Phase::Settle { .. }
                        if outbox.totals.account.is_none() && sequence == self.pinger.next_sequence() =>
                    {
                        outbox.totals.account = incoming.account;
                    }
                    _ => outbox.totals.unexpected += 1,
                }
                None
            }
            Kind::Dummy => {
                self.handle_dummy(now, outbox);
                None
            }
            // A repeated SYN-ACK answers a repeated SYN: nothing is wrong.
            Kind::SynAck => None,
            Kind::Syn | Kind::SynRst => {
                outbox.totals.unexpected += 1;
                None
            }
        }
    }

    /// The own stamp of a ping or pong is there, or was given up.
    pub(super) fn handle_transmit_stamp(&mut self, sequence: u64) {
        if let Some(sampler) = &mut self.sampler {
            sampler.stamped(sequence);
        }
    }

    /// The pong that was handled last had come before.
    pub(super) fn handle_repeated_pong(&mut self, outbox: &Outbox) {
        self.repeated_pongs += 1;
        let has_all = self.has_all_pongs(&outbox.totals);
        if let Phase::Settle { settled, .. } = &mut self.phase
            && !has_all
        {
            *settled = None;
        }
    }

    /// Whether every pong that was expected has come.
    const fn has_all_pongs(&self, totals: &Totals) -> bool {
        totals.pongs_received.saturating_sub(self.repeated_pongs) >= totals.pongs_expected
    }

    /// A repeated SYN of the client: the SYN-ACK was lost.
    pub(super) fn handle_repeated_syn(&mut self, now: Time<Monotonic>, sequence: u64, outbox: &mut Outbox) {
        if self.is_lingering() {
            // The session is over; the SYN comes late.
            outbox.totals.unexpected += 1;
            return;
        }
        // A client that hears nothing repeats its SYN for ever: that must not keep a FIN waiting for ever.
        if !matches!(self.phase, Phase::Closing { .. }) {
            self.heard(now);
        }
        outbox.syn_ack(self.terms.peer, sequence, self.terms.granted);
    }

    /// A dummy, mostly from another port of the peer's.
    pub(super) fn handle_dummy(&mut self, now: Time<Monotonic>, outbox: &mut Outbox) {
        self.heard(now);
        outbox.totals.dummies_received += 1;
        outbox.totals.first_dummy.get_or_insert(now);
        outbox.totals.last_dummy = Some(now);
    }

    /// What this side has counted, where the client has asked for it. CPU time and what was dropped are not known here.
    fn account(&self, now: Time<Monotonic>, totals: &Totals) -> Option<Account> {
        let asked = self.terms.side == Side::Server && self.terms.settings.account;
        let span = totals.first_dummy.zip(totals.last_dummy).filter(|_| totals.dummies_received > 1);
        let nanos = |from: Time<Monotonic>, to: Time<Monotonic>| to.duration_since(from).as_nanos() as u64;
        asked.then(|| Account {
            pings_received: totals.pings_received,
            pongs_sent: totals.pongs_sent,
            dummies_received: totals.dummies_received,
            dropped: None,
            dummies_span_ns: span.map(|(first, last)| nanos(first, last)),
            cpu_ns: None,
            wall_ns: nanos(self.begun, now),
        })
    }

    /// Something that shows that the peer lives.
    pub(super) fn heard(&mut self, now: Time<Monotonic>) {
        self.last_heard = self.last_heard.max(now);
    }

    /// What was heard at `from` may have come as late as `now`.
    pub(super) fn heard_late(&mut self, from: Time<Monotonic>, now: Time<Monotonic>) {
        if self.last_heard == from {
            self.heard(now);
        }
    }

    fn handle_ping(&mut self, now: Time<Monotonic>, sequence: u64, shape: Shape, outbox: &mut Outbox) -> Option<Point> {
        let echoes = match self.phase {
            // Pings count from 1.
            _ if sequence == 0 => {
                outbox.totals.unexpected += 1;
                return None;
            }
            Phase::Echoing => true,
            Phase::AwaitPing => {
                self.start_pinging(now, outbox);
                false
            }
            Phase::Turnaround { .. } | Phase::Pinging | Phase::Settle { .. } if self.is_duplex() => false,
            _ => {
                outbox.totals.unexpected += 1;
                return None;
            }
        };
        outbox.totals.pings_received += 1;
        self.last_ping = self.last_ping.max(sequence);
        if !echoes {
            return Some(match self.terms.side {
                Side::Client => Point::T1sc,
                Side::Server => Point::T1cs,
            });
        }
        outbox.totals.started.get_or_insert(now);
        let settings = &self.terms.settings;
        if asks_for_pong(settings.pong_every, sequence) {
            outbox.totals.pongs_sent += 1;
            let message = Message { kind: Kind::Pong, sequence };
            let padding = settings.pong_padding;
            let body = match settings.in_band {
                true => Body::InBand { padding, told: InBand::default() },
                false => Body::Padding(padding),
            };
            let shape = match &mut self.sampler {
                Some(sampler) => sampler.pong_shape(now, sequence, shape, &mut outbox.totals),
                None => shape,
            };
            if shape == Shape::Stamped {
                outbox.totals.stamped_pongs_sent += 1;
            }
            outbox.send(Outgoing { to: self.terms.peer, message, body, shape, point: Some(Point::T2) });
            outbox.dummies(self.terms.peer, self.terms.dummies);
        }
        Some(Point::T1)
    }

    fn handle_pong(&mut self, now: Time<Monotonic>, sequence: u64, outbox: &mut Outbox) -> Option<Point> {
        let asked = (1..self.pinger.next_sequence()).contains(&sequence)
            && asks_for_pong(self.terms.settings.pong_every, sequence);
        let waits = matches!(
            self.phase,
            Phase::Pinging | Phase::Draining { .. } | Phase::Closing { .. } | Phase::Settle { .. }
        );
        if !(asked && waits) || self.is_duplex() {
            outbox.totals.unexpected += 1;
            return None;
        }
        outbox.totals.pongs_received += 1;
        // Of whatever shape: that it came tells that the ping was read.
        if let Some(sampler) = &mut self.sampler {
            sampler.answered(sequence);
        }
        // Its row belongs to the statistics: they are due with the next deadline, not before the row.
        let has_all = self.has_all_pongs(&outbox.totals);
        if let Phase::Settle { settled, .. } = &mut self.phase
            && has_all
        {
            *settled = Some(now);
        }
        Some(Point::T3)
    }

    fn handle_fin(&mut self, now: Time<Monotonic>, sequence: u64, outbox: &mut Outbox) {
        if self.is_duplex() || self.is_over() {
            outbox.totals.unexpected += 1;
            return;
        }
        // Repeated as it was: what came since is not of the session.
        let account = self.answered_fin.map_or_else(|| self.account(now, &outbox.totals), |(_, account)| account);
        self.answered_fin = Some((sequence, account));
        outbox.fin_ack(self.terms.peer, sequence, account);
        match self.phase {
            Phase::Echoing => {
                outbox.tell(Event::Disconnected);
                self.finish(now, End::Complete, outbox);
                self.phase = Phase::Linger { until: now.plus(LINGER) };
            }
            // Both sides end at once: the peer's user stopped it too, or its plan was over.
            Phase::Goodbye { .. } => self.phase = Phase::Over,
            Phase::Closing { end, .. } => self.close(now, end, outbox),
            // The echoing side was stopped by its user.
            Phase::Turnaround { .. } | Phase::Pinging | Phase::Draining { .. } => {
                self.end_flood(now, outbox);
                // Nothing is sent from now on, however long the last pongs are waited for.
                outbox.totals.ended.get_or_insert(now);
                self.close(now, End::PeerStopped, outbox);
            }
            // Answered before; the answer was lost.
            Phase::Linger { .. } => {}
            Phase::AwaitPing | Phase::Settle { .. } | Phase::Over => {}
        }
    }

    pub(super) fn handle_deadline(&mut self, now: Time<Monotonic>, outbox: &mut Outbox) {
        match &mut self.phase {
            Phase::Turnaround { until } if now >= *until => self.start_pinging(now, outbox),
            Phase::Pinging => match self.pinger.step(now, &mut outbox.totals) {
                // Nobody would wait for its pong.
                Step::Ping { .. } if self.silence(now).is_some() => self.pinger.not_sent(&mut outbox.totals),
                Step::Ping { sequence, padding } => self.ping(now, sequence, padding, outbox),
                Step::Done => self.end_pinging(now, End::Complete, outbox),
                Step::Wait => self.flood(now, outbox),
            },
            Phase::Draining { until, end } if now >= *until => {
                let end = *end;
                self.send_fin(now, end, outbox);
            }
            Phase::Closing { sequence, retry, .. } => {
                if now >= closing_limit(retry, self.last_heard, &self.terms) {
                    let waited = now.duration_since(retry.since);
                    self.finish(now, End::FinUnanswered { waited }, outbox);
                } else if retry.is_due(now) {
                    outbox.control(self.terms.peer, Kind::Fin, *sequence);
                }
            }
            Phase::Settle { until, settled, end } if now >= settled.unwrap_or(*until) => {
                let end = *end;
                self.finish(now, end, outbox);
            }
            Phase::Linger { until } if now >= *until => self.phase = Phase::Over,
            Phase::Goodbye { sequence, retry } => {
                if now >= retry.since.plus(GOODBYE) {
                    self.phase = Phase::Over;
                } else if retry.is_due(now) {
                    outbox.control(self.terms.peer, Kind::Fin, *sequence);
                }
            }
            _ => {}
        }
        self.check_silence(now, outbox);
    }

    /// The FIN is answered, or the other side has sent its own. Pongs that it overtook still come within a moment, or not at all.
    fn close(&mut self, now: Time<Monotonic>, end: End, outbox: &mut Outbox) {
        if self.has_all_pongs(&outbox.totals) {
            self.finish(now, end, outbox);
        } else {
            self.phase = Phase::Settle { until: now.plus(STRAGGLERS), settled: None, end };
        }
    }

    /// The user wants an end.
    pub(super) fn handle_stop(&mut self, now: Time<Monotonic>, outbox: &mut Outbox) {
        match self.phase {
            Phase::Pinging | Phase::Turnaround { .. } => self.end_pinging(now, End::Stopped, outbox),
            Phase::Echoing => {
                // The sequence is the peer's word: it may be any.
                let sequence = self.last_ping.wrapping_add(1);
                outbox.control(self.terms.peer, Kind::Fin, sequence);
                self.finish(now, End::Stopped, outbox);
                self.phase = Phase::Goodbye { sequence, retry: Retry::first(now) };
            }
            Phase::Draining { .. } => self.send_fin(now, End::Stopped, outbox),
            Phase::AwaitPing | Phase::Closing { .. } | Phase::Settle { .. } => self.finish(now, End::Stopped, outbox),
            Phase::Linger { .. } | Phase::Goodbye { .. } => self.phase = Phase::Over,
            Phase::Over => {}
        }
    }

    /// This was not done, and is not counted.
    pub(super) fn not_sent(&self, action: &Action, outbox: &mut Outbox) {
        outbox.not_sent(action);
        if let Action::Send(Outgoing { message: Message { kind: Kind::Ping, sequence }, .. }) = action {
            let ponged = !self.is_duplex() && asks_for_pong(self.terms.settings.pong_every, *sequence);
            outbox.totals.pongs_expected -= u64::from(ponged);
            self.pinger.not_sent(&mut outbox.totals);
        }
    }

    fn is_duplex(&self) -> bool {
        self.terms.settings.direction == Direction::Duplex
    }

    /// Whether this side sends pings.
    fn pings(&self) -> bool {
        match self.terms.settings.direction {
            Direction::Forward => self.terms.side == Side::Client,
            Direction::Reverse => self.terms.side == Side::Server,
            Direction::Duplex => true,
        }
    }

    fn start_pinging(&mut self, now: Time<Monotonic>, outbox: &mut Outbox) {
        self.pinger = Pinger::new(now, &self.terms.settings, self.terms.schedule.clone());
        self.phase = Phase::Pinging;
        // A server that waited for its turn may have heard nothing since the SYN.
        self.heard(now);
        outbox.totals.started = Some(now);
        self.start_flood(now);
    }

    fn start_flood(&mut self, now: Time<Monotonic>) {
        let load = self.terms.settings.load.filter(|_| self.terms.side == Side::Client);
        self.flood = load.and_then(|load| Flood::new(now, load, self.terms.pattern)).map(Box::new);
    }

    /// Sends what is due of the flood. A ping that is due goes first: this is not called then.
    fn flood(&mut self, now: Time<Monotonic>, outbox: &mut Outbox) {
        let (Some(flood), Some(load)) = (&mut self.flood, self.terms.settings.load) else { return };
        let count = flood.step(now, &mut outbox.totals);
        outbox.load(self.terms.peer, count, load.ip_len);
    }

    fn end_flood(&mut self, now: Time<Monotonic>, outbox: &mut Outbox) {
        if let Some(mut flood) = self.flood.take() {
            flood.finish(now, &mut outbox.totals);
        }
    }

    fn ping(&mut self, now: Time<Monotonic>, sequence: u64, padding: u16, outbox: &mut Outbox) {
        let point = match (self.is_duplex(), self.terms.side) {
            (false, _) => Point::T0,
            (true, Side::Client) => Point::T0cs,
            (true, Side::Server) => Point::T0sc,
        };
        let ponged = !self.is_duplex() && asks_for_pong(self.terms.settings.pong_every, sequence);
        outbox.totals.pings_sent += 1;
        outbox.totals.pongs_expected += u64::from(ponged);
        let shape = match &mut self.sampler {
            Some(sampler) => sampler.shape(now, sequence, ponged, &mut outbox.totals),
            None => Shape::Plain,
        };
        let message = Message { kind: Kind::Ping, sequence };
        let body = Body::Padding(padding);
        outbox.send(Outgoing { to: self.terms.peer, message, body, shape, point: Some(point) });
        outbox.dummies(self.terms.peer, self.terms.dummies);
    }

    fn end_pinging(&mut self, now: Time<Monotonic>, end: End, outbox: &mut Outbox) {
        outbox.totals.ended = Some(now);
        let flooded = self.flood.is_some();
        self.end_flood(now, outbox);
        if self.is_duplex() {
            self.phase = Phase::Settle { until: now.plus(SETTLE), settled: None, end };
        } else if flooded {
            self.phase = Phase::Draining { until: now.plus(FLOOD_DRAIN), end };
        } else {
            self.send_fin(now, end, outbox);
        }
    }

    fn send_fin(&mut self, now: Time<Monotonic>, end: End, outbox: &mut Outbox) {
        let sequence = self.pinger.next_sequence();
        outbox.control(self.terms.peer, Kind::Fin, sequence);
        self.phase = Phase::Closing { sequence, retry: Retry::first(now), end };
    }

    /// How long nothing may be received; `None` is for ever.
    fn patience(&self) -> Option<Duration> {
        match self.flood {
            Some(_) => Some(self.terms.timeout.map_or(FLOOD_SILENCE, |timeout| timeout.min(FLOOD_SILENCE))),
            None => self.terms.timeout,
        }
    }

    /// Whether nothing was received for too long: for how long.
    fn silence(&self, now: Time<Monotonic>) -> Option<Duration> {
        self.patience().filter(|after| now >= self.last_heard.plus(*after))
    }

    fn check_silence(&mut self, now: Time<Monotonic>, outbox: &mut Outbox) {
        let listens = matches!(self.phase, Phase::AwaitPing | Phase::Pinging | Phase::Echoing);
        let Some(after) = self.silence(now).filter(|_| listens) else { return };
        if self.flood.is_some() {
            self.end_flood(now, outbox);
            // Should it be there all the same, it need not wait for its own time-out.
            outbox.control(self.terms.peer, Kind::Fin, self.pinger.next_sequence());
            self.finish(now, End::FloodUnanswered { after }, outbox);
        } else {
            self.finish(now, End::TimedOut { after }, outbox);
        }
    }

    /// Says that a client has sent more dummies than it was granted.
    fn check_load(&self, outbox: &mut Outbox) {
        let load = self.terms.settings.load.filter(|_| self.terms.side == Side::Server);
        let Some((load, (first, last))) = load.zip(outbox.totals.first_dummy.zip(outbox.totals.last_dummy)) else {
            return;
        };
        let (received, within) = (outbox.totals.dummies_received, last.duration_since(first));
        if received > load_limit(load.packets_per_second, within) {
            let (from, granted) = (self.terms.peer, load.packets_per_second);
            outbox.tell(Event::LoadExceeded { from, granted, received, within });
        }
    }

    fn finish(&mut self, now: Time<Monotonic>, end: End, outbox: &mut Outbox) {
        outbox.totals.ended.get_or_insert(now);
        self.check_load(outbox);
        outbox.tell(Event::Finished(end));
        self.phase = Phase::Over;
    }
}

/// Dummies that a client may send at once beyond what it was granted.
const LOAD_SLACK: u64 = 64;

/// How many dummies of a flood of this rate may come within so much time. Queues on the way bunch what was sent evenly, and a
/// Poisson process is not even to begin with: a tenth of a second's worth, and a hundredth of all, are nobody's fault.
fn load_limit(packets_per_second: u64, within: Duration) -> u64 {
    let rate = u128::from(packets_per_second);
    let planned = rate * within.as_nanos() / 1_000_000_000;
    u64::try_from(planned + planned / 100 + rate / 10).unwrap_or(u64::MAX).saturating_add(LOAD_SLACK)
}

/// When an unanswered FIN is given up: the receive time-out after the FIN or after the last sign of life.
fn closing_limit(retry: &Retry, last_heard: Time<Monotonic>, terms: &Terms) -> Time<Monotonic> {
    retry.since.max(last_heard).plus(terms.timeout.unwrap_or(DEFAULT_TIMEOUT))
}

/// Whether a ping with this sequence is to be answered.
fn asks_for_pong(pong_every: u32, sequence: u64) -> bool {
    pong_every != 0 && sequence.is_multiple_of(u64::from(pong_every))
}
