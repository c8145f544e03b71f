//! The pages that the program itself writes, in a browser: `report`, `compare` and `sweep` with `--html`.
//!
//! What `tests/page.rs` checks of pages of known data is checked of these. Needs root, iproute2 and a Chromium.

#[path = "support/logs.rs"]
mod logs;
#[path = "support/opened.rs"]
mod opened;
#[path = "support/programs.rs"]
mod programs;

use logs::World;
use nix::sys::signal::Signal;
use opened::Opened;
use programs::{CLIENT_LINK, Lan, Program, SERVER_ADDRESS, SERVER_LINK, Side, Way};
use serde_json::json;
use std::fs;
use std::path::Path;
use std::process::Command;
use tempfile::TempDir;

const GOLDEN: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/golden");
/// What a distribution is shown as.
const TWICE: [&str; 2] = ["histogram", "cdf"];
/// And over the time of a session.
const THRICE: [&str; 3] = ["histogram", "cdf", "over-time"];

/// `xdprobe report` in a folder; the page that it writes there.
fn report(folder: &Path, line: &str) -> Opened {
    let output = Command::new(env!("CARGO_BIN_EXE_xdprobe"))
        .arg("report")
        .args(line.split_whitespace())
        .args(["--html", "page.html"])
        .current_dir(folder)
        .output()
        .expect("the program runs");
    assert!(output.status.success(), "{line}: {}", String::from_utf8_lossy(&output.stderr));
    Opened::new(folder.join("page.html"))
}

/// The logs of a session in a folder.
fn write_logs(folder: &Path, world: &World) {
    let logs = world.run();
    fs::write(folder.join("client.csv"), logs.pinging).unwrap();
    fs::write(folder.join("server.csv"), logs.echoing).unwrap();
}

/// Clocks an hour apart, and losses of both ways.
fn lossy() -> World {
    World {
        seed: 7,
        pings: 3_000,
        interval: 1_000_000,
        skew_ppm: 12.0,
        offset: 3_600_000_000_000,
        delay: 40_000,
        jitter: 10_000.0,
        loss: [0.01, 0.005],
        duplicates: [0.02, 0.03],
        overtaken: [0.02, 0.01],
    }
}

fn server(lan: &Lan, flags: &[&str]) -> Program {
    let mut server = lan.start(Side::Server, &[&["--server", "--interface", SERVER_LINK], flags].concat());
    server.wait_for_line("nanoprobe server started");
    server
}

/// Runs the program on the client's side; the page that it writes.
fn written(lan: &Lan, arguments: &[&str]) -> Opened {
    let page = lan.file("page.html");
    let program = lan.run(Side::Client, &[arguments, &["--html", &page, SERVER_ADDRESS]].concat());
    assert_eq!(program.code(), Some(0), "{}", program.all_output());
    Opened::new(page)
}

fn ended(mut server: Program) {
    server.signal(Signal::SIGTERM);
    server.finish();
    assert_eq!(server.code(), Some(0), "{}", server.all_output());
}

#[test]
fn a_report_of_a_session_with_losses_and_clocks_apart() {
    let folder = TempDir::new().unwrap();
    write_logs(folder.path(), &lossy());
    let mut page = report(folder.path(), "client.csv server.csv");
    page.looks_right(&[THRICE, THRICE].concat());
    assert!(page.count("#chart-3 .mark.loss") > 0, "lost pings are marked beside the round trips");
    // As in a comparison.
    let caption = |chart| format!("document.querySelector('#chart-{chart} figcaption p').textContent");
    for chart in [2, 5] {
        assert_eq!(page.value(&caption(chart)), json!("Each further nine takes as much room as the last one."));
    }
    // Each way has its own lane.
    assert_eq!((page.count("#chart-6 .lane"), page.count("#chart-6 .picture .range")), (2, 4));
    let notes = page.value("[...document.querySelectorAll('.note')].map(note => note.textContent).join(' ')");
    assert!(notes.as_str().unwrap().contains("ahead of that of the client"), "{notes}");
}

#[test]
fn reports_laid_over_each_other() {
    let folder = TempDir::new().unwrap();
    write_logs(folder.path(), &lossy());
    let others = ["loss", "hardware-forward"].map(|name| {
        let logs = format!("{GOLDEN}/{name}");
        format!("--with {logs}/client.csv,{logs}/server.csv")
    });
    let labels = "--label an-hour-apart --label lost-on-purpose --label wire-of-exactly-10-us";
    let mut page = report(folder.path(), &format!("client.csv server.csv {} {labels}", others.join(" ")));
    page.looks_right(&[THRICE, THRICE].concat());
    let legend =
        "[...document.querySelectorAll('#chart-1 .legend span')].map(entry => entry.textContent.split(' ')[0])";
    assert_eq!(page.value(legend), json!(["an-hour-apart", "lost-on-purpose", "wire-of-exactly-10-us"]));
}

#[test]
fn reports_of_what_the_original_wrote() {
    let folder = TempDir::new().unwrap();
    let one_way: &[&str] = &THRICE;
    let both: &[&str] = &[THRICE, THRICE].concat();
    for (name, kinds) in [("schedule", both), ("reverse", both), ("duplex", one_way), ("hardware-duplex", one_way)] {
        let logs = format!("{GOLDEN}/{name}");
        report(folder.path(), &format!("{logs}/client.csv {logs}/server.csv")).looks_right(kinds);
    }
    // One log knows no one-way delay.
    report(folder.path(), &format!("{GOLDEN}/forward-default/client.csv")).looks_right(&THRICE);
    report(folder.path(), &format!("{GOLDEN}/forward-default/server.csv")).looks_right(&[]);
}

#[test]
fn a_report_of_a_probe_schedule_with_the_stages_of_both_sides() {
    let lan = Lan::with_relay(Way { lose_every: Some(40), ..Way::default() }, Way::default());
    let [schedule, client, server_log, stages, server_stages] =
        ["schedule.csv", "client.csv", "server.csv", "stages.csv", "server-stages.csv"].map(|name| lan.file(name));
    let lines: String = (0..300).map(|line| format!("{},{}\n", 200 + line % 7 * 300, 60 + line % 10 * 140)).collect();
    fs::write(&schedule, lines).unwrap();
    let stamps = ["--timestamps", "software"];
    let mut server = server(&lan, &[&stamps[..], &["--log", &server_log, "--log-stages", &server_stages]].concat());
    let flags = ["--client", "--interface", CLIENT_LINK, "--probe-schedule", &schedule, "--log", &client];
    let program = lan.run(Side::Client, &[&flags[..], &stamps, &["--log-stages", &stages, SERVER_ADDRESS]].concat());
    assert_eq!(program.code(), Some(0), "{}", program.all_output());
    server.finish();
    let line = "client.csv server.csv --stages stages.csv --stages server-stages.csv";
    let mut page = report(Path::new(&client).parent().unwrap(), line);
    page.looks_right(&[&THRICE[..], &THRICE, &["stages"]].concat());
    assert!(page.count("#chart-6 .mark.loss") > 0 && page.count("#chart-7 .bar") >= 4);
}

#[test]
fn a_comparison_of_two_paths_and_of_four() {
    let lan = Lan::new(1);
    let server = server(&lan, &["--keep", "--timestamps", "software"]);
    let fixed = ["compare", "--interface", CLIENT_LINK, "--timer", "sleep", "--delay", "1000", "--rounds", "3"];
    let kinds = [&TWICE[..], &TWICE, &["stages"]].concat();
    let mut page = written(&lan, &[&fixed[..], &["--timestamps", "software"]].concat());
    page.looks_right(&kinds);
    assert_eq!((page.count("#chart-1 path.series"), page.count("#chart-2 path.mark")), (2, 2));
    let captions = "[...document.querySelectorAll('figure.cdf figcaption p')].map(caption => caption.textContent)";
    assert_eq!(page.value(captions), json!(vec!["Each further nine takes as much room as the last one."; 2]));
    let mut page = written(&lan, &[&fixed[..], &["--emulation", "--matrix"]].concat());
    page.looks_right(&kinds);
    assert_eq!((page.count("#chart-1 path.series"), page.count("#chart-2 path.mark")), (4, 4));
    ended(server);
}

#[test]
fn a_sweep_of_few_and_of_many_steps_that_are_reached_or_not() {
    let lan = Lan::new(1);
    let limited = server(&lan, &["--keep", "--emulation", "--max-rate", "400pps"]);
    let fixed = ["sweep", "--interface", CLIENT_LINK, "--emulation", "--delay", "1000", "--step-time", "1"];
    let mut page = written(&lan, &[&fixed[..], &["--rates", "100,500pps"]].concat());
    page.looks_right(&["histogram", "lines"]);
    // Each percentile of the step that the server allowed less than, at least: a busy machine may miss more.
    assert!(page.count("#chart-2 .picture .mark.hollow") >= 4);
    ended(limited);
    let server = server(&lan, &["--keep", "--emulation"]);
    let rates = "100k,200k,300k,1M,2M,3M,4M";
    let mut page = written(&lan, &[&fixed[..], &["--rates", rates, "--in-band"]].concat());
    page.looks_right(&["histogram", "lines"]);
    assert_eq!((page.count("#chart-1 path.series"), page.count("#chart-2 .picture .s0 .mark")), (6, 8));
    ended(server);
}
