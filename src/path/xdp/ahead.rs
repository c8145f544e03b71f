//! Which frame the kernel receives into next.
//!
//! It takes frames from the fill ring in the order in which they were put there, and in copy mode shows them in the receive ring in
//! that order too: also one that it kept for want of an entry there (`xp_alloc`, `net/xdp/xsk_buff_pool.c`) comes before those
//! behind it. Only a hint for the cache comes of it: were it wrong, a frame would be read that little later.
#![forbid(unsafe_code)]

/// The frames of the fill ring, in its order.
#[derive(Debug)]
pub(super) struct Ahead {
    /// Where in the UMEM each is, in bytes: of less than 4 GiB, to have them on few cache lines. One place for each entry of the
    /// ring, used round and round.
    addresses: Box<[u32]>,
    /// Frames given so far, and received so far.
    given: usize,
    received: usize,
}

impl Ahead {
    /// Of a fill ring with so many entries, a power of two; it is empty.
    pub(super) fn new(entries: u32) -> Self {
        debug_assert!(entries.is_power_of_two());
        Self { addresses: vec![0; entries as usize].into(), given: 0, received: 0 }
    }

    /// Frames were put into the fill ring, in this order.
    #[inline]
    pub(super) fn given(&mut self, addresses: impl Iterator<Item = usize>) {
        let mask = self.addresses.len() - 1;
        for address in addresses {
            self.addresses[self.given & mask] = address as u32;
            self.given = self.given.wrapping_add(1);
        }
    }

    /// One came out of the receive ring.
    #[inline]
    pub(super) const fn received(&mut self) {
        self.received = self.received.wrapping_add(1);
    }

    /// Where the next frame is; that of one that was received before where none is in the ring.
    #[inline]
    pub(super) fn next(&self) -> usize {
        self.addresses[self.received & (self.addresses.len() - 1)] as usize
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::VecDeque;

    #[test]
    fn the_next_frame_is_the_one_that_was_given_first() {
        let (mut ahead, mut ring) = (Ahead::new(8), VecDeque::new());
        let mut next_address = 256;
        let mut give = |ahead: &mut Ahead, ring: &mut VecDeque<usize>, count: usize| {
            let addresses: Vec<usize> = (0..count).map(|at| next_address + 2048 * at).collect();
            next_address += 2048 * count;
            ahead.given(addresses.iter().copied());
            ring.extend(addresses);
        };
        give(&mut ahead, &mut ring, 8);
        for (received, given) in [(1, 0), (3, 2), (5, 5), (1, 3), (2, 2)] {
            assert_eq!(Some(&ahead.next()), ring.front());
            (0..received).for_each(|_| ahead.received());
            ring.drain(..received);
            give(&mut ahead, &mut ring, given);
        }
        assert_eq!(Some(&ahead.next()), ring.front());
    }
}
