//! The outcome as a page.

use super::bootstrap::Interval;
use super::outcome::{DifferenceOutcome, Outcome, PathOutcome};
use super::text::{headline, quantity, remarks, signed, verdicts};
use crate::page::{
    Binned, Cdf, Chart, Column, Histogram, Page, Plot, Scale, Section, Spread, StageSeries, Stages, Table, count,
    duration,
};
use crate::record::{Stage, StageTimes};
use crate::stats::{Bin, Summary};

/// All of it.
pub(super) fn page(outcome: &Outcome) -> Page {
    let mut sections: Vec<_> = verdicts(outcome).into_iter().map(Section::Text).collect();
    for difference in [&outcome.rtt, &outcome.t3_t0].into_iter().flatten() {
        sections.push(Section::Table(differences(difference)));
    }
    let kinds: [(&str, Summaries, Bins); 2] = [
        ("Round-trip time, (t3 − t0) − (t2 − t1)", |path| path.rtt_ns, |path| &path.rtt_bins),
        ("From ping to pong, t3 − t0", |path| path.t3_t0_ns, |path| &path.t3_t0_bins),
    ];
    for (what, summary, bins) in kinds {
        if outcome.paths.iter().any(|path| summary(path).is_some()) {
            sections.extend(distributions(outcome, what, summary, bins));
        }
    }
    sections.push(Section::Heading("Losses, late sends and CPU time".to_owned()));
    sections.push(Section::Table(costs(outcome)));
    sections.extend(stages(outcome));
    sections.push(Section::Heading("What to know of these numbers".to_owned()));
    sections.extend(remarks(outcome).into_iter().map(Section::Note));
    let setting = &outcome.setting;
    let facts = [
        ("server", format!("{} ({})", setting.host, setting.server)),
        ("interface", setting.interface.clone()),
        ("XDP", xdp(&outcome.paths)),
        ("program", format!("xdprobe {}", setting.version)),
        ("command", setting.command_line.join(" ")),
    ];
    Page {
        title: "AF_XDP beside the kernel's UDP".to_owned(),
        subtitle: headline(outcome),
        facts: facts.map(|(name, value)| (name.to_owned(), value)).into(),
        sections,
    }
}

type Summaries = fn(&PathOutcome) -> Option<Summary>;
type Bins = fn(&PathOutcome) -> &Vec<Bin>;

fn xdp(paths: &[PathOutcome]) -> String {
    let xdp = paths.iter().find(|path| path.xdp_mode.is_some());
    let mode = xdp.and_then(|path| path.xdp_mode).unwrap_or("unknown");
    let copies = if xdp.and_then(|path| path.zero_copy) == Some(true) { "zero-copy" } else { "copy" };
    format!("{mode} mode, {copies}")
}

fn differences(difference: &DifferenceOutcome) -> Table {
    let what = quantity(difference);
    let level = difference.level * 100.0;
    let rows = difference.differences.named().into_iter().map(|(name, interval)| {
        let Interval { estimate, low, high, within_noise } = interval;
        let verdict = match (within_noise, estimate > 0) {
            (true, _) if difference.differences.too_few_rounds => "too few rounds to say",
            (true, _) => "within the noise",
            (false, true) => "xdp is faster",
            (false, false) => "kernel is faster",
        };
        let mut row = vec![name.to_owned()];
        row.extend([estimate, low, high].map(signed));
        row.push(verdict.to_owned());
        row
    });
    let mut columns = vec![Column::text("")];
    columns.extend(["estimate, µs", "from", "to"].map(Column::number));
    columns.push(Column::text(""));
    Table {
        caption: format!(
            "{what}: kernel less xdp, with a {level:.0} % interval of {} drawings from {} pairs of rounds ({})",
            difference.resamples, difference.rounds, difference.method
        ),
        columns,
        rows: rows.collect(),
    }
}

fn distributions(outcome: &Outcome, what: &str, summary: Summaries, bins: Bins) -> Vec<Section> {
    let rows: Vec<_> = outcome.paths.iter().map(|path| (path.name.clone(), summary(path))).collect();
    let series =
        || outcome.paths.iter().map(|path| Binned::new(path.name.clone(), bins(path).clone())).collect::<Vec<_>>();
    let quantity = what.split(',').next().unwrap_or(what).to_lowercase();
    let chart = |title: &str, caption: &str, plot| {
        Section::Chart(Chart { title: title.to_owned(), caption: caption.to_owned(), plot })
    };
    let histogram = Histogram { quantity: quantity.clone(), scale: Scale::Auto, series: series() };
    let cdf = Cdf { quantity, scale: Scale::Auto, series: series() };
    vec![
        Section::Heading(what.to_owned()),
        Section::Table(Table::of_summaries("All rounds that count, percentiles by nearest rank", &rows)),
        chart("How often", "", Plot::Histogram(histogram)),
        chart("The tail", "Each further nine takes as much room as the last one.", Plot::Cdf(cdf)),
    ]
}

fn costs(outcome: &Outcome) -> Table {
    let known = |value: Option<u64>| value.map_or("–".to_owned(), count);
    let signed = |value: Option<i64>| value.map_or("–".to_owned(), |value| value.to_string());
    let nanos = |value: Option<u64>| value.map_or("–".to_owned(), |value| duration(value as i64));
    let share = |share: Option<f64>| share.map_or("–".to_owned(), |share| format!("{:.1} %", share * 100.0));
    let mut columns = vec![Column::text("")];
    columns.extend(outcome.paths.iter().map(|path| Column::number(path.name.clone())));
    let row = |name: &str, value: &dyn Fn(&PathOutcome) -> String| {
        let mut row = vec![name.to_owned()];
        row.extend(outcome.paths.iter().map(value));
        row
    };
    let rows = vec![
        row("pings sent", &|path| count(path.pings_sent)),
        row("lost", &|path| format!("{} ({:.4} %)", count(path.lost), path.loss_percent)),
        row("of these on the way there", &|path| signed(path.lost_forward)),
        row("of these on the way back", &|path| signed(path.lost_backward)),
        row("late sends", &|path| count(path.late_sends)),
        row("pings skipped for late ones", &|path| count(path.skipped_slots)),
        row("dropped by the server's machine", &|path| known(path.server.dropped)),
        row("CPU time a ping, client", &|path| nanos(path.cpu_ns_per_ping)),
        row("share of a CPU, client", &|path| share(path.cpu_share)),
        row("CPU time a ping, server", &|path| nanos(path.server.cpu_ns_per_ping)),
        row("share of a CPU, server", &|path| share(path.server.cpu_share)),
    ];
    Table { caption: "Sums over all rounds that count".to_owned(), columns, rows }
}

fn stages(outcome: &Outcome) -> Vec<Section> {
    let mut known: Vec<Stage> = Vec::new();
    for (stage, _) in outcome.paths.iter().flat_map(|path| &path.stage_times) {
        if !known.contains(stage) {
            known.push(*stage);
        }
    }
    if known.is_empty() {
        return Vec::new();
    }
    known.sort_by_key(|stage| *stage as usize);
    let spread = |times: &StageTimes| Spread {
        count: times.count,
        min: times.min,
        p50: times.p50,
        p99: times.p99,
        max: times.max,
    };
    let series = outcome.paths.iter().map(|path| {
        let of =
            |stage: &Stage| path.stage_times.iter().find(|(known, _)| known == stage).map(|(_, times)| spread(times));
        StageSeries { label: path.name.clone(), stages: known.iter().map(of).collect() }
    });
    let plot = Stages {
        stages: known.iter().map(|stage| stage.as_str().replace("->", " → ")).collect(),
        series: series.collect(),
    };
    vec![
        Section::Heading("Where this side's time was spent".to_owned()),
        Section::Chart(Chart {
            title: "Stages of this side's packets".to_owned(),
            caption: "To the median, on to the 99th percentile, and to the largest.".to_owned(),
            plot: Plot::Stages(plot),
        }),
    ]
}
