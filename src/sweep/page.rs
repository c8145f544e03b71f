//! A sweep as a page: the steps, their distributions one over the other, and percentiles against the rate.

use super::Common;
use super::step::{Quantity, Step};
use super::text::{early_end, link_speed, missing_rtts, pattern, way};
use crate::cli::Target;
use crate::page::{
    Binned, COLOURS, Chart, Column, Histogram, Line, Lines, Page, Plot, Point, Scale, Section, Table, count,
};
use crate::session::Rate;
use crate::stats::Summary;

/// Its name, and where it is found.
type Percentile = (&'static str, fn(&Summary) -> i64);

/// What rates mean here.
const RATES: &str = "Rates count what a frame takes of the wire: the IP packet, 14 bytes of Ethernet header, 4 of checksum, and 20 of \
                     preamble and gap.";

/// The page.
pub(super) fn page(common: &Common, steps: &mut [Step]) -> Page {
    let told = early_end(common, steps).into_iter().chain(missing_rtts(common, steps));
    let told: Vec<String> = told.chain(steps.iter().filter_map(Step::omission)).collect();
    let told = told.into_iter().chain(steps.iter().filter_map(|step| step.remark(&common.means)));
    let mut sections: Vec<Section> = told.map(Section::Note).collect();
    let packets =
        steps.iter().all(|step| !matches!(step.aim.target, Some(Target::Share(_) | Target::Rate(Rate::Bits(_)))));
    let quantity = common.quantity;
    let summaries: Vec<(String, Option<Summary>)> =
        steps.iter_mut().map(|step| (step.label(), step.summary(quantity))).collect();
    sections.push(Section::Table(loads(steps)));
    sections.push(Section::Text(RATES.to_owned()));
    sections.push(Section::Table(Table::of_summaries(
        format!("{} of the pings, by the target of the load", quantity.name()),
        &summaries,
    )));
    sections.push(Section::Chart(histogram(steps, quantity)));
    sections.push(Section::Chart(lines(steps, &summaries, packets, quantity)));
    Page {
        title: "Latency under load".to_owned(),
        subtitle: format!("from {} to {}", common.interface, common.server),
        facts: facts(common),
        sections,
    }
}

fn facts(common: &Common) -> Vec<(String, String)> {
    let mut facts = vec![
        ("path", way(common)),
        ("dummies", format!("{} bytes", common.load_size)),
        ("spacing", pattern(common.pattern)),
        ("a step", format!("{} s", common.step_time_s)),
        ("a ping each", format!("{} µs", common.delay_us)),
    ];
    facts.extend(common.link_speed.map(|speed| ("link speed", link_speed(speed))));
    facts.extend(common.max_rate.map(|rate| ("--max-rate", rate.to_string())));
    facts.into_iter().map(|(name, value)| (name.to_owned(), value)).collect()
}

fn loads(steps: &[Step]) -> Table {
    let names = ["offered", "sent", "received", "load lost", "pings lost", "late pings", "skipped pings"];
    let mut columns = vec![Column::text("target")];
    columns.extend(names.map(Column::number));
    columns.push(Column::text("limited by"));
    let rows = steps.iter().map(|step| {
        let megabits = |pps: f64| format!("{:.1}", step.bps(pps) / 1e6);
        let absent = || "–".to_owned();
        let has_load = step.aim.target.is_some();
        let of_load = |value: Option<String>| value.filter(|_| has_load).unwrap_or_else(absent);
        let totals = &step.outcome.totals;
        vec![
            step.label(),
            of_load(Some(megabits(step.offered_pps()))),
            of_load(Some(megabits(step.sent_pps()))),
            of_load(step.received_pps().map(megabits)),
            of_load(step.flow.lost().map(count)),
            format!("{} of {}", count(step.outcome.lost()), count(totals.pongs_expected)),
            count(totals.late_sends),
            count(totals.skipped_slots),
            step.limit().map_or_else(absent, |limit| limit.as_str().to_owned()),
        ]
    });
    Table { caption: "Load in Mbit/s on the wire".to_owned(), columns, rows: rows.collect() }
}

fn histogram(steps: &mut [Step], quantity: Quantity) -> Chart {
    // More would share colours: then every other one, and so on, the first and the last always.
    let shown = steps.len().min(COLOURS);
    let last = steps.len().saturating_sub(1);
    let places: Vec<usize> = (0..shown).map(|at| if shown < 2 { at } else { at * last / (shown - 1) }).collect();
    let caption = match shown < steps.len() {
        true => format!("{shown} of the {} steps.", steps.len()),
        false => String::new(),
    };
    let series = places.into_iter().map(|at| Binned::new(steps[at].aim.words(), steps[at].bins(quantity)));
    let series = series.collect();
    let plot = Plot::Histogram(Histogram { quantity: quantity.name().to_owned(), scale: Scale::Log, series });
    Chart { title: "Latency at each load".to_owned(), caption, plot }
}

fn lines(steps: &[Step], summaries: &[(String, Option<Summary>)], packets: bool, quantity: Quantity) -> Chart {
    let percentiles: [Percentile; 4] = [
        ("p50", |summary| summary.p50),
        ("p99", |summary| summary.p99),
        ("p99.9", |summary| summary.p999),
        ("max", |summary| summary.max),
    ];
    let series = percentiles.map(|(label, of)| {
        let mut points: Vec<Point> = steps
            .iter()
            .zip(summaries)
            .map(|(step, (_, summary))| {
                let rate = step.sent_pps();
                let x = if packets { rate } else { step.bps(rate) };
                Point { x: x.round() as u64, y: summary.as_ref().map(of), reached: step.is_reached() }
            })
            .collect();
        points.sort_by_key(|point| point.x);
        Line { label: label.to_owned(), points }
    });
    let lines = Lines {
        x: "load sent".to_owned(),
        x_unit: if packets { "packets/s" } else { "bit/s" }.to_owned(),
        x_scale: Scale::Linear,
        quantity: quantity.name().to_owned(),
        series: series.into(),
    };
    Chart {
        title: "Percentiles against the load".to_owned(),
        caption: "A hollow point is of a target that was not reached: it stands where the load was, not where it should have \
                  been."
            .to_owned(),
        plot: Plot::Lines(lines),
    }
}
