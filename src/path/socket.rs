//! The socket calls that carry control messages, and the options of time stamping: what the standard library has not.
//!
//! What the control messages mean is in [`super::control`].
#![allow(unsafe_code, reason = "sendmsg, recvmsg and socket options with the kernel's structures")]

use super::BATCH;
use nix::errno::Errno;
use nix::sys::socket::setsockopt;
use nix::sys::socket::sockopt::{RcvBufForce, SndBufForce};
use socket2::SockRef;
use std::io;
use std::mem::{size_of, zeroed};
use std::net::{Ipv4Addr, SocketAddrV4};
use std::os::fd::{AsRawFd, BorrowedFd, FromRawFd, OwnedFd};
use std::ptr;

/// What one [`receive`] brought.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Arrival {
    /// Bytes of data; with `MSG_TRUNC` all that the datagram has, even where fewer fitted.
    pub len: usize,
    /// Who sent it, where it is IPv4's and there is one: not on the error queue.
    pub from: Option<SocketAddrV4>,
    /// Bytes of control messages.
    pub control_len: usize,
    /// The control messages did not fit.
    pub control_cut: bool,
}

/// `recvmsg(2)` without waiting. `control` must be aligned as `struct cmsghdr` is; `flags` such as `MSG_ERRQUEUE`.
///
/// # Errors
/// What the kernel answered; [`io::ErrorKind::WouldBlock`] where there is nothing.
#[inline]
pub fn receive(socket: BorrowedFd<'_>, data: &mut [u8], control: &mut [u8], flags: i32) -> io::Result<Arrival> {
    let mut part = libc::iovec { iov_base: data.as_mut_ptr().cast(), iov_len: data.len() };
    // SAFETY: zeros are a valid address of no family.
    let mut from: libc::sockaddr_in = unsafe { zeroed() };
    // SAFETY: zeros are a valid message without name, data and control messages.
    let mut message: libc::msghdr = unsafe { zeroed() };
    message.msg_name = (&raw mut from).cast();
    message.msg_namelen = size_of::<libc::sockaddr_in>() as libc::socklen_t;
    message.msg_iov = &raw mut part;
    message.msg_iovlen = 1;
    message.msg_control = control.as_mut_ptr().cast();
    message.msg_controllen = control.len();
    // SAFETY: every pointer is to memory that lives until the call returns, and as long as said.
    let answer = unsafe { libc::recvmsg(socket.as_raw_fd(), &raw mut message, flags | libc::MSG_DONTWAIT) };
    let len = Errno::result(answer)? as usize;
    Ok(arrival(&message, &from, len))
}

/// Bytes of control messages that are kept of each datagram.
pub const CONTROL: usize = super::control::ROOM;
/// Bytes that are kept of each datagram out of an [`Inbox`]: the largest of the protocol. Of a longer one the length is told
/// all the same, and what lies behind has no meaning.
const DATAGRAM: usize = 2112;

/// Room for one datagram. Control messages first, as they are aligned.
#[derive(Debug)]
#[repr(C, align(8))]
struct Slot {
    control: [u8; CONTROL],
    data: [u8; DATAGRAM],
}

/// Room for the datagrams of one look at a socket.
#[derive(Debug)]
pub struct Inbox {
    slots: Box<[Slot]>,
    arrivals: Vec<Arrival>,
}

impl Inbox {
    /// Room for [`BATCH`] datagrams, touched already.
    pub fn new() -> Self {
        let slots = (0..BATCH).map(|_| Slot { control: [0; CONTROL], data: [0; DATAGRAM] }).collect();
        Self { slots, arrivals: Vec::with_capacity(BATCH) }
    }

    /// Takes up to `most` datagrams, at most [`BATCH`], out of the socket, with one system call that does not wait, in place of
    /// those taken before.
    ///
    /// # Errors
    /// What the kernel answered; [`io::ErrorKind::WouldBlock`] where there is nothing. Then the inbox is empty.
    #[inline]
    pub fn receive(&mut self, socket: BorrowedFd<'_>, most: usize) -> io::Result<usize> {
        self.arrivals.clear();
        if most > 1 {
            return self.receive_many(socket, most.min(BATCH));
        }
        let Slot { control, data } = &mut self.slots[0];
        self.arrivals.push(receive(socket, data, control, libc::MSG_TRUNC)?);
        Ok(1)
    }

    /// `recvmmsg(2)`.
    fn receive_many(&mut self, socket: BorrowedFd<'_>, most: usize) -> io::Result<usize> {
        // SAFETY: zeros are valid addresses of no family.
        let mut names: [libc::sockaddr_in; BATCH] = unsafe { zeroed() };
        // SAFETY: zeros are valid descriptions of no memory.
        let mut parts: [libc::iovec; BATCH] = unsafe { zeroed() };
        // SAFETY: zeros are valid messages without name, data and control messages.
        let mut messages: [libc::mmsghdr; BATCH] = unsafe { zeroed() };
        let places = names.iter_mut().zip(&mut parts).zip(&mut messages).zip(&mut self.slots);
        for (((name, part), message), Slot { control, data }) in places.take(most) {
            *part = libc::iovec { iov_base: data.as_mut_ptr().cast(), iov_len: DATAGRAM };
            message.msg_hdr.msg_name = ptr::from_mut(name).cast();
            message.msg_hdr.msg_namelen = size_of::<libc::sockaddr_in>() as libc::socklen_t;
            message.msg_hdr.msg_iov = part;
            message.msg_hdr.msg_iovlen = 1;
            message.msg_hdr.msg_control = control.as_mut_ptr().cast();
            message.msg_hdr.msg_controllen = CONTROL;
        }
        let flags = libc::MSG_DONTWAIT | libc::MSG_TRUNC;
        // SAFETY: the first `most` messages point to memory that lives until the call returns, and as long as said; no time-out.
        let answer = unsafe {
            libc::recvmmsg(socket.as_raw_fd(), messages.as_mut_ptr(), most as libc::c_uint, flags, ptr::null_mut())
        };
        let count = Errno::result(answer)? as usize;
        let came = names.iter().zip(&messages).take(count);
        self.arrivals.extend(came.map(|(name, message)| arrival(&message.msg_hdr, name, message.msg_len as usize)));
        Ok(count)
    }

    /// What came, each with its data, as much as was kept, and its control messages.
    #[inline]
    pub fn arrivals(&self) -> impl Iterator<Item = (&Arrival, &[u8], &[u8])> {
        self.arrivals.iter().zip(&self.slots).map(|(arrival, Slot { control, data })| {
            (arrival, &data[..arrival.len.min(DATAGRAM)], &control[..arrival.control_len.min(CONTROL)])
        })
    }
}

/// What a message header says after it was received into.
#[inline]
fn arrival(message: &libc::msghdr, from: &libc::sockaddr_in, len: usize) -> Arrival {
    let named = message.msg_namelen as usize >= size_of::<libc::sockaddr_in>();
    Arrival {
        len,
        from: (named && from.sin_family == libc::AF_INET as libc::sa_family_t).then(|| {
            SocketAddrV4::new(Ipv4Addr::from(from.sin_addr.s_addr.to_ne_bytes()), u16::from_be(from.sin_port))
        }),
        control_len: message.msg_controllen,
        control_cut: message.msg_flags & libc::MSG_CTRUNC != 0,
    }
}

/// `sendmsg(2)` without waiting, to `to` or where the socket is bound to send.
///
/// # Errors
/// What the kernel answered.
#[inline]
pub fn send(socket: BorrowedFd<'_>, data: &[u8], to: Option<SocketAddrV4>, control: &[u8]) -> io::Result<()> {
    let mut part = libc::iovec { iov_base: data.as_ptr().cast_mut().cast(), iov_len: data.len() };
    // SAFETY: zeros are a valid address of no family.
    let mut name: libc::sockaddr_in = unsafe { zeroed() };
    // SAFETY: zeros are a valid message without name, data and control messages.
    let mut message: libc::msghdr = unsafe { zeroed() };
    if let Some(to) = to {
        name.sin_family = libc::AF_INET as libc::sa_family_t;
        name.sin_port = to.port().to_be();
        name.sin_addr.s_addr = u32::from_ne_bytes(to.ip().octets());
        message.msg_name = (&raw mut name).cast();
        message.msg_namelen = size_of::<libc::sockaddr_in>() as libc::socklen_t;
    }
    message.msg_iov = &raw mut part;
    message.msg_iovlen = 1;
    if !control.is_empty() {
        message.msg_control = control.as_ptr().cast_mut().cast();
        message.msg_controllen = control.len();
    }
    // SAFETY: every pointer is to memory that lives until the call returns, and as long as said; the kernel only reads.
    let answer = unsafe { libc::sendmsg(socket.as_raw_fd(), &raw const message, libc::MSG_DONTWAIT) };
    Errno::result(answer)?;
    Ok(())
}

/// Sets a socket option whose value is an `int`.
///
/// # Errors
/// What the kernel answered.
pub fn set_option(socket: BorrowedFd<'_>, level: i32, option: i32, value: i32) -> io::Result<()> {
    // SAFETY: the value is an int that lives until the call returns, and its length is given.
    let answer = unsafe {
        libc::setsockopt(
            socket.as_raw_fd(),
            level,
            option,
            ptr::from_ref(&value).cast(),
            size_of::<libc::c_int>() as libc::socklen_t,
        )
    };
    Errno::result(answer)?;
    Ok(())
}

/// Whether the interface that a socket is bound to is still there, be it down; where it is bound to none it is. It is known by its index,
/// so that its name may change (`SO_BINDTODEVICE`, `socket(7)`; `netdev_get_name`, net/core/dev.c).
pub fn has_interface(socket: BorrowedFd<'_>) -> bool {
    let mut name = [0; libc::IFNAMSIZ / size_of::<u32>()];
    read_option(socket, libc::SO_BINDTODEVICE, &mut name) != Err(Errno::ENODEV)
}

/// Reads an option of `SOL_SOCKET`, as many bytes of it as there is room for.
fn read_option(socket: BorrowedFd<'_>, option: i32, value: &mut [u32]) -> Result<(), Errno> {
    let mut len = size_of_val(value) as libc::socklen_t;
    // SAFETY: the buffer is as long as said, and any bytes are valid in it.
    let answer = unsafe {
        libc::getsockopt(socket.as_raw_fd(), libc::SOL_SOCKET, option, value.as_mut_ptr().cast(), &raw mut len)
    };
    Errno::result(answer).map(drop)
}

/// What the kernel is asked to [`hold`] for a socket of ours while we are not looking, in bytes.
pub const RECEIVE_QUEUE: usize = 4 << 20;

/// Has the kernel hold up to twice so many bytes of datagrams for a socket while nobody reads it (`SO_RCVBUF`, `socket(7)`): beyond
/// `net.core.rmem_max` where CAP_NET_ADMIN allows it, as what that holds is a few milliseconds of a fast sender.
///
/// # Errors
/// What the kernel answered.
pub fn hold(socket: BorrowedFd<'_>, bytes: usize) -> io::Result<()> {
    match setsockopt(&socket, RcvBufForce, &bytes) {
        Ok(()) => Ok(()),
        Err(_) => SockRef::from(&socket).set_recv_buffer_size(bytes),
    }
}

/// What the kernel is to let [wait](let_wait) of what a socket sends to one peer, in bytes. Doubled, it is more than waits in the kernel
/// while it looks for the address of a peer that has vanished (`unres_qlen_bytes`, Documentation/networking/ip-sysctl.rst: 212,992 bytes):
/// a socket has room for just that otherwise, and none for anything else until the kernel gives up.
pub const PEER_QUEUE: usize = 212_992;
/// The same of a socket that sends to many.
pub const CROWD_QUEUE: usize = 16 << 20;

/// Has the kernel let twice so many bytes wait of what a socket has sent (`SO_SNDBUF`, `socket(7)`), as far as that can be had: beyond
/// `net.core.wmem_max` where CAP_NET_ADMIN allows it. Where they may be more already, they stay more.
pub fn let_wait(socket: BorrowedFd<'_>, bytes: usize) {
    let known = SockRef::from(&socket);
    let enough = known.send_buffer_size().is_ok_and(|present| present >= 2 * bytes);
    if !enough && setsockopt(&socket, SndBufForce, &bytes).is_err() {
        let _ = known.set_send_buffer_size(bytes);
    }
}

/// How many datagrams a socket had no room for (`sock_diag(7)`, `SK_MEMINFO_DROPS`), since it was opened; 0 where the
/// kernel does not say.
pub fn dropped(socket: BorrowedFd<'_>) -> u64 {
    let mut values = [0; libc::SK_MEMINFO_DROPS as usize + 1];
    let read = read_option(socket, libc::SO_MEMINFO, &mut values);
    read.map_or(0, |()| values[libc::SK_MEMINFO_DROPS as usize].into())
}

/// A packet socket (`packet(7)`) on one interface. With `protocol` 0 it receives nothing; it needs CAP_NET_RAW.
///
/// `protocol` is an EtherType in the host's byte order.
///
/// # Errors
/// What the kernel answered.
pub fn packet_socket(if_index: u32, protocol: u16) -> io::Result<OwnedFd> {
    let kind = libc::SOCK_RAW | libc::SOCK_CLOEXEC | libc::SOCK_NONBLOCK;
    // Protocol 0 first, so that nothing comes in from other interfaces before the socket is bound.
    // SAFETY: the call takes no pointers.
    let answer = unsafe { libc::socket(libc::AF_PACKET, kind, 0) };
    let fd = Errno::result(answer)?;
    // SAFETY: a new descriptor, which nobody else has.
    let socket = unsafe { OwnedFd::from_raw_fd(fd) };
    // SAFETY: zeros are a valid address of no family.
    let mut address: libc::sockaddr_ll = unsafe { zeroed() };
    address.sll_family = libc::AF_PACKET as u16;
    address.sll_protocol = protocol.to_be();
    address.sll_ifindex = i32::try_from(if_index).map_err(|_| io::ErrorKind::InvalidInput)?;
    // SAFETY: the address lives until the call returns, and its length is given.
    let answer = unsafe {
        libc::bind(
            socket.as_raw_fd(),
            ptr::from_ref(&address).cast(),
            size_of::<libc::sockaddr_ll>() as libc::socklen_t,
        )
    };
    Errno::result(answer)?;
    Ok(socket)
}

/// Nothing is there to be read.
pub fn is_empty(error: &io::Error) -> bool {
    error.kind() == io::ErrorKind::WouldBlock
}

/// A signal, or an ICMP error about an earlier datagram, which is no reason to end a session: its receiver may come. Told once,
/// by whatever is called next (`icmp_err_convert`, `net/ipv4/icmp.c`; `EPROTO` is an ICMP parameter problem).
pub fn is_passing(error: &io::Error) -> bool {
    let of_icmp = [
        libc::ECONNREFUSED,
        libc::ENETUNREACH,
        libc::EHOSTUNREACH,
        libc::EHOSTDOWN,
        libc::ENONET,
        libc::ENOPROTOOPT,
        libc::EOPNOTSUPP,
        libc::EMSGSIZE,
        libc::EPROTO,
    ];
    error.kind() == io::ErrorKind::Interrupted || error.raw_os_error().is_some_and(|errno| of_icmp.contains(&errno))
}

/// The kernel's answer with what was attempted, such as "receive on 10.0.0.1:5000".
pub fn with_attempt(error: io::Error, attempt: std::fmt::Arguments<'_>) -> io::Error {
    io::Error::new(error.kind(), format!("cannot {attempt}: {error}"))
}
