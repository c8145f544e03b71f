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
mod tests {
    use super::super::punctuality::Punctuality;
    use super::super::roundtrip::RoundTrips;
    use super::super::stages::{Stage, StageTimes};
    use super::*;
    use crate::clock::{Stamp, Time};
    use crate::session::TimerKind;
    use std::net::Ipv4Addr;

    const LOCAL: SocketAddrV4 = SocketAddrV4::new(Ipv4Addr::LOCALHOST, 10666);

    static KERNEL: Description = Description {
        path: "kernel",
        xdp_mode: None,
        zero_copy: None,
        queues: Vec::new(),
        local: LOCAL,
        hook_stamps_one_in: None,
    };

    static NOTHING: Finished = Finished {
        log: None,
        stage_log: None,
        stages: Some(Stages { times: Vec::new(), unconverted: 0 }),
        stages_left_out: 0,
    };

    fn written(rows_written: u64, rows_lost: u64) -> Option<Written> {
        Some(Written { rows_written, rows_lost, error: None })
    }

    fn xdp() -> Description {
        let (xdp_mode, zero_copy) = (Some("native"), Some(true));
        let hook_stamps_one_in = None;
        Description { path: "xdp", xdp_mode, zero_copy, queues: vec![0, 1], local: LOCAL, hook_stamps_one_in }
    }

    fn input<'a>(totals: &'a Totals, round_trips: Option<&'a RoundTrips>) -> SummaryInput<'a> {
        SummaryInput {
            role: Role::Client,
            peer: Some(LOCAL),
            settings: None,
            totals,
            end: End::Complete,
            round_trips: round_trips.map(RoundTrips::totals),
            punctuality: None,
            stamps: StampCounts {
                tx_requested: totals.transmitted,
                tx: totals.transmitted,
                rx: totals.received,
                ..StampCounts::default()
            },
            sources: Sources::application(),
            stamp_timeout: None,
            description: &KERNEL,
            counters: Counters::default(),
            recorded: &NOTHING,
        }
    }

    fn summary(totals: &Totals, round_trips: Option<&RoundTrips>) -> Summary {
        Summary::new(input(totals, round_trips))
    }

    /// Pings 1 to `pings`, of which `answered` come back, the first of them twice.
    fn trips(pings: u64, answered: impl IntoIterator<Item = u64>) -> RoundTrips {
        let at = |nanos| Stamp::System(Time::from_nanos(nanos));
        let mut trips = RoundTrips::new();
        for sequence in 1..=pings {
            trips.sent(sequence);
            trips.left(sequence, at(1000));
        }
        for (index, sequence) in answered.into_iter().enumerate() {
            trips.answered(sequence, Some(at(6123 + 1000 * index as u64)));
            if index == 0 {
                trips.answered(sequence, Some(at(9000)));
            }
        }
        trips
    }

    #[test]
    fn a_session_without_pings_prints_no_infinity() {
        let totals = Totals { transmitted: 1, received: 2, measures_loss: true, ..Totals::default() };
        let stamps = StampCounts { rx: 2, ..StampCounts::default() };
        let text = Summary::new(SummaryInput { stamps, ..input(&totals, Some(&RoundTrips::new())) }).to_text();
        let expected = "--- nanoprobe statistics ---\n\
                        packet size 28 bytes, time 0.000000000 s\n\
                        1 packets transmitted (0.0 pps), 2 received (0.0 pps), 0.000000% packet loss\n\
                        0 TX stamp collected (0.00%), 2 RX stamp collected (100.00%)\n\
                        --- xdprobe statistics ---\n\
                        path         kernel\n";
        assert_eq!(text, expected);
        let nothing = summary(&Totals::default(), None);
        assert!(nothing.to_text().contains("0 TX stamp collected (0.00%), 0 RX stamp collected (0.00%)"));
        assert_eq!(nothing.duration_ns, None);
    }

    #[test]
    fn loss_counts_pings_that_asked_for_a_pong_and_each_pong_once() {
        // 12 pings, every third asks; of the four, two are answered, one of them twice. SYN, FIN and dummies are no loss.
        let totals = Totals {
            transmitted: 50,
            received: 7,
            pings_sent: 12,
            pongs_expected: 4,
            pongs_received: 3,
            measures_loss: true,
            ..Totals::default()
        };
        let summary = summary(&totals, Some(&trips(12, [3, 9])));
        assert_eq!((summary.lost, summary.loss_percent, summary.duplicates), (Some(2), Some(50.0), Some(1)));
        let text = summary.to_text();
        assert!(text.contains("7 received (0.0 pps), 50.000000% packet loss\n"), "{text}");
        assert!(text.contains("\nlost         2 of 4 pings that asked for a pong got none\n"), "{text}");
    }

    #[test]
    fn loss_never_wraps() {
        let totals = Totals { pongs_expected: 1, measures_loss: true, ..Totals::default() };
        let summary = summary(&totals, Some(&trips(3, [1, 2, 3])));
        assert_eq!((summary.lost, summary.loss_percent), (Some(0), Some(0.0)));
    }

    #[test]
    fn a_side_that_only_echoes_claims_nothing_about_loss_or_round_trips() {
        let totals = Totals { transmitted: 3, received: 3, pongs_sent: 2, ..Totals::default() };
        let summary = summary(&totals, Some(&RoundTrips::new()));
        assert_eq!((summary.lost, summary.t3_t0_ns, summary.duplicates), (None, None, None));
        assert!(!summary.to_text().contains("packet loss") && !summary.to_text().contains("RTT"));
        let json: serde_json::Value = serde_json::from_str(&summary.to_json()).unwrap();
        assert!(["lost", "loss_percent", "t3_t0_ns"].iter().all(|name| json[name].is_null()), "{json}");
    }

    #[test]
    fn everything_that_happened_is_said_and_nothing_else() {
        let totals = Totals {
            transmitted: 4,
            received: 4,
            pings_sent: 2,
            pongs_expected: 2,
            late_sends: 1,
            worst_lateness_nanos: 35_123,
            skipped_slots: 3,
            foreign: 6,
            measures_loss: true,
            ..Totals::default()
        };
        let recorded = Finished { log: written(3, 1), stage_log: written(0, 4), ..NOTHING.clone() };
        let counters = Counters {
            tx_ring_full: 5,
            tx_retries: 2,
            tx_dropped: 0,
            xdp: Some(XdpCounters { seen: 9, redirected: 4, passed: 5, rx_dropped: 1, ..XdpCounters::default() }),
            ..Counters::default()
        };
        let (description, trips) = (xdp(), trips(2, [1, 2]));
        let summary = Summary::new(SummaryInput {
            description: &description,
            counters,
            recorded: &recorded,
            ..input(&totals, Some(&trips))
        });
        let text = summary.to_text();
        let (_, ours) = text.split_once("--- xdprobe statistics ---\n").unwrap();
        let expected = "path         xdp (native, zero-copy), queues 0 1\n\
                        RTT t3-t0    min 5.123  p50 5.123  p99 6.123  p99.9 6.123  max 6.123 us, 2 samples\n\
                        late sends   1 of 2 pings by more than 10 us, worst 35.123 us, 3 pings left out for it\n\
                        ring full    5 on sending, 0 on receiving\n\
                        XDP program  seen 9, redirected 4, passed 5, malformed 0\n\
                        AF_XDP       1 dropped\n\
                        duplicates   1 pongs came more than once\n\
                        retries      2 times the kernel was busy and was asked again\n\
                        foreign      6 datagrams from somebody else\n\
                        log          1 rows lost, 3 written: the disk was too slow\n\
                        stage log    4 rows lost, 0 written: the disk was too slow\n";
        assert_eq!(ours, expected);
        assert!(!summary.success, "a lost row is no success");
        let json: serde_json::Value = serde_json::from_str(&summary.to_json()).unwrap();
        assert_eq!((&json["xdp"]["rx_dropped"], &json["rows_lost"]), (&1.into(), &1.into()));
    }

    #[test]
    fn what_was_late_for_the_machine_is_told_apart_and_only_of_a_loop_that_never_sleeps() {
        let totals = Totals { pings_sent: 4, late_sends: 2, worst_lateness_nanos: 60_000, ..Totals::default() };
        let mut punctuality = Punctuality::new();
        punctuality.met(Some(50), 0, 0);
        punctuality.met(Some(20_000), 0, 0);
        let told = |timer, punctuality: Option<&Punctuality>| {
            // Of a server that waits as its own user wants it: the client's settings have no say.
            let settings = Settings { timer: TimerKind::Sleep, ..Settings::default() };
            let is_watched = timer == TimerKind::Busy;
            let summary = Summary::new(SummaryInput {
                settings: Some(&settings),
                punctuality: punctuality.map(|punctuality| PunctualityTotals { is_watched, ..punctuality.totals() }),
                ..input(&totals, None)
            });
            let text = summary.to_text().split_once("path         kernel\n").unwrap().1.to_owned();
            (text, serde_json::from_str::<serde_json::Value>(&summary.to_json()).unwrap())
        };
        let late = "late sends   2 of 4 pings by more than 10 us, worst 60.000 us\n";
        let all =
            |count, p50, max| format!("lateness     p50 {p50}  p99 {max}  p99.9 {max}  max {max} us, {count} pings\n");
        let (text, json) = told(TimerKind::Busy, Some(&punctuality));
        assert_eq!(text, format!("{late}{}core away    never seen for more than 5 us\n", all(2, "0.050", "20.000")));
        assert_eq!((&json["core_away"]["count"], &json["core_away"]["p50_ns"]), (&0.into(), &serde_json::Value::Null));
        punctuality.was_away(70_000);
        punctuality.met(Some(60_000), 3, 70_000);
        punctuality.was_away(8_000);
        punctuality.met(Some(900), 0, 8_000);
        let (text, json) = told(TimerKind::Busy, Some(&punctuality));
        let expected = format!(
            "{late}{}undisturbed  p50 0.050  p99 20.000  p99.9 20.000  max 20.000 us, 2 pings that were not due while the core was \
             away\ncore away    2 times for more than 5 us, 78.000 us in all, longest 70.000 us; 2 pings were due then, 1 of the \
             late sends, and 3 of those left out\n",
            all(4, "0.900", "60.000")
        );
        assert_eq!(text, expected);
        let away = &json["core_away"];
        let names = ["count", "total_ns", "longest_ns", "threshold_ns", "pings_due", "late_sends", "skipped_slots"];
        assert_eq!(names.map(|name| away[name].as_u64().unwrap()), [2, 78_000, 70_000, 5_000, 2, 1, 3]);
        assert_eq!(away.as_object().unwrap().len(), names.len() + 2);
        assert_eq!((&json["lateness_ns"]["count"], &json["lateness_undisturbed_ns"]["count"]), (&4.into(), &2.into()));
        assert_eq!(
            (&json["lateness_ns"]["max"], &json["lateness_undisturbed_ns"]["min"]),
            (&60_000.into(), &50.into())
        );
        // Asleep it is away by its own choice, and of many clients nobody looks.
        let (text, json) = told(TimerKind::Sleep, Some(&punctuality));
        assert_eq!(text, format!("{late}{}", all(4, "0.900", "60.000")));
        assert_eq!(
            (&json["core_away"], &json["lateness_undisturbed_ns"]),
            (&serde_json::Value::Null, &serde_json::Value::Null)
        );
        let (text, json) = told(TimerKind::Busy, None);
        assert_eq!(
            (text.as_str(), &json["lateness_ns"], &json["core_away"]),
            (late, &serde_json::Value::Null, &serde_json::Value::Null)
        );
        // A side that does not ping has no lateness, but its pongs wait for the core too.
        let (text, json) = told(TimerKind::Busy, Some(&Punctuality::new()));
        assert!(text.ends_with("us\ncore away    never seen for more than 5 us\n"), "{text}");
        assert!(json["lateness_ns"].is_null() && json["core_away"].is_object(), "{json}");
    }

    #[test]
    fn stages_that_are_not_known_are_not_left_out_in_silence() {
        let totals = Totals::default();
        let told = |stages| {
            let recorded = Finished { stages, ..NOTHING.clone() };
            let summary = Summary::new(SummaryInput { recorded: &recorded, ..input(&totals, None) });
            let json: serde_json::Value = serde_json::from_str(&summary.to_json()).unwrap();
            (summary.to_text().contains("stages       not known: a log that takes nothing"), json["stages"].is_null())
        };
        assert_eq!(told(None), (true, true));
        assert_eq!(told(Some(Stages::default())), (false, false));
    }

    #[test]
    fn only_a_planned_end_with_a_whole_log_is_a_success() {
        let totals = Totals::default();
        let success = |log, stage_log| {
            let recorded = Finished { log, stage_log, ..NOTHING.clone() };
            Summary::new(SummaryInput { recorded: &recorded, ..input(&totals, None) }).success
        };
        assert!(success(written(3, 0), written(4, 0)) && success(None, None));
        assert!(!success(written(3, 0), written(4, 1)) && !success(written(3, 1), None));
        let refused = Some(Written { error: Some("No space left on device".into()), ..Written::default() });
        assert!(!success(written(3, 0), refused));
        let rejected = Summary::new(SummaryInput { end: End::Rejected, ..input(&totals, None) });
        assert_eq!((rejected.success, rejected.end), (false, "rejected"));
    }

    #[test]
    fn stages_and_missing_stamps_are_said_and_counted() {
        let totals = Totals { transmitted: 103, received: 102, measures_loss: true, ..Totals::default() };
        let stamps =
            StampCounts { tx_requested: 101, tx: 98, tx_missed: 3, rx: 98, rx_missed: 2, ..StampCounts::default() };
        let (uncertainty_ns, one_in) = (None, None);
        let hook = StageTimes { count: 1000, min: 900, p50: 1234, p99: 3210, max: 80_100, uncertainty_ns, one_in };
        let wire = StageTimes { min: -7, uncertainty_ns: Some(50), ..hook };
        let times = vec![(Stage::HwToHook, wire), (Stage::HookToApp, hook)];
        let recorded =
            Finished { stages: Some(Stages { times, unconverted: 6 }), stages_left_out: 9, ..NOTHING.clone() };
        let mut trips = RoundTrips::new();
        (1..=2).for_each(|sequence| trips.sent(sequence));
        trips.left(1, Stamp::System(Time::from_nanos(1)));
        (1..=2).for_each(|sequence| _ = trips.answered(sequence, Some(Stamp::Card(Time::from_nanos(9)))));
        let summary = Summary::new(SummaryInput {
            stamps,
            sources: Sources { sent: Source::Application, received: Source::Hardware },
            stamp_timeout: Some(Duration::from_millis(100)),
            recorded: &recorded,
            ..input(&totals, Some(&trips))
        });
        let expected = "path         kernel\n\
            hw->hook     min -0.007  p50 1.234  p99 3.210  max 80.100 us, 1000 samples (± 0.050 us)\n\
            hook->app    p50 1.234  p99 3.210  max 80.100 us, 1000 samples\n\
            stages       6 card stamps left out: the card's clock was not known then\n\
            clocks       1 round trips left out: t0 is of application, t3 of hardware, and their clocks differ\n\
            unstamped    1 round trips left out: t0 or t3 is missing\n\
            stages       9 packets left out: they came too fast to be reckoned\n\
            stamps       3 of 101 transmit stamps never came (waited 100 ms each), \
            2 datagrams came without a receive stamp\n";
        assert_eq!(summary.to_text().split_once("--- xdprobe statistics ---\n").unwrap().1, expected);
        assert!(summary.to_text().contains("98 TX stamp collected (95.15%), 98 RX stamp collected (98.00%)"));
        let json: serde_json::Value = serde_json::from_str(&summary.to_json()).unwrap();
        let wire =
            serde_json::json!({"count": 1000, "min": -7, "p50": 1234, "p99": 3210, "max": 80100, "uncertainty_ns": 50});
        assert_eq!(json["stages"]["hw_to_hook_ns"], wire);
        assert_eq!(json["stages"].as_object().unwrap().len(), 2);
        assert!(json["stages"]["hook_to_app_ns"]["uncertainty_ns"].is_null());
        for (name, value) in [
            ("tx_stamps", 98),
            ("tx_stamps_requested", 101),
            ("tx_stamps_missed", 3),
            ("rx_stamps_missed", 2),
            ("stages_left_out", 9),
            ("stages_unconverted", 6),
            ("t3_t0_incomparable", 1),
            ("t3_t0_unstamped", 1),
        ] {
            assert_eq!(json[name], value, "{name}");
        }
    }

    #[test]
    fn a_sample_of_hook_stamps_is_called_one() {
        let totals = Totals::default();
        let (uncertainty_ns, one_in) = (None, None);
        let times = StageTimes { count: 60, min: 900, p50: 1234, p99: 3210, max: 80_100, uncertainty_ns, one_in };
        let all = vec![(Stage::HookToApp, times), (Stage::AppToSw, times)];
        let recorded = Finished { stages: Some(Stages { times: all, unconverted: 0 }), ..NOTHING.clone() };
        let told = |hook_stamps_one_in| {
            let description = Description { hook_stamps_one_in, ..xdp() };
            let input = SummaryInput { description: &description, recorded: &recorded, ..input(&totals, None) };
            let summary = Summary::new(input);
            let json: serde_json::Value = serde_json::from_str(&summary.to_json()).unwrap();
            (summary.to_text(), json)
        };
        let (text, json) = told(Some(17));
        let line = "hook->app    p50 1.234  p99 3.210  max 80.100 us, 60 samples, of one frame in 17\n";
        assert!(text.contains(line) && text.matches("of one frame in").count() == 1, "{text}");
        let stages = &json["stages"];
        assert_eq!((&stages["hook_to_app_ns"]["one_in"], &stages["hook_to_app_ns"]["count"]), (&17.into(), &60.into()));
        assert!(stages["app_to_sw_ns"].get("one_in").is_none(), "{stages}");
        // Each frame was stamped.
        let (text, json) = told(None);
        assert!(
            !text.contains("of one frame in") && json["stages"]["hook_to_app_ns"].get("one_in").is_none(),
            "{text}"
        );
    }

    #[test]
    fn round_trips_without_the_other_sides_time_are_said_with_their_sources() {
        use crate::wire::InBand;
        let totals = Totals { transmitted: 5, received: 5, measures_loss: true, ..Totals::default() };
        let mut trips = RoundTrips::new();
        trips.expect_in_band(true);
        let said = |trips: &RoundTrips| {
            let text = summary(&totals, Some(trips)).to_text();
            text.split_once("path         kernel\n").unwrap().1.to_owned()
        };
        assert_eq!(
            said(&trips),
            "RTT          none: of 0 answered pings the other side's t2-t1 or this side's t3-t0 is missing\n"
        );
        for (sequence, t2) in [(1, Some(1_500)), (2, Some(11_500)), (3, None)] {
            let at = |nanos| Stamp::System(Time::from_nanos(nanos));
            trips.sent(sequence);
            trips.left(sequence, at(1000));
            let answer = trips.answered(sequence, Some(at(7000)));
            trips.told(sequence, answer, &InBand { t1: Some(1000), t2, ..InBand::default() });
        }
        let expected = "RTT t3-t0    min 6.000  p50 6.000  p99 6.000  p99.9 6.000  max 6.000 us, 3 samples\n\
            RTT          min -4.500  p50 -4.500  p99 5.500  p99.9 5.500  max 5.500 us, 2 samples (1 without); t3-t0 application, \
            t2-t1 application\n\
            RTT          1 of the RTTs are negative: a clock was stepped\n";
        assert_eq!(said(&trips), expected);
        let json: serde_json::Value = serde_json::from_str(&summary(&totals, Some(&trips)).to_json()).unwrap();
        let numbers =
            ["count", "min", "p50", "p90", "p99", "p999", "max"].map(|name| json["rtt_ns"][name].as_i64().unwrap());
        assert_eq!(numbers, [2, -4500, -4500, 5500, 5500, 5500, 5500]);
        assert_eq!((&json["rtt_ns"]["mean"], &json["t2_t1_source"]), (&500.0.into(), &"application".into()));
        assert_eq!((&json["rtt_negative"], &json["rtt_missing"]), (&1.into(), &1.into()));
        // Where no pong carries stamps there is nothing to say of them.
        let json: serde_json::Value =
            serde_json::from_str(&summary(&totals, Some(&RoundTrips::new())).to_json()).unwrap();
        assert!(["rtt_ns", "t2_t1_source", "rtt_negative", "rtt_missing"].iter().all(|name| json[name].is_null()));
    }

    #[test]
    fn the_percentage_of_card_stamps_is_of_those_asked_for() {
        let totals = Totals { transmitted: 402, received: 12, ..Totals::default() };
        let stamps = StampCounts { tx_requested: 100, tx: 50, tx_missed: 50, rx: 3, ..StampCounts::default() };
        let sources = Sources { sent: Source::Hardware, received: Source::Software };
        let text = Summary::new(SummaryInput { stamps, sources, ..input(&totals, None) }).to_text();
        assert!(text.contains("50 TX stamp collected (50.00%), 3 RX stamp collected (100.00%)"), "{text}");
    }

    #[test]
    fn counters_of_a_session_are_what_came_since_the_last() {
        let xdp = |seen| Some(XdpCounters { seen, ..XdpCounters::default() });
        let earlier = Counters { tx_retries: 3, xdp: xdp(10), ..Counters::default() };
        let later = Counters { tx_retries: 5, not_protocol: 1, xdp: xdp(17), ..Counters::default() };
        let expected = Counters { tx_retries: 2, not_protocol: 1, xdp: xdp(7), ..Counters::default() };
        assert_eq!(counters_since(&earlier, &later), expected);
        assert_eq!(counters_since(&Counters::default(), &later), later);
    }
}
