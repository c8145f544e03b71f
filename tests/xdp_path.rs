//! The AF_XDP path on a veth pair: what the program takes and leaves, and datagrams in both directions. Takes root.

#[path = "support/netns.rs"]
mod netns;

use netns::{End, Veth};
use std::net::{SocketAddrV4, UdpSocket};
use std::os::fd::AsFd;
use std::time::Duration;
use xdprobe::clock::{monotonic_now, realtime_now, tai_now};
use xdprobe::path::xdp::{AttachedMode, Program, XdpConfig, XdpMode, XdpPath, ZeroCopy};
use xdprobe::path::{Batch, Path, Received};
use xdprobe::session::{Body, Outgoing};
use xdprobe::wire::frame::{Flow, LinkHeader, MAX_FRAME_LEN, MacAddr, Template};
use xdprobe::wire::{DUMMY_SEQUENCE, Kind, MIN_IP_LEN, Message, RawSettings};

const PORT: u16 = 10666;
const CLIENT_PORT: u16 = 40_001;
const DUMMY_PORT: u16 = 40_002;
/// `enum xdp_action`, `linux/bpf.h`.
const XDP_PASS: u32 = 2;

fn local(end: &End, port: u16) -> SocketAddrV4 {
    SocketAddrV4::new(end.address, port)
}

fn header(from: &End, to: &End) -> LinkHeader {
    LinkHeader::new(MacAddr(to.mac()), MacAddr(from.mac()))
}

fn config(end: &End, port: u16) -> XdpConfig {
    XdpConfig {
        interface: end.interface.clone(),
        if_index: end.if_index(),
        mtu: 1500,
        local: local(end, port),
        dummy_port: DUMMY_PORT,
        mode: XdpMode::Auto,
        zero_copy: ZeroCopy::Auto,
        queues: vec![0],
        busypoll_us: None,
        peer: None,
    }
}

fn try_open(end: &End, config: XdpConfig) -> anyhow::Result<XdpPath> {
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
    Outgoing { to, message: Message { kind, sequence }, body, point: None }
}

/// Waits until something of the protocol has come in.
fn next(path: &mut XdpPath) -> Vec<Received> {
    let (never, _keep) = std::os::unix::net::UnixStream::pair().unwrap();
    let mut batch = Batch::new();
    let deadline = monotonic_now().plus(Duration::from_secs(5));
    while monotonic_now() < deadline {
        path.receive(&mut batch).unwrap();
        if !batch.datagrams.is_empty() {
            return batch.datagrams;
        }
        path.wait(Some(deadline), never.as_fd()).unwrap();
    }
    panic!("nothing came within 5 s; counters: {:?}", path.counters());
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
            assert_eq!((ping.from, ping.ip_len, ping.queue), (local(&veth.left, CLIENT_PORT), size, 0));
            assert!(before.0 <= sent && sent < ping.stamps.application);
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
