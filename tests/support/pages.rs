//! Pages of known data: what the program would show, and what is hard to show.

use xdprobe::page::{
    Binned, Cdf, Chart, Column, Histogram, Line, Lines, OverTime, Page, Plot, Point, Scale, Section, Spread,
    StageSeries, Stages, Table, TimeBin, Timeline,
};
use xdprobe::stats::{Bin, Distribution};

/// 60 characters.
pub const LONG: &str = "bypass on both sides, zero copy, hardware stamps, rack 12-b5";

/// Numbers that look like chance and are the same each time.
pub struct Noise(u64);

impl Noise {
    pub fn new(seed: u64) -> Self {
        Self(seed.wrapping_mul(0x9E37_79B9_7F4A_7C15) | 1)
    }

    /// From 0 to below 1.
    pub fn next(&mut self) -> f64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        (self.0 >> 11) as f64 / (1u64 << 53) as f64
    }

    /// About so much, mostly more, seldom a lot: as round-trip times are.
    pub fn delay(&mut self, typical: f64, tail: f64) -> i64 {
        let usual = typical * (0.93 + 0.06 * (self.next() + self.next() + self.next()));
        let rare = if self.next() < 0.004 { typical * tail * self.next().powi(6) * 40.0 } else { 0.0 };
        (usual - typical * 0.05 * self.next().ln() + rare) as i64
    }
}

pub fn distribution(samples: usize, typical: f64, tail: f64, seed: u64) -> Distribution {
    let mut noise = Noise::new(seed);
    let mut distribution = Distribution::new();
    (0..samples).for_each(|_| distribution.record(noise.delay(typical, tail)));
    distribution
}

pub fn binned(label: &str, samples: usize, typical: f64, tail: f64) -> Binned {
    Binned::new(label, distribution(samples, typical, tail, label.len() as u64 + samples as u64).bins())
}

pub fn bin(low: i64, high: i64, count: u64) -> Bin {
    Bin { low, high, count }
}

pub fn chart(title: &str, plot: Plot) -> Section {
    Section::Chart(Chart { title: title.to_owned(), caption: String::new(), plot })
}

pub fn histogram(series: Vec<Binned>) -> Plot {
    Plot::Histogram(Histogram { quantity: "round-trip time".to_owned(), scale: Scale::Auto, series })
}

pub fn cdf(series: Vec<Binned>) -> Plot {
    Plot::Cdf(Cdf { quantity: "round-trip time".to_owned(), scale: Scale::Auto, series })
}

pub fn over_time(quantity: &str, series: Vec<Timeline>) -> Plot {
    Plot::OverTime(OverTime { quantity: quantity.to_owned(), scale: Scale::Auto, series })
}

/// A time line with so many time bins of 100 ms; `lost` says how many of a bin's 100 packets were lost.
pub fn timeline(label: &str, bins: usize, typical: f64, offset: i64, lost: impl Fn(usize) -> u64) -> Timeline {
    let mut noise = Noise::new(bins as u64 + label.len() as u64);
    let bins = (0..bins).map(|index| {
        let wave = typical * (1.0 + 0.2 * (index as f64 / 17.0).sin());
        let mut samples = Distribution::new();
        (0..100 - lost(index)).for_each(|_| samples.record(offset + noise.delay(wave, 8.0)));
        let spread = samples.summary().map(Spread::from);
        TimeBin { start_ns: index as i64 * 100_000_000, width_ns: 100_000_000, spread, lost: lost(index) }
    });
    Timeline { label: label.to_owned(), bins: bins.collect() }
}

pub fn spread(p50: i64, p99: i64, max: i64) -> Option<Spread> {
    Some(Spread { count: 10_000, min: p50 - p50.abs() / 10, p50, p99, max })
}

pub fn stages(labels: &[&str]) -> Plot {
    let names =
        ["application → driver", "driver → card", "card → card (the wire)", "card → hook", "hook → application"];
    let series = labels.iter().enumerate().map(|(index, label)| {
        let more = 1 + 3 * index as i64;
        StageSeries {
            label: (*label).to_owned(),
            stages: vec![
                spread(450 * more, 900 * more, 12_000 * more),
                spread(320, 480, 1_900),
                spread(1_130, 1_170, 1_420),
                if index == 0 { spread(210, 390, 5_200) } else { None },
                spread(700 * more, 2_100 * more, 48_000 * more),
            ],
        }
    });
    Plot::Stages(Stages { stages: names.map(str::to_owned).to_vec(), series: series.collect() })
}

pub fn lines(scale: Scale, labels: &[&str]) -> Plot {
    let rates = [0, 1_000_000_000, 2_500_000_000, 5_000_000_000, 7_500_000_000, 9_000_000_000, 10_000_000_000];
    let rates = if scale == Scale::Log { &rates[1..] } else { &rates[..] };
    let series = labels.iter().enumerate().map(|(index, label)| {
        let points = rates.iter().enumerate().map(|(step, rate)| {
            let load = *rate as f64 / 1e10;
            let y = 6_000.0 * (1.0 + 3.0 * index as f64) / (1.02 - load).powf(0.7 + 0.3 * index as f64);
            Point { x: *rate, y: Some(y as i64), reached: step + 2 < rates.len() || index == 3 }
        });
        Line { label: (*label).to_owned(), points: points.collect() }
    });
    Plot::Lines(Lines {
        x: "offered rate".to_owned(),
        x_unit: "bit/s".to_owned(),
        x_scale: scale,
        quantity: "round-trip time".to_owned(),
        series: series.collect(),
    })
}

/// As the program might show a comparison.
pub fn usual() -> Page {
    let mut xdp = distribution(200_000, 5_600.0, 1.0, 1);
    let mut kernel = distribution(200_000, 21_000.0, 1.6, 2);
    let both = || vec![Binned::new("xdp", xdp.clone().bins()), Binned::new("kernel", kernel.clone().bins())];
    let lost = |index: usize| if index == 120 { 30 } else { u64::from(index % 47 == 3) };
    let (histogram, cdf) = (histogram(both()), cdf(both()));
    let summaries = [
        ("round-trip time, xdp".to_owned(), xdp.summary()),
        ("round-trip time, kernel".to_owned(), kernel.summary()),
        ("t3 − t0, xdp".to_owned(), None),
    ];
    let fact = |name: &str, value: &str| (name.to_owned(), value.to_owned());
    Page {
        title: "Round-trip time of two paths to 10.66.0.2".to_owned(),
        subtitle: "xdprobe compare --interface eth1 --rounds 10 10.66.0.2, on 22 November 2026 at 09:00:00 UTC"
            .to_owned(),
        facts: vec![
            fact("interface", "eth1 (ice, 25 Gbit/s)"),
            fact("kernel", "6.18.3"),
            fact("rounds", "10 × 1 s, the first discarded"),
            fact("rate", "20 000 pings/s"),
            fact("stamps", "hardware, both sides"),
            fact("lost", "0.012 %"),
        ],
        sections: vec![
            Section::Text(
                "The bypass path answered 15.4 µs sooner in the median (95 % interval from 15.2 to 15.6 µs)."
                    .to_owned(),
            ),
            Section::Note("The clocks are not synchronised: the offset is an estimate.".to_owned()),
            Section::Table(Table::of_summaries("Distributions", &summaries)),
            Section::Heading("Round-trip time".to_owned()),
            chart("How often which round-trip time occurred", histogram),
            chart("Percentiles", cdf),
            chart(
                "Round-trip time over time",
                over_time("round-trip time", vec![timeline("xdp", 300, 5_600.0, 0, lost)]),
            ),
            chart(
                "One-way delay over time",
                over_time(
                    "one-way delay",
                    vec![
                        timeline("forward", 250, 3_600.0, -4_000, lost),
                        timeline("backward", 250, 2_500.0, 9_000, |_| 0),
                    ],
                ),
            ),
            chart("Stages", stages(&["xdp", "kernel"])),
            Section::Heading("Under load".to_owned()),
            chart("Percentiles against the offered rate", lines(Scale::Linear, &["p50", "p99", "p99.9"])),
            chart("The same on a logarithmic axis", lines(Scale::Log, &["p50", "p99", "p99.9", "max"])),
        ],
    }
}

/// What is hard to show. Each picture has a title of its own.
pub fn hard() -> Page {
    let named = |name: &str| Binned::new(name, vec![]);
    let wide = vec![
        bin(-5_000_000, -5_000_000, 3),
        bin(20_000, 20_000, 900),
        bin(80_000, 80_000, 90),
        bin(10_000_000_000, 10_000_000_000, 1),
    ];
    let one = vec![bin(5_432, 5_432, 1)];
    let equal = vec![bin(5_432, 5_432, 1_000_000)];
    let many: Vec<Bin> =
        (0..300i64).map(|n| bin(5_000 + n * 10, 5_009 + n * 10, 1_000_000_000 / (1 + n.abs_diff(20).pow(4)))).collect();
    let hour = 3_600_000_000_000;
    let six = |samples: usize| {
        (0..6)
            .map(|n| binned(&format!("{} {n}", &LONG[..58]), samples, 5_000.0 * 1.5f64.powi(n), 1.0))
            .collect::<Vec<_>>()
    };
    let at = |start, spread, lost| TimeBin { start_ns: start, width_ns: 1_000_000_000, spread, lost };
    let line = |label: &str, bins: Vec<TimeBin>| Timeline { label: label.to_owned(), bins };
    let negative = Plot::Stages(Stages {
        stages: vec![LONG.to_owned(), "unmeasured".to_owned(), "negative".to_owned()],
        series: vec![
            StageSeries {
                label: LONG.to_owned(),
                stages: vec![spread(5_000, 9_000, 10_000_000_000), None, spread(-5_000_000, -20, 700)],
            },
            StageSeries {
                label: "all equal".to_owned(),
                stages: vec![spread(5_000, 5_000, 5_000), None, spread(0, 0, 0)],
            },
        ],
    });
    let lonely = Plot::Lines(Lines {
        x: "rate".to_owned(),
        x_unit: "packets/s".to_owned(),
        x_scale: Scale::Auto,
        quantity: LONG.to_owned(),
        series: vec![Line { label: LONG.to_owned(), points: vec![Point { x: 1_000, y: Some(5_432), reached: false }] }],
    });
    let nothing = Plot::Lines(Lines {
        x: "rate".to_owned(),
        x_unit: "packets/s".to_owned(),
        x_scale: Scale::Auto,
        quantity: "delay".to_owned(),
        series: vec![Line { label: "p50".to_owned(), points: vec![Point { x: 1_000, y: None, reached: true }] }],
    });
    let wide_table = Table {
        caption: LONG.to_owned(),
        columns: (0..12)
            .map(|n| if n == 0 { Column::text(LONG) } else { Column::number(format!("column {n}")) })
            .collect(),
        rows: (0..3)
            .map(|row| (0..12).map(|n| if n == 0 { format!("{LONG} {row}") } else { "1 234.567".to_owned() }).collect())
            .collect(),
    };
    Page {
        title: format!(
            "{LONG}, {LONG}, and a-word-that-has-no-place-to-break-it-and-is-longer-than-any-narrow-page-is-wide-so-it-must-be-broken-anyway"
        ),
        subtitle: LONG.to_owned(),
        facts: vec![
            (LONG.to_owned(), LONG.to_owned()),
            ("empty".to_owned(), String::new()),
            ("x".repeat(90), "y".repeat(90)),
        ],
        sections: vec![
            Section::Table(wide_table),
            chart("No series", histogram(vec![])),
            chart("An empty series", histogram(vec![named("nothing")])),
            chart("One sample", histogram(vec![Binned::new("one", one.clone())])),
            chart("All equal", histogram(vec![Binned::new("equal", equal.clone()), named("nothing")])),
            chart("A thousand million", histogram(vec![Binned::new("many", many.clone())])),
            chart("From -5 ms to 10 s", histogram(vec![Binned::new(LONG, wide.clone())])),
            chart("Six long names", histogram(six(20_000))),
            chart("CDF: empty", cdf(vec![named("nothing")])),
            chart("CDF: one sample", cdf(vec![Binned::new("one", one)])),
            chart("CDF: all equal", cdf(vec![Binned::new("equal", equal)])),
            chart("CDF: a thousand million", cdf(vec![Binned::new("many", many), Binned::new(LONG, wide)])),
            chart("CDF: six long names", cdf(six(3_000))),
            chart("Time: empty", over_time("delay", vec![line("nothing", vec![])])),
            chart("Time: one bin", over_time("delay", vec![line("one", vec![at(0, spread(5_000, 5_000, 5_000), 0)])])),
            chart(
                "Time: only losses",
                over_time("delay", vec![line("lost", vec![at(0, None, 7), at(1_000_000_000, None, 0)])]),
            ),
            chart(
                "Time: gaps, losses, negative values",
                over_time(
                    LONG,
                    vec![
                        line(
                            LONG,
                            (0..20)
                                .map(|n| {
                                    at(
                                        n * 1_000_000_000,
                                        if n % 5 == 4 {
                                            None
                                        } else {
                                            spread(-5_000_000 + n * 9_000, 20_000, 10_000_000_000)
                                        },
                                        if n % 3 == 0 { n as u64 } else { 0 },
                                    )
                                })
                                .collect(),
                        ),
                        line(
                            "b",
                            (0..20)
                                .map(|n| at(n * 1_000_000_000, spread(40_000 + n, 60_000, 80_000), u64::from(n == 7)))
                                .collect(),
                        ),
                    ],
                ),
            ),
            chart(
                "Time: an offset of an hour",
                over_time("one-way delay", vec![timeline("forward", 5_000, 4_000.0, hour, |n| u64::from(n == 77))]),
            ),
            chart("Stages: none", Plot::Stages(Stages { stages: vec![], series: vec![] })),
            chart("Stages: long, unmeasured, negative", negative),
            chart("Stages: six series", stages(&["a", "b", "c", "d", "e", LONG])),
            chart("Lines: one point", lonely),
            chart("Lines: no samples", nothing),
            chart("Lines: six", lines(Scale::Auto, &["p50", "p90", "p99", "p99.9", "p99.99", LONG])),
        ],
    }
}
