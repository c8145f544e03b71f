//! The outcome as a page.

use super::bootstrap::Interval;
use super::outcome::{DifferenceOutcome, Outcome, PathOutcome};
use super::text::{headline, quantity, remarks, signed, verdicts};
use crate::page::{
    Binned, Cdf, Chart, Column, Histogram, Page, Plot, STAGES, Scale, Section, Spread, StageSeries, Stages, TAIL,
    Table, count, duration,
};
use crate::record::{Stage, StageTimes};
use crate::stats::{Bin, Summary};

/// All of it.
pub(super) fn page(outcome: &Outcome) -> Page {
    let mut sections: Vec<_> = verdicts(outcome).iter().map(|text| Section::Text(typeset(text))).collect();
    for difference in [&outcome.rtt, &outcome.t3_t0].into_iter().flatten() {
        sections.push(Section::Table(differences(difference)));
    }
    let kinds: [(&str, &str, Summaries, Bins); 2] = [
        ("Round-trip time, (t3 − t0) − (t2 − t1)", "RTT", |path| path.rtt_ns, |path| &path.rtt_bins),
        ("From ping to pong, t3 − t0", "t3 − t0", |path| path.t3_t0_ns, |path| &path.t3_t0_bins),
    ];
    for (what, short, summary, bins) in kinds {
        if outcome.paths.iter().any(|path| summary(path).is_some()) {
            sections.push(Section::Heading(what.to_owned()));
            sections.extend(distributions(outcome, short, summary, bins));
        }
    }
    sections.push(Section::Heading("Losses, late sends and CPU time".to_owned()));
    sections.push(Section::Table(costs(outcome)));
    sections.extend(stages(outcome));
    sections.push(Section::Heading("What to know of these numbers".to_owned()));
    sections.extend(remarks(outcome).iter().map(|text| Section::Note(typeset(text))));
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
        subtitle: typeset(&headline(outcome)),
        facts: facts.map(|(name, value)| (name.to_owned(), value)).into(),
        sections,
    }
}

type Summaries = fn(&PathOutcome) -> Option<Summary>;
type Bins = fn(&PathOutcome) -> &Vec<Bin>;

/// What a terminal is told, as a page shows it: µs, and a minus that is as wide as a digit.
fn typeset(text: &str) -> String {
    let mut typeset = String::new();
    let mut rest = text;
    while let Some(next) = rest.chars().next() {
        let starts_a_number = typeset.chars().next_back().is_none_or(|before| before == ' ' || before == '(');
        let after = &rest[next.len_utf8()..];
        if next == '-' && starts_a_number && after.starts_with(|digit: char| digit.is_ascii_digit()) {
            typeset.push('−');
        } else if rest.starts_with("us") && typeset.ends_with(' ') && !after[1..].starts_with(char::is_alphanumeric) {
            typeset.push('µ');
        } else {
            typeset.push(next);
        }
        rest = after;
    }
    typeset
}

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
        row.extend([estimate, low, high].map(|value| typeset(&signed(value))));
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

fn distributions(outcome: &Outcome, quantity: &str, summary: Summaries, bins: Bins) -> Vec<Section> {
    let rows: Vec<_> = outcome.paths.iter().map(|path| (path.name.clone(), summary(path))).collect();
    let series =
        || outcome.paths.iter().map(|path| Binned::new(path.name.clone(), bins(path).clone())).collect::<Vec<_>>();
    let chart = |title: String, caption: &str, plot| Section::Chart(Chart { title, caption: caption.to_owned(), plot });
    let histogram = Histogram { quantity: quantity.to_owned(), scale: Scale::Auto, series: series() };
    let cdf = Cdf { quantity: quantity.to_owned(), scale: Scale::Auto, series: series() };
    vec![
        Section::Table(Table::of_summaries("All rounds that count, percentiles by nearest rank", &rows)),
        chart(format!("{quantity}, histogram"), "", Plot::Histogram(histogram)),
        chart(format!("{quantity}, distribution with its tail"), TAIL, Plot::Cdf(cdf)),
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
            caption: STAGES.to_owned(),
            plot: Plot::Stages(plot),
        }),
    ]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_and_units_are_typeset_and_nothing_else() {
        let told = "its 95 % interval, -1.668 to +1.368 us (-2 us): a ping every 10 us, just using n-1 at t3-t0, thus";
        let shown = "its 95 % interval, −1.668 to +1.368 µs (−2 µs): a ping every 10 µs, just using n-1 at t3-t0, thus";
        assert_eq!(typeset(told), shown);
        assert_eq!(typeset("-0.5"), "−0.5");
    }
}
