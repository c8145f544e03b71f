//! One self-contained HTML page: a title, facts, tables and pictures, for `report`, `compare` and `sweep`.
//!
//! A [`Page`] says what is to be shown; [`Page::html`] makes of it one file without JavaScript that loads nothing, is
//! light or dark as the reader's system is, and prints on white. Pictures are inline SVG, drawn from bins and points
//! that are merged to what the eye can tell apart, so a page stays small whatever it was made from.
//!
//! All durations are in ns and keep their sign. What is absent is `None`.
#![forbid(unsafe_code)]

mod axis;
mod cdf;
mod frame;
mod histogram;
mod html;
mod lines;
mod number;
mod over_time;
mod reserved;
mod stages;

pub use number::{count, duration};
pub use reserved::Reserved;

use crate::stats::{Bin, Summary};

/// Time bins that a picture over time shows one by one; more of them are merged in groups.
pub const TIME_BINS: usize = 400;
/// What stands between which stamps, and what the length of a bar says, beside a picture of stages.
pub const STAGES: &str = "From stamp to stamp of one packet on one machine. app: this program; sw: the kernel's driver, when sending; kernel: its \
                          stack; hook: the XDP program; hw: the network card. The axis is logarithmic: where a bar ends counts, not how long \
                          it is.";
/// How to read a distribution with its tail.
pub const TAIL: &str = "Each further nine takes as much room as the last one.";
/// Series that have a colour of their own; a further one shares the colour of the first.
pub const COLOURS: usize = 6;

/// A page.
#[derive(Debug, Clone, Default)]
pub struct Page {
    /// The heading, and the title of the document.
    pub title: String,
    /// A line below it: of what, when, where; may be empty.
    pub subtitle: String,
    /// What the reader must know of the run: names and values, in this order.
    pub facts: Vec<(String, String)>,
    /// What follows, in this order.
    pub sections: Vec<Section>,
}

impl Page {
    /// The whole file, UTF-8.
    pub fn html(&self) -> String {
        html::write(self)
    }
}

/// A part of a page.
#[derive(Debug, Clone)]
pub enum Section {
    /// A heading over what follows.
    Heading(String),
    /// A paragraph.
    Text(String),
    /// A paragraph that must not be overlooked: an assumption, an estimate, something that was not reached.
    Note(String),
    /// Numbers.
    Table(Table),
    /// A picture.
    Chart(Chart),
}

/// A table; a long word or a narrow page makes its cells wrap, not overflow.
#[derive(Debug, Clone, Default)]
pub struct Table {
    /// What it shows, above it.
    pub caption: String,
    /// The columns.
    pub columns: Vec<Column>,
    /// The rows; each has a cell for each column.
    pub rows: Vec<Vec<String>>,
}

/// A column of a table.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Column {
    /// Its head.
    pub name: String,
    /// It is aligned to the right, in figures of equal width.
    pub numeric: bool,
}

impl Column {
    /// A column of words.
    pub fn text(name: impl Into<String>) -> Self {
        Self { name: name.into(), numeric: false }
    }

    /// A column of numbers.
    pub fn number(name: impl Into<String>) -> Self {
        Self { name: name.into(), numeric: true }
    }
}

impl Table {
    /// A row for each distribution of durations, in a unit of its own that its row names. Where there is no sample, there
    /// is no number either.
    pub fn of_summaries(caption: impl Into<String>, rows: &[(String, Option<Summary>)]) -> Self {
        let names = ["count", "min", "mean", "std. dev.", "p50", "p90", "p99", "p99.9", "p99.99", "max"];
        let mut columns = vec![Column::text(""), Column::text("unit")];
        columns.extend(names.map(Column::number));
        let rows = rows.iter().map(|(label, summary)| {
            let Some(summary) = summary else {
                let mut row = vec![label.clone(), String::new(), "0".to_owned()];
                row.resize(names.len() + 2, "–".to_owned());
                return row;
            };
            // The usual sample's unit: one sample that took seconds does not make all others fractions of a second.
            let unit = number::Unit::of(summary.p50.unsigned_abs().max(summary.p90.unsigned_abs()));
            let whole = |value: i64| unit.number(value);
            let fraction = |value: f64| unit.fraction(value);
            let Summary { min, mean, stddev, p50, p90, p99, p999, p9999, max, .. } = *summary;
            let mut row = vec![label.clone(), unit.name().to_owned(), count(summary.count), whole(min)];
            row.extend([fraction(mean), fraction(stddev)]);
            row.extend([p50, p90, p99, p999, p9999, max].map(whole));
            row
        });
        Self { caption: caption.into(), columns, rows: rows.collect() }
    }
}

/// A picture with its words.
#[derive(Debug, Clone)]
pub struct Chart {
    /// What it shows, above it.
    pub title: String,
    /// How to read it, or what was left out, under the title; may be empty.
    pub caption: String,
    /// What is drawn.
    pub plot: Plot,
}

/// What is drawn.
#[derive(Debug, Clone)]
pub enum Plot {
    /// How often which duration occurred.
    Histogram(Histogram),
    /// Which share was below which duration.
    Cdf(Cdf),
    /// Durations and losses over the time of a session.
    OverTime(OverTime),
    /// Where in a packet's way time was spent.
    Stages(Stages),
    /// Durations against a rate.
    Lines(Lines),
}

/// How values lie along an axis.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Scale {
    /// Logarithmic where a few samples lie so far out that the others would be one line; else linear.
    #[default]
    Auto,
    /// Equal distances are equal differences.
    Linear,
    /// Equal distances are equal ratios. Where values are 0 or negative: linear around 0, logarithmic to both sides.
    Log,
}

/// Overlaid histograms. The axis of counts is logarithmic: a single sample far out is seen.
#[derive(Debug, Clone)]
pub struct Histogram {
    /// What the durations are: "round-trip time".
    pub quantity: String,
    /// Along the durations.
    pub scale: Scale,
    /// One to six.
    pub series: Vec<Binned>,
}

/// Overlaid cumulative distributions, drawn so that each further nine (99 %, 99.9 %, …) takes as much room as the last one.
/// A table of the percentiles stands below.
#[derive(Debug, Clone)]
pub struct Cdf {
    /// What the durations are: "round-trip time".
    pub quantity: String,
    /// Along the durations.
    pub scale: Scale,
    /// One to six.
    pub series: Vec<Binned>,
}

/// A distribution to be drawn.
#[derive(Debug, Clone)]
pub struct Binned {
    /// The series' name in the legend.
    pub label: String,
    /// [`Distribution::bins`](crate::stats::Distribution::bins): ascending, apart, in ns. May be empty.
    pub bins: Vec<Bin>,
}

impl Binned {
    /// A series of a distribution as it is now.
    pub fn new(label: impl Into<String>, bins: Vec<Bin>) -> Self {
        Self { label: label.into(), bins }
    }
}

/// Overlaid series over time: the range of all samples, from median to 99th percentile, the median; losses below.
#[derive(Debug, Clone)]
pub struct OverTime {
    /// What the durations are: "round-trip time".
    pub quantity: String,
    /// Along the durations.
    pub scale: Scale,
    /// One to six.
    pub series: Vec<Timeline>,
}

/// A series over time.
#[derive(Debug, Clone)]
pub struct Timeline {
    /// The series' name in the legend.
    pub label: String,
    /// Ascending, apart. Some [`TIME_BINS`] of them are a good number.
    pub bins: Vec<TimeBin>,
}

/// What happened within a piece of time.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct TimeBin {
    /// Where it begins, in ns since the session began.
    pub start_ns: i64,
    /// How long it lasts, in ns.
    pub width_ns: u64,
    /// The samples; `None` where there was none.
    pub spread: Option<Spread>,
    /// Packets that were sent in this time and lost.
    pub lost: u64,
}

/// What a few numbers say of some durations, in ns.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Spread {
    /// Number of samples, from 1.
    pub count: u64,
    /// The smallest.
    pub min: i64,
    /// The median.
    pub p50: i64,
    /// The 99th percentile.
    pub p99: i64,
    /// The largest.
    pub max: i64,
}

impl From<Summary> for Spread {
    fn from(Summary { count, min, p50, p99, max, .. }: Summary) -> Self {
        Self { count, min, p50, p99, max }
    }
}

/// Bars for the stages of a packet's way, on a logarithmic axis: to the median, on to the 99th percentile, and to the
/// largest; the series side by side. A table of the numbers stands below.
#[derive(Debug, Clone)]
pub struct Stages {
    /// From what to what: "card → hook", in the order of the way.
    pub stages: Vec<String>,
    /// One to six.
    pub series: Vec<StageSeries>,
}

/// A series of stages.
#[derive(Debug, Clone)]
pub struct StageSeries {
    /// The series' name in the legend.
    pub label: String,
    /// Of each of the stages; `None` where it was not measured.
    pub stages: Vec<Option<Spread>>,
}

/// Durations against a rate, a line for each percentile. A table of the numbers stands below.
#[derive(Debug, Clone)]
pub struct Lines {
    /// What lies along x: "offered rate".
    pub x: String,
    /// Its unit: "bit/s". Numbers along the axis are 100k, 10M, 1G.
    pub x_unit: String,
    /// Along x; the durations are on a logarithmic axis.
    pub x_scale: Scale,
    /// What the durations are: "round-trip time".
    pub quantity: String,
    /// One to six.
    pub series: Vec<Line>,
}

/// A line with its points.
#[derive(Debug, Clone)]
pub struct Line {
    /// The series' name in the legend.
    pub label: String,
    /// By ascending x.
    pub points: Vec<Point>,
}

/// A point of a line.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Point {
    /// Where along x, in the unit of the axis.
    pub x: u64,
    /// The duration in ns; `None` where there was no sample: the line has a gap.
    pub y: Option<i64>,
    /// The rate that was asked for was reached; where it was not, the point is hollow and the line to it dashed.
    pub reached: bool,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_row_has_the_unit_of_its_usual_samples() {
        let spread = |p50, p90, max| Summary {
            count: 12_345,
            min: -250,
            mean: 5_500.25,
            stddev: 10.0,
            p50,
            p90,
            p99: p90,
            p999: p90,
            p9999: p90,
            max,
        };
        let rows = [
            ("usual".to_owned(), Some(spread(5_432, 6_000, 2_000_000_000))),
            ("small".to_owned(), Some(spread(0, 999, -7))),
            ("none".to_owned(), None),
        ];
        let table = Table::of_summaries("Distributions", &rows);
        assert!(table.rows.iter().all(|row| row.len() == table.columns.len()));
        let row = |index: usize| table.rows[index].iter().map(|cell| cell.replace('\u{202f}', " ")).collect::<Vec<_>>();
        let usual = ["usual", "µs", "12 345", "−0.250", "5.500", "0.010", "5.432", "6.000", "6.000", "6.000", "6.000"];
        assert_eq!((&row(0)[..11], row(0)[11].as_str()), (&usual.map(str::to_owned)[..], "2 000 000.000"));
        assert_eq!(row(1)[1..7], ["ns", "12 345", "−250", "5500.2", "10.0", "0"].map(str::to_owned));
        assert_eq!(row(2)[..4], ["none", "", "0", "–"].map(str::to_owned));
    }
}
