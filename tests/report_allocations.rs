//! `xdprobe report` allocates nothing for a row.
//!
//! What is allocated is for the logs, the quantities and their distributions, which grow to a bound: beyond it a report of four times
//! the rows asks for memory as often. Both sessions take as long, as the number of pieces of time that a report keeps goes with the
//! time and not with the rows.

use std::alloc::{GlobalAlloc, Layout, System};
use std::fs::File;
use std::io::{BufWriter, Write};
use std::path::Path;
use std::sync::atomic::{AtomicU64, Ordering};
use xdprobe::report::{Clocks, Input, Options, report};

/// The system's allocator, which counts what it is asked for, by whatever thread.
struct Counting;

static CALLS: AtomicU64 = AtomicU64::new(0);

// SAFETY: everything is handed to the system's allocator as it came; counting allocates nothing.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        CALLS.fetch_add(1, Ordering::Relaxed);
        // SAFETY: the caller's promises are those of this call.
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, block: *mut u8, layout: Layout) {
        // SAFETY: as above.
        unsafe { System.dealloc(block, layout) }
    }

    unsafe fn realloc(&self, block: *mut u8, layout: Layout, size: usize) -> *mut u8 {
        CALLS.fetch_add(1, Ordering::Relaxed);
        // SAFETY: as above.
        unsafe { System.realloc(block, layout, size) }
    }

    unsafe fn alloc_zeroed(&self, layout: Layout) -> *mut u8 {
        CALLS.fetch_add(1, Ordering::Relaxed);
        // SAFETY: as above.
        unsafe { System.alloc_zeroed(layout) }
    }
}

#[global_allocator]
static ALLOCATOR: Counting = Counting;

/// Rows that cannot be read.
const DAMAGED: u64 = 100;
/// What a session takes, in ns: 16 pieces of time, each of which has more samples than it keeps one by one.
const SESSION: u64 = 16_000_000;

/// Both sides' logs of so many pings: every tenth is lost, every hundredth pong comes twice, and some rows of the server's are
/// damaged.
fn write(folder: &Path, pings: u64) -> Input {
    let [client, server] = ["client.csv", "server.csv"].map(|name| folder.join(name));
    let mut logs = [&client, &server].map(|path| BufWriter::new(File::create(path).unwrap()));
    for log in &mut logs {
        log.write_all(b"seq,timestamp-idx,timestamp,size\n").unwrap();
    }
    for sequence in 1..=pings {
        let points = if sequence % 10 == 0 { 1 } else { 4 };
        let repeated = if sequence % 100 == 1 { Some((3, 0)) } else { None };
        for (point, side) in [(0, 0), (1, 1), (2, 1), (3, 0)].into_iter().take(points).chain(repeated) {
            let nanos = sequence * (SESSION / pings) + point * (1 + sequence * 7919 % 7);
            let (seconds, nanos) = (100 + nanos / 1_000_000_000, nanos % 1_000_000_000);
            writeln!(logs[side], "{sequence},t{point},{seconds}.{nanos:09},44").unwrap();
        }
        if sequence % (pings / DAMAGED) == 1 {
            writeln!(logs[1], "{sequence},t1,1x0").unwrap();
        }
    }
    logs.iter_mut().for_each(|log| log.flush().unwrap());
    Input { client, server: Some(server), ..Input::default() }
}

/// How often a report of so many pings asks for memory.
fn calls(pings: u64, clocks: Clocks, joined: bool) -> u64 {
    let folder = tempfile::tempdir().unwrap();
    let input = write(folder.path(), pings);
    let csv = joined.then(|| folder.path().join("joined.csv"));
    let options = Options { window: 1 << 12, clocks, csv, ..Options::default() };
    let before = CALLS.load(Ordering::Relaxed);
    let found = report(&input, &options).unwrap();
    let calls = CALLS.load(Ordering::Relaxed) - before;
    assert_eq!((found.sent, found.lost, found.damaged_rows()), (Some(pings), Some(pings / 10), DAMAGED));
    assert!(calls > 0, "the counter counts");
    calls
}

#[test]
fn four_times_the_rows_take_no_more_allocations() {
    const PINGS: u64 = 100_000;
    for (clocks, joined) in [(Clocks::Estimate, true), (Clocks::Synchronised, false)] {
        let [less, more] = [PINGS, 4 * PINGS].map(|pings| calls(pings, clocks, joined));
        assert!(less.abs_diff(more) < 100, "{clocks:?}: {less}, then {more}");
    }
}
