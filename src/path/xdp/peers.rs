//! Who frames are sent to: the way there, the queue, and the frames' headers ready to be written.
//!
//! What is done for a frame takes the same time however many peers there are, and one cache line of each: those of thousands are in
//! no cache when their turn comes. No allocation after [`Peers::new`] and [`Peers::make_room`]; no ring and no memory of frames.

use crate::clock::{Realtime, Time};
use crate::path::BATCH;
use crate::wire::frame::{Envelope, Flow, LinkHeader, Template};
use crate::wire::ptp::{Shape, Transport};
use crate::wire::{InBand, Kind};
use foldhash::fast::RandomState;
use std::collections::{HashMap, VecDeque};
use std::net::{Ipv4Addr, SocketAddrV4};

/// How many peers are remembered at least: what one batch brings never pushes out what the same batch brought.
const MIN_PEERS: usize = BATCH + 1;
/// One place for each value of [`Kind`] on the wire.
const KINDS: usize = Kind::Dummy as usize + 1;
/// And one for pings and pongs behind a PTP header, stamped and unstamped.
const TEMPLATES: usize = KINDS + 4;

/// The place of a template.
const fn place(kind: Kind, shape: Shape) -> usize {
    let stamped = match shape {
        Shape::Plain => return kind as usize,
        Shape::Stamped => 0,
        Shape::Unstamped => 1,
    };
    KINDS + 2 * matches!(kind, Kind::Pong) as usize + stamped
}

/// What a frame in the UMEM holds: if it is what is wanted, only its sequence needs to change.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Content {
    /// The number of the template as it was then, never 0 and never used twice.
    template: u64,
    /// Bytes of padding.
    padding: u16,
    /// The padding begins with a pong's stamps.
    in_band: bool,
}

impl Content {
    /// Nothing that could be patched.
    pub(super) const NONE: Self = Self { template: 0, padding: 0, in_band: false };
}

/// A template, and whom it was turned to last: whenever that changes it gets another number.
#[derive(Debug, Clone, Copy)]
pub(super) struct Numbered {
    number: u64,
    /// The place of that peer; `None` where it is to be turned to whomever comes next.
    peer: Option<usize>,
    template: Template,
}

impl Numbered {
    /// Puts a message into a frame that holds `content`, of a pong with stamps also those (`told`); returns what it holds now,
    /// and the frame's length in bytes.
    pub(super) fn put(
        &self,
        frame: &mut [u8],
        content: Content,
        sequence: u64,
        padding: u16,
        told: Option<&InBand>,
    ) -> (Content, usize) {
        let wanted = Content { template: self.number, padding, in_band: told.is_some() };
        let len = self.template.frame_len(padding);
        match told {
            // Every dummy is the same.
            None if content == wanted && self.template.kind() == Kind::Dummy => {}
            None if content == wanted => self.template.patch(frame, sequence, padding),
            None => {
                self.template.write(frame, sequence, padding);
            }
            Some(told) => {
                if content != wanted {
                    self.template.write(frame, sequence, padding);
                }
                self.template.put_in_band(frame, sequence, padding, told);
            }
        }
        (wanted, len)
    }

    /// Writes t2 into a frame that holds a pong with stamps.
    pub(super) fn put_t2(&self, frame: &mut [u8], t2: Time<Realtime>) {
        self.template.put_t2(frame, t2.as_nanos());
    }
}

/// One who sends to us, or whom we were told of. On one cache line.
#[derive(Debug)]
#[repr(align(64))]
struct Peer {
    address: SocketAddrV4,
    /// The header of the last frame from it, or what it would be: that of frames to it is the reply.
    received: LinkHeader,
    /// The place of the socket that its frames come through.
    socket: usize,
    /// The clock of [`Peers`] when it was last heard of or written to.
    used: u64,
    /// The client's server: what the kernel said of the way to it is not changed by what comes in.
    fixed: bool,
    /// It was answered with more than a refusal: it has, or had, a session.
    served: bool,
}

const _: () = assert!(size_of::<Peer>() == 64);

/// The most recent peers.
#[derive(Debug)]
pub(super) struct Peers {
    local: SocketAddrV4,
    dummy_port: u16,
    peers: Vec<Peer>,
    /// How many they may be.
    room: usize,
    /// Strangers choose what is looked up: the seed is chance.
    places: HashMap<SocketAddrV4, usize, RandomState>,
    /// Places of strangers in the order in which they came; of some who have a session by now, too.
    strangers: VecDeque<usize>,
    /// The place of the last one that was asked for.
    last: usize,
    clock: u64,
    /// How often a template was built or turned.
    turned: u64,
    /// Shared by all peers: turning one costs less than the memory that one of each peer's own would be fetched from.
    templates: [Option<Numbered>; TEMPLATES],
    /// What carries pings and pongs behind PTP headers.
    transport: Transport,
    /// Addresses that only the kernel knows to be no other host's, in order: each dummy's source is looked up here.
    martians: Vec<Ipv4Addr>,
}

impl Peers {
    /// `fixed` is the peer that is known before anything came from it.
    pub(super) fn new(local: SocketAddrV4, dummy_port: u16, fixed: Option<(SocketAddrV4, LinkHeader)>) -> Self {
        let mut peers = Self {
            local,
            dummy_port,
            peers: Vec::new(),
            room: 0,
            places: HashMap::default(),
            strangers: VecDeque::new(),
            last: 0,
            clock: 0,
            turned: 0,
            templates: [None; TEMPLATES],
            transport: Transport::Udp,
            martians: Vec::new(),
        };
        peers.make_room(0);
        if let Some((address, link)) = fixed {
            peers.places.insert(address, 0);
            peers.peers.push(Peer { address, received: link.reply(), socket: 0, used: 0, fixed: true, served: true });
        }
        peers
    }

    /// Nobody is at these addresses, either ([`Peers::is_nobody`]).
    pub(super) fn without(self, mut martians: Vec<Ipv4Addr>) -> Self {
        martians.sort_unstable();
        Self { martians, ..self }
    }

    /// So many peers with sessions are to have room beside the strangers of a batch.
    pub(super) fn make_room(&mut self, served: usize) {
        self.room = MIN_PEERS + served;
        self.peers.reserve_exact(self.room - self.peers.len());
        self.strangers.reserve_exact(self.room - self.strangers.len());
        // Twice: peers that come and go leave gaps, and without room for them the map would be laid anew in the hot loop.
        self.places.reserve(2 * self.room - self.places.len());
    }

    /// From now on this carries pings and pongs behind PTP headers.
    pub(super) fn carry_ptp_over(&mut self, transport: Transport) {
        if self.transport != transport {
            self.transport = transport;
            self.templates[KINDS..].fill(None);
        }
    }

    /// Remembers the way that a frame from `from` came: through `socket`, with the header `received`. By what number, where there is
    /// room for it: its place. None where nobody can be there ([`Peers::is_nobody`]).
    #[inline]
    pub(super) fn learn(&mut self, from: SocketAddrV4, received: &LinkHeader, socket: usize) -> Option<u32> {
        self.clock += 1;
        let Some(at) = self.find(from) else { return self.add(from, *received, socket) };
        let peer = &mut self.peers[at];
        peer.used = self.clock;
        peer.socket = socket;
        if !peer.fixed && peer.received != *received {
            peer.received = *received;
            self.turn_away(at);
        }
        Some(at as u32)
    }

    /// The socket to use and the template for a message to `to`; `None` where the way to it is not known.
    #[inline]
    pub(super) fn route(&mut self, to: SocketAddrV4, kind: Kind, shape: Shape) -> Option<(usize, &Numbered)> {
        let at = self.find(to)?;
        let place = place(kind, shape);
        self.clock += 1;
        let peer = &mut self.peers[at];
        peer.used = self.clock;
        peer.served |= kind != Kind::SynRst;
        let socket = peer.socket;
        if self.templates[place].is_none_or(|numbered| numbered.peer != Some(at)) {
            self.turn(place, at, kind, shape);
        }
        Some((socket, self.templates[place].as_ref()?))
    }

    /// Has the template of this place lead to the peer at `at`.
    fn turn(&mut self, place: usize, at: usize, kind: Kind, shape: Shape) {
        let flow = self.flow(at, kind);
        self.turned += 1;
        let (number, peer) = (self.turned, Some(at));
        match &mut self.templates[place] {
            Some(numbered) => {
                (numbered.number, numbered.peer) = (number, peer);
                numbered.template.turn_to(&flow);
            }
            empty => {
                let template = Template::in_envelope(&flow, kind, Envelope::new(shape, self.transport));
                *empty = Some(Numbered { number, peer, template });
            }
        }
    }

    /// Whether this is no other host's address, but a multicast, broadcast or loopback one, one of "this network" (0.0.0.0/8), this
    /// side's own, or one of those that the path was told of when it was opened: the machine's others, and broadcast addresses of its
    /// networks. What comes from there the kernel drops before a UDP socket sees it (`ip_route_input_slow`, net/ipv4/route.c, and
    /// `fib_validate_source`, net/ipv4/fib_frontend.c), unless it was told not to (`accept_local`, `route_localnet`; and without
    /// `rp_filter` it looks at own addresses only), and whoever answered it would send to others than who asked. For whoever is no peer
    /// yet: of a session's frames only dummies are looked at for it.
    pub(super) fn is_nobody(&self, address: Ipv4Addr) -> bool {
        let is_here = address.octets()[0] == 0 || address == *self.local.ip();
        is_here
            || address.is_loopback()
            || address.is_multicast()
            || address.is_broadcast()
            || self.martians.binary_search(&address).is_ok()
    }

    /// No template leads to whoever is or was at this place any more.
    #[cold]
    fn turn_away(&mut self, at: usize) {
        for numbered in self.templates.iter_mut().flatten().filter(|numbered| numbered.peer == Some(at)) {
            numbered.peer = None;
        }
    }

    /// Whether the way to `address` is known.
    pub(super) fn knows(&self, address: SocketAddrV4) -> bool {
        self.places.contains_key(&address)
    }

    /// It gets a session whose datagrams do not come through here: strangers are not to push it out meanwhile.
    pub(super) fn keep(&mut self, address: SocketAddrV4) {
        self.clock += 1;
        if let Some(at) = self.find(address) {
            let peer = &mut self.peers[at];
            (peer.used, peer.served) = (self.clock, true);
        }
    }

    /// The socket to use and the addresses of a datagram to `to` that no template is kept for.
    pub(super) fn way(&mut self, to: SocketAddrV4, kind: Kind) -> Option<(usize, Flow)> {
        let at = self.find(to)?;
        self.clock += 1;
        let peer = &mut self.peers[at];
        peer.used = self.clock;
        peer.served |= kind != Kind::SynRst;
        Some((self.peers[at].socket, self.flow(at, kind)))
    }

    #[inline]
    fn flow(&self, at: usize, kind: Kind) -> Flow {
        let port = if kind == Kind::Dummy { self.dummy_port } else { self.local.port() };
        Flow {
            link: self.peers[at].received.reply(),
            source: SocketAddrV4::new(*self.local.ip(), port),
            destination: self.peers[at].address,
        }
    }

    #[inline]
    fn find(&mut self, address: SocketAddrV4) -> Option<usize> {
        if self.peers.get(self.last).is_some_and(|peer| peer.address == address) {
            return Some(self.last);
        }
        self.last = *self.places.get(&address)?;
        Some(self.last)
    }

    fn add(&mut self, address: SocketAddrV4, received: LinkHeader, socket: usize) -> Option<u32> {
        if self.is_nobody(*address.ip()) {
            return None;
        }
        let peer = Peer { address, received, socket, used: self.clock, fixed: false, served: false };
        if self.peers.len() < self.room {
            self.last = self.peers.len();
            self.peers.push(peer);
        } else {
            let at = self.oldest()?;
            self.last = at;
            self.places.remove(&self.peers[at].address);
            self.peers[at] = peer;
            self.turn_away(at);
        }
        self.places.insert(address, self.last);
        self.strangers.push_back(self.last);
        Some(self.last as u32)
    }

    /// Who makes room. Strangers first: however many there are, they must not cost a quiet peer its session.
    fn oldest(&mut self) -> Option<usize> {
        for _ in 0..self.strangers.len() {
            let at = self.strangers.pop_front()?;
            match &self.peers[at] {
                Peer { served: true, .. } | Peer { fixed: true, .. } => {}
                // The batch that is being read may have brought something of it.
                peer if peer.used + BATCH as u64 > self.clock => self.strangers.push_back(at),
                _ => return Some(at),
            }
        }
        // All have, or had, a session, but for those that this batch brought, which are the newest: whoever was not heard of for
        // the longest time goes, and strangers have a place more.
        let places = (0..self.peers.len()).filter(|&at| !self.peers[at].fixed);
        let oldest = places.min_by_key(|&at| self.peers[at].used);
        self.strangers.retain(|at| Some(*at) != oldest);
        oldest
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::wire::frame::{MAX_FRAME_LEN, MacAddr, parse};
    use crate::wire::{Message, Said, UDP_IP_HEADERS};
    use std::collections::HashSet;

    const LOCAL: SocketAddrV4 = SocketAddrV4::new(Ipv4Addr::new(10, 0, 0, 1), 10666);

    fn peer(last: u8) -> SocketAddrV4 {
        SocketAddrV4::new(Ipv4Addr::new(10, 0, 1, last), 4000)
    }

    fn header(last: u8) -> LinkHeader {
        LinkHeader::new(MacAddr([2, 0, 0, 0, 0, 1]), MacAddr([2, 0, 0, 0, 0, last]))
    }

    #[test]
    fn an_answer_goes_back_the_way_the_last_frame_came() {
        let mut peers = Peers::new(LOCAL, 9, None);
        assert!(peers.route(peer(1), Kind::Pong, Shape::Plain).is_none());
        for (mac, socket) in [(7, 2), (8, 0)] {
            assert_eq!(peers.learn(peer(1), &header(mac), socket), Some(0), "the same number as long as it is known");
            let (to, template) = peers.route(peer(1), Kind::Pong, Shape::Plain).unwrap();
            assert_eq!(to, socket);
            assert_eq!(template.template.flow().link, header(mac).reply());
            assert_eq!(template.template.flow().source, LOCAL);
            assert_eq!(template.template.flow().destination, peer(1));
        }
    }

    #[test]
    fn no_way_leads_to_where_nobody_can_be() {
        let mut peers = Peers::new(LOCAL, 9, None);
        let at = |text: &str| SocketAddrV4::new(text.parse().unwrap(), 4000);
        for nobody in [
            "0.0.0.0",
            "0.255.255.255",
            "127.0.0.1",
            "127.255.255.255",
            "224.0.0.1",
            "239.255.255.255",
            "255.255.255.255",
        ] {
            assert!(peers.is_nobody(*at(nobody).ip()), "{nobody}");
            assert_eq!(peers.learn(at(nobody), &header(7), 0), None, "{nobody}");
            assert!(!peers.knows(at(nobody)), "{nobody}");
            assert!(peers.route(at(nobody), Kind::SynAck, Shape::Plain).is_none(), "{nobody}");
        }
        // This side's own, with its port and with another.
        for own in [LOCAL, SocketAddrV4::new(*LOCAL.ip(), 4000)] {
            assert_eq!((peers.learn(own, &header(7), 0), peers.knows(own)), (None, false));
        }
        // Their neighbours are hosts'; and so are addresses that this path was not told of.
        let hosts = ["1.0.0.0", "126.255.255.255", "128.0.0.0", "223.255.255.255", "240.0.0.0", "255.255.255.254"];
        for (number, host) in (0..).zip(hosts) {
            assert!(!peers.is_nobody(*at(host).ip()), "{host}");
            assert_eq!(peers.learn(at(host), &header(7), 0), Some(number), "{host}");
        }
    }

    #[test]
    fn no_way_leads_to_where_only_the_kernel_knows_that_nobody_is() {
        let [other, broadcast, host] = [[192, 0, 2, 7], [10, 0, 0, 255], [10, 0, 0, 254]].map(Ipv4Addr::from);
        let mut peers = Peers::new(LOCAL, 9, None).without(vec![other, *LOCAL.ip(), broadcast, other]);
        for nobody in [other, broadcast] {
            assert!(peers.is_nobody(nobody), "{nobody}");
            assert_eq!(peers.learn(SocketAddrV4::new(nobody, 4000), &header(7), 0), None, "{nobody}");
        }
        assert_eq!(peers.learn(SocketAddrV4::new(host, 4000), &header(7), 0), Some(0));
    }

    #[test]
    fn the_fixed_peer_keeps_its_link_and_follows_its_queue() {
        let mut peers = Peers::new(LOCAL, 9, Some((peer(1), header(7))));
        assert_eq!(peers.route(peer(1), Kind::Ping, Shape::Plain).unwrap().0, 0);
        peers.learn(peer(1), &header(8), 3);
        let (socket, template) = peers.route(peer(1), Kind::Ping, Shape::Plain).unwrap();
        assert_eq!((socket, template.template.flow().link), (3, header(7)));
    }

    #[test]
    fn the_oldest_peer_makes_room_and_the_fixed_one_never_does() {
        let mut peers = Peers::new(LOCAL, 9, Some((peer(255), header(7))));
        for last in 0..=200 {
            peers.learn(peer(last), &header(last), 0);
        }
        assert_eq!(peers.peers.len(), MIN_PEERS);
        assert!(peers.route(peer(255), Kind::Ping, Shape::Plain).is_some());
        assert!(peers.route(peer(200), Kind::Ping, Shape::Plain).is_some());
        assert!(peers.route(peer(200 - BATCH as u8 + 1), Kind::Ping, Shape::Plain).is_some());
        assert!(peers.route(peer(200 - BATCH as u8), Kind::Ping, Shape::Plain).is_none());
    }

    #[test]
    fn a_new_peer_in_the_place_of_another_is_not_written_to_as_the_other() {
        let mut peers = Peers::new(LOCAL, 9, None);
        let hear = |peers: &mut Peers, from: u8, mac| peers.learn(peer(from), &header(mac), 0);
        for n in 0..MIN_PEERS as u8 {
            hear(&mut peers, n, 1);
            assert!(peers.route(peer(n), Kind::SynAck, Shape::Plain).is_some());
        }
        // The template for pongs leads to the one in place 0, who is then the one not heard of for the longest time.
        (1..MIN_PEERS as u8).for_each(|n| assert_eq!(hear(&mut peers, n, 1), Some(u32::from(n))));
        assert!(peers.route(peer(0), Kind::Pong, Shape::Plain).is_some());
        (1..MIN_PEERS as u8).for_each(|n| assert_eq!(hear(&mut peers, n, 1), Some(u32::from(n))));
        assert_eq!(hear(&mut peers, 200, 2), Some(0));
        let flow = peers.route(peer(200), Kind::Pong, Shape::Plain).unwrap().1.template.flow();
        assert_eq!((flow.destination, flow.link), (peer(200), header(2).reply()));
    }

    #[test]
    fn strangers_make_room_for_each_other_before_a_peer_with_a_session_does() {
        let mut peers = Peers::new(LOCAL, 9, None);
        peers.learn(peer(250), &header(250), 0);
        assert!(peers.route(peer(250), Kind::SynAck, Shape::Plain).is_some());
        for last in 0..=200 {
            peers.learn(peer(last), &header(last), 0);
            assert!(peers.route(peer(last), Kind::SynRst, Shape::Plain).is_some());
        }
        assert!(peers.route(peer(250), Kind::Ping, Shape::Plain).is_some());
    }

    #[test]
    fn of_two_new_clients_in_a_batch_neither_costs_the_other_its_way() {
        let mut peers = Peers::new(LOCAL, 9, None);
        let client = |n: usize| SocketAddrV4::new(Ipv4Addr::new(10, 1, 0, 1), 4000 + n as u16);
        for n in 0..MIN_PEERS {
            peers.learn(client(n), &header(1), 0);
            assert!(peers.route(client(n), Kind::SynAck, Shape::Plain).is_some());
        }
        // The table is full of those who had a session.
        let batch = MIN_PEERS..MIN_PEERS + BATCH;
        let numbers: HashSet<_> = batch.clone().filter_map(|n| peers.learn(client(n), &header(2), 0)).collect();
        assert_eq!(numbers.len(), BATCH, "each has a number of its own");
        for n in batch {
            assert!(peers.route(client(n), Kind::SynAck, Shape::Plain).is_some(), "{n}");
        }
        assert_eq!((peers.peers.len(), peers.places.len()), (MIN_PEERS, MIN_PEERS));
    }

    #[test]
    fn whoever_has_a_session_stays_among_any_number_of_strangers() {
        let mut peers = Peers::new(LOCAL, 9, None);
        peers.make_room(4096);
        let client = |n: u16| SocketAddrV4::new(Ipv4Addr::new(10, 1, (n >> 8) as u8, n as u8), 4000 + n);
        for n in 0..4096 {
            peers.learn(client(n), &header(1), usize::from(n));
            assert!(peers.route(client(n), Kind::SynAck, Shape::Plain).is_some());
        }
        for port in 1..=20_000 {
            let stranger = SocketAddrV4::new(Ipv4Addr::new(10, 2, 0, 1), port);
            peers.learn(stranger, &header(2), 7);
            assert_eq!(peers.route(stranger, Kind::SynRst, Shape::Plain).map(|(socket, _)| socket), Some(7));
        }
        assert_eq!((peers.peers.len(), peers.places.len()), (4096 + MIN_PEERS, 4096 + MIN_PEERS));
        for n in 0..4096 {
            let (socket, template) = peers.route(client(n), Kind::Pong, Shape::Plain).unwrap();
            assert_eq!((socket, template.template.flow().destination), (usize::from(n), client(n)));
        }
        // One more client than there is room for: the one that was not heard of for the longest time goes.
        for n in 4096..4096 + 2 * MIN_PEERS as u16 {
            peers.learn(client(n), &header(1), 0);
            assert!(peers.route(client(n), Kind::SynAck, Shape::Plain).is_some());
        }
        assert!(!peers.knows(client(0)) && peers.knows(client(4095)));
        assert_eq!(peers.peers.len(), peers.places.len());
    }

    #[test]
    fn a_frame_that_holds_the_same_is_patched_and_any_other_is_written() {
        let mut peers = Peers::new(LOCAL, 9, Some((peer(1), header(7))));
        let mut frame = [0xff; MAX_FRAME_LEN];
        let mut content = Content::NONE;
        // A change of kind, of padding, of link (by way of another peer), and repetitions between them.
        peers.learn(peer(2), &header(9), 0);
        let steps = [
            (peer(1), Kind::Ping, 0),
            (peer(1), Kind::Ping, 0),
            (peer(1), Kind::Ping, 300),
            (peer(1), Kind::Ping, 1),
            (peer(2), Kind::Ping, 1),
            (peer(2), Kind::Pong, 1),
            (peer(2), Kind::Pong, 1),
        ];
        // A peer may send any sequence, also a dummy's.
        let sequences = [1, 2, 3, 4, 5, 6, u64::MAX];
        for (sequence, (to, kind, padding)) in sequences.into_iter().zip(steps) {
            let (_, template) = peers.route(to, kind, Shape::Plain).unwrap();
            let (now, len) = template.put(&mut frame, content, sequence, padding, None);
            content = now;
            let parsed = parse(&frame[..len]).unwrap();
            assert_eq!(parsed.destination, to);
            assert_eq!(parsed.ip_len, UDP_IP_HEADERS + 16 + padding);
            assert_eq!(Message::parse(parsed.payload).unwrap().message, Message { kind, sequence });
            assert!(parsed.payload[16..].iter().all(|byte| *byte == 0));
            let mut fresh = [0; MAX_FRAME_LEN];
            template.put(&mut fresh, Content::NONE, sequence, padding, None);
            assert_eq!(frame[..len], fresh[..len]);
        }
    }

    #[test]
    fn a_frame_with_stamps_holds_these_and_no_others() {
        let mut peers = Peers::new(LOCAL, 9, Some((peer(1), header(7))));
        let (_, template) = peers.route(peer(1), Kind::Pong, Shape::Plain).unwrap();
        let mut frame = [0xff; MAX_FRAME_LEN];
        let mut content = Content::NONE;
        let told = |n| InBand { t1: Some(n), ..InBand::default() };
        // With stamps, with others, without, with stamps again; in a larger pong.
        let steps = [(Some(told(1)), 56), (Some(told(2)), 56), (None, 56), (None, 56), (Some(told(5)), 56), (None, 70)];
        for (sequence, (told, padding)) in (1..).zip(steps) {
            let len;
            (content, len) = template.put(&mut frame, content, sequence, padding, told.as_ref());
            let t2 = told.map(|_| 1000 + sequence);
            if let Some(t2) = t2 {
                template.put_t2(&mut frame[..len], Time::from_nanos(t2));
            }
            let parsed = parse(&frame[..len]).unwrap();
            let read = Message::parse(parsed.payload).unwrap();
            assert_eq!(read.message, Message { kind: Kind::Pong, sequence });
            assert_eq!(read.said, told.map(|told| Said::InBand(InBand { t2, ..told })));
            let zeros = if told.is_some() { 16 + 56 } else { 16 };
            assert!(parsed.payload[zeros..].iter().all(|byte| *byte == 0), "{sequence}");
        }
    }

    #[test]
    fn dummies_leave_from_their_own_port() {
        let mut peers = Peers::new(LOCAL, 9, Some((peer(1), header(7))));
        let (_, template) = peers.route(peer(1), Kind::Dummy, Shape::Plain).unwrap();
        assert_eq!(template.template.flow().source.port(), 9);
    }
}
