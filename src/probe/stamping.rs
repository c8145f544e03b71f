//! Whose stamps a run will have, decided before anything is touched; and the card's stamping, on while it lasts.
//!
//! A source that cannot be had is an error that names the nearest one that can.

use super::warn;
use crate::cli::{PathKind, Plan, PtpWish, Role, Timestamps, TxWay, XdpMode};
use crate::clock::{ClockBoard, ClockSampler, Phc, PhcClock, Realtime, Source, Time};
use crate::net::hwtstamp::{Found, RxFilter, Stamping, StampingError};
use crate::net::kernel_version::KernelVersion;
use crate::net::netdev;
use crate::net::tsinfo::{TsInfo, tsinfo};
use crate::net::{Interface, NetError, privilege};
use crate::path::StampWishes;
use crate::record::{CardClock, Sources};
use crate::session::PTP_TIMEOUT;
use crate::wire::ptp::{Transport, UDP_PORT};
use anyhow::{Context, Result, bail, ensure};
use std::sync::{Arc, OnceLock};
use std::time::Duration;

/// What a run does to have its stamps.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StampPlan {
    /// Whose stamps the rows have.
    pub sources: Sources,
    /// What is asked of the kernel, and through it of the card.
    pub wishes: StampWishes,
    /// On the xdp path: what makes a row leaves through the packet socket.
    pub companion: bool,
    /// On the xdp path: the driver is asked for the card's stamp of what is received.
    pub card_stamps: bool,
    /// A client's: what is to be stamped travels behind PTP headers.
    pub ptp: Option<Transport>,
    /// A server's: it serves only clients that send behind PTP headers, as nothing else would be stamped.
    pub requires_ptp: bool,
    /// What the card is to stamp of what it receives, the first that it has, and the number of its clock; `None` where it is left alone.
    pub card: Option<(&'static [RxFilter], u32)>,
    /// What the user should know: one line each, for stderr.
    pub remarks: Vec<String>,
}

impl StampPlan {
    /// Whether stamps of what is sent come later than the hand-over.
    pub fn awaits(&self) -> bool {
        self.sources.sent != Source::Application
    }
}

/// Decides whose stamps there will be on `interface`.
///
/// # Errors
/// Why what is asked for cannot be had there, and what can.
pub fn plan(plan: &Plan, interface: &Interface) -> Result<StampPlan> {
    match plan.timestamps {
        Timestamps::Application => Ok(application()),
        Timestamps::Software => software(plan, interface),
        Timestamps::Hardware => hardware(plan, interface, false),
    }
}

/// The same for a card whose driver has refused to have all packets stamped, although it lists that it can.
///
/// # Errors
/// As [`plan`].
pub fn plan_without_all(plan: &Plan, interface: &Interface) -> Result<StampPlan> {
    hardware(plan, interface, true)
}

/// Whether that is why a start failed.
pub fn is_all_refused(stamps: &StampPlan, error: &anyhow::Error) -> bool {
    let wants_all = stamps.card.is_some_and(|(filters, _)| filters == [RxFilter::All]);
    wants_all && matches!(error.downcast_ref(), Some(StampingError::NoSuchFilter { .. }))
}

fn application() -> StampPlan {
    StampPlan {
        sources: Sources::application(),
        wishes: StampWishes::default(),
        companion: false,
        card_stamps: false,
        ptp: None,
        requires_ptp: false,
        card: None,
        remarks: Vec::new(),
    }
}

/// `X (driver Y)`.
fn named(interface: &Interface) -> String {
    match &interface.driver {
        Some(driver) => format!("{} (driver {driver})", interface.name),
        None => interface.name.clone(),
    }
}

fn software(plan: &Plan, interface: &Interface) -> Result<StampPlan> {
    let xsk = plan.path == PathKind::Xdp && plan.tx == TxWay::Xsk;
    // A kernel that cannot be asked is tried.
    if let Some(info) = tsinfo(interface.index)?
        && !xsk
    {
        let nearest = match plan.path {
            PathKind::Xdp => "--tx xsk (the time of the hand-over), or --timestamps application",
            PathKind::Kernel => "--timestamps application",
        };
        ensure!(
            info.software_tx(),
            "{} gives no software transmit stamps: its driver never tells the kernel when it has a packet: use {nearest}",
            named(interface)
        );
    }
    let sent = if xsk { Source::Application } else { Source::Software };
    Ok(StampPlan {
        sources: Sources { sent, received: Source::Software },
        wishes: StampWishes { software: true, hardware: false },
        companion: plan.path == PathKind::Xdp && !xsk,
        ..application()
    })
}

fn hardware(plan: &Plan, interface: &Interface, all_refused: bool) -> Result<StampPlan> {
    let (mut info, phc) = card(interface)?;
    if all_refused {
        info.rx_filters.retain(|filter| *filter != RxFilter::All);
    }
    privilege::require(&[privilege::Capability::NetAdmin]).context(
        "hardware time stamps are switched on for the whole card (SIOCSHWTSTAMP); --timestamps software and application \
         need no such thing",
    )?;
    let bypass_stamps = plan.path == PathKind::Kernel || driver_stamps_for_xdp(plan, interface)?;
    let stamps_all = info.rx_filters.contains(&RxFilter::All);
    let stamps_ptp = stamps_all || info.rx_filters.contains(&RxFilter::PtpV2Event);
    let mut remarks = Vec::new();
    let offered = filters(&info);
    let (ptp, requires_ptp) = match &plan.role {
        Role::Client { ptp, .. } => {
            let wish = ptp.unwrap_or(PtpWish::Auto);
            (transport(wish, plan, interface, stamps_all, bypass_stamps, &offered, &mut remarks)?, false)
        }
        Role::Server { .. } => {
            let requires = !(stamps_all && bypass_stamps);
            if let (true, Role::Server { many: Some(many), .. }) = (requires, &plan.role) {
                let what = match (stamps_all, plan.path) {
                    (true, _) => "gives XDP programs no receive stamps: use --path kernel, or --timestamps software",
                    (false, _) => "stamps no other packets than those of PTP on receipt: use --timestamps software",
                };
                bail!("--clients {} serves nobody behind PTP headers, and {} {what}", many.clients, named(interface));
            }
            if requires {
                let why = if stamps_all {
                    "its driver gives no receive stamps to XDP programs, so that what is to be stamped comes through the kernel"
                } else {
                    "it stamps no other packets than those of PTP on receipt"
                };
                remarks.push(format!("{}: {why}: only clients with --ptp are served", named(interface)));
            }
            (None, requires)
        }
    };
    ensure!(
        stamps_ptp || !(ptp.is_some() || requires_ptp),
        "{} stamps neither all packets nor those of PTP version 2 on receipt (it offers: {offered}): use --timestamps \
         software, or application",
        named(interface)
    );
    let card_stamps = plan.path == PathKind::Xdp && bypass_stamps;
    // Where the XDP program may take what is stamped, nobody binds the port.
    if !card_stamps && !privilege::may_bind(UDP_PORT) {
        if ptp == Some(Transport::Udp) {
            return Err(NetError::PtpPortDenied.into());
        }
        if requires_ptp {
            remarks.push(format!("clients with --ptp udp cannot be served: {}", NetError::PtpPortDenied));
        }
    }
    // A server's clients may come behind PTP headers or not.
    if ptp.is_some() || matches!(plan.role, Role::Server { many: None, .. }) {
        remarks.extend(plan.timeout.and_then(longer_timeout));
    }
    let xsk = plan.path == PathKind::Xdp && plan.tx == TxWay::Xsk;
    ensure!(
        !(xsk && (ptp.is_some() || requires_ptp)),
        "--tx xsk has no transmit stamps, and on {} there would be receive stamps of PTP packets only: leave --tx out",
        named(interface)
    );
    let filters: &[RxFilter] = match ptp.is_some() || requires_ptp {
        true => &[RxFilter::PtpV2Event, RxFilter::All],
        false => &[RxFilter::All],
    };
    let sent = if xsk { Source::Application } else { Source::Hardware };
    Ok(StampPlan {
        sources: Sources { sent, received: Source::Hardware },
        wishes: StampWishes { software: info.software_tx(), hardware: true },
        companion: plan.path == PathKind::Xdp && !xsk,
        card_stamps,
        ptp,
        requires_ptp,
        card: Some((filters, phc)),
        remarks,
    })
}

/// What the user should know of a receive time-out that is too short for a session behind PTP headers.
fn longer_timeout(timeout: Duration) -> Option<String> {
    (timeout < PTP_TIMEOUT).then(|| {
        format!(
            "--timeout {}: a session behind PTP headers ends after {} µs in which nothing was received, not before: a FIN waits \
             until what was sent before it is read",
            timeout.as_micros(),
            PTP_TIMEOUT.as_micros()
        )
    })
}

/// What the card can stamp, and the number of its clock.
fn card(interface: &Interface) -> Result<(TsInfo, u32)> {
    let nearest = "use --timestamps software, or --timestamps application (--emulation)";
    let Some(info) = tsinfo(interface.index)? else {
        bail!(
            "cannot find out whether {} has hardware time stamps: the kernel does not tell: {nearest}",
            named(interface)
        );
    };
    ensure!(
        info.hardware_tx() && info.hardware_rx(),
        "{} has no hardware time stamps{}: {nearest}",
        named(interface),
        match (info.hardware_tx(), info.hardware_rx()) {
            (true, false) => " of what it receives",
            (false, true) => " of what it sends",
            _ => "",
        }
    );
    let Some(phc) = info.phc else {
        bail!(
            "{} has hardware time stamps and no clock that can be read (no PHC), so that nobody can tell whether they are \
             sane: {nearest}",
            named(interface)
        );
    };
    Ok((info, phc))
}

/// Whether the driver gives XDP programs the card's stamps.
fn driver_stamps_for_xdp(plan: &Plan, interface: &Interface) -> Result<bool> {
    if plan.xdp_mode == XdpMode::Generic {
        return Ok(false);
    }
    // A trial would tell too: with a frame that a card of the PTP kind then never lets go of.
    let features = netdev::xdp_features(interface.index)?;
    Ok(features.gives_receive_stamps(interface.driver.as_deref(), KernelVersion::running()) == Some(true))
}

/// What a client's pings and pongs that are to be stamped travel in.
fn transport(
    wish: PtpWish,
    plan: &Plan,
    interface: &Interface,
    stamps_all: bool,
    bypass_stamps: bool,
    offered: &str,
    remarks: &mut Vec<String>,
) -> Result<Option<Transport>> {
    match wish {
        PtpWish::Udp => return Ok(Some(Transport::Udp)),
        PtpWish::L2 => return Ok(Some(Transport::L2)),
        PtpWish::Auto => {}
    }
    if !stamps_all {
        remarks.push(format!(
            "{} does not stamp all packets that it receives (it offers: {offered}): pings and pongs that are to be stamped \
             travel behind PTP headers over UDP port 319 (--ptp udp), one at a time; --log has rows of these only, --log-stages \
             of all",
            named(interface)
        ));
        return Ok(Some(Transport::Udp));
    }
    let generic = if plan.xdp_mode == XdpMode::Generic { " in generic mode" } else { "" };
    ensure!(
        bypass_stamps,
        "{} gives XDP programs no receive stamps{generic} (bpf_xdp_metadata_rx_timestamp): use --path kernel, --ptp udp (what \
         is to be stamped then comes through the kernel), or --timestamps software",
        named(interface)
    );
    Ok(None)
}

fn filters(info: &TsInfo) -> String {
    let names: Vec<String> = info.rx_filters.iter().map(ToString::to_string).collect();
    if names.is_empty() { "none".to_owned() } else { names.join(", ") }
}

/// What the card stamps at present, before XDP is attached; `None` where it is left alone, or no XDP is to come.
///
/// # Errors
/// Why it cannot be asked.
pub fn present(plan: &Plan, stamps: &StampPlan, interface: &Interface) -> Result<Option<Found>> {
    let asked = stamps.card.is_some() && plan.path == PathKind::Xdp;
    let found = asked.then(|| Found::look(&interface.name, interface.index)).transpose()?;
    warn(found.as_ref().map_or(&[], Found::remarks));
    Ok(found)
}

/// The card's stamping and the comparison of clocks, as long as they are needed. To be dropped after the XDP program is
/// detached, as some drivers forget what they stamp over that.
#[derive(Debug)]
pub struct Clocks {
    sampler: Arc<ClockSampler>,
    stamping: Option<Stamping>,
}

impl Clocks {
    /// Compares the clocks for the first time and has the card stamp where the plan wants it. After XDP is attached and
    /// its sockets are bound, before which the card had `found`. From then on `card` knows the time.
    ///
    /// # Errors
    /// What could not be had, with what can be done.
    pub fn start(
        plan: &StampPlan,
        interface: &Interface,
        found: &mut Option<Found>,
        card: Option<&Card>,
    ) -> Result<Self> {
        let Some((filters, phc)) = plan.card else {
            return Ok(Self { sampler: Arc::new(ClockSampler::start(None)?), stamping: None });
        };
        let clock = PhcClock::open(phc).with_context(|| {
            format!(
                "cannot tell what the hardware time stamps of {} mean: use --timestamps software, or application",
                interface.name
            )
        })?;
        // Before the card is touched: what fails behind that would have it given back while XDP is attached.
        let sampler = Arc::new(ClockSampler::start(Some(clock))?);
        let before = found.as_ref().and_then(Found::config);
        let stamping = Stamping::turn_on(&interface.name, interface.index, filters, before).inspect_err(|_| {
            // Another filter may be tried next, and the process killed before.
            if let Some(found) = found {
                found.keep();
            }
        })?;
        // From here on the guard sees to it.
        if let Some(found) = found.take() {
            found.hand_over();
        }
        warn(stamping.remarks());
        if let Some(card) = card {
            // Nobody else sets it.
            let _ = card.sampler.set(Arc::clone(&sampler));
        }
        Ok(Self { sampler, stamping: Some(stamping) })
    }

    /// What the hot loop reads.
    pub fn board(&self) -> Arc<ClockBoard> {
        self.sampler.board()
    }

    /// What compares the clocks.
    pub fn sampler(&self) -> Arc<ClockSampler> {
        Arc::clone(&self.sampler)
    }

    /// Gives the card back as it was, and says where somebody else has set it meanwhile, or it is gone.
    ///
    /// # Errors
    /// What the kernel answered.
    pub fn restore(mut self) -> Result<()> {
        if let Some(stamping) = self.stamping.take()
            && let Some(remark) = stamping.restore()?.remark()
        {
            eprintln!("xdprobe: {remark}");
        }
        Ok(())
    }
}

/// The card's clock, as the sampler sees it once it runs.
pub struct Card {
    sampler: OnceLock<Arc<ClockSampler>>,
    name: String,
}

impl Card {
    /// The clock `/dev/ptp<phc>`.
    pub fn new(phc: u32) -> Self {
        Self { sampler: OnceLock::new(), name: format!("ptp{phc}") }
    }
}

impl CardClock for Card {
    fn to_system(&self, stamp: Time<Phc>) -> Option<(Time<Realtime>, u64)> {
        self.sampler.get()?.to_system(stamp)
    }

    fn name(&self) -> String {
        self.name.clone()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_time_out_that_counts_as_a_longer_one_is_told() {
        assert_eq!(longer_timeout(PTP_TIMEOUT), None);
        let told = longer_timeout(Duration::from_micros(800)).unwrap();
        assert!(told.starts_with("--timeout 800: ") && told.contains("10000 µs"), "{told}");
    }
}
