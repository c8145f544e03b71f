//! Reading the system's clocks (`clock_gettime(2)`, through the vDSO: no system call where the clock source allows).
#![forbid(unsafe_code)]

use super::{Domain, Monotonic, Realtime, Tai, Time};
use nix::time::{ClockId, clock_gettime};

/// Reads `CLOCK_MONOTONIC`.
pub fn monotonic_now() -> Time<Monotonic> {
    read(ClockId::CLOCK_MONOTONIC)
}

/// Reads `CLOCK_REALTIME`.
pub fn realtime_now() -> Time<Realtime> {
    read(ClockId::CLOCK_REALTIME)
}

/// Reads `CLOCK_TAI`.
pub fn tai_now() -> Time<Tai> {
    read(ClockId::CLOCK_TAI)
}

/// CPU time that the calling thread has taken, in ns (`CLOCK_THREAD_CPUTIME_ID`). A system call.
pub fn thread_cpu_now() -> u64 {
    let spent = clock_gettime(ClockId::CLOCK_THREAD_CPUTIME_ID).expect("the kernel has this clock since 2.6.12");
    spent.tv_sec() as u64 * 1_000_000_000 + spent.tv_nsec() as u64
}

/// Which boot of which machine the clocks are of: a random id that the kernel gives itself as it starts (random(4)). `None`
/// where `/proc` does not tell.
pub fn boot_id() -> Option<String> {
    let id = std::fs::read_to_string("/proc/sys/kernel/random/boot_id").ok()?;
    Some(id.trim().to_owned()).filter(|id| !id.is_empty())
}

fn read<C: Domain>(clock: ClockId) -> Time<C> {
    let now = clock_gettime(clock).expect("the kernel has this clock since 3.10, and the address is ours");
    Time::from_nanos(now.tv_sec() as u64 * 1_000_000_000 + now.tv_nsec() as u64)
}
