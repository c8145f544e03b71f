//! What the logs are, before they are gone through: whose, of which session, with which clocks and which plan.

use super::error::ReportError;
use super::measures::Known;
use super::meta::{self, Meta, PointClock};
use super::progress::Progress;
use super::rows::{Line, Lines, POINTS};
use super::source::{Source, Timing};
use super::survey::{Kind, Log, bit, survey};
use super::{Direction, Input, LogFacts, PingPlan, PlanSource, PongEverySource};
use crate::record::Role;
use crate::wire::Point;
use std::collections::{HashMap, HashSet};
use std::fs::{self, File};
use std::os::unix::fs::MetadataExt;
use std::path::Path;

/// Rows of each log that are looked at beforehand, for the plan and for which pings are answered.
const HEAD_ROWS: usize = 1 << 16;
/// As many pongs must be there for a guess at which pings are answered.
const PONGS: usize = 8;
/// Stamps of one packet that are nearer are of one clock, where nobody says, in ns.
const NEAR: u64 = 5_000_000_000;

/// One log with what is beside it.
pub(super) struct Side {
    pub(super) log: Log,
    pub(super) meta: Option<Meta>,
    /// It was named first.
    pub(super) is_first: bool,
}

/// The logs with rows, first of the side that pings (in duplex sessions of the client).
pub(super) fn open_sides(
    input: &Input,
    progress: &Progress,
    remarks: &mut Vec<String>,
) -> Result<Vec<Side>, ReportError> {
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

/// The clock of a point, in whichever log has it.
fn clock_of<'a>(sides: &[&'a Side], point: Point) -> Option<&'a PointClock> {
    let of = |side: &&'a Side| {
        let has = side.log.kind.points() & bit(point) != 0;
        if has { side.meta.as_ref()?.clocks[point as usize].as_ref() } else { None }
    };
    sides.iter().find_map(of)
}

/// Whether two points of one machine have one clock, as far as anybody says.
pub(super) fn is_one_clock(sides: &[&Side], one: Point, other: Point) -> bool {
    match (clock_of(sides, one), clock_of(sides, other)) {
        (Some(one), Some(other)) => one.is_clock_of(other),
        // nanoprobe has one clock a side.
        _ => true,
    }
}

/// The clocks of the two sides, where the meta files name both and they are not one.
pub(super) fn different_clocks(sides: &[&Side], is_duplex: bool) -> Option<[String; 2]> {
    let ways = match is_duplex {
        false => [[Point::T0, Point::T1], [Point::T3, Point::T2]],
        true => [[Point::T0cs, Point::T1cs], [Point::T1sc, Point::T0sc]],
    };
    let of = |points: [Point; 2]| {
        let [one, other] = points.map(|point| clock_of(sides, point)?.id.clone());
        Some([one?, other?]).filter(|[one, other]| one != other)
    };
    ways.into_iter().find_map(of)
}

pub(super) fn known(sides: &[&Side], remarks: &mut Vec<String>) -> Known {
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
        steps: [1; 2],
        line: None,
        turnaround_skew: 0.0,
        has_offset: false,
        plan: [None; 2],
    }
}

/// Who pings, and how that is known, or why it is not.
///
/// The rows tell which side pings, not which of the two is the client: t0 and t3 are those of a forward session's client and of a
/// reverse session's server.
pub(super) fn direction(sides: &[&Side], known: &Known) -> (Option<Direction>, &'static str) {
    let with_rows = || sides.iter().filter(|side| side.log.kind != Kind::Empty);
    let Some(side) = with_rows().next() else { return (None, "no rows") };
    if known.is_duplex {
        return (Some(Direction::Duplex), "the rows");
    }
    let metas = || with_rows().filter_map(|side| Some((side, side.meta.as_ref()?)));
    let said = metas().find_map(|(_, meta)| meta.direction).filter(|direction| *direction != Direction::Duplex);
    if said.is_some() {
        return (said, "the meta file");
    }
    let of =
        |is_client: bool, pings: bool| Some(if is_client == pings { Direction::Forward } else { Direction::Reverse });
    let role = metas()
        .filter(|(side, _)| side.log.kind != Kind::BothSides)
        .find_map(|(side, meta)| Some((meta.role?, side.log.kind == Kind::Pinging)));
    if let Some((role, pings)) = role {
        return (of(role == Role::Client, pings), "the meta file");
    }
    if with_rows().count() == 2 {
        let from = "the rows; the log that is named first is taken for the client's";
        return (of(side.is_first, side.log.kind == Kind::Pinging), from);
    }
    (None, "the rows of one log tell who pings, not who is the client, and no meta file does")
}

/// What the first rows of the logs say.
#[derive(Default)]
pub(super) struct Head {
    /// Sequence and t0, of what each lane pings.
    departures: [Vec<(u64, i64)>; 2],
    /// Sequences that have a t1.
    pinged: Vec<u64>,
    /// Sequences that have a t2, and a t3.
    answered: [Vec<u64>; 2],
    /// Of each log, whether its stamps of one sequence are near each other.
    is_near: Vec<bool>,
}

impl Head {
    pub(super) fn of(sides: &[&Side]) -> Result<Self, ReportError> {
        let mut head = Self::default();
        for Side { log, .. } in sides {
            let failed = |answer| ReportError::Read { path: log.path.clone(), answer };
            let file = File::open(&log.path).map_err(failed)?;
            let mut lines = Lines::new(file, log.place.rows, log.place.end, log.place.line).map_err(failed)?;
            let mut rows = 0;
            let (mut pairs, mut near, mut earlier) = (0, 0, HashMap::new());
            while rows < HEAD_ROWS
                && let Some(line) = lines.next().map_err(failed)?
            {
                rows += 1;
                let Line::Row(row) = line else { continue };
                if matches!(row.point, Point::T0 | Point::T1 | Point::T2 | Point::T3) {
                    match earlier.remove(&row.sequence) {
                        Some((point, _)) if point == row.point => {}
                        Some((_, nanos)) => {
                            pairs += 1;
                            near += usize::from(row.nanos.abs_diff(nanos) < NEAR);
                        }
                        None => _ = earlier.insert(row.sequence, (row.point, row.nanos)),
                    }
                }
                match row.point {
                    Point::T0 | Point::T0cs => head.departures[0].push((row.sequence, row.nanos)),
                    Point::T0sc => head.departures[1].push((row.sequence, row.nanos)),
                    Point::T1 => head.pinged.push(row.sequence),
                    Point::T2 => head.answered[0].push(row.sequence),
                    Point::T3 => head.answered[1].push(row.sequence),
                    Point::T1cs | Point::T1sc => {}
                }
            }
            head.is_near.push(2 * near > pairs);
        }
        head.departures.iter_mut().for_each(|lane| lane.sort_unstable());
        Ok(head)
    }

    /// Which pings were to be answered, where no meta file says so.
    ///
    /// Pongs that did not arrive were perhaps lost. That they were never sent only the answering side knows: by pings that
    /// it received and did not answer.
    pub(super) fn pong_every(&self, known: &Known) -> Option<(u64, PongEverySource)> {
        if known.is_duplex {
            return None;
        }
        let default = Some((1, PongEverySource::Default));
        if !known.echoing {
            return default;
        }
        let [answered, _] = &self.answered;
        let are_all_answered = {
            let answered: HashSet<u64> = answered.iter().copied().collect();
            self.pinged.iter().all(|sequence| answered.contains(sequence))
        };
        match greatest_common(answered) {
            _ if are_all_answered => default,
            // Too little for a guess, and too much for the default.
            None => None,
            Some(every) if every > 1 && self.pinged.iter().any(|sequence| !sequence.is_multiple_of(every)) => {
                Some((every, PongEverySource::Guess))
            }
            Some(_) => default,
        }
    }

    /// What divides the sequences of all pongs that arrived, if that is not 1.
    pub(super) fn pongs_regular(&self) -> Option<u64> {
        greatest_common(&self.answered[1]).filter(|every| *every > 1)
    }

    /// How far the sequences that have a t0 are apart in each lane: as the meta file of the side that pings has it
    /// (`--stamp-every`), else, or where stamps were withheld as regularly, as the rows have it.
    pub(super) fn steps(&self, sides: &[&Side], is_duplex: bool) -> [u64; 2] {
        let step = |(lane, point): (usize, Point)| {
            let side = sides.iter().find(|side| side.log.kind.points() & bit(point) != 0);
            let said = side.and_then(|side| side.meta.as_ref()?.stamp_every);
            let first = self.departures[lane].first().map_or(0, |(sequence, _)| *sequence);
            let since: Vec<u64> = self.departures[lane].iter().map(|(sequence, _)| sequence - first).collect();
            let seen = greatest_common(&since).filter(|seen| *seen > 0);
            match (said, seen) {
                (Some(said), Some(seen)) if !seen.is_multiple_of(said) => said,
                (said, seen) => seen.or(said).unwrap_or(1),
            }
        };
        [(0, if is_duplex { Point::T0cs } else { Point::T0 }), (1, Point::T0sc)].map(step)
    }

    /// The median time from one ping to the one `step` sequences on.
    fn median(&self, lane: usize, step: u64) -> Option<i64> {
        let next = self.departures[lane].windows(2).filter(|pair| pair[0].0 + step == pair[1].0);
        let mut times: Vec<i64> = next.map(|pair| pair[1].1 - pair[0].1).collect();
        let middle = times.len().checked_sub(1)? / 2;
        Some(*times.select_nth_unstable(middle).1)
    }
}

/// What divides all of them, where they are enough to say so.
fn greatest_common(sequences: &[u64]) -> Option<u64> {
    let of_two = |mut a: u64, mut b: u64| {
        while b != 0 {
            (a, b) = (b, a % b);
        }
        a
    };
    (sequences.len() >= PONGS).then(|| sequences.iter().copied().fold(0, of_two))
}

/// What is known of the stamps of each log.
pub(super) fn timings(sides: &[&Side], head: &Head) -> Vec<Timing> {
    let pings = |side: &&&Side| !matches!(side.log.kind, Kind::Echoing | Kind::Empty);
    // A schedule is in the meta file of the side that pings.
    let metas: Option<Vec<&Meta>> = sides.iter().filter(pings).map(|side| side.meta.as_ref()).collect();
    let is_both = sides.iter().filter(pings).count() == 2;
    let is_duplex = sides.iter().any(|side| matches!(side.log.kind, Kind::DuplexClient | Kind::DuplexServer));
    let metas = metas.filter(|metas| !metas.is_empty() && is_both == is_duplex);
    let is_scheduled = sides.iter().any(|side| side.meta.as_ref().is_some_and(|meta| meta.has_schedule));
    let delays = metas.filter(|_| !is_scheduled).unwrap_or_default();
    let longest = delays.iter().map(|meta| meta.delay_us).max().flatten();
    let delay = longest.and_then(|delay| i64::try_from(delay).ok()?.checked_mul(1000));
    let of = |(side, is_near): (&&Side, &bool)| {
        let clock = |point: Point| side.meta.as_ref().and_then(|meta| meta.clocks[point as usize].as_ref());
        let same = |point: Point, other: Point| match (clock(point), clock(other)) {
            (Some(one), Some(other)) => one.is_clock_of(other),
            _ => *is_near,
        };
        let number = |point: Point| {
            let first = POINTS.into_iter().find(|other| *other == point || same(point, *other));
            first.unwrap_or(point) as u8
        };
        Timing { clocks: POINTS.map(number), delay, is_scheduled }
    };
    sides.iter().zip(&head.is_near).map(of).collect()
}

/// What both lanes were to be paced at.
pub(super) fn plan(sides: &[&Side], head: &Head, known: &Known, remarks: &mut Vec<String>) -> [Option<PingPlan>; 2] {
    let mut plan = [None; 2];
    for (lane, point) in [(0, if known.is_duplex { Point::T0cs } else { Point::T0 }), (1, Point::T0sc)] {
        let Some(side) = sides.iter().find(|side| side.log.kind.points() & bit(point) != 0) else {
            continue;
        };
        let stamp_every = known.steps[lane];
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
                let step_ns = |delay_ns: i64| delay_ns.checked_mul(i64::try_from(stamp_every).ok()?);
                delay_ns.and_then(|delay_ns| {
                    Some(PingPlan { delay_ns, stamp_every, step_ns: step_ns(delay_ns)?, source: PlanSource::Meta })
                })
            }
            _ => head.median(lane, stamp_every).map(|step_ns| {
                let delay_ns = step_ns / i64::try_from(stamp_every).unwrap_or(i64::MAX);
                PingPlan { delay_ns, stamp_every, step_ns, source: PlanSource::Median }
            }),
        };
    }
    plan
}

pub(super) fn log_facts(side: &Side, source: Source, direction: Option<Direction>) -> LogFacts {
    let side_name = match (side.log.kind, direction) {
        (Kind::Pinging, Some(Direction::Reverse)) => "server, which pings (t0, t3)",
        (Kind::Pinging, Some(_)) => "client, which pings (t0, t3)",
        (Kind::Pinging, None) => "client or server, which pings (t0, t3)",
        (Kind::Echoing, Some(Direction::Reverse)) => "client, which answers (t1, t2)",
        (Kind::Echoing, Some(_)) => "server, which answers (t1, t2)",
        (Kind::Echoing, None) => "client or server, which answers (t1, t2)",
        (Kind::BothSides, _) => "both sides (t0 to t3)",
        (Kind::DuplexClient, _) => "client (t0cs, t1sc)",
        (Kind::DuplexServer, _) => "server (t0sc, t1cs)",
        (Kind::DuplexBoth, _) => "both sides (t0cs, t1cs, t0sc, t1sc)",
        (Kind::Empty, _) => "no rows",
    };
    let clocks = POINTS.into_iter().filter(|point| side.log.kind.points() & bit(*point) != 0);
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
