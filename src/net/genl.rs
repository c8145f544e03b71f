//! Asking a family of generic netlink (`linux/genetlink.h`), found by its name.
//!
//! Requests are a command and attributes, put together here; the answers' attributes are read as rtnetlink's are. Nothing
//! is changed: who asks must take care to give commands that only get.
#![forbid(unsafe_code)]

use super::netlink::{Attributes, Netlink};
use netlink_packet_core::NetlinkSerializable;
use netlink_sys::protocols::NETLINK_GENERIC;
use std::io;

/// Bytes of `struct genlmsghdr`, in front of every message's attributes.
const HEADER_LEN: usize = size_of::<libc::genlmsghdr>();
/// Every family has a version, and the kernel ignores which one a request has.
const VERSION: u8 = 1;

/// A family of generic netlink, in the network namespace that the thread was in when it was opened.
pub(super) struct Family {
    netlink: Netlink,
    id: u16,
}

impl Family {
    /// The family of this name; `None` where the kernel has none.
    pub(super) fn open(name: &str) -> io::Result<Option<Self>> {
        let mut netlink = Netlink::open_for(NETLINK_GENERIC)?;
        let mut attributes = Builder::default();
        attributes.string(libc::CTRL_ATTR_FAMILY_NAME as u16, name);
        let request =
            Request { family: libc::GENL_ID_CTRL as u16, command: libc::CTRL_CMD_GETFAMILY as u8, attributes };
        let answers = match netlink.ask(request, 0) {
            Ok(answers) => answers,
            Err(answer) if answer.raw_os_error() == Some(libc::ENOENT) => return Ok(None),
            Err(answer) => return Err(answer),
        };
        let id = answers.iter().find_map(|body| attributes_of(body).u16(libc::CTRL_ATTR_FAMILY_ID as u16));
        match id {
            Some(id) => Ok(Some(Self { netlink, id })),
            None => Err(io::Error::new(io::ErrorKind::InvalidData, format!("no number for the netlink family {name}"))),
        }
    }

    /// Sends `command` with `attributes` and returns the bodies of what answers it, to be read with [`attributes_of`].
    /// `flags` as [`Netlink::ask`] has them.
    pub(super) fn ask(&mut self, command: u8, attributes: Builder, flags: u16) -> io::Result<Vec<Vec<u8>>> {
        self.netlink.ask(Request { family: self.id, command, attributes }, flags)
    }
}

/// The attributes of an answer's body.
pub(super) fn attributes_of(body: &[u8]) -> Attributes<'_> {
    Attributes::after(HEADER_LEN, body)
}

/// Attributes (`struct nlattr` of `linux/netlink.h`) one behind the other, each padded to 4 bytes.
#[derive(Debug, Default)]
pub(super) struct Builder(Vec<u8>);

impl Builder {
    /// An integer in the host's byte order.
    pub(super) fn u32(&mut self, kind: u16, value: u32) {
        self.bytes(kind, &value.to_ne_bytes());
    }

    /// A string, which is given its terminating zero.
    pub(super) fn string(&mut self, kind: u16, value: &str) {
        self.bytes(kind, &[value.as_bytes(), &[0]].concat());
    }

    /// An attribute that consists of attributes.
    pub(super) fn nest(&mut self, kind: u16, inner: &Self) {
        self.bytes(kind | libc::NLA_F_NESTED as u16, &inner.0);
    }

    /// The bytes themselves.
    pub(super) fn bytes(&mut self, kind: u16, value: &[u8]) {
        // What is asked for here has a few bytes.
        let length = u16::try_from(4 + value.len()).expect("an attribute of less than 64 KiB");
        self.0.extend(length.to_ne_bytes());
        self.0.extend(kind.to_ne_bytes());
        self.0.extend(value);
        self.0.resize(self.0.len().next_multiple_of(4), 0);
    }
}

#[cfg(test)]
impl Builder {
    /// As they would be sent, to be read again.
    pub(super) fn as_bytes(&self) -> &[u8] {
        &self.0
    }
}

struct Request {
    family: u16,
    command: u8,
    attributes: Builder,
}

impl NetlinkSerializable for Request {
    fn message_type(&self) -> u16 {
        self.family
    }

    fn buffer_len(&self) -> usize {
        HEADER_LEN + self.attributes.0.len()
    }

    fn serialize(&self, buffer: &mut [u8]) {
        let (header, attributes) = buffer.split_at_mut(HEADER_LEN);
        header.copy_from_slice(&[self.command, VERSION, 0, 0]);
        attributes.copy_from_slice(&self.attributes.0);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_built_is_what_is_read() {
        let mut inner = Builder::default();
        inner.string(2, "veth0");
        inner.u32(3, 1);
        let mut outer = Builder::default();
        outer.nest(1, &inner);
        outer.u32(7, 70_000);
        let request = Request { family: 20, command: 25, attributes: outer };
        let mut bytes = vec![0xff; request.buffer_len()];
        request.serialize(&mut bytes);
        assert_eq!(bytes[..4], [25, 1, 0, 0]);
        assert_eq!(bytes.len() % 4, 0);
        let read = attributes_of(&bytes);
        assert_eq!(read.u32(7), Some(70_000));
        let nested = read.nested(1).unwrap();
        assert_eq!((nested.string(2).as_deref(), nested.u32(3)), (Some("veth0"), Some(1)));
    }

    #[test]
    fn a_family_is_found_by_its_name_and_an_unknown_one_is_absent() {
        assert!(Family::open("nlctrl").unwrap().is_some());
        assert!(Family::open("no-such-family").unwrap().is_none());
    }
}
