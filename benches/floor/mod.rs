//! What AF_XDP itself takes: two busy threads with rings, one frame that goes back and forth, and nothing else.
//!
//! No headers but Ethernet's, no session, no log, no stamps but the two that a round trip is: the contestant that no prober
//! over AF_XDP can be faster than.
#![allow(unsafe_code, reason = "rings shared with the kernel, and an XDP program of six instructions")]

mod redirect;
mod rings;

use crate::lan::cpu_time;
use crate::namespace::{End, Namespace};
use anyhow::{Context, Result};
use nix::sched::{CpuSet, sched_setaffinity};
use nix::sys::resource::UsageWho;
use nix::unistd::Pid;
use rings::Rings;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::Relaxed};
use std::time::Duration;
use xdprobe::clock::{Monotonic, Realtime, Time, monotonic_now, realtime_now};

/// Bytes of a frame: as many as a ping of 44 bytes has, behind its Ethernet header.
const FRAME: usize = 58;
/// Where a frame's number is.
const NUMBER: std::ops::Range<usize> = 14..22;
/// How long late answers are waited for.
const AFTER: Duration = Duration::from_millis(50);

/// One side: where it is, and the CPU of its thread; `None` is where the kernel puts it.
pub struct Side<'a> {
    pub namespace: &'a Namespace,
    pub end: End<'a>,
    pub cpu: Option<usize>,
}

/// What pings and pongs came to.
pub struct PingPong {
    /// t3 − t0 of every pong, in ns.
    pub round_trips: Vec<i64>,
    pub pings: usize,
}

/// What frames in one direction came to.
pub struct OneWay {
    pub sent: u64,
    pub received: u64,
    pub seconds: f64,
}

/// Pings at `rate` a second, busy on both sides.
pub fn ping_pong(client: &Side, server: &Side, rate: u32, seconds: u32) -> Result<PingPong> {
    both(client, server, |rings| rings.echo().map(drop), |rings, frame| ping(rings, frame, rate, seconds))
}

/// What pings came to that are slept for.
pub struct Asleep {
    /// Departure − plan of every ping, in ns.
    pub lateness: Vec<i64>,
    pub pongs: usize,
    /// Of both sides' threads, with what opens and closes their rings.
    pub cpu: Duration,
}

/// Pings at `rate` a second, with both sides asleep where there is nothing to do.
pub fn asleep(client: &Side, server: &Side, rate: u32, seconds: u32) -> Result<Asleep> {
    let before = cpu_time(UsageWho::RUSAGE_SELF)?;
    let serve = |rings: &mut Rings| {
        rings.wait(AFTER)?;
        rings.echo().map(drop)
    };
    let (lateness, pongs) = both(client, server, serve, |rings, frame| ping_asleep(rings, frame, rate, seconds))?;
    Ok(Asleep { lateness, pongs, cpu: cpu_time(UsageWho::RUSAGE_SELF)?.saturating_sub(before) })
}

/// Frames in one direction, as fast as they go, `batch` of them for each wake-up of the kernel.
pub fn one_way(client: &Side, server: &Side, batch: u32, seconds: u32) -> Result<OneWay> {
    let received = AtomicU64::new(0);
    let count = |rings: &mut Rings| {
        let came = rings.receive(|_| ())?;
        if came > 0 {
            received.fetch_add(came as u64, Relaxed);
        }
        Ok(())
    };
    let (sent, seconds) = both(client, server, count, |rings, frame| flood(rings, frame, batch, seconds))?;
    Ok(OneWay { sent, received: received.load(Relaxed), seconds })
}

/// Runs `serve` again and again on the server's thread until `work` is done on the client's.
fn both<T: Send>(
    client: &Side,
    server: &Side,
    mut serve: impl FnMut(&mut Rings) -> Result<()> + Send,
    work: impl FnOnce(&mut Rings, &mut [u8; FRAME]) -> Result<T> + Send,
) -> Result<T> {
    let (open, over) = (AtomicBool::new(false), AtomicBool::new(false));
    let mut frame = [0; FRAME];
    frame[..6].copy_from_slice(&mac(server)?);
    frame[6..12].copy_from_slice(&mac(client)?);
    // IEEE 802: an EtherType for local experiments.
    frame[12..14].copy_from_slice(&[0x88, 0xb5]);
    std::thread::scope(|scope| {
        let answering = scope.spawn(|| {
            server.namespace.run(|| {
                let opened = pinned(server.cpu).and_then(|()| Rings::open(server.end.interface));
                open.store(true, Relaxed);
                let mut rings = opened?;
                while !over.load(Relaxed) {
                    serve(&mut rings)?;
                }
                Ok(())
            })
        });
        while !open.load(Relaxed) {
            std::thread::sleep(Duration::from_millis(1));
        }
        let done: Result<T> = client.namespace.run(|| {
            pinned(client.cpu)?;
            let mut rings = Rings::open(client.end.interface)?;
            let done = work(&mut rings, &mut frame)?;
            let end = monotonic_now().plus(AFTER);
            while monotonic_now() < end {
                rings.reap();
            }
            Ok(done)
        });
        over.store(true, Relaxed);
        let answered: Result<()> = answering.join().expect("the server does not panic");
        answered.context("the floor's server").and(done.context("the floor's client"))
    })
}

fn ping(rings: &mut Rings, frame: &mut [u8; FRAME], rate: u32, seconds: u32) -> Result<PingPong> {
    let slots = slots(rate, seconds) as usize;
    let mut pinger = Awake { frame, sent: vec![None; slots], round_trips: Vec::with_capacity(slots), pings: 0 };
    at_each_slot(rings, rate, seconds, &mut pinger)?;
    Ok(PingPong { round_trips: pinger.round_trips, pings: pinger.pings })
}

fn ping_asleep(rings: &mut Rings, frame: &mut [u8; FRAME], rate: u32, seconds: u32) -> Result<(Vec<i64>, usize)> {
    // The kernel may put a timer off by 50 µs, so as to have more of them at once (prctl(2)).
    nix::sys::prctl::set_timerslack(1)?;
    let mut pinger = Sleeper { frame, lateness: Vec::with_capacity(slots(rate, seconds) as usize), pongs: 0 };
    at_each_slot(rings, rate, seconds, &mut pinger)?;
    Ok((pinger.lateness, pinger.pongs))
}

fn slots(rate: u32, seconds: u32) -> u64 {
    u64::from(rate) * u64::from(seconds)
}

/// Who pings at planned moments.
trait Pinger {
    /// Takes what has come.
    fn look(&mut self, rings: &mut Rings) -> Result<()>;

    /// Nothing is due for so long.
    fn wait(&mut self, rings: &mut Rings, left: Duration) -> Result<()>;

    /// Puts the ping into the ring that was due then.
    fn ping(&mut self, rings: &mut Rings, slot: u64, due: Time<Monotonic>);
}

/// A ping at each of the plan's moments, and the last answers.
#[inline]
fn at_each_slot(rings: &mut Rings, rate: u32, seconds: u32, pinger: &mut impl Pinger) -> Result<()> {
    let interval = 1_000_000_000 / u64::from(rate);
    let slots = slots(rate, seconds);
    let start = monotonic_now();
    for slot in 0..=slots {
        let due = start.plus_nanos(slot * interval).plus(if slot < slots { Duration::ZERO } else { AFTER });
        loop {
            pinger.look(rings)?;
            let now = monotonic_now();
            if now >= due {
                break;
            }
            pinger.wait(rings, due.duration_since(now))?;
        }
        // As the programs do: a slot that is over is skipped.
        if slot < slots && monotonic_now() < due.plus_nanos(interval) {
            pinger.ping(rings, slot, due);
            rings.wake()?;
            rings.reap();
        }
    }
    Ok(())
}

/// One that never sleeps, and tells round trips.
struct Awake<'a> {
    frame: &'a mut [u8; FRAME],
    sent: Vec<Option<Time<Realtime>>>,
    round_trips: Vec<i64>,
    pings: usize,
}

impl Pinger for Awake<'_> {
    #[inline]
    fn look(&mut self, rings: &mut Rings) -> Result<()> {
        let Self { sent, round_trips, .. } = self;
        rings.receive(|pong| {
            let t3 = realtime_now();
            let number = pong.get(NUMBER).and_then(|bytes| bytes.try_into().ok()).map(u64::from_le_bytes);
            let t0 = number.and_then(|number| sent.get(number as usize).copied().flatten());
            round_trips.extend(t0.map(|t0| t3.nanos_since(t0)));
        })?;
        Ok(())
    }

    #[inline]
    fn wait(&mut self, _rings: &mut Rings, _left: Duration) -> Result<()> {
        Ok(())
    }

    #[inline]
    fn ping(&mut self, rings: &mut Rings, slot: u64, _due: Time<Monotonic>) {
        self.frame[NUMBER].copy_from_slice(&slot.to_le_bytes());
        self.sent[slot as usize] = Some(realtime_now());
        self.pings += usize::from(rings.send(self.frame));
    }
}

/// One that sleeps where there is nothing to do, and tells how late its pings leave.
struct Sleeper<'a> {
    frame: &'a [u8; FRAME],
    lateness: Vec<i64>,
    pongs: usize,
}

impl Pinger for Sleeper<'_> {
    #[inline]
    fn look(&mut self, rings: &mut Rings) -> Result<()> {
        self.pongs += rings.receive(|_| ())?;
        Ok(())
    }

    #[inline]
    fn wait(&mut self, rings: &mut Rings, left: Duration) -> Result<()> {
        rings.wait(left)
    }

    #[inline]
    fn ping(&mut self, rings: &mut Rings, _slot: u64, due: Time<Monotonic>) {
        self.lateness.push(monotonic_now().duration_since(due).as_nanos() as i64);
        rings.send(self.frame);
    }
}

fn flood(rings: &mut Rings, frame: &mut [u8; FRAME], batch: u32, seconds: u32) -> Result<(u64, f64)> {
    let start = monotonic_now();
    let end = start.plus(Duration::from_secs(seconds.into()));
    let mut sent: u64 = 0;
    while monotonic_now() < end {
        for _ in 0..batch {
            frame[NUMBER].copy_from_slice(&sent.to_le_bytes());
            sent += u64::from(rings.send(frame));
        }
        rings.wake()?;
        rings.reap();
    }
    Ok((sent, monotonic_now().duration_since(start).as_secs_f64()))
}

fn mac(side: &Side) -> Result<[u8; 6]> {
    let interface = side.namespace.run(|| xdprobe::net::interface(side.end.interface))?;
    Ok(interface.mac.0)
}

fn pinned(cpu: Option<usize>) -> Result<()> {
    let Some(cpu) = cpu else { return Ok(()) };
    let mut cpus = CpuSet::new();
    cpus.set(cpu).and_then(|()| sched_setaffinity(Pid::from_raw(0), &cpus)).with_context(|| format!("CPU {cpu}"))
}
