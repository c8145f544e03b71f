//! The session's state machines in thousands of random worlds: whatever the link does, both sides end and agree.
//!
//! What a session does in which moment is in `session_scenarios.rs`.

#[path = "support/sim.rs"]
mod sim;

use sim::{Datagram, Node, Now, Random, Shaped, Trace, Wire, World, at, client_address, client_config, server_address};
use sim::{server_config, steady};
use std::collections::{BTreeMap, HashMap, HashSet};
use std::net::{Ipv4Addr, SocketAddrV4};
use std::num::NonZeroU32;
use std::sync::Arc;
use std::time::Duration;
use xdprobe::session::{
    Body, ClientConfig, Direction, End, Event, Offers, Probe, Sampling, ServerConfig, Settings, Totals,
};
use xdprobe::wire::ptp::{Shape, Transport};
use xdprobe::wire::{Extension, Kind, Message, Point, RawSettings};

const DIRECTIONS: [Direction; 3] = [Direction::Forward, Direction::Reverse, Direction::Duplex];

const SERVER: usize = 0;
const CLIENT: usize = 1;

/// What a seed makes of the wire.
#[derive(Debug, Clone, Copy)]
struct Weather {
    base_us: u64,
    jitter_us: u64,
    /// In percent, to the server and to the client.
    loss: [u64; 2],
    doubles: u64,
    /// Nothing passes from then on, in the directions named.
    blackout: Option<(Now, [bool; 2])>,
}

impl Weather {
    fn of(random: &mut Random) -> Self {
        let loss = match random.between(0, 5) {
            0 | 1 => [0, 0],
            2 => [5, 5],
            3 => [30, 30],
            4 => [40, 0],
            _ => [0, 40],
        };
        let both = [[true, true], [true, true], [true, false], [false, true]];
        Self {
            base_us: random.pick(&[20, 1_000, 30_000, 120_000]),
            jitter_us: random.pick(&[0, 0, 10, 5_000, 200_000]),
            loss,
            doubles: random.pick(&[0, 0, 10]),
            blackout: random.chance(20).then(|| (at(random.between(0, 4_000_000)), random.pick(&both))),
        }
    }

    fn loses_nothing(&self) -> bool {
        self.loss == [0, 0] && self.blackout.is_none()
    }

    /// In addition, everything arrives once and in order.
    fn is_fair(&self) -> bool {
        self.loses_nothing() && self.jitter_us == 0 && self.doubles == 0
    }

    fn wire(self, mut random: Random) -> Wire {
        Box::new(move |now, datagram: &Datagram| {
            let way = usize::from(datagram.to != server_address());
            let dark = self.blackout.is_some_and(|(from, ways)| now >= from && ways[way]);
            if dark || random.chance(self.loss[way]) {
                return vec![];
            }
            let copies = if random.chance(self.doubles) { 2 } else { 1 };
            let arrival = |_| now.plus_nanos(1000 * (self.base_us + random.between(0, self.jitter_us)));
            (0..copies).map(arrival).collect()
        })
    }
}

/// What a seed makes of a client's wishes.
fn random_client(random: &mut Random) -> ClientConfig {
    let settings = Settings {
        count_s: random.pick(&[1, 1, 2]),
        delay_us: random.pick(&[0, 20_000, 100_000, 333_000]),
        ping_padding: random.pick(&[0, 1, 1456]),
        pong_padding: random.pick(&[0, 7, 2048]),
        pong_every: random.pick(&[0, 1, 1, 3]),
        direction: random.pick(&DIRECTIONS),
        ..Settings::default()
    };
    ClientConfig {
        schedule: random.chance(25).then(|| random_schedule(random)),
        dummies: random.pick(&[0, 0, 1, 2]),
        timeout: random.pick(&[Some(300), Some(5_000), Some(5_000), None]).map(Duration::from_millis),
        connect_timeout: random.pick(&[None, Some(3_000), Some(8_000)]).map(Duration::from_millis),
        ..client_config(settings)
    }
}

fn random_schedule(random: &mut Random) -> Arc<[Probe]> {
    let one = |random: &mut Random| Probe { delay_us: random.pick(&[0, 1, 10_000, 250_000]), padding: 3 };
    (0..random.between(1, 8)).map(|_| one(random)).collect()
}

fn random_stops(random: &mut Random, percent: u64) -> Vec<Now> {
    if !random.chance(percent) {
        return vec![];
    }
    let first = random.between(0, 3_000_000);
    let mut stops = vec![at(first)];
    if random.chance(30) {
        stops.push(at(first + random.between(0, 1_500_000)));
    }
    stops
}

/// Whether these end by themselves, whatever the wire does. As nanoprobe's, a client without `connect_timeout` asks for
/// ever, and an echoing side without time-out waits for ever.
fn must_end(client: &Node, client_config: &ClientConfig, server_timeout: Option<Duration>) -> [bool; 2] {
    let direction = client_config.settings.direction;
    let client_ends = (client.was_connected() || client_config.connect_timeout.is_some())
        && (client_config.timeout.is_some() || direction != Direction::Reverse);
    // A server that nobody asked anything waits for ever. One that is asked again and again stays alive by it.
    let server_ends = client_ends && (server_timeout.is_some() || direction == Direction::Reverse);
    [server_ends, client_ends]
}

#[test]
fn both_sides_end_and_their_totals_agree_in_every_weather() {
    let mut ends: HashMap<String, u32> = HashMap::new();
    let mut lossless = 0;
    for seed in 0..6_000 {
        let (both, complete) = one_client(seed);
        for end in both.into_iter().flatten() {
            let name: String = format!("{end:?}").chars().take_while(|c| c.is_alphabetic()).collect();
            *ends.entry(name).or_default() += 1;
        }
        lossless += u32::from(complete);
    }
    // The seeds are worth their time only if they lead everywhere.
    for name in ["Complete", "Stopped", "StoppedConnecting", "NoAnswer", "TimedOut", "FinUnanswered", "PeerStopped"] {
        assert!(ends.get(name).is_some_and(|count| *count >= 20), "too few {name}: {ends:?}");
    }
    assert!(lossless >= 300, "only {lossless} worlds that must be complete");
}

/// The ends of server and client, and whether the world was one that must be complete.
fn one_client(seed: u64) -> ([Option<End>; 2], bool) {
    let mut random = Random(seed);
    let weather = Weather::of(&mut random);
    let config = random_client(&mut random);
    let mut server = server_config();
    server.dummies = random.pick(&[0, 0, 3]);
    server.timeout = random.pick(&[Some(400), Some(5_000), None]).map(Duration::from_millis);
    server.schedule = random.chance(25).then(|| random_schedule(&mut random));
    let label = format!("seed {seed}: {weather:?} {config:?} server {server:?}");
    let mut world = World::new(label.clone(), weather.wire(Random(seed ^ 0xabcd)));
    world.seed(seed);
    let server_start = if random.chance(20) { random.between(0, 2_000_000) } else { 0 };
    world.add_server(at(server_start), server.clone());
    world.add_client(0, at(random.between(0, 1000)), config.clone());
    world.nodes[SERVER].stops = random_stops(&mut random, 15);
    world.nodes[CLIENT].stops = random_stops(&mut random, 15);
    // No delay is paced by what a step takes.
    let slow = config.settings.delay_us == 0;
    let late = if slow { (4_000_000, 9_000_000) } else { (0, random.pick(&[0, 20_000, 3_000_000])) };
    world.nodes[SERVER].late = late;
    world.nodes[CLIENT].late = late;
    let junk = random.chance(30);
    if junk {
        inject_junk(&mut world, &mut random);
    }

    world.run_until(at(40_000_000));

    let [server_ends, client_ends] = must_end(&world.nodes[CLIENT], &config, server.timeout);
    assert!(!client_ends || world.nodes[CLIENT].is_over(), "{label}: the client does not end");
    let server_ends = server_ends && world.nodes[SERVER].was_connected();
    assert!(!server_ends || world.nodes[SERVER].is_over(), "{label}: the server does not end");
    let undisturbed = !world.nodes.iter().any(Node::was_stopped);
    stop_all(&mut world);

    for (node, dummies) in world.nodes.iter().zip([server.dummies, config.dummies]) {
        for part in parts(node) {
            check_part(&label, node, &part, dummies);
        }
    }
    let complete = check_both(&label, &world, &config, &server, &weather, undisturbed);
    ([world.nodes[SERVER].end(), world.nodes[CLIENT].end()], complete)
}

/// Whatever still waits is stopped twice, and must be over then.
fn stop_all(world: &mut World) {
    for node in &mut world.nodes {
        if !node.is_over() {
            node.stops = vec![world.now.plus_nanos(1), world.now.plus_nanos(2_000_000_000)];
        }
    }
    let limit = sim::micros(world.now) / 1_000_000 + 5;
    world.drive(limit);
}

/// Datagrams of every kind from somebody foreign, before and during the session.
fn inject_junk(world: &mut World, random: &mut Random) {
    for n in 0..random.between(1, 30) {
        let from = SocketAddrV4::new(Ipv4Addr::new(10, 66, 9, 9), 5000 + n as u16);
        let kind = random.pick(&[Kind::SynAck, Kind::SynRst, Kind::Ping, Kind::Pong, Kind::Fin, Kind::FinAck]);
        let message = Message { kind, sequence: random.pick(&[0, 1, 5, u64::MAX]) };
        let to = random.pick(&[server_address(), client_address(0)]);
        world.inject(at(random.between(0, 3_000_000)), from, to, message, Body::Empty);
    }
}

/// What the two sides say of each other, and that all is there where nothing was in the way; whether it was so.
fn check_both(
    label: &str,
    world: &World,
    config: &ClientConfig,
    server: &ServerConfig,
    weather: &Weather,
    undisturbed: bool,
) -> bool {
    check_pair(label, world, config, &server.timeout);
    let patient = config.timeout.is_none_or(|timeout| timeout.as_secs() == 5)
        && server.timeout.is_none_or(|timeout| timeout.as_secs() == 5)
        && config.connect_timeout.is_none_or(|timeout| timeout.as_secs() > 3);
    let complete = weather.loses_nothing() && undisturbed && patient;
    if complete {
        check_complete(label, world, config, &server.schedule, weather.is_fair());
    }
    complete
}

/// What the two sides say of each other.
fn check_pair(label: &str, world: &World, config: &ClientConfig, server_timeout: &Option<Duration>) {
    let (server, client) = (&world.nodes[SERVER], &world.nodes[CLIENT]);
    let ends = [server.end(), client.end()];
    let peers = [client, server];
    let timeouts = [*server_timeout, config.timeout];
    for (side, node) in [server, client].into_iter().enumerate() {
        let peer = peers[side];
        let duplex = config.settings.direction == Direction::Duplex;
        let pings = (config.settings.direction == Direction::Forward) == (side == CLIENT);
        // The rows of a reception belong to what the other side sent.
        let sent = peer.sent(Kind::Ping).len() as u64;
        let pinged = [Point::T1, Point::T1cs, Point::T1sc].iter().flat_map(|point| node.rows(*point));
        assert!(pinged.into_iter().all(|sequence| (1..=sent).contains(&sequence)), "{label}");
        match ends[side] {
            // Only the other side's word makes a session complete.
            Some(End::Complete) if !duplex && pings => {
                let answers = node.came(peer.address, Kind::FinAck).len() + node.came(peer.address, Kind::Fin).len();
                assert!(answers > 0, "{label}: {} complete without an answer to its FIN", node.name);
                assert_ne!(ends[1 - side], None, "{label}");
                assert!(!matches!(ends[1 - side], Some(End::TimedOut { .. })), "{label}: {ends:?}");
            }
            Some(End::Complete) if !duplex => {
                assert!(
                    !node.came(peer.address, Kind::Fin).is_empty(),
                    "{label}: {} complete without a FIN",
                    node.name
                );
            }
            Some(End::Stopped | End::StoppedConnecting) => assert!(node.was_stopped(), "{label}"),
            Some(End::FloodUnanswered { .. }) => panic!("{label}: nobody is flooded"),
            Some(End::Broken) => panic!("{label}: a machine knows nothing of its path"),
            Some(End::PeerStopped) => assert!(peer.was_stopped(), "{label}: {ends:?}"),
            Some(End::TimedOut { after }) => {
                assert_eq!(Some(after), timeouts[side], "{label}");
                let ended = node.ends[0].0;
                let mut heard = node.trace.iter().filter(|(time, entry)| {
                    let from_peer = |from: &SocketAddrV4| from.ip() == peer.address.ip();
                    *time != ended && matches!(entry, Trace::Came(from, ..) if from_peer(from))
                });
                if let Some((last, _)) = heard.next_back() {
                    assert!(last.plus(after) <= ended, "{label}: {} timed out too early", node.name);
                }
            }
            Some(End::Rejected) => panic!("{label}: nobody is there to be preferred"),
            Some(End::NotAgreed { .. }) => panic!("{label}: whatever is asked for is granted"),
            Some(End::NoAnswer { waited }) => {
                assert!(config.connect_timeout.is_some_and(|limit| waited >= limit), "{label}");
                assert!(!client.was_connected(), "{label}");
            }
            Some(End::FinUnanswered { .. } | End::Complete) | None => {}
        }
    }
}

/// Where nothing is lost and nobody is impatient, every session is complete; in order, so are its rows.
fn check_complete(label: &str, world: &World, config: &ClientConfig, schedule: &Option<Arc<[Probe]>>, fair: bool) {
    let (server, client) = (&world.nodes[SERVER], &world.nodes[CLIENT]);
    let direction = config.settings.direction;
    assert_eq!(client.end(), Some(End::Complete), "{label}");
    assert_eq!(server.end(), Some(End::Complete), "{label}");
    if !fair {
        return;
    }
    let (ours, theirs) = (client.totals(), server.totals());
    if direction == Direction::Duplex {
        // A side that is done listens for another second: the other may ping for longer.
        if config.schedule.is_none() && schedule.is_none() {
            assert_eq!((ours.pings_sent, theirs.pings_sent), (theirs.pings_received, ours.pings_received), "{label}");
        }
        return;
    }
    let (pinging, echoing, plan) = match direction {
        Direction::Forward => (ours, theirs, &config.schedule),
        _ => (theirs, ours, schedule),
    };
    assert_eq!(pinging.pings_sent, echoing.pings_received, "{label}");
    assert_eq!(pinging.pongs_expected, pinging.pongs_received, "{label}");
    assert_eq!(pinging.pongs_received, echoing.pongs_sent, "{label}");
    if let Some(plan) = plan {
        assert_eq!(pinging.pings_sent, plan.len() as u64, "{label}");
    } else {
        assert!(pinging.pings_sent > 0, "{label}");
    }
    assert_eq!((pinging.unexpected, echoing.unexpected), (0, 0), "{label}");
}

/// What a seed makes of a client that asks for PTP headers.
fn random_ptp_client(random: &mut Random) -> ClientConfig {
    let mut config = random_client(random);
    config.settings.ptp = Some(random.pick(&[Transport::Udp, Transport::L2]));
    // Below the spacing of stamps too.
    config.settings.delay_us = random.pick(&[0, 700, 20_000, 100_000]);
    config.settings.ping_padding = random.pick(&[44, 45, 1456]);
    config.settings.pong_padding = random.pick(&[44, 2048]);
    config.schedule = config.schedule.map(|schedule| roomy(&schedule));
    config.sampling = random_sampling(random);
    config
}

/// The same schedule with pings that hold a PTP header.
fn roomy(schedule: &[Probe]) -> Arc<[Probe]> {
    schedule.iter().map(|probe| Probe { padding: probe.padding + 44, ..*probe }).collect()
}

fn random_sampling(random: &mut Random) -> Sampling {
    Sampling {
        every: NonZeroU32::new(random.pick(&[0, 0, 1, 3])),
        timeout: random.pick(&[Duration::from_micros(300), Duration::from_millis(100), Duration::from_secs(1)]),
        awaits_stamp: false,
    }
}

#[test]
fn with_ptp_both_sides_end_and_at_most_one_stamped_ping_is_under_way_in_every_weather() {
    let (mut lossless, mut stamped, mut withheld) = (0, 0, 0);
    for seed in 0..2_000 {
        let (complete, totals) = one_ptp_client(seed);
        lossless += u32::from(complete);
        stamped += totals.iter().map(|totals| totals.stamped_pings_sent + totals.stamped_pongs_sent).sum::<u64>();
        withheld += totals.iter().map(|totals| totals.stamps_withheld).sum::<u64>();
    }
    // The seeds are worth their time only if they lead everywhere.
    assert!(lossless >= 100 && stamped > 10_000 && withheld > 1_000, "{lossless} {stamped} {withheld}");
}

/// Whether the world was one that must be complete, and the totals of the sessions that there were.
fn one_ptp_client(seed: u64) -> (bool, Vec<Totals>) {
    let mut random = Random(seed ^ 0x0319_88f7);
    let weather = Weather::of(&mut random);
    let config = random_ptp_client(&mut random);
    let mut server = server_config();
    server.offers = Offers { udp: true, l2: true };
    server.requires_ptp = random.chance(30);
    server.sampling = random_sampling(&mut random);
    server.timeout = random.pick(&[Some(400), Some(5_000), None]).map(Duration::from_millis);
    server.schedule = random.chance(25).then(|| roomy(&random_schedule(&mut random)));
    let label = format!("seed {seed}: {weather:?} {config:?} server {server:?}");
    let mut world = World::new(label.clone(), weather.wire(Random(seed)));
    world.seed(seed);
    world.add_server(at(0), server.clone());
    world.add_client(0, at(random.between(0, 1000)), config.clone());
    world.nodes[SERVER].stops = random_stops(&mut random, 15);
    world.nodes[CLIENT].stops = random_stops(&mut random, 15);
    let late = if config.settings.delay_us == 0 { (1_000_000, 4_000_000) } else { (0, random.pick(&[0, 50_000])) };
    world.nodes[SERVER].late = late;
    world.nodes[CLIENT].late = late;

    world.run_until(at(40_000_000));

    let [server_ends, client_ends] = must_end(&world.nodes[CLIENT], &config, server.timeout);
    assert!(!client_ends || world.nodes[CLIENT].is_over(), "{label}: the client does not end");
    let server_ends = server_ends && world.nodes[SERVER].was_connected();
    assert!(!server_ends || world.nodes[SERVER].is_over(), "{label}: the server does not end");
    let undisturbed = !world.nodes.iter().any(Node::was_stopped);
    stop_all(&mut world);

    for (node, (dummies, sampling)) in
        world.nodes.iter().zip([(server.dummies, server.sampling), (config.dummies, config.sampling)])
    {
        for part in parts(node) {
            assert_eq!(part.settings.ptp, config.settings.ptp, "{label}");
            check_part(&label, node, &part, dummies);
            check_shapes(&label, node, &part, sampling);
        }
    }
    let complete = check_both(&label, &world, &config, &server, &weather, undisturbed);
    (complete, world.nodes.iter().flat_map(|node| node.ends.iter().map(|(_, _, totals)| *totals)).collect())
}

/// The shapes of one side's pings and pongs, in a session whose pings travel behind PTP headers.
fn check_shapes(label: &str, node: &Node, part: &Part<'_>, sampling: Sampling) {
    let context = |shaped: &Shaped| format!("{label}: {} {shaped:?}", node.name);
    let duplex = part.settings.direction == Direction::Duplex;
    let pong_every = u64::from(part.settings.pong_every);
    // The last ping that was stamped, until when it is under way, and when the one before the next may be a candidate.
    let mut last: Option<(Now, u64)> = None;
    let mut under_way: Option<(u64, Now)> = None;
    let mut ping_shapes: HashMap<u64, Shape> = HashMap::new();
    let (mut pings, mut pongs, mut withheld) = (0, 0, 0);
    for shaped in &node.shapes {
        let &Shaped { time, sent, message: Message { kind, sequence }, shape } = shaped;
        assert_ne!(shape, Shape::Plain, "{}", context(shaped));
        match (kind, sent) {
            (Kind::Ping, true) => {
                let candidate = match sampling.every {
                    Some(every) => (sequence - 1) % u64::from(every.get()) == 0,
                    None => last.is_none_or(|(sent, _)| time.duration_since(sent) >= Duration::from_millis(1)),
                };
                let blocked = under_way.is_some_and(|(_, until)| time < until);
                let expected = if candidate && !blocked { Shape::Stamped } else { Shape::Unstamped };
                assert_eq!(shape, expected, "{}: {last:?} {under_way:?}", context(shaped));
                withheld += u64::from(candidate && blocked);
                if shape == Shape::Stamped {
                    pings += 1;
                    let ponged = !duplex && pong_every != 0 && sequence.is_multiple_of(pong_every);
                    let wait = if ponged { sampling.timeout } else { Duration::from_millis(1) };
                    last = Some((time, sequence));
                    under_way = Some((sequence, time.plus(wait)));
                }
            }
            (Kind::Pong, false) if shape == Shape::Stamped => {
                under_way = under_way.filter(|(sent, _)| *sent != sequence);
            }
            (Kind::Ping, false) => {
                let first = *ping_shapes.entry(sequence).or_insert(shape);
                assert_eq!(shape, first, "{}: one ping has one shape", context(shaped));
            }
            (Kind::Pong, true) => {
                assert_eq!(Some(&shape), ping_shapes.get(&sequence), "{}: not its ping's shape", context(shaped));
                pongs += u64::from(shape == Shape::Stamped);
            }
            _ => {}
        }
    }
    let Some((_, _, totals)) = part.end else { return };
    let counted = (totals.stamped_pings_sent, totals.stamped_pongs_sent, totals.stamps_withheld);
    assert_eq!(counted, (pings, pongs, withheld), "{label}: {}", node.name);
    assert!(totals.pings_sent == 0 || pings > 0, "{label}: the first ping is to be stamped");
}

#[test]
fn a_client_that_is_not_agreed_with_has_no_session_in_any_weather() {
    let mut ends: HashMap<&str, u32> = HashMap::new();
    for seed in 0..1_500 {
        let mut random = Random(seed ^ 0x0319_0000);
        let mut weather = Weather::of(&mut random);
        weather.blackout = None;
        let config = ClientConfig { connect_timeout: Some(Duration::from_secs(8)), ..random_ptp_client(&mut random) };
        let mut server = server_config();
        server.timeout = random.pick(&[Some(400), Some(5_000)]).map(Duration::from_millis);
        // Either it reads nothing behind the settings, or it offers nothing, or it cannot get it ready.
        let kind = random.between(0, 2);
        let can = kind != 1;
        server.offers = Offers { udp: can, l2: can };
        let label = format!("seed {seed}: {weather:?} {config:?} server {server:?} of kind {kind}");
        let mut world = World::new(label.clone(), weather.wire(Random(seed)));
        world.seed(seed);
        world.add_server(at(0), server);
        world.add_client(0, at(0), config.clone());
        world.nodes[SERVER].is_nanoprobe = kind == 0;
        world.nodes[SERVER].grants = Offers::default();
        let late = if config.settings.delay_us == 0 { (1_000_000, 4_000_000) } else { (0, 0) };
        world.nodes[SERVER].late = late;
        world.run_until(at(40_000_000));

        let (server, client) = (&world.nodes[SERVER], &world.nodes[CLIENT]);
        assert!(client.is_over(), "{label}: the client does not end");
        assert!(!client.was_connected(), "{label}");
        assert!(client.shapes.iter().all(|shaped| !shaped.sent), "{label}: a ping or pong without agreement");
        assert_eq!(server.was_connected(), kind == 0 && server.is_over(), "{label}: a server that does not end");
        let name = match client.end() {
            Some(End::NotAgreed { server, .. }) if kind == 0 => {
                assert_eq!(server, server_address(), "{label}");
                assert!(!client.sent(Kind::Fin).is_empty(), "{label}: the server is not told");
                "not agreed"
            }
            Some(End::Rejected) if kind != 0 => "rejected",
            Some(End::NoAnswer { .. }) => "no answer",
            other => panic!("{label}: {other:?}"),
        };
        *ends.entry(name).or_default() += 1;
        stop_all(&mut world);
    }
    assert!(ends["not agreed"] > 300 && ends["rejected"] > 600, "{ends:?}");
}

#[test]
fn a_keeping_server_serves_one_client_after_the_other_in_every_weather() {
    for seed in 0..1_500 {
        several_clients(seed);
    }
}

fn several_clients(seed: u64) {
    let mut random = Random(seed ^ 0x5eed_0000);
    let mut weather = Weather::of(&mut random);
    weather.blackout = None;
    let mut server = server_config();
    server.keep = true;
    server.dummies = random.pick(&[0, 1]);
    let clients = random.between(2, 4) as usize;
    let label = format!("seed {seed}: {weather:?} {clients} clients");
    let mut world = World::new(label.clone(), weather.wire(Random(seed)));
    world.add_server(at(0), server.clone());
    let mut start = 0;
    let mut apart = true;
    let mut configs = vec![];
    for n in 0..clients {
        let config = ClientConfig {
            timeout: Some(Duration::from_secs(5)),
            connect_timeout: Some(Duration::from_secs(8)),
            ..random_client(&mut random)
        };
        world.add_client(n as u16, at(start), config.clone());
        configs.push(config);
        // Often into the session of the one before.
        let wait = random.pick(&[300_000, 2_000_000, 20_000_000]);
        apart &= wait == 20_000_000;
        start += wait;
    }
    let ms = 1_000_000;
    for (node, config) in world.nodes[1..].iter_mut().zip(&configs) {
        node.late = if config.settings.delay_us == 0 { (4 * ms, 9 * ms) } else { (0, 0) };
    }
    world.nodes[SERVER].late = (3 * ms, 6 * ms);
    world.nodes[SERVER].stops = vec![at(150_000_000)];
    world.drive(160);

    let fair = weather.is_fair();
    for (node, config) in world.nodes[1..].iter().zip(&configs) {
        for part in parts(node) {
            check_part(&label, node, &part, config.dummies);
        }
        assert!(node.end().is_some(), "{label}: a client without an end");
        if fair && apart && config.settings.pong_every != 0 {
            assert_eq!(node.end(), Some(End::Complete), "{label}");
        }
        assert!(
            apart || !fair || matches!(node.end(), Some(End::Complete | End::Rejected)),
            "{label}: {:?}",
            node.end()
        );
    }
    let served = parts(&world.nodes[SERVER]);
    for part in &served {
        check_part(&label, &world.nodes[SERVER], part, server.dummies);
    }
    if fair {
        let refused = world.nodes[1..].iter().filter(|node| node.end() == Some(End::Rejected)).count();
        // Where a round trip takes longer than the first repetition, a refused client's second SYN may come when the
        // session before is just over: it opens one more, which ends by its time-out.
        assert!(served.len() + refused >= clients, "{label}");
        assert!(served.len() + refused == clients || weather.base_us > 25_000, "{label}");
    }
    // Nobody has two sessions, whatever is doubled and late.
    for n in 0..clients as u16 {
        let of_client = served.iter().filter(|part| part.peer == client_address(n)).count();
        assert!(of_client <= 1 || weather.loss != [0, 0], "{label}: a late SYN opened a session");
    }
}

#[test]
fn junk_in_the_name_of_the_peer_neither_panics_nor_keeps_a_session_alive_for_ever() {
    for seed in 0..1_500 {
        let mut random = Random(seed ^ 0xbad);
        let ptp = random.chance(50);
        let config = if ptp { random_ptp_client(&mut random) } else { random_client(&mut random) };
        let (connect_timeout, timeout) = (Some(Duration::from_secs(3)), Some(Duration::from_secs(2)));
        let config = ClientConfig { connect_timeout, timeout, ..config };
        let mut server = server_config();
        server.keep = random.chance(30);
        server.offers = Offers { udp: random.chance(80), l2: true };
        let mut world = World::new(format!("seed {seed}"), steady(100));
        world.add_server(at(0), server);
        world.add_client(0, at(0), config.clone());
        world.nodes[SERVER].late = (4_000_000, 5_000_000);
        world.nodes[CLIENT].late = (4_000_000, 5_000_000);
        let ends = [(client_address(0), server_address()), (server_address(), client_address(0))];
        for _ in 0..random.between(1, 60) {
            let (from, to) = random.pick(&ends);
            let kind = Kind::from_wire(random.pick(&[1, 2, 3, 5, 6, 7, 8, 9])).unwrap();
            let sequence = random.pick(&[0, 1, 2, 7, 12, u64::MAX - 1, u64::MAX]);
            let mut any = || random.pick(&[0, 1, 2, 3, u32::MAX, 100_000]);
            let raw = RawSettings {
                count_s: any().min(3),
                delay_us: any().max(2),
                ping_padding: any() as u16,
                pong_padding: any() as u16,
                pong_every: any(),
                timer: any(),
                direction: any(),
            };
            let transport = random.pick(&[None, Some(Transport::Udp), Some(Transport::L2)]);
            let extension = random.chance(50).then_some(Extension { ptp: transport, ..Extension::default() });
            let body = match (kind, extension) {
                (Kind::Syn, _) if random.chance(80) => Body::Settings(raw, extension),
                (Kind::SynAck, Some(extension)) => Body::Extension(extension),
                _ => Body::Empty,
            };
            let shape = random.pick(&[Shape::Plain, Shape::Stamped, Shape::Unstamped]);
            let message = Message { kind, sequence };
            world.inject_shaped(at(random.between(0, 3_000_000)), from, to, message, body, shape);
        }
        world.run_until(at(120_000_000));
        assert!(world.nodes[CLIENT].is_over(), "seed {seed}: {config:?}");
        stop_all(&mut world);
    }
}

/// One session of a node: what it did from `Connected` (a client: from its first SYN) to its end.
#[derive(Debug)]
struct Part<'a> {
    peer: SocketAddrV4,
    settings: Settings,
    trace: &'a [(Now, Trace)],
    end: Option<(Now, End, Totals)>,
}

/// The sessions of a node.
fn parts(node: &Node) -> Vec<Part<'_>> {
    let is_begin = |entry: &Trace| matches!(entry, Trace::Told(Event::Connected { .. }));
    let begins: Vec<usize> = (0..node.trace.len()).filter(|&at| is_begin(&node.trace[at].1)).collect();
    let mut ends = node.ends.iter().copied();
    let mut parts = vec![];
    for (n, &begin) in begins.iter().enumerate() {
        let Trace::Told(Event::Connected { peer, settings }) = node.trace[begin].1 else { unreachable!() };
        let next = begins.get(n + 1).copied().unwrap_or(node.trace.len());
        // The datagram precedes the event, and the SYN-ACK follows it.
        let back = if node.name == "server" { 1 } else { begin };
        let till = if next < node.trace.len() { next - 1 } else { next };
        parts.push(Part { peer, settings, trace: &node.trace[begin - back..till], end: ends.next() });
    }
    parts
}

/// What must agree within one side of a session, whatever the wire did.
fn check_part(label: &str, node: &Node, part: &Part<'_>, dummies: u32) {
    let Some((_, end, totals)) = part.end else { return };
    // Only what happened before the end is in the totals.
    let over = part.trace.iter().position(|(_, entry)| matches!(entry, Trace::Told(Event::Finished(_)))).unwrap();
    let before = &part.trace[..over];
    let context = || format!("{label}: {} {end:?} {totals:?}", node.name);
    let sent = |kind: Kind| -> Vec<u64> {
        let of_kind = |(_, entry): &(Now, Trace)| match entry {
            Trace::Sent(_, message, ..) if message.kind == kind => Some(message.sequence),
            _ => None,
        };
        before.iter().filter_map(of_kind).collect()
    };
    let mut rows: BTreeMap<Point, Vec<u64>> = BTreeMap::new();
    for (_, entry) in before {
        if let Trace::Sent(_, message, _, Some(point)) | Trace::Came(_, message, Some(point)) = entry {
            rows.entry(*point).or_default().push(message.sequence);
        }
    }
    let row = |points: &[Point]| -> Vec<u64> {
        points.iter().flat_map(|point| rows.get(point).cloned().unwrap_or_default()).collect()
    };
    let (pings, pongs) = (sent(Kind::Ping), sent(Kind::Pong));
    assert_eq!(pings, (1..=pings.len() as u64).collect::<Vec<_>>(), "{}", context());
    assert_eq!(row(&[Point::T0, Point::T0cs, Point::T0sc]), pings, "{}", context());
    assert_eq!(totals.pings_sent, pings.len() as u64, "{}", context());
    assert_eq!(row(&[Point::T2]), pongs, "{}", context());
    assert_eq!(totals.pongs_sent, pongs.len() as u64, "{}", context());
    let pinged = row(&[Point::T1, Point::T1cs, Point::T1sc]);
    assert_eq!(totals.pings_received, pinged.len() as u64, "{}", context());
    let ponged = row(&[Point::T3]);
    assert_eq!(totals.pongs_received, ponged.len() as u64, "{}", context());
    let asks =
        |sequence: &u64| part.settings.pong_every != 0 && sequence.is_multiple_of(part.settings.pong_every.into());
    let duplex = rows.keys().any(|point| *point > Point::T3);
    if duplex {
        assert_eq!((totals.pongs_sent, totals.pongs_received, totals.pongs_expected), (0, 0, 0), "{}", context());
    } else {
        assert!(pongs.iter().eq(pinged.iter().filter(|sequence| asks(sequence))), "{}", context());
        assert_eq!(totals.pongs_expected, pings.iter().filter(|sequence| asks(sequence)).count() as u64);
        let unique: HashSet<u64> = ponged.iter().copied().collect();
        assert!(unique.len() as u64 <= totals.pongs_expected, "{}", context());
        assert!(unique.iter().all(|sequence| asks(sequence) && *sequence <= pings.len() as u64), "{}", context());
    }
    for (_, entry) in before {
        if let Trace::Sent(_, Message { kind: Kind::Pong, .. }, body, _) = entry {
            assert_eq!(*body, Body::Padding(part.settings.pong_padding), "{}", context());
        }
    }
    let fins = sent(Kind::Fin);
    if pinged.is_empty() {
        assert!(fins.iter().all(|sequence| *sequence == pings.len() as u64 + 1), "{}: {fins:?}", context());
    }
    assert!(!duplex || fins.is_empty(), "{}: duplex knows no FIN", context());
    assert_eq!(totals.dummies_sent, u64::from(dummies) * (pings.len() + pongs.len()) as u64, "{}", context());
    let came = before.iter().filter(|(_, entry)| matches!(entry, Trace::Came(..))).count() as u64;
    assert_eq!(totals.received, came, "{}", context());
    let sends = before.iter().filter(|(_, entry)| matches!(entry, Trace::Sent(..))).count() as u64;
    assert_eq!(totals.transmitted, sends + totals.dummies_sent, "{}", context());
    assert!(totals.started.is_some() || pings.is_empty() && pinged.is_empty(), "{}", context());
    assert!(totals.ended.is_some(), "{}", context());
    if let (Some(started), Some(ended)) = (totals.started, totals.ended) {
        assert!(started <= ended, "{}", context());
    }
}
