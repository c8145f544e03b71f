//! The loop over a path that brings what is laid out, and breaks down where a test wants it to.

use super::super::scripted::{PEER, STRANGER, Scripted, any_server, ping, syn};
use super::*;
use crate::path::Token;
use crate::record::{RecorderConfig, Role, Voice};
use crate::session::{Client, ClientConfig, LOAD_BATCH, Pattern, Sampling, Server, ServerConfig, Settings};
use crate::wire::{Load, Message};

/// No stall of this test lasts that long, and the machine runs for longer.
const PATIENCE: Duration = Duration::from_secs(30);

/// Has nothing to say.
struct Nobody;

impl<M, P> Attendant<M, P> for Nobody {
    fn connected(&mut self, _: Scene<'_, M, P>, _: Event) -> anyhow::Result<()> {
        Ok(())
    }

    fn finished(&mut self, _: Scene<'_, M, P>, _: End) -> anyhow::Result<()> {
        Ok(())
    }

    fn broken(&mut self, _: Scene<'_, M, P>) {}
}

/// Has the machine in a loop over the path, with stamps of datagrams sent from `sent`.
fn with_a_loop<M: Machine, R>(
    sent: Source,
    machine: &mut M,
    mut path: Scripted,
    act: impl FnOnce(&mut HotLoop<'_, M, Scripted, Nobody>) -> R,
) -> R {
    let sources = Sources { sent, received: Source::Application };
    let voice = Voice { role: Role::Server, json: false };
    let config = RecorderConfig { sources, ..RecorderConfig::application(None, voice) };
    let mut recorder = Recorder::start(config).unwrap();
    let (mut attendant, (mut interrupt, _stopper)) = (Nobody, Interrupt::by_hand().unwrap());
    let rules = StampRules { sources, patience: PATIENCE, board: Arc::new(ClockBoard::new(0, None)) };
    act(&mut HotLoop::new(machine, &mut path, &mut recorder, &mut attendant, &mut interrupt, rules))
}

/// Runs the loop over a path that breaks down; how many stamps of datagrams sent it counts then, and how many moments met, the worst
/// of them as the session has it.
fn break_down(machine: &mut impl Machine, path: Scripted) -> [u64; 2] {
    let uncounted = u64::from(path.has_ring);
    with_a_loop(Source::Application, machine, path, |looped| {
        assert_eq!(looped.run().unwrap_err().to_string(), "network down");
        assert_eq!(looped.stamps.tx_requested, looped.stamps.tx + looped.stamps.tx_missed);
        // Each lies there alone.
        assert_eq!(looped.path.uncounted, Some(uncounted));
        let lateness = looped.punctuality.totals().lateness;
        let (met, worst) = lateness.map_or((0, 0), |lateness| (lateness.count, lateness.max));
        assert_eq!(looped.machine.totals().worst_lateness_nanos, worst);
        [looped.stamps.tx_requested, met]
    })
}

#[test]
fn what_did_not_leave_as_a_session_breaks_off_is_not_counted_as_sent() {
    // The SYN-ACK leaves; of the pong and its three dummies as many as there is room for.
    for (leave, [pongs, dummies]) in [(1, [0, 0]), (2, [1, 0]), (4, [1, 2])] {
        let mut server = Server::new(ServerConfig { dummies: 3, ..any_server() });
        let path = Scripted { leave: Some(leave), ..Scripted::session_with_a_ping() };
        let [stamps, _] = break_down(&mut server, path);
        let totals = server.totals();
        assert_eq!([totals.pings_received, totals.pongs_sent, totals.dummies_sent], [1, pongs, dummies]);
        assert_eq!((totals.transmitted, stamps), (leave, 1 + pongs));
    }
    // Into a ring it was put; as it was alone there, it is known not to have left.
    let mut server = Server::new(any_server());
    let path = Scripted { leave: Some(1), has_ring: true, ..Scripted::session_with_a_ping() };
    let [stamps, _] = break_down(&mut server, path);
    assert_eq!((server.totals().transmitted, server.totals().pongs_sent, stamps), (1, 0, 1));
}

/// A client, and the path with the answer to its SYN.
fn client(settings: Settings, mut path: Scripted) -> (Client, Scripted) {
    let config = ClientConfig {
        server: PEER,
        settings,
        schedule: None,
        dummies: 0,
        timeout: None,
        connect_timeout: None,
        sampling: Sampling::default(),
        pattern: Pattern::default(),
    };
    let syn_ack = Message { kind: Kind::SynAck, sequence: 0 };
    path.to_come.push_back((PEER, syn_ack, settings.extension().map(Said::Extension)));
    (Client::new(monotonic_now(), config), path)
}

#[test]
fn a_ping_that_did_not_leave_is_neither_late_nor_lost() {
    for has_ring in [false, true] {
        // The SYN and three pings.
        let path = Scripted { leave: Some(4), has_ring, ..Scripted::default() };
        let settings = Settings { delay_us: 1000, ..Settings::default() };
        let (mut client, path) = client(settings, path);
        let [stamps, met] = break_down(&mut client, path);
        let totals = client.totals();
        assert_eq!((totals.transmitted, stamps), (4, 4));
        assert_eq!([totals.pings_sent, totals.pongs_expected, totals.planned_pings, met], [3; 4]);
        assert!(totals.late_sends <= 3, "{totals:?}");
    }
}

#[test]
fn a_pong_that_came_twice_does_not_end_a_session_that_another_is_missing_from() {
    let settings = Settings { delay_us: 1000, ..Settings::default() };
    let (mut client, path) = client(settings, Scripted::default());
    with_a_loop(Source::Application, &mut client, path, |looped| {
        let say = |kind, sequence| (PEER, Message { kind, sequence }, None);
        looped.act(None).unwrap();
        assert!(looped.receive().unwrap());
        let begun = looped.now;
        for millis in [0, 1] {
            assert!(looped.meet_deadlines(begun.plus(Duration::from_millis(millis)), 0).unwrap());
        }
        looped.machine.handle_stop(begun.plus_nanos(1_500_000));
        looped.act(None).unwrap();
        looped.path.to_come = [say(Kind::Pong, 1), say(Kind::Pong, 1), say(Kind::FinAck, 3), say(Kind::Pong, 2)].into();
        for _ in 0..3 {
            assert!(looped.receive().unwrap());
        }
        assert_eq!((looped.machine.totals().pongs_received, looped.machine.totals().pongs_expected), (2, 2));
        assert!(!looped.machine.is_over());
        assert!(looped.receive().unwrap());
        let counts = looped.round_trips.counts();
        assert_eq!((counts.unique, counts.duplicates), (2, 1));
    });
}

#[test]
fn of_a_flood_that_breaks_off_what_left_is_sent_and_the_rest_was_refused() {
    // None of a batch, part of one, a whole one, and some.
    for leave in [0, 1, 5, LOAD_BATCH, 2 * LOAD_BATCH + 7].map(u64::from) {
        let load = Some(Load { packets_per_second: 1_000_000, ip_len: 1400 });
        // One ping: the next one is due too late.
        let settings = Settings { delay_us: 3_600_000_000, load, ..Settings::default() };
        let (mut client, path) = client(settings, Scripted { leave: Some(2 + leave), ..Scripted::default() });
        let [stamps, met] = break_down(&mut client, path);
        let totals = client.totals();
        assert_eq!((totals.transmitted, stamps, met), (2 + leave, 2, 1), "{totals:?}");
        assert_eq!((totals.pings_sent, totals.dummies_sent), (1, leave), "{totals:?}");
        // The rest of the batch that was stopped, and the one in which that was met again.
        let refused = 1..=2 * u64::from(LOAD_BATCH) - 1;
        assert!(refused.contains(&totals.load_refused), "{totals:?}");
        assert_eq!(totals.load_due, leave + totals.load_late + totals.load_refused, "{totals:?}");
    }
}

#[test]
fn a_stranger_that_cannot_be_answered_costs_the_session_nothing_and_was_sent_nothing() {
    for (unknown, answered) in [(None, 1), (Some(STRANGER), 0)] {
        // Refused before there is a session, and while there is one.
        let large = syn(STRANGER, Settings { ping_padding: 1480, ..Settings::default() });
        let session = [syn(PEER, Settings::default()), ping(1), syn(STRANGER, Settings::default()), ping(2)];
        let to_come = [large].into_iter().chain(session).collect();
        let path = Scripted { to_come, unknown, ..Scripted::default() };
        let mut server = Server::new(any_server());
        with_a_loop(Source::Application, &mut server, path, |looped| {
            assert!(looped.receive().unwrap());
            assert_eq!((looped.machine.peer(), looped.machine.totals().transmitted), (None, answered));
            let before = looped.stamps;
            assert_eq!((before.rx, before.tx_requested, before.tx), (1, answered, answered));
            while looped.receive().unwrap() {}
            let totals = looped.machine.totals();
            assert_eq!([totals.received, totals.foreign, totals.pings_received, totals.pongs_sent], [4, 1, 2, 2]);
            // Three answers to the peer.
            assert_eq!((looped.machine.peer(), totals.transmitted), (Some(PEER), 3 + answered));
        });
    }
}

#[test]
fn a_stamp_is_waited_for_since_its_datagram_left_however_long_the_loop_was_away_before() {
    let mut server = Server::new(ServerConfig { keep: false, ..any_server() });
    with_a_loop(Source::Software, &mut server, Scripted::session_with_a_ping(), |looped| {
        assert!(looped.receive().unwrap());
        // As if it had been stopped then, and no stamp is there when it goes on.
        looped.now = Time::from_nanos(monotonic_now().as_nanos().saturating_sub(PATIENCE.as_nanos() as u64));
        assert!(looped.receive().unwrap());
        looped.now = monotonic_now();
        looped.look().unwrap();
        assert_eq!((looped.outstanding.len(), looped.stamps.tx_missed), (1, 0));
        looped.path.stamps = vec![TxStamp { token: Token(0), stamp: Stamp::System(realtime_now()) }];
        looped.collect().unwrap();
        assert_eq!((looped.outstanding.len(), looped.stamps.tx, looped.stamps.tx_late), (0, 1, 0));
        // Where the path breaks down, nobody is left waiting.
        looped.path.to_come.push_back(ping(2));
        assert!(looped.receive().unwrap());
        looped.give_up_all();
        assert_eq!((looped.outstanding.len(), looped.stamps.tx_missed), (0, 1));
    });
}
