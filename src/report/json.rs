//! The report as one JSON object: every key is there, with null for what is not known.

use super::{
    ClockFacts, Clocks, Damage, LogFacts, Measured, PingPlan, PlanSource, PongEverySource, Quantity, Report,
    StageReport, TimeBin,
};
use crate::stats::Summary;
use serde_json::{Map, Value, json};

pub(super) fn report(report: &Report) -> Value {
    let mut object = Map::new();
    let mut put = |key: &str, value: Value| object.insert(key.to_owned(), value);
    put("label", json!(report.label));
    put("direction", json!(report.direction.map(|direction| direction.as_str())));
    put("direction_from", json!(report.direction_from));
    // Of the first log, which is the client's where both are there.
    put("session", json!(report.logs.first().map(|log| log.session)));
    put("sessions", json!(report.logs.first().map(|log| log.sessions)));
    put("logs", report.logs.iter().map(log).collect());
    let all = report.logs.iter().flat_map(|log| {
        let file = log.file.to_string_lossy();
        log.damage.first.iter().map(move |(line, fault)| json!({ "file": file, "line": line, "fault": fault.as_str() }))
    });
    put("damaged", all.collect());
    for (key, count) in [
        ("sent", report.sent),
        ("received", report.received),
        ("lost", report.lost),
        ("lost_forward", report.forward.lost),
        ("lost_backward", report.backward.lost),
        ("lost_somewhere", report.lost_somewhere),
        ("unanswered", Some(report.unanswered)),
        ("duplicated", report.duplicated),
        ("reordered", report.reordered),
        ("without_rows", Some(report.without_rows)),
        ("without_t0", Some(report.without_t0)),
        ("behind_the_end", Some(report.behind_the_end)),
        ("late_rows", Some(report.late_rows)),
        ("repeated_rows", Some(report.repeated_rows)),
        ("damaged_rows", Some(report.damaged_rows())),
        ("pong_every", report.pong_every),
    ] {
        put(key, json!(count));
    }
    put("pong_every_from", json!(report.pong_every_from.map(PongEverySource::as_str)));
    put("forward", json!(report.forward));
    put("backward", json!(report.backward));
    put("sizes", json!({ "pings": sizes(report.sizes[0]), "pongs": sizes(report.sizes[1]) }));
    put("clock", clock(&report.clock));
    put("plan", report.plan.as_ref().map_or(Value::Null, plan));
    for quantity in Quantity::ALL {
        put(quantity.key(), summary(report.get(quantity).map(|measured| measured.summary)));
    }
    let of = |quantity: Option<Quantity>| quantity.and_then(|quantity| report.get(quantity));
    put("ipdv_ns", summary(of(report.ipdv()).map(|measured| measured.summary)));
    put("ipdv_of", json!(report.ipdv().map(Quantity::key)));
    put("jitter_ns", summary(of(report.jitter()).map(|measured| measured.summary)));
    put("jitter_of", json!(report.jitter().map(Quantity::key)));
    put("jitter_last_ns", json!(of(report.jitter()).map(|measured| measured.last)));
    let over_time = report.measured.iter().map(|(quantity, measured)| (quantity.key().to_owned(), bins(measured)));
    put("over_time", Value::Object(over_time.collect()));
    put("stages", report.stages.iter().map(stages).collect());
    put("remarks", json!(report.remarks));
    Value::Object(object)
}

fn log(log: &LogFacts) -> Value {
    let clocks = log.clocks.iter().map(|(point, clock)| (point.as_str().to_owned(), json!(clock)));
    json!({
        "file": log.file.to_string_lossy(),
        "side": log.side,
        "session": log.session,
        "sessions": log.sessions,
        "rows": log.rows,
        "damaged_rows": log.damage.count,
        "damaged": damaged(&log.damage),
        "clock_steps": log.clock_steps,
        "timestamps": Value::Object(clocks.collect()),
    })
}

fn stages(stages: &StageReport) -> Value {
    let mut object = json!({
        "file": stages.file.to_string_lossy(),
        "session": stages.session,
        "sessions": stages.sessions,
        "rows": stages.rows,
        "damaged_rows": stages.damage.count,
        "damaged": damaged(&stages.damage),
        "unconverted": stages.unconverted,
        "uncertainty_ns": stages.uncertainty_ns,
    });
    let all = stages.stages.iter().map(|(stage, measured)| (stage.key().to_owned(), summary(Some(measured.summary))));
    if let Some(object) = object.as_object_mut() {
        object.extend(all);
    }
    object
}

fn damaged(damage: &Damage) -> Value {
    damage.first.iter().map(|(line, fault)| json!({ "line": line, "fault": fault.as_str() })).collect()
}

fn sizes(sizes: Option<(u16, u16)>) -> Value {
    sizes.map_or(Value::Null, |(least, most)| json!({ "min": least, "max": most }))
}

fn clock(clock: &ClockFacts) -> Value {
    json!({
        "clocks": match clock.clocks {
            Clocks::Estimate => "estimated",
            Clocks::Synchronised => "synchronised",
        },
        "skew_ppm": clock.skew_ppm,
        "offset_ns": clock.offset_ns,
        "residual_ns": clock.residual_ns,
        "bound_ns": clock.bound_ns,
        "different": clock.different,
        "rtt_corrected": clock.rtt_corrected,
        "rtt_error_ns": clock.rtt_error_ns,
        "assumed": clock.assumed,
    })
}

fn plan(plan: &PingPlan) -> Value {
    let source = match plan.source {
        PlanSource::Meta => "meta file",
        PlanSource::Median => "median",
    };
    json!({ "delay_ns": plan.delay_ns, "stamp_every": plan.stamp_every, "source": source })
}

fn summary(summary: Option<Summary>) -> Value {
    json!(summary)
}

fn bins(measured: &Measured) -> Value {
    let bin = |bin: &TimeBin| {
        let mut object = json!({
            "start_ns": bin.start_ns,
            "width_ns": bin.width_ns,
            "lost": bin.lost,
            "count": bin.summary.map_or(0, |summary| summary.count),
        });
        if let (Some(object), Value::Object(numbers)) = (object.as_object_mut(), summary(bin.summary)) {
            object.extend(numbers);
        }
        object
    };
    measured.over_time.iter().map(bin).collect()
}
