//! What the hot loop promises: while a busy session stands, no system call but the one that wakes the kernel for what was
//! sent, and no allocation. Takes root, and tracepoints in the kernel.
//!
//! Both sides run in this process, each on a thread of its own, so that what that thread does can be counted from the moment
//! the session stands until it is over, to the single call. The server of many is in `hot_loop_many.rs`.

#[path = "support/hot.rs"]
mod hot;
#[path = "support/meters.rs"]
mod meters;

use hot::{End, PORT, Veth, client, server, xdp_paths, xdp_paths_with};
use meters::{Allocations, Meter, SystemCalls};
use std::net::SocketAddrV4;
use xdprobe::path::kernel::{KernelConfig, KernelPath};
use xdprobe::path::{Path, StampWishes};
use xdprobe::probe::{Attendant, Scene};
use xdprobe::record::{RecorderConfig, Role, Voice};
use xdprobe::session::{Event, Machine, Settings, Totals};

/// Of 10,000 pings a second a machine that has other things to do sends fewer, but not so few.
const FEW: u64 = 50;

/// Meters one session.
struct Watch<T> {
    meter: T,
    totals: Option<Totals>,
}

impl<M: Machine, P: Path, T: Meter> Attendant<M, P> for Watch<T> {
    fn connected(&mut self, scene: Scene<'_, M, P>, _: Event) -> anyhow::Result<()> {
        scene.recorder.begin_session();
        self.meter.begin();
        Ok(())
    }

    fn finished(&mut self, scene: Scene<'_, M, P>, _: xdprobe::session::End) -> anyhow::Result<()> {
        self.meter.end();
        self.totals = Some(*scene.machine.totals());
        Ok(())
    }

    fn broken(&mut self, _: Scene<'_, M, P>) {}
}

/// One side with the meter of its thread and what the session counted.
struct Outcome<T> {
    meter: T,
    totals: Totals,
}

/// Runs one session with logs on both sides; the client's and the server's outcome.
fn session<P: Path + Send, T: Meter + Send>(veth: &Veth, paths: [P; 2], settings: Settings) -> [Outcome<T>; 2] {
    session_with(veth, paths, settings, false)
}

/// The same, with the logs of stages too where `has_stages`.
fn session_with<P: Path + Send, T: Meter + Send>(
    veth: &Veth,
    paths: [P; 2],
    settings: Settings,
    has_stages: bool,
) -> [Outcome<T>; 2] {
    let [mut client_path, mut server_path] = paths;
    std::thread::scope(|scope| {
        let serving = || metered(server(), &mut server_path, Role::Server, has_stages);
        let serving = scope.spawn(|| veth.right.run(serving));
        let machine = client(&veth.right, settings);
        let pinging = veth.left.run(|| metered(machine, &mut client_path, Role::Client, has_stages));
        [pinging, serving.join().expect("the server does not panic")]
    })
}

/// Runs the hot loop on the calling thread until its one session is over.
fn metered<M: Machine, P: Path, T: Meter>(machine: M, path: &mut P, role: Role, has_stages: bool) -> Outcome<T> {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let [log, log_stages] = ["log.csv", "stages.csv"].map(|name| folder.path().join(name));
    let mut watch = Watch { meter: T::start(), totals: None };
    let config = RecorderConfig::application(Some(&log), Voice { role, json: false });
    let config = RecorderConfig { log_stages: has_stages.then_some(&log_stages), ..config };
    let finished = hot::run(machine, path, config, &mut watch);
    let totals = watch.totals.expect("the session was finished");
    let files: Vec<_> = [finished.log, finished.stage_log].into_iter().flatten().collect();
    assert_eq!(files.len(), 1 + usize::from(has_stages));
    for written in files {
        assert!(written.is_whole(), "{written:?}");
        assert!(written.rows_written >= totals.pings_sent + totals.pongs_sent, "{written:?} {totals:?}");
    }
    Outcome { meter: watch.meter, totals }
}

/// 10,000 pings a second for a second, each with its pong, both sides busy.
fn settings() -> Settings {
    Settings { count_s: 1, delay_us: 100, ..Settings::default() }
}

fn kernel_paths(veth: &Veth, stamps: StampWishes) -> [KernelPath; 2] {
    let open = |end: &End, port| {
        let bind = SocketAddrV4::new(end.address, port);
        let config = KernelConfig { interface: end.interface.to_owned(), bind, busypoll_us: None, stamps };
        end.run(|| KernelPath::open(config).expect("a UDP socket"))
    };
    [open(&veth.left, 0), open(&veth.right, PORT)]
}

#[track_caller]
fn assert_busy([client, server]: [&Totals; 2]) {
    assert!(client.pings_sent > FEW && server.pongs_sent > FEW, "{client:?} {server:?}");
}

/// Pings, pongs, and what begins and ends a session, with room for repetitions.
fn packets(totals: &Totals) -> u64 {
    totals.pings_sent + totals.pongs_sent + 64
}

#[test]
fn a_busy_session_on_the_xdp_path_makes_no_system_call_but_the_wake_up() {
    let veth = Veth::new();
    let outcomes: [Outcome<SystemCalls>; 2] = session(&veth, xdp_paths(&veth), settings());
    assert_busy(outcomes.each_ref().map(|outcome| &outcome.totals));
    for Outcome { meter, totals } in outcomes {
        let [all, sendto, _] = meter.counted.expect("the session was finished");
        assert_eq!(all - sendto, 0, "{all} system calls, {sendto} of them sendto: {totals:?}");
        // Pongs to pings that came together leave together.
        assert!((1..=packets(&totals)).contains(&sendto), "{sendto} sendto: {totals:?}");
    }
}

#[test]
fn a_batch_of_pings_takes_fewer_wake_ups_than_pings() {
    let veth = Veth::new();
    let settings = Settings { delay_us: 0, pong_every: 0, ..settings() };
    let [client, _]: [Outcome<SystemCalls>; 2] = session(&veth, xdp_paths(&veth), settings);
    let [all, sendto, _] = client.meter.counted.expect("the session was finished");
    assert_eq!(all - sendto, 0, "{all} system calls, {sendto} of them sendto: {:?}", client.totals);
    assert!(sendto < client.totals.pings_sent / 4, "{sendto} sendto: {:?}", client.totals);
}

#[test]
fn busy_polling_adds_the_kick_and_no_other_system_call() {
    let veth = Veth::new();
    let paths = xdp_paths_with(&veth, |config| config.busypoll_us = Some(20));
    let outcomes: [Outcome<SystemCalls>; 2] = session(&veth, paths, settings());
    assert_busy(outcomes.each_ref().map(|outcome| &outcome.totals));
    for Outcome { meter, totals } in outcomes {
        let [all, sendto, recvfrom] = meter.counted.expect("the session was finished");
        assert_eq!(all - sendto - recvfrom, 0, "{all} system calls, {sendto} sendto, {recvfrom} recvfrom: {totals:?}");
        assert!(recvfrom > 0 && (1..=packets(&totals)).contains(&sendto), "{sendto}, {recvfrom}: {totals:?}");
    }
}

#[test]
fn stamps_that_come_by_a_packet_socket_allocate_nothing() {
    let veth = Veth::new();
    let paths = xdp_paths_with(&veth, |config| {
        (config.stamps, config.companion) = (StampWishes { software: true, hardware: false }, true);
    });
    let outcomes: [Outcome<Allocations>; 2] = session(&veth, paths, settings());
    assert_busy(outcomes.each_ref().map(|outcome| &outcome.totals));
    assert_eq!(outcomes.map(|outcome| outcome.meter.counted), [Some(0); 2]);
}

#[test]
fn a_session_allocates_nothing_on_the_xdp_path() {
    let veth = Veth::new();
    let outcomes: [Outcome<Allocations>; 2] = session(&veth, xdp_paths(&veth), settings());
    assert_busy(outcomes.each_ref().map(|outcome| &outcome.totals));
    assert_eq!(outcomes.map(|outcome| outcome.meter.counted), [Some(0); 2]);
}

#[test]
fn the_log_of_stages_adds_no_system_call_and_no_allocation() {
    let veth = Veth::new();
    let outcomes: [Outcome<SystemCalls>; 2] = session_with(&veth, xdp_paths(&veth), settings(), true);
    assert_busy(outcomes.each_ref().map(|outcome| &outcome.totals));
    for Outcome { meter, totals } in outcomes {
        let [all, sendto, _] = meter.counted.expect("the session was finished");
        assert_eq!(all - sendto, 0, "{all} system calls, {sendto} of them sendto: {totals:?}");
    }
    let outcomes: [Outcome<Allocations>; 2] = session_with(&veth, xdp_paths(&veth), settings(), true);
    assert_busy(outcomes.each_ref().map(|outcome| &outcome.totals));
    assert_eq!(outcomes.map(|outcome| outcome.meter.counted), [Some(0); 2]);
}

#[test]
fn a_session_allocates_nothing_on_the_kernel_path_with_and_without_its_stamps() {
    for software in [false, true] {
        let veth = Veth::new();
        let paths = kernel_paths(&veth, StampWishes { software, hardware: false });
        let outcomes: [Outcome<Allocations>; 2] = session(&veth, paths, settings());
        assert_busy(outcomes.each_ref().map(|outcome| &outcome.totals));
        assert_eq!(outcomes.map(|outcome| outcome.meter.counted), [Some(0); 2], "software stamps: {software}");
    }
}

#[test]
fn pongs_with_stamps_in_them_allocate_nothing_either() {
    let veth = Veth::new();
    let settings = Settings { in_band: true, ..settings() };
    let settings =
        Settings { pong_padding: settings.min_pong_padding(), ping_padding: settings.min_padding(), ..settings };
    let outcomes: [Outcome<Allocations>; 2] = session(&veth, xdp_paths(&veth), settings);
    assert_busy(outcomes.each_ref().map(|outcome| &outcome.totals));
    assert_eq!(outcomes.map(|outcome| outcome.meter.counted), [Some(0); 2]);
}
