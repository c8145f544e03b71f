//! Asking the kernel over netlink (rtnetlink(7); generic netlink is `genl`'s) and reading its answers.
//!
//! Requests to rtnetlink are built from the typed messages of `netlink-packet-route`. Of the answers only the attributes that are
//! wanted are looked at: one of a newer kernel that the crate does not know the shape of must not cost the rest.
#![forbid(unsafe_code)]

use netlink_packet_core::{
    Emitable, NLM_F_ACK, NLM_F_DUMP, NLM_F_REQUEST, NLMSG_DONE, NLMSG_ERROR, NetlinkBuffer, NetlinkHeader,
    NetlinkMessage, NetlinkPayload, NetlinkSerializable, NlaBuffer, NlasIterator,
};
use netlink_sys::{Socket, SocketAddr, protocols::NETLINK_ROUTE};
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use std::io;
use std::net::Ipv4Addr;
use std::os::fd::AsFd;
use std::time::Duration;

/// Bytes to receive into: the kernel fills dumps up to 32 KiB, and no single answer that is asked for here is larger.
const RECEIVE_BYTES: usize = 64 * 1024;
/// Bytes of the header of every message.
const NETLINK_HEADER_LEN: usize = size_of::<libc::nlmsghdr>();

/// A socket for requests. It belongs to the network namespace that the thread was in when it was opened.
pub(super) struct Netlink {
    socket: Socket,
    sequence: u32,
}

impl Netlink {
    /// For rtnetlink.
    pub(super) fn open() -> io::Result<Self> {
        Self::open_for(NETLINK_ROUTE)
    }

    /// For `protocol` (`NETLINK_...` of `linux/netlink.h`).
    pub(super) fn open_for(protocol: isize) -> io::Result<Self> {
        let mut socket = Socket::new(protocol)?;
        socket.bind_auto()?;
        // Only the kernel is listened to: other processes can send to a netlink socket too.
        socket.connect(&SocketAddr::new(0, 0))?;
        Ok(Self { socket, sequence: 0 })
    }

    /// Sends one request and returns the bodies of the messages that answer it, without those that only end the answer.
    ///
    /// `flags` are added to `NLM_F_REQUEST`, and unless they ask for a dump to `NLM_F_ACK`.
    pub(super) fn ask(&mut self, message: impl NetlinkSerializable, flags: u16) -> io::Result<Vec<Vec<u8>>> {
        self.sequence += 1;
        let mut header = NetlinkHeader::default();
        header.sequence_number = self.sequence;
        header.flags = NLM_F_REQUEST | flags;
        if flags & NLM_F_DUMP != NLM_F_DUMP {
            header.flags |= NLM_F_ACK;
        }
        let mut request = NetlinkMessage::new(header, NetlinkPayload::InnerMessage(message));
        request.finalize();
        let mut bytes = vec![0; request.buffer_len()];
        request.emit(&mut bytes);
        retried(|| self.socket.send(&bytes, 0))?;

        let mut answers = Vec::new();
        let mut datagram = Vec::with_capacity(RECEIVE_BYTES);
        loop {
            datagram.clear();
            retried(|| self.socket.recv(&mut datagram, 0))?;
            if take_answers(&datagram, self.sequence, &mut answers)? {
                return Ok(answers);
            }
        }
    }
}

/// A socket that hears of changes.
pub(super) struct Events {
    socket: Socket,
}

impl Events {
    /// Joins `group` (`RTNLGRP_...` of `linux/rtnetlink.h`).
    pub(super) fn of(group: u32) -> io::Result<Self> {
        let mut socket = Socket::new(NETLINK_ROUTE)?;
        socket.bind_auto()?;
        socket.set_non_blocking(true)?;
        socket.add_membership(group)?;
        Ok(Self { socket })
    }

    /// Sleeps until something changed or `limit` is over, and forgets what it was: the caller asks anew.
    pub(super) fn wait(&self, limit: Duration) -> io::Result<()> {
        let mut ready = [PollFd::new(self.socket.as_fd(), PollFlags::POLLIN)];
        // Rounded up, so that the last fraction of a millisecond is not spent spinning.
        let limit = PollTimeout::try_from(limit.as_micros().div_ceil(1000)).unwrap_or(PollTimeout::MAX);
        match poll(&mut ready, limit) {
            Ok(_) | Err(nix::errno::Errno::EINTR) => {}
            Err(errno) => return Err(errno.into()),
        }
        let mut ignored = Vec::with_capacity(4096);
        loop {
            ignored.clear();
            match self.socket.recv(&mut ignored, 0) {
                Ok(_) => {}
                // ENOBUFS: more changes than the socket could hold. That is a change too.
                Err(error) if error.raw_os_error() == Some(libc::ENOBUFS) => {}
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Ok(()),
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
    }
}

/// Repeats a call that a signal interrupted.
fn retried<T>(mut call: impl FnMut() -> io::Result<T>) -> io::Result<T> {
    loop {
        match call() {
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            other => return other,
        }
    }
}

/// Takes the messages of one datagram that answer request `sequence`; true where the answer is complete.
fn take_answers(datagram: &[u8], sequence: u32, answers: &mut Vec<Vec<u8>>) -> io::Result<bool> {
    let malformed =
        |what: &str| io::Error::new(io::ErrorKind::InvalidData, format!("malformed netlink answer: {what}"));
    let mut rest = datagram;
    while !rest.is_empty() {
        let message = NetlinkBuffer::new_checked(rest).map_err(|error| malformed(&error.to_string()))?;
        let length = message.length() as usize;
        let body = &rest[NETLINK_HEADER_LEN..length];
        if message.sequence_number() == sequence {
            match message.message_type() {
                // Both begin with a negative errno or 0; a DONE may be without it.
                kind @ (NLMSG_ERROR | NLMSG_DONE) => {
                    return match body.first_chunk().map(|bytes| i32::from_ne_bytes(*bytes)) {
                        Some(code) if code < 0 => Err(io::Error::from_raw_os_error(code.saturating_neg())),
                        None if kind == NLMSG_ERROR => Err(malformed("an error without its number")),
                        _ => Ok(true),
                    };
                }
                _ => answers.push(body.to_vec()),
            }
        }
        // The last message need not be padded to the alignment of 4 bytes.
        rest = rest.get(length.next_multiple_of(4)..).unwrap_or_default();
    }
    Ok(false)
}

/// The attributes behind the fixed part of an rtnetlink message. Where one is cut off, it and the rest are absent.
#[derive(Clone, Copy)]
pub(super) struct Attributes<'a>(&'a [u8]);

impl<'a> Attributes<'a> {
    /// Those of `body` behind its first `header_len` bytes.
    pub(super) fn after(header_len: usize, body: &'a [u8]) -> Self {
        Self(body.get(header_len.next_multiple_of(4)..).unwrap_or_default())
    }

    /// The value of the first attribute of this kind.
    pub(super) fn get(self, kind: u16) -> Option<&'a [u8]> {
        self.all(kind).next()
    }

    /// The values of the attributes of this kind, in their order.
    pub(super) fn all(self, kind: u16) -> impl Iterator<Item = &'a [u8]> {
        let attributes = NlasIterator::new(self.0).map_while(Result::ok);
        attributes.filter(move |attribute| attribute.kind() == kind).filter_map(value)
    }

    /// The attributes that an attribute of this kind consists of.
    pub(super) fn nested(self, kind: u16) -> Option<Self> {
        self.get(kind).map(Self)
    }

    /// The value as an integer in the host's byte order.
    pub(super) fn u32(self, kind: u16) -> Option<u32> {
        self.get(kind)?.first_chunk().map(|bytes| u32::from_ne_bytes(*bytes))
    }

    /// The value as an integer in the host's byte order.
    pub(super) fn u64(self, kind: u16) -> Option<u64> {
        self.get(kind)?.first_chunk().map(|bytes| u64::from_ne_bytes(*bytes))
    }

    /// The value as an integer in the host's byte order.
    pub(super) fn u16(self, kind: u16) -> Option<u16> {
        self.get(kind)?.first_chunk().map(|bytes| u16::from_ne_bytes(*bytes))
    }

    /// The value as an integer of one byte.
    pub(super) fn u8(self, kind: u16) -> Option<u8> {
        self.get(kind)?.first().copied()
    }

    /// The attributes that each attribute of this kind consists of.
    pub(super) fn all_nested(self, kind: u16) -> impl Iterator<Item = Self> {
        self.all(kind).map(Self)
    }

    /// The value as an IPv4 address, in network byte order.
    pub(super) fn ipv4(self, kind: u16) -> Option<Ipv4Addr> {
        <[u8; 4]>::try_from(self.get(kind)?).ok().map(Ipv4Addr::from)
    }

    /// The value as a string, with or without a terminating zero.
    pub(super) fn string(self, kind: u16) -> Option<String> {
        let value = self.get(kind)?;
        let end = value.iter().position(|byte| *byte == 0).unwrap_or(value.len());
        Some(String::from_utf8_lossy(&value[..end]).into_owned())
    }
}

/// `NlaBuffer::value` borrows from the buffer it is called on; this one from what the buffer was made of.
fn value(attribute: NlaBuffer<&[u8]>) -> Option<&[u8]> {
    let length = usize::from(attribute.length());
    attribute.into_inner().get(4..length)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A netlink message with this kind, sequence and body.
    fn message(kind: u16, sequence: u32, body: &[u8]) -> Vec<u8> {
        let length = (NETLINK_HEADER_LEN + body.len()) as u32;
        let mut bytes = length.to_ne_bytes().to_vec();
        bytes.extend(kind.to_ne_bytes());
        bytes.extend(0u16.to_ne_bytes());
        bytes.extend(sequence.to_ne_bytes());
        bytes.extend(0u32.to_ne_bytes());
        bytes.extend(body);
        bytes
    }

    fn attribute(kind: u16, value: &[u8]) -> Vec<u8> {
        let mut bytes = (4 + value.len() as u16).to_ne_bytes().to_vec();
        bytes.extend(kind.to_ne_bytes());
        bytes.extend(value);
        bytes.resize(bytes.len().next_multiple_of(4), 0);
        bytes
    }

    #[test]
    fn answers_are_taken_until_the_message_that_ends_them() {
        let datagram = [message(16, 7, b"abcd"), message(16, 6, b"late"), message(NLMSG_DONE, 7, &[0; 4])].concat();
        let mut answers = Vec::new();
        assert!(take_answers(&datagram, 7, &mut answers).unwrap());
        assert_eq!(answers, [b"abcd".to_vec()]);
    }

    #[test]
    fn an_answer_without_an_end_goes_on() {
        let mut answers = Vec::new();
        assert!(!take_answers(&message(16, 7, b"ab"), 7, &mut answers).unwrap());
        assert_eq!(answers, [b"ab".to_vec()]);
    }

    #[test]
    fn an_error_is_the_kernels_number() {
        let body = [&(-libc::ENODEV).to_ne_bytes()[..], &[0; 16]].concat();
        let error = take_answers(&message(NLMSG_ERROR, 1, &body), 1, &mut Vec::new()).unwrap_err();
        assert_eq!(error.raw_os_error(), Some(libc::ENODEV));
        assert!(take_answers(&message(NLMSG_ERROR, 1, &0i32.to_ne_bytes()), 1, &mut Vec::new()).unwrap());
    }

    #[test]
    fn odd_answers_are_errors_and_never_panic() {
        let whole = [message(16, 1, &[1; 12]), message(NLMSG_ERROR, 1, &(-1i32).to_ne_bytes())].concat();
        for cut in 1..whole.len() {
            let _ = take_answers(&whole[..cut], 1, &mut Vec::new());
        }
        assert!(take_answers(&message(NLMSG_ERROR, 1, &[1]), 1, &mut Vec::new()).is_err());
        assert!(take_answers(&[0; 16], 1, &mut Vec::new()).is_err());
        assert!(take_answers(&message(NLMSG_ERROR, 1, &i32::MIN.to_ne_bytes()), 1, &mut Vec::new()).is_err());
        assert!(take_answers(&message(NLMSG_DONE, 1, &[]), 1, &mut Vec::new()).unwrap());
    }

    #[test]
    fn attributes_are_found_behind_the_header() {
        let body = [&[9; 8][..], &attribute(3, b"eth0\0"), &attribute(4, &1500u32.to_ne_bytes())].concat();
        let attributes = Attributes::after(8, &body);
        assert_eq!(attributes.string(3).as_deref(), Some("eth0"));
        assert_eq!(attributes.u32(4), Some(1500));
        assert_eq!(attributes.ipv4(3), None);
        assert_eq!(attributes.u32(5), None);
    }

    #[test]
    fn attributes_that_are_cut_off_are_absent() {
        let body = [attribute(1, &[10, 0, 0, 1]), attribute(2, &[10, 0, 0, 2])].concat();
        for cut in 0..body.len() {
            let attributes = Attributes::after(0, &body[..cut]);
            assert_eq!(attributes.ipv4(1), (cut >= 8).then_some(Ipv4Addr::new(10, 0, 0, 1)), "cut at {cut}");
            assert_eq!(attributes.ipv4(2), None, "cut at {cut}");
        }
        assert!(Attributes::after(20, &body[..8]).get(1).is_none());
        assert!(Attributes::after(0, &[3, 0, 1, 0]).get(1).is_none(), "shorter than its own header");
        assert!(Attributes::after(0, &[0; 8]).get(0).is_none());
    }
}
