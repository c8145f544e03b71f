//! What the hot loop promises: while a busy session stands, no system call but the one that wakes the kernel for what was
//! sent, and no allocation. Takes root, and tracepoints in the kernel.
//!
//! Both sides run in this process, each on a thread of its own, so that what that thread does can be counted from the moment
//! the session stands until it is over, to the single call.

#[path = "support/hot.rs"]
mod hot;

use hot::{End, PORT, Veth, client, server, xdp_paths, xdp_paths_with};
use perf_event::events::Tracepoint;
use perf_event::{Builder, Counter, Group};
use std::alloc::{GlobalAlloc, Layout, System};
use std::cell::Cell;
use std::net::SocketAddrV4;
use std::path::Path as FilePath;
use xdprobe::path::kernel::{KernelConfig, KernelPath};
use xdprobe::path::{Path, StampWishes};
use xdprobe::probe::{Attendant, Scene};
use xdprobe::record::Role;
use xdprobe::session::{Event, Machine, Settings, Totals};

/// Of 10,000 pings a second a machine that has other things to do sends fewer, but not so few.
const FEW: u64 = 50;

thread_local! {
    static ALLOCATIONS: Cell<u64> = const { Cell::new(0) };
}

/// The system's allocator, which counts what each thread asks it for.
struct Counting;

// SAFETY: everything is handed to the system's allocator as it came.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        count();
        // SAFETY: the caller's promises are those of this call.
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, pointer: *mut u8, layout: Layout) {
        count();
        // SAFETY: as above.
        unsafe { System.dealloc(pointer, layout) }
    }

    unsafe fn realloc(&self, pointer: *mut u8, layout: Layout, size: usize) -> *mut u8 {
        count();
        // SAFETY: as above.
        unsafe { System.realloc(pointer, layout, size) }
    }

    unsafe fn alloc_zeroed(&self, layout: Layout) -> *mut u8 {
        count();
        // SAFETY: as above.
        unsafe { System.alloc_zeroed(layout) }
    }
}

/// Without a destructor the counter is there as long as its thread, and the first use allocates nothing.
fn count() {
    ALLOCATIONS.with(|calls| calls.set(calls.get() + 1));
}

#[global_allocator]
static ALLOCATOR: Counting = Counting;

/// Counts what the thread that made it does while a session stands.
trait Meter {
    fn start() -> Self;
    fn begin(&mut self);
    fn end(&mut self);
}

/// Calls of the allocator.
struct Allocations {
    before: u64,
    counted: Option<u64>,
}

impl Meter for Allocations {
    fn start() -> Self {
        let before = ALLOCATIONS.get();
        drop(std::hint::black_box(Box::new(0)));
        assert_eq!(ALLOCATIONS.get() - before, 2, "the counter counts");
        Self { before: 0, counted: None }
    }

    fn begin(&mut self) {
        self.before = ALLOCATIONS.get();
    }

    fn end(&mut self) {
        self.counted = Some(ALLOCATIONS.get() - self.before);
    }
}

/// System calls: all of them, those of `sendto`, and those of `recvfrom`.
struct SystemCalls {
    group: Group,
    counters: [Counter; 3],
    counted: Option<[u64; 3]>,
}

impl Meter for SystemCalls {
    fn start() -> Self {
        let mut group = Group::new().expect("perf_event_open takes root");
        let mut add = |name| {
            let mut builder = Builder::new(tracepoint(name));
            builder.include_kernel().inherit(false);
            group.add(&builder).expect("a tracepoint can be counted")
        };
        let names = ["raw_syscalls/sys_enter", "syscalls/sys_enter_sendto", "syscalls/sys_enter_recvfrom"];
        let counters = names.map(&mut add);
        Self { group, counters, counted: None }
    }

    fn begin(&mut self) {
        self.group.enable().expect("counters can be switched on");
    }

    fn end(&mut self) {
        self.group.disable().expect("counters can be switched off");
        let counts = self.group.read().expect("counters can be read");
        // The call that switches them off is the last that they count.
        let [all, sendto, recvfrom] = self.counters.each_ref().map(|counter| counts[counter]);
        self.counted = Some([all - 1, sendto, recvfrom]);
    }
}

/// A tracepoint of the kernel by its name; where tracefs is not mounted, as in a container, it is for a moment, and for
/// one thread alone.
fn tracepoint(name: &str) -> Tracepoint {
    let read = |root: &str| std::fs::read_to_string(FilePath::new(root).join("events").join(name).join("id")).ok();
    let mounted = || {
        use nix::mount::{MsFlags, mount};
        nix::sched::unshare(nix::sched::CloneFlags::CLONE_NEWNS).ok()?;
        mount(None::<&str>, "/", None::<&str>, MsFlags::MS_REC | MsFlags::MS_PRIVATE, None::<&str>).ok()?;
        mount(Some("tracefs"), "/sys/kernel/tracing", Some("tracefs"), MsFlags::empty(), None::<&str>).ok()?;
        read("/sys/kernel/tracing")
    };
    let id = read("/sys/kernel/tracing")
        .or_else(|| read("/sys/kernel/debug/tracing"))
        .or_else(|| std::thread::scope(|scope| scope.spawn(mounted).join().expect("mounting does not panic")))
        .unwrap_or_else(|| panic!("the kernel has no tracepoint {name}: it takes root and CONFIG_FTRACE_SYSCALLS"));
    Tracepoint::with_id(id.trim().parse().expect("a tracepoint's id is a number"))
}

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
    let [mut client_path, mut server_path] = paths;
    std::thread::scope(|scope| {
        let serving = scope.spawn(|| veth.right.run(|| metered(server(), &mut server_path, Role::Server)));
        let machine = client(&veth.right, settings);
        let pinging = veth.left.run(|| metered(machine, &mut client_path, Role::Client));
        [pinging, serving.join().expect("the server does not panic")]
    })
}

/// Runs the hot loop on the calling thread until its one session is over.
fn metered<M: Machine, P: Path, T: Meter>(machine: M, path: &mut P, role: Role) -> Outcome<T> {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let mut watch = Watch { meter: T::start(), totals: None };
    let written = hot::run(machine, path, role, &folder.path().join("log.csv"), &mut watch);
    let totals = watch.totals.expect("the session was finished");
    assert!(written.is_whole(), "{written:?}");
    assert!(written.rows_written >= totals.pings_sent + totals.pongs_sent, "{written:?} {totals:?}");
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
