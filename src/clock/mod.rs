//! Points in time, each with the clock that it was read from in its type.
//!
//! This module does not convert between clocks in silence: two stamps of different clocks do not subtract. What brings one
//! to another clock is [`Offsets`] (with how far off that can be) and [`ClockBoard`], fed by [`ClockSampler`].
//!
//! ```compile_fail
//! use xdprobe::clock::{Phc, Realtime, Time};
//! let system = Time::<Realtime>::from_nanos(2);
//! let card = Time::<Phc>::from_nanos(1);
//! let _ = system.nanos_since(card); // a PHC stamp and a system stamp do not subtract
//! ```
//!
//! ```
//! use xdprobe::clock::{Realtime, Time};
//! let sent = Time::<Realtime>::from_nanos(1_000);
//! let received = Time::<Realtime>::from_nanos(900);
//! assert_eq!(received.nanos_since(sent), -100); // negative differences are kept, never clipped
//! ```

mod offsets;
mod phc;
mod sampler;
mod stamp;
mod system;
mod time;

pub use offsets::Offsets;
pub use phc::{OffsetMethod, OffsetSample, PhcClock, PhcError};
pub use sampler::{ClockBoard, ClockHistory, ClockSampler, SamplerError, TaiSample};
pub use stamp::{Source, Stamp};
pub use system::{boot_id, monotonic_now, realtime_now, tai_now, thread_cpu_now};
pub use time::{Domain, Monotonic, Phc, Realtime, Tai, Time};
