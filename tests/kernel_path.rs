//! The kernel path between two hosts on a wire, in network namespaces. Needs root.

#[path = "support/lan.rs"]
mod lan;

use lan::{A, B, ETH, Lan, Namespace};
use nix::sched::{CpuSet, sched_getcpu, sched_setaffinity};
use nix::sys::socket::{AddressFamily, MsgFlags, SockFlag, SockProtocol, SockType, recv, socket};
use nix::unistd::Pid;
use std::io::Write;
use std::net::{Ipv4Addr, SocketAddr, SocketAddrV4, UdpSocket};
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::os::unix::net::UnixStream;
use std::time::Duration;
use xdprobe::clock::{Stamp, monotonic_now, realtime_now};
use xdprobe::path::kernel::{KernelConfig, KernelPath};
use xdprobe::path::{BATCH, Batch, Path, Received, StampWishes, Token, TxStamp};
use xdprobe::session::{Body, Outgoing};
use xdprobe::wire::ptp::{Shape, Transport};
use xdprobe::wire::{
    DUMMY_SEQUENCE, Extension, Kind, MAX_IP_LEN, MIN_IP_LEN, Message, Parsed, Point, RawSettings, Said,
};

const PORT: u16 = 10_666;
const LONG: Duration = Duration::from_secs(10);

fn config(address: Ipv4Addr, port: u16) -> KernelConfig {
    KernelConfig {
        interface: ETH.to_owned(),
        bind: SocketAddrV4::new(address, port),
        busypoll_us: None,
        stamps: StampWishes::default(),
    }
}

/// A client on `a` and a server on `b`.
fn both_ends(lan: &Lan) -> (KernelPath, KernelPath) {
    let client = lan.a.run(|| KernelPath::open(config(A, 0)).unwrap());
    let server = lan.b.run(|| KernelPath::open(config(B, PORT)).unwrap());
    (client, server)
}

/// The same with sockets for what travels behind PTP headers, and whatever is sent from here arrives in its order.
fn both_ends_behind_ptp(lan: &Lan, transport: Transport) -> (KernelPath, KernelPath) {
    let (mut client, mut server) = both_ends(lan);
    stay_on_this_cpu();
    let wanted = Extension { ptp: Some(transport), ..Extension::default() };
    let (to, from) = (server.local_addr(), client.local_addr());
    assert_eq!(lan.a.run(|| client.prepare(to, wanted)).unwrap(), wanted);
    assert_eq!(lan.b.run(|| server.prepare(from, wanted)).unwrap(), wanted);
    (client, server)
}

fn ping(to: SocketAddrV4, sequence: u64, ip_len: u16) -> Outgoing {
    let message = Message { kind: Kind::Ping, sequence };
    Outgoing { to, message, body: Body::Padding(ip_len - MIN_IP_LEN), shape: Shape::Plain, point: None }
}

/// A veth has a queue for each CPU: a sender that is moved to another one could overtake itself.
fn stay_on_this_cpu() {
    let mut here = CpuSet::new();
    here.set(sched_getcpu().unwrap()).unwrap();
    sched_setaffinity(Pid::from_raw(0), &here).unwrap();
}

/// What comes to `path`, until it is `count` datagrams.
fn receive(path: &mut KernelPath, count: usize) -> Vec<Received> {
    let (quiet, _open) = UnixStream::pair().unwrap();
    let deadline = monotonic_now().plus(LONG);
    let mut received = Vec::new();
    let mut batch = Batch::new();
    while received.len() < count {
        assert!(monotonic_now() < deadline, "{} of {count} datagrams came", received.len());
        path.wait(Some(deadline), quiet.as_fd()).unwrap();
        path.receive(&mut batch).unwrap();
        received.extend(batch.datagrams());
    }
    received
}

/// Sees every frame on the host's interface, as tcpdump does.
fn sniffer(host: &Namespace) -> OwnedFd {
    host.run(|| {
        let protocol = SockProtocol::EthAll;
        socket(AddressFamily::Packet, SockType::Raw, SockFlag::SOCK_NONBLOCK, protocol).unwrap()
    })
}

/// The IPv4 packets with UDP inside that have come: total length, don't-fragment, more-fragments, fragment offset.
fn udp_packets(sniffer: &OwnedFd) -> Vec<(u16, bool, bool, u16)> {
    let mut packets = Vec::new();
    let mut frame = [0; 4096];
    while let Ok(len) = recv(sniffer.as_raw_fd(), &mut frame, MsgFlags::empty()) {
        let frame = &frame[..len];
        if len >= 34 && frame[12..14] == [8, 0] && frame[23] == 17 {
            let word = |at: usize| u16::from_be_bytes([frame[at], frame[at + 1]]);
            let flags = word(20);
            packets.push((word(16), flags & 0x4000 != 0, flags & 0x2000 != 0, (flags & 0x1fff) * 8));
        }
    }
    packets
}

#[test]
fn pings_and_pongs_of_every_size_arrive_whole() {
    let lan = Lan::new();
    let (mut client, mut server) = both_ends(&lan);
    for (sequence, ip_len) in [44, 45, 1500, 1501, 2000, MAX_IP_LEN].into_iter().enumerate() {
        let sequence = sequence as u64 + 1;
        let t0 = client.send(&ping(server.local_addr(), sequence, ip_len)).unwrap().application;
        let came = receive(&mut server, 1)[0];
        assert_eq!((came.message, came.ip_len), (Message { kind: Kind::Ping, sequence }, ip_len));
        assert_eq!((came.from, came.queue), (client.local_addr(), None));
        let t1 = came.stamps.application;
        assert!(t0 <= t1 && came.stamps.hook.is_none() && came.stamps.hardware.is_none());

        let pong = Message { kind: Kind::Pong, sequence };
        let t2 = server.send(&Outgoing { message: pong, ..ping(came.from, sequence, ip_len) }).unwrap().application;
        let back = receive(&mut client, 1)[0];
        assert_eq!((back.message, back.ip_len, back.from), (pong, ip_len, server.local_addr()));
        assert!(t1 <= t2 && t2 <= back.stamps.application);
    }
    assert_eq!((client.counters(), server.counters()), Default::default());
}

#[test]
fn what_fits_is_not_to_be_fragmented_and_what_does_not_is_fragmented() {
    let lan = Lan::new();
    let (mut client, mut server) = both_ends(&lan);
    let sniffer = sniffer(&lan.b);
    for ip_len in [44, 1500, 2000] {
        client.send(&ping(server.local_addr(), 1, ip_len)).unwrap();
    }
    receive(&mut server, 3);
    let mut packets = udp_packets(&sniffer);
    packets.sort_unstable();
    assert_eq!(
        packets,
        [(44, true, false, 0), (520, false, false, 1480), (1500, false, true, 0), (1500, true, false, 0)]
    );
}

#[test]
fn a_syn_carries_its_settings_and_leaves_no_trace_in_later_pings() {
    let lan = Lan::new();
    let mut client = lan.a.run(|| KernelPath::open(config(A, 0)).unwrap());
    let peer = lan.b.run(|| UdpSocket::bind((B, PORT)).unwrap());
    peer.set_read_timeout(Some(LONG)).unwrap();
    let to = SocketAddrV4::new(B, PORT);
    let settings = RawSettings { count_s: 7, delay_us: 0xffff_ffff, ping_padding: 0xffff, ..RawSettings::default() };
    let syn = Message { kind: Kind::Syn, sequence: 0 };
    let body = Body::Settings(settings, None);
    client.send(&Outgoing { to, message: syn, body, shape: Shape::Plain, point: None }).unwrap();
    client.send(&ping(to, u64::MAX - 1, MAX_IP_LEN)).unwrap();
    client.send(&Outgoing { body: Body::Empty, ..ping(to, 3, MIN_IP_LEN) }).unwrap();

    let mut bytes = [0xaa; 4096];
    let len = peer.recv(&mut bytes).unwrap();
    let parsed = Parsed { message: syn, said: Some(Said::Settings(settings, None)) };
    assert_eq!(Message::parse(&bytes[..len]), Ok(parsed));
    assert_eq!(len, 40);
    let len = peer.recv(&mut bytes).unwrap();
    assert_eq!((len, &bytes[..9]), (2064, &[0xfe, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 5][..]));
    assert!(bytes[9..len].iter().all(|byte| *byte == 0));
    assert_eq!(peer.recv(&mut bytes).unwrap(), 16);
}

#[test]
fn short_and_foreign_datagrams_are_counted_and_the_rest_goes_on() {
    let lan = Lan::new();
    let mut server = lan.b.run(|| KernelPath::open(config(B, PORT)).unwrap());
    let peer = lan.a.run(|| UdpSocket::bind((A, 0)).unwrap());
    let mut giant = vec![0xff; 65_507];
    giant[8] = Kind::Ping as u8;
    let unknown = [&[0; 8][..], &[4], &[0; 7]].concat();
    let good = Message { kind: Kind::Fin, sequence: 9 };
    for bytes in [&[][..], &[1], &[7; 15], &unknown, &[0xff; 500], &giant, &good.to_bytes()] {
        peer.send_to(bytes, (B, PORT)).unwrap();
    }
    let came = receive(&mut server, 2);
    assert_eq!((came[0].message.kind, came[0].ip_len), (Kind::Ping, 65_535));
    assert_eq!((came[1].message, came[1].ip_len), (good, 44));
    assert_eq!(server.counters().not_protocol, 5);
    // A look that brings nothing else is told from one that finds nothing.
    let mut batch = Batch::new();
    server.receive(&mut batch).unwrap();
    assert!(!batch.has_read());
    peer.send_to(&[1], (B, PORT)).unwrap();
    let deadline = monotonic_now().plus(LONG);
    while !batch.has_read() {
        assert!(monotonic_now() < deadline);
        server.receive(&mut batch).unwrap();
    }
    assert_eq!((batch.len(), server.counters().not_protocol), (0, 6));
}

#[test]
fn dummies_come_from_another_port() {
    let lan = Lan::new();
    let (mut client, mut server) = both_ends(&lan);
    (0..3).for_each(|_| client.send_dummy(server.local_addr()).unwrap());
    let came = receive(&mut server, 3);
    for dummy in &came {
        assert_eq!(dummy.message, Message { kind: Kind::Dummy, sequence: DUMMY_SEQUENCE });
        assert_eq!((dummy.from.ip(), dummy.from.port() == client.local_addr().port()), (&A, false));
        assert_eq!((dummy.from, dummy.ip_len), (came[0].from, 44));
    }
}

#[test]
fn a_flood_has_its_size_and_leaves_no_trace_in_pings() {
    let lan = Lan::new();
    let (mut client, mut server) = both_ends(&lan);
    for ip_len in [44, 1400, 1500] {
        assert_eq!(client.send_load(server.local_addr(), 32, ip_len).unwrap(), 32);
        let came = receive(&mut server, 32);
        let dummy = Message { kind: Kind::Dummy, sequence: DUMMY_SEQUENCE };
        assert!(came.iter().all(|datagram| (datagram.message, datagram.ip_len) == (dummy, ip_len)));
        assert!(came.iter().all(|datagram| datagram.from.port() != client.local_addr().port()));
        client.send(&ping(server.local_addr(), 7, 60)).unwrap();
        let came = receive(&mut server, 1);
        assert_eq!((came[0].message, came[0].ip_len), (Message { kind: Kind::Ping, sequence: 7 }, 60));
    }
    let error = client.send_load(server.local_addr(), 1, 2093).unwrap_err().to_string();
    assert!(error.contains("2065 bytes") && error.contains("the protocol ends at"), "{error}");
}

#[test]
fn a_batch_ends_at_its_size_and_the_next_one_has_the_rest() {
    let lan = Lan::new();
    let (mut client, mut server) = both_ends(&lan);
    let count = BATCH + 10;
    for sequence in 1..=count as u64 {
        client.send(&ping(server.local_addr(), sequence, 44)).unwrap();
    }
    let mut sequences = Vec::new();
    let mut batch = Batch::new();
    let (quiet, _open) = UnixStream::pair().unwrap();
    while sequences.len() < count {
        server.wait(Some(monotonic_now().plus(LONG)), quiet.as_fd()).unwrap();
        server.receive(&mut batch).unwrap();
        assert!(!batch.is_empty() && batch.len() <= BATCH);
        sequences.extend(batch.datagrams().map(|datagram| datagram.message.sequence));
    }
    // A veth has a queue for each CPU: a sender that is moved to another one can overtake itself.
    sequences.sort_unstable();
    assert!(sequences.into_iter().eq(1..=count as u64));
    server.receive(&mut batch).unwrap();
    assert!(batch.is_empty());
}

#[test]
fn a_closed_port_at_the_peer_ends_nothing() {
    let lan = Lan::new();
    let mut client = lan.a.run(|| KernelPath::open(config(A, 0)).unwrap());
    let sniffer = sniffer(&lan.a);
    let to = SocketAddrV4::new(B, PORT);
    client.send(&ping(to, 1, 44)).unwrap();
    // The peer's ICMP: 10.77.0.2 says that the port is unreachable.
    let mut frame = [0; 4096];
    let deadline = monotonic_now().plus(LONG);
    loop {
        assert!(monotonic_now() < deadline, "no ICMP came");
        match recv(sniffer.as_raw_fd(), &mut frame, MsgFlags::empty()) {
            Ok(len) if len > 36 && frame[12..14] == [8, 0] && frame[23] == 1 && frame[34..36] == [3, 3] => break,
            _ => std::thread::yield_now(),
        }
    }
    client.receive(&mut Batch::new()).unwrap();
    let mut server = lan.b.run(|| KernelPath::open(config(B, PORT)).unwrap());
    client.send(&ping(to, 2, 44)).unwrap();
    assert_eq!(receive(&mut server, 1)[0].message.sequence, 2);
}

#[test]
fn a_wait_ends_with_the_deadline_the_interrupt_or_a_datagram() {
    let lan = Lan::new();
    let (mut client, mut server) = both_ends(&lan);
    let (interrupt, mut signal) = UnixStream::pair().unwrap();
    let deadline = monotonic_now().plus(Duration::from_millis(3));
    client.wait(Some(deadline), interrupt.as_fd()).unwrap();
    assert!(monotonic_now() >= deadline);
    client.wait(Some(deadline), interrupt.as_fd()).unwrap();
    // Without a deadline: were it not for the datagram and the byte, these would never return.
    server.send(&ping(client.local_addr(), 1, 44)).unwrap();
    client.wait(None, interrupt.as_fd()).unwrap();
    assert_eq!(receive(&mut client, 1).len(), 1);
    signal.write_all(&[1]).unwrap();
    client.wait(None, interrupt.as_fd()).unwrap();
}

#[test]
fn an_interface_that_goes_down_is_an_error_with_its_reason() {
    let lan = Lan::new();
    let mut client = lan.a.run(|| KernelPath::open(config(A, 0)).unwrap());
    lan.a.ip(&["link", "set", "dev", ETH, "down"]);
    let error = client.send(&ping(SocketAddrV4::new(B, PORT), 1, 44)).unwrap_err();
    assert_eq!(error.kind(), std::io::ErrorKind::NetworkUnreachable);
    let said = error.to_string();
    assert!(said.starts_with("cannot send to 10.77.0.2:10666: Network is unreachable"), "{said}");
    assert!(said.contains("check that the interface is up and has a route"), "{said}");
}

#[test]
fn the_path_says_what_it_is() {
    let lan = Lan::new();
    let path = lan.b.run(|| KernelPath::open(KernelConfig { busypoll_us: Some(50), ..config(B, PORT) }).unwrap());
    let description = path.description();
    assert_eq!((description.path, description.local), ("kernel", SocketAddrV4::new(B, PORT)));
    assert_eq!((description.xdp_mode, description.zero_copy, description.queues.len()), (None, None, 0));
    let taken = lan.b.run(|| KernelPath::open(config(B, PORT)).unwrap_err().to_string());
    assert!(taken.starts_with("UDP port 10666 on 10.77.0.2 is taken"), "{taken}");
    let free = lan.b.run(|| KernelPath::open(config(B, 0)).unwrap().local_addr());
    assert_ne!(free.port(), 0);
    assert_eq!(SocketAddr::V4(free).ip(), B);
}

#[test]
fn a_payload_beyond_the_protocol_is_refused() {
    let lan = Lan::new();
    let mut client = lan.a.run(|| KernelPath::open(config(A, 0)).unwrap());
    let error = client.send(&ping(SocketAddrV4::new(B, PORT), 1, MAX_IP_LEN + 1)).unwrap_err();
    assert_eq!(error.to_string(), "cannot send 2065 bytes to 10.77.0.2:10666: the protocol ends at 2064");
}

#[test]
fn the_kernel_stamps_both_ways_and_only_what_makes_a_row() {
    let lan = Lan::new();
    let stamps = StampWishes { software: true, hardware: false };
    let mut client = lan.a.run(|| KernelPath::open(KernelConfig { stamps, ..config(A, 0) }).unwrap());
    let mut server = lan.b.run(|| KernelPath::open(KernelConfig { stamps, ..config(B, PORT) }).unwrap());
    assert_eq!(client.late_stamps(), stamps);
    for sequence in 1..=20 {
        let ping = Outgoing { point: Some(Point::T0), ..ping(server.local_addr(), sequence, 44) };
        // In between one that asks for no stamp: its stamp must not be taken for another's.
        assert_eq!(client.send(&Outgoing { point: None, ..ping }).unwrap().token, None);
        receive(&mut server, 1);
        let sent = client.send(&ping).unwrap();
        let came = receive(&mut server, 1)[0];
        let mut late = Vec::new();
        let end = monotonic_now().plus(Duration::from_secs(10));
        while late.is_empty() && monotonic_now() < end {
            client.collect(&mut late).unwrap();
        }
        let [TxStamp { token, stamp: Stamp::System(left) }] = late[..] else { panic!("{late:?}") };
        assert_eq!((sent.token, token), (Some(token), Token(sequence - 1)));
        let received = came.stamps.software.expect("the kernel stamps what it receives");
        assert!(sent.application <= left && left <= realtime_now());
        assert!(sent.application <= received && received <= came.stamps.application);
        assert_eq!((came.stamps.hook, came.stamps.hardware), (None, None));
    }
}

#[test]
fn a_lone_datagram_is_read_alone_and_a_flood_in_batches() {
    let lan = Lan::new();
    let (mut client, mut server) = both_ends(&lan);
    let to = SocketAddrV4::new(B, PORT);
    stay_on_this_cpu();
    let marked = lan.b.run(|| UdpSocket::bind((B, PORT + 1)).unwrap());
    marked.set_read_timeout(Some(LONG)).unwrap();
    for sequence in 1..=200 {
        client.send(&ping(to, sequence, MAX_IP_LEN - 900 + sequence as u16)).unwrap();
    }
    // One wire, one queue: what was sent before this is there.
    client.send(&ping(SocketAddrV4::new(B, PORT + 1), 0, MIN_IP_LEN)).unwrap();
    marked.recv(&mut [0; 64]).unwrap();
    let (mut batch, mut looks, mut came) = (Batch::new(), Vec::new(), Vec::new());
    loop {
        server.receive(&mut batch).unwrap();
        if batch.is_empty() {
            break;
        }
        looks.push(batch.len());
        came.extend(batch.datagrams().map(|datagram| (datagram.message.sequence, datagram.ip_len, datagram.from)));
    }
    let from = client.local_addr();
    assert_eq!(came, Vec::from_iter((1..=200).map(|n| (n, MAX_IP_LEN - 900 + n as u16, from))));
    assert_eq!(looks, [1, 2, 4, 8, 16, 32, 64, 64, 9]);
    // The socket was empty: whoever comes next is not waited for again.
    for sequence in 201..=203 {
        client.send(&ping(to, sequence, MIN_IP_LEN)).unwrap();
    }
    client.send(&ping(SocketAddrV4::new(B, PORT + 1), 0, MIN_IP_LEN)).unwrap();
    marked.recv(&mut [0; 64]).unwrap();
    server.receive(&mut batch).unwrap();
    assert_eq!(Vec::from_iter(batch.datagrams().map(|datagram| datagram.message.sequence)), [201]);
    assert_eq!(server.counters(), Default::default());
}

#[test]
fn a_fin_is_handed_over_after_the_pings_behind_ptp_headers_that_were_sent_before_it() {
    for transport in [Transport::Udp, Transport::L2] {
        let lan = Lan::new();
        let (mut client, mut server) = both_ends_behind_ptp(&lan, transport);
        let to = server.local_addr();
        // More than a batch, and more than a socket holds that nobody asked for more.
        let pings = 2_000;
        let plain = |kind| {
            let message = Message { kind, sequence: 0 };
            Outgoing { to, message, body: Body::Padding(0), shape: Shape::Plain, point: None }
        };
        for sequence in 1..=pings {
            client.send(&Outgoing { shape: Shape::Stamped, ..ping(to, sequence, 100) }).unwrap();
        }
        // What is plain and ends nothing does not wait.
        client.send(&plain(Kind::Syn)).unwrap();
        client.send(&plain(Kind::Fin)).unwrap();
        let came = receive(&mut server, pings as usize + 2);
        let kinds = |kind| came.iter().filter(move |received| received.message.kind == kind);
        assert!(kinds(Kind::Ping).map(|received| received.message.sequence).eq(1..=pings), "{transport:?}");
        assert_eq!((came[0].message.kind, kinds(Kind::Syn).count()), (Kind::Syn, 1), "{transport:?}");
        assert_eq!(came.last().unwrap().message.kind, Kind::Fin, "{transport:?}");
        assert_eq!(server.counters().socket_dropped, 0);
    }
}

#[test]
fn a_fin_is_handed_over_though_more_comes_behind_ptp_headers_than_is_read() {
    let lan = Lan::new();
    let (mut client, mut server) = both_ends_behind_ptp(&lan, Transport::L2);
    let to = server.local_addr();
    let message = Message { kind: Kind::Fin, sequence: 0 };
    client.send(&Outgoing { to, message, body: Body::Padding(0), shape: Shape::Plain, point: None }).unwrap();
    let mut batch = Batch::new();
    let deadline = monotonic_now().plus(LONG);
    let mut looks = 0;
    loop {
        assert!(monotonic_now() < deadline, "no FIN after {looks} looks");
        for sequence in 0..=BATCH as u64 {
            client.send(&Outgoing { shape: Shape::Stamped, ..ping(to, sequence, 100) }).unwrap();
        }
        server.receive(&mut batch).unwrap();
        if batch.datagrams().any(|received| received.message.kind == Kind::Fin) {
            break;
        }
        looks += 1;
    }
    assert!(looks > 0);
}

#[test]
fn what_a_socket_for_ptp_has_no_room_for_is_counted_also_when_it_is_closed() {
    let lan = Lan::new();
    let (mut client, mut server) = both_ends_behind_ptp(&lan, Transport::L2);
    let to = server.local_addr();
    // The socket holds 8 MiB, and each takes 512 bytes at least.
    let pings = 20_000;
    for sequence in 1..=pings {
        client.send(&Outgoing { shape: Shape::Stamped, ..ping(to, sequence, 100) }).unwrap();
    }
    let dropped = server.counters().socket_dropped;
    let mut batch = Batch::new();
    let mut came = 0;
    loop {
        server.receive(&mut batch).unwrap();
        if batch.is_empty() {
            break;
        }
        came += batch.len() as u64;
    }
    assert_eq!((came + dropped, client.counters().tx_dropped), (pings, 0), "{came} came, {dropped} had no room");
    assert!(dropped > 0);
    server.release();
    assert_eq!(server.counters().socket_dropped, dropped);
}

#[test]
fn what_the_interfaces_queue_drops_is_counted_as_dropped_and_ends_nothing() {
    let lan = Lan::new();
    let (mut client, mut server) = both_ends(&lan);
    let to = SocketAddrV4::new(B, PORT);
    let queue = |arguments: &str| {
        let output = lan.a.command("tc").args(arguments.split(' ')).output().unwrap();
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    };
    client.send(&ping(to, 1, MIN_IP_LEN)).unwrap();
    queue(&format!("qdisc add dev {ETH} root pfifo limit 0"));
    let sent = client.send(&ping(to, 2, MIN_IP_LEN)).unwrap();
    assert_eq!(sent.token, None, "no stamp will come of it");
    assert_eq!(client.send_load(to, 5, MIN_IP_LEN).unwrap(), 0, "of a flood it is not sent");
    queue(&format!("qdisc del dev {ETH} root"));
    client.send(&ping(to, 3, MIN_IP_LEN)).unwrap();
    let came = receive(&mut server, 2);
    assert_eq!(Vec::from_iter(came.iter().map(|datagram| datagram.message.sequence)), [1, 3]);
    let counters = client.counters();
    assert_eq!((counters.tx_dropped, counters.tx_ring_full, counters.tx_retries), (1, 1, 0));
}

#[test]
fn that_nobody_listens_is_neither_an_error_nor_a_reason_to_wake_up_for_ever() {
    let lan = Lan::new();
    let stamps = StampWishes { software: true, hardware: false };
    for stamps in [StampWishes::default(), stamps] {
        let mut client = lan.a.run(|| KernelPath::open(KernelConfig { stamps, ..config(A, 0) }).unwrap());
        let to = SocketAddrV4::new(B, PORT);
        let (quiet, _open) = UnixStream::pair().unwrap();
        let (mut batch, mut late) = (Batch::new(), Vec::new());
        for sequence in 1..=20 {
            let row = Outgoing { point: Some(Point::T0), ..ping(to, sequence, MIN_IP_LEN) };
            client.send(&row).unwrap();
            // An ICMP message comes back; whatever it says, the next one is sent.
            client.wait(Some(monotonic_now().plus(LONG)), quiet.as_fd()).unwrap();
            client.receive(&mut batch).unwrap();
            assert!(batch.is_empty());
        }
        client.send_load(to, 5, MIN_IP_LEN).unwrap();
        // Of the last message a send gets to know, to somebody who listens: nothing more comes of which a receive would be told.
        let listener = lan.b.run(|| UdpSocket::bind((B, PORT + 1)).unwrap());
        client.send(&ping(to, 21, MIN_IP_LEN)).unwrap();
        client.send(&ping(SocketAddrV4::new(B, PORT + 1), 22, MIN_IP_LEN)).unwrap();
        drop(listener);
        // The last of them may come a moment later, as may stamps: at some time there is silence.
        let silence = Duration::from_millis(50);
        let end = monotonic_now().plus(LONG);
        loop {
            assert!(monotonic_now() < end, "the socket stays readable");
            let deadline = monotonic_now().plus(silence);
            client.wait(Some(deadline), quiet.as_fd()).unwrap();
            if monotonic_now() >= deadline {
                break;
            }
            client.receive(&mut batch).unwrap();
            client.collect(&mut late).unwrap();
        }
        assert_eq!(client.counters(), Default::default(), "nothing is strange");
    }
}
