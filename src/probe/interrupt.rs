//! SIGINT and SIGTERM as something that a busy loop can look at and a sleeping one wakes up from.

use signal_hook::consts::{SIGINT, SIGTERM};
use std::io::{self, Read};
use std::os::fd::{AsFd, BorrowedFd};
use std::os::unix::net::UnixStream;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

/// The user's wish for an end, as a flag and as a descriptor that becomes readable.
#[derive(Debug)]
pub struct Interrupt {
    flag: Arc<AtomicBool>,
    wake: UnixStream,
}

impl Interrupt {
    /// From now on SIGINT and SIGTERM no longer end the process.
    ///
    /// # Errors
    /// What the kernel answered to `sigaction(2)` or `socketpair(2)`.
    pub fn catch() -> io::Result<Self> {
        let flag = Arc::new(AtomicBool::new(false));
        let (wake, waker) = UnixStream::pair()?;
        wake.set_nonblocking(true)?;
        for signal in [SIGINT, SIGTERM] {
            // The flag first: whoever is woken must find it set.
            signal_hook::flag::register(signal, Arc::clone(&flag))?;
            signal_hook::low_level::pipe::register(signal, waker.try_clone()?)?;
        }
        Ok(Self { flag, wake })
    }

    /// Whether a signal came since the last call. No system call while none did.
    pub fn take(&mut self) -> bool {
        let came = self.flag.load(Ordering::Relaxed) && self.flag.swap(false, Ordering::Relaxed);
        if came {
            let mut bytes = [0; 16];
            while matches!(self.wake.read(&mut bytes), Ok(read) if read > 0) {}
        }
        came
    }

    /// Readable once a signal came and until [`Interrupt::take`].
    pub fn as_fd(&self) -> BorrowedFd<'_> {
        self.wake.as_fd()
    }
}
