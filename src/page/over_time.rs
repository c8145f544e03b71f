//! Durations over the time of a session, and when packets were lost.

use super::axis::{Axis, Extent, Words};
use super::frame::{Entry, Frame, Outline, Picture, Px, Sign, X_ROOM, colour, entry, swatch};
use super::number::{count, duration, percentage};
use super::{OverTime, Scale, Spread, TIME_BINS, TimeBin, Timeline};
use maud::{Markup, html};

/// Of a series' losses.
const LANE: f64 = 15.0;
/// Between the picture and the first lane: half a label's height.
const GAP: f64 = 8.0;
/// So few groups are not merged further.
const FEW: usize = 30;

/// Time bins that are drawn as one.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Group {
    /// In ns since the session began.
    start: i64,
    end: i64,
    lost: u64,
    spread: Option<Range>,
}

/// The spreads of a group: what is drawn is what a line through all of them would cover.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Range {
    count: u64,
    min: i64,
    max: i64,
    p99: i64,
    /// The smallest, the largest, the first and the last of the medians.
    p50: (i64, i64),
    first: i64,
    last: i64,
}

pub(super) fn draw(over_time: &OverTime) -> Picture {
    let groups: Vec<Vec<Group>> = over_time.series.iter().map(|series| grouped(&series.bins)).collect();
    let all = || groups.iter().flatten();
    let times = Extent::of(all().flat_map(|group| [group.start, group.end]));
    let extent = groups.iter().filter_map(|groups| extent(groups)).reduce(Extent::and);
    let shown = extent.unwrap_or(Extent { min: 0, max: 1_000, core: (0, 1_000) });
    let axis = Axis::new(over_time.scale, shown, Words::Duration, 10);
    let seconds = times.unwrap_or(Extent { min: 0, max: 1_000_000_000, core: (0, 0) });
    let seconds = Axis::new(Scale::Linear, seconds, Words::Duration, X_ROOM).until(seconds.max);
    let (x, y) = (seconds.ticks(), axis.ticks());
    let lossy: Vec<usize> =
        (0..groups.len()).filter(|index| groups[*index].iter().any(|group| group.lost > 0)).collect();
    let below = if lossy.is_empty() { 0.0 } else { GAP + LANE * lossy.len() as f64 };
    let frame = Frame { below, ..Frame::new(300.0, &x, &y) };
    let body = html! {
        (frame.axes((&x, &seconds.title("time since the start")), (&y, &axis.title(&over_time.quantity))))
        // No series' bands lie over another's medians.
        @for (index, groups) in groups.iter().enumerate() {
            g class={ "series " (colour(index)) } { (bands(&frame, &seconds, &axis, groups)) }
        }
        @for (index, groups) in groups.iter().enumerate() {
            g class={ "series " (colour(index)) } { (medians(&frame, &seconds, &axis, groups)) }
        }
        @for (lane, index) in lossy.iter().enumerate() {
            (losses(&frame, &seconds, lane, *index, &groups[*index]))
        }
        (hints(&frame, &seconds, &over_time.series, &groups))
        @if extent.is_none() { (frame.empty("no samples")) }
    };
    let mut legend: Vec<Entry> =
        over_time.series.iter().enumerate().map(|(index, series)| entry(Sign::Range, index, named(series))).collect();
    legend.push(explanation(
        over_time.series.iter().zip(&groups).any(|(series, groups)| series.bins.len() > groups.len()),
    ));
    if !lossy.is_empty() {
        let sign = swatch(
            "",
            &html! { rect class="loss" x="8" y="1" width="3" height="12" {} rect class="loss" x="15" y="6" width="3" height="7" {} },
        );
        legend.push(Entry { sign, text: "lost, higher for a larger share".to_owned() });
    }
    let described: Vec<String> =
        over_time.series.iter().zip(&groups).map(|(series, groups)| told(series, groups)).collect();
    let description = format!("{} over time. {}", over_time.quantity, described.join(" "));
    Picture { class: "over-time", height: frame.total_height(), body, legend, description, table: None }
}

/// As many groups as can be seen, at most; each has as many time bins but the last one. Fewer where pings are rarer than
/// bins: their gaps would say that something was missing.
fn grouped(bins: &[TimeBin]) -> Vec<Group> {
    let mut together = bins.len().div_ceil(TIME_BINS).max(1);
    loop {
        let groups: Vec<Group> = bins.chunks(together).map(group).collect();
        if groups.len() <= FEW || !is_ragged(&groups) {
            return groups;
        }
        together *= 2;
    }
}

fn group(bins: &[TimeBin]) -> Group {
    let (first, last) = (bins[0], bins[bins.len() - 1]);
    Group {
        start: first.start_ns,
        end: last.start_ns.saturating_add_unsigned(last.width_ns),
        lost: bins.iter().map(|bin| bin.lost).sum(),
        spread: bins.iter().filter_map(|bin| bin.spread).map(Range::from).reduce(Range::then),
    }
}

/// Whether gaps are all over it; an outage or two are none of that kind.
fn is_ragged(groups: &[Group]) -> bool {
    let filled = groups.iter().filter(|group| group.spread.is_some()).count();
    let runs = groups.split(|group| group.spread.is_none()).filter(|run| !run.is_empty()).count();
    runs > 4 && runs * 6 > filled
}

impl From<Spread> for Range {
    fn from(Spread { count, min, p50, p99, max }: Spread) -> Self {
        Self { count, min, max, p99, p50: (p50, p50), first: p50, last: p50 }
    }
}

impl Range {
    /// With what comes after it.
    fn then(self, next: Self) -> Self {
        Self {
            count: self.count + next.count,
            min: self.min.min(next.min),
            max: self.max.max(next.max),
            p99: self.p99.max(next.p99),
            p50: (self.p50.0.min(next.p50.0), self.p50.1.max(next.p50.1)),
            first: self.first,
            last: next.last,
        }
    }
}

/// The core is from the lowest median to what half of the 99th percentiles are not above.
fn extent(groups: &[Group]) -> Option<Extent> {
    let ranges = || groups.iter().filter_map(|group| group.spread);
    let mut p99: Vec<i64> = ranges().map(|range| range.p99).collect();
    p99.sort_unstable();
    let middle = *p99.get(p99.len() / 2)?;
    let whole = ranges().reduce(Range::then)?;
    let (low, high) = whole.p50;
    Some(Extent { min: whole.min, max: whole.max, core: (low, high.max(middle)) })
}

/// A group with samples, from where to where in the picture.
type Step = (f64, f64, Range);

/// The groups with samples, those without a gap together.
fn runs(frame: &Frame, seconds: &Axis, groups: &[Group]) -> Vec<Vec<Step>> {
    let place = |group: &Group| {
        let (left, right) = (frame.x(seconds.place(group.start)), frame.x(seconds.place(group.end)));
        Some((left, right, group.spread?))
    };
    let is_next = |a: &Group, b: &Group| a.spread.is_some() == b.spread.is_some() && a.end == b.start;
    let mut runs: Vec<Vec<Step>> = groups.chunk_by(is_next).map(|run| run.iter().filter_map(place).collect()).collect();
    runs.retain(|run| !run.is_empty());
    for run in &mut runs {
        // Something is seen of the shortest time.
        if let Some((left, right, _)) = run.last_mut() {
            *right = right.max(*left + 0.6);
        }
    }
    runs
}

/// From the smallest to the largest sample, and from the median to the 99th percentile.
fn bands(frame: &Frame, seconds: &Axis, axis: &Axis, groups: &[Group]) -> Markup {
    let (mut range, mut upper) = (Outline::default(), Outline::default());
    let y = |value: i64| frame.y(axis.place(value));
    for steps in runs(frame, seconds, groups) {
        band(&mut range, &steps, |range| (y(range.max), y(range.min)));
        band(&mut upper, &steps, |range| (y(range.p99), y(range.p50.0)));
    }
    html! {
        @if !range.is_empty() {
            path class="range" d=(range) {}
            path class="range" d=(upper) {}
        }
    }
}

/// The medians, level over the time that each is of: nothing is known of what is between two.
fn medians(frame: &Frame, seconds: &Axis, axis: &Axis, groups: &[Group]) -> Markup {
    let mut outline = Outline::default();
    let y = |value: i64| frame.y(axis.place(value));
    for steps in runs(frame, seconds, groups) {
        for (index, (left, right, range)) in steps.iter().enumerate() {
            if index == 0 {
                outline.move_to(*left, y(range.first))
            } else {
                outline.line_to(*left, y(range.first))
            }
            if range.p50.0 < range.p50.1 {
                // Of several: the first, in the middle from the smallest to the largest, the last.
                let middle = f64::midpoint(*left, *right);
                for median in [range.first, range.p50.0, range.p50.1, range.last] {
                    outline.line_to(middle, y(median));
                }
            }
            outline.line_to(*right, y(range.last));
        }
    }
    html! { @if !outline.is_empty() { path class="mark line" d=(outline) {} } }
}

/// Forth along the upper ends, back along the lower ones; at least so high that it is seen.
fn band(outline: &mut Outline, steps: &[Step], ends: impl Fn(&Range) -> (f64, f64)) {
    for (index, (left, right, range)) in steps.iter().enumerate() {
        let (upper, _) = ends(range);
        if index == 0 {
            outline.move_to(*left, upper)
        } else {
            outline.line_to(*left, upper)
        }
        outline.line_to(*right, upper);
    }
    for (left, right, range) in steps.iter().rev() {
        let (upper, lower) = ends(range);
        let lower = lower.max(upper + 0.8);
        outline.line_to(*right, lower);
        outline.line_to(*left, lower);
    }
    outline.close();
}

/// A lane below the picture with a bar wherever packets were lost.
fn losses(frame: &Frame, seconds: &Axis, lane: usize, series: usize, groups: &[Group]) -> Markup {
    let top = frame.top + frame.height + GAP + LANE * lane as f64;
    let bars = groups.iter().filter(|group| group.lost > 0).map(|group| {
        let (left, right) = (frame.x(seconds.place(group.start)), frame.x(seconds.place(group.end)));
        let share = share_lost(group);
        // A single packet of many is seen, too.
        let height = (LANE - 3.0) * (0.35 + 0.65 * share);
        (left, (right - left).max(2.0), top + LANE - height, height)
    });
    html! {
        g class={ "lane " (colour(series)) } {
            path class="edge" d={ "M" (Px(frame.left)) " " (Px(top + LANE)) "h" (Px(frame.width)) } {}
            text class="tick end own" x=(Px(frame.left - 6.0)) y=(Px(top + LANE - 3.0)) { "lost" }
            @for (left, width, top, height) in bars {
                rect class="mark loss" x=(Px(left)) y=(Px(top)) width=(Px(width)) height=(Px(height)) {}
            }
        }
    }
}

fn share_lost(group: &Group) -> f64 {
    group.lost as f64 / (group.lost + group.spread.map_or(0, |range| range.count)) as f64
}

/// What is said of each piece of time where the pointer rests: that of the series with most of them, and of the others there.
fn hints(frame: &Frame, seconds: &Axis, series: &[Timeline], groups: &[Vec<Group>]) -> Markup {
    let pieces = groups.iter().max_by_key(|groups| groups.len()).map_or(&[][..], Vec::as_slice);
    let bottom = frame.height + frame.below;
    let hint = |piece: &Group| {
        let mut text = format!("{} to {}", duration(piece.start), duration(piece.end));
        let middle = piece.start.midpoint(piece.end);
        for (series, groups) in series.iter().zip(groups) {
            let at = groups.partition_point(|group| group.end <= middle);
            if let Some(group) = groups.get(at).filter(|group| group.start <= middle) {
                text += &format!("\n{}: {}", series.label, said(group));
            }
        }
        text
    };
    html! {
        g class="columns" {
            @for piece in pieces {
                @let (left, right) = (frame.x(seconds.place(piece.start)), frame.x(seconds.place(piece.end)));
                rect class="hover" x=(Px(left)) y=(Px(frame.top)) width=(Px((right - left).max(0.5))) height=(Px(bottom)) {
                    title { (hint(piece)) }
                }
            }
        }
    }
}

/// A group in words.
fn said(group: &Group) -> String {
    let lost = match group.lost {
        0 => String::new(),
        lost => format!(", {} lost ({})", count(lost), percentage(share_lost(group))),
    };
    match group.spread {
        None => format!("no samples{lost}"),
        Some(range) => {
            let medians = match range.p50 {
                (low, high) if low == high => duration(low),
                (low, high) => format!("{} to {}", duration(low), duration(high)),
            };
            let least = if range.p50.0 == range.p50.1 { "" } else { "up to " };
            let (samples, min, p99, max) =
                (count(range.count), duration(range.min), duration(range.p99), duration(range.max));
            format!("{samples} samples, min {min}, p50 {medians}, p99 {least}{p99}, max {max}{lost}")
        }
    }
}

fn explanation(merged: bool) -> Entry {
    let sign = swatch(
        "neutral",
        &html! { rect class="range" x="1" y="1" width="24" height="12" {} rect class="range" x="1" y="4" width="24" height="9" {} path class="line" d="M1 10h24" {} },
    );
    let text = match merged {
        false => "light: all samples; darker: p50 to p99; line: p50",
        // Neither can be reckoned of several time bins.
        true => {
            "light: all samples; darker: from the smallest p50 to the largest p99 of several time bins; line: their p50"
        }
    };
    Entry { sign, text: text.to_owned() }
}

fn named(series: &Timeline) -> String {
    let lost: u64 = series.bins.iter().map(|bin| bin.lost).sum();
    match (series.bins.iter().any(|bin| bin.spread.is_some()), lost) {
        (false, 0) => format!("{} (no samples)", series.label),
        (false, lost) => format!("{} (no samples, {} lost)", series.label, count(lost)),
        (true, 0) => series.label.clone(),
        (true, lost) => format!("{} ({} lost)", series.label, count(lost)),
    }
}

/// In words.
fn told(series: &Timeline, groups: &[Group]) -> String {
    let lost: u64 = groups.iter().map(|group| group.lost).sum();
    let whole = groups.iter().filter_map(|group| group.spread).reduce(Range::then);
    match whole {
        None => format!("{}: no samples, {} lost.", series.label, count(lost)),
        Some(Range { min, max, p50: (low, high), .. }) => format!(
            "{}: medians from {} to {}, all samples from {} to {}, {} lost.",
            series.label,
            duration(low),
            duration(high),
            duration(min),
            duration(max),
            count(lost)
        ),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn bin(index: i64, spread: Option<Spread>, lost: u64) -> TimeBin {
        TimeBin { start_ns: index * 1_000, width_ns: 1_000, spread, lost }
    }

    fn spread(min: i64, p50: i64, p99: i64, max: i64) -> Option<Spread> {
        Some(Spread { count: 10, min, p50, p99, max })
    }

    #[test]
    fn few_time_bins_stay_as_they_are() {
        let bins = [bin(0, spread(-4, 5, 7, 9), 0), bin(1, None, 3)];
        let range = Range { count: 10, min: -4, max: 9, p99: 7, p50: (5, 5), first: 5, last: 5 };
        assert_eq!(
            grouped(&bins),
            [
                Group { start: 0, end: 1_000, lost: 0, spread: Some(range) },
                Group { start: 1_000, end: 2_000, lost: 3, spread: None }
            ]
        );
        assert_eq!(share_lost(&grouped(&bins)[1]), 1.0);
    }

    #[test]
    fn time_bins_of_rare_pings_are_merged_until_most_have_some_and_outages_stay() {
        // A ping in every second or third bin.
        let rare: Vec<TimeBin> =
            (0..200).map(|n| bin(n, spread(1, 2, 3, 4).filter(|_| n % 5 == 0 || n % 5 == 2), 0)).collect();
        let groups = grouped(&rare);
        assert_eq!((groups.len(), groups.iter().all(|group| group.spread.is_some())), (50, true));
        let samples: u64 = groups.iter().filter_map(|group| group.spread).map(|range| range.count).sum();
        assert_eq!(samples, 80 * 10);
        let outages: Vec<TimeBin> =
            (0..200).map(|n| bin(n, spread(1, 2, 3, 4).filter(|_| !(50..90).contains(&n) && n != 150), 0)).collect();
        assert_eq!(grouped(&outages).len(), 200);
    }

    /// The corners of a path, those of each part together.
    fn corners(path: &str) -> Vec<Vec<(f64, f64)>> {
        let parts = path.trim_end_matches('Z').split('M').filter(|part| !part.is_empty());
        let corner = |corner: &str| {
            let (x, y) = corner.split_once(' ').unwrap();
            (x.parse().unwrap(), y.parse().unwrap())
        };
        parts.map(|part| part.split('L').map(corner).collect()).collect()
    }

    /// The `d` of the elements of this class.
    fn paths<'a>(body: &'a str, class: &str) -> Vec<&'a str> {
        let start = format!("<path class=\"{class}\" d=\"");
        body.split(&start).skip(1).map(|rest| rest.split('"').next().unwrap()).collect()
    }

    fn drawn(series: Vec<Timeline>) -> String {
        draw(&OverTime { quantity: "delay".to_owned(), scale: Scale::Linear, series }).body.into_string()
    }

    #[test]
    fn a_median_is_level_as_long_as_it_lasts_also_where_several_are_merged() {
        let medians = [10, 40, 20, 90, 30, 60, 50];
        for times in [1, 2, 3] {
            let count = TIME_BINS as i64 * times;
            let median = |n: i64| medians[(n % 7) as usize] + n % 11;
            let bins: Vec<TimeBin> = (0..count).map(|n| bin(n, spread(0, median(n), 100, 120), 0)).collect();
            let body = drawn(vec![Timeline { label: "a".to_owned(), bins }]);
            let lines = corners(paths(&body, "mark line")[0]);
            assert_eq!(lines.len(), 1);
            let is_step = |pair: &[(f64, f64)]| pair[0].0 == pair[1].0 || pair[0].1 == pair[1].1;
            assert!(lines[0].windows(2).all(is_step), "{times}: {lines:?}");
            assert!(lines[0].is_sorted_by(|a, b| a.0 <= b.0), "time does not run backwards");
        }
    }

    #[test]
    fn time_without_bins_is_a_gap() {
        let bins = vec![bin(0, spread(1, 2, 3, 4), 0), bin(50, spread(1, 3, 4, 5), 0), bin(51, spread(1, 3, 4, 5), 0)];
        let body = drawn(vec![Timeline { label: "a".to_owned(), bins }]);
        assert_eq!(corners(paths(&body, "mark line")[0]).iter().map(Vec::len).collect::<Vec<_>>(), [2, 4]);
    }

    #[test]
    fn no_band_lies_over_a_median() {
        let series = |label: &str| Timeline { label: label.to_owned(), bins: vec![bin(0, spread(1, 2, 3, 4), 0)] };
        let body = drawn(vec![series("a"), series("b"), series("c")]);
        assert_eq!((paths(&body, "range").len(), paths(&body, "mark line").len()), (6, 3));
        assert!(body.rfind("class=\"range\"") < body.find("class=\"mark line\""));
    }

    #[test]
    fn many_are_merged_and_nothing_is_made_up() {
        let count = TIME_BINS as i64 * 2;
        let bins: Vec<TimeBin> =
            (0..count).map(|n| bin(n, spread(n, n + 10, n + 20, n + 30), u64::from(n == 5))).collect();
        let groups = grouped(&bins);
        assert_eq!(groups.len(), TIME_BINS);
        assert_eq!(groups.iter().map(|group| group.lost).sum::<u64>(), 1);
        let range = Range { count: 20, min: 4, max: 35, p99: 25, p50: (14, 15), first: 14, last: 15 };
        assert_eq!(groups[2], Group { start: 4_000, end: 6_000, lost: 1, spread: Some(range) });
        assert_eq!(
            said(&groups[2]).replace('\u{a0}', " "),
            "20 samples, min 4 ns, p50 14 ns to 15 ns, p99 up to 25 ns, max 35 ns, 1 lost (4.8 %)"
        );
    }
}
