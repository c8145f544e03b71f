//! Binding an AF_XDP socket to a queue, and its options. What goes through it afterwards is [`super::queue`]'s.

use super::ZeroCopy;
use crate::path::BATCH;
use anyhow::{Context as _, bail};
use nix::errno::Errno;
use std::ffi::CString;
use std::io;
use std::os::fd::{AsRawFd as _, RawFd};
use std::time::Duration;
use xsk_rs::config::{BindFlags, Interface, SocketConfig};
use xsk_rs::{CompQueue, FillQueue, RxQueue, Socket, TxQueue, Umem};

/// A socket that was closed frees its queue and its memory a little later, in a kernel worker.
const RELEASE_TRIES: u32 = 100;
const RELEASE_PAUSE: Duration = Duration::from_millis(10);
/// Packets that one busy poll takes: as many as a batch.
const BUSY_POLL_BUDGET: libc::c_int = BATCH as libc::c_int;

/// TX, receive, fill and completion ring.
pub(super) type Rings = (TxQueue, RxQueue, FillQueue, CompQueue);

/// How a socket is asked for: with [`ZeroCopy::Auto`] the kernel itself takes what the driver has.
///
/// Not by trying the one and then the other: the memory of the socket that was tried is taken down by a kernel worker, which
/// keeps a CPU for over a millisecond, and not at once but a few grace periods later, in the midst of the first pings.
pub(super) const fn bind_flags(zero_copy: ZeroCopy) -> BindFlags {
    match zero_copy {
        ZeroCopy::On => BindFlags::XDP_USE_NEED_WAKEUP.union(BindFlags::XDP_ZEROCOPY),
        ZeroCopy::Off => BindFlags::XDP_USE_NEED_WAKEUP.union(BindFlags::XDP_COPY),
        ZeroCopy::Auto => BindFlags::XDP_USE_NEED_WAKEUP,
    }
}

/// Whether the kernel moves the frames of a bound socket without copying them: `XDP_OPTIONS`, `linux/if_xdp.h`.
///
/// # Errors
/// What the kernel answered.
pub(super) fn is_zero_copy(fd: RawFd) -> io::Result<bool> {
    let mut options = libc::xdp_options { flags: 0 };
    let mut length = size_of_val(&options) as libc::socklen_t;
    // SAFETY: the value is of the type that the kernel writes for this option, and its length is given.
    let answer =
        unsafe { libc::getsockopt(fd, libc::SOL_XDP, libc::XDP_OPTIONS, (&raw mut options).cast(), &raw mut length) };
    Errno::result(answer)?;
    Ok(options.flags & libc::XDP_OPTIONS_ZEROCOPY != 0)
}

/// Binds a socket to queue `id` of `interface`; waits a little where its last one is still being cleared away. Whether it
/// moves frames without copying them.
///
/// # Errors
/// What the kernel answered and what it means there.
pub(super) fn bind(interface: &str, id: u32, config: SocketConfig, umem: &Umem) -> anyhow::Result<(Rings, bool)> {
    let name = Interface::new(CString::new(interface)?);
    let zero_copy = config.bind_flags().contains(BindFlags::XDP_ZEROCOPY);
    let opened = released(Errno::EBUSY, || {
        // SAFETY: this UMEM is used for no other socket.
        unsafe { Socket::new(config, umem, &name, id) }
    });
    let errno = match opened {
        Ok((tx, rx, Some((fill, completions)))) => {
            let zero_copy = is_zero_copy(tx.fd().as_raw_fd())
                .with_context(|| format!("cannot ask whether queue {id} of {interface} is in zero-copy mode"))?;
            return Ok(((tx, rx, fill, completions), zero_copy));
        }
        Ok((_, _, None)) => bail!("the AF_XDP socket of queue {id} came without fill ring"),
        Err(error) => errno_of(&error),
    };
    if errno == Errno::EBUSY {
        bail!(
            "queue {id} of {interface} is taken by another AF_XDP socket: end the program that has it (ss --xdp -p), \
             choose other queues with --queue, or use --path kernel"
        );
    }
    if zero_copy {
        bail!(
            "cannot bind an AF_XDP socket to queue {id} of {interface} in zero-copy mode: {}{}: use --zero-copy off",
            errno.desc(),
            socket_meaning(errno)
        );
    }
    bail!(
        "cannot bind an AF_XDP socket to queue {id} of {interface}: {}{}: use --path kernel",
        errno.desc(),
        socket_meaning(errno)
    );
}

/// Tries again for a second where the kernel answers `taken`: what is wanted may still be a closed socket's, the queue or the
/// memory that the user may have locked.
///
/// # Errors
/// The last one.
pub(super) fn released<T, E: std::error::Error>(
    taken: Errno,
    mut attempt: impl FnMut() -> Result<T, E>,
) -> Result<T, E> {
    for _ in 1..RELEASE_TRIES {
        match attempt() {
            Err(error) if errno_of(&error) == taken => std::thread::sleep(RELEASE_PAUSE),
            other => return other,
        }
    }
    attempt()
}

/// The errno behind an error of xsk-rs.
pub(super) fn errno_of(error: &dyn std::error::Error) -> Errno {
    let code = error.source().and_then(|source| source.downcast_ref::<io::Error>()).and_then(io::Error::raw_os_error);
    code.map_or(Errno::UnknownErrno, Errno::from_raw)
}

/// What an errno means for an AF_XDP socket, to be put behind its description.
pub(super) fn socket_meaning(errno: Errno) -> &'static str {
    match errno {
        Errno::EPERM | Errno::EACCES => " (it takes root, or CAP_NET_RAW)",
        Errno::ENOBUFS => " (more locked memory is needed than `ulimit -l` allows; CAP_IPC_LOCK lifts the limit)",
        Errno::EINVAL => " (is there such a queue?)",
        Errno::EOPNOTSUPP => " (the driver does not support it)",
        Errno::EAFNOSUPPORT => " (the kernel is built without CONFIG_XDP_SOCKETS)",
        Errno::ENETDOWN => " (the interface is down)",
        _ => "",
    }
}

/// Has the kernel poll the card for so many microseconds instead of waiting for interrupts.
///
/// `Documentation/networking/napi.rst`, "Busy polling".
pub(super) fn set_busy_poll(fd: RawFd, us: u32) -> io::Result<()> {
    let us = libc::c_int::try_from(us).unwrap_or(libc::c_int::MAX);
    for (option, value) in
        [(libc::SO_PREFER_BUSY_POLL, 1), (libc::SO_BUSY_POLL, us), (libc::SO_BUSY_POLL_BUDGET, BUSY_POLL_BUDGET)]
    {
        // SAFETY: the value is a c_int of the caller's, and its length is given.
        let answer = unsafe {
            libc::setsockopt(
                fd,
                libc::SOL_SOCKET,
                option,
                (&raw const value).cast(),
                size_of::<libc::c_int>() as libc::socklen_t,
            )
        };
        Errno::result(answer)?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_the_driver_has_is_asked_for_once() {
        let asked = |wish| [BindFlags::XDP_COPY, BindFlags::XDP_ZEROCOPY].map(|flag| bind_flags(wish).contains(flag));
        assert_eq!(asked(ZeroCopy::Auto), [false, false], "a second try leaves memory to be taken down");
        assert_eq!(asked(ZeroCopy::On), [false, true]);
        assert_eq!(asked(ZeroCopy::Off), [true, false]);
    }
}
