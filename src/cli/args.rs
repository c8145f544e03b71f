//! What can be typed: the flags, their values one by one, and the help. What flags mean together is `plan`'s.

use super::compare::{COMPARE, COMPARE_ABOUT};
use super::generate::Generate;
use super::sweep::{SWEEP, SWEEP_ABOUT};
use super::{PathKind, PtpWish, Timestamps, TxWay, XdpMode, ZeroCopy, rate};
use crate::report::Clocks;
use crate::session::{MAX_CLIENTS, MAX_PONG_EVERY, Rate, Settings, TimerKind};
use crate::tune::realtime::{MAX_PRIORITY, MIN_PRIORITY};
use crate::wire::{MAX_IP_LEN, MIN_IP_LEN};
use clap::builder::{PossibleValuesParser, TypedValueParser};
use clap::{Arg, ArgAction, Command, CommandFactory, Parser, ValueHint};
use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

/// The server's UDP port where `--port` is not given: nanoprobe's.
pub const DEFAULT_PORT: u16 = 10666;
/// Microseconds of `--timeout` where it is not given: nanoprobe's 5 s.
pub const DEFAULT_TIMEOUT_US: u32 = 5_000_000;
/// Microseconds of `--stamp-timeout` where it is not given: 100 ms.
pub const DEFAULT_STAMP_TIMEOUT_US: u32 = 100_000;
/// The largest `--cpu`: `cpu_set_t` holds 1024.
pub const MAX_CPU: u32 = 1023;
/// The largest `--queue`: the kernel's drivers stay below.
pub const MAX_QUEUE: u32 = 4095;
/// Microseconds that commands of many sessions wait for a server where `--connect-timeout` is not given: nobody may be there to see
/// that they wait.
const ROUNDS_CONNECT_TIMEOUT_US: &str = "5000000";
/// `SO_BUSY_POLL` takes an `int`, and so does `/dev/cpu_dma_latency`.
const MAX_INT: u32 = i32::MAX as u32;
/// nanoprobe has no limit but its stack, which ends it somewhere near this.
const MAX_DUMMIES: u32 = 65535;

const USAGE: &str = "xdprobe --server --interface <nic> [options]
       xdprobe --client --interface <nic> [options] <host>
       xdprobe compare --interface <nic> [options] <host>
       xdprobe sweep --interface <nic> --rates <list> [options] <host>
       xdprobe report [options] <client.csv> [<server.csv>]
       xdprobe caps --interface <nic> [--json]";

/// What can be done with the program, and how.
pub(super) const EXAMPLES: [(&str, &str); 6] = [
    ("What can eth1 stamp, and what is the best command line for it:", "xdprobe caps --interface eth1"),
    (
        "Ping with the network card's stamps, and log every other stamp too:",
        "xdprobe --client -i eth1 -n 10 --log client.csv --log-stages stages.csv 10.0.0.2",
    ),
    (
        "Serve one session on eth1, stamped by this program, and log every packet:",
        "xdprobe --server --interface eth1 --emulation --log server.csv",
    ),
    (
        "Ping it every 100 µs for 10 s:",
        "xdprobe --client --interface eth1 --emulation --delay 100 --count 10 --log client.csv 10.0.0.2",
    ),
    (
        "Let the server ping 1500-byte packets for 5 s over an ordinary UDP socket:",
        "xdprobe --client -i eth1 -eR -n 5 -d 1000 -s 1500 --path kernel server.example.net",
    ),
    (
        "Replay a schedule (one \"<delay µs>,<ping bytes>\" a line), with the result as JSON:",
        "xdprobe --client -i eth1 -e --probe-schedule trace.csv --json 10.0.0.2",
    ),
];
/// What holds for all flags.
pub(super) const NOTES: &str =
    "Sizes count the IP header, not the Ethernet header. Flags come in any order; long ones can be abbreviated.";
/// What the program ends with.
pub(super) const EXIT_CODES: [(&str, &str); 3] =
    [("0", "success"), ("1", "the measurement failed"), ("2", "the command line is wrong")];

fn after_help() -> String {
    let examples = EXAMPLES.map(|(what, line)| format!("  {what}\n    {line}")).join("\n\n");
    let codes = EXIT_CODES.map(|(code, meaning)| format!("{code} {meaning}")).join(", ");
    format!(
        "Other commands:\n  xdprobe {COMPARE}: {COMPARE_ABOUT}\n  xdprobe {SWEEP}: {SWEEP_ABOUT}\n  xdprobe {REPORT}: {REPORT_ABOUT}\n  xdprobe {CAPS}: {CAPS_ABOUT}\n\nExamples:\n{examples}\n\n{NOTES}\nExit code: {codes}."
    )
}

/// What was typed, each value in the widest range that its flag can have. The help is these fields' documentation.
#[derive(Debug, Parser)]
#[command(
    name = "xdprobe",
    bin_name = "xdprobe",
    version,
    about = "Measures network latency packet by packet: UDP ping/pong over AF_XDP, compatible with nanoprobe.",
    override_usage = USAGE,
    after_help = after_help(),
    infer_long_args = true,
    args_override_self = true,
    disable_help_flag = true,
    disable_version_flag = true,
    max_term_width = 100
)]
pub(super) struct Args {
    /// Ping a server, or be pinged by it
    #[arg(long, help_heading = "Role")]
    // nanoprobe knows no other long option with cl: what was short enough for it stays so.
    #[arg(aliases = ["cl", "cli", "clie", "clien"])]
    pub client: bool,
    /// Wait for a client, serve its session, exit
    #[arg(long, aliases = ["s"], help_heading = "Role")]
    pub server: bool,
    /// The server's IPv4 address or name; a client's, and needed there
    #[arg(value_name = "host", help_heading = "Role", value_hint = ValueHint::Hostname)]
    pub host: Option<String>,
    /// Network interface to send and receive on; always needed
    #[arg(short, long, value_name = "nic", help_heading = "Role")]
    // nanoprobe knows no other long option with i: what was short enough for it stays so.
    #[arg(aliases = ["i", "in", "int", "inte", "inter"])]
    pub interface: Option<String>,
    /// The server's UDP port, 1 to 65535
    #[arg(short, long, value_name = "port", help_heading = "Role", allow_negative_numbers = true)]
    #[arg(value_parser = whole::<u16>(1, 65535, "UDP port"), default_value_t = DEFAULT_PORT)]
    pub port: u16,
    /// Server: serve sessions one after the other until stopped
    #[arg(long, help_heading = "Role")]
    pub keep: bool,
    /// Server with --keep: serve so many clients at once, 1 to 4096, each with a session and statistics of its own
    #[arg(long, value_name = "n", help_heading = "Role", allow_negative_numbers = true)]
    #[arg(value_parser = whole::<u16>(1, MAX_CLIENTS.into(), "clients"), default_value_t = 1)]
    pub clients: u16,
    /// Server: the most that a client may flood this side with (see xdprobe sweep): bits a second such as 100M or 2.5G,
    /// or packets a second such as 500kpps; 1 bit/s or pps to 1T [default: no limit]
    #[arg(long, value_name = "rate", help_heading = "Role", allow_negative_numbers = true, value_parser = rate::parse)]
    pub max_rate: Option<Rate>,
    /// Client: give up when no server answers for this many microseconds, 0 to 4294967295; 0 is never
    #[arg(long, value_name = "µs", help_heading = "Role", allow_negative_numbers = true)]
    #[arg(value_parser = whole::<u32>(0, u32::MAX, "µs"), default_value_t = 0)]
    pub connect_timeout: u32,

    /// Seconds to ping for, 0 to 4294967295, 0 is until stopped; with --reverse and --duplex 1 to 3600, and needed
    #[arg(short = 'n', long, value_name = "s", help_heading = CLIENT, allow_negative_numbers = true)]
    // nanoprobe knows no other long option with c: what was short enough for it stays so.
    #[arg(aliases = ["c", "co"])]
    #[arg(value_parser = whole::<u32>(0, u32::MAX, "seconds"), default_value_t = Settings::default().count_s)]
    pub count: u32,
    /// Microseconds from ping to ping, 0 to 4294967295, 0 is as fast as it goes; with --reverse and --duplex at most
    /// 100000000
    #[arg(short, long, value_name = "µs", help_heading = CLIENT, allow_negative_numbers = true)]
    #[arg(value_parser = whole::<u32>(0, u32::MAX, "µs"), default_value_t = Settings::default().delay_us)]
    pub delay: u32,
    /// Size of a ping with its IP header, 44 to 2092
    #[arg(short = 's', long, value_name = "bytes", help_heading = CLIENT, allow_negative_numbers = true)]
    #[arg(value_parser = whole::<u16>(MIN_IP_LEN.into(), MAX_IP_LEN.into(), SIZE), default_value_t = MIN_IP_LEN)]
    pub ping_size: u16,
    /// Size of a pong with its IP header, 44 to 2092
    #[arg(short = 'o', long, value_name = "bytes", help_heading = CLIENT, allow_negative_numbers = true)]
    #[arg(value_parser = whole::<u16>(MIN_IP_LEN.into(), MAX_IP_LEN.into(), SIZE), default_value_t = MIN_IP_LEN)]
    pub pong_size: u16,
    /// Answer every n-th ping, 0 to 1000000; 0 is none, and either side may then time out
    #[arg(short = 'y', long, value_name = "n", help_heading = CLIENT, allow_negative_numbers = true)]
    #[arg(value_parser = whole::<u32>(0, MAX_PONG_EVERY, "pings"), default_value_t = Settings::default().pong_every)]
    pub pong_every: u32,
    /// Have pongs carry the stamps of the side that sends them, so that this side's statistics have the RTT without its time:
    /// (t3-t0)-(t2-t1); pongs are 100 bytes or more then. Both sides must be xdprobe
    #[arg(long, help_heading = CLIENT)]
    pub in_band: bool,
    /// The server pings, the client pongs; needs --count
    // nanoprobe knows no other long option with r: what was short enough for it stays so.
    #[arg(short = 'R', long, aliases = ["r", "re"], help_heading = CLIENT)]
    pub reverse: bool,
    /// Both ping, nobody pongs; needs --count
    #[arg(short = 'D', long, help_heading = CLIENT)]
    pub duplex: bool,

    /// CSV file with a line "<delay µs>,<ping bytes>" for each ping of this side, in place of delay, ping size and count
    #[arg(short = 'S', long, value_name = "csv", help_heading = EITHER, value_hint = ValueHint::FilePath)]
    pub probe_schedule: Option<PathBuf>,
    /// How to wait for the next ping: busy is exact and takes a CPU
    /// [default: busy up to a delay of 1000 µs, else sleep; a server's: what its client wants]
    #[arg(short = 'T', long, value_name = "timer", help_heading = EITHER)]
    #[arg(value_parser = PossibleValuesParser::new(["sleep", "busy"]).map(timer))]
    pub timer: Option<TimerKind>,
    /// Dummy packets behind each ping and pong of this side, 0 to 65535
    #[arg(short = 'x', long, value_name = "n", help_heading = EITHER, allow_negative_numbers = true)]
    #[arg(value_parser = whole::<u32>(0, MAX_DUMMIES, "packets"), default_value_t = 0)]
    pub dummy_pkt: u32,
    /// End a session in which nothing was received for this many microseconds, 0 to 4294967295; 0 is never; behind PTP
    /// headers no less than 10000 counts
    #[arg(short, long, value_name = "µs", help_heading = EITHER, allow_negative_numbers = true)]
    #[arg(value_parser = whole::<u32>(0, u32::MAX, "µs"), default_value_t = DEFAULT_TIMEOUT_US)]
    pub timeout: u32,

    /// Who stamps the packets: the network card, the kernel, or this program
    #[arg(long, value_name = "source", help_heading = PATH, default_value = "hardware")]
    pub timestamps: Timestamps,
    /// Short for --timestamps application
    #[arg(short, long, help_heading = PATH)]
    pub emulation: bool,
    /// What pings and pongs leave through on the xdp path: a packet socket, which brings transmit stamps back, or AF_XDP,
    /// which has the time of the hand-over instead
    /// [default: companion; with --timestamps application xsk]
    #[arg(long, value_name = "way", help_heading = PATH)]
    pub tx: Option<TxWay>,
    /// Microseconds to wait for a packet's transmit stamp before it counts as missed, 1 to 60000000
    #[arg(long, value_name = "µs", help_heading = PATH, allow_negative_numbers = true)]
    #[arg(value_parser = whole::<u32>(1, 60_000_000, "µs"), default_value_t = DEFAULT_STAMP_TIMEOUT_US)]
    pub stamp_timeout: u32,
    /// Client: put what is to be stamped behind a PTP header, for cards that stamp only PTP packets that they receive: over
    /// UDP port 319, over Ethernet (one link only), or over UDP where the card needs it
    /// [default: auto with --timestamps hardware]
    #[arg(long, value_name = "how", help_heading = PATH)]
    pub ptp: Option<PtpWish>,
    /// Behind PTP headers stamp only every n-th ping of this side, 1 to 1000000
    /// [default: so many that fewer than 1000 a second are stamped]
    #[arg(long, value_name = "n", help_heading = PATH, allow_negative_numbers = true)]
    #[arg(value_parser = whole::<u32>(1, 1_000_000, "pings"))]
    pub stamp_every: Option<u32>,
    /// AF_XDP, or an ordinary UDP socket (which fragments packets larger than the MTU)
    #[arg(long, value_name = "path", help_heading = PATH, default_value = "xdp")]
    pub path: PathKind,
    /// Where the XDP program runs: in the driver, in the kernel's stack, or the first that works
    #[arg(long, value_name = "mode", help_heading = PATH, default_value = "auto")]
    pub xdp_mode: XdpMode,
    /// Zero-copy AF_XDP: where the driver has it, or an error without it, or never
    #[arg(long, value_name = "when", help_heading = PATH, default_value = "auto")]
    pub zero_copy: ZeroCopy,
    /// Receive queues to serve, 0 to 4095, such as 0,2-3; may be repeated [default: all]
    #[arg(long, value_name = "list", help_heading = PATH, allow_negative_numbers = true)]
    #[arg(value_parser = queues, action = ArgAction::Append)]
    pub queue: Vec<Queues>,
    /// Microseconds for which the kernel polls the driver (SO_BUSY_POLL), 0 to 2147483647; 0 is off
    #[arg(short, long, value_name = "µs", help_heading = PATH, allow_negative_numbers = true)]
    #[arg(value_parser = whole::<u32>(0, MAX_INT, "µs"), default_value_t = 0)]
    pub busypoll: u32,
    /// Pin the thread that sends and receives to this CPU, 0 to 1023 [default: not pinned]
    #[arg(long, value_name = "cpu", help_heading = PATH, allow_negative_numbers = true)]
    #[arg(value_parser = whole::<u32>(0, MAX_CPU, "CPU number"))]
    pub cpu: Option<u32>,
    /// Run the thread that sends and receives under SCHED_FIFO with this priority, 1 to 99, so that no ordinary thread takes its
    /// CPU away [default: as any other thread]
    #[arg(long, value_name = "prio", help_heading = PATH, allow_negative_numbers = true)]
    #[arg(value_parser = whole::<u8>(MIN_PRIORITY.into(), MAX_PRIORITY.into(), "priority"))]
    pub realtime: Option<u8>,
    /// Lock all memory of the program (mlockall), so that the thread that sends and receives waits for no page
    #[arg(long, help_heading = PATH)]
    pub lock_memory: bool,
    /// Let idle CPUs sleep only as deep as lets them wake up within this many microseconds (/dev/cpu_dma_latency),
    /// 0 to 2147483647; 0 keeps them awake [default: as the machine has it]
    #[arg(long, value_name = "µs", help_heading = PATH, allow_negative_numbers = true)]
    #[arg(value_parser = whole::<u32>(0, MAX_INT, "µs"))]
    pub cpu_latency: Option<u32>,
    /// Keep the interface's interrupts off while --busypoll polls its driver (napi_defer_hard_irqs, gro_flush_timeout); what was
    /// there before is restored. Needs --busypoll
    #[arg(long, help_heading = PATH)]
    pub tune: bool,

    /// Append the time stamp of every packet to this CSV file, and write FILE.meta.json beside it [default: no log]
    #[arg(short, long, value_name = "file", help_heading = OUTPUT, value_hint = ValueHint::FilePath)]
    #[arg(aliases = ["l", "lo"])]
    pub log: Option<PathBuf>,
    /// Server with --clients: write a log like that of --log for each session into this folder, in a file named by the session's
    /// start and the client's address and port [default: no logs]
    #[arg(long, value_name = "folder", help_heading = OUTPUT, value_hint = ValueHint::DirPath)]
    pub log_dir: Option<PathBuf>,
    /// Append every stamp of every packet (program, kernel, card) to this CSV file [default: no such log]
    #[arg(long, value_name = "file", help_heading = OUTPUT, value_hint = ValueHint::FilePath)]
    pub log_stages: Option<PathBuf>,
    /// Print the statistics as one JSON object on stdout, durations in ns
    #[arg(long, help_heading = OUTPUT)]
    pub json: bool,
    /// Print what happened every so many seconds, 0.01 to 86400, such as 0.5, as a line on stdout; with --json as one object a
    /// line, before that of the statistics
    #[arg(long, value_name = "s", help_heading = OUTPUT, allow_negative_numbers = true, value_parser = interval)]
    pub interval: Option<Duration>,
    /// Serve Prometheus metrics over HTTP at this address and port, such as 127.0.0.1:9100, under /metrics
    #[arg(long, value_name = "addr:port", help_heading = OUTPUT, value_parser = metrics)]
    pub metrics: Option<SocketAddr>,
    /// Client: show no line a second on a terminal
    #[arg(long, help_heading = OUTPUT)]
    pub quiet: bool,
    /// Print the man page, or the completions of a shell
    #[arg(long, value_name = "what", help_heading = OUTPUT)]
    pub generate: Option<Generate>,
    /// Print this help
    // The long form spreads what fits on a screen and a half over four.
    #[arg(short, long, action = ArgAction::HelpShort, help_heading = OUTPUT)]
    pub help: Option<bool>,
    /// Print the version
    #[arg(long, action = ArgAction::Version, help_heading = OUTPUT)]
    pub version: Option<bool>,
}

const CLIENT: &str = "Session (set by the client; a server ignores these and does what its client asks)";
const EITHER: &str = "Session (set by each side for itself)";
const PATH: &str = "Time stamps and path";
const OUTPUT: &str = "Output";
const PEER: &str = "Interface and server";
const PINGS: &str = "Pings";
const SIZE: &str = "bytes with the IP header";

/// The measurement's command line as clap knows it: for help, completions and tests.
pub fn command() -> Command {
    Args::command()
}

/// The flags of a command of many sessions, a client's always: what is said of a measurement's roles and directions has no
/// meaning there. Its headings are in the order of the measurement's, its own behind that of the server.
pub(super) fn of_rounds(command: Command) -> Command {
    let command = command.mut_args(|flag| {
        let heading = match flag.get_id().as_str() {
            "host" | "interface" | "port" | "connect_timeout" => Some(PEER),
            "delay" | "ping_size" | "pong_size" | "in_band" | "timer" | "timeout" => Some(PINGS),
            _ => None,
        };
        let flag = match heading {
            Some(heading) => flag.help_heading(heading),
            None => flag,
        };
        match flag.get_id().as_str() {
            "host" => flag.help("The server's IPv4 address or name; always needed"),
            "connect_timeout" => flag
                .help("Give up when no server answers for this many microseconds, 0 to 4294967295; 0 is never")
                .default_value(ROUNDS_CONNECT_TIMEOUT_US),
            "delay" => flag.help("Microseconds from ping to ping, 0 to 4294967295, 0 is as fast as it goes"),
            "timer" => flag.help(
                "How both sides wait for the next ping: busy is exact and takes a CPU [default: busy up to a delay of 1000 µs, \
                 else sleep]",
            ),
            "ptp" => flag.help(
                "Put what is to be stamped behind a PTP header, for cards that stamp only PTP packets that they receive: over UDP \
                 port 319, over Ethernet (one link only), or over UDP where the card needs it [default: auto with --timestamps \
                 hardware]",
            ),
            "quiet" => flag.help("Show no line on a terminal that says how it goes"),
            "json" => flag.help("Print the result as one JSON object on stdout, durations in ns"),
            _ => flag,
        }
    });
    // clap has the headings in the order in which its arguments first name them.
    let mut flags: Vec<Arg> = command.get_arguments().cloned().collect();
    flags.sort_by_key(|flag| match flag.get_help_heading() {
        Some(PEER) => 0,
        Some(PINGS) => 2,
        Some(PATH) => 3,
        Some(OUTPUT) => 4,
        _ => 1,
    });
    let mut flags = flags.into_iter();
    command.mut_args(|flag| flags.next().unwrap_or(flag))
}

/// What the subcommand is called.
pub(super) const CAPS: &str = "caps";
/// What it does, for the help of both commands, the man page and the completions.
pub(super) const CAPS_ABOUT: &str =
    "Show what an interface's card, driver and kernel can do for probing, and change nothing";

/// What was typed behind `xdprobe caps`.
#[derive(Debug, Parser)]
#[command(
    name = CAPS,
    bin_name = "xdprobe caps",
    about = CAPS_ABOUT,
    infer_long_args = true,
    args_override_self = true,
    disable_help_flag = true,
    after_help = "Exit code: 0 success, 1 the interface cannot be looked at, 2 the command line is wrong.",
    max_term_width = 100
)]
pub(super) struct CapsArgs {
    /// Network interface to look at; always needed
    #[arg(short, long, value_name = "nic")]
    pub interface: Option<String>,
    /// Print it as one JSON object
    #[arg(long)]
    pub json: bool,
    /// Print this help
    #[arg(short, long, action = ArgAction::HelpShort)]
    pub help: Option<bool>,
}

/// The command line of `xdprobe caps` as clap knows it.
pub fn caps_command() -> Command {
    CapsArgs::command()
}

/// What the subcommand is called.
pub(super) const REPORT: &str = "report";
/// What it does, for the help of both commands, the man page and the completions.
pub(super) const REPORT_ABOUT: &str =
    "Join the logs of a session's two sides, and say what they tell of loss, delays and clocks";
const REPORT_NOTES: &str = "Logs are what --log writes, ours or nanoprobe's. One log alone tells less: no one-way delays, and not in which direction \
    a packet was lost. Forward is the way of the pings, in duplex sessions that from the client to the server.\n\n\
    Examples:\n  Both sides' logs of the last session in them:\n    xdprobe report client.csv server.csv\n\n  \
    Its round trips beside those of another one:\n    xdprobe report client.csv server.csv --with other-client.csv,other-server.csv\n\n\
    Exit code: 0 success, 1 a log cannot be read or the report not written, 2 the command line is wrong.";

/// What was typed behind `xdprobe report`.
#[derive(Debug, Parser)]
#[command(
    name = REPORT,
    bin_name = "xdprobe report",
    about = REPORT_ABOUT,
    override_usage = "xdprobe report [options] <client.csv> [<server.csv>]",
    after_help = REPORT_NOTES,
    infer_long_args = true,
    disable_help_flag = true,
    max_term_width = 100
)]
pub(super) struct ReportArgs {
    /// The client's log
    #[arg(value_name = "client.csv", value_hint = ValueHint::FilePath)]
    pub client: Option<PathBuf>,
    /// The server's log
    #[arg(value_name = "server.csv", value_hint = ValueHint::FilePath)]
    pub server: Option<PathBuf>,
    /// Which session of a log that was appended to, from 1 [default: the last that has rows]
    #[arg(long, value_name = "n", overrides_with = "session", allow_negative_numbers = true)]
    #[arg(value_parser = whole::<u32>(1, u32::MAX, "header lines of the log"))]
    pub session: Option<u32>,
    /// Which session of the server's log, where its number is another one
    #[arg(long, value_name = "n", overrides_with = "server_session", allow_negative_numbers = true)]
    #[arg(value_parser = whole::<u32>(1, u32::MAX, "header lines of the log"))]
    pub server_session: Option<u32>,
    /// Another session beside this one: its client's log, and its server's behind a comma; may be repeated
    #[arg(long, value_name = "client.csv[,server.csv]", value_hint = ValueHint::FilePath)]
    pub with: Vec<std::ffi::OsString>,
    /// What a session is called, in the order in which they are named; may be repeated [default: the client's log]
    #[arg(long, value_name = "text")]
    pub label: Vec<String>,
    /// The clocks of the two sides: estimate their offset and skew from the least delays, or take them as they are
    #[arg(long, value_name = "how", value_enum, default_value_t = Clocks::Estimate, overrides_with = "clocks")]
    pub clocks: Clocks,
    /// A log of stages (--log-stages) of the session, of either side; may be repeated
    #[arg(long, value_name = "file", value_hint = ValueHint::FilePath)]
    pub stages: Vec<PathBuf>,
    /// Print one JSON object, durations in ns; with --with an array of them
    #[arg(long, overrides_with = "json")]
    pub json: bool,
    /// Write a row for each ping to this CSV file: its stamps, round trip and one-way delays
    #[arg(long, value_name = "file", value_hint = ValueHint::FilePath, overrides_with = "csv")]
    pub csv: Option<PathBuf>,
    /// Write the same to this Parquet file
    #[arg(long, value_name = "file", value_hint = ValueHint::FilePath, overrides_with = "parquet")]
    pub parquet: Option<PathBuf>,
    /// Write a page with pictures, of all sessions, to this file; it loads nothing from anywhere
    #[arg(long, value_name = "file", value_hint = ValueHint::FilePath, overrides_with = "html")]
    pub html: Option<PathBuf>,
    /// Print this help
    #[arg(short, long, action = ArgAction::HelpShort)]
    pub help: Option<bool>,
}

/// The command line of `xdprobe report` as clap knows it.
pub fn report_command() -> Command {
    ReportArgs::command()
}

/// A value that lists receive queues.
#[derive(Debug, Clone)]
pub(super) struct Queues(pub Vec<u32>);

/// A parser of decimal numbers from `min` to `max`: nothing in front of them but a sign, nothing behind them.
pub(super) fn whole<T: TryFrom<u32>>(
    min: u32,
    max: u32,
    unit: &'static str,
) -> impl Fn(&str) -> Result<T, String> + Clone + Send + Sync + 'static {
    move |typed| {
        let digits = typed.strip_prefix(['+', '-']).unwrap_or(typed);
        if digits.is_empty() || !digits.bytes().all(|byte| byte.is_ascii_digit()) {
            return Err(format!("must be a whole number in [{min}, {max}] ({unit})"));
        }
        // What does not fit into an i64 is out of every range.
        let number = typed.parse::<i64>().ok().and_then(|number| u32::try_from(number).ok());
        number
            .filter(|number| (min..=max).contains(number))
            .and_then(|number| T::try_from(number).ok())
            .ok_or_else(|| format!("must be in [{min}, {max}] ({unit})"))
    }
}

/// Parses seconds with or without a fraction.
fn interval(typed: &str) -> Result<Duration, String> {
    let must = "must be a number in [0.01, 86400] (seconds)";
    // Not what else a float may look like: infinity, 1e3.
    let is_plain = typed.bytes().all(|byte| byte.is_ascii_digit() || byte == b'.');
    let seconds = typed.parse::<f64>().ok().filter(|seconds| is_plain && (0.01..=86400.0).contains(seconds));
    seconds.map(Duration::from_secs_f64).ok_or_else(|| must.into())
}

/// Parses where metrics are served.
fn metrics(typed: &str) -> Result<SocketAddr, String> {
    let address = typed.parse().ok().filter(|address: &SocketAddr| address.port() != 0);
    address.ok_or_else(|| "must be an address and a port in [1, 65535], such as 127.0.0.1:9100 or [::1]:9100".into())
}

fn timer(typed: String) -> TimerKind {
    if typed == "busy" { TimerKind::Busy } else { TimerKind::Sleep }
}

/// Parses numbers and ranges with commas between them.
fn queues(typed: &str) -> Result<Queues, String> {
    let wanted = || format!("must list queues in [0, {MAX_QUEUE}], such as 0 or 0,2-3");
    let number = whole::<u32>(0, MAX_QUEUE, "receive queue");
    let mut queues = Vec::new();
    for part in typed.split(',') {
        let (first, last) = part.split_once('-').unwrap_or((part, part));
        let (first, last) = (number(first).map_err(|_| wanted())?, number(last).map_err(|_| wanted())?);
        if first > last {
            return Err(wanted());
        }
        queues.extend(first..=last);
    }
    Ok(Queues(queues))
}
