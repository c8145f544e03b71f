//! The statistics of a session that goes on, as `SIGUSR1` asks for them.
//!
//! The hot loop hands over numbers as they stand; the thread that writes adds stages and rows, and puts it into words.

use super::file::FileCounts;
use super::log::{Finished, Written};
use super::punctuality::PunctualityTotals;
use super::roundtrip::TripTotals;
use super::sighting::Sources;
use super::stages::Stages;
use super::stamps::StampCounts;
use super::summary::{Summary, SummaryInput};
use super::summary::{micros, signed_micros};
use super::text::{Stream, Voice};
use super::times::Latency;
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
    /// How late its pings left; `None` where nobody looked.
    pub punctuality: Option<PunctualityTotals>,
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

/// Of several sessions, the one that stands or will, and what is to be said of those before it.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct RoundNote {
    /// What it is called: "round 3 of 10, path xdp".
    pub name: String,
    /// What was measured before it: lines, each with its line feed.
    pub before: String,
}

/// The same in the ring, with what the hot side of the log alone knows.
#[derive(Debug, Clone, Copy)]
pub(super) struct Report {
    pub(super) so_far: SoFar,
    /// Of each file the rows that were handed over.
    pub(super) pushed: [u64; 2],
    /// Of each file the rows that found no room in the ring.
    pub(super) lost: [u64; 2],
    /// Of each file the rows that count as lost since a wait for it was given up: those that are in it all the same, and with
    /// them those that the writer still has.
    pub(super) given_up: [[u64; 2]; 2],
    /// Packets that are in no stage.
    pub(super) left_out: u64,
}

/// What only the thread that writes knows.
pub(super) struct Known<'a> {
    /// `None` where the session stands for itself.
    pub(super) round: Option<&'a RoundNote>,
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
    let Known { round, voice, sources, description, stages, files } = known;
    if let Some(round) = round {
        return (Stream::Err, of_rounds(report.so_far.as_ref(), round));
    }
    let (Some(so_far), Some(description)) = (&report.so_far, description) else {
        return match voice.json {
            true => (Stream::Out, r#"{"type":"so_far","end":"no_session"}"#.to_string()),
            false => (Stream::Err, "No session stands: there are no statistics yet.".to_string()),
        };
    };
    let written = |at: usize| {
        let counts = files[at].as_ref()?;
        let (written, lost) = so_far.rows_before[at];
        let [late, given_up] = report.given_up[at];
        Some(Written {
            // Rows that were handed over later may be in the file by now.
            rows_written: counts
                .rows_written
                .load(Ordering::Acquire)
                .min(report.pushed[at])
                .saturating_sub(late + written),
            rows_lost: (report.lost[at] + given_up + counts.rows_lost.load(Ordering::Acquire)).saturating_sub(lost),
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
        punctuality: so_far.punctuality,
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

/// What was measured in the rounds before, and a line on the one that stands. Always text: stdout is for the result of all.
fn of_rounds(so_far: Option<&SessionSoFar>, round: &RoundNote) -> String {
    let RoundNote { name, before } = round;
    let mut text = format!("--- so far ---\n{before}{name}: ");
    let Some(SessionSoFar { settings, totals, trips, .. }) = so_far else {
        return text + "no session stands yet";
    };
    let counts = &trips.counts;
    text += &format!(
        "{} pings sent, {} answered, {} lost",
        totals.pings_sent,
        counts.unique,
        counts.overtaken(settings.pong_every)
    );
    if settings.load.is_some() {
        text += &format!(", {} dummies sent", totals.dummies_sent);
    }
    if let Some(Latency { p50, p99, max, .. }) = trips.latency {
        let [p50, p99, max] = [p50, p99, max].map(micros);
        text += &format!(", t3-t0 p50 {p50}  p99 {p99}  max {max} us");
    }
    if let Some(rtt) = trips.in_band.and_then(|in_band| in_band.rtt) {
        let [p50, p99, max] = [rtt.p50, rtt.p99, rtt.max].map(signed_micros);
        text += &format!(", RTT p50 {p50}  p99 {p99}  max {max} us");
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::record::roundtrip::{InBandTotals, TripCounts};
    use crate::stats::Distribution;
    use crate::wire::Load;

    #[test]
    fn a_round_is_told_behind_those_before_it() {
        let note = RoundNote { name: "step 2 of 3, 10 %".into(), before: "what was\n".into() };
        let words = |so_far: Option<&SessionSoFar>| of_rounds(so_far, &note);
        assert_eq!(words(None), "--- so far ---\nwhat was\nstep 2 of 3, 10 %: no session stands yet");
        let mut rtt = Distribution::new();
        [2_000, 3_000, 4_500].into_iter().for_each(|nanos| rtt.record(nanos));
        let latency = Latency { count: 3, min: 7, mean: 7, p50: 12_345, p90: 7, p99: 20_000, p999: 7, max: 30_001 };
        let counts = TripCounts { unique: 5, newest_answered: 7, ..TripCounts::default() };
        let mut so_far = SessionSoFar {
            peer: "10.0.0.2:10666".parse().unwrap(),
            settings: Settings::default(),
            totals: Totals { pings_sent: 9, pongs_expected: 9, dummies_sent: 44, ..Totals::default() },
            trips: TripTotals { counts, ..TripTotals::default() },
            punctuality: None,
            stamps: StampCounts::default(),
            stamp_timeout: None,
            rows_before: [(0, 0); 2],
            left_out_before: 0,
        };
        let head = "--- so far ---\nwhat was\nstep 2 of 3, 10 %: 9 pings sent, 5 answered, 2 lost";
        assert_eq!(words(Some(&so_far)), head);
        so_far.settings.load = Some(Load { packets_per_second: 1, ip_len: 1500 });
        so_far.trips.latency = Some(latency);
        so_far.trips.in_band = Some(InBandTotals { rtt: rtt.summary(), ..InBandTotals::default() });
        let (of_t3_t0, of_rtt) = ("p50 12.345  p99 20.000  max 30.001", "p50 3.000  p99 4.500  max 4.500");
        assert_eq!(words(Some(&so_far)), format!("{head}, 44 dummies sent, t3-t0 {of_t3_t0} us, RTT {of_rtt} us"));
    }
}
