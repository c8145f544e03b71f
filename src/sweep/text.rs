//! A sweep as lines for people, and as one JSON object.

use super::flow::Limit;
use super::step::{Quantity, Step};
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
    let mut text = format!("{}\n{}", wrapped(&heading(common)), table(common, steps));
    for remark in remarks(common, steps) {
        let _ = writeln!(text, "{}", wrapped(&remark));
    }
    for limit in limits(common, steps) {
        let _ = writeln!(text, "{}", wrapped(&format!("* {limit}")));
    }
    text
}

/// What a reader of the numbers must know, a sentence each.
fn remarks(common: &Common, steps: &mut [Step]) -> Vec<String> {
    let mut remarks: Vec<String> = early_end(common, steps).into_iter().chain(missing_rtts(common, steps)).collect();
    remarks.extend(steps.iter().filter_map(Step::omission));
    remarks
}

/// Of each step whose target was not reached, or that was cut off, what the limit was.
fn limits(common: &Common, steps: &[Step]) -> impl Iterator<Item = String> {
    steps.iter().filter_map(|step| step.remark(&common.means))
}

/// A line for each step, and what its columns are.
pub(super) fn table(common: &Common, steps: &mut [Step]) -> String {
    let mut text = String::new();
    let quantity = common.quantity;
    let mut rows = vec![head(quantity)];
    rows.extend(steps.iter_mut().map(|step| row(step, quantity)));
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
    let _ = writeln!(
        text,
        "(rates in Mbit/s on the wire, {} in us; * the target was not reached, or the step is not whole)",
        quantity.plain_name()
    );
    text
}

/// The columns' names. The last four are of times.
fn head(quantity: Quantity) -> [String; COLUMNS.len()] {
    let mut head = COLUMNS.map(str::to_owned);
    for time in &mut head[COLUMNS.len() - 4..] {
        time.insert_str(0, quantity.prefix());
    }
    head
}

fn row(step: &mut Step, quantity: Quantity) -> [String; COLUMNS.len()] {
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
    let summary = step.summary(quantity);
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

/// Of which steps RTTs are missing, where the times are RTTs.
pub(super) fn missing_rtts(common: &Common, steps: &mut [Step]) -> Option<String> {
    if common.quantity != Quantity::Rtt {
        return None;
    }
    let counts = steps.iter_mut().map(|step| (step.aim.words(), step.without_rtt()));
    let missing = counts.filter(|(_, (without, _))| *without > 0);
    let parts: Vec<String> = missing.map(|(step, (without, all))| format!("{without} of {all} ({step})")).collect();
    (!parts.is_empty()).then(|| {
        format!(
            "Pongs without an RTT: {}: the server's stamps of a pong come with a later one, and these did not.",
            parts.join(", ")
        )
    })
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
    let mut remarks = remarks(common, steps);
    remarks.extend(limits(common, steps));
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
        "quantity": common.quantity.key(),
        "success": success,
        "stopped": common.stopped,
        "steps_planned": common.planned.len(),
        "steps": steps,
        "remarks": remarks,
    });
    format!("{object}\n")
}

fn step(step: &mut Step) -> Value {
    let t3_t0 = step.t3_t0();
    let rtt = step.rtt();
    let received = step.received_pps();
    let (totals, flow) = (&step.outcome.totals, &step.flow);
    let lost_by_way = step.outcome.lost_by_way();
    let punctuality = &step.outcome.punctuality;
    let busy = punctuality.is_watched.then_some(punctuality);
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
        "lost_forward": lost_by_way.map(|[forward, _]| forward),
        "lost_backward": lost_by_way.map(|[_, backward]| backward),
        "loss_percent": percent(step.outcome.lost(), totals.pongs_expected),
        "duplicates": step.outcome.duplicates,
        "late_sends": totals.late_sends,
        "worst_lateness_ns": totals.worst_lateness_nanos,
        "skipped_slots": totals.skipped_slots,
        "lateness_ns": punctuality.lateness,
        "lateness_undisturbed_ns": busy.and_then(|busy| busy.undisturbed),
        "core_away": busy.map(|busy| busy.away),
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
    use super::super::{Aim, Means, page};
    use super::*;
    use crate::cli::Target;
    use crate::path::Description;
    use crate::probe::Outcome;
    use crate::record::{Punctuality, PunctualityTotals};
    use crate::session::{Settings, Totals};

    /// A sweep of two steps, whose t3 − t0 are 1,000 µs and more, and whose RTTs, one of the second step less, 10 µs and more.
    fn swept(in_band: bool) -> (Common, Vec<Step>) {
        let settings = Settings { in_band, ..Settings::default() };
        let common = Common {
            interface: "eth1".to_owned(),
            server: "10.0.0.2:10666".parse().unwrap(),
            description: Description {
                path: "xdp",
                xdp_mode: Some("native"),
                zero_copy: Some(false),
                queues: vec![0],
                local: "10.0.0.1:40000".parse().unwrap(),
                hook_stamps_one_in: None,
            },
            load_size: 1500,
            pattern: Pattern::Cbr,
            step_time_s: 1,
            delay_us: 1000,
            quantity: Quantity::of(&settings),
            link_speed: None,
            max_rate: None,
            means: Means { cpu: None, largest_load: 1500, is_xdp: true },
            planned: vec!["no load".to_owned(), "500 pps".to_owned()],
            stopped: false,
        };
        let target = Some(Target::Rate(Rate::Packets(500)));
        let steps = [(None, 0), (target, 1)].map(|(target, missing)| {
            let mut outcome = Outcome::nothing(End::Complete);
            outcome.agreed = Some(settings);
            outcome.totals = Totals { pings_sent: 20, pongs_expected: 20, ..Totals::default() };
            outcome.answered = 20;
            outcome.t3_t0 = (0..20).map(|at| 1_000_000 + at * 1_000).collect();
            if in_band {
                outcome.rtt = (missing..20).map(|at| 10_000 + at * 1_000).collect();
            }
            Step::new(Aim { target, packets_per_second: 0 }, 1500, outcome)
        });
        (common, steps.into())
    }

    #[test]
    fn with_in_band_the_times_are_round_trips_and_say_so() {
        let (common, mut steps) = swept(true);
        let shown = text(&common, &mut steps);
        for part in ["RTT p50", "RTT p99.9", "RTT = (t3 - t0) - (t2 - t1) in us", "19.000", "29.000"] {
            assert!(shown.contains(part), "{part}: {shown}");
        }
        assert!(!shown.contains("1009.000"), "{shown}");
        let missing = "Pongs without an RTT: 1 of 20 (500 pps)";
        assert!(shown.contains(missing), "{shown}");
        let json: Value = serde_json::from_str(&json(&common, &mut steps)).unwrap();
        assert_eq!(json["quantity"], "rtt_ns");
        let step = &json["steps"][1];
        assert_eq!([&step["rtt_ns"]["count"], &step["t3_t0_ns"]["count"]], [&Value::from(19), &Value::from(20)]);
        assert_eq!([&step["rtt_ns"]["min"], &step["t3_t0_ns"]["min"]], [&Value::from(11_000), &Value::from(1_000_000)]);
        let page = page::page(&common, &mut steps).html();
        let name = "RTT, (t3 − t0) − (t2 − t1)";
        for part in [&format!("{name} of the pings"), &format!("{name} against load sent"), missing] {
            assert!(page.contains(part), "{part}: {page}");
        }
        // Table, histogram and its axis, lines and their axis.
        assert!(page.matches(name).count() >= 5 && !page.contains("1 000.000"), "{page}");
        assert!(!page.replace(name, "").contains("t3 − t0"), "{page}");
    }

    #[test]
    fn each_step_says_how_late_its_pings_left_and_how_often_the_core_was_away() {
        let (common, mut steps) = swept(false);
        let mut punctuality = Punctuality::new();
        punctuality.met(Some(50), 0, 0);
        punctuality.was_away(70_000);
        punctuality.met(Some(60_000), 3, 70_000);
        // The first step slept: nobody could see it there.
        for (step, is_watched) in steps.iter_mut().zip([false, true]) {
            step.outcome.punctuality = PunctualityTotals { is_watched, ..punctuality.totals() };
        }
        let json: Value = serde_json::from_str(&json(&common, &mut steps)).unwrap();
        let [asleep, busy] = [0, 1].map(|at| &json["steps"][at]);
        assert_eq!([&asleep["lateness_ns"]["count"], &busy["lateness_ns"]["count"]], [&Value::from(2); 2]);
        assert!(asleep["lateness_undisturbed_ns"].is_null() && asleep["core_away"].is_null(), "{asleep}");
        assert_eq!(
            (&busy["lateness_undisturbed_ns"]["count"], &busy["lateness_undisturbed_ns"]["max"]),
            (&1.into(), &50.into())
        );
        let away = &busy["core_away"];
        let counts =
            ["count", "total_ns", "longest_ns", "pings_due", "late_sends", "skipped_slots"].map(|name| &away[name]);
        assert_eq!(counts, [1, 70_000, 70_000, 1, 1, 3].map(Value::from).each_ref());
    }

    #[test]
    fn without_in_band_the_times_are_from_ping_to_pong_and_say_so() {
        let (common, mut steps) = swept(false);
        let shown = text(&common, &mut steps);
        for part in [", t3 - t0 in us;", "1009.000", "1019.000"] {
            assert!(shown.contains(part), "{part}: {shown}");
        }
        assert!(!shown.contains("RTT"), "{shown}");
        let json: Value = serde_json::from_str(&json(&common, &mut steps)).unwrap();
        assert_eq!((&json["quantity"], &json["steps"][0]["rtt_ns"]), (&"t3_t0_ns".into(), &Value::Null));
        let page = page::page(&common, &mut steps).html();
        assert!(page.contains("t3 − t0 of the pings") && !page.contains("RTT"), "{page}");
    }

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
