//! `xdprobe sweep` in network namespaces: the server's count, its limit, a wire with known delay, loss and rate, a server
//! that dies. Needs root and iproute2. No time is asserted but those that the wire makes.

#[path = "support/programs.rs"]
mod programs;

use nix::sys::signal::Signal;
use programs::{CLIENT_LINK, Lan, Program, SERVER_ADDRESS, SERVER_LINK, Side, Way};
use serde_json::Value;
use std::time::Duration;

fn start_server(lan: &Lan, path: &str, flags: &[&str]) -> Program {
    let fixed = ["--server", "--keep", "--interface", SERVER_LINK, "--emulation", "--path", path];
    let mut server = lan.start(Side::Server, &[&fixed, flags].concat());
    server.wait_for_line("nanoprobe server started");
    server
}

fn arguments<'a>(path: &'a str, flags: &[&'a str]) -> Vec<&'a str> {
    let fixed = ["sweep", "--interface", CLIENT_LINK, "--emulation", "--path", path, "--delay", "1000"];
    [&fixed, flags, &[SERVER_ADDRESS]].concat()
}

/// Runs a sweep to its end; what it says as JSON.
fn sweep(lan: &Lan, path: &str, flags: &[&str]) -> (Program, Value) {
    let program = lan.run(Side::Client, &arguments(path, &[&["--json", "--step-time", "1"], flags].concat()));
    let json = serde_json::from_str(&program.stdout()).unwrap_or_else(|_| panic!("{}", program.all_output()));
    (program, json)
}

fn number(value: &Value) -> u64 {
    value.as_u64().unwrap_or_else(|| panic!("{value} is a number"))
}

#[test]
fn the_server_counts_what_was_sent_on_every_pair_of_paths() {
    let lan = Lan::new(1);
    for (client, server_path) in [("xdp", "xdp"), ("kernel", "kernel"), ("xdp", "kernel"), ("kernel", "xdp")] {
        let mut server = start_server(&lan, server_path, &[]);
        let flags = ["--rates", "500pps,10M", "--load-size", "1000", "--pattern", "poisson"];
        let in_band: &[&str] = if client == "xdp" { &["--in-band"] } else { &[] };
        let (program, json) = sweep(&lan, client, &[&flags, in_band].concat());
        assert_eq!(program.code(), Some(0), "{}", program.all_output());
        assert_eq!((&json["success"], &json["path"]), (&true.into(), &client.into()));
        assert_eq!(json["quantity"], if in_band.is_empty() { "t3_t0_ns" } else { "rtt_ns" });
        let steps = json["steps"].as_array().unwrap();
        assert_eq!(steps.len(), 3);
        let baseline = &steps[0];
        assert!(baseline["target"].is_null() && baseline["limited_by"].is_null(), "{baseline}");
        assert_eq!((number(&baseline["load_sent"]), number(&baseline["load_received"])), (0, 0));
        for (step, (name, pps)) in steps[1..].iter().zip([("500 pps", 500), ("10 Mbit/s", 10_000_000 / 8304)]) {
            assert_eq!((&step["target"], number(&step["target_pps"])), (&name.into(), pps));
            assert_eq!(number(&step["granted_pps"]), pps);
            let [due, sent, received, late, refused] =
                ["load_due", "load_sent", "load_received", "load_late", "load_refused"].map(|key| number(&step[key]));
            assert_eq!(due, sent + late + refused, "{step}");
            assert_eq!((received, number(&step["load_lost"])), (sent, 0), "{step}");
            // Of a second with a seed: within 6 standard deviations.
            let deviation = (pps as f64).sqrt() * 6.0;
            assert!((due as f64 - pps as f64).abs() < deviation, "{due}");
            assert!(step["received_pps"].as_f64().unwrap() > 0.0);
        }
        for step in steps {
            assert_eq!(step["end"], "complete");
            assert_eq!(step["rtt_ns"].is_object(), !in_band.is_empty(), "{step}");
            if !in_band.is_empty() {
                // What the server took is not in it.
                assert_eq!(step["rtt_ns"]["count"], step["t3_t0_ns"]["count"], "{step}");
                for key in ["min", "mean", "p50", "max"] {
                    let [rtt, t3_t0] = ["rtt_ns", "t3_t0_ns"].map(|name| step[name][key].as_f64().expect(key));
                    assert!(0.0 < rtt && rtt < t3_t0, "{key}: {step}");
                }
            }
            assert_eq!(number(&step["t3_t0_ns"]["count"]), number(&step["pings"]) - number(&step["lost"]), "{step}");
            for key in ["min", "mean", "stddev", "p50", "p90", "p99", "p999", "p9999", "max"] {
                assert!(step["t3_t0_ns"][key].is_number(), "{key}: {step}");
            }
        }
        server.signal(Signal::SIGTERM);
        server.finish();
        assert_eq!(server.code(), Some(0), "{}", server.all_output());
        assert!(!server.stderr().contains("more than the"), "{}", server.stderr());
    }
    lan.assert_unchanged();
}

#[test]
fn with_in_band_the_table_and_the_page_are_of_the_round_trip() {
    let lan = Lan::new(1);
    let mut server = start_server(&lan, "xdp", &[]);
    let rates = ["--rates", "500pps", "--step-time", "1"];
    for (in_band, has, quantity) in [
        (true, [" RTT p50", "RTT = (t3 - t0) - (t2 - t1) in us"], "RTT, (t3 − t0) − (t2 − t1)"),
        (false, [" p50", ", t3 - t0 in us"], "t3 − t0"),
    ] {
        let html = lan.file("sweep.html");
        let flags: Vec<&str> =
            rates.into_iter().chain(["--html", &html]).chain(in_band.then_some("--in-band")).collect();
        let program = lan.run(Side::Client, &arguments("xdp", &flags));
        assert_eq!(program.code(), Some(0), "{}", program.all_output());
        for part in has {
            assert!(program.stdout().contains(part), "{part}: {}", program.all_output());
        }
        let page = std::fs::read_to_string(&html).expect("the page is written");
        assert!(page.contains(&format!("{quantity} against load sent")), "{page}");
        assert_eq!([page.contains("RTT"), program.stdout().contains("RTT")], [in_band; 2]);
    }
    server.signal(Signal::SIGTERM);
    server.finish();
    lan.assert_unchanged();
}

#[test]
fn a_servers_limit_is_obeyed_and_named() {
    let lan = Lan::new(1);
    let mut server = start_server(&lan, "xdp", &["--max-rate", "200pps"]);
    let (program, json) = sweep(&lan, "xdp", &["--rates", "100,1000pps"]);
    assert_eq!(program.code(), Some(0), "{}", program.all_output());
    let [_, below, beyond] = &json["steps"].as_array().unwrap()[..] else { panic!("{json}") };
    assert_eq!((number(&below["granted_pps"]), number(&beyond["granted_pps"])), (100, 200));
    // What was granted of the time that the step took, no less and no more.
    let (due, seconds) = (number(&beyond["load_due"]), number(&beyond["duration_ns"]) as f64 / 1e9);
    assert!((due as f64 - 200.0 * seconds).abs() <= 2.0, "{beyond}");
    assert!(number(&beyond["load_received"]) <= due, "{beyond}");
    assert_eq!((number(&beyond["load_lost"]), number(&beyond["lost"])), (0, 0), "{beyond}");
    assert_eq!((&beyond["reached"], &beyond["limited_by"]), (&false.into(), &"server".into()));
    server.signal(Signal::SIGTERM);
    server.finish();
    lan.assert_unchanged();
}

#[test]
fn the_delay_and_the_loss_of_a_wire_are_found() {
    find_delay_and_loss([Some(10), None]);
}

#[test]
fn the_delay_and_the_loss_of_the_way_back_are_found() {
    find_delay_and_loss([None, Some(10)]);
}

/// On a wire of 5 ms there and 3 ms back that loses each n-th ping or pong on one of these ways.
fn find_delay_and_loss(lose_every: [Option<u64>; 2]) {
    let there = Way { lose_every: lose_every[0], ..Way::delayed(Duration::from_millis(5)) };
    let back = Way { lose_every: lose_every[1], ..Way::delayed(Duration::from_millis(3)) };
    let lan = Lan::with_relay(there, back);
    let mut server = start_server(&lan, "xdp", &[]);
    let (program, json) = sweep(&lan, "xdp", &["--rates", "200pps", "--in-band"]);
    assert_eq!(program.code(), Some(0), "{}", program.all_output());
    for step in json["steps"].as_array().unwrap() {
        // Never shorter than the wire, and the least of some hundred no longer than a machine is ever held up; each tenth ping
        // is lost.
        for quantity in ["t3_t0_ns", "rtt_ns"] {
            assert!((8_000_000..28_000_000).contains(&number(&step[quantity]["min"])), "{step}");
        }
        let (pings, lost) = (number(&step["pings"]), number(&step["lost"]));
        assert!((lost as f64 - pings as f64 / 10.0).abs() <= 1.0, "{step}");
        assert_eq!(number(&step["load_received"]), number(&step["load_sent"]), "{step}");
    }
    let sum = |key: &str| json["steps"].as_array().unwrap().iter().map(|step| number(&step[key])).sum::<u64>();
    let relayed = lan.relayed().map(|way| way.lost_probes);
    assert_eq!(sum("lost"), relayed.iter().sum::<u64>());
    assert_eq!([sum("lost_forward"), sum("lost_backward")], relayed);
    server.signal(Signal::SIGTERM);
    server.finish();
}

#[test]
fn a_link_that_is_too_slow_is_named_as_the_limit() {
    // 2 Mbit/s of frames: 250 packets of 1000 bytes a second.
    let there = Way { bits_per_second: Some(2_000_000), ..Way::default() };
    let lan = Lan::with_relay(there, Way::default());
    let mut server = start_server(&lan, "xdp", &[]);
    let html = lan.file("sweep.html");
    let flags = ["--rates", "100pps,20kpps", "--load-size", "1000", "--step-time", "1", "--html", &html];
    let (program, json) = sweep(&lan, "xdp", &flags);
    let steps = json["steps"].as_array().unwrap();
    let beyond = steps.last().unwrap();
    assert_eq!((&beyond["target"], &beyond["reached"]), (&"20 kpps".into(), &false.into()), "{}", program.all_output());
    assert!(number(&beyond["load_received"]) < number(&beyond["load_due"]) / 2, "{beyond}");
    let page = std::fs::read_to_string(&html).expect("the page is written");
    for part in ["Latency under load", "20 kpps was not reached", "<svg"] {
        assert!(page.contains(part), "{part}");
    }
    server.signal(Signal::SIGTERM);
    server.finish();
}

#[test]
fn a_link_with_half_of_the_rate_is_the_limit_whether_it_loses_or_queues() {
    // Each packet has 1014 bytes with its Ethernet header: 246 a second pass, some fewer beside the pings. A machine that is held up
    // for half of the time would still send more.
    let rate = 2_000_000;
    for (queue, load, words) in [
        // 0.4 s of them wait, the others are lost.
        (100, "500pps", "packets that were sent did not come, and were lost before they reached the server's sockets"),
        // All of them have room and come in the end, in 1.6 s.
        (1000, "400pps", "a queue on the way grew, and would have lost packets had it gone on for longer"),
    ] {
        let there = Way { bits_per_second: Some(rate), queue: Some(queue), ..Way::default() };
        let lan = Lan::with_relay(there, Way::default());
        let mut server = start_server(&lan, "xdp", &[]);
        let (program, json) = sweep(&lan, "xdp", &["--rates", load, "--load-size", "1000", "--delay", "10000"]);
        assert_eq!(program.code(), Some(0), "{}", program.all_output());
        let [_, step] = &json["steps"].as_array().unwrap()[..] else { panic!("{json}") };
        assert_eq!(step["end"], "complete", "{step}");
        assert_eq!((&step["limited_by"], &step["reached"]), (&"link".into(), &false.into()), "{step}");
        let [sent, received, lost] = ["load_sent", "load_received", "load_lost"].map(|key| number(&step[key]));
        assert_eq!((lost, number(&step["server_dropped"])), (sent - received, 0), "{step}");
        let overflowed = lan.relayed()[0].overflowed;
        match queue {
            // Of the frames that the relay dropped some were pings.
            100 => assert!(lost > 50 && lost <= overflowed && overflowed <= lost + number(&step["lost"]), "{step}"),
            _ => assert_eq!((lost, overflowed), (0, 0), "{step}"),
        }
        let [sent, received] = ["sent_pps", "received_pps"].map(|key| step[key].as_f64().expect(key));
        assert!(received < sent, "{step}");
        let remarks = json["remarks"].to_string();
        assert!(remarks.contains("was not reached: the network was the limit") && remarks.contains(words), "{remarks}");
        server.signal(Signal::SIGTERM);
        server.finish();
    }
}

#[test]
fn a_flood_stops_when_the_server_is_killed_and_leaves_nothing() {
    let lan = Lan::new(1);
    for path in ["xdp", "kernel"] {
        let mut server = start_server(&lan, path, &[]);
        let html = lan.file(&format!("{path}.html"));
        let flags = ["--rates", "1000pps,2000pps", "--step-time", "600", "--html", &html];
        let mut program = lan.start(Side::Client, &arguments(path, &flags));
        // The first step, without load, is long too: this sweep never ends by itself.
        server.wait_for_line("Connected to client");
        program.wait_for_line("step 1 of 3");
        server.signal(Signal::SIGKILL);
        server.finish();
        program.finish();
        assert_eq!(program.code(), Some(1), "{}", program.all_output());
        lan.assert_unchanged();

        let mut server = start_server(&lan, path, &[]);
        let flags = ["--rates", "1000pps", "--step-time", "5", "--timeout", "0"];
        let mut program = lan.start(Side::Client, &arguments(path, &flags));
        program.wait_for_line("step 2 of 2");
        server.wait_until("the second session", |server| server.stdout().matches("Connected to client").count() == 2);
        server.signal(Signal::SIGKILL);
        server.finish();
        program.finish();
        assert_eq!(program.code(), Some(1), "{}", program.all_output());
        let stderr = program.stderr();
        assert!(stderr.contains("step 2 of 2: The server was not heard of for 1 s"), "{}", program.all_output());
        assert!(program.stdout().contains("1 kpps *"), "what was measured is said: {}", program.all_output());
        lan.assert_unchanged();
    }
}

#[test]
fn whoever_stops_it_is_told_which_steps_are_whole() {
    let lan = Lan::new(1);
    let server = start_server(&lan, "xdp", &[]);
    let html = lan.file("sweep.html");
    // Shares of what the driver of a veth states.
    let flags = ["--rates", "0.001,0.002,0.003%", "--step-time", "3", "--html", &html];
    let stopped = |flags: &[&str]| {
        let mut program = lan.start(Side::Client, &arguments("xdp", flags));
        program.wait_for_line("step 2 of 4, 0.001 %");
        program.signal(Signal::SIGINT);
        program.finish();
        assert_eq!(program.code(), Some(0), "{}", program.all_output());
        program
    };
    let program = stopped(&flags);
    let text = program.stdout().split_whitespace().collect::<Vec<_>>().join(" ");
    // The signal may come before the second session stands: then there is none that was cut off.
    let whole = "You stopped the sweep. Of its steps, whole: no load; ";
    let (cut, not) = ("cut off: 0.001 %; not begun: 0.002 %, 0.003 %.", "not begun: 0.001 %, 0.002 %, 0.003 %.");
    assert!(text.contains(&format!("{whole}{cut}")) || text.contains(&format!("{whole}{not}")), "{text}");
    assert!(!text.contains("as planned") && !program.stderr().contains("no session"), "{}", program.all_output());
    let page = std::fs::read_to_string(&html).expect("the page is written");
    for part in ["You stopped the sweep.", "10 Gbit/s (nominal: its driver states it"] {
        assert!(page.contains(part), "{part}");
    }
    let json: Value = serde_json::from_str(&stopped(&[&flags[..], &["--json"]].concat()).stdout()).expect("one object");
    assert_eq!((&json["stopped"], &json["steps_planned"], &json["success"]), (&true.into(), &4.into(), &true.into()));
    assert_eq!((&json["link_speed_bps"], &json["link_speed_is_nominal"]), (&10_000_000_000_u64.into(), &true.into()));
    assert_eq!(json["steps"][0]["end"], "complete");
    drop(server);
    lan.assert_unchanged();
}

#[test]
fn wrong_ground_is_named_before_anything_is_sent() {
    let lan = Lan::new(1);
    let page = lan.file("missing/sweep.html");
    let cases: [(&[&str], &[&str]); 6] = [
        (&["--rates", "1M", "--load-size", "1501"], &["--load-size 1501", "MTU", "1500"]),
        (&["--rates", "5%", "--max-rate", "1M"], &["--rates", "5 %", "--max-rate 1 Mbit/s"]),
        (&["--rates", "100"], &["--rates 100", "shares of the link"]),
        (&["--rates", "9000", "--load-size", "1500"], &["--rates 9000"]),
        (&["--rates", "1,9000bps"], &["less than one packet of 1500 bytes"]),
        (&["--rates", "1M", "--html", &page], &["--html", &page, "No such file or directory"]),
    ];
    for (flags, parts) in cases {
        let program = lan.run(Side::Client, &arguments("xdp", flags));
        assert!(matches!(program.code(), Some(1 | 2)), "{flags:?}: {}", program.all_output());
        for part in parts {
            assert!(program.stderr().contains(part), "{flags:?} names {part:?}: {}", program.stderr());
        }
        assert_eq!(program.stdout(), "");
    }
    // A bridge without ports has no speed.
    lan.namespace(Side::Client).ip(&["link", "add", "br0", "type", "bridge"]);
    lan.namespace(Side::Client).ip(&["address", "add", "10.67.0.1/24", "dev", "br0"]);
    lan.namespace(Side::Client).ip(&["link", "set", "br0", "up"]);
    let program =
        lan.run(Side::Client, &["sweep", "-i", "br0", "-e", "--path", "kernel", "--rates", "5%", "10.67.0.2"]);
    assert_eq!(program.code(), Some(1), "{}", program.all_output());
    for part in ["--rates", "br0 is not known", "100M,1G", "10,50kpps"] {
        assert!(program.stderr().contains(part), "{part}: {}", program.stderr());
    }
    lan.assert_unchanged();
}

#[test]
fn a_server_that_knows_no_load_is_named() {
    let lan = Lan::new(1);
    // No server at all, and one that is given up.
    let flags = ["--rates", "100pps", "--connect-timeout", "300000"];
    let program = lan.run(Side::Client, &arguments("kernel", &flags));
    assert_eq!(program.code(), Some(1), "{}", program.all_output());
    assert!(program.stderr().contains("did not answer"), "{}", program.stderr());
    assert_eq!(program.stdout(), "");
}
