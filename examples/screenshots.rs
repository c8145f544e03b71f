//! PNGs of README's pictures: `cargo run --example screenshots XDPROBE FOLDER` runs this program between network namespaces
//! and takes the pictures from the pages that it writes, which stay beside them, as does what it prints.
//!
//! What they show was measured just then. Needs root, iproute2 and a Chromium. `make screenshots` puts them into `docs`.

#[path = "../tests/support/browser.rs"]
mod browser;
#[path = "../tests/support/programs.rs"]
mod programs;

use anyhow::{Context, bail, ensure};
use browser::Browser;
use programs::{CLIENT_LINK, Lan, Program, SERVER_ADDRESS, SERVER_LINK, Side, Way};
use std::path::{Path, PathBuf};

/// Which of a page's pictures are taken, from 1, and what they are called.
type Pictures = &'static [(u32, &'static str)];

const COMPARE: Pictures =
    &[(1, "compare-histogram"), (2, "compare-tail"), (3, "compare-t3-t0-histogram"), (4, "compare-t3-t0-tail")];
const STAGES: Pictures = &[(5, "compare-stages")];
const SWEEP: Pictures = &[(1, "sweep-histogram"), (2, "sweep-percentiles")];
const REPORT: Pictures = &[
    (1, "report-histogram"),
    (2, "report-tail"),
    (4, "report-one-way-histogram"),
    (5, "report-one-way-tail"),
    (6, "report-one-way"),
    (7, "report-stages"),
];
const LOSSES: Pictures = &[(3, "report-over-time")];

/// Some air around each picture, and no table below: the page has the numbers.
const PREPARE: &str = "document.head.append(Object.assign(document.createElement('style'), {
    textContent: 'figure.chart { padding: 14px } figure.chart .table { display: none }' }))";

fn main() -> anyhow::Result<()> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let [program, folder] = &arguments[..] else { bail!("usage: screenshots XDPROBE FOLDER") };
    let maker = Maker { program, folder: Path::new(folder) };
    let near = Lan::new(1);
    let pages = [
        (maker.sweep(&near)?, SWEEP),
        (maker.compare(&near, "compare", &["--emulation"])?, COMPARE),
        (maker.compare(&near, "compare-stages", &["--timestamps", "software"])?, STAGES),
        (maker.report(&near, "report")?, REPORT),
        (maker.losses()?, LOSSES),
    ];
    let mut browser = Browser::start();
    browser.show(1000, "screen", "light");
    for (page, pictures) in pages {
        browser.open(&page);
        browser.evaluate(PREPARE);
        for (number, name) in pictures {
            let path = maker.folder.join(format!("{name}.png"));
            let picture = browser.screenshot(&format!("#chart-{number}"));
            std::fs::write(&path, picture).with_context(|| path.display().to_string())?;
            println!("{}", path.display());
        }
    }
    Ok(())
}

/// Runs the program.
struct Maker<'a> {
    program: &'a str,
    folder: &'a Path,
}

impl Maker<'_> {
    fn page(&self, name: &str) -> anyhow::Result<(PathBuf, String)> {
        let page = self.folder.join(format!("{name}.html"));
        let text = page.to_str().context("the folder's name is no text")?.to_owned();
        Ok((page, text))
    }

    fn server(&self, lan: &Lan, flags: &[&str]) -> Program {
        let fixed = ["--server", "--interface", SERVER_LINK];
        let mut server = lan.start_other(Side::Server, self.program, &[&fixed, flags].concat());
        server.wait_for_line("nanoprobe server started");
        server
    }

    /// What it prints stays beside the page, for README too.
    fn client(&self, lan: &Lan, name: &str, arguments: &[&str]) -> anyhow::Result<()> {
        let mut client = lan.start_other(Side::Client, self.program, arguments);
        client.finish();
        ensure!(client.code() == Some(0), "{}: {}", arguments.join(" "), client.all_output());
        let printed = self.folder.join(format!("{name}.txt"));
        std::fs::write(&printed, client.stdout()).with_context(|| printed.display().to_string())
    }

    fn compare(&self, lan: &Lan, name: &str, stamps: &[&str]) -> anyhow::Result<PathBuf> {
        let (path, page) = self.page(name)?;
        let _server = self.server(lan, &[&["--keep"], stamps].concat());
        let fixed = ["compare", "--interface", CLIENT_LINK, "--html", &page, SERVER_ADDRESS];
        self.client(lan, name, &[&fixed[..], &["--delay", "1000", "--timer", "sleep"], stamps].concat())?;
        Ok(path)
    }

    fn sweep(&self, lan: &Lan) -> anyhow::Result<PathBuf> {
        let (path, page) = self.page("sweep")?;
        // One busy thread: two would take all of a machine with two CPUs, and each other's time.
        let _server = self.server(lan, &["--keep", "--emulation", "--timer", "sleep"]);
        let flags = ["--rates", "5,10,20,40kpps", "--delay", "1000", "--emulation"];
        let fixed = ["sweep", "--interface", CLIENT_LINK, "--html", &page, SERVER_ADDRESS];
        self.client(lan, "sweep", &[&fixed[..], &flags].concat())?;
        Ok(path)
    }

    /// A session of ten seconds with the logs of both sides.
    fn report(&self, lan: &Lan, name: &str) -> anyhow::Result<PathBuf> {
        let (path, page) = self.page(name)?;
        let [client, server, client_stages, server_stages] =
            ["client", "server", "client-stages", "server-stages"].map(|side| lan.file(&format!("{side}.csv")));
        let shared = ["--timestamps", "software", "--timer", "sleep"];
        let logs = ["--log", &server, "--log-stages", &server_stages];
        let mut echoing = self.server(lan, &[&shared[..], &logs].concat());
        let logs = ["--log", &client, "--log-stages", &client_stages];
        let fixed = ["--client", "--interface", CLIENT_LINK, "--delay", "1000", "--count", "10", SERVER_ADDRESS];
        self.client(lan, "client", &[&fixed[..], &shared, &logs].concat())?;
        echoing.finish();
        let stages = ["--stages", &client_stages, "--stages", &server_stages];
        self.client(lan, name, &[&["report", &client, &server, "--html", &page][..], &stages].concat())?;
        Ok(path)
    }

    /// The same where a program between the two sides hands on what it gets, but for one packet in so many.
    fn losses(&self) -> anyhow::Result<PathBuf> {
        let lossy = |n| Way { lose_every: Some(n), ..Way::default() };
        self.report(&Lan::with_relay(lossy(700), lossy(1_900)), "losses")
    }
}
