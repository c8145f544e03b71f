//! What is said and written around a session: who connected, how it ended, its statistics, the meta file.

use super::hot::{Attendant, Scene, StampCounts};
use crate::path::{Counters, Path};
use crate::record::{Finished, Role, Summary, SummaryInput, counters_since};
use crate::session::{End, Event, Machine, Settings};
use anyhow::Result;
use std::net::SocketAddrV4;

/// Speaks for one side, from its first session to its last.
#[derive(Debug)]
pub struct Reporter {
    role: Role,
    json: bool,
    /// A server that goes on after a session: only what is lost in the log makes it fail.
    keep: bool,
    logs: bool,
    session: Option<(SocketAddrV4, Settings)>,
    /// What path and log had counted when the last session ended.
    before: (Counters, Finished),
    succeeded: bool,
}

impl Reporter {
    /// A reporter before the first session.
    pub fn new(role: Role, json: bool, keep: bool, logs: bool) -> Self {
        let nothing = Finished { rows_written: 0, rows_lost: 0, error: None };
        Self { role, json, keep, logs, session: None, before: (Counters::default(), nothing), succeeded: true }
    }

    /// Whether the measurement did what was asked for.
    pub fn succeeded(&self) -> bool {
        self.succeeded
    }

    /// Prints the statistics of the session that stands, if any, and leaves them in the meta file.
    fn report<M: Machine, P: Path>(&mut self, scene: Scene<'_, M, P>, end: End) {
        let Some((peer, settings)) = self.session.take() else { return };
        let Scene { machine, path, recorder, round_trips, stamps } = scene;
        let log = recorder.sync();
        let counters = path.counters();
        let summary = Summary::new(SummaryInput {
            role: self.role,
            peer: Some(peer),
            settings: Some(&settings),
            totals: machine.totals(),
            end,
            round_trips: Some(round_trips),
            tx_stamps: stamps.tx,
            rx_stamps: stamps.rx,
            description: &path.description(),
            counters: counters_since(&self.before.0, &counters),
            log: self.logs.then(|| log.since(&self.before.1)).as_ref(),
        });
        if self.json {
            println!("{}", summary.to_json());
        } else {
            print!("{}", summary.to_text());
        }
        if let Err(sentence) = recorder.end_session(&summary) {
            eprintln!("xdprobe: {sentence}");
        }
        let lost = summary.rows_lost.unwrap_or(0) > 0 || summary.log_error.is_some();
        self.succeeded &= if self.keep { !lost } else { summary.success };
        // Here, where no peer waits, rather than when the next session begins.
        self.before = (counters, log);
        round_trips.clear();
        *stamps = StampCounts::default();
    }
}

impl<M: Machine, P: Path> Attendant<M, P> for Reporter {
    fn connected(&mut self, scene: Scene<'_, M, P>, event: Event) -> Result<()> {
        if let Event::Connected { peer, settings } = event {
            self.session = Some((peer, settings));
        }
        if self.role == Role::Server {
            // The SYN and the SYN-ACK are this session's; what came and went before them is nobody's.
            *scene.stamps = StampCounts { tx: 1, rx: 1 };
        }
        scene.recorder.begin_session();
        scene.recorder.notice(event);
        Ok(())
    }

    fn finished(&mut self, scene: Scene<'_, M, P>, end: End) -> Result<()> {
        scene.recorder.notice(Event::Finished(end));
        if self.session.is_none() {
            self.succeeded = self.keep;
        }
        self.report(scene, end);
        Ok(())
    }

    fn broken(&mut self, scene: Scene<'_, M, P>) {
        self.report(scene, End::Stopped);
        self.succeeded = false;
    }
}
