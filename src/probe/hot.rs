//! The hot loop: one thread that receives, answers, pings and records.
//!
//! It does not allocate, lock, format or touch a file while a session lasts: rows and notices go through a ring to the
//! recorder's thread. It knows no sockets; what gets out and in is a [`Path`], who says what is a [`Machine`].

use super::away::Away;
use super::glance::{Glances, explained};
use super::interrupt::Interrupt;
use super::nap::Nap;
use super::outstanding::{Joined, Outstanding};
use super::rests::Rests;
use super::turnarounds::Turnarounds;
use super::usage::Usage;
use crate::clock::{ClockBoard, Monotonic, Realtime, Source, Stamp, Time, monotonic_now, realtime_now};
use crate::live::Sample;
use crate::path::{self, BATCH, Batch, Path, Received, Sent, TxStamp};
use crate::record::{Answer, Punctuality, Recorder, RoundTrips, Sighting, Sources, StampCounts};
use crate::session::{Action, Body, Direction, End, Event, Incoming, Machine, Outgoing, TimerKind, Totals};
use crate::tune::realtime::Budget;
use crate::wire::ptp::Shape;
use crate::wire::{Account, Extension, Kind, Point, Said};
use std::io;
use std::net::SocketAddrV4;
use std::sync::Arc;
use std::time::Duration;

/// How many pings may leave before the loop looks at what came in: as many as one wake-up of a copying driver sends.
const BURST: usize = 32;

/// A turn that takes so long was interrupted.
pub(super) const STALL: Duration = Duration::from_millis(1);
/// The error queue is not looked into where a ping is due this soon: a look is a system call.
pub(super) const LOOK_NANOS: u64 = 3_000;
/// Nor so soon after a look that found nothing: a pong may come meanwhile, and would wait.
pub(super) const LOOK_PAUSE_NANOS: u64 = 10_000;
/// Unless so many wait: the kernel holds some thousand stamps for us and drops the others.
pub(super) const CROWD: usize = 1024;
/// Between two looks for the last stamps of a session.
pub(super) const DRAIN_PAUSE: Duration = Duration::from_micros(50);

/// Statistics so far are put together where no ping is due this soon: it takes some µs.
const REPORT_NANOS: u64 = 50_000;
/// Unless there was no such moment for so long.
const REPORT_PATIENCE: Duration = Duration::from_millis(100);

/// Whose stamps count, and how they are judged.
#[derive(Debug, Clone)]
pub struct StampRules {
    /// Whose stamps the log's rows have, and the statistics are of.
    pub sources: Sources,
    /// How long a transmit stamp is waited for.
    pub patience: Duration,
    /// What brings the XDP hook's time to the system's clock, and knows which of the card's stamps are none.
    pub board: Arc<ClockBoard>,
}

/// Where the loop stands when the session's owner is asked what to do about an event.
pub struct Scene<'a, M, P> {
    /// The session.
    pub machine: &'a M,
    /// The way out and in.
    pub path: &'a P,
    /// The log.
    pub recorder: &'a mut Recorder,
    /// Pings and their answers.
    pub round_trips: &'a mut RoundTrips,
    /// How late pings left since the session began.
    pub punctuality: &'a Punctuality,
    /// Stamps taken since the session began.
    pub stamps: &'a mut StampCounts,
    /// The datagram that is being handled had a stamp.
    pub arrival_stamped: bool,
}

/// What the loop hands to its owner: the events at which it may take its time, and what somebody who watches wants to know,
/// where it may not.
pub trait Attendant<M, P> {
    /// A session stands.
    ///
    /// # Errors
    /// Whatever makes going on senseless; the loop ends with it.
    fn connected(&mut self, scene: Scene<'_, M, P>, event: Event) -> anyhow::Result<()>;

    /// A session is over and its statistics are due.
    ///
    /// # Errors
    /// As [`Attendant::connected`].
    fn finished(&mut self, scene: Scene<'_, M, P>, end: End) -> anyhow::Result<()>;

    /// The loop ends with an error: what was measured until now is all there will be.
    fn broken(&mut self, scene: Scene<'_, M, P>);

    /// A ping has its pong, and both their stamps. In the hot loop.
    #[inline]
    fn round_trip(&mut self, _sample: Sample) {}

    /// Whether somebody wants [`Attendant::counts`]; `sleeps`: the loop is about to sleep. In the hot loop.
    #[inline]
    fn wants_counts(&self, _sleeps: bool) -> bool {
        false
    }

    /// How things stand. In the hot loop.
    fn counts(&mut self, _scene: Scene<'_, M, P>) {}

    /// The user wants the statistics so far. In the hot loop, in a moment in which nothing else is to be done: some µs, and no
    /// system call. Whether that could be done; else it is asked for again.
    fn so_far(&mut self, _scene: Scene<'_, M, P>) -> bool {
        true
    }
}

/// A datagram that was handled, and what it is to the session.
struct Arrival<'a> {
    received: &'a Received,
    said: Option<&'a Said>,
    point: Option<Point>,
}

/// A planned moment that was met, as [`Punctuality::met`] takes it.
struct Met {
    lateness: Option<u64>,
    skipped: u64,
    away: u64,
}

/// All that the loop works with.
pub struct HotLoop<'a, M, P, A> {
    machine: &'a mut M,
    path: &'a mut P,
    recorder: &'a mut Recorder,
    attendant: &'a mut A,
    interrupt: &'a mut Interrupt,
    rules: StampRules,
    round_trips: RoundTrips,
    punctuality: Punctuality,
    stamps: StampCounts,
    outstanding: Outstanding,
    turnarounds: Turnarounds,
    /// The session's pongs carry the stamps of the side that sends them.
    in_band: bool,
    /// The ping that is being handled: when the process had read it, and its stamp of the chosen source.
    ping: (Time<Realtime>, Option<Stamp>),
    batch: Batch,
    late: Vec<TxStamp>,
    /// Stamps may come later than their datagrams.
    collects: bool,
    /// No look into the error queue before.
    next_look: Time<Monotonic>,
    /// When the loop last looked at the clock.
    now: Time<Monotonic>,
    /// Whether it is seen when the core is away.
    watches: bool,
    /// Whether the core was away before that.
    away: Away,
    /// The planned moment that was met and is not noted yet.
    met: Option<Met>,
    /// When it wakes up where it sleeps.
    nap: Nap,
    /// The datagram that is being handled had a stamp.
    arrival_stamped: bool,
    /// Something was handed over since the last flush.
    unflushed: bool,
    /// What is to be sent next answers, or is, the only datagram of its turn.
    alone: bool,
    /// How many datagrams lie in a ring that are not counted as sent.
    uncounted: u64,
    /// Part of a flood was sent since the loop last looked at what came in.
    loaded: bool,
    /// What had been used when the session began.
    usage_before: Usage,
    /// Whose session that was, or is.
    usage_of: Option<SocketAddrV4>,
    /// What a peer was told when its session was over.
    usage_told: Option<(SocketAddrV4, Usage)>,
    /// When it was first seen that the user wants the statistics so far.
    asked_since: Option<Time<Monotonic>>,
    /// When it looks whether the interface is still there.
    glances: Glances,
    /// When this loop is to sleep, where its thread has a real-time priority: others may have no CPU but this one's.
    rests: Option<Rests>,
}

impl<'a, M: Machine, P: Path, A: Attendant<M, P>> HotLoop<'a, M, P, A> {
    /// Everything is allocated here.
    pub fn new(
        machine: &'a mut M,
        path: &'a mut P,
        recorder: &'a mut Recorder,
        attendant: &'a mut A,
        interrupt: &'a mut Interrupt,
        rules: StampRules,
    ) -> Self {
        let late_stamps = path.late_stamps();
        let outstanding = Outstanding::new(late_stamps, rules.patience);
        let turnarounds = Turnarounds::new(rules.sources);
        let watches = !path.polls_driver();
        Self {
            machine,
            path,
            recorder,
            attendant,
            interrupt,
            rules,
            round_trips: RoundTrips::new(),
            punctuality: Punctuality::new(),
            watches,
            stamps: StampCounts::default(),
            outstanding,
            turnarounds,
            in_band: false,
            ping: (realtime_now(), None),
            batch: Batch::new(),
            late: Vec::with_capacity(BATCH),
            collects: late_stamps.any(),
            next_look: monotonic_now(),
            now: monotonic_now(),
            away: Away::new(),
            met: None,
            nap: Nap::new(),
            arrival_stamped: false,
            unflushed: false,
            alone: false,
            uncounted: 0,
            loaded: false,
            usage_before: Usage::default(),
            usage_of: None,
            usage_told: None,
            asked_since: None,
            glances: Glances::new(monotonic_now()),
            rests: None,
        }
    }

    /// For a thread with a real-time priority: the loop sleeps as much as the kernel's limit demands, at moments of its own choice
    /// (`probe/rests.rs`). And where the thread that writes has fallen half a ring behind, as every CPU that it may run on is taken
    /// by such threads, the loop sleeps until it has caught up, unless it hangs: pings are late rather than rows lost.
    #[must_use]
    pub fn resting(mut self, budget: &Budget) -> Self {
        self.rests = Some(Rests::within(budget, monotonic_now()));
        self
    }

    /// What the user should know of its rests, once it is over.
    pub fn remark(&self) -> Option<String> {
        self.rests.as_ref()?.remark()
    }

    /// Runs until the machine is over.
    ///
    /// # Errors
    /// What the path or the attendant could not do.
    pub fn run(&mut self) -> anyhow::Result<()> {
        while let Err(error) = self.run_until_over() {
            let error = explained(error, self.path);
            let peer = self.machine.peer();
            self.break_down();
            self.go_on(error, peer)?;
        }
        Ok(())
    }

    /// What was measured until now is all there will be of the session.
    #[cold]
    fn break_down(&mut self) {
        // What has come is still taken; what has broken may keep it from being so.
        let _ = self.collect();
        self.give_up_all();
        self.note_met();
        // What was still to be done counts as done in the machine.
        while let Some(action) = self.machine.poll_action() {
            self.machine.handle_unsent(&action);
        }
        self.path.count_unsent(std::mem::take(&mut self.uncounted));
        let (scene, attendant) = self.scene();
        attendant.broken(scene);
    }

    /// Waits for the next session, where the machine does and the last one, with `peer`, was all that has broken.
    #[cold]
    fn go_on(&mut self, error: anyhow::Error, peer: Option<SocketAddrV4>) -> anyhow::Result<()> {
        let is_unreachable = error.downcast_ref().is_some_and(path::is_unreachable);
        if !is_unreachable || !self.machine.break_session(monotonic_now()) {
            return Err(error);
        }
        self.path.release();
        self.path.forget_unsent().map_err(|again| explained(again.context(format!("{error:#}")), self.path))?;
        self.turnarounds.clear();
        (self.unflushed, self.alone) = (false, false);
        let over = peer.map_or_else(String::new, |peer| format!("the session with {peer} is broken off: "));
        eprintln!("xdprobe: {error:#}: {over}the next client is waited for");
        Ok(())
    }

    fn run_until_over(&mut self) -> anyhow::Result<()> {
        self.now = monotonic_now();
        self.act(None)?;
        while !self.machine.is_over() {
            let before = self.now;
            let mut received = self.receive()?;
            // Before anything of our own: somebody's round trip waits for it.
            self.flush_now()?;
            self.now = monotonic_now();
            if self.now.duration_since(before) >= STALL {
                received |= self.catch_up(before)?;
            }
            let away = if self.watches { self.away.look(self.now) } else { 0 };
            if away > 0 {
                self.punctuality.was_away(away);
            }
            let pinged = self.meet_deadlines(self.now, away)?;
            if !self.outstanding.is_empty() {
                self.look()?;
            }
            // One that came as the session ended is for whoever would begin the next.
            if !self.machine.is_over() && self.interrupt.take() {
                self.away.occupied();
                self.machine.handle_stop(monotonic_now());
                self.act(None)?;
            }
            let idle = !received && !pinged;
            self.glance(idle)?;
            if self.interrupt.is_asked() {
                self.report_so_far(idle);
            }
            self.tell_counts(false);
            if self.rests.is_some() {
                self.rest(received)?;
            }
            if self.unflushed {
                self.flush_now()?;
            } else if idle && self.may_sleep() {
                if self.collects {
                    // Also what nobody waits for any more: it would make the descriptor readable for ever.
                    self.collect()?;
                }
                // After the last stamps were taken in: until it wakes this is how things stand.
                self.tell_counts(true);
                let end = self.glances.before(self.nap.end(self.deadline(), self.now));
                self.away.occupied();
                let woken = self.interrupt.until(end, self.now)?;
                self.path.wait(None, woken)?;
                self.now = monotonic_now();
                self.nap.woken(self.now);
                if let Some(rests) = &mut self.rests {
                    rests.rested(self.now);
                }
            } else if idle {
                std::hint::spin_loop();
            }
        }
        // The last answer may still lie in the ring.
        self.path.flush()?;
        Ok(())
    }

    /// The turn took long, as whatever stopped the loop does: what was handed over in it may have come only now, and more may have
    /// come behind it. Nobody is missed for that.
    #[cold]
    fn catch_up(&mut self, before: Time<Monotonic>) -> anyhow::Result<bool> {
        self.machine.handle_stall(before, self.now);
        let received = self.receive()?;
        self.flush_now()?;
        Ok(received)
    }

    /// Looks whether the interface is still there, where that is due.
    #[inline]
    fn glance(&mut self, idle: bool) -> anyhow::Result<()> {
        if self.glances.is_due(idle, self.now, || self.machine.peer().is_some()) {
            self.away.occupied();
            self.path.check_interface()?;
        }
        Ok(())
    }

    /// Whether nothing is so near that the loop has to stay awake.
    fn may_sleep(&mut self) -> bool {
        let sleeps = self.machine.timer() == TimerKind::Sleep && !self.machine.is_over();
        sleeps && self.nap.end(self.deadline(), self.now).is_none_or(|end| self.now < end)
    }

    /// When something is due next.
    fn deadline(&self) -> Option<Time<Monotonic>> {
        [self.machine.deadline(), self.outstanding.deadline()].into_iter().flatten().min()
    }

    /// Leaves the CPU to others where that is due.
    fn rest(&mut self, received: bool) -> anyhow::Result<()> {
        let Some(rests) = &mut self.rests else { return Ok(()) };
        if let Some(rest) = rests.due(self.now, received, self.machine.deadline(), self.recorder.crowded()) {
            // What waits to leave does not wait for that.
            self.flush_now()?;
            self.away.occupied();
            std::thread::sleep(rest);
            self.now = monotonic_now();
            if let Some(rests) = &mut self.rests {
                rests.rested(self.now);
            }
        }
        Ok(())
    }

    /// Takes in what has come; whether anything had.
    fn receive(&mut self) -> anyhow::Result<bool> {
        self.path.receive(&mut self.batch)?;
        self.away.received(&self.batch);
        if self.batch.is_empty() {
            return Ok(false);
        }
        let batch = self.batch.lend();
        let taken = self.take_in(&batch);
        self.batch.give_back(batch);
        taken?;
        Ok(true)
    }

    fn take_in(&mut self, batch: &Batch) -> anyhow::Result<()> {
        // The clock was read less than a turn ago: a look at it would be in somebody's round trip.
        let now = self.now;
        // A lone ping is answered before anything is noted of it; many are with one wake-up.
        self.alone = batch.len() == 1;
        for (received, said) in batch.iter() {
            let incoming = self.incoming(received, said);
            let point = self.machine.handle_datagram(now, &incoming);
            self.act(Some(Arrival { received, said, point }))?;
        }
        self.alone = false;
        Ok(())
    }

    /// Notes what came in. After the answer has left where it can be, but before anything is noted of that.
    fn note(&mut self, arrival: &Arrival) {
        let &Arrival { received, said, point } = arrival;
        let sighting = self.sighting(received, point.unwrap_or(Point::T1));
        let stamp = sighting.stamp(self.rules.sources.received);
        // As of datagrams sent: a control message is asked for the process's stamp only, as it makes no row; one that the
        // card is to leave alone for none.
        let wanted = (point.is_some() && received.shape != Shape::Unstamped)
            || self.rules.sources.received == Source::Application;
        self.arrival_stamped = wanted && stamp.is_some();
        self.stamps.rx += u64::from(self.arrival_stamped);
        self.stamps.rx_missed += u64::from(wanted && stamp.is_none());
        self.stamps.implausible += u64::from(received.stamps.hardware.is_some() && sighting.hardware.is_none());
        if let Some(point) = point {
            self.recorder.seen(&sighting);
            if point == Point::T3 {
                self.answered(received, said, stamp);
            }
            self.ping = (received.stamps.application, stamp);
        }
    }

    /// A pong was received.
    fn answered(&mut self, received: &Received, said: Option<&Said>, t3: Option<Stamp>) {
        let sequence = received.message.sequence;
        let answer = self.round_trips.answered(sequence, t3);
        // At most one of the two calls makes a round trip whole.
        let mut rtt_ns = self.round_trips.take_rtt();
        if self.in_band
            && let Some(Said::InBand(told)) = said
        {
            self.round_trips.told(sequence, answer, told);
            rtt_ns = rtt_ns.or_else(|| self.round_trips.take_rtt());
        }
        let t3_t0_ns = match answer {
            Answer::First(nanos) => nanos,
            Answer::Duplicate => {
                self.machine.handle_repeated_pong();
                None
            }
            Answer::Unknown => None,
        };
        self.tell_round_trip(t3_t0_ns, rtt_ns);
    }

    /// Hands over what has become known of a round trip, if anything.
    #[inline]
    fn tell_round_trip(&mut self, t3_t0_ns: Option<i64>, rtt_ns: Option<i64>) {
        if t3_t0_ns.is_some() || rtt_ns.is_some() {
            self.attendant.round_trip(Sample { t3_t0_ns, rtt_ns });
        }
    }

    /// What the session has to know of a datagram: of a SYN that wants more than datagrams also what the path has got ready.
    fn incoming(&mut self, received: &Received, said: Option<&Said>) -> Incoming {
        let mut incoming = path::incoming(received, said);
        if let Some(Said::Settings(settings, Some(Extension { in_band: true, .. }))) = said
            && settings.direction == Direction::Reverse.to_raw()
            && self.machine.peer().is_none()
        {
            // Before the answer: pongs may come soon after it.
            self.round_trips.reserve_in_band();
        }
        if incoming.settings.is_some()
            && let Some(wanted) = self.machine.wants(self.now, &incoming)
        {
            incoming.granted = self.prepare(received.from, wanted);
        }
        incoming
    }

    /// No session stands: there is time.
    #[cold]
    fn prepare(&mut self, peer: SocketAddrV4, wanted: Extension) -> Option<Extension> {
        let granted = self.path.prepare(peer, wanted);
        granted.inspect_err(|error| eprintln!("xdprobe: what {peer} asks for cannot be had: {error}")).ok()
    }

    /// A received datagram with what its stamps are worth.
    fn sighting(&self, received: &Received, point: Point) -> Sighting {
        let stamps = &received.stamps;
        let board = &self.rules.board;
        Sighting {
            sequence: received.message.sequence,
            point,
            size: received.ip_len,
            queue: received.queue,
            application: stamps.application,
            software: stamps.software.or_else(|| stamps.hook.map(|hook| board.tai_to_realtime(hook))),
            hardware: stamps.hardware.filter(|stamp| board.is_plausible_phc(*stamp, stamps.application)),
        }
    }

    /// Collects transmit stamps where nothing more urgent is at hand; gives up those that were waited for too long.
    fn look(&mut self) -> anyhow::Result<()> {
        let due = self.machine.deadline().is_some_and(|due| due < self.now.plus_nanos(LOOK_NANOS));
        // None is given up while its stamp may lie in the queue.
        let overdue = self.outstanding.deadline().is_some_and(|deadline| deadline <= self.now);
        if (due || self.now < self.next_look) && self.outstanding.len() < CROWD && !overdue {
            return Ok(());
        }
        self.collect()?;
        if self.late.is_empty() {
            self.next_look = self.now.plus_nanos(LOOK_PAUSE_NANOS);
        }
        Ok(())
    }

    /// Joins all transmit stamps that have come to their datagrams, and gives up those that were waited for too long.
    fn collect(&mut self) -> anyhow::Result<()> {
        self.away.occupied();
        loop {
            self.path.collect(&mut self.late)?;
            self.take_late();
            if self.late.len() < BATCH {
                break;
            }
        }
        self.give_up();
        Ok(())
    }

    fn take_late(&mut self) {
        for at in 0..self.late.len() {
            let late = self.late[at];
            if let Stamp::Card(stamp) = late.stamp
                && !self.rules.board.is_plausible_phc(stamp, realtime_now())
            {
                self.stamps.implausible += 1;
                continue;
            }
            match self.outstanding.join(late) {
                Joined::Whole(sighting) => self.settle(&sighting),
                Joined::Part => {}
                Joined::Duplicate => self.stamps.tx_duplicates += 1,
                Joined::Late => self.stamps.tx_late += 1,
            }
        }
    }

    fn give_up(&mut self) {
        while let Some(sighting) = self.outstanding.give_up(self.now) {
            self.settle(&sighting);
        }
    }

    /// All that will ever be known of a datagram sent is known.
    fn settle(&mut self, sighting: &Sighting) {
        let stamp = sighting.stamp(self.rules.sources.sent);
        if self.in_band && sighting.point == Point::T2 {
            self.turnarounds.left(sighting, stamp, &mut self.stamps);
        }
        match stamp {
            Some(stamp) => {
                self.stamps.tx += 1;
                if sighting.point == Point::T0 {
                    let t3_t0_ns = self.round_trips.left(sighting.sequence, stamp);
                    let rtt_ns = self.round_trips.take_rtt();
                    self.tell_round_trip(t3_t0_ns, rtt_ns);
                }
            }
            None => self.stamps.tx_missed += 1,
        }
        self.recorder.seen(sighting);
        self.machine.handle_transmit_stamp(sighting.sequence);
    }

    /// Says how things stand where somebody wants to know.
    #[inline]
    fn tell_counts(&mut self, sleeps: bool) {
        if self.attendant.wants_counts(sleeps) {
            self.away.occupied();
            let (scene, attendant) = self.scene();
            attendant.counts(scene);
        }
    }

    /// Has the statistics so far put together as soon as nobody waits for the loop.
    #[cold]
    fn report_so_far(&mut self, idle: bool) {
        let since = *self.asked_since.get_or_insert(self.now);
        let due = self.machine.deadline().is_some_and(|due| due < self.now.plus_nanos(REPORT_NANOS));
        if (!idle || due) && self.now.duration_since(since) < REPORT_PATIENCE {
            return;
        }
        self.away.occupied();
        let (scene, attendant) = self.scene();
        if attendant.so_far(scene) {
            self.asked_since = None;
            self.interrupt.take_question();
        }
    }

    /// Waits for the last stamps: once the statistics are out nobody asks for them, and a driver may not take kindly to a
    /// socket that is closed while they are on their way.
    #[cold]
    fn drain(&mut self) -> anyhow::Result<()> {
        loop {
            self.now = monotonic_now();
            self.collect()?;
            if self.outstanding.is_empty() {
                return Ok(());
            }
            if self.interrupt.is_pending() {
                self.give_up_all();
                return Ok(());
            }
            std::thread::sleep(DRAIN_PAUSE);
        }
    }

    /// Nobody will bring stamps any more.
    #[cold]
    fn give_up_all(&mut self) {
        let end = monotonic_now().plus(self.rules.patience);
        while let Some(sighting) = self.outstanding.give_up(end) {
            self.settle(&sighting);
        }
    }

    /// Does what is due, up to a burst of pings or one batch of a flood; whether anything was. For `away` ns before `now` the core
    /// was away, or 0.
    fn meet_deadlines(&mut self, now: Time<Monotonic>, away: u64) -> anyhow::Result<bool> {
        self.loaded = false;
        for met in 0..BURST {
            if self.machine.deadline().is_none_or(|deadline| now < deadline) {
                return Ok(met > 0);
            }
            self.away.occupied();
            let before = moments(self.machine.totals());
            self.machine.handle_deadline(now);
            let after = moments(self.machine.totals());
            let lateness = self.machine.totals().last_lateness_nanos;
            self.met = (after != before).then(|| {
                let [pings, skipped] = [0, 1].map(|at| after[at].saturating_sub(before[at]));
                Met { lateness: (pings > 0).then_some(lateness), skipped, away }
            });
            self.alone = self.machine.deadline().is_none_or(|next| now < next);
            self.act(None)?;
            self.alone = false;
            // The ping has left: now there is time.
            self.note_met();
            if self.loaded {
                break;
            }
        }
        Ok(true)
    }

    /// Notes the planned moment that was met last, once.
    #[inline]
    fn note_met(&mut self) {
        if let Some(Met { lateness, skipped, away }) = self.met.take() {
            self.punctuality.met(lateness, skipped, away);
        }
    }

    /// Obeys the machine. What came in and made it act, if anything did, is noted.
    fn act(&mut self, mut arrival: Option<Arrival>) -> anyhow::Result<()> {
        while let Some(action) = self.machine.poll_action() {
            match action {
                Action::Send(outgoing) => self.send(outgoing, &mut arrival)?,
                Action::Dummies { to, count } => self.send_dummies(to, count)?,
                Action::Load { to, count, ip_len } => {
                    let sent = self.path.send_load(to, count, ip_len).inspect_err(|_| {
                        self.machine.handle_unsent(&action);
                    })?;
                    if sent < count {
                        self.machine.handle_refused_load(count - sent);
                    }
                    (self.unflushed, self.loaded) = (true, true);
                }
                Action::Tell(event) => {
                    self.note_once(&mut arrival);
                    self.tell(event)?;
                }
            }
        }
        self.note_once(&mut arrival);
        Ok(())
    }

    fn send(&mut self, mut outgoing: Outgoing, arrival: &mut Option<Arrival>) -> anyhow::Result<()> {
        match &mut outgoing.body {
            Body::Account(account) => self.complete(outgoing.to, account),
            Body::Settings(settings, Some(Extension { in_band: true, .. }))
                if settings.direction == Direction::Forward.to_raw() =>
            {
                // Before the first ping, which follows the answer at once.
                self.round_trips.reserve_in_band();
            }
            Body::InBand { told, .. } => {
                // The pong says what is noted of its ping.
                self.note_once(arrival);
                *told = self.turnarounds.tell(self.ping.0, &mut self.stamps);
            }
            _ => {}
        }
        let sent = match self.path.send(&outgoing) {
            Ok(sent) => sent,
            Err(error) => {
                self.unsent(outgoing);
                // An answer to a stranger that cannot be sent is the stranger's loss, not the session's.
                if self.machine.peer() != Some(outgoing.to) {
                    return Ok(());
                }
                self.note_once(arrival);
                return Err(error.into());
            }
        };
        self.unflushed = true;
        let flushed = if self.alone { self.flush_now() } else { Ok(()) };
        self.note_once(arrival);
        match flushed {
            // It was the last in the ring, and stays there.
            Err(error) if sent.queue.is_some() => {
                self.unsent(outgoing);
                self.uncounted = 1;
                Err(error.into())
            }
            flushed => {
                self.sent(&outgoing, sent);
                Ok(flushed?)
            }
        }
    }

    /// It is not counted; a ping has met no planned moment.
    #[cold]
    fn unsent(&mut self, outgoing: Outgoing) {
        self.machine.handle_unsent(&Action::Send(outgoing));
        if let (Some(met), Kind::Ping) = (&mut self.met, outgoing.message.kind) {
            met.lateness = None;
        }
    }

    /// One by one, so that it is known how many did not leave.
    fn send_dummies(&mut self, to: SocketAddrV4, count: u32) -> io::Result<()> {
        for sent in 0..count {
            self.path.send_dummy(to).inspect_err(|_| {
                self.machine.handle_unsent(&Action::Dummies { to, count: count - sent });
            })?;
            self.unflushed = true;
        }
        Ok(())
    }

    #[inline]
    fn note_once(&mut self, arrival: &mut Option<Arrival>) {
        if let Some(arrival) = arrival.take() {
            self.note(&arrival);
        }
    }

    /// Adds to an account what the session cannot know. Repeated, it says the same again, unless two other sessions ended
    /// since: then nobody knows any more.
    #[cold]
    fn complete(&mut self, to: SocketAddrV4, account: &mut Account) {
        let usage = match self.usage_told {
            Some((peer, usage)) if peer == to => usage,
            _ if self.usage_of == Some(to) => {
                let usage = Usage::now(self.path).since(&self.usage_before);
                self.usage_told = Some((to, usage));
                usage
            }
            _ => Usage::default(),
        };
        (account.cpu_ns, account.dropped) = (usage.cpu_ns, usage.dropped);
    }

    /// Notes what was sent, and waits for its stamps where some are to come.
    fn sent(&mut self, outgoing: &Outgoing, sent: Sent) {
        let Some(point) = outgoing.point else {
            // A control message: where the process stamps, it is stamped like any other.
            if self.rules.sources.sent == Source::Application {
                self.stamps.tx_requested += 1;
                self.stamps.tx += 1;
            }
            return;
        };
        let sequence = outgoing.message.sequence;
        if point == Point::T0 {
            self.round_trips.sent(sequence);
        }
        let Sent { application, queue, token } = sent;
        if self.in_band && point == Point::T2 {
            self.turnarounds.sent(sequence, self.ping.1, application, &mut self.stamps);
        }
        let size = outgoing.ip_len();
        let sighting = Sighting { sequence, point, size, queue, application, software: None, hardware: None };
        if outgoing.shape == Shape::Unstamped && token.is_none() {
            // The card was to leave it alone: nothing is missed, and what stamps it has are in the log of stages.
            return self.recorder.seen(&sighting);
        }
        self.stamps.tx_requested += 1;
        match token {
            None => self.settle(&sighting),
            Some(token) => {
                while let Some(evicted) = self.outstanding.make_room(token) {
                    self.settle(&evicted);
                }
                // The loop may have been away since it last looked at the clock.
                self.outstanding.sent(monotonic_now(), token, sighting);
            }
        }
    }

    #[cold]
    fn tell(&mut self, event: Event) -> anyhow::Result<()> {
        // The peer must not wait for what the attendant has to print.
        self.flush_now()?;
        // Of a session that ends with it, it is in its statistics.
        self.note_met();
        self.away.occupied();
        if let Event::Connected { peer, settings } = event {
            self.in_band = settings.in_band;
            self.punctuality.begin(self.watches && self.machine.session_timer() == TimerKind::Busy);
            // Who pongs is told nothing.
            self.round_trips.expect_in_band(self.in_band && self.machine.totals().measures_loss);
            // What still comes of the session before must not count as this one's.
            self.collect()?;
            self.usage_before = Usage::now(self.path);
            self.usage_of = Some(peer);
            self.usage_told.take_if(|(told, _)| *told == peer);
        }
        if matches!(event, Event::Finished(_)) {
            self.drain()?;
            audit(self.path);
        }
        let (scene, attendant) = self.scene();
        match event {
            Event::Connected { .. } => attendant.connected(scene, event),
            Event::Finished(end) => {
                let said = attendant.finished(scene, end);
                self.turnarounds.clear();
                // Only now: what the path is depends on what serves the session.
                self.path.release();
                said
            }
            other => {
                scene.recorder.notice(other);
                Ok(())
            }
        }
    }

    fn scene(&mut self) -> (Scene<'_, M, P>, &mut A) {
        let scene = Scene {
            machine: &*self.machine,
            path: &*self.path,
            recorder: self.recorder,
            round_trips: &mut self.round_trips,
            punctuality: &self.punctuality,
            stamps: &mut self.stamps,
            arrival_stamped: self.arrival_stamped,
        };
        (scene, self.attendant)
    }

    fn flush_now(&mut self) -> io::Result<()> {
        if self.unflushed {
            self.away.occupied();
            self.unflushed = self.path.flush()?;
        }
        Ok(())
    }
}

/// Of the plan's moments those that had a ping, and those that passed without one.
#[inline]
const fn moments(totals: &Totals) -> [u64; 2] {
    [totals.planned_pings, totals.skipped_slots]
}

/// Says so where the path has lost some of its memory: it would run dry one day.
#[cold]
pub(super) fn audit<P: Path>(path: &mut P) {
    let missing = path.missing_frames();
    if missing != 0 {
        eprintln!(
            "xdprobe: {missing} frames of the memory shared with the kernel are neither free nor in a ring nor on their way: \
             they are lost until xdprobe is started anew; please report it with the meta file"
        );
    }
}

#[cfg(test)]
mod tests;
