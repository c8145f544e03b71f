//! Cumulative distributions with their tail.

use super::axis::{Axis, Extent, Tick, Words};
use super::frame::{Frame, Outline, Picture, Px, Sign, X_ROOM, colour, dash, entry};
use super::histogram::{at_rank, extent, named, told, total};
use super::number::{count, duration, fixed};
use super::{Binned, Cdf, Column, Table};
use crate::stats::Bin;
use maud::html;

const HEIGHT: f64 = 320.0;
/// Points closer than this to the last one are not drawn.
const CLOSE: f64 = 0.4;

pub(super) fn draw(cdf: &Cdf) -> Picture {
    let series = &cdf.series;
    let extent = series.iter().filter_map(extent).reduce(Extent::and);
    let shown = extent.unwrap_or(Extent { min: 0, max: 1_000, core: (0, 1_000) });
    let axis = Axis::new(cdf.scale, shown, Words::Duration, X_ROOM);
    let top = series.iter().map(|series| end(total(&series.bins))).fold(1.0, f64::max).ceil();
    let (x, y) = (axis.ticks(), ticks(top));
    let frame = Frame::new(HEIGHT, &x, &y);
    let filled = series.iter().enumerate().filter(|(_, series)| !series.bins.is_empty());
    let curves = filled.map(|(index, series)| {
        let (outline, end) = outline(&frame, &axis, top, &series.bins);
        (index, series, outline, end)
    });
    let curves: Vec<_> = curves.collect();
    let body = html! {
        (frame.axes((&x, &axis.title(&cdf.quantity)), (&y, "share of samples that are not above")))
        @for (index, _, outline, _) in &curves {
            g class={ "series " (colour(*index)) } { path class={ "mark line " (dash(*index)) } d=(outline) {} }
        }
        @for (index, series, _, (x, y)) in &curves {
            g class={ "series " (colour(*index)) } {
                circle class="mark" cx=(Px(*x)) cy=(Px(*y)) r="3" {
                    title { (series.label) ": largest " (duration(series.bins[series.bins.len() - 1].high)) }
                }
            }
        }
        @if extent.is_none() { (frame.empty("no samples")) }
    };
    let legend = series.iter().enumerate().map(|(index, series)| entry(Sign::Line, index, named(series))).collect();
    let described: Vec<String> = series.iter().map(|series| format!("{}: {}.", series.label, told(series))).collect();
    let description = format!(
        "Cumulative distribution of {}, each further nine of the percentiles as high as the last. {}",
        cdf.quantity,
        described.join(" ")
    );
    let table = Some(table(&cdf.quantity, series));
    Picture { class: "cdf", height: frame.total_height(), body, legend, description, table }
}

/// How many nines: 0.9 has one, 0.99 two; of `below` samples among all of `total`.
fn nines(below: u64, total: u64) -> f64 {
    if below == total { end(total) } else { (total as f64 / (total - below) as f64).log10() }
}

/// Where a curve of so many samples ends: half of the largest sample is below. All of it would be infinitely high.
fn end(total: u64) -> f64 {
    (total as f64 * 2.0).log10().max(0.0)
}

fn ticks(top: f64) -> Vec<Tick> {
    let tick = |nines: f64, label: String| Tick { place: nines / top, label: Some(label) };
    let mut ticks = vec![tick(0.0, "0 %".to_owned())];
    if 2f64.log10() / top * HEIGHT > 16.0 {
        ticks.push(tick(2f64.log10(), "50 %".to_owned()));
    }
    ticks.extend((1..=top as usize).map(|nines| tick(nines as f64, percentile(nines))));
    ticks
}

/// "90 %", "99 %", "99.9 %", …
fn percentile(nines: usize) -> String {
    match nines {
        1 => "90 %".to_owned(),
        2 => "99 %".to_owned(),
        _ => format!("99.{} %", "9".repeat(nines - 2)),
    }
}

/// The curve and where it ends.
fn outline(frame: &Frame, axis: &Axis, top: f64, bins: &[Bin]) -> (Outline, (f64, f64)) {
    let total = total(bins);
    let mut outline = Outline::default();
    let mut drawn = None;
    let mut at = (0.0, 0.0);
    let mut go = |x: f64, y: f64, always: bool| {
        at = (x, y);
        match drawn {
            None => outline.move_to(x, y),
            Some((before_x, before_y)) => {
                let close = f64::abs(x - before_x) < CLOSE && f64::abs(y - before_y) < CLOSE;
                if close && !always {
                    return;
                }
                outline.line_to(x, y);
            }
        }
        drawn = Some(at);
    };
    let mut below = 0;
    for (index, bin) in bins.iter().enumerate() {
        let before = nines(below, total) / top;
        below += bin.count;
        go(frame.x(axis.place(bin.low)), frame.y(before), index == 0);
        go(frame.x(axis.place(bin.high)), frame.y(nines(below, total) / top), index + 1 == bins.len());
    }
    (outline, at)
}

/// Percentiles by nearest rank.
fn table(quantity: &str, series: &[Binned]) -> Table {
    let most = series.iter().map(|series| total(&series.bins)).max().unwrap_or(0);
    // As far as the largest series has samples beyond, and no further than a table is wide.
    let nines = (2..=6).filter(|nines| most >= 10u64.pow(*nines));
    let nines: Vec<u32> = std::iter::once(1).chain(nines).collect();
    let mut columns = vec![Column::text(""), Column::number("samples"), Column::number("min"), Column::number("p50")];
    let named = |nines: &u32| Column::number(format!("p{}", percentile(*nines as usize).trim_end_matches(" %")));
    columns.extend(nines.iter().map(named));
    columns.push(Column::number("max"));
    let rows = series.iter().map(|Binned { label, bins }| {
        let total = total(bins);
        let at = |rank: u64| at_rank(bins, rank.max(1)).map_or_else(|| "–".to_owned(), fixed);
        let min = bins.first().map_or_else(|| "–".to_owned(), |bin| fixed(bin.low));
        let mut row = vec![label.clone(), count(total), min, at(total.div_ceil(2))];
        // In integers, as no f64 is 0.999.
        row.extend(nines.iter().map(|nines| at(total - total / 10u64.pow(*nines))));
        row.push(at(total));
        row
    });
    Table { caption: format!("Percentiles of {quantity}"), columns, rows: rows.collect() }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn each(values: impl IntoIterator<Item = i64>) -> Vec<Bin> {
        values.into_iter().map(|value| Bin { low: value, high: value, count: 1 }).collect()
    }

    #[test]
    fn a_nine_more_is_a_step_more() {
        assert_eq!([nines(0, 1000), nines(900, 1000), nines(990, 1000), nines(999, 1000)], [0.0, 1.0, 2.0, 3.0]);
        assert!((nines(1000, 1000) - 2000f64.log10()).abs() < 1e-12);
        assert_eq!([1, 2, 3, 5].map(percentile), ["90 %", "99 %", "99.9 %", "99.999 %"]);
    }

    #[test]
    fn the_table_has_the_percentiles_by_nearest_rank() {
        let series = [Binned::new("a", each((1..=1000).map(|n| n * 1000))), Binned::new("b", vec![])];
        let table = table("delay", &series);
        let names: Vec<&str> = table.columns.iter().map(|column| column.name.as_str()).collect();
        assert_eq!(names, ["", "samples", "min", "p50", "p90", "p99", "p99.9", "max"]);
        let cells = |row: usize| table.rows[row].iter().map(|cell| cell.replace('\u{a0}', " ")).collect::<Vec<_>>();
        assert_eq!(
            cells(0),
            ["a", "1000", "1.000 µs", "500.000 µs", "900.000 µs", "990.000 µs", "999.000 µs", "1.000 ms"]
        );
        assert_eq!(cells(1), ["b", "0", "–", "–", "–", "–", "–", "–"]);
    }

    #[test]
    fn three_million_bins_make_a_short_path() {
        use maud::Render;
        let bins = each((0..3_000_000).map(|n| 5_000 + n * 3));
        let axis =
            Axis::new(crate::page::Scale::Auto, Extent::of([5_000, 9_005_000]).unwrap(), Words::Duration, X_ROOM);
        let frame = Frame::new(HEIGHT, &axis.ticks(), &ticks(7.0));
        let (outline, _) = outline(&frame, &axis, 7.0, &bins);
        let length = outline.render().0.len();
        assert!((500..60_000).contains(&length), "{length}");
    }
}
