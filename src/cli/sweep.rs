//! `xdprobe sweep`: its own flags, and those of a client that mean the same here.
//!
//! The latter are taken from the client as they are, with their help and their ranges, and what is typed goes through the
//! client's own rules.

use super::args::{of_rounds, whole};
use super::error::UsageError;
use super::{Parsed, Plan, Role, command, plan, rate};
use crate::session::{MAX_COUNT_S, Pattern, Rate};
use crate::wire::{MAX_IP_LEN, MIN_IP_LEN};
use clap::builder::ValueRange;
use clap::parser::ValueSource;
use clap::{ArgAction, ArgMatches, Command, CommandFactory, FromArgMatches, Parser, ValueEnum, ValueHint};
use std::ffi::{OsStr, OsString};
use std::fmt;
use std::path::PathBuf;
use std::time::Duration;

/// What the subcommand is called.
pub(super) const SWEEP: &str = "sweep";
/// What it does, for the help of both commands, the man page and the completions.
pub(super) const SWEEP_ABOUT: &str = "Measure latency under load: ping a server while dummies fill the link, step by step, and say what kept a step back";

/// Flags of a client that mean the same here. Those of the session that are not among them are set by the steps.
const OF_CLIENT: [&str; 26] = [
    "host",
    "interface",
    "port",
    "connect_timeout",
    "delay",
    "ping_size",
    "pong_size",
    "timeout",
    "timestamps",
    "emulation",
    "in_band",
    "tx",
    "stamp_timeout",
    "ptp",
    "stamp_every",
    "path",
    "xdp_mode",
    "zero_copy",
    "queue",
    "busypoll",
    "cpu",
    "realtime",
    "lock_memory",
    "cpu_latency",
    "tune",
    "quiet",
];
/// The longest `--delay`, in µs: by its pongs a server shows that it is there.
const MAX_DELAY_US: u32 = 100_000;
/// The most steps.
const MAX_STEPS: usize = 32;
/// A share of the link is told in millionths.
const WHOLE: u64 = 1_000_000;

const USAGE: &str = "xdprobe sweep --interface <nic> --rates <list> [options] <host>";

fn after_help() -> String {
    "A rate in bits a second counts what frames take of the wire: the IP packet, 14 bytes of Ethernet header, 4 of \
     checksum, and 20 of preamble and gap. The server is an ordinary xdprobe --server --keep.\n\n\
     Example:\n    xdprobe sweep --interface eth1 --rates 10,50,90% --html sweep.html 10.0.0.2\n\n\
     Exit code: 0 every step was measured, or it was stopped, 1 the measurement failed, 2 the command line is wrong."
        .to_owned()
}

/// What is typed behind `xdprobe sweep`, without what is the client's.
#[derive(Debug, Parser)]
#[command(
    name = SWEEP,
    bin_name = "xdprobe sweep",
    about = SWEEP_ABOUT,
    override_usage = USAGE,
    after_help = after_help(),
    infer_long_args = true,
    args_override_self = true,
    disable_help_flag = true,
    max_term_width = 100
)]
struct SweepArgs {
    /// The steps, in shares of the link's speed (10,50,90%), bits a second (100M,1G) or packets a second (10,50kpps); a
    /// number without a unit has that of the next one. Always needed
    #[arg(long, value_name = "list", help_heading = LOAD, allow_negative_numbers = true, value_parser = targets)]
    rates: Option<Targets>,
    /// Size of a dummy with its IP header, 44 to 2092 [default: the interface's MTU, but no more than 1500]
    #[arg(long, value_name = "bytes", help_heading = LOAD, allow_negative_numbers = true)]
    #[arg(value_parser = whole::<u16>(MIN_IP_LEN.into(), MAX_IP_LEN.into(), "bytes with the IP header"))]
    load_size: Option<u16>,
    /// How dummies are spaced: equally, or with random gaps as in a Poisson process
    #[arg(long, value_name = "pattern", help_heading = LOAD, default_value = "cbr")]
    pattern: Spacing,
    /// Where the random gaps of --pattern poisson begin, 0 to 4294967295: the same gaps with the same number
    #[arg(long, value_name = "n", help_heading = LOAD, allow_negative_numbers = true)]
    #[arg(value_parser = whole::<u32>(0, u32::MAX, "any number"), default_value_t = 1)]
    seed: u32,
    /// Seconds of a step, 1 to 3600
    #[arg(long, value_name = "s", help_heading = LOAD, allow_negative_numbers = true)]
    #[arg(value_parser = whole::<u32>(1, MAX_COUNT_S, "seconds"), default_value_t = 2)]
    step_time: u32,
    /// Refuse steps beyond this: bits a second such as 100M or 2.5G, or packets a second such as 500kpps; 1 to 1T [default:
    /// no limit; the server may have one of its own]
    #[arg(long, value_name = "rate", help_heading = LOAD, allow_negative_numbers = true, value_parser = rate::parse)]
    max_rate: Option<Rate>,
    /// Print the result as one JSON object on stdout, durations in ns
    #[arg(long, help_heading = OUTPUT)]
    json: bool,
    /// Write the result to this file as one HTML page with pictures [default: no such file]
    #[arg(long, value_name = "file", help_heading = OUTPUT, value_hint = ValueHint::FilePath)]
    html: Option<PathBuf>,
    /// Print this help
    #[arg(short, long, action = ArgAction::HelpShort, help_heading = OUTPUT)]
    help: Option<bool>,
}

const LOAD: &str = "Load";
const OUTPUT: &str = "Output";

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Spacing {
    Cbr,
    Poisson,
}

/// `xdprobe sweep`, with every value in its range.
#[derive(Debug, Clone, PartialEq)]
pub struct SweepPlan {
    /// What all steps have in common: a client's plan, without count and load.
    pub client: Plan,
    /// `--rates`: the steps, in this order.
    pub targets: Vec<Target>,
    /// `--load-size`: bytes of a dummy with its IP header; `None` is what the interface's MTU allows, but at most 1500.
    pub load_size: Option<u16>,
    /// `--pattern`, `--seed`.
    pub pattern: Pattern,
    /// `--step-time`, in s.
    pub step_time_s: u32,
    /// `--max-rate`: no step is to be beyond it.
    pub max_rate: Option<Rate>,
    /// `--json`: one JSON object in place of text.
    pub json: bool,
    /// `--html`: the page to be written.
    pub html: Option<PathBuf>,
}

/// How much load a step is to have.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Target {
    /// Millionths of the link's speed, 1 to 1,000,000.
    Share(u32),
    /// So much.
    Rate(Rate),
}

impl fmt::Display for Target {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            // f64's shortest decimals: of millionths there are at most four behind the point.
            Self::Share(millionths) => write!(f, "{} %", f64::from(*millionths) / 10_000.0),
            Self::Rate(rate) => rate.fmt(f),
        }
    }
}

#[derive(Debug, Clone)]
struct Targets(Vec<Target>);

/// Parses a list of targets; a number without a unit has that of the next one that has one.
fn targets(typed: &str) -> Result<Targets, String> {
    let wanted = || {
        format!(
            "must list 1 to {MAX_STEPS} rates, the last one with its unit: shares of the link in (0, 100] such as 10,50,90%, bits a second in [1, 1T] such \
             as 100M,1G, or packets a second in [1, 1T] such as 10,50kpps"
        )
    };
    let mut unit: Option<&str> = None;
    let mut targets = Vec::new();
    for part in typed.rsplit(',') {
        let number = part.trim_end_matches(|letter: char| !letter.is_ascii_digit());
        let own = &part[number.len()..];
        if !own.is_empty() {
            unit = Some(own);
        }
        // A bare number of bits a second is nobody's wish.
        let unit = unit.ok_or_else(wanted)?;
        let target = match unit {
            "%" => rate::decimal(number, WHOLE / 100)
                .filter(|millionths| (1..=WHOLE).contains(millionths))
                .and_then(|millionths| u32::try_from(millionths).ok())
                .map(Target::Share),
            _ => rate::parse(&format!("{number}{unit}")).ok().map(Target::Rate),
        };
        targets.push(target.ok_or_else(wanted)?);
    }
    targets.reverse();
    if targets.len() > MAX_STEPS { Err(wanted()) } else { Ok(Targets(targets)) }
}

/// The command line of `xdprobe sweep` as clap knows it.
pub fn sweep_command() -> Command {
    let client = command();
    let of_client = client.get_arguments().filter(|arg| OF_CLIENT.contains(&arg.get_id().as_str())).cloned();
    let delay = format!("Microseconds from ping to ping, 1 to {MAX_DELAY_US}");
    of_rounds(SweepArgs::command().args(of_client))
        .mut_arg("delay", |arg| arg.help(delay).value_parser(whole::<u32>(1, MAX_DELAY_US, "µs")))
}

pub(super) fn parse(args: &[OsString]) -> Result<Parsed, UsageError> {
    let matches = match sweep_command().try_get_matches_from(args) {
        Ok(matches) => matches,
        Err(answer) if !answer.use_stderr() => return Ok(Parsed::Print(answer.render().to_string())),
        Err(error) => return Err(UsageError::from_clap(&error, &sweep_command())),
    };
    let wrong = |error: clap::Error| UsageError::from_clap(&error, &sweep_command());
    let args = SweepArgs::from_arg_matches(&matches).map_err(wrong)?;
    let Some(Targets(targets)) = args.rates else {
        return Err(UsageError::see_help("--rates <list> is needed: what load each step is to have"));
    };
    let host = matches.get_one::<String>("host").filter(|host| !host.is_empty());
    if host.is_none() {
        return Err(UsageError::see_help("xdprobe sweep needs the server's name or address as its last argument"));
    }
    let patience = matches.get_one::<u32>("connect_timeout").copied();
    let matches = command().try_get_matches_from(client_line(&matches)).map_err(wrong)?;
    let mut client = plan::build(&matches)?;
    // Here it has another default.
    if let Role::Client { connect_timeout, .. } = &mut client.role {
        *connect_timeout = patience.filter(|micros| *micros > 0).map(|micros| Duration::from_micros(micros.into()));
    }
    let plan = SweepPlan {
        client,
        targets,
        load_size: args.load_size,
        pattern: match args.pattern {
            Spacing::Cbr => Pattern::Cbr,
            Spacing::Poisson => Pattern::Poisson { seed: args.seed.into() },
        },
        step_time_s: args.step_time,
        max_rate: args.max_rate,
        json: args.json,
        html: args.html,
    };
    check_max_rate(&plan)?;
    Ok(Parsed::Sweep(plan))
}

/// Where both are in one unit, nothing else needs to be known.
fn check_max_rate(plan: &SweepPlan) -> Result<(), UsageError> {
    let beyond = plan.targets.iter().find(|target| match (target, plan.max_rate) {
        (Target::Rate(Rate::Bits(rate)), Some(Rate::Bits(most))) => *rate > most,
        (Target::Rate(Rate::Packets(rate)), Some(Rate::Packets(most))) => *rate > most,
        _ => false,
    });
    match (beyond, plan.max_rate) {
        (Some(target), Some(most)) => Err(UsageError::new(format!("--rates: {target} is more than --max-rate {most}"))),
        _ => Ok(()),
    }
}

/// The command line of the client that the steps are.
fn client_line(matches: &ArgMatches) -> Vec<OsString> {
    let mut line: Vec<OsString> = ["xdprobe", "--client"].map(OsString::from).into();
    let client = command();
    let mut host = None;
    for arg in client.get_arguments().filter(|arg| OF_CLIENT.contains(&arg.get_id().as_str())) {
        let id = arg.get_id().as_str();
        if matches.value_source(id) != Some(ValueSource::CommandLine) {
            continue;
        }
        let values: Vec<&OsStr> = matches.get_raw(id).map(Iterator::collect).unwrap_or_default();
        let Some(long) = arg.get_long() else {
            host = values.last().copied();
            continue;
        };
        if arg.get_num_args().is_some_and(|number| number == ValueRange::EMPTY)
            || matches!(arg.get_action(), ArgAction::SetTrue)
        {
            line.push(format!("--{long}").into());
            continue;
        }
        for value in values {
            let mut word = OsString::from(format!("--{long}="));
            word.push(value);
            line.push(word);
        }
    }
    line.push("--".into());
    line.extend(host.map(OsStr::to_owned));
    line
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(typed: &str) -> Vec<Target> {
        targets(typed).unwrap_or_else(|error| panic!("{typed}: {error}")).0
    }

    #[test]
    fn a_number_without_a_unit_has_that_of_the_next() {
        let share = |millionths| Target::Share(millionths);
        let (bits, packets) = (|rate| Target::Rate(Rate::Bits(rate)), |rate| Target::Rate(Rate::Packets(rate)));
        assert_eq!(of("10,50,90%"), [share(100_000), share(500_000), share(900_000)]);
        assert_eq!(of("0.0001%,100%"), [share(1), share(1_000_000)]);
        assert_eq!(of("100M,1G"), [bits(100_000_000), bits(1_000_000_000)]);
        assert_eq!(of("10,50kpps"), [packets(10_000), packets(50_000)]);
        assert_eq!(of("5%,2.5,10G,7pps"), [share(50_000), bits(2_500_000_000), bits(10_000_000_000), packets(7)]);
    }

    #[test]
    fn what_is_no_list_of_rates_is_refused() {
        let many = vec!["1%"; MAX_STEPS + 1].join(",");
        let wrong = [
            "", ",", "10", "10,50", "10%,50", "0%", "101%", "100.1%", "0.00001%", "-5%", "%", "10,,20%", "10%,",
            ",10%", "10 %", "1e3M", "2T", "0pps", "10%%", "10x", "kpps", &many,
        ];
        for typed in wrong {
            assert!(targets(typed).is_err(), "{typed:?}");
        }
        assert_eq!(of(&vec!["1%"; MAX_STEPS].join(",")).len(), MAX_STEPS);
    }

    #[test]
    fn a_target_is_said_as_it_was_meant() {
        assert_eq!(
            of("12.5%,100M,7kpps").iter().map(ToString::to_string).collect::<Vec<_>>(),
            ["12.5 %", "100 Mbit/s", "7 kpps"]
        );
    }
}
