//! When the hot loop has nothing to do, as the rows that it hands over tell.
//!
//! Pings at a steady rate leave most of each slot empty: a ping at 10,000 a second is away and answered in the first tenth of its
//! 100 µs. Who must take the CPU from the hot loop, on a machine with no other, does it in the rest, and no ping is late for it.
//! Times come in and go out; nobody here looks at a clock.

use super::sighting::Sighting;
use crate::clock::{Realtime, Time};
use crate::wire::Point;
use std::time::Duration;

/// Sightings that are remembered: those of 64 slots where a ping is answered.
const REMEMBERED: usize = 128;
/// Fewer slots than this tell nothing.
const FEWEST_SLOTS: usize = 16;
/// Into so many parts a slot is cut.
const PARTS: usize = 64;
/// As many sightings of all that are remembered, as a share of one, may lie in a lull: some always come late.
const STRAYS: usize = 32;
/// A shorter lull is not worth waiting for: the change from one thread to another and back takes a third of it.
const SHORTEST: Duration = Duration::from_micros(40);
/// Of a longer slot hardly any part is used, and a lull may be too long in coming.
const LONGEST_SLOT: Duration = Duration::from_millis(16);
/// How long after the last that happened in a slot the lull is taken to begin: the other side of the session, if it is on this
/// machine, has its answer by then.
const BEFORE: Duration = Duration::from_micros(4);
/// What begins so soon has begun, for a thread that would have to be woken once more for it.
const AT_ONCE: Duration = Duration::from_micros(10);
/// How long before the next ping the lull ends: the time to go, and for the hot loop to find its caches cold.
const AFTER: Duration = Duration::from_micros(15);

/// The part of each slot in which nothing happens.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) struct Lull {
    /// Some ping.
    reference: Time<Realtime>,
    /// Nanoseconds from one ping to the next.
    period: f64,
    /// Nanoseconds from a ping to where the lull begins.
    begin: f64,
    /// Nanoseconds that it lasts.
    length: f64,
}

impl Lull {
    /// When the first one begins that begins at `at` or later.
    pub(super) fn after(&self, at: Time<Realtime>) -> Time<Realtime> {
        let elapsed = at.nanos_since(self.reference) as f64 - self.begin;
        at.plus_nanos(((elapsed / self.period).ceil() * self.period - elapsed) as u64)
    }

    /// How much is left of the one that `at` lies in, or that begins at once; none if it lies in none.
    pub(super) fn left(&self, at: Time<Realtime>) -> Duration {
        let soon = AT_ONCE.as_nanos() as f64;
        let elapsed = at.nanos_since(self.reference) as f64 - self.begin + soon;
        let phase = elapsed - (elapsed / self.period).floor() * self.period;
        Duration::from_nanos((self.length + soon - phase).max(0.0) as u64)
    }
}

/// What the newest sightings were and when.
#[derive(Debug)]
pub(super) struct Rhythm {
    seen: [(Time<Realtime>, Point); REMEMBERED],
    /// How many there were in all.
    count: usize,
}

impl Rhythm {
    pub(super) const fn new() -> Self {
        Self { seen: [(Time::from_nanos(0), Point::T0); REMEMBERED], count: 0 }
    }

    pub(super) const fn note(&mut self, sighting: &Sighting) {
        self.seen[self.count % REMEMBERED] = (sighting.application, sighting.point);
        self.count += 1;
    }

    /// Forgets everything: another session has another rhythm.
    pub(super) const fn clear(&mut self) {
        self.count = 0;
    }

    /// `None` where no steady rate leaves room for one.
    pub(super) fn lull(&self) -> Option<Lull> {
        let known = self.count.min(REMEMBERED);
        let oldest_first = (self.count - known..self.count).map(|index| self.seen[index % REMEMBERED]);
        let marks = |is_mark: fn(Point) -> bool| {
            let mut marks = [Time::from_nanos(0); REMEMBERED];
            let mut count = 0;
            for (time, _) in oldest_first.clone().filter(|(_, point)| is_mark(*point)) {
                marks[count] = time;
                count += 1;
            }
            (marks, count)
        };
        // A side's own pings go by its own plan; those of the other come as the network lets them.
        let (marks, count) = Some(marks(|point| point.is_sending() && point.is_ping()))
            .filter(|(_, count)| *count >= FEWEST_SLOTS)
            .unwrap_or_else(|| marks(Point::is_ping));
        let marks = &marks[..count];
        let period = period(marks)?;
        let reference = *marks.last()?;
        let mut parts = [0_usize; PARTS];
        for (time, _) in oldest_first {
            let slots = time.nanos_since(reference) as f64 / period;
            let part = (slots - slots.floor()) * PARTS as f64;
            parts[(part as usize).min(PARTS - 1)] += 1;
        }
        let (first, length) = emptiest(&parts, known / STRAYS);
        let part = period / PARTS as f64;
        let [before, after] = [BEFORE, AFTER].map(|margin| margin.as_nanos() as f64);
        let length = (length as f64).mul_add(part, -before - after);
        (length >= SHORTEST.as_nanos() as f64).then(|| Lull {
            reference,
            period,
            begin: (first as f64).mul_add(part, before),
            length,
        })
    }
}

/// Nanoseconds from one ping to the next, where they come at a steady rate. One that is late, or left out, changes nothing.
fn period(marks: &[Time<Realtime>]) -> Option<f64> {
    if marks.len() < FEWEST_SLOTS {
        return None;
    }
    let mut buffer = [0.0; REMEMBERED];
    let about = median(&mut buffer, marks.windows(2).map(|pair| pair[1].nanos_since(pair[0]) as f64));
    if !(1.0..=LONGEST_SLOT.as_nanos() as f64).contains(&about) {
        return None;
    }
    let half = marks.len() / 2;
    let over_many = marks.iter().zip(&marks[half..]).map(|(early, late)| {
        let between = late.nanos_since(*early) as f64;
        between / (between / about).round().max(1.0)
    });
    Some(median(&mut buffer, over_many))
}

fn median(buffer: &mut [f64; REMEMBERED], values: impl Iterator<Item = f64>) -> f64 {
    let mut count = 0;
    for (place, value) in buffer.iter_mut().zip(values) {
        *place = value;
        count += 1;
    }
    let middle = count / 2;
    *buffer[..count].select_nth_unstable_by(middle, f64::total_cmp).1
}

/// The longest run of parts, round the end, in which not more than `strays` are: where it begins, and of how many parts it is.
fn emptiest(parts: &[usize; PARTS], strays: usize) -> (usize, usize) {
    let (mut best, mut begin, mut within) = ((0, 0), 0, 0);
    for end in 0..2 * PARTS {
        within += parts[end % PARTS];
        while within > strays || end + 1 - begin > PARTS {
            within -= parts[begin % PARTS];
            begin += 1;
        }
        let length = end + 1 - begin;
        if length > best.1 {
            best = (begin % PARTS, length);
        }
    }
    best
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const START: u64 = 1_800_000_000_000_000_000;
    const MICRO: u64 = 1000;

    fn rhythm(seen: impl IntoIterator<Item = (u64, Point)>) -> Rhythm {
        let mut rhythm = Rhythm::new();
        for (nanos, point) in seen {
            rhythm.note(&Sighting::of_test(1, point, START + nanos));
        }
        rhythm
    }

    /// Pings every `period` that are answered after so many nanoseconds.
    fn answered(period: u64, slots: impl IntoIterator<Item = u64>, rtt: impl Fn(u64) -> u64) -> Rhythm {
        rhythm(slots.into_iter().flat_map(|slot| [(slot * period, Point::T0), (slot * period + rtt(slot), Point::T3)]))
    }

    /// Where in a slot of that length a time is.
    fn phase(at: Time<Realtime>, period: u64) -> u64 {
        (at.as_nanos() - START) % period
    }

    #[test]
    fn the_lull_lies_between_a_pong_and_the_next_ping() {
        let lull = answered(100 * MICRO, 0..64, |_| 8 * MICRO).lull().unwrap();
        for ahead in [0, 1, 4000, 31_999] {
            let at = Time::from_nanos(START + 6_400 * MICRO + ahead * MICRO);
            let begin = lull.after(at);
            assert!(begin >= at && begin.duration_since(at) < Duration::from_micros(101), "{begin:?}");
            // The pong is in the part of the slot from 7.8 to 9.4 µs.
            assert!((13 * MICRO..14 * MICRO).contains(&phase(begin, 100 * MICRO)), "{}", phase(begin, 100 * MICRO));
            assert_eq!(lull.left(begin).as_micros(), 71);
        }
    }

    #[test]
    fn what_is_left_of_a_lull_ends_before_the_next_ping() {
        let lull = answered(100 * MICRO, 0..64, |_| 8 * MICRO).lull().unwrap();
        let left = |phase: u64| lull.left(Time::from_nanos(START + 12_300 * MICRO + phase * MICRO)).as_micros();
        assert_eq!([left(1), left(50), left(80), left(90), left(99)], [0, 35, 5, 0, 0]);
    }

    #[test]
    fn a_pong_that_is_late_and_a_slot_that_is_left_out_change_nothing() {
        let steady = answered(100 * MICRO, 0..64, |_| 8 * MICRO).lull().unwrap();
        let slots = (0..67).filter(|slot| ![20, 40, 41].contains(slot));
        let rtt = |slot| if slot % 25 == 0 { 60 * MICRO } else { 8 * MICRO };
        let other = answered(100 * MICRO, slots, rtt).lull().unwrap();
        let at = Time::from_nanos(START + 20_000 * MICRO);
        assert_eq!(phase(other.after(at), 100 * MICRO), phase(steady.after(at), 100 * MICRO));
        assert_eq!(other.length, steady.length);
    }

    #[test]
    fn an_answer_that_takes_half_a_slot_leaves_the_larger_part() {
        let lull = answered(200 * MICRO, 0..64, |_| 70 * MICRO).lull().unwrap();
        let begin = phase(lull.after(Time::from_nanos(START + 20_000 * MICRO)), 200 * MICRO);
        assert!((74 * MICRO..80 * MICRO).contains(&begin), "{begin}");
    }

    #[test]
    fn a_server_learns_the_rate_of_others_and_a_side_with_pings_of_its_own_goes_by_those() {
        let slots = 0..64_u64;
        let wander = |slot: u64| slot * 7 % 5 * 400;
        let server = rhythm(slots.clone().flat_map(|slot| {
            let at = slot * 100 * MICRO + wander(slot);
            [(at, Point::T1), (at + 300, Point::T2)]
        }));
        assert!(server.lull().is_some_and(|lull| (lull.period - 100_000.0).abs() < 20.0), "{:?}", server.lull());
        // Both ping, at other rates: nothing is where it was a slot ago.
        let both =
            rhythm(slots.flat_map(|slot| [(slot * 100 * MICRO, Point::T0cs), (slot * 137 * MICRO, Point::T1sc)]));
        assert_eq!(both.lull(), None);
    }

    #[test]
    fn there_is_none_where_pings_come_by_chance_too_fast_too_seldom_or_are_few() {
        let (mut at, mut chance) = (0, 1_u64);
        let by_chance = (0..64).map(|_| {
            chance = chance.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            at += (chance >> 33) % (200 * MICRO);
            (at, Point::T1)
        });
        assert_eq!(rhythm(by_chance).lull(), None);
        assert_eq!(answered(40 * MICRO, 0..64, |_| 8 * MICRO).lull(), None);
        assert_eq!(answered(20_000 * MICRO, 0..64, |_| 8 * MICRO).lull(), None);
        assert_eq!(answered(100 * MICRO, 0..15, |_| 8 * MICRO).lull(), None);
        let mut left = answered(100 * MICRO, 0..64, |_| 8 * MICRO);
        left.clear();
        assert_eq!(left.lull(), None);
    }

    proptest! {
        #[test]
        fn whatever_was_seen_the_next_lull_is_within_a_slot_and_not_before_it_is_asked_for(
            times in proptest::collection::vec(0..100_000_000_u64, 0..300),
            at in 0..200_000_000_u64,
        ) {
            let sorted = { let mut times = times.clone(); times.sort_unstable(); times };
            for times in [times, sorted] {
                let Some(lull) = rhythm(times.into_iter().map(|time| (time, Point::T1))).lull() else { continue };
                let at = Time::from_nanos(START + at);
                let begin = lull.after(at);
                prop_assert!(begin >= at && begin.duration_since(at) <= LONGEST_SLOT);
                prop_assert!(lull.left(begin) >= SHORTEST - Duration::from_nanos(1));
                prop_assert!(lull.left(at) <= LONGEST_SLOT);
            }
        }
    }
}
