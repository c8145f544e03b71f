//! One session after the other over open paths: what `compare` and `sweep` are made of.
//!
//! Nothing is logged, and every t3 − t0 is kept as it is. What a round asks for, and what is made of its outcome, is the
//! caller's. Paths are open from the first round to the last: what of one is given back keeps the kernel busy for some time.

use super::hot::{Attendant, HotLoop, Scene, StampRules};
use super::interrupt::Interrupt;
use super::opened::{self, Opened};
use super::outcome::Outcome;
use super::run_tuned;
use super::setup::OpenPath;
use super::usage::Usage;
use crate::cli::{self, Plan};
use crate::clock::{Source, monotonic_now, realtime_now};
use crate::live::{Begun, Counts, Display, Feed, Sample};
use crate::path::{BATCH, Batch, Counters, Description, Path};
use crate::record::{
    CardClock, Recorder, RecorderConfig, Role, RoundNote, SessionSoFar, Voice, Watchers, counters_since,
};
use crate::session::{Client, ClientConfig, End, Event, Machine, Pattern, Sampling, Settings};
use crate::wire::Extension;
use anyhow::{Context, Result, ensure};
use std::net::SocketAddrV4;
use std::num::NonZeroU32;
use std::sync::Arc;
use std::time::Duration;

/// Before the first session, as what was given back while the paths were opened (programs and maps that were tried) is taken down
/// by the kernel's workers later: some 60 ms were seen.
const SETTLING: Duration = Duration::from_millis(150);
/// Between two sessions nothing may come for this long: what is late would be taken for the next one's.
const QUIET: Duration = Duration::from_millis(20);
/// The same after a session of which something is missing: it may still come.
const QUIET_AFTER_LOSS: Duration = Duration::from_millis(500);
/// Whoever goes on sending is not waited for any longer.
const QUIET_AT_MOST: Duration = Duration::from_secs(5);
/// Between two looks for something late.
const LOOK: Duration = Duration::from_millis(1);
/// Rounds as fast as it goes have so many pings a second at most.
const FASTEST: u64 = 1_000_000;
/// Beyond those that are planned, room for so many samples.
const SPARE: u64 = 64;

/// What a round asks for beyond what all rounds have in common.
#[derive(Debug, Clone, Copy)]
pub struct Round {
    /// Which row of rounds it is of: what [`Rounds::open`] was given a path for.
    pub row: usize,
    /// What its session does.
    pub settings: Settings,
    /// How a flood is spaced.
    pub pattern: Pattern,
    /// The statistics of stages begin anew; else they go on from the last one of this row.
    pub begins: bool,
    /// The most samples of either quantity that are kept, 8 bytes each.
    pub most_samples: usize,
}

/// A client's open paths, and all that sessions need beside them.
pub struct Rounds {
    plans: Vec<Plan>,
    opened: Opened,
    server: SocketAddrV4,
    settings: Settings,
    rows: Vec<Row>,
    /// How long nothing may come before the next round on each path.
    quiet: Vec<Duration>,
    /// The sequence of the last SYN.
    number: u64,
    /// The hot side of what shows how it goes; `None` where nobody watches. Before the other side: it ends with the value.
    feed: Option<Feed>,
    display: Option<Display>,
}

/// Rounds whose statistics belong together.
struct Row {
    path: usize,
    recorder: Recorder,
}

impl Rounds {
    /// Opens what a client's plans name, as their sessions would find it: paths, stamps, server. Plans may differ in the path alone;
    /// what they have in common is asked of the first. `rows` names for each row of rounds the plan whose path it goes over.
    ///
    /// # Errors
    /// What could not be had, in a sentence that says what to do. The machine is as it was.
    pub fn open(plans: Vec<Plan>, rows: &[usize]) -> Result<Self> {
        ensure!(!plans.is_empty(), "rounds need a path");
        let (opened, (rows, display)) = opened::open(&plans.iter().collect::<Vec<_>>(), &[], |beside| {
            let display = Display::of_rounds(plans[0].quiet)
                .context("cannot start the thread that shows how it goes: raise ulimit -u, or use --quiet")?;
            let screen = display.as_ref().and_then(|(display, _)| display.screen());
            let row = |path: usize| {
                let recorder = Recorder::start(RecorderConfig {
                    log: None,
                    log_stages: None,
                    // What it says is for stderr: stdout has the result.
                    voice: Voice { role: Role::Client, json: true },
                    sources: beside.stamps[path].sources,
                    card: beside.card.cloned().map(|card| card as Arc<dyn CardClock>),
                    is_stopped: &|| beside.interrupt.is_pending(),
                    watchers: Watchers { screen: screen.clone(), ..Watchers::default() },
                })?;
                Ok(Row { path, recorder })
            };
            Ok((rows.iter().copied().map(row).collect::<Result<Vec<_>>>()?, display))
        })?;
        let (display, feed) = display.unzip();
        let server = opened.server.context("only a client's sessions come in rounds")?;
        let settings = opened.settings.context("a client has settings")?;
        let quiet = vec![SETTLING; plans.len()];
        Ok(Self { plans, opened, server, settings, rows, quiet, number: first_number(), feed, display })
    }

    /// What the plans' sessions have in common, with what their stamps need.
    pub const fn settings(&self) -> &Settings {
        &self.settings
    }

    /// The other side.
    pub const fn server(&self) -> SocketAddrV4 {
        self.server
    }

    /// What the path of a row is.
    pub fn description(&self, row: usize) -> Description {
        self.opened.ways[self.rows[row].path].path.description()
    }

    /// Whose stamps t0 and t3 of a row are.
    pub fn sources(&self, row: usize) -> [Source; 2] {
        let sources = self.opened.ways[self.rows[row].path].stamps.sources;
        [sources.sent, sources.received]
    }

    /// Whether the user wants an end.
    pub fn is_stopped(&self) -> bool {
        self.opened.interrupt.is_pending()
    }

    /// Runs one session to its end, whatever that is. While it runs a terminal shows how it goes, and SIGUSR1 has what was measured
    /// so far printed; `note` is what it is called there.
    ///
    /// # Errors
    /// What the path could not do.
    pub fn run(&mut self, round: &Round, note: RoundNote) -> Result<Outcome> {
        let Self { plans, opened, server, rows, quiet, number, feed, .. } = self;
        let Row { path: at, recorder } = &mut rows[round.row];
        if let Some(feed) = feed {
            feed.round(Some(&note.name));
        }
        recorder.describe_round(note);
        let Opened { ways, clocks, interrupt, .. } = opened;
        if round.settings.ptp.is_some() {
            // Behind PTP headers all packets of the server come to one port, whichever path they are for.
            for (other, way) in ways.iter().enumerate() {
                let peer = (other != *at).then_some(*server);
                way.path
                    .leave_to_kernel(peer)
                    .context("cannot have the XDP program leave a round's packets to the kernel")?;
            }
        }
        let (plan, way, quiet) = (&plans[*at], &mut ways[*at], &mut quiet[*at]);
        // A server tells by its SYN that this is no copy of the last one's.
        *number += 1;
        let player = Player {
            plan,
            server: *server,
            round: *round,
            number: *number,
            quiet: *quiet,
            rules: StampRules { sources: way.stamps.sources, patience: plan.stamp_timeout, board: clocks.board() },
            recorder,
            interrupt,
            feed: feed.as_mut(),
        };
        let played = match &mut way.path {
            OpenPath::Xdp(path, _) => player.play(&mut **path),
            OpenPath::Kernel(path) => player.play(&mut **path),
        };
        if let (Some(feed), Err(_)) = (feed, &played) {
            feed.round(None);
        }
        let outcome = played?;
        *quiet = quiet_after(outcome.end, outcome.lost());
        Ok(outcome)
    }

    /// Gives everything back: the machine is as it was.
    ///
    /// # Errors
    /// Where the card's stamping, or what defers its interrupts, could not be restored.
    pub fn close(self) -> Result<()> {
        let Self { opened, rows, feed, display, .. } = self;
        drop((feed, display));
        rows.into_iter().for_each(|row| drop(row.recorder.finish()));
        opened.close()
    }
}

/// One session of a client and all that it works with, whatever its path.
struct Player<'a> {
    plan: &'a Plan,
    server: SocketAddrV4,
    round: Round,
    /// The sequence of its SYN.
    number: u64,
    /// How long nothing may come before it begins.
    quiet: Duration,
    rules: StampRules,
    recorder: &'a mut Recorder,
    interrupt: &'a mut Interrupt,
    feed: Option<&'a mut Feed>,
}

impl Player<'_> {
    fn play<P: Path>(self, path: &mut P) -> Result<Outcome> {
        let Self { plan, server, round, number, quiet, rules, recorder, interrupt, feed } = self;
        let Round { settings, pattern, .. } = round;
        wait_for_quiet(path, quiet)?;
        if let Some(ptp) = settings.ptp {
            // Each time: a session that is over gives it back.
            path.prepare(server, Extension { ptp: Some(ptp), ..Extension::default() })?;
        }
        let mut keeper = Keeper::new(&round, path, feed);
        let connect_timeout = match &plan.role {
            cli::Role::Client { connect_timeout, .. } => *connect_timeout,
            cli::Role::Server { .. } => None,
        };
        let sampling = Sampling {
            every: plan.stamp_every.and_then(NonZeroU32::new),
            timeout: plan.stamp_timeout,
            awaits_stamp: path.late_stamps().any(),
        };
        let config = ClientConfig {
            server,
            settings,
            schedule: None,
            dummies: plan.dummies,
            timeout: plan.timeout,
            connect_timeout,
            sampling,
            pattern,
        };
        let mut client = Client::numbered(monotonic_now(), config, number);
        run_tuned(plan.tuning, HotLoop::new(&mut client, path, recorder, &mut keeper, interrupt, rules))?;
        keeper.outcome.context("a session that is over has said how it ended")
    }
}

/// The number before that of the first session, from the clock: of another process from the same port the server may still
/// know the numbers, and takes a SYN of the same one for a copy.
fn first_number() -> u64 {
    realtime_now().as_nanos() / 1_000_000
}

/// How long nothing may come after such a session before the next one.
fn quiet_after(end: End, lost: u64) -> Duration {
    if end == End::Complete && lost == 0 { QUIET } else { QUIET_AFTER_LOSS }
}

/// Drops what comes late of the session before, datagrams and transmit stamps, until nothing does: none of it must be taken for
/// the next one's.
fn wait_for_quiet<P: Path>(path: &mut P, quiet: Duration) -> Result<()> {
    let mut batch = Batch::new();
    let mut stamps = Vec::with_capacity(BATCH);
    let began = monotonic_now();
    let mut last = began;
    loop {
        path.receive(&mut batch)?;
        path.collect(&mut stamps)?;
        let now = monotonic_now();
        if now.duration_since(began) >= QUIET_AT_MOST {
            break;
        }
        if !(batch.is_empty() && stamps.is_empty()) {
            last = now;
        } else if now.duration_since(last) >= quiet {
            break;
        } else {
            std::thread::sleep(LOOK);
        }
    }
    path.flush()?;
    Ok(())
}

/// A paragraph in lines of some 100 columns, those after the first indented; without a line feed at its end.
pub(crate) fn wrapped(text: &str) -> String {
    const WIDTH: usize = 100;
    const INDENT: &str = "\n  ";
    let mut lines = String::new();
    let mut width = 0;
    for word in text.split(' ') {
        let needed = word.chars().count();
        if lines.is_empty() {
            width = needed;
        } else if width + 1 + needed > WIDTH {
            lines.push_str(INDENT);
            width = INDENT.len() - 1 + needed;
        } else {
            lines.push(' ');
            width += 1 + needed;
        }
        lines.push_str(word);
    }
    lines
}

/// Keeps what a round brings.
struct Keeper<'a> {
    /// Allocated before the session, as is the next.
    t3_t0: Vec<i64>,
    rtt: Vec<i64>,
    left_out: u64,
    begins: bool,
    before: Counters,
    usage_before: Usage,
    /// What the thread that shows had spent by then.
    spent_before: u64,
    agreed: Option<(SocketAddrV4, Settings)>,
    outcome: Option<Outcome>,
    /// What shows how it goes.
    feed: Option<&'a mut Feed>,
}

impl<'a> Keeper<'a> {
    fn new<P: Path>(round: &Round, path: &P, feed: Option<&'a mut Feed>) -> Self {
        let Round { settings, begins, most_samples, .. } = round;
        let room = |is_there: bool| {
            let samples = if is_there { samples_of(settings).min(*most_samples) } else { 0 };
            // Memory of zeros is only mapped when it is written to: the hot loop is to find it there.
            let mut room = vec![1; samples];
            room.clear();
            room
        };
        Self {
            t3_t0: room(true),
            rtt: room(settings.in_band),
            left_out: 0,
            begins: *begins,
            before: path.counters(),
            usage_before: Usage::now(path),
            spent_before: 0,
            agreed: None,
            outcome: None,
            feed,
        }
    }

    /// CPU time of the thread that shows how it goes: the process's, and no part of what is measured.
    fn spent(&self) -> u64 {
        self.feed.as_ref().map_or(0, |feed| feed.spent_ns())
    }
}

/// How things stand.
fn counts<M: Machine, P>(scene: &Scene<'_, M, P>) -> Counts {
    Counts { totals: *scene.machine.totals(), stamps: *scene.stamps, trips: scene.round_trips.counts(), crowd: None }
}

/// As many as a round can have.
fn samples_of(settings: &Settings) -> usize {
    let a_second = match settings.delay_us {
        0 => FASTEST,
        delay => 1_000_000_u64.div_ceil(delay.into()),
    };
    usize::try_from(u64::from(settings.count_s) * a_second + SPARE).unwrap_or(usize::MAX)
}

/// What was room is not kept for the rounds to come.
fn ascending(samples: &mut Vec<i64>) -> Vec<i64> {
    let mut samples = std::mem::take(samples);
    samples.sort_unstable();
    samples.shrink_to_fit();
    samples
}

impl<M: Machine, P: Path> Attendant<M, P> for Keeper<'_> {
    fn connected(&mut self, scene: Scene<'_, M, P>, event: Event) -> Result<()> {
        if let Event::Connected { peer, settings } = event {
            self.agreed = Some((peer, settings));
            if let Some(feed) = &mut self.feed {
                feed.begin(Begun::from(&settings), &counts(&scene));
            }
        }
        if self.begins {
            scene.recorder.begin_session();
        }
        (self.usage_before, self.spent_before) = (Usage::now(scene.path), self.spent());
        Ok(())
    }

    #[inline]
    fn round_trip(&mut self, sample: Sample) {
        if let Some(feed) = &mut self.feed {
            feed.sample(sample);
        }
        for (kept, sample) in [(&mut self.t3_t0, sample.t3_t0_ns), (&mut self.rtt, sample.rtt_ns)] {
            let Some(nanos) = sample else { continue };
            if kept.len() < kept.capacity() {
                kept.push(nanos);
            } else {
                self.left_out += 1;
            }
        }
    }

    fn finished(&mut self, scene: Scene<'_, M, P>, end: End) -> Result<()> {
        let used = Usage::now(scene.path).since(&self.usage_before);
        let shown = self.spent().saturating_sub(self.spent_before);
        let counters = counters_since(&self.before, &scene.path.counters());
        if let Some(feed) = &mut self.feed {
            // The line is gone before anything else is said.
            feed.end(&counts(&scene), end, counters);
        }
        let trips = &scene.round_trips;
        self.outcome = Some(Outcome {
            end,
            agreed: self.agreed.map(|(_, settings)| settings),
            totals: *scene.machine.totals(),
            t3_t0: ascending(&mut self.t3_t0),
            rtt: ascending(&mut self.rtt),
            left_out: self.left_out,
            answered: trips.unique(),
            duplicates: trips.duplicates(),
            unmeasured: trips.unstamped() + trips.incomparable(),
            punctuality: scene.punctuality.totals(),
            stamps: *scene.stamps,
            stages: scene.recorder.sync().stages,
            counters,
            cpu_ns: used.cpu_ns.map(|used| used.saturating_sub(shown)),
        });
        Ok(())
    }

    fn broken(&mut self, _: Scene<'_, M, P>) {}

    #[inline]
    fn wants_counts(&self, sleeps: bool) -> bool {
        self.feed.as_ref().is_some_and(|feed| feed.wants_counts(sleeps))
    }

    fn counts(&mut self, scene: Scene<'_, M, P>) {
        if let Some(feed) = &mut self.feed {
            feed.publish(&counts(&scene));
        }
    }

    fn so_far(&mut self, scene: Scene<'_, M, P>) -> bool {
        let Scene { machine, recorder, round_trips, stamps, .. } = scene;
        if !recorder.can_report() {
            return false;
        }
        let so_far = self.agreed.map(|(peer, settings)| SessionSoFar {
            peer,
            settings,
            totals: *machine.totals(),
            trips: round_trips.totals(),
            // What is said of a round so far has no room for it.
            punctuality: None,
            stamps: *stamps,
            stamp_timeout: None,
            // Nothing is logged.
            rows_before: [(0, 0); 2],
            left_out_before: 0,
        });
        recorder.report(so_far);
        true
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn text_is_wrapped_between_words_and_says_the_same() {
        let words = ["a", "longer", "µs", "→"].repeat(60).join(" ");
        let lines = wrapped(&words);
        assert!(lines.lines().all(|line| line.chars().count() <= 100), "{lines}");
        assert!(lines.lines().next().is_some_and(|line| line.chars().count() > 90), "{lines}");
        assert_eq!(lines.split_whitespace().collect::<Vec<_>>().join(" "), words);
        assert!(lines.lines().skip(1).all(|line| line.starts_with("  ") && !line.starts_with("   ")));
        assert_eq!((wrapped("short"), wrapped("")), ("short".to_owned(), String::new()));
        let word = "x".repeat(300);
        assert_eq!(wrapped(&format!("a {word} b")), format!("a\n  {word}\n  b"));
    }

    #[test]
    fn a_session_that_missed_something_is_waited_for_longer() {
        assert_eq!(quiet_after(End::Complete, 0), QUIET);
        assert_eq!([quiet_after(End::Complete, 1), quiet_after(End::Stopped, 0)], [QUIET_AFTER_LOSS; 2]);
        // Numbers of a later process are higher, also after many sessions of this one.
        assert!(first_number() > 1_000_000_000_000);
    }
}
