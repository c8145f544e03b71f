//! From the names of the logs to the report: recognise, estimate the clocks, measure.

use super::clock::{self, ClockLine};
use super::error::ReportError;
use super::export::Exports;
use super::join::{Join, LaneCounts};
use super::measures::{ClockPass, Known, Measures, Tally};
use super::meta::{self, Meta, PointClock};
use super::progress::Progress;
use super::quantity::Series;
use super::rows::{Line, Lines, POINTS};
use super::source::Source;
use super::stages;
use super::survey::{Kind, Log, survey};
use super::{
    ClockFacts, Clocks, Direction, Input, LogFacts, Measured, Options, PingPlan, PlanSource, Quantity, Report,
    StageReport, Way,
};
use crate::record::Role;
use crate::wire::Point;
use std::fs::{self, File};
use std::os::unix::fs::MetadataExt;
use std::path::Path;

/// Rows of each log that are looked at beforehand, for the plan and for which pings are answered.
const HEAD_ROWS: usize = 1 << 16;
/// As many pongs must be there for a guess at which pings are answered.
const PONGS: usize = 8;

/// One log with what is beside it.
struct Side {
    log: Log,
    meta: Option<Meta>,
    /// It was named first.
    is_first: bool,
}

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
    let mut known = known(&sides, &mut remarks);
    let head = Head::of(&sides)?;
    let plan = plan(&sides, &head, &known, &mut remarks);
    known.plan = [plan[0], plan[1]].map(|plan| plan.map(|plan| plan.delay_ns));
    known.pong_every = known.pong_every.or_else(|| head.pong_every());
    let mut clock = clocks(&sides, options, &mut known, &progress)?;

    let mut exports = Exports::create(options.csv.as_deref(), options.parquet.as_deref())?;
    exports.set_duplex(known.is_duplex);
    let mut sources = open_sources(&sides, options.window)?;
    let mut measures = Measures::new(known.clone(), &mut exports);
    let lanes = Join::new(options.window).run(&mut sources, &progress, &mut measures)?;
    let Measures { tally, mut series, axis, .. } = measures;
    exports.finish()?;
    let stages = stage_reports(input, &sides, &progress)?;
    drop(progress);

    let measured = measured(&mut series, axis.width(), &known);
    clock.residual_ns = clock.skew_ppm.and_then(|_| residual(&measured));
    let (direction, direction_from) = direction(&sides, &known);
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
        clock,
        plan: plan[0],
        measured,
        stages,
        remarks,
    };
    count(&mut report, &tally, &known);
    Ok(report)
}

fn bytes_to_read(input: &Input, clocks: Clocks) -> u64 {
    let logs = [Some(&input.client), input.server.as_ref()];
    let bytes: u64 = logs.into_iter().flatten().filter_map(|log| fs::metadata(log).ok()).map(|log| log.len()).sum();
    let stages: u64 = input.stages.iter().filter_map(|log| fs::metadata(log).ok()).map(|log| log.len()).sum();
    // Where the sessions are, the clocks, the rows.
    if input.server.is_some() && clocks == Clocks::Estimate { 3 * bytes + stages } else { 2 * bytes + stages }
}

/// Of each log of stages the session whose number the log beside it has.
fn stage_reports(input: &Input, sides: &[&Side], progress: &Progress) -> Result<Vec<StageReport>, ReportError> {
    let mut reports = Vec::new();
    for path in &input.stages {
        let is_of = |side: &&&Side| {
            let named = side.meta.as_ref().and_then(|meta| meta.stages_log.as_deref());
            named.is_some_and(|named| path.ends_with(named) || path.as_os_str() == named)
        };
        let side = sides.iter().find(is_of);
        let clocks = side.and_then(|side| side.meta.as_ref()).map(Meta::card_clocks).unwrap_or_default();
        // Where it is not known whose it is, the number that was asked for may be another log's.
        let wanted =
            side.filter(|side| side.log.sessions > 1 || input.session.is_some()).map(|side| side.log.place.session);
        reports.push(stages::read(path, wanted.or(input.session), &clocks, progress)?);
    }
    Ok(reports)
}

fn label(input: &Input) -> String {
    if !input.label.is_empty() {
        return input.label.clone();
    }
    input.client.file_stem().unwrap_or(input.client.as_os_str()).to_string_lossy().into_owned()
}

/// The logs with rows, first of the side that pings (in duplex sessions of the client).
fn open_sides(input: &Input, progress: &Progress, remarks: &mut Vec<String>) -> Result<Vec<Side>, ReportError> {
    let mut sides = Vec::new();
    let named = [(Some(&input.client), input.session), (input.server.as_ref(), input.server_session)];
    for (index, (path, session)) in named.into_iter().enumerate() {
        let Some(path) = path else { continue };
        let log = survey(path, session, progress)?;
        if log.is_before_empty {
            let Log { path, place, .. } = &log;
            remarks.push(format!(
                "The last session of {} has no rows: session {} is the last that has.",
                path.display(),
                place.session
            ));
        }
        let (meta, remark) = meta::read(&log);
        remarks.extend(remark);
        sides.push(Side { log, meta, is_first: index == 0 });
    }
    if let [client, server] = &sides[..] {
        check_pair(&client.log, &server.log)?;
        let counts = [client.log.sessions, server.log.sessions];
        if counts[0] != counts[1] && input.server_session.is_none() {
            remarks.push(format!(
                "{} has {} sessions and {} {}: sessions {} and {} were taken for one; --session and --server-session name others.",
                client.log.path.display(),
                counts[0],
                server.log.path.display(),
                counts[1],
                client.log.place.session,
                server.log.place.session,
            ));
        }
    }
    // One that has no rows says nothing, not even that nothing arrived.
    for side in sides.iter().filter(|side| side.log.kind == Kind::Empty) {
        let Log { path, place, .. } = &side.log;
        remarks.push(format!("{} has no rows in session {}: it tells nothing.", path.display(), place.session));
    }
    sides.sort_by_key(|side| !matches!(side.log.kind, Kind::Pinging | Kind::DuplexClient));
    Ok(sides)
}

/// Whether two logs can be of the two sides of one session.
fn check_pair(client: &Log, server: &Log) -> Result<(), ReportError> {
    let failed = |why: &str| {
        Err(ReportError::NoPair { client: client.path.clone(), server: server.path.clone(), why: why.to_owned() })
    };
    let place = |path: &Path| fs::metadata(path).ok().map(|status| (status.dev(), status.ino()));
    if place(&client.path).is_some_and(|one| place(&server.path) == Some(one)) {
        return failed("that is one file: name the log of each side");
    }
    match (client.kind, server.kind) {
        (Kind::Empty, _) | (_, Kind::Empty) => Ok(()),
        (Kind::Pinging, Kind::Echoing) | (Kind::Echoing, Kind::Pinging) => Ok(()),
        (Kind::DuplexClient, Kind::DuplexServer) | (Kind::DuplexServer, Kind::DuplexClient) => Ok(()),
        (Kind::BothSides | Kind::DuplexBoth, _) | (_, Kind::BothSides | Kind::DuplexBoth) => {
            failed("one of them has the rows of both sides already: name it alone")
        }
        (Kind::Pinging, Kind::Pinging) => {
            failed("both have t0 and t3, which the side that pings writes: name the log of the other side too")
        }
        (Kind::Echoing, Kind::Echoing) => {
            failed("both have t1 and t2, which the side that answers writes: name the log of the other side too")
        }
        (Kind::DuplexClient, Kind::DuplexClient) | (Kind::DuplexServer, Kind::DuplexServer) => {
            failed("both are of the same side of a duplex session: name the log of the other side too")
        }
        _ => failed(
            "one is of a duplex session, the other is not: name the sessions with --session and --server-session",
        ),
    }
}

fn open_sources(sides: &[&Side], window: usize) -> Result<Vec<Source>, ReportError> {
    sides.iter().map(|side| Source::open(&side.log, Join::jump(window))).collect()
}

/// The clock of a point, in whichever log has it.
fn clock_of<'a>(sides: &[&'a Side], point: Point) -> Option<&'a PointClock> {
    let of = |side: &&'a Side| {
        let has = side.log.kind.points() & super::survey::bit(point) != 0;
        if has { side.meta.as_ref()?.clocks[point as usize].as_ref() } else { None }
    };
    sides.iter().find_map(of)
}

/// Whether two points of one machine have one clock, as far as anybody says.
fn is_one_clock(sides: &[&Side], one: Point, other: Point) -> bool {
    match (clock_of(sides, one), clock_of(sides, other)) {
        (Some(one), Some(other)) => one.is_clock_of(other),
        // nanoprobe has one clock a side.
        _ => true,
    }
}

fn known(sides: &[&Side], remarks: &mut Vec<String>) -> Known {
    let has = |kinds: &[Kind]| sides.iter().any(|side| kinds.contains(&side.log.kind));
    let is_duplex = has(&[Kind::DuplexClient, Kind::DuplexServer, Kind::DuplexBoth]);
    let is_round_trip = is_one_clock(sides, Point::T0, Point::T3);
    let is_turnaround = is_one_clock(sides, Point::T1, Point::T2);
    for (fits, early, late) in [(is_round_trip, Point::T0, Point::T3), (is_turnaround, Point::T1, Point::T2)] {
        if let (false, Some(one), Some(other)) = (fits, clock_of(sides, early), clock_of(sides, late)) {
            remarks.push(format!(
                "{late} - {early} is not reckoned, as their clocks differ: {early} is of {one}, {late} of {other}."
            ));
        }
    }
    Known {
        is_duplex,
        pinging: has(&[Kind::Pinging, Kind::BothSides, Kind::DuplexClient, Kind::DuplexBoth]),
        echoing: has(&[Kind::Echoing, Kind::BothSides, Kind::DuplexServer, Kind::DuplexBoth]),
        is_round_trip,
        is_turnaround,
        pong_every: sides.iter().find_map(|side| side.meta.as_ref()?.pong_every),
        line: None,
        has_offset: false,
        plan: [None; 2],
    }
}

fn direction(sides: &[&Side], known: &Known) -> (Option<Direction>, &'static str) {
    let Some(side) = sides.iter().find(|side| side.log.kind != Kind::Empty) else { return (None, "no rows") };
    if known.is_duplex {
        return (Some(Direction::Duplex), "the rows");
    }
    let pings = matches!(side.log.kind, Kind::Pinging | Kind::BothSides);
    let role = sides.iter().filter(|side| side.log.kind != Kind::Empty).find_map(|side| {
        let pings = matches!(side.log.kind, Kind::Pinging | Kind::BothSides);
        Some((side.meta.as_ref()?.role?, pings))
    });
    let (is_client, pings, from) = match role {
        Some((role, pings)) => (role == Role::Client, pings, "the meta file"),
        None => (side.is_first, pings, "the rows; the first log is taken for the client's"),
    };
    (Some(if is_client == pings { Direction::Forward } else { Direction::Reverse }), from)
}

/// What the first rows of the logs say.
#[derive(Default)]
struct Head {
    /// Sequence and t0, of what each lane pings.
    departures: [Vec<(u64, i64)>; 2],
    /// Sequences that have a t2 or t3.
    answered: Vec<u64>,
}

impl Head {
    fn of(sides: &[&Side]) -> Result<Self, ReportError> {
        let mut head = Self::default();
        for Side { log, .. } in sides {
            let failed = |answer| ReportError::Read { path: log.path.clone(), answer };
            let file = File::open(&log.path).map_err(failed)?;
            let mut lines = Lines::new(file, log.place.rows, log.place.end, log.place.line).map_err(failed)?;
            let mut rows = 0;
            while rows < HEAD_ROWS
                && let Some(line) = lines.next().map_err(failed)?
            {
                rows += 1;
                let Line::Row(row) = line else { continue };
                match row.point {
                    Point::T0 | Point::T0cs => head.departures[0].push((row.sequence, row.nanos)),
                    Point::T0sc => head.departures[1].push((row.sequence, row.nanos)),
                    Point::T2 | Point::T3 => head.answered.push(row.sequence),
                    Point::T1 | Point::T1cs | Point::T1sc => {}
                }
            }
        }
        head.departures.iter_mut().for_each(|lane| lane.sort_unstable());
        Ok(head)
    }

    fn pong_every(&self) -> Option<u64> {
        let greatest_common = |mut a: u64, mut b: u64| {
            while b != 0 {
                (a, b) = (b, a % b);
            }
            a
        };
        (self.answered.len() >= PONGS).then(|| self.answered.iter().copied().fold(0, greatest_common))
    }

    /// The median time from one ping to the next.
    fn median(&self, lane: usize) -> Option<i64> {
        let next = self.departures[lane].windows(2).filter(|pair| pair[0].0 + 1 == pair[1].0);
        let mut times: Vec<i64> = next.map(|pair| pair[1].1 - pair[0].1).collect();
        let middle = times.len().checked_sub(1)? / 2;
        Some(*times.select_nth_unstable(middle).1)
    }
}

/// What both lanes were to be paced at.
fn plan(sides: &[&Side], head: &Head, known: &Known, remarks: &mut Vec<String>) -> [Option<PingPlan>; 2] {
    let mut plan = [None; 2];
    for (lane, point) in [(0, if known.is_duplex { Point::T0cs } else { Point::T0 }), (1, Point::T0sc)] {
        let Some(side) = sides.iter().find(|side| side.log.kind.points() & super::survey::bit(point) != 0) else {
            continue;
        };
        plan[lane] = match &side.meta {
            Some(meta) if meta.has_schedule => {
                remarks.push("The pings followed a schedule: their error against it is not reckoned.".to_owned());
                None
            }
            Some(Meta { delay_us: Some(0), .. }) => {
                remarks
                    .push("The pings were sent as fast as it went: there is no plan to compare them with.".to_owned());
                None
            }
            Some(Meta { delay_us: Some(delay), .. }) => {
                let delay_ns = i64::try_from(*delay).ok().and_then(|delay| delay.checked_mul(1000));
                delay_ns.map(|delay_ns| PingPlan { delay_ns, source: PlanSource::Meta })
            }
            _ => head.median(lane).map(|delay_ns| PingPlan { delay_ns, source: PlanSource::Median }),
        };
    }
    plan
}

/// What the clocks of the two sides do; puts the line into `known`.
fn clocks(
    sides: &[&Side],
    options: &Options,
    known: &mut Known,
    progress: &Progress,
) -> Result<ClockFacts, ReportError> {
    let mut facts = ClockFacts {
        clocks: options.clocks,
        skew_ppm: None,
        offset_ns: None,
        residual_ns: None,
        bound_ns: None,
        assumed: String::new(),
    };
    if !(known.pinging && known.echoing) {
        "One log alone does not tell of one-way delays.".clone_into(&mut facts.assumed);
        return Ok(facts);
    }
    if options.clocks == Clocks::Synchronised {
        known.line = Some(ClockLine::SAME);
        known.has_offset = true;
        "Both clocks are taken to show the same (--clocks synchronised).".clone_into(&mut facts.assumed);
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
    let mut sources = open_sources(sides, options.window)?;
    Join::new(options.window).run(&mut sources, progress, &mut pass)?;
    let origin = pass.origin.unwrap_or_default();
    match clock::estimate(&pass.forward, &pass.backward, origin) {
        Some(estimate) => {
            let line = estimate.line;
            known.line = Some(line);
            known.has_offset = true;
            facts.skew_ppm = Some(line.skew * 1e6);
            facts.offset_ns = Some(line.offset.saturating_add(line.fraction.round() as i64));
            facts.bound_ns = Some(estimate.half_gap);
            facts.assumed = if estimate.has_skew {
                "The skew is constant, and the least delays of both directions are equal.".to_owned()
            } else {
                "Too few packets for a skew: it is taken for 0. The least delays of both directions are equal."
                    .to_owned()
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

fn log_facts(side: &Side, source: Source, direction: Option<Direction>) -> LogFacts {
    let is_reverse = direction == Some(Direction::Reverse);
    let side_name = match (side.log.kind, is_reverse) {
        (Kind::Pinging, false) => "client, which pings (t0, t3)",
        (Kind::Pinging, true) => "server, which pings (t0, t3)",
        (Kind::Echoing, false) => "server, which answers (t1, t2)",
        (Kind::Echoing, true) => "client, which answers (t1, t2)",
        (Kind::BothSides, _) => "both sides (t0 to t3)",
        (Kind::DuplexClient, _) => "client (t0cs, t1sc)",
        (Kind::DuplexServer, _) => "server (t0sc, t1cs)",
        (Kind::DuplexBoth, _) => "both sides (t0cs, t1cs, t0sc, t1sc)",
        (Kind::Empty, _) => "no rows",
    };
    let clocks = POINTS.into_iter().filter(|point| side.log.kind.points() & super::survey::bit(*point) != 0);
    let clocks = clocks.filter_map(|point| Some((point, side.meta.as_ref()?.clocks[point as usize].clone()?)));
    LogFacts {
        file: side.log.path.clone(),
        side: side_name,
        session: side.log.place.session,
        sessions: side.log.sessions,
        rows: source.rows,
        clock_steps: source.steps,
        damage: source.damage,
        clocks: clocks.collect(),
    }
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
                "The clock of {name} was set back, {} time(s): what spans that moment means little.",
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
