//! A server of many clients at once: its set-up, and its hot loop.
//!
//! What one session needs and many do not have is not here: stamps that come later, round trips of this side, what a path
//! gets ready for a session. So the loop is the one of `hot` without what waits for those; the rules for it are the same.

use super::hot::audit;
use super::interrupt::Interrupt;
use super::opened::{self, Opened, Way};
use super::rests::Rests;
use super::setup::OpenPath;
use super::tally::Tally;
use super::{display, facts, say_first, stamp_sources, warn};
use crate::cli::{Many, PathKind, Plan, schedule};
use crate::clock::{Monotonic, Realtime, Time, monotonic_now};
use crate::live::Port;
use crate::path::{self, BATCH, Batch, Path, Received};
use crate::record::{Facts, Ledger, LedgerConfig, Role, Sighting, StampCounts, check_folder, text};
use crate::session::{
    Action, Body, End, Event, Hall, HallConfig, Machine, Offers, Outgoing, Probe, Sampling, ServerConfig, TimerKind,
};
use crate::tune::memory::LockedMemory;
use crate::tune::realtime::{Budget, Realtime as RealtimePriority};
use crate::wire::in_band::FarSource;
use crate::wire::{InBand, Point, ServePath};
use anyhow::{Context, Result};
use std::io;
use std::sync::Arc;

/// How many deadlines are met before the loop looks at what came in.
const BURST: usize = 32;

/// Serves many until the user ends it; whether all that was measured was also written.
///
/// # Errors
/// As [`super::run`].
pub(super) fn run(plan: &Plan, many: &Many) -> Result<bool> {
    let schedule = plan.schedule.as_deref().map(schedule::load).transpose()?;
    let probes: &[Probe] = schedule.as_deref().unwrap_or(&[]);
    if let Some(folder) = &many.log_dir {
        check_folder(folder)?;
    }
    let places = Hall::room_for(many.clients);
    let config = LedgerConfig { folder: many.log_dir.clone(), json: plan.json, places };
    let port = plan.metrics.map(Port::bind).transpose()?;
    let (mut opened, (mut ledger, display)) = opened::open(&[plan], probes, |beside| {
        let display = display(plan, Role::Server, port, beside.stamps[0])?;
        Ok((Ledger::start(config)?, display))
    })?;
    let (display, feed) = display.unzip();
    let mut tally = Tally::new(places, feed);
    let Opened { ways, interface, interrupt, deferral, .. } = &mut opened;
    let Way { stamps, path } = &mut ways[0];
    let sources = stamp_sources(plan, stamps, None, plan.path);
    let facts = facts(plan, interface, deferral.as_ref(), path.description(), sources, probes.len());
    // Nothing here travels behind PTP headers.
    ledger.describe(Facts { stamp_every: None, ..facts });
    let mtu = u16::try_from(interface.mtu).unwrap_or(u16::MAX);
    let mut hall = Hall::new(hall_config(plan, many, schedule.clone(), mtu));
    say_first(plan, &text::server_start(plan.port));
    let locked = plan.tuning.lock_memory.then(LockedMemory::lock).transpose()?;
    if let OpenPath::Xdp(path, _) = path {
        path.make_room(places);
    }
    let realtime = plan.tuning.realtime.map(RealtimePriority::raise).transpose()?;
    let mut rests = realtime.as_ref().map(|_| Rests::within(&Budget::of_this_machine(), monotonic_now()));
    let (ledger_, tally_, rests_) = (&mut ledger, &mut tally, &mut rests);
    let served = match path {
        OpenPath::Xdp(path, _dummies) => serve(&mut hall, &mut **path, ledger_, tally_, rests_, interrupt),
        OpenPath::Kernel(path) => serve(&mut hall, &mut **path, ledger_, tally_, rests_, interrupt),
    };
    drop((realtime, locked));
    warn(rests.and_then(|rests| rests.remark()).as_slice());
    let end = ledger.finish();
    drop(display);
    let odd = [
        (hall.strangers_excess(), "datagrams of those without a session were dropped: beyond their share"),
        (hall.unattributed(), "dummies are in nobody's statistics: more than one client of their address was served"),
    ];
    let odd = odd.iter().filter(|(count, _)| *count > 0).map(|(count, words)| format!("{count} {words}"));
    warn(&odd.collect::<Vec<_>>());
    let restored = opened.close();
    if let Err(error) = &restored {
        eprintln!("xdprobe: {error:#}");
    }
    served?;
    Ok(end.rows_lost == 0 && !end.failed && restored.is_ok())
}

fn hall_config(plan: &Plan, many: &Many, schedule: Option<Arc<[Probe]>>, mtu: u16) -> HallConfig {
    let is_xdp = plan.path == PathKind::Xdp;
    let server = ServerConfig {
        schedule,
        dummies: plan.dummies,
        timeout: plan.timeout,
        keep: true,
        max_ip_len: is_xdp.then_some(mtu),
        max_l2_len: Some(mtu),
        timer: plan.timer,
        offers: Offers::default(),
        requires_ptp: false,
        sampling: Sampling::default(),
        max_rate: None,
    };
    let path = if is_xdp { ServePath::Xdp } else { ServePath::Kernel };
    HallConfig { server, clients: many.clients, path }
}

fn serve<P: Path>(
    hall: &mut Hall,
    path: &mut P,
    ledger: &mut Ledger,
    tally: &mut Tally,
    rests: &mut Option<Rests>,
    interrupt: &mut Interrupt,
) -> Result<()> {
    let stamps = vec![StampCounts::default(); hall.room()];
    let now = monotonic_now();
    tally.start();
    let mut looped =
        Loop { hall, path, ledger, tally, rests, interrupt, stamps, batch: Batch::new(), now, unflushed: false };
    let served = looped.run();
    if served.is_err() {
        looped.break_all();
    }
    looped.tally.finish(looped.hall, &looped.stamps);
    served.context("the path broke down, and with it all sessions that stood")
}

/// All that the loop works with.
struct Loop<'a, P> {
    hall: &'a mut Hall,
    path: &'a mut P,
    ledger: &'a mut Ledger,
    tally: &'a mut Tally,
    /// When the loop is to sleep, where its thread has a real-time priority.
    rests: &'a mut Option<Rests>,
    interrupt: &'a mut Interrupt,
    /// By place.
    stamps: Vec<StampCounts>,
    batch: Batch,
    /// When the loop last looked at the clock.
    now: Time<Monotonic>,
    /// Something was handed over since the last flush.
    unflushed: bool,
}

impl<P: Path> Loop<'_, P> {
    fn run(&mut self) -> io::Result<()> {
        while !self.hall.is_over() {
            let received = self.receive()?;
            // Before anything of our own: somebody's round trip waits for it.
            self.flush()?;
            // As long as a word waits no row is taken.
            self.ledger.catch_up();
            self.now = monotonic_now();
            let pinged = self.meet_deadlines()?;
            if self.interrupt.take() {
                self.hall.handle_stop(monotonic_now());
                self.act(None)?;
            }
            self.tell_counts();
            let idle = !received && !pinged;
            if self.rests.is_some() {
                self.rest(received)?;
            }
            if self.unflushed {
                self.flush()?;
            } else if idle && self.hall.timer() == TimerKind::Sleep && !self.hall.is_over() {
                self.tally.before_sleep(self.hall, &self.stamps);
                let woken = self.interrupt.until(self.hall.deadline())?;
                self.path.wait(None, woken)?;
                if let Some(rests) = self.rests {
                    rests.rested(monotonic_now());
                }
            } else if idle {
                std::hint::spin_loop();
            }
        }
        // The last answers may still lie in the ring.
        self.path.flush()?;
        audit(self.path);
        Ok(())
    }

    /// Leaves the CPU to others where that is due, as [`super::hot`] does.
    fn rest(&mut self, received: bool) -> io::Result<()> {
        let Some(rests) = self.rests else { return Ok(()) };
        if let Some(rest) = rests.due(self.now, received, self.hall.deadline(), self.ledger.crowded()) {
            // What waits to leave does not wait for that.
            self.flush()?;
            std::thread::sleep(rest);
            if let Some(rests) = self.rests {
                rests.rested(monotonic_now());
            }
        }
        Ok(())
    }

    /// Says how things stand where somebody wants to know.
    #[inline]
    fn tell_counts(&mut self) {
        if self.interrupt.is_asked() {
            self.tally.ask();
        }
        if self.tally.look(self.hall, &self.stamps) && self.interrupt.is_asked() {
            let (crowd, totals) = self.tally.so_far();
            self.ledger.so_far(crowd, totals);
            self.interrupt.take_question();
        }
    }

    /// Says of all sessions that they are over: what was measured until now is all there will be.
    fn break_all(&mut self) {
        self.hall.break_all();
        while let Some(action) = self.hall.poll_action() {
            if let (Some(place), Action::Tell(Event::Finished(end))) = (self.hall.place(), action) {
                self.end(place, end);
            }
        }
    }

    /// A session is over.
    #[cold]
    fn end(&mut self, place: usize, end: End) {
        let (totals, stamps) = (self.hall.totals(), self.stamps[place]);
        self.tally.end(place, end, totals, &stamps);
        self.ledger.end(place, end, totals, stamps, self.hall.excess());
    }

    /// Takes in what has come; whether anything had.
    fn receive(&mut self) -> io::Result<bool> {
        self.path.receive(&mut self.batch)?;
        let waiting = self.batch.len();
        self.hall.begin_look(waiting, waiting == BATCH);
        if waiting == 0 {
            return Ok(false);
        }
        // Taken out and put back, so that none of them is copied; what takes its place allocates nothing.
        let batch = std::mem::take(&mut self.batch);
        let taken = self.take_in(&batch);
        self.batch = batch;
        taken?;
        Ok(true)
    }

    fn take_in(&mut self, batch: &Batch) -> io::Result<()> {
        let now = monotonic_now();
        self.now = now;
        for (received, said) in batch.iter() {
            let point = self.hall.handle_datagram(now, &path::incoming(received, said));
            if let Some(place) = self.hall.place() {
                self.stamps[place].rx += 1;
                self.tally.touch(place);
                if let Some(point) = point {
                    let Received { ip_len, queue, stamps, .. } = *received;
                    let seen = Seen { sequence: received.message.sequence, point, size: ip_len, queue };
                    self.ledger.seen(place, &seen.at(stamps.application));
                }
            }
            self.act(Some(received))?;
        }
        Ok(())
    }

    /// Does what is due, up to a burst; whether anything was.
    fn meet_deadlines(&mut self) -> io::Result<bool> {
        for met in 0..BURST {
            if self.hall.deadline().is_none_or(|deadline| self.now < deadline) {
                return Ok(met > 0);
            }
            self.hall.handle_deadline(self.now);
            self.act(None)?;
        }
        Ok(true)
    }

    /// Obeys; `answers` is what came last, where something did.
    fn act(&mut self, answers: Option<&Received>) -> io::Result<()> {
        while let Some(action) = self.hall.poll_action() {
            if let Some(place) = self.hall.place() {
                self.tally.touch(place);
            }
            match action {
                Action::Send(mut outgoing) => {
                    if let (Body::InBand { told, .. }, Some(ping)) = (&mut outgoing.body, answers) {
                        let t1 = Some(ping.stamps.application.as_nanos());
                        *told = InBand { source: FarSource::Application, t1, ..InBand::default() };
                    }
                    match self.path.send(&outgoing) {
                        Ok(sent) => self.sent(&outgoing, sent.application, sent.queue),
                        Err(error) => self.cannot_send(&error),
                    }
                }
                Action::Dummies { to, count } => match self.path.send_dummies(to, count) {
                    Ok(()) => self.unflushed = true,
                    Err(error) => self.cannot_send(&error),
                },
                // Only clients flood.
                Action::Load { .. } => {}
                Action::Tell(event) => self.tell(event)?,
            }
        }
        Ok(())
    }

    fn sent(&mut self, outgoing: &Outgoing, application: Time<Realtime>, queue: Option<u32>) {
        self.unflushed = true;
        // An answer to a stranger is nobody's.
        let Some(place) = self.hall.place() else { return };
        self.stamps[place].tx_requested += 1;
        self.stamps[place].tx += 1;
        if let Some(point) = outgoing.point {
            let seen = Seen { sequence: outgoing.message.sequence, point, size: outgoing.ip_len(), queue };
            self.ledger.seen(place, &seen.at(application));
        }
    }

    /// What one client is not to be sent costs the others nothing; what a stranger is not, nobody.
    #[cold]
    fn cannot_send(&mut self, error: &io::Error) {
        if let Some(place) = self.hall.place() {
            self.ledger.cannot_send(place, error.raw_os_error());
            self.hall.break_off();
        }
    }

    #[cold]
    fn tell(&mut self, event: Event) -> io::Result<()> {
        // The peer must not wait for it.
        self.flush()?;
        let place = self.hall.place();
        match (place, event) {
            (Some(place), Event::Connected { peer, settings }) => {
                // The SYN is this session's, and the SYN-ACK will be.
                self.stamps[place] = StampCounts { rx: 1, ..StampCounts::default() };
                self.tally.begin(place);
                self.ledger.begin(place, peer, settings);
            }
            (Some(place), Event::Finished(end)) => self.end(place, end),
            (place, event) => {
                if event.is_refusal() {
                    self.tally.refuse();
                }
                self.ledger.notice(place, event);
            }
        }
        Ok(())
    }

    fn flush(&mut self) -> io::Result<()> {
        if self.unflushed {
            self.unflushed = self.path.flush()?;
        }
        Ok(())
    }
}

/// A row before its stamp.
struct Seen {
    sequence: u64,
    point: Point,
    size: u16,
    queue: Option<u32>,
}

impl Seen {
    fn at(self, application: Time<Realtime>) -> Sighting {
        let Self { sequence, point, size, queue } = self;
        Sighting { sequence, point, size, queue, application, software: None, hardware: None }
    }
}
