//! The loop of many over a path that brings what is laid out, and breaks down where a test wants it to.

use super::super::scripted::{PEER, STRANGER, Scripted, any_server, ping, syn};
use super::*;
use crate::clock::ClockBoard;
use crate::path::Token;
use crate::record::Sources;
use crate::session::{Direction, Settings};
use crate::wire::Message;

/// No stall of this test lasts that long, and the machine runs for longer.
const PATIENCE: Duration = Duration::from_secs(30);

/// Has a server of two look at what the path brings, with stamps of datagrams sent from `sent`.
fn with_a_loop(sent: Source, path: Scripted, act: impl FnOnce(&mut Loop<'_, Scripted>)) {
    with_a_server(any_server(), sent, path, act);
}

fn with_a_server(server: ServerConfig, sent: Source, mut path: Scripted, act: impl FnOnce(&mut Loop<'_, Scripted>)) {
    let mut hall = Hall::new(HallConfig { server, clients: 2, path: ServePath::Kernel });
    let sources = Sources { sent, received: Source::Application };
    let (places, stamp_timeout) = (hall.room(), (sent != Source::Application).then_some(PATIENCE));
    let mut ledger = Ledger::start(LedgerConfig { sources, stamp_timeout, folder: None, json: false, places }).unwrap();
    let (mut tally, mut rests) = (Tally::new(places, None), None);
    let (mut interrupt, _stopper) = Interrupt::by_hand().unwrap();
    let beside = Beside {
        ledger: &mut ledger,
        tally: &mut tally,
        rests: &mut rests,
        interrupt: &mut interrupt,
        rules: StampRules { sources, patience: PATIENCE, board: Arc::new(ClockBoard::new(0, None)) },
    };
    act(&mut Loop::new(&mut hall, &mut path, 0, beside));
}

#[test]
fn a_lone_pong_that_the_ring_does_not_let_go_is_not_counted_as_sent() {
    // The SYN-ACK leaves.
    let path = Scripted { leave: Some(1), has_ring: true, ..Scripted::session_with_a_ping() };
    with_a_loop(Source::Application, path, |looped| {
        assert!(looped.receive().unwrap());
        assert_eq!(looped.receive().unwrap_err().kind(), io::ErrorKind::NetworkDown);
        let totals = looped.hall.totals_at(0).unwrap();
        assert_eq!((totals.pings_received, totals.pongs_sent, totals.transmitted), (1, 0, 1));
        assert_eq!((looped.stamps[0].tx_requested, looped.stamps[0].tx), (1, 1));
        looped.break_all();
        assert_eq!(looped.path.uncounted, Some(1));
    });
}

#[test]
fn a_session_that_ends_as_the_path_breaks_down_is_told_of() {
    // SYN-ACK and pong leave, the FIN of the server that is stopped does not.
    let path = Scripted { leave: Some(2), has_ring: true, ..Scripted::session_with_a_ping() };
    with_a_loop(Source::Application, path, |looped| {
        while looped.receive().unwrap() {}
        looped.hall.handle_stop(monotonic_now());
        assert_eq!(looped.act(None).unwrap_err().kind(), io::ErrorKind::NetworkDown);
        looped.break_all();
        let (crowd, totals) = looped.tally.so_far();
        assert_eq!((crowd.begun, crowd.over(), looped.hall.standing()), (1, 1, 0));
        assert_eq!((totals.pings_received, totals.pongs_sent), (1, 1));
    });
}

#[test]
fn a_stranger_that_cannot_be_answered_is_refused_all_the_same_and_costs_the_session_nothing() {
    for (unknown, answered) in [(None, 1), (Some(STRANGER), 0)] {
        // Refused as by any server, and as this one serves many.
        let large = Settings { ping_padding: 1480, ..Settings::default() };
        let reverse = Settings { direction: Direction::Reverse, ..Settings::default() };
        let mut path = Scripted { unknown, ..Scripted::session_with_a_ping() };
        path.to_come.extend([syn(STRANGER, large), syn(STRANGER, reverse), ping(2)]);
        with_a_loop(Source::Application, path, |looped| {
            while looped.receive().unwrap() {}
            let totals = looped.hall.totals_at(0).unwrap();
            assert_eq!([totals.received, totals.pings_received, totals.pongs_sent, totals.transmitted], [3, 2, 2, 3]);
            assert_eq!((looped.stamps[0].rx, looped.stamps[0].tx_requested), (3, 3));
            let (crowd, _) = looped.tally.so_far();
            assert_eq!((crowd.refused, crowd.begun, crowd.over()), (2, 1, 0), "{unknown:?}");
            assert_eq!((looped.hall.standing(), looped.stamps[1].tx_requested), (1, answered));
        });
    }
}

#[test]
fn a_client_that_is_gone_when_its_fin_is_answered_again_is_still_known_to_have_had_its_session() {
    let fin = (PEER, Message { kind: Kind::Fin, sequence: 2 }, None);
    let mut path = Scripted::session_with_a_ping();
    path.to_come.push_back(fin);
    with_a_loop(Source::Application, path, |looped| {
        while looped.receive().unwrap() {}
        looped.path.unknown = Some(PEER);
        looped.path.to_come.push_back(fin);
        assert!(looped.receive().unwrap());
        looped.path.unknown = None;
        // A late copy of its SYN.
        looped.path.to_come.push_back(syn(PEER, Settings::default()));
        assert!(looped.receive().unwrap());
        let (crowd, totals) = looped.tally.so_far();
        assert_eq!((crowd.begun, crowd.over(), looped.hall.standing()), (1, 1, 0));
        assert_eq!((totals.pongs_sent, totals.transmitted), (1, 3));
    });
}

#[test]
fn of_dummies_that_do_not_all_leave_those_that_did_are_counted_and_the_session_is_broken_off() {
    // The SYN-ACK, the pong, and two of its three dummies.
    let path = Scripted { leave: Some(4), ..Scripted::session_with_a_ping() };
    with_a_server(ServerConfig { dummies: 3, ..any_server() }, Source::Application, path, |looped| {
        while looped.receive().unwrap() {}
        let (crowd, totals) = looped.tally.so_far();
        assert_eq!((crowd.begun, crowd.over(), looped.hall.standing()), (1, 1, 0));
        assert_eq!([totals.pongs_sent, totals.dummies_sent, totals.transmitted], [1, 2, 4]);
    });
}

#[test]
fn a_stamp_is_waited_for_since_its_datagram_left_however_long_the_loop_was_away_before() {
    with_a_loop(Source::Software, Scripted::session_with_a_ping(), |looped| {
        assert!(looped.receive().unwrap());
        // As if it had been stopped then, and no stamp is there when it goes on.
        looped.now = Time::from_nanos(monotonic_now().as_nanos().saturating_sub(PATIENCE.as_nanos() as u64));
        assert!(looped.receive().unwrap());
        looped.now = monotonic_now();
        looped.look().unwrap();
        assert_eq!((looped.awaited.len(), looped.stamps[0].tx_missed), (1, 0));
        looped.path.stamps = vec![TxStamp { token: Token(0), stamp: Stamp::System(realtime_now()) }];
        looped.collect().unwrap();
        assert_eq!((looped.awaited.len(), looped.stamps[0].tx, looped.strays), (0, 1, 0));
        // Where the path breaks down, nobody is left waiting.
        looped.path.to_come.push_back(ping(2));
        assert!(looped.receive().unwrap());
        looped.give_up_all();
        assert_eq!((looped.awaited.len(), looped.stamps[0].tx_missed), (0, 1));
    });
}
