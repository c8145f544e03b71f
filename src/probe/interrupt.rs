//! What ends a wait before a datagram does: SIGINT, SIGTERM, SIGQUIT and SIGHUP, SIGUSR1, and the moment at which something is due.

use super::alarm::Alarm;
use crate::clock::{Monotonic, Time};
use anyhow::Context;
use nix::sys::epoll::{Epoll, EpollCreateFlags, EpollEvent, EpollFlags};
use nix::sys::signal::{SigSet, Signal};
use signal_hook::consts::{SIGHUP, SIGINT, SIGQUIT, SIGTERM, SIGUSR1};
use std::io::{self, Read, Write};
use std::os::fd::{AsFd, BorrowedFd};
use std::os::unix::net::UnixStream;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

/// The user's wish for an end, or for statistics, and the next deadline: a flag to look at, and one descriptor that becomes readable for both.
#[derive(Debug)]
pub struct Interrupt {
    flag: Arc<AtomicBool>,
    /// SIGUSR1 came: the user wants to know how things stand.
    question: Arc<AtomicBool>,
    /// Its byte may lie in `signals`.
    undrained: bool,
    /// A signal does what it did before it was caught.
    deadly: Arc<AtomicBool>,
    signals: UnixStream,
    alarm: Alarm,
    /// Readable where the alarm or the signals are.
    both: Epoll,
}

/// Ends a loop in place of a signal ([`Interrupt::by_hand`]). To be kept as long as the loop runs: a loop that sleeps is woken without end
/// where nobody can stop it any more.
#[derive(Debug)]
pub struct Stopper {
    flag: Arc<AtomicBool>,
    waker: UnixStream,
}

impl Stopper {
    /// As a signal would. From any thread.
    pub fn stop(&self) {
        // The flag first: whoever is woken must find it set.
        self.flag.store(true, Ordering::SeqCst);
        // Where it is full, there is a byte to wake up from.
        let _ = (&self.waker).write(&[0]);
    }
}

impl Interrupt {
    /// From now on SIGINT, SIGTERM, SIGQUIT, SIGUSR1 and, unless somebody has it ignored (`nohup`), SIGHUP no longer end the process.
    ///
    /// # Errors
    /// What the kernel answered to `sigaction(2)`, `socketpair(2)`, `timerfd_create(2)` or `epoll_create1(2)`.
    pub fn catch() -> io::Result<Self> {
        let (interrupt, Stopper { waker, .. }) = Self::by_hand()?;
        // A terminal that is closed must not leave a card's stamping changed.
        let hang_up = (!is_ignored(SIGHUP)).then_some(SIGHUP);
        for signal in [SIGINT, SIGTERM, SIGQUIT].into_iter().chain(hang_up) {
            signal_hook::flag::register_conditional_default(signal, Arc::clone(&interrupt.deadly))?;
            // The flag first: whoever is woken must find it set.
            signal_hook::flag::register(signal, Arc::clone(&interrupt.flag))?;
            signal_hook::low_level::pipe::register(signal, waker.try_clone()?)?;
        }
        signal_hook::flag::register(SIGUSR1, Arc::clone(&interrupt.question))?;
        signal_hook::low_level::pipe::register(SIGUSR1, waker)?;
        Ok(interrupt)
    }

    /// One that no signal reaches, and that catches none: for a loop beside another that the user ends.
    ///
    /// # Errors
    /// As [`Interrupt::catch`].
    pub fn by_hand() -> io::Result<(Self, Stopper)> {
        let (signals, waker) = UnixStream::pair()?;
        for end in [&signals, &waker] {
            end.set_nonblocking(true)?;
        }
        let alarm = Alarm::new()?;
        let both = Epoll::new(EpollCreateFlags::EPOLL_CLOEXEC)?;
        both.add(&signals, EpollEvent::new(EpollFlags::EPOLLIN, 0))?;
        for timer in alarm.timers() {
            both.add(timer, EpollEvent::new(EpollFlags::EPOLLIN, 1))?;
        }
        let [flag, question, deadly] = [(); 3].map(|()| Arc::new(AtomicBool::new(false)));
        let stopper = Stopper { flag: Arc::clone(&flag), waker };
        Ok((Self { flag, question, undrained: false, deadly, signals, alarm, both }, stopper))
    }

    /// Lets signals end the process at once, as if nobody caught them, or no longer.
    pub fn set_deadly(&self, deadly: bool) {
        self.deadly.store(deadly, Ordering::SeqCst);
    }

    /// Whether a signal came since the last call. No system call while none did.
    pub fn take(&mut self) -> bool {
        if !self.flag.load(Ordering::Relaxed) {
            return false;
        }
        // Drained first: a signal that comes in between then leaves the flag set, or a byte for the next wait.
        self.drain();
        self.flag.swap(false, Ordering::Relaxed)
    }

    fn drain(&mut self) {
        self.undrained = false;
        let mut bytes = [0; 16];
        while matches!(self.signals.read(&mut bytes), Ok(read) if read > 0) {}
    }

    /// Whether SIGUSR1 came since the last [`Interrupt::take_question`]. No system call.
    #[inline]
    pub fn is_asked(&self) -> bool {
        self.question.load(Ordering::Relaxed)
    }

    /// The question is answered. No system call: its byte is left for the next wait.
    pub fn take_question(&mut self) {
        self.question.store(false, Ordering::Relaxed);
        self.undrained = true;
    }

    /// Whether a signal came since the last [`Interrupt::take`]. No system call.
    pub fn is_pending(&self) -> bool {
        self.flag.load(Ordering::Relaxed)
    }

    /// A descriptor that becomes readable at `deadline` (`None`: never), and once a signal came until [`Interrupt::take`], or
    /// [`Interrupt::take_question`].
    ///
    /// # Errors
    /// What the kernel answered to `timerfd_settime(2)`.
    pub fn until(&mut self, deadline: Option<Time<Monotonic>>, now: Time<Monotonic>) -> io::Result<BorrowedFd<'_>> {
        if self.undrained {
            self.drain();
        }
        // The byte of one signal may have been drained with another's.
        let deadline = if self.is_pending() || self.is_asked() { Some(Time::from_nanos(1)) } else { deadline };
        self.alarm.set(deadline, now)?;
        Ok(self.both.0.as_fd())
    }
}

/// Whether a signal is ignored: the mask `SigIgn` of `proc_pid_status(5)`, in which signal 1 is bit 0.
fn is_ignored(signal: i32) -> bool {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let mask = status.lines().find_map(|line| line.strip_prefix("SigIgn:"));
    let mask = mask.and_then(|mask| u64::from_str_radix(mask.trim(), 16).ok()).unwrap_or(0);
    mask >> (signal - 1) & 1 == 1
}

/// Leaves SIGUSR1 to the other threads, so that it does not interrupt the hot loop in this one.
///
/// # Errors
/// What the kernel answered to `pthread_sigmask(3)`.
pub(crate) fn block_questions() -> anyhow::Result<()> {
    SigSet::from(Signal::SIGUSR1).thread_block().context("cannot block SIGUSR1 in the hot loop's thread")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::clock::monotonic_now;
    use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
    use std::sync::Mutex;

    /// A signal is the whole process's: held by whoever raises one.
    static SIGNALS: Mutex<()> = Mutex::new(());

    fn is_readable(fd: BorrowedFd<'_>, timeout: PollTimeout) -> bool {
        poll(&mut [PollFd::new(fd, PollFlags::POLLIN)], timeout).unwrap() == 1
    }

    #[test]
    fn an_ignored_signal_is_known() {
        // The Rust runtime ignores SIGPIPE, and nobody ignores SIGKILL.
        assert!(is_ignored(nix::sys::signal::Signal::SIGPIPE as i32));
        assert!(!is_ignored(nix::sys::signal::Signal::SIGKILL as i32));
    }

    #[test]
    fn a_signal_and_a_deadline_wake_and_each_only_once() {
        let _alone = SIGNALS.lock().unwrap();
        let mut interrupt = Interrupt::catch().unwrap();
        assert!(!is_readable(interrupt.until(None, monotonic_now()).unwrap(), PollTimeout::ZERO));
        assert!(is_readable(interrupt.until(Some(monotonic_now()), monotonic_now()).unwrap(), PollTimeout::NONE));
        let later = monotonic_now().plus_nanos(3_600_000_000_000);
        assert!(!is_readable(interrupt.until(Some(later), monotonic_now()).unwrap(), PollTimeout::ZERO));
        assert!(!interrupt.take());
        nix::sys::signal::raise(nix::sys::signal::Signal::SIGTERM).unwrap();
        assert!(is_readable(interrupt.until(Some(later), monotonic_now()).unwrap(), PollTimeout::NONE));
        assert!(interrupt.take());
        assert!(!interrupt.take());
        assert!(!is_readable(interrupt.until(None, monotonic_now()).unwrap(), PollTimeout::ZERO));
    }

    #[test]
    fn one_that_is_stopped_by_hand_hears_no_signal() {
        let _alone = SIGNALS.lock().unwrap();
        let _catches = Interrupt::catch().unwrap();
        let (mut deaf, stopper) = Interrupt::by_hand().unwrap();
        nix::sys::signal::raise(nix::sys::signal::Signal::SIGINT).unwrap();
        nix::sys::signal::raise(nix::sys::signal::Signal::SIGUSR1).unwrap();
        assert!(!is_readable(deaf.until(None, monotonic_now()).unwrap(), PollTimeout::ZERO));
        assert!(is_readable(deaf.until(Some(monotonic_now()), monotonic_now()).unwrap(), PollTimeout::NONE));
        assert!(!deaf.is_asked() && !deaf.take());
        for _ in 0..2 {
            stopper.stop();
            assert!(is_readable(deaf.until(None, monotonic_now()).unwrap(), PollTimeout::NONE));
            assert!(deaf.take() && !deaf.take());
            assert!(!is_readable(deaf.until(None, monotonic_now()).unwrap(), PollTimeout::ZERO));
        }
    }

    #[test]
    fn a_deadline_that_is_put_off_is_met_when_it_comes() {
        let _alone = SIGNALS.lock().unwrap();
        let mut interrupt = Interrupt::catch().unwrap();
        let now = monotonic_now();
        let (soon, later, far) =
            (now.plus_nanos(2_000_000), now.plus_nanos(20_000_000), now.plus_nanos(3_600_000_000_000));
        interrupt.until(Some(soon), now).unwrap();
        interrupt.until(Some(later), now).unwrap();
        // Not set anew: it wakes at the first moment, once, and then at the one that it was put off to.
        assert!(is_readable(interrupt.until(Some(later), now).unwrap(), PollTimeout::NONE));
        assert!(monotonic_now() >= soon);
        assert!(is_readable(interrupt.until(Some(later), monotonic_now()).unwrap(), PollTimeout::NONE));
        assert!(monotonic_now() >= later);
        // Sooner than it is set, and none.
        interrupt.until(Some(far), monotonic_now()).unwrap();
        assert!(is_readable(interrupt.until(Some(now), monotonic_now()).unwrap(), PollTimeout::NONE));
        assert!(!is_readable(interrupt.until(None, monotonic_now()).unwrap(), PollTimeout::ZERO));
    }

    #[test]
    fn a_question_wakes_until_it_is_answered_and_ends_nothing() {
        let _alone = SIGNALS.lock().unwrap();
        let mut interrupt = Interrupt::catch().unwrap();
        nix::sys::signal::raise(nix::sys::signal::Signal::SIGUSR1).unwrap();
        for _ in 0..2 {
            assert!(interrupt.is_asked());
            assert!(is_readable(interrupt.until(None, monotonic_now()).unwrap(), PollTimeout::NONE));
        }
        interrupt.take_question();
        assert!(!interrupt.is_asked() && !interrupt.take());
        assert!(!is_readable(interrupt.until(None, monotonic_now()).unwrap(), PollTimeout::ZERO));
    }
}
