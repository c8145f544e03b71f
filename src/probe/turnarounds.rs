//! What the side that pongs tells of its stamps: in each pong its process's, and the kernel's or the card's of an earlier one.
//!
//! No clock and no socket: stamps come in, bodies of pongs come out. Nothing is allocated after the start.

use crate::clock::{Realtime, Source, Stamp, Time};
use crate::record::{Sighting, Sources, StampCounts};
use crate::wire::InBand;
use crate::wire::in_band::{Earlier, FarSource};
use std::collections::VecDeque;

/// How many pongs may wait for their transmit stamps at once: 100,000 a second for 160 ms.
const PONGS: usize = 1 << 14;
/// How many pairs may wait for a pong that takes them along. They come in bursts, when the error queue is looked into.
const PAIRS: usize = 1 << 12;
/// Where every pong takes a pair along and every pong makes one, pairs that once waited wait for ever, and all that is told is
/// so much older. Up to so many may.
const BEHIND: usize = 8;
/// How many pairs wait all the time is known after so many pongs …
const WATCHED_PONGS: u32 = 64;
/// … and so many ns: bursts that are worked off come and go faster.
const WATCHED_NANOS: u64 = 100_000_000;
/// No ping has it: it is a dummy's.
const VACANT: u64 = u64::MAX;

/// A pong that waits for its transmit stamp.
#[derive(Debug, Clone, Copy)]
struct Pong {
    sequence: u64,
    /// When it was handed over: with the sequence this is its name.
    application: Time<Realtime>,
    t1: Stamp,
}

/// Nothing waits here.
const NO_PONG: Pong =
    Pong { sequence: VACANT, application: Time::from_nanos(0), t1: Stamp::System(Time::from_nanos(0)) };

/// Pairs of stamps on their way to the side that pings.
#[derive(Debug)]
pub struct Turnarounds {
    source: FarSource,
    /// The newest pong of each `sequence mod` their number; none where the process stamps.
    pongs: Box<[Pong]>,
    /// Oldest first.
    pairs: VecDeque<Earlier>,
    watch: Watch,
}

/// The fewest pairs that waited behind a pong, of so many pongs since some moment.
#[derive(Debug, Clone, Copy)]
struct Watch {
    since: Time<Realtime>,
    pongs: u32,
    fewest: usize,
}

impl Watch {
    const fn new() -> Self {
        Self { since: Time::from_nanos(0), pongs: 0, fewest: usize::MAX }
    }
}

impl Turnarounds {
    /// For a side whose stamps these are. Where its stamps of what comes and of what goes are not of one source, or it has none
    /// but its process's, it tells those of its process.
    pub fn new(sources: Sources) -> Self {
        let source = match (sources.received, sources.sent) {
            (Source::Hardware, Source::Hardware) => FarSource::Hardware,
            (Source::Software, Source::Software) => FarSource::Software,
            _ => FarSource::Application,
        };
        let (pongs, pairs) = match source {
            FarSource::Application => (0, 0),
            FarSource::Software | FarSource::Hardware => (PONGS, PAIRS),
        };
        Self {
            source,
            pongs: vec![NO_PONG; pongs].into_boxed_slice(),
            pairs: VecDeque::with_capacity(pairs),
            watch: Watch::new(),
        }
    }

    /// Forgets everything, for the next session.
    pub fn clear(&mut self) {
        self.pongs.fill(NO_PONG);
        self.pairs.clear();
        self.watch = Watch::new();
    }

    /// What the pong to a ping that the process read at `t1` is to tell, but for t2.
    pub fn tell(&mut self, t1: Time<Realtime>, counts: &mut StampCounts) -> InBand {
        let earlier = self.pairs.pop_front();
        counts.told += u64::from(earlier.is_some());
        self.catch_up(t1, counts);
        InBand { source: self.source, t1: Some(t1.as_nanos()), t2: None, earlier }
    }

    /// Leaves out the oldest pairs where so many have been waiting all the time: then what is told is new again.
    fn catch_up(&mut self, now: Time<Realtime>, counts: &mut StampCounts) {
        let Watch { since, pongs, fewest } = &mut self.watch;
        if *pongs == 0 {
            *since = now;
        }
        *fewest = self.pairs.len().min(*fewest);
        *pongs += 1;
        if *pongs < WATCHED_PONGS || now.as_nanos().abs_diff(since.as_nanos()) < WATCHED_NANOS {
            return;
        }
        if *fewest > BEHIND {
            counts.untold += *fewest as u64;
            self.pairs.drain(..*fewest);
        }
        self.watch = Watch::new();
    }

    /// A pong was handed over, to a ping whose stamp of the chosen source is `t1`, if it has one.
    pub fn sent(&mut self, sequence: u64, t1: Option<Stamp>, application: Time<Realtime>, counts: &mut StampCounts) {
        let (Some(slot), Some(t1)) = (self.slot(sequence), t1) else { return };
        counts.untold += u64::from(self.pongs[slot].sequence != VACANT);
        self.pongs[slot] = Pong { sequence, application, t1 };
    }

    /// All stamps of a pong are there, or will not come.
    pub fn left(&mut self, sighting: &Sighting, t2: Option<Stamp>, counts: &mut StampCounts) {
        let Some(slot) = self.slot(sighting.sequence) else { return };
        let Pong { sequence, application, t1 } = self.pongs[slot];
        // Of a ping that came twice the second pong has taken the first one's place.
        if (sequence, application) != (sighting.sequence, sighting.application) {
            return;
        }
        self.pongs[slot] = NO_PONG;
        let Some(t2) = t2.filter(|t2| t2.nanos_since(t1).is_some()) else { return };
        if self.pairs.len() == PAIRS {
            // The newest are those that somebody may still wait for.
            self.pairs.pop_front();
            counts.untold += 1;
        }
        let (t1, t2) = (t1.as_nanos(), t2.as_nanos());
        self.pairs.push_back(Earlier { sequence, pong: application.as_nanos(), t1, t2 });
    }

    fn slot(&self, sequence: u64) -> Option<usize> {
        let none = self.pongs.is_empty() || sequence == VACANT;
        (!none).then(|| (sequence % self.pongs.len() as u64) as usize)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::wire::Point;

    const CARD: Sources = Sources { sent: Source::Hardware, received: Source::Hardware };

    fn card(nanos: u64) -> Option<Stamp> {
        Some(Stamp::Card(Time::from_nanos(nanos)))
    }

    fn pong(sequence: u64, application: u64) -> Sighting {
        Sighting {
            sequence,
            point: Point::T2,
            size: 100,
            queue: None,
            application: Time::from_nanos(application),
            software: None,
            hardware: None,
        }
    }

    /// Pairs that come out, with the counts of those told and untold.
    fn told(turnarounds: &mut Turnarounds, counts: &mut StampCounts) -> Vec<(u64, u64, u64, u64)> {
        let pairs = std::iter::from_fn(|| turnarounds.tell(Time::from_nanos(0), counts).earlier);
        pairs.map(|Earlier { sequence, pong, t1, t2 }| (sequence, pong, t1, t2)).collect()
    }

    #[test]
    fn a_pair_goes_out_once_it_is_whole_and_each_once() {
        let (mut turnarounds, mut counts) = (Turnarounds::new(CARD), StampCounts::default());
        let first = turnarounds.tell(Time::from_nanos(77), &mut counts);
        assert_eq!(first, InBand { source: FarSource::Hardware, t1: Some(77), t2: None, earlier: None });
        for sequence in 1..=4 {
            turnarounds.sent(sequence, card(10 * sequence), Time::from_nanos(100 + sequence), &mut counts);
        }
        // In another order; without a stamp; of another clock; of a pong that nobody sent.
        turnarounds.left(&pong(2, 102), card(25), &mut counts);
        turnarounds.left(&pong(1, 101), card(17), &mut counts);
        turnarounds.left(&pong(3, 103), None, &mut counts);
        turnarounds.left(&pong(4, 104), Some(Stamp::System(Time::from_nanos(48))), &mut counts);
        turnarounds.left(&pong(5, 105), card(1), &mut counts);
        turnarounds.left(&pong(u64::MAX, 0), card(1), &mut counts);
        assert_eq!(told(&mut turnarounds, &mut counts), [(2, 102, 20, 25), (1, 101, 10, 17)]);
        assert_eq!((counts.told, counts.untold), (2, 0));
    }

    #[test]
    fn of_a_ping_that_came_twice_each_pong_keeps_its_own_stamps() {
        let (mut turnarounds, mut counts) = (Turnarounds::new(CARD), StampCounts::default());
        turnarounds.sent(1, card(10), Time::from_nanos(100), &mut counts);
        turnarounds.left(&pong(1, 100), card(11), &mut counts);
        turnarounds.sent(1, card(20), Time::from_nanos(200), &mut counts);
        turnarounds.sent(1, card(30), Time::from_nanos(300), &mut counts);
        // The second one's place was taken.
        turnarounds.left(&pong(1, 200), card(22), &mut counts);
        turnarounds.left(&pong(1, 300), card(33), &mut counts);
        assert_eq!(told(&mut turnarounds, &mut counts), [(1, 100, 10, 11), (1, 300, 30, 33)]);
        assert_eq!((counts.told, counts.untold), (2, 1));
    }

    #[test]
    fn what_nobody_takes_along_is_forgotten_and_counted() {
        let (mut turnarounds, mut counts) = (Turnarounds::new(CARD), StampCounts::default());
        let pairs = PAIRS as u64;
        for sequence in 1..=pairs + 3 {
            turnarounds.sent(sequence, card(1), Time::from_nanos(sequence), &mut counts);
            turnarounds.left(&pong(sequence, sequence), card(2), &mut counts);
        }
        assert_eq!(counts.untold, 3);
        let sequences: Vec<u64> = told(&mut turnarounds, &mut counts).iter().map(|pair| pair.0).collect();
        assert_eq!(sequences, (4..=pairs + 3).collect::<Vec<_>>());
        turnarounds.sent(9, card(1), Time::from_nanos(9), &mut counts);
        turnarounds.clear();
        turnarounds.left(&pong(9, 9), card(2), &mut counts);
        assert_eq!(told(&mut turnarounds, &mut counts), []);
    }

    /// A pong every `every` ns whose stamp is known before the next one; those before `stalled` have theirs only then. What the
    /// last one tells of, and the counts.
    fn pong_steadily(every: u64, stalled: u64, pongs: u64) -> (Option<u64>, StampCounts) {
        let (mut turnarounds, mut counts) = (Turnarounds::new(CARD), StampCounts::default());
        let mut told = None;
        for sequence in 1..=pongs {
            let now = 5_000_000_000 + sequence * every;
            told = turnarounds.tell(Time::from_nanos(now), &mut counts).earlier.map(|earlier| earlier.sequence);
            turnarounds.sent(sequence, card(now), Time::from_nanos(now), &mut counts);
            let known = if sequence < stalled {
                0..0
            } else if sequence == stalled {
                1..sequence + 1
            } else {
                sequence..sequence + 1
            };
            for sequence in known {
                turnarounds.left(&pong(sequence, 5_000_000_000 + sequence * every), card(1 << 50), &mut counts);
            }
        }
        (told, counts)
    }

    #[test]
    fn what_is_told_is_new_again_soon_after_a_stall() {
        for every in [10_000, 1_000_000, 100_000_000] {
            // Nobody told anything during the stall, and 49 pairs would wait for ever.
            let (told, counts) = pong_steadily(every, 50, 30_000);
            assert_eq!((told, counts.untold), (Some(29_999), 49), "every {every} ns");
            assert_eq!(counts.told + counts.untold, 29_999);
            // A few may.
            let (told, counts) = pong_steadily(every, 9, 30_000);
            assert_eq!((told, counts.untold), (Some(29_991), 0), "every {every} ns");
        }
    }

    #[test]
    fn pairs_that_come_in_bursts_are_all_told() {
        let (mut turnarounds, mut counts) = (Turnarounds::new(CARD), StampCounts::default());
        for burst in 0..50 {
            for at in 1..=1000 {
                let sequence = burst * 1000 + at;
                let now = Time::from_nanos(5_000_000_000 + sequence * 10_000);
                turnarounds.tell(now, &mut counts);
                turnarounds.sent(sequence, card(1), Time::from_nanos(sequence), &mut counts);
            }
            for sequence in burst * 1000 + 1..=burst * 1000 + 1000 {
                turnarounds.left(&pong(sequence, sequence), card(2), &mut counts);
            }
        }
        assert_eq!((counts.told, counts.untold), (49_000, 0));
    }

    #[test]
    fn stamps_of_two_sources_are_no_pair_and_the_process_tells_its_own() {
        for sent in [Source::Application, Source::Software] {
            let sources = Sources { sent, received: Source::Hardware };
            let (mut turnarounds, mut counts) = (Turnarounds::new(sources), StampCounts::default());
            turnarounds.sent(1, card(1), Time::from_nanos(1), &mut counts);
            turnarounds.left(&pong(1, 1), card(2), &mut counts);
            let told = turnarounds.tell(Time::from_nanos(5), &mut counts);
            assert_eq!(told, InBand { t1: Some(5), ..InBand::default() });
            assert_eq!(told.source, FarSource::Application);
        }
    }
}
