//! Pages in a browser: complete, readable, and with nothing that leaves the file.

#[path = "support/browser.rs"]
mod browser;
#[path = "support/pages.rs"]
mod pages;

use browser::Browser;
use pages::{bin, cdf, chart, histogram, lines, over_time, spread, stages};
use serde_json::{Value, json};
use std::path::PathBuf;
use xdprobe::page::{
    Binned, Column, Page, Plot, Scale, Section, Spread, StageSeries, Stages, Table, TimeBin, Timeline,
};
use xdprobe::stats::Bin;

/// A4 less its margins, in CSS pixels.
const PAPER: u32 = 687;
/// As a browser says white.
const WHITE: &str = "rgb(255, 255, 255)";

/// A page in a file of its own, open in a browser of its own.
struct Opened {
    browser: Browser,
    path: PathBuf,
    _folder: tempfile::TempDir,
}

impl Opened {
    fn new(page: &Page) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("page.html");
        std::fs::write(&path, page.html()).unwrap();
        let mut opened = Self { browser: Browser::start(), path, _folder: folder };
        opened.show(1200, "screen", "light");
        opened
    }

    /// Opens it anew, and checks that it asks for nothing but itself and has no complaint.
    fn show(&mut self, width: u32, medium: &str, scheme: &str) {
        self.browser.show(width, medium, scheme);
        let (requests, console) = self.browser.open(&self.path);
        assert_eq!(requests, [format!("file://{}", self.path.canonicalize().unwrap().display())]);
        assert!(console.is_empty(), "{console:?}");
    }

    fn value(&mut self, expression: &str) -> Value {
        self.browser.evaluate(expression)
    }

    fn count(&mut self, selector: &str) -> u64 {
        self.value(&format!("document.querySelectorAll({selector:?}).length")).as_u64().unwrap()
    }
}

fn page(sections: Vec<Section>) -> Page {
    Page { title: "page".to_owned(), sections, ..Page::default() }
}

/// What is wrong with how a page lies in its window: what sticks out of it, texts that touch, texts and marks outside their
/// picture, pictures without a size.
const LAYOUT: &str = "(() => {
    const wrong = [], root = document.documentElement;
    if (root.scrollWidth > innerWidth) wrong.push(`page: ${root.scrollWidth} of ${innerWidth}`);
    for (const box of document.querySelectorAll('.table, .picture'))
        if (box.scrollWidth > box.clientWidth + 1) wrong.push(`${box.className}: ${box.scrollWidth} of ${box.clientWidth}: ${box.textContent.slice(0, 60)}`);
    for (const figure of document.querySelectorAll('figure.chart')) {
        const name = figure.querySelector('h3').textContent, svg = figure.querySelector('.picture svg');
        const frame = svg.getBoundingClientRect();
        if (frame.width < 300 || frame.height < 60) wrong.push(`${name}: ${frame.width} x ${frame.height}`);
        const outside = box => box.left < frame.left - 1 || box.right > frame.right + 1 || box.top < frame.top - 1 || box.bottom > frame.bottom + 1;
        const texts = [...svg.querySelectorAll('text')].map(text => [text.textContent, text.getBoundingClientRect()]);
        for (const [text, box] of texts) {
            if (box.width == 0) wrong.push(`${name}: ${text} has no size`);
            if (outside(box)) wrong.push(`${name}: ${text} is outside`);
        }
        texts.forEach(([one, a], index) => texts.slice(index + 1).forEach(([other, b]) => {
            const touch = a.left < b.right - .5 && b.left < a.right - .5 && a.top < b.bottom - .5 && b.top < a.bottom - .5;
            if (touch) wrong.push(`${name}: ${one} touches ${other}`);
        }));
        for (const mark of svg.querySelectorAll('.mark')) {
            const box = mark.getBoundingClientRect();
            if (outside(box)) wrong.push(`${name}: a mark is outside`);
            if (box.width == 0 && box.height == 0) wrong.push(`${name}: a mark has no size`);
        }
    }
    return wrong;
})()";

/// The background, and the contrast of the colours that say something with it.
const COLOURS: &str = "(() => {
    const style = getComputedStyle(document.documentElement), probe = document.body.appendChild(document.createElement('i'));
    const luminance = name => {
        probe.style.color = `var(${name})`;
        const parts = getComputedStyle(probe).color.match(/[\\d.]+/g).slice(0, 3).map(part => part / 255);
        const [r, g, b] = parts.map(part => part <= .04045 ? part / 12.92 : ((part + .055) / 1.055) ** 2.4);
        return .2126 * r + .7152 * g + .0722 * b;
    };
    const contrast = name => {
        const [a, b] = [luminance(name), luminance('--paper')];
        return (Math.max(a, b) + .05) / (Math.min(a, b) + .05);
    };
    const lowest = names => Math.min(...names.map(contrast));
    const answer = {
        background: getComputedStyle(document.body).backgroundColor,
        text: lowest(['--ink', '--soft']),
        marks: lowest(['--c0', '--c1', '--c2', '--c3', '--c4', '--c5', '--loss']),
    };
    probe.remove();
    return answer;
})()";

fn looks_right(page: &Page) {
    let charts = page.sections.iter().filter(|section| matches!(section, Section::Chart(_))).count() as u64;
    let mut opened = Opened::new(page);
    let mut backgrounds = Vec::new();
    let shown = [(1200, "light"), (1200, "dark"), (700, "light"), (700, "dark")].map(|(w, s)| (w, "screen", s));
    for (width, medium, scheme) in shown.into_iter().chain([(PAPER, "print", "light"), (PAPER, "print", "dark")]) {
        opened.show(width, medium, scheme);
        assert_eq!(opened.value(LAYOUT), json!([]), "{width} {medium} {scheme}");
        let selector = "figure.chart .picture svg[role=img] > title + desc";
        assert_eq!(opened.count(selector), charts, "{width} {medium} {scheme}");
        let colours = opened.value(COLOURS);
        // As WCAG 2 has it: 4.5 for text, 3 for graphics.
        assert!(colours["text"].as_f64() >= Some(4.5) && colours["marks"].as_f64() >= Some(3.0), "{scheme}: {colours}");
        backgrounds.push(colours["background"].as_str().unwrap().to_owned());
    }
    let dark = backgrounds[1].clone();
    assert_ne!(dark, WHITE);
    assert_eq!(backgrounds, [WHITE, &dark, WHITE, &dark, WHITE, WHITE], "print is light");
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
    let mut opened = Opened::new(&page(vec![chart("h", plot)]));
    assert_eq!((opened.count("path.series"), opened.count(".columns .mark")), (2, 4));
    let hints = opened.value("[...document.querySelectorAll('.columns title')].map(title => title.textContent)");
    let hints: Vec<String> =
        hints.as_array().unwrap().iter().map(|hint| hint.as_str().unwrap().replace('\u{a0}', " ")).collect();
    assert_eq!(hints[1], "6 µs to 6.049 µs\na: 1\nb: 4");
    assert_eq!(opened.value(LAYOUT), json!([]));
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
    let mut opened = Opened::new(&page(vec![chart("c", cdf(series))]));
    assert_eq!((opened.count("path.mark"), opened.count("circle.mark")), (2, 2));
    assert_eq!(opened.value("document.querySelectorAll('tbody td')[5].textContent"), json!("99.900\u{a0}µs"));
    assert_eq!(opened.value(LAYOUT), json!([]));
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
    let mut opened = Opened::new(&page(vec![chart("t", over_time("one-way delay", series))]));
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
    assert_eq!(opened.value(LAYOUT), json!([]));
}

#[test]
fn each_stage_has_a_bar_for_each_series_that_measured_it() {
    let mut opened = Opened::new(&page(vec![chart("s", stages(&["xdp", "kernel"]))]));
    assert_eq!([".mark.solid", ".mark.half", ".mark.whisker"].map(|part| opened.count(part)), [9, 9, 9]);
    assert_eq!(opened.count("svg .name"), 5);
    assert_eq!(opened.count("tbody tr"), 10);
    assert_eq!(opened.value(LAYOUT), json!([]));
}

#[test]
fn lines_have_their_points_where_the_axes_say() {
    let mut opened = Opened::new(&page(vec![chart("l", lines(Scale::Linear, &["p50", "p99"]))]));
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
    let mut opened = Opened::new(&page(sections));
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
    let mut opened = Opened::new(&page);
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
