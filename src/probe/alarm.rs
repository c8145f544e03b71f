//! What wakes a loop that sleeps when something is due.
//!
//! Absolute timers: the time-out of `ppoll` would be relative to whenever the call gets through, and the kernel allows itself a
//! thousandth of it on top.
//!
//! To set a timer that is the next one of its CPU has the CPU's own timer set, which takes a virtual machine out to its host: several µs.
//! One behind another costs nothing like that, as the CPU's is set when the first has run out anyway. So there are two timers, and where what is due
//! comes at a steady pace, the second is set a step ahead, while the first is still to come.
#![forbid(unsafe_code)]

use crate::clock::{Monotonic, Time};
use nix::sys::time::TimeSpec;
use nix::sys::timerfd::{ClockId, Expiration, TimerFd, TimerFlags, TimerSetTimeFlags};
use std::io;

/// Two timers whose descriptors become readable: when what is due next is due, one of them is.
#[derive(Debug)]
pub(super) struct Alarm {
    timers: [TimerFd; 2],
    settings: Settings,
}

impl Alarm {
    /// # Errors
    /// What the kernel answered to `timerfd_create(2)`.
    pub(super) fn new() -> io::Result<Self> {
        let timer = || TimerFd::new(ClockId::CLOCK_MONOTONIC, TimerFlags::TFD_CLOEXEC | TimerFlags::TFD_NONBLOCK);
        Ok(Self { timers: [timer()?, timer()?], settings: Settings::default() })
    }

    pub(super) const fn timers(&self) -> &[TimerFd; 2] {
        &self.timers
    }

    /// Has a timer run out at `deadline`, or before it, once and for nothing: a deadline that was put off, as a server's time-out
    /// is with each ping, costs no system call. `None` is never.
    ///
    /// # Errors
    /// What the kernel answered to `timerfd_settime(2)`.
    pub(super) fn set(&mut self, deadline: Option<Time<Monotonic>>, now: Time<Monotonic>) -> io::Result<()> {
        let before = self.settings.armed;
        self.settings.change(deadline, now);
        for ((timer, before), after) in self.timers.iter().zip(before).zip(self.settings.armed) {
            match after {
                _ if after == before => {}
                Some(at) => {
                    // A time of 0 would switch the timer off.
                    let nanos = i64::try_from(at.as_nanos().max(1)).unwrap_or(i64::MAX);
                    let at = TimeSpec::new(nanos / 1_000_000_000, nanos % 1_000_000_000);
                    timer.set(Expiration::OneShot(at), TimerSetTimeFlags::TFD_TIMER_ABSTIME)?;
                }
                None => timer.unset()?,
            }
        }
        Ok(())
    }
}

/// What the timers are set to.
#[derive(Debug, Default)]
struct Settings {
    /// Also what is over: such a timer is readable until it is set anew.
    armed: [Option<Time<Monotonic>>; 2],
    /// The last deadline, and how many nanoseconds it came after the one before.
    last: Option<Time<Monotonic>>,
    step: Option<u64>,
    /// What will be due after it, where the one before came after as many.
    next: Option<Time<Monotonic>>,
}

impl Settings {
    fn change(&mut self, deadline: Option<Time<Monotonic>>, now: Time<Monotonic>) {
        let Some(deadline) = deadline else {
            self.armed = [None; 2];
            return;
        };
        let ahead = self.after(deadline);
        let wakes = |at: Time<Monotonic>| at == deadline || (now < at && at < deadline);
        let first = self.armed.iter().position(|at| at.is_some_and(wakes)).unwrap_or_else(|| {
            // One that is over has to be set in any case; of two that are to come the nearer one may yet be of use.
            let far = |at: &Option<Time<Monotonic>>| {
                at.map_or(u64::MAX - 1, |at| if at <= now { u64::MAX } else { at.as_nanos() })
            };
            let first = usize::from(far(&self.armed[1]) > far(&self.armed[0]));
            self.armed[first] = Some(deadline);
            first
        });
        let second = &mut self.armed[1 - first];
        if second.is_none_or(|at| at <= now) {
            *second = ahead;
        }
    }

    /// What will be due after this deadline, if the last three came at the same pace.
    fn after(&mut self, deadline: Time<Monotonic>) -> Option<Time<Monotonic>> {
        if self.last != Some(deadline) {
            let step = self.last.and_then(|last| deadline.as_nanos().checked_sub(last.as_nanos()));
            let steady = step.filter(|_| step == self.step);
            self.next = steady.and_then(|step| deadline.as_nanos().checked_add(step)).map(Time::from_nanos);
            (self.last, self.step) = (Some(deadline), step);
        }
        self.next
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const fn at(nanos: u64) -> Time<Monotonic> {
        Time::from_nanos(nanos)
    }

    /// Settings after such deadlines, each with the moment at which it was asked for.
    fn after(changes: &[(Option<u64>, u64)]) -> Vec<[Option<u64>; 2]> {
        let mut settings = Settings::default();
        let change = |&(deadline, now): &(Option<u64>, u64)| {
            settings.change(deadline.map(at), at(now));
            settings.armed.map(|at| at.map(Time::as_nanos))
        };
        changes.iter().map(change).collect()
    }

    #[test]
    fn what_comes_at_a_steady_pace_is_set_a_step_ahead() {
        let pings = [
            (Some(1000), 10),
            (Some(2000), 1010),
            (Some(3000), 2010),
            (Some(4000), 3010),
            (Some(4000), 3500),
            (Some(5000), 4010),
        ];
        let set = after(&pings);
        assert_eq!(set[..2], [[Some(1000), None], [Some(2000), None]]);
        // The third: from here on one is set for each, behind the other.
        assert_eq!(
            set[2..],
            [[Some(3000), Some(4000)], [Some(5000), Some(4000)], [Some(5000), Some(4000)], [Some(5000), Some(6000)]]
        );
    }

    #[test]
    fn whatever_is_due_one_runs_out_no_later_and_none_is_over_without_need() {
        // A generator of numbers is enough of chance: steady stretches, jumps both ways, and turns that come late.
        let mut random = 1_u64;
        let mut draw = |below: u64| {
            random = random.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            (random >> 33) % below
        };
        let mut settings = Settings::default();
        let (mut now, mut deadline, mut step) = (1, 1000, 1000);
        for _ in 0..100_000 {
            match draw(20) {
                0 => step = 1 + draw(3000),
                1 => deadline = now + draw(5000),
                2 => deadline = deadline.saturating_sub(draw(2000)),
                3 => now += draw(5000),
                _ => {}
            }
            settings.change(Some(at(deadline)), at(now));
            assert!(
                settings.armed.iter().flatten().any(|&armed| armed <= at(deadline)),
                "{settings:?} at {now} for {deadline}"
            );
            // One that is over would wake without end.
            let over = settings.armed.iter().flatten().filter(|&&armed| armed <= at(now)).count();
            assert!(over == 0 || deadline <= now, "{settings:?} at {now} for {deadline}");
            now = now.max(deadline) + draw(50);
            deadline += step;
        }
        settings.change(None, at(now));
        assert_eq!(settings.armed, [None; 2]);
    }

    #[test]
    fn a_deadline_that_is_put_off_leaves_the_timer_as_it_is() {
        let set =
            after(&[(Some(1000), 0), (Some(1900), 900), (Some(2100), 950), (Some(2100), 1000), (Some(1500), 1200)]);
        // Over, it is set anew; and for what is due sooner.
        assert_eq!(set.iter().map(|set| set[0]).collect::<Vec<_>>(), [1000, 1000, 1000, 2100, 2100].map(Some));
        assert_eq!(set.iter().map(|set| set[1]).collect::<Vec<_>>(), [None, None, None, None, Some(1500)]);
    }
}
