//! Statistics of sessions of which all is known, as text and as JSON.

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
    assert_eq!((&json["lateness_ns"]["max"], &json["lateness_undisturbed_ns"]["min"]), (&60_000.into(), &50.into()));
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
    let recorded = Finished { stages: Some(Stages { times, unconverted: 6 }), stages_left_out: 9, ..NOTHING.clone() };
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
    assert!(!text.contains("of one frame in") && json["stages"]["hook_to_app_ns"].get("one_in").is_none(), "{text}");
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
    let json: serde_json::Value = serde_json::from_str(&summary(&totals, Some(&RoundTrips::new())).to_json()).unwrap();
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
