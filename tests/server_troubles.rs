//! What goes wrong around a server, in the built program, mostly one of many clients: a client that is gone from one moment to the next, a
//! stop while more waits than will ever be answered, a full disk, an interface that is deleted.
//!
//! Needs root and iproute2. Nothing here asserts a time; every wait has a bound that only a hang reaches.

#[path = "support/hand.rs"]
mod hand;
#[path = "support/programs.rs"]
mod programs;

use hand::Hand;
use nix::sys::signal::Signal;
use programs::{CLIENT_ADDRESS, CLIENT_LINK, Lan, Program, SERVER_ADDRESS, SERVER_LINK, Side};
use serde_json::Value;
use socket2::{Domain, Protocol, Socket, Type};
use std::net::{SocketAddrV4, UdpSocket};
use std::time::Duration;
use xdprobe::wire::frame::{Flow, LinkHeader, MAX_FRAME_LEN, MacAddr, write_control};
use xdprobe::wire::{Kind, Message, RawSettings};

const PORT: u16 = 10666;
const PATHS: [&str; 2] = ["xdp", "kernel"];

fn start_server(lan: &Lan, path: &str, flags: &[&str]) -> Program {
    start_once(lan, path, &[&["--keep"], flags].concat())
}

/// For one session.
fn start_once(lan: &Lan, path: &str, flags: &[&str]) -> Program {
    let stamps = if flags.contains(&"--timestamps") { &[][..] } else { &["--emulation"] };
    let fixed = ["--server", "--interface", SERVER_LINK, "--json", "--path", path];
    let mut server = lan.start(Side::Server, &[&fixed, stamps, flags].concat());
    server.wait_for_line("nanoprobe server started");
    server
}

fn objects(program: &Program) -> Vec<Value> {
    program.stdout().lines().map(|line| serde_json::from_str(line).expect("a JSON object a line")).collect()
}

fn count(object: &Value, name: &str) -> u64 {
    object[name].as_u64().unwrap_or_else(|| panic!("{name} in {object}"))
}

/// A client in a session.
fn begin(lan: &Lan, address: &str, settings: RawSettings) -> Hand {
    let client = knock(lan, address);
    client.say(Kind::Syn, 0, &settings.to_bytes());
    client.expect(Kind::SynAck);
    client
}

/// A client that has not said anything.
fn knock(lan: &Lan, address: &str) -> Hand {
    let socket = lan.namespace(Side::Client).run(|| UdpSocket::bind((address, 0)).expect("an address"));
    Hand::new(socket, (SERVER_ADDRESS, PORT))
}

fn session_of<'a>(sessions: &'a [Value], client: &Hand) -> &'a Value {
    let peer = client.address().to_string();
    sessions.iter().find(|session| session["peer"] == peer.as_str()).unwrap_or_else(|| panic!("{peer}: {sessions:?}"))
}

/// On the kernel's path datagrams for an address that nobody answers for wait in the kernel, and fill what a socket may have under way.
#[test]
fn a_client_that_vanishes_costs_the_others_nothing() {
    const OTHER: &str = "10.66.0.77";
    let lan = Lan::new(1);
    for path in PATHS {
        let client = lan.namespace(Side::Client);
        client.ip(&["address", "add", &format!("{OTHER}/24"), "dev", CLIENT_LINK]);
        let mut server = start_server(&lan, path, &["--clients", "4", "--timeout", "0"]);
        let pings = RawSettings { count_s: 3600, delay_us: 100, direction: 2, ..RawSettings::default() };
        let gone = begin(&lan, OTHER, pings);
        let stays = begin(&lan, CLIENT_ADDRESS, RawSettings { pong_every: 1, ..RawSettings::default() });
        gone.say(Kind::Ping, 1, &[]);
        gone.expect(Kind::Ping);
        client.ip(&["address", "del", &format!("{OTHER}/24"), "dev", CLIENT_LINK]);
        if path == "kernel" {
            lan.namespace(Side::Server).ip(&["neighbour", "del", OTHER, "dev", SERVER_LINK]);
        }
        // Some thousand pings to nobody.
        for sequence in 1..=200 {
            stays.say(Kind::Ping, sequence, &[]);
            assert_eq!(stays.hear().message, Message { kind: Kind::Pong, sequence }, "{path}: {}", server.all_output());
            std::thread::sleep(Duration::from_millis(5));
        }
        stays.fin(201);
        server.signal(Signal::SIGTERM);
        server.finish();
        assert_eq!(server.code(), Some(0), "{}", server.all_output());
        let sessions = objects(&server);
        let (theirs, others) = (session_of(&sessions, &stays), session_of(&sessions, &gone));
        assert_eq!((&theirs["end"], count(theirs, "pongs_sent")), (&"complete".into(), 200), "{path}: {theirs}");
        assert_eq!(others["end"], "stopped", "{path}: {others}");
        assert!(count(others, "pings_sent") > 1000, "{path}: {others}");
    }
    lan.assert_unchanged();
}

/// On the kernel's path one socket is everybody's: what the kernel says of a datagram to one peer it says at the next call, whomever that is for.
#[test]
fn a_client_whose_port_is_closed_costs_the_others_nothing() {
    let lan = Lan::new(1);
    for path in PATHS {
        let mut server = start_server(&lan, path, &["--clients", "8", "--timeout", "0"]);
        let pings = RawSettings { count_s: 3600, delay_us: 100, direction: 2, ..RawSettings::default() };
        let gone = begin(&lan, CLIENT_ADDRESS, pings);
        let others = [0; 4].map(|_| begin(&lan, CLIENT_ADDRESS, pings));
        others.iter().chain([&gone]).for_each(|client| client.say(Kind::Ping, 1, &[]));
        gone.expect(Kind::Ping);
        let gone_from = gone.address();
        drop(gone);
        // A thousand pings to the others, and as many to nobody.
        for client in &others {
            (0..1000).for_each(|_| client.expect(Kind::Ping));
        }
        server.signal(Signal::SIGTERM);
        server.finish();
        assert_eq!(server.code(), Some(0), "{}", server.all_output());
        let sessions = objects(&server);
        for client in &others {
            let session = session_of(&sessions, client);
            assert_eq!(session["end"], "stopped", "{path}, {gone_from} is gone: {session} {}", server.stderr());
        }
    }
    lan.assert_unchanged();
}

/// As above: the session times out, and the server is there for the next one.
#[test]
fn a_server_that_pings_a_client_that_vanishes_is_there_for_the_next() {
    const OTHER: &str = "10.66.0.78";
    let lan = Lan::new(1);
    let client = lan.namespace(Side::Client);
    client.ip(&["address", "add", &format!("{OTHER}/24"), "dev", CLIENT_LINK]);
    let mut server = start_server(&lan, "kernel", &["--timeout", "2000000"]);
    let pings = RawSettings { count_s: 3600, delay_us: 100, direction: 1, ..RawSettings::default() };
    let gone = begin(&lan, OTHER, pings);
    gone.expect(Kind::Ping);
    client.ip(&["address", "del", &format!("{OTHER}/24"), "dev", CLIENT_LINK]);
    lan.namespace(Side::Server).ip(&["neighbour", "del", OTHER, "dev", SERVER_LINK]);
    server.wait_until("statistics", |server| server.stdout().lines().count() == 1);
    assert_eq!(objects(&server)[0]["end"], "timed_out", "{}", server.all_output());
    let next = begin(&lan, CLIENT_ADDRESS, RawSettings { pong_every: 1, ..RawSettings::default() });
    next.ping(1);
    next.fin(2);
    server.signal(Signal::SIGTERM);
    server.finish();
    assert_eq!(server.code(), Some(0), "{}", server.all_output());
}

/// Each answer is 65,536 datagrams: what waits would take hours, and more comes meanwhile than any queue holds.
#[test]
fn a_stop_does_not_wait_for_all_that_waits_and_what_the_kernel_dropped_is_told() {
    const PINGS: u64 = 40_000;
    let lan = Lan::new(1);
    for path in PATHS {
        let mut server = start_server(&lan, path, &["--clients", "4", "--timeout", "0", "--dummy-pkt", "65535"]);
        let settings = RawSettings { pong_every: 1, ..RawSettings::default() };
        let [polite, floods] = [0, 1].map(|_| begin(&lan, CLIENT_ADDRESS, settings));
        // While the first is answered the others wait; as many as are read at once, and more.
        (1..=PINGS).for_each(|sequence| floods.say(Kind::Ping, sequence, &[]));
        assert_eq!(floods.hear().message, Message { kind: Kind::Pong, sequence: 1 });
        server.signal(Signal::SIGTERM);
        server.finish();
        assert_eq!(server.code(), Some(0), "{}", server.all_output());
        let sessions = objects(&server);
        for (client, pings) in [(&polite, 0), (&floods, PINGS)] {
            let session = session_of(&sessions, client);
            assert_eq!(session["end"], "stopped", "{path}: {session}");
            let (answered, dropped) = (count(session, "pings_received"), count(session, "excess"));
            assert!(answered + dropped <= pings, "{path}: {session}");
            // The kernel's path begins with a datagram at a time: there it may be that none was read ahead yet.
            assert!(pings == 0 || dropped > 64 || path == "kernel", "{path}: {session}");
        }
        let told = "datagrams of all sessions were dropped by this machine's kernel before they were read";
        assert!(server.stderr().contains(told), "{path}: {}", server.stderr());
    }
    lan.assert_unchanged();
}

#[test]
fn a_full_disk_costs_rows_that_are_counted_and_leaves_no_empty_logs() {
    let lan = Lan::new(1);
    let folder = lan.file("logs");
    std::fs::create_dir(&folder).unwrap();
    // `ip netns exec` gives it a mount namespace of its own: what is mounted there goes with it.
    let script = r#"mount -t tmpfs -o size=16k tmpfs "$0" && exec "$@""#;
    let flags = ["-c", script, &folder, env!("CARGO_BIN_EXE_xdprobe"), "--server", "--keep", "-i", SERVER_LINK, "-e"];
    let many = ["--path", "kernel", "--clients", "4", "--json", "--log-dir", &folder];
    let mut server = lan.start_other(Side::Server, "sh", &[&flags[..], &many].concat());
    server.wait_for_line("nanoprobe server started");
    let clients = [1000, 10].map(|pings| {
        let settings = RawSettings { pong_every: 1, ..RawSettings::default() };
        let client = begin(&lan, CLIENT_ADDRESS, settings);
        for sequence in 1..=pings {
            client.ping(sequence);
        }
        client.fin(pings + 1);
        (client, pings)
    });
    server.wait_until("two statistics", |server| server.stdout().lines().count() == 2);
    let inside = format!("/proc/{}/root{folder}", server.pid());
    let logs: Vec<String> = std::fs::read_dir(inside)
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .filter(|path| path.extension().is_some_and(|ending| ending == "csv"))
        .map(|path| std::fs::read_to_string(path).unwrap())
        .collect();
    server.signal(Signal::SIGTERM);
    server.finish();
    assert_eq!(server.code(), Some(1), "{}", server.all_output());
    let sessions = objects(&server);
    let [first, second] = clients.map(|(client, pings)| {
        let session = session_of(&sessions, &client);
        let rows = ["rows_written", "rows_lost"].map(|name| count(session, name));
        assert_eq!(rows[0] + rows[1], 2 * pings, "{session}");
        assert_eq!(session["success"], false, "{session}");
        rows[0]
    });
    assert!(first > 0 && second == 0, "{first} and {second}");
    let [log] = &logs[..] else { panic!("one log: {logs:?}") };
    assert_eq!(log.lines().count() as u64, 1 + first);
    let told = format!(
        "cannot make a log in {folder} (--log-dir): No space left on device (os error 28): make room, or name a"
    );
    assert!(server.stderr().contains(&told), "{}", server.stderr());
}

/// A client that is pinged, and was once.
fn begin_to_be_pinged(lan: &Lan) -> Hand {
    let settings = RawSettings { count_s: 3600, delay_us: 2000, direction: 2, ..RawSettings::default() };
    let client = begin(lan, CLIENT_ADDRESS, settings);
    client.say(Kind::Ping, 1, &[]);
    client.expect(Kind::Ping);
    client
}

#[test]
fn what_did_not_leave_as_a_link_went_down_is_not_counted_as_sent() {
    for path in PATHS {
        let lan = Lan::new(1);
        let mut server = start_once(&lan, path, &[]);
        let client = begin_to_be_pinged(&lan);
        lan.namespace(Side::Server).ip(&["link", "set", SERVER_LINK, "down"]);
        server.finish();
        assert_eq!(server.code(), Some(1), "{path}: {}", server.all_output());
        let session = &objects(&server)[0];
        assert_eq!(session["end"], "broken", "{path}: {session}");
        // All that was sent bears a stamp, and all but the SYN-ACK are pings.
        let [stamps, sent, pings] = ["tx_stamps", "transmitted", "pings_sent"].map(|name| count(session, name));
        assert_eq!((sent, pings), (stamps, stamps - 1), "{path}: {session}");
        let came =
            1 + std::iter::from_fn(|| client.heard()).filter(|heard| heard.message.kind == Kind::Ping).count() as u64;
        let dropped = count(session, "tx_dropped");
        // While the kernel takes the link down it drops without a word what a socket of its own sends (noop_enqueue, net/sched/sch_generic.c).
        let silent = if path == "kernel" { 50 } else { 0 };
        assert!((came + dropped..=came + dropped + silent).contains(&pings), "{path}: {came} came, {session}");
    }
}

#[test]
fn a_client_that_cannot_be_written_to_has_the_kernels_answer_told() {
    let lan = Lan::new(1);
    let mut server = start_server(&lan, "kernel", &["--clients", "4"]);
    let settings = RawSettings { count_s: 3600, delay_us: 1000, direction: 2, ..RawSettings::default() };
    let client = begin(&lan, CLIENT_ADDRESS, settings);
    client.say(Kind::Ping, 1, &[]);
    client.expect(Kind::Ping);
    lan.namespace(Side::Server).ip(&["link", "set", SERVER_LINK, "down"]);
    server.wait_for_line("cannot send to it: Network is unreachable (os error 101): its session is broken off");
    server.signal(Signal::SIGTERM);
    server.finish();
    let session = &objects(&server)[0];
    assert_eq!(session["end"], "broken", "{}", server.all_output());
    // What did not leave is not counted: all that was sent bears a stamp, and all but the SYN-ACK are pings.
    let [stamps, sent, pings] = ["tx_stamps", "transmitted", "pings_sent"].map(|name| count(session, name));
    assert_eq!((sent, pings), (stamps, stamps - 1), "{session}");
}

/// All hosts would get what it sends there, and no other client a session meanwhile. On the kernel's path the kernel forbids the answer.
#[test]
fn a_broadcast_address_costs_the_next_client_nothing() {
    for path in PATHS {
        assert_goes_on_after_a_broadcast_address(path);
    }
}

fn assert_goes_on_after_a_broadcast_address(path: &str) {
    let lan = Lan::new(1);
    // Else the kernel may drop the question.
    lan.namespace(Side::Server).run(|| {
        for which in ["all", SERVER_LINK] {
            std::fs::write(format!("/proc/sys/net/ipv4/conf/{which}/rp_filter"), "0").unwrap();
        }
    });
    let mut server = start_server(&lan, path, &[]);
    let sender =
        lan.namespace(Side::Client).run(|| Socket::new(Domain::IPV4, Type::RAW, Some(Protocol::from(255))).unwrap());
    let [source, destination] =
        ["10.66.0.255", SERVER_ADDRESS].map(|address| SocketAddrV4::new(address.parse().unwrap(), PORT));
    let flow = Flow { link: LinkHeader::new(MacAddr([0; 6]), MacAddr([0; 6])), source, destination };
    let mut frame = [0; MAX_FRAME_LEN];
    let settings = RawSettings { pong_every: 1, ..RawSettings::default() }.to_bytes();
    let len = write_control(&flow, Message { kind: Kind::Syn, sequence: 0 }, &settings, &mut frame);
    sender.send_to(&frame[14..len], &destination.into()).unwrap();
    if path == "kernel" {
        server.wait_until("that it asked", |server| !server.stdout().is_empty());
    }
    assert_serves(&lan);
    server.signal(Signal::SIGTERM);
    server.finish();
    let ends: Vec<_> = objects(&server).iter().map(|session| session["end"].clone()).collect();
    assert_eq!(server.code(), Some(0), "{path}: {}", server.all_output());
    assert_eq!(ends, if path == "xdp" { &["complete"][..] } else { &["broken", "complete"] }, "{path}");
}

/// It goes down first, and is there for a moment more.
#[test]
fn a_server_whose_interface_is_deleted_while_it_sends_ends() {
    for path in PATHS {
        for flags in [&[][..], &["--clients", "2"]] {
            let lan = Lan::new(1);
            let mut server = start_server(&lan, path, flags);
            begin_to_be_pinged(&lan);
            lan.namespace(Side::Server).ip(&["link", "del", SERVER_LINK]);
            server.finish();
            assert_eq!(server.code(), Some(1), "{path} {flags:?}: {}", server.all_output());
            let told = format!("the interface {SERVER_LINK} (--interface) is gone");
            assert_eq!(server.stderr().matches(&told).count(), 1, "{path} {flags:?}: {}", server.stderr());
            let sessions = objects(&server);
            assert_eq!((sessions.len(), &sessions[0]["end"]), (1, &"broken".into()), "{path} {flags:?}");
        }
    }
}

#[test]
fn a_server_whose_link_goes_down_while_it_sends_breaks_the_session_off_and_is_there_for_the_next() {
    for path in PATHS {
        for flags in [&[][..], &["--timestamps", "software"], &["--clients", "2"]] {
            let what = format!("{path} {flags:?}");
            let lan = Lan::new(1);
            let mut server = start_server(&lan, path, flags);
            let its = lan.namespace(Side::Server);
            // Twice, as the first time must leave nothing behind that breaks the second.
            for time in 0..2 {
                let client = begin_to_be_pinged(&lan);
                its.ip(&["link", "set", SERVER_LINK, "down"]);
                let told = |server: &Program| server.stderr().matches("broken off").count() == 1 + time;
                server.wait_until("that it goes on", told);
                its.ip(&["link", "set", SERVER_LINK, "up"]);
                its.wait_for_carrier(SERVER_LINK);
                lan.namespace(Side::Client).wait_for_carrier(CLIENT_LINK);
                while client.heard().is_some() {}
                // Nobody has a session now, and nobody else's is disturbed.
                knock(&lan, CLIENT_ADDRESS).say(Kind::Ping, 1, &[]);
                let ignored = |server: &Program| server.stderr().matches("it has no session here").count() == 1 + time;
                server.wait_until("that it knows of no session", ignored);
                assert_serves(&lan);
                assert_eq!(client.heard(), None, "{what}: what did not leave in a session does not leave after it");
                server.wait_until("statistics", |server| server.stdout().lines().count() == 2 + 2 * time);
            }
            server.signal(Signal::SIGTERM);
            server.finish();
            assert_eq!(server.code(), Some(0), "{what}: {}", server.all_output());
            let ends: Vec<_> = objects(&server).iter().map(|session| session["end"].clone()).collect();
            assert_eq!(ends, ["broken", "complete", "broken", "complete"], "{what}");
            assert_eq!(server.stderr().matches("broken off").count(), 2, "{what}: {}", server.stderr());
        }
    }
}

/// A client has its ping answered.
fn assert_serves(lan: &Lan) {
    let client = begin(lan, CLIENT_ADDRESS, RawSettings { pong_every: 1, ..RawSettings::default() });
    client.ping(1);
    client.fin(2);
}

fn assert_ends_without_its_interface(path: &str, flags: &[&str]) {
    let lan = Lan::new(1);
    let mut server = start_server(&lan, path, flags);
    assert_serves(&lan);
    let [clients, its] = [Side::Client, Side::Server].map(|side| lan.namespace(side));
    its.ip(&["link", "set", SERVER_LINK, "down"]);
    // As long as it takes to notice that it is gone, and longer.
    std::thread::sleep(Duration::from_millis(1500));
    its.ip(&["link", "set", SERVER_LINK, "up"]);
    its.wait_for_carrier(SERVER_LINK);
    clients.wait_for_carrier(CLIENT_LINK);
    assert_serves(&lan);
    its.ip(&["link", "del", SERVER_LINK]);
    server.finish();
    assert_eq!(server.code(), Some(1), "{path} {flags:?}: {}", server.all_output());
    let told = format!("the interface {SERVER_LINK} (--interface) is gone: it was deleted, or moved");
    assert_eq!(server.stderr().matches(&told).count(), 1, "{path} {flags:?}: {}", server.stderr());
    assert_eq!(objects(&server).len(), 2, "{path} {flags:?}: {}", server.stdout());
}

/// Nobody tells a socket that its interface is gone; one that is down comes back.
#[test]
fn an_idle_server_ends_where_its_interface_is_deleted_and_not_where_that_is_down() {
    for path in PATHS {
        assert_ends_without_its_interface(path, &[]);
        assert_ends_without_its_interface(path, &["--clients", "2"]);
    }
}

/// Nothing is ever heard of its client again.
#[test]
fn a_session_without_a_time_out_does_not_keep_a_server_whose_interface_is_deleted() {
    let loops = [&["--timer", "sleep"][..], &["--timer", "busy"], &["--timer", "sleep", "--clients", "2"]];
    let servers = PATHS.iter().flat_map(|path| loops.map(|flags| (path, flags)));
    let servers = servers.chain([(&PATHS[0], &["--timer", "busy", "--busypoll", "20"][..])]);
    // Side by side, as each takes its time to notice.
    let mut servers: Vec<_> = servers
        .map(|(path, flags)| {
            let lan = Lan::new(1);
            let flags = [&["--timeout", "0"], flags].concat();
            let server = start_server(&lan, path, &flags);
            let client = begin(&lan, CLIENT_ADDRESS, RawSettings { pong_every: 1, ..RawSettings::default() });
            client.ping(1);
            lan.namespace(Side::Server).ip(&["link", "del", SERVER_LINK]);
            (lan, server, format!("{path} {flags:?}"))
        })
        .collect();
    for (_lan, server, what) in &mut servers {
        server.finish();
        assert_eq!(server.code(), Some(1), "{what}: {}", server.all_output());
        let told = format!("the interface {SERVER_LINK} (--interface) is gone");
        assert_eq!(server.stderr().matches(&told).count(), 1, "{what}: {}", server.stderr());
        let sessions = objects(server);
        assert_eq!(sessions.len(), 1, "{what}: {}", server.stdout());
        assert_eq!((&sessions[0]["end"], count(&sessions[0], "pongs_sent")), (&"broken".into(), 1), "{what}");
    }
}
