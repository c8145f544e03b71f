//! Which pings behind a PTP header are to be stamped: a card that stamps nothing else keeps one receive stamp at a time.

use super::Totals;
use crate::clock::{Monotonic, Time};
use crate::wire::ptp::Shape;
use std::num::NonZeroU32;
use std::time::Duration;

/// What lies between two stamped pings where `--stamp-every` is not given is more than this: under 1000 a second.
pub const STAMP_SPACING: Duration = Duration::from_millis(1);
/// How long a stamp is waited for where `--stamp-timeout` is not given.
pub const DEFAULT_STAMP_TIMEOUT: Duration = Duration::from_millis(100);

/// How a side chooses the pings to be stamped, where not all can be. Each side chooses among its own pings; a pong is
/// stamped if its ping was.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Sampling {
    /// Of the sequence 1 and every n-th after it; `None`: as many as [`STAMP_SPACING`] lets through.
    pub every: Option<NonZeroU32>,
    /// How long a stamped ping without its pong, or without its own transmit stamp, keeps the next one from being stamped.
    pub timeout: Duration,
    /// Transmit stamps come, and [`Machine::handle_transmit_stamp`](super::Machine::handle_transmit_stamp) tells of them: a
    /// card may have room for one only.
    pub awaits_stamp: bool,
}

impl Default for Sampling {
    fn default() -> Self {
        Self { every: None, timeout: DEFAULT_STAMP_TIMEOUT, awaits_stamp: false }
    }
}

/// Chooses, ping by ping. At most one stamped ping is under way at a time.
#[derive(Debug)]
pub(super) struct Sampler {
    sampling: Sampling,
    /// When the last stamped ping was sent.
    last: Option<Time<Monotonic>>,
    under_way: Option<UnderWay>,
    /// The last stamped pong whose own stamp is still to come, and from when on it is taken for lost.
    pong: Option<(u64, Time<Monotonic>)>,
}

/// A stamped ping whose stamp may still lie in the other side's card, or in this side's.
#[derive(Debug, Clone, Copy)]
struct UnderWay {
    sequence: u64,
    /// Its pong, which tells that the other side has read its stamp, is still to come.
    pong_due: bool,
    /// This side's own stamp of it is still to come.
    stamp_due: bool,
    /// Where no pong tells: from then on the other side is taken to have read it.
    since: Time<Monotonic>,
    /// From then on it is taken for lost.
    until: Time<Monotonic>,
}

impl UnderWay {
    fn is_over(&self, now: Time<Monotonic>) -> bool {
        now >= self.until || !(self.pong_due || self.stamp_due) && now >= self.since
    }
}

impl Sampler {
    /// A sampler before its first ping.
    pub(super) fn new(sampling: Sampling) -> Self {
        Self { sampling, last: None, under_way: None, pong: None }
    }

    /// The shape of the ping that is sent at `now`; `ponged` where it asks for a pong. Counts what is stamped, and what
    /// was not because an earlier one is under way.
    pub(super) fn shape(&mut self, now: Time<Monotonic>, sequence: u64, ponged: bool, totals: &mut Totals) -> Shape {
        if !self.is_candidate(now, sequence) {
            return Shape::Unstamped;
        }
        if self.under_way.is_some_and(|under_way| !under_way.is_over(now)) {
            totals.stamps_withheld += 1;
            return Shape::Unstamped;
        }
        let stamp_due = self.sampling.awaits_stamp;
        let since = if ponged { now } else { now.plus(STAMP_SPACING) };
        let until = if ponged || stamp_due { now.plus(self.sampling.timeout).max(since) } else { since };
        self.under_way = Some(UnderWay { sequence, pong_due: ponged, stamp_due, since, until });
        self.last = Some(now);
        totals.stamped_pings_sent += 1;
        Shape::Stamped
    }

    /// The shape of the pong to a ping of this shape: the same, unless this side's stamp of the last stamped pong may still lie
    /// in its card.
    pub(super) fn pong_shape(
        &mut self,
        now: Time<Monotonic>,
        sequence: u64,
        ping: Shape,
        totals: &mut Totals,
    ) -> Shape {
        if ping != Shape::Stamped {
            return ping;
        }
        if self.pong.is_some_and(|(_, until)| now < until) {
            totals.stamps_withheld += 1;
            return Shape::Unstamped;
        }
        if self.sampling.awaits_stamp {
            self.pong = Some((sequence, now.plus(self.sampling.timeout)));
        }
        Shape::Stamped
    }

    /// The stamped pong to a ping came: the other side has read the ping, and this side the pong.
    pub(super) fn answered(&mut self, sequence: u64) {
        if let Some(under_way) = self.of(sequence) {
            under_way.pong_due = false;
        }
    }

    /// This side's own stamp of a ping or pong is there, or was given up.
    pub(super) fn stamped(&mut self, sequence: u64) {
        if let Some(under_way) = self.of(sequence) {
            under_way.stamp_due = false;
        }
        self.pong.take_if(|(pong, _)| *pong == sequence);
    }

    fn of(&mut self, sequence: u64) -> Option<&mut UnderWay> {
        self.under_way.as_mut().filter(|under_way| under_way.sequence == sequence)
    }

    fn is_candidate(&self, now: Time<Monotonic>, sequence: u64) -> bool {
        match self.sampling.every {
            Some(every) => (sequence - 1).is_multiple_of(every.get().into()),
            None => self.last.is_none_or(|last| now > last.plus(STAMP_SPACING)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(micros: u64) -> Time<Monotonic> {
        Time::from_nanos(5_000_000_000 + micros * 1000)
    }

    #[test]
    fn where_stamps_come_later_the_own_one_is_awaited_too() {
        let awaits = Sampling { awaits_stamp: true, every: NonZeroU32::new(1), ..Sampling::default() };
        let mut totals = Totals::default();
        let mut shape =
            |sampler: &mut Sampler, micros, sequence| sampler.shape(at(micros), sequence, true, &mut totals);
        let mut sampler = Sampler::new(awaits);
        assert_eq!(shape(&mut sampler, 0, 1), Shape::Stamped);
        sampler.answered(1);
        assert_eq!(shape(&mut sampler, 10, 2), Shape::Unstamped, "its own stamp may still lie in the card");
        sampler.stamped(2);
        assert_eq!(shape(&mut sampler, 20, 3), Shape::Unstamped, "that was another's");
        sampler.stamped(1);
        assert_eq!(shape(&mut sampler, 30, 4), Shape::Stamped);
        sampler.stamped(4);
        assert_eq!(shape(&mut sampler, 40, 5), Shape::Unstamped, "its pong is still to come");
        assert_eq!(shape(&mut sampler, 100_030, 6), Shape::Stamped, "and is taken for lost");
    }

    #[test]
    fn a_pong_is_not_stamped_while_the_last_ones_stamp_may_lie_in_the_card() {
        let mut totals = Totals::default();
        let mut sampler = Sampler::new(Sampling { awaits_stamp: true, ..Sampling::default() });
        let mut pong =
            |sampler: &mut Sampler, micros, sequence, ping| sampler.pong_shape(at(micros), sequence, ping, &mut totals);
        assert_eq!(pong(&mut sampler, 0, 1, Shape::Stamped), Shape::Stamped);
        assert_eq!(pong(&mut sampler, 10, 2, Shape::Unstamped), Shape::Unstamped);
        assert_eq!(pong(&mut sampler, 20, 3, Shape::Stamped), Shape::Unstamped);
        sampler.stamped(1);
        assert_eq!(pong(&mut sampler, 30, 4, Shape::Stamped), Shape::Stamped);
        assert_eq!(pong(&mut sampler, 100_030, 5, Shape::Stamped), Shape::Stamped, "the one before is taken for lost");
        assert_eq!(totals.stamps_withheld, 1);
    }

    fn every(n: u32) -> Sampler {
        Sampler::new(Sampling { every: NonZeroU32::new(n), ..Sampling::default() })
    }

    /// Which of pings 1, 2, 3 … at these microseconds are stamped.
    fn stamped(sampler: &mut Sampler, times: &[u64], ponged: bool, totals: &mut Totals) -> Vec<u64> {
        let pings = (1..).zip(times);
        let stamped = pings.filter(|&(n, &time)| sampler.shape(at(time), n, ponged, totals) == Shape::Stamped);
        stamped.map(|(n, _)| n).collect()
    }

    #[test]
    fn without_a_number_a_stamped_ping_is_more_than_a_millisecond_behind_the_last() {
        let (mut sampler, mut totals) = (Sampler::new(Sampling::default()), Totals::default());
        let mut stamped = vec![];
        for n in 1..=2500 {
            // Every 100 µs, each answered at once.
            if sampler.shape(at(n * 100), n, true, &mut totals) == Shape::Stamped {
                stamped.push(n);
            }
            sampler.answered(n);
        }
        assert_eq!(stamped, (1..=2500).step_by(11).collect::<Vec<_>>());
        assert_eq!((totals.stamped_pings_sent, totals.stamps_withheld), (228, 0));
    }

    #[test]
    fn with_a_number_it_is_the_first_and_every_nth_after_it() {
        let (mut sampler, mut totals) = (every(3), Totals::default());
        assert_eq!(stamped(&mut sampler, &[0, 1000, 2000, 3000, 4000, 5000, 6000], false, &mut totals), [1, 4, 7]);
        let (mut sampler, mut totals) = (every(1), Totals::default());
        assert_eq!(stamped(&mut sampler, &[0, 1000, 2000], false, &mut totals), [1, 2, 3]);
        assert_eq!(totals.stamps_withheld, 0);
    }

    #[test]
    fn a_ping_under_way_withholds_the_next_until_its_pong_or_the_timeout() {
        let (mut sampler, mut totals) = (every(1), Totals::default());
        assert_eq!(stamped(&mut sampler, &[0, 10, 99_999], true, &mut totals), [1]);
        assert_eq!(totals.stamps_withheld, 2);
        // Another's pong is none of this one's.
        sampler.answered(2);
        assert_eq!(sampler.shape(at(99_999), 4, true, &mut totals), Shape::Unstamped);
        assert_eq!(sampler.shape(at(100_000), 5, true, &mut totals), Shape::Stamped);
        assert_eq!(sampler.shape(at(100_001), 6, true, &mut totals), Shape::Unstamped);
        sampler.answered(5);
        assert_eq!(sampler.shape(at(100_002), 7, true, &mut totals), Shape::Stamped);
        // The pong of one that was given up says nothing of the one under way.
        sampler.answered(5);
        assert_eq!(sampler.shape(at(100_003), 8, true, &mut totals), Shape::Unstamped);
        assert_eq!((totals.stamped_pings_sent, totals.stamps_withheld), (3, 5));
    }

    #[test]
    fn a_ping_without_a_pong_is_under_way_for_the_spacing() {
        let (mut sampler, mut totals) = (every(1), Totals::default());
        assert_eq!(stamped(&mut sampler, &[0, 999, 1000, 1500, 2000], false, &mut totals), [1, 3, 5]);
        assert_eq!(totals.stamps_withheld, 2);
    }

    #[test]
    fn a_lost_pong_withholds_whatever_the_spacing() {
        let (mut sampler, mut totals) = (Sampler::new(Sampling::default()), Totals::default());
        // Not asked for within the spacing, and so not withheld.
        assert_eq!(stamped(&mut sampler, &[0, 500, 1001, 50_000, 100_000], true, &mut totals), [1, 5]);
        assert_eq!(totals.stamps_withheld, 2);
    }
}
