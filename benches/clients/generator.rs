//! Many clients in one thread: their handshakes, pings in turn at one rate in all, a flood by one of them, and their ends.
//!
//! All share one AF_XDP socket, one address and one frame; a client is a source port. So what a ping costs here does not depend
//! on how many clients there are: ping k of a run is client k mod N's, and what is remembered of it lies beside ping k - 1's.

use crate::namespace::{End, Namespace};
use crate::rings::Rings;
use anyhow::{Context, Result, ensure};
use nix::sched::{CpuSet, sched_setaffinity};
use nix::unistd::Pid;
use std::net::SocketAddrV4;
use std::time::Duration;
use xdprobe::clock::{Monotonic, Time, monotonic_now};
use xdprobe::session::Settings;
use xdprobe::wire::frame::{Flow, LinkHeader, Template, parse, write_control};
use xdprobe::wire::{Kind, Message};

/// The source port of the first client; the others' follow.
const FIRST_PORT: u16 = 20_000;
/// The port of the server.
const SERVER_PORT: u16 = 10_666;
/// Bytes of a ping of 44 bytes with its Ethernet header.
const FRAME: usize = 58;
/// Where in it the source port is, the UDP checksum, and the sequence.
const PORT: std::ops::Range<usize> = 34..36;
const CHECKSUM: std::ops::Range<usize> = 40..42;
const SEQUENCE: std::ops::Range<usize> = 42..50;
/// What is late by less is sent all the same.
const LATE: Duration = Duration::from_micros(50);
/// Pings that are sent with one wake-up of the kernel, and a flood's: few, so that pongs are looked at in between.
const BATCH: u64 = 32;
const FLOOD_BATCH: u64 = 8;
/// How long late answers are waited for.
const AFTER: Duration = Duration::from_millis(50);
/// Control messages that are under way at once, how long an answer may take, and how often they are sent.
const WINDOW: usize = 64;
const ANSWERED: Duration = Duration::from_millis(200);
const TRIES: u32 = 25;

/// What is to be sent.
#[derive(Debug, Clone, Copy)]
pub struct Traffic {
    /// Pings a second of all clients together.
    pub rate: u32,
    /// Pings a second of the one that floods, which is the client behind the others; `None` where all ping in turn.
    pub flood: Option<u32>,
    /// For how long.
    pub time: Duration,
}

/// What it came to.
#[derive(Debug, Default)]
pub struct Outcome {
    /// t3 − t0 of every ping of the others that was answered, in ns, sorted.
    pub round_trips: Vec<i64>,
    /// Pings that left, and the slots that were over before one could.
    pub pings: u64,
    pub skipped: u64,
    /// Pings of the one that floods, and the pongs to them.
    pub flood: u64,
    pub flood_pongs: u64,
}

impl Outcome {
    pub fn lost(&self) -> u64 {
        self.pings - self.round_trips.len() as u64
    }
}

/// The socket that all clients share.
pub struct Generator<'a> {
    namespace: &'a Namespace,
    cpu: usize,
    rings: Rings,
    /// From nobody's port to the server's.
    flow: Flow,
}

impl<'a> Generator<'a> {
    pub fn open(namespace: &'a Namespace, end: End, cpu: usize, server: (&Namespace, End)) -> Result<Self> {
        let (of_server, server) = server;
        let mac = |namespace: &Namespace, end: End| namespace.run(|| xdprobe::net::interface(end.interface));
        let link = LinkHeader::new(mac(of_server, server)?.mac, mac(namespace, end)?.mac);
        let flow = Flow {
            link,
            source: SocketAddrV4::new(end.address, 0),
            destination: SocketAddrV4::new(server.address, SERVER_PORT),
        };
        let rings = namespace.run(|| Rings::open(end.interface))?;
        Ok(Self { namespace, cpu, rings, flow })
    }

    /// So many clients, each with a session.
    pub fn connect(&mut self, clients: u16) -> Result<Crowd<'_, 'a>> {
        let body = Settings::default().to_raw().to_bytes();
        let mut crowd = Crowd { generator: self, clients, sequence: 0, flood_sequence: 0 };
        crowd.ask_all(Kind::Syn, Kind::SynAck, &body).context("the handshakes")?;
        Ok(crowd)
    }
}

/// Clients that have a session each.
pub struct Crowd<'a, 'b> {
    generator: &'a mut Generator<'b>,
    clients: u16,
    /// The last that was used of any client, and by the one that floods.
    sequence: u64,
    flood_sequence: u64,
}

impl Crowd<'_, '_> {
    /// Sends for a while; all clients but the last one ping in turn where that one floods.
    pub fn run(&mut self, traffic: Traffic) -> Result<Outcome> {
        let Generator { namespace, cpu, rings, flow } = &mut *self.generator;
        let polite = u64::from(self.clients) - u64::from(traffic.flood.is_some());
        let most = u64::from(traffic.rate) * traffic.time.as_nanos() as u64 / 1_000_000_000;
        // Touched before the first ping.
        let mut round_trips = vec![i64::MAX; most as usize];
        round_trips.clear();
        let mut running = Running {
            rings,
            ping: Ping::new(flow),
            start: monotonic_now(),
            traffic,
            most,
            polite,
            first: self.sequence,
            flood_first: self.flood_sequence,
            sent: vec![Time::from_nanos(u64::MAX); most as usize],
            slots: 0,
            flood_slots: 0,
            outcome: Outcome { round_trips, ..Outcome::default() },
        };
        let done: Result<Outcome> = namespace.run(|| {
            pinned(*cpu)?;
            running.run()?;
            Ok(running.outcome)
        });
        let mut outcome = done?;
        outcome.round_trips.sort_unstable();
        self.sequence += outcome.pings.div_ceil(polite);
        self.flood_sequence += outcome.flood;
        Ok(outcome)
    }

    /// Ends all sessions; returns how many FINs had to be sent again: no more than these were dropped on the way.
    pub fn finish(mut self) -> Result<u64> {
        self.ask_all(Kind::Fin, Kind::FinAck, &[]).context("the ends of the sessions")
    }

    /// Sends a control message of each client until it has its answer; returns how many were sent again.
    fn ask_all(&mut self, question: Kind, answer: Kind, body: &[u8]) -> Result<u64> {
        let mut again = 0;
        let sequence = if question == Kind::Syn { 0 } else { self.sequence.max(self.flood_sequence) + 1 };
        let Generator { rings, flow, .. } = &mut *self.generator;
        let mut open: Vec<u16> = (0..self.clients).collect();
        for _ in 0..TRIES {
            for window in open.clone().chunks(WINDOW) {
                for client in window {
                    let mut frame = [0; 128];
                    let source = SocketAddrV4::new(*flow.source.ip(), FIRST_PORT + client);
                    let flow = Flow { source, ..*flow };
                    let len = write_control(&flow, Message { kind: question, sequence }, body, &mut frame);
                    ensure!(rings.send(&frame[..len]), "no frame is free");
                }
                rings.wake()?;
                let end = monotonic_now().plus(ANSWERED);
                while monotonic_now() < end && window.iter().any(|client| open.binary_search(client).is_ok()) {
                    let mut refused = false;
                    rings.receive(|frame| {
                        if let Some((client, message)) = read(frame)
                            && let Ok(at) = open.binary_search(&client)
                        {
                            refused |= message.kind == Kind::SynRst;
                            if message.kind == answer {
                                open.remove(at);
                            }
                        }
                    })?;
                    ensure!(!refused, "the server refuses a client");
                    rings.reap();
                }
            }
            if open.is_empty() {
                return Ok(again);
            }
            again += open.len() as u64;
        }
        anyhow::bail!("{} of {} clients have no {answer:?}", open.len(), self.clients)
    }
}

/// A run under way.
struct Running<'a> {
    rings: &'a mut Rings,
    ping: Ping,
    start: Time<Monotonic>,
    traffic: Traffic,
    /// How many pings there will be at most.
    most: u64,
    /// How many clients ping in turn.
    polite: u64,
    /// The sequences that were used before.
    first: u64,
    flood_first: u64,
    /// When each ping left, in their order; the highest value once it was answered.
    sent: Vec<Time<Monotonic>>,
    /// Slots that are over.
    slots: u64,
    flood_slots: u64,
    outcome: Outcome,
}

impl Running<'_> {
    fn run(&mut self) -> Result<()> {
        self.start = monotonic_now();
        let end = self.start.plus(self.traffic.time);
        loop {
            let now = monotonic_now();
            let over = now >= end;
            if now >= end.plus(AFTER) {
                return Ok(());
            }
            if !over && (self.send_pings(now) | self.send_flood(now)) {
                self.rings.wake()?;
                self.rings.reap();
            }
            let Self { rings, sent, outcome, polite, first, flood_first, .. } = self;
            rings.receive(|frame| {
                let t3 = monotonic_now();
                let Some((client, Message { kind: Kind::Pong, sequence })) = read(frame) else { return };
                if u64::from(client) == *polite {
                    outcome.flood_pongs += u64::from(sequence > *flood_first);
                    return;
                }
                let number = sequence.checked_sub(*first + 1).map(|turn| turn * *polite + u64::from(client));
                let t0 = number.and_then(|number| sent.get_mut(usize::try_from(number).ok()?));
                // A second pong would be none of a ping.
                if let Some(t0) = t0.filter(|t0| t0.as_nanos() < u64::MAX) {
                    outcome.round_trips.push(t3.nanos_since(*t0));
                    *t0 = Time::from_nanos(u64::MAX);
                }
            })?;
        }
    }

    /// Puts the pings that are due into the ring; whether any were. A slot that is over is skipped, as the programs do.
    fn send_pings(&mut self, now: Time<Monotonic>) -> bool {
        let due = due(self.start, now, self.traffic.rate).min(self.most);
        let late = late(self.traffic.rate);
        let missed = (due - self.slots).saturating_sub(late);
        self.slots += missed;
        self.outcome.skipped += missed;
        let count = (due - self.slots).min(BATCH);
        for _ in 0..count {
            let number = self.outcome.pings;
            let client = (number % self.polite) as u16;
            self.ping.put(client, self.first + number / self.polite + 1);
            self.sent[number as usize] = monotonic_now();
            self.outcome.pings += u64::from(self.rings.send(&self.ping.frame));
        }
        self.slots += count;
        count > 0
    }

    fn send_flood(&mut self, now: Time<Monotonic>) -> bool {
        let Some(rate) = self.traffic.flood else { return false };
        let due = due(self.start, now, rate);
        self.flood_slots += (due - self.flood_slots).saturating_sub(late(rate));
        let count = (due - self.flood_slots).min(FLOOD_BATCH);
        for _ in 0..count {
            self.ping.put(self.polite as u16, self.flood_first + self.outcome.flood + 1);
            self.outcome.flood += u64::from(self.rings.send(&self.ping.frame));
        }
        self.flood_slots += count;
        count > 0
    }
}

/// How many slots of a rate have begun.
fn due(start: Time<Monotonic>, now: Time<Monotonic>, rate: u32) -> u64 {
    (now.duration_since(start).as_nanos() * u128::from(rate) / 1_000_000_000) as u64
}

/// How many slots may wait.
fn late(rate: u32) -> u64 {
    (LATE.as_nanos() as u64 * u64::from(rate) / 1_000_000_000).max(1)
}

/// The frame of all pings.
struct Ping {
    frame: [u8; FRAME],
    /// The sum of all that does not change (RFC 1071).
    sum: u32,
}

impl Ping {
    fn new(flow: &Flow) -> Self {
        let mut frame = [0; FRAME];
        // From port 0, with the sequence 0.
        Template::new(flow, Kind::Ping).write(&mut frame, 0, 0);
        let checksum = u16::from_be_bytes([frame[CHECKSUM.start], frame[CHECKSUM.start + 1]]);
        Self { frame, sum: u32::from(!checksum) }
    }

    #[inline]
    fn put(&mut self, client: u16, sequence: u64) {
        let (port, sequence) = ((FIRST_PORT + client).to_be_bytes(), sequence.to_le_bytes());
        let words: u32 = sequence.as_chunks::<2>().0.iter().map(|word| u32::from(u16::from_be_bytes(*word))).sum();
        let mut sum = self.sum + words + u32::from(u16::from_be_bytes(port));
        while sum > 0xffff {
            sum = (sum & 0xffff) + (sum >> 16);
        }
        // RFC 768: 0 would be none.
        let checksum = if sum == 0xffff { 0xffff } else { !(sum as u16) };
        self.frame[PORT].copy_from_slice(&port);
        self.frame[SEQUENCE].copy_from_slice(&sequence);
        self.frame[CHECKSUM].copy_from_slice(&checksum.to_be_bytes());
    }
}

/// Which client a frame is for, and what it says.
#[inline]
fn read(frame: &[u8]) -> Option<(u16, Message)> {
    let frame = parse(frame).ok()?;
    let client = frame.destination.port().checked_sub(FIRST_PORT)?;
    Some((client, Message::parse(frame.payload).ok()?.message))
}

fn pinned(cpu: usize) -> Result<()> {
    let mut cpus = CpuSet::new();
    cpus.set(cpu).and_then(|()| sched_setaffinity(Pid::from_raw(0), &cpus)).with_context(|| format!("CPU {cpu}"))
}
