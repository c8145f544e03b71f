//! A network card's own clock (Documentation/driver-api/ptp.rst), and how far it is from the system's.
//!
//! The clock is only read, never set. What follows from many samples is `offsets`'.
#![allow(unsafe_code, reason = "the ioctls of linux/ptp_clock.h take a pointer to a structure")]

use super::{Monotonic, Phc, Realtime, Time, monotonic_now};
use nix::errno::Errno;
use nix::time::{ClockId, clock_gettime};
use serde::Serialize;
use std::fs::File;
use std::io;
use std::os::fd::{AsRawFd, RawFd};
use std::path::PathBuf;

const _: () = assert!(size_of::<libc::ptp_clock_time>() == 16);
const _: () = assert!(size_of::<libc::ptp_sys_offset>() == 832);
const _: () = assert!(size_of::<libc::ptp_sys_offset_extended>() == 1216);
const _: () = assert!(size_of::<libc::ptp_sys_offset_precise>() == 64);

/// How many readings a sample is the best of: 15 are 100 µs or less, and one of them meets no interrupt.
const READINGS: libc::c_uint = 15;
const _: () = assert!(READINGS <= libc::PTP_MAX_SAMPLES);

/// What a cross time stamp of the hardware is taken to be good for. The kernel gives no bound. PCIe PTM, which is behind
/// it, is specified to some tens of nanoseconds; this is an assumption on the safe side, not a measurement.
const PRECISE_UNCERTAINTY_NS: u64 = 100;

/// How an [`OffsetSample`] was taken.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum OffsetMethod {
    /// `PTP_SYS_OFFSET_PRECISE`: the hardware read both clocks at once.
    Precise,
    /// `PTP_SYS_OFFSET_EXTENDED`: the driver read the system's clock right before and after the card's.
    Extended,
    /// `PTP_SYS_OFFSET`: the kernel did so, from outside the driver.
    Basic,
}

impl OffsetMethod {
    /// The best one first.
    const ALL: [Self; 3] = [Self::Precise, Self::Extended, Self::Basic];
}

/// One moment as two clocks have it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct OffsetSample {
    /// The moment on the system's clock.
    pub system: Time<Realtime>,
    /// The same moment on the card's clock.
    pub phc: Time<Phc>,
    /// Just before it was taken, on a clock that nobody sets: the order of the samples.
    pub taken: Time<Monotonic>,
    /// How far apart the two can be at most, in nanoseconds. With [`OffsetMethod::Precise`] this is assumed; else it is
    /// half the time between the two readings of the system's clock, in the middle of which the card's is taken to be.
    pub uncertainty_ns: u64,
    /// How it was taken.
    pub method: OffsetMethod,
}

impl OffsetSample {
    /// System's clock less card's clock, in nanoseconds.
    pub const fn offset_ns(&self) -> i128 {
        self.system.as_nanos() as i128 - self.phc.as_nanos() as i128
    }
}

/// Why a card's clock could not be read.
#[derive(Debug, thiserror::Error)]
pub enum PhcError {
    /// The device cannot be opened.
    #[error(
        "cannot open the network card's clock {}: {answer}: run as root, or let this user read it", path.display()
    )]
    Open {
        /// The device.
        path: PathBuf,
        /// What the kernel answered.
        answer: io::Error,
    },
    /// The clock is not read.
    #[error("cannot read the network card's clock {}: {answer}", path.display())]
    Read {
        /// The device.
        path: PathBuf,
        /// What the kernel answered to the last of the ways to read it.
        answer: Errno,
    },
    /// No reading makes sense: the system's clock was set between each two, or the card's clock is before 1970.
    #[error("no reading of the network card's clock {} makes sense: it is before its epoch, or the system's clock was set at the same time", path.display())]
    Senseless {
        /// The device.
        path: PathBuf,
    },
}

impl PhcError {
    /// The device is gone, and reading it again is useless.
    pub const fn is_gone(&self) -> bool {
        matches!(self, Self::Read { answer: Errno::ENODEV, .. })
    }
}

/// An open PTP hardware clock.
#[derive(Debug)]
pub struct PhcClock {
    device: File,
    path: PathBuf,
    index: u32,
    /// The first of the methods that this clock may have.
    method: OffsetMethod,
}

impl PhcClock {
    /// Opens `/dev/ptp<index>` for reading.
    ///
    /// # Errors
    /// [`PhcError::Open`].
    pub fn open(index: u32) -> Result<Self, PhcError> {
        let path = PathBuf::from(format!("/dev/ptp{index}"));
        match File::open(&path) {
            Ok(device) => Ok(Self { device, path, index, method: OffsetMethod::Precise }),
            Err(answer) => Err(PhcError::Open { path, answer }),
        }
    }

    /// The number of the device: 0 is `/dev/ptp0`.
    pub const fn index(&self) -> u32 {
        self.index
    }

    /// Reads the clock.
    ///
    /// # Errors
    /// [`PhcError::Read`], or [`PhcError::Senseless`] where the clock is before its epoch.
    pub fn now(&self) -> Result<Time<Phc>, PhcError> {
        let clock = ClockId::from_raw(clock_id(self.device.as_raw_fd()));
        let now = clock_gettime(clock).map_err(|answer| PhcError::Read { path: self.path.clone(), answer })?;
        let now = u64::try_from(now.tv_sec()).ok().and_then(|seconds| nanos(seconds, now.tv_nsec() as u64));
        now.map(Time::from_nanos).ok_or_else(|| PhcError::Senseless { path: self.path.clone() })
    }

    /// Reads the card's clock and the system's together, by the best method that the driver has.
    ///
    /// A method that the driver does not have is not tried again; one that only failed is.
    ///
    /// # Errors
    /// [`PhcError::Read`] where no method works, [`PhcError::Senseless`] where what was read cannot be.
    pub fn sample(&mut self) -> Result<OffsetSample, PhcError> {
        let descriptor = self.device.as_raw_fd();
        let path = self.path.clone();
        let taken = monotonic_now();
        let mut last_answer = Errno::EOPNOTSUPP;
        let first = self.method as usize;
        for method in OffsetMethod::ALL.into_iter().skip(first) {
            let read = match method {
                OffsetMethod::Precise => precise(descriptor).map(|raw| from_precise(&raw, taken)),
                OffsetMethod::Extended => extended(descriptor).map(|raw| best(&from_extended(&raw), method, taken)),
                OffsetMethod::Basic => basic(descriptor).map(|raw| best(&from_basic(&raw), method, taken)),
            };
            match read {
                Ok(sample) => return sample.ok_or(PhcError::Senseless { path }),
                // PTP_SYS_OFFSET_PRECISE says the same where the system's clock is not counted by what the card knows
                // (get_device_system_crosststamp, kernel/time/timekeeping.c): that is no card that has gone.
                Err(Errno::ENODEV) if method != OffsetMethod::Precise => {
                    return Err(PhcError::Read { path, answer: Errno::ENODEV });
                }
                Err(answer) => {
                    let unsupported = is_unsupported(answer) || answer == Errno::ENODEV;
                    if unsupported && method == self.method && method != OffsetMethod::Basic {
                        self.method = OffsetMethod::ALL[method as usize + 1];
                    }
                    last_answer = answer;
                }
            }
        }
        Err(PhcError::Read { path, answer: last_answer })
    }
}

/// The driver or the kernel does not have the ioctl.
const fn is_unsupported(answer: Errno) -> bool {
    matches!(answer, Errno::EOPNOTSUPP | Errno::ENOTTY | Errno::EINVAL)
}

/// The clock id that stands for a descriptor: `FD_TO_CLOCKID` of Documentation/driver-api/ptp.rst, clock_getres(2).
const fn clock_id(descriptor: RawFd) -> libc::clockid_t {
    (!descriptor << 3) | 3
}

fn precise(descriptor: RawFd) -> Result<libc::ptp_sys_offset_precise, Errno> {
    let mut raw = libc::ptp_sys_offset_precise { device: ZERO, sys_realtime: ZERO, sys_monoraw: ZERO, rsv: [0; 4] };
    // SAFETY: the structure has the size that is in the number of the ioctl, lives and is borrowed exclusively until the
    // call returns, and its integers take any value.
    let result = unsafe { libc::ioctl(descriptor, libc::PTP_SYS_OFFSET_PRECISE, &raw mut raw) };
    Errno::result(result).map(|_| raw)
}

fn extended(descriptor: RawFd) -> Result<libc::ptp_sys_offset_extended, Errno> {
    let mut raw = libc::ptp_sys_offset_extended {
        n_samples: READINGS,
        clockid: libc::CLOCK_REALTIME,
        rsv: [0; 2],
        ts: [[ZERO; 3]; libc::PTP_MAX_SAMPLES as usize],
    };
    // SAFETY: as in `precise`.
    let result = unsafe { libc::ioctl(descriptor, libc::PTP_SYS_OFFSET_EXTENDED, &raw mut raw) };
    Errno::result(result).map(|_| raw)
}

fn basic(descriptor: RawFd) -> Result<libc::ptp_sys_offset, Errno> {
    let mut raw = libc::ptp_sys_offset { n_samples: READINGS, rsv: [0; 3], ts: [ZERO; 51] };
    // SAFETY: as in `precise`; the kernel writes back as many bytes as it reads, though the number says only the latter.
    let result = unsafe { libc::ioctl(descriptor, libc::PTP_SYS_OFFSET, &raw mut raw) };
    Errno::result(result).map(|_| raw)
}

const ZERO: libc::ptp_clock_time = libc::ptp_clock_time { sec: 0, nsec: 0, reserved: 0 };

/// The card's clock between two readings of the system's, all in nanoseconds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Reading {
    before: u64,
    phc: u64,
    after: u64,
}

impl Reading {
    fn of([before, phc, after]: [libc::ptp_clock_time; 3]) -> Option<Self> {
        Some(Self { before: time(before)?, phc: time(phc)?, after: time(after)? })
    }
}

fn from_precise(raw: &libc::ptp_sys_offset_precise, taken: Time<Monotonic>) -> Option<OffsetSample> {
    Some(OffsetSample {
        system: Time::from_nanos(time(raw.sys_realtime)?),
        phc: Time::from_nanos(time(raw.device)?),
        taken,
        uncertainty_ns: PRECISE_UNCERTAINTY_NS,
        method: OffsetMethod::Precise,
    })
}

fn from_extended(raw: &libc::ptp_sys_offset_extended) -> Vec<Reading> {
    raw.ts.iter().take(raw.n_samples as usize).filter_map(|times| Reading::of(*times)).collect()
}

/// System and card take turns, and the system begins and ends.
fn from_basic(raw: &libc::ptp_sys_offset) -> Vec<Reading> {
    let times = raw.ts.iter().take(2 * raw.n_samples as usize + 1).copied().collect::<Vec<_>>();
    times.windows(3).step_by(2).filter_map(|times| Reading::of([times[0], times[1], times[2]])).collect()
}

/// The reading with the least room for error, of those between which the system's clock was not set back.
fn best(readings: &[Reading], method: OffsetMethod, taken: Time<Monotonic>) -> Option<OffsetSample> {
    let forward = readings.iter().filter(|reading| reading.after >= reading.before);
    let narrowest = forward.min_by_key(|reading| reading.after - reading.before)?;
    let width = narrowest.after - narrowest.before;
    Some(OffsetSample {
        system: Time::from_nanos(narrowest.before + width / 2),
        phc: Time::from_nanos(narrowest.phc),
        taken,
        uncertainty_ns: width.div_ceil(2),
        method,
    })
}

fn time(raw: libc::ptp_clock_time) -> Option<u64> {
    nanos(u64::try_from(raw.sec).ok()?, raw.nsec.into())
}

fn nanos(seconds: u64, nanos: u64) -> Option<u64> {
    seconds.checked_mul(1_000_000_000)?.checked_add(nanos)
}

#[cfg(test)]
mod tests {
    use super::*;

    const TAKEN: Time<Monotonic> = Time::from_nanos(7);

    fn at(nanos: i64) -> libc::ptp_clock_time {
        libc::ptp_clock_time {
            sec: nanos.div_euclid(1_000_000_000),
            nsec: nanos.rem_euclid(1_000_000_000) as u32,
            reserved: 0,
        }
    }

    #[test]
    fn the_narrowest_reading_is_taken_with_the_card_in_its_middle() {
        let reading = |before, phc, after| Reading { before, phc, after };
        let readings = [reading(1_000, 90, 3_000), reading(3_000, 92, 3_401), reading(5_000, 95, 5_900)];
        let sample = best(&readings, OffsetMethod::Basic, TAKEN).unwrap();
        assert_eq!((sample.system.as_nanos(), sample.phc.as_nanos(), sample.uncertainty_ns), (3_200, 92, 201));
        assert_eq!((sample.method, sample.offset_ns()), (OffsetMethod::Basic, 3_108));
    }

    #[test]
    fn the_truth_is_within_the_uncertainty_wherever_the_card_was_read() {
        for phc_at in 0..=101 {
            let sample =
                best(&[Reading { before: 5_000, phc: 70_000 + phc_at, after: 5_101 }], OffsetMethod::Extended, TAKEN)
                    .unwrap();
            let truth = 5_000 - 70_000;
            assert!(sample.offset_ns().abs_diff(truth) <= sample.uncertainty_ns.into(), "{phc_at}");
        }
    }

    #[test]
    fn a_clock_that_was_set_back_meanwhile_makes_no_sample() {
        let back = Reading { before: 9_000, phc: 1, after: 8_000 };
        assert_eq!(best(&[back], OffsetMethod::Basic, TAKEN), None);
        let good = Reading { before: 100, phc: 1, after: 50_100 };
        assert_eq!(best(&[back, good], OffsetMethod::Basic, TAKEN).unwrap().uncertainty_ns, 25_000);
        assert_eq!(best(&[], OffsetMethod::Basic, TAKEN), None);
    }

    #[test]
    fn the_readings_of_the_extended_ioctl_are_threes() {
        let mut raw = libc::ptp_sys_offset_extended { n_samples: 2, clockid: 0, rsv: [0; 2], ts: [[ZERO; 3]; 25] };
        raw.ts[0] = [at(10), at(1_000_000_020), at(30)];
        raw.ts[1] = [at(40), at(-5), at(60)];
        raw.ts[2] = [at(70), at(80), at(90)];
        // The second is before the epoch, the third is none of those that were asked for.
        assert_eq!(from_extended(&raw), [Reading { before: 10, phc: 1_000_000_020, after: 30 }]);
    }

    #[test]
    fn the_readings_of_the_basic_ioctl_share_the_systems() {
        let mut raw = libc::ptp_sys_offset { n_samples: 2, rsv: [0; 3], ts: [ZERO; 51] };
        for (time, nanos) in raw.ts.iter_mut().zip([10, 500, 20, 510, 30, 99, 99]) {
            *time = at(nanos);
        }
        let expected = [Reading { before: 10, phc: 500, after: 20 }, Reading { before: 20, phc: 510, after: 30 }];
        assert_eq!(from_basic(&raw), expected);
    }

    #[test]
    fn a_precise_sample_is_what_the_hardware_said() {
        let mut raw = libc::ptp_sys_offset_precise {
            device: at(7),
            sys_realtime: at(2_000_000_009),
            sys_monoraw: ZERO,
            rsv: [0; 4],
        };
        let sample = from_precise(&raw, TAKEN).unwrap();
        assert_eq!((sample.phc.as_nanos(), sample.system.as_nanos()), (7, 2_000_000_009));
        assert_eq!((sample.uncertainty_ns, sample.method), (PRECISE_UNCERTAINTY_NS, OffsetMethod::Precise));
        raw.device = at(-1);
        assert_eq!(from_precise(&raw, TAKEN), None);
    }

    #[test]
    fn a_descriptor_has_the_clock_id_of_the_kernels_macro() {
        assert_eq!((clock_id(0), clock_id(3), clock_id(20)), (-5, -29, -165));
    }

    #[test]
    fn a_clock_that_does_not_exist_names_its_device() {
        let error = PhcClock::open(99_999).unwrap_err();
        assert!(
            error.to_string().starts_with("cannot open the network card's clock /dev/ptp99999: No such"),
            "{error}"
        );
        assert!(!error.is_gone());
    }

    #[test]
    fn a_device_without_the_ioctls_is_an_error_and_each_was_tried() {
        let null = File::open("/dev/null").unwrap();
        let mut clock = PhcClock { device: null, path: "/dev/null".into(), index: 0, method: OffsetMethod::Precise };
        let error = clock.sample().unwrap_err();
        assert!(matches!(error, PhcError::Read { answer: Errno::ENOTTY, .. }), "{error}");
        assert_eq!(clock.method, OffsetMethod::Basic);
        assert!(matches!(clock.now(), Err(PhcError::Read { answer: Errno::EINVAL, .. })));
    }
}
