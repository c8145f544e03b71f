//! A ping or pong at one point, with every stamp that it got there: what the hot loop hands to the log.

use crate::clock::{Phc, Realtime, Source, Stamp, Time};
use crate::wire::Point;

/// All that is known of one ping or pong at one point. A stamp that is not there is `None`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Sighting {
    /// The sequence of the ping or pong.
    pub sequence: u64,
    /// Where it was seen.
    pub point: Point,
    /// Bytes of the IP packet (of PTP over Ethernet: of the Ethernet payload).
    pub size: u16,
    /// The receive or transmit queue of the AF_XDP socket; `None` where it went through a kernel socket.
    pub queue: Option<u32>,
    /// This process: just before the hand-over, or just after it was read.
    pub application: Time<Realtime>,
    /// The kernel: at the driver or, on the xdp path, at the hook.
    pub software: Option<Time<Realtime>>,
    /// The network card.
    pub hardware: Option<Time<Phc>>,
}

impl Sighting {
    /// The stamp of one source, if it is there.
    pub const fn stamp(&self, source: Source) -> Option<Stamp> {
        match source {
            Source::Application => Some(Stamp::System(self.application)),
            Source::Software => match self.software {
                Some(time) => Some(Stamp::System(time)),
                None => None,
            },
            Source::Hardware => match self.hardware {
                Some(time) => Some(Stamp::Card(time)),
                None => None,
            },
        }
    }

    /// Whether it has stamps that can be subtracted from one another.
    pub(super) const fn has_stages(&self) -> bool {
        self.software.is_some() || self.hardware.is_some()
    }
}

#[cfg(test)]
impl Sighting {
    /// Of 44 bytes, from a kernel socket, with the process's stamp alone.
    pub(crate) const fn of_test(sequence: u64, point: Point, application_nanos: u64) -> Self {
        let application = Time::from_nanos(application_nanos);
        Self { sequence, point, size: 44, queue: None, application, software: None, hardware: None }
    }
}

/// Whose stamps the log's rows have, by direction.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Sources {
    /// At the points where a datagram leaves.
    pub sent: Source,
    /// At the points where one arrives.
    pub received: Source,
}

impl Sources {
    /// The process's own stamps in both directions.
    pub const fn application() -> Self {
        Self { sent: Source::Application, received: Source::Application }
    }

    /// The source at one point.
    pub const fn of(self, point: Point) -> Source {
        if point.is_sending() { self.sent } else { self.received }
    }
}

const HAS_QUEUE: u8 = 1;
const HAS_SOFTWARE: u8 = 2;
const HAS_HARDWARE: u8 = 4;

/// A [`Sighting`] as it stands in the ring: 40 bytes rather than 56, as the hot loop writes one for each packet.
#[derive(Debug, Clone, Copy)]
pub(super) struct Packed {
    sequence: u64,
    application: u64,
    software: u64,
    hardware: u64,
    queue: u32,
    size: u16,
    point: Point,
    /// Which of `queue`, `software` and `hardware` are there. No value of theirs could say it: 0 is a time.
    present: u8,
}

impl Packed {
    #[inline]
    pub(super) const fn new(sighting: &Sighting) -> Self {
        let Sighting { sequence, point, size, queue, application, software, hardware } = *sighting;
        let mut packed = Self {
            sequence,
            application: application.as_nanos(),
            software: 0,
            hardware: 0,
            queue: 0,
            size,
            point,
            present: 0,
        };
        if let Some(queue) = queue {
            packed.queue = queue;
            packed.present |= HAS_QUEUE;
        }
        if let Some(software) = software {
            packed.software = software.as_nanos();
            packed.present |= HAS_SOFTWARE;
        }
        if let Some(hardware) = hardware {
            packed.hardware = hardware.as_nanos();
            packed.present |= HAS_HARDWARE;
        }
        packed
    }

    pub(super) fn unpack(&self) -> Sighting {
        let has = |part| self.present & part != 0;
        Sighting {
            sequence: self.sequence,
            point: self.point,
            size: self.size,
            queue: has(HAS_QUEUE).then_some(self.queue),
            application: Time::from_nanos(self.application),
            software: has(HAS_SOFTWARE).then_some(Time::from_nanos(self.software)),
            hardware: has(HAS_HARDWARE).then_some(Time::from_nanos(self.hardware)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn a_stamp_is_that_of_the_source_asked_for() {
        let sighting = Sighting {
            sequence: 1,
            point: Point::T2,
            size: 44,
            queue: None,
            application: Time::from_nanos(1),
            software: None,
            hardware: Some(Time::from_nanos(0)),
        };
        assert_eq!(sighting.stamp(Source::Application), Some(Stamp::System(Time::from_nanos(1))));
        assert_eq!(sighting.stamp(Source::Software), None);
        assert_eq!(sighting.stamp(Source::Hardware), Some(Stamp::Card(Time::from_nanos(0))));
        let sources = Sources { sent: Source::Application, received: Source::Hardware };
        assert_eq!((sources.of(Point::T2), sources.of(Point::T1)), (Source::Application, Source::Hardware));
    }

    proptest! {
        #[test]
        fn nothing_is_lost_by_packing(
            (sequence, size, queue) in any::<(u64, u16, Option<u32>)>(),
            (application, software, hardware) in any::<(u64, Option<u64>, Option<u64>)>(),
            at in 0..8_usize,
        ) {
            use Point::{T0, T0cs, T0sc, T1, T1cs, T1sc, T2, T3};
            let sighting = Sighting {
                sequence,
                point: [T0, T1, T2, T3, T0cs, T1cs, T0sc, T1sc][at],
                size,
                queue,
                application: Time::from_nanos(application),
                software: software.map(Time::from_nanos),
                hardware: hardware.map(Time::from_nanos),
            };
            prop_assert_eq!(Packed::new(&sighting).unpack(), sighting);
        }
    }
}
