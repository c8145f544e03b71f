//! Logs of a simulated session whose truth is known: delays, loss, duplicates, reordering, and two clocks apart.
#![allow(dead_code, reason = "each test binary uses its part")]

use std::fmt::Write as _;

/// Numbers that look like chance and come again with their seed (splitmix64).
#[derive(Debug, Clone)]
pub struct Random(pub u64);

impl Random {
    pub fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    /// From 0 to 1.
    pub fn share(&mut self) -> f64 {
        (self.next() >> 11) as f64 / (1_u64 << 53) as f64
    }

    pub fn happens(&mut self, probability: f64) -> bool {
        self.share() < probability
    }

    /// Exponentially distributed.
    pub fn exponential(&mut self, mean: f64) -> i64 {
        (-(1.0 - self.share()).ln() * mean) as i64
    }
}

/// What a session is like. Times in ns.
#[derive(Debug, Clone)]
pub struct World {
    pub seed: u64,
    pub pings: u64,
    pub interval: i64,
    /// Of the answering side's clock against that of the side that pings.
    pub skew_ppm: f64,
    pub offset: i64,
    /// The least delay of either way.
    pub delay: i64,
    /// The mean of what comes on top.
    pub jitter: f64,
    /// Shares of packets of each way.
    pub loss: [f64; 2],
    pub duplicates: [f64; 2],
    pub overtaken: [f64; 2],
}

/// When the first ping leaves, on the pinging side's clock.
pub const START: i64 = 1_795_310_352_262_492_632;
/// How long the other side takes to answer.
const TURNAROUND: i64 = 4_321;

/// What really happened.
#[derive(Debug, Default)]
pub struct Truth {
    pub sent: u64,
    pub received: u64,
    pub lost: [u64; 2],
    pub duplicated: u64,
    pub reordered: [u64; 2],
    /// Of every ping that was answered.
    pub rtt: Vec<i64>,
    /// Of every first arrival.
    pub one_way: [Vec<i64>; 2],
}

/// The logs of both sides, and the truth.
#[derive(Debug)]
pub struct Logs {
    pub pinging: String,
    pub echoing: String,
    pub truth: Truth,
}

/// One row: the true time at which it is written, its sequence, point and stamp.
type Event = (i64, u64, usize, i64);

impl World {
    /// What the answering side's clock shows at a time of the other one.
    pub fn other_clock(&self, at: i64) -> i64 {
        at + self.offset + ((at - START) as f64 * self.skew_ppm * 1e-6).round() as i64
    }

    /// Lets it happen.
    pub fn run(&self) -> Logs {
        let mut random = Random(self.seed);
        let mut sides: [Vec<Event>; 2] = Default::default();
        let mut delays: [Vec<(u64, i64, i64)>; 2] = Default::default();
        for sequence in 1..=self.pings {
            let t0 = START + (sequence as i64 - 1) * self.interval + random.exponential(500.0);
            sides[0].push((t0, sequence, 0, t0));
            for at in self.travel(&mut random, 0, t0) {
                delays[0].push((sequence, at, at - t0));
                sides[1].push((at, sequence, 1, self.other_clock(at)));
                let t2 = at + TURNAROUND;
                sides[1].push((t2, sequence, 2, self.other_clock(t2)));
                for back in self.travel(&mut random, 1, t2) {
                    delays[1].push((sequence, back, back - t2));
                    sides[0].push((back, sequence, 3, back));
                }
            }
        }
        sides.iter_mut().for_each(|side| side.sort_by_key(|event| event.0));
        let truth = truth(self.pings, &sides, delays);
        let [pinging, echoing] = sides.map(|mut side| {
            mix(&mut random, &mut side);
            text(&side)
        });
        Logs { pinging, echoing, truth }
    }

    /// When a packet arrives: never, once, or twice.
    fn travel(&self, random: &mut Random, way: usize, left: i64) -> Vec<i64> {
        if random.happens(self.loss[way]) {
            return Vec::new();
        }
        let mut at = left + self.delay + random.exponential(self.jitter);
        if random.happens(self.overtaken[way]) {
            at += 7 * self.interval / 2;
        }
        let mut arrivals = vec![at];
        if random.happens(self.duplicates[way]) {
            arrivals.push(at + 1 + random.exponential(self.jitter));
        }
        arrivals
    }
}

/// A row of sending may stand behind rows of receptions that came later.
fn mix(random: &mut Random, side: &mut [Event]) {
    for index in 1..side.len() {
        let is_sending = |event: Event| event.2.is_multiple_of(2);
        if is_sending(side[index - 1]) && !is_sending(side[index]) && random.happens(0.3) {
            side.swap(index - 1, index);
        }
    }
}

fn text(side: &[Event]) -> String {
    let mut text = String::from("seq,timestamp-idx,timestamp,size\n");
    for (_, sequence, point, stamp) in side {
        let (seconds, nanos) = (stamp / 1_000_000_000, stamp % 1_000_000_000);
        writeln!(text, "{sequence},t{point},{seconds}.{nanos:09},44").expect("memory takes everything");
    }
    text
}

/// By the definitions, from what happened; nothing of the program's is used.
fn truth(pings: u64, sides: &[Vec<Event>; 2], mut delays: [Vec<(u64, i64, i64)>; 2]) -> Truth {
    let mut truth = Truth { sent: pings, ..Truth::default() };
    // First stamps and counts of rows, by sequence.
    let mut first = vec![[None; 4]; pings as usize + 1];
    let mut rows = vec![[0_u64; 4]; pings as usize + 1];
    let mut late = [vec![false; pings as usize + 1], vec![false; pings as usize + 1]];
    for side in sides {
        let mut highest = 0;
        for (_, sequence, point, stamp) in side {
            let index = *sequence as usize;
            rows[index][*point] += 1;
            if first[index][*point].is_none() {
                first[index][*point] = Some(*stamp);
                if point % 2 == 1 {
                    late[point / 2][index] = *sequence < highest;
                    highest = highest.max(*sequence);
                }
            }
        }
    }
    for index in 1..=pings as usize {
        let [_, n1, n2, n3] = rows[index];
        truth.duplicated += n1.saturating_sub(1) + n3.saturating_sub(n2.max(1));
        truth.reordered[0] += u64::from(late[0][index]);
        truth.reordered[1] += u64::from(late[1][index] && !late[0][index]);
        match first[index] {
            [Some(t0), Some(t1), Some(t2), Some(t3)] => {
                truth.received += 1;
                truth.rtt.push((t3 - t0) - (t2 - t1));
            }
            [_, None, ..] => truth.lost[0] += 1,
            _ => truth.lost[1] += 1,
        }
    }
    truth.rtt.sort_unstable();
    for (way, delays) in delays.iter_mut().enumerate() {
        delays.sort_by_key(|(sequence, at, _)| (*sequence, *at));
        if way == 1 {
            // Of several pongs the first counts, with the stamp of the first that left: then it is no delay of one packet.
            delays.retain(|(sequence, ..)| rows[*sequence as usize][2] == 1);
        }
        delays.dedup_by_key(|(sequence, ..)| *sequence);
        truth.one_way[way] = delays.iter().map(|(.., delay)| *delay).collect();
        truth.one_way[way].sort_unstable();
    }
    truth
}

/// By nearest rank, of samples in ascending order.
pub fn nearest_rank(sorted: &[i64], per_10_000: usize) -> i64 {
    sorted[(sorted.len() * per_10_000).div_ceil(10_000).max(1) - 1]
}
