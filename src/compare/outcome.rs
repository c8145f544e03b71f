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
mod tests {
    use super::super::COMBINATIONS;
    use super::super::bootstrap::Interval;
    use super::*;
    use crate::clock::Source;
    use crate::path::Description;
    use crate::record::{Punctuality, PunctualityTotals};
    use crate::session::{End, Totals};
    use crate::wire::Account;

    fn round(pings_sent: u64, [received, pongs_sent]: [u64; 2], answered: u64, duplicates: u64) -> Round {
        let account = Account { pings_received: received, pongs_sent, ..Account::default() };
        let totals = Totals { pings_sent, pongs_expected: pings_sent, account: Some(account), ..Totals::default() };
        Round { totals, answered, duplicates, ..Round::nothing(End::Complete) }
    }

    fn outcome(rounds: &[Round]) -> Outcome {
        let setting = Setting {
            version: "0",
            interface: "eth0".to_owned(),
            host: "server".to_owned(),
            server: "10.0.0.1:10666".parse().unwrap(),
            delay_us: 1000,
            ping_size: 44,
            pong_size: 100,
            round_time_s: 1,
            timer: "sleep",
            timestamps: "application",
            sends_aside: false,
            cpu: None,
            command_line: Vec::new(),
        };
        let of = |combination, rounds: &[Round]| Kept {
            combination,
            rounds: rounds.to_vec(),
            stages: None,
            description: Description {
                path: "xdp",
                xdp_mode: None,
                zero_copy: None,
                queues: Vec::new(),
                local: "10.0.0.2:1".parse().unwrap(),
                hook_stamps_one_in: None,
            },
            sources: [Source::Application; 2],
        };
        let clean = [round(100, [99, 99], 98, 0)];
        Outcome::new(setting, vec![of(COMBINATIONS[0], rounds), of(COMBINATIONS[1], &clean)], false)
    }

    /// A comparison of which these are the differences of the medians and of the 99th percentiles.
    fn differing(p50: Interval, p99: Interval, too_few_rounds: bool) -> Outcome {
        let differences = Differences { too_few_rounds, mean: p50, p50, p90: p50, p99, p999: p99 };
        let difference = DifferenceOutcome {
            of: "rtt_ns",
            sign: "kernel - xdp",
            method: bootstrap::METHOD,
            level: bootstrap::LEVEL,
            resamples: bootstrap::RESAMPLES,
            rounds: 9,
            differences,
        };
        Outcome { rtt: Some(difference), ..outcome(&[round(100, [100, 100], 100, 0)]) }
    }

    const fn interval(low: i64, estimate: i64, high: i64) -> Interval {
        Interval { estimate, low, high, within_noise: low <= 0 && high >= 0 }
    }

    #[test]
    fn the_verdict_names_the_faster_path_and_by_how_much_or_the_noise() {
        let said = |p50, p99| text::verdicts(&differing(p50, p99, false));
        // Kernel less xdp: where that is more than 0 xdp is faster.
        let noise =
            "RTT p99: the difference is within the noise: its 95 % interval, -14.042 to +172.882 us, contains 0.";
        assert_eq!(
            said(interval(10_135, 12_559, 15_021), interval(-14_042, 36_825, 172_882)),
            ["RTT p50: xdp is faster by 12.559 us (10.135 to 15.021).", noise]
        );
        // The other way round no number has a sign, and the smaller end comes first too.
        assert_eq!(
            said(interval(-6_000, -4_200, -1_500), interval(-2_000_001, -1_000_000, -999)),
            [
                "RTT p50: kernel is faster by 4.200 us (1.500 to 6.000).",
                "RTT p99: kernel is faster by 1000.000 us (0.999 to 2000.001)."
            ]
        );
        // An end that is 0 contains it, whatever the estimate's sign; one ns beside it does not.
        for (interval, ends) in [
            (interval(0, 5, 9), "0.000 to +0.009"),
            (interval(-9, -5, 0), "-0.009 to 0.000"),
            (interval(-1, 0, 1), "-0.001 to +0.001"),
        ] {
            let expected = format!("the difference is within the noise: its 95 % interval, {ends} us, contains 0.");
            assert_eq!(said(interval, interval), ["p50", "p99"].map(|name| format!("RTT {name}: {expected}")));
        }
        assert_eq!(
            said(interval(1, 5, 9), interval(-9, -5, -1)),
            [
                "RTT p50: xdp is faster by 0.005 us (0.001 to 0.009).",
                "RTT p99: kernel is faster by 0.005 us (0.001 to 0.009)."
            ]
        );
    }

    #[test]
    fn the_tables_say_the_same_of_each_percentile() {
        let all = differing(interval(-6_000, -4_200, -1_500), interval(-14_042, 36_825, 172_882), false);
        let text = text::text(&all);
        for line in [
            "\np50           -4.200         -6.000 to       -1.500\n",
            "\np99          +36.825        -14.042 to     +172.882  within the noise\n",
        ] {
            assert!(text.contains(line), "{line:?}: {text}");
        }
        let page = super::super::page::page(&all).html();
        assert_eq!(
            (page.matches("kernel is faster").count(), page.matches("xdp is faster").count()),
            (3 + 1, 0),
            "{page}"
        );
        let swapped = differing(interval(1_500, 4_200, 6_000), interval(2, 3, 4), false);
        let page = super::super::page::page(&swapped).html();
        assert_eq!((page.matches("kernel is faster").count(), page.matches("xdp is faster").count()), (0, 5 + 2));
    }

    #[test]
    fn too_few_rounds_are_said_once_and_name_no_faster_path() {
        // Though the interval does not contain 0.
        let few = differing(interval(10_135, 12_559, 15_021), interval(1, 2, 3), true);
        let said = "RTT: too few rounds to say which path is faster: of fewer than 6 pairs in which both paths have samples chance makes \
                    differences too often; raise --rounds to 7 or more.";
        assert_eq!(text::verdicts(&few), [said]);
        assert!(text::remarks(&few).iter().all(|remark| !remark.contains("rounds to 7")));
        let text = text::text(&few);
        assert!(!text.contains("faster by") && text.matches("too few rounds to say\n").count() == 5, "{text}");
        let json: serde_json::Value = serde_json::from_str(&few.to_json()).unwrap();
        let remarks = json["remarks"].as_array().unwrap();
        assert_eq!(remarks.iter().filter(|remark| **remark == said).count(), 1, "{json}");
    }

    #[test]
    fn what_is_advised_against_others_on_the_cpu_is_not_so_already() {
        let mut outcome = outcome(&[round(100, [100, 100], 100, 0)]);
        outcome.setting.timer = "busy";
        outcome.paths[0].cpu_share = Some(0.5);
        // It sleeps.
        outcome.paths[0].server.cpu_share = Some(0.001);
        let told = |outcome: &Outcome| {
            let remarks = text::remarks(outcome);
            remarks
                .into_iter()
                .find(|remark| remark.starts_with("This side got 50 % of a CPU only"))
                .expect("it is said")
        };
        assert!(told(&outcome).ends_with("A CPU of its own for each side (--cpu) mends that."));
        outcome.setting.cpu = Some(3);
        assert!(
            told(&outcome).ends_with(
                "Nothing else should run on CPU 3, and the server should have one of its own too (its --cpu)."
            )
        );
    }

    #[test]
    fn how_often_the_core_was_away_is_summed_where_it_could_be_seen_in_every_round() {
        let away = |times: &[u64], is_watched| {
            let mut punctuality = Punctuality::new();
            for nanos in times {
                punctuality.was_away(*nanos);
                punctuality.met(Some(nanos - 1), 2, *nanos);
            }
            let mut round = round(100, [100, 100], 100, 0);
            round.punctuality = PunctualityTotals { is_watched, ..punctuality.totals() };
            round
        };
        let told = outcome(&[away(&[6_000, 70_000], true), away(&[], true), away(&[20_000], true)]);
        let expected = CoreAwayOutcome {
            count: 3,
            total_ns: 96_000,
            longest_ns: 70_000,
            threshold_ns: 5_000,
            pings_due: 3,
            // One was 6 µs late.
            late_sends: 2,
            skipped_slots: 6,
        };
        assert_eq!((told.paths[0].core_away, told.paths[1].core_away), (Some(expected), None));
        let json: serde_json::Value = serde_json::from_str(&told.to_json()).unwrap();
        assert_eq!(json["paths"]["xdp"]["core_away"], serde_json::json!(expected));
        assert!(json["paths"]["kernel"]["core_away"].is_null(), "{json}");
        let text = text::text(&told);
        let line =
            |name, cells: &[&str]| cells.iter().fold(format!("\n{name:<16}"), |line, cell| format!("{line}{cell:>12}"));
        assert!(text.contains(&line("xdp", &["3", "96.000", "70.000", "3", "2", "6"])), "{text}");
        assert!(text.contains(&line("kernel", &["?"])), "{text}");

        let asleep = outcome(&[away(&[6_000], true), away(&[6_000], false)]);
        assert_eq!(asleep.paths[0].core_away, None);
        assert!(!text::text(&asleep).contains("Core away"));
    }

    #[test]
    fn where_packets_were_repeated_the_direction_of_loss_is_not_known() {
        // 10 were lost there, 5 back.
        let clean = round(100, [90, 90], 85, 0);
        // The same with 3 pings that came twice, and 2 of their second pongs; and none of these.
        let repeated = round(100, [93, 93], 85, 2);
        let more_than_sent = round(100, [102, 102], 100, 0);
        let fewer_than_answered = round(100, [90, 84], 85, 0);
        let told = |rounds: &[Round]| {
            let outcome = outcome(rounds);
            let path = &outcome.paths[0];
            let said = text::remarks(&outcome).iter().any(|remark| remark.starts_with("xdp: the direction"));
            (path.lost, path.lost_forward, path.lost_backward, path.duplicates, said)
        };
        assert_eq!(told(&[clean.clone(), clean.clone()]), (30, Some(20), Some(10), 0, false));
        assert_eq!(told(&[clean.clone(), repeated]), (30, None, None, 2, true));
        assert_eq!(told(&[clean.clone(), more_than_sent]), (15, None, None, 0, true));
        assert_eq!(told(&[clean.clone(), fewer_than_answered]), (30, None, None, 0, true));
        // Nothing was said, and nothing of it is known.
        let mut silent = clean;
        silent.totals.account = None;
        assert_eq!(told(&[silent]), (15, None, None, 0, false));
    }
}
