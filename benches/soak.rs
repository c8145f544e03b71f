//! A long session in which nothing may be lost but packets: `make soak`, as root.
//!
//! Both sides run in this process, as only from inside it can be seen where each frame is. The logs are FIFOs that are read
//! and checked while they are written, row by row, so that the disk is no limit to how long it takes. Fails where memory grows,
//! a frame is nowhere, a sequence is wrong, or a row or a stamp is missing. Lost packets are told, and are no failure: on a
//! shared machine a busy thread may be off its CPU for longer than the rings last.
//!
//! `SECONDS` (default 600) is how long, `RATE` (default 50000) the pings a second.

#[path = "../tests/support/hot.rs"]
mod hot;

use anyhow::{Context, Result, ensure};
use hot::{Veth, client, server, xdp_paths};
use nix::sys::stat::Mode;
use std::fs::File;
use std::io::{BufRead, BufReader};
use std::path::Path as FilePath;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::time::{Duration, Instant};
use xdprobe::path::xdp::XdpPath;
use xdprobe::probe::{Attendant, Scene};
use xdprobe::record::{Role, StampCounts, Written};
use xdprobe::session::{End, Event, Machine, Settings, Totals};

/// Memory is looked at this often.
const LOOK: Duration = Duration::from_millis(500);
/// What memory may grow by, in KiB, once a tenth of the time is over.
const GROWTH_KIB: u64 = 1024;
/// Frames that are on their way come back within this time.
const SETTLES: Duration = Duration::from_secs(5);

/// What a session's own counters say at its end.
#[derive(Default)]
struct Ending(Option<(Totals, StampCounts)>);

impl<M: Machine> Attendant<M, XdpPath> for Ending {
    fn connected(&mut self, scene: Scene<'_, M, XdpPath>, _: Event) -> Result<()> {
        scene.recorder.begin_session();
        Ok(())
    }

    fn finished(&mut self, scene: Scene<'_, M, XdpPath>, _: End) -> Result<()> {
        self.0 = Some((*scene.machine.totals(), *scene.stamps));
        Ok(())
    }

    fn broken(&mut self, _: Scene<'_, M, XdpPath>) {}
}

/// One side, when all is over.
struct Side {
    totals: Totals,
    stamps: StampCounts,
    written: Written,
    rows: Rows,
    frames: String,
}

/// What the rows of one side's log came to.
#[derive(Debug, Default)]
struct Rows {
    sent: u64,
    received: u64,
    /// Rows whose sequence does not follow: of sent packets the next one, of received ones a later one.
    out_of_order: u64,
}

fn main() -> Result<()> {
    let number = |name, default| match std::env::var(name) {
        Ok(value) => value.parse().with_context(|| format!("{name}={value} is not a number")),
        Err(_) => Ok(default),
    };
    let (seconds, rate) = (number("SECONDS", 600)?, number("RATE", 50_000)?);
    ensure!((1..=1_000_000).contains(&rate) && seconds > 0, "SECONDS and RATE (to 1000000) are not 0");
    let settings = Settings { count_s: seconds, delay_us: 1_000_000 / rate, ..Settings::default() };
    println!("{seconds} s at {rate} pings/s over AF_XDP on veth, logs on both sides");

    let veth = Veth::new();
    let [mut client_path, mut server_path] = xdp_paths(&veth);
    let over = AtomicBool::new(false);
    let (sides, memory) = std::thread::scope(|scope| {
        let memory = scope.spawn(|| memory(&over, Duration::from_secs(seconds.into())));
        let serving = scope.spawn(|| veth.right.run(|| side(server(), &mut server_path, Role::Server)));
        let machine = client(&veth.right, settings);
        let pinging = veth.left.run(|| side(machine, &mut client_path, Role::Client));
        let serving = serving.join().expect("the server does not panic");
        over.store(true, Relaxed);
        ([pinging, serving], memory.join().expect("looking at memory does not panic"))
    });
    let [pinging, serving] = sides;
    let (pinging, serving) = (pinging?, serving?);
    report(&pinging, &serving, u64::from(seconds) * u64::from(rate));
    check(&pinging, &serving)?;
    let (early, most) = memory?;
    println!("memory: {early} KiB after a tenth of the time, {most} KiB at most after that");
    ensure!(most <= early + GROWTH_KIB, "memory grew from {early} KiB to {most} KiB");
    println!("nothing was lost that must not be");
    Ok(())
}

/// Runs one side to its end, its log through a FIFO.
fn side<M: Machine>(machine: M, path: &mut XdpPath, role: Role) -> Result<Side> {
    let folder = tempfile::tempdir()?;
    let log = folder.path().join("log.csv");
    nix::unistd::mkfifo(&log, Mode::S_IRUSR | Mode::S_IWUSR)?;
    let mut ending = Ending::default();
    let (written, rows) = std::thread::scope(|scope| {
        let reader = scope.spawn(|| read(&log));
        let written = hot::run(machine, path, role, &log, &mut ending);
        (written, reader.join().expect("the reader does not panic"))
    });
    let (totals, stamps) = ending.0.context("the session did not come to its end")?;
    Ok(Side { totals, stamps, written, rows: rows?, frames: settled(path)? })
}

/// Reads a log to its end.
fn read(log: &FilePath) -> Result<Rows> {
    let mut reader = BufReader::with_capacity(1 << 16, File::open(log)?);
    let (mut rows, mut line) = (Rows::default(), String::new());
    let (mut last_sent, mut last_received) = (0, 0);
    while reader.read_line(&mut line)? > 0 {
        if let Some((sequence, rest)) = line.split_once(',')
            && let Ok(sequence) = sequence.parse::<u64>()
        {
            match rest.get(..3) {
                Some("t0,") => {
                    rows.out_of_order += u64::from(sequence != last_sent + 1);
                    (last_sent, rows.sent) = (sequence, rows.sent + 1);
                }
                // A ping that was lost has no pong.
                Some("t2,") => {
                    rows.out_of_order += u64::from(sequence <= last_sent);
                    (last_sent, rows.sent) = (sequence, rows.sent + 1);
                }
                Some("t1," | "t3,") => {
                    rows.out_of_order += u64::from(sequence <= last_received);
                    (last_received, rows.received) = (sequence, rows.received + 1);
                }
                _ => rows.out_of_order += 1,
            }
        }
        line.clear();
    }
    Ok(rows)
}

/// Where the frames are, once each is where it belongs: free, or the kernel's to receive into.
fn settled(path: &mut XdpPath) -> Result<String> {
    let began = Instant::now();
    loop {
        let frames = path.frames();
        let whole = frames.iter().all(|frames| {
            frames.free + frames.in_flight == frames.sending
                && frames.done + frames.filled + frames.received == frames.receiving
        });
        if whole {
            return Ok(format!("{frames:?}"));
        }
        ensure!(began.elapsed() < SETTLES, "frames are nowhere: {frames:?}");
    }
}

/// The process's memory in KiB after a tenth of the time, and the most that it was after that.
fn memory(over: &AtomicBool, whole: Duration) -> Result<(u64, u64)> {
    let began = Instant::now();
    let (mut early, mut most) = (0, 0);
    while !over.load(Relaxed) {
        let status = std::fs::read_to_string("/proc/self/status")?;
        let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).context("no VmRSS")?;
        let resident = line.trim().trim_end_matches(" kB").parse()?;
        if began.elapsed() < whole / 10 || early == 0 {
            (early, most) = (resident, resident);
        }
        most = most.max(resident);
        std::thread::sleep(LOOK);
    }
    Ok((early, most))
}

fn report(client: &Side, server: &Side, due: u64) {
    let Totals { pings_sent, pongs_received, skipped_slots, late_sends, worst_lateness_nanos, .. } = client.totals;
    let lost = pings_sent - pongs_received.min(pings_sent);
    println!("{pings_sent} of {due} pings sent, {pongs_received} pongs received, {lost} lost");
    println!("{skipped_slots} slots skipped, {late_sends} pings late, the worst by {worst_lateness_nanos} ns");
    for (name, side) in [("client", client), ("server", server)] {
        println!("{name}: {:?}, {} rows in the log, frames: {}", side.rows, side.written.rows_written, side.frames);
    }
}

fn check(client: &Side, server: &Side) -> Result<()> {
    for (name, side) in [("client", client), ("server", server)] {
        let Side { totals, stamps, written, rows, .. } = side;
        ensure!(written.is_whole(), "{name}: the log is not whole: {written:?}");
        ensure!(rows.out_of_order == 0, "{name}: {} rows do not follow the one before", rows.out_of_order);
        ensure!(stamps.tx_missed + stamps.rx_missed == 0, "{name}: stamps are missing: {stamps:?}");
        let expected = (totals.pings_sent + totals.pongs_sent, totals.pings_received + totals.pongs_received);
        ensure!((rows.sent, rows.received) == expected, "{name}: {rows:?} are not all rows of {totals:?}");
    }
    ensure!(client.totals.pings_sent > 0, "no ping was sent");
    ensure!(server.totals.pings_received <= client.totals.pings_sent, "more pings came than were sent");
    Ok(())
}
