//! From plans to open paths with all that sessions on them need: in the one order in which the machine is as it was
//! wherever it ends.
//!
//! What a session asks for and what is made of it is the caller's.

use super::interrupt::{Interrupt, block_questions};
use super::setup::{self, OpenPath};
use super::stamping::{self, Card, Clocks, StampPlan};
use super::{pin, warn};
use crate::cli::{Plan, Role};
use crate::net::Interface;
use crate::net::napi::Deferral;
use crate::session::{Probe, Settings};
use crate::tune::cpu_latency::CpuLatency;
use anyhow::{Context, Result, ensure};
use nix::sched::{sched_getaffinity, sched_setaffinity};
use nix::unistd::Pid;
use std::net::SocketAddrV4;
use std::sync::Arc;

/// A path that is open, and whose stamps it has.
pub(crate) struct Way {
    pub(crate) stamps: StampPlan,
    pub(crate) path: OpenPath,
}

/// All that is open. Dropped, it is given back; [`Opened::close`] says whether the card could be.
pub(crate) struct Opened {
    /// In the order of the plans.
    pub(crate) ways: Vec<Way>,
    // Dropped after the paths: a driver that forgets what its card stamps when XDP goes must not have the last word.
    pub(crate) clocks: Clocks,
    /// What a client asks for, with what its stamps need; `None` of a server.
    pub(crate) settings: Option<Settings>,
    /// A client's.
    pub(crate) server: Option<SocketAddrV4>,
    pub(crate) interface: Interface,
    /// `None` where no stamp is the card's.
    pub(crate) card: Option<Arc<Card>>,
    pub(crate) interrupt: Interrupt,
    /// The interface's interrupts, where the user wants them deferred.
    pub(crate) deferral: Option<Deferral>,
    _awake: Option<CpuLatency>,
}

/// What threads that are started beside the open paths may need of them.
pub(crate) struct Beside<'a> {
    pub(crate) stamps: Vec<&'a StampPlan>,
    pub(crate) card: Option<&'a Arc<Card>>,
    pub(crate) interrupt: &'a Interrupt,
}

/// Opens the paths of plans that differ in nothing else; the first is asked for what they have in common. The last is opened
/// first: that which changes nothing on the interface. `start` starts threads: they may run where the hot loop will not be
/// pinned, and take the signals that are not to interrupt it.
///
/// # Errors
/// What could not be had, in a sentence that says what to do. The machine is as it was.
pub(crate) fn open<T>(
    plans: &[&Plan],
    schedule: &[Probe],
    start: impl FnOnce(&Beside<'_>) -> Result<T>,
) -> Result<(Opened, T)> {
    let first = plans[0];
    warn(&first.warnings);
    let (interface, address) = setup::interface(first)?;
    let decide = |of: fn(&Plan, &Interface) -> Result<StampPlan>| {
        let stamps = plans.iter().map(|plan| of(plan, &interface)).collect::<Result<Vec<_>>>()?;
        check_alike(&stamps)?;
        let settings = setup::settings(first, &stamps[0], schedule)?;
        setup::check_sizes(first, &interface, settings.as_ref(), schedule)?;
        Ok::<_, anyhow::Error>((stamps, settings))
    };
    let (mut stamps, mut settings) = decide(stamping::plan)?;
    let server = match &first.role {
        Role::Client { host, .. } => Some(setup::server(host, first.port)?),
        Role::Server { .. } => None,
    };
    warn(&setup::check_tuning(first, &interface)?);
    let awake = first.tuning.cpu_latency_us.map(CpuLatency::hold).transpose()?;
    let anywhere = sched_getaffinity(Pid::from_raw(0)).context("cannot read the CPU affinity")?;
    pin(first)?;
    // Declared before the paths, so that it is dropped after them wherever it ends.
    let clocks;
    let mut found = stamping::present(first, &stamps[0], &interface)?;
    // Until XDP is attached a signal ends the process, and the kernel takes everything back: program, sockets and ports hang
    // on its descriptors.
    let interrupt = Interrupt::catch().context("cannot catch SIGINT, SIGTERM, SIGQUIT and SIGHUP")?;
    interrupt.set_deadly(true);
    let mut paths = Vec::with_capacity(plans.len());
    for (plan, stamps) in plans.iter().zip(&stamps).rev() {
        paths.push(setup::open(plan, &interface, address, server, stamps, &interrupt)?);
    }
    paths.reverse();
    // The threads inherit where they may run: it must not be where the hot loop is pinned.
    sched_setaffinity(Pid::from_raw(0), &anywhere).context("cannot set the CPU affinity")?;
    // From here on a signal ends the run in order: what a driver has forgotten over XDP, and what the card is to stamp, is
    // nothing that the kernel would take back.
    interrupt.set_deadly(false);
    let deferral = setup::defer_interrupts(first, &interface)?;
    let card = stamps[0].card.map(|(_, phc)| Arc::new(Card::new(phc)));
    let started = start(&Beside { stamps: stamps.iter().collect(), card: card.as_ref(), interrupt: &interrupt })?;
    // The hot loop is not to be interrupted for it: from here on another thread takes the signal, and leaves word.
    block_questions()?;
    clocks = match Clocks::start(&stamps[0], &interface, &mut found, card.as_deref()) {
        Err(error) if stamping::is_all_refused(&stamps[0], &error) => {
            (stamps, settings) = decide(stamping::plan_without_all)?;
            Clocks::start(&stamps[0], &interface, &mut found, card.as_deref())?
        }
        started => started?,
    };
    // Declared behind the clocks, so that they are dropped before them whatever fails from here on.
    let paths = paths;
    pin(first)?;
    let ways = stamps.into_iter().zip(paths).map(|(stamps, path)| Way { stamps, path }).collect();
    Ok((Opened { ways, clocks, settings, server, interface, card, interrupt, deferral, _awake: awake }, started))
}

impl Opened {
    /// Gives everything back: the machine is as it was, and a signal ends the process again.
    ///
    /// # Errors
    /// Where the card's stamping, or what defers its interrupts, could not be restored.
    pub(crate) fn close(self) -> Result<()> {
        let Self { ways, clocks, interrupt, deferral, .. } = self;
        drop(ways);
        let stamping = clocks.restore();
        let interrupts = setup::restore_interrupts(deferral);
        if let (Err(_), Err(error)) = (&stamping, &interrupts) {
            eprintln!("xdprobe: {error:#}");
        }
        stamping.and(interrupts)?;
        // Nothing of the machine's is held any more: what follows may be cut short.
        interrupt.set_deadly(true);
        Ok(())
    }
}

/// Whether all paths are stamped alike, with what is to be said of any: of all once where it is the same.
///
/// # Errors
/// They are not, and what can be done.
fn check_alike(stamps: &[StampPlan]) -> Result<()> {
    ensure!(
        stamps.iter().all(|of_path| of_path.ptp == stamps[0].ptp),
        "the two paths would not be stamped alike: this card's stamps come with PTP headers on one of them only: use --ptp udp, \
         or --timestamps software"
    );
    let mut remarks: Vec<String> = Vec::new();
    for remark in stamps.iter().flat_map(|of_path| &of_path.remarks) {
        if !remarks.contains(remark) {
            remarks.push(remark.clone());
        }
    }
    warn(&remarks);
    Ok(())
}
