//! The bench beside the floor (`benches/reach`), once and small: it runs, and its figures are what xdprobe says of itself. Which rounds
//! are calm, with made-up figures.
//!
//! Needs root and iproute2. No time is asserted.
#![allow(unsafe_code, reason = "the rings and the XDP program of the floor")]
#![allow(dead_code, reason = "what the bench does besides")]

#[path = "../benches/reach/contestant.rs"]
mod contestant;
#[path = "../benches/reach/figures.rs"]
mod figures;
#[path = "../benches/floor/mod.rs"]
mod floor;
#[path = "../benches/reach/lan.rs"]
mod lan;
#[path = "../benches/reach/log.rs"]
mod log;
#[path = "../benches/reach/measures.rs"]
mod measures;
#[path = "support/namespace.rs"]
mod namespace;
#[path = "../benches/reach/others.rs"]
mod others;
#[path = "../benches/reach/output.rs"]
mod output;
#[path = "../benches/reach/targets.rs"]
mod targets;
#[path = "../benches/reach/writer.rs"]
mod writer;

use contestant::{Contestant, Who};
use figures::Figures;
use lan::Lan;
use measures::Part;
use serde_json::Value;
use std::sync::atomic::AtomicBool;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use targets::{
    AWAY_CLIENT, AWAY_SERVER, BUSY_P99, CALM, DUE_WHILE_AWAY, PLANNED_P99, RTT_P50, RTT_P999, UNDISTURBED_P50,
    UNDISTURBED_P99, is_next, targets,
};

/// Rounds of the floor's, xdprobe's and the original's p99.9.
fn of_rounds(rounds: &[[f64; 3]]) -> Figures {
    let mut figures = Figures::default();
    for values in rounds {
        for (who, value) in [Who::Floor, Who::Xdp, Who::Nanoprobe].into_iter().zip(values) {
            figures.add(RTT_P999, "us", who.name(), *value);
        }
    }
    figures
}

/// Two busy loops are enough for two CPUs.
fn alone() -> MutexGuard<'static, ()> {
    static ALONE: Mutex<()> = Mutex::new(());
    ALONE.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Of the targets of p99.9, what is told of the calm rounds.
fn calm(figures: &Figures) -> Vec<Value> {
    let [_, targets] = figures.to_json(&targets());
    let targets = targets.as_array().unwrap().iter();
    targets.filter(|target| target["measure"] == RTT_P999).map(|target| target["calm"].clone()).collect()
}

#[test]
fn calm_rounds_are_those_in_which_the_floor_was_left_alone_whatever_became_of_us() {
    // The limit itself is calm; a round in which only xdprobe was disturbed is calm, one in which only it was left alone is not.
    let figures = of_rounds(&[
        [50.0, 60.0, 3000.0],
        [100.0, 9000.0, 4000.0],
        [100.1, 10.0, 4000.0],
        [5000.0, 20.0, 4000.0],
        [40.0, 56.0, 2000.0],
        [f64::NAN, 56.0, 2000.0],
    ]);
    assert_eq!(figures.calm_rounds(&CALM), 3);
    let [to_floor, to_nanoprobe] = calm(&figures).try_into().unwrap();
    for told in [&to_floor, &to_nanoprobe] {
        assert_eq!((&told["contestant"], &told["at_most"]), (&"floor".into(), &100.0.into()));
        assert_eq!((&told["rounds"], &told["of"]), (&3.into(), &6.into()));
    }
    let of = |told: &Value| ["median", "least", "most"].map(|name| told[name].as_f64().unwrap());
    assert_eq!((of(&to_floor), &to_floor["reached"]), ([1.4, 1.2, 90.0], &true.into()));
    assert_eq!((of(&to_nanoprobe), &to_nanoprobe["reached"]), ([0.028, 0.02, 2.25], &true.into()));
    // All rounds are told as ever.
    let [_, targets] = figures.to_json(&targets());
    let of_all = targets.as_array().unwrap().iter().find(|target| target["measure"] == RTT_P999).unwrap();
    assert_eq!((of(of_all), &of_all["reached"]), ([1.2, 0.004, 90.0], &true.into()));
    // Nothing else has calm rounds of its own.
    let others = targets.as_array().unwrap().iter().filter(|target| target["measure"] != RTT_P999);
    assert!(others.into_iter().all(|target| target["calm"].is_null()));
    let text = figures.to_text(&self::targets());
    for line in [
        "| t3-t0 at 10 k/s, p99.9: xdp path / floor | <= 1.5 | 1.20 | 0.004 | 90.0 | yes |",
        "| t3-t0 at 10 k/s, p99.9: xdp path / floor, calm rounds (3 of 6 rounds) | <= 1.5 | 1.40 | 1.20 | 90.0 | yes |",
        "| t3-t0 at 10 k/s, p99.9: xdp path / nanoprobe, calm rounds (3 of 6 rounds) | <= 0.03 | 0.028 | 0.020 | 2.25 | yes |",
        "In a calm round the floor's own t3-t0 at 10 k/s, p99.9 was not above 100 us; nobody else's figures decide.",
    ] {
        assert!(text.lines().any(|said| said == line), "{line}\n{text}");
    }
}

#[test]
fn where_no_round_was_calm_that_is_said() {
    let figures = of_rounds(&[[3000.0, 4000.0, 5000.0], [200.0, 90.0, 4000.0]]);
    let told = calm(&figures);
    assert_eq!((figures.calm_rounds(&CALM), told.len()), (0, 2));
    assert!(told.iter().all(|told| told["rounds"] == 0 && told["of"] == 2 && told["reached"].is_null()), "{told:?}");
    let text = figures.to_text(&targets());
    let line =
        "| t3-t0 at 10 k/s, p99.9: xdp path / floor, calm rounds (0 of 2 rounds) | <= 1.5 |  |  |  | no calm round |";
    assert!(text.lines().any(|said| said == line), "{text}");
    assert_eq!(calm(&Figures::default()).iter().map(|told| told["of"].as_u64().unwrap()).collect::<Vec<_>>(), [0, 0]);
}

#[test]
fn a_round_in_which_a_pong_was_there_before_its_ping_was_stamped_is_in_no_ratio() {
    let mut figures = Figures::default();
    for (ours, theirs) in [(8.0, -4.0), (8.0, 40.0), (8.0, 0.0), (-1.0, 40.0), (8.0, 32.0)] {
        figures.add(RTT_P50, "us", Who::Xdp.name(), ours);
        figures.add(RTT_P50, "us", Who::Nanoprobe.name(), theirs);
    }
    let [told, targets] = figures.to_json(&targets());
    let to_nanoprobe = |target: &&Value| {
        target["measure"] == RTT_P50
            && target["contestant"] == Who::Xdp.name()
            && target["against"]["contestant"] == Who::Nanoprobe.name()
    };
    let target = targets.as_array().unwrap().iter().find(to_nanoprobe).unwrap();
    assert_eq!([&target["median"], &target["least"], &target["most"]], [&0.225, &0.2, &0.25]);
    // The figures themselves are as they were measured.
    assert_eq!(told[1]["least"], -4.0);
}

#[test]
fn rounds_end_with_enough_calm_ones_and_never_go_beyond_their_number() {
    // 0: however many were calm.
    assert!(is_next(6, 7, 6, 0) && !is_next(7, 7, 0, 0));
    assert!(is_next(3, 7, 2, 3) && !is_next(3, 7, 3, 3) && !is_next(7, 7, 2, 3) && !is_next(0, 0, 0, 3));
}

#[test]
fn a_round_tells_of_the_core_what_xdprobe_tells() {
    let _alone = alone();
    let lan = Lan::new(1, &Arc::new(AtomicBool::new(false))).unwrap();
    let contestants = Contestant::all();
    let ours = contestants.into_iter().filter(|contestant| matches!(contestant.who, Who::Floor | Who::Xdp));
    let mut figures = Figures::default();
    measures::round(&lan, &ours.collect::<Vec<_>>(), [1, 1], &[Part::RoundTrips], &mut figures).unwrap();
    let [measured, targets] = figures.to_json(&targets());
    let median = |measure: &str, contestant: &str| {
        let mut all = measured.as_array().unwrap().iter();
        let figure = all.find(|figure| figure["measure"] == measure && figure["contestant"] == contestant);
        figure.and_then(|figure| figure["median"].as_f64())
    };
    for measure in [RTT_P50, RTT_P999] {
        assert!(median(measure, "floor").unwrap() > 0.0 && median(measure, "xdp path").unwrap() > 0.0, "{measured}");
    }
    let of_lateness =
        [UNDISTURBED_P50, UNDISTURBED_P99, PLANNED_P99, BUSY_P99].map(|measure| median(measure, "xdp path").unwrap());
    assert!(of_lateness[0] <= of_lateness[1], "{of_lateness:?}");
    for measure in [DUE_WHILE_AWAY, AWAY_CLIENT, AWAY_SERVER] {
        assert!((0.0..=1000.0).contains(&median(measure, "xdp path").unwrap()), "{measure}: {measured}");
        assert_eq!(median(measure, "floor"), None);
    }
    // The target is of the pings that were not due while the core was away; the others' figure stands beside it.
    let of = |measure: &str| targets.as_array().unwrap().iter().find(|target| target["measure"] == measure);
    assert_eq!(of(UNDISTURBED_P99).unwrap()["median"].as_f64(), Some(of_lateness[1]));
    assert_eq!(of(BUSY_P99).unwrap()["median"].as_f64(), Some(of_lateness[3]));
}

#[test]
fn all_parts_have_names_and_the_whole_bench_has_all_of_them() {
    let parts = Part::named("trips,options,one-way,rates,sleep,start,writer").unwrap();
    assert_eq!(parts, Part::ALL);
    let error = Part::named("trips,option").unwrap_err().to_string();
    assert!(error.contains("option is none of trips,options,"), "{error}");
    // Each of the options is a contestant, and has its round trips in that part.
    let options = Contestant::all().into_iter().filter(|contestant| matches!(contestant.who, Who::Tuned(..)));
    let _alone = alone();
    let lan = Lan::new(1, &Arc::new(AtomicBool::new(false))).unwrap();
    let mut figures = Figures::default();
    let options: Vec<Contestant> = options.collect();
    measures::round(&lan, &options, [1, 1], &[Part::Options], &mut figures).unwrap();
    let [measured, _] = figures.to_json(&[]);
    let measured = measured.as_array().unwrap();
    for contestant in options {
        let name = contestant.who.name();
        assert!(measured.iter().any(|figure| figure["contestant"] == name && figure["measure"] == RTT_P50), "{name}");
    }
}
