//! Trying whether the kernel takes the XDP program, without attaching it anywhere.
#![forbid(unsafe_code)]

use super::program::Program;

/// Loads the program and unloads it again; with `device`, an interface's index, the one that is bound to it. Nothing runs
/// it in between, and the interface does not notice.
///
/// # Errors
/// What the kernel answered.
pub fn trial_load(device: Option<u32>) -> anyhow::Result<()> {
    Ok(Program::trial(device)?)
}
