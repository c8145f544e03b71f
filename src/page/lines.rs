//! Durations against a rate.

use super::axis::{Axis, Extent, Words};
use super::frame::{Entry, Frame, Outline, Picture, Sign, X_ROOM, colour, dash, entry, mark, swatch};
use super::number::{duration, fixed, prefixed};
use super::{Column, Line, Lines, Point, Scale, Table};
use maud::{Markup, html};

pub(super) fn draw(lines: &Lines) -> Picture {
    let points = || lines.series.iter().flat_map(|series| &series.points);
    let rates = Extent::of(points().map(|point| whole(point.x)));
    let extent = Extent::of(points().filter_map(|point| point.y));
    // Where the durations differ by less than a step of a logarithmic axis, it would have no second number.
    let scale = match extent {
        Some(Extent { min, max, .. }) if min > 0 && max / min < 3 => Scale::Linear,
        _ => Scale::Log,
    };
    let room = Extent { min: 1_000, max: 10_000, core: (1_000, 10_000) };
    // Beside negative ones the smallest is still to be seen.
    let smallest = points().filter_map(|point| point.y).filter(|y| *y > 0).min();
    let core = |extent: Extent| smallest.map_or(extent, |y| Extent { core: (y, y), ..extent });
    let axis = Axis::new(scale, extent.map_or(room, core), Words::Duration, 12);
    let rate = Axis::new(lines.x_scale, rates.unwrap_or(Extent { min: 0, ..room }), Words::Prefixed, X_ROOM);
    let (x, y) = (rate.ticks(), axis.ticks());
    let frame = Frame::new(320.0, &x, &y);
    let x_title = format!("{} ({})", lines.x, lines.x_unit);
    let place = |point: &Point| Some((frame.x(rate.place(whole(point.x))), frame.y(axis.place(point.y?))));
    let body = html! {
        (frame.axes((&x, &x_title), (&y, &axis.title(&lines.quantity))))
        // No series' line lies over another's points.
        @for (index, series) in lines.series.iter().enumerate() {
            g class={ "series " (colour(index)) } { (line(index, series, place)) }
        }
        @for (index, series) in lines.series.iter().enumerate() {
            g class={ "series " (colour(index)) } { (marks(index, series, &lines.x_unit, place)) }
        }
        @if extent.is_none() { (frame.empty("no samples")) }
    };
    let missed = points().any(|point| !point.reached);
    let described: Vec<String> = lines.series.iter().map(|series| told(series, &lines.x_unit)).collect();
    let description = format!("{} against {}. {}", lines.quantity, lines.x, described.join(" "));
    Picture {
        class: "lines",
        height: frame.total_height(),
        body,
        legend: legend(lines, missed),
        description,
        table: Some(table(lines, missed)),
    }
}

fn whole(x: u64) -> i64 {
    i64::try_from(x).unwrap_or(i64::MAX)
}

fn at(point: &Point, unit: &str) -> String {
    format!("{} {unit}", prefixed(whole(point.x)))
}

/// The line in two parts, as what was not reached is dashed.
fn line(index: usize, series: &Line, place: impl Fn(&Point) -> Option<(f64, f64)>) -> Markup {
    let (mut reached, mut missed) = (Outline::default(), Outline::default());
    for pair in series.points.windows(2) {
        let (Some(from), Some(to)) = (place(&pair[0]), place(&pair[1])) else { continue };
        let outline = if pair[0].reached && pair[1].reached { &mut reached } else { &mut missed };
        outline.move_to(from.0, from.1);
        outline.line_to(to.0, to.1);
    }
    html! {
        @if !reached.is_empty() { path class={ "line " (dash(index)) } d=(reached) {} }
        @if !missed.is_empty() { path class="line missed" d=(missed) {} }
    }
}

/// A mark for each point.
fn marks(index: usize, series: &Line, unit: &str, place: impl Fn(&Point) -> Option<(f64, f64)>) -> Markup {
    html! {
        @for point in &series.points {
            @if let (Some((x, y)), Some(value)) = (place(point), point.y) {
                @let class = if point.reached { "mark" } else { "mark hollow" };
                @let not = if point.reached { "" } else { ", not reached" };
                (mark(index, x, y, class, Some(&format!("{}: {} at {}{not}", series.label, duration(value), at(point, unit)))))
            }
        }
    }
}

fn legend(lines: &Lines, missed: bool) -> Vec<Entry> {
    let series = lines.series.iter().enumerate().map(|(index, series)| {
        let text = match series.points.iter().any(|point| point.y.is_some()) {
            true => series.label.clone(),
            false => format!("{} (no samples)", series.label),
        };
        entry(Sign::Mark, index, text)
    });
    let hollow = html! { path class="line missed" d="M1 7h24" {} circle class="mark hollow" cx="13" cy="7" r="4" {} };
    let hollow = Entry { sign: swatch("neutral", &hollow), text: "hollow: the rate was not reached".to_owned() };
    series.chain(missed.then_some(hollow)).collect()
}

fn told(series: &Line, unit: &str) -> String {
    let points: Vec<String> = series
        .points
        .iter()
        .map(|point| {
            let value = point.y.map_or_else(|| "no samples".to_owned(), duration);
            format!("{value} at {}{}", at(point, unit), if point.reached { "" } else { " (not reached)" })
        })
        .collect();
    format!("{}: {}.", series.label, if points.is_empty() { "no samples".to_owned() } else { points.join(", ") })
}

/// A row for each rate.
fn table(lines: &Lines, missed: bool) -> Table {
    // A rate that a series has twice has two rows.
    let of = |series: &Line, (rate, nth): (u64, usize)| {
        series.points.iter().filter(|point| point.x == rate).nth(nth).copied()
    };
    let twice = |points: &[Point]| -> Vec<(u64, usize)> {
        let before = |index: usize| points[..index].iter().filter(|point| point.x == points[index].x).count();
        (0..points.len()).map(|index| (points[index].x, before(index))).collect()
    };
    let mut rates: Vec<(u64, usize)> = lines.series.iter().flat_map(|series| twice(&series.points)).collect();
    rates.sort_unstable();
    rates.dedup();
    let mut columns = vec![Column::number(format!("{} ({})", lines.x, lines.x_unit))];
    columns.extend(lines.series.iter().map(|series| Column::number(series.label.clone())));
    if missed {
        columns.push(Column::text("target"));
    }
    let rows = rates.into_iter().map(|rate| {
        let mut row = vec![prefixed(whole(rate.0))];
        row.extend(
            lines
                .series
                .iter()
                .map(|series| of(series, rate).and_then(|point| point.y).map_or_else(|| "–".to_owned(), fixed)),
        );
        if missed {
            let reached = lines.series.iter().filter_map(|series| of(series, rate)).all(|point| point.reached);
            row.push(if reached { "reached" } else { "not reached" }.to_owned());
        }
        row
    });
    Table { caption: format!("{} against {}", lines.quantity, lines.x), columns, rows: rows.collect() }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_line_lies_over_a_point() {
        let points = |y| [10, 20].map(|x| Point { x, y: Some(y), reached: x < 20 }).to_vec();
        let lines = Lines {
            x: "offered rate".to_owned(),
            x_unit: "bit/s".to_owned(),
            x_scale: Scale::Linear,
            quantity: "delay".to_owned(),
            series: [("p50", 5_000), ("p99", 9_000)]
                .map(|(label, y)| Line { label: label.to_owned(), points: points(y) })
                .into(),
        };
        let body = draw(&lines).body.into_string();
        assert_eq!((body.matches("class=\"line ").count(), body.matches("class=\"mark").count()), (2, 4));
        assert!(body.rfind("class=\"line ") < body.find("class=\"mark"));
    }

    #[test]
    fn the_table_has_a_row_for_each_rate() {
        let point = |x, y, reached| Point { x, y, reached };
        let a =
            Line { label: "p50".to_owned(), points: vec![point(0, Some(5_000), true), point(1_000_000, None, false)] };
        let b =
            Line { label: "p99".to_owned(), points: vec![point(0, Some(9_000), true), point(0, Some(8_000), true)] };
        let lines = Lines {
            x: "offered rate".to_owned(),
            x_unit: "bit/s".to_owned(),
            x_scale: Scale::Linear,
            quantity: "round-trip time".to_owned(),
            series: vec![a, b],
        };
        let table = table(&lines, true);
        assert_eq!(
            table.rows,
            [
                ["0", "5.000\u{a0}µs", "9.000\u{a0}µs", "reached"],
                ["0", "–", "8.000\u{a0}µs", "reached"],
                ["1M", "–", "–", "not reached"]
            ]
        );
    }
}
