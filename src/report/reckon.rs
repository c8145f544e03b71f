//! From the names of the logs to the report: recognise, estimate the clocks, measure.

use super::clock::{self, ClockLine};
use super::error::ReportError;
use super::export::Exports;
use super::join::{Join, LaneCounts};
use super::measures::{ClockPass, Known, Measures, Tally};
use super::meta::Meta;
use super::missing;
use super::progress::Progress;
use super::quantity::Series;
use super::recognise::{self, Head, Side, is_one_clock, log_facts, open_sides};
use super::source::{Source, Timing};
use super::stages::{self, During, Wanted};
use super::survey::Kind;
use super::{
    ClockFacts, Clocks, Direction, Input, LogFacts, Measured, Options, PongEverySource, Quantity, Report, StageReport,
    Way,
};
use crate::wire::Point;
use std::fs;
use std::path::Path;

/// Reads the logs of one session and says what they come to.
///
/// # Errors
/// [`ReportError`] where a file cannot be read or is no log, the two logs do not belong together, or a file of results
/// cannot be written. Damaged rows are counted.
pub fn report(input: &Input, options: &Options) -> Result<Report, ReportError> {
    let progress =
        if options.progress { Progress::new(bytes_to_read(input, options.clocks)) } else { Progress::hidden() };
    let mut remarks = Vec::new();
    let sides = open_sides(input, &progress, &mut remarks)?;
    let sides: Vec<&Side> = sides.iter().collect();
    let mut known = recognise::known(&sides, &mut remarks);
    let head = Head::of(&sides)?;
    known.steps = head.steps(&sides, known.is_duplex);
    let plan = recognise::plan(&sides, &head, &known, &mut remarks);
    known.plan = [plan[0], plan[1]].map(|plan| plan.map(|plan| plan.step_ns));
    let pong_every = match known.pong_every {
        Some(every) => Some((every, PongEverySource::Meta)),
        None => head.pong_every(&known),
    };
    known.pong_every = pong_every.map(|(every, _)| every);
    let timings = recognise::timings(&sides, &head);
    let open = || open_sources(&sides, &timings, options.window);
    let mut clock = clocks(&sides, options, &mut known, &progress, open)?;

    let mut exports = Exports::create(options.csv.as_deref(), options.parquet.as_deref())?;
    exports.set_duplex(known.is_duplex);
    let mut sources = open()?;
    let mut measures = Measures::new(known.clone(), &mut exports);
    let lanes = Join::new(options.window).run(&mut sources, &progress, &mut measures)?;
    let Measures { tally, mut series, axis, .. } = measures;
    exports.finish()?;
    let stages = stage_reports(input, &sides, &progress, &mut remarks)?;
    drop(progress);

    let measured = measured(&mut series, axis.width(), &known);
    clock.residual_ns = clock.skew_ppm.and_then(|_| residual(&measured));
    finish_rtt_error(&mut clock, &measured);
    let (direction, direction_from) = recognise::direction(&sides, &known);
    remark_on(&sides, &sources, &tally, &lanes, &clock, &mut remarks);
    let mut logs: Vec<LogFacts> =
        sides.iter().zip(sources).map(|(side, source)| log_facts(side, source, direction)).collect();
    if direction == Some(Direction::Reverse) {
        logs.reverse();
    }
    let mut report = Report {
        label: label(input),
        direction,
        direction_from,
        logs,
        sent: None,
        received: None,
        lost: None,
        lost_somewhere: None,
        unanswered: tally.unanswered,
        duplicated: None,
        reordered: None,
        forward: Way::default(),
        backward: Way::default(),
        without_rows: lanes.iter().map(|lane| lane.gaps).sum(),
        without_t0: tally.without_t0,
        behind_the_end: tally.behind_the_end,
        late_rows: lanes.iter().map(|lane| lane.late).sum(),
        repeated_rows: lanes.iter().map(|lane| lane.repeated).sum(),
        sizes: tally.sizes.map(|[least, most]| (most > 0).then_some((least, most))),
        pong_every: known.pong_every,
        pong_every_from: pong_every.map(|(_, source)| source),
        clock,
        plan: plan[0],
        measured,
        stages,
        remarks,
    };
    count(&mut report, &tally, &known);
    remark_on_pongs(&mut report, &head);
    missing::remark(&mut report, &sides);
    Ok(report)
}

fn bytes_to_read(input: &Input, clocks: Clocks) -> u64 {
    let logs = [Some(&input.client), input.server.as_ref()];
    let bytes: u64 = logs.into_iter().flatten().filter_map(|log| fs::metadata(log).ok()).map(|log| log.len()).sum();
    let stages: u64 = input.stages.iter().filter_map(|log| fs::metadata(log).ok()).map(|log| log.len()).sum();
    // Where the sessions are, the clocks, the rows.
    if input.server.is_some() && clocks == Clocks::Estimate { 3 * bytes + stages } else { 2 * bytes + stages }
}

/// Of each log of stages the session that the log of its side has: of the same time, else of the same number.
fn stage_reports(
    input: &Input,
    sides: &[&Side],
    progress: &Progress,
    remarks: &mut Vec<String>,
) -> Result<Vec<StageReport>, ReportError> {
    let mut reports = Vec::new();
    for path in &input.stages {
        let owner = owner(path, sides);
        if let Owner::Unclear(why) = owner {
            remarks.push(format!(
                "Whose log of stages {} is cannot be told, as {why}: its card stamps are in no stage. Put each log of stages \
                 beside the log of its side.",
                path.display()
            ));
        }
        let side = if let Owner::Side(side) = owner { Some(side) } else { None };
        let clocks = side.and_then(|side| side.meta.as_ref()).map(Meta::card_clocks).unwrap_or_default();
        // Where it is not known whose it is, the number that was asked for may be another log's.
        let number =
            side.filter(|side| side.log.sessions > 1 || input.session.is_some()).map(|side| side.log.place.session);
        // Also where its meta file names none: a run without a log of stages has no session in that of others.
        let only = if let [only] = sides { Some(*only) } else { None };
        let during = side.or(only).and_then(|side| {
            let meta = side.meta.as_ref()?;
            Some(During { log: &side.log, started: meta.started?, ended: meta.ended })
        });
        let wanted = Wanted { during, number: number.or(input.session) };
        let (found, is_then) = stages::read(path, wanted, &clocks, progress)?;
        if let Some(During { log, .. }) = during.filter(|_| !is_then && found.rows > 0) {
            remarks.push(format!(
                "Session {} of {} is not of the time that the meta file has of session {} of {}: a clock was set meanwhile, or \
                 they are of different runs.",
                found.session,
                path.display(),
                log.place.session,
                log.path.display(),
            ));
        }
        reports.push(found);
    }
    Ok(reports)
}

/// Whose log of stages it is, as far as meta files tell.
enum Owner<'a> {
    Side(&'a Side),
    /// It may be that of more than one side, or of none that is here; and why.
    Unclear(&'static str),
    Nobody,
}

/// A meta file names a log of stages in the log's own folder by its name alone, which may well be the same on both hosts. So what lies
/// where a side's meta file says is that side's; else it has been moved, and the name must do where one side alone has it.
fn owner<'a>(path: &Path, sides: &[&'a Side]) -> Owner<'a> {
    let place = |path: &Path| fs::canonicalize(path).unwrap_or_else(|_| path.into());
    let named = sides.iter().filter_map(|&side| {
        let named = Path::new(side.meta.as_ref()?.stages_log.as_deref()?);
        (named.file_name()? == path.file_name()?).then_some((side, named))
    });
    let named: Vec<(&Side, &Path)> = named.collect();
    // Where a meta file leads: a name from the log's folder on, a path from where it was recorded, which may be here.
    let leads_to = |(side, named): &(&Side, &Path)| {
        let beside = side.log.path.with_file_name("").join(named);
        [Some(beside), (named.components().count() > 1).then(|| named.to_path_buf())].into_iter().flatten()
    };
    let there: Vec<_> = named.iter().filter(|side| leads_to(side).any(|found| place(&found) == place(path))).collect();
    // A side that has another one where it belongs has not had this one moved.
    let moved = named.iter().filter(|side| !leads_to(side).any(|found| found.exists()));
    let candidates: Vec<_> = if there.is_empty() { moved.collect() } else { there };
    match candidates[..] {
        [] if named.is_empty() => Owner::Nobody,
        [] => Owner::Unclear("the log whose meta file names it has another one of that name"),
        [(side, _)] => Owner::Side(side),
        _ => Owner::Unclear("the meta files of both logs name it"),
    }
}

fn label(input: &Input) -> String {
    if !input.label.is_empty() {
        return input.label.clone();
    }
    input.client.file_stem().unwrap_or(input.client.as_os_str()).to_string_lossy().into_owned()
}

fn open_sources(sides: &[&Side], timings: &[Timing], window: usize) -> Result<Vec<Source>, ReportError> {
    sides.iter().zip(timings).map(|(side, timing)| Source::open(&side.log, Join::jump(window), *timing)).collect()
}

/// How much earlier than 0 the least delays can be where packets are stamped after they left, in ns: far more than
/// nanoprobe's `--emulation` makes it, far less than a clock that was set.
const EARLIEST: f64 = 1e6;

/// What the clocks of the two sides do; puts the line into `known`.
fn clocks(
    sides: &[&Side],
    options: &Options,
    known: &mut Known,
    progress: &Progress,
    open: impl Fn() -> Result<Vec<Source>, ReportError>,
) -> Result<ClockFacts, ReportError> {
    let mut facts = ClockFacts {
        clocks: options.clocks,
        skew_ppm: None,
        offset_ns: None,
        residual_ns: None,
        bound_ns: None,
        different: None,
        rtt_corrected: false,
        rtt_error_ns: None,
        assumed: String::new(),
    };
    if !(known.pinging && known.echoing) {
        "One log alone does not tell of one-way delays.".clone_into(&mut facts.assumed);
        return Ok(facts);
    }
    facts.different = recognise::different_clocks(sides, known.is_duplex);
    if options.clocks == Clocks::Synchronised {
        known.line = Some(ClockLine::SAME);
        known.has_offset = true;
        facts.assumed = match &facts.different {
            None => "Both clocks are taken to show the same (--clocks synchronised).".to_owned(),
            Some([one, other]) => format!(
                "The stamps of the two sides are of different clocks, {one} and {other}, and were subtracted as if these showed \
                 the same (--clocks synchronised)."
            ),
        };
        return Ok(facts);
    }
    let pairs = match known.is_duplex {
        false => [(Point::T0, Point::T3), (Point::T1, Point::T2)],
        true => [(Point::T0cs, Point::T1sc), (Point::T0sc, Point::T1cs)],
    };
    if let Some((one, other)) = pairs.into_iter().find(|(one, other)| !is_one_clock(sides, *one, *other)) {
        known.line = Some(ClockLine::SAME);
        facts.assumed = format!("{one} and {other} are of different clocks: the two sides' cannot be compared.");
        return Ok(facts);
    }
    let mut pass = ClockPass { is_duplex: known.is_duplex, ..ClockPass::default() };
    let mut sources = open()?;
    Join::new(options.window).run(&mut sources, progress, &mut pass)?;
    let origin = pass.origin.unwrap_or_default();
    match clock::estimate(&pass.forward, &pass.backward, origin) {
        Some(estimate) if estimate.half_gap < -EARLIEST => {
            known.line = Some(ClockLine::SAME);
            facts.bound_ns = Some(estimate.half_gap);
            facts.assumed = format!(
                "Nothing: the least delays of both ways together are {:.6} s, which no offset and constant skew of the clocks \
                 explains. One-way delays are left out.",
                2.0 * estimate.half_gap / 1e9
            );
        }
        Some(estimate) => {
            let line = estimate.line;
            known.line = Some(line);
            known.has_offset = true;
            facts.skew_ppm = Some(line.skew * 1e6);
            facts.offset_ns = Some(line.offset.saturating_add(line.fraction.round() as i64));
            facts.bound_ns = Some(estimate.half_gap);
            if !known.is_duplex {
                facts.rtt_corrected = estimate.is_sure();
                known.turnaround_skew = if facts.rtt_corrected { line.skew } else { 0.0 };
                // A ns of t2 - t1 for now.
                facts.rtt_error_ns = estimate.left(known.turnaround_skew);
            }
            facts.assumed = match estimate.without_skew {
                None => "The skew is constant, and the least delays of both directions are equal.".to_owned(),
                Some(why) => format!(
                    "{} for a skew: it is taken for 0. The least delays of both directions are equal.",
                    why.as_str()
                ),
            };
        }
        None => {
            let forward = clock::skew_of_one(&pass.forward, 1.0);
            let skew = forward.or_else(|| clock::skew_of_one(&pass.backward, -1.0));
            known.line = Some(ClockLine { origin, skew: skew.unwrap_or_default(), ..ClockLine::SAME });
            facts.skew_ppm = skew.map(|skew| skew * 1e6);
            "The skew is constant. Packets of one direction alone do not tell the offset, so one-way delays are known up \
             to a constant only, which is left out."
                .clone_into(&mut facts.assumed);
        }
    }
    if let Some([one, other]) = &facts.different {
        facts.assumed += &format!(" The stamps of the two sides are of different clocks: {one} and {other}.");
    }
    Ok(facts)
}

fn measured(series: &mut [Series], width: u64, known: &Known) -> Vec<(Quantity, Measured)> {
    let both = known.pinging && known.echoing;
    let all = Quantity::ALL.into_iter().zip(series).filter_map(|(quantity, series)| {
        let losses_known = match quantity {
            Quantity::Rtt | Quantity::T3T0 | Quantity::IpdvRoundTrip | Quantity::JitterRoundTrip => known.pinging,
            Quantity::Turnaround | Quantity::DepartureForward | Quantity::DepartureBackward => false,
            _ => both,
        };
        Some((quantity, series.measured(width, losses_known)?))
    });
    all.collect()
}

/// From the error of a ns of t2 − t1 to that of the longest.
fn finish_rtt_error(clock: &mut ClockFacts, measured: &[(Quantity, Measured)]) {
    let find = |wanted: Quantity| measured.iter().find(|(quantity, _)| *quantity == wanted);
    let longest = find(Quantity::Rtt).and(find(Quantity::Turnaround)).map(|(_, turnaround)| {
        let summary = turnaround.summary;
        summary.max.unsigned_abs().max(summary.min.unsigned_abs())
    });
    clock.rtt_error_ns = clock.rtt_error_ns.zip(longest).map(|(error, longest)| error * longest as f64);
    clock.rtt_corrected &= longest.is_some();
}

/// How far the least delays of the parts of the session are from that of the whole.
fn residual(measured: &[(Quantity, Measured)]) -> Option<f64> {
    /// Parts of the session; fewer where it has fewer bins.
    const PARTS: usize = 16;
    let mut squares = Vec::new();
    for (quantity, measured) in measured {
        if !matches!(quantity, Quantity::OwdForward | Quantity::OwdBackward) {
            continue;
        }
        let bins = &measured.over_time;
        for part in bins.chunks(bins.len().div_ceil(PARTS)) {
            let least = part.iter().filter_map(|bin| bin.summary).map(|summary| summary.min).min();
            squares.extend(least.map(|least| (least.saturating_sub(measured.summary.min) as f64).powi(2)));
        }
    }
    (!squares.is_empty()).then(|| (squares.iter().sum::<f64>() / squares.len() as f64).sqrt())
}

/// Puts counts where the logs that are there tell them.
fn count(report: &mut Report, tally: &Tally, known: &Known) {
    let both = known.pinging && known.echoing;
    let [forth, back] = tally.ways;
    let when = |known: bool, count: u64| known.then_some(count);
    report.forward = Way {
        sent: when(known.pinging, forth.sent),
        received: when(known.echoing, forth.received),
        lost: when(both, forth.lost),
        duplicated: when(known.echoing, forth.duplicated),
        reordered: when(known.echoing, forth.reordered),
    };
    report.backward = Way {
        sent: when(known.echoing, back.sent),
        received: when(known.pinging, back.received),
        lost: when(both, back.lost),
        duplicated: when(if known.is_duplex { known.pinging } else { both }, back.duplicated),
        reordered: when(if known.is_duplex { known.pinging } else { both }, back.reordered),
    };
    // In duplex sessions each log tells of one direction's sending and the other's receiving.
    let whole = if known.is_duplex { both } else { known.pinging };
    report.sent = when(whole, tally.sent);
    report.received = when(whole, tally.received);
    report.lost = when(whole, tally.lost);
    report.lost_somewhere = when(whole, tally.lost_somewhere);
    report.duplicated = when(whole, forth.duplicated + back.duplicated);
    report.reordered = when(whole, forth.reordered + back.reordered);
    if known.is_duplex {
        report.unanswered = 0;
    }
}

/// What is lost depends on what was to be answered: where nobody said that, the reader may know better.
fn remark_on_pongs(report: &mut Report, head: &Head) {
    let remark = match (report.pong_every, report.pong_every_from, head.pongs_regular()) {
        (Some(every), Some(PongEverySource::Guess), _) => format!(
            "Only pings with a sequence that {every} divides were answered: taken for --pong-every {every}; if it was not, \
             these {} unanswered ones are lost.",
            report.unanswered
        ),
        (_, Some(PongEverySource::Default), Some(every)) if report.lost > Some(0) => format!(
            "Only pings with a sequence that {every} divides have a pong, and no meta file says that only these were to be \
             answered: the others count as lost. With --pong-every {every} they are not."
        ),
        _ => return,
    };
    report.remarks.push(remark);
}

fn remark_on(
    sides: &[&Side],
    sources: &[Source],
    tally: &Tally,
    lanes: &[LaneCounts; 2],
    clock: &ClockFacts,
    remarks: &mut Vec<String>,
) {
    for (side, source) in sides.iter().zip(sources) {
        let name = side.log.path.display();
        if source.is_cut {
            remarks.push(format!(
                "{name} ends in the middle of a row: what it would have said of the last pings is not known."
            ));
        }
        if source.steps > 0 {
            remarks.push(format!(
                "The clock of {name} was set back, or ahead by more than 10 s (or nothing was sent for so long), {} time(s): \
                 what spans that moment means little.",
                source.steps
            ));
        }
    }
    let late: u64 = lanes.iter().map(|lane| lane.late).sum();
    if late > 0 {
        remarks.push(format!(
            "{late} rows came too late to be joined: as many packets may be counted as lost that were not."
        ));
    }
    let is_pair = sides.iter().filter(|side| side.log.kind != Kind::Empty).count() == 2;
    if is_pair && tally.sent > 0 && tally.common == 0 {
        remarks.push("The two logs have no ping in common: they are of different sessions.".to_owned());
    }
    if clock.bound_ns.is_some_and(|bound| bound < 0.0) {
        remarks.push(
            "The least delays of both ways together are negative: packets were stamped after they had left (nanoprobe does, with \
             --emulation), the logs are of different sessions, or a clock was set."
                .to_owned(),
        );
    }
}
