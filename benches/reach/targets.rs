//! The names of what is measured, and what is to be reached of it.

use crate::contestant::Who;
use crate::figures::{Bound, Calm, Target};

pub const RTT_P50: &str = "t3-t0 at 10 k/s, p50";
pub const RTT_P999: &str = "t3-t0 at 10 k/s, p99.9";
pub const LOSSLESS: &str = "highest ping/pong rate without loss";
pub const ONE_WAY: &str = "one way, pings received a second";
pub const ONE_WAY_SINGLE: &str = "one way, one frame a wake-up";
pub const ONE_WAY_LOST: &str = "one way, pings lost on the way of a million";
pub const ROWS_LOST: &str = "one way, rows that a log lost";
pub const BUSY_P50: &str = "lateness at 100 us, busy, p50";
pub const BUSY_P99: &str = "lateness at 100 us, busy, p99";
/// A log tells no more than how far from a slot a ping left; a program that plans knows from which.
pub const PLANNED_P99: &str = "lateness at 100 us, busy, p99, as the program counts";
pub const UNDISTURBED_P50: &str = "lateness at 100 us, busy, where the core was not taken away, p50";
pub const UNDISTURBED_P99: &str = "lateness at 100 us, busy, where the core was not taken away, p99";
pub const DUE_WHILE_AWAY: &str = "lateness at 100 us, busy, due while the core was away, of a thousand";
pub const AWAY_CLIENT: &str = "core away from the client, of a thousand of the time";
pub const AWAY_SERVER: &str = "core away from the server, of a thousand of the time";
pub const BUSY_LATE: &str = "lateness at 100 us, busy, more than 10 us, of a thousand";
pub const SLEEP_P99: &str = "lateness at 10 ms, sleep, p99";
/// Where the kernel puts both: nanoprobe cannot be told.
pub const CPU: &str = "CPU a ping at 1 k/s, sleep, both sides";
pub const CPU_PINNED: &str = "CPU a ping at 1 k/s, sleep, both sides, each on a CPU of its own";
pub const START: &str = "exec to first SYN on the wire";
pub const MEMORY: &str = "VmHWM, 1 queue";
pub const MEMORY_16: &str = "VmHWM, 16 queues";
pub const WRITER: &str = "log writer, rows a second without loss";

/// A round in which the machine left its CPUs to who was measured: nothing of ours is in it, and what AF_XDP itself takes then is known.
pub const CALM: Calm = Calm { measure: RTT_P999, unit: "us", contestant: Who::Floor.name(), at_most: 100.0 };

/// Whether there is another round: of no more than `most` until `wanted` were calm; 0 for all of them.
pub const fn is_next(rounds: u32, most: u32, calm: usize, wanted: u32) -> bool {
    rounds < most && (wanted == 0 || calm < wanted as usize)
}

/// What is to be reached, in the order of the table.
pub fn targets() -> Vec<Target> {
    use Bound::{AtLeast, AtMost};
    let [floor, xdp, kernel, nanoprobe] = [Who::Floor, Who::Xdp, Who::Kernel, Who::Nanoprobe].map(Who::name);
    let ratio = |measure, contestant, other, bound| {
        let calm = (measure == RTT_P999).then_some(&CALM);
        Target { measure, contestant, against: Some((measure, other)), bound, calm }
    };
    let alone = |measure, bound| Target { measure, contestant: xdp, against: None, bound, calm: None };
    vec![
        ratio(RTT_P50, xdp, floor, AtMost(1.10)),
        ratio(RTT_P50, xdp, nanoprobe, AtMost(0.33)),
        ratio(RTT_P999, xdp, floor, AtMost(1.5)),
        ratio(RTT_P999, xdp, nanoprobe, AtMost(0.03)),
        ratio(LOSSLESS, xdp, nanoprobe, AtLeast(10.0)),
        ratio(LOSSLESS, xdp, floor, AtLeast(0.8)),
        ratio(ONE_WAY, xdp, floor, AtLeast(0.8)),
        alone(ROWS_LOST, AtMost(0.0)),
        alone(BUSY_P50, AtMost(0.1)),
        alone(UNDISTURBED_P99, AtMost(1.0)),
        // Also what took the core is this program's own at times: the thread that writes the log.
        alone(BUSY_P99, AtMost(1.0)),
        alone(SLEEP_P99, AtMost(60.0)),
        ratio(RTT_P50, kernel, nanoprobe, AtMost(1.0)),
        ratio(CPU, xdp, nanoprobe, AtMost(0.5)),
        alone(START, AtMost(150.0)),
        alone(MEMORY, AtMost(64.0)),
        alone(MEMORY_16, AtMost(64.0)),
        alone(WRITER, AtLeast(1e6)),
    ]
}
