//! Stamps inside the pongs with the built program on veth: what the side that pings says of its round trips is what both logs
//! come to when they are joined. Needs root and iproute2. The card's stamps are tested in guests (tests/vm).

#[path = "support/programs.rs"]
mod programs;

use programs::{CLIENT_LINK, Lan, Program, SERVER_ADDRESS, SERVER_LINK, Side};
use serde_json::Value;
use std::collections::BTreeMap;

/// One side of a finished session: what it said, and the log's stamps by point and sequence.
struct Outcome {
    json: Value,
    log: BTreeMap<(String, u64), i64>,
    /// Bytes of the pongs.
    pong_sizes: Vec<u64>,
}

fn outcome(program: &mut Program, path: &str) -> Outcome {
    program.finish();
    assert_eq!(program.code(), Some(0), "{}", program.all_output());
    let text = std::fs::read_to_string(path).unwrap();
    let rows: Vec<Vec<&str>> = text.lines().skip(1).map(|line| line.split(',').collect()).collect();
    let read =
        |row: &Vec<&str>| ((row[1].to_owned(), row[0].parse().unwrap()), row[2].replace('.', "").parse().unwrap());
    let pongs = rows.iter().filter(|row| ["t2", "t3"].contains(&row[1]));
    Outcome {
        json: serde_json::from_str(&program.stdout()).unwrap(),
        log: rows.iter().map(read).collect(),
        pong_sizes: pongs.map(|row| row[3].parse().unwrap()).collect(),
    }
}

/// A session of both sides with these flags; the server's first.
fn session(lan: &Lan, flags: [&str; 2], more: &str) -> [Outcome; 2] {
    let files = ["server.csv", "client.csv"].map(|name| lan.file(name));
    for file in &files {
        let _ = std::fs::remove_file(file);
    }
    let start = |side, link, at: usize, more: &str| {
        let fixed = ["--interface", link, "--json", "--log", &files[at]];
        let words = fixed.into_iter().chain(flags[at].split_whitespace()).chain(more.split_whitespace());
        lan.start(side, &words.collect::<Vec<_>>())
    };
    let mut server = start(Side::Server, SERVER_LINK, 0, "--server");
    server.wait_for_line("nanoprobe server started");
    let more = format!("--client -n 1 -d 2000 --in-band {more} {SERVER_ADDRESS}");
    let mut client = start(Side::Client, CLIENT_LINK, 1, &more);
    let client = outcome(&mut client, &files[1]);
    [outcome(&mut server, &files[0]), client]
}

/// (t3 − t0) − (t2 − t1) of every sequence that has all four, in the order of the sequences.
fn joined(server: &Outcome, client: &Outcome) -> Vec<i64> {
    let stamps: BTreeMap<&(String, u64), i64> =
        server.log.iter().chain(&client.log).map(|(key, stamp)| (key, *stamp)).collect();
    let of = |point: &str, sequence| stamps.get(&(point.to_owned(), sequence)).copied();
    let rtt = |sequence| Some(of("t3", sequence)? - of("t0", sequence)? - (of("t2", sequence)? - of("t1", sequence)?));
    let last = stamps.keys().map(|(_, sequence)| *sequence).max().unwrap_or(0);
    (1..=last).filter_map(rtt).collect()
}

/// What the side that pings says is what the logs say, of the first so many pings: those whose stamps came in time.
fn assert_same(pinging: &Outcome, mut logged: Vec<i64>, source: &str) {
    let json = &pinging.json;
    let number = |value: &Value| value.as_i64().unwrap_or_else(|| panic!("{json}"));
    let (told, missing) = (&json["rtt_ns"], number(&json["rtt_missing"]));
    let count = number(&told["count"]);
    assert_eq!(count + missing, logged.len() as i64, "{json}");
    match source {
        "application" => assert_eq!(missing, 0),
        // Those of the last pong come with no other; a slow machine tells of a few later.
        _ => assert!((1..=10).contains(&missing), "{missing} of {}: {json}", logged.len()),
    }
    logged.truncate(count as usize);
    assert!(logged.len() > 50, "{}", logged.len());
    let mean = logged.iter().sum::<i64>() as f64 / logged.len() as f64;
    assert!((told["mean"].as_f64().unwrap() - mean).abs() < 0.01, "{told} {mean}");
    logged.sort_unstable();
    let rank = |per_1000: usize| logged[(logged.len() * per_1000).div_ceil(1000) - 1];
    assert_eq!([number(&told["min"]), number(&told["max"])], [logged[0], logged[logged.len() - 1]]);
    for (name, per_1000) in [("p50", 500), ("p90", 900), ("p99", 990), ("p999", 999)] {
        let (told, exact) = (number(&told[name]), rank(per_1000));
        assert!((told - exact).abs() * 1000 <= exact.abs() + 1000, "{name}: {told} {exact}");
    }
    assert_eq!(json["t2_t1_source"], source);
    assert_eq!((&json["rtt_negative"], &json["rtt_strange"], &json["in_band"]), (&0.into(), &0.into(), &true.into()));
}

#[test]
fn the_round_trips_of_the_side_that_pings_are_those_of_both_logs() {
    let lan = Lan::new(1);
    for (server_path, client_path) in [("xdp", "xdp"), ("kernel", "kernel"), ("xdp", "kernel"), ("kernel", "xdp")] {
        for source in ["application", "software"] {
            for mode in ["", "--reverse"] {
                let flags = [server_path, client_path].map(|path| format!("--timestamps {source} --path {path}"));
                let [server, client] = session(&lan, [&flags[0], &flags[1]], mode);
                let logged = joined(&server, &client);
                let (pings, pongs) = if mode.is_empty() { (&client, &server) } else { (&server, &client) };
                assert_same(pings, logged, source);
                assert!(pings.pong_sizes.iter().chain(&pongs.pong_sizes).all(|size| *size == 100));
                assert!(pongs.json["rtt_ns"].is_null() && pongs.json["rtt_missing"].is_null());
                let told = pongs.json["stamps_told"].as_u64().unwrap();
                assert_eq!(told > 0, source == "software", "{}", pongs.json);
            }
        }
    }
    lan.assert_unchanged();
}

#[test]
fn each_side_has_its_own_source_and_they_are_never_mixed() {
    let lan = Lan::new(1);
    let [server, client] =
        session(&lan, ["--timestamps software", "--timestamps application"], "--pong-every 2 -o 300");
    assert_same(&client, joined(&server, &client), "software");
    assert!(client.pong_sizes.iter().all(|size| *size == 300));
    let [server, client] = session(&lan, ["-e", "--timestamps software --path kernel"], "-d 1000");
    assert_same(&client, joined(&server, &client), "application");
    // What AF_XDP sends has no stamp of the kernel's: the two of the log are of two sources, and the pong tells the process's.
    let [server, client] = session(&lan, ["--timestamps software --tx xsk", "-e"], "");
    assert_eq!((&client.json["t2_t1_source"], &server.json["stamps_told"]), (&"application".into(), &0.into()));
    assert_eq!(client.json["rtt_missing"], 0);
    lan.assert_unchanged();
}

#[test]
fn it_is_said_in_words_with_the_sources() {
    let lan = Lan::new(1);
    let mut server = lan.start(Side::Server, &["--server", "-i", SERVER_LINK, "-e"]);
    server.wait_for_line("nanoprobe server started");
    let words = ["--client", "-i", CLIENT_LINK, "--timestamps", "software", "-n", "1", "--in-band", SERVER_ADDRESS];
    let client = lan.run(Side::Client, &words);
    assert_eq!(client.code(), Some(0), "{}", client.all_output());
    server.finish();
    let said = client.stdout();
    let line = said.lines().find(|line| line.starts_with("RTT   ")).unwrap_or_else(|| panic!("{said}"));
    assert!(line.ends_with("t3-t0 software, t2-t1 application"), "{line}");
}
