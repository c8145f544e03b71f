//! All of the process's memory in RAM while the hot loop runs (mlockall(2)): no page of it is fetched, or made, in the loop.
#![forbid(unsafe_code)]

use crate::net::privilege::{self, Capability};
use nix::errno::Errno;
use nix::sys::mman::{MlockAllFlags, mlockall, munlockall};
use std::fs;

/// Why memory is not locked.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error(
    "--lock-memory: cannot lock this process's {}memory (mlockall: {answer}){}: run as root, give the program the capability \
     CAP_IPC_LOCK beside those that it has (setcap), raise ulimit -l, or leave --lock-memory out",
    size_kib.map_or_else(String::new, |size| format!("{size} KiB of ")),
    limit.map_or_else(String::new, |limit| format!(", of which it may lock {} KiB (RLIMIT_MEMLOCK)", limit / 1024))
)]
pub struct LockError {
    /// What the kernel answered, or would.
    pub answer: Errno,
    /// The process's address space in KiB, all of which counts.
    pub size_kib: Option<u64>,
    /// How many bytes it may lock; `None` where that is not what is lacking.
    pub limit: Option<u64>,
}

impl LockError {
    fn new(answer: Errno) -> Self {
        let limit = privilege::locked_memory_limit().filter(|_| is_limited());
        Self { answer, size_kib: size_kib(), limit }
    }
}

/// All memory is locked for as long as this lives, also what is added meanwhile.
#[derive(Debug)]
pub struct LockedMemory(());

impl LockedMemory {
    /// Locks what there is, and what will be. Fetches and makes each page of it, thread stacks among them: not for the hot loop.
    ///
    /// # Errors
    /// [`LockError`], and nothing is locked.
    pub fn lock() -> Result<Self, LockError> {
        let flags = MlockAllFlags::MCL_CURRENT | MlockAllFlags::MCL_FUTURE;
        mlockall(flags).map(|()| Self(())).map_err(LockError::new)
    }

    /// Whether that can be had, as far as can be told without doing it.
    ///
    /// # Errors
    /// [`LockError`].
    pub fn check() -> Result<(), LockError> {
        let fits = |limit| size_kib().is_none_or(|size| size * 1024 <= limit);
        match privilege::locked_memory_limit() {
            Some(limit) if is_limited() && !fits(limit) => Err(LockError::new(Errno::ENOMEM)),
            _ => Ok(()),
        }
    }
}

impl Drop for LockedMemory {
    fn drop(&mut self) {
        // What follows the loop may take memory beyond the limit.
        let _ = munlockall();
    }
}

fn is_limited() -> bool {
    !privilege::missing(&[Capability::IpcLock]).is_empty()
}

/// `VmSize` of proc_pid_status(5).
fn size_kib() -> Option<u64> {
    field("VmSize:")
}

fn field(name: &str) -> Option<u64> {
    let status = fs::read_to_string("/proc/self/status").ok()?;
    status.lines().find_map(|line| line.strip_prefix(name))?.split_whitespace().next()?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_lacking_is_named_in_numbers() {
        let error = LockError { answer: Errno::ENOMEM, size_kib: Some(300_000), limit: Some(8 << 20) }.to_string();
        assert!(
            error.starts_with("--lock-memory: cannot lock this process's 300000 KiB of memory (mlockall: ENOMEM"),
            "{error}"
        );
        assert!(error.contains("may lock 8192 KiB (RLIMIT_MEMLOCK)") && error.contains("CAP_IPC_LOCK"), "{error}");
        let error = LockError { answer: Errno::EPERM, size_kib: None, limit: None }.to_string();
        assert!(error.contains("this process's memory") && !error.contains("RLIMIT_MEMLOCK"), "{error}");
    }

    #[test]
    fn the_size_of_the_process_is_known() {
        assert!(size_kib().unwrap() > 1000);
        assert_eq!(LockedMemory::check(), Ok(()), "root may lock what it likes");
    }
}
