//! One interval of a session: what was counted in it and how long its pongs took, in words and as JSON.
//!
//! The numbers of all intervals of a session add up to those of its statistics.

use super::Begun;
use super::feed::{Sample, Snapshot};
use crate::clock::{Monotonic, Time};
use crate::record::{Latency, Role, micros};
use crate::session::{Direction, Totals};
use crate::stats::Distribution;
use serde::Serialize;
use std::collections::VecDeque;
use std::time::Duration;

/// How old a ping is, at least, that counts as lost although none after it was answered either.
pub const GRACE: Duration = Duration::from_secs(1);

/// What happened in one interval. Durations in ns, the rest datagrams.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Interval {
    /// `interval`: what tells the line from the statistics.
    #[serde(rename = "type")]
    pub kind: &'static str,
    /// `client` or `server`.
    pub role: Role,
    /// Which session of this process, from 1. Not of a server of many clients, where this is of all sessions together.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub session: Option<u64>,
    /// How many sessions stood at its end, of a server of many clients.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub sessions: Option<u64>,
    /// Which interval of the session, from 1; of a server of many clients since its start.
    pub interval: u64,
    /// From the session's beginning, or that start, to the interval's end.
    pub elapsed_ns: u64,
    /// How long the interval was; the last one is cut off by the session's end.
    pub duration_ns: u64,
    /// Everything sent, control messages and dummies too.
    pub transmitted: u64,
    /// Everything received.
    pub received: u64,
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
    /// Pings that are known to be lost since this interval. Negative where more of those that counted as lost were answered
    /// after all. `None` on a side that cannot tell.
    pub lost: Option<i64>,
    /// Pongs to pings that were answered already; `None` on a side that is not ponged.
    pub duplicates: Option<u64>,
    /// Pings that left too late.
    pub late_sends: u64,
    /// t3 − t0; `None` where there is none.
    pub t3_t0_ns: Option<Latency>,
    /// Round trips that are not in it, as the clock was stepped back.
    pub t3_t0_negative: Option<u64>,
    /// (t3 − t0) − (t2 − t1); `None` where the pongs do not bring t1 and t2.
    pub rtt_ns: Option<Latency>,
    /// RTTs that are not in it, as they are below 0: a clock was stepped. The statistics at the end have them.
    pub rtt_negative: Option<u64>,
    /// Datagrams that a server of many clients dropped unanswered, as they were beyond their sender's share.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub excess: Option<u64>,
    /// Samples that are in neither: they came too fast for the display. The statistics at the end have them.
    pub samples_left_out: u64,
}

impl Interval {
    /// The object of `--json`, on one line, without a line feed.
    pub fn to_json(&self) -> String {
        serde_json::to_string(self).expect("numbers, strings and fixed names always become JSON")
    }

    /// Whether its line for a person would have nothing but zeros. A session's end cuts off such an interval, in which there was its
    /// FIN.
    pub fn is_idle(&self) -> bool {
        let counts =
            [self.pings_sent, self.pongs_received, self.pings_received, self.pongs_sent, self.samples_left_out];
        counts == [0; 5] && matches!(self.lost, None | Some(0)) && self.t3_t0_ns.is_none() && self.rtt_ns.is_none()
    }

    /// Whether nothing at all was counted in it: its object is needed for no sum.
    pub fn is_empty(&self) -> bool {
        let counts = [self.transmitted, self.received, self.pongs_expected, self.late_sends];
        let others = [self.duplicates, self.t3_t0_negative, self.rtt_negative, self.excess];
        self.is_idle() && counts == [0; 4] && others.iter().all(|count| count.unwrap_or(0) == 0)
    }

    /// A line for a person, without a line feed.
    pub fn to_text(&self, direction: Direction) -> String {
        let Self { pings_sent, pongs_received, pings_received, pongs_sent, .. } = self;
        let mut text = format!("[{:>9.3} s] ", self.elapsed_ns as f64 / 1e9);
        match (self.lost, direction) {
            (Some(lost), _) => {
                text += &format!("sent {pings_sent}, received {pongs_received}, lost {lost}");
            }
            (None, Direction::Duplex) => text += &format!("sent {pings_sent}, received {pings_received}"),
            (None, _) if self.sessions.is_some() => text += &self.of_all_sessions(),
            (None, _) => text += &format!("received {pings_received}, answered {pongs_sent}"),
        }
        for (name, latency) in [("RTT t3-t0", &self.t3_t0_ns), ("RTT", &self.rtt_ns)] {
            if let Some(Latency { p50, p99, max, .. }) = latency {
                let [p50, p99, max] = [*p50, *p99, *max].map(micros);
                text += &format!(", {name} p50 {p50}  p99 {p99}  max {max} us");
            }
        }
        if self.samples_left_out > 0 {
            text += &format!(" ({} samples left out: too fast for this line)", self.samples_left_out);
        }
        text
    }
}

impl Interval {
    /// What all sessions of a server of many clients did.
    fn of_all_sessions(&self) -> String {
        let Self { sessions, pings_sent, pings_received, pongs_sent, excess, .. } = self;
        let sessions = sessions.unwrap_or(0);
        let noun = if sessions == 1 { "session" } else { "sessions" };
        let mut text = format!("{sessions} {noun}, received {pings_received}, answered {pongs_sent}");
        // Only duplex sessions have any.
        if *pings_sent > 0 {
            text += &format!(", sent {pings_sent}");
        }
        if let Some(excess) = excess.filter(|excess| *excess > 0) {
            text += &format!(", {excess} dropped beyond their share");
        }
        text
    }
}

/// Characters of [`Interval::to_short_text`], with numbers of a usual size: a terminal has 80 columns, and what is cut off at its
/// edge would be read as another number.
#[cfg(test)]
const TERMINAL: usize = 80;

impl Interval {
    /// The same for a terminal, where it must be short: in whole µs beyond a millisecond, and of the two times the one without the
    /// other side's, where there is one.
    pub fn to_short_text(&self, direction: Direction) -> String {
        let Self { pings_sent, pongs_received, pings_received, pongs_sent, .. } = self;
        let mut text = match (self.lost, direction) {
            (Some(lost), _) => format!("sent {pings_sent} received {pongs_received} lost {lost}"),
            (None, Direction::Duplex) => format!("sent {pings_sent} received {pings_received}"),
            (None, _) => format!("received {pings_received} answered {pongs_sent}"),
        };
        let times = [("RTT", &self.rtt_ns), ("t3-t0", &self.t3_t0_ns)];
        if let Some((name, Latency { p50, p99, max, .. })) =
            times.into_iter().find_map(|(name, latency)| Some((name, latency.as_ref()?)))
        {
            let [p50, p99, max] = [*p50, *p99, *max].map(short_micros);
            text += &format!("  {name} p50 {p50} p99 {p99} max {max} us");
        }
        if self.samples_left_out > 0 {
            text += &format!(" ({} left out)", self.samples_left_out);
        }
        text
    }
}

/// ns as µs, with one decimal below a millisecond.
fn short_micros(nanos: u64) -> String {
    if nanos < 1_000_000 { format!("{:.1}", nanos as f64 / 1000.0) } else { format!("{:.0}", nanos as f64 / 1000.0) }
}

/// Pings that are lost, as far as it can be told while others are on their way.
///
/// Lost is a ping without an answer when a later one has its answer, or when it is [`GRACE`] old. A pong that comes after
/// all takes it back.
#[derive(Debug, Default)]
pub struct Losses {
    /// How many pings had asked for a pong at earlier moments.
    expected: VecDeque<(Time<Monotonic>, u64)>,
}

impl Losses {
    /// How many pings of the session are lost at `now`, of which every `pong_every`-th asks for a pong.
    pub fn at(&mut self, now: Time<Monotonic>, snapshot: &Snapshot, pong_every: u32) -> u64 {
        let expected = snapshot.totals.pongs_expected;
        // Only the newest of those that are old enough is of use.
        while self.expected.get(1).is_some_and(|(then, _)| now.duration_since(*then) >= GRACE) {
            self.expected.pop_front();
        }
        let old = self.expected.front().filter(|(then, _)| now.duration_since(*then) >= GRACE);
        let old = old.map_or(0, |(_, expected)| *expected);
        self.expected.push_back((now, expected));
        old.saturating_sub(snapshot.trips.unique).max(snapshot.trips.overtaken(pong_every))
    }

    /// How many are lost once the session is over.
    pub fn in_the_end(snapshot: &Snapshot) -> u64 {
        snapshot.totals.pongs_expected.saturating_sub(snapshot.trips.unique)
    }
}

/// Cuts a session into intervals.
#[derive(Debug)]
pub struct Cutter {
    role: Role,
    begun: Begun,
    began: Time<Monotonic>,
    session: u64,
    intervals: u64,
    t3_t0: Distribution,
    rtt: Distribution,
    /// What the session had counted at the end of the last interval.
    last: Snapshot,
    last_lost: u64,
    last_cut: Time<Monotonic>,
}

impl Cutter {
    /// A session stands since `now`.
    pub fn new(role: Role, session: u64, begun: Begun, now: Time<Monotonic>, left_out: u64) -> Self {
        Self {
            role,
            begun,
            began: now,
            session,
            intervals: 0,
            t3_t0: Distribution::new(),
            rtt: Distribution::new(),
            last: Snapshot { left_out, ..Snapshot::default() },
            last_lost: 0,
            last_cut: now,
        }
    }

    /// A sample of the interval that lasts. A negative t3 − t0 is counted with the pings, as in the statistics.
    pub fn add(&mut self, sample: Sample) {
        if let Some(nanos) = sample.t3_t0_ns.filter(|nanos| *nanos >= 0) {
            self.t3_t0.record(nanos);
        }
        if let Some(nanos) = sample.rtt_ns.filter(|nanos| *nanos >= 0) {
            self.rtt.record(nanos);
        }
    }

    /// Ends the interval, at whose end this was counted and so many pings of the session were lost.
    pub fn cut(&mut self, now: Time<Monotonic>, snapshot: &Snapshot, lost: u64) -> Interval {
        let last = std::mem::replace(&mut self.last, *snapshot);
        let since = |count: fn(&Snapshot) -> u64| count(snapshot).saturating_sub(count(&last));
        let is_ponged = snapshot.totals.measures_loss;
        self.intervals += 1;
        let last_lost = std::mem::replace(&mut self.last_lost, lost);
        let last_cut = std::mem::replace(&mut self.last_cut, now);
        let change = i64::try_from(lost).unwrap_or(i64::MAX) - i64::try_from(last_lost).unwrap_or(i64::MAX);
        Interval {
            kind: "interval",
            role: self.role,
            session: (!self.begun.is_crowd).then_some(self.session),
            sessions: snapshot.crowd.map(|crowd| crowd.standing),
            interval: self.intervals,
            elapsed_ns: nanos(now.duration_since(self.began)),
            duration_ns: nanos(now.duration_since(last_cut)),
            transmitted: since(|snapshot| snapshot.totals.transmitted),
            received: since(|snapshot| snapshot.totals.received),
            pings_sent: since(|snapshot| snapshot.totals.pings_sent),
            pongs_expected: since(|snapshot| snapshot.totals.pongs_expected),
            pongs_received: since(|snapshot| snapshot.totals.pongs_received),
            pings_received: since(|snapshot| snapshot.totals.pings_received),
            pongs_sent: since(|snapshot| snapshot.totals.pongs_sent),
            lost: is_ponged.then_some(change),
            duplicates: is_ponged.then(|| since(|snapshot| snapshot.trips.duplicates)),
            late_sends: since(|snapshot| snapshot.totals.late_sends),
            t3_t0_ns: latency(&mut self.t3_t0),
            t3_t0_negative: is_ponged.then(|| since(|snapshot| snapshot.trips.negative)),
            rtt_ns: latency(&mut self.rtt),
            rtt_negative: is_ponged.then(|| since(|snapshot| snapshot.trips.rtt_negative)),
            excess: snapshot.crowd.is_some().then(|| since(|snapshot| snapshot.crowd.map_or(0, |crowd| crowd.excess))),
            samples_left_out: since(|snapshot| snapshot.left_out),
        }
    }

    /// A session that is one of several, for a terminal, from the last cut until now: what was counted, of what is `lost`, and
    /// the median of the two times that are shown of an interval.
    pub fn round(&mut self, snapshot: &Snapshot, lost: u64) -> String {
        let Totals { pings_sent, pongs_received, dummies_sent, .. } = snapshot.totals;
        let mut text = format!("sent {pings_sent} received {pongs_received} lost {lost}");
        if dummies_sent > 0 {
            text += &format!(" dummies {dummies_sent}");
        }
        let times = [("RTT", &mut self.rtt), ("t3-t0", &mut self.t3_t0)];
        if let Some((name, p50)) = times.into_iter().find_map(|(name, times)| Some((name, times.quantile(0.5)?))) {
            text += &format!("  {name} p50 {} us", short_micros(nanos_of(p50)));
        }
        text
    }

    /// What the session does.
    pub fn begun(&self) -> &Begun {
        &self.begun
    }
}

fn nanos(duration: Duration) -> u64 {
    u64::try_from(duration.as_nanos()).unwrap_or(u64::MAX)
}

/// Of a sample, which is not negative here.
fn nanos_of(sample: i64) -> u64 {
    u64::try_from(sample).unwrap_or(0)
}

/// What a distribution of durations came to, and empties it.
fn latency(distribution: &mut Distribution) -> Option<Latency> {
    let summary = std::mem::take(distribution).summary()?;
    let whole = nanos_of;
    Some(Latency {
        count: summary.count,
        min: whole(summary.min),
        mean: summary.mean.round() as u64,
        p50: whole(summary.p50),
        p90: whole(summary.p90),
        p99: whole(summary.p99),
        p999: whole(summary.p999),
        max: whole(summary.max),
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::record::TripCounts;

    const BEGUN: Begun = Begun { direction: Direction::Forward, pong_every: 1, is_crowd: false };

    fn at(millis: u64) -> Time<Monotonic> {
        Time::from_nanos(1_000_000_000 + millis * 1_000_000)
    }

    /// So many pings asked for a pong, so many have theirs, of which the newest is this one.
    fn snapshot(expected: u64, unique: u64, newest_answered: u64) -> Snapshot {
        Snapshot {
            totals: Totals { pings_sent: expected, pongs_expected: expected, measures_loss: true, ..Totals::default() },
            trips: TripCounts { unique, newest_answered, ..TripCounts::default() },
            ..Snapshot::default()
        }
    }

    fn cutter() -> Cutter {
        Cutter::new(Role::Client, 1, BEGUN, at(0), 0)
    }

    #[test]
    fn a_round_is_told_from_its_beginning_with_the_time_that_is_known_best() {
        let mut cutter = cutter();
        let mut so_far = snapshot(10, 8, 9);
        so_far.totals.pongs_received = 8;
        assert_eq!(cutter.round(&so_far, 1), "sent 10 received 8 lost 1");
        [3_000, 5_000, 9_000].into_iter().for_each(|nanos| cutter.add(Sample { t3_t0_ns: Some(nanos), rtt_ns: None }));
        assert_eq!(cutter.round(&so_far, 1), "sent 10 received 8 lost 1  t3-t0 p50 5.0 us");
        cutter.add(Sample { t3_t0_ns: Some(70_000), rtt_ns: Some(2_000_400) });
        so_far.totals.dummies_sent = 7;
        for _ in 0..2 {
            assert_eq!(cutter.round(&so_far, 0), "sent 10 received 8 lost 0 dummies 7  RTT p50 2000 us");
        }
    }

    #[test]
    fn what_is_on_its_way_is_not_lost_and_what_was_overtaken_is() {
        let mut losses = Losses::default();
        assert_eq!(losses.at(at(100), &snapshot(100, 90, 90), 1), 0);
        assert_eq!(losses.at(at(200), &snapshot(200, 195, 199), 1), 4);
        // Two of them come after all.
        assert_eq!(losses.at(at(300), &snapshot(300, 297, 299), 1), 2);
        assert_eq!(Losses::in_the_end(&snapshot(300, 297, 299)), 3);
    }

    #[test]
    fn pings_that_nobody_answers_are_lost_once_they_are_old_enough() {
        let mut losses = Losses::default();
        assert_eq!(losses.at(at(0), &snapshot(100, 99, 99), 1), 0);
        assert_eq!(losses.at(at(500), &snapshot(150, 99, 99), 1), 0);
        assert_eq!(losses.at(at(999), &snapshot(200, 99, 99), 1), 0);
        assert_eq!(losses.at(at(1000), &snapshot(200, 99, 99), 1), 1, "those of 1 s before");
        assert_eq!(losses.at(at(1499), &snapshot(250, 99, 99), 1), 1);
        assert_eq!(losses.at(at(1500), &snapshot(250, 99, 99), 1), 51, "those of 0.5 s");
    }

    #[test]
    fn only_pings_that_ask_for_a_pong_can_lose_it() {
        let mut losses = Losses::default();
        // Of 1 to 30 every third asks: 3, 6 … 30, of which 27 is the newest that was answered.
        assert_eq!(losses.at(at(0), &snapshot(10, 8, 27), 3), 1);
        assert_eq!(Losses::default().at(at(5000), &snapshot(0, 0, 0), 0), 0, "where none asks, none is lost");
    }

    #[test]
    fn an_interval_is_what_was_counted_since_the_last() {
        let mut cutter = cutter();
        for nanos in [5000, -3, 1000, 9000] {
            cutter.add(Sample { t3_t0_ns: Some(nanos), rtt_ns: None });
        }
        cutter.add(Sample { t3_t0_ns: None, rtt_ns: Some(-7) });
        let mut first = snapshot(10, 4, 5);
        (first.trips.negative, first.trips.rtt_negative, first.left_out) = (1, 1, 2);
        let interval = cutter.cut(at(250), &first, 1);
        assert_eq!((interval.interval, interval.elapsed_ns, interval.duration_ns), (1, 250_000_000, 250_000_000));
        assert_eq!((interval.pings_sent, interval.lost, interval.samples_left_out), (10, Some(1), 2));
        assert_eq!((interval.t3_t0_negative, interval.rtt_ns, interval.rtt_negative), (Some(1), None, Some(1)));
        let expected =
            Latency { count: 3, min: 1000, mean: 5000, p50: 5000, p90: 9000, p99: 9000, p999: 9000, max: 9000 };
        assert_eq!(interval.t3_t0_ns, Some(expected));
        // A pong that counted as lost has come.
        cutter.add(Sample { t3_t0_ns: Some(7), rtt_ns: Some(4) });
        let interval = cutter.cut(at(400), &Snapshot { left_out: 2, ..snapshot(12, 5, 5) }, 0);
        assert_eq!((interval.interval, interval.elapsed_ns, interval.duration_ns), (2, 400_000_000, 150_000_000));
        assert_eq!((interval.pings_sent, interval.lost, interval.samples_left_out), (2, Some(-1), 0));
        let times = [interval.t3_t0_ns, interval.rtt_ns].map(|times| times.map(|times| (times.count, times.max)));
        assert_eq!(times, [Some((1, 7)), Some((1, 4))]);
    }

    #[test]
    fn a_line_says_what_this_side_can_know() {
        let interval = cutter().cut(at(1500), &snapshot(10, 9, 10), 1);
        assert_eq!(interval.to_text(Direction::Forward), "[    1.500 s] sent 10, received 0, lost 1");
        let mut cutter = cutter();
        cutter.add(Sample { t3_t0_ns: Some(12_345), rtt_ns: Some(2000) });
        let left_out = Snapshot { left_out: 3, ..snapshot(1, 1, 1) };
        let expected = "[    1.000 s] sent 1, received 0, lost 0, RTT t3-t0 p50 12.345  p99 12.345  max 12.345 us, \
                        RTT p50 2.000  p99 2.000  max 2.000 us (3 samples left out: too fast for this line)";
        let whole = cutter.cut(at(1000), &left_out, 0);
        assert_eq!(whole.to_text(Direction::Forward), expected);
        let short = "sent 1 received 0 lost 0  RTT p50 2.0 p99 2.0 max 2.0 us (3 left out)";
        assert_eq!(whole.to_short_text(Direction::Forward), short);
        let large = Latency { p50: 999_949, p99: 12_345_678, max: 1_234_567_890, ..whole.rtt_ns.unwrap() };
        let large = Interval {
            pings_sent: 100_000,
            pongs_received: 99_999,
            lost: Some(100),
            rtt_ns: None,
            t3_t0_ns: Some(large),
            samples_left_out: 0,
            ..whole
        };
        let short = "sent 100000 received 99999 lost 100  t3-t0 p50 999.9 p99 12346 max 1234568 us";
        assert_eq!(large.to_short_text(Direction::Forward), short);
        assert!(short.len() < TERMINAL);
        let totals = Totals { pings_received: 7, pongs_sent: 6, pings_sent: 5, ..Totals::default() };
        let echoing = cutter.cut(at(2000), &Snapshot { totals, ..Snapshot::default() }, 0);
        assert_eq!((echoing.lost, echoing.duplicates), (None, None));
        assert_eq!(echoing.to_text(Direction::Forward), "[    2.000 s] received 7, answered 6");
        assert_eq!(echoing.to_text(Direction::Duplex), "[    2.000 s] sent 4, received 7");
    }

    #[test]
    fn an_interval_of_a_fin_alone_has_no_line_and_one_of_nothing_no_object() {
        let mut cutter = cutter();
        let first = cutter.cut(at(1000), &snapshot(10, 10, 10), 0);
        assert!(!first.is_idle() && !first.is_empty());
        let mut fin = snapshot(10, 10, 10);
        (fin.totals.transmitted, fin.totals.received) = (1, 1);
        let second = cutter.cut(at(1001), &fin, 0);
        assert!(second.is_idle() && !second.is_empty());
        let third = cutter.cut(at(1002), &fin, 0);
        assert!(third.is_idle() && third.is_empty());
        assert!(!cutter.cut(at(1003), &fin, 1).is_idle(), "a loss is told");
    }

    #[test]
    fn every_duration_of_the_object_is_a_whole_number_of_ns() {
        let mut cutter = cutter();
        cutter.add(Sample { t3_t0_ns: Some(1), rtt_ns: None });
        cutter.add(Sample { t3_t0_ns: Some(2), rtt_ns: None });
        let json: serde_json::Value =
            serde_json::from_str(&cutter.cut(at(1), &snapshot(2, 2, 2), 0).to_json()).expect("an object");
        assert_eq!((&json["type"], &json["role"]), (&"interval".into(), &"client".into()));
        assert!(json["elapsed_ns"].is_u64() && json["duration_ns"].is_u64() && json["rtt_ns"].is_null());
        let times = json["t3_t0_ns"].as_object().expect("an object");
        assert!(times.len() == 8 && times.values().all(serde_json::Value::is_u64), "{times:?}");
    }
}
