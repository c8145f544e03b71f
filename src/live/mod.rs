//! What a running session shows: a line a second on a terminal, `--interval`, `--metrics`.
//!
//! Nothing here is in the hot loop but [`Feed`]: samples go through a bounded ring, counts through a triple buffer, and a
//! thread of its own makes intervals and metrics of them. What the ring has no room for is missing from these, and is
//! counted; the statistics at the end are not made from it. Where nobody watches there is neither thread nor feed.
//!
//! `SIGUSR1` does not come through here: the thread that writes the log says what it asks for
//! ([`Recorder::report`](crate::record::Recorder::report)).
#![forbid(unsafe_code)]

mod expose;
mod feed;
mod interval;
mod metrics;
mod serve;
mod thread;

pub use expose::{Format, text_format};
pub use feed::{Counts, Feed, Sample, Snapshot};
pub use interval::{Cutter, GRACE, Interval, Losses};
pub use metrics::{BuildInfo, Metrics};
pub use serve::{MetricsError, Port};

use crate::record::{Role, Screen, StageSink};
use crate::session::{Direction, Settings};
use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};
use std::io::{self, IsTerminal};
use std::sync::Arc;
use std::sync::mpsc::{Sender, channel};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};
use thread::{Control, Live, Printer};

/// Samples between hot loop and display: 131 ms of them at a million a second, 4 MiB.
const SAMPLES: usize = 1 << 17;
/// Between two lines on a terminal.
const SECOND: Duration = Duration::from_secs(1);
/// Between two of rounds, which may last no longer than a second.
const QUARTER: Duration = Duration::from_millis(250);

/// What is to be shown.
#[derive(Debug, Clone, Copy)]
pub struct Wishes {
    /// Which side this is.
    pub role: Role,
    /// `--interval`: a line on stdout each time.
    pub interval: Option<Duration>,
    /// These lines are JSON.
    pub json: bool,
    /// `--quiet`: no line on a terminal.
    pub quiet: bool,
}

/// What the display needs to know of a session.
#[derive(Debug, Clone, Copy)]
pub struct Begun {
    /// Who pings.
    pub direction: Direction,
    /// Every n-th ping asks for a pong.
    pub pong_every: u32,
}

impl From<&Settings> for Begun {
    fn from(settings: &Settings) -> Self {
        Self { direction: settings.direction, pong_every: settings.pong_every }
    }
}

/// The thread that shows, and the one that serves metrics. They end with the value.
#[derive(Debug)]
pub struct Display {
    control: Sender<Control>,
    thread: Option<JoinHandle<()>>,
    /// Held as long as it is to be served.
    _server: Option<serve::Server>,
    bar: Option<Arc<Bar>>,
    metrics: Option<Arc<Metrics>>,
}

/// The line on a terminal.
#[derive(Debug)]
struct Bar(ProgressBar);

impl Bar {
    fn new() -> Arc<Self> {
        let style = ProgressStyle::with_template("{wide_msg}").expect("the template is a constant");
        Arc::new(Self(ProgressBar::with_draw_target(None, ProgressDrawTarget::stderr()).with_style(style)))
    }
}

impl Screen for Bar {
    fn aside(&self, print: &mut dyn FnMut()) {
        self.0.suspend(print);
    }
}

impl Display {
    /// Starts the threads; `None` where nobody watches. They inherit this thread's CPU affinity: before the hot loop is
    /// pinned.
    ///
    /// # Errors
    /// What the kernel answered to the start of a thread.
    pub fn start(wishes: Wishes, port: Option<Port>, build: BuildInfo) -> io::Result<Option<(Self, Feed)>> {
        // The line is a client's: a server's stderr is where its messages stand.
        let on_terminal = wishes.role == Role::Client && is_wanted(wishes.quiet);
        let bar = (on_terminal && wishes.interval.is_none()).then(Bar::new);
        if bar.is_none() && wishes.interval.is_none() && port.is_none() {
            return Ok(None);
        }
        let metrics = port.is_some().then(|| Arc::new(Metrics::new(build)));
        let printer = match (wishes.interval, &bar) {
            (Some(every), _) => Some((every, Printer::Lines { json: wishes.json })),
            (None, Some(bar)) => Some((SECOND, Printer::Bar(bar.0.clone()))),
            (None, None) => None,
        };
        let (mut display, feed) = Self::of(wishes.role, printer, bar, metrics)?;
        if let (Some(port), Some(metrics)) = (port, &display.metrics) {
            display._server = Some(port.serve(Arc::clone(metrics), display.control.clone())?);
        }
        Ok(Some((display, feed)))
    }

    /// The same for a client's rounds, of which a terminal gets a line that says which one it is and how it stands; `None` where
    /// stderr is none, or nobody wants it.
    ///
    /// # Errors
    /// As [`Display::start`].
    pub fn of_rounds(quiet: bool) -> io::Result<Option<(Self, Feed)>> {
        if !is_wanted(quiet) {
            return Ok(None);
        }
        let bar = Bar::new();
        let printer = Some((QUARTER, Printer::Round(bar.0.clone())));
        Self::of(Role::Client, printer, Some(bar), None).map(Some)
    }

    fn of(
        role: Role,
        printer: Option<(Duration, Printer)>,
        bar: Option<Arc<Bar>>,
        metrics: Option<Arc<Metrics>>,
    ) -> io::Result<(Self, Feed)> {
        let (control, inbox) = channel();
        let (feed, ends) = Feed::new(control.clone());
        let live = Live::new(role, ends, inbox, printer, metrics.clone());
        let thread = std::thread::Builder::new().name("live".into()).spawn(|| live.run())?;
        Ok((Self { control, thread: Some(thread), _server: None, bar, metrics }, feed))
    }

    /// Who is to be told of each stage of each packet.
    pub fn stages(&self) -> Option<Arc<dyn StageSink>> {
        self.metrics.clone().map(|metrics| metrics as Arc<dyn StageSink>)
    }

    /// What must make room on the terminal for whatever else is said.
    pub fn screen(&self) -> Option<Arc<dyn Screen>> {
        self.bar.clone().map(|bar| bar as Arc<dyn Screen>)
    }
}

impl Drop for Display {
    fn drop(&mut self) {
        let _ = self.control.send(Control::Stop);
        let Some(thread) = self.thread.take() else { return };
        // One that hangs in a write to a pipe that nobody reads is left behind.
        let began = Instant::now();
        while !thread.is_finished() && began.elapsed() < SECOND {
            std::thread::sleep(Duration::from_millis(1));
        }
    }
}

/// Whether somebody sees a line on stderr and wants it.
fn is_wanted(quiet: bool) -> bool {
    !quiet && io::stderr().is_terminal()
}
