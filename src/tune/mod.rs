//! What a run sets up for itself where the machine's defaults cost latency, for as long as it lasts.
//!
//! Each of these is asked for by a flag, and each is given back: by its guard, or by the kernel with the process. What is only
//! looked at, and left to the user, is `caps`'.

pub mod cpu_latency;
pub mod memory;
pub mod realtime;
