//! A server of many clients allocates before their sessions begin, and nothing for what comes and goes in them.

#[path = "support/sim.rs"]
mod sim;

use sim::{at, hear, server_config};
use std::alloc::{GlobalAlloc, Layout, System};
use std::cell::Cell;
use std::net::{Ipv4Addr, SocketAddrV4};
use xdprobe::session::{Direction, Hall, HallConfig, Machine, Settings, Turns, WAITING_ROOM};
use xdprobe::wire::{Kind, Message, Point, ServePath};

thread_local! {
    static ALLOCATIONS: Cell<u64> = const { Cell::new(0) };
}

/// The system's allocator, which counts what each thread asks it for.
struct Counting;

// SAFETY: everything is handed to the system's allocator as it came.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        let _ = ALLOCATIONS.try_with(|count| count.set(count.get() + 1));
        // SAFETY: the caller keeps to alloc's contract, which is the system allocator's.
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, block: *mut u8, layout: Layout) {
        // SAFETY: the block is the system allocator's, as `alloc` has no other.
        unsafe { System.dealloc(block, layout) }
    }
}

#[global_allocator]
static ALLOCATOR: Counting = Counting;

fn peer(n: u16) -> SocketAddrV4 {
    SocketAddrV4::new(Ipv4Addr::new(10, 0, (n >> 8) as u8, n as u8), 1000 + n)
}

fn obey(hall: &mut Hall) -> u32 {
    let mut done = 0;
    while hall.poll_action().is_some() {
        done += 1;
    }
    done
}

#[test]
fn no_session_begins_with_an_allocation_and_no_ping_pong_deadline_or_stranger_needs_one_among_four_thousand() {
    const CLIENTS: u16 = 4096;
    let mut hall = Hall::new(HallConfig { server: server_config(), clients: CLIENTS, path: ServePath::Xdp });
    let before = ALLOCATIONS.get();
    for n in 0..CLIENTS {
        // The last few are pinged too.
        let direction = if n < CLIENTS - 8 { Direction::Forward } else { Direction::Duplex };
        let settings = Settings { direction, count_s: 60, delay_us: 100_000, ..Settings::default() };
        hear(&mut hall, at(0), peer(n), Message { kind: Kind::Syn, sequence: 0 }, Some(settings.to_raw()));
        obey(&mut hall);
    }
    assert_eq!((hall.standing(), ALLOCATIONS.get() - before), (4096, 0));

    let mut turns = Turns::new(hall.room(), WAITING_ROOM, 1);
    let before = ALLOCATIONS.get();
    let (mut pings, mut own) = (0, 0);
    for round in 1..=20 {
        // A second each: the time-outs of 5 s are looked at several times.
        let now = at(1_000_000 * round);
        let ping = |hall: &mut Hall, n| {
            let point = hear(hall, now, peer(n), Message { kind: Kind::Ping, sequence: round }, None);
            hall.take_cost();
            obey(hall);
            matches!(point, Some(Point::T1 | Point::T1cs))
        };
        for n in 0..CLIENTS {
            // A third waits in lines, up to 40 of them.
            hall.begin_turn(n % 3 == 0, turns.lines_waiting());
            if n % 3 == 0 {
                assert!(turns.line_up(hall.line(peer(n), None).unwrap(), n, false));
            } else {
                pings += u64::from(ping(&mut hall, n));
            }
            if n % 120 == 0 || n == CLIENTS - 1 {
                turns.begin();
                while let Some(n) = turns.call() {
                    pings += u64::from(ping(&mut hall, n));
                    turns.charge(hall.take_cost());
                }
            }
            let stranger = SocketAddrV4::new(Ipv4Addr::new(10, 9, 0, 0), 1 + n);
            hear(
                &mut hall,
                now,
                stranger,
                Message { kind: Kind::Syn, sequence: 0 },
                Some(Settings::default().to_raw()),
            );
            obey(&mut hall);
        }
        while hall.deadline().is_some_and(|deadline| deadline <= now) {
            hall.handle_deadline(now);
            own += u64::from(obey(&mut hall));
        }
    }
    assert_eq!(ALLOCATIONS.get() - before, 0);
    assert_eq!((pings, hall.standing()), (20 * 4096, 4096));
    assert!(own >= 8 * 15, "the server pings where it is asked to: {own}");
}
