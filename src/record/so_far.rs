//! The statistics of a session that goes on, as `SIGUSR1` asks for them.
//!
//! The hot loop hands over numbers as they stand; the thread that writes adds stages and rows, and puts it into words.

use super::file::FileCounts;
use super::log::{Finished, Written};
use super::roundtrip::TripTotals;
use super::sighting::Sources;
use super::stages::Stages;
use super::stamps::StampCounts;
use super::summary::{Summary, SummaryInput};
use super::text::{Stream, Voice};
use crate::path::{Counters, Description};
use crate::session::{End, Settings, Totals};
use serde::Serialize;
use std::net::SocketAddrV4;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

/// How a session stands.
#[derive(Debug, Clone, Copy)]
pub struct SessionSoFar {
    /// The other side.
    pub peer: SocketAddrV4,
    /// What the session does.
    pub settings: Settings,
    /// What it counted.
    pub totals: Totals,
    /// Its pings and pongs.
    pub trips: TripTotals,
    /// Its stamps.
    pub stamps: StampCounts,
    /// How long a transmit stamp is waited for; `None` where none comes late.
    pub stamp_timeout: Option<Duration>,
    /// Of each file the rows that sessions before this one wrote and lost.
    pub rows_before: [(u64, u64); 2],
    /// Packets of sessions before this one that are in no stage.
    pub left_out_before: u64,
}

/// What is to be said. `None` where no session stands.
pub type SoFar = Option<SessionSoFar>;

/// The same in the ring, with what the hot side of the log alone knows.
#[derive(Debug, Clone, Copy)]
pub(super) struct Report {
    pub(super) so_far: SoFar,
    /// Of each file the rows that were handed over.
    pub(super) pushed: [u64; 2],
    /// Of each file the rows that found no room in the ring.
    pub(super) lost: [u64; 2],
    /// Packets that are in no stage.
    pub(super) left_out: u64,
}

/// What only the thread that writes knows.
pub(super) struct Known<'a> {
    pub(super) voice: Voice,
    pub(super) sources: Sources,
    /// `None` where nobody described the path.
    pub(super) description: Option<&'a Description>,
    pub(super) stages: Stages,
    pub(super) files: [Option<Arc<FileCounts>>; 2],
}

/// The JSON object of a session that goes on.
#[derive(Serialize)]
struct Object<'a> {
    /// `so_far`: what tells it from the statistics at the end.
    #[serde(rename = "type")]
    kind: &'static str,
    /// Pings without an answer that are not counted as lost, as no later one has its answer; `None` on a side that is not
    /// ponged.
    pongs_outstanding: Option<u64>,
    #[serde(flatten)]
    summary: &'a Summary,
}

/// The statistics so far and where they go, without a final line feed: JSON to stdout, as everything that a program reads;
/// text to stderr, so that on stdout there is one text with statistics a session.
pub(super) fn words(report: &Report, known: Known<'_>) -> (Stream, String) {
    let Known { voice, sources, description, stages, files } = known;
    let (Some(so_far), Some(description)) = (&report.so_far, description) else {
        return match voice.json {
            true => (Stream::Out, r#"{"type":"so_far","end":"no_session"}"#.to_string()),
            false => (Stream::Err, "No session stands: there are no statistics yet.".to_string()),
        };
    };
    let written = |at: usize| {
        let counts = files[at].as_ref()?;
        let (written, lost) = so_far.rows_before[at];
        Some(Written {
            // Rows that were handed over later may be in the file by now.
            rows_written: counts.rows_written.load(Ordering::Acquire).min(report.pushed[at]).saturating_sub(written),
            rows_lost: (report.lost[at] + counts.rows_lost.load(Ordering::Acquire)).saturating_sub(lost),
            error: counts.error.lock().unwrap_or_else(std::sync::PoisonError::into_inner).clone(),
        })
    };
    let recorded = Finished {
        log: written(0),
        stage_log: written(1),
        stages: Some(stages),
        stages_left_out: report.left_out.saturating_sub(so_far.left_out_before),
    };
    let summary = Summary::so_far(SummaryInput {
        role: voice.role,
        peer: Some(so_far.peer),
        settings: Some(&so_far.settings),
        totals: &so_far.totals,
        end: End::Complete,
        round_trips: Some(so_far.trips),
        stamps: so_far.stamps,
        sources,
        stamp_timeout: so_far.stamp_timeout,
        description,
        counters: Counters::default(),
        recorded: &recorded,
    });
    let lost = summary.lost;
    let outstanding = lost.map(|lost| so_far.totals.pongs_expected.saturating_sub(so_far.trips.counts.unique + lost));
    if voice.json {
        let object = Object { kind: "so_far", pongs_outstanding: outstanding, summary: &summary };
        let line = serde_json::to_string(&object).expect("numbers, strings and fixed names always become JSON");
        (Stream::Out, line)
    } else {
        let outstanding = outstanding.map(|pings| format!("\n{:<12} {pings} pings have no answer yet", "outstanding"));
        (Stream::Err, format!("--- so far ---\n{}{}", summary.to_text().trim_end(), outstanding.unwrap_or_default()))
    }
}
