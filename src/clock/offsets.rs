//! What a network card's clock and the system's have to do with each other, learnt from samples of both.
//!
//! Between two samples the offset is interpolated, beyond the last one it goes on as it went. A step of either clock is
//! found and not averaged over. Pure: nothing here reads a clock.
#![forbid(unsafe_code)]

use super::{OffsetSample, Phc, Realtime, Time};
use std::collections::VecDeque;

/// How many samples are kept: with one a second, at least the last half hour whole, and what is older evenly spread.
const CAPACITY: usize = 8192;
/// How much the rate between two clocks changes from one second to the next without anybody's doing: an ordinary quartz
/// stays far below 0.1 ppm.
const STABILITY: f64 = 1e-7;
/// The same where only two samples are known, and none shows how steady the rate is.
const UNKNOWN_STABILITY: f64 = 1e-6;
/// How far the rates of two clocks may differ where nothing is known of them: what the kernel's NTP discipline may add
/// (`MAXFREQ` of `linux/timex.h`, 500 ppm) is more than what a quartz is off by.
const UNKNOWN_RATE: f64 = 5e-4;
/// What is more than a change of the rate by this is called a step.
const STEP_RATE: f64 = 1e-4;
/// How many samples say at which rate it goes on.
const RECENT: usize = 10;
/// How far before the first and behind the last sample a stamp is still brought to the system's clock by who has them all at
/// hand, in nanoseconds: they are taken once a second.
const BEYOND: i64 = 1_500_000_000;
/// How many times nearer than every other answer one must be where a step leaves several.
const CLEARLY: u64 = 4;
/// How far a stamp may be from its clock's own time: an hour, in nanoseconds.
const PLAUSIBLE_NS: u128 = 3_600_000_000_000;

/// The samples so far, oldest first.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Offsets {
    samples: VecDeque<OffsetSample>,
    /// Where each run of samples without a step between them begins, as an index; the first is 0.
    runs: Vec<usize>,
    capacity: usize,
    steps: u64,
}

/// A point that a clock's stamp is at on another clock: how far off it can be, in nanoseconds.
type Uncertain = (Time<Realtime>, u64);

impl Default for Offsets {
    fn default() -> Self {
        Self::with_capacity(CAPACITY)
    }
}

impl Offsets {
    fn with_capacity(capacity: usize) -> Self {
        Self { samples: VecDeque::new(), runs: Vec::new(), capacity, steps: 0 }
    }

    /// Adds a sample, taken after all the others. Where there is no more room, older ones are thinned out.
    pub fn push(&mut self, sample: OffsetSample) {
        if self.samples.len() >= self.capacity {
            self.thin();
        }
        match self.samples.back() {
            None => self.runs.push(0),
            Some(last) if self.is_step(last, &sample) => {
                self.steps += 1;
                self.runs.push(self.samples.len());
            }
            Some(_) => {}
        }
        self.samples.push_back(sample);
    }

    /// The samples that are kept, oldest first.
    pub fn samples(&self) -> impl ExactSizeIterator<Item = OffsetSample> {
        self.samples.iter().copied()
    }

    /// The newest sample.
    pub fn latest(&self) -> Option<OffsetSample> {
        self.samples.back().copied()
    }

    /// How often one of the clocks was stepped, or changed its rate by more than 100 ppm at once.
    pub const fn steps(&self) -> u64 {
        self.steps
    }

    /// A card's stamp on the system's clock, and how far off that can be in nanoseconds. `None` where there is no sample.
    ///
    /// Where a step leaves more than one answer, the uncertainty has room for each.
    pub fn to_system(&self, stamp: Time<Phc>) -> Option<(Time<Realtime>, u64)> {
        let (mut before, mut within, mut after) = (None, None, None);
        // From the newest run to the oldest one, so that of two that are as good the newer is the answer.
        for index in (0..self.runs.len()).rev() {
            let run = self.run(index);
            if stamp < run.first().phc {
                after = nearer(after, run.first().phc.as_nanos() - stamp.as_nanos(), index);
            } else if stamp > run.last().phc {
                before = nearer(before, stamp.as_nanos() - run.last().phc.as_nanos(), index);
            } else {
                let answer = run.convert(stamp);
                within = Some(within.map_or(answer, |chosen| with_room_for(chosen, answer)));
            }
        }
        if within.is_some() {
            return within;
        }
        let convert = |(_, index)| self.run(index).convert(stamp);
        match (before, after) {
            (Some(before), Some(after)) if before.0 <= after.0 => Some(with_room_for(convert(before), convert(after))),
            (Some(before), Some(after)) => Some(with_room_for(convert(after), convert(before))),
            (one, other) => one.or(other).map(convert),
        }
    }

    /// The same of a stamp whose event was about when the system's clock showed `about`, for who has all samples at hand: so where
    /// the card showed a time more than once, it is known which. `None` where a step leaves more than one answer, and further than
    /// 1.5 s from all samples.
    pub fn to_system_about(&self, stamp: Time<Phc>, about: Time<Realtime>) -> Option<(Time<Realtime>, u64)> {
        let answers = || {
            let reached = (0..self.runs.len()).filter_map(|index| Some((index, self.reach(index, stamp)?)));
            reached.map(|(index, is_sure)| (index, is_sure, self.run(index).convert(stamp)))
        };
        let apart = |one: Time<Realtime>, other: Time<Realtime>| one.as_nanos().abs_diff(other.as_nanos());
        let (chosen, is_sure, answer) = answers().min_by_key(|(.., (time, _))| apart(*time, about))?;
        let is_clear = |other: Time<Realtime>| apart(answer.0, about) <= apart(answer.0, other) / CLEARLY;
        let is_alone = answers().all(|(index, _, (time, _))| index == chosen || is_clear(time));
        // A step between the stamp and what is compared with it is in their difference, whichever clock it was of.
        let run = self.run(chosen);
        let is_before_a_step = chosen + 1 == self.runs.len() || about <= run.last().system;
        let is_behind_a_step = chosen == 0 || about >= run.first().system;
        (is_sure && is_alone && is_before_a_step && is_behind_a_step).then_some(answer)
    }

    /// Whether a run's clock may have shown `stamp`: surely (`true`), or in a time next to it with a step in it.
    fn reach(&self, index: usize, stamp: Time<Phc>) -> Option<bool> {
        let run = self.run(index);
        let gap = |before: usize| {
            let (last, first) = (self.run(before).last(), self.run(before + 1).first());
            let [phc, system] =
                [(last.phc.as_nanos(), first.phc.as_nanos()), (last.system.as_nanos(), first.system.as_nanos())]
                    .map(|(last, first)| last.abs_diff(first));
            // However far the step was, and of whichever clock.
            phc.max(system)
        };
        let is_near = match (run.first().phc.nanos_since(stamp), stamp.nanos_since(run.last().phc)) {
            (before @ 1.., _) if index == 0 => return (before <= BEYOND).then_some(true),
            (_, behind @ 1..) if index + 1 == self.runs.len() => return (behind <= BEYOND).then_some(true),
            (before @ 1.., _) => before.unsigned_abs() <= gap(index - 1),
            (_, behind @ 1..) => behind.unsigned_abs() <= gap(index),
            _ => return Some(true),
        };
        is_near.then_some(false)
    }

    /// Whether a stamp is no further than an hour from the card's own time, which `now` and the newest sample tell.
    /// Zero, which drivers give for "no stamp", never is.
    pub fn is_plausible(&self, stamp: Time<Phc>, now: Time<Realtime>) -> bool {
        self.latest().is_some_and(|latest| is_plausible(stamp, now, latest.offset_ns()))
    }

    fn run(&self, index: usize) -> Run<'_> {
        let end = self.runs.get(index + 1).copied().unwrap_or(self.samples.len());
        Run { samples: &self.samples, start: self.runs[index], end }
    }

    /// Whether `sample` cannot be where the samples of the last run lead to.
    fn is_step(&self, last: &OffsetSample, sample: &OffsetSample) -> bool {
        if sample.phc <= last.phc || sample.system <= last.system {
            return true;
        }
        let (expected, room) = self.run(self.runs.len() - 1).convert(sample.phc);
        let elapsed = (sample.phc.as_nanos() - last.phc.as_nanos()) as f64;
        let off = sample.system.as_nanos().abs_diff(expected.as_nanos());
        off > room.saturating_add(sample.uncertainty_ns).saturating_add((elapsed * STEP_RATE) as u64)
    }

    /// Leaves the newest quarter whole, and of the others no more than half of the capacity, evenly spread, and those at
    /// a step; where there are only those, the oldest sample goes.
    fn thin(&mut self) {
        let older = self.samples.len() - self.samples.len() / 4;
        let runs: Vec<_> = (0..self.runs.len()).map(|index| (self.run(index).start, self.run(index).end)).collect();
        let elapsed = |from: usize, to: usize| self.samples[to].phc.as_nanos() - self.samples[from].phc.as_nanos();
        let older_runs = runs.iter().filter(|(start, _)| *start < older);
        let span: u128 = older_runs.map(|(start, end)| u128::from(elapsed(*start, older.min(*end) - 1))).sum();
        let spacing = span / (self.capacity as u128 / 2).max(1);
        let mut kept = VecDeque::with_capacity(self.capacity);
        let mut kept_runs = Vec::new();
        for (start, end) in runs {
            kept_runs.push(kept.len());
            let mut last_kept = start;
            for index in start..end {
                let is_end = index == start || index + 1 == end;
                if index >= older || is_end || u128::from(elapsed(last_kept, index)) >= spacing {
                    kept.push_back(self.samples[index]);
                    last_kept = index;
                }
            }
        }
        if kept.len() >= self.capacity {
            kept.pop_front();
            for start in &mut kept_runs {
                *start = start.saturating_sub(1);
            }
            // A run that consisted of that sample alone began where the next one now does.
            kept_runs.dedup();
        }
        (self.samples, self.runs) = (kept, kept_runs);
    }
}

/// The nearer of what is known and a run at this distance.
fn nearer(known: Option<(u64, usize)>, distance: u64, index: usize) -> Option<(u64, usize)> {
    match known {
        Some((least, _)) if least <= distance => known,
        _ => Some((distance, index)),
    }
}

/// `chosen`, with an uncertainty that `other` is within.
fn with_room_for(chosen: Uncertain, other: Uncertain) -> Uncertain {
    let apart = chosen.0.as_nanos().abs_diff(other.0.as_nanos());
    (chosen.0, chosen.1.max(apart.saturating_add(other.1)))
}

/// Whether `stamp` is within an hour of what a clock says that is `offset_ns` behind the system's `now`.
pub(super) fn is_plausible(stamp: Time<Phc>, now: Time<Realtime>, offset_ns: i128) -> bool {
    let own_now = i128::from(now.as_nanos()) - offset_ns;
    stamp.as_nanos() != 0 && i128::from(stamp.as_nanos()).abs_diff(own_now) <= PLAUSIBLE_NS
}

/// Samples without a step between them: at least one, with the card's time ascending.
#[derive(Clone, Copy)]
struct Run<'a> {
    samples: &'a VecDeque<OffsetSample>,
    start: usize,
    end: usize,
}

impl<'a> Run<'a> {
    fn get(self, index: usize) -> &'a OffsetSample {
        &self.samples[self.start + index]
    }

    fn len(self) -> usize {
        self.end - self.start
    }

    fn first(self) -> &'a OffsetSample {
        self.get(0)
    }

    fn last(self) -> &'a OffsetSample {
        self.get(self.len() - 1)
    }

    /// How many samples are not after `stamp`.
    fn count_until(self, stamp: Time<Phc>) -> usize {
        let (mut low, mut high) = (0, self.len());
        while low < high {
            let middle = low.midpoint(high);
            if self.get(middle).phc <= stamp { low = middle + 1 } else { high = middle }
        }
        low
    }

    /// How many nanoseconds the offset grows by in each one of the card's, from one sample to another.
    fn rate(self, from: usize, to: usize) -> f64 {
        let (from, to) = (self.get(from), self.get(to));
        (to.offset_ns() - from.offset_ns()) as f64 / (to.phc.as_nanos() - from.phc.as_nanos()) as f64
    }

    fn convert(self, stamp: Time<Phc>) -> Uncertain {
        match self.count_until(stamp) {
            0 => {
                let recent = self.len().min(RECENT) - 1;
                self.beyond(stamp, 0, recent, 1)
            }
            until if until == self.len() => {
                let last = self.len() - 1;
                self.beyond(stamp, last, self.len() - self.len().min(RECENT), last.saturating_sub(1))
            }
            until => self.between(stamp, until - 1),
        }
    }

    /// Between the samples `index` and the next one.
    fn between(self, stamp: Time<Phc>, index: usize) -> Uncertain {
        let (left, right) = (self.get(index), self.get(index + 1));
        let distance = (right.phc.as_nanos() - left.phc.as_nanos()) as f64;
        let along = (stamp.as_nanos() - left.phc.as_nanos()) as f64;
        let rate = self.rate(index, index + 1);
        let off_before = (index > 0).then(|| (rate - self.rate(index - 1, index)).abs());
        let off_after = (index + 2 < self.len()).then(|| (rate - self.rate(index + 1, index + 2)).abs());
        // The rate may have been that of before for a while, and that of after for the rest.
        let bend = match (off_before, off_after) {
            (None, None) => UNKNOWN_STABILITY,
            (before, after) => STABILITY + before.unwrap_or(0.0).max(after.unwrap_or(0.0)),
        };
        // A rate unlike both was a step too small to be told from it; what the samples are off by explains some.
        let noise = 2.0 * (left.uncertainty_ns as f64 + right.uncertainty_ns as f64);
        let jump = match (off_before, off_after) {
            (Some(before), Some(after)) => (before.min(after) * distance - noise).max(0.0),
            _ => 0.0,
        };
        let room = 2.0 * bend * along * (distance - along) / distance + jump;
        let uncertainty = left.uncertainty_ns.max(right.uncertainty_ns).saturating_add(up(room));
        (at(stamp, left.offset_ns(), rate * along), uncertainty)
    }

    /// Beyond the sample `end`, at the rate from `end` to `far`, which `next` shows the steadiness of.
    fn beyond(self, stamp: Time<Phc>, end: usize, far: usize, next: usize) -> Uncertain {
        let sample = self.get(end);
        // Subtracted first: a time since the epoch has more digits than an f64.
        let along = (i128::from(stamp.as_nanos()) - i128::from(sample.phc.as_nanos())) as f64;
        let (rate, rate_room) = if end == far {
            (0.0, UNKNOWN_RATE)
        } else {
            let (low, high) = (end.min(far), end.max(far));
            let rate = self.rate(low, high);
            let distance = (self.get(high).phc.as_nanos() - self.get(low).phc.as_nanos()) as f64;
            let noise = (self.get(low).uncertainty_ns as f64 + self.get(high).uncertainty_ns as f64) / distance;
            let newest = self.rate(end.min(next), end.max(next));
            let stability = if self.len() == 2 { UNKNOWN_STABILITY } else { STABILITY };
            (rate, noise + (newest - rate).abs() + stability)
        };
        let uncertainty = sample.uncertainty_ns.saturating_add(up(along.abs() * rate_room));
        (at(stamp, sample.offset_ns(), rate * along), uncertainty)
    }
}

/// Rounded up, with a nanosecond for the rounding of the time itself.
fn up(nanos: f64) -> u64 {
    (nanos.ceil() as u64).saturating_add(1)
}

fn at(stamp: Time<Phc>, offset_ns: i128, more: f64) -> Time<Realtime> {
    let nanos = i128::from(stamp.as_nanos()) + offset_ns + more.round() as i128;
    Time::from_nanos(nanos.clamp(0, u64::MAX.into()) as u64)
}

#[cfg(test)]
mod tests;
