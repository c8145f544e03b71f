//! The bench of many clients (`benches/clients`), once and small: it runs, and the counts of both sides add up.
//!
//! Needs root and iproute2. No time is asserted.
#![allow(unsafe_code, reason = "the rings and the XDP program of the floor")]
#![allow(dead_code, reason = "what the bench does with its figures")]

#[path = "../benches/clients/bench.rs"]
mod bench;
#[path = "../benches/reach/figures.rs"]
mod figures;
#[path = "../benches/clients/flood.rs"]
mod flood;
#[path = "../benches/clients/generator.rs"]
mod generator;
#[path = "../benches/clients/measures.rs"]
mod measures;
#[path = "support/namespace.rs"]
mod namespace;
#[path = "../benches/reach/output.rs"]
mod output;
#[path = "../benches/floor/redirect.rs"]
mod redirect;
#[path = "../benches/floor/rings.rs"]
mod rings;
#[path = "../benches/clients/server.rs"]
mod server;

use bench::{Bench, SERVER};
use figures::Figures;
use generator::Traffic;
use server::{Server, count};
use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::time::Duration;

const TIME: Duration = Duration::from_millis(200);

fn bench() -> Bench {
    Bench::new(output::cpus().unwrap(), TIME, TIME, Arc::new(AtomicBool::new(false)))
}

#[test]
fn every_ping_is_of_one_client_and_its_pong_comes_back_to_it() {
    let bench = bench();
    let mut generator = bench.generator().unwrap();
    let server = Server::start(&bench.server, SERVER, bench.cpus[1], 100, true, &[]).unwrap();
    let mut crowd = generator.connect(100).unwrap();
    let outcome = crowd.run(Traffic { rate: 2000, flood: None, time: TIME }).unwrap();
    crowd.finish().unwrap();
    let sessions = server.finish().unwrap();
    let of = |name| -> Vec<u64> { sessions.iter().map(|(_, session)| count(session, name).unwrap()).collect() };

    assert_eq!(sessions.len(), 100);
    // In turn: nobody has more than one ping more than another.
    let (least, most) = (outcome.pings / 100, outcome.pings.div_ceil(100));
    assert!(of("pings_received").iter().all(|pings| (least..=most).contains(pings)), "{outcome:?} {sessions:?}");
    assert_eq!(of("pings_received").iter().sum::<u64>(), outcome.pings);
    assert_eq!((of("pongs_sent"), outcome.lost()), (of("pings_received"), 0));
    assert_eq!(of("rows_written").iter().sum::<u64>(), 2 * outcome.pings);
    // t3 - t0.
    assert!(outcome.round_trips.iter().all(|nanos| (1..60_000_000_000).contains(nanos)));
}

#[test]
fn a_round_of_the_bench_has_figures_and_counts_that_add_up() {
    let bench = bench();
    let mut generator = bench.generator().unwrap();
    let mut figures = Figures::default();
    measures::crowd(&bench, &mut generator, (16, "16 clients"), [false, false], &mut figures).unwrap();
    // Ends with an error where a ping is in no count, or in two.
    flood::round(&bench, &mut generator, 400_000, false, &mut figures).unwrap();
    let [measured, _] = figures.to_json(&flood::targets());
    for figure in measured.as_array().unwrap() {
        assert_eq!(figure["rounds"].as_array().unwrap().len(), 1, "{figure}");
        assert!(figure["median"].is_f64(), "{figure}");
    }
    let sent = measured.as_array().unwrap().iter().find(|figure| figure["measure"] == "pings sent").unwrap();
    assert!(sent["median"].as_f64().unwrap() > 0.0, "{sent}");
}
