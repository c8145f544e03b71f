//! The relay of the other tests does what it says: every ping is delayed, each n-th is lost, all is counted.
//!
//! Needs root and iproute2.

#[path = "support/programs.rs"]
mod programs;

use programs::{CLIENT_LINK, Lan, SERVER_ADDRESS, SERVER_LINK, Side, Way};
use serde_json::Value;
use std::time::Duration;

const DELAY: Duration = Duration::from_millis(10);

#[test]
fn every_probe_is_delayed_and_each_tenth_is_lost_on_either_path() {
    for (client_path, server_path) in [("xdp", "kernel"), ("kernel", "xdp")] {
        let lan = Lan::with_relay(Way { lose_every: Some(10), ..Way::delayed(DELAY) }, Way::delayed(DELAY));
        let server = ["--server", "--interface", SERVER_LINK, "--emulation", "--path", server_path];
        let mut server = lan.start(Side::Server, &server);
        server.wait_for_line("nanoprobe server started");
        let client = ["--client", "-i", CLIENT_LINK, "-e", "--path", client_path, "-n1", "-d5000", "--json"];
        let client = lan.run(Side::Client, &[&client[..], &[SERVER_ADDRESS]].concat());
        server.finish();
        assert_eq!(client.code(), Some(0), "{}", client.all_output());
        let json: Value = serde_json::from_str(&client.stdout()).expect("one object");
        let [there, back] = lan.relayed();
        let sent = json["pings_sent"].as_u64().unwrap();
        assert_eq!((there.probes, there.lost_probes), (sent, sent / 10), "{client_path}");
        assert!(sent >= 10, "{json}");
        assert_eq!((back.probes, back.lost_probes), (sent - sent / 10, 0));
        assert_eq!(json["lost"], there.lost_probes);
        let least = json["t3_t0_ns"]["min"].as_u64().unwrap();
        assert!(least >= 2 * DELAY.as_nanos() as u64, "{least}");
        assert!(least < 2_000_000_000, "{least}");
    }
}
