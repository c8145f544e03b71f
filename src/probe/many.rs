//! A server of many clients at once: its set-up, and its hot loop.
//!
//! What one session needs and many do not have is not here: round trips of this side, what a path gets ready for a session, pairs of
//! stamps that a later pong takes along. So the loop is the one of `hot` without those; the rules for it are the same.

use super::awaited::{Awaited, Leaving, Owned};
use super::glance::{Glances, explained};
use super::hot::{CROWD, DRAIN_PAUSE, LOOK_NANOS, LOOK_PAUSE_NANOS, STALL, audit};
use super::interrupt::Interrupt;
use super::opened::{self, Opened, Way};
use super::outstanding::Joined;
use super::reporter::clocks_since;
use super::rests::Rests;
use super::setup::OpenPath;
use super::tally::Tally;
use super::{StampRules, display, facts, say_first, stamp_sources, warn};
use crate::cli::{Many, PathKind, Plan, schedule};
use crate::clock::{ClockSampler, Monotonic, Source, Stamp, Time, monotonic_now, realtime_now};
use crate::live::Port;
use crate::path::{self, BATCH, Batch, Counters, Path, Received, Sent, TxStamp};
use crate::record::{
    ClockRecord, ClockWitness, Facts, Ledger, LedgerConfig, Role, Sighting, StampCounts, check_folder, text,
};
use crate::session::{
    Action, Body, End, Event, Hall, HallConfig, Machine, Outgoing, Probe, SERVED_AT_ONCE, ServerConfig, TimerKind,
    Turns, WAITING_ROOM,
};
use crate::tune::memory::LockedMemory;
use crate::tune::realtime::{Budget, Realtime as RealtimePriority};
use crate::wire::in_band::FarSource;
use crate::wire::{InBand, Kind, Point, Said, ServePath};
use anyhow::{Context, Result};
use std::io;
use std::net::SocketAddrV4;
use std::sync::Arc;
use std::time::Duration;

/// For how long a server that is stopped answers what waits: many times as long as what has room takes, but for answers with many dummies.
const LAST_ANSWERS: Duration = Duration::from_millis(500);
/// How many deadlines are met before the loop looks at what came in.
const BURST: usize = 32;
// As much is served at once as is read.
const _: () = assert!(SERVED_AT_ONCE as usize == BATCH);

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
    let folder = many.log_dir.clone();
    let port = plan.metrics.map(Port::bind).transpose()?;
    let (mut opened, (mut ledger, display)) = opened::open(&[plan], probes, |beside| {
        let stamps = beside.stamps[0];
        let display = display(plan, Role::Server, port, stamps)?;
        let sources = stamps.sources;
        let stamp_timeout = stamps.awaits().then_some(plan.stamp_timeout);
        let config = LedgerConfig { sources, stamp_timeout, folder, json: plan.json, places };
        Ok((Ledger::start(config)?, display))
    })?;
    let (display, feed) = display.unzip();
    let mut tally = Tally::new(places, feed);
    let Opened { ways, clocks, interface, card, interrupt, deferral, .. } = &mut opened;
    let Way { stamps, path } = &mut ways[0];
    let sources = stamp_sources(plan, stamps, card.as_deref(), plan.path);
    let facts = facts(plan, interface, deferral.as_ref(), path.description(), sources, probes.len());
    let witness = Witness(clocks.sampler());
    // Nothing here travels behind PTP headers.
    ledger.describe(Facts { stamp_every: None, ..facts }, Some(Arc::new(witness)));
    let rules = StampRules { sources: stamps.sources, patience: plan.stamp_timeout, board: clocks.board() };
    let mtu = u16::try_from(interface.mtu).unwrap_or(u16::MAX);
    let mut hall = Hall::new(hall_config(plan, many, schedule.clone(), mtu));
    say_first(plan, &text::server_start(plan.port));
    let locked = plan.tuning.lock_memory.then(LockedMemory::lock).transpose()?;
    match path {
        OpenPath::Xdp(path, _) => path.make_room(places),
        OpenPath::Kernel(path) => path.share(),
    }
    let realtime = plan.tuning.realtime.map(RealtimePriority::raise).transpose()?;
    let mut rests = realtime.as_ref().map(|_| Rests::within(&Budget::of_this_machine(), monotonic_now()));
    let beside = Beside { ledger: &mut ledger, tally: &mut tally, rests: &mut rests, interrupt, rules };
    let (served, path_counters) = match path {
        OpenPath::Xdp(path, _dummies) => (serve(&mut hall, &mut **path, plan.dummies, beside), path.counters()),
        OpenPath::Kernel(path) => (serve(&mut hall, &mut **path, plan.dummies, beside), path.counters()),
    };
    drop((realtime, locked));
    warn(rests.and_then(|rests| rests.remark()).as_slice());
    let end = ledger.finish();
    drop(display);
    let (served, strays) = served;
    let odd = [
        (hall.strangers_excess(), "datagrams of those without a session were dropped: beyond their share"),
        (strays, "transmit stamps are nobody's: they came too late or a second time, or were none"),
        (hall.unattributed(), "dummies are in nobody's statistics: more than one client of their address was served"),
    ];
    let odd = odd.into_iter().chain(dropped_by_kernel(&path_counters)).filter(|(count, _)| *count > 0);
    warn(&odd.map(|(count, words)| format!("{count} {words}")).collect::<Vec<_>>());
    let restored = opened.close();
    if let Err(error) = &restored {
        eprintln!("xdprobe: {error:#}");
    }
    served?;
    Ok(end.rows_lost == 0 && !end.failed && restored.is_ok())
}

/// What no session's statistics have, as the path counts it of all together.
fn dropped_by_kernel(counters: &Counters) -> [(u64, &'static str); 5] {
    let of_rings = counters.xdp.map_or(0, |xdp| xdp.rx_dropped + xdp.rx_ring_full);
    [
        (
            counters.socket_dropped + of_rings,
            "datagrams of all sessions were dropped by this machine's kernel before they were read",
        ),
        (counters.tx_dropped, "datagrams of all sessions were dropped by this machine's kernel before they left"),
        (counters.not_protocol, "datagrams were too short, of an unknown type, damaged, or from no host's address"),
        (counters.reached_kernel, "datagrams went past AF_XDP to the kernel: fragments, or a queue without a socket"),
        (counters.strange_stamps, "transmit stamps belong to no datagram"),
    ]
}

fn hall_config(plan: &Plan, many: &Many, schedule: Option<Arc<[Probe]>>, mtu: u16) -> HallConfig {
    let is_xdp = plan.path == PathKind::Xdp;
    let server = ServerConfig {
        schedule,
        dummies: plan.dummies,
        keep: true,
        max_ip_len: is_xdp.then_some(mtu),
        max_l2_len: Some(mtu),
        timer: plan.timer,
        ..ServerConfig::plain(plan.timeout)
    };
    let path = if is_xdp { ServePath::Xdp } else { ServePath::Kernel };
    HallConfig { server, clients: many.clients, path }
}

/// Knows the clocks, for the meta files.
#[derive(Debug)]
struct Witness(Arc<ClockSampler>);

impl ClockWitness for Witness {
    fn since(&self, began: Time<Monotonic>) -> ClockRecord {
        clocks_since(&self.0, began)
    }
}

/// What the loop works with beside hall and path.
struct Beside<'a> {
    ledger: &'a mut Ledger,
    tally: &'a mut Tally,
    rests: &'a mut Option<Rests>,
    interrupt: &'a mut Interrupt,
    rules: StampRules,
}

/// How it went, and how many transmit stamps were nobody's; `dummies` follow each pong.
fn serve<P: Path>(hall: &mut Hall, path: &mut P, dummies: u32, beside: Beside<'_>) -> (Result<()>, u64) {
    let mut looped = Loop::new(hall, path, dummies, beside);
    looped.tally.start();
    let served = looped.run();
    looped.tally.finish(looped.hall, &looped.stamps);
    (served.context("the path broke down, and with it all sessions that stood"), looped.strays)
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
    rules: StampRules,
    /// By place.
    stamps: Vec<StampCounts>,
    /// What waits for its transmit stamps.
    awaited: Awaited,
    late: Vec<TxStamp>,
    /// Stamps may come later than their datagrams.
    collects: bool,
    /// No look for them before.
    next_look: Time<Monotonic>,
    /// Transmit stamps that are nobody's.
    strays: u64,
    batch: Batch,
    /// What was read ahead of its turn.
    turns: Turns<(Received, Option<Said>)>,
    /// When it looks whether the interface is still there.
    glances: Glances,
    /// When the loop last looked at the clock.
    now: Time<Monotonic>,
    /// Something was handed over since the last flush.
    unflushed: bool,
    /// How many datagrams lie in a ring that are not counted as sent.
    uncounted: u64,
    /// What is obeyed has come by itself: it is not to wait for others, and nothing is noted of it before the answer has left.
    alone: bool,
}

/// A datagram that came for the session at a place, and the row that it makes: not yet noted.
#[derive(Clone, Copy)]
struct Arrival<'a> {
    place: usize,
    point: Option<Point>,
    received: &'a Received,
}

impl<'a, P: Path> Loop<'a, P> {
    /// Everything is allocated here; as of [`serve`].
    fn new(hall: &'a mut Hall, path: &'a mut P, dummies: u32, beside: Beside<'a>) -> Self {
        let Beside { ledger, tally, rests, interrupt, rules } = beside;
        let turns = Turns::new(hall.room(), WAITING_ROOM, dummies.saturating_add(1));
        let awaited = Awaited::new(hall.room(), path.late_stamps(), rules.patience);
        Self {
            stamps: vec![StampCounts::default(); hall.room()],
            hall,
            collects: path.late_stamps().any(),
            path,
            ledger,
            tally,
            rests,
            interrupt,
            rules,
            awaited,
            late: Vec::with_capacity(BATCH),
            strays: 0,
            batch: Batch::new(),
            turns,
            glances: Glances::new(monotonic_now()),
            now: monotonic_now(),
            next_look: monotonic_now(),
            unflushed: false,
            uncounted: 0,
            alone: false,
        }
    }

    fn run(&mut self) -> Result<()> {
        while let Err(error) = self.run_until_over() {
            let error = explained(error, self.path);
            let goes_on = self.break_all() && error.downcast_ref().is_some_and(path::is_unreachable);
            if !goes_on {
                return Err(error);
            }
            self.path.forget_unsent().map_err(|again| explained(again.context(format!("{error:#}")), self.path))?;
            (self.unflushed, self.alone) = (false, false);
            eprintln!("xdprobe: {error:#}: all sessions are broken off: the next clients are waited for");
        }
        Ok(())
    }

    fn run_until_over(&mut self) -> Result<()> {
        while !self.hall.is_over() {
            let before = self.now;
            let mut received = self.receive()?;
            // Before anything of our own: somebody's round trip waits for it.
            self.flush()?;
            // As long as a word waits no row is taken.
            self.ledger.catch_up();
            self.now = monotonic_now();
            if self.now.duration_since(before) >= STALL {
                received |= self.catch_up(before)?;
            }
            let pinged = self.meet_deadlines()?;
            if !self.awaited.is_empty() {
                self.look()?;
            }
            if self.interrupt.take() {
                self.serve_what_waits()?;
                self.hall.handle_stop(monotonic_now());
                self.act(None)?;
            }
            self.tell_counts();
            let idle = !received && !pinged;
            self.glance(idle)?;
            if self.rests.is_some() {
                self.rest(received)?;
            }
            if self.unflushed {
                self.flush()?;
            } else if idle && self.hall.timer() == TimerKind::Sleep && !self.hall.is_over() {
                if self.collects {
                    // Also what nobody waits for any more: it would make the descriptor readable for ever.
                    self.collect()?;
                }
                self.tally.before_sleep(self.hall, &self.stamps);
                let deadlines = [self.hall.deadline(), self.awaited.deadline()];
                let end = self.glances.before(deadlines.into_iter().flatten().min());
                let woken = self.interrupt.until(end, self.now)?;
                self.path.wait(None, woken)?;
                self.now = monotonic_now();
                if let Some(rests) = self.rests {
                    rests.rested(self.now);
                }
            } else if idle {
                std::hint::spin_loop();
            }
        }
        // The last answers may still lie in the ring.
        self.path.flush()?;
        self.drain()?;
        audit(self.path);
        Ok(())
    }

    /// The turn took long: nobody is missed for that, as in [`super::hot`].
    #[cold]
    fn catch_up(&mut self, before: Time<Monotonic>) -> io::Result<bool> {
        self.hall.handle_stall(before, self.now);
        let received = self.receive()?;
        self.flush()?;
        Ok(received)
    }

    /// Looks whether the interface is still there, where that is due.
    #[inline]
    fn glance(&mut self, idle: bool) -> Result<()> {
        if self.glances.is_due(idle, self.now, || self.hall.standing() > 0) {
            self.path.check_interface()?;
        }
        Ok(())
    }

    /// Collects transmit stamps where nothing more urgent is at hand, as [`super::hot`] does.
    fn look(&mut self) -> io::Result<()> {
        let due = self.hall.deadline().is_some_and(|due| due < self.now.plus_nanos(LOOK_NANOS));
        // None is given up while its stamp may lie in the queue.
        let overdue = self.awaited.deadline().is_some_and(|deadline| deadline <= self.now);
        if (due || self.now < self.next_look) && self.awaited.len() < CROWD && !overdue {
            return Ok(());
        }
        self.collect()?;
        if self.late.is_empty() {
            self.next_look = self.now.plus_nanos(LOOK_PAUSE_NANOS);
        }
        Ok(())
    }

    /// Joins all transmit stamps that have come to their datagrams, and gives up those that were waited for too long.
    fn collect(&mut self) -> io::Result<()> {
        loop {
            self.path.collect(&mut self.late)?;
            self.take_late();
            if self.late.len() < BATCH {
                break;
            }
        }
        while let Some(owned) = self.awaited.give_up(self.now) {
            self.settle(&owned);
        }
        Ok(())
    }

    fn take_late(&mut self) {
        for at in 0..self.late.len() {
            let late = self.late[at];
            let is_none =
                matches!(late.stamp, Stamp::Card(stamp) if !self.rules.board.is_plausible_phc(stamp, realtime_now()));
            if is_none {
                self.strays += 1;
                continue;
            }
            match self.awaited.join(late) {
                Joined::Whole(owned) => self.settle(&owned),
                Joined::Part => {}
                Joined::Duplicate | Joined::Late => self.strays += 1,
            }
        }
    }

    /// All that will ever be known of a datagram sent is known.
    fn settle(&mut self, owned: &Owned) {
        // Of a session that was closed without it there is nobody who could take it.
        let Some(place) = self.awaited.settled(owned) else { return };
        self.count_sent(place, &owned.sighting);
        if let Some(leaving) = self.awaited.left(place) {
            self.say_end(place, &leaving);
        }
    }

    fn count_sent(&mut self, place: usize, sighting: &Sighting) {
        match sighting.stamp(self.rules.sources.sent) {
            Some(_) => self.stamps[place].tx += 1,
            None => self.stamps[place].tx_missed += 1,
        }
        self.tally.touch(place);
        self.ledger.seen(place, sighting);
    }

    /// Waits for the last stamps.
    #[cold]
    fn drain(&mut self) -> io::Result<()> {
        while !self.awaited.is_empty() {
            self.now = monotonic_now();
            self.collect()?;
            if self.interrupt.is_pending() {
                self.give_up_all();
            } else if !self.awaited.is_empty() {
                std::thread::sleep(DRAIN_PAUSE);
            }
        }
        Ok(())
    }

    /// Nobody will bring stamps any more.
    #[cold]
    fn give_up_all(&mut self) {
        self.now = monotonic_now();
        while let Some(owned) = self.awaited.give_up_any(self.now) {
            self.settle(&owned);
        }
    }

    /// Closes the session at this place, if there is one that is over and waits for stamps: another one begins there.
    #[cold]
    fn close(&mut self, place: usize) {
        let (missed, leaving) = self.awaited.close(place);
        if let Some(leaving) = leaving {
            self.stamps[place].tx_missed += u64::from(missed);
            self.say_end(place, &leaving);
        }
    }

    /// Leaves the CPU to others where that is due, as [`super::hot`] does.
    fn rest(&mut self, received: bool) -> io::Result<()> {
        let Some(rests) = self.rests else { return Ok(()) };
        if let Some(rest) = rests.due(self.now, received, self.hall.deadline(), self.ledger.crowded()) {
            // What waits to leave does not wait for that.
            self.flush()?;
            std::thread::sleep(rest);
            self.now = monotonic_now();
            if let Some(rests) = self.rests {
                rests.rested(self.now);
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

    /// Says of all sessions that they are over: what was measured until now is all there will be of them. Whether there may be others.
    #[cold]
    fn break_all(&mut self) -> bool {
        self.give_up_all();
        self.path.count_unsent(std::mem::take(&mut self.uncounted));
        let goes_on = self.hall.break_session(monotonic_now());
        while let Some(action) = self.hall.poll_action() {
            if let (Some(place), Action::Tell(Event::Finished(end))) = (self.hall.place(), action) {
                self.end(place, end);
            }
        }
        self.turns.clear();
        goes_on
    }

    /// A session is over, and is closed once the last of its stamps has come.
    #[cold]
    fn end(&mut self, place: usize, end: End) {
        if matches!(end, End::TimedOut { .. } | End::Broken) {
            let waiting = self.turns.waiting_in(place).map(|(received, _)| received.message.kind);
            self.hall.drop_waiting(place, waiting);
        }
        let mut leaving = Leaving { end, totals: *self.hall.totals(), excess: self.hall.excess() };
        if end == End::Broken {
            // The machine does not know that it is over, and its last stamps may take a while.
            leaving.totals.ended.get_or_insert(self.now);
        }
        self.tally.end(place, end, &leaving.totals, &self.stamps[place]);
        if self.awaited.leave(place, leaving) {
            self.say_end(place, &leaving);
        }
    }

    fn say_end(&mut self, place: usize, leaving: &Leaving) {
        let Leaving { end, totals, excess } = leaving;
        let stamps = self.stamps[place];
        self.tally.stamped(place, &stamps);
        self.ledger.end(place, *end, totals, stamps, *excess);
    }

    /// Takes in what has come; whether anything had.
    fn receive(&mut self) -> io::Result<bool> {
        self.path.receive(&mut self.batch)?;
        let full = self.batch.len() == BATCH;
        if self.hall.begin_turn(full, self.turns.lines_waiting()) {
            self.take_turns()?;
            return Ok(true);
        }
        if self.batch.is_empty() {
            return Ok(false);
        }
        // The clock was read less than a turn ago: a look at it would be in somebody's round trip.
        self.alone = self.batch.len() == 1;
        self.with_batch(|this, batch| batch.iter().try_for_each(|(received, said)| this.take_in(received, said)))?;
        self.alone = false;
        Ok(true)
    }

    fn with_batch(&mut self, obey: impl FnOnce(&mut Self, &Batch) -> io::Result<()>) -> io::Result<()> {
        let batch = self.batch.lend();
        let done = obey(self, &batch);
        self.batch.give_back(batch);
        done
    }

    /// Reads ahead, so that nobody's datagrams wait for those of others that came before them, and serves some.
    fn take_turns(&mut self) -> io::Result<()> {
        self.turns.begin();
        self.now = monotonic_now();
        loop {
            self.with_batch(Self::line_up)?;
            if !self.turns.reads_on(self.batch.len() == BATCH) {
                break;
            }
            self.path.receive(&mut self.batch)?;
        }
        self.serve_in_turn()
    }

    /// Serves what waits in lines, as much as is served at once.
    fn serve_in_turn(&mut self) -> io::Result<()> {
        self.now = monotonic_now();
        while let Some((received, said)) = self.turns.call() {
            self.hall.take_cost();
            self.take_in(&received, said.as_ref())?;
            self.turns.charge(self.hall.take_cost());
        }
        Ok(())
    }

    /// Serves what was read, as far as that is done soon, and counts the rest as dropped: a session that ends knows of no line.
    #[cold]
    fn serve_what_waits(&mut self) -> io::Result<()> {
        let until = monotonic_now().plus(LAST_ANSWERS);
        while self.turns.lines_waiting() > 0 && monotonic_now() < until && !self.interrupt.is_pending() {
            self.turns.begin();
            self.serve_in_turn()?;
            self.flush()?;
        }
        if self.turns.lines_waiting() > 0 {
            // What waits of a session that is over was counted as it ended, or came behind its FIN.
            for line in 0..self.hall.room() {
                if self.hall.stands_at(line) {
                    let waiting = self.turns.waiting_in(line).map(|(received, _)| received.message.kind);
                    self.hall.drop_waiting(line, waiting);
                }
            }
            self.turns.clear();
        }
        Ok(())
    }

    fn line_up(&mut self, batch: &Batch) -> io::Result<()> {
        for (received, said) in batch.iter() {
            match self.hall.line(received.from, received.way) {
                Some(line) => {
                    let is_control = !matches!(received.message.kind, Kind::Ping | Kind::Pong | Kind::Dummy);
                    if !self.turns.line_up(line, (*received, said.copied()), is_control) {
                        self.hall.drop_excess(line);
                    }
                }
                None => self.take_in(received, said)?,
            }
        }
        Ok(())
    }

    fn take_in(&mut self, received: &Received, said: Option<&Said>) -> io::Result<()> {
        let point = self.hall.handle_datagram(self.now, &path::incoming(received, said));
        self.act(self.hall.place().map(|place| Arrival { place, point, received }))
    }

    fn note_once(&mut self, arrival: &mut Option<Arrival<'_>>) {
        if let Some(arrival) = arrival.take() {
            self.note(arrival);
        }
    }

    /// Counts what came for a session, and its stamp. After the answer has left where it can be, but before anything is noted of that.
    fn note(&mut self, Arrival { place, point, received }: Arrival<'_>) {
        let StampRules { sources, board, .. } = &self.rules;
        self.tally.touch(place);
        let counts = &mut self.stamps[place];
        let Some(point) = point else {
            // As of datagrams sent: a control message is asked for the process's stamp only, as it makes no row.
            counts.rx += u64::from(sources.received == Source::Application);
            return;
        };
        let &Received { ip_len: size, queue, stamps, .. } = received;
        let hardware = stamps.hardware.filter(|stamp| board.is_plausible_phc(*stamp, stamps.application));
        let sighting = Sighting {
            sequence: received.message.sequence,
            point,
            size,
            queue,
            application: stamps.application,
            // What no row has is not brought to another clock for nothing.
            software: match sources.received {
                Source::Software => stamps.software.or_else(|| stamps.hook.map(|hook| board.tai_to_realtime(hook))),
                Source::Hardware | Source::Application => None,
            },
            hardware,
        };
        counts.implausible += u64::from(stamps.hardware.is_some() && hardware.is_none());
        match sighting.stamp(sources.received) {
            Some(_) => counts.rx += 1,
            None => counts.rx_missed += 1,
        }
        self.ledger.seen(place, &sighting);
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

    /// Obeys. What came in and made a session act, if anything did, is noted.
    fn act(&mut self, mut arrival: Option<Arrival<'_>>) -> io::Result<()> {
        let pinged = arrival.map(|arrival| arrival.received.stamps.application);
        while let Some(action) = self.hall.poll_action() {
            match action {
                Action::Send(mut outgoing) => {
                    if let (Body::InBand { told, .. }, Some(t1)) = (&mut outgoing.body, pinged) {
                        *told = InBand { source: FarSource::Application, t1: Some(t1.as_nanos()), ..InBand::default() };
                    }
                    self.send(&outgoing, &mut arrival)?;
                }
                Action::Dummies { to, count } => self.send_dummies(to, count),
                // Only clients flood.
                Action::Load { .. } => {}
                Action::Tell(event) => {
                    self.note_once(&mut arrival);
                    self.tell(event)?;
                }
            }
            if let Some(place) = self.hall.place() {
                self.tally.touch(place);
            }
        }
        self.note_once(&mut arrival);
        Ok(())
    }

    /// One by one, so that it is known how many did not leave.
    fn send_dummies(&mut self, to: SocketAddrV4, count: u32) {
        for sent in 0..count {
            match self.path.send_dummy(to) {
                Ok(()) => self.unflushed = true,
                Err(error) => return self.cannot_send(&error, &Action::Dummies { to, count: count - sent }),
            }
        }
    }

    fn send(&mut self, outgoing: &Outgoing, arrival: &mut Option<Arrival<'_>>) -> io::Result<()> {
        let sent = self.path.send(outgoing);
        self.unflushed |= sent.is_ok();
        let flushed = if self.alone { self.flush() } else { Ok(()) };
        self.note_once(arrival);
        match sent {
            // It lay in the ring alone, and stays there.
            Ok(Sent { queue: Some(_), .. }) if flushed.is_err() => {
                self.uncounted = 1;
                self.hall.handle_unsent(&Action::Send(*outgoing));
            }
            Ok(sent) => self.sent(outgoing, sent),
            Err(error) => self.cannot_send(&error, &Action::Send(*outgoing)),
        }
        flushed
    }

    fn sent(&mut self, outgoing: &Outgoing, sent: Sent) {
        // An answer to a stranger is nobody's.
        let Some(place) = self.hall.place() else { return };
        let Some(point) = outgoing.point else {
            // A control message: where the process stamps, it is stamped like any other.
            if self.rules.sources.sent == Source::Application {
                self.stamps[place].tx_requested += 1;
                self.stamps[place].tx += 1;
            }
            return;
        };
        self.stamps[place].tx_requested += 1;
        let Sent { application, queue, token } = sent;
        let (sequence, size) = (outgoing.message.sequence, outgoing.ip_len());
        let sighting = Sighting { sequence, point, size, queue, application, software: None, hardware: None };
        match token {
            None => self.count_sent(place, &sighting),
            Some(token) => {
                while let Some(evicted) = self.awaited.make_room(token) {
                    self.settle(&evicted);
                }
                // The loop may have been away since it last looked at the clock.
                self.awaited.sent(monotonic_now(), place, token, sighting);
            }
        }
    }

    /// What one client is not to be sent costs the others nothing; what a stranger is not, nobody.
    #[cold]
    fn cannot_send(&mut self, error: &io::Error, unsent: &Action) {
        if let Some(place) = self.hall.break_off(unsent) {
            self.ledger.cannot_send(place, path::send_errno(error), error.kind());
        }
    }

    #[cold]
    fn tell(&mut self, event: Event) -> io::Result<()> {
        // The peer must not wait for it. What has happened is told also where nothing can be sent.
        let flushed = self.flush();
        let place = self.hall.place();
        match (place, event) {
            (Some(place), Event::Connected { peer, settings }) => {
                self.close(place);
                // The SYN is this session's, and the SYN-ACK will be.
                let rx = u64::from(self.rules.sources.received == Source::Application);
                self.stamps[place] = StampCounts { rx, ..StampCounts::default() };
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
        flushed
    }

    fn flush(&mut self) -> io::Result<()> {
        if self.unflushed {
            self.unflushed = self.path.flush()?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests;
