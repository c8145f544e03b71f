//! Both sides' hot loops in one process, over a veth pair: for what can only be seen from inside.

#![allow(dead_code, reason = "each user takes its part")]

#[path = "veth.rs"]
mod veth;

use std::net::{SocketAddrV4, UdpSocket};
use std::sync::Arc;
use std::time::Duration;
pub use veth::{End, Veth};
use xdprobe::clock::{ClockBoard, monotonic_now};
use xdprobe::path::xdp::{HookStamps, XdpConfig, XdpMode, XdpPath, ZeroCopy};
use xdprobe::path::{Path, StampWishes};
use xdprobe::probe::{Attendant, HotLoop, Interrupt, StampRules};
use xdprobe::record::{Finished, Recorder, RecorderConfig};
use xdprobe::session::{Client, ClientConfig, Machine, Pattern, Sampling, Server, ServerConfig, Settings};
use xdprobe::wire::frame::{LinkHeader, MacAddr};

pub const PORT: u16 = 10666;
const CLIENT_PORT: u16 = 40_001;
/// Nothing comes for so long only where something hangs.
const HANG: Duration = Duration::from_secs(20);
/// The default of `--stamp-timeout`.
const STAMP_TIMEOUT: Duration = Duration::from_millis(100);

/// A client for the server at this end.
pub fn client(server: &End, settings: Settings) -> Client {
    let config = ClientConfig {
        server: SocketAddrV4::new(server.address, PORT),
        settings,
        schedule: None,
        dummies: 0,
        timeout: Some(HANG),
        connect_timeout: Some(HANG),
        sampling: Sampling::default(),
        pattern: Pattern::default(),
    };
    Client::new(monotonic_now(), config)
}

/// A server for one session.
pub fn server() -> Server {
    Server::new(ServerConfig { max_ip_len: Some(1500), max_l2_len: Some(1500), ..ServerConfig::plain(Some(HANG)) })
}

/// AF_XDP for a client on the left and a server on the right.
pub fn xdp_paths(veth: &Veth) -> [XdpPath; 2] {
    xdp_paths_with(veth, |_| ())
}

/// The same, opened for more.
pub fn xdp_paths_with(veth: &Veth, change: impl Fn(&mut XdpConfig)) -> [XdpPath; 2] {
    let header = LinkHeader::new(MacAddr(veth.right.mac()), MacAddr(veth.left.mac()));
    let server = SocketAddrV4::new(veth.right.address, PORT);
    let open = |end: &End, port, peer| {
        let mut config = XdpConfig {
            interface: end.interface.to_owned(),
            if_index: end.if_index(),
            mtu: 1500,
            mac: MacAddr(end.mac()),
            local: SocketAddrV4::new(end.address, port),
            dummy_port: 9,
            mode: XdpMode::Native,
            zero_copy: ZeroCopy::Off,
            queues: vec![0],
            busypoll_us: None,
            peer,
            martians: Vec::new(),
            stamps: StampWishes::default(),
            companion: false,
            card_stamps: false,
            hook_stamps: HookStamps::Each,
        };
        change(&mut config);
        end.run(|| {
            let reserved = UdpSocket::bind(config.local).expect("the port is free");
            XdpPath::open(config, reserved).expect("AF_XDP works on veth")
        })
    };
    [open(&veth.left, CLIENT_PORT, Some((server, header))), open(&veth.right, PORT, None)]
}

/// Runs the hot loop on the calling thread until its one session is over, whatever signal comes; what the logs got.
pub fn run<M: Machine, P: Path>(
    machine: M,
    path: &mut P,
    config: RecorderConfig<'_>,
    attendant: &mut impl Attendant<M, P>,
) -> Finished {
    let (interrupt, _stopper) = Interrupt::by_hand().expect("a timer");
    run_with(machine, path, (config, ClockBoard::new(0, None).into()), interrupt, attendant)
}

/// The same, with what brings the hook's stamps to the system's clock, and what ends it sooner.
pub fn run_with<M: Machine, P: Path>(
    mut machine: M,
    path: &mut P,
    (config, board): (RecorderConfig<'_>, Arc<ClockBoard>),
    mut interrupt: Interrupt,
    attendant: &mut impl Attendant<M, P>,
) -> Finished {
    let rules = StampRules { sources: config.sources, patience: STAMP_TIMEOUT, board };
    let mut recorder = Recorder::start(config).expect("a log");
    HotLoop::new(&mut machine, path, &mut recorder, attendant, &mut interrupt, rules).run().expect("the session works");
    recorder.finish()
}
