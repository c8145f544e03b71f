//! Stamps inside the pongs: how client and server agree on them, and that the side that pings finds the truth with them in any
//! weather, or nothing.

#[path = "support/sim.rs"]
mod sim;

use sim::{Random, World, at, client_address, client_config, losing_first, server_address, server_config, steady};
use std::cmp::Reverse;
use std::collections::{BinaryHeap, HashMap};
use xdprobe::clock::{Source, Stamp, Time};
use xdprobe::probe::Turnarounds;
use xdprobe::record::{Answer, RoundTrips, Sighting, Sources, StampCounts};
use xdprobe::session::{Body, Client, Correction, Direction, End, Event, Machine, Offers, ServerConfig, Settings};
use xdprobe::wire::in_band::{FarSource, put_t2};
use xdprobe::wire::ptp::{Shape, Transport};
use xdprobe::wire::{Extension, InBand, Kind, Point};

const SERVER: usize = 0;
const CLIENT: usize = 1;

fn short(direction: Direction) -> Settings {
    Settings { count_s: 1, delay_us: 100_000, pong_padding: 56, direction, in_band: true, ..Settings::default() }
}

#[test]
fn who_pongs_tells_its_stamps_whichever_side_it_is_and_whatever_is_in_front_of_them() {
    for (direction, pings, pongs) in [(Direction::Forward, CLIENT, SERVER), (Direction::Reverse, SERVER, CLIENT)] {
        for (ptp, ping_padding, pong_padding) in
            [(None, 0, 56), (Some(Transport::Udp), 44, 100), (Some(Transport::L2), 40, 96)]
        {
            let settings = Settings { ptp, ping_padding, pong_padding, pong_every: 2, ..short(direction) };
            let mut world = World::new(format!("{settings:?}"), steady(100));
            world.add_server(at(0), ServerConfig { offers: Offers { udp: true, l2: true }, ..server_config() });
            world.add_client(0, at(0), client_config(settings));
            world.drive(10);
            let asked = Extension { ptp, in_band: true, ..Extension::default() };
            assert_eq!(world.nodes[CLIENT].bodies(Kind::Syn), [Body::Settings(settings.to_raw(), Some(asked))]);
            assert_eq!(world.nodes[SERVER].bodies(Kind::SynAck), [Body::Extension(asked)]);
            // The path has to do with the headers only.
            let of_path = ptp.map(|_| Extension { ptp, ..Extension::default() });
            assert_eq!(world.nodes[SERVER].wanted, Vec::from_iter(of_path));
            let pong = Body::InBand { padding: pong_padding, told: InBand::default() };
            assert_eq!(world.nodes[pongs].bodies(Kind::Pong), [pong; 5], "{}", world.label);
            assert_eq!(world.nodes[pings].bodies(Kind::Ping), [Body::Padding(ping_padding); 10]);
            assert_eq!(world.nodes[pings].rows(Point::T3), [2, 4, 6, 8, 10]);
            for (node, peer) in [(SERVER, client_address(0)), (CLIENT, server_address())] {
                assert_eq!(world.nodes[node].end(), Some(End::Complete));
                assert_eq!(world.nodes[node].events()[0].1, Event::Connected { peer, settings });
            }
        }
    }
}

#[test]
fn a_server_makes_a_pong_large_enough_for_its_stamps() {
    let mut world = World::new("small", steady(100));
    world.add_server(at(0), server_config());
    world.add_client(0, at(0), client_config(Settings { pong_padding: 3, ..short(Direction::Forward) }));
    world.drive(10);
    let told: Vec<_> = world.nodes[SERVER].events().into_iter().map(|(_, event)| event).collect();
    let correction = Correction { setting: "pong padding", asked: 3, min: 56, max: 2048, used: 56, used_name: None };
    assert!(told.contains(&Event::Corrected(correction)), "{told:?}");
    assert_eq!(world.nodes[CLIENT].rows(Point::T3).len(), 10);
    assert_eq!(world.nodes[SERVER].totals().first_ip_len, Some(100));
}

#[test]
#[should_panic(expected = "does not hold what it is to carry")]
fn a_client_that_pongs_has_room_for_its_stamps() {
    Client::new(at(0), client_config(Settings { pong_padding: 55, ..short(Direction::Reverse) })).is_over();
}

#[test]
fn a_plain_peer_is_declined_in_both_directions_and_said_why() {
    for direction in [Direction::Forward, Direction::Reverse] {
        for lost in [0, 1] {
            let mut world = World::new(format!("{direction:?}"), losing_first(100, &[(Kind::SynAck, lost)]));
            world.add_server(at(0), server_config());
            world.nodes[SERVER].is_nanoprobe = true;
            world.add_client(0, at(0), client_config(short(direction)));
            world.run_until(at(8_000_000));
            let missing = Extension { in_band: true, ..Extension::default() };
            let expected = End::NotAgreed { server: server_address(), missing };
            assert_eq!(world.nodes[CLIENT].end(), Some(expected), "{}", world.label);
            assert!(
                world.nodes[CLIENT].bodies(Kind::Pong).is_empty() && world.nodes[CLIENT].bodies(Kind::Ping).is_empty()
            );
        }
    }
}

#[test]
fn in_reverse_a_ping_alone_does_not_say_that_stamps_are_agreed_to_but_the_next_syn_ack() {
    // The SYN-ACKs of the first second are lost: there are pings before one arrives.
    let wire: sim::Wire = Box::new(|now, datagram| match datagram.message.kind {
        Kind::SynAck if sim::micros(now) < 1_300_000 => vec![],
        _ => vec![now.plus_nanos(100_000)],
    });
    let mut world = World::new("late SYN-ACK", wire);
    world.add_server(at(0), server_config());
    world.add_client(0, at(0), client_config(short(Direction::Reverse)));
    world.drive(10);
    let rows = world.nodes[CLIENT].rows(Point::T1);
    assert!(!rows.is_empty() && rows[0] > 1, "{rows:?}");
    assert_eq!(world.nodes[SERVER].rows(Point::T3), rows, "whatever was read was answered");
    assert_eq!(world.nodes[CLIENT].end(), Some(End::Complete));
}

/// What happens in [`Weather::run`], in the order of time.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Happening {
    Ping(u64),
    /// A copy of a ping at the side that pongs.
    Arrives(u64),
    /// The transmit stamp of the pong with this number becomes known there, or is given up.
    Left(usize),
    /// A copy of the pong with this number at the side that pings.
    Answers(usize),
    /// The ping's own transmit stamp becomes known.
    T0(u64),
}

/// A pong with the truth about it.
#[derive(Debug, Clone, Copy)]
struct Pong {
    sequence: u64,
    told: InBand,
    application: u64,
    /// By the source that is told of.
    turnaround: i64,
    t2: Option<Stamp>,
}

struct Weather {
    random: Random,
    source: Source,
    loss: u64,
    doubles: u64,
    /// ns that a datagram takes at most: more than between two pings, so that they overtake each other.
    slowest: u64,
    /// Stamps of the pongs to so many pings are known when all of those are there, not before.
    stalled: u64,
}

impl Weather {
    fn arrivals(&mut self, now: u64) -> Vec<u64> {
        if self.random.chance(self.loss) {
            return vec![];
        }
        let copies = if self.random.chance(self.doubles) { 2 } else { 1 };
        (0..copies).map(|_| now + self.random.between(1_000, self.slowest)).collect()
    }

    /// Pings every 10 µs: what the side that pings made of it, and by ping what is true of the pong that it took first.
    fn run(&mut self, pings: u64) -> (RoundTrips, Vec<i64>, HashMap<u64, i64>) {
        let stamp = |source, nanos| match source {
            Source::Hardware => Stamp::Card(Time::from_nanos(nanos)),
            Source::Software | Source::Application => Stamp::System(Time::from_nanos(nanos)),
        };
        let source = self.source;
        let mut turnarounds = Turnarounds::new(Sources { sent: source, received: source });
        let (mut trips, mut counts) = (RoundTrips::new(), StampCounts::default());
        trips.expect_in_band(true);
        let mut todo: BinaryHeap<Reverse<(u64, Happening)>> =
            (1..=pings).map(|sequence| Reverse((sequence * 10_000, Happening::Ping(sequence)))).collect();
        let (mut pongs, mut made) = (Vec::<Pong>::new(), Vec::new());
        let (mut t0, mut t3, mut truth) = (HashMap::new(), HashMap::new(), HashMap::new());
        while let Some(Reverse((now, what))) = todo.pop() {
            match what {
                Happening::Ping(sequence) => {
                    t0.insert(sequence, now);
                    trips.sent(sequence);
                    todo.push(Reverse((now + self.random.between(0, 30_000), Happening::T0(sequence))));
                    let arrivals = self.arrivals(now);
                    todo.extend(arrivals.into_iter().map(|then| Reverse((then, Happening::Arrives(sequence)))));
                }
                Happening::T0(sequence) => {
                    trips.left(sequence, stamp(Source::Software, t0[&sequence]));
                }
                Happening::Arrives(sequence) => {
                    // A clock of its own, and stamps that are anything: that a round trip is right is no coincidence then.
                    let (t1, application) =
                        (now + self.random.between(1, 1 << 40), now + self.random.between(1, 1 << 40));
                    let (before, after) = (self.random.between(1, 1 << 40), self.random.between(1, 1 << 40));
                    let mut told = turnarounds.tell(Time::from_nanos(t1), &mut counts);
                    let mut bytes = told.to_bytes();
                    put_t2(&mut bytes, application);
                    told = InBand::parse(&bytes).unwrap();
                    turnarounds.sent(sequence, Some(stamp(source, before)), Time::from_nanos(application), &mut counts);
                    let turnaround = match source {
                        Source::Application => application as i64 - t1 as i64,
                        Source::Software | Source::Hardware => after as i64 - before as i64,
                    };
                    let t2 = (!self.random.chance(self.loss)).then(|| stamp(source, after));
                    let known = now + self.random.between(0, 50_000);
                    let known = if sequence > self.stalled { known } else { known.max(self.stalled * 10_000) };
                    todo.push(Reverse((known, Happening::Left(pongs.len()))));
                    let arrivals = self.arrivals(now);
                    todo.extend(arrivals.into_iter().map(|then| Reverse((then, Happening::Answers(pongs.len())))));
                    pongs.push(Pong { sequence, told, application, turnaround, t2 });
                }
                Happening::Left(pong) => {
                    let Pong { sequence, application, t2, .. } = pongs[pong];
                    let application = Time::from_nanos(application);
                    let (point, size, queue) = (Point::T2, 100, None);
                    let (software, hardware) = (None, None);
                    let sighting = Sighting { sequence, point, size, queue, application, software, hardware };
                    turnarounds.left(&sighting, t2, &mut counts);
                }
                Happening::Answers(pong) => {
                    let Pong { sequence, told, turnaround, .. } = pongs[pong];
                    let answer = trips.answered(sequence, Some(stamp(Source::Software, now)));
                    if matches!(answer, Answer::First(_)) {
                        t3.insert(sequence, now);
                        truth.insert(sequence, now as i64 - t0[&sequence] as i64 - turnaround);
                    }
                    trips.told(sequence, answer, &told);
                }
            }
            made.extend(trips.take_rtt());
        }
        (trips, made, truth)
    }
}

#[test]
fn in_any_weather_a_round_trip_is_the_truth_or_is_not_there() {
    for seed in 0..150 {
        let mut random = Random(seed);
        let source = random.pick(&[Source::Application, Source::Software, Source::Hardware]);
        let [loss, doubles] = [(); 2].map(|()| random.pick(&[0, 0, 3, 30]));
        let slowest = random.pick(&[1_000, 9_000, 200_000]);
        let mut weather = Weather { random, source, loss, doubles, slowest, stalled: 0 };
        let (trips, made, truth) = weather.run(400);
        let label = format!("seed {seed}: {source:?}, loss {loss}, doubles {doubles}, slowest {slowest}");
        let mut left: HashMap<i64, u64> = truth.iter().map(|(sequence, rtt)| (*rtt, *sequence)).collect();
        assert_eq!(left.len(), truth.len(), "{label}: no two are the same by accident");
        for rtt in &made {
            assert!(left.remove(rtt).is_some(), "{label}: {rtt} is the truth of no ping, or was made twice");
        }
        assert_eq!((trips.rtt().count(), trips.unique()), (made.len() as u64, truth.len() as u64), "{label}");
        assert_eq!(trips.rtt_missing(), left.len() as u64, "{label}");
        assert_eq!(trips.rtt_negative(), made.iter().filter(|rtt| **rtt < 0).count() as u64);
        let told = match source {
            Source::Application => FarSource::Application,
            Source::Software => FarSource::Software,
            Source::Hardware => FarSource::Hardware,
        };
        assert_eq!(trips.far_source(), Some(told));
        match (source, loss) {
            // Each pong brings its own.
            (Source::Application, _) => assert_eq!(left.len(), 0, "{label}"),
            // Of the last pongs nobody is left to tell.
            (_, 0) if doubles == 0 && slowest < 10_000 => assert!(left.len() <= 10, "{label}: {}", left.len()),
            // Some pongs are overtaken by those that tell of them.
            (_, 0 | 3) if doubles <= 3 => assert!(made.len() > 200, "{label}: {}", made.len()),
            _ => assert!(made.len() > 20, "{label}: {}", made.len()),
        }
        let summary = trips.rtt().summary_of_sorted().unwrap();
        assert_eq!((Some(&summary.min), Some(&summary.max)), (made.iter().min(), made.iter().max()), "{label}");
        let mean = made.iter().map(|rtt| *rtt as f64).sum::<f64>() / made.len() as f64;
        assert!((summary.mean - mean).abs() < 1.0, "{label}: {} {mean}", summary.mean);
    }
}

#[test]
fn behind_a_stall_what_is_told_is_new_again_and_what_was_left_out_is_missing() {
    const PINGS: u64 = 4000;
    const STALLED: u64 = 300;
    for source in [Source::Software, Source::Hardware] {
        let random = Random(7);
        let mut weather = Weather { random, source, loss: 0, doubles: 0, slowest: 9_000, stalled: STALLED };
        let (trips, made, truth) = weather.run(PINGS);
        assert_eq!((trips.unique(), truth.len() as u64), (PINGS, PINGS));
        // Nothing is told during the stall, and its pairs would be ahead of all others for ever.
        for sequence in 1000..=PINGS - 20 {
            assert!(made.contains(&truth[&sequence]), "{source:?}: ping {sequence} has no round trip");
        }
        let missing = trips.rtt_missing();
        assert!((STALLED - 20..STALLED + 20).contains(&missing), "{source:?}: {missing}");
        assert_eq!(trips.strange_turnarounds(), 0);
    }
}

#[test]
fn shapes_of_pongs_are_those_of_their_pings_also_with_stamps() {
    let settings = Settings {
        ptp: Some(Transport::Udp),
        ping_padding: 44,
        pong_padding: 100,
        delay_us: 300,
        ..short(Direction::Forward)
    };
    let mut world = World::new("shapes", steady(100));
    world.add_server(at(0), ServerConfig { offers: Offers { udp: true, l2: true }, ..server_config() });
    world.add_client(0, at(0), client_config(settings));
    world.drive(10);
    let shapes = |node: usize, kind, sent| {
        let of = world.nodes[node].shapes.iter().filter(move |of| of.message.kind == kind && of.sent == sent);
        of.map(|of| (of.message.sequence, of.shape)).collect::<Vec<_>>()
    };
    let pings = shapes(CLIENT, Kind::Ping, true);
    assert_eq!(shapes(CLIENT, Kind::Pong, false), pings);
    assert!([Shape::Stamped, Shape::Unstamped].iter().all(|shape| pings.iter().any(|(_, is)| is == shape)));
}
