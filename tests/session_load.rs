//! A client's flood of dummies in simulated worlds: what is sent, what is agreed to, and when it stops.

#[path = "support/sim.rs"]
mod sim;

use sim::{Now, Trace, World, at, client_address, client_config, micros, server_address, server_config, steady};
use std::time::Duration;
use xdprobe::session::{
    Action, Client, ClientConfig, End, Event, Incoming, LOAD_BATCH, Machine, Pattern, Rate, ServerConfig, Settings,
    wire_bits,
};
use xdprobe::wire::{Kind, Load, Message};

const SERVER: usize = 0;
const CLIENT: usize = 1;

/// Two seconds of pings, 100 a second, and a flood.
fn flooding(packets_per_second: u64) -> Settings {
    let load = Some(Load { packets_per_second, ip_len: 1400 });
    Settings { count_s: 2, delay_us: 10_000, account: true, load, ..Settings::default() }
}

fn world(settings: Settings, server: ServerConfig, pattern: Pattern) -> World {
    let mut world = World::new(format!("{pattern:?}"), steady(100));
    world.add_server(at(0), server);
    world.add_client(0, at(0), ClientConfig { pattern, ..client_config(settings) });
    world
}

fn batches(world: &World) -> Vec<(u64, u32)> {
    let batch = |(time, entry): &(Now, Trace)| match entry {
        Trace::Load(count, 1400) => Some((micros(*time), *count)),
        _ => None,
    };
    world.nodes[CLIENT].trace.iter().filter_map(batch).collect()
}

#[test]
fn the_server_counts_what_was_sent_and_no_ping_waits() {
    for pattern in [Pattern::Cbr, Pattern::Poisson { seed: 5 }] {
        let mut world = world(flooding(1000), server_config(), pattern);
        world.drive(10);
        let client = &world.nodes[CLIENT];
        let (totals, account) = (client.totals(), client.totals().account.unwrap());
        assert_eq!(client.end(), Some(End::Complete));
        assert_eq!((totals.pings_sent, totals.pongs_received, totals.late_sends), (200, 200, 0));
        assert_eq!((totals.load_late, totals.load_refused), (0, 0));
        assert_eq!(account.dummies_received, totals.dummies_sent);
        assert_eq!(totals.load_due, totals.dummies_sent);
        let all: u64 = batches(&world).iter().map(|(_, count)| u64::from(*count)).sum();
        assert_eq!(all, totals.dummies_sent);
        if pattern == Pattern::Cbr {
            assert_eq!(all, 2000);
            assert_eq!(account.dummies_span_ns, Some(1_999_000_000));
            assert!(batches(&world).iter().enumerate().all(|(n, batch)| *batch == (200 + 1000 * n as u64, 1)));
        } else {
            // Poisson: 2000 ± 5 standard deviations.
            assert!(all.abs_diff(2000) < 224, "{all}");
        }
        // The FIN waits for what is still on its way.
        let fins = client.sent(Kind::Fin);
        assert_eq!(fins, [(2_000_200 + 200_000, 201)]);
    }
}

#[test]
fn the_server_lowers_the_rate_to_its_own_limit() {
    let in_bits = Rate::Bits(500 * wire_bits(1400));
    for max_rate in [Some(Rate::Packets(500)), Some(in_bits), Some(Rate::Packets(100_000)), None] {
        let mut world = world(flooding(1000), ServerConfig { max_rate, ..server_config() }, Pattern::Cbr);
        world.drive(10);
        let lowered = max_rate.is_some_and(|rate| rate != Rate::Packets(100_000));
        let expected = if lowered { 500 } else { 1000 };
        let client = &world.nodes[CLIENT];
        let Some((_, Event::Connected { settings, .. })) = client.events().first().copied() else { panic!() };
        assert_eq!(settings.load, Some(Load { packets_per_second: expected, ip_len: 1400 }));
        assert_eq!(client.totals().account.unwrap().dummies_received, 2 * expected);
        assert!(world.nodes[SERVER].events().iter().all(|(_, event)| !matches!(event, Event::LoadExceeded { .. })));
    }
    // A limit below a single packet a second allows none.
    let server = ServerConfig { max_rate: Some(Rate::Bits(8)), ..server_config() };
    let mut world = world(flooding(1000), server, Pattern::Cbr);
    world.drive(10);
    let totals = world.nodes[CLIENT].totals();
    assert_eq!((totals.load_due, totals.dummies_sent, totals.pongs_received), (0, 0, 200));
}

#[test]
fn a_client_that_sends_more_than_it_was_granted_is_told_of() {
    let mut world =
        world(flooding(1000), ServerConfig { max_rate: Some(Rate::Packets(10)), ..server_config() }, Pattern::Cbr);
    // Somebody at the client's address sends on regardless.
    let from = std::net::SocketAddrV4::new(*client_address(0).ip(), 9);
    for n in 0..1000 {
        let dummy = Message { kind: Kind::Dummy, sequence: u64::MAX };
        world.inject(at(1000 + n * 1000), from, server_address(), dummy, xdprobe::session::Body::Empty);
    }
    world.drive(10);
    let events = world.nodes[SERVER].events();
    let exceeded = events.iter().find_map(|(_, event)| match event {
        Event::LoadExceeded { from, granted, received, .. } => Some((*from, *granted, *received)),
        _ => None,
    });
    assert_eq!(exceeded, Some((client_address(0), 10, 1020)));
}

#[test]
fn what_finds_no_room_is_counted_and_not_sent() {
    let mut world = world(flooding(1000), server_config(), Pattern::Cbr);
    world.nodes[CLIENT].room = 0;
    world.drive(10);
    let totals = world.nodes[CLIENT].totals();
    assert_eq!((totals.load_due, totals.load_refused, totals.load_late, totals.dummies_sent), (2000, 2000, 0, 0));
    assert_eq!(totals.account.unwrap().dummies_received, 0);
    // Pings, SYN and FIN.
    assert_eq!(totals.transmitted, 202);
}

#[test]
fn a_flood_stops_when_the_server_falls_silent() {
    for timeout in [Some(Duration::from_secs(5)), None] {
        let settings = Settings { count_s: 60, ..flooding(1000) };
        // From 3 s on nothing comes back.
        let mut world = World::new(
            "silent",
            Box::new(|now, datagram| {
                let gone = now > at(3_000_000) && datagram.from == server_address();
                if gone { vec![] } else { vec![now.plus_nanos(100_000)] }
            }),
        );
        world.add_server(at(0), server_config());
        world.add_client(0, at(0), ClientConfig { timeout, ..client_config(settings) });
        world.run_until(at(20_000_000));
        let client = &world.nodes[CLIENT];
        assert_eq!(client.end(), Some(End::FloodUnanswered { after: Duration::from_secs(1) }));
        let last = batches(&world).last().unwrap().0;
        assert!((3_990_000..=4_001_000).contains(&last), "{last}");
        assert!(client.is_over());
        // One FIN, so that a server that is there after all does not wait for its time-out.
        assert_eq!(client.sent(Kind::Fin).len(), 1);
        assert_eq!(world.nodes[SERVER].end(), Some(End::Complete));
        let totals = world.nodes[CLIENT].totals();
        assert_eq!(totals.load_due, totals.dummies_sent + totals.load_late);
    }
}

/// Obeys a client that stands, all its actions; how many dummies and which pings they were.
fn obey(client: &mut Client) -> (u32, Vec<u64>) {
    let (mut dummies, mut pings) = (0, vec![]);
    while let Some(action) = client.poll_action() {
        match action {
            Action::Load { count, .. } => dummies += count,
            Action::Send(outgoing) if outgoing.message.kind == Kind::Ping => pings.push(outgoing.message.sequence),
            _ => {}
        }
    }
    (dummies, pings)
}

#[test]
fn a_ping_that_is_due_goes_first_and_waits_for_no_more_than_one_batch() {
    let settings = Settings { delay_us: 100, ..flooding(1_000_000) };
    let mut client = Client::new(at(0), client_config(settings));
    let granted = settings.extension();
    let syn_ack = Message { kind: Kind::SynAck, sequence: 0 };
    client.handle_datagram(at(0), &Incoming { extension: granted, ..Incoming::plain(server_address(), syn_ack) });
    obey(&mut client);
    // A machine that takes 40 µs for each turn: it is behind all the time.
    let mut now = at(0);
    let (mut sent, mut sequence) = (0, 0);
    for _ in 0..10_000 {
        now = now.plus_nanos(40_000);
        client.handle_deadline(now);
        let (dummies, pings) = obey(&mut client);
        assert!(dummies <= LOAD_BATCH && (dummies == 0 || pings.is_empty()));
        sent += u64::from(dummies);
        if let [ping] = pings[..] {
            sequence += 1;
            assert_eq!(ping, sequence);
        }
        let pong = Message { kind: Kind::Pong, sequence: sequence.max(1) };
        client.handle_datagram(now, &Incoming::plain(server_address(), pong));
    }
    // From 0 to 400 ms, a ping each 100 µs.
    let totals = *client.totals();
    assert_eq!((totals.pings_sent, totals.skipped_slots), (4001, 0));
    assert!(totals.worst_lateness_nanos <= 40_000, "{}", totals.worst_lateness_nanos);
    assert_eq!(sent, totals.dummies_sent);
    // The generator was the limit, and knows it: 32 dummies a turn less the pings' turns is all it can do.
    assert!(totals.load_late > 100_000, "{totals:?}");
    assert_eq!(totals.load_due, totals.dummies_sent + totals.load_late);
}
