//! A simulated world: machines of [`xdprobe::session`] on one virtual clock, joined by a wire that may do anything.
//!
//! No socket, no thread, no sleep: the world jumps from event to event. All chance comes from a [`Random`] with a seed.
#![allow(dead_code, reason = "each test binary uses its part")]

use std::cmp::Reverse;
use std::collections::{BinaryHeap, HashMap};
use std::net::{Ipv4Addr, SocketAddrV4};
use xdprobe::clock::{Monotonic, Time};
use xdprobe::session::{
    Action, Body, Client, ClientConfig, End, Event, Hall, HallConfig, Incoming, Machine, Offers, Outgoing, Pattern,
    Sampling, Server, ServerConfig, Settings, Totals,
};
use xdprobe::wire::ptp::Shape;
use xdprobe::wire::{DUMMY_SEQUENCE, Extension, Kind, MIN_IP_LEN, Message, Point, RawSettings};

/// Virtual time.
pub type Now = Time<Monotonic>;

/// So many steps without the time going on mean that a deadline is never cleared.
const LIVELOCK: u32 = 5_000;

/// The time at which worlds begin. Not 0: a machine must not take the epoch for something special.
pub const BEGIN: Now = Time::from_nanos(7_000_000_000);

/// The point `micros` microseconds after the world's beginning.
pub fn at(micros: u64) -> Now {
    BEGIN.plus_nanos(micros * 1000)
}

/// Microseconds since the world's beginning.
pub fn micros(time: Now) -> u64 {
    time.duration_since(BEGIN).as_micros() as u64
}

/// splitmix64: small, seeded, good enough to roll dice with.
#[derive(Debug, Clone)]
pub struct Random(pub u64);

impl Random {
    pub fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut bits = self.0;
        bits = (bits ^ (bits >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        bits = (bits ^ (bits >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        bits ^ (bits >> 31)
    }

    /// A number from `low` to `high`, both included.
    pub fn between(&mut self, low: u64, high: u64) -> u64 {
        low + self.next() % (high - low + 1)
    }

    /// True `percent` times of a hundred.
    pub fn chance(&mut self, percent: u64) -> bool {
        self.between(0, 99) < percent
    }

    pub fn pick<T: Copy>(&mut self, from: &[T]) -> T {
        from[self.between(0, from.len() as u64 - 1) as usize]
    }
}

/// A datagram on the wire.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Datagram {
    pub from: SocketAddrV4,
    pub to: SocketAddrV4,
    pub message: Message,
    pub body: Body,
    pub shape: Shape,
}

impl Datagram {
    /// What a path makes of it.
    fn incoming(&self) -> Incoming {
        let mut incoming = Incoming { shape: self.shape, ..Incoming::plain(self.from, self.message) };
        match (self.message.kind, self.body) {
            (Kind::Syn, Body::Settings(settings, extension)) => {
                (incoming.settings, incoming.extension) = (Some(settings), extension);
            }
            (Kind::SynAck, Body::Extension(extension)) => incoming.extension = Some(extension),
            (Kind::FinAck, Body::Account(account)) => incoming.account = Some(account),
            _ => {}
        }
        incoming
    }
}

/// Says when copies of a datagram arrive: none where it is lost, two where it is doubled.
pub type Wire = Box<dyn FnMut(Now, &Datagram) -> Vec<Now>>;

/// A wire that loses nothing and takes `micros` microseconds.
pub fn steady(micros: u64) -> Wire {
    Box::new(move |now, _| vec![now.plus_nanos(micros * 1000)])
}

/// A steady wire that loses the first `count` datagrams of each kind named.
pub fn losing_first(micros: u64, losses: &[(Kind, u32)]) -> Wire {
    let mut left: HashMap<Kind, u32> = losses.iter().copied().collect();
    Box::new(move |now, datagram| match left.get_mut(&datagram.message.kind) {
        Some(left) if *left > 0 => {
            *left -= 1;
            vec![]
        }
        _ => vec![now.plus_nanos(micros * 1000)],
    })
}

/// What a machine did or met, in order.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Trace {
    /// It sent this; the row of the log is the point's.
    Sent(SocketAddrV4, Message, Body, Option<Point>),
    /// It sent dummies.
    Dummies(u32),
    /// It sent this many dummies of a flood, of this many bytes with the IP header.
    Load(u32, u16),
    /// This came to its port, and made this row of the log.
    Came(SocketAddrV4, Message, Option<Point>),
    /// It told this.
    Told(Event),
    /// It was stopped.
    Stopped,
}

/// A ping or pong with its shape, as a machine sent it or met it.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Shaped {
    pub time: Now,
    pub sent: bool,
    pub message: Message,
    pub shape: Shape,
}

/// Makes a machine when its time has come.
type Make = Box<dyn FnOnce(Now) -> Box<dyn Machine>>;

/// A machine with its address, and all that it did.
pub struct Node {
    pub name: &'static str,
    pub address: SocketAddrV4,
    /// When it begins to live; datagrams to it are lost before.
    pub start: Now,
    /// When the user stops it.
    pub stops: Vec<Now>,
    /// A deadline is kept this many nanoseconds late.
    pub late: (u64, u64),
    pub machine: Option<Box<dyn Machine>>,
    make: Option<Make>,
    /// It is nanoprobe's: it reads 24 bytes behind the header of a SYN and nothing behind that of a SYN-ACK.
    pub is_nanoprobe: bool,
    /// What its path gets ready of what is wanted.
    pub grants: Offers,
    /// Whether its path could serve a client on any path that it asks for.
    pub grants_path: bool,
    /// Of each batch of a flood its path has room for so many.
    pub room: u32,
    /// What its path was asked to get ready.
    pub wanted: Vec<Extension>,
    pub trace: Vec<(Now, Trace)>,
    /// The pings and pongs among it.
    pub shapes: Vec<Shaped>,
    /// The totals at each end of a session.
    pub ends: Vec<(Now, End, Totals)>,
    /// The same of a server of many, with whose it was.
    pub departures: Vec<(SocketAddrV4, End, Totals)>,
    /// It has many sessions at once: its rows go on when one of them ends.
    is_hall: bool,
    /// Statistics are out: no further row until the next session.
    silent: bool,
    wake: Option<(Now, Now)>,
}

impl Node {
    fn new(
        name: &'static str,
        address: SocketAddrV4,
        start: Now,
        make: impl FnOnce(Now) -> Box<dyn Machine> + 'static,
    ) -> Self {
        Self {
            name,
            address,
            start,
            stops: vec![],
            late: (0, 0),
            machine: None,
            make: Some(Box::new(make)),
            is_nanoprobe: false,
            grants: Offers { udp: true, l2: true },
            grants_path: true,
            room: u32::MAX,
            wanted: vec![],
            trace: vec![],
            shapes: vec![],
            ends: vec![],
            departures: vec![],
            is_hall: false,
            silent: false,
            wake: None,
        }
    }

    pub fn is_over(&self) -> bool {
        self.machine.as_ref().is_some_and(|machine| machine.is_over())
    }

    /// The end of its only session.
    pub fn end(&self) -> Option<End> {
        assert!(self.ends.len() <= 1, "{}: {:?}", self.name, self.ends);
        self.ends.first().map(|(_, end, _)| *end)
    }

    /// The totals at the end of its only session.
    pub fn totals(&self) -> Totals {
        assert_eq!(self.ends.len(), 1, "{}: {:?}", self.name, self.ends);
        self.ends[0].2
    }

    /// The sequences of this row of the log, in order.
    pub fn rows(&self, point: Point) -> Vec<u64> {
        let sequence = |entry: &(Now, Trace)| match entry.1 {
            Trace::Sent(_, message, _, Some(is)) | Trace::Came(_, message, Some(is)) if is == point => {
                Some(message.sequence)
            }
            _ => None,
        };
        self.trace.iter().filter_map(sequence).collect()
    }

    /// The bodies of what it sent of this kind.
    pub fn bodies(&self, kind: Kind) -> Vec<Body> {
        let body = |(_, entry): &(Now, Trace)| match entry {
            Trace::Sent(_, message, body, _) if message.kind == kind => Some(*body),
            _ => None,
        };
        self.trace.iter().filter_map(body).collect()
    }

    /// When it sent this kind, in microseconds since the world's beginning, and with which sequence.
    pub fn sent(&self, kind: Kind) -> Vec<(u64, u64)> {
        let sent = |(time, entry): &(Now, Trace)| match entry {
            Trace::Sent(_, message, ..) if message.kind == kind => Some((micros(*time), message.sequence)),
            _ => None,
        };
        self.trace.iter().filter_map(sent).collect()
    }

    /// When this kind came from there.
    pub fn came(&self, from: SocketAddrV4, kind: Kind) -> Vec<(u64, u64)> {
        let came = |(time, entry): &(Now, Trace)| match entry {
            Trace::Came(sender, message, _) if *sender == from && message.kind == kind => {
                Some((micros(*time), message.sequence))
            }
            _ => None,
        };
        self.trace.iter().filter_map(came).collect()
    }

    pub fn events(&self) -> Vec<(u64, Event)> {
        let event = |(time, entry): &(Now, Trace)| match entry {
            Trace::Told(event) => Some((micros(*time), *event)),
            _ => None,
        };
        self.trace.iter().filter_map(event).collect()
    }

    pub fn was_connected(&self) -> bool {
        self.events().iter().any(|(_, event)| matches!(event, Event::Connected { .. }))
    }

    pub fn was_stopped(&self) -> bool {
        self.trace.iter().any(|(_, entry)| *entry == Trace::Stopped)
    }
}

/// Where servers are.
pub fn server_address() -> SocketAddrV4 {
    SocketAddrV4::new(Ipv4Addr::new(10, 66, 0, 2), 10666)
}

/// Where the `n`-th client is.
pub fn client_address(n: u16) -> SocketAddrV4 {
    SocketAddrV4::new(Ipv4Addr::new(10, 66, 0, 100 + n as u8), 40000 + n)
}

/// A server with nothing set but the time-out of nanoprobe.
pub fn server_config() -> ServerConfig {
    ServerConfig::plain(Some(std::time::Duration::from_secs(5)))
}

/// A client with nothing set but the settings and the time-out of nanoprobe.
pub fn client_config(settings: Settings) -> ClientConfig {
    ClientConfig {
        server: server_address(),
        settings,
        schedule: None,
        dummies: 0,
        timeout: Some(std::time::Duration::from_secs(5)),
        connect_timeout: None,
        sampling: Sampling::default(),
        pattern: Pattern::default(),
    }
}

/// Hands a machine nanoprobe's datagram, with the settings where it is a SYN.
pub fn hear(
    machine: &mut impl Machine,
    now: Now,
    from: SocketAddrV4,
    message: Message,
    settings: Option<RawSettings>,
) -> Option<Point> {
    machine.handle_datagram(now, &Incoming { settings, ..Incoming::plain(from, message) })
}

#[derive(Debug, PartialEq, Eq, PartialOrd, Ord, Clone, Copy)]
enum What {
    Start(usize),
    Stop(usize),
    Arrive(u64),
    Deadline(usize),
}

/// Machines, wire and clock.
pub struct World {
    /// Printed with every failure.
    pub label: String,
    pub now: Now,
    pub nodes: Vec<Node>,
    wire: Wire,
    random: Random,
    /// Arrivals by time, then by the order of sending.
    in_flight: BinaryHeap<Reverse<(Now, u64)>>,
    datagrams: HashMap<u64, Datagram>,
    sent: u64,
}

impl World {
    pub fn new(label: impl Into<String>, wire: Wire) -> Self {
        Self {
            label: label.into(),
            now: BEGIN,
            nodes: vec![],
            wire,
            random: Random(1),
            in_flight: BinaryHeap::new(),
            datagrams: HashMap::new(),
            sent: 0,
        }
    }

    /// Seeds the lateness of deadlines.
    pub fn seed(&mut self, seed: u64) {
        self.random = Random(seed);
    }

    pub fn add_server(&mut self, start: Now, config: ServerConfig) -> usize {
        let make = move |_| Box::new(Server::new(config)) as Box<dyn Machine>;
        self.nodes.push(Node::new("server", server_address(), start, make));
        self.nodes.len() - 1
    }

    /// A server of many, at the same address.
    pub fn add_hall(&mut self, start: Now, config: HallConfig) -> usize {
        let make = move |_| Box::new(Hall::new(config)) as Box<dyn Machine>;
        self.nodes.push(Node { is_hall: true, ..Node::new("hall", server_address(), start, make) });
        self.nodes.len() - 1
    }

    pub fn add_client(&mut self, n: u16, start: Now, config: ClientConfig) -> usize {
        let make = move |now| Box::new(Client::new(now, config)) as Box<dyn Machine>;
        self.nodes.push(Node::new("client", client_address(n), start, make));
        self.nodes.len() - 1
    }

    /// Lets a datagram arrive that no machine sent.
    pub fn inject(&mut self, when: Now, from: SocketAddrV4, to: SocketAddrV4, message: Message, body: Body) {
        self.inject_shaped(when, from, to, message, body, Shape::Plain);
    }

    /// The same for a ping or pong of any shape.
    pub fn inject_shaped(
        &mut self,
        when: Now,
        from: SocketAddrV4,
        to: SocketAddrV4,
        message: Message,
        body: Body,
        shape: Shape,
    ) {
        self.arrive(when, Datagram { from, to, message, body, shape });
    }

    /// Runs until every machine is over, or until nothing more can happen, or until `limit`.
    ///
    /// # Panics
    /// If a machine breaks a rule that holds always.
    pub fn run_until(&mut self, limit: Now) {
        let mut standing = 0;
        while let Some((when, what)) = self.next() {
            if when > limit {
                self.now = limit;
                return;
            }
            standing = if when > self.now { 0 } else { standing + 1 };
            assert!(standing < LIVELOCK, "{}: livelock at {} µs in {what:?}", self.label, micros(self.now));
            self.now = self.now.max(when);
            self.do_next(what);
            if self.nodes.iter().all(Node::is_over) {
                return;
            }
        }
    }

    /// Runs until every machine is over.
    ///
    /// # Panics
    /// If one is not by `seconds` of virtual time.
    pub fn drive(&mut self, seconds: u64) {
        self.run_until(at(seconds * 1_000_000));
        for node in &self.nodes {
            assert!(node.is_over(), "{}: {} is not over after {seconds} s: {:#?}", self.label, node.name, tail(node));
        }
        self.check_over();
    }

    fn next(&self) -> Option<(Now, What)> {
        let arrival = self.in_flight.peek().map(|Reverse((when, id))| (*when, What::Arrive(*id)));
        let of_nodes = self.nodes.iter().enumerate().flat_map(|(index, node)| {
            let start = node.make.is_some().then_some((node.start, What::Start(index)));
            let lives = node.machine.is_some();
            let stop = node.stops.first().filter(|_| lives).map(|when| (*when, What::Stop(index)));
            let deadline = node.wake.map(|(_, wake)| (wake, What::Deadline(index)));
            [start, stop, deadline].into_iter().flatten()
        });
        of_nodes.chain(arrival).min()
    }

    fn do_next(&mut self, what: What) {
        let now = self.now;
        match what {
            What::Start(index) => {
                let node = &mut self.nodes[index];
                node.machine = Some(node.make.take().unwrap()(now));
                self.obey(index);
            }
            What::Stop(index) => {
                let node = &mut self.nodes[index];
                node.stops.remove(0);
                node.trace.push((now, Trace::Stopped));
                node.machine.as_mut().unwrap().handle_stop(now);
                self.obey(index);
            }
            What::Deadline(index) => {
                let node = &mut self.nodes[index];
                node.wake = None;
                node.machine.as_mut().unwrap().handle_deadline(now);
                self.obey(index);
            }
            What::Arrive(id) => {
                self.in_flight.pop();
                let datagram = self.datagrams.remove(&id).unwrap();
                let lives = |node: &Node| node.machine.is_some() && !node.is_over();
                let Some(index) = self.nodes.iter().position(|node| node.address == datagram.to && lives(node)) else {
                    return;
                };
                let node = &mut self.nodes[index];
                let machine = node.machine.as_mut().unwrap();
                let mut incoming = datagram.incoming();
                if node.is_nanoprobe {
                    incoming.extension = None;
                }
                if let Some(wanted) = machine.wants(now, &incoming) {
                    node.wanted.push(wanted);
                    incoming.granted = Some(Extension {
                        ptp: wanted.ptp.filter(|transport| node.grants.has(*transport)),
                        serve_on: wanted.serve_on.filter(|_| node.grants_path),
                        ..wanted
                    });
                }
                let message = datagram.message;
                let point = machine.handle_datagram(now, &incoming);
                assert!(point.is_none() || !node.silent, "{}: {}: a row after the end", self.label, node.name);
                node.trace.push((now, Trace::Came(datagram.from, message, point)));
                if matches!(message.kind, Kind::Ping | Kind::Pong) {
                    node.shapes.push(Shaped { time: now, sent: false, message, shape: datagram.shape });
                }
                self.obey(index);
            }
        }
    }

    /// Does what the machine asks for, and notes its next deadline.
    fn obey(&mut self, index: usize) {
        let now = self.now;
        while let Some(action) = self.nodes[index].machine.as_mut().unwrap().poll_action() {
            let node = &mut self.nodes[index];
            match action {
                Action::Send(outgoing) => {
                    assert!(outgoing.point.is_none() || !node.silent, "{}: a row after the end", self.label);
                    node.trace.push((now, Trace::Sent(outgoing.to, outgoing.message, outgoing.body, outgoing.point)));
                    let (to, from) = (outgoing.to, node.address);
                    let Outgoing { message, body, shape, .. } = outgoing;
                    if matches!(message.kind, Kind::Ping | Kind::Pong) {
                        node.shapes.push(Shaped { time: now, sent: true, message, shape });
                    } else {
                        assert_eq!(shape, Shape::Plain, "{}: {message:?}", self.label);
                    }
                    self.carry(Datagram { from, to, message, body, shape });
                }
                Action::Dummies { to, count } => {
                    node.trace.push((now, Trace::Dummies(count)));
                    let from = SocketAddrV4::new(*node.address.ip(), node.address.port() + 1000);
                    let message = Message { kind: Kind::Dummy, sequence: DUMMY_SEQUENCE };
                    for _ in 0..count {
                        self.carry(Datagram { from, to, message, body: Body::Empty, shape: Shape::Plain });
                    }
                }
                Action::Load { to, count, ip_len } => {
                    node.trace.push((now, Trace::Load(count, ip_len)));
                    let sent = count.min(node.room);
                    if sent < count {
                        node.machine.as_mut().unwrap().handle_refused_load(count - sent);
                    }
                    let from = SocketAddrV4::new(*node.address.ip(), node.address.port() + 1000);
                    let message = Message { kind: Kind::Dummy, sequence: DUMMY_SEQUENCE };
                    let body = Body::Padding(ip_len - MIN_IP_LEN);
                    for _ in 0..sent {
                        self.carry(Datagram { from, to, message, body, shape: Shape::Plain });
                    }
                }
                Action::Tell(event) => {
                    node.trace.push((now, Trace::Told(event)));
                    match event {
                        Event::Connected { .. } => node.silent = false,
                        Event::Finished(end) => {
                            assert!(!node.silent, "{}: {} ended twice", self.label, node.name);
                            let machine = node.machine.as_ref().unwrap();
                            if node.is_hall {
                                let peer = machine.peer().expect("an end is somebody's");
                                node.departures.push((peer, end, *machine.totals()));
                            } else {
                                node.silent = true;
                                node.ends.push((now, end, *machine.totals()));
                            }
                        }
                        _ => {}
                    }
                }
            }
        }
        let node = &mut self.nodes[index];
        let deadline = node.machine.as_ref().unwrap().deadline();
        let late = self.random.between(node.late.0, node.late.1);
        node.wake = match (deadline, node.wake) {
            (Some(deadline), Some((same, wake))) if same == deadline => Some((same, wake)),
            (Some(deadline), _) => Some((deadline, deadline.max(now).plus_nanos(late))),
            (None, _) => None,
        };
    }

    fn carry(&mut self, datagram: Datagram) {
        for when in (self.wire)(self.now, &datagram) {
            self.arrive(when, datagram);
        }
    }

    fn arrive(&mut self, when: Now, datagram: Datagram) {
        self.sent += 1;
        self.in_flight.push(Reverse((when, self.sent)));
        self.datagrams.insert(self.sent, datagram);
    }

    /// Machines that are over ask for nothing, whatever comes.
    fn check_over(&mut self) {
        let now = self.now.plus_nanos(1);
        for node in &mut self.nodes {
            let Some(machine) = node.machine.as_mut().filter(|machine| machine.is_over()) else { continue };
            assert_eq!(machine.deadline(), None, "{}: {}", self.label, node.name);
            for kind in (0..=9).filter_map(Kind::from_wire) {
                for peer in [server_address(), client_address(0), client_address(1)] {
                    let settings = (kind == Kind::Syn).then(|| Settings::default().to_raw());
                    let plain = Incoming::plain(peer, Message { kind, sequence: 1 });
                    let incoming = Incoming { settings, ..plain };
                    assert_eq!(machine.wants(now, &incoming), None, "{}: {}", self.label, node.name);
                    let row = machine.handle_datagram(now, &incoming);
                    assert_eq!(row, None, "{}: {} makes a row when over", self.label, node.name);
                }
            }
            machine.handle_deadline(now);
            machine.handle_stop(now);
            assert_eq!(machine.poll_action(), None, "{}: {} acts when over", self.label, node.name);
            assert_eq!(machine.deadline(), None, "{}: {}", self.label, node.name);
            assert!(machine.is_over());
        }
    }
}

fn tail(node: &Node) -> &[(Now, Trace)] {
    &node.trace[node.trace.len().saturating_sub(12)..]
}
