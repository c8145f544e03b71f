//! The report as text.

use super::{ClockFacts, Damage, Direction, LogFacts, PlanSource, Quantity, Report, StageReport, Way};
use crate::stats::Summary;
use std::fmt::Write as _;

/// Where the values of the facts begin.
const INDENT: usize = 18;
/// Parts of the time that are shown; JSON has all.
const PARTS: usize = 12;

pub(super) fn report(report: &Report) -> String {
    let mut text = String::new();
    logs(&mut text, report);
    packets(&mut text, report);
    clocks(&mut text, &report.clock, &Names::of(report.direction));
    times(&mut text, report);
    over_time(&mut text, report);
    report.stages.iter().for_each(|of| stages(&mut text, of));
    if !report.remarks.is_empty() {
        text.push_str("\nRemarks\n");
        for remark in &report.remarks {
            // Writing to a String cannot fail.
            let _ = writeln!(text, "  {remark}");
        }
    }
    text
}

fn fact(text: &mut String, name: &str, value: &str) {
    let _ = writeln!(text, "  {name:<width$}{value}", width = INDENT - 2);
}

fn logs(text: &mut String, report: &Report) {
    let _ = writeln!(text, "{}", report.label);
    fact(text, "direction", &direction(report));
    for log in &report.logs {
        let LogFacts { file, side, session, sessions, rows, .. } = log;
        fact(text, "log", &format!("{}: {side}; session {session} of {sessions}, {rows} rows", file.display()));
        damage(text, &log.damage);
        for (point, clock) in &log.clocks {
            fact(text, "", &format!("{point}: {clock}"));
        }
    }
}

/// What the packets of each way and the two sides are called, which depends on who pings.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Names {
    /// Forward and backward.
    ways: [&'static str; 2],
    /// The same of the lines with their sizes, and what is to be said behind them.
    sizes: [(&'static str, &'static str); 2],
    /// Whose clock the times are of.
    pub(super) reference: &'static str,
    /// Whose clock is compared with it.
    pub(super) other: &'static str,
    /// When the offset was as large as is told.
    pub(super) first_ping: &'static str,
}

impl Names {
    pub(super) const fn of(direction: Option<Direction>) -> Self {
        let (reference, other) = match direction {
            Some(Direction::Forward | Direction::Duplex) => ("the client", "the server"),
            Some(Direction::Reverse) => ("the server", "the client"),
            None => ("the side that pings", "the other side"),
        };
        match direction {
            // Both sides ping, and nobody answers.
            Some(Direction::Duplex) => Self {
                ways: ["forward", "backward"],
                sizes: [("forward size", ", of the client's pings"), ("backward size", ", of the server's pings")],
                reference,
                other,
                first_ping: "the client's first ping",
            },
            _ => Self {
                ways: ["pings", "pongs"],
                sizes: [("ping size", ""), ("pong size", "")],
                reference,
                other,
                first_ping: "the first ping",
            },
        }
    }
}

/// Who pings, and how that is known.
pub(super) fn direction(report: &Report) -> String {
    match report.direction {
        Some(direction) => format!("{} (by {})", direction.as_str(), report.direction_from),
        None => format!("unknown: {}", report.direction_from),
    }
}

fn damage(text: &mut String, damage: &Damage) {
    if damage.count == 0 {
        return;
    }
    let first: Vec<String> =
        damage.first.iter().map(|(line, fault)| format!("line {line} ({})", fault.as_str())).collect();
    let more = if damage.count > first.len() as u64 { " and more" } else { "" };
    fact(text, "damaged rows", &format!("{}: {}{more}", damage.count, first.join(", ")));
}

fn packets(text: &mut String, report: &Report) {
    text.push_str("\nPackets\n");
    let mut facts = |name: &str, count: Option<u64>, more: String| {
        if let Some(count) = count {
            fact(text, name, &format!("{count}{more}"));
        }
    };
    let percent = |part: Option<u64>| match (part, report.sent) {
        (Some(part), Some(sent)) if sent > 0 => format!(" ({:.3} %)", part as f64 * 100.0 / sent as f64),
        _ => String::new(),
    };
    facts("sent", report.sent, String::new());
    facts("received", report.received, percent(report.received));
    let ways = match (report.forward.lost, report.backward.lost) {
        (Some(forth), Some(back)) => {
            let somewhere = report.lost_somewhere.filter(|lost| *lost > 0);
            let somewhere = somewhere.map(|lost| format!(", {lost} in either")).unwrap_or_default();
            format!(": {forth} forward, {back} backward{somewhere}")
        }
        _ if report.lost.is_some() => "; in which direction, one log alone does not tell".to_owned(),
        _ => String::new(),
    };
    facts("lost", report.lost, format!("{}{ways}", percent(report.lost)));
    facts("duplicated", report.duplicated, split(report, |way| way.duplicated));
    facts("reordered", report.reordered, split(report, |way| way.reordered));
    let names = Names::of(report.direction);
    for (name, way) in names.ways.into_iter().zip([report.forward, report.backward]) {
        let Way { sent, received, duplicated, reordered, .. } = way;
        if report.sent.is_some() {
            continue;
        }
        let words = [("sent", sent), ("received", received), ("duplicated", duplicated), ("reordered", reordered)];
        let words = words.into_iter().filter_map(|(word, count)| Some(format!("{} {word}", count?)));
        let words: Vec<String> = words.collect();
        if let Some(first) = words.split_first() {
            fact(text, name, &[std::slice::from_ref(first.0), first.1].concat().join(", "));
        }
    }
    for (name, count, meaning) in [
        ("unanswered", report.unanswered, "not to be answered, or not answered, as far as the logs tell"),
        ("without t0", report.without_t0, "sent without a row of it"),
        ("without rows", report.without_rows, "sequences below the highest of which no log has a row"),
        ("behind the end", report.behind_the_end, "only in the other log, behind the end of this one"),
        ("repeated rows", report.repeated_rows, "of t0, with a sequence that had one"),
        ("late rows", report.late_rows, "too far from their places to be joined"),
    ] {
        if count > 0 {
            fact(text, name, &format!("{count}: {meaning}"));
        }
    }
    for ((name, whose), sizes) in names.sizes.into_iter().zip(report.sizes) {
        if let Some((least, most)) = sizes {
            let range = if least == most { least.to_string() } else { format!("{least} to {most}") };
            fact(text, name, &format!("{range} bytes with the IP header{whose}"));
        }
    }
}

fn split(report: &Report, part: impl Fn(&Way) -> Option<u64>) -> String {
    match (part(&report.forward), part(&report.backward)) {
        (Some(forth), Some(back)) if forth + back > 0 => format!(": {forth} forward, {back} backward"),
        _ => String::new(),
    }
}

fn clocks(text: &mut String, clock: &ClockFacts, names: &Names) {
    text.push_str("\nClocks\n");
    let Names { other, reference, first_ping, .. } = names;
    if let Some(skew) = clock.skew_ppm {
        fact(text, "skew", &format!("{} ppm (+: {other}'s clock is faster than that of {reference})", ppm(skew)));
    }
    if let Some(offset) = clock.offset_ns {
        fact(text, "offset", &format!("{} at {first_ping} (+: {other}'s clock is ahead)", span(offset)));
    }
    if let Some(residual) = clock.residual_ns {
        fact(text, "residual", &format!("{} that a constant skew does not explain", span(residual.round() as i64)));
    }
    if let Some(bound) = clock.bound_ns.filter(|_| clock.offset_ns.is_some()) {
        let words = match bound < 0.0 {
            // Both ways together cannot take less than nothing.
            true => {
                "none: the least delays of both ways together are negative, as where stamps are taken after the sending"
                    .to_owned()
            }
            false => {
                format!("{}: however unequal the ways are, the offset is off by no more", span(bound.round() as i64))
            }
        };
        fact(text, "bound", &words);
    }
    if let Some(error) = clock.rtt_error_ns {
        let why = match clock.rtt_corrected {
            true => format!("though t2 - t1 is of {other}'s clock: it is corrected for the skew"),
            false => format!("as t2 - t1 is of {other}'s clock: too little is known of the skew to correct it"),
        };
        fact(text, "error of RTT", &format!("{} at most, {why}", span(error.ceil() as i64)));
    }
    fact(text, "assumed", &clock.assumed);
}

const HEADINGS: [&str; 10] = ["count", "min", "mean", "stddev", "p50", "p90", "p99", "p99.9", "p99.99", "max"];

fn times(text: &mut String, report: &Report) {
    if report.measured.is_empty() {
        return;
    }
    let all = report.measured.iter().map(|(quantity, measured)| (quantity.name(), measured.summary));
    text.push_str("\nTimes\n");
    summaries(text, all);
    let jitter = report.jitter().and_then(|quantity| Some((quantity, report.get(quantity)?)));
    if let Some((quantity, jitter)) = jitter {
        fact(text, "last jitter", &format!("{} of {} (RFC 3550)", span(jitter.last), quantity.name()));
    }
    if let Some(plan) = report.plan {
        let source = match plan.source {
            PlanSource::Meta => "as the meta file has it",
            PlanSource::Median => "the median of the first pings, as no meta file says what was planned",
        };
        let which = match plan.stamp_every {
            1 => String::new(),
            every => format!("; one ping in {every} has rows, {} from one to the next", span(plan.step_ns)),
        };
        fact(text, "ping to ping", &format!("{} planned, {source}{which}", span(plan.delay_ns)));
    }
    if report.measured.iter().any(|(_, measured)| !measured.is_exact) {
        fact(text, "percentiles", "nearest rank; of more than 262144 samples, to 4 digits");
    }
}

/// A line for each distribution, in a unit of its own.
fn summaries(text: &mut String, all: impl Iterator<Item = (&'static str, Summary)>) {
    let mut rows = vec![[""].into_iter().chain(HEADINGS).chain(["unit"]).map(str::to_owned).collect::<Vec<_>>()];
    for (name, Summary { count, min, mean, stddev, p50, p90, p99, p999, p9999, max }) in all {
        let unit = Unit::of(&[min, p50, p99, max]);
        let mut row = vec![name.to_owned(), count.to_string()];
        let whole = |nanos: i64| nanos as f64;
        let numbers =
            [whole(min), mean, stddev, whole(p50), whole(p90), whole(p99), whole(p999), whole(p9999), whole(max)];
        row.extend(numbers.map(|nanos| unit.show(nanos)));
        row.push(unit.name.to_owned());
        rows.push(row);
    }
    table(text, &rows);
}

fn stages(text: &mut String, of: &StageReport) {
    let StageReport { file, session, sessions, rows, .. } = of;
    let _ = writeln!(text, "\nStages in {}, session {session} of {sessions}, {rows} rows", file.display());
    damage(text, &of.damage);
    summaries(text, of.stages.iter().map(|(stage, measured)| (stage.as_str(), measured.summary)));
    if let Some(uncertainty) = of.uncertainty_ns {
        fact(text, "uncertainty", &format!("{} of stages with a card stamp", span(uncertainty as i64)));
    }
    if of.unconverted > 0 {
        fact(
            text,
            "left out",
            &format!(
                "{} card stamps: no meta file says what the card's clock showed then, or it or the system's was set then",
                of.unconverted
            ),
        );
    }
}

fn over_time(text: &mut String, report: &Report) {
    let main = [Quantity::Rtt, Quantity::T3T0, Quantity::OwdForward, Quantity::OwdBackward];
    let Some((quantity, measured)) = main.into_iter().find_map(|quantity| Some((quantity, report.get(quantity)?)))
    else {
        return;
    };
    let bins = &measured.over_time;
    let several = bins.len().div_ceil(PARTS);
    if bins.len() < 2 {
        return;
    }
    let headings = ["from", "to", "count", "lost", "min", "p99 at most", "max", "unit"];
    let mut rows = vec![headings.map(str::to_owned).to_vec()];
    for part in bins.chunks(several) {
        let summaries = || part.iter().filter_map(|bin| bin.summary);
        let lost: Option<u64> = part.iter().map(|bin| bin.lost).sum();
        let (start, end) = (part[0].start_ns, part[part.len() - 1].start_ns + part[0].width_ns);
        let mut row = [start, end].map(|nanos| format!("{:.3} s", nanos as f64 / 1e9)).to_vec();
        row.push(summaries().map(|summary| summary.count).sum::<u64>().to_string());
        row.push(lost.map_or("-".to_owned(), |lost| lost.to_string()));
        let least = summaries().map(|summary| summary.min).min();
        match (least, summaries().map(|summary| summary.p99).max(), summaries().map(|summary| summary.max).max()) {
            (Some(min), Some(p99), Some(max)) => {
                let unit = Unit::of(&[min, p99, max]);
                row.extend([min, p99, max].map(|nanos| unit.show(nanos as f64)));
                row.push(unit.name.to_owned());
            }
            _ => row.extend(["-", "-", "-", ""].map(str::to_owned)),
        }
        rows.push(row);
    }
    let _ = writeln!(text, "\n{} over time", quantity.name());
    table(text, &rows);
}

/// The first column to the left, the others to the right.
fn table(text: &mut String, rows: &[Vec<String>]) {
    let columns = rows.iter().map(Vec::len).max().unwrap_or_default();
    let width = |column: usize| rows.iter().filter_map(|row| row.get(column)).map(|cell| cell.chars().count()).max();
    let widths: Vec<usize> = (0..columns).map(|column| width(column).unwrap_or_default()).collect();
    for row in rows {
        let mut line = String::from(" ");
        for (index, (cell, width)) in row.iter().zip(&widths).enumerate() {
            let _ = match index {
                0 => write!(line, " {cell:<width$}"),
                _ => write!(line, "  {cell:>width$}"),
            };
        }
        let _ = writeln!(text, "{}", line.trim_end());
    }
}

/// A unit that fits some durations.
#[derive(Debug, Clone, Copy)]
struct Unit {
    name: &'static str,
    nanos: f64,
    digits: usize,
}

impl Unit {
    /// By the median of their magnitudes, so that one outlier does not take the others' digits.
    fn of(nanos: &[i64]) -> Self {
        let mut magnitudes: Vec<u64> = nanos.iter().map(|nanos| nanos.unsigned_abs()).collect();
        magnitudes.sort_unstable();
        match magnitudes.get(magnitudes.len() / 2).copied().unwrap_or_default() {
            0..10_000_000 => Self { name: "us", nanos: 1e3, digits: 3 },
            10_000_000..10_000_000_000 => Self { name: "ms", nanos: 1e6, digits: 3 },
            _ => Self { name: "s", nanos: 1e9, digits: 9 },
        }
    }

    fn show(self, nanos: f64) -> String {
        format!("{:.digits$}", nanos / self.nanos, digits = self.digits)
    }
}

/// With its sign, and three digits.
pub(super) fn ppm(skew: f64) -> String {
    // Not "-0.000".
    let skew = if skew.abs() < 0.0005 { 0.0 } else { skew };
    format!("{skew:+.3}")
}

fn span(nanos: i64) -> String {
    let unit = Unit::of(&[nanos]);
    format!("{} {}", unit.show(nanos as f64), unit.name)
}
