//! What the session's state machines do in which moment: lost control messages, the golden sessions' own ways, and each
//! difference from the original, by name and to the microsecond of a virtual clock.

#[path = "support/sim.rs"]
mod sim;

use sim::{
    Datagram, Now, Trace, Wire, World, at, client_address, client_config, hear, losing_first, micros, server_address,
    server_config, steady,
};
use std::net::{Ipv4Addr, SocketAddrV4};
use std::sync::Arc;
use std::time::Duration;
use xdprobe::session::{
    Action, Body, Client, ClientConfig, Direction, End, Event, Machine, Probe, Server, ServerConfig, Settings,
};
use xdprobe::wire::{Kind, Message, Point};

const DIRECTIONS: [Direction; 3] = [Direction::Forward, Direction::Reverse, Direction::Duplex];

/// A second of pings every 100 ms.
fn short(direction: Direction) -> Settings {
    Settings { count_s: 1, delay_us: 100_000, direction, ..Settings::default() }
}

fn probes(delays_us: &[u32]) -> Arc<[Probe]> {
    delays_us.iter().map(|&delay_us| Probe { delay_us, padding: 0 }).collect()
}

/// One server and one client, both from the beginning.
fn pair(wire: Wire, settings: Settings) -> World {
    let mut world = World::new(format!("{settings:?}"), wire);
    world.add_server(at(0), server_config());
    world.add_client(0, at(0), client_config(settings));
    world
}

fn times(sent: &[(u64, u64)]) -> Vec<u64> {
    sent.iter().map(|(time, _)| *time).collect()
}

const SERVER: usize = 0;
const CLIENT: usize = 1;

#[test]
fn lost_control_messages_of_every_kind_are_survived_in_every_direction() {
    for direction in DIRECTIONS {
        for syn in 0..=3 {
            for syn_ack in 0..=3 - syn {
                for fin in 0..=3 {
                    for fin_ack in 0..=3 - fin {
                        for keep in [false, true] {
                            let losses =
                                [(Kind::Syn, syn), (Kind::SynAck, syn_ack), (Kind::Fin, fin), (Kind::FinAck, fin_ack)];
                            let mut world = World::new(format!("{direction:?} {losses:?}"), losing_first(500, &losses));
                            world.add_server(at(0), ServerConfig { keep, ..server_config() });
                            world.add_client(0, at(0), client_config(short(direction)));
                            world.run_until(at(20_000_000));
                            assert_eq!(world.nodes[CLIENT].end(), Some(End::Complete), "{}", world.label);
                            assert_eq!(world.nodes[SERVER].end(), Some(End::Complete), "{}", world.label);
                            assert_eq!(world.nodes[SERVER].is_over(), !keep);
                            let pings = if direction == Direction::Reverse { SERVER } else { CLIENT };
                            assert_eq!(world.nodes[pings].totals().pings_sent, 10, "{}", world.label);
                        }
                    }
                }
            }
        }
    }
}

#[test]
fn a_reverse_client_connects_by_the_first_ping_where_every_syn_ack_is_lost() {
    let mut world = pair(losing_first(500, &[(Kind::SynAck, u32::MAX)]), short(Direction::Reverse));
    world.drive(20);
    assert_eq!(world.nodes[CLIENT].end(), Some(End::Complete));
    assert_eq!(world.nodes[SERVER].end(), Some(End::Complete));
    assert_eq!(world.nodes[CLIENT].rows(Point::T1), (1..=10).collect::<Vec<_>>());
}

#[test]
fn a_reverse_client_that_hears_nothing_before_the_fin_takes_it_for_its_acceptance() {
    let all = u32::MAX;
    let mut world = pair(losing_first(500, &[(Kind::SynAck, all), (Kind::Ping, all)]), short(Direction::Reverse));
    world.drive(20);
    assert_eq!(world.nodes[CLIENT].end(), Some(End::Complete));
    assert_eq!(world.nodes[SERVER].end(), Some(End::Complete));
    assert_eq!(world.nodes[SERVER].totals().pongs_received, 0);
}

#[test]
fn a_client_that_goes_on_asking_does_not_keep_an_unanswered_fin_waiting_for_ever() {
    // Nothing passes from the server to the client, and everything from the client to the server.
    let deaf = Box::new(|now: Now, datagram: &Datagram| match datagram.to == server_address() {
        true => vec![now.plus_nanos(500_000)],
        false => vec![],
    });
    let mut world = pair(deaf, short(Direction::Reverse));
    world.run_until(at(30_000_000));
    assert!(matches!(world.nodes[SERVER].end(), Some(End::FinUnanswered { .. })), "{:?}", world.nodes[SERVER].end());
    assert!(world.nodes[SERVER].is_over());
    assert_eq!(world.nodes[CLIENT].end(), None);
}

#[test]
fn a_forward_session_pings_at_once_and_ends_at_once() {
    let mut world = pair(steady(100), short(Direction::Forward));
    world.drive(5);
    let (server, client) = (&world.nodes[SERVER], &world.nodes[CLIENT]);
    assert_eq!((server.end(), client.end()), (Some(End::Complete), Some(End::Complete)));
    // SYN at 0, its answer at 200 µs: no sleep of 50 ms before the first ping or behind the FIN.
    assert_eq!(times(&client.sent(Kind::Ping)), (0..10).map(|n| 200 + n * 100_000).collect::<Vec<_>>());
    assert_eq!(client.sent(Kind::Fin), [(1_000_200, 11)]);
    assert_eq!(micros(client.ends[0].0), 1_000_400);
    for point in [Point::T0, Point::T3] {
        assert_eq!(client.rows(point), (1..=10).collect::<Vec<_>>());
    }
    for point in [Point::T1, Point::T2] {
        assert_eq!(server.rows(point), (1..=10).collect::<Vec<_>>());
    }
    let totals = client.totals();
    assert_eq!((totals.transmitted, totals.received, totals.first_ip_len), (12, 12, Some(44)));
    assert!(totals.measures_loss && !server.totals().measures_loss);
    assert_eq!(totals.ended.unwrap().duration_since(totals.started.unwrap()), Duration::from_secs(1));
}

#[test]
fn a_syn_is_repeated_after_50_ms_and_then_every_500_ms() {
    let mut world = World::new("syn-retry", steady(100));
    world.add_server(at(1_200_000), server_config());
    world.add_client(0, at(0), client_config(short(Direction::Forward)));
    world.drive(10);
    let client = &world.nodes[CLIENT];
    assert_eq!(times(&client.sent(Kind::Syn)), [0, 50_000, 550_000, 1_050_000, 1_550_000]);
    assert_eq!(client.sent(Kind::Ping)[0], (1_550_200, 1));
    assert_eq!(client.end(), Some(End::Complete));
}

#[test]
fn a_client_without_an_answer_says_so_every_5_s_and_goes_on() {
    let mut world = World::new("server-down", steady(100));
    world.add_client(0, at(0), client_config(short(Direction::Forward)));
    world.run_until(at(12_000_000));
    let waited = |seconds| Event::StillConnecting { waited: Duration::from_secs(seconds) };
    assert_eq!(world.nodes[0].events(), [(5_000_000, waited(5)), (10_000_000, waited(10))]);
    assert_eq!(world.nodes[0].sent(Kind::Syn).len(), 1 + 24);
    assert!(!world.nodes[0].is_over());
}

#[test]
fn a_client_gives_up_after_its_connect_timeout() {
    let mut world = World::new("connect-timeout", steady(100));
    let limit = Duration::from_millis(700);
    let config = ClientConfig { connect_timeout: Some(limit), ..client_config(short(Direction::Forward)) };
    world.add_client(0, at(0), config);
    world.drive(1);
    assert_eq!(world.nodes[0].end(), Some(End::NoAnswer { waited: limit }));
    assert_eq!(micros(world.nodes[0].ends[0].0), 700_000);
    assert!(!End::NoAnswer { waited: limit }.is_success());
}

#[test]
fn a_lost_syn_ack_is_repeated_for_each_syn() {
    let mut world = pair(losing_first(100, &[(Kind::SynAck, 2)]), short(Direction::Forward));
    world.drive(10);
    assert_eq!(world.nodes[SERVER].sent(Kind::SynAck).len(), 3);
    assert_eq!(world.nodes[CLIENT].sent(Kind::Ping)[0], (550_200, 1));
    assert_eq!(world.nodes[SERVER].events().iter().filter(|(_, e)| matches!(e, Event::Connected { .. })).count(), 1);
}

#[test]
fn a_fin_is_repeated_with_the_same_sequence_until_it_is_answered() {
    let mut world = pair(losing_first(100, &[(Kind::Fin, 4)]), short(Direction::Forward));
    world.drive(10);
    let fins = world.nodes[CLIENT].sent(Kind::Fin);
    let begin = 1_000_200;
    let offsets = [0, 50_000, 550_000, 1_050_000, 1_550_000];
    assert_eq!(fins, offsets.map(|offset| (begin + offset, 11)));
    assert_eq!(world.nodes[CLIENT].end(), Some(End::Complete));
}

#[test]
fn a_client_whose_fin_is_never_answered_ends_after_its_timeout_and_not_with_success() {
    let timeout = Duration::from_secs(2);
    let mut world = World::new("fin-ack-lost", losing_first(100, &[(Kind::FinAck, u32::MAX)]));
    world.add_server(at(0), server_config());
    let config = ClientConfig { timeout: Some(timeout), ..client_config(short(Direction::Forward)) };
    world.add_client(0, at(0), config);
    world.drive(10);
    let end = world.nodes[CLIENT].end().unwrap();
    assert_eq!(end, End::FinUnanswered { waited: timeout });
    assert!(!end.is_success());
    assert_eq!(world.nodes[CLIENT].sent(Kind::Fin).len(), 5);
    // The server is done with the first FIN, and says so but once.
    assert_eq!(world.nodes[SERVER].end(), Some(End::Complete));
    assert_eq!(world.nodes[SERVER].sent(Kind::FinAck).len(), 4);
}

#[test]
fn a_server_stays_1200_ms_to_repeat_its_fin_ack_with_its_statistics_already_out() {
    let mut world = pair(losing_first(100, &[(Kind::FinAck, 3)]), short(Direction::Forward));
    world.run_until(at(3_000_000));
    let server = &world.nodes[SERVER];
    assert_eq!(times(&server.sent(Kind::FinAck)), [1_000_300, 1_050_300, 1_550_300, 2_050_300]);
    assert_eq!(micros(server.ends[0].0), 1_000_300);
    assert!(server.is_over());
    assert_eq!(micros(world.now), 2_200_300);
    assert_eq!(world.nodes[CLIENT].end(), Some(End::Complete));
}

#[test]
fn both_sides_give_up_where_nothing_more_is_received() {
    // As in the golden session `timeout`, but the client vanishes by a blackout.
    let dark: Wire = Box::new(|now, _| if now > at(1_150_000) { vec![] } else { vec![now.plus_nanos(100_000)] });
    let mut world = World::new("timeout", dark);
    let half = Duration::from_millis(500);
    world.add_server(at(0), ServerConfig { timeout: Some(half), ..server_config() });
    let settings = Settings { count_s: 60, ..short(Direction::Forward) };
    world.add_client(0, at(0), client_config(settings));
    world.drive(10);
    assert_eq!(world.nodes[SERVER].end(), Some(End::TimedOut { after: half }));
    // The last ping before the dark leaves at 1.1002 s.
    assert_eq!(micros(world.nodes[SERVER].ends[0].0), 1_100_300 + 500_000);
    assert_eq!(world.nodes[CLIENT].end(), Some(End::TimedOut { after: Duration::from_secs(5) }));
    assert_eq!(micros(world.nodes[CLIENT].ends[0].0), 1_100_400 + 5_000_000);
    assert!(world.nodes[CLIENT].sent(Kind::Fin).is_empty());
}

#[test]
fn a_client_that_asks_for_no_pongs_times_out_as_nanoprobes_does() {
    let mut world = World::new("timeout-pong-every-0", steady(100));
    let [ours, theirs] = [300, 500].map(Duration::from_millis);
    world.add_server(at(0), ServerConfig { timeout: Some(theirs), ..server_config() });
    let settings = Settings { count_s: 2, delay_us: 10_000, pong_every: 0, ..Settings::default() };
    world.add_client(0, at(0), ClientConfig { timeout: Some(ours), ..client_config(settings) });
    world.drive(10);
    let (server, client) = (&world.nodes[SERVER], &world.nodes[CLIENT]);
    assert_eq!(client.end(), Some(End::TimedOut { after: ours }));
    assert_eq!(micros(client.ends[0].0), 300_200);
    assert_eq!(server.end(), Some(End::TimedOut { after: theirs }));
    assert_eq!((client.totals().pongs_expected, client.totals().pongs_received), (0, 0));
    assert_eq!(server.rows(Point::T1).len(), client.rows(Point::T0).len());
}

#[test]
fn a_session_without_a_timeout_waits_through_any_silence() {
    let gap: Wire = Box::new(|now, _| match micros(now) {
        1_500_000..30_000_000 => vec![],
        _ => vec![now.plus_nanos(100_000)],
    });
    let mut world = World::new("no timeout", gap);
    world.add_server(at(0), ServerConfig { timeout: None, ..server_config() });
    let settings = Settings { count_s: 40, ..short(Direction::Forward) };
    world.add_client(0, at(0), ClientConfig { timeout: None, ..client_config(settings) });
    world.drive(60);
    assert_eq!(world.nodes[CLIENT].end(), Some(End::Complete));
    assert_eq!(world.nodes[SERVER].end(), Some(End::Complete));
}

#[test]
fn duplex_has_no_pong_and_no_fin_and_listens_for_another_second() {
    let mut world = pair(steady(100), short(Direction::Duplex));
    world.drive(10);
    let (server, client) = (&world.nodes[SERVER], &world.nodes[CLIENT]);
    // The client waits a second, the server for the client's first ping.
    assert_eq!(client.sent(Kind::Ping)[0], (1_000_200, 1));
    assert_eq!(server.sent(Kind::Ping)[0], (1_000_300, 1));
    for node in [client, server] {
        assert_eq!(node.end(), Some(End::Complete));
        for kind in [Kind::Pong, Kind::Fin, Kind::FinAck] {
            assert!(node.sent(kind).is_empty());
        }
    }
    assert_eq!(micros(client.ends[0].0), 1_000_200 + 2_000_000);
    assert_eq!(micros(server.ends[0].0), 1_000_300 + 2_000_000);
    let all: Vec<u64> = (1..=10).collect();
    assert_eq!([client.rows(Point::T0cs), client.rows(Point::T1sc)], [all.clone(), all.clone()]);
    assert_eq!([server.rows(Point::T0sc), server.rows(Point::T1cs)], [all.clone(), all]);
    // The statistics' time is that of pinging, without the second behind it.
    let totals = client.totals();
    assert_eq!(totals.ended.unwrap().duration_since(totals.started.unwrap()), Duration::from_secs(1));
}

#[test]
fn a_stopped_duplex_side_listens_for_another_second_and_ends_as_stopped() {
    let mut world = pair(steady(100), short(Direction::Duplex));
    world.nodes[CLIENT].stops = vec![at(1_450_000)];
    world.drive(20);
    assert_eq!(world.nodes[CLIENT].end(), Some(End::Stopped));
    assert_eq!(micros(world.nodes[CLIENT].ends[0].0), 2_450_000);
    assert_eq!(world.nodes[CLIENT].rows(Point::T1sc).len(), 10);
}

#[test]
fn a_reverse_server_waits_a_second_before_it_pings_and_sends_the_fin_itself() {
    let mut world = pair(steady(100), short(Direction::Reverse));
    world.drive(10);
    let (server, client) = (&world.nodes[SERVER], &world.nodes[CLIENT]);
    assert_eq!(server.sent(Kind::Ping)[0], (1_000_100, 1));
    assert_eq!(server.sent(Kind::Fin), [(2_000_100, 11)]);
    assert_eq!(client.sent(Kind::FinAck), [(2_000_200, 11)]);
    assert_eq!(client.events()[1].1, Event::Disconnected);
    assert!(!server.events().iter().any(|(_, event)| *event == Event::Disconnected));
    assert!(server.totals().measures_loss && !client.totals().measures_loss);
}

#[test]
fn a_reverse_client_with_a_timeout_below_the_turnaround_still_gets_its_session() {
    let mut world = World::new("reverse with a short time-out", steady(100));
    world.add_server(at(0), server_config());
    let timeout = Some(Duration::from_millis(200));
    world.add_client(0, at(0), ClientConfig { timeout, ..client_config(short(Direction::Reverse)) });
    world.drive(10);
    assert_eq!(world.nodes[CLIENT].end(), Some(End::Complete));
}

#[test]
fn the_servers_schedule_overrides_what_a_reverse_client_asks_for() {
    let mut world = World::new("reverse-server-schedule", steady(100));
    let schedule = Some(probes(&[700_000, 0, 900_000, 30_000]));
    world.add_server(at(0), ServerConfig { schedule, ..server_config() });
    world.add_client(0, at(0), client_config(short(Direction::Reverse)));
    world.drive(10);
    let server = &world.nodes[SERVER];
    assert_eq!(times(&server.sent(Kind::Ping)), [1_000_100, 1_700_100, 1_700_100, 2_600_100]);
    // The last delay is waited out.
    assert_eq!(server.sent(Kind::Fin), [(2_630_100, 5)]);
    assert_eq!(server.end(), Some(End::Complete));
}

#[test]
fn a_clients_schedule_replaces_count_delay_and_size_but_is_not_in_the_syn() {
    let mut world = World::new("schedule", steady(100));
    world.add_server(at(0), server_config());
    let schedule: Arc<[Probe]> = [Probe { delay_us: 10, padding: 5 }, Probe { delay_us: 20, padding: 9 }].into();
    let config = ClientConfig { schedule: Some(schedule), ..client_config(Settings::default()) };
    world.add_client(0, at(0), config);
    world.drive(10);
    let client = &world.nodes[CLIENT];
    assert_eq!(client.bodies(Kind::Syn), [Body::Settings(Settings::default().to_raw(), None)]);
    assert_eq!(client.bodies(Kind::Ping), [Body::Padding(5), Body::Padding(9)]);
    assert_eq!(client.sent(Kind::Fin), [(230, 3)]);
}

#[test]
fn a_stopped_client_sends_its_fin_and_ends_with_success() {
    let mut world = pair(steady(100), Settings { count_s: 0, ..short(Direction::Forward) });
    world.nodes[CLIENT].stops = vec![at(950_000)];
    world.drive(10);
    let client = &world.nodes[CLIENT];
    assert_eq!(client.sent(Kind::Fin), [(950_000, 11)]);
    assert_eq!(client.end(), Some(End::Stopped));
    assert!(End::Stopped.is_success());
    assert_eq!(world.nodes[SERVER].end(), Some(End::Complete));
}

#[test]
fn a_second_stop_ends_a_waiting_fin_at_once() {
    let mut world =
        pair(losing_first(100, &[(Kind::FinAck, u32::MAX)]), Settings { count_s: 0, ..short(Direction::Forward) });
    world.nodes[CLIENT].stops = vec![at(500_000), at(900_000)];
    world.drive(10);
    assert_eq!(world.nodes[CLIENT].end(), Some(End::Stopped));
    assert_eq!(micros(world.nodes[CLIENT].ends[0].0), 900_000);
}

#[test]
fn a_client_stopped_before_its_session_has_failed() {
    let mut world = World::new("stopped connecting", steady(100));
    world.add_client(0, at(0), client_config(short(Direction::Forward)));
    world.nodes[0].stops = vec![at(300_000)];
    world.drive(1);
    assert_eq!(world.nodes[0].end(), Some(End::StoppedConnecting));
    assert!(!End::StoppedConnecting.is_success());
}

#[test]
fn a_stopped_echoing_side_says_so_with_a_fin() {
    for direction in [Direction::Forward, Direction::Reverse] {
        let (pinging, echoing) = if direction == Direction::Forward { (CLIENT, SERVER) } else { (SERVER, CLIENT) };
        let mut world = pair(steady(100), Settings { count_s: 60, ..short(direction) });
        world.nodes[echoing].stops = vec![at(1_550_000)];
        world.drive(5);
        let last = world.nodes[echoing].rows(Point::T1).last().copied().unwrap();
        assert_eq!(world.nodes[echoing].sent(Kind::Fin), [(1_550_000, last + 1)]);
        assert_eq!(world.nodes[echoing].end(), Some(End::Stopped));
        assert_eq!(world.nodes[pinging].end(), Some(End::PeerStopped));
        assert!(!End::PeerStopped.is_success());
        assert!(sim::micros(world.now) < 1_560_000);
    }
}

#[test]
fn a_stopped_echoing_side_does_not_wait_for_a_deaf_peer() {
    let mut world =
        pair(losing_first(100, &[(Kind::Fin, u32::MAX)]), Settings { count_s: 60, ..short(Direction::Forward) });
    world.nodes[SERVER].stops = vec![at(550_000)];
    world.run_until(at(760_000));
    assert!(world.nodes[SERVER].is_over());
    assert_eq!(times(&world.nodes[SERVER].sent(Kind::Fin)), [550_000, 600_000]);
}

#[test]
fn a_second_client_is_refused_and_the_first_ones_session_is_undisturbed() {
    for direction in DIRECTIONS {
        let mut alone = pair(steady(100), short(direction));
        alone.drive(10);
        let mut world = pair(steady(100), short(direction));
        let second = world.add_client(1, at(800_000), client_config(short(Direction::Forward)));
        world.drive(10);
        assert_eq!(world.nodes[second].end(), Some(End::Rejected));
        assert_eq!(micros(world.nodes[second].ends[0].0), 800_200);
        assert_eq!(world.nodes[second].sent(Kind::Syn).len(), 1);
        assert_eq!(world.nodes[CLIENT].trace, alone.nodes[CLIENT].trace);
        assert!(world.nodes[SERVER].events().contains(&(800_100, Event::Refused { from: client_address(1) })));
        let totals = world.nodes[SERVER].totals();
        assert_eq!((totals.foreign, totals.unexpected), (1, 0));
        let own = |world: &World| {
            let own = |(_, entry): &&(Now, Trace)| match entry {
                Trace::Sent(to, ..) => *to == client_address(0),
                _ => false,
            };
            world.nodes[SERVER].trace.iter().filter(own).copied().collect::<Vec<_>>()
        };
        assert_eq!(own(&world), own(&alone));
    }
}

#[test]
fn what_is_no_syn_neither_ends_nor_blocks_a_waiting_server() {
    let mut world = World::new("before the SYN", steady(100));
    world.add_server(at(0), server_config());
    let from = client_address(0);
    for (n, kind) in (0..=9).filter_map(Kind::from_wire).enumerate() {
        // The SYN among them is one without settings.
        world.inject(at(n as u64), from, server_address(), Message { kind, sequence: 5 }, Body::Empty);
    }
    world.add_client(0, at(10_000), client_config(short(Direction::Forward)));
    world.drive(10);
    let ignored = |event: &(u64, Event)| matches!(event.1, Event::Ignored { .. });
    assert_eq!(world.nodes[SERVER].events().iter().filter(|event| ignored(event)).count(), 8);
    assert_eq!(world.nodes[CLIENT].end(), Some(End::Complete));
    assert_eq!(world.nodes[SERVER].end(), Some(End::Complete));
    // What came before the session is not counted in it.
    assert_eq!(world.nodes[SERVER].totals().received, 12);
}

#[test]
fn foreign_datagrams_change_nothing_but_their_count() {
    for direction in DIRECTIONS {
        let mut alone = pair(steady(100), short(direction));
        alone.drive(10);
        let mut world = pair(steady(100), short(direction));
        let foreigner = SocketAddrV4::new(Ipv4Addr::new(10, 66, 9, 9), 9);
        for to in [server_address(), client_address(0)] {
            for (n, kind) in (2..=9).filter_map(Kind::from_wire).enumerate() {
                world.inject(at(500_000 + n as u64), foreigner, to, Message { kind, sequence: 1 }, Body::Empty);
            }
        }
        world.drive(10);
        for node in [SERVER, CLIENT] {
            let foreign = world.nodes[node].totals().foreign;
            assert_eq!(foreign, 7);
            let sends = |world: &World| {
                world.nodes[node]
                    .trace
                    .iter()
                    .filter(|(_, e)| matches!(e, Trace::Sent(..)))
                    .copied()
                    .collect::<Vec<_>>()
            };
            assert_eq!(sends(&world), sends(&alone));
            assert_eq!(world.nodes[node].totals().received, alone.nodes[node].totals().received + foreign);
        }
    }
}

#[test]
fn a_keeping_server_remembers_a_client_for_5_s_even_while_it_serves_another() {
    let all_fin_acks_to_the_first: Wire = Box::new(|now, datagram| {
        let lost = datagram.to == client_address(0) && datagram.message.kind == Kind::FinAck && now < at(5_500_000);
        if lost { vec![] } else { vec![now.plus_nanos(100_000)] }
    });
    let mut world = World::new("keep", all_fin_acks_to_the_first);
    world.add_server(at(0), ServerConfig { keep: true, ..server_config() });
    let patient = ClientConfig { timeout: Some(Duration::from_secs(9)), ..client_config(short(Direction::Forward)) };
    world.add_client(0, at(0), patient);
    let other = Settings { count_s: 10, ..short(Direction::Forward) };
    let second = world.add_client(1, at(1_100_000), client_config(other));
    world.nodes[SERVER].stops = vec![at(15_000_000)];
    world.drive(16);
    assert_eq!(world.nodes[CLIENT].end(), Some(End::Complete));
    // The answer that got through is one given while the second client was served.
    assert_eq!(micros(world.nodes[CLIENT].ends[0].0), 5_550_400);
    assert_eq!(world.nodes[second].end(), Some(End::Complete));
    assert!(!world.nodes[SERVER].events().iter().any(|(_, event)| matches!(event, Event::Ignored { .. })));
}

#[test]
fn a_keeping_server_forgets_a_client_after_5_s() {
    let mut server = Server::new(ServerConfig { keep: true, ..server_config() });
    let (peer, syn, fin) = (client_address(0), message(Kind::Syn, 0), message(Kind::Fin, 1));
    let raw = Some(Settings::default().to_raw());
    hear(&mut server, at(0), peer, syn, raw);
    hear(&mut server, at(10), peer, fin, None);
    drain(&mut server);
    hear(&mut server, at(5_000_009), peer, fin, None);
    assert_eq!(drain(&mut server).len(), 1);
    // A SYN of a client that is done is a late copy: no session.
    hear(&mut server, at(5_000_009), peer, syn, raw);
    assert_eq!(drain(&mut server), []);
    hear(&mut server, at(5_000_010), peer, fin, None);
    let ignored = Event::Ignored { from: peer, kind: Kind::Fin };
    assert_eq!(drain(&mut server), [Action::Tell(ignored)]);
    hear(&mut server, at(5_000_011), peer, syn, raw);
    assert_eq!(server.peer(), Some(peer));
}

#[test]
fn a_late_copy_of_a_fin_ends_no_later_session_that_has_come_further() {
    let mut server = Server::new(ServerConfig { keep: true, ..server_config() });
    let peer = client_address(0);
    let raw = Some(short(Direction::Forward).to_raw());
    let ping = |server: &mut Server, time, sequence| hear(server, at(time), peer, message(Kind::Ping, sequence), None);
    let fin = |server: &mut Server, time, sequence| {
        drain(server);
        hear(server, at(time), peer, message(Kind::Fin, sequence), None);
        drain(server).contains(&Action::Tell(Event::Finished(End::Complete)))
    };
    hear(&mut server, at(0), peer, message(Kind::Syn, 1), raw);
    for sequence in 1..=10 {
        ping(&mut server, sequence, sequence);
    }
    assert!(fin(&mut server, 20, 11));
    hear(&mut server, at(60), peer, message(Kind::Syn, 2), raw);
    for sequence in 1..=50 {
        ping(&mut server, 60 + sequence, sequence);
    }
    assert!(!fin(&mut server, 115, 11));
    assert_eq!(ping(&mut server, 116, 51), Some(Point::T1));
    assert_eq!(server.totals().unexpected, 1);
    // A client that ends with a sequence of its own choice is believed.
    assert!(fin(&mut server, 120, 7));
    // Nor does a session that is as long as one before keep its own FIN from ending it.
    hear(&mut server, at(160), peer, message(Kind::Syn, 3), raw);
    for sequence in 1..=10 {
        ping(&mut server, 160 + sequence, sequence);
    }
    assert!(fin(&mut server, 180, 11));
}

#[test]
fn a_keeping_server_does_not_answer_the_fin_of_a_session_that_timed_out() {
    let mut server = Server::new(ServerConfig { keep: true, ..server_config() });
    let peer = client_address(0);
    hear(&mut server, at(0), peer, message(Kind::Syn, 0), Some(Settings::default().to_raw()));
    server.handle_deadline(at(5_000_000));
    let timed_out = Event::Finished(End::TimedOut { after: Duration::from_secs(5) });
    assert_eq!(drain(&mut server).last(), Some(&Action::Tell(timed_out)));
    hear(&mut server, at(5_000_001), peer, message(Kind::Fin, 1), None);
    assert_eq!(drain(&mut server), []);
    assert_eq!(server.peer(), None);
}

#[test]
fn a_keeping_server_that_cannot_send_goes_on_with_the_next_client_unless_it_is_stopped() {
    let begin = |server: &mut Server, client| {
        hear(server, at(0), client_address(client), message(Kind::Syn, 0), Some(Settings::default().to_raw()));
        drain(server);
        assert_eq!(server.peer(), Some(client_address(client)));
    };
    let mut server = Server::new(ServerConfig { keep: true, ..server_config() });
    assert!(server.break_session(at(0)), "nobody's session");
    begin(&mut server, 0);
    assert!(server.break_session(at(10)));
    assert_eq!((server.peer(), server.deadline(), drain(&mut server)), (None, None, vec![]));
    // What its client still sends is no affair of the next one's.
    hear(&mut server, at(11), client_address(0), message(Kind::Ping, 1), None);
    assert_eq!(drain(&mut server), []);
    begin(&mut server, 1);
    server.handle_stop(at(20));
    assert!(!server.break_session(at(20)));
    let mut once = Server::new(server_config());
    begin(&mut once, 0);
    assert!(!once.break_session(at(10)));
    assert_eq!(once.peer(), Some(client_address(0)));
}

#[test]
fn no_ping_leaves_in_the_moment_in_which_its_session_times_out() {
    for keep in [false, true] {
        let mut server = Server::new(ServerConfig { keep, ..server_config() });
        let settings =
            Settings { count_s: 60, delay_us: 1_000_000, direction: Direction::Reverse, ..Settings::default() };
        hear(&mut server, at(0), client_address(0), message(Kind::Syn, 0), Some(settings.to_raw()));
        drain(&mut server);
        // The first ping a second after the SYN, another one each second; five without an answer.
        server.handle_deadline(at(1_000_000));
        for second in 1..6 {
            assert_eq!(server.deadline(), Some(at(second * 1_000_000)));
            server.handle_deadline(at(second * 1_000_000));
            let [Action::Send(ping)] = drain(&mut server)[..] else { panic!("a ping each second") };
            assert_eq!(ping.point, Some(Point::T0));
        }
        server.handle_deadline(at(6_000_000));
        let timed_out = Action::Tell(Event::Finished(End::TimedOut { after: Duration::from_secs(5) }));
        // Whatever it wants to be sent does not leave.
        while let Some(action) = server.poll_action() {
            assert_eq!(action, timed_out, "nobody would wait for an answer");
            server.handle_unsent(&action);
        }
        let totals = server.totals();
        assert_eq!([totals.pings_sent, totals.pongs_expected, totals.planned_pings], [5; 3]);
        assert_eq!((totals.transmitted, totals.ended), (6, Some(at(6_000_000))));
    }
}

#[test]
fn a_lone_server_waits_until_it_is_stopped() {
    for keep in [false, true] {
        let mut world = World::new("lone server", steady(100));
        world.add_server(at(0), ServerConfig { keep, ..server_config() });
        world.run_until(at(100_000_000));
        assert!(!world.nodes[SERVER].is_over());
        world.nodes[SERVER].stops = vec![at(100_000_001)];
        world.drive(101);
        assert_eq!(world.nodes[SERVER].end(), None);
    }
}

#[test]
fn dummies_follow_every_ping_and_pong_and_keep_the_session_alive() {
    let mut world = World::new("dummy", steady(100));
    world.add_server(at(0), ServerConfig { dummies: 3, ..server_config() });
    world.add_client(0, at(0), ClientConfig { dummies: 2, ..client_config(short(Direction::Forward)) });
    world.drive(10);
    let (server, client) = (world.nodes[SERVER].totals(), world.nodes[CLIENT].totals());
    assert_eq!((client.dummies_sent, server.dummies_sent), (20, 30));
    assert_eq!((client.transmitted, client.received), (12 + 20, 12 + 30));
    // From another port, and yet nobody foreign.
    assert_eq!((client.foreign, server.foreign, client.unexpected, server.unexpected), (0, 0, 0, 0));
}

#[test]
fn a_pong_that_was_not_asked_for_makes_no_row() {
    let settings = Settings { pong_every: 3, ..short(Direction::Forward) };
    let mut client = Client::new(at(0), client_config(settings));
    hear(&mut client, at(1), server_address(), message(Kind::SynAck, 0), None);
    for n in 0..4 {
        client.handle_deadline(at(1 + n * 100_000));
    }
    let mut pong = |sequence| hear(&mut client, at(350_000), server_address(), message(Kind::Pong, sequence), None);
    assert_eq!([0, 1, 2, 3, 4, 6].map(&mut pong), [None, None, None, Some(Point::T3), None, None]);
    assert_eq!((client.totals().pongs_received, client.totals().unexpected), (1, 5));
}

#[test]
fn doubled_pings_are_ponged_and_logged_as_they_come() {
    let twice: Wire = Box::new(|now, datagram| match datagram.message.kind {
        Kind::Ping => vec![now.plus_nanos(100_000), now.plus_nanos(150_000)],
        _ => vec![now.plus_nanos(100_000)],
    });
    let mut world = pair(twice, short(Direction::Forward));
    world.drive(10);
    assert_eq!(world.nodes[SERVER].totals().pongs_sent, 20);
    assert_eq!(world.nodes[CLIENT].rows(Point::T3).len(), 20);
    assert_eq!(world.nodes[CLIENT].totals().pongs_expected, 10);
}

#[test]
fn a_ping_without_a_sequence_is_no_ping() {
    let mut server = Server::new(server_config());
    hear(&mut server, at(0), client_address(0), message(Kind::Syn, 0), Some(Settings::default().to_raw()));
    drain(&mut server);
    assert_eq!(hear(&mut server, at(1), client_address(0), message(Kind::Ping, 0), None), None);
    assert_eq!(drain(&mut server), []);
}

#[test]
fn a_server_stopped_after_the_highest_sequence_there_is_does_not_overflow() {
    let mut server = Server::new(server_config());
    hear(&mut server, at(0), client_address(0), message(Kind::Syn, 0), Some(Settings::default().to_raw()));
    hear(&mut server, at(1), client_address(0), message(Kind::Ping, u64::MAX), None);
    server.handle_stop(at(2));
    let fin = |action: &Action| matches!(action, Action::Send(sent) if sent.message == message(Kind::Fin, 0));
    assert!(drain(&mut server).iter().any(fin));
}

#[test]
fn a_client_whose_packets_would_not_fit_is_refused_and_the_server_waits_on() {
    let limited = ServerConfig { max_ip_len: Some(1500), ..server_config() };
    let ask = |direction, ping_padding, pong_padding, schedule: bool| {
        let config = ServerConfig { schedule: schedule.then(|| probes(&[1])), ..limited.clone() };
        let mut server = Server::new(config);
        let raw = Settings { count_s: 1, ping_padding, pong_padding, direction, ..Settings::default() }.to_raw();
        hear(&mut server, at(0), client_address(0), message(Kind::Syn, 0), Some(raw));
        let refused = |action: Action| match action {
            Action::Tell(Event::RefusedSize { ip_len, .. }) => Some(ip_len),
            _ => None,
        };
        let refused = drain(&mut server).into_iter().find_map(refused);
        assert_eq!(server.peer().is_none(), refused.is_some());
        refused
    };
    assert_eq!(ask(Direction::Forward, 1456, 1456, false), None);
    assert_eq!(ask(Direction::Forward, 1457, 0, false), Some(1501));
    assert_eq!(ask(Direction::Reverse, 0, 1457, false), Some(1501));
    // More than there is: no overflow.
    assert_eq!(ask(Direction::Forward, 65_535, 0, false), Some(65_535));
    // In reverse the server's schedule replaces the pings asked for; in duplex only its own.
    assert_eq!(ask(Direction::Reverse, 2000, 0, true), None);
    assert_eq!(ask(Direction::Duplex, 2000, 0, true), Some(2044));
    // Nobody pongs in duplex.
    assert_eq!(ask(Direction::Duplex, 0, 2000, false), None);
}

#[test]
fn no_session_began_no_time_began() {
    // A FIN without a ping before it: nanoprobe's server prints the host's uptime there.
    let mut world = pair(steady(100), short(Direction::Reverse));
    world.nodes[SERVER].stops = vec![at(500_000)];
    world.drive(5);
    for node in &world.nodes {
        assert_eq!(node.totals().started, None);
        assert_eq!(node.totals().ended, Some(node.ends[0].0).filter(|_| node.name == "client").or(Some(at(500_000))));
    }
    assert_eq!(world.nodes[CLIENT].end(), Some(End::Complete));
    assert_eq!(world.nodes[SERVER].end(), Some(End::Stopped));
}

#[test]
fn a_fin_ack_to_another_fin_is_no_answer() {
    let mut client = stopped_client();
    hear(&mut client, at(150), server_address(), message(Kind::Pong, 1), None);
    for (sequence, over) in [(1, false), (3, false), (2, true)] {
        hear(&mut client, at(200), server_address(), message(Kind::FinAck, sequence), None);
        assert_eq!(client.is_over(), over);
    }
    assert_eq!(client.totals().unexpected, 2);
}

#[test]
fn pongs_that_still_come_keep_a_fin_waiting() {
    let mut client = stopped_client();
    let end = |client: &mut Client| {
        let told = |action| match action {
            Action::Tell(Event::Finished(end)) => Some(end),
            _ => None,
        };
        drain(client).into_iter().find_map(told)
    };
    // A long queue on the way, and the FIN at its end.
    hear(&mut client, at(4_000_000), server_address(), message(Kind::Pong, 1), None);
    client.handle_deadline(at(8_999_999));
    assert_eq!(end(&mut client), None);
    client.handle_deadline(at(9_000_000));
    assert!(matches!(end(&mut client), Some(End::FinUnanswered { .. })));
}

#[test]
fn pongs_that_the_fin_ack_overtook_are_waited_for() {
    let end = |client: &mut Client| {
        drain(client).into_iter().find_map(|action| match action {
            Action::Tell(Event::Finished(end)) => Some(end),
            _ => None,
        })
    };
    let mut client = stopped_client();
    hear(&mut client, at(200), server_address(), message(Kind::FinAck, 2), None);
    assert_eq!(end(&mut client), None);
    let row = hear(&mut client, at(300), server_address(), message(Kind::Pong, 1), None);
    assert_eq!(row, Some(Point::T3));
    client.handle_deadline(client.deadline().unwrap());
    assert_eq!(end(&mut client), Some(End::Stopped));
    assert!(client.is_over());
    // One that is lost is not waited for any longer than 50 ms.
    let mut client = stopped_client();
    hear(&mut client, at(200), server_address(), message(Kind::FinAck, 2), None);
    assert_eq!(client.deadline(), Some(at(50_200)));
    client.handle_deadline(at(50_200));
    assert_eq!(end(&mut client), Some(End::Stopped));
}

#[test]
fn pongs_that_a_fin_overtook_are_waited_for_too() {
    for stopped in [false, true] {
        let mut client = Client::new(at(0), client_config(short(Direction::Forward)));
        hear(&mut client, at(1), server_address(), message(Kind::SynAck, 0), None);
        client.handle_deadline(at(1));
        if stopped {
            client.handle_stop(at(100));
        }
        // The server's user stopped it, just after it had answered.
        hear(&mut client, at(200), server_address(), message(Kind::Fin, 2), None);
        if stopped {
            // And then the answer to its own.
            hear(&mut client, at(210), server_address(), message(Kind::FinAck, 2), None);
            assert_eq!(client.totals().unexpected, 0);
        }
        assert_eq!(client.deadline(), Some(at(50_200)));
        assert_eq!(hear(&mut client, at(300), server_address(), message(Kind::Pong, 1), None), Some(Point::T3));
        client.handle_deadline(at(300));
        let (end, ended) = if stopped { (End::Stopped, 100) } else { (End::PeerStopped, 200) };
        assert_eq!(drain(&mut client).last(), Some(&Action::Tell(Event::Finished(end))));
        assert_eq!(client.totals().ended, Some(at(ended)), "when nothing more was sent");
        assert!(client.is_over());
    }
}

#[test]
fn a_pong_that_came_twice_stands_for_none_that_the_fin_ack_overtook() {
    for again_before_fin_ack in [true, false] {
        let mut client = Client::new(at(0), client_config(short(Direction::Forward)));
        hear(&mut client, at(1), server_address(), message(Kind::SynAck, 0), None);
        client.handle_deadline(at(1));
        client.handle_deadline(at(100_001));
        client.handle_stop(at(150_000));
        let pong = |client: &mut Client, time, sequence| {
            hear(client, at(time), server_address(), message(Kind::Pong, sequence), None)
        };
        let repeat = |client: &mut Client, time| {
            assert_eq!(pong(client, time, 1), Some(Point::T3));
            client.handle_repeated_pong();
        };
        assert_eq!(pong(&mut client, 150_010, 1), Some(Point::T3));
        if again_before_fin_ack {
            repeat(&mut client, 150_020);
        }
        hear(&mut client, at(150_030), server_address(), message(Kind::FinAck, 3), None);
        if !again_before_fin_ack {
            repeat(&mut client, 150_040);
        }
        assert_eq!(client.deadline(), Some(at(200_030)));
        client.handle_deadline(at(150_050));
        assert_eq!(pong(&mut client, 150_060, 2), Some(Point::T3));
        assert_eq!(client.deadline(), Some(at(150_060)));
        if !again_before_fin_ack {
            // One more copy, with the last one: everything has come all the same.
            repeat(&mut client, 150_060);
            assert_eq!(client.deadline(), Some(at(150_060)));
        }
        client.handle_deadline(at(150_060));
        assert!(client.is_over());
        let totals = client.totals();
        let received = if again_before_fin_ack { 3 } else { 4 };
        assert_eq!((totals.pongs_expected, totals.pongs_received, totals.unexpected), (2, received, 0));
    }
}

/// A client stopped at 100 µs, after one ping: its FIN has the sequence 2.
fn stopped_client() -> Client {
    let mut client = Client::new(at(0), client_config(short(Direction::Forward)));
    hear(&mut client, at(1), server_address(), message(Kind::SynAck, 0), None);
    client.handle_deadline(at(1));
    client.handle_stop(at(100));
    drain(&mut client);
    client
}

#[test]
fn a_keeping_server_stopped_in_a_session_serves_no_other() {
    for direction in DIRECTIONS {
        let mut world = World::new(format!("{direction:?}"), steady(100));
        world.add_server(at(0), ServerConfig { keep: true, ..server_config() });
        world.add_client(0, at(0), client_config(short(direction)));
        world.nodes[SERVER].stops = vec![at(500_000)];
        world.run_until(at(9_000_000));
        assert!(world.nodes[SERVER].is_over());
        assert_eq!(world.nodes[SERVER].end(), Some(End::Stopped));
    }
}

#[test]
fn a_turnaround_that_is_noticed_late_makes_no_late_pings() {
    let mut world = pair(steady(100), short(Direction::Reverse));
    world.nodes[SERVER].late = (5_000, 5_000);
    world.drive(10);
    let totals = world.nodes[SERVER].totals();
    assert_eq!((totals.pings_sent, totals.late_sends, totals.worst_lateness_nanos), (10, 0, 5_000));
}

fn message(kind: Kind, sequence: u64) -> Message {
    Message { kind, sequence }
}

fn drain(machine: &mut impl Machine) -> Vec<Action> {
    std::iter::from_fn(|| machine.poll_action()).collect()
}
