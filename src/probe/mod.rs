//! The program itself: sets up what a plan asks for, runs the hot loop, and says how it went.
//!
//! What a session says is in [`crate::session`], how it gets out in [`crate::path`]; this joins them with the log.
#![forbid(unsafe_code)]

mod alarm;
mod awaited;
mod away;
mod glance;
mod hot;
mod interrupt;
mod many;
mod nap;
mod opened;
mod outcome;
mod outstanding;
mod reporter;
mod rests;
pub(crate) mod rounds;
#[cfg(test)]
mod scripted;
pub(crate) mod setup;
pub(crate) mod stamping;
mod tally;
mod turnarounds;
pub(crate) mod usage;

pub use hot::{Attendant, HotLoop, Scene, StampRules};
pub use interrupt::{Interrupt, Stopper};
pub use outcome::Outcome;
pub use reporter::{Reporter, say};
pub use rounds::{Round, Rounds};
pub use turnarounds::Turnarounds;

use crate::cli::{self, Plan, schedule};
use crate::clock::{Source, monotonic_now};
use crate::live::{self, BuildInfo, Display, Port};
use crate::net::Interface;
use crate::net::napi::Deferral;
use crate::path::{Description, Path};
use crate::record::{
    self, CardClock, Facts, Recorder, RecorderConfig, Role, ScheduleFacts, StampSource, TuningFacts, Voice, Watchers,
    text,
};
use crate::session::{Client, ClientConfig, Machine, Offers, Pattern, Probe, Sampling, Server, ServerConfig, Settings};
use crate::tune::memory::LockedMemory;
use crate::tune::realtime::{Budget, Realtime};
use crate::wire::Extension;
use anyhow::{Context, Result};
use nix::sched::{CpuSet, sched_setaffinity};
use nix::unistd::Pid;
use opened::{Opened, Way};
use setup::OpenPath;
use stamping::{Card, StampPlan};
use std::net::SocketAddrV4;
use std::num::NonZeroU32;
use std::sync::Arc;

/// Runs a plan to its end; whether the measurement did what was asked for.
///
/// # Errors
/// What could not be had or done, in a sentence that says what to do. The machine is as it was.
pub fn run(plan: &Plan) -> Result<bool> {
    if let cli::Role::Server { many: Some(many), .. } = &plan.role {
        return many::run(plan, many);
    }
    let schedule = plan.schedule.as_deref().map(schedule::load).transpose()?;
    let probes: &[Probe] = schedule.as_deref().unwrap_or(&[]);
    let (role, keep) = match &plan.role {
        cli::Role::Client { .. } => (Role::Client, false),
        cli::Role::Server { keep, .. } => (Role::Server, *keep),
    };
    record::check_logs(plan.log.as_deref(), plan.log_stages.as_deref())?;
    let port = plan.metrics.map(Port::bind).transpose()?;
    let (mut opened, (recorder, display)) = opened::open(&[plan], probes, |beside| {
        let stamps = beside.stamps[0];
        let display = display(plan, role, port, stamps)?;
        let shown = display.as_ref().map(|(display, _)| display);
        let recorder = Recorder::start(RecorderConfig {
            log: plan.log.as_deref(),
            log_stages: plan.log_stages.as_deref(),
            voice: Voice { role, json: plan.json },
            sources: stamps.sources,
            card: beside.card.cloned().map(|card| card as Arc<dyn CardClock>),
            // A log that is a FIFO waits for its reader, and the user may not.
            is_stopped: &|| beside.interrupt.is_pending(),
            watchers: Watchers { stages: shown.and_then(Display::stages), screen: shown.and_then(Display::screen) },
        })?;
        Ok((recorder, display))
    })?;
    let (display, feed) = display.unzip();
    let Opened { ways, clocks, settings, server, interface, card, interrupt, deferral, .. } = &mut opened;
    let Way { stamps, path } = &mut ways[0];
    let stamp_sources =
        [cli::PathKind::Xdp, cli::PathKind::Kernel].map(|path| stamp_sources(plan, stamps, card.as_deref(), path));
    let [sent, received] = stamp_sources[usize::from(plan.path == cli::PathKind::Kernel)].clone();
    let facts = |description| facts(plan, interface, deferral.as_ref(), description, [sent, received], probes.len());
    let reporter = Reporter::new(role, keep, plan, clocks.sampler(), stamp_sources, feed);
    let mtu = u16::try_from(interface.mtu).unwrap_or(u16::MAX);
    let max_ip_len = match plan.path {
        cli::PathKind::Xdp => Some(mtu),
        cli::PathKind::Kernel => None,
    };
    let mut play = Play {
        plan,
        stamps,
        rules: StampRules { sources: stamps.sources, patience: plan.stamp_timeout, board: clocks.board() },
        server: server.zip(*settings),
        schedule: schedule.clone(),
        max_ip_len,
        mtu,
        recorder,
        reporter,
        interrupt,
    };
    let played = match path {
        OpenPath::Xdp(path, _dummies) => play.run(&mut **path, facts),
        OpenPath::Kernel(path) => play.run(&mut **path, facts),
    };
    let Play { recorder, reporter, .. } = play;
    let log = recorder.finish();
    drop(display);
    let restored = opened.close();
    if let Err(error) = &restored {
        eprintln!("xdprobe: {error:#}");
    }
    played?;
    Ok(reporter.succeeded() && log.is_whole() && restored.is_ok())
}

/// Starts what shows how it goes; `None` where nobody watches.
fn display(plan: &Plan, role: Role, port: Option<Port>, stamps: &StampPlan) -> Result<Option<(Display, live::Feed)>> {
    let wishes = live::Wishes { role, interval: plan.interval, json: plan.json, quiet: plan.quiet };
    let build = BuildInfo {
        role,
        path: match plan.path {
            cli::PathKind::Xdp => "xdp",
            cli::PathKind::Kernel => "kernel",
        },
        sources: [stamps.sources.sent, stamps.sources.received].map(Source::as_str),
    };
    Display::start(wishes, port, build).context("cannot start the threads that show how it goes: raise ulimit -u")
}

/// Says on stderr what the user should know, a line each.
pub(crate) fn warn(lines: &[String]) {
    for line in lines {
        eprintln!("xdprobe: {line}");
    }
}

/// What takes the stamps of what is sent and of what is received where `path` serves, for the meta file.
fn stamp_sources(plan: &Plan, stamps: &StampPlan, card: Option<&Card>, path: cli::PathKind) -> [StampSource; 2] {
    let card = || StampSource::card(card.map(Card::name).unwrap_or_default());
    let is_xdp = path == cli::PathKind::Xdp;
    let sent = match stamps.sources.sent {
        Source::Hardware => card(),
        Source::Software => StampSource::driver(),
        Source::Application if plan.timestamps == cli::Timestamps::Application => StampSource::application(),
        Source::Application => StampSource::hand_over(),
    };
    let received = match stamps.sources.received {
        Source::Hardware => card(),
        Source::Software if is_xdp => StampSource::hook(),
        Source::Software => StampSource::kernel(),
        Source::Application => StampSource::application(),
    };
    [sent, received]
}

/// All that a run needs beside its path.
struct Play<'a> {
    plan: &'a Plan,
    stamps: &'a StampPlan,
    rules: StampRules,
    /// A client's server, and what it asks it for.
    server: Option<(SocketAddrV4, Settings)>,
    schedule: Option<Arc<[Probe]>>,
    max_ip_len: Option<u16>,
    mtu: u16,
    recorder: Recorder,
    reporter: Reporter,
    interrupt: &'a mut Interrupt,
}

impl Play<'_> {
    /// Makes the machine of the plan's role and runs it.
    fn run<P: Path>(&mut self, path: &mut P, facts: impl FnOnce(Description) -> Facts) -> Result<()> {
        let Self { plan, stamps, .. } = *self;
        self.recorder.describe(facts(path.description()));
        let sampling = Sampling {
            every: plan.stamp_every.and_then(NonZeroU32::new),
            timeout: plan.stamp_timeout,
            awaits_stamp: path.late_stamps().any(),
        };
        let schedule = self.schedule.clone();
        match (&plan.role, self.server) {
            (cli::Role::Client { host, connect_timeout, .. }, Some((server, settings))) => {
                if settings.ptp.is_some() {
                    path.prepare(server, Extension { ptp: settings.ptp, ..Extension::default() })?;
                }
                say_first(plan, &text::client_start(host, plan.port));
                let config = ClientConfig {
                    server,
                    settings,
                    schedule,
                    dummies: plan.dummies,
                    timeout: plan.timeout,
                    connect_timeout: *connect_timeout,
                    sampling,
                    pattern: Pattern::default(),
                };
                self.spin(&mut Client::new(monotonic_now(), config), path)
            }
            (cli::Role::Server { keep, max_rate, .. }, _) => {
                say_first(plan, &text::server_start(plan.port));
                // Only where the card stamps anything is there a reason to ask for PTP.
                let offered = stamps.wishes.hardware;
                let config = ServerConfig {
                    schedule,
                    dummies: plan.dummies,
                    timeout: plan.timeout,
                    keep: *keep,
                    max_ip_len: self.max_ip_len,
                    max_l2_len: Some(self.mtu),
                    timer: plan.timer,
                    offers: Offers { udp: offered, l2: offered },
                    requires_ptp: stamps.requires_ptp,
                    sampling,
                    max_rate: *max_rate,
                };
                self.spin(&mut Server::new(config), path)
            }
            (cli::Role::Client { .. }, None) => unreachable!("a client's server was looked up"),
        }
    }

    fn spin<M: Machine, P: Path>(&mut self, machine: &mut M, path: &mut P) -> Result<()> {
        let rules = self.rules.clone();
        let hot = HotLoop::new(machine, path, &mut self.recorder, &mut self.reporter, self.interrupt, rules);
        run_tuned(self.plan.tuning, hot)
    }
}

/// Runs a hot loop in this thread, with what the user wants for it and only while it lasts: its memory locked, its thread with a
/// real-time priority. All other threads are there by then.
fn run_tuned<M: Machine, P: Path, A: Attendant<M, P>>(
    tuning: cli::Tuning,
    mut hot: HotLoop<'_, M, P, A>,
) -> Result<()> {
    let _locked = tuning.lock_memory.then(LockedMemory::lock).transpose()?;
    let Some(priority) = tuning.realtime else { return hot.run() };
    let budget = Budget::of_this_machine();
    let realtime = Realtime::raise(priority)?;
    let mut hot = hot.resting(&budget);
    let ran = hot.run();
    drop(realtime);
    warn(hot.remark().as_slice());
    ran
}

/// What the meta files of a run say of it; `sources` of what is sent and of what is received, `pings` of the schedule, if any.
fn facts(
    plan: &Plan,
    interface: &Interface,
    deferral: Option<&Deferral>,
    description: Description,
    [sent, received]: [StampSource; 2],
    pings: usize,
) -> Facts {
    let schedule = plan.schedule.as_ref();
    Facts {
        interface: interface.name.clone(),
        driver: interface.driver.clone(),
        description,
        sent,
        received,
        schedule: schedule.map(|file| ScheduleFacts { file: file.display().to_string(), pings }),
        dummies: plan.dummies,
        tuning: TuningFacts {
            cpu: plan.cpu,
            busypoll_us: plan.busypoll_us,
            realtime: plan.tuning.realtime,
            lock_memory: plan.tuning.lock_memory,
            cpu_latency_us: plan.tuning.cpu_latency_us,
            napi: deferral.map(Deferral::config),
        },
        stamp_every: plan.stamp_every,
        command_line: std::env::args_os().map(|word| word.to_string_lossy().into_owned()).collect(),
    }
}

/// nanoprobe's first line; stdout belongs to the JSON object where there is one.
fn say_first(plan: &Plan, line: &str) {
    if plan.json {
        eprintln!("{line}");
    } else {
        // Whatever keeps it from being printed will keep the statistics from it too, and is an error there.
        let _ = say(&format!("{line}\n"));
    }
}

/// Pins the calling thread where `--cpu` says so, and has the kernel wake it when it asked to be woken.
pub(crate) fn pin(plan: &Plan) -> Result<()> {
    // The kernel may wake a sleeper that much later than it asked for: 50 µs if nothing is said.
    nix::sys::prctl::set_timerslack(1).context("cannot set the timer slack (PR_SET_TIMERSLACK)")?;
    let Some(cpu) = plan.cpu else { return Ok(()) };
    let mut cpus = CpuSet::new();
    let named = cpus.set(cpu).and_then(|()| sched_setaffinity(Pid::from_raw(0), &cpus));
    named.with_context(|| {
        let online = std::fs::read_to_string("/sys/devices/system/cpu/online").unwrap_or_default();
        format!("--cpu {cpu}: cannot pin to that CPU (this machine has {} online)", online.trim())
    })
}
