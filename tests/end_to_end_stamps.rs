//! The built program with the kernel's stamps, as its user runs it, on veth: logs, log of stages, statistics and meta file
//! say the same. Needs root and iproute2. The card's stamps are tested in guests (tests/vm).

#[path = "support/programs.rs"]
mod programs;

use programs::{CLIENT_LINK, Lan, Program, SERVER_ADDRESS, SERVER_LINK, Side};
use serde_json::Value;
use std::collections::BTreeMap;

/// A line of the log of stages; ns since the epoch.
#[derive(Debug)]
struct Stage {
    queue: Option<u32>,
    app: i64,
    software: Option<i64>,
}

/// By point and sequence.
type Stages = BTreeMap<(String, u64), Stage>;

fn stages(path: &str) -> Stages {
    let text = std::fs::read_to_string(path).unwrap();
    let (header, rows) = text.split_once('\n').unwrap();
    assert_eq!(header, "seq,point,size,queue,t_app,t_sw,t_hw,hw_clock");
    let read = |line: &str| {
        let fields: Vec<&str> = line.split(',').collect();
        let [sequence, point, "44", queue, app, software, "", ""] = fields[..] else { panic!("{line}") };
        let stage = Stage { queue: queue.parse().ok(), app: app.parse().unwrap(), software: software.parse().ok() };
        ((point.to_owned(), sequence.parse().unwrap()), stage)
    };
    let stages: Stages = rows.lines().map(read).collect();
    assert_eq!(stages.len(), rows.lines().count(), "each packet has one line at each point");
    stages
}

/// The log's stamps by point and sequence.
fn log(path: &str) -> BTreeMap<(String, u64), i64> {
    let text = std::fs::read_to_string(path).unwrap();
    let read = |line: &str| {
        let fields: Vec<&str> = line.split(',').collect();
        let stamp: i64 = fields[2].replace('.', "").parse().unwrap();
        ((fields[1].to_owned(), fields[0].parse().unwrap()), stamp)
    };
    text.lines().skip(1).map(read).collect()
}

/// One side of a finished session.
struct Outcome {
    json: Value,
    log: BTreeMap<(String, u64), i64>,
    stages: Stages,
    meta: Value,
}

/// A session of both sides with these flags; the server's first.
fn session(lan: &Lan, flags: [&str; 2], mode: &str) -> [Outcome; 2] {
    let files = ["server", "client"].map(|side| ["csv", "stages"].map(|kind| lan.file(&format!("{side}.{kind}"))));
    let start = |side, link, at: usize, more: &str| {
        let [log, stages] = &files[at];
        let fixed = ["--interface", link, "--json", "--log", log, "--log-stages", stages];
        let words: Vec<&str> =
            fixed.into_iter().chain(flags[at].split_whitespace()).chain(more.split_whitespace()).collect();
        lan.start(side, &words)
    };
    let mut server = start(Side::Server, SERVER_LINK, 0, "--server");
    server.wait_for_line("nanoprobe server started");
    let client = start(Side::Client, CLIENT_LINK, 1, &format!("--client -n 1 -d 2000 {mode} {SERVER_ADDRESS}"));
    let mut at = 0;
    [server, client].map(|mut program: Program| {
        program.finish();
        assert_eq!(program.code(), Some(0), "{}", program.all_output());
        let [log_file, stage_file] = &files[at];
        at += 1;
        let outcome = Outcome {
            json: serde_json::from_str(&program.stdout()).unwrap(),
            log: log(log_file),
            stages: stages(stage_file),
            meta: serde_json::from_str(&std::fs::read_to_string(format!("{log_file}.meta.json")).unwrap()).unwrap(),
        };
        for file in [log_file, stage_file, &format!("{log_file}.meta.json")] {
            std::fs::remove_file(file).unwrap();
        }
        outcome
    })
}

fn is_sending(point: &str) -> bool {
    ["t0", "t2"].iter().any(|sends| point.starts_with(sends))
}

/// Every packet has the kernel's stamp, the log has it, and it lies where it must.
fn assert_software(outcome: &Outcome, xdp: bool, hand_over: bool) {
    assert!(outcome.log.len() > 50, "{}", outcome.log.len());
    assert_eq!(outcome.log.len(), outcome.stages.len());
    for (key, stamp) in &outcome.log {
        let stage = &outcome.stages[key];
        let sending = is_sending(&key.0);
        if sending && hand_over {
            assert_eq!((stage.software, *stamp, stage.queue), (None, stage.app, Some(0)), "{key:?}");
            continue;
        }
        assert_eq!(stage.software, Some(*stamp), "{key:?}");
        assert!(if sending { stage.app <= *stamp } else { *stamp <= stage.app }, "{key:?} {stage:?}");
        assert_eq!(stage.queue, (xdp && !sending).then_some(0), "{key:?}");
    }
    let json = &outcome.json;
    assert_eq!(json["tx_stamps"], json["tx_stamps_requested"], "{json}");
    let received = outcome.log.keys().filter(|(point, _)| !is_sending(point)).count();
    assert_eq!([&json["rx_stamps"], &json["rx_stamps_requested"]], [received, received], "a row each: {json}");
    assert_eq!((&json["tx_stamps_missed"], &json["rx_stamps_missed"]), (&0.into(), &0.into()), "{json}");
    for (name, sends) in [(if xdp { "hook_to_app_ns" } else { "kernel_to_app_ns" }, false), ("app_to_sw_ns", true)] {
        let mut times: Vec<i64> = outcome
            .stages
            .iter()
            .filter(|((point, _), _)| is_sending(point) == sends)
            .filter_map(|(_, stage)| Some((stage.app - stage.software?).abs()))
            .collect();
        times.sort_unstable();
        let told = &json["stages"][name];
        if times.is_empty() {
            assert!(told.is_null(), "{name}: {told}");
            continue;
        }
        let expected = [times.len() as i64, times[0], times[times.len() - 1]];
        assert_eq!(["count", "min", "max"].map(|key| told[key].as_i64().unwrap()), expected, "{name}");
    }
    for (point, told) in outcome.meta["timestamps"].as_object().unwrap() {
        let id = told["clock_id"].as_str().unwrap_or_default();
        assert!(id.starts_with("CLOCK_REALTIME@") && id.len() > 30, "{told}");
        let place = match (is_sending(point), xdp, hand_over) {
            (true, _, true) => "hand-over",
            (true, ..) => "driver",
            (false, true, _) => "XDP hook",
            (false, false, _) => "kernel",
        };
        assert_eq!((told["where"].as_str(), told["clock"].as_str()), (Some(place), Some("CLOCK_REALTIME")), "{point}");
    }
}

#[test]
fn the_kernels_stamps_are_complete_on_every_pair_of_paths_and_in_every_mode() {
    let lan = Lan::new(1);
    for (server_path, client_path) in [("xdp", "xdp"), ("kernel", "kernel"), ("xdp", "kernel"), ("kernel", "xdp")] {
        for mode in ["", "--reverse", "--duplex"] {
            let flags = [server_path, client_path].map(|path| format!("--timestamps software --path {path}"));
            let outcomes = session(&lan, [&flags[0], &flags[1]], mode);
            for (outcome, path) in outcomes.iter().zip([server_path, client_path]) {
                assert_software(outcome, path == "xdp", false);
            }
            // Both ends read one clock: nothing arrives before it was sent.
            let [server, client] = &outcomes;
            let sent = |from: &Outcome, to: &Outcome| {
                for ((point, sequence), received) in to.log.iter().filter(|((point, _), _)| !is_sending(point)) {
                    let left = point.replace("t1", "t0").replace("t3", "t2");
                    let sent = from.stages[&(left, *sequence)].app;
                    assert!(sent <= *received, "{point} of {sequence}");
                }
            };
            sent(server, client);
            sent(client, server);
        }
    }
    lan.assert_unchanged();
}

#[test]
fn with_tx_xsk_the_hand_over_stands_for_the_transmit_stamp() {
    let lan = Lan::new(1);
    let flags = "--timestamps software --tx xsk";
    for outcome in session(&lan, [flags, flags], "") {
        assert_software(&outcome, true, true);
    }
}

#[test]
fn statistics_of_a_sample_of_hook_stamps_say_so_and_those_of_all_do_not() {
    let lan = Lan::new(1);
    let log = lan.file("sampled.stages");
    for (flags, is_sample) in [
        ("--emulation --json", true),
        ("--emulation", true),
        (&*format!("--emulation --json --log-stages {log}"), false),
        ("--timestamps software --json", false),
    ] {
        let mut server = lan.start(Side::Server, &["--server", "--interface", SERVER_LINK, "--emulation"]);
        server.wait_for_line("nanoprobe server started");
        let fixed = ["--client", "--interface", CLIENT_LINK, "-n", "1", "-d", "1000"];
        let words: Vec<_> = fixed.into_iter().chain(flags.split_whitespace()).chain([SERVER_ADDRESS]).collect();
        let client = lan.run(Side::Client, &words);
        server.finish();
        assert_eq!(client.code(), Some(0), "{}", client.all_output());
        let sampled = server.stdout();
        assert!(sampled.contains(" samples, of one frame in 17\n"), "the server's are: {sampled}");
        if !flags.contains("--json") {
            let text = client.stdout();
            let line = text.lines().find(|line| line.starts_with("hook->app ")).unwrap_or_else(|| panic!("{text}"));
            assert!(line.ends_with(" samples, of one frame in 17"), "{line}");
            continue;
        }
        let json: Value = serde_json::from_str(&client.stdout()).unwrap();
        let stage = &json["stages"]["hook_to_app_ns"];
        let [count, pongs] = [&stage["count"], &json["pongs_received"]].map(|count| count.as_u64().unwrap());
        match is_sample {
            true => assert!(stage["one_in"] == 17 && count < pongs / 4, "{stage} of {pongs}"),
            false => assert_eq!((stage.get("one_in"), count), (None, pongs), "{stage}"),
        }
    }
}

#[test]
fn pings_without_a_pause_have_their_transmit_stamps() {
    let lan = Lan::new(1);
    let flags = ["--timestamps software", "--timestamps software --delay 0 --pong-every 100 --count 1"];
    // The last of a repeated flag wins: no delay.
    let [_, client] = session(&lan, flags, "-d 0");
    let number = |name: &str| client.json[name].as_u64().unwrap();
    assert!(number("tx_stamps_requested") > 1000, "{}", client.json);
    assert_eq!(number("tx_stamps") + number("tx_stamps_missed"), number("tx_stamps_requested"), "{}", client.json);
    assert!(number("tx_stamps_missed") * 10 < number("tx_stamps_requested"), "{}", client.json);
}

#[test]
fn hardware_stamps_on_veth_are_refused_before_the_first_packet_with_the_ways_out() {
    let lan = Lan::new(1);
    for path in ["xdp", "kernel"] {
        let client = lan.run(Side::Client, &["--client", "-i", CLIENT_LINK, "--path", path, SERVER_ADDRESS]);
        assert_eq!(client.code(), Some(1));
        let said = client.stderr();
        for word in ["ga (driver veth)", "--timestamps software", "--timestamps application"] {
            assert!(said.contains(word), "{word}: {said}");
        }
        assert_eq!(client.stdout(), "");
    }
    let shown = lan.namespace(Side::Client).ip(&["-s", "-j", "link", "show", CLIENT_LINK]);
    let shown: Value = serde_json::from_str(&shown).unwrap();
    assert_eq!(shown[0]["stats64"]["tx"]["packets"], 0, "nothing was sent: {shown}");
    lan.assert_unchanged();
}
