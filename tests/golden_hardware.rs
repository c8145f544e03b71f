//! The original's own logs of a wire whose delay is known (`tests/golden/hardware-*`), read as the logs of the guests are:
//! what is asserted of ours there (`tests/vm`) must hold of the original's, to the nanosecond.

#[path = "vm/outcome.rs"]
#[allow(dead_code, reason = "shared with the scenarios")]
mod outcome;
#[path = "vm/session.rs"]
#[allow(dead_code, reason = "shared with the scenarios")]
mod session;

use outcome::Outcome;
use session::{Logs, Mode, Wire};
use std::panic::catch_unwind;
use std::path::{Path, PathBuf};
use xdprobe::clock::{Phc, Stamp, Time};
use xdprobe::record::RoundTrips;

/// As `tests/golden/README.md` has it: 10 µs of wire, the clocks 1000 s and 7777 s ahead of one and the same.
const WIRE: Wire = Wire { delay_ns: 10_000, offset_ns: [1_000_000_000_000, 7_777_000_000_000] };

fn folder(mode: Mode) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden").join(format!("hardware-{}", mode.name()))
}

fn logs(mode: Mode) -> Logs {
    Logs::of(&Outcome::of_logs(folder(mode)))
}

#[test]
fn every_message_took_the_wires_delay_and_every_round_trip_twice_that() {
    // Both messages of how many sequences have both their stamps; in duplex the original loses the last one's.
    for (mode, expected) in [(Mode::Forward, [101, 101]), (Mode::Reverse, [101, 101]), (Mode::Duplex, [100, 99])] {
        assert_eq!(logs(mode).assert_exact(mode, &WIRE), expected, "{mode:?}");
    }
    for mode in [Mode::Forward, Mode::Reverse] {
        logs(mode).assert_complete(mode);
    }
}

#[test]
fn a_wire_that_is_a_nanosecond_longer_would_be_noticed() {
    for mode in session::MODES {
        let longer = Wire { delay_ns: WIRE.delay_ns + 1, ..WIRE };
        assert!(catch_unwind(|| logs(mode).assert_exact(mode, &longer)).is_err(), "{mode:?}");
        let [client, server] = WIRE.offset_ns;
        let other_clock = Wire { offset_ns: [client, server + 1], ..WIRE };
        assert!(catch_unwind(|| logs(mode).assert_exact(mode, &other_clock)).is_err(), "{mode:?}");
    }
}

#[test]
fn the_statistics_find_the_same_round_trips_whichever_stamp_comes_first() {
    for mode in [Mode::Forward, Mode::Reverse] {
        let [ping, pong] = mode.ways();
        let logs = logs(mode);
        let (t0, t3) = (logs.sent(&ping), logs.received(&pong));
        let least = t0.iter().map(|(sequence, t0)| (t3[sequence] - t0) as u64).min();
        let card = |nanos: i64| Stamp::Card(Time::<Phc>::from_nanos(nanos as u64));
        for late in [false, true] {
            let mut trips = RoundTrips::new();
            for (sequence, stamp) in &t0 {
                trips.sent(*sequence);
                let left = |trips: &mut RoundTrips| trips.left(*sequence, card(*stamp));
                // In these logs the card tells of most pings after their pongs have come.
                if !late {
                    left(&mut trips);
                }
                trips.answered(*sequence, Some(card(t3[sequence])));
                if late {
                    left(&mut trips);
                }
            }
            let latency = trips.latency().expect("there are round trips");
            assert_eq!((latency.count, Some(latency.min)), (101, least), "{mode:?}, late: {late}");
        }
    }
}
