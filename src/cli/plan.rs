//! What flags mean together: one function makes a checked plan of what was typed.

use super::args::Args;
use super::error::{UsageError, shown};
use super::{Many, PathKind, Plan, PtpWish, Role, Timestamps, Tuning, TxWay, XdpMode, ZeroCopy};
use crate::session::{Direction, MAX_COUNT_S, MAX_DELAY_US, Settings, default_timer, ip_len};
use crate::wire::MIN_IP_LEN;
use clap::parser::ValueSource;
use clap::{ArgMatches, FromArgMatches};
use std::time::Duration;

/// Flags that a server accepts and ignores, as nanoprobe's does: the client's SYN says it.
const CLIENTS_BUSINESS: [&str; 9] =
    ["count", "delay", "ping_size", "pong_size", "pong_every", "in_band", "reverse", "duplex", "ptp"];
/// Flags that only the AF_XDP path has.
const XDP_ONLY: [&str; 4] = ["xdp_mode", "zero_copy", "queue", "tx"];

/// Flags that are a client's alone, and new: nothing that nanoprobe accepts has them.
const CLIENT_ONLY: [&str; 1] = ["connect_timeout"];

/// Every rule that needs more than one flag.
pub(super) fn build(matches: &ArgMatches) -> Result<Plan, UsageError> {
    let args = Args::from_arg_matches(matches).map_err(|error| UsageError::from_clap(&error, &super::command()))?;
    let typed = Typed(matches);
    let mut warnings = Vec::new();
    let timestamps = timestamps(&args, typed)?;
    let role = match (args.client, args.server) {
        (true, false) => client(&args, typed, timestamps, &mut warnings)?,
        (false, true) => server(&args, typed, &mut warnings)?,
        (true, true) => return Err(UsageError::see_help("--client and --server exclude each other")),
        (false, false) => return Err(UsageError::see_help("--client or --server is needed")),
    };
    check_path(&args, typed)?;
    if timestamps != Timestamps::Hardware && typed.has("stamp_every") {
        return Err(UsageError::new("--stamp-every is for the network card's stamps: it needs --timestamps hardware"));
    }
    if args.tune && args.busypoll == 0 {
        return Err(UsageError::new("--tune needs --busypoll: without it nobody polls while the interrupts are off"));
    }
    let tx = tx_way(&args, typed, timestamps, &mut warnings)?;
    let interface = interface(args.interface)?;
    Ok(Plan {
        role,
        interface,
        port: args.port,
        log: args.log,
        log_stages: args.log_stages,
        timestamps,
        tx,
        stamp_timeout: Duration::from_micros(args.stamp_timeout.into()),
        stamp_every: args.stamp_every,
        timeout: micros(args.timeout),
        busypoll_us: (args.busypoll > 0).then_some(args.busypoll),
        dummies: args.dummy_pkt,
        schedule: args.probe_schedule,
        path: args.path,
        xdp_mode: args.xdp_mode,
        zero_copy: args.zero_copy,
        queues: queues(args.queue.into_iter().flat_map(|queues| queues.0).collect()),
        cpu: args.cpu.map(|cpu| cpu as usize),
        tuning: Tuning {
            realtime: args.realtime,
            lock_memory: args.lock_memory,
            cpu_latency_us: args.cpu_latency,
            napi: args.tune,
        },
        json: args.json,
        interval: args.interval,
        metrics: args.metrics,
        quiet: args.quiet,
        timer: args.timer,
        warnings,
    })
}

/// The interface, which has to be named.
pub(super) fn interface(typed: Option<String>) -> Result<String, UsageError> {
    match typed {
        Some(interface) if !interface.is_empty() => Ok(interface),
        Some(interface) => Err(UsageError::value("--interface", interface, "must name a network interface")),
        None => Err(UsageError::see_help("--interface <nic> is needed")),
    }
}

/// Which flags stand on the command line, whatever their values.
#[derive(Clone, Copy)]
struct Typed<'a>(&'a ArgMatches);

impl Typed<'_> {
    fn has(self, id: &str) -> bool {
        self.0.value_source(id) == Some(ValueSource::CommandLine)
    }

    /// Those of `ids` that were typed, as they are typed: "--ping-size".
    fn flags(self, ids: &[&str]) -> impl Iterator<Item = String> {
        ids.iter().filter(move |id| self.has(id)).map(|id| format!("--{}", id.replace('_', "-")))
    }
}

fn client(args: &Args, typed: Typed, timestamps: Timestamps, warnings: &mut Vec<String>) -> Result<Role, UsageError> {
    if args.keep {
        return Err(UsageError::see_help("--keep is a server's flag: it cannot go with --client"));
    }
    if args.max_rate.is_some() {
        return Err(UsageError::see_help(
            "--max-rate is a server's flag, and one of xdprobe sweep: it cannot go with --client",
        ));
    }
    if let Some(flag) = typed.flags(&["clients", "log_dir"]).next() {
        return Err(UsageError::see_help(format_args!("{flag} is a server's flag: it cannot go with --client")));
    }
    let direction = match (args.reverse, args.duplex) {
        (false, false) => Direction::Forward,
        (true, false) => Direction::Reverse,
        (false, true) => Direction::Duplex,
        (true, true) => return Err(UsageError::see_help("--reverse and --duplex exclude each other")),
    };
    if direction != Direction::Forward {
        // As in nanoprobe even where the server has a schedule of its own: the client cannot know that.
        let flag = format!("--{}", direction.as_str());
        if !typed.has("count") {
            return Err(UsageError::new(format!("{flag} needs --count in [1, {MAX_COUNT_S}] (seconds)")));
        }
        if !(1..=MAX_COUNT_S).contains(&args.count) {
            let must = format!("must be in [1, {MAX_COUNT_S}] (seconds) with {flag}");
            return Err(UsageError::value("--count", args.count.to_string(), must));
        }
        if args.delay > MAX_DELAY_US {
            let must = format!("must be in [0, {MAX_DELAY_US}] (µs) with {flag}");
            return Err(UsageError::value("--delay", args.delay.to_string(), must));
        }
    }
    if direction == Direction::Reverse && typed.has("probe_schedule") {
        warnings.push("--probe-schedule is not used: with --reverse the server pings, so give it to the server".into());
    }
    if direction == Direction::Duplex && args.in_band {
        return Err(UsageError::new("--in-band cannot go with --duplex: nobody pongs"));
    }
    if direction == Direction::Duplex {
        let unused = typed.flags(&["pong_size", "pong_every"]);
        warnings.extend(unused.map(|flag| format!("{flag} is not used: with --duplex nobody pongs")));
    }
    let host = match &args.host {
        Some(host) if !host.is_empty() => host.clone(),
        Some(_) => return Err(UsageError::see_help("the host is empty: --client needs the server's name or address")),
        None => return Err(UsageError::see_help("--client needs the server's name or address as its last argument")),
    };
    let mut settings = Settings {
        count_s: args.count,
        delay_us: args.delay,
        ping_padding: args.ping_size - MIN_IP_LEN,
        pong_padding: args.pong_size - MIN_IP_LEN,
        pong_every: args.pong_every,
        timer: args.timer.unwrap_or(default_timer(args.delay)),
        direction,
        in_band: args.in_band,
        ..Settings::default()
    };
    let least = settings.min_pong_padding();
    if settings.pong_padding < least && typed.has("pong_size") {
        let must = format!("must be at least {} (bytes with the IP header) with --in-band", ip_len(least));
        return Err(UsageError::value("--pong-size", args.pong_size.to_string(), must));
    }
    settings.pong_padding = settings.pong_padding.max(least);
    let ptp = match (args.ptp, timestamps) {
        (None, Timestamps::Hardware) => Some(PtpWish::Auto),
        (wish, Timestamps::Hardware) => wish,
        (None, _) => None,
        (Some(_), _) => {
            return Err(UsageError::new("--ptp is for the network card's stamps: it needs --timestamps hardware"));
        }
    };
    let sizes_typed = [typed.has("ping_size"), typed.has("pong_size")];
    Ok(Role::Client { host, settings, connect_timeout: micros(args.connect_timeout), ptp, sizes_typed })
}

/// What pings and pongs leave through.
fn tx_way(args: &Args, typed: Typed, timestamps: Timestamps, warnings: &mut Vec<String>) -> Result<TxWay, UsageError> {
    if timestamps == Timestamps::Application {
        if let Some(flag) = typed.flags(&["stamp_timeout"]).next() {
            warnings.push(format!("{flag} is not used: with --timestamps application no stamp comes later"));
        }
        if args.tx == Some(TxWay::Companion) {
            return Err(UsageError::new(
                "--tx companion is for transmit stamps: it cannot go with --timestamps application",
            ));
        }
        return Ok(TxWay::Xsk);
    }
    let way = args.tx.unwrap_or(TxWay::Companion);
    if way == TxWay::Xsk && args.path == PathKind::Xdp && typed.has("stamp_timeout") {
        warnings.push("--stamp-timeout is not used: with --tx xsk no stamp comes later".into());
    }
    if way == TxWay::Xsk && args.path == PathKind::Xdp && timestamps == Timestamps::Hardware {
        warnings.push(
            "--tx xsk: what this side sends carries the time of the hand-over (CLOCK_REALTIME), what it receives the network \
             card's (PHC): the two are not subtracted from each other"
                .into(),
        );
    }
    Ok(way)
}

fn server(args: &Args, typed: Typed, warnings: &mut Vec<String>) -> Result<Role, UsageError> {
    if let Some(host) = &args.host {
        let host = shown(host);
        return Err(UsageError::see_help(format_args!("{host} is one argument too many: --server takes no host")));
    }
    if let Some(flag) = typed.flags(&CLIENT_ONLY).next() {
        return Err(UsageError::see_help(format_args!("{flag} is a client's flag: it cannot go with --server")));
    }
    let ignored = typed.flags(&CLIENTS_BUSINESS);
    warnings.extend(ignored.map(|flag| format!("{flag} is not used: a server does what its client asks for")));
    warnings
        .extend(typed.flags(&["quiet"]).map(|flag| format!("{flag} is not used: only a client shows a line a second")));
    Ok(Role::Server { keep: args.keep, max_rate: args.max_rate, many: many(args, typed)? })
}

/// What of a server's flags is for many clients at once.
fn many(args: &Args, typed: Typed) -> Result<Option<Many>, UsageError> {
    let clients = args.clients;
    if clients == 1 {
        let needs = |_| {
            UsageError::new(
                "--log-dir is for the logs of many sessions at once: it needs --clients 2 or more, or use --log",
            )
        };
        return args.log_dir.as_ref().map_or(Ok(None), |folder| Err(needs(folder)));
    }
    if !args.keep {
        return Err(UsageError::new(format!("--clients {clients} needs --keep: sessions begin and end at any time")));
    }
    if typed.has("log") {
        return Err(UsageError::new(format!(
            "--log cannot go with --clients {clients}: the rows of different clients would mix: use --log-dir"
        )));
    }
    if typed.has("max_rate") {
        return Err(UsageError::new(format!(
            "--max-rate cannot go with --clients {clients}: floods are refused there"
        )));
    }
    if let Some(flag) = typed.flags(&["log_stages"]).next() {
        return Err(UsageError::new(format!(
            "{flag} is for one session at a time: it cannot go with --clients {clients}"
        )));
    }
    Ok(Some(Many { clients, log_dir: args.log_dir.clone() }))
}

fn timestamps(args: &Args, typed: Typed) -> Result<Timestamps, UsageError> {
    match (args.emulation, args.timestamps) {
        (false, wanted) => Ok(wanted),
        (true, wanted) if wanted != Timestamps::Application && typed.has("timestamps") => {
            Err(UsageError::new("--emulation is --timestamps application: it cannot go with another --timestamps"))
        }
        (true, _) => Ok(Timestamps::Application),
    }
}

fn check_path(args: &Args, typed: Typed) -> Result<(), UsageError> {
    if args.path == PathKind::Kernel
        && let Some(flag) = typed.flags(&XDP_ONLY).next()
    {
        return Err(UsageError::new(format!("{flag} is a flag of --path xdp: it cannot go with --path kernel")));
    }
    if args.xdp_mode == XdpMode::Generic && args.zero_copy == ZeroCopy::On {
        // The kernel copies every packet that a generic program redirects.
        return Err(UsageError::new("--zero-copy on cannot go with --xdp-mode generic: only drivers have zero-copy"));
    }
    Ok(())
}

fn queues(mut queues: Vec<u32>) -> Option<Vec<u32>> {
    queues.sort_unstable();
    queues.dedup();
    (!queues.is_empty()).then_some(queues)
}

/// Microseconds, of which 0 is no limit.
fn micros(micros: u32) -> Option<Duration> {
    (micros > 0).then(|| Duration::from_micros(micros.into()))
}
