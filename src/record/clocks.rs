//! What `FILE.meta.json` keeps of a card's clock beside the system's, so that a reader can bring one to the other.
//!
//! Nothing is read here: whoever samples the clocks hands over a [`ClockRecord`] when a session ends.

use crate::clock::{Phc, Realtime, Time};
use serde::Serialize;
use serde_json::Value;

/// One reading of a card's clock beside the system's.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ClockSample {
    /// The system's clock.
    pub system: Time<Realtime>,
    /// What the card's clock showed then.
    pub phc: Time<Phc>,
    /// How far apart the two readings may be, in ns.
    pub uncertainty_nanos: u64,
    /// How they were read: the name of the ioctl, such as `PTP_SYS_OFFSET_PRECISE`.
    pub method: &'static str,
}

/// What was found out about the clocks while a session lasted.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct ClockRecord {
    /// Oldest first, of one card. As many as there are: the file keeps a part of them.
    pub samples: Vec<ClockSample>,
    /// `CLOCK_TAI` − `CLOCK_REALTIME` in ns, as stamps of the XDP hook were brought to the system's clock with it, and since
    /// when: the first one, and each that was another one.
    pub tai_offsets: Vec<(Time<Realtime>, i64)>,
}

impl ClockRecord {
    /// What the file keeps of the samples.
    pub(super) fn offsets(&self) -> Vec<OffsetRecord> {
        spread(self.samples.len(), SAMPLES).map(|index| OffsetRecord::new(&self.samples[index])).collect()
    }
}

/// How many clock samples of a session are kept at most: a little over 8 minutes of one a second.
pub(super) const SAMPLES: usize = 512;
/// How many samples of earlier sessions are kept together before the oldest sessions' are thinned out.
const EARLIER_SAMPLES: usize = 4096;
/// What such a session is left with.
const THINNED: usize = 8;

/// One TAI offset as the file has it.
#[derive(Debug, Clone, Serialize)]
pub(super) struct TaiRecord {
    pub(super) system_ns: u64,
    pub(super) offset_ns: i64,
}

/// A [`ClockSample`] as the file has it.
#[derive(Debug, Clone, Serialize)]
pub(super) struct OffsetRecord {
    system_ns: u64,
    phc_ns: u64,
    /// PHC − system.
    offset_ns: i64,
    uncertainty_ns: u64,
    method: &'static str,
}

impl OffsetRecord {
    fn new(sample: &ClockSample) -> Self {
        let (system_ns, phc_ns) = (sample.system.as_nanos(), sample.phc.as_nanos());
        // The one place where readings of two clocks are subtracted: the result is their offset, no time that passed.
        let offset = Time::<Realtime>::from_nanos(phc_ns).nanos_since(sample.system);
        Self { system_ns, phc_ns, offset_ns: offset, uncertainty_ns: sample.uncertainty_nanos, method: sample.method }
    }
}

/// Which of `count` are kept where at most `limit` may be: spread evenly, the first and the last among them.
fn spread(count: usize, limit: usize) -> impl Iterator<Item = usize> {
    let kept = count.min(limit);
    (0..kept).map(move |index| if kept < 2 { index } else { index * (count - 1) / (kept - 1) })
}

/// Leaves few clock samples to the oldest sessions, where all of them together have too many: the file is written anew
/// for each session.
pub(super) fn thin_out(earlier: &mut [Value]) {
    let mut total = 0;
    for session in earlier.iter_mut().rev() {
        let Some(Value::Array(samples)) = session.get_mut("clock_offsets") else { continue };
        if total + samples.len() > EARLIER_SAMPLES {
            *samples = spread(samples.len(), THINNED).map(|index| samples[index].clone()).collect();
        }
        total += samples.len();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn many_earlier_sessions_keep_few_clock_offsets_of_the_oldest() {
        let session = || serde_json::json!({"clock_offsets": (0..SAMPLES).collect::<Vec<_>>()});
        let mut earlier: Vec<Value> = (0..20).map(|_| session()).chain([serde_json::json!({})]).collect();
        thin_out(&mut earlier);
        let lengths: Vec<usize> = earlier[..20].iter().map(|s| s["clock_offsets"].as_array().unwrap().len()).collect();
        assert!(lengths.iter().sum::<usize>() <= EARLIER_SAMPLES + 20 * THINNED);
        assert_eq!((lengths[0], lengths[19]), (THINNED, SAMPLES));
        assert_eq!(earlier[0]["clock_offsets"], serde_json::json!([0, 73, 146, 219, 292, 365, 438, 511]));
    }

    #[test]
    fn what_is_kept_is_spread_evenly() {
        let kept = |count, limit| spread(count, limit).collect::<Vec<_>>();
        assert_eq!(kept(0, 4), [0; 0]);
        assert_eq!(kept(1, 4), [0]);
        assert_eq!(kept(4, 4), [0, 1, 2, 3]);
        assert_eq!(kept(10, 4), [0, 3, 6, 9]);
        assert_eq!(kept(10, 1), [0]);
    }
}
