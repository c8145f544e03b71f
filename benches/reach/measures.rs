//! What is measured of each contestant.

use crate::contestant::{Contestant, Who};
use crate::figures::Figures;
use crate::floor::{self, Side};
use crate::lan::{self, CLIENT, Job, Lan, SERVER, Session};
use crate::log::{lateness, percentile};
use crate::targets::{
    AWAY_CLIENT, AWAY_SERVER, BUSY_LATE, BUSY_P50, BUSY_P99, CPU, CPU_PINNED, DUE_WHILE_AWAY, LOSSLESS, MEMORY,
    MEMORY_16, ONE_WAY, ONE_WAY_LOST, ONE_WAY_SINGLE, PLANNED_P99, ROWS_LOST, RTT_P50, RTT_P999, SLEEP_P99, START,
    UNDISTURBED_P50, UNDISTURBED_P99, WRITER,
};
use crate::{others, writer};
use anyhow::{Context, Result};
use serde_json::Value;
use socket2::{Domain, Protocol, Socket, Type};
use std::io::{ErrorKind, Read};
use std::process::Stdio;
use std::time::{Duration, Instant};

/// Pings a second at which round trips are measured.
const RTT_RATE: u32 = 10_000;
/// Between two pings, in us, where the highest rate without loss is looked for: whole ones, as nanoprobe's flag is, so that all
/// are asked for the same.
const DELAYS: [u32; 22] = [100, 80, 62, 50, 41, 35, 31, 28, 25, 22, 20, 18, 16, 14, 12, 10, 8, 6, 5, 4, 3, 2];
/// Frames for each wake-up of the kernel: as many as one takes.
const BATCH: u32 = 32;
/// A ping that left so late was late.
const LATE_NS: i64 = 10_000;
/// Of pings that are slept for.
const SLEEP_RATE: u32 = 100;
const SLEEP_SECONDS: u32 = 3;
/// Beyond a first second, in which a session begins: the CPU time of these pings is what is told.
const CPU_SECONDS: u32 = 3;
const CPU_RATE: u32 = 1000;
/// Once where the kernel puts everybody, and once on two CPUs, as two machines have: waking a thread on another CPU takes whoever wakes it
/// some µs, on a virtual machine ten.
const CPU_TIMES: [(&str, bool); 2] = [(CPU, false), (CPU_PINNED, true)];
/// The port that a SYN goes to.
const PORT: u16 = 10666;

const BUSY: Job = Job { delay_us: 1_000_000 / RTT_RATE, seconds: 1, timer: "busy", pong_every: 1, pinned: true };

/// What a round measures.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Part {
    RoundTrips,
    /// Round trips with the options for the lowest latency.
    Options,
    OneWay,
    Rates,
    Sleep,
    Start,
    Writer,
}

impl Part {
    pub const ALL: [Self; 7] =
        [Self::RoundTrips, Self::Options, Self::OneWay, Self::Rates, Self::Sleep, Self::Start, Self::Writer];

    /// Those that a list with commas names.
    ///
    /// # Errors
    /// One of them is none.
    pub fn named(list: &str) -> Result<Vec<Self>> {
        let part = |name: &str| {
            let part = Self::ALL.into_iter().find(|part| part.name() == name);
            part.with_context(|| format!("PARTS={list}: {name} is none of {}", Self::ALL.map(Self::name).join(",")))
        };
        list.split(',').map(part).collect()
    }

    /// As `PARTS=` names it.
    pub const fn name(self) -> &'static str {
        match self {
            Self::RoundTrips => "trips",
            Self::Options => "options",
            Self::OneWay => "one-way",
            Self::Rates => "rates",
            Self::Sleep => "sleep",
            Self::Start => "start",
            Self::Writer => "writer",
        }
    }
}

/// One round: these parts, of every contestant.
pub fn round(
    lan: &Lan,
    contestants: &[Contestant],
    [seconds, rate_seconds]: [u32; 2],
    parts: &[Part],
    figures: &mut Figures,
) -> Result<()> {
    let has = |part| parts.contains(&part);
    for contestant in contestants {
        let part = if matches!(contestant.who, Who::Tuned(..)) { Part::Options } else { Part::RoundTrips };
        if !has(part) {
            continue;
        }
        round_trips(lan, contestant, seconds, figures)?;
    }
    let able = |contestant: &&Contestant| contestant.who == Who::Floor || contestant.who.is_prober();
    for contestant in contestants.iter().filter(able) {
        if has(Part::OneWay) {
            one_way(lan, contestant, seconds, figures)?;
        }
        if has(Part::Rates) {
            lossless(lan, contestant, rate_seconds, figures)?;
        }
    }
    if has(Part::Sleep) {
        floor_asleep(lan, figures)?;
    }
    for contestant in contestants.iter().filter(|contestant| matches!(contestant.who, Who::Xdp | Who::Nanoprobe)) {
        if has(Part::Sleep) {
            sleeping(lan, contestant, figures)?;
        }
        if has(Part::Start) {
            figures.add(START, "ms", contestant.who.name(), first_syn(lan, contestant)?);
        }
    }
    if has(Part::Writer) {
        figures.add(WRITER, "rows/s", Who::Xdp.name(), writer::highest_rate(&lan.file("writer.csv"), 1)?);
    }
    Ok(())
}

/// The most pings a second that it sent and that were all answered, in two of four tries: the shortest of [`DELAYS`] for which
/// this is so is found by halving. A slot that was over before its ping could leave is no loss, and in no rate: what is told is what was sent.
fn lossless(lan: &Lan, contestant: &Contestant, seconds: u32, figures: &mut Figures) -> Result<()> {
    let mut highest: f64 = 0.0;
    // All before `from` go through, none from `to` on does.
    let (mut from, mut to) = (0, DELAYS.len());
    while from < to {
        let middle = usize::midpoint(from, to);
        let (mut sent, mut tries) = (Vec::new(), 0);
        while sent.len() < 2 && tries - sent.len() < 3 {
            let [pings, pongs] = pings_and_pongs(lan, contestant, DELAYS[middle], seconds)?;
            sent.extend((pings > 0 && pings == pongs).then_some(pings as f64 / f64::from(seconds)));
            tries += 1;
        }
        (from, to) = match sent[..] {
            [one, other] => {
                highest = highest.max(f64::midpoint(one, other));
                (middle + 1, to)
            }
            _ => (from, middle),
        };
    }
    figures.add(LOSSLESS, "pings/s", contestant.who.name(), highest);
    Ok(())
}

/// The memory of a session on an interface with 16 queues.
pub fn memory(lan: &Lan, contestants: &[Contestant], figures: &mut Figures) -> Result<()> {
    for contestant in contestants.iter().filter(|contestant| contestant.who == Who::Xdp) {
        let session = lan.session(contestant, BUSY)?;
        figures.add(MEMORY_16, "MiB", contestant.who.name(), session.peak_kib as f64 / 1024.0);
    }
    Ok(())
}

fn sides(lan: &Lan, pinned: bool) -> [Side<'_>; 2] {
    let [client, server] = lan.cpus.map(|cpu| pinned.then_some(cpu));
    [
        Side { namespace: &lan.client, end: CLIENT, cpu: client },
        Side { namespace: &lan.server, end: SERVER, cpu: server },
    ]
}

fn pings_and_pongs(lan: &Lan, contestant: &Contestant, delay_us: u32, seconds: u32) -> Result<[usize; 2]> {
    if contestant.who == Who::Floor {
        let [client, server] = sides(lan, true);
        let floor = floor::ping_pong(&client, &server, 1_000_000 / delay_us, seconds)?;
        return Ok([floor.pings, floor.round_trips.len()]);
    }
    let session = lan.session(contestant, Job { delay_us, seconds, ..BUSY })?;
    Ok([session.client.left.len(), session.client.round_trips.len()])
}

/// t3 − t0 at 10,000 pings a second, and of a prober how late the pings left and how much memory there was.
fn round_trips(lan: &Lan, contestant: &Contestant, seconds: u32, figures: &mut Figures) -> Result<()> {
    let name = contestant.who.name();
    let [p50, p999] = match contestant.who {
        Who::Floor => {
            let [client, server] = sides(lan, true);
            let mut floor = floor::ping_pong(&client, &server, RTT_RATE, seconds)?.round_trips;
            floor.sort_unstable();
            [0.5, 0.999].map(|share| percentile(&floor, share) / 1e3)
        }
        Who::Sockperf => others::sockperf(lan, contestant, RTT_RATE, seconds).unwrap_or_else(not_measured),
        Who::Irtt => others::irtt(lan, contestant, RTT_RATE, seconds).unwrap_or_else(not_measured),
        Who::Xdp | Who::Kernel | Who::Tuned(..) | Who::Nanoprobe => {
            let Session { client, peak_kib, summaries, .. } = lan.session(contestant, Job { seconds, ..BUSY })?;
            let late = lateness(&client.left, i64::from(BUSY.delay_us) * 1000);
            figures.add(BUSY_P50, "us", name, percentile(&late, 0.5) / 1e3);
            figures.add(BUSY_P99, "us", name, percentile(&late, 0.99) / 1e3);
            let over = late.iter().filter(|&&late| late > LATE_NS).count();
            figures.add(BUSY_LATE, "‰", name, over as f64 * 1e3 / late.len() as f64);
            if contestant.who != Who::Nanoprobe {
                away(name, &summaries, figures);
            }
            figures.add(MEMORY, "MiB", name, peak_kib as f64 / 1024.0);
            [0.5, 0.999].map(|share| percentile(&client.round_trips, share) / 1e3)
        }
    };
    figures.add(RTT_P50, "us", name, p50);
    figures.add(RTT_P999, "us", name, p999);
    Ok(())
}

/// What xdprobe's own statistics tell of the core: how often it was away, and how late the pings left where it was not.
fn away(name: &'static str, [client, server]: &[Value; 2], figures: &mut Figures) {
    let number = |value: &Value| value.as_f64().unwrap_or(f64::NAN);
    figures.add(PLANNED_P99, "us", name, number(&client["lateness_ns"]["p99"]) / 1e3);
    let undisturbed = &client["lateness_undisturbed_ns"];
    figures.add(UNDISTURBED_P50, "us", name, number(&undisturbed["p50"]) / 1e3);
    figures.add(UNDISTURBED_P99, "us", name, number(&undisturbed["p99"]) / 1e3);
    let due = number(&client["core_away"]["pings_due"]) / number(&client["lateness_ns"]["count"]);
    figures.add(DUE_WHILE_AWAY, "‰", name, due * 1e3);
    for (measure, side) in [(AWAY_CLIENT, client), (AWAY_SERVER, server)] {
        let share = number(&side["core_away"]["total_ns"]) / number(&side["duration_ns"]);
        figures.add(measure, "‰", name, share * 1e3);
    }
}

/// Somebody else's program that does not run as expected spoils no round of the others.
fn not_measured(error: anyhow::Error) -> [f64; 2] {
    eprintln!("not measured: {error:#}");
    [f64::NAN; 2]
}

/// Pings that nobody answers, as fast as they go: what arrived a second, and of a prober whether its logs have it all.
fn one_way(lan: &Lan, contestant: &Contestant, seconds: u32, figures: &mut Figures) -> Result<()> {
    let name = contestant.who.name();
    let lost = |sent: u64, received: u64| sent.saturating_sub(received) as f64 * 1e6 / sent.max(1) as f64;
    if contestant.who == Who::Floor {
        let [client, server] = sides(lan, true);
        for (measure, batch) in [(ONE_WAY, BATCH), (ONE_WAY_SINGLE, 1)] {
            let floor = floor::one_way(&client, &server, batch, seconds)?;
            figures.add(measure, "/s", name, floor.received as f64 / floor.seconds);
            if batch == BATCH {
                figures.add(ONE_WAY_LOST, "", name, lost(floor.sent, floor.received));
            }
        }
        return Ok(());
    }
    let session = lan.session(contestant, Job { delay_us: 0, seconds, pong_every: 0, ..BUSY })?;
    let Session { client, server, is_whole, .. } = session;
    figures.add(ONE_WAY, "/s", name, server.arrived as f64 / server.seconds);
    figures.add(ONE_WAY_LOST, "", name, lost(client.left.len() as u64, server.arrived));
    // A server does not know which pings there were, but a program that lost rows says so at its end.
    let rows = if is_whole { client.missing } else { client.missing.max(1) };
    figures.add(ROWS_LOST, "", name, rows as f64);
    Ok(())
}

/// How late pings leave that are slept for, and what they cost.
fn sleeping(lan: &Lan, contestant: &Contestant, figures: &mut Figures) -> Result<()> {
    let name = contestant.who.name();
    let slow = Job { delay_us: 1_000_000 / SLEEP_RATE, seconds: SLEEP_SECONDS, timer: "sleep", ..BUSY };
    let late = lateness(&lan.session(contestant, slow)?.client.left, i64::from(slow.delay_us) * 1000);
    figures.add(SLEEP_P99, "us", name, percentile(&late, 0.99) / 1e3);

    for (measure, pinned) in CPU_TIMES {
        // Nobody can tell nanoprobe where to run.
        if pinned && contestant.who.is_unpinned() {
            continue;
        }
        let job = |seconds| -> Result<(usize, Duration)> {
            let job = Job { delay_us: 1_000_000 / CPU_RATE, seconds, pinned, ..slow };
            lan.session(contestant, job).map(|session| (session.client.left.len(), session.cpu))
        };
        figures.add(measure, "us", name, cpu_a_ping(job(1)?, job(1 + CPU_SECONDS)?));
    }
    Ok(())
}

/// In us, of two sessions' pings and CPU times: what begins and ends a session is in both, and cancels out.
fn cpu_a_ping((few, short): (usize, Duration), (many, long): (usize, Duration)) -> f64 {
    (long.as_secs_f64() - short.as_secs_f64()) * 1e6 / many.saturating_sub(few) as f64
}

/// The same of rings and nothing else: what timers and wake-ups take that nobody can do without.
fn floor_asleep(lan: &Lan, figures: &mut Figures) -> Result<()> {
    let name = Who::Floor.name();
    // What is lost spoils the round's figure, and no other.
    let job = |rate, seconds, pinned| -> Result<Option<floor::Asleep>> {
        let [client, server] = sides(lan, pinned);
        let asleep = floor::asleep(&client, &server, rate, seconds)?;
        let (pings, pongs) = (asleep.lateness.len(), asleep.pongs);
        if pings != pongs {
            eprintln!("not measured: the floor, asleep, had {pongs} pongs for {pings} pings");
        }
        Ok((pings > 0 && pings == pongs).then_some(asleep))
    };
    let late = job(SLEEP_RATE, SLEEP_SECONDS, true)?.map_or(f64::NAN, |mut asleep| {
        asleep.lateness.sort_unstable();
        percentile(&asleep.lateness, 0.99) / 1e3
    });
    figures.add(SLEEP_P99, "us", name, late);
    for (measure, pinned) in CPU_TIMES {
        let cpu = match [job(CPU_RATE, 1, pinned)?, job(CPU_RATE, 1 + CPU_SECONDS, pinned)?] {
            [Some(short), Some(long)] => cpu_a_ping((short.lateness.len(), short.cpu), (long.lateness.len(), long.cpu)),
            _ => f64::NAN,
        };
        figures.add(measure, "us", name, cpu);
    }
    Ok(())
}

/// From before a client is started (with what `ip netns exec` takes) until its SYN has reached the other end, in ms.
fn first_syn(lan: &Lan, contestant: &Contestant) -> Result<f64> {
    let all = i32::from((libc::ETH_P_ALL as u16).to_be());
    let mut wire = lan
        .server
        .run(|| Socket::new(Domain::PACKET, Type::from(libc::SOCK_RAW), Some(Protocol::from(all))))
        .context("a packet socket takes root")?;
    wire.set_read_timeout(Some(Duration::from_millis(100)))?;
    let began = Instant::now();
    let mut command = contestant.command(&lan.client, "--client");
    command.args(["--interface", CLIENT.interface, "--count", "1"]).arg(SERVER.address.to_string());
    let mut client = lan::start(&mut command, Stdio::null())?;
    let limit = began + Duration::from_secs(10);
    let mut frame = [0; 2048];
    let arrived = loop {
        match wire.read(&mut frame) {
            Ok(len) if is_syn(&frame[..len]) => break Ok(began.elapsed()),
            Ok(_) => {}
            Err(error) if matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut) => {}
            Err(error) => break Err(error.into()),
        }
        if Instant::now() > limit {
            break Err(anyhow::anyhow!("{} sent no SYN within 10 s", contestant.who.name()));
        }
    };
    lan::end(&mut client);
    lan.check()?;
    Ok(arrived?.as_secs_f64() * 1e3)
}

/// IPv4, UDP, and the server's port: with nobody to answer, a SYN is all that goes there.
fn is_syn(frame: &[u8]) -> bool {
    let Some((ethernet, packet)) = frame.split_at_checked(14) else { return false };
    let header = packet.first().map_or(0, |first| usize::from(first & 15) * 4);
    ethernet[12..] == [0x08, 0x00]
        && packet.get(9) == Some(&17)
        && packet.get(header + 2..header + 4) == Some(&PORT.to_be_bytes()[..])
}
