//! A sweep as lines for people, and as one JSON object.

use super::step::{Limit, Step};
use super::{Common, LinkSpeed};
use crate::probe::rounds::wrapped;
use crate::record::signed_micros;
use crate::session::{End, Pattern, Rate};
use serde_json::{Value, json};
use std::fmt::Write as _;

/// The columns of the table.
const COLUMNS: [&str; 12] = [
    "target",
    "offered",
    "sent",
    "received",
    "load lost",
    "pings lost",
    "late",
    "skipped",
    "p50",
    "p99",
    "p99.9",
    "max",
];

/// What was measured, the steps as a table.
pub(super) fn text(common: &Common, steps: &mut [Step]) -> String {
    let mut text = format!("{}\n", wrapped(&heading(common)));
    let mut rows = vec![COLUMNS.map(str::to_owned)];
    rows.extend(steps.iter_mut().map(row));
    let widths: Vec<usize> = (0..COLUMNS.len())
        .map(|column| rows.iter().map(|row| row[column].chars().count()).max().unwrap_or(0))
        .collect();
    for row in rows {
        let cells: Vec<String> = row
            .iter()
            .zip(&widths)
            .enumerate()
            .map(|(at, (cell, width))| if at == 0 { format!("{cell:<width$}") } else { format!("{cell:>width$}") })
            .collect();
        // Writing to a String cannot fail.
        let _ = writeln!(text, "{}", cells.join("  ").trim_end());
    }
    text.push_str(
        "(rates in Mbit/s on the wire, t3 - t0 in us; * the target was not reached, or the step is not whole)\n",
    );
    for remark in early_end(common, steps).into_iter().chain(steps.iter().filter_map(Step::omission)) {
        let _ = writeln!(text, "{}", wrapped(&remark));
    }
    for remark in steps.iter().filter_map(|step| step.remark(&common.means)) {
        let _ = writeln!(text, "{}", wrapped(&format!("* {remark}")));
    }
    text
}

fn row(step: &mut Step) -> [String; COLUMNS.len()] {
    let mark = if step.aim.target.is_some() && !step.is_reached() { " *" } else { "" };
    let megabits = |pps: f64| format!("{:.1}", step.bps(pps) / 1e6);
    let rates = match step.aim.target {
        None => ["-", "-", "-", "-"].map(str::to_owned),
        Some(_) => [
            megabits(step.offered_pps()),
            megabits(step.sent_pps()),
            step.received_pps().map_or_else(|| "?".to_owned(), megabits),
            step.flow.lost().map_or_else(|| "?".to_owned(), |lost| lost.to_string()),
        ],
    };
    let totals = &step.outcome.totals;
    let lost = format!("{} of {}", step.outcome.lost(), totals.pongs_expected);
    let late = totals.late_sends.to_string();
    let skipped = totals.skipped_slots.to_string();
    let label = format!("{}{mark}", step.label());
    let summary = step.t3_t0();
    let times = [
        summary.map(|summary| summary.p50),
        summary.map(|summary| summary.p99),
        summary.map(|summary| summary.p999),
        summary.map(|summary| summary.max),
    ];
    let [p50, p99, p999, max] = times.map(|time| time.map_or_else(|| "-".to_owned(), signed_micros));
    let [offered, sent, received, load_lost] = rates;
    [label, offered, sent, received, load_lost, lost, late, skipped, p50, p99, p999, max]
}

/// Which of the planned steps are whole, where not all are.
pub(super) fn early_end(common: &Common, steps: &[Step]) -> Option<String> {
    let (whole, cut): (Vec<_>, Vec<_>) = steps.iter().partition(|step| step.end() == End::Complete);
    let missing = common.planned.get(steps.len()..).unwrap_or_default();
    if cut.is_empty() && missing.is_empty() {
        return None;
    }
    let listed = |steps: &[&Step]| steps.iter().map(|step| step.aim.words()).collect::<Vec<_>>().join(", ");
    let why = if common.stopped { "You stopped the sweep" } else { "The sweep ended before its time" };
    let mut parts = vec![match whole.is_empty() {
        true => "no step is whole".to_owned(),
        false => format!("whole: {}", listed(&whole)),
    }];
    parts.extend((!cut.is_empty()).then(|| format!("cut off: {}", listed(&cut))));
    parts.extend((!missing.is_empty()).then(|| format!("not begun: {}", missing.join(", "))));
    Some(format!("{why}. Of its steps, {}.", parts.join("; ")))
}

/// The link's speed, and who says so.
pub(super) fn link_speed(speed: LinkSpeed) -> String {
    let LinkSpeed { bits_per_second, is_nominal } = speed;
    let whose = match is_nominal {
        true => "nominal: its driver states it, a virtual device does not keep to it",
        false => "as its driver states it",
    };
    format!("{} ({whose})", Rate::Bits(bits_per_second))
}

/// What all steps have in common, in a line.
pub(super) fn heading(common: &Common) -> String {
    let Common { interface, server, load_size, step_time_s, delay_us, .. } = common;
    format!(
        "latency under load from {interface} to {server}, {}: dummies of {load_size} bytes, {}, {step_time_s} s a step, a ping \
         each {delay_us} us",
        way(common),
        pattern(common.pattern)
    )
}

/// "xdp (native, copy)"
pub(super) fn way(common: &Common) -> String {
    let description = &common.description;
    match (description.xdp_mode, description.zero_copy) {
        (Some(mode), Some(zero_copy)) => {
            format!("{} ({mode}, {})", description.path, if zero_copy { "zero-copy" } else { "copy" })
        }
        _ => description.path.to_owned(),
    }
}

pub(super) fn pattern(pattern: Pattern) -> String {
    match pattern {
        Pattern::Cbr => "cbr".to_owned(),
        Pattern::Poisson { seed } => format!("poisson (seed {seed})"),
    }
}

/// One JSON object and a newline. Rates are in packets and in bits on the wire a second, durations in ns.
pub(super) fn json(common: &Common, steps: &mut [Step]) -> String {
    let success = steps.iter().all(|step| step.end().is_success());
    let steps: Vec<Value> = steps.iter_mut().map(step).collect();
    let (name, seed) = match common.pattern {
        Pattern::Cbr => ("cbr", None),
        Pattern::Poisson { seed } => ("poisson", Some(seed)),
    };
    let object = json!({
        "interface": common.interface,
        "server": common.server.to_string(),
        "path": common.description.path,
        "xdp_mode": common.description.xdp_mode,
        "zero_copy": common.description.zero_copy,
        "load_size": common.load_size,
        "pattern": name,
        "seed": seed,
        "step_time_s": common.step_time_s,
        "delay_us": common.delay_us,
        "link_speed_bps": common.link_speed.map(|speed| speed.bits_per_second),
        "link_speed_is_nominal": common.link_speed.map(|speed| speed.is_nominal),
        "max_rate": common.max_rate.map(|rate| rate.to_string()),
        "success": success,
        "stopped": common.stopped,
        "steps_planned": common.planned.len(),
        "steps": steps,
    });
    format!("{object}\n")
}

fn step(step: &mut Step) -> Value {
    let t3_t0 = step.t3_t0();
    let rtt = step.rtt();
    let received = step.received_pps();
    let (totals, flow) = (&step.outcome.totals, &step.flow);
    let percent = |lost: u64, all: u64| if all == 0 { 0.0 } else { lost as f64 * 100.0 / all as f64 };
    json!({
        "target": step.aim.target.map(|target| target.to_string()),
        "target_pps": step.aim.packets_per_second,
        "granted_pps": step.granted_pps,
        "offered_pps": step.offered_pps(),
        "sent_pps": step.sent_pps(),
        "received_pps": received,
        "offered_bps": step.bps(step.offered_pps()),
        "sent_bps": step.bps(step.sent_pps()),
        "received_bps": received.map(|pps| step.bps(pps)),
        "duration_ns": step.duration_ns,
        "load_due": flow.due,
        "load_sent": flow.sent,
        "load_received": flow.received,
        "load_late": flow.late,
        "load_refused": flow.refused,
        "load_lost": flow.lost(),
        "server_dropped": flow.dropped,
        "pings": totals.pings_sent,
        "lost": step.outcome.lost(),
        "loss_percent": percent(step.outcome.lost(), totals.pongs_expected),
        "duplicates": step.outcome.duplicates,
        "late_sends": totals.late_sends,
        "worst_lateness_ns": totals.worst_lateness_nanos,
        "skipped_slots": totals.skipped_slots,
        "cpu_ns": step.outcome.cpu_ns,
        "server_cpu_ns": totals.account.and_then(|account| account.cpu_ns),
        "t3_t0_ns": t3_t0,
        "rtt_ns": rtt,
        "unmeasured": step.outcome.unmeasured,
        "left_out": step.outcome.left_out,
        "end": crate::record::end_name(step.end()),
        "reached": step.is_reached(),
        "limited_by": step.limit().map(Limit::as_str),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_virtual_devices_speed_is_nominal_and_any_is_what_its_driver_states() {
        let speed = |is_nominal| link_speed(LinkSpeed { bits_per_second: 10_000_000_000, is_nominal });
        assert_eq!(speed(false), "10 Gbit/s (as its driver states it)");
        assert_eq!(speed(true), "10 Gbit/s (nominal: its driver states it, a virtual device does not keep to it)");
    }

    #[test]
    fn nanoseconds_are_said_in_microseconds_exactly_and_with_their_sign() {
        assert_eq!([0, 1, -1, 12_345, -1_000].map(signed_micros), ["0.000", "0.001", "-0.001", "12.345", "-1.000"]);
    }
}
