//! What a thread asks of the allocator and of the kernel, counted to the single call. Takes root, and tracepoints in the kernel.

#![allow(dead_code, reason = "each user takes its part")]

use nix::unistd::{Pid, gettid};
use perf_event::events::Tracepoint;
use perf_event::{Builder, Counter, Group};
use std::alloc::{GlobalAlloc, Layout, System};
use std::cell::Cell;
use std::path::Path as FilePath;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::time::{Duration, Instant};

/// Nothing takes so long unless it hangs.
pub const HANG: Duration = Duration::from_secs(60);

thread_local! {
    static ALLOCATIONS: Cell<u64> = const { Cell::new(0) };
    static IS_WATCHED: Cell<bool> = const { Cell::new(false) };
}

/// What the one thread asked for that others watch.
static WATCHED: AtomicU64 = AtomicU64::new(0);

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
    if IS_WATCHED.get() {
        WATCHED.fetch_add(1, Relaxed);
    }
}

/// From now on others can see the calls of the allocator that the calling thread makes: of one thread in a process.
pub fn be_watched() {
    IS_WATCHED.set(true);
}

/// The calls of the allocator that the thread has made that others watch.
pub fn watched_allocations() -> u64 {
    WATCHED.load(Relaxed)
}

#[global_allocator]
static ALLOCATOR: Counting = Counting;

/// Counts what the thread that made it does while a session stands.
pub trait Meter {
    fn start() -> Self;
    fn begin(&mut self);
    fn end(&mut self);
}

/// Calls of the allocator.
pub struct Allocations {
    before: u64,
    pub counted: Option<u64>,
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
pub struct SystemCalls {
    group: Group,
    counters: [Counter; 3],
    before: [u64; 3],
    pub counted: Option<[u64; 3]>,
}

impl SystemCalls {
    /// Those of the thread with this number, which may be another than this one.
    pub fn of(thread: Pid) -> Self {
        let builder = |name| {
            let mut builder = Builder::new(tracepoint(name));
            builder.include_kernel().inherit(false).observe_pid(thread.as_raw());
            builder
        };
        let mut group = Group::builder();
        let mut group = group.observe_pid(thread.as_raw()).build_group().expect("perf_event_open takes root");
        let names = ["raw_syscalls/sys_enter", "syscalls/sys_enter_sendto", "syscalls/sys_enter_recvfrom"];
        let counters = names.map(|name| group.add(&builder(name)).expect("a tracepoint can be counted"));
        Self { group, counters, before: [0; 3], counted: None }
    }

    fn read(&mut self) -> [u64; 3] {
        let counts = self.group.read().expect("counters can be read");
        self.counters.each_ref().map(|counter| counts[counter])
    }

    /// Begins counting another thread's, which `act` makes call `sendto`. A thread that was on a CPU as its counters were
    /// switched on may be counted only since its next turn there, by Linux 6.18: what it does before is not looked at.
    ///
    /// # Panics
    /// The thread is not counted at all.
    pub fn begin_of_other(&mut self, mut act: impl FnMut()) {
        self.group.enable().expect("counters can be switched on");
        let given_up = Instant::now() + HANG;
        while self.before[1] == 0 {
            assert!(Instant::now() < given_up, "the kernel counts none of the other thread's calls");
            act();
            self.before = self.read();
        }
    }

    /// Ends counting another thread's.
    pub fn end_of_other(&mut self) {
        let counts = self.read();
        self.counted = Some(std::array::from_fn(|at| counts[at] - self.before[at]));
    }
}

impl Meter for SystemCalls {
    fn start() -> Self {
        Self::of(gettid())
    }

    fn begin(&mut self) {
        self.group.enable().expect("counters can be switched on");
    }

    fn end(&mut self) {
        self.group.disable().expect("counters can be switched off");
        let [all, sendto, recvfrom] = self.read();
        // The call that switches them off is the last that they count.
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
