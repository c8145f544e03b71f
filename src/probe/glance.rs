//! When a loop in which nothing happens looks whether its interface is still there.
//!
//! Nobody tells it: a UDP socket of an interface that was deleted is silent for ever, and so is an AF_XDP socket that sleeps
//! (`xsk_poll`, net/xdp/xsk.c). The look is a system call, so it is taken where nobody waits for the loop: without a session, or where
//! none of those that stand has moved for long.
#![forbid(unsafe_code)]

use crate::clock::{Monotonic, Time};
use crate::path::{InterfaceGone, Path};
use std::time::Duration;

/// From one look to the next while no session stands, and how often it is asked whether one is due while any does.
const ALONE: Duration = Duration::from_secs(1);
/// For how long nothing may have happened in sessions that stand, and from one look to the next then: most time out before.
const QUIET: Duration = Duration::from_secs(10);

/// The looks of one loop.
#[derive(Debug)]
pub(super) struct Glances {
    due: Time<Monotonic>,
    /// Something has happened since `due` was set.
    moved: bool,
    /// Since when nothing has, or the last look.
    quiet_since: Time<Monotonic>,
}

impl Glances {
    /// The path was opened a moment ago.
    pub(super) fn new(now: Time<Monotonic>) -> Self {
        Self { due: now.plus(ALONE), moved: false, quiet_since: now }
    }

    /// Whether a look is to be taken in this turn of the loop, in which nothing happened where it is `idle`; `stands` says whether a
    /// session does.
    #[inline]
    pub(super) fn is_due(&mut self, idle: bool, now: Time<Monotonic>, stands: impl FnOnce() -> bool) -> bool {
        self.moved |= !idle;
        idle && now >= self.due && self.take(now, stands())
    }

    #[cold]
    fn take(&mut self, now: Time<Monotonic>, stands: bool) -> bool {
        self.due = now.plus(ALONE);
        if std::mem::take(&mut self.moved) {
            self.quiet_since = now;
        }
        let looks = !stands || now.duration_since(self.quiet_since) >= QUIET;
        if looks {
            self.quiet_since = now;
        }
        looks
    }

    /// When a loop that sleeps until `end` (`None`: until something wakes it) is to wake up.
    pub(super) fn before(&self, end: Option<Time<Monotonic>>) -> Option<Time<Monotonic>> {
        Some(end.map_or(self.due, |end| end.min(self.due)))
    }
}

/// Why a loop broke down: where the interface is gone, that is said besides.
#[cold]
pub(super) fn explained(error: anyhow::Error, path: &impl Path) -> anyhow::Error {
    match path.check_interface() {
        Err(gone) if !error.is::<InterfaceGone>() => anyhow::Error::new(gone).context(format!("{error:#}")),
        _ => error,
    }
}

#[cfg(test)]
mod tests {
    use super::super::scripted::Scripted;
    use super::*;
    use anyhow::anyhow;
    use std::io;

    const fn at(millis: u64) -> Time<Monotonic> {
        Time::from_nanos(millis * 1_000_000)
    }

    /// At which of these moments a look was taken.
    fn looks(glances: &mut Glances, stands: bool, turns: impl IntoIterator<Item = (u64, bool)>) -> Vec<u64> {
        let turns = turns.into_iter();
        turns.filter(|&(millis, idle)| glances.is_due(idle, at(millis), || stands)).map(|(millis, _)| millis).collect()
    }

    #[test]
    fn a_loop_without_a_session_looks_once_a_second_and_wakes_up_for_it() {
        let mut glances = Glances::new(at(0));
        assert_eq!(looks(&mut glances, false, (0..3500).map(|millis| (millis, true))), [1000, 2000, 3000]);
        assert_eq!((glances.before(None), glances.before(Some(at(5000)))), (Some(at(4000)), Some(at(4000))));
        assert_eq!(glances.before(Some(at(3700))), Some(at(3700)));
        // A turn in which something happened is somebody's: the next one is as good.
        assert_eq!(looks(&mut glances, false, [(4000, false), (4001, true), (4002, true)]), [4001]);
    }

    #[test]
    fn a_session_in_which_anything_happens_is_never_looked_away_from() {
        let mut glances = Glances::new(at(0));
        // One ping in 9 s, for an hour.
        let turns = (0..3_600_000).map(|millis| (millis, millis % 9_000 != 500));
        assert_eq!(looks(&mut glances, true, turns), [0; 0]);
        // None any more.
        let silence = looks(&mut glances, true, (3_600_000..3_650_000).map(|millis| (millis, true)));
        assert!((1..=5).contains(&silence.len()), "{silence:?}");
        assert!(silence[0] <= 3_611_000 && silence.windows(2).all(|two| two[1] - two[0] == 10_000), "{silence:?}");
        // It goes on, and is over: from then on as if there had been none.
        assert_eq!(looks(&mut glances, true, (3_650_000..3_655_000).map(|millis| (millis, false))), [0; 0]);
        let alone = looks(&mut glances, false, (3_655_000..3_657_500).map(|millis| (millis, true)));
        assert_eq!(alone, [3_655_000, 3_656_000, 3_657_000]);
    }

    #[test]
    fn that_the_interface_is_gone_is_said_once_behind_what_was_noticed_first() {
        let down = || anyhow!(io::Error::from(io::ErrorKind::NetworkDown)).context("cannot send");
        let path = |is_gone| Scripted { is_gone, ..Scripted::default() };
        // Nothing of what there is to know of the error is lost where it has nothing to do with that.
        let error = explained(down(), &path(false));
        assert_eq!(error.downcast_ref::<io::Error>().map(io::Error::kind), Some(io::ErrorKind::NetworkDown));
        assert_eq!(format!("{error:#}"), "cannot send: network down");
        let gone = path(true).check_interface().unwrap_err();
        let error = explained(down(), &path(true));
        assert_eq!(format!("{error:#}"), format!("cannot send: network down: {gone}"));
        assert!(error.is::<InterfaceGone>());
        // Also where it is told already when and where that was noticed.
        for error in [gone.clone().into(), anyhow!(gone.clone()).context("cannot send")] {
            let before = format!("{error:#}");
            assert_eq!(format!("{:#}", explained(error, &path(true))), before);
        }
    }
}
