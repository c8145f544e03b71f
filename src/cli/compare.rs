//! `xdprobe compare`: the measuring flags of a client, and its own.
//!
//! The flags that it shares with the measurement are those of the measurement, not copies: names, ranges and help cannot
//! differ.

use super::args::{Args, of_rounds};
use super::error::UsageError;
use super::{Parsed, Plan, Role, plan};
use crate::session::{Settings, ip_len};
use crate::wire::MAX_IP_LEN;
use clap::{Arg, ArgAction, Command, CommandFactory, ValueHint};
use std::ffi::OsString;
use std::path::PathBuf;

/// What the subcommand is called.
pub(super) const COMPARE: &str = "compare";
/// What it does, for the help of both commands, the man page and the completions.
pub(super) const COMPARE_ABOUT: &str =
    "Measure AF_XDP beside the kernel's UDP, in alternating rounds against one server, and say what the difference is";
/// The least number of rounds: one to warm up, and two that can differ from each other.
pub const MIN_ROUNDS: u32 = 3;
const MAX_ROUNDS: u32 = 10_000;
const MAX_ROUND_TIME: u32 = 3600;
/// The measurement's flags that it has too.
const SHARED: [&str; 27] = [
    "host",
    "interface",
    "port",
    "connect_timeout",
    "delay",
    "ping_size",
    "pong_size",
    "timer",
    "timeout",
    "timestamps",
    "emulation",
    "tx",
    "stamp_timeout",
    "ptp",
    "stamp_every",
    "xdp_mode",
    "zero_copy",
    "queue",
    "busypoll",
    "cpu",
    "realtime",
    "lock_memory",
    "cpu_latency",
    "tune",
    "json",
    "quiet",
    "help",
];

const NOTES: &str = "The server is an ordinary one, started once: xdprobe --server --keep --interface <nic>. Each round is a session \
    with it, on the path on both sides that the round is of. All rounds have the same sizes and the same rate, the order \
    within a pair of rounds alternates, and the first round of each path is thrown away. Pongs carry the server's stamps, so that \
    the RTT, (t3-t0)-(t2-t1), is known here; they are 100 bytes or more.\n\n\
    The kernel's rounds run while the XDP program of this side and of the server is attached: it looks at each packet and \
    passes it on. With --timer busy a side takes all of a CPU whatever the path costs; use --timer sleep to see what it does.\n\n\
    Example:\n  xdprobe compare --interface eth1 --emulation --delay 100 --html compare.html 10.0.0.2\n\n\
    Exit code: 0 all rounds were had, or it was stopped when there was something to say, 1 the measurement failed, 2 the \
    command line is wrong.";

/// `xdprobe compare`.
#[derive(Debug, Clone, PartialEq)]
pub struct ComparePlan {
    /// What a round on the xdp path would be as a measurement of its own: a client's. Its count is the length of a round.
    pub client: Plan,
    /// `--rounds`: of each path, the first among them, which does not count.
    pub rounds: u32,
    /// `--matrix`: also this side's xdp path with the server's kernel path, and the other way round.
    pub matrix: bool,
    /// `--html`: where the page goes.
    pub html: Option<PathBuf>,
}

/// The command line of `xdprobe compare` as clap knows it.
pub fn compare_command() -> Command {
    let shared = Args::command();
    let shared = shared.get_arguments().filter(|flag| SHARED.contains(&flag.get_id().as_str())).cloned();
    own(Command::new(COMPARE).args(shared))
}

/// Whatever is the command's own.
fn own(command: Command) -> Command {
    const HEADING: &str = "Rounds";
    let number = |name: &'static str, min: u32, max: u32, unit: &'static str, default: &'static str| {
        let flag = Arg::new(name).long(name).help_heading(HEADING).default_value(default).allow_negative_numbers(true);
        flag.value_parser(super::args::whole::<u32>(min, max, unit))
    };
    let least = ip_len(Settings { in_band: true, ..Settings::default() }.min_pong_padding());
    let command = command
        .arg(
            number("rounds", MIN_ROUNDS, MAX_ROUNDS, "rounds", "10")
                .value_name("n")
                .help("Rounds of each path, 3 to 10000; the first of each is thrown away"),
        )
        .arg(
            number("round-time", 1, MAX_ROUND_TIME, "seconds", "1")
                .value_name("s")
                .help("Seconds that a round takes, 1 to 3600"),
        )
        .arg(
            Arg::new("matrix")
                .long("matrix")
                .action(ArgAction::SetTrue)
                .help_heading(HEADING)
                .help("All four combinations of this side's path and the server's, not only those of one path"),
        )
        .arg(
            Arg::new("html")
                .long("html")
                .value_name("file")
                .value_hint(ValueHint::FilePath)
                .value_parser(clap::value_parser!(PathBuf))
                .help_heading("Output")
                .help("Write a page with tables and pictures to this file; it needs nothing else"),
        );
    of_rounds(command)
        .mut_arg("pong_size", |flag| {
            flag.help(format!(
                "Size of a pong with its IP header, {least} to {MAX_IP_LEN}: it carries the server's stamps"
            ))
            .default_value(least.to_string())
        })
        .bin_name("xdprobe compare")
        .about(COMPARE_ABOUT)
        .override_usage("xdprobe compare --interface <nic> [options] <host>")
        .after_help(NOTES)
        .infer_long_args(true)
        .args_override_self(true)
        .disable_help_flag(true)
        .disable_version_flag(true)
        .max_term_width(100)
}

/// The same with all flags of the measurement, so that its rules can be asked: what is not shared cannot be typed, as a word
/// of a command line has no long flag with a blank in it.
fn parser() -> Command {
    let whole = Args::command().mut_args(|flag| {
        let id = flag.get_id().as_str().to_owned();
        if SHARED.contains(&id.as_str()) {
            return flag;
        }
        flag.long(unspeakable(&id)).short(None).aliases(None::<&str>).hide(true)
    });
    own(whole.name(COMPARE))
}

fn unspeakable(id: &str) -> String {
    format!(" {id}")
}

/// `args` begins with the subcommand's name.
pub(super) fn parse(args: &[OsString]) -> Result<Parsed, UsageError> {
    let as_client = OsString::from(format!("--{}", unspeakable("client")));
    let args = args.iter().take(1).cloned().chain([as_client]).chain(args.iter().skip(1).cloned());
    let matches = match parser().try_get_matches_from(args) {
        Ok(matches) => matches,
        Err(answer) if !answer.use_stderr() => return Ok(Parsed::Print(compare_command().render_help().to_string())),
        Err(error) => return Err(UsageError::from_clap(&error, &compare_command())),
    };
    // A client's rule names flags that there are not here.
    if matches.get_one::<String>("host").is_none_or(String::is_empty) {
        return Err(UsageError::see_help("xdprobe compare needs the server's name or address as its last argument"));
    }
    let mut client = plan::build(&matches)?;
    if let Role::Client { settings, sizes_typed, .. } = &mut client.role {
        settings.count_s = *matches.get_one("round-time").expect("it has a default");
        settings.account = true;
        // Without the server's own stamps there is no RTT, only what the server took with it.
        settings.in_band = true;
        let least = settings.min_pong_padding();
        if settings.pong_padding < least && sizes_typed[1] {
            let must = format!(
                "must be at least {} (bytes with the IP header): pongs carry the server's stamps",
                ip_len(least)
            );
            return Err(UsageError::value("--pong-size", ip_len(settings.pong_padding).to_string(), must));
        }
        settings.pong_padding = settings.pong_padding.max(least);
    }
    Ok(Parsed::Compare(ComparePlan {
        client,
        rounds: *matches.get_one("rounds").expect("it has a default"),
        matrix: matches.get_flag("matrix"),
        html: matches.get_one("html").cloned(),
    }))
}
