//! Pings and pongs behind PTP headers: how client and server agree on them, what a peer that knows nothing of them is told,
//! and which of them are to be stamped. What holds in every weather is in `session.rs`.

#[path = "support/sim.rs"]
mod sim;

use sim::{
    Datagram, Shaped, Wire, World, at, client_address, client_config, losing_first, micros, server_address,
    server_config, steady,
};
use std::num::NonZeroU32;
use std::sync::Arc;
use std::time::Duration;
use xdprobe::session::{
    Action, Body, Client, ClientConfig, Correction, Direction, End, Event, Incoming, Machine, Offers, PTP_TIMEOUT,
    Probe, PtpRefusal, Sampling, Server, ServerConfig, Settings, Totals,
};
use xdprobe::wire::ptp::{Shape, Transport};
use xdprobe::wire::{Extension, Kind, Message, Point};

const DIRECTIONS: [Direction; 3] = [Direction::Forward, Direction::Reverse, Direction::Duplex];
const TRANSPORTS: [Transport; 2] = [Transport::Udp, Transport::L2];

const SERVER: usize = 0;
const CLIENT: usize = 1;

/// A second of pings every 100 ms, behind PTP headers.
fn short(direction: Direction, transport: Transport) -> Settings {
    Settings {
        count_s: 1,
        delay_us: 100_000,
        ping_padding: 44,
        pong_padding: 44,
        direction,
        ptp: Some(transport),
        ..Settings::default()
    }
}

/// The end of a client whose server knows nothing of PTP headers.
fn not_agreed(transport: Transport) -> End {
    let missing = Extension { ptp: Some(transport), ..Extension::default() };
    End::NotAgreed { server: server_address(), missing }
}

/// A server that has what is asked for.
fn offering() -> ServerConfig {
    ServerConfig { offers: Offers { udp: true, l2: true }, ..server_config() }
}

fn pair(wire: Wire, settings: Settings) -> World {
    let mut world = World::new(format!("{settings:?}"), wire);
    world.add_server(at(0), offering());
    world.add_client(0, at(0), client_config(settings));
    world
}

/// The sequences of the pings that this node sent to be stamped.
fn stamped(world: &World, node: usize) -> Vec<u64> {
    let stamped = |shaped: &&Shaped| shaped.sent && shaped.message.kind == Kind::Ping && shaped.shape == Shape::Stamped;
    world.nodes[node].shapes.iter().filter(stamped).map(|shaped| shaped.message.sequence).collect()
}

#[test]
fn both_sides_agree_and_every_ping_and_pong_is_shaped() {
    for direction in DIRECTIONS {
        for transport in TRANSPORTS {
            let settings = short(direction, transport);
            let mut world = pair(steady(100), settings);
            world.drive(10);
            let extension = Extension { ptp: Some(transport), ..Extension::default() };
            assert_eq!(world.nodes[CLIENT].bodies(Kind::Syn), [Body::Settings(settings.to_raw(), Some(extension))]);
            assert_eq!(world.nodes[SERVER].bodies(Kind::SynAck), [Body::Extension(extension)]);
            assert_eq!(world.nodes[SERVER].wanted, [extension]);
            for (node, peer) in [(SERVER, client_address(0)), (CLIENT, server_address())] {
                let node = &world.nodes[node];
                assert_eq!(node.events()[0].1, Event::Connected { peer, settings });
                assert_eq!(node.end(), Some(End::Complete), "{}", world.label);
                assert_eq!(node.totals().first_ip_len, Some(88));
                assert!(!node.shapes.is_empty());
                // One in 100 ms: all of them are stamped.
                assert!(node.shapes.iter().all(|shaped| shaped.shape == Shape::Stamped), "{}", world.label);
                assert_eq!(node.totals().unexpected, 0);
            }
            let (ours, theirs) = (world.nodes[CLIENT].totals(), world.nodes[SERVER].totals());
            let expected = match direction {
                Direction::Forward => [10, 0, 0, 10],
                Direction::Reverse => [0, 10, 10, 0],
                Direction::Duplex => [10, 0, 10, 0],
            };
            let counts = [
                ours.stamped_pings_sent,
                ours.stamped_pongs_sent,
                theirs.stamped_pings_sent,
                theirs.stamped_pongs_sent,
            ];
            assert_eq!(counts, expected, "{}", world.label);
        }
    }
}

#[test]
fn a_plain_session_has_plain_pings_and_counts_no_stamps() {
    let mut world = pair(steady(100), Settings { ptp: None, ..short(Direction::Forward, Transport::Udp) });
    world.drive(10);
    assert_eq!(world.nodes[SERVER].bodies(Kind::SynAck), [Body::Empty]);
    assert!(world.nodes[SERVER].wanted.is_empty());
    for node in &world.nodes {
        assert!(!node.shapes.is_empty() && node.shapes.iter().all(|shaped| shaped.shape == Shape::Plain));
        let totals = node.totals();
        assert_eq!((totals.stamped_pings_sent, totals.stamped_pongs_sent, totals.stamps_withheld), (0, 0, 0));
    }
}

#[test]
fn lost_control_messages_of_every_kind_are_survived_in_every_direction() {
    for direction in DIRECTIONS {
        for syn in 0..=2 {
            for syn_ack in 0..=2 {
                for fin in 0..=2 {
                    let losses = [(Kind::Syn, syn), (Kind::SynAck, syn_ack), (Kind::Fin, fin), (Kind::FinAck, fin)];
                    let mut world = pair(losing_first(500, &losses), short(direction, Transport::L2));
                    world.label = format!("{direction:?} {losses:?}");
                    world.run_until(at(20_000_000));
                    assert_eq!(world.nodes[CLIENT].end(), Some(End::Complete), "{}", world.label);
                    assert_eq!(world.nodes[SERVER].end(), Some(End::Complete), "{}", world.label);
                }
            }
        }
    }
}

#[test]
fn a_short_time_out_leaves_time_for_a_fin_that_waits_for_what_was_sent_before_it() {
    // What either path does with a FIN and its answer: it holds them.
    let holding = || -> Wire {
        Box::new(|now, datagram| {
            let held = matches!(datagram.message.kind, Kind::Fin | Kind::FinAck);
            vec![now.plus_nanos(if held { 1_600_000 } else { 100_000 })]
        })
    };
    let timeout = Some(Duration::from_micros(800));
    let impatient = |wire, settings| {
        let mut world = World::new(format!("{settings:?}"), wire);
        world.add_server(at(0), ServerConfig { timeout, ..offering() });
        world.add_client(0, at(0), ClientConfig { timeout, ..client_config(settings) });
        world.run_until(at(10_000_000));
        world
    };
    for direction in [Direction::Forward, Direction::Reverse] {
        for transport in TRANSPORTS {
            let world = impatient(holding(), Settings { delay_us: 500, ..short(direction, transport) });
            let ends = [CLIENT, SERVER].map(|node| world.nodes[node].end());
            assert_eq!(ends, [Some(End::Complete); 2], "{}", world.label);
        }
    }
    // It is a time-out all the same, and says how long it was.
    let deaf: Wire = Box::new(|now, datagram| {
        let arrives = matches!(datagram.message.kind, Kind::Syn | Kind::SynAck);
        if arrives { vec![now.plus_nanos(100_000)] } else { vec![] }
    });
    let alone = impatient(deaf, short(Direction::Forward, Transport::L2));
    for node in &alone.nodes {
        assert_eq!(node.end(), Some(End::TimedOut { after: PTP_TIMEOUT }));
    }
}

#[test]
fn a_repeated_syn_gets_the_same_syn_ack_and_the_path_is_asked_once() {
    let mut world = pair(losing_first(100, &[(Kind::SynAck, 2)]), short(Direction::Forward, Transport::Udp));
    world.drive(10);
    let granted = Body::Extension(Extension { ptp: Some(Transport::Udp), ..Extension::default() });
    assert_eq!(world.nodes[SERVER].bodies(Kind::SynAck), [granted; 3]);
    assert_eq!(world.nodes[SERVER].wanted.len(), 1);
}

#[test]
fn a_reverse_client_takes_a_ping_behind_a_ptp_header_for_its_acceptance() {
    let mut world = pair(losing_first(500, &[(Kind::SynAck, u32::MAX)]), short(Direction::Reverse, Transport::Udp));
    world.drive(20);
    assert_eq!(world.nodes[CLIENT].end(), Some(End::Complete));
    assert_eq!(world.nodes[SERVER].end(), Some(End::Complete));
    assert_eq!(world.nodes[CLIENT].rows(Point::T1), (1..=10).collect::<Vec<_>>());
}

#[test]
fn a_reverse_client_does_not_take_a_fin_for_an_agreement_but_the_next_syn_ack() {
    // All pings are lost, and the SYN-ACKs until the server is done.
    let wire: Wire = Box::new(|now, datagram| match datagram.message.kind {
        Kind::Ping => vec![],
        Kind::SynAck if micros(now) < 2_300_000 => vec![],
        _ => vec![now.plus_nanos(500_000)],
    });
    let mut world = pair(wire, short(Direction::Reverse, Transport::Udp));
    world.run_until(at(2_300_000));
    assert!(!world.nodes[CLIENT].came(server_address(), Kind::Fin).is_empty());
    assert!(!world.nodes[CLIENT].was_connected());
    world.drive(20);
    assert_eq!(world.nodes[CLIENT].end(), Some(End::Complete));
    assert_eq!(world.nodes[SERVER].end(), Some(End::Complete));
    assert!(world.nodes[CLIENT].shapes.is_empty());
}

#[test]
fn a_nanoprobe_that_ignores_the_extension_is_left_with_a_fin_and_a_reason() {
    for (direction, end) in [
        (Direction::Forward, End::Complete),
        (Direction::Reverse, End::PeerStopped),
        // Duplex knows no FIN: it waits for a first ping in vain.
        (Direction::Duplex, End::TimedOut { after: Duration::from_secs(5) }),
    ] {
        let mut world = pair(steady(100), short(direction, Transport::Udp));
        world.nodes[SERVER].is_nanoprobe = true;
        world.drive(10);
        let (server, client) = (&world.nodes[SERVER], &world.nodes[CLIENT]);
        assert_eq!(client.end(), Some(not_agreed(Transport::Udp)));
        assert!(!client.end().unwrap().is_success());
        // At the SYN-ACK, and once more in duplex, where nobody answers it.
        let fins = if direction == Direction::Duplex { vec![(200, 1), (50_200, 1)] } else { vec![(200, 1)] };
        assert_eq!(client.sent(Kind::Fin), fins);
        assert_eq!(micros(client.ends[0].0), 200);
        assert!(!client.was_connected() && client.shapes.is_empty());
        assert_eq!(server.end(), Some(end));
        assert!(server.shapes.is_empty());
    }
}

#[test]
fn a_declining_client_waits_no_longer_than_for_a_lost_answer() {
    let mut world = pair(losing_first(100, &[(Kind::FinAck, u32::MAX)]), short(Direction::Forward, Transport::Udp));
    world.nodes[SERVER].is_nanoprobe = true;
    world.run_until(at(200_199));
    assert_eq!(world.nodes[CLIENT].sent(Kind::Fin), [(200, 1), (50_200, 1)]);
    assert!(!world.nodes[CLIENT].is_over());
    world.run_until(at(200_200));
    assert!(world.nodes[CLIENT].is_over());
}

#[test]
fn a_declining_client_answers_a_fin_and_ends_when_stopped() {
    let declining = || {
        let mut client = Client::new(at(0), client_config(short(Direction::Reverse, Transport::Udp)));
        client.handle_datagram(at(1), &from_server(Kind::SynAck, 0));
        assert_eq!(end_of(&drain(&mut client)), Some(not_agreed(Transport::Udp)));
        client
    };
    let mut client = declining();
    // What a server that has not had the FIN yet goes on sending.
    for kind in [Kind::SynAck, Kind::Ping, Kind::Dummy] {
        assert_eq!(client.handle_datagram(at(2), &from_server(kind, 1)), None);
    }
    assert_eq!(drain(&mut client), []);
    assert!(!client.is_over());
    client.handle_datagram(at(3), &from_server(Kind::Fin, 4));
    assert_eq!(sent(&drain(&mut client)), [Message { kind: Kind::FinAck, sequence: 4 }]);
    assert!(client.is_over());
    let mut client = declining();
    client.handle_stop(at(4));
    assert!(client.is_over() && drain(&mut client).is_empty());
}

#[test]
fn a_nanoprobe_whose_syn_acks_are_lost_is_declined_at_its_first_ping() {
    let mut world = pair(losing_first(100, &[(Kind::SynAck, u32::MAX)]), short(Direction::Reverse, Transport::L2));
    world.nodes[SERVER].is_nanoprobe = true;
    world.drive(10);
    assert_eq!(world.nodes[CLIENT].end(), Some(not_agreed(Transport::L2)));
    assert_eq!(micros(world.nodes[CLIENT].ends[0].0), 1_000_200);
    assert!(world.nodes[CLIENT].rows(Point::T1).is_empty());
    assert_eq!(world.nodes[SERVER].end(), Some(End::PeerStopped));
}

#[test]
fn a_syn_ack_that_grants_something_else_is_no_agreement() {
    for (granted, agreed) in
        [(None, false), (Some(None), false), (Some(Some(Transport::L2)), false), (Some(Some(Transport::Udp)), true)]
    {
        let mut client = Client::new(at(0), client_config(short(Direction::Forward, Transport::Udp)));
        let extension = granted.map(|ptp| Extension { ptp, ..Extension::default() });
        client.handle_datagram(at(1), &Incoming { extension, ..from_server(Kind::SynAck, 0) });
        let actions = drain(&mut client);
        assert_eq!(end_of(&actions).is_none(), agreed, "{granted:?}");
        assert_eq!(actions.iter().any(|action| matches!(action, Action::Tell(Event::Connected { .. }))), agreed);
    }
    // Who asked for nothing is granted nothing by mistake.
    let mut client = Client::new(at(0), client_config(Settings::default()));
    let extension = Some(Extension { ptp: Some(Transport::Udp), ..Extension::default() });
    client.handle_datagram(at(1), &Incoming { extension, ..from_server(Kind::SynAck, 0) });
    client.handle_deadline(at(1));
    let plain = |action: &Action| matches!(action, Action::Send(sent) if sent.shape == Shape::Plain);
    assert!(drain(&mut client).iter().filter(|action| matches!(action, Action::Send(_))).all(plain));
}

/// The server's answer to this SYN, and whether its path is asked to get something ready.
fn answer(config: ServerConfig, grants: Offers, settings: Settings) -> (Vec<Action>, bool) {
    let mut server = Server::new(config);
    let incoming = syn(settings);
    let wanted = server.wants(at(0), &incoming);
    let ready = wanted.map(|wanted| Extension { ptp: wanted.ptp.filter(|transport| grants.has(*transport)), ..wanted });
    server.handle_datagram(at(0), &Incoming { granted: ready, ..incoming });
    let actions = drain(&mut server);
    assert_eq!(server.peer().is_none(), sent(&actions)[0].kind == Kind::SynRst);
    (actions, wanted.is_some())
}

#[test]
fn a_server_that_cannot_says_why_and_waits_on() {
    let (all, none) = (Offers { udp: true, l2: true }, Offers::default());
    let from = client_address(0);
    let refused = |why| Event::RefusedPtp { from, transport: Transport::L2, why };
    let small: Arc<[Probe]> = [Probe { delay_us: 9, padding: 100 }, Probe { delay_us: 9, padding: 39 }].into();
    let enough: Arc<[Probe]> = [Probe { delay_us: 9, padding: 40 }].into();
    let scheduled = |schedule: &Arc<[Probe]>| ServerConfig { schedule: Some(schedule.clone()), ..offering() };
    let (forward, reverse) = (short(Direction::Forward, Transport::L2), short(Direction::Reverse, Transport::L2));
    let plain = Settings { ptp: None, ..forward };
    let requires = ServerConfig { requires_ptp: true, ..offering() };
    let tight = ServerConfig { max_l2_len: Some(87), ..offering() };
    let udp_only = ServerConfig { offers: Offers { udp: true, l2: false }, ..server_config() };
    for (config, grants, settings, refusal, asks_path) in [
        (server_config(), all, forward, Some(refused(PtpRefusal::NotOffered)), false),
        (udp_only, all, forward, Some(refused(PtpRefusal::NotOffered)), false),
        (offering(), none, forward, Some(refused(PtpRefusal::NotReady)), true),
        (offering(), Offers { udp: true, l2: false }, forward, Some(refused(PtpRefusal::NotReady)), true),
        (offering(), all, forward, None, true),
        (scheduled(&small), all, reverse, Some(refused(PtpRefusal::Schedule { ip_len: 83 })), false),
        (scheduled(&enough), all, reverse, None, true),
        // In forward its schedule is not used.
        (scheduled(&small), all, forward, None, true),
        (tight, all, forward, Some(Event::RefusedSize { from, ip_len: 88, limit: 87 }), false),
        (requires.clone(), all, plain, Some(Event::RefusedPlain { from }), false),
        (requires, all, forward, None, true),
        (offering(), all, plain, None, false),
    ] {
        let label = format!("{config:?} {settings:?}");
        let (actions, asked) = answer(config, grants, settings);
        assert_eq!(asked, asks_path, "{label}");
        let told = |event: Event| actions.contains(&Action::Tell(event));
        match refusal {
            Some(event) => {
                assert_eq!(actions.len(), 2, "{label}: {actions:?}");
                assert_eq!(sent(&actions), [Message { kind: Kind::SynRst, sequence: 0 }], "{label}");
                assert!(told(event), "{label}: {actions:?}");
            }
            None => assert!(told(Event::Connected { peer: from, settings }), "{label}: {actions:?}"),
        }
    }
}

#[test]
fn a_refused_client_ends_as_rejected_and_the_next_one_is_served() {
    let mut world = World::new("refused", steady(100));
    world.add_server(at(0), ServerConfig { requires_ptp: true, ..offering() });
    let plain = Settings { ptp: None, ..short(Direction::Forward, Transport::Udp) };
    world.add_client(0, at(0), client_config(plain));
    let second = world.add_client(1, at(1000), client_config(short(Direction::Forward, Transport::Udp)));
    world.drive(10);
    assert_eq!(world.nodes[CLIENT].end(), Some(End::Rejected));
    assert_eq!(world.nodes[second].end(), Some(End::Complete));
    assert_eq!(world.nodes[SERVER].events()[0].1, Event::RefusedPlain { from: client_address(0) });
}

#[test]
fn the_path_is_asked_by_nobody_but_the_client_that_will_be_served() {
    let mut server = Server::new(ServerConfig { keep: true, ..offering() });
    let settings = short(Direction::Forward, Transport::Udp);
    let asked = syn(settings);
    let extension = settings.extension();
    assert_eq!(server.wants(at(0), &asked), extension);
    // Whatever is no whole SYN.
    let mut others = vec![Incoming { settings: None, ..asked }, Incoming { extension: None, ..asked }];
    for kind in (0..=9).filter_map(Kind::from_wire).filter(|kind| *kind != Kind::Syn) {
        others.push(Incoming { extension, ..Incoming::plain(client_address(0), Message { kind, sequence: 0 }) });
    }
    assert!(others.iter().all(|incoming| server.wants(at(0), incoming).is_none()));
    server.handle_datagram(at(0), &Incoming { granted: extension, ..asked });
    // Neither itself again nor another while its session stands, nor itself for a while behind it.
    let other = Incoming { from: client_address(1), ..asked };
    assert_eq!([server.wants(at(1), &asked), server.wants(at(1), &other)], [None, None]);
    server.handle_datagram(at(2), &Incoming::plain(client_address(0), Message { kind: Kind::Fin, sequence: 1 }));
    assert_eq!([server.wants(at(3), &asked), server.wants(at(3), &other)], [None, extension]);
    assert_eq!(server.wants(at(5_000_002), &asked), extension);
    // A client has ready what it asks for.
    let client = Client::new(at(0), client_config(settings));
    assert_eq!(client.wants(at(0), &asked), None);
}

#[test]
fn a_keeping_server_agrees_with_each_client_for_itself() {
    let mut world = World::new("keep", steady(100));
    world.add_server(at(0), ServerConfig { keep: true, ..offering() });
    let kinds = [Some(Transport::Udp), None, Some(Transport::L2)];
    for (n, ptp) in (0..).zip(kinds) {
        let settings = Settings { ptp, ..short(Direction::Forward, Transport::Udp) };
        world.add_client(n, at(u64::from(n) * 8_000_000), client_config(settings));
    }
    world.nodes[SERVER].stops = vec![at(24_000_000)];
    world.drive(30);
    let agreed = |n: usize| world.nodes[n].shapes.iter().all(|shaped| shaped.shape == Shape::Stamped);
    assert_eq!([agreed(1), agreed(2), agreed(3)], [true, false, true]);
    assert!(world.nodes[1..].iter().all(|node| node.end() == Some(End::Complete)));
    let wanted =
        [Transport::Udp, Transport::L2].map(|transport| Extension { ptp: Some(transport), ..Extension::default() });
    assert_eq!(world.nodes[SERVER].wanted, wanted);
}

#[test]
fn a_client_whose_fields_are_all_unknown_is_told_so_and_served() {
    let mut server = Server::new(offering());
    let extension = Some(Extension::default());
    let incoming = Incoming { extension, ..syn(Settings::default()) };
    assert_eq!(server.wants(at(0), &incoming), None);
    server.handle_datagram(at(0), &incoming);
    let answers = drain(&mut server);
    let body = answers.iter().find_map(|action| match action {
        Action::Send(outgoing) => Some(outgoing.body),
        _ => None,
    });
    assert_eq!(body, Some(Body::Extension(Extension::default())));
    assert_eq!(server.peer(), Some(client_address(0)));
}

#[test]
fn a_size_without_room_for_the_header_is_corrected_where_the_server_sends_it() {
    let settings = Settings { pong_padding: 0, ..short(Direction::Forward, Transport::Udp) };
    let mut world = pair(steady(100), settings);
    world.drive(10);
    let used = Correction { setting: "pong padding", asked: 0, min: 44, max: 2048, used: 44, used_name: None };
    assert_eq!(world.nodes[SERVER].events()[1].1, Event::Corrected(used));
    assert_eq!(world.nodes[SERVER].bodies(Kind::Pong), [Body::Padding(44); 10]);
    let settings = Settings { ping_padding: 7, ..short(Direction::Reverse, Transport::L2) };
    let mut world = pair(steady(100), settings);
    world.drive(10);
    assert_eq!(world.nodes[SERVER].bodies(Kind::Ping), [Body::Padding(40); 10]);
}

#[test]
fn a_client_that_would_send_what_holds_no_header_is_not_made() {
    let schedule = |padding| -> Option<Arc<[Probe]>> { Some([Probe { delay_us: 1, padding }].into()) };
    for (direction, ping_padding, pong_padding, schedule, made) in [
        (Direction::Forward, 44, 0, None, true),
        (Direction::Forward, 43, 44, None, false),
        (Direction::Forward, 0, 0, schedule(44), true),
        (Direction::Forward, 44, 44, schedule(43), false),
        (Direction::Reverse, 0, 44, None, true),
        (Direction::Reverse, 44, 43, None, false),
        (Direction::Duplex, 44, 0, None, true),
        (Direction::Duplex, 43, 44, None, false),
    ] {
        let settings = Settings { ping_padding, pong_padding, ..short(direction, Transport::Udp) };
        let config = ClientConfig { schedule, ..client_config(settings) };
        let label = format!("{config:?}");
        let attempt = std::panic::catch_unwind(|| Client::new(at(0), config));
        assert_eq!(attempt.is_ok(), made, "{label}");
    }
}

#[test]
fn what_is_not_shaped_as_agreed_makes_no_row_and_no_pong() {
    for ptp in [None, Some(Transport::Udp)] {
        let settings = Settings { ptp, ..short(Direction::Forward, Transport::Udp) };
        let mut server = Server::new(offering());
        server.handle_datagram(at(0), &Incoming { granted: settings.extension(), ..syn(settings) });
        drain(&mut server);
        let mut client = Client::new(at(0), client_config(settings));
        client.handle_datagram(at(0), &Incoming { extension: settings.extension(), ..from_server(Kind::SynAck, 0) });
        client.handle_deadline(at(0));
        drain(&mut client);
        for (n, shape) in [(1, Shape::Plain), (2, Shape::Stamped), (3, Shape::Unstamped)] {
            let agreed = (shape == Shape::Plain) == ptp.is_none();
            let ping = Incoming::plain(client_address(0), Message { kind: Kind::Ping, sequence: n });
            let row = server.handle_datagram(at(n), &Incoming { shape, ..ping });
            assert_eq!(row, agreed.then_some(Point::T1), "{ptp:?} {shape:?}");
            let pong = drain(&mut server).iter().find_map(|action| match action {
                Action::Send(outgoing) => Some(outgoing.shape),
                _ => None,
            });
            assert_eq!(pong, agreed.then_some(shape));
            let row = client.handle_datagram(at(n), &Incoming { shape, ..from_server(Kind::Pong, 1) });
            assert_eq!(row, agreed.then_some(Point::T3), "{ptp:?} {shape:?}");
        }
        let unexpected = if ptp.is_some() { 1 } else { 2 };
        assert_eq!((server.totals().unexpected, client.totals().unexpected), (unexpected, unexpected));
    }
}

/// A forward session of a second with a ping every so many µs.
fn sampled(wire: Wire, direction: Direction, delay_us: u32, sampling: Sampling) -> World {
    let settings = Settings { delay_us, ..short(direction, Transport::Udp) };
    let mut world = World::new(format!("{delay_us} µs {sampling:?}"), wire);
    world.add_server(at(0), offering());
    world.add_client(0, at(0), ClientConfig { sampling, ..client_config(settings) });
    world.drive(10);
    world
}

#[test]
fn stamped_pings_are_more_than_a_millisecond_apart_unless_a_number_is_given() {
    let every = |n| Sampling { every: NonZeroU32::new(n), ..Sampling::default() };
    // Every 200 µs, answered after 100.
    let world = sampled(steady(50), Direction::Forward, 200, Sampling::default());
    assert_eq!(stamped(&world, CLIENT), (1..=5000).step_by(6).collect::<Vec<_>>());
    let totals = world.nodes[CLIENT].totals();
    assert_eq!((totals.stamped_pings_sent, totals.stamps_withheld), (834, 0));
    assert_eq!(world.nodes[SERVER].totals().stamped_pongs_sent, 834);
    let world = sampled(steady(50), Direction::Forward, 200, every(1));
    assert_eq!(stamped(&world, CLIENT), (1..=5000).collect::<Vec<_>>());
    let world = sampled(steady(50), Direction::Forward, 200, every(100));
    assert_eq!(stamped(&world, CLIENT), (1..=5000).step_by(100).collect::<Vec<_>>());
}

#[test]
fn a_pong_under_way_or_lost_withholds_the_next_stamp() {
    // A round trip of 3 ms, a ping every ms: two candidates fall into each.
    let every_one = Sampling { every: NonZeroU32::new(1), ..Sampling::default() };
    let world = sampled(steady(1500), Direction::Forward, 1000, every_one);
    let totals = world.nodes[CLIENT].totals();
    assert_eq!((totals.stamped_pings_sent, totals.stamps_withheld), (334, 666));
    // No stamped pong comes: each keeps the next from being stamped for 100 ms.
    let deaf: Wire = Box::new(|now, datagram: &Datagram| match (datagram.message.kind, datagram.shape) {
        (Kind::Pong, Shape::Stamped) => vec![],
        _ => vec![now.plus_nanos(100_000)],
    });
    let world = sampled(deaf, Direction::Forward, 1000, every_one);
    assert_eq!(stamped(&world, CLIENT), (1..=1000).step_by(100).collect::<Vec<_>>());
    assert_eq!(world.nodes[CLIENT].totals().stamps_withheld, 990);
    assert_eq!(world.nodes[CLIENT].totals().pongs_received, 990);
}

#[test]
fn in_duplex_each_side_samples_for_itself_by_time() {
    let world = sampled(steady(50), Direction::Duplex, 250, Sampling::default());
    for node in [CLIENT, SERVER] {
        assert_eq!(stamped(&world, node), (1..=4000).step_by(5).collect::<Vec<_>>());
        assert_eq!(world.nodes[node].totals().stamps_withheld, 0);
    }
    // The client's number is the client's.
    let every = Sampling { every: NonZeroU32::new(2), ..Sampling::default() };
    let world = sampled(steady(50), Direction::Duplex, 250, every);
    assert_eq!(stamped(&world, CLIENT), (1..=4000).step_by(4).collect::<Vec<_>>());
    assert_eq!(world.nodes[CLIENT].totals().stamps_withheld, 1000);
    assert_eq!(world.nodes[SERVER].totals().stamps_withheld, 0);
}

/// Has a machine act, and nothing of that leave: the shape of the ping or pong that did not, and what was counted before and is now.
fn unsent<M: Machine>(machine: &mut M, act: impl FnOnce(&mut M)) -> (Shape, Totals, Totals) {
    let before = *machine.totals();
    act(machine);
    let actions = drain(machine);
    actions.iter().for_each(|action| machine.handle_unsent(action));
    let [Action::Send(outgoing), Action::Dummies { count: 3, .. }] = actions[..] else { panic!("{actions:?}") };
    (outgoing.shape, before, *machine.totals())
}

#[test]
fn a_ping_that_did_not_leave_is_not_counted_whether_it_was_to_be_stamped_or_not() {
    let every_other = Sampling { every: NonZeroU32::new(2), ..Sampling::default() };
    for direction in [Direction::Forward, Direction::Duplex] {
        let settings = short(direction, Transport::Udp);
        let config = ClientConfig { dummies: 3, sampling: every_other, ..client_config(settings) };
        let mut client = Client::new(at(0), config);
        client.handle_datagram(at(0), &Incoming { extension: settings.extension(), ..from_server(Kind::SynAck, 0) });
        drain(&mut client);
        if direction == Direction::Duplex {
            client.handle_deadline(client.deadline().unwrap());
        }
        let ping = |client: &mut Client| client.handle_deadline(client.deadline().unwrap());
        for shape in [Shape::Stamped, Shape::Unstamped] {
            let (shaped, before, after) = unsent(&mut client, ping);
            // How large it would have been, and how late, is known all the same.
            let size = after.first_ip_len;
            assert_eq!((shaped, after), (shape, Totals { first_ip_len: size, ..before }), "{direction:?}");
        }
        // And what does leave is.
        ping(&mut client);
        drain(&mut client);
        let totals = client.totals();
        assert_eq!((totals.pings_sent, totals.stamped_pings_sent, totals.planned_pings), (1, 1, 1));
        assert_eq!((totals.dummies_sent, totals.transmitted), (3, 5));
        let (shaped, before, after) = unsent(&mut client, ping);
        assert_eq!((shaped, after), (Shape::Unstamped, before), "{direction:?}");
    }
}

#[test]
fn a_pong_that_did_not_leave_is_not_counted_and_its_ping_is() {
    let settings = short(Direction::Forward, Transport::Udp);
    let mut server = Server::new(ServerConfig { dummies: 3, ..offering() });
    server.handle_datagram(at(0), &Incoming { granted: settings.extension(), ..syn(settings) });
    drain(&mut server);
    for (n, shape) in [(1, Shape::Stamped), (2, Shape::Unstamped)] {
        let ping = Incoming::plain(client_address(0), Message { kind: Kind::Ping, sequence: n });
        let (shaped, before, after) = unsent(&mut server, |server| {
            server.handle_datagram(at(n), &Incoming { shape, ..ping });
        });
        let (received, pings_received) = (before.received + 1, before.pings_received + 1);
        let (started, first_ip_len) = (after.started, after.first_ip_len);
        assert_eq!((shaped, started), (shape, Some(at(1))));
        assert_eq!(after, Totals { received, pings_received, started, first_ip_len, ..before });
    }
}

fn from_server(kind: Kind, sequence: u64) -> Incoming {
    Incoming::plain(server_address(), Message { kind, sequence })
}

/// The first client's SYN for these settings.
fn syn(settings: Settings) -> Incoming {
    Incoming {
        settings: Some(settings.to_raw()),
        extension: settings.extension(),
        ..Incoming::plain(client_address(0), Message { kind: Kind::Syn, sequence: 0 })
    }
}

fn drain(machine: &mut impl Machine) -> Vec<Action> {
    std::iter::from_fn(|| machine.poll_action()).collect()
}

fn sent(actions: &[Action]) -> Vec<Message> {
    let message = |action: &Action| match action {
        Action::Send(outgoing) => Some(outgoing.message),
        _ => None,
    };
    actions.iter().filter_map(message).collect()
}

fn end_of(actions: &[Action]) -> Option<End> {
    actions.iter().find_map(|action| match action {
        Action::Tell(Event::Finished(end)) => Some(*end),
        _ => None,
    })
}
