//! The hot loop: one thread that receives, answers, pings and records.
//!
//! It does not allocate, lock, format or touch a file while a session lasts: rows and notices go through a ring to the
//! recorder's thread. It knows no sockets; what gets out and in is a [`Path`], who says what is a [`Machine`].

use super::interrupt::Interrupt;
use crate::clock::{Monotonic, Stamp, Time, monotonic_now};
use crate::path::{Batch, Path};
use crate::record::{Recorder, RoundTrips, Sighting, StampCounts};
use crate::session::{Action, End, Event, Machine, TimerKind};
use crate::wire::Point;
use std::io;

/// How many pings may leave before the loop looks at what came in: as many as one wake-up of a copying driver sends.
const BURST: usize = 32;

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
    /// Stamps taken since the session began.
    pub stamps: &'a mut StampCounts,
}

/// What the loop hands to its owner: the events at which it may take its time.
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
}

/// All that the loop works with.
pub struct HotLoop<'a, M, P, A> {
    machine: &'a mut M,
    path: &'a mut P,
    recorder: &'a mut Recorder,
    attendant: &'a mut A,
    interrupt: &'a mut Interrupt,
    round_trips: RoundTrips,
    stamps: StampCounts,
    batch: Batch,
    /// Something was handed over since the last flush.
    unflushed: bool,
}

impl<'a, M: Machine, P: Path, A: Attendant<M, P>> HotLoop<'a, M, P, A> {
    /// Everything is allocated here.
    pub fn new(
        machine: &'a mut M,
        path: &'a mut P,
        recorder: &'a mut Recorder,
        attendant: &'a mut A,
        interrupt: &'a mut Interrupt,
    ) -> Self {
        Self {
            machine,
            path,
            recorder,
            attendant,
            interrupt,
            round_trips: RoundTrips::new(),
            stamps: StampCounts::default(),
            batch: Batch::new(),
            unflushed: false,
        }
    }

    /// Runs until the machine is over.
    ///
    /// # Errors
    /// What the path or the attendant could not do.
    pub fn run(&mut self) -> anyhow::Result<()> {
        let ran = self.run_until_over();
        if ran.is_err() {
            let (scene, attendant) = self.scene();
            attendant.broken(scene);
        }
        ran
    }

    fn run_until_over(&mut self) -> anyhow::Result<()> {
        self.act()?;
        while !self.machine.is_over() {
            let received = self.receive()?;
            // Before anything of our own: somebody's round trip waits for it.
            self.flush_now()?;
            let pinged = self.meet_deadlines(monotonic_now())?;
            if self.interrupt.take() {
                self.machine.handle_stop(monotonic_now());
                self.act()?;
            }
            let idle = !received && !pinged;
            if self.unflushed {
                self.flush_now()?;
            } else if idle && self.machine.timer() == TimerKind::Sleep && !self.machine.is_over() {
                let woken = self.interrupt.until(self.machine.deadline())?;
                self.path.wait(None, woken)?;
            } else if idle {
                std::hint::spin_loop();
            }
        }
        // The last answer may still lie in the ring.
        self.path.flush()?;
        Ok(())
    }

    /// Takes in what has come; whether anything had.
    fn receive(&mut self) -> anyhow::Result<bool> {
        self.path.receive(&mut self.batch)?;
        if self.batch.datagrams.is_empty() {
            return Ok(false);
        }
        let now = monotonic_now();
        for at in 0..self.batch.datagrams.len() {
            let received = self.batch.datagrams[at];
            let message = received.message;
            self.stamps.rx += 1;
            let stamp = received.stamps.application;
            let point = self.machine.handle_datagram(now, &received.incoming());
            if let Some(point) = point {
                self.recorder.seen(&Sighting {
                    sequence: message.sequence,
                    point,
                    size: received.ip_len,
                    queue: received.queue,
                    application: stamp,
                    software: received.stamps.software,
                    hardware: received.stamps.hardware,
                });
                if point == Point::T3 {
                    self.round_trips.answered(message.sequence, Some(Stamp::System(stamp)));
                }
            }
            self.act()?;
        }
        Ok(true)
    }

    /// Does what is due, up to a burst of pings; whether anything was.
    fn meet_deadlines(&mut self, now: Time<Monotonic>) -> anyhow::Result<bool> {
        for met in 0..BURST {
            if self.machine.deadline().is_none_or(|deadline| now < deadline) {
                return Ok(met > 0);
            }
            self.machine.handle_deadline(now);
            self.act()?;
        }
        Ok(true)
    }

    /// Obeys the machine.
    fn act(&mut self) -> anyhow::Result<()> {
        while let Some(action) = self.machine.poll_action() {
            match action {
                Action::Send(outgoing) => {
                    let sent = match self.path.send(&outgoing) {
                        Ok(sent) => sent,
                        Err(error) if self.machine.peer() == Some(outgoing.to) => return Err(error.into()),
                        // An answer to a stranger that cannot be sent is the stranger's loss, not the session's.
                        Err(_) => continue,
                    };
                    self.unflushed = true;
                    self.stamps.tx_requested += 1;
                    self.stamps.tx += 1;
                    let sequence = outgoing.message.sequence;
                    if let Some(point) = outgoing.point {
                        self.recorder.seen(&Sighting {
                            sequence,
                            point,
                            size: outgoing.ip_len(),
                            queue: sent.queue,
                            application: sent.application,
                            software: None,
                            hardware: None,
                        });
                    }
                    if outgoing.point == Some(Point::T0) {
                        self.round_trips.sent(sequence);
                        self.round_trips.left(sequence, Stamp::System(sent.application));
                    }
                }
                Action::Dummies { to, count } => {
                    self.path.send_dummies(to, count)?;
                    self.unflushed = true;
                }
                Action::Tell(event) => self.tell(event)?,
            }
        }
        Ok(())
    }

    #[cold]
    fn tell(&mut self, event: Event) -> anyhow::Result<()> {
        // The peer must not wait for what the attendant has to print.
        self.flush_now()?;
        let (scene, attendant) = self.scene();
        match event {
            Event::Connected { .. } => attendant.connected(scene, event),
            Event::Finished(end) => attendant.finished(scene, end),
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
            stamps: &mut self.stamps,
        };
        (scene, self.attendant)
    }

    fn flush_now(&mut self) -> io::Result<()> {
        if self.unflushed {
            self.unflushed = self.path.flush()?;
        }
        Ok(())
    }
}
