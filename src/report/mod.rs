//! `xdprobe report`: what the logs of a session say, put together.
//!
//! The logs are ours or nanoprobe's. They are read in big blocks and joined in a window of sequences (`join`), so memory
//! does not grow with them; with two logs twice, as the clocks of the two sides are estimated first (`clock`). A damaged
//! row is counted and never the end of it. Nothing is sent, and no clock is read.
//!
//! Forward is the way of the pings, from the side that pings to the side that answers (in a reverse session that is from
//! the server to the client), in duplex sessions from the client to the server.
#![forbid(unsafe_code)]

mod clock;
mod error;
mod export;
mod html;
mod join;
mod json;
mod measures;
mod meta;
mod missing;
mod output;
mod parquet;
mod progress;
mod quantity;
mod reckon;
mod recognise;
mod rows;
mod source;
mod stages;
mod survey;
mod text;

pub use error::ReportError;
pub use html::page;
pub use join::WINDOW;
pub use meta::PointClock;
pub use quantity::{Measured, Quantity, TIME_BINS, TimeBin};
pub use reckon::report;
pub use rows::Fault;
pub use source::Damage;
pub use stages::StageReport;

use crate::wire::Point;
use std::io::Write as _;
use std::path::PathBuf;

/// `xdprobe report`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ReportPlan {
    /// The sessions to report, at least one; the others are there to be compared with the first.
    pub inputs: Vec<Input>,
    /// `--clocks`.
    pub clocks: Clocks,
    /// `--json`: one object of one input, an array of several.
    pub json: bool,
    /// `--csv`; of one input only.
    pub csv: Option<PathBuf>,
    /// `--parquet`; of one input only.
    pub parquet: Option<PathBuf>,
    /// `--html`: a page of all inputs.
    pub html: Option<PathBuf>,
}

/// `xdprobe report`: the text for stdout, which ends with a newline. Files that were asked for are written.
///
/// # Errors
/// [`ReportError`]: see [`report`].
pub fn run(plan: &ReportPlan) -> Result<String, ReportError> {
    let options = Options {
        clocks: plan.clocks,
        csv: plan.csv.clone(),
        parquet: plan.parquet.clone(),
        progress: true,
        ..Options::default()
    };
    let mut reports: Vec<Report> = plan.inputs.iter().map(|input| report(input, &options)).collect::<Result<_, _>>()?;
    if reports.len() > 1 {
        // Logs of several sessions mostly have one name in several folders.
        for (report, input) in reports.iter_mut().zip(&plan.inputs).filter(|(_, input)| input.label.is_empty()) {
            report.label = input.client.display().to_string();
        }
    }
    if let Some(path) = &plan.html {
        let mut file = output::Output::create(path, "--html")?;
        let page = page(&reports).html();
        file.write_all(page.as_bytes()).map_err(|error| file.failed(error))?;
        file.finish()?;
    }
    Ok(match (&reports[..], plan.json) {
        ([one], true) => format!("{}\n", one.to_json()),
        (several, true) => format!("{}\n", several.iter().map(Report::to_json).collect::<serde_json::Value>()),
        (several, false) => several.iter().map(Report::to_text).collect::<Vec<_>>().join("\n"),
    })
}

/// One session's logs.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Input {
    /// The client's log; or the server's, as the rows tell.
    pub client: PathBuf,
    /// The other side's.
    pub server: Option<PathBuf>,
    /// What it is called; empty: its file's name, of one of several as it was typed.
    pub label: String,
    /// Which session of the client's log, from 1; `None`: the last that has rows.
    pub session: Option<u64>,
    /// The same of the server's log.
    pub server_session: Option<u64>,
    /// Logs of stages, of either side.
    pub stages: Vec<PathBuf>,
}

/// What is to be taken for true of the clocks of the two sides.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, clap::ValueEnum)]
pub enum Clocks {
    /// They are apart, and their rates differ: both are estimated.
    #[default]
    Estimate,
    /// They show the same.
    Synchronised,
}

/// What is made of one input besides its report.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Options {
    /// `--clocks`.
    pub clocks: Clocks,
    /// Sequences that are remembered, a power of two: [`WINDOW`], except in tests.
    pub window: usize,
    /// `--csv`.
    pub csv: Option<PathBuf>,
    /// `--parquet`.
    pub parquet: Option<PathBuf>,
    /// Show how far the reading has come, where stderr is a terminal.
    pub progress: bool,
}

impl Default for Options {
    fn default() -> Self {
        Self { clocks: Clocks::Estimate, window: WINDOW, csv: None, parquet: None, progress: false }
    }
}

/// Who pings.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Direction {
    /// The client.
    Forward,
    /// The server.
    Reverse,
    /// Both.
    Duplex,
}

impl Direction {
    /// The name in text and JSON.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Forward => "forward",
            Self::Reverse => "reverse",
            Self::Duplex => "duplex",
        }
    }
}

/// What one log is.
#[derive(Debug, Clone, PartialEq)]
pub struct LogFacts {
    /// As it was named.
    pub file: PathBuf,
    /// What its rows are of: `client, pings (t0, t3)` and the like.
    pub side: &'static str,
    /// Which session of it this is, from 1.
    pub session: u64,
    /// How many it has.
    pub sessions: u64,
    /// Rows that were understood.
    pub rows: u64,
    /// And those that were not.
    pub damage: Damage,
    /// How often a clock was set back, or ahead by more than 10 s.
    pub clock_steps: u64,
    /// Whose stamps its points have, where a meta file says so.
    pub clocks: Vec<(Point, PointClock)>,
}

/// Counts of the packets that went one way. `None` is what the logs that were given do not tell.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, serde::Serialize)]
pub struct Way {
    /// Packets that were sent.
    pub sent: Option<u64>,
    /// Those that arrived, each once.
    pub received: Option<u64>,
    /// Those that did not.
    pub lost: Option<u64>,
    /// How often one arrived once more.
    pub duplicated: Option<u64>,
    /// Those that arrived behind one that was sent later (RFC 4737, type-P-reordered).
    pub reordered: Option<u64>,
}

/// What is known of the clocks.
#[derive(Debug, Clone, PartialEq)]
pub struct ClockFacts {
    /// What was taken for true.
    pub clocks: Clocks,
    /// How much faster the answering side's clock (in duplex sessions the server's) runs than that of the side that pings
    /// (the client's), in millionths; negative where it is slower.
    pub skew_ppm: Option<f64>,
    /// What it showed more at the first ping, in ns.
    pub offset_ns: Option<i64>,
    /// How far the least delays of the parts of the session are from that of the whole, in ns (root mean square over both
    /// directions): what a constant skew does not explain.
    pub residual_ns: Option<f64>,
    /// Half of the least delays of both ways together, in ns: however unequal the ways are, the offset is off by no more.
    pub bound_ns: Option<f64>,
    /// The clocks of t0 and t1 (in duplex sessions of t0cs and t1cs), by `clock_id`, where the meta files name both and they
    /// are not one.
    pub different: Option<[String; 2]>,
    /// The time that the other side took (t2 − t1) is brought to the pinging side's clock for the RTT. Done where the delays
    /// prove that the clocks' rates differ and that this comes nearer to the truth, whatever the skew is exactly.
    pub rtt_corrected: bool,
    /// No RTT is off by more than this because t2 − t1 is of the other side's clock, in ns: the longest t2 − t1 times the largest
    /// skew (of what is left of it) with which no delay would be negative. `None` where no skew was estimated.
    pub rtt_error_ns: Option<f64>,
    /// What was assumed, in a sentence; or why nothing is known.
    pub assumed: String,
}

/// Where the plan of the pings is from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum PlanSource {
    /// The meta file.
    Meta,
    /// The median time between the first pings of the log.
    Median,
}

/// How it is known which pings were to be answered.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum PongEverySource {
    /// The meta file.
    Meta,
    /// Which pings the log of the answering side has answered, and which it has received and not answered.
    Guess,
    /// Nothing says otherwise: all, as is nanoprobe's default.
    Default,
}

impl PongEverySource {
    /// The name in JSON.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Meta => "meta",
            Self::Guess => "guess",
            Self::Default => "default",
        }
    }
}

/// The planned time from ping to ping.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct PingPlan {
    /// In ns.
    pub delay_ns: i64,
    /// Only every so-manieth ping has a row (`--stamp-every`); 1: all.
    pub stamp_every: u64,
    /// From one ping with a row to the next, in ns.
    pub step_ns: i64,
    /// How that is known.
    pub source: PlanSource,
}

/// All that the logs of one session say.
#[derive(Debug, Clone, PartialEq)]
pub struct Report {
    /// What it is called.
    pub label: String,
    /// Who pings; `None` where neither rows nor meta file tell: one log alone has the rows of the side that pings, or of the
    /// other, whichever of them is the client.
    pub direction: Option<Direction>,
    /// How the direction is known, or why it is not.
    pub direction_from: &'static str,
    /// The logs: first of the client, where that is known.
    pub logs: Vec<LogFacts>,
    /// Pings that were sent (in duplex sessions of both sides). `None`, here and below: the logs do not tell.
    pub sent: Option<u64>,
    /// Pings whose pong was received; in duplex sessions pings that were received.
    pub received: Option<u64>,
    /// Pings and pongs that did not arrive; of one log alone, pings without a pong that should have one. In duplex sessions
    /// pings that were not received.
    pub lost: Option<u64>,
    /// Of those lost, the ones of which the logs do not tell in which direction.
    pub lost_somewhere: Option<u64>,
    /// Pings that were received and not to be answered, or not answered.
    pub unanswered: u64,
    /// Packets that arrived once more, in both directions.
    pub duplicated: Option<u64>,
    /// Packets that were overtaken, in both directions.
    pub reordered: Option<u64>,
    /// Pings; in duplex sessions what the client sent.
    pub forward: Way,
    /// Pongs; in duplex sessions what the server sent.
    pub backward: Way,
    /// Sequences below the highest of which there is no row at all; of a log that was cut out of another, so that its
    /// sequences begin high, from its first on.
    pub without_rows: u64,
    /// Pings without a row of their sending, though they were seen elsewhere.
    pub without_t0: u64,
    /// Pings that are only in the other log, as this one ends before them.
    pub behind_the_end: u64,
    /// Rows that came too late for the window: as many pings may be counted as lost that were not.
    pub late_rows: u64,
    /// Rows of t0 with a sequence that had one already.
    pub repeated_rows: u64,
    /// Smallest and largest size with the IP header, of pings and of pongs (in duplex sessions the server's pings).
    pub sizes: [Option<(u16, u16)>; 2],
    /// Only pings with a sequence that this divides are answered, none where it is 0; `None`: not known.
    pub pong_every: Option<u64>,
    /// How `pong_every` is known; `None` where it is not.
    pub pong_every_from: Option<PongEverySource>,
    /// The clocks of the two sides.
    pub clock: ClockFacts,
    /// The plan of the pings (in duplex sessions the client's).
    pub plan: Option<PingPlan>,
    /// What was measured, in the order of [`Quantity::ALL`]; what is not here could not be.
    pub measured: Vec<(Quantity, Measured)>,
    /// The logs of stages.
    pub stages: Vec<StageReport>,
    /// What a reader should know of these numbers.
    pub remarks: Vec<String>,
}

impl Report {
    /// What was measured of a quantity.
    pub fn get(&self, quantity: Quantity) -> Option<&Measured> {
        self.measured.iter().find(|(known, _)| *known == quantity).map(|(_, measured)| measured)
    }

    /// All damaged rows of all logs.
    pub fn damaged_rows(&self) -> u64 {
        self.logs.iter().map(|log| log.damage.count).sum()
    }

    /// The variation that `ipdv_ns` is: of pings, else of pongs, else of t3 − t0.
    pub fn ipdv(&self) -> Option<Quantity> {
        self.first_of([Quantity::IpdvForward, Quantity::IpdvBackward, Quantity::IpdvRoundTrip])
    }

    /// The jitter that `jitter_ns` is.
    pub fn jitter(&self) -> Option<Quantity> {
        self.first_of([Quantity::JitterForward, Quantity::JitterBackward, Quantity::JitterRoundTrip])
    }

    fn first_of(&self, quantities: [Quantity; 3]) -> Option<Quantity> {
        quantities.into_iter().find(|quantity| self.get(*quantity).is_some())
    }

    /// As text for people; ends with a newline.
    pub fn to_text(&self) -> String {
        text::report(self)
    }

    /// As one JSON object.
    pub fn to_json(&self) -> serde_json::Value {
        json::report(self)
    }
}
