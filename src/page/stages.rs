//! Where in a packet's way time was spent.

use super::axis::{Axis, Extent, Words};
use super::frame::{Entry, Frame, Picture, Px, X_ROOM, colour, swatch};
use super::number::{count, duration, fixed};
use super::{Column, Scale, Spread, StageSeries, Stages, Table};
use maud::{Markup, html};

/// Of a bar, with the air below it.
const BAR: f64 = 15.0;
/// Of a stage's name and the air around.
const NAME: f64 = 26.0;

pub(super) fn draw(stages: &Stages) -> Picture {
    let bars = || stages.series.iter().flat_map(|series| series.stages.iter().flatten());
    // The smallest bar needs some length.
    let extent = Extent::of(bars().flat_map(|spread| [spread.p50, spread.p99, spread.max]));
    let shown = extent.unwrap_or(Extent { min: 1, max: 1_000, core: (1, 1_000) });
    // Beside negative ones, the smallest is still to be seen.
    let smallest = bars().map(|spread| spread.p50.saturating_abs()).filter(|p50| *p50 > 0).min().unwrap_or(1);
    let shown = Extent { core: (smallest, smallest), ..shown };
    let from = if shown.min > 1 { shown.min * 2 / 3 } else { shown.min };
    let axis = Axis::new(Scale::Log, Extent { min: from, ..shown }, Words::Duration, X_ROOM);
    let x = axis.ticks();
    // A series that has no samples of a stage has no bar there, and takes no room.
    let measured = |stage: usize| {
        let spread = move |series: &StageSeries| series.stages.get(stage).copied().flatten();
        stages.series.iter().enumerate().filter_map(move |(index, series)| Some((index, series, spread(series)?)))
    };
    let heights: Vec<f64> =
        (0..stages.stages.len()).map(|stage| NAME + BAR * measured(stage).count().max(1) as f64).collect();
    let height = heights.iter().sum::<f64>().max(60.0);
    let frame = Frame { left: 28.0, top: 6.0, ..Frame::new(height, &x, &[]) };
    let frame = Frame { width: frame.width + 16.0, ..frame };
    let body = html! {
        (frame.axes((&x, &axis.title("duration")), (&[], "")))
        @for (stage, name) in stages.stages.iter().enumerate() {
            @let top = frame.top + heights[..stage].iter().sum::<f64>();
            text class="name" x=(Px(frame.left + 2.0)) y=(Px(top + NAME - 8.0)) { (name) }
            @for (place, (index, series, spread)) in measured(stage).enumerate() {
                @let hint = format!("{name}, {}: {}", series.label, said(&spread));
                (bar(&frame, &axis, index, top + NAME + BAR * place as f64, spread, &hint))
            }
        }
        @if extent.is_none() { (frame.empty("no samples")) }
    };
    let described: Vec<String> = stages
        .series
        .iter()
        .flat_map(|series| {
            stages.stages.iter().zip(&series.stages).map(|(name, spread)| match spread {
                Some(spread) => format!("{name}, {}: {}.", series.label, said(spread)),
                None => format!("{name}, {}: not measured.", series.label),
            })
        })
        .collect();
    let description =
        format!("Durations of the stages of a packet's way, on a logarithmic axis. {}", described.join(" "));
    Picture {
        class: "stages",
        height: frame.total_height(),
        body,
        legend: legend(stages),
        description,
        table: Some(table(stages)),
    }
}

/// To the median, on to the 99th percentile, and a line to the largest.
fn bar(frame: &Frame, axis: &Axis, series: usize, top: f64, spread: Spread, hint: &str) -> Markup {
    let x = |place: f64| frame.x(place);
    let (origin, p50) = (x(axis.origin()), x(axis.place(spread.p50)));
    let (p99, max) = (x(axis.place(spread.p99)), x(axis.place(spread.max)));
    let height = BAR - 4.0;
    html! {
        g class={ "bar " (colour(series)) } {
            title { (hint) }
            rect class="mark solid" x=(Px(origin.min(p50))) y=(Px(top)) width=(Px((p50 - origin).abs().max(1.0))) height=(Px(height)) {}
            rect class="mark half" x=(Px(p50)) y=(Px(top)) width=(Px((p99 - p50).max(0.5))) height=(Px(height)) {}
            path class="mark whisker" d={ "M" (Px(p99)) " " (Px(top + height / 2.0)) "L" (Px(max)) " " (Px(top + height / 2.0)) "M" (Px(max)) " " (Px(top)) "v" (Px(height)) } {}
        }
    }
}

fn said(Spread { count: samples, p50, p99, max, .. }: &Spread) -> String {
    format!("p50 {}, p99 {}, max {}, {} samples", duration(*p50), duration(*p99), duration(*max), count(*samples))
}

fn legend(stages: &Stages) -> Vec<Entry> {
    let series = stages.series.iter().enumerate().map(|(index, series)| {
        let sign = swatch(&colour(index), &html! { rect class="solid" x="1" y="2" width="24" height="10" {} });
        Entry { sign, text: series.label.clone() }
    });
    let parts = html! { rect class="solid" x="1" y="2" width="8" height="10" {} rect class="half" x="9" y="2" width="8" height="10" {} path class="whisker" d="M17 7H24M24 2v10" {} };
    let parts = Entry {
        sign: swatch("neutral", &parts),
        text: "full: to p50; lighter: to p99; line: to the largest".to_owned(),
    };
    series.chain([parts]).collect()
}

fn table(stages: &Stages) -> Table {
    let columns = vec![
        Column::text("stage"),
        Column::text("series"),
        Column::number("samples"),
        Column::number("min"),
        Column::number("p50"),
        Column::number("p99"),
        Column::number("max"),
    ];
    let rows = stages.stages.iter().enumerate().flat_map(|(stage, name)| {
        stages.series.iter().map(move |series| {
            let mut row = vec![name.clone(), series.label.clone()];
            match series.stages.get(stage).copied().flatten() {
                Some(Spread { count: samples, min, p50, p99, max }) => {
                    row.push(count(samples));
                    row.extend([min, p50, p99, max].map(fixed));
                }
                None => row.extend(["0", "–", "–", "–", "–"].map(str::to_owned)),
            }
            row
        })
    });
    Table { caption: "Stages".to_owned(), columns, rows: rows.collect() }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_axis_says_that_it_is_logarithmic_and_where_it_ends() {
        let spread = |p50, p99, max| Some(Spread { count: 9, min: 1, p50, p99, max });
        let series = StageSeries {
            label: "a".to_owned(),
            stages: vec![spread(10_300, 33_000, 2_050_000), spread(2_300, 5_000, 31_000)],
        };
        let stages = Stages { stages: vec!["hook → app".to_owned(), "app → sw".to_owned()], series: vec![series] };
        let body = draw(&stages).body.into_string();
        let ticks = body.split("<text class=\"tick middle\"").skip(1);
        let ticks = ticks.map(|rest| rest.split(['>', '<']).nth(1).unwrap().replace('\u{a0}', " "));
        assert_eq!(ticks.collect::<Vec<_>>(), ["1 µs", "10 µs", "100 µs", "1 ms", "5 ms"]);
        assert!(body.contains(">duration (logarithmic)</text>"), "{body}");
    }
}
