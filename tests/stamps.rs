//! The stamps that veth can have on the xdp path: the kernel's. Needs root.
//!
//! What needs a card's clock is in `tests/vm`.

#[path = "support/veth.rs"]
mod veth;

use std::net::{SocketAddrV4, UdpSocket};
use std::os::fd::AsFd;
use std::time::Duration;
use veth::{End, Veth, settle};
use xdprobe::clock::{Realtime, Stamp, Time, monotonic_now, realtime_now};
use xdprobe::path::kernel::{KernelConfig, KernelPath};
use xdprobe::path::xdp::{HookStamps, XdpConfig, XdpMode, XdpPath, ZeroCopy};
use xdprobe::path::{Batch, Path, Received, StampWishes, Token, TxStamp};
use xdprobe::session::{Body, Outgoing};
use xdprobe::wire::frame::{LinkHeader, MacAddr};
use xdprobe::wire::ptp::{Shape, Transport};
use xdprobe::wire::{Extension, Kind, Message, Point};

const PORT: u16 = 10666;
const CLIENT_PORT: u16 = 40000;
const SOFTWARE: StampWishes = StampWishes { software: true, hardware: false };
/// Only a hang is that long.
const LIMIT: Duration = Duration::from_secs(10);

fn xdp(end: &End, port: u16, companion: bool) -> XdpConfig {
    XdpConfig {
        interface: end.interface.to_owned(),
        if_index: end.if_index(),
        mtu: 1500,
        mac: MacAddr(end.mac()),
        local: SocketAddrV4::new(end.address, port),
        dummy_port: 9,
        mode: XdpMode::Native,
        zero_copy: ZeroCopy::Auto,
        queues: vec![0],
        busypoll_us: None,
        peer: None,
        martians: Vec::new(),
        stamps: SOFTWARE,
        companion,
        card_stamps: false,
        hook_stamps: HookStamps::Each,
    }
}

fn open(end: &End, config: XdpConfig) -> XdpPath {
    end.run(|| {
        let reserved = UdpSocket::bind(config.local).unwrap();
        XdpPath::open(config, reserved).unwrap()
    })
}

/// A client over the companion or over AF_XDP alone, and its server.
fn pair(veth: &Veth, companion: bool, card_stamps: bool) -> (XdpPath, XdpPath, SocketAddrV4) {
    let server = XdpConfig { card_stamps, ..xdp(&veth.right, PORT, false) };
    let to = server.local;
    let link = LinkHeader::new(MacAddr(veth.right.mac()), MacAddr(veth.left.mac()));
    let client = XdpConfig { peer: Some((to, link)), ..xdp(&veth.left, CLIENT_PORT, companion) };
    settle();
    (open(&veth.left, client), open(&veth.right, server), to)
}

fn ping(to: SocketAddrV4, sequence: u64) -> Outgoing {
    let message = Message { kind: Kind::Ping, sequence };
    Outgoing { to, message, body: Body::Padding(9), shape: Shape::Plain, point: Some(Point::T0) }
}

fn only(path: &mut (impl Path + ?Sized)) -> Received {
    let mut batch = Batch::new();
    let end = monotonic_now().plus(LIMIT);
    while monotonic_now() < end {
        path.receive(&mut batch).unwrap();
        if batch.len() == 1 {
            return *batch.datagrams().next().unwrap();
        }
    }
    panic!("nothing came: {:?}", path.counters());
}

fn only_stamp(path: &mut (impl Path + ?Sized)) -> TxStamp {
    let mut stamps = Vec::new();
    let end = monotonic_now().plus(LIMIT);
    while monotonic_now() < end {
        path.collect(&mut stamps).unwrap();
        if let [stamp] = stamps[..] {
            return stamp;
        }
        assert_eq!(stamps, []);
    }
    panic!("no stamp came");
}

fn system(stamp: TxStamp) -> Time<Realtime> {
    match stamp.stamp {
        Stamp::System(time) => time,
        Stamp::Card(time) => panic!("a card's stamp {time} on veth"),
    }
}

#[test]
fn a_ping_through_the_companion_has_a_stamp_of_its_own_and_a_control_message_none() {
    let veth = Veth::new();
    let (mut client, mut server, to) = pair(&veth, true, false);
    assert_eq!(client.late_stamps(), SOFTWARE);
    for sequence in 1..=20 {
        let syn = Outgoing { point: None, ..ping(to, sequence) };
        let unstamped = client.send(&syn).unwrap();
        assert_eq!((unstamped.token, unstamped.queue), (None, Some(0)));
        client.flush().unwrap();
        assert_eq!(only(&mut server).message.sequence, sequence);

        let sent = client.send(&ping(to, sequence)).unwrap();
        assert_eq!((sent.token, sent.queue), (Some(Token(sequence - 1)), None));
        let came = only(&mut server);
        assert_eq!((came.message.sequence, came.ip_len), (sequence, 53));
        let late = only_stamp(&mut client);
        assert_eq!(late.token, Token(sequence - 1));
        assert!(sent.application <= system(late) && system(late) <= realtime_now());
    }
    assert_eq!(client.counters().strange_stamps, 0);
}

#[test]
fn over_af_xdp_alone_no_stamp_is_to_come() {
    let veth = Veth::new();
    let (mut client, mut server, to) = pair(&veth, false, false);
    assert_eq!(client.late_stamps(), StampWishes::default());
    let sent = client.send(&ping(to, 1)).unwrap();
    client.flush().unwrap();
    assert_eq!((sent.token, sent.queue), (None, Some(0)));
    only(&mut server);
    let mut stamps = Vec::new();
    client.collect(&mut stamps).unwrap();
    assert_eq!(stamps, []);
}

#[test]
fn a_program_that_is_bound_to_the_device_takes_its_zero_for_no_stamp() {
    let veth = Veth::new();
    let (mut client, mut server, to) = pair(&veth, false, true);
    client.send(&ping(to, 1)).unwrap();
    client.flush().unwrap();
    let came = only(&mut server);
    assert!(came.stamps.hook.is_some());
    assert_eq!(came.stamps.hardware, None);
    let xdp = server.counters().xdp.unwrap();
    // veth's driver says yes and gives 0 (drivers/net/veth.c, veth_xdp_rx_timestamp).
    assert_eq!((xdp.redirected, xdp.unstamped, xdp.stamp_error), (1, 1, 0));
}

#[test]
fn a_program_that_is_bound_to_the_device_is_refused_in_generic_mode() {
    let veth = Veth::new();
    let config = XdpConfig { mode: XdpMode::Generic, card_stamps: true, ..xdp(&veth.right, PORT, false) };
    let error = veth.right.run(|| {
        let reserved = UdpSocket::bind(config.local).unwrap();
        XdpPath::open(config, reserved).unwrap_err().to_string()
    });
    assert!(error.contains("veth-r") && error.contains("--xdp-mode generic"), "{error}");
}

#[test]
fn a_wait_ends_when_a_transmit_stamp_has_come() {
    let veth = Veth::new();
    let (mut client, _server, to) = pair(&veth, true, false);
    let sent = client.send(&ping(to, 1)).unwrap();
    let (never, _keep) = std::os::unix::net::UnixStream::pair().unwrap();
    let began = monotonic_now();
    client.wait(Some(began.plus(LIMIT)), never.as_fd()).unwrap();
    assert!(monotonic_now().duration_since(began) < LIMIT);
    assert_eq!(Some(only_stamp(&mut client).token), sent.token);
}

#[test]
fn a_socket_without_room_is_asked_again_and_loses_nothing() {
    let veth = Veth::new();
    // A link of 10 Mbit/s: what waits for it is charged to the socket until it has no room left.
    let shaped = "qdisc replace dev veth-l root tbf rate 10mbit burst 2kb limit 10mb";
    let output = veth.left.command("tc").args(shaped.split(' ')).output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let (mut client, mut server) = (kernel(&veth.left, CLIENT_PORT), kernel(&veth.right, PORT));
    let to = SocketAddrV4::new(veth.right.address, PORT);
    let mut sent = Vec::new();
    let (mut stamps, mut late) = (Vec::new(), Vec::new());
    for sequence in 1..=1500 {
        sent.push(client.send(&ping(to, sequence)).unwrap());
        client.collect(&mut late).unwrap();
        stamps.append(&mut late);
    }
    assert!(client.counters().tx_retries > 0, "1500 datagrams do not fit into the socket's buffer");
    let end = monotonic_now().plus(LIMIT);
    let (mut came, mut batch) = (Vec::new(), Batch::new());
    while came.len() < 1500 && monotonic_now() < end {
        server.receive(&mut batch).unwrap();
        came.extend(batch.datagrams().map(|datagram| datagram.message.sequence));
    }
    assert!(came.into_iter().eq(1..=1500));
    let end = monotonic_now().plus(LIMIT);
    while stamps.len() < sent.len() && monotonic_now() < end {
        client.collect(&mut late).unwrap();
        stamps.append(&mut late);
    }
    assert_eq!(stamps.len(), sent.len());
    for (sent, stamp) in sent.iter().zip(&stamps) {
        // One queue, one driver: in the order of sending, each after its own hand-over and before the next second.
        assert_eq!(Some(stamp.token), sent.token);
        assert!(sent.application <= system(*stamp), "{sent:?} {stamp:?}");
    }
    assert!(stamps.is_sorted_by_key(|stamp| system(*stamp)));
}

/// A ping of 100 bytes behind a PTP header.
fn shaped(to: SocketAddrV4, sequence: u64, shape: Shape) -> Outgoing {
    Outgoing { body: Body::Padding(56), shape, ..ping(to, sequence) }
}

fn kernel(end: &End, port: u16) -> KernelPath {
    let config = KernelConfig {
        interface: end.interface.to_owned(),
        bind: SocketAddrV4::new(end.address, port),
        busypoll_us: None,
        stamps: SOFTWARE,
    };
    end.run(|| KernelPath::open(config).unwrap())
}

/// Sends pings of both shapes and pongs back; returns the queues that the server received them through.
fn exchange(
    veth: &Veth,
    transport: Transport,
    client: &mut (dyn Path + Send),
    server: &mut (dyn Path + Send),
    to: SocketAddrV4,
) -> Vec<Option<u32>> {
    let wanted = Extension { ptp: Some(transport), ..Extension::default() };
    let from = SocketAddrV4::new(veth.left.address, CLIENT_PORT);
    // The server knows a client of which a SYN came.
    client.send(&Outgoing { point: None, ..ping(to, 1) }).unwrap();
    client.flush().unwrap();
    assert_eq!(only(server).from, from);
    assert_eq!(veth.left.run(|| client.prepare(to, wanted).unwrap()), wanted);
    assert_eq!(veth.right.run(|| server.prepare(from, wanted).unwrap()), wanted);
    let mut queues = Vec::new();
    for (sequence, shape) in (1..).zip([Shape::Stamped, Shape::Unstamped, Shape::Stamped, Shape::Unstamped]) {
        let sent = client.send(&shaped(to, sequence, shape)).unwrap();
        client.flush().unwrap();
        let came = only(server);
        assert_eq!((came.from, came.shape, came.message.sequence, came.ip_len), (from, shape, sequence, 100));
        queues.push(came.queue);
        assert_eq!(sent.token.is_some(), shape == Shape::Stamped, "{transport:?} {shape:?}");
        if let Some(token) = sent.token {
            assert_eq!(only_stamp(client).token, token);
        }
        let message = Message { kind: Kind::Pong, sequence };
        let pong = Outgoing { message, point: Some(Point::T2), ..shaped(came.from, sequence, shape) };
        let sent = server.send(&pong).unwrap();
        server.flush().unwrap();
        let back = only(client);
        assert_eq!((back.from, back.shape, back.message, back.ip_len), (to, shape, message, 100));
        if let Some(token) = sent.token {
            assert_eq!(only_stamp(server).token, token);
        }
    }
    assert_eq!((client.counters().not_protocol, server.counters().not_protocol), (0, 0));
    assert_eq!((client.counters().strange_stamps, server.counters().strange_stamps), (0, 0));
    queues
}

/// Both ends with a companion.
fn companions(veth: &Veth, card_stamps: bool) -> (XdpPath, XdpPath, SocketAddrV4) {
    let server = XdpConfig { card_stamps, ..xdp(&veth.right, PORT, true) };
    let to = server.local;
    let link = LinkHeader::new(MacAddr(veth.right.mac()), MacAddr(veth.left.mac()));
    let client = XdpConfig { peer: Some((to, link)), card_stamps, ..xdp(&veth.left, CLIENT_PORT, true) };
    settle();
    (open(&veth.left, client), open(&veth.right, server), to)
}

const TRANSPORTS: [Transport; 2] = [Transport::Udp, Transport::L2];

#[test]
fn behind_ptp_headers_what_is_stamped_comes_through_the_kernel_and_the_rest_through_af_xdp() {
    for transport in TRANSPORTS {
        let veth = Veth::new();
        let (mut client, mut server, to) = companions(&veth, false);
        let queues = exchange(&veth, transport, &mut client, &mut server, to);
        assert_eq!(queues, [None, Some(0), None, Some(0)], "{transport:?}");
    }
}

#[test]
fn where_the_driver_can_be_asked_all_of_it_comes_through_af_xdp() {
    for transport in TRANSPORTS {
        let veth = Veth::new();
        let (mut client, mut server, to) = companions(&veth, true);
        let queues = exchange(&veth, transport, &mut client, &mut server, to);
        assert_eq!(queues, [Some(0); 4], "{transport:?}");
    }
}

#[test]
fn the_kernel_path_speaks_ptp_with_itself_and_with_the_xdp_path() {
    for transport in TRANSPORTS {
        let veth = Veth::new();
        let to = SocketAddrV4::new(veth.right.address, PORT);
        let (mut client, mut server) = (kernel(&veth.left, CLIENT_PORT), kernel(&veth.right, PORT));
        let queues = exchange(&veth, transport, &mut client, &mut server, to);
        drop((client, server));
        assert_eq!(queues, [None; 4], "{transport:?}");
        let (mut client, server, to) = companions(&veth, false);
        drop(server);
        let queues = exchange(&veth, transport, &mut client, &mut kernel(&veth.right, PORT), to);
        assert_eq!(queues, [None; 4], "{transport:?}");
        drop(client);
        let (client, mut server, to) = companions(&veth, false);
        drop(client);
        let queues = exchange(&veth, transport, &mut kernel(&veth.left, CLIENT_PORT), &mut server, to);
        assert_eq!(queues, [None, Some(0), None, Some(0)], "{transport:?}");
    }
}

/// A packet socket is told of it, once: no reason to end a server.
#[test]
fn a_link_that_goes_down_breaks_no_ptp_port() {
    for over_xdp in [false, true] {
        let veth = Veth::new();
        let (mut client, mut server, to): (Box<dyn Path + Send>, Box<dyn Path + Send>, _) = if over_xdp {
            let (client, server, to) = companions(&veth, false);
            (Box::new(client), Box::new(server), to)
        } else {
            let to = SocketAddrV4::new(veth.right.address, PORT);
            (Box::new(kernel(&veth.left, CLIENT_PORT)), Box::new(kernel(&veth.right, PORT)), to)
        };
        exchange(&veth, Transport::L2, &mut *client, &mut *server, to);
        veth.right.ip(&["link", "set", veth.right.interface, "down"]);
        let mut batch = Batch::new();
        for _ in 0..3 {
            server.receive(&mut batch).unwrap();
            assert_eq!(batch.len(), 0, "over xdp: {over_xdp}");
        }
    }
}

#[test]
fn a_clocks_own_sync_message_is_left_to_the_kernel() {
    // From a real clock: domain 0, a clock identity made of a MAC address; over both transports.
    let veth = Veth::new();
    let (_client, server, to) = companions(&veth, true);
    let mut sync = [0; 60];
    (sync[1], sync[3], sync[20]) = (2, 44, 0x1b);
    let sender = veth.left.run(|| UdpSocket::bind((veth.left.address, 319)).unwrap());
    let receiver = veth.right.run(|| UdpSocket::bind((veth.right.address, 319)).unwrap());
    receiver.set_read_timeout(Some(LIMIT)).unwrap();
    sender.send_to(&sync, (*to.ip(), 319)).unwrap();
    let mut data = [0; 100];
    assert_eq!(receiver.recv(&mut data).unwrap(), 60);
    assert_eq!(data[..60], sync);
    let xdp = server.counters().xdp.unwrap();
    assert_eq!((xdp.redirected, xdp.malformed), (0, 0));
}

#[test]
fn a_ptp_port_that_somebody_has_is_named_and_let_go_when_it_is_ours() {
    let veth = Veth::new();
    let mut path = kernel(&veth.right, PORT);
    let peer = SocketAddrV4::new(veth.left.address, 9);
    let wanted = Extension { ptp: Some(Transport::Udp), ..Extension::default() };
    let ptp4l = veth.right.run(|| UdpSocket::bind((veth.right.address, 319)).unwrap());
    let error = veth.right.run(|| path.prepare(peer, wanted).unwrap_err().to_string());
    assert!(error.contains("port 319"), "{error}");
    drop(ptp4l);
    veth.right.run(|| path.prepare(peer, wanted).unwrap());
    assert!(veth.right.run(|| UdpSocket::bind((veth.right.address, 319)).is_err()));
    path.release();
    veth.right.run(|| UdpSocket::bind((veth.right.address, 319)).unwrap());
}
