//! A real-time priority for one thread, the hot loop's (sched(7)), and whether the machine bears it.
//!
//! A `SCHED_FIFO` thread that never sleeps keeps its CPU from everything with an ordinary priority: from the thread that writes
//! the log, and from kernel threads that others wait for. What is left to them is what the kernel sees to
//! (Documentation/scheduler/sched-rt-group.rst): before Linux 6.12, and with real-time groups (`CONFIG_RT_GROUP_SCHED`) also
//! later, a real-time thread is stopped for the rest of `sched_rt_period_us` once it had `sched_rt_runtime_us` of it, 50 ms of a
//! second, whether somebody waits or not; from 6.12 on ordinary threads that wait get these 50 ms, and only what they need of
//! them (the fair server). [`Guard::check`] looks whether there is such a thing; [`Realtime`] is the priority itself.
#![allow(unsafe_code, reason = "neither std nor a crate at hand sets a thread's policy and keeps its niceness")]

use nix::errno::Errno;
use nix::sched::{CpuSet, sched_getaffinity};
use nix::unistd::Pid;
use std::fs;
use std::marker::PhantomData;

/// The lowest priority of `SCHED_FIFO` on Linux (sched(7)).
pub const MIN_PRIORITY: u8 = 1;
/// The highest. What runs at it comes before the kernel's own real-time threads: see README.
pub const MAX_PRIORITY: u8 = 99;

/// Microseconds of a period that real-time threads may take of a CPU; -1 is all of it.
const RUNTIME: &str = "/proc/sys/kernel/sched_rt_runtime_us";
/// That period in microseconds.
const PERIOD: &str = "/proc/sys/kernel/sched_rt_period_us";

/// Why a thread gets no real-time priority.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum RealtimeError {
    /// The kernel does not allow it.
    #[error(
        "--realtime {priority}: the kernel does not let this process have it (sched_setscheduler: {answer}): run as root, give \
         the program the capability CAP_SYS_NICE beside those that it has (setcap), or raise ulimit -r to {priority}{}",
        if *has_capability {
            "; this process has the capability: then its control group has no real-time budget (cpu.rt_runtime_us)"
        } else {
            ""
        }
    )]
    Denied {
        /// What was asked for.
        priority: u8,
        /// What the kernel answered.
        answer: Errno,
        /// The process has CAP_SYS_NICE.
        has_capability: bool,
    },
    /// Any other answer.
    #[error("--realtime {priority}: cannot set SCHED_FIFO (sched_setscheduler: {answer}): leave --realtime out")]
    Refused {
        /// What was asked for.
        priority: u8,
        /// What the kernel answered.
        answer: Errno,
    },
    /// The whole process runs with such a priority already.
    #[error(
        "--realtime {priority}: this process was started with a real-time priority (chrt), which the threads that write the log \
         and read the clocks would have too: start it without, as --realtime raises the hot loop's thread alone"
    )]
    Inherited {
        /// What was asked for.
        priority: u8,
    },
    /// A loop that never sleeps would have the only CPU for good.
    #[error(
        "--realtime {priority}: a loop that never sleeps would keep everything else from the one CPU that this process may run on, \
         and nobody could end it, as the kernel's guard is off (kernel.sched_rt_runtime_us is -1): switch it on (sysctl -w \
         kernel.sched_rt_runtime_us=950000), allow a second CPU (taskset), use --timer sleep, or leave --realtime out"
    )]
    Starves {
        /// What was asked for.
        priority: u8,
    },
}

/// How much of a CPU the kernel gives to real-time threads. The same wherever a thread is pinned.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Budget {
    /// Microseconds of each period that real-time threads may take; `None` is all of it, and also what is taken for it where the
    /// kernel does not say.
    pub runtime_us: Option<u64>,
    /// That period, in microseconds.
    pub period_us: u64,
}

impl Budget {
    /// What this machine's kernel says.
    pub fn of_this_machine() -> Self {
        let read = |path| fs::read_to_string(path).ok()?.trim().parse::<i64>().ok();
        Self {
            runtime_us: read(RUNTIME).and_then(|micros| u64::try_from(micros).ok()),
            period_us: read(PERIOD).and_then(|micros| u64::try_from(micros).ok()).unwrap_or(1_000_000),
        }
    }
}

/// What keeps a real-time thread that never sleeps from having a machine for itself.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Guard {
    /// CPUs that this process may run on.
    pub cpus: usize,
    /// What the kernel leaves to others of each.
    pub budget: Budget,
}

impl Guard {
    /// Of a process that may run wherever the calling thread may. That thread is not to be pinned yet: the process's other threads run
    /// elsewhere, and it would be taken for one that has a single CPU.
    pub fn before_pinning() -> Self {
        let cpus = sched_getaffinity(Pid::from_raw(0)).map_or(1, |cpus| count(&cpus));
        Self { cpus, budget: Budget::of_this_machine() }
    }

    /// Whether the hot loop's thread may have `priority` without keeping everything else from running; what the user should
    /// know: a line for stderr. `is_busy`: the loop may never sleep.
    ///
    /// # Errors
    /// [`RealtimeError::Starves`].
    pub fn check(&self, priority: u8, is_busy: bool) -> Result<Option<String>, RealtimeError> {
        let Budget { runtime_us, period_us } = self.budget;
        // A runtime of the whole period is no guard either.
        let left_us = runtime_us.map_or(0, |runtime| period_us.saturating_sub(runtime));
        match (is_busy, self.cpus, left_us) {
            (false, ..) => Ok(None),
            (true, 0..=1, 0) => Err(RealtimeError::Starves { priority }),
            (true, 0..=1, _) => Ok(Some(format!(
                "--realtime {priority} with a busy loop on the one CPU that this process may run on: all other threads there, the \
                 one that writes the log among them, have {left_us} µs of each {period_us} µs (kernel.sched_rt_runtime_us), in \
                 which no ping is answered in time"
            ))),
            (true, _, 0) => Ok(Some(format!(
                "--realtime {priority} with a busy loop, and the kernel's guard is off (kernel.sched_rt_runtime_us): what has to \
                 run on the loop's CPU, kernel threads among it, does not run until the end; switch it on (sysctl -w \
                 kernel.sched_rt_runtime_us=950000), or isolate that CPU (isolcpus, --cpu)"
            ))),
            (true, ..) => Ok(None),
        }
    }
}

fn count(cpus: &CpuSet) -> usize {
    (0..CpuSet::count()).filter(|cpu| cpus.is_set(*cpu) == Ok(true)).count()
}

/// The calling thread runs under `SCHED_FIFO` for as long as this lives.
///
/// Threads that it makes meanwhile, and their like, do not inherit it (`SCHED_RESET_ON_FORK`).
#[derive(Debug)]
pub struct Realtime {
    former: libc::c_int,
    /// Dropped by the thread that it is about.
    _thread: PhantomData<*const ()>,
}

impl Realtime {
    /// Gives the calling thread `priority`, from [`MIN_PRIORITY`] to [`MAX_PRIORITY`].
    ///
    /// # Errors
    /// [`RealtimeError`], and nothing is changed.
    pub fn raise(priority: u8) -> Result<Self, RealtimeError> {
        let former = policy();
        if matches!(former & !libc::SCHED_RESET_ON_FORK, libc::SCHED_FIFO | libc::SCHED_RR) {
            return Err(RealtimeError::Inherited { priority });
        }
        set_policy(libc::SCHED_FIFO, priority.into()).map_err(|answer| match answer {
            Errno::EPERM | Errno::EACCES => {
                let has_capability =
                    crate::net::privilege::missing(&[crate::net::privilege::Capability::SysNice]).is_empty();
                RealtimeError::Denied { priority, answer, has_capability }
            }
            _ => RealtimeError::Refused { priority, answer },
        })?;
        Ok(Self { former, _thread: PhantomData })
    }

    /// Whether the calling thread could have `priority`: it has it for a moment.
    ///
    /// # Errors
    /// As [`Realtime::raise`].
    pub fn check(priority: u8) -> Result<(), RealtimeError> {
        Self::raise(priority).map(drop)
    }
}

impl Drop for Realtime {
    fn drop(&mut self) {
        // Going back takes no privilege.
        let _ = set_policy(self.former & !libc::SCHED_RESET_ON_FORK, 0);
    }
}

/// The calling thread's policy, `SCHED_RESET_ON_FORK` with it.
fn policy() -> libc::c_int {
    // SAFETY: the call takes a number and touches no memory of ours; 0 is the calling thread.
    unsafe { libc::sched_getscheduler(0) }
}

/// Sets the calling thread's policy, with `SCHED_RESET_ON_FORK`; its niceness stays.
fn set_policy(policy: libc::c_int, priority: libc::c_int) -> Result<(), Errno> {
    let param = libc::sched_param { sched_priority: priority };
    // SAFETY: `param` lives until the call returns, which only reads it; 0 is the calling thread.
    let result = unsafe { libc::sched_setscheduler(0, policy | libc::SCHED_RESET_ON_FORK, &raw const param) };
    Errno::result(result).map(drop)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Policy and priority of this thread: fields 41 and 40 of `/proc/PID/stat` (proc_pid_stat(5)).
    fn scheduled() -> (i32, i32) {
        let stat = fs::read_to_string("/proc/thread-self/stat").unwrap();
        let (_, behind) = stat.rsplit_once(')').unwrap();
        let fields: Vec<&str> = behind.split_whitespace().collect();
        // The state is field 3.
        (fields[41 - 3].parse().unwrap(), fields[40 - 3].parse().unwrap())
    }

    #[test]
    fn a_thread_has_it_alone_and_only_for_as_long_as_it_wants() {
        let before = scheduled();
        assert_eq!(before, (libc::SCHED_OTHER, 0));
        let realtime = Realtime::raise(7).unwrap();
        assert_eq!(scheduled(), (libc::SCHED_FIFO, 7));
        // A thread that is made now does not inherit it.
        assert_eq!(std::thread::spawn(scheduled).join().unwrap(), before);
        assert_eq!(Realtime::check(8), Err(RealtimeError::Inherited { priority: 8 }));
        drop(realtime);
        assert_eq!(scheduled(), before);
        // Twice in one thread, as sessions of a comparison come one after the other.
        assert_eq!(Realtime::check(MAX_PRIORITY), Ok(()));
        assert_eq!(scheduled(), before);
        assert!(matches!(Realtime::check(100), Err(RealtimeError::Refused { answer: Errno::EINVAL, .. })));
    }

    #[test]
    fn a_busy_loop_on_the_only_cpu_is_refused_without_the_kernels_guard_and_told_of_with_it() {
        let guard = |cpus, runtime_us| Guard { cpus, budget: Budget { runtime_us, period_us: 1_000_000 } };
        for unguarded in [guard(1, None), guard(1, Some(1_000_000)), guard(0, None)] {
            let error = unguarded.check(50, true).unwrap_err().to_string();
            assert!(error.starts_with("--realtime 50: ") && error.contains("sched_rt_runtime_us=950000"), "{error}");
            assert!(error.contains("--timer sleep"), "{error}");
            assert_eq!(unguarded.check(50, false), Ok(None));
        }
        let told = guard(1, Some(950_000)).check(50, true).unwrap().unwrap();
        assert!(told.contains("50000 µs of each 1000000 µs"), "{told}");
        let told = guard(2, None).check(50, true).unwrap().unwrap();
        assert!(told.contains("the kernel's guard is off"), "{told}");
        assert_eq!(guard(2, Some(950_000)).check(50, true), Ok(None));
    }

    #[test]
    fn what_is_lacking_is_named() {
        let denied =
            |has_capability| RealtimeError::Denied { priority: 5, answer: Errno::EPERM, has_capability }.to_string();
        assert!(
            denied(false).contains("CAP_SYS_NICE") && denied(false).contains("ulimit -r to 5"),
            "{}",
            denied(false)
        );
        assert!(!denied(false).contains("control group") && denied(true).contains("cpu.rt_runtime_us"));
    }

    #[test]
    fn the_machine_is_asked() {
        let guard = Guard::before_pinning();
        assert!(guard.cpus >= 1 && guard.budget.period_us > 0, "{guard:?}");
        // Whatever this machine says, as a number or as -1.
        let text = fs::read_to_string(RUNTIME).unwrap();
        assert_eq!(guard.budget.runtime_us, text.trim().parse().ok());
        // Once the loop's thread is pinned there is one CPU for it, whatever the process has, and the same budget.
        let pinned = std::thread::spawn(|| {
            let first =
                (0..CpuSet::count()).find(|cpu| sched_getaffinity(Pid::from_raw(0)).unwrap().is_set(*cpu).unwrap());
            let mut one = CpuSet::new();
            one.set(first.unwrap()).unwrap();
            nix::sched::sched_setaffinity(Pid::from_raw(0), &one).unwrap();
            (Guard::before_pinning().cpus, Budget::of_this_machine())
        });
        assert_eq!(pinned.join().unwrap(), (1, guard.budget));
    }
}
