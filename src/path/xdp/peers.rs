//! Who frames are sent to: the way there, the queue, and the frames' headers ready to be written.
//!
//! No allocation after [`Peers::new`]; no ring and no memory of frames.

use crate::clock::{Realtime, Time};
use crate::path::BATCH;
use crate::wire::frame::{Envelope, Flow, LinkHeader, Template};
use crate::wire::ptp::{Shape, Transport};
use crate::wire::{DUMMY_SEQUENCE, InBand, Kind};
use std::net::SocketAddrV4;

/// How many peers are remembered: what one batch brings never pushes out what the same batch brought.
const MAX_PEERS: usize = BATCH + 1;
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
    /// The template's number, never 0 and never used twice.
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

/// A template with its number.
#[derive(Debug, Clone, Copy)]
pub(super) struct Numbered {
    number: u64,
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
            None if content == wanted && sequence == DUMMY_SEQUENCE => {}
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

/// One who sends to us, or whom we were told of.
#[derive(Debug)]
struct Peer {
    /// The header of frames to it.
    link: LinkHeader,
    /// The place of the socket that its frames come through.
    socket: usize,
    /// The clock of [`Peers`] when it was last heard of or written to.
    used: u64,
    /// The client's server: what the kernel said of the way to it is not changed by what comes in.
    fixed: bool,
    /// It was answered with more than a refusal: it has, or had, a session.
    served: bool,
    templates: [Option<Numbered>; TEMPLATES],
}

/// The most recent peers.
#[derive(Debug)]
pub(super) struct Peers {
    local: SocketAddrV4,
    dummy_port: u16,
    /// Apart from the rest: looking for one runs over a few cache lines.
    addresses: Vec<SocketAddrV4>,
    peers: Vec<Peer>,
    /// The place of the last one that was asked for.
    last: usize,
    clock: u64,
    templates: u64,
    /// What carries pings and pongs behind PTP headers.
    transport: Transport,
}

impl Peers {
    /// `fixed` is the peer that is known before anything came from it.
    pub(super) fn new(local: SocketAddrV4, dummy_port: u16, fixed: Option<(SocketAddrV4, LinkHeader)>) -> Self {
        let mut peers = Self {
            local,
            dummy_port,
            addresses: Vec::with_capacity(MAX_PEERS),
            peers: Vec::with_capacity(MAX_PEERS),
            last: 0,
            clock: 0,
            templates: 0,
            transport: Transport::Udp,
        };
        if let Some((address, link)) = fixed {
            peers.addresses.push(address);
            peers.peers.push(Peer {
                link,
                socket: 0,
                used: 0,
                fixed: true,
                served: true,
                templates: [None; TEMPLATES],
            });
        }
        peers
    }

    /// From now on this carries pings and pongs behind PTP headers.
    pub(super) fn carry_ptp_over(&mut self, transport: Transport) {
        if self.transport != transport {
            self.transport = transport;
            self.peers.iter_mut().for_each(|peer| peer.templates[KINDS..].fill(None));
        }
    }

    /// Remembers the way that a frame from `from` came: through `socket`, with the header `received`.
    #[inline]
    pub(super) fn learn(&mut self, from: SocketAddrV4, received: &LinkHeader, socket: usize) {
        self.clock += 1;
        let link = received.reply();
        if let Some(at) = self.find(from) {
            let peer = &mut self.peers[at];
            peer.used = self.clock;
            peer.socket = socket;
            if !peer.fixed && peer.link != link {
                peer.link = link;
                peer.templates = [None; TEMPLATES];
            }
        } else {
            self.add(from, link, socket);
        }
    }

    /// The socket to use and the template for a message to `to`; `None` where the way to it is not known.
    #[inline]
    pub(super) fn route(&mut self, to: SocketAddrV4, kind: Kind, shape: Shape) -> Option<(usize, &Numbered)> {
        let at = self.find(to)?;
        let place = place(kind, shape);
        self.clock += 1;
        if self.peers[at].templates[place].is_none() {
            self.templates += 1;
            let envelope = Envelope::new(shape, self.transport);
            let template = Template::in_envelope(&self.flow(at, kind), kind, envelope);
            self.peers[at].templates[place] = Some(Numbered { number: self.templates, template });
        }
        let peer = &mut self.peers[at];
        peer.used = self.clock;
        peer.served |= kind != Kind::SynRst;
        Some((peer.socket, peer.templates[place].as_ref()?))
    }

    /// Whether the way to `address` is known.
    pub(super) fn knows(&self, address: SocketAddrV4) -> bool {
        self.addresses.contains(&address)
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
            link: self.peers[at].link,
            source: SocketAddrV4::new(*self.local.ip(), port),
            destination: self.addresses[at],
        }
    }

    #[inline]
    fn find(&mut self, address: SocketAddrV4) -> Option<usize> {
        if self.addresses.get(self.last) == Some(&address) {
            return Some(self.last);
        }
        let at = self.addresses.iter().position(|known| *known == address)?;
        self.last = at;
        Some(at)
    }

    fn add(&mut self, address: SocketAddrV4, link: LinkHeader, socket: usize) {
        let peer = Peer { link, socket, used: self.clock, fixed: false, served: false, templates: [None; TEMPLATES] };
        if self.peers.len() < MAX_PEERS {
            self.last = self.peers.len();
            self.addresses.push(address);
            self.peers.push(peer);
            return;
        }
        // Strangers make room first: however many there are, they must not cost a quiet peer its session.
        let places = (0..MAX_PEERS).filter(|&at| !self.peers[at].fixed);
        let oldest = places.min_by_key(|&at| (self.peers[at].served, self.peers[at].used));
        if let Some(at) = oldest {
            self.last = at;
            self.addresses[at] = address;
            self.peers[at] = peer;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::wire::frame::{MAX_FRAME_LEN, MacAddr, parse};
    use crate::wire::{Message, Said, UDP_IP_HEADERS};
    use std::net::Ipv4Addr;

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
            peers.learn(peer(1), &header(mac), socket);
            let (to, template) = peers.route(peer(1), Kind::Pong, Shape::Plain).unwrap();
            assert_eq!(to, socket);
            assert_eq!(template.template.flow().link, header(mac).reply());
            assert_eq!(template.template.flow().source, LOCAL);
            assert_eq!(template.template.flow().destination, peer(1));
        }
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
        assert_eq!(peers.peers.len(), MAX_PEERS);
        assert!(peers.route(peer(255), Kind::Ping, Shape::Plain).is_some());
        assert!(peers.route(peer(200), Kind::Ping, Shape::Plain).is_some());
        assert!(peers.route(peer(200 - BATCH as u8 + 1), Kind::Ping, Shape::Plain).is_some());
        assert!(peers.route(peer(200 - BATCH as u8), Kind::Ping, Shape::Plain).is_none());
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
        for (sequence, (to, kind, padding)) in (1..).zip(steps) {
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
