//! Pings and pongs in every order in which they and their stamps can come.

use super::*;
use crate::wire::in_band::Earlier;
use proptest::prelude::*;
use std::collections::HashMap;

const fn at(nanos: u64) -> Stamp {
    Stamp::System(Time::from_nanos(nanos))
}

const fn card(nanos: u64) -> Stamp {
    Stamp::Card(Time::from_nanos(nanos))
}

impl RoundTrips {
    /// A ping whose t0 is known at once.
    fn sent_at(&mut self, sequence: u64, t0: u64) {
        self.sent(sequence);
        self.left(sequence, at(t0));
    }

    /// A pong that has a t3 of the system's clock.
    fn answered_at(&mut self, sequence: u64, t3: u64) -> Answer {
        self.answered(sequence, Some(at(t3)))
    }
}

#[test]
fn the_first_pong_counts_and_the_second_is_a_duplicate() {
    let mut trips = RoundTrips::new();
    trips.sent_at(1, 1000);
    assert_eq!(trips.answered_at(1, 6000), Answer::First(Some(5000)));
    assert_eq!(trips.answered_at(1, 7000), Answer::Duplicate);
    assert_eq!(trips.answered_at(2, 7000), Answer::Unknown);
    assert_eq!((trips.unique(), trips.duplicates(), trips.unknown()), (1, 1, 1));
    assert_eq!(trips.latency().map(|l| (l.count, l.min, l.p50, l.max)), Some((1, 5000, 5000, 5000)));
}

#[test]
fn nothing_is_answered_before_anything_was_sent() {
    let mut trips = RoundTrips::new();
    for sequence in [0, 1, WINDOW as u64, u64::MAX] {
        assert_eq!(trips.answered_at(sequence, 1), Answer::Unknown);
    }
    trips.sent_at(u64::MAX, 1);
    assert_eq!(trips.answered_at(u64::MAX, 2), Answer::Unknown);
    assert_eq!((trips.unique(), trips.latency()), (0, None));
}

#[test]
fn a_stepped_clock_gives_a_negative_difference_and_no_sample() {
    let mut trips = RoundTrips::new();
    trips.sent_at(1, 1000);
    assert_eq!(trips.answered_at(1, 400), Answer::First(Some(-600)));
    assert_eq!((trips.unique(), trips.negative(), trips.latency()), (1, 1, None));
}

#[test]
fn a_pong_older_than_the_window_is_unknown() {
    let mut trips = RoundTrips::new();
    for sequence in 1..=WINDOW as u64 + 1 {
        trips.sent_at(sequence, sequence);
    }
    assert_eq!(trips.answered_at(1, 1_000_000), Answer::Unknown);
    assert_eq!(trips.answered_at(2, 1_000_002), Answer::First(Some(1_000_000)));
    assert_eq!(trips.answered_at(WINDOW as u64 + 1, 1_000_000), Answer::First(Some(1_000_000 - WINDOW as i64 - 1)));
}

#[test]
fn more_than_a_minute_saturates_the_quantiles_and_keeps_the_rest_exact() {
    let mut trips = RoundTrips::new();
    trips.sent_at(1, 0);
    trips.answered_at(1, 90_000_000_000);
    trips.sent_at(2, 0);
    trips.answered_at(2, 0);
    let latency = trips.latency().unwrap();
    assert_eq!((latency.count, latency.min, latency.mean, latency.max), (2, 0, 45_000_000_000, 90_000_000_000));
    assert!((60_000_000_000..=60_100_000_000).contains(&latency.p999), "{latency:?}");
}

#[test]
fn quantiles_are_good_to_three_digits() {
    let mut trips = RoundTrips::new();
    for sequence in 1..=100_000 {
        trips.sent_at(sequence, 0);
        trips.answered_at(sequence, sequence * 100);
    }
    let latency = trips.latency().unwrap();
    assert_eq!((latency.count, latency.min, latency.mean, latency.max), (100_000, 100, 5_000_050, 10_000_000));
    for (got, exact) in
        [(latency.p50, 5_000_000), (latency.p90, 9_000_000), (latency.p99, 9_900_000), (latency.p999, 9_990_000_u64)]
    {
        assert!(got.abs_diff(exact) * 1000 <= exact, "{got} for {exact}");
    }
}

#[test]
fn clearing_forgets_everything() {
    let mut trips = RoundTrips::new();
    trips.sent_at(1, 5);
    trips.sent_at(2, 5);
    trips.answered_at(1, 6);
    trips.answered_at(1, 7);
    trips.clear();
    assert_eq!(trips.answered_at(2, 8), Answer::Unknown);
    assert_eq!((trips.unique(), trips.duplicates(), trips.unknown(), trips.latency()), (0, 0, 1, None));
}

#[test]
fn a_transmit_stamp_may_come_after_the_pong() {
    let mut trips = RoundTrips::new();
    (1..=3).for_each(|sequence| trips.sent(sequence));
    assert_eq!(trips.answered(1, Some(card(7000))), Answer::First(None));
    assert_eq!((trips.unique(), trips.unstamped(), trips.latency()), (1, 1, None));
    trips.left(1, card(2000));
    // A stamp that is told twice changes nothing, nor does a second pong.
    trips.left(1, card(1));
    assert_eq!(trips.answered(1, Some(card(9000))), Answer::Duplicate);
    trips.left(1, card(1));
    // The other way round, also with a second stamp.
    trips.left(2, card(1000));
    trips.left(2, card(1));
    assert_eq!(trips.answered(2, Some(card(4000))), Answer::First(Some(3000)));
    // A t0 that is later than t3 is counted, late or not.
    assert_eq!(trips.answered(3, Some(card(10))), Answer::First(None));
    trips.left(3, card(15));
    let latency = trips.latency().unwrap();
    assert_eq!((latency.count, latency.min, latency.max), (2, 3000, 5000));
    assert_eq!((trips.unique(), trips.negative(), trips.unstamped(), trips.duplicates()), (3, 1, 0, 1));
}

#[test]
fn stamps_of_two_clocks_make_no_round_trip() {
    let mut trips = RoundTrips::new();
    trips.sent_at(1, 10);
    assert_eq!(trips.answered(1, Some(card(20))), Answer::First(None));
    trips.sent(2);
    assert_eq!(trips.answered(2, Some(card(20))), Answer::First(None));
    trips.left(2, at(10));
    assert_eq!((trips.unique(), trips.incomparable(), trips.unstamped(), trips.latency()), (2, 2, 0, None));
}

#[test]
fn a_pong_without_a_stamp_answers_and_measures_nothing() {
    let mut trips = RoundTrips::new();
    trips.sent_at(1, 10);
    trips.sent(2);
    assert_eq!([1, 2].map(|sequence| trips.answered(sequence, None)), [Answer::First(None); 2]);
    trips.left(2, at(10));
    assert_eq!(trips.answered_at(1, 20), Answer::Duplicate);
    assert_eq!((trips.unique(), trips.unstamped(), trips.latency()), (2, 2, None));
}

const fn far(t1: u64, t2: u64) -> InBand {
    InBand { source: FarSource::Application, t1: Some(t1), t2: Some(t2), earlier: None }
}

/// A pong that its sender handed over at `t2`, with what it tells of another.
const fn card_far(t2: u64, earlier: Option<Earlier>) -> InBand {
    InBand { source: FarSource::Hardware, t1: Some(1), t2: Some(t2), earlier }
}

impl RoundTrips {
    fn in_band() -> Self {
        let mut trips = Self::new();
        trips.expect_in_band(true);
        trips
    }

    fn told_at(&mut self, sequence: u64, t3: u64, told: InBand) -> Option<i64> {
        let answer = self.answered_at(sequence, t3);
        self.told(sequence, answer, &told);
        self.take_rtt()
    }
}

#[test]
fn what_only_stamps_inside_pongs_need_is_there_for_such_sessions_only() {
    let mut trips = RoundTrips::new();
    trips.expect_in_band(false);
    assert_eq!(trips.far.capacity(), 0);
    trips.reserve_in_band();
    let memory = (trips.far.as_ptr(), trips.far.len());
    assert_eq!(memory.1, WINDOW);
    // The next session, and the one after that, take what is there.
    for _ in 0..2 {
        trips.expect_in_band(true);
        trips.clear();
        assert_eq!((trips.far.as_ptr(), trips.far.len()), memory);
    }
}

#[test]
fn the_other_sides_time_is_taken_off() {
    let mut trips = RoundTrips::in_band();
    trips.sent_at(1, 1000);
    // Its clock is another: only the difference of its two times counts.
    assert_eq!(trips.told_at(1, 9000, far(7_000_000, 7_003_000)), Some(5000));
    assert_eq!(trips.take_rtt(), None);
    // The same pong once more, and one of another turnaround.
    assert_eq!(trips.told_at(1, 9999, far(7_000_000, 7_003_000)), None);
    assert_eq!(trips.told_at(1, 9999, far(7_000_000, 7_000_001)), None);
    // t0 comes last.
    trips.sent(2);
    assert_eq!(trips.told_at(2, 9000, far(5, 6)), None);
    trips.left(2, at(1000));
    assert_eq!(trips.take_rtt(), Some(7999));
    // A clock that was stepped: here, and there.
    trips.sent_at(3, 9000);
    assert_eq!(trips.told_at(3, 2000, far(5, 6)), Some(-7001));
    trips.sent_at(4, 1000);
    assert_eq!(trips.told_at(4, 2000, far(500, 0)), Some(1500));
    // What is missing or cannot be.
    trips.sent_at(5, 1000);
    assert_eq!(trips.told_at(5, 2000, InBand { t1: None, ..far(0, 1) }), None);
    trips.sent_at(6, 1000);
    assert_eq!(trips.told_at(6, 2000, far(u64::MAX, 0)), None);
    trips.sent_at(7, 1000);
    assert_eq!(trips.answered(7, Some(card(2000))), Answer::First(None));
    trips.told(7, Answer::First(None), &far(1, 2));
    assert_eq!(trips.take_rtt(), None);
    let rtt = trips.rtt().summary_of_sorted().unwrap();
    assert_eq!((rtt.count, rtt.min, rtt.max), (4, -7001, 7999));
    assert_eq!(rtt.mean, (5000 + 7999 - 7001 + 1500) as f64 / 4.0);
    assert_eq!((trips.rtt_negative(), trips.rtt_missing(), trips.strange_turnarounds()), (1, 3, 0));
    assert_eq!(trips.far_source(), Some(FarSource::Application));
    trips.clear();
    assert_eq!((trips.rtt().count(), trips.far_source(), trips.is_in_band()), (0, None, false));
    trips.sent_at(1, 1000);
    assert_eq!(trips.told_at(1, 9000, far(0, 1)), None, "nobody expects it");
}

#[test]
fn what_a_later_pong_tells_is_of_the_pong_that_was_taken() {
    let earlier = |sequence, pong, t1, t2| Some(Earlier { sequence, pong, t1, t2 });
    let mut trips = RoundTrips::in_band();
    (1..=6).for_each(|sequence| trips.sent_at(sequence, 1000 * sequence));
    assert_eq!(trips.told_at(1, 11_000, card_far(71, None)), None);
    // Its ping arrived twice: the other pong to it left at another time.
    assert_eq!(trips.told_at(2, 12_000, card_far(72, earlier(1, 70, 0, 9))), None);
    assert_eq!(trips.strange_turnarounds(), 1);
    assert_eq!(trips.told_at(3, 13_000, card_far(73, earlier(1, 71, 100, 400))), Some(10_000 - 300));
    // Told twice, also by a pong that is a duplicate.
    assert_eq!(trips.told_at(3, 13_000, card_far(73, earlier(1, 71, 100, 400))), None);
    // A pong that is a duplicate tells all the same.
    assert_eq!(trips.told_at(3, 13_000, card_far(74, earlier(2, 72, 100, 101))), Some(10_000 - 1));
    // Before t0, and of a ping that nobody sent.
    trips.sent(7);
    assert_eq!(trips.told_at(7, 20_000, card_far(77, earlier(9, 79, 1, 2))), None);
    assert_eq!(trips.told_at(4, 14_000, card_far(74, earlier(7, 77, 5, 10))), None);
    trips.left(7, at(8000));
    assert_eq!(trips.take_rtt(), Some(12_000 - 5));
    // A pong of another source than the first one's is not of this session's kind.
    assert_eq!(trips.told_at(5, 15_000, far(1, 2)), None);
    // The window has gone on.
    trips.sent_at(4 + WINDOW as u64, 1);
    assert_eq!(trips.told_at(6, 16_000, card_far(76, earlier(4, 74, 1, 2))), None);
    assert_eq!(trips.told_at(6, 16_000, card_far(76, earlier(u64::MAX, u64::MAX, 1, 2))), None);
    assert_eq!((trips.rtt().count(), trips.strange_turnarounds()), (3, 6));
}

#[test]
fn a_stamp_of_no_ping_is_nothing() {
    let mut trips = RoundTrips::new();
    [1, 1 + WINDOW as u64, u64::MAX].into_iter().for_each(|sequence| assert_eq!(trips.left(sequence, at(1)), None));
    trips.sent(1);
    trips.left(1 + WINDOW as u64, at(1));
    assert_eq!(trips.answered_at(1, 5), Answer::First(None));
    assert_eq!(trips.unstamped(), 1);
}

#[test]
fn it_stays_small() {
    let trips = RoundTrips::new();
    let bytes = size_of_val(&trips.pings[..]) + size_of_val(&trips.states[..]) + trips.times.allocated();
    let bytes = bytes + size_of_val(&trips.far[..]);
    assert!(bytes <= 4 << 20, "{bytes}");
}

/// What happens to a window: a ping is sent, its t0 is told, or a pong comes.
#[derive(Debug, Clone)]
enum Step {
    Sent(u64),
    Left(u64, Stamp),
    Answered(u64, Option<Stamp>),
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    // Few slots, several laps: sequences collide, repeat and come back.
    let sequence = (0..8_u64, 0..3_u64).prop_map(|(slot, lap)| slot + lap * WINDOW as u64);
    let stamp = (0..2_000_000_u64, prop::bool::weighted(0.2))
        .prop_map(|(nanos, of_card)| if of_card { card(nanos) } else { at(nanos) });
    let stamp = prop::option::weighted(0.9, stamp);
    prop::collection::vec(
        (0..3, sequence, stamp).prop_map(|(kind, sequence, stamp)| match (kind, stamp) {
            (0, _) | (1, None) => Step::Sent(sequence),
            (1, Some(stamp)) => Step::Left(sequence, stamp),
            (_, stamp) => Step::Answered(sequence, stamp),
        }),
        0..300,
    )
}

/// The newest ping of a slot, as a model keeps it.
#[derive(Debug, Default)]
struct Ping {
    sequence: u64,
    t0: Option<Stamp>,
    /// Of its first pong, which may have none.
    t3: Option<Option<Stamp>>,
}

#[derive(Debug, Default)]
struct Model {
    slots: HashMap<u64, Ping>,
    pongs: u64,
    /// t3 and t0 of every ping that got both.
    both: Vec<(Stamp, Stamp)>,
}

impl Model {
    fn ping(&mut self, sequence: u64) -> Option<&mut Ping> {
        self.slots.get_mut(&(sequence % WINDOW as u64)).filter(|ping| ping.sequence == sequence)
    }

    fn left(&mut self, sequence: u64, stamp: Stamp) {
        let Some(ping) = self.ping(sequence) else { return };
        if ping.t0.is_none() {
            ping.t0 = Some(stamp);
            if let Some(Some(t3)) = ping.t3 {
                self.both.push((t3, stamp));
            }
        }
    }

    fn answered(&mut self, sequence: u64, stamp: Option<Stamp>) -> Answer {
        let Some(ping) = self.ping(sequence) else { return Answer::Unknown };
        if ping.t3.is_some() {
            return Answer::Duplicate;
        }
        ping.t3 = Some(stamp);
        let both = stamp.zip(ping.t0);
        self.pongs += 1;
        self.both.extend(both);
        Answer::First(both.and_then(|(t3, t0)| t3.nanos_since(t0)))
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]
    #[test]
    fn the_window_does_what_a_map_would(steps in steps()) {
        let mut trips = RoundTrips::new();
        let mut model = Model::default();
        for step in steps {
            match step {
                Step::Sent(sequence) => {
                    trips.sent(sequence);
                    model.slots.insert(sequence % WINDOW as u64, Ping { sequence, ..Ping::default() });
                }
                Step::Left(sequence, stamp) => {
                    trips.left(sequence, stamp);
                    model.left(sequence, stamp);
                }
                Step::Answered(sequence, stamp) => {
                    prop_assert_eq!(trips.answered(sequence, stamp), model.answered(sequence, stamp));
                }
            }
        }
        let comparable: Vec<i64> = model.both.iter().filter_map(|(t3, t0)| t3.nanos_since(*t0)).collect();
        let mut samples: Vec<u64> = comparable.iter().filter_map(|nanos| u64::try_from(*nanos).ok()).collect();
        prop_assert_eq!(trips.unique(), model.pongs);
        prop_assert_eq!(trips.incomparable(), (model.both.len() - comparable.len()) as u64);
        prop_assert_eq!(trips.negative(), (comparable.len() - samples.len()) as u64);
        prop_assert_eq!(trips.unstamped(), model.pongs - model.both.len() as u64);
        samples.sort_unstable();
        match trips.latency() {
            None => prop_assert!(samples.is_empty()),
            Some(latency) => {
                prop_assert_eq!(latency.count, samples.len() as u64);
                prop_assert_eq!((latency.min, latency.max), (samples[0], samples[samples.len() - 1]));
                let middle = samples[(samples.len() - 1) / 2];
                prop_assert!(latency.p50.abs_diff(middle) <= middle / 1000 + 1, "{latency:?} {middle}");
            }
        }
    }
}
