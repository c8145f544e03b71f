//! Pages in a browser: complete, readable, and with nothing that leaves the file.

#[path = "support/opened.rs"]
mod opened;
#[path = "support/pages.rs"]
mod pages;

use opened::Opened;
use pages::{bin, cdf, chart, histogram, lines, over_time, spread, stages};
use serde_json::json;
use xdprobe::page::{
    Binned, Column, Page, Plot, Scale, Section, Spread, StageSeries, Stages, Table, TimeBin, Timeline,
};
use xdprobe::stats::Bin;

fn page(sections: Vec<Section>) -> Page {
    Page { title: "page".to_owned(), sections, ..Page::default() }
}

fn looks_right(page: &Page) {
    let charts = page.sections.iter().filter_map(|section| match section {
        Section::Chart(chart) => Some(chart),
        _ => None,
    });
    let kinds: Vec<&str> = charts
        .map(|chart| match chart.plot {
            Plot::Histogram(_) => "histogram",
            Plot::Cdf(_) => "cdf",
            Plot::OverTime(_) => "over-time",
            Plot::Stages(_) => "stages",
            Plot::Lines(_) => "lines",
        })
        .collect();
    Opened::of(&page.html()).looks_right(&kinds);
}

#[test]
fn a_usual_page_is_readable_in_each_light_and_on_paper() {
    looks_right(&pages::usual());
}

#[test]
fn a_page_of_extremes_is_readable_in_each_light_and_on_paper() {
    looks_right(&pages::hard());
}

#[test]
fn a_histogram_has_a_column_wherever_there_are_samples() {
    let a = vec![bin(5_000, 5_000, 10), bin(6_000, 6_000, 1), bin(9_000, 9_000, 1_000)];
    let b = vec![bin(6_000, 6_000, 4), bin(8_000, 8_000, 100)];
    let plot = histogram(vec![Binned::new("a", a), Binned::new("b", b), Binned::new("none", vec![])]);
    let mut opened = Opened::of(&page(vec![chart("h", plot)]).html());
    assert_eq!((opened.count("path.series"), opened.count(".columns .mark")), (2, 4));
    let hints = opened.value("[...document.querySelectorAll('.columns title')].map(title => title.textContent)");
    let hints: Vec<String> =
        hints.as_array().unwrap().iter().map(|hint| hint.as_str().unwrap().replace('\u{a0}', " ")).collect();
    assert_eq!(hints[1], "6 µs to 6.049 µs\na: 1\nb: 4");
    opened.lies_right();
    // The highest column reaches the line of its count, its left side the line of its value.
    let aligned = opened.value(
        "(() => {
            const label = (text, side) => [...document.querySelectorAll('svg .tick.' + side)].find(tick => tick.textContent == text).getBoundingClientRect();
            const box = document.querySelector('path.series').getBoundingClientRect(), count = label('1k', 'end'), value = label('5', 'middle');
            return [box.top - (count.top + count.bottom) / 2, box.left - (value.left + value.right) / 2];
        })()",
    );
    assert!(aligned.as_array().unwrap().iter().all(|apart| apart.as_f64().unwrap().abs() < 2.0), "{aligned}");
}

#[test]
fn a_cdf_has_a_curve_for_each_series_with_samples() {
    let bins = |scale: i64| (1..=1000).map(|n| bin(n * scale, n * scale, 1)).collect::<Vec<_>>();
    let series = vec![Binned::new("a", bins(100)), Binned::new("b", bins(1_000)), Binned::new("none", vec![])];
    let mut opened = Opened::of(&page(vec![chart("c", cdf(series))]).html());
    assert_eq!((opened.count("path.mark"), opened.count("circle.mark")), (2, 2));
    assert_eq!(opened.value("document.querySelectorAll('tbody td')[5].textContent"), json!("99.900\u{a0}µs"));
    opened.lies_right();
}

#[test]
fn time_has_its_bins_and_its_losses() {
    let bins = |lossy: fn(i64) -> bool| {
        let bin = |n: i64| TimeBin {
            start_ns: n * 1_000_000,
            width_ns: 1_000_000,
            spread: if n == 7 { None } else { spread(-2_000 + n * 100, 3_000, 9_000) },
            lost: u64::from(lossy(n)),
        };
        (0..50).map(bin).collect::<Vec<_>>()
    };
    let line = |label: &str, bins| Timeline { label: label.to_owned(), bins };
    let series = vec![line("forward", bins(|n| n % 10 == 7)), line("backward", bins(|_| false))];
    let mut opened = Opened::of(&page(vec![chart("t", over_time("one-way delay", series))]).html());
    assert_eq!((opened.count(".mark.loss"), opened.count("path.mark.line"), opened.count(".hover")), (5, 2, 50));
    // A gap begins a further part of the line.
    let parts = opened.value("document.querySelector('path.mark.line').getAttribute('d').match(/M/g).length");
    assert_eq!(parts, json!(2));
    let hint = opened
        .value("document.querySelectorAll('.hover title')[7].textContent")
        .as_str()
        .unwrap()
        .replace('\u{a0}', " ");
    assert_eq!(hint, "7 ms to 8 ms\nforward: no samples, 1 lost (100 %)\nbackward: no samples");
    opened.lies_right();
}

#[test]
fn each_stage_has_a_bar_for_each_series_that_measured_it() {
    let mut opened = Opened::of(&page(vec![chart("s", stages(&["xdp", "kernel"]))]).html());
    assert_eq!([".mark.solid", ".mark.half", ".mark.whisker"].map(|part| opened.count(part)), [9, 9, 9]);
    assert_eq!(opened.count("svg .name"), 5);
    assert_eq!(opened.count("tbody tr"), 10);
    opened.lies_right();
}

#[test]
fn lines_have_their_points_where_the_axes_say() {
    let mut opened = Opened::of(&page(vec![chart("l", lines(Scale::Linear, &["p50", "p99"]))]).html());
    assert_eq!((opened.count(".picture .mark"), opened.count(".picture .mark.hollow")), (14, 4));
    // The fourth point of the first line is at 5 Gbit/s.
    let apart = opened.value(
        "(() => {
            const tick = [...document.querySelectorAll('svg .tick')].find(tick => tick.textContent == '5G').getBoundingClientRect();
            const mark = document.querySelectorAll('.picture .s0 .mark')[3].getBoundingClientRect();
            return (tick.left + tick.right - mark.left - mark.right) / 2;
        })()",
    );
    assert!(apart.as_f64().unwrap().abs() < 1.5, "{apart}");
    let rising = opened.value(
        "[...document.querySelectorAll('.picture .s1 .mark')].map(mark => mark.getBoundingClientRect().top).every((top, n, all) => n == 0 || top < all[n - 1])",
    );
    assert_eq!(rising, json!(true));
}

/// How far each pair of places in the n-th picture is apart: the middle of the tick with this label, and a side of what the
/// selector finds first.
fn apart(opened: &mut Opened, picture: u32, pairs: &[(&str, &str, &str)]) -> Vec<f64> {
    let apart = |(label, selector, side): &(&str, &str, &str)| {
        let expression = format!(
            "(() => {{
                const picture = document.querySelector('#chart-{picture} .picture');
                const ticks = [...picture.querySelectorAll('.tick')].filter(tick => tick.textContent == {label:?});
                const box = picture.querySelector({selector:?}).getBoundingClientRect(), tick = ticks[0].getBoundingClientRect();
                const upright = ['top', 'bottom'].includes({side:?});
                return box[{side:?}] - (upright ? tick.top + tick.bottom : tick.left + tick.right) / 2;
            }})()"
        );
        opened.value(&expression).as_f64().unwrap()
    };
    pairs.iter().map(apart).collect()
}

#[test]
fn curves_bands_and_bars_end_at_the_ticks_of_their_values() {
    let tailed = vec![bin(1_000, 1_000, 990), bin(10_000, 10_000, 9), bin(100_000, 100_000, 1)];
    let spread = |p50, p99, max| Some(Spread { count: 1_000, min: 1_000, p50, p99, max });
    let bins = |n: i64| TimeBin {
        start_ns: n * 1_000_000_000,
        width_ns: 1_000_000_000,
        spread: spread(10_000, 100_000, 1_000_000),
        lost: 0,
    };
    let line = Timeline { label: "a".to_owned(), bins: (1..4).map(bins).collect() };
    let way = Stages {
        stages: vec!["way".to_owned()],
        series: vec![StageSeries { label: "a".to_owned(), stages: vec![spread(10_000, 100_000, 1_000_000)] }],
    };
    let sections = vec![
        chart("c", cdf(vec![Binned::new("a", tailed)])),
        chart("t", over_time("delay", vec![line])),
        chart("s", Plot::Stages(way)),
    ];
    let mut opened = Opened::of(&page(sections).html());
    // Half of a stroke or of a dot's edge.
    let near = |apart: &[f64]| apart.iter().all(|apart| apart.abs() < 2.5);
    let curve =
        [("1\u{a0}µs", "path.mark", "left"), ("100\u{a0}µs", "path.mark", "right"), ("0 %", "path.mark", "bottom")];
    let curve = apart(&mut opened, 1, &curve);
    assert!(near(&curve), "{curve:?}");
    let all = [
        ("1\u{a0}ms", ".range", "top"),
        ("1\u{a0}µs", ".range", "bottom"),
        ("10\u{a0}µs", ".mark.line", "top"),
        ("1", ".range", "left"),
        ("4", ".range", "right"),
    ];
    let band = apart(&mut opened, 2, &all);
    assert!(near(&band), "{band:?}");
    let upper = apart(
        &mut opened,
        2,
        &[("100\u{a0}µs", ".range + .range", "top"), ("10\u{a0}µs", ".range + .range", "bottom")],
    );
    assert!(near(&upper), "{upper:?}");
    let bar = [
        ("10\u{a0}µs", ".mark.solid", "right"),
        ("100\u{a0}µs", ".mark.half", "right"),
        ("1\u{a0}ms", ".mark.whisker", "right"),
    ];
    let bar = apart(&mut opened, 3, &bar);
    assert!(near(&bar), "{bar:?}");
}

#[test]
fn what_looks_like_markup_is_text() {
    let evil = "</title><script>document.title='run'</script><img src=x onerror=alert(1)>&amp;\"'";
    let label = || evil.to_owned();
    let bins = vec![bin(1, 1, 1)];
    let timeline =
        Timeline { label: label(), bins: vec![TimeBin { start_ns: 0, width_ns: 1, spread: spread(1, 1, 1), lost: 1 }] };
    let mut page = page(vec![
        Section::Heading(label()),
        Section::Text(label()),
        Section::Note(label()),
        Section::Table(Table { caption: label(), columns: vec![Column::text(evil); 8], rows: vec![vec![label(); 8]] }),
        chart(evil, histogram(vec![Binned::new(evil, bins.clone())])),
        chart(evil, cdf(vec![Binned::new(evil, bins)])),
        chart(evil, over_time(evil, vec![timeline])),
        chart(evil, stages(&[evil])),
        chart(evil, lines(Scale::Auto, &[evil])),
    ]);
    (page.title, page.subtitle, page.facts) = (label(), label(), vec![(label(), label())]);
    let mut opened = Opened::of(&page.html());
    assert_eq!((opened.count("script"), opened.count("img"), opened.count("figure")), (0, 0, 5));
    assert_eq!(opened.value("document.title"), json!(evil));
    assert_eq!(opened.value("document.querySelector('h1').textContent"), json!(evil));
    assert_eq!(opened.value("document.querySelector('.wide td').getAttribute('data-head')"), json!(evil));
    assert_eq!(opened.value("document.querySelectorAll('.lines .legend span')[0].textContent"), json!(evil));
}

#[test]
fn millions_of_bins_make_a_small_page() {
    let many: Vec<Bin> = (0..3_000_000).map(|n| bin(5_000 + n * 7, 5_000 + n * 7, 1 + (n as u64 % 13))).collect();
    let line = pages::timeline("long", 20_000, 5_000.0, 0, |n| u64::from(n % 3 == 0));
    let binned = || vec![Binned::new("a", many.clone()), Binned::new("b", many.clone())];
    let page = page(vec![
        chart("h", histogram(binned())),
        chart("c", cdf(binned())),
        chart("t", over_time("delay", vec![line])),
    ]);
    let size = page.html().len();
    assert!(size < 400_000, "{size} bytes");
}
