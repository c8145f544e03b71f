//! What is written while it runs and what is said at the end: the log, its meta file, messages, statistics.
//!
//! Nothing here takes a time stamp of a probe or decides what a session does. The hot loop hands over rows and events
//! through bounded rings ([`Recorder`]) and matches pongs with pings ([`RoundTrips`]); a thread of its own formats and
//! writes. [`Summary`] is what a session comes to.
#![forbid(unsafe_code)]

mod log;
mod meta;
mod roundtrip;
mod row;
mod sighting;
mod summary;
pub mod text;
mod writer;

pub use log::{Finished, RecordError, Recorder, check_log};
pub use meta::{Facts, ScheduleFacts, StampSource};
pub use roundtrip::{Answer, Latency, RoundTrips};
pub use row::{HEADER, Row};
pub use sighting::Sighting;
pub use summary::{Summary, SummaryInput, counters_since};
pub use text::Voice;

/// Which side of a session this process is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, serde::Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Role {
    /// Asks for the session.
    Client,
    /// Waits for it.
    Server,
}
