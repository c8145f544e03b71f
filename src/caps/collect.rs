//! Asking for everything.
#![forbid(unsafe_code)]

use super::{Answer, Findings, IdleState};
use crate::clock::PhcClock;
use crate::net::privilege::{self, Capability};
use crate::net::{self, NetError, hwtstamp, netdev, tsinfo, tuning};
use crate::path::xdp;
use std::fs;
use std::io::Read;
use std::path::{Path, PathBuf};

/// What the report tells of: [`privilege::XDP_PATH`], and what some need besides.
pub(super) const PRIVILEGES: [Capability; 7] = [
    Capability::NetAdmin,
    Capability::NetRaw,
    Capability::Bpf,
    Capability::Perfmon,
    Capability::IpcLock,
    Capability::NetBindService,
    Capability::SysNice,
];

/// The states of one CPU stand for those of all.
const IDLE_STATES: &str = "/sys/devices/system/cpu/cpu0/cpuidle";
/// Documentation/power/pm_qos_interface.rst: reading it gives a 32-bit integer, and asks for nothing.
const LATENCY_LIMIT: &str = "/dev/cpu_dma_latency";

pub(super) fn collect(name: &str) -> Result<Findings, NetError> {
    let interface = net::interface(name)?;
    let index = interface.index;
    let stamps = tsinfo::tsinfo(index).map_err(|error| error.to_string());
    let phc = stamps.iter().flatten().find_map(|info| info.phc).map(|phc| {
        let answer = PhcClock::open(phc).and_then(|clock| clock.now());
        (PathBuf::from(format!("/dev/ptp{phc}")), answer.map(drop).map_err(|error| error.to_string()))
    });
    let lacking = privilege::missing(&PRIVILEGES);
    Ok(Findings {
        driver: net::driver_facts(&interface.name),
        kernel: nix::sys::utsname::uname()
            .map_or_else(|_| "of unknown release".to_owned(), |kernel| kernel.release().to_string_lossy().into_owned()),
        stamps,
        phc,
        stamping: hwtstamp::read(&interface.name, index),
        xdp: netdev::xdp_features(index).map_err(|error| error.to_string()),
        attached: xdp::attached_program(index).map_err(|errno| errno.to_string()),
        trial_load: xdp::trial_load(None),
        bound_load: xdp::trial_load(Some(index)),
        queues: netdev::rx_queues(index).map_err(|error| error.to_string()),
        idle_states: idle_states(Path::new(IDLE_STATES)),
        latency_limit_us: latency_limit(),
        coalescing: tuning::coalescing(index).map_err(|error| error.to_string()),
        features: tuning::active_features(index).map_err(|error| error.to_string()),
        privileges: PRIVILEGES.map(|capability| (capability, !lacking.contains(&capability))).to_vec(),
        locked_memory_limit: privilege::locked_memory_limit(),
        first_unprivileged_port: privilege::first_unprivileged_port(),
        interface,
    })
}

/// The states in a folder of sysfs's cpuidle, shallowest first; none where the machine has no such folder.
fn idle_states(folder: &Path) -> Vec<IdleState> {
    let read = |number: usize| {
        let text = |file: &str| fs::read_to_string(folder.join(format!("state{number}/{file}"))).ok();
        Some(IdleState {
            name: text("name")?.trim().to_owned(),
            latency_us: text("latency")?.trim().parse().ok()?,
            is_disabled: text("disable").is_some_and(|disabled| disabled.trim() != "0"),
        })
    };
    (0..).map_while(read).collect()
}

fn latency_limit() -> Answer<i32> {
    let mut bytes = [0; 4];
    let read = fs::File::open(LATENCY_LIMIT).and_then(|mut file| file.read_exact(&mut bytes));
    read.map(|()| i32::from_ne_bytes(bytes)).map_err(|answer| format!("{LATENCY_LIMIT}: {answer}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn idle_states_are_read_until_there_are_no_more() {
        let folder = tempfile::tempdir().unwrap();
        for (number, name, latency, disable) in [(0, "POLL\n", "0\n", "0\n"), (1, "C6\n", "133\n", "1\n")] {
            let state = folder.path().join(format!("state{number}"));
            fs::create_dir(&state).unwrap();
            for (file, text) in [("name", name), ("latency", latency), ("disable", disable)] {
                fs::write(state.join(file), text).unwrap();
            }
        }
        let state = |name: &str, latency_us, is_disabled| IdleState { name: name.to_owned(), latency_us, is_disabled };
        assert_eq!(idle_states(folder.path()), [state("POLL", 0, false), state("C6", 133, true)]);
        assert_eq!(idle_states(&folder.path().join("none")), []);
    }
}
