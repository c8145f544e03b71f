//! What the process shares with the XDP program: `bpf/steer.h`, checked against it when this is compiled.

use super::program::skeleton::types;
use crate::clock::{Phc, Tai, Time};
use std::mem::{offset_of, size_of};

/// `STEER_MAGIC`.
pub(super) const MAGIC: u32 = 0x7864_7001;

/// `struct steer_meta`: the record right before a steered frame's first byte. Host byte order.
#[derive(Debug, Clone, Copy)]
#[repr(C)]
pub(super) struct Meta {
    hardware_ns: u64,
    hook_tai_ns: u64,
    rx_queue: u32,
    magic: u32,
}

/// Bytes of a [`Meta`].
pub(super) const META_LEN: usize = size_of::<Meta>();

/// The same offset in the mirror and in what clang made of the header.
macro_rules! same_layout {
    ($mirror:ty, $original:ty, $($field:ident),+) => {
        const _: () = assert!(size_of::<$mirror>() == size_of::<$original>());
        $(const _: () = assert!(offset_of!($mirror, $field) == offset_of!($original, $field));)+
    };
}
same_layout!(Meta, types::steer_meta, hardware_ns, hook_tai_ns, rx_queue, magic);
// Kernel, bpf_xdp_adjust_meta (net/core/filter.c, xdp_metalen_invalid): a multiple of 4, at most 252; before
// that limit was raised, 32.
const _: () = assert!(META_LEN.is_multiple_of(4) && META_LEN <= 32);

impl Meta {
    /// The record in these bytes; `None` where the program wrote none.
    pub(super) fn from_bytes(bytes: &[u8; META_LEN]) -> Option<Self> {
        let u64_at = |at: usize| u64::from_ne_bytes(*bytes[at..].first_chunk().expect("8 bytes of a field"));
        let u32_at = |at: usize| u32::from_ne_bytes(*bytes[at..].first_chunk().expect("4 bytes of a field"));
        let meta = Self {
            hardware_ns: u64_at(offset_of!(Self, hardware_ns)),
            hook_tai_ns: u64_at(offset_of!(Self, hook_tai_ns)),
            rx_queue: u32_at(offset_of!(Self, rx_queue)),
            magic: u32_at(offset_of!(Self, magic)),
        };
        (meta.magic == MAGIC).then_some(meta)
    }

    /// When the program saw the frame.
    pub(super) fn hook(&self) -> Time<Tai> {
        Time::from_nanos(self.hook_tai_ns)
    }

    /// The card's stamp. 0 on the record is "none": drivers leave it so where they have no stamp.
    pub(super) fn hardware(&self) -> Option<Time<Phc>> {
        (self.hardware_ns != 0).then(|| Time::from_nanos(self.hardware_ns))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The value of `#define STEER_MAGIC` in the header.
    fn magic_of_the_header() -> u32 {
        let header = include_str!("../../../bpf/steer.h");
        let line = header.lines().find(|line| line.starts_with("#define STEER_MAGIC")).unwrap();
        let value = line.split_whitespace().nth(2).unwrap();
        u32::from_str_radix(value.trim_start_matches("0x").trim_end_matches('u'), 16).unwrap()
    }

    #[test]
    fn the_magic_is_that_of_the_header() {
        assert_eq!(magic_of_the_header(), MAGIC);
    }

    #[test]
    fn a_record_reads_back_and_another_magic_is_no_record() {
        let mut bytes = [0; META_LEN];
        bytes[..8].copy_from_slice(&7_u64.to_ne_bytes());
        bytes[8..16].copy_from_slice(&9_u64.to_ne_bytes());
        bytes[16..20].copy_from_slice(&3_u32.to_ne_bytes());
        assert!(Meta::from_bytes(&bytes).is_none());
        bytes[20..].copy_from_slice(&MAGIC.to_ne_bytes());
        let meta = Meta::from_bytes(&bytes).unwrap();
        assert_eq!((meta.hook().as_nanos(), meta.rx_queue), (9, 3));
        assert_eq!(meta.hardware().map(Time::as_nanos), Some(7));
        bytes[..8].fill(0);
        assert_eq!(Meta::from_bytes(&bytes).unwrap().hardware(), None);
    }
}
