//! The smallest XDP program that there is for AF_XDP: every frame goes to the socket of its queue.

use anyhow::{Context, Result};
use libbpf_rs::libbpf_sys;
use libbpf_rs::{MapCore, MapFlags, MapHandle, MapType};
use nix::errno::Errno;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, FromRawFd, OwnedFd, RawFd};
use std::ptr;

/// Attached as long as it lives.
pub struct Redirect {
    _link: OwnedFd,
    _sockets: MapHandle,
}

impl Redirect {
    /// Attaches it to an interface in native mode; what comes to queue 0 goes to this socket.
    pub fn attach(if_index: u32, socket: BorrowedFd) -> Result<Self> {
        let options = libbpf_sys::bpf_map_create_opts {
            sz: size_of::<libbpf_sys::bpf_map_create_opts>() as libbpf_sys::size_t,
            ..Default::default()
        };
        let sockets =
            MapHandle::create(MapType::Xskmap, Some("floor"), 4, 4, 1, &options).context("cannot make a map")?;
        let socket = socket.as_raw_fd().to_ne_bytes();
        sockets.update(&0u32.to_ne_bytes(), &socket, MapFlags::ANY).context("cannot put the socket into its map")?;
        let program = load(sockets.as_fd().as_raw_fd()).context("cannot load the floor's XDP program")?;
        let link = link(&program, if_index).context("cannot attach the floor's XDP program")?;
        Ok(Self { _link: link, _sockets: sockets })
    }
}

/// One instruction (`struct bpf_insn`, `linux/bpf.h`; RFC 9669): opcode, registers, offset, immediate.
const fn instruction(opcode: u8, to: u8, from: u8, offset: i16, immediate: i32) -> [u8; 8] {
    let [low, high] = offset.to_le_bytes();
    let [a, b, c, d] = immediate.to_le_bytes();
    [opcode, to | from << 4, low, high, a, b, c, d]
}

fn load(map: RawFd) -> Result<OwnedFd> {
    /// `XDP_PASS`, for a queue without a socket.
    const PASS: i32 = 2;
    /// `offsetof(struct xdp_md, rx_queue_index)`.
    const QUEUE: i16 = 16;
    /// `BPF_FUNC_redirect_map`.
    const REDIRECT_MAP: i32 = 51;
    let program = [
        // r2 = ctx->rx_queue_index
        instruction(0x61, 2, 1, QUEUE, 0),
        // r1 = the map, in two slots
        instruction(0x18, 1, 1, 0, map),
        instruction(0, 0, 0, 0, 0),
        // r3 = XDP_PASS
        instruction(0xb7, 3, 0, 0, PASS),
        // return bpf_redirect_map(r1, r2, r3)
        instruction(0x85, 0, 0, 0, REDIRECT_MAP),
        instruction(0x95, 0, 0, 0, 0),
    ];
    // SAFETY: name, licence and as many instructions as are said, and no options.
    let fd = unsafe {
        libbpf_sys::bpf_prog_load(
            libbpf_sys::BPF_PROG_TYPE_XDP,
            c"floor".as_ptr(),
            c"MIT".as_ptr(),
            program.as_ptr().cast(),
            program.len() as libbpf_sys::size_t,
            ptr::null_mut(),
        )
    };
    owned(fd)
}

fn link(program: &OwnedFd, if_index: u32) -> Result<OwnedFd> {
    let options = libbpf_sys::bpf_link_create_opts {
        sz: size_of::<libbpf_sys::bpf_link_create_opts>() as libbpf_sys::size_t,
        flags: libbpf_sys::XDP_FLAGS_DRV_MODE,
        ..Default::default()
    };
    // SAFETY: a program, an interface, and options that say their size.
    let fd = unsafe {
        libbpf_sys::bpf_link_create(program.as_raw_fd(), if_index as i32, libbpf_sys::BPF_XDP, &raw const options)
    };
    owned(fd)
}

/// libbpf's answer: a descriptor, or a negative errno.
fn owned(answer: i32) -> Result<OwnedFd> {
    if answer < 0 {
        return Err(Errno::from_raw(-answer).into());
    }
    // SAFETY: a descriptor that nobody else has.
    Ok(unsafe { OwnedFd::from_raw_fd(answer) })
}
