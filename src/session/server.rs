//! The server: waits for a SYN, serves one client, refuses the others; with `keep` one client after the other.

use super::conversation::{Conversation, Outbox, Side, Terms};
use super::{
    Action, Direction, Event, Incoming, Machine, Pattern, Probe, PtpRefusal, REMEMBER, Rate, Sampling, Settings,
    TimerKind, Totals, ip_len,
};
use crate::clock::{Monotonic, Time};
use crate::wire::ptp::Transport;
use crate::wire::{Account, Extension, Kind, Message, Point, RawSettings};
use std::collections::VecDeque;
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
    /// The same for PTP over Ethernet, which nobody fragments: the interface's MTU.
    pub max_l2_len: Option<u16>,
    /// How to wait during a session, in place of what the client's settings say.
    pub timer: Option<TimerKind>,
    /// What a client may ask for.
    pub offers: Offers,
    /// The card stamps nothing but PTP messages on receipt, and its stamps are wanted: a client that does not ask for PTP
    /// headers is refused.
    pub requires_ptp: bool,
    /// Which pings of this side are to be stamped, where pings travel behind PTP headers.
    pub sampling: Sampling,
    /// The most that a client may flood this side with; `None` is without limit.
    pub max_rate: Option<Rate>,
}

impl ServerConfig {
    /// One session, in which nothing is the server's own but the time-out: what the client asks for is done, on a path that fragments, without
    /// a schedule, dummies or a limit of a flood's rate. Nothing is offered behind PTP headers.
    pub fn plain(timeout: Option<Duration>) -> Self {
        Self {
            schedule: None,
            dummies: 0,
            timeout,
            keep: false,
            max_ip_len: None,
            max_l2_len: None,
            timer: None,
            offers: Offers::default(),
            requires_ptp: false,
            sampling: Sampling::default(),
            max_rate: None,
        }
    }
}

/// By what a server's path could carry pings and pongs behind PTP headers, if asked to. The default is nothing.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Offers {
    /// [`Transport::Udp`].
    pub udp: bool,
    /// [`Transport::L2`].
    pub l2: bool,
}

impl Offers {
    /// Whether this one is among them.
    pub const fn has(&self, transport: Transport) -> bool {
        match transport {
            Transport::Udp => self.udp,
            Transport::L2 => self.l2,
        }
    }
}

/// The server side of sessions. What a ping touches stands together: of many sessions it is in no cache when its turn comes.
#[derive(Debug)]
#[repr(C)]
pub struct Server {
    outbox: Outbox,
    state: State,
    /// The sequence of the SYN of the session that stands.
    number: u64,
    former: Vec<Former>,
    config: Arc<ServerConfig>,
    /// Stopped is stopped: no further session is served.
    stopped: bool,
}

/// A client whose session is over. What still comes from it is late, and no word about a new session.
#[derive(Debug)]
struct Former {
    peer: SocketAddrV4,
    /// The sequence of its SYN.
    number: u64,
    /// It is remembered until then.
    until: Time<Monotonic>,
    /// The sequence of its FIN, and the account that it was answered with where it had asked for one: a repeated one is answered again.
    answered_fin: Option<(u64, Option<Account>)>,
}

#[derive(Debug)]
#[repr(u8)]
#[expect(clippy::large_enum_variant, reason = "there is one of it, and the session's is the one that matters")]
enum State {
    Listening,
    Talking(Conversation),
    Over,
}

impl Server {
    /// A server that waits for its first SYN.
    pub fn new(config: ServerConfig) -> Self {
        Self::with(Arc::new(config), Outbox::new(), Vec::with_capacity(REMEMBERED))
    }

    /// One of many, which has a queue of actions only while it is lent one ([`Server::lend`]). It begins while others' pings are
    /// under way, so nothing is allocated before its first session is over.
    pub(super) fn one_of_many(config: Arc<ServerConfig>) -> Self {
        Self::with(config, Outbox::without_queue(), Vec::new())
    }

    fn with(config: Arc<ServerConfig>, outbox: Outbox, former: Vec<Former>) -> Self {
        Self { outbox, state: State::Listening, number: 0, former, config, stopped: false }
    }

    /// Reads what a ping needs of it, for the sake of the caches; the value means nothing.
    #[inline]
    pub(super) fn touch(&self) -> u64 {
        let State::Talking(conversation) = &self.state else { return 0 };
        self.outbox.totals.pings_received ^ conversation.touch()
    }

    /// Lends it the queue of actions that all share, if it has none and that one is there.
    #[inline]
    pub(super) fn lend(&mut self, queue: &mut VecDeque<Action>) {
        self.outbox.lend(queue);
    }

    /// Takes that queue back, once there is nothing in it.
    #[inline]
    pub(super) fn take_back(&mut self, queue: &mut VecDeque<Action>) {
        self.outbox.take_back(queue);
    }

    fn handle_unconnected(&mut self, now: Time<Monotonic>, incoming: &Incoming) {
        if self.handle_former(now, incoming.from, incoming.message) {
            return;
        }
        match (incoming.message.kind, incoming.settings) {
            (Kind::Syn, Some(raw)) => self.accept(now, incoming, raw),
            (kind, _) => self.outbox.tell(Event::Ignored { from: incoming.from, kind }),
        }
    }

    fn accept(&mut self, now: Time<Monotonic>, incoming: &Incoming, raw: RawSettings) {
        let &Incoming { from, message, granted, .. } = incoming;
        let accepted = self.judge(incoming, raw).and_then(|settings| match settings.ptp {
            Some(transport) if granted.and_then(|granted| granted.ptp) != Some(transport) => {
                Err(Event::RefusedPtp { from, transport, why: PtpRefusal::NotReady })
            }
            _ => match settings.serve_on {
                Some(path) if granted.and_then(|granted| granted.serve_on) != Some(path) => {
                    Err(Event::RefusedPath { from, path })
                }
                _ => Ok(settings),
            },
        });
        let settings = match accepted {
            Ok(settings) => settings,
            Err(refusal) => {
                self.outbox.control(from, Kind::SynRst, message.sequence);
                self.outbox.tell(refusal);
                return;
            }
        };
        // Whoever asks with an extension is answered with one, be it that nothing of it is known here.
        let granted = incoming.extension.map(|_| settings.extension().unwrap_or_default());
        self.number = message.sequence;
        // A new session counts from its SYN.
        self.outbox.totals = Totals { received: 1, ..Totals::default() };
        // Told first: whoever hears it may take the time to look at counters before the client begins.
        self.outbox.tell(Event::Connected { peer: from, settings });
        self.outbox.syn_ack(from, message.sequence, granted);
        Settings::from_client(
            raw,
            incoming.extension.unwrap_or_default(),
            self.config.schedule.is_some(),
            |correction| {
                self.outbox.tell(Event::Corrected(correction));
            },
        );
        let terms = Terms {
            side: Side::Server,
            peer: from,
            settings: Settings { timer: self.config.timer.unwrap_or(settings.timer), ..settings },
            schedule: self.config.schedule.clone(),
            dummies: self.config.dummies,
            timeout: self.config.timeout,
            granted,
            sampling: self.config.sampling,
            pattern: Pattern::default(),
        };
        self.state = State::Talking(Conversation::begin(now, terms, &mut self.outbox));
    }

    /// What the session of this SYN would do, if the path gets ready what it needs.
    ///
    /// # Errors
    /// Why there will be none.
    fn judge(&self, incoming: &Incoming, raw: RawSettings) -> Result<Settings, Event> {
        let from = incoming.from;
        let asked = incoming.extension.unwrap_or_default();
        let mut settings = Settings::from_client(raw, asked, self.config.schedule.is_some(), |_| ());
        if let (Some(load), Some(most)) = (&mut settings.load, self.config.max_rate) {
            load.packets_per_second = load.packets_per_second.min(most.packets_per_second(load.ip_len));
        }
        match asked.ptp {
            None if self.config.requires_ptp => return Err(Event::RefusedPlain { from }),
            Some(transport) => {
                if let Some(why) = self.cannot(transport, &settings) {
                    return Err(Event::RefusedPtp { from, transport, why });
                }
            }
            None => {}
        }
        match self.too_large(&settings) {
            Some((ip_len, limit)) => Err(Event::RefusedSize { from, ip_len, limit }),
            None => Ok(settings),
        }
    }

    /// Why pings and pongs cannot travel behind PTP headers.
    fn cannot(&self, transport: Transport, settings: &Settings) -> Option<PtpRefusal> {
        if !self.config.offers.has(transport) {
            return Some(PtpRefusal::NotOffered);
        }
        // A size of the client's is corrected; that of the own schedule is its user's word.
        let schedule = self.config.schedule.as_deref().filter(|_| settings.direction != Direction::Forward)?;
        let smallest = schedule.iter().map(|probe| probe.padding).min()?;
        (smallest < transport.min_padding()).then(|| PtpRefusal::Schedule { ip_len: ip_len(smallest) })
    }

    /// The larger of the IP lengths that would not fit into one frame, with the limit.
    fn too_large(&self, settings: &Settings) -> Option<(u16, u16)> {
        let limit = match settings.ptp {
            Some(Transport::L2) => self.config.max_l2_len?,
            _ => self.config.max_ip_len?,
        };
        // The own schedule was checked when it was read. That of the client is not in its SYN.
        let scheduled = settings.direction == Direction::Reverse && self.config.schedule.is_some();
        let own_schedule = self.config.schedule.as_deref().filter(|_| settings.direction != Direction::Forward);
        let ping = match own_schedule {
            // Over Ethernet also on a path that fragments: it has been checked for none.
            Some(schedule) if settings.ptp == Some(Transport::L2) => {
                let own = schedule.iter().map(|probe| probe.padding).max().unwrap_or(0);
                if scheduled { own } else { own.max(settings.ping_padding) }
            }
            _ if scheduled => 0,
            _ => settings.ping_padding,
        };
        let pong = if settings.direction == Direction::Duplex { 0 } else { settings.pong_padding };
        let largest = ip_len(ping.max(pong));
        (largest > limit).then_some((largest, limit))
    }

    /// Whether this SYN is no late copy of one that had its session, but asks for another (`Client::numbered`).
    fn is_next(&self, from: SocketAddrV4, message: Message) -> bool {
        let mut of_peer = self.former.iter().filter(|former| former.peer == from);
        message.kind == Kind::Syn && of_peer.all(|former| former.number < message.sequence)
    }

    /// Whether it comes late from a client whose session is over.
    pub(super) fn is_late(&self, now: Time<Monotonic>, from: SocketAddrV4, message: Message) -> bool {
        let late = self.former.iter().any(|former| former.peer == from && now < former.until);
        late && !self.is_next(from, message)
    }

    /// Whether the datagram comes from a client whose session is over. All that such a one still gets is a FIN-ACK, unless
    /// it asks for its next session.
    fn handle_former(&mut self, now: Time<Monotonic>, from: SocketAddrV4, message: Message) -> bool {
        self.former.retain(|former| now < former.until);
        if self.is_next(from, message) {
            return false;
        }
        if let Some(former) = self.former.iter().rfind(|former| former.peer == from) {
            if message.kind == Kind::Fin
                && let Some((_, account)) = former.answered_fin
            {
                self.outbox.fin_ack(from, message.sequence, account);
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
        let is_over = conversation.is_over();
        // First, and alone: it is asked for each ping, and what else is asked lies elsewhere in memory.
        if !is_over && !conversation.is_lingering() {
            return;
        }
        if self.goes_on() {
            self.listen_again(now);
        } else if is_over {
            self.state = State::Over;
        }
    }

    /// Whether there may be a session after the one that stands.
    fn goes_on(&self) -> bool {
        self.config.keep && !self.stopped
    }

    /// The session that stands, if any, is over: its client is remembered for a while.
    fn listen_again(&mut self, now: Time<Monotonic>) {
        let State::Talking(conversation) = &self.state else { return };
        if self.former.len() == REMEMBERED {
            self.former.remove(0);
        }
        let (peer, answered_fin) = (conversation.terms.peer, conversation.answered_fin());
        self.former.push(Former { peer, number: self.number, until: now.plus(REMEMBER), answered_fin });
        self.state = State::Listening;
    }
}

/// Whether a FIN is a late copy of one that ended a session of this peer's before.
fn is_of_former(former: &[Former], conversation: &Conversation, from: SocketAddrV4, sequence: u64) -> bool {
    let ended = |former: &Former| former.peer == from && former.answered_fin.is_some_and(|(fin, _)| fin == sequence);
    conversation.is_past(sequence) && former.iter().any(ended)
}

impl Machine for Server {
    fn handle_datagram(&mut self, now: Time<Monotonic>, incoming: &Incoming) -> Option<Point> {
        let &Incoming { from, message, .. } = incoming;
        let State::Talking(conversation) = &mut self.state else {
            if matches!(self.state, State::Listening) {
                self.handle_unconnected(now, incoming);
            }
            return None;
        };
        let peer = conversation.terms.peer;
        self.outbox.totals.received += 1;
        let mut point = None;
        if from == peer && message.kind == Kind::Syn && message.sequence > self.number {
            // It wants its next session, and this one has no FIN yet: it would get what was granted to the last one.
            self.handle_foreign(from, message);
        } else if from == peer && message.kind == Kind::Syn {
            conversation.handle_repeated_syn(now, message.sequence, &mut self.outbox);
        } else if from == peer
            && message.kind == Kind::Fin
            && is_of_former(&self.former, conversation, from, message.sequence)
        {
            self.outbox.totals.unexpected += 1;
        } else if from == peer {
            point = conversation.handle(now, incoming, &mut self.outbox);
        } else if message.kind == Kind::Dummy && from.ip() == peer.ip() {
            // Dummies leave from another port of the client's.
            conversation.handle_dummy(now, &mut self.outbox);
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

    fn wants(&self, now: Time<Monotonic>, incoming: &Incoming) -> Option<Extension> {
        if !matches!(self.state, State::Listening) || self.is_late(now, incoming.from, incoming.message) {
            return None;
        }
        let settings = self.judge(incoming, incoming.settings?).ok()?;
        settings.path_extension()
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

    fn break_session(&mut self, now: Time<Monotonic>) -> bool {
        if self.goes_on() {
            self.listen_again(now);
        }
        self.goes_on() && !self.is_over()
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
                self.stopped = true;
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

    fn session_timer(&self) -> TimerKind {
        match &self.state {
            State::Talking(conversation) => conversation.terms.settings.timer,
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
