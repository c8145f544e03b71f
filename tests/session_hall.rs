//! A server of many clients: each has a session of its own, whatever the others do, and nobody takes more than their share.

#[path = "support/sim.rs"]
mod sim;

use sim::{Datagram, Now, Random, Wire, World, at, client_config, hear, server_config, steady};
use std::collections::BTreeMap;
use std::net::{Ipv4Addr, SocketAddrV4};
use std::time::Duration;
use xdprobe::session::{
    Action, ClientConfig, Direction, End, Event, Hall, HallConfig, Incoming, Machine, Outgoing, ServerConfig, Settings,
    TimerKind, Totals,
};
use xdprobe::wire::{Extension, Kind, Load, Message, Point, ServePath};

const HALL: usize = 0;

fn hall_config(clients: u16) -> HallConfig {
    HallConfig { server: server_config(), clients, path: ServePath::Xdp }
}

fn forward(delay_us: u32) -> Settings {
    Settings { count_s: 1, delay_us, ..Settings::default() }
}

/// What a hall has counted of each client's only session.
fn departures(world: &World) -> BTreeMap<SocketAddrV4, (End, Totals)> {
    let departures = &world.nodes[HALL].departures;
    let by_peer: BTreeMap<_, _> = departures.iter().map(|(peer, end, totals)| (*peer, (*end, *totals))).collect();
    assert_eq!(by_peer.len(), departures.len(), "{}: one session each", world.label);
    by_peer
}

#[test]
fn a_hundred_clients_have_a_session_each_and_every_ping_its_pong() {
    let mut world = World::new("a hundred", steady(100));
    world.add_hall(at(0), hall_config(100));
    for n in 0..100 {
        let settings = forward(10_000 + 100 * u32::from(n));
        world.add_client(n, at(u64::from(n) * 777), client_config(settings));
    }
    world.run_until(at(3_000_000));
    let departures = departures(&world);
    assert_eq!(departures.len(), 100);
    for node in &world.nodes[1..] {
        let (end, ours) = departures[&node.address];
        let theirs = node.totals();
        assert_eq!((end, node.end()), (End::Complete, Some(End::Complete)));
        assert_eq!(theirs.pongs_received, theirs.pings_sent);
        assert_eq!((ours.pings_received, ours.pongs_sent), (theirs.pings_sent, theirs.pings_sent));
        assert_eq!((ours.transmitted, ours.received), (theirs.received, theirs.transmitted));
        assert_eq!((ours.foreign, ours.unexpected), (0, 0));
    }
    // Stopped, it is over at once: nobody has a session.
    world.nodes[HALL].stops = vec![at(3_000_001)];
    world.drive(4);
}

/// What a seed makes of the wire: loss, copies, and datagrams that overtake each other.
fn weather(seed: u64, loss: u64) -> Wire {
    let mut random = Random(seed);
    Box::new(move |now: Now, _: &Datagram| {
        if random.chance(loss) {
            return vec![];
        }
        let copies = 1 + usize::from(random.chance(5));
        (0..copies).map(|_| now.plus_nanos(1000 * random.between(20, 20_000))).collect()
    })
}

#[test]
fn sessions_do_not_mix_in_any_weather() {
    let mut full = 0;
    for seed in 0..300 {
        let mut random = Random(seed);
        let loss = random.pick(&[0, 5, 30]);
        let places = random.pick(&[2, 5, 12]);
        let mut world = World::new(format!("seed {seed}"), weather(seed ^ 0xfeed, loss));
        world.seed(seed);
        world.add_hall(at(0), hall_config(places));
        world.nodes[HALL].late = (0, random.pick(&[0, 20_000, 1_000_000]));
        for n in 0..10 {
            let settings = Settings {
                count_s: 1,
                delay_us: random.pick(&[5_000, 20_000, 100_000]),
                pong_every: random.pick(&[1, 3]),
                direction: random.pick(&[Direction::Forward, Direction::Forward, Direction::Duplex]),
                ..Settings::default()
            };
            let config = ClientConfig {
                connect_timeout: Some(Duration::from_secs(3)),
                dummies: random.pick(&[0, 2]),
                ..client_config(settings)
            };
            world.add_client(n, at(random.between(0, 2_000_000)), config);
            if random.chance(20) {
                world.nodes[1 + usize::from(n)].stops = vec![at(random.between(0, 3_000_000))];
            }
        }
        if random.chance(20) {
            world.nodes[HALL].stops = vec![at(random.between(0, 3_000_000)), at(4_000_000)];
        }
        world.run_until(at(30_000_000));
        let sessions = departures(&world);
        for node in &world.nodes[1..] {
            assert!(node.is_over(), "{}: {:?} does not end", world.label, node.address);
            full += u32::from(node.ends.iter().any(|(_, end, _)| *end == End::Rejected));
            let Some((_, ours)) = sessions.get(&node.address) else {
                assert!(!node.was_connected(), "{}: {:?} has nobody's session", world.label, node.address);
                continue;
            };
            let rows = |point| world.nodes[HALL].rows(point).len();
            assert!(rows(Point::T1) >= rows(Point::T2));
            let theirs = node.ends.first().map(|(_, _, totals)| *totals).unwrap_or_default();
            if loss == 0 && !node.was_stopped() && !world.nodes[HALL].was_stopped() {
                // A FIN overtakes the pings of the last 20 ms.
                assert!(ours.pings_received + 4 >= theirs.pings_sent, "{}: {ours:?} {theirs:?}", world.label);
            }
        }
        // All that the hall said of pings is in somebody's totals.
        let received: u64 = sessions.values().map(|(_, totals)| totals.pings_received).sum();
        let seen = world.nodes[HALL].rows(Point::T1).len() + world.nodes[HALL].rows(Point::T1cs).len();
        assert_eq!(received, seen as u64, "{}", world.label);
        if !world.nodes[HALL].is_over() {
            world.nodes[HALL].stops = vec![world.now.plus_nanos(1)];
            world.drive(40);
        }
    }
    assert!(full > 50, "only {full} clients found no place");
}

fn actions(hall: &mut Hall) -> Vec<Action> {
    std::iter::from_fn(|| hall.poll_action()).collect()
}

fn peer(host: u8, port: u16) -> SocketAddrV4 {
    SocketAddrV4::new(Ipv4Addr::new(10, 0, 0, host), port)
}

fn say(hall: &mut Hall, now: Now, from: SocketAddrV4, kind: Kind, sequence: u64) -> (Option<Point>, Vec<Action>) {
    let settings = (kind == Kind::Syn).then(|| forward(100).to_raw());
    let point = hear(hall, now, from, Message { kind, sequence }, settings);
    (point, actions(hall))
}

fn sent(actions: &[Action]) -> Vec<(SocketAddrV4, Kind, u64)> {
    let sent = |action: &Action| match action {
        Action::Send(Outgoing { to, message, .. }) => Some((*to, message.kind, message.sequence)),
        _ => None,
    };
    actions.iter().filter_map(sent).collect()
}

#[test]
fn answers_are_their_own_clients_however_many_wait_to_be_sent() {
    let mut hall = Hall::new(hall_config(3));
    let clients = [7, 8, 9].map(|port| peer(1, port));
    for client in clients {
        say(&mut hall, at(0), client, Kind::Syn, 0);
    }
    // Nothing is obeyed in between: one queue of actions does not do for all.
    for round in 1..=3 {
        let pings = clients.iter().chain(&clients[..1]);
        for (sequence, client) in (10 * round..).zip(pings) {
            let ping = Message { kind: Kind::Ping, sequence };
            assert_eq!(hear(&mut hall, at(round), *client, ping, None), Some(Point::T1));
        }
        let pongs = sent(&actions(&mut hall));
        let [a, b, c] = clients;
        let first = 10 * round;
        let expected = [(a, first), (a, first + 3), (b, first + 1), (c, first + 2)];
        assert_eq!(pongs, expected.map(|(to, sequence)| (to, Kind::Pong, sequence)));
    }
}

#[test]
fn a_number_of_the_path_says_where_to_look_first_and_nothing_else() {
    let mut hall = Hall::new(hall_config(3));
    let clients = [7, 8, 9].map(|port| peer(1, port));
    for client in clients {
        say(&mut hall, at(0), client, Kind::Syn, 0);
    }
    // The number of each is its own, then all have one, then they change places, are far too large, or there is none.
    let ways = [[0, 1, 2], [1, 1, 1], [2, 0, 1], [u32::MAX, 4000, 70]];
    let ways = ways.into_iter().map(|ways| ways.map(Some)).chain([[None; 3]]);
    for (round, ways) in (1..).zip(ways) {
        for (client, way) in clients.into_iter().zip(ways) {
            let ping = Incoming { way, ..Incoming::plain(client, Message { kind: Kind::Ping, sequence: round }) };
            let line = hall.line(client, way);
            assert_eq!(hall.handle_datagram(at(round), &ping), Some(Point::T1));
            assert_eq!((line, hall.line(client, way)), (hall.place(), hall.place()));
            assert_eq!(sent(&actions(&mut hall)), [(client, Kind::Pong, round)]);
        }
    }
    let stranger = peer(2, 7);
    assert_eq!(hall.line(stranger, Some(1)), None);
    let ping = Incoming { way: Some(1), ..Incoming::plain(stranger, Message { kind: Kind::Ping, sequence: 9 }) };
    assert_eq!(hall.handle_datagram(at(9), &ping), None);
    assert_eq!(hall.place(), None);
}

#[test]
fn a_full_server_refuses_and_a_place_is_free_when_its_session_is_over() {
    let mut hall = Hall::new(hall_config(2));
    for host in [1, 2] {
        let (_, done) = say(&mut hall, at(0), peer(host, 7), Kind::Syn, 0);
        assert_eq!(sent(&done), [(peer(host, 7), Kind::SynAck, 0)]);
    }
    assert_eq!(hall.standing(), 2);
    let (_, done) = say(&mut hall, at(1), peer(3, 7), Kind::Syn, 0);
    assert_eq!(sent(&done), [(peer(3, 7), Kind::SynRst, 0)]);
    assert_eq!(done[1], Action::Tell(Event::RefusedFull { from: peer(3, 7), clients: 2 }));
    // A repeated SYN of one who has a place is answered as ever.
    let (_, done) = say(&mut hall, at(2), peer(2, 7), Kind::Syn, 0);
    assert_eq!(sent(&done), [(peer(2, 7), Kind::SynAck, 0)]);
    let (_, done) = say(&mut hall, at(3), peer(1, 7), Kind::Fin, 1);
    assert_eq!(sent(&done), [(peer(1, 7), Kind::FinAck, 1)]);
    assert!(done.contains(&Action::Tell(Event::Finished(End::Complete))));
    assert_eq!(hall.standing(), 1);
    let (_, done) = say(&mut hall, at(4), peer(3, 7), Kind::Syn, 0);
    assert_eq!(sent(&done), [(peer(3, 7), Kind::SynAck, 0)]);
    // The answer to the FIN was lost: it is answered again, and a late copy of the SYN begins nothing.
    let (_, done) = say(&mut hall, at(5), peer(1, 7), Kind::Fin, 1);
    assert_eq!(sent(&done), [(peer(1, 7), Kind::FinAck, 1)]);
    // Nor is it refused, though the server is full.
    assert_eq!(say(&mut hall, at(5), peer(1, 7), Kind::Syn, 0), (None, vec![]));
    assert_eq!(hall.standing(), 2);
    assert_eq!(say(&mut hall, at(6), peer(2, 7), Kind::Ping, 1).0, Some(Point::T1));
}

#[test]
fn whoever_left_first_makes_room_and_no_session_ever_does() {
    let mut hall = Hall::new(hall_config(1));
    let stays = hall.room();
    // Sessions without end from ever other ports, faster than they are forgotten.
    for port in 1..=5 * stays as u16 {
        let now = at(u64::from(port) * 10);
        assert_eq!(sent(&say(&mut hall, now, peer(1, port), Kind::Syn, 0).1), [(peer(1, port), Kind::SynAck, 0)]);
        assert_eq!(say(&mut hall, now, peer(1, port), Kind::Ping, 1).0, Some(Point::T1));
        assert_eq!(hall.place().map(|place| place < stays), Some(true));
        let (_, done) = say(&mut hall, now, peer(1, port), Kind::Fin, 2);
        assert_eq!(sent(&done), [(peer(1, port), Kind::FinAck, 2)]);
    }
    assert_eq!(hall.standing(), 0);
}

#[test]
fn who_was_heard_before_a_stall_may_have_been_heard_behind_it() {
    let mut hall = Hall::new(hall_config(3));
    for host in [1, 2] {
        say(&mut hall, at(0), peer(host, 7), Kind::Syn, 0);
    }
    // The loop knows of 1 s; it is stopped, reads a ping, and sees that it is 7 s. 5 s of silence are too many.
    say(&mut hall, at(1_000_000), peer(2, 7), Kind::Ping, 1);
    let now = at(7_000_000);
    hall.handle_stall(at(1_000_000), now);
    let mut ends = vec![];
    while hall.deadline().is_some_and(|deadline| deadline <= now) {
        hall.handle_deadline(now);
        while let Some(action) = hall.poll_action() {
            if let Action::Tell(Event::Finished(end)) = action {
                ends.push((end, hall.peer()));
            }
        }
    }
    assert_eq!(ends, [(End::TimedOut { after: Duration::from_secs(5) }, Some(peer(1, 7)))]);
    assert_eq!(hall.standing(), 1);
}

#[test]
fn a_silent_client_times_out_alone() {
    let mut hall = Hall::new(hall_config(3));
    for host in [1, 2] {
        say(&mut hall, at(0), peer(host, 7), Kind::Syn, 0);
    }
    let mut ends = vec![];
    for sequence in 1..=120 {
        let now = at(100_000 * sequence);
        while hall.deadline().is_some_and(|deadline| deadline <= now) {
            hall.handle_deadline(now);
            for action in
                std::iter::from_fn(|| hall.poll_action().map(|action| (action, hall.peer()))).collect::<Vec<_>>()
            {
                if let (Action::Tell(Event::Finished(end)), peer) = action {
                    ends.push((end, peer, sequence));
                }
            }
        }
        say(&mut hall, now, peer(2, 7), Kind::Ping, sequence);
    }
    assert_eq!(ends, [(End::TimedOut { after: Duration::from_secs(5) }, Some(peer(1, 7)), 50)]);
    assert_eq!(hall.standing(), 1);
}

#[test]
fn busy_waiting_lasts_as_long_as_somebody_wants_it() {
    let mut hall = Hall::new(hall_config(3));
    assert_eq!(hall.timer(), TimerKind::Sleep);
    let lazy = Settings { timer: TimerKind::Sleep, ..forward(100_000) };
    hear(&mut hall, at(0), peer(1, 7), Message { kind: Kind::Syn, sequence: 0 }, Some(lazy.to_raw()));
    actions(&mut hall);
    assert_eq!(hall.timer(), TimerKind::Sleep);
    say(&mut hall, at(0), peer(2, 7), Kind::Syn, 0);
    assert_eq!(hall.timer(), TimerKind::Busy);
    say(&mut hall, at(1), peer(2, 7), Kind::Fin, 1);
    assert_eq!((hall.timer(), hall.standing()), (TimerKind::Sleep, 1));
}

#[test]
fn what_many_cannot_have_is_refused_by_name() {
    let mut hall = Hall::new(hall_config(3));
    let load = Extension { load: Some(Load { packets_per_second: 9, ip_len: 44 }), ..Extension::default() };
    let on = |path| Extension { serve_on: Some(path), ..Extension::default() };
    let reverse = Settings { direction: Direction::Reverse, ..forward(100) };
    let asked = [
        (forward(100), Some(load), Some("to flood this server")),
        (forward(100), Some(on(ServePath::Kernel)), Some("to be served on the other path")),
        (reverse, None, Some("to be pinged (--reverse)")),
        (forward(100), Some(on(ServePath::Xdp)), None),
    ];
    for (port, (settings, extension, what)) in (1..).zip(asked) {
        let from = peer(1, port);
        let plain = Incoming::plain(from, Message { kind: Kind::Syn, sequence: 0 });
        hall.handle_datagram(at(0), &Incoming { settings: Some(settings.to_raw()), extension, ..plain });
        let done = actions(&mut hall);
        match what {
            Some(what) => {
                assert_eq!(sent(&done), [(from, Kind::SynRst, 0)]);
                assert_eq!(done[1], Action::Tell(Event::RefusedShared { from, what }));
            }
            None => assert_eq!(sent(&done), [(from, Kind::SynAck, 0)]),
        }
    }
}

#[test]
fn dummies_count_for_the_only_session_of_their_host_and_else_for_none() {
    let mut hall = Hall::new(hall_config(3));
    say(&mut hall, at(0), peer(1, 7), Kind::Syn, 0);
    say(&mut hall, at(0), peer(2, 7), Kind::Syn, 0);
    say(&mut hall, at(1), peer(1, 999), Kind::Dummy, u64::MAX);
    assert_eq!((hall.peer(), hall.totals().dummies_received), (Some(peer(1, 7)), 1));
    say(&mut hall, at(2), peer(1, 8), Kind::Syn, 0);
    say(&mut hall, at(3), peer(1, 999), Kind::Dummy, u64::MAX);
    assert_eq!((hall.place(), hall.unattributed()), (None, 1));
    say(&mut hall, at(4), peer(1, 7), Kind::Fin, 1);
    say(&mut hall, at(5), peer(1, 999), Kind::Dummy, u64::MAX);
    assert_eq!((hall.peer(), hall.totals().dummies_received), (Some(peer(1, 8)), 1));
}

#[test]
fn what_waits_is_served_in_turn_where_more_waits_than_is_read_and_somebody_else_is_there() {
    let mut hall = Hall::new(hall_config(8));
    // Nobody has a session yet.
    assert!(!hall.begin_turn(true, 0));
    say(&mut hall, at(0), peer(1, 7), Kind::Syn, 0);
    // Whoever is alone has all of every look.
    assert!(!hall.begin_turn(true, 0));
    say(&mut hall, at(0), peer(2, 7), Kind::Syn, 0);
    assert!(hall.begin_turn(true, 0) && !hall.begin_turn(false, 0) && hall.begin_turn(false, 1));
    // The other one leaves: what was read ahead is still served in turn.
    say(&mut hall, at(1), peer(2, 7), Kind::Fin, 1);
    assert!(hall.begin_turn(false, 1) && !hall.begin_turn(true, 0));
}

#[test]
fn everybody_with_a_session_has_a_line_and_what_it_has_no_room_for_is_counted() {
    let mut hall = Hall::new(hall_config(8));
    say(&mut hall, at(0), peer(1, 7), Kind::Syn, 0);
    say(&mut hall, at(0), peer(2, 7), Kind::Syn, 0);
    let lines = [1, 2].map(|host| hall.line(peer(host, 7), None).unwrap());
    assert!(lines[0] != lines[1] && lines.iter().all(|line| *line < hall.room()));
    assert_eq!(hall.line(peer(1, 8), None), None, "a stranger, or a client's dummies");
    for _ in 0..3 {
        hall.drop_excess(lines[1]);
    }
    hall.drop_excess(hall.room());
    say(&mut hall, at(1), peer(1, 7), Kind::Ping, 1);
    assert_eq!((hall.excess(), hall.all_excess()), (0, 3));
    say(&mut hall, at(1), peer(2, 7), Kind::Ping, 1);
    assert_eq!((hall.excess(), hall.totals().pings_received), (3, 1));
    // Its next session begins anew; what was counted of all does not.
    say(&mut hall, at(2), peer(2, 7), Kind::Fin, 2);
    say(&mut hall, at(3), peer(2, 7), Kind::Syn, 1);
    assert_eq!((hall.excess(), hall.all_excess(), hall.line(peer(2, 7), None)), (0, 3, Some(lines[1])));
}

#[test]
fn an_answer_costs_what_is_sent_for_it() {
    let server = ServerConfig { dummies: 3, ..server_config() };
    let mut hall = Hall::new(HallConfig { server, ..hall_config(2) });
    say(&mut hall, at(0), peer(1, 7), Kind::Syn, 0);
    assert_eq!(hall.take_cost(), 1, "a SYN-ACK");
    say(&mut hall, at(1), peer(1, 7), Kind::Ping, 1);
    assert_eq!((hall.take_cost(), hall.take_cost()), (4, 0), "a pong and its dummies");
    say(&mut hall, at(1), peer(1, 7), Kind::Dummy, u64::MAX);
    assert_eq!(hall.take_cost(), 0);
}

#[test]
fn strangers_that_flood_have_one_line_s_part_of_what_is_served() {
    let mut hall = Hall::new(hall_config(1));
    say(&mut hall, at(0), peer(1, 7), Kind::Syn, 0);
    for lines in [0, 1, 3, 200] {
        let (mut refused, before) = (0, hall.strangers_excess());
        for turn in 0..100 {
            hall.begin_turn(true, lines);
            assert_eq!(say(&mut hall, at(turn), peer(1, 7), Kind::Ping, turn + 1).0, Some(Point::T1));
            for port in 0..63 {
                refused += sent(&say(&mut hall, at(turn), peer(9, 1000 + port), Kind::Syn, 0).1).len() as u64;
            }
        }
        assert_eq!(refused, 100 * [32, 32, 16, 1][[0, 1, 3, 200].iter().position(|n| *n == lines).unwrap()]);
        assert_eq!(refused + hall.strangers_excess() - before, 6300);
    }
    // Where nothing else waits they have all that is served at once; where no more waits than is read, nobody is limited.
    let mut hall = Hall::new(hall_config(2));
    say(&mut hall, at(0), peer(1, 7), Kind::Syn, 0);
    say(&mut hall, at(0), peer(2, 7), Kind::Syn, 0);
    hall.begin_turn(true, 0);
    for port in 0..100 {
        let refused = sent(&say(&mut hall, at(100), peer(9, 1000 + port), Kind::Syn, 0).1).len();
        assert_eq!(refused, usize::from(port < 64), "{port}");
    }
    hall.begin_turn(false, 0);
    for port in 0..100 {
        assert_eq!(sent(&say(&mut hall, at(200), peer(9, 1000 + port), Kind::Syn, 0).1).len(), 1);
    }
}

#[test]
fn a_session_that_cannot_be_answered_is_broken_off_alone() {
    let mut hall = Hall::new(hall_config(2));
    for host in [1, 2] {
        say(&mut hall, at(0), peer(host, 7), Kind::Syn, 0);
    }
    hear(&mut hall, at(1), peer(1, 7), Message { kind: Kind::Ping, sequence: 1 }, None);
    let Some(Action::Send(pong)) = hall.poll_action() else { panic!("an answer") };
    assert_eq!(hall.break_off(&Action::Send(pong)), hall.place());
    assert_eq!(hall.poll_action(), Some(Action::Tell(Event::Finished(End::Broken))));
    let Totals { pings_received, pongs_sent, transmitted, .. } = *hall.totals();
    // The SYN-ACK alone was sent.
    assert_eq!((hall.peer(), pings_received, pongs_sent, transmitted), (Some(peer(1, 7)), 1, 0, 1));
    assert_eq!(hall.poll_action(), None);
    assert_eq!(hall.standing(), 1);
    assert_eq!(say(&mut hall, at(2), peer(2, 7), Kind::Ping, 1).0, Some(Point::T1));
    // What it still sends is no stranger's, and it may come again, as whoever has left.
    assert_eq!(say(&mut hall, at(3), peer(1, 7), Kind::Ping, 2), (None, vec![]));
    assert_eq!(sent(&say(&mut hall, at(3), peer(1, 7), Kind::Syn, 1).1), [(peer(1, 7), Kind::SynAck, 1)]);
    hall.handle_stop(at(4));
    assert_eq!(sent(&actions(&mut hall)).len(), 2, "a FIN each");
    hall.handle_stop(at(5));
    actions(&mut hall);
    assert!(hall.is_over());
}

#[test]
fn where_nothing_can_be_sent_all_sessions_are_over_and_others_may_follow_unless_it_is_stopped() {
    let mut hall = Hall::new(hall_config(4));
    for host in [1, 2, 3] {
        say(&mut hall, at(0), peer(host, 7), Kind::Syn, 0);
    }
    say(&mut hall, at(1), peer(3, 7), Kind::Fin, 1);
    assert_eq!(hall.standing(), 2);
    assert!(hall.break_session(at(2)));
    let over = Action::Tell(Event::Finished(End::Broken));
    assert_eq!(actions(&mut hall), [over, over]);
    assert_eq!((hall.standing(), hall.timer()), (0, TimerKind::Sleep));
    // Whoever had left before is remembered as before.
    assert_eq!(sent(&say(&mut hall, at(3), peer(3, 7), Kind::Fin, 1).1), [(peer(3, 7), Kind::FinAck, 1)]);
    for host in [1, 4, 5, 6] {
        assert_eq!(sent(&say(&mut hall, at(4), peer(host, 7), Kind::Syn, 1).1), [(peer(host, 7), Kind::SynAck, 1)]);
    }
    hall.handle_stop(at(5));
    actions(&mut hall);
    assert!(!hall.break_session(at(6)));
}
