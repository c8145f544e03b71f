//! The soak (`benches/soak`), for a few seconds: a session without an end is stopped, and nothing is lost but packets.
//!
//! Needs root and iproute2. Alone in its process, as the signal that ends the session reaches all of it.

#[path = "support/hot.rs"]
mod hot;
#[path = "../benches/soak/run.rs"]
mod run;

use std::time::Duration;

#[test]
fn a_session_without_an_end_that_is_stopped_has_lost_no_stamp_no_row_and_no_frame() {
    // At this rate a writer that others keep from its CPU is waited for 6 s.
    let soak = run::run(Duration::from_secs(3), 10_000).unwrap();
    soak.check().unwrap();
    assert_eq!(soak.client.totals.pings_sent, soak.client.rows.sent);
    assert!(soak.server.frames.iter().all(|frames| frames.free + frames.in_flight == frames.sending));
}
