//! The memory of `xdprobe report` does not grow with the log.

use std::alloc::{GlobalAlloc, Layout, System};
use std::fs::File;
use std::io::{BufWriter, Write};
use std::path::Path;
use std::sync::atomic::{AtomicUsize, Ordering};
use xdprobe::report::{Input, Options, report};

/// The system's allocator, with the most that was allocated at a time.
struct Counting;

static NOW: AtomicUsize = AtomicUsize::new(0);
static MOST: AtomicUsize = AtomicUsize::new(0);

// SAFETY: everything is the system allocator's; counting allocates nothing.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        let now = NOW.fetch_add(layout.size(), Ordering::Relaxed) + layout.size();
        MOST.fetch_max(now, Ordering::Relaxed);
        // SAFETY: the caller keeps to alloc's contract, which is the system allocator's.
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, block: *mut u8, layout: Layout) {
        NOW.fetch_sub(layout.size(), Ordering::Relaxed);
        // SAFETY: the block is the system allocator's, as `alloc` has no other.
        unsafe { System.dealloc(block, layout) }
    }
}

#[global_allocator]
static ALLOCATOR: Counting = Counting;

/// Both sides' logs of so many pings, 10 µs apart, every tenth of which is lost.
fn write(folder: &Path, pings: u64) -> Input {
    let [client, server] = ["client.csv", "server.csv"].map(|name| folder.join(name));
    let mut logs = [&client, &server].map(|path| BufWriter::new(File::create(path).unwrap()));
    for log in &mut logs {
        log.write_all(b"seq,timestamp-idx,timestamp,size\n").unwrap();
    }
    for sequence in 1..=pings {
        let points = if sequence % 10 == 0 { 1 } else { 4 };
        for (point, side) in [(0, 0), (1, 1), (2, 1), (3, 0)].into_iter().take(points) {
            let nanos = sequence * 10_000 + point * (700 + sequence * 7919 % 997);
            let (seconds, nanos) = (100 + nanos / 1_000_000_000, nanos % 1_000_000_000);
            writeln!(logs[side], "{sequence},t{point},{seconds}.{nanos:09},44").unwrap();
        }
    }
    logs.iter_mut().for_each(|log| log.flush().unwrap());
    Input { client, server: Some(server), ..Input::default() }
}

#[test]
fn memory_does_not_grow_with_the_log() {
    let folder = tempfile::tempdir().unwrap();
    // Both are beyond what distributions keep sample by sample.
    let [less, more] = [300_000_u64, 700_000].map(|pings| {
        let input = write(folder.path(), pings);
        let options = Options { window: 1 << 14, ..Options::default() };
        let before = NOW.load(Ordering::Relaxed);
        MOST.store(before, Ordering::Relaxed);
        let found = report(&input, &options).unwrap();
        assert_eq!((found.sent, found.lost), (Some(pings), Some(pings / 10)));
        MOST.load(Ordering::Relaxed) - before
    });
    assert!(more < less + less / 10, "{less} bytes, then {more}");
}
