//! Arguments → a checked [`Plan`]; every rule about flags is here and nowhere else.
//!
//! [`parse`] goes through two stages: clap takes apart what was typed (flags in any order, short ones bundled, long ones
//! abbreviated, the last of a repeated one wins, as with nanoprobe's `getopt_long`) and checks each value by itself; then
//! one function, in `plan`, checks what only the flags together can say and builds the plan. Nothing here looks at the
//! machine: whether the interface exists, the log can be written or the host has an address is found out by those who
//! use them. The one file that is read here is a probe schedule, by [`schedule::load`], when the runner asks for it.
//!
//! A subcommand stands first, so that a host may have its name: `xdprobe caps -i eth0`, `xdprobe report client.csv`.
//! Every other flag belongs to the measurement itself.
//!
//! ```
//! use xdprobe::cli::{Parsed, Role, parse};
//!
//! let typed = ["xdprobe", "10.0.0.2", "-i", "eth0", "-eR", "-n5", "--client"];
//! let Parsed::Run(plan) = parse(typed.map(Into::into)).unwrap() else { panic!() };
//! assert!(matches!(plan.role, Role::Client { host, settings, .. } if host == "10.0.0.2" && settings.count_s == 5));
//!
//! let wrong = ["xdprobe", "--client", "--interface", "eth0", "--ping-size", "43", "10.0.0.2"];
//! let Err(error) = parse(wrong.map(Into::into)) else { panic!() };
//! assert_eq!(error.to_string(), "--ping-size 43: must be in [44, 2092] (bytes with the IP header)");
//! ```
#![forbid(unsafe_code)]

mod args;
mod compare;
mod error;
mod generate;
mod plan;
mod rate;
mod report;
pub mod schedule;
mod sweep;

pub use args::{
    DEFAULT_PORT, DEFAULT_STAMP_TIMEOUT_US, DEFAULT_TIMEOUT_US, MAX_CPU, MAX_QUEUE, caps_command, command,
    report_command,
};
pub use compare::{ComparePlan, MIN_ROUNDS, compare_command};
pub use error::UsageError;
pub use sweep::{SweepPlan, Target, sweep_command};

use crate::report::ReportPlan;
use crate::session::{Rate, Settings, TimerKind};
use args::{CapsArgs, ReportArgs};
use clap::{Parser, ValueEnum};
use std::ffi::OsString;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

/// What a command line asks for.
#[derive(Debug, Clone, PartialEq)]
pub enum Parsed {
    /// A measurement.
    Run(Plan),
    /// `xdprobe caps`.
    Caps(CapsPlan),
    /// `xdprobe compare`.
    Compare(ComparePlan),
    /// `xdprobe sweep`.
    Sweep(SweepPlan),
    /// `xdprobe report`.
    Report(ReportPlan),
    /// A text for stdout, and exit code 0: `--help`, `--version`, `--generate`. It ends with a newline.
    Print(String),
}

/// `xdprobe caps`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CapsPlan {
    /// `--interface`: not empty.
    pub interface: String,
    /// `--json`: one JSON object in place of text.
    pub json: bool,
}

/// A measurement, with every value in its range.
#[derive(Debug, Clone, PartialEq)]
pub struct Plan {
    /// Which side this is.
    pub role: Role,
    /// `--interface`: not empty.
    pub interface: String,
    /// `--port`: the server's UDP port, never 0.
    pub port: u16,
    /// `--log`: the CSV log.
    pub log: Option<PathBuf>,
    /// `--log-stages`: the CSV log of all stamps.
    pub log_stages: Option<PathBuf>,
    /// `--timestamps`, `--emulation`.
    pub timestamps: Timestamps,
    /// `--tx`: never [`TxWay::Companion`] where only the process stamps; without meaning on the kernel path.
    pub tx: TxWay,
    /// `--stamp-timeout`: how long a transmit stamp is waited for.
    pub stamp_timeout: Duration,
    /// `--stamp-every`: only every n-th ping is stamped where they travel behind PTP headers.
    pub stamp_every: Option<u32>,
    /// `--timeout`: how long a session may receive nothing; `None` is for ever.
    pub timeout: Option<Duration>,
    /// `--busypoll`: microseconds; `None` where it is not given or 0.
    pub busypoll_us: Option<u32>,
    /// `--dummy-pkt`: datagrams behind each ping and pong of this side.
    pub dummies: u32,
    /// `--probe-schedule`: not yet read, see [`schedule::load`].
    pub schedule: Option<PathBuf>,
    /// `--path`.
    pub path: PathKind,
    /// `--xdp-mode`; without meaning on the kernel path.
    pub xdp_mode: XdpMode,
    /// `--zero-copy`; without meaning on the kernel path.
    pub zero_copy: ZeroCopy,
    /// `--queue`: the receive queues to use, ascending, each once; `None` is all of them.
    pub queues: Option<Vec<u32>>,
    /// `--cpu`: where the hot loop is pinned.
    pub cpu: Option<usize>,
    /// What the run sets up for itself for the lowest latency.
    pub tuning: Tuning,
    /// `--json`: the statistics as one JSON object.
    pub json: bool,
    /// `--interval`: how often a line on what happened since the last is printed.
    pub interval: Option<Duration>,
    /// `--metrics`: where Prometheus metrics are served; the port is not 0.
    pub metrics: Option<SocketAddr>,
    /// `--quiet`: no line a second on a terminal.
    pub quiet: bool,
    /// `--timer` where it is given: how this side waits. A client's [`Settings::timer`] already has it.
    pub timer: Option<TimerKind>,
    /// What was accepted but means nothing here: one line each, for stderr.
    pub warnings: Vec<String>,
}

/// What a run sets up for itself where the machine's defaults cost latency.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Tuning {
    /// `--realtime`: the hot loop's thread has this priority of `SCHED_FIFO`, 1 to 99.
    pub realtime: Option<u8>,
    /// `--lock-memory`: all memory is locked while the hot loop runs.
    pub lock_memory: bool,
    /// `--cpu-latency`: how many µs idle CPUs may take to wake up, at most 2147483647.
    pub cpu_latency_us: Option<u32>,
    /// `--tune`: the interface's interrupts are deferred; never without busy polling.
    pub napi: bool,
}

/// Which side of a session.
#[derive(Debug, Clone, PartialEq)]
pub enum Role {
    /// `--client`
    Client {
        /// The server's name or address, as typed: nanoprobe prints it.
        host: String,
        /// What the SYN asks for.
        settings: Settings,
        /// `--connect-timeout`: how long the SYN may stay unanswered; `None` is for ever.
        connect_timeout: Option<Duration>,
        /// `--ptp`; `None` where it is not given and nothing is to be stamped by the card.
        ptp: Option<PtpWish>,
        /// `--ping-size` and `--pong-size` were typed: they are not to be made larger in silence.
        sizes_typed: [bool; 2],
    },
    /// `--server`
    Server {
        /// `--keep`: serve one session after the other.
        keep: bool,
        /// `--max-rate`: the most that a client may flood this side with; `None` is without limit.
        max_rate: Option<Rate>,
        /// `--clients` above 1, with `--keep`: many sessions at once; `None` is one at a time.
        many: Option<Many>,
    },
}

/// A server of many clients.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Many {
    /// `--clients`: sessions at once, from 2 to [`MAX_CLIENTS`](crate::session::MAX_CLIENTS).
    pub clients: u16,
    /// `--log-dir`: where each session's log goes.
    pub log_dir: Option<PathBuf>,
}

/// Whose time stamps are wanted.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Timestamps {
    /// The network card's.
    Hardware,
    /// The kernel's.
    Software,
    /// This process's.
    Application,
}

impl Timestamps {
    /// The name on the command line.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Hardware => "hardware",
            Self::Software => "software",
            Self::Application => "application",
        }
    }
}

/// What pings and pongs leave through on the xdp path.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum TxWay {
    /// A packet socket beside the AF_XDP sockets: transmit stamps come back.
    Companion,
    /// The AF_XDP sockets: the time of the hand-over stands for a transmit stamp.
    Xsk,
}

/// Whether what is to be stamped travels behind a PTP header.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum PtpWish {
    /// Over UDP port 319.
    Udp,
    /// Over Ethernet.
    L2,
    /// Over UDP where the card stamps nothing else, else not.
    Auto,
}

/// How datagrams get out and in.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum PathKind {
    /// AF_XDP sockets behind an XDP program.
    Xdp,
    /// An ordinary UDP socket.
    Kernel,
}

/// How the XDP program is attached.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum XdpMode {
    /// Native, else generic.
    Auto,
    /// In the driver.
    Native,
    /// In the kernel's stack, for drivers without XDP.
    Generic,
}

/// Whether the driver shares the UMEM or copies into it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum ZeroCopy {
    /// Zero-copy where the driver has it, else copy.
    Auto,
    /// Zero-copy or an error.
    On,
    /// Copy.
    Off,
}

/// Takes a command line apart and checks it. `args` begins with the program's name, as [`std::env::args_os`] does.
///
/// # Errors
/// One line that names the flag and what it accepts; the program ends with [`UsageError::EXIT_CODE`].
pub fn parse(args: impl IntoIterator<Item = OsString>) -> Result<Parsed, UsageError> {
    let args: Vec<OsString> = args.into_iter().collect();
    if args.get(1).is_some_and(|first| first == args::CAPS) {
        return caps(&args[1..]).map_err(|error| error.of("xdprobe caps"));
    }
    if args.get(1).is_some_and(|first| first == compare::COMPARE) {
        return compare::parse(&args[1..]).map_err(|error| error.of("xdprobe compare"));
    }
    if args.get(1).is_some_and(|first| first == sweep::SWEEP) {
        return sweep::parse(&args[1..]).map_err(|error| error.of("xdprobe sweep"));
    }
    if args.get(1).is_some_and(|first| first == args::REPORT) {
        return report(&args[1..]).map_err(|error| error.of("xdprobe report"));
    }
    let parsed = match command().try_get_matches_from(&args) {
        Ok(matches) => match matches.get_one("generate") {
            Some(what) => Ok(Parsed::Print(generate::text(*what))),
            None => plan::build(&matches).map(Parsed::Run),
        },
        Err(answer) if !answer.use_stderr() => Ok(Parsed::Print(answer.render().to_string())),
        Err(error) => Err(UsageError::from_clap(&error, &command())),
    };
    parsed.map_err(|error| mistyped(&args).unwrap_or(error))
}

/// Of a command line that is wrong: whether what was taken for a host was to be a subcommand.
fn mistyped(args: &[OsString]) -> Option<UsageError> {
    const ROLES: [&str; 2] = ["--client", "--server"];
    let (word, others) = args.get(1..)?.split_first()?;
    let is_role = |word: &str| word.len() > 2 && ROLES.iter().any(|role| role.starts_with(word));
    if others.iter().any(|word| word.to_str().is_some_and(is_role)) {
        return None;
    }
    let names = [args::CAPS, compare::COMPARE, sweep::SWEEP, args::REPORT];
    UsageError::mistyped_command(word, names, &ROLES)
}

fn caps(args: &[OsString]) -> Result<Parsed, UsageError> {
    match CapsArgs::try_parse_from(args) {
        Ok(CapsArgs { interface, json, .. }) => {
            Ok(Parsed::Caps(CapsPlan { interface: plan::interface(interface)?, json }))
        }
        Err(answer) if !answer.use_stderr() => Ok(Parsed::Print(answer.render().to_string())),
        Err(error) => Err(UsageError::from_clap(&error, &caps_command())),
    }
}

fn report(args: &[OsString]) -> Result<Parsed, UsageError> {
    match ReportArgs::try_parse_from(args) {
        Ok(args) => report::plan(args).map(Parsed::Report),
        Err(answer) if !answer.use_stderr() => Ok(Parsed::Print(answer.render().to_string())),
        Err(error) => Err(UsageError::from_clap(&error, &report_command())),
    }
}
