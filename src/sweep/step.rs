//! One step: what was offered, sent and received, and the limit in words.

use super::flow::{Flow, Limit, TOLERATED_PER_MILLE, limit};
use super::{Aim, Means};
use crate::cli::Target;
use crate::probe::Outcome;
use crate::session::{End, LATE_NANOS, Rate, Settings, wire_bits};
use crate::stats::{Bin, Distribution, Summary};

/// Which time of a ping the table and the pictures are of. The JSON object has both, where both are known.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Quantity {
    /// t3 − t0, the server's own time in it.
    T3T0,
    /// (t3 − t0) − (t2 − t1): the pongs bring t1 and t2.
    Rtt,
}

impl Quantity {
    /// What a session with these settings can tell best.
    pub(super) const fn of(settings: &Settings) -> Self {
        if settings.in_band { Self::Rtt } else { Self::T3T0 }
    }

    /// In pictures and tables of a page.
    pub(super) const fn name(self) -> &'static str {
        match self {
            Self::T3T0 => "t3 − t0",
            Self::Rtt => "RTT, (t3 − t0) − (t2 − t1)",
        }
    }

    /// The same in letters that every terminal has.
    pub(super) const fn plain_name(self) -> &'static str {
        match self {
            Self::T3T0 => "t3 - t0",
            Self::Rtt => "RTT = (t3 - t0) - (t2 - t1)",
        }
    }

    /// In front of a percentile at the head of the table, where it needs telling.
    pub(super) const fn prefix(self) -> &'static str {
        match self {
            Self::T3T0 => "",
            Self::Rtt => "RTT ",
        }
    }

    /// Its name in a step's JSON object.
    pub(super) const fn key(self) -> &'static str {
        match self {
            Self::T3T0 => "t3_t0_ns",
            Self::Rtt => "rtt_ns",
        }
    }
}

/// A step with what came of it.
pub(super) struct Step {
    pub(super) aim: Aim,
    pub(super) outcome: Outcome,
    t3_t0: Distribution,
    rtt: Distribution,
    pub(super) flow: Flow,
    /// Dummies a second that the server agreed to.
    pub(super) granted_pps: u64,
    /// How long it pinged, in ns.
    pub(super) duration_ns: u64,
    /// Bytes of a dummy with its IP header.
    load_size: u16,
    /// Bits on the wire of one dummy.
    bits: u64,
}

impl Step {
    pub(super) fn new(aim: Aim, load_size: u16, mut outcome: Outcome) -> Self {
        let [t3_t0, rtt] = [&mut outcome.t3_t0, &mut outcome.rtt].map(|samples| distribution(std::mem::take(samples)));
        let totals = &outcome.totals;
        let account = totals.account;
        let duration = totals.started.zip(totals.ended).map(|(from, to)| to.duration_since(from));
        let duration_ns = duration.map_or(0, |duration| duration.as_nanos() as u64);
        // Dropped before they left are frames of any kind; all but a few are dummies.
        let gone = outcome.counters.tx_dropped.min(totals.dummies_sent);
        let flow = Flow {
            due: totals.load_due,
            sent: totals.dummies_sent - gone,
            late: totals.load_late,
            refused: totals.load_refused + gone,
            received: account.map(|account| account.dummies_received),
            dropped: account.and_then(|account| account.dropped),
            sending_ns: duration_ns,
            span_ns: account.and_then(|account| account.dummies_span_ns),
        };
        let granted = outcome.agreed.and_then(|agreed| agreed.load);
        Self {
            aim,
            flow,
            granted_pps: granted.map_or(0, |load| load.packets_per_second),
            duration_ns,
            t3_t0,
            rtt,
            load_size,
            bits: wire_bits(load_size),
            outcome,
        }
    }

    pub(super) fn end(&self) -> End {
        self.outcome.end
    }

    /// What it is called.
    pub(super) fn label(&self) -> String {
        self.aim.label()
    }

    /// Dummies a second that were due by the plan.
    pub(super) fn offered_pps(&self) -> f64 {
        per_second(self.flow.due, self.duration_ns)
    }

    /// Dummies a second that left.
    pub(super) fn sent_pps(&self) -> f64 {
        per_second(self.flow.sent, self.duration_ns)
    }

    /// Of those the ones that the server counted, a second of the time in which they left: so that what nobody lost comes at
    /// the rate that it was sent at. Where a queue held them up it is the time in which they came. `None` where the server has not
    /// said.
    pub(super) fn received_pps(&self) -> Option<f64> {
        Some(per_second(self.flow.received?, self.flow.held_up_ns().unwrap_or(self.duration_ns)))
    }

    /// A sentence on pings that were never sent: without it the percentiles look better than they are.
    pub(super) fn omission(&self) -> Option<String> {
        let totals = &self.outcome.totals;
        let (skipped, planned) = (totals.skipped_slots, totals.pings_sent + totals.skipped_slots);
        (skipped * 100 > planned).then(|| {
            format!(
                "{}: {skipped} of {planned} pings were not sent, as this machine had no time for them when they were due: the \
                 percentiles are those of the others, and theirs might have been worse.",
                self.aim.words()
            )
        })
    }

    /// The same in bits a second on the wire.
    pub(super) fn bps(&self, packets_per_second: f64) -> f64 {
        packets_per_second * self.bits as f64
    }

    /// What kept the target from being reached; `None` where it was.
    pub(super) fn limit(&self) -> Option<Limit> {
        self.aim.target?;
        limit(&self.flow, self.aim.packets_per_second, self.granted_pps)
    }

    /// Whether what was to come came.
    pub(super) fn is_reached(&self) -> bool {
        self.limit().is_none() && self.end() == End::Complete
    }

    /// The distribution of t3 − t0.
    pub(super) fn t3_t0(&mut self) -> Option<Summary> {
        self.t3_t0.summary()
    }

    /// The distribution of (t3 − t0) − (t2 − t1), where the pongs bring it.
    pub(super) fn rtt(&mut self) -> Option<Summary> {
        self.rtt.summary()
    }

    /// The distribution of this quantity.
    pub(super) fn summary(&mut self, quantity: Quantity) -> Option<Summary> {
        self.distribution(quantity).summary()
    }

    /// The same for pictures.
    pub(super) fn bins(&mut self, quantity: Quantity) -> Vec<Bin> {
        self.distribution(quantity).bins()
    }

    fn distribution(&mut self, quantity: Quantity) -> &mut Distribution {
        match quantity {
            Quantity::T3T0 => &mut self.t3_t0,
            Quantity::Rtt => &mut self.rtt,
        }
    }

    /// Of how many pings that have a t3 − t0 there is no RTT, and how many those are.
    pub(super) fn without_rtt(&mut self) -> (u64, u64) {
        let [all, with] = [self.t3_t0(), self.rtt()].map(|summary| summary.map_or(0, |summary| summary.count));
        (all.saturating_sub(with), all)
    }

    /// A sentence on a step that was cut off.
    pub(super) fn cut(&self) -> Option<String> {
        let why = match self.end() {
            End::Complete => return None,
            End::Stopped | End::StoppedConnecting => "you stopped it",
            End::PeerStopped => "the server was stopped",
            End::TimedOut { .. } => "nothing was received any more",
            End::FloodUnanswered { .. } => "the server was silent while it was flooded",
            End::FinUnanswered { .. } => "the server did not confirm its end",
            End::Rejected | End::NotAgreed { .. } | End::NoAnswer { .. } | End::Broken => "it broke down",
        };
        let planned = self.outcome.agreed.map_or(0, |agreed| agreed.count_s);
        let said = if self.flow.received.is_some() { "" } else { ", and the server has not said what came" };
        Some(format!(
            "{}: {why} after {:.1} of {planned} s: its numbers are of that time{said}.",
            self.aim.words(),
            self.duration_ns as f64 / 1e9
        ))
    }

    /// Sentences on a target that was not reached, and on a step that was cut off.
    pub(super) fn remark(&self, means: &Means) -> Option<String> {
        let sentences: Vec<String> = self.cut().into_iter().chain(self.shortfall(means)).collect();
        (!sentences.is_empty()).then(|| sentences.join(" "))
    }

    fn shortfall(&self, means: &Means) -> Option<String> {
        let label = self.label();
        let Flow { due, sent, late, refused, .. } = self.flow;
        let (lost, dropped) = (self.flow.lost(), self.flow.dropped_of_lost());
        let sentence = match self.limit()? {
            Limit::Cpu => format!(
                "{label} was not reached: the generator was the limit, not the network. This machine had no time to send {late} \
                 of {due} packets (CPU); its latencies are those of {:.0} packets a second, and pings may have been late too \
                 ({} by more than {} µs). {}",
                self.sent_pps(),
                self.outcome.totals.late_sends,
                LATE_NANOS / 1000,
                self.advice(means)
            ),
            Limit::Ring => format!(
                "{label} was not reached: the generator was the limit, not the network. The transmit ring was full, or the kernel \
                 dropped what it had taken, for {refused} of {due} packets: driver or link take no more than {:.0} packets a second.",
                self.sent_pps()
            ),
            Limit::Link if lost.is_some_and(|lost| lost * 1000 <= sent * TOLERATED_PER_MILLE) => format!(
                "{label} was not reached: the network was the limit. What was sent in {:.2} s took {:.2} s to come: a queue on the \
                 way grew, and would have lost packets had it gone on for longer.",
                self.duration_ns as f64 / 1e9,
                self.flow.held_up_ns().unwrap_or(0) as f64 / 1e9
            ),
            Limit::Link => format!(
                "{label} was not reached: the network was the limit. {} of {sent} packets that were sent did not come{}.",
                lost.unwrap_or(sent),
                match dropped {
                    None => ", and whether the server's machine dropped them is not known",
                    Some(_) => ", and were lost before they reached the server's sockets: on the way, or in a driver",
                }
            ),
            Limit::Server if self.granted_pps < self.aim.packets_per_second => format!(
                "{label} was not reached: the server allows no more than {} packets a second (its --max-rate).",
                self.granted_pps
            ),
            Limit::Server => format!(
                "{label} was not reached: the server was the limit, not the network. Its machine dropped {} of {sent} packets as \
                 the server did not take them in time.",
                dropped.unwrap_or(0)
            ),
        };
        let besides = match (lost, self.limit()) {
            (Some(lost), Some(Limit::Cpu | Limit::Ring)) if lost * 1000 > sent * TOLERATED_PER_MILLE => {
                format!(" Besides, {lost} of {sent} packets that were sent did not come{}.", self.dropped_there())
            }
            _ => String::new(),
        };
        Some(sentence + &besides)
    }

    /// What would get further, of what is not so already.
    fn advice(&self, means: &Means) -> String {
        let is_of_packets = matches!(self.aim.target, Some(Target::Rate(Rate::Packets(_))));
        let ways = [
            (means.cpu.is_none(), "a CPU of its own (--cpu)"),
            // As many packets cost as much, whatever their size.
            (!is_of_packets && self.load_size < means.largest_load, "larger packets (--load-size)"),
            (!means.is_xdp, "--path xdp"),
        ];
        let ways: Vec<_> = ways.into_iter().filter(|(is_open, _)| *is_open).map(|(_, way)| way).collect();
        let pinned = means.cpu.map(|cpu| format!("Nothing else should run on CPU {cpu}.")).into_iter();
        let further = match &ways[..] {
            [] => None,
            [one] => Some(format!("What may get further: {one}.")),
            [others @ .., last] => Some(format!("What may get further: {} or {last}.", others.join(", "))),
        };
        pinned.chain(further).collect::<Vec<_>>().join(" ")
    }

    /// Where what was lost was seen last, as far as the server can tell.
    fn dropped_there(&self) -> String {
        match self.flow.dropped_of_lost() {
            Some(dropped) if dropped > 0 => {
                format!(": the server's machine dropped {dropped}, as the server did not take them")
            }
            _ => String::new(),
        }
    }
}

fn distribution(samples: Vec<i64>) -> Distribution {
    let mut distribution = Distribution::new();
    samples.into_iter().for_each(|sample| distribution.record(sample));
    distribution
}

/// 0 where there was no time.
fn per_second(count: u64, nanos: u64) -> f64 {
    if nanos == 0 { 0.0 } else { count as f64 * 1e9 / nanos as f64 }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::session::Totals;
    use crate::wire::{Account, Load};

    const MEANS: Means = Means { cpu: None, largest_load: 1500, is_xdp: true };

    /// A step of 2 s that was to have this load, of which half was late.
    fn late(target: Target, load_size: u16) -> Step {
        let aim = Aim { target: Some(target), packets_per_second: 500 };
        let settings = Settings {
            count_s: 2,
            load: Some(Load { packets_per_second: 500, ip_len: load_size }),
            ..Settings::default()
        };
        let mut outcome = Outcome::nothing(End::Complete);
        outcome.agreed = Some(settings);
        outcome.totals = Totals { load_due: 1000, load_late: 500, dummies_sent: 500, ..Totals::default() };
        outcome.totals.account = Some(Account { dummies_received: 500, ..Account::default() });
        Step::new(aim, load_size, outcome)
    }

    #[test]
    fn what_is_advised_is_not_so_already() {
        let [share, packets] = [Target::Share(500_000), Target::Rate(Rate::Packets(500))];
        let (pinned, kernel) = (Means { cpu: Some(1), ..MEANS }, Means { is_xdp: false, ..MEANS });
        let advice = |target, load_size, means: &Means| {
            let step = late(target, load_size);
            assert_eq!(step.limit(), Some(Limit::Cpu));
            let remark = step.remark(means).unwrap();
            remark.split_once("µs). ").expect("the advice stands at the end").1.to_owned()
        };
        assert_eq!(
            advice(share, 100, &MEANS),
            "What may get further: a CPU of its own (--cpu) or larger packets (--load-size)."
        );
        assert_eq!(advice(share, 1500, &MEANS), "What may get further: a CPU of its own (--cpu).");
        assert_eq!(advice(packets, 100, &MEANS), "What may get further: a CPU of its own (--cpu).");
        assert_eq!(advice(share, 1500, &kernel), "What may get further: a CPU of its own (--cpu) or --path xdp.");
        assert_eq!(
            advice(share, 100, &Means { cpu: Some(1), ..kernel }),
            "Nothing else should run on CPU 1. What may get further: larger packets (--load-size) or --path xdp."
        );
        assert_eq!(advice(share, 1500, &pinned), "Nothing else should run on CPU 1.");
    }

    #[test]
    fn a_step_that_was_cut_off_says_by_whom_and_of_what_time_its_numbers_are() {
        let mut step = late(Target::Share(500_000), 1500);
        assert_eq!(step.cut(), None);
        step.duration_ns = 840_000_000;
        step.outcome.end = End::Stopped;
        assert_eq!(step.cut().unwrap(), "50 %: you stopped it after 0.8 of 2 s: its numbers are of that time.");
        assert!(step.remark(&MEANS).unwrap().contains("that time. 50 % was not reached: the generator"));
        assert!(!step.is_reached());
        step.outcome.end = End::PeerStopped;
        step.flow.received = None;
        assert_eq!(
            step.remark(&MEANS).unwrap(),
            "50 %: the server was stopped after 0.8 of 2 s: its numbers are of that time, and the server has not said what came."
        );
    }

    #[test]
    fn of_the_load_no_more_was_dropped_than_was_lost() {
        // The machine dropped pings too.
        let mut step = late(Target::Share(500_000), 1500);
        (step.flow.received, step.flow.dropped) = (Some(480), Some(33));
        let remark = step.remark(&MEANS).unwrap();
        let said = "Besides, 20 of 500 packets that were sent did not come: the server's machine dropped 20, as the server did not take them.";
        assert!(remark.ends_with(said), "{remark}");
        step.flow = Flow { due: 500, late: 0, received: Some(100), dropped: Some(433), ..step.flow };
        assert_eq!(step.limit(), Some(Limit::Server));
        let remark = step.remark(&MEANS).unwrap();
        assert!(remark.contains("Its machine dropped 400 of 500 packets"), "{remark}");
    }

    #[test]
    fn a_rate_needs_time() {
        assert_eq!((per_second(3, 0), per_second(1000, 500_000_000)), (0.0, 2000.0));
    }
}
