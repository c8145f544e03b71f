//! What the rounds come to: numbers, without words.

use super::bench::{Bench, Kept};
use super::bootstrap::{self, Differences};
use super::text;
use crate::cli::{ComparePlan, Role, Timestamps, TxWay};
use crate::probe::Outcome as Round;
use crate::record::{AWAY_NANOS, CoreAway};
use crate::session::{LATE_NANOS, TimerKind, ip_len};
use crate::stats::{Bin, Distribution, Summary};
use serde::Serialize;
use std::net::SocketAddrV4;

/// What was measured, and how.
#[derive(Debug, Clone, Serialize)]
pub(super) struct Setting {
    pub(super) version: &'static str,
    pub(super) interface: String,
    /// As the user named it.
    pub(super) host: String,
    pub(super) server: SocketAddrV4,
    /// Microseconds from ping to ping.
    pub(super) delay_us: u32,
    pub(super) ping_size: u16,
    pub(super) pong_size: u16,
    pub(super) round_time_s: u32,
    pub(super) timer: &'static str,
    pub(super) timestamps: &'static str,
    /// What makes rows of the xdp path leaves through the packet socket beside AF_XDP.
    pub(super) sends_aside: bool,
    /// `--cpu`.
    pub(super) cpu: Option<usize>,
    pub(super) command_line: Vec<String>,
}

impl Setting {
    pub(super) fn new(plan: &ComparePlan, bench: &Bench) -> Self {
        let settings = bench.settings();
        let Role::Client { host, .. } = &plan.client.role else { unreachable!("its command line is a client's") };
        Self {
            version: env!("CARGO_PKG_VERSION"),
            interface: plan.client.interface.clone(),
            host: host.clone(),
            server: bench.server(),
            delay_us: settings.delay_us,
            ping_size: ip_len(settings.ping_padding),
            pong_size: ip_len(settings.pong_padding),
            round_time_s: settings.count_s,
            timer: settings.timer.as_str(),
            timestamps: plan.client.timestamps.as_str(),
            sends_aside: plan.client.timestamps != Timestamps::Application && plan.client.tx == TxWay::Companion,
            cpu: plan.client.cpu,
            command_line: std::env::args_os().map(|word| word.to_string_lossy().into_owned()).collect(),
        }
    }

    /// Whether a side took all of a CPU, whatever it did with it.
    pub(super) fn is_busy(&self) -> bool {
        self.timer == TimerKind::Busy.as_str()
    }
}

/// What one combination of paths came to. Durations in ns, sums over all rounds that count.
#[derive(Debug, Clone, Serialize)]
pub(super) struct PathOutcome {
    /// `xdp`, `kernel`, or `xdp → kernel`: this side's and the server's.
    #[serde(skip)]
    pub(super) name: String,
    pub(super) client_path: &'static str,
    pub(super) server_path: &'static str,
    pub(super) xdp_mode: Option<&'static str>,
    pub(super) zero_copy: Option<bool>,
    pub(super) rounds: usize,
    pub(super) pings_sent: u64,
    pub(super) lost: u64,
    pub(super) loss_percent: f64,
    /// Lost before the server read them; `None` where it did not say in every round, or packets were repeated.
    pub(super) lost_forward: Option<i64>,
    /// Lost behind it.
    pub(super) lost_backward: Option<i64>,
    /// Pongs that came more than once.
    pub(super) duplicates: u64,
    /// The server counted what was repeated: its account does not tell where packets were lost.
    #[serde(skip)]
    pub(super) is_blurred: bool,
    pub(super) late_sends: u64,
    pub(super) late_threshold_ns: u64,
    pub(super) worst_lateness_ns: u64,
    /// Pings that were not sent as an earlier one was that late.
    pub(super) skipped_slots: u64,
    /// `None` where it could not be seen in every round: the loop slept, or polled the driver.
    pub(super) core_away: Option<CoreAwayOutcome>,
    /// (t3 − t0) − (t2 − t1); `None` where the pongs told no t1 and t2.
    pub(super) rtt_ns: Option<Summary>,
    pub(super) t3_t0_ns: Option<Summary>,
    /// Samples that there was no room for.
    pub(super) samples_left_out: u64,
    pub(super) tx_source: &'static str,
    pub(super) rx_source: &'static str,
    pub(super) tx_stamps_missed: u64,
    pub(super) rx_stamps_missed: u64,
    /// CPU time of this process for each ping, its pong included; `None` where it could not be had.
    pub(super) cpu_ns_per_ping: Option<u64>,
    /// The same of a CPU, 1 being all of it.
    pub(super) cpu_share: Option<f64>,
    pub(super) server: ServerOutcome,
    pub(super) stages: Option<serde_json::Value>,
    #[serde(skip)]
    pub(super) stage_times: Vec<(crate::record::Stage, crate::record::StageTimes)>,
    #[serde(skip)]
    pub(super) rtt_bins: Vec<Bin>,
    #[serde(skip)]
    pub(super) t3_t0_bins: Vec<Bin>,
}

/// How often the core was seen to be away from this side's loop, over all rounds, and what was due meanwhile: as
/// [`CoreAway`], without what is no sum.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
pub(super) struct CoreAwayOutcome {
    pub(super) count: u64,
    pub(super) total_ns: u64,
    pub(super) longest_ns: u64,
    pub(super) threshold_ns: u64,
    pub(super) pings_due: u64,
    pub(super) late_sends: u64,
    pub(super) skipped_slots: u64,
}

impl CoreAwayOutcome {
    fn of(rounds: &[Round]) -> Option<Self> {
        let away = |round: &Round| round.punctuality.is_watched.then_some(round.punctuality.away);
        let all = rounds.iter().map(away).collect::<Option<Vec<CoreAway>>>()?;
        let sum = |value: fn(&CoreAway) -> u64| all.iter().map(value).sum::<u64>();
        Some(Self {
            count: sum(|away| away.count),
            total_ns: sum(|away| away.total_ns),
            longest_ns: all.iter().map(|away| away.longest_ns).max()?,
            threshold_ns: AWAY_NANOS,
            pings_due: sum(|away| away.pings_due),
            late_sends: sum(|away| away.late_sends),
            skipped_slots: sum(|away| away.skipped_slots),
        })
    }
}

/// What the server said of its side.
#[derive(Debug, Clone, Serialize)]
pub(super) struct ServerOutcome {
    pub(super) pings_received: Option<u64>,
    pub(super) pongs_sent: Option<u64>,
    /// What reached the machine and not the process.
    pub(super) dropped: Option<u64>,
    pub(super) cpu_ns_per_ping: Option<u64>,
    pub(super) cpu_share: Option<f64>,
}

/// The kernel's rounds beside AF_XDP's.
#[derive(Debug, Clone, Serialize)]
pub(super) struct DifferenceOutcome {
    /// What the differences are of: `rtt_ns` or `t3_t0_ns`.
    pub(super) of: &'static str,
    pub(super) sign: &'static str,
    pub(super) method: &'static str,
    pub(super) level: f64,
    pub(super) resamples: usize,
    /// Pairs of rounds that were drawn from.
    pub(super) rounds: usize,
    #[serde(flatten)]
    pub(super) differences: Differences,
}

/// All of it.
#[derive(Debug, Clone)]
pub(super) struct Outcome {
    pub(super) setting: Setting,
    /// Of each path those that count; as many as were asked for, less one, unless it was stopped.
    pub(super) stopped: bool,
    /// First xdp and kernel, on both sides.
    pub(super) paths: Vec<PathOutcome>,
    /// Of the RTT, where there is one.
    pub(super) rtt: Option<DifferenceOutcome>,
    pub(super) t3_t0: Option<DifferenceOutcome>,
}

impl Outcome {
    /// `rounds` are of xdp, of kernel, and of what else was measured.
    pub(super) fn new(setting: Setting, rounds: Vec<Kept>, stopped: bool) -> Self {
        let difference = |of, samples: fn(&Round) -> &[i64]| {
            let [xdp, kernel, ..] = &rounds[..] else { return None };
            let pairs: Vec<_> = xdp.rounds.iter().zip(&kernel.rounds).map(|(a, b)| (samples(a), samples(b))).collect();
            Some(DifferenceOutcome {
                of,
                sign: "kernel - xdp",
                method: bootstrap::METHOD,
                level: bootstrap::LEVEL,
                resamples: bootstrap::RESAMPLES,
                rounds: pairs.len(),
                differences: bootstrap::differences(&pairs)?,
            })
        };
        let rtt = difference("rtt_ns", |round| &round.rtt);
        let t3_t0 = difference("t3_t0_ns", |round| &round.t3_t0);
        let paths = rounds.into_iter().map(|rounds| path(rounds, &setting)).collect();
        Self { setting, stopped, paths, rtt, t3_t0 }
    }

    /// That which says most: of the RTT, else of t3 − t0.
    pub(super) fn difference(&self) -> Option<&DifferenceOutcome> {
        self.rtt.as_ref().or(self.t3_t0.as_ref())
    }

    /// The object of `--json`, on one line, without a line feed.
    pub(super) fn to_json(&self) -> String {
        #[derive(Serialize)]
        struct Paths<'a> {
            xdp: &'a PathOutcome,
            kernel: &'a PathOutcome,
        }
        #[derive(Serialize)]
        struct Whole<'a> {
            #[serde(flatten)]
            setting: &'a Setting,
            stopped: bool,
            paths: Paths<'a>,
            difference_ns: Option<&'a DifferenceOutcome>,
            t3_t0_difference_ns: Option<&'a DifferenceOutcome>,
            #[serde(skip_serializing_if = "Option::is_none")]
            matrix: Option<&'a [PathOutcome]>,
            remarks: Vec<String>,
        }
        let [xdp, kernel, ..] = &self.paths[..] else { unreachable!("both are always measured") };
        let whole = Whole {
            setting: &self.setting,
            stopped: self.stopped,
            paths: Paths { xdp, kernel },
            difference_ns: self.difference(),
            t3_t0_difference_ns: self.t3_t0.as_ref(),
            matrix: (self.paths.len() > 2).then_some(&self.paths),
            // Words say it in place of a verdict.
            remarks: text::too_few_rounds(self).into_iter().chain(text::remarks(self)).collect(),
        };
        serde_json::to_string(&whole).expect("numbers, strings and fixed names always become JSON")
    }
}

fn path(rounds: Kept, setting: &Setting) -> PathOutcome {
    let Kept { combination, rounds, stages, description, sources: [sent, received] } = rounds;
    let stages = stages.map(|stages| stages.sampled_at_the_hook(description.hook_stamps_one_in));
    let sum = |value: fn(&Round) -> u64| rounds.iter().map(value).sum::<u64>();
    // Of all rounds, or it is no sum.
    let sum_of = |value: &dyn Fn(&Round) -> Option<u64>| rounds.iter().map(value).sum::<Option<u64>>();
    let told = |value: fn(&crate::wire::Account) -> u64| sum_of(&|round| round.account().as_ref().map(value));
    let pings_sent = sum(|round| round.totals.pings_sent);
    let expected = sum(|round| round.totals.pongs_expected);
    let answered = sum(|round| round.answered);
    let lost = expected.saturating_sub(answered);
    let (pings_received, pongs_sent) = (told(|account| account.pings_received), told(|account| account.pongs_sent));
    let is_blurred = rounds.iter().any(Round::is_blurred);
    let lost_on_the_way = |sent: Option<u64>, arrived: Option<u64>| match is_blurred {
        true => None,
        false => Some(sent? as i64 - arrived? as i64),
    };
    let wall_ns = u64::from(setting.round_time_s) * 1_000_000_000 * rounds.len() as u64;
    let each = |nanos: Option<u64>, count: u64| Some((nanos? + count / 2) / std::num::NonZeroU64::new(count)?);
    let share = |nanos: Option<u64>, of: Option<u64>| Some(nanos? as f64 / of.filter(|of| *of > 0)? as f64);
    let cpu = sum_of(&|round| round.cpu_ns);
    let server_cpu = sum_of(&|round| round.account()?.cpu_ns);
    let server_wall = told(|account| account.wall_ns);
    let all = |samples: fn(&Round) -> &Vec<i64>| {
        let mut all = Distribution::new();
        rounds.iter().flat_map(samples).for_each(|sample| all.record(*sample));
        all
    };
    let (mut rtt, mut t3_t0) = (all(|round| &round.rtt), all(|round| &round.t3_t0));
    PathOutcome {
        name: combination.name(),
        client_path: combination.client.as_str(),
        server_path: combination.server.as_str(),
        xdp_mode: description.xdp_mode,
        zero_copy: description.zero_copy,
        rounds: rounds.len(),
        pings_sent,
        lost,
        loss_percent: if expected == 0 { 0.0 } else { lost as f64 * 100.0 / expected as f64 },
        lost_forward: lost_on_the_way(Some(pings_sent), pings_received),
        lost_backward: lost_on_the_way(pongs_sent, Some(answered)),
        duplicates: sum(|round| round.duplicates),
        is_blurred,
        late_sends: sum(|round| round.totals.late_sends),
        late_threshold_ns: LATE_NANOS,
        worst_lateness_ns: rounds.iter().map(|round| round.totals.worst_lateness_nanos).max().unwrap_or(0),
        skipped_slots: sum(|round| round.totals.skipped_slots),
        core_away: CoreAwayOutcome::of(&rounds),
        rtt_ns: rtt.summary(),
        t3_t0_ns: t3_t0.summary(),
        samples_left_out: sum(|round| round.left_out),
        tx_source: sent.as_str(),
        rx_source: received.as_str(),
        tx_stamps_missed: sum(|round| round.stamps.tx_missed),
        rx_stamps_missed: sum(|round| round.stamps.rx_missed),
        cpu_ns_per_ping: each(cpu, pings_sent),
        cpu_share: share(cpu, Some(wall_ns)),
        server: ServerOutcome {
            pings_received,
            pongs_sent,
            dropped: sum_of(&|round| round.account()?.dropped),
            cpu_ns_per_ping: pings_received.and_then(|received| each(server_cpu, received)),
            cpu_share: share(server_cpu, server_wall),
        },
        stages: stages.as_ref().map(|stages| serde_json::json!(stages)),
        stage_times: stages.map(|stages| stages.times).unwrap_or_default(),
        rtt_bins: rtt.bins(),
        t3_t0_bins: t3_t0.bins(),
    }
}

#[cfg(test)]
mod tests;
