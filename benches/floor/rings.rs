//! One AF_XDP socket in copy mode: its rings, its frames, and nothing that is not needed for moving one.

use super::redirect::Redirect;
use anyhow::{Context, Result, anyhow, bail};
use nix::errno::Errno;
use nix::poll::{PollFd, PollFlags, ppoll};
use nix::sys::time::TimeSpec;
use std::ffi::CString;
use std::num::NonZeroU32;
use std::os::fd::{AsRawFd, BorrowedFd, RawFd};
use std::ptr;
use std::time::Duration;
use xsk_rs::config::{BindFlags, Interface, LibxdpFlags, QueueSize, SocketConfig, UmemConfig};
use xsk_rs::{CompQueue, FillQueue, FrameDesc, RxQueue, Socket, TxQueue, Umem};

/// Frames for receiving and, half as many, for sending: as the program under test has.
const RECEIVING: u32 = 4096;
const SENDING: u32 = 2048;
/// Frames that are taken from a ring at once.
const BATCH: usize = 64;
/// A socket that was closed frees its queue a little later.
const RELEASE_TRIES: u32 = 50;
const RELEASE_PAUSE: Duration = Duration::from_millis(10);

/// An open socket on queue 0, with the program that brings it every frame.
pub struct Rings {
    // Dropped first: nothing is redirected into a socket that is being closed.
    _redirect: Redirect,
    fd: RawFd,
    free: Vec<FrameDesc>,
    scratch: [FrameDesc; BATCH],
    tx: TxQueue,
    rx: RxQueue,
    fill: FillQueue,
    completions: CompQueue,
    umem: Umem,
}

impl Rings {
    pub fn open(interface: &str) -> Result<Self> {
        let (receiving, sending) = (QueueSize::new(RECEIVING)?, QueueSize::new(2 * RECEIVING)?);
        let config = UmemConfig::builder()
            .frame_size(2048.try_into()?)
            .fill_queue_size(receiving)
            .comp_queue_size(sending)
            .build()?;
        let frames = NonZeroU32::new(RECEIVING + SENDING).context("there are frames")?;
        let (umem, mut free) =
            Umem::new(config, frames, false).map_err(|error| anyhow!("cannot register a UMEM: {error:?}"))?;
        let config = SocketConfig::builder()
            .rx_queue_size(receiving)
            .tx_queue_size(sending)
            .libxdp_flags(LibxdpFlags::XSK_LIBXDP_FLAGS_INHIBIT_PROG_LOAD)
            .bind_flags(BindFlags::XDP_USE_NEED_WAKEUP | BindFlags::XDP_COPY)
            .build();
        let (tx, rx, mut fill, completions) = bind(interface, config, &umem)?;
        let given = free.split_off(SENDING as usize);
        // SAFETY: frames of this UMEM that are in no ring.
        let filled = unsafe { fill.produce(&given) };
        if filled != given.len() {
            bail!("the fill ring took {filled} of {} frames", given.len());
        }
        let fd = tx.fd().as_raw_fd();
        // SAFETY: the rings, which are kept, keep the socket open.
        let socket = unsafe { BorrowedFd::borrow_raw(fd) };
        let redirect = Redirect::attach(nix::net::if_::if_nametoindex(interface)?, socket)?;
        Ok(Self {
            _redirect: redirect,
            fd,
            free,
            scratch: [FrameDesc::default(); BATCH],
            tx,
            rx,
            fill,
            completions,
            umem,
        })
    }

    /// Puts a frame into the TX ring; `false` where there is none to put it in.
    #[inline]
    pub fn send(&mut self, bytes: &[u8]) -> bool {
        let Some(mut frame) = self.free.pop() else { return false };
        // SAFETY: the frame is of this UMEM, and in no ring.
        let mut data = unsafe { self.umem.data_mut(&mut frame) };
        data.cursor().set_pos(bytes.len());
        data.contents_mut().copy_from_slice(bytes);
        // SAFETY: as above. The ring has room for all frames.
        unsafe { self.tx.produce_one(&frame) == 1 }
    }

    /// Has the kernel send what is in the TX ring, as often as it takes.
    #[inline]
    pub fn wake(&mut self) -> Result<()> {
        loop {
            // SAFETY: an empty message: no memory is read.
            let answer = unsafe { libc::sendto(self.fd, ptr::null(), 0, libc::MSG_DONTWAIT, ptr::null(), 0) };
            match Errno::result(answer) {
                Ok(_) => return Ok(()),
                // The kernel takes 32 frames in one call.
                Err(Errno::EAGAIN | Errno::EBUSY | Errno::ENOBUFS | Errno::EINTR) => {}
                Err(errno) => bail!("the kernel does not send: {errno}"),
            }
        }
    }

    /// Sleeps until a frame has come, for `most` at most.
    pub fn wait(&self, most: Duration) -> Result<()> {
        // SAFETY: the rings, which are kept, keep the socket open.
        let socket = unsafe { BorrowedFd::borrow_raw(self.fd) };
        match ppoll(&mut [PollFd::new(socket, PollFlags::POLLIN)], Some(TimeSpec::from_duration(most)), None) {
            Ok(_) | Err(Errno::EINTR) => Ok(()),
            Err(errno) => bail!("cannot wait for frames: {errno}"),
        }
    }

    /// Frees the frames that the kernel has sent.
    #[inline]
    pub fn reap(&mut self) {
        // SAFETY: the ring's frames are of this UMEM.
        let count = unsafe { self.completions.consume(&mut self.scratch) };
        self.free.extend_from_slice(&self.scratch[..count]);
    }

    /// Hands over the frames that have come, and gives them back to the kernel; how many there were.
    #[inline]
    pub fn receive(&mut self, mut each: impl FnMut(&[u8])) -> Result<usize> {
        // SAFETY: the ring's frames are of this UMEM.
        let count = unsafe { self.rx.consume(&mut self.scratch) };
        for frame in &self.scratch[..count] {
            // SAFETY: the frame is of this UMEM, and in no ring.
            each(unsafe { self.umem.data(frame) }.contents());
        }
        self.give_back(count)?;
        Ok(count)
    }

    /// Sends back what has come, in the frames that it came in; how many there were.
    #[inline]
    pub fn echo(&mut self) -> Result<usize> {
        // SAFETY: the ring's frames are of this UMEM.
        let count = unsafe { self.rx.consume(&mut self.scratch) };
        if count == 0 {
            return Ok(0);
        }
        for frame in &mut self.scratch[..count] {
            // SAFETY: the frame is of this UMEM, and in no ring.
            let mut data = unsafe { self.umem.data_mut(frame) };
            let (to, rest) = data.contents_mut().split_at_mut(6);
            to.swap_with_slice(&mut rest[..6]);
        }
        // SAFETY: frames of this UMEM that are in no ring. The ring has room for all of them.
        unsafe { self.tx.produce(&self.scratch[..count]) };
        self.wake()?;
        // SAFETY: the ring's frames are of this UMEM.
        let sent = unsafe { self.completions.consume(&mut self.scratch) };
        self.give_back(sent)?;
        Ok(count)
    }

    /// Gives the first frames of `scratch` to the kernel to receive into.
    fn give_back(&mut self, count: usize) -> Result<()> {
        let mut tries = 0;
        // SAFETY: frames of this UMEM that are in no ring.
        while count > 0 && unsafe { self.fill.produce(&self.scratch[..count]) } == 0 {
            // The kernel shows a frame before it shows that its entry is free.
            tries += 1;
            if tries > 1_000_000 {
                bail!("the fill ring stays full");
            }
        }
        Ok(())
    }
}

fn bind(interface: &str, config: SocketConfig, umem: &Umem) -> Result<(TxQueue, RxQueue, FillQueue, CompQueue)> {
    let name = Interface::new(CString::new(interface)?);
    let mut tries = 0;
    loop {
        // SAFETY: this UMEM is used for no other socket.
        match unsafe { Socket::new(config, umem, &name, 0) } {
            Ok((tx, rx, Some((fill, completions)))) => return Ok((tx, rx, fill, completions)),
            Ok((_, _, None)) => bail!("the AF_XDP socket of {interface} came without fill ring"),
            Err(error) if tries == RELEASE_TRIES => bail!("cannot bind an AF_XDP socket to {interface}: {error:?}"),
            Err(_) => tries += 1,
        }
        std::thread::sleep(RELEASE_PAUSE);
    }
}
