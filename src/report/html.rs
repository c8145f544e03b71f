//! Reports as one page with pictures, several laid over each other.

use super::text::{Names, direction, ppm};
use super::{LogFacts, Measured, Quantity, Report, StageReport};
use crate::page::{
    self, Binned, Cdf, Chart, Column, Histogram, OverTime, Page, Plot, Scale, Section, Spread, StageSeries, Stages,
    Table, TimeBin, Timeline, count, duration,
};
use crate::record::Stage;

/// The page of all of them.
pub fn page(reports: &[Report]) -> Page {
    let labels: Vec<&str> = reports.iter().map(|report| report.label.as_str()).collect();
    let mut page = Page {
        title: format!("Latency: {}", labels.join(", ")),
        subtitle: format!("xdprobe report, version {}", env!("CARGO_PKG_VERSION")),
        ..Page::default()
    };
    for report in reports {
        let name = if reports.len() > 1 { format!("{}: direction", report.label) } else { "direction".to_owned() };
        page.facts.push((name, direction(report)));
    }
    let sections = &mut page.sections;
    sections.push(Section::Table(packets(reports)));
    sections.push(Section::Table(logs(reports)));
    for report in reports {
        let whose = if reports.len() > 1 { format!("{}: ", report.label) } else { String::new() };
        sections.extend(report.remarks.iter().map(|remark| Section::Note(format!("{whose}{remark}"))));
    }
    sections.push(Section::Heading("Round trips".to_owned()));
    let rtt = "Round trip without the time that the other side took: (t3 − t0) − (t2 − t1).";
    // What one log alone tells is shown where it is all that there is of a session.
    let round = match reports.iter().all(|report| report.get(Quantity::Rtt).is_some()) {
        true => (Quantity::Rtt, "RTT", rtt),
        false => (
            Quantity::T3T0,
            "t3 − t0",
            "From sending a ping to receiving its pong, with the time that the other side took.",
        ),
    };
    let is_round = reports.iter().any(|report| report.get(round.0).is_some());
    if is_round {
        pictures(sections, reports, round);
    } else {
        sections.push(Section::Text("Nobody answered a ping, or only one side's log is there.".to_owned()));
    }
    if reports.iter().any(|report| report.get(Quantity::OwdForward).or(report.get(Quantity::OwdBackward)).is_some()) {
        sections.push(Section::Heading("One-way delay".to_owned()));
        for report in reports {
            let whose = if reports.len() > 1 { format!("{}: ", report.label) } else { String::new() };
            sections.push(Section::Note(format!("{whose}{}", clock_note(report))));
        }
        one_way(sections, reports);
    }
    stage_charts(sections, reports);
    sections.push(Section::Heading("All numbers".to_owned()));
    for report in reports {
        let rows =
            report.measured.iter().map(|(quantity, measured)| (quantity.name().to_owned(), Some(measured.summary)));
        sections.push(Section::Table(Table::of_summaries(report.label.clone(), &rows.collect::<Vec<_>>())));
    }
    page
}

/// Where the numbers are from.
fn logs(reports: &[Report]) -> Table {
    let columns = vec![
        Column::text(""),
        Column::text("log"),
        Column::text("of"),
        Column::text("stamps"),
        Column::number("session"),
        Column::number("rows"),
    ];
    let row = |report: &Report, log: &LogFacts| {
        let clocks: Vec<String> = log.clocks.iter().map(|(point, clock)| format!("{point}: {clock}")).collect();
        vec![
            report.label.clone(),
            log.file.file_name().unwrap_or(log.file.as_os_str()).to_string_lossy().into_owned(),
            log.side.to_owned(),
            if clocks.is_empty() { "–".to_owned() } else { clocks.join("; ") },
            format!("{} of {}", log.session, log.sessions),
            count(log.rows),
        ]
    };
    let rows = reports.iter().flat_map(|report| report.logs.iter().map(move |log| row(report, log)));
    Table { caption: "Logs; stamps as their meta files say".to_owned(), columns, rows: rows.collect() }
}

fn packets(reports: &[Report]) -> Table {
    let names = [
        "sent",
        "received",
        "lost",
        "lost forward",
        "lost backward",
        "not answered",
        "duplicated",
        "reordered",
        "damaged rows",
    ];
    let mut columns = vec![Column::text("")];
    columns.extend(names.map(Column::number));
    let rows = reports.iter().map(|report| {
        let counts = [
            report.sent,
            report.received,
            report.lost,
            report.forward.lost,
            report.backward.lost,
            Some(report.unanswered),
            report.duplicated,
            report.reordered,
            Some(report.damaged_rows()),
        ];
        let cells = counts.map(|number| number.map_or_else(|| "–".to_owned(), count));
        [report.label.clone()].into_iter().chain(cells).collect()
    });
    Table { caption: "Packets; – is what the logs do not tell".to_owned(), columns, rows: rows.collect() }
}

fn clock_note(report: &Report) -> String {
    let clock = &report.clock;
    let mut note = clock.assumed.clone();
    if let (Some(skew), Some(offset)) = (clock.skew_ppm, clock.offset_ns) {
        let Names { reference, other, first_ping, .. } = Names::of(report.direction);
        let ahead = if offset < 0 { "behind" } else { "ahead of" };
        // Without a sign: the words have it. Of numbers that round to 0 it is +.
        let skew = ppm(skew);
        let faster = if skew.starts_with('-') { "slower" } else { "faster" };
        note += &format!(
            " The clock of {other} was {} {ahead} that of {reference} at {first_ping}, and {} ppm {faster}.",
            duration(offset.saturating_abs()),
            &skew[1..]
        );
    }
    if let Some(residual) = clock.residual_ns {
        note += &format!(" Residual: {}.", duration(residual.round() as i64));
    }
    note
}

/// The distribution twice, and over time.
fn pictures(sections: &mut Vec<Section>, reports: &[Report], (quantity, title, what): (Quantity, &str, &str)) {
    let each = || reports.iter().map(|report| (report.label.clone(), report.get(quantity)));
    sections.push(Section::Text(what.to_owned()));
    distribution(sections, title, title, binned(each()));
    let series = each().map(|(label, measured)| timeline(label, measured)).collect();
    sections.push(over_time(title, title, series));
}

fn one_way(sections: &mut Vec<Section>, reports: &[Report]) {
    let ways = [(Quantity::OwdForward, "forward"), (Quantity::OwdBackward, "backward")];
    let each = || {
        reports.iter().flat_map(|report| {
            ways.map(|(quantity, way)| {
                let label = if reports.len() > 1 { format!("{}, {way}", report.label) } else { way.to_owned() };
                (label, report.get(quantity))
            })
        })
    };
    distribution(sections, "One-way delay", "one-way delay", binned(each()));
    let series = each().map(|(label, measured)| timeline(label, measured)).collect();
    sections.push(over_time("One-way delay", "one-way delay", series));
}

fn binned<'a>(each: impl Iterator<Item = (String, Option<&'a Measured>)>) -> Vec<Binned> {
    each.map(|(label, measured)| Binned::new(label, measured.map(|measured| measured.bins.clone()).unwrap_or_default()))
        .collect()
}

fn distribution(sections: &mut Vec<Section>, title: &str, quantity: &str, series: Vec<Binned>) {
    let histogram = Histogram { quantity: quantity.to_owned(), scale: Scale::Log, series: series.clone() };
    sections.push(chart(format!("{title}, histogram"), String::new(), Plot::Histogram(histogram)));
    let cdf = Cdf { quantity: quantity.to_owned(), scale: Scale::Log, series };
    sections.push(chart(format!("{title}, distribution with its tail"), page::TAIL.to_owned(), Plot::Cdf(cdf)));
}

fn over_time(title: &str, quantity: &str, series: Vec<Timeline>) -> Section {
    let plot = OverTime { quantity: quantity.to_owned(), scale: Scale::Auto, series };
    chart(format!("{title} over time"), String::new(), Plot::OverTime(plot))
}

fn chart(title: String, caption: String, plot: Plot) -> Section {
    Section::Chart(Chart { title, caption, plot })
}

fn timeline(label: String, measured: Option<&Measured>) -> Timeline {
    let bins = measured.map(|measured| measured.over_time.as_slice()).unwrap_or_default();
    let bins = bins.iter().map(|bin| TimeBin {
        start_ns: i64::try_from(bin.start_ns).unwrap_or(i64::MAX),
        width_ns: bin.width_ns,
        spread: bin.summary.map(Spread::from),
        lost: bin.lost.unwrap_or_default(),
    });
    Timeline { label, bins: bins.collect() }
}

fn stage_charts(sections: &mut Vec<Section>, reports: &[Report]) {
    let logs: Vec<&StageReport> = reports.iter().flat_map(|report| &report.stages).collect();
    // Two logs of the same name are told apart by their folders.
    let name = |of: &StageReport| {
        let twice = logs.iter().filter(|other| other.file.file_name() == of.file.file_name()).count() > 1;
        let name = of.file.file_name().filter(|_| !twice).unwrap_or(of.file.as_os_str());
        name.to_string_lossy().into_owned()
    };
    let all: Vec<(String, &StageReport)> = logs.iter().map(|of| (name(of), *of)).collect();
    if all.is_empty() {
        return;
    }
    let known = |stage: &Stage| all.iter().any(|(_, of)| of.stages.iter().any(|(known, _)| known == stage));
    let stages: Vec<Stage> = Stage::ALL.into_iter().filter(known).collect();
    let series = all.iter().map(|(label, of)| {
        let find = |stage: &Stage| of.stages.iter().find(|(known, _)| known == stage);
        let spreads = stages.iter().map(|stage| find(stage).map(|(_, measured)| page::Spread::from(measured.summary)));
        StageSeries { label: label.clone(), stages: spreads.collect() }
    });
    let plot = Stages {
        stages: stages.iter().map(|stage| stage.as_str().replace("->", " → ")).collect(),
        series: series.collect(),
    };
    sections.push(Section::Heading("Stages".to_owned()));
    sections.push(chart(
        "Where time was spent on each machine".to_owned(),
        page::STAGES.to_owned(),
        Plot::Stages(plot),
    ));
}
