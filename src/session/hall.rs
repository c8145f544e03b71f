//! Many clients of one server at once: a place for each, found by its address, with a session of its own.
//!
//! What is said in a session is [`Server`]'s; this finds the session that a datagram is of, knows the next deadline of all,
//! refuses whom there is no place for, and says when what waits is to be served in turn ([`super::Turns`]) and in whose line
//! a datagram belongs. What a ping costs does not depend on how many sessions there are; a session's end may
//! allocate, its begin and its pings never do.

use super::turns::SERVED_AT_ONCE;
use super::{Action, Body, End, Event, Incoming, Machine, Outgoing, Server, ServerConfig, TimerKind, Totals};
use crate::clock::{Monotonic, Time};
use crate::wire::ptp::Shape;
use crate::wire::{Extension, Kind, Message, Point, ServePath};
use foldhash::fast::RandomState;
use std::cmp::Reverse;
use std::collections::{BinaryHeap, HashMap, VecDeque};
use std::net::{Ipv4Addr, SocketAddrV4};
use std::sync::Arc;

/// The most clients that a server serves at once.
pub const MAX_CLIENTS: u16 = 4096;
/// Places for clients whose session is over, and who are remembered, beyond one for each that may stand.
const FORMER: usize = 16;

/// What a server of many is to do.
#[derive(Debug, Clone)]
pub struct HallConfig {
    /// What it does in each session. It goes on when one is over, whatever [`ServerConfig::keep`] says.
    pub server: ServerConfig,
    /// How many sessions may stand at once.
    pub clients: u16,
    /// The path that serves all of them.
    pub path: ServePath,
}

/// A place for a client.
///
/// The memory of a session is in no cache when its turn comes among thousands. So what a ping touches of it stands together, from the
/// beginning of a cache line on: two lines of flags, queue and counts here, and three of the conversation. An [`Option`] would keep what it is
/// wherever in a tenant a value is left over.
#[derive(Debug)]
#[repr(u8, align(64))]
#[expect(clippy::large_enum_variant, reason = "they are free at the beginning only, and after a crowd has left")]
enum Place {
    Free,
    Of(Tenant),
}

impl Place {
    const fn tenant(&self) -> Option<&Tenant> {
        match self {
            Self::Of(tenant) => Some(tenant),
            Self::Free => None,
        }
    }

    const fn tenant_mut(&mut self) -> Option<&mut Tenant> {
        match self {
            Self::Of(tenant) => Some(tenant),
            Self::Free => None,
        }
    }
}

/// One client, in a session or just out of it.
#[derive(Debug)]
#[repr(C)]
struct Tenant {
    /// When it is woken at the latest; the newest entry of [`Hall::alarms`] that is its own.
    alarm: Option<Time<Monotonic>>,
    /// A session stands, as counted in [`Hall::standing`].
    stands: bool,
    /// It wants busy waiting, as counted in [`Hall::busy`].
    busy: bool,
    /// Its session is over without its knowing ([`Hall::break_off`]).
    broken: bool,
    /// It was said that it is over.
    ended: bool,
    peer: SocketAddrV4,
    server: Server,
    /// Datagrams of this session that were dropped as they were beyond its share.
    excess: u64,
    /// Which of all departures was its last; 0 where no session of it is over.
    departures: u64,
}

impl Tenant {
    /// It has a session, be it one that ends with the actions that are being obeyed.
    fn has_session(&self) -> bool {
        self.stands || self.server.peer().is_some()
    }

    /// What its session has to do or to say.
    fn poll_action(&mut self, now: Time<Monotonic>) -> Option<Action> {
        if self.broken {
            while let Some(action) = self.server.poll_action() {
                self.server.handle_unsent(&action);
            }
            let ends = self.has_session() && !self.ended;
            self.ended = true;
            // Remembered as whoever has left, so that what it still sends is not a stranger's.
            self.broken = !self.server.break_session(now);
            return ends.then_some(Action::Tell(Event::Finished(End::Broken)));
        }
        let action = self.server.poll_action()?;
        match action {
            Action::Tell(Event::Connected { .. }) => (self.excess, self.ended) = (0, false),
            Action::Tell(Event::Finished(_)) => self.ended = true,
            _ => {}
        }
        Some(action)
    }
}

/// The server side of many sessions.
#[derive(Debug)]
pub struct Hall {
    config: HallConfig,
    /// [`HallConfig::server`], as all sessions have it.
    server: Arc<ServerConfig>,
    places: Vec<Place>,
    /// Places that are free, of those that were ever taken.
    free: Vec<u32>,
    /// Strangers choose what is looked up: the seed is chance.
    by_peer: HashMap<SocketAddrV4, u32, RandomState>,
    /// Whose the last datagram with this [`Incoming::way`] was: a look that finds its place there needs none into the map, which would be
    /// two more cache lines of each client.
    by_way: Vec<u32>,
    /// Of each address how many sessions stand, and the exclusive or of their places: of one it is that one.
    by_host: HashMap<Ipv4Addr, (u32, u32)>,
    /// Whose session is over: since when its place may be another's, oldest first, and which of its departures that was.
    departed: VecDeque<(Time<Monotonic>, u32, u64)>,
    alarms: BinaryHeap<Reverse<(Time<Monotonic>, u32)>>,
    standing: usize,
    /// How many sessions are over.
    departures: u64,
    busy: usize,
    stopping: bool,
    /// The time of the last datagram or deadline.
    now: Time<Monotonic>,
    /// Places with actions that may not have been obeyed yet.
    pending: VecDeque<u32>,
    /// Actions of no session.
    own: VecDeque<Action>,
    /// The queue of actions of whoever has some: a queue for each session would be memory that is in no cache.
    queue: VecDeque<Action>,
    /// Whose the last datagram or action was.
    current: Option<u32>,
    none: Totals,
    /// Datagrams sent since that was last asked for ([`Hall::take_cost`]).
    cost: u32,
    /// How many datagrams of those without a session may still be answered in this turn; `None` is without limit.
    strangers_left: Option<u32>,
    /// The sum of [`Place::excess`] over all sessions, also those that are over.
    clients_excess: u64,
    /// Datagrams of those without a session that were dropped as they were beyond their share.
    strangers_excess: u64,
    /// Dummies that may be of more than one session.
    unattributed: u64,
}

impl Hall {
    /// A server that waits for its first SYN. Memory for all that a ping needs is reserved here.
    pub fn new(config: HallConfig) -> Self {
        let clients = usize::from(config.clients);
        let room = Self::room_for(config.clients);
        let server = Arc::new(ServerConfig { keep: true, ..config.server.clone() });
        Self {
            config,
            server,
            places: Vec::with_capacity(room),
            free: Vec::with_capacity(room),
            by_peer: HashMap::with_capacity_and_hasher(2 * room, RandomState::default()),
            by_way: vec![u32::MAX; 2 * room],
            by_host: HashMap::with_capacity(2 * clients),
            departed: VecDeque::with_capacity(2 * room),
            alarms: BinaryHeap::with_capacity(2 * room),
            standing: 0,
            departures: 0,
            busy: 0,
            stopping: false,
            now: Time::from_nanos(0),
            pending: VecDeque::with_capacity(room),
            own: VecDeque::with_capacity(16),
            queue: VecDeque::with_capacity(16),
            current: None,
            none: Totals::default(),
            cost: 0,
            strangers_left: None,
            clients_excess: 0,
            strangers_excess: 0,
            unattributed: 0,
        }
    }

    /// How many places there are for so many clients at once: those of [`Hall::place`] are below.
    pub const fn room_for(clients: u16) -> usize {
        2 * clients as usize + FORMER
    }

    /// The same of this one.
    pub fn room(&self) -> usize {
        Self::room_for(self.config.clients)
    }

    /// How many sessions stand.
    pub fn standing(&self) -> usize {
        self.standing
    }

    /// The place of the session that the last datagram or action was of; `None` where it was of none.
    pub fn place(&self) -> Option<usize> {
        self.current.map(|at| at as usize)
    }

    /// What the session at a place counts, where there is one.
    pub fn totals_at(&self, place: usize) -> Option<&Totals> {
        self.places.get(place)?.tenant().map(|tenant| tenant.server.totals())
    }

    /// Datagrams of all that were dropped as they were beyond their sender's share, with a session or without.
    pub fn all_excess(&self) -> u64 {
        self.clients_excess + self.strangers_excess
    }

    /// Datagrams of that session that were dropped as they were beyond its share.
    pub fn excess(&self) -> u64 {
        self.tenant().map_or(0, |place| place.excess)
    }

    /// Datagrams of those without a session that were dropped as they were beyond their share.
    pub fn strangers_excess(&self) -> u64 {
        self.strangers_excess
    }

    /// Dummies that were counted for no session: more than one stood from their address.
    pub fn unattributed(&self) -> u64 {
        self.unattributed
    }

    /// The loop turns: a look has brought all that it can (`full`), so that more may wait, or not, and in so many lines
    /// something waits that was read before. Whether what was read is to be lined up ([`Hall::line`]) and served in turn.
    ///
    /// It is where more waits than is read at once and more than one session stands. Whoever is alone has nobody to be fair
    /// to, and all of the server. Those without a session have one line's part of what is served while more waits, and
    /// no line: they are answered at once or not at all, as the way to a stranger is not remembered for long.
    pub fn begin_turn(&mut self, full: bool, lines: usize) -> bool {
        let crowded = full || lines > 0;
        // Whoever is alone has no line, and waits for all that came before it.
        let others = lines.max(usize::from(self.standing == 1));
        let part = SERVED_AT_ONCE as usize / (others + 1);
        self.strangers_left = (crowded && self.standing > 0).then_some(part.max(1) as u32);
        lines > 0 || (full && self.standing > 1)
    }

    /// In whose line a datagram from this address belongs, of [`Hall::room`] in all: the place of its client's session, be it over. `None`: it
    /// is handed over at once, as there is nobody who would have to wait for it, or nothing that would be answered.
    /// `way` as of [`Incoming::way`].
    ///
    /// What is served soon is fetched from memory here: of all that are lined up at once, so that the processor waits for many
    /// together, and not for each when its turn comes.
    pub fn line(&self, from: SocketAddrV4, way: Option<u32>) -> Option<usize> {
        let at = self.by_way(from, way).or_else(|| self.by_peer.get(&from).copied())?;
        std::hint::black_box(self.places[at as usize].tenant().map(|tenant| tenant.server.touch()));
        Some(at as usize)
    }

    /// A datagram is dropped, as there was no room in this line: it is counted.
    pub fn drop_excess(&mut self, line: usize) {
        if let Some(place) = self.places.get_mut(line).and_then(Place::tenant_mut) {
            place.excess += 1;
            self.clients_excess += 1;
        }
    }

    /// The session of this line is over, and did not end in its turn: what still waits there, in its order, will find none. Its pings
    /// and pongs are counted as dropped, up to the SYN that asks for the next session.
    pub fn drop_waiting(&mut self, line: usize, waiting: impl Iterator<Item = Kind>) {
        let of_session = waiting.take_while(|kind| *kind != Kind::Syn);
        for _ in of_session.filter(|kind| matches!(kind, Kind::Ping | Kind::Pong)) {
            self.drop_excess(line);
        }
    }

    /// How many datagrams the actions were since this was last asked for, dummies among them.
    pub fn take_cost(&mut self) -> u32 {
        std::mem::take(&mut self.cost)
    }

    /// Whether the session at a place is one that has not been said to be over.
    pub fn stands_at(&self, place: usize) -> bool {
        self.places.get(place).and_then(Place::tenant).is_some_and(|tenant| tenant.stands && !tenant.ended)
    }

    /// Nothing can be sent to the peer whose action was the last: its session is over without a word. `unsent` is what did not leave of
    /// that action. The place of that session; `None` where there is none: whoever is refused, or only remembered, has nothing to lose.
    pub fn break_off(&mut self, unsent: &Action) -> Option<usize> {
        let at = self.current?;
        let place = self.places[at as usize].tenant_mut()?;
        place.server.handle_unsent(unsent);
        // It is among the pending, as its actions are being obeyed.
        place.broken = place.has_session();
        place.broken.then_some(at as usize)
    }

    fn tenant(&self) -> Option<&Tenant> {
        self.places.get(self.current? as usize)?.tenant()
    }

    /// Whether a datagram of somebody without a session is beyond the share of all of them.
    fn is_excess(&mut self) -> bool {
        match &mut self.strangers_left {
            None => false,
            Some(0) => true,
            Some(left) => {
                *left -= 1;
                false
            }
        }
    }

    /// The place of this client.
    #[inline]
    fn find(&mut self, from: SocketAddrV4, way: Option<u32>) -> Option<u32> {
        if let Some(at) = self.by_way(from, way) {
            return Some(at);
        }
        let at = *self.by_peer.get(&from)?;
        if let Some(way) = way.and_then(|way| self.by_way.get_mut(way as usize)) {
            *way = at;
        }
        Some(at)
    }

    /// The same, where it is known without a look into the map.
    #[inline]
    fn by_way(&self, from: SocketAddrV4, way: Option<u32>) -> Option<u32> {
        let at = *self.by_way.get(way? as usize)?;
        let tenant = self.places.get(at as usize)?.tenant()?;
        (tenant.peer == from).then_some(at)
    }

    /// Hands a datagram to its session.
    fn pass(&mut self, now: Time<Monotonic>, at: u32, incoming: &Incoming) -> Option<Point> {
        let place = self.places[at as usize].tenant_mut()?;
        self.current = Some(at);
        place.server.lend(&mut self.queue);
        let point = place.server.handle_datagram(now, incoming);
        self.pending.push_back(at);
        point
    }

    /// A datagram from an address that has no place.
    fn handle_stranger(&mut self, now: Time<Monotonic>, incoming: &Incoming) -> Option<Point> {
        let from = incoming.from;
        if incoming.message.kind == Kind::Dummy {
            // Dummies leave from another port of the client's.
            match self.by_host.get(from.ip()) {
                Some(&(1, at)) => return self.pass(now, at, incoming),
                Some(_) => self.unattributed += 1,
                None => {}
            }
            return None;
        }
        if self.is_excess() {
            self.strangers_excess += 1;
            return None;
        }
        if incoming.message.kind != Kind::Syn || incoming.settings.is_none() {
            self.own.push_back(Action::Tell(Event::Ignored { from, kind: incoming.message.kind }));
            return None;
        }
        if let Some(refusal) = self.refusal(incoming) {
            self.refuse(incoming, refusal);
            return None;
        }
        let at = self.settle_in(now, from);
        self.admit(now, at, incoming)
    }

    /// A SYN that may begin a session at this place.
    fn admit(&mut self, now: Time<Monotonic>, at: u32, incoming: &Incoming) -> Option<Point> {
        // What a client may ask of the path is had without getting anything ready.
        let path = Some(self.config.path);
        let serve_on = incoming.extension.and_then(|asked| asked.serve_on).filter(|asked| Some(*asked) == path);
        let granted = serve_on.map(|_| Extension { serve_on, ..Extension::default() });
        self.pass(now, at, &Incoming { granted, ..*incoming })
    }

    /// Why there will be no session for this SYN, as far as that lies in serving many.
    fn refusal(&self, incoming: &Incoming) -> Option<Event> {
        let from = incoming.from;
        let asked = incoming.extension.unwrap_or_default();
        let path = asked.serve_on.filter(|path| *path != self.config.path);
        let what = match (path, asked.load, incoming.settings.map(|settings| settings.direction)) {
            (Some(_), ..) => "to be served on the other path",
            (None, Some(_), _) => "to flood this server",
            (None, None, Some(1)) => "to be pinged (--reverse)",
            _ if self.standing >= usize::from(self.config.clients) => {
                return Some(Event::RefusedFull { from, clients: self.config.clients });
            }
            _ => return None,
        };
        Some(Event::RefusedShared { from, what })
    }

    fn refuse(&mut self, incoming: &Incoming, refusal: Event) {
        let message = Message { kind: Kind::SynRst, sequence: incoming.message.sequence };
        let to = incoming.from;
        self.own.push_back(Action::Send(Outgoing { to, message, body: Body::Empty, shape: Shape::Plain, point: None }));
        self.own.push_back(Action::Tell(refusal));
    }

    /// A place for a client that has none: one that is free, a new one, or that of whoever left first.
    fn settle_in(&mut self, now: Time<Monotonic>, peer: SocketAddrV4) -> u32 {
        self.forget(now);
        if self.free.is_empty() && self.places.len() == self.room() {
            while let Some((_, at, departure)) = self.departed.pop_front() {
                if self.is_gone(at, departure) {
                    self.vacate(at);
                    break;
                }
            }
        }
        let at = self.free.pop().unwrap_or(self.places.len() as u32);
        let place = Place::Of(Tenant {
            peer,
            server: Server::one_of_many(Arc::clone(&self.server)),
            stands: false,
            busy: false,
            alarm: None,
            excess: 0,
            departures: 0,
            broken: false,
            ended: false,
        });
        match self.places.get_mut(at as usize) {
            Some(free) => *free = place,
            None => self.places.push(place),
        }
        self.by_peer.insert(peer, at);
        at
    }

    /// Gives free the places of those who left long enough ago.
    fn forget(&mut self, now: Time<Monotonic>) {
        while let Some(&(until, at, departure)) = self.departed.front() {
            let gone = self.is_gone(at, departure);
            if gone && now < until {
                return;
            }
            self.departed.pop_front();
            if gone {
                self.vacate(at);
            }
        }
    }

    /// Whether this was the last departure from that place, and nobody has come back.
    fn is_gone(&self, at: u32, departure: u64) -> bool {
        self.places[at as usize].tenant().is_some_and(|place| !place.stands && place.departures == departure)
    }

    fn vacate(&mut self, at: u32) {
        if let Place::Of(place) = std::mem::replace(&mut self.places[at as usize], Place::Free) {
            self.by_peer.remove(&place.peer);
            self.free.push(at);
        }
    }

    /// What is to be done next, by whichever session.
    fn next_action(&mut self) -> Option<Action> {
        if let Some(action) = self.own.pop_front() {
            self.current = None;
            return Some(action);
        }
        while let Some(&at) = self.pending.front() {
            if let Some(place) = self.places[at as usize].tenant_mut()
                && let Some(action) = place.poll_action(self.now)
            {
                self.current = Some(at);
                return Some(action);
            }
            self.pending.pop_front();
            self.take_stock(at);
        }
        None
    }

    /// All that a session had to say is said: what has become of it?
    fn take_stock(&mut self, at: u32) {
        let Some(place) = self.places[at as usize].tenant_mut() else { return };
        place.server.take_back(&mut self.queue);
        let stands = place.server.peer().is_some() && !place.broken;
        let busy = stands && place.server.timer() == TimerKind::Busy;
        self.busy = self.busy + usize::from(busy) - usize::from(std::mem::replace(&mut place.busy, busy));
        let deadline = place.server.deadline();
        let is_over = place.server.is_over() || place.broken;
        if std::mem::replace(&mut place.stands, stands) != stands {
            let (count, places) = self.by_host.entry(*place.peer.ip()).or_default();
            *places ^= at;
            if stands {
                *count += 1;
                self.standing += 1;
            } else {
                *count -= 1;
                self.standing -= 1;
                // Of the whole table: a place that was given away must not be taken for its last owner's.
                self.departures += 1;
                place.departures = self.departures;
                if *count == 0 {
                    self.by_host.remove(place.peer.ip());
                }
                let departure = place.departures;
                let until = self.now.plus(super::REMEMBER);
                self.departed.push_back((until, at, departure));
            }
        } else if !stands && place.departures == 0 {
            // It asked for what this server does not do, and was refused.
            return self.vacate(at);
        }
        match deadline {
            _ if is_over => self.vacate(at),
            Some(deadline) => self.wake_at(at, deadline),
            None => {}
        }
    }

    /// Sees to it that the place is woken at `deadline`, or before: then it is looked again. So what is heard of a client
    /// costs nothing here, as it only puts its time-out off.
    fn wake_at(&mut self, at: u32, deadline: Time<Monotonic>) {
        let Some(place) = self.places[at as usize].tenant_mut() else { return };
        if place.alarm.is_some_and(|alarm| alarm <= deadline) {
            return;
        }
        place.alarm = Some(deadline);
        if self.alarms.len() == self.alarms.capacity() {
            // Each place has one that counts: at least half of them go.
            let places = &self.places;
            self.alarms.retain(|Reverse((time, at))| {
                places[*at as usize].tenant().is_some_and(|place| place.alarm == Some(*time))
            });
        }
        self.alarms.push(Reverse((deadline, at)));
    }
}

impl Machine for Hall {
    fn handle_datagram(&mut self, now: Time<Monotonic>, incoming: &Incoming) -> Option<Point> {
        self.current = None;
        if self.is_over() {
            return None;
        }
        self.now = now;
        let Some(at) = self.find(incoming.from, incoming.way) else {
            // One that is about to leave neither accepts nor refuses: the next one may.
            return if self.stopping { None } else { self.handle_stranger(now, incoming) };
        };
        // A late copy of a SYN asks for nothing, so that it is not refused.
        let &Incoming { from, message, .. } = incoming;
        let is_answered = |place: &Tenant| place.stands || place.server.is_late(now, from, message);
        let is_answered = self.places[at as usize].tenant().is_some_and(is_answered);
        if is_answered || message.kind != Kind::Syn || incoming.settings.is_none() {
            return self.pass(now, at, incoming);
        }
        if let Some(refusal) = self.refusal(incoming) {
            self.refuse(incoming, refusal);
            return None;
        }
        self.admit(now, at, incoming)
    }

    fn wants(&self, _now: Time<Monotonic>, _incoming: &Incoming) -> Option<Extension> {
        None
    }

    fn handle_transmit_stamp(&mut self, _sequence: u64) {}

    fn handle_repeated_pong(&mut self) {}

    fn handle_refused_load(&mut self, _count: u32) {}

    fn handle_unsent(&mut self, unsent: &Action) {
        if let Some(place) = self.current.and_then(|at| self.places[at as usize].tenant_mut()) {
            place.server.handle_unsent(unsent);
        }
    }

    fn handle_stall(&mut self, from: Time<Monotonic>, now: Time<Monotonic>) {
        self.places.iter_mut().filter_map(Place::tenant_mut).for_each(|place| place.server.handle_stall(from, now));
    }

    /// Of all sessions.
    fn break_session(&mut self, now: Time<Monotonic>) -> bool {
        (self.current, self.now) = (None, now);
        for (at, place) in self.places.iter_mut().enumerate() {
            let place = place.tenant_mut().filter(|place| place.has_session());
            if let Some(place) = place {
                place.broken = true;
                self.pending.push_back(at as u32);
            }
        }
        !self.stopping
    }

    fn handle_deadline(&mut self, now: Time<Monotonic>) {
        (self.current, self.now) = (None, now);
        while let Some(&Reverse((time, at))) = self.alarms.peek() {
            if time > now {
                return;
            }
            self.alarms.pop();
            let Some(place) = self.places[at as usize].tenant_mut().filter(|place| place.alarm == Some(time)) else {
                continue;
            };
            place.alarm = None;
            match place.server.deadline() {
                Some(deadline) if deadline <= now => {
                    place.server.lend(&mut self.queue);
                    place.server.handle_deadline(now);
                    self.current = Some(at);
                    self.pending.push_back(at);
                    return;
                }
                Some(deadline) => self.wake_at(at, deadline),
                None => {}
            }
        }
    }

    fn handle_stop(&mut self, now: Time<Monotonic>) {
        (self.current, self.stopping, self.now) = (None, true, now);
        for (at, place) in self.places.iter_mut().enumerate() {
            if let Some(place) = place.tenant_mut() {
                place.server.handle_stop(now);
                self.pending.push_back(at as u32);
            }
        }
    }

    fn poll_action(&mut self) -> Option<Action> {
        let action = self.next_action();
        match action {
            Some(Action::Send(_)) => self.cost = self.cost.saturating_add(1),
            Some(Action::Dummies { count, .. }) => self.cost = self.cost.saturating_add(count),
            _ => {}
        }
        action
    }

    fn deadline(&self) -> Option<Time<Monotonic>> {
        self.alarms.peek().map(|Reverse((time, _))| *time).filter(|_| !self.is_over())
    }

    fn timer(&self) -> TimerKind {
        if self.busy > 0 { TimerKind::Busy } else { TimerKind::Sleep }
    }

    fn peer(&self) -> Option<SocketAddrV4> {
        self.tenant().filter(|place| place.stands).map(|place| place.peer)
    }

    fn is_over(&self) -> bool {
        self.stopping && self.by_peer.is_empty() && self.pending.is_empty()
    }

    fn totals(&self) -> &Totals {
        self.tenant().map_or(&self.none, |place| place.server.totals())
    }
}
