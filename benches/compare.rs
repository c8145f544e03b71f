//! xdprobe's xdp path against its kernel path, and against an original nanoprobe where `NANOPROBE=` names its binary.
//!
//! All contestants run on one veth pair in one run, in alternating rounds: what counts are the ratios. Each figure comes
//! from the contestant's own client log (t3 − t0, joined by sequence), read the same way for all. Needs root and iproute2.
//!
//! Many short rounds rather than few long ones: what takes the CPU away for milliseconds now and then (another machine on
//! the same host, a kernel thread) then spoils some rounds of everybody's, and the median is of those that it left alone.
//!
//! What AF_XDP itself takes on this machine in this run is in the table too: a ping/pong over the path alone, without
//! session, log and statistics, one busy thread a side.
//!
//! `ROUNDS` (default 15), `SECONDS_A_ROUND` (default 1) and `RATE_SECONDS` (default 2) change how long it takes.

#[path = "../tests/support/namespace.rs"]
mod namespace;

use anyhow::{Context, Result, bail, ensure};
use namespace::{End, Namespace, join};
use nix::sched::{CpuSet, sched_setaffinity};
use nix::unistd::Pid;
use std::collections::HashMap;
use std::fmt::Write as _;
use std::net::{Ipv4Addr, SocketAddrV4};
use std::path::{Path, PathBuf};
use std::process::{Child, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};
use xdprobe::clock::{Realtime, Time, monotonic_now};
use xdprobe::net;
use xdprobe::path::xdp::{XdpConfig, XdpMode, XdpPath, ZeroCopy};
use xdprobe::path::{Batch, Path as _, StampWishes};
use xdprobe::session::{Body, Outgoing};
use xdprobe::wire::frame::LinkHeader;
use xdprobe::wire::ptp::Shape;
use xdprobe::wire::{Kind, Message};

const CLIENT: End = End::new("xc", Ipv4Addr::new(10, 99, 0, 1));
const SERVER: End = End::new("xs", Ipv4Addr::new(10, 99, 0, 2));
/// Pings a second at which round trips are measured.
const RTT_RATE: u32 = 10_000;
/// Rates that are tried for the highest one without loss, in pings a second.
const RATES: [u32; 12] =
    [8_000, 16_000, 24_000, 32_000, 50_000, 64_000, 80_000, 100_000, 150_000, 200_000, 300_000, 400_000];

/// What is measured.
struct Contestant {
    name: &'static str,
    /// The program; `None` is the path alone, in this process.
    binary: Option<PathBuf>,
    /// Flags of both sides.
    common: Vec<String>,
    /// Flags of the client and of the server, so that each busy thread has a CPU.
    client: Vec<String>,
    server: Vec<String>,
}

/// Round trips of one session, sorted, in nanoseconds.
struct Session {
    round_trips: Vec<i64>,
    pings: usize,
    seconds: f64,
}

fn main() -> Result<()> {
    let rounds = number_from_env("ROUNDS", 15)?;
    let seconds = number_from_env("SECONDS_A_ROUND", 1)?;
    let rate_seconds = number_from_env("RATE_SECONDS", 2)?;
    let lan = Lan::new()?;
    let contestants = contestants();
    println!("{}", machine());
    println!("{rounds} alternating rounds of {seconds} s at {RTT_RATE} pings/s, 44-byte pings, veth, busy timers\n");

    let mut results: Vec<Vec<Session>> = contestants.iter().map(|_| Vec::new()).collect();
    for _ in 0..rounds {
        for (contestant, sessions) in contestants.iter().zip(&mut results) {
            sessions.push(lan.session(contestant, RTT_RATE, seconds)?);
        }
    }
    let rates: Vec<u32> = contestants.iter().map(|c| highest_rate(&lan, c, rate_seconds)).collect::<Result<_>>()?;
    print!("{}", table(&contestants, &results, &rates));
    Ok(())
}

fn contestants() -> Vec<Contestant> {
    let ours = PathBuf::from(env!("CARGO_BIN_EXE_xdprobe"));
    let own = |name, path: &str| Contestant {
        name,
        binary: Some(ours.clone()),
        common: ["--path", path].map(String::from).to_vec(),
        client: ["--cpu", "0"].map(String::from).to_vec(),
        server: ["--cpu", "1", "--timer", "busy"].map(String::from).to_vec(),
    };
    let mut all = vec![own("xdprobe, xdp path", "xdp"), own("xdprobe, kernel path", "kernel")];
    if let Some(binary) = std::env::var_os("NANOPROBE") {
        let (name, binary) = ("nanoprobe", Some(PathBuf::from(binary)));
        all.push(Contestant { name, binary, common: vec![], client: vec![], server: vec![] });
    }
    all.push(Contestant { name: "AF_XDP path alone", binary: None, common: vec![], client: vec![], server: vec![] });
    all
}

/// The highest of [`RATES`] that a contestant gets through without loss in two of four tries, sending at least 95 % of
/// what it should: the slots in which the machine took its CPU away are skipped.
fn highest_rate(lan: &Lan, contestant: &Contestant, seconds: u32) -> Result<u32> {
    let mut highest = 0;
    for rate in RATES {
        let (mut lossless, mut tries) = (0, 0);
        while lossless < 2 && tries - lossless < 3 {
            let session = lan.session(contestant, rate, seconds)?;
            let reached = session.pings as f64 >= 0.95 * f64::from(rate) * session.seconds;
            lossless += u32::from(reached && session.round_trips.len() == session.pings);
            tries += 1;
        }
        if lossless < 2 {
            break;
        }
        highest = rate;
    }
    Ok(highest)
}

fn table(contestants: &[Contestant], results: &[Vec<Session>], rates: &[u32]) -> String {
    let median = |sessions: &[Session], of: &dyn Fn(&Session) -> f64| {
        let mut values: Vec<f64> = sessions.iter().map(of).collect();
        values.sort_by(f64::total_cmp);
        (values[values.len() / 2], values[0], values[values.len() - 1])
    };
    let mut out = String::from("t3−t0 in µs: median over the rounds (least to most of the rounds)\n\n");
    out += "| contestant | p50 | p99 | p99.9 | max | lost | pings/s without loss |\n|---|---|---|---|---|---|---|\n";
    for ((contestant, sessions), rate) in contestants.iter().zip(results).zip(rates) {
        let _ = write!(out, "| {} ", contestant.name);
        for share in [0.5, 0.99, 0.999, 1.0] {
            let (middle, least, most) = median(sessions, &|s: &Session| percentile(&s.round_trips, share) / 1000.0);
            let _ = write!(out, "| {middle:.1} ({least:.1}–{most:.1}) ");
        }
        let lost: usize = sessions.iter().map(|s| s.pings - s.round_trips.len()).sum();
        let _ = writeln!(out, "| {lost} | {rate} |");
    }
    let figure = |sessions: &[Session], share| median(sessions, &|s: &Session| percentile(&s.round_trips, share)).0;
    out += "\n";
    for (other, sessions) in contestants.iter().zip(results).skip(1) {
        let _ = writeln!(
            out,
            "{} / {}: p50 × {:.2}, p99.9 × {:.2}",
            contestants[0].name,
            other.name,
            figure(&results[0], 0.5) / figure(sessions, 0.5),
            figure(&results[0], 0.999) / figure(sessions, 0.999),
        );
    }
    out
}

/// Nearest-rank percentile of sorted values.
fn percentile(sorted: &[i64], share: f64) -> f64 {
    let rank = (share * sorted.len() as f64).ceil() as usize;
    sorted.get(rank.clamp(1, sorted.len().max(1)) - 1).map_or(f64::NAN, |nanos| *nanos as f64)
}

/// Reads a client's log: t3 − t0 of every sequence that has both.
fn read_log(path: &Path) -> Result<Session> {
    let mut sent: HashMap<u64, i64> = HashMap::new();
    let mut round_trips = Vec::new();
    let (mut first, mut last) = (i64::MAX, i64::MIN);
    let mut received: HashMap<u64, i64> = HashMap::new();
    let mut reader = csv::Reader::from_path(path).with_context(|| format!("cannot read {}", path.display()))?;
    for row in reader.records() {
        let row = row?;
        let (seconds, nanos) = row[2].split_once('.').context("a stamp has a dot")?;
        let stamp = seconds.parse::<i64>()? * 1_000_000_000 + nanos.parse::<i64>()?;
        let sequence = row[0].parse()?;
        match &row[1] {
            "t0" => {
                sent.insert(sequence, stamp);
                (first, last) = (first.min(stamp), last.max(stamp));
            }
            "t3" => {
                received.insert(sequence, stamp);
            }
            other => bail!("a forward client does not log {other}"),
        }
    }
    for (sequence, stamp) in &sent {
        round_trips.extend(received.get(sequence).map(|received| received - stamp));
    }
    round_trips.sort_unstable();
    Ok(Session { round_trips, pings: sent.len(), seconds: (last - first).max(1) as f64 / 1e9 })
}

/// Two network namespaces joined by a veth pair, and a folder for logs, removed with the value.
struct Lan {
    client: Namespace,
    server: Namespace,
    folder: tempfile::TempDir,
    /// Set by SIGINT and SIGTERM, so that the namespaces are removed on that way out too.
    interrupted: Arc<AtomicBool>,
}

impl Lan {
    fn new() -> Result<Self> {
        let interrupted = Arc::new(AtomicBool::new(false));
        for signal in [signal_hook::consts::SIGINT, signal_hook::consts::SIGTERM] {
            signal_hook::flag::register(signal, Arc::clone(&interrupted))?;
        }
        let (client, server) = (Namespace::new("client"), Namespace::new("server"));
        join((&client, CLIENT), (&server, SERVER));
        Ok(Self { client, server, folder: tempfile::tempdir()?, interrupted })
    }

    /// One forward session; its round trips as the client's log has them.
    fn session(&self, contestant: &Contestant, rate: u32, seconds: u32) -> Result<Session> {
        let Some(binary) = &contestant.binary else { return self.path_alone(rate, seconds) };
        let log = self.folder.path().join("client.csv");
        let _ = std::fs::remove_file(&log);
        let mut server = self.spawn(
            binary,
            contestant,
            &self.server,
            &["--server", "--interface", SERVER.interface],
            &contestant.server,
        )?;
        // The server says when it listens, but nanoprobe's line may sit in a buffer; a client repeats its SYN.
        std::thread::sleep(Duration::from_millis(300));
        let delay = (1_000_000 / rate).to_string();
        let count = seconds.to_string();
        let log_flag = log.to_str().context("a temporary path is text")?;
        let mut flags =
            vec!["--client", "--interface", CLIENT.interface, "--delay", &delay, "--count", &count, "--timer", "busy"];
        flags.extend(["--log", log_flag]);
        let mut own = contestant.client.clone();
        own.push(SERVER.address.to_string());
        let mut client = self.spawn(binary, contestant, &self.client, &flags, &own)?;
        let limit = Instant::now() + Duration::from_secs(u64::from(seconds) + 20);
        let finished = self.wait(&mut client, limit).and_then(|()| self.wait(&mut server, limit));
        // An overrun server may never see the FIN: both are ended, and what is missing in the log is loss.
        for child in [&mut client, &mut server] {
            let _ = child.kill();
            let _ = child.wait();
        }
        ensure!(!self.interrupted.load(Ordering::Relaxed), "interrupted");
        if finished.is_err() {
            eprintln!("{} at {rate} pings/s did not end by itself", contestant.name);
        }
        read_log(&log)
    }

    fn wait(&self, child: &mut Child, limit: Instant) -> Result<()> {
        while child.try_wait()?.is_none() {
            ensure!(Instant::now() < limit && !self.interrupted.load(Ordering::Relaxed), "it still runs");
            std::thread::sleep(Duration::from_millis(20));
        }
        Ok(())
    }

    /// Pings and pongs over two [`XdpPath`]s, each on a thread and a CPU of its own.
    fn path_alone(&self, rate: u32, seconds: u32) -> Result<Session> {
        let done = AtomicBool::new(false);
        std::thread::scope(|scope| {
            let echo = scope.spawn(|| {
                self.server.run(|| {
                    let mut path = open_path(&SERVER, 1, 10666, None)?;
                    let mut batch = Batch::new();
                    while !done.load(Ordering::Relaxed) {
                        path.receive(&mut batch)?;
                        for ping in batch.datagrams() {
                            path.send(&outgoing(ping.from, Kind::Pong, ping.message.sequence))?;
                        }
                        path.flush()?;
                    }
                    anyhow::Ok(())
                })
            });
            std::thread::sleep(Duration::from_millis(300));
            let session = self.client.run(|| ping_alone(rate, seconds));
            done.store(true, Ordering::Relaxed);
            echo.join().expect("the echo does not panic")?;
            session
        })
    }

    fn spawn(
        &self,
        binary: &Path,
        contestant: &Contestant,
        space: &Namespace,
        flags: &[&str],
        own: &[String],
    ) -> Result<Child> {
        let mut command = space.command(binary);
        command.args(flags).arg("--emulation").args(&contestant.common).args(own);
        command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
        command.spawn().with_context(|| format!("cannot start {}", binary.display()))
    }
}

fn outgoing(to: SocketAddrV4, kind: Kind, sequence: u64) -> Outgoing {
    Outgoing { to, message: Message { kind, sequence }, body: Body::Padding(0), shape: Shape::Plain, point: None }
}

/// Opens the xdp path at one end and pins the calling thread.
fn open_path(end: &End, cpu: usize, port: u16, server: Option<SocketAddrV4>) -> Result<XdpPath> {
    let mut cpus = CpuSet::new();
    cpus.set(cpu).and_then(|()| sched_setaffinity(Pid::from_raw(0), &cpus))?;
    let interface = net::interface(end.interface)?;
    let reserved = net::reserve_port(end.interface, end.address, port)?;
    let local = SocketAddrV4::new(end.address, reserved.local_addr()?.port());
    let link = |server: SocketAddrV4| -> Result<_> {
        let mac = net::resolve_neighbour(&interface, *server.ip(), Duration::from_secs(5))?;
        Ok((server, LinkHeader::new(mac, interface.mac)))
    };
    let config = XdpConfig {
        interface: interface.name.clone(),
        if_index: interface.index,
        mac: interface.mac,
        mtu: interface.mtu,
        local,
        dummy_port: 9,
        mode: XdpMode::Native,
        zero_copy: ZeroCopy::Off,
        queues: vec![0],
        busypoll_us: None,
        peer: server.map(link).transpose()?,
        stamps: StampWishes::default(),
        companion: false,
        card_stamps: false,
    };
    XdpPath::open(config, reserved)
}

fn ping_alone(rate: u32, seconds: u32) -> Result<Session> {
    let server = SocketAddrV4::new(SERVER.address, 10666);
    let mut path = open_path(&CLIENT, 0, 0, Some(server))?;
    let mut batch = Batch::new();
    let interval = 1_000_000_000 / u64::from(rate);
    let slots = u64::from(rate) * u64::from(seconds);
    let mut sent: Vec<Option<Time<Realtime>>> = vec![None; slots as usize];
    let mut round_trips = Vec::with_capacity(slots as usize);
    let mut pings = 0;
    let start = monotonic_now();
    for slot in 0..=slots {
        // Behind the last one, late answers are waited for.
        let due = start.plus_nanos(if slot < slots { slot * interval } else { slot * interval + 50_000_000 });
        loop {
            path.receive(&mut batch)?;
            for pong in batch.datagrams() {
                let t0 = sent.get(pong.message.sequence as usize).copied().flatten();
                round_trips.extend(t0.map(|t0| pong.stamps.application.nanos_since(t0)));
            }
            if monotonic_now() >= due {
                break;
            }
        }
        // As the programs do: a slot that is over is skipped.
        if slot < slots && monotonic_now() < due.plus_nanos(interval) {
            sent[slot as usize] = Some(path.send(&outgoing(server, Kind::Ping, slot))?.application);
            path.flush()?;
            pings += 1;
        }
    }
    round_trips.sort_unstable();
    Ok(Session { round_trips, pings, seconds: f64::from(seconds) })
}

/// The machine by type: processor, number of CPUs, kernel.
fn machine() -> String {
    let read = |path| std::fs::read_to_string(path).unwrap_or_default();
    let info = read("/proc/cpuinfo");
    let model = info.lines().find_map(|line| line.strip_prefix("model name")).unwrap_or("unknown");
    let model = model.trim_start_matches(['\t', ' ', ':']);
    let cpus = info.lines().filter(|line| line.starts_with("processor")).count();
    format!("{model}, {cpus} CPUs, kernel {}", read("/proc/sys/kernel/osrelease").trim())
}

fn number_from_env(name: &str, default: u32) -> Result<u32> {
    match std::env::var(name) {
        Ok(value) => value.parse().with_context(|| format!("{name}={value} is not a number")),
        Err(_) => Ok(default),
    }
}
