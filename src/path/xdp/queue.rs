//! One AF_XDP socket on one receive queue: its UMEM, its four rings, and the frames that are nobody's at the moment.
//!
//! It does not know the protocol: frames go in and out as bytes. It makes no system call but to wake the kernel.
//!
//! Most of the frames circulate on the receiving side (fill ring → kernel → receive ring → here → fill ring), the
//! others on the sending side (here → TX ring → kernel → completion ring → here). They never change sides, and each ring
//! has an entry for each frame of its side. Yet a ring may look full for a moment: the kernel shows a frame at its next
//! place before it shows that the entry is free (`xsk_flush`, `net/xdp/xsk.c`, publishes the receive ring first and then
//! what it took from the fill ring). Frames for which the fill ring shows no entry wait here for the next turn.

use super::ZeroCopy;
use super::ahead::Ahead;
use super::bind::{bind, bind_flags, errno_of, released, set_busy_poll, socket_meaning};
use super::layout::{META_LEN, Meta};
use super::peers::Content;
use crate::clock::monotonic_now;
use crate::path::{BATCH, SendError};
use anyhow::{Context, anyhow};
use nix::errno::Errno;
use std::io;
use std::num::NonZeroU32;
use std::os::fd::{AsRawFd, BorrowedFd, RawFd};
use std::ptr;
use std::time::Duration;
use xsk_rs::config::{LibxdpFlags, QueueSize, SocketConfig, UmemConfig};
use xsk_rs::{CompQueue, FillQueue, FrameDesc, RxQueue, TxQueue, Umem};

/// Bytes in front of a frame's data that the kernel keeps for XDP programs (`XDP_PACKET_HEADROOM`, `linux/bpf.h`).
const HEADROOM: u32 = libbpf_rs::libbpf_sys::XDP_PACKET_HEADROOM;
/// The largest Ethernet header: two VLAN tags.
const MAX_LINK_LEN: u32 = 22;
/// What the UMEMs of all queues may take together, up to 32 of them: with all else that the process has it stays under 64 MiB.
const MAX_MEMORY: u32 = 36 << 20;
/// Frames on the receiving side, unless [`MAX_MEMORY`] commands fewer: at 100,000 packets a second they last 40 ms, for
/// as long the process may be off its CPU. Twice as many cost no measurable latency.
const RECEIVING: u32 = 4096;
/// Frames on the sending side, likewise. Those used last are used next, so that more cost nothing but memory.
const SENDING: u32 = 2048;
/// Where memory is short the sending side gives up its frames first, until it has so many times fewer: it waits where it has none
/// left, the receiving side loses what comes.
const SENDING_SHARE: u32 = 8;
/// How long the kernel may refuse to take frames before sending fails.
pub(super) const PATIENCE: Duration = Duration::from_secs(1);
/// On an idle ring the kernel's wish to be woken is looked at once in so many calls.
const IDLE_LOOKS: u32 = 64;
/// Frames that are given back to the kernel together: another CPU reads the fill ring, so that one frame costs as much as many. Few
/// beside what the ring holds.
const TOGETHER: usize = 16;
/// Sizes of a socket's memory.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Dimensions {
    /// Bytes of a frame in the UMEM.
    frame: u32,
    /// Frames on the receiving side, and entries of its rings.
    receiving: u32,
    /// Frames on the sending side, and entries of its rings.
    sending: u32,
}

impl Dimensions {
    /// Frames that hold a packet of `mtu` bytes; so many of them that all queues keep within [`MAX_MEMORY`].
    pub(super) fn new(mtu: u32, queues: usize) -> Self {
        // A frame of the kernel's is a power of two, of at least 2048 and at most a page.
        let frame = if mtu.saturating_add(MAX_LINK_LEN + HEADROOM) <= 2048 { 2048 } else { 4096 };
        let queues = u64::try_from(queues).unwrap_or(u64::MAX);
        let (mut receiving, mut sending) = (RECEIVING, SENDING);
        let (least_receiving, least_sending) = (2 * BATCH as u32, BATCH as u32);
        while u64::from((receiving + sending) * frame).saturating_mul(queues) > u64::from(MAX_MEMORY) {
            if sending > least_sending.max(receiving / SENDING_SHARE) {
                sending /= 2;
            } else if receiving > least_receiving {
                receiving /= 2;
            } else {
                break;
            }
        }
        Self { frame, receiving, sending }
    }

    /// All frames of the UMEM.
    const fn frames(self) -> u32 {
        self.receiving + self.sending
    }

    /// Bytes of the longest frame that can be sent, with its Ethernet header.
    const fn room(self) -> usize {
        (self.frame - HEADROOM) as usize
    }
}

/// Bytes of memory that the kernel locks for AF_XDP sockets on so many queues of an interface with this MTU: all their UMEMs.
pub fn locked_memory(mtu: u32, queues: usize) -> u64 {
    let dimensions = Dimensions::new(mtu, queues);
    let each = u64::from(dimensions.frames()) * u64::from(dimensions.frame);
    each.saturating_mul(queues.try_into().unwrap_or(u64::MAX))
}

/// What is asked for a socket.
#[derive(Debug, Clone, Copy)]
pub(super) struct Wishes {
    pub(super) dimensions: Dimensions,
    pub(super) zero_copy: ZeroCopy,
    /// Microseconds; `None` is off.
    pub(super) busy_poll_us: Option<u32>,
}

/// A frame taken out of the free ones, to be written and submitted.
#[derive(Debug)]
pub(super) struct Blank(FrameDesc);

/// Where the frames of one queue's UMEM are. While nothing is on its way, `free` and `in_flight` make up `sending`, and
/// `done`, `filled` and `received` make up `receiving`; a driver in zero-copy mode keeps some of the latter besides.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Frames {
    /// Ready to be written.
    pub free: u32,
    /// Submitted, and not yet known to be sent.
    pub in_flight: u32,
    /// All frames of the sending side.
    pub sending: u32,
    /// Read, and not yet given back to the kernel.
    pub done: u32,
    /// In the fill ring: the kernel's to receive into.
    pub filled: u32,
    /// In the receive ring, not yet read.
    pub received: u32,
    /// All frames of the receiving side.
    pub receiving: u32,
}

impl Frames {
    /// How many are in none of these places: lost, unless they are on their way. A driver in zero-copy mode has some of the
    /// receiving side that nobody can count.
    const fn missing(&self, zero_copy: bool) -> u32 {
        let sending = self.sending.saturating_sub(self.free + self.in_flight);
        let receiving = self.receiving.saturating_sub(self.done + self.filled + self.received);
        if zero_copy { sending } else { sending + receiving }
    }
}

/// An open socket.
#[derive(Debug)]
pub(super) struct Queue {
    id: u32,
    fd: RawFd,
    zero_copy: bool,
    busy_poll: bool,
    dimensions: Dimensions,
    /// The UMEM's first byte.
    base: *mut u8,
    /// Frames that may be sent; the last one used is the first one used again, as it is still in the cache.
    free: Vec<FrameDesc>,
    /// What each frame of the sending side holds, by its place in the UMEM.
    contents: Vec<Content>,
    /// Frames read and done with, not yet given back to the fill ring. At the beginning all of the receiving side are
    /// here: it has room for them all and never allocates.
    done: Vec<FrameDesc>,
    scratch: Box<[FrameDesc; BATCH]>,
    /// What the kernel receives into next.
    ahead: Ahead,
    /// Frames submitted that the kernel may not have taken from the TX ring yet.
    unsent: u32,
    /// Frames submitted and not yet completed.
    in_flight: u32,
    /// Frames that the kernel took and dropped.
    dropped: u64,
    idle: u32,
    tx: TxQueue,
    rx: RxQueue,
    fill: FillQueue,
    completions: CompQueue,
    umem: Umem,
}

// SAFETY: `base` points into the UMEM that the value owns and is used only through `&mut self`; everything else is Send.
unsafe impl Send for Queue {}

impl Queue {
    /// Opens a socket with its own UMEM on queue `id` of `interface`, its fill ring full.
    ///
    /// # Errors
    /// What the kernel answered and what it means there.
    pub(super) fn open(interface: &str, id: u32, wishes: Wishes) -> anyhow::Result<Self> {
        let Wishes { dimensions, zero_copy, busy_poll_us } = wishes;
        let (receiving, sending) = (QueueSize::new(dimensions.receiving)?, QueueSize::new(dimensions.sending)?);
        let umem_config = UmemConfig::builder()
            .frame_size(dimensions.frame.try_into()?)
            .fill_queue_size(receiving)
            .comp_queue_size(sending)
            .build()?;
        let frames = NonZeroU32::new(dimensions.frames()).ok_or_else(|| anyhow!("a UMEM without frames"))?;
        let made = released(Errno::ENOBUFS, || Umem::new(umem_config, frames, false));
        let (umem, mut descriptors) = made.map_err(|error| {
            let errno = errno_of(&error);
            anyhow!(
                "cannot register {} bytes of memory for AF_XDP on queue {id} of {interface}: {}{}",
                frames.get() * dimensions.frame,
                errno.desc(),
                socket_meaning(errno)
            )
        })?;
        // The region itself is not to be had from xsk-rs, which shows frames without the record in front of them. Its
        // address is: frame 0 is empty, and lies where its descriptor says.
        // SAFETY: the descriptor is of this UMEM, and the kernel has no frame yet.
        let first = unsafe { umem.data(&descriptors[0]) }.contents().as_ptr().addr();
        // The memory comes from mmap, whose address was given to the kernel: its provenance is exposed.
        let base = ptr::with_exposed_provenance_mut(first - descriptors[0].addr());

        let config = SocketConfig::builder()
            .rx_queue_size(receiving)
            .tx_queue_size(sending)
            .libxdp_flags(LibxdpFlags::XSK_LIBXDP_FLAGS_INHIBIT_PROG_LOAD)
            .bind_flags(bind_flags(zero_copy))
            .build();
        let ((tx, rx, fill, completions), zero_copy) = bind(interface, id, config, &umem)?;
        let fd = tx.fd().as_raw_fd();
        if let Some(us) = busy_poll_us {
            set_busy_poll(fd, us)
                .with_context(|| format!("cannot switch on busy polling of {us} µs on queue {id} of {interface}"))?;
        }

        let receiving = descriptors.split_off(dimensions.sending as usize);
        let mut queue = Self {
            id,
            fd,
            zero_copy,
            busy_poll: busy_poll_us.is_some(),
            dimensions,
            base,
            free: descriptors,
            contents: vec![Content::NONE; dimensions.sending as usize],
            done: receiving,
            scratch: Box::new([FrameDesc::default(); BATCH]),
            ahead: Ahead::new(dimensions.receiving),
            unsent: 0,
            in_flight: 0,
            dropped: 0,
            idle: 0,
            tx,
            rx,
            fill,
            completions,
            umem,
        };
        // In zero-copy mode the driver takes its buffers from the fill ring when it is woken, not before: without this
        // nothing would ever be received.
        queue.give_back();
        queue.wake_receiver().with_context(|| format!("cannot wake queue {id} of {interface}"))?;
        Ok(queue)
    }

    /// The receive queue.
    pub(super) const fn id(&self) -> u32 {
        self.id
    }

    /// Whether frames are moved without copying.
    pub(super) const fn is_zero_copy(&self) -> bool {
        self.zero_copy
    }

    /// The socket.
    pub(super) fn fd(&self) -> BorrowedFd<'_> {
        // SAFETY: the socket is closed when its four rings are dropped, and `self` holds them.
        unsafe { BorrowedFd::borrow_raw(self.fd) }
    }

    /// Whether frames were submitted that the kernel may not have seen.
    #[inline]
    pub(super) const fn has_unsent(&self) -> bool {
        self.unsent != 0
    }

    /// A frame to write; `None` while all are in the kernel's hands.
    #[inline]
    pub(super) fn take(&mut self) -> Option<Blank> {
        if self.free.is_empty() {
            self.reap();
        }
        self.free.pop().map(Blank)
    }

    /// The memory of a frame, and what it holds.
    #[inline]
    pub(super) fn contents(&mut self, blank: &Blank) -> (&mut [u8], &mut Content) {
        let addr = blank.0.addr();
        let content = &mut self.contents[addr / self.dimensions.frame as usize];
        // SAFETY: `addr` is what the UMEM gave for a frame of the sending side, hence HEADROOM bytes into it, with
        // `room()` bytes behind. The frame is not in a ring as long as its descriptor is here.
        let bytes = unsafe { self.base.add(addr) };
        // SAFETY: as above; the borrow of `self` keeps it from being made a second time.
        (unsafe { std::slice::from_raw_parts_mut(bytes, self.dimensions.room()) }, content)
    }

    /// Puts a written frame into the TX ring; returns whether that had to wait for an entry. The kernel sees it with the
    /// next [`Queue::push`].
    ///
    /// # Errors
    /// The frame is free again, and nothing was sent: what the kernel answered where it was asked for an entry;
    /// `TimedOut` where it frees none for [`PATIENCE`].
    #[inline]
    pub(super) fn submit(&mut self, blank: Blank, len: usize) -> io::Result<bool> {
        let Blank(mut descriptor) = blank;
        // A descriptor comes back from the completion ring without length.
        // SAFETY: the frame is not in a ring, and no other reference to it exists.
        unsafe { self.umem.data_mut(&mut descriptor) }.cursor().set_pos(len);
        // SAFETY: a frame of this UMEM, which is in no ring.
        let waited = unsafe { self.tx.produce_one(&descriptor) } == 0;
        if waited {
            self.submit_again(descriptor)?;
        }
        self.unsent += 1;
        self.in_flight += 1;
        Ok(waited)
    }

    /// Has the kernel work on the TX ring until there is an entry for a frame.
    #[cold]
    fn submit_again(&mut self, descriptor: FrameDesc) -> io::Result<()> {
        let began = monotonic_now();
        let error = loop {
            match self.wake_sender() {
                Ok(()) | Err(Errno::EAGAIN | Errno::EBUSY | Errno::ENOBUFS | Errno::EINTR) => {}
                Err(errno) => break self.sending_failed(errno),
            }
            // SAFETY: a frame of this UMEM, which is in no ring.
            if unsafe { self.tx.produce_one(&descriptor) } != 0 {
                return Ok(());
            }
            if monotonic_now().duration_since(began) > PATIENCE {
                break io::Error::new(
                    io::ErrorKind::TimedOut,
                    format!("the kernel freed no entry of the full TX ring of queue {} within 1 s", self.id),
                );
            }
        };
        self.free.push(descriptor);
        Err(error)
    }

    /// Makes the kernel take what is in the TX ring; returns how often it had to be asked again.
    ///
    /// # Errors
    /// What the kernel answered; `TimedOut` where it takes nothing for [`PATIENCE`].
    #[inline]
    pub(super) fn push(&mut self) -> io::Result<u64> {
        if self.unsent == 0 {
            return Ok(0);
        }
        let mut again = 0;
        // In copy mode the flag is always set. A driver in zero-copy mode clears it while it is at work anyway, and sets it
        // before it looks at the ring for the last time: our entry must be visible before the flag is read.
        if self.zero_copy {
            std::sync::atomic::fence(std::sync::atomic::Ordering::SeqCst);
        }
        if self.tx.needs_wakeup() {
            // One call sends at most 32 frames in copy mode (TX_BATCH_SIZE, net/xdp/xsk.c), then says EAGAIN.
            if let Err(errno) = self.wake_sender() {
                again = self.push_again(errno, self.unsent)?;
            }
        }
        self.unsent = if self.zero_copy { self.in_tx_ring() } else { 0 };
        Ok(again)
    }

    /// As [`Queue::push`], and has the kernel look for completions where it has taken everything already.
    ///
    /// # Errors
    /// As [`Queue::push`].
    #[cold]
    pub(super) fn press(&mut self) -> io::Result<u64> {
        let again = self.push()?;
        if self.tx.needs_wakeup() {
            // Whatever it answers: it is asked again until there is a frame, or patience ends.
            let _ = self.wake_sender();
        }
        Ok(again)
    }

    #[cold]
    fn push_again(&mut self, first: Errno, mut left: u32) -> io::Result<u64> {
        let mut answer = Err(first);
        let mut again = 0;
        let mut progress = monotonic_now();
        while let Err(errno) = answer {
            self.reap();
            let now_left = self.in_tx_ring();
            let took_some = now_left < left;
            match errno {
                // In copy mode the device said no to the last frame taken (NET_XMIT_DROP, xsk_generic_xmit in
                // net/xdp/xsk.c): it is completed, and gone.
                Errno::EBUSY if took_some && !self.zero_copy => self.dropped += 1,
                // The limit of one call, or a ring that is being worked on: whatever was taken is on its way.
                Errno::EAGAIN | Errno::EBUSY | Errno::ENOBUFS => again += u64::from(!took_some),
                Errno::EINTR => {}
                other => return Err(self.sending_failed(other)),
            }
            if now_left == 0 {
                break;
            }
            if took_some {
                left = now_left;
                progress = monotonic_now();
            } else if monotonic_now().duration_since(progress) > PATIENCE {
                return Err(io::Error::new(
                    io::ErrorKind::TimedOut,
                    format!(
                        "the kernel took none of {left} frames from the TX ring of queue {} within 1 s: {}",
                        self.id,
                        errno.desc()
                    ),
                ));
            }
            answer = self.wake_sender();
        }
        Ok(again)
    }

    #[cold]
    fn sending_failed(&self, errno: Errno) -> io::Error {
        let error = io::Error::from(errno);
        let meaning = if errno == Errno::ENETDOWN { ": the interface is down" } else { "" };
        let text = format!("cannot send on queue {}: {error}{meaning}", self.id);
        io::Error::new(error.kind(), SendError { answer: Some(errno as i32), text })
    }

    /// Frees the frames that the kernel has sent.
    #[inline]
    pub(super) fn reap(&mut self) {
        while self.in_flight != 0 {
            // SAFETY: the ring's frames are of this UMEM, as only `submit` puts any in.
            let count = unsafe { self.completions.consume(&mut self.scratch[..]) };
            self.free.extend_from_slice(&self.scratch[..count]);
            self.in_flight -= count as u32;
            if count < BATCH {
                break;
            }
        }
    }

    /// Hands every frame that has come in, up to `limit`, to `each`, with the record in front of it. `before` is called
    /// once, when the ring was read and had something. The frames are given back by [`Queue::recycle`].
    ///
    /// # Errors
    /// What the kernel answered to being woken.
    #[inline]
    pub(super) fn receive<T>(
        &mut self,
        limit: usize,
        before: impl FnOnce() -> T,
        mut each: impl FnMut(&T, &[u8], Option<Meta>),
    ) -> io::Result<usize> {
        let limit = limit.min(BATCH);
        self.look_ahead();
        // SAFETY: the ring's frames are of this UMEM, as only the fill ring's get there.
        let count = unsafe { self.rx.consume(&mut self.scratch[..limit]) };
        if count == 0 {
            self.look_after_idle_ring()?;
            return Ok(0);
        }
        self.idle = 0;
        for descriptor in &self.scratch[..count] {
            debug_assert!(
                self.zero_copy || descriptor.addr() == self.ahead.next(),
                "frames come in the order of the fill ring"
            );
            self.ahead.received();
            self.fetch(descriptor.addr());
        }
        let context = before();
        for at in 0..count {
            let descriptor = self.scratch[at];
            if let Some((frame, meta)) = self.received(&descriptor) {
                each(&context, frame, meta);
            }
            self.done.push(descriptor);
        }
        Ok(count)
    }

    /// Has the CPU fetch the frame that comes next, before the ring shows it: the kernel's CPU may have written it already, and
    /// whoever looks at an empty ring has nothing else to do. Where a driver writes into the frames it was not tried.
    #[inline]
    fn look_ahead(&self) {
        if !self.zero_copy {
            self.fetch(self.ahead.next());
        }
    }

    /// Has the CPU fetch a frame and its record. The other CPU wrote them, so that they come from its cache; the clock, which is
    /// read next, waits for what is read before it, but not for this.
    #[inline]
    fn fetch(&self, addr: usize) {
        #[cfg(target_arch = "x86_64")]
        {
            use std::arch::x86_64::{_MM_HINT_T0, _mm_prefetch};
            let frame = self.base.wrapping_add(addr);
            // SAFETY: a hint: no memory is accessed, whatever the address is.
            unsafe { _mm_prefetch::<_MM_HINT_T0>(frame.wrapping_sub(META_LEN).cast()) };
            // SAFETY: as above.
            unsafe { _mm_prefetch::<_MM_HINT_T0>(frame.cast()) };
        }
        #[cfg(not(target_arch = "x86_64"))]
        let _ = addr;
    }

    /// The bytes of a frame out of the receive ring, and the record in front of it.
    #[inline]
    fn received(&mut self, descriptor: &FrameDesc) -> Option<(&[u8], Option<Meta>)> {
        let (addr, len) = (descriptor.addr(), descriptor.lengths().data());
        let size = self.dimensions.frame as usize;
        let within = addr % size;
        // The kernel keeps to this; a check costs nothing beside the cache miss that the frame is.
        if addr / size >= self.dimensions.frames() as usize || within < META_LEN || within + len > size {
            return None;
        }
        // SAFETY: checked above: from `META_LEN` bytes before `addr` to `len` bytes behind it is one frame of the UMEM.
        let record = unsafe { self.base.add(addr - META_LEN) }.cast::<[u8; META_LEN]>();
        // SAFETY: the memory is there, any bytes are valid, and the kernel does not touch it until the frame is in the
        // fill ring again.
        let record = unsafe { &mut *record };
        let meta = Meta::from_bytes(record);
        if meta.is_some() {
            // A frame that is used again must not show an old record where the program wrote none.
            record[META_LEN - 4..].fill(0);
        }
        // SAFETY: as above.
        let bytes = unsafe { self.base.add(addr) };
        // SAFETY: as above.
        Some((unsafe { std::slice::from_raw_parts(bytes, len) }, meta))
    }

    /// Gives the frames that were read back to the kernel, once there are some, as many as the fill ring shows entries for; the others
    /// stay for the next call. Not in a hurry: the answer to a ping goes first.
    ///
    /// # Errors
    /// What the kernel answered to being woken.
    #[inline]
    pub(super) fn recycle(&mut self) -> io::Result<()> {
        if self.done.len() < TOGETHER { Ok(()) } else { self.recycle_all() }
    }

    fn recycle_all(&mut self) -> io::Result<()> {
        if self.done.is_empty() {
            return Ok(());
        }
        self.give_back();
        if self.fill.needs_wakeup() { self.wake_receiver() } else { Ok(()) }
    }

    fn give_back(&mut self) {
        let room = self.fill.nb_free(self.done.len() as u32);
        give_back(&mut self.done, room, |frames| {
            // SAFETY: frames of this UMEM that are in no ring.
            let taken = unsafe { self.fill.produce(frames) };
            self.ahead.given(frames[..taken].iter().map(FrameDesc::addr));
            taken
        });
    }

    /// With busy polling a system call is what looks at the card. Without, one is made only if the driver asks for it:
    /// it may have run out of buffers just before it was given new ones.
    #[inline]
    fn look_after_idle_ring(&mut self) -> io::Result<()> {
        if self.busy_poll {
            return self.wake_receiver();
        }
        self.idle = self.idle.wrapping_add(1);
        if self.idle.is_multiple_of(IDLE_LOOKS) {
            self.recycle_all()?;
            if self.fill.needs_wakeup() {
                return self.wake_receiver();
            }
        }
        Ok(())
    }

    /// Whether [`Queue::receive`] would bring something.
    pub(super) fn has_received(&mut self) -> bool {
        self.rx.nb_avail(1) != 0
    }

    /// Where the frames are.
    pub(super) fn frames(&mut self) -> Frames {
        let Dimensions { receiving, sending, .. } = self.dimensions;
        Frames {
            free: self.free.len() as u32,
            in_flight: self.in_flight,
            sending,
            done: self.done.len() as u32,
            filled: receiving - self.fill.nb_free_exact(),
            received: self.rx.nb_avail_exact(),
            receiving,
        }
    }

    /// Frames that are nowhere at this moment.
    pub(super) fn missing(&mut self) -> u64 {
        let missing = u64::from(self.frames().missing(self.zero_copy));
        // A frame that the kernel took and could not hand over it keeps, and takes first for the next packet (xsk_buff_free
        // and xp_alloc, net/xdp).
        let kept = |kept: xsk_rs::socket::XdpStatistics| kept.rx_dropped() != 0 || kept.rx_ring_full() != 0;
        if missing == 1 && self.statistics().is_ok_and(kept) { 0 } else { missing }
    }

    /// Frames that the kernel has not taken from the TX ring.
    pub(super) fn in_tx_ring(&mut self) -> u32 {
        self.dimensions.sending - self.tx.nb_free_exact()
    }

    /// Has the kernel look at the TX ring. xsk-rs has this too, but keeps the answer to itself.
    #[inline]
    fn wake_sender(&self) -> Result<(), Errno> {
        // SAFETY: an empty message: no memory is read.
        let answer = unsafe { libc::sendto(self.fd, ptr::null(), 0, libc::MSG_DONTWAIT, ptr::null(), 0) };
        Errno::result(answer).map(drop)
    }

    /// Has the kernel look at the fill ring and, with busy polling, at the card.
    fn wake_receiver(&self) -> io::Result<()> {
        // SAFETY: an empty message: no memory is written.
        let answer = unsafe {
            libc::recvfrom(self.fd, ptr::null_mut(), 0, libc::MSG_DONTWAIT, ptr::null_mut(), ptr::null_mut())
        };
        match Errno::result(answer) {
            // Busy is as good as woken.
            Ok(_) | Err(Errno::EAGAIN | Errno::EBUSY | Errno::ENOBUFS | Errno::EINTR) => Ok(()),
            // The carrier comes and goes when a program or a socket is attached: a packet will come, or a time-out.
            Err(Errno::ENETDOWN) => Ok(()),
            Err(errno) => Err(errno.into()),
        }
    }

    /// Frames that the kernel took and dropped before they left.
    pub(super) const fn dropped(&self) -> u64 {
        self.dropped
    }

    /// The kernel's statistics of the socket.
    pub(super) fn statistics(&self) -> io::Result<xsk_rs::socket::XdpStatistics> {
        self.tx.fd().xdp_statistics()
    }
}

/// Moves at most `room` of the frames that are done with to `produce`, which takes all it gets or none; the others stay.
/// Those used last go first.
#[inline]
fn give_back<T>(done: &mut Vec<T>, room: u32, produce: impl FnOnce(&[T]) -> usize) {
    let kept = done.len().saturating_sub(room as usize);
    let taken = produce(&done[kept..]);
    done.truncate(done.len() - taken);
}

/// Opens the sockets of all queues in the same mode.
///
/// # Errors
/// What the kernel answered for the first queue that failed.
pub(super) fn open_all(
    interface: &str,
    queues: &[u32],
    mtu: u32,
    zero_copy: ZeroCopy,
    busy_poll_us: Option<u32>,
) -> anyhow::Result<Vec<Queue>> {
    let dimensions = Dimensions::new(mtu, queues.len());
    let open = |zero_copy| -> anyhow::Result<Vec<Queue>> {
        let wishes = Wishes { dimensions, zero_copy, busy_poll_us };
        queues.iter().map(|&id| Queue::open(interface, id, wishes)).collect()
    };
    let sockets = open(zero_copy)?;
    // A driver that has zero-copy for some of its queues only, or not enough memory for it.
    if sockets.iter().any(Queue::is_zero_copy) && !sockets.iter().all(Queue::is_zero_copy) {
        drop(sockets);
        return open(ZeroCopy::Off);
    }
    Ok(sockets)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn frames_that_the_fill_ring_has_no_entry_for_stay() {
        let (mut done, mut ring) = (vec![1, 2, 3, 4, 5], Vec::new());
        let room = done.capacity();
        let mut all = |frames: &[i32]| {
            ring.extend_from_slice(frames);
            frames.len()
        };
        give_back(&mut done, 0, &mut all);
        assert_eq!(done, [1, 2, 3, 4, 5]);
        give_back(&mut done, 2, &mut all);
        assert_eq!(done, [1, 2, 3]);
        done.push(6);
        give_back(&mut done, 9, &mut all);
        assert_eq!(ring, [4, 5, 1, 2, 3, 6]);
        assert_eq!((done.len(), done.capacity()), (0, room));
        // A ring that takes none after all.
        done.push(7);
        give_back(&mut done, 1, |_| 0);
        assert_eq!(done, [7]);
    }

    #[test]
    fn a_frame_that_is_nowhere_is_missing() {
        let whole = Frames { free: 5, in_flight: 3, sending: 8, done: 1, filled: 13, received: 2, receiving: 16 };
        assert_eq!((whole.missing(false), whole.missing(true)), (0, 0));
        assert_eq!(Frames { free: 3, ..whole }.missing(true), 2);
        // A driver in zero-copy mode has them, or the kernel for a moment.
        let fewer = Frames { filled: 10, ..whole };
        assert_eq!((fewer.missing(false), fewer.missing(true)), (3, 0));
        // For a moment the kernel shows a frame at two places: none makes up for another that is missing.
        assert_eq!(Frames { free: 4, filled: 14, ..whole }.missing(false), 1);
    }

    #[test]
    fn frames_hold_the_mtu_and_memory_keeps_within_its_bound() {
        assert_eq!(Dimensions::new(1500, 1), Dimensions { frame: 2048, receiving: 4096, sending: 2048 });
        assert_eq!(Dimensions::new(1770, 3), Dimensions { frame: 2048, receiving: 4096, sending: 2048 });
        assert_eq!(Dimensions::new(1770, 4), Dimensions { frame: 2048, receiving: 4096, sending: 512 });
        assert_eq!(Dimensions::new(1771, 1), Dimensions { frame: 4096, receiving: 4096, sending: 2048 });
        assert_eq!(Dimensions::new(1500, 8), Dimensions { frame: 2048, receiving: 2048, sending: 256 });
        assert_eq!(Dimensions::new(1500, 16), Dimensions { frame: 2048, receiving: 1024, sending: 128 });
        assert_eq!(Dimensions::new(9000, 16), Dimensions { frame: 4096, receiving: 512, sending: 64 });
        for mtu in [68, 1500, 9000, u32::MAX] {
            for queues in 1..=32 {
                let dimensions = Dimensions::new(mtu, queues);
                assert!(dimensions.frames() * dimensions.frame * queues as u32 <= MAX_MEMORY, "{mtu} {queues}");
                assert!(dimensions.receiving.is_power_of_two() && dimensions.sending.is_power_of_two());
                assert!(dimensions.sending >= BATCH as u32);
            }
            let most = Dimensions::new(mtu, usize::MAX);
            assert_eq!((most.receiving, most.sending), (2 * BATCH as u32, BATCH as u32));
        }
    }
}
