//! Clocks that drift, are set, and are sampled with errors.

use super::*;
use crate::clock::OffsetMethod;
use proptest::prelude::*;

const SECOND: u64 = 1_000_000_000;
const EPOCH: u64 = 1_700_000_000 * SECOND;

fn sample(phc: u64, system: u64, uncertainty_ns: u64) -> OffsetSample {
    let (phc, system) = (Time::from_nanos(phc), Time::from_nanos(system));
    OffsetSample { system, phc, taken: Time::from_nanos(0), uncertainty_ns, method: OffsetMethod::Extended }
}

/// Samples a second apart of a system clock that is what `system` makes of the card's.
fn offsets(seconds: u64, system: impl Fn(u64) -> u64) -> Offsets {
    let mut offsets = Offsets::default();
    for second in 0..seconds {
        let phc = EPOCH + second * SECOND;
        offsets.push(sample(phc, system(phc), 500));
    }
    offsets
}

fn converted(offsets: &Offsets, phc: u64) -> (u64, u64) {
    let (time, uncertainty) = offsets.to_system(Time::from_nanos(phc)).unwrap();
    (time.as_nanos(), uncertainty)
}

#[test]
fn without_a_sample_nothing_is_said() {
    assert_eq!(Offsets::default().to_system(Time::from_nanos(5)), None);
    assert!(!Offsets::default().is_plausible(Time::from_nanos(EPOCH), Time::from_nanos(EPOCH)));
}

#[test]
fn one_sample_is_exact_where_it_is_and_loses_500_ns_a_millisecond() {
    let offsets = offsets(1, |phc| phc + 37 * SECOND);
    assert_eq!(converted(&offsets, EPOCH), (EPOCH + 37 * SECOND, 501));
    assert_eq!(converted(&offsets, EPOCH + 1_000_000), (EPOCH + 37 * SECOND + 1_000_000, 1_001));
    assert_eq!(converted(&offsets, EPOCH - 1_000_000), (EPOCH + 37 * SECOND - 1_000_000, 1_001));
}

#[test]
fn drift_is_followed_between_samples_and_beyond_them() {
    // 20 ppm fast, and 1 s ahead.
    let system = |phc: u64| EPOCH + SECOND + (phc - EPOCH) + (phc - EPOCH) / 50_000;
    let offsets = offsets(20, system);
    assert_eq!(offsets.steps(), 0);
    let (time, uncertainty) = converted(&offsets, EPOCH + 10 * SECOND + SECOND / 2);
    assert_eq!(time, system(EPOCH + 10 * SECOND + SECOND / 2));
    assert!((500..600).contains(&uncertainty), "{uncertainty}");
    let (time, near) = converted(&offsets, EPOCH + 20 * SECOND);
    assert!(time.abs_diff(system(EPOCH + 20 * SECOND)) <= 1, "{time}");
    let (_, far) = converted(&offsets, EPOCH + 60 * SECOND);
    assert!(500 < near && near < far && far < 20_000, "{near} {far}");
}

#[test]
fn a_stepped_system_clock_is_not_averaged_over() {
    let step = 3 * SECOND / 1000;
    let system = |phc: u64| phc + if phc >= EPOCH + 10 * SECOND { step } else { 0 };
    let offsets = offsets(20, system);
    assert_eq!(offsets.steps(), 1);
    for phc in [EPOCH + 8 * SECOND + 7, EPOCH + 9 * SECOND, EPOCH + 10 * SECOND, EPOCH + 11 * SECOND + 7] {
        let (time, uncertainty) = converted(&offsets, phc);
        assert!(time.abs_diff(system(phc)) <= 1 && uncertainty < 1_000, "{phc}: {time} {uncertainty}");
    }
    // In which part of this second it was stepped nobody knows.
    for tenth in 1..10 {
        let phc = EPOCH + 9 * SECOND + tenth * SECOND / 10;
        let (time, uncertainty) = converted(&offsets, phc);
        assert!(time.abs_diff(phc) <= uncertainty && time.abs_diff(phc + step) <= uncertainty, "{tenth}");
        assert!(uncertainty >= step && uncertainty < step + 10_000, "{uncertainty}");
    }
}

#[test]
fn a_step_too_small_to_be_told_from_drift_has_room_in_the_uncertainty() {
    let step = 60_000;
    for at in [1, SECOND / 2, SECOND] {
        let system = |phc: u64| phc + if phc >= EPOCH + 9 * SECOND + at { step } else { 0 };
        let offsets = offsets(20, system);
        for tenth in 0..=10 {
            let phc = EPOCH + 9 * SECOND + tenth * SECOND / 10;
            let (time, uncertainty) = converted(&offsets, phc);
            assert!(time.abs_diff(system(phc)) <= uncertainty, "{at} {tenth}: {time} {uncertainty}");
        }
    }
}

#[test]
fn a_card_whose_clock_is_set_back_has_two_answers_for_one_stamp() {
    let mut offsets = Offsets::default();
    for second in 0..10 {
        offsets.push(sample(EPOCH + second * SECOND, EPOCH + second * SECOND, 500));
    }
    for second in 10..20 {
        offsets.push(sample(EPOCH + (second - 5) * SECOND, EPOCH + second * SECOND, 500));
    }
    assert_eq!(offsets.steps(), 1);
    // The newer one is the answer, and the older one is not excluded.
    let (time, uncertainty) = converted(&offsets, EPOCH + 7 * SECOND);
    assert_eq!(time, EPOCH + 12 * SECOND);
    assert!(uncertainty >= 5 * SECOND);
    assert_eq!(converted(&offsets, EPOCH + 14 * SECOND).0, EPOCH + 19 * SECOND);
    assert!(converted(&offsets, EPOCH + 14 * SECOND).1 < 1_000);
}

/// Samples a second apart, the first of them at `EPOCH` of the system's clock, of a card that shows that and, behind the 10.3rd
/// second, `step` more.
fn stepped_card(step: i64) -> (Offsets, impl Fn(u64) -> u64) {
    let phc = move |system: u64| {
        let is_behind = system >= EPOCH + 10 * SECOND + 3 * SECOND / 10;
        system.saturating_add_signed(if is_behind { step } else { 0 })
    };
    let mut offsets = Offsets::default();
    for second in 0..20 {
        let system = EPOCH + second * SECOND;
        offsets.push(sample(phc(system), system, 50));
    }
    (offsets, phc)
}

#[test]
fn where_a_cards_clock_was_set_the_time_of_the_event_says_which_answer_it_is() {
    for step in [37, -37, 5, -5, -1] {
        let (offsets, phc) = stepped_card(step * 1_000_000_000);
        assert_eq!(offsets.steps(), 1);
        for hundredth in 0..2000 {
            let system = EPOCH + hundredth * SECOND / 100;
            // The process has a packet before the card, or after it.
            for about in [system - 8_000, system + 8_000, system + 100_000_000] {
                let found = offsets.to_system_about(Time::from_nanos(phc(system)), Time::from_nanos(about));
                let is_beside_the_step = (999..=1100).contains(&hundredth);
                if hundredth < 980 || (1101..1901).contains(&hundredth) {
                    assert!(found.is_some(), "{step} {hundredth} {about}");
                }
                assert!(!is_beside_the_step || found.is_none() || [999, 1000, 1100].contains(&hundredth));
                if let Some((time, uncertainty)) = found {
                    assert!(
                        time.as_nanos().abs_diff(system) <= uncertainty && uncertainty < 5_000,
                        "{step} {hundredth}"
                    );
                }
            }
        }
    }
}

#[test]
fn who_has_all_samples_at_hand_asks_for_nothing_far_from_them() {
    let offsets = offsets(3, |phc| phc + SECOND);
    let of = |phc: u64| {
        offsets.to_system_about(Time::from_nanos(phc), Time::from_nanos(phc)).map(|(time, _)| time.as_nanos())
    };
    let beyond = BEYOND.unsigned_abs();
    assert_eq!(of(EPOCH - beyond), Some(EPOCH - beyond + SECOND));
    assert_eq!(of(EPOCH + 2 * SECOND + beyond), Some(EPOCH + 3 * SECOND + beyond));
    assert_eq!((of(EPOCH - beyond - 1), of(EPOCH + 2 * SECOND + beyond + 1)), (None, None));
    assert_eq!(Offsets::default().to_system_about(Time::from_nanos(5), Time::from_nanos(5)), None);
}

#[test]
fn a_clock_that_is_steered_is_within_the_uncertainty_between_samples_that_are_far_apart() {
    // 20 µs to and fro in 10 minutes, a sample each 169 s: what 512 of a day are.
    let phc = |system: u64| {
        let angle = (system - EPOCH) as f64 / 600e9 * std::f64::consts::TAU;
        system.saturating_add_signed((20_000.0 * angle.sin()).round() as i64)
    };
    let mut offsets = Offsets::default();
    for index in 0..64 {
        let system = EPOCH + index * 169 * SECOND;
        offsets.push(sample(phc(system), system, 50));
    }
    assert_eq!(offsets.steps(), 0);
    for second in 0..63 * 169 {
        let system = EPOCH + second * SECOND;
        let (time, uncertainty) =
            offsets.to_system_about(Time::from_nanos(phc(system)), Time::from_nanos(system)).unwrap();
        assert!(time.as_nanos().abs_diff(system) <= uncertainty, "{second}: {time} {uncertainty}");
    }
}

#[test]
fn a_card_whose_clock_is_set_from_its_epoch_to_today_makes_a_step() {
    let mut offsets = Offsets::default();
    offsets.push(sample(10 * SECOND, EPOCH, 500));
    offsets.push(sample(11 * SECOND, EPOCH + SECOND, 500));
    offsets.push(sample(EPOCH + 2 * SECOND, EPOCH + 2 * SECOND, 500));
    assert_eq!(offsets.steps(), 1);
    assert_eq!(converted(&offsets, EPOCH + 2 * SECOND).0, EPOCH + 2 * SECOND);
    assert_eq!(converted(&offsets, 10 * SECOND + SECOND / 2).0, EPOCH + SECOND / 2);
    let now = Time::from_nanos(EPOCH + 2 * SECOND);
    assert!(offsets.is_plausible(Time::from_nanos(EPOCH), now));
    assert!(!offsets.is_plausible(Time::from_nanos(11 * SECOND), now));
}

#[test]
fn a_stamp_is_plausible_within_an_hour_of_its_own_clock() {
    // A card that began at its epoch when it was switched on, 100 days ago.
    let uptime = 100 * 86_400 * SECOND;
    let mut offsets = Offsets::default();
    offsets.push(sample(uptime, EPOCH, 500));
    let plausible = |stamp, later| offsets.is_plausible(Time::from_nanos(stamp), Time::from_nanos(EPOCH + later));
    let hour = 3600 * SECOND;
    assert!(plausible(uptime + hour, 0) && plausible(uptime - hour, 0) && plausible(uptime + 3 * hour, 2 * hour));
    assert!(!plausible(uptime + hour + 1, 0) && !plausible(uptime - hour - 1, 0) && !plausible(EPOCH, 0));
    let mut young = Offsets::default();
    young.push(sample(SECOND, EPOCH, 500));
    assert!(!young.is_plausible(Time::from_nanos(0), Time::from_nanos(EPOCH)), "zero is no stamp");
    assert!(young.is_plausible(Time::from_nanos(1), Time::from_nanos(EPOCH)));
}

#[test]
fn a_days_samples_are_thinned_and_still_right() {
    let system = |phc: u64| phc + SECOND + (phc - EPOCH) / 100_000;
    let offsets = offsets(86_400, system);
    assert!(offsets.samples().len() <= CAPACITY);
    assert_eq!(offsets.samples().next().unwrap().phc.as_nanos(), EPOCH);
    assert_eq!(offsets.steps(), 0);
    for second in [3, 4_000, 40_000, 80_000, 86_000] {
        let phc = EPOCH + second * SECOND + 123_456_789;
        let (time, uncertainty) = converted(&offsets, phc);
        assert!(time.abs_diff(system(phc)) <= uncertainty && uncertainty < 20_000, "{second}: {uncertainty}");
    }
}

#[test]
fn steps_stay_where_they_are_when_samples_are_thinned() {
    let mut offsets = Offsets::with_capacity(32);
    for second in 0..200 {
        let phc = EPOCH + second * SECOND;
        offsets.push(sample(phc, phc + (second / 50) * SECOND, 500));
        assert!(offsets.samples().len() <= 32);
    }
    assert_eq!(offsets.steps(), 3);
    assert_eq!(offsets.runs.len(), 4);
    assert_eq!(converted(&offsets, EPOCH + 75 * SECOND).0, EPOCH + 76 * SECOND);
}

#[test]
fn a_clock_that_steps_each_second_fills_the_room_and_no_more() {
    let mut offsets = Offsets::with_capacity(16);
    for second in 0..100 {
        offsets.push(sample(EPOCH + second * SECOND, EPOCH + 2 * second * SECOND, 500));
    }
    assert_eq!((offsets.samples().len(), offsets.runs.len()), (16, 16));
    assert_eq!(offsets.steps(), 99);
}

proptest! {
    /// Whatever the offset and the drift are, and wherever in its uncertainty each sample is.
    #[test]
    fn the_truth_is_within_the_uncertainty(
        offset in -1_000_000_000_000_000_i64..1_000_000_000_000_000,
        drift_ppb in -400_000_i64..400_000,
        errors in prop::collection::vec((-5_000_i64..=5_000, 0_u64..3_000), 1..40),
        stamps in prop::collection::vec(-20_000_000_000_i64..60_000_000_000, 20),
    ) {
        let system = |phc: u64| {
            let elapsed = i128::from(phc) - i128::from(EPOCH);
            let system = i128::from(phc) + i128::from(offset) + elapsed * i128::from(drift_ppb) / 1_000_000_000;
            u64::try_from(system).unwrap()
        };
        let mut offsets = Offsets::default();
        for (second, (error, slack)) in (0..).zip(&errors) {
            let phc = EPOCH + second * SECOND;
            offsets.push(sample(phc, system(phc).saturating_add_signed(*error), error.unsigned_abs() + slack));
        }
        prop_assert_eq!(offsets.steps(), 0);
        for stamp in stamps {
            let phc = EPOCH.saturating_add_signed(stamp);
            let (time, uncertainty) = converted(&offsets, phc);
            prop_assert!(time.abs_diff(system(phc)) <= uncertainty, "{} {}", time, uncertainty);
        }
    }

    /// A step of more than what drift explains is found, and each side of it is right.
    #[test]
    fn a_step_is_found(at in 1_u64..29, size in 2_000_000_i64..1_000_000_000_000, back: bool) {
        let size = if back { -size } else { size };
        let system = |second: u64| (EPOCH + second * SECOND).saturating_add_signed(if second >= at { size } else { 0 });
        let mut offsets = Offsets::default();
        for second in 0..30 {
            offsets.push(sample(EPOCH + second * SECOND, system(second), 1_000));
        }
        prop_assert_eq!(offsets.steps(), 1);
        for second in 0..30 {
            let (time, uncertainty) = converted(&offsets, EPOCH + second * SECOND);
            prop_assert!(time == system(second) && uncertainty < 3_000, "{} {} {}", second, time, uncertainty);
        }
    }

    #[test]
    fn nothing_panics(samples in prop::collection::vec((any::<u64>(), any::<u64>(), any::<u64>()), 1..40), stamp: u64) {
        let mut offsets = Offsets::with_capacity(8);
        for (phc, system, uncertainty) in samples {
            offsets.push(sample(phc, system, uncertainty));
        }
        converted(&offsets, stamp);
        offsets.to_system_about(Time::from_nanos(stamp), Time::from_nanos(stamp));
    }
}
