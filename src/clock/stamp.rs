//! Whose stamps there are, and a stamp of any of them with its clock.
#![forbid(unsafe_code)]

use super::{Phc, Realtime, Time};

/// Who looks at the clock when a packet passes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Source {
    /// The network card, with its own clock (PTP hardware clock).
    Hardware,
    /// The kernel: its driver's side on sending, its stack or the XDP hook on receiving. `CLOCK_REALTIME`.
    Software,
    /// This process, before it hands over and after it has read. `CLOCK_REALTIME`.
    Application,
}

impl Source {
    /// The name on the command line and in the meta file.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Hardware => "hardware",
            Self::Software => "software",
            Self::Application => "application",
        }
    }
}

/// A stamp with the clock that it was read from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Stamp {
    /// Of the system's clock, `CLOCK_REALTIME`.
    System(Time<Realtime>),
    /// Of the network card's.
    Card(Time<Phc>),
}

impl Stamp {
    /// `self − earlier` in ns; `None` where the two are of different clocks, as their difference means nothing.
    pub const fn nanos_since(self, earlier: Self) -> Option<i64> {
        match (self, earlier) {
            (Self::System(late), Self::System(early)) => Some(late.nanos_since(early)),
            (Self::Card(late), Self::Card(early)) => Some(late.nanos_since(early)),
            _ => None,
        }
    }

    /// ns since the epoch of its own clock: for logs, which say elsewhere which clock that is.
    pub const fn as_nanos(self) -> u64 {
        match self {
            Self::System(time) => time.as_nanos(),
            Self::Card(time) => time.as_nanos(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_stamps_of_one_clock_subtract() {
        let system = |nanos| Stamp::System(Time::from_nanos(nanos));
        let card = |nanos| Stamp::Card(Time::from_nanos(nanos));
        assert_eq!(system(5).nanos_since(system(7)), Some(-2));
        assert_eq!(card(9).nanos_since(card(7)), Some(2));
        assert_eq!(card(9).nanos_since(system(7)), None);
        assert_eq!(system(9).nanos_since(card(7)), None);
    }
}
