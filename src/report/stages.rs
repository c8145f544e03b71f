//! A log of stages (`--log-stages`): how long a packet took from stamp to stamp on one machine.
//!
//! The card's stamps are brought to the system's clock with the samples that the meta file of that side's log keeps;
//! between two samples the offset is taken for a line, with room for its bend in the uncertainty. What lies beside a step of either
//! clock is left out, and so are stamps of a clock without samples.

use super::error::ReportError;
use super::progress::Progress;
use super::quantity::{Measured, Series};
use super::rows::Fault;
use super::source::Damage;
use super::survey::Log;
use crate::clock::{Offsets, Time};
use crate::record::{STAGES_HEADER, Stage};
use std::fs::File;
use std::io::{BufRead, BufReader, Read};
use std::path::{Path, PathBuf};

/// The longest row has 112 bytes and the name of a clock.
const LINE: u64 = 1024;

/// What lies between the stamps of one log of stages.
#[derive(Debug, Clone, PartialEq)]
pub struct StageReport {
    /// The file as it was named.
    pub file: PathBuf,
    /// Which session of it, from 1.
    pub session: u64,
    /// How many it has.
    pub sessions: u64,
    /// Rows that were understood.
    pub rows: u64,
    /// And those that were not.
    pub damage: Damage,
    /// The stages of which there are samples, in the order of the way.
    pub stages: Vec<(Stage, Measured)>,
    /// Card stamps that are in no stage, as the card's clock at that time is not known, or a clock was set then.
    pub unconverted: u64,
    /// How far off a stage with a card stamp can be, in ns; `None` where there is none.
    pub uncertainty_ns: Option<u64>,
}

/// A card's clock beside the system's, as the meta file has it.
#[derive(Debug, Clone, Default, PartialEq)]
pub(super) struct CardClock {
    /// Its name, such as `ptp0`.
    pub(super) name: String,
    pub(super) offsets: Offsets,
}

impl CardClock {
    /// The system's time at which the card's clock showed `stamp`, of a packet that the process had at `app`, and how far off that
    /// can be.
    fn to_system(&self, stamp: u64, app: u64) -> Option<(i64, u64)> {
        let (time, uncertainty) = self.offsets.to_system_about(Time::from_nanos(stamp), Time::from_nanos(app))?;
        Some((time.as_nanos().try_into().ok()?, uncertainty))
    }
}

/// A row with what a stage needs of it.
struct StageRow<'a> {
    is_sending: bool,
    is_xdp: bool,
    app: i64,
    software: Option<i64>,
    hardware: Option<i64>,
    clock: &'a str,
}

/// Which session of a log of stages is read. The log beside it may have others: of a run without `--log-stages`, or in a new file.
#[derive(Clone, Copy, Default)]
pub(super) struct Wanted<'a> {
    /// Where it is known whose it is, and when that session was: the one whose rows are of that time.
    pub(super) during: Option<During<'a>>,
    /// Else the one of this number, else the last that has rows.
    pub(super) number: Option<u64>,
}

/// A session of the log that a log of stages was written beside.
#[derive(Clone, Copy)]
pub(super) struct During<'a> {
    pub(super) log: &'a Log,
    /// In ns since the epoch of the system's clock, as the rows are.
    pub(super) started: u64,
    /// Unless it was cut off.
    pub(super) ended: Option<u64>,
}

impl During<'_> {
    /// How far behind its start a session's first row is; `None` where it is of another time.
    fn distance(&self, first: i64) -> Option<u64> {
        /// A stamp may be taken a little earlier than the session stands. No session but one that was broken off is that short.
        const EARLIER: u64 = 100_000_000;
        let first = first.unsigned_abs();
        // A clock that was set back meanwhile has it end before it began.
        let ended = self.ended.filter(|ended| *ended >= self.started);
        let is_then = first.saturating_add(EARLIER) >= self.started && ended.is_none_or(|ended| first <= ended);
        is_then.then(|| first.abs_diff(self.started))
    }
}

/// Of what a session is taken for that was chosen by its number: behind every distance in time.
const BY_NUMBER: u64 = u64::MAX;

/// Reads one session of a log of stages. Also whether it is of the time that it was wanted of.
pub(super) fn read(
    path: &Path,
    wanted: Wanted<'_>,
    clocks: &[CardClock],
    progress: &Progress,
) -> Result<(StageReport, bool), ReportError> {
    let failed = |answer| ReportError::Read { path: path.into(), answer };
    let mut reader = BufReader::with_capacity(1 << 20, File::open(path).map_err(failed)?);
    let header = STAGES_HEADER.trim_end().as_bytes();
    let mut line = Vec::new();
    let (mut number, mut sessions) = (0_u64, 0_u64);
    let mut chosen: Option<(u64, Gathered)> = None;
    let mut current = Gathered::new(1);
    loop {
        line.clear();
        let read = (&mut reader).take(LINE).read_until(b'\n', &mut line).map_err(failed)?;
        if read == 0 {
            break;
        }
        progress.advance(read as u64);
        number += 1;
        let text = line.strip_suffix(b"\n").unwrap_or(&line);
        let text = text.strip_suffix(b"\r").unwrap_or(text);
        // Also where it stands behind a row that was cut off.
        if text.ends_with(header) {
            if text.len() > header.len() {
                current.damage.add(number, Fault::CutOff);
            }
            sessions += 1;
            let next = Gathered::new(sessions);
            let last = std::mem::replace(&mut current, next);
            if sessions > 1 {
                last.compete(wanted, &mut chosen);
            }
            continue;
        }
        if text.is_empty() {
            continue;
        }
        let is_whole = line.last() == Some(&b'\n');
        match std::str::from_utf8(text).ok().filter(|_| is_whole).and_then(parse) {
            Some(row) => current.add(&row, clocks),
            None => current.damage.add(number, if is_whole { Fault::Malformed } else { Fault::CutOff }),
        }
    }
    if sessions == 0 {
        let what = format!("it has no line {:?}, which a log of stages has", STAGES_HEADER.trim_end());
        return Err(ReportError::NoLog { path: path.into(), what });
    }
    if chosen.is_none() && wanted.number.is_none() && current.rows == 0 {
        chosen = Some((BY_NUMBER, current));
    } else {
        current.compete(wanted, &mut chosen);
    }
    let is_then = chosen.as_ref().is_some_and(|(rank, _)| *rank != BY_NUMBER);
    // As many sessions are the same ones, and a clock was set.
    if let Some(During { log, .. }) = wanted.during.filter(|during| !is_then && during.log.sessions != sessions) {
        return Err(ReportError::NoStagesThen {
            path: path.into(),
            sessions,
            log: log.path.clone(),
            session: log.place.session,
        });
    }
    match chosen {
        Some((_, gathered)) => Ok((gathered.report(path, sessions), is_then || wanted.during.is_none())),
        None => Err(ReportError::NoSession { path: path.into(), wanted: wanted.number.unwrap_or_default(), sessions }),
    }
}

/// `seq,point,size,queue,t_app,t_sw,t_hw,hw_clock`.
fn parse(line: &str) -> Option<StageRow<'_>> {
    let mut columns = line.split(',');
    let mut next = || columns.next();
    next()?.parse::<u64>().ok()?;
    let is_sending = match next()? {
        "t0" | "t2" | "t0cs" | "t0sc" => true,
        "t1" | "t3" | "t1cs" | "t1sc" => false,
        _ => return None,
    };
    next()?.parse::<u16>().ok()?;
    let queue = next()?;
    let mut time = || match next()? {
        "" => Some(None),
        digits => digits.parse::<u64>().ok().and_then(|nanos| i64::try_from(nanos).ok()).map(Some),
    };
    let (app, software, hardware) = (time()??, time()?, time()?);
    let clock = next()?;
    next().is_none().then_some(StageRow { is_sending, is_xdp: !queue.is_empty(), app, software, hardware, clock })
}

/// What a session's rows come to.
struct Gathered {
    session: u64,
    rows: u64,
    /// The process's stamp of the first row.
    first: Option<i64>,
    damage: Damage,
    series: [Series; Stage::ALL.len()],
    unconverted: u64,
    uncertainty: Option<u64>,
}

impl Gathered {
    fn new(session: u64) -> Self {
        Self {
            session,
            rows: 0,
            first: None,
            damage: Damage::default(),
            series: Default::default(),
            unconverted: 0,
            uncertainty: None,
        }
    }

    /// Takes the place of what is chosen so far where it is as near to what is wanted, or nearer.
    fn compete(self, wanted: Wanted<'_>, chosen: &mut Option<(u64, Self)>) {
        let has_number = wanted.number.map_or(self.rows > 0, |number| number == self.session);
        let distance = wanted.during.zip(self.first).and_then(|(during, first)| during.distance(first));
        let Some(rank) = distance.or(has_number.then_some(BY_NUMBER)) else { return };
        if chosen.as_ref().is_none_or(|(best, _)| rank <= *best) {
            *chosen = Some((rank, self));
        }
    }

    fn add(&mut self, row: &StageRow<'_>, clocks: &[CardClock]) {
        self.rows += 1;
        self.first.get_or_insert(row.app);
        let known = clocks.iter().find(|clock| clock.name == row.clock);
        let card = row.hardware.and_then(|stamp| known?.to_system(stamp.unsigned_abs(), row.app.unsigned_abs()));
        self.unconverted += u64::from(row.hardware.is_some() && card.is_none());
        self.uncertainty = self.uncertainty.max(card.map(|(_, uncertainty)| uncertainty));
        let card = card.map(|(time, _)| time);
        let app = Some(row.app);
        let spans = match (row.is_sending, row.is_xdp) {
            (true, _) => {
                [(Stage::AppToSw, app, row.software), (Stage::SwToHw, row.software, card), (Stage::AppToHw, app, card)]
            }
            (false, true) => [
                (Stage::HwToHook, card, row.software),
                (Stage::HookToApp, row.software, app),
                (Stage::HwToApp, card, app),
            ],
            (false, false) => [
                (Stage::HwToKernel, card, row.software),
                (Stage::KernelToApp, row.software, app),
                (Stage::HwToApp, card, app),
            ],
        };
        for (stage, from, to) in spans {
            if let (Some(from), Some(to)) = (from, to) {
                self.series[stage as usize].record(to.saturating_sub(from), 0);
            }
        }
    }

    fn report(mut self, path: &Path, sessions: u64) -> StageReport {
        let measured = |stage: Stage| Some((stage, self.series[stage as usize].measured(0, false)?));
        StageReport {
            file: path.into(),
            session: self.session,
            sessions,
            stages: Stage::ALL.into_iter().filter_map(measured).collect(),
            rows: self.rows,
            damage: self.damage,
            unconverted: self.unconverted,
            uncertainty_ns: self.uncertainty,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::clock::{OffsetMethod, OffsetSample};

    fn report(text: &str, wanted: Option<u64>, clocks: &[CardClock]) -> Result<StageReport, ReportError> {
        let file = tempfile::NamedTempFile::new().unwrap();
        std::fs::write(file.path(), text).unwrap();
        let wanted = Wanted { number: wanted, during: None };
        read(file.path(), wanted, clocks, &Progress::hidden()).map(|(report, _)| report)
    }

    /// `ptp0`, from what the system's clock showed, what the card's did, and the uncertainty.
    fn clock(samples: &[(u64, u64, u64)]) -> CardClock {
        let mut offsets = Offsets::default();
        for &(system, phc, uncertainty_ns) in samples {
            let (system, phc) = (Time::from_nanos(system), Time::from_nanos(phc));
            let (taken, method) = (Time::from_nanos(0), OffsetMethod::Extended);
            offsets.push(OffsetSample { system, phc, taken, uncertainty_ns, method });
        }
        CardClock { name: "ptp0".into(), offsets }
    }

    fn medians(report: &StageReport) -> Vec<(Stage, i64)> {
        report.stages.iter().map(|(stage, measured)| (*stage, measured.summary.p50)).collect()
    }

    #[test]
    fn stages_are_what_lies_between_the_stamps() {
        let text =
            format!("{STAGES_HEADER}1,t0,44,,170000,170500,260717,ptp0\n1,t3,44,3,9000,8000,,\n2,t3,44,,9000,8500,,\n");
        let found = report(&text, None, &[]).unwrap();
        assert_eq!(medians(&found), [(Stage::HookToApp, 1000), (Stage::KernelToApp, 500), (Stage::AppToSw, 500)]);
        assert_eq!((found.rows, found.unconverted, found.damage.count), (3, 1, 0));
        let clock = clock(&[(0, 90_000, 5), (200_000, 290_020, 7)]);
        let found = report(&text, None, &[clock]).unwrap();
        // At 260717 the offset is 90017. A bend of less than 1 ns, and 1 ns for rounding, are added to the 7 ns.
        assert_eq!(medians(&found)[3..], [(Stage::SwToHw, 200), (Stage::AppToHw, 700)]);
        assert_eq!((found.unconverted, found.uncertainty_ns), (0, Some(9)));
    }

    #[test]
    fn a_step_of_the_cards_clock_is_in_no_stage() {
        const SECOND: u64 = 1_000_000_000;
        // Samples a second apart; the clock is set in the middle of the 10th second.
        for step in [37, -5] {
            let phc = |system: u64| {
                system.saturating_add_signed(if system > 110 * SECOND { step * 1_000_000_000 } else { 0 })
            };
            let sample = |second: u64| (second * SECOND - SECOND / 2, phc(second * SECOND - SECOND / 2), 50);
            let clock = clock(&(101..121).map(sample).collect::<Vec<_>>());
            let row = |n: u64| {
                let card = 101 * SECOND + n * SECOND / 100;
                format!("{n},t1,44,,{},,{},ptp0\n", card + 8_000, phc(card))
            };
            let found = report(&format!("{STAGES_HEADER}{}", (0..1900).map(row).collect::<String>()), None, &[clock]);
            let found = found.unwrap();
            // A hundred between the two samples that the step lies between, and the ends may not be told from them.
            assert!((99..=103).contains(&found.unconverted), "{step}: {}", found.unconverted);
            let (stage, measured) = &found.stages[0];
            assert_eq!((*stage, measured.summary.count), (Stage::HwToApp, 1900 - found.unconverted));
            let extremes = [measured.summary.min, measured.summary.max];
            assert!(extremes.iter().all(|nanos| nanos.abs_diff(8_000) <= 1), "{step}: {extremes:?}");
            assert!(found.uncertainty_ns < Some(5_000), "{:?}", found.uncertainty_ns);
        }
    }

    #[test]
    fn sessions_and_damage_are_as_in_logs() {
        let text = format!("{STAGES_HEADER}1,t0,44,,10,15,,\n1,t0,44,,1{STAGES_HEADER}1,t0,44,,10,17,,\nx\n1,t0,4");
        let last = report(&text, None, &[]).unwrap();
        assert_eq!((last.session, last.sessions, medians(&last)), (2, 2, vec![(Stage::AppToSw, 7)]));
        assert_eq!(last.damage.first, [(5, Fault::Malformed), (6, Fault::CutOff)]);
        let first = report(&text, Some(1), &[]).unwrap();
        assert_eq!((medians(&first), first.damage.count), (vec![(Stage::AppToSw, 5)], 1));
        assert!(matches!(report(&text, Some(3), &[]), Err(ReportError::NoSession { sessions: 2, .. })));
        assert!(matches!(report("1,t0\n", None, &[]), Err(ReportError::NoLog { .. })));
    }
}
