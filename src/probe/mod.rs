//! The program itself: sets up what a plan asks for, runs the hot loop, and says how it went.
//!
//! What a session says is in [`crate::session`], how it gets out in [`crate::path`]; this joins them with the log.
#![forbid(unsafe_code)]

mod hot;
mod interrupt;
mod outstanding;
mod reporter;
mod setup;

pub use hot::{Attendant, HotLoop, Scene};
pub use interrupt::Interrupt;
pub use reporter::{Reporter, say};

use crate::cli::{self, Plan, schedule};
use crate::clock::monotonic_now;
use crate::path::Path;
use crate::record::{self, Facts, Recorder, RecorderConfig, Role, ScheduleFacts, StampSource, Voice, text};
use crate::session::{Client, ClientConfig, Machine, Offers, Probe, Sampling, Server, ServerConfig};
use anyhow::{Context, Result};
use nix::sched::{CpuSet, sched_getaffinity, sched_setaffinity};
use nix::unistd::Pid;
use setup::OpenPath;
use std::net::SocketAddrV4;
use std::sync::Arc;

/// Runs a plan to its end; whether the measurement did what was asked for.
///
/// # Errors
/// What could not be had or done, in a sentence that says what to do. The machine is as it was.
pub fn run(plan: &Plan) -> Result<bool> {
    for warning in &plan.warnings {
        eprintln!("xdprobe: {warning}");
    }
    setup::check_timestamps(plan)?;
    let schedule = plan.schedule.as_deref().map(schedule::load).transpose()?;
    let probes: &[Probe] = schedule.as_deref().unwrap_or(&[]);
    let (interface, address) = setup::interface(plan)?;
    let (role, server, keep) = match &plan.role {
        cli::Role::Client { host, settings, .. } => {
            setup::check_sizes(plan, &interface, Some(settings), probes)?;
            (Role::Client, Some(setup::server(host, plan.port)?), false)
        }
        cli::Role::Server { keep } => {
            setup::check_sizes(plan, &interface, None, probes)?;
            (Role::Server, None, *keep)
        }
    };
    record::check_logs(plan.log.as_deref(), None)?;
    let anywhere = sched_getaffinity(Pid::from_raw(0)).context("cannot read the CPU affinity")?;
    pin(plan)?;
    // A signal until here, or while a carrier or a neighbour is waited for, ends the process, and the kernel takes
    // everything back: program, sockets and ports hang on its descriptors.
    let path = setup::open(plan, &interface, address, server)?;
    // From here on a signal ends the run in order.
    let mut interrupt = Interrupt::catch().context("cannot catch SIGINT and SIGTERM")?;
    // The recorder's thread inherits where it may run: it must not be where the hot loop is pinned.
    sched_setaffinity(Pid::from_raw(0), &anywhere).context("cannot set the CPU affinity")?;
    let mut recorder =
        Recorder::start(RecorderConfig::application(plan.log.as_deref(), Voice { role, json: plan.json }))?;
    pin(plan)?;
    let facts = |description| Facts {
        interface: interface.name.clone(),
        driver: interface.driver.clone(),
        description,
        sent: StampSource::application(),
        received: StampSource::application(),
        schedule: plan
            .schedule
            .as_ref()
            .map(|file| ScheduleFacts { file: file.display().to_string(), pings: probes.len() }),
        dummies: plan.dummies,
        command_line: std::env::args_os().map(|word| word.to_string_lossy().into_owned()).collect(),
    };
    let mut reporter = Reporter::new(role, plan.json, keep);
    let max_ip_len = match plan.path {
        cli::PathKind::Xdp => Some(u16::try_from(interface.mtu).unwrap_or(u16::MAX)),
        cli::PathKind::Kernel => None,
    };
    match path {
        OpenPath::Xdp(mut path, _dummies) => {
            recorder.describe(facts(path.description()));
            play(plan, server, schedule, max_ip_len, &mut *path, &mut recorder, &mut reporter, &mut interrupt)?;
        }
        OpenPath::Kernel(mut path) => {
            recorder.describe(facts(path.description()));
            play(plan, server, schedule, max_ip_len, &mut *path, &mut recorder, &mut reporter, &mut interrupt)?;
        }
    }
    Ok(recorder.finish().is_whole() && reporter.succeeded())
}

/// Makes the machine of the plan's role and runs it.
#[expect(clippy::too_many_arguments, reason = "a bundle of them would live for one call")]
fn play<P: Path>(
    plan: &Plan,
    server: Option<SocketAddrV4>,
    schedule: Option<Arc<[Probe]>>,
    max_ip_len: Option<u16>,
    path: &mut P,
    recorder: &mut Recorder,
    reporter: &mut Reporter,
    interrupt: &mut Interrupt,
) -> Result<()> {
    match (&plan.role, server) {
        (cli::Role::Client { host, settings, connect_timeout, .. }, Some(server)) => {
            say_first(plan, &text::client_start(host, plan.port));
            let config = ClientConfig {
                server,
                settings: *settings,
                schedule,
                dummies: plan.dummies,
                timeout: plan.timeout,
                connect_timeout: *connect_timeout,
                sampling: Sampling::default(),
            };
            spin(&mut Client::new(monotonic_now(), config), path, recorder, reporter, interrupt)
        }
        (cli::Role::Server { keep }, _) => {
            say_first(plan, &text::server_start(plan.port));
            let config = ServerConfig {
                schedule,
                dummies: plan.dummies,
                timeout: plan.timeout,
                keep: *keep,
                max_ip_len,
                timer: plan.timer,
                offers: Offers::default(),
                requires_ptp: false,
                sampling: Sampling::default(),
            };
            spin(&mut Server::new(config), path, recorder, reporter, interrupt)
        }
        (cli::Role::Client { .. }, None) => unreachable!("a client's server was looked up"),
    }
}

fn spin<M: Machine, P: Path>(
    machine: &mut M,
    path: &mut P,
    recorder: &mut Recorder,
    reporter: &mut Reporter,
    interrupt: &mut Interrupt,
) -> Result<()> {
    HotLoop::new(machine, path, recorder, reporter, interrupt).run()
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
fn pin(plan: &Plan) -> Result<()> {
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
