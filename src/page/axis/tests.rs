//! Where numbers are on an axis, and which of them it names.

use super::*;
use proptest::prelude::*;

fn extent(min: i64, max: i64) -> Extent {
    Extent { min, max, core: (min, max) }
}

fn labels(axis: &Axis) -> Vec<(i64, String)> {
    let ticks = axis.ticks().into_iter();
    ticks.filter_map(|tick| Some((axis.value(tick.place), tick.label?.replace('\u{a0}', " ")))).collect()
}

fn words(axis: &Axis) -> Vec<String> {
    labels(axis).into_iter().map(|(_, label)| label).collect()
}

#[test]
fn steps_are_1_2_5() {
    assert_eq!([1, 2, 3, 5, 6, 11, 50, 51].map(step_up), [1, 2, 5, 5, 10, 20, 50, 100]);
    assert_eq!([1, 2, 3, 4, 5, 9, 10, 19, 49, 99].map(step_down), [1, 2, 2, 2, 5, 5, 10, 10, 20, 50]);
    assert_eq!([-3, -5, -6, 0].map(step_down), [-5, -5, -10, 0]);
    assert_eq!([-3, -5, -6].map(step_up), [-2, -5, -5]);
    assert_eq!(step_up(i64::MAX), i64::MAX);
}

#[test]
fn linear_ticks_are_whole_steps_in_one_unit() {
    let axis = Axis::new(Scale::Linear, extent(5_130, 8_920), Words::Duration, 6);
    assert_eq!(
        labels(&axis),
        [
            (5_000, "5".to_owned()),
            (6_000, "6".to_owned()),
            (7_000, "7".to_owned()),
            (8_000, "8".to_owned()),
            (9_000, "9".to_owned())
        ]
    );
    assert_eq!(axis.title("round-trip time"), "round-trip time (µs)");
    assert_eq!((axis.place(5_000), axis.place(9_000), axis.place(6_000)), (0.0, 1.0, 0.25));
    let around_0 = Axis::new(Scale::Linear, extent(-1_200, 700), Words::Duration, 6);
    assert_eq!(words(&around_0), ["−1.5", "−1", "−0.5", "0", "0.5", "1"]);
}

#[test]
fn numbers_with_an_offset_of_hours_are_told_from_a_base() {
    let hour = 3_600_000_000_000;
    let axis = Axis::new(Scale::Auto, extent(hour + 12_000, hour + 47_000), Words::Duration, 5);
    assert_eq!(words(&axis), ["0", "10", "20", "30", "40"]);
    assert_eq!(axis.title("one-way delay"), "one-way delay less 3600.00001 s (µs)");
    assert_eq!(axis.ends(), (hour + 10_000, hour + 50_000));
    let tailed = Extent { min: -hour + 4_100, max: -hour + 2_000_000, core: (-hour + 4_200, -hour + 5_000) };
    let axis = Axis::new(Scale::Auto, tailed, Words::Duration, 13);
    let title = axis.title("one-way delay").replace('\u{a0}', " ");
    assert_eq!(title, "one-way delay less −3599.999996 s (logarithmic, linear from 0 ns to 1 µs)");
    assert_eq!(axis.ends(), (-hour + 4_000, -hour + 2_004_000));
    assert_eq!(axis.place(-hour + 4_000), 0.0);
    assert_eq!(
        words(&axis),
        [
            "0 ns", "500 ns", "1 µs", "2 µs", "5 µs", "10 µs", "20 µs", "50 µs", "100 µs", "200 µs", "500 µs", "1 ms",
            "2 ms"
        ]
    );
}

#[test]
fn logarithmic_ticks_are_decades_where_there_are_many() {
    let axis = Axis::new(Scale::Auto, extent(1_300, 8_000_000_000), Words::Duration, 10);
    assert_eq!(words(&axis), ["1 µs", "10 µs", "100 µs", "1 ms", "10 ms", "100 ms", "1 s", "10 s"]);
    assert_eq!(axis.ends(), (1_000, 10_000_000_000));
    assert!((axis.place(1_000_000) - 3.0 / 7.0).abs() < 1e-12);
    let few = Axis::new(Scale::Log, extent(5_300, 160_000), Words::Duration, 10);
    assert_eq!(words(&few), ["5 µs", "10 µs", "20 µs", "50 µs", "100 µs", "200 µs"]);
    let narrow = Axis::new(Scale::Auto, extent(1_300, 8_000_000_000), Words::Duration, 4);
    assert_eq!(words(&narrow), ["1 µs", "100 µs", "10 ms", "1 s", "10 s"]);
}

#[test]
fn both_ends_of_a_logarithmic_axis_have_their_numbers() {
    let axis = Axis::new(Scale::Log, extent(2_300, 4_100_000), Words::Duration, 10);
    assert_eq!(words(&axis), ["2 µs", "10 µs", "100 µs", "1 ms", "5 ms"]);
}

#[test]
fn negative_numbers_lie_on_a_logarithmic_axis_too() {
    let wide = Extent { min: -5_000_000, max: 10_000_000_000, core: (20_000, 90_000) };
    let axis = Axis::new(Scale::Auto, wide, Words::Duration, 20);
    assert_eq!(axis.ends(), (-5_000_000, 10_000_000_000));
    assert_eq!(
        words(&axis),
        [
            "−5 ms",
            "−1 ms",
            "−100 µs",
            "−20 µs",
            "−10 µs",
            "0 ns",
            "10 µs",
            "20 µs",
            "100 µs",
            "1 ms",
            "10 ms",
            "100 ms",
            "1 s",
            "10 s"
        ]
    );
    assert!(axis.place(-1) < axis.place(0) && axis.place(0) < axis.place(1));
    assert_eq!(axis.origin(), axis.place(0));
    let title = |axis: &Axis| axis.title("RTT").replace('\u{a0}', " ");
    assert_eq!(title(&axis), "RTT (logarithmic, linear from −20 µs to 20 µs)");
    let halved = Axis { room: 6, ..axis };
    assert_eq!(words(&halved), ["−5 ms", "−100 µs", "0 ns", "100 µs", "10 ms", "1 s", "10 s"]);
    for (low, high, words) in [
        (0, 5_000_000, "RTT (logarithmic, linear from 0 ns to 1 ms)"),
        (-5_000_000, 0, "RTT (logarithmic, linear from −1 ms to 0 ns)"),
        (1, 5_000_000, "RTT (logarithmic)"),
    ] {
        assert_eq!(title(&Axis::new(Scale::Log, extent(low, high), Words::Duration, 8)), words);
    }
}

#[test]
fn a_few_slightly_negative_numbers_leave_the_room_to_the_positive_ones() {
    let positive = Extent { min: 12_000, max: 480_000, core: (21_000, 90_000) };
    for scale in [Scale::Auto, Scale::Log] {
        for min in [-1, -200, -3_000] {
            let axis = Axis::new(scale, Extent { min, ..positive }, Words::Duration, 11);
            assert_eq!(axis.title("RTT").replace('\u{a0}', " "), "RTT (logarithmic, linear from −8 µs to 20 µs)");
            assert_eq!(words(&axis), ["−8 µs", "0 ns", "10 µs", "20 µs", "50 µs", "100 µs", "200 µs", "500 µs"]);
            // They are seen, and what nearly all numbers are has two thirds of the room.
            assert!(axis.place(min) < axis.place(0) && axis.ends().0 <= min, "{axis:?}");
            assert!((0.05..0.1).contains(&axis.place(0)), "{axis:?}");
            assert!(axis.place(500_000) - axis.place(20_000) > 0.65, "{axis:?}");
        }
    }
    let mirrored = Extent { min: -480_000, max: 200, core: (-90_000, -21_000) };
    let axis = Axis::new(Scale::Log, mirrored, Words::Duration, 11);
    assert_eq!(axis.ends(), (-500_000, 8_000));
}

#[test]
fn numbers_on_both_sides_of_0_are_not_torn_apart() {
    let around = Extent { min: -20_000, max: 9_000_000, core: (-3_100, 40_000) };
    let axis = Axis::new(Scale::Log, around, Words::Duration, 11);
    assert_eq!(axis.title("delay").replace('\u{a0}', " "), "delay (logarithmic, linear from −5 µs to 5 µs)");
    assert_eq!(axis.ends(), (-20_000, 10_000_000));
}

#[test]
fn one_number_lies_in_the_middle() {
    for (value, scale) in [(5_000, Scale::Auto), (0, Scale::Auto), (-7, Scale::Linear), (i64::MAX / 2, Scale::Auto)] {
        let axis = Axis::new(scale, extent(value, value), Words::Duration, 6);
        assert!((0.2..0.8).contains(&axis.place(value)), "{value}: {axis:?}");
        assert!((2..=8).contains(&words(&axis).len()), "{value}: {:?}", words(&axis));
    }
    for value in [1, 5_000, 0, -20] {
        let axis = Axis::new(Scale::Log, extent(value, value), Words::Duration, 6);
        assert!(axis.ends().0 < axis.ends().1, "{value}: {axis:?}");
        assert!(words(&axis).len() >= 2, "{value}: {axis:?}");
    }
}

#[test]
fn counts_begin_at_0() {
    let axis = Axis::of_counts(1_000_000_000, 12);
    assert_eq!(words(&axis), ["0", "1", "10", "100", "1k", "10k", "100k", "1M", "10M", "100M", "1G"]);
    assert_eq!((axis.place(0), axis.place(1), axis.place(1_000_000_000)), (0.0, 0.1, 1.0));
    assert_eq!(words(&Axis::of_counts(1, 12)), ["0", "1"]);
    assert_eq!(words(&Axis::of_counts(3, 12)), ["0", "1", "2", "5"]);
    assert_eq!(Axis::of_counts(0, 12).ends(), (0, 1));
}

#[test]
fn rates_have_prefixes() {
    let linear = Axis::new(Scale::Linear, extent(100_000_000, 950_000_000), Words::Prefixed, 6);
    assert_eq!(words(&linear), ["0", "200M", "400M", "600M", "800M", "1G"]);
    let log = Axis::new(Scale::Log, extent(0, 10_000_000), Words::Prefixed, 12);
    assert_eq!(log.ends(), (0, 10_000_000));
    assert_eq!(words(&log)[0], "0");
}

#[test]
fn an_axis_that_ends_at_the_largest_number_has_a_label() {
    for room in [2, 12] {
        let axis = Axis::new(Scale::Log, extent(5_000_000_000_000_000_000, i64::MAX), Words::Prefixed, room);
        assert_eq!(axis.ticks().iter().filter(|tick| tick.label.is_some()).count(), 1, "{axis:?}");
    }
}

proptest! {
    #[test]
    fn every_axis_holds_its_numbers(a: i64, b: i64, shift in 0u32..60, log: bool, room in 2usize..20) {
        let (a, b) = (a >> shift, b >> shift);
        let scale = if log { Scale::Log } else { Scale::Linear };
        let axis = Axis::new(scale, extent(a.min(b), a.max(b)), Words::Duration, room);
        let (low, high) = axis.ends();
        prop_assert!(low < high && low <= a.min(b) && high >= a.max(b), "{:?}", axis);
        prop_assert!(axis.place(a.min(b)) <= axis.place(a.max(b)));
        let ticks = axis.ticks();
        prop_assert!(ticks.windows(2).all(|pair| pair[0].place <= pair[1].place));
        let labels = ticks.iter().filter(|tick| tick.label.is_some()).count();
        prop_assert!((1..=room + 4).contains(&labels), "{} labels: {:?}", labels, axis);
    }
}
