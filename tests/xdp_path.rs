//! The AF_XDP path on a veth pair: what the program takes and leaves, and datagrams in both directions. Takes root.

#[path = "support/veth.rs"]
mod veth;

use socket2::{Domain, Protocol, Socket, Type};
use std::io::{ErrorKind, Read, Write};
use std::net::{Ipv4Addr, SocketAddrV4, TcpListener, TcpStream, UdpSocket};
use std::os::fd::AsFd;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::Relaxed};
use std::time::Duration;
use veth::{End, Veth, settle};
use xdprobe::clock::{monotonic_now, realtime_now, tai_now};
use xdprobe::net;
use xdprobe::path::xdp::{AttachedMode, Frames, HookStamps, Program, XdpConfig, XdpMode, XdpPath, ZeroCopy};
use xdprobe::path::{Batch, Path, Received, StampWishes};
use xdprobe::session::{Body, Outgoing};
use xdprobe::wire::frame::{Flow, LinkHeader, MAX_FRAME_LEN, MacAddr, Template};
use xdprobe::wire::ptp::{Shape, Transport};
use xdprobe::wire::{DUMMY_SEQUENCE, Extension, Kind, MIN_IP_LEN, Message, Parsed, RawSettings, Said, ServePath};

const PORT: u16 = 10666;
const CLIENT_PORT: u16 = 40_001;
const DUMMY_PORT: u16 = 40_002;
/// `enum xdp_action`, `linux/bpf.h`.
const XDP_PASS: u32 = 2;
const XDP_REDIRECT: u32 = 4;
/// Bytes of `struct steer_meta`.
const META_LEN: usize = 24;

fn local(end: &End, port: u16) -> SocketAddrV4 {
    SocketAddrV4::new(end.address, port)
}

fn header(from: &End, to: &End) -> LinkHeader {
    LinkHeader::new(MacAddr(to.mac()), MacAddr(from.mac()))
}

fn config(end: &End, port: u16) -> XdpConfig {
    XdpConfig {
        interface: end.interface.to_owned(),
        if_index: end.if_index(),
        mtu: 1500,
        mac: MacAddr(end.mac()),
        local: local(end, port),
        dummy_port: DUMMY_PORT,
        mode: XdpMode::Auto,
        zero_copy: ZeroCopy::Auto,
        queues: vec![0],
        busypoll_us: None,
        peer: None,
        martians: Vec::new(),
        stamps: StampWishes::default(),
        companion: false,
        card_stamps: false,
        hook_stamps: HookStamps::Each,
    }
}

fn try_open(end: &End, config: XdpConfig) -> anyhow::Result<XdpPath> {
    settle();
    end.run(|| {
        let reserved = UdpSocket::bind(config.local).unwrap();
        XdpPath::open(config, reserved)
    })
}

fn open(end: &End, config: XdpConfig) -> XdpPath {
    try_open(end, config).unwrap()
}

/// The server on the right, and a client on the left that knows the way to it.
fn both(veth: &Veth, change: impl Fn(&mut XdpConfig)) -> (XdpPath, XdpPath) {
    let mut server = config(&veth.right, PORT);
    change(&mut server);
    let mut client = config(&veth.left, CLIENT_PORT);
    client.peer = Some((local(&veth.right, PORT), header(&veth.left, &veth.right)));
    change(&mut client);
    (open(&veth.left, client), open(&veth.right, server))
}

fn message(to: SocketAddrV4, kind: Kind, sequence: u64, body: Body) -> Outgoing {
    Outgoing { to, message: Message { kind, sequence }, body, shape: Shape::Plain, point: None }
}

/// Waits until something of the protocol has come in.
fn next(path: &mut XdpPath) -> Vec<Received> {
    let (never, _keep) = std::os::unix::net::UnixStream::pair().unwrap();
    let mut batch = Batch::new();
    let deadline = monotonic_now().plus(Duration::from_secs(5));
    while monotonic_now() < deadline {
        path.receive(&mut batch).unwrap();
        if !batch.is_empty() {
            return batch.datagrams().copied().collect();
        }
        path.wait(Some(deadline), never.as_fd()).unwrap();
    }
    panic!("nothing came within 5 s; counters: {:?}", path.counters());
}

/// No frame is lost, and each is in one place; for a moment the kernel may have some on its way.
#[track_caller]
fn all_frames_are_there(path: &mut XdpPath) {
    let deadline = monotonic_now().plus(Duration::from_secs(5));
    let whole = |frames: &Frames| {
        frames.free + frames.in_flight == frames.sending
            && frames.done + frames.filled + frames.received == frames.receiving
    };
    while !path.frames().iter().all(whole) {
        assert!(monotonic_now() < deadline, "{:?}", path.frames());
    }
    assert_eq!((path.missing_frames(), path.counters().frames_missing), (0, 0));
}

fn only(path: &mut XdpPath) -> Received {
    let received = next(path);
    assert_eq!(received.len(), 1, "{received:?}");
    received[0]
}

#[test]
fn pings_of_every_size_go_there_and_pongs_come_back_in_both_modes() {
    for (mode, attached) in [(XdpMode::Native, AttachedMode::Native), (XdpMode::Generic, AttachedMode::Generic)] {
        let veth = Veth::new();
        let (mut client, mut server) = both(&veth, |config| config.mode = mode);
        assert_eq!(client.mode(), attached);
        assert_eq!(client.description().zero_copy, Some(false));
        let mut sequence = 0;
        // Twice each, so that frames are written, patched, and written anew for another size.
        for size in [44, 44, 45, 45, 1500, 1500, 44, 59, 60, 61, 1499] {
            sequence += 1;
            let padding = size - MIN_IP_LEN;
            let before = (realtime_now(), tai_now());
            let sent =
                client.send(&message(local(&veth.right, PORT), Kind::Ping, sequence, Body::Padding(padding))).unwrap();
            client.flush().unwrap();
            let ping = only(&mut server);
            assert_eq!(ping.message, Message { kind: Kind::Ping, sequence });
            assert_eq!((ping.from, ping.ip_len, ping.queue), (local(&veth.left, CLIENT_PORT), size, Some(0)));
            assert!(before.0 <= sent.application && sent.application < ping.stamps.application);
            let hook = ping.stamps.hook.expect("the program wrote a record");
            assert!(before.1 <= hook && hook <= tai_now());
            assert_eq!(ping.stamps.hardware, None);

            server.send(&message(ping.from, Kind::Pong, sequence, Body::Padding(padding))).unwrap();
            server.flush().unwrap();
            let pong = only(&mut client);
            assert_eq!(pong.message, Message { kind: Kind::Pong, sequence });
            assert_eq!((pong.from, pong.ip_len), (local(&veth.right, PORT), size));
        }
        for path in [&client, &server] {
            let counters = path.counters();
            assert_eq!(counters.not_protocol + counters.reached_kernel + counters.tx_ring_full, 0, "{counters:?}");
            let xdp = counters.xdp.unwrap();
            assert_eq!((xdp.redirected, xdp.malformed), (sequence, 0));
            assert_eq!(xdp.rx_dropped + xdp.rx_ring_full + xdp.rx_invalid + xdp.tx_invalid, 0, "{xdp:?}");
        }
    }
}

/// A ping to the right end's port, as the left end sends it, behind these VLAN tags and with these IPv4 options.
fn frame(veth: &Veth, tags: &[u16], options: &[u8]) -> Vec<u8> {
    let flow = Flow {
        link: header(&veth.left, &veth.right),
        source: local(&veth.left, CLIENT_PORT),
        destination: local(&veth.right, PORT),
    };
    let mut bytes = [0; MAX_FRAME_LEN];
    let len = Template::new(&flow, Kind::Ping).write(&mut bytes, 7, 6);
    let mut frame = bytes[..12].to_vec();
    for tag in tags {
        frame.extend(tag.to_be_bytes());
        frame.extend([0, 5]);
    }
    frame.extend(&bytes[12..len]);
    let ip = 14 + 4 * tags.len();
    frame[ip] += (options.len() / 4) as u8;
    let total = 20 + options.len() + 8 + 16 + 6;
    frame[ip + 2..ip + 4].copy_from_slice(&(total as u16).to_be_bytes());
    frame.splice(ip + 20..ip + 20, options.iter().copied());
    frame
}

/// A frame with some bytes changed, counted from the Ethernet header's start.
fn changed(frame: &[u8], at: usize, bytes: &[u8]) -> Vec<u8> {
    let mut frame = frame.to_vec();
    frame[at..at + bytes.len()].copy_from_slice(bytes);
    frame
}

/// Runs the program on a frame: what it did, how much of it is metadata, and what it counted: redirected, passed,
/// malformed.
#[track_caller]
fn judge(program: &Program, frame: &[u8]) -> (u32, usize, [u64; 3]) {
    let before = program.counters().unwrap();
    let run = program.dry_run(frame).unwrap();
    let after = program.counters().unwrap();
    assert_eq!(after.seen - before.seen, 1);
    let meta = run.bytes.len() - frame.len();
    assert_eq!(run.bytes[meta..], *frame, "the frame was changed");
    let counts =
        [after.redirected - before.redirected, after.passed - before.passed, after.malformed - before.malformed];
    (run.action, meta, counts)
}

const TAKEN: (u32, usize, [u64; 3]) = (XDP_REDIRECT, META_LEN, [1, 0, 0]);
const LEFT: (u32, usize, [u64; 3]) = (XDP_PASS, 0, [0, 1, 0]);
const MALFORMED: (u32, usize, [u64; 3]) = (XDP_PASS, 0, [0, 1, 1]);
const TAG: u16 = 0x8100;
const SERVICE_TAG: u16 = 0x88a8;

#[test]
fn of_some_frames_a_sample_is_stamped_at_the_hook_and_all_arrive() {
    let veth = Veth::new();
    let (mut client, mut server) = both(&veth, |config| config.hook_stamps = HookStamps::Sampled);
    let rounds = 60;
    let hooked = (1..=u64::from(rounds * HookStamps::SAMPLED))
        .filter(|&sequence| {
            let before = tai_now();
            client.send(&message(local(&veth.right, PORT), Kind::Ping, sequence, Body::Padding(0))).unwrap();
            client.flush().unwrap();
            let ping = only(&mut server);
            assert_eq!((ping.message, ping.queue), (Message { kind: Kind::Ping, sequence }, Some(0)));
            // A frame without a record shows none of those before it.
            ping.stamps.hook.inspect(|hook| assert!((before..=tai_now()).contains(hook))).is_some()
        })
        .count();
    // Drawn by chance: as far from what is expected as one in a million of such samples is.
    assert!((rounds as usize / 2..=rounds as usize * 2).contains(&hooked), "{hooked} of {rounds}");
}

#[test]
fn the_program_takes_what_is_for_the_port_and_leaves_everything_else_unchanged() {
    let veth = Veth::new();
    // The veth's own traffic (neighbour discovery, if any) must not count between two looks.
    let path = open(&veth.right, config(&veth.right, PORT));
    let empty = Program::load(local(&veth.right, PORT), MacAddr(veth.right.mac()), 4, None, HookStamps::Each).unwrap();
    let plain = frame(&veth, &[], &[]);
    let (ip, udp) = (14, 34);
    let padded = [&plain[..], &[0xaa; 20]].concat();
    let cases = [
        ("plain", plain.clone(), TAKEN),
        ("with Ethernet padding behind", padded, TAKEN),
        ("one tag", frame(&veth, &[TAG], &[]), TAKEN),
        ("service tag", frame(&veth, &[SERVICE_TAG], &[]), TAKEN),
        ("two tags", frame(&veth, &[SERVICE_TAG, TAG], &[]), TAKEN),
        ("three tags", frame(&veth, &[SERVICE_TAG, TAG, TAG], &[]), LEFT),
        ("IP options of 4 bytes", frame(&veth, &[], &[1; 4]), TAKEN),
        ("IP options of 40 bytes and two tags", frame(&veth, &[TAG, TAG], &[1; 40]), TAKEN),
        ("DF not set", changed(&plain, ip + 6, &[0, 0]), TAKEN),
        ("first fragment", changed(&plain, ip + 6, &[0x20, 0]), LEFT),
        ("later fragment", changed(&plain, ip + 6, &[0x20, 5]), LEFT),
        ("last fragment", changed(&plain, ip + 6, &[0, 5]), LEFT),
        ("broadcast", changed(&plain, 0, &[0xff; 6]), LEFT),
        ("multicast", changed(&plain, 0, &[1, 0, 0x5e, 0x4d, 0, 2]), LEFT),
        ("another host's frame", changed(&plain, 0, &veth.left.mac()), LEFT),
        ("a MAC with another first byte", changed(&plain, 0, &[plain[0] ^ 2]), LEFT),
        ("a MAC with another last byte", changed(&plain, 5, &[plain[5] ^ 1]), LEFT),
        ("broadcast with a tag", changed(&frame(&veth, &[TAG], &[]), 0, &[0xff; 6]), LEFT),
        ("another port", changed(&plain, udp + 2, &[0x29, 0xab]), LEFT),
        ("another address", changed(&plain, ip + 16, &[10, 77, 0, 9]), LEFT),
        ("TCP", changed(&plain, ip + 9, &[6]), LEFT),
        ("ICMP", changed(&plain, ip + 9, &[1]), LEFT),
        ("ARP", changed(&plain, 12, &[8, 6]), LEFT),
        ("IPv6", changed(&plain, 12, &[0x86, 0xdd]), LEFT),
        ("IP version 5", changed(&plain, ip, &[0x55]), MALFORMED),
        ("IP header of 16 bytes", changed(&plain, ip, &[0x44]), MALFORMED),
        ("IP header of 60 bytes in a packet of 50", changed(&plain, ip, &[0x4f]), MALFORMED),
        ("total length beyond the frame", changed(&plain, ip + 2, &[0, 51]), MALFORMED),
        ("total length below the IP header", changed(&plain, ip + 2, &[0, 19]), MALFORMED),
        ("total length without UDP header", changed(&plain, ip + 2, &[0, 27]), MALFORMED),
        ("total length 0", changed(&plain, ip + 2, &[0, 0]), MALFORMED),
        ("UDP length below 8", changed(&plain, udp + 4, &[0, 7]), MALFORMED),
        ("UDP length beyond the packet", changed(&plain, udp + 4, &[0, 31]), MALFORMED),
        ("UDP length less than the packet", changed(&plain, udp + 4, &[0, 24]), TAKEN),
        ("an empty datagram", changed(&plain, udp + 4, &[0, 8]), TAKEN),
    ];
    for (name, frame, expected) in cases {
        assert_eq!(judge(path.program(), &frame), expected, "{name}");
        let without_socket = if expected == TAKEN { LEFT } else { expected };
        assert_eq!(judge(&empty, &frame), without_socket, "{name}, without a socket");
    }
}

#[test]
fn a_frame_cut_anywhere_is_malformed_and_passed() {
    let veth = Veth::new();
    let path = open(&veth.right, config(&veth.right, PORT));
    for whole in [frame(&veth, &[], &[]), frame(&veth, &[TAG], &[]), frame(&veth, &[SERVICE_TAG, TAG], &[1; 40])] {
        assert_eq!(judge(path.program(), &whole), TAKEN);
        for len in 14..whole.len() {
            assert_eq!(judge(path.program(), &whole[..len]), MALFORMED, "{len} of {} bytes", whole.len());
        }
    }
}

#[test]
fn the_record_says_when_and_where_the_frame_was_seen() {
    let veth = Veth::new();
    let path = open(&veth.right, config(&veth.right, PORT));
    let before = tai_now().as_nanos();
    let run = path.program().dry_run(&frame(&veth, &[], &[])).unwrap();
    let u64_at = |at: usize| u64::from_ne_bytes(run.bytes[at..at + 8].try_into().unwrap());
    assert_eq!(u64_at(0), 0);
    assert!((before..=tai_now().as_nanos()).contains(&u64_at(8)));
    assert_eq!(run.bytes[16..20], [0; 4]);
    assert_eq!(run.bytes[20..24], 0x7864_7001_u32.to_ne_bytes());
}

#[test]
fn each_of_four_queues_carries_its_own_pings_and_answers() {
    for mode in [XdpMode::Native, XdpMode::Generic] {
        let veth = Veth::with_queues(4);
        let server = XdpConfig { mode, queues: vec![0, 1, 2, 3], ..config(&veth.right, PORT) };
        let mut server = open(&veth.right, server);
        for first in 0..4 {
            let mut client = config(&veth.left, CLIENT_PORT);
            client.mode = mode;
            client.peer = Some((local(&veth.right, PORT), header(&veth.left, &veth.right)));
            client.queues = (0..4).map(|queue| (first + queue) % 4).collect();
            let mut client = open(&veth.left, client);
            for sequence in 1..=3 {
                let ping = message(local(&veth.right, PORT), Kind::Ping, sequence, Body::Padding(100));
                client.send(&ping).unwrap();
                client.flush().unwrap();
                let ping = only(&mut server);
                // In generic mode a veth pair's receive queue is not that of the sender: any is right.
                assert!(mode == XdpMode::Generic || ping.queue == Some(first), "{ping:?}");
                server.send(&message(ping.from, Kind::Pong, sequence, Body::Padding(9))).unwrap();
                server.flush().unwrap();
                let pong = only(&mut client);
                assert_eq!(pong.message, Message { kind: Kind::Pong, sequence });
                assert!(mode == XdpMode::Generic || pong.queue == Some(first), "{pong:?}");
            }
        }
        assert_eq!(server.counters().reached_kernel, 0);
    }
}

#[test]
fn a_kernel_socket_accepts_what_we_send_and_we_accept_what_it_sends() {
    let veth = Veth::new();
    let server = local(&veth.right, PORT);
    let socket = veth.right.run(|| UdpSocket::bind(server).unwrap());
    socket.set_read_timeout(Some(Duration::from_secs(5))).unwrap();
    let client = XdpConfig { peer: Some((server, header(&veth.left, &veth.right))), ..config(&veth.left, CLIENT_PORT) };
    let mut client = open(&veth.left, client);
    let mut bytes = [0; 2048];
    for (sequence, padding) in (1..).zip([0, 0, 1, 1, 456, 1456, 1456]) {
        client.send(&message(server, Kind::Ping, sequence, Body::Padding(padding))).unwrap();
        client.flush().unwrap();
        let (len, from) = socket.recv_from(&mut bytes).unwrap();
        assert_eq!((len, from), (16 + usize::from(padding), local(&veth.left, CLIENT_PORT).into()));
        assert_eq!(Message::parse(&bytes[..len]).unwrap().message, Message { kind: Kind::Ping, sequence });
        assert!(bytes[16..len].iter().all(|byte| *byte == 0));

        // Leaves with a partial checksum, as the veth takes that work on (and never does it).
        bytes[..16].copy_from_slice(&Message { kind: Kind::Pong, sequence }.to_bytes());
        socket.send_to(&bytes[..len], from).unwrap();
        let pong = only(&mut client);
        assert_eq!(pong.message, Message { kind: Kind::Pong, sequence });
        assert_eq!((pong.from, pong.ip_len), (server, 44 + padding));
    }

    let settings = RawSettings { count_s: 3, delay_us: 1000, ping_padding: 5, ..RawSettings::default() };
    client.send(&message(server, Kind::Syn, 0, Body::Settings(settings, None))).unwrap();
    (0..2).for_each(|_| client.send_dummy(server).unwrap());
    client.flush().unwrap();
    let (len, _) = socket.recv_from(&mut bytes).unwrap();
    let syn = Message { kind: Kind::Syn, sequence: 0 };
    let parsed = Parsed { message: syn, said: Some(Said::Settings(settings, None)) };
    assert_eq!(Message::parse(&bytes[..len]), Ok(parsed));
    for _ in 0..2 {
        let (len, from) = socket.recv_from(&mut bytes).unwrap();
        let dummy = Message { kind: Kind::Dummy, sequence: DUMMY_SEQUENCE };
        assert_eq!((Message::parse(&bytes[..len]).unwrap().message, from.port(), len), (dummy, DUMMY_PORT, 16));
    }

    // A frame that held a ping is used for the others, and the other way round.
    client.send(&message(server, Kind::Fin, 8, Body::Empty)).unwrap();
    client.flush().unwrap();
    let (len, _) = socket.recv_from(&mut bytes).unwrap();
    assert_eq!(bytes[..len], Message { kind: Kind::Fin, sequence: 8 }.to_bytes());

    for junk in [&b"short"[..], &[0; 16], &[0xff; 40]] {
        socket.send_to(junk, local(&veth.left, CLIENT_PORT)).unwrap();
    }
    socket.send_to(&Message { kind: Kind::FinAck, sequence: 8 }.to_bytes(), local(&veth.left, CLIENT_PORT)).unwrap();
    assert_eq!(only(&mut client).message.kind, Kind::FinAck);
    assert_eq!(client.counters().not_protocol, 3);
}

#[test]
fn a_datagram_with_a_wrong_checksum_is_counted_and_dropped() {
    let veth = Veth::new();
    let mut server = open(&veth.right, config(&veth.right, PORT));
    let whole = frame(&veth, &[], &[]);
    // Sends whole IPv4 packets: IPPROTO_RAW. The kernel looks at nothing behind the IPv4 header.
    let sender = veth.left.run(|| Socket::new(Domain::IPV4, Type::RAW, Some(Protocol::from(255))).unwrap());
    let send = |frame: &[u8]| sender.send_to(&frame[14..], &local(&veth.right, PORT).into()).unwrap();
    // A bit of the sequence, of the padding, of the checksum, and of the sender's port.
    for at in [42, 60, 40, 35] {
        send(&changed(&whole, at, &[whole[at] ^ 4]));
    }
    send(&changed(&whole, 40, &[0, 0]));
    send(&whole);
    let mut received = Vec::new();
    while received.len() < 2 {
        received.extend(next(&mut server).iter().map(|ping| (ping.from, ping.message.sequence)));
    }
    assert_eq!(received, [(local(&veth.left, CLIENT_PORT), 7); 2]);
    assert_eq!(server.counters().not_protocol, 4);
    // A look that brings nothing else is told from one that finds nothing.
    let mut batch = Batch::new();
    server.receive(&mut batch).unwrap();
    assert!(!batch.has_read());
    send(&changed(&whole, 42, &[whole[42] ^ 4]));
    let deadline = monotonic_now().plus(Duration::from_secs(10));
    while !batch.has_read() {
        assert!(monotonic_now() < deadline);
        server.receive(&mut batch).unwrap();
    }
    assert_eq!((batch.len(), server.counters().not_protocol), (0, 5));
}

#[test]
fn what_comes_from_no_other_hosts_address_is_counted_and_dropped() {
    let veth = Veth::new();
    veth.right.ip(&["address", "add", "198.51.100.1/28", "dev", "lo"]);
    let martians = veth.right.run(|| net::martian_sources(&net::interface(veth.right.interface).unwrap()).unwrap());
    let mut server = open(&veth.right, XdpConfig { martians, ..config(&veth.right, PORT) });
    // Whole IPv4 packets, as above, with any source but 0.0.0.0, which the kernel would fill in.
    let sender = veth.left.run(|| Socket::new(Domain::IPV4, Type::RAW, Some(Protocol::from(255))).unwrap());
    let send = |source: SocketAddrV4, kind| {
        let flow = Flow { link: header(&veth.left, &veth.right), source, destination: local(&veth.right, PORT) };
        let mut frame = [0; MAX_FRAME_LEN];
        let len = Template::new(&flow, kind).write(&mut frame, 7, 0);
        sender.send_to(&frame[14..len], &local(&veth.right, PORT).into()).unwrap();
    };
    let own = veth.right.address;
    let anywhere = ["0.1.2.3", "127.0.0.1", "224.0.0.1", "255.255.255.255"];
    // The server's other address, and its networks' last ones.
    let there = ["198.51.100.1", "198.51.100.15", "10.77.0.255"];
    let nobodies = anywhere.iter().chain(&there).map(|text| text.parse().unwrap());
    let nobodies = nobodies.into_iter().chain([own]).map(|address| SocketAddrV4::new(address, CLIENT_PORT));
    let nobodies: Vec<_> = nobodies.collect();
    for &nobody in &nobodies {
        send(nobody, Kind::Ping);
        send(nobody, Kind::Fin);
    }
    send(local(&veth.left, CLIENT_PORT), Kind::Ping);
    assert_eq!(only(&mut server).from, local(&veth.left, CLIENT_PORT));
    assert_eq!(server.counters().not_protocol, 2 * nobodies.len() as u64);
    for nobody in nobodies {
        let refused = server.send(&message(nobody, Kind::Pong, 7, Body::Empty)).unwrap_err().to_string();
        assert_eq!(refused, format!("cannot send to {nobody}: nothing ever came from it"));
    }
    all_frames_are_there(&mut server);
}

#[test]
fn what_lay_in_a_ring_as_the_link_went_down_counts_as_dropped_and_does_not_leave_once_it_is_up_again() {
    let veth = Veth::new();
    let (mut client, mut server) = both(&veth, |_| ());
    let ping = |sequence| message(local(&veth.right, PORT), Kind::Ping, sequence, Body::Empty);
    client.send(&ping(1)).unwrap();
    client.flush().unwrap();
    assert_eq!(only(&mut server).message.sequence, 1);
    let mut name = veth.left.interface;
    for (uncounted, dropped, new_name) in [(0, 5, name), (1, 9, "renamed")] {
        veth.left.ip(&["link", "set", name, "down"]);
        for sequence in 2..7 {
            client.send(&ping(sequence)).unwrap();
        }
        let error = client.flush().unwrap_err();
        assert_eq!(error.kind(), ErrorKind::NetworkDown);
        if name != new_name {
            veth.left.ip(&["link", "set", name, "name", new_name]);
            name = new_name;
        }
        client.count_unsent(uncounted);
        assert_eq!(client.counters().tx_dropped, dropped);
        veth.left.run(|| client.forget_unsent()).unwrap();
        assert_eq!((client.flush().unwrap(), client.counters().tx_dropped), (false, dropped));
        veth.left.ip(&["link", "set", name, "up"]);
        veth.left.wait_for_carrier(name);
        veth.right.wait_for_carrier(veth.right.interface);
        client.send(&ping(7)).unwrap();
        client.flush().unwrap();
        assert_eq!(only(&mut server).message.sequence, 7);
        server.send(&message(local(&veth.left, CLIENT_PORT), Kind::Pong, 7, Body::Empty)).unwrap();
        server.flush().unwrap();
        assert_eq!(only(&mut client).message.sequence, 7);
    }
    all_frames_are_there(&mut client);
}

#[test]
fn tags_of_a_ping_come_back_with_its_answer() {
    let veth = Veth::new();
    for tags in [&[TAG][..], &[SERVICE_TAG, TAG]] {
        let (link, _) = LinkHeader::parse(&frame(&veth, tags, &[])).map(|(link, rest)| (link, rest.len())).unwrap();
        let (mut client, mut server) = both(&veth, |config| {
            config.peer = config.peer.map(|(peer, _)| (peer, link));
        });
        // A device takes one tag beyond its MTU, not two (is_skb_forwardable, net/core/dev.c).
        let size = if tags.len() == 1 { 1500 } else { 1496 };
        let padding = Body::Padding(size - MIN_IP_LEN);
        client.send(&message(local(&veth.right, PORT), Kind::Ping, 1, padding)).unwrap();
        client.flush().unwrap();
        let ping = only(&mut server);
        assert_eq!((ping.from, ping.ip_len), (local(&veth.left, CLIENT_PORT), size));
        server.send(&message(ping.from, Kind::Pong, 1, Body::Empty)).unwrap();
        server.flush().unwrap();
        assert_eq!(only(&mut client).message.kind, Kind::Pong);
    }
}

#[test]
fn a_burst_larger_than_all_rings_is_sent_whole() {
    let veth = Veth::new();
    let (mut client, mut server) = both(&veth, |_| {});
    let to = local(&veth.right, PORT);
    let mut batch = Batch::new();
    let mut expected = 1;
    // 8 × 1000 frames in bursts that take several calls each in copy mode, read before the receiver's frames run out.
    for burst in 0..8 {
        for sequence in burst * 1000 + 1..=(burst + 1) * 1000 {
            client.send(&message(to, Kind::Ping, sequence, Body::Padding((sequence % 50) as u16))).unwrap();
        }
        client.flush().unwrap();
        while expected <= (burst + 1) * 1000 {
            for ping in next(&mut server) {
                assert_eq!(ping.message.sequence, expected);
                expected += 1;
            }
        }
    }
    // Without a flush in between: the frames run out, and sending waits for them.
    for sequence in 1..=3000 {
        client.send(&message(to, Kind::Ping, sequence, Body::Empty)).unwrap();
        if sequence % 1000 == 0 {
            server.receive(&mut batch).unwrap();
        }
    }
    client.flush().unwrap();
    assert!(client.counters().tx_ring_full > 0);
    assert_eq!(client.counters().xdp.unwrap().tx_invalid, 0);
    // The frames left in the receive ring are read until the kernel has none of them on its way.
    let deadline = monotonic_now().plus(Duration::from_secs(5));
    while client.frames()[0].in_flight != 0 && monotonic_now() < deadline {
        client.flush().unwrap();
    }
    while server.frames()[0].received + server.frames()[0].done != 0 && monotonic_now() < deadline {
        server.receive(&mut batch).unwrap();
        server.flush().unwrap();
    }
    all_frames_are_there(&mut client);
    all_frames_are_there(&mut server);
    assert_eq!((client.frames()[0].in_flight, server.frames()[0].done), (0, 0));
}

#[test]
fn a_flood_has_its_size_and_takes_what_room_there_is() {
    let veth = Veth::new();
    let (mut client, mut server) = both(&veth, |_| {});
    let to = local(&veth.right, PORT);
    for ip_len in [MIN_IP_LEN, 1400, 1500] {
        assert_eq!(client.send_load(to, 32, ip_len).unwrap(), 32);
        client.send(&message(to, Kind::Ping, 7, Body::Padding(16))).unwrap();
        client.flush().unwrap();
        let mut came = Vec::new();
        while came.len() < 33 {
            came.extend(next(&mut server));
        }
        let dummy = Message { kind: Kind::Dummy, sequence: DUMMY_SEQUENCE };
        for datagram in &came[..32] {
            assert_eq!((datagram.message, datagram.ip_len), (dummy, ip_len));
            assert_eq!(datagram.from, local(&veth.left, DUMMY_PORT));
        }
        let ping = Message { kind: Kind::Ping, sequence: 7 };
        assert_eq!((came[32].message, came[32].ip_len, came.len()), (ping, MIN_IP_LEN + 16, 33));
    }
    // Nobody tells the kernel to send: once all frames are in the ring, the rest is refused, without waiting.
    let sending = client.frames()[0].sending;
    assert_eq!(client.send_load(to, sending + 9, 1500).unwrap(), sending);
    assert_eq!(client.send_load(to, 1, 1500).unwrap(), 0);
    assert_eq!(client.counters().tx_ring_full, 2);
    client.flush().unwrap();
    all_frames_are_there(&mut client);
    let error = client.send_load(to, 1, 1501).unwrap_err().to_string();
    assert!(error.contains("1501 bytes") && error.contains("MTU is 1500"), "{error}");
    let error = client.send_load(local(&veth.left, 9), 1, 1500).unwrap_err().to_string();
    assert!(error.contains("nothing ever came from it"), "{error}");
}

#[test]
fn frames_are_not_lost_while_the_kernel_fills_the_rings_on_another_cpu() {
    const PINGS: u64 = 100_000;
    let veth = Veth::new();
    let (mut client, mut server) = both(&veth, |_| {});
    let to = local(&veth.right, PORT);
    // How many were read: the client stays a few behind, so that the fill ring is almost always full.
    let read = AtomicU64::new(0);
    // Only a standstill ends it: on a busy machine each turn of the two threads may wait for others.
    let standstill = Duration::from_secs(30);
    let failed = AtomicBool::new(false);
    std::thread::scope(|scope| {
        scope.spawn(|| {
            for sequence in 1..=PINGS {
                client.send(&message(to, Kind::Ping, sequence, Body::Empty)).unwrap();
                client.flush().unwrap();
                while sequence - read.load(Relaxed) > 8 && !failed.load(Relaxed) {
                    std::thread::yield_now();
                }
            }
        });
        let mut batch = Batch::new();
        let mut deadline = monotonic_now().plus(standstill);
        while read.load(Relaxed) < PINGS && monotonic_now() < deadline {
            server.receive(&mut batch).unwrap();
            server.flush().unwrap();
            if !batch.is_empty() {
                read.fetch_add(batch.len() as u64, Relaxed);
                deadline = monotonic_now().plus(standstill);
            }
        }
        failed.store(true, Relaxed);
    });
    assert_eq!(read.load(Relaxed), PINGS, "{:?}", server.counters());
    all_frames_are_there(&mut client);
    all_frames_are_there(&mut server);
    // A few are kept until there are some more, or nothing comes.
    let mut batch = Batch::new();
    (0..64).for_each(|_| server.receive(&mut batch).unwrap());
    assert_eq!((server.frames()[0].done, server.frames()[0].filled), (0, server.frames()[0].receiving));
}

#[test]
fn what_the_program_leaves_to_the_kernel_is_counted_at_the_reserved_socket() {
    let veth = Veth::with_queues(2);
    // Only queue 1 has a socket here, and the client sends on queue 0.
    let server = open(&veth.right, XdpConfig { queues: vec![1], ..config(&veth.right, PORT) });
    let mut client = open(
        &veth.left,
        XdpConfig {
            peer: Some((local(&veth.right, PORT), header(&veth.left, &veth.right))),
            ..config(&veth.left, CLIENT_PORT)
        },
    );
    // More than the socket's buffer holds.
    for sequence in 1..=200 {
        client.send(&message(local(&veth.right, PORT), Kind::Ping, sequence, Body::Padding(1000))).unwrap();
    }
    client.flush().unwrap();
    let deadline = monotonic_now().plus(Duration::from_secs(5));
    while server.counters().reached_kernel < 200 && monotonic_now() < deadline {}
    let counters = server.counters();
    assert_eq!(counters.reached_kernel, 200, "{counters:?}");
    assert_eq!(counters.xdp.unwrap().redirected, 0);
}

#[test]
fn frames_that_are_not_to_the_interface_itself_are_the_kernels() {
    for mode in [XdpMode::Native, XdpMode::Generic] {
        let veth = Veth::new();
        let mut server = open(&veth.right, XdpConfig { mode, ..config(&veth.right, PORT) });
        let to = local(&veth.right, PORT);
        let own = veth.right.mac();
        let foreign = [own[0], own[1], own[2], own[3], own[4], own[5] ^ 1];
        // The kernel drops what is to another host and takes a broadcast with its own IP address.
        for (sequence, mac) in (1..).zip([[0xff; 6], foreign, own]) {
            let link = LinkHeader::new(MacAddr(mac), MacAddr(veth.left.mac()));
            let client = XdpConfig { mode, peer: Some((to, link)), ..config(&veth.left, CLIENT_PORT) };
            let mut client = open(&veth.left, client);
            client.send(&message(to, Kind::Ping, sequence, Body::Empty)).unwrap();
            client.flush().unwrap();
            // Closing the socket must not overtake the frame.
            let deadline = monotonic_now().plus(Duration::from_secs(5));
            while client.frames()[0].in_flight != 0 && monotonic_now() < deadline {
                client.flush().unwrap();
            }
        }
        assert_eq!(only(&mut server).message.sequence, 3);
        let counters = server.counters();
        let xdp = counters.xdp.unwrap();
        assert_eq!((xdp.redirected, xdp.malformed, counters.reached_kernel), (1, 0, 1), "{mode:?} {counters:?}");
        assert!(xdp.passed >= 2, "{counters:?}");
    }
}

#[test]
fn a_tcp_stream_beside_the_pings_loses_nothing() {
    const BYTES: usize = 32 << 20;
    let veth = Veth::new();
    let (mut client, mut server) = both(&veth, |_| {});
    let address = SocketAddrV4::new(veth.right.address, 22);
    let listener = veth.right.run(|| TcpListener::bind(address).unwrap());
    std::thread::scope(|scope| {
        scope.spawn(|| {
            veth.left.enter();
            let mut stream = TcpStream::connect(address).unwrap();
            for chunk in 0..BYTES / 4096 {
                stream.write_all(&[chunk as u8; 4096]).unwrap();
            }
        });
        let reader = scope.spawn(|| {
            let mut stream = listener.accept().unwrap().0;
            let mut chunk = [0; 4096];
            for turn in 0..BYTES / 4096 {
                stream.read_exact(&mut chunk).unwrap();
                assert!(chunk.iter().all(|byte| *byte == turn as u8));
            }
            stream.read(&mut chunk).unwrap()
        });
        let mut sequence = 0;
        while !reader.is_finished() {
            sequence += 1;
            client.send(&message(local(&veth.right, PORT), Kind::Ping, sequence, Body::Empty)).unwrap();
            client.flush().unwrap();
            assert_eq!(only(&mut server).message.sequence, sequence);
        }
        assert_eq!(reader.join().unwrap(), 0);
    });
    all_frames_are_there(&mut client);
    all_frames_are_there(&mut server);
    let xdp = server.counters().xdp.unwrap();
    assert!(xdp.passed > 0 && xdp.malformed == 0, "{xdp:?}");
}

#[test]
fn sending_to_a_stranger_and_beyond_the_mtu_fail_with_the_reason() {
    let veth = Veth::new();
    let mut server = open(&veth.right, config(&veth.right, PORT));
    let stranger = SocketAddrV4::new(Ipv4Addr::new(10, 77, 0, 9), 9);
    let error = server.send(&message(stranger, Kind::Pong, 1, Body::Empty)).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::HostUnreachable);
    assert_eq!(error.to_string(), "cannot send to 10.77.0.9:9: nothing ever came from it");
    let error = server.send(&message(stranger, Kind::Pong, 1, Body::Padding(1457))).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::InvalidInput);
    assert!(error.to_string().contains("1501 bytes: the MTU is 1500 bytes"), "{error}");
}

#[test]
fn waiting_ends_with_the_deadline_or_the_interrupt() {
    let veth = Veth::new();
    let mut path = open(&veth.right, config(&veth.right, PORT));
    let (interrupt, mut other) = std::os::unix::net::UnixStream::pair().unwrap();
    let deadline = monotonic_now().plus(Duration::from_millis(5));
    path.wait(Some(deadline), interrupt.as_fd()).unwrap();
    assert!(monotonic_now() >= deadline);
    other.write_all(b"!").unwrap();
    // Without limit: it would never end without the interrupt.
    path.wait(None, interrupt.as_fd()).unwrap();
}

#[test]
fn a_program_that_is_there_already_is_named() {
    let veth = Veth::new();
    for mode in [XdpMode::Native, XdpMode::Generic] {
        let first = open(&veth.right, XdpConfig { mode, ..config(&veth.right, PORT) });
        let shown = veth.right.ip(&["-d", "link", "show", veth.right.interface]);
        let id = shown.split_whitespace().skip_while(|word| !word.starts_with("prog/xdp")).nth(2).unwrap();
        let error = format!("{:#}", try_open(&veth.right, config(&veth.right, PORT + 1)).unwrap_err());
        assert!(error.contains(&format!("it already has program {id} (\"xdprobe_steer\")")), "{error}");
        assert!(error.contains("another xdprobe is measuring there"), "{error}");
        drop(first);
    }
}

#[test]
fn a_queue_that_is_taken_and_one_that_is_not_there_are_named() {
    let veth = Veth::new();
    let taken = veth.right.run(|| {
        use xsk_rs::config::{Interface, LibxdpFlags, SocketConfig, UmemConfig};
        let config = SocketConfig::builder().libxdp_flags(LibxdpFlags::XSK_LIBXDP_FLAGS_INHIBIT_PROG_LOAD).build();
        let (umem, _) = xsk_rs::Umem::new(UmemConfig::default(), 64.try_into().unwrap(), false).unwrap();
        let name: Interface = veth.right.interface.parse().unwrap();
        // SAFETY: the UMEM is used for this socket only.
        unsafe { xsk_rs::Socket::new(config, &umem, &name, 0) }.unwrap()
    });
    let error = format!("{:#}", try_open(&veth.right, config(&veth.right, PORT)).unwrap_err());
    assert!(error.contains("queue 0 of veth-r is taken by another AF_XDP socket"), "{error}");
    settle();
    assert!(!veth.right.ip(&["link", "show", veth.right.interface]).contains("xdp"));
    drop(taken);
    let there_is_none = XdpConfig { queues: vec![5], ..config(&veth.right, PORT) };
    let error = format!("{:#}", try_open(&veth.right, there_is_none).unwrap_err());
    assert!(error.contains("queue 5 of veth-r") && error.contains("is there such a queue?"), "{error}");
    drop(open(&veth.right, config(&veth.right, PORT)));
}

#[test]
fn zero_copy_that_is_not_to_be_had_is_refused_when_it_is_asked_for() {
    let veth = Veth::new();
    for mode in [XdpMode::Native, XdpMode::Generic] {
        let wanted = XdpConfig { mode, zero_copy: ZeroCopy::On, ..config(&veth.right, PORT) };
        let error = format!("{:#}", try_open(&veth.right, wanted).unwrap_err());
        assert!(error.contains("zero-copy") && error.contains("use --zero-copy off"), "{error}");
    }
}

#[test]
fn nothing_is_left_when_the_path_is_dropped() {
    let veth = Veth::with_queues(2);
    for _ in 0..3 {
        let features = veth.left.ip(&["-d", "link", "show", veth.left.interface]);
        let path = open(&veth.right, XdpConfig { queues: vec![0, 1], ..config(&veth.right, PORT) });
        let shown = veth.right.ip(&["link", "show", veth.right.interface]);
        assert!(shown.contains("prog/xdp"), "{shown}");
        drop(path);
        settle();
        let shown = veth.right.ip(&["link", "show", veth.right.interface]);
        assert!(!shown.contains("xdp"), "{shown}");
        assert_eq!(veth.left.ip(&["-d", "link", "show", veth.left.interface]), features);
        // The port is free again.
        veth.right.run(|| drop(UdpSocket::bind(local(&veth.right, PORT)).unwrap()));
    }
}

#[test]
fn busy_polling_is_set_on_the_sockets_and_pings_go_through() {
    let veth = Veth::new();
    let (mut client, mut server) = both(&veth, |config| config.busypoll_us = Some(20));
    client.send(&message(local(&veth.right, PORT), Kind::Ping, 1, Body::Empty)).unwrap();
    client.flush().unwrap();
    assert_eq!(only(&mut server).message.sequence, 1);
}

#[test]
fn a_client_that_is_served_through_the_kernel_is_left_to_it_and_nobody_else() {
    let veth = Veth::new();
    let mut server = open(&veth.right, config(&veth.right, PORT));
    let frame_of = |port: u16| changed(&frame(&veth, &[], &[]), 34, &port.to_be_bytes());
    let client = local(&veth.left, CLIENT_PORT);
    let wanted = Extension { serve_on: Some(ServePath::Kernel), ..Extension::default() };
    assert_eq!(server.program().left_to_kernel().unwrap(), None);
    assert_eq!(judge(server.program(), &frame_of(CLIENT_PORT)), TAKEN);
    for _ in 0..2 {
        assert_eq!(veth.right.run(|| server.prepare(client, wanted)).unwrap(), wanted);
        assert_eq!(server.program().left_to_kernel().unwrap(), Some(client));
        assert_eq!((server.description().path, server.description().xdp_mode), ("kernel", None));
        assert_eq!(server.description().local, local(&veth.right, PORT));
        assert_eq!(judge(server.program(), &frame_of(CLIENT_PORT)), LEFT);
        assert_eq!(judge(server.program(), &frame_of(CLIENT_PORT + 1)), TAKEN);
        let other = changed(&frame_of(CLIENT_PORT), 14 + 12, &[10, 77, 0, 9]);
        assert_eq!(judge(server.program(), &other), TAKEN);
        let tagged = changed(&frame(&veth, &[TAG], &[1; 8]), 14 + 4 + 28, &CLIENT_PORT.to_be_bytes());
        assert_eq!(judge(server.program(), &tagged), LEFT);

        // What the client's own socket sends comes through the kernel, and is answered there; a stranger's through the ring.
        let sockets = [CLIENT_PORT, CLIENT_PORT + 1].map(|port| {
            let socket = veth.left.run(|| UdpSocket::bind((veth.left.address, port)).unwrap());
            socket.set_read_timeout(Some(Duration::from_secs(5))).unwrap();
            socket
        });
        for (socket, queue, port) in [(&sockets[0], None, CLIENT_PORT), (&sockets[1], Some(0), CLIENT_PORT + 1)] {
            let ping = Message { kind: Kind::Ping, sequence: 3 };
            socket.send_to(&ping.to_bytes(), local(&veth.right, PORT)).unwrap();
            let received = only(&mut server);
            assert_eq!((received.message, received.queue), (ping, queue));
            assert_eq!((received.from, received.ip_len), (local(&veth.left, port), 44));
            let sent = server.send(&message(received.from, Kind::Pong, 3, Body::Padding(7))).unwrap();
            assert_eq!(sent.queue, queue);
            server.flush().unwrap();
            let mut bytes = [0; 100];
            let (len, from) = socket.recv_from(&mut bytes).unwrap();
            assert_eq!((len, from), (23, local(&veth.right, PORT).into()));
            assert_eq!(Message::parse(&bytes[..len]).unwrap().message, Message { kind: Kind::Pong, sequence: 3 });
        }
        // It sends once more as the session ends: nobody misses that.
        sockets[0].send_to(&[0; 16], local(&veth.right, PORT)).unwrap();
        server.release();
        assert_eq!(server.program().left_to_kernel().unwrap(), None);
        assert_eq!(server.description().path, "xdp");
        assert_eq!(judge(server.program(), &frame_of(CLIENT_PORT)), TAKEN);
    }
    let counters = server.counters();
    assert_eq!((counters.reached_kernel, counters.socket_dropped, counters.not_protocol), (0, 0, 0), "{counters:?}");
    // What strays into the socket is counted as ever, before, in between and after.
    let socket = veth.left.run(|| UdpSocket::bind((veth.left.address, 0)).unwrap());
    socket.send_to(&[0; 3000], local(&veth.right, PORT)).unwrap();
    assert_eq!(server.counters().reached_kernel, 1);
    veth.right.run(|| server.prepare(client, wanted)).unwrap();
    socket.send_to(&[0; 3000], local(&veth.right, PORT)).unwrap();
    let mut batch = Batch::new();
    server.receive(&mut batch).unwrap();
    assert_eq!(batch.len(), 0);
    server.release();
    socket.send_to(&[0; 3000], local(&veth.right, PORT)).unwrap();
    // That in the middle is of no kind, so the protocol's counter has it.
    let counters = server.counters();
    assert_eq!((counters.reached_kernel, counters.not_protocol), (2, 1), "{counters:?}");
}

#[test]
fn a_probe_behind_a_ptp_header_is_left_to_the_kernel_by_the_sender_that_the_header_names() {
    let veth = Veth::new();
    let mut server = open(&veth.right, config(&veth.right, PORT));
    let client = local(&veth.left, CLIENT_PORT);
    let wanted = Extension { serve_on: Some(ServePath::Kernel), ptp: Some(Transport::L2), ..Extension::default() };
    let probe = |sender: SocketAddrV4| {
        let link = [&veth.right.mac()[..], &veth.left.mac(), &[0x88, 0xf7]].concat();
        let head = xdprobe::wire::ptp::head(sender, false, Message { kind: Kind::Ping, sequence: 1 });
        [&link[..], &head, &[0; 30]].concat()
    };
    let other = SocketAddrV4::new(*client.ip(), client.port() + 1);
    assert_eq!([client, other].map(|sender| judge(server.program(), &probe(sender))), [TAKEN, TAKEN]);
    assert_eq!(veth.right.run(|| server.prepare(client, wanted)).unwrap(), wanted);
    assert_eq!([client, other].map(|sender| judge(server.program(), &probe(sender))), [LEFT, TAKEN]);
    server.release();
    assert_eq!(judge(server.program(), &probe(client)), TAKEN);
}

#[test]
fn what_a_client_says_as_its_session_ends_is_handed_over_also_where_a_fin_would_wait_for_ptp() {
    let veth = Veth::new();
    let mut server = open(&veth.right, config(&veth.right, PORT));
    let socket = veth.left.run(|| UdpSocket::bind((veth.left.address, CLIENT_PORT)).unwrap());
    // Out of the ring, as the SYN of its session: so the way to it is known.
    let ping = Message { kind: Kind::Ping, sequence: 1 };
    socket.send_to(&ping.to_bytes(), local(&veth.right, PORT)).unwrap();
    assert_eq!(only(&mut server).message, ping);
    let wanted = Extension { serve_on: Some(ServePath::Kernel), ptp: Some(Transport::L2), ..Extension::default() };
    assert_eq!(veth.right.run(|| server.prepare(local(&veth.left, CLIENT_PORT), wanted)).unwrap(), wanted);
    // Its FIN again, as the answer was lost, and what it wants next.
    let said = [(Kind::Fin, 7), (Kind::Fin, 7), (Kind::Syn, 8)].map(|(kind, sequence)| Message { kind, sequence });
    for message in said {
        socket.send_to(&message.to_bytes(), local(&veth.right, PORT)).unwrap();
    }
    server.release();
    let mut batch = Batch::new();
    server.receive(&mut batch).unwrap();
    assert_eq!(Vec::from_iter(batch.datagrams().map(|received| received.message)), said);
    let counters = server.counters();
    assert_eq!((counters.reached_kernel, counters.socket_dropped), (0, 0), "{counters:?}");
}

#[test]
fn a_fin_out_of_a_ring_is_handed_over_after_the_pings_behind_ptp_headers_that_were_sent_before_it() {
    let veth = Veth::new();
    let (mut client, mut server) = both(&veth, |_| {});
    let (to, from) = (local(&veth.right, PORT), local(&veth.left, CLIENT_PORT));
    let wanted = Extension { ptp: Some(Transport::L2), ..Extension::default() };
    assert_eq!(veth.left.run(|| client.prepare(to, wanted)).unwrap(), wanted);
    assert_eq!(veth.right.run(|| server.prepare(from, wanted)).unwrap(), wanted);
    let pings = 200;
    for sequence in 1..=pings {
        let ping = message(to, Kind::Ping, sequence, Body::Padding(40));
        client.send(&Outgoing { shape: Shape::Stamped, ..ping }).unwrap();
        client.flush().unwrap();
    }
    client.send(&message(to, Kind::Fin, 0, Body::Padding(0))).unwrap();
    client.flush().unwrap();
    let mut came = Vec::new();
    while came.last().is_none_or(|last: &Received| last.message.kind != Kind::Fin) {
        came.extend(next(&mut server));
    }
    let sequences = came.iter().map(|received| received.message.sequence);
    assert!(sequences.eq((1..=pings).chain([0])), "{came:?}");
    // The pings passed through the kernel's stack, the FIN through the ring.
    let queues = came.iter().map(|received| received.queue);
    assert!(queues.eq(vec![None; pings as usize].into_iter().chain([Some(0)])));
    all_frames_are_there(&mut server);
}
