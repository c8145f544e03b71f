//! What the hot loop of a server of many clients promises: for their pings, and for a session that begins meanwhile, no system call but
//! the one that wakes the kernel for what was sent, and no allocation. Takes root, and tracepoints in the kernel.
//!
//! The server runs in this process, on a thread that is watched from the one that plays its clients: each ping is known, and so is
//! when there are none. Alone in its process, as the signal that ends the server reaches all of it.

#[path = "support/hand.rs"]
mod hand;
#[path = "support/meters.rs"]
mod meters;
#[path = "support/veth.rs"]
#[allow(dead_code, reason = "the clients are the kernel's, which finds its way")]
mod veth;

use hand::Hand;
use meters::{HANG, SystemCalls, watched_allocations};
use nix::sys::signal::{Signal, kill};
use nix::unistd::{Pid, gettid};
use std::net::{SocketAddrV4, UdpSocket};
use std::path::Path;
use std::sync::mpsc;
use veth::{End, Veth};
use xdprobe::cli::{Parsed, parse};
use xdprobe::probe;
use xdprobe::session::Settings;
use xdprobe::wire::Kind;

const PORT: u16 = 10666;
const CLIENTS: usize = 5;
/// Pings of each client that come one by one.
const ALONE: u64 = 200;
/// Pings of each client that come together: all of them are more than is read at once, and may wait in lines.
const TOGETHER: u64 = 40;

/// A client in a session.
fn connect(end: &End, server: SocketAddrV4) -> Hand {
    let socket = end.run(|| UdpSocket::bind((end.address, 0)).expect("a port"));
    let client = Hand::new(socket, server);
    let answer = client.insist(Kind::Syn, 0, &Settings::default().to_raw().to_bytes());
    assert_eq!(answer.message.kind, Kind::SynAck);
    client
}

fn ping(client: &mut Hand) {
    client.number += 1;
    client.say(Kind::Ping, client.number, &[]);
}

/// The pong to the only ping that is under way, or one of so many.
#[track_caller]
fn pong(client: &mut Hand) {
    client.expect(Kind::Pong);
}

/// Pings of all clients, first one at a time, then of each at once, then many of each.
fn ping_all(clients: &mut [Hand]) {
    for _ in 0..ALONE {
        for client in &mut *clients {
            ping(client);
            pong(client);
        }
        clients.iter_mut().for_each(ping);
        clients.iter_mut().for_each(pong);
    }
    for _ in 0..TOGETHER {
        clients.iter_mut().for_each(ping);
    }
    for client in clients {
        (0..TOGETHER).for_each(|_| pong(client));
    }
}

/// Runs the server on the calling thread until a signal ends it.
fn serve(end: &End, logs: &Path, watched: &mpsc::Sender<Pid>) -> anyhow::Result<bool> {
    end.enter();
    let logs = logs.to_str().expect("a name in UTF-8");
    let typed = ["xdprobe", "--server", "--keep", "--emulation", "--timer", "busy", "--json", "--clients", "8"];
    let typed = [&typed[..], &["--interface", end.interface, "--log-dir", logs]].concat();
    let Ok(Parsed::Run(plan)) = parse(typed.into_iter().map(Into::into)) else { panic!("it is a server") };
    meters::be_watched();
    watched.send(gettid()).expect("somebody watches");
    probe::run(&plan)
}

#[test]
fn a_server_of_many_with_logs_makes_no_system_call_but_the_wake_up_and_allocates_nothing() {
    let veth = Veth::new();
    let folder = tempfile::tempdir().unwrap();
    let (watched, server) = mpsc::channel();
    let (served, first) = std::thread::scope(|scope| {
        let serving = scope.spawn(|| serve(&veth.right, folder.path(), &watched));
        let thread = server.recv_timeout(HANG).expect("the server's thread runs");
        let to = SocketAddrV4::new(veth.right.address, PORT);
        let mut clients: Vec<_> = (0..CLIENTS).map(|_| connect(&veth.left, to)).collect();
        // The first packets of each session.
        ping_all(&mut clients);

        let mut calls = SystemCalls::of(thread);
        let mut first = 0;
        calls.begin_of_other(|| {
            ping(&mut clients[0]);
            pong(&mut clients[0]);
            first += 1;
        });
        let allocated = watched_allocations();
        ping_all(&mut clients);
        // Whoever begins a session is answered between the others' pings.
        clients.push(connect(&veth.left, to));
        ping_all(&mut clients[CLIENTS..]);
        calls.end_of_other();
        let allocated = watched_allocations() - allocated;
        let [all, sendto, _] = calls.counted.unwrap();
        kill(Pid::this(), Signal::SIGTERM).unwrap();
        let served = serving.join().expect("the server does not panic");
        assert_eq!((all - sendto, allocated), (0, 0), "{all} system calls, {sendto} of them sendto");
        // The pong to a lone ping leaves alone, others leave together; with room for repetitions.
        let pings = (CLIENTS as u64 + 1) * (2 * ALONE + TOGETHER);
        assert!((CLIENTS as u64 * ALONE..=pings + 64).contains(&sendto), "{sendto} sendto for {pings} pings");
        (served, first)
    });
    assert!(served.expect("the server works"), "every row is written");

    let logs = std::fs::read_dir(&folder).unwrap().map(|entry| entry.unwrap().path());
    let logs: Vec<_> = logs.filter(|log| log.extension().is_some_and(|extension| extension == "csv")).collect();
    let mut rows: Vec<_> =
        logs.iter().map(|log| std::fs::read_to_string(log).unwrap().lines().count() as u64).collect();
    rows.sort_unstable();
    // The header, and t1 and t2 of each ping.
    let of = |pings: u64| 1 + 2 * pings * (2 * ALONE + TOGETHER);
    assert_eq!(rows, [&[of(1)][..], &[of(2); CLIENTS - 1], &[of(2) + 2 * first]].concat());
}
