//! A session without an end, stopped by a signal, and what must hold of it whatever the machine did meanwhile.
//!
//! Both sides run in this process, as only from inside it can be seen where each frame is. The logs are FIFOs that are read
//! and checked while they are written, row by row, so that the disk is no limit to how long it takes.
//!
//! The kernel's stamps are in the logs: those of what is sent come one by one from the error queue of the packet socket beside
//! AF_XDP, so one can be missing, and then there is no row.

use crate::hot::{self, Veth, client, server, xdp_paths_with};
use anyhow::{Context, Result, ensure};
use nix::sys::signal::{Signal, kill};
use nix::sys::stat::Mode;
use nix::unistd::Pid;
use std::fs::File;
use std::io::{BufRead, BufReader};
use std::path::Path as FilePath;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::time::{Duration, Instant};
use xdprobe::clock::{ClockSampler, Source};
use xdprobe::path::xdp::{Frames, XdpPath};
use xdprobe::path::{Counters, Path, StampWishes};
use xdprobe::probe::{Attendant, Interrupt, Scene};
use xdprobe::record::{RecorderConfig, Role, Sources, StampCounts, Voice, Written};
use xdprobe::session::{End, Event, Machine, Settings, Totals};

/// Memory is looked at this often.
const LOOK: Duration = Duration::from_millis(500);
/// What memory may grow by, in KiB, once a tenth of the time is over.
const GROWTH_KIB: u64 = 1024;
/// Frames that are on their way come back within this time.
const SETTLES: Duration = Duration::from_secs(5);
/// The kernel's stamps, in both directions.
const SOURCES: Sources = Sources { sent: Source::Software, received: Source::Software };

/// What became of a session.
pub struct Soak {
    pub client: Side,
    pub server: Side,
    pub memory: Memory,
}

/// One side, when all is over.
pub struct Side {
    pub end: End,
    pub totals: Totals,
    pub stamps: StampCounts,
    pub counters: Counters,
    pub written: Written,
    pub rows: Rows,
    pub frames: Vec<Frames>,
}

/// What the rows of one side's log came to.
#[derive(Debug, Default)]
pub struct Rows {
    pub sent: u64,
    pub received: u64,
    /// Rows whose sequence does not follow: of pings sent the next one, of all others a later one.
    pub out_of_order: u64,
    /// Rows whose stamp is none.
    pub unstamped: u64,
}

/// The process's memory in KiB.
#[derive(Debug, Default)]
pub struct Memory {
    /// After a tenth of the time.
    pub early: u64,
    /// The most that it was after that.
    pub most: u64,
}

/// What a session's own counters say at its end.
struct Ending<'a> {
    /// A session stands.
    began: &'a AtomicBool,
    end: Option<(End, Totals, StampCounts)>,
}

impl<M: Machine> Attendant<M, XdpPath> for Ending<'_> {
    fn connected(&mut self, scene: Scene<'_, M, XdpPath>, _: Event) -> Result<()> {
        scene.recorder.begin_session();
        self.began.store(true, Relaxed);
        Ok(())
    }

    fn finished(&mut self, scene: Scene<'_, M, XdpPath>, end: End) -> Result<()> {
        self.end = Some((end, *scene.machine.totals(), *scene.stamps));
        Ok(())
    }

    fn broken(&mut self, _: Scene<'_, M, XdpPath>) {}
}

/// Pings at `rate` a second for `time`, until SIGINT comes: as Ctrl-C it reaches the client, whose FIN ends the server.
pub fn run(time: Duration, rate: u32) -> Result<Soak> {
    let settings = Settings { count_s: 0, delay_us: 1_000_000 / rate, ..Settings::default() };
    // Before there is anything that a signal would leave behind.
    let (until_stopped, (until_fin, stopper)) = (Interrupt::catch()?, Interrupt::by_hand()?);
    let veth = Veth::new();
    let [mut client_path, mut server_path] = xdp_paths_with(&veth, |config| {
        (config.stamps, config.companion) = (StampWishes { software: true, hardware: false }, true);
    });
    let clocks = ClockSampler::start(None)?;
    let [began, over] = [(); 2].map(|()| AtomicBool::new(false));
    let (sides, memory) = std::thread::scope(|scope| {
        let [of_server, of_client] = [(); 2].map(|()| Ending { began: &began, end: None });
        let watching = scope.spawn(|| watch([&began, &over], time));
        let serving = || side(server(), &mut server_path, Role::Server, &clocks, until_fin, of_server);
        let serving = scope.spawn(|| veth.right.run(serving));
        let machine = client(&veth.right, settings);
        let pinging = || side(machine, &mut client_path, Role::Client, &clocks, until_stopped, of_client);
        let pinging = scope.spawn(|| veth.left.run(pinging)).join();
        if !began.load(Relaxed) {
            // It would wait for ever for a client that went before it came.
            stopper.stop();
        }
        let serving = serving.join();
        over.store(true, Relaxed);
        watching.thread().unpark();
        let memory = watching.join().expect("looking at memory does not panic");
        ([pinging, serving].map(|side| side.expect("no side panics")), memory)
    });
    let [client, server] = sides;
    Ok(Soak { client: client?, server: server?, memory: memory? })
}

/// Runs one side to its end, its log through a FIFO.
fn side<M: Machine>(
    machine: M,
    path: &mut XdpPath,
    role: Role,
    clocks: &ClockSampler,
    interrupt: Interrupt,
    mut ending: Ending<'_>,
) -> Result<Side> {
    let folder = tempfile::tempdir()?;
    let log = folder.path().join("log.csv");
    nix::unistd::mkfifo(&log, Mode::S_IRUSR | Mode::S_IWUSR)?;
    let (written, rows) = std::thread::scope(|scope| {
        let reader = scope.spawn(|| read(&log));
        let config = RecorderConfig::application(Some(&log), Voice { role, json: false });
        let config = RecorderConfig { sources: SOURCES, ..config };
        let written = hot::run_with(machine, path, (config, clocks.board()), interrupt, &mut ending);
        (written.log, reader.join().expect("the reader does not panic"))
    });
    let (end, totals, stamps) = ending.end.context("the session did not come to its end")?;
    let written = written.context("there is no log")?;
    Ok(Side { end, totals, stamps, counters: path.counters(), written, rows: rows?, frames: settled(path)? })
}

/// Reads a log to its end.
fn read(log: &FilePath) -> Result<Rows> {
    let mut reader = BufReader::with_capacity(1 << 16, File::open(log)?);
    let (mut rows, mut line) = (Rows::default(), String::new());
    let (mut last_sent, mut last_received) = (0, 0);
    while reader.read_line(&mut line)? > 0 {
        let mut fields = line.split(',');
        if let (Some(Ok(sequence)), Some(point), Some(stamp)) =
            (fields.next().map(str::parse::<u64>), fields.next(), fields.next())
        {
            let is_stamp = stamp.chars().any(|digit| ('1'..='9').contains(&digit));
            rows.unstamped += u64::from(!is_stamp);
            let (last, count) = match point.get(..2) {
                Some("t0" | "t2") => (&mut last_sent, &mut rows.sent),
                _ => (&mut last_received, &mut rows.received),
            };
            // A ping that was lost has no t1, no pong, and no t3.
            let follows = match point.get(..2) {
                Some("t0") => sequence == *last + 1,
                Some("t1" | "t2" | "t3") => sequence > *last,
                _ => false,
            };
            rows.out_of_order += u64::from(!follows);
            (*last, *count) = (sequence, *count + 1);
        }
        line.clear();
    }
    Ok(rows)
}

/// Where the frames are, once each is where it belongs: free, or the kernel's to receive into.
fn settled(path: &mut XdpPath) -> Result<Vec<Frames>> {
    let began = Instant::now();
    loop {
        let frames = path.frames();
        let whole = frames.iter().all(|frames| {
            frames.free + frames.in_flight == frames.sending
                && frames.done + frames.filled + frames.received == frames.receiving
        });
        if whole {
            return Ok(frames);
        }
        ensure!(began.elapsed() < SETTLES, "frames are nowhere: {frames:?}");
    }
}

/// Looks at memory, and ends the session when its time is over.
fn watch([began, over]: [&AtomicBool; 2], time: Duration) -> Result<Memory> {
    while !began.load(Relaxed) && !over.load(Relaxed) {
        std::thread::park_timeout(Duration::from_millis(1));
    }
    let begin = Instant::now();
    let mut memory = Memory::default();
    let mut is_stopped = false;
    while !over.load(Relaxed) {
        let elapsed = begin.elapsed();
        let resident = resident()?;
        if elapsed <= time / 10 || memory.early == 0 {
            memory = Memory { early: resident, most: resident };
        }
        memory.most = memory.most.max(resident);
        if elapsed >= time && !is_stopped {
            kill(Pid::this(), Signal::SIGINT)?;
            is_stopped = true;
        }
        let next = if is_stopped { LOOK } else { LOOK.min(time.saturating_sub(elapsed)) };
        std::thread::park_timeout(next);
    }
    Ok(memory)
}

/// `VmRSS` of `proc_pid_status(5)`, in KiB.
fn resident() -> Result<u64> {
    let status = std::fs::read_to_string("/proc/self/status")?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).context("no VmRSS")?;
    Ok(line.trim().trim_end_matches(" kB").parse()?)
}

impl Soak {
    /// Fails where something was lost that must not be.
    pub fn check(&self) -> Result<()> {
        for (name, side) in [("client", &self.client), ("server", &self.server)] {
            side.check().with_context(|| format!("the {name}'s side"))?;
        }
        let (pinging, serving) = (&self.client.totals, &self.server.totals);
        ensure!(pinging.pings_sent > 0 && serving.pongs_sent > 0, "nothing was sent: {pinging:?} {serving:?}");
        ensure!(serving.pings_received <= pinging.pings_sent, "more pings came than were sent");
        ensure!(pinging.pongs_received <= serving.pongs_sent, "more pongs came than were sent");
        ensure!(self.client.end == End::Stopped, "the client ended otherwise than stopped: {:?}", self.client.end);
        ensure!(self.server.end == End::Complete, "the server's session did not end with it: {:?}", self.server.end);
        let Memory { early, most } = self.memory;
        ensure!(most <= early + GROWTH_KIB, "memory grew from {early} KiB to {most} KiB");
        Ok(())
    }
}

impl Side {
    fn check(&self) -> Result<()> {
        let Self { totals, stamps, counters, written, rows, .. } = self;
        let sent = totals.pings_sent + totals.pongs_sent;
        let received = totals.pings_received + totals.pongs_received;
        // What was sent by the packet socket, and no other message, has such stamps.
        let whole = StampCounts { tx_requested: sent, tx: sent, rx: received, ..StampCounts::default() };
        ensure!(*stamps == whole, "stamps are missing, or too many: {stamps:?} of {sent} sent and {received} received");
        ensure!(counters.strange_stamps == 0, "{} transmit stamps are nobody's", counters.strange_stamps);
        ensure!(written.is_whole(), "the log is not whole: {written:?}");
        ensure!(written.rows_written == sent + received, "{written:?} are not the rows of {totals:?}");
        ensure!((rows.sent, rows.received) == (sent, received), "{rows:?} are not all rows of {totals:?}");
        ensure!(rows.out_of_order == 0, "{} rows do not follow the one before", rows.out_of_order);
        ensure!(rows.unstamped == 0, "{} rows have no time", rows.unstamped);
        Ok(())
    }
}
