//! How many rows a second the log takes without losing one.

use anyhow::Result;
use std::path::Path;
use std::time::Duration;
use xdprobe::clock::{monotonic_now, realtime_now};
use xdprobe::record::{Recorder, RecorderConfig, Role, Sighting, Voice};
use xdprobe::wire::Point;

/// Rates that are tried, in rows a second.
const RATES: [u32; 8] = [250_000, 500_000, 750_000, 1_000_000, 1_250_000, 1_500_000, 2_000_000, 3_000_000];

/// The highest of [`RATES`] at which every row of `seconds` is in the file; 0 where none is.
pub fn highest_rate(log: &Path, seconds: u32) -> Result<f64> {
    let mut highest = 0;
    for rate in RATES {
        let _ = std::fs::remove_file(log);
        let mut recorder =
            Recorder::start(RecorderConfig::application(Some(log), Voice { role: Role::Client, json: true }))?;
        recorder.begin_session();
        let start = monotonic_now();
        let rows = u64::from(rate) * u64::from(seconds);
        let mut handed = 0;
        while handed < rows {
            let due = monotonic_now().duration_since(start).as_nanos() * u128::from(rate) / 1_000_000_000;
            // Handed over one by one, as the hot loop does.
            while u128::from(handed) < due.min(rows.into()) {
                recorder.seen(&Sighting {
                    sequence: handed + 1,
                    point: Point::T0,
                    size: 44,
                    queue: Some(0),
                    application: realtime_now(),
                    software: None,
                    hardware: None,
                });
                handed += 1;
            }
        }
        // What cannot be written at this pace lies in the ring or is lost.
        let late = monotonic_now().duration_since(start)
            > Duration::from_secs(u64::from(seconds)) + Duration::from_millis(100);
        let whole = recorder.finish().is_whole();
        if !whole || late {
            break;
        }
        highest = rate;
    }
    let _ = std::fs::remove_file(log);
    Ok(highest.into())
}
