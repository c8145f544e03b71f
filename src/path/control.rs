//! Control messages (`cmsg(3)`): what the kernel tells beside a datagram, read from bytes and written to bytes.
//!
//! No system call is made here, and nothing is believed of the bytes but what their lengths allow. All integers are in the
//! host's byte order: they never leave the machine.
#![forbid(unsafe_code)]

use crate::clock::{Phc, Realtime, Stamp, Time};
use std::mem::{offset_of, size_of};

/// `SCM_TS_OPT_ID`, `include/uapi/asm-generic/socket.h`, since Linux 6.13: the key of a transmit stamp, chosen by the sender.
pub const SCM_TS_OPT_ID: i32 = 81;
/// `PACKET_TX_TIMESTAMP`, `include/uapi/linux/if_packet.h`: a packet socket's counterpart of `IP_RECVERR`.
const PACKET_TX_TIMESTAMP: i32 = 16;
/// Bytes of `struct cmsghdr`; data follows at once, and what is behind data begins at a multiple of [`ALIGNMENT`].
const HEADER: usize = size_of::<libc::cmsghdr>();
const ALIGNMENT: usize = size_of::<usize>();
/// Bytes of `struct scm_timestamping`, `include/uapi/linux/errqueue.h`: software, a retired one, and the card's raw stamp.
const TIMESTAMPING: usize = 3 * size_of::<libc::timespec>();
/// Room for all that comes with one datagram or one stamp: time stamps, the error with its offender's address.
pub const ROOM: usize = 256;

const _: () = assert!(HEADER == 16 && ALIGNMENT == 8, "laid out for 64-bit machines");
const _: () = assert!(size_of::<libc::sock_extended_err>() == 16);

/// The stamps of one `SCM_TIMESTAMPING` message.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Stamps {
    /// The kernel's.
    pub software: Option<Time<Realtime>>,
    /// The card's.
    pub hardware: Option<Time<Phc>>,
}

impl Stamps {
    /// The one that is there, where it is one: a transmit report carries a single stamp.
    pub fn only(self) -> Option<Stamp> {
        match (self.software, self.hardware) {
            (Some(time), None) => Some(Stamp::System(time)),
            (None, Some(time)) => Some(Stamp::Card(time)),
            _ => None,
        }
    }
}

/// What the error queue says of a datagram that was sent (`Documentation/networking/timestamping.rst`, 2.1.1).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Report {
    /// `ee_data`: which datagram.
    pub key: u32,
    /// When it passed.
    pub stamp: Stamp,
}

/// The receive stamps among the control messages of a datagram.
pub fn stamps(control: &[u8]) -> Stamps {
    messages(control).find_map(|message| message.stamps()).unwrap_or_default()
}

/// The transmit stamp in what the error queue gave; `None` where it is something else, such as an ICMP error.
pub fn report(control: &[u8]) -> Option<Report> {
    let key = messages(control).find_map(|message| message.key())?;
    let stamp = messages(control).find_map(|message| message.stamps())?.only()?;
    Some(Report { key, stamp })
}

/// Whether what the error queue gave tells of an ICMP error, or of one that the kernel found by itself: `IP_RECVERR` queues those
/// beside the stamps.
pub fn is_icmp(control: &[u8]) -> bool {
    let origin = |message: Control<'_>| message.data.get(offset_of!(libc::sock_extended_err, ee_origin)).copied();
    messages(control)
        .filter(|message| (message.level, message.kind) == (libc::SOL_IP, libc::IP_RECVERR))
        .any(|message| matches!(origin(message), Some(libc::SO_EE_ORIGIN_ICMP | libc::SO_EE_ORIGIN_LOCAL)))
}

/// One control message.
#[derive(Debug, Clone, Copy)]
struct Control<'a> {
    level: i32,
    kind: i32,
    data: &'a [u8],
}

impl Control<'_> {
    fn stamps(self) -> Option<Stamps> {
        if (self.level, self.kind) != (libc::SOL_SOCKET, libc::SCM_TIMESTAMPING) || self.data.len() < TIMESTAMPING {
            return None;
        }
        // All zero is the kernel's "none".
        let at = |index: usize| {
            let (seconds, rest) = self.data[index * size_of::<libc::timespec>()..].split_first_chunk::<8>()?;
            let seconds = u64::try_from(i64::from_ne_bytes(*seconds)).ok()?;
            let nanos = u64::try_from(i64::from_ne_bytes(*rest.first_chunk()?)).ok()?;
            seconds.checked_mul(1_000_000_000)?.checked_add(nanos).filter(|nanos| *nanos != 0)
        };
        Some(Stamps { software: at(0).map(Time::from_nanos), hardware: at(2).map(Time::from_nanos) })
    }

    /// `ee_data` of a `struct sock_extended_err` that is about a time stamp.
    fn key(self) -> Option<u32> {
        let about_sent = matches!(
            (self.level, self.kind),
            (libc::SOL_IP, libc::IP_RECVERR) | (libc::SOL_PACKET, PACKET_TX_TIMESTAMP)
        );
        let u32_at = |at: usize| self.data.get(at..)?.first_chunk().map(|bytes| u32::from_ne_bytes(*bytes));
        let errno = u32_at(offset_of!(libc::sock_extended_err, ee_errno))?;
        let origin = *self.data.get(offset_of!(libc::sock_extended_err, ee_origin))?;
        // SCM_TSTAMP_SND, 0: when it was sent, and not when it was queued.
        let what = u32_at(offset_of!(libc::sock_extended_err, ee_info))?;
        let is_stamp = errno == libc::ENOMSG as u32 && origin == libc::SO_EE_ORIGIN_TIMESTAMPING && what == 0;
        (about_sent && is_stamp).then(|| u32_at(offset_of!(libc::sock_extended_err, ee_data))).flatten()
    }
}

/// Takes the messages apart, up to the first that does not hold together.
fn messages(control: &[u8]) -> impl Iterator<Item = Control<'_>> {
    let mut rest = control;
    std::iter::from_fn(move || {
        let (length, after) = rest.split_first_chunk::<8>()?;
        let length = usize::from_ne_bytes(*length);
        let (level, after) = after.split_first_chunk::<4>()?;
        let (kind, _) = after.split_first_chunk::<4>()?;
        let data = rest.get(HEADER..length)?;
        rest = rest.get(length.checked_next_multiple_of(ALIGNMENT)?..).unwrap_or_default();
        Some(Control { level: i32::from_ne_bytes(*level), kind: i32::from_ne_bytes(*kind), data })
    })
}

/// Bytes that a message with four bytes of data takes.
const WORD_SPACE: usize = HEADER + ALIGNMENT;

/// The control messages of a datagram that is to be stamped: which stamps are wanted, and where the kernel takes one the
/// key that they are to bear.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(align(8))]
pub struct Request([u8; 2 * WORD_SPACE]);

impl Request {
    /// `flags` are `SOF_TIMESTAMPING_TX_…` bits (`include/uapi/linux/net_tstamp.h`).
    pub fn new(flags: u32) -> Self {
        let mut bytes = [0; 2 * WORD_SPACE];
        put_word(&mut bytes[..WORD_SPACE], libc::SO_TIMESTAMPING, flags);
        put_word(&mut bytes[WORD_SPACE..], SCM_TS_OPT_ID, 0);
        Self(bytes)
    }

    /// The key is one of a kind that no kernel knows.
    #[cfg(test)]
    pub fn make_key_unknown(&mut self) {
        put_word(&mut self.0[WORD_SPACE..], i32::MAX, 0);
    }

    /// With a key of the sender's own.
    #[inline]
    pub fn with_key(&mut self, key: u32) -> &[u8] {
        self.0[WORD_SPACE + HEADER..WORD_SPACE + HEADER + 4].copy_from_slice(&key.to_ne_bytes());
        &self.0
    }

    /// Without: the kernel counts the datagrams that ask for a stamp.
    #[inline]
    pub fn without_key(&self) -> &[u8] {
        &self.0[..WORD_SPACE]
    }
}

fn put_word(space: &mut [u8], kind: i32, word: u32) {
    space[..8].copy_from_slice(&(HEADER + 4).to_ne_bytes());
    space[8..12].copy_from_slice(&libc::SOL_SOCKET.to_ne_bytes());
    space[12..16].copy_from_slice(&kind.to_ne_bytes());
    space[16..20].copy_from_slice(&word.to_ne_bytes());
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn message(level: i32, kind: i32, data: &[u8]) -> Vec<u8> {
        let mut bytes = (HEADER + data.len()).to_ne_bytes().to_vec();
        bytes.extend(level.to_ne_bytes());
        bytes.extend(kind.to_ne_bytes());
        bytes.extend(data);
        bytes.resize(bytes.len().next_multiple_of(ALIGNMENT), 0xee);
        bytes
    }

    fn timestamping(software: (i64, i64), hardware: (i64, i64)) -> Vec<u8> {
        let words = [software.0, software.1, 0, 0, hardware.0, hardware.1];
        message(libc::SOL_SOCKET, libc::SCM_TIMESTAMPING, &words.map(i64::to_ne_bytes).concat())
    }

    fn error(level: i32, kind: i32, origin: u8, info: u32, data: u32) -> Vec<u8> {
        let mut bytes = (libc::ENOMSG as u32).to_ne_bytes().to_vec();
        bytes.extend([origin, 0, 0, 0]);
        bytes.extend(info.to_ne_bytes());
        bytes.extend(data.to_ne_bytes());
        message(level, kind, &bytes)
    }

    #[test]
    fn a_received_datagrams_stamps_are_told_apart_and_zero_is_none() {
        let both = stamps(&timestamping((5, 7), (1000, 9)));
        assert_eq!(both.software.map(Time::as_nanos), Some(5_000_000_007));
        assert_eq!(both.hardware.map(Time::as_nanos), Some(1_000_000_000_009));
        assert_eq!(stamps(&timestamping((0, 0), (0, 0))), Stamps::default());
        assert_eq!(stamps(&timestamping((-1, 0), (0, -1))), Stamps::default());
        let behind_another = [message(libc::SOL_IP, 8, &[1, 2, 3]), timestamping((0, 0), (0, 3))].concat();
        assert_eq!(stamps(&behind_another).hardware.map(Time::as_nanos), Some(3));
    }

    #[test]
    fn a_report_names_its_datagram_on_both_kinds_of_socket() {
        let origin = libc::SO_EE_ORIGIN_TIMESTAMPING;
        for (level, kind) in [(libc::SOL_IP, libc::IP_RECVERR), (libc::SOL_PACKET, PACKET_TX_TIMESTAMP)] {
            let stamp = timestamping((0, 0), (1000, 1));
            let bytes = [stamp.clone(), error(level, kind, origin, 0, 77)].concat();
            let expected = Report { key: 77, stamp: Stamp::Card(Time::from_nanos(1_000_000_000_001)) };
            assert_eq!(report(&bytes), Some(expected));
            // When it was queued, an ICMP error, and a stamp without a name.
            assert_eq!(report(&[stamp.clone(), error(level, kind, origin, 1, 77)].concat()), None);
            assert_eq!(report(&[stamp.clone(), error(level, kind, 2, 0, 77)].concat()), None);
            assert_eq!(report(&stamp), None);
        }
        let none = [timestamping((0, 0), (0, 0)), error(libc::SOL_IP, libc::IP_RECVERR, origin, 0, 77)].concat();
        assert_eq!(report(&none), None);
    }

    #[test]
    fn a_request_reads_back() {
        let mut request = Request::new(3);
        let words: Vec<_> = messages(request.with_key(0x0102_0304))
            .map(|message| (message.kind, u32::from_ne_bytes(*message.data.first_chunk().unwrap())))
            .collect();
        assert_eq!(words, [(libc::SO_TIMESTAMPING, 3), (SCM_TS_OPT_ID, 0x0102_0304)]);
        assert_eq!(messages(request.without_key()).count(), 1);
    }

    proptest! {
        #[test]
        fn no_bytes_make_it_panic(bytes in proptest::collection::vec(any::<u8>(), 0..200), length in 0_usize..64) {
            let mut bytes = bytes;
            let _ = (stamps(&bytes), report(&bytes));
            if bytes.len() >= 8 {
                bytes[..8].copy_from_slice(&length.to_ne_bytes());
                let _ = (stamps(&bytes), report(&bytes));
            }
        }
    }
}
