//! A thread that compares clocks once a second, at first more often, and a board on which the hot loop reads what it found
//! without waiting.
//!
//! The hot loop never reads a card's clock itself: that takes microseconds on some cards.
#![forbid(unsafe_code)]

use super::offsets::{self, Offsets};
use super::{Monotonic, Phc, PhcClock, PhcError, Realtime, Tai, Time, monotonic_now, realtime_now, tai_now};
use std::io;
use std::sync::atomic::{AtomicI64, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;
use std::time::Duration;

/// How often the clocks are compared.
const PERIOD: Duration = Duration::from_secs(1);
/// After how long the first comparisons follow each other: two of them tell the drift, which is nearly all that is uncertain
/// in the first second.
const FIRST_PERIODS: [Duration; 3] = [Duration::from_millis(20), Duration::from_millis(80), Duration::from_millis(300)];
/// How many readings a comparison of the system's clocks is the best of.
const READINGS: u32 = 5;
/// How far from whole seconds a TAI offset may be measured that is taken for whole ones: the kernel has no others.
const ROUNDING_NS: u64 = 1_000_000;
const NANOS_PER_SECOND: i64 = 1_000_000_000;
/// How many changes of the TAI offset are kept. There is one a year, unless somebody plays with it.
const TAI_CAPACITY: usize = 1024;
/// No offset on the board.
const UNKNOWN: i64 = i64::MIN;

/// CLOCK_TAI less CLOCK_REALTIME at one moment.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct TaiSample {
    /// When it was measured.
    pub system: Time<Realtime>,
    /// The same on a clock that nobody sets: the order of the samples.
    pub taken: Time<Monotonic>,
    /// What was measured, in nanoseconds.
    pub measured_ns: i64,
    /// How far the measured one can be off, in nanoseconds.
    pub uncertainty_ns: u64,
    /// What is taken for it: whole seconds where the measured one is within a millisecond of them, else as measured.
    pub offset_ns: i64,
}

/// What the sampler saw.
#[derive(Debug, Clone, Default)]
pub struct ClockHistory {
    /// The card's clock and the system's. Empty where there is no card's clock.
    pub phc: Offsets,
    /// The TAI offset: the first measurement, each after which it was another one, and the latest.
    pub tai: Vec<TaiSample>,
    /// How often the card's clock could not be read.
    pub phc_failures: u64,
    /// Why, the last time.
    pub phc_last_failure: Option<String>,
}

/// What the hot loop needs to know of clocks. Every answer comes of one atomic value, at most a second old.
#[derive(Debug)]
pub struct ClockBoard {
    /// TAI − REALTIME in nanoseconds.
    tai_offset: AtomicI64,
    /// REALTIME − PHC in nanoseconds, or `UNKNOWN`.
    phc_offset: AtomicI64,
}

impl ClockBoard {
    /// A board with this to be read: TAI − REALTIME, and REALTIME − PHC where there is one, in nanoseconds. The sampler
    /// makes its own; this is for tests of what reads it.
    pub const fn new(tai_offset_ns: i64, phc_offset_ns: Option<i64>) -> Self {
        let phc_offset = match phc_offset_ns {
            Some(offset) => offset,
            None => UNKNOWN,
        };
        Self { tai_offset: AtomicI64::new(tai_offset_ns), phc_offset: AtomicI64::new(phc_offset) }
    }

    /// A time of CLOCK_TAI, as the XDP hook takes it, on the system's clock.
    pub fn tai_to_realtime(&self, time: Time<Tai>) -> Time<Realtime> {
        let offset = self.tai_offset.load(Ordering::Relaxed);
        Time::from_nanos(time.as_nanos().saturating_add_signed(offset.saturating_neg()))
    }

    /// Whether a card's stamp is no further than an hour from the card's own time. Zero never is, nor is anything where
    /// the card's clock is not known.
    pub fn is_plausible_phc(&self, stamp: Time<Phc>, now: Time<Realtime>) -> bool {
        match self.phc_offset.load(Ordering::Relaxed) {
            UNKNOWN => false,
            offset => offsets::is_plausible(stamp, now, offset.into()),
        }
    }
}

/// Why no sampler runs.
#[derive(Debug, thiserror::Error)]
pub enum SamplerError {
    /// The card's clock gives no first sample.
    #[error(transparent)]
    Phc(#[from] PhcError),
    /// The thread cannot be started.
    #[error("cannot start the thread that compares clocks: {0}")]
    Thread(io::Error),
}

/// The thread, which ends with this value.
#[derive(Debug)]
pub struct ClockSampler {
    shared: Arc<Shared>,
    thread: Option<JoinHandle<()>>,
}

#[derive(Debug)]
struct Shared {
    board: Arc<ClockBoard>,
    /// `None` where there is none, or none any more.
    clock: Mutex<Option<PhcClock>>,
    history: Mutex<ClockHistory>,
    is_over: Mutex<bool>,
    over: Condvar,
}

impl ClockSampler {
    /// Takes the first samples, and starts the thread that takes the others. It runs on the CPUs that the caller may run
    /// on: one that pins itself does so afterwards.
    ///
    /// # Errors
    /// [`SamplerError::Phc`] where the card's clock cannot be read, [`SamplerError::Thread`].
    pub fn start(clock: Option<PhcClock>) -> Result<Self, SamplerError> {
        let shared = Arc::new(Shared {
            board: Arc::new(ClockBoard::new(0, None)),
            clock: Mutex::new(clock),
            history: Mutex::default(),
            is_over: Mutex::new(false),
            over: Condvar::new(),
        });
        shared.sample_tai();
        shared.sample_phc()?;
        let for_thread = Arc::clone(&shared);
        let thread = std::thread::Builder::new().name("xdprobe-clock".to_owned());
        let thread = thread.spawn(move || for_thread.run()).map_err(SamplerError::Thread)?;
        Ok(Self { shared, thread: Some(thread) })
    }

    /// What the hot loop reads.
    pub fn board(&self) -> Arc<ClockBoard> {
        Arc::clone(&self.shared.board)
    }

    /// Takes samples now. At a session's end this has the last stamps lie between two samples. Not for the hot loop.
    pub fn sample_now(&self) {
        self.shared.sample();
    }

    /// A card's stamp on the system's clock, as [`Offsets::to_system`] has it. Not for the hot loop.
    pub fn to_system(&self, stamp: Time<Phc>) -> Option<(Time<Realtime>, u64)> {
        locked(&self.shared.history).phc.to_system(stamp)
    }

    /// What was seen so far. Not for the hot loop.
    pub fn history(&self) -> ClockHistory {
        locked(&self.shared.history).clone()
    }
}

impl Drop for ClockSampler {
    fn drop(&mut self) {
        *locked(&self.shared.is_over) = true;
        self.shared.over.notify_all();
        if let Some(thread) = self.thread.take() {
            // It does not panic; and if it did, there is nothing left to save.
            let _ = thread.join();
        }
    }
}

impl Shared {
    fn run(&self) {
        let mut is_over = locked(&self.is_over);
        let mut periods = FIRST_PERIODS.into_iter().chain(std::iter::repeat(PERIOD));
        while !*is_over {
            let period = periods.next().unwrap_or(PERIOD);
            let (guard, timeout) = self
                .over
                .wait_timeout_while(is_over, period, |is_over| !*is_over)
                .unwrap_or_else(PoisonError::into_inner);
            is_over = guard;
            if timeout.timed_out() {
                drop(is_over);
                self.sample();
                is_over = locked(&self.is_over);
            }
        }
    }

    fn sample(&self) {
        self.sample_tai();
        // Counted, with its reason kept.
        let _ = self.sample_phc();
    }

    fn sample_tai(&self) {
        let sample = measure_tai();
        self.board.tai_offset.store(sample.offset_ns, Ordering::Relaxed);
        keep_tai(&mut locked(&self.history).tai, sample);
    }

    fn sample_phc(&self) -> Result<(), PhcError> {
        // Held until the sample is in the history, so that they are there in their order.
        let mut clock = locked(&self.clock);
        let Some(open) = clock.as_mut() else { return Ok(()) };
        match open.sample() {
            Ok(sample) => {
                // One that does not fit, 292 years apart, is as good as none.
                let offset = i64::try_from(sample.offset_ns()).unwrap_or(UNKNOWN);
                self.board.phc_offset.store(offset, Ordering::Relaxed);
                locked(&self.history).phc.push(sample);
                Ok(())
            }
            Err(error) => {
                let mut history = locked(&self.history);
                history.phc_failures += 1;
                history.phc_last_failure = Some(error.to_string());
                if error.is_gone() {
                    *clock = None;
                }
                Err(error)
            }
        }
    }
}

/// What a panic of another thread left behind is whole: nothing is taken apart while a lock is held.
fn locked<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// The system's clock around a reading of CLOCK_TAI.
fn measure_tai() -> TaiSample {
    let taken = monotonic_now();
    let readings = (0..READINGS).map(|_| (realtime_now(), tai_now(), realtime_now()));
    tai_sample(readings, taken).unwrap_or_else(|| {
        // The clock was set back between each two.
        let (system, tai) = (realtime_now(), tai_now());
        reduced(system, tai, system, taken)
    })
}

/// The narrowest of the readings between which the system's clock was not set back.
fn tai_sample(
    readings: impl Iterator<Item = (Time<Realtime>, Time<Tai>, Time<Realtime>)>,
    taken: Time<Monotonic>,
) -> Option<TaiSample> {
    let forward = readings.filter(|(before, _, after)| after >= before);
    let narrowest = forward.min_by_key(|(before, _, after)| after.nanos_since(*before));
    narrowest.map(|(before, tai, after)| reduced(before, tai, after, taken))
}

fn reduced(before: Time<Realtime>, tai: Time<Tai>, after: Time<Realtime>, taken: Time<Monotonic>) -> TaiSample {
    let width = after.as_nanos() - before.as_nanos();
    let system = before.plus_nanos(width / 2);
    // Both count from 1970, so that they are seconds apart.
    let measured_ns = (i128::from(tai.as_nanos()) - i128::from(system.as_nanos())) as i64;
    let seconds = (measured_ns + NANOS_PER_SECOND / 2).div_euclid(NANOS_PER_SECOND);
    let whole = seconds * NANOS_PER_SECOND;
    let offset_ns = if measured_ns.abs_diff(whole) <= ROUNDING_NS { whole } else { measured_ns };
    TaiSample { system, taken, measured_ns, uncertainty_ns: width.div_ceil(2), offset_ns }
}

/// Of measurements that agree, the first and the last are kept.
fn keep_tai(kept: &mut Vec<TaiSample>, sample: TaiSample) {
    if let [.., before_last, last] = kept.as_mut_slice()
        && before_last.offset_ns == last.offset_ns
        && last.offset_ns == sample.offset_ns
    {
        *last = sample;
        return;
    }
    if kept.len() >= TAI_CAPACITY {
        kept.remove(0);
    }
    kept.push(sample);
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Instant;

    const TAKEN: Time<Monotonic> = Time::from_nanos(7);
    const SECOND: u64 = 1_000_000_000;
    const EPOCH: u64 = 1_700_000_000 * SECOND;

    fn reading(before: u64, tai: u64, after: u64) -> (Time<Realtime>, Time<Tai>, Time<Realtime>) {
        (Time::from_nanos(EPOCH + before), Time::from_nanos(EPOCH + tai), Time::from_nanos(EPOCH + after))
    }

    #[test]
    fn a_tai_offset_near_whole_seconds_is_whole_seconds() {
        let readings = [reading(0, 37 * SECOND + 5_000, 9_000), reading(20_000, 37 * SECOND + 20_070, 20_101)];
        let sample = tai_sample(readings.into_iter(), TAKEN).unwrap();
        assert_eq!((sample.measured_ns, sample.uncertainty_ns), (37_000_000_020, 51));
        assert_eq!((sample.offset_ns, sample.system.as_nanos()), (37_000_000_000, EPOCH + 20_050));
    }

    #[test]
    fn a_tai_offset_that_is_not_near_them_is_kept_as_measured() {
        for (tai, offset) in [(SECOND + 1_000_000, 1_000_000_000), (SECOND + 1_000_001, 1_001_000_001)] {
            assert_eq!(tai_sample([reading(0, tai, 0)].into_iter(), TAKEN).unwrap().offset_ns, offset);
        }
        let behind = (Time::from_nanos(EPOCH), Time::from_nanos(EPOCH - 2 * SECOND + 10), Time::from_nanos(EPOCH));
        assert_eq!(tai_sample([behind].into_iter(), TAKEN).unwrap().offset_ns, -2_000_000_000);
    }

    #[test]
    fn a_clock_that_is_set_back_meanwhile_measures_nothing() {
        assert_eq!(tai_sample([reading(10, 10, 9)].into_iter(), TAKEN), None);
    }

    #[test]
    fn of_equal_tai_offsets_the_first_and_the_last_are_kept() {
        let mut kept = Vec::new();
        for (second, leap) in [(0, 37), (1, 37), (2, 37), (3, 38), (4, 38), (5, 38)] {
            keep_tai(
                &mut kept,
                reduced(
                    Time::from_nanos(EPOCH + second),
                    Time::from_nanos(EPOCH + second + leap * SECOND),
                    Time::from_nanos(EPOCH + second),
                    TAKEN,
                ),
            );
        }
        let kept: Vec<_> =
            kept.iter().map(|sample| (sample.system.as_nanos() - EPOCH, sample.offset_ns / 1_000_000_000)).collect();
        assert_eq!(kept, [(0, 37), (2, 37), (3, 38), (5, 38)]);
    }

    #[test]
    fn the_board_takes_the_tai_offset_away() {
        let board = ClockBoard::new(37_000_000_000, None);
        assert_eq!(board.tai_to_realtime(Time::from_nanos(EPOCH + 37 * SECOND)).as_nanos(), EPOCH);
        let board = ClockBoard::new(-5, None);
        assert_eq!(board.tai_to_realtime(Time::from_nanos(EPOCH)).as_nanos(), EPOCH + 5);
    }

    #[test]
    fn the_board_knows_a_stamp_that_is_none() {
        let now = Time::from_nanos(EPOCH);
        let board = ClockBoard::new(0, Some((EPOCH - 5 * SECOND) as i64));
        assert!(board.is_plausible_phc(Time::from_nanos(5 * SECOND), now));
        assert!(!board.is_plausible_phc(Time::from_nanos(0), now), "zero is no stamp, even within the hour");
        assert!(!board.is_plausible_phc(Time::from_nanos(3606 * SECOND), now));
        assert!(!ClockBoard::new(0, None).is_plausible_phc(now_as_phc(now), now), "no clock to compare with");
    }

    fn now_as_phc(now: Time<Realtime>) -> Time<Phc> {
        Time::from_nanos(now.as_nanos())
    }

    #[test]
    fn the_first_sample_is_there_at_once_and_the_end_does_not_wait_for_the_next() {
        let start = Instant::now();
        let sampler = ClockSampler::start(None).unwrap();
        let history = sampler.history();
        assert_eq!((history.tai.len(), history.phc.samples().len(), history.phc_failures), (1, 0, 0));
        let sample = history.tai[0];
        assert_eq!(sample.offset_ns % NANOS_PER_SECOND, 0, "the kernel's TAI offset is whole seconds: {sample:?}");
        let board = sampler.board();
        let tai = tai_now();
        assert_eq!(board.tai_to_realtime(tai).as_nanos(), tai.as_nanos().saturating_add_signed(-sample.offset_ns));
        sampler.sample_now();
        assert_eq!(sampler.history().tai.len(), 2);
        drop(sampler);
        assert_eq!(Arc::strong_count(&board), 1, "the thread has ended");
        assert!(start.elapsed() < Duration::from_secs(60));
    }
}
