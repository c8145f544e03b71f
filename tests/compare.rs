//! `xdprobe compare` in network namespaces: both paths are really used, a known delay and a known loss are found, and what
//! cannot be had is said.
//!
//! Needs root and iproute2. No time is asserted but with bounds that only a hang reaches, or against what the relay adds.

#[path = "support/programs.rs"]
mod programs;

use nix::sys::signal::Signal;
use programs::{CLIENT_LINK, Lan, Program, SERVER_ADDRESS, SERVER_LINK, Side, Way};
use serde_json::Value;
use std::time::Duration;
use xdprobe::path::xdp::HookStamps;

const DISTRIBUTION: [&str; 9] = ["count", "min", "mean", "stddev", "p50", "p90", "p99", "p999", "max"];

fn server(lan: &Lan, flags: &[&str]) -> Program {
    let fixed = ["--server", "--emulation", "--interface", SERVER_LINK];
    let mut server = lan.start(Side::Server, &[&fixed, flags].concat());
    server.wait_for_line("nanoprobe server started");
    server
}

fn compare(lan: &Lan, flags: &[&str]) -> Program {
    let fixed = ["compare", "--interface", CLIENT_LINK, "--emulation", "--timer", "sleep"];
    lan.start(Side::Client, &[&fixed, flags, &[SERVER_ADDRESS]].concat())
}

fn run(lan: &Lan, flags: &[&str]) -> Program {
    let mut compare = compare(lan, flags);
    compare.finish();
    compare
}

fn json(program: &Program) -> Value {
    assert_eq!(program.code(), Some(0), "{}", program.all_output());
    serde_json::from_str(&program.stdout()).expect("one object")
}

/// The server's statistics, an object for each session.
fn sessions(server: &mut Program, count: usize) -> Vec<Value> {
    server.wait_until("the statistics", |server| server.stdout().lines().count() >= count);
    server.stdout().lines().map(|line| serde_json::from_str(line).expect("an object a line")).collect()
}

fn number(value: &Value) -> i64 {
    value.as_i64().unwrap_or_else(|| panic!("a whole number: {value}"))
}

fn assert_interval(interval: &Value, too_few: bool) {
    let [estimate, low, high] = ["estimate", "low", "high"].map(|key| number(&interval[key]));
    assert!(low <= high, "{interval}");
    assert!(low <= estimate && estimate <= high, "{interval}");
    assert_eq!(interval["within_noise"], too_few || low <= 0 && high >= 0, "{interval}");
    assert!(estimate.abs() < 10_000_000_000, "{interval}");
}

#[test]
fn both_paths_are_used_in_turn_on_both_sides_and_what_they_did_adds_up() {
    let lan = Lan::new(1);
    let mut server = server(&lan, &["--keep", "--json"]);
    let page = lan.file("compare.html");
    let flags = ["--delay", "2000", "--rounds", "4", "--json", "--ping-size", "300", "--html", &page];
    let found = json(&run(&lan, &flags));
    let all = sessions(&mut server, 8);
    server.signal(Signal::SIGINT);
    server.finish();

    let paths: Vec<_> = all.iter().map(|session| session["path"].as_str().unwrap()).collect();
    assert_eq!(paths, ["xdp", "kernel", "kernel", "xdp", "xdp", "kernel", "kernel", "xdp"]);
    for session in &all {
        let redirected = session["xdp"]["redirected"].as_i64().unwrap();
        let pings = number(&session["pings_received"]);
        assert!(pings > 0, "{session}");
        // Pings and FIN; the SYN comes through the ring in any case.
        let through_the_ring = if session["path"] == "xdp" { pings + 1 } else { 0 };
        assert!((through_the_ring..=through_the_ring + 1).contains(&redirected), "{session}");
        assert_eq!(session["reached_kernel"], 0);
        assert_eq!(session["packet_size"], found["pong_size"]);
    }
    for (path, kept) in [("xdp", [3, 4, 7]), ("kernel", [2, 5, 6])] {
        let of = &found["paths"][path];
        assert_eq!((&of["client_path"], &of["server_path"], &of["rounds"]), (&path.into(), &path.into(), &3.into()));
        let received: i64 = kept.iter().map(|at| number(&all[*at]["pings_received"])).sum();
        assert_eq!((number(&of["pings_sent"]), number(&of["lost"])), (received, 0), "{of}");
        assert_eq!((number(&of["lost_forward"]), number(&of["lost_backward"])), (0, 0));
        assert_eq!(of["server"]["pings_received"], received);
        assert_eq!(of["server"]["dropped"], 0);
        assert!(number(&of["late_sends"]) <= received);
        for key in DISTRIBUTION {
            assert!(of["t3_t0_ns"][key].is_number(), "{key}: {of}");
        }
        assert_eq!((&of["t3_t0_ns"]["count"], &of["rtt_ns"]["count"]), (&received.into(), &received.into()));
        for key in DISTRIBUTION {
            assert!(of["rtt_ns"][key].is_number(), "{key}: {of}");
            // The server took some of the time. What is subtracted differs from ping to ping, so that the deviation may be any.
            assert!(
                key == "stddev" || key == "count" || of["rtt_ns"][key].as_f64() <= of["t3_t0_ns"][key].as_f64(),
                "{of}"
            );
        }
        let ordered: Vec<_> =
            ["min", "p50", "p90", "p99", "p999", "max"].map(|key| number(&of["t3_t0_ns"][key])).into();
        assert!(ordered[0] > 0 && ordered.is_sorted(), "{of}");
        for cpu in [&of["cpu_ns_per_ping"], &of["server"]["cpu_ns_per_ping"]] {
            assert!((1..2_000_000_000).contains(&number(cpu)), "{of}");
        }
        // A thread that sleeps does not take a CPU.
        assert!(of["cpu_share"].as_f64().unwrap() < 1.0, "{of}");
        assert_eq!(of["samples_left_out"], 0);
    }
    // Only AF_XDP has the hook's stamp where nothing is asked of the kernel.
    // A sample of it is what statistics need, and each stamp is in a round trip.
    let hooked = number(&found["paths"]["xdp"]["stages"]["hook_to_app_ns"]["count"]);
    let expected = number(&found["paths"]["xdp"]["pings_sent"]) / i64::from(HookStamps::SAMPLED);
    // From one to the next it is 1 to 33 by chance: of 1500 pings the number deviates by 5.3 (standard deviation), and never by six times that.
    assert!((hooked - expected).abs() <= 32, "{hooked} of {expected}");
    assert_eq!(found["paths"]["xdp"]["stages"]["hook_to_app_ns"]["one_in"], HookStamps::SAMPLED);
    assert_eq!(found["paths"]["kernel"]["stages"], serde_json::json!({}));
    assert_eq!(found["paths"]["xdp"]["xdp_mode"], "native");
    let difference = &found["difference_ns"];
    assert_eq!((&difference["sign"], &difference["rounds"]), (&"kernel - xdp".into(), &3.into()));
    assert_eq!((&difference["of"], &found["t3_t0_difference_ns"]["of"]), (&"rtt_ns".into(), &"t3_t0_ns".into()));
    assert_eq!((&difference["level"], difference["resamples"].as_u64().unwrap() >= 2000), (&0.95.into(), true));
    for key in ["mean", "p50", "p90", "p99", "p999"] {
        assert_interval(&difference[key], true);
    }
    // Of three pairs chance makes a difference in one of three comparisons.
    assert_eq!(difference["too_few_rounds"], true);
    assert!(difference["method"].as_str().unwrap().contains("t(0.975, n-1)/1.96"), "{difference}");
    let medians = ["kernel", "xdp"].map(|path| number(&found["paths"][path]["t3_t0_ns"]["p50"]));
    assert_eq!(number(&found["t3_t0_difference_ns"]["p50"]["estimate"]), medians[0] - medians[1]);
    assert!(found["matrix"].is_null());
    assert_eq!((&found["ping_size"], &found["pong_size"]), (&300.into(), &100.into()));
    let remarks = found["remarks"].to_string();
    assert!(remarks.contains("while the XDP programs"), "{remarks}");
    assert_eq!(remarks.matches("too few rounds to say which path is faster").count(), 1, "{remarks}");

    let html = std::fs::read_to_string(page).unwrap();
    assert!(html.contains("<svg") && html.contains("kernel less xdp") && html.contains("while the XDP programs"));
    lan.assert_unchanged();
}

#[test]
fn the_delay_and_the_loss_of_the_way_are_found_on_both_paths() {
    find_delay_and_loss([Some(5), None]);
}

#[test]
fn the_loss_of_the_way_back_is_found_and_called_that() {
    find_delay_and_loss([None, Some(5)]);
}

/// On a wire of 20 ms each way that loses each n-th ping or pong on one of these ways.
fn find_delay_and_loss(lose_every: [Option<u64>; 2]) {
    const DELAY: Duration = Duration::from_millis(20);
    let [there, back] = lose_every.map(|lose_every| Way { lose_every, ..Way::delayed(DELAY) });
    let lan = Lan::with_relay(there, back);
    let mut server = server(&lan, &["--keep", "--json"]);
    let found = json(&run(&lan, &["--delay", "10000", "--rounds", "3", "--json"]));
    let all = sessions(&mut server, 6);
    let [there, back] = lan.relayed();
    // The relay counts all rounds, the result all but the first two: what the server says of those is taken from it.
    let received: i64 = all.iter().map(|session| number(&session["pings_received"])).sum();
    assert_eq!(received as u64, there.probes - there.lost_probes);
    assert_eq!(back.probes, received as u64);
    assert_eq!([there, back].map(|way| way.lost_probes > 0), lose_every.map(|lose_every| lose_every.is_some()));
    drop(server);
    let mut sent = 0;
    for (path, kept) in [("xdp", [3, 4]), ("kernel", [2, 5])] {
        let of = &found["paths"][path];
        let received: i64 = kept.iter().map(|at| number(&all[*at]["pings_received"])).sum();
        let [forward, backward] = ["lost_forward", "lost_backward"].map(|key| number(&of[key]));
        assert_eq!((forward, number(&of["lost"])), (number(&of["pings_sent"]) - received, forward + backward), "{of}");
        assert_eq!(backward, received - number(&of["t3_t0_ns"]["count"]), "{of}");
        // Each fifth that passes the relay, wherever its count stands as the rounds begin.
        let share = number(&of["pings_sent"]);
        for (lost, lose_every) in [forward, backward].into_iter().zip(lose_every) {
            let expected = if lose_every.is_some() { share / 5 } else { 0 };
            let off = if lose_every.is_some() { 2 } else { 0 };
            assert!((lost - expected).abs() <= off, "{lost} of {share}: {of}");
        }
        for of in [&of["rtt_ns"], &of["t3_t0_ns"]] {
            let least = number(&of["min"]);
            // The least of some hundred is no longer than the way takes and a machine is ever held up.
            let way = 2 * DELAY.as_nanos() as i64;
            assert!((way..way + 20_000_000).contains(&least), "{path}: {least}");
        }
        assert!(number(&of["t3_t0_ns"]["p50"]) < 2_000_000_000, "{of}");
        sent += share;
    }
    assert!(sent as u64 <= there.probes && sent > 0);
    lan.assert_unchanged();
}

#[test]
fn the_matrix_has_all_four_combinations() {
    let lan = Lan::new(1);
    let mut server = server(&lan, &["--keep", "--json"]);
    let found = json(&run(&lan, &["--delay", "5000", "--rounds", "3", "--json", "--matrix"]));
    let matrix = found["matrix"].as_array().expect("four of them");
    let paths: Vec<_> = matrix.iter().map(|of| (of["client_path"].as_str(), of["server_path"].as_str())).collect();
    let [xdp, kernel] = [Some("xdp"), Some("kernel")];
    assert_eq!(paths, [(xdp, xdp), (kernel, kernel), (xdp, kernel), (kernel, xdp)]);
    for of in matrix {
        assert_eq!((&of["rounds"], &of["lost"]), (&2.into(), &0.into()), "{of}");
        assert_eq!(of["t3_t0_ns"]["count"], of["pings_sent"]);
        assert!(of["stages"]["hook_to_app_ns"].is_object() == (of["client_path"] == "xdp"), "{of}");
    }
    assert_eq!((&matrix[0], &matrix[1]), (&found["paths"]["xdp"], &found["paths"]["kernel"]));
    let all = sessions(&mut server, 12);
    assert_eq!(all.iter().filter(|session| session["path"] == "kernel").count(), 6);
    drop(server);
    lan.assert_unchanged();
}

#[test]
fn in_words_it_says_what_is_faster_or_that_it_is_noise_and_how_it_was_measured() {
    let lan = Lan::new(1);
    let _server = server(&lan, &["--keep"]);
    let told = run(&lan, &["--delay", "5000", "--rounds", "3"]);
    assert_eq!(told.code(), Some(0), "{}", told.all_output());
    let text = told.stdout();
    assert!(text.lines().all(|line| line.chars().count() <= 112), "{text}");
    // Wherever the lines end.
    let text = text.split_whitespace().collect::<Vec<_>>().join(" ");
    for words in [
        "AF_XDP beside the kernel's UDP to 10.66.0.2:10666 from ga: 2 rounds of 1 s on each path, a ping every 5000 us",
        "RTT: kernel less xdp, in us, with the 95 % interval of 2000 drawings from 2 pairs of rounds",
        "t3-t0: kernel less xdp, in us, with the 95 % interval of 2000 drawings from 2 pairs of rounds",
        "while the XDP programs of this side and of the server were attached",
        "RTT: too few rounds to say which path is faster: of fewer than 6 pairs",
        "raise --rounds to 7 or more",
    ] {
        assert!(text.contains(words), "{words}: {text}");
    }
    assert_eq!(text.matches("which path is faster").count(), 1, "once is enough: {text}");
    assert!(!text.contains("is faster by") && !text.contains("within the noise"), "{text}");
    assert!(!text.contains("waited busily"), "{text}");

    let told = run(&lan, &["--delay", "5000", "--rounds", "7"]).stdout();
    let told = told.split_whitespace().collect::<Vec<_>>().join(" ");
    assert!(told.contains("is faster by") || told.contains("within the noise"), "{told}");
    assert!(!told.contains("too few"), "{told}");
}

#[test]
fn what_cannot_be_compared_with_is_named() {
    let lan = Lan::new(1);
    let page = lan.file("compare.html");
    let alone = run(&lan, &["--rounds", "3", "--connect-timeout", "200000", "--html", &page]);
    assert_eq!(alone.code(), Some(1));
    assert!(!std::path::Path::new(&page).exists(), "an empty page is none");
    assert!(alone.stderr().contains("did not answer: check that it runs with --server --keep"), "{}", alone.stderr());

    let short = server(&lan, &[]);
    let once = run(&lan, &["--rounds", "3", "--delay", "5000", "--connect-timeout", "2000000"]);
    assert_eq!((once.code(), once.stdout()), (Some(1), String::new()));
    assert!(once.stderr().contains("--keep"), "{}", once.stderr());
    drop(short);

    let without_xdp = server(&lan, &["--keep", "--path", "kernel"]);
    let refused = run(&lan, &["--rounds", "3", "--delay", "5000"]);
    assert_eq!(refused.code(), Some(1));
    assert!(refused.stderr().contains("cannot serve on the xdp path"), "{}", refused.stderr());
    assert!(without_xdp.stderr().contains("start it with --path xdp"), "{}", without_xdp.stderr());
    drop(without_xdp);

    let folder = run(&lan, &["--rounds", "3", "--html", "/nowhere/compare.html"]);
    assert_eq!(folder.code(), Some(1));
    assert!(folder.stderr().contains("--html /nowhere/compare.html"), "{}", folder.stderr());
    lan.assert_unchanged();
}

#[test]
fn stopped_it_says_what_there_is_or_that_there_is_too_little() {
    let lan = Lan::new(1);
    let mut server = server(&lan, &["--keep", "--json"]);
    let mut early = compare(&lan, &["--rounds", "50", "--delay", "5000", "--json"]);
    sessions(&mut server, 1);
    early.signal(Signal::SIGINT);
    early.finish();
    assert_eq!((early.code(), early.stdout()), (Some(1), String::new()), "{}", early.all_output());
    assert!(early.stderr().contains("say nothing of how they differ"), "{}", early.stderr());

    let before = server.stdout().lines().count();
    let mut late = compare(&lan, &["--rounds", "50", "--delay", "5000", "--json"]);
    sessions(&mut server, before + 7);
    late.signal(Signal::SIGTERM);
    late.finish();
    let found = json(&late);
    assert_eq!(
        (&found["stopped"], &found["paths"]["xdp"]["rounds"]),
        (&true.into(), &found["paths"]["kernel"]["rounds"])
    );
    assert!(number(&found["paths"]["xdp"]["rounds"]) >= 2, "{found}");
    drop(server);
    lan.assert_unchanged();
}

#[test]
fn stamps_of_the_kernel_on_both_paths_and_sides_make_a_round_trip_of_what_the_pongs_tell() {
    let lan = Lan::new(1);
    let flags = ["--server", "--keep", "--json", "--interface", SERVER_LINK, "--timestamps", "software"];
    let mut server = lan.start(Side::Server, &flags);
    server.wait_for_line("nanoprobe server started");
    let flags = ["compare", "--interface", CLIENT_LINK, "--timer", "sleep", "--timestamps", "software"];
    let flags = [&flags[..], &["--delay", "5000", "--rounds", "3", "--json", SERVER_ADDRESS]].concat();
    let mut compare = lan.start(Side::Client, &flags);
    compare.finish();
    let found = json(&compare);
    sessions(&mut server, 6);
    drop(server);
    assert_eq!(found["timestamps"], "software");
    for path in ["xdp", "kernel"] {
        let of = &found["paths"][path];
        assert_eq!((&of["tx_source"], &of["rx_source"]), (&"software".into(), &"software".into()), "{of}");
        let sent = number(&of["pings_sent"]);
        assert_eq!((number(&of["lost"]), number(&of["lost_forward"]), number(&of["lost_backward"])), (0, 0, 0), "{of}");
        let [t3_t0, rtt] = ["t3_t0_ns", "rtt_ns"].map(|key| number(&of[key]["count"]));
        assert!(sent > 0 && t3_t0 > 0 && t3_t0 <= sent, "{of}");
        // A pong's stamps go out with a later one: the last ones of each round are never told.
        assert!(rtt > 0 && rtt < t3_t0, "{of}");
        assert!(number(&of["rtt_ns"]["min"]) <= number(&of["t3_t0_ns"]["min"]), "{of}");
        assert!(
            found["remarks"].to_string().contains(&format!("{path}: {} of {t3_t0} pongs have no RTT", t3_t0 - rtt))
        );
    }
    assert_eq!(found["difference_ns"]["of"], "rtt_ns");
    lan.assert_unchanged();
}
