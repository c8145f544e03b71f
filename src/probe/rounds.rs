//! One session after the other over one open path: what `compare` and `sweep` are made of.
//!
//! Nothing is logged, and every t3 − t0 is kept as it is. What a round asks for, and what is made of its outcome, is the
//! caller's.

use super::hot::{Attendant, HotLoop, Scene, StampRules};
use super::interrupt::{Interrupt, block_questions};
use super::setup::{self, OpenPath};
use super::stamping::{self, Card, Clocks, StampPlan};
use super::usage::Usage;
use super::{pin, warn};
use crate::cli::{self, Plan};
use crate::clock::{monotonic_now, realtime_now};
use crate::live::Sample;
use crate::net::Interface;
use crate::path::{BATCH, Batch, Counters, Description, Path};
use crate::record::{CardClock, Recorder, RecorderConfig, Role, StampCounts, Voice, Watchers, counters_since};
use crate::session::{Client, ClientConfig, End, Event, Machine, Pattern, Sampling, Settings, Totals};
use crate::stats::Distribution;
use crate::wire::Extension;
use anyhow::{Context, Result, bail};
use nix::sched::{sched_getaffinity, sched_setaffinity};
use nix::unistd::Pid;
use std::net::SocketAddrV4;
use std::num::NonZeroU32;
use std::sync::Arc;
use std::time::Duration;

/// Between two sessions nothing may come for this long: what is late would be taken for the next one's.
const QUIET: Duration = Duration::from_millis(20);
/// The same after a session of which something is missing: it may still come.
const QUIET_AFTER_LOSS: Duration = Duration::from_millis(500);
/// Whoever goes on sending is not waited for any longer.
const QUIET_AT_MOST: Duration = Duration::from_secs(5);
/// Between two looks for something late.
const LOOK: Duration = Duration::from_millis(1);
/// The most round trips of one round that are kept: 128 MiB.
const MAX_SAMPLES: u64 = 1 << 24;

/// What a round asks for beyond what all rounds have in common.
#[derive(Debug, Clone, Copy)]
pub struct Round {
    /// What its session does.
    pub settings: Settings,
    /// How a flood is spaced.
    pub pattern: Pattern,
}

/// What came of a round.
#[derive(Debug, Clone)]
pub struct Outcome {
    /// How it ended.
    pub end: End,
    /// What it did, as the server agreed to it; `None` where no session came to be.
    pub agreed: Option<Settings>,
    /// What the session counted, the server's account among it.
    pub totals: Totals,
    /// Every t3 − t0 in ns.
    pub t3_t0: Distribution,
    /// Every round trip without the time that the server took, (t3 − t0) − (t2 − t1), in ns, where the pongs bring both.
    pub rtt: Distribution,
    /// Samples beyond those kept: too many in one round.
    pub left_out: u64,
    /// Pings that asked for a pong and got none.
    pub lost: u64,
    /// Pongs that came more than once.
    pub duplicates: u64,
    /// Pings answered of which t0 or t3 is missing, or whose two are of different clocks.
    pub unmeasured: u64,
    /// Stamps taken.
    pub stamps: StampCounts,
    /// What the path counted meanwhile.
    pub counters: Counters,
    /// CPU time of this process in the session, all threads, in ns; `None` where the kernel does not tell.
    pub cpu_ns: Option<u64>,
}

/// A client's open path, and all that a session needs beside it.
pub struct Rounds<'a> {
    plan: &'a Plan,
    server: SocketAddrV4,
    settings: Settings,
    stamps: StampPlan,
    interface: Interface,
    interrupt: Interrupt,
    recorder: Recorder,
    /// The sequence of the last SYN.
    number: u64,
    quiet: Duration,
    // In this order they are dropped: a driver that forgets what its card stamps when XDP goes must not have the last word.
    path: OpenPath,
    clocks: Clocks,
}

impl<'a> Rounds<'a> {
    /// Opens what a client's plan names, as its session would find it: path, stamps, server.
    ///
    /// # Errors
    /// What could not be had, in a sentence that says what to do. The machine is as it was.
    pub fn open(plan: &'a Plan) -> Result<Self> {
        let cli::Role::Client { host, .. } = &plan.role else { bail!("only a client's sessions come in rounds") };
        warn(&plan.warnings);
        let (interface, address) = setup::interface(plan)?;
        let mut stamps = stamping::plan(plan, &interface)?;
        warn(&stamps.remarks);
        let server = setup::server(host, plan.port)?;
        let mut settings = setup::settings(plan, &stamps, &[])?;
        setup::check_sizes(plan, &interface, settings.as_ref(), &[])?;
        let anywhere = sched_getaffinity(Pid::from_raw(0)).context("cannot read the CPU affinity")?;
        pin(plan)?;
        // As in `run`: until XDP is attached a signal ends the process.
        let mut found = stamping::present(plan, &stamps, &interface)?;
        let interrupt = Interrupt::catch().context("cannot catch SIGINT, SIGTERM, SIGQUIT and SIGHUP")?;
        interrupt.set_deadly(true);
        let path = setup::open(plan, &interface, address, Some(server), &stamps, &interrupt)?;
        sched_setaffinity(Pid::from_raw(0), &anywhere).context("cannot set the CPU affinity")?;
        interrupt.set_deadly(false);
        let card = stamps.card.map(|(_, phc)| Arc::new(Card::new(phc)));
        let recorder = Recorder::start(RecorderConfig {
            log: None,
            log_stages: None,
            voice: Voice { role: Role::Client, json: true },
            sources: stamps.sources,
            card: card.clone().map(|card| card as Arc<dyn CardClock>),
            is_stopped: &|| interrupt.is_pending(),
            watchers: Watchers::default(),
        })?;
        block_questions()?;
        let clocks = match Clocks::start(&stamps, &interface, &mut found, card.as_deref()) {
            Err(error) if stamping::is_all_refused(&stamps, &error) => {
                stamps = stamping::plan_without_all(plan, &interface)?;
                warn(&stamps.remarks);
                settings = setup::settings(plan, &stamps, &[])?;
                setup::check_sizes(plan, &interface, settings.as_ref(), &[])?;
                Clocks::start(&stamps, &interface, &mut found, card.as_deref())?
            }
            started => started?,
        };
        // Declared behind the clocks, so that it is dropped before them whatever fails from here on.
        let path = path;
        pin(plan)?;
        let settings = settings.context("a client has settings")?;
        let (number, quiet) = (first_number(), Duration::ZERO);
        Ok(Self { plan, server, settings, stamps, interface, interrupt, recorder, number, quiet, path, clocks })
    }

    /// What the plan's sessions have in common, with what their stamps need.
    pub fn settings(&self) -> Settings {
        self.settings
    }

    /// Where they go through.
    pub fn interface(&self) -> &Interface {
        &self.interface
    }

    /// The other side.
    pub fn server(&self) -> SocketAddrV4 {
        self.server
    }

    /// What the path is.
    pub fn description(&self) -> Description {
        self.path.description()
    }

    /// Runs one session to its end, whatever that is.
    ///
    /// # Errors
    /// What the path could not do.
    pub fn run(&mut self, round: &Round) -> Result<Outcome> {
        let Self { plan, server, stamps, interrupt, recorder, number, quiet, path, clocks, .. } = self;
        // A server tells by its SYN that this is no copy of the last one's.
        *number += 1;
        let rules = StampRules { sources: stamps.sources, patience: plan.stamp_timeout, board: clocks.board() };
        let &Round { settings, pattern } = round;
        let (server, number, silence) = (*server, *number, *quiet);
        let player = Player { plan, server, settings, pattern, number, quiet: silence, rules, recorder, interrupt };
        let outcome = match path {
            OpenPath::Xdp(path, _) => collected(player, &mut **path),
            OpenPath::Kernel(path) => collected(player, &mut **path),
        }?;
        *quiet = quiet_after(outcome.end, outcome.lost);
        Ok(outcome)
    }

    /// Gives everything back: the machine is as it was.
    ///
    /// # Errors
    /// Where the card's stamping could not be restored.
    pub fn close(self) -> Result<()> {
        let Self { path, clocks, recorder, interface, .. } = self;
        recorder.finish();
        drop(path);
        clocks.restore(&interface.name)
    }
}

/// One session of a client and all that it works with, whatever its path.
pub(crate) struct Player<'a> {
    /// A client's.
    pub(crate) plan: &'a Plan,
    pub(crate) server: SocketAddrV4,
    pub(crate) settings: Settings,
    pub(crate) pattern: Pattern,
    /// The sequence of its SYN.
    pub(crate) number: u64,
    /// How long nothing may come before it begins.
    pub(crate) quiet: Duration,
    pub(crate) rules: StampRules,
    pub(crate) recorder: &'a mut Recorder,
    pub(crate) interrupt: &'a mut Interrupt,
}

impl Player<'_> {
    /// Gets the path ready for the session.
    pub(crate) fn prepare<P: Path>(&self, path: &mut P) -> Result<()> {
        wait_for_quiet(path, self.quiet)?;
        if let Some(ptp) = self.settings.ptp {
            // Each time: a session that is over gives it back.
            path.prepare(self.server, Extension { ptp: Some(ptp), ..Extension::default() })?;
        }
        Ok(())
    }

    /// Runs it to its end, behind [`Player::prepare`].
    pub(crate) fn play<P: Path, A: Attendant<Client, P>>(self, path: &mut P, attendant: &mut A) -> Result<()> {
        let Self { plan, server, settings, pattern, number, rules, recorder, interrupt, .. } = self;
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
        HotLoop::new(&mut client, path, recorder, attendant, interrupt, rules).run()
    }
}

fn collected<P: Path>(player: Player<'_>, path: &mut P) -> Result<Outcome> {
    player.prepare(path)?;
    let mut collector = Collector::new(&player.settings, path);
    player.play(path, &mut collector)?;
    let mut outcome = collector.outcome.context("a session that is over has said how it ended")?;
    collector.t3_t0.iter().for_each(|sample| outcome.t3_t0.record(*sample));
    collector.rtt.iter().for_each(|sample| outcome.rtt.record(*sample));
    Ok(outcome)
}

/// The number before that of the first session, from the clock: of another process from the same port the server may still
/// know the numbers, and takes a SYN of the same one for a copy.
pub(crate) fn first_number() -> u64 {
    realtime_now().as_nanos() / 1_000_000
}

/// How long nothing may come after such a session before the next one.
pub(crate) fn quiet_after(end: End, lost: u64) -> Duration {
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
struct Collector {
    /// Allocated before the session, as are those below.
    t3_t0: Vec<i64>,
    rtt: Vec<i64>,
    left_out: u64,
    before: Counters,
    usage_before: Usage,
    agreed: Option<Settings>,
    outcome: Option<Outcome>,
}

impl Collector {
    fn new<P: Path>(settings: &Settings, path: &P) -> Self {
        let pings = u64::from(settings.count_s) * 1_000_000 / u64::from(settings.delay_us.max(1));
        let room = |there: bool| {
            // As many as there can be, and memory that is there already.
            let mut samples = vec![1; if there { (pings + 64).min(MAX_SAMPLES) as usize } else { 0 }];
            samples.clear();
            samples
        };
        Self {
            t3_t0: room(true),
            rtt: room(settings.in_band),
            left_out: 0,
            before: path.counters(),
            usage_before: Usage::now(path),
            agreed: None,
            outcome: None,
        }
    }

    fn finish<M: Machine, P: Path>(&mut self, scene: &Scene<'_, M, P>, end: End) {
        let totals = *scene.machine.totals();
        let trips = &scene.round_trips;
        self.outcome = Some(Outcome {
            end,
            agreed: self.agreed,
            totals,
            t3_t0: Distribution::new(),
            rtt: Distribution::new(),
            left_out: self.left_out,
            lost: totals.pongs_expected.saturating_sub(trips.unique()),
            duplicates: trips.duplicates(),
            unmeasured: trips.unstamped() + trips.incomparable(),
            stamps: *scene.stamps,
            counters: counters_since(&self.before, &scene.path.counters()),
            cpu_ns: Usage::now(scene.path).since(&self.usage_before).cpu_ns,
        });
    }
}

impl<M: Machine, P: Path> Attendant<M, P> for Collector {
    fn connected(&mut self, scene: Scene<'_, M, P>, event: Event) -> Result<()> {
        if let Event::Connected { settings, .. } = event {
            self.agreed = Some(settings);
        }
        self.usage_before = Usage::now(scene.path);
        scene.recorder.begin_session();
        Ok(())
    }

    fn round_trip(&mut self, sample: Sample) {
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
        self.finish(&scene, end);
        Ok(())
    }

    fn broken(&mut self, scene: Scene<'_, M, P>) {
        self.finish(&scene, End::Broken);
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
