//! What a client may ask for besides PTP headers: an account, a path to be served on, a flood of dummies.

#[path = "support/sim.rs"]
mod sim;

use sim::{World, at, client_address, client_config, hear, losing_first, server_address, server_config, steady};
use xdprobe::session::{Action, Body, Client, End, Event, Incoming, Machine, Server, ServerConfig, Settings};
use xdprobe::wire::{Account, Extension, Kind, Load, Message, ServePath};

const SERVER: usize = 0;
const CLIENT: usize = 1;

fn short() -> Settings {
    Settings { count_s: 1, delay_us: 100_000, ..Settings::default() }
}

#[test]
fn an_account_comes_with_the_fin_ack_and_says_the_same_again() {
    for keep in [false, true] {
        let settings = Settings { account: true, ..short() };
        // The client hears the third answer only.
        let mut world = World::new("account", losing_first(100, &[(Kind::FinAck, 2)]));
        world.add_server(at(0), ServerConfig { keep, ..server_config() });
        let mut config = client_config(settings);
        config.dummies = 3;
        world.add_client(0, at(0), config);
        world.run_until(at(10_000_000));
        let client = &world.nodes[CLIENT];
        assert_eq!(client.end(), Some(End::Complete));
        let expected = Account {
            pings_received: 10,
            pongs_sent: 10,
            dummies_received: 30,
            dropped: None,
            dummies_span_ns: Some(900_000_000),
            cpu_ns: None,
            wall_ns: 1_000_000_000 + 200_000,
        };
        assert_eq!(client.totals().account, Some(expected));
        assert_eq!(world.nodes[SERVER].bodies(Kind::FinAck), [Body::Account(expected); 3]);
    }
}

#[test]
fn who_asks_for_no_account_gets_none() {
    let mut world = World::new("no account", steady(100));
    world.add_server(at(0), server_config());
    world.add_client(0, at(0), client_config(short()));
    world.drive(10);
    assert_eq!(world.nodes[SERVER].bodies(Kind::FinAck), [Body::Empty]);
    assert_eq!(world.nodes[CLIENT].totals().account, None);
}

#[test]
fn what_the_path_has_to_do_with_is_asked_of_the_path() {
    let load = Some(Load { packets_per_second: 1000, ip_len: 1400 });
    let settings = Settings { serve_on: Some(ServePath::Kernel), account: true, load, ..short() };
    let mut world = World::new("serve on", steady(100));
    world.add_server(at(0), server_config());
    world.add_client(0, at(0), client_config(settings));
    world.drive(10);
    let asked = settings.extension().unwrap();
    assert_eq!(world.nodes[CLIENT].bodies(Kind::Syn), [Body::Settings(settings.to_raw(), Some(asked))]);
    assert_eq!(world.nodes[SERVER].bodies(Kind::SynAck), [Body::Extension(asked)]);
    let of_path = Extension { serve_on: Some(ServePath::Kernel), ..Extension::default() };
    assert_eq!(world.nodes[SERVER].wanted, [of_path]);
    let told = world.nodes[CLIENT].events()[0].1;
    assert_eq!(told, Event::Connected { peer: server_address(), settings });
}

#[test]
fn a_server_that_cannot_serve_so_refuses_and_a_nanoprobe_is_declined() {
    let settings = Settings { serve_on: Some(ServePath::Kernel), ..short() };
    let mut world = World::new("refused", steady(100));
    world.add_server(at(0), server_config());
    world.nodes[SERVER].grants_path = false;
    world.add_client(0, at(0), client_config(settings));
    world.run_until(at(5_000_000));
    assert_eq!(world.nodes[CLIENT].end(), Some(End::Rejected));
    let refused = Event::RefusedPath { from: client_address(0), path: ServePath::Kernel };
    assert_eq!(world.nodes[SERVER].events()[0].1, refused);

    for settings in [settings, Settings { account: true, ..short() }, Settings { in_band: true, ..short() }] {
        let mut world = World::new("nanoprobe", steady(100));
        world.add_server(at(0), server_config());
        world.nodes[SERVER].is_nanoprobe = true;
        world.add_client(0, at(0), client_config(settings));
        world.run_until(at(5_000_000));
        let missing = settings.extension().unwrap();
        assert_eq!(
            world.nodes[CLIENT].end(),
            Some(End::NotAgreed { server: server_address(), missing }),
            "{settings:?}"
        );
        assert_eq!(world.nodes[CLIENT].totals().pings_sent, 0);
    }
}

/// What a machine wants to send, in the order in which it says so.
fn sent(machine: &mut impl Machine) -> Vec<Message> {
    let actions = std::iter::from_fn(|| machine.poll_action());
    actions
        .filter_map(|action| if let Action::Send(outgoing) = action { Some(outgoing.message) } else { None })
        .collect()
}

#[test]
fn the_next_session_from_a_port_is_told_from_a_late_copy_of_the_last_ones_syn() {
    let settings = Settings { account: true, ..short() };
    let mut server = Server::new(ServerConfig { keep: true, ..server_config() });
    let syn = |sequence| Incoming {
        settings: Some(settings.to_raw()),
        extension: settings.extension(),
        ..Incoming::plain(client_address(0), Message { kind: Kind::Syn, sequence })
    };
    let fin = Message { kind: Kind::Fin, sequence: 1 };
    let mut now = at(1000);
    for number in [7, 8, 20] {
        server.handle_datagram(now, &syn(number));
        assert_eq!(sent(&mut server), [Message { kind: Kind::SynAck, sequence: number }]);
        // Its own again is answered; the next one's is refused as long as this one lasts.
        server.handle_datagram(now, &syn(number));
        server.handle_datagram(now, &syn(number + 1));
        let [again, early] = sent(&mut server)[..] else { panic!("two answers") };
        assert_eq!((again.kind, early.kind), (Kind::SynAck, Kind::SynRst));
        hear(&mut server, now, client_address(0), fin, None);
        assert_eq!(sent(&mut server), [Message { kind: Kind::FinAck, ..fin }]);
        for late in [1, number - 1, number] {
            assert_eq!(server.wants(now, &syn(late)), None);
            server.handle_datagram(now, &syn(late));
            assert_eq!(sent(&mut server), [], "{late} after {number}");
        }
        now = now.plus_nanos(1_000_000);
    }
}

#[test]
fn a_client_with_a_number_says_it_and_takes_no_answer_to_an_earlier_one() {
    let settings = Settings { account: true, ..short() };
    let mut client = Client::numbered(at(0), client_config(settings), 7);
    assert_eq!(sent(&mut client), [Message { kind: Kind::Syn, sequence: 7 }]);
    let answer = |kind, sequence| Incoming {
        extension: settings.extension(),
        ..Incoming::plain(server_address(), Message { kind, sequence })
    };
    for kind in [Kind::SynAck, Kind::SynRst] {
        client.handle_datagram(at(1), &answer(kind, 6));
        assert!(!client.is_over() && client.poll_action().is_none());
    }
    client.handle_datagram(at(2), &answer(Kind::SynAck, 7));
    assert!(matches!(client.poll_action(), Some(Action::Tell(Event::Connected { .. }))));

    // Stopped before it is answered it says so, as the server may have accepted.
    let mut client = Client::numbered(at(0), client_config(settings), 8);
    client.handle_stop(at(1));
    assert_eq!(sent(&mut client).last().map(|message| message.kind), Some(Kind::Fin));
    hear(&mut client, at(2), server_address(), Message { kind: Kind::FinAck, sequence: 1 }, None);
    assert!(client.is_over());
    // nanoprobe's does not.
    let mut client = Client::new(at(0), client_config(settings));
    client.handle_stop(at(1));
    assert_eq!(sent(&mut client), [Message { kind: Kind::Syn, sequence: 0 }]);
    assert!(client.is_over());
}
