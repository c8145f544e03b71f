//! What is written while it runs and what is said at the end: the log, its meta file, messages, statistics.
//!
//! Nothing here takes a time stamp of a probe or decides what a session does. The hot loop hands over sightings and events
//! through bounded rings ([`Recorder`]) and matches pongs with pings ([`RoundTrips`]); a thread of its own formats and
//! writes, and reckons what lies between the stamps of one packet. [`Summary`] is what a session comes to.
#![forbid(unsafe_code)]

mod clocks;
mod crowd;
mod file;
mod ledger;
mod log;
mod lull;
mod meta;
mod pause;
mod punctuality;
mod roundtrip;
mod row;
mod shelf;
mod sighting;
mod so_far;
mod stages;
mod stamps;
mod summary;
pub mod text;
mod times;
mod writer;

pub use clocks::{ClockRecord, ClockSample};
pub use crowd::Crowd;
pub use file::{LogKind, RecordError, check_logs};
pub use ledger::{ClockWitness, Ledger, LedgerConfig, LedgerEnd};
pub use log::{Finished, Recorder, RecorderConfig, Watchers, Written};
pub(crate) use meta::meta_path;
pub use meta::{Facts, ScheduleFacts, StampSource, TuningFacts};
pub use punctuality::{AWAY_NANOS, CoreAway, Punctuality, PunctualityTotals};
pub use roundtrip::{Answer, RoundTrips, TripCounts, TripTotals};
pub use row::{HEADER, Row, STAGES_HEADER};
pub use shelf::check_folder;
pub use sighting::{Sighting, Sources};
pub use so_far::{RoundNote, SessionSoFar, SoFar};
pub use stages::{CardClock, Stage, StageSink, StageTimes, Stages};
pub use stamps::StampCounts;
pub(crate) use summary::{ENDS, end_name, micros, signed_micros};
pub use summary::{Summary, SummaryInput, counters_since};
pub use text::{Screen, Voice};
pub use times::Latency;

/// Which side of a session this process is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, serde::Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Role {
    /// Asks for the session.
    Client,
    /// Waits for it.
    Server,
}
