//! What a session comes to: nanoprobe's four lines, ours, and the same as one JSON object.
//!
//! Nothing is measured here; where this side cannot know something it is `None` (`null`), never 0.

use super::Role;
use super::log::{Finished, Written};
use super::punctuality::{CoreAway, PunctualityTotals};
use super::roundtrip::TripTotals;
use super::sighting::Sources;
use super::stages::Stages;
use super::stamps::StampCounts;
use super::times::Latency;
use crate::clock::Source;
use crate::path::{Counters, Description, XdpCounters};
use crate::session::{Direction, End, LATE_NANOS, Settings, Totals};
use crate::stats;
use crate::wire::UDP_IP_HEADERS;
use crate::wire::in_band::FarSource;
use crate::wire::ptp::Transport;
use serde::Serialize;
use std::fmt::Write;
use std::net::SocketAddrV4;
use std::time::Duration;

/// The end of a session that has none yet.
const RUNNING: &str = "running";

/// What a summary is made from.
#[derive(Debug, Clone, Copy)]
pub struct SummaryInput<'a> {
    /// Which side this is.
    pub role: Role,
    /// The other side; `None` where there was none.
    pub peer: Option<SocketAddrV4>,
    /// What the session did; `None` where none came to be.
    pub settings: Option<&'a Settings>,
    /// What the session counted.
    pub totals: &'a Totals,
    /// How it ended.
    pub end: End,
    /// The pings and pongs of this side, where it pings and is ponged.
    pub round_trips: Option<TripTotals>,
    /// How late the pings of this side left; `None` where nobody looked.
    pub punctuality: Option<PunctualityTotals>,
    /// The stamps of this session's datagrams.
    pub stamps: StampCounts,
    /// Whose stamps they are.
    pub sources: Sources,
    /// How long a transmit stamp is waited for; `None` where none comes late.
    pub stamp_timeout: Option<Duration>,
    /// What the path is.
    pub description: &'a Description,
    /// What the path counted during this session ([`counters_since`]).
    pub counters: Counters,
    /// What the logs got of this session ([`Finished::since`]), and its stages.
    pub recorded: &'a Finished,
}

/// What a session came to. Durations in ns, sizes in bytes with the IP header, the rest datagrams unless said otherwise.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Summary {
    /// `client` or `server`.
    pub role: Role,
    /// The other side.
    pub peer: Option<SocketAddrV4>,
    /// `forward`, `reverse` or `duplex`.
    pub direction: Option<&'static str>,
    /// How it ended: `complete`, `stopped`, `timed_out` …; `running` of one that goes on.
    pub end: &'static str,
    /// Whether the measurement did what was asked for, and every row reached the log.
    pub success: bool,
    /// nanoprobe's packet size: of the first ping, on the echoing side of the first pong; 28 where neither was sent.
    pub packet_size: u16,
    /// nanoprobe's time: of the pings, without handshake and FIN; `None` where there was none.
    pub duration_ns: Option<u64>,
    /// Everything sent, control messages and dummies too.
    pub transmitted: u64,
    /// Everything received.
    pub received: u64,
    /// Pings that asked for a pong and got none; `None` on a side that cannot tell.
    pub lost: Option<u64>,
    /// The same in percent of the pings that asked for one.
    pub loss_percent: Option<f64>,
    /// Datagrams sent of which there is a stamp.
    pub tx_stamps: u64,
    /// Datagrams sent of which one was asked for. nanoprobe asks for none of dummies.
    pub tx_stamps_requested: u64,
    /// Of those, the ones whose stamp was waited for in vain.
    pub tx_stamps_missed: u64,
    /// Transmit stamps that came when they were no longer waited for.
    pub tx_stamps_late: u64,
    /// Transmit stamps of datagrams that had theirs already.
    pub tx_stamps_duplicates: u64,
    /// Datagrams received that were to have a stamp: with the application's stamps all, else pings and pongs, without those
    /// that the card was to leave alone.
    pub rx_stamps_requested: u64,
    /// Of those, the ones that had it.
    pub rx_stamps: u64,
    /// Of those, the ones that had not: together with `rx_stamps` all of them.
    pub rx_stamps_missed: u64,
    /// Whose stamps those of datagrams sent are: `hardware`, `software` or `application`.
    pub tx_source: &'static str,
    /// The same of datagrams received.
    pub rx_source: &'static str,
    /// Pings sent.
    pub pings_sent: u64,
    /// Pings sent that asked for a pong.
    pub pongs_expected: u64,
    /// Pongs received, repeated ones too.
    pub pongs_received: u64,
    /// Pings received, repeated ones too.
    pub pings_received: u64,
    /// Pongs sent.
    pub pongs_sent: u64,
    /// What pings and pongs travelled behind: `udp` or `l2` for PTP headers over either, `None` for none.
    pub ptp: Option<&'static str>,
    /// Of the pings sent behind PTP headers, those that the card was to stamp.
    pub stamped_pings_sent: u64,
    /// Of the pongs sent so.
    pub stamped_pongs_sent: u64,
    /// Pings and pongs that were to be stamped and were not, as the stamp of an earlier one might still have lain in a card.
    pub stamps_withheld: u64,
    /// Stamps of the card that were none: 0, or more than an hour from its own time.
    pub stamps_implausible: u64,
    /// Pongs to pings that were answered already; `None` on a side that is not ponged.
    pub duplicates: Option<u64>,
    /// Pongs so late that their ping was no longer remembered; they count as lost.
    pub too_late: Option<u64>,
    /// Dummies sent.
    pub dummies_sent: u64,
    /// Round-trip times; `None` where there are none.
    pub t3_t0_ns: Option<Latency>,
    /// Round trips left out because the clock was stepped back: t3 before t0.
    pub t3_t0_negative: Option<u64>,
    /// Round trips left out because t0 and t3 are of different clocks.
    pub t3_t0_incomparable: Option<u64>,
    /// Round trips left out because t0 or t3 is missing.
    pub t3_t0_unstamped: Option<u64>,
    /// Whether pongs carried the stamps of the side that sent them; `None` where there was no session.
    pub in_band: Option<bool>,
    /// Where they did, (t3 − t0) − (t2 − t1), with its sign: t3 − t0 as above, t2 − t1 of the stamps that `t2_t1_source` names.
    /// `None` where there is none. Percentiles are good to 3 digits.
    pub rtt_ns: Option<stats::Summary>,
    /// Whose stamps of the other side t2 − t1 is reckoned with: `hardware`, `software` or `application`.
    pub t2_t1_source: Option<&'static str>,
    /// Of `rtt_ns` those below 0: a clock was stepped in between. They are among its samples.
    pub rtt_negative: Option<u64>,
    /// Pings that were answered and have no RTT: a stamp of this side or of the other is missing.
    pub rtt_missing: Option<u64>,
    /// What the other side told of a pong that nobody waits for: its ping had arrived twice, or it was told twice.
    pub rtt_strange: Option<u64>,
    /// Echoing with stamps in the pongs: earlier pongs whose stamps of the kernel or the card went out with later ones.
    pub stamps_told: u64,
    /// The same that there was no room to keep until then.
    pub stamps_untold: u64,
    /// Pings that left more than `late_threshold_ns` after their planned moment.
    pub late_sends: u64,
    /// From when on a ping is late.
    pub late_threshold_ns: u64,
    /// The worst delay between planned moment and sending.
    pub worst_lateness_ns: u64,
    /// Planned moments at which no ping was sent because an earlier one was that late.
    pub skipped_slots: u64,
    /// How late pings left: from the planned moment to the look at the clock that had the ping sent, some 0.1 µs before its t0. Of all
    /// pings that had a planned moment; `None` where none had, or nobody looked.
    pub lateness_ns: Option<Latency>,
    /// The same of those that were not due while the core was seen to be away; `None` where there are none, or as
    /// `core_away`.
    pub lateness_undisturbed_ns: Option<Latency>,
    /// How often the core was seen to be away from the busy loop; `None` where the loop sleeps, has the kernel poll the driver
    /// (`--busypoll`), or serves many clients.
    pub core_away: Option<CoreAway>,
    /// Datagrams from somebody else.
    pub foreign: u64,
    /// Datagrams from the peer that made no sense where the session stood.
    pub unexpected: u64,
    /// Of a server of many clients: datagrams of this one that were dropped unread, as more waited than was read at once and
    /// they were beyond its share. They are in no other number here.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub excess: Option<u64>,
    /// Rows in the log; `None` without one.
    pub rows_written: Option<u64>,
    /// Rows that did not get there.
    pub rows_lost: Option<u64>,
    /// What kept rows from getting there.
    pub log_error: Option<String>,
    /// Rows in the log of stages; `None` without one.
    pub stage_rows_written: Option<u64>,
    /// Rows that did not get there.
    pub stage_rows_lost: Option<u64>,
    /// What kept rows from getting there.
    pub stage_log_error: Option<String>,
    /// What lies between the stamps of one packet; empty where none has two, `None` where it could not be waited for.
    pub stages: Option<Stages>,
    /// Packets that are not in it because they came too fast to be reckoned.
    pub stages_left_out: u64,
    /// Card stamps that are not in it because the card's clock was not known then.
    pub stages_unconverted: Option<u64>,
    /// `path`, `xdp_mode`, `zero_copy`, `queues`, `local`.
    #[serde(flatten)]
    pub description: Description,
    /// `not_protocol`, `tx_ring_full`, `tx_retries`, `tx_dropped`, `reached_kernel`, `socket_dropped`,
    /// `frames_missing`, `xdp`. Not of a session that runs: reading them takes system calls.
    #[serde(flatten)]
    pub counters: Option<Counters>,
    #[serde(skip)]
    stamp_words: Option<String>,
    /// What the percentage of transmit stamps is of.
    #[serde(skip)]
    tx_base: u64,
    #[serde(skip)]
    rx_base: u64,
}

impl Summary {
    /// Reckons losses and times.
    pub fn new(input: SummaryInput<'_>) -> Self {
        let SummaryInput { totals, round_trips, recorded, stamps, sources, .. } = input;
        let trips = round_trips.filter(|_| totals.measures_loss);
        let in_band = trips.and_then(|trips| trips.in_band);
        let punctuality = input.punctuality;
        // A loop that sleeps is away by its own choice.
        let busy = punctuality.filter(|punctuality| punctuality.is_watched);
        let expected = totals.pongs_expected;
        // A pong to a ping that asked for none must not make the loss negative.
        let lost = trips.map(|trips| expected.saturating_sub(trips.counts.unique));
        let duration = totals.started.zip(totals.ended).map(|(started, ended)| ended.duration_since(started));
        let Finished { log, stage_log, stages, stages_left_out } = recorded;
        let error = |file: &Option<Written>| file.as_ref().and_then(|file| file.error.clone());
        Self {
            role: input.role,
            peer: input.peer,
            direction: input.settings.map(|settings| Direction::as_str(settings.direction)),
            end: end_name(input.end),
            success: input.end.is_success() && recorded.is_whole(),
            packet_size: totals.first_ip_len.unwrap_or(UDP_IP_HEADERS),
            duration_ns: duration.map(|duration| u64::try_from(duration.as_nanos()).unwrap_or(u64::MAX)),
            transmitted: totals.transmitted,
            received: totals.received,
            lost,
            loss_percent: lost.map(|lost| percent(lost, expected)),
            tx_stamps: stamps.tx,
            tx_stamps_requested: stamps.tx_requested,
            tx_stamps_missed: stamps.tx_missed,
            tx_stamps_late: stamps.tx_late,
            tx_stamps_duplicates: stamps.tx_duplicates,
            rx_stamps_requested: stamps.rx + stamps.rx_missed,
            rx_stamps: stamps.rx,
            rx_stamps_missed: stamps.rx_missed,
            tx_source: sources.sent.as_str(),
            rx_source: sources.received.as_str(),
            pings_sent: totals.pings_sent,
            pongs_expected: expected,
            pongs_received: totals.pongs_received,
            pings_received: totals.pings_received,
            pongs_sent: totals.pongs_sent,
            ptp: input.settings.and_then(|settings| settings.ptp).map(Transport::as_str),
            stamped_pings_sent: totals.stamped_pings_sent,
            stamped_pongs_sent: totals.stamped_pongs_sent,
            stamps_withheld: totals.stamps_withheld,
            stamps_implausible: stamps.implausible,
            duplicates: trips.map(|trips| trips.counts.duplicates),
            too_late: trips.map(|trips| trips.counts.unknown),
            dummies_sent: totals.dummies_sent,
            t3_t0_ns: trips.and_then(|trips| trips.latency),
            t3_t0_negative: trips.map(|trips| trips.counts.negative),
            t3_t0_incomparable: trips.map(|trips| trips.counts.incomparable),
            t3_t0_unstamped: trips.map(|trips| trips.counts.unstamped),
            in_band: input.settings.map(|settings| settings.in_band),
            rtt_ns: in_band.and_then(|in_band| in_band.rtt),
            t2_t1_source: in_band.and_then(|in_band| in_band.far_source).map(FarSource::as_str),
            rtt_negative: in_band.map(|in_band| in_band.negative),
            rtt_missing: in_band.map(|in_band| in_band.missing),
            rtt_strange: in_band.map(|in_band| in_band.strange),
            stamps_told: stamps.told,
            stamps_untold: stamps.untold,
            late_sends: totals.late_sends,
            late_threshold_ns: LATE_NANOS,
            worst_lateness_ns: totals.worst_lateness_nanos,
            skipped_slots: totals.skipped_slots,
            lateness_ns: punctuality.and_then(|punctuality| punctuality.lateness),
            lateness_undisturbed_ns: busy.and_then(|busy| busy.undisturbed),
            core_away: busy.map(|busy| busy.away),
            foreign: totals.foreign,
            unexpected: totals.unexpected,
            excess: None,
            rows_written: log.as_ref().map(|log| log.rows_written),
            rows_lost: log.as_ref().map(|log| log.rows_lost),
            log_error: error(log),
            stage_rows_written: stage_log.as_ref().map(|log| log.rows_written),
            stage_rows_lost: stage_log.as_ref().map(|log| log.rows_lost),
            stage_log_error: error(stage_log),
            stages: stages.clone().map(|stages| stages.sampled_at_the_hook(input.description.hook_stamps_one_in)),
            stages_left_out: *stages_left_out,
            stages_unconverted: stages.as_ref().map(|stages| stages.unconverted),
            description: input.description.clone(),
            counters: Some(input.counters),
            stamp_words: stamps.words(input.stamp_timeout),
            tx_base: match sources.sent {
                // nanoprobe's own reckoning: of everything sent, dummies too.
                Source::Application => totals.transmitted,
                // Control messages get no stamp of these: a percentage of everything could not reach 100.
                Source::Software | Source::Hardware => stamps.tx_requested,
            },
            rx_base: match sources.received {
                Source::Application => totals.received,
                Source::Software | Source::Hardware => stamps.rx + stamps.rx_missed,
            },
        }
    }

    /// What a session came to until now, that goes on: the input's end and counters are left out. Its `success` says whether
    /// every row reached the log, and only pings are lost of which a later one has its answer.
    pub fn so_far(input: SummaryInput<'_>) -> Self {
        let success = input.recorded.is_whole();
        let every = input.settings.map_or(0, |settings| settings.pong_every);
        let lost = input.round_trips.filter(|_| input.totals.measures_loss).map(|trips| trips.counts.overtaken(every));
        let loss_percent = lost.map(|lost| percent(lost, input.totals.pongs_expected));
        Self { end: RUNNING, success, lost, loss_percent, counters: None, ..Self::new(input) }
    }

    /// nanoprobe's four lines, then ours; each ends with a line feed.
    pub fn to_text(&self) -> String {
        let mut text = self.nanoprobe_lines();
        text.push_str("--- xdprobe statistics ---\n");
        for (name, value) in self.own_lines() {
            let _ = writeln!(text, "{name:<12} {value}");
        }
        text
    }

    /// The object of `--json`, on one line, without a line feed.
    pub fn to_json(&self) -> String {
        serde_json::to_string(self).expect("numbers, strings and fixed names always become JSON")
    }

    fn nanoprobe_lines(&self) -> String {
        let Self { packet_size, transmitted, received, tx_stamps, rx_stamps, .. } = self;
        let nanos = self.duration_ns.unwrap_or(0);
        let (seconds, subsec) = (nanos / 1_000_000_000, nanos % 1_000_000_000);
        let loss = self.loss_percent.map(|percent| format!(", {percent:.6}% packet loss")).unwrap_or_default();
        format!(
            "--- nanoprobe statistics ---\n\
             packet size {packet_size} bytes, time {seconds}.{subsec:09} s\n\
             {transmitted} packets transmitted ({:.1} pps), {received} received ({:.1} pps){loss}\n\
             {tx_stamps} TX stamp collected ({:.2}%), {rx_stamps} RX stamp collected ({:.2}%)\n",
            per_second(*transmitted, nanos),
            per_second(*received, nanos),
            percent(*tx_stamps, self.tx_base),
            percent(*rx_stamps, self.rx_base),
        )
    }

    /// Names and values of our lines. What is only of interest when it happened stands only then.
    fn own_lines(&self) -> Vec<(&'static str, String)> {
        let mut lines = vec![("path", path_words(&self.description))];
        if let Some(rtt) = self.t3_t0_ns {
            lines.push(("RTT t3-t0", rtt_words(&rtt)));
        }
        lines.extend(self.in_band_words().map(|words| ("RTT", words)));
        match &self.stages {
            Some(stages) => lines.extend(stages.lines()),
            None => lines.push(("stages", "not known: a log that takes nothing held up what reckons them".into())),
        }
        if let Some(ptp) = self.ptp {
            let (sent, stamped) =
                (self.pings_sent + self.pongs_sent, self.stamped_pings_sent + self.stamped_pongs_sent);
            let withheld = self.stamps_withheld;
            let words = format!("over {ptp}: {stamped} of {sent} to be stamped, {withheld} withheld for one under way");
            lines.push(("PTP", words));
        }
        if self.pings_sent > 0 {
            lines.push(("late sends", self.late_words()));
        }
        if let Some(lateness) = &self.lateness_ns {
            lines.push(("lateness", format!("{} pings", lateness_words(lateness))));
        }
        if let Some(away) = &self.core_away {
            // Where it never was, all that is told of pings is told already.
            if away.count > 0
                && let Some(lateness) = &self.lateness_undisturbed_ns
            {
                let words = format!("{} pings that were not due while the core was away", lateness_words(lateness));
                lines.push(("undisturbed", words));
            }
            lines.push(("core away", self.away_words(away)));
        }
        let Counters {
            not_protocol,
            tx_ring_full,
            tx_retries,
            tx_dropped,
            reached_kernel,
            socket_dropped,
            strange_stamps,
            frames_missing,
            xdp,
        } = self.counters.unwrap_or_default();
        if let Some(xdp) = xdp {
            lines.push(("ring full", format!("{tx_ring_full} on sending, {} on receiving", xdp.rx_ring_full)));
            let XdpCounters { seen, redirected, passed, malformed, .. } = xdp;
            let words = format!("seen {seen}, redirected {redirected}, passed {passed}, malformed {malformed}");
            lines.push(("XDP program", words));
            lines.extend(xdp_anomalies(&xdp).map(|words| ("AF_XDP", words)));
        } else if tx_ring_full > 0 {
            lines.push(("send queue", format!("full {tx_ring_full} times")));
        }
        let lost = self.lost.unwrap_or(0);
        let anomalies = [
            ("lost", lost, format!("{lost} of {} pings that asked for a pong got none", self.pongs_expected)),
            ("duplicates", self.duplicates.unwrap_or(0), "pongs came more than once".into()),
            ("too late", self.too_late.unwrap_or(0), "pongs came after 131072 further pings".into()),
            ("clock", self.t3_t0_negative.unwrap_or(0), "round trips left out: it was stepped back".into()),
            (
                "clocks",
                self.t3_t0_incomparable.unwrap_or(0),
                format!(
                    "round trips left out: t0 is of {}, t3 of {}, and their clocks differ",
                    self.tx_source, self.rx_source
                ),
            ),
            ("RTT", self.rtt_negative.unwrap_or(0), "of the RTTs are negative: a clock was stepped".into()),
            (
                "RTT",
                self.rtt_strange.unwrap_or(0),
                "stamps of the other side belong to no pong that waits for them".into(),
            ),
            (
                "untold",
                self.stamps_untold,
                "pairs of stamps were not told to the other side: no room to keep them, or newer ones went first"
                    .into(),
            ),
            (
                "unstamped",
                self.t3_t0_unstamped.unwrap_or(0),
                format!(
                    "round trips left out: t0 or t3 is missing{}",
                    if self.end == RUNNING { ", or not yet there" } else { "" }
                ),
            ),
            ("stages", self.stages_left_out, "packets left out: they came too fast to be reckoned".into()),
            ("retries", tx_retries, "times the kernel was busy and was asked again".into()),
            ("dropped", tx_dropped, "frames dropped by this machine's kernel before they left".into()),
            ("socket full", socket_dropped, "datagrams dropped by this machine's kernel before they were read".into()),
            ("foreign", self.foreign, "datagrams from somebody else".into()),
            ("unexpected", self.unexpected, "datagrams that made no sense where they came".into()),
            ("excess", self.excess.unwrap_or(0), "datagrams dropped: beyond this client's share of the server".into()),
            (
                "no protocol",
                not_protocol,
                "datagrams that were too short, of an unknown type, damaged, or from no host's address".into(),
            ),
            ("frames", frames_missing, "of the memory shared with the kernel are lost: please report it".into()),
            ("strange", strange_stamps, "transmit stamps that belong to no datagram".into()),
            (
                "past AF_XDP",
                reached_kernel,
                "datagrams went to the kernel: fragments, or a queue without a socket".into(),
            ),
        ];
        for (name, count, words) in anomalies.into_iter().filter(|(_, count, _)| *count > 0) {
            lines.push((name, if name == "lost" { words } else { format!("{count} {words}") }));
        }
        lines.extend(self.stamp_words.clone().map(|words| ("stamps", words)));
        let log = log_words(self.rows_written, self.rows_lost, self.log_error.as_deref());
        lines.extend(log.map(|words| ("log", words)));
        let log = log_words(self.stage_rows_written, self.stage_rows_lost, self.stage_log_error.as_deref());
        lines.extend(log.map(|words| ("stage log", words)));
        lines
    }

    /// The round trips without the other side's time, and whose stamps they are; `None` where nobody tells.
    fn in_band_words(&self) -> Option<String> {
        let missing = self.rtt_missing?;
        let Some(stats::Summary { count, min, p50, p99, p999, max, .. }) = self.rtt_ns else {
            return Some(format!(
                "none: of {missing} answered pings the other side's t2-t1 or this side's t3-t0 is missing"
            ));
        };
        let [min, p50, p99, p999, max] = [min, p50, p99, p999, max].map(signed_micros);
        let mut words = format!("min {min}  p50 {p50}  p99 {p99}  p99.9 {p999}  max {max} us, {count} samples");
        if missing > 0 {
            let _ = write!(words, " ({missing} without)");
        }
        let whose = if self.tx_source == self.rx_source {
            self.tx_source.to_owned()
        } else {
            format!("{} and {}", self.tx_source, self.rx_source)
        };
        let _ = write!(words, "; t3-t0 {whose}, t2-t1 {}", self.t2_t1_source.unwrap_or("unknown"));
        Some(words)
    }

    fn late_words(&self) -> String {
        let threshold = self.late_threshold_ns / 1000;
        let mut words = format!("{} of {} pings by more than {threshold} us", self.late_sends, self.pings_sent);
        let _ = write!(words, ", worst {} us", micros(self.worst_lateness_ns));
        if self.skipped_slots > 0 {
            let _ = write!(words, ", {} pings left out for it", self.skipped_slots);
        }
        words
    }

    fn away_words(&self, away: &CoreAway) -> String {
        let CoreAway { count, total_ns, longest_ns, threshold_ns, pings_due, late_sends, skipped_slots, .. } = *away;
        let threshold = threshold_ns / 1000;
        if count == 0 {
            return format!("never seen for more than {threshold} us");
        }
        let [total, longest] = [total_ns, longest_ns].map(micros);
        let mut words = format!("{count} times for more than {threshold} us, {total} us in all, longest {longest} us");
        if pings_due + skipped_slots > 0 {
            let _ = write!(
                words,
                "; {pings_due} pings were due then, {late_sends} of the late sends, and {skipped_slots} of those left out"
            );
        }
        words
    }
}

/// What is wrong with a log; `None` where nothing is.
fn log_words(written: Option<u64>, lost: Option<u64>, error: Option<&str>) -> Option<String> {
    match (lost?, error) {
        (0, None) => None,
        (lost, error) => {
            let reason = error.unwrap_or("the disk was too slow");
            Some(format!("{lost} rows lost, {} written: {reason}", written.unwrap_or(0)))
        }
    }
}

/// What was counted between two readings of a path's counters.
pub fn counters_since(earlier: &Counters, later: &Counters) -> Counters {
    let since = |value: fn(&Counters) -> u64| value(later).saturating_sub(value(earlier));
    let first = earlier.xdp.unwrap_or_default();
    Counters {
        not_protocol: since(|c| c.not_protocol),
        tx_ring_full: since(|c| c.tx_ring_full),
        tx_retries: since(|c| c.tx_retries),
        tx_dropped: since(|c| c.tx_dropped),
        reached_kernel: since(|c| c.reached_kernel),
        socket_dropped: since(|c| c.socket_dropped),
        strange_stamps: since(|c| c.strange_stamps),
        frames_missing: since(|c| c.frames_missing),
        xdp: later.xdp.map(|last| {
            let since = |value: fn(&XdpCounters) -> u64| value(&last).saturating_sub(value(&first));
            XdpCounters {
                seen: since(|c| c.seen),
                redirected: since(|c| c.redirected),
                passed: since(|c| c.passed),
                malformed: since(|c| c.malformed),
                unstamped: since(|c| c.unstamped),
                stamp_error: last.stamp_error,
                rx_dropped: since(|c| c.rx_dropped),
                rx_ring_full: since(|c| c.rx_ring_full),
                rx_fill_ring_empty: since(|c| c.rx_fill_ring_empty),
                rx_invalid: since(|c| c.rx_invalid),
                tx_invalid: since(|c| c.tx_invalid),
            }
        }),
    }
}

/// All that [`end_name`] says.
pub(crate) const ENDS: [&str; 11] = [
    "complete",
    "stopped",
    "stopped_connecting",
    "rejected",
    "not_agreed",
    "no_answer",
    "timed_out",
    "flood_unanswered",
    "fin_unanswered",
    "peer_stopped",
    "broken",
];

/// How a session ended, as JSON and metrics have it.
pub(crate) const fn end_name(end: End) -> &'static str {
    match end {
        End::Complete => "complete",
        End::Stopped => "stopped",
        End::StoppedConnecting => "stopped_connecting",
        End::Rejected => "rejected",
        End::NotAgreed { .. } => "not_agreed",
        End::NoAnswer { .. } => "no_answer",
        End::TimedOut { .. } => "timed_out",
        End::FloodUnanswered { .. } => "flood_unanswered",
        End::FinUnanswered { .. } => "fin_unanswered",
        End::PeerStopped => "peer_stopped",
        End::Broken => "broken",
    }
}

/// `xdp (native, copy), queues 0 1`, or `kernel`.
fn path_words(description: &Description) -> String {
    let copy = description.zero_copy.map(|zero| if zero { "zero-copy" } else { "copy" });
    let how: Vec<&str> = description.xdp_mode.into_iter().chain(copy).collect();
    let mut words = description.path.to_string();
    if !how.is_empty() {
        let _ = write!(words, " ({})", how.join(", "));
    }
    if !description.queues.is_empty() {
        let queues: Vec<String> = description.queues.iter().map(u32::to_string).collect();
        let _ = write!(words, ", queues {}", queues.join(" "));
    }
    words
}

fn lateness_words(lateness: &Latency) -> String {
    let Latency { count, p50, p99, p999, max, .. } = *lateness;
    let [p50, p99, p999, max] = [p50, p99, p999, max].map(micros);
    format!("p50 {p50}  p99 {p99}  p99.9 {p999}  max {max} us, {count}")
}

fn rtt_words(rtt: &Latency) -> String {
    let [min, p50, p99, p999, max] = [rtt.min, rtt.p50, rtt.p99, rtt.p999, rtt.max].map(micros);
    format!("min {min}  p50 {p50}  p99 {p99}  p99.9 {p999}  max {max} us, {} samples", rtt.count)
}

/// What the AF_XDP sockets dropped; `None` where nothing.
fn xdp_anomalies(xdp: &XdpCounters) -> Option<String> {
    let counts = [
        ("dropped", xdp.rx_dropped),
        ("without a frame to receive into", xdp.rx_fill_ring_empty),
        ("invalid receive descriptors", xdp.rx_invalid),
        ("invalid send descriptors", xdp.tx_invalid),
    ];
    let words: Vec<String> =
        counts.iter().filter(|(_, count)| *count > 0).map(|(name, count)| format!("{count} {name}")).collect();
    (!words.is_empty()).then(|| words.join(", "))
}

/// ns as µs with three decimals, exactly.
pub(crate) fn micros(nanos: u64) -> String {
    format!("{}.{:03}", nanos / 1000, nanos % 1000)
}

/// The same with a sign where it is below 0.
pub(crate) fn signed_micros(nanos: i64) -> String {
    let sign = if nanos < 0 { "-" } else { "" };
    format!("{sign}{}", micros(nanos.unsigned_abs()))
}

/// 0 where nothing was to be had.
fn percent(part: u64, whole: u64) -> f64 {
    if whole == 0 { 0.0 } else { part as f64 * 100.0 / whole as f64 }
}

/// 0 where there was no time.
fn per_second(count: u64, nanos: u64) -> f64 {
    if nanos == 0 {
        return 0.0;
    }
    // Seconds and nanoseconds apart, as nanoprobe does, so that the last digit is rounded as it rounds it.
    let seconds = (nanos / 1_000_000_000) as f64 + (nanos % 1_000_000_000) as f64 / 1e9;
    count as f64 / seconds
}

#[cfg(test)]
mod tests;
