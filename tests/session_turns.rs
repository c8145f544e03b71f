//! A server of many clients beside one that floods: what the others wait, on a virtual clock.
//!
//! The server answers a datagram in [`ANSWER`] and reads one in [`READ`], from a ring of [`RING`] frames that drops what it
//! has no room for. Its loop is that of `probe::many` over the same [`Hall`] and the same [`Turns`].
//!
//! The bound: n clients have a ring of R frames together, so that a share of it is R/n frames, which take R/n × [`ANSWER`] to
//! be answered. By no more than that may the p99 of the others' waits rise, whatever one of them sends. What a datagram of
//! somebody who has nothing else in his line does wait for is less: what is being served, [`SERVED_AT_ONCE`] datagrams sent;
//! what is read before the next is served; and one datagram of each line.

#[path = "support/sim.rs"]
mod sim;

use sim::{Now, Random, at, hear, server_config};
use std::cmp::Reverse;
use std::collections::{BinaryHeap, VecDeque};
use std::net::{Ipv4Addr, SocketAddrV4};
use std::time::Duration;
use xdprobe::session::{
    Action, End, Event, Hall, HallConfig, LOOKS_AHEAD, Machine, SERVED_AT_ONCE, ServerConfig, Settings, Turns,
    WAITING_ROOM,
};
use xdprobe::wire::{Kind, Message, Point, ServePath};

/// Nanoseconds that the server takes for an answer: its capacity is 100,000 a second.
const ANSWER: u64 = 10_000;
const CAPACITY: f64 = 1e9 / ANSWER as f64;
/// Nanoseconds that it takes for reading a datagram, be it answered or dropped. No server can keep to the share whose reading
/// takes longer than an n-th of its answering: one client's ringful would take as much to be passed over.
const READ: u64 = 400;
/// Frames of the ring.
const RING: usize = 4096;
/// As many as are read at once.
const LOOK: usize = SERVED_AT_ONCE as usize;
/// Who pings as agreed, beside the one that floods.
const FAIR: usize = 16;
/// Nanoseconds that are simulated.
const TIME: u64 = 1_000_000_000;
/// What a share of the ring takes.
const SHARE: u64 = RING as u64 / (FAIR as u64 + 1) * ANSWER;

/// When a client pings.
#[derive(Clone, Copy)]
enum Pace {
    /// So many times a second, as in a Poisson process.
    Poisson(f64),
    /// So many at once, in every period of so many nanoseconds.
    Bursts { pings: u64, period: u64 },
}

/// What became of a client's pings.
#[derive(Default)]
struct Outcome {
    sent: u64,
    /// From the arrival in the ring to the answer's end, in nanoseconds.
    waits: Vec<u64>,
    /// The ring had no room.
    unread: u64,
    excess: u64,
}

impl Outcome {
    fn answered(&self) -> u64 {
        self.waits.len() as u64
    }

    fn loses_nothing(&self) -> bool {
        self.unread + self.excess == 0 && self.answered() == self.sent
    }
}

fn peer(client: usize) -> SocketAddrV4 {
    SocketAddrV4::new(Ipv4Addr::new(10, 0, 0, 1 + client as u8), 7)
}

/// The world that a server sees.
struct Feed {
    paces: Vec<Pace>,
    random: Random,
    due: BinaryHeap<Reverse<(u64, usize)>>,
    ring: VecDeque<(u64, usize)>,
    outcomes: Vec<Outcome>,
}

impl Feed {
    fn new(paces: &[Pace], seed: u64) -> Self {
        let outcomes = paces.iter().map(|_| Outcome::default()).collect();
        let (due, ring) = (BinaryHeap::new(), VecDeque::new());
        let mut feed = Self { paces: paces.to_vec(), random: Random(seed), due, ring, outcomes };
        for client in 0..paces.len() {
            feed.plan(0, client);
        }
        feed
    }

    fn plan(&mut self, now: u64, client: usize) {
        let next = match self.paces[client] {
            Pace::Poisson(rate) => {
                let chance = (self.random.next() >> 11) as f64 / (1_u64 << 53) as f64;
                now + (-(1.0 - chance).ln() * 1e9 / rate) as u64
            }
            Pace::Bursts { period, .. } => now + period,
        };
        if next < TIME {
            self.due.push(Reverse((next, client)));
        }
    }

    /// What has come until `now` goes into the ring.
    fn arrive(&mut self, now: u64) {
        while let Some(&Reverse((time, client))) = self.due.peek() {
            if time > now {
                return;
            }
            self.due.pop();
            self.plan(time, client);
            let pings = if let Pace::Bursts { pings, .. } = self.paces[client] { pings } else { 1 };
            for _ in 0..pings {
                self.outcomes[client].sent += 1;
                if self.ring.len() < RING {
                    self.ring.push_back((time, client));
                } else {
                    self.outcomes[client].unread += 1;
                }
            }
        }
    }

    fn look(&mut self, now: u64) -> Vec<(u64, usize)> {
        self.arrive(now);
        self.ring.drain(..self.ring.len().min(LOOK)).collect()
    }
}

/// The server with its clock.
struct Sim {
    feed: Feed,
    hall: Hall,
    now: u64,
    /// What a datagram takes to be sent.
    send: u64,
    /// The longest time from a turn's begin to what it serves first.
    longest_reading: u64,
}

impl Sim {
    fn answer(&mut self, (arrived, client): (u64, usize)) -> u32 {
        let sequence = self.feed.outcomes[client].answered() + 1;
        let now: Now = at(1).plus_nanos(self.now);
        let point = hear(&mut self.hall, now, peer(client), Message { kind: Kind::Ping, sequence }, None);
        assert_eq!(point, Some(Point::T1));
        self.hall.take_cost();
        while self.hall.poll_action().is_some() {}
        let cost = self.hall.take_cost();
        self.now += u64::from(cost) * self.send;
        self.feed.outcomes[client].waits.push(self.now - arrived);
        cost
    }

    fn read(&mut self) -> Vec<(u64, usize)> {
        let look = self.feed.look(self.now);
        self.now += READ * look.len() as u64;
        look
    }
}

/// Serves clients who ping at these paces; every `stall.0` nanoseconds the server is away for `stall.1`. What became of their
/// pings, and the longest time that was read before something was served.
fn simulate(paces: &[Pace], dummies: u32, stall: Option<(u64, u64)>, seed: u64) -> (Vec<Outcome>, u64) {
    serve(paces, dummies, stall, seed, true)
}

/// The same; `in_turn`, or in the order of arrival.
fn serve(paces: &[Pace], dummies: u32, stall: Option<(u64, u64)>, seed: u64, in_turn: bool) -> (Vec<Outcome>, u64) {
    let server = ServerConfig { dummies, timeout: None, ..server_config() };
    let mut hall = Hall::new(HallConfig { server, clients: paces.len() as u16, path: ServePath::Xdp });
    for client in 0..paces.len() {
        let settings = Some(Settings::default().to_raw());
        hear(&mut hall, at(0), peer(client), Message { kind: Kind::Syn, sequence: 0 }, settings);
        while hall.poll_action().is_some() {}
    }
    let mut turns = Turns::new(hall.room(), WAITING_ROOM, dummies + 1);
    let send = ANSWER / u64::from(dummies + 1);
    let mut sim = Sim { feed: Feed::new(paces, seed), hall, now: 0, send, longest_reading: 0 };
    let mut next_stall = stall.map_or(u64::MAX, |(every, _)| every);
    loop {
        if sim.now >= next_stall {
            let (every, lasts) = stall.unwrap_or_default();
            sim.now += lasts;
            next_stall += every;
        }
        let begun = sim.now;
        let mut look = sim.read();
        if in_turn && sim.hall.begin_turn(look.len() == LOOK, turns.lines_waiting()) {
            turns.begin();
            loop {
                for item in &look {
                    let line = sim.hall.line(peer(item.1), None).unwrap();
                    if !turns.line_up(line, *item, false) {
                        sim.hall.drop_excess(line);
                        sim.feed.outcomes[item.1].excess += 1;
                    }
                }
                if !turns.reads_on(look.len() == LOOK) {
                    break;
                }
                look = sim.read();
            }
            sim.longest_reading = sim.longest_reading.max(sim.now - begun);
            while let Some(item) = turns.call() {
                let cost = sim.answer(item);
                turns.charge(cost);
            }
        } else if look.is_empty() {
            match sim.feed.due.peek() {
                Some(&Reverse((next, _))) => sim.now = next,
                None => break,
            }
        } else {
            look.into_iter().for_each(|item| {
                sim.answer(item);
            });
        }
    }
    let Sim { mut feed, hall, longest_reading, .. } = sim;
    feed.outcomes.iter_mut().for_each(|outcome| outcome.waits.sort_unstable());
    for outcome in &feed.outcomes {
        assert_eq!(outcome.sent, outcome.answered() + outcome.unread + outcome.excess, "each is in one count");
    }
    assert_eq!(hall.all_excess(), feed.outcomes.iter().map(|outcome| outcome.excess).sum::<u64>());
    (feed.outcomes, longest_reading)
}

/// By nearest rank.
fn p99(waits: &[u64]) -> u64 {
    waits[(waits.len() * 99).div_ceil(100) - 1]
}

fn waits_of(outcomes: &[Outcome]) -> Vec<u64> {
    let mut waits: Vec<u64> = outcomes.iter().flat_map(|outcome| outcome.waits.iter().copied()).collect();
    waits.sort_unstable();
    waits
}

/// Sixteen at so much of the capacity together, and one more.
fn beside(fair: f64, flood: Pace) -> Vec<Pace> {
    let mut paces = vec![Pace::Poisson(fair * CAPACITY / FAIR as f64); FAIR];
    paces.push(flood);
    paces
}

/// A client that sends next to nothing.
const QUIET: Pace = Pace::Poisson(1.0);

#[test]
fn one_that_floods_raises_the_others_p99_by_less_than_its_share_of_the_ring() {
    let rate = |of_capacity: f64| Pace::Poisson(of_capacity * CAPACITY);
    let mut floods = vec![("0.5 C", rate(0.5)), ("0.9 C", rate(0.9)), ("1.2 C", rate(1.2)), ("3 C", rate(3.0))];
    // On and off at the edge: below, at and above a look, a share, half a ring and all of it.
    for (name, pings) in
        [("63", 63), ("65", 65), ("129", 129), ("241", 241), ("500", 500), ("2000", 2000), ("4000", 4000)]
    {
        // What is left of the capacity, and three times as much.
        for part in [0.7, 2.1] {
            floods.push((name, Pace::Bursts { pings, period: (pings as f64 / (part * CAPACITY) * 1e9) as u64 }));
        }
    }
    for (fair, dummies, seed) in [(0.3, 0, 1), (0.05, 0, 2), (0.3, 3, 3)] {
        let (outcomes, _) = simulate(&beside(fair, QUIET), dummies, None, seed);
        let alone = p99(&waits_of(&outcomes[..FAIR]));
        for &(name, flood) in &floods {
            let label = format!("{name}, fair {fair}, {dummies} dummies");
            let (outcomes, longest_reading) = simulate(&beside(fair, flood), dummies, None, seed);
            let (fairs, flooder) = (&outcomes[..FAIR], &outcomes[FAIR]);
            let waits = waits_of(fairs);
            let rise = p99(&waits).saturating_sub(alone);
            assert!(rise <= SHARE, "{label}: {rise} ns of {SHARE}");
            // What is being served when it comes, what is read then, and a datagram of each line.
            let bound = u64::from(SERVED_AT_ONCE + dummies) * ANSWER + longest_reading + (FAIR as u64 + 1) * ANSWER;
            assert!(rise <= bound, "{label}: {rise} ns of {bound}");
            for outcome in fairs {
                assert!(outcome.loses_nothing(), "{label}: {} unread, {} excess", outcome.unread, outcome.excess);
            }
            // The server reads all of what comes, and has nothing but that to do: it does not answer less for being fair.
            let most = (CAPACITY * TIME as f64 / 1e9) as u64;
            let read = outcomes.iter().map(|outcome| outcome.sent).sum::<u64>() * READ / ANSWER;
            let answered: u64 = outcomes.iter().map(Outcome::answered).sum();
            let sent: u64 = outcomes.iter().map(|outcome| outcome.sent).sum();
            assert!(answered * 100 >= 98 * sent.min(most - read), "{label}: {answered} of {sent}");
            if sent * (ANSWER + READ) > 12 * TIME / 10 {
                assert!(flooder.excess > 0, "{label}: what is too much is dropped and counted");
            }
        }
    }
    assert_eq!(LOOKS_AHEAD as usize * LOOK, RING, "what the ring holds is read before anything of it is served");
}

#[test]
fn served_in_the_order_of_arrival_the_others_wait_for_all_of_the_ring() {
    let paces = beside(0.3, Pace::Poisson(1.2 * CAPACITY));
    let (outcomes, _) = serve(&paces, 0, None, 1, false);
    let rise = p99(&waits_of(&outcomes[..FAIR]));
    assert!(rise > 15 * SHARE, "what the tests above find would be found without turns: {rise} ns");
}

#[test]
fn nothing_is_dropped_of_what_the_ring_held_behind_a_stall() {
    // 70 ms at 10,000 a second; of all in proportion, or half of it one client's.
    let each = Pace::Poisson(10_000.0 / 17.0);
    let worlds = [
        ("equal", vec![each; FAIR + 1], (300_000_000, 70_000_000)),
        ("heavy", beside(0.05, Pace::Poisson(5_000.0)), (300_000_000, 70_000_000)),
        // All of the ring but a little, and nine tenths of it one client's, at a rate that the server is only just up to.
        ("heavier", beside(0.07, Pace::Poisson(0.63 * CAPACITY)), (300_000_000, 50_000_000)),
    ];
    for (name, paces, stall) in worlds {
        let (outcomes, _) = simulate(&paces, 0, Some(stall), 7);
        for (client, outcome) in outcomes.iter().enumerate() {
            let Outcome { sent, unread, excess, .. } = outcome;
            assert!(outcome.loses_nothing(), "{name}: client {client}: {unread} unread, {excess} excess of {sent}");
        }
    }
}

#[test]
fn clients_at_one_rate_have_the_same_and_are_not_cut_at_the_limit() {
    // Reading comes on top: at 0.94 of the capacity the server is all but busy.
    let at_once = |of_capacity: f64| vec![Pace::Poisson(of_capacity * CAPACITY / 17.0); 17];
    let (outcomes, _) = simulate(&at_once(0.94), 0, None, 11);
    assert!(outcomes.iter().all(Outcome::loses_nothing));
    // Beyond it all are cut alike.
    let (outcomes, _) = simulate(&at_once(1.5), 0, None, 12);
    let answered: Vec<u64> = outcomes.iter().map(Outcome::answered).collect();
    let (least, most) = (answered.iter().min().unwrap(), answered.iter().max().unwrap());
    assert!(least * 100 >= most * 97, "{answered:?}");
    assert!(outcomes.iter().all(|outcome| outcome.excess > 0 && outcome.unread == 0));
}

#[test]
fn what_waits_as_its_session_times_out_is_dropped_and_counted() {
    let timeout = Some(Duration::from_millis(1));
    let server = ServerConfig { timeout, ..server_config() };
    let mut hall = Hall::new(HallConfig { server, clients: 2, path: ServePath::Xdp });
    let mut turns: Turns<(usize, Message)> = Turns::new(hall.room(), WAITING_ROOM, 1);
    let ends = |hall: &mut Hall| -> Vec<(usize, End)> {
        let mut ends = vec![];
        while let Some(action) = hall.poll_action() {
            if let Action::Tell(Event::Finished(end)) = action {
                ends.push((hall.place().unwrap(), end));
            }
        }
        ends
    };
    let syn = |sequence| (Message { kind: Kind::Syn, sequence }, Some(Settings::default().to_raw()));
    let ping = |sequence| (Message { kind: Kind::Ping, sequence }, None);
    for client in [0, 1] {
        let (message, settings) = syn(0);
        hear(&mut hall, at(0), peer(client), message, settings);
        assert_eq!(ends(&mut hall), []);
    }
    // One has five pings waiting, and a second session behind them; of the other nothing waits.
    let line = hall.line(peer(0), None).unwrap();
    let waiting = [ping(1), ping(2), ping(3), ping(4), ping(5), syn(1), ping(1), ping(2)];
    for (message, _) in waiting {
        assert!(turns.line_up(line, (0, message), message.kind == Kind::Syn));
    }
    // As the loop does where a deadline is met before what waits is served.
    let after = Duration::from_millis(1);
    for _ in [0, 1] {
        hall.handle_deadline(at(2_000));
        for (place, end) in ends(&mut hall) {
            assert_eq!(end, End::TimedOut { after });
            let excess = hall.excess();
            hall.drop_waiting(place, turns.waiting_in(place).map(|(_, message)| message.kind));
            assert_eq!(hall.excess() - excess, if place == line { 5 } else { 0 });
        }
    }
    assert_eq!((hall.standing(), hall.all_excess()), (0, 5));
    // Nobody counts them twice, and those of the second session are its own.
    turns.begin();
    let mut points = vec![];
    while let Some((client, message)) = turns.call() {
        let settings = (message.kind == Kind::Syn).then(|| Settings::default().to_raw());
        points.push(hear(&mut hall, at(2_001), peer(client), message, settings));
        assert_eq!(ends(&mut hall), []);
        turns.charge(1);
    }
    assert_eq!(points, [&[None; 6][..], &[Some(Point::T1); 2]].concat());
    assert_eq!((hall.standing(), hall.all_excess()), (1, 5));
    let of_second = hall.totals_at(hall.line(peer(0), None).unwrap()).unwrap();
    assert_eq!(of_second.pings_received, 2);
}

#[test]
fn whoever_is_alone_has_all_of_the_server() {
    let (outcomes, _) = simulate(&[Pace::Poisson(0.9 * CAPACITY)], 0, None, 21);
    assert!(outcomes[0].loses_nothing());
    // What is too much the ring drops, which takes none of the server's time.
    let (outcomes, _) = simulate(&[Pace::Poisson(3.0 * CAPACITY)], 0, None, 22);
    let all = TIME / (ANSWER + READ);
    assert!(outcomes[0].answered() * 100 >= 99 * all && outcomes[0].excess == 0, "{} of {all}", outcomes[0].answered());
}
