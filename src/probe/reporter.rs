//! What is said and written around a session: who connected, how it ended, its statistics, the meta file.

use super::hot::{Attendant, Scene};
use crate::cli::Plan;
use crate::clock::{
    ClockHistory, ClockSampler, Monotonic, OffsetMethod, OffsetSample, Realtime, TaiSample, Time, monotonic_now,
};
use crate::live::{Begun, Counts, Feed, Sample};
use crate::path::{Counters, Path};
use crate::record::{
    ClockRecord, ClockSample, Finished, Role, SessionSoFar, StampCounts, StampSource, Summary, SummaryInput, Written,
    counters_since,
};
use crate::session::{End, Event, Machine, Settings};
use anyhow::Result;
use std::io::{self, Write};
use std::net::SocketAddrV4;
use std::sync::Arc;
use std::time::Duration;

/// Speaks for one side, from its first session to its last.
#[derive(Debug)]
pub struct Reporter {
    role: Role,
    json: bool,
    /// A server that goes on after a session: only what is lost in the log makes it fail.
    keep: bool,
    session: Option<(SocketAddrV4, Settings)>,
    /// The statistics of a session were told.
    has_told: bool,
    /// What path and recorder had counted when the last session ended.
    before: (Counters, Finished),
    succeeded: bool,
    stamp_timeout: Duration,
    sampler: Arc<ClockSampler>,
    /// What takes the stamps of what is sent and received on the xdp path, and on the kernel's.
    stamp_sources: [[StampSource; 2]; 2],
    /// When the session began, on a clock that is not set while it lasts: older comparisons of clocks are not its affair.
    began: Time<Monotonic>,
    /// What shows how the session goes; `None` where nobody watches.
    feed: Option<Feed>,
}

impl Reporter {
    /// A reporter before the first session.
    pub fn new(
        role: Role,
        keep: bool,
        plan: &Plan,
        sampler: Arc<ClockSampler>,
        stamp_sources: [[StampSource; 2]; 2],
        feed: Option<Feed>,
    ) -> Self {
        Self {
            role,
            json: plan.json,
            keep,
            session: None,
            has_told: false,
            before: (Counters::default(), Finished::default()),
            succeeded: true,
            stamp_timeout: plan.stamp_timeout,
            sampler,
            stamp_sources,
            began: monotonic_now(),
            feed,
        }
    }

    /// What was seen of the clocks since the session began, and the last comparison before.
    fn clocks(&self) -> ClockRecord {
        clocks_since(&self.sampler, self.began)
    }

    /// Whether the measurement did what was asked for.
    pub fn succeeded(&self) -> bool {
        self.succeeded
    }

    /// Prints the statistics of the session that stands, and leaves them in the meta file.
    fn report<M: Machine, P: Path>(&mut self, scene: Scene<'_, M, P>, end: End) {
        let session = self.session.take();
        self.has_told = true;
        let Scene { machine, path, recorder, round_trips, punctuality, stamps, .. } = scene;
        let finished = recorder.sync();
        let recorded = finished.since(&self.before.1);
        let counters = path.counters();
        let mut totals = *machine.totals();
        let counted = Counts { totals, stamps: *stamps, trips: round_trips.counts(), crowd: None };
        let counted_by_path = counters_since(&self.before.0, &counters);
        if let (Some(feed), Some(_)) = (&mut self.feed, &session) {
            // What it still has to show stands before the statistics.
            feed.end(&counted, end, counted_by_path);
        }
        if end == End::Broken {
            // The machine does not know that it is over.
            totals.ended.get_or_insert_with(monotonic_now);
        }
        let summary = Summary::new(SummaryInput {
            role: self.role,
            peer: session.map(|(peer, _)| peer),
            settings: session.as_ref().map(|(_, settings)| settings),
            totals: &totals,
            end,
            round_trips: Some(round_trips.totals()),
            punctuality: Some(punctuality.totals()),
            stamps: *stamps,
            sources: recorder.sources(),
            stamp_timeout: path.late_stamps().any().then_some(self.stamp_timeout),
            description: &path.description(),
            counters: counted_by_path,
            recorded: &recorded,
        });
        let kept = if session.is_some() { recorder.end_session(&summary, &self.clocks()) } else { Ok(()) };
        if let Err(sentence) = kept {
            eprintln!("xdprobe: {sentence}");
        }
        let said = match (self.json, session) {
            (true, _) => say(&format!("{}\n", summary.to_json())),
            (false, Some(_)) => say(&summary.to_text()),
            // Where no session came to be, the reason on stderr is all there is to say.
            (false, None) => Ok(()),
        };
        if let Err(error) = &said {
            eprintln!("xdprobe: cannot write the statistics to stdout: {error}");
        }
        let lost = !recorded.is_whole() || said.is_err();
        self.succeeded &= if self.keep { !lost } else { summary.success && !lost };
        self.before = (counters, finished);
        // Here, where no peer waits, rather than when the next session begins.
        round_trips.clear();
        *stamps = StampCounts::default();
    }
}

impl<M: Machine, P: Path> Attendant<M, P> for Reporter {
    fn connected(&mut self, scene: Scene<'_, M, P>, event: Event) -> Result<()> {
        if let Event::Connected { peer, settings } = event {
            self.session = Some((peer, settings));
        }
        self.began = monotonic_now();
        if self.role == Role::Server {
            // The SYN is this session's, and the SYN-ACK will be; what came and went before them is nobody's.
            *scene.stamps = StampCounts { rx: u64::from(scene.arrival_stamped), ..StampCounts::default() };
            self.before.0 = scene.path.counters();
        }
        if let (Some(feed), Some((_, settings))) = (&mut self.feed, &self.session) {
            feed.begin(Begun::from(settings), &counts(&scene));
        }
        let description = scene.path.description();
        let [xdp, kernel] = &self.stamp_sources;
        scene.recorder.describe_path(&description, if description.path == "kernel" { kernel } else { xdp });
        scene.recorder.begin_session();
        scene.recorder.notice(event);
        Ok(())
    }

    fn finished(&mut self, scene: Scene<'_, M, P>, end: End) -> Result<()> {
        scene.recorder.notice(Event::Finished(end));
        self.report(scene, end);
        Ok(())
    }

    fn broken(&mut self, scene: Scene<'_, M, P>) {
        // A server that waits for a client has no session, and a client that lingers has told of its own: what was counted is
        // nobody's any more.
        if self.session.is_some() {
            // Nothing is said of it, but who knocks from now on does not disturb a session.
            scene.recorder.notice(Event::Finished(End::Broken));
        }
        if self.session.is_some() || (self.role == Role::Client && !self.has_told) {
            self.report(scene, End::Broken);
        }
    }

    #[inline]
    fn round_trip(&mut self, sample: Sample) {
        if let Some(feed) = &mut self.feed {
            feed.sample(sample);
        }
    }

    #[inline]
    fn wants_counts(&self, sleeps: bool) -> bool {
        self.feed.as_ref().is_some_and(|feed| feed.wants_counts(sleeps))
    }

    fn counts(&mut self, scene: Scene<'_, M, P>) {
        if let Some(feed) = &mut self.feed {
            feed.publish(&counts(&scene));
        }
    }

    fn so_far(&mut self, scene: Scene<'_, M, P>) -> bool {
        let Scene { machine, path, recorder, round_trips, punctuality, stamps, .. } = scene;
        if !recorder.can_report() {
            return false;
        }
        let so_far = self.session.map(|(peer, settings)| {
            let mut totals = *machine.totals();
            totals.ended.get_or_insert_with(monotonic_now);
            let before = &self.before.1;
            let rows =
                |file: &Option<Written>| file.as_ref().map_or((0, 0), |file| (file.rows_written, file.rows_lost));
            SessionSoFar {
                peer,
                settings,
                totals,
                trips: round_trips.totals(),
                punctuality: Some(punctuality.totals()),
                stamps: *stamps,
                stamp_timeout: path.late_stamps().any().then_some(self.stamp_timeout),
                rows_before: [rows(&before.log), rows(&before.stage_log)],
                left_out_before: before.stages_left_out,
            }
        });
        recorder.report(so_far);
        true
    }
}

/// What was seen of the clocks since `began`, and the last comparison before.
pub(super) fn clocks_since(sampler: &ClockSampler, began: Time<Monotonic>) -> ClockRecord {
    // Whoever reads the log later can bring its last stamps to the system's clock from between two comparisons.
    sampler.sample_now();
    record_since(&sampler.history(), began)
}

/// By when the comparisons were made, not by what the system's clock showed then: it may have been set back since.
fn record_since(history: &ClockHistory, began: Time<Monotonic>) -> ClockRecord {
    let samples: Vec<_> = history.phc.samples().collect();
    let first = samples.iter().rposition(|sample| sample.taken < began).unwrap_or(0);
    ClockRecord {
        samples: samples[first..].iter().map(clock_sample).collect(),
        tai_offsets: tai_offsets(&history.tai, began),
    }
}

fn counts<M: Machine, P>(scene: &Scene<'_, M, P>) -> Counts {
    Counts { totals: *scene.machine.totals(), stamps: *scene.stamps, trips: scene.round_trips.counts(), crowd: None }
}

/// The TAI offsets that stamps were brought to the system's clock with since `began`: of those that agree the first.
fn tai_offsets(samples: &[TaiSample], began: Time<Monotonic>) -> Vec<(Time<Realtime>, i64)> {
    let first = samples.iter().rposition(|sample| sample.taken < began).unwrap_or(0);
    let mut offsets: Vec<_> = samples[first..].iter().map(|sample| (sample.system, sample.offset_ns)).collect();
    offsets.dedup_by_key(|(_, offset)| *offset);
    offsets
}

fn clock_sample(sample: &OffsetSample) -> ClockSample {
    ClockSample {
        system: sample.system,
        phc: sample.phc,
        uncertainty_nanos: sample.uncertainty_ns,
        method: match sample.method {
            OffsetMethod::Precise => "PTP_SYS_OFFSET_PRECISE",
            OffsetMethod::Extended => "PTP_SYS_OFFSET_EXTENDED",
            OffsetMethod::Basic => "PTP_SYS_OFFSET",
        },
    }
}

/// Writes to stdout. A reader that went away (`| head`) is no error: it has what it wanted.
///
/// # Errors
/// What the kernel answered otherwise, such as a full disk.
pub fn say(text: &str) -> io::Result<()> {
    let mut stdout = io::stdout().lock();
    match stdout.write_all(text.as_bytes()).and_then(|()| stdout.flush()) {
        Err(error) if error.kind() == io::ErrorKind::BrokenPipe => Ok(()),
        answer => answer,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Comparisons each second from the first on: the system's clock shows what `system` says, in seconds.
    fn history(system: &[u64]) -> ClockHistory {
        let mut history = ClockHistory::default();
        for (second, system) in (1..).zip(system) {
            let [taken, system] = [second, *system].map(|seconds| seconds * 1_000_000_000);
            let (taken, system) = (Time::from_nanos(taken), Time::from_nanos(system));
            let phc = Time::from_nanos(taken.as_nanos() + 5);
            history.phc.push(OffsetSample { system, phc, taken, uncertainty_ns: 1, method: OffsetMethod::Basic });
            let offset_ns = 30 + second as i64 / 4;
            history.tai.push(TaiSample { system, taken, measured_ns: offset_ns, uncertainty_ns: 1, offset_ns });
        }
        history
    }

    #[test]
    fn a_system_clock_that_is_set_back_or_ahead_leaves_a_session_its_comparisons() {
        // The session begins behind the third; the clock is set behind the fifth, to before it began, or an hour ahead.
        let began = Time::from_nanos(3_500_000_000);
        for then in [
            [1003, 1004, 1005, 1006, 1007, 1008, 1009, 1010],
            [1003, 1004, 1005, 1006, 1007, 10, 11, 12],
            [1003, 1004, 1005, 1006, 1007, 4608, 4609, 4610],
        ] {
            let record = record_since(&history(&then), began);
            let nanos = |seconds: u64| seconds * 1_000_000_000;
            let systems: Vec<u64> = record.samples.iter().map(|sample| sample.system.as_nanos()).collect();
            assert_eq!(systems, then[2..].iter().map(|second| nanos(*second)).collect::<Vec<_>>());
            let offsets = [(then[2], 30), (then[3], 31), (then[7], 32)];
            assert_eq!(record.tai_offsets, offsets.map(|(second, offset)| (Time::from_nanos(nanos(second)), offset)));
        }
    }
}
