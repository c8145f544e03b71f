//! `xdprobe sweep`: latency under load. Pings at a fixed rate while dummies fill the link, one session a step, the first one
//! without load; what each step offered, what of it came, what it did to the latency, and what kept a target from being
//! reached.
//!
//! A step's server is an ordinary one: it is asked to count (`account`) and to allow the flood (`load`). What is said of the
//! wire is said of the way from this interface to that server, and of nothing else.
#![forbid(unsafe_code)]

mod flow;
mod page;
mod step;
mod text;

use crate::cli::{PathKind, SweepPlan, Target};
use crate::net;
use crate::page::Reserved;
use crate::path::Description;
use crate::probe::{Round, Rounds, say};
use crate::record::{self, RoundNote};
use crate::session::{End, Pattern, Rate, Settings, TimerKind, wire_bits};
use crate::wire::{Load, MAX_IP_LEN};
use anyhow::{Context, Result, bail, ensure};
use std::net::SocketAddrV4;
use step::{Quantity, Step};

/// The size of a dummy where `--load-size` is not given and the MTU does not command less.
const LOAD_SIZE: u32 = 1500;
/// The most samples of a step that are kept: 128 MiB.
const MOST_SAMPLES: usize = 1 << 24;
/// Drivers of devices without a wire: the speed that they state is a constant, or what somebody has set.
const VIRTUAL: [&str; 4] = ["veth", "tun", "bridge", "virtio_net"];

/// What a step is to be.
#[derive(Debug, Clone, Copy)]
struct Aim {
    /// `None` of the first step, which has no load.
    target: Option<Target>,
    /// Dummies a second.
    packets_per_second: u64,
}

impl Aim {
    /// What it is called: "none", "10 %", "1 Gbit/s".
    fn label(&self) -> String {
        self.target.map_or_else(|| "none".to_owned(), |target| target.to_string())
    }

    /// The same in a sentence.
    fn words(&self) -> String {
        self.target.map_or_else(|| "no load".to_owned(), |target| target.to_string())
    }
}

/// What all steps have in common, for those who tell of them.
#[derive(Debug, Clone)]
struct Common {
    interface: String,
    server: SocketAddrV4,
    description: Description,
    /// Bytes of a dummy with its IP header.
    load_size: u16,
    pattern: Pattern,
    step_time_s: u32,
    delay_us: u32,
    /// What the latencies are.
    quantity: Quantity,
    /// `None` where nobody tells, or nobody asked.
    link_speed: Option<LinkSpeed>,
    max_rate: Option<Rate>,
    /// What can still be changed where the generator is the limit.
    means: Means,
    /// What all steps are called, those that were not had among them.
    planned: Vec<String>,
    /// The user wanted an end before the last step was over.
    stopped: bool,
}

/// What a driver says of its link.
#[derive(Debug, Clone, Copy)]
struct LinkSpeed {
    bits_per_second: u64,
    /// The device is virtual: nothing keeps to it.
    is_nominal: bool,
}

/// What of the generator can be set, and is.
#[derive(Debug, Clone, Copy)]
struct Means {
    /// `--cpu`.
    cpu: Option<usize>,
    /// The largest `--load-size` that the interface takes.
    largest_load: u16,
    is_xdp: bool,
}

/// Runs a sweep to its end; whether every step was measured. A target that is not reached is a result, not a failure.
///
/// # Errors
/// What could not be had or done, in a sentence that says what to do. The machine is as it was.
pub fn run(plan: &SweepPlan) -> Result<bool> {
    let interface = net::interface(&plan.client.interface)?;
    let largest = u16::try_from(interface.mtu).unwrap_or(u16::MAX);
    let load_size = plan.load_size.unwrap_or(LOAD_SIZE.min(interface.mtu) as u16);
    ensure!(
        load_size <= largest,
        "--load-size {load_size}: does not fit the MTU of {} ({largest}), and a flood of fragments is none of packets",
        interface.name
    );
    let link_speed = match plan.targets.iter().any(|target| matches!(target, Target::Share(_))) {
        true => Some(speed(&interface)?),
        false => None,
    };
    let aims = aims(plan, load_size, link_speed)?;
    let page = plan.html.as_deref().map(Reserved::new).transpose()?;
    let mut rounds = Rounds::open(vec![plan.client.clone()], &[0])?;
    let means = Means {
        cpu: plan.client.cpu,
        largest_load: largest.min(MAX_IP_LEN),
        is_xdp: plan.client.path == PathKind::Xdp,
    };
    let mut common = Common {
        interface: interface.name,
        server: rounds.server(),
        description: rounds.description(0),
        load_size,
        pattern: plan.pattern,
        step_time_s: plan.step_time_s,
        delay_us: rounds.settings().delay_us,
        quantity: Quantity::of(rounds.settings()),
        link_speed,
        max_rate: plan.max_rate,
        means,
        planned: aims.iter().map(Aim::words).collect(),
        stopped: false,
    };
    let walked = walk(&mut rounds, plan, &common, &aims);
    let closed = rounds.close();
    if let Err(error) = &closed {
        eprintln!("xdprobe: {error:#}");
    }
    let Walked { mut steps, stopped, failure } = walked;
    common.stopped = stopped;
    if !steps.is_empty() {
        let shown = if plan.json { text::json(&common, &mut steps) } else { text::text(&common, &mut steps) };
        say(&shown).context("cannot write the result to stdout")?;
        if let Some(page) = page {
            page.fill(&page::page(&common, &mut steps).html())?;
        }
    }
    if let Some(error) = failure {
        return Err(error);
    }
    Ok(closed.is_ok() && steps.iter().all(|step| step.end().is_success()))
}

/// The steps that were had, and why there are no more.
struct Walked {
    steps: Vec<Step>,
    /// The user wanted an end.
    stopped: bool,
    /// What broke.
    failure: Option<anyhow::Error>,
}

/// All steps, until one does not end as planned.
fn walk(rounds: &mut Rounds, plan: &SweepPlan, common: &Common, aims: &[Aim]) -> Walked {
    let mut steps = Vec::with_capacity(aims.len());
    for (at, aim) in aims.iter().enumerate() {
        let note = RoundNote {
            name: format!("step {} of {}, {}", at + 1, aims.len(), aim.words()),
            before: if steps.is_empty() { String::new() } else { text::table(common, &mut steps) },
        };
        let mut of = note.name.clone();
        if aim.target.is_some() {
            of += &format!(": {} packets of {} bytes a second", aim.packets_per_second, common.load_size);
        }
        eprintln!("xdprobe: {of}");
        let load = Load { packets_per_second: aim.packets_per_second, ip_len: common.load_size };
        let settings = Settings {
            count_s: plan.step_time_s,
            // Whoever sleeps between two dummies sends none in time.
            timer: TimerKind::Busy,
            account: true,
            load: aim.target.map(|_| load),
            ..*rounds.settings()
        };
        let pattern = match plan.pattern {
            Pattern::Cbr => Pattern::Cbr,
            // Each step has gaps of its own.
            Pattern::Poisson { seed } => Pattern::Poisson { seed: seed.wrapping_add(at as u64) },
        };
        let outcome =
            match rounds.run(&Round { row: 0, settings, pattern, begins: true, most_samples: MOST_SAMPLES }, note) {
                Ok(outcome) => outcome,
                Err(error) => return Walked { steps, stopped: false, failure: Some(error) },
            };
        if outcome.agreed.is_none() {
            let stopped = matches!(outcome.end, End::Stopped | End::StoppedConnecting);
            // What was measured before it is a result.
            let failure = (!stopped || steps.is_empty()).then(|| no_session(common, outcome.end));
            return Walked { steps, stopped, failure };
        }
        let end = outcome.end;
        steps.push(Step::new(*aim, common.load_size, outcome));
        if end != End::Complete {
            if let Some(sentence) = record::text::end(end) {
                eprintln!("xdprobe: step {} of {}: {sentence}", at + 1, aims.len());
            }
            return Walked { steps, stopped: end == End::Stopped, failure: None };
        }
    }
    Walked { steps, stopped: false, failure: None }
}

/// Why a step had no session.
fn no_session(common: &Common, end: End) -> anyhow::Error {
    match end {
        End::NotAgreed { server, .. } => anyhow::anyhow!(
            "the server at {server} does not agree to be flooded and to count what comes: it is a nanoprobe, or an xdprobe \
             that is too old: run this xdprobe there (xdprobe --server --keep)"
        ),
        end => anyhow::anyhow!(
            "no session with {}: {}",
            common.server,
            record::text::end(end).unwrap_or_else(|| "it was stopped".to_owned())
        ),
    }
}

/// The steps in packets a second, the one without load first.
fn aims(plan: &SweepPlan, load_size: u16, link_speed: Option<LinkSpeed>) -> Result<Vec<Aim>> {
    let mut aims = vec![Aim { target: None, packets_per_second: 0 }];
    for target in &plan.targets {
        let rate = match (*target, link_speed) {
            (Target::Rate(rate), _) => rate,
            (Target::Share(millionths), Some(LinkSpeed { bits_per_second, .. })) => {
                Rate::Bits((u128::from(bits_per_second) * u128::from(millionths) / 1_000_000) as u64)
            }
            (Target::Share(_), None) => bail!("--rates {target}: the link's speed is not known"),
        };
        let packets_per_second = rate.packets_per_second(load_size);
        ensure!(
            packets_per_second > 0,
            "--rates: {target} is less than one packet of {load_size} bytes a second ({} bits on the wire): choose a higher rate",
            wire_bits(load_size)
        );
        if let Some(most) = plan.max_rate {
            ensure!(
                packets_per_second <= most.packets_per_second(load_size),
                "--rates: {target} is {packets_per_second} packets of {load_size} bytes a second, more than --max-rate {most} \
                 allows ({})",
                most.packets_per_second(load_size)
            );
        }
        aims.push(Aim { target: Some(*target), packets_per_second });
    }
    Ok(aims)
}

/// The link's speed, as its driver states it.
fn speed(interface: &net::Interface) -> Result<LinkSpeed> {
    let Some(bits_per_second) = net::link_speed(interface.index)? else {
        bail!(
            "--rates: the link speed of {} is not known (ethtool {0} shows none: no carrier, or a device without a wire), so that \
             there is no share of it: give rates in bits a second (--rates 100M,1G) or packets a second (--rates 10,50kpps)",
            interface.name
        );
    };
    let is_nominal = interface.driver.as_deref().is_some_and(|driver| VIRTUAL.contains(&driver));
    if is_nominal {
        eprintln!(
            "xdprobe: {} has no wire: {} is what its driver says, and nothing keeps to it",
            interface.name,
            Rate::Bits(bits_per_second)
        );
    }
    Ok(LinkSpeed { bits_per_second, is_nominal })
}
