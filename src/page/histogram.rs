//! Histograms: bins merged to columns that the eye can tell apart.

use super::axis::{Axis, Extent, Words, round_step};
use super::frame::{Frame, Outline, Picture, Px, Sign, X_ROOM, colour, entry};
use super::number::{count, duration};
use super::{Binned, Histogram};
use crate::stats::Bin;
use maud::html;

/// At most about so many columns of one or two series; half as many of more, whose steps would be a thicket.
const COLUMNS: usize = 240;

pub(super) fn draw(histogram: &Histogram) -> Picture {
    let series = &histogram.series;
    let extent = series.iter().filter_map(extent).reduce(Extent::and);
    let shown = extent.unwrap_or(Extent { min: 0, max: 1_000, core: (0, 1_000) });
    let axis = Axis::new(histogram.scale, shown, Words::Duration, X_ROOM);
    let most = if series.len() > 2 { COLUMNS / 2 } else { COLUMNS };
    let edges = edges(&axis, most, series.iter().flat_map(|series| &series.bins));
    let counts: Vec<Vec<u64>> = series.iter().map(|series| fill(&edges, &series.bins)).collect();
    let highest = counts.iter().flatten().copied().max().unwrap_or(0);
    let heights = Axis::of_counts(highest, 12);
    let (x, y) = (axis.ticks(), heights.ticks());
    let frame = Frame::new(300.0, &x, &y);
    let each = match axis.is_linear() && edges.len() > 1 {
        true => format!("samples per {} (logarithmic)", duration(edges[1] - edges[0])),
        false => "samples per column (logarithmic)".to_owned(),
    };
    let columns: Vec<(usize, f64, f64)> = (0..edges.len() - 1)
        .filter(|column| counts.iter().any(|counts| counts[*column] > 0))
        .map(|column| (column, frame.x(axis.place(edges[column])), frame.x(axis.place(edges[column + 1]))))
        .collect();
    let outlines = counts.iter().map(|counts| outline(&frame, &axis, &heights, &edges, counts)).enumerate();
    let outlines: Vec<(usize, Outline)> = outlines.filter(|(_, outline)| !outline.is_empty()).collect();
    let body = html! {
        (frame.axes((&x, &axis.title(&histogram.quantity)), (&y, &each)))
        // No series' area lies over another's outline.
        g class=[(outlines.len() > 2).then_some("many")] {
            @for (index, outline) in &outlines { path class={ "area " (colour(*index)) } d=(outline) {} }
        }
        @for (index, outline) in &outlines { path class={ "series outline " (colour(*index)) } d=(outline) {} }
        g class="columns" {
            @for (column, left, right) in &columns {
                rect class="mark hover" x=(Px(*left)) y=(Px(frame.top)) width=(Px((right - left).max(0.5))) height=(Px(frame.height)) {
                    title { (hint(series, &counts, &edges, *column)) }
                }
            }
        }
        @if extent.is_none() { (frame.empty("no samples")) }
    };
    let legend = series.iter().enumerate().map(|(index, series)| entry(Sign::Area, index, named(series))).collect();
    let described: Vec<String> = series.iter().map(|series| format!("{}: {}.", series.label, told(series))).collect();
    let description = format!(
        "Histogram of {}, number of samples on a logarithmic axis. {}",
        histogram.quantity,
        described.join(" ")
    );
    Picture { class: "histogram", height: frame.total_height(), body, legend, description, table: None }
}

/// From the smallest to the largest sample, and between which the middle 98 % are.
pub(super) fn extent(series: &Binned) -> Option<Extent> {
    let (first, last) = (series.bins.first()?, series.bins.last()?);
    let total = total(&series.bins);
    let (low, high) = (at_rank(&series.bins, total.div_ceil(100))?, at_rank(&series.bins, total - total / 100)?);
    Some(Extent { min: first.low, max: last.high, core: (low, high) })
}

/// The value with this rank, from 1, by nearest rank: the upper end of the bin that it lies in.
pub(super) fn at_rank(bins: &[Bin], rank: u64) -> Option<i64> {
    let mut below = 0;
    bins.iter()
        .find(|bin| {
            below += bin.count;
            below >= rank
        })
        .map(|bin| bin.high)
}

pub(super) fn total(bins: &[Bin]) -> u64 {
    bins.iter().map(|bin| bin.count).sum()
}

/// A series' name, and how many samples it has.
pub(super) fn named(series: &Binned) -> String {
    match total(&series.bins) {
        0 => format!("{} (no samples)", series.label),
        1 => format!("{} (1 sample)", series.label),
        samples => format!("{} ({} samples)", series.label, count(samples)),
    }
}

/// In words.
pub(super) fn told(series: &Binned) -> String {
    let samples = total(&series.bins);
    match (series.bins.first(), series.bins.last(), at_rank(&series.bins, samples.div_ceil(2))) {
        (Some(first), Some(last), Some(median)) => format!(
            "{} samples from {} to {}, median {}",
            count(samples),
            duration(first.low),
            duration(last.high),
            duration(median)
        ),
        _ => "no samples".to_owned(),
    }
}

/// The columns: the n-th holds the values from the n-th edge up to, but without, the next.
fn edges<'a>(axis: &Axis, columns: usize, bins: impl Iterator<Item = &'a Bin>) -> Vec<i64> {
    let (low, high) = axis.ends();
    let span = i128::from(high) - i128::from(low);
    if axis.is_linear() {
        // No narrower than the widest bin: more would be told than is known.
        let widest = bins.map(|bin| i128::from(bin.high) - i128::from(bin.low) + 1).max().unwrap_or(1);
        let width = round_step(widest.max((span + columns as i128 - 1) / columns as i128));
        let mut edges: Vec<i64> = (0..=span / width + 1)
            .map(|column| i128::from(low).div_euclid(width) * width + column * width)
            .map(|edge| edge.clamp(i128::from(i64::MIN), i128::from(i64::MAX)) as i64)
            .collect();
        edges.dedup();
        return edges;
    }
    let mut edges: Vec<i64> = (0..=columns).map(|column| axis.value(column as f64 / columns as f64)).collect();
    edges[0] = low;
    edges[columns] = high;
    // No column has samples of both sides of 0.
    let zero = edges.partition_point(|edge| *edge < 0);
    if zero > 0 && zero < columns {
        let nearer = if edges[zero].unsigned_abs() > edges[zero - 1].unsigned_abs() { zero - 1 } else { zero };
        edges[nearer.max(1)] = 0;
    }
    // The highest value has to lie below an edge.
    edges.push(high.saturating_add(1));
    edges.dedup();
    edges
}

/// How many samples each column holds. Those of a bin that lies in several are dealt out evenly.
fn fill(edges: &[i64], bins: &[Bin]) -> Vec<u64> {
    let mut counts = vec![0; edges.len() - 1];
    let last = counts.len() - 1;
    let mut column = 0;
    for bin in bins {
        while column < last && edges[column + 1] <= bin.low {
            column += 1;
        }
        let width = (i128::from(bin.high) - i128::from(bin.low) + 1) as u128;
        let mut dealt = 0;
        for (index, count) in counts.iter_mut().enumerate().skip(column) {
            let covered = (i128::from(edges[index + 1]) - i128::from(bin.low)).clamp(0, width as i128) as u128;
            // What lies up to here, less what was dealt out: in the end exactly all.
            let up_to_here = if index == last { bin.count } else { (u128::from(bin.count) * covered / width) as u64 };
            *count += up_to_here - dealt;
            dealt = up_to_here;
            if covered == width {
                break;
            }
        }
    }
    counts
}

/// Steps along the columns, down to the baseline where there is nothing.
fn outline(frame: &Frame, axis: &Axis, heights: &Axis, edges: &[i64], counts: &[u64]) -> Outline {
    let mut outline = Outline::default();
    let baseline = frame.y(0.0);
    let mut height = baseline;
    for (column, count) in counts.iter().enumerate() {
        let (left, right) = (frame.x(axis.place(edges[column])), frame.x(axis.place(edges[column + 1])));
        if *count == 0 {
            if height < baseline {
                outline.line_to(left, baseline);
                height = baseline;
            }
            continue;
        }
        let top = frame.y(heights.place(i64::try_from(*count).unwrap_or(i64::MAX)));
        if height == baseline {
            outline.move_to(left, baseline);
        }
        // A column that is narrower than a stroke is still seen.
        outline.line_to(left, top);
        outline.line_to(right.max(left + 0.5), top);
        height = top;
    }
    if height < baseline {
        let end = frame.x(axis.place(edges[edges.len() - 1]));
        outline.line_to(end, baseline);
    }
    outline
}

/// What is said of a column where the pointer rests.
fn hint(series: &[Binned], counts: &[Vec<u64>], edges: &[i64], column: usize) -> String {
    let mut text = format!("{} to {}", duration(edges[column]), duration(edges[column + 1] - 1));
    for (series, counts) in series.iter().zip(counts).filter(|(_, counts)| counts[column] > 0) {
        text += &format!("\n{}: {}", series.label, count(counts[column]));
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::page::Scale;
    use proptest::prelude::*;

    fn bin(low: i64, high: i64, count: u64) -> Bin {
        Bin { low, high, count }
    }

    #[test]
    fn a_column_holds_from_its_edge_to_below_the_next() {
        assert_eq!(fill(&[0, 10, 20, 30], &[bin(0, 0, 1), bin(9, 9, 2), bin(10, 10, 4), bin(29, 29, 8)]), [3, 4, 8]);
    }

    #[test]
    fn a_bin_in_several_columns_is_dealt_out_evenly() {
        assert_eq!(fill(&[0, 10, 20, 30], &[bin(5, 24, 8)]), [2, 4, 2]);
        assert_eq!(fill(&[0, 10, 20, 30], &[bin(0, 29, 1)]), [0, 0, 1]);
    }

    #[test]
    fn columns_are_round_and_no_narrower_than_bins() {
        let bins = [bin(5_000, 5_015, 1), bin(8_000, 8_015, 1)];
        let axis = Axis::new(Scale::Linear, Extent::of([5_000, 8_015]).unwrap(), Words::Duration, X_ROOM);
        let edges = edges(&axis, COLUMNS, bins.iter());
        assert_eq!((edges[0], edges[1] - edges[0]), (5_000, 20));
    }

    #[test]
    fn no_column_has_samples_of_both_sides_of_0() {
        for low in [-9_000_000, -40_000, -7, 0] {
            let extent = Extent { min: low, max: 500_000, core: (20_000, 90_000) };
            let axis = Axis::new(Scale::Log, extent, Words::Duration, X_ROOM);
            let edges = edges(&axis, COLUMNS, [].into_iter());
            assert!(edges.contains(&0) && edges.is_sorted_by(|a, b| a < b), "{low}: {edges:?}");
        }
    }

    #[test]
    fn no_area_lies_over_an_outline() {
        let series = |label: &str| Binned::new(label, vec![bin(5_000, 5_000, 10), bin(9_000, 9_000, 1)]);
        let series = vec![series("a"), series("b"), series("c")];
        let picture = draw(&Histogram { quantity: "delay".to_owned(), scale: Scale::Log, series });
        let body = picture.body.into_string();
        let classes = |class: &str| body.match_indices(class).map(|(at, _)| at).collect::<Vec<_>>();
        let (areas, outlines) = (classes("class=\"area "), classes("class=\"series outline "));
        assert_eq!((areas.len(), outlines.len()), (3, 3));
        assert!(areas[2] < outlines[0]);
    }

    #[test]
    fn ranks_are_nearest() {
        let bins = [bin(1, 1, 1), bin(2, 3, 98), bin(7, 7, 1)];
        assert_eq!([1, 2, 99, 100].map(|rank| at_rank(&bins, rank)), [Some(1), Some(3), Some(3), Some(7)]);
        assert_eq!(at_rank(&[], 1), None);
    }

    proptest! {
        #[test]
        fn no_sample_is_lost_or_told_twice(
            values in prop::collection::btree_map(any::<i64>(), 1u64..1_000_000_000, 1..50),
            shift in 0u32..62,
            scale in prop::sample::select(vec![Scale::Auto, Scale::Linear, Scale::Log]),
        ) {
            let mut samples: Vec<(i64, u64)> = values.into_iter().map(|(value, count)| (value >> shift, count)).collect();
            samples.dedup_by_key(|(value, _)| *value);
            let bins: Vec<Bin> = samples.iter().map(|(value, count)| bin(*value, *value, *count)).collect();
            let series = Binned::new("x", bins.clone());
            let axis = Axis::new(scale, extent(&series).unwrap(), Words::Duration, X_ROOM);
            let edges = edges(&axis, COLUMNS, bins.iter());
            prop_assert!(edges.windows(2).all(|pair| pair[0] < pair[1]), "{:?}", edges);
            prop_assert!(edges.len() <= COLUMNS + 3, "{}", edges.len());
            let counts = fill(&edges, &bins);
            prop_assert_eq!(counts.iter().sum::<u64>(), total(&bins));
            // Where a value lies in a column, the column has its samples at least.
            for (value, count) in &samples {
                let column = edges.partition_point(|edge| edge <= value).clamp(1, counts.len()) - 1;
                prop_assert!(counts[column] >= *count);
            }
        }
    }
}
