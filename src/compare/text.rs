//! The outcome in words.

use super::bootstrap::{Interval, MIN_PAIRS};
use super::outcome::{CoreAwayOutcome, DifferenceOutcome, Outcome, PathOutcome};
use crate::path::xdp::HookStamps;
use crate::probe::rounds::wrapped;
use crate::record::{AWAY_NANOS, micros, signed_micros};
use crate::stats::Summary;
use std::fmt::Write;

/// A busy thread that gets less of a CPU than this had to share it.
const STARVED: f64 = 0.9;

/// All of it, for a person; it ends with a line feed.
pub(super) fn text(outcome: &Outcome) -> String {
    let mut text = String::new();
    // Writing to a String cannot fail.
    let _ = writeln!(text, "{}", wrapped(&headline(outcome)));
    for (what, of) in [("RTT (t3-t0)-(t2-t1)", rtt as fn(&PathOutcome) -> Option<Summary>), ("t3-t0", t3_t0)] {
        if outcome.paths.iter().any(|path| of(path).is_some()) {
            distributions(&mut text, what, outcome, of);
        }
    }
    let _ = writeln!(text, "\n{}", losses_head());
    for path in &outcome.paths {
        let _ = writeln!(text, "{}", losses(path));
    }
    core_away(&mut text, outcome);
    let _ = writeln!(text, "\n{:<16}{:>12}{:>12}{:>12}{:>12}", "CPU", "ns a ping", "of a CPU", "server's", "of a CPU");
    for path in &outcome.paths {
        let _ = writeln!(text, "{}", cpu(path));
    }
    stages(&mut text, outcome);
    for difference in [&outcome.rtt, &outcome.t3_t0].into_iter().flatten() {
        differences(&mut text, difference);
    }
    text.push('\n');
    for sentence in verdicts(outcome).into_iter().chain(remarks(outcome)) {
        let _ = writeln!(text, "{}", wrapped(&sentence));
    }
    text
}

fn rtt(path: &PathOutcome) -> Option<Summary> {
    path.rtt_ns
}

fn t3_t0(path: &PathOutcome) -> Option<Summary> {
    path.t3_t0_ns
}

/// What was compared.
pub(super) fn headline(outcome: &Outcome) -> String {
    let setting = &outcome.setting;
    let rounds = outcome.paths.first().map_or(0, |path| path.rounds);
    let every = match setting.delay_us {
        0 => "pings as fast as they go".to_owned(),
        delay => format!("a ping every {delay} us"),
    };
    format!(
        "{} to {} from {}: {rounds} rounds of {} s on each path, {every}, pings of {} and pongs of {} bytes, timer {}, stamps: {}",
        if outcome.paths.len() > 2 { "Four combinations of paths" } else { "AF_XDP beside the kernel's UDP" },
        setting.server,
        setting.interface,
        setting.round_time_s,
        setting.ping_size,
        setting.pong_size,
        setting.timer,
        setting.timestamps,
    )
}

fn distributions(text: &mut String, what: &str, outcome: &Outcome, of: fn(&PathOutcome) -> Option<Summary>) {
    let _ = write!(text, "\n{what}, in us\n{:<16}", "");
    for name in ["samples", "min", "mean", "p50", "p90", "p99", "p99.9", "max"] {
        let _ = write!(text, "{name:>12}");
    }
    text.push('\n');
    for path in &outcome.paths {
        let _ = write!(text, "{:<16}", path.name);
        match of(path) {
            Some(Summary { count, min, mean, p50, p90, p99, p999, max, .. }) => {
                let _ = write!(text, "{count:>12}");
                for nanos in [min, mean.round() as i64, p50, p90, p99, p999, max] {
                    let _ = write!(text, "{:>12}", signed_micros(nanos));
                }
            }
            None => text.push_str("  no sample"),
        }
        text.push('\n');
    }
}

fn losses_head() -> String {
    format!(
        "{:<16}{:>12}{:>12}{:>12}{:>12}{:>12}{:>12}{:>12}",
        "", "pings", "lost", "%", "there", "back", "late sends", "skipped"
    )
}

fn losses(path: &PathOutcome) -> String {
    let known = |count: Option<i64>| count.map_or("?".to_owned(), |count| count.to_string());
    format!(
        "{:<16}{:>12}{:>12}{:>12.4}{:>12}{:>12}{:>12}{:>12}",
        path.name,
        path.pings_sent,
        path.lost,
        path.loss_percent,
        known(path.lost_forward),
        known(path.lost_backward),
        path.late_sends,
        path.skipped_slots
    )
}

/// How often the core was away from this side's loop, where that can be seen on any path.
fn core_away(text: &mut String, outcome: &Outcome) {
    if outcome.paths.iter().all(|path| path.core_away.is_none()) {
        return;
    }
    let _ = write!(
        text,
        "\nCore away from this side's loop at least, for more than {} us where it had nothing to do, and what was due then\n{:<16}",
        AWAY_NANOS / 1000,
        ""
    );
    for name in ["times", "us in all", "longest", "pings due", "late sends", "skipped"] {
        let _ = write!(text, "{name:>12}");
    }
    text.push('\n');
    for path in &outcome.paths {
        let _ = match path.core_away {
            Some(CoreAwayOutcome { count, total_ns, longest_ns, pings_due, late_sends, skipped_slots, .. }) => {
                let [total, longest] = [total_ns, longest_ns].map(micros);
                writeln!(
                    text,
                    "{:<16}{count:>12}{total:>12}{longest:>12}{pings_due:>12}{late_sends:>12}{skipped_slots:>12}",
                    path.name
                )
            }
            None => writeln!(text, "{:<16}{:>12}", path.name, "?"),
        };
    }
}

fn cpu(path: &PathOutcome) -> String {
    let nanos = |nanos: Option<u64>| nanos.map_or("?".to_owned(), |nanos| nanos.to_string());
    let share = |share: Option<f64>| share.map_or("?".to_owned(), |share| format!("{:.1} %", share * 100.0));
    format!(
        "{:<16}{:>12}{:>12}{:>12}{:>12}",
        path.name,
        nanos(path.cpu_ns_per_ping),
        share(path.cpu_share),
        nanos(path.server.cpu_ns_per_ping),
        share(path.server.cpu_share)
    )
}

fn stages(text: &mut String, outcome: &Outcome) {
    if outcome.paths.iter().all(|path| path.stage_times.is_empty()) {
        return;
    }
    let _ = write!(text, "\nStages on this side, in us\n{:<16}{:<16}", "", "");
    for name in ["samples", "min", "p50", "p99", "max"] {
        let _ = write!(text, "{name:>12}");
    }
    text.push('\n');
    for path in &outcome.paths {
        for (stage, times) in &path.stage_times {
            let _ = write!(text, "{:<16}{:<16}{:>12}", path.name, stage.as_str(), times.count);
            for nanos in [times.min, times.p50, times.p99, times.max] {
                let _ = write!(text, "{:>12}", signed_micros(nanos));
            }
            text.push('\n');
        }
    }
}

fn differences(text: &mut String, difference: &DifferenceOutcome) {
    let DifferenceOutcome { level, resamples, rounds, method, .. } = difference;
    let what = quantity(difference);
    let level = level * 100.0;
    let _ = writeln!(
        text,
        "\n{what}: kernel less xdp, in us, with the {level} % interval of {resamples} drawings from {rounds} pairs of rounds"
    );
    let _ = writeln!(text, "{}", wrapped(&format!("({method})")));
    for (name, Interval { estimate, low, high, within_noise }) in difference.differences.named() {
        let noise = match (difference.differences.too_few_rounds, within_noise) {
            (true, _) => "  too few rounds to say",
            (false, true) => "  within the noise",
            (false, false) => "",
        };
        let _ =
            writeln!(text, "{name:<8}{:>12}   {:>12} to {:>12}{noise}", signed(estimate), signed(low), signed(high));
    }
}

/// What a difference is of.
pub(super) const fn quantity(difference: &DifferenceOutcome) -> &'static str {
    match difference.of.as_bytes() {
        b"rtt_ns" => "RTT",
        _ => "t3-t0",
    }
}

/// What the differences come to, in sentences.
pub(super) fn verdicts(outcome: &Outcome) -> Vec<String> {
    let Some(difference) = outcome.difference() else {
        return vec!["There is no difference to speak of: one of the paths has no sample.".to_owned()];
    };
    if let Some(sentence) = too_few_rounds(outcome) {
        return vec![sentence];
    }
    let sentence = |(name, interval): (&str, Interval)| {
        let Interval { estimate, low, high, within_noise } = interval;
        let what = quantity(difference);
        if within_noise {
            return format!(
                "{what} {name}: the difference is within the noise: its {:.0} % interval, {} to {} us, contains 0.",
                difference.level * 100.0,
                signed(low),
                signed(high)
            );
        }
        let (faster, ends) = if estimate > 0 { ("xdp", [low, high]) } else { ("kernel", [-high, -low]) };
        let [low, high] = ends.map(signed_micros);
        format!("{what} {name}: {faster} is faster by {} us ({low} to {high}).", signed_micros(estimate.abs()))
    };
    let named = difference.differences.named();
    named.into_iter().filter(|(name, _)| ["p50", "p99"].contains(name)).map(sentence).collect()
}

/// Why nothing is said of which path is faster; `None` where something is.
pub(super) fn too_few_rounds(outcome: &Outcome) -> Option<String> {
    let difference = outcome.difference().filter(|difference| difference.differences.too_few_rounds)?;
    Some(format!(
        "{}: too few rounds to say which path is faster: of fewer than {MIN_PAIRS} pairs in which both paths have samples chance makes \
         differences too often; raise --rounds to {} or more.",
        quantity(difference),
        // The first round of each path does not count.
        MIN_PAIRS + 1
    ))
}

/// What a reader of the numbers must know besides, a sentence each.
pub(super) fn remarks(outcome: &Outcome) -> Vec<String> {
    let mut remarks = vec![
        "The kernel's rounds ran while the XDP programs of this side and of the server were attached: they look at each packet and pass \
         it on, which costs these rounds a little; a machine without any would show the kernel's path alone."
            .to_owned(),
        "CPU time is that of the two processes (getrusage): what the kernel does in interrupts for others' packets and for these is \
         in it only where it happens in their calls."
            .to_owned(),
    ];
    if outcome.setting.is_busy() {
        remarks.push(
            "This side waited busily, and the server where it has no --timer of its own: such a side takes what it gets of a CPU whatever \
             the path costs, so that its CPU time a ping says nothing of the paths. --timer sleep shows what they cost."
                .to_owned(),
        );
        // Of the server nobody knows whether it slept.
        let shares = outcome.paths.iter().filter_map(|path| path.cpu_share);
        let least = shares.fold(1.0, f64::min);
        if least < STARVED {
            let advice = match outcome.setting.cpu {
                None => "A CPU of its own for each side (--cpu) mends that.".to_owned(),
                Some(cpu) => format!(
                    "Nothing else should run on CPU {cpu}, and the server should have one of its own too (its --cpu)."
                ),
            };
            remarks.push(format!(
                "This side got {:.0} % of a CPU only: others ran there, and the tails are theirs too. {advice}",
                least * 100.0
            ));
        }
    }
    match outcome.setting.timestamps {
        "application" => remarks.push(format!(
            "hook->app is of one frame in {}, as the XDP program's look at the clock is in the round trip: its tail may be longer than \
             the sample's.",
            HookStamps::SAMPLED
        )),
        _ if outcome.setting.sends_aside => remarks.push(
            "For their transmit stamps pings and pongs of the xdp path left by a packet socket, not by AF_XDP: --tx xsk, or stamps of the \
             application, show what sending by AF_XDP takes."
                .to_owned(),
        ),
        _ => {}
    }
    if outcome.rtt.is_none() {
        remarks.push("t3-t0 includes the time that the server took: its t1 and t2 are not subtracted.".to_owned());
    }
    if outcome.stopped {
        remarks.push("It ended before its time: these are the rounds until then.".to_owned());
    }
    for path in &outcome.paths {
        let planned = path.pings_sent + path.skipped_slots;
        if path.skipped_slots * 100 > planned {
            remarks.push(format!(
                "{}: {} of {planned} pings were not sent, as this machine had no time for them when they were due: what is told is that \
                 of the others, and theirs might have been worse.",
                path.name, path.skipped_slots
            ));
        }
        let missed = path.tx_stamps_missed + path.rx_stamps_missed;
        let parts = [
            (missed, "packets had no stamp of the chosen source, and are in no distribution"),
            (path.samples_left_out, "samples had no room, and are in no distribution"),
        ];
        let told = parts.into_iter().filter(|(count, _)| *count > 0);
        remarks.extend(told.map(|(count, words)| format!("{}: {count} {words}.", path.name)));
        if path.stages.is_none() {
            remarks.push(format!(
                "{}: the stages are not known: stderr took nothing, which held up what reckons them.",
                path.name
            ));
        }
        if path.is_blurred {
            remarks.push(format!(
                "{}: the direction of loss is not known: packets were repeated on the way ({} pongs came more than once), and the \
                 server's account counts each as often as it came.",
                path.name, path.duplicates
            ));
        }
        let samples = |summary: Option<Summary>| summary.map_or(0, |summary| summary.count);
        let without = samples(path.t3_t0_ns).saturating_sub(samples(path.rtt_ns));
        if outcome.rtt.is_some() && without > 0 {
            remarks.push(format!(
                "{}: {without} of {} pongs have no RTT: the server's stamps of a pong come with a later one, and these did not.",
                path.name,
                samples(path.t3_t0_ns)
            ));
        }
        if path.t3_t0_ns.is_some_and(|summary| summary.min < 0) {
            remarks.push(format!("{}: some times are negative: a clock was stepped in between.", path.name));
        }
    }
    remarks
}

/// In µs, always with a sign.
pub(super) fn signed(nanos: i64) -> String {
    format!("{}{}", if nanos > 0 { "+" } else { "" }, signed_micros(nanos))
}
