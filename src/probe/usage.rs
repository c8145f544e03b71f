//! What a session costs that no machine knows: CPU time, and what was dropped before the process saw it.

use crate::path::Path;
use nix::sys::resource::{UsageWho, getrusage};
use nix::sys::time::{TimeVal, TimeValLike};

/// What a session costs and no machine knows.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Usage {
    /// CPU time of all threads, in ns.
    pub(crate) cpu_ns: Option<u64>,
    /// Datagrams that reached the machine and not the process.
    pub(crate) dropped: Option<u64>,
}

impl Usage {
    /// Since the process began. Makes system calls.
    pub(crate) fn now<P: Path>(path: &P) -> Self {
        let nanos = |time: TimeVal| time.num_nanoseconds().max(0) as u64;
        let counters = path.counters();
        let of_rings = counters.xdp.map_or(0, |xdp| xdp.rx_dropped + xdp.rx_ring_full);
        let cpu = getrusage(UsageWho::RUSAGE_SELF).ok();
        Self {
            cpu_ns: cpu.map(|usage| nanos(usage.user_time()) + nanos(usage.system_time())),
            // A frame without a place in the fill ring is counted among those dropped for other reasons too.
            dropped: Some(of_rings + counters.socket_dropped),
        }
    }

    pub(crate) fn since(self, before: &Self) -> Self {
        let difference = |now: Option<u64>, before: Option<u64>| Some(now?.saturating_sub(before?));
        Self { cpu_ns: difference(self.cpu_ns, before.cpu_ns), dropped: difference(self.dropped, before.dropped) }
    }
}
