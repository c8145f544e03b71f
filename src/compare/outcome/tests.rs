//! Outcomes of rounds of which all is known, as numbers and as a page.

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
    let noise = "RTT p99: the difference is within the noise: its 95 % interval, -14.042 to +172.882 us, contains 0.";
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
    assert_eq!((page.matches("kernel is faster").count(), page.matches("xdp is faster").count()), (3 + 1, 0), "{page}");
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
        remarks.into_iter().find(|remark| remark.starts_with("This side got 50 % of a CPU only")).expect("it is said")
    };
    assert!(told(&outcome).ends_with("A CPU of its own for each side (--cpu) mends that."));
    outcome.setting.cpu = Some(3);
    assert!(
        told(&outcome)
            .ends_with("Nothing else should run on CPU 3, and the server should have one of its own too (its --cpu).")
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
