//! A client asks an ordinary server with `--keep` for the path that it is to be served on.
//!
//! The client is a socket of this test, so that each datagram is known. Needs root and iproute2.

#[path = "support/hand.rs"]
mod hand;
#[path = "support/programs.rs"]
mod programs;

use hand::Hand;
use nix::sys::signal::Signal;
use programs::{CLIENT_ADDRESS, CLIENT_LINK, Lan, Program, SERVER_ADDRESS, SERVER_LINK, Side};
use serde_json::Value;
use std::net::UdpSocket;
use std::time::Duration;
use xdprobe::session::Settings;
use xdprobe::wire::{Account, Extension, Kind, Message, Parsed, Said, ServePath};

const PORT: u16 = 10666;
const PINGS: u64 = 20;
/// The sequence of the FIN behind them.
const FIN: u64 = PINGS + 1;

impl Hand {
    fn of(lan: &Lan) -> Self {
        let socket = lan.namespace(Side::Client).run(|| UdpSocket::bind((CLIENT_ADDRESS, 0)).expect("a port"));
        Self::new(socket, (SERVER_ADDRESS, PORT))
    }

    /// Asks for the next session; the answer.
    fn syn(&mut self, wanted: Extension) -> Parsed {
        self.number += 1;
        self.syn_again(wanted);
        self.hear()
    }

    fn syn_again(&self, wanted: Extension) {
        let mut extension = [0; 100];
        let len = wanted.write(&mut extension);
        let settings = Settings::default().to_raw().to_bytes();
        self.say(Kind::Syn, self.number, &[&settings[..], &extension[..len]].concat());
    }

    /// A whole session.
    fn session(&mut self, wanted: Extension) -> Option<Account> {
        let answer = self.syn(wanted);
        assert_eq!((answer.message.kind, answer.said), (Kind::SynAck, granted(wanted)));
        assert_eq!(answer.message.sequence, self.number);
        (1..=PINGS).for_each(|sequence| self.ping(sequence));
        self.fin(FIN)
    }
}

/// What a SYN-ACK that grants this says.
fn granted(extension: Extension) -> Option<Said> {
    Some(Said::Extension(extension))
}

fn on(path: ServePath) -> Extension {
    Extension { serve_on: Some(path), account: true, ..Extension::default() }
}

fn start(lan: &Lan, flags: &[&str]) -> Program {
    let fixed = ["--server", "--keep", "--json", "--interface", SERVER_LINK];
    let mut server = lan.start(Side::Server, &[&fixed, flags].concat());
    server.wait_for_line("nanoprobe server started");
    server
}

/// The statistics of each session, once there are so many.
fn sessions(server: &mut Program, count: usize) -> Vec<Value> {
    server.wait_until("the statistics", |server| server.stdout().lines().count() >= count);
    server.stdout().lines().map(|line| serde_json::from_str(line).expect("an object a line")).collect()
}

#[test]
fn the_path_that_a_client_asks_for_carries_its_session_and_no_other() {
    for stamps in ["application", "software"] {
        let lan = Lan::new(1);
        let log = lan.file("server.csv");
        let mut server = start(&lan, &["--timestamps", stamps, "--log", &log]);
        let mut client = Hand::of(&lan);
        let mut stranger = Hand::of(&lan);

        let account = client.session(on(ServePath::Xdp)).expect("it was asked for");
        assert_eq!((account.pings_received, account.pongs_sent, account.dropped), (PINGS, PINGS, Some(0)));

        let answer = client.syn(on(ServePath::Kernel));
        assert_eq!((answer.message.kind, answer.said), (Kind::SynAck, granted(on(ServePath::Kernel))));
        for sequence in 1..=PINGS {
            client.ping(sequence);
            if sequence == 7 {
                assert_eq!(stranger.syn(on(ServePath::Xdp)).message.kind, Kind::SynRst);
            }
        }
        // A repeated SYN is answered there as anywhere.
        client.syn_again(on(ServePath::Kernel));
        assert_eq!(client.hear().said, granted(on(ServePath::Kernel)));
        let account = client.fin(FIN).expect("it was asked for");
        assert_eq!((account.pings_received, account.pongs_sent, account.dropped), (PINGS, PINGS, Some(0)));
        assert!(account.cpu_ns.is_some());

        // Another client, which asks for nothing, and the same one again.
        stranger.number = 9;
        assert_eq!(stranger.session(Extension::default()), None);
        client.session(on(ServePath::Xdp));

        let all = sessions(&mut server, 4);
        server.signal(Signal::SIGINT);
        server.finish();
        let paths: Vec<_> = all.iter().map(|session| session["path"].as_str().unwrap()).collect();
        assert_eq!(paths, ["xdp", "kernel", "xdp", "xdp"], "{}", server.all_output());
        for session in &all {
            assert_eq!((&session["pings_received"], &session["pongs_sent"]), (&PINGS.into(), &PINGS.into()));
            for none in ["reached_kernel", "socket_dropped", "not_protocol", "lost_rows", "tx_stamps_missed"] {
                assert!(session[none].is_null() || session[none] == 0, "{none}: {session}");
            }
            assert_eq!(session["tx_source"], stamps);
        }
        // Pings and the FIN; with a session over the kernel the stranger's SYN only.
        let redirected: Vec<_> = all.iter().map(|session| session["xdp"]["redirected"].as_u64().unwrap()).collect();
        // The SYN of the session itself may be counted just before or behind its beginning.
        for (counted, least) in redirected.iter().zip([PINGS + 1, 1, PINGS + 1, PINGS + 1]) {
            assert!((least..=least + 1).contains(counted), "{redirected:?}");
        }
        assert!(all[1]["xdp"]["passed"].as_u64().unwrap() >= PINGS + 2, "{all:?}");
        assert_eq!((&all[1]["xdp_mode"], &all[1]["peer"]), (&Value::Null, &client.address().to_string().into()));

        let meta: Value = serde_json::from_slice(&std::fs::read(format!("{log}.meta.json")).unwrap()).unwrap();
        let earlier = meta["earlier_sessions"].as_array().unwrap();
        for (session, path) in earlier.iter().chain([&meta]).zip(paths) {
            assert_eq!((&session["path"], &session["summary"]["path"]), (&path.into(), &path.into()));
            let place = match (stamps, path) {
                ("application", _) => "process",
                (_, "xdp") => "XDP hook",
                _ => "kernel",
            };
            assert_eq!(session["timestamps"]["t1"]["where"], place);
        }
        let rows = std::fs::read_to_string(&log).unwrap().lines().filter(|line| !line.starts_with("seq")).count();
        assert_eq!(rows as u64, 4 * 2 * PINGS);
        assert!(server.stderr().contains("drop new connection request"), "{}", server.all_output());
        lan.assert_unchanged();
    }
}

#[test]
fn a_stamp_that_comes_after_its_session_is_nobodys_in_the_next_one() {
    /// On a link of 32 kbit/s they take more than three seconds, and a stamp is waited for 100 ms.
    const BURST: u64 = 300;
    /// Pings that have keys which the burst had, too.
    const FEW: u64 = 60;
    let lan = Lan::new(1);
    let mut server = start(&lan, &["--timestamps", "software"]);
    let slow = format!("qdisc add dev {SERVER_LINK} root tbf rate 32kbit burst 1600 limit 100000");
    let output = lan.namespace(Side::Server).command("tc").args(slow.split(' ')).output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let mut client = Hand::of(&lan);
    let until_fin_ack = |client: &Hand, sequence| {
        let awaited = Message { kind: Kind::FinAck, sequence };
        while client.hear().message != awaited {}
    };

    let answer = client.syn(on(ServePath::Kernel));
    assert_eq!(answer.message.kind, Kind::SynAck);
    (1..=BURST).for_each(|sequence| client.say(Kind::Ping, sequence, &[]));
    client.say(Kind::Fin, BURST + 1, &[]);
    sessions(&mut server, 1);
    // What is under way comes between the sessions now, and then within the next one. The answer to its SYN waits behind that.
    std::thread::sleep(Duration::from_millis(50));
    client.number += 1;
    client.syn_again(on(ServePath::Kernel));
    std::thread::sleep(Duration::from_secs(2));
    (1..=FEW).for_each(|sequence| client.say(Kind::Ping, sequence, &[]));
    client.say(Kind::Fin, FEW + 1, &[]);
    until_fin_ack(&client, BURST + 1);
    until_fin_ack(&client, FEW + 1);
    // And nothing of it is there in the one behind.
    let account = client.session(on(ServePath::Kernel)).expect("it was asked for");
    assert_eq!((account.pings_received, account.pongs_sent), (PINGS, PINGS));

    let all = sessions(&mut server, 3);
    server.signal(Signal::SIGINT);
    server.finish();
    assert_eq!(server.code(), Some(0), "{}", server.all_output());
    for (session, pings) in all.iter().zip([BURST, FEW, PINGS]) {
        assert_eq!((&session["path"], &session["tx_stamps_requested"]), (&"kernel".into(), &pings.into()));
        // Each report was known by its key, and none came twice.
        assert_eq!((&session["strange_stamps"], &session["tx_stamps_duplicates"]), (&0.into(), &0.into()), "{session}");
    }
}

#[test]
fn a_server_without_af_xdp_serves_on_the_kernel_path_only_and_says_so() {
    let lan = Lan::new(1);
    let mut server = start(&lan, &["--emulation", "--path", "kernel"]);
    let mut client = Hand::of(&lan);
    assert_eq!(client.syn(on(ServePath::Xdp)).message.kind, Kind::SynRst);
    server.wait_for_line("asks to be served on the xdp path");
    assert!(server.stderr().contains("start it with --path xdp"), "{}", server.all_output());
    assert!(client.session(on(ServePath::Kernel)).is_some());
    assert_eq!(sessions(&mut server, 1)[0]["path"], "kernel");
}

#[test]
fn a_late_copy_of_a_syn_opens_no_session_and_the_next_one_does_at_once() {
    let lan = Lan::new(1);
    let mut server = start(&lan, &["--emulation"]);
    let mut client = Hand::of(&lan);
    client.session(on(ServePath::Kernel));
    sessions(&mut server, 1);
    client.syn_again(on(ServePath::Kernel));
    client.session(on(ServePath::Kernel));
    let all = sessions(&mut server, 2);
    assert_eq!(all.len(), 2);
    // A FIN again, which comes through the rings now. One that comes while the server still prints is lost, as any may be.
    assert_eq!(client.insist(Kind::Fin, FIN, &[]).message.kind, Kind::FinAck);
}

#[test]
fn nothing_is_left_of_a_server_that_is_killed_while_it_serves_through_the_kernel() {
    let lan = Lan::new(1);
    let server = start(&lan, &["--emulation"]);
    let mut client = Hand::of(&lan);
    client.syn(on(ServePath::Kernel));
    client.ping(1);
    server.signal(Signal::SIGKILL);
    drop(server);
    lan.assert_unchanged();
    // The next one has the port and the program.
    let mut server = start(&lan, &["--emulation"]);
    let mut client = Hand::of(&lan);
    assert!(client.session(on(ServePath::Kernel)).is_some());
    let flags = ["--client", "-i", CLIENT_LINK, "-e", "-n1", "-d10000", SERVER_ADDRESS];
    let ordinary = lan.run(Side::Client, &flags);
    assert_eq!(ordinary.code(), Some(0), "{}", ordinary.all_output());
    let all = sessions(&mut server, 2);
    assert_eq!((&all[0]["path"], &all[1]["path"]), (&"kernel".into(), &"xdp".into()));
}

#[test]
fn strangers_do_not_push_out_a_client_whose_session_the_kernel_carries() {
    let lan = Lan::new(1);
    let mut server = start(&lan, &["--timestamps", "application"]);
    let mut client = Hand::of(&lan);
    let answer = client.syn(on(ServePath::Kernel));
    assert_eq!(answer.message.kind, Kind::SynAck);
    // More than the ways that are remembered.
    let strangers: Vec<Hand> = (0..200).map(|_| Hand::of(&lan)).collect();
    strangers.iter().for_each(|stranger| stranger.say(Kind::Ping, 1, &[]));
    (1..=PINGS).for_each(|sequence| client.ping(sequence));
    // The next session is asked for before the server has let go of this one.
    client.say(Kind::Fin, FIN, &[]);
    client.number += 1;
    client.syn_again(Extension::default());
    assert_eq!(client.hear().message.kind, Kind::FinAck);
    let mut answer = client.hear();
    if answer.message.kind != Kind::SynAck {
        client.syn_again(Extension::default());
        answer = client.hear();
    }
    assert_eq!((answer.message.kind, answer.message.sequence), (Kind::SynAck, client.number));
    (1..=PINGS).for_each(|sequence| client.ping(sequence));
    client.fin(FIN);
    sessions(&mut server, 2);
    server.signal(Signal::SIGTERM);
    server.finish();
    assert_eq!(server.code(), Some(0), "{}", server.stderr());
}

#[test]
fn a_repeated_fin_is_told_what_its_own_session_took() {
    let lan = Lan::new(1);
    let mut server = start(&lan, &["--timestamps", "application", "--timer", "busy"]);
    let (mut first, mut second) = (Hand::of(&lan), Hand::of(&lan));
    let account = first.session(on(ServePath::Xdp)).expect("it was asked for");
    assert!(account.cpu_ns.is_some());
    let answer = second.syn(on(ServePath::Xdp));
    assert_eq!(answer.message.kind, Kind::SynAck);
    (1..=PINGS).for_each(|sequence| second.ping(sequence));
    assert_eq!(first.fin(FIN), Some(account));
    let of_second = second.fin(FIN).expect("it was asked for");
    assert!(of_second.cpu_ns.is_some());
    // Now nobody knows any more: better nothing than another's.
    let repeated = first.fin(FIN).expect("it was asked for");
    assert_eq!(repeated, Account { cpu_ns: None, dropped: None, ..account });
    sessions(&mut server, 2);
    server.signal(Signal::SIGTERM);
    server.finish();
    assert_eq!(server.code(), Some(0), "{}", server.stderr());
}
