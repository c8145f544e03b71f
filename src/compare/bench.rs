//! Both paths, open at once, and rounds on them: each a session of its own with the server.

use super::Combination;
use crate::cli::{ComparePlan, PathKind, Plan, Role};
use crate::clock::Source;
use crate::live::Sample;
use crate::net::napi::Deferral;
use crate::path::{Description, Path};
use crate::probe::rounds::{Player, first_number, quiet_after};
use crate::probe::setup::{self, OpenPath};
use crate::probe::stamping::{self, Card, Clocks, StampPlan};
use crate::probe::usage::Usage;
use crate::probe::{Attendant, Interrupt, Scene, StampRules, block_questions, pin, warn};
use crate::record::{self, CardClock, Recorder, RecorderConfig, Stages, StampCounts, Voice, Watchers};
use crate::session::{End, Event, Machine, Pattern, Settings, Totals};
use crate::tune::cpu_latency::CpuLatency;
use crate::wire::{Account, ServePath};
use anyhow::{Context, Result, ensure};
use nix::sched::{sched_getaffinity, sched_setaffinity};
use nix::unistd::Pid;
use std::net::SocketAddrV4;
use std::sync::Arc;
use std::time::Duration;

/// The most samples of a round that are kept: 16 MiB. More are counted as left out.
const MOST_SAMPLES: usize = 1 << 21;
/// Rounds as fast as it goes have so many a second at most.
const FASTEST: u64 = 1_000_000;

/// What one round measured. Samples are in ascending order, in ns.
#[derive(Debug, Clone, Default)]
pub(super) struct Round {
    /// t3 − t0 of every ping that has both stamps; negative where a clock was stepped.
    pub(super) t3_t0: Vec<i64>,
    /// (t3 − t0) − (t2 − t1) of every ping of which the pong told the latter.
    pub(super) rtt: Vec<i64>,
    /// Of either, those that there was no room for.
    pub(super) left_out: u64,
    pub(super) totals: Totals,
    /// Pings that were answered.
    pub(super) answered: u64,
    /// Pongs that came more than once: the network repeats packets, or a ping of them had come twice.
    pub(super) duplicates: u64,
    pub(super) stamps: StampCounts,
    /// CPU time of this process.
    pub(super) cpu_ns: Option<u64>,
}

impl Round {
    /// What the server counted. It was asked for, and the FIN was answered.
    pub(super) const fn account(&self) -> Option<Account> {
        self.totals.account
    }
}

/// All rounds of a combination that count.
#[derive(Debug)]
pub(super) struct Rounds {
    pub(super) combination: Combination,
    pub(super) rounds: Vec<Round>,
    /// What lay between the stamps of this side's packets in them.
    pub(super) stages: Option<Stages>,
    /// This side's path.
    pub(super) description: Description,
    /// Whose stamps t0 and t3 are.
    pub(super) sources: [Source; 2],
}

/// How a round ended.
pub(super) enum Played {
    Round(Box<Round>),
    /// The user wants an end.
    Stopped,
    /// Why there is no such round, and what to do.
    Failed(String),
}

/// A path that is open, with what it was opened with.
struct Way {
    plan: Plan,
    stamps: StampPlan,
    path: OpenPath,
    /// How long nothing may come before its next round.
    quiet: Duration,
}

/// Both paths of this side.
pub(super) struct Bench {
    ways: [Way; 2],
    // Dropped after the paths: a driver that forgets what its card stamps when XDP goes must not have the last word.
    clocks: Clocks,
    deferral: Option<Deferral>,
    _awake: Option<CpuLatency>,
    interface: String,
    server: SocketAddrV4,
    settings: Settings,
    recorders: Vec<Recorder>,
    kept: Vec<Rounds>,
    newest_stages: Vec<Option<Stages>>,
    interrupt: Interrupt,
    /// The number of the next session.
    number: u64,
}

const fn place(path: ServePath) -> usize {
    match path {
        ServePath::Xdp => 0,
        ServePath::Kernel => 1,
    }
}

impl Bench {
    /// Opens both paths and all that they need.
    ///
    /// # Errors
    /// What cannot be had and what can be done. Nothing is left behind.
    pub(super) fn open(compare: &ComparePlan, combinations: &[Combination]) -> Result<Self> {
        let plans = [PathKind::Xdp, PathKind::Kernel].map(|path| Plan { path, ..compare.client.clone() });
        let [xdp, kernel] = &plans;
        warn(&xdp.warnings);
        let Role::Client { host, .. } = &xdp.role else { unreachable!("its command line is a client's") };
        let (interface, address) = setup::interface(xdp)?;
        let server = setup::server(host, xdp.port)?;
        let mut stamps = [stamping::plan(xdp, &interface)?, stamping::plan(kernel, &interface)?];
        check_alike(&stamps)?;
        let [of_xdp, of_kernel] = &stamps;
        let mut settings = setup::settings(xdp, of_xdp, &[])?;
        setup::check_sizes(xdp, &interface, settings.as_ref(), &[])?;
        warn(&setup::check_tuning(xdp, &interface)?);
        let awake = xdp.tuning.cpu_latency_us.map(CpuLatency::hold).transpose()?;
        let anywhere = sched_getaffinity(Pid::from_raw(0)).context("cannot read the CPU affinity")?;
        pin(xdp)?;
        // Declared before the paths, so that it is dropped after them where opening fails, too.
        let clocks;
        let mut found = stamping::present(xdp, of_xdp, &interface)?;
        let interrupt = Interrupt::catch().context("cannot catch SIGINT, SIGTERM, SIGQUIT and SIGHUP")?;
        interrupt.set_deadly(true);
        let open = |plan, stamps| setup::open(plan, &interface, address, Some(server), stamps, &interrupt);
        // First that which changes nothing on the interface.
        let kernel_path = open(kernel, of_kernel)?;
        let xdp_path = open(xdp, of_xdp)?;
        sched_setaffinity(Pid::from_raw(0), &anywhere).context("cannot set the CPU affinity")?;
        interrupt.set_deadly(false);
        let deferral = setup::defer_interrupts(xdp, &interface)?;
        let card = of_xdp.card.map(|(_, phc)| Arc::new(Card::new(phc)));
        let recorder = |combination: &Combination| {
            Recorder::start(RecorderConfig {
                log: None,
                log_stages: None,
                // What it says is for stderr: stdout has the result.
                voice: Voice { role: record::Role::Client, json: true },
                sources: stamps[place(combination.client)].sources,
                card: card.clone().map(|card| card as Arc<dyn CardClock>),
                is_stopped: &|| interrupt.is_pending(),
                watchers: Watchers::default(),
            })
        };
        let recorders = combinations.iter().map(recorder).collect::<Result<Vec<_>, _>>()?;
        block_questions()?;
        clocks = match Clocks::start(&stamps[0], &interface, &mut found, card.as_deref()) {
            Err(error) if stamping::is_all_refused(&stamps[0], &error) => {
                stamps =
                    [stamping::plan_without_all(xdp, &interface)?, stamping::plan_without_all(kernel, &interface)?];
                check_alike(&stamps)?;
                settings = setup::settings(xdp, &stamps[0], &[])?;
                setup::check_sizes(xdp, &interface, settings.as_ref(), &[])?;
                Clocks::start(&stamps[0], &interface, &mut found, card.as_deref())?
            }
            started => started?,
        };
        pin(xdp)?;
        let settings = settings.expect("a client has settings");
        let [xdp, kernel] = plans;
        let [of_xdp, of_kernel] = stamps;
        let ways = [
            Way { plan: xdp, stamps: of_xdp, path: xdp_path, quiet: Duration::ZERO },
            Way { plan: kernel, stamps: of_kernel, path: kernel_path, quiet: Duration::ZERO },
        ];
        let kept = combinations.iter().map(|&combination| {
            let way = &ways[place(combination.client)];
            let description = way.path.description();
            let sources = [way.stamps.sources.sent, way.stamps.sources.received];
            Rounds { combination, rounds: Vec::new(), stages: None, description, sources }
        });
        let kept = kept.collect();
        Ok(Self {
            ways,
            clocks,
            deferral,
            _awake: awake,
            interface: interface.name,
            server,
            settings,
            newest_stages: vec![None; recorders.len()],
            recorders,
            kept,
            interrupt,
            number: first_number(),
        })
    }

    /// The server, as it was found.
    pub(super) const fn server(&self) -> SocketAddrV4 {
        self.server
    }

    /// What each round asks for, but for the server's path.
    pub(super) const fn settings(&self) -> &Settings {
        &self.settings
    }

    /// Plays one round of a combination. `cycle` is how many rounds it has had.
    ///
    /// # Errors
    /// What broke on this side.
    pub(super) fn play(&mut self, at: usize, cycle: usize) -> Result<Played> {
        if self.interrupt.is_pending() {
            return Ok(Played::Stopped);
        }
        let combination = self.kept[at].combination;
        let Way { plan, stamps, path, quiet } = &mut self.ways[place(combination.client)];
        self.number += 1;
        let settings = Settings { serve_on: Some(combination.server), account: true, ..self.settings };
        let player = Player {
            plan,
            server: self.server,
            settings,
            pattern: Pattern::default(),
            number: self.number,
            quiet: *quiet,
            rules: StampRules { sources: stamps.sources, patience: plan.stamp_timeout, board: self.clocks.board() },
            recorder: &mut self.recorders[at],
            interrupt: &mut self.interrupt,
        };
        // The first one that counts begins the statistics of stages anew; the later ones add to them.
        let mut watch = Watch::new(&settings, cycle <= 1);
        match path {
            OpenPath::Xdp(path, _) => play(player, &mut **path, &mut watch)?,
            OpenPath::Kernel(path) => play(player, &mut **path, &mut watch)?,
        }
        let (end, round, stages) = watch.outcome.take().context("a round ended without a word: this is a bug")?;
        *quiet = quiet_after(end, round.totals.pongs_expected.saturating_sub(round.answered));
        self.newest_stages[at] = stages;
        Ok(match end {
            End::Complete => Played::Round(Box::new(round)),
            End::Stopped | End::StoppedConnecting => Played::Stopped,
            end => Played::Failed(failure(end, combination, cycle, self.server)),
        })
    }

    /// These rounds, one of each combination, count.
    pub(super) fn keep(&mut self, played: Vec<(usize, Box<Round>)>) {
        for (at, round) in played {
            self.kept[at].rounds.push(*round);
            self.kept[at].stages = self.newest_stages[at].take();
        }
    }

    /// Gives everything back; all that counts.
    ///
    /// # Errors
    /// What of the card could not be given back.
    pub(super) fn close(self) -> Result<Vec<Rounds>> {
        let Self { ways, clocks, deferral, recorders, kept, interface, interrupt, .. } = self;
        drop(recorders);
        drop(ways);
        let restored = clocks.restore(&interface);
        setup::restore_interrupts(deferral).and(restored)?;
        // Nothing of the machine's is held any more: what follows may be cut short.
        interrupt.set_deadly(true);
        Ok(kept)
    }
}

/// Plays a round on a path of either kind.
fn play<P: Path>(player: Player<'_>, path: &mut P, watch: &mut Watch) -> Result<()> {
    player.prepare(path)?;
    player.play(path, watch)
}

/// Whether both paths are stamped alike, with what is to be said of either: of both once where it is the same.
///
/// # Errors
/// They are not, and what can be done.
fn check_alike([of_xdp, of_kernel]: &[StampPlan; 2]) -> Result<()> {
    ensure!(
        of_xdp.ptp == of_kernel.ptp,
        "the two paths would not be stamped alike: this card's stamps come with PTP headers on one of them only: use --ptp udp, \
         or --timestamps software"
    );
    warn(&remarks_of_both(&of_xdp.remarks, &of_kernel.remarks));
    Ok(())
}

/// Those of the second that the first does not have come behind the first's.
fn remarks_of_both(first: &[String], second: &[String]) -> Vec<String> {
    let others = second.iter().filter(|remark| !first.contains(remark));
    first.iter().chain(others).cloned().collect()
}

/// Takes the samples of a round as they come, and what it counted in the end.
struct Watch {
    t3_t0: Vec<i64>,
    rtt: Vec<i64>,
    left_out: u64,
    begins_stages: bool,
    before: Usage,
    outcome: Option<(End, Round, Option<Stages>)>,
}

impl Watch {
    /// Room for all samples of a round, so that the hot loop allocates nothing.
    fn new(settings: &Settings, begins_stages: bool) -> Self {
        let a_second = match settings.delay_us {
            0 => FASTEST,
            delay => 1_000_000_u64.div_ceil(delay.into()),
        };
        // The moment of the first ping and that of the end both count.
        let samples = (u64::from(settings.count_s) * a_second + 2).min(MOST_SAMPLES as u64) as usize;
        let room = |samples: usize| {
            // Memory of zeros is only mapped when it is written to.
            let mut room = vec![1_i64; samples];
            room.clear();
            room
        };
        let rtt = if settings.in_band { samples } else { 0 };
        let (t3_t0, rtt) = (room(samples), room(rtt));
        Self { t3_t0, rtt, left_out: 0, begins_stages, before: Usage::default(), outcome: None }
    }

    fn take(samples: &mut Vec<i64>, sample: Option<i64>, left_out: &mut u64) {
        match sample {
            Some(sample) if samples.len() < samples.capacity() => samples.push(sample),
            Some(_) => *left_out += 1,
            None => {}
        }
    }
}

impl<M: Machine, P: Path> Attendant<M, P> for Watch {
    fn connected(&mut self, scene: Scene<'_, M, P>, _: Event) -> Result<()> {
        if self.begins_stages {
            scene.recorder.begin_session();
        }
        self.before = Usage::now(scene.path);
        Ok(())
    }

    fn finished(&mut self, scene: Scene<'_, M, P>, end: End) -> Result<()> {
        let used = Usage::now(scene.path).since(&self.before);
        let stages = scene.recorder.sync().stages;
        let [mut t3_t0, mut rtt] = [&mut self.t3_t0, &mut self.rtt].map(std::mem::take);
        t3_t0.sort_unstable();
        rtt.sort_unstable();
        // What was room is not kept for the rounds to come.
        [&mut t3_t0, &mut rtt].into_iter().for_each(Vec::shrink_to_fit);
        let round = Round {
            t3_t0,
            rtt,
            left_out: self.left_out,
            totals: *scene.machine.totals(),
            answered: scene.round_trips.unique(),
            duplicates: scene.round_trips.duplicates(),
            stamps: *scene.stamps,
            cpu_ns: used.cpu_ns,
        };
        self.outcome = Some((end, round, stages));
        Ok(())
    }

    fn broken(&mut self, _: Scene<'_, M, P>) {}

    #[inline]
    fn round_trip(&mut self, sample: Sample) {
        Self::take(&mut self.t3_t0, sample.t3_t0_ns, &mut self.left_out);
        Self::take(&mut self.rtt, sample.rtt_ns, &mut self.left_out);
    }
}

/// Why a round failed, and what to do.
fn failure(end: End, combination: Combination, cycle: usize, server: SocketAddrV4) -> String {
    let path = combination.server.as_str();
    let which = format!("round {} on the {} path", cycle + 1, combination.name());
    match end {
        End::Rejected => format!(
            "{which}: the server at {server} refused it: it has another client, or cannot serve on the {path} path (its stderr \
             says which): start it with --server --keep, and without --path kernel"
        ),
        End::NotAgreed { .. } => format!(
            "{which}: the server at {server} does not know what a comparison asks for (the path that it is to serve on, an account of \
             what it did): it is a nanoprobe, or an xdprobe that is too old: run this xdprobe there, with --server --keep"
        ),
        End::NoAnswer { .. } if cycle > 0 => format!(
            "{which}: the server at {server} answered earlier rounds and no longer does: start it with --keep, so that it serves more \
             than one session"
        ),
        End::NoAnswer { .. } => format!(
            "{which}: the server at {server} did not answer: check that it runs with --server --keep, that address and port are its \
             own, and that no firewall drops its UDP port; a server without --keep leaves after one round; or raise \
             --connect-timeout"
        ),
        End::TimedOut { .. } => {
            format!("{which}: nothing was received any more: the server at {server} or the way to it is gone")
        }
        End::FinUnanswered { .. } => {
            format!("{which}: the server at {server} did not confirm the end: it, or the way to it, is gone")
        }
        End::PeerStopped => format!("{which}: the server at {server} was stopped by its user"),
        End::FloodUnanswered { .. } | End::Complete | End::Stopped | End::StoppedConnecting | End::Broken => {
            format!("{which}: it ended before its time")
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_holds_for_both_paths_is_said_once_and_nothing_is_left_out() {
        let [a, b, c] = ["a", "b", "c"].map(str::to_owned);
        assert_eq!(remarks_of_both(&[a.clone(), b.clone()], &[b.clone(), c.clone()]), [a.clone(), b, c.clone()]);
        assert_eq!(remarks_of_both(&[], std::slice::from_ref(&c)), [c]);
        assert_eq!(remarks_of_both(std::slice::from_ref(&a), &[]), [a]);
    }
}
