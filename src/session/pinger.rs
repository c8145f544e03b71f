//! When the next ping is due: a fixed grid, or a schedule.

use super::{LATE_NANOS, Probe, Settings, Totals};
use crate::clock::{Monotonic, Time};
use std::sync::Arc;

/// Where a pinging side stands.
#[derive(Debug)]
pub(super) struct Pinger {
    plan: Plan,
    /// The sequence of the next ping, from 1.
    next_sequence: u64,
    /// When it is due, or, after the last one, when the last wait is over.
    due: Time<Monotonic>,
    /// [`Totals::worst_lateness_nanos`] before the last ping that had a planned moment.
    worst_before: u64,
}

#[derive(Debug)]
enum Plan {
    /// A ping at `start`, `start + interval`, and so on before `until`. An interval of 0 is always due.
    Grid { start: Time<Monotonic>, interval: u64, padding: u16, until: Option<Time<Monotonic>> },
    /// One ping for each entry; the delay of an entry is counted from just before its ping is sent.
    Schedule { probes: Arc<[Probe]>, next: usize },
}

/// What a pinger wants at a moment.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Step {
    /// Nothing yet.
    Wait,
    /// A ping with this sequence and padding.
    Ping { sequence: u64, padding: u16 },
    /// All pings are sent and the last wait is over.
    Done,
}

impl Pinger {
    /// The first ping is due at `start`.
    pub(super) fn new(start: Time<Monotonic>, settings: &Settings, schedule: Option<Arc<[Probe]>>) -> Self {
        let plan = match schedule {
            Some(probes) => Plan::Schedule { probes, next: 0 },
            None => Plan::Grid {
                start,
                interval: u64::from(settings.delay_us) * 1000,
                padding: settings.ping_padding,
                until: (settings.count_s > 0).then(|| start.plus_nanos(u64::from(settings.count_s) * 1_000_000_000)),
            },
        };
        Self { plan, next_sequence: 1, due: start, worst_before: 0 }
    }

    /// The sequence that the next ping would have; the FIN carries it after the last.
    pub(super) fn next_sequence(&self) -> u64 {
        self.next_sequence
    }

    /// When [`Pinger::step`] has something to do.
    pub(super) fn due(&self) -> Time<Monotonic> {
        match self.plan {
            Plan::Grid { until: Some(until), .. } => self.due.min(until),
            _ => self.due,
        }
    }

    /// What is to be done at `now`; counts lateness and skipped slots.
    pub(super) fn step(&mut self, now: Time<Monotonic>, totals: &mut Totals) -> Step {
        if now < self.due() {
            return Step::Wait;
        }
        let planned = self.due;
        let padding = match &mut self.plan {
            Plan::Grid { interval, until: Some(until), .. } if now >= *until => {
                // What was due in a stall that outlasts the session was not sent either.
                let stalled = until.duration_since(planned).as_nanos() as u64;
                totals.skipped_slots += stalled.div_ceil((*interval).max(1)) * u64::from(*interval > 0);
                return Step::Done;
            }
            Plan::Grid { interval: 0, padding, .. } => {
                let padding = *padding;
                self.due = now;
                return self.ping(padding);
            }
            Plan::Grid { start, interval, padding, .. } => {
                // The first slot after now: a late ping is not made up for, its slots are skipped.
                let slot = now.duration_since(*start).as_nanos() as u64 / *interval + 1;
                self.due = start.plus_nanos(slot * *interval);
                totals.skipped_slots += self.due.duration_since(planned).as_nanos() as u64 / *interval - 1;
                *padding
            }
            Plan::Schedule { probes, next } => {
                let Some(probe) = probes.get(*next) else {
                    return Step::Done;
                };
                *next += 1;
                self.due = now.plus_nanos(u64::from(probe.delay_us) * 1000);
                probe.padding
            }
        };
        let lateness = now.duration_since(planned).as_nanos() as u64;
        totals.planned_pings += 1;
        totals.last_lateness_nanos = lateness;
        totals.late_sends += u64::from(lateness > LATE_NANOS);
        self.worst_before = totals.worst_lateness_nanos;
        totals.worst_lateness_nanos = totals.worst_lateness_nanos.max(lateness);
        self.ping(padding)
    }

    /// The last ping did not leave: it met no moment.
    pub(super) fn not_sent(&self, totals: &mut Totals) {
        if !matches!(self.plan, Plan::Grid { interval: 0, .. }) {
            totals.planned_pings -= 1;
            totals.late_sends -= u64::from(totals.last_lateness_nanos > LATE_NANOS);
            totals.worst_lateness_nanos = self.worst_before;
        }
    }

    fn ping(&mut self, padding: u16) -> Step {
        let sequence = self.next_sequence;
        self.next_sequence += 1;
        Step::Ping { sequence, padding }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(micros: u64) -> Time<Monotonic> {
        Time::from_nanos(1_000_000_000 + micros * 1000)
    }

    fn grid(count_s: u32, delay_us: u32) -> Pinger {
        Pinger::new(at(0), &Settings { count_s, delay_us, ..Settings::default() }, None)
    }

    #[test]
    fn a_grid_of_a_second_at_10_ms_has_100_pings() {
        let (mut pinger, mut totals) = (grid(1, 10_000), Totals::default());
        for slot in 0..100 {
            assert_eq!(pinger.due(), at(slot * 10_000));
            let step = pinger.step(pinger.due(), &mut totals);
            assert_eq!(step, Step::Ping { sequence: slot + 1, padding: 0 });
        }
        assert_eq!(pinger.due(), at(1_000_000));
        assert_eq!(pinger.step(at(1_000_000), &mut totals), Step::Done);
        assert_eq!((totals.late_sends, totals.skipped_slots, pinger.next_sequence()), (0, 0, 101));
        assert_eq!((totals.planned_pings, totals.last_lateness_nanos), (100, 0));
    }

    #[test]
    fn a_wait_longer_than_the_count_ends_with_the_count() {
        let (mut pinger, mut totals) = (grid(1, 5_000_000), Totals::default());
        assert!(matches!(pinger.step(at(0), &mut totals), Step::Ping { .. }));
        assert_eq!(pinger.due(), at(1_000_000));
        assert_eq!(pinger.step(at(999_999), &mut totals), Step::Wait);
        assert_eq!(pinger.step(at(1_000_000), &mut totals), Step::Done);
    }

    #[test]
    fn a_late_ping_skips_its_slots_instead_of_a_burst() {
        let (mut pinger, mut totals) = (grid(0, 100), Totals::default());
        assert!(matches!(pinger.step(at(0), &mut totals), Step::Ping { .. }));
        // Due at 100 µs, sent at 350: the slots at 200 and 300 are gone, the next is 400.
        assert_eq!(pinger.step(at(350), &mut totals), Step::Ping { sequence: 2, padding: 0 });
        assert_eq!(pinger.due(), at(400));
        assert_eq!((totals.late_sends, totals.skipped_slots, totals.worst_lateness_nanos), (1, 2, 250_000));
        assert_eq!((totals.planned_pings, totals.last_lateness_nanos), (2, 250_000));
        pinger.step(at(401), &mut totals);
        assert_eq!((totals.planned_pings, totals.last_lateness_nanos), (3, 1_000));
    }

    #[test]
    fn a_stall_that_outlasts_the_session_skips_what_was_due_in_it() {
        let (mut pinger, mut totals) = (grid(1, 100_000), Totals::default());
        assert!(matches!(pinger.step(at(0), &mut totals), Step::Ping { .. }));
        assert!(matches!(pinger.step(at(100_000), &mut totals), Step::Ping { .. }));
        // The slots from 200 to 900 ms are gone.
        assert_eq!(pinger.step(at(1_500_000), &mut totals), Step::Done);
        assert_eq!(totals.skipped_slots, 8);
    }

    #[test]
    fn ten_microseconds_are_not_yet_late() {
        let (mut pinger, mut totals) = (grid(0, 100), Totals::default());
        pinger.step(at(10), &mut totals);
        assert_eq!(totals.late_sends, 0);
        pinger.step(at(111), &mut totals);
        assert_eq!(totals.late_sends, 1);
        pinger.not_sent(&mut totals);
        assert_eq!((totals.late_sends, totals.planned_pings), (0, 1));
    }

    #[test]
    fn how_late_a_ping_is_that_did_not_leave_is_not_the_worst() {
        let (mut pinger, mut totals) = (grid(0, 100), Totals::default());
        for (now, worst) in [(20, 20_000), (130, 30_000), (205, 30_000)] {
            pinger.step(at(now), &mut totals);
            assert_eq!(totals.worst_lateness_nanos, worst);
        }
        pinger.not_sent(&mut totals);
        assert_eq!(totals.worst_lateness_nanos, 30_000, "that of one that left");
        pinger.step(at(390), &mut totals);
        assert_eq!(totals.worst_lateness_nanos, 90_000);
        pinger.not_sent(&mut totals);
        assert_eq!((totals.worst_lateness_nanos, totals.planned_pings, totals.late_sends), (30_000, 2, 2));
    }

    #[test]
    fn no_delay_is_always_due() {
        let (mut pinger, mut totals) = (grid(1, 0), Totals::default());
        for sequence in 1..=1000 {
            assert_eq!(pinger.step(at(5), &mut totals), Step::Ping { sequence, padding: 0 });
        }
        assert_eq!((totals.planned_pings, totals.late_sends, totals.skipped_slots), (0, 0, 0));
        assert_eq!(pinger.step(at(1_000_000), &mut totals), Step::Done);
    }

    #[test]
    fn a_schedule_counts_each_delay_from_its_own_ping_and_waits_the_last_one_out() {
        let probes = [Probe { delay_us: 100, padding: 1 }, Probe { delay_us: 0, padding: 2 }];
        let last = Probe { delay_us: 300, padding: 3 };
        let probes: Arc<[Probe]> = probes.into_iter().chain([last]).collect();
        let mut totals = Totals::default();
        let mut pinger = Pinger::new(at(0), &Settings::default(), Some(probes));
        assert_eq!(pinger.step(at(3), &mut totals), Step::Ping { sequence: 1, padding: 1 });
        assert_eq!(pinger.due(), at(103));
        assert_eq!(pinger.step(at(103), &mut totals), Step::Ping { sequence: 2, padding: 2 });
        assert_eq!(pinger.step(at(104), &mut totals), Step::Ping { sequence: 3, padding: 3 });
        assert_eq!(pinger.step(at(403), &mut totals), Step::Wait);
        assert_eq!(pinger.step(at(404), &mut totals), Step::Done);
        assert_eq!(pinger.next_sequence(), 4);
    }
}
